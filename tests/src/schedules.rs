//! Schedules in a store, and time that passes for them.

use std::time::Duration;

use holdpoint_db::{
    PutSchedule, ScheduleDocument, ScheduleKey, SchedulePut, ScheduleRow, Store, Ticked, TimingDocument,
};
use holdpoint_engine::ids::ScheduleId;
use holdpoint_engine::schedule::CatchUp;
use holdpoint_engine::status::{DefinitionKind, Overlap};
use holdpoint_engine::time::Span;
use holdpoint_engine::wire::ExecutionKey;
use uuid::Uuid;

use crate::store_builders::{Bed, scope};

/// Between the ticks of [`hourly`].
pub const HOUR: Duration = Duration::from_secs(3_600);

/// So that a tick that was moved into the past is not the same moment as the one before it.
pub const APART: Duration = Duration::from_micros(1);

/// The built-in workflow, each hour from now on.
pub fn hourly(overlap: Overlap) -> ScheduleDocument {
    timed(TimingDocument::Every(Span(HOUR)), overlap)
}

/// The built-in workflow at other times.
pub fn timed(timing: TimingDocument, overlap: Overlap) -> ScheduleDocument {
    ScheduleDocument {
        kind: DefinitionKind::Workflow,
        target: "holdpoint.noop".to_owned(),
        version: None,
        input: Some("{\"n\": 1}".to_owned()),
        timing,
        overlap,
        catch_up: CatchUp::default(),
        metadata: "{\"from\": \"schedule\"}".to_owned(),
        labels: [("team".to_owned(), "night".to_owned())].into(),
    }
}

/// A put under this name.
pub fn put_of(name: &str, document: ScheduleDocument) -> PutSchedule {
    let id = ScheduleId(Uuid::now_v7());
    PutSchedule { id, name: name.to_owned(), document, paused: None, by: "key_test".to_owned() }
}

/// Where a schedule of the tests' scope is.
pub fn schedule_key(name: &str) -> ScheduleKey {
    ScheduleKey { scope: scope(), name: name.to_owned() }
}

/// Puts it: as it stands then.
pub fn put(store: &dyn Store, name: &str, document: ScheduleDocument) -> ScheduleRow {
    match store.schedule_put(&scope(), &put_of(name, document)).expect("a put") {
        SchedulePut::New(row) | SchedulePut::Changed(row) => *row,
        SchedulePut::Full => panic!("there is room"),
    }
}

/// As it stands.
pub fn schedule(store: &dyn Store, name: &str) -> ScheduleRow {
    store.schedule_get(&scope(), name).expect("a read").expect("it is there")
}

/// One pass over it.
pub fn tick(store: &dyn Store, name: &str) -> Ticked {
    store.schedule_tick(&schedule_key(name)).expect("a pass")
}

/// One pass over it, which must start something.
#[track_caller]
pub fn tick_starts(store: &dyn Store, name: &str) -> ExecutionKey {
    match tick(store, name) {
        Ticked::Done { started: Some(key), .. } => key,
        other => panic!("nothing was started: {other:?}"),
    }
}

/// Time passes for all schedules: they are moved into the past.
pub fn pass_time(bed: &Bed, time: Duration) {
    let columns = ["anchor", "due_at", "next_tick", "waiting_tick", "last_tick"];
    let moved: Vec<String> = columns
        .iter()
        .map(|column| format!("{column} = {column} - {}", (time + APART).as_micros()))
        .collect();
    bed.execute(&format!("UPDATE schedules SET {}", moved.join(", ")));
}

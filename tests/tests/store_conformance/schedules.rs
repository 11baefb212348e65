//! Schedules: their ticks, what overlaps, what is missed, and who they wait for.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::schedule::{CatchUp, tick_id};
use holdpoint_engine::status::{DefinitionKind, Overlap, Reason, RunType, SkippedFor, Status, WorkflowState};
use holdpoint_engine::time::Span;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::schedules::*;
use holdpoint_tests::store_builders::*;
use serde_json::json;

use super::kit::*;

on_both_stores! {
    a_tick_starts_one_execution;
    a_tick_is_skipped_while_the_run_before_is_active;
    one_tick_waits_and_further_ones_fall_in_with_it;
    the_old_run_is_cancelled_for_the_new_one;
    a_run_that_a_worker_holds_ends_before_the_next_starts;
    what_is_too_late_is_missed;
    late_ticks_within_the_bounds_are_made_up_for;
    a_pause_makes_up_for_nothing;
    a_put_keeps_the_next_tick_unless_the_timing_is_another;
    a_definition_that_is_gone_is_passed_over;
    after_a_run_s_end_the_next_is_so_much_later;
    an_end_that_nobody_noted_is_seen_all_the_same;
    a_workflow_s_own_schedule_comes_and_goes_with_it;
    a_workflow_that_is_held_is_not_started;
    a_final_failure_stops_the_schedule_until_somebody_resumes;
    a_repeat_counts_as_the_run_that_it_repeats;
    a_workflow_of_one_run_at_a_time_coalesces_ticks;
    an_agent_s_run_has_a_conversation_of_its_own;
    schedules_are_listed_by_name_in_their_scope;
    a_project_has_a_thousand_schedules_at_most;
}

fn put_hourly(bed: &Bed, overlap: Overlap) -> ScheduleRow {
    put(bed.store.as_ref(), "nightly", hourly(overlap))
}

fn row(bed: &Bed) -> ScheduleRow {
    schedule(bed.store.as_ref(), "nightly")
}

/// An hour passes, and a pass looks.
fn hour_and_tick(bed: &Bed) -> Ticked {
    pass_time(bed, HOUR);
    tick(bed.store.as_ref(), "nightly")
}

fn starts(bed: &Bed) -> ExecutionKey {
    pass_time(bed, HOUR);
    tick_starts(bed.store.as_ref(), "nightly")
}

#[track_caller]
fn starts_nothing(ticked: Ticked) {
    assert!(matches!(ticked, Ticked::Done { started: None, .. }), "{ticked:?}");
}

fn complete(bed: &Bed, key: &ExecutionKey) {
    let mut held = take(bed, key);
    let end = held.complete();
    assert_eq!(commit(bed, end), FREED);
}

fn a_tick_starts_one_execution(bed: &Bed) {
    let made = put_hourly(bed, Overlap::Skip);
    let store = bed.store.as_ref();
    assert!(store.schedules_due(10).unwrap().is_empty());
    assert!(matches!(tick(store, "nightly"), Ticked::Nothing), "an hour has not passed");
    assert_eq!(made.next_tick, Some(made.anchor.plus(HOUR)));
    pass_time(bed, HOUR);
    let due = row(bed).next_tick.unwrap();
    assert_eq!(store.schedules_due(10).unwrap(), [schedule_key("nightly")]);
    let key = tick_starts(store, "nightly");
    assert_eq!(key.id, tick_id(made.id, due));
    assert!(matches!(tick(store, "nightly"), Ticked::Nothing));
    assert!(store.schedules_due(10).unwrap().is_empty());
    let started = get(bed, &key);
    assert_eq!(
        (started.status, started.run_type, started.name.as_str()),
        (Status::Queued, RunType::Production, "holdpoint.noop")
    );
    assert_eq!(started.input.as_deref(), Some("{\"n\": 1}"));
    assert_eq!(started.metadata, "{\"from\": \"schedule\"}");
    assert_eq!(started.labels.get("team").map(String::as_str), Some("night"));
    let after = row(bed);
    assert_eq!(
        (after.last, after.active, after.runs, after.missed, after.skipped),
        (Some((due, key.id)), Some(key.id), 1, 0, 0)
    );
    assert_eq!(after.next_tick, Some(due.plus(HOUR)));
    complete(bed, &key);
    assert_eq!(row(bed).active, None, "its end is noted");
}

fn a_tick_is_skipped_while_the_run_before_is_active(bed: &Bed) {
    put_hourly(bed, Overlap::Skip);
    let first = starts(bed);
    starts_nothing(hour_and_tick(bed));
    let skipped = row(bed);
    assert_eq!((skipped.runs, skipped.skipped), (1, 1));
    assert_eq!(skipped.last_skipped.unwrap().1, SkippedFor::Active);
    complete(bed, &first);
    assert!(matches!(tick(bed.store.as_ref(), "nightly"), Ticked::Nothing), "what was skipped stays so");
    assert_ne!(starts(bed), first);
}

fn one_tick_waits_and_further_ones_fall_in_with_it(bed: &Bed) {
    put_hourly(bed, Overlap::Queue);
    let first = starts(bed);
    starts_nothing(hour_and_tick(bed));
    let waiting = row(bed).waiting_tick;
    assert!(waiting.is_some() && row(bed).skipped == 0);
    starts_nothing(hour_and_tick(bed));
    let fell_in = row(bed);
    assert_eq!((fell_in.skipped, fell_in.last_skipped.unwrap().1), (1, SkippedFor::Waiting));
    assert_eq!(fell_in.waiting_tick.unwrap().plus(HOUR + APART), waiting.unwrap(), "the first one waits");
    complete(bed, &first);
    let second = tick_starts(bed.store.as_ref(), "nightly");
    let after = row(bed);
    assert_eq!((after.active, after.waiting_tick, after.runs), (Some(second.id), None, 2));
    assert!(matches!(tick(bed.store.as_ref(), "nightly"), Ticked::Nothing));
}

fn the_old_run_is_cancelled_for_the_new_one(bed: &Bed) {
    put_hourly(bed, Overlap::Cancel);
    let first = starts(bed);
    pass_time(bed, HOUR);
    let Ticked::Done { started: Some(second), cancelled: Some((old, acted)), .. } =
        tick(bed.store.as_ref(), "nightly")
    else {
        panic!("one is cancelled, one started")
    };
    assert_eq!((old, acted.status), (first.clone(), Status::Cancelled));
    assert_eq!(get(bed, &first).status, Status::Cancelled);
    assert_eq!(last_kind(bed, &first), "execution.cancelled");
    let after = row(bed);
    assert_eq!((after.active, after.runs, after.waiting_tick), (Some(second.id), 2, None));
}

fn a_run_that_a_worker_holds_ends_before_the_next_starts(bed: &Bed) {
    put_hourly(bed, Overlap::Cancel);
    let first = starts(bed);
    let mut held = take(bed, &first);
    pass_time(bed, HOUR);
    let Ticked::Done { started: None, cancelled: Some((_, acted)), .. } = tick(bed.store.as_ref(), "nightly")
    else {
        panic!("its holder is told")
    };
    assert_eq!(acted.tell, Tell::Holder(held.session));
    let waiting = row(bed).waiting_tick;
    assert!(waiting.is_some());
    // Another hour: the newest tick is the one that waits.
    starts_nothing(hour_and_tick(bed));
    assert_eq!(row(bed).waiting_tick.unwrap().plus(APART), waiting.unwrap());
    assert_eq!(row(bed).last_skipped.unwrap().1, SkippedFor::Waiting);
    let end = held.complete();
    assert!(matches!(commit(bed, end), Committed::Done { released: true, .. }));
    tick_starts(bed.store.as_ref(), "nightly");
}

fn what_is_too_late_is_missed(bed: &Bed) {
    put_hourly(bed, Overlap::Skip);
    pass_time(bed, HOUR * 5 + Duration::from_secs(600));
    starts_nothing(tick(bed.store.as_ref(), "nightly"));
    let after = row(bed);
    assert_eq!((after.runs, after.missed, after.skipped), (0, 5, 0));
    assert_eq!(after.next_tick, Some(after.anchor.plus(HOUR * 6)), "the ticks stay where they are");
    assert!(matches!(tick(bed.store.as_ref(), "nightly"), Ticked::Nothing));
}

fn late_ticks_within_the_bounds_are_made_up_for(bed: &Bed) {
    let catch_up = CatchUp { window: Span(HOUR * 24), limit: 2 };
    put(bed.store.as_ref(), "nightly", ScheduleDocument { catch_up, ..hourly(Overlap::Skip) });
    pass_time(bed, HOUR * 5 + Duration::from_secs(600));
    let Ticked::Done { started: Some(first), is_due_again: true, .. } = tick(bed.store.as_ref(), "nightly")
    else {
        panic!("two are made up for")
    };
    assert_eq!(row(bed).missed, 3);
    complete(bed, &first);
    let Ticked::Done { started: Some(second), is_due_again: false, .. } = tick(bed.store.as_ref(), "nightly")
    else {
        panic!("the second of them")
    };
    let after = row(bed);
    assert_eq!(after.last, Some((after.anchor.plus(HOUR * 5), second.id)));
    assert_eq!((after.runs, after.missed, after.next_tick), (2, 3, Some(after.anchor.plus(HOUR * 6))));
}

fn a_pause_makes_up_for_nothing(bed: &Bed) {
    put_hourly(bed, Overlap::Queue);
    let store = bed.store.as_ref();
    let first = starts(bed);
    starts_nothing(hour_and_tick(bed));
    assert!(row(bed).waiting_tick.is_some());
    let paused =
        store.schedule_change(&scope(), "nightly", ScheduleChange::Pause, "key_admin").unwrap().unwrap();
    assert!(paused.paused_at.is_some());
    assert_eq!((paused.next_tick, paused.due_at, paused.waiting_tick), (None, None, None));
    complete(bed, &first);
    pass_time(bed, HOUR * 24);
    assert!(store.schedules_due(10).unwrap().is_empty());
    assert!(matches!(tick(store, "nightly"), Ticked::Nothing));
    let again =
        store.schedule_change(&scope(), "nightly", ScheduleChange::Pause, "key_admin").unwrap().unwrap();
    assert_eq!(again.paused_at, paused.paused_at, "paused twice is paused once");
    let now = store.now().unwrap();
    let resumed =
        store.schedule_change(&scope(), "nightly", ScheduleChange::Resume, "key_admin").unwrap().unwrap();
    assert!(resumed.next_tick.unwrap() > now.plus(HOUR - Duration::from_secs(1)));
    assert!(matches!(tick(store, "nightly"), Ticked::Nothing));
    assert_eq!((resumed.paused_at, resumed.runs, resumed.missed), (None, 1, 0));
    starts(bed);
    assert_eq!(
        store
            .schedule_change(&scope(), "other", ScheduleChange::Pause, "key_admin")
            .unwrap()
            .map(|row| row.id),
        None
    );
}

fn a_put_keeps_the_next_tick_unless_the_timing_is_another(bed: &Bed) {
    let first = put_hourly(bed, Overlap::Skip);
    let store = bed.store.as_ref();
    pass_time(bed, HOUR / 2);
    let before = row(bed);
    let changed = ScheduleDocument { version: Some(1), ..hourly(Overlap::Queue) };
    let SchedulePut::Changed(same) =
        store.schedule_put(&scope(), &put_of("nightly", changed.clone())).unwrap()
    else {
        panic!("it was there")
    };
    assert_eq!((same.id, same.next_tick, same.anchor), (first.id, before.next_tick, before.anchor));
    assert_eq!(same.document, changed);
    let other = put(store, "nightly", timed(TimingDocument::Every(Span(HOUR * 2)), Overlap::Queue));
    assert_eq!(other.id, first.id);
    assert_eq!(other.next_tick, Some(other.anchor.plus(HOUR * 2)));
    assert!(other.anchor > before.anchor);
    let pausing = PutSchedule { paused: Some(true), ..put_of("nightly", changed) };
    let SchedulePut::Changed(paused) = store.schedule_put(&scope(), &pausing).unwrap() else {
        panic!("there")
    };
    assert!(paused.paused_at.is_some() && paused.next_tick.is_none());
    assert!(put_hourly(bed, Overlap::Skip).paused_at.is_some(), "left out, it goes on pausing");
    assert_eq!(store.schedule_delete(&scope(), "nightly", "key_admin").unwrap(), ScheduleRemoved::Done);
    assert_eq!(store.schedule_delete(&scope(), "nightly", "key_admin").unwrap(), ScheduleRemoved::Missing);
    let anew = put_hourly(bed, Overlap::Skip);
    assert!(anew.id != first.id && anew.paused_at.is_none());
}

fn a_definition_that_is_gone_is_passed_over(bed: &Bed) {
    let document = ScheduleDocument { target: "gone".to_owned(), ..hourly(Overlap::Skip) };
    put(bed.store.as_ref(), "nightly", document);
    starts_nothing(hour_and_tick(bed));
    let after = row(bed);
    assert_eq!((after.runs, after.skipped, after.active), (0, 1, None));
    assert_eq!(after.last_skipped.unwrap().1, SkippedFor::UnknownDefinition);
    assert!(matches!(tick(bed.store.as_ref(), "nightly"), Ticked::Nothing), "it goes on to the next tick");
}

fn after_a_run_s_end_the_next_is_so_much_later(bed: &Bed) {
    let store = bed.store.as_ref();
    put(store, "nightly", timed(TimingDocument::After(Span(HOUR)), Overlap::Skip));
    let first = starts(bed);
    assert_eq!(row(bed).next_tick, None);
    // However long it takes, nothing else begins.
    starts_nothing(hour_and_tick(bed));
    assert_eq!((row(bed).runs, row(bed).skipped), (1, 0));
    let now = store.now().unwrap();
    complete(bed, &first);
    let next = row(bed).next_tick.unwrap();
    assert!(next >= now.plus(HOUR) && next <= store.now().unwrap().plus(HOUR));
    assert_eq!(row(bed).due_at, Some(next));
    assert!(matches!(tick(store, "nightly"), Ticked::Nothing));
    pass_time(bed, HOUR * 30);
    tick_starts(store, "nightly");
    assert_eq!(row(bed).missed, 0, "it is never too late");
}

fn an_end_that_nobody_noted_is_seen_all_the_same(bed: &Bed) {
    for timing in [TimingDocument::Every(Span(HOUR)), TimingDocument::After(Span(HOUR))] {
        let waits = matches!(timing, TimingDocument::After(_));
        put(bed.store.as_ref(), "nightly", timed(timing, Overlap::Skip));
        let first = starts(bed);
        let id = sql_id(bed, &first);
        bed.execute(&format!("UPDATE executions SET status = 'completed', ready_at = NULL WHERE id = {id}"));
        assert_eq!(row(bed).active, Some(first.id));
        if waits {
            starts_nothing(hour_and_tick(bed));
            assert!(row(bed).active.is_none() && row(bed).next_tick.is_some());
        }
        assert_ne!(starts(bed), first);
        bed.store.schedule_delete(&scope(), "nightly", "key_admin").unwrap();
    }
}

/// Registers a version with this schedule and these settings.
fn scheduled(bed: &Bed, schedule: serde_json::Value, settings: serde_json::Value) {
    let document = json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": "ship", "version": "1.0.0",
          "metadata": {"holdpoint": settings}},
        "schedule": schedule,
        "do": [{"nothing": {"set": {"a": 1}}}],
    });
    let mut document = document;
    if schedule.is_null() {
        document.as_object_mut().unwrap().remove("schedule");
    }
    let (kind, text) = (DefinitionKind::Workflow, document.to_string());
    let read = holdpoint_engine::workflow::document::Workflow::load(&text, 1).expect("a good document");
    assert_eq!(read.schedule.is_some(), !schedule.is_null());
    bed.store.definition_put(&scope(), kind, "ship", &text, "key_test").unwrap();
}

fn a_workflow_s_own_schedule_comes_and_goes_with_it(bed: &Bed) {
    let store = bed.store.as_ref();
    let name = "workflow:ship";
    let settings = json!({"overlap": "queue", "catch_up": {"window": "10m", "limit": 3}});
    scheduled(bed, json!({"every": {"hours": 1}}), settings.clone());
    let first = schedule(store, name);
    assert_eq!((first.owner, first.document.target.as_str()), (Some(1), "ship"));
    assert_eq!((first.document.overlap, first.document.catch_up.limit), (Overlap::Queue, 3));
    assert_eq!(store.schedule_delete(&scope(), name, "key_admin").unwrap(), ScheduleRemoved::Owned);
    pass_time(bed, HOUR);
    let run = tick_starts(store, name);
    assert_eq!(get(bed, &run).name, "ship");
    let next = schedule(store, name).next_tick;
    scheduled(bed, json!({"every": {"hours": 1}}), json!({}));
    let second = schedule(store, name);
    assert_eq!((second.owner, second.id, second.runs), (Some(2), first.id, 1));
    assert_eq!((second.document.overlap, second.next_tick), (Overlap::Skip, next));
    scheduled(bed, json!({"cron": "30 2 * * *"}), json!({"time_zone": "Europe/Berlin"}));
    let timing = schedule(store, name).document.timing;
    let (expression, time_zone) = ("30 2 * * *".to_owned(), "Europe/Berlin".to_owned());
    assert_eq!(timing, TimingDocument::Cron { expression, time_zone });
    scheduled(bed, json!(null), json!({}));
    assert!(store.schedule_get(&scope(), name).unwrap().is_none());
    scheduled(bed, json!({"after": {"hours": 1}}), json!({}));
    assert_ne!(schedule(store, name).id, first.id);
    assert!(store.definition_delete(&scope(), DefinitionKind::Workflow, "ship", "key_admin").unwrap());
    assert!(store.schedule_get(&scope(), name).unwrap().is_none(), "it goes with the name");
}

fn a_workflow_that_is_held_is_not_started(bed: &Bed) {
    let store = bed.store.as_ref();
    workflow(store, "ship", json!({}));
    let document = ScheduleDocument { target: "ship".to_owned(), ..hourly(Overlap::Cancel) };
    put(store, "nightly", document);
    let first = starts(bed);
    for (n, state) in
        [(1, WorkflowState::Paused), (2, WorkflowState::Maintenance), (3, WorkflowState::Archived)]
    {
        store.workflow_state(&scope(), "ship", state, "key_a").unwrap();
        starts_nothing(hour_and_tick(bed));
        let now = row(bed);
        assert_eq!((now.skipped, now.last_skipped.unwrap().1), (n, SkippedFor::Workflow), "{state:?}");
        assert_eq!((now.runs, now.active), (1, Some(first.id)), "nothing is cancelled for it either");
    }
    store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap();
    assert!(matches!(tick(store, "nightly"), Ticked::Nothing), "what was skipped stays so");
    starts(bed);
}

fn a_final_failure_stops_the_schedule_until_somebody_resumes(bed: &Bed) {
    let store = bed.store.as_ref();
    workflow(store, "ship", json!({}));
    put(store, "nightly", ScheduleDocument { target: "ship".to_owned(), ..hourly(Overlap::Queue) });
    let first = starts(bed);
    // One that waits does not begin either.
    starts_nothing(hour_and_tick(bed));
    let failure = take(bed, &first).fail(Reason::Auth);
    assert_eq!(commit(bed, failure), FREED);
    starts_nothing(tick(store, "nightly"));
    starts_nothing(hour_and_tick(bed));
    let stopped = row(bed);
    assert_eq!((stopped.runs, stopped.skipped, stopped.waiting_tick), (1, 2, None));
    assert_eq!(stopped.last_skipped.unwrap().1, SkippedFor::Workflow);
    store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap();
    starts(bed);
}

fn a_repeat_counts_as_the_run_that_it_repeats(bed: &Bed) {
    let store = bed.store.as_ref();
    workflow(store, "ship", json!({"retries": 1}));
    for timing in [TimingDocument::Every(Span(HOUR)), TimingDocument::After(Span(HOUR))] {
        let follows = matches!(timing, TimingDocument::After(_));
        let document = timed(timing, Overlap::Skip);
        put(store, "nightly", ScheduleDocument { target: "ship".to_owned(), ..document });
        let first = starts(bed);
        let failure = take(bed, &first).fail(Reason::Network);
        assert_eq!(commit(bed, failure), FREED);
        let repeat = row(bed).active.expect("the repeat is active");
        assert_ne!(repeat, first.id);
        assert_eq!(row(bed).next_tick.is_none(), follows, "what follows a run waits for the repeat's end");
        starts_nothing(hour_and_tick(bed));
        assert_eq!(row(bed).skipped, i64::from(!follows));
        let repeat = ExecutionKey { id: repeat, ..first };
        let id = sql_id(bed, &repeat);
        bed.execute(&format!("UPDATE executions SET ready_at = 1 WHERE id = {id}"));
        complete(bed, &repeat);
        assert_eq!(row(bed).active, None);
        starts(bed);
        assert_eq!(row(bed).runs, 2);
        store.schedule_delete(&scope(), "nightly", "key_admin").unwrap();
    }
}

fn a_workflow_of_one_run_at_a_time_coalesces_ticks(bed: &Bed) {
    let store = bed.store.as_ref();
    workflow(store, "ship", json!({"concurrency": 1}));
    let queued = create(store, run_of("ship"));
    put(store, "nightly", ScheduleDocument { target: "ship".to_owned(), ..hourly(Overlap::Skip) });
    starts_nothing(hour_and_tick(bed));
    assert_eq!(row(bed).last_skipped.unwrap().1, SkippedFor::Waiting);
    complete(bed, &queued);
    starts(bed);
}

fn an_agent_s_run_has_a_conversation_of_its_own(bed: &Bed) {
    let agent = r#"{"model":{"base_url":"http://127.0.0.1:1/v1","name":"m"},"instructions":"x"}"#;
    bed.store.definition_put(&scope(), DefinitionKind::Agent, "clerk", agent, "key_test").unwrap();
    let document =
        ScheduleDocument { kind: DefinitionKind::Agent, target: "clerk".to_owned(), ..hourly(Overlap::Skip) };
    put(bed.store.as_ref(), "nightly", document);
    let key = starts(bed);
    let started = get(bed, &key);
    assert_eq!(started.conversation_id, Some(key.id.to_string().replace("exe_", "cnv_")));
}

fn schedules_are_listed_by_name_in_their_scope(bed: &Bed) {
    let store = bed.store.as_ref();
    for name in ["b", "c", "a"] {
        put(store, name, hourly(Overlap::Skip));
    }
    let names = |after: Option<&str>, limit: usize| {
        let rows = store.schedule_list(&scope(), after, limit).unwrap();
        rows.into_iter().map(|row| row.key.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 2), ["a", "b"]);
    assert_eq!(names(Some("b"), 2), ["c"]);
    assert!(store.schedule_list(&stranger(), None, 10).unwrap().is_empty());
    assert!(store.schedule_get(&stranger(), "a").unwrap().is_none());
    assert!(store.schedule_change(&stranger(), "a", ScheduleChange::Pause, "key_admin").unwrap().is_none());
    assert_eq!(store.schedule_delete(&stranger(), "a", "key_admin").unwrap(), ScheduleRemoved::Missing);
    assert!(schedule(store, "a").paused_at.is_none());
    let theirs = ScheduleKey { scope: stranger(), name: "a".to_owned() };
    pass_time(bed, HOUR);
    assert!(matches!(store.schedule_tick(&theirs).unwrap(), Ticked::Nothing));
}

fn a_project_has_a_thousand_schedules_at_most(bed: &Bed) {
    let store = bed.store.as_ref();
    put(store, "first", hourly(Overlap::Skip));
    bed.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999)
         INSERT INTO schedules (tenant, project, name, id, document, anchor, created_by, created_at, updated_at)
         SELECT s.tenant, s.project, 'of-' || n.i, s.id, s.document, s.anchor, s.created_by, s.created_at,
           s.updated_at FROM schedules s, n WHERE s.name = 'first'",
    );
    let one_more = put_of("one-more", hourly(Overlap::Skip));
    assert!(matches!(store.schedule_put(&scope(), &one_more).unwrap(), SchedulePut::Full));
    let again = put_of("first", hourly(Overlap::Queue));
    assert!(matches!(store.schedule_put(&scope(), &again).unwrap(), SchedulePut::Changed(_)));
    assert!(matches!(store.schedule_put(&stranger(), &one_more).unwrap(), SchedulePut::New(_)));
}

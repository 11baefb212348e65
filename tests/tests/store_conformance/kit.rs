//! What the suite says often.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::entry::{Entry, Line, ToolCalled};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::poll::{SOON, until_blocking};
use holdpoint_tests::store_builders::*;

/// A commit that kept the lease.
pub const KEPT: Committed = Committed::Done { wake: 0, released: false };
/// A commit that gave it back.
pub const FREED: Committed = Committed::Done { wake: 0, released: true };

/// Somebody else.
pub fn stranger() -> Scope {
    Scope::new("globex", "shop")
}

/// Commits one transition.
pub fn commit(bed: &Bed, transition: Transition) -> Committed {
    bed.store.execution_commit(&[transition]).unwrap().pop().unwrap()
}

/// The row.
pub fn get(bed: &Bed, key: &ExecutionKey) -> ExecutionRow {
    bed.store.execution_get(&key.scope, key.id).unwrap().unwrap()
}

/// The journal; its numbers have no gap, and the row knows the last of them.
pub fn lines(bed: &Bed, key: &ExecutionKey) -> Vec<Line> {
    let lines = bed.store.journal_read(&key.scope, key.id).unwrap().unwrap();
    let seqs: Vec<i64> = lines.iter().map(|line| line.seq).collect();
    assert_eq!(seqs, (1..=lines.len() as i64).collect::<Vec<_>>());
    let events: Vec<i64> = lines.iter().filter_map(|line| line.event).collect();
    assert_eq!(events, (1..=events.len() as i64).collect::<Vec<_>>());
    let page = bed.store.events_read(&[EventsRequest { key: key.clone(), after: 0, limit: 1_000 }]).unwrap();
    assert_eq!(page[0].head.as_ref().unwrap().last_event, events.len() as i64);
    assert_eq!(page[0].lines.len(), events.len());
    lines
}

/// The kinds of the journal's lines.
pub fn kinds(bed: &Bed, key: &ExecutionKey) -> Vec<String> {
    lines(bed, key).into_iter().map(|line| line.kind).collect()
}

/// The kind of the last line.
pub fn last_kind(bed: &Bed, key: &ExecutionKey) -> String {
    kinds(bed, key).pop().unwrap_or_default()
}

/// A decision without anything special.
pub fn decision(key: &ExecutionKey, call: &str, approved: bool) -> DecideRequest {
    DecideRequest {
        execution: key.id,
        tool_call_id: call.to_owned(),
        approved,
        reason: None,
        arguments: None,
        digest: None,
        by: decider("key_person"),
        grant: None,
        end_user: None,
    }
}

/// Decides.
pub fn decide(bed: &Bed, key: &ExecutionKey, call: &str, approved: bool) -> Decided {
    bed.store.approval_decide(&key.scope, &decision(key, call, approved)).unwrap()
}

/// Approves; it must be the first decision.
pub fn approve(bed: &Bed, key: &ExecutionKey, call: &str) -> Acted {
    match decide(bed, key, call, true) {
        Decided::Taken { acted, .. } => acted,
        other => panic!("{other:?}"),
    }
}

/// One that waits for the call `a`, whose time is over soon, and for these others; `a` was approved in
/// time. Where the machine was too slow for that, another one is asked with more time.
pub fn approved_in_time(bed: &Bed, others: &[Asked<'_>]) -> (ExecutionKey, Timestamp) {
    for millis in [1_500, 6_000, 24_000] {
        let soon = bed.store.now().unwrap().plus(Duration::from_millis(millis));
        let mut calls = vec![Asked { expires_at: soon, ..Asked::open("a") }];
        calls.extend_from_slice(others);
        let key = waiting(bed.store.as_ref(), start(), &calls);
        match decide(bed, &key, "a", true) {
            Decided::Taken { .. } => return (key, soon),
            Decided::Closed(_) => {
                act(bed, &key, &ActRequest::Cancel).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("no decision came in time");
}

/// Waits until the store's clock has gone past this.
pub fn until_past(bed: &Bed, at: Timestamp) {
    until_blocking("the time is over", SOON * 2, || (bed.store.now().unwrap() > at).then_some(()));
}

/// Acts.
pub fn act(bed: &Bed, key: &ExecutionKey, request: &ActRequest) -> Result<Acted, ActError> {
    bed.store.execution_act(&key.scope, key.id, request, "key_person", None)
}

/// Claims one that must be there.
pub fn take(bed: &Bed, key: &ExecutionKey) -> Held {
    let session = session(bed.store.as_ref());
    Held::claim(bed.store.as_ref(), session, key)
}

/// Whether somebody can claim it now; it is given back.
pub fn is_claimable(bed: &Bed, key: &ExecutionKey) -> bool {
    let store = bed.store.as_ref();
    let session = session(store);
    let got = !claim(store, session, &[key]).is_empty();
    store.session_end(session).unwrap();
    got
}

/// One approval of an execution.
pub fn approval(bed: &Bed, key: &ExecutionKey, call: &str) -> ApprovalRow {
    let filter = ApprovalFilter { execution: Some(key.id), limit: 100, ..ApprovalFilter::default() };
    let rows = bed.store.approval_list(&key.scope, &filter).unwrap();
    rows.into_iter().find(|row| row.tool_call_id == call).unwrap()
}

/// The intent of a call's attempt.
pub fn calls(step: i32, call: &str, attempt: u32) -> Entry {
    Entry::ToolCalled(ToolCalled {
        step,
        tool_call_id: call.to_owned(),
        tool: "refund".to_owned(),
        arguments: serde_json::value::RawValue::from_string(ARGUMENTS.to_owned()).unwrap(),
        attempt,
        task: None,
        queue: None,
    })
}

/// A time that was long ago.
pub fn long_ago(micros: i64) -> Timestamp {
    Timestamp::from_micros(1_000_000 + micros)
}

/// An id as the database's SQL writes it.
pub fn sql_id(bed: &Bed, key: &ExecutionKey) -> String {
    let hex = key.id.0.simple();
    if bed.schema.is_some() { format!("'{hex}'") } else { format!("x'{hex}'") }
}

/// Changes rows behind the store's back; how many.
pub fn execute(bed: &Bed, sql: &str) -> usize {
    bed.execute(sql)
}

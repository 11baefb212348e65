//! Stale approvals: which executions a pass takes, in which order, and what becomes of them.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ApprovalStatus, ErrorType, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    an_expired_one_fails_once;
    metadata_is_merged;
    metadata_of_ours_is_written_over;
    the_oldest_come_first_up_to_the_limit;
    only_the_scope_is_looked_at;
    what_is_not_stale_is_left;
    one_of_two_approvals_is_enough;
    a_decided_call_is_not_stale_beside_an_open_one;
    a_timeout_is_for_those_without_an_expiry_of_their_own;
    the_earlier_of_timeout_and_expiry_counts;
    what_was_decided_meanwhile_is_skipped;
    what_was_paused_or_cancelled_meanwhile_is_skipped;
    what_was_deleted_meanwhile_is_skipped;
    a_retry_that_is_not_due_does_not_hide_it;
}

fn stale(bed: &Bed, scope: Option<Scope>, timeout: Option<Duration>, limit: usize) -> Vec<ExecutionKey> {
    bed.store.sweep_select(&SweepSelect::Stale { scope, timeout }, limit).unwrap()
}

fn all(bed: &Bed) -> Vec<ExecutionKey> {
    stale(bed, None, None, 100)
}

fn expired(bed: &Bed, at: i64) -> ExecutionKey {
    waiting(bed.store.as_ref(), start(), &[Asked::expired("a", at)])
}

fn an_expired_one_fails_once(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::expired("a", 5), Asked::open("b")]);
    assert_eq!(all(bed), [key.clone()]);
    let swept = bed.store.stale_expire(&key, None).unwrap();
    let row = get(bed, &key);
    assert_eq!(swept, Swept::Done { new_event: Some(row.last_event), ready: false });
    assert_eq!((row.status, row.reason), (Status::Failed, Some(Reason::ApprovalTimeout)));
    let error = row.error.unwrap();
    assert_eq!(error.kind, ErrorType::Timeout);
    assert!(!error.message.is_empty() && row.finished_at.is_some());
    assert_eq!(kinds(bed, &key)[6..], ["approval.closed", "approval.closed", "execution.failed"]);
    for call in ["a", "b"] {
        assert_eq!(approval(bed, &key, call).status, ApprovalStatus::Expired);
    }
    assert!(all(bed).is_empty());
    assert_eq!(bed.store.stale_expire(&key, None).unwrap(), Swept::Skipped);
    assert_eq!(lines(bed, &key).len(), 9);
    assert!(!is_claimable(bed, &key));
}

fn swept_metadata(bed: &Bed, metadata: &str) -> serde_json::Value {
    let new = NewExecution { metadata: metadata.to_owned(), ..start() };
    let key = waiting(bed.store.as_ref(), new, &[Asked::expired("a", 5)]);
    assert!(matches!(bed.store.stale_expire(&key, None).unwrap(), Swept::Done { .. }));
    serde_json::from_str(&get(bed, &key).metadata).unwrap()
}

fn metadata_is_merged(bed: &Bed) {
    let before = bed.store.now().unwrap();
    let metadata =
        swept_metadata(bed, r#"{"order":{"id":7,"lines":[1,2]},"note":"ü \" \n","n":12345678901}"#);
    assert_eq!(metadata["order"], serde_json::json!({"id": 7, "lines": [1, 2]}));
    assert_eq!((&metadata["note"], &metadata["n"]), (&"ü \" \n".into(), &12_345_678_901_i64.into()));
    assert_eq!(metadata["failure_reason"], "approval_timeout");
    let at = Timestamp::parse(metadata["timed_out_at"].as_str().unwrap()).unwrap();
    assert!(at >= before && at <= bed.store.now().unwrap());
    assert_eq!(metadata.as_object().unwrap().len(), 5);
}

fn metadata_of_ours_is_written_over(bed: &Bed) {
    let metadata = swept_metadata(bed, r#"{"failure_reason":"mine","a":null}"#);
    assert_eq!(metadata["failure_reason"], "approval_timeout");
    assert!(metadata.as_object().unwrap().contains_key("a"));
    assert_eq!(swept_metadata(bed, "{}").as_object().unwrap().len(), 2);
}

fn the_oldest_come_first_up_to_the_limit(bed: &Bed) {
    let (second, third, first) = (expired(bed, 200), expired(bed, 300), expired(bed, 100));
    assert_eq!(all(bed), [first.clone(), second.clone(), third]);
    assert_eq!(stale(bed, None, None, 2), [first.clone(), second]);
    assert_eq!(stale(bed, None, None, 1), [first]);
}

fn only_the_scope_is_looked_at(bed: &Bed) {
    let ours = expired(bed, 5);
    let mut new = start();
    new.key.scope = stranger();
    let theirs = waiting(bed.store.as_ref(), new, &[Asked::expired("a", 6)]);
    let mut new = start();
    new.key.scope = Scope::new("acme", "other");
    let other = waiting(bed.store.as_ref(), new, &[Asked::expired("a", 7)]);
    assert_eq!(stale(bed, Some(scope()), None, 10), [ours.clone()]);
    assert_eq!(stale(bed, Some(stranger()), None, 10), [theirs.clone()]);
    assert_eq!(all(bed), [ours, theirs, other]);
}

fn what_is_not_stale_is_left(bed: &Bed) {
    let store = bed.store.as_ref();
    create(store, start());
    waiting(store, start(), &[Asked::open("a")]);
    // Expired, but held: its worker will see to it.
    let mut held = Held::begin(store);
    let mut ask = held.ask(&[Asked::expired("a", 5)]);
    ask.target = Target::Running;
    assert_eq!(commit(bed, ask), KEPT);
    let paused = expired(bed, 5);
    act(bed, &paused, &ActRequest::Pause).unwrap();
    let ended = expired(bed, 5);
    act(bed, &ended, &ActRequest::Cancel).unwrap();
    // Ready: somebody decided the other call, and a worker will take it.
    let ready = waiting(store, start(), &[Asked::open("a"), Asked::expired("b", 5)]);
    approve(bed, &ready, "a");
    assert!(all(bed).is_empty());
    for key in [held.key(), &paused, &ended, &ready] {
        let before = lines(bed, key).len();
        assert_eq!(store.stale_expire(key, None).unwrap(), Swept::Skipped);
        assert_eq!(lines(bed, key).len(), before);
    }
}

fn one_of_two_approvals_is_enough(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a"), Asked::expired("b", 5)]);
    assert_eq!(all(bed), [key]);
}

fn a_decided_call_is_not_stale_beside_an_open_one(bed: &Bed) {
    let (key, expires_at) = approved_in_time(bed, &[Asked::open("b")]);
    // A worker looked at it and waits for the other.
    let mut held = take(bed, &key);
    let target = Target::Suspended { reason: Reason::Approval, ready_at: None };
    let suspend = held.next(vec![called(9)], target);
    assert!(matches!(commit(bed, suspend), Committed::Done { released: true, .. }));
    until_past(bed, expires_at);
    assert!(all(bed).is_empty());
    assert_eq!(bed.store.stale_expire(&key, None).unwrap(), Swept::Skipped);
}

fn a_timeout_is_for_those_without_an_expiry_of_their_own(bed: &Bed) {
    let store = bed.store.as_ref();
    let named = waiting(store, start(), &[Asked { expiry_named: true, ..Asked::open("a") }]);
    let old = waiting(store, start(), &[Asked::open("a")]);
    let now = store.now().unwrap();
    let young = waiting(store, start(), &[Asked { requested_at: now, ..Asked::open("a") }]);
    let hour = Some(Duration::from_secs(3600));
    assert!(all(bed).is_empty());
    assert_eq!(stale(bed, None, hour, 10), [old.clone()]);
    assert_eq!(store.stale_expire(&named, hour).unwrap(), Swept::Skipped);
    assert_eq!(store.stale_expire(&young, hour).unwrap(), Swept::Skipped);
    assert_eq!(store.stale_expire(&old, None).unwrap(), Swept::Skipped);
    assert!(matches!(store.stale_expire(&old, hour).unwrap(), Swept::Done { .. }));
}

fn the_earlier_of_timeout_and_expiry_counts(bed: &Bed) {
    let now = bed.store.now().unwrap();
    // Its own expiry is over, the timeout is not.
    let asked = Asked { requested_at: now, expires_at: now, ..Asked::open("a") };
    let key = waiting(bed.store.as_ref(), start(), &[asked]);
    let century = Some(Duration::from_secs(3_000_000_000));
    assert_eq!(stale(bed, None, century, 10), [key.clone()]);
    assert!(matches!(bed.store.stale_expire(&key, century).unwrap(), Swept::Done { .. }));
}

/// Between the look and the act.
fn what_was_decided_meanwhile_is_skipped(bed: &Bed) {
    let hour = Some(Duration::from_secs(3600));
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    assert_eq!(stale(bed, None, hour, 10), [key.clone()]);
    approve(bed, &key, "a");
    assert_eq!(bed.store.stale_expire(&key, hour).unwrap(), Swept::Skipped);
    assert!(is_claimable(bed, &key));
}

fn what_was_paused_or_cancelled_meanwhile_is_skipped(bed: &Bed) {
    let (paused, cancelled) = (expired(bed, 5), expired(bed, 6));
    assert_eq!(all(bed).len(), 2);
    act(bed, &paused, &ActRequest::Pause).unwrap();
    act(bed, &cancelled, &ActRequest::Cancel).unwrap();
    for key in [&paused, &cancelled] {
        assert_eq!(bed.store.stale_expire(key, None).unwrap(), Swept::Skipped);
    }
    assert_eq!(get(bed, &cancelled).status, Status::Cancelled);
}

fn what_was_deleted_meanwhile_is_skipped(bed: &Bed) {
    let key = expired(bed, 5);
    let id = sql_id(bed, &key);
    for (table, column) in
        [("executions", "id"), ("execution_info", "id"), ("approvals", "execution"), ("journal", "execution")]
    {
        assert!(execute(bed, &format!("DELETE FROM {table} WHERE {column} = {id}")) > 0);
    }
    assert_eq!(bed.store.stale_expire(&key, None).unwrap(), Swept::Skipped);
    assert_eq!(
        bed.store.stale_expire(&holdpoint_tests::store_builders::key(), None).unwrap(),
        Swept::Skipped
    );
}

/// `ready_at` in the future is a timer, not a worker's business yet.
fn a_retry_that_is_not_due_does_not_hide_it(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    let mut ask = held.ask(&[Asked::expired("a", 5)]);
    let later = store.now().unwrap().plus(Duration::from_secs(3600));
    ask.target = Target::Suspended { reason: Reason::Approval, ready_at: Some(later) };
    assert_eq!(commit(bed, ask), FREED);
    assert_eq!(all(bed), [held.key().clone()]);
    assert!(matches!(store.stale_expire(held.key(), None).unwrap(), Swept::Done { .. }));
    assert!(
        store
            .sweep_select(&SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Any }, 10)
            .unwrap()
            .is_empty()
    );
}

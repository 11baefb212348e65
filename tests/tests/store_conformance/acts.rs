//! `execution_act`: at once where nobody holds it, else into the inbox.

use holdpoint_db::*;
use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{Entry, OutcomeUnknown};
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::status::{ApprovalStatus, ErrorType, Failure, Outcome, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    a_queued_one_is_cancelled_at_once;
    a_suspended_one_is_cancelled_at_once_with_its_approvals;
    a_held_one_is_told_to_cancel;
    a_queued_one_is_paused_and_let_go_on;
    a_delayed_one_that_is_let_go_on_is_ready;
    pausing_twice_is_pausing_once;
    a_decision_while_paused_waits_for_the_resume;
    acts_on_a_held_one_are_numbered_in_order;
    acts_of_a_lost_worker_come_before_new_ones;
    a_resolution_must_fit;
    an_outcome_that_happened_is_journaled;
    what_may_still_happen_cannot_be_denied;
    a_resolution_of_a_held_one_is_checked_too;
    only_the_end_user_may_act;
}

fn a_queued_one_is_cancelled_at_once(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    let acted = act(bed, &key, &ActRequest::Cancel).unwrap();
    assert_eq!((acted.status, acted.new_event), (Status::Cancelled, Some(1)));
    assert_eq!(kinds(bed, &key), ["execution.cancelled"]);
    let row = get(bed, &key);
    assert_eq!((row.status, row.reason, row.last_event), (Status::Cancelled, Some(Reason::Cancelled), 1));
    assert!(row.finished_at.is_some() && row.output.is_none());
    assert!(!is_claimable(bed, &key));
    assert!(matches!(act(bed, &key, &ActRequest::Cancel), Err(ActError::Terminal(Status::Cancelled))));
    assert_eq!(lines(bed, &key).len(), 1);
}

fn a_suspended_one_is_cancelled_at_once_with_its_approvals(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a"), Asked::open("b")]);
    approve(bed, &key, "a");
    let acted = act(bed, &key, &ActRequest::Cancel).unwrap();
    assert_eq!(acted.status, Status::Cancelled);
    let kinds = kinds(bed, &key);
    assert_eq!(kinds[6..], ["approval.decided", "approval.closed", "execution.cancelled"]);
    assert_eq!(acted.new_event, Some(get(bed, &key).last_event));
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Approved);
    assert_eq!(approval(bed, &key, "b").status, ApprovalStatus::Cancelled);
    assert_eq!(get(bed, &key).pending_approvals, 0);
}

fn a_held_one_is_told_to_cancel(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let acted = act(bed, held.key(), &ActRequest::Cancel).unwrap();
    assert_eq!((acted.status, acted.new_event), (Status::Running, None));
    assert_eq!(acted.tell, Tell::Holder(held.session));
    assert!(lines(bed, held.key()).is_empty());
    let inbox = bed.store.inbox_read(std::slice::from_ref(held.key())).unwrap();
    assert!(matches!(&inbox[0].acts[..], [(1, Act::Cancel { by })] if by == "key_person"), "{inbox:?}");
}

fn a_queued_one_is_paused_and_let_go_on(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    let acted = act(bed, &key, &ActRequest::Pause).unwrap();
    assert_eq!((acted.status, acted.tell), (Status::Suspended, Tell::Nobody));
    assert_eq!(get(bed, &key).reason, Some(Reason::Paused));
    assert_eq!(kinds(bed, &key), ["pause.changed", "execution.suspended"]);
    assert!(!is_claimable(bed, &key));
    let acted = act(bed, &key, &ActRequest::Resume).unwrap();
    assert_eq!((acted.status, acted.tell), (Status::Suspended, Tell::Workers));
    assert_eq!(get(bed, &key).reason, None);
    assert_eq!(last_kind(bed, &key), "pause.changed");
    let held = take(bed, &key);
    assert!(!held.run.paused);
}

fn a_delayed_one_that_is_let_go_on_is_ready(bed: &Bed) {
    let delay = Some(std::time::Duration::from_secs(3600));
    let key = create(bed.store.as_ref(), NewExecution { delay, ..start() });
    act(bed, &key, &ActRequest::Pause).unwrap();
    act(bed, &key, &ActRequest::Resume).unwrap();
    assert!(is_claimable(bed, &key));
}

fn pausing_twice_is_pausing_once(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    act(bed, &key, &ActRequest::Pause).unwrap();
    let before = lines(bed, &key);
    let acted = act(bed, &key, &ActRequest::Pause).unwrap();
    assert_eq!(acted.status, Status::Suspended);
    assert_eq!(lines(bed, &key), before);
    assert_eq!(get(bed, &key).reason, Some(Reason::Paused));
    assert!(!is_claimable(bed, &key));
}

fn a_decision_while_paused_waits_for_the_resume(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    act(bed, &key, &ActRequest::Pause).unwrap();
    approve(bed, &key, "a");
    assert_eq!(last_kind(bed, &key), "approval.decided");
    assert_eq!(get(bed, &key).reason, Some(Reason::Paused));
    assert!(!is_claimable(bed, &key));
    act(bed, &key, &ActRequest::Resume).unwrap();
    assert!(is_claimable(bed, &key));
}

fn acts_on_a_held_one_are_numbered_in_order(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let other = Held::begin(bed.store.as_ref());
    for request in [ActRequest::Pause, ActRequest::Resume, ActRequest::Cancel] {
        act(bed, held.key(), &request).unwrap();
    }
    let keys = [held.key().clone(), other.key().clone(), key()];
    let inbox = bed.store.inbox_read(&keys).unwrap();
    let of = |key: &ExecutionKey| inbox.iter().find(|one| one.key == *key).unwrap();
    assert_eq!((of(held.key()).wake, of(other.key()).wake), (3, 0));
    assert!(of(other.key()).acts.is_empty());
    assert!(matches!(
        &of(held.key()).acts[..],
        [(1, Act::Pause { .. }), (2, Act::Resume { .. }), (3, Act::Cancel { .. })]
    ));
}

/// What was accepted first is journaled first, by whoever comes next.
fn acts_of_a_lost_worker_come_before_new_ones(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    act(bed, held.key(), &ActRequest::Pause).unwrap();
    expire(bed.store.as_ref(), held.session);
    assert!(matches!(bed.store.lease_reclaim(held.key(), 4).unwrap(), Swept::Done { .. }));
    act(bed, held.key(), &ActRequest::Resume).unwrap();
    let lines = lines(bed, held.key());
    let paused: Vec<bool> = lines.iter().map(|line| line.payload.contains(r#""paused":true"#)).collect();
    assert_eq!(paused, [true, false]);
    let next = take(bed, held.key());
    assert!(next.claimed.acts.is_empty() && !next.run.paused);
}

/// Suspended, with the outcome of the call of step 2 unknown.
fn unknown(bed: &Bed, settled_at: Timestamp) -> Held {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    approve(bed, &key, "a");
    let mut held = take(bed, &key);
    let error = Failure::new(ErrorType::Timeout, "no answer");
    let lost = Entry::OutcomeUnknown(OutcomeUnknown { step: 2, attempt: 1, error, settled_at });
    let target = Target::Suspended { reason: Reason::OutcomeUnknown, ready_at: None };
    let transition = held.next(vec![calls(2, "a", 1), lost], target);
    assert!(matches!(commit(bed, transition), Committed::Done { released: true, .. }));
    held
}

fn resolve(step: i32, outcome: Outcome) -> ActRequest {
    ActRequest::Resolve { step, outcome, result: None }
}

fn a_resolution_must_fit(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    let refused = act(bed, &key, &resolve(1, Outcome::Happened));
    assert!(matches!(refused, Err(ActError::Refused(Refusal::NotUnknown { step: 1 }))), "{refused:?}");
    let held = unknown(bed, long_ago(0));
    assert!(act(bed, held.key(), &resolve(1, Outcome::Happened)).is_err());
    act(bed, held.key(), &resolve(2, Outcome::DidNotHappen)).unwrap();
    assert_eq!(last_kind(bed, held.key()), "outcome.resolved");
    assert!(act(bed, held.key(), &resolve(2, Outcome::DidNotHappen)).is_err());
    assert!(is_claimable(bed, held.key()));
}

fn an_outcome_that_happened_is_journaled(bed: &Bed) {
    let held = unknown(bed, long_ago(0));
    let result = Some(r#"{"id":7}"#.to_owned());
    let acted = act(bed, held.key(), &ActRequest::Resolve { step: 2, outcome: Outcome::Happened, result });
    let acted = acted.unwrap();
    assert_eq!((acted.status, acted.tell), (Status::Suspended, Tell::Workers));
    let lines = lines(bed, held.key());
    let last: Vec<_> = lines[lines.len() - 2..].iter().map(|line| line.kind.as_str()).collect();
    assert_eq!(last, ["outcome.resolved", "tool.completed"]);
    assert!(lines.last().unwrap().payload.contains(r#"{"id":7}"#));
    assert_eq!(acted.new_event, lines.last().unwrap().event);
    assert!(take(bed, held.key()).run.steps[&2].is_done());
}

fn what_may_still_happen_cannot_be_denied(bed: &Bed) {
    let hour = bed.store.now().unwrap().plus(std::time::Duration::from_secs(3600));
    let held = unknown(bed, hour);
    let refused = act(bed, held.key(), &resolve(2, Outcome::DidNotHappen));
    assert!(matches!(refused, Err(ActError::Refused(Refusal::NotSettled { step: 2, .. }))), "{refused:?}");
    assert!(!is_claimable(bed, held.key()));
    act(bed, held.key(), &resolve(2, Outcome::Happened)).unwrap();
}

fn a_resolution_of_a_held_one_is_checked_too(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let refused = act(bed, held.key(), &resolve(1, Outcome::Happened));
    assert!(matches!(refused, Err(ActError::Refused(Refusal::NotUnknown { step: 1 }))), "{refused:?}");
    let inbox = bed.store.inbox_read(std::slice::from_ref(held.key())).unwrap();
    assert_eq!((inbox[0].wake, inbox[0].acts.len()), (0, 0));
}

fn only_the_end_user_may_act(bed: &Bed) {
    let key = create(bed.store.as_ref(), NewExecution { end_user: Some("ada".to_owned()), ..start() });
    let as_user =
        |user: &str| bed.store.execution_act(&scope(), key.id, &ActRequest::Cancel, "k", Some(user));
    assert!(matches!(as_user("bob"), Err(ActError::NotFound)));
    assert_eq!(get(bed, &key).status, Status::Queued);
    as_user("ada").unwrap();
    let nobodys = create(bed.store.as_ref(), start());
    let theirs = bed.store.execution_act(&scope(), nobodys.id, &ActRequest::Cancel, "k", Some("ada"));
    assert!(matches!(theirs, Err(ActError::NotFound)));
}

//! Decisions: judged in the contract's order, taken once, journaled where they belong.

use holdpoint_db::*;
use holdpoint_engine::digest::arguments_digest;
use holdpoint_engine::effect::Act;
use holdpoint_engine::status::{ApprovalStatus, Reason, Status};
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    an_approval_makes_the_execution_ready;
    a_denial_is_kept_with_its_reason;
    the_same_decision_again_changes_nothing;
    the_first_decision_stands;
    an_approval_of_other_arguments_is_another_decision;
    a_decided_one_is_answered_whatever_became_of_its_execution;
    an_expired_one_is_closed;
    one_whose_execution_ended_is_closed;
    an_unknown_call_is_not_found;
    another_end_users_call_is_not_found;
    a_digest_must_be_that_of_the_stored_bytes;
    decided_is_judged_before_closed_and_closed_before_digest;
    bytes_changed_in_the_database_cannot_be_decided_on;
    a_decision_on_a_held_one_goes_into_its_inbox;
    a_decision_that_comes_with_the_event_counts;
    two_calls_are_two_decisions;
    a_decision_in_time_stays_valid;
    lists_are_filtered_and_oldest_first;
}

fn open(bed: &Bed) -> holdpoint_engine::wire::ExecutionKey {
    waiting(bed.store.as_ref(), start(), &[Asked::open("a")])
}

fn send(bed: &Bed, request: &DecideRequest) -> Decided {
    bed.store.approval_decide(&scope(), request).unwrap()
}

fn an_approval_makes_the_execution_ready(bed: &Bed) {
    let key = open(bed);
    let before = bed.store.now().unwrap();
    let Decided::Taken { approval, acted } = decide(bed, &key, "a", true) else { panic!("not taken") };
    assert_eq!(
        (approval.status, approval.decided_by.as_deref()),
        (ApprovalStatus::Approved, Some("key_person"))
    );
    assert!(approval.decided_at.unwrap() >= before && approval.used_at.is_none());
    assert_eq!(approval.execution_status, Status::Suspended);
    assert_eq!((acted.status, acted.tell), (Status::Suspended, Tell::Workers));
    assert_eq!(last_kind(bed, &key), "approval.decided");
    let row = get(bed, &key);
    assert_eq!((acted.new_event, row.reason), (Some(row.last_event), Some(Reason::Approval)));
    assert_eq!((row.status, row.pending_approvals), (Status::Suspended, 0));
    let held = take(bed, &key);
    assert_eq!(held.run.step_of_call("a").unwrap().1.gate, Some(digest()));
}

fn a_denial_is_kept_with_its_reason(bed: &Bed) {
    let key = open(bed);
    let request = DecideRequest { reason: Some("too much".to_owned()), ..decision(&key, "a", false) };
    assert!(matches!(send(bed, &request), Decided::Taken { .. }));
    let row = approval(bed, &key, "a");
    assert_eq!((row.status, row.reason.as_deref()), (ApprovalStatus::Denied, Some("too much")));
    assert!(lines(bed, &key).last().unwrap().payload.contains("too much"));
    assert!(is_claimable(bed, &key));
}

fn the_same_decision_again_changes_nothing(bed: &Bed) {
    let key = open(bed);
    approve(bed, &key, "a");
    let first = approval(bed, &key, "a");
    let request = DecideRequest { by: decider("key_other"), ..decision(&key, "a", true) };
    let Decided::Already(row) = send(bed, &request) else { panic!("not there already") };
    assert_eq!((row.decided_by, row.decided_at), (first.decided_by, first.decided_at));
    assert_eq!(lines(bed, &key).len(), 6);
}

fn the_first_decision_stands(bed: &Bed) {
    let key = open(bed);
    approve(bed, &key, "a");
    let Decided::Conflict(row) = decide(bed, &key, "a", false) else { panic!("no conflict") };
    assert_eq!(row.status, ApprovalStatus::Approved);
    assert_eq!(lines(bed, &key).len(), 6);
}

fn an_approval_of_other_arguments_is_another_decision(bed: &Bed) {
    let key = open(bed);
    let edited = |arguments: Option<&str>| DecideRequest {
        arguments: arguments.map(str::to_owned),
        ..decision(&key, "a", true)
    };
    assert!(matches!(send(bed, &edited(Some("{\"n\": 1}"))), Decided::Taken { .. }));
    assert!(matches!(send(bed, &edited(Some("{\"n\": 1}"))), Decided::Already(_)));
    for other in [Some("{\"n\":1}"), Some("{\"n\": 2}"), None] {
        let Decided::Conflict(row) = send(bed, &edited(other)) else { panic!("{other:?} is no conflict") };
        assert_eq!(row.edited_arguments.as_deref(), Some("{\"n\": 1}"));
    }
}

fn a_decided_one_is_answered_whatever_became_of_its_execution(bed: &Bed) {
    let key = open(bed);
    approve(bed, &key, "a");
    act(bed, &key, &ActRequest::Cancel).unwrap();
    let Decided::Already(row) = decide(bed, &key, "a", true) else { panic!("not there already") };
    assert_eq!(row.execution_status, Status::Cancelled);
    assert!(matches!(decide(bed, &key, "a", false), Decided::Conflict(_)));
}

fn an_expired_one_is_closed(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::expired("a", 5)]);
    let Decided::Closed(row) = decide(bed, &key, "a", true) else { panic!("not closed") };
    assert_eq!(row.status, ApprovalStatus::Expired);
    // It reads expired before any sweep has been there.
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Expired);
    assert_eq!(lines(bed, &key).len(), 5);
    assert!(!is_claimable(bed, &key));
}

fn one_whose_execution_ended_is_closed(bed: &Bed) {
    let key = open(bed);
    act(bed, &key, &ActRequest::Cancel).unwrap();
    let Decided::Closed(row) = decide(bed, &key, "a", true) else { panic!("not closed") };
    assert_eq!((row.status, row.execution_status), (ApprovalStatus::Cancelled, Status::Cancelled));
}

fn an_unknown_call_is_not_found(bed: &Bed) {
    let (key, other) = (open(bed), create(bed.store.as_ref(), start()));
    assert!(matches!(decide(bed, &key, "b", true), Decided::NotFound));
    assert!(matches!(decide(bed, &other, "a", true), Decided::NotFound));
    assert!(matches!(decide(bed, &holdpoint_tests::store_builders::key(), "a", true), Decided::NotFound));
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Pending);
}

fn another_end_users_call_is_not_found(bed: &Bed) {
    let new = NewExecution { end_user: Some("ada".to_owned()), ..start() };
    let key = waiting(bed.store.as_ref(), new, &[Asked::open("a")]);
    let as_user = |user: &str| DecideRequest { end_user: Some(user.to_owned()), ..decision(&key, "a", true) };
    assert!(matches!(send(bed, &as_user("bob")), Decided::NotFound));
    assert!(matches!(send(bed, &as_user("ada")), Decided::Taken { .. }));
    let nobodys = open(bed);
    let theirs = DecideRequest { end_user: Some("ada".to_owned()), ..decision(&nobodys, "a", true) };
    assert!(matches!(send(bed, &theirs), Decided::NotFound));
}

fn a_digest_must_be_that_of_the_stored_bytes(bed: &Bed) {
    let key = open(bed);
    let with = |digest: String| DecideRequest { digest: Some(digest), ..decision(&key, "a", true) };
    let other = with(arguments_digest("refund", 1, "{}"));
    assert!(matches!(send(bed, &other), Decided::DigestMismatch(_)));
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Pending);
    assert_eq!(lines(bed, &key).len(), 5);
    assert!(matches!(send(bed, &with(digest())), Decided::Taken { .. }));
}

fn decided_is_judged_before_closed_and_closed_before_digest(bed: &Bed) {
    let wrong = |key| DecideRequest { digest: Some("wrong".to_owned()), ..decision(key, "a", true) };
    let key = open(bed);
    approve(bed, &key, "a");
    assert!(matches!(send(bed, &wrong(&key)), Decided::Already(_)));
    let expired = waiting(bed.store.as_ref(), start(), &[Asked::expired("a", 5)]);
    assert!(matches!(send(bed, &wrong(&expired)), Decided::Closed(_)));
}

fn bytes_changed_in_the_database_cannot_be_decided_on(bed: &Bed) {
    let key = open(bed);
    let id = sql_id(bed, &key);
    assert_eq!(execute(bed, &format!("UPDATE approvals SET arguments = '{{}}' WHERE execution = {id}")), 1);
    let request = DecideRequest { digest: Some(digest()), ..decision(&key, "a", true) };
    let decided = send(bed, &request);
    assert!(matches!(decided, Decided::DigestMismatch(_)), "{decided:?}");
}

fn a_decision_on_a_held_one_goes_into_its_inbox(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    let mut ask = held.ask(&[Asked::open("a")]);
    ask.target = Target::Running;
    assert_eq!(commit(bed, ask), KEPT);
    let acted = approve(bed, held.key(), "a");
    assert_eq!((acted.tell, acted.status), (Tell::Holder(held.session), Status::Running));
    // Taken for good, although the journal does not have it yet.
    assert_eq!(approval(bed, held.key(), "a").status, ApprovalStatus::Approved);
    assert_eq!(lines(bed, held.key()).len(), 5);
    let inbox = bed.store.inbox_read(std::slice::from_ref(held.key())).unwrap();
    assert!(
        matches!(&inbox[0].acts[..], [(1, Act::Decided(body))] if body.approved && body.digest == digest())
    );
    assert!(matches!(decide(bed, held.key(), "a", true), Decided::Already(_)));
    assert!(matches!(decide(bed, held.key(), "a", false), Decided::Conflict(_)));
    assert_eq!(bed.store.inbox_read(std::slice::from_ref(held.key())).unwrap()[0].acts.len(), 1);
}

/// Between the commit that opens it and the one that suspends.
fn a_decision_that_comes_with_the_event_counts(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    let mut ask = held.ask(&[Asked::open("a")]);
    ask.target = Target::Running;
    assert_eq!(commit(bed, ask), KEPT);
    approve(bed, held.key(), "a");
    let target = Target::Suspended { reason: Reason::Approval, ready_at: None };
    let suspend = held.next(vec![called(9)], target);
    assert_eq!(commit(bed, suspend), Committed::Done { wake: 1, released: false });
    assert_eq!(get(bed, held.key()).status, Status::Running);
    // Its worker dies: the next one finds the decision.
    bed.store.session_end(held.session).unwrap();
    let next = take(bed, held.key());
    assert!(matches!(&next.claimed.acts[..], [(1, Act::Decided(_))]));
}

fn two_calls_are_two_decisions(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a"), Asked::open("b")]);
    approve(bed, &key, "a");
    assert_eq!(approval(bed, &key, "b").status, ApprovalStatus::Pending);
    assert_eq!(get(bed, &key).pending_approvals, 1);
    assert!(matches!(decide(bed, &key, "b", false), Decided::Taken { .. }));
    assert_eq!(kinds(bed, &key)[6..], ["approval.decided", "approval.decided"]);
}

fn a_decision_in_time_stays_valid(bed: &Bed) {
    let (key, expires_at) = approved_in_time(bed, &[]);
    until_past(bed, expires_at);
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Approved);
    assert_eq!(bed.store.stale_expire(&key, None).unwrap(), Swept::Skipped);
    let mut held = take(bed, &key);
    let mut intent = held.next(vec![calls(2, "a", 1)], Target::Running);
    let gate =
        holdpoint_engine::advance::Gate { tool_call_id: "a".to_owned(), digest: digest(), first_use: true };
    intent.gates = vec![gate];
    assert!(matches!(commit(bed, intent), Committed::Done { .. }));
}

fn lists_are_filtered_and_oldest_first(bed: &Bed) {
    let store = bed.store.as_ref();
    let at = |id, micros| Asked { requested_at: long_ago(micros), ..Asked::open(id) };
    let ada = NewExecution {
        end_user: Some("ada".to_owned()),
        conversation: Conversation::Named("c".to_owned()),
        ..start()
    };
    let first = waiting(store, ada, &[at("p", 30), at("q", 10)]);
    let second = waiting(store, start(), &[at("r", 20), Asked::expired("s", 5)]);
    approve(bed, &second, "r");
    let list = |filter: ApprovalFilter| {
        let rows = store.approval_list(&scope(), &ApprovalFilter { limit: 10, ..filter }).unwrap();
        rows.into_iter().map(|row| row.tool_call_id).collect::<Vec<_>>()
    };
    let all = ApprovalFilter::default;
    assert_eq!(list(all()), ["s", "q", "r", "p"]);
    assert_eq!(list(ApprovalFilter { status: Some(ApprovalStatus::Pending), ..all() }), ["q", "p"]);
    assert_eq!(list(ApprovalFilter { status: Some(ApprovalStatus::Expired), ..all() }), ["s"]);
    assert_eq!(list(ApprovalFilter { status: Some(ApprovalStatus::Approved), ..all() }), ["r"]);
    assert_eq!(list(ApprovalFilter { execution: Some(first.id), ..all() }), ["q", "p"]);
    assert_eq!(list(ApprovalFilter { conversation_id: Some("c".to_owned()), ..all() }), ["q", "p"]);
    assert_eq!(list(ApprovalFilter { end_user: Some("ada".to_owned()), ..all() }), ["q", "p"]);
    assert_eq!(list(ApprovalFilter { agent: Some("clerk".to_owned()), ..all() }).len(), 4);
    assert!(list(ApprovalFilter { agent: Some("other".to_owned()), ..all() }).is_empty());
    assert_eq!(list(ApprovalFilter { tool: Some("refund".to_owned()), ..all() }).len(), 4);
    assert!(list(ApprovalFilter { tool: Some("other".to_owned()), ..all() }).is_empty());
    let mut after = None;
    let mut seen = Vec::new();
    loop {
        let page = store.approval_list(&scope(), &ApprovalFilter { after, limit: 1, ..all() }).unwrap();
        let Some(row) = page.into_iter().next() else { break };
        after = Some((row.requested_at, row.id));
        let single = store.approval_get(&scope(), row.id).unwrap().unwrap();
        assert_eq!((single.tool_call_id.as_str(), single.status), (row.tool_call_id.as_str(), row.status));
        seen.push(row.tool_call_id);
    }
    assert_eq!(seen, ["s", "q", "r", "p"]);
}

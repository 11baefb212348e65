//! Approval policies: whose decision counts, how many it takes, what becomes of a question that
//! nobody answers.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::policy::*;
use holdpoint_engine::status::{ApprovalStatus, Reason, Status};
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    who_is_not_among_the_approvers_is_refused;
    whoever_started_it_does_not_decide;
    the_first_of_the_executions_started_it;
    it_takes_several_people;
    a_person_counts_once;
    one_denial_denies;
    votes_are_for_the_same_bytes;
    nothing_is_edited_where_the_policy_says_so;
    votes_on_a_question_that_was_asked_again_do_not_count;
    who_may_not_is_judged_after_all_else;
    further_approvers_are_asked_at_the_expiry;
    an_escalation_is_written_once_and_then_fails;
    an_escalation_may_end_in_a_denial;
    nobody_denies_where_the_policy_says_so;
    a_timeout_of_a_sweep_escalates_from_now_on;
    one_that_fails_beside_one_that_denies_fails;
    a_worker_escalates_and_denies_what_is_undecided;
}

fn policy() -> Policy {
    Policy::default()
}

fn group(name: &str) -> Approvers {
    Approvers { roles: Vec::new(), groups: vec![name.to_owned()] }
}

fn of(key: &str, groups: &[&str]) -> Decider {
    Decider { groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..decider(key) }
}

fn open(bed: &Bed, policy: &Policy) -> ExecutionKey {
    waiting(bed.store.as_ref(), start(), &[Asked { policy: Some(policy), ..Asked::open("a") }])
}

fn by(bed: &Bed, key: &ExecutionKey, who: Decider, approved: bool) -> Decided {
    send(bed, key, DecideRequest { by: who, ..decision(key, "a", approved) })
}

fn send(bed: &Bed, key: &ExecutionKey, request: DecideRequest) -> Decided {
    bed.store.approval_decide(&key.scope, &request).unwrap()
}

fn barred(decided: Decided) -> Barred {
    match decided {
        Decided::Barred { why, .. } => why,
        other => panic!("{other:?}"),
    }
}

fn is_untouched(bed: &Bed, key: &ExecutionKey) -> bool {
    let row = approval(bed, key, "a");
    row.status == ApprovalStatus::Pending && row.votes.is_empty() && get(bed, key).status == Status::Suspended
}

fn who_is_not_among_the_approvers_is_refused(bed: &Bed) {
    let finance = Policy { approvers: Some(group("finance")), ..policy() };
    let key = open(bed, &finance);
    for approved in [true, false] {
        let refused = by(bed, &key, of("key_1", &["sales"]), approved);
        assert_eq!(barred(refused), Barred::NotAnApprover);
    }
    assert!(is_untouched(bed, &key));
    assert!(matches!(by(bed, &key, of("key_2", &["sales", "finance"]), true), Decided::Taken { .. }));
    let admins = Approvers { roles: vec![ApproverRole::Admin], groups: Vec::new() };
    let key = open(bed, &Policy { approvers: Some(admins), ..policy() });
    assert_eq!(barred(by(bed, &key, decider("key_1"), true)), Barred::NotAnApprover);
    let admin = Decider { role: "admin".to_owned(), ..decider("key_1") };
    assert!(matches!(by(bed, &key, admin, false), Decided::Taken { .. }));
}

fn whoever_started_it_does_not_decide(bed: &Bed) {
    let alone = Policy { no_self_approval: true, ..policy() };
    let key = open(bed, &alone);
    assert_eq!(barred(by(bed, &key, decider("key_test"), true)), Barred::SelfApproval);
    assert_eq!(barred(by(bed, &key, decider("key_test"), false)), Barred::SelfApproval);
    assert!(is_untouched(bed, &key));
    assert!(matches!(by(bed, &key, decider("key_other"), true), Decided::Taken { .. }));

    let new = NewExecution { end_user: Some("ada".to_owned()), ..start() };
    let asked = Asked { policy: Some(&alone), ..Asked::open("a") };
    let key = waiting(bed.store.as_ref(), new, &[asked]);
    let hers = Decider { end_user: Some("ada".to_owned()), ..decider("key_hers") };
    assert_eq!(barred(by(bed, &key, hers, true)), Barred::SelfApproval);
    // The header makes nobody another person, and who acts for her acts for her.
    let named = DecideRequest {
        by: decider("key_front"),
        end_user: Some("ada".to_owned()),
        ..decision(&key, "a", true)
    };
    assert_eq!(barred(send(bed, &key, named)), Barred::SelfApproval);
    assert!(matches!(by(bed, &key, decider("key_other"), true), Decided::Taken { .. }));
}

fn the_first_of_the_executions_started_it(bed: &Bed) {
    let alone = Policy { no_self_approval: true, ..policy() };
    let parent = open(bed, &alone);
    let new = NewExecution { created_by: parent.id.to_string(), ..start() };
    let child = waiting(bed.store.as_ref(), new, &[Asked { policy: Some(&alone), ..Asked::open("a") }]);
    assert_eq!(approval(bed, &child, "a").requester.key, "key_test");
    assert_eq!(barred(by(bed, &child, decider("key_test"), true)), Barred::SelfApproval);
    assert!(matches!(by(bed, &child, decider("key_other"), true), Decided::Taken { .. }));
}

fn it_takes_several_people(bed: &Bed) {
    let key = open(bed, &Policy { quorum: 3, ..policy() });
    let lines_before = lines(bed, &key).len();
    for (who, needed) in [("key_1", 2), ("key_2", 1)] {
        let Decided::Counted(row) = by(bed, &key, decider(who), true) else { panic!("{who}") };
        assert_eq!((row.status, row.votes_needed()), (ApprovalStatus::Pending, needed));
        assert_eq!(row.decided_by, None);
    }
    assert_eq!((get(bed, &key).status, lines(bed, &key).len()), (Status::Suspended, lines_before));
    assert!(!is_claimable(bed, &key));
    let last =
        DecideRequest { reason: Some("fine".to_owned()), by: decider("key_3"), ..decision(&key, "a", true) };
    let Decided::Taken { approval: row, acted } = send(bed, &key, last) else { panic!("not taken") };
    assert_eq!((row.status, acted.tell), (ApprovalStatus::Approved, Tell::Workers));
    assert_eq!((row.decided_by.as_deref(), row.votes_needed()), (Some("key_3"), 0));
    let told: Vec<_> = row.votes.iter().map(|vote| (vote.by.as_str(), vote.approved)).collect();
    assert_eq!(told, [("key_1", true), ("key_2", true), ("key_3", true)]);
    assert_eq!(row.votes[2].reason.as_deref(), Some("fine"));
    assert_eq!(last_kind(bed, &key), "approval.decided");
    assert!(matches!(by(bed, &key, decider("key_4"), true), Decided::Already(_)));
    assert!(matches!(by(bed, &key, decider("key_4"), false), Decided::Conflict(_)));
    assert_eq!(approval(bed, &key, "a").votes.len(), 3);
}

fn a_person_counts_once(bed: &Bed) {
    let key = open(bed, &Policy { quorum: 2, ..policy() });
    let user = |key: &str| Decider { end_user: Some("bob".to_owned()), ..decider(key) };
    assert!(matches!(by(bed, &key, user("key_1"), true), Decided::Counted(_)));
    // The same person, by the same key and by another one.
    for who in ["key_1", "key_2"] {
        let Decided::Already(row) = by(bed, &key, user(who), true) else { panic!("{who}") };
        assert_eq!((row.status, row.votes.len(), row.votes_needed()), (ApprovalStatus::Pending, 1, 1));
    }
    // A key is no user of that name.
    assert!(matches!(by(bed, &key, decider("bob"), true), Decided::Taken { .. }));
}

fn one_denial_denies(bed: &Bed) {
    let key = open(bed, &Policy { quorum: 2, ..policy() });
    assert!(matches!(by(bed, &key, decider("key_1"), true), Decided::Counted(_)));
    let Decided::Taken { approval: row, .. } = by(bed, &key, decider("key_2"), false) else { panic!() };
    assert_eq!((row.status, row.decided_by.as_deref()), (ApprovalStatus::Denied, Some("key_2")));
    assert_eq!(row.votes.iter().map(|vote| vote.approved).collect::<Vec<_>>(), [true, false]);
    // Whoever approved before may think better of it, until it is decided.
    let key = open(bed, &Policy { quorum: 2, ..policy() });
    assert!(matches!(by(bed, &key, decider("key_1"), true), Decided::Counted(_)));
    let Decided::Taken { approval: row, .. } = by(bed, &key, decider("key_1"), false) else { panic!() };
    assert_eq!((row.status, row.votes.len()), (ApprovalStatus::Denied, 1));
}

fn votes_are_for_the_same_bytes(bed: &Bed) {
    let key = open(bed, &Policy { quorum: 2, ..policy() });
    let edited = |who: &str, bytes: Option<&str>| DecideRequest {
        by: decider(who),
        arguments: bytes.map(str::to_owned),
        ..decision(&key, "a", true)
    };
    let less = Some(r#"{"amount": 20}"#);
    assert!(matches!(send(bed, &key, edited("key_1", less)), Decided::Counted(_)));
    for other in [None, Some(r#"{"amount": 30}"#)] {
        for who in ["key_1", "key_2"] {
            let Decided::VotesDiffer(row) = send(bed, &key, edited(who, other)) else { panic!("{other:?}") };
            assert_eq!(row.votes.len(), 1);
        }
    }
    let Decided::Taken { approval: row, .. } = send(bed, &key, edited("key_2", less)) else { panic!() };
    assert_eq!(row.edited_arguments.as_deref(), less);
    assert_eq!(row.edited_digest.as_ref(), Some(&row.votes[0].digest));
    assert_ne!(row.votes[0].digest, row.digest);
}

fn nothing_is_edited_where_the_policy_says_so(bed: &Bed) {
    let key = open(bed, &Policy { allow_edit: false, ..policy() });
    let edited = DecideRequest { arguments: Some("{}".to_owned()), ..decision(&key, "a", true) };
    assert!(matches!(send(bed, &key, edited), Decided::NoEdit(_)));
    assert!(is_untouched(bed, &key));
    assert!(matches!(decide(bed, &key, "a", true), Decided::Taken { .. }));
}

fn votes_on_a_question_that_was_asked_again_do_not_count(bed: &Bed) {
    let two = Policy { quorum: 2, ..policy() };
    let mut held = Held::begin(bed.store.as_ref());
    let asked = Asked { policy: Some(&two), ..Asked::open("a") };
    let ask = Transition { target: Target::Running, ..held.ask(&[asked]) };
    assert_eq!(commit(bed, ask), KEPT);
    let key = held.key().clone();
    assert!(matches!(by(bed, &key, decider("key_1"), true), Decided::Counted(_)));
    let again = vec![
        ApprovalChange::Close { call_id: "a".to_owned(), status: ApprovalStatus::DigestMismatch },
        ApprovalChange::Open(Box::new(match requested(&asked, 2) {
            holdpoint_engine::entry::Entry::ApprovalRequested(body) => body,
            _ => unreachable!(),
        })),
    ];
    let next = Transition { approvals: again, ..held.next(vec![called(9)], Target::Running) };
    assert_eq!(commit(bed, next), KEPT);
    assert!(approval(bed, &key, "a").votes.is_empty());
    assert!(matches!(by(bed, &key, decider("key_1"), true), Decided::Counted(_)));
    assert!(matches!(by(bed, &key, decider("key_2"), true), Decided::Taken { .. }));
}

fn who_may_not_is_judged_after_all_else(bed: &Bed) {
    let finance = Policy { approvers: Some(group("finance")), ..policy() };
    let stranger = || of("key_1", &[]);
    let key = open(bed, &finance);
    let wrong = DecideRequest { by: stranger(), digest: Some("no".to_owned()), ..decision(&key, "a", true) };
    assert!(matches!(send(bed, &key, wrong), Decided::DigestMismatch(_)));
    assert!(matches!(by(bed, &key, of("key_2", &["finance"]), true), Decided::Taken { .. }));
    assert!(matches!(by(bed, &key, stranger(), true), Decided::Already(_)));
    assert!(matches!(by(bed, &key, stranger(), false), Decided::Conflict(_)));
    let asked = Asked { policy: Some(&finance), ..Asked::expired("a", 5) };
    let expired = waiting(bed.store.as_ref(), start(), &[asked]);
    assert!(matches!(by(bed, &expired, stranger(), true), Decided::Closed(_)));
}

fn escalating(then: Then, hours: u64) -> Policy {
    let next = Escalation { approvers: group("board"), expires_after: Span::secs(hours * 3_600), then };
    Policy { approvers: Some(group("finance")), on_timeout: OnTimeout::Escalate(next), ..policy() }
}

/// Its first approvers' time was over so long ago.
fn expired_since(bed: &Bed, policy: &Policy, minutes: u64) -> (ExecutionKey, Timestamp) {
    let now = bed.store.now().unwrap();
    let at = Timestamp::from_micros(now.micros() - minutes as i64 * 60_000_000);
    let asked = Asked { policy: Some(policy), ..Asked::expired("a", at.micros()) };
    (waiting(bed.store.as_ref(), start(), &[asked]), at)
}

fn sweep(bed: &Bed, key: &ExecutionKey) -> Swept {
    bed.store.stale_expire(key, None).unwrap()
}

fn pending(bed: &Bed) -> Vec<ApprovalRow> {
    let filter = ApprovalFilter { status: Some(ApprovalStatus::Pending), limit: 100, ..Default::default() };
    bed.store.approval_list(&scope(), &filter).unwrap()
}

fn further_approvers_are_asked_at_the_expiry(bed: &Bed) {
    let one = escalating(Then::Fail, 1);
    let (early, _) = (open(bed, &one), ());
    assert_eq!(barred(by(bed, &early, of("key_b", &["board"]), true)), Barred::NotAnApprover);
    // No sweep has passed: what counts is the time of the decision.
    let (key, at) = expired_since(bed, &one, 10);
    let row = approval(bed, &key, "a");
    assert_eq!((row.status, row.escalated_at), (ApprovalStatus::Pending, Some(at)));
    assert_eq!(row.expires_at, at.plus(Duration::from_secs(3_600)));
    assert_eq!(pending(bed).len(), 2);
    assert_eq!(get(bed, &key).pending_approvals, 1);
    assert_eq!(barred(by(bed, &key, of("key_x", &["sales"]), true)), Barred::NotAnApprover);
    assert!(matches!(by(bed, &key, of("key_b", &["board"]), true), Decided::Taken { .. }));
    assert_eq!(sweep(bed, &key), Swept::Skipped);
    // Those that were asked first may still answer.
    let (key, _) = expired_since(bed, &one, 10);
    assert!(matches!(by(bed, &key, of("key_f", &["finance"]), false), Decided::Taken { .. }));
}

fn an_escalation_is_written_once_and_then_fails(bed: &Bed) {
    let one = Policy { quorum: 2, ..escalating(Then::Fail, 1) };
    let (key, at) = expired_since(bed, &one, 10);
    assert!(matches!(by(bed, &key, of("key_f", &["finance"]), true), Decided::Counted(_)));
    assert_eq!(sweep(bed, &key), Swept::Done { new_event: None, ready: false });
    assert_eq!(last_kind(bed, &key), "approval.escalated");
    let row = approval(bed, &key, "a");
    let until = at.plus(Duration::from_secs(3_600));
    assert_eq!((row.status, row.escalated_at, row.expires_at), (ApprovalStatus::Pending, Some(at), until));
    assert_eq!((row.votes.len(), row.votes_needed()), (1, 1), "votes stay");
    assert_eq!((get(bed, &key).status, get(bed, &key).reason), (Status::Suspended, Some(Reason::Approval)));
    assert_eq!(sweep(bed, &key), Swept::Skipped, "once");
    // A timeout of a sweep is for approvals without an expiry of their own: this one has one now.
    assert_eq!(bed.store.stale_expire(&key, Some(Duration::from_secs(1))).unwrap(), Swept::Skipped);
    assert!(matches!(by(bed, &key, of("key_b", &["board"]), true), Decided::Taken { .. }));

    // Both times are over: both are told, and it fails.
    let (key, _) = expired_since(bed, &one, 90);
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Expired);
    assert!(matches!(by(bed, &key, of("key_b", &["board"]), true), Decided::Closed(_)));
    assert!(matches!(sweep(bed, &key), Swept::Done { .. }));
    assert_eq!(kinds(bed, &key)[5..], ["approval.escalated", "approval.closed", "execution.failed"]);
    let row = get(bed, &key);
    assert_eq!((row.status, row.reason), (Status::Failed, Some(Reason::ApprovalTimeout)));
    assert!(row.metadata.contains("failure_reason"));
}

fn an_escalation_may_end_in_a_denial(bed: &Bed) {
    let (key, _) = expired_since(bed, &escalating(Then::Deny, 1), 90);
    assert!(matches!(sweep(bed, &key), Swept::Done { ready: true, .. }));
    assert_eq!(kinds(bed, &key)[5..], ["approval.escalated", "approval.decided"]);
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Denied);
}

fn nobody_denies_where_the_policy_says_so(bed: &Bed) {
    let (key, _) = expired_since(bed, &Policy { on_timeout: OnTimeout::Deny, ..policy() }, 10);
    assert!(matches!(decide(bed, &key, "a", true), Decided::Closed(_)), "its time is over");
    let before = bed.store.now().unwrap();
    let Swept::Done { new_event, ready } = sweep(bed, &key) else { panic!("skipped") };
    assert_eq!((new_event, ready), (Some(get(bed, &key).last_event), true));
    let row = approval(bed, &key, "a");
    assert_eq!((row.status, row.decided_by.as_deref()), (ApprovalStatus::Denied, Some("on_timeout")));
    assert_eq!(row.reason.as_deref(), Some("nobody decided in time"));
    assert!(row.decided_at.unwrap() >= before);
    assert_eq!(last_kind(bed, &key), "approval.decided");
    assert!(!get(bed, &key).metadata.contains("failure_reason"));
    assert_eq!(sweep(bed, &key), Swept::Skipped);
    let held = take(bed, &key);
    let reason = Some("nobody decided in time".to_owned());
    assert_eq!(held.run.steps[&2].state, holdpoint_engine::run::StepState::Refused { reason });
}

fn a_timeout_of_a_sweep_escalates_from_now_on(bed: &Bed) {
    let one = escalating(Then::Fail, 1);
    let key = open(bed, &one);
    let before = bed.store.now().unwrap();
    let swept = bed.store.stale_expire(&key, Some(Duration::from_secs(60))).unwrap();
    assert_eq!(swept, Swept::Done { new_event: None, ready: false });
    let row = approval(bed, &key, "a");
    assert_eq!(row.status, ApprovalStatus::Pending);
    assert!(row.escalated_at.unwrap() >= before);
    assert_eq!(row.expires_at, row.escalated_at.unwrap().plus(Duration::from_secs(3_600)));
}

fn one_that_fails_beside_one_that_denies_fails(bed: &Bed) {
    let deny = Policy { on_timeout: OnTimeout::Deny, ..policy() };
    let calls = [Asked { policy: Some(&deny), ..Asked::expired("a", 5) }, Asked::expired("b", 6)];
    let key = waiting(bed.store.as_ref(), start(), &calls);
    assert!(matches!(sweep(bed, &key), Swept::Done { ready: false, .. }));
    assert_eq!(get(bed, &key).status, Status::Failed);
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Denied);
    assert_eq!(approval(bed, &key, "b").status, ApprovalStatus::Expired);
}

/// A workflow's own clock: its worker writes what the sweep writes for an agent's tool, and a
/// decision that was taken before stands.
fn a_worker_escalates_and_denies_what_is_undecided(bed: &Bed) {
    let one = escalating(Then::Deny, 1);
    let at = bed.store.now().unwrap();
    let until = at.plus(Duration::from_secs(600));
    let escalate = || ApprovalChange::Escalate { call_id: "a".to_owned(), at, expires_at: until };
    let deny = || ApprovalChange::Deny { call_id: "a".to_owned(), at };
    let asked = || {
        let mut held = Held::begin(bed.store.as_ref());
        let asked = Asked { policy: Some(&one), ..Asked::open("a") };
        let ask = Transition { target: Target::Running, ..held.ask(&[asked]) };
        assert_eq!(commit(bed, ask), KEPT);
        held
    };
    let mut held = asked();
    for change in [escalate(), deny()] {
        let next = Transition { approvals: vec![change], ..held.next(vec![called(9)], Target::Running) };
        assert_eq!(commit(bed, next), KEPT);
    }
    let row = approval(bed, held.key(), "a");
    assert_eq!((row.status, row.escalated_at, row.expires_at), (ApprovalStatus::Denied, Some(at), until));
    for change in [escalate(), deny()] {
        let mut held = asked();
        let key = held.key().clone();
        assert!(matches!(by(bed, &key, of("key_f", &["finance"]), true), Decided::Taken { .. }));
        let next = Transition { approvals: vec![change], ..held.next(vec![called(9)], Target::Running) };
        assert_eq!(commit(bed, next), Committed::GateRefused { tool_call_id: "a".to_owned() });
        assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Approved);
    }
}

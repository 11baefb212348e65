//! Decisions that a commit uses up: what is called is what was decided on, once.

use holdpoint_db::*;
use holdpoint_engine::advance::Gate;
use holdpoint_engine::digest::arguments_digest;
use holdpoint_engine::status::ApprovalStatus;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    an_approved_call_goes_out_once;
    a_repeat_stands_on_a_used_decision;
    an_undecided_call_does_not_go_out;
    a_denied_call_does_not_go_out;
    another_digest_does_not_go_out;
    a_call_without_an_approval_does_not_go_out;
    bytes_changed_in_the_database_do_not_go_out;
    edited_bytes_changed_in_the_database_do_not_go_out;
    edited_arguments_go_out_and_the_shown_ones_do_not;
    a_refused_gate_writes_nothing_and_harms_no_other;
    a_question_asked_again_forgets_the_decision;
}

fn gate(call: &str, digest: String, first_use: bool) -> Gate {
    Gate { tool_call_id: call.to_owned(), digest, first_use }
}

/// The intent of a first attempt.
fn intent(held: &mut Held, call: &str) -> Transition {
    let step = held.run.step_of_call(call).unwrap().0;
    let entry = calls(step, call, 1);
    let gates = vec![gate(call, digest(), true)];
    Transition { gates, ..held.next(vec![entry], Target::Running) }
}

fn refused(call: &str) -> Committed {
    Committed::GateRefused { tool_call_id: call.to_owned() }
}

fn is_done(committed: Committed) -> bool {
    matches!(committed, Committed::Done { .. })
}

/// Claimed, with call `a` approved and call `b` undecided.
fn approved(bed: &Bed) -> Held {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a"), Asked::open("b")]);
    approve(bed, &key, "a");
    take(bed, &key)
}

fn an_approved_call_goes_out_once(bed: &Bed) {
    let mut held = approved(bed);
    assert!(approval(bed, held.key(), "a").used_at.is_none());
    let first = intent(&mut held, "a");
    assert!(is_done(commit(bed, first)));
    assert!(approval(bed, held.key(), "a").used_at.is_some());
    let again = intent(&mut held, "a");
    assert_eq!(commit(bed, again), refused("a"));
}

fn a_repeat_stands_on_a_used_decision(bed: &Bed) {
    let mut held = approved(bed);
    let step = calls(2, "a", 2);
    // A repeat of what never went out first is none.
    let early = Transition {
        gates: vec![gate("a", digest(), false)],
        ..Held::of(held.claimed.clone(), held.session).next(vec![step.clone()], Target::Running)
    };
    assert_eq!(commit(bed, early), refused("a"));
    let first = intent(&mut held, "a");
    assert!(is_done(commit(bed, first)));
    let used_at = approval(bed, held.key(), "a").used_at;
    let repeat =
        Transition { gates: vec![gate("a", digest(), false)], ..held.next(vec![step], Target::Running) };
    assert!(is_done(commit(bed, repeat)));
    assert_eq!(approval(bed, held.key(), "a").used_at, used_at);
}

fn is_refused(bed: &Bed, mut held: Held, call: &str) {
    let before = lines(bed, held.key());
    let row = get(bed, held.key());
    let bad = intent(&mut held, call);
    assert_eq!(commit(bed, bad), refused(call));
    assert_eq!(lines(bed, held.key()), before);
    assert_eq!(get(bed, held.key()).updated_at, row.updated_at);
    assert!(approval(bed, held.key(), call).used_at.is_none());
}

fn an_undecided_call_does_not_go_out(bed: &Bed) {
    is_refused(bed, approved(bed), "b");
}

fn a_denied_call_does_not_go_out(bed: &Bed) {
    let held = approved(bed);
    assert!(matches!(decide(bed, held.key(), "b", false), Decided::Taken { .. }));
    is_refused(bed, held, "b");
}

fn another_digest_does_not_go_out(bed: &Bed) {
    let held = approved(bed);
    let mut other = Held::of(held.claimed.clone(), held.session);
    let mut bad = intent(&mut other, "a");
    bad.gates = vec![gate("a", arguments_digest("refund", 1, "{}"), true)];
    assert_eq!(commit(bed, bad), refused("a"));
    let mut good = held;
    let intent = intent(&mut good, "a");
    assert!(is_done(commit(bed, intent)));
}

fn a_call_without_an_approval_does_not_go_out(bed: &Bed) {
    let mut held = approved(bed);
    let mut bad = intent(&mut held, "a");
    bad.gates = vec![gate("nobody", digest(), true)];
    assert_eq!(commit(bed, bad), refused("nobody"));
}

/// The decision is good only for the bytes that were shown, whoever changed them.
fn bytes_changed_in_the_database_do_not_go_out(bed: &Bed) {
    let held = approved(bed);
    let id = sql_id(bed, held.key());
    let tamper = format!("UPDATE approvals SET arguments = '{{}}' WHERE execution = {id} AND call_id = 'a'");
    assert_eq!(execute(bed, &tamper), 1);
    is_refused(bed, held, "a");
}

fn edited(bed: &Bed, arguments: &str) -> Held {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    let request = DecideRequest { arguments: Some(arguments.to_owned()), ..decision(&key, "a", true) };
    assert!(matches!(bed.store.approval_decide(&key.scope, &request).unwrap(), Decided::Taken { .. }));
    take(bed, &key)
}

fn edited_bytes_changed_in_the_database_do_not_go_out(bed: &Bed) {
    let mut held = edited(bed, r#"{"amount": 4}"#);
    let id = sql_id(bed, held.key());
    let tamper = format!("UPDATE approvals SET edited_arguments = '{{}}' WHERE execution = {id}");
    assert_eq!(execute(bed, &tamper), 1);
    let mut bad = intent(&mut held, "a");
    bad.gates = vec![gate("a", arguments_digest("refund", 1, r#"{"amount": 4}"#), true)];
    assert_eq!(commit(bed, bad), refused("a"));
}

fn edited_arguments_go_out_and_the_shown_ones_do_not(bed: &Bed) {
    let held = edited(bed, r#"{"amount": 4}"#);
    let edited = arguments_digest("refund", 1, r#"{"amount": 4}"#);
    // The journal says so to the worker that took it.
    assert_eq!(held.run.step_of_call("a").unwrap().1.gate, Some(edited.clone()));
    assert_eq!(held.run.step_of_call("a").unwrap().1.arguments, r#"{"amount": 4}"#);
    let shown = intent(&mut Held::of(held.claimed.clone(), held.session), "a");
    assert_eq!(commit(bed, shown), refused("a"));
    let mut held = held;
    let mut good = intent(&mut held, "a");
    good.gates = vec![gate("a", edited.clone(), true)];
    assert!(is_done(commit(bed, good)));
    let row = approval(bed, held.key(), "a");
    assert_eq!((row.arguments.as_str(), row.digest), (ARGUMENTS, digest()));
    assert_eq!(
        (row.edited_arguments.as_deref(), row.edited_digest),
        (Some(r#"{"amount": 4}"#), Some(edited))
    );
}

fn a_refused_gate_writes_nothing_and_harms_no_other(bed: &Bed) {
    let (mut bad, mut good, mut plain) = (approved(bed), approved(bed), Held::begin(bed.store.as_ref()));
    let before = lines(bed, bad.key());
    let mut both = bad.next(vec![calls(2, "a", 1), calls(3, "b", 1)], Target::Running);
    both.gates = vec![gate("a", digest(), true), gate("b", digest(), true)];
    let batch = [both, intent(&mut good, "a"), plain.step()];
    let answers = bed.store.execution_commit(&batch).unwrap();
    assert_eq!(answers[0], refused("b"));
    assert!(is_done(answers[1].clone()) && is_done(answers[2].clone()), "{answers:?}");
    assert_eq!(lines(bed, bad.key()), before);
    // The gate that would have opened is not used up.
    assert!(approval(bed, bad.key(), "a").used_at.is_none());
}

fn a_question_asked_again_forgets_the_decision(bed: &Bed) {
    let mut held = approved(bed);
    let asked = requested(&Asked::open("a"), 2);
    let mut again = held.next(vec![asked], Target::Running);
    let close = ApprovalChange::Close { call_id: "a".to_owned(), status: ApprovalStatus::DigestMismatch };
    again.approvals.insert(0, close);
    assert!(is_done(commit(bed, again)));
    let row = approval(bed, held.key(), "a");
    assert_eq!((row.status, row.decided_by, row.decided_at), (ApprovalStatus::Pending, None, None));
    is_refused(bed, held, "a");
}

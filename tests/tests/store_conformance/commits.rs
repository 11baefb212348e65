//! `execution_commit`: the guards, the ends, and the acts that come while it happens.

use holdpoint_db::*;
use holdpoint_engine::entry::{Entry, ExecutionFailed, MessageDelta, Usage};
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::status::{ApprovalStatus, ErrorType, Failure, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    steps_keep_the_lease;
    an_end_writes_output_and_usage;
    a_failure_keeps_its_error;
    another_session_is_fenced;
    another_epoch_is_fenced;
    another_seq_is_fenced;
    an_unknown_execution_is_fenced;
    terminal_is_terminal;
    what_landed_is_done_when_it_is_sent_again;
    what_landed_with_the_end_is_done_when_it_is_sent_again;
    a_fenced_item_harms_no_other;
    a_suspension_gives_the_lease_back;
    a_suspension_with_a_time_goes_on_by_itself;
    an_act_between_claim_and_suspension_keeps_the_lease;
    an_act_does_not_undo_results;
    an_act_is_no_obstacle_to_the_end;
    journaled_acts_leave_the_inbox;
    deltas_are_events_but_not_loaded;
    an_end_closes_its_approvals;
}

fn steps_keep_the_lease(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    for _ in 0..3 {
        assert_eq!(commit(bed, held.step()), KEPT);
    }
    assert_eq!(kinds(bed, held.key()), ["execution.started", "model.called", "model.called"]);
    let row = get(bed, held.key());
    assert_eq!((row.status, row.last_event), (Status::Running, 1));
    assert!(!is_claimable(bed, held.key()));
}

fn an_end_writes_output_and_usage(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    assert_eq!(commit(bed, held.step()), KEPT);
    assert_eq!(commit(bed, held.complete()), FREED);
    let row = get(bed, held.key());
    assert_eq!((row.status, row.reason, row.output.as_deref()), (Status::Completed, None, Some("\"done\"")));
    assert_eq!(row.usage, Usage { input_tokens: 1, output_tokens: 2, cost_micros: 3 });
    assert!(row.finished_at.unwrap() >= row.created_at && row.error.is_none());
    assert!(!is_claimable(bed, held.key()));
}

fn failed() -> (Entry, Target) {
    let error = Failure::new(ErrorType::Network, "no route");
    let entry = Entry::ExecutionFailed(ExecutionFailed { reason: Reason::Network, error: error.clone() });
    let ending = Ending {
        active_agent: None,
        status: Status::Failed,
        reason: Some(Reason::Network),
        error: Some(error),
        output: None,
        messages: Vec::new(),
    };
    (entry, Target::Ended(ending))
}

fn a_failure_keeps_its_error(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    let (entry, target) = failed();
    let end = held.next(vec![entry], target);
    assert_eq!(commit(bed, end), FREED);
    let row = get(bed, held.key());
    assert_eq!((row.status, row.reason), (Status::Failed, Some(Reason::Network)));
    assert_eq!(row.error, Some(Failure::new(ErrorType::Network, "no route")));
    assert!(row.finished_at.is_some());
}

/// Changes one thing about a good transition: it must be fenced and write nothing, and the
/// good one must land after it.
fn is_fenced(bed: &Bed, change: impl Fn(&mut Transition)) {
    let mut held = Held::begin(bed.store.as_ref());
    assert_eq!(commit(bed, held.step()), KEPT);
    for end in [false, true] {
        let good = if end { held.complete() } else { held.step() };
        let mut bad = good.clone();
        change(&mut bad);
        let before = lines(bed, held.key());
        assert_eq!(commit(bed, bad), Committed::Fenced);
        assert_eq!(lines(bed, held.key()), before);
        assert_eq!(get(bed, held.key()).status, Status::Running);
        assert!(matches!(commit(bed, good), Committed::Done { .. }));
    }
}

fn another_session_is_fenced(bed: &Bed) {
    let other = session(bed.store.as_ref());
    is_fenced(bed, |bad| bad.session = other);
    is_fenced(bed, |bad| bad.session = SessionId(Uuid::now_v7()));
}

fn another_epoch_is_fenced(bed: &Bed) {
    is_fenced(bed, |bad| bad.epoch -= 1);
    is_fenced(bed, |bad| bad.epoch += 1);
}

fn another_seq_is_fenced(bed: &Bed) {
    let shift = |by: i64| {
        move |bad: &mut Transition| {
            bad.expected_seq += by;
            for line in &mut bad.lines {
                line.seq += by;
            }
        }
    };
    is_fenced(bed, shift(1));
    is_fenced(bed, shift(-1));
}

fn an_unknown_execution_is_fenced(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    let mut step = held.step();
    step.key = key();
    assert_eq!(commit(bed, step.clone()), Committed::Fenced);
    step.key = held.key().clone();
    step.key.scope = stranger();
    assert_eq!(commit(bed, step), Committed::Fenced);
}

fn terminal_is_terminal(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    let late = held.step();
    let mut again = Held::of(held.claimed.clone(), held.session);
    assert_eq!(commit(bed, again.complete()), FREED);
    let key = held.key().clone();
    let before = (get(bed, &key), lines(bed, &key));
    assert_eq!(commit(bed, late), Committed::Fenced);
    assert_eq!(commit(bed, held.complete()), Committed::Fenced);
    for request in [ActRequest::Cancel, ActRequest::Pause, ActRequest::Resume] {
        assert!(
            matches!(act(bed, &key, &request), Err(ActError::Terminal(Status::Completed))),
            "{request:?}"
        );
    }
    assert_eq!(store.stale_expire(&key, None).unwrap(), Swept::Skipped);
    assert_eq!(store.lease_reclaim(&key, 4).unwrap(), Swept::Skipped);
    store.execution_release(held.session, std::slice::from_ref(&key)).unwrap();
    store.session_end(held.session).unwrap();
    assert!(!is_claimable(bed, &key));
    let after = (get(bed, &key), lines(bed, &key));
    assert_eq!(
        (before.0.status, before.0.finished_at, before.1),
        (after.0.status, after.0.finished_at, after.1)
    );
}

/// The first answer was lost with its connection: the same transition again is done, once.
fn what_landed_is_done_when_it_is_sent_again(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    let step = held.step();
    assert_eq!(commit(bed, step.clone()), KEPT);
    assert_eq!(commit(bed, step.clone()), KEPT);
    assert_eq!(lines(bed, held.key()).len(), 1);
    assert_eq!(commit(bed, held.step()), KEPT);
    // Overtaken by a later one of its own: it says nothing new, and must write nothing.
    commit(bed, step);
    assert_eq!(lines(bed, held.key()).len(), 2);
}

fn what_landed_with_the_end_is_done_when_it_is_sent_again(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    let end = held.complete();
    assert_eq!(commit(bed, end.clone()), FREED);
    assert_eq!(commit(bed, end), FREED);
    let mut held = Held::begin(bed.store.as_ref());
    let ask = held.ask(&[Asked::open("a")]);
    assert_eq!(commit(bed, ask.clone()), FREED);
    assert_eq!(commit(bed, ask), FREED);
    assert_eq!(lines(bed, held.key()).len(), 5);
}

fn a_fenced_item_harms_no_other(bed: &Bed) {
    let store = bed.store.as_ref();
    let (mut first, mut bad, mut last) = (Held::begin(store), Held::begin(store), Held::begin(store));
    let mut fenced = bad.step();
    fenced.epoch += 7;
    let batch = [first.step(), fenced, last.complete()];
    assert_eq!(store.execution_commit(&batch).unwrap(), [KEPT, Committed::Fenced, FREED]);
    assert!(store.execution_commit(&[]).unwrap().is_empty());
}

fn a_suspension_gives_the_lease_back(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a"), Asked::open("b")]);
    let row = get(bed, &key);
    assert_eq!(
        (row.status, row.reason, row.pending_approvals),
        (Status::Suspended, Some(Reason::Approval), 2)
    );
    assert_eq!(row.usage.cost_micros, 3);
    assert!(row.finished_at.is_none());
    assert!(!is_claimable(bed, &key));
}

fn suspended(held: &mut Held, reason: Reason, ready_at: Option<Timestamp>) -> Transition {
    held.next(vec![started()], Target::Suspended { reason, ready_at })
}

fn a_suspension_with_a_time_goes_on_by_itself(bed: &Bed) {
    let store = bed.store.as_ref();
    let now = store.now().unwrap();
    let mut later = Held::begin(store);
    let hour = now.plus(std::time::Duration::from_secs(3600));
    let wait = suspended(&mut later, Reason::Retry, Some(hour));
    assert_eq!(commit(bed, wait), FREED);
    let mut due = Held::begin(store);
    let wait = suspended(&mut due, Reason::Retry, Some(now));
    assert_eq!(commit(bed, wait), FREED);
    let select = SweepSelect::Unclaimed { since: std::time::Duration::ZERO, of: Unclaimed::Retries };
    assert_eq!(store.sweep_select(&select, 10).unwrap(), [due.key().clone()]);
    assert!(!is_claimable(bed, later.key()));
    assert!(is_claimable(bed, due.key()));
}

fn an_act_between_claim_and_suspension_keeps_the_lease(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    let acted = act(bed, held.key(), &ActRequest::Pause).unwrap();
    assert_eq!((acted.tell, acted.new_event), (Tell::Holder(held.session), None));
    let ask = held.ask(&[Asked::open("a")]);
    assert_eq!(commit(bed, ask.clone()), Committed::Done { wake: 1, released: false });
    assert_eq!(get(bed, held.key()).status, Status::Running);
    assert!(!is_claimable(bed, held.key()));
    let inbox = store.inbox_read(std::slice::from_ref(held.key())).unwrap();
    assert_eq!((inbox[0].wake, inbox[0].acts.len(), inbox[0].acts[0].0), (1, 1, 1));
    // The results are there all the same, and the question is open.
    assert_eq!((lines(bed, held.key()).len(), get(bed, held.key()).pending_approvals), (5, 1));
    // Sent again after a lost connection, it says the same.
    assert_eq!(commit(bed, ask), Committed::Done { wake: 1, released: false });
}

fn an_act_does_not_undo_results(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    act(bed, held.key(), &ActRequest::Cancel).unwrap();
    assert_eq!(commit(bed, held.step()), Committed::Done { wake: 1, released: false });
    assert_eq!(lines(bed, held.key()).len(), 1);
}

fn an_act_is_no_obstacle_to_the_end(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    act(bed, held.key(), &ActRequest::Cancel).unwrap();
    assert_eq!(commit(bed, held.complete()), Committed::Done { wake: 1, released: true });
    assert_eq!(get(bed, held.key()).status, Status::Completed);
    let inbox = store.inbox_read(std::slice::from_ref(held.key())).unwrap();
    assert!(inbox.iter().all(|one| one.acts.is_empty()), "{inbox:?}");
}

fn journaled_acts_leave_the_inbox(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    for request in [ActRequest::Pause, ActRequest::Resume, ActRequest::Pause] {
        act(bed, held.key(), &request).unwrap();
    }
    let inbox = |held: &Held| {
        let inbox = store.inbox_read(std::slice::from_ref(held.key())).unwrap().remove(0);
        (inbox.wake, inbox.acts.iter().map(|(n, _)| *n).collect::<Vec<_>>())
    };
    assert_eq!(inbox(&held), (3, vec![1, 2, 3]));
    let mut step = held.step();
    (step.seen_wake, step.acts_taken) = (2, vec![1, 2]);
    assert_eq!(commit(bed, step), Committed::Done { wake: 3, released: false });
    assert_eq!(inbox(&held), (3, vec![3]));
    // A successor finds what is left.
    store.session_end(held.session).unwrap();
    let next = take(bed, held.key());
    assert_eq!((next.claimed.wake, next.claimed.acts.len(), next.claimed.acts[0].0), (3, 1, 3));
}

fn deltas_are_events_but_not_loaded(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    let delta = |text: &str| {
        Entry::MessageDelta(MessageDelta { step: 1, text: text.to_owned(), ..MessageDelta::default() })
    };
    let lines = held.next(vec![started(), called(1), delta("a"), delta("b")], Target::Running);
    assert_eq!(commit(bed, lines), KEPT);
    let row = store.execution_reload(held.key(), held.session, 1).unwrap().unwrap();
    assert_eq!((row.seq, row.event, row.lines.len()), (4, 3, 2));
    assert_eq!(store.journal_read(&scope(), held.key().id).unwrap().unwrap().len(), 2);
    let request = EventsRequest { key: held.key().clone(), after: 1, limit: 10 };
    let page = store.events_read(&[request]).unwrap().remove(0);
    assert_eq!(page.lines.iter().map(|line| line.event.unwrap()).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(page.lines[1].payload, r#"{"step":1,"text":"b"}"#);
}

fn an_end_closes_its_approvals(bed: &Bed) {
    let store = bed.store.as_ref();
    let key = waiting(store, start(), &[Asked::open("a"), Asked::open("b")]);
    approve(bed, &key, "a");
    let mut held = take(bed, &key);
    let (entry, target) = failed();
    let mut end = held.next(vec![entry], target);
    let close =
        |call: &str| ApprovalChange::Close { call_id: call.to_owned(), status: ApprovalStatus::Cancelled };
    // A decision that was made stays what it was.
    end.approvals = vec![close("a"), close("b")];
    assert!(matches!(commit(bed, end), Committed::Done { released: true, .. }));
    assert_eq!(approval(bed, &key, "a").status, ApprovalStatus::Approved);
    assert_eq!(approval(bed, &key, "b").status, ApprovalStatus::Cancelled);
    assert_eq!(get(bed, &key).pending_approvals, 0);
}

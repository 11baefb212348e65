//! Signals, and the reports of workers elsewhere: judged by the journal and by what lies in the
//! inbox.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::definition::Retry;
use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{Entry, QueueTerms, TaskPublished, ToolCalled};
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::run::StepState;
use holdpoint_engine::status::{EffectClass, ErrorType, Failure, Reason, Status};
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    a_signal_is_kept_and_makes_it_ready;
    a_signal_to_a_held_one_is_told_its_holder_once;
    another_signal_under_an_id_is_refused;
    no_more_signals_come_than_may;
    a_delayed_one_does_not_begin_by_a_signal;
    a_paused_one_stays_paused;
    an_ended_one_takes_no_signal;
    a_done_task_is_done_once;
    a_failed_task_is_tried_again_or_fails;
    what_is_no_task_has_no_report;
    a_heartbeat_moves_the_end_of_patience;
    a_report_may_come_before_its_line;
    a_report_is_told_so_after_the_end;
}

fn signal(id: Option<&str>) -> ActRequest {
    let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"paid","data":{"a": 1.50}}"#;
    ActRequest::Signal {
        name: "paid".to_owned(),
        id: id.map(str::to_owned),
        event: event.to_owned(),
        limit: 3,
    }
}

fn a_signal_is_kept_and_makes_it_ready(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    assert!(!is_claimable(bed, &key));
    let acted = act(bed, &key, &signal(Some("e1"))).unwrap();
    assert_eq!((acted.status, acted.tell), (Status::Suspended, Tell::Workers));
    let last = lines(bed, &key).pop().unwrap();
    assert_eq!((last.kind.as_str(), last.event), ("signal.received", None));
    assert!(last.payload.contains(r#"{"a": 1.50}"#), "its bytes are as they came: {}", last.payload);
    let again = act(bed, &key, &signal(Some("e1"))).unwrap();
    assert_eq!(again.tell, Tell::Nobody);
    act(bed, &key, &signal(None)).unwrap();
    let held = take(bed, &key);
    assert_eq!(held.run.signals.len(), 2);
}

fn a_signal_to_a_held_one_is_told_its_holder_once(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let acted = act(bed, held.key(), &signal(Some("e1"))).unwrap();
    assert_eq!(acted.tell, Tell::Holder(held.session));
    let again = act(bed, held.key(), &signal(Some("e1"))).unwrap();
    assert_eq!((again.status, again.tell), (Status::Running, Tell::Nobody));
    let inbox = bed.store.inbox_read(std::slice::from_ref(held.key())).unwrap();
    assert!(matches!(&inbox[0].acts[..], [(1, Act::Signal(signal))] if signal.by == "key_person"));
}

fn another_signal_under_an_id_is_refused(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let key = create(bed.store.as_ref(), start());
    let made = |name: &str, text: &str| ActRequest::Signal {
        name: name.to_owned(),
        id: Some("key:order-1".to_owned()),
        event: text.to_owned(),
        limit: 1,
    };
    for key in [held.key(), &key] {
        act(bed, key, &made("paid", r#"{"id":"1","data":{"a":1,"b":[2]}}"#)).unwrap();
        // The event around the data is made anew each time.
        act(bed, key, &made("paid", r#"{"id":"2","data":{"b": [2],"a": 1}}"#)).unwrap();
        for other in [
            made("shipped", r#"{"id":"1","data":{"a":1,"b":[2]}}"#),
            made("paid", r#"{"id":"1","data":{"a":2,"b":[2]}}"#),
            made("paid", r#"{"id":"1"}"#),
        ] {
            let refused = act(bed, key, &other);
            let told = matches!(&refused, Err(ActError::Refused(Refusal::SignalMismatch { name })) if name == "paid");
            assert!(told, "{refused:?}");
        }
    }
    assert_eq!(take(bed, &key).run.signals.len(), 1);
}

fn no_more_signals_come_than_may(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let key = create(bed.store.as_ref(), start());
    for key in [held.key(), &key] {
        for id in ["e1", "e2", "e3"] {
            act(bed, key, &signal(Some(id))).unwrap();
        }
        let refused = act(bed, key, &signal(None));
        assert!(
            matches!(refused, Err(ActError::Refused(Refusal::TooManySignals { limit: 3 }))),
            "{refused:?}"
        );
        act(bed, key, &signal(Some("e2"))).unwrap();
    }
}

fn a_delayed_one_does_not_begin_by_a_signal(bed: &Bed) {
    let delay = Some(Duration::from_secs(3600));
    let key = create(bed.store.as_ref(), NewExecution { delay, ..start() });
    let acted = act(bed, &key, &signal(None)).unwrap();
    assert_eq!(acted.status, Status::Queued);
    assert!(!is_claimable(bed, &key));
    let ready = create(bed.store.as_ref(), start());
    act(bed, &ready, &signal(None)).unwrap();
    assert_eq!(take(bed, &ready).run.signals.len(), 1);
}

fn a_paused_one_stays_paused(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    act(bed, &key, &ActRequest::Pause).unwrap();
    act(bed, &key, &signal(None)).unwrap();
    assert_eq!(get(bed, &key).reason, Some(Reason::Paused));
    assert!(!is_claimable(bed, &key));
    act(bed, &key, &ActRequest::Resume).unwrap();
    assert_eq!(take(bed, &key).run.signals.len(), 1);
}

fn an_ended_one_takes_no_signal(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    act(bed, &key, &ActRequest::Cancel).unwrap();
    assert!(matches!(act(bed, &key, &signal(None)), Err(ActError::Terminal(Status::Cancelled))));
}

fn terms(heartbeat: Option<u64>) -> QueueTerms {
    QueueTerms {
        name: "work".to_owned(),
        heartbeat: heartbeat.map(Span::secs),
        class: EffectClass::Idempotent,
        retry: Retry::default(),
    }
}

fn give_out(attempt: u32, heartbeat: Option<u64>) -> Entry {
    let Entry::ToolCalled(called) = calls(2, "a", attempt) else { panic!("a call") };
    Entry::ToolCalled(ToolCalled { queue: Some(terms(heartbeat)), ..called })
}

fn approved(bed: &Bed) -> Held {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    approve(bed, &key, "a");
    take(bed, &key)
}

/// Suspended while a worker elsewhere is at step 2.
fn given_out(bed: &Bed, heartbeat: Option<u64>, due: Option<Timestamp>) -> ExecutionKey {
    let mut held = approved(bed);
    let published = Entry::TaskPublished(TaskPublished { step: 2, attempt: 1, due });
    let target = Target::Suspended { reason: Reason::Signal, ready_at: None };
    let transition = held.next(vec![give_out(1, heartbeat), published], target);
    assert!(matches!(commit(bed, transition), Committed::Done { released: true, .. }));
    held.key().clone()
}

fn report(attempt: Option<u32>, outcome: Result<&str, ErrorType>) -> ActRequest {
    let outcome = match outcome {
        Ok(output) => Ok(output.to_owned()),
        Err(kind) => Err(Failure::new(kind, "no luck")),
    };
    ActRequest::Report { step: 2, attempt, outcome }
}

fn refused(bed: &Bed, key: &ExecutionKey, request: &ActRequest) -> Refusal {
    match act(bed, key, request) {
        Err(ActError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

const DONE: Refusal = Refusal::TaskDone { step: 2, attempt: 1 };
const CONFLICT: Refusal = Refusal::TaskConflict { step: 2, attempt: 1 };

fn a_done_task_is_done_once(bed: &Bed) {
    let key = given_out(bed, None, None);
    assert_eq!(refused(bed, &key, &report(Some(2), Ok("7"))), CONFLICT);
    let acted = act(bed, &key, &report(Some(1), Ok(r#"{"n": 7}"#))).unwrap();
    assert_eq!(acted.tell, Tell::Workers);
    assert_eq!(last_kind(bed, &key), "tool.completed");
    assert_eq!(refused(bed, &key, &report(None, Ok(r#"{"n": 7}"#))), DONE);
    assert_eq!(refused(bed, &key, &report(None, Ok("8"))), CONFLICT);
    assert_eq!(refused(bed, &key, &report(None, Err(ErrorType::Logic))), CONFLICT);
    assert!(take(bed, &key).run.steps[&2].is_done());
}

fn a_failed_task_is_tried_again_or_fails(bed: &Bed) {
    let key = given_out(bed, None, None);
    act(bed, &key, &report(Some(1), Err(ErrorType::Network))).unwrap();
    assert_eq!(last_kind(bed, &key), "attempt.failed");
    assert_eq!(refused(bed, &key, &report(Some(1), Err(ErrorType::Network))), DONE);
    assert_eq!(refused(bed, &key, &report(Some(1), Ok("7"))), CONFLICT);
    assert!(matches!(take(bed, &key).run.steps[&2].state, StepState::Retrying { .. }));
    let key = given_out(bed, None, None);
    act(bed, &key, &report(None, Err(ErrorType::Logic))).unwrap();
    assert_eq!(last_kind(bed, &key), "tool.failed");
    assert_eq!(refused(bed, &key, &report(None, Err(ErrorType::Logic))), DONE);
}

fn what_is_no_task_has_no_report(bed: &Bed) {
    let mut held = approved(bed);
    let call = held.next(vec![calls(2, "a", 1)], Target::Running);
    commit(bed, call);
    assert_eq!(refused(bed, held.key(), &report(None, Ok("7"))), Refusal::NoTask { step: 2 });
    let beat = ActRequest::Heartbeat { step: 9, attempt: None };
    assert_eq!(refused(bed, held.key(), &beat), Refusal::NoTask { step: 9 });
}

fn a_heartbeat_moves_the_end_of_patience(bed: &Bed) {
    let beat = |attempt| ActRequest::Heartbeat { step: 2, attempt };
    let due = |key: &ExecutionKey| {
        let lines = lines(bed, key);
        let row = get(bed, key);
        let run = holdpoint_engine::run::Run::fold(&lines, lines.len() as i64, row.last_event).unwrap();
        match run.steps[&2].state {
            StepState::Awaiting { due } => due.unwrap(),
            _ => panic!("{:?}", run.steps[&2]),
        }
    };
    let key = given_out(bed, Some(3600), Some(long_ago(0)));
    let acted = act(bed, &key, &beat(Some(1))).unwrap();
    assert_eq!((acted.status, acted.tell), (Status::Suspended, Tell::Nobody));
    let moved = due(&key);
    assert!(moved > bed.store.now().unwrap().plus(Duration::from_secs(3000)), "{moved}");
    // Nobody has to look at it, and the next one is too soon for a line.
    assert!(!is_claimable(bed, &key));
    let before = lines(bed, &key).len();
    act(bed, &key, &beat(None)).unwrap();
    assert_eq!(lines(bed, &key).len(), before);
    assert_eq!(refused(bed, &key, &beat(Some(2))), CONFLICT);
    act(bed, &key, &report(None, Ok("7"))).unwrap();
    assert_eq!(refused(bed, &key, &beat(Some(1))), CONFLICT);
}

fn a_report_may_come_before_its_line(bed: &Bed) {
    let mut held = approved(bed);
    let intent = held.next(vec![give_out(1, None)], Target::Running);
    commit(bed, intent);
    let acted = act(bed, held.key(), &report(None, Ok("7"))).unwrap();
    assert_eq!(acted.tell, Tell::Holder(held.session));
    // What lies in the inbox counts.
    assert_eq!(refused(bed, held.key(), &report(None, Ok("7"))), DONE);
    assert_eq!(refused(bed, held.key(), &report(None, Ok("8"))), CONFLICT);
    let inbox = bed.store.inbox_read(std::slice::from_ref(held.key())).unwrap();
    assert_eq!(inbox[0].acts.len(), 1);
}

fn a_report_is_told_so_after_the_end(bed: &Bed) {
    let key = given_out(bed, None, None);
    act(bed, &key, &report(None, Ok("7"))).unwrap();
    act(bed, &key, &ActRequest::Cancel).unwrap();
    assert_eq!(refused(bed, &key, &report(None, Ok("7"))), DONE);
    assert_eq!(refused(bed, &key, &report(None, Ok("8"))), CONFLICT);
    let open = given_out(bed, None, None);
    act(bed, &open, &ActRequest::Cancel).unwrap();
    let late = act(bed, &open, &report(None, Ok("7")));
    assert!(matches!(late, Err(ActError::Terminal(Status::Cancelled))), "{late:?}");
}

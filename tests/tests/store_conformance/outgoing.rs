//! What is still to be sent is noted with the lines, and only for whoever wants it.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::entry::{Entry, EventEmitted};
use holdpoint_engine::ids::{EventId, SessionId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ErrorType, Reason, Status};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::poll::{SOON, until_blocking};
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    nothing_is_noted_where_nobody_wants_it;
    lines_that_are_told_are_noted_with_them;
    an_emitted_event_leaves_as_it_is;
    acts_from_outside_are_noted_too;
    what_did_not_land_is_not_noted;
    what_was_sent_is_removed_and_nothing_else;
    an_end_is_told_to_whoever_asked;
    one_sends_at_a_time;
    a_backlog_is_counted;
}

fn enable(bed: &Bed, scope: &Scope) {
    bed.store.event_settings_put(scope, EventSettings { exchange: true }, "key_test").unwrap();
}

fn due(bed: &Bed) -> Vec<OutgoingEvent> {
    bed.store.outgoing_events(Channel::Exchange, 100).unwrap()
}

fn told(bed: &Bed, key: &ExecutionKey) -> Vec<&'static str> {
    due(bed).iter().filter(|event| event.row.key == *key).map(|event| event.kind.line).collect()
}

fn nothing_is_noted_where_nobody_wants_it(bed: &Bed) {
    assert!(!bed.store.event_settings(&scope()).unwrap().exchange);
    enable(bed, &stranger());
    let mut held = Held::begin(bed.store.as_ref());
    let (step, end) = (held.step(), held.complete());
    commit(bed, step);
    commit(bed, end);
    assert!(due(bed).is_empty());
    enable(bed, &scope());
    assert!(bed.store.event_settings(&scope()).unwrap().exchange);
    bed.store.event_settings_put(&scope(), EventSettings { exchange: false }, "key_test").unwrap();
    let mut held = Held::begin(bed.store.as_ref());
    let step = held.step();
    commit(bed, step);
    assert!(due(bed).is_empty());
}

fn lines_that_are_told_are_noted_with_them(bed: &Bed) {
    enable(bed, &scope());
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("c1")]);
    let events = due(bed);
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.line).collect();
    assert_eq!(kinds, ["execution.started", "approval.requested", "execution.suspended"]);
    let lines = lines(bed, &key);
    for event in &events {
        let line = lines.iter().find(|line| line.seq == event.row.seq).unwrap();
        let Sent::Lifecycle(data) = &event.what else { panic!("{:?} tells of no lifecycle", event.row) };
        assert_eq!((line.kind.as_str(), line.event), (event.kind.line, Some(data.seq)));
        assert_eq!(data.data.get(), line.payload);
        assert_eq!(event.id, EventId::of(key.id, data.seq, line.at));
        assert_eq!((data.definition.name.as_str(), event.at), ("holdpoint.noop", line.at));
    }
}

fn an_emitted_event_leaves_as_it_is(bed: &Bed) {
    enable(bed, &scope());
    let text = r#"{"specversion":"1.0","id":"1","source":"/w","type":"order.paid","data":{"a": 1.50}}"#;
    let emitted = || {
        let event = serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
        Entry::EventEmitted(EventEmitted { step: 1, event })
    };
    let mut held = Held::begin(bed.store.as_ref());
    let lines = held.next(vec![started(), emitted(), emitted()], Target::Running);
    commit(bed, lines);
    let events = due(bed);
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.line).collect();
    assert_eq!(kinds, ["execution.started", "event.emitted", "event.emitted"]);
    assert_eq!((events[1].body().as_str(), events[2].body().as_str()), (text, text));
    assert_eq!(events[1].kind.routing_key(&scope()), "acme.event.emitted");
    let ids: std::collections::HashSet<_> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids.len(), 3);
}

fn acts_from_outside_are_noted_too(bed: &Bed) {
    enable(bed, &scope());
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    let step = held.step();
    commit(bed, step);
    expire(store, held.session);
    store.lease_reclaim(held.key(), 3).unwrap();
    for _ in 0..2 {
        let session = session(store);
        assert_eq!(claim_any(store, session, 10).len(), 1);
        expire(store, session);
        store.lease_reclaim(held.key(), 3).unwrap();
    }
    assert_eq!(get(bed, held.key()).reason, Some(Reason::Stuck));
    assert_eq!(told(bed, held.key()), ["execution.started", "execution.failed"]);
    let decided = waiting(store, start(), &[Asked::open("c1")]);
    store.approval_decide(&decided.scope, &decision(&decided, "c1", true)).unwrap();
    assert_eq!(told(bed, &decided)[3..], ["approval.decided"]);
    let cancelled = waiting(store, start(), &[Asked::open("c1")]);
    store.execution_act(&cancelled.scope, cancelled.id, &ActRequest::Cancel, "key_test", None).unwrap();
    assert_eq!(told(bed, &cancelled)[3..], ["approval.closed", "execution.cancelled"]);
    let stale = waiting(store, start(), &[Asked::expired("c1", 5)]);
    store.stale_expire(&stale, None).unwrap();
    assert_eq!(told(bed, &stale)[3..], ["approval.closed", "execution.failed"]);
}

fn what_did_not_land_is_not_noted(bed: &Bed) {
    enable(bed, &scope());
    let mut held = Held::begin(bed.store.as_ref());
    let step = held.step();
    let fenced = Transition { epoch: step.epoch + 1, ..step.clone() };
    assert_eq!(commit(bed, fenced), Committed::Fenced);
    assert!(due(bed).is_empty());
    commit(bed, step.clone());
    assert_eq!(commit(bed, step), KEPT, "it landed before");
    assert_eq!(told(bed, held.key()), ["execution.started"]);
}

fn what_was_sent_is_removed_and_nothing_else(bed: &Bed) {
    enable(bed, &scope());
    let one = waiting(bed.store.as_ref(), start(), &[Asked::open("c1")]);
    let other = waiting(bed.store.as_ref(), start(), &[Asked::open("c1")]);
    let events = due(bed);
    assert!(events.windows(2).all(|two| two[0].row.key != two[1].row.key || two[0].row.seq < two[1].row.seq));
    let first = events.iter().find(|event| event.row.key == one).unwrap().row.clone();
    bed.store.outgoing_remove(Channel::Webhooks, &[first.clone()]).unwrap();
    assert_eq!(due(bed).len(), 6, "another channel's");
    bed.store.outgoing_remove(Channel::Exchange, &[first.clone(), first]).unwrap();
    assert_eq!(told(bed, &one), ["approval.requested", "execution.suspended"]);
    assert_eq!(told(bed, &other).len(), 3);
    assert_eq!(bed.store.outgoing_events(Channel::Exchange, 2).unwrap().len(), 2);
}

fn asking(queue: &str) -> NewExecution {
    let reply = Some(ReplyTo { queue: queue.to_owned(), correlation_id: Some("7".to_owned()) });
    NewExecution { extras: Extras { reply, ..Extras::default() }, ..start() }
}

fn an_end_is_told_to_whoever_asked(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin_with(store, asking("q1"));
    let (step, end) = (held.step(), held.complete());
    commit(bed, step);
    assert!(store.outgoing_replies(10).unwrap().is_empty());
    commit(bed, end);
    let reply = store.outgoing_replies(10).unwrap().remove(0);
    assert_eq!((&reply.row.key, reply.to.queue.as_str()), (held.key(), "q1"));
    assert_eq!(reply.to.correlation_id.as_deref(), Some("7"));
    assert_eq!((reply.data.status, reply.data.output.unwrap().get()), (Status::Completed, "\"done\""));
    assert!(due(bed).is_empty(), "nobody wants the events");
    store.outgoing_remove(Channel::Reply, &[reply.row]).unwrap();
    let stale = waiting(store, asking("q2"), &[Asked::expired("c1", 5)]);
    assert!(store.outgoing_replies(10).unwrap().is_empty());
    store.stale_expire(&stale, None).unwrap();
    let reply = store.outgoing_replies(10).unwrap().remove(0);
    assert_eq!((reply.row.key, reply.to.queue.as_str()), (stale, "q2"));
    assert_eq!((reply.data.status, reply.data.reason), (Status::Failed, Some(Reason::ApprovalTimeout)));
    assert_eq!(reply.data.error.unwrap().kind, ErrorType::Timeout);
}

fn one_sends_at_a_time(bed: &Bed) {
    let minute = Duration::from_secs(60);
    let (one, other) = (SessionId(Uuid::now_v7()), SessionId(Uuid::now_v7()));
    let lease = |id, length| bed.store.sender_lease(id, length).unwrap();
    let epoch = lease(one, minute).unwrap();
    assert_eq!(lease(one, minute), Some(epoch), "extended");
    assert_eq!(lease(other, minute), None);
    assert_eq!(lease(one, Duration::ZERO), Some(epoch), "given back");
    assert_eq!(lease(other, minute), Some(epoch + 1));
    assert_eq!(lease(one, minute), None);
}

fn a_backlog_is_counted(bed: &Bed) {
    let backlog = || bed.store.stats().unwrap().outgoing;
    assert!(backlog().iter().all(|one| one.rows == 0 && one.oldest.is_none()));
    assert_eq!(backlog().len(), 3);
    enable(bed, &scope());
    waiting(bed.store.as_ref(), start(), &[Asked::open("c1")]);
    let exchange = backlog().into_iter().find(|one| one.channel == Channel::Exchange).unwrap();
    assert_eq!((exchange.rows, exchange.oldest.is_some()), (3, true));
}

/// Every process follows a change, although it remembers who wants events.
#[test]
fn another_process_follows_within_its_memory() {
    let bed = Bed::postgres();
    let other = open_store(&bed.settings);
    let tell = |entries: usize| {
        let mut held = Held::begin(other.as_ref());
        let step = held.step();
        other.execution_commit(&[step]).unwrap();
        (due(&bed).len() == entries).then_some(())
    };
    assert!(tell(0).is_some());
    enable(&bed, &scope());
    let mut held = Held::begin(bed.store.as_ref());
    let step = held.step();
    commit(&bed, step);
    assert_eq!(told(&bed, held.key()), ["execution.started"], "the process that changed it at once");
    until_blocking("the other process follows", SOON, || {
        tell(2).or_else(|| (due(&bed).len() > 1).then_some(()))
    });
}

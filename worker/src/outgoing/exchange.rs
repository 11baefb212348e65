//! Lifecycle events for the broker's exchange.

use std::collections::HashSet;

use holdpoint_db::{Channel, OutgoingEvent, OutgoingKey, failpoint};
use holdpoint_engine::lifecycle::CLOUD_EVENT;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_queue::{Outgoing, Route};

use super::{BATCH, Pass, Sender};

/// Sends the events that are due, wave by wave; what was confirmed is removed.
pub(super) async fn pass(sender: &Sender) -> Pass {
    let worker = &sender.worker;
    let due = worker.db.read(|store| store.outgoing_events(Channel::Exchange, BATCH)).await;
    let due = match due.and_then(|due| due) {
        Ok(due) if due.is_empty() => return Pass::Done,
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "events that are due cannot be read");
            return Pass::Failed;
        }
    };
    let count = due.len();
    let sent = send(sender, due).await;
    if !sent.is_empty() {
        failpoint::hit("worker.events.sent");
    }
    worker.metrics.events_sent.with_label_values(&[Channel::Exchange.as_str()]).inc_by(sent.len() as u64);
    let all_sent = sent.len() == count;
    let removed = worker.db.hot(move |store| store.outgoing_remove(Channel::Exchange, &sent)).await;
    match removed.and_then(|removed| removed) {
        Ok(()) if all_sent => Pass::More,
        Ok(()) => Pass::Failed,
        Err(error) => {
            tracing::warn!(%error, "events that were sent cannot be removed, and will be sent again");
            Pass::Failed
        }
    }
}

/// Each wave has one event of each execution: the next one follows only when it is confirmed.
async fn send(sender: &Sender, due: Vec<OutgoingEvent>) -> Vec<OutgoingKey> {
    let mut sent = Vec::with_capacity(due.len());
    let mut failed: HashSet<ExecutionKey> = HashSet::new();
    let mut rest = due;
    while !rest.is_empty() && sender.is_sure() {
        let (wave, later) = first_of_each(rest);
        let results = sender.worker.queue.send(wave.iter().map(message).collect()).await;
        for (event, result) in wave.into_iter().zip(results) {
            match result {
                Ok(()) => sent.push(event.row),
                Err(error) => {
                    tracing::debug!(%error, event = %event.id, "an event is not sent yet");
                    failed.insert(event.row.key);
                }
            }
        }
        rest = later;
        rest.retain(|event| !failed.contains(&event.row.key));
    }
    if !failed.is_empty() {
        tracing::warn!(executions = failed.len(), "events are kept until the broker takes them");
    }
    sent
}

/// The first event of each execution, and all others, both in order.
fn first_of_each(due: Vec<OutgoingEvent>) -> (Vec<OutgoingEvent>, Vec<OutgoingEvent>) {
    let mut seen: HashSet<ExecutionKey> = HashSet::new();
    due.into_iter().partition(|event| seen.insert(event.row.key.clone()))
}

fn message(event: &OutgoingEvent) -> Outgoing {
    Outgoing {
        address: event.kind.routing_key(&event.row.key.scope),
        content_type: CLOUD_EVENT,
        ..Outgoing::new(Route::Event, event.kind.event, event.id.to_string(), event.body())
    }
}

//! The ends of executions, for the producers that asked for them.

use holdpoint_db::{Channel, OutgoingKey, OutgoingReply};
use holdpoint_engine::lifecycle::{CLOUD_EVENT, CloudEvent, FINISHED};
use holdpoint_queue::{Outgoing, Route, SendError};

use super::{BATCH, Pass, Sender};

/// Sends the replies that are due; those that were confirmed, or that nobody waits for any
/// more, are removed.
pub(super) async fn pass(sender: &Sender) -> Pass {
    let worker = &sender.worker;
    let due = worker.db.read(|store| store.outgoing_replies(BATCH)).await;
    let due = match due.and_then(|due| due) {
        Ok(due) if due.is_empty() => return Pass::Done,
        Ok(due) => due,
        Err(error) => {
            tracing::warn!(%error, "replies that are due cannot be read");
            return Pass::Failed;
        }
    };
    let results = worker.queue.send(due.iter().map(message).collect()).await;
    let all = due.len();
    let done: Vec<OutgoingKey> =
        due.into_iter().zip(results).filter_map(|(reply, result)| is_done(sender, reply, result)).collect();
    let all_done = done.len() == all;
    let removed = worker.db.hot(move |store| store.outgoing_remove(Channel::Reply, &done)).await;
    match removed.and_then(|removed| removed) {
        Ok(()) if all_done => Pass::More,
        _ => Pass::Failed,
    }
}

/// A reply whose queue is gone has nobody to read it.
fn is_done(sender: &Sender, reply: OutgoingReply, result: Result<(), SendError>) -> Option<OutgoingKey> {
    let channel = match result {
        Ok(()) => Channel::Reply.as_str(),
        Err(SendError::Unroutable) => "reply_unwanted",
        Err(error) => {
            tracing::debug!(%error, execution_id = %reply.row.key.id, "a reply is not sent yet");
            return None;
        }
    };
    sender.worker.metrics.events_sent.with_label_values(&[channel]).inc();
    Some(reply.row)
}

fn message(reply: &OutgoingReply) -> Outgoing {
    let (scope, id) = (&reply.row.key.scope, reply.row.key.id);
    let body = CloudEvent::new(reply.id, scope, FINISHED, Some(id), reply.at, &reply.data).to_json();
    Outgoing {
        address: reply.to.queue.clone(),
        correlation_id: reply.to.correlation_id.clone(),
        content_type: CLOUD_EVENT,
        ..Outgoing::new(Route::Reply, FINISHED, reply.id.to_string(), body)
    }
}

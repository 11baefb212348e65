//! Commands, events and replies: persistent and confirmed; all but events mandatory.
//!
//! One task, one channel in confirm mode, one batch in flight. lapin hands a returned message
//! to whatever confirm comes next, not to its own; so the ids of all returns of a batch are
//! collected, and only then is each message judged. A time-out says nothing about a message:
//! it may be there, or arrive later.

use std::collections::HashSet;
use std::sync::Arc;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::batch::all_by;
use super::link::{LinkError, Live, Lives, bounded};
use super::topology::MOURNING;
use super::{Core, message};
use crate::{Outgoing, Route, SendError};

/// Messages in flight; further ones wait for the next batch.
const BATCH: usize = 1_000;

/// One call of `send`.
pub(super) struct Request {
    pub messages: Vec<Outgoing>,
    pub deadline: Instant,
    pub reply: oneshot::Sender<Vec<Result<(), SendError>>>,
}

/// Publishes commands.
pub(super) struct Publisher {
    core: Arc<Core>,
    lives: Lives,
    channel: Option<(Arc<Live>, Channel)>,
}

/// What was seen of one publish.
#[derive(Debug, PartialEq)]
enum Seen {
    /// It was confirmed; a return came by the same way, of this or of another message.
    Confirmed { acked: bool, returned: Option<String> },
    /// It is more than AMQP can carry.
    Refused,
    /// It may not go where it was to go.
    Nowhere,
    /// The channel went away.
    Lost,
    /// Nothing came in time.
    Nothing,
}

impl Publisher {
    pub fn new(core: Arc<Core>, lives: Lives) -> Self {
        Self { core, lives, channel: None }
    }

    /// Publishes what is asked for; after `stop`, what was asked for before.
    pub async fn run(mut self, mut requests: mpsc::Receiver<Request>, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                first = requests.recv() => first,
                () = stop.cancelled(), if !requests.is_closed() => {
                    requests.close();
                    continue;
                }
            };
            let Some(first) = first else { return };
            self.serve(gather(first, &mut requests)).await;
        }
    }

    /// Publishes the messages of these requests as one batch, and answers each.
    async fn serve(&mut self, mut requests: Vec<Request>) {
        requests.retain(|request| !request.reply.is_closed());
        let Some(deadline) = requests.iter().map(|request| request.deadline).max() else {
            return;
        };
        let messages: Vec<_> = requests.iter().flat_map(|request| &request.messages).collect();
        let mut results = self.publish(&messages, deadline).await.into_iter();
        for request in requests {
            let own = results.by_ref().take(request.messages.len()).collect();
            let _ = request.reply.send(own);
        }
    }

    async fn publish(&mut self, messages: &[&Outgoing], deadline: Instant) -> Vec<Result<(), SendError>> {
        let begun = Instant::now();
        let seen = match timeout_at(deadline, self.ready_channel()).await {
            Ok(Ok(channel)) => {
                all_by(deadline, messages.iter().map(|one| self.publish_one(&channel, one))).await
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "no channel to publish on");
                messages.iter().map(|_| Some(Seen::Lost)).collect()
            }
            Err(_) => messages.iter().map(|_| None).collect(),
        };
        let seen: Vec<_> = seen.into_iter().map(|one| one.unwrap_or(Seen::Nothing)).collect();
        self.after(&seen, begun);
        self.judge(messages, seen)
    }

    async fn publish_one(&self, channel: &Channel, message: &Outgoing) -> Seen {
        let Some(address) = self.core.topology.address(message) else {
            return Seen::Nowhere;
        };
        let Some(properties) = message::properties(message, &address) else {
            return Seen::Refused;
        };
        let options = BasicPublishOptions { mandatory: address.mandatory, ..BasicPublishOptions::default() };
        let publishing =
            channel.basic_publish(address.exchange, address.key, options, &message.body, properties);
        let confirmed = match publishing.await {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        match confirmed {
            Ok(confirmation) => {
                let acked = confirmation.is_ack();
                Seen::Confirmed { acked, returned: returned_id(confirmation) }
            }
            Err(_) => Seen::Lost,
        }
    }

    /// The channel, made anew after a loss, once the broker takes messages.
    async fn ready_channel(&mut self) -> Result<Channel, NoChannel> {
        let live = self.lives.borrow().clone().ok_or(NoChannel::Disconnected)?;
        let lost = live.lost.clone();
        let mut blocked = live.blocked();
        tokio::select! {
            // Nothing is written while the broker blocks us: it would pile up in lapin.
            _ = blocked.wait_for(|blocked| !blocked) => {}
            () = lost.cancelled() => return Err(NoChannel::Disconnected),
        }
        match &self.channel {
            Some((on, channel)) if on.generation == live.generation && channel.status().connected() => {
                Ok(channel.clone())
            }
            _ => self.make_channel(live).await,
        }
    }

    async fn make_channel(&mut self, live: Arc<Live>) -> Result<Channel, NoChannel> {
        self.channel = None;
        let channel = live.channel().await?;
        bounded("asking for confirms", channel.confirm_select(ConfirmSelectOptions::default())).await?;
        self.channel = Some((live, channel.clone()));
        Ok(channel)
    }

    /// Leaves nothing behind that the next batch could stumble over. A connection that had
    /// its time and did not confirm is looked at, unless the broker blocks it: then it is not
    /// at fault, and a new one fares no better.
    fn after(&mut self, seen: &[Seen], begun: Instant) {
        if !seen.contains(&Seen::Nothing) {
            return;
        }
        self.channel = None;
        let had_time = begun.elapsed() >= self.core.confirm_timeout / 2;
        let live = self.lives.borrow().clone();
        if let Some(live) = live.filter(|live| had_time && !*live.blocked().borrow()) {
            tokio::spawn(async move { live.probe("no confirm in time").await });
        }
    }

    fn judge(&self, messages: &[&Outgoing], seen: Vec<Seen>) -> Vec<Result<(), SendError>> {
        let returned = returns(&seen);
        // A reply that comes back says only that its asker is gone; a task, that nobody has made
        // its queue yet.
        let theirs = |message: &Outgoing| matches!(message.route, Route::Reply | Route::Task);
        let ours = |message: &&&Outgoing| !theirs(message) && returned.contains(&message.id);
        let came_back = messages.iter().filter(ours).count();
        if came_back > 0 {
            tracing::warn!(messages = came_back, "commands came back: no queue is bound for them");
            self.restore_topology();
        }
        let judged = messages.iter().zip(seen).map(|(message, seen)| {
            let result = verdict(returned.contains(&message.id), &seen, self.core.confirm_timeout);
            if result.is_ok() {
                self.core.metrics.published(message.kind);
            }
            result
        });
        judged.collect()
    }

    /// Somebody deleted a queue: declare everything again, for the next attempt.
    fn restore_topology(&self) {
        let Some((live, _)) = &self.channel else {
            return;
        };
        let (core, live) = (self.core.clone(), live.clone());
        tokio::spawn(async move {
            tokio::time::sleep(MOURNING).await;
            if let Err(error) = core.topology.declare(&live).await {
                live.fail(format!("the topology cannot be restored: {error}"));
            }
        });
    }
}

/// Why there is no channel now.
#[derive(Debug, thiserror::Error)]
enum NoChannel {
    #[error("the broker cannot be reached")]
    Disconnected,
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// This request and what else waits, up to a batch.
fn gather(first: Request, requests: &mut mpsc::Receiver<Request>) -> Vec<Request> {
    let mut messages = first.messages.len();
    let mut batch = vec![first];
    while messages < BATCH {
        let Ok(next) = requests.try_recv() else { break };
        messages += next.messages.len();
        batch.push(next);
    }
    batch
}

fn returned_id(confirmation: Confirmation) -> Option<String> {
    let message = confirmation.take_message()?;
    message.delivery.properties.message_id().as_ref().map(ToString::to_string)
}

/// The ids of everything that came back in this batch.
fn returns(seen: &[Seen]) -> HashSet<String> {
    let id = |seen: &Seen| match seen {
        Seen::Confirmed { returned, .. } => returned.clone(),
        _ => None,
    };
    seen.iter().filter_map(id).collect()
}

fn verdict(returned: bool, seen: &Seen, limit: std::time::Duration) -> Result<(), SendError> {
    match seen {
        _ if returned => Err(SendError::Unroutable),
        Seen::Confirmed { acked: true, .. } => Ok(()),
        Seen::Nowhere => Err(SendError::Unroutable),
        Seen::Confirmed { acked: false, .. } | Seen::Refused => Err(SendError::Refused),
        Seen::Lost => Err(SendError::Disconnected),
        Seen::Nothing => Err(SendError::TimedOut(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_return_counts_for_its_own_message_whatever_confirm_it_came_with() {
        let confirmed =
            |returned: Option<&str>| Seen::Confirmed { acked: true, returned: returned.map(str::to_owned) };
        let seen = [confirmed(Some("b")), confirmed(None), confirmed(None)];
        let returned = returns(&seen);
        let limit = Duration::from_secs(1);
        let verdicts: Vec<_> = ["a", "b", "c"]
            .iter()
            .zip(&seen)
            .map(|(id, seen)| verdict(returned.contains(*id), seen, limit))
            .collect();
        assert_eq!(verdicts, [Ok(()), Err(SendError::Unroutable), Ok(())]);
    }

    #[test]
    fn each_outcome_has_its_error() {
        let limit = Duration::from_secs(1);
        let nack = Seen::Confirmed { acked: false, returned: None };
        assert_eq!(verdict(false, &nack, limit), Err(SendError::Refused));
        assert_eq!(verdict(false, &Seen::Nowhere, limit), Err(SendError::Unroutable));
        assert_eq!(verdict(false, &Seen::Lost, limit), Err(SendError::Disconnected));
        assert_eq!(verdict(false, &Seen::Nothing, limit), Err(SendError::TimedOut(limit)));
    }
}

//! Hints: written and forgotten.
//!
//! One task, one channel without confirms. What waits is written together; nothing waits for
//! more. Without a connection, or while the broker blocks it, hints are dropped and counted:
//! the database is polled anyway, and an old hint is worth nothing.

use std::sync::Arc;

use lapin::Channel;
use lapin::options::BasicPublishOptions;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::batch::all_by;
use super::link::{Live, Lives};
use super::{Core, message};
use crate::Outgoing;

/// Hints written together.
const BATCH: usize = 256;

/// Publishes hints.
pub(super) struct Hints {
    core: Arc<Core>,
    lives: Lives,
    channel: Option<(Arc<Live>, Channel)>,
}

impl Hints {
    pub fn new(core: Arc<Core>, lives: Lives) -> Self {
        Self { core, lives, channel: None }
    }

    /// Writes what comes; after `stop`, what had come before.
    pub async fn run(mut self, mut hints: mpsc::Receiver<Outgoing>, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let count = tokio::select! {
                count = hints.recv_many(&mut batch, BATCH) => count,
                () = stop.cancelled(), if !hints.is_closed() => {
                    hints.close();
                    continue;
                }
            };
            if count == 0 {
                return;
            }
            self.write(&batch).await;
            batch.clear();
        }
    }

    async fn write(&mut self, batch: &[Outgoing]) {
        let Some((live, channel)) = self.ready_channel().await else {
            return self.core.metrics.dropped(batch.len());
        };
        let deadline = Instant::now() + self.core.confirm_timeout;
        let written = all_by(deadline, batch.iter().map(|hint| self.write_one(&channel, hint))).await;
        let dropped = written.iter().filter(|one| **one != Some(true)).count();
        self.core.metrics.dropped(dropped);
        if written.contains(&None) && !*live.blocked().borrow() {
            live.fail("hints could not be written");
        }
    }

    /// Whether it was written.
    async fn write_one(&self, channel: &Channel, hint: &Outgoing) -> bool {
        let Some(address) = self.core.topology.address(hint) else {
            return false;
        };
        let Some(properties) = message::properties(hint, &address) else {
            return false;
        };
        // Not mandatory: a hint that nobody waits for is none.
        let options = BasicPublishOptions::default();
        let writing = channel.basic_publish(address.exchange, address.key, options, &hint.body, properties);
        let written = writing.await.is_ok();
        if written {
            self.core.metrics.published(hint.kind);
        }
        written
    }

    async fn ready_channel(&mut self) -> Option<(Arc<Live>, Channel)> {
        let live = self.lives.borrow().clone().filter(|live| !*live.blocked().borrow())?;
        let stands = |(on, channel): &&(Arc<Live>, Channel)| {
            on.generation == live.generation && channel.status().connected()
        };
        if self.channel.as_ref().filter(stands).is_none() {
            self.channel = None;
            match live.channel().await {
                Ok(channel) => self.channel = Some((live, channel)),
                Err(error) => live.probe_if_silent(&error).await,
            }
        }
        self.channel.clone()
    }
}

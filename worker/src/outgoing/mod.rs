//! Sends what is due outside: lifecycle events, ends that producers asked for, webhooks.
//!
//! One worker in the cluster sends at a time, by a lease of its own that it judges by a
//! monotonic clock. That keeps doubles rare; what keeps the order is that nobody sends an
//! event while an earlier one of its execution is not confirmed. A row is removed after the
//! confirm, so that whatever goes wrong in between is made good by sending it again.

mod exchange;
mod replies;
mod webhooks;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::ids::SessionId;
use holdpoint_queue::Link;

use crate::Worker;
use crate::session::process_now;

/// Rows taken at a time.
const BATCH: usize = 500;
/// After a failure, before the next look.
const PAUSE: Duration = Duration::from_secs(1);

/// What a look at the rows that are due came to.
enum Pass {
    /// There may be more.
    More,
    /// All was sent.
    Done,
    /// It could not be sent now.
    Failed,
}

struct Sender {
    worker: Arc<Worker>,
    id: SessionId,
    sure_until: Mutex<Option<Instant>>,
}

/// Sends until the worker is stopped.
pub(crate) async fn run(worker: Arc<Worker>) {
    let mut entropy = Entropy::from_seed(getrandom::u64().unwrap_or_default());
    let id = SessionId::new(process_now(), &mut entropy);
    let sender = Sender { worker, id, sure_until: Mutex::new(None) };
    tokio::join!(sender.send(), webhooks::deliver(&sender));
}

impl Sender {
    /// What only one worker does at a time.
    async fn send(&self) {
        tokio::join!(
            self.keep_lease(),
            self.repeat(exchange::pass, Sender::has_broker),
            self.repeat(replies::pass, Sender::has_broker),
            self.repeat(webhooks::fan_out, |_| true),
            self.repeat(webhooks::clean, |_| true),
        );
        self.give_back().await;
    }

    /// Whether we are the one that sends, and will be for a while.
    fn is_sure(&self) -> bool {
        let until = *self.sure_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() + self.worker.settings.heartbeat() < until)
    }

    fn has_broker(&self) -> bool {
        *self.worker.queue.link().borrow() == Link::Up
    }

    /// Takes the lease when it is free, and extends it with each heartbeat.
    async fn keep_lease(&self) {
        while !self.worker.stop.is_cancelled() {
            let (begun, lease, id) = (Instant::now(), self.worker.settings.lease(), self.id);
            let held = self.worker.db.hot(move |store| store.sender_lease(id, lease)).await;
            match held.and_then(|held| held) {
                Ok(epoch) => {
                    let until = epoch.map(|_| begun + lease);
                    *self.sure_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
                }
                // What we were sure of stays so until it runs out.
                Err(error) => tracing::debug!(%error, "the sender's lease is not extended"),
            }
            self.pause(self.worker.settings.heartbeat()).await;
        }
    }

    /// Another worker need not wait until the lease runs out.
    async fn give_back(&self) {
        let id = self.id;
        if self.sure_until.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            drop(self.worker.db.hot(move |store| store.sender_lease(id, Duration::ZERO)).await);
        }
    }

    /// Looks again and again, as long as we are the one that sends and it makes sense.
    async fn repeat(&self, pass: impl AsyncFn(&Sender) -> Pass, makes_sense: impl Fn(&Sender) -> bool) {
        while !self.worker.stop.is_cancelled() {
            let may = self.is_sure() && makes_sense(self);
            match if may { pass(self).await } else { Pass::Done } {
                Pass::More => {}
                Pass::Done => self.pause(Duration::from_millis(self.worker.settings.events_poll_ms)).await,
                Pass::Failed => self.pause(PAUSE).await,
            }
        }
    }

    async fn pause(&self, length: Duration) {
        tokio::select! {
            () = self.worker.stop.cancelled() => {}
            () = tokio::time::sleep(length) => {}
        }
    }
}

//! Takes executions: consume hints, claim, ack, hand over. One function, four triggers: a
//! hint, a second without one, a slot that became free, a limit that lets more through.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdpoint_db::{ClaimRequest, Claimed, Store, failpoint};
use holdpoint_engine::wire::{ExecutionKey, Message};
use holdpoint_queue::{Consumer, Delivery, Source, Tag};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::TaskTracker;

use crate::session::Session;
use crate::{Worker, drive, parking};

/// Hints taken at a time.
const HINTS: usize = 64;
/// Hints that are on their way to a worker at most; it takes them as it has places.
pub const PREFETCH: u16 = 128;
/// The most executions of one claim: their journals are read in the same transaction.
const CLAIM: usize = 100;

/// Takes executions until the worker is stopped or the session is lost.
pub(crate) async fn run(worker: &Arc<Worker>, session: &Arc<Session>, tasks: &TaskTracker) {
    let mut intake = Intake {
        worker,
        session,
        tasks,
        slots: Arc::new(Semaphore::new(worker.settings.slots)),
        hints: worker.queue.consume(Source::Workers, PREFETCH).await,
        more: true,
        freed: Arc::default(),
        look_at: None,
    };
    let mut poll = tokio::time::interval(worker.settings.poll());
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !worker.stop.is_cancelled() && !session.lost.is_cancelled() {
        if intake.slots.available_permits() == 0 {
            intake.wait_for_room().await;
            continue;
        }
        let hints = tokio::select! {
            biased;
            () = worker.stop.cancelled() => return,
            () = session.lost.cancelled() => return,
            () = std::future::ready(()), if intake.more => Vec::new(),
            hints = intake.hints.next(HINTS) => hints,
            () = intake.freed.notified() => Vec::new(),
            () = sleep_until(intake.look_at) => Vec::new(),
            _ = poll.tick() => Vec::new(),
        };
        intake.take(hints).await;
    }
}

struct Intake<'a> {
    worker: &'a Arc<Worker>,
    session: &'a Arc<Session>,
    tasks: &'a TaskTracker,
    slots: Arc<Semaphore>,
    hints: Box<dyn Consumer>,
    /// The last claim was full: look again at once.
    more: bool,
    /// An execution that may have been counted under a limit is held no more.
    freed: Arc<Notify>,
    /// When a limit lets more through.
    look_at: Option<Instant>,
}

/// Never, where there is no time.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Intake<'_> {
    /// With no slot free, hints are left to other workers until there is one.
    async fn wait_for_room(&mut self) {
        self.hints.set_active(false).await;
        tokio::select! {
            () = self.worker.stop.cancelled() => return,
            () = self.session.lost.cancelled() => return,
            permit = self.slots.acquire() => drop(permit),
        }
        self.hints.set_active(true).await;
        self.more = true;
    }

    async fn take(&mut self, hints: Vec<Delivery>) {
        self.look_at = None;
        let (mut hinted, read) = self.read(&hints).await;
        let limit = self.slots.available_permits().min(CLAIM);
        // Of a long backlog the rest is found as ready, when there is room; so many hints bring
        // nobody forward.
        hinted.truncate(limit);
        match self.claim(hinted, limit).await {
            Ok(claimed) => {
                self.more = limit > 0 && claimed.len() >= limit;
                failpoint::hit("worker.ack.before");
                self.ack(&read).await;
                failpoint::hit("worker.ack.after");
                for claimed in claimed {
                    self.hand_over(claimed);
                }
            }
            Err(error) => {
                // The rows are ready all the same: they are found when the database is back.
                tracing::warn!(%error, "claim failed");
                self.more = false;
                self.ack(&read).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }

    async fn ack(&mut self, read: &[Tag]) {
        if !read.is_empty() {
            self.hints.ack(read).await;
        }
    }

    /// The executions that hints name, and which messages are done with; what is no hint is parked.
    async fn read(&mut self, hints: &[Delivery]) -> (Vec<ExecutionKey>, Vec<Tag>) {
        let (mut hinted, mut read) = (Vec::new(), Vec::new());
        for delivery in hints {
            let reason = match Message::decode(&delivery.body) {
                Ok(Message::Advance(keys)) => {
                    hinted.extend(keys);
                    read.push(delivery.tag);
                    continue;
                }
                Ok(other) => format!("`{}` does not belong here", other.kind()),
                Err(error) => error.to_string(),
            };
            if parking::park(self.worker, delivery, reason).await {
                read.push(delivery.tag);
            }
        }
        (hinted, read)
    }

    // `&mut`, as above: a consumer cannot be shared, and this future must be `Send`.
    async fn claim(
        &mut self,
        hinted: Vec<ExecutionKey>,
        limit: usize,
    ) -> holdpoint_db::StoreResult<Vec<Claimed>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let request = ClaimRequest {
            session: self.session.id,
            hinted,
            limit,
            any: true,
            history: (&self.worker.limits).into(),
            tenant_concurrency: self.worker.limits.tenant_slots(),
        };
        let work = move |store: &dyn Store| (store.execution_claim(&request), store.look_again());
        let (claimed, again) = self.worker.db.hot(work).await?;
        let claimed = claimed?;
        self.worker.limited.store(again.when_freed, Ordering::Relaxed);
        self.look_at = again.after.map(|after| Instant::now() + after);
        self.worker.metrics.claimed.inc_by(claimed.len() as u64);
        for claimed in &claimed {
            self.worker.metrics.queue_to_claim.observe(claimed.waited.as_secs_f64());
        }
        Ok(claimed)
    }

    fn hand_over(&self, claimed: Claimed) {
        // Never more than the permits that were counted before the claim.
        let permit: Option<OwnedSemaphorePermit> = Arc::clone(&self.slots).try_acquire_owned().ok();
        let (worker, session, freed) =
            (Arc::clone(self.worker), Arc::clone(self.session), Arc::clone(&self.freed));
        self.tasks.spawn(async move {
            drive::drive(Arc::clone(&worker), session, claimed).await;
            drop(permit);
            if worker.limited.load(Ordering::Relaxed) {
                freed.notify_one();
            }
        });
    }
}

//! A worker's session: one lease for all that it holds, extended by one heartbeat.
//!
//! The lease is judged here by a monotonic clock, from the moment *before* the heartbeat was
//! sent, so that we stop believing in it before the database does. A session that ran out
//! never lives again: the worker drops everything and begins another.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, Message};
use holdpoint_queue::Source;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::Worker;
use crate::about::{self, Told};
use crate::clock::Clock;

/// A first byte is sent only while the lease lasts at least this much longer.
const SURE: Duration = Duration::from_millis(500);

/// What one held execution hears from outside.
pub(crate) struct Held {
    /// Somebody did something to it: look into its inbox.
    pub woken: Notify,
    /// It is no longer ours.
    pub gone: CancellationToken,
}

struct Holding {
    held: Arc<Held>,
    wake: i64,
}

pub(crate) struct Session {
    pub id: SessionId,
    /// The lease ran out: whatever is under way is dropped.
    pub lost: CancellationToken,
    lease_until: Mutex<Instant>,
    clock: Mutex<Clock>,
    holding: Mutex<HashMap<ExecutionKey, Holding>>,
    beats: Notify,
    ended: CancellationToken,
    told: Told,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This process's own clock; only for ids, never for deadlines.
pub(crate) fn process_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

impl Session {
    /// Begins a session as soon as the database answers; `None` when the worker is stopped.
    pub async fn begin(worker: &Arc<Worker>) -> Option<Arc<Session>> {
        let mut pause = Duration::from_millis(100);
        while !worker.stop.is_cancelled() {
            let mut entropy = Entropy::from_seed(getrandom::u64().unwrap_or_default());
            let id = SessionId::new(process_now(), &mut entropy);
            let (name, lease, sent) = (worker.settings.shown_name(), worker.settings.lease(), Instant::now());
            match worker.db.hot(move |store| store.session_begin(id, &name, lease)).await {
                Ok(Ok(now)) => return Some(Session::start(worker, id, sent, now)),
                Ok(Err(error)) | Err(error) => tracing::warn!(%error, "no session; trying again"),
            }
            tokio::select! {
                () = worker.stop.cancelled() => {}
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(2)),
            }
        }
        None
    }

    fn start(worker: &Arc<Worker>, id: SessionId, sent: Instant, now: Timestamp) -> Arc<Session> {
        let session = Arc::new(Session {
            id,
            lost: CancellationToken::new(),
            lease_until: Mutex::new(sent + worker.settings.lease()),
            clock: Mutex::new(Clock::new(now, Instant::now())),
            holding: Mutex::default(),
            beats: Notify::new(),
            ended: CancellationToken::new(),
            told: Told::default(),
        });
        tokio::spawn(Arc::clone(&session).beat(Arc::clone(worker)));
        tokio::spawn(Arc::clone(&session).listen(Arc::clone(worker)));
        session
    }

    /// Ends the session: what it still holds is ready for others at once.
    pub async fn end(&self, worker: &Worker) {
        self.ended.cancel();
        let id = self.id;
        if let Ok(Err(error)) | Err(error) = worker.db.hot(move |store| store.session_end(id)).await {
            tracing::warn!(%error, "the session was not ended; its lease runs out");
        }
    }

    /// The database's time, as of the last heartbeat and our own clock since.
    pub fn now(&self) -> Timestamp {
        lock(&self.clock).at(Instant::now())
    }

    /// Waits until the lease is sure enough for a first byte; `false` when it is lost.
    pub async fn is_sure(&self) -> bool {
        loop {
            let beat = self.beats.notified();
            if self.lost.is_cancelled() {
                return false;
            }
            if *lock(&self.lease_until) > Instant::now() + SURE {
                return true;
            }
            tokio::select! {
                () = self.lost.cancelled() => return false,
                () = beat => {}
            }
        }
    }

    /// From now on the execution hears of acts; `wake` is the counter that was seen.
    pub fn hold(&self, key: &ExecutionKey, wake: i64) -> Arc<Held> {
        let held = Arc::new(Held { woken: Notify::new(), gone: CancellationToken::new() });
        lock(&self.holding).insert(key.clone(), Holding { held: Arc::clone(&held), wake });
        held
    }

    /// The counter of acts that was seen last.
    pub fn saw(&self, key: &ExecutionKey, wake: i64) {
        if let Some(holding) = lock(&self.holding).get_mut(key) {
            holding.wake = wake;
        }
    }

    /// The execution is not ours any more.
    pub fn let_go(&self, key: &ExecutionKey) {
        lock(&self.holding).remove(key);
    }

    async fn beat(self: Arc<Self>, worker: Arc<Worker>) {
        let mut clock = tokio::time::interval(worker.settings.heartbeat());
        clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.ended.cancelled() => return,
                _ = clock.tick() => {}
            }
            let held: Vec<_> =
                lock(&self.holding).iter().map(|(key, holding)| (key.clone(), holding.wake)).collect();
            worker.metrics.leases.set(held.len() as i64);
            let (id, lease, sent, before) = (self.id, worker.settings.lease(), Instant::now(), process_now());
            let answer =
                worker.db.hot(move |store| store.session_beat(id, lease, &held)).await.and_then(|beat| beat);
            match answer {
                Ok(beat) if beat.alive => {
                    let ahead = about::ahead(beat.now, before, process_now());
                    self.beaten(sent, lease, beat);
                    self.told.tell(&worker, id, ahead).await;
                }
                Ok(_) => return self.lose(&worker, "another took it for dead"),
                Err(error) if *lock(&self.lease_until) <= Instant::now() => {
                    return self.lose(&worker, &error.to_string());
                }
                Err(error) => tracing::warn!(%error, "a heartbeat failed"),
            }
        }
    }

    fn beaten(&self, sent: Instant, lease: Duration, beat: holdpoint_db::Beat) {
        *lock(&self.lease_until) = sent + lease;
        lock(&self.clock).told(beat.now, sent, Instant::now());
        self.beats.notify_waiters();
        let holding = lock(&self.holding);
        for key in &beat.woken {
            holding.get(key).inspect(|holding| holding.held.woken.notify_one());
        }
        for key in &beat.lost {
            holding.get(key).inspect(|holding| holding.held.gone.cancel());
        }
    }

    fn lose(&self, worker: &Worker, why: &str) {
        tracing::error!(session = %self.id, why, "the session is lost; everything it held is dropped");
        worker.metrics.sessions_lost.inc();
        self.lost.cancel();
    }

    /// Messages for this session's executions: sooner than the next heartbeat.
    async fn listen(self: Arc<Self>, worker: Arc<Worker>) {
        let mut consumer = worker.queue.consume(Source::Holder(self.id), 200).await;
        loop {
            let deliveries = tokio::select! {
                () = self.ended.cancelled() => return,
                deliveries = consumer.next(200) => deliveries,
            };
            if deliveries.is_empty() {
                return;
            }
            for delivery in &deliveries {
                self.heard(&delivery.body);
            }
            let tags: Vec<_> = deliveries.iter().map(|delivery| delivery.tag).collect();
            consumer.ack(&tags).await;
        }
    }

    /// A message that cannot be read is a hint that was lost: the heartbeat brings the truth.
    fn heard(&self, body: &[u8]) {
        let Ok(Message::Wake(keys)) = Message::decode(body) else { return };
        let holding = lock(&self.holding);
        for key in &keys {
            holding.get(key).inspect(|holding| holding.held.woken.notify_one());
        }
    }
}

//! The queue inside the process: the same promises as RabbitMQ's, for one process.
//!
//! - A message that was handed out and not acknowledged goes back, in order and marked as
//!   redelivered, when its consumer is dropped.
//! - Nothing is fetched before it is asked for, so nothing has to be returned when a consumer
//!   is stopped.
//! - Hints are bounded and may be dropped; commands are neither.
//! - It has no outside: no commands come in, an event has no subscriber (which is no error), and
//!   a reply or a task has nobody to go to.
//! - No lock is held across an await.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use async_trait::async_trait;
use holdpoint_engine::ids::SessionId;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::{
    Consumer, DELIVERY_LIMIT, Delivery, Link, OWN_QUEUE_BOUND, Outgoing, Queue, Route, SendError, Settings,
    Source, Tag,
};

/// The queue inside the process.
pub(crate) struct Memory {
    workers: Arc<Mailbox>,
    sweeps: Arc<Mailbox>,
    dead: Arc<Mailbox>,
    own: Mutex<OwnMailboxes>,
    hint_buffer: usize,
    prefix: String,
    link: watch::Sender<Link>,
    closed: CancellationToken,
    metrics: Arc<Metrics>,
}

/// The mailboxes that belong to one consumer each and go with it.
#[derive(Default)]
struct OwnMailboxes {
    holders: HashMap<SessionId, Vec<Weak<Mailbox>>>,
    streams: Vec<Weak<Mailbox>>,
}

impl Memory {
    pub(crate) fn open(settings: &Settings, metrics: Arc<Metrics>) -> Self {
        let mailbox = |name: &str| Arc::new(Mailbox::new(format!("{}.{name}", settings.prefix)));
        metrics.link(Link::Up);
        Self {
            workers: mailbox("advance"),
            sweeps: mailbox("sweeps"),
            dead: mailbox("dead"),
            own: Mutex::default(),
            hint_buffer: settings.hint_buffer,
            prefix: settings.prefix.clone(),
            link: watch::Sender::new(Link::Up),
            closed: CancellationToken::new(),
            metrics,
        }
    }

    /// The mailboxes that get what goes this way.
    fn targets(&self, route: Route) -> Vec<Arc<Mailbox>> {
        match route {
            Route::Workers => vec![self.workers.clone()],
            Route::Sweeps => vec![self.sweeps.clone()],
            Route::Event | Route::Reply | Route::Task => Vec::new(),
            Route::Streams => lock(&self.own).streams.iter().filter_map(Weak::upgrade).collect(),
            Route::Holder(session) => {
                let own = lock(&self.own);
                own.holders.get(&session).into_iter().flatten().filter_map(Weak::upgrade).collect()
            }
        }
    }

    /// How many messages may wait where this leads, and whether the oldest gives way.
    fn bound(&self, route: Route) -> Bound {
        match route {
            Route::Workers => Bound::RefuseNew(self.hint_buffer),
            Route::Holder(_) | Route::Streams => Bound::DropOldest(OWN_QUEUE_BOUND),
            Route::Sweeps | Route::Event | Route::Reply | Route::Task => Bound::None,
        }
    }

    fn deliver(&self, message: Outgoing) -> Result<(), SendError> {
        if self.closed.is_cancelled() {
            return Err(SendError::Disconnected);
        }
        let (targets, bound) = (self.targets(message.route), self.bound(message.route));
        if targets.is_empty() && message.route != Route::Event {
            return Err(SendError::Unroutable);
        }
        let dropped = targets.iter().map(|target| target.push(&message, bound)).sum();
        self.metrics.dropped(dropped);
        self.metrics.published(message.kind);
        Ok(())
    }

    fn mailbox(&self, source: Source) -> Arc<Mailbox> {
        let own =
            || Arc::new(Mailbox::new(format!("{}.{}.{}", self.prefix, source.word(), uuid::Uuid::now_v7())));
        match source {
            Source::Workers => self.workers.clone(),
            Source::Sweeps => self.sweeps.clone(),
            Source::Dead => self.dead.clone(),
            // Nobody can send to it.
            Source::Commands => own(),
            Source::Streams => {
                let made = own();
                let streams = &mut lock(&self.own).streams;
                streams.retain(|known| known.strong_count() > 0);
                streams.push(Arc::downgrade(&made));
                made
            }
            Source::Holder(session) => {
                let made = own();
                let holders = &mut lock(&self.own).holders;
                holders.retain(|_, known| known.iter().any(|one| one.strong_count() > 0));
                holders.entry(session).or_default().push(Arc::downgrade(&made));
                made
            }
        }
    }
}

#[async_trait]
impl Queue for Memory {
    fn nudge(&self, message: Outgoing) {
        match self.deliver(message) {
            // Nobody to tell is no loss: that is what the broker does with an unroutable hint.
            Ok(()) | Err(SendError::Unroutable) => {}
            Err(_) => self.metrics.dropped(1),
        }
    }

    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let results: Vec<_> = messages.into_iter().map(|message| self.deliver(message)).collect();
        results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .for_each(|error| self.metrics.failed(error));
        results
    }

    async fn provide(&self, _: &str) -> Result<(), SendError> {
        Err(SendError::Unroutable)
    }

    async fn consume(&self, source: Source, prefetch: u16) -> Box<dyn Consumer> {
        Box::new(MemoryConsumer {
            mailbox: self.mailbox(source),
            dead: (source == Source::Sweeps).then(|| self.dead.clone()),
            source,
            prefetch: usize::from(prefetch.max(1)),
            unacked: BTreeMap::new(),
            active: true,
            closed: self.closed.clone(),
            metrics: self.metrics.clone(),
        })
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    async fn close(&self) {
        self.closed.cancel();
        self.link.send_replace(Link::Down);
        self.metrics.link(Link::Down);
    }
}

/// What happens when a mailbox is full.
#[derive(Clone, Copy)]
enum Bound {
    None,
    RefuseNew(usize),
    DropOldest(usize),
}

/// A message at rest.
struct Stored {
    message: Outgoing,
    /// Times that it was handed out and came back.
    returns: u32,
    headers: BTreeMap<String, String>,
}

/// One queue: messages at rest, and who waits for them.
struct Mailbox {
    name: String,
    state: Mutex<MailboxState>,
    filled: Notify,
}

#[derive(Default)]
struct MailboxState {
    ready: VecDeque<Stored>,
    last_tag: u64,
}

impl Mailbox {
    fn new(name: String) -> Self {
        Self { name, state: Mutex::default(), filled: Notify::new() }
    }

    /// Puts a message at the end; says how many were dropped for it.
    fn push(&self, message: &Outgoing, bound: Bound) -> usize {
        let mut state = lock(&self.state);
        let dropped = match bound {
            Bound::RefuseNew(most) if state.ready.len() >= most => return 1,
            Bound::DropOldest(most) if state.ready.len() >= most => {
                usize::from(state.ready.pop_front().is_some())
            }
            _ => 0,
        };
        state.ready.push_back(Stored { message: message.clone(), returns: 0, headers: BTreeMap::new() });
        drop(state);
        self.filled.notify_one();
        dropped
    }

    /// Takes at most so many, oldest first, each with its tag.
    fn take(&self, most: usize) -> Vec<(u64, Stored)> {
        let mut state = lock(&self.state);
        let count = most.min(state.ready.len());
        let mut tag = state.last_tag;
        let taken = state
            .ready
            .drain(..count)
            .map(|stored| {
                tag += 1;
                (tag, stored)
            })
            .collect();
        state.last_tag = tag;
        let left = !state.ready.is_empty();
        drop(state);
        if left {
            // One wake-up may stand for many messages: pass it on.
            self.filled.notify_one();
        }
        taken
    }

    /// Puts back what was not acknowledged, before everything else and in its order.
    fn give_back(&self, unacked: impl DoubleEndedIterator<Item = Stored>) {
        let mut state = lock(&self.state);
        unacked.rev().for_each(|stored| state.ready.push_front(stored));
        drop(state);
        self.filled.notify_one();
    }
}

/// Takes from one mailbox.
struct MemoryConsumer {
    mailbox: Arc<Mailbox>,
    /// Where messages go that came back too often; none for hints.
    dead: Option<Arc<Mailbox>>,
    source: Source,
    prefetch: usize,
    unacked: BTreeMap<u64, Stored>,
    active: bool,
    closed: CancellationToken,
    metrics: Arc<Metrics>,
}

impl MemoryConsumer {
    fn take(&mut self, most: usize) -> Vec<Delivery> {
        let taken = self.mailbox.take(most);
        let deliveries: Vec<_> =
            taken.iter().map(|(tag, stored)| delivery(&self.mailbox.name, *tag, stored)).collect();
        self.unacked.extend(taken);
        self.metrics.consumed(self.source, deliveries.len());
        deliveries
    }
}

fn delivery(queue: &str, tag: u64, stored: &Stored) -> Delivery {
    Delivery {
        body: stored.message.body.clone(),
        kind: Some(stored.message.kind.to_owned()),
        message_id: Some(stored.message.id.clone()),
        content_type: Some(stored.message.content_type.to_owned()),
        correlation_id: stored.message.correlation_id.clone(),
        reply_to: None,
        app_id: None,
        headers: stored.headers.clone(),
        queue: queue.to_owned(),
        redelivered: stored.returns > 0,
        tag: Tag { generation: 0, tag },
    }
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn next(&mut self, most: usize) -> Vec<Delivery> {
        let closed = self.closed.clone();
        let mailbox = self.mailbox.clone();
        while !closed.is_cancelled() {
            let room = most.max(1).min(self.prefetch.saturating_sub(self.unacked.len()));
            if !self.active || room == 0 {
                closed.cancelled().await;
                break;
            }
            let taken = self.take(room);
            if !taken.is_empty() {
                return taken;
            }
            tokio::select! {
                () = mailbox.filled.notified() => {}
                () = closed.cancelled() => {}
            }
        }
        Vec::new()
    }

    async fn ack(&mut self, tags: &[Tag]) {
        for tag in tags {
            self.unacked.remove(&tag.tag);
        }
    }

    async fn set_active(&mut self, active: bool) {
        self.active = active;
    }
}

impl Drop for MemoryConsumer {
    fn drop(&mut self) {
        let mut back = Vec::new();
        for (_, mut stored) in std::mem::take(&mut self.unacked) {
            stored.returns += 1;
            match &self.dead {
                Some(dead) if stored.returns > DELIVERY_LIMIT => {
                    dead.give_back(std::iter::once(died(stored, &self.mailbox.name)))
                }
                _ => back.push(stored),
            }
        }
        self.mailbox.give_back(back.into_iter());
    }
}

/// As RabbitMQ marks what it gave up on.
fn died(mut stored: Stored, queue: &str) -> Stored {
    stored.returns = 0;
    stored.headers.insert("x-first-death-queue".to_owned(), queue.to_owned());
    stored.headers.insert("x-first-death-reason".to_owned(), "delivery_limit".to_owned());
    stored
}

/// A poisoned lock only says that a thread panicked; no state here is left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

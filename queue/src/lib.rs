//! Messages between roles: RabbitMQ, or a queue inside the process, behind one trait.
//! A message is a hint or a command for something that stands in the database; nothing here
//! reads what it means, and nothing is lost that the database does not have.

mod memory;
mod metrics;
mod rabbit;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use holdpoint_engine::ids::SessionId;
use serde::Deserialize;
use tokio::sync::watch;

pub use crate::rabbit::Examination;

use crate::metrics::Metrics;

/// Times that a sweep may come back unacknowledged before it is dead: a backstop against a
/// message that kills every worker; attempts are counted in the database.
const DELIVERY_LIMIT: u32 = 20;

/// The same for commands from outside. A crash counts against everything that was prefetched,
/// and each message that kills its process takes four of them until it is parked: the limit
/// lets a prefetch full of those pass without losing the innocent among them.
const COMMANDS_DELIVERY_LIMIT: u32 = 1_000;

/// Hints that may wait in a queue of one consumer (a holder's, a stream server's); the oldest
/// give way.
const OWN_QUEUE_BOUND: usize = 10_000;

/// Where a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Route {
    /// Any worker, one of them: executions to claim. A hint: may be lost.
    Workers,
    /// The worker that has this session: executions to look at. A hint: may be lost.
    Holder(SessionId),
    /// Every process that serves streams. A hint: may be lost.
    Streams,
    /// Any worker, one of them: sweeps to carry out. A command: confirmed.
    Sweeps,
    /// Whoever subscribed to the routing key [`Outgoing::address`], outside: confirmed, and no
    /// error where nobody did.
    Event,
    /// The queue [`Outgoing::address`] of a producer outside: confirmed. Where there is no such
    /// queue, or it is one of ours, it is [`SendError::Unroutable`]: nobody waits, so it is
    /// counted and not sent again.
    Reply,
    /// The queue [`Outgoing::address`] of workers outside, with a task: confirmed. Where there is
    /// no such queue, or it is one of ours, it is [`SendError::Unroutable`]; see
    /// [`Queue::provide`].
    Task,
}

/// From where messages are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// What was sent to [`Route::Workers`].
    Workers,
    /// What was sent to [`Route::Holder`] with this session; gone with the consumer.
    Holder(SessionId),
    /// What was sent to [`Route::Streams`]; a copy for each consumer.
    Streams,
    /// What was sent to [`Route::Sweeps`].
    Sweeps,
    /// What producers outside sent to the exchange for commands. The queue inside the process
    /// has no outside: there nothing ever comes.
    Commands,
    /// What the broker gave up on.
    Dead,
}

impl Source {
    /// The word in names and metrics.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Source::Workers => "advance",
            Source::Holder(_) => "holder",
            Source::Streams => "streams",
            Source::Sweeps => "sweeps",
            Source::Commands => "commands",
            Source::Dead => "dead",
        }
    }
}

/// A message to send.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Where to.
    pub route: Route,
    /// The type, as a property.
    pub kind: &'static str,
    /// Unique; a consumer may see it twice.
    pub id: String,
    /// The body.
    pub body: Bytes,
    /// The routing key of an event, the queue of a reply or of a task (at most 255 bytes each);
    /// else empty.
    pub address: String,
    /// What a reply belongs to, as its asker named it.
    pub correlation_id: Option<String>,
    /// What the body is.
    pub content_type: &'static str,
    /// The trace that it is a part of, as W3C's `traceparent`: a header.
    pub traceparent: Option<String>,
}

impl Outgoing {
    /// A message between our own roles.
    pub fn new(route: Route, kind: &'static str, id: impl Into<String>, body: impl Into<Bytes>) -> Self {
        Self {
            route,
            kind,
            id: id.into(),
            body: body.into(),
            address: String::new(),
            correlation_id: None,
            content_type: "application/json",
            traceparent: None,
        }
    }
}

/// A message that came.
#[derive(Debug)]
pub struct Delivery {
    /// The body.
    pub body: Bytes,
    /// The type, if the producer set it.
    pub kind: Option<String>,
    /// The id, if the producer set it.
    pub message_id: Option<String>,
    /// What the body is, if the producer set it.
    pub content_type: Option<String>,
    /// What an answer must name, if the producer set it.
    pub correlation_id: Option<String>,
    /// The queue for an answer, if the producer wants one.
    pub reply_to: Option<String>,
    /// The program that sent it, if the producer set it.
    pub app_id: Option<String>,
    /// Headers, as text.
    pub headers: BTreeMap<String, String>,
    /// The queue that it came from.
    pub queue: String,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// What acknowledging needs; meaningless outside this crate.
    pub tag: Tag,
}

/// Names a delivery on the connection it came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Which connection: an older one's tags are void.
    pub generation: u64,
    /// The broker's tag.
    pub tag: u64,
}

/// Why a command is not with the broker (or perhaps is: a time-out says nothing).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no connection.
    #[error("the broker cannot be reached")]
    Disconnected,
    /// No confirm in time; it may be there all the same.
    #[error("the broker did not confirm within {0:?}")]
    TimedOut(Duration),
    /// No queue took it.
    #[error("no queue is bound for it")]
    Unroutable,
    /// The broker said no.
    #[error("the broker refused it")]
    Refused,
    /// The queue is Holdpoint's or the broker's own.
    #[error("its name is one of Holdpoint's own queues, or of the broker's")]
    Reserved,
}

/// How the connections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Both work.
    Up,
    /// At least one is being rebuilt.
    Down,
}

/// The queue.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Sends a hint and forgets it: never blocks, never fails; without a connection, or with
    /// too many waiting, it is dropped (and counted).
    fn nudge(&self, message: Outgoing);

    /// Sends commands, all confirmed, many in flight; answers one by one, in order, within
    /// the deadline of the settings.
    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>>;

    /// Declares a queue for [`Route::Task`], durable and replicated; one that is there stays as it
    /// is. [`SendError::Unroutable`] where workers outside cannot be reached at all,
    /// [`SendError::Reserved`] where nothing may be sent to a queue of that name.
    async fn provide(&self, queue: &str) -> Result<(), SendError>;

    /// Takes messages from a source, with at most `prefetch` not acknowledged. It rebuilds
    /// itself after any loss until it is dropped.
    async fn consume(&self, source: Source, prefetch: u16) -> Box<dyn Consumer>;

    /// How the connections are, now and when it changes.
    fn link(&self) -> watch::Receiver<Link>;

    /// Closes the connections, after what was sent is flushed.
    async fn close(&self);
}

/// Takes messages from one source.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for messages: at least one, at most `most`, whatever is there without waiting
    /// for more. Safe to cancel: nothing is lost. Ends (empty) only when the queue is closed.
    async fn next(&mut self, most: usize) -> Vec<Delivery>;

    /// Acknowledges, in one frame where that is possible. Tags of a lost connection are
    /// passed over: the broker delivers those messages again.
    async fn ack(&mut self, tags: &[Tag]);

    /// Stops (`false`) or goes on with taking messages; what was prefetched and not handed out
    /// goes back to the broker when stopped, so that another consumer gets it.
    async fn set_active(&mut self, active: bool);
}

/// How to reach the broker.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `amqp://…`, or `memory:` for the queue inside the process.
    pub url: String,
    /// Before every exchange and queue name, so that several installations can share a broker.
    pub prefix: String,
    /// How long a confirm may take.
    pub confirm_timeout_ms: u64,
    /// How many hints may wait to be written.
    pub hint_buffer: usize,
    /// The longest pause before a connection is tried again.
    pub max_backoff_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "memory:".to_owned(),
            prefix: "holdpoint".to_owned(),
            confirm_timeout_ms: 5_000,
            hint_buffer: 10_000,
            max_backoff_ms: 5_000,
        }
    }
}

/// Opens the queue that the URL names. It answers at once; the connection is made, and made
/// again after any loss, in the background. It must be called inside a tokio runtime, and
/// [`Queue::close`] awaited before that runtime ends. An error only for settings that can
/// never work.
pub fn open(settings: &Settings, registry: &prometheus::Registry) -> Result<Arc<dyn Queue>, String> {
    check_prefix(&settings.prefix)?;
    let metrics = Metrics::register(registry).map(Arc::new).map_err(|error| error.to_string())?;
    if settings.url == "memory:" {
        return Ok(Arc::new(memory::Memory::open(settings, metrics)));
    }
    Ok(Arc::new(rabbit::Rabbit::open(settings, metrics)?))
}

/// Looks at the broker of these settings, which is not `memory:`, and changes nothing. The
/// error is one sentence for a person.
pub async fn examine(settings: &Settings) -> Result<Examination, String> {
    check_prefix(&settings.prefix)?;
    rabbit::examine(&settings.url, &settings.prefix).await
}

/// Names made of a prefix stay far below AMQP's 255 bytes.
fn check_prefix(prefix: &str) -> Result<(), String> {
    let fits = !prefix.is_empty() && prefix.len() <= 64 && !prefix.starts_with("amq.");
    fits.then_some(())
        .ok_or_else(|| format!("queue prefix `{prefix}`: 1 to 64 bytes, not beginning with `amq.`"))
}

//! The queue on RabbitMQ.
//!
//! Two connections ([`link`]), one to publish and one to consume. On the first there are two
//! channels, each with its one task: commands with confirms ([`publisher`]) and hints without
//! ([`hints`]). On the second each consumer has a channel and a task ([`consumer`]). Closing
//! ends the tasks first, after what they were given, then the connections.
//!
//! TLS: `amqps://` needs the cargo feature `amqps`, which is off by default.

mod acks;
mod backoff;
mod batch;
mod consumer;
mod examine;
mod hints;
mod inbox;
mod link;
mod message;
mod probe;
mod publisher;
mod topology;

pub use examine::Examination;
pub(crate) use examine::examine;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use lapin::uri::{AMQPScheme, AMQPUri};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::hints::Hints;
use self::link::{Board, Line, Lives, Role};
use self::publisher::{Publisher, Request};
use self::topology::Topology;
use crate::metrics::Metrics;
use crate::{Consumer, Link, Outgoing, Queue, SendError, Settings, Source};

/// Between heartbeats, unless the URL says otherwise: a dead peer is found in twice this.
const HEARTBEAT_SECONDS: u16 = 10;

/// Calls of `send` that may wait for the publisher; the others wait for room.
const REQUESTS_WAITING: usize = 256;

/// How long closing waits for what was sent to be flushed, and then for the connections.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// After a deadline, how long a caller still waits for the publisher's word on each message.
const GRACE: Duration = Duration::from_millis(100);

/// What all tasks share.
struct Core {
    uri: AMQPUri,
    /// Host, port and virtual host, for logs; never the credentials.
    broker: String,
    /// The installation's, for the broker's list of connections.
    name: String,
    topology: Topology,
    metrics: Arc<Metrics>,
    board: Board,
    /// Numbers for connections and channels.
    generations: AtomicU64,
    confirm_timeout: Duration,
    max_backoff: Duration,
}

/// The queue on RabbitMQ.
pub(crate) struct Rabbit {
    core: Arc<Core>,
    hints: mpsc::Sender<Outgoing>,
    requests: mpsc::Sender<Request>,
    consuming: Lives,
    /// Ends publishers and consumers.
    stop: CancellationToken,
    users: TaskTracker,
    /// Ends the connections.
    hang_up: CancellationToken,
    lines: TaskTracker,
}

impl Rabbit {
    pub(crate) fn open(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let core = Arc::new(Core::new(settings, metrics)?);
        let (stop, users) = (CancellationToken::new(), TaskTracker::new());
        let (hang_up, lines) = (CancellationToken::new(), TaskTracker::new());
        let line = |role| {
            let (sender, lives) = watch::channel(None);
            lines.spawn(Line { core: core.clone(), role, stop: hang_up.clone(), sender }.run());
            lives
        };
        let (publishing, consuming) = (line(Role::Publish), line(Role::Consume));
        let (hints, waiting_hints) = mpsc::channel(settings.hint_buffer.max(1));
        let (requests, waiting_requests) = mpsc::channel(REQUESTS_WAITING);
        users.spawn(Hints::new(core.clone(), publishing.clone()).run(waiting_hints, stop.clone()));
        users.spawn(Publisher::new(core.clone(), publishing).run(waiting_requests, stop.clone()));
        Ok(Self { core, hints, requests, consuming, stop, users, hang_up, lines })
    }
}

impl Core {
    fn new(settings: &Settings, metrics: Arc<Metrics>) -> Result<Self, String> {
        let uri = parse(&settings.url)?;
        Ok(Self {
            broker: format!("{}:{}/{}", uri.authority.host, uri.authority.port, uri.vhost),
            uri,
            name: settings.prefix.clone(),
            topology: Topology::new(&settings.prefix),
            board: Board::new(metrics.clone()),
            metrics,
            generations: AtomicU64::new(1),
            confirm_timeout: Duration::from_millis(settings.confirm_timeout_ms),
            max_backoff: Duration::from_millis(settings.max_backoff_ms.max(1)),
        })
    }
}

/// The error does not repeat the URL: it may hold a password.
fn parse(url: &str) -> Result<AMQPUri, String> {
    let mut uri: AMQPUri = url.parse().map_err(|error| format!("queue URL: {error}"))?;
    if uri.scheme == AMQPScheme::AMQPS && !cfg!(feature = "amqps") {
        return Err("queue URL: amqps:// needs a build with the feature `amqps`".to_owned());
    }
    uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
    Ok(uri)
}

#[async_trait]
impl Queue for Rabbit {
    fn nudge(&self, message: Outgoing) {
        if self.hints.try_send(message).is_err() {
            self.core.metrics.dropped(1);
        }
    }

    async fn send(&self, messages: Vec<Outgoing>) -> Vec<Result<(), SendError>> {
        let count = messages.len();
        let limit = self.core.confirm_timeout;
        let deadline = Instant::now() + limit;
        let (reply, answer) = oneshot::channel();
        let asking = async {
            let request = Request { messages, deadline, reply };
            self.requests.send(request).await.map_err(|_| SendError::Disconnected)?;
            answer.await.map_err(|_| SendError::Disconnected)
        };
        let results = match timeout_at(deadline + GRACE, asking).await {
            Ok(Ok(results)) => results,
            Ok(Err(error)) => vec![Err(error); count],
            Err(_) => vec![Err(SendError::TimedOut(limit)); count],
        };
        results
            .iter()
            .filter_map(|result| result.as_ref().err())
            .for_each(|error| self.core.metrics.failed(error));
        results
    }

    async fn provide(&self, queue: &str) -> Result<(), SendError> {
        if self.core.topology.is_reserved(queue) {
            return Err(SendError::Reserved);
        }
        let live = self.consuming.borrow().clone().ok_or(SendError::Disconnected)?;
        self.core.topology.declare_task_queue(&live, queue).await.map_err(|error| {
            tracing::warn!(%error, queue, "a queue for tasks cannot be declared");
            SendError::Refused
        })
    }

    async fn consume(&self, source: Source, prefetch: u16) -> Box<dyn Consumer> {
        let (task, handle) = consumer::new(
            self.core.clone(),
            self.consuming.clone(),
            source,
            prefetch.max(1),
            self.stop.clone(),
        );
        let standing = task.standing();
        self.users.spawn(task.run());
        // With a broker at hand, what is sent after this is received.
        standing.wait(self.core.board.subscribe()).await;
        Box::new(handle)
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.core.board.subscribe()
    }

    async fn close(&self) {
        self.stop.cancel();
        self.users.close();
        if timeout(CLOSE_LIMIT, self.users.wait()).await.is_err() {
            tracing::warn!("the queue was closed before everything was flushed");
        }
        self.hang_up.cancel();
        self.lines.close();
        if timeout(CLOSE_LIMIT, self.lines.wait()).await.is_err() {
            tracing::warn!("the connections to the broker did not close in time");
        }
    }
}

impl Drop for Rabbit {
    /// One that was not closed still ends its tasks and connections.
    fn drop(&mut self) {
        self.stop.cancel();
        self.hang_up.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_heartbeat_is_always_set() {
        assert_eq!(parse("amqp://localhost").map(|uri| uri.query.heartbeat), Ok(Some(10)));
        assert_eq!(parse("amqp://localhost/?heartbeat=3").map(|uri| uri.query.heartbeat), Ok(Some(3)));
    }

    #[test]
    fn errors_do_not_show_the_password() {
        for url in
            ["amqps://u:secret@localhost", "amqp://u:secret@localhost:nonsense", "http://u:secret@localhost"]
        {
            let error = parse(url).expect_err("refused");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}

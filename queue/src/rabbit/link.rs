//! One connection to the broker, made again after any end.
//!
//! - lapin's own recovery is off: it can wait for ever. A connection that ends is thrown away
//!   with its channels, and everybody who used it finds the next one in the same watch.
//! - No call to lapin is awaited without a limit ([`bounded`]): it can go silent.
//! - A connection counts only once the topology stands on it.
//! - Whoever sees that a connection is of no use says so with [`Live::fail`].

use std::future::Future;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, TLSConfig};
use lapin::{Channel, Connection, ConnectionProperties, Event};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Core;
use super::backoff::Backoff;
use crate::Link;
use crate::metrics::Metrics;

/// The longest wait for one answer of the broker.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The longest wait for a connection to close in good order.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);

/// How often a connection is looked at, in case that lapin reported nothing.
const LOOK: Duration = Duration::from_secs(1);

/// A connection that the broker blocks for so long is made anew: the word that it may go on
/// can have been lost.
const BLOCKED_LIMIT: Duration = Duration::from_secs(60);

/// Why a connection, or a channel on it, cannot be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("{what}: {source}")]
    Broker { what: &'static str, source: lapin::Error },
    #[error("{what}: no answer within {CALL_LIMIT:?}")]
    Late { what: &'static str },
}

/// Awaits one call to lapin, never longer than [`CALL_LIMIT`].
pub(super) async fn bounded<T>(
    what: &'static str,
    call: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    match timeout(CALL_LIMIT, call).await {
        Ok(answer) => answer.map_err(|source| LinkError::Broker { what, source }),
        Err(_) => Err(LinkError::Late { what }),
    }
}

/// A connection that works, as far as is known.
pub(super) struct Live {
    connection: Connection,
    /// Differs from every other connection's of this process.
    pub generation: u64,
    /// Cancelled when the connection is of no use any more.
    pub lost: CancellationToken,
    blocked: watch::Sender<bool>,
    reason: OnceLock<String>,
    /// The socket below, to end what does not close.
    socket: Option<TcpStream>,
}

impl Live {
    /// A new channel.
    pub async fn channel(&self) -> Result<Channel, LinkError> {
        bounded("opening a channel", self.connection.create_channel()).await
    }

    /// Closes a channel that was used for declaring. A failure only leaves it to the end of
    /// the connection.
    pub async fn put_away(&self, channel: Channel) {
        if let Err(error) = bounded("closing a channel", channel.close(200, "done".into())).await {
            tracing::debug!(%error, "a channel did not close");
        }
    }

    /// Whether the broker takes nothing at present (it is short of memory or disk).
    pub fn blocked(&self) -> watch::Receiver<bool> {
        self.blocked.subscribe()
    }

    /// Gives the connection up.
    pub fn fail(&self, why: impl Into<String>) {
        let _ = self.reason.set(why.into());
        self.lost.cancel();
    }

    /// After silence: gives the connection up if it does not answer at all. A single queue can
    /// be silent too (a quorum queue without a leader); that is no fault of the connection.
    pub async fn probe(&self, silence: &str) {
        if self.channel().await.is_err() {
            self.fail(silence);
        }
    }

    /// [`Self::probe`] if this error was silence; others are a channel's own.
    pub async fn probe_if_silent(&self, error: &LinkError) {
        if matches!(error, LinkError::Late { .. }) {
            self.probe(&error.to_string()).await;
        }
    }

    fn is_connected(&self) -> bool {
        self.connection.status().connected()
    }
}

/// Who is up, of the two connections.
pub(super) struct Board {
    up: Mutex<[bool; 2]>,
    sender: watch::Sender<Link>,
    metrics: Arc<Metrics>,
}

impl Board {
    pub fn new(metrics: Arc<Metrics>) -> Self {
        metrics.link(Link::Down);
        Self { up: Mutex::default(), sender: watch::Sender::new(Link::Down), metrics }
    }

    pub fn subscribe(&self) -> watch::Receiver<Link> {
        self.sender.subscribe()
    }

    /// Notes that one line is up or down, and tells how both are together.
    fn set(&self, role: Role, is_up: bool) {
        let mut up = self.up.lock().unwrap_or_else(PoisonError::into_inner);
        up[role as usize] = is_up;
        let link = if up.iter().all(|one| *one) { Link::Up } else { Link::Down };
        // The metric first: whoever hears of the change finds it there.
        self.metrics.link(link);
        self.sender.send_if_modified(|was| std::mem::replace(was, link) != link);
    }
}

/// What a connection is for. They are apart because an alarm of the broker stalls whatever
/// shares a connection with a publisher, acknowledgements too.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    Publish = 0,
    Consume = 1,
}

/// The connection of a role, while there is one.
pub(super) type Lives = watch::Receiver<Option<Arc<Live>>>;

/// Keeps a connection until `stop`; then closes it.
pub(super) struct Line {
    pub core: Arc<Core>,
    pub role: Role,
    pub stop: CancellationToken,
    pub sender: watch::Sender<Option<Arc<Live>>>,
}

impl Line {
    pub async fn run(self) {
        let mut backoff = Backoff::new(self.core.max_backoff);
        while !self.stop.is_cancelled() {
            let Some(established) = self.establish_or_stop().await else {
                return;
            };
            match established {
                Ok(live) => self.keep(live, &mut backoff).await,
                Err(error) => {
                    tracing::warn!(role = ?self.role, broker = %self.core.broker, %error, "no connection to the broker")
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff.pause()) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// `None` when it was stopped: then what was begun is still ended in good order.
    async fn establish_or_stop(&self) -> Option<Result<Arc<Live>, LinkError>> {
        let mut establishing = std::pin::pin!(self.establish());
        tokio::select! {
            established = &mut establishing => return Some(established),
            () = self.stop.cancelled() => {}
        }
        if let Ok(Ok(live)) = timeout(CLOSE_LIMIT, establishing).await {
            tear_down(live).await;
        }
        None
    }

    async fn establish(&self) -> Result<Arc<Live>, LinkError> {
        let (connection, socket) = self.connect().await?;
        let live = Arc::new(Live {
            connection,
            generation: self.core.generations.fetch_add(1, Ordering::Relaxed),
            lost: CancellationToken::new(),
            blocked: watch::Sender::new(false),
            reason: OnceLock::new(),
            socket,
        });
        match self.core.topology.declare(&live).await {
            Ok(()) => Ok(live),
            Err(error) => {
                tear_down(live).await;
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<(Connection, Option<TcpStream>), LinkError> {
        const WHAT: &str = "connecting";
        let socket = Arc::new(OnceLock::new());
        let slot = socket.clone();
        let runtime =
            lapin::runtime::default_runtime().map_err(|source| LinkError::Broker { what: WHAT, source })?;
        let name = format!("{}.{:?}", self.core.name, self.role).to_lowercase();
        let connecting = Connection::connector(
            self.core.uri.clone(),
            runtime,
            async move |uri, runtime| {
                let stream = uri.connect_with_config_async(TLSConfig::default(), &runtime).await?;
                #[allow(irrefutable_let_patterns, reason = "with TLS compiled in there are others")]
                if let AsyncTcpStream::Plain(plain) = &stream {
                    note_socket(plain.get_ref(), &slot);
                }
                Ok(stream)
            },
            ConnectionProperties::default().with_connection_name(name.into()),
        );
        let connected = bounded(WHAT, connecting).await;
        let socket: Option<TcpStream> = socket.get().and_then(|socket: &TcpStream| socket.try_clone().ok());
        match (connected, socket) {
            (Ok(connection), socket) => Ok((connection, socket)),
            (Err(error), Some(socket)) => {
                let _ = socket.shutdown(Shutdown::Both);
                Err(error)
            }
            (Err(error), None) => Err(error),
        }
    }

    /// Offers the connection to everybody until it is lost or not wanted any more.
    async fn keep(&self, live: Arc<Live>, backoff: &mut Backoff) {
        let since = Instant::now();
        tracing::info!(role = ?self.role, broker = %self.core.broker, "connected to the broker");
        self.sender.send_replace(Some(live.clone()));
        self.core.board.set(self.role, true);
        let lost = tokio::select! {
            why = watch_over(&live) => Some(why),
            () = self.stop.cancelled() => None,
        };
        self.core.board.set(self.role, false);
        self.sender.send_replace(None);
        live.lost.cancel();
        if let Some(why) = lost {
            tracing::warn!(role = ?self.role, broker = %self.core.broker, why, "connection to the broker lost");
            self.core.metrics.reconnecting();
        }
        // One that never lives long must not be built in a hot loop.
        if since.elapsed() > backoff.most() {
            backoff.reset();
        }
        tear_down(live).await;
    }
}

/// Ends when the connection is of no use any more, and says why.
async fn watch_over(live: &Live) -> String {
    let mut events = std::pin::pin!(live.connection.events_listener());
    let mut look = tokio::time::interval(LOOK);
    let mut blocked_since = None;
    let mut last_error = None;
    loop {
        tokio::select! {
            () = live.lost.cancelled() => return live.reason.get().cloned().unwrap_or_default(),
            event = events.next() => match event {
                Some(Event::ConnectionBlocked(reason)) => {
                    tracing::warn!(reason, "the broker takes no messages at present");
                    blocked_since = Some(Instant::now());
                    live.blocked.send_replace(true);
                }
                Some(Event::ConnectionUnblocked) => {
                    tracing::info!("the broker takes messages again");
                    blocked_since = None;
                    live.blocked.send_replace(false);
                }
                // Channels' errors come here too; they are their users' to handle.
                Some(Event::Error(error)) => last_error = Some(error.to_string()),
                Some(_) => {}
                None => return "lapin ended the connection".to_owned(),
            },
            _ = look.tick() => {}
        }
        if !live.is_connected() {
            return last_error.unwrap_or_else(|| "closed".to_owned());
        }
        if blocked_since.is_some_and(|since| since.elapsed() > BLOCKED_LIMIT) {
            return format!("the broker has blocked it for {BLOCKED_LIMIT:?}");
        }
    }
}

/// Closes in good order where that is possible, else ends the socket. Where nobody else holds
/// the connection any more, its thread is awaited: it must not outlive the runtime.
async fn tear_down(live: Arc<Live>) {
    let closing = live.connection.close(200, "closing".into());
    let closed = matches!(timeout(CLOSE_LIMIT, closing).await, Ok(Ok(())));
    if let (false, Some(socket)) = (closed, &live.socket) {
        let _ = socket.shutdown(Shutdown::Both);
    }
    if let Some(live) = Arc::into_inner(live) {
        let ending = tokio::task::spawn_blocking(move || live.connection.run());
        let _ = timeout(CLOSE_LIMIT, ending).await;
    }
}

/// Keeps a second handle of the socket.
fn note_socket(stream: &impl std::os::fd::AsFd, slot: &OnceLock<TcpStream>) {
    if let Ok(handle) = stream.as_fd().try_clone_to_owned() {
        let _ = slot.set(handle.into());
    }
}

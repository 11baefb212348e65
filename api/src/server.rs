//! The HTTP/1 server: our own loop, because patience has to be bounded in three places
//! and `axum::serve` bounds none. A request's head must be there within `header_timeout`,
//! an idle connection is closed after `idle_timeout`, and so is one whose client reads
//! nothing of what is sent to it. While a request is under way nothing is timed here.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use futures_util::task::AtomicWaker;
use hyper::body::{Body as HttpBody, Bytes, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::Settings;

/// How long requests that are under way may take to end once we stop.
const DRAIN: Duration = Duration::from_secs(20);
/// After an accept that failed: most often no descriptor is free.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Head bytes beyond the limit that are still read, so that the answer can say which limit it was.
const HEAD_SLACK: usize = 64 * 1024;

/// Serves until stopped, then lets what is under way end.
pub async fn run(listener: TcpListener, router: Router, settings: &Settings, stop: CancellationToken) {
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => serve_one(stream, router.clone(), settings, &graceful),
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::warn!("some requests did not end in time");
    }
}

fn serve_one(stream: TcpStream, router: Router, settings: &Settings, graceful: &GracefulShutdown) {
    // Small answers go out at once; a socket that cannot is still good.
    let _ = stream.set_nodelay(true);
    let phase = Arc::new(Phase::default());
    let patience = Patience {
        header: Duration::from_millis(settings.header_timeout_ms),
        idle: Duration::from_millis(settings.idle_timeout_ms),
    };
    let io = TokioIo::new(Timed::new(stream, patience, Arc::clone(&phase)));
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        phase.go_to(BUSY);
        let under_way = UnderWay(Arc::clone(&phase));
        let answer = router.clone().oneshot(request.map(Body::new));
        async move { answer.await.map(|response| response.map(|body| Watched { body, _under_way: under_way })) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_buf_size(settings.header_bytes.saturating_add(HEAD_SLACK))
        .serve_connection(io, service);
    let connection = graceful.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
}

/// A request's head is on its way; a new connection begins here.
const HEAD: u32 = 0;
/// A request is under way.
const BUSY: u32 = 1;
/// Nothing of the next request has come.
const IDLE: u32 = 2;

/// Where a connection is. It only counts up, so that the head of one request and the head
/// of the next are two phases.
#[derive(Default)]
struct Phase {
    count: AtomicU32,
    /// Woken when a request is over: hyper then has a read outstanding since before, and
    /// would not ask again by itself, so that no deadline would begin.
    reader: AtomicWaker,
}

impl Phase {
    fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// The next phase of that kind, from any other.
    fn go_to(&self, kind: u32) {
        let count = self.count();
        let ahead = (kind + 3 - count % 3) % 3;
        // One connection is one task: nobody else counts at the same time.
        self.count.store(count.wrapping_add(ahead), Ordering::Relaxed);
    }
}

#[derive(Clone, Copy)]
struct Patience {
    header: Duration,
    idle: Duration,
}

/// From a request's head until its answer is sent or given up.
struct UnderWay(Arc<Phase>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.go_to(IDLE);
        self.0.reader.wake();
    }
}

/// An answer's body that knows when it is over.
struct Watched {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection whose patience is bounded.
struct Timed {
    stream: TcpStream,
    patience: Patience,
    phase: Arc<Phase>,
    read: Deadline,
    write: Deadline,
}

impl Timed {
    fn new(stream: TcpStream, patience: Patience, phase: Arc<Phase>) -> Self {
        Self { stream, patience, phase, read: Deadline::default(), write: Deadline::default() }
    }

    fn note_bytes(&self) {
        if self.phase.count() % 3 == IDLE {
            self.phase.go_to(HEAD);
        }
    }

    /// An error once the client has taken too long for what it is doing.
    fn check_read(&mut self, waits: bool, cx: &mut Context<'_>) -> io::Result<()> {
        let count = self.phase.count();
        let patience = match count % 3 {
            HEAD => self.patience.header,
            IDLE => self.patience.idle,
            _ => {
                self.read.clear();
                self.phase.reader.register(cx.waker());
                return Ok(());
            }
        };
        self.read.check(count, patience, waits, cx)
    }
}

/// A point in time that belongs to one phase: another phase begins another one. The timer
/// is touched only by those who wait; who makes progress looks at the clock.
#[derive(Default)]
struct Deadline {
    of: Option<(u32, Instant)>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn clear(&mut self) {
        self.of = None;
    }

    fn check(&mut self, phase: u32, patience: Duration, waits: bool, cx: &mut Context<'_>) -> io::Result<()> {
        let now = Instant::now();
        let at = match self.of {
            Some((of, at)) if of == phase => at,
            _ => now + patience,
        };
        self.of = Some((phase, at));
        if now >= at || (waits && self.poll_timer(at, cx).is_ready()) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }

    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        if timer.deadline() != at {
            timer.as_mut().reset(at);
        }
        timer.as_mut().poll(cx)
    }
}

impl AsyncRead for Timed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.note_bytes();
        }
        // Also after bytes: one at a time they would keep a head open for ever.
        self.check_read(polled.is_pending(), cx)?;
        polled
    }
}

impl AsyncWrite for Timed {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.after_write(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.after_write(polled, cx)
    }
}

impl Timed {
    fn after_write(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if polled.is_pending() {
            let patience = self.patience.idle;
            self.write.check(BUSY, patience, true, cx)?;
            return Poll::Pending;
        }
        self.write.clear();
        Poll::Ready(ready!(polled))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_follow_each_other_and_never_repeat() {
        let phase = Phase::default();
        let mut seen = vec![phase.count()];
        for kind in [BUSY, IDLE, HEAD, BUSY, IDLE, BUSY, IDLE] {
            phase.go_to(kind);
            assert_eq!(phase.count() % 3, kind);
            seen.push(phase.count());
        }
        assert!(seen.windows(2).all(|pair| pair[0] < pair[1]), "{seen:?}");
    }
}

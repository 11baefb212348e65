//! One client's stream: replays from rows, then follows the hub, and ends with the execution.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use holdpoint_db::EventsRequest;
use holdpoint_engine::status::Failure;
use holdpoint_engine::wire::ExecutionKey;
use http::{HeaderValue, StatusCode, header};
use tokio::sync::OwnedSemaphorePermit;

use super::render::{COMMENT, Feed};
use super::{PAGE, Subscription};
use crate::app::App;
use crate::problem::{Answer, Problem};

/// After a failed read.
const PAUSE: Duration = Duration::from_millis(500);

/// A place among the streams of this process; told before anything is begun.
pub fn permit(app: &App) -> Answer<OwnedSemaphorePermit> {
    Arc::clone(&app.streams).try_acquire_owned().map_err(|_| {
        let most = app.settings.streams;
        let detail = format!("this process serves {most} streams; try again, or another replica");
        Problem::limit(StatusCode::SERVICE_UNAVAILABLE, "streams", most, detail)
    })
}

/// One client's stream.
pub struct Reader {
    app: Arc<App>,
    key: ExecutionKey,
    /// The last event that was sent, or skipped by the client's wish.
    position: i64,
    /// Why the execution failed, once that was seen: a page of rows may hold the failure
    /// and still say `running`, and then the page that says `failed` is empty.
    failure: Option<Failure>,
    subscription: Subscription,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

impl Reader {
    /// Begins after `position`, reading rows first unless the subscription is live already.
    pub fn new(
        app: Arc<App>,
        key: ExecutionKey,
        position: i64,
        subscription: Subscription,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        app.metrics.streams.inc();
        Self { app, key, position, failure: None, subscription, over: false, _permit: permit }
    }

    /// The next bytes; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.over {
            let taken = match self.subscription.ready() {
                Some(feed) => self.take(&feed),
                None if self.subscription.is_behind() => self.catch_up().await,
                None => self.follow().await,
            };
            if taken.is_some() {
                return taken;
            }
        }
        None
    }

    /// Waits for the hub; a comment goes out when nothing else has for a while.
    async fn follow(&mut self) -> Option<Bytes> {
        let quiet = Duration::from_millis(self.app.settings.keep_alive_ms);
        let feed = tokio::select! {
            () = self.app.stop.cancelled() => None,
            waited = tokio::time::timeout(quiet, self.subscription.next()) => match waited {
                Err(_) => return Some(COMMENT),
                Ok(feed) => feed,
            },
        };
        match feed {
            Some(feed) => self.take(&feed),
            None => {
                self.over = true;
                None
            }
        }
    }

    /// Reads one page of rows; having read the last, follows the hub.
    async fn catch_up(&mut self) -> Option<Bytes> {
        // The event at the position comes along: if it is the failure, its error is told again.
        let after = (self.position - 1).max(0);
        let request = EventsRequest { key: self.key.clone(), after, limit: PAGE };
        let read = self.app.read(move |store| store.events_read(&[request])).await;
        let Some(page) = read.ok().and_then(|mut pages| pages.pop()) else {
            tokio::select! {
                () = self.app.stop.cancelled() => self.over = true,
                () = tokio::time::sleep(PAUSE) => {}
            }
            return Some(COMMENT);
        };
        let last_page = page.lines.len() < PAGE;
        let taken = self.take(&Feed::new(self.key.id, page));
        if last_page && !self.over {
            self.subscription.go_live(self.position);
        }
        taken
    }

    /// What of a page is new here, and the end if this is it.
    fn take(&mut self, feed: &Feed) -> Option<Bytes> {
        let mut bytes = BytesMut::new();
        self.failure = self.failure.take().or_else(|| feed.failure().cloned());
        if let Some((first, new)) = feed.after(self.position) {
            if first != self.position + 1 {
                // Never a gap: an older page was missed, so read on from rows.
                self.subscription.fall_behind();
                return None;
            }
            self.position = feed.last().unwrap_or(self.position);
            match feed.ending(self.position, self.failure.as_ref()) {
                None => return Some(new),
                Some(_) => bytes.extend_from_slice(&new),
            }
        }
        if let Some(ending) = feed.ending(self.position, self.failure.as_ref()) {
            bytes.extend_from_slice(&ending);
            self.over = true;
        }
        self.over |= feed.is_gone();
        (!bytes.is_empty()).then(|| bytes.freeze())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}

/// The answer that carries a stream; without a reader it is empty and closes.
pub fn response(reader: Option<Reader>) -> Response {
    let pieces = stream::unfold(reader, |reader| async {
        let mut reader = reader?;
        let bytes = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), Some(reader)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (http::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

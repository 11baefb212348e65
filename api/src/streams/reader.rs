//! One client's stream of events as the contract writes them.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use futures_util::stream;
use holdpoint_engine::status::Failure;
use holdpoint_engine::wire::ExecutionKey;
use http::{HeaderValue, header};
use tokio::sync::OwnedSemaphorePermit;

use super::render::{COMMENT, Feed};
use super::{Cursor, Moved, Subscription};
use crate::app::App;

/// One client's stream.
pub struct Reader {
    cursor: Cursor,
    /// Why the execution failed, once that was seen: a page of rows may hold the failure
    /// and still say `running`, and then the page that says `failed` is empty.
    failure: Option<Failure>,
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
        Self { cursor: Cursor::new(app, key, position, subscription, permit), failure: None }
    }

    /// The next bytes; `None` at the end. A comment goes out when nothing else has for a while.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.cursor.next().await? {
                Moved::Quiet => return Some(COMMENT),
                Moved::Page { feed, before } => {
                    if let Some(bytes) = self.render(&feed, before) {
                        return Some(bytes);
                    }
                }
            }
        }
    }

    /// What of a page is new here, and the end if this is it.
    fn render(&mut self, feed: &Feed, before: i64) -> Option<Bytes> {
        self.failure = self.failure.take().or_else(|| feed.failure().cloned());
        let new = feed.after(before);
        let Some(ending) = feed.ending(self.cursor.position(), self.failure.as_ref()) else {
            return new;
        };
        let mut bytes = BytesMut::from(new.unwrap_or_default());
        bytes.extend_from_slice(&ending);
        Some(bytes.freeze())
    }
}

/// The answer that carries a stream; without a reader it is empty and closes.
pub fn response(reader: Option<Reader>) -> Response {
    let pieces = stream::unfold(reader, |reader| async {
        let mut reader = reader?;
        let bytes = reader.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), Some(reader)))
    });
    event_stream(Body::from_stream(pieces))
}

/// An answer whose body are Server-Sent Events.
pub fn event_stream(body: Body) -> Response {
    let mut response = Response::new(body);
    for (name, value) in [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
        (http::HeaderName::from_static("x-accel-buffering"), "no"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

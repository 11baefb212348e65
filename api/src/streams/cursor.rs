//! One reader's place in an execution's events: replays from rows, then follows the hub, and
//! ends with the execution. What the events become on the wire is its user's to say.

use std::sync::Arc;
use std::time::Duration;

use holdpoint_db::EventsRequest;
use holdpoint_engine::wire::ExecutionKey;
use tokio::sync::OwnedSemaphorePermit;

use super::render::Feed;
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
        Problem::limit(http::StatusCode::SERVICE_UNAVAILABLE, "streams", most, detail)
    })
}

/// One reader's place.
pub struct Cursor {
    app: Arc<App>,
    key: ExecutionKey,
    /// The last event that was handed out, or skipped by the reader's wish.
    position: i64,
    subscription: Subscription,
    over: bool,
    _permit: OwnedSemaphorePermit,
}

/// What a reader gets next.
pub enum Moved {
    /// A page. What is new of it comes after `before`; it may be nothing.
    Page {
        /// The page.
        feed: Arc<Feed>,
        /// The reader's place before it.
        before: i64,
    },
    /// Nothing for a while: a comment keeps the line open.
    Quiet,
}

impl Cursor {
    /// Begins after `position`, reading rows first unless the subscription is live already.
    pub fn new(
        app: Arc<App>,
        key: ExecutionKey,
        position: i64,
        subscription: Subscription,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        app.metrics.streams.inc();
        Self { app, key, position, subscription, over: false, _permit: permit }
    }

    /// The last event that was handed out.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The next page, or a pause; `None` at the end, or when this process stops.
    pub async fn next(&mut self) -> Option<Moved> {
        while !self.over {
            let moved = match self.subscription.ready() {
                Some(feed) => self.take(feed),
                None if self.subscription.is_behind() => self.catch_up().await,
                None => self.follow().await,
            };
            if moved.is_some() {
                return moved;
            }
        }
        None
    }

    /// Waits for the hub.
    async fn follow(&mut self) -> Option<Moved> {
        let quiet = Duration::from_millis(self.app.settings.keep_alive_ms);
        let feed = tokio::select! {
            () = self.app.stop.cancelled() => None,
            waited = tokio::time::timeout(quiet, self.subscription.next()) => match waited {
                Err(_) => return Some(Moved::Quiet),
                Ok(feed) => feed,
            },
        };
        match feed {
            Some(feed) => self.take(feed),
            None => {
                self.over = true;
                None
            }
        }
    }

    /// Reads one page of rows; having read the last, follows the hub.
    async fn catch_up(&mut self) -> Option<Moved> {
        // The event at the position comes along: if it is the failure, its error is told again.
        let after = (self.position - 1).max(0);
        let request = EventsRequest { key: self.key.clone(), after, limit: PAGE };
        let read = self.app.read(move |store| store.events_read(&[request])).await;
        let Some(page) = read.ok().and_then(|mut pages| pages.pop()) else {
            tokio::select! {
                () = self.app.stop.cancelled() => self.over = true,
                () = tokio::time::sleep(PAUSE) => {}
            }
            return Some(Moved::Quiet);
        };
        let last_page = page.lines.len() < PAGE;
        let taken = self.take(Arc::new(Feed::new(self.key.id, page)));
        if last_page && !self.over {
            self.subscription.go_live(self.position);
        }
        taken
    }

    /// Moves on over what of a page is new here, and ends if this is the end.
    fn take(&mut self, feed: Arc<Feed>) -> Option<Moved> {
        let before = self.position;
        if let Some(first) = feed.first_after(before) {
            if first != before + 1 {
                // Never a gap: an older page was missed, so read on from rows.
                self.subscription.fall_behind();
                return None;
            }
            self.position = feed.last().unwrap_or(before);
        }
        self.over |= feed.is_gone() || feed.is_the_end(self.position);
        Some(Moved::Page { feed, before })
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}

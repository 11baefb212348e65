//! A turn's events, typed, as far as they are one segment: up to the end, or up to a
//! suspension that waits for somebody. They come from an execution's rows, or from a classic
//! run in this process.

use std::collections::VecDeque;
use std::sync::Arc;

use holdpoint_engine::entry::Entry;
use holdpoint_engine::wire::ExecutionKey;
use tokio::sync::OwnedSemaphorePermit;

use super::{Segment, read_entry, segment};
use crate::app::App;
use crate::classic::{self, Classic};
use crate::streams::{Cursor, Moved};

/// What comes next.
#[derive(Debug)]
pub enum Seen {
    /// An event.
    Event(Box<Entry>),
    /// Nothing for a while: send something that keeps the line open.
    Quiet,
}

/// One segment of a turn's events.
pub struct Events(Source);

enum Source {
    Rows(Box<Rows>),
    /// Its permit is the place among the streams, as a cursor has one.
    Run(Box<Classic>, #[allow(dead_code)] OwnedSemaphorePermit),
}

impl Events {
    /// Those of a segment. The permit is a place among the streams of this process.
    pub fn follow(
        app: &Arc<App>,
        key: &ExecutionKey,
        segment: Segment,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let subscription = app.hub.join(key.clone());
        let cursor = Cursor::new(Arc::clone(app), key.clone(), segment.after, subscription, permit);
        Self(Source::Rows(Box::new(Rows { cursor, waiting: VecDeque::new(), segment, over: false })))
    }

    /// Those of a classic run, which goes on as far as it is read, and ends when it is dropped.
    pub fn run(run: Box<Classic>, permit: OwnedSemaphorePermit) -> Self {
        Self(Source::Run(run, permit))
    }

    /// The next event; `None` after the one that ends the segment, and where this process
    /// stops before it.
    pub async fn next(&mut self) -> Option<Seen> {
        match &mut self.0 {
            Source::Rows(rows) => rows.next().await,
            Source::Run(run, _) => Some(match run.next().await? {
                classic::Step::Event(entry) => Seen::Event(entry),
                classic::Step::Quiet => Seen::Quiet,
            }),
        }
    }
}

/// The events of an execution.
struct Rows {
    cursor: Cursor,
    waiting: VecDeque<(i64, Box<Entry>)>,
    segment: Segment,
    over: bool,
}

impl Rows {
    async fn next(&mut self) -> Option<Seen> {
        loop {
            if self.over {
                return None;
            }
            if let Some((number, entry)) = self.waiting.pop_front() {
                if !self.segment.tells(number, &entry) {
                    continue;
                }
                self.over = ends(&entry);
                return Some(Seen::Event(entry));
            }
            match self.cursor.next().await? {
                Moved::Quiet => return Some(Seen::Quiet),
                Moved::Page { feed, before } => {
                    let entries = feed.lines_after(before).filter_map(|(number, line)| {
                        Some((number, Box::new(read_entry(&line.kind, &line.payload)?)))
                    });
                    self.waiting.extend(entries);
                }
            }
        }
    }
}

fn ends(entry: &Entry) -> bool {
    match entry {
        Entry::ExecutionSuspended(body) => segment::ends_segment(body),
        Entry::ExecutionCompleted(_) | Entry::ExecutionFailed(_) | Entry::ExecutionCancelled(_) => true,
        _ => false,
    }
}

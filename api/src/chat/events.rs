//! An execution's events, typed, as far as they are one segment: up to the end, or up to a
//! suspension that waits for somebody.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use holdpoint_engine::entry::Entry;
use holdpoint_engine::wire::ExecutionKey;
use tokio::sync::OwnedSemaphorePermit;

use super::{Segment, read_entry, segment};
use crate::app::App;
use crate::streams::{Cursor, Moved};

/// What comes next.
#[derive(Debug)]
pub enum Seen {
    /// An event.
    Event(Box<Entry>),
    /// Nothing for a while: send something that keeps the line open.
    Quiet,
}

/// One segment of an execution's events.
pub struct Events {
    cursor: Cursor,
    waiting: VecDeque<(i64, Box<Entry>)>,
    voided: BTreeMap<i32, i64>,
    over: bool,
}

impl Events {
    /// Those of a segment. The permit is a place among the streams of this process.
    pub fn follow(
        app: &Arc<App>,
        key: &ExecutionKey,
        segment: Segment,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        let subscription = app.hub.join(key.clone(), None);
        let cursor = Cursor::new(Arc::clone(app), key.clone(), segment.after, subscription, permit);
        Self { cursor, waiting: VecDeque::new(), voided: segment.voided, over: false }
    }

    /// The next event; `None` after the one that ends the segment, and where this process
    /// stops before it.
    pub async fn next(&mut self) -> Option<Seen> {
        loop {
            if self.over {
                return None;
            }
            if let Some((number, entry)) = self.waiting.pop_front() {
                if self.is_void(number, &entry) {
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

impl Events {
    /// What a broken attempt said is not told to who comes after it broke.
    fn is_void(&self, number: i64, entry: &Entry) -> bool {
        match entry {
            Entry::MessageDelta(_) | Entry::ModelRestarted(_) => {
                self.voided.get(&entry.step()).is_some_and(|last| number <= *last)
            }
            _ => false,
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

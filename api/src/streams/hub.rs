//! One task for each process that looks for events of all streams which it serves.
//!
//! A topic is an execution that somebody reads here. It is due when a message said that
//! there is news beyond what a reader has, when a reader joins behind the news, and once
//! in a while without any message. All due topics are read in one batch, and each page is
//! rendered once and handed to each of its readers. A reader that does not keep up loses
//! its place here, not its events: it reads rows at its own pace and joins again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holdpoint_db::{Db, EventsPage, EventsRequest, StoreResult};
use holdpoint_engine::wire::ExecutionKey;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::PAGE;
use super::render::Feed;

/// Pages that may wait for one reader.
const WAITING: usize = 4;
/// Streams in one read.
const BATCH: usize = 1_000;
/// After a failed read.
const PAUSE: Duration = Duration::from_millis(200);

/// The streams of this process.
pub struct Hub {
    db: Db,
    poll: Duration,
    topics: Mutex<Topics>,
    work: Notify,
}

#[derive(Default)]
struct Topics {
    by_key: HashMap<ExecutionKey, Topic>,
    due: Vec<ExecutionKey>,
    next: u64,
}

struct Topic {
    /// What a message promised since the last look; rows say what is true.
    news: i64,
    /// The last event that was seen in rows.
    seen: i64,
    due: bool,
    looked: Instant,
    readers: Vec<Seat>,
}

struct Seat {
    id: u64,
    /// Events up to here were handed over; `None` while the reader reads rows by itself.
    position: Option<i64>,
    behind: Arc<AtomicBool>,
    feeds: mpsc::Sender<Arc<Feed>>,
}

/// A reader's end. Dropping it ends it.
pub struct Subscription {
    hub: Arc<Hub>,
    key: ExecutionKey,
    id: u64,
    behind: Arc<AtomicBool>,
    feeds: mpsc::Receiver<Arc<Feed>>,
}

impl Hub {
    /// Looks for each stream at least once every `poll`.
    pub fn new(db: Db, poll: Duration) -> Self {
        Self { db, poll, topics: Mutex::default(), work: Notify::new() }
    }

    fn topics(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins, for a reader that reads rows by itself until it goes live. News are remembered from now on.
    pub fn join(self: &Arc<Self>, key: ExecutionKey) -> Subscription {
        let (sender, feeds) = mpsc::channel(WAITING);
        let behind = Arc::new(AtomicBool::new(true));
        let mut topics = self.topics();
        topics.next += 1;
        let id = topics.next;
        let seat = Seat { id, position: None, behind: Arc::clone(&behind), feeds: sender };
        topics.by_key.entry(key.clone()).or_insert_with(Topic::new).readers.push(seat);
        drop(topics);
        Subscription { hub: Arc::clone(self), key, id, behind, feeds }
    }

    /// Somebody said that there are events up to this one.
    pub fn news(&self, key: &ExecutionKey, event: i64) {
        let mut topics = self.topics();
        let Some(topic) = topics.by_key.get_mut(key) else {
            return;
        };
        topic.news = topic.news.max(event);
        if topics.mark_if_wanted(key) {
            self.work.notify_one();
        }
    }

    /// Looks until it is stopped.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut rounds = tokio::time::interval((self.poll / 2).max(Duration::from_millis(1)));
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.work.notified() => {}
                _ = rounds.tick() => self.topics().mark_quiet(self.poll),
            }
            self.look().await;
        }
    }

    /// Reads all that is due, and what becomes due meanwhile.
    async fn look(&self) {
        loop {
            let requests = self.topics().take_due();
            if requests.is_empty() {
                return;
            }
            let asked = requests.clone();
            match flat(self.db.read(move |store| store.events_read(&asked)).await) {
                Ok(pages) => self.hand_out(&requests, pages),
                Err(error) => {
                    tracing::warn!(%error, streams = requests.len(), "streams wait for the database");
                    self.topics().mark_all(&requests);
                    return tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn hand_out(&self, requests: &[EventsRequest], pages: Vec<EventsPage>) {
        let rendered: Vec<(usize, Feed)> = pages
            .into_iter()
            .zip(requests)
            .map(|(page, of)| (page.lines.len(), Feed::new(of.key.id, page)))
            .collect();
        let mut topics = self.topics();
        for (request, (lines, feed)) in requests.iter().zip(rendered) {
            topics.hand_out(request, Arc::new(feed), lines);
        }
    }
}

fn flat<T>(result: StoreResult<StoreResult<T>>) -> StoreResult<T> {
    result.and_then(|inner| inner)
}

impl Topics {
    /// Due, if a reader is behind what is known or promised; whether it is.
    fn mark_if_wanted(&mut self, key: &ExecutionKey) -> bool {
        let Some(topic) = self.by_key.get_mut(key) else {
            return false;
        };
        let wanted = topic.lowest().is_some_and(|lowest| topic.news.max(topic.seen) > lowest);
        if wanted {
            mark(&mut self.due, key, topic);
        }
        wanted
    }

    fn mark_quiet(&mut self, poll: Duration) {
        for (key, topic) in &mut self.by_key {
            if topic.lowest().is_some() && topic.looked.elapsed() >= poll {
                mark(&mut self.due, key, topic);
            }
        }
    }

    fn mark_all(&mut self, requests: &[EventsRequest]) {
        for request in requests {
            if let Some(topic) = self.by_key.get_mut(&request.key) {
                mark(&mut self.due, &request.key, topic);
            }
        }
    }

    /// What a message promised is forgotten when the look begins: a promise that no row
    /// keeps costs one look, not one after the other.
    fn take_due(&mut self) -> Vec<EventsRequest> {
        let taken = self.due.len().min(BATCH);
        let mut requests = Vec::with_capacity(taken);
        for key in self.due.drain(..taken) {
            let Some(topic) = self.by_key.get_mut(&key) else {
                continue;
            };
            (topic.due, topic.news, topic.looked) = (false, 0, Instant::now());
            if let Some(after) = topic.lowest() {
                requests.push(EventsRequest { key, after, limit: PAGE });
            }
        }
        requests
    }

    fn hand_out(&mut self, request: &EventsRequest, feed: Arc<Feed>, lines: usize) {
        let Some(topic) = self.by_key.get_mut(&request.key) else {
            return;
        };
        topic.seen = topic.seen.max(feed.last().unwrap_or(0));
        for seat in &mut topic.readers {
            seat.take(&feed, request.after);
        }
        if lines >= PAGE {
            mark(&mut self.due, &request.key, topic);
        }
        self.mark_if_wanted(&request.key);
    }
}

fn mark(due: &mut Vec<ExecutionKey>, key: &ExecutionKey, topic: &mut Topic) {
    if !topic.due {
        topic.due = true;
        due.push(key.clone());
    }
}

impl Topic {
    fn new() -> Self {
        Self { news: 0, seen: 0, due: false, looked: Instant::now(), readers: Vec::new() }
    }

    fn lowest(&self) -> Option<i64> {
        self.readers.iter().filter_map(|seat| seat.position).min()
    }
}

impl Seat {
    fn take(&mut self, feed: &Arc<Feed>, read_after: i64) {
        // One that joined while the page was read may be before its beginning.
        let Some(position) = self.position.filter(|position| *position >= read_after) else {
            return;
        };
        let last = feed.last().unwrap_or(position).max(position);
        let over = feed.is_gone() || feed.is_the_end(last);
        if last == position && !over {
            return;
        }
        match self.feeds.try_send(Arc::clone(feed)) {
            Ok(()) => self.position = Some(last),
            Err(_) => {
                self.position = None;
                self.behind.store(true, Ordering::Release);
            }
        }
    }
}

impl Subscription {
    /// Whether the hub has stopped handing pages over: read rows, then [`Subscription::go_live`].
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Acquire)
    }

    /// From now on the hub hands over what comes after `position`.
    pub fn go_live(&mut self, position: i64) {
        while self.feeds.try_recv().is_ok() {}
        let mut topics = self.hub.topics();
        self.move_seat(&mut topics, Some(position));
        if topics.mark_if_wanted(&self.key) {
            self.hub.work.notify_one();
        }
    }

    /// From now on this reader reads rows by itself.
    pub fn fall_behind(&mut self) {
        let mut topics = self.hub.topics();
        self.move_seat(&mut topics, None);
    }

    fn move_seat(&self, topics: &mut Topics, position: Option<i64>) {
        let Some(topic) = topics.by_key.get_mut(&self.key) else {
            return;
        };
        if let Some(seat) = topic.readers.iter_mut().find(|seat| seat.id == self.id) {
            seat.position = position;
            self.behind.store(position.is_none(), Ordering::Release);
        }
    }

    /// The next page. Pages may repeat what the reader has seen; never skip.
    pub async fn next(&mut self) -> Option<Arc<Feed>> {
        self.feeds.recv().await
    }

    /// A page that is there already.
    pub fn ready(&mut self) -> Option<Arc<Feed>> {
        self.feeds.try_recv().ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut topics = self.hub.topics();
        let Some(topic) = topics.by_key.get_mut(&self.key) else {
            return;
        };
        topic.readers.retain(|seat| seat.id != self.id);
        if topic.readers.is_empty() {
            topics.by_key.remove(&self.key);
        }
    }
}

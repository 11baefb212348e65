//! The store for async callers: database work runs on threads made for it, and starts and
//! transitions that wait at the same moment share one transaction (group commit).
//!
//! A batch goes as soon as its thread is idle: under load the cost is shared, without load
//! nobody waits. Where more waits than a batch may have, it takes from each tenant in turn. A transition whose row somebody else has locked goes to a thread where only
//! its like wait for it. A panic in a piece of work ends that work, never its thread.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, unbounded};
use prometheus::{Histogram, HistogramOpts, HistogramVec, Registry};
use tokio::sync::oneshot;

use crate::fair_queue::FairQueue;
use crate::store::{Store, StoreResult};
use crate::types::*;

/// Called with what was committed and its answers.
pub type Hook<T, A> = Box<dyn Fn(&[T], &[A]) + Send + Sync>;

/// Called after each committed batch, on the database thread: must not block.
pub struct Hooks {
    /// After creates: the starts with their answers.
    pub created: Hook<NewExecution, Created>,
    /// After commits: the transitions with their outcomes.
    pub committed: Hook<Transition, Committed>,
}

impl Hooks {
    /// Hooks that do nothing: for commands that start nothing, and for tests.
    pub fn none() -> Self {
        Self { created: Box::new(|_, _| {}), committed: Box::new(|_, _| {}) }
    }
}

/// Something to commit, and who waits for the answer.
struct Waiting<T, A> {
    item: T,
    since: Instant,
    answer: oneshot::Sender<StoreResult<A>>,
}

/// What a thread of the store does for somebody.
type Work = Box<dyn FnOnce(&dyn Store) + Send>;

struct Job {
    work: Work,
    since: Instant,
}

/// The store for async callers. Cheap to clone; its threads end with the last clone.
#[derive(Clone)]
pub struct Db {
    creates: Sender<Waiting<NewExecution, Created>>,
    commits: Sender<Waiting<Transition, Committed>>,
    hot: Sender<Job>,
    read: Sender<Job>,
    waits: HistogramVec,
}

/// From the handing over of work to its begin.
fn wait_histogram() -> HistogramVec {
    let help = "How long work waited for a thread of the database, by what it waited for";
    let times = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
    let options = HistogramOpts::new("holdpoint_db_wait_seconds", help).buckets(times);
    HistogramVec::new(options, &["queue"]).expect("constant names are valid")
}

impl Db {
    /// Starts the threads.
    pub fn start(store: Arc<dyn Store>, settings: &crate::Settings, hooks: Hooks) -> Self {
        let most = settings.batch.max(1);
        let (hooks, waits) = (Arc::new(hooks), wait_histogram());
        let (creates, created) = unbounded();
        let (commits, committed) = unbounded();
        spawn("hp-db-create", {
            let (store, hooks) = (Arc::clone(&store), Arc::clone(&hooks));
            let waited = waits.with_label_values(&["create"]);
            move || create_thread(store.as_ref(), &created, most, &hooks, &waited)
        });
        let (late, came_late) = unbounded();
        spawn("hp-db-commit", {
            let (store, hooks) = (Arc::clone(&store), Arc::clone(&hooks));
            let waited = waits.with_label_values(&["commit"]);
            move || {
                let commit = |batch| commit_unlocked(store.as_ref(), batch, &hooks, &late);
                commit_thread(&committed, most, &waited, commit);
            }
        });
        spawn("hp-db-late", {
            let (store, hooks) = (Arc::clone(&store), Arc::clone(&hooks));
            let waited = waits.with_label_values(&["late"]);
            move || {
                commit_thread(&came_late, most, &waited, |batch| {
                    commit_waiting(store.as_ref(), batch, &hooks)
                })
            }
        });
        let hot =
            job_threads("hp-db-hot", settings.hot_connections, &store, waits.with_label_values(&["hot"]));
        let read =
            job_threads("hp-db-read", settings.read_connections, &store, waits.with_label_values(&["read"]));
        Self { creates, commits, hot, read, waits }
    }

    /// Shows how long work waits for the threads. An error if the registry has that already.
    pub fn register(&self, registry: &Registry) -> Result<(), prometheus::Error> {
        registry.register(Box::new(self.waits.clone()))
    }

    /// Commits a start, together with all that wait at the same moment.
    pub async fn create(&self, new: NewExecution) -> StoreResult<Created> {
        ask(&self.creates, new).await
    }

    /// Commits many starts, each with an answer or an error of its own.
    pub async fn create_each(&self, new: Vec<NewExecution>) -> Vec<StoreResult<Created>> {
        let waiting: Vec<_> = new.into_iter().map(|new| send(&self.creates, new)).collect();
        let mut answers = Vec::with_capacity(waiting.len());
        for answer in waiting {
            answers.push(answer.await.unwrap_or_else(|_| Err(gone())));
        }
        answers
    }

    /// Commits a transition, together with all that wait at the same moment.
    pub async fn commit(&self, transition: Transition) -> StoreResult<Committed> {
        ask(&self.commits, transition).await
    }

    /// Runs on the threads of the hot path (claims, heartbeats, acts, decisions, sweeps).
    pub async fn hot<R: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> R + Send + 'static,
    ) -> StoreResult<R> {
        run(&self.hot, work).await
    }

    /// Runs on the threads for reading (lists, streams, keys, definitions).
    pub async fn read<R: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> R + Send + 'static,
    ) -> StoreResult<R> {
        run(&self.read, work).await
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the database thread ended".to_owned())
}

fn panicked() -> StoreError {
    StoreError::Refused("the database work panicked".to_owned())
}

fn send<T, A>(to: &Sender<Waiting<T, A>>, item: T) -> oneshot::Receiver<StoreResult<A>> {
    let (answer, answered) = oneshot::channel();
    // Without a thread the sender is dropped, and the receiver says so.
    let _ = to.send(Waiting { item, since: Instant::now(), answer });
    answered
}

async fn ask<T, A>(to: &Sender<Waiting<T, A>>, item: T) -> StoreResult<A> {
    send(to, item).await.unwrap_or_else(|_| Err(gone()))
}

async fn run<R: Send + 'static>(
    to: &Sender<Job>,
    work: impl FnOnce(&dyn Store) -> R + Send + 'static,
) -> StoreResult<R> {
    let (answer, answered) = oneshot::channel();
    let work: Work = Box::new(move |store| {
        let done = catch_unwind(AssertUnwindSafe(|| work(store))).map_err(|_| panicked());
        let _ = answer.send(done);
    });
    to.send(Job { work, since: Instant::now() }).map_err(|_| gone())?;
    answered.await.unwrap_or_else(|_| Err(gone()))
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().name(name.to_owned());
    if let Err(error) = thread.spawn(work) {
        // Whoever asks is told that the thread is gone.
        tracing::error!(name, %error, "a database thread cannot be started");
    }
}

fn job_threads(name: &str, count: u32, store: &Arc<dyn Store>, waited: Histogram) -> Sender<Job> {
    let (sender, jobs) = unbounded::<Job>();
    for _ in 0..count.max(1) {
        let (jobs, store, waited) = (jobs.clone(), Arc::clone(store), waited.clone());
        spawn(name, move || {
            for job in jobs {
                waited.observe(job.since.elapsed().as_secs_f64());
                (job.work)(store.as_ref());
            }
        });
    }
    sender
}

/// Whose it is.
trait Owned {
    fn tenant(&self) -> &Arc<str>;
}

impl<A> Owned for Waiting<NewExecution, A> {
    fn tenant(&self) -> &Arc<str> {
        &self.item.key.scope.tenant
    }
}

impl<A> Owned for Waiting<Transition, A> {
    fn tenant(&self) -> &Arc<str> {
        &self.item.key.scope.tenant
    }
}

/// The first that waits, and all that wait with it, up to `most`, from each tenant in turn;
/// `None` at the end.
fn next_batch<T: Owned>(from: &Receiver<T>, queue: &mut FairQueue<T>, most: usize) -> Option<Vec<T>> {
    if queue.is_empty() {
        let first = from.recv().ok()?;
        queue.push(&Arc::clone(first.tenant()), first);
    }
    for one in from.try_iter() {
        queue.push(&Arc::clone(one.tenant()), one);
    }
    Some(std::iter::from_fn(|| queue.pop()).take(most).collect())
}

fn create_thread(
    store: &dyn Store,
    from: &Receiver<Waiting<NewExecution, Created>>,
    most: usize,
    hooks: &Hooks,
    waited: &Histogram,
) {
    let mut queue = FairQueue::default();
    while let Some(batch) = next_batch(from, &mut queue, most) {
        observe(&batch, waited);
        let hook = |items: &[NewExecution], answers: &[Created]| (hooks.created)(items, answers);
        serve(batch, |items| store.execution_create(items), hook, give);
    }
}

type Commit = Waiting<Transition, Committed>;

/// At most one transition of an execution in a batch: a second one waits for the next.
fn commit_thread(from: &Receiver<Commit>, most: usize, waited: &Histogram, commit: impl Fn(Vec<Commit>)) {
    let mut queue = FairQueue::default();
    while let Some(waiting) = next_batch(from, &mut queue, most) {
        let mut keys = HashSet::with_capacity(waiting.len());
        let mut batch = Vec::with_capacity(waiting.len());
        let mut kept = Vec::new();
        for one in waiting {
            if keys.insert(one.item.key.clone()) { batch.push(one) } else { kept.push(one) }
        }
        for one in kept.into_iter().rev() {
            queue.push_front(&Arc::clone(one.tenant()), one);
        }
        observe(&batch, waited);
        commit(batch);
    }
}

fn observe<T, A>(batch: &[Waiting<T, A>], waited: &Histogram) {
    batch.iter().for_each(|one| waited.observe(one.since.elapsed().as_secs_f64()));
}

/// What somebody else has locked is handed on, so that the others have their answers.
fn commit_unlocked(store: &dyn Store, batch: Vec<Commit>, hooks: &Hooks, late: &Sender<Commit>) {
    let hook = |items: &[Transition], answers: &[Option<Committed>]| {
        let done: Vec<Committed> = answers.iter().flatten().cloned().collect();
        if done.len() == items.len() {
            return (hooks.committed)(items, &done);
        }
        let with_answers = items.iter().zip(answers).filter(|(_, answer)| answer.is_some());
        let items: Vec<Transition> = with_answers.map(|(item, _)| item.clone()).collect();
        (hooks.committed)(&items, &done);
    };
    let give_or_hand_on = |item, answer: StoreResult<Option<Committed>>, to| match answer.transpose() {
        Some(answer) => give(item, answer, to),
        None => drop(late.send(Waiting { item, since: Instant::now(), answer: to })),
    };
    serve(batch, |items| store.execution_commit_unlocked(items), hook, give_or_hand_on);
}

fn commit_waiting(store: &dyn Store, batch: Vec<Commit>, hooks: &Hooks) {
    let hook = |items: &[Transition], answers: &[Committed]| (hooks.committed)(items, answers);
    serve(batch, |items| store.execution_commit(items), hook, give);
}

fn give<T, A>(_item: T, answer: StoreResult<A>, to: oneshot::Sender<StoreResult<A>>) {
    let _ = to.send(answer);
}

/// One batch; after a definite error each item singly, so that a bad one harms no other.
fn serve<T, A, W>(
    batch: Vec<Waiting<T, W>>,
    work: impl Fn(&[T]) -> StoreResult<Vec<A>>,
    hook: impl Fn(&[T], &[A]),
    give: impl Fn(T, StoreResult<A>, oneshot::Sender<StoreResult<W>>),
) {
    let (items, waiting): (Vec<T>, Vec<_>) = batch.into_iter().map(|one| (one.item, one.answer)).unzip();
    let careful = |items: &[T]| {
        let done = catch_unwind(AssertUnwindSafe(|| {
            let answers = work(items)?;
            hook(items, &answers);
            Ok(answers)
        }));
        done.unwrap_or_else(|_| Err(panicked()))
    };
    let answers: Vec<StoreResult<A>> = match careful(&items) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(StoreError::Unavailable(why)) => {
            items.iter().map(|_| Err(StoreError::Unavailable(why.clone()))).collect()
        }
        Err(error) if items.len() == 1 => vec![Err(error)],
        Err(_) => items
            .chunks(1)
            .map(|one| careful(one)?.pop().ok_or_else(|| StoreError::Corrupt("no answer".to_owned())))
            .collect(),
    };
    for ((item, answer), to) in items.into_iter().zip(answers).zip(waiting) {
        give(item, answer, to);
    }
}

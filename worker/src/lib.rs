//! Takes executions, decides, performs, commits.
//!
//! A worker has no durable state of its own. What it holds, it holds by a lease of its
//! session; whatever it does is a guarded write of that lease, and an effect begins only
//! after its intent is committed and while the lease is sure.

mod about;
mod clock;
mod commands;
mod definitions;
mod delegate;
mod drive;
mod evaluator;
mod grants;
mod intake;
mod metrics;
mod outgoing;
mod parking;
mod perform;
mod publish;
mod session;
mod settings;
mod spans;
mod tool_turn;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use holdpoint_db::Db;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::workflow::expression::Evaluator;
use holdpoint_perform::Performer;
use holdpoint_queue::Queue;
use holdpoint_scheduler::{Relay, Sweeper};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::definitions::Definitions;
use crate::metrics::Metrics;
use crate::session::Session;
#[doc(hidden)]
pub use drive::{approval_change, kept, target};
pub use intake::PREFETCH;
pub use settings::Settings;

/// What a worker is made of.
pub struct Parts {
    /// The store.
    pub db: Db,
    /// Hints and commands.
    pub queue: Arc<dyn Queue>,
    /// Carries out sweeps.
    pub sweeper: Sweeper,
    /// How it works.
    pub settings: Settings,
    /// Performs effects.
    pub performer: Arc<Performer>,
    /// Evaluates workflows' expressions; its calls block.
    pub evaluator: Arc<dyn Evaluator>,
    /// Limits on executions.
    pub limits: Limits,
}

/// What the tasks of one worker share.
struct Worker {
    db: Db,
    queue: Arc<dyn Queue>,
    sweeper: Sweeper,
    relay: Relay,
    settings: Settings,
    limits: Limits,
    definitions: Definitions,
    performer: Arc<Performer>,
    evaluator: Arc<dyn Evaluator>,
    metrics: Metrics,
    /// There are limits, as the last claim saw it.
    limited: AtomicBool,
    /// A call of a limited tool ended here.
    call_ended: Notify,
    /// SIGTERM came: nothing new is begun.
    stop: CancellationToken,
    /// The time for draining is over: what is under way is dropped.
    hurry: CancellationToken,
}

/// Works until it is stopped, then drains: takes nothing more, lets calls end within
/// `drain_ms`, gives its leases back. An error only where it cannot begin (bad settings).
pub async fn run(
    parts: Parts,
    registry: &prometheus::Registry,
    stop: CancellationToken,
) -> Result<(), String> {
    parts.settings.check()?;
    let worker = Arc::new(Worker {
        performer: parts.performer,
        evaluator: parts.evaluator,
        metrics: Metrics::new(registry),
        definitions: Definitions::new(parts.db.clone()),
        relay: Relay::new(parts.db.clone(), Arc::clone(&parts.queue)),
        db: parts.db,
        queue: parts.queue,
        sweeper: parts.sweeper,
        settings: parts.settings,
        limits: parts.limits,
        limited: AtomicBool::new(false),
        call_ended: Notify::new(),
        stop,
        hurry: CancellationToken::new(),
    });
    let hurry = tokio::spawn(hurry_after_drain(Arc::clone(&worker)));
    let commands = tokio::spawn(commands::run(Arc::clone(&worker)));
    let outgoing = tokio::spawn(outgoing::run(Arc::clone(&worker)));
    while let Some(session) = Session::begin(&worker).await {
        let tasks = TaskTracker::new();
        intake::run(&worker, &session, &tasks).await;
        tasks.close();
        tasks.wait().await;
        session.end(&worker).await;
    }
    hurry.abort();
    if commands.await.is_err() {
        tracing::error!("the task for commands ended badly");
    }
    if outgoing.await.is_err() {
        tracing::error!("the task for outgoing events ended badly");
    }
    Ok(())
}

/// Calls that are still under way when the time for draining is over are dropped; their
/// class says what the next worker makes of them.
async fn hurry_after_drain(worker: Arc<Worker>) {
    worker.stop.cancelled().await;
    tokio::time::sleep(Duration::from_millis(worker.settings.drain_ms)).await;
    worker.hurry.cancel();
}

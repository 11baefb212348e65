//! Joins the parts: one store, one queue and one registry for a process, and the hooks by
//! which what was committed is told. A hint is sent after its commit, never before, and
//! nothing depends on its arrival.

pub mod hints;
pub mod metrics;
pub mod roles;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdpoint_db::{Db, Hooks, Store};
use holdpoint_engine::workflow::expression::Evaluator;
use holdpoint_perform::Performer;
use holdpoint_perform::expressions::Expressions;
use holdpoint_queue::Queue;
use holdpoint_scheduler::Sweeper;
use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::configuration::Configuration;
use crate::otlp::Otlp;
use crate::{dev_file, seal_key};

/// Between looks at a schema that is not ready.
const SCHEMA_POLL: Duration = Duration::from_millis(500);
/// Between complaints about it.
const SCHEMA_REMINDER: Duration = Duration::from_secs(10);

/// What every role of a process shares.
pub struct Foundation {
    /// As it was read.
    pub configuration: Configuration,
    /// The store on its threads.
    pub db: Db,
    /// Messages between roles.
    pub queue: Arc<dyn Queue>,
    /// Performs effects, for every role that does.
    pub performer: Arc<Performer>,
    /// Evaluates workflows' expressions, for every role that does.
    pub evaluator: Arc<dyn Evaluator>,
    /// Carries out sweeps, for every role that does.
    pub sweeper: Sweeper,
    /// Everything that `/metrics` shows.
    pub registry: Registry,
    /// Takes spans to a collector.
    otlp: Otlp,
}

/// Opens the store for a command that does one thing and ends.
pub fn open_store(configuration: &Configuration) -> anyhow::Result<Arc<dyn Store>> {
    open(configuration, &Registry::new())
}

/// An embedded store's folder is for its owner only: it holds everything.
fn open(configuration: &Configuration, registry: &Registry) -> anyhow::Result<Arc<dyn Store>> {
    if let Some(folder) = configuration.database.url.strip_prefix("sqlite:") {
        dev_file::make_folder(Path::new(folder))?;
    }
    Ok(holdpoint_db::open(&configuration.database, registry)?)
}

impl Foundation {
    /// Opens store and queue. Neither a database nor a broker that is away is an error here:
    /// both are reached, and reached again, in the background.
    pub fn build(mut configuration: Configuration) -> anyhow::Result<Self> {
        let registry = metrics::registry()?;
        let otlp = Otlp::start(&configuration.trace)?;
        let store = open(&configuration, &registry)?;
        if let Some(folder) = configuration.database.url.strip_prefix("sqlite:")
            && configuration.outbound.seal_keys.is_empty()
        {
            configuration.outbound.seal_keys = vec![seal_key::of(Path::new(folder))?];
        }
        let queue = holdpoint_queue::open(&configuration.queue, &registry).map_err(anyhow::Error::msg)?;
        let db = Db::start(store, &configuration.database, hooks(&queue));
        db.register(&registry)?;
        let settings = configuration.scheduler.clone();
        let sweeper = Sweeper::new(db.clone(), Arc::clone(&queue), settings, &registry);
        let performer = Performer::new(&configuration.outbound, configuration.limits.value_bytes);
        let performer = Arc::new(performer.map_err(anyhow::Error::msg)?);
        let evaluator = Expressions::new(&configuration.expressions, configuration.limits.value_bytes);
        let evaluator = Arc::new(evaluator);
        Ok(Self { configuration, db, queue, performer, evaluator, sweeper, registry, otlp })
    }

    /// Waits until `migrate` has run: roles and it may be started together. `false` if it was
    /// told to stop before.
    pub async fn wait_for_schema(&self, stop: &CancellationToken) -> bool {
        let mut reminded: Option<Instant> = None;
        loop {
            let waits_for =
                match self.db.read(|store| store.migrations_pending()).await.and_then(|pending| pending) {
                    Ok(pending) if pending.is_empty() => return true,
                    Ok(pending) => format!("waiting for `holdpoint migrate`: {} to run", pending.join(", ")),
                    Err(error) => format!("waiting for the database: {error}"),
                };
            if reminded.is_none_or(|at| at.elapsed() >= SCHEMA_REMINDER) {
                tracing::warn!("{waits_for}");
                reminded = Some(Instant::now());
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(SCHEMA_POLL) => {}
            }
        }
    }

    /// Closes the broker's connections, which must not outlive the runtime, and sends the last
    /// spans.
    pub async fn close(&self) {
        self.queue.close().await;
        self.otlp.end().await;
    }
}

/// What is told after each committed batch: one message for all of it.
fn hooks(queue: &Arc<dyn Queue>) -> Hooks {
    let (created, committed) = (Arc::clone(queue), Arc::clone(queue));
    Hooks {
        created: Box::new(move |starts, answers| {
            holdpoint_db::failpoint::hit("api.hint.before");
            if let Some(hint) = hints::advance(starts, answers) {
                created.nudge(hint);
            }
        }),
        committed: Box::new(move |transitions, outcomes| {
            if let Some(hint) = hints::events(transitions, outcomes) {
                committed.nudge(hint);
            }
        }),
    }
}

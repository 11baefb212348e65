//! One pass of a sweep: recorded, bounded, idempotent. Adding a sweep is one file and one
//! line in [`Sweeper::pass`].

mod files;
mod retention;
mod retries;
mod schedules;
mod stale;
mod stuck;
mod timers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdpoint_db::{
    Db, Store, StoreError, StoreResult, SweepReport, SweepSelect, SweepSource, SweepStart, Swept, failpoint,
};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::{ExecutionKey, Message, NewEvents, SweepKind};
use holdpoint_queue::{Outgoing, Queue, Route};
use prometheus::Registry;
use tracing::Instrument;

use crate::metrics::Metrics;
use crate::{Relay, Settings};

/// Carries sweeps out; cheap to clone.
#[derive(Clone)]
pub struct Sweeper {
    pub(crate) db: Db,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) settings: Settings,
    pub(crate) relay: Relay,
    metrics: Metrics,
}

/// What a caller may change about a pass.
#[derive(Debug, Clone, Default)]
pub struct Bounds {
    /// The most rows; the settings' limit if `None`.
    pub limit: Option<usize>,
    /// For `stale`: see [`SweepSelect::Stale`].
    pub timeout: Option<Duration>,
}

/// What a pass of one sweep needs.
struct Pass<'a> {
    sweeper: &'a Sweeper,
    scope: Option<Scope>,
    timeout: Option<Duration>,
    limit: usize,
    dry_run: bool,
    /// It went as far as it may, and there may be more.
    stopped_short: AtomicBool,
}

impl Sweeper {
    /// A sweeper over this store, whose hints go to this queue.
    pub fn new(db: Db, queue: Arc<dyn Queue>, settings: Settings, registry: &Registry) -> Self {
        let relay = Relay::new(db.clone(), Arc::clone(&queue));
        Self { db, queue, settings, relay, metrics: Metrics::new(registry) }
    }

    /// How long a finished execution is kept where its project says nothing; `None`: for ever.
    pub fn finished_kept(&self) -> Option<Duration> {
        self.settings.finished_kept()
    }

    /// Counts questions that nobody decided in time, by whoever it was that ended them.
    pub fn count_expired(&self, questions: usize) {
        self.metrics.expired.inc_by(questions as u64);
    }

    /// Carries out one pass. A pass of this id that has finished is not run again: its
    /// report is empty. An error means that the store could not be reached; the pass then
    /// stays unfinished, and its tick due.
    pub async fn carry_out(&self, start: SweepStart, bounds: Bounds) -> Result<SweepReport, StoreError> {
        let (tenant, project) = match &start.scope {
            Some(scope) => (scope.tenant.to_string(), scope.project.to_string()),
            None => ("*".to_owned(), "*".to_owned()),
        };
        let span =
            tracing::info_span!("sweep", sweep_id = %start.id, kind = start.kind.as_str(), tenant, project);
        self.recorded(start, bounds).instrument(span).await
    }

    async fn recorded(&self, start: SweepStart, bounds: Bounds) -> Result<SweepReport, StoreError> {
        let opening = start.clone();
        if !self.db.hot(move |store| store.sweep_open(&opening)).await?? {
            return Ok(SweepReport::default());
        }
        let report = self.pass(&start, bounds).await?;
        // Passes that find nothing are many, and would be all that is listed.
        let quiet = !matches!(start.kind, SweepKind::Stale | SweepKind::Stuck);
        let keep = report != SweepReport::default() || !quiet;
        let (kind, period, closing) = (start.kind, self.settings.period(start.kind), start.clone());
        let by_tick = start.source == SweepSource::Scheduler;
        // The tick first: were the pass finished and its tick open, every further command of
        // that tick would name a pass that is over, and the sweep would never run again.
        self.db
            .hot(move |store| {
                if by_tick {
                    store.tick_close(kind, period)?;
                }
                failpoint::hit("sweep.close.between");
                store.sweep_close(&closing, &report, keep)
            })
            .await??;
        self.tell(&start, &report);
        Ok(report)
    }

    async fn pass(&self, start: &SweepStart, bounds: Bounds) -> StoreResult<SweepReport> {
        let pass = Pass {
            sweeper: self,
            scope: start.scope.clone(),
            timeout: bounds.timeout,
            limit: bounds.limit.unwrap_or(self.settings.limit),
            dry_run: start.dry_run,
            stopped_short: AtomicBool::new(false),
        };
        let report = self.pass_of(start.kind, &pass).await?;
        if pass.stopped_short.into_inner() {
            self.metrics.stopped_short.with_label_values(&[start.kind.as_str()]).inc();
        }
        Ok(report)
    }

    async fn pass_of(&self, kind: SweepKind, pass: &Pass<'_>) -> StoreResult<SweepReport> {
        match kind {
            SweepKind::Stale => stale::run(pass).await,
            SweepKind::Stuck => stuck::run(pass).await,
            SweepKind::Timers => timers::run(pass).await,
            SweepKind::Retries => retries::run(pass).await,
            SweepKind::Retention => retention::run(pass).await,
            SweepKind::Schedules => schedules::run(pass).await,
            SweepKind::Files => files::run(pass).await,
        }
    }

    fn tell(&self, start: &SweepStart, report: &SweepReport) {
        let kind = start.kind.as_str();
        self.metrics.run.with_label_values(&[kind, start.source.as_str()]).inc();
        let rows = [
            ("scanned", report.scanned),
            ("cleaned_up", report.cleaned_up),
            ("failed", report.failed),
            ("skipped", report.skipped),
        ];
        for (what, count) in rows {
            self.metrics.rows.with_label_values(&[kind, what]).inc_by(u64::try_from(count).unwrap_or(0));
        }
        if start.kind == SweepKind::Stale {
            self.count_expired(usize::try_from(report.cleaned_up).unwrap_or(0));
        }
        if report.scanned > 0 {
            tracing::info!(
                scanned = report.scanned,
                cleaned_up = report.cleaned_up,
                failed = report.failed,
                skipped = report.skipped,
                "sweep done"
            );
        }
    }
}

impl Pass<'_> {
    async fn select(&self, select: SweepSelect) -> StoreResult<Vec<ExecutionKey>> {
        let limit = self.limit;
        let keys = self.sweeper.db.hot(move |store| store.sweep_select(&select, limit)).await??;
        if keys.len() >= limit {
            self.stop_short();
        }
        Ok(keys)
    }

    fn stop_short(&self) {
        self.stopped_short.store(true, Ordering::Relaxed);
    }

    /// Acts on each row in a transaction of its own: one row's failure stops no other.
    async fn each(
        &self,
        keys: Vec<ExecutionKey>,
        act: impl Fn(&dyn Store, &ExecutionKey) -> StoreResult<Swept> + Clone + Send + 'static,
    ) -> StoreResult<SweepReport> {
        let mut report = SweepReport { scanned: keys.len() as i64, ..SweepReport::default() };
        if self.dry_run {
            return Ok(report);
        }
        let (mut ready, mut events) = (Vec::new(), Vec::new());
        for key in keys {
            let (act, row) = (act.clone(), key.clone());
            match self.sweeper.db.hot(move |store| act(store, &row)).await? {
                Ok(Swept::Done { new_event, ready: is_ready }) => {
                    report.cleaned_up += 1;
                    if new_event.is_some() {
                        self.sweeper.relay.up(key.clone()).await?;
                    }
                    events.extend(new_event.map(|event| NewEvents { key: key.clone(), event }));
                    ready.extend(is_ready.then_some(key));
                }
                Ok(Swept::Skipped) => report.skipped += 1,
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    report.failed += 1;
                    tracing::error!(tenant = %key.scope.tenant, project = %key.scope.project,
                        execution = %key.id, %error, "sweep could not act on a row");
                }
            }
        }
        self.nudge(Route::Workers, ready, Message::Advance);
        self.nudge(Route::Streams, events, Message::Events);
        Ok(report)
    }

    /// Says again that these are ready.
    async fn emit_again(&self, keys: Vec<ExecutionKey>) -> SweepReport {
        let scanned = keys.len() as i64;
        if self.dry_run {
            return SweepReport { scanned, ..SweepReport::default() };
        }
        self.nudge(Route::Workers, keys, Message::Advance);
        SweepReport { scanned, cleaned_up: scanned, ..SweepReport::default() }
    }

    fn nudge<T>(&self, route: Route, items: Vec<T>, message: impl Fn(Vec<T>) -> Message) {
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let message = message(items.by_ref().take(100).collect());
            self.sweeper.queue.nudge(Outgoing::new(route, message.kind(), "", message.encode()));
        }
    }
}

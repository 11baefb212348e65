//! What this role counts, and what the database holds. Labels are matched routes and closed lists,
//! never what a caller wrote. Each API process shows the same gauges of the database.

use std::sync::Arc;
use std::time::Duration;

use holdpoint_db::Stats;
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry,
};

use crate::app::App;

/// Between looks at what the gauges show.
const REFRESH: Duration = Duration::from_secs(5);

/// The API's metrics.
pub struct Metrics {
    /// Requests answered, by matched route.
    pub requests: IntCounterVec,
    /// From the head of the request to the head of the answer.
    pub durations: HistogramVec,
    /// Streams open in this process.
    pub streams: IntGauge,
    /// Decisions taken here.
    pub decisions: IntCounterVec,
    /// Starts refused for the tenant's backlog.
    pub backlog_refused: IntCounter,
    /// Commands of producers, by what they ask for and what they came to.
    pub commands: IntCounterVec,
    /// From the request to the decision.
    pub approval_wait: Histogram,
    gauges: Gauges,
}

/// What the database holds, as of the last look.
struct Gauges {
    up: IntGauge,
    executions: IntGaugeVec,
    ready: IntGauge,
    ready_age: Gauge,
    approvals: IntGauge,
    approvals_age: Gauge,
    expiring: IntGauge,
    sessions: IntGauge,
    ticks: GaugeVec,
    attention: IntGauge,
    parked: IntGauge,
    outgoing: IntGaugeVec,
    outgoing_age: GaugeVec,
    deliveries: IntGauge,
    deliveries_age: Gauge,
}

impl Metrics {
    /// Registers all of them; fails where a name is taken.
    pub fn new(registry: &Registry) -> prometheus::Result<Self> {
        let waits = vec![0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0, 604_800.0];
        let metrics = Self {
            requests: counters("http_requests_total", "Requests answered.", &["route", "method", "status"])?,
            durations: HistogramVec::new(
                HistogramOpts::new(
                    "holdpoint_http_request_duration_seconds",
                    "From request head to answer head.",
                ),
                &["route"],
            )?,
            streams: gauge("streams_open", "Streams open in this process.")?,
            commands: counters(
                "commands_total",
                "Commands of producers settled here.",
                &["kind", "outcome"],
            )?,
            decisions: counters("decisions_total", "Decisions taken here.", &["decision"])?,
            approval_wait: Histogram::with_opts(
                HistogramOpts::new(
                    "holdpoint_approval_wait_seconds",
                    "From an approval's request to its decision.",
                )
                .buckets(waits),
            )?,
            gauges: Gauges::new()?,
            backlog_refused: IntCounter::new(
                "holdpoint_starts_refused_total",
                "Starts refused here because too many executions of their tenant wait.",
            )?,
        };
        metrics.show_all();
        metrics.register(registry)?;
        Ok(metrics)
    }

    /// A series that begins at its first event hides that event from `increase`.
    fn show_all(&self) {
        for status in ["approved", "denied"] {
            self.decisions.with_label_values(&[status]);
        }
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.durations.clone()))?;
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.decisions.clone()))?;
        registry.register(Box::new(self.commands.clone()))?;
        registry.register(Box::new(self.approval_wait.clone()))?;
        registry.register(Box::new(self.backlog_refused.clone()))?;
        self.gauges.register(registry)
    }
}

impl Gauges {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            up: gauge("database_up", "1 while looks at the database succeed, else 0.")?,
            executions: IntGaugeVec::new(
                Opts::new("holdpoint_executions", "Executions that are not terminal, up to 100,000 of each."),
                &["status", "kind"],
            )?,
            ready: gauge("executions_ready", "Ready executions that nobody has taken, up to 100,000.")?,
            ready_age: seconds(
                "executions_ready_oldest_age_seconds",
                "How long the oldest of them is ready.",
            )?,
            approvals: gauge("approvals_pending", "Undecided approvals, up to 100,000.")?,
            approvals_age: seconds("approvals_oldest_age_seconds", "Age of the oldest undecided approval.")?,
            expiring: gauge("approvals_expiring", "Undecided approvals that expire within five minutes.")?,
            sessions: gauge("worker_sessions", "Workers whose lease lasts.")?,
            ticks: GaugeVec::new(
                Opts::new("holdpoint_ticks_overdue_seconds", "How late the pass of a sweep is."),
                &["kind"],
            )?,
            attention: gauge("workflows_attention", "Workflows whose latest run needs a person.")?,
            parked: gauge("parked_messages", "Messages that could not be carried out, up to 100,000.")?,
            outgoing: IntGaugeVec::new(
                Opts::new(
                    "holdpoint_outgoing_events",
                    "Events and replies still to be sent, up to 100,000 each.",
                ),
                &["channel"],
            )?,
            outgoing_age: GaugeVec::new(
                Opts::new("holdpoint_outgoing_oldest_age_seconds", "Age of the oldest one still to be sent."),
                &["channel"],
            )?,
            deliveries: gauge("webhook_deliveries_pending", "Events to deliver to webhooks, up to 100,000.")?,
            deliveries_age: seconds("webhook_deliveries_overdue_seconds", "How late the first of them is.")?,
        })
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.up.clone()))?;
        registry.register(Box::new(self.executions.clone()))?;
        registry.register(Box::new(self.ready.clone()))?;
        registry.register(Box::new(self.ready_age.clone()))?;
        registry.register(Box::new(self.approvals.clone()))?;
        registry.register(Box::new(self.approvals_age.clone()))?;
        registry.register(Box::new(self.expiring.clone()))?;
        registry.register(Box::new(self.sessions.clone()))?;
        registry.register(Box::new(self.ticks.clone()))?;
        registry.register(Box::new(self.attention.clone()))?;
        registry.register(Box::new(self.parked.clone()))?;
        registry.register(Box::new(self.outgoing.clone()))?;
        registry.register(Box::new(self.outgoing_age.clone()))?;
        registry.register(Box::new(self.deliveries.clone()))?;
        registry.register(Box::new(self.deliveries_age.clone()))
    }

    fn show(&self, stats: &Stats) {
        let late = |since: Option<Timestamp>| since.map_or(0.0, |at| at.until(stats.now).as_secs_f64());
        self.up.set(1);
        self.show_executions(stats);
        self.ready.set(stats.ready);
        self.ready_age.set(late(stats.oldest_ready));
        self.approvals.set(stats.approvals_pending);
        self.approvals_age.set(late(stats.oldest_approval));
        self.expiring.set(stats.approvals_expiring);
        self.sessions.set(stats.sessions);
        for (kind, due_at) in &stats.ticks {
            self.ticks.with_label_values(&[kind.as_str()]).set(late(Some(*due_at)));
        }
        self.attention.set(stats.attention);
        self.parked.set(stats.parked);
        for backlog in &stats.outgoing {
            let channel = [backlog.channel.as_str()];
            self.outgoing.with_label_values(&channel).set(backlog.rows);
            self.outgoing_age.with_label_values(&channel).set(late(backlog.oldest));
        }
        self.deliveries.set(stats.deliveries);
        self.deliveries_age.set(late(stats.next_delivery));
    }

    /// What there is none of is shown as 0: a series that comes and goes cannot be drawn.
    fn show_executions(&self, stats: &Stats) {
        for status in Status::ALL.iter().filter(|status| !status.is_terminal()) {
            for kind in DefinitionKind::ALL {
                let found = stats.executions.iter().find(|(is, of, _)| (is, of) == (status, kind));
                let count = found.map_or(0, |(_, _, count)| *count);
                self.executions.with_label_values(&[status.as_str(), kind.as_str()]).set(count);
            }
        }
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(format!("holdpoint_{name}"), help), labels)
}

fn gauge(name: &str, help: &str) -> prometheus::Result<IntGauge> {
    IntGauge::new(format!("holdpoint_{name}"), help)
}

fn seconds(name: &str, help: &str) -> prometheus::Result<Gauge> {
    Gauge::new(format!("holdpoint_{name}"), help)
}

/// Looks at the database every few seconds until it is stopped, so that `/metrics` itself
/// costs it nothing.
pub async fn refresh(app: Arc<App>) {
    loop {
        match app.read(|store| store.stats()).await {
            Ok(stats) => app.metrics.gauges.show(&stats),
            Err(_) => {
                app.metrics.gauges.up.set(0);
                tracing::debug!("the other gauges keep their last values");
            }
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(REFRESH) => {}
        }
    }
}

//! What this role counts. Labels are matched routes and closed lists, never what a caller wrote.

use std::sync::Arc;
use std::time::Duration;

use holdpoint_db::Stats;
use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
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
    /// Executions committed here.
    pub started: IntCounterVec,
    /// Decisions taken here.
    pub decisions: IntCounterVec,
    /// Commands of producers, by what they ask for and what they came to.
    pub commands: IntCounterVec,
    /// From the request to the decision.
    pub approval_wait: Histogram,
    executions: IntGaugeVec,
    approvals: IntGauge,
    oldest: Gauge,
    parked: IntGauge,
    outgoing: IntGaugeVec,
    outgoing_age: IntGaugeVec,
    ready: IntGauge,
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
            started: counters("executions_started_total", "Executions committed here.", &["kind"])?,
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
            executions: IntGaugeVec::new(
                Opts::new("holdpoint_executions", "Executions that are not terminal."),
                &["status", "kind"],
            )?,
            approvals: gauge("approvals_pending", "Undecided approvals.")?,
            oldest: Gauge::new(
                "holdpoint_approvals_oldest_age_seconds",
                "Age of the oldest undecided approval.",
            )?,
            parked: gauge("parked_messages", "Messages that could not be carried out.")?,
            outgoing: gauges("outgoing_events", "Events and replies that are still to be sent.")?,
            outgoing_age: gauges(
                "outgoing_oldest_age_seconds",
                "Age of the oldest event or reply that is still to be sent.",
            )?,
            ready: gauge("executions_ready", "Ready executions that nobody has taken.")?,
        };
        metrics.register(registry)?;
        Ok(metrics)
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        registry.register(Box::new(self.requests.clone()))?;
        registry.register(Box::new(self.durations.clone()))?;
        registry.register(Box::new(self.streams.clone()))?;
        registry.register(Box::new(self.started.clone()))?;
        registry.register(Box::new(self.decisions.clone()))?;
        registry.register(Box::new(self.commands.clone()))?;
        registry.register(Box::new(self.approval_wait.clone()))?;
        registry.register(Box::new(self.executions.clone()))?;
        registry.register(Box::new(self.approvals.clone()))?;
        registry.register(Box::new(self.oldest.clone()))?;
        registry.register(Box::new(self.parked.clone()))?;
        registry.register(Box::new(self.outgoing.clone()))?;
        registry.register(Box::new(self.outgoing_age.clone()))?;
        registry.register(Box::new(self.ready.clone()))
    }

    fn show(&self, stats: &Stats) {
        self.executions.reset();
        for (status, kind, count) in &stats.executions {
            self.executions.with_label_values(&[status.as_str(), kind.as_str()]).set(*count);
        }
        self.approvals.set(stats.approvals_pending);
        let age = stats.oldest_approval.map_or(Duration::ZERO, |at| at.until(stats.now));
        self.oldest.set(age.as_secs_f64());
        self.parked.set(stats.parked);
        for backlog in &stats.outgoing {
            let channel = [backlog.channel.as_str()];
            let age = backlog.oldest.map_or(Duration::ZERO, |at| at.until(stats.now));
            self.outgoing.with_label_values(&channel).set(backlog.rows);
            self.outgoing_age
                .with_label_values(&channel)
                .set(i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
        }
        self.ready.set(stats.ready);
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(format!("holdpoint_{name}"), help), labels)
}

fn gauges(name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(format!("holdpoint_{name}"), help), &["channel"])
}

fn gauge(name: &str, help: &str) -> prometheus::Result<IntGauge> {
    IntGauge::new(format!("holdpoint_{name}"), help)
}

/// Looks at the database every few seconds until it is stopped, so that `/metrics` itself
/// costs it nothing.
pub async fn refresh(app: Arc<App>) {
    loop {
        match app.read(|store| store.stats()).await {
            Ok(stats) => app.metrics.show(&stats),
            Err(_) => tracing::debug!("gauges keep their last values"),
        }
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = tokio::time::sleep(REFRESH) => {}
        }
    }
}

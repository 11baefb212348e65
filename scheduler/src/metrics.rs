//! What sweeps count.

use holdpoint_engine::wire::SweepKind;
use prometheus::{IntCounter, IntCounterVec, Opts, Registry};

/// What becomes of the rows of a pass.
const WHAT: [&str; 4] = ["scanned", "cleaned_up", "failed", "skipped"];

#[derive(Clone)]
pub(crate) struct Metrics {
    pub run: IntCounterVec,
    pub rows: IntCounterVec,
    pub stopped_short: IntCounterVec,
    pub expired: IntCounter,
}

impl Metrics {
    /// Several sweepers of one process share a registry: what is there already is used.
    pub fn new(registry: &Registry) -> Self {
        let vec = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels)
                .expect("a constant name and constant labels are valid")
        };
        let metrics = Self {
            run: vec("holdpoint_sweeps_run_total", "Passes of sweeps.", &["kind", "source"]),
            rows: vec(
                "holdpoint_sweep_rows_total",
                "Rows that sweeps scanned, acted on, failed on or skipped.",
                &["kind", "what"],
            ),
            stopped_short: vec(
                "holdpoint_sweeps_stopped_short_total",
                "Passes that went as far as they may, and may have left rows for the next.",
                &["kind"],
            ),
            expired: IntCounter::new(
                "holdpoint_approvals_expired_total",
                "Questions that nobody decided in time, whatever their policy made of it; of an agent those of one execution count as one.",
            )
            .expect("a constant name is valid"),
        };
        // A series that begins at its first event hides that event from `increase`.
        for kind in SweepKind::ALL {
            metrics.stopped_short.with_label_values(&[kind.as_str()]);
            for what in WHAT {
                metrics.rows.with_label_values(&[kind.as_str(), what]);
            }
        }
        let collectors: [Box<dyn prometheus::core::Collector>; 4] = [
            Box::new(metrics.run.clone()),
            Box::new(metrics.rows.clone()),
            Box::new(metrics.stopped_short.clone()),
            Box::new(metrics.expired.clone()),
        ];
        for collector in collectors {
            if let Err(error) = registry.register(collector) {
                tracing::debug!(%error, "metric is registered already");
            }
        }
        metrics
    }
}

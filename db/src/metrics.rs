//! What the store measures.

use std::sync::Arc;
use std::time::Instant;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntGaugeVec, Opts, Registry};

use crate::outcomes::Outcomes;
use crate::pool::Pool;
use crate::store::StoreResult;
use crate::types::StoreError;

/// The store's metrics.
pub(crate) struct Metrics {
    batch_size: HistogramVec,
    duration: HistogramVec,
    /// Transitions that were refused because the lease was lost.
    pub(crate) fenced: IntCounter,
}

fn cannot(error: prometheus::Error) -> StoreError {
    StoreError::Refused(format!("a metric cannot be registered: {error}"))
}

impl Metrics {
    /// Registers them; `pools` by name.
    pub(crate) fn register(
        registry: &Registry,
        pools: &[(&'static str, Arc<Pool>)],
        outcomes: &Outcomes,
    ) -> StoreResult<Self> {
        let sizes = vec![1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
        let batch_size = HistogramVec::new(
            HistogramOpts::new("holdpoint_db_batch_size", "Executions in one transaction, by kind")
                .buckets(sizes),
            &["kind"],
        );
        let times = vec![0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0];
        let duration = HistogramVec::new(
            HistogramOpts::new("holdpoint_db_duration_seconds", "How long a call of the store took")
                .buckets(times),
            &["verb"],
        );
        let fenced =
            IntCounter::new("holdpoint_db_fenced_commits_total", "Transitions refused: the lease was lost");
        let gauge = IntGaugeVec::new(
            Opts::new("holdpoint_db_pool_connections", "Connections by pool and state"),
            &["pool", "state"],
        );
        let most = IntGaugeVec::new(
            Opts::new("holdpoint_db_pool_max_connections", "The most connections that a pool opens"),
            &["pool"],
        );
        let most = most.map_err(cannot)?;
        for (name, pool) in pools {
            most.with_label_values(&[*name]).set(pool.most().into());
        }
        registry.register(Box::new(most)).map_err(cannot)?;
        let metrics = Self {
            batch_size: batch_size.map_err(cannot)?,
            duration: duration.map_err(cannot)?,
            fenced: fenced.map_err(cannot)?,
        };
        let pools = PoolCollector { gauge: gauge.map_err(cannot)?, pools: pools.to_vec() };
        registry.register(Box::new(metrics.batch_size.clone())).map_err(cannot)?;
        registry.register(Box::new(metrics.duration.clone())).map_err(cannot)?;
        registry.register(Box::new(metrics.fenced.clone())).map_err(cannot)?;
        registry.register(Box::new(pools)).map_err(cannot)?;
        for collector in outcomes.collectors() {
            registry.register(collector).map_err(cannot)?;
        }
        Ok(metrics)
    }

    /// A batch of this kind went through.
    pub(crate) fn batch(&self, kind: &str, size: usize) {
        self.batch_size.with_label_values(&[kind]).observe(size as f64);
    }

    /// Runs the work and measures it.
    pub(crate) fn timed<T>(&self, verb: &str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let done = work();
        self.duration.with_label_values(&[verb]).observe(begun.elapsed().as_secs_f64());
        done
    }
}

/// Asks the pools when it is scraped.
struct PoolCollector {
    gauge: IntGaugeVec,
    pools: Vec<(&'static str, Arc<Pool>)>,
}

impl Collector for PoolCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, pool) in &self.pools {
            let (used, idle) = pool.state();
            self.gauge.with_label_values(&[name, "used"]).set(used.into());
            self.gauge.with_label_values(&[name, "idle"]).set(idle.into());
        }
        self.gauge.collect()
    }
}

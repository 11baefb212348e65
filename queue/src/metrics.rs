//! What this crate counts. No label has values that a caller can choose: kinds, sources and
//! reasons are words of this code.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::{Link, SendError, Source};

/// Why a command is not confirmed.
const REASONS: [&str; 4] = ["disconnected", "timed_out", "unroutable", "refused"];

/// The counters, registered once for each opened queue.
pub(crate) struct Metrics {
    published: IntCounterVec,
    dropped_hints: IntCounter,
    consumed: IntCounterVec,
    confirm_failures: IntCounterVec,
    broker_up: IntGauge,
    reconnects: IntCounter,
}

impl Metrics {
    /// Makes and registers them. An error if the registry has them already.
    pub(crate) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let vector = |name: &str, help: &str, label: &str| {
            let made = IntCounterVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let counter = |name: &str, help: &str| {
            let made = IntCounter::new(name, help)?;
            registry.register(Box::new(made.clone()))?;
            Ok::<_, prometheus::Error>(made)
        };
        let broker_up =
            IntGauge::new("holdpoint_broker_up", "1 while the connections to the broker work, else 0")?;
        registry.register(Box::new(broker_up.clone()))?;
        let confirm_failures = vector(
            "holdpoint_queue_confirm_failures_total",
            "Commands that were not confirmed, by reason",
            "reason",
        )?;
        // A series that begins at its first event hides that event from `increase`.
        for reason in REASONS {
            confirm_failures.with_label_values(&[reason]);
        }
        let consumed = vector("holdpoint_queue_consumed_total", "Messages taken, by queue", "queue")?;
        consumed.with_label_values(&[Source::Dead.word()]);
        Ok(Self {
            published: vector(
                "holdpoint_queue_published_total",
                "Messages handed to the broker, by type",
                "kind",
            )?,
            dropped_hints: counter(
                "holdpoint_queue_dropped_hints_total",
                "Hints not sent: too many waited, or the broker was away",
            )?,
            consumed,
            confirm_failures,
            broker_up,
            reconnects: counter("holdpoint_queue_reconnects_total", "Connections lost and built again")?,
        })
    }

    /// A message of this type is with the broker (hints: written to it).
    pub(crate) fn published(&self, kind: &'static str) {
        self.published.with_label_values(&[kind]).inc();
    }

    /// So many hints were dropped.
    pub(crate) fn dropped(&self, hints: usize) {
        self.dropped_hints.inc_by(hints as u64);
    }

    /// So many messages were handed out.
    pub(crate) fn consumed(&self, source: Source, messages: usize) {
        self.consumed.with_label_values(&[source.word()]).inc_by(messages as u64);
    }

    /// A command was not confirmed.
    pub(crate) fn failed(&self, error: &SendError) {
        let reason = match error {
            SendError::Disconnected => "disconnected",
            SendError::TimedOut(_) => "timed_out",
            SendError::Unroutable => "unroutable",
            SendError::Refused => "refused",
            SendError::Reserved => "reserved",
        };
        self.confirm_failures.with_label_values(&[reason]).inc();
    }

    /// How the connections are now.
    pub(crate) fn link(&self, link: Link) {
        self.broker_up.set(i64::from(link == Link::Up));
    }

    /// A connection that had worked was lost.
    pub(crate) fn reconnecting(&self) {
        self.reconnects.inc();
    }
}

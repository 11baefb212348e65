//! What a worker counts.

use holdpoint_db::Channel;
use holdpoint_engine::status::{DisabledFor, Reason};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::Collector,
};

pub(crate) struct Metrics {
    pub claimed: IntCounter,
    pub leases: IntGauge,
    pub queue_to_claim: Histogram,
    pub suspended: IntCounterVec,
    pub execution_seconds: HistogramVec,
    pub step_seconds: HistogramVec,
    pub effects: IntCounterVec,
    pub retries: IntCounter,
    pub fenced: IntCounter,
    pub sessions_lost: IntCounter,
    pub parked: IntCounterVec,
    pub events_sent: IntCounterVec,
    pub webhook_attempts: IntCounterVec,
    pub webhooks_disabled: IntCounterVec,
    pub tool_waits: IntCounter,
}

const SECONDS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0,
    3600.0,
];

/// Waits last longer than calls: up to a month.
const LONG_SECONDS: &[f64] = &[
    0.01,
    0.05,
    0.1,
    0.5,
    1.0,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    1800.0,
    3600.0,
    14_400.0,
    86_400.0,
    604_800.0,
    2_592_000.0,
];

const SUSPENSIONS: [Reason; 6] =
    [Reason::Approval, Reason::Signal, Reason::Timer, Reason::Retry, Reason::Paused, Reason::OutcomeUnknown];

/// What a worker takes messages from.
const QUEUES: [&str; 5] = ["advance", "sweeps", "dead", "holder", "other"];

impl Metrics {
    pub fn new(registry: &Registry) -> Self {
        let metrics = Self {
            claimed: counter("holdpoint_executions_claimed_total", "Executions taken on."),
            leases: IntGauge::new("holdpoint_leases_held", "Executions that this worker holds.")
                .expect("a constant name is valid"),
            queue_to_claim: Histogram::with_opts(
                HistogramOpts::new("holdpoint_queue_to_claim_seconds", "From ready to claimed.")
                    .buckets(SECONDS.to_vec()),
            )
            .expect("a constant name is valid"),
            suspended: counters(
                "holdpoint_executions_suspended_total",
                "Suspensions by what they wait for; `outcome_unknown` is for a person.",
                &["reason"],
            ),
            execution_seconds: seconds(
                "holdpoint_execution_duration_seconds",
                "From the first step to the end, waits included.",
                "kind",
                LONG_SECONDS,
            ),
            step_seconds: seconds(
                "holdpoint_step_duration_seconds",
                "One attempt of an effect.",
                "effect",
                SECONDS,
            ),
            effects: counters("holdpoint_effects_total", "Attempts of effects.", &["effect", "outcome"]),
            retries: counter("holdpoint_retries_total", "Attempts that failed and will be repeated."),
            fenced: counter(
                "holdpoint_worker_fenced_total",
                "Executions dropped because the lease was lost.",
            ),
            sessions_lost: counter("holdpoint_worker_sessions_lost_total", "Sessions that ran out."),
            parked: counters(
                "holdpoint_messages_parked_total",
                "Messages that could not be carried out.",
                &["queue"],
            ),
            events_sent: counters(
                "holdpoint_events_sent_total",
                "Events and replies that left, by channel.",
                &["channel"],
            ),
            webhook_attempts: counters(
                "holdpoint_webhook_attempts_total",
                "Attempts to deliver an event to a webhook.",
                &["outcome"],
            ),
            webhooks_disabled: counters(
                "holdpoint_webhooks_disabled_total",
                "Webhooks that are called no more, for their failures.",
                &["reason"],
            ),
            tool_waits: counter(
                "holdpoint_tool_calls_delayed_total",
                "Calls that waited for a limit of their tool.",
            ),
        };
        metrics.show_all();
        metrics.register(registry);
        metrics
    }

    /// A series that begins at its first event hides that event from `increase`.
    fn show_all(&self) {
        for reason in SUSPENSIONS {
            self.suspended.with_label_values(&[reason.as_str()]);
        }
        for queue in QUEUES {
            self.parked.with_label_values(&[queue]);
        }
        for channel in Channel::ALL {
            self.events_sent.with_label_values(&[channel.as_str()]);
        }
        for outcome in ["delivered", "failed"] {
            self.webhook_attempts.with_label_values(&[outcome]);
        }
        for why in DisabledFor::ALL {
            self.webhooks_disabled.with_label_values(&[why.as_str()]);
        }
    }

    /// A message of this queue was parked. Queues' names hold a prefix and ids of processes, so
    /// only the word in them is shown.
    pub fn parked(&self, queue: &str) {
        let word = QUEUES.into_iter().find(|word| queue.split('.').any(|part| part == *word));
        self.parked.with_label_values(&[word.unwrap_or("other")]).inc();
    }

    fn register(&self, registry: &Registry) {
        let collectors: [Box<dyn Collector>; 15] = [
            Box::new(self.claimed.clone()),
            Box::new(self.leases.clone()),
            Box::new(self.queue_to_claim.clone()),
            Box::new(self.suspended.clone()),
            Box::new(self.execution_seconds.clone()),
            Box::new(self.step_seconds.clone()),
            Box::new(self.effects.clone()),
            Box::new(self.retries.clone()),
            Box::new(self.fenced.clone()),
            Box::new(self.sessions_lost.clone()),
            Box::new(self.parked.clone()),
            Box::new(self.events_sent.clone()),
            Box::new(self.webhook_attempts.clone()),
            Box::new(self.webhooks_disabled.clone()),
            Box::new(self.tool_waits.clone()),
        ];
        for collector in collectors {
            if let Err(error) = registry.register(collector) {
                tracing::warn!(%error, "a metric is not shown");
            }
        }
    }
}

fn counter(name: &str, help: &str) -> IntCounter {
    IntCounter::new(name, help).expect("a constant name is valid")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(Opts::new(name, help), labels).expect("constant names are valid")
}

fn seconds(name: &str, help: &str, label: &str, buckets: &[f64]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), &[label])
        .expect("constant names are valid")
}

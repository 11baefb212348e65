//! Measuring an installation from outside. Nothing is polled while it is measured: the end
//! of an execution is seen on its stream. What belongs to no measurement (warming up,
//! counting afterwards) is outside the measured time.

mod approvals;
mod batches;
mod calls;
mod cpu;
pub mod expressions;
pub mod fairness;
mod latency;
mod report;
mod requests;
mod streams;
mod throughput;

use std::time::{Duration, Instant};

use clap::ValueEnum;
use futures_util::future::BoxFuture;
use hdrhistogram::Histogram;

use crate::client::Client;
use batches::Batches;
use cpu::Cpu;
pub use report::Report;
use report::{Measured, Part};
use requests::Starter;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Starts in flight until the last execution is terminal
    Throughput,
    /// Callers that read the stream to its end
    Streams,
    /// One at a time
    Latency,
    /// From a decision to the end
    Approvals,
    /// All of these, one after the other
    All,
    /// A simple expression, here
    Expressions,
    /// Quiet tenants alone, and beside one that floods
    Fairness,
}

/// What the executions run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Of {
    /// The built-in workflow of three steps that only journal
    Noop,
    /// A workflow of three HTTP calls to a stub
    Calls,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Which measurements.
    pub what: What,
    /// What the executions run.
    pub of: Of,
    /// Requests, or callers, at a time.
    pub in_flight: usize,
    /// Executions, where not the default of each measurement.
    pub count: Option<u64>,
    /// No execution is started later than this.
    pub seconds: u64,
    /// Processes whose CPU time counts.
    pub pids: Vec<u32>,
    /// Their descendants too.
    pub pid_tree: bool,
    /// Where batch sizes are read.
    pub metrics: Vec<String>,
}

/// How far one measurement goes.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Tasks that start executions.
    pub in_flight: usize,
    /// Executions.
    pub count: u64,
    /// The longest time for starting them.
    pub longest: Duration,
}

/// What a measurement brings back.
pub struct Outcome {
    /// Executions that were accepted.
    pub started: u64,
    /// Executions that ended `completed`.
    pub completed: u64,
    /// From the first request until the last execution was terminal.
    pub took: Duration,
    /// Until the last start was accepted, where that is another moment.
    pub accepted_in: Option<Duration>,
    /// Each one's time in microseconds.
    pub times: Histogram<u64>,
}

type Measurement = for<'a> fn(&'a Starter, Extent) -> BoxFuture<'a, anyhow::Result<Outcome>>;

/// The measurements: name, what it is, how many executions by default, how many at a time
/// (0: as many as asked for).
const MEASUREMENTS: [(What, &str, u64, usize, Measurement); 4] = [
    (What::Throughput, "throughput", 10_000, 0, throughput::measure),
    (What::Streams, "streams", 5_000, 0, streams::measure),
    (What::Latency, "latency", 500, 1, latency::measure),
    (What::Approvals, "approvals", 200, 1, approvals::measure),
];

/// A histogram of microseconds up to ten minutes.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 600_000_000, 3)?)
}

/// Runs what the plan names, one after the other.
pub async fn run(client: &Client, plan: &Plan, tell: bool) -> anyhow::Result<Report> {
    let mut report = Report::new(plan);
    let stub = match plan.of {
        Of::Noop => None,
        Of::Calls => Some(calls::prepare(client).await?),
    };
    for (what, name, count, at_a_time, measure) in MEASUREMENTS {
        if plan.what != What::All && plan.what != what {
            continue;
        }
        let in_flight = if at_a_time == 0 { plan.in_flight } else { at_a_time };
        let extent = Extent {
            in_flight,
            count: plan.count.unwrap_or(count),
            longest: Duration::from_secs(plan.seconds),
        };
        if tell {
            eprintln!("{name}: {} executions, {in_flight} at a time …", extent.count);
        }
        report.parts.push(part(client, plan, name, extent, measure).await?);
    }
    drop(stub);
    Ok(report)
}

/// One measurement, with what it cost.
async fn part(
    client: &Client,
    plan: &Plan,
    name: &'static str,
    extent: Extent,
    measure: Measurement,
) -> anyhow::Result<Part> {
    let workflow = match plan.of {
        Of::Noop => "holdpoint.noop",
        Of::Calls => calls::WORKFLOW,
    };
    let starter = Starter::new(client.clone(), name, workflow)?;
    warm_up(&starter, extent.in_flight).await?;
    let batches = Batches::read(&plan.metrics).await?;
    let cpu = Cpu::read(&plan.pids, plan.pid_tree)?;
    let outcome = measure(&starter, extent).await?;
    let spent = Cpu::read(&plan.pids, plan.pid_tree)?.since(&cpu);
    let batches = Batches::read(&plan.metrics).await?.since(&batches);
    Ok(Part::new(Measured {
        name,
        in_flight: extent.in_flight,
        outcome,
        cpu: spent,
        batches,
        has_pids: !plan.pids.is_empty(),
    }))
}

/// Connections, plans and caches are made before anything is measured.
async fn warm_up(starter: &Starter, in_flight: usize) -> anyhow::Result<()> {
    let rounds = (0..in_flight).map(|_| starter.start_and_read());
    for ended in futures_util::future::join_all(rounds).await {
        ended?;
    }
    Ok(())
}

/// A task's share of the work: asked before each execution whether there is one more.
pub struct Shares {
    left: std::sync::atomic::AtomicU64,
    until: Instant,
}

impl Shares {
    /// The extent's executions, from now on.
    pub fn new(extent: Extent) -> Self {
        Self { left: extent.count.into(), until: Instant::now() + extent.longest }
    }

    /// Whether another one is to be started.
    pub fn next(&self) -> bool {
        use std::sync::atomic::Ordering::Relaxed;
        Instant::now() < self.until
            && self.left.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok()
    }
}

/// Microseconds, at least one: a histogram has no zero.
pub fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_started_as_asked_for() {
        let shares = Shares::new(Extent { in_flight: 2, count: 3, longest: Duration::from_secs(60) });
        assert_eq!((0..10).filter(|_| shares.next()).count(), 3);
        let over = Shares::new(Extent { in_flight: 2, count: 3, longest: Duration::ZERO });
        assert!(!over.next());
    }
}

//! Callers that each start an execution, read its stream to the end, and begin again.

use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join_all};

use super::requests::Starter;
use super::{Extent, Outcome, Shares, histogram, micros};

/// Measures it.
pub fn measure(starter: &Starter, extent: Extent) -> BoxFuture<'_, anyhow::Result<Outcome>> {
    run(starter, extent).boxed()
}

async fn run(starter: &Starter, extent: Extent) -> anyhow::Result<Outcome> {
    let shares = Shares::new(extent);
    let began = Instant::now();
    let callers = try_join_all((0..extent.in_flight).map(|_| call(starter, &shares))).await?;
    let took = began.elapsed();
    let mut outcome = Outcome { started: 0, completed: 0, took, accepted_in: None, times: histogram()? };
    for caller in callers {
        outcome.started += caller.started;
        outcome.completed += caller.completed;
        outcome.times.add(caller.times)?;
    }
    Ok(outcome)
}

struct Caller {
    started: u64,
    completed: u64,
    times: hdrhistogram::Histogram<u64>,
}

async fn call(starter: &Starter, shares: &Shares) -> anyhow::Result<Caller> {
    let mut caller = Caller { started: 0, completed: 0, times: histogram()? };
    while shares.next() {
        let began = Instant::now();
        let completed = starter.start_and_read().await?;
        caller.times.saturating_record(micros(began.elapsed()));
        caller.started += 1;
        caller.completed += u64::from(completed);
    }
    Ok(caller)
}

//! Starts, so many requests in flight, until the last execution is terminal. The end is seen
//! on the streams of the last execution that each task started; those behind them, if any,
//! are found by three small lists and followed in the same way.

use std::sync::Arc;
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
    let shares = Arc::new(Shares::new(extent));
    let began = Instant::now();
    let tasks = try_join_all((0..extent.in_flight).map(|_| start_many(starter, &shares))).await?;
    let accepted_in = began.elapsed();
    let last_ones = tasks.iter().filter_map(|task| task.last.as_deref());
    try_join_all(last_ones.map(|id| starter.follow(id))).await?;
    let mut took = began.elapsed();
    while let Some(id) = straggler(starter).await? {
        starter.follow(&id).await?;
        took = began.elapsed();
    }
    let mut times = histogram()?;
    let mut started = 0;
    for task in tasks {
        started += task.started;
        times.add(task.times)?;
    }
    let failed = failed(starter).await?;
    Ok(Outcome {
        started,
        completed: if failed { 0 } else { started },
        took,
        accepted_in: Some(accepted_in),
        times,
    })
}

struct Task {
    started: u64,
    last: Option<String>,
    /// From each request to its acceptance.
    times: hdrhistogram::Histogram<u64>,
}

async fn start_many(starter: &Starter, shares: &Shares) -> anyhow::Result<Task> {
    let mut task = Task { started: 0, last: None, times: histogram()? };
    while shares.next() {
        let began = Instant::now();
        task.last = Some(starter.start().await?);
        task.times.saturating_record(micros(began.elapsed()));
        task.started += 1;
    }
    Ok(task)
}

/// An execution of this measurement that is not terminal yet.
async fn straggler(starter: &Starter) -> anyhow::Result<Option<String>> {
    for status in ["queued", "running", "suspended"] {
        if let Some(id) = starter.any_with(status).await? {
            return Ok(Some(id));
        }
    }
    Ok(None)
}

/// Whether any of them ended in another way than `completed`.
async fn failed(starter: &Starter) -> anyhow::Result<bool> {
    Ok(starter.any_with("failed").await?.is_some() || starter.any_with("cancelled").await?.is_some())
}

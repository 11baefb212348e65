//! One at a time: from the request to the event `execution.completed`.

use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::requests::Starter;
use super::{Extent, Outcome, Shares, histogram, micros};

/// Measures it.
pub fn measure(starter: &Starter, extent: Extent) -> BoxFuture<'_, anyhow::Result<Outcome>> {
    run(starter, extent).boxed()
}

async fn run(starter: &Starter, extent: Extent) -> anyhow::Result<Outcome> {
    let shares = Shares::new(extent);
    let began = Instant::now();
    let mut outcome =
        Outcome { started: 0, completed: 0, took: began.elapsed(), accepted_in: None, times: histogram()? };
    while shares.next() {
        let sent = Instant::now();
        let mut stream = starter.start_stream().await?;
        outcome.started += 1;
        if stream.until("execution.completed").await? {
            outcome.times.saturating_record(micros(sent.elapsed()));
        }
        outcome.completed += u64::from(stream.completed().await?);
    }
    outcome.took = began.elapsed();
    Ok(outcome)
}

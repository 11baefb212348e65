//! From a decision to the end, one at a time: an agent asks for one tool call, its execution
//! is suspended, the call is approved, the tool is called, the model ends. Model and tool
//! are the demonstration's, served here, without pauses.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use reqwest::Method;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::requests::{Follower, Starter};
use super::{Extent, Outcome, Shares, histogram, micros};
use crate::client::escape;
use crate::demo;

/// The agent's name.
const AGENT: &str = "bench-approval";

/// Measures it.
pub fn measure(starter: &Starter, extent: Extent) -> BoxFuture<'_, anyhow::Result<Outcome>> {
    run(starter, extent).boxed()
}

async fn run(starter: &Starter, extent: Extent) -> anyhow::Result<Outcome> {
    let stop = CancellationToken::new();
    let _ends_with_us = stop.clone().drop_guard();
    let port = demo::serve(None, Duration::ZERO, stop).await?;
    let put =
        starter.client.request(Method::PUT, &format!("/v1/agents/{AGENT}")).json(&demo::bench_agent(port));
    starter
        .client
        .send(put)
        .await
        .context("registering the agent (this takes a key with the role admin or submit)")?;
    // The first one makes the connections.
    approve_one(starter).await?;
    let shares = Shares::new(extent);
    let began = Instant::now();
    let mut outcome =
        Outcome { started: 0, completed: 0, took: began.elapsed(), accepted_in: None, times: histogram()? };
    while shares.next() {
        outcome.started += 1;
        outcome.times.saturating_record(micros(approve_one(starter).await?));
        outcome.completed += 1;
    }
    outcome.took = began.elapsed();
    Ok(outcome)
}

/// The time from the decision's request to `execution.completed`.
async fn approve_one(starter: &Starter) -> anyhow::Result<Duration> {
    let body = json!({"agent": AGENT, "input": "Refund order 42"});
    let request = starter
        .client
        .request(Method::POST, "/v1/executions")
        .header("accept", "text/event-stream")
        .json(&body);
    let mut stream = Follower::new(starter.client.send(request).await?);
    let asked = stream.until("approval.requested").await? && stream.until("execution.suspended").await?;
    let event = stream.data("approval.requested").filter(|_| asked);
    let event = event
        .context("no approval was asked for: do the workers allow 127.0.0.0/8 (outbound.allow_networks)?")?;
    let decided = Instant::now();
    decide(starter, &event).await?;
    anyhow::ensure!(stream.until("execution.completed").await?, "the approved execution did not complete");
    let took = decided.elapsed();
    stream.completed().await?;
    Ok(took)
}

async fn decide(starter: &Starter, event: &Value) -> anyhow::Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (id, call) = (text(&event["execution_id"]), text(&event["data"]["tool_call_id"]));
    let path = format!("/v1/executions/{}/approvals/{}", escape(&id), escape(&call));
    starter.client.post(&path, &json!({"approved": true})).await?;
    Ok(())
}

//! Quiet tenants alone, then beside one that starts a hundred times as much.
//!
//! Every quiet tenant starts one execution after the other at even times, whether or not the one
//! before has ended, and reads its stream; the time is from the request to its completion. The
//! flood comes in batches, and nobody waits for its executions.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use hdrhistogram::Histogram;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::requests::Starter;
use super::{histogram, micros};
use crate::client::Client;
use crate::output::{self, Table};
use crate::usage::Usage;

/// So much more than each of the others the flood starts.
const FLOOD: u64 = 100;
/// Between the flood's batches.
const BATCHES: Duration = Duration::from_millis(100);

/// What was asked for.
pub struct Plan {
    /// A key of each quiet tenant.
    pub quiet: Vec<String>,
    /// A key of the tenant that floods.
    pub flood: String,
    /// Starts of each quiet tenant in a second.
    pub rate: u64,
    /// Executions of each quiet tenant, alone and beside the flood.
    pub count: u64,
}

/// What was measured.
pub struct Measured {
    alone: Vec<Histogram<u64>>,
    beside: Vec<Histogram<u64>>,
    flooded: u64,
    took: Duration,
}

impl Plan {
    fn check(&self) -> Result<(), Usage> {
        let refuse = |text: &str| Err(Usage(text.to_owned()));
        if self.quiet.is_empty() || self.flood.is_empty() {
            return refuse("--what fairness needs --quiet-keys and --flood-key, each of another tenant");
        }
        if !(1..=100).contains(&self.rate) {
            return refuse("--rate may be 1 to 100");
        }
        Ok(())
    }
}

/// Measures both.
pub async fn measure(client: &Client, plan: &Plan, tell: bool) -> anyhow::Result<Measured> {
    plan.check()?;
    let starter = |key: &String| Starter::new(client.with_key(key), "fairness", "holdpoint.noop");
    let quiet = plan.quiet.iter().map(starter).collect::<anyhow::Result<Vec<_>>>()?;
    for starter in &quiet {
        starter.start_and_read().await?;
    }
    if tell {
        eprintln!(
            "{} quiet tenants alone: {} executions each, {} in a second …",
            quiet.len(),
            plan.count,
            plan.rate
        );
    }
    let alone = try_join_all(quiet.iter().map(|starter| at_even_times(starter, plan))).await?;
    if tell {
        eprintln!("beside a tenant that starts {} in a second …", FLOOD * plan.rate);
    }
    let (flooded, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let flooding = tokio::spawn(flood(client.with_key(&plan.flood), FLOOD * plan.rate, Arc::clone(&flooded)));
    let beside = try_join_all(quiet.iter().map(|starter| at_even_times(starter, plan))).await;
    let took = began.elapsed();
    flooding.abort();
    Ok(Measured { alone, beside: beside?, flooded: flooded.load(Ordering::Relaxed), took })
}

/// Starts so many in a second, in batches, as far as they are taken in.
async fn flood(client: Client, rate: u64, flooded: Arc<AtomicU64>) {
    let each = rate / 10;
    let item = json!({"workflow": "holdpoint.noop"});
    let body = json!({"executions": vec![item; usize::try_from(each).unwrap_or(1)]});
    let mut clock = interval(BATCHES);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut sent = JoinSet::new();
    loop {
        clock.tick().await;
        while sent.try_join_next().is_some() {}
        let request = client.request(Method::POST, "/v1/executions/batch").json(&body);
        let (client, flooded) = (client.clone(), Arc::clone(&flooded));
        sent.spawn(async move {
            let Ok(answer) = client.send(request).await else { return };
            let Ok(answer) = crate::client::json(answer).await else { return };
            let results = answer["results"].as_array().map(Vec::as_slice).unwrap_or_default();
            let taken = results.iter().filter(|result| result["id"].is_string()).count();
            flooded.fetch_add(taken as u64, Ordering::Relaxed);
        });
    }
}

/// One tenant's executions.
async fn at_even_times(starter: &Starter, plan: &Plan) -> anyhow::Result<Histogram<u64>> {
    let mut clock = interval(Duration::from_secs(1) / u32::try_from(plan.rate)?);
    clock.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut running = JoinSet::new();
    for _ in 0..plan.count {
        clock.tick().await;
        let starter = starter.clone();
        running.spawn(async move {
            let sent = Instant::now();
            let mut stream = starter.start_stream().await?;
            let completed = stream.until("execution.completed").await?;
            anyhow::ensure!(completed, "an execution did not complete");
            Ok(sent.elapsed())
        });
    }
    let mut times = histogram()?;
    while let Some(ended) = running.join_next().await {
        times.saturating_record(micros(ended??));
    }
    Ok(times)
}

/// Milliseconds at a quantile.
fn at(times: &Histogram<u64>, quantile: f64) -> f64 {
    times.value_at_quantile(quantile) as f64 / 1_000.0
}

impl Measured {
    fn flood_per_second(&self) -> f64 {
        self.flooded as f64 / self.took.as_secs_f64().max(1e-9)
    }

    /// Prints it.
    pub fn print(&self, as_json: bool) {
        if as_json {
            output::json(&self.json());
            return;
        }
        let mut table = Table::new(&[
            "TENANT",
            "ALONE P50 MS",
            "P99 MS",
            "BESIDE P50 MS",
            "P99 MS",
            "P50 RATIO",
            "P99 RATIO",
        ]);
        for (place, (alone, beside)) in self.alone.iter().zip(&self.beside).enumerate() {
            let shown = |value: f64| format!("{value:.1}");
            let ratio = |quantile| format!("{:.2}", at(beside, quantile) / at(alone, quantile).max(0.001));
            table.row([
                (place + 1).to_string(),
                shown(at(alone, 0.5)),
                shown(at(alone, 0.99)),
                shown(at(beside, 0.5)),
                shown(at(beside, 0.99)),
                ratio(0.5),
                ratio(0.99),
            ]);
        }
        table.print();
        println!(
            "the flood: {} executions taken in, {:.0} in a second",
            self.flooded,
            self.flood_per_second()
        );
    }

    fn json(&self) -> Value {
        let figures = |times: &Histogram<u64>| json!({"count": times.len(), "p50_ms": at(times, 0.5), "p99_ms": at(times, 0.99)});
        let tenants: Vec<Value> = self
            .alone
            .iter()
            .zip(&self.beside)
            .map(|(alone, beside)| {
                let ratio = |quantile| at(beside, quantile) / at(alone, quantile).max(0.001);
                json!({"alone": figures(alone), "beside": figures(beside), "p50_ratio": ratio(0.5), "p99_ratio": ratio(0.99)})
            })
            .collect();
        json!({"what": "fairness", "flooded": self.flooded, "flood_per_second": self.flood_per_second(), "tenants": tenants})
    }
}

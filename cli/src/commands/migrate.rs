//! `holdpoint migrate`: brings the schema up to date; safe to run by several at once.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use super::Output;
use crate::configuration::Configuration;
use crate::output;
use crate::wiring;

/// How long to wait for a database that is still starting.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs what is pending.
pub async fn run(configuration: Configuration, output: Output) -> anyhow::Result<ExitCode> {
    let store = wiring::open_store(&configuration)?;
    let began = std::time::Instant::now();
    let done = loop {
        let attempt = std::sync::Arc::clone(&store);
        match tokio::task::spawn_blocking(move || attempt.migrate()).await? {
            Ok(done) => break done,
            Err(error) if error.is_retryable() && began.elapsed() < PATIENCE => {
                tracing::warn!(%error, "waiting for the database");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    if output.json {
        output::json(&json!({"applied": done}));
    } else if done.is_empty() {
        println!("the schema is up to date");
    } else {
        done.iter().for_each(|name| println!("applied {name}"));
    }
    Ok(ExitCode::SUCCESS)
}

//! `holdpoint healthcheck URL`: for containers, whose image has no other HTTP client.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::client;

#[derive(Debug, Args)]
pub struct Arguments {
    /// What to ask, such as http://127.0.0.1:4653/healthz
    url: String,
    /// The longest wait, in seconds
    #[arg(long, default_value_t = 5)]
    timeout: u64,
}

/// Succeeds if the URL answers 2xx in time.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let request = client::http()?.get(&arguments.url).timeout(Duration::from_secs(arguments.timeout));
    let status = request.send().await?.status();
    anyhow::ensure!(status.is_success(), "{} answered {status}", arguments.url);
    Ok(ExitCode::SUCCESS)
}

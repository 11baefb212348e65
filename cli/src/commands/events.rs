//! `holdpoint events`: whether the project's lifecycle events go to the broker's exchange.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::json;

use super::Output;
use crate::client::{self, Client, Remote};
use crate::output;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say whether they do
    Show,
    /// Send what happens from now on
    Enable,
    /// Send no more; what is due already still goes
    Disable,
}

const PATH: &str = "/v1/event-settings";

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    let set = async |exchange: bool| {
        let request = client.request(Method::PUT, PATH).json(&json!({"exchange": exchange}));
        client::json(client.send(request).await?).await
    };
    let answer = match arguments.verb {
        Verb::Show => client.get(PATH, &[]).await?,
        Verb::Enable => set(true).await?,
        Verb::Disable => set(false).await?,
    };
    if output.json {
        output::json(&answer);
    } else {
        println!("exchange  {}", if answer["exchange"] == true { "enabled" } else { "disabled" });
    }
    Ok(ExitCode::SUCCESS)
}

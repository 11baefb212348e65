//! `holdpoint retention`: how long the project keeps finished executions.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Value, json};

use super::Output;
use crate::client::{self, Client, Remote};
use crate::output::{self, cell};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say how long, and what was exported
    Show,
    /// Say how long from now on
    Set(Set),
}

#[derive(Debug, Args)]
struct Set {
    /// So long after their end, such as 30d; `never`; `default` as the installation is configured
    finished_after: String,
    /// Remove only what was exported
    #[arg(long)]
    require_export: bool,
}

pub const PATH: &str = "/v1/retention";

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    let answer = match arguments.verb {
        Verb::Show => client.get(PATH, &[]).await?,
        Verb::Set(set) => {
            let finished_after = Some(set.finished_after).filter(|text| text != "default");
            let body = json!({"finished_after": finished_after, "require_export": set.require_export});
            client::json(client.send(client.request(Method::PUT, PATH).json(&body)).await?).await?
        }
    };
    if output.json {
        output::json(&answer);
    } else {
        print(&answer);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(answer: &Value) {
    let own = if answer["finished_after"].is_null() { " (as configured)" } else { "" };
    println!("finished executions go after  {}{own}", cell(answer, "/effective"));
    println!("only what was exported        {}", cell(answer, "/require_export"));
    println!("exported, if finished before  {}", cell(answer, "/exported_before"));
}

//! `holdpoint attention`: workflows whose latest run failed so that a person has to look.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::Output;
use super::executions::seconds;
use crate::client::{Client, Remote, escape};
use crate::output::{self, Table, cell};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them, grouped by the error's type
    List,
    /// Take a workflow off the list until its next failure
    Acknowledge { workflow: String },
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::List => list(&client.get("/v1/attention", &[]).await?, output),
        Verb::Acknowledge { workflow } => {
            let path = format!("/v1/attention/{}/acknowledge", escape(&workflow));
            let answer = client.post(&path, &json!({})).await?;
            if output.json { output::json(&answer) } else { println!("{workflow}  acknowledged") }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["ERROR", "WORKFLOW", "STATE", "EXECUTION", "ATTEMPTS", "FAILED", "MESSAGE"]);
    for group in answer["attention"].as_array().into_iter().flatten() {
        for row in group["workflows"].as_array().into_iter().flatten() {
            let first =
                ["/reason", "/workflow", "/state", "/execution_id", "/attempts"].map(|name| cell(row, name));
            let failed = std::iter::once(seconds(&cell(row, "/failed_at")));
            table.row(first.into_iter().chain(failed).chain([cell(row, "/error/message")]));
        }
    }
    table.print();
}

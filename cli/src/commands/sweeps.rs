//! `holdpoint sweeps`: carries out a pass now, and lists past ones.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::Output;
use super::executions::seconds;
use super::start::given;
use crate::client::{Client, Remote};
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
    /// Carry out one pass for the key's tenant and project
    Run(Pass),
    /// List past passes, newest first
    List {
        /// At most so many, 1 to 1000; the API's default is 50
        #[arg(long)]
        limit: Option<u32>,
    },
}

#[derive(Debug, Args)]
struct Pass {
    /// Which sweep; the others are the scheduler's
    #[arg(default_value = "stale")]
    kind: Kind,
    /// For approvals whose definition names no expiry: open for longer than this
    #[arg(long)]
    timeout: Option<String>,
    /// At most so many rows, 1 to 1000
    #[arg(long)]
    limit: Option<i64>,
    /// Only count
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Approvals that nobody decided in time
    Stale,
    /// Finished executions that were kept long enough
    Retention,
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::Run(pass) => {
            let path = match pass.kind {
                Kind::Stale => "/v1/sweeps/stale",
                Kind::Retention => "/v1/sweeps/retention",
            };
            let body = given(&[
                ("timeout", pass.timeout.map(Value::from)),
                ("limit", pass.limit.map(Value::from)),
                ("dry_run", pass.dry_run.then_some(Value::from(true))),
            ]);
            print(&client.post(path, &body).await?, output);
        }
        Verb::List { limit } => {
            let query: Vec<_> = limit.map(|limit| ("limit", limit.to_string())).into_iter().collect();
            list(&client.get("/v1/sweeps", &query).await?, output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

const COUNTS: [&str; 5] = ["/scanned", "/cleaned_up", "/failed", "/skipped", "/total"];

fn print(report: &Value, output: Output) {
    if output.json {
        output::json(report);
        return;
    }
    let mut table = Table::new(&["SWEEP", "SCANNED", "CLEANED UP", "FAILED", "SKIPPED", "TOTAL"]);
    table.row(std::iter::once(cell(report, "/sweep_id")).chain(COUNTS.map(|name| cell(report, name))));
    table.print();
}

fn list(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let heads = [
        "SWEEP",
        "KIND",
        "SOURCE",
        "STARTED",
        "FINISHED",
        "SCANNED",
        "CLEANED UP",
        "FAILED",
        "SKIPPED",
        "TOTAL",
    ];
    let mut table = Table::new(&heads);
    for row in answer["sweeps"].as_array().into_iter().flatten() {
        let head = ["/sweep_id", "/kind", "/source"].map(|name| cell(row, name));
        let times = ["/started_at", "/finished_at"].map(|name| seconds(&cell(row, name)));
        table.row(head.into_iter().chain(times).chain(COUNTS.map(|name| cell(row, name))));
    }
    table.print();
}

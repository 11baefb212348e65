//! `holdpoint schedules`: what starts by itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::Output;
use super::agents::{read, tell};
use super::executions::seconds;
use crate::client::{self, Client, Remote, escape};
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
    /// Make a schedule, or change it
    Apply {
        /// A JSON file, or `-` for standard input
        file: PathBuf,
        /// The schedule's name [default: the file's name without its ending]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the schedules, those of workflows too
    List,
    /// Show a schedule with its next ticks
    Show { name: String },
    /// Start nothing more until it is resumed
    Pause { name: String },
    /// Go on with the next tick
    Resume { name: String },
    /// Remove it; its runs go on
    Delete { name: String },
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::Apply { file, name } => apply(&client, &file, name, output).await?,
        Verb::List => list(&client, output).await?,
        Verb::Show { name } => output::json(&client.get(&path(&name), &[]).await?),
        Verb::Pause { name } => change(&client, &name, "pause", output).await?,
        Verb::Resume { name } => change(&client, &name, "resume", output).await?,
        Verb::Delete { name } => {
            client.send(client.request(Method::DELETE, &path(&name))).await?;
            tell(output, &serde_json::json!({"name": name, "deleted": true}), &format!("{name}  deleted"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(name: &str) -> String {
    format!("/v1/schedules/{}", escape(name))
}

async fn apply(client: &Client, file: &Path, name: Option<String>, output: Output) -> anyhow::Result<()> {
    let (name, document) = read(file, name)?;
    let request =
        client.request(Method::PUT, &path(&name)).header("content-type", "application/json").body(document);
    let response = client.send(request).await?;
    let word = if response.status() == reqwest::StatusCode::CREATED { "new" } else { "changed" };
    let answer = client::json(response).await?;
    tell(output, &answer, &format!("{name}  {word}  next {}", next(&answer)));
    Ok(())
}

async fn change(client: &Client, name: &str, verb: &str, output: Output) -> anyhow::Result<()> {
    let answer = client.post(&format!("{}/{verb}", path(name)), &serde_json::json!({})).await?;
    tell(output, &answer, &format!("{name}  next {}", next(&answer)));
    Ok(())
}

/// The next tick; `-` where it pauses or waits for a run's end.
fn next(schedule: &Value) -> String {
    seconds(&cell(schedule, "/next_ticks/0"))
}

/// When it ticks, in one word or two.
fn timing(schedule: &Value) -> String {
    match (cell(schedule, "/cron"), cell(schedule, "/every"), cell(schedule, "/after")) {
        (cron, _, _) if cron != "-" => format!("{cron} {}", cell(schedule, "/time_zone")),
        (_, every, _) if every != "-" => format!("every {every}"),
        (_, _, after) => format!("after {after}"),
    }
}

async fn list(client: &Client, output: Output) -> anyhow::Result<()> {
    let answer = client.get("/v1/schedules", &[("limit", "1000".to_owned())]).await?;
    if output.json {
        output::json(&answer);
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "STARTS", "WHEN", "NEXT", "RUNS", "SKIPPED", "MISSED", "LAST"]);
    for row in answer["schedules"].as_array().into_iter().flatten() {
        let next = match (&row["paused"], row["stopped"].as_str()) {
            (Value::Bool(true), _) => "paused".to_owned(),
            (_, Some(why)) => why.to_owned(),
            (_, None) => next(row),
        };
        let [runs, skipped, missed] = ["/runs", "/skipped", "/missed"].map(|name| cell(row, name));
        let (name, last) = (cell(row, "/name"), cell(row, "/last_execution_id"));
        table.row([name, cell(row, "/definition/name"), timing(row), next, runs, skipped, missed, last]);
    }
    table.print();
    Ok(())
}

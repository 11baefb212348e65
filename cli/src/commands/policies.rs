//! `holdpoint policies`: what a changed approval policy would have asked.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::Output;
use crate::client::{Client, Remote};
use crate::output::{self, Table, cell};
use crate::usage::Usage;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Try a policy on past calls: how many of them it would have asked about
    Test(Test),
}

#[derive(Debug, Args)]
struct Test {
    /// The tool, as the model calls it; of a workflow, the task
    tool: String,
    /// What its `approval` would be: `always`, `never` or a JSON object
    #[arg(long, required_unless_present = "file", conflicts_with = "file")]
    approval: Option<String>,
    /// The same from a JSON file, or `-` for standard input
    #[arg(long)]
    file: Option<std::path::PathBuf>,
    /// Only calls of this agent's executions
    #[arg(long, conflicts_with = "workflow")]
    agent: Option<String>,
    /// Only calls of this workflow's executions
    #[arg(long)]
    workflow: Option<String>,
    /// Of executions created at this time (RFC 3339) or later
    #[arg(long)]
    since: Option<String>,
    /// Of executions created before this time
    #[arg(long)]
    until: Option<String>,
    /// How many calls at most, 1 to 10000 [default: 1000]
    #[arg(long)]
    limit: Option<u32>,
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    let Verb::Test(test) = arguments.verb;
    let told = client.post("/v1/policies/test", &body(test)?).await?;
    if output.json {
        output::json(&told);
    } else {
        tell(&told);
    }
    Ok(ExitCode::SUCCESS)
}

fn body(test: Test) -> anyhow::Result<Value> {
    let approval = match (&test.approval, &test.file) {
        (Some(text), _) => rule(text)?,
        (None, Some(file)) => rule(&read(file)?)?,
        (None, None) => unreachable!("one of the two is required"),
    };
    let mut body = Map::from_iter([("tool".to_owned(), test.tool.into()), ("approval".to_owned(), approval)]);
    let texts =
        [("agent", test.agent), ("workflow", test.workflow), ("since", test.since), ("until", test.until)];
    body.extend(texts.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))));
    body.extend(test.limit.map(|limit| ("limit".to_owned(), json!(limit))));
    Ok(body.into())
}

/// A word needs no quotes.
fn rule(text: &str) -> anyhow::Result<Value> {
    match text.trim() {
        word @ ("always" | "never") => Ok(word.into()),
        text => serde_json::from_str(text)
            .map_err(|error| Usage(format!("the policy is not JSON: {error}")).into()),
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("{}", file.display()))
}

fn tell(told: &Value) {
    let [calls, would_ask, asked_then, changed, errors] =
        ["/calls", "/would_ask", "/asked_then", "/changed_calls", "/errors"].map(|name| cell(told, name));
    println!(
        "{calls} calls: it would ask about {would_ask}, {asked_then} were asked about; {changed} would change"
    );
    if errors != "0" {
        println!(
            "the expression failed for {errors} of them, which therefore ask: {}",
            cell(told, "/expression_errors/0/message")
        );
    }
    if told["more"] == true {
        println!("there are older calls that were not tried");
    }
    let rows = told["changed"].as_array().into_iter().flatten();
    let mut table = Table::new(&["EXECUTION", "CALL", "THEN", "NOW", "ARGUMENTS"]);
    let word = |asks: &Value| if *asks == true { "asked" } else { "not asked" }.to_owned();
    for row in rows {
        let arguments = output::shortened(&row["arguments"].to_string(), 80);
        let (then, now) = (word(&row["asked_then"]), word(&row["would_ask"]));
        table.row([cell(row, "/execution_id"), cell(row, "/tool_call_id"), then, now, arguments]);
    }
    if changed != "0" {
        table.print();
    }
}

//! `holdpoint approvals`: the inbox, and decisions.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::Output;
use super::executions::seconds;
use super::start::given;
use crate::client::{self, Client, Remote, escape};
use crate::output::{self, Table, cell, shortened};
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
    /// List them, oldest first
    List(Filter),
    /// Let a call be made
    Approve(Approve),
    /// Refuse a call
    Deny(Deny),
}

#[derive(Debug, Args)]
struct Filter {
    /// `pending`, `approved`, `denied`, `expired` or `cancelled`
    #[arg(long, default_value = "pending")]
    status: String,
    /// Only those that wait for this very key's decision
    #[arg(long)]
    mine: bool,
    /// Of this agent
    #[arg(long)]
    agent: Option<String>,
    /// Of this tool
    #[arg(long)]
    tool: Option<String>,
    /// At most so many
    #[arg(long)]
    limit: Option<u32>,
    /// Go on after a page: its `next_cursor`
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Args)]
struct Call {
    /// The execution
    execution: String,
    /// The tool call
    call: String,
    /// What you say about it
    #[arg(long)]
    reason: Option<String>,
    /// Decide only if the call still has this digest
    #[arg(long)]
    digest: Option<String>,
}

#[derive(Debug, Args)]
struct Approve {
    #[command(flatten)]
    call: Call,
    /// Approve with these arguments (a JSON object) in place of the stored ones
    #[arg(long)]
    arguments: Option<String>,
}

#[derive(Debug, Args)]
struct Deny {
    #[command(flatten)]
    call: Call,
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::List(filter) => list(&client, filter, output).await?,
        Verb::Approve(approve) => decide(&client, true, approve.call, approve.arguments, output).await?,
        Verb::Deny(deny) => decide(&client, false, deny.call, None, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, filter: Filter, output: Output) -> anyhow::Result<()> {
    let fields = [
        ("status", Some(filter.status)),
        ("mine", filter.mine.then(|| "true".to_owned())),
        ("agent", filter.agent),
        ("tool", filter.tool),
        ("limit", filter.limit.map(|limit| limit.to_string())),
        ("cursor", filter.cursor),
    ];
    let query: Vec<(&str, String)> =
        fields.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let answer = client.get("/v1/approvals", &query).await?;
    if output.json {
        output::json(&answer);
        return Ok(());
    }
    let mut table = Table::new(&["EXECUTION", "CALL", "TOOL", "ARGUMENTS", "STATUS", "EXPIRES"]);
    for row in answer["approvals"].as_array().into_iter().flatten() {
        let [execution, call, tool, status] =
            ["/execution_id", "/tool_call_id", "/tool", "/status"].map(|name| cell(row, name));
        table.row([execution, call, tool, arguments_shown(row), status, seconds(&cell(row, "/expires_at"))]);
    }
    table.print();
    if let Some(cursor) = answer["next_cursor"].as_str() {
        println!("more: --cursor {cursor}");
    }
    Ok(())
}

/// Long arguments are cut, and said to be: the whole of them is what `--json` shows.
fn arguments_shown(row: &Value) -> String {
    let arguments = cell(row, "/arguments_text");
    let shown = shortened(&arguments, 100);
    if shown == arguments { shown } else { format!("{shown} (cut: see --json)") }
}

/// Edited arguments travel as the exact bytes that were given: they are what will be sent.
fn decision_body(approved: bool, call: &Call, arguments: Option<&str>) -> Result<String, Usage> {
    let fields = given(&[
        ("approved", Some(approved.into())),
        ("reason", call.reason.clone().map(Value::from)),
        ("digest", call.digest.clone().map(Value::from)),
    ]);
    let body = fields.to_string();
    let Some(arguments) = arguments else { return Ok(body) };
    let is_object = serde_json::from_str::<&serde_json::value::RawValue>(arguments).is_ok()
        && arguments.trim_start().starts_with('{');
    if !is_object {
        return Err(Usage(format!("--arguments is `{arguments}`: it may be a JSON object")));
    }
    Ok(format!("{},\"arguments\":{}}}", body.strip_suffix('}').unwrap_or(&body), arguments.trim()))
}

async fn decide(
    client: &Client,
    approved: bool,
    call: Call,
    arguments: Option<String>,
    output: Output,
) -> anyhow::Result<()> {
    let body = decision_body(approved, &call, arguments.as_deref())?;
    let path = format!("/v1/executions/{}/approvals/{}", escape(&call.execution), escape(&call.call));
    let request = client.request(Method::POST, &path).header("content-type", "application/json").body(body);
    let answer = client::json(client.send(request).await?).await?;
    if output.json {
        output::json(&answer);
        return Ok(());
    }
    let before = if answer["already_decided"] == Value::Bool(true) { " (it was before)" } else { "" };
    let more = match answer["votes_needed"].as_u64() {
        Some(needed @ 1..) => format!(" (counted; it takes {needed} more)"),
        _ => String::new(),
    };
    println!("{}  {}  {}{before}{more}", call.execution, call.call, cell(&answer, "/decision"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        Call {
            execution: "exe_1".into(),
            call: "call_1".into(),
            reason: Some("a \"b\" }".into()),
            digest: None,
        }
    }

    #[test]
    fn edited_arguments_keep_their_bytes() {
        let body = decision_body(true, &call(), Some(" {\"amount\": 1.50} ")).expect("valid");
        assert_eq!(body, r#"{"approved":true,"reason":"a \"b\" }","arguments":{"amount": 1.50}}"#);
        serde_json::from_str::<Value>(&body).expect("JSON");
    }

    #[test]
    fn edited_arguments_are_an_object() {
        for bad in ["1", "[]", "{", "{} {}", "{}, \"approved\": true"] {
            assert!(decision_body(true, &call(), Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn cut_arguments_are_said_to_be_cut() {
        let row = serde_json::json!({"arguments_text": "x".repeat(200)});
        assert!(arguments_shown(&row).ends_with("(cut: see --json)"));
    }
}

//! `holdpoint executions`: list, show, watch and steer them.

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use reqwest::Method;
use serde_json::{Value, json};

use super::Output;
use super::start::{given, label};
use crate::client::{self, Client, Remote, escape};
use crate::output::{self, Table, cell, shortened};
use crate::usage::Usage;
use crate::watch;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List them, newest first
    List(Filter),
    /// Show one
    Show { id: String },
    /// Print its events as they come, until it ends
    Watch {
        id: String,
        /// Only events after this number
        #[arg(long, default_value_t = 0)]
        after: u64,
    },
    /// Show its steps
    Steps { id: String },
    /// Say what it waits for, or who holds it
    Why { id: String },
    /// End it
    Cancel { id: String },
    /// Hold it before its next step
    Pause { id: String },
    /// Let a paused one go on
    Resume { id: String },
    /// Repeat one that failed or was cancelled, from its journal
    Retry { id: String },
    /// Send it an event that a step of it listens for
    Signal(Signal),
    /// Answer a call whose outcome nobody knows
    Resolve(Resolve),
}

#[derive(Debug, Args)]
struct Signal {
    id: String,
    /// The event's type
    name: String,
    /// The event's data, as JSON
    #[arg(long)]
    data: Option<String>,
    /// The same key again is the same signal
    #[arg(long)]
    idempotency_key: Option<String>,
}

#[derive(Debug, Args)]
struct Filter {
    /// `queued`, `running`, `suspended`, `completed`, `failed` or `cancelled`
    #[arg(long)]
    status: Option<String>,
    /// Of this agent
    #[arg(long, conflicts_with = "workflow")]
    agent: Option<String>,
    /// Of this workflow
    #[arg(long)]
    workflow: Option<String>,
    /// Of this conversation
    #[arg(long)]
    conversation: Option<String>,
    /// With KEY=VALUE, as often as needed
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// At most so many
    #[arg(long)]
    limit: Option<u32>,
    /// Go on after a page: its `next_cursor`
    #[arg(long)]
    cursor: Option<String>,
}

#[derive(Debug, Args)]
struct Resolve {
    id: String,
    /// The step's number
    step: i32,
    /// What was found out
    outcome: FoundOut,
    /// What the tool answered, as JSON
    #[arg(long)]
    result: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FoundOut {
    /// The call took place: it is not made again
    Happened,
    /// It did not: it is made again, under the same approval and key
    #[value(alias = "did_not_happen")]
    DidNotHappen,
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::List(filter) => list(&client, filter, output).await?,
        Verb::Show { id } => show(&client.get(&path(&id, ""), &[]).await?, output),
        Verb::Watch { id, after } => return watch(&client, &id, after, output).await,
        Verb::Steps { id } => steps(&client.get(&path(&id, "/steps"), &[]).await?, output),
        Verb::Why { id } => why(&client.get(&path(&id, "/diagnosis"), &[]).await?, output),
        Verb::Cancel { id } => act(&client, &id, "/cancel", output).await?,
        Verb::Pause { id } => act(&client, &id, "/pause", output).await?,
        Verb::Resume { id } => act(&client, &id, "/resume", output).await?,
        Verb::Retry { id } => {
            let answer = client.post(&path(&id, "/retry"), &json!({})).await?;
            tell(&cell(&answer, "/id"), &answer, output);
        }
        Verb::Signal(sent) => signal(&client, sent, output).await?,
        Verb::Resolve(found) => resolve(&client, found, output).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/executions/{}{rest}", escape(id))
}

async fn list(client: &Client, filter: Filter, output: Output) -> anyhow::Result<()> {
    let mut query = Vec::new();
    let fields = [
        ("status", filter.status),
        ("agent", filter.agent),
        ("workflow", filter.workflow),
        ("conversation_id", filter.conversation),
        ("limit", filter.limit.map(|limit| limit.to_string())),
        ("cursor", filter.cursor),
    ];
    query.extend(fields.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let labels: Vec<(String, String)> =
        filter.labels.into_iter().map(|(key, value)| (format!("label.{key}"), value)).collect();
    query.extend(labels.iter().map(|(name, value)| (name.as_str(), value.clone())));
    let answer = client.get("/v1/executions", &query).await?;
    if output.json {
        output::json(&answer);
        return Ok(());
    }
    let mut table = Table::new(&["ID", "STATUS", "REASON", "DEFINITION", "CREATED", "PENDING"]);
    for row in answer["executions"].as_array().into_iter().flatten() {
        let definition = format!("{} v{}", cell(row, "/definition/name"), cell(row, "/definition/version"));
        let created = seconds(&cell(row, "/created_at"));
        let [id, status, reason, pending] =
            ["/id", "/status", "/reason", "/pending_approvals"].map(|name| cell(row, name));
        table.row([id, status, reason, definition, created, pending]);
    }
    table.print();
    if let Some(cursor) = answer["next_cursor"].as_str() {
        println!("more: --cursor {cursor}");
    }
    Ok(())
}

/// A time to the second.
pub fn seconds(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => time.to_owned(),
    }
}

fn show(execution: &Value, output: Output) {
    if output.json {
        output::json(execution);
        return;
    }
    let mut table = Table::new(&[]);
    for (name, pointer) in [
        ("id", "/id"),
        ("status", "/status"),
        ("reason", "/reason"),
        ("kind", "/kind"),
        ("definition", "/definition/name"),
        ("version", "/definition/version"),
        ("conversation", "/conversation_id"),
        ("pending approvals", "/pending_approvals"),
        ("created", "/created_at"),
        ("started", "/started_at"),
        ("finished", "/finished_at"),
        ("input", "/input"),
        ("output", "/output"),
        ("error", "/error"),
        ("usage", "/usage"),
        ("labels", "/labels"),
        ("metadata", "/metadata"),
    ] {
        let value = cell(execution, pointer);
        if value != "-" {
            table.row([name.to_owned(), value]);
        }
    }
    table.print();
}

fn steps(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["STEP", "KIND", "NAME", "CALL", "STATUS", "ATTEMPTS", "RESULT"]);
    for step in answer["steps"].as_array().into_iter().flatten() {
        let result =
            [cell(step, "/output"), cell(step, "/error/message")].into_iter().find(|text| text != "-");
        let [number, kind, name, call, status, attempts] =
            ["/step", "/kind", "/name", "/tool_call_id", "/status", "/attempts"]
                .map(|field| cell(step, field));
        table.row([number, kind, name, call, status, attempts, shortened(&result.unwrap_or_default(), 80)]);
    }
    table.print();
}

/// The sentence, and below it what it was read from.
fn why(diagnosis: &Value, output: Output) {
    if output.json {
        output::json(diagnosis);
        return;
    }
    println!("{}", output::one_line(&cell(diagnosis, "/summary")));
    if let Some(advice) = diagnosis["advice"].as_str() {
        println!("→ {}", output::one_line(advice));
    }
    let mut table = Table::new(&[]);
    for seen in diagnosis["evidence"].as_array().into_iter().flatten() {
        let told = |(name, value): (&String, &Value)| match value {
            Value::Null => None,
            _ if name == "kind" => None,
            _ => Some(format!("{name}={}", cell(seen, &format!("/{name}")))),
        };
        let members: Vec<String> = seen.as_object().into_iter().flatten().filter_map(told).collect();
        table.row([format!("  {}", cell(seen, "/kind")), members.join(" ")]);
    }
    table.print();
}

/// Prints events until the end; a failed or cancelled execution is exit code 1.
pub async fn watch(client: &Client, id: &str, after: u64, output: Output) -> anyhow::Result<ExitCode> {
    let status = watch::follow(client, id, after, |event| {
        let line = if output.json { event.to_string() } else { watch::line(event) };
        let mut out = std::io::stdout().lock();
        // Who closed the pipe has seen enough; the process ends by the next signal or event.
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            std::process::exit(0);
        }
    })
    .await?;
    if !output.json {
        println!("{id}  {status}");
    }
    Ok(if status == "completed" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn act(client: &Client, id: &str, act: &str, output: Output) -> anyhow::Result<()> {
    let answer = client.post(&path(id, act), &json!({})).await?;
    tell(id, &answer, output);
    Ok(())
}

async fn resolve(client: &Client, found: Resolve, output: Output) -> anyhow::Result<()> {
    let result = found.result.as_deref().map(serde_json::from_str::<Value>).transpose();
    let result = result.map_err(|error| Usage(format!("--result is not JSON ({error})")))?;
    let outcome = match found.outcome {
        FoundOut::Happened => "happened",
        FoundOut::DidNotHappen => "did_not_happen",
    };
    let body = given(&[("outcome", Some(outcome.into())), ("result", result)]);
    let answer = client.post(&path(&found.id, &format!("/steps/{}/resolve", found.step)), &body).await?;
    tell(&found.id, &answer, output);
    Ok(())
}

async fn signal(client: &Client, sent: Signal, output: Output) -> anyhow::Result<()> {
    let data = sent.data.as_deref().map(serde_json::from_str::<Value>).transpose();
    let data = data.map_err(|error| Usage(format!("--data is not JSON ({error})")))?;
    let path = path(&sent.id, &format!("/signals/{}", escape(&sent.name)));
    let mut request = client.request(Method::POST, &path);
    if let Some(data) = data {
        request = request.json(&data);
    }
    if let Some(key) = &sent.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let answer = client::json(client.send(request).await?).await?;
    tell(&sent.id, &answer, output);
    Ok(())
}

fn tell(id: &str, answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
    } else {
        println!("{id}  {}", cell(answer, "/status"));
    }
}

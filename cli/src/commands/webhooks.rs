//! `holdpoint webhooks`: whom to call for the project's lifecycle events.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
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
    /// List the project's webhooks
    List,
    /// Call a URL; prints the signing secret, once
    Create {
        url: String,
        /// A type to be told of, such as holdpoint.approval.requested.v1; may be repeated [default: all]
        #[arg(long = "type", value_name = "TYPE")]
        types: Vec<String>,
        /// For people
        #[arg(long, default_value = "")]
        description: String,
    },
    /// Make a new signing secret and print it, once; the one until now signs as well for a day
    Rotate { id: String },
    /// Call a webhook again that was disabled
    Enable { id: String },
    /// Deliver an event that only tries it out
    Test { id: String },
    /// List the latest deliveries
    Deliveries { id: String },
    /// Remove a webhook
    Delete { id: String },
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    let nothing = json!({});
    match arguments.verb {
        Verb::List => list(&client.get("/v1/webhooks", &[]).await?, output),
        Verb::Create { url, types, description } => {
            let body = json!({"url": url, "types": types, "description": description});
            with_secret(&client.post("/v1/webhooks", &body).await?, output);
        }
        Verb::Rotate { id } => with_secret(&client.post(&path(&id, "/rotate"), &nothing).await?, output),
        Verb::Enable { id } => {
            let answer = client.post(&path(&id, "/enable"), &nothing).await?;
            tell(output, &answer, &format!("{id}  enabled"));
        }
        Verb::Test { id } => {
            let answer = client.post(&path(&id, "/test"), &nothing).await?;
            tell(output, &answer, &format!("{}  on its way", cell(&answer, "/event_id")));
        }
        Verb::Deliveries { id } => deliveries(&client.get(&path(&id, "/deliveries"), &[]).await?, output),
        Verb::Delete { id } => {
            client.send(client.request(Method::DELETE, &path(&id, ""))).await?;
            tell(output, &json!({"id": id, "deleted": true}), &format!("{id}  deleted"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str, rest: &str) -> String {
    format!("/v1/webhooks/{}{rest}", escape(id))
}

fn tell(output: Output, answer: &Value, line: &str) {
    if output.json { output::json(answer) } else { println!("{line}") }
}

fn with_secret(answer: &Value, output: Output) {
    tell(output, answer, &format!("{}  {}", cell(answer, "/id"), cell(answer, "/secret")));
}

fn list(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["WEBHOOK", "URL", "ENABLED", "REASON", "FAILING SINCE", "CREATED"]);
    for row in answer["webhooks"].as_array().into_iter().flatten() {
        let plain = ["/id", "/url", "/enabled", "/disabled_reason"].map(|name| cell(row, name));
        let times = ["/failing_since", "/created_at"].map(|name| seconds(&cell(row, name)));
        table.row(plain.into_iter().chain(times));
    }
    table.print();
}

fn deliveries(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["EVENT", "TYPE", "STATUS", "ATTEMPTS", "ANSWER", "NEXT", "ERROR"]);
    for row in answer["deliveries"].as_array().into_iter().flatten() {
        let plain = ["/event_id", "/type", "/status", "/attempts", "/response_status"];
        let next = std::iter::once(seconds(&cell(row, "/next_attempt_at")));
        table.row(plain.map(|name| cell(row, name)).into_iter().chain(next).chain([cell(row, "/error")]));
    }
    table.print();
}

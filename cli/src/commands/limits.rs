//! `holdpoint limits`: how much of what may run at a time, and begin in a span of time.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::Output;
use crate::client::{self, Client, Remote};
use crate::output::{self, Table};
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
    /// List the limits of the project, and its tenant's own
    List,
    /// Set a limit: in place of what it was
    Set(Set),
    /// Remove a limit
    Remove(Subject),
}

#[derive(Debug, Args)]
struct Subject {
    /// tenant, agent, workflow or tool
    kind: String,
    /// The agent, workflow or tool; left out for the tenant
    #[arg(default_value = "default")]
    name: String,
}

#[derive(Debug, Args)]
struct Set {
    #[command(flatten)]
    subject: Subject,
    /// At most so many at a time
    #[arg(long, value_name = "N")]
    concurrency: Option<i64>,
    /// At most so many in a span of time, such as 100/1m
    #[arg(long, value_name = "COUNT/SPAN")]
    rate: Option<String>,
    /// Of the tenant: at most so many that wait
    #[arg(long, value_name = "N")]
    backlog: Option<i64>,
}

const PATH: &str = "/v1/limits";

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::List => {
            let answer = client.get(PATH, &[]).await?;
            if output.json {
                output::json(&answer);
            } else {
                show(answer["limits"].as_array().map(Vec::as_slice).unwrap_or_default());
            }
        }
        Verb::Set(set) => {
            let body = set.body()?;
            let request = client.request(Method::PUT, &set.subject.path()).json(&body);
            let answer = client::json(client.send(request).await?).await?;
            if output.json {
                output::json(&answer);
            } else {
                show(std::slice::from_ref(&answer));
            }
        }
        Verb::Remove(subject) => {
            client.send(client.request(Method::DELETE, &subject.path())).await?;
            if output.json {
                output::json(&json!({"kind": subject.kind, "name": subject.name, "removed": true}));
            } else {
                println!("{} {} is limited no more", subject.kind, subject.name);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl Subject {
    fn path(&self) -> String {
        format!("{PATH}/{}/{}", self.kind, self.name)
    }
}

impl Set {
    fn body(&self) -> Result<Value, Usage> {
        let mut body = Map::new();
        let mut number = |name: &str, value: Option<i64>| {
            value.map(|value| body.insert(name.to_owned(), value.into()));
        };
        number("concurrency", self.concurrency);
        number("backlog", self.backlog);
        if let Some(rate) = &self.rate {
            let read = rate.split_once('/').and_then(|(count, per)| Some((count.parse::<i64>().ok()?, per)));
            let (count, per) = read
                .ok_or_else(|| Usage(format!("--rate `{rate}`: write a count and a span, such as 100/1m")))?;
            body.insert("rate".to_owned(), json!({"count": count, "per": per}));
        }
        Ok(Value::Object(body))
    }
}

fn show(limits: &[Value]) {
    let mut table = Table::new(&["KIND", "NAME", "AT A TIME", "RATE", "BACKLOG"]);
    for limit in limits {
        let rate = match limit["rate"]["count"].as_i64() {
            Some(count) => format!("{count}/{}", output::cell(limit, "/rate/per")),
            None => output::cell(limit, "/rate"),
        };
        let cell = |pointer| output::cell(limit, pointer);
        table.row([cell("/kind"), cell("/name"), cell("/concurrency"), rate, cell("/backlog")]);
    }
    table.print();
}

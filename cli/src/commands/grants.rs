//! `holdpoint grants`: decisions that are made before they are asked for.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use holdpoint_engine::time::Span;
use reqwest::Method;
use serde_json::{Value, json};

use super::Output;
use super::executions::seconds;
use crate::client::{Client, Remote, escape, json as body_of};
use crate::output::{self, Table, cell, shortened};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Approve calls of a tool before they are asked about
    Create(Create),
    /// List grants, newest first
    List {
        /// Only those that stand so: active, used_up, expired or revoked
        #[arg(long)]
        status: Option<String>,
        /// Only those for this agent
        #[arg(long)]
        agent: Option<String>,
        /// Only those for this conversation
        #[arg(long)]
        conversation: Option<String>,
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Take a grant back: it answers nothing from now on
    Revoke { id: String },
}

#[derive(Debug, Args)]
struct Create {
    /// The tool, as the model calls it
    tool: String,
    /// For the calls of this agent
    #[arg(long, required_unless_present = "conversation", conflicts_with = "conversation")]
    agent: Option<String>,
    /// For the calls in this conversation
    #[arg(long)]
    conversation: Option<String>,
    /// Only while this holds: a jq program over {tool, arguments, end_user, agent}
    #[arg(long)]
    when: Option<String>,
    /// How long, such as 8h
    #[arg(long, value_parser = Span::parse)]
    expires_after: Span,
    /// How often at most
    #[arg(long)]
    max_uses: u32,
    /// Why
    #[arg(long)]
    reason: Option<String>,
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::Create(create) => tell(&client.post("/v1/grants", &body(create)).await?, output),
        Verb::List { status, agent, conversation, limit } => {
            let mut query = vec![("limit", limit.to_string())];
            let named = [("status", status), ("agent", agent), ("conversation_id", conversation)];
            query.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
            list(&client.get("/v1/grants", &query).await?, output);
        }
        Verb::Revoke { id } => {
            let request = client.request(Method::DELETE, &format!("/v1/grants/{}", escape(&id)));
            tell(&body_of(client.send(request).await?).await?, output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn body(create: Create) -> Value {
    let mut body = json!({
        "tool": create.tool, "expires_after": create.expires_after, "max_uses": create.max_uses,
    });
    let optional = [
        ("agent", create.agent),
        ("conversation_id", create.conversation),
        ("when", create.when),
        ("reason", create.reason),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            body[name] = value.into();
        }
    }
    body
}

fn tell(grant: &Value, output: Output) {
    if output.json {
        output::json(grant);
    } else {
        println!("{}  {}", cell(grant, "/id"), cell(grant, "/status"));
    }
}

fn list(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["GRANT", "STATUS", "TOOL", "FOR", "WHILE", "USES", "UNTIL", "BY"]);
    for row in answer["grants"].as_array().into_iter().flatten() {
        let on = if row["agent"].is_null() { "/conversation_id" } else { "/agent" };
        let uses = format!("{}/{}", cell(row, "/uses"), cell(row, "/max_uses"));
        let head = ["/id", "/status", "/tool", on].map(|name| shortened(&cell(row, name), 40));
        let rest = [shortened(&cell(row, "/when"), 40), uses, seconds(&cell(row, "/expires_at"))];
        table.row(head.into_iter().chain(rest).chain([cell(row, "/created_by")]));
    }
    table.print();
}

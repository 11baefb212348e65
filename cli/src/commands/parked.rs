//! `holdpoint parked`: messages that could not be carried out. Through the API they are those
//! of the key's tenant and project; with `--all`, directly in the database, everybody's and
//! nobody's, which is for operators.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use holdpoint_db::{ParkedFilter, ParkedMessage, Store, Unparked};
use holdpoint_engine::ids::ParkedId;
use reqwest::Method;
use serde_json::{Value, json};

use super::executions::seconds;
use super::{Output, Sources, configured};
use crate::client::{Client, Remote, escape};
use crate::output::{self, Table, cell, shortened};
use crate::usage::Usage;
use crate::wiring;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List parked messages, newest first
    List(List),
    /// Show one with its headers and body
    Show(One),
    /// Take one in again, as if it came now
    Redrive {
        /// Its id
        id: String,
    },
    /// Remove one
    Discard(One),
}

#[derive(Debug, Args)]
struct List {
    /// Only those parked with this code, such as `poison`
    #[arg(long)]
    code: Option<String>,
    /// At most so many, 1 to 1000
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// Directly in the database, for operators: everybody's, and those that belong to nobody
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
struct One {
    /// Its id
    id: String,
    /// Directly in the database, for operators: also one that belongs to nobody
    #[arg(long)]
    all: bool,
}

/// Runs the verb.
pub async fn run(arguments: Arguments, sources: &Sources, output: Output) -> anyhow::Result<ExitCode> {
    let Arguments { remote, verb } = arguments;
    let answer = match verb {
        Verb::List(List { all: true, code, limit }) => {
            let filter = ParkedFilter { code, limit, after: None };
            let rows = directly(sources, move |store| Ok(store.parked_list(None, &filter)?)).await?;
            print_list(&json!({"parked_messages": rows.iter().map(shown).collect::<Vec<_>>()}), output);
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Show(One { id, all: true }) => shown(&directly(sources, move |store| find(store, &id)).await?),
        Verb::Discard(One { id, all: true }) => {
            directly(sources, move |store| discard(store, &id)).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Verb::List(List { all: false, code, limit }) => {
            let mut query = vec![("limit", limit.to_string())];
            query.extend(code.map(|code| ("code", code)));
            print_list(&Client::new(&remote)?.get("/v1/parked-messages", &query).await?, output);
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Show(One { id, all: false }) => Client::new(&remote)?.get(&path(&id, ""), &[]).await?,
        Verb::Discard(One { id, all: false }) => {
            let client = Client::new(&remote)?;
            client.send(client.request(Method::DELETE, &path(&id, ""))).await?;
            return Ok(ExitCode::SUCCESS);
        }
        Verb::Redrive { id } => {
            let answer = Client::new(&remote)?.post(&path(&id, "/redrive"), &json!({})).await?;
            return Ok(print_redriven(&answer, output));
        }
    };
    print_one(&answer, output);
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str, verb: &str) -> String {
    format!("/v1/parked-messages/{}{verb}", escape(id))
}

/// Database calls block: they belong on a thread that may.
async fn directly<T: Send + 'static>(
    sources: &Sources,
    work: impl FnOnce(&Arc<dyn Store>) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let store = wiring::open_store(&configured(sources)?)?;
    tokio::task::spawn_blocking(move || work(&store)).await?
}

fn parse(id: &str) -> anyhow::Result<ParkedId> {
    Ok(id.parse().map_err(|error| Usage(format!("{error}")))?)
}

fn find(store: &Arc<dyn Store>, id: &str) -> anyhow::Result<ParkedMessage> {
    let found = store.parked_get(None, parse(id)?)?;
    found.ok_or_else(|| anyhow::anyhow!("there is no parked message {id}"))
}

fn discard(store: &Arc<dyn Store>, id: &str) -> anyhow::Result<()> {
    let gone = store.parked_remove(None, parse(id)?, Unparked::Discarded, "operator")?;
    anyhow::ensure!(gone, "there is no parked message {id}");
    Ok(())
}

/// As the API shows it, and whose it is.
fn shown(row: &ParkedMessage) -> Value {
    let raw = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    json!({
        "id": row.id, "tenant": row.scope.as_ref().map(|scope| &scope.tenant),
        "project": row.scope.as_ref().map(|scope| &scope.project), "queue": row.queue,
        "message_id": row.message_id, "kind": row.kind, "code": row.code, "reason": row.reason, "key_id": row.key,
        "properties": raw(&row.properties), "headers": raw(&row.headers),
        "body": row.body.as_deref().and_then(|body| std::str::from_utf8(body).ok()),
        "body_bytes": row.body_bytes, "body_digest": row.body_digest, "parked_at": row.parked_at,
    })
}

fn print_list(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["ID", "PARKED", "CODE", "KIND", "MESSAGE", "REASON"]);
    for row in answer["parked_messages"].as_array().into_iter().flatten() {
        let reason = shortened(&cell(row, "/reason"), 60);
        let head = [cell(row, "/id"), seconds(&cell(row, "/parked_at"))];
        let rest = ["/code", "/kind", "/message_id"].map(|name| shortened(&cell(row, name), 40));
        table.row(head.into_iter().chain(rest).chain([reason]));
    }
    table.print();
}

fn print_one(row: &Value, output: Output) {
    if output.json {
        output::json(row);
        return;
    }
    let mut table = Table::new(&[]);
    for (name, value) in row.as_object().into_iter().flatten() {
        let value = if value.is_null() { "-".to_owned() } else { cell(row, &format!("/{name}")) };
        table.row([name.clone(), value]);
    }
    table.print();
}

/// What came of it; a message that was rejected again stays, and is a failure.
fn print_redriven(answer: &Value, output: Output) -> ExitCode {
    if output.json {
        output::json(answer);
    } else {
        let told = match answer["outcome"].as_str() {
            Some("accepted") => cell(answer, "/execution_id"),
            _ => format!("{}: {}", cell(answer, "/problem/code"), cell(answer, "/problem/detail")),
        };
        println!("{}  {}", cell(answer, "/outcome"), output::one_line(&told));
    }
    if answer["outcome"] == "accepted" { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

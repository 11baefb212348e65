//! `holdpoint keys`: makes, lists and revokes API keys, directly in the database, so that
//! the first key needs no key.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use holdpoint_api::keys::Role;
use holdpoint_db::{KeyRow, Store};
use holdpoint_engine::ids::KeyId;
use holdpoint_engine::policy::check_groups;
use holdpoint_engine::scope::{Scope, check_name};
use holdpoint_engine::time::Span;
use serde_json::{Value, json};

use super::Output;
use crate::configuration::Configuration;
use crate::output::{self, Table};
use crate::usage::Usage;
use crate::wiring;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a key; it is shown once
    Create(Create),
    /// List keys, newest first
    List(Of),
    /// Revoke a key: refused everywhere within a second
    Revoke {
        /// The key's id (`key_…`), not its secret
        id: String,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// Whom its rows belong to
    #[arg(long, default_value = "default")]
    tenant: String,
    /// Which of the tenant's projects
    #[arg(long, default_value = "default")]
    project: String,
    /// What it may do: admin (everything), submit (starts and steers), approve (decides), read,
    /// or agent (starts and reads, cannot decide)
    #[arg(long, value_parser = role)]
    role: Role,
    /// For people
    #[arg(long, default_value = "")]
    name: String,
    /// The one end user that it speaks for
    #[arg(long)]
    end_user: Option<String>,
    /// A group that it is in, by which approval policies find it; may be given several times
    #[arg(long = "group")]
    groups: Vec<String>,
    /// When it ends, such as 30d [default: never]
    #[arg(long, value_parser = Span::parse)]
    expires_after: Option<Span>,
}

#[derive(Debug, Args)]
struct Of {
    /// Only of this tenant
    #[arg(long)]
    tenant: Option<String>,
    /// Only of this project of the tenant
    #[arg(long, requires = "tenant")]
    project: Option<String>,
}

/// Reads one of the contract's roles.
fn role(name: &str) -> Result<Role, String> {
    let known: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
    Role::parse(name).ok_or_else(|| format!("it may be {}", known.join(", ")))
}

/// Runs the verb.
pub async fn run(
    arguments: Arguments,
    configuration: Configuration,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let store = wiring::open_store(&configuration)?;
    // Database calls block: they belong on a thread that may.
    tokio::task::spawn_blocking(move || match arguments.verb {
        Verb::Create(create) => make(&store, create, output),
        Verb::List(of) => list(&store, of, output),
        Verb::Revoke { id } => revoke(&store, &id, output),
    })
    .await??;
    Ok(ExitCode::SUCCESS)
}

fn make(store: &Arc<dyn Store>, create: Create, output: Output) -> anyhow::Result<()> {
    for (name, value) in [("--tenant", &create.tenant), ("--project", &create.project)] {
        check_name(value).map_err(|error| Usage(format!("{name}: {error}")))?;
    }
    let scope = Scope::new(&create.tenant, &create.project);
    let now = store.now()?;
    let expires_at = create.expires_after.map(|span| now.plus(span.0));
    let end_user = create.end_user.as_deref();
    check_groups(&create.groups).map_err(|error| Usage(format!("--group: {error}")))?;
    let mut key = holdpoint_api::keys::create(&scope, create.role, &create.name, end_user, expires_at, now)
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    key.row.groups = create.groups;
    store.key_create(&key.row, "operator")?;
    if output.json {
        let mut value = shown(&key.row);
        value["key"] = Value::from(key.text);
        output::json(&value);
    } else {
        eprintln!("{} ({}, {scope}); the key is shown this once:", key.row.id, key.row.role);
        println!("{}", key.text);
    }
    Ok(())
}

fn shown(row: &KeyRow) -> Value {
    json!({
        "id": row.id, "tenant": row.scope.tenant, "project": row.scope.project, "role": row.role, "name": row.name,
        "end_user": row.end_user, "groups": row.groups, "created_at": row.created_at, "expires_at": row.expires_at, "revoked_at": row.revoked_at,
    })
}

fn list(store: &Arc<dyn Store>, of: Of, output: Output) -> anyhow::Result<()> {
    let scope = match (&of.tenant, &of.project) {
        (Some(tenant), Some(project)) => Some(Scope::new(tenant, project)),
        _ => None,
    };
    let mut rows = store.key_list(scope.as_ref())?;
    if let Some(tenant) = &of.tenant {
        rows.retain(|row| *row.scope.tenant == **tenant);
    }
    if output.json {
        output::json(&json!({"keys": rows.iter().map(shown).collect::<Vec<_>>()}));
        return Ok(());
    }
    let mut table =
        Table::new(&["ID", "SCOPE", "ROLE", "NAME", "END USER", "GROUPS", "CREATED", "EXPIRES", "REVOKED"]);
    let time = |time: Option<holdpoint_engine::time::Timestamp>| {
        time.map_or_else(|| "-".to_owned(), |time| super::executions::seconds(&time.to_string()))
    };
    for row in rows {
        let end_user = row.end_user.unwrap_or_else(|| "-".to_owned());
        let groups = if row.groups.is_empty() { "-".to_owned() } else { row.groups.join(",") };
        let times = [time(Some(row.created_at)), time(row.expires_at), time(row.revoked_at)];
        let head = [row.id.to_string(), row.scope.to_string(), row.role, row.name, end_user, groups];
        table.row(head.into_iter().chain(times));
    }
    table.print();
    Ok(())
}

fn revoke(store: &Arc<dyn Store>, id: &str, output: Output) -> anyhow::Result<()> {
    let id: KeyId = id.parse().map_err(|error| Usage(format!("{error}")))?;
    anyhow::ensure!(
        store.key_revoke(None, id, "operator")?,
        "there is no key {id}, or it was revoked before"
    );
    if output.json {
        output::json(&json!({"id": id, "revoked": true}));
    } else {
        println!("{id}  revoked");
    }
    Ok(())
}

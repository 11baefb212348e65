//! `holdpoint audit`: lists, exports and verifies what was done. Over the API for one tenant
//! and project; with `--all`, directly in the database, for operators, also the installation's
//! own chain.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use holdpoint_db::{AuditFilter, Store, StoreResult, verify_chain};
use holdpoint_engine::audit::{AuditHead, AuditRow, Broken, Fault, Verifier, chain_name, installation};
use holdpoint_engine::scope::Scope;
use serde::Deserialize;
use serde_json::{Value, json};

use super::executions::seconds;
use super::{Output, Sources, configured};
use crate::client::{Client, Remote};
use crate::output::{self, Table, cell, shortened};
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
    /// List rows, newest first
    List(List),
    /// Print all rows as JSON lines, oldest first
    Export {
        /// Directly in the database, for operators: every chain, also the installation's
        #[arg(long)]
        all: bool,
    },
    /// Follow the chain of hashes; exits 1 at the first row that does not fit
    Verify(Verify),
}

#[derive(Debug, Args)]
struct List {
    /// Only this act, such as approval.decided
    #[arg(long)]
    act: Option<String>,
    /// Only by this key, or by scheduler, worker, cron or operator
    #[arg(long)]
    actor: Option<String>,
    /// Only about this id or name
    #[arg(long)]
    subject: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Debug, Args)]
struct Verify {
    /// Directly in the database, for operators: every chain, also the installation's
    #[arg(long, conflicts_with = "file")]
    all: bool,
    /// An export in place of the API
    #[arg(long)]
    file: Option<PathBuf>,
    /// A hash that was noted before: it must be in the chain (else its end was cut off)
    #[arg(long, value_name = "HASH")]
    head: Option<String>,
}

/// Rows of a page.
const PAGE: usize = 1_000;

/// What became of one chain.
type Followed = Result<AuditHead, Broken>;

/// Runs the verb.
pub async fn run(arguments: Arguments, sources: &Sources, output: Output) -> anyhow::Result<ExitCode> {
    let Arguments { remote, verb } = arguments;
    match verb {
        Verb::List(wanted) => list(&Client::new(&remote)?, wanted, output).await?,
        Verb::Export { all: true } => directly(sources, |store| export_all(store.as_ref())).await?,
        Verb::Export { all: false } => export(&Client::new(&remote)?).await?,
        Verb::Verify(wanted) => {
            let head = wanted.head.clone();
            let followed = match wanted.file {
                Some(file) => follow_file(&file, head)?,
                None if wanted.all => {
                    directly(sources, |store| Ok(follow_all(store.as_ref(), head)?)).await?
                }
                None => vec![follow(&Client::new(&remote)?, head).await?],
            };
            return Ok(tell(&followed, wanted.head.as_deref(), output));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Database calls block: they belong on a thread that may.
async fn directly<T: Send + 'static>(
    sources: &Sources,
    work: impl FnOnce(Arc<dyn Store>) -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<T> {
    let store = wiring::open_store(&configured(sources)?)?;
    tokio::task::spawn_blocking(move || work(store)).await?
}

async fn list(client: &Client, wanted: List, output: Output) -> anyhow::Result<()> {
    let mut query = vec![("limit", wanted.limit.to_string())];
    let named = [("act", wanted.act), ("actor", wanted.actor), ("subject", wanted.subject)];
    query.extend(named.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let answer = client.get("/v1/audit", &query).await?;
    if output.json {
        output::json(&answer);
        return Ok(());
    }
    let mut table = Table::new(&["ROW", "AT", "ACTOR", "END USER", "ACT", "SUBJECT", "DETAILS"]);
    for row in answer["audit"].as_array().into_iter().flatten() {
        let head = [cell(row, "/seq"), seconds(&cell(row, "/at"))];
        let rest = ["/actor", "/end_user", "/act", "/subject"].map(|name| cell(row, name));
        table.row(head.into_iter().chain(rest).chain([shortened(&cell(row, "/details"), 80)]));
    }
    table.print();
    Ok(())
}

/// A page of the API's chain, oldest first.
#[derive(Deserialize)]
struct Page {
    audit: Vec<AuditRow>,
    head: Option<PageHead>,
}

#[derive(Deserialize)]
struct PageHead {
    seq: i64,
    hash: String,
}

async fn page(client: &Client, after: i64) -> anyhow::Result<Page> {
    let query = [("order", "asc".to_owned()), ("after", after.to_string()), ("limit", PAGE.to_string())];
    let answer = client.get("/v1/audit", &query).await?;
    serde_json::from_value(answer).context("the API's answer is no page of the audit")
}

async fn export(client: &Client) -> anyhow::Result<()> {
    let mut after = 0;
    loop {
        let rows = page(client, after).await?.audit;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.seq;
        print_lines(&rows)?;
    }
}

fn export_all(store: &dyn Store) -> anyhow::Result<()> {
    for chain in chains(store)? {
        let mut after = 0;
        loop {
            let filter =
                AuditFilter { after: Some(after), oldest_first: true, limit: PAGE, ..AuditFilter::default() };
            let rows = store.audit_list(&chain, &filter)?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            print_lines(&rows)?;
        }
    }
    Ok(())
}

fn print_lines(rows: &[AuditRow]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for row in rows {
        writeln!(out, "{}", serde_json::to_string(row)?)?;
    }
    Ok(())
}

/// All chains, by name; those too whose head somebody took away.
fn chains(store: &dyn Store) -> StoreResult<Vec<Scope>> {
    let heads = store.audit_heads(None)?.into_iter().map(|head| head.chain);
    let mut chains: Vec<Scope> = heads.chain(store.audit_headless()?).collect();
    chains.sort();
    Ok(chains)
}

fn follow_all(store: &dyn Store, known: Option<String>) -> StoreResult<Vec<Followed>> {
    chains(store)?.iter().map(|chain| verify_chain(store, chain, known.clone())).collect()
}

async fn follow(client: &Client, known: Option<String>) -> anyhow::Result<Followed> {
    let mut verifier: Option<Verifier> = None;
    loop {
        let Page { audit: rows, head } = page(client, verifier.as_ref().map_or(0, Verifier::seq)).await?;
        let first = rows.first().map(AuditRow::chain);
        let mut follower = match (verifier, first) {
            (Some(verifier), _) => verifier,
            // An empty chain has no name here: whoever asks knows it.
            (None, first) => Verifier::new(first.unwrap_or_else(installation), known.clone()),
        };
        let chain = follower.chain().clone();
        let none = AuditHead { chain: chain.clone(), seq: 0, hash: String::new() };
        let head = head.map_or(none, |head| AuditHead { chain, seq: head.seq, hash: head.hash });
        match follower.page(&rows, Some(&head)) {
            Ok(false) => verifier = Some(follower),
            Ok(true) => return Ok(follower.end(Some(&head))),
            Err(broken) => return Ok(Err(broken)),
        }
    }
}

/// An export has no heads: that its end was cut off shows by a hash that was noted only.
fn follow_file(file: &Path, known: Option<String>) -> anyhow::Result<Vec<Followed>> {
    let shown = file.display();
    let opened = std::fs::File::open(file).with_context(|| format!("{shown}"))?;
    let mut chains: BTreeMap<Scope, Result<Verifier, Broken>> = BTreeMap::new();
    for (at, line) in BufReader::new(opened).lines().enumerate() {
        let line = line.with_context(|| format!("{shown}"))?;
        let row: AuditRow = serde_json::from_str(&line)
            .with_context(|| format!("{shown}, line {}: it is no row of the audit", at + 1))?;
        let chain = row.chain();
        let follower = chains.entry(chain.clone()).or_insert_with(|| Ok(Verifier::new(chain, known.clone())));
        if let Ok(verifier) = follower
            && let Err(broken) = verifier.next(&row)
        {
            *follower = Err(broken);
        }
    }
    Ok(chains.into_values().map(|follower| follower.and_then(|verifier| verifier.end(None))).collect())
}

/// A chain without the hash that was noted is whole; but one of the chains must have it.
fn tell(followed: &[Followed], known: Option<&str>, output: Output) -> ExitCode {
    let is_elsewhere = |one: &Followed| matches!(one, Err(Broken { fault: Fault::HeadMissing { .. }, .. }));
    let has_known = followed.iter().any(Result::is_ok);
    let broken = followed.iter().any(|one| one.is_err() && !is_elsewhere(one));
    let missing = known.filter(|_| !has_known);
    if output.json {
        let chains: Vec<Value> = followed.iter().map(|one| shown(one, is_elsewhere(one))).collect();
        output::json(
            &json!({"chains": chains, "whole": !broken && missing.is_none(), "head_missing": missing}),
        );
    } else {
        for one in followed {
            match one {
                Ok(head) => {
                    println!("{}: whole, {} rows, head {}", chain_name(&head.chain), head.seq, head.hash)
                }
                Err(broken) if is_elsewhere(one) => {
                    println!("{}: whole, {} rows", chain_name(&broken.chain), broken.seq);
                }
                Err(broken) => eprintln!("{broken}"),
            }
        }
        if let Some(hash) = missing {
            eprintln!("no row has the hash {hash}: the end of its chain was cut off or replaced");
        }
    }
    if broken || missing.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn shown(one: &Followed, is_elsewhere: bool) -> Value {
    let (chain, seq) = match one {
        Ok(head) => (&head.chain, head.seq),
        Err(broken) => (&broken.chain, broken.seq),
    };
    let mut value =
        json!({"tenant": chain.tenant, "project": chain.project, "whole": one.is_ok() || is_elsewhere});
    match one {
        Ok(head) => value["head"] = json!(head.hash),
        Err(broken) if !is_elsewhere => {
            value["broken"] = json!({"row": seq, "why": broken.fault.to_string()})
        }
        Err(_) => {}
    }
    if one.is_ok() || is_elsewhere {
        value["rows"] = seq.into();
    }
    value
}

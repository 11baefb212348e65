//! The commands: one file each, listed here once in the enum and once in `run`.

mod agents;
mod api;
mod approvals;
mod attention;
mod audit;
mod bench;
mod dev;
mod doctor;
mod events;
mod executions;
mod export;
mod files;
mod grants;
mod healthcheck;
mod keys;
mod limits;
mod migrate;
mod parked;
mod policies;
mod retention;
mod scheduler;
mod schedules;
mod start;
mod sweeps;
mod webhooks;
mod worker;
mod workflow_test;
mod workflows;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::configuration::{self, Configuration};
use crate::telemetry;

/// Durable executions of AI agents that stop at approvals.
#[derive(Debug, Parser)]
#[command(name = "holdpoint", version)]
pub struct CommandLine {
    #[command(flatten)]
    pub output: Output,
    #[command(flatten)]
    pub sources: Sources,
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
}

/// Where the configuration of a server process comes from.
#[derive(Debug, Clone, Args)]
pub struct Sources {
    /// The configuration file [default: holdpoint.toml, if it is there]
    #[arg(long, env = "HOLDPOINT_CONFIG", global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process, with SQLite in ./.holdpoint, on loopback only
    Dev(dev::Arguments),
    /// Run the HTTP API
    Api,
    /// Run a worker: takes executions, performs their steps
    Worker,
    /// Run a scheduler: sends out sweeps on time
    Scheduler,
    /// Bring the database's schema up to date
    Migrate,
    /// Look at database, broker, secrets and API, and say what to do
    Doctor(doctor::Arguments),
    /// Make, list and revoke API keys, directly in the database
    Keys(keys::Arguments),
    /// Start an execution
    Start(start::Arguments),
    /// List, show, watch and steer executions
    Executions(executions::Arguments),
    /// List and decide approvals
    Approvals(approvals::Arguments),
    /// Make, list and take back standing grants
    Grants(grants::Arguments),
    /// List and acknowledge workflows that need a person
    Attention(attention::Arguments),
    /// List, export and verify the audit: who decided, granted and changed what
    Audit(audit::Arguments),
    /// Register and show agents
    Agents(agents::Arguments),
    /// Register and show workflows
    Workflows(workflows::Arguments),
    /// Upload, read and remove files that executions are started with
    Files(files::Arguments),
    /// Make, list and steer schedules
    Schedules(schedules::Arguments),
    /// Set, list and remove limits on what runs at a time and how often
    Limits(limits::Arguments),
    /// List, show, take in again and discard messages that could not be carried out
    Parked(parked::Arguments),
    /// Try approval policies on past calls
    Policies(policies::Arguments),
    /// Run and list sweeps
    Sweeps(sweeps::Arguments),
    /// Write finished executions as lines of JSON
    Export(export::Arguments),
    /// Say how long finished executions are kept
    Retention(retention::Arguments),
    /// Send lifecycle events to the broker's exchange, or stop that
    Events(events::Arguments),
    /// Make, list and steer webhooks
    Webhooks(webhooks::Arguments),
    /// Measure a running installation
    Bench(bench::Arguments),
    /// Ask a URL and succeed if it answers 2xx (for containers without curl)
    Healthcheck(healthcheck::Arguments),
    /// Evaluate expressions for the process that started this one
    #[command(hide = true)]
    EvaluateExpressions,
}

/// Runs the command that the caller named.
pub async fn run(line: CommandLine) -> anyhow::Result<ExitCode> {
    let output = line.output;
    let configured = || configured(&line.sources);
    match line.command {
        Command::Dev(arguments) => dev::run(arguments, configured()?, output).await,
        Command::Api => api::run(configured()?).await,
        Command::Worker => worker::run(configured()?).await,
        Command::Scheduler => scheduler::run(configured()?).await,
        Command::Migrate => migrate::run(configured()?, output).await,
        Command::Doctor(arguments) => doctor::run(arguments, configured()?, output).await,
        Command::Keys(arguments) => keys::run(arguments, configured()?, output).await,
        Command::Start(arguments) => start::run(arguments, output).await,
        Command::Executions(arguments) => executions::run(arguments, output).await,
        Command::Approvals(arguments) => approvals::run(arguments, output).await,
        Command::Grants(arguments) => grants::run(arguments, output).await,
        Command::Attention(arguments) => attention::run(arguments, output).await,
        Command::Audit(arguments) => audit::run(arguments, &line.sources, output).await,
        Command::Agents(arguments) => agents::run(arguments, output).await,
        Command::Workflows(arguments) => workflows::run(arguments, output).await,
        Command::Files(arguments) => files::run(arguments, output).await,
        Command::Schedules(arguments) => schedules::run(arguments, output).await,
        Command::Parked(arguments) => parked::run(arguments, &line.sources, output).await,
        Command::Policies(arguments) => policies::run(arguments, output).await,
        Command::Sweeps(arguments) => sweeps::run(arguments, output).await,
        Command::Export(arguments) => export::run(arguments).await,
        Command::Retention(arguments) => retention::run(arguments, output).await,
        Command::Limits(arguments) => limits::run(arguments, output).await,
        Command::Events(arguments) => events::run(arguments, output).await,
        Command::Webhooks(arguments) => webhooks::run(arguments, output).await,
        Command::Bench(arguments) => bench::run(arguments, output).await,
        Command::Healthcheck(arguments) => healthcheck::run(arguments).await,
        Command::EvaluateExpressions => unreachable!("main serves it without a runtime"),
    }
}

/// The configuration, and with it the logs: client verbs need neither.
fn configured(sources: &Sources) -> anyhow::Result<Configuration> {
    let configuration = configuration::load(sources.config.as_deref())?;
    telemetry::start(&configuration.log)?;
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_makes_sense() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_verb_of_the_contract_is_there() {
        for line in [
            "dev --demo --listen 127.0.0.1:0",
            "api",
            "worker --config x.toml",
            "scheduler",
            "migrate --json",
            "keys create --tenant acme --project shop --role admin --name x --group a --group b --expires-after 30d",
            "keys list",
            "keys revoke key_1",
            "start demo --input hello --watch --json",
            "start --workflow holdpoint.noop",
            "executions list --status suspended --label a=b",
            "executions show exe_1",
            "executions watch exe_1 --after 3",
            "executions cancel exe_1",
            "executions pause exe_1",
            "executions resume exe_1",
            "executions signal exe_1 order.paid --data {} --idempotency-key k1",
            "executions steps exe_1",
            "executions resolve exe_1 3 did-not-happen",
            "executions why exe_1 --json",
            "doctor --json --url http://127.0.0.1:4653",
            "approvals list --mine --json",
            "approvals approve exe_1 call_1 --arguments {} --digest 00",
            "approvals deny exe_1 call_1 --reason no",
            "agents apply x.json --name a",
            "agents list",
            "agents show a --version 2",
            "agents versions a",
            "agents delete a",
            "workflows test a --input {} --version 2 --file fil_1",
            "files put x.txt --name y.txt --content-type text/plain --json",
            "files get fil_1 --to y.txt",
            "files show fil_1",
            "files delete fil_1",
            "schedules apply x.json --name a",
            "schedules list --json",
            "schedules show a",
            "schedules pause a",
            "schedules resume a",
            "schedules delete a",
            "sweeps run stale --dry-run --timeout 1h --limit 5",
            "sweeps run retention --dry-run --limit 1000",
            "sweeps list --limit 5",
            "policies test refund --agent a --approval always --since 2026-01-01T00:00:00Z --limit 5",
            "policies test refund --workflow w --file x.json --json",
            "retention show --json",
            "retention set 30d --require-export",
            "retention set never",
            "export --finished-before 2026-11-01T00:00:00Z --to x.ndjson --mark",
            "export --cursor x",
            "parked list --code poison --limit 5 --json",
            "parked list --all",
            "parked show prk_1",
            "parked redrive prk_1",
            "parked discard prk_1 --all",
            "audit list --act key.created --actor key_1 --subject exe_1 --limit 5 --json",
            "audit export --all",
            "grants create pay --agent a --when .arguments.n<5 --expires-after 8h --max-uses 3 --reason x",
            "grants create pay --conversation c --expires-after 8h --max-uses 3 --json",
            "grants list --status active --agent a --conversation c --limit 5",
            "grants revoke grt_1",
            "audit verify --all --head abc",
            "audit verify --file audit.jsonl",
            "events show",
            "events enable",
            "events disable --json",
            "webhooks list",
            "webhooks create https://x --type a --type b --description c",
            "webhooks rotate whk_1",
            "webhooks enable whk_1",
            "webhooks test whk_1",
            "webhooks deliveries whk_1 --json",
            "webhooks delete whk_1",
            "bench --what latency --count 5 --url http://x --key k",
            "bench --what expressions --json",
            "healthcheck http://127.0.0.1:4653/healthz",
        ] {
            let parsed = CommandLine::try_parse_from(std::iter::once("holdpoint").chain(line.split(' ')));
            assert!(
                parsed.is_ok(),
                "{line}: {}",
                parsed.err().map(|error| error.to_string()).unwrap_or_default()
            );
        }
    }

    #[test]
    fn wrong_use_ends_with_2() {
        for line in [
            "",
            "start",
            "start a --workflow b",
            "approvals approve exe_1",
            "executions resolve exe_1 x happened",
            "grants create pay --expires-after 8h --max-uses 3",
            "keys create --role boss",
            "export --mark",
        ] {
            let arguments = std::iter::once("holdpoint").chain(line.split_whitespace());
            let error = CommandLine::try_parse_from(arguments).expect_err(line);
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}

//! `holdpoint bench`: measures a running installation from outside, over HTTP.

use std::process::ExitCode;

use clap::Args;

use super::Output;
use crate::bench::{self, Of, Plan, What, fairness};
use crate::client::{Client, Remote};

/// What is measured, and how.
const ABOUT: &str = "\
Executions are of the built-in workflow `holdpoint.noop`: three steps, each journaled and
committed before the next. With `--of calls` they are of a workflow of three HTTP calls, one
after the other, to a stub that this command serves on loopback: the workers must run on this
machine, with outbound.allow_networks holding 127.0.0.0/8.

throughput  starts, so many requests in flight, until the last execution is terminal
streams     so many callers that each start one and read its stream to the end, again and again
latency     one at a time, from the request to the event `execution.completed`
approvals   one at a time, from the decision to `execution.completed`, for an agent whose
            scripted model and tool this command serves on loopback: the workers must run on
            this machine, with outbound.allow_networks holding 127.0.0.0/8
expressions a simple expression of a workflow, one at a time, by a process that this command
            starts: it needs no installation, and does not belong to `all`
fairness    tenants that start a few executions in a second each, alone and then beside one that
            starts a hundred times as many as each of them: from the request to
            `execution.completed`. It needs a key of each tenant, and does not belong to `all`";

#[derive(Debug, Args)]
#[command(after_long_help = ABOUT)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// What to measure
    #[arg(long, default_value = "all")]
    what: What,
    /// What the executions run
    #[arg(long, default_value = "noop")]
    of: Of,
    /// Requests in flight, or callers at a time
    #[arg(long, default_value_t = 64)]
    in_flight: usize,
    /// Executions of each measurement [default: 10000, 5000, 500, 200 and 20000]
    #[arg(long)]
    count: Option<u64>,
    /// The longest time for which a measurement starts executions
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Processes whose CPU time counts
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    /// Count their descendants too (Postgres has a process for each connection)
    #[arg(long)]
    pid_tree: bool,
    /// For fairness: a key of each quiet tenant
    #[arg(long, value_delimiter = ',', value_name = "KEY")]
    quiet_keys: Vec<String>,
    /// For fairness: a key of the tenant that floods
    #[arg(long, default_value = "", hide_default_value = true, value_name = "KEY")]
    flood_key: String,
    /// For fairness: starts of each quiet tenant in a second
    #[arg(long, default_value_t = 5)]
    rate: u64,
    /// `/metrics` of API and workers, for batch sizes; as often as needed
    #[arg(long = "metrics", value_name = "URL")]
    metrics: Vec<String>,
}

/// Measures and prints.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    if arguments.what == What::Expressions {
        // Evaluating blocks; there is nothing else to do here meanwhile.
        bench::expressions::measure(arguments.count)?.print(output.json);
        return Ok(ExitCode::SUCCESS);
    }
    let client = Client::new(&arguments.remote)?;
    if arguments.what == What::Fairness {
        let Arguments { quiet_keys: quiet, flood_key: flood, rate, count, .. } = arguments;
        let plan = fairness::Plan { quiet, flood, rate, count: count.unwrap_or(200) };
        fairness::measure(&client, &plan, !output.json).await?.print(output.json);
        return Ok(ExitCode::SUCCESS);
    }
    let plan = Plan {
        what: arguments.what,
        of: arguments.of,
        in_flight: arguments.in_flight.max(1),
        count: arguments.count,
        seconds: arguments.seconds,
        pids: arguments.pids,
        pid_tree: arguments.pid_tree,
        metrics: arguments.metrics,
    };
    let report = bench::run(&client, &plan, !output.json).await?;
    report.print(output.json);
    Ok(if report.all_completed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

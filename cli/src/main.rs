//! The binary `holdpoint`: reads the command line and the configuration, starts telemetry,
//! and runs one command. Nothing here decides anything about executions.
//!
//! Exit codes: 0 done, 1 refused or failed, 2 used wrongly (arguments or configuration).

mod bench;
mod client;
mod commands;
mod configuration;
mod demo;
mod dev_file;
mod doctor;
mod otlp;
mod output;
mod seal_key;
mod shutdown;
mod telemetry;
mod usage;
mod watch;
mod wiring;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::commands::{Command, CommandLine};
use crate::usage::Usage;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    if let Command::EvaluateExpressions = line.command {
        return expressions();
    }
    let json = line.output.json;
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into(), json),
    };
    let ended = runtime.block_on(commands::run(line));
    // Database threads may still be in a statement; they hold no answer that anybody awaits.
    runtime.shutdown_timeout(Duration::from_secs(1));
    match ended {
        Ok(code) => code,
        Err(error) => failed(&error, json),
    }
}

/// A child for expressions: one thread, no runtime, nothing that a program could get at.
fn expressions() -> ExitCode {
    match holdpoint_perform::expressions::serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error.into(), false),
    }
}

/// Tells the error once; the exit code says whether the caller or the world was wrong.
fn failed(error: &anyhow::Error, json: bool) -> ExitCode {
    eprintln!("holdpoint: {error:#}");
    if json && let Some(refused) = error.downcast_ref::<client::Refused>() {
        println!("{}", refused.body);
    }
    if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

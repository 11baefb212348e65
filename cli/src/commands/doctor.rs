//! `holdpoint doctor`: looks at everything that an installation stands on, and says what to do.

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::Output;
use crate::client::Remote;
use crate::configuration::Configuration;
use crate::doctor::{self, Finding, State};
use crate::output::{self, Table};

#[derive(Debug, Args)]
pub struct Arguments {
    /// With --url, or HOLDPOINT_URL, an API is looked at too
    #[command(flatten)]
    remote: Remote,
}

/// Prints a line for each thing that was looked at. One that fails is exit code 1.
pub async fn run(
    arguments: Arguments,
    configuration: Configuration,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let findings = doctor::examine(&configuration, arguments.remote.given().url.as_deref()).await?;
    let is_well = findings.iter().all(|finding| finding.state != State::Fail);
    if output.json {
        output::json(&json!({"ok": is_well, "findings": findings}));
    } else {
        print(&findings);
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(findings: &[Finding]) {
    let mut table = Table::new(&[]);
    for finding in findings {
        table.row([finding.state.as_str().to_owned(), finding.name.to_owned(), finding.what.clone()]);
        if let Some(advice) = &finding.advice {
            table.row([String::new(), String::new(), format!("→ {advice}")]);
        }
    }
    table.print();
}

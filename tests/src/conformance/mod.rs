//! Runs Gherkin features about workflows over HTTP against a Holdpoint of its own, with stub
//! servers in place of the public hosts that features call. The steps are those of the
//! specification's conformance kit.

mod examples;
mod hosts;
mod steps;
mod yaml;

use std::path::Path;
use std::sync::OnceLock;

use cucumber::{World as _, WriterExt as _, writer};

pub use examples::{Tried, try_all};
pub use hosts::StubHosts;
pub use steps::Flow;
pub use yaml::to_json;

use crate::client::Client;
use crate::system::{Setup, System};

/// The client that scenarios use: a runner has one Holdpoint for all of them.
static CLIENT: OnceLock<Client> = OnceLock::new();

/// What came of the scenarios of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Scenarios whose every step held.
    pub passed: usize,
    /// Scenarios with a step that did not hold.
    pub failed: usize,
    /// Scenarios with a step that this runner does not know.
    pub skipped: usize,
    /// Files that are no features.
    pub unreadable: usize,
}

/// Starts `holdpoint dev` with stubs for the public hosts.
pub async fn start() -> (System, StubHosts) {
    let stubs = StubHosts::start().await;
    let system = Setup::embedded().set("outbound.hosts", &stubs.setting()).start().await;
    (system, stubs)
}

/// Runs every feature under a folder (or one file), one scenario after the other: scenarios
/// of one feature may use the same workflow's name.
pub async fn run(client: Client, features: &Path) -> Counts {
    set_client(client);
    let writer = writer::Basic::new(std::io::stdout(), writer::Coloring::Never, writer::Verbosity::Default);
    let told = Flow::cucumber()
        .max_concurrent_scenarios(1)
        .with_writer(writer.summarized())
        .with_default_cli()
        .run(features.to_path_buf())
        .await;
    let scenarios = told.scenarios_stats();
    Counts {
        passed: scenarios.passed,
        failed: scenarios.failed,
        skipped: scenarios.skipped,
        unreadable: writer::Stats::<Flow>::parsing_errors(&told),
    }
}

fn set_client(client: Client) {
    CLIENT.set(client).unwrap_or_else(|_| panic!("a process does this once"));
}

fn client() -> &'static Client {
    CLIENT.get().expect("the runner has set it")
}

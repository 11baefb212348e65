//! Where an execution stands, and what stands around it: all that says what it waits for.

use std::collections::{BTreeMap, BTreeSet};

use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::status::Status;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;
use serde::{Deserialize, Serialize};

use crate::types::ExecutionRow;
use crate::workflow_types::WorkflowRow;

/// Everything that says what an execution waits for, or who holds it, as of one moment.
#[derive(Debug, Clone)]
pub struct Standing {
    /// The execution.
    pub row: ExecutionRow,
    /// The database's time of that moment.
    pub now: Timestamp,
    /// From when on it is to be claimed; nothing while it is held, waits for somebody, or is over.
    pub ready_at: Option<Timestamp>,
    /// Leases that were lost since its last commit.
    pub lost: i32,
    /// Who holds it.
    pub lease: Option<Lease>,
    /// Its journal without deltas.
    pub lines: Vec<Line>,
    /// What stands around it.
    pub around: Around,
}

/// The lease of a worker's session, by which an execution is held.
#[derive(Debug, Clone)]
pub struct Lease {
    /// The session.
    pub session: SessionId,
    /// The worker's name.
    pub holder: String,
    /// When it runs out, by the database's clock; nothing where the session is gone.
    pub expires_at: Option<Timestamp>,
}

/// What stands around an execution.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// When each sweep is due.
    pub ticks: Vec<Tick>,
    /// Sessions of workers, those that live longest first.
    pub workers: Vec<WorkerSession>,
    /// Executions that lost two leases or more go out one at a time: how it stands with those.
    pub suspects: Option<Suspects>,
    /// Its workflow.
    pub workflow: Option<WorkflowRow>,
    /// The run whose end it waits for: its workflow has one at a time.
    pub behind: Option<ExecutionId>,
    /// The run that it repeats, and when it was to begin.
    pub repeats: Option<Repeat>,
    /// The run that repeats it.
    pub repeated_by: Option<Repeat>,
    /// Secrets of its tenant whose balance was used up, and until when runs that use them wait.
    pub holds: Vec<(String, Timestamp)>,
    /// Executions that it waits for.
    pub children: Vec<ChildStanding>,
    /// Its place as a test run: when it was made.
    pub test_run_since: Option<Timestamp>,
    /// The schedule that started it, and since when that is paused.
    pub schedule: Option<(String, Option<Timestamp>)>,
    /// Acts from outside that its holder has not journaled yet.
    pub unread_acts: i64,
}

/// When a sweep is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// Which sweep.
    pub kind: SweepKind,
    /// Since when, or from when on.
    pub due_at: Timestamp,
    /// When a scheduler sent it out; no pass has closed it since.
    pub emitted_at: Option<Timestamp>,
}

/// A worker's session.
#[derive(Debug, Clone)]
pub struct WorkerSession {
    /// Its id.
    pub id: SessionId,
    /// The worker's name.
    pub name: String,
    /// Since when.
    pub started_at: Timestamp,
    /// When its lease runs out, or ran out.
    pub expires_at: Timestamp,
    /// Executions that it holds.
    pub held: i64,
    /// What it says of itself; nothing where it has not said anything, or nothing that we know.
    pub about: Option<AboutWorker>,
}

/// What a worker says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AboutWorker {
    /// Executions that it holds at a time.
    pub slots: usize,
    /// Milliseconds between its looks without a hint.
    pub poll_ms: u64,
    /// Whether it reaches its broker.
    pub broker_up: bool,
    /// Whole seconds by which its clock is ahead of the database's.
    pub clock_ahead_s: i64,
    /// The names of the secrets that it has, by tenant; nothing where they are too many to tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<BTreeMap<String, BTreeSet<String>>>,
}

impl AboutWorker {
    /// Whether it has this secret; `None` where it does not say.
    pub fn has_secret(&self, tenant: &str, name: &str) -> Option<bool> {
        let of_tenant = self.secrets.as_ref()?.get(&tenant.to_ascii_lowercase());
        Some(of_tenant.is_some_and(|names| names.contains(&name.to_ascii_lowercase())))
    }
}

/// How it stands with executions that lost two leases or more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suspects {
    /// Whether a worker has one.
    pub one_is_out: bool,
    /// Those that were ready before this one.
    pub before: i64,
}

/// A run that repeats another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// The first run.
    pub retry_of: ExecutionId,
    /// Which attempt: 2 and up.
    pub attempt: i32,
    /// The run.
    pub run: ExecutionId,
    /// When it begins.
    pub due_at: Timestamp,
    /// The key that asked for it; `None` where it follows by itself.
    pub asked_by: Option<String>,
}

/// An execution that another one waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildStanding {
    /// The parent's step.
    pub step: i32,
    /// Which.
    pub child: ExecutionId,
    /// Where it stands.
    pub status: Status,
}

//! How workflows stand, as callers see it.

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{Failure, Reason, WorkflowState};
use holdpoint_engine::time::Timestamp;

/// How a registered workflow stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkflowRow {
    /// Its name.
    pub name: String,
    /// Whether it is started and scheduled.
    pub state: WorkflowState,
    /// Since when.
    pub changed_at: Timestamp,
    /// The key that changed it; `None` where the end of a run did.
    pub changed_by: Option<String>,
    /// Runs that failed for what the workflow says itself, since the last that completed.
    pub logic_failures: i32,
    /// Whether those were so many that a person is told.
    pub escalated: bool,
    /// Whether a final failure stopped its schedule.
    pub schedule_stopped: bool,
    /// Whether its latest run failed so that a person has to look.
    pub attention: bool,
}

/// A workflow whose latest production run needs a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionRow {
    /// The workflow.
    pub workflow: String,
    /// How it stands.
    pub state: WorkflowState,
    /// The run.
    pub execution: ExecutionId,
    /// Why it failed.
    pub reason: Reason,
    /// The error.
    pub error: Failure,
    /// Which attempt it was.
    pub attempt: i32,
    /// When it ended.
    pub failed_at: Timestamp,
}

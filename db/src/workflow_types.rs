//! How workflows stand, as callers see it.

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Failure, Reason, Status, WorkflowState};
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

/// Workflows that need a person are counted up to here.
pub const ATTENTION_COUNTED: usize = 10_000;

/// The most runs of a held workflow that are told at once.
pub const RUNS_TOLD_AT_ONCE: usize = 1_000;

/// A workflow that somebody paused or archived, and whose runs are to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldWorkflow {
    /// Whose.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// The key that holds it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

/// What became of a wish to repeat a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Retried {
    /// This run repeats it; one that was due later begins now.
    Made {
        /// The new run.
        run: ExecutionId,
        /// Which attempt it is.
        attempt: i32,
        /// The first run.
        retry_of: ExecutionId,
        /// Where the new run stands: the same attempt may have been made before.
        status: Status,
    },
    /// No such execution in this scope.
    NotFound,
    /// It neither failed nor was cancelled.
    NotFailed(Status),
    /// It can never be repeated, for this reason.
    Never(&'static str),
    /// Its definition was deleted.
    UnknownDefinition(DefinitionKind, String),
    /// Its workflow is held.
    WorkflowNotActive(WorkflowState),
    /// One run of its workflow goes on at a time, and this one does.
    RunActive(ExecutionId),
    /// Its conversation has an active execution.
    ConversationBusy(ExecutionId),
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

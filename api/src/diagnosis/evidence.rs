//! What a sentence was read from.

use holdpoint_engine::ids::{ApprovalId, ExecutionId};
use holdpoint_engine::status::{Failure, Reason, Status, WorkflowState};
use holdpoint_engine::time::{Span, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::sentences::Sentence;

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// The row, at the database's time `now`.
    Execution {
        status: Status,
        reason: Option<Reason>,
        now: Timestamp,
        updated_at: Timestamp,
        /// Where it is to be claimed from a moment on.
        ready_at: Option<Timestamp>,
        /// Leases that were lost since its last commit.
        lost_leases: i32,
    },
    /// A worker has it.
    Lease {
        /// The worker's session.
        session: String,
        /// The worker's name.
        holder: String,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        ran_out: bool,
    },
    /// A call that nobody has decided on.
    Approval {
        approval_id: ApprovalId,
        step: i32,
        tool: String,
        tool_call_id: String,
        requested_at: Timestamp,
        expires_at: Timestamp,
        expired: bool,
        /// Who may decide, in words.
        approvers: String,
        /// How many people must approve.
        quorum: u32,
        /// The keys that did, where it takes several.
        voted: Vec<String>,
        votes_needed: u32,
        /// When further approvers were asked.
        escalated_at: Option<Timestamp>,
    },
    /// An attempt that failed, and will be made again.
    Retry { step: i32, attempt: u32, retry_at: Timestamp, error: Failure },
    /// A call that may or may not have happened.
    OutcomeUnknown {
        step: i32,
        tool: Option<String>,
        settled_at: Timestamp,
        /// When the tool is asked next.
        asked_next_at: Option<Timestamp>,
        error: Failure,
    },
    /// A step that is under way.
    Step { step: i32, what: String, since: Timestamp },
    /// A task of the workflow that waits for a moment.
    Wait { task: Option<String>, until: Timestamp },
    /// A task of the workflow that waits for events.
    Listen { task: Option<String>, events: Vec<String>, taken: usize },
    /// A task that a worker elsewhere has.
    QueueTask {
        step: i32,
        queue: Option<String>,
        tool: String,
        since: Option<Timestamp>,
        /// Silent until then, its worker has lost it.
        heartbeat_due: Option<Timestamp>,
    },
    /// An execution that it waits for.
    Child {
        step: i32,
        execution_id: ExecutionId,
        status: Status,
        /// Its own diagnosis, five deep at most.
        code: Option<Sentence>,
        summary: Option<String>,
    },
    /// The run whose end it waits for.
    Behind { execution_id: ExecutionId },
    /// The run that it repeats, or that repeats it.
    Repeat {
        /// The first run.
        retry_of: ExecutionId,
        attempt: i32,
        execution_id: ExecutionId,
        due_at: Timestamp,
        /// The key that asked for it; null where it follows by itself.
        asked_by: Option<String>,
    },
    /// A secret whose balance was used up.
    SecretHeld { secret: String, until: Timestamp },
    /// A secret that its definition names, and that live workers lack.
    SecretMissing { secret: String, lacking: usize, live_workers: usize, configure: String },
    /// The workers.
    Workers {
        live: usize,
        /// Executions that they hold.
        held: i64,
        /// Executions that they can hold, as far as they say so.
        slots: Option<usize>,
        /// The name of the worker that was there last, where none is.
        last: Option<String>,
        last_until: Option<Timestamp>,
    },
    /// The broker, as this API and the workers see it.
    Broker { reached_by_api: bool, workers_without: usize },
    /// A sweep that it waits for.
    Sweep {
        sweep: String,
        due_at: Option<Timestamp>,
        emitted_at: Option<Timestamp>,
        /// It should have run.
        overdue: bool,
    },
    /// Executions that lost two leases or more go out one at a time.
    Suspects { one_is_out: bool, before: i64 },
    /// A limit that it falls under, or that a call of it waits for.
    Limit {
        /// `tenant`, `agent`, `workflow` or `tool`.
        of: String,
        name: String,
        /// At most so many at a time.
        concurrency: Option<i64>,
        /// At most so many begin within `per`.
        count: Option<i64>,
        per: Option<Span>,
        running: i64,
        /// How many began within the last `per`.
        begun: i64,
        /// How many wait before it, up to 10,000.
        before: i64,
        /// The step whose call it holds; `null` where it holds the execution.
        step: Option<i32>,
    },
    /// How its workflow stands.
    Workflow {
        name: String,
        state: WorkflowState,
        changed_at: Timestamp,
        changed_by: Option<String>,
        schedule_stopped: bool,
    },
    /// The schedule that started it.
    Schedule { name: String, paused_at: Option<Timestamp> },
    /// It is a test run: then it ends.
    TestRun { until: Timestamp },
    /// Somebody paused it.
    Paused { by: String, at: Timestamp },
    /// It ended with an error.
    Error { error: Failure },
    /// Somebody cancelled it.
    Cancelled { by: Option<String> },
}

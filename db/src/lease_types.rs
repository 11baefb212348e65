//! What a worker claims, commits and is told under its lease.

use std::time::Duration;

use holdpoint_engine::advance::Gate;
use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{ApprovalRequested, Line, Usage};
use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::limits::Limits;
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, Failure, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::grant_types::GrantOffer;
use crate::start_types::Extras;

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct ClaimRequest {
    /// The session that will hold the leases.
    pub session: SessionId,
    /// Hinted ones, taken first.
    pub hinted: Vec<ExecutionKey>,
    /// At most so many.
    pub limit: usize,
    /// Whether to take the oldest ready ones when the hinted ones leave room.
    pub any: bool,
    /// How much of what was said before comes with each.
    pub history: HistoryLimits,
    /// At most so many executions at a time of each tenant that has no limit of its own.
    pub tenant_concurrency: Option<i64>,
}

/// How much of a conversation an execution is given: the newest messages, whole ones, as far
/// as both limits go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// So many messages.
    pub messages: i64,
    /// So many bytes of JSON, all together.
    pub bytes: i64,
}

impl From<&Limits> for HistoryLimits {
    fn from(limits: &Limits) -> Self {
        let number = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        Self { messages: number(limits.history_messages), bytes: number(limits.history_bytes) }
    }
}

/// An execution that is ours now.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Its key.
    pub key: ExecutionKey,
    /// The lease's epoch.
    pub epoch: i64,
    /// The acts that were seen.
    pub wake: i64,
    /// The last journal line.
    pub seq: i64,
    /// The last event.
    pub event: i64,
    /// How long it had been ready.
    pub waited: Duration,
    /// The definition.
    pub kind: DefinitionKind,
    /// The definition's name.
    pub name: String,
    /// The definition's version.
    pub version: i32,
    /// The `input` as JSON.
    pub input: Option<String>,
    /// The `messages` as a JSON array.
    pub messages: Option<String>,
    /// The messages of its conversation before its own, oldest first, as JSON; not reloaded.
    pub history: Vec<String>,
    /// What only some starts have.
    pub extras: Option<Extras>,
    /// Whom it is for.
    pub end_user: Option<String>,
    /// The first run that it repeats, or itself.
    pub first_run: ExecutionId,
    /// The journal without deltas, in order.
    pub lines: Vec<Line>,
    /// Acts that are not journaled yet, in order.
    pub acts: Vec<(i64, Act)>,
}

/// How an execution ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// A terminal status.
    pub status: Status,
    /// Why.
    pub reason: Option<Reason>,
    /// The error, for `failed`.
    pub error: Option<Failure>,
    /// The output as JSON, for `completed`.
    pub output: Option<String>,
    /// What the agent said and was told, as JSON, for its conversation.
    pub messages: Vec<String>,
    /// The agent that spoke last, where it was ever transferred; its conversation goes on
    /// with it.
    pub active_agent: Option<String>,
}

/// Where a transition leads.
#[derive(Debug, Clone)]
pub enum Target {
    /// The lease is kept.
    Running,
    /// The lease is given back, unless an act came meanwhile (then it stays `running`, kept).
    Suspended {
        /// Why.
        reason: Reason,
        /// When it goes on by itself.
        ready_at: Option<Timestamp>,
    },
    /// It is over.
    Ended(Ending),
}

/// What a transition does to approvals.
#[derive(Debug, Clone)]
pub enum ApprovalChange {
    /// Opens one (or asks again, in the same row).
    Open(Box<ApprovalRequested>),
    /// Closes an undecided one.
    Close {
        /// The call.
        call_id: String,
        /// `expired`, `cancelled` or `digest_mismatch`.
        status: ApprovalStatus,
    },
    /// Asks further approvers about an undecided one.
    Escalate {
        /// The call.
        call_id: String,
        /// When the first approvers' time was over.
        at: Timestamp,
        /// Undecided then, it expires.
        expires_at: Timestamp,
    },
    /// Denies an undecided one, because nobody decided in time.
    Deny {
        /// The call.
        call_id: String,
        /// When.
        at: Timestamp,
    },
}

/// One guarded write of a worker: lines, approvals, status, all or nothing.
#[derive(Debug, Clone)]
pub struct Transition {
    /// Which execution.
    pub key: ExecutionKey,
    /// Guard: the lease's holder.
    pub session: SessionId,
    /// Guard: the lease's epoch.
    pub epoch: i64,
    /// Guard: the last line before this.
    pub expected_seq: i64,
    /// The acts that were seen.
    pub seen_wake: i64,
    /// The lines; never empty, numbered from `expected_seq + 1`.
    pub lines: Vec<Line>,
    /// The last event after this.
    pub last_event: i64,
    /// Decisions that are used up: each must match, or nothing of this is written.
    pub gates: Vec<Gate>,
    /// Approvals opened and closed.
    pub approvals: Vec<ApprovalChange>,
    /// Standing grants that would answer what is opened.
    pub grants: Vec<GrantOffer>,
    /// The call of a task that is lost because nothing was heard of its worker: refused where acts came
    /// that were not seen.
    pub unheard: Option<String>,
    /// Inbox rows that these lines journal.
    pub acts_taken: Vec<i64>,
    /// Usage so far, written at suspension and end.
    pub usage: Usage,
    /// The agent's name and version, for approvals.
    pub definition: (String, i32),
    /// Where it leads.
    pub target: Target,
}

/// What became of a transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Written. `wake` is the row's now: other than what was seen, an act came meanwhile;
    /// `released` says whether the lease was given back.
    Done {
        /// The row's counter of acts.
        wake: i64,
        /// Whether the lease is gone.
        released: bool,
    },
    /// Somebody else has it, or had it: nothing was written, and nothing may be done any more.
    Fenced,
    /// A gate does not match, a question that was to expire is decided, or a task's worker that was to be
    /// lost may have been heard: nothing was written.
    GateRefused {
        /// The call.
        tool_call_id: String,
    },
}

/// What a heartbeat brings.
#[derive(Debug, Clone)]
pub struct Beat {
    /// Whether the session still holds its leases; `false` is for ever.
    pub alive: bool,
    /// The database's time.
    pub now: Timestamp,
    /// Held executions whose counter of acts is another than was told.
    pub woken: Vec<ExecutionKey>,
    /// Held executions that are no longer ours.
    pub lost: Vec<ExecutionKey>,
}

/// The acts on one held execution that are not journaled yet.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Which execution.
    pub key: ExecutionKey,
    /// Its counter of acts.
    pub wake: i64,
    /// In order.
    pub acts: Vec<(i64, Act)>,
}

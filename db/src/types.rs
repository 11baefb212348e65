//! What goes into the store and what comes out: domain types only, no Diesel type.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_engine::advance::Gate;
use holdpoint_engine::digest::call_digest;
use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{ApprovalRequested, DelegatedBy, Line, Usage};
use holdpoint_engine::ids::{ApprovalId, ExecutionId, FileId, KeyId, ParkedId, SessionId, SweepId};
use holdpoint_engine::limits::Limits;
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::policy::{Barred, Decider, Policy, Requester};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{
    ApprovalStatus, DefinitionKind, Failure, Outcome, Reason, RunType, Status, WorkflowState,
};
use holdpoint_engine::team::Pins;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::trace::Traceparent;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};
use holdpoint_engine::workflow::Misfit;

use crate::event_types::Backlog;
use crate::grant_types::{GrantOffer, NewGrant};

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not to be reached, timed out, serialization failure: the same call may succeed later.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// A row that makes no sense.
    #[error("a row makes no sense: {0}")]
    Corrupt(String),
    /// Anything else: a fault of ours.
    #[error("the database refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}

/// A start, checked by whoever took it in.
#[derive(Debug, Clone)]
pub struct NewExecution {
    /// Its row's key.
    pub key: ExecutionKey,
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// The definition's name.
    pub name: String,
    /// A version, or the latest.
    pub version: Option<i32>,
    /// The `input` as JSON.
    pub input: Option<String>,
    /// The `messages` as a JSON array.
    pub messages: Option<String>,
    /// The conversation; made and told if the caller named none.
    pub conversation: Conversation,
    /// The idempotency key, if there is one (a given execution id counts as one too).
    pub idempotency: Option<Idempotency>,
    /// Production or test.
    pub run_type: RunType,
    /// Begin so much later.
    pub delay: Option<Duration>,
    /// A JSON object.
    pub metadata: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The end user that the key or the header names.
    pub end_user: Option<String>,
    /// The key that started it.
    pub created_by: String,
    /// What only some starts have.
    pub extras: Extras,
}

/// What only some starts have; a plain one has none of it.
#[derive(Debug, Clone, Default)]
pub struct Extras {
    /// The ids that the caller gave the new messages, in order; `None` for a message without.
    pub message_ids: Vec<Option<String>>,
    /// The user's time and time zone, for the model.
    pub client_time: Option<ClientTime>,
    /// Headers for tools that list them, sealed; removed at the end.
    pub sealed_headers: Option<Vec<u8>>,
    /// The call that delegated it.
    pub parent: Option<Parent>,
    /// The command that asked for it, if it came by a message.
    pub command: Option<CommandKey>,
    /// Where its end is told, if the command asked for that.
    pub reply: Option<ReplyTo>,
    /// What agents' names mean in it. A start brings them only where it has them from its
    /// parent; else the store finds them out.
    pub pins: Option<Pins>,
    /// The agent that its conversation was with last, if that was another one; read only.
    pub active_agent: Option<String>,
    /// A tick of a schedule made it: its end is noted there. Not read back.
    pub scheduled: bool,
    /// The files that it was started with, as the caller named them.
    pub files: Vec<FileId>,
    /// The trace of whoever started it, where they told one.
    pub traceparent: Option<Traceparent>,
    /// What its input was held against before: a start of another version, or with an input
    /// that does not fit, leaves no row. Not read back.
    pub input_check: Option<InputCheck>,
    /// Higher ones of its project are taken first. Not read back.
    pub priority: i32,
}

/// A workflow's input, held against the `input.schema` of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputCheck {
    /// Which version.
    pub version: i32,
    /// Why it does not fit.
    pub misfit: Option<Misfit>,
}

impl InputCheck {
    /// What such a start comes to where this version would be started; nothing if it may go on.
    pub fn refuse(&self, version: i32) -> Option<Created> {
        match (self.version == version, &self.misfit) {
            (false, _) => Some(Created::OtherVersion { version }),
            (true, Some(misfit)) => Some(Created::InputMisfit(misfit.clone())),
            (true, None) => None,
        }
    }
}

/// When and where the user is, as their client says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTime {
    /// RFC 3339, as it came.
    pub timestamp: String,
    /// A name of the IANA time zone database.
    pub timezone: String,
}

/// The call of another execution that delegated to this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The execution that waits for this one; of the same scope.
    pub execution: ExecutionId,
    /// Its step.
    pub step: i32,
    /// Its call.
    pub tool_call_id: String,
    /// How deep this one is: 1 for a child, 2 for a child's child.
    pub depth: i32,
}

/// What makes two messages the same command, within a scope.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CommandKey {
    /// Who produced it.
    pub source: String,
    /// Its id there.
    pub id: String,
}

/// What a command came to.
#[derive(Debug)]
pub enum Commanded<T> {
    /// Judged now; accepted, it is noted.
    Now(T),
    /// The same command was accepted before, for this execution: nothing happened.
    Before(ExecutionId),
}

/// Where the outcome of a command is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyTo {
    /// The queue, on the default exchange.
    pub queue: String,
    /// Sent along as it came.
    pub correlation_id: Option<String>,
}

/// The conversation that an execution belongs to.
#[derive(Debug, Clone)]
pub enum Conversation {
    /// None (workflows).
    None,
    /// Made for this execution: nobody else can be in it.
    Made(String),
    /// Named by the caller: at most one active execution.
    Named(String),
}

/// What makes two starts the same one.
#[derive(Debug, Clone)]
pub struct Idempotency {
    /// The header's value; `None` where only a given execution id counts.
    pub key: Option<String>,
    /// SHA-256 of the raw body, in hex.
    pub body_digest: String,
}

/// What became of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// A new row, status `queued`.
    New {
        /// Its key.
        key: ExecutionKey,
        /// Its pinned version.
        version: i32,
        /// When it was committed, by the database.
        created_at: Timestamp,
    },
    /// The same start was there: its execution.
    Existing {
        /// Its id.
        id: ExecutionId,
        /// Where it stands.
        status: Status,
    },
    /// The key (or id) is used with another body.
    Mismatch,
    /// The workflow does not take the input.
    InputMisfit(Misfit),
    /// The input was checked against another version than would be started: it is to be checked
    /// again.
    OtherVersion {
        /// The one that would be started.
        version: i32,
    },
    /// No such definition or version.
    UnknownDefinition,
    /// One run of the workflow goes on at a time: this start is that of the run that waits.
    Coalesced {
        /// Which.
        id: ExecutionId,
    },
    /// The workflow is not active.
    WorkflowNotActive {
        /// How it stands.
        state: WorkflowState,
    },
    /// The conversation is another end user's.
    UnknownConversation,
    /// The conversation has a message of this id, or the start names it twice.
    MessageIdUsed {
        /// The id.
        id: String,
    },
    /// No such file: the first that the start names and that is not there.
    UnknownFile {
        /// Which.
        id: FileId,
    },
    /// Another test run of the workflow goes on.
    TestRunActive {
        /// Which.
        active: ExecutionId,
    },
    /// The conversation has an active execution.
    ConversationBusy {
        /// Which.
        active: ExecutionId,
    },
}

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
    /// A gate does not match: nothing was written.
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

/// What a caller does to an execution.
#[derive(Debug, Clone)]
pub enum ActRequest {
    /// End it.
    Cancel,
    /// Hold it.
    Pause,
    /// Let it go on.
    Resume,
    /// Answer an unknown outcome.
    Resolve {
        /// The step.
        step: i32,
        /// What was found out.
        outcome: Outcome,
        /// What the tool answered, as JSON.
        result: Option<String>,
    },
    /// An event for it.
    Signal {
        /// The signal's name.
        name: String,
        /// The sender's id of it: one that came before changes nothing.
        id: Option<String>,
        /// A CloudEvent, as JSON.
        event: String,
        /// How many signals may come in all.
        limit: usize,
    },
    /// A worker elsewhere is done with a task.
    Report {
        /// The task's step.
        step: i32,
        /// The attempt that it was given; the last one if it names none.
        attempt: Option<u32>,
        /// What came of it, as JSON, or why it was not done.
        outcome: Result<String, Failure>,
    },
    /// A worker elsewhere is still at a task.
    Heartbeat {
        /// The task's step.
        step: i32,
        /// The attempt that it was given; the last one if it names none.
        attempt: Option<u32>,
    },
}

/// Whom to tell after an act was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Nobody.
    Nobody,
    /// It is ready: any worker.
    Workers,
    /// The session that holds it.
    Holder(SessionId),
}

/// An act that was taken.
#[derive(Debug, Clone)]
pub struct Acted {
    /// Where the execution stands now.
    pub status: Status,
    /// Its last event, if lines were written.
    pub new_event: Option<i64>,
    /// Whom to tell.
    pub tell: Tell,
    /// Whether it may have a parent or children that must hear of it.
    pub related: bool,
}

/// News of a child, as its parent took them.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// The parent.
    pub parent: ExecutionKey,
    /// What became of it.
    pub acted: Acted,
}

/// Why an act was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// No such row in this scope.
    #[error("no such execution")]
    NotFound,
    /// It is over.
    #[error("the execution is {0}")]
    Terminal(Status),
    /// It does not fit where the execution stands.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A decision as a caller sent it.
#[derive(Debug, Clone)]
pub struct DecideRequest {
    /// The execution.
    pub execution: ExecutionId,
    /// The call.
    pub tool_call_id: String,
    /// Approved, else denied.
    pub approved: bool,
    /// What the person said.
    pub reason: Option<String>,
    /// Edited arguments (checked against the schema before), as exact bytes.
    pub arguments: Option<String>,
    /// The digest that the person saw.
    pub digest: Option<String>,
    /// Who decides.
    pub by: Decider,
    /// Only for executions of this end user.
    pub end_user: Option<String>,
    /// A standing grant that is made if this decision is taken.
    pub grant: Option<Box<NewGrant>>,
}

/// What one person said about a question that asks for several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vote {
    /// Who: a key's own end user, else the key.
    pub person: String,
    /// The key.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Approved, else denied.
    pub approved: bool,
    /// What they said.
    pub reason: Option<String>,
    /// The bytes that they put in the arguments' place.
    pub arguments: Option<String>,
    /// Of what would be sent.
    pub digest: String,
}

/// What became of a decision; the row is as it stands after it.
#[derive(Debug)]
pub enum Decided {
    /// Taken now.
    Taken {
        /// The approval.
        approval: ApprovalRow,
        /// Whom to tell.
        acted: Acted,
    },
    /// Counted: it takes more people than have approved so far.
    Counted(ApprovalRow),
    /// The same decision was there; or this person's vote, while it takes more people.
    Already(ApprovalRow),
    /// Another decision was there.
    Conflict(ApprovalRow),
    /// Undecided, and it expired or its execution ended.
    Closed(ApprovalRow),
    /// The stored arguments have another digest.
    DigestMismatch(ApprovalRow),
    /// Those who voted before approved other arguments.
    VotesDiffer(ApprovalRow),
    /// Whose decision it is does not count; nothing was counted.
    Barred {
        /// The approval.
        approval: ApprovalRow,
        /// Why.
        why: Barred,
    },
    /// The policy lets nobody edit the arguments.
    NoEdit(ApprovalRow),
    /// No such call in this scope.
    NotFound,
}

/// One approval as it stands.
#[derive(Debug, Clone)]
pub struct ApprovalRow {
    /// Its id.
    pub id: ApprovalId,
    /// The execution's key.
    pub key: ExecutionKey,
    /// Where the execution stands.
    pub execution_status: Status,
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// Whether an agent's call is asked about, or a workflow asks.
    pub kind: DefinitionKind,
    /// The agent's name.
    pub agent: String,
    /// The agent's version.
    pub version: i32,
    /// The tool.
    pub tool: String,
    /// The arguments' exact bytes.
    pub arguments: String,
    /// What a decision binds to.
    pub digest: String,
    /// When it was opened.
    pub requested_at: Timestamp,
    /// Undecided then, it expires.
    pub expires_at: Timestamp,
    /// Pending, with its time over, reads `expired`.
    pub status: ApprovalStatus,
    /// What the person said.
    pub reason: Option<String>,
    /// The bytes that a person put in their place.
    pub edited_arguments: Option<String>,
    /// Their digest.
    pub edited_digest: Option<String>,
    /// The key that decided.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<Timestamp>,
    /// The key that made the grant that decided, where one did.
    pub granted_by: Option<String>,
    /// When the call's intent was committed.
    pub used_at: Option<Timestamp>,
    /// The execution's conversation.
    pub conversation_id: Option<String>,
    /// The child's call that it is about, where it is shown through the parent.
    pub delegated_by: Option<DelegatedBy>,
    /// For a tool of an MCP server: of the list that the call was asked for under.
    pub list_digest: Option<String>,
    /// What a decision is judged by.
    pub policy: Policy,
    /// When further approvers were asked.
    pub escalated_at: Option<Timestamp>,
    /// Who asked for it.
    pub requester: Requester,
    /// What was said so far, where it takes several people.
    pub votes: Vec<Vote>,
}

impl ApprovalRow {
    /// How many more people must approve.
    pub fn votes_needed(&self) -> u32 {
        if self.status != ApprovalStatus::Pending {
            return 0;
        }
        let approved = self.votes.iter().filter(|vote| vote.approved).count();
        self.policy.quorum.saturating_sub(approved as u32)
    }

    /// Whether that decision would count.
    pub fn judge(&self, who: &Decider, named: Option<&str>) -> Result<(), Barred> {
        self.policy.judge(who, named, &self.requester, self.escalated_at.is_some())
    }

    /// The digest of these arguments, sent by this call.
    pub fn digest_of(&self, arguments: &str) -> String {
        call_digest(&self.tool, self.version, arguments, self.list_digest.as_deref())
    }
}

/// One execution as callers see it.
#[derive(Debug, Clone)]
pub struct ExecutionRow {
    /// Its key.
    pub key: ExecutionKey,
    /// Where it stands.
    pub status: Status,
    /// Why.
    pub reason: Option<Reason>,
    /// The last event.
    pub last_event: i64,
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// The definition's name.
    pub name: String,
    /// The definition's version.
    pub version: i32,
    /// The conversation.
    pub conversation_id: Option<String>,
    /// The end user.
    pub end_user: Option<String>,
    /// Production or test.
    pub run_type: RunType,
    /// The first run that it repeats.
    pub retry_of: Option<ExecutionId>,
    /// 1 and up.
    pub attempt: i32,
    /// JSON.
    pub input: Option<String>,
    /// A JSON array.
    pub messages: Option<String>,
    /// JSON.
    pub output: Option<String>,
    /// The error.
    pub error: Option<Failure>,
    /// Tokens and cost.
    pub usage: Usage,
    /// A JSON object.
    pub metadata: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When a worker first had it.
    pub started_at: Option<Timestamp>,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Undecided approvals that are open.
    pub pending_approvals: i64,
    /// The execution that delegated it.
    pub parent: Option<ExecutionId>,
    /// The files that it was started with.
    pub files: Vec<FileId>,
    /// Higher ones of its project are taken first.
    pub priority: i32,
}

/// One conversation as it stands.
#[derive(Debug, Clone)]
pub struct ConversationRow {
    /// The caller's id, or one that was made.
    pub id: String,
    /// Whose it is: the end user of its first execution.
    pub end_user: Option<String>,
    /// The execution that it waits for.
    pub active: Option<ExecutionId>,
    /// Its last execution, active or not.
    pub latest: Option<ExecutionId>,
    /// When its first execution was committed.
    pub created_at: Timestamp,
    /// The agent that its last execution or run began with, where that could be transferred.
    pub agent: Option<String>,
    /// The agent that spoke last, if that was another one.
    pub active_agent: Option<String>,
}

/// One message of a conversation.
#[derive(Debug, Clone)]
pub struct MessageRow {
    /// Its number in the conversation, 1…n without a gap.
    pub n: i64,
    /// The caller's id for it.
    pub message_id: Option<String>,
    /// The execution that it came with; none for what a classic run left.
    pub execution: Option<ExecutionId>,
    /// The message as JSON, in OpenAI's shape.
    pub message: String,
    /// When it was committed.
    pub at: Timestamp,
}

/// Messages that no execution brought: a classic run's, at its good end.
#[derive(Debug, Clone, Default)]
pub struct Spoken {
    /// Their conversation; made if it is not there.
    pub conversation: String,
    /// Whose it is, or must be.
    pub end_user: Option<String>,
    /// The agent that began.
    pub agent: String,
    /// The agent that spoke last, if the run was transferred or began with another.
    pub active_agent: Option<String>,
    /// In order: the caller's id, if there is one, and the message as JSON.
    pub messages: Vec<(Option<String>, String)>,
}

/// What became of them: all were written, or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// They stand at the conversation's end.
    Written,
    /// The conversation is another end user's.
    UnknownConversation,
    /// The conversation has a message of this id.
    MessageIdUsed {
        /// The id.
        id: String,
    },
}

/// Which messages of a conversation are wanted.
#[derive(Debug, Clone, Default)]
pub struct MessageFilter {
    /// Which conversation.
    pub conversation: String,
    /// Those after this number.
    pub after: i64,
    /// Only those of this role, newest first; else all, oldest first.
    pub newest_of: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// What a list is asked for. All conditions hold together.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct ExecutionFilter {
    pub status: Option<Status>,
    pub kind_and_name: Option<(DefinitionKind, String)>,
    pub conversation_id: Option<String>,
    pub run_type: Option<RunType>,
    pub labels: BTreeMap<String, String>,
    pub created_after: Option<Timestamp>,
    pub end_user: Option<String>,
    /// The last row of the page before.
    pub after: Option<(Timestamp, ExecutionId)>,
    pub limit: usize,
}

/// A page of a list, newest first.
#[derive(Debug, Clone, Default)]
pub struct ExecutionPage {
    /// At most as many as asked for; fewer, or none, also where many were looked at and passed no
    /// filter.
    pub rows: Vec<ExecutionRow>,
    /// Where to go on, where there may be more.
    pub next: Option<(Timestamp, ExecutionId)>,
}

/// A page of approvals, oldest first.
#[derive(Debug, Clone, Default)]
pub struct ApprovalPage {
    /// As in [`ExecutionPage`].
    pub rows: Vec<ApprovalRow>,
    /// Where to go on, where there may be more.
    pub next: Option<(Timestamp, ApprovalId)>,
}

/// What the inbox of approvals is asked for, oldest first.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct ApprovalFilter {
    pub status: Option<ApprovalStatus>,
    pub agent: Option<String>,
    pub tool: Option<String>,
    pub execution: Option<ExecutionId>,
    pub conversation_id: Option<String>,
    pub end_user: Option<String>,
    pub after: Option<(Timestamp, ApprovalId)>,
    pub limit: usize,
}

/// What a stream asks for.
#[derive(Debug, Clone)]
pub struct EventsRequest {
    /// Which execution.
    pub key: ExecutionKey,
    /// Events after this number.
    pub after: i64,
    /// At most so many.
    pub limit: usize,
}

/// What a stream gets. Status and `last_event` belong to one moment; `lines` may reach
/// beyond it, never fall short of it while fewer than the limit were asked.
#[derive(Debug, Clone)]
pub struct EventsPage {
    /// Where the execution stands; `None` where there is no such row.
    pub head: Option<EventsHead>,
    /// Events in order.
    pub lines: Vec<Line>,
}

/// The state of an execution as far as a stream needs it.
#[derive(Debug, Clone)]
pub struct EventsHead {
    /// Where it stands.
    pub status: Status,
    /// Its last event.
    pub last_event: i64,
    /// Its end user.
    pub end_user: Option<String>,
}

/// A stored version of a definition.
#[derive(Debug, Clone)]
pub struct DefinitionRow {
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// A workflow's version as its author wrote it.
    pub label: Option<String>,
    /// An agent's canonical document; a workflow's text as it was registered first.
    pub document: String,
    /// SHA-256 of the document in hex; of a workflow, of its value as JSON with sorted keys.
    pub digest: String,
    /// The key that put it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// An API key as it is stored: no secret.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// Its public id.
    pub id: KeyId,
    /// What it is good for.
    pub scope: Scope,
    /// `admin`, `submit`, `approve`, `read` or `agent`.
    pub role: String,
    /// For people.
    pub name: String,
    /// Whom it speaks for.
    pub end_user: Option<String>,
    /// Names by which approval policies find it.
    pub groups: Vec<String>,
    /// SHA-256 of the secret, in hex.
    pub secret_hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// Who asked for a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SweepSource {
    Scheduler,
    Api,
    Cron,
}

impl SweepSource {
    /// The word in rows and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            SweepSource::Scheduler => "scheduler",
            SweepSource::Api => "api",
            SweepSource::Cron => "cron",
        }
    }
}

/// One pass of a sweep.
#[derive(Debug, Clone)]
pub struct SweepStart {
    /// Its id.
    pub id: SweepId,
    /// Which sweep.
    pub kind: SweepKind,
    /// Who asked for it.
    pub source: SweepSource,
    /// The key that did, or the source's own name; for the audit, and not read back.
    pub by: String,
    /// One tenant's project, or all.
    pub scope: Option<Scope>,
    /// Only count.
    pub dry_run: bool,
}

/// What a pass did. `total` is the sum of the last three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Rows selected.
    pub scanned: i64,
    /// Rows acted on.
    pub cleaned_up: i64,
    /// Rows that could not be.
    pub failed: i64,
    /// Rows that were decided, deleted or taken meanwhile.
    pub skipped: i64,
}

impl SweepReport {
    /// What was done with the rows.
    pub fn total(&self) -> i64 {
        self.cleaned_up + self.failed + self.skipped
    }
}

/// A recorded pass.
#[derive(Debug, Clone)]
pub struct SweepRow {
    /// How it was started.
    pub start: SweepStart,
    /// When.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs, or if its worker died.
    pub finished_at: Option<Timestamp>,
    /// What it did.
    pub report: SweepReport,
}

/// Which rows a sweep looks at.
#[derive(Debug, Clone)]
pub enum SweepSelect {
    /// Suspended, not paused, not ready, with an expired undecided approval; oldest first
    /// by the time at which it expired. A `timeout` applies, from `requested_at`, to
    /// approvals whose definition names no expiry (the earlier of the two counts).
    Stale {
        /// One tenant's project, or all.
        scope: Option<Scope>,
        /// See above.
        timeout: Option<Duration>,
    },
    /// Held by a session that has expired.
    LeaseLost,
    /// Children whose news their parent was not told.
    Unrelayed,
    /// Children that go on although their parent is over.
    Orphans,
    /// Ready since at least this long, unclaimed; `of` narrows to delayed starts and waits, or to repeats.
    Unclaimed {
        /// Ready for at least so long.
        since: Duration,
        /// Which of them.
        of: Unclaimed,
    },
}

/// Which ready executions are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclaimed {
    /// All.
    Any,
    /// Status `queued`, or suspended for a timer.
    Timers,
    /// Suspended for a retry.
    Retries,
}

/// What became of one row of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// Done; the last event to tell of, if lines were written.
    Done {
        /// The execution's last event.
        new_event: Option<i64>,
        /// Whether it is ready to be claimed now.
        ready: bool,
    },
    /// Decided, deleted or taken meanwhile.
    Skipped,
}

/// A message that could not be carried out.
#[derive(Debug, Clone)]
pub struct ParkedMessage {
    /// Its id.
    pub id: ParkedId,
    /// Whose it is, where that is known.
    pub scope: Option<Scope>,
    /// Where it came from.
    pub queue: String,
    /// The producer's id.
    pub message_id: Option<String>,
    /// Its type.
    pub kind: Option<String>,
    /// Why it was parked, in one word: `dead`, or the code of a problem.
    pub code: String,
    /// Why it was parked.
    pub reason: String,
    /// The key whose credential it had, if that was good.
    pub key: Option<KeyId>,
    /// Its other AMQP properties as a JSON object.
    pub properties: String,
    /// Its headers as a JSON object.
    pub headers: String,
    /// Its body, up to 1 MiB.
    pub body: Option<Vec<u8>>,
    /// The body's size.
    pub body_bytes: i64,
    /// SHA-256 of the body, in hex.
    pub body_digest: String,
    /// When; set by the store.
    pub parked_at: Timestamp,
}

/// Why a parked message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unparked {
    /// It was taken in again, and accepted.
    Redriven,
    /// Somebody threw it away.
    Discarded,
}

/// What a list of parked messages is asked for. All conditions hold together.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct ParkedFilter {
    pub code: Option<String>,
    pub after: Option<(Timestamp, ParkedId)>,
    pub limit: usize,
}

/// What gauges show.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Executions that are not terminal, by status and kind.
    pub executions: Vec<(Status, DefinitionKind, i64)>,
    /// Undecided approvals.
    pub approvals_pending: i64,
    /// When the oldest was opened.
    pub oldest_approval: Option<Timestamp>,
    /// Undecided approvals that expire within [`crate::EXPIRING`].
    pub approvals_expiring: i64,
    /// Ready executions that nobody has taken.
    pub ready: i64,
    /// Since when the oldest of them is ready.
    pub oldest_ready: Option<Timestamp>,
    /// Sessions of workers whose lease lasts.
    pub sessions: i64,
    /// Sweeps, and when each is due.
    pub ticks: Vec<(SweepKind, Timestamp)>,
    /// Workflows whose latest run needs a person.
    pub attention: i64,
    /// Events that wait for their delivery to a webhook.
    pub deliveries: i64,
    /// When the first of them is due.
    pub next_delivery: Option<Timestamp>,
    /// Executions under a lease.
    pub leased: i64,
    /// Parked messages.
    pub parked: i64,
    /// Events and replies that are still to be sent.
    pub outgoing: Vec<Backlog>,
    /// The database's time.
    pub now: Timestamp,
}

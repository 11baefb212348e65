//! The lines of a journal. Most are events too: their payload is, byte for byte, the
//! `data` of the event that a stream delivers. The others are for us alone and have no
//! event number, so that what a reader counts has no gap.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::definition::Retry;
use crate::ids::{ApprovalId, ExecutionId};
use crate::mcp::{ListedTool, SkippedTool};
use crate::policy::{Approvers, BY_TIMEOUT, Policy};
use crate::status::{ApprovalStatus, DefinitionKind, EffectClass, Failure, Outcome, Reason};
use crate::team::Member;
use crate::time::{Span, Timestamp};
use crate::workflow::state::State;

/// Raw JSON that is carried, not read.
pub type Json = Box<RawValue>;

/// A journal line as it is stored and loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// 1…n without a gap, per execution.
    pub seq: i64,
    /// The event's number, 1…n without a gap, for lines that callers see.
    pub event: Option<i64>,
    /// The event's type, or the kind of a line of our own.
    pub kind: String,
    /// The step it belongs to; 0 for the execution as a whole.
    pub step: i32,
    /// When it was written.
    pub at: Timestamp,
    /// JSON.
    pub payload: String,
}

/// A stored line that makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("journal line of kind `{kind}` cannot be read: {detail}")]
pub struct CorruptLine {
    kind: String,
    detail: String,
}

macro_rules! entries {
    ($($(#[$doc:meta])* $variant:ident($kind:literal, $seen:literal)),+ $(,)?) => {
        /// One line of the journal, typed.
        #[derive(Debug, Clone)]
        pub enum Entry { $($(#[$doc])* $variant($variant)),+ }

        impl Entry {
            /// The event's type, or the name of a line of our own.
            pub const fn kind(&self) -> &'static str {
                match self { $(Entry::$variant(_) => $kind),+ }
            }

            /// Whether callers see it as an event.
            pub const fn is_event(&self) -> bool {
                match self { $(Entry::$variant(_) => $seen),+ }
            }

            /// What is stored, and sent as the event's data.
            pub fn payload(&self) -> String {
                // Writing these types cannot fail: their keys are strings and their
                // raw values are JSON already.
                match self { $(Entry::$variant(body) => serde_json::to_string(body)),+ }
                    .unwrap_or_else(|_| "{}".to_owned())
            }

            /// Reads a stored line.
            pub fn read(kind: &str, payload: &str) -> Result<Self, CorruptLine> {
                let corrupt = |detail: String| CorruptLine { kind: kind.to_owned(), detail };
                match kind {
                    $($kind => serde_json::from_str(payload)
                        .map(Entry::$variant)
                        .map_err(|error| corrupt(error.to_string())),)+
                    _ => Err(corrupt("no such kind".to_owned())),
                }
            }
        }
    };
}

entries! {
    /// A worker began it.
    ExecutionStarted("execution.started", true),
    /// It waits.
    ExecutionSuspended("execution.suspended", true),
    /// A worker went on with it.
    ExecutionResumed("execution.resumed", true),
    /// It ended with an output.
    ExecutionCompleted("execution.completed", true),
    /// It ended with an error.
    ExecutionFailed("execution.failed", true),
    /// Somebody ended it.
    ExecutionCancelled("execution.cancelled", true),
    /// The intent of a model call's first attempt.
    ModelCalled("model.called", false),
    /// The intent of a further attempt; voids the step's earlier deltas.
    ModelRestarted("model.restarted", true),
    /// A piece of the model's text or reasoning.
    MessageDelta("message.delta", true),
    /// The model's whole answer.
    MessageCompleted("message.completed", true),
    /// The intent of a tool call's attempt.
    ToolCalled("tool.called", true),
    /// The tool answered.
    ToolCompleted("tool.completed", true),
    /// The tool failed for good; the model is told.
    ToolFailed("tool.failed", true),
    /// A person denied the call; the model is told.
    ToolDenied("tool.denied", true),
    /// An attempt of a step failed; there will be another.
    AttemptFailed("attempt.failed", false),
    /// An attempt was cut short with its worker; there will be another.
    AttemptInterrupted("attempt.interrupted", false),
    /// Nobody knows whether a call happened.
    OutcomeUnknown("outcome.unknown", false),
    /// Somebody found out.
    OutcomeResolved("outcome.resolved", false),
    /// Its policy's `when` lets the call go without a decision.
    ApprovalNotNeeded("approval.not_needed", false),
    /// Nobody decided in time: further approvers are asked.
    ApprovalEscalated("approval.escalated", false),
    /// A person is asked.
    ApprovalRequested("approval.requested", true),
    /// A person answered.
    ApprovalDecided("approval.decided", true),
    /// The question fell away.
    ApprovalClosed("approval.closed", true),
    /// A person paused it, or let it go on.
    PauseChanged("pause.changed", false),
    /// A pure step's result.
    StepCompleted("step.completed", true),
    /// Another agent goes on.
    Transfer("transfer", true),
    /// A call has an execution of its own; its end is awaited.
    Delegated("delegated", false),
    /// The intent of asking an MCP server for its tools.
    ToolsListing("tools.listing", false),
    /// What the server listed, as it was asked to or in place of carrying out a call.
    ToolsListed("tools.listed", false),
    /// Where a workflow stands after a transition.
    FlowState("flow.state", false),
    /// A task of a workflow failed; whether that was caught shows what follows.
    TaskFailed("task.failed", false),
    /// A task of a workflow was ended before its end, because others won or failed.
    TaskCancelled("task.cancelled", false),
    /// A task was published to a queue; its end is awaited.
    TaskPublished("task.published", false),
    /// A worker elsewhere is still at a task.
    TaskHeartbeat("task.heartbeat", false),
    /// A question whether a call happened had no answer; there will be another.
    OutcomeAsked("outcome.asked", false),
    /// An event came for it.
    SignalReceived("signal.received", false),
    /// It sent an event.
    EventEmitted("event.emitted", false),
    /// A workflow's run failed, and is not repeated by itself; stands after the end.
    WorkflowFailed("workflow.failed", false),
}

/// Payload of `execution.started`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExecutionStarted {
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// Which definition.
    pub name: String,
    /// Which version of it.
    pub version: i32,
    /// The agent that speaks first, where the conversation was with another one last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub active: Option<Member>,
}

/// Payload of `execution.suspended`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExecutionSuspended {
    /// What it waits for.
    pub reason: Reason,
    /// When it goes on by itself, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// The calls that wait for a decision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_call_ids: Vec<String>,
    /// The steps whose outcome nobody knows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<i32>,
}

/// Payload of `execution.resumed`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExecutionResumed {
    /// What it had waited for.
    pub reason: Reason,
}

/// Payload of `execution.completed`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExecutionCompleted {
    /// An agent's last text as a string; a workflow's output.
    pub output: Json,
}

/// Payload of `execution.failed`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExecutionFailed {
    /// The error's type, or a more particular reason.
    pub reason: Reason,
    /// Type and message.
    pub error: Failure,
}

/// Payload of `execution.cancelled`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ExecutionCancelled {
    /// `cancelled` or `paused`.
    pub reason: Reason,
    /// The key that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// Payload of `model.called`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelCalled {
    /// The step.
    pub step: i32,
    /// 1.
    pub attempt: u32,
}

/// Payload of `model.restarted`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelRestarted {
    /// The step whose deltas are void.
    pub step: i32,
    /// 2 and up.
    pub attempt: u32,
}

/// Payload of `message.delta`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct MessageDelta {
    /// The model's step.
    pub step: i32,
    /// More of its reasoning, where the server sends it; it comes before the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reasoning: String,
    /// More of the text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

/// Tokens and what they cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Usage {
    /// Tokens that went in.
    pub input_tokens: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
    /// Millionths of a unit of money.
    pub cost_micros: u64,
}

impl Usage {
    /// Both together.
    pub fn plus(self, other: Usage) -> Usage {
        Usage {
            input_tokens: self.input_tokens.saturating_add(other.input_tokens),
            output_tokens: self.output_tokens.saturating_add(other.output_tokens),
            cost_micros: self.cost_micros.saturating_add(other.cost_micros),
        }
    }
}

/// A call that the model asked for, as it stands in `message.completed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The step that it became.
    pub step: i32,
    /// The model's id, made unique in the execution.
    pub id: String,
    /// The tool's name as the model wrote it.
    pub name: String,
    /// The arguments' exact bytes.
    pub arguments: String,
}

/// Payload of `message.completed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MessageCompleted {
    /// The model's step.
    pub step: i32,
    /// `assistant`.
    pub role: String,
    /// The whole text.
    pub text: String,
    /// What it asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// As the server said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<String>,
    /// Of this call.
    pub usage: Usage,
}

/// Payload of `tool.called`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolCalled {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// The bytes that are sent.
    pub arguments: Json,
    /// 1 and up.
    pub attempt: u32,
    /// The workflow's task that calls, as a pointer into the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Where it is a task for a worker elsewhere: the terms on which it is given out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<QueueTerms>,
}

/// On what terms a task is given out to a worker elsewhere. They stand in the journal, so that
/// whoever takes that worker's report needs no definition to judge it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueTerms {
    /// The queue.
    pub name: String,
    /// How long the worker may be silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat: Option<Span>,
    /// What it means that the worker fell silent.
    pub class: EffectClass,
    /// How often it is tried.
    pub retry: Retry,
}

/// Payload of `tool.completed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolCompleted {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// What it answered: JSON as it came, other text as a string.
    pub output: Json,
}

/// Payload of `tool.failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolFailed {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// What the model is told.
    pub error: Failure,
}

/// Payload of `tool.denied`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolDenied {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// What the person said; the model is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Payload of `attempt.failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptFailed {
    /// The step.
    pub step: i32,
    /// Which attempt.
    pub attempt: u32,
    /// Why.
    pub error: Failure,
    /// When the next one is due.
    pub retry_at: Timestamp,
}

/// Payload of `attempt.interrupted`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AttemptInterrupted {
    /// The step.
    pub step: i32,
    /// Which attempt.
    pub attempt: u32,
}

/// Payload of `outcome.unknown`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutcomeUnknown {
    /// The step.
    pub step: i32,
    /// Which attempt.
    pub attempt: u32,
    /// What is known.
    pub error: Failure,
    /// From when on `did_not_happen` can be true: the call's timeout is over.
    pub settled_at: Timestamp,
}

/// Payload of `outcome.resolved`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutcomeResolved {
    /// The step.
    pub step: i32,
    /// What was found out.
    pub outcome: Outcome,
    /// What the tool answered, where it happened and is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Json>,
    /// The key that said so.
    pub by: String,
}

/// Payload of `approval.not_needed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApprovalNotNeeded {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
}

/// Payload of `approval.escalated`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ApprovalEscalated {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// When its first approvers' time was over.
    pub escalated_at: Timestamp,
    /// Undecided then, it expires.
    pub expires_at: Timestamp,
}

/// Payload of `approval.requested`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalRequested {
    /// The approval.
    pub approval_id: ApprovalId,
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// The bytes that will be sent, as JSON.
    pub arguments: Json,
    /// The same bytes as text: what the digest is over.
    pub arguments_text: String,
    /// What a decision binds to.
    pub digest: String,
    /// For a tool of an MCP server: of the server's list; a part of the digest above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_digest: Option<String>,
    /// When it was opened.
    pub requested_at: Timestamp,
    /// Undecided then, it expires.
    pub expires_at: Timestamp,
    /// Whether the definition names the expiry.
    #[serde(default)]
    pub expiry_named: bool,
    /// Whose decision counts, where the policy names anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvers: Option<Approvers>,
    /// How many distinct people must approve, where that is more than one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// The whole policy, where it says anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<Policy>>,
    /// The agent whose call it is, where that is not the one that the execution began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Member>,
    /// The child's call that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_by: Option<DelegatedBy>,
}

/// The call of a child execution that an approval is about. Its parent shows it under an id
/// of its own: the delegating call's id, `:`, the child's call id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct DelegatedBy {
    /// The execution that waits for the decision.
    pub execution_id: ExecutionId,
    /// Its call.
    pub tool_call_id: String,
}

/// Payload of `approval.decided`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalDecided {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// Approved, else denied.
    pub approved: bool,
    /// What the person said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The bytes to send in place of the stored ones, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments_text: Option<String>,
    /// What will be sent has this digest.
    pub digest: String,
    /// The key that decided; `on_timeout` where nobody did and the policy denies.
    pub decided_by: String,
    /// When.
    pub decided_at: Timestamp,
    /// The child's call that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_by: Option<DelegatedBy>,
}

/// Payload of `approval.closed`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ApprovalClosed {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The tool.
    pub tool: String,
    /// `expired`, `cancelled` or `digest_mismatch`.
    pub status: ApprovalStatus,
    /// The child's call that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegated_by: Option<DelegatedBy>,
}

/// Payload of `pause.changed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PauseChanged {
    /// Paused, else let go on.
    pub paused: bool,
    /// The key that asked for it.
    pub by: String,
    /// Its workflow was: it ends once nothing is under way any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ends: bool,
}

/// Payload of `step.completed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StepCompleted {
    /// The step.
    pub step: i32,
    /// Its result.
    pub output: Json,
    /// The workflow's task that it is, as a pointer into the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
}

/// Payload of `flow.state`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FlowState {
    /// The interpreter's state, which names values by number.
    pub state: State,
    /// Values that no line before had.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<u64, Json>,
}

/// Payload of `task.failed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskFailed {
    /// The step.
    pub step: i32,
    /// The task, as a pointer into the document.
    pub task: String,
    /// The error as the specification has it: `type`, `status`, `title`, `detail`, `instance`.
    pub error: Json,
}

/// Payload of `task.cancelled`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskCancelled {
    /// The step.
    pub step: i32,
    /// The task, as a pointer into the document.
    pub task: String,
}

/// Payload of `task.published`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskPublished {
    /// The step.
    pub step: i32,
    /// Which attempt.
    pub attempt: u32,
    /// Silent until then, its worker has lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

/// Payload of `task.heartbeat`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TaskHeartbeat {
    /// The step.
    pub step: i32,
    /// Which attempt.
    pub attempt: u32,
    /// Silent until then, its worker has lost it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

/// Payload of `outcome.asked`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OutcomeAsked {
    /// The step.
    pub step: i32,
    /// Which question had no answer: 1 and up; 0 before the first was asked.
    pub question: u32,
    /// When the next is asked; none where a person has to find out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Timestamp>,
}

/// Payload of `signal.received`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SignalReceived {
    /// The signal's name: the event's `type`.
    pub name: String,
    /// The sender's id of it; a second one of the same id changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A CloudEvent.
    pub event: Json,
    /// The key that sent it.
    pub by: String,
}

/// Payload of `event.emitted`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EventEmitted {
    /// The step.
    pub step: i32,
    /// A CloudEvent.
    pub event: Json,
}

/// Payload of `workflow.failed`.
#[derive(Debug, Clone, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WorkflowFailed {
    /// The first run, where this one repeats it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<ExecutionId>,
    /// How often it was tried, with this run.
    pub attempts: i32,
    /// Why this run failed.
    pub reason: Reason,
    /// Type and message.
    pub error: Failure,
    /// Whether it stands among what needs a person.
    pub needs_attention: bool,
}

/// Payload of `transfer`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Transfer {
    /// The step.
    pub step: i32,
    /// The call by which the model asked for it.
    pub tool_call_id: String,
    /// Who spoke.
    pub from: String,
    /// Who goes on.
    pub to: String,
    /// That agent's version.
    pub version: i32,
}

/// Payload of `delegated`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Delegated {
    /// The step.
    pub step: i32,
    /// The call.
    pub tool_call_id: String,
    /// The execution that carries it out.
    pub child: ExecutionId,
}

/// Payload of `tools.listing`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolsListing {
    /// The step.
    pub step: i32,
    /// Whose server it is; `None` for the agent that the execution began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Member>,
    /// The server's name in the definition.
    pub tool: String,
    /// 1 and up.
    pub attempt: u32,
}

/// Payload of `tools.listed`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolsListed {
    /// The step: a listing's, or that of a call that was not made.
    pub step: i32,
    /// Whose server it is; `None` for the agent that the execution began with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Member>,
    /// The server's name in the definition.
    pub tool: String,
    /// Of the tools.
    pub digest: String,
    /// Those that the definition wants, in order of their names.
    pub tools: Vec<ListedTool>,
    /// Those that the model is not shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<SkippedTool>,
}

/// What a step's class lets us do with an attempt that was cut short.
pub const fn may_repeat(class: EffectClass) -> bool {
    matches!(class, EffectClass::Idempotent | EffectClass::Keyed)
}

impl ApprovalRequested {
    /// The question under that policy; one that says nothing is not written.
    pub fn under(mut self, policy: Policy) -> Self {
        self.approvers.clone_from(&policy.approvers);
        self.quorum = Some(policy.quorum).filter(|quorum| *quorum > 1);
        self.policy = Some(policy).filter(|policy| *policy != Policy::default()).map(Box::new);
        self
    }
}

impl Entry {
    /// Whether the execution goes on without its step, whatever that has under way.
    pub fn gives_up(&self) -> bool {
        matches!(self, Entry::TaskCancelled(_) | Entry::TaskFailed(_))
    }

    /// Whether it is what comes of an own question that nobody decided in time.
    pub fn tells_expiry(&self) -> bool {
        match self {
            Entry::ApprovalEscalated(_) => true,
            Entry::ApprovalClosed(body) => {
                body.status == ApprovalStatus::Expired && body.delegated_by.is_none()
            }
            Entry::ApprovalDecided(body) => body.decided_by == BY_TIMEOUT && body.delegated_by.is_none(),
            _ => false,
        }
    }

    /// The step that the line belongs to; 0 for the execution as a whole.
    pub fn step(&self) -> i32 {
        match self {
            Entry::ExecutionStarted(_)
            | Entry::ExecutionSuspended(_)
            | Entry::ExecutionResumed(_)
            | Entry::ExecutionCompleted(_)
            | Entry::ExecutionFailed(_)
            | Entry::ExecutionCancelled(_)
            | Entry::PauseChanged(_) => 0,
            Entry::ModelCalled(body) => body.step,
            Entry::ModelRestarted(body) => body.step,
            Entry::MessageDelta(body) => body.step,
            Entry::MessageCompleted(body) => body.step,
            Entry::ToolCalled(body) => body.step,
            Entry::ToolCompleted(body) => body.step,
            Entry::ToolFailed(body) => body.step,
            Entry::ToolDenied(body) => body.step,
            Entry::AttemptFailed(body) => body.step,
            Entry::AttemptInterrupted(body) => body.step,
            Entry::OutcomeUnknown(body) => body.step,
            Entry::OutcomeResolved(body) => body.step,
            Entry::ApprovalNotNeeded(body) => body.step,
            Entry::ApprovalEscalated(body) => body.step,
            Entry::ApprovalRequested(body) => body.step,
            Entry::ApprovalDecided(body) => body.step,
            Entry::Transfer(body) => body.step,
            Entry::Delegated(body) => body.step,
            Entry::ApprovalClosed(body) => body.step,
            Entry::StepCompleted(body) => body.step,
            Entry::ToolsListing(body) => body.step,
            Entry::ToolsListed(body) => body.step,
            Entry::FlowState(_) | Entry::SignalReceived(_) | Entry::WorkflowFailed(_) => 0,
            Entry::TaskFailed(body) => body.step,
            Entry::TaskCancelled(body) => body.step,
            Entry::TaskPublished(body) => body.step,
            Entry::TaskHeartbeat(body) => body.step,
            Entry::OutcomeAsked(body) => body.step,
            Entry::EventEmitted(body) => body.step,
        }
    }
}

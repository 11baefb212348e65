//! What is read of executions, conversations, messages and events.

use std::collections::BTreeMap;

use holdpoint_engine::entry::{Line, Usage};
use holdpoint_engine::ids::{ExecutionId, FileId};
use holdpoint_engine::status::{DefinitionKind, Failure, Reason, RunType, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

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

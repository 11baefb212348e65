//! What a start takes and answers.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_engine::ids::{ExecutionId, FileId};
use holdpoint_engine::status::{DefinitionKind, RunType, Status, WorkflowState};
use holdpoint_engine::team::Pins;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::trace::Traceparent;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_engine::workflow::Misfit;

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
    /// The child that it repeats, which is over: it goes on from that one's journal. Not read back.
    pub goes_on_from: Option<ExecutionId>,
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
        /// The same start was coalesced with it earlier; the run may have begun, or be over.
        before: bool,
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

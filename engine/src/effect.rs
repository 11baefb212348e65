//! Effects as data: what a worker performs outside any transaction, and what it brings back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::definition::Method;
use crate::entry::{ApprovalClosed, ApprovalDecided, ApprovalRequested, Json, OutcomeResolved};
use crate::ids::ExecutionId;
use crate::mcp::ListedTool;
use crate::status::{EffectClass, Failure};
use crate::team::Member;

/// One thing to perform, after its intent was committed.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Ask a model.
    Model(ModelEffect),
    /// Call a tool by HTTP.
    Http(HttpEffect),
    /// List the tools of an MCP server.
    List(ListEffect),
    /// Call a tool of an MCP server.
    Mcp(McpEffect),
    /// Start an execution of another agent.
    Delegate(DelegateEffect),
}

impl Effect {
    /// The step whose result it brings.
    pub fn step(&self) -> i32 {
        match self {
            Effect::Model(effect) => effect.step,
            Effect::Http(effect) => effect.step,
            Effect::List(effect) => effect.step,
            Effect::Mcp(effect) => effect.step,
            Effect::Delegate(effect) => effect.step,
        }
    }
}

/// A chat completion to ask for.
#[derive(Debug, Clone)]
pub struct ModelEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// Where `/chat/completions` is.
    pub base_url: String,
    /// The name of the bearer token.
    pub secret: Option<String>,
    /// The request's body.
    pub body: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// A tool's request to send.
#[derive(Debug, Clone)]
pub struct HttpEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// The call.
    pub tool_call_id: String,
    /// What an unknown outcome means.
    pub class: EffectClass,
    /// The request's method.
    pub method: Method,
    /// The request's URL.
    pub url: String,
    /// Sent along.
    pub headers: BTreeMap<String, String>,
    /// The name of the bearer token.
    pub secret: Option<String>,
    /// The caller's headers that go along, by name.
    pub forwarded_headers: Vec<String>,
    /// The body, byte for byte.
    pub arguments: String,
    /// The `Idempotency-Key`, the same for each attempt.
    pub key: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// Where an MCP server is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct McpServer {
    /// Its endpoint.
    pub url: String,
    /// Sent along.
    pub headers: BTreeMap<String, String>,
    /// The name of the bearer token.
    pub secret: Option<String>,
    /// The caller's headers that go along, by name.
    pub forwarded_headers: Vec<String>,
    /// Only these of its tools; all of them if `None`.
    pub only: Option<Vec<String>>,
}

/// A server's list to ask for.
#[derive(Debug, Clone)]
pub struct ListEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// Which server.
    pub server: McpServer,
    /// How long it may take.
    pub timeout: Duration,
}

/// A call of a server's tool: made only while the server lists what the digest is over.
#[derive(Debug, Clone)]
pub struct McpEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// The call.
    pub tool_call_id: String,
    /// What an unknown outcome means.
    pub class: EffectClass,
    /// Which server.
    pub server: McpServer,
    /// The tool as the server calls it.
    pub name: String,
    /// The arguments, byte for byte.
    pub arguments: String,
    /// The `Idempotency-Key`, the same for each attempt.
    pub key: String,
    /// The digest of the list that the call was asked for under.
    pub expected: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// An execution to start for a call. Its id follows from the parent's and the step, so that
/// starting it twice is starting it once.
#[derive(Debug, Clone)]
pub struct DelegateEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// The call.
    pub tool_call_id: String,
    /// Whom it is delegated to.
    pub to: Member,
    /// The call's arguments.
    pub arguments: String,
}

/// What a model said in one call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelAnswer {
    /// Its text.
    pub text: String,
    /// What it asked for.
    pub tool_calls: Vec<AskedCall>,
    /// As the server said it.
    pub finish_reason: Option<String>,
    /// Tokens that went in.
    pub input_tokens: u64,
    /// Tokens that came out.
    pub output_tokens: u64,
}

/// A tool call as the model sent it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AskedCall {
    /// The model's id, if it sent one.
    pub id: Option<String>,
    /// The tool's name.
    pub name: String,
    /// The arguments' bytes.
    pub arguments: String,
}

/// Whether a failed call may have happened all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Certainty {
    /// It did not happen, or the server answered that it refused.
    Definite,
    /// A timeout, a reset or a 5xx after the first byte was sent: nobody knows.
    Unknown,
}

/// What somebody outside did to an execution.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(tag = "act", content = "body", rename_all = "snake_case")]
pub enum Act {
    /// A decision that the store has taken.
    Decided(ApprovalDecided),
    /// End it.
    Cancel {
        /// The key that asked for it.
        by: String,
    },
    /// Hold it before its next step.
    Pause {
        /// The key that asked for it.
        by: String,
    },
    /// Let a paused one go on.
    Resume {
        /// The key that asked for it.
        by: String,
    },
    /// Answer an unknown outcome.
    Resolve(OutcomeResolved),
    /// A child asks a person.
    ChildAsked(Box<ApprovalRequested>),
    /// A person answered a child.
    ChildDecided(ApprovalDecided),
    /// A child's question fell away.
    ChildClosed(ApprovalClosed),
    /// A child is over.
    ChildEnded(ChildEnded),
}

/// How a child ended, as its parent's step takes it.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct ChildEnded {
    /// The parent's step.
    pub step: i32,
    /// What the child completed with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// Why it did not complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// What reaches an execution that a worker holds.
#[derive(Debug, Clone)]
pub enum Input {
    /// A new lease: whatever was under way before was cut short.
    Claimed,
    /// Somebody outside did something.
    Act(Act),
    /// More of a model's text.
    Delta {
        /// The model's step.
        step: i32,
        /// More.
        text: String,
    },
    /// A model answered.
    Answered {
        /// Its step.
        step: i32,
        /// What it said.
        answer: ModelAnswer,
    },
    /// A tool answered.
    Returned {
        /// Its step.
        step: i32,
        /// JSON as it came, other text as a string.
        output: Json,
    },
    /// A server listed its tools: as it was asked to, or, for a call, in place of carrying it
    /// out, because the list is another than the one that the call was asked for under.
    Listed {
        /// Its step.
        step: i32,
        /// Those that the definition wants, in order of their names.
        tools: Vec<ListedTool>,
    },
    /// A call has an execution of its own.
    Delegated {
        /// Its step.
        step: i32,
        /// The execution.
        child: ExecutionId,
    },
    /// An attempt failed.
    Failed {
        /// Its step.
        step: i32,
        /// Why.
        failure: Failure,
        /// The server's `Retry-After`.
        retry_after: Option<Duration>,
        /// Whether it may have happened all the same.
        certainty: Certainty,
    },
    /// The store refused to let a gated call through: bytes and decision do not match.
    GateRefused {
        /// The call.
        tool_call_id: String,
    },
}

//! Effects as data: what a worker performs outside any transaction, and what it brings back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::definition::Method;
use crate::entry::{
    ApprovalClosed, ApprovalDecided, ApprovalRequested, Json, OutcomeResolved, SignalReceived,
};
use crate::ids::ExecutionId;
use crate::mcp::ListedTool;
use crate::status::{DefinitionKind, EffectClass, Failure, Outcome};
use crate::team::Member;
use crate::time::Timestamp;
use crate::workflow::document::HttpOutput;

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
    /// A workflow's `call: http`.
    Request(Box<RequestEffect>),
    /// A workflow's `call: openapi`.
    OpenApi(Box<OpenApiEffect>),
    /// A workflow's `call: mcp`.
    McpRequest(Box<McpRequestEffect>),
    /// A workflow's child execution.
    Child(Box<ChildEffect>),
    /// A task for a worker elsewhere.
    Publish(Box<PublishEffect>),
    /// Ask whether an `at_most_once` call of an unknown outcome happened.
    Reconcile(Box<ReconcileEffect>),
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
            Effect::Request(effect) => effect.step,
            Effect::OpenApi(effect) => effect.step,
            Effect::McpRequest(effect) => effect.step,
            Effect::Child(effect) => effect.step,
            Effect::Publish(effect) => effect.step,
            Effect::Reconcile(effect) => effect.request.step,
        }
    }

    /// Which attempt of the step it is, from 1.
    pub fn attempt(&self) -> u32 {
        match self {
            Effect::Model(effect) => effect.attempt,
            Effect::Http(effect) => effect.attempt,
            Effect::List(effect) => effect.attempt,
            Effect::Mcp(effect) => effect.attempt,
            Effect::Delegate(effect) => effect.attempt,
            Effect::Request(effect) => effect.attempt,
            Effect::OpenApi(effect) => effect.attempt,
            Effect::McpRequest(effect) => effect.attempt,
            Effect::Child(effect) => effect.attempt,
            Effect::Publish(effect) => effect.attempt,
            Effect::Reconcile(effect) => effect.request.attempt,
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

/// A request of a workflow.
#[derive(Debug, Clone)]
pub struct RequestEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// The call's id, which a caller's headers and approvals are bound to.
    pub tool_call_id: String,
    /// What an unknown outcome means.
    pub class: EffectClass,
    /// `GET`, ….
    pub method: String,
    /// The URI, without what `query` adds.
    pub uri: String,
    /// Added to the URI's query, in order; a list is several of one name.
    pub query: Vec<(String, String)>,
    /// Sent along.
    pub headers: Vec<(String, String)>,
    /// JSON; a string is sent as its text where a header names another type than JSON.
    pub body: Option<Value>,
    /// How to authenticate.
    pub credentials: Option<Credentials>,
    /// What of the answer is the output.
    pub output: HttpOutput,
    /// Whether a 3xx is followed.
    pub redirect: bool,
    /// The `Idempotency-Key`, the same for each attempt.
    pub key: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// An operation of an OpenAPI document.
#[derive(Debug, Clone)]
pub struct OpenApiEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// The call's id.
    pub tool_call_id: String,
    /// What an unknown outcome means; none follows from the operation's method.
    pub class: Option<EffectClass>,
    /// Where the document is.
    pub document: String,
    /// How to authenticate for the document.
    pub document_credentials: Option<Credentials>,
    /// The operation's id.
    pub operation: String,
    /// Its parameters, and `body`.
    pub parameters: serde_json::Map<String, Value>,
    /// How to authenticate for the operation.
    pub credentials: Option<Credentials>,
    /// What of the answer is the output.
    pub output: HttpOutput,
    /// Whether a 3xx is followed.
    pub redirect: bool,
    /// The `Idempotency-Key`, the same for each attempt.
    pub key: String,
    /// How long it may take, with the document.
    pub timeout: Duration,
}

/// A method of an MCP server.
#[derive(Debug, Clone)]
pub struct McpRequestEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// The call's id.
    pub tool_call_id: String,
    /// What an unknown outcome means.
    pub class: EffectClass,
    /// Its endpoint.
    pub url: String,
    /// Sent along.
    pub headers: Vec<(String, String)>,
    /// How to authenticate.
    pub credentials: Option<Credentials>,
    /// `tools/call`, ….
    pub method: String,
    /// Its parameters.
    pub parameters: Value,
    /// The `Idempotency-Key`, the same for each attempt.
    pub key: String,
    /// How long it may take.
    pub timeout: Duration,
}

/// A child execution to start. Its id follows from the parent's and the step, so that
/// starting it twice is starting it once.
#[derive(Debug, Clone)]
pub struct ChildEffect {
    /// The step.
    pub step: i32,
    /// The attempt.
    pub attempt: u32,
    /// The call's id.
    pub tool_call_id: String,
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// Our version; none is the latest.
    pub version: Option<i32>,
    /// A workflow's version as its author wrote it.
    pub label: Option<String>,
    /// Its input as JSON.
    pub input: String,
    /// Whether its end is awaited: else the start is the result.
    pub wait: bool,
}

/// A task to publish to a queue; its end comes as an act.
#[derive(Debug, Clone)]
pub struct PublishEffect {
    /// The step.
    pub step: i32,
    /// The attempt: a report names it.
    pub attempt: u32,
    /// The call's id.
    pub tool_call_id: String,
    /// The queue.
    pub queue: String,
    /// The task's name in the workflow.
    pub task: String,
    /// What the worker is given, as JSON.
    pub input: String,
    /// How long a worker may be silent.
    pub heartbeat: Option<Duration>,
    /// The key that the task has in every attempt.
    pub key: String,
}

/// A question whether a call happened.
#[derive(Debug, Clone)]
pub struct ReconcileEffect {
    /// How to ask: its step is the call's, its attempt counts the questions.
    pub request: RequestEffect,
}

/// How a call authenticates: names of secrets, which are looked up where it is sent, and
/// what was computed from an execution's data.
#[derive(Debug, Clone)]
pub enum Credentials {
    /// A user and a password.
    Basic {
        /// Who.
        username: Credential,
        /// The password.
        password: Credential,
    },
    /// A secret of `{"username", "password"}`.
    BasicSecret(String),
    /// A bearer token.
    Bearer(Credential),
    /// A token that is fetched by the client credentials grant.
    OAuth2 {
        /// Where tokens are fetched.
        token_endpoint: String,
        /// The client.
        client_id: Credential,
        /// Its secret.
        client_secret: Credential,
        /// Asked for.
        scopes: Vec<String>,
        /// Asked for.
        audiences: Vec<String>,
        /// The client authenticates in the body, else by HTTP basic.
        in_body: bool,
    },
    /// A secret of an OAuth2 policy as JSON.
    OAuth2Secret(String),
}

/// A part of credentials.
#[derive(Clone)]
pub enum Credential {
    /// The value of the secret of this name.
    Secret(String),
    /// This text.
    Text(String),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Credential::Secret(name) => write!(f, "Secret({name})"),
            Credential::Text(_) => f.write_str("Text(…)"),
        }
    }
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
    /// End it at its next step, because its workflow is held.
    EndPaused {
        /// The key that asked for it.
        by: String,
    },
    /// End it as failed: its time is over.
    Deadline,
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
    /// An event for it, or a signal.
    Signal(SignalReceived),
    /// A worker elsewhere is done with a task.
    TaskReported(TaskReport),
    /// A worker elsewhere is still at a task.
    TaskHeartbeat {
        /// The task's step.
        step: i32,
        /// The attempt that it was given.
        attempt: u32,
        /// When it said so.
        at: Timestamp,
    },
}

/// What a worker elsewhere says of a task.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub struct TaskReport {
    /// The task's step.
    pub step: i32,
    /// The attempt that it was given.
    pub attempt: u32,
    /// What came of it, where it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The key that said so.
    pub by: String,
    /// When it said so.
    pub at: Timestamp,
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
    /// More of what a model says.
    Delta {
        /// The model's step.
        step: i32,
        /// More of its reasoning.
        reasoning: String,
        /// More of its text.
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
    /// A task was published: whoever takes it reports its end.
    Published {
        /// Its step.
        step: i32,
    },
    /// Somebody knows what became of a call of an unknown outcome.
    Reconciled {
        /// Its step.
        step: i32,
        /// What became of it; `None` where that is still not known.
        outcome: Option<Outcome>,
        /// What the call answered, where it happened and that is known.
        result: Option<Json>,
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
    /// The store refused what was decided: the bytes of a gated call and its decision do not match, or what
    /// was to be over for want of an answer has one.
    GateRefused {
        /// The call.
        tool_call_id: String,
    },
}

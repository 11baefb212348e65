//! What a model may call: one HTTP request, an MCP server's tools, another agent.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{ApprovalRule, Retry};
use crate::status::EffectClass;
use crate::time::Span;

/// Something that the model may call: exactly one of `http`, `mcp` and `agent`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// As the model calls it; for an MCP server, what its tools' names begin with.
    pub name: String,
    /// Told to the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema of the arguments; an object without properties if left out. An MCP
    /// server says it itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// The kind `http`: one request for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpTool>,
    /// The kind `mcp`: all tools of a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mcp: Option<McpTool>,
    /// The kind `agent`: an execution of another agent for a call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentTool>,
    /// What may be done when nobody knows whether a call happened; see [`Tool::class`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<EffectClass>,
    /// Asked first where nobody knows whether a call happened; for `http` and `at_most_once`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconcile>,
    /// How long one call may take; see [`Tool::timeout`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Span>,
    /// How often a call is tried.
    #[serde(default)]
    pub retry: Retry,
    /// Whether a person must approve each call.
    #[serde(default)]
    pub approval: ApprovalRule,
}

/// Which of the kinds a tool is.
#[derive(Debug, Clone, Copy)]
pub enum ToolKind<'a> {
    /// One request for a call.
    Http(&'a HttpTool),
    /// All tools of a server.
    Mcp(&'a McpTool),
    /// An execution of another agent for a call.
    Agent(&'a AgentTool),
}

impl Tool {
    /// Its kind; `None` where there is not exactly one, which no checked document has.
    pub fn kind(&self) -> Option<ToolKind<'_>> {
        match (&self.http, &self.mcp, &self.agent) {
            (Some(http), None, None) => Some(ToolKind::Http(http)),
            (None, Some(mcp), None) => Some(ToolKind::Mcp(mcp)),
            (None, None, Some(agent)) => Some(ToolKind::Agent(agent)),
            _ => None,
        }
    }

    /// What an unknown outcome of a call means. A delegation is repeated: the second
    /// attempt finds the execution that the first one made.
    pub fn class(&self) -> EffectClass {
        let default = if self.agent.is_some() { EffectClass::Idempotent } else { EffectClass::AtMostOnce };
        self.effect.unwrap_or(default)
    }

    /// How long one call may take. A delegated execution has its own limits.
    pub fn timeout(&self) -> Duration {
        let default = if self.mcp.is_some() { super::MCP_TIMEOUT } else { super::TOOL_TIMEOUT };
        self.timeout.unwrap_or(default).0
    }

    /// Writes out what was left out, so that a stored document says it whatever later
    /// versions of Holdpoint take as default.
    pub(super) fn fill_defaults(&mut self) {
        self.effect = Some(self.class());
        if self.agent.is_none() {
            self.timeout = Some(Span(self.timeout()));
        }
        if self.mcp.is_none() && self.parameters.is_none() {
            self.parameters = Some(if self.agent.is_some() { one_input() } else { no_parameters() });
        }
    }
}

fn no_parameters() -> Value {
    serde_json::json!({"type": "object", "properties": {}})
}

fn one_input() -> Value {
    serde_json::json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]})
}

/// A Model Context Protocol server, by streamable HTTP. Its tools are shown to the model as
/// `<the tool's name>__<the listed name>`; what the entry says of effect, timeout, retry and
/// approval holds for all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct McpTool {
    /// `http` or `https`.
    pub url: String,
    /// Sent along; not for credentials, which are named in `secret`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The name of the secret that is sent as bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Only these of the tools that the server lists, by its own names; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tools: Option<Vec<String>>,
    /// The digest of the list of tools that is expected: SHA-256 in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Headers of a chat request that are passed on, by name in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwarded_headers: Vec<String>,
}

/// Another agent, which gets an execution of its own for each call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentTool {
    /// The agent's name.
    pub name: String,
    /// Its version; if left out, the latest when the calling execution starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
}

/// One HTTP request for a call. The body is the arguments, byte for byte; with `GET` they
/// are the query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpTool {
    /// `http` or `https`.
    pub url: String,
    /// `POST` if left out.
    #[serde(default)]
    pub method: Method,
    /// Sent along; not for credentials, which are named in `secret`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The name of the secret that is sent as bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Headers of a chat request that are passed on, by name in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwarded_headers: Vec<String>,
}

/// A request that asks what became of a call. It is answered `{"outcome": "happened" or
/// "did_not_happen" or "unknown", "result": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reconcile {
    /// `http` or `https`.
    pub url: String,
    /// `POST` if left out: the body tells the call, with its arguments; with `GET` the query does,
    /// without them.
    #[serde(default)]
    pub method: Method,
    /// Sent along; not for credentials, which are named in `secret`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The name of the secret that is sent as bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// How often it is asked in all, 1 to 20.
    #[serde(default = "tries")]
    pub tries: u32,
    /// Before the first question; doubled before each further one.
    #[serde(default = "first_delay")]
    pub first_delay: Span,
    /// No delay is longer.
    #[serde(default = "max_delay")]
    pub max_delay: Span,
}

/// How often and when it is asked what became of a call, unless a definition says otherwise.
pub const QUESTIONS: Retry = Retry { tries: 5, first_delay: Span::secs(10), max_delay: Span::secs(600) };

const fn tries() -> u32 {
    QUESTIONS.tries
}

const fn first_delay() -> Span {
    QUESTIONS.first_delay
}

const fn max_delay() -> Span {
    QUESTIONS.max_delay
}

impl Reconcile {
    /// How often and when it is asked.
    pub const fn questions(&self) -> Retry {
        Retry { tries: self.tries, first_delay: self.first_delay, max_delay: self.max_delay }
    }
}

/// The methods that a tool may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Method {
    Get,
    #[default]
    Post,
    Put,
    Patch,
    Delete,
}

impl Method {
    /// As it stands in the request line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Patch => "PATCH",
            Method::Delete => "DELETE",
        }
    }
}

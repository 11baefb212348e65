//! Agents as users write them, checked whole, and what an execution is pinned to.

mod approval;
mod check;
mod compiled;
mod secrets;
mod tool;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::status::ExecutionMode;
use crate::time::Span;

pub use approval::{ApprovalPolicy, ApprovalRule, ApprovalWord, AskedAbout, asks};
pub(crate) use check::is_function_name;
pub use check::{is_header_name, may_forward};
pub(crate) use compiled::compile_schema;
pub use compiled::{
    CompiledAgent, CompiledTool, Definition, builtin, check_against, compile_agent, is_reserved,
};
pub use tool::{AgentTool, HttpTool, McpTool, Method, QUESTIONS, Reconcile, Tool, ToolKind};

/// The deadline of one model call, where the definition names none.
pub const MODEL_TIMEOUT: Span = Span::secs(60 * 60);
/// The deadline of one HTTP tool call, where the definition names none.
pub const TOOL_TIMEOUT: Span = Span::secs(10 * 60);
/// The deadline of one call of an MCP server's tool, where the definition names none.
pub const MCP_TIMEOUT: Span = Span::secs(30 * 60);
/// How long an approval is open, where the definition names nothing.
pub const APPROVAL_EXPIRY: Span = Span::secs(30 * 60);
/// How many model calls that an execution may make, where the definition names none.
pub const MAX_TURNS: u32 = 50;
/// How often an execution may be transferred, where the agent that began it names nothing.
pub const MAX_TRANSFERS: u32 = 10;
/// How often an effect is tried in all, where the definition names nothing.
pub const TRIES: u32 = 4;

/// What is wrong with a document, and where (an RFC 6901 pointer, or a dotted path).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {message}")]
pub struct DefinitionError {
    /// Where in the document.
    pub place: String,
    /// What was there and what may be.
    pub message: String,
}

/// An agent's document, as `PUT /v1/agents/{name}` takes it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// The model it speaks to.
    pub model: Model,
    /// The system message.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub instructions: String,
    /// What the model may call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// At most so many model calls; passing it fails the execution with `turn_limit`.
    #[serde(default = "max_turns")]
    pub max_turns: u32,
    /// The agents that may go on in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transfers: Vec<Transfer>,
    /// At most so many transfers in an execution that this agent begins; passing it fails
    /// the execution with `transfer_limit`.
    // Not written where it is the default: documents of before stay the bytes they were.
    #[serde(default = "max_transfers", skip_serializing_if = "is_max_transfers")]
    pub max_transfers: u32,
    /// How chats with it run, where a request does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_mode: Option<ExecutionMode>,
}

fn max_turns() -> u32 {
    MAX_TURNS
}

fn max_transfers() -> u32 {
    MAX_TRANSFERS
}

fn is_max_transfers(given: &u32) -> bool {
    *given == MAX_TRANSFERS
}

/// An agent that may go on in place of this one: instructions, tools and model become its
/// own, the messages stay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// The agent's name.
    pub agent: String,
    /// Its version; if left out, the latest when an execution starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// Told to the model: when to transfer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl Transfer {
    /// The tool by which the model asks for it: `transfer_to_` and the agent's name, with
    /// `_` for the `.` that a function's name may not have.
    pub fn tool_name(&self) -> String {
        format!("transfer_to_{}", self.agent.replace('.', "_"))
    }
}

/// A definition that another one names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reference {
    /// The agent's name.
    pub agent: String,
    /// A version, or the latest when an execution starts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
}

impl Agent {
    /// The agents that it transfers or delegates to, and where in the document.
    pub fn references(&self) -> Vec<(String, Reference)> {
        let transfers = self.transfers.iter().enumerate().map(|(index, transfer)| {
            let reference = Reference { agent: transfer.agent.clone(), version: transfer.version };
            (format!("transfers[{index}].agent"), reference)
        });
        let delegates = self.tools.iter().enumerate().filter_map(|(index, tool)| {
            let agent = tool.agent.as_ref()?;
            let reference = Reference { agent: agent.name.clone(), version: agent.version };
            Some((format!("tools[{index}].agent.name"), reference))
        });
        transfers.chain(delegates).collect()
    }
}

/// An OpenAI-compatible chat completions endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// What `/chat/completions` is appended to, such as `https://api.openai.com/v1`.
    pub base_url: String,
    /// The model's name there.
    pub name: String,
    /// The name of the secret that is sent as bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Sent along as they are: `temperature`, `max_tokens` and the like.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub parameters: Map<String, Value>,
    /// How long one call may take.
    #[serde(default = "model_timeout")]
    pub timeout: Span,
    /// How often a call is tried.
    #[serde(default)]
    pub retry: Retry,
    /// What tokens cost; without it the cost is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prices: Option<Prices>,
}

fn model_timeout() -> Span {
    MODEL_TIMEOUT
}

/// Prices in units of money for a million tokens; costs are told in millionths of a unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// For a million input tokens.
    pub input_per_million: f64,
    /// For a million output tokens.
    pub output_per_million: f64,
}

impl Prices {
    /// The cost of one call, in millionths of a unit, rounded to the nearest.
    pub fn cost_micros(&self, input_tokens: u64, output_tokens: u64) -> u64 {
        let cost =
            input_tokens as f64 * self.input_per_million + output_tokens as f64 * self.output_per_million;
        cost.round() as u64
    }
}

/// When a failed effect is tried again: the delay doubles from `first_delay` up to
/// `max_delay`, with jitter; a server's `Retry-After` goes before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// How often in all, 1 to 20.
    pub tries: u32,
    /// Before the second attempt.
    pub first_delay: Span,
    /// No delay of ours is longer.
    pub max_delay: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self { tries: TRIES, first_delay: Span::secs(1), max_delay: Span::secs(30) }
    }
}

/// Reads an agent's document and checks all of it but the schemas.
pub fn parse_agent(document: &str) -> Result<Agent, Vec<DefinitionError>> {
    let mut reader = serde_json::Deserializer::from_str(document);
    let mut agent: Agent = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        vec![DefinitionError { place: error.path().to_string(), message: error.inner().to_string() }]
    })?;
    reader.end().map_err(|error| vec![check::wrong(".", error.to_string())])?;
    let errors = check::agent_errors(&agent);
    agent.tools.iter_mut().for_each(Tool::fill_defaults);
    if errors.is_empty() { Ok(agent) } else { Err(errors) }
}

/// The one form in which equal documents are equal bytes; what is stored and compared.
pub fn canonical(agent: &Agent) -> String {
    serde_json::to_string(agent).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::{DefinitionKind, EffectClass};

    const REFUND: &str = r#"{
        "model": {"base_url": "http://127.0.0.1:1/v1", "name": "m", "prices": {"input_per_million": 2.5, "output_per_million": 10}},
        "tools": [{"name": "refund", "http": {"url": "http://127.0.0.1:1/refund"}, "approval": {"expires_after": "2h"},
                   "parameters": {"type": "object", "properties": {"amount": {"type": "integer", "maximum": 100}}, "required": ["amount"]}}]
    }"#;

    fn errors(document: &str) -> String {
        let errors = Definition::compile(DefinitionKind::Agent, 1, document).expect_err(document);
        errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn an_agent_has_the_contracts_defaults() {
        let agent = parse_agent(REFUND).expect("valid");
        assert_eq!(agent.model.timeout, Span::secs(3600));
        let tool = &agent.tools[0];
        assert_eq!(tool.timeout(), Duration::from_secs(600));
        assert_eq!(tool.class(), EffectClass::AtMostOnce);
        assert_eq!(tool.approval.named_expiry(), Some(Duration::from_secs(7200)));
        assert_eq!(agent.model.retry.tries, 4);
        assert_eq!(parse_agent(&canonical(&agent)).expect("canonical is valid"), agent);
    }

    #[test]
    fn each_approval_rule_is_understood() {
        for (rule, needed) in [("\"never\"", false), ("\"always\"", true), ("{\"expires_after\": 60}", true)]
        {
            let document = REFUND.replace(r#"{"expires_after": "2h"}"#, rule);
            assert_eq!(parse_agent(&document).expect(rule).tools[0].approval.is_needed(), needed, "{rule}");
        }
        let absent = REFUND.replace(r#""approval": {"expires_after": "2h"},"#, "");
        assert!(!parse_agent(&absent).expect("absent").tools[0].approval.is_needed());
        assert!(errors(&REFUND.replace(r#"{"expires_after": "2h"}"#, "true")).contains("always"));
    }

    #[test]
    fn a_bad_document_names_the_place() {
        for (from, to, place) in [
            ("\"name\": \"m\"", "\"name\": \"\"", "model.name"),
            ("\"name\": \"m\"", "\"nam\": \"m\"", "nam"),
            ("http://127.0.0.1:1/refund", "ftp://x", "tools[0].http.url"),
            ("http://127.0.0.1:1/refund", "http://u:p@x/", "secret"),
            ("\"name\": \"refund\"", "\"name\": \"re fund\"", "tools[0].name"),
            ("\"type\": \"integer\"", "\"type\": \"int\"", "tools[0].parameters"),
            ("\"2h\"", "\"soon\"", "approval"),
            (
                "1/refund\"}",
                "1/refund\", \"headers\": {\"X-Holdpoint-Attempt\": \"7\"}}",
                "X-Holdpoint-Attempt",
            ),
        ] {
            let message = errors(&REFUND.replace(from, to));
            assert!(message.contains(place), "{to}: {message}");
        }
    }

    fn with_tool(tool: &str) -> String {
        format!(r#"{{"model": {{"base_url": "http://127.0.0.1:1/v1", "name": "m"}}, "tools": [{tool}]}}"#)
    }

    #[test]
    fn a_document_of_before_keeps_its_bytes() {
        let stored = r#"{"model":{"base_url":"http://127.0.0.1:1/v1","name":"m","timeout":"1h","retry":{"tries":4,"first_delay":"1s","max_delay":"30s"}},"tools":[{"name":"refund","parameters":{"properties":{},"type":"object"},"http":{"url":"http://127.0.0.1:1/","method":"POST"},"effect":"at_most_once","timeout":"10m","retry":{"tries":4,"first_delay":"1s","max_delay":"30s"},"approval":"never"}],"max_turns":50}"#;
        assert_eq!(canonical(&parse_agent(stored).expect("valid")), stored);
        let short = with_tool(r#"{"name": "refund", "http": {"url": "http://127.0.0.1:1/"}}"#);
        assert_eq!(canonical(&parse_agent(&short).expect("valid")), stored);
    }

    #[test]
    fn a_tool_has_exactly_one_kind() {
        let mcp = r#""mcp": {"url": "http://127.0.0.1:1/mcp"}"#;
        let agent = r#""agent": {"name": "books"}"#;
        let none = errors(&with_tool(r#"{"name": "t"}"#));
        assert!(none.contains("tools[0]: has no kind"), "{none}");
        let two = errors(&with_tool(&format!(r#"{{"name": "t", {mcp}, {agent}}}"#)));
        assert!(two.contains("has `mcp` and `agent`"), "{two}");

        let server = parse_agent(&with_tool(&format!(r#"{{"name": "t", {mcp}}}"#))).expect("mcp");
        assert_eq!(server.tools[0].timeout(), Duration::from_secs(1800));
        assert_eq!(server.tools[0].parameters, None, "the server says them");
        let delegate = parse_agent(&with_tool(&format!(r#"{{"name": "t", {agent}}}"#))).expect("agent");
        assert_eq!(delegate.tools[0].class(), EffectClass::Idempotent);
        assert!(delegate.tools[0].parameters.as_ref().is_some_and(|p| p["required"][0] == "input"));
        for agent in [server, delegate] {
            assert_eq!(parse_agent(&canonical(&agent)).expect("canonical is valid"), agent);
        }
    }

    #[test]
    fn what_does_not_go_with_a_kind_is_refused() {
        let mcp = r#""name": "t", "mcp": {"url": "http://127.0.0.1:1/mcp"}"#;
        let agent = r#""name": "t", "agent": {"name": "books"}"#;
        for (tool, place) in [
            (format!(r#"{{{mcp}, "parameters": {{}}}}"#), "tools[0].parameters"),
            (format!(r#"{{{mcp}, "description": "d"}}"#), "tools[0].description"),
            (mcp.replace("/mcp\"", "/mcp\", \"tools\": []"), "tools[0].mcp.tools"),
            (mcp.replace("/mcp\"", "/mcp\", \"digest\": \"abc\""), "tools[0].mcp.digest"),
            (format!(r#"{{{agent}, "timeout": "1m"}}"#), "tools[0].timeout"),
            (format!(r#"{{{agent}, "effect": "at_most_once"}}"#), "tools[0].effect"),
            (agent.replace("books", "b o"), "tools[0].agent.name"),
            (agent.replace("\"books\"", "\"books\", \"version\": 0"), "tools[0].agent.version"),
        ] {
            let tool = if tool.starts_with('{') { tool } else { format!("{{{tool}}}") };
            let message = errors(&with_tool(&tool));
            assert!(message.contains(place), "{tool}: {message}");
        }
    }

    #[test]
    fn forwarded_headers_are_listed_by_name() {
        let listed = |names: &str| {
            with_tool(&format!(
                r#"{{"name": "t", "http": {{"url": "http://127.0.0.1:1/", "headers": {{"X-Fixed": "1"}}, "secret": "s", "forwarded_headers": [{names}]}}}}"#
            ))
        };
        parse_agent(&listed(r#""x-customer", "cookie""#)).expect("may be listed");
        for bad in [
            "X-Customer",
            "host",
            "content-length",
            "connection",
            "x-holdpoint-attempt",
            "idempotency-key",
            "x-fixed",
            "authorization",
            "a b",
            "",
        ] {
            let message = errors(&listed(&format!("\"{bad}\"")));
            assert!(message.contains("forwarded_headers[0]"), "{bad}: {message}");
        }
        assert!(errors(&listed(r#""x-a", "x-a""#)).contains("forwarded_headers[1]"));
    }

    #[test]
    fn transfers_are_told_to_the_model_as_tools() {
        let document = |transfers: &str, tool: &str| {
            format!(
                r#"{{"model": {{"base_url": "http://127.0.0.1:1/v1", "name": "m"}}, "tools": [{tool}], "transfers": [{transfers}]}}"#
            )
        };
        let text = document(
            r#"{"agent": "books.eu", "description": "Invoices"}, {"agent": "desk", "version": 3}"#,
            "",
        );
        let Ok(Definition::Agent(agent)) = Definition::compile(DefinitionKind::Agent, 1, &text) else {
            panic!("valid")
        };
        assert_eq!(agent.agent.max_transfers, 10);
        assert_eq!(agent.transfer("transfer_to_books_eu").map(|t| t.agent.as_str()), Some("books.eu"));
        let told = agent.tools_json.as_ref().expect("two tools").get();
        assert!(told.contains("transfer_to_desk") && told.contains("Invoices"), "{told}");
        let long = "a".repeat(60);
        for (transfers, tool, place) in [
            (r#"{"agent": "a.b"}, {"agent": "a_b"}"#, "", "transfers[1].agent"),
            (
                r#"{"agent": "desk"}"#,
                r#"{"name": "transfer_to_desk", "http": {"url": "http://x/"}}"#,
                "transfers[0].agent",
            ),
            (r#"{"agent": "desk", "version": 0}"#, "", "transfers[0].version"),
            (&format!(r#"{{"agent": "{long}"}}"#), "", "transfers[0].agent"),
        ] {
            let message = errors(&document(transfers, tool));
            assert!(message.contains(place), "{transfers}: {message}");
        }
    }

    #[test]
    fn an_agent_with_approvals_is_not_classic() {
        let classic = REFUND.replacen('{', r#"{"execution_mode": "classic","#, 1);
        assert!(errors(&classic).contains("execution_mode"));
        let free = classic.replace(r#""approval": {"expires_after": "2h"},"#, "");
        assert_eq!(parse_agent(&free).expect("valid").execution_mode, Some(ExecutionMode::Classic));
    }

    #[test]
    fn arguments_are_held_against_the_schema() {
        let Ok(Definition::Agent(agent)) = Definition::compile(DefinitionKind::Agent, 3, REFUND) else {
            panic!("valid")
        };
        let tool = agent.tool("refund").expect("there");
        assert_eq!(tool.check_arguments("{\"amount\": 100}"), Ok(()));
        for bad in ["{\"amount\": 101}", "{}", "[]", "{", "{\"amount\":1,\"amount\":2}"] {
            assert!(tool.check_arguments(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn costs_are_millionths() {
        let prices = Prices { input_per_million: 2.5, output_per_million: 10.0 };
        assert_eq!(prices.cost_micros(1_000, 100), 3_500);
        assert_eq!(prices.cost_micros(1, 0), 3);
    }
}

//! Agents as users write them, checked whole, and what an execution is pinned to.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::scope::check_name;
use crate::status::{DefinitionKind, EffectClass};
use crate::strict_json;
use crate::time::Span;

/// The deadline of one model call, where the definition names none.
pub const MODEL_TIMEOUT: Span = Span::secs(60 * 60);
/// The deadline of one HTTP tool call, where the definition names none.
pub const TOOL_TIMEOUT: Span = Span::secs(10 * 60);
/// How long an approval is open, where the definition names nothing.
pub const APPROVAL_EXPIRY: Span = Span::secs(30 * 60);
/// How many model calls that an execution may make, where the definition names none.
pub const MAX_TURNS: u32 = 50;
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
}

fn max_turns() -> u32 {
    MAX_TURNS
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

/// Something that the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// As the model calls it.
    pub name: String,
    /// Told to the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// JSON Schema of the arguments; an object without properties if left out.
    #[serde(default = "no_parameters")]
    pub parameters: Value,
    /// The kind `http`: one request for a call.
    pub http: HttpTool,
    /// What may be done when nobody knows whether a call happened.
    #[serde(default = "at_most_once")]
    pub effect: EffectClass,
    /// How long one call may take.
    #[serde(default = "tool_timeout")]
    pub timeout: Span,
    /// How often a call is tried.
    #[serde(default)]
    pub retry: Retry,
    /// Whether a person must approve each call.
    #[serde(default)]
    pub approval: ApprovalRule,
}

fn no_parameters() -> Value {
    serde_json::json!({"type": "object", "properties": {}})
}

fn at_most_once() -> EffectClass {
    EffectClass::AtMostOnce
}

fn tool_timeout() -> Span {
    TOOL_TIMEOUT
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

/// `"never"`, `"always"`, or `{"expires_after": "2h"}`, which is always with its own expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "\"never\", \"always\" or {\"expires_after\": duration}")]
pub enum ApprovalRule {
    /// One of the two words.
    Word(ApprovalWord),
    /// Always, open for so long.
    Expiring(ExpiringApproval),
}

impl Default for ApprovalRule {
    fn default() -> Self {
        ApprovalRule::Word(ApprovalWord::Never)
    }
}

/// The short forms of an approval rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalWord {
    /// The call is made at once.
    Never,
    /// Each call waits for a decision, 30 minutes by default.
    Always,
}

/// The long form of an approval rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiringApproval {
    /// How long the approval is open.
    pub expires_after: Span,
}

impl ApprovalRule {
    /// Whether a call needs a decision.
    pub fn is_needed(&self) -> bool {
        matches!(self, ApprovalRule::Word(ApprovalWord::Always) | ApprovalRule::Expiring(_))
    }

    /// The expiry that the definition names, if it names one.
    pub fn named_expiry(&self) -> Option<Duration> {
        match self {
            ApprovalRule::Expiring(rule) => Some(rule.expires_after.0),
            _ => None,
        }
    }
}

/// A tool with its schema made ready.
#[derive(Debug)]
pub struct CompiledTool {
    /// As it was written.
    pub tool: Tool,
    validator: jsonschema::Validator,
}

impl CompiledTool {
    /// Checks a call's arguments: strict JSON, an object, and the tool's schema.
    pub fn check_arguments(&self, arguments: &str) -> Result<(), String> {
        strict_json::check_object(arguments).map_err(|error| format!("arguments: {error}"))?;
        let value: Value = serde_json::from_str(arguments).map_err(|error| format!("arguments: {error}"))?;
        match self.validator.iter_errors(&value).next() {
            None => Ok(()),
            Some(error) => Err(format!("arguments: {error} at `{}`", error.instance_path())),
        }
    }
}

/// What an execution is pinned to, made ready for deciding.
#[derive(Debug)]
pub enum Definition {
    /// A model with tools.
    Agent(Box<CompiledAgent>),
    /// So many steps that journal a constant; built in, for measuring (see [`builtin`]).
    Noop {
        /// How many steps.
        steps: i32,
    },
}

/// An agent with everything that deciding needs.
#[derive(Debug)]
pub struct CompiledAgent {
    /// As it was written.
    pub agent: Agent,
    /// Which version: part of each approval's digest.
    pub version: i32,
    /// The `tools` member of a model request, as bytes.
    pub tools_json: Option<Box<RawValue>>,
    tools: BTreeMap<String, CompiledTool>,
}

impl CompiledAgent {
    /// The tool of that name.
    pub fn tool(&self, name: &str) -> Option<&CompiledTool> {
        self.tools.get(name)
    }
}

impl Definition {
    /// Reads a stored document of this kind and version, checked as at registration.
    pub fn compile(kind: DefinitionKind, version: i32, document: &str) -> Result<Self, Vec<DefinitionError>> {
        match kind {
            DefinitionKind::Agent => {
                Ok(Definition::Agent(Box::new(compile_agent(parse_agent(document)?, version)?)))
            }
            DefinitionKind::Workflow => Err(vec![DefinitionError {
                place: String::new(),
                message: "workflows of your own come with a later version; built in is `holdpoint.noop`"
                    .to_owned(),
            }]),
        }
    }

    /// The version that an approval's digest names.
    pub fn version(&self) -> i32 {
        match self {
            Definition::Agent(agent) => agent.version,
            Definition::Noop { .. } => 1,
        }
    }
}

/// The definitions that every tenant has, under names that nobody can register
/// (`holdpoint.…`). `holdpoint.noop` journals a constant three times.
pub fn builtin(kind: DefinitionKind, name: &str) -> Option<Definition> {
    match (kind, name) {
        (DefinitionKind::Workflow, "holdpoint.noop") => Some(Definition::Noop { steps: 3 }),
        _ => None,
    }
}

/// Whether a name is kept for built-in definitions.
pub fn is_reserved(name: &str) -> bool {
    name == "holdpoint" || name.starts_with("holdpoint.")
}

/// Reads an agent's document and checks all of it but the schemas.
pub fn parse_agent(document: &str) -> Result<Agent, Vec<DefinitionError>> {
    let mut reader = serde_json::Deserializer::from_str(document);
    let agent: Agent = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        vec![DefinitionError { place: error.path().to_string(), message: error.inner().to_string() }]
    })?;
    reader.end().map_err(|error| vec![wrong(".", error.to_string())])?;
    let errors = agent_errors(&agent);
    if errors.is_empty() { Ok(agent) } else { Err(errors) }
}

/// The one form in which equal documents are equal bytes; what is stored and compared.
pub fn canonical(agent: &Agent) -> String {
    serde_json::to_string(agent).unwrap_or_default()
}

fn wrong(place: impl Into<String>, message: impl Into<String>) -> DefinitionError {
    DefinitionError { place: place.into(), message: message.into() }
}

fn agent_errors(agent: &Agent) -> Vec<DefinitionError> {
    let mut errors = Vec::new();
    check_url("model.base_url", &agent.model.base_url, &mut errors);
    if agent.model.name.is_empty() {
        errors.push(wrong("model.name", "is empty: name the model"));
    }
    check_secret("model.secret", agent.model.secret.as_deref(), &mut errors);
    check_retry("model.retry", agent.model.retry, &mut errors);
    check_timeout("model.timeout", agent.model.timeout, &mut errors);
    for name in ["model", "messages", "tools", "stream", "stream_options", "n"] {
        if agent.model.parameters.contains_key(name) {
            errors.push(wrong(format!("model.parameters.{name}"), "is set by Holdpoint; leave it out"));
        }
    }
    if let Some(prices) = agent.model.prices {
        for (field, price) in [("input", prices.input_per_million), ("output", prices.output_per_million)] {
            if !(0.0..=1e9).contains(&price) {
                errors.push(wrong(
                    format!("model.prices.{field}_per_million"),
                    format!("is {price}: it may be 0 to 1000000000"),
                ));
            }
        }
    }
    if !(1..=10_000).contains(&agent.max_turns) {
        errors.push(wrong("max_turns", format!("is {}: it may be 1 to 10000", agent.max_turns)));
    }
    if agent.tools.len() > 128 {
        errors.push(wrong("tools", format!("are {}: there may be 128", agent.tools.len())));
    }
    let mut names = HashSet::new();
    for (index, tool) in agent.tools.iter().enumerate() {
        let place = format!("tools[{index}]");
        if !names.insert(tool.name.as_str()) {
            errors.push(wrong(format!("{place}.name"), format!("`{}` stands twice", tool.name)));
        }
        tool_errors(&place, tool, &mut errors);
    }
    errors
}

fn tool_errors(place: &str, tool: &Tool, errors: &mut Vec<DefinitionError>) {
    // OpenAI's rule for function names, which other servers share.
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if tool.name.is_empty() || tool.name.len() > 64 || !tool.name.bytes().all(plain) {
        errors.push(wrong(
            format!("{place}.name"),
            format!("`{}` may be 1 to 64 letters, digits, `_` or `-`", tool.name),
        ));
    }
    check_url(&format!("{place}.http.url"), &tool.http.url, errors);
    check_secret(&format!("{place}.http.secret"), tool.http.secret.as_deref(), errors);
    check_retry(&format!("{place}.retry"), tool.retry, errors);
    check_timeout(&format!("{place}.timeout"), tool.timeout, errors);
    if let ApprovalRule::Expiring(rule) = tool.approval {
        check_timeout(&format!("{place}.approval.expires_after"), rule.expires_after, errors);
    }
    for (name, value) in &tool.http.headers {
        check_header(&format!("{place}.http.headers.{name}"), name, value, errors);
    }
    if !tool.parameters.is_object() {
        errors.push(wrong(format!("{place}.parameters"), "is not a JSON Schema object"));
    }
}

fn check_header(place: &str, name: &str, value: &str, errors: &mut Vec<DefinitionError>) {
    let token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if name.is_empty() || !name.bytes().all(token) {
        errors.push(wrong(place, "is not a header name"));
    }
    if value.bytes().any(|b| (b < 0x20 && b != b'\t') || b >= 0x7f) {
        errors.push(wrong(place, "has characters that a header may not have"));
    }
    let ours = [
        "authorization",
        "content-length",
        "content-type",
        "host",
        "idempotency-key",
        "connection",
        "keep-alive",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let lower = name.to_ascii_lowercase();
    if ours.contains(&lower.as_str()) || lower.starts_with("x-holdpoint-") {
        errors
            .push(wrong(place, "is set by Holdpoint or by the connection; a credential goes into `secret`"));
    }
}

fn check_url(place: &str, url: &str, errors: &mut Vec<DefinitionError>) {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or("");
    if authority.is_empty() || url.bytes().any(|b| b <= 0x20 || b == 0x7f) {
        errors.push(wrong(place, format!("`{url}` is not an http or https URL")));
    } else if authority.contains('@') {
        errors.push(wrong(place, "holds a user or password: name a secret instead"));
    }
}

fn check_secret(place: &str, secret: Option<&str>, errors: &mut Vec<DefinitionError>) {
    if let Some(Err(message)) = secret.map(check_name) {
        errors.push(wrong(place, message));
    }
}

fn check_retry(place: &str, retry: Retry, errors: &mut Vec<DefinitionError>) {
    if !(1..=20).contains(&retry.tries) {
        errors.push(wrong(format!("{place}.tries"), format!("is {}: it may be 1 to 20", retry.tries)));
    }
}

fn check_timeout(place: &str, timeout: Span, errors: &mut Vec<DefinitionError>) {
    if timeout.0.is_zero() {
        errors.push(wrong(place, "is 0: it must be longer"));
    }
}

/// Makes an agent ready: schemas compiled, the model's `tools` written once.
pub fn compile_agent(agent: Agent, version: i32) -> Result<CompiledAgent, Vec<DefinitionError>> {
    let mut errors = Vec::new();
    let mut tools = BTreeMap::new();
    for (index, tool) in agent.tools.iter().enumerate() {
        match compile_schema(&tool.parameters) {
            Ok(validator) => {
                tools.insert(tool.name.clone(), CompiledTool { tool: tool.clone(), validator });
            }
            Err(message) => errors.push(wrong(format!("tools[{index}].parameters"), message)),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    Ok(CompiledAgent { tools_json: tools_json(&agent), agent, version, tools })
}

/// The linear-time pattern engine: a tenant's pattern must not hold up a worker.
fn compile_schema(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::options()
        .with_pattern_options(jsonschema::PatternOptions::regex())
        .build(schema)
        .map_err(|error| error.to_string())
}

fn tools_json(agent: &Agent) -> Option<Box<RawValue>> {
    if agent.tools.is_empty() {
        return None;
    }
    let tools: Vec<Value> = agent
        .tools
        .iter()
        .map(|tool| {
            serde_json::json!({"type": "function", "function": {
                "name": tool.name, "description": tool.description, "parameters": tool.parameters,
            }})
        })
        .collect();
    serde_json::value::to_raw_value(&tools).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(tool.timeout, Span::secs(600));
        assert_eq!(tool.effect, EffectClass::AtMostOnce);
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

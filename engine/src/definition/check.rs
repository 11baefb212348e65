//! What a document must satisfy beyond its shape; every error names its place.

use std::collections::HashSet;

use super::{Agent, AgentTool, DefinitionError, HttpTool, McpTool, Model, Reconcile, Reference, Retry, Tool};
use crate::scope::check_name;
use crate::status::{EffectClass, ExecutionMode};
use crate::time::Span;

/// So many transfers may be named, and as many tools.
const MOST: usize = 128;

pub(super) fn wrong(place: impl Into<String>, message: impl Into<String>) -> DefinitionError {
    DefinitionError { place: place.into(), message: message.into() }
}

pub(super) fn agent_errors(agent: &Agent) -> Vec<DefinitionError> {
    let mut errors = Vec::new();
    model_errors(&agent.model, &mut errors);
    if !(1..=10_000).contains(&agent.max_turns) {
        errors.push(wrong("max_turns", format!("is {}: it may be 1 to 10000", agent.max_turns)));
    }
    if agent.max_transfers > 1_000 {
        errors.push(wrong("max_transfers", format!("is {}: it may be 0 to 1000", agent.max_transfers)));
    }
    for (place, count) in [("tools", agent.tools.len()), ("transfers", agent.transfers.len())] {
        if count > MOST {
            errors.push(wrong(place, format!("are {count}: there may be {MOST}")));
        }
    }
    for (index, tool) in agent.tools.iter().enumerate() {
        tool_errors(&format!("tools[{index}]"), tool, &mut errors);
    }
    for (place, reference) in agent.references() {
        check_reference(&place, &reference, &mut errors);
    }
    check_function_names(agent, &mut errors);
    if agent.execution_mode == Some(ExecutionMode::Classic)
        && agent.tools.iter().any(|tool| tool.approval.is_needed())
    {
        errors.push(wrong("execution_mode", "is `classic`: an agent whose tools need approval is `durable`"));
    }
    errors
}

fn model_errors(model: &Model, errors: &mut Vec<DefinitionError>) {
    check_url("model.base_url", &model.base_url, errors);
    if model.name.is_empty() {
        errors.push(wrong("model.name", "is empty: name the model"));
    }
    check_secret("model.secret", model.secret.as_deref(), errors);
    check_retry("model.retry", model.retry, errors);
    check_timeout("model.timeout", model.timeout, errors);
    for name in ["model", "messages", "tools", "stream", "stream_options", "n"] {
        if model.parameters.contains_key(name) {
            errors.push(wrong(format!("model.parameters.{name}"), "is set by Holdpoint; leave it out"));
        }
    }
    let Some(prices) = model.prices else { return };
    for (field, price) in [("input", prices.input_per_million), ("output", prices.output_per_million)] {
        if !(0.0..=1e9).contains(&price) {
            let place = format!("model.prices.{field}_per_million");
            errors.push(wrong(place, format!("is {price}: it may be 0 to 1000000000")));
        }
    }
}

/// What the model sees must be told apart: tools, the tools of MCP servers, transfers.
fn check_function_names(agent: &Agent, errors: &mut Vec<DefinitionError>) {
    let tools = agent.tools.iter().map(|tool| tool.name.clone());
    let transfers = agent.transfers.iter().map(super::Transfer::tool_name);
    let places = (0..agent.tools.len())
        .map(|index| format!("tools[{index}].name"))
        .chain((0..agent.transfers.len()).map(|index| format!("transfers[{index}].agent")));
    let servers: Vec<String> =
        agent.tools.iter().filter(|tool| tool.mcp.is_some()).map(|tool| format!("{}__", tool.name)).collect();
    let mut names = HashSet::new();
    for (place, name) in places.zip(tools.chain(transfers)) {
        if !is_function_name(&name) {
            let message = format!("`{name}` may be 1 to 64 letters, digits, `_` or `-`");
            errors.push(wrong(&place, message));
        }
        if let Some(prefix) = servers.iter().find(|prefix| name.starts_with(*prefix)) {
            let message = format!("`{name}`: names that begin with `{prefix}` are those of an MCP server");
            errors.push(wrong(&place, message));
        }
        if !names.insert(name.clone()) {
            errors.push(wrong(&place, format!("`{name}` stands twice")));
        }
    }
}

/// OpenAI's rule for function names, which other servers share.
pub(crate) fn is_function_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    !name.is_empty() && name.len() <= 64 && name.bytes().all(plain)
}

fn check_reference(place: &str, reference: &Reference, errors: &mut Vec<DefinitionError>) {
    if let Err(message) = check_name(&reference.agent) {
        errors.push(wrong(place, message));
    }
    if let Some(version) = reference.version.filter(|version| *version < 1) {
        let parent = place.rsplit_once('.').map_or(place, |(parent, _)| parent);
        errors.push(wrong(format!("{parent}.version"), format!("is {version}: it may be 1 and up")));
    }
}

fn tool_errors(place: &str, tool: &Tool, errors: &mut Vec<DefinitionError>) {
    check_retry(&format!("{place}.retry"), tool.retry, errors);
    if let Some(timeout) = tool.timeout {
        check_timeout(&format!("{place}.timeout"), timeout, errors);
    }
    errors.extend(tool.approval.errors(&format!("{place}.approval")));
    if tool.parameters.as_ref().is_some_and(|parameters| !parameters.is_object()) {
        errors.push(wrong(format!("{place}.parameters"), "is not a JSON Schema object"));
    }
    check_kind(place, tool, errors);
    if let Some(reconcile) = &tool.reconcile {
        reconcile_errors(&format!("{place}.reconcile"), tool, reconcile, errors);
    }
    if let Some(http) = &tool.http {
        http_errors(&format!("{place}.http"), http, errors);
    }
    if let Some(mcp) = &tool.mcp {
        mcp_errors(place, tool, mcp, errors);
    }
    if let Some(agent) = &tool.agent {
        delegation_errors(place, tool, agent, errors);
    }
}

fn check_kind(place: &str, tool: &Tool, errors: &mut Vec<DefinitionError>) {
    let given = [("http", tool.http.is_some()), ("mcp", tool.mcp.is_some()), ("agent", tool.agent.is_some())];
    let names: Vec<String> =
        given.iter().filter(|(_, given)| *given).map(|(name, _)| format!("`{name}`")).collect();
    match names.len() {
        0 => errors.push(wrong(place, "has no kind: one of `http`, `mcp` and `agent` must be there")),
        1 => {}
        _ => errors.push(wrong(
            place,
            format!("has {}: exactly one of `http`, `mcp` and `agent` may be there", names.join(" and ")),
        )),
    }
}

fn http_errors(place: &str, http: &HttpTool, errors: &mut Vec<DefinitionError>) {
    check_url(&format!("{place}.url"), &http.url, errors);
    check_secret(&format!("{place}.secret"), http.secret.as_deref(), errors);
    for (name, value) in &http.headers {
        check_header(&format!("{place}.headers.{name}"), name, value, errors);
    }
    let sent = Sent { names: http.headers.keys().collect(), secret: http.secret.is_some() };
    check_forwarded(place, &http.forwarded_headers, &sent, errors);
}

fn reconcile_errors(place: &str, tool: &Tool, reconcile: &Reconcile, errors: &mut Vec<DefinitionError>) {
    if tool.http.is_none() {
        errors.push(wrong(place, "is for tools of kind `http`"));
    }
    if tool.class() != EffectClass::AtMostOnce {
        errors.push(wrong(
            place,
            format!("is for `at_most_once`: a call that is `{}` is repeated", tool.class()),
        ));
    }
    check_url(&format!("{place}.url"), &reconcile.url, errors);
    check_secret(&format!("{place}.secret"), reconcile.secret.as_deref(), errors);
    for (name, value) in &reconcile.headers {
        check_header(&format!("{place}.headers.{name}"), name, value, errors);
    }
    check_retry(place, reconcile.questions(), errors);
}

fn mcp_errors(place: &str, tool: &Tool, mcp: &McpTool, errors: &mut Vec<DefinitionError>) {
    for (field, given) in
        [("parameters", tool.parameters.is_some()), ("description", !tool.description.is_empty())]
    {
        if given {
            errors.push(wrong(format!("{place}.{field}"), "comes from the MCP server: leave it out"));
        }
    }
    let place = format!("{place}.mcp");
    check_url(&format!("{place}.url"), &mcp.url, errors);
    check_secret(&format!("{place}.secret"), mcp.secret.as_deref(), errors);
    for (name, value) in &mcp.headers {
        check_header(&format!("{place}.headers.{name}"), name, value, errors);
    }
    let sent = Sent { names: mcp.headers.keys().collect(), secret: mcp.secret.is_some() };
    check_forwarded(&place, &mcp.forwarded_headers, &sent, errors);
    if mcp.tools.as_ref().is_some_and(|tools| tools.is_empty() || tools.iter().any(String::is_empty)) {
        errors.push(wrong(format!("{place}.tools"), "names nothing: leave it out for all tools"));
    }
    let hex =
        |digest: &String| digest.len() == 64 && digest.bytes().all(|b| b"0123456789abcdef".contains(&b));
    if mcp.digest.as_ref().is_some_and(|digest| !hex(digest)) {
        errors.push(wrong(format!("{place}.digest"), "is not a SHA-256 in hex: 64 of `0-9 a-f`"));
    }
}

fn delegation_errors(place: &str, tool: &Tool, agent: &AgentTool, errors: &mut Vec<DefinitionError>) {
    let name = &agent.name;
    if tool.timeout.is_some() {
        let message =
            format!("does not apply: an execution of `{name}` has the limits of its own definition");
        errors.push(wrong(format!("{place}.timeout"), message));
    }
    if tool.effect.is_some_and(|effect| effect != EffectClass::Idempotent) {
        errors.push(wrong(format!("{place}.effect"), "a delegation is `idempotent`: leave it out"));
    }
}

/// What a tool sends in any case.
struct Sent<'a> {
    names: Vec<&'a String>,
    secret: bool,
}

/// Names that a request may fill. A credential may be listed on purpose; what belongs to
/// the connection or is set by Holdpoint may not.
fn check_forwarded(place: &str, listed: &[String], sent: &Sent<'_>, errors: &mut Vec<DefinitionError>) {
    let mut seen = HashSet::new();
    for (index, name) in listed.iter().enumerate() {
        let place = format!("{place}.forwarded_headers[{index}]");
        let lower = name.to_ascii_lowercase();
        if !is_header_name(name) {
            errors.push(wrong(place, format!("`{name}` is not a header name")));
        } else if *name != lower {
            errors.push(wrong(place, format!("`{name}`: write it in lower case")));
        } else if !may_forward(&lower) {
            errors.push(wrong(place, format!("`{name}` is set by Holdpoint or by the connection")));
        } else if lower == "authorization" && sent.secret {
            errors.push(wrong(place, "`authorization` is sent with `secret` already"));
        } else if sent.names.iter().any(|fixed| fixed.eq_ignore_ascii_case(&lower)) {
            errors.push(wrong(place, format!("`{name}` stands in `headers` already")));
        } else if !seen.insert(lower) {
            errors.push(wrong(place, format!("`{name}` stands twice")));
        }
    }
}

/// Whether a request's header of that name (in lower case) may be passed on to a tool.
pub fn may_forward(lower: &str) -> bool {
    let credential = matches!(lower, "authorization" | "cookie");
    credential || !(OURS.contains(&lower) || lower.starts_with("x-holdpoint-"))
}

/// Headers that Holdpoint sets, or that belong to one connection.
const OURS: [&str; 17] = [
    // What a tool would answer in a coding that we do not read.
    "accept-encoding",
    "authorization",
    "content-encoding",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "expect",
];

/// Whether the text is a header's name (RFC 9110, a token).
pub fn is_header_name(name: &str) -> bool {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.bytes().all(is_token)
}

fn check_header(place: &str, name: &str, value: &str, errors: &mut Vec<DefinitionError>) {
    if !is_header_name(name) {
        errors.push(wrong(place, "is not a header name"));
    }
    if value.bytes().any(|b| (b < 0x20 && b != b'\t') || b >= 0x7f) {
        errors.push(wrong(place, "has characters that a header may not have"));
    }
    let lower = name.to_ascii_lowercase();
    if OURS.contains(&lower.as_str()) || lower.starts_with("x-holdpoint-") {
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

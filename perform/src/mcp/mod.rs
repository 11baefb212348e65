//! Tools of MCP servers, by streamable HTTP. Each listing and each call is a session of its
//! own: it begins, lists, calls, ends. A call is made only where the list that was just read is
//! the one that the call was asked for under; otherwise the list is the answer.
//!
//! Not carried: what a server may ask of its client (sampling, elicitation, roots) and what it
//! tells meanwhile (progress, logs). No such capability is offered to it.

mod request;
mod transport;

use std::sync::Arc;

use holdpoint_engine::effect::{Input, ListEffect, McpEffect, McpServer};
use holdpoint_engine::entry::Json;
use holdpoint_engine::mcp::{ListedTool, chosen, list_digest};
use holdpoint_engine::status::ErrorType;
use reqwest::Url;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, Implementation,
    InitializeRequestParams, PaginatedRequestParams, Tool,
};
use rmcp::service::{RoleClient, RunningService, ServiceError, ServiceExt};
use rmcp::transport::streamable_http_client::{
    StreamableHttpClientTransport, StreamableHttpClientTransportConfig,
};

pub(crate) use self::request::request;
use self::transport::{Call, Connection, headers};
use crate::secrets::Hidden;
use crate::{Fault, Origin, Performer};

/// Pages of a list that are read at most.
const PAGES: usize = 64;

/// A session with a server.
struct Session {
    running: RunningService<RoleClient, InitializeRequestParams>,
    connection: Connection,
}

pub(crate) async fn list(performer: &Performer, effect: ListEffect, origin: &Origin) -> Result<Input, Fault> {
    let (session, hidden) = begin(performer, &effect.server, None, origin).await?;
    let listed = session.list(&effect.server).await.map_err(|fault| hidden.out_of_fault(fault));
    session.end();
    Ok(Input::Listed { step: effect.step, tools: without(&hidden, listed?) })
}

pub(crate) async fn call(performer: &Performer, effect: McpEffect, origin: &Origin) -> Result<Input, Fault> {
    let arguments = effect.arguments.clone();
    let with = Call::of(arguments, &effect.key, &effect.tool_call_id, effect.attempt, origin);
    let (session, hidden) = begin(performer, &effect.server, Some(with), origin).await?;
    let came = call_in(&session, &effect, &hidden, performer.value_bytes).await;
    session.end();
    came.map_err(|fault| hidden.out_of_fault(fault))
}

async fn call_in(
    session: &Session,
    effect: &McpEffect,
    hidden: &Hidden,
    limit: usize,
) -> Result<Input, Fault> {
    let tools = without(hidden, session.list(&effect.server).await?);
    if list_digest(&tools) != effect.expected {
        return Ok(Input::Listed { step: effect.step, tools });
    }
    let result = session.call(effect).await?;
    let output = output(result, hidden, limit)?;
    Ok(Input::Returned { step: effect.step, output })
}

async fn begin(
    performer: &Performer,
    server: &McpServer,
    call: Option<Call>,
    origin: &Origin,
) -> Result<(Session, Hidden), Fault> {
    let secret = performer.secrets.find(&origin.key.scope.tenant, server.secret.as_deref())?;
    let url = Url::parse(&server.url)
        .map_err(|error| Fault::definite(ErrorType::Logic, format!("the MCP server's url: {error}")))?;
    performer
        .guard
        .check_literal(&url)
        .map_err(|refused| Fault::definite(ErrorType::Permission, format!("the MCP server: {refused}")))?;
    let forwarded = performer.forwarded(&server.forwarded_headers, origin)?;
    let hidden = Hidden::of(secret).and_headers(&forwarded);
    let headers = headers(&server.headers, secret, forwarded)?;
    let session = Session::begin(Connection::new(performer, headers, call), &server.url).await;
    Ok((session.map_err(|fault| hidden.out_of_fault(fault))?, hidden))
}

/// Descriptions that hold what is hidden (a server may echo a header there) are journaled
/// without it, and so the digest is over what is journaled.
fn without(hidden: &Hidden, tools: Vec<ListedTool>) -> Vec<ListedTool> {
    let text = serde_json::to_string(&tools).map(|text| hidden.out_of(text)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or(tools)
}

impl Session {
    async fn begin(connection: Connection, url: &str) -> Result<Self, Fault> {
        let mut config = StreamableHttpClientTransportConfig::with_uri(url);
        // A session that the server forgot is a failed attempt, which our own rules judge.
        config.reinit_on_expired_session = false;
        let transport = StreamableHttpClientTransport::with_client(connection.clone(), config);
        let us = Implementation::new("holdpoint", env!("CARGO_PKG_VERSION"));
        let running = InitializeRequestParams::new(ClientCapabilities::default(), us)
            .serve(transport)
            .await
            .map_err(|error| connection.fault(&error))?;
        Ok(Self { running, connection })
    }

    async fn list(&self, server: &McpServer) -> Result<Vec<ListedTool>, Fault> {
        let mut tools = Vec::new();
        let mut cursor = None;
        for _ in 0..PAGES {
            let mut page = PaginatedRequestParams::default();
            page.cursor = cursor;
            let listed = self.running.list_tools(Some(page)).await;
            let listed = listed.map_err(|error| self.fault("tools/list", &error))?;
            tools.extend(listed.tools.into_iter().map(as_listed));
            cursor = listed.next_cursor;
            if cursor.is_none() {
                return Ok(chosen(tools, server.only.as_deref()));
            }
        }
        Err(Fault::definite(ErrorType::Logic, format!("the MCP server's list has more than {PAGES} pages")))
    }

    async fn call(&self, effect: &McpEffect) -> Result<CallToolResult, Fault> {
        let mut params = CallToolRequestParams::new(effect.name.clone());
        params.arguments = serde_json::from_str(&effect.arguments).ok();
        match self.running.call_tool_once(params).await {
            Ok(CallToolResponse::Complete(result)) => Ok(result),
            Ok(CallToolResponse::InputRequired(_)) => {
                let message = "the MCP server asks for more input, which is not carried";
                Err(Fault::definite(ErrorType::Logic, message))
            }
            Ok(_) => {
                let message = "the MCP server answered by a task, which is not carried";
                Err(Fault::unknown(ErrorType::Logic, message))
            }
            Err(error) => Err(self.fault("tools/call", &error)),
        }
    }

    /// An error in the protocol's own words is the server's answer: it did not do it.
    fn fault(&self, method: &str, error: &ServiceError) -> Fault {
        match error {
            ServiceError::McpError(error) => Fault::definite(
                ErrorType::Logic,
                format!("the MCP server refused {method}: {}", error.message),
            ),
            other => self.connection.fault(other),
        }
    }

    /// The server is told in the background: nobody waits for it.
    fn end(self) {
        tokio::spawn(async move {
            // What came of it is known; a server that does not hear of the end forgets by itself.
            let _ = self.running.cancel().await;
        });
    }
}

fn as_listed(tool: Tool) -> ListedTool {
    ListedTool {
        name: tool.name.into_owned(),
        description: tool.description.map(|text| text.into_owned()).unwrap_or_default(),
        input_schema: serde_json::Value::Object(Arc::unwrap_or_clone(tool.input_schema)),
    }
}

/// What the server structured, else its texts, else all that it answered.
fn output(result: CallToolResult, hidden: &Hidden, limit: usize) -> Result<Json, Fault> {
    if result.is_error == Some(true) {
        return Err(Fault::definite(ErrorType::Logic, said(&result, hidden)));
    }
    let value = match (&result.structured_content, texts(&result)) {
        (Some(structured), _) => serde_json::to_string(structured),
        (None, Some(texts)) => serde_json::to_string(&texts),
        (None, None) => serde_json::to_string(&result),
    };
    let text = hidden.out_of(value.unwrap_or_default());
    if text.len() > limit {
        let message = format!("the tool's output is longer than the limit value_bytes, which is {limit}");
        return Err(Fault::definite(ErrorType::Logic, message));
    }
    serde_json::from_str(&text).map_err(|error| {
        Fault::definite(ErrorType::Logic, format!("the tool's output makes no sense: {error}"))
    })
}

/// Its texts, where it has nothing else.
fn texts(result: &CallToolResult) -> Option<String> {
    let texts: Option<Vec<&str>> =
        result.content.iter().map(|part| part.as_text().map(|text| text.text.as_str())).collect();
    texts.filter(|texts| !texts.is_empty()).map(|texts| texts.join("\n"))
}

/// What a tool says of its failure.
fn said(result: &CallToolResult, hidden: &Hidden) -> String {
    let said: String = hidden.out_of(texts(result).unwrap_or_default()).chars().take(500).collect();
    if said.is_empty() { "the tool failed".to_owned() } else { format!("the tool failed: {said}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn mapped(result: Value) -> Result<String, String> {
        let result: CallToolResult = serde_json::from_value(result).expect("a result");
        let hidden = Hidden::of(Some("sesame-street"));
        output(result, &hidden, 200).map(|json| json.get().to_owned()).map_err(|fault| fault.failure.message)
    }

    #[test]
    fn a_result_is_what_was_structured_else_its_texts_else_all_of_it() {
        let text = |text: &str| json!({"type": "text", "text": text});
        let both = json!({"content": [text("5")], "structuredContent": {"sum": 5}});
        assert_eq!(mapped(both), Ok("{\"sum\":5}".to_owned()));
        assert_eq!(mapped(json!({"content": [text("a"), text("b")]})), Ok("\"a\\nb\"".to_owned()));
        let image =
            json!({"content": [text("a"), {"type": "image", "data": "aGk=", "mimeType": "image/png"}]});
        assert!(mapped(image).expect("all of it").contains("image/png"));
        assert!(mapped(json!({"content": []})).expect("nothing").contains("content"));
    }

    #[test]
    fn an_error_of_the_tool_is_told_and_secrets_are_not() {
        let failed =
            json!({"content": [{"type": "text", "text": "no sesame-street today"}], "isError": true});
        assert_eq!(mapped(failed), Err("the tool failed: no [secret] today".to_owned()));
        let echo = json!({"content": [], "structuredContent": ["sesame-street"]});
        assert_eq!(mapped(echo), Ok("[\"[secret]\"]".to_owned()));
        let long = json!({"content": [{"type": "text", "text": "x".repeat(300)}]});
        assert!(mapped(long).expect_err("long").contains("value_bytes"));
    }
}

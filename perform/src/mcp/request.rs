//! `call: mcp` of a workflow: one method of a server, and its result as it is.

use holdpoint_engine::effect::{Certainty, Input, McpRequestEffect};
use holdpoint_engine::entry::Json;
use holdpoint_engine::status::{ErrorType, Reason};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, GetPromptRequestParams, GetPromptResponse,
    PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::transport::{Call, Connection};
use super::{Session, said};
use crate::calls::{Access, Deadline, header_map, reachable};
use crate::secrets::Hidden;
use crate::{Fault, Origin, Performer};

/// What changes something, so that a lost answer leaves a doubt.
const CALL: &str = "tools/call";

pub(crate) async fn request(
    performer: &Performer,
    effect: McpRequestEffect,
    origin: &Origin,
) -> Result<Input, Fault> {
    let (is_call, timeout) = (effect.method == CALL, effect.timeout);
    let done = tokio::time::timeout(timeout, answered(performer, &effect, origin)).await;
    let done = done.unwrap_or_else(|_| {
        let message = format!("the MCP server did not answer within {} s", timeout.as_secs_f64());
        Err(Fault::unknown(ErrorType::Timeout, message))
    });
    // Whatever only reads may be done again; an answer that is too long came of what was done.
    let certainty = |fault: Fault| match (is_call, fault.failure.reason) {
        (false, _) => Fault { certainty: Certainty::Definite, ..fault },
        (true, Some(Reason::Limit)) => fault.not_definite(),
        (true, _) => fault,
    };
    Ok(Input::Returned { step: effect.step, output: done.map_err(certainty)? })
}

/// A token that an earlier call left is fetched again, once, where the server refuses it.
async fn answered(performer: &Performer, effect: &McpRequestEffect, origin: &Origin) -> Result<Json, Fault> {
    let deadline = Deadline::after(effect.timeout);
    reachable(performer, &effect.url)?;
    let tenant = &origin.key.scope.tenant;
    let mut access = performer.access(tenant, effect.credentials.as_ref(), deadline).await?;
    let first = once(performer, effect, origin, &access).await;
    let refused =
        |fault: &Fault| fault.failure.kind == ErrorType::Auth && fault.certainty == Certainty::Definite;
    match first {
        Err(fault) if refused(&fault) && access.kept.is_some() => {
            access = performer.renewed(access, deadline).await?.unwrap_or_else(|same| same);
            once(performer, effect, origin, &access).await
        }
        came => came,
    }
}

async fn once(
    performer: &Performer,
    effect: &McpRequestEffect,
    origin: &Origin,
    access: &Access,
) -> Result<Json, Fault> {
    let mut headers: HeaderMap = header_map(&effect.headers)?;
    if let Some(header) = &access.header {
        headers.insert(AUTHORIZATION, header.clone());
    }
    let arguments = effect.parameters.get("arguments").filter(|_| effect.method == CALL);
    let arguments = arguments.map_or_else(|| "{}".to_owned(), Value::to_string);
    let call = Call::of(arguments, &effect.key, &effect.tool_call_id, effect.attempt, origin);
    let connection = Connection::new(performer, headers, Some(call));
    let began = Session::begin(connection, &effect.url).await;
    let session = began.map_err(|fault| access.hidden.out_of_fault(fault))?;
    let came = session.perform(effect, &access.hidden, performer.value_bytes).await;
    session.end();
    came.map_err(|fault| access.hidden.out_of_fault(fault))
}

impl Session {
    async fn perform(&self, effect: &McpRequestEffect, hidden: &Hidden, limit: usize) -> Result<Json, Fault> {
        let (running, method) = (&self.running, &*effect.method);
        let fault = |error| self.fault(method, &error);
        let page = || parameters::<Option<PaginatedRequestParams>>(effect);
        let out = Out { hidden, limit };
        match method {
            CALL => {
                let mut params: CallToolRequestParams = parameters(effect)?;
                params.arguments.get_or_insert_default();
                match running.call_tool_once(params).await.map_err(fault)? {
                    CallToolResponse::Complete(result) => out.of(&succeeded(result, hidden)?),
                    CallToolResponse::InputRequired(_) => Err(asks()),
                    _ => {
                        let message = "the MCP server answered by a task, which is not carried";
                        Err(Fault::unknown(ErrorType::Logic, message))
                    }
                }
            }
            "prompts/get" => {
                let params: GetPromptRequestParams = parameters(effect)?;
                match running.get_prompt_once(params).await.map_err(fault)? {
                    GetPromptResponse::Complete(result) => out.of(&result),
                    _ => Err(asks()),
                }
            }
            "resources/read" => {
                let params: ReadResourceRequestParams = parameters(effect)?;
                match running.read_resource_once(params).await.map_err(fault)? {
                    ReadResourceResponse::Complete(result) => out.of(&result),
                    _ => Err(asks()),
                }
            }
            "tools/list" => out.of(&running.list_tools(page()?).await.map_err(fault)?),
            "prompts/list" => out.of(&running.list_prompts(page()?).await.map_err(fault)?),
            "resources/list" => out.of(&running.list_resources(page()?).await.map_err(fault)?),
            "resources/templates/list" => {
                out.of(&running.list_resource_templates(page()?).await.map_err(fault)?)
            }
            other => {
                Err(Fault::definite(ErrorType::Logic, format!("`{other}` is no method that is carried")))
            }
        }
    }
}

fn asks() -> Fault {
    Fault::definite(ErrorType::Logic, "the MCP server asks for more input, which is not carried")
}

fn parameters<T: DeserializeOwned>(effect: &McpRequestEffect) -> Result<T, Fault> {
    serde_json::from_value(effect.parameters.clone()).map_err(|error| {
        Fault::definite(ErrorType::Logic, format!("the parameters of {}: {error}", effect.method))
    })
}

/// A tool says by its result that it failed.
fn succeeded(result: CallToolResult, hidden: &Hidden) -> Result<CallToolResult, Fault> {
    if result.is_error == Some(true) {
        return Err(Fault::definite(ErrorType::Logic, said(&result, hidden)));
    }
    Ok(result)
}

/// How a result leaves.
struct Out<'h> {
    hidden: &'h Hidden,
    limit: usize,
}

impl Out<'_> {
    fn of<T: Serialize>(&self, result: &T) -> Result<Json, Fault> {
        let wrong = |message: String| Fault::unknown(ErrorType::Logic, message);
        let text = serde_json::to_string(result).map_err(|error| wrong(error.to_string()))?;
        let (text, limit) = (self.hidden.out_of(text), self.limit);
        if text.len() > limit {
            let message = format!("the result is longer than the limit value_bytes, which is {limit}");
            return Err(Fault::limit(message).not_definite());
        }
        serde_json::from_str(&text).map_err(|error| wrong(format!("the result makes no sense: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::stub::{Came, Stub, came_of, performer};
    use axum::http::StatusCode;
    use axum::response::{IntoResponse, Response};
    use holdpoint_engine::effect::{Credential, Credentials, Effect};
    use holdpoint_engine::status::EffectClass;
    use serde_json::json;
    use std::time::Duration;

    /// A server in the protocol's words: one tool that adds, and one that fails.
    fn answer(came: &Came) -> Response {
        if came.header("authorization") != "Bearer sesame-street" {
            return StatusCode::UNAUTHORIZED.into_response();
        }
        let message: Value = serde_json::from_str(&came.body).unwrap_or_default();
        let params = &message["params"];
        let text = |text: String| json!({"content": [{"type": "text", "text": text}]});
        let result = match (message["method"].as_str().unwrap_or_default(), params["name"].as_str()) {
            ("initialize", _) => json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "stub", "version": "1"}
            }),
            ("tools/list", _) => json!({"tools": [{"name": "add", "inputSchema": {"type": "object"}}]}),
            ("tools/call", Some("add")) => text(format!("{} sesame-street", params["arguments"])),
            ("tools/call", _) => {
                json!({"content": [{"type": "text", "text": "no money"}], "isError": true})
            }
            ("resources/read", _) => json!({"contents": [{"uri": params["uri"], "text": "hello"}]}),
            ("prompts/get", _) => {
                let error = json!({"code": -32602, "message": "no such prompt"});
                return axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "error": error}))
                    .into_response();
            }
            _ => return StatusCode::ACCEPTED.into_response(),
        };
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
    }

    fn effect(stub: &Stub, method: &str, parameters: Value) -> Effect {
        Effect::McpRequest(Box::new(McpRequestEffect {
            step: 1,
            attempt: 1,
            tool_call_id: "call_1".to_owned(),
            class: EffectClass::AtMostOnce,
            url: format!("{}/mcp", stub.url),
            headers: vec![("x-mine".into(), "7".into())],
            credentials: Some(Credentials::Bearer(Credential::Secret("token".into()))),
            method: method.to_owned(),
            parameters,
            key: "key-1".to_owned(),
            timeout: Duration::from_secs(20),
        }))
    }

    #[tokio::test]
    async fn methods_answer_with_the_result_itself() {
        let stub = Stub::start(answer).await;
        let performer = performer(&[("token", "sesame-street".to_owned())]);
        let of = async |method: &str, parameters| {
            let came = came_of(&performer, effect(&stub, method, parameters)).await;
            came.map(|output| serde_json::from_str::<Value>(&output).expect("JSON"))
        };
        let added = of("tools/call", json!({"name": "add", "arguments": {"a": 1, "b": 2}})).await;
        let text = &added.expect("a result")["content"][0]["text"];
        assert_eq!(*text, "{\"a\":1,\"b\":2} [secret]");
        let listed = of("tools/list", Value::Null).await.expect("a result");
        assert_eq!(listed["tools"][0]["name"], "add");
        let read = of("resources/read", json!({"uri": "a:b"})).await.expect("a result");
        assert_eq!(read["contents"][0]["text"], "hello");
        let calls = stub.came("/mcp");
        let call = calls.iter().find(|came| came.body.contains("tools/call")).expect("a call");
        assert_eq!((call.header("idempotency-key"), call.header("x-mine")), ("key-1", "7"));
    }

    #[tokio::test]
    async fn refusals_are_told_and_definite() {
        let stub = Stub::start(answer).await;
        let performer =
            performer(&[("token", "sesame-street".to_owned()), ("other", "wrong-one".to_owned())]);
        let failed = async |effect: Effect| match came_of(&performer, effect).await {
            Err(Input::Failed { failure, certainty: Certainty::Definite, .. }) => {
                (failure.kind, failure.message)
            }
            other => panic!("{other:?}"),
        };
        let logic = ErrorType::Logic;
        for (method, parameters, what) in [
            ("tools/call", json!({"name": "pay"}), "no money"),
            ("tools/call", json!({}), "tools/call"),
            ("prompts/get", json!({"name": "x"}), "no such prompt"),
            ("tools/burn", json!({}), "tools/burn"),
        ] {
            let (kind, message) = failed(effect(&stub, method, parameters)).await;
            assert!(kind == logic && message.contains(what), "{message}");
        }
        let Effect::McpRequest(mut other) = effect(&stub, "tools/list", json!({})) else { return };
        other.credentials = Some(Credentials::Bearer(Credential::Secret("other".into())));
        assert_eq!(failed(Effect::McpRequest(other)).await.0, ErrorType::Auth);
    }
}

//! The scripted model's HTTP face: `POST /v1/chat/completions`, always streamed, in the
//! chunks that OpenAI's servers send.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::script::{Turn, turn};

/// Streams the answer to a transcript, pausing between its words.
pub async fn complete(State(typing): State<Duration>, Json(request): Json<Value>) -> impl IntoResponse {
    let said = turn(&request);
    let lines = chunks(&request, &said);
    // Nobody watches where there is no pause: everything goes in one piece.
    let pieces: Vec<Bytes> = if typing.is_zero() {
        vec![lines.concat().into()]
    } else {
        lines.into_iter().map(Bytes::from).collect()
    };
    let typed = stream::iter(pieces).then(move |piece| async move {
        if !typing.is_zero() {
            tokio::time::sleep(typing).await;
        }
        Ok::<_, Infallible>(piece)
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(typed))
}

fn chunks(request: &Value, said: &Turn) -> Vec<String> {
    let mut deltas = vec![json!({"role": "assistant"})];
    deltas.extend(said.text.split_inclusive(' ').map(|word| json!({"content": word})));
    if let Some(call) = &said.call {
        deltas.push(json!({"tool_calls": [{"index": 0, "id": call.id, "type": "function",
            "function": {"name": call.name, "arguments": call.arguments.to_string()}}]}));
    }
    let reason = if said.call.is_some() { "tool_calls" } else { "stop" };
    let choice = |delta: Value, reason: Value| json!([{"index": 0, "delta": delta, "finish_reason": reason}]);
    let mut lines: Vec<String> =
        deltas.into_iter().map(|delta| line(request, choice(delta, Value::Null), Value::Null)).collect();
    lines.push(line(request, choice(json!({}), reason.into()), Value::Null));
    lines.push(line(request, json!([]), usage(request, said)));
    lines.push("data: [DONE]\n\n".to_owned());
    lines
}

fn line(request: &Value, choices: Value, usage: Value) -> String {
    let chunk = json!({"id": "chatcmpl-scripted", "object": "chat.completion.chunk", "created": 0,
        "model": request["model"], "choices": choices, "usage": usage});
    format!("data: {chunk}\n\n")
}

/// About four characters make a token.
fn usage(request: &Value, said: &Turn) -> Value {
    let input = request["messages"].to_string().len() / 4;
    let output =
        (said.text.len() + said.call.as_ref().map_or(0, |call| call.arguments.to_string().len())) / 4;
    json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_add_up_to_the_text() {
        let request = json!({"model": "scripted", "messages": [{"role": "user", "content": "Refund order 42"}],
            "tools": [{"type": "function", "function": {"name": "lookup_order"}}]});
        let said = turn(&request);
        let lines = chunks(&request, &said);
        assert_eq!(lines.last().map(String::as_str), Some("data: [DONE]\n\n"));
        let parsed: Vec<Value> = lines[..lines.len() - 1]
            .iter()
            .map(|line| serde_json::from_str(line.trim_start_matches("data: ")).expect("JSON"))
            .collect();
        let text: String =
            parsed.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(text, said.text);
        let call = parsed
            .iter()
            .find_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"][0]["function"]["name"].as_str());
        assert_eq!(call, Some("lookup_order"));
        assert!(parsed.last().expect("usage")["usage"]["completion_tokens"].as_u64() > Some(0));
    }
}

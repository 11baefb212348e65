//! A model call: OpenAI-compatible chat completions, streamed. Text and reasoning leave in
//! pieces (by 50 ms or 4 KiB) while they come; the whole answer at the end.

use std::time::Duration;

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use holdpoint_engine::effect::{AskedCall, Input, ModelAnswer, ModelEffect};
use holdpoint_engine::status::ErrorType;
use reqwest::{Response, Url};
use serde::Deserialize;
use tokio::time::Instant;

use crate::secrets::Hidden;
use crate::{Fault, Origin, Performer, retry_after, traced, transport_fault};

const PIECE_BYTES: usize = 4 * 1024;
const PIECE_TIME: Duration = Duration::from_millis(50);

pub(crate) async fn call(
    performer: &Performer,
    effect: ModelEffect,
    origin: &Origin,
) -> Result<Input, Fault> {
    let secret = performer.secrets.find(&origin.key.scope.tenant, effect.secret.as_deref())?;
    let answer = ask(performer, &effect, origin, secret)
        .await
        .map_err(|fault| Hidden::of(secret).out_of_fault(fault))?;
    Ok(Input::Answered { step: effect.step, answer })
}

async fn ask(
    performer: &Performer,
    effect: &ModelEffect,
    origin: &Origin,
    secret: Option<&str>,
) -> Result<ModelAnswer, Fault> {
    let url = Url::parse(&format!("{}/chat/completions", effect.base_url.trim_end_matches('/')))
        .map_err(|error| Fault::definite(ErrorType::Logic, format!("model.base_url: {error}")))?;
    performer
        .guard
        .check_literal(&url)
        .map_err(|refused| Fault::definite(ErrorType::Permission, format!("the model: {refused}")))?;
    let mut request = traced(performer.client.post(url))
        .header("content-type", "application/json")
        .header("accept", "text/event-stream, application/json")
        .body(effect.body.clone());
    if let Some(secret) = secret {
        request = request.bearer_auth(secret);
    }
    let response = request.send().await.map_err(|error| transport_fault(&error, "the model"))?;
    if let Some(kind) = ErrorType::of_http(response.status().as_u16()) {
        return Err(refused(kind, response).await);
    }
    let is_stream = content_type(&response).starts_with("text/event-stream");
    if is_stream {
        streamed(response, effect.step, origin, performer.value_bytes).await
    } else {
        whole(response).await
    }
}

fn content_type(response: &Response) -> String {
    let header = response.headers().get(reqwest::header::CONTENT_TYPE);
    header.and_then(|value| value.to_str().ok()).unwrap_or_default().to_ascii_lowercase()
}

async fn refused(kind: ErrorType, response: Response) -> Fault {
    let (status, after) = (response.status().as_u16(), retry_after(&response));
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(Ok(piece)) = pieces.next().await {
        body.extend_from_slice(&piece);
        if body.len() > PIECE_BYTES {
            break;
        }
    }
    let said: String = String::from_utf8_lossy(&body).chars().take(500).collect();
    let fault = Fault::definite(kind, format!("the model answered {status}: {said}"));
    Fault { retry_after: after, ..fault }
}

/// What the server said makes no sense: as likely a broken proxy as a broken server, so
/// it is tried again like a broken connection.
fn nonsense(detail: impl std::fmt::Display) -> Fault {
    Fault::unknown(ErrorType::Network, format!("the model's answer makes no sense: {detail}"))
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<TokenUsage>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "message")]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    /// Not OpenAI's; servers of open models send it under one of two names, or under both.
    #[serde(default)]
    reasoning_content: Option<Reasoning>,
    #[serde(default)]
    reasoning: Option<Reasoning>,
    #[serde(default)]
    tool_calls: Option<Vec<CallDelta>>,
}

/// Some send a structure under these names, which is passed over.
#[derive(Deserialize)]
#[serde(untagged)]
enum Reasoning {
    Text(String),
    Other(serde::de::IgnoredAny),
}

impl Delta {
    fn thought(&mut self) -> Option<String> {
        let sent = [self.reasoning_content.take(), self.reasoning.take()];
        sent.into_iter().flatten().find_map(|one| match one {
            Reasoning::Text(text) => Some(text),
            Reasoning::Other(_) => None,
        })
    }
}

#[derive(Deserialize)]
struct CallDelta {
    index: Option<usize>,
    id: Option<String>,
    function: Option<FunctionDelta>,
}

#[derive(Deserialize)]
struct FunctionDelta {
    name: Option<String>,
    arguments: Option<String>,
}

#[derive(Deserialize)]
struct TokenUsage {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

/// The answer as it grows.
#[derive(Default)]
struct Growing {
    answer: ModelAnswer,
    /// Reasoning that has not left yet.
    thought: String,
    /// Text that has not left yet.
    piece: String,
    bytes: usize,
}

impl Growing {
    fn take(&mut self, chunk: Chunk) -> Result<(), Fault> {
        if let Some(error) = chunk.error {
            return Err(Fault::unknown(ErrorType::Network, format!("the model broke off: {error}")));
        }
        if let Some(usage) = chunk.usage {
            self.answer.input_tokens = usage.prompt_tokens;
            self.answer.output_tokens = usage.completion_tokens;
        }
        let Some(mut choice) = chunk.choices.into_iter().next() else { return Ok(()) };
        if let Some(text) = choice.delta.thought() {
            self.bytes += text.len();
            self.thought.push_str(&text);
        }
        if let Some(text) = choice.delta.content {
            self.bytes += text.len();
            self.piece.push_str(&text);
            self.answer.text.push_str(&text);
        }
        for (place, call) in choice.delta.tool_calls.into_iter().flatten().enumerate() {
            self.take_call(call.index.unwrap_or(place), call)?;
        }
        if choice.finish_reason.is_some() {
            self.answer.finish_reason = choice.finish_reason;
        }
        Ok(())
    }

    /// Bytes that have not left yet.
    fn waiting(&self) -> usize {
        self.thought.len() + self.piece.len()
    }

    fn take_call(&mut self, index: usize, call: CallDelta) -> Result<(), Fault> {
        if index > 4096 {
            return Err(nonsense(format!("a tool call has the index {index}")));
        }
        let calls = &mut self.answer.tool_calls;
        if calls.len() <= index {
            calls.resize_with(index + 1, AskedCall::default);
        }
        let known = &mut calls[index];
        if let Some(id) = call.id.filter(|id| !id.is_empty()) {
            known.id = Some(id);
        }
        if let Some(function) = call.function {
            let arguments = function.arguments.unwrap_or_default();
            self.bytes += arguments.len();
            known.name.push_str(&function.name.unwrap_or_default());
            known.arguments.push_str(&arguments);
        }
        Ok(())
    }
}

async fn whole(response: Response) -> Result<ModelAnswer, Fault> {
    let body = response.bytes().await.map_err(|error| transport_fault(&error, "the model"))?;
    let chunk: Chunk = serde_json::from_slice(&body).map_err(nonsense)?;
    if chunk.choices.is_empty() && chunk.error.is_none() {
        return Err(nonsense("it has no choices"));
    }
    let mut growing = Growing::default();
    growing.take(chunk)?;
    Ok(growing.answer)
}

async fn streamed(
    response: Response,
    step: i32,
    origin: &Origin,
    limit: usize,
) -> Result<ModelAnswer, Fault> {
    let mut events = response.bytes_stream().eventsource();
    let mut growing = Growing::default();
    let mut piece_due: Option<Instant> = None;
    let mut done = false;
    while !done {
        let due = piece_due.unwrap_or_else(Instant::now);
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(event)) if event.data.trim() == "[DONE]" => done = true,
                Some(Ok(event)) => {
                    growing.take(serde_json::from_str(&event.data).map_err(nonsense)?)?;
                }
                Some(Err(error)) => {
                    return Err(Fault::unknown(ErrorType::Network, format!("the model's stream broke: {error}")));
                }
                None if growing.answer.finish_reason.is_some() => done = true,
                None => return Err(Fault::unknown(ErrorType::Network, "the model's stream ended half-way")),
            },
            () = tokio::time::sleep_until(due), if piece_due.is_some() => {
                send_piece(&mut growing, step, origin).await;
            }
        }
        // An answer beyond the limit fails the execution; the rest of it is not read.
        done |= growing.bytes > limit;
        if done || growing.waiting() >= PIECE_BYTES {
            send_piece(&mut growing, step, origin).await;
        }
        piece_due = match (growing.waiting() == 0, piece_due) {
            (true, _) => None,
            (false, None) => Some(Instant::now() + PIECE_TIME),
            (false, due) => due,
        };
    }
    Ok(growing.answer)
}

async fn send_piece(growing: &mut Growing, step: i32, origin: &Origin) {
    if growing.waiting() > 0 {
        let reasoning = std::mem::take(&mut growing.thought);
        let text = std::mem::take(&mut growing.piece);
        // Nobody listens any more where the execution ended or the lease was lost.
        let _ = origin.events.send(Input::Delta { step, reasoning, text }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(chunks: &[&str]) -> Result<ModelAnswer, Fault> {
        let mut growing = Growing::default();
        for chunk in chunks {
            growing.take(serde_json::from_str(chunk).map_err(nonsense)?)?;
        }
        Ok(growing.answer)
    }

    #[test]
    fn pieces_of_calls_are_joined_by_their_index() {
        let answer = grown(&[
            r#"{"choices":[{"delta":{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"a","function":{"name":"refund","arguments":""}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":1,"id":"b","function":{"name":"mail","arguments":"{}"}}]}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"n\":1}"}}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}"#,
        ]);
        let Ok(answer) = answer else { panic!("it makes sense") };
        assert_eq!(answer.tool_calls.len(), 2);
        assert_eq!(answer.tool_calls[0].id.as_deref(), Some("a"));
        assert_eq!(answer.tool_calls[0].arguments, "{\"n\":1}");
        assert_eq!(answer.tool_calls[1].name, "mail");
        assert_eq!((answer.input_tokens, answer.output_tokens), (5, 7));
        assert_eq!(answer.finish_reason.as_deref(), Some("tool_calls"));
    }

    #[test]
    fn reasoning_is_kept_apart_from_the_text() {
        let mut growing = Growing::default();
        for chunk in [
            r#"{"choices":[{"delta":{"reasoning_content":"let "}}]}"#,
            r#"{"choices":[{"delta":{"reasoning":"me ","reasoning_content":null}}]}"#,
            r#"{"choices":[{"delta":{"reasoning":"see","reasoning_content":"see"}}]}"#,
            r#"{"choices":[{"delta":{"reasoning":{"odd":1}}}]}"#,
            r#"{"choices":[{"delta":{"content":"42","reasoning_content":null}}]}"#,
        ] {
            assert!(growing.take(serde_json::from_str(chunk).expect("it makes sense")).is_ok());
        }
        assert_eq!((growing.thought.as_str(), growing.answer.text.as_str()), ("let me see", "42"));
        assert_eq!(growing.bytes, growing.waiting());
    }

    #[test]
    fn an_error_in_the_stream_and_a_wild_index_are_faults() {
        assert!(grown(&[r#"{"error":{"message":"overloaded"}}"#]).is_err());
        let wild = r#"{"choices":[{"delta":{"tool_calls":[{"index":99999999,"id":"a"}]}}]}"#;
        assert!(grown(&[wild]).is_err());
    }
}

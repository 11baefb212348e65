//! What these routes say of themselves. The answers are written as OpenAI's clients read
//! them; here is the part of their shape that is promised.

use schemars::JsonSchema;
use serde_json::Value;

use super::request::ChatBody;
use crate::openapi::Operation;

/// What a completion takes and answers.
pub fn doc() -> Operation {
    Operation::new(
        "chat_completion",
        "One turn of a conversation with an agent, as OpenAI's clients send it.",
    )
    .header("idempotency-key", "Up to 255 bytes. Same key and same body: the same execution.")
    .header("x-holdpoint-conversation-id", "Like `conversation_id`, for clients that cannot add to the body.")
    .body::<ChatBody>()
    .answer::<Completion>(200, "The turn's messages.")
    .with_header("x-workflow-run-id")
    .with_header("x-holdpoint-conversation-id")
    .stream("With `stream: true`: chunks, and `[DONE]`.")
    .foreign_errors::<Failed>()
    .open_query()
}

/// A chat completion.
#[derive(JsonSchema)]
#[schemars(rename = "ChatCompletion")]
#[allow(dead_code)]
struct Completion {
    id: String,
    object: String,
    /// Seconds since 1970.
    created: i64,
    /// The agent, as it was named.
    model: String,
    choices: Vec<Choice>,
    usage: serde_json::Map<String, Value>,
    conversation_id: String,
    execution_id: String,
}

#[derive(JsonSchema)]
#[schemars(rename = "ChatChoice")]
#[allow(dead_code)]
struct Choice {
    index: u32,
    finish_reason: String,
    message: serde_json::Map<String, Value>,
}

/// What is wrong, in OpenAI's shape.
#[derive(JsonSchema)]
#[schemars(rename = "ChatErrorBody")]
#[allow(dead_code)]
struct Failed {
    error: FailedError,
}

#[derive(JsonSchema)]
#[schemars(rename = "ChatError")]
#[allow(dead_code)]
struct FailedError {
    message: String,
    #[serde(rename = "type")]
    kind: String,
    param: Option<String>,
    code: String,
}

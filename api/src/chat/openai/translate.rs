//! An execution's events as parts of an assistant message: the same for a stream, which sends
//! each as a delta, and for a whole answer, which puts them together.

use holdpoint_engine::entry::{Entry, ExecutionFailed, MessageCompleted, MessageDelta, ToolCall, Usage};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::Reason;
use holdpoint_engine::strict_json;
use serde_json::{Map, Value, json};

use crate::chat::segment::goes_on_by_itself;

/// Between the texts of two of the model's answers.
const BETWEEN: &str = "\n\n";

/// One part of the message, or how it ends.
#[derive(Debug, PartialEq)]
pub enum Part {
    /// More of the text.
    Text(String),
    /// A call that the agent makes.
    Call {
        /// Its place among the message's calls.
        index: usize,
        /// The call.
        call: ToolCall,
    },
    /// What has no place in OpenAI's protocol: the name of a field beginning with
    /// `holdpoint.`, and its value.
    Own(&'static str, Value),
    /// The segment is over.
    Finished(&'static str),
}

/// Why a message cannot be ended.
#[derive(Debug)]
pub enum Broken {
    /// The execution failed.
    Failed(ExecutionFailed),
    /// Somebody ended it.
    Cancelled,
    /// Text was sent that became void.
    Restarted,
}

/// What was told so far.
#[derive(Debug)]
pub struct Translator {
    id: ExecutionId,
    /// Whether text goes out before its answer is complete.
    live: bool,
    /// Tokens of the model calls in this segment.
    pub usage: Usage,
    calls: usize,
    /// The model step whose text is being told, and the bytes of it that were.
    telling: Option<(i32, usize)>,
    any_text: bool,
}

impl Translator {
    /// For a stream (`live`), or for a whole answer.
    pub fn new(id: ExecutionId, live: bool) -> Self {
        Self { id, live, usage: Usage::default(), calls: 0, telling: None, any_text: false }
    }

    /// What an event adds to the message.
    pub fn take(&mut self, entry: Entry) -> Result<Vec<Part>, Broken> {
        Ok(match entry {
            Entry::MessageDelta(delta) if self.live => self.text(&delta),
            Entry::MessageCompleted(message) => self.completed(message),
            Entry::ModelRestarted(body) => {
                let told = self.telling.is_some_and(|(step, bytes)| step == body.step && bytes > 0);
                if told {
                    return Err(Broken::Restarted);
                }
                Vec::new()
            }
            Entry::ExecutionCompleted(_) => vec![Part::Finished("stop")],
            Entry::ExecutionSuspended(body) => {
                finish_reason(body.reason).map(Part::Finished).into_iter().collect()
            }
            Entry::ExecutionFailed(failed) => return Err(Broken::Failed(failed)),
            Entry::ExecutionCancelled(_) => return Err(Broken::Cancelled),
            other => self.own(other).into_iter().collect(),
        })
    }

    fn text(&mut self, delta: &MessageDelta) -> Vec<Part> {
        if delta.text.is_empty() {
            return Vec::new();
        }
        let told = self.telling.filter(|(step, _)| *step == delta.step).map_or(0, |(_, bytes)| bytes);
        let between = if told == 0 && self.any_text { BETWEEN } else { "" };
        self.telling = Some((delta.step, told + delta.text.len()));
        self.any_text = true;
        vec![Part::Text(format!("{between}{}", delta.text))]
    }

    /// What of the text was not told yet, then its calls.
    fn completed(&mut self, message: MessageCompleted) -> Vec<Part> {
        self.usage = self.usage.plus(message.usage);
        let told = self.telling.filter(|(step, _)| *step == message.step).map_or(0, |(_, bytes)| bytes);
        let rest = message.text.get(told..).unwrap_or_default().to_owned();
        let rest = MessageDelta { step: message.step, text: rest, ..MessageDelta::default() };
        let mut parts = self.text(&rest);
        self.telling = None;
        for call in message.tool_calls {
            let arguments = valid_json(call.arguments);
            parts.push(Part::Call { index: self.calls, call: ToolCall { arguments, ..call } });
            self.calls += 1;
        }
        parts
    }

    fn own(&self, entry: Entry) -> Option<Part> {
        let id = self.id;
        Some(match entry {
            Entry::ToolCompleted(body) => Part::Own(
                "holdpoint.tool_result",
                json!({"tool_call_id": body.tool_call_id, "tool": body.tool, "status": "completed",
                    "output": body.output.get()}),
            ),
            Entry::ToolFailed(body) => Part::Own(
                "holdpoint.tool_result",
                json!({"tool_call_id": body.tool_call_id, "tool": body.tool, "status": "failed",
                    "error": body.error}),
            ),
            Entry::ToolDenied(body) => Part::Own(
                "holdpoint.tool_result",
                json!({"tool_call_id": body.tool_call_id, "tool": body.tool, "status": "denied",
                    "reason": body.reason}),
            ),
            // The arguments as text: the exact bytes that the digest is over.
            Entry::ApprovalRequested(body) => Part::Own(
                "holdpoint.approval_requested",
                json!({"execution_id": id, "tool_call_id": body.tool_call_id, "approval_id": body.approval_id,
                    "tool": body.tool, "arguments": body.arguments_text, "digest": body.digest,
                    "requested_at": body.requested_at, "expires_at": body.expires_at}),
            ),
            Entry::ApprovalDecided(body) => Part::Own(
                "holdpoint.approval_decided",
                json!({"execution_id": id, "tool_call_id": body.tool_call_id, "tool": body.tool,
                    "approved": body.approved, "reason": body.reason, "arguments": body.arguments_text,
                    "decided_by": body.decided_by, "decided_at": body.decided_at}),
            ),
            Entry::ApprovalClosed(body) => Part::Own(
                "holdpoint.approval_closed",
                json!({"execution_id": id, "tool_call_id": body.tool_call_id, "tool": body.tool,
                    "status": body.status}),
            ),
            _ => return None,
        })
    }
}

/// What a suspension ends a message with; `None` where the execution goes on by itself.
fn finish_reason(reason: Reason) -> Option<&'static str> {
    match reason {
        _ if goes_on_by_itself(reason) => None,
        Reason::Approval => Some("approval_required"),
        other => Some(other.as_str()),
    }
}

/// What a client joins must be JSON: arguments that are none are told as a string of it.
fn valid_json(arguments: String) -> String {
    if strict_json::check(&arguments).is_ok() { arguments } else { Value::from(arguments).to_string() }
}

/// The message of a whole answer. Parts that have no place in OpenAI's protocol stand in a
/// list under their name.
pub fn message(parts: Vec<Part>) -> Value {
    let (mut text, mut calls, mut own) = (String::new(), Vec::new(), Map::new());
    for part in parts {
        match part {
            Part::Text(more) => text.push_str(&more),
            Part::Call { call, .. } => calls.push(call_json(&call)),
            Part::Own(name, value) => {
                if let Value::Array(list) = own.entry(name).or_insert_with(|| json!([])) {
                    list.push(value);
                }
            }
            Part::Finished(_) => {}
        }
    }
    let content = if text.is_empty() { Value::Null } else { Value::from(text) };
    let mut message = json!({"role": "assistant", "content": content, "refusal": null});
    if let Value::Object(members) = &mut message {
        if !calls.is_empty() {
            members.insert("tool_calls".to_owned(), Value::from(calls));
        }
        members.extend(own);
    }
    message
}

/// A call as OpenAI writes it.
pub fn call_json(call: &ToolCall) -> Value {
    json!({"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}})
}

/// Tokens as OpenAI counts them.
pub fn usage_json(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens.saturating_add(usage.output_tokens),
    })
}

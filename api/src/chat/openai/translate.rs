//! An execution's events as parts of an assistant message: the same for a stream, which sends
//! each as a delta, and for a whole answer, which puts them together.

use holdpoint_engine::entry::{
    Entry, ExecutionFailed, MessageCompleted, MessageDelta, ToolCall, ToolCompleted, Usage,
};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::Reason;
use holdpoint_engine::strict_json;
use serde_json::{Map, Value, json};

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
            other => self.own(&other).into_iter().collect(),
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
        let mut parts = self.text(&MessageDelta { step: message.step, text: rest });
        self.telling = None;
        for call in message.tool_calls {
            let arguments = valid_json(call.arguments);
            parts.push(Part::Call { index: self.calls, call: ToolCall { arguments, ..call } });
            self.calls += 1;
        }
        parts
    }

    fn own(&self, entry: &Entry) -> Option<Part> {
        let name = match entry.kind() {
            "tool.completed" | "tool.failed" | "tool.denied" => "holdpoint.tool_result",
            "approval.requested" => "holdpoint.approval_requested",
            "approval.decided" => "holdpoint.approval_decided",
            "approval.closed" => "holdpoint.approval_closed",
            "transfer" => "holdpoint.transfer",
            _ => return None,
        };
        let payload = match entry {
            // As text: the clients' accumulators cannot take any list, nor any depth.
            Entry::ToolCompleted(body) => {
                let output = holdpoint_engine::json(body.output.get());
                Entry::ToolCompleted(ToolCompleted { output, ..body.clone() }).payload()
            }
            _ => entry.payload(),
        };
        let mut value: Map<String, Value> = serde_json::from_str(&payload).unwrap_or_default();
        match entry {
            Entry::ToolCompleted(_) => drop(value.insert("status".to_owned(), json!("completed"))),
            Entry::ToolFailed(_) => drop(value.insert("status".to_owned(), json!("failed"))),
            Entry::ToolDenied(_) => drop(value.insert("status".to_owned(), json!("denied"))),
            _ => drop(value.insert("execution_id".to_owned(), json!(self.id))),
        }
        // The exact bytes that the digest is over, in place of the same as JSON.
        if let Some(text) = value.remove("arguments_text") {
            value.insert("arguments".to_owned(), text);
        }
        Some(Part::Own(name, Value::Object(value)))
    }
}

/// What a suspension ends a message with; `None` where the execution goes on by itself.
fn finish_reason(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Retry | Reason::Timer => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn translator(live: bool) -> Translator {
        Translator::new("exe_01h455vb4pex5vsknk084sn02q".parse().expect("an id"), live)
    }

    fn take(translator: &mut Translator, kind: &str, payload: Value) -> Result<Vec<Part>, Broken> {
        translator.take(Entry::read(kind, &payload.to_string()).expect("an event"))
    }

    fn delta(translator: &mut Translator, step: i32, text: &str) -> Vec<Part> {
        take(translator, "message.delta", json!({"step": step, "text": text})).expect("text")
    }

    fn answer(step: i32, text: &str, calls: Value) -> Value {
        json!({"step": step, "role": "assistant", "text": text, "tool_calls": calls,
            "usage": {"input_tokens": 3, "output_tokens": 2, "cost_micros": 0}})
    }

    fn text(text: &str) -> Part {
        Part::Text(text.to_owned())
    }

    #[test]
    fn text_is_told_once_and_answers_are_kept_apart() {
        let mut live = translator(true);
        assert_eq!(delta(&mut live, 1, "Hel"), [text("Hel")]);
        assert_eq!(delta(&mut live, 1, "lo"), [text("lo")]);
        let done = take(&mut live, "message.completed", answer(1, "Hello!", json!([]))).expect("an answer");
        assert_eq!(done, [text("!")], "what no delta brought is not lost");
        assert_eq!(delta(&mut live, 3, "B"), [text("\n\nB")]);
        let mut whole = translator(false);
        assert!(delta(&mut whole, 1, "Hel").is_empty());
        let first = take(&mut whole, "message.completed", answer(1, "Hello!", json!([]))).expect("an answer");
        let second = take(&mut whole, "message.completed", answer(3, "B", json!([]))).expect("an answer");
        assert_eq!((first, second), (vec![text("Hello!")], vec![text("\n\nB")]));
        assert_eq!((whole.usage.input_tokens, whole.usage.output_tokens), (6, 4));
    }

    #[test]
    fn arguments_are_json_whatever_the_model_wrote() {
        let calls = json!([
            {"step": 2, "id": "a", "name": "t", "arguments": "{\"n\": 1}"},
            {"step": 3, "id": "b", "name": "t", "arguments": "{oh"},
        ]);
        let mut live = translator(true);
        let parts = take(&mut live, "message.completed", answer(1, "", calls)).expect("an answer");
        let arguments: Vec<(usize, &str)> = parts
            .iter()
            .map(|part| match part {
                Part::Call { index, call } => (*index, call.arguments.as_str()),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(arguments, [(0, "{\"n\": 1}"), (1, "\"{oh\"")]);
    }

    #[test]
    fn a_restart_breaks_what_was_told_of_it_and_nothing_else() {
        let restarted = |translator: &mut Translator, step: i32| {
            take(translator, "model.restarted", json!({"step": step, "attempt": 2}))
        };
        let mut live = translator(true);
        assert!(restarted(&mut live, 1).is_ok(), "nothing was told yet");
        delta(&mut live, 1, "x");
        assert!(matches!(restarted(&mut live, 1), Err(Broken::Restarted)));
        let mut whole = translator(false);
        delta(&mut whole, 1, "x");
        assert!(restarted(&mut whole, 1).is_ok());
    }

    #[test]
    fn only_what_waits_for_somebody_finishes_a_message() {
        let suspended = |reason: &str| {
            take(&mut translator(true), "execution.suspended", json!({"reason": reason}))
                .expect("a suspension")
        };
        assert_eq!(suspended("approval"), [Part::Finished("approval_required")]);
        assert_eq!(suspended("outcome_unknown"), [Part::Finished("outcome_unknown")]);
        assert_eq!(suspended("paused"), [Part::Finished("paused")]);
        assert!(suspended("retry").is_empty());
    }

    #[test]
    fn arguments_of_an_approval_are_the_bytes_that_are_decided_on() {
        let asked = json!({"approval_id": "apr_01h455vb4pex5vsknk084sn02q", "step": 2, "tool_call_id": "a",
            "tool": "t", "arguments": {"n": [1]}, "arguments_text": "{\"n\":  [1]}", "digest": "d",
            "requested_at": "2026-01-01T00:00:00Z", "expires_at": "2026-01-01T00:30:00Z"});
        let parts = take(&mut translator(true), "approval.requested", asked).expect("a request");
        let [Part::Own("holdpoint.approval_requested", value)] = &parts[..] else { panic!("{parts:?}") };
        assert_eq!((&value["arguments"], &value["arguments_text"]), (&json!("{\"n\":  [1]}"), &Value::Null));
        assert_eq!(value["execution_id"], "exe_01h455vb4pex5vsknk084sn02q");
    }
}

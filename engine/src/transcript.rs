//! The body of a model request, written from the definition, the input and the journal.

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::advance::Pinned;
use crate::definition::CompiledAgent;
use crate::run::{Run, StepState};

/// The chat completion request of the next turn. The messages that the execution was started
/// with stand in it as they came; the user's time, where it is known, is the instructions' last
/// part, so that it is the same in each turn.
pub fn request_body(agent: &CompiledAgent, pinned: &Pinned, run: &Run) -> String {
    let request = Request {
        model: &agent.agent.model.name,
        messages: messages(agent, pinned, run),
        tools: agent.tools_json.as_deref(),
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        parameters: &agent.agent.model.parameters,
    };
    serde_json::to_string(&request).unwrap_or_default()
}

#[derive(Serialize)]
struct Request<'a> {
    model: &'a str,
    messages: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tools: Option<&'a RawValue>,
    stream: bool,
    stream_options: StreamOptions,
    #[serde(flatten)]
    parameters: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

fn messages(agent: &CompiledAgent, pinned: &Pinned, run: &Run) -> Vec<Value> {
    let mut messages = Vec::new();
    if !agent.agent.instructions.is_empty() {
        messages.push(serde_json::json!({"role": "system", "content": agent.agent.instructions}));
    }
    if let Some(time) = pinned.client_time {
        messages.push(serde_json::json!({"role": "system", "content": time.told()}));
    }
    messages.extend(pinned.messages.iter().cloned());
    for answer in &run.answers {
        messages.push(assistant(answer, run));
        messages.extend(answer.tool_calls.iter().filter_map(|call| {
            let StepState::Done { told } = &run.steps.get(&call.step)?.state else {
                return None;
            };
            Some(serde_json::json!({"role": "tool", "tool_call_id": call.id, "content": told}))
        }));
    }
    messages
}

/// The model sees the arguments that were sent, also where a person edited them.
fn assistant(answer: &crate::run::Answer, run: &Run) -> Value {
    let calls: Vec<Value> = answer
        .tool_calls
        .iter()
        .map(|call| {
            let sent = run.steps.get(&call.step).and_then(|step| step.tool());
            let arguments = sent.map_or(&call.arguments, |tool| &tool.arguments);
            serde_json::json!({"id": call.id, "type": "function",
                "function": {"name": call.name, "arguments": arguments}})
        })
        .collect();
    let content = if answer.text.is_empty() { Value::Null } else { Value::from(answer.text.as_str()) };
    if calls.is_empty() {
        serde_json::json!({"role": "assistant", "content": content})
    } else {
        serde_json::json!({"role": "assistant", "content": content, "tool_calls": calls})
    }
}

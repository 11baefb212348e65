//! The body of a model request, written from the definition, the input and the journal.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::advance::Pinned;
use crate::definition::CompiledAgent;
use crate::entry::ToolCall;
use crate::mcp::function_name;
use crate::run::{Answer, Run, Step, StepState};

/// The chat completion request of the next turn. The messages that the execution was started
/// with stand in it as they came; the user's time, where it is known, is the instructions' last
/// part, so that it is the same in each turn.
pub fn request_body(agent: &CompiledAgent, pinned: &Pinned, run: &Run) -> String {
    let tools = tools(agent, pinned, run);
    let request = Request {
        model: &agent.agent.model.name,
        messages: messages(agent, pinned, run),
        tools: tools.as_deref(),
        stream: true,
        stream_options: StreamOptions { include_usage: true },
        parameters: &agent.agent.model.parameters,
    };
    serde_json::to_string(&request).unwrap_or_default()
}

/// The definition's own functions, then those that servers list.
fn tools<'a>(agent: &'a CompiledAgent, pinned: &Pinned, run: &Run) -> Option<Cow<'a, RawValue>> {
    let speaker = pinned.listed_for(run.speaker.as_ref());
    let listed: Vec<Value> = agent
        .servers()
        .filter_map(|(server, mcp)| {
            Some((server, mcp, run.lists.get(&(speaker.clone(), server.name.clone()))?))
        })
        .flat_map(|(server, mcp, list)| {
            let shown = list.offered(&server.name, mcp).0.into_iter();
            shown.map(|tool| {
                serde_json::json!({"type": "function", "function": {
                    "name": function_name(&server.name, &tool.name),
                    "description": tool.description, "parameters": tool.input_schema,
                }})
            })
        })
        .collect();
    let own = agent.tools_json.as_deref();
    if listed.is_empty() {
        return own.map(Cow::Borrowed);
    }
    let mut all: Vec<Value> = own.and_then(|own| serde_json::from_str(own.get()).ok()).unwrap_or_default();
    all.extend(listed);
    serde_json::value::to_raw_value(&all).ok().map(Cow::Owned)
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
        messages.extend(turn(answer, run));
    }
    messages
}

/// One of the model's answers, and what it was told of its calls.
fn turn(answer: &Answer, run: &Run) -> Vec<Value> {
    let told = answer.tool_calls.iter().filter_map(|call| {
        let StepState::Done { told } = &run.steps.get(&call.step)?.state else {
            return None;
        };
        Some(serde_json::json!({"role": "tool", "tool_call_id": call.id, "content": told}))
    });
    std::iter::once(assistant(answer, run)).chain(told).collect()
}

/// What an execution that is over leaves in its conversation, as JSON: the model's answers
/// and what it was told, up to the first call that nobody answered.
pub fn complete_messages(run: &Run) -> Vec<String> {
    let answered = |call: &ToolCall| {
        run.steps.get(&call.step).is_some_and(Step::is_done) && !run.closed.contains(&call.step)
    };
    let complete = run.answers.iter().take_while(|answer| answer.tool_calls.iter().all(answered));
    complete.flat_map(|answer| turn(answer, run)).map(|message| message.to_string()).collect()
}

/// The messages that an execution is started with; an `input` is one message of the user.
pub fn start_messages(messages: Option<&str>, input: Option<&str>) -> Vec<Value> {
    if let Some(messages) = messages {
        return serde_json::from_str(messages).unwrap_or_default();
    }
    let Some(input) = input else { return Vec::new() };
    let text = serde_json::from_str::<String>(input).unwrap_or_else(|_| input.to_owned());
    vec![serde_json::json!({"role": "user", "content": text})]
}

/// The model sees the arguments that were sent, also where a person edited them.
fn assistant(answer: &Answer, run: &Run) -> Value {
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

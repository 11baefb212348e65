//! A turn's events as chunks of the UI message stream. A chunk that was sent cannot be taken
//! back, so text that became void ends the message with an error.

use std::collections::HashMap;

use holdpoint_engine::entry::{
    Entry, ExecutionSuspended, MessageCompleted, MessageDelta, ToolCall, ToolFailed,
};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{ApprovalStatus, Reason};
use serde_json::{Value, json};

use crate::chat::segment::goes_on_by_itself;

/// Chunks, and whether they are the last.
#[derive(Debug, Default)]
pub struct Told {
    /// In order.
    pub chunks: Vec<Value>,
    /// Nothing comes after them.
    pub is_end: bool,
}

/// Stands for a model's step where the questions of delegated executions are told.
const CHILDREN: i32 = i32::MIN;

/// What of a message is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Reasoning,
    Text,
}

impl Block {
    const fn word(self) -> &'static str {
        match self {
            Block::Reasoning => "reasoning",
            Block::Text => "text",
        }
    }
}

/// What was told so far.
#[derive(Debug)]
pub struct Parts {
    /// The execution; none for a classic run.
    id: Option<ExecutionId>,
    chunks: Vec<Value>,
    /// The model's step whose chunks are being told.
    step: Option<i32>,
    /// The block that is open, and how many there were.
    open: Option<Block>,
    blocks: usize,
    /// Bytes of the step's text, and of its reasoning, that were told.
    told: [usize; 2],
    /// Calls of which no whole input was told, because the arguments are no JSON.
    unreadable: HashMap<String, ToolCall>,
}

impl Parts {
    /// Of an execution, or of a classic run.
    pub fn new(id: Option<ExecutionId>) -> Self {
        Self {
            id,
            chunks: Vec::new(),
            step: None,
            open: None,
            blocks: 0,
            told: [0; 2],
            unreadable: HashMap::new(),
        }
    }

    /// What an event adds to the message.
    pub fn take(&mut self, entry: Entry) -> Told {
        let is_end = self.tell(entry);
        Told { chunks: std::mem::take(&mut self.chunks), is_end }
    }

    /// The message breaks off.
    pub fn broken(&mut self, message: &str) -> Told {
        self.fail(message);
        Told { chunks: std::mem::take(&mut self.chunks), is_end: true }
    }

    fn tell(&mut self, entry: Entry) -> bool {
        match entry {
            Entry::MessageDelta(delta) => self.delta(&delta),
            Entry::MessageCompleted(message) => self.completed(message),
            Entry::ModelRestarted(body) if self.step == Some(body.step) && self.told != [0; 2] => {
                let begin =
                    "the model's answer broke off and began anew, so that what was sent of it is void: ";
                let next = if self.id.is_some() { "resume the stream" } else { "send again" };
                self.fail(&format!("{begin}{next}"));
                return true;
            }
            Entry::ToolCompleted(body) => {
                let output: Value = serde_json::from_str(body.output.get()).unwrap_or_default();
                self.chunk(json!({"type": "tool-output-available", "toolCallId": body.tool_call_id, "output": output}));
            }
            Entry::ToolFailed(body) => self.tool_failed(body),
            Entry::ToolDenied(body) => {
                self.chunk(json!({"type": "tool-output-denied", "toolCallId": body.tool_call_id}));
            }
            Entry::ApprovalRequested(body) => {
                if body.delegated_by.is_some() {
                    // The call is in a message of the child's; here it needs a part of its own. And
                    // a step of its own: a client sends its answers once its last step has no open
                    // call, and the delegating one is open.
                    self.open_step(CHILDREN);
                    self.call(ToolCall {
                        step: body.step,
                        id: body.tool_call_id.clone(),
                        name: body.tool.clone(),
                        arguments: body.arguments_text.clone(),
                    });
                }
                self.chunk(json!({
                "type": "tool-approval-request", "approvalId": body.approval_id, "toolCallId": body.tool_call_id,
                "approvalDescriptor": {"digest": body.digest, "expires_at": body.expires_at},
            }));
            }
            Entry::ApprovalDecided(body) => {
                let data = json!({"tool_call_id": body.tool_call_id, "status": if body.approved { "approved" } else { "denied" },
                    "reason": body.reason, "arguments": body.arguments_text, "decided_by": body.decided_by,
                    "decided_at": body.decided_at});
                self.approval(&body.tool_call_id, data);
                // Of a delegated call nothing more is told here: what it brings is the child's.
                if let Some(of_child) = &body.delegated_by {
                    let id = &body.tool_call_id;
                    self.chunk(if body.approved {
                        json!({"type": "tool-output-available", "toolCallId": id, "output": {"delegated_by": of_child}})
                    } else {
                        json!({"type": "tool-output-denied", "toolCallId": id})
                    });
                }
            }
            Entry::Transfer(body) => {
                let data = json!({"from": body.from, "to": body.to, "version": body.version});
                self.chunk(json!({"type": "data-holdpoint-transfer", "id": body.tool_call_id, "data": data}));
                let output = json!({"transferred_to": body.to});
                self.chunk(json!({"type": "tool-output-available", "toolCallId": body.tool_call_id, "output": output}));
            }
            Entry::ApprovalClosed(body) => {
                let data = json!({"tool_call_id": body.tool_call_id, "status": body.status});
                self.approval(&body.tool_call_id, data);
                if body.status != ApprovalStatus::DigestMismatch {
                    let text = format!("the approval is {}: the tool was not called", body.status);
                    self.chunk(json!({"type": "tool-output-error", "toolCallId": body.tool_call_id, "errorText": text}));
                }
            }
            Entry::ExecutionSuspended(body) => return self.suspended(&body),
            Entry::ExecutionCompleted(_) => {
                self.finish("stop");
                return true;
            }
            Entry::ExecutionFailed(body) => {
                self.fail(&body.error.message);
                return true;
            }
            Entry::ExecutionCancelled(body) => {
                self.close_step();
                self.chunk(json!({"type": "abort", "reason": format!("the execution is {}", body.reason)}));
                return true;
            }
            _ => {}
        }
        false
    }

    fn chunk(&mut self, chunk: Value) {
        self.chunks.push(chunk);
    }

    /// A part of our own that the message keeps; a later one of the same id takes its place.
    fn approval(&mut self, call: &str, data: Value) {
        self.chunk(json!({"type": "data-holdpoint-approval", "id": call, "data": data}));
    }

    fn open_step(&mut self, step: i32) {
        if self.step != Some(step) {
            self.close_step();
            self.step = Some(step);
            self.told = [0; 2];
            self.chunk(json!({"type": "start-step"}));
        }
    }

    fn close_step(&mut self) {
        self.close_block();
        if self.step.take().is_some() {
            self.chunk(json!({"type": "finish-step"}));
        }
    }

    fn block_id(&self, block: Block) -> String {
        format!("{}-{}", block.word(), self.blocks)
    }

    fn close_block(&mut self) {
        if let Some(block) = self.open.take() {
            let id = self.block_id(block);
            self.chunk(json!({"type": format!("{}-end", block.word()), "id": id}));
        }
    }

    fn say(&mut self, block: Block, text: &str) {
        if text.is_empty() {
            return;
        }
        if self.open != Some(block) {
            self.close_block();
            self.blocks += 1;
            self.open = Some(block);
            let id = self.block_id(block);
            self.chunk(json!({"type": format!("{}-start", block.word()), "id": id}));
        }
        self.told[usize::from(block == Block::Reasoning)] += text.len();
        let id = self.block_id(block);
        self.chunk(json!({"type": format!("{}-delta", block.word()), "id": id, "delta": text}));
    }

    fn delta(&mut self, delta: &MessageDelta) {
        self.open_step(delta.step);
        self.say(Block::Reasoning, &delta.reasoning);
        self.say(Block::Text, &delta.text);
    }

    /// What of the text was not told yet, then the calls.
    fn completed(&mut self, message: MessageCompleted) {
        self.open_step(message.step);
        let rest = message.text.get(self.told[0]..).unwrap_or_default().to_owned();
        self.say(Block::Text, &rest);
        self.close_block();
        for call in message.tool_calls {
            self.call(call);
        }
        // The answer is whole: nothing of it becomes void any more.
        self.told = [0; 2];
    }

    fn call(&mut self, call: ToolCall) {
        let ToolCall { id, name, arguments, .. } = &call;
        self.chunk(json!({"type": "tool-input-start", "toolCallId": id, "toolName": name}));
        self.chunk(json!({"type": "tool-input-delta", "toolCallId": id, "inputTextDelta": arguments}));
        match serde_json::from_str::<Value>(arguments) {
            Ok(input) => {
                self.chunk(json!({"type": "tool-input-available", "toolCallId": id, "toolName": name, "input": input}));
            }
            Err(_) => {
                self.unreadable.insert(id.clone(), call);
            }
        }
    }

    fn tool_failed(&mut self, body: ToolFailed) {
        let (id, text) = (body.tool_call_id, body.error.message);
        match self.unreadable.remove(&id) {
            Some(call) => self
                .chunk(json!({"type": "tool-input-error", "toolCallId": id, "toolName": call.name,
                "input": call.arguments, "errorText": text})),
            None => self.chunk(json!({"type": "tool-output-error", "toolCallId": id, "errorText": text})),
        }
    }

    /// Only after a question the client can go on by sending again: the other suspensions are
    /// told as errors, so that it does not send for ever.
    fn suspended(&mut self, body: &ExecutionSuspended) -> bool {
        match body.reason {
            reason if goes_on_by_itself(reason) => return false,
            Reason::Approval => self.finish("tool-calls"),
            other => self.fail(&format!("the execution is suspended: {other}")),
        }
        true
    }

    fn finish(&mut self, reason: &str) {
        self.close_step();
        self.chunk(json!({"type": "finish", "finishReason": reason}));
    }

    fn fail(&mut self, message: &str) {
        self.close_step();
        self.chunk(json!({"type": "error", "errorText": message}));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::entry::ModelRestarted;
    use holdpoint_engine::status::{ErrorType, Failure};

    fn kinds(parts: &mut Parts, entries: Vec<Entry>) -> Vec<String> {
        let chunks = entries.into_iter().flat_map(|entry| parts.take(entry).chunks);
        chunks.map(|chunk| chunk["type"].as_str().unwrap_or_default().to_owned()).collect()
    }

    fn delta(step: i32, reasoning: &str, text: &str) -> Entry {
        Entry::MessageDelta(MessageDelta { step, reasoning: reasoning.to_owned(), text: text.to_owned() })
    }

    fn completed(step: i32, text: &str, arguments: &[&str]) -> Entry {
        let call = |(at, arguments): (usize, &&str)| ToolCall {
            step: step + 1 + at as i32,
            id: format!("c{at}"),
            name: "look".to_owned(),
            arguments: (*arguments).to_owned(),
        };
        Entry::MessageCompleted(MessageCompleted {
            step,
            role: "assistant".to_owned(),
            text: text.to_owned(),
            tool_calls: arguments.iter().enumerate().map(call).collect(),
            finish_reason: None,
            usage: Default::default(),
        })
    }

    #[test]
    fn a_block_is_closed_before_the_next_begins() {
        let mut parts = Parts::new(None);
        let told =
            kinds(&mut parts, vec![delta(1, "hm", ""), delta(1, "hm", "a"), completed(1, "ab", &["{}"])]);
        assert_eq!(
            told,
            [
                "start-step",
                "reasoning-start",
                "reasoning-delta",
                "reasoning-delta",
                "reasoning-end",
                "text-start",
                "text-delta",
                "text-delta",
                "text-end",
                "tool-input-start",
                "tool-input-delta",
                "tool-input-available"
            ]
        );
        assert_eq!(
            kinds(&mut parts, vec![delta(4, "", "c")]),
            ["finish-step", "start-step", "text-start", "text-delta"]
        );
    }

    #[test]
    fn arguments_that_are_no_json_are_an_input_error() {
        let mut parts = Parts::new(None);
        let told = kinds(&mut parts, vec![completed(1, "", &["{n"])]);
        assert_eq!(told, ["start-step", "tool-input-start", "tool-input-delta"]);
        let failed = |id: &str| {
            let error = Failure::new(ErrorType::Logic, "no");
            Entry::ToolFailed(ToolFailed {
                step: 2,
                tool_call_id: id.to_owned(),
                tool: "look".to_owned(),
                error,
            })
        };
        assert_eq!(
            kinds(&mut parts, vec![failed("c0"), failed("c1")]),
            ["tool-input-error", "tool-output-error"]
        );
    }

    #[test]
    fn text_that_became_void_ends_the_message() {
        let restarted = || Entry::ModelRestarted(ModelRestarted { step: 1, attempt: 2 });
        let mut parts = Parts::new(None);
        let untold = parts.take(restarted());
        assert!(!untold.is_end && untold.chunks.is_empty());
        kinds(&mut parts, vec![delta(1, "", "a")]);
        let told = parts.take(restarted());
        assert!(told.is_end);
        assert_eq!(told.chunks.last().map(|chunk| &chunk["type"]), Some(&json!("error")));
    }

    #[test]
    fn only_a_question_is_a_finish_that_can_be_answered() {
        let suspended = |reason| {
            Entry::ExecutionSuspended(ExecutionSuspended {
                reason,
                until: None,
                tool_call_ids: Vec::new(),
                steps: Vec::new(),
            })
        };
        for (reason, told, is_end) in [
            (Reason::Approval, vec!["finish"], true),
            (Reason::OutcomeUnknown, vec!["error"], true),
            (Reason::Paused, vec!["error"], true),
            (Reason::Retry, vec![], false),
        ] {
            let mut parts = Parts::new(None);
            let taken = parts.take(suspended(reason));
            assert_eq!(taken.is_end, is_end, "{reason}");
            let kinds: Vec<_> = taken.chunks.iter().filter_map(|chunk| chunk["type"].as_str()).collect();
            assert_eq!(kinds, told, "{reason}");
        }
    }
}

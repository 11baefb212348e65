//! Calls that were made or asked about, read from journals: what a changed policy is tried on.

use std::collections::BTreeMap;

use crate::entry::{CorruptLine, Entry, Line};
use crate::team::Member;

/// The kinds of lines that [`past_calls`] reads.
pub const KINDS: [&str; 6] = [
    "execution.started",
    "message.completed",
    "transfer",
    "tool.called",
    "approval.requested",
    "approval.not_needed",
];

/// A call as it was when its tool's rule was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PastCall {
    /// The call.
    pub tool_call_id: String,
    /// The tool; of a workflow, the task.
    pub tool: String,
    /// The agent whose call it was; none is the definition that the execution began with.
    pub agent: Option<String>,
    /// The arguments as they were asked for, before anybody edited them.
    pub arguments: String,
    /// Whether a person was asked.
    pub asked: bool,
}

#[derive(Debug)]
struct Seen {
    call: PastCall,
    /// Sent or asked about: what its schema refused never was.
    counts: bool,
}

/// The calls of one journal, in order. Lines of other kinds may be left out of it.
pub fn past_calls(lines: &[Line]) -> Result<Vec<PastCall>, CorruptLine> {
    let mut speaker: Option<Member> = None;
    let mut seen: BTreeMap<i32, Seen> = BTreeMap::new();
    for line in lines {
        if !KINDS.contains(&line.kind.as_str()) {
            continue;
        }
        let entry = Entry::read(&line.kind, &line.payload)?;
        let step = entry.step();
        match entry {
            Entry::ExecutionStarted(body) => speaker = body.active,
            Entry::Transfer(body) => speaker = Some(Member { agent: body.to, version: body.version }),
            Entry::MessageCompleted(body) => {
                for call in body.tool_calls {
                    let agent = speaker.as_ref().map(|member| member.agent.clone());
                    let asked_for = past(call.id, call.name, agent, call.arguments);
                    seen.insert(call.step, Seen { call: asked_for, counts: false });
                }
            }
            Entry::ToolCalled(body) => {
                let task = || past(body.tool_call_id, body.tool, None, body.arguments.get().to_owned());
                seen.entry(step).or_insert_with(|| Seen { call: task(), counts: true }).counts = true;
            }
            Entry::ApprovalRequested(body) if body.delegated_by.is_none() => {
                let task = || past(body.tool_call_id, body.tool, None, body.arguments_text);
                let seen = seen.entry(step).or_insert_with(|| Seen { call: task(), counts: true });
                (seen.counts, seen.call.asked) = (true, true);
            }
            Entry::ApprovalNotNeeded(_) => {
                if let Some(seen) = seen.get_mut(&step) {
                    seen.counts = true;
                }
            }
            _ => {}
        }
    }
    Ok(seen.into_values().filter(|seen| seen.counts).map(|seen| seen.call).collect())
}

fn past(tool_call_id: String, tool: String, agent: Option<String>, arguments: String) -> PastCall {
    let empty = arguments.trim().is_empty();
    let arguments = if empty { "{}".to_owned() } else { arguments };
    PastCall { tool_call_id, tool, agent, arguments, asked: false }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::time::Timestamp;

    fn journal(entries: &[(&str, Value)]) -> Vec<Line> {
        let line = |(at, (kind, payload)): (usize, &(&str, Value))| Line {
            seq: at as i64 + 1,
            event: None,
            kind: (*kind).to_owned(),
            step: 0,
            at: Timestamp::from_micros(1),
            payload: payload.to_string(),
        };
        entries.iter().enumerate().map(line).collect()
    }

    fn answer(step: i32, calls: &[(i32, &str, &str)]) -> (&'static str, Value) {
        let calls: Vec<Value> = calls
            .iter()
            .map(|(step, id, arguments)| json!({"step": step, "id": id, "name": "refund", "arguments": arguments}))
            .collect();
        let usage = json!({"input_tokens": 1, "output_tokens": 1, "cost_micros": 0});
        (
            "message.completed",
            json!({"step": step, "role": "assistant", "text": "", "tool_calls": calls, "usage": usage}),
        )
    }

    fn called(step: i32, id: &str, arguments: Value) -> (&'static str, Value) {
        let body =
            json!({"step": step, "tool_call_id": id, "tool": "refund", "arguments": arguments, "attempt": 1});
        ("tool.called", body)
    }

    #[test]
    fn calls_are_told_as_they_were_asked_for() {
        let asked = json!({"approval_id": "apr_01h455vb4pex5vsknk084sn02q", "step": 3, "tool_call_id": "b",
            "tool": "refund", "arguments": {"n": 2}, "arguments_text": "{\"n\": 2}", "digest": "d",
            "requested_at": "2026-11-21T00:00:00Z", "expires_at": "2026-11-21T00:30:00Z"});
        let lines = journal(&[
            answer(1, &[(2, "a", "{\"n\": 1}"), (3, "b", "{\"n\": 2}"), (4, "refused", "{}")]),
            ("approval.requested", asked),
            called(2, "a", json!({"n": 1})),
            ("message.delta", json!("is not read")),
            // Edited by whoever approved.
            called(3, "b", json!({"n": 9})),
            (
                "transfer",
                json!({"step": 5, "tool_call_id": "t", "from": "desk", "to": "books", "version": 2}),
            ),
            answer(6, &[(7, "c", "")]),
            ("approval.not_needed", json!({"step": 7, "tool_call_id": "c", "tool": "refund"})),
        ]);
        let calls = past_calls(&lines).expect("a journal");
        let told: Vec<_> = calls
            .iter()
            .map(|call| {
                (call.tool_call_id.as_str(), call.arguments.as_str(), call.asked, call.agent.as_deref())
            })
            .collect();
        assert_eq!(
            told,
            [
                ("a", "{\"n\": 1}", false, None),
                ("b", "{\"n\": 2}", true, None),
                ("c", "{}", false, Some("books")),
            ]
        );
    }

    #[test]
    fn a_workflows_calls_are_those_of_its_tasks() {
        let lines = journal(&[
            called(1, "pay-1", json!({"uri": "http://x/"})),
            called(1, "pay-1", json!({"uri": "http://x/"})),
        ]);
        let calls = past_calls(&lines).expect("a journal");
        assert_eq!(calls.len(), 1, "attempts are one call");
        assert_eq!((calls[0].tool.as_str(), calls[0].asked), ("refund", false));
    }
}

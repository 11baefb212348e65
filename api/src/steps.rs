//! An execution's journal as a list of steps: a fold, like the engine's, for people.

use std::collections::BTreeMap;

use holdpoint_engine::entry::{
    ApprovalDecided, ApprovalRequested, CorruptLine, Entry, Json, Line, MessageCompleted, StepCompleted,
    ToolsListed, Usage,
};
use holdpoint_engine::ids::{ApprovalId, ExecutionId};
use holdpoint_engine::status::{ApprovalStatus, Failure};
use holdpoint_engine::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "StepKind")]
pub enum Kind {
    /// A model call.
    Model,
    /// A tool call.
    Tool,
    /// A constant.
    Noop,
    /// A task of a workflow that calls nothing.
    Task,
    /// Asking an MCP server for its tools.
    Tools,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepStatus {
    /// Not begun, or a person is asked.
    Waiting,
    /// A person said no.
    Denied,
    /// Under way.
    Calling,
    /// An attempt failed; there will be another.
    Retrying,
    /// Nobody knows whether the call happened.
    Unknown,
    /// It has a result.
    Completed,
    /// It failed for good.
    Failed,
    /// Its execution ended before it did.
    Cancelled,
}

/// The question that a step stands or stood behind.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Asked {
    id: ApprovalId,
    status: ApprovalStatus,
    digest: String,
    requested_at: Timestamp,
    expires_at: Timestamp,
    decided_by: Option<String>,
    decided_at: Option<Timestamp>,
    reason: Option<String>,
}

/// Whether somebody was asked.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "StepApproval")]
pub enum Approval {
    /// The question.
    Asked(Box<Asked>),
    /// The policy lets the call go without one.
    Word(Word),
}

/// The word for a call that nobody was asked about.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ApprovalWord")]
pub enum Word {
    /// Its `when` said no.
    NotNeeded,
}

/// One step.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Step")]
pub struct StepView {
    step: i32,
    kind: Kind,
    name: Option<String>,
    /// The workflow's task that it is, as a pointer into the document.
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    tool_call_id: Option<String>,
    /// The execution that carries it out, where it was delegated.
    #[serde(skip_serializing_if = "Option::is_none")]
    child: Option<ExecutionId>,
    status: StepStatus,
    attempts: u32,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<Json>,
    output: Option<Json>,
    error: Option<Failure>,
    /// A failed task's error as a `catch` sees it: `type`, `status`, `title`, `detail`, `instance`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Usage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    approval: Option<Approval>,
    /// What an MCP server listed: as it was asked to, or in place of carrying out this call.
    #[serde(skip_serializing_if = "Option::is_none")]
    listed: Option<Listed>,
}

/// A list of an MCP server.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Listed {
    /// Of the list: what `mcp.digest` of a definition can name.
    digest: String,
    /// The tools' names at the server.
    tools: Vec<String>,
    /// Those that the model is not shown.
    skipped: Vec<Skipped>,
}

/// A tool that the model is not shown.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Skipped {
    name: String,
    reason: String,
}

impl Listed {
    fn new(body: ToolsListed) -> Self {
        let skipped = body.skipped.into_iter().map(|tool| Skipped { name: tool.name, reason: tool.reason });
        Self {
            digest: body.digest,
            tools: body.tools.into_iter().map(|tool| tool.name).collect(),
            skipped: skipped.collect(),
        }
    }
}

/// The steps of a journal, by number.
pub fn fold(lines: &[Line]) -> Result<Vec<StepView>, CorruptLine> {
    let mut steps = Steps::default();
    for line in lines {
        steps.apply(Entry::read(&line.kind, &line.payload)?, line.at);
    }
    Ok(steps.0.into_values().collect())
}

#[derive(Default)]
struct Steps(BTreeMap<i32, StepView>);

impl Steps {
    fn apply(&mut self, entry: Entry, at: Timestamp) {
        let number = entry.step();
        match entry {
            Entry::ModelCalled(body) => self.begin(number, Kind::Model).called(body.attempt, at),
            Entry::StepCompleted(body) => self.completed(body, at),
            Entry::TaskFailed(body) => {
                let step = self.task(number, body.task);
                step.ended(StepStatus::Failed, at);
                step.fault = Some(body.error);
            }
            Entry::TaskCancelled(body) => self.task(number, body.task).ended(StepStatus::Cancelled, at),
            Entry::ToolCalled(body) if !self.0.contains_key(&number) => {
                let step = self.begin(number, Kind::Tool);
                step.name = Some(body.tool.clone());
                step.tool_call_id = Some(body.tool_call_id.clone());
                step.task = body.task.clone();
                step.apply(Entry::ToolCalled(body), at);
            }
            Entry::ApprovalRequested(body) if !self.0.contains_key(&number) => {
                let step = self.begin(number, Kind::Tool);
                step.name = Some(body.tool.clone());
                step.tool_call_id = Some(body.tool_call_id.clone());
                step.started_at = Some(at);
                step.asked(body);
            }
            Entry::MessageCompleted(body) => self.answered(body, at),
            Entry::ToolsListing(body) => {
                let step = self.begin(number, Kind::Tools);
                step.name = Some(body.tool);
                step.called(body.attempt, at);
            }
            Entry::ExecutionFailed(body) => self.close(StepStatus::Failed, Some(&body.error), at),
            Entry::ExecutionCancelled(_) => self.close(StepStatus::Cancelled, None, at),
            other => {
                if let Some(step) = self.0.get_mut(&number) {
                    step.apply(other, at);
                }
            }
        }
    }

    fn begin(&mut self, number: i32, kind: Kind) -> &mut StepView {
        self.0.entry(number).or_insert_with(|| StepView::new(number, kind))
    }

    /// A task's step: one that calls something has begun as a call.
    fn task(&mut self, number: i32, pointer: String) -> &mut StepView {
        let step = self.begin(number, Kind::Task);
        if let Some((_, name)) = pointer.rsplit_once('/') {
            step.name = Some(name.replace("~1", "/").replace("~0", "~"));
        }
        step.task = Some(pointer);
        step
    }

    fn completed(&mut self, body: StepCompleted, at: Timestamp) {
        let step = match body.task {
            Some(pointer) => self.task(body.step, pointer),
            None => self.begin(body.step, Kind::Noop),
        };
        step.ended(StepStatus::Completed, at);
        step.output = Some(body.output);
        step.error = None;
    }

    fn answered(&mut self, body: MessageCompleted, at: Timestamp) {
        for call in body.tool_calls {
            let step = self.begin(call.step, Kind::Tool);
            step.name = Some(call.name);
            step.tool_call_id = Some(call.id);
            step.arguments = Some(json_or_text(&call.arguments));
        }
        let step = self.begin(body.step, Kind::Model);
        step.finish(StepStatus::Completed, at);
        step.output = Some(holdpoint_engine::json(&body.text));
        step.usage = Some(body.usage);
    }

    /// What was open when the execution ended ends with it.
    fn close(&mut self, status: StepStatus, error: Option<&Failure>, at: Timestamp) {
        for step in self.0.values_mut().filter(|step| step.finished_at.is_none()) {
            step.finish(status, at);
            step.error = error.cloned().or(step.error.take());
        }
    }
}

impl StepView {
    fn new(step: i32, kind: Kind) -> Self {
        Self {
            step,
            kind,
            name: None,
            task: None,
            tool_call_id: None,
            child: None,
            status: StepStatus::Waiting,
            attempts: 0,
            started_at: None,
            finished_at: None,
            arguments: None,
            output: None,
            error: None,
            fault: None,
            usage: None,
            approval: None,
            listed: None,
        }
    }

    fn called(&mut self, attempt: u32, at: Timestamp) {
        self.status = StepStatus::Calling;
        self.attempts = attempt;
        self.started_at.get_or_insert(at);
    }

    /// Ends it, also where nothing told its beginning.
    fn ended(&mut self, status: StepStatus, at: Timestamp) {
        if self.started_at.is_none() {
            self.called(1, at);
        }
        self.finish(status, at);
    }

    fn finish(&mut self, status: StepStatus, at: Timestamp) {
        self.status = status;
        self.finished_at = Some(at);
    }

    fn apply(&mut self, entry: Entry, at: Timestamp) {
        match entry {
            Entry::ModelRestarted(body) => self.called(body.attempt, at),
            Entry::ToolCalled(body) => {
                self.called(body.attempt, at);
                self.arguments = Some(body.arguments);
            }
            Entry::ToolCompleted(body) => {
                self.finish(StepStatus::Completed, at);
                self.output = Some(body.output);
                self.error = None;
            }
            Entry::ToolFailed(body) => {
                self.finish(StepStatus::Failed, at);
                self.error = Some(body.error);
            }
            Entry::Delegated(body) => self.child = Some(body.child),
            Entry::ToolDenied(_) => self.finish(StepStatus::Denied, at),
            Entry::AttemptFailed(body) => {
                self.status = StepStatus::Retrying;
                self.error = Some(body.error);
            }
            Entry::AttemptInterrupted(_) => self.status = StepStatus::Retrying,
            Entry::OutcomeUnknown(body) => {
                self.status = StepStatus::Unknown;
                self.error = Some(body.error);
                // It may have been given up before.
                (self.finished_at, self.fault) = (None, None);
            }
            Entry::OutcomeResolved(_) => self.status = StepStatus::Waiting,
            Entry::ApprovalNotNeeded(_) => self.approval = Some(Approval::Word(Word::NotNeeded)),
            Entry::ApprovalRequested(body) => self.asked(body),
            Entry::ApprovalEscalated(body) => {
                if let Some(asked) = self.question() {
                    asked.expires_at = body.expires_at;
                }
            }
            Entry::ApprovalDecided(body) => self.decided(body),
            Entry::ApprovalClosed(body) => self.closed(body.status, at),
            Entry::ToolsListed(body) => {
                if self.kind == Kind::Tools {
                    self.finish(StepStatus::Completed, at);
                    self.error = None;
                }
                self.listed = Some(Listed::new(body));
            }
            _ => {}
        }
    }

    fn asked(&mut self, body: ApprovalRequested) {
        self.status = StepStatus::Waiting;
        self.finished_at = None;
        self.arguments = Some(body.arguments);
        self.approval = Some(Approval::Asked(Box::new(Asked {
            id: body.approval_id,
            status: ApprovalStatus::Pending,
            digest: body.digest,
            requested_at: body.requested_at,
            expires_at: body.expires_at,
            decided_by: None,
            decided_at: None,
            reason: None,
        })));
    }

    fn question(&mut self) -> Option<&mut Asked> {
        match &mut self.approval {
            Some(Approval::Asked(asked)) => Some(asked),
            _ => None,
        }
    }

    fn decided(&mut self, body: ApprovalDecided) {
        self.status = if body.approved { StepStatus::Waiting } else { StepStatus::Denied };
        if let Some(edited) = &body.arguments_text {
            self.arguments = Some(json_or_text(edited));
        }
        if let Some(asked) = self.question() {
            asked.status = ApprovalStatus::of_decision(body.approved);
            asked.decided_by = Some(body.decided_by);
            asked.decided_at = Some(body.decided_at);
            asked.reason = body.reason;
        }
    }

    fn closed(&mut self, status: ApprovalStatus, at: Timestamp) {
        let end = if status == ApprovalStatus::Expired { StepStatus::Failed } else { StepStatus::Cancelled };
        self.finish(end, at);
        if let Some(asked) = self.question() {
            asked.status = status;
        }
    }
}

/// A model may send anything as arguments.
fn json_or_text(text: &str) -> Json {
    serde_json::from_str(text).unwrap_or_else(|_| holdpoint_engine::json(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn steps(entries: &[(&str, Value)]) -> Value {
        let lines: Vec<Line> = entries
            .iter()
            .zip(1..)
            .map(|((kind, payload), seq)| Line {
                seq,
                event: None,
                kind: (*kind).to_owned(),
                step: 0,
                at: Timestamp::from_micros(seq * 1_000_000),
                payload: payload.to_string(),
            })
            .collect();
        serde_json::to_value(fold(&lines).expect("a journal")).expect("JSON")
    }

    fn asked_for_a_refund() -> Vec<(&'static str, Value)> {
        vec![
            ("model.called", json!({"step": 1, "attempt": 1})),
            (
                "message.completed",
                json!({"step": 1, "role": "assistant", "text": "", "usage": {"input_tokens": 1, "output_tokens": 2, "cost_micros": 3},
                       "tool_calls": [{"step": 2, "id": "c", "name": "refund", "arguments": "{\"a\": 1}"}]}),
            ),
            (
                "approval.requested",
                json!({"approval_id": "apr_01h455vb4pex5vsknk084sn02q", "step": 2, "tool_call_id": "c", "tool": "refund",
                       "arguments": {"a": 1}, "arguments_text": "{\"a\": 1}", "digest": "d",
                       "requested_at": "2026-11-21T00:00:00Z", "expires_at": "2026-11-21T00:30:00Z"}),
            ),
        ]
    }

    fn decided(approved: bool) -> (&'static str, Value) {
        let body = json!({"step": 2, "tool_call_id": "c", "tool": "refund", "approved": approved, "digest": "d",
                          "decided_by": "key_1", "decided_at": "2026-11-21T00:01:00Z", "reason": "because"});
        ("approval.decided", body)
    }

    #[test]
    fn a_call_is_followed_through_its_approval() {
        let mut journal = asked_for_a_refund();
        let seen = steps(&journal);
        assert_eq!((&seen[0]["kind"], &seen[0]["status"]), (&"model".into(), &"completed".into()));
        assert_eq!(
            (&seen[1]["status"], &seen[1]["approval"]["status"]),
            (&"waiting".into(), &"pending".into())
        );
        journal.push(decided(true));
        journal.push((
            "tool.called",
            json!({"step": 2, "tool_call_id": "c", "tool": "refund", "arguments": {"a": 1}, "attempt": 1}),
        ));
        assert_eq!(steps(&journal)[1]["status"], "calling");
        journal.push((
            "tool.completed",
            json!({"step": 2, "tool_call_id": "c", "tool": "refund", "output": {"ok": true}}),
        ));
        let seen = steps(&journal);
        assert_eq!((&seen[1]["status"], &seen[1]["attempts"]), (&"completed".into(), &1.into()));
        assert_eq!(seen[1]["output"], json!({"ok": true}));
        assert_eq!(seen[1]["approval"]["decided_by"], "key_1");
    }

    #[test]
    fn a_delegated_call_names_its_child() {
        let mut journal = asked_for_a_refund();
        let call =
            json!({"step": 2, "tool_call_id": "c", "tool": "refund", "arguments": {"a": 1}, "attempt": 1});
        journal.push(("tool.called", call));
        assert_eq!(steps(&journal)[1]["child"], Value::Null);
        let child = "exe_01h455vb4pex5vsknk084sn02q";
        journal.push(("delegated", json!({"step": 2, "tool_call_id": "c", "child": child})));
        assert_eq!(steps(&journal)[1]["child"], child);
    }

    #[test]
    fn a_denied_call_is_denied_and_an_open_one_ends_with_its_execution() {
        let mut journal = asked_for_a_refund();
        journal.push(decided(false));
        assert_eq!(steps(&journal)[1]["status"], "denied");
        let mut journal = asked_for_a_refund();
        journal.push((
            "approval.closed",
            json!({"step": 2, "tool_call_id": "c", "tool": "refund", "status": "cancelled"}),
        ));
        journal.push(("execution.cancelled", json!({"reason": "cancelled"})));
        assert_eq!(steps(&journal)[1]["status"], "cancelled");
        let failed = json!({"reason": "network", "error": {"type": "network", "message": "m"}});
        let journal = [("model.called", json!({"step": 1, "attempt": 1})), ("execution.failed", failed)];
        let seen = steps(&journal);
        assert_eq!((&seen[0]["status"], &seen[0]["error"]["type"]), (&"failed".into(), &"network".into()));
    }

    #[test]
    fn tasks_have_names_and_their_errors() {
        let error = json!({"type": "https://example.com/errors/odd", "status": 400});
        let called = json!({"step": 2, "tool_call_id": "get-2", "tool": "get", "arguments": {}, "attempt": 1, "task": "/do/1/get"});
        let unknown = json!({"step": 2, "attempt": 1, "error": {"type": "network", "message": "m"},
                             "settled_at": "2026-11-21T00:00:00Z"});
        let seen = steps(&[("tool.called", called.clone()), ("outcome.unknown", unknown)]);
        assert_eq!((&seen[0]["status"], &seen[0]["task"]), (&json!("unknown"), &json!("/do/1/get")));
        let journal = [
            ("step.completed", json!({"step": 1, "task": "/do/0/first", "output": 1})),
            ("tool.called", called),
            (
                "tool.completed",
                json!({"step": 2, "tool_call_id": "get-2", "tool": "get", "output": {"a": 1}}),
            ),
            ("step.completed", json!({"step": 2, "task": "/do/1/get", "output": 1})),
            ("task.failed", json!({"step": 3, "task": "/do/2/odd", "error": error})),
            ("task.cancelled", json!({"step": 4, "task": "/do/3/fork/branches/0/slow"})),
        ];
        let seen = steps(&journal);
        let told = |at: usize| {
            let step = &seen[at];
            (step["kind"].clone(), step["name"].clone(), step["status"].clone())
        };
        assert_eq!(told(0), ("task".into(), "first".into(), "completed".into()));
        assert_eq!(told(1), ("tool".into(), "get".into(), "completed".into()));
        assert_eq!((&seen[1]["output"], &seen[1]["task"]), (&json!(1), &json!("/do/1/get")));
        assert_eq!(told(2), ("task".into(), "odd".into(), "failed".into()));
        assert_eq!(seen[2]["fault"], error);
        assert_eq!(told(3), ("task".into(), "slow".into(), "cancelled".into()));
    }

    #[test]
    fn retries_and_unknown_outcomes_are_told() {
        let error = json!({"type": "network", "message": "m"});
        let mut journal = vec![
            ("model.called", json!({"step": 1, "attempt": 1})),
            (
                "attempt.failed",
                json!({"step": 1, "attempt": 1, "error": error, "retry_at": "2026-11-21T00:00:00Z"}),
            ),
        ];
        assert_eq!(steps(&journal)[0]["status"], "retrying");
        journal.push(("model.restarted", json!({"step": 1, "attempt": 2})));
        assert_eq!(steps(&journal)[0]["attempts"], 2);
        let mut journal = asked_for_a_refund();
        journal.push((
            "outcome.unknown",
            json!({"step": 2, "attempt": 1, "error": error, "settled_at": "2026-11-21T00:00:00Z"}),
        ));
        assert_eq!(steps(&journal)[1]["status"], "unknown");
    }
}

//! What a run that repeats another takes over from its journal.
#![allow(clippy::unwrap_used, missing_docs)]

use holdpoint_engine::entry::*;
use holdpoint_engine::ids::ApprovalId;
use holdpoint_engine::outside;
use holdpoint_engine::retry_run::carry_over;
use holdpoint_engine::run::{Run, StepState};
use holdpoint_engine::status::*;
use holdpoint_engine::time::Timestamp;
use serde_json::json;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

#[derive(Default)]
struct Journal {
    run: Run,
    lines: Vec<Line>,
}

impl Journal {
    fn add(&mut self, entries: impl IntoIterator<Item = Entry>) -> &mut Self {
        for entry in entries {
            self.run.apply(&entry);
            let line = self.run.number(&[entry], NOW);
            self.lines.extend(line);
        }
        self
    }

    fn line(&mut self, kind: &str, payload: serde_json::Value) -> &mut Self {
        self.add([Entry::read(kind, &payload.to_string()).unwrap()])
    }

    fn fail(&mut self, reason: Reason) -> &mut Self {
        let entries = outside::fail(&self.run, reason, "it failed");
        self.add(entries)
    }

    /// What is taken over: its kinds, and its fold.
    fn over(&self) -> (Vec<String>, Run) {
        let lines = carry_over(&self.lines).unwrap();
        let seqs: Vec<i64> = lines.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, (1..=lines.len() as i64).collect::<Vec<_>>(), "lines have a gap");
        let events: Vec<i64> = lines.iter().filter_map(|line| line.event).collect();
        assert_eq!(events, (1..=events.len() as i64).collect::<Vec<_>>(), "events have a gap");
        let run = Run::fold(&lines, lines.len() as i64, events.len() as i64).unwrap();
        assert!(run.ended.is_none() && run.suspended.is_none() && !run.paused);
        (lines.into_iter().map(|line| line.kind).collect(), run)
    }
}

fn started(kind: DefinitionKind) -> Entry {
    Entry::ExecutionStarted(ExecutionStarted { kind, name: "n".to_owned(), version: 1, active: None })
}

fn answer(step: i32, calls: &[(i32, &str)]) -> Entry {
    let call = |(step, id): &(i32, &str)| ToolCall {
        step: *step,
        id: (*id).to_owned(),
        name: "pay".to_owned(),
        arguments: "{}".to_owned(),
    };
    Entry::MessageCompleted(MessageCompleted {
        step,
        role: "assistant".to_owned(),
        text: String::new(),
        tool_calls: calls.iter().map(call).collect(),
        finish_reason: None,
        usage: Usage { input_tokens: 3, ..Usage::default() },
    })
}

fn model(step: i32) -> Entry {
    Entry::ModelCalled(ModelCalled { step, attempt: 1 })
}

fn called(step: i32, id: &str, attempt: u32) -> Entry {
    let (tool_call_id, tool) = (id.to_owned(), "pay".to_owned());
    let arguments = holdpoint_engine::json(&json!({}));
    Entry::ToolCalled(ToolCalled { step, tool_call_id, tool, arguments, attempt, task: None, queue: None })
}

fn completed(step: i32, id: &str) -> Entry {
    let (tool_call_id, tool) = (id.to_owned(), "pay".to_owned());
    Entry::ToolCompleted(ToolCompleted { step, tool_call_id, tool, output: holdpoint_engine::json("paid") })
}

fn tool_failed(step: i32, id: &str) -> Entry {
    let (tool_call_id, tool) = (id.to_owned(), "pay".to_owned());
    let error = Failure::new(ErrorType::Network, "away");
    Entry::ToolFailed(ToolFailed { step, tool_call_id, tool, error })
}

fn attempt_failed(step: i32) -> Entry {
    let error = Failure::new(ErrorType::Network, "away");
    Entry::AttemptFailed(AttemptFailed { step, attempt: 1, error, retry_at: NOW })
}

fn asked(step: i32, id: &str) -> Entry {
    Entry::ApprovalRequested(ApprovalRequested {
        approval_id: ApprovalId(uuid::Uuid::nil()),
        step,
        tool_call_id: id.to_owned(),
        tool: "pay".to_owned(),
        arguments: holdpoint_engine::json(&json!({})),
        arguments_text: "{}".to_owned(),
        digest: "d".to_owned(),
        list_digest: None,
        requested_at: NOW,
        expires_at: NOW,
        expiry_named: false,
        approvers: None,
        quorum: None,
        policy: None,
        asked_by: None,
        delegated_by: None,
    })
}

fn decided(step: i32, id: &str, approved: bool) -> Entry {
    Entry::ApprovalDecided(ApprovalDecided {
        step,
        tool_call_id: id.to_owned(),
        tool: "pay".to_owned(),
        approved,
        reason: None,
        arguments_text: None,
        digest: "d".to_owned(),
        decided_by: "key_a".to_owned(),
        decided_at: NOW,
        delegated_by: None,
    })
}

fn agent() -> Journal {
    let mut journal = Journal::default();
    journal.add([started(DefinitionKind::Agent)]);
    journal
}

#[test]
fn a_failed_model_call_is_made_again_after_what_is_finished() {
    let mut journal = agent();
    journal.add([model(1), answer(1, &[(2, "a"), (3, "b")]), called(2, "a", 1), completed(2, "a")]);
    journal.add([called(3, "b", 1), tool_failed(3, "b"), model(4), attempt_failed(4)]);
    journal.fail(Reason::Network);
    let (kinds, run) = journal.over();
    let expected = [
        "execution.started",
        "model.called",
        "message.completed",
        "tool.called",
        "tool.completed",
        "tool.called",
        "tool.failed",
    ];
    assert_eq!(kinds, expected);
    assert_eq!((run.next_step(), run.usage.input_tokens), (4, 3), "the same step again");
    assert!(run.steps[&3].is_done(), "the model was told of the tool's failure");
}

#[test]
fn what_nobody_knows_stays_unknown() {
    let mut journal = agent();
    journal.add([model(1), answer(1, &[(2, "a"), (3, "b")]), called(2, "a", 1), called(3, "b", 1)]);
    let error = Failure::new(ErrorType::Network, "reset");
    let unknown = OutcomeUnknown { step: 2, attempt: 1, error, settled_at: NOW };
    journal.add([Entry::OutcomeUnknown(unknown)]);
    journal.add(outside::act(&journal.run, &holdpoint_engine::effect::Act::Cancel { by: "k".to_owned() }));
    let (_, run) = journal.over();
    assert!(matches!(run.steps[&2].state, StepState::Unknown { .. }), "{:?}", run.steps[&2]);
    assert_eq!(run.steps[&3].state, StepState::Calling, "who goes on judges it by its class");
}

#[test]
fn a_call_that_waited_for_its_next_attempt_has_all_of_them_again() {
    let mut journal = agent();
    journal.add([model(1), answer(1, &[(2, "a")]), called(2, "a", 1), attempt_failed(2)]);
    journal.fail(Reason::Internal);
    let (kinds, run) = journal.over();
    assert_eq!(kinds, ["execution.started", "model.called", "message.completed"]);
    let step = &run.steps[&2];
    assert_eq!((&step.state, step.attempt, step.failures), (&StepState::Ready, 0, 0));
}

#[test]
fn questions_are_asked_again_and_denials_stand() {
    let mut journal = agent();
    journal.add([model(1), answer(1, &[(2, "open"), (3, "granted"), (4, "denied")])]);
    journal.add([asked(2, "open"), asked(3, "granted"), asked(4, "denied")]);
    journal.add([decided(3, "granted", true), decided(4, "denied", false)]);
    journal.fail(Reason::ApprovalTimeout);
    let (kinds, run) = journal.over();
    assert!(!kinds.contains(&"approval.closed".to_owned()), "{kinds:?}");
    for step in [2, 3] {
        let tool = run.steps[&step].tool().unwrap();
        assert_eq!(
            (&run.steps[&step].state, &tool.gate),
            (&StepState::Ready, &None),
            "{step} is asked again"
        );
    }
    assert_eq!(run.steps[&4].state, StepState::Refused { reason: None });
}

#[test]
fn an_answer_that_broke_a_limit_is_asked_for_again() {
    for reason in [Reason::Limit, Reason::TransferLimit] {
        let mut journal = agent();
        journal.add([model(1), answer(1, &[(2, "a")])]);
        journal.fail(reason);
        let (kinds, run) = journal.over();
        assert_eq!((kinds.len(), run.next_step()), (1, 1), "{kinds:?}");
    }
}

/// A state as the interpreter writes one.
fn flow(journal: &mut Journal) -> &mut Journal {
    let state = json!({
        "frames": {}, "next_frame": 1, "next_value": 1, "started_at": NOW, "transitions": 1,
    });
    journal.line("flow.state", json!({"state": state}))
}

fn step_done(step: i32) -> Entry {
    let output = holdpoint_engine::json(&json!(1));
    Entry::StepCompleted(StepCompleted { step, output, task: Some("/do/0/a".to_owned()) })
}

#[test]
fn a_workflow_goes_on_from_where_it_stood_last() {
    let mut journal = Journal::default();
    journal.add([started(DefinitionKind::Workflow), step_done(1), called(2, "c", 1)]);
    flow(&mut journal);
    journal.add([completed(2, "c"), step_done(3), called(4, "d", 1)]);
    flow(&mut journal);
    journal.add([attempt_failed(4), called(4, "d", 2), tool_failed(4, "d")]);
    journal.fail(Reason::Network);
    let (kinds, run) = journal.over();
    let expected = [
        "execution.started",
        "step.completed",
        "tool.called",
        "flow.state",
        "tool.completed",
        "step.completed",
        "flow.state",
        "tool.called",
        "attempt.interrupted",
    ];
    assert_eq!(kinds, expected);
    let step = &run.steps[&4];
    assert_eq!((&step.state, step.failures), (&StepState::Ready, 0), "the call is made again");
    assert!(run.steps[&2].is_done());
}

#[test]
fn effects_that_ended_after_the_last_state_are_taken_over() {
    let mut journal = Journal::default();
    journal.add([started(DefinitionKind::Workflow), called(1, "c", 1), called(2, "d", 1)]);
    flow(&mut journal);
    journal.add([completed(1, "c"), step_done(3)]);
    journal.fail(Reason::Logic);
    let (kinds, run) = journal.over();
    assert_eq!(kinds, ["execution.started", "tool.called", "tool.called", "flow.state", "tool.completed"]);
    assert!(run.steps[&1].is_done(), "its result stands");
    assert_eq!(run.steps[&2].state, StepState::Calling, "it was under way");
    assert_eq!(run.next_step(), 3);
}

#[test]
fn a_workflow_that_never_stood_anywhere_begins_anew() {
    let mut journal = Journal::default();
    journal.add([started(DefinitionKind::Workflow), step_done(1)]);
    journal.fail(Reason::Logic);
    assert_eq!(journal.over().0, ["execution.started"]);
    assert!(carry_over(&[]).unwrap().is_empty(), "one that was cancelled before it began");
}

#[test]
fn events_that_came_are_kept() {
    let mut journal = Journal::default();
    journal.add([started(DefinitionKind::Workflow)]);
    flow(&mut journal);
    journal.line("signal.received", json!({"name": "paid", "event": {"type": "paid"}, "by": "key_a"}));
    journal.fail(Reason::Timeout);
    assert_eq!(journal.over().1.signals.len(), 1);
}

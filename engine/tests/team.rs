//! Transfers and delegation by tables: no store, no model, only the engine's own types.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;

use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::definition::Definition;
use holdpoint_engine::digest::{arguments_digest, child_id};
use holdpoint_engine::effect::{Act, AskedCall, ChildEnded, Effect, Input, ModelAnswer};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{ApprovalClosed, ApprovalDecided, ApprovalRequested, DelegatedBy, Entry, Line};
use holdpoint_engine::ids::{ApprovalId, ExecutionId};
use holdpoint_engine::limits::Limits;
use holdpoint_engine::run::{Run, StepState};
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, ErrorType, Failure, Reason, Status};
use holdpoint_engine::team::{MAX_DEPTH, Member, Team};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::expression::NoEvaluator;

const DESK: &str = r#"{
  "model": {"base_url": "http://model/v1", "name": "m1"}, "instructions": "You are the desk.",
  "max_transfers": 2, "transfers": [{"agent": "books"}, {"agent": "gone"}],
  "tools": [{"name": "look", "http": {"url": "http://tool/look"}, "effect": "idempotent"},
            {"name": "ask_clerk", "agent": {"name": "clerk"}},
            {"name": "ask_nobody", "agent": {"name": "nobody"}},
            {"name": "sure", "agent": {"name": "clerk"}, "approval": "always"}]
}"#;
const BOOKS: &str = r#"{
  "model": {"base_url": "http://model/v1", "name": "m2"}, "instructions": "You are the books.",
  "transfers": [{"agent": "desk"}],
  "tools": [{"name": "pay", "http": {"url": "http://tool/pay"}, "approval": "always"}]
}"#;

struct Table {
    pinned: Pinned,
    run: Run,
    journal: Vec<Line>,
    now: Timestamp,
    entropy: Entropy,
    limits: Limits,
}

fn member(agent: &str, version: i32) -> Member {
    Member { agent: agent.to_owned(), version }
}

fn compiled(version: i32, document: &str) -> Arc<Definition> {
    Arc::new(Definition::compile(DefinitionKind::Agent, version, document).unwrap())
}

impl Table {
    fn new() -> Self {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut entropy = Entropy::from_seed(7);
        let id = ExecutionId::new(now, &mut entropy);
        let pins = [("desk", 1), ("books", 5), ("clerk", 2)];
        let team = Team {
            pins: pins.into_iter().map(|(name, version)| (name.to_owned(), version)).collect(),
            members: [(member("books", 5), compiled(5, BOOKS)), (member("desk", 1), compiled(1, DESK))]
                .into(),
        };
        let pinned = Pinned {
            end_user: None,
            id,
            first_run: id,
            kind: DefinitionKind::Agent,
            name: "desk".to_owned(),
            version: 1,
            definition: compiled(1, DESK),
            team,
            active_agent: None,
            depth: 0,
            client_time: None,
            input: serde_json::Value::Null,
            files: Vec::new(),
            messages: vec![serde_json::json!({"role": "user", "content": "hello"})],
        };
        let limits = Limits::default();
        Self { pinned, run: Run::default(), journal: Vec::new(), now, entropy, limits }
    }

    /// Each decision is made from the journal alone, as after a crash.
    fn feed(&mut self, inputs: Vec<Input>) -> Advance {
        let (seq, event) = (self.run.seq, self.run.event);
        self.run = Run::fold(&self.journal, seq, event).unwrap();
        let context = Context {
            now: self.now,
            entropy: &mut self.entropy,
            limits: &self.limits,
            draining: false,
            evaluator: &NoEvaluator,
        };
        let decided = advance(&self.pinned, &mut self.run, inputs, context);
        self.journal.extend(self.run.number(&decided.entries, self.now));
        decided
    }

    fn begin(&mut self) -> Advance {
        self.feed(vec![Input::Claimed])
    }

    fn call(&mut self, step: i32, calls: &[(&str, &str)]) -> Advance {
        self.feed(vec![answered(step, "", calls)])
    }

    /// A call of `ask_clerk` that has its child.
    fn delegated() -> (Self, ExecutionId) {
        let mut table = Self::new();
        table.begin();
        table.call(1, &[("c1", "ask_clerk")]);
        let child = child_id(table.pinned.id, 2);
        table.feed(vec![Input::Delegated { step: 2, child }]);
        (table, child)
    }

    fn asked(&self, child: ExecutionId) -> ApprovalRequested {
        let arguments = serde_json::from_str("{}").unwrap();
        ApprovalRequested {
            approval_id: ApprovalId(child.0),
            step: 2,
            tool_call_id: "c1:x".to_owned(),
            tool: "pay".to_owned(),
            arguments,
            arguments_text: "{}".to_owned(),
            digest: String::new(),
            requested_at: self.now,
            expires_at: self.now,
            expiry_named: false,
            approvers: None,
            quorum: None,
            policy: None,
            list_digest: None,
            asked_by: None,
            delegated_by: by(child),
        }
    }
}

fn by(child: ExecutionId) -> Option<DelegatedBy> {
    Some(DelegatedBy { execution_id: child, tool_call_id: "x".to_owned() })
}

fn answered(step: i32, text: &str, calls: &[(&str, &str)]) -> Input {
    let call = |(id, name): &(&str, &str)| AskedCall {
        id: Some((*id).to_owned()),
        name: (*name).to_owned(),
        arguments: r#"{"input": "do it"}"#.to_owned(),
    };
    let answer = ModelAnswer {
        text: text.to_owned(),
        tool_calls: calls.iter().map(call).collect(),
        ..ModelAnswer::default()
    };
    Input::Answered { step, answer }
}

fn model_body(decided: &Advance) -> String {
    let model = |effect: &Effect| match effect {
        Effect::Model(model) => Some(model.body.clone()),
        _ => None,
    };
    decided.effects.iter().find_map(model).expect("a model call")
}

fn kinds(decided: &Advance) -> Vec<&'static str> {
    decided.entries.iter().map(Entry::kind).collect()
}

#[test]
fn after_a_transfer_the_other_agent_speaks() {
    let mut table = Table::new();
    assert!(model_body(&table.begin()).contains("transfer_to_books"));
    let decided = table.call(1, &[("c1", "transfer_to_books")]);
    assert_eq!(kinds(&decided), ["message.completed", "transfer", "model.called"]);
    assert_eq!(
        decided.entries[1].payload(),
        r#"{"step":2,"tool_call_id":"c1","from":"desk","to":"books","version":5}"#
    );
    let body = model_body(&decided);
    assert!(body.contains("You are the books.") && !body.contains("You are the desk."), "{body}");
    assert!(
        body.contains(r#""model":"m2""#) && body.contains("\"pay\"") && !body.contains("\"look\""),
        "{body}"
    );
    assert!(body.contains("hello") && body.contains("transferred_to"), "what was said stays: {body}");

    // Its approvals are its own: the digest has its version, and the line says who asks.
    let decided = table.call(3, &[("c2", "pay")]);
    let Some(Entry::ApprovalRequested(asked)) = decided.entries.get(1) else { panic!("{decided:?}") };
    assert_eq!(asked.asked_by, Some(member("books", 5)));
    assert_eq!(asked.digest, arguments_digest("pay", 5, &asked.arguments_text));

    // A tool of the first agent is none of the second's.
    let mut table = Table::new();
    table.begin();
    table.call(1, &[("c1", "transfer_to_books")]);
    let decided = table.call(3, &[("c2", "look")]);
    assert_eq!(kinds(&decided)[1], "tool.failed");
}

#[test]
fn calls_beside_a_transfer_stay_with_who_asked() {
    let mut table = Table::new();
    table.begin();
    let decided = table.call(1, &[("c1", "transfer_to_books"), ("c2", "look"), ("c3", "transfer_to_books")]);
    assert_eq!(kinds(&decided), ["message.completed", "transfer", "tool.failed", "tool.called"]);
    assert!(matches!(&decided.effects[..], [Effect::Http(http)] if http.url == "http://tool/look"));
    let output = serde_json::from_str("{}").unwrap();
    let decided = table.feed(vec![Input::Returned { step: 3, output }]);
    assert!(model_body(&decided).contains("You are the books."));
}

#[test]
fn an_agent_that_was_not_in_use_is_told_to_the_model() {
    for (name, call) in [("gone", "transfer_to_gone"), ("nobody", "ask_nobody")] {
        let mut table = Table::new();
        table.begin();
        let decided = table.call(1, &[("c1", call)]);
        assert_eq!(kinds(&decided), ["message.completed", "tool.failed", "model.called"], "{name}");
        assert!(model_body(&decided).contains(name));
    }
}

#[test]
fn too_many_transfers_fail() {
    let mut table = Table::new();
    table.begin();
    let mut decided = table.call(1, &[("c1", "transfer_to_books")]);
    for (step, to) in [(3, "transfer_to_desk"), (5, "transfer_to_books")] {
        assert!(decided.next != Next::End);
        decided = table.call(step, &[("c", to)]);
    }
    assert_eq!(decided.next, Next::End);
    let Some(Entry::ExecutionFailed(failed)) = decided.entries.last() else { panic!("{decided:?}") };
    assert_eq!((failed.reason, failed.error.kind), (Reason::TransferLimit, ErrorType::Logic));
    assert!(failed.error.message.contains("max_transfers is 2"), "{}", failed.error.message);
}

#[test]
fn a_conversation_goes_on_with_whom_it_was_with() {
    let mut table = Table::new();
    table.pinned.active_agent = Some("books".to_owned());
    let decided = table.begin();
    assert!(model_body(&decided).contains("You are the books."));
    assert_eq!(table.run.speaker, Some(member("books", 5)));
    assert_eq!(table.run.transfers, 0);

    let mut table = Table::new();
    table.pinned.active_agent = Some("left".to_owned());
    assert!(model_body(&table.begin()).contains("You are the desk."), "no member any more");
}

#[test]
fn a_call_of_an_agent_is_an_execution_of_its_own() {
    let mut table = Table::new();
    table.begin();
    let decided = table.call(1, &[("c1", "ask_clerk")]);
    let [Effect::Delegate(effect)] = &decided.effects[..] else { panic!("{decided:?}") };
    assert_eq!((effect.step, &effect.to), (2, &member("clerk", 2)));
    assert_eq!(kinds(&decided), ["message.completed", "tool.called"]);
    let child = child_id(table.pinned.id, 2);
    let decided = table.feed(vec![Input::Delegated { step: 2, child }]);
    assert_eq!(kinds(&decided), ["delegated", "execution.suspended"]);
    assert_eq!(decided.next, Next::Suspend { reason: Reason::Signal, ready_at: None });
    assert!(table.journal.iter().any(|line| line.kind == "delegated" && line.event.is_none()));
}

#[test]
fn a_childs_end_is_the_calls_result() {
    let output = || serde_json::from_str("\"booked\"").unwrap();
    let failure = Failure::new(ErrorType::Timeout, "nobody decided");
    for (ended, kind, told) in [
        (ChildEnded { step: 2, output: Some(output()), error: None }, "tool.completed", "booked"),
        (ChildEnded { step: 2, output: None, error: Some(failure) }, "tool.failed", "nobody decided"),
    ] {
        let (mut table, _) = Table::delegated();
        let decided = table.feed(vec![Input::Claimed, Input::Act(Act::ChildEnded(ended.clone()))]);
        assert_eq!(kinds(&decided), ["execution.resumed", kind, "model.called"]);
        assert!(model_body(&decided).contains(told));
        let again = table.feed(vec![Input::Act(Act::ChildEnded(ended))]);
        assert!(again.entries.is_empty(), "a second time it changes nothing");
    }
}

#[test]
fn a_child_may_be_quicker_than_the_line_that_names_it() {
    let ended = || {
        let output = serde_json::from_str("\"booked\"").unwrap();
        Input::Act(Act::ChildEnded(ChildEnded { step: 2, output: Some(output), error: None }))
    };
    let mut table = Table::new();
    table.begin();
    table.call(1, &[("c1", "ask_clerk")]);
    let child = child_id(table.pinned.id, 2);
    let decided = table.feed(vec![ended(), Input::Delegated { step: 2, child }]);
    assert_eq!(kinds(&decided), ["tool.completed", "model.called"]);

    // The worker died between starting the child and saying so; the news comes with the takeover.
    let mut table = Table::new();
    table.begin();
    table.call(1, &[("c1", "ask_clerk")]);
    let decided = table.feed(vec![Input::Claimed, ended()]);
    assert_eq!(kinds(&decided), ["attempt.interrupted", "tool.completed", "model.called"]);

    // Without news it is started again, which finds it.
    let mut table = Table::new();
    table.begin();
    table.call(1, &[("c1", "ask_clerk")]);
    let decided = table.feed(vec![Input::Claimed]);
    assert!(matches!(&decided.effects[..], [Effect::Delegate(effect)] if effect.attempt == 2));
}

#[test]
fn a_childs_questions_are_shown_and_fall_away() {
    let (mut table, child) = Table::delegated();
    let asked = table.asked(child);
    let decided = table.feed(vec![Input::Claimed, Input::Act(Act::ChildAsked(Box::new(asked.clone())))]);
    assert_eq!(kinds(&decided), ["execution.resumed", "approval.requested", "execution.suspended"]);
    assert_eq!(decided.next, Next::Suspend { reason: Reason::Approval, ready_at: None });
    assert!(decided.entries[2].payload().contains("c1:x"));
    assert!(matches!(table.run.steps[&2].state, StepState::Delegated { .. }), "the step still waits");

    let answer = ApprovalDecided {
        step: 2,
        tool_call_id: "c1:x".to_owned(),
        tool: "pay".to_owned(),
        approved: true,
        reason: None,
        arguments_text: None,
        digest: String::new(),
        decided_by: "key_1".to_owned(),
        decided_at: table.now,
        delegated_by: by(child),
    };
    let decided = table.feed(vec![Input::Act(Act::ChildDecided(answer.clone()))]);
    assert_eq!(kinds(&decided), ["execution.resumed", "approval.decided", "execution.suspended"]);
    assert_eq!(decided.next, Next::Suspend { reason: Reason::Signal, ready_at: None });
    let again = table.feed(vec![Input::Act(Act::ChildDecided(answer))]);
    assert!(!kinds(&again).contains(&"approval.decided"), "it is shown once");

    // One that is cancelled closes what its children ask.
    let (mut table, child) = Table::delegated();
    table.feed(vec![Input::Act(Act::ChildAsked(Box::new(table.asked(child))))]);
    let decided = table.feed(vec![Input::Act(Act::Cancel { by: "key_1".to_owned() })]);
    let closed = |entry: &Entry| {
        matches!(entry, Entry::ApprovalClosed(ApprovalClosed { delegated_by: Some(_), status, .. })
            if *status == ApprovalStatus::Cancelled)
    };
    assert!(decided.entries.iter().any(closed), "{decided:?}");
    assert_eq!(table.run.ended, Some(Status::Cancelled));
}

#[test]
fn a_delegation_can_need_an_approval_too() {
    let mut table = Table::new();
    table.begin();
    let decided = table.call(1, &[("c1", "sure")]);
    assert_eq!(decided.next, Next::Suspend { reason: Reason::Approval, ready_at: None });
    let (_, work) = table.run.step_of_call("c1").unwrap();
    let digest = arguments_digest("sure", 1, &work.arguments);
    let approved = Act::Decided(ApprovalDecided {
        step: 2,
        tool_call_id: "c1".to_owned(),
        tool: "sure".to_owned(),
        approved: true,
        reason: None,
        arguments_text: None,
        digest,
        decided_by: "key_1".to_owned(),
        decided_at: table.now,
        delegated_by: None,
    });
    let decided = table.feed(vec![Input::Claimed, Input::Act(approved)]);
    assert!(matches!(&decided.effects[..], [Effect::Delegate(_)]));
    assert_eq!(decided.gates.len(), 1, "the commit uses the decision up");
}

#[test]
fn it_is_not_delegated_without_end() {
    let mut table = Table::new();
    table.pinned.depth = MAX_DEPTH;
    table.begin();
    let decided = table.call(1, &[("c1", "ask_clerk")]);
    let Some(Entry::ExecutionFailed(failed)) = decided.entries.last() else { panic!("{decided:?}") };
    assert_eq!(failed.reason, Reason::Limit);
    assert!(decided.effects.is_empty() && decided.next == Next::End);
    let mut table = Table::new();
    table.pinned.depth = MAX_DEPTH - 1;
    table.begin();
    assert_eq!(table.call(1, &[("c1", "ask_clerk")]).effects.len(), 1);
}

//! What is carried out elsewhere, and what nobody knows of: tasks of queues that fall silent, and
//! calls whose outcome a tool is asked for. No worker, no tool, no clock.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::definition::{Definition, Retry};
use holdpoint_engine::digest::effect_key;
use holdpoint_engine::effect::{
    Act, AskedCall, Certainty, Effect, Input, ModelAnswer, ReconcileEffect, TaskReport,
};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{Entry, Line, OutcomeResolved, QueueTerms, ToolCalled};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::outside;
use holdpoint_engine::run::{Run, StepState};
use holdpoint_engine::status::{DefinitionKind, EffectClass, ErrorType, Failure, Outcome, Reason};
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::workflow::expression::NoEvaluator;

const AGENT: &str = r#"{
  "model": {"base_url": "http://model/v1", "name": "m"},
  "tools": [{"name": "mail", "http": {"url": "http://tool/mail"}, "timeout": "1m",
             "reconcile": {"url": "http://tool/sent", "headers": {"x-a": "b"}, "secret": "s"}}]
}"#;

const WORKFLOW: &str = r#"{
  "document": {"dsl": "1.0.0", "namespace": "tests", "name": "pay", "version": "0.1.0"},
  "do": [{"pay": {
    "call": "http",
    "with": {"method": "post", "endpoint": "http://tool/pay", "body": {"n": 1}},
    "metadata": {"holdpoint": {"reconcile": {"method": "get", "endpoint": "http://tool/paid", "query": {"a": "b"}}}}
  }}]
}"#;

struct Table {
    pinned: Pinned,
    run: Run,
    journal: Vec<Line>,
    now: Timestamp,
    entropy: Entropy,
}

impl Table {
    fn of(kind: DefinitionKind, document: &str) -> Self {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut entropy = Entropy::from_seed(42);
        let id = ExecutionId::new(now, &mut entropy);
        let pinned = Pinned {
            end_user: None,
            id,
            first_run: id,
            kind,
            name: "desk".to_owned(),
            version: 1,
            definition: Arc::new(Definition::compile(kind, 1, document).unwrap()),
            messages: vec![serde_json::json!({"role": "user", "content": "hello"})],
            input: serde_json::Value::Null,
            files: Vec::new(),
            team: Default::default(),
            active_agent: None,
            depth: 0,
            client_time: None,
        };
        Self { pinned, run: Run::default(), journal: Vec::new(), now, entropy }
    }

    /// The call of step 2 is under way.
    fn calling() -> Self {
        let mut table = Self::of(DefinitionKind::Agent, AGENT);
        table.feed(vec![Input::Claimed]);
        let call = AskedCall {
            id: Some("c1".to_owned()),
            name: "mail".to_owned(),
            arguments: r#"{"to": "ada"}"#.to_owned(),
        };
        let answer = ModelAnswer { tool_calls: vec![call], ..ModelAnswer::default() };
        table.feed(vec![Input::Answered { step: 1, answer }]);
        assert_eq!(*table.step(), StepState::Calling);
        table
    }

    /// The same as a task of a queue, on these terms.
    fn given_out(class: EffectClass, heartbeat: Option<u64>) -> Self {
        let mut table = Self::calling();
        table.run = Run::default();
        let terms = QueueTerms {
            name: "work".to_owned(),
            heartbeat: heartbeat.map(Span::secs),
            class,
            retry: Retry { tries: 2, ..Retry::default() },
        };
        for line in &mut table.journal {
            if let Entry::ToolCalled(body) = Entry::read(&line.kind, &line.payload).unwrap() {
                line.payload = Entry::ToolCalled(ToolCalled { queue: Some(terms.clone()), ..body }).payload();
            }
        }
        table.reload();
        table
    }

    fn feed(&mut self, inputs: Vec<Input>) -> Advance {
        let limits = Limits::default();
        let context = Context {
            now: self.now,
            entropy: &mut self.entropy,
            limits: &limits,
            draining: false,
            evaluator: &NoEvaluator,
        };
        let decided = advance(&self.pinned, &mut self.run, inputs, context);
        self.journal.extend(self.run.number(&decided.entries, self.now));
        decided
    }

    /// Forgets everything but the journal, as a crash would.
    fn reload(&mut self) {
        let seq = self.journal.len() as i64;
        let event = self.journal.iter().filter_map(|line| line.event).max().unwrap_or(0);
        self.run = Run::fold(&self.journal, seq, event).unwrap();
    }

    fn after(&mut self, seconds: u64, inputs: Vec<Input>) -> Advance {
        self.now = self.now.plus(Duration::from_secs(seconds));
        self.feed(inputs)
    }

    fn step(&self) -> &StepState {
        &self.run.steps[&2].state
    }

    fn last(&self, count: usize) -> Vec<&str> {
        self.journal[self.journal.len() - count..].iter().map(|line| line.kind.as_str()).collect()
    }

    fn lose_outcome(&mut self) -> Advance {
        let failure = Failure::new(ErrorType::Network, "the connection broke");
        let certainty = Certainty::Unknown;
        self.feed(vec![Input::Failed { step: 2, failure, retry_after: None, certainty }])
    }
}

fn suspended(advance: &Advance) -> (Reason, Option<Timestamp>) {
    match advance.next {
        Next::Suspend { reason, ready_at } => (reason, ready_at),
        ref other => panic!("{other:?}"),
    }
}

fn question(advance: &Advance) -> &ReconcileEffect {
    match &advance.effects[..] {
        [Effect::Reconcile(effect)] => effect,
        other => panic!("{other:?}"),
    }
}

fn said(outcome: Option<Outcome>) -> Vec<Input> {
    let result = outcome.map(|_| holdpoint_engine::json(&serde_json::json!({"id": 7})));
    vec![Input::Reconciled { step: 2, outcome, result }]
}

fn report(now: Timestamp, error: Option<ErrorType>) -> Vec<Input> {
    let output = error.is_none().then(|| holdpoint_engine::json("sent"));
    let error = error.map(|kind| Failure::new(kind, "no luck"));
    let by = "key_1".to_owned();
    vec![Input::Act(Act::TaskReported(TaskReport { step: 2, attempt: 1, output, error, by, at: now }))]
}

#[test]
fn a_published_task_is_waited_for() {
    let mut table = Table::given_out(EffectClass::AtMostOnce, Some(30));
    let advance = table.feed(vec![Input::Published { step: 2 }]);
    let due = table.now.plus(Duration::from_secs(30));
    assert_eq!(suspended(&advance), (Reason::Signal, Some(due)));
    assert_eq!(*table.step(), StepState::Awaiting { due: Some(due) });
    table.reload();
    let advance = table.after(5, report(table.now, None));
    assert_eq!(table.last(3), ["execution.resumed", "tool.completed", "model.called"]);
    assert!(matches!(advance.next, Next::Wait { until: None }));
}

#[test]
fn a_report_may_be_quicker_than_the_line_that_it_was_published() {
    let mut table = Table::given_out(EffectClass::AtMostOnce, Some(30));
    let mut both = report(table.now, None);
    both.push(Input::Published { step: 2 });
    table.feed(both);
    assert_eq!(table.last(2), ["tool.completed", "model.called"]);
}

#[test]
fn a_task_that_may_be_repeated_is_given_out_again_after_silence() {
    let mut table = Table::given_out(EffectClass::Keyed, Some(30));
    table.feed(vec![Input::Published { step: 2 }]);
    let early = table.after(27, Vec::new());
    assert_eq!(suspended(&early).0, Reason::Signal);
    table.after(3, Vec::new());
    assert_eq!(table.last(1), ["attempt.failed"], "it is held for the second attempt");
    assert!(matches!(table.step(), StepState::Retrying { .. }));
    // A late word of the first attempt is too late.
    let late = report(table.now, None);
    let Input::Act(act) = &late[0] else { panic!("an act") };
    assert!(outside::act(&table.run, act).is_empty());
}

#[test]
fn silence_of_a_task_that_may_not_be_repeated_is_an_unknown_outcome() {
    let mut table = Table::given_out(EffectClass::AtMostOnce, Some(30));
    table.feed(vec![Input::Published { step: 2 }]);
    table.after(30, Vec::new());
    assert!(matches!(table.step(), StepState::Unknown { .. }));
    // The worker was alive after all: its report is the answer.
    table.after(5, report(table.now, None));
    assert!(table.journal.iter().any(|line| line.kind == "outcome.resolved"));
    assert_eq!(table.last(2), ["tool.completed", "model.called"]);
}

#[test]
fn a_heartbeat_is_a_line_only_where_it_moves_something() {
    let mut table = Table::given_out(EffectClass::AtMostOnce, Some(40));
    table.feed(vec![Input::Published { step: 2 }]);
    let begun = table.journal.len();
    let beat = |at| Act::TaskHeartbeat { step: 2, attempt: 1, at };
    let after = |seconds| table.now.plus(Duration::from_secs(seconds));
    assert!(outside::act(&table.run, &beat(after(9))).is_empty());
    let [Entry::TaskHeartbeat(moved)] = &outside::act(&table.run, &beat(after(10)))[..] else {
        panic!("a line");
    };
    assert_eq!(moved.due, Some(after(50)));
    let stale = Act::TaskHeartbeat { step: 2, attempt: 2, at: after(30) };
    assert!(outside::act(&table.run, &stale).is_empty());
    assert_eq!(table.journal.len(), begun);
}

#[test]
fn tries_are_used_up() {
    let mut table = Table::given_out(EffectClass::Idempotent, None);
    table.feed(vec![Input::Published { step: 2 }]);
    let again = outside::act(&table.run, &act_of(report(table.now, Some(ErrorType::RateLimit))));
    assert!(matches!(&again[..], [Entry::AttemptFailed(_)]));
    table.run.steps.get_mut(&2).unwrap().failures = 1;
    let over = outside::act(&table.run, &act_of(report(table.now, Some(ErrorType::RateLimit))));
    assert!(matches!(&over[..], [Entry::ToolFailed(_)]));
}

fn act_of(mut inputs: Vec<Input>) -> Act {
    match inputs.pop() {
        Some(Input::Act(act)) => act,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_tool_is_asked_before_a_person_is() {
    let mut table = Table::calling();
    let advance = table.lose_outcome();
    let first = table.now.plus(Duration::from_secs(10));
    assert_eq!(suspended(&advance), (Reason::OutcomeUnknown, Some(first)));
    assert!(table.after(9, Vec::new()).effects.is_empty());
    let asked = table.after(1, Vec::new());
    let request = &question(&asked).request;
    assert_eq!((request.step, request.attempt, request.method.as_str()), (2, 1, "POST"));
    assert_eq!(request.uri, "http://tool/sent");
    let body = request.body.as_ref().unwrap();
    assert_eq!((&body["arguments"]["to"], &body["tool_call_id"]), (&"ada".into(), &"c1".into()));
    assert_eq!(body["key"], request.key.as_str());
    assert!(matches!(asked.next, Next::Wait { .. }), "the answer is waited for here");
    // It is not asked twice at a time.
    assert!(table.after(60, Vec::new()).effects.is_empty());
    table.feed(said(Some(Outcome::Happened)));
    let resolved = table.journal.iter().find(|line| line.kind == "outcome.resolved").unwrap();
    assert!(resolved.payload.contains(r#""by":"reconcile""#), "{}", resolved.payload);
    assert_eq!(table.last(2), ["tool.completed", "model.called"]);
}

#[test]
fn five_questions_are_asked_and_then_a_person() {
    let mut table = Table::calling();
    table.lose_outcome();
    for (number, wait) in [10, 20, 40, 80, 160].into_iter().enumerate() {
        table.reload();
        assert!(table.after(wait - 1, vec![Input::Claimed]).effects.is_empty(), "question {number}");
        let asked = table.after(1, Vec::new());
        assert_eq!(question(&asked).request.attempt, number as u32 + 1);
        let answer = if number == 1 {
            // A question that breaks down is one without an answer.
            let failure = Failure::new(ErrorType::Internal, "the effect panicked");
            vec![Input::Failed { step: 2, failure, retry_after: None, certainty: Certainty::Unknown }]
        } else {
            said(None)
        };
        let told = table.feed(answer);
        let (reason, ready_at) = suspended(&told);
        assert_eq!((reason, ready_at.is_some()), (Reason::OutcomeUnknown, number < 4));
    }
    assert!(table.after(3600, Vec::new()).effects.is_empty());
    let by = "key_1".to_owned();
    let happened = OutcomeResolved { step: 2, outcome: Outcome::Happened, result: None, by };
    table.feed(vec![Input::Act(Act::Resolve(happened))]);
    assert_eq!(table.last(2), ["tool.completed", "model.called"]);
}

#[test]
fn what_did_not_happen_is_performed_again_with_the_same_key() {
    let mut table = Table::calling();
    table.lose_outcome();
    let asked = table.after(10, Vec::new());
    let key = question(&asked).request.key.clone();
    let again = table.feed(said(Some(Outcome::DidNotHappen)));
    let [Effect::Http(call)] = &again.effects[..] else { panic!("{:?}", again.effects) };
    assert_eq!((call.attempt, &call.key), (2, &key));
    assert_eq!(table.last(2), ["outcome.resolved", "tool.called"]);
}

#[test]
fn a_person_may_be_quicker_than_the_tool() {
    let mut table = Table::calling();
    table.lose_outcome();
    table.after(10, Vec::new());
    let by = "key_1".to_owned();
    let happened = OutcomeResolved { step: 2, outcome: Outcome::Happened, result: None, by };
    table.feed(vec![Input::Act(Act::Resolve(happened))]);
    let lines = table.journal.len();
    table.feed(said(Some(Outcome::DidNotHappen)));
    assert_eq!(table.journal.len(), lines);
}

#[test]
fn after_a_lost_worker_it_is_asked_once_the_call_is_settled() {
    let mut table = Table::calling();
    table.reload();
    let taken = table.feed(vec![Input::Claimed]);
    let first = table.now.plus(Duration::from_secs(70));
    assert_eq!(suspended(&taken), (Reason::OutcomeUnknown, Some(first)));
    let asked = table.after(70, Vec::new());
    assert_eq!(question(&asked).request.attempt, 1);
    // The worker that asked is lost too: whoever comes asks again.
    table.reload();
    let again = table.feed(vec![Input::Claimed]);
    assert_eq!(question(&again).request.attempt, 1);
}

#[test]
fn a_workflow_s_task_asks_by_a_request_of_its_own() {
    let mut table = Table::of(DefinitionKind::Workflow, WORKFLOW);
    // It repeats another run: that one's keys are the keys.
    table.pinned.first_run = ExecutionId::new(table.now, &mut table.entropy);
    let begun = table.feed(vec![Input::Claimed]);
    let [Effect::Request(call)] = &begun.effects[..] else { panic!("{:?}", begun.effects) };
    let (step, key) = (call.step, call.key.clone());
    assert_eq!(key, effect_key(table.pinned.first_run, step));
    let failure = Failure::new(ErrorType::Network, "the connection broke");
    let certainty = Certainty::Unknown;
    let lost = table.feed(vec![Input::Failed { step, failure, retry_after: None, certainty }]);
    let first = table.now.plus(Duration::from_secs(10));
    assert_eq!(suspended(&lost), (Reason::OutcomeUnknown, Some(first)));
    table.reload();
    let asked = table.after(10, vec![Input::Claimed]);
    let request = &question(&asked).request;
    assert_eq!((request.method.as_str(), request.uri.as_str()), ("GET", "http://tool/paid"));
    assert_eq!(request.query, [("a".to_owned(), "b".to_owned())]);
    assert_eq!((request.step, request.attempt, &request.key), (step, 1, &key));
    let result = Some(holdpoint_engine::json(&serde_json::json!({"id": 7})));
    let over = table.feed(vec![Input::Reconciled { step, outcome: Some(Outcome::Happened), result }]);
    assert!(matches!(over.next, Next::End), "{:?}", over.next);
    let last = table.journal.last().unwrap();
    assert_eq!(last.kind, "execution.completed");
    assert!(last.payload.contains(r#"{"id":7}"#), "{}", last.payload);
}

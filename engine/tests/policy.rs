//! `when` of an approval policy: what it says is done, and is asked once.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::definition::Definition;
use holdpoint_engine::effect::{AskedCall, Effect, Input, ModelAnswer};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{ApprovalRequested, Entry, Line};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::policy::Approvers;
use holdpoint_engine::run::Run;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::expression::{Evaluator, Expression, ExpressionError};
use serde_json::{Value, json};

const AGENT: &str = r#"{
    "model": {"base_url": "http://127.0.0.1:1/v1", "name": "m"},
    "tools": [{"name": "refund", "http": {"url": "http://127.0.0.1:1/refund"},
               "approval": {"when": ".arguments.amount > 50", "approvers": {"groups": ["finance"]},
                            "quorum": 2, "expires_after": "2h"},
               "parameters": {"type": "object", "properties": {"amount": {"type": "integer"}}}}]
}"#;

/// Says what it is told to, counts how often it is asked, and keeps what it was asked last.
#[derive(Default)]
struct Oracle {
    says: std::sync::Mutex<Option<Result<Value, ExpressionError>>>,
    asked: AtomicUsize,
    saw: std::sync::Mutex<Value>,
}

impl Oracle {
    fn saying(says: Result<Value, ExpressionError>) -> Self {
        Self { says: Some(says).into(), ..Self::default() }
    }

    fn say(&self, says: Result<Value, ExpressionError>) {
        *self.says.lock().unwrap() = Some(says);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Evaluator for Oracle {
    fn evaluate(
        &self,
        _: &Expression,
        input: &Value,
        _: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        *self.saw.lock().unwrap() = input.clone();
        self.says.lock().unwrap().clone().unwrap()
    }

    fn check(&self, _: &Expression, _: &[&str]) -> Result<(), ExpressionError> {
        Ok(())
    }
}

struct Table {
    pinned: Pinned,
    run: Run,
    journal: Vec<Line>,
    now: Timestamp,
    entropy: Entropy,
}

impl Table {
    /// The model has asked for a refund, and nothing of it is decided yet.
    fn asked(oracle: &Oracle) -> (Self, Advance) {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut entropy = Entropy::from_seed(42);
        let id = ExecutionId::new(now, &mut entropy);
        let pinned = Pinned {
            id,
            first_run: id,
            kind: DefinitionKind::Agent,
            name: "desk".to_owned(),
            version: 1,
            definition: Arc::new(Definition::compile(DefinitionKind::Agent, 1, AGENT).unwrap()),
            team: Default::default(),
            active_agent: None,
            depth: 0,
            messages: Vec::new(),
            input: Value::Null,
            end_user: Some("ada".to_owned()),
            files: Vec::new(),
            client_time: None,
        };
        let mut table = Self { pinned, run: Run::default(), journal: Vec::new(), now, entropy };
        table.feed(oracle, vec![Input::Claimed]);
        let call = AskedCall {
            id: Some("a".to_owned()),
            name: "refund".to_owned(),
            arguments: r#"{"amount": 40}"#.to_owned(),
        };
        let answer = ModelAnswer {
            text: String::new(),
            tool_calls: vec![call],
            finish_reason: Some("tool_calls".to_owned()),
            input_tokens: 1,
            output_tokens: 1,
        };
        let decided = table.feed(oracle, vec![Input::Answered { step: 1, answer }]);
        (table, decided)
    }

    fn feed(&mut self, oracle: &Oracle, inputs: Vec<Input>) -> Advance {
        let context = Context {
            now: self.now,
            entropy: &mut self.entropy,
            limits: &Limits::default(),
            draining: false,
            evaluator: oracle,
        };
        let decided = advance(&self.pinned, &mut self.run, inputs, context);
        self.journal.extend(self.run.number(&decided.entries, self.now));
        decided
    }

    fn reload(&mut self) {
        self.run = Run::fold(&self.journal, self.run.seq, self.run.event).unwrap();
    }
}

fn kinds(decided: &Advance) -> Vec<&str> {
    decided.entries.iter().map(Entry::kind).collect()
}

fn question(decided: &Advance) -> &ApprovalRequested {
    decided
        .entries
        .iter()
        .find_map(|entry| match entry {
            Entry::ApprovalRequested(asked) => Some(asked),
            _ => None,
        })
        .expect("a question")
}

#[test]
fn a_call_that_needs_none_goes_at_once_and_says_so() {
    let oracle = Oracle::saying(Ok(Value::Bool(false)));
    let (mut table, decided) = Table::asked(&oracle);
    assert_eq!(kinds(&decided), ["message.completed", "approval.not_needed", "tool.called"]);
    assert!(matches!(decided.effects[..], [Effect::Http(_)]) && decided.gates.is_empty());
    let saw = json!({"tool": "refund", "arguments": {"amount": 40}, "end_user": "ada", "agent": "desk"});
    assert_eq!(*oracle.saw.lock().unwrap(), saw);
    assert_eq!(oracle.asked(), 1);
    // The next worker reads what was said, and does not ask again, whatever it would be now.
    oracle.say(Ok(Value::Bool(true)));
    table.reload();
    assert!(table.run.steps[&2].waived);
    table.feed(&oracle, vec![Input::Claimed]);
    assert_eq!(oracle.asked(), 1);
}

#[test]
fn a_call_that_needs_one_waits_under_its_policy() {
    let oracle = Oracle::saying(Ok(Value::Bool(true)));
    let (table, decided) = Table::asked(&oracle);
    assert_eq!(kinds(&decided), ["message.completed", "approval.requested", "execution.suspended"]);
    assert!(decided.effects.is_empty());
    let asked = question(&decided);
    let finance = Approvers { roles: Vec::new(), groups: vec!["finance".to_owned()] };
    assert_eq!((asked.approvers.as_ref(), asked.quorum), (Some(&finance), Some(2)));
    let policy = asked.policy.as_ref().unwrap();
    assert_eq!((policy.quorum, policy.approvers.as_ref()), (2, Some(&finance)));
    assert_eq!((asked.expires_at, asked.expiry_named), (table.now.plus(Duration::from_secs(7_200)), true));
    assert_eq!(policy.when_failed, None);
}

#[test]
fn an_expression_that_cannot_say_asks_and_tells_why() {
    for says in [
        Ok(Value::Null),
        Ok(json!("false")),
        Err(ExpressionError::Failed("no amount".to_owned())),
        Err(ExpressionError::Limit { name: "expression_ms", limit: 250 }),
        Err(ExpressionError::Several),
        Err(ExpressionError::Invalid("gone".to_owned())),
    ] {
        let (_, decided) = Table::asked(&Oracle::saying(says.clone()));
        let policy = question(&decided).policy.as_ref().unwrap();
        assert!(policy.when_failed.is_some(), "{says:?}");
        assert!(decided.effects.is_empty(), "{says:?}");
    }
}

#[test]
fn without_an_evaluator_it_is_tried_again_and_never_let_through() {
    let away = || Err(ExpressionError::Unavailable("away".to_owned()));
    let oracle = Oracle::saying(away());
    let (mut table, decided) = Table::asked(&oracle);
    assert_eq!(kinds(&decided), ["message.completed"]);
    assert!(decided.effects.is_empty());
    let again = table.now.plus(Duration::from_secs(1));
    assert_eq!(decided.next, Next::Wait { until: Some(again) });
    assert_eq!(oracle.asked(), 1, "once in a turn");
    for _ in 0..3 {
        table.now = table.now.plus(Duration::from_secs(1));
        table.reload();
        let decided = table.feed(&oracle, Vec::new());
        assert!(decided.entries.is_empty() && decided.effects.is_empty());
        assert!(matches!(decided.next, Next::Wait { until: Some(_) }));
    }
    oracle.say(Ok(Value::Bool(true)));
    let decided = table.feed(&oracle, Vec::new());
    assert_eq!(kinds(&decided), ["approval.requested", "execution.suspended"]);
}

//! The agent loop by tables and properties: no model, no tool, no clock, no mock. A `Table`
//! plays the part of the store and the worker with nothing but the engine's own types.
#![allow(clippy::unwrap_used, missing_docs)]

use std::sync::Arc;
use std::time::Duration;

use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::definition::Definition;
use holdpoint_engine::digest::arguments_digest;
use holdpoint_engine::effect::{Act, AskedCall, Certainty, Effect, Input, ModelAnswer};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{ApprovalDecided, Entry, Line, OutcomeResolved};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::outside;
use holdpoint_engine::run::{Run, StepState};
use holdpoint_engine::status::{DefinitionKind, ErrorType, Failure, Outcome, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::expression::NoEvaluator;

const AGENT: &str = r#"{
  "model": {"base_url": "http://model/v1", "name": "m", "secret": "models", "retry": {"tries": 3},
            "prices": {"input_per_million": 1, "output_per_million": 2}},
  "instructions": "Be brief.",
  "max_turns": 4,
  "tools": [
    {"name": "look", "http": {"url": "http://tool/look"}, "effect": "idempotent",
     "parameters": {"type": "object", "properties": {"id": {"type": "integer"}}}},
    {"name": "mail", "http": {"url": "http://tool/mail"}, "timeout": "1m"},
    {"name": "refund", "http": {"url": "http://tool/refund"}, "approval": "always"},
    {"name": "pay", "http": {"url": "http://tool/pay"}, "effect": "keyed", "approval": {"expires_after": "2h"}}
  ]
}"#;

struct Table {
    pinned: Pinned,
    run: Run,
    journal: Vec<Line>,
    now: Timestamp,
    entropy: Entropy,
    limits: Limits,
    /// Forget everything but the journal before each decision, as a crash would.
    forgetful: bool,
}

impl Table {
    fn new() -> Self {
        Self::of(Definition::compile(DefinitionKind::Agent, 1, AGENT).unwrap())
    }

    fn of(definition: Definition) -> Self {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut entropy = Entropy::from_seed(42);
        let id = ExecutionId::new(now, &mut entropy);
        let pinned = Pinned {
            end_user: None,
            id,
            first_run: id,
            kind: DefinitionKind::Agent,
            name: "desk".to_owned(),
            version: 1,
            definition: Arc::new(definition),
            messages: vec![serde_json::json!({"role": "user", "content": "hello"})],
            team: Default::default(),
            active_agent: None,
            depth: 0,
            client_time: None,
            input: serde_json::Value::Null,
            files: Vec::new(),
        };
        Self {
            pinned,
            run: Run::default(),
            journal: Vec::new(),
            now,
            entropy,
            limits: Limits::default(),
            forgetful: false,
        }
    }

    fn feed(&mut self, inputs: Vec<Input>) -> Advance {
        self.decide(inputs, false)
    }

    fn decide(&mut self, inputs: Vec<Input>, draining: bool) -> Advance {
        if self.forgetful {
            self.reload();
        }
        let context = Context {
            now: self.now,
            entropy: &mut self.entropy,
            limits: &self.limits,
            draining,
            evaluator: &NoEvaluator,
        };
        let decided = advance(&self.pinned, &mut self.run, inputs, context);
        self.journal.extend(self.run.number(&decided.entries, self.now));
        decided
    }

    fn reload(&mut self) {
        let (seq, event) = (self.run.seq, self.run.event);
        self.run = Run::fold(&self.journal, seq, event).unwrap();
    }

    fn begin(&mut self) -> Advance {
        self.feed(vec![Input::Claimed])
    }

    fn answer(&mut self, step: i32, text: &str, calls: &[(&str, &str, &str)]) -> Advance {
        self.feed(vec![answered(step, text, calls)])
    }

    fn decide_call(&mut self, call: &str, approved: bool, reason: Option<&str>) -> Input {
        let (step, tool) = self.run.step_of_call(call).map(|(step, tool)| (step, tool.clone())).unwrap();
        Input::Act(Act::Decided(ApprovalDecided {
            step,
            tool_call_id: call.to_owned(),
            approved,
            reason: reason.map(str::to_owned),
            arguments_text: None,
            digest: arguments_digest(&tool.tool, 1, &tool.arguments),
            tool: tool.tool,
            decided_by: "key_1".to_owned(),
            decided_at: self.now,
            delegated_by: None,
        }))
    }

    fn kinds(&self) -> Vec<&str> {
        self.journal.iter().map(|line| line.kind.as_str()).collect()
    }

    fn step(&self, number: i32) -> &StepState {
        &self.run.steps[&number].state
    }
}

fn answered(step: i32, text: &str, calls: &[(&str, &str, &str)]) -> Input {
    let tool_calls = calls
        .iter()
        .map(|(id, name, arguments)| AskedCall {
            id: (!id.is_empty()).then(|| (*id).to_owned()),
            name: (*name).to_owned(),
            arguments: (*arguments).to_owned(),
        })
        .collect();
    let finish = if calls.is_empty() { "stop" } else { "tool_calls" };
    Input::Answered {
        step,
        answer: ModelAnswer {
            text: text.to_owned(),
            tool_calls,
            finish_reason: Some(finish.to_owned()),
            input_tokens: 10,
            output_tokens: 5,
        },
    }
}

fn returned(step: i32, output: &str) -> Input {
    Input::Returned { step, output: serde_json::from_str(output).unwrap() }
}

fn failed(step: i32, kind: ErrorType, certainty: Certainty) -> Input {
    Input::Failed { step, failure: Failure::new(kind, "it broke"), retry_after: None, certainty }
}

fn model_body(decided: &Advance) -> String {
    let body = decided.effects.iter().find_map(|effect| match effect {
        Effect::Model(model) => Some(model.body.clone()),
        _ => None,
    });
    body.expect("a model call")
}

fn http_steps(decided: &Advance) -> Vec<i32> {
    let http = |effect: &Effect| matches!(effect, Effect::Http(_)).then(|| effect.step());
    decided.effects.iter().filter_map(http).collect()
}

#[test]
fn three_turns_two_tools_one_behind_an_approval() {
    for forgetful in [false, true] {
        let mut table = Table { forgetful, ..Table::new() };
        let first = table.begin();
        assert_eq!(first.next, Next::Wait { until: None });
        assert!(model_body(&first).contains("Be brief."));
        let second = table.answer(1, "looking", &[("a", "look", "{\"id\":7}")]);
        assert_eq!(http_steps(&second), [2]);
        let third = table.feed(vec![returned(2, "{\"found\":true}")]);
        assert!(model_body(&third).contains("{\\\"found\\\":true}"));
        let asked = table.answer(3, "", &[("b", "refund", "{ \"amount\": 5 }")]);
        assert!(asked.effects.is_empty(), "an unapproved call is never performed");
        assert_eq!(asked.next, Next::Suspend { reason: Reason::Approval, ready_at: None });
        let decision = table.decide_call("b", true, None);
        let sent = table.feed(vec![Input::Claimed, decision]);
        let Effect::Http(call) = &sent.effects[0] else { panic!("a tool call") };
        assert_eq!(call.arguments, "{ \"amount\": 5 }", "the exact bytes");
        assert_eq!(sent.gates.len(), 1);
        assert!(sent.gates[0].first_use);
        table.feed(vec![returned(4, "\"ok\"")]);
        let end = table.answer(5, "done", &[]);
        assert_eq!(end.next, Next::End);
        assert_eq!(table.run.ended, Some(Status::Completed));
        assert_eq!((table.run.usage.input_tokens, table.run.usage.cost_micros), (30, 60));
        let events: Vec<i64> = table.journal.iter().filter_map(|line| line.event).collect();
        assert_eq!(events, (1..=events.len() as i64).collect::<Vec<_>>(), "one numbering without a gap");
        let seqs: Vec<i64> = table.journal.iter().map(|line| line.seq).collect();
        assert_eq!(seqs, (1..=seqs.len() as i64).collect::<Vec<_>>());
    }
}

#[test]
fn a_denial_and_its_reason_reach_the_model() {
    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "refund", "{}")]);
    let decision = table.decide_call("a", false, Some("too much"));
    let next = table.feed(vec![Input::Claimed, decision]);
    assert!(http_steps(&next).is_empty());
    assert!(model_body(&next).contains("too much"));
    assert!(table.kinds().contains(&"tool.denied"));
}

#[test]
fn calls_that_need_no_approval_go_on_while_others_wait() {
    let mut table = Table::new();
    table.begin();
    let asked =
        table.answer(1, "", &[("a", "refund", "{}"), ("b", "look", "{}"), ("c", "refund", "{\"x\":1}")]);
    assert_eq!(http_steps(&asked), [3]);
    assert_eq!(asked.next, Next::Wait { until: None });
    let rest = table.feed(vec![returned(3, "1")]);
    assert_eq!(rest.next, Next::Suspend { reason: Reason::Approval, ready_at: None });
    // Two calls of one tool are two approvals, decided apart and in any order.
    let later = table.decide_call("c", true, None);
    assert_eq!(http_steps(&table.feed(vec![Input::Claimed, later])), [4]);
    let still = table.feed(vec![returned(4, "1")]);
    assert_eq!(still.next, Next::Suspend { reason: Reason::Approval, ready_at: None });
    let earlier = table.decide_call("a", false, None);
    let next = table.feed(vec![Input::Claimed, earlier]);
    assert!(!model_body(&next).is_empty());
}

#[test]
fn what_the_model_got_wrong_is_told_to_it() {
    for (tool, arguments, told) in [
        ("nothing", "{}", "there is no tool"),
        ("look", "{\"id\":\"x\"}", "not of type"),
        ("look", "{", "EOF"),
        ("look", "[1]", "object"),
        ("look", "{\"id\":1,\"id\":2}", "twice"),
    ] {
        let mut table = Table::new();
        table.begin();
        let next = table.answer(1, "", &[("a", tool, arguments)]);
        assert!(http_steps(&next).is_empty(), "{tool} {arguments}");
        assert!(model_body(&next).contains(told), "{tool} {arguments}: {}", model_body(&next));
    }
}

#[test]
fn a_tool_s_final_failure_is_told_and_a_model_s_fails_the_execution() {
    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "look", "{}")]);
    let next = table.feed(vec![failed(2, ErrorType::Auth, Certainty::Definite)]);
    assert!(model_body(&next).contains("it broke"));
    let end = table.feed(vec![failed(3, ErrorType::Balance, Certainty::Definite)]);
    assert_eq!(end.next, Next::End);
    let Some(Entry::ExecutionFailed(body)) = end.entries.last() else { panic!("failed") };
    assert_eq!((body.reason, body.error.kind), (Reason::Balance, ErrorType::Balance));
    assert_eq!(body.error.secrets, ["models"], "whose balance it is");
}

#[test]
fn retryable_failures_are_tried_again_and_end() {
    for kind in [ErrorType::Network, ErrorType::RateLimit, ErrorType::Timeout] {
        let mut table = Table::new();
        table.begin();
        for attempt in 1..3 {
            let wait = table.feed(vec![failed(1, kind, Certainty::Unknown)]);
            let (Next::Wait { until: Some(at) } | Next::Suspend { ready_at: Some(at), .. }) = wait.next
            else {
                panic!("{:?}", wait.next)
            };
            table.now = at;
            let again = table.feed(Vec::new());
            assert_eq!(again.effects.len(), 1, "attempt {}", attempt + 1);
            assert!(table.kinds().contains(&"model.restarted"));
        }
        let end = table.feed(vec![failed(1, kind, Certainty::Unknown)]);
        assert_eq!(end.next, Next::End);
        assert_eq!(table.run.ended, Some(Status::Failed));
    }
}

#[test]
fn a_long_wait_for_a_retry_gives_the_lease_back() {
    let mut table = Table::new();
    table.begin();
    let input = Input::Failed {
        step: 1,
        failure: Failure::new(ErrorType::RateLimit, "slow down"),
        retry_after: Some(Duration::from_secs(60)),
        certainty: Certainty::Definite,
    };
    let wait = table.feed(vec![input]);
    let due = table.now.plus(Duration::from_secs(60));
    assert_eq!(wait.next, Next::Suspend { reason: Reason::Retry, ready_at: Some(due) });
}

#[test]
fn an_unknown_outcome_is_repeated_only_where_the_tool_allows_it() {
    for (tool, unknown) in [("mail", true), ("look", false)] {
        let mut table = Table::new();
        table.begin();
        table.answer(1, "", &[("a", tool, "{}")]);
        let next = table.feed(vec![failed(2, ErrorType::Timeout, Certainty::Unknown)]);
        let suspended = next.next == Next::Suspend { reason: Reason::OutcomeUnknown, ready_at: None };
        assert_eq!(suspended, unknown, "{tool}");
    }
    // Not connected, or a 429, is definite: tried again whatever the class.
    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "mail", "{}")]);
    table.feed(vec![failed(2, ErrorType::Network, Certainty::Definite)]);
    assert!(matches!(table.step(2), StepState::Retrying { .. }));
}

#[test]
fn a_lost_worker_leaves_an_outcome_that_each_class_reads_in_its_way() {
    for (tool, gated, repeated) in
        [("look", false, true), ("mail", false, false), ("pay", true, true), ("refund", true, false)]
    {
        let mut table = Table::new();
        table.begin();
        table.answer(1, "", &[("a", tool, "{}")]);
        if gated {
            let decision = table.decide_call("a", true, None);
            table.feed(vec![Input::Claimed, decision]);
        }
        assert_eq!(*table.step(2), StepState::Calling, "{tool}");
        table.reload();
        let taken_over = table.begin();
        assert_eq!(!http_steps(&taken_over).is_empty(), repeated, "{tool}");
        if gated && repeated {
            assert!(!taken_over.gates[0].first_use, "a repeat stands on the same decision");
        }
        if !repeated {
            assert_eq!(taken_over.next, Next::Suspend { reason: Reason::OutcomeUnknown, ready_at: None });
        }
    }
}

#[test]
fn a_person_answers_an_unknown_outcome() {
    let resolve = |outcome, result: Option<&str>| OutcomeResolved {
        step: 2,
        outcome,
        result: result.map(|text| serde_json::from_str(text).unwrap()),
        by: "key_1".to_owned(),
    };
    let suspended = || {
        let mut table = Table::new();
        table.begin();
        table.answer(1, "", &[("a", "mail", "{}")]);
        table.begin();
        table
    };
    let mut table = suspended();
    let early = resolve(Outcome::DidNotHappen, None);
    assert!(outside::check_resolve(&table.run, &early, table.now).is_err(), "it may still be under way");
    table.now = table.now.plus(Duration::from_secs(60));
    assert_eq!(outside::check_resolve(&table.run, &early, table.now), Ok(()));
    let again = table.feed(vec![Input::Claimed, Input::Act(Act::Resolve(early))]);
    let Effect::Http(call) = &again.effects[0] else { panic!("called again") };
    assert_eq!(call.attempt, 2);
    assert!(call.key.ends_with("-2"), "the same key: {}", call.key);

    let mut table = suspended();
    let happened = resolve(Outcome::Happened, Some("{\"sent\":1}"));
    assert_eq!(outside::check_resolve(&table.run, &happened, table.now), Ok(()));
    let next = table.feed(vec![Input::Claimed, Input::Act(Act::Resolve(happened.clone()))]);
    assert!(http_steps(&next).is_empty());
    assert!(model_body(&next).contains("sent"));
    assert!(outside::check_resolve(&table.run, &happened, table.now).is_err(), "resolved once");
}

#[test]
fn limits_end_an_execution_with_their_name() {
    let mut table = Table::new();
    table.begin();
    for turn in 0..3 {
        let step = table.run.next_step() - 1;
        table.answer(step, "", &[("", "look", "{}")]);
        let step = table.run.next_step() - 1;
        let next = table.feed(vec![returned(step, "1")]);
        assert_ne!(next.next, Next::End, "turn {turn}");
    }
    let step = table.run.next_step() - 1;
    table.answer(step, "", &[("", "look", "{}")]);
    let step = table.run.next_step() - 1;
    let end = table.feed(vec![returned(step, "1")]);
    let Some(Entry::ExecutionFailed(body)) = end.entries.last() else { panic!("failed") };
    assert_eq!((body.reason, body.error.kind), (Reason::TurnLimit, ErrorType::Logic));
    assert!(body.error.message.contains("max_turns is 4"));

    let limit = |limits: Limits, input: Input| {
        let mut table = Table { limits, ..Table::new() };
        table.begin();
        let end = table.feed(vec![input]);
        match end.entries.last() {
            Some(Entry::ExecutionFailed(body)) if body.reason == Reason::Limit => body.error.message.clone(),
            other => panic!("{other:?}"),
        }
    };
    let calls = Limits { calls_per_turn: 1, ..Limits::default() };
    assert!(
        limit(calls, answered(1, "", &[("a", "refund", "{}"), ("b", "look", "{}")]))
            .contains("calls_per_turn")
    );
    let text = Limits { value_bytes: 3, ..Limits::default() };
    assert!(limit(text, answered(1, "long", &[])).contains("value_bytes"));
    let events = Limits { events: 2, ..Limits::default() };
    assert!(
        limit(events, Input::Delta { step: 1, reasoning: String::new(), text: "x".to_owned() })
            .contains("events")
    );
    let cut = Input::Answered {
        step: 1,
        answer: ModelAnswer { finish_reason: Some("length".to_owned()), ..ModelAnswer::default() },
    };
    assert!(limit(Limits::default(), cut).contains("length"));
}

#[test]
fn call_ids_are_made_unique() {
    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "look", "{}"), ("a", "look", "{}"), ("", "look", ""), ("x y", "look", "{}")]);
    let ids: Vec<String> = table.run.answers[0].tool_calls.iter().map(|call| call.id.clone()).collect();
    assert_eq!(ids, ["a", "a-2", "call_4", "call_5"]);
    for step in 2..=5 {
        table.feed(vec![returned(step, "1")]);
    }
    table.answer(6, "", &[("a", "look", "{}")]);
    assert_eq!(table.run.answers[1].tool_calls[0].id, "a-3");
}

#[test]
fn cancel_ends_it_and_closes_what_is_open() {
    let mut table = Table::new();
    let cancel = || Input::Act(Act::Cancel { by: "key_1".to_owned() });
    let unstarted = table.feed(vec![Input::Claimed, cancel()]);
    assert_eq!(unstarted.next, Next::End);
    assert_eq!(table.kinds(), ["execution.cancelled"]);

    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "refund", "{}"), ("b", "look", "{}")]);
    let end = table.feed(vec![cancel()]);
    assert_eq!(end.next, Next::End);
    assert!(end.effects.is_empty());
    assert!(table.kinds().ends_with(&["approval.closed", "execution.cancelled"]));
    let after = table.feed(vec![returned(3, "1")]);
    assert!(after.entries.is_empty(), "terminal is terminal");
}

#[test]
fn a_pause_holds_before_the_next_step() {
    let mut table = Table::new();
    table.begin();
    let pause = |paused| {
        let by = "key_1".to_owned();
        Input::Act(if paused { Act::Pause { by } } else { Act::Resume { by } })
    };
    assert_eq!(table.feed(vec![pause(true)]).next, Next::Wait { until: None });
    let held = table.answer(1, "", &[("a", "look", "{}")]);
    assert!(held.effects.is_empty());
    assert_eq!(held.next, Next::Suspend { reason: Reason::Paused, ready_at: None });
    let on = table.feed(vec![Input::Claimed, pause(false)]);
    assert_eq!(http_steps(&on), [2]);
}

#[test]
fn a_run_whose_workflow_is_held_ends_once_nothing_is_under_way() {
    let hold = || Input::Act(Act::EndPaused { by: "key_1".to_owned() });
    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "look", "{}")]);
    assert_eq!(table.feed(vec![hold(), hold()]).next, Next::Wait { until: None });
    let resume = Input::Act(Act::Resume { by: "key_1".to_owned() });
    assert!(table.feed(vec![resume]).entries.is_empty(), "that is not taken back");
    assert_eq!(table.feed(vec![returned(2, "1")]).next, Next::End);
    assert!(table.kinds().ends_with(&["pause.changed", "tool.completed", "execution.cancelled"]));

    let mut waiting = Table::new();
    waiting.begin();
    waiting.answer(1, "", &[("a", "refund", "{}")]);
    assert_eq!(waiting.feed(vec![Input::Claimed, hold()]).next, Next::End);
    let Some(Entry::ExecutionCancelled(end)) =
        waiting.journal.last().map(|line| Entry::read(&line.kind, &line.payload).unwrap())
    else {
        panic!("{:?}", waiting.kinds());
    };
    assert_eq!((end.reason, end.by.as_deref()), (Reason::Paused, Some("key_1")));

    // Its worker was lost meanwhile: whoever takes it over ends it.
    let mut lost = Table::new();
    lost.begin();
    lost.answer(1, "", &[("a", "look", "{}")]);
    lost.feed(vec![hold()]);
    assert_eq!(lost.feed(vec![Input::Claimed]).next, Next::End);
}

#[test]
fn bytes_that_do_not_match_the_decision_are_asked_again() {
    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "refund", "{}")]);
    let Input::Act(Act::Decided(mut decision)) = table.decide_call("a", true, None) else { panic!() };
    decision.digest = "another".to_owned();
    let again = table.feed(vec![Input::Claimed, Input::Act(Act::Decided(decision))]);
    assert!(again.effects.is_empty(), "not sent");
    assert!(table.kinds().contains(&"approval.closed"));
    assert_eq!(*table.step(2), StepState::Asking);

    // The store refused the intent: the worker forgets it and asks.
    let refused = table.feed(vec![Input::GateRefused { tool_call_id: "a".to_owned() }]);
    assert!(refused.effects.is_empty());
    assert_eq!(*table.step(2), StepState::Asking);
}

#[test]
fn edited_arguments_are_what_is_sent_and_what_the_model_sees() {
    let mut table = Table::new();
    table.begin();
    table.answer(1, "", &[("a", "refund", "{\"amount\":500}")]);
    let edited = "{\"amount\": 5}";
    let Input::Act(Act::Decided(mut decision)) = table.decide_call("a", true, None) else { panic!() };
    decision.arguments_text = Some(edited.to_owned());
    decision.digest = arguments_digest("refund", 1, edited);
    let sent = table.feed(vec![Input::Claimed, Input::Act(Act::Decided(decision))]);
    let Effect::Http(call) = &sent.effects[0] else { panic!("a tool call") };
    assert_eq!(call.arguments, edited);
    let next = table.feed(vec![returned(2, "1")]);
    assert!(!model_body(&next).contains("500"));
}

#[test]
fn a_draining_worker_takes_results_and_begins_nothing() {
    let mut table = Table::new();
    table.begin();
    let last = table.decide(vec![answered(1, "", &[("a", "look", "{}")])], true);
    assert!(last.effects.is_empty());
    assert_eq!(last.next, Next::Release);
    assert_eq!(http_steps(&table.begin()), [2], "the next worker goes on");
}

#[test]
fn an_attempt_that_keeps_losing_its_worker_is_stuck() {
    let mut table = Table::new();
    table.begin();
    for _ in 0..8 {
        assert_eq!(table.begin().effects.len(), 1);
    }
    let end = table.begin();
    let Some(Entry::ExecutionFailed(body)) = end.entries.last() else { panic!("failed") };
    assert_eq!(body.reason, Reason::Stuck);
}

#[test]
fn three_noops_are_three_commits() {
    let mut table = Table::of(Definition::Noop { steps: 3 });
    assert_eq!(table.begin().next, Next::Again);
    assert_eq!(table.feed(Vec::new()).next, Next::Again);
    let last = table.feed(Vec::new());
    assert_eq!(last.next, Next::End);
    assert_eq!(
        table.kinds(),
        ["execution.started", "step.completed", "step.completed", "step.completed", "execution.completed"]
    );
}

/// Plays a random life: random calls, results, faults, decisions, crashes. `crash` decides
/// whether everything but the journal is forgotten before each step.
fn random_life(seed: u64, crash: bool) -> (Vec<String>, Table) {
    let mut table = Table { forgetful: crash, ..Table::new() };
    let mut dice = Entropy::from_seed(seed);
    let mut pending = table.begin().effects;
    for _ in 0..200 {
        if table.run.ended.is_some() {
            break;
        }
        let inputs = match pending.pop() {
            Some(effect) => vec![life_of(&effect, &mut dice)],
            None => outside_help(&mut table, &mut dice),
        };
        pending.extend(table.feed(inputs).effects);
    }
    (table.kinds().into_iter().map(str::to_owned).collect(), table)
}

fn life_of(effect: &Effect, dice: &mut Entropy) -> Input {
    let step = effect.step();
    let roll = dice.next_u64() % 10;
    match effect {
        Effect::Model(_) if roll < 2 => failed(step, ErrorType::Network, Certainty::Unknown),
        Effect::Model(_) if roll < 4 => answered(step, "done", &[]),
        Effect::Model(_) => {
            let tools = ["look", "mail", "refund", "pay", "nothing"];
            let calls: Vec<(&str, &str, &str)> = (0..=dice.next_u64() % 3)
                .map(|_| ("", tools[(dice.next_u64() % 5) as usize], "{}"))
                .collect();
            answered(step, "", &calls)
        }
        Effect::Http(_) if roll < 2 => failed(step, ErrorType::Timeout, Certainty::Unknown),
        Effect::Http(_) if roll < 3 => failed(step, ErrorType::Permission, Certainty::Definite),
        _ => returned(step, "{\"ok\":true}"),
    }
}

fn outside_help(table: &mut Table, dice: &mut Entropy) -> Vec<Input> {
    table.now = table.now.plus(Duration::from_secs(3_600));
    let asking: Vec<String> = table.run.asking().map(|(_, tool)| tool.call_id.clone()).collect();
    if let Some(call) = asking.first() {
        let approved = dice.next_u64().is_multiple_of(2);
        return vec![Input::Claimed, table.decide_call(call, approved, None)];
    }
    let unknown = table.run.steps.iter().find(|(_, step)| matches!(step.state, StepState::Unknown { .. }));
    match unknown.map(|(number, _)| *number) {
        Some(step) => {
            let outcome =
                if dice.next_u64().is_multiple_of(2) { Outcome::Happened } else { Outcome::DidNotHappen };
            let resolved = OutcomeResolved { step, outcome, result: None, by: "key_1".to_owned() };
            vec![Input::Claimed, Input::Act(Act::Resolve(resolved))]
        }
        None => vec![Input::Claimed],
    }
}

#[test]
fn a_life_that_is_reloaded_before_each_step_is_the_same_life() {
    for seed in 0..300 {
        let (kept, _) = random_life(seed, false);
        let (reloaded, _) = random_life(seed, true);
        assert_eq!(kept, reloaded, "seed {seed}");
    }
}

#[test]
fn in_every_life_numbers_have_no_gap_and_no_gated_call_goes_out_undecided() {
    for seed in 0..300 {
        let (_, table) = random_life(seed, false);
        let events: Vec<i64> = table.journal.iter().filter_map(|line| line.event).collect();
        assert_eq!(events, (1..=events.len() as i64).collect::<Vec<_>>(), "seed {seed}");
        let mut approved = std::collections::HashSet::new();
        for line in &table.journal {
            match Entry::read(&line.kind, &line.payload).unwrap() {
                Entry::ApprovalDecided(body) if body.approved => {
                    assert!(approved.insert(body.step), "seed {seed}: decided twice");
                }
                Entry::ToolCalled(body) if ["refund", "pay"].contains(&body.tool.as_str()) => {
                    assert!(approved.contains(&body.step), "seed {seed}: sent undecided");
                }
                _ => {}
            }
        }
        let ends = table.journal.iter().filter(|line| {
            ["execution.completed", "execution.failed", "execution.cancelled"].contains(&line.kind.as_str())
        });
        assert!(ends.count() <= 1, "seed {seed}");
    }
}

//! Races around what a workflow waits for, on both stores: a person's decision and the end of its time,
//! the reports of a queue task's workers and its loss, a child's start and end and its parent's cancel.
//! The workers are made by hand: they decide with the engine and commit as workers do. In every second
//! round one has the execution already, so that what comes lies in its inbox while it commits.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::advance::Next;
use holdpoint_engine::definition::Definition;
use holdpoint_engine::digest::child_id;
use holdpoint_engine::effect::{Effect, Input};
use holdpoint_engine::entry::Entry;
use holdpoint_engine::ids::{SessionId, SweepId};
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, ErrorType, Failure, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};
use holdpoint_queue::Queue;
use holdpoint_scheduler::{Bounds, Relay, Sweeper};
use holdpoint_tests::by_hand::{ByHand, entries};
use holdpoint_tests::poll::{SOON, until_blocking};
use holdpoint_tests::races::race;
use holdpoint_tests::store_builders::*;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::stores::Ground;

const ROUNDS: usize = 40;

on_both_stores! {
    of crate::stores::Ground::new:
    a_decision_beside_the_end_of_its_time;
    a_decision_beside_a_denial_by_nobody;
    a_decision_beside_the_question_s_escalation;
    a_result_that_came_with_a_refused_end_is_not_lost;
    the_same_report_four_times_is_one;
    of_different_reports_one_counts;
    reports_beside_the_line_of_their_task;
    a_report_and_a_heartbeat_beside_the_loss_of_their_worker;
    a_report_beside_the_last_loss_of_its_worker;
    what_lies_in_the_inbox_comes_before_a_loss;
    a_report_beside_an_outcome_that_becomes_unknown;
    a_child_s_end_beside_its_parent_s_cancel;
    a_child_s_start_beside_its_parent_s_cancel;
}

impl Ground {
    fn row(&self, key: &ExecutionKey) -> ExecutionRow {
        self.store.execution_get(&key.scope, key.id).unwrap().unwrap()
    }

    fn output(&self, key: &ExecutionKey) -> Value {
        let row = self.row(key);
        assert_eq!(row.status, Status::Completed, "{row:?}");
        serde_json::from_str(row.output.as_deref().unwrap()).unwrap()
    }
}

/// So many executions of one workflow.
struct Flow<'a> {
    ground: &'a Ground,
    definition: Arc<Definition>,
    session: SessionId,
    keys: Vec<ExecutionKey>,
    held: Vec<Mutex<Option<ByHand<'a>>>>,
}

impl<'a> Flow<'a> {
    /// They are begun, at a time that is so long ago, and wait for what their first task brings.
    fn begin(
        ground: &'a Ground,
        tasks: Value,
        ago: Duration,
        mut perform: impl FnMut(&Effect) -> Option<Input>,
    ) -> Self {
        let document = json!({
            "document": {"dsl": "1.0.3", "namespace": "tests", "name": "played", "version": "1.0.0"},
            "do": tasks,
        });
        let (kind, text) = (DefinitionKind::Workflow, document.to_string());
        ground.store.definition_put(&scope(), kind, "played", &text, "key_test").unwrap();
        let definition = Definition::compile(kind, 1, &text).unwrap_or_else(|errors| panic!("{errors:?}"));
        let session = session(&*ground.store);
        let keys: Vec<_> = (0..ROUNDS).map(|_| create(&*ground.store, run_of("played"))).collect();
        let flow = Self { ground, definition: Arc::new(definition), session, keys, held: Vec::new() };
        let begin = |key: &ExecutionKey| {
            let mut hand = flow.claim(key);
            hand.now = Timestamp::from_micros(hand.now.micros() - ago.as_micros() as i64);
            let inputs = hand.inputs();
            let next = hand.go(inputs, &mut perform);
            Mutex::new(matches!(next, Next::Wait { .. }).then_some(hand))
        };
        let held = flow.keys.iter().map(begin).collect();
        Self { held, ..flow }
    }

    /// Whatever they wait for: they are looked at now, in every second round by a worker who has them.
    fn due(mut self) -> Self {
        self.ground.bed.execute("UPDATE executions SET ready_at = 1 WHERE status = 'suspended'");
        let hand = |(round, key)| Mutex::new((round % 2 == 1).then(|| self.claim(key)));
        self.held = self.keys.iter().enumerate().map(hand).collect();
        self
    }

    /// One that others have locked is passed over by a claim.
    fn claim(&self, key: &ExecutionKey) -> ByHand<'a> {
        until_blocking("it is claimed", SOON, || {
            ByHand::claim(&*self.ground.store, self.session, key, &self.definition)
        })
    }

    /// A worker has it, or takes it now, and goes on; its clock is ahead by so much.
    fn work(&self, round: usize, ahead: Duration, perform: &mut dyn FnMut(&Effect) -> Option<Input>) -> Next {
        let held = self.held[round].lock().unwrap().take();
        let mut hand = held.unwrap_or_else(|| self.claim(&self.keys[round]));
        hand.now = hand.now.plus(ahead);
        let inputs = hand.inputs();
        hand.go(inputs, perform)
    }

    /// After the race: whatever is left to do is done.
    fn settle(&self, round: usize, perform: &mut dyn FnMut(&Effect) -> Option<Input>) {
        let key = &self.keys[round];
        let has_more = || self.ground.store.execution_standing(&key.scope, key.id).unwrap().unwrap().ready_at;
        if let Some(mut hand) = self.held[round].lock().unwrap().take() {
            let mut inputs = hand.inputs();
            inputs.extend(hand.inbox());
            hand.go(inputs, perform);
        }
        while has_more().is_some_and(|at| at <= self.ground.store.now().unwrap()) {
            self.work(round, Duration::ZERO, perform);
        }
    }

    fn entries(&self, round: usize) -> Vec<Entry> {
        entries(&*self.ground.store, &self.keys[round])
    }

    fn count(&self, round: usize, kind: &str) -> usize {
        self.entries(round).iter().filter(|entry| entry.kind() == kind).count()
    }
}

/// Nothing is to be performed.
fn idle(effect: &Effect) -> Option<Input> {
    panic!("an effect: {effect:?}")
}

const LATE: Duration = Duration::from_secs(7_200);

fn question(on_timeout: &Value) -> Value {
    let with = json!({"title": "Well?", "expiresAfter": {"hours": 1}, "onTimeout": on_timeout});
    json!([{"t": {
        "try": [{"ask": {"call": "approval:1.0.0@default", "with": with}}],
        "catch": {"errors": {"with": {"status": 408}}, "do": [{"late": {"set": {"late": true}}}]},
    }}])
}

/// A person says yes.
fn decide(ground: &Ground, key: &ExecutionKey) -> Decided {
    let request = DecideRequest {
        execution: key.id,
        tool_call_id: approval(ground, key).tool_call_id,
        approved: true,
        reason: None,
        arguments: None,
        digest: None,
        by: decider("key_person"),
        grant: None,
        end_user: None,
    };
    ground.store.approval_decide(&scope(), &request).unwrap()
}

/// A person says yes while a worker finds that the time is over; each round's answer.
fn asked_and_answered<'a>(ground: &'a Ground, on_timeout: &Value) -> (Flow<'a>, Vec<Decided>) {
    let flow = Flow::begin(ground, question(on_timeout), Duration::ZERO, idle).due();
    let answers = race(2, ROUNDS, |party, round| {
        if party == 1 {
            flow.work(round, LATE, &mut idle);
            return None;
        }
        Some(decide(ground, &flow.keys[round]))
    });
    let answers: Vec<Decided> = answers.into_iter().map(|mut round| round.remove(0).unwrap()).collect();
    (0..ROUNDS).for_each(|round| flow.settle(round, &mut idle));
    (flow, answers)
}

fn approval(ground: &Ground, key: &ExecutionKey) -> ApprovalRow {
    let filter = ApprovalFilter { execution: Some(key.id), limit: 2, ..ApprovalFilter::default() };
    let mut rows = ground.store.approval_list(&key.scope, &filter).unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

fn a_decision_beside_the_end_of_its_time(ground: &Ground) {
    let (flow, answers) = asked_and_answered(ground, &json!("fail"));
    for (round, answer) in answers.iter().enumerate() {
        let key = &flow.keys[round];
        let (output, status) = (ground.output(key), approval(ground, key).status);
        let lines = (flow.count(round, "approval.decided"), flow.count(round, "approval.closed"));
        match answer {
            Decided::Taken { .. } => {
                assert_eq!(output["approved"], true, "round {round}");
                assert_eq!((status, lines), (ApprovalStatus::Approved, (1, 0)), "round {round}");
            }
            Decided::Closed(_) => {
                assert_eq!(output, json!({"late": true}), "round {round}");
                assert_eq!((status, lines), (ApprovalStatus::Expired, (0, 1)), "round {round}");
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
    tell(&answers);
}

fn a_decision_beside_a_denial_by_nobody(ground: &Ground) {
    let (flow, answers) = asked_and_answered(ground, &json!("deny"));
    for (round, answer) in answers.iter().enumerate() {
        let (output, row) = (ground.output(&flow.keys[round]), approval(ground, &flow.keys[round]));
        let (approved, by) = match answer {
            Decided::Taken { .. } => (true, "key_person"),
            Decided::Conflict(_) => (false, "on_timeout"),
            other => panic!("round {round}: {other:?}"),
        };
        assert_eq!((&output["approved"], &output["decidedBy"]), (&json!(approved), &json!(by)));
        assert_eq!(
            (row.status, row.decided_by.as_deref()),
            (ApprovalStatus::of_decision(approved), Some(by))
        );
        assert_eq!(flow.count(round, "approval.decided"), 1, "round {round}");
    }
    tell(&answers);
}

/// The next approvers' time begins, and the first may still decide: nothing said is lost.
fn a_decision_beside_the_question_s_escalation(ground: &Ground) {
    let next = json!({"approvers": {"roles": ["approve"]}, "expiresAfter": {"days": 1}, "then": "fail"});
    let (flow, answers) = asked_and_answered(ground, &json!({"escalate": next}));
    for (round, answer) in answers.iter().enumerate() {
        assert!(matches!(answer, Decided::Taken { .. }), "round {round}: {answer:?}");
        assert_eq!(ground.output(&flow.keys[round])["approved"], true);
        let kinds: Vec<_> = flow.entries(round).iter().map(Entry::kind).collect();
        let escalated = kinds.iter().position(|kind| *kind == "approval.escalated");
        let decided = kinds.iter().position(|kind| *kind == "approval.decided");
        assert!(escalated.is_none_or(|at| at < decided.unwrap()), "{kinds:?}");
        assert_eq!(kinds.iter().filter(|kind| **kind == "approval.decided").count(), 1);
    }
    tell(&answers);
}

/// A request's result comes in the turn that finds the question's time over, and a decision was taken:
/// the store refuses that turn, and nobody brings the result a second time.
fn a_result_that_came_with_a_refused_end_is_not_lost(ground: &Ground) {
    let get = json!({"call": "http", "with": {"method": "get", "endpoint": "http://shop.test/"}});
    let ask = question(&json!("fail")).as_array().unwrap()[0].clone();
    let both = json!([{"both": {"fork": {"branches": [ask, {"get": get}]}}}]);
    let flow = Flow::begin(ground, both, Duration::ZERO, |_| None);
    for (round, key) in flow.keys.iter().enumerate() {
        let mut hand = flow.held[round].lock().unwrap().take().unwrap();
        assert!(matches!(decide(ground, key), Decided::Taken { .. }));
        hand.now = hand.now.plus(LATE);
        let step = hand.run.calling().next().unwrap().0;
        let brought = Input::Returned { step, output: holdpoint_engine::json(&json!({"got": round})) };
        assert_eq!(hand.go(vec![brought], &mut idle), Next::End);
        let output = ground.output(key);
        assert_eq!((&output[0]["approved"], &output[1]), (&json!(true), &json!({"got": round})));
    }
}

fn tell(answers: &[Decided]) {
    let taken = answers.iter().filter(|answer| matches!(answer, Decided::Taken { .. })).count();
    println!("the decision won {taken} of {ROUNDS} rounds");
}

/// A task for a worker elsewhere, who may be silent for an hour.
fn task(effect: &str, tries: u32) -> Value {
    json!([{"work": {
        "call": "task:1.0.0@default",
        "with": {"queue": "work", "input": {}, "heartbeat": {"hours": 1}},
        "metadata": {"holdpoint": {"effect": effect, "retry": {"tries": tries, "first_delay": "1h", "max_delay": "1h"}}},
    }}])
}

fn publish(effect: &Effect) -> Option<Input> {
    assert!(matches!(effect, Effect::Publish(_)), "{effect:?}");
    Some(Input::Published { step: effect.step() })
}

fn done(output: &str) -> ActRequest {
    ActRequest::Report { step: 1, attempt: Some(1), outcome: Ok(output.to_owned()) }
}

fn failed(kind: ErrorType) -> ActRequest {
    ActRequest::Report { step: 1, attempt: Some(1), outcome: Err(Failure::new(kind, "no luck")) }
}

const BEAT: ActRequest = ActRequest::Heartbeat { step: 1, attempt: Some(1) };

fn act(ground: &Ground, key: &ExecutionKey, request: &ActRequest) -> Result<Acted, ActError> {
    ground.store.execution_act(&key.scope, key.id, request, "key_worker", None)
}

/// Whether it was taken; else it was told that it was done before, or that something else was.
fn taken(answer: &Result<Acted, ActError>) -> bool {
    match answer {
        Ok(_) => true,
        Err(ActError::Refused(
            Refusal::TaskDone { step: 1, attempt: 1 } | Refusal::TaskConflict { step: 1, .. },
        )) => false,
        // The one that was taken may have led to the end before this one was looked at.
        Err(ActError::Terminal(_)) => false,
        other => panic!("{other:?}"),
    }
}

/// These reports at once, of tasks that are given out; the answers by round.
fn reported<'a>(
    ground: &'a Ground,
    requests: &[ActRequest],
) -> (Flow<'a>, Vec<Vec<Result<Acted, ActError>>>) {
    let flow = Flow::begin(ground, task("idempotent", 3), Duration::ZERO, publish).due();
    let answers =
        race(requests.len(), ROUNDS, |party, round| act(ground, &flow.keys[round], &requests[party]));
    (0..ROUNDS).for_each(|round| flow.settle(round, &mut |_: &Effect| None));
    (flow, answers)
}

fn the_same_report_four_times_is_one(ground: &Ground) {
    let (flow, answers) = reported(ground, &[done("7"), done("7"), done("7"), done("7")]);
    for (round, answers) in answers.iter().enumerate() {
        assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
        let told = |answer: &&Result<_, _>| {
            matches!(answer, Err(ActError::Refused(Refusal::TaskDone { step: 1, attempt: 1 })))
        };
        assert_eq!(answers.iter().filter(told).count(), 3, "{answers:?}");
        assert_eq!(ground.output(&flow.keys[round]), json!(7));
        assert_eq!(flow.count(round, "tool.completed"), 1);
    }
}

fn of_different_reports_one_counts(ground: &Ground) {
    let requests = [done("7"), done("8"), failed(ErrorType::Logic), failed(ErrorType::Network)];
    let (flow, answers) = reported(ground, &requests);
    let mut wins = [0; 4];
    for (round, answers) in answers.iter().enumerate() {
        let won: Vec<usize> = (0..4).filter(|party| taken(&answers[*party])).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        let conflict = |answer: &&Result<_, _>| {
            matches!(answer, Err(ActError::Refused(Refusal::TaskConflict { step: 1, attempt: 1 })))
        };
        assert_eq!(answers.iter().filter(conflict).count(), 3, "{answers:?}");
        let key = &flow.keys[round];
        match won[0] {
            at @ (0 | 1) => assert_eq!(ground.output(key), json!([7, 8][at])),
            2 => assert_eq!(
                (ground.row(key).status, ground.row(key).reason),
                (Status::Failed, Some(Reason::Logic))
            ),
            _ => assert_eq!(
                (ground.row(key).status, ground.row(key).reason),
                (Status::Suspended, Some(Reason::Retry))
            ),
        }
        let ends = ["tool.completed", "tool.failed", "attempt.failed"];
        assert_eq!(ends.iter().map(|kind| flow.count(round, kind)).sum::<usize>(), 1);
        wins[won[0]] += 1;
    }
    println!("won: {wins:?}");
}

/// The broker has the task, and its workers are quicker than whoever published it.
fn reports_beside_the_line_of_their_task(ground: &Ground) {
    let flow = Flow::begin(ground, task("idempotent", 3), Duration::ZERO, |_| None);
    let answers = race(3, ROUNDS, |party, round| {
        if party < 2 {
            return Some(act(ground, &flow.keys[round], &done(["7", "8"][party])));
        }
        let mut hand = flow.held[round].lock().unwrap().take().unwrap();
        hand.go(vec![Input::Published { step: 1 }], &mut idle);
        None
    });
    for (round, answers) in answers.iter().enumerate() {
        flow.settle(round, &mut idle);
        let won: Vec<usize> = (0..2).filter(|party| taken(answers[*party].as_ref().unwrap())).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        assert_eq!(ground.output(&flow.keys[round]), json!([7, 8][won[0]]));
        assert_eq!(flow.count(round, "tool.completed"), 1);
    }
}

/// Tasks whose workers have been silent for too long; a report, a heartbeat, and a worker of ours who
/// finds them lost. The answers to the first two.
fn silent<'a>(ground: &'a Ground, effect: &str, tries: u32) -> (Flow<'a>, Vec<[bool; 2]>) {
    let flow = Flow::begin(ground, task(effect, tries), LATE, publish).due();
    let answers = race(3, ROUNDS, |party, round| {
        if party < 2 {
            return taken(&act(ground, &flow.keys[round], [&done("7"), &BEAT][party]));
        }
        flow.work(round, Duration::ZERO, &mut |_: &Effect| None);
        true
    });
    (0..ROUNDS).for_each(|round| flow.settle(round, &mut |_: &Effect| None));
    let answers: Vec<[bool; 2]> = answers.into_iter().map(|round| [round[0], round[1]]).collect();
    let won = |party: usize| answers.iter().filter(|answer| answer[party]).count();
    println!("the report won {} rounds, the heartbeat {} of {ROUNDS}", won(0), won(1));
    (flow, answers)
}

fn a_report_and_a_heartbeat_beside_the_loss_of_their_worker(ground: &Ground) {
    let (flow, answers) = silent(ground, "idempotent", 3);
    for (round, [report, beat]) in answers.into_iter().enumerate() {
        let lost = flow.count(round, "attempt.failed");
        if report {
            assert_eq!(ground.output(&flow.keys[round]), json!(7), "round {round}: what was taken counts");
        }
        assert!(!(report || beat) || lost == 0, "round {round}: {report} {beat}, and lost all the same");
        assert!(report || beat || lost == 1, "round {round}");
        assert!(report || lost == 1, "round {round}: the report was refused, and nothing was lost");
    }
}

/// No race: a worker has not looked into its inbox when it finds a task lost whose worker was heard.
fn what_lies_in_the_inbox_comes_before_a_loss(ground: &Ground) {
    let flow = Flow::begin(ground, task("idempotent", 1), LATE, publish).due();
    for (round, key) in flow.keys.iter().enumerate().filter(|(round, _)| round % 2 == 1) {
        let request = if round % 4 == 1 { done("7") } else { BEAT };
        let told = act(ground, key, &request).unwrap();
        assert!(matches!(told.tell, Tell::Holder(_)), "{told:?}");
        flow.work(round, Duration::ZERO, &mut idle);
        assert_eq!(flow.count(round, "tool.failed"), 0, "round {round}: what was taken counts");
        if round % 4 == 1 {
            assert_eq!(ground.output(key), json!(7));
        } else {
            assert_eq!(flow.count(round, "task.heartbeat"), 1);
        }
    }
}

/// It is the last attempt: with it the execution fails.
fn a_report_beside_the_last_loss_of_its_worker(ground: &Ground) {
    let (flow, answers) = silent(ground, "idempotent", 1);
    for (round, [report, beat]) in answers.into_iter().enumerate() {
        let row = ground.row(&flow.keys[round]);
        if report {
            assert_eq!(ground.output(&flow.keys[round]), json!(7), "round {round}: what was taken counts");
        } else {
            assert_eq!(
                (row.status, row.reason, beat),
                (Status::Failed, Some(Reason::Timeout), false),
                "{round}"
            );
        }
    }
}

/// A late report is the answer to an unknown outcome, so that it always counts; a heartbeat is welcome too.
fn a_report_beside_an_outcome_that_becomes_unknown(ground: &Ground) {
    let (flow, answers) = silent(ground, "at_most_once", 1);
    for (round, [report, _]) in answers.into_iter().enumerate() {
        assert!(report, "round {round}");
        assert_eq!(ground.output(&flow.keys[round]), json!(7));
        assert_eq!(flow.count(round, "outcome.resolved"), flow.count(round, "outcome.unknown"));
    }
}

/// News between parents and children, as workers and API processes carry them.
struct Family<'a> {
    flow: Flow<'a>,
    runtime: tokio::runtime::Runtime,
    relay: Relay,
    sweeper: Sweeper,
    queue: Arc<dyn Queue>,
}

impl<'a> Family<'a> {
    fn of(flow: Flow<'a>) -> Self {
        let ground = flow.ground;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (queue, relay, sweeper) = runtime.block_on(async {
            let registry = prometheus::Registry::new();
            let queue = holdpoint_queue::open(&holdpoint_queue::Settings::default(), &registry).unwrap();
            let db = Db::start(Arc::clone(&ground.store), &ground.settings, Hooks::none());
            let settings = holdpoint_scheduler::Settings::default();
            let sweeper = Sweeper::new(db.clone(), Arc::clone(&queue), settings, &registry);
            (Arc::clone(&queue), Relay::new(db, queue), sweeper)
        });
        Self { flow, runtime, relay, sweeper, queue }
    }

    fn child(&self, round: usize) -> ExecutionKey {
        ExecutionKey { scope: scope(), id: child_id(self.flow.keys[round].id, 1) }
    }

    fn new_child(&self, round: usize) -> NewExecution {
        let (execution, tool_call_id) = (self.flow.keys[round].id, "leaf-1".to_owned());
        let parent = Some(Parent { execution, step: 1, tool_call_id, depth: 1 });
        NewExecution { key: self.child(round), extras: Extras { parent, ..Extras::default() }, ..start() }
    }

    /// As whoever committed it does.
    fn after(&self, key: &ExecutionKey) {
        let status = self.flow.ground.row(key).status;
        self.runtime.block_on(self.relay.after(key.clone(), status));
    }

    fn cancel(&self, round: usize) {
        let key = &self.flow.keys[round];
        act(self.flow.ground, key, &ActRequest::Cancel).unwrap();
        self.after(key);
    }

    /// What the sweep finds, and then all is over: nothing is left to be told or cancelled.
    fn swept(&self) -> u64 {
        let start = SweepStart {
            id: SweepId(Uuid::now_v7()),
            kind: SweepKind::Timers,
            source: SweepSource::Scheduler,
            by: "scheduler".to_owned(),
            scope: None,
            dry_run: false,
        };
        let report = self.runtime.block_on(self.sweeper.carry_out(start, Bounds::default())).unwrap();
        let store = &self.flow.ground.store;
        for left in [SweepSelect::Unrelayed, SweepSelect::Orphans] {
            assert!(store.sweep_select(&left, 10).unwrap().is_empty(), "{left:?}");
        }
        for round in 0..ROUNDS {
            let (parent, child) = (self.flow.ground.row(&self.flow.keys[round]), self.child(round));
            assert_eq!(parent.status, Status::Cancelled, "round {round}");
            let child = store.execution_get(&scope(), child.id).unwrap();
            assert!(child.is_none_or(|child| child.status.is_terminal()), "round {round}: a child goes on");
            let kinds: Vec<_> = self.flow.entries(round).iter().map(Entry::kind).collect();
            assert_eq!(kinds.last(), Some(&"execution.cancelled"), "{kinds:?}");
            let told = kinds.iter().filter(|kind| matches!(**kind, "tool.completed" | "tool.failed")).count();
            assert!(told <= 1, "{kinds:?}");
        }
        report.cleaned_up as u64
    }

    fn end(self) {
        self.runtime.block_on(self.queue.close());
    }
}

/// A cancel takes a few statements: whoever races with it comes now here, now there.
fn linger(ground: &Ground, round: usize) {
    (0..round / 2 % 10 * 8).for_each(|_| assert!(ground.store.now().is_ok()));
}

fn with_a_child() -> Value {
    json!([{"leaf": {"run": {"workflow": {"namespace": "tests", "name": "leaf", "version": "latest", "input": {}}}}}])
}

/// The child is in a worker's hands, or waits and is claimed while its parent is cancelled.
fn a_child_s_end_beside_its_parent_s_cancel(ground: &Ground) {
    let flow = Flow::begin(ground, with_a_child(), Duration::ZERO, |_| None);
    let family = Family::of(flow);
    let mine = session(&*ground.store);
    let ends: Vec<Mutex<Option<Held>>> = (0..ROUNDS)
        .map(|round| {
            let new = family.new_child(round);
            let child = create(&*ground.store, new);
            let mut hand = family.flow.held[round].lock().unwrap().take().unwrap();
            hand.go(vec![Input::Delegated { step: 1, child: child.id }], &mut idle);
            Mutex::new((round % 2 == 1).then(|| Held::claim(&*ground.store, mine, &child)))
        })
        .collect();
    let ended = race(2, ROUNDS, |party, round| {
        if party == 1 {
            family.cancel(round);
            return false;
        }
        let child = family.child(round);
        linger(ground, round);
        let held = ends[round].lock().unwrap().take();
        let claimed = || claim(&*ground.store, mine, &[&child]).pop().map(|one| Held::of(one, mine));
        let Some(mut held) = held.or_else(claimed) else { return false };
        let done = ground.store.execution_commit(&[held.complete()]).unwrap();
        assert!(matches!(done[..], [Committed::Done { released: true, .. }]), "{done:?}");
        family.after(&child);
        true
    });
    let ended = ended.iter().filter(|round| round[0]).count();
    let swept = family.swept();
    println!("{ended} of {ROUNDS} children came to their end; the sweep found {swept}");
    family.end();
}

/// A worker starts the child while its parent is cancelled: in the worker's inbox, or, in every second
/// round, at once, because that worker has lost its lease without knowing.
fn a_child_s_start_beside_its_parent_s_cancel(ground: &Ground) {
    let flow = Flow::begin(ground, with_a_child(), Duration::ZERO, |_| None);
    for round in (0..ROUNDS).step_by(2) {
        ground.store.execution_release(flow.session, std::slice::from_ref(&flow.keys[round])).unwrap();
    }
    let family = Family::of(flow);
    race(2, ROUNDS, |party, round| {
        if party == 1 {
            return family.cancel(round);
        }
        linger(ground, round);
        let created = ground.store.execution_create(&[family.new_child(round)]).unwrap();
        assert!(matches!(created[..], [Created::New { .. }]), "{created:?}");
        let mut hand = family.flow.held[round].lock().unwrap().take().unwrap();
        if round % 2 == 1 {
            let begun = Input::Delegated { step: 1, child: family.child(round).id };
            if hand.go(vec![begun], &mut idle) == Next::End {
                family.after(&family.flow.keys[round]);
            }
        }
    });
    let swept = family.swept();
    println!("the sweep found {swept} in {ROUNDS} rounds");
    family.end();
}

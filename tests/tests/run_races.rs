//! Races around the runs of workflows, on both stores: one at a time, repeats, pauses.

use std::collections::HashSet;
use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{Reason, Status, WorkflowState};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::races::race;
use holdpoint_tests::store_builders::*;
use serde_json::json;

use crate::stores::Ground;

const ROUNDS: usize = 30;

on_both_stores! {
    of crate::stores::Ground::new:
    twenty_starts_are_one_that_goes_on_or_one_that_waits;
    one_key_is_one_run_however_often_and_whenever_it_is_said;
    who_waits_is_let_on_by_an_end_at_the_same_moment;
    a_run_is_repeated_once_for_each_attempt;
    a_pause_and_a_failure_leave_no_run_behind;
    ends_of_one_workflow_are_all_counted;
}

impl Ground {
    /// One workflow for each round.
    fn workflows(&self, settings: &serde_json::Value) -> Vec<String> {
        let names: Vec<String> = (0..ROUNDS).map(|round| format!("w{round}")).collect();
        for name in &names {
            workflow(&*self.store, name, settings.clone());
        }
        names
    }

    fn start(&self, workflow: &str) -> Created {
        self.store.execution_create(&[run_of(workflow)]).unwrap().pop().unwrap()
    }

    /// A run that a worker has.
    fn held_run(&self, workflow: &str) -> Held {
        Held::begin_with(&*self.store, run_of(workflow))
    }

    fn active(&self, workflow: &str) -> Vec<ExecutionKey> {
        self.store.workflow_active(&scope(), workflow, 1_000).unwrap()
    }

    fn ready(&self, id: ExecutionId) -> bool {
        self.store.execution_standing(&scope(), id).unwrap().unwrap().ready_at.is_some()
    }
}

/// Each attempt meets a store that was opened anew, at a later time.
#[test]
fn repeats_come_exactly_at_their_times_over_restarts() {
    let bed = Bed::postgres();
    workflow(&*bed.store, "ship", json!({}));
    let first = create(&*bed.store, run_of("ship"));
    let (mut run, mut passed) = (first.clone(), Duration::ZERO);
    for (attempt, wait) in [(1, 10), (2, 20), (3, 40), (4, 80), (5, 160)] {
        let store = bed.shifted(passed);
        let mut held = Held::claim(&*store, session(&*store), &run);
        store.execution_commit(&[held.fail(Reason::RateLimit)]).unwrap();
        let failed = store.execution_get(&scope(), run.id).unwrap().unwrap();
        assert_eq!((failed.attempt, failed.status), (attempt, Status::Failed));
        let [next] = &store.workflow_active(&scope(), "ship", 10).unwrap()[..] else { panic!("one repeat") };
        let standing = store.execution_standing(&scope(), next.id).unwrap().unwrap();
        assert_eq!((standing.row.retry_of, standing.row.attempt), (Some(first.id), attempt + 1));
        let waits = failed.finished_at.unwrap().until(standing.ready_at.unwrap());
        assert_eq!(waits, Duration::from_secs(wait), "after attempt {attempt}");
        let early = bed.shifted(passed + Duration::from_secs(wait - 8));
        assert!(claim_any(&*early, session(&*early), 1).is_empty(), "before its time");
        (run, passed) = (next.clone(), passed + Duration::from_secs(wait));
    }
    let store = bed.shifted(passed);
    let mut held = Held::claim(&*store, session(&*store), &run);
    store.execution_commit(&[held.fail(Reason::RateLimit)]).unwrap();
    assert!(store.workflow_active(&scope(), "ship", 10).unwrap().is_empty(), "the last of them");
    let told = store.attention_list(&scope(), None, 10).unwrap();
    assert_eq!((told[0].execution, told[0].attempt), (run.id, 6));
}

fn twenty_starts_are_one_that_goes_on_or_one_that_waits(ground: &Ground) {
    let names = ground.workflows(&json!({"concurrency": 1}));
    // In every second round a run goes on already.
    let going: Vec<Option<Held>> =
        names.iter().enumerate().map(|(at, name)| (at % 2 == 1).then(|| ground.held_run(name))).collect();
    let answers = race(20, ROUNDS, |_, round| ground.start(&names[round]));
    for (round, answers) in answers.into_iter().enumerate() {
        let new: Vec<ExecutionId> = answers
            .iter()
            .filter_map(|one| match one {
                Created::New { key, .. } => Some(key.id),
                _ => None,
            })
            .collect();
        assert_eq!(new.len(), 1, "{answers:?}");
        let told = |one: &&Created| matches!(one, Created::Coalesced { id, .. } if *id == new[0]);
        assert_eq!(answers.iter().filter(told).count(), 19, "{answers:?}");
        assert_eq!(ground.active(&names[round]).len(), 1 + usize::from(going[round].is_some()));
        assert_eq!(ground.ready(new[0]), going[round].is_none(), "it waits where another goes on");
    }
}

/// While the run that waits is taken and ended, others say one start with one key again and again.
fn one_key_is_one_run_however_often_and_whenever_it_is_said(ground: &Ground) {
    let names = ground.workflows(&json!({"concurrency": 1}));
    let waiting: Vec<ExecutionKey> = names.iter().map(|name| create(&*ground.store, run_of(name))).collect();
    let answers = race(5, ROUNDS, |party, round| {
        if party == 0 {
            let mut held = Held::claim(&*ground.store, session(&*ground.store), &waiting[round]);
            ground.store.execution_commit(&[held.complete()]).unwrap();
            return vec![];
        }
        let idempotency = Idempotency { key: Some(names[round].clone()), body_digest: "a".to_owned() };
        let say = || NewExecution { idempotency: Some(idempotency.clone()), ..run_of(&names[round]) };
        (0..5).map(|_| ground.store.execution_create(&[say()]).unwrap().remove(0)).collect()
    });
    for answers in answers {
        let id = |one: &Created| match one {
            Created::New { key, .. } => key.id,
            Created::Existing { id, .. } | Created::Coalesced { id, .. } => *id,
            other => panic!("{other:?}"),
        };
        let ids: HashSet<ExecutionId> = answers.iter().flatten().map(id).collect();
        assert_eq!(ids.len(), 1, "{answers:?}");
        let first =
            |one: &&Created| matches!(one, Created::New { .. } | Created::Coalesced { before: false, .. });
        assert_eq!(answers.iter().flatten().filter(first).count(), 1, "{answers:?}");
    }
}

fn who_waits_is_let_on_by_an_end_at_the_same_moment(ground: &Ground) {
    let names = ground.workflows(&json!({"concurrency": 1}));
    let ends: Vec<Transition> = names.iter().map(|name| ground.held_run(name).complete()).collect();
    let answers = race(2, ROUNDS, |party, round| {
        if party == 1 {
            return Some(ground.start(&names[round]));
        }
        let done = ground.store.execution_commit(std::slice::from_ref(&ends[round])).unwrap();
        assert!(matches!(done[..], [Committed::Done { released: true, .. }]), "{done:?}");
        None
    });
    for answers in answers {
        let Some(Some(Created::New { key, .. })) = answers.get(1) else { panic!("{answers:?}") };
        assert!(ground.ready(key.id), "nobody would let it begin");
    }
}

fn a_run_is_repeated_once_for_each_attempt(ground: &Ground) {
    let names = ground.workflows(&json!({}));
    let failed: Vec<ExecutionKey> = names
        .iter()
        .map(|name| {
            let mut held = ground.held_run(name);
            ground.store.execution_commit(&[held.fail(Reason::Auth)]).unwrap();
            held.claimed.key
        })
        .collect();
    let answers = race(8, ROUNDS, |_, round| ground.store.run_retry(&failed[round], "key_a", None).unwrap());
    for (round, answers) in answers.into_iter().enumerate() {
        assert!(matches!(answers[0], Retried::Made { attempt: 2, .. }), "{answers:?}");
        assert!(answers.iter().all(|one| *one == answers[0]), "{answers:?}");
        assert_eq!(ground.active(&names[round]).len(), 1);
    }
}

fn a_pause_and_a_failure_leave_no_run_behind(ground: &Ground) {
    let names = ground.workflows(&json!({}));
    let ends: Vec<Transition> =
        names.iter().map(|name| ground.held_run(name).fail(Reason::Network)).collect();
    race(2, ROUNDS, |party, round| {
        let name = &names[round];
        if party == 1 {
            let done = ground.store.execution_commit(std::slice::from_ref(&ends[round])).unwrap();
            assert!(matches!(done[..], [Committed::Done { released: true, .. }]), "{done:?}");
            return;
        }
        ground.store.workflow_state(&scope(), name, WorkflowState::Paused, "key_a").unwrap().unwrap();
        for run in ground.active(name) {
            ground.store.run_end_paused(&run, "key_a").unwrap();
        }
    });
    for name in &names {
        assert!(ground.active(name).is_empty(), "a repeat was left");
        let row = ground.store.workflow_get(&scope(), name).unwrap().unwrap();
        assert_eq!((row.state, row.changed_by.as_deref()), (WorkflowState::Paused, Some("key_a")));
    }
    let filter = ExecutionFilter { status: Some(Status::Queued), limit: 10, ..Default::default() };
    assert!(ground.store.execution_list(&scope(), &filter).unwrap().is_empty());
}

fn ends_of_one_workflow_are_all_counted(ground: &Ground) {
    let names = ground.workflows(&json!({}));
    let ends: Vec<Vec<Transition>> = names
        .iter()
        .map(|name| (0..4).map(|_| ground.held_run(name).fail(Reason::Logic)).collect())
        .collect();
    race(4, ROUNDS, |party, round| {
        let done = ground.store.execution_commit(std::slice::from_ref(&ends[round][party])).unwrap();
        assert!(matches!(done[..], [Committed::Done { released: true, .. }]), "{done:?}");
    });
    for name in &names {
        let row = ground.store.workflow_get(&scope(), name).unwrap().unwrap();
        let told = (row.state, row.logic_failures, row.escalated, row.attention);
        assert_eq!(told, (WorkflowState::Maintenance, 4, true, true));
        assert!(ground.active(name).is_empty());
    }
}

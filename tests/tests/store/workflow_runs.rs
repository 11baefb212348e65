//! What is around the runs of workflows: repeats, the workflow's state, one run at a time.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::effect::Act;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{Reason, RunType, Status, WorkflowState};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;
use serde_json::json;

on_both_stores! {
    a_run_that_failed_for_the_network_is_repeated_later;
    repeats_are_used_up_and_the_schedule_stops;
    a_failure_of_the_workflow_itself_is_escalated_the_third_time;
    what_a_person_said_is_not_overwritten;
    test_runs_and_children_count_for_nothing;
    a_balance_that_is_used_up_holds_the_runs_with_that_secret;
    only_an_active_workflow_is_started;
    one_run_goes_on_and_one_more_waits;
    a_repeat_counts_as_the_run_that_goes_on;
    a_held_workflow_ends_its_runs;
    attention_is_acknowledged_until_the_next_failure;
}

fn one(bed: &Bed, new: NewExecution) -> Created {
    bed.store.execution_create(&[new]).unwrap().pop().unwrap()
}

fn row(bed: &Bed, name: &str) -> WorkflowRow {
    bed.store.workflow_get(&scope(), name).unwrap().unwrap()
}

fn attention(bed: &Bed) -> Vec<String> {
    let rows = bed.store.attention_list(&scope(), None, 10).unwrap();
    rows.into_iter().map(|row| row.workflow).collect()
}

fn commit(bed: &Bed, transition: Transition) {
    let done = bed.store.execution_commit(&[transition]).unwrap();
    assert!(matches!(done[..], [Committed::Done { released: true, .. }]), "{done:?}");
}

/// Claims a run and ends it so.
fn end(bed: &Bed, key: &ExecutionKey, reason: Option<Reason>) {
    let mut held = Held::claim(&*bed.store, session(&*bed.store), key);
    let transition = match reason {
        Some(reason) => held.fail(reason),
        None => held.complete(),
    };
    commit(bed, transition);
}

fn run_to(bed: &Bed, workflow: &str, reason: Option<Reason>) -> ExecutionKey {
    let key = create(&*bed.store, run_of(workflow));
    end(bed, &key, reason);
    key
}

/// The run that repeats this one.
fn repeat_of(bed: &Bed, key: &ExecutionKey) -> Option<ExecutionRow> {
    let all =
        bed.store.execution_list(&scope(), &ExecutionFilter { limit: 100, ..Default::default() }).unwrap();
    let of = |row: &ExecutionRow| row.retry_of == Some(key.id);
    all.into_iter().filter(of).max_by_key(|row| row.attempt)
}

fn ready_in(bed: &Bed, id: ExecutionId) -> Option<Duration> {
    let failed_at = |standing: &Standing| standing.row.created_at;
    let standing = bed.store.execution_standing(&scope(), id).unwrap().unwrap();
    standing.ready_at.map(|ready_at| failed_at(&standing).until(ready_at))
}

fn a_run_that_failed_for_the_network_is_repeated_later(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    let first = NewExecution { labels: [("team".to_owned(), "a".to_owned())].into(), ..run_of("ship") };
    let first = create(&*bed.store, first);
    end(bed, &first, Some(Reason::Network));
    let repeat = repeat_of(bed, &first).expect("a repeat");
    assert_eq!((repeat.status, repeat.attempt, repeat.retry_of), (Status::Queued, 2, Some(first.id)));
    assert_eq!((repeat.input.as_deref(), repeat.labels.len()), (Some("{}"), 1));
    assert_eq!(ready_in(bed, repeat.key.id), Some(Duration::from_secs(10)));
    assert!(claim(&*bed.store, session(&*bed.store), &[&repeat.key]).is_empty(), "not before its time");
    let row = row(bed, "ship");
    assert_eq!((row.state, row.attention, row.schedule_stopped), (WorkflowState::Active, false, false));
    assert!(attention(bed).is_empty());
}

fn repeats_are_used_up_and_the_schedule_stops(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"retries": 0}));
    let run = run_to(bed, "ship", Some(Reason::RateLimit));
    assert!(repeat_of(bed, &run).is_none());
    assert!(row(bed, "ship").schedule_stopped);
    assert_eq!(attention(bed), ["ship"]);
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap();
    assert!(!row(bed, "ship").schedule_stopped, "`resume` lets it go on");
    run_to(bed, "ship", Some(Reason::Auth));
    assert!(row(bed, "ship").schedule_stopped);
    workflow(&*bed.store, "ship", json!({"retries": 1}));
    assert!(!row(bed, "ship").schedule_stopped, "so does a new version");
    run_to(bed, "ship", None);
    assert!(attention(bed).is_empty(), "the latest run completed");
}

fn a_failure_of_the_workflow_itself_is_escalated_the_third_time(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    for (n, shown) in [(1, vec![]), (2, vec![]), (3, vec!["ship".to_owned()])] {
        let run = run_to(bed, "ship", Some(Reason::Logic));
        assert!(repeat_of(bed, &run).is_none());
        let now = row(bed, "ship");
        assert_eq!((now.state, now.logic_failures, now.escalated), (WorkflowState::Maintenance, n, n == 3));
        assert_eq!(attention(bed), shown);
        bed.store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap();
        assert_eq!(row(bed, "ship").logic_failures, n, "the counter stays");
    }
    run_to(bed, "ship", None);
    let cleared = row(bed, "ship");
    assert_eq!((cleared.logic_failures, cleared.escalated, cleared.attention), (0, false, false));
    run_to(bed, "ship", Some(Reason::Limit));
    assert_eq!(row(bed, "ship").state, WorkflowState::Maintenance);
    workflow(&*bed.store, "ship", json!({"retries": 3}));
    assert_eq!((row(bed, "ship").state, row(bed, "ship").logic_failures), (WorkflowState::Active, 1));
}

fn what_a_person_said_is_not_overwritten(bed: &Bed) {
    for state in [WorkflowState::Paused, WorkflowState::Archived] {
        let name = state.as_str();
        workflow(&*bed.store, name, json!({}));
        let key = create(&*bed.store, run_of(name));
        let mut held = Held::claim(&*bed.store, session(&*bed.store), &key);
        bed.store.workflow_state(&scope(), name, state, "key_a").unwrap();
        commit(bed, held.fail(Reason::Logic));
        let row = row(bed, name);
        assert_eq!((row.state, row.changed_by.as_deref(), row.logic_failures), (state, Some("key_a"), 1));
        workflow(&*bed.store, name, json!({"retries": 2}));
        assert_eq!(self::row(bed, name).state, state, "nor by a new version");
    }
}

fn test_runs_and_children_count_for_nothing(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    let parent = create(&*bed.store, start());
    let told = Parent { execution: parent.id, step: 1, tool_call_id: "c".to_owned(), depth: 1 };
    let child =
        NewExecution { extras: Extras { parent: Some(told), ..Default::default() }, ..run_of("ship") };
    for new in [NewExecution { run_type: RunType::Test, ..run_of("ship") }, child] {
        for reason in [Reason::Auth, Reason::Logic, Reason::Network] {
            let new = NewExecution { key: key(), ..new.clone() };
            let run = create(&*bed.store, new);
            assert!(bed.store.workflow_active(&scope(), "ship").unwrap().is_empty());
            end(bed, &run, Some(reason));
            assert!(repeat_of(bed, &run).is_none());
        }
    }
    let row = row(bed, "ship");
    assert_eq!((row.state, row.logic_failures, row.attention), (WorkflowState::Active, 0, false));
}

fn a_balance_that_is_used_up_holds_the_runs_with_that_secret(bed: &Bed) {
    workflow_with(&*bed.store, "pay", json!({}), &["bank"]);
    workflow_with(&*bed.store, "fund", json!({}), &["other", "bank"]);
    workflow_with(&*bed.store, "ship", json!({}), &["post"]);
    let run = run_to(bed, "pay", Some(Reason::Balance));
    assert!(repeat_of(bed, &run).is_none());
    assert_eq!(attention(bed), ["pay"]);
    let wait = |name: &str| ready_in(bed, create(&*bed.store, run_of(name)).id).unwrap();
    for held in ["pay", "fund"] {
        let wait = wait(held);
        assert!(wait > Duration::from_secs(500) && wait <= Duration::from_secs(600), "{held}: {wait:?}");
    }
    assert_eq!(wait("ship"), Duration::ZERO);
}

fn only_an_active_workflow_is_started(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    for state in [WorkflowState::Paused, WorkflowState::Archived] {
        bed.store.workflow_state(&scope(), "ship", state, "key_a").unwrap().unwrap();
        let new = run_of("ship");
        let id = new.key.id;
        let created = one(bed, new);
        assert!(
            matches!(created, Created::WorkflowNotActive { state: told } if told == state),
            "{created:?}"
        );
        assert!(bed.store.execution_get(&scope(), id).unwrap().is_none(), "it left a row");
    }
    create(&*bed.store, NewExecution { run_type: RunType::Test, ..run_of("ship") });
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap().unwrap();
    create(&*bed.store, run_of("ship"));
    assert!(bed.store.workflow_state(&scope(), "none", WorkflowState::Paused, "key_a").unwrap().is_none());
}

fn one_run_goes_on_and_one_more_waits(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    let first = create(&*bed.store, run_of("ship"));
    let same = |created: Created, of: &ExecutionKey| match created {
        Created::Coalesced { id } => assert_eq!(id, of.id),
        other => panic!("{other:?}"),
    };
    same(one(bed, run_of("ship")), &first);
    let mut held = Held::claim(&*bed.store, session(&*bed.store), &first);
    let second = create(&*bed.store, run_of("ship"));
    assert_eq!(ready_in(bed, second.id), None, "it waits for the first");
    same(one(bed, run_of("ship")), &second);
    commit(bed, held.complete());
    assert!(ready_in(bed, second.id).is_some());
    same(one(bed, run_of("ship")), &second);
    end(bed, &second, None);
    create(&*bed.store, run_of("ship"));
}

fn a_repeat_counts_as_the_run_that_goes_on(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    let first = create(&*bed.store, run_of("ship"));
    let mut held = Held::claim(&*bed.store, session(&*bed.store), &first);
    let second = create(&*bed.store, run_of("ship"));
    commit(bed, held.fail(Reason::Network));
    assert_eq!(ready_in(bed, second.id), None, "the first is repeated before");
    let repeat = repeat_of(bed, &first).unwrap().key;
    // A person's pause and resume do not let it pass.
    for act in [ActRequest::Pause, ActRequest::Resume] {
        bed.store.execution_act(&scope(), second.id, &act, "key_a", None).unwrap();
        assert_eq!(ready_in(bed, second.id), None);
    }
    bed.store.execution_act(&scope(), repeat.id, &ActRequest::Cancel, "key_a", None).unwrap();
    assert!(ready_in(bed, second.id).is_some());
}

fn a_held_workflow_ends_its_runs(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    let [queued, held] = [(); 2].map(|()| create(&*bed.store, run_of("ship")));
    let session = session(&*bed.store);
    Held::claim(&*bed.store, session, &held);
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Paused, "key_a").unwrap();
    let mut active = bed.store.workflow_active(&scope(), "ship").unwrap();
    active.sort();
    assert_eq!(active, [queued.clone(), held.clone()]);
    let acted = bed.store.run_end_paused(&queued, "key_a").unwrap().unwrap();
    assert_eq!((acted.status, acted.tell), (Status::Cancelled, Tell::Nobody));
    let ended = bed.store.execution_get(&scope(), queued.id).unwrap().unwrap();
    assert_eq!((ended.status, ended.reason, ended.error), (Status::Cancelled, Some(Reason::Paused), None));
    assert!(bed.store.run_end_paused(&queued, "key_a").unwrap().is_none(), "it is over");
    let told = bed.store.run_end_paused(&held, "key_a").unwrap().unwrap();
    assert_eq!(told.tell, Tell::Holder(session));
    let inbox = bed.store.inbox_read(&[held.clone()]).unwrap();
    assert!(matches!(inbox[0].acts[..], [(1, Act::EndPaused { .. })]), "{inbox:?}");
    assert_eq!(bed.store.workflow_active(&scope(), "ship").unwrap(), [held]);
    assert!(repeat_of(bed, &queued).is_none());
}

fn attention_is_acknowledged_until_the_next_failure(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    assert!(!bed.store.attention_acknowledge(&scope(), "ship", "key_a").unwrap(), "nothing to acknowledge");
    let run = run_to(bed, "ship", Some(Reason::Permission));
    let told = bed.store.attention_list(&scope(), None, 10).unwrap();
    assert_eq!((told[0].execution, told[0].reason, told[0].attempt), (run.id, Reason::Permission, 1));
    assert_eq!(told[0].error.message, "the call failed");
    assert!(bed.store.attention_acknowledge(&scope(), "ship", "key_a").unwrap());
    assert!(attention(bed).is_empty());
    run_to(bed, "ship", Some(Reason::Stuck));
    assert_eq!(attention(bed), ["ship"]);
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Paused, "key_a").unwrap();
    assert!(attention(bed).is_empty(), "what is paused is not shown");
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap();
    assert_eq!(attention(bed), ["ship"]);
    bed.store
        .definition_delete(&scope(), holdpoint_engine::status::DefinitionKind::Workflow, "ship")
        .unwrap();
    assert!(attention(bed).is_empty(), "nor what is out of use");
}

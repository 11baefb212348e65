//! What is around the runs of workflows: repeats, the workflow's state, one run at a time.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{Entry, ExecutionFailed};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{DefinitionKind, ErrorType, Failure, Reason, RunType, Status, WorkflowState};
use holdpoint_engine::time::Span;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;
use serde_json::json;

on_both_stores! {
    a_run_that_failed_for_the_network_is_repeated_later;
    a_repeat_comes_no_sooner_than_the_server_asked;
    repeats_are_used_up_and_the_schedule_stops;
    a_failure_of_the_workflow_itself_is_escalated_the_third_time;
    what_a_person_said_is_not_overwritten;
    test_runs_and_children_count_for_nothing;
    a_balance_that_is_used_up_holds_the_runs_with_that_secret;
    a_balance_that_is_used_up_holds_what_has_not_begun;
    of_several_secrets_only_the_one_without_balance_is_held;
    a_delay_is_kept_by_the_run_that_waits;
    only_an_active_workflow_is_started;
    one_run_goes_on_and_one_more_waits;
    a_coalesced_start_said_again_is_the_same_run;
    a_repeat_counts_as_the_run_that_goes_on;
    a_held_workflow_ends_its_runs;
    what_was_held_is_known_until_its_runs_were_told;
    attention_is_acknowledged_until_the_next_failure;
    a_run_is_repeated_on_request_once_for_each_attempt;
    a_repeat_that_is_due_later_begins_when_it_is_asked_for;
    an_agents_run_is_repeated_in_its_conversation;
    what_cannot_be_repeated_says_why;
    what_was_deleted_is_not_repeated;
    a_workflow_that_was_deleted_and_put_again_begins_anew;
    a_run_that_failed_for_good_is_told_outside;
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

fn a_repeat_comes_no_sooner_than_the_server_asked(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    for (asked, waits) in [(3, 10), (3_600, 3_600)] {
        let run = create(&*bed.store, run_of("ship"));
        let mut held = Held::claim(&*bed.store, session(&*bed.store), &run);
        let retry_after = Some(Span::secs(asked));
        let error = Failure { retry_after, ..Failure::new(ErrorType::RateLimit, "429") };
        let entry = Entry::ExecutionFailed(ExecutionFailed { reason: Reason::RateLimit, error });
        let transition = held.next(vec![entry], failed(Reason::RateLimit));
        commit(bed, transition);
        let failed_at = bed.store.execution_get(&scope(), run.id).unwrap().unwrap().finished_at.unwrap();
        let repeat = repeat_of(bed, &run).expect("a repeat").key.id;
        let due = bed.store.execution_standing(&scope(), repeat).unwrap().unwrap().ready_at.unwrap();
        assert_eq!(failed_at.until(due), Duration::from_secs(waits), "{asked}");
    }
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
    let failed_at = bed.store.execution_get(&scope(), first.id).unwrap().unwrap().finished_at.unwrap();
    let due = bed.store.execution_standing(&scope(), repeat.key.id).unwrap().unwrap().ready_at.unwrap();
    assert_eq!(failed_at.until(due), Duration::from_secs(10));
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
            assert!(bed.store.workflow_active(&scope(), "ship", 10).unwrap().is_empty());
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

fn of_several_secrets_only_the_one_without_balance_is_held(bed: &Bed) {
    workflow_with(&*bed.store, "fund", json!({}), &["bank", "post"]);
    workflow_with(&*bed.store, "pay", json!({}), &["bank"]);
    workflow_with(&*bed.store, "ship", json!({}), &["post"]);
    let run = create(&*bed.store, run_of("fund"));
    let mut held = Held::claim(&*bed.store, session(&*bed.store), &run);
    let secrets = vec!["post".to_owned()];
    let error = Failure { secrets, ..Failure::new(ErrorType::Balance, "402") };
    let entry = Entry::ExecutionFailed(ExecutionFailed { reason: Reason::Balance, error });
    let transition = held.next(vec![entry], failed(Reason::Balance));
    commit(bed, transition);
    for (name, is_held) in [("pay", false), ("ship", true), ("fund", true)] {
        let wait = ready_in(bed, create(&*bed.store, run_of(name)).id).unwrap();
        assert_eq!(wait > Duration::from_secs(500), is_held, "{name}: {wait:?}");
    }
}

/// What had not begun waits as well: delayed, to be repeated, or behind another run.
fn a_balance_that_is_used_up_holds_what_has_not_begun(bed: &Bed) {
    for name in ["pay", "later", "again"] {
        workflow_with(&*bed.store, name, json!({}), &["bank"]);
    }
    workflow_with(&*bed.store, "one", json!({"concurrency": 1}), &["bank"]);
    workflow_with(&*bed.store, "ship", json!({}), &["post"]);
    let in_a_minute = |name| NewExecution { delay: Some(Duration::from_secs(60)), ..run_of(name) };
    let (later, other) =
        (create(&*bed.store, in_a_minute("later")), create(&*bed.store, in_a_minute("ship")));
    let failed = run_to(bed, "again", Some(Reason::Network));
    let repeat = repeat_of(bed, &failed).unwrap().key;
    let going = create(&*bed.store, run_of("one"));
    let mut held = Held::claim(&*bed.store, session(&*bed.store), &going);
    let waiting = create(&*bed.store, run_of("one"));
    run_to(bed, "pay", Some(Reason::Balance));
    // Ten minutes from the failure, which came a little after their starts.
    let is_held = |wait: Duration| wait > Duration::from_secs(500) && wait <= Duration::from_secs(660);
    for run in [&later, &repeat] {
        let wait = ready_in(bed, run.id).unwrap();
        assert!(is_held(wait), "{wait:?}");
    }
    assert_eq!(ready_in(bed, other.id), Some(Duration::from_secs(60)), "it uses another secret");
    commit(bed, held.complete());
    let wait = ready_in(bed, waiting.id).unwrap();
    assert!(is_held(wait), "the run that waited: {wait:?}");
}

fn a_delay_is_kept_by_the_run_that_waits(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    let first = create(&*bed.store, run_of("ship"));
    let mut held = Held::claim(&*bed.store, session(&*bed.store), &first);
    let hour = Duration::from_secs(3600);
    let later = create(&*bed.store, NewExecution { delay: Some(hour), ..run_of("ship") });
    assert_eq!(ready_in(bed, later.id), None);
    commit(bed, held.complete());
    assert_eq!(ready_in(bed, later.id), Some(hour));
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
    let test = || NewExecution { run_type: RunType::Test, ..run_of("ship") };
    let refused = one(bed, test());
    assert!(matches!(refused, Created::WorkflowNotActive { state: WorkflowState::Archived }), "{refused:?}");
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Paused, "key_a").unwrap().unwrap();
    create(&*bed.store, test());
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap().unwrap();
    create(&*bed.store, run_of("ship"));
    assert!(bed.store.workflow_state(&scope(), "none", WorkflowState::Paused, "key_a").unwrap().is_none());
}

fn one_run_goes_on_and_one_more_waits(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    let first = create(&*bed.store, run_of("ship"));
    let same = |created: Created, of: &ExecutionKey| match created {
        Created::Coalesced { id, .. } => assert_eq!(id, of.id),
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

fn keyed(name: &str, key: Option<&str>, body: &str) -> NewExecution {
    let idempotency = Idempotency { key: key.map(str::to_owned), body_digest: body.to_owned() };
    NewExecution { idempotency: Some(idempotency), ..run_of(name) }
}

fn a_coalesced_start_said_again_is_the_same_run(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    workflow(&*bed.store, "other", json!({}));
    let first = create(&*bed.store, run_of("ship"));
    let by_key = keyed("ship", Some("k"), "a");
    let by_id = keyed("ship", None, "a");
    // Two of one key in one transaction are one as well.
    let again = NewExecution { key: key(), ..by_key.clone() };
    let answers = bed.store.execution_create(&[by_key.clone(), again, by_id.clone()]).unwrap();
    let told = |before| Created::Coalesced { id: first.id, before };
    assert_eq!(answers, [told(false), told(true), told(false)]);
    end(bed, &first, None);
    let said_again = |new: &NewExecution| one(bed, NewExecution { key: key(), ..new.clone() });
    assert_eq!(said_again(&by_key), told(true), "though that run is over");
    assert_eq!(one(bed, by_id.clone()), told(true));
    assert!(bed.store.workflow_active(&scope(), "ship", 10).unwrap().is_empty(), "no second run");
    // Under the name stands one body, whatever it starts.
    for other in [keyed("ship", Some("k"), "b"), keyed("other", Some("k"), "b")] {
        assert_eq!(one(bed, other), Created::Mismatch);
    }
    assert_eq!(one(bed, NewExecution { key: by_id.key, ..keyed("other", None, "b") }), Created::Mismatch);
    assert_eq!(one(bed, NewExecution { version: Some(9), ..by_key.clone() }), told(true));
    // Another key is another start.
    assert!(matches!(one(bed, keyed("ship", Some("l"), "a")), Created::New { .. }));
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
    let mut active = bed.store.workflow_active(&scope(), "ship", 10).unwrap();
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
    assert_eq!(bed.store.workflow_active(&scope(), "ship", 10).unwrap(), [held]);
    assert!(repeat_of(bed, &queued).is_none());
}

fn what_was_held_is_known_until_its_runs_were_told(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    let hold = |state, by| bed.store.workflow_state(&scope(), "ship", state, by).unwrap().unwrap();
    let ending = || bed.store.workflows_ending(Duration::ZERO, 10).unwrap();
    assert!(ending().is_empty());
    let first = hold(WorkflowState::Paused, "key_a");
    let told = HeldWorkflow {
        scope: scope(),
        name: "ship".to_owned(),
        by: "key_a".to_owned(),
        since: first.changed_at,
    };
    assert_eq!(ending(), [told.clone()]);
    assert!(bed.store.workflows_ending(Duration::from_secs(60), 10).unwrap().is_empty(), "not yet");
    hold(WorkflowState::Paused, "key_b");
    assert_eq!(ending(), [told.clone()], "nothing was changed");
    hold(WorkflowState::Active, "key_a");
    assert!(ending().is_empty(), "they go on");
    hold(WorkflowState::Archived, "key_b");
    bed.store.workflow_ended_runs(&told).unwrap();
    let [held] = &ending()[..] else { panic!("the second time has other runs") };
    assert_eq!(held.by, "key_b");
    bed.store.workflow_ended_runs(held).unwrap();
    assert!(ending().is_empty());
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
    bed.store.definition_delete(&scope(), DefinitionKind::Workflow, "ship", "key_admin").unwrap();
    assert!(attention(bed).is_empty(), "nor what is out of use");
}

fn retry(bed: &Bed, key: &ExecutionKey) -> Retried {
    bed.store.run_retry(key, "key_a", None).unwrap()
}

fn made(retried: Retried) -> (ExecutionKey, i32, ExecutionId) {
    match retried {
        Retried::Made { run, attempt, retry_of, .. } => {
            (ExecutionKey { scope: scope(), id: run }, attempt, retry_of)
        }
        other => panic!("{other:?}"),
    }
}

fn a_run_is_repeated_on_request_once_for_each_attempt(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    let first = run_to(bed, "ship", Some(Reason::Auth));
    let (second, attempt, retry_of) = made(retry(bed, &first));
    assert_eq!((attempt, retry_of), (2, first.id));
    assert_eq!(made(retry(bed, &first)).0, second, "each attempt once");
    assert_eq!(retry(bed, &second), Retried::NotFailed(Status::Queued));
    assert_eq!(bed.store.workflow_active(&scope(), "ship", 10).unwrap(), [second.clone()]);
    let held = Held::claim(&*bed.store, session(&*bed.store), &second);
    assert_eq!(held.claimed.first_run, first.id, "keys stay the same");
    assert!(bed.store.session_end(held.session).is_ok());
    end(bed, &second, Some(Reason::Auth));
    let (third, attempt, retry_of) = made(retry(bed, &second));
    assert_eq!((attempt, retry_of), (3, first.id));
    let row = bed.store.execution_get(&scope(), third.id).unwrap().unwrap();
    assert_eq!((row.retry_of, row.attempt, row.status), (Some(first.id), 3, Status::Queued));
    let again = retry(bed, &first);
    assert!(matches!(again, Retried::Made { status: Status::Failed, .. }), "{again:?} is over");
    assert_eq!(made(again).0, second);
}

fn a_repeat_that_is_due_later_begins_when_it_is_asked_for(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    let first = run_to(bed, "ship", Some(Reason::Network));
    let repeat = repeat_of(bed, &first).unwrap().key;
    assert!(claim(&*bed.store, session(&*bed.store), &[&repeat]).is_empty());
    assert_eq!(made(retry(bed, &first)).0, repeat, "it is the attempt that was to come");
    assert_eq!(claim(&*bed.store, session(&*bed.store), &[&repeat]).len(), 1);
}

fn an_agents_run_is_repeated_in_its_conversation(bed: &Bed) {
    let document = r#"{"model": {"base_url": "http://model/v1", "name": "m"}, "instructions": "x"}"#;
    let kind = DefinitionKind::Agent;
    bed.store.definition_put(&scope(), kind, "clerk", document, "key_test").unwrap();
    let said = r#"[{"role":"user","content":"hello"}]"#.to_owned();
    let new = || NewExecution {
        kind,
        name: "clerk".to_owned(),
        messages: Some(said.clone()),
        input: None,
        conversation: Conversation::Named("c".to_owned()),
        ..start()
    };
    let first = create(&*bed.store, new());
    let mut held = Held::claim(&*bed.store, session(&*bed.store), &first);
    let mut failing = held.fail(Reason::Network);
    if let Target::Ended(ending) = &mut failing.target {
        ending.messages = vec![r#"{"role":"assistant","content":"half"}"#.to_owned()];
    }
    commit(bed, failing);
    assert!(repeat_of(bed, &first).is_none(), "only workflows' runs are repeated by themselves");
    let (second, ..) = made(retry(bed, &first));
    let conversation = bed.store.conversation_get(&scope(), "c").unwrap().unwrap();
    assert_eq!((conversation.active, conversation.latest), (Some(second.id), Some(second.id)));
    let filter = MessageFilter { conversation: "c".to_owned(), limit: 10, ..Default::default() };
    let messages = bed.store.message_list(&scope(), &filter).unwrap();
    assert_eq!(messages.len(), 1, "what the failed run said is said anew: {messages:?}");
    assert_eq!(messages[0].execution, Some(second.id));
    let held = Held::claim(&*bed.store, session(&*bed.store), &second);
    assert!(held.claimed.history.is_empty(), "its own messages are no history");
    assert_eq!(held.claimed.messages.as_deref(), Some(said.as_str()));
    let Retried::Made { run, .. } = retry(bed, &first) else { panic!("the same again") };
    assert_eq!(run, second.id);
    assert!(matches!(one(bed, new()), Created::ConversationBusy { active } if active == second.id));
}

fn what_cannot_be_repeated_says_why(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    let done = run_to(bed, "ship", None);
    assert_eq!(retry(bed, &done), Retried::NotFailed(Status::Completed));
    assert_eq!(retry(bed, &key()), Retried::NotFound);
    let failed = run_to(bed, "ship", Some(Reason::Auth));
    assert_eq!(bed.store.run_retry(&failed, "key_a", Some("ada")).unwrap(), Retried::NotFound, "another's");
    let test = create(&*bed.store, NewExecution { run_type: RunType::Test, ..run_of("ship") });
    end(bed, &test, Some(Reason::Auth));
    assert!(matches!(retry(bed, &test), Retried::Never(_)));
    let active = create(&*bed.store, run_of("ship"));
    assert_eq!(retry(bed, &failed), Retried::RunActive(active.id));
    end(bed, &active, None);
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Paused, "key_a").unwrap();
    assert_eq!(retry(bed, &failed), Retried::WorkflowNotActive(WorkflowState::Paused));
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap();
    assert_eq!(made(retry(bed, &failed)).1, 2);
}

fn delete(bed: &Bed, kind: DefinitionKind, name: &str) {
    assert!(bed.store.definition_delete(&scope(), kind, name, "key_admin").unwrap());
}

fn what_was_deleted_is_not_repeated(bed: &Bed) {
    let unknown = |kind, name: &str| Retried::UnknownDefinition(kind, name.to_owned());
    workflow(&*bed.store, "ship", json!({}));
    let first = run_to(bed, "ship", Some(Reason::Network));
    let second = repeat_of(bed, &first).expect("a repeat").key;
    // What was to begin before the deletion begins; nothing follows from its end.
    delete(bed, DefinitionKind::Workflow, "ship");
    assert_eq!(made(retry(bed, &first)).0, second);
    end(bed, &second, Some(Reason::Network));
    assert_eq!(repeat_of(bed, &first).expect("the same").attempt, 2);
    assert_eq!(retry(bed, &second), unknown(DefinitionKind::Workflow, "ship"));
    workflow(&*bed.store, "ship", json!({}));
    assert_eq!(made(retry(bed, &second)).1, 3, "the name is in use again");

    bed.store.definition_put(&scope(), DefinitionKind::Agent, "clerk", "{}", "key_1").unwrap();
    let of_clerk = NewExecution { kind: DefinitionKind::Agent, name: "clerk".to_owned(), ..start() };
    let key = create(&*bed.store, of_clerk);
    end(bed, &key, Some(Reason::Network));
    delete(bed, DefinitionKind::Agent, "clerk");
    assert_eq!(retry(bed, &key), unknown(DefinitionKind::Agent, "clerk"));
}

fn a_workflow_that_was_deleted_and_put_again_begins_anew(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({}));
    for _ in 0..3 {
        run_to(bed, "ship", Some(Reason::Logic));
        bed.store.workflow_state(&scope(), "ship", WorkflowState::Active, "key_a").unwrap();
    }
    run_to(bed, "ship", Some(Reason::Auth));
    assert!(bed.store.attention_acknowledge(&scope(), "ship", "key_a").unwrap());
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Paused, "key_a").unwrap();
    let old = row(bed, "ship");
    assert!(old.schedule_stopped && old.attention && old.escalated && old.logic_failures == 3, "{old:?}");
    delete(bed, DefinitionKind::Workflow, "ship");
    assert_eq!(bed.store.workflow_get(&scope(), "ship").unwrap(), None);
    // The same document: it is a new version of a new workflow all the same.
    workflow(&*bed.store, "ship", json!({}));
    let new = row(bed, "ship");
    assert!(new.changed_at > old.changed_at);
    let anew = WorkflowRow {
        name: "ship".to_owned(),
        state: WorkflowState::Active,
        changed_at: new.changed_at,
        changed_by: None,
        logic_failures: 0,
        escalated: false,
        schedule_stopped: false,
        attention: false,
    };
    assert_eq!(new, anew);
    assert!(bed.store.workflows_ending(Duration::ZERO, 10).unwrap().is_empty(), "nobody holds its runs");
    assert!(attention(bed).is_empty());
    run_to(bed, "ship", Some(Reason::Auth));
    assert_eq!(attention(bed), ["ship"], "nobody acknowledged that");
    assert_eq!(bed.store.attention_count(&scope()).unwrap(), 1);
    assert_eq!(bed.store.stats().unwrap().attention, 1);
    assert!(bed.store.attention_acknowledge(&scope(), "ship", "key_a").unwrap());
    assert_eq!(bed.store.stats().unwrap().attention, 0, "the alert ends as the list does");
}

fn a_run_that_failed_for_good_is_told_outside(bed: &Bed) {
    bed.store.event_settings_put(&scope(), EventSettings { exchange: true }, "key_a").unwrap();
    workflow(&*bed.store, "ship", json!({"retries": 1}));
    let told = |run: &ExecutionKey| -> Vec<OutgoingEvent> {
        let all = bed.store.outgoing_events(Channel::Exchange, 100).unwrap();
        all.into_iter().filter(|event| event.row.key == *run).collect()
    };
    let first = run_to(bed, "ship", Some(Reason::Network));
    let kinds = |run: &ExecutionKey| -> Vec<&str> { told(run).iter().map(|event| event.kind.line).collect() };
    assert_eq!(kinds(&first), ["execution.failed"], "it is repeated");
    let (repeat, ..) = made(retry(bed, &first));
    assert!(told(&repeat).is_empty(), "what is taken over is not told again");
    end(bed, &repeat, Some(Reason::Network));
    assert_eq!(kinds(&repeat), ["execution.failed", "workflow.failed"]);
    let events = told(&repeat);
    assert_ne!(events[0].id, events[1].id);
    let lines = super::kit::lines(bed, &repeat);
    let last: serde_json::Value = serde_json::from_str(&lines.last().unwrap().payload).unwrap();
    assert_eq!((&last["attempts"], &last["needs_attention"]), (&json!(2), &json!(true)), "{last}");
    assert_eq!(last["retry_of"], json!(first.id));
    let row = bed.store.execution_get(&scope(), repeat.id).unwrap().unwrap();
    assert_eq!(row.last_event, 1, "no stream shows it");
    let (third, ..) = made(retry(bed, &repeat));
    assert!(super::kit::lines(bed, &third).is_empty());
}

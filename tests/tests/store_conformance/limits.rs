//! Limits: never passed, and what is over them waits.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{Reason, Status};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;
use super::turns::{by_scope, many};

on_both_stores! {
    a_limit_is_kept_and_removed;
    over_a_limit_is_waiting;
    a_slot_is_free_after_every_end;
    a_limit_of_a_workflow_holds_up_no_other;
    those_that_wait_are_taken_in_their_order;
    a_limit_that_is_removed_lets_go_on;
    every_tenant_has_the_operators_limit;
    a_rate_holds_those_that_begin;
    a_suspect_is_under_limits_too;
    where_it_stands_is_told;
    calls_of_a_tool_have_their_turns;
    a_call_is_over_with_its_lease;
    calls_of_a_tool_have_a_rate;
}

const HOUR: Duration = Duration::from_secs(3_600);

fn at_most(concurrency: i64) -> Limit {
    Limit { concurrency: Some(concurrency), ..Limit::default() }
}

fn rate(count: i64) -> Limit {
    Limit { rate: Some(Rate { count, per: HOUR }), ..Limit::default() }
}

fn put(bed: &Bed, kind: LimitKind, name: &str, limit: Limit) {
    bed.store.limit_put(&scope(), kind, name, &limit, "key_1").unwrap();
}

fn limit_tenant(bed: &Bed, limit: Limit) {
    put(bed, LimitKind::Tenant, TENANT_LIMIT, limit);
}

/// All that can be claimed now.
fn all(bed: &Bed, session: SessionId) -> Vec<Claimed> {
    let mut all = Vec::new();
    loop {
        let more = claim_any(bed.store.as_ref(), session, 100);
        if more.is_empty() && bed.store.look_again().after.is_none_or(|after| !after.is_zero()) {
            return all;
        }
        all.extend(more);
    }
}

fn a_limit_is_kept_and_removed(bed: &Bed) {
    let store = bed.store.as_ref();
    let limit = Limit { concurrency: Some(5), rate: Some(Rate { count: 10, per: HOUR }), backlog: None };
    let row = store.limit_put(&scope(), LimitKind::Agent, "clerk", &limit, "key_1").unwrap();
    assert_eq!((row.kind, row.name.as_str(), row.limit), (LimitKind::Agent, "clerk", limit));
    assert_eq!(store.limit_get(&scope(), LimitKind::Agent, "clerk").unwrap(), Some(row.clone()));
    assert_eq!(store.limit_get(&scope(), LimitKind::Workflow, "clerk").unwrap(), None);
    assert_eq!(store.limit_get(&stranger(), LimitKind::Agent, "clerk").unwrap(), None);
    let again = store.limit_put(&scope(), LimitKind::Agent, "clerk", &at_most(2), "key_2").unwrap();
    assert_eq!((again.limit, again.updated_by.as_str()), (at_most(2), "key_2"));
    limit_tenant(bed, Limit { backlog: Some(7), ..at_most(3) });
    let elsewhere = Scope::new(&scope().tenant, "another");
    let kinds = |scope: &Scope| -> Vec<LimitKind> {
        store.limit_list(scope).unwrap().into_iter().map(|row| row.kind).collect()
    };
    assert_eq!(kinds(&scope()), [LimitKind::Agent, LimitKind::Tenant]);
    assert_eq!(kinds(&elsewhere), [LimitKind::Tenant], "a tenant's is that of all its projects");
    assert!(kinds(&stranger()).is_empty());
    assert!(!store.limit_delete(&stranger(), LimitKind::Agent, "clerk", "key_1").unwrap());
    assert!(store.limit_delete(&scope(), LimitKind::Agent, "clerk", "key_1").unwrap());
    assert!(!store.limit_delete(&scope(), LimitKind::Agent, "clerk", "key_1").unwrap());
}

fn over_a_limit_is_waiting(bed: &Bed) {
    let (a, b) = (format!("{}", scope()), "globex/shop".to_owned());
    let hinted = many(bed, &a, 10);
    many(bed, &b, 10);
    limit_tenant(bed, at_most(4));
    let mine = session(bed.store.as_ref());
    assert!(claim(bed.store.as_ref(), mine, &[&hinted[0]]).is_empty(), "a hint passes no limit");
    let claimed = all(bed, mine);
    assert_eq!(by_scope(&claimed).into_iter().collect::<Vec<_>>(), [(a, 4), (b, 10)]);
    // All were ready at one moment: which of them go first is not said.
    let waiting = hinted.iter().filter(|key| get(bed, key).status == Status::Queued).count();
    assert_eq!(waiting, 6);
    assert!(bed.store.look_again().when_freed);
    assert!(all(bed, mine).is_empty());
}

/// However an execution is let go, its slot is another's.
fn a_slot_is_free_after_every_end(bed: &Bed) {
    let store = bed.store.as_ref();
    many(bed, &scope().to_string(), 12);
    put(bed, LimitKind::Workflow, "holdpoint.noop", at_most(1));
    let claim_one = |session: SessionId, why: &str| -> Held {
        let mut claimed = all(bed, session);
        assert_eq!(claimed.len(), 1, "after {why}");
        assert!(all(bed, session).is_empty(), "one at a time, after {why}");
        Held::of(claimed.remove(0), session)
    };
    let mine = session(store);
    let mut held = claim_one(mine, "the start");
    assert_eq!(commit(bed, held.complete()), FREED);
    let mut held = claim_one(mine, "an end");
    assert_eq!(commit(bed, held.fail(Reason::Internal)), FREED);
    let mut held = claim_one(mine, "a failure");
    assert_eq!(commit(bed, held.ask(&[Asked::open("a")])), FREED);
    let waits = held.key().clone();
    let held = claim_one(mine, "a suspension");
    store.execution_release(mine, &[held.key().clone()]).unwrap();
    let held = claim_one(mine, "a lease that was given back");
    store.execution_act(&scope(), held.key().id, &ActRequest::Cancel, "key_1", None).unwrap();
    assert!(all(bed, mine).is_empty(), "its worker ends it");
    store.session_end(mine).unwrap();
    let lost = session(store);
    let held = claim_one(lost, "the end of a session");
    expire(store, lost);
    let mine = session(store);
    assert!(all(bed, mine).is_empty(), "its worker may still be at it");
    store.lease_reclaim(held.key(), 4).unwrap();
    let mut held = claim_one(mine, "a lease that was lost");
    approve(bed, &waits, "a");
    assert!(all(bed, mine).is_empty(), "a decision makes ready, and no room");
    assert_eq!(commit(bed, held.complete()), FREED);
    claim_one(mine, "all of it");
}

fn a_limit_of_a_workflow_holds_up_no_other(bed: &Bed) {
    let store = bed.store.as_ref();
    workflow(store, "slow", serde_json::json!({}));
    for _ in 0..30 {
        create(store, run_of("slow"));
    }
    let other = many(bed, &scope().to_string(), 3);
    put(bed, LimitKind::Workflow, "slow", at_most(2));
    let mine = session(store);
    let claimed = all(bed, mine);
    let slow = claimed.iter().filter(|one| one.name == "slow").count();
    assert_eq!((slow, claimed.len()), (2, 5));
    assert!(other.iter().all(|key| claimed.iter().any(|one| one.key == *key)));
    // Those that come now are put where they wait at once.
    for _ in 0..3 {
        create(store, run_of("slow"));
    }
    let more = many(bed, &scope().to_string(), 2);
    let claimed: Vec<_> = all(bed, mine).into_iter().map(|one| one.key).collect();
    assert_eq!(claimed.len(), 2);
    assert!(more.iter().all(|key| claimed.contains(key)));
}

fn those_that_wait_are_taken_in_their_order(bed: &Bed) {
    let keys: Vec<_> = (0..6).map(|_| create(bed.store.as_ref(), start())).collect();
    put(bed, LimitKind::Workflow, "holdpoint.noop", at_most(2));
    let mine = session(bed.store.as_ref());
    let mut taken: Vec<ExecutionKey> = Vec::new();
    while taken.len() < 6 {
        let claimed = all(bed, mine);
        assert_eq!(claimed.len(), 2);
        for one in claimed {
            taken.push(one.key.clone());
            assert_eq!(commit(bed, Held::of(one, mine).complete()), FREED);
        }
    }
    let place = |key: &ExecutionKey| keys.iter().position(|one| one == key).unwrap() / 2;
    assert!(taken.iter().map(place).is_sorted(), "{taken:?}");
}

fn a_limit_that_is_removed_lets_go_on(bed: &Bed) {
    many(bed, &scope().to_string(), 5);
    put(bed, LimitKind::Workflow, "holdpoint.noop", at_most(1));
    let mine = session(bed.store.as_ref());
    assert_eq!(all(bed, mine).len(), 1);
    put(bed, LimitKind::Workflow, "holdpoint.noop", at_most(3));
    assert_eq!(all(bed, mine).len(), 2);
    bed.store.limit_delete(&scope(), LimitKind::Workflow, "holdpoint.noop", "key_1").unwrap();
    assert_eq!(all(bed, mine).len(), 2);
}

fn every_tenant_has_the_operators_limit(bed: &Bed) {
    for tenant in ["a/p", "a/q", "b/p", "acme/shop"] {
        many(bed, tenant, 10);
    }
    limit_tenant(bed, at_most(7));
    let session = session(bed.store.as_ref());
    let request = ClaimRequest {
        session,
        hinted: Vec::new(),
        limit: 100,
        any: true,
        history: history(),
        tenant_concurrency: Some(4),
    };
    let mut claimed = bed.store.execution_claim(&request).unwrap();
    claimed.extend(bed.store.execution_claim(&request).unwrap());
    let counts = by_scope(&claimed);
    assert_eq!((counts["a/p"], counts["a/q"], counts["b/p"]), (2, 2, 4));
    assert_eq!(counts["acme/shop"], 7, "its own goes before it");
}

fn a_rate_holds_those_that_begin(bed: &Bed) {
    many(bed, &scope().to_string(), 10);
    put(bed, LimitKind::Workflow, "holdpoint.noop", rate(3));
    let mine = session(bed.store.as_ref());
    let claimed = all(bed, mine);
    assert_eq!(claimed.len(), 3);
    assert!(bed.store.look_again().after.is_some_and(|after| !after.is_zero()));
    let begun = claimed[1].key.clone();
    for one in claimed {
        assert_eq!(commit(bed, Held::of(one, mine).ask(&[Asked::open("a")])), FREED);
    }
    assert!(all(bed, mine).is_empty(), "a place that is free again is no room in the rate");
    // What has begun goes on, however many wait to begin.
    approve(bed, &begun, "a");
    let claimed = all(bed, mine);
    assert_eq!(claimed.iter().map(|one| &one.key).collect::<Vec<_>>(), [&begun]);
    put(bed, LimitKind::Workflow, "holdpoint.noop", rate(5));
    assert_eq!(all(bed, mine).len(), 2);
}

fn a_suspect_is_under_limits_too(bed: &Bed) {
    let store = bed.store.as_ref();
    let suspect = create(store, start());
    for _ in 0..2 {
        let lost = session(store);
        assert_eq!(claim(store, lost, &[&suspect]).len(), 1);
        expire(store, lost);
        assert!(matches!(store.lease_reclaim(&suspect, 4).unwrap(), Swept::Done { ready: true, .. }));
    }
    many(bed, &scope().to_string(), 1);
    limit_tenant(bed, at_most(1));
    let mine = session(store);
    let mut claimed = all(bed, mine);
    assert_eq!(claimed.len(), 1);
    assert_ne!(claimed[0].key, suspect);
    assert_eq!(commit(bed, Held::of(claimed.remove(0), mine).complete()), FREED);
    let claimed = all(bed, mine);
    assert_eq!(claimed.iter().map(|one| &one.key).collect::<Vec<_>>(), [&suspect]);
}

fn where_it_stands_is_told(bed: &Bed) {
    let store = bed.store.as_ref();
    many(bed, &scope().to_string(), 7);
    let last = create(store, start());
    assert!(store.limits_standing(&last, None).unwrap().is_empty());
    limit_tenant(bed, at_most(2));
    put(bed, LimitKind::Workflow, "holdpoint.noop", Limit { concurrency: Some(5), ..rate(9) });
    let held = all(bed, session(store)).remove(0).key;
    let told = store.limits_standing(&last, None).unwrap();
    let [tenant, workflow] = &told[..] else { panic!("{told:?}") };
    assert_eq!((tenant.kind, tenant.name.as_str()), (LimitKind::Tenant, "acme"));
    assert_eq!((tenant.concurrency, tenant.running, tenant.rate), (Some(2), 2, None));
    assert_eq!((workflow.kind, workflow.name.as_str()), (LimitKind::Workflow, "holdpoint.noop"));
    assert_eq!((workflow.running, workflow.begun, workflow.before), (2, 2, 5));
    assert!(store.limits_standing(&held, None).unwrap().is_empty(), "it is held");
    let other = many(bed, "globex/shop", 1).remove(0);
    assert!(store.limits_standing(&other, None).unwrap().is_empty());
    let told = store.limits_standing(&other, Some(3)).unwrap();
    assert_eq!((told[0].concurrency, told[0].running), (Some(3), 0));
}

fn tool_call(held: &Held, step: i32) -> ToolCall {
    let (key, session) = (held.key().clone(), held.session);
    ToolCall { key, step, tool: "pay".to_owned(), session }
}

fn asked(bed: &Bed, call: &ToolCall) -> bool {
    match bed.store.tool_call_ask(call).unwrap() {
        ToolTurn::Begun => true,
        ToolTurn::Waits { .. } => false,
        ToolTurn::Free => panic!("it is limited"),
    }
}

fn calls_of_a_tool_have_their_turns(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let other = Held::begin(bed.store.as_ref());
    assert_eq!(bed.store.tool_call_ask(&tool_call(&held, 1)).unwrap(), ToolTurn::Free);
    put(bed, LimitKind::Tool, "pay", at_most(2));
    let free = ToolCall { tool: "look".to_owned(), ..tool_call(&held, 9) };
    assert_eq!(bed.store.tool_call_ask(&free).unwrap(), ToolTurn::Free);
    let calls: Vec<_> =
        [(&held, 1), (&other, 1), (&held, 2), (&other, 2)].map(|(held, step)| tool_call(held, step)).into();
    let begun: Vec<bool> = calls.iter().map(|call| asked(bed, call)).collect();
    assert_eq!(begun, [true, true, false, false]);
    let told = bed.store.limits_standing(other.key(), None).unwrap();
    let [of_it] = &told[..] else { panic!("one call of it waits: {told:?}") };
    assert_eq!((of_it.kind, of_it.name.as_str(), of_it.step), (LimitKind::Tool, "pay", Some(2)));
    assert_eq!((of_it.concurrency, of_it.running, of_it.before), (Some(2), 2, 1));
    assert!(asked(bed, &calls[0]), "asked twice, begun once");
    bed.store.tool_call_done(&calls[1].key, calls[1].step).unwrap();
    assert!(!asked(bed, &calls[3]), "another is before it");
    assert!(asked(bed, &calls[2]));
    assert!(!asked(bed, &calls[3]));
    bed.store.tool_call_done(&calls[0].key, calls[0].step).unwrap();
    assert!(asked(bed, &calls[3]));
}

fn a_call_is_over_with_its_lease(bed: &Bed) {
    let store = bed.store.as_ref();
    put(bed, LimitKind::Tool, "pay", at_most(1));
    let mut held = Held::begin(store);
    let waits = Held::begin(store);
    let next = tool_call(&waits, 1);
    assert!(asked(bed, &tool_call(&held, 1)));
    assert!(!asked(bed, &next));
    assert_eq!(commit(bed, held.complete()), FREED);
    assert!(asked(bed, &next), "nobody told that the call is over");
    expire(store, waits.session);
    let later = Held::begin(store);
    assert!(!asked(bed, &tool_call(&later, 1)), "it may still be under way");
    store.lease_reclaim(waits.key(), 4).unwrap();
    assert!(asked(bed, &tool_call(&later, 1)));
}

fn calls_of_a_tool_have_a_rate(bed: &Bed) {
    put(bed, LimitKind::Tool, "pay", rate(2));
    let held = Held::begin(bed.store.as_ref());
    let begun: Vec<bool> = (0..4)
        .map(|step| {
            let call = tool_call(&held, step);
            let begun = asked(bed, &call);
            bed.store.tool_call_done(&call.key, call.step).unwrap();
            begun
        })
        .collect();
    assert_eq!(begun, [true, true, false, false]);
}

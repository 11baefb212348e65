//! Whose turn it is where not all that is ready can be taken at once.

use std::collections::BTreeMap;

use holdpoint_db::*;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    a_flood_leaves_the_others_their_turn;
    so_many_hints_bring_nobody_forward;
    with_room_for_one_each_tenant_has_its_turn;
    projects_of_a_tenant_share_its_turns;
    higher_priorities_go_first_in_their_project_alone;
    what_is_ready_later_is_not_in_the_way;
    a_tenant_whose_name_begins_as_anothers_is_another;
    a_backlog_is_counted_as_far_as_asked;
}

/// Starts in these scope, in one batch.
pub fn many(bed: &Bed, scope: &str, count: usize) -> Vec<ExecutionKey> {
    many_of(bed, scope, count, |_| {})
}

fn many_of(bed: &Bed, scope: &str, count: usize, change: impl Fn(&mut NewExecution)) -> Vec<ExecutionKey> {
    let (tenant, project) = scope.split_once('/').unwrap();
    let scope = Scope::new(tenant, project);
    let make = |_| {
        let mut new = start();
        new.key.scope = scope.clone();
        change(&mut new);
        new
    };
    let batch: Vec<NewExecution> = (0..count).map(make).collect();
    for part in batch.chunks(1_000) {
        let created = bed.store.execution_create(part).unwrap();
        assert!(created.iter().all(|one| matches!(one, Created::New { .. })));
    }
    batch.into_iter().map(|new| new.key).collect()
}

/// How many of each scope.
pub fn by_scope(claimed: &[Claimed]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for one in claimed {
        *counts.entry(one.key.scope.to_string()).or_default() += 1;
    }
    counts
}

fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.into_iter().map(|(scope, count)| (scope.to_owned(), count)).collect()
}

fn a_flood_leaves_the_others_their_turn(bed: &Bed) {
    let oldest = many(bed, "flood/shop", 1).remove(0);
    many(bed, "flood/shop", 9_999);
    many(bed, "quiet/shop", 3);
    let session = session(bed.store.as_ref());
    let first = claim_any(bed.store.as_ref(), session, 10);
    assert_eq!(by_scope(&first), counts([("flood/shop", 7), ("quiet/shop", 3)]));
    assert!(first.iter().any(|one| one.key == oldest), "the oldest of its own");
    let second = claim_any(bed.store.as_ref(), session, 10);
    assert_eq!(by_scope(&second), counts([("flood/shop", 10)]));
    assert!(second.iter().all(|one| first.iter().all(|other| other.key != one.key)));
}

fn so_many_hints_bring_nobody_forward(bed: &Bed) {
    many(bed, "quiet/shop", 3);
    let hinted = many(bed, "flood/shop", 50);
    let session = session(bed.store.as_ref());
    let request =
        ClaimRequest { session, hinted, limit: 8, any: true, history: history(), tenant_concurrency: None };
    let claimed = bed.store.execution_claim(&request).unwrap();
    assert_eq!(by_scope(&claimed), counts([("flood/shop", 5), ("quiet/shop", 3)]));
}

fn with_room_for_one_each_tenant_has_its_turn(bed: &Bed) {
    for tenant in ["a/p", "b/p", "c/p"] {
        many(bed, tenant, 5);
    }
    let session = session(bed.store.as_ref());
    let claimed: Vec<Claimed> = (0..9).flat_map(|_| claim_any(bed.store.as_ref(), session, 1)).collect();
    assert_eq!(by_scope(&claimed), counts([("a/p", 3), ("b/p", 3), ("c/p", 3)]));
    assert_eq!(by_scope(&claimed[..3]).len(), 3, "one after the other");
}

fn projects_of_a_tenant_share_its_turns(bed: &Bed) {
    many(bed, "a/p", 40);
    many(bed, "a/q", 40);
    many(bed, "b/p", 40);
    let session = session(bed.store.as_ref());
    let claimed = claim_any(bed.store.as_ref(), session, 20);
    assert_eq!(by_scope(&claimed), counts([("a/p", 5), ("a/q", 5), ("b/p", 10)]));
}

fn higher_priorities_go_first_in_their_project_alone(bed: &Bed) {
    let late = many_of(bed, "a/p", 10, |new| new.extras.priority = -3);
    many(bed, "a/p", 10);
    let urgent = many_of(bed, "a/p", 3, |new| new.extras.priority = 10);
    many(bed, "b/p", 10);
    assert_eq!(get(bed, &urgent[0]).priority, 10);
    assert_eq!(get(bed, &late[0]).priority, -3);
    let session = session(bed.store.as_ref());
    let claimed = claim_any(bed.store.as_ref(), session, 8);
    assert_eq!(by_scope(&claimed), counts([("a/p", 4), ("b/p", 4)]));
    assert!(urgent.iter().all(|key| claimed.iter().any(|one| one.key == *key)));
    let rest: Vec<_> = (0..4).flat_map(|_| claim_any(bed.store.as_ref(), session, 8)).collect();
    assert_eq!(claimed.len() + rest.len(), 33);
    let of_a: Vec<bool> = rest
        .iter()
        .filter(|one| one.key.scope.tenant.as_ref() == "a")
        .map(|one| late.contains(&one.key))
        .collect();
    assert!(of_a.is_sorted(), "the lowest come last: {of_a:?}");
}

fn what_is_ready_later_is_not_in_the_way(bed: &Bed) {
    let later = |new: &mut NewExecution| {
        new.delay = Some(std::time::Duration::from_secs(3_600));
        new.extras.priority = 5;
    };
    many_of(bed, "a/p", 50, later);
    many(bed, "a/p", 4);
    many(bed, "b/p", 4);
    let session = session(bed.store.as_ref());
    let claimed = claim_any(bed.store.as_ref(), session, 6);
    assert_eq!(by_scope(&claimed), counts([("a/p", 3), ("b/p", 3)]));
}

fn a_tenant_whose_name_begins_as_anothers_is_another(bed: &Bed) {
    for scope in ["acme/p", "acme-2/p", "acme.eu/p", "acme0/p", "ACME/p"] {
        many(bed, scope, 10);
    }
    assert_eq!(bed.store.backlog("acme", 100).unwrap().count, 10);
    let session = session(bed.store.as_ref());
    let claimed = claim_any(bed.store.as_ref(), session, 10);
    assert_eq!(by_scope(&claimed).into_values().collect::<Vec<_>>(), [2; 5]);
}

fn a_backlog_is_counted_as_far_as_asked(bed: &Bed) {
    many(bed, "a/p", 20);
    many(bed, "a/q", 20);
    many(bed, "b/p", 7);
    let counted = |most| bed.store.backlog("a", most).unwrap();
    assert_eq!(counted(100), Waiting { count: 40, bound: None });
    assert_eq!(counted(30), Waiting { count: 31, bound: None });
    let limit = Limit { backlog: Some(5), ..Limit::default() };
    bed.store.limit_put(&Scope::new("a", "p"), LimitKind::Tenant, TENANT_LIMIT, &limit, "key_1").unwrap();
    assert_eq!(counted(100), Waiting { count: 6, bound: Some(5) });
    let session = session(bed.store.as_ref());
    assert_eq!(claim_any(bed.store.as_ref(), session, 100).len(), 47);
    assert_eq!(counted(100).count, 0);
}

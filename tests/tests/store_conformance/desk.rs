//! Keys, parked messages, gauges, migrations, and the store for async callers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::{KeyId, ParkedId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    a_key_is_found_revoked_and_expired_ones_too;
    keys_are_listed_newest_first;
    a_key_is_revoked_in_its_scope;
    a_parked_message_is_kept_as_it_came;
    a_parked_message_is_removed_by_its_owner_only;
    parked_messages_are_paged_and_filtered;
    parked_messages_are_listed_newest_first;
    gauges_count_what_is_alive;
    gauges_tell_what_is_late;
    what_was_committed_is_counted_once;
    migrations_run_once;
    the_clock_goes_forward;
    waiting_starts_and_steps_share_transactions;
    two_transitions_of_one_execution_are_committed_one_after_the_other;
    a_panic_ends_its_work_and_nothing_else;
}

fn a_key(scope: Scope, created_at: i64) -> KeyRow {
    KeyRow {
        id: KeyId(Uuid::now_v7()),
        scope,
        role: "approve".to_owned(),
        name: "desk".to_owned(),
        end_user: Some("ada".to_owned()),
        groups: vec!["finance".to_owned()],
        secret_hash: "ab".repeat(32),
        created_at: Timestamp::from_micros(created_at),
        expires_at: Some(Timestamp::from_micros(9)),
        revoked_at: None,
    }
}

fn a_key_is_found_revoked_and_expired_ones_too(bed: &Bed) {
    let key = a_key(scope(), 1);
    bed.store.key_create(&key, "key_admin").unwrap();
    let found = bed.store.key_get(key.id).unwrap().unwrap();
    assert_eq!(
        (found.id, &found.scope, &found.role, &found.name),
        (key.id, &key.scope, &key.role, &key.name)
    );
    assert_eq!((&found.end_user, &found.groups), (&key.end_user, &key.groups));
    assert_eq!(found.secret_hash, key.secret_hash);
    assert_eq!((found.expires_at, found.revoked_at), (key.expires_at, None));
    assert!(bed.store.key_revoke(None, key.id, "key_admin").unwrap());
    assert!(bed.store.key_get(key.id).unwrap().unwrap().revoked_at.is_some());
    assert!(bed.store.key_get(KeyId(Uuid::now_v7())).unwrap().is_none());
}

fn keys_are_listed_newest_first(bed: &Bed) {
    let (old, new, theirs) = (a_key(scope(), 1), a_key(scope(), 3), a_key(stranger(), 2));
    for key in [&new, &old, &theirs] {
        bed.store.key_create(key, "key_admin").unwrap();
    }
    let list = |scope: Option<&Scope>| {
        let rows = bed.store.key_list(scope).unwrap();
        rows.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    let mut all = list(None);
    all.sort();
    let mut expected = vec![old.id, new.id, theirs.id];
    expected.sort();
    assert_eq!(all, expected);
    assert_eq!(list(Some(&stranger())), [theirs.id]);
    assert_eq!(list(Some(&scope())).len(), 2);
}

fn a_key_is_revoked_in_its_scope(bed: &Bed) {
    let key = a_key(scope(), 1);
    bed.store.key_create(&key, "key_admin").unwrap();
    assert!(!bed.store.key_revoke(Some(&stranger()), key.id, "key_admin").unwrap());
    assert!(bed.store.key_get(key.id).unwrap().unwrap().revoked_at.is_none());
    assert!(bed.store.key_revoke(Some(&scope()), key.id, "key_admin").unwrap());
    let at = bed.store.key_get(key.id).unwrap().unwrap().revoked_at;
    let _ = bed.store.key_revoke(Some(&scope()), key.id, "key_admin").unwrap();
    assert_eq!(bed.store.key_get(key.id).unwrap().unwrap().revoked_at, at, "the first time stands");
    assert!(!bed.store.key_revoke(None, KeyId(Uuid::now_v7()), "key_admin").unwrap());
}

fn parked(scope: Option<Scope>) -> ParkedMessage {
    ParkedMessage {
        id: ParkedId(Uuid::now_v7()),
        scope,
        queue: "holdpoint.sweeps".to_owned(),
        message_id: Some("m".to_owned()),
        kind: Some("sweep".to_owned()),
        code: "undecodable".to_owned(),
        reason: "malformed".to_owned(),
        key: Some(KeyId(Uuid::from_u128(7))),
        properties: r#"{"reply_to":"q"}"#.to_owned(),
        headers: r#"{"a":"b"}"#.to_owned(),
        body: Some(vec![0, 255, 0, 7]),
        body_bytes: 4,
        body_digest: "cd".repeat(32),
        parked_at: Timestamp::from_micros(0),
    }
}

fn a_parked_message_is_kept_as_it_came(bed: &Bed) {
    let before = bed.store.now().unwrap();
    let message = parked(Some(scope()));
    bed.store.parked_add(&message).unwrap();
    let listed = parked_list(bed, Some(&scope()), 10).remove(0);
    assert_eq!((listed.id, &listed.body, listed.body_bytes), (message.id, &None, 4));
    let found = bed.store.parked_get(Some(&scope()), message.id).unwrap().unwrap();
    assert_eq!((found.id, &found.body, found.body_bytes), (message.id, &message.body, 4));
    assert_eq!(
        (&found.code, found.key, &found.properties),
        (&message.code, message.key, &message.properties)
    );
    assert_eq!(
        (&found.queue, &found.message_id, &found.kind),
        (&message.queue, &message.message_id, &message.kind)
    );
    assert_eq!((&found.reason, &found.headers), (&message.reason, &message.headers));
    assert_eq!((&found.scope, &found.body_digest), (&message.scope, &message.body_digest));
    assert!(found.parked_at >= before, "the store says when");
    let bare = ParkedMessage { message_id: None, kind: None, body: None, ..parked(None) };
    bed.store.parked_add(&bare).unwrap();
    let found = parked_list(bed, None, 1).remove(0);
    assert_eq!((found.id, found.scope, found.body), (bare.id, None, None));
}

fn parked_list(bed: &Bed, scope: Option<&Scope>, limit: usize) -> Vec<ParkedMessage> {
    bed.store.parked_list(scope, &ParkedFilter { limit, ..ParkedFilter::default() }).unwrap()
}

fn a_parked_message_is_removed_by_its_owner_only(bed: &Bed) {
    let (ours, nobodys) = (parked(Some(scope())), parked(None));
    for message in [&ours, &nobodys] {
        bed.store.parked_add(message).unwrap();
        assert!(bed.store.parked_get(Some(&stranger()), message.id).unwrap().is_none());
        assert!(
            !bed.store
                .parked_remove(Some(&stranger()), message.id, Unparked::Discarded, "key_admin")
                .unwrap()
        );
    }
    assert!(!bed.store.parked_remove(Some(&scope()), nobodys.id, Unparked::Discarded, "key_admin").unwrap());
    assert!(bed.store.parked_remove(Some(&scope()), ours.id, Unparked::Discarded, "key_admin").unwrap());
    assert!(!bed.store.parked_remove(Some(&scope()), ours.id, Unparked::Discarded, "key_admin").unwrap());
    assert!(bed.store.parked_get(None, nobodys.id).unwrap().is_some());
    assert!(bed.store.parked_remove(None, nobodys.id, Unparked::Discarded, "key_admin").unwrap());
    assert!(parked_list(bed, None, 10).is_empty());
}

fn parked_messages_are_paged_and_filtered(bed: &Bed) {
    let all: Vec<_> = (0..5)
        .map(|n| ParkedMessage {
            code: if n % 2 == 0 { "even" } else { "odd" }.to_owned(),
            ..parked(Some(scope()))
        })
        .collect();
    all.iter().for_each(|message| bed.store.parked_add(message).unwrap());
    let (mut after, mut seen) = (None, Vec::new());
    loop {
        let filter = ParkedFilter { after, limit: 2, ..ParkedFilter::default() };
        let page = bed.store.parked_list(Some(&scope()), &filter).unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.parked_at, last.id));
        seen.extend(page.iter().map(|message| message.id));
    }
    assert_eq!(seen, all.iter().rev().map(|message| message.id).collect::<Vec<_>>());
    let odd = ParkedFilter { code: Some("odd".to_owned()), limit: 10, ..ParkedFilter::default() };
    assert_eq!(bed.store.parked_list(Some(&scope()), &odd).unwrap().len(), 2);
}

fn parked_messages_are_listed_newest_first(bed: &Bed) {
    let (ours, theirs, nobodys) = (parked(Some(scope())), parked(Some(stranger())), parked(None));
    for message in [&ours, &theirs, &nobodys] {
        bed.store.parked_add(message).unwrap();
    }
    let list = |scope: Option<&Scope>, limit| {
        parked_list(bed, scope, limit).into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, 10), [nobodys.id, theirs.id, ours.id]);
    assert_eq!(list(None, 1), [nobodys.id]);
    assert_eq!(list(Some(&scope()), 10), [ours.id]);
}

fn gauges_count_what_is_alive(bed: &Bed) {
    let store = bed.store.as_ref();
    let empty = store.stats().unwrap();
    assert_eq!((empty.approvals_pending, empty.ready, empty.leased, empty.parked), (0, 0, 0, 0));
    assert!(empty.oldest_approval.is_none());
    create(store, start());
    Held::begin(store);
    let mut over = Held::begin(store);
    assert_eq!(commit(bed, over.complete()), FREED);
    waiting(store, start(), &[Asked { requested_at: long_ago(7), ..Asked::open("a") }, Asked::open("b")]);
    let decided = waiting(store, start(), &[Asked::open("a")]);
    approve(bed, &decided, "a");
    store.parked_add(&parked(None)).unwrap();
    let stats = store.stats().unwrap();
    let count = |status| -> i64 {
        let of = stats
            .executions
            .iter()
            .filter(|(is, kind, _)| *is == status && *kind == DefinitionKind::Workflow);
        of.map(|(_, _, count)| count).sum()
    };
    assert_eq!((count(Status::Queued), count(Status::Running), count(Status::Suspended)), (1, 1, 2));
    assert!(stats.executions.iter().all(|(status, _, _)| !status.is_terminal()));
    assert_eq!((stats.approvals_pending, stats.leased, stats.parked), (2, 1, 1));
    assert_eq!(stats.ready, 2, "the queued one and the decided one");
    assert_eq!(stats.oldest_approval, Some(Timestamp::from_micros(1_000)));
    assert_eq!((stats.sessions, stats.attention, stats.deliveries), (4, 0, 0));
    assert!(stats.now <= store.now().unwrap());
}

fn gauges_tell_what_is_late(bed: &Bed) {
    let store = bed.store.as_ref();
    create(store, start());
    create(store, start());
    let soon = |id, seconds: u64| {
        let expires_at = store.now().unwrap().plus(Duration::from_secs(seconds));
        Asked { expires_at, ..Asked::open(id) }
    };
    let asked = [soon("near", 200), soon("far", 400), Asked::expired("over", 5)];
    waiting(store, start(), &asked);
    store.tick_close(SweepKind::Stale, Duration::from_secs(60)).unwrap();
    bed.execute("UPDATE ticks SET due_at = due_at - 3600000000");
    bed.execute("UPDATE executions SET ready_at = ready_at - 60000000 WHERE ready_at IS NOT NULL");
    let stats = store.stats().unwrap();
    assert_eq!((stats.approvals_pending, stats.approvals_expiring), (3, 1));
    let (oldest, now) = (stats.oldest_ready.expect("two are ready"), stats.now);
    assert!(oldest.until(now) >= Duration::from_secs(60));
    let (kind, due) = stats.ticks[0];
    assert_eq!((stats.ticks.len(), kind), (1, SweepKind::Stale));
    assert!(due.until(now) >= Duration::from_secs(3_000));
}

/// A counter's value, summed over the series that have these labels.
fn counted_as(bed: &Bed, name: &str, labels: &[(&str, &str)]) -> f64 {
    let families = bed.registry.gather();
    let family = families.iter().find(|family| family.name() == name).expect(name);
    let has = |metric: &prometheus::proto::Metric, (name, value): &(&str, &str)| {
        metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
    };
    let matching = family.get_metric().iter().filter(|metric| labels.iter().all(|label| has(metric, label)));
    matching.map(|metric| metric.get_counter().get_value()).sum()
}

fn what_was_committed_is_counted_once(bed: &Bed) {
    let store = bed.store.as_ref();
    let started = || counted_as(bed, "holdpoint_executions_started_total", &[]);
    let ended = |status| counted_as(bed, "holdpoint_executions_finished_total", &[("status", status)]);
    let lost = || counted_as(bed, "holdpoint_leases_lost_total", &[]);
    assert_eq!((started(), ended("completed"), ended("cancelled"), lost()), (0.0, 0.0, 0.0, 0.0));

    let new = start();
    let first = create(store, new.clone());
    assert!(matches!(store.execution_create(&[new]).unwrap()[0], Created::Existing { .. }));
    assert_eq!(started(), 1.0);
    store.execution_act(&first.scope, first.id, &ActRequest::Cancel, "key_a", None).unwrap();
    assert_eq!((ended("completed"), ended("cancelled")), (0.0, 1.0));

    let mut over = Held::begin(store);
    let end = over.complete();
    assert_eq!(commit(bed, end.clone()), FREED);
    assert_eq!(commit(bed, end), FREED, "it had landed");
    assert_eq!((started(), ended("completed")), (2.0, 1.0));

    let dead = Held::begin(store);
    assert_eq!(store.lease_reclaim(dead.key(), 4).unwrap(), Swept::Skipped);
    assert_eq!(lost(), 0.0);
    expire(store, dead.session);
    store.lease_reclaim(dead.key(), 4).unwrap();
    assert_eq!(store.lease_reclaim(dead.key(), 4).unwrap(), Swept::Skipped);
    assert_eq!(lost(), 1.0);
}

fn migrations_run_once(bed: &Bed) {
    assert!(bed.store.migrations_pending().unwrap().is_empty());
    assert!(bed.store.migrate().unwrap().is_empty());
}

fn the_clock_goes_forward(bed: &Bed) {
    let first = bed.store.now().unwrap();
    let second = bed.store.now().unwrap();
    assert!(second >= first && first.micros() > 1_700_000_000_000_000);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Counts batches by its hooks.
fn counted(bed: &Bed) -> (Db, Arc<AtomicUsize>, Arc<AtomicUsize>) {
    let (creates, commits) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hooks = Hooks {
        created: Box::new({
            let count = Arc::clone(&creates);
            move |new, answers| {
                assert_eq!(new.len(), answers.len());
                count.fetch_add(1, Ordering::SeqCst);
            }
        }),
        committed: Box::new({
            let count = Arc::clone(&commits);
            move |transitions, answers| {
                assert_eq!(transitions.len(), answers.len());
                count.fetch_add(1, Ordering::SeqCst);
            }
        }),
    };
    (Db::start(bed.store.clone(), &bed.settings, hooks), creates, commits)
}

fn waiting_starts_and_steps_share_transactions(bed: &Bed) {
    let (db, creates, commits) = counted(bed);
    runtime().block_on(async {
        let starts: Vec<_> = (0..50).map(|_| start()).collect();
        let keys: Vec<_> = starts.iter().map(|new| new.key.clone()).collect();
        for answer in db.create_each(starts).await {
            assert!(matches!(answer, Ok(Created::New { .. })));
        }
        let mine = session(bed.store.as_ref());
        let claimed = claim(bed.store.as_ref(), mine, &keys.iter().collect::<Vec<_>>());
        assert_eq!(claimed.len(), 50);
        let steps = claimed.into_iter().map(|one| db.commit(Held::of(one, mine).step()));
        for answer in futures_util::future::join_all(steps).await {
            assert_eq!(answer.unwrap(), KEPT);
        }
    });
    for batches in [creates, commits] {
        let batches = batches.load(Ordering::SeqCst);
        assert!((1..25).contains(&batches), "{batches} transactions for fifty");
    }
}

fn two_transitions_of_one_execution_are_committed_one_after_the_other(bed: &Bed) {
    let (db, _, _) = counted(bed);
    let mut held = Held::begin(bed.store.as_ref());
    runtime().block_on(async {
        let steps: Vec<_> = (0..5).map(|_| db.commit(held.step())).collect();
        for answer in futures_util::future::join_all(steps).await {
            assert_eq!(answer.unwrap(), KEPT);
        }
    });
    assert_eq!(lines(bed, held.key()).len(), 5);
}

fn a_panic_ends_its_work_and_nothing_else(bed: &Bed) {
    let settings = Settings { hot_connections: 1, read_connections: 1, ..bed.settings.clone() };
    let hooks = Hooks { created: Box::new(|_, _| panic!("a hook that fails")), ..Hooks::none() };
    let db = Db::start(bed.store.clone(), &settings, hooks);
    runtime().block_on(async {
        let failed: StoreResult<()> = db.hot(|_| panic!("work that fails")).await;
        assert!(matches!(failed, Err(StoreError::Refused(_))), "{failed:?}");
        assert!(db.hot(|store| store.now()).await.unwrap().is_ok());
        let failed: StoreResult<()> = db.read(|_| panic!("work that fails")).await;
        assert!(failed.is_err());
        assert!(db.read(|store| store.now()).await.unwrap().is_ok());
        for _ in 0..2 {
            let answer = tokio::time::timeout(Duration::from_secs(30), db.create(start())).await;
            assert!(answer.is_ok(), "the thread is there still");
        }
    });
}

//! Ticks, passes, and the rows whose worker is gone.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::SweepId;
use holdpoint_engine::status::{ErrorType, Reason, Status};
use holdpoint_engine::wire::{ExecutionKey, SweepKind};
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

const HOUR: Duration = Duration::from_secs(3600);

on_both_stores! {
    a_due_tick_is_taken_once;
    a_tick_nobody_closed_is_taken_again;
    a_closed_tick_is_due_a_period_later;
    ticks_that_are_looked_at_late_do_not_drift;
    a_tick_of_a_clock_that_went_back_is_due;
    each_kind_has_a_tick_of_its_own;
    a_pass_that_finished_is_not_opened_again;
    a_pass_whose_record_was_removed_leaves_none;
    passes_are_listed_newest_first;
    only_expired_sessions_lose_their_executions;
    a_lost_lease_is_counted_until_a_commit;
    suspects_are_handed_out_one_at_a_time;
    a_hint_does_not_hand_out_a_suspect_beside_another;
    a_lone_suspect_fails_as_stuck;
    unclaimed_ones_are_found_by_what_they_wait_for;
}

/// Claims it and lets the lease run out.
fn lose(bed: &Bed, key: &ExecutionKey) {
    let store = bed.store.as_ref();
    let session = session(store);
    let claimed = claim_any(store, session, 100);
    assert!(claimed.iter().any(|one| one.key == *key), "it is claimed");
    expire(store, session);
}

/// Loses its lease and takes it back, until it fails; how often.
pub fn lose_until_it_fails(bed: &Bed, key: &ExecutionKey) -> i32 {
    for lost in 1..10 {
        lose(bed, key);
        assert!(matches!(bed.store.lease_reclaim(key, 4).unwrap(), Swept::Done { .. }));
        if get(bed, key).status.is_terminal() {
            return lost;
        }
    }
    panic!("it goes on for ever");
}

fn a_due_tick_is_taken_once(bed: &Bed) {
    let store = bed.store.as_ref();
    let due = store.tick_take(SweepKind::Stale, HOUR).unwrap().unwrap();
    assert!(due <= store.now().unwrap());
    for _ in 0..3 {
        assert_eq!(store.tick_take(SweepKind::Stale, HOUR).unwrap(), None);
    }
}

fn a_tick_nobody_closed_is_taken_again(bed: &Bed) {
    let store = bed.store.as_ref();
    let first = store.tick_take(SweepKind::Stuck, HOUR).unwrap().unwrap();
    // The same tick: its pass has the same id.
    assert_eq!(store.tick_take(SweepKind::Stuck, Duration::ZERO).unwrap(), Some(first));
    assert_eq!(store.tick_take(SweepKind::Stuck, HOUR).unwrap(), None);
}

/// A second's tick that is looked at after half of one more is not due a second and a half later.
fn ticks_that_are_looked_at_late_do_not_drift(bed: &Bed) {
    let store = bed.store.as_ref();
    let minutes = |count: i64| count * 60 * 1_000_000;
    for (late, ahead) in [(10, Some(50)), (90, None)] {
        store.tick_close(SweepKind::Stale, Duration::ZERO).unwrap();
        bed.execute(&format!("UPDATE ticks SET due_at = due_at - {}", minutes(late)));
        let due = store.tick_take(SweepKind::Stale, Duration::ZERO).unwrap().unwrap();
        store.tick_close(SweepKind::Stale, HOUR).unwrap();
        bed.execute(&format!("UPDATE ticks SET due_at = due_at - {}", minutes(ahead.unwrap_or(60))));
        let next = store.tick_take(SweepKind::Stale, HOUR).unwrap().unwrap();
        let moved = next.micros() + minutes(ahead.unwrap_or(60)) - due.micros();
        match ahead {
            Some(_) => assert_eq!(moved, minutes(60)),
            None => assert!(moved > minutes(150), "from now: {moved}"),
        }
    }
}

fn a_closed_tick_is_due_a_period_later(bed: &Bed) {
    let store = bed.store.as_ref();
    let first = store.tick_take(SweepKind::Stale, HOUR).unwrap().unwrap();
    store.tick_close(SweepKind::Stale, HOUR).unwrap();
    assert_eq!(store.tick_take(SweepKind::Stale, HOUR).unwrap(), None);
    store.tick_take(SweepKind::Stuck, HOUR).unwrap().unwrap();
    store.tick_close(SweepKind::Stuck, Duration::ZERO).unwrap();
    let next = store.tick_take(SweepKind::Stuck, HOUR).unwrap().unwrap();
    assert!(next > first, "another tick has another time");
}

fn each_kind_has_a_tick_of_its_own(bed: &Bed) {
    for kind in SweepKind::ALL {
        assert!(bed.store.tick_take(*kind, HOUR).unwrap().is_some(), "{kind:?}");
    }
}

fn pass(kind: SweepKind) -> SweepStart {
    SweepStart {
        id: SweepId(Uuid::now_v7()),
        kind,
        source: SweepSource::Scheduler,
        by: "scheduler".to_owned(),
        scope: None,
        dry_run: false,
    }
}

fn a_pass_that_finished_is_not_opened_again(bed: &Bed) {
    let store = bed.store.as_ref();
    let start = pass(SweepKind::Stale);
    assert!(store.sweep_open(&start).unwrap());
    // Its worker died: whoever gets the command next carries it out.
    assert!(store.sweep_open(&start).unwrap());
    let report = SweepReport { scanned: 3, cleaned_up: 1, failed: 1, skipped: 1 };
    store.sweep_close(&start, &report, true).unwrap();
    assert!(!store.sweep_open(&start).unwrap());
    let row = store.sweep_list(&scope(), 10).unwrap().remove(0);
    assert_eq!((row.start.id, row.report, row.report.total()), (start.id, report, 3));
    assert!(row.finished_at.unwrap() >= row.started_at);
}

fn a_pass_whose_record_was_removed_leaves_none(bed: &Bed) {
    let store = bed.store.as_ref();
    let start = pass(SweepKind::Timers);
    assert!(store.sweep_open(&start).unwrap());
    store.sweep_close(&start, &SweepReport::default(), false).unwrap();
    assert!(store.sweep_list(&scope(), 10).unwrap().is_empty());
}

fn passes_are_listed_newest_first(bed: &Bed) {
    let store = bed.store.as_ref();
    let all = pass(SweepKind::Stuck);
    let ours = SweepStart {
        scope: Some(scope()),
        source: SweepSource::Api,
        dry_run: true,
        ..pass(SweepKind::Stale)
    };
    let theirs = SweepStart { scope: Some(stranger()), source: SweepSource::Cron, ..pass(SweepKind::Stale) };
    for start in [&all, &ours, &theirs] {
        assert!(store.sweep_open(start).unwrap());
    }
    let list = |limit| {
        let rows = store.sweep_list(&scope(), limit).unwrap();
        rows.into_iter().map(|row| row.start.id).collect::<Vec<_>>()
    };
    assert_eq!(list(10), [ours.id, all.id]);
    assert_eq!(list(1), [ours.id]);
    let row = store.sweep_list(&scope(), 1).unwrap().remove(0);
    assert_eq!(
        (row.start.kind, row.start.source, row.start.dry_run),
        (SweepKind::Stale, SweepSource::Api, true)
    );
    assert_eq!((row.start.scope, row.finished_at), (Some(scope()), None));
}

fn only_expired_sessions_lose_their_executions(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut living = Held::begin(store);
    let dead = Held::begin(store);
    expire(store, dead.session);
    assert_eq!(store.sweep_select(&SweepSelect::LeaseLost, 10).unwrap(), [dead.key().clone()]);
    assert_eq!(store.lease_reclaim(living.key(), 4).unwrap(), Swept::Skipped);
    assert_eq!(store.lease_reclaim(&key(), 4).unwrap(), Swept::Skipped);
    assert_eq!(store.lease_reclaim(dead.key(), 4).unwrap(), Swept::Done { new_event: None, ready: true });
    assert_eq!(store.lease_reclaim(dead.key(), 4).unwrap(), Swept::Skipped);
    assert_eq!(commit(bed, living.step()), KEPT);
    assert!(store.sweep_select(&SweepSelect::LeaseLost, 10).unwrap().is_empty());
    assert!(is_claimable(bed, dead.key()));
}

fn a_lost_lease_is_counted_until_a_commit(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    for _ in 0..5 {
        let mut held = take(bed, &key);
        assert_eq!(commit(bed, held.step()), KEPT);
        expire(bed.store.as_ref(), held.session);
        assert_eq!(bed.store.lease_reclaim(&key, 2).unwrap(), Swept::Done { new_event: None, ready: true });
    }
    assert!(is_claimable(bed, &key), "one lost lease since its commit makes no suspect");
}

/// So many executions that lost two leases each.
fn suspects(bed: &Bed, count: usize) -> Vec<ExecutionKey> {
    let store = bed.store.as_ref();
    let keys: Vec<_> = (0..count).map(|_| create(store, start())).collect();
    for _ in 0..2 {
        let session = session(store);
        assert_eq!(claim(store, session, &keys.iter().collect::<Vec<_>>()).len(), count);
        expire(store, session);
        for key in &keys {
            assert!(matches!(store.lease_reclaim(key, 4).unwrap(), Swept::Done { ready: true, .. }));
        }
    }
    keys
}

fn suspects_are_handed_out_one_at_a_time(bed: &Bed) {
    let store = bed.store.as_ref();
    let keys = suspects(bed, 3);
    let healthy = create(store, start());
    let (first, second) = (session(store), session(store));
    let claimed = claim_any(store, first, 10);
    let (suspect, well): (Vec<_>, Vec<_>) = claimed.into_iter().partition(|one| keys.contains(&one.key));
    assert_eq!((suspect.len(), well.len()), (1, 1));
    assert_eq!(well[0].key, healthy);
    assert!(claim_any(store, second, 10).is_empty());
    // A commit clears it: then the next one is handed out.
    let mut held = Held::of(suspect.into_iter().next().unwrap(), first);
    assert_eq!(commit(bed, held.step()), KEPT);
    let next = claim_any(store, second, 10);
    assert_eq!(next.len(), 1);
    assert_ne!(next[0].key, *held.key());
    assert!(claim_any(store, first, 10).is_empty());
}

fn a_hint_does_not_hand_out_a_suspect_beside_another(bed: &Bed) {
    let store = bed.store.as_ref();
    let keys = suspects(bed, 2);
    let session = session(store);
    assert!(claim(store, session, &[&keys[0], &keys[1]]).len() <= 1);
    let request = ClaimRequest {
        session,
        hinted: keys,
        limit: 10,
        any: true,
        history: history(),
        tenant_concurrency: None,
    };
    assert!(store.execution_claim(&request).unwrap().len() <= 1);
    assert!(claim_any(store, session, 10).is_empty());
}

fn a_lone_suspect_fails_as_stuck(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    assert_eq!(lose_until_it_fails(bed, &key), 4);
    let row = get(bed, &key);
    assert_eq!((row.status, row.reason), (Status::Failed, Some(Reason::Stuck)));
    let error = row.error.unwrap();
    assert_eq!(error.kind, ErrorType::Internal);
    assert!(!error.message.is_empty() && row.finished_at.is_some());
    assert_eq!(last_kind(bed, &key), "execution.failed");
    assert!(!is_claimable(bed, &key));
    assert_eq!(bed.store.lease_reclaim(&key, 4).unwrap(), Swept::Skipped);
}

fn unclaimed_ones_are_found_by_what_they_wait_for(bed: &Bed) {
    let store = bed.store.as_ref();
    let queued = create(store, start());
    create(store, NewExecution { delay: Some(HOUR), ..start() });
    let decided = waiting(store, start(), &[Asked::open("a")]);
    approve(bed, &decided, "a");
    waiting(store, start(), &[Asked::open("a")]);
    Held::begin(store);
    let mut retry = Held::begin(store);
    let due = Some(store.now().unwrap());
    let target = Target::Suspended { reason: Reason::Retry, ready_at: due };
    let wait = retry.next(vec![started()], target);
    assert_eq!(commit(bed, wait), FREED);
    let found = |since, of| {
        let mut keys = store.sweep_select(&SweepSelect::Unclaimed { since, of }, 10).unwrap();
        keys.sort();
        keys
    };
    let mut all = vec![queued.clone(), decided, retry.key().clone()];
    all.sort();
    assert_eq!(found(Duration::ZERO, Unclaimed::Any), all);
    assert_eq!(found(Duration::ZERO, Unclaimed::Timers), [queued]);
    assert_eq!(found(Duration::ZERO, Unclaimed::Retries), [retry.key().clone()]);
    assert!(found(HOUR, Unclaimed::Any).is_empty());
}

/// The clock went back by a day: what is due then is due now, once.
fn a_tick_of_a_clock_that_went_back_is_due(bed: &Bed) {
    let store = bed.store.as_ref();
    store.tick_take(SweepKind::Stale, HOUR).unwrap().unwrap();
    store.tick_close(SweepKind::Stale, HOUR).unwrap();
    bed.execute("UPDATE ticks SET due_at = due_at + 86400000000");
    assert!(store.tick_take(SweepKind::Stale, HOUR).unwrap().is_some());
    assert_eq!(store.tick_take(SweepKind::Stale, HOUR).unwrap(), None, "it was emitted");
    store.tick_close(SweepKind::Stale, Duration::from_secs(1)).unwrap();
    bed.execute("UPDATE ticks SET due_at = due_at - 1000000");
    assert!(store.tick_take(SweepKind::Stale, HOUR).unwrap().is_some(), "it is a second away, not a day");
}

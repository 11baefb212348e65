//! Sessions, claims, and what a lease that ran out is still good for: nothing.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::status::Status;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

const MINUTE: Duration = Duration::from_secs(60);

on_both_stores! {
    a_claim_brings_what_deciding_needs;
    a_claimed_one_is_claimed_once;
    hinted_ones_come_first_then_the_oldest;
    a_claim_stays_within_its_limit;
    hints_of_what_is_not_there_are_passed_over;
    only_a_living_session_claims;
    an_expired_session_never_lives_again;
    a_session_begun_twice_does_not_live_again;
    an_ended_session_leaves_its_executions_ready;
    a_beat_tells_what_was_woken_and_what_was_lost;
    a_released_one_is_ready_at_once;
    a_release_touches_only_what_is_ours;
    a_reload_is_for_the_holder;
    an_expired_session_is_fenced_once_it_was_reclaimed;
    the_end_of_one_session_harms_no_other;
}

fn a_claim_brings_what_deciding_needs(bed: &Bed) {
    let store = bed.store.as_ref();
    let new = NewExecution { messages: Some(r#"[{"role":"user"}]"#.to_owned()), ..start() };
    let mut held = Held::begin_with(store, new);
    let first = held.claimed.clone();
    assert_eq!((first.epoch, first.wake, first.seq, first.event), (1, 0, 0, 0));
    assert_eq!((first.name.as_str(), first.version, first.first_run), ("holdpoint.noop", 1, first.key.id));
    assert_eq!(first.messages.as_deref(), Some(r#"[{"role":"user"}]"#));
    assert!(first.lines.is_empty() && first.acts.is_empty());
    assert_eq!(commit(bed, held.step()), KEPT);
    let row = get(bed, held.key());
    assert_eq!(row.status, Status::Running);
    let begun = row.started_at.unwrap();
    store.execution_release(held.session, std::slice::from_ref(held.key())).unwrap();
    let again = take(bed, held.key());
    assert_eq!((again.claimed.epoch, again.claimed.seq, again.claimed.event), (2, 1, 1));
    assert_eq!(again.claimed.lines, lines(bed, held.key()));
    assert_eq!(get(bed, held.key()).started_at, Some(begun));
}

fn a_claimed_one_is_claimed_once(bed: &Bed) {
    let held = Held::begin(bed.store.as_ref());
    let other = session(bed.store.as_ref());
    assert!(claim(bed.store.as_ref(), other, &[held.key()]).is_empty());
    assert!(claim_any(bed.store.as_ref(), other, 10).is_empty());
    assert!(claim(bed.store.as_ref(), held.session, &[held.key()]).is_empty());
}

fn hinted_ones_come_first_then_the_oldest(bed: &Bed) {
    let store = bed.store.as_ref();
    let keys: Vec<_> = (0..4).map(|_| create(store, start())).collect();
    let session = session(store);
    let request = ClaimRequest {
        session,
        hinted: vec![keys[3].clone()],
        limit: 3,
        any: true,
        history: history(),
        tenant_concurrency: None,
    };
    let claimed: Vec<_> = store.execution_claim(&request).unwrap().into_iter().map(|one| one.key).collect();
    assert_eq!(claimed.len(), 3);
    assert_eq!(claimed[0], keys[3]);
    assert!(claimed.contains(&keys[0]) && claimed.contains(&keys[1]), "the oldest ones");
}

fn a_claim_stays_within_its_limit(bed: &Bed) {
    let store = bed.store.as_ref();
    let keys: Vec<_> = (0..5).map(|_| create(store, start())).collect();
    let session = session(store);
    let request = ClaimRequest {
        session,
        hinted: keys,
        limit: 2,
        any: true,
        history: history(),
        tenant_concurrency: None,
    };
    assert_eq!(store.execution_claim(&request).unwrap().len(), 2);
    assert_eq!(claim_any(store, session, 2).len(), 2);
    assert_eq!(claim_any(store, session, 0).len(), 0);
    assert_eq!(claim_any(store, session, 100).len(), 1);
}

fn hints_of_what_is_not_there_are_passed_over(bed: &Bed) {
    let store = bed.store.as_ref();
    let real = create(store, start());
    let session = session(store);
    let claimed = claim(store, session, &[&key(), &real, &key(), &real]);
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].key, real);
}

fn only_a_living_session_claims(bed: &Bed) {
    let store = bed.store.as_ref();
    let key = create(store, start());
    let unknown = SessionId(Uuid::now_v7());
    let expired = session(store);
    expire(store, expired);
    let ended = session(store);
    store.session_end(ended).unwrap();
    for dead in [unknown, expired, ended] {
        assert!(claim(store, dead, &[&key]).is_empty());
        assert!(claim_any(store, dead, 10).is_empty());
    }
    assert!(is_claimable(bed, &key));
}

fn an_expired_session_never_lives_again(bed: &Bed) {
    let store = bed.store.as_ref();
    let mine = session(store);
    expire(store, mine);
    for _ in 0..2 {
        assert!(!store.session_beat(mine, MINUTE, &[]).unwrap().alive);
    }
    assert!(!store.session_beat(SessionId(Uuid::now_v7()), MINUTE, &[]).unwrap().alive);
}

fn a_session_begun_twice_does_not_live_again(bed: &Bed) {
    let store = bed.store.as_ref();
    let key = create(store, start());
    let mine = session(store);
    expire(store, mine);
    // Whether it is refused or passed over: it must not live.
    let _ = store.session_begin(mine, "test", MINUTE);
    assert!(!store.session_beat(mine, MINUTE, &[]).unwrap().alive);
    assert!(claim(store, mine, &[&key]).is_empty());
}

fn an_ended_session_leaves_its_executions_ready(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    assert_eq!(commit(bed, held.step()), KEPT);
    store.session_end(held.session).unwrap();
    store.session_end(held.session).unwrap();
    let next = take(bed, held.key());
    assert_eq!((next.claimed.epoch, next.claimed.seq), (2, 1));
    assert_eq!(commit(bed, held.step()), Committed::Fenced);
    // A session that was ended in order is no lost lease: it may happen without end.
    store.session_end(next.session).unwrap();
    for _ in 0..5 {
        assert!(is_claimable(bed, held.key()));
    }
}

fn a_beat_tells_what_was_woken_and_what_was_lost(bed: &Bed) {
    let store = bed.store.as_ref();
    let mine = session(store);
    let keys: Vec<_> = (0..3).map(|_| create(store, start())).collect();
    let claimed = claim(store, mine, &keys.iter().collect::<Vec<_>>());
    assert_eq!(claimed.len(), 3);
    act(bed, &keys[1], &ActRequest::Pause).unwrap();
    store.execution_release(mine, &keys[2..]).unwrap();
    let unknown = key();
    let held =
        [(&keys[0], 0), (&keys[1], 0), (&keys[2], 0), (&unknown, 0)].map(|(key, wake)| (key.clone(), wake));
    let before = store.now().unwrap();
    let beat = store.session_beat(mine, MINUTE, &held).unwrap();
    assert!(beat.alive && beat.now >= before);
    assert_eq!(beat.woken, [keys[1].clone()]);
    let mut lost = beat.lost;
    lost.sort();
    let mut expected = vec![keys[2].clone(), unknown];
    expected.sort();
    assert_eq!(lost, expected);
    let told = [(keys[1].clone(), 1)];
    assert!(store.session_beat(mine, MINUTE, &told).unwrap().woken.is_empty());
    assert!(store.session_beat(mine, MINUTE, &[]).unwrap().alive);
}

fn a_released_one_is_ready_at_once(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    store.execution_release(held.session, std::slice::from_ref(held.key())).unwrap();
    let next = take(bed, held.key());
    assert_eq!(next.claimed.epoch, 2);
    assert_eq!(commit(bed, held.step()), Committed::Fenced);
}

fn a_release_touches_only_what_is_ours(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut theirs = Held::begin(store);
    let mine = session(store);
    let queued = create(store, NewExecution { delay: Some(MINUTE), ..start() });
    let mut over = Held::begin(store);
    assert_eq!(commit(bed, over.complete()), FREED);
    store
        .execution_release(mine, &[theirs.key().clone(), queued.clone(), over.key().clone(), key()])
        .unwrap();
    store.execution_release(mine, &[]).unwrap();
    assert_eq!(commit(bed, theirs.step()), KEPT);
    assert!(!is_claimable(bed, &queued));
    assert_eq!(get(bed, over.key()).status, Status::Completed);
}

fn a_reload_is_for_the_holder(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut held = Held::begin(store);
    assert_eq!(commit(bed, held.step()), KEPT);
    act(bed, held.key(), &ActRequest::Pause).unwrap();
    let row = store.execution_reload(held.key(), held.session, 1).unwrap().unwrap();
    assert_eq!((row.epoch, row.seq, row.event, row.wake), (1, 1, 1, 1));
    assert_eq!((row.lines.len(), row.acts.len()), (1, 1));
    assert!(store.execution_reload(held.key(), held.session, 2).unwrap().is_none());
    assert!(store.execution_reload(held.key(), session(store), 1).unwrap().is_none());
    assert!(store.execution_reload(&key(), held.session, 1).unwrap().is_none());
    store.session_end(held.session).unwrap();
    assert!(store.execution_reload(held.key(), held.session, 1).unwrap().is_none());
}

/// The late commit of a worker that was thought dead changes nothing, whatever it carries.
fn an_expired_session_is_fenced_once_it_was_reclaimed(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut late = Held::begin(store);
    let key = late.key().clone();
    expire(store, late.session);
    assert_eq!(store.sweep_select(&SweepSelect::LeaseLost, 10).unwrap(), [key.clone()]);
    assert!(matches!(store.lease_reclaim(&key, 4).unwrap(), Swept::Done { ready: true, .. }));
    let step = late.step();
    assert_eq!(commit(bed, step), Committed::Fenced);
    let mut next = take(bed, &key);
    assert_eq!(commit(bed, late.complete()), Committed::Fenced);
    store.execution_release(late.session, std::slice::from_ref(&key)).unwrap();
    store.session_end(late.session).unwrap();
    assert_eq!((get(bed, &key).status, lines(bed, &key).len()), (Status::Running, 0));
    assert_eq!(commit(bed, next.step()), KEPT);
    assert_eq!(commit(bed, next.complete()), FREED);
}

fn the_end_of_one_session_harms_no_other(bed: &Bed) {
    let store = bed.store.as_ref();
    let mut mine = Held::begin(store);
    let other = Held::begin(store);
    store.session_end(other.session).unwrap();
    assert_eq!(commit(bed, mine.step()), KEPT);
    assert!(is_claimable(bed, other.key()));
    assert!(!is_claimable(bed, mine.key()));
}

//! Ticks of schedules, looked at by many at once, on both stores.

use std::sync::Barrier;

use holdpoint_db::*;
use holdpoint_engine::schedule::CatchUp;
use holdpoint_engine::status::Overlap;
use holdpoint_engine::time::Span;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::schedules::*;
use holdpoint_tests::store_builders::*;

use crate::stores::Ground;

const ROUNDS: usize = 200;

on_both_stores! {
    of crate::stores::Ground::new:
    eight_look_at_a_tick_and_one_starts_it;
    a_run_s_end_beside_a_tick_that_would_wait_for_it;
    a_run_s_end_beside_a_tick_that_cancels_it;
    a_pause_beside_a_tick;
}

impl Ground {
    /// A schedule for each round, whose first run is active and held; the second tick is due.
    fn running(&self, rounds: usize, overlap: Overlap) -> Vec<Held> {
        let store = self.store.as_ref();
        (0..rounds).for_each(|round| drop(put(store, &name(round), patient(overlap))));
        pass_time(&self.bed, HOUR);
        let keys: Vec<ExecutionKey> = (0..rounds).map(|round| tick_starts(store, &name(round))).collect();
        let mine = session(store);
        pass_time(&self.bed, HOUR);
        keys.iter().map(|key| Held::claim(store, mine, key)).collect()
    }

    /// Whatever came first, the second run is there after one more pass, and nothing else is.
    fn second_has_started(&self, name: &str, first: &ExecutionKey) {
        let store = self.store.as_ref();
        if schedule(store, name).runs < 2 {
            tick_starts(store, name);
        }
        let row = schedule(store, name);
        assert_eq!((row.runs, row.waiting_tick, row.skipped, row.missed), (2, None, 0, 0), "{row:?}");
        assert!(row.active.is_some() && row.active == row.last.map(|(_, id)| id), "{row:?}");
        assert_ne!(row.active, Some(first.id));
        assert!(matches!(tick(store, name), Ticked::Nothing));
    }
}

/// The built-in workflow, each hour; no tick is missed because the rounds before it took long.
fn patient(overlap: Overlap) -> ScheduleDocument {
    let catch_up = CatchUp { window: Span::secs(3_500), limit: 1 };
    ScheduleDocument { catch_up, ..hourly(overlap) }
}

fn name(round: usize) -> String {
    format!("round-{round}")
}

/// Two parties at once.
fn both<A: Send, B: Send>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B + Send) -> (A, B) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            barrier.wait();
            one()
        });
        let second = scope.spawn(|| {
            barrier.wait();
            other()
        });
        (first.join().unwrap(), second.join().unwrap())
    })
}

fn eight_look_at_a_tick_and_one_starts_it(ground: &Ground) {
    let store = ground.store.as_ref();
    (0..ROUNDS).for_each(|round| drop(put(store, &name(round), patient(Overlap::Skip))));
    pass_time(&ground.bed, HOUR);
    let barrier = Barrier::new(8);
    let started: Vec<Vec<bool>> = std::thread::scope(|scope| {
        let look = |_| {
            scope.spawn(|| {
                let pass = |round| {
                    barrier.wait();
                    matches!(
                        store.schedule_tick(&schedule_key(&name(round))),
                        Ok(Ticked::Done { started: Some(_), .. })
                    )
                };
                (0..ROUNDS).map(pass).collect::<Vec<bool>>()
            })
        };
        let threads: Vec<_> = (0..8).map(look).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for round in 0..ROUNDS {
        assert_eq!(started.iter().filter(|party| party[round]).count(), 1, "round {round}");
        let row = schedule(store, &name(round));
        assert_eq!((row.runs, row.skipped, row.missed), (1, 0, 0));
        assert!(row.next_tick > row.last.map(|(tick, _)| tick));
    }
    let filter = ExecutionFilter { limit: ROUNDS * 2, ..ExecutionFilter::default() };
    assert_eq!(store.execution_list(&scope(), &filter).unwrap().len(), ROUNDS);
}

fn a_run_s_end_beside_a_tick_that_would_wait_for_it(ground: &Ground) {
    let store = ground.store.as_ref();
    for (round, mut held) in ground.running(60, Overlap::Queue).into_iter().enumerate() {
        let end = held.complete();
        both(|| store.execution_commit(&[end]).unwrap(), || tick(store, &name(round)));
        ground.second_has_started(&name(round), held.key());
    }
}

fn a_run_s_end_beside_a_tick_that_cancels_it(ground: &Ground) {
    let store = ground.store.as_ref();
    for (round, mut held) in ground.running(60, Overlap::Cancel).into_iter().enumerate() {
        let end = held.complete();
        let (ended, _) = both(|| store.execution_commit(&[end]).unwrap(), || tick(store, &name(round)));
        assert!(matches!(ended[..], [Committed::Done { released: true, .. }]), "{ended:?}");
        ground.second_has_started(&name(round), held.key());
    }
}

/// Paused is paused: a tick that came first has started its run, and none comes after.
fn a_pause_beside_a_tick(ground: &Ground) {
    let store = ground.store.as_ref();
    (0..60).for_each(|round| drop(put(store, &name(round), patient(Overlap::Skip))));
    pass_time(&ground.bed, HOUR);
    for round in 0..60 {
        let pause =
            || store.schedule_change(&scope(), &name(round), ScheduleChange::Pause, "key_admin").unwrap();
        let (paused, ticked) = both(pause, || tick(store, &name(round)));
        assert!(paused.is_some_and(|row| row.paused_at.is_some()));
        let row = schedule(store, &name(round));
        let started = matches!(ticked, Ticked::Done { started: Some(_), .. });
        assert_eq!((row.runs, row.next_tick, row.due_at), (i64::from(started), None, None));
        assert!(matches!(tick(store, &name(round)), Ticked::Nothing));
    }
}

//! Races: many threads that do something at the same moment.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Barrier;

/// All parties at once, round after round; the answers by round, then by party.
pub fn race<T: Send>(parties: usize, rounds: usize, act: impl Fn(usize, usize) -> T + Sync) -> Vec<Vec<T>> {
    let barrier = Barrier::new(parties);
    let (barrier, act) = (&barrier, &act);
    let run = move |party: usize| {
        let round = move |round| {
            barrier.wait();
            // Whoever panics comes to the next round's barrier all the same: nobody waits for ever.
            catch_unwind(AssertUnwindSafe(|| act(party, round)))
        };
        (0..rounds).map(round).collect::<Vec<_>>()
    };
    let by_party: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..parties).map(|party| scope.spawn(move || run(party))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a panic is caught")).collect()
    });
    let mut by_party: Vec<_> = by_party.into_iter().map(Vec::into_iter).collect();
    let mut answer = |party: usize| {
        by_party[party].next().expect("an answer for each round").unwrap_or_else(|panic| resume_unwind(panic))
    };
    (0..rounds).map(|_| (0..parties).map(&mut answer).collect()).collect()
}

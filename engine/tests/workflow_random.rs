//! Workflows that nobody wrote, with answers in any order: read from the journal before every
//! decision they write the same journal, and killed at any place they end with the same output.
#![allow(clippy::unwrap_used, missing_docs)]

mod play;
mod random;

use holdpoint_engine::advance::Next;
use holdpoint_engine::effect::Input;
use holdpoint_engine::entropy::Entropy;
use play::Play;
use random::{answer, document, end};
use serde_json::json;

#[test]
fn a_run_that_forgets_writes_the_same_journal() {
    let mut completed = 0;
    for seed in 0..50 {
        let document = document(seed, true);
        let straight =
            Play::of_document(&document, json!({"n": seed})).run(|effect| answer(seed, effect, true));
        let mut forgetful = Play::of_document(&document, json!({"n": seed}));
        forgetful.forgets = true;
        let forgetful = forgetful.run(|effect| answer(seed, effect, true));
        assert_eq!(straight.lines(), forgetful.lines(), "seed {seed}: {document}");
        completed += usize::from(end(&straight).is_ok());
    }
    assert!(completed > 15, "only {completed} completed");
}

/// Goes on like [`Play::go`]; at some decisions the worker is gone, with all that it had begun.
fn killed(document: &str, seed: u64) -> Play {
    let mut play = Play::of_document(document, json!({"n": seed}));
    play.forgets = true;
    let mut chance = Entropy::from_seed(seed);
    let mut inputs = vec![Input::Claimed];
    let mut kills = 0;
    for _ in 0..20_000 {
        let decided = play.feed(inputs);
        if kills < 6 && chance.next_u64().is_multiple_of(3) && decided.next != Next::End {
            kills += 1;
            play.lose();
            inputs = vec![Input::Claimed];
            continue;
        }
        match play.after(decided, &mut |effect| answer(seed, effect, false)) {
            Some(next) => inputs = next,
            None => return play,
        }
    }
    panic!("seed {seed} goes on for ever");
}

#[test]
fn a_run_that_is_killed_anywhere_ends_as_one_that_is_not() {
    for seed in 0..50 {
        let document = document(seed, false);
        let straight =
            Play::of_document(&document, json!({"n": seed})).run(|effect| answer(seed, effect, false));
        let killed = killed(&document, seed);
        assert_eq!(end(&straight), end(&killed), "seed {seed}: {document}");
    }
}

/// A decision that takes long ends after any transition; what comes of it is the same.
#[test]
fn a_run_whose_decisions_are_cut_short_ends_as_one_whose_are_not() {
    for seed in 0..50 {
        let document = document(seed, false);
        let input = json!({"n": seed});
        let straight = Play::of_document(&document, input.clone()).run(|effect| answer(seed, effect, true));
        let mut short = Play::of_document(&document, input);
        (short.impatient, short.forgets) = (true, true);
        let short = short.run(|effect| answer(seed, effect, true));
        assert_eq!(end(&straight), end(&short), "seed {seed}: {document}");
        let calls = |play: &Play| play.effects.len();
        assert_eq!(calls(&straight), calls(&short));
    }
}

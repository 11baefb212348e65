//! Workflows that nobody wrote, with answers in any order: read from the journal before every
//! decision they write the same journal, and killed at any place they end with the same output.
#![allow(clippy::unwrap_used, missing_docs)]

mod play;

use std::time::Duration;

use holdpoint_engine::advance::Next;
use holdpoint_engine::effect::{Effect, Input};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::status::{ErrorType, Status};
use play::{Answer, Play, output};
use serde_json::{Value, json};

struct Author {
    chance: Entropy,
    names: u32,
    /// What ends differently when time goes differently.
    races: bool,
}

impl Author {
    fn pick(&mut self, among: u64) -> u64 {
        self.chance.next_u64() % among
    }

    fn list(&mut self, depth: u32) -> Value {
        let count = 1 + self.pick(3);
        (0..count).map(|_| self.named(depth)).collect()
    }

    fn named(&mut self, depth: u32) -> Value {
        self.names += 1;
        let name = format!("t{}", self.names);
        let mut task = self.task(depth);
        match self.pick(8) {
            0 => task["if"] = json!("${ .n % 2 == 0 }"),
            1 => task["output"] = json!({"as": "${ {n: (.n // 1), was: .} | {n} }"}),
            2 => task["input"] = json!({"from": "${ {n: ((.n // 0) + 1)} }"}),
            3 if self.races => task["timeout"] = json!({"after": {"seconds": self.pick(20)}}),
            4 if self.races => task["export"] = json!({"as": "${ {n: ((.n // 0) + ($context.n // 0))} }"}),
            _ => {}
        }
        json!({name: task})
    }

    fn task(&mut self, depth: u32) -> Value {
        let kinds = if depth == 0 { 5 } else { 10 };
        match self.pick(kinds) {
            0 | 1 => json!({"set": {"n": "${ ((.n // 0) * 3 + 1) % 1000 }"}}),
            2 => json!({"wait": {"seconds": self.pick(10)}}),
            3 | 4 => json!({"call": "http", "with": {"method": "get", "endpoint": "http://s",
                            "query": {"n": "${ .n // 0 }"}}}),
            5 => json!({"do": self.list(depth - 1)}),
            6 => json!({"for": {"in": "${ [range(3)] }", "each": "i"}, "do": self.list(depth - 1)}),
            7 => {
                let compete = self.races && self.pick(2) == 0;
                let joined = if compete { "${ {n: (.n // 0)} }" } else { "${ {n: (map(.n // 0) | add)} }" };
                json!({"fork": {"compete": compete, "branches": self.list(depth - 1)}, "output": {"as": joined}})
            }
            8 => {
                json!({"switch": [{"a": {"when": "${ .n % 3 == 0 }", "then": "exit"}}, {"b": {"then": "continue"}}]})
            }
            _ => {
                let mut body = self.list(depth - 1);
                if self.pick(2) == 0 {
                    let raise = json!({"raise": {"error": {"type": "https://x.test/e", "status": 409}},
                                       "if": "${ .n % 2 == 1 }"});
                    body.as_array_mut().unwrap().push(json!({"r": raise}));
                }
                let catch = if self.pick(2) == 0 {
                    json!({"retry": {"delay": {"seconds": 1}, "limit": {"attempt": {"count": 3}}}})
                } else {
                    json!({"as": "e", "do": [{"c": {"set": {"n": "${ $e.status }"}}}]})
                };
                json!({"try": body, "catch": catch})
            }
        }
    }
}

fn document(seed: u64, races: bool) -> String {
    let mut author = Author { chance: Entropy::from_seed(seed), names: 0, races };
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "played", "version": "1.0.0"},
        "do": author.list(3),
    });
    document.to_string()
}

/// What a call answers follows from its query, so that the same call has the same answer; where
/// calls are flaky, a first attempt may fail.
fn answer(seed: u64, effect: &Effect, flaky: bool) -> Answer {
    let Effect::Request(request) = effect else { panic!("{effect:?}") };
    let n: u64 = request.query[0].1.parse().unwrap();
    let mut chance = Entropy::from_seed(seed ^ n.wrapping_mul(77));
    let answer = match chance.next_u64() % 6 {
        0 => Answer::Failed(ErrorType::Logic, Some(404)),
        1 if flaky && request.attempt == 1 => Answer::Failed(ErrorType::Network, Some(503)),
        _ => output(json!({"n": n * 2 + 1})),
    };
    Answer::Later(Duration::from_secs(Entropy::from_seed(seed ^ n).next_u64() % 9), Box::new(answer))
}

fn end(play: &Play) -> Result<Value, String> {
    match play.ended() {
        Some(Status::Completed) => Ok(play.output()),
        Some(Status::Failed) => Err(play.failure().1.message),
        other => panic!("it did not end: {other:?}, {:#?}", play.next),
    }
}

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

//! Workflows that nobody wrote, from a seed, and what their calls are answered.

use std::time::Duration;

use holdpoint_engine::effect::Effect;
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::status::{ErrorType, Status};
use serde_json::{Value, json};

use crate::play::{Answer, Play, output};

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

pub fn document(seed: u64, races: bool) -> String {
    let mut author = Author { chance: Entropy::from_seed(seed), names: 0, races };
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "played", "version": "1.0.0"},
        "do": author.list(3),
    });
    document.to_string()
}

/// What a call answers follows from its query, so that the same call has the same answer; where
/// calls are flaky, a first attempt may fail.
pub fn answer(seed: u64, effect: &Effect, flaky: bool) -> Answer {
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

pub fn end(play: &Play) -> Result<Value, String> {
    match play.ended() {
        Some(Status::Completed) => Ok(play.output()),
        Some(Status::Failed) => Err(play.failure().1.message),
        other => panic!("it did not end: {other:?}, {:#?}", play.next),
    }
}

//! The time of one simple expression, there and back: `cargo run -p holdpoint-perform --example
//! expressions -- target/debug/holdpoint [COUNT]`.

use std::path::PathBuf;
use std::time::Instant;

use holdpoint_engine::workflow::expression::{Evaluator, Expression};
use holdpoint_perform::expressions::{Expressions, Settings};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let program = PathBuf::from(arguments.next().unwrap_or_default());
    let count: usize = arguments.next().and_then(|count| count.parse().ok()).unwrap_or(20_000);
    let expressions = Expressions::with_program(program, &Settings::default(), 256 * 1024);
    let expression = Expression(".a.b + 1".into());
    let (input, variable) = (serde_json::json!({"a": {"b": 41}}), serde_json::json!({"id": "x"}));
    let began = Instant::now();
    let first = expressions.evaluate(&expression, &input, &[("workflow", &variable)]);
    println!("first (starts a process): {:?} in {:?}", first, began.elapsed());
    let mut times: Vec<_> = (0..count)
        .map(|_| {
            let began = Instant::now();
            let value = expressions.evaluate(&expression, &input, &[("workflow", &variable)]);
            assert_eq!(value, Ok(serde_json::json!(42)));
            began.elapsed()
        })
        .collect();
    times.sort_unstable();
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        println!("{name} {:?}", times[(count as f64 * part) as usize]);
    }
}

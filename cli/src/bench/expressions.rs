//! One expression at a time, there and back, by a child process of this binary. It needs no
//! installation.

use std::time::{Duration, Instant};

use anyhow::bail;
use hdrhistogram::Histogram;
use holdpoint_engine::workflow::expression::{Evaluator, Expression};
use holdpoint_perform::expressions::{Expressions, Settings};
use serde_json::{Value, json};

use super::{histogram, micros};
use crate::output;

/// What is evaluated, with its value.
const SIMPLE: &str = ".a.b + 1";
/// How many, where the caller does not say.
const COUNT: u64 = 20_000;

/// What was measured.
pub struct Measured {
    /// Starting a child and compiling included.
    first: Duration,
    times: Histogram<u64>,
}

/// Measures a simple expression with a small input and one variable.
pub fn measure(count: Option<u64>) -> anyhow::Result<Measured> {
    let expressions = Expressions::new(&Settings::default(), 256 * 1024);
    let (input, variable) = (json!({"a": {"b": 41}}), json!({"id": "exe_1"}));
    let expression = Expression(SIMPLE.into());
    let evaluate = || -> anyhow::Result<Duration> {
        let began = Instant::now();
        match expressions.evaluate(&expression, &input, &[("workflow", &variable)])? {
            value if value == json!(42) => Ok(began.elapsed()),
            other => bail!("`{SIMPLE}` was {other}"),
        }
    };
    let mut measured = Measured { first: evaluate()?, times: histogram()? };
    for _ in 0..count.unwrap_or(COUNT) {
        measured.times.saturating_record(micros(evaluate()?));
    }
    Ok(measured)
}

impl Measured {
    /// Prints it.
    pub fn print(&self, as_json: bool) {
        let value = self.json();
        if as_json {
            output::json(&value);
            return;
        }
        println!("`{SIMPLE}`, {} times, one at a time", self.times.len());
        println!("first, which starts a process  {} µs", value["first_us"]);
        println!("p50 {} µs, p99 {} µs", value["p50_us"], value["p99_us"]);
    }

    fn json(&self) -> Value {
        json!({
            "what": "expressions",
            "count": self.times.len(),
            "first_us": micros(self.first),
            "p50_us": self.times.value_at_quantile(0.5),
            "p99_us": self.times.value_at_quantile(0.99),
        })
    }
}

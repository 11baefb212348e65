//! Evaluates for tests, in this very process and without a guard.

use holdpoint_expressions::{Problem, Program};
use serde_json::Value;

use super::expression::{Evaluator, Expression, ExpressionError};

pub(crate) struct Jq;

fn told(problem: Problem) -> ExpressionError {
    match problem {
        Problem::Invalid(why) => ExpressionError::Invalid(why),
        Problem::Failed(why) => ExpressionError::Failed(why),
        Problem::Several => ExpressionError::Several,
        Problem::TooLarge(limit) => ExpressionError::Limit { name: "value_bytes", limit: limit as u64 },
        Problem::TooDeep => ExpressionError::Limit { name: "nesting", limit: 64 },
    }
}

impl Evaluator for Jq {
    fn evaluate(
        &self,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        let (names, values): (Vec<&str>, Vec<String>) =
            variables.iter().map(|(name, value)| (*name, value.to_string())).unzip();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let program = Program::compile(&expression.0, &names).map_err(told)?;
        let text = program.run(&input.to_string(), &values, 256 * 1024).map_err(told)?;
        serde_json::from_str(&text).map_err(|error| ExpressionError::Failed(error.to_string()))
    }

    fn check(&self, expression: &Expression, variables: &[&str]) -> Result<(), ExpressionError> {
        Program::compile(&expression.0, variables).map(drop).map_err(told)
    }
}

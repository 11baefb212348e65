//! The same programs in this very process, for tests of what uses them.

use holdpoint_engine::workflow::expression::{Evaluator, Expression, ExpressionError};
use holdpoint_expressions::Program;
use serde_json::Value;

use super::frame::told;

/// Evaluates without any guard on time, memory and stack: for programs of one's own in tests,
/// never for a user's.
#[derive(Debug, Clone, Copy)]
pub struct Unguarded {
    /// The largest result, in bytes.
    pub value_bytes: usize,
}

impl Default for Unguarded {
    fn default() -> Self {
        Self { value_bytes: 256 * 1024 }
    }
}

impl Evaluator for Unguarded {
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
        let text = program.run(&input.to_string(), &values, self.value_bytes).map_err(told)?;
        serde_json::from_str(&text).map_err(|error| ExpressionError::Failed(error.to_string()))
    }

    fn check(&self, expression: &Expression, variables: &[&str]) -> Result<(), ExpressionError> {
        Program::compile(&expression.0, variables).map(drop).map_err(told)
    }
}

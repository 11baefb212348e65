//! Runtime expressions: jq programs, evaluated by somebody who guards us from them.

use std::sync::Arc;

use serde_json::Value;

/// A jq program, without `${` and `}`. It was compiled when its workflow was registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Expression(pub Arc<str>);

/// A value with expressions in it, as `set` and `with` have them.
#[derive(Debug, Clone, PartialEq)]
pub enum Template {
    /// A whole string `${ … }`.
    Expression(Expression),
    /// A value without expressions anywhere in it.
    Constant(Value),
    /// An object that has some.
    Object(Vec<(String, Template)>),
    /// An array that has some.
    Array(Vec<Template>),
}

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is no jq program, or names what is not there.
    #[error("{0}")]
    Invalid(String),
    /// It ended with an error of its own (`error`, a wrong type).
    #[error("{0}")]
    Failed(String),
    /// It has more than one result.
    #[error("the expression has several results; an array of them is written [ … ]")]
    Several,
    /// It took more time, memory or stack than it may, or its result is too large.
    #[error("the expression passed the limit {name}, which is {limit}")]
    Limit {
        /// The limit's name (`expression_ms`, `expression_memory_bytes`, `value_bytes`).
        name: &'static str,
        /// Its value.
        limit: u64,
    },
    /// Nothing evaluates expressions now: the same may have a value later.
    #[error("expressions cannot be evaluated now: {0}")]
    Unavailable(String),
}

/// Evaluates expressions. It is handed to the interpreter, which is pure as long as the same
/// program has the same value for the same input: neither time nor chance nor environment
/// can be read by a program.
pub trait Evaluator: Send + Sync {
    /// The program's only result; no result is `null`.
    fn evaluate(
        &self,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError>;

    /// The same for a tenant: where many wait for an evaluation, tenants have it in turns.
    fn evaluate_for(
        &self,
        _tenant: &str,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        self.evaluate(expression, input, variables)
    }

    /// Whether a decision has taken long enough: it ends after the transition that is under way, so
    /// that what came meanwhile is looked at.
    fn is_enough(&self) -> bool {
        false
    }

    /// Whether the program can be compiled with variables of these names (without `$`).
    fn check(&self, expression: &Expression, variables: &[&str]) -> Result<(), ExpressionError>;
}

/// Where no workflow is run, nothing evaluates expressions.
#[derive(Debug, Clone, Copy)]
pub struct NoEvaluator;

impl Evaluator for NoEvaluator {
    fn evaluate(&self, _: &Expression, _: &Value, _: &[(&str, &Value)]) -> Result<Value, ExpressionError> {
        Err(ExpressionError::Unavailable("no evaluator is here".to_owned()))
    }

    fn check(&self, _: &Expression, _: &[&str]) -> Result<(), ExpressionError> {
        Err(ExpressionError::Unavailable("no evaluator is here".to_owned()))
    }
}

//! Evaluating the expressions of one decision: in its tenant's turn, and not for longer than a
//! decision may take.

use std::time::{Duration, Instant};

use holdpoint_engine::workflow::expression::{Evaluator, Expression, ExpressionError};
use serde_json::Value;

/// After so long a decision ends with the transition that is under way: acts that came meanwhile
/// are taken in, and timeouts judged.
const LONG_ENOUGH: Duration = Duration::from_millis(100);

/// For one decision.
pub(crate) struct OfDecision<'a> {
    inner: &'a dyn Evaluator,
    tenant: &'a str,
    until: Instant,
}

impl<'a> OfDecision<'a> {
    /// For one that begins now.
    pub(crate) fn new(inner: &'a dyn Evaluator, tenant: &'a str) -> Self {
        Self { inner, tenant, until: Instant::now() + LONG_ENOUGH }
    }
}

impl Evaluator for OfDecision<'_> {
    fn evaluate(
        &self,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        self.inner.evaluate_for(self.tenant, expression, input, variables)
    }

    fn is_enough(&self) -> bool {
        Instant::now() >= self.until
    }

    fn check(&self, expression: &Expression, variables: &[&str]) -> Result<(), ExpressionError> {
        self.inner.check(expression, variables)
    }
}

//! Whether a call needs a decision, and whose.

use std::fmt;
use std::time::Duration;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::check::wrong;
use super::{Agent, DefinitionError};
use crate::policy::{Approvers, OnTimeout, Policy};
use crate::time::Span;
use crate::workflow::expression::{Evaluator, Expression, ExpressionError};

/// `"never"`, `"always"`, or an object whose members are all optional.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum ApprovalRule {
    /// One of the two words.
    Word(ApprovalWord),
    /// When, by whom, and what becomes of it otherwise.
    Policy(Box<ApprovalPolicy>),
}

impl Default for ApprovalRule {
    fn default() -> Self {
        ApprovalRule::Word(ApprovalWord::Never)
    }
}

/// The short forms of an approval rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ApprovalWord {
    /// The call is made at once.
    Never,
    /// Each call waits for a decision, 30 minutes by default.
    Always,
}

/// The long form of an approval rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalPolicy {
    /// A jq program over `{tool, arguments, end_user, agent}`: whether a call needs a decision.
    /// One that fails, or says neither true nor false, asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// Whose decision counts; everyone's that has the right where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approvers: Option<Approvers>,
    /// How many distinct people must approve, 1 to 10.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub quorum: u32,
    /// Whoever started the execution does not decide.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_self_approval: bool,
    /// How long the approval is open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_after: Option<Span>,
    /// What becomes of it where nobody decides in time.
    #[serde(default, skip_serializing_if = "is_fail")]
    pub on_timeout: OnTimeout,
    /// Whether a decision may edit the arguments.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub allow_edit: bool,
}

const fn one() -> u32 {
    1
}

fn is_one(given: &u32) -> bool {
    *given == 1
}

const fn yes() -> bool {
    true
}

fn is_yes(given: &bool) -> bool {
    *given
}

fn is_fail(given: &OnTimeout) -> bool {
    *given == OnTimeout::Fail
}

/// By hand, so that an error in the object names its member.
impl<'de> Deserialize<'de> for ApprovalRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rule;
        impl<'de> Visitor<'de> for Rule {
            type Value = ApprovalRule;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"never\", \"always\" or an object with the policy")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<ApprovalRule, E> {
                ApprovalWord::deserialize(StrDeserializer::new(word)).map(ApprovalRule::Word)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ApprovalRule, A::Error> {
                let policy = ApprovalPolicy::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ApprovalRule::Policy(Box::new(policy)))
            }
        }
        deserializer.deserialize_any(Rule)
    }
}

impl ApprovalRule {
    /// Whether a call may need a decision; with `when`, each call is looked at.
    pub fn is_needed(&self) -> bool {
        !matches!(self, ApprovalRule::Word(ApprovalWord::Never))
    }

    /// The expression that says whether a call needs one.
    pub fn when(&self) -> Option<&str> {
        self.long()?.when.as_deref()
    }

    /// The expiry that the definition names, if it names one.
    pub fn named_expiry(&self) -> Option<Duration> {
        Some(self.long()?.expires_after?.0)
    }

    /// What a decision is judged by.
    pub fn policy(&self) -> Policy {
        self.long().map_or_else(Policy::default, |long| Policy {
            approvers: long.approvers.clone(),
            quorum: long.quorum,
            no_self_approval: long.no_self_approval,
            on_timeout: long.on_timeout.clone(),
            allow_edit: long.allow_edit,
            when_failed: None,
        })
    }

    fn long(&self) -> Option<&ApprovalPolicy> {
        match self {
            ApprovalRule::Policy(policy) => Some(policy),
            ApprovalRule::Word(_) => None,
        }
    }

    /// What is wrong with it, but for the expression; `place` is where it stands.
    pub fn errors(&self, place: &str) -> Vec<DefinitionError> {
        let below = |(member, message)| wrong(format!("{place}.{member}"), message);
        let mut errors: Vec<DefinitionError> = self.policy().errors().into_iter().map(below).collect();
        if self.named_expiry().is_some_and(|expiry| expiry.is_zero()) {
            errors.push(wrong(format!("{place}.expires_after"), "is 0: it must be longer"));
        }
        errors
    }

    /// Compiles the expression. The outer error is that nothing can compile it now.
    pub fn check_when(
        &self,
        place: &str,
        evaluator: &dyn Evaluator,
    ) -> Result<Option<DefinitionError>, ExpressionError> {
        let Some(when) = self.when() else { return Ok(None) };
        match evaluator.check(&Expression(when.into()), &[]) {
            Ok(()) => Ok(None),
            Err(unavailable @ ExpressionError::Unavailable(_)) => Err(unavailable),
            Err(error) => Ok(Some(wrong(format!("{place}.when"), error.to_string()))),
        }
    }
}

/// A call as `when` sees it.
#[derive(Debug, Clone, Copy)]
pub struct AskedAbout<'a> {
    /// The tool's name, as the model calls it.
    pub tool: &'a str,
    /// The arguments' text, which is JSON.
    pub arguments: &'a str,
    /// Whom the execution is for.
    pub end_user: Option<&'a str>,
    /// The agent whose call it is.
    pub agent: &'a str,
}

/// Whether `when` asks about that call. The error says why it could not say: then a person is
/// asked, unless nothing evaluates expressions now.
pub fn asks(when: &str, call: AskedAbout<'_>, evaluator: &dyn Evaluator) -> Result<bool, ExpressionError> {
    let arguments: Value =
        serde_json::from_str(call.arguments).map_err(|error| ExpressionError::Failed(error.to_string()))?;
    let input = serde_json::json!({
        "tool": call.tool, "arguments": arguments, "end_user": call.end_user, "agent": call.agent,
    });
    match evaluator.evaluate(&Expression(when.into()), &input, &[])? {
        Value::Bool(asks) => Ok(asks),
        other => {
            let shown: String = other.to_string().chars().take(64).collect();
            Err(ExpressionError::Failed(format!("`when` gave {shown}: it may be true or false")))
        }
    }
}

impl Agent {
    /// Compiles the expressions of its tools' rules; what is wrong, each with its place.
    pub fn check_expressions(
        &self,
        evaluator: &dyn Evaluator,
    ) -> Result<Vec<DefinitionError>, ExpressionError> {
        let mut errors = Vec::new();
        for (index, tool) in self.tools.iter().enumerate() {
            errors.extend(tool.approval.check_when(&format!("tools[{index}].approval"), evaluator)?);
        }
        Ok(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::expression::NoEvaluator;
    use crate::workflow::jq::Jq;

    fn rule(text: &str) -> ApprovalRule {
        serde_json::from_str(text).expect(text)
    }

    fn call(arguments: &'static str) -> AskedAbout<'static> {
        AskedAbout { tool: "refund", arguments, end_user: Some("ada"), agent: "desk" }
    }

    #[test]
    fn what_is_default_is_not_written() {
        for text in [
            r#""never""#,
            r#""always""#,
            r#"{}"#,
            r#"{"expires_after":"2h"}"#,
            r#"{"when":".arguments.n > 1","approvers":{"roles":["admin"],"groups":["finance"]},"quorum":2,"no_self_approval":true,"expires_after":"1m","on_timeout":{"escalate":{"approvers":{"groups":["board"]},"expires_after":"1h","then":"deny"}},"allow_edit":false}"#,
        ] {
            assert_eq!(serde_json::to_string(&rule(text)).expect(text), text);
            assert_eq!(rule(text).is_needed(), text != r#""never""#, "{text}");
        }
        assert_eq!(rule("{}").policy(), Policy::default());
    }

    #[test]
    fn an_expression_sees_the_call() {
        let says = |when: &str| asks(when, call(r#"{"amount": 100}"#), &Jq);
        assert_eq!(says(".arguments.amount > 50"), Ok(true));
        assert_eq!(says(".arguments.amount > 500"), Ok(false));
        assert_eq!(says(r#".tool == "refund" and .end_user == "ada" and .agent == "desk""#), Ok(true));
        for bad in ["1", "null", "empty", ".arguments | error", "true, false"] {
            assert!(
                matches!(says(bad), Err(error) if !matches!(error, ExpressionError::Unavailable(_))),
                "{bad}"
            );
        }
        let away = asks("true", call("{}"), &NoEvaluator);
        assert!(matches!(away, Err(ExpressionError::Unavailable(_))));
    }

    #[test]
    fn an_expression_is_compiled_when_it_is_registered() {
        let checked = |when: &str| rule(&serde_json::json!({"when": when}).to_string()).check_when("a", &Jq);
        assert_eq!(checked(".arguments.amount > 50"), Ok(None));
        for bad in [".a |", "$who", "nothing_there"] {
            let error = checked(bad).expect("an evaluator").expect(bad);
            assert_eq!(error.place, "a.when", "{error}");
        }
        assert!(rule(r#"{"when": "true"}"#).check_when("a", &NoEvaluator).is_err());
    }
}

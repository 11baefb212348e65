//! An error of a workflow, as the specification has it (after RFC 7807), and what it is where
//! it is the end of an execution.

use serde::Serialize;
use serde_json::Value;

use super::{ERRORS, ERRORS_BEFORE};
use crate::status::{ErrorType, Failure, Problem, Reason};
use crate::time::Span;

/// An error of a workflow.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// A URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// As of HTTP.
    pub status: u16,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Where it was raised.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// What failed, where that was an effect.
    #[serde(skip)]
    pub cause: Option<ErrorType>,
    /// Why an execution failed that nothing caught it in, where its error's type does not say that.
    #[serde(skip)]
    pub reason: Option<Reason>,
    /// As of [`Failure::secrets`].
    #[serde(skip)]
    pub secrets: Vec<String>,
    /// As of [`Failure::retry_after`].
    #[serde(skip)]
    pub retry_after: Option<Span>,
}

impl Fault {
    /// An error of one of the specification's types.
    pub fn standard(name: &str, status: u16, title: &str, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("{ERRORS}{name}"),
            status,
            title: Some(title.to_owned()),
            detail: Some(detail.into()),
            instance: None,
            cause: None,
            reason: None,
            secrets: Vec::new(),
            retry_after: None,
        }
    }

    /// An expression had no value.
    pub fn expression(detail: impl Into<String>) -> Self {
        Self::standard("expression", 400, "Expression Error", detail)
    }

    /// A value passed a limit, which the detail names.
    pub fn limit(detail: impl Into<String>) -> Self {
        Self { reason: Some(Reason::Limit), ..Self::expression(detail) }
    }

    /// A value does not satisfy its schema.
    pub fn validation(detail: impl Into<String>) -> Self {
        Self::standard("validation", 400, "Validation Error", detail)
    }

    /// It took too long.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Self::standard("timeout", 408, "Timeout Error", detail)
    }

    /// Nobody answered a question in time.
    pub fn unanswered(detail: impl Into<String>) -> Self {
        Self { reason: Some(Reason::ApprovalTimeout), ..Self::timeout(detail) }
    }

    /// Why an execution failed that nothing caught it in.
    pub fn reason(&self) -> Reason {
        self.reason.unwrap_or_else(|| self.error_type().reason())
    }

    /// An effect failed. A workflow that was run failed with an error of its own: it is that one.
    pub fn of_failure(failure: &Failure) -> Self {
        let (cause, reason, secrets) = (Some(failure.kind), failure.reason, failure.secrets.clone());
        let retry_after = failure.retry_after;
        if let Some(problem) = &failure.problem {
            let Problem { kind, status, title, detail } = problem.as_ref().clone();
            return Self { kind, status, title, detail, instance: None, cause, reason, secrets, retry_after };
        }
        let (name, status, title) = match (failure.status, failure.kind) {
            (Some(status), _) => ("communication", status, "Communication Error"),
            (None, ErrorType::Auth) => ("authentication", 401, "Authentication Error"),
            (None, ErrorType::Permission) => ("authorization", 403, "Authorization Error"),
            (None, ErrorType::Timeout) => ("timeout", 408, "Timeout Error"),
            (None, ErrorType::Balance) => ("communication", 402, "Communication Error"),
            (None, ErrorType::RateLimit) => ("communication", 429, "Communication Error"),
            (None, ErrorType::Network) => ("communication", 503, "Communication Error"),
            (None, ErrorType::Logic) => ("communication", 400, "Communication Error"),
            (None, ErrorType::Cancelled | ErrorType::Internal) => ("runtime", 500, "Runtime Error"),
        };
        Self { cause, reason, secrets, retry_after, ..Self::standard(name, status, title, &failure.message) }
    }

    /// The same as an error of the type `runtime`: what a server of tools answers is no status.
    pub fn into_runtime(self) -> Self {
        let detail = self.detail.unwrap_or_default();
        Self { cause: self.cause, ..Self::standard("runtime", 500, "Runtime Error", detail) }
    }

    /// What callers of the execution are told where nothing caught it.
    pub fn failure(&self) -> Failure {
        let message = match (&self.title, &self.detail) {
            (Some(title), Some(detail)) => format!("{title}: {detail}"),
            (Some(text), None) | (None, Some(text)) => text.clone(),
            (None, None) => format!("an error of the type {}", self.kind),
        };
        let Self { kind, status, title, detail, secrets, retry_after, .. } = self.clone();
        let problem = Some(Box::new(Problem { kind, status, title, detail }));
        Failure { problem, secrets, retry_after, ..Failure::new(self.error_type(), message) }
    }

    fn error_type(&self) -> ErrorType {
        if let Some(cause) = self.cause {
            return cause;
        }
        match standard_name(&self.kind) {
            Some("timeout") => ErrorType::Timeout,
            Some("authentication") => ErrorType::Auth,
            Some("authorization") => ErrorType::Permission,
            Some("configuration" | "validation" | "expression" | "runtime") => ErrorType::Logic,
            _ => ErrorType::of_http(self.status).unwrap_or(ErrorType::Logic),
        }
    }

    /// As `catch` and its variable see it.
    pub fn value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// The name of a type of the specification's own, under either prefix.
fn standard_name(kind: &str) -> Option<&str> {
    kind.strip_prefix(ERRORS).or_else(|| kind.strip_prefix(ERRORS_BEFORE))
}

/// Whether two error types are the same one; the specification's own have two prefixes.
pub fn same_type(one: &str, other: &str) -> bool {
    one == other || standard_name(one).is_some_and(|name| standard_name(other) == Some(name))
}

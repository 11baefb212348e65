//! What callers are told when something is wrong: RFC 9457, one closed list of codes. A
//! code is a promise; the sentences around it are for people and may change.

use axum::response::{IntoResponse, Response};
use holdpoint_db::StoreError;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value};

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $status:ident, $title:literal;)+) => {
        /// Every code there is.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $variant),+ }

        impl Code {
            /// Every code of the list.
            pub const ALL: &'static [Code] = &[$(Code::$variant),+];

            /// The word that callers test for.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$variant => $word),+ }
            }

            /// The status that it comes with, where the problem says no other.
            pub const fn status(self) -> StatusCode {
                match self { $(Code::$variant => StatusCode::$status),+ }
            }

            const fn title(self) -> &'static str {
                match self { $(Code::$variant => $title),+ }
            }
        }
    };
}

codes! {
    /// Not JSON, an unknown field, a value that may not be.
    InvalidBody = "invalid_body", BAD_REQUEST, "The body is not what this call takes";
    /// A query parameter or a header.
    InvalidParameter = "invalid_parameter", BAD_REQUEST, "A parameter is not what this call takes";
    /// A workflow's `input` that its `input.schema` refuses; `pointer` says where.
    InvalidInput = "invalid_input", BAD_REQUEST, "The workflow does not take this input";
    /// The place in a stream to begin at.
    InvalidIndex = "invalid_index", BAD_REQUEST, "The stream has no such place";
    /// An agent's document.
    InvalidDefinition = "invalid_definition", BAD_REQUEST, "The definition cannot be taken";
    /// A file that a start names.
    UnknownFile = "unknown_file", BAD_REQUEST, "There is no such file";
    /// A workflow's document; `errors` says where.
    InvalidWorkflow = "invalid_workflow", BAD_REQUEST, "The workflow cannot be taken";
    /// Nothing is configured to keep them with.
    ForwardedHeadersUnavailable = "forwarded_headers_unavailable", BAD_REQUEST, "Headers cannot be kept for tools here";
    /// `execution_mode: classic` where executions are always durable.
    ClassicNotHere = "classic_not_here", BAD_REQUEST, "Executions started here are always durable";
    /// An agent that may have to ask a person, in a run that cannot wait for one.
    ApprovalRequiresDurable = "approval_requires_durable", BAD_REQUEST, "Approvals need a durable execution";
    /// Something else that a run without a journal cannot do.
    RequiresDurable = "requires_durable", BAD_REQUEST, "This needs a durable execution";
    /// No key, or one that is not good.
    Unauthorized = "unauthorized", UNAUTHORIZED, "A valid API key is needed";
    /// The key's role may not.
    Forbidden = "forbidden", FORBIDDEN, "The key's role may not do this";
    /// The key has the right to decide, but not about this.
    NotAnApprover = "not_an_approver", FORBIDDEN, "The policy names other approvers";
    /// Whoever started the execution.
    SelfApproval = "self_approval", FORBIDDEN, "Nobody decides about what they asked for";
    /// The policy, or where the call stands, leaves no room for a grant.
    GrantNotPossible = "grant_not_possible", CONFLICT, "There can be no such grant";
    /// No such row in this scope.
    NotFound = "not_found", NOT_FOUND, "There is no such thing";
    /// The definition or version that a start names.
    UnknownDefinition = "unknown_definition", NOT_FOUND, "There is no such definition";
    /// No such conversation, or another end user's.
    UnknownConversation = "unknown_conversation", NOT_FOUND, "There is no such conversation";
    /// No such path.
    NoSuchRoute = "no_such_route", NOT_FOUND, "There is no such route";
    /// The path is there, the method is not.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The route has no such method";
    /// The body did not come in time.
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request took too long to arrive";
    /// The conversation has an active execution.
    ConversationBusy = "conversation_busy", CONFLICT, "The conversation has an active execution";
    /// It goes on, waits or completed.
    NotFailed = "not_failed", CONFLICT, "The execution neither failed nor was cancelled";
    /// A test run, or one whose conversation went on.
    NotRepeatable = "not_repeatable", CONFLICT, "The execution cannot be repeated";
    /// One run of the workflow at a time.
    RunActive = "run_active", CONFLICT, "A run of the workflow is active";
    /// The workflow is paused, in maintenance or archived.
    WorkflowNotActive = "workflow_not_active", CONFLICT, "The workflow is not active";
    /// One test run of a workflow goes on at a time.
    TestRunActive = "test_run_active", CONFLICT, "A test run of the workflow goes on";
    /// An execution was started with it.
    FileInUse = "file_in_use", CONFLICT, "The file is in use";
    /// A message id stands in the conversation already.
    MessageIdUsed = "message_id_used", CONFLICT, "The conversation has a message of this id";
    /// Nothing can be done to it any more.
    AlreadyTerminal = "already_terminal", CONFLICT, "The execution is over";
    /// Another decision won.
    ApprovalConflict = "approval_conflict", CONFLICT, "The approval was decided otherwise";
    /// What was seen is not what is stored.
    DigestMismatch = "digest_mismatch", CONFLICT, "The stored arguments have another digest";
    /// Nothing to resolve.
    OutcomeNotUnknown = "outcome_not_unknown", CONFLICT, "The step has no unknown outcome";
    /// Something before it was not exported.
    ExportGap = "export_gap", CONFLICT, "The export does not begin where the last one ended";
    /// A workflow brings the schedule.
    ScheduleOwned = "schedule_owned", CONFLICT, "The schedule belongs to a workflow";
    /// The call may still be under way.
    NotSettled = "not_settled", CONFLICT, "The call may still be under way";
    /// Another report was taken, or the attempt is over.
    TaskConflict = "task_conflict", CONFLICT, "The task is not open to this report";
    /// Undecided, and it expired or its execution ended.
    ApprovalClosed = "approval_closed", GONE, "The approval can no longer be decided";
    /// A body that is no JSON by its content type.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON";
    /// A used key with another body.
    IdempotencyMismatch = "idempotency_mismatch", UNPROCESSABLE_ENTITY, "The key was used with another body";
    /// Edited arguments that the tool does not take.
    ArgumentsInvalid = "arguments_invalid", UNPROCESSABLE_ENTITY, "The arguments do not fit the tool";
    /// A limit was passed; `limit` and `value` say which.
    Limit = "limit", UNPROCESSABLE_ENTITY, "A limit was passed";
    /// Too many of the tenant's executions wait; `Retry-After` says when to try again.
    BacklogFull = "backlog_full", TOO_MANY_REQUESTS, "Too many executions wait";
    /// A message that is none of ours.
    Undecodable = "undecodable", BAD_REQUEST, "The message cannot be read";
    /// A message of a type that we do not know.
    UnknownType = "unknown_type", BAD_REQUEST, "There is no command of this type";
    /// A message of a version that we do not know.
    UnsupportedVersion = "unsupported_version", BAD_REQUEST, "The command's version is not known here";
    /// A message that ended its process, again and again.
    Poison = "poison", UNPROCESSABLE_ENTITY, "The message could not be worked on";
    /// A parked message whose credential was never good.
    NotRedrivable = "not_redrivable", CONFLICT, "The message cannot be taken in again";
    /// In the contract, and not here yet.
    NotImplemented = "not_implemented", NOT_IMPLEMENTED, "Not implemented yet";
    /// A fault of ours.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here";
    /// The same call may succeed later.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Not available now";
}

/// One answer that is an error.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    status: StatusCode,
    detail: String,
    extra: Map<String, Value>,
}

/// What handlers answer.
pub type Answer<T = Response> = Result<T, Problem>;

impl Problem {
    /// A problem with this code; the detail is one sentence for a person.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, status: code.status(), detail: detail.into(), extra: Map::new() }
    }

    /// A limit was passed: 413 for what is too long, 422 for what is too many or too deep.
    pub fn limit(status: StatusCode, name: &str, value: usize, detail: impl Into<String>) -> Self {
        let mut problem = Self::new(Code::Limit, detail).with("limit", name).with("value", value);
        problem.status = status;
        problem
    }

    /// The row is not there, or not for this caller: the two must not differ.
    pub fn not_found(what: &str, id: &str) -> Self {
        let shown: String = id.chars().take(128).collect();
        Self::new(Code::NotFound, format!("there is no {what} `{shown}`"))
    }

    /// One more member.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Its code.
    pub fn code(&self) -> Code {
        self.code
    }

    /// One sentence for a person.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The status that it is answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The document, for answers that hold several, and for replies to messages.
    pub fn document(&self) -> Value {
        let head = Head {
            kind: format!("urn:holdpoint:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code.as_str(),
        };
        let mut document = serde_json::to_value(head).unwrap_or_default();
        if let Value::Object(members) = &mut document {
            members.extend(self.extra.clone());
        }
        document
    }
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    code: &'static str,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, self.document().to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(self.status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        // For routes that tell it in another shape.
        response.extensions_mut().insert(self);
        response
    }
}

/// The store's words stay in our log: a caller learns only whether to try again.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        if error.is_retryable() {
            tracing::warn!(%error, "answered 503");
            return Problem::new(Code::Unavailable, "the database cannot be reached; try again");
        }
        tracing::error!(%error, "answered 500");
        Problem::internal()
    }
}

impl Problem {
    /// A fault of ours; what it was stands in the log.
    pub fn internal() -> Self {
        Self::new(Code::Internal, "a fault of this service; its log has the request's id")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_problem_is_told_as_rfc_9457_says() {
        let problem = Problem::limit(StatusCode::PAYLOAD_TOO_LARGE, "body_bytes", 7, "too long");
        let document = problem.document();
        assert_eq!(document["type"], "urn:holdpoint:problem:limit");
        assert_eq!((&document["status"], &document["code"]), (&413.into(), &"limit".into()));
        assert_eq!((&document["limit"], &document["value"]), (&"body_bytes".into(), &7.into()));
        let response = problem.into_response();
        assert_eq!(response.status(), 413);
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }

    #[test]
    fn a_fault_of_ours_tells_nothing_of_its_insides() {
        for error in [StoreError::Refused("SELECT secret".into()), StoreError::Corrupt("secret".into())] {
            let problem = Problem::from(error);
            assert_eq!(problem.status(), 500);
            assert!(!problem.document().to_string().contains("secret"));
        }
        let away = Problem::from(StoreError::Unavailable("10.0.0.7 refused".into())).into_response();
        assert_eq!((away.status().as_u16(), &away.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    }

    #[test]
    fn codes_are_distinct() {
        let words: std::collections::HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), Code::ALL.len());
    }
}

//! What is wrong, as OpenAI's clients read it: `{"error": {message, type, param, code}}`.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use holdpoint_engine::entry::ExecutionFailed;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{ErrorType, Reason};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::problem::Problem;

/// The layer on these routes: every problem is told in OpenAI's shape, those of the key too.
pub async fn openai_errors(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let Some(problem) = response.extensions().get::<Problem>().cloned() else { return response };
    let (status, headers) = (response.status(), response.headers().clone());
    answer(status, headers, &Told::of_problem(&problem))
}

fn answer(status: StatusCode, mut headers: HeaderMap, told: &Told) -> Response {
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if told.is_final {
        // These clients try again by themselves; what was begun must not begin once more.
        headers.insert("x-should-retry", HeaderValue::from_static("false"));
    }
    (status, headers, told.document().to_string()).into_response()
}

/// An error as these clients read it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OpenAiError")]
pub struct ErrorAnswer {
    error: ErrorObject,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "OpenAiErrorObject")]
struct ErrorObject {
    message: String,
    #[serde(rename = "type")]
    kind: String,
    param: Option<String>,
    code: String,
    #[serde(flatten)]
    more: Map<String, Value>,
}

/// One error.
#[derive(Debug)]
pub struct Told {
    message: String,
    kind: &'static str,
    param: Option<String>,
    code: String,
    more: Map<String, Value>,
    is_final: bool,
}

impl Told {
    /// A problem, with what it says beside its detail.
    pub fn of_problem(problem: &Problem) -> Self {
        let document = problem.document();
        let text = |name: &str| document[name].as_str().map(str::to_owned);
        let known = ["type", "title", "status", "detail", "code", "field", "parameter"];
        let more = document.as_object().into_iter().flatten();
        let more = more.filter(|(name, _)| !known.contains(&name.as_str()));
        Self {
            message: text("detail").unwrap_or_default(),
            kind: kind_of(problem.status()),
            param: text("field").or_else(|| text("parameter")),
            code: text("code").unwrap_or_default(),
            more: more.map(|(name, value)| (name.clone(), value.clone())).collect(),
            is_final: problem.status() == StatusCode::CONFLICT,
        }
    }

    /// An execution that failed, with the status that it is answered with; a classic run
    /// without an id.
    pub fn of_failure(id: Option<ExecutionId>, failed: &ExecutionFailed) -> (StatusCode, Self) {
        let status = match (failed.reason, failed.error.kind) {
            (_, ErrorType::RateLimit) => StatusCode::TOO_MANY_REQUESTS,
            (_, ErrorType::Timeout) => StatusCode::GATEWAY_TIMEOUT,
            (Reason::Limit | Reason::TurnLimit | Reason::TransferLimit, _) => {
                StatusCode::UNPROCESSABLE_ENTITY
            }
            (_, ErrorType::Internal) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_GATEWAY,
        };
        let (said, code) = (&failed.error.message, failed.reason.as_str());
        let told = match id {
            Some(id) => Self::of_execution(id, format!("the execution {id} failed: {said}"), code),
            None => Self::of_run(format!("the run failed: {said}"), code),
        };
        (status, told)
    }

    /// Something that happened to an execution; trying again would not help.
    pub fn of_execution(id: ExecutionId, message: impl Into<String>, code: &str) -> Self {
        let more = Map::from_iter([("execution_id".to_owned(), json!(id))]);
        Self { more, ..Self::of_run(message, code) }
    }

    /// Something that happened to a classic run.
    pub fn of_run(message: impl Into<String>, code: &str) -> Self {
        Self {
            message: message.into(),
            kind: "execution_error",
            param: None,
            code: code.to_owned(),
            more: Map::new(),
            is_final: true,
        }
    }

    /// The body, and what a stream sends.
    pub fn document(&self) -> Value {
        let error = ErrorObject {
            message: self.message.clone(),
            kind: self.kind.to_owned(),
            param: self.param.clone(),
            code: self.code.clone(),
            more: self.more.clone(),
        };
        json!(ErrorAnswer { error })
    }

    /// The whole answer.
    pub fn into_response(self, status: StatusCode) -> Response {
        answer(status, HeaderMap::new(), &self)
    }
}

const fn kind_of(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "authentication_error",
        StatusCode::FORBIDDEN => "permission_error",
        StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
        _ if status.as_u16() >= 500 => "server_error",
        _ => "invalid_request_error",
    }
}

//! A run that repeats one that failed or was cancelled.

use axum::extract::State;
use holdpoint_db::{Acted, Retried, Tell};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::Status;
use holdpoint_engine::wire::ExecutionKey;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Shared, start};
use crate::auth::Caller;
use crate::body::{NoMembers, RawBody};
use crate::openapi::Operation;
use crate::params::{Segments, execution_id};
use crate::problem::{Answer, Code, Problem};
use crate::view;

#[derive(Serialize, JsonSchema)]
struct RetryAccepted {
    /// The run that repeats it.
    id: ExecutionId,
    /// `queued`, or where that run stands if it was made before.
    status: Status,
    /// The first run.
    retry_of: ExecutionId,
    attempt: i32,
}

/// `POST /v1/executions/{id}/retry`.
pub async fn handle(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    body: RawBody,
) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    let key = ExecutionKey { scope: caller.scope, id: execution_id(&id)? };
    let (wanted, by, end_user) = (key.clone(), caller.key, caller.end_user);
    let made = app.write(move |store| store.run_retry(&wanted, &by, end_user.as_deref())).await??;
    let Retried::Made { run, attempt, retry_of, status } = made else { return Err(refused(&key, made)) };
    let acted = Acted { status, new_event: None, tell: Tell::Workers, related: false };
    app.tell(ExecutionKey { scope: key.scope, id: run }, &acted);
    let body = RetryAccepted { id: run, status, retry_of, attempt };
    let mut response = view::json(StatusCode::ACCEPTED, &body);
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/executions/{run}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn refused(key: &ExecutionKey, why: Retried) -> Problem {
    match why {
        Retried::NotFailed(status) => Problem::new(
            Code::NotFailed,
            format!("the execution is {status}: only one that failed or was cancelled is repeated"),
        )
        .with("execution_status", status.as_str()),
        Retried::Never(why) => Problem::new(Code::NotRepeatable, why),
        Retried::UnknownDefinition(kind, name) => {
            Problem::new(Code::UnknownDefinition, format!("there is no {kind} `{name}` any more"))
        }
        Retried::WorkflowNotActive(state) => start::not_active(state),
        Retried::RunActive(run) => {
            let detail = format!("the run {run} goes on or waits, and the workflow has one at a time");
            Problem::new(Code::RunActive, detail).with("execution_id", run.to_string())
        }
        Retried::ConversationBusy(active) => start::conversation_busy(active),
        Retried::NotFound | Retried::Made { .. } => Problem::not_found("execution", &key.id.to_string()),
    }
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new(
        "execution_retry",
        "Repeats one that failed or was cancelled, from its journal. Each attempt once: the same again is the same run.",
    )
    .optional_body::<NoMembers>()
    .answer::<RetryAccepted>(202, "The new run is committed; one that was due later begins now.")
    .with_header("location")
    .problem(Code::NotFailed)
    .problem(Code::UnknownDefinition)
    .problem(Code::NotRepeatable)
    .problem(Code::RunActive)
    .problem(Code::WorkflowNotActive)
    .problem(Code::ConversationBusy)
}

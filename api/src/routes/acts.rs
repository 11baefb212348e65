//! Cancel, pause, resume, and the answer to an unknown outcome.

use std::sync::Arc;

use axum::extract::State;
use holdpoint_db::{ActError, ActRequest, CommandKey, Commanded};
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::status::{Outcome, Status};
use holdpoint_engine::wire::ExecutionKey;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{NoMembers, RawBody, check_value};
use crate::openapi::Operation;
use crate::params::{Segments, execution_id};
use crate::problem::{Answer, Code, Problem};
use crate::view;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ResolveBody {
    outcome: Outcome,
    result: Option<Json>,
}

/// What an act is answered with.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ActAccepted")]
pub(super) struct Accepted {
    id: ExecutionId,
    status: Status,
}

/// `POST /v1/executions/{id}/cancel`.
pub async fn cancel(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    body: RawBody,
) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    act(app, caller, &id, ActRequest::Cancel).await
}

/// `POST /v1/executions/{id}/pause`.
pub async fn pause(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    body: RawBody,
) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    act(app, caller, &id, ActRequest::Pause).await
}

/// `POST /v1/executions/{id}/resume`.
pub async fn resume(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    body: RawBody,
) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    act(app, caller, &id, ActRequest::Resume).await
}

/// `POST /v1/executions/{id}/steps/{step}/resolve`.
pub async fn resolve(
    State(app): Shared,
    caller: Caller,
    Segments((id, step)): Segments<(String, String)>,
    body: RawBody,
) -> Answer {
    let ResolveBody { outcome, result } = body.read()?;
    let step: i32 = step.parse().map_err(|_| Problem::not_found("step", &step))?;
    if outcome == Outcome::DidNotHappen && result.is_some() {
        return Err(Problem::new(Code::InvalidBody, "`result`: what did not happen has none"));
    }
    let result = result.map(|result| result.get().to_owned());
    check_value("result", result.as_ref().map_or(0, String::len), app.limits.value_bytes)?;
    act(app, caller, &id, ActRequest::Resolve { step, outcome, result }).await
}

/// Commits the act, tells whoever has to look, and answers.
pub(super) async fn act(app: Arc<App>, caller: Caller, id: &str, request: ActRequest) -> Answer {
    let key = ExecutionKey { scope: caller.scope.clone(), id: execution_id(id)? };
    let (scope, id, by, end_user) = (caller.scope, key.id, caller.key, caller.end_user);
    let written =
        app.write(move |store| store.execution_act(&scope, id, &request, &by, end_user.as_deref())).await?;
    let acted = written.map_err(|error| refused(id, error))?;
    app.tell(key, &acted);
    Ok(view::json(StatusCode::ACCEPTED, &Accepted { id, status: acted.status }))
}

/// An act that a command asks for; the execution that it, or its first, was for.
pub async fn act_commanded(
    app: &App,
    caller: &Caller,
    id: &str,
    request: ActRequest,
    command: CommandKey,
) -> Answer<ExecutionId> {
    let key = ExecutionKey { scope: caller.scope.clone(), id: execution_id(id)? };
    let (row, by, end_user) = (key.clone(), caller.key.clone(), caller.end_user.clone());
    let written =
        app.write(move |store| store.command_act(&row, &command, &request, &by, end_user.as_deref())).await?;
    match written.map_err(|error| refused(key.id, error))? {
        Commanded::Before(execution) => Ok(execution),
        Commanded::Now(acted) => {
            app.tell(key.clone(), &acted);
            Ok(key.id)
        }
    }
}

/// Why an act was not taken, as its caller is told.
pub(super) fn refused(id: ExecutionId, error: ActError) -> Problem {
    match error {
        ActError::NotFound => Problem::not_found("execution", &id.to_string()),
        ActError::Terminal(status) => {
            // `status` is the HTTP status in a problem document, so the word has a name of its own.
            Problem::new(Code::AlreadyTerminal, format!("the execution is {status}"))
                .with("execution_status", status.as_str())
        }
        ActError::Refused(refusal) => unfit(&refusal),
        ActError::Store(error) => error.into(),
    }
}

fn unfit(refusal: &Refusal) -> Problem {
    let told = refusal.to_string();
    match refusal {
        Refusal::NotUnknown { .. } => Problem::new(Code::OutcomeNotUnknown, told),
        Refusal::NotSettled { settled_at, .. } => {
            Problem::new(Code::NotSettled, told).with("settled_at", settled_at.to_string())
        }
        Refusal::TooManySignals { limit } => {
            Problem::limit(StatusCode::UNPROCESSABLE_ENTITY, "signals", *limit, told)
        }
        Refusal::SignalMismatch { .. } => Problem::new(Code::IdempotencyMismatch, told),
        Refusal::NoTask { step } => Problem::not_found("task of a queue in step", &step.to_string()),
        Refusal::TaskDone { step, attempt } | Refusal::TaskConflict { step, attempt } => {
            Problem::new(Code::TaskConflict, told).with("step", *step).with("attempt", *attempt)
        }
    }
}

fn act_doc(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(id, summary)
        .optional_body::<NoMembers>()
        .answer::<Accepted>(202, "It is committed; `status` is that of the moment.")
        .problem(Code::AlreadyTerminal)
}

/// What cancel takes and answers.
pub fn cancel_doc() -> Operation {
    act_doc(
        "execution_cancel",
        "Cancels: one that is queued or suspended at once, a running one in a moment.",
    )
}

/// What pause takes and answers.
pub fn pause_doc() -> Operation {
    act_doc("execution_pause", "Holds before the next step.")
}

/// What resume takes and answers.
pub fn resume_doc() -> Operation {
    act_doc("execution_resume", "Lets a paused execution go on.")
}

/// What resolve takes and answers.
pub fn resolve_doc() -> Operation {
    Operation::new("execution_resolve", "Answers an unknown outcome.")
        .body::<ResolveBody>()
        .answer::<Accepted>(202, "It is committed; `status` is that of the moment.")
        .problem(Code::AlreadyTerminal)
        .problem(Code::OutcomeNotUnknown)
        .problem(Code::NotSettled)
}

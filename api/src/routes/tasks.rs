//! What workers elsewhere say of the tasks that they took from a queue: done, failed, still at it.

use std::sync::Arc;

use axum::extract::State;
use holdpoint_db::{ActError, ActRequest};
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::status::{ErrorType, Failure};
use holdpoint_engine::wire::ExecutionKey;
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::acts::refused;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{self, RawBody, check_value};
use crate::openapi::Operation;
use crate::params::{Segments, execution_id};
use crate::problem::{Answer, Code, Problem};
use crate::view;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CompleteBody {
    /// The attempt that the worker was given; the last one if left out.
    attempt: Option<u32>,
    /// The task's output; null if left out.
    output: Option<Json>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FailBody {
    /// The attempt that the worker was given; the last one if left out.
    attempt: Option<u32>,
    error: TaskError,
}

/// Why a task was not done. One of type `network`, `rate_limit` or `timeout` is tried again;
/// `cancelled` is refused.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TaskError {
    #[serde(rename = "type")]
    kind: ErrorType,
    /// One sentence for a person.
    message: String,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct HeartbeatBody {
    /// The attempt that the worker was given; the last one if left out.
    attempt: Option<u32>,
}

#[derive(Serialize, JsonSchema)]
struct TaskAnswer {
    execution_id: ExecutionId,
    step: i32,
    /// The same was reported before; nothing happens twice.
    already_done: bool,
}

/// `POST /v1/executions/{id}/steps/{step}/complete`.
pub async fn complete(
    State(app): Shared,
    caller: Caller,
    Segments((id, step)): Segments<(String, String)>,
    body: RawBody,
) -> Answer {
    let CompleteBody { attempt, output } = body.read_or_empty()?;
    let request = completed(&app, number(&step)?, attempt, output)?;
    answer(app, caller, &id, request).await
}

/// `POST /v1/executions/{id}/steps/{step}/fail`.
pub async fn fail(
    State(app): Shared,
    caller: Caller,
    Segments((id, step)): Segments<(String, String)>,
    body: RawBody,
) -> Answer {
    let FailBody { attempt, error } = body.read()?;
    let request = failed(&app, number(&step)?, attempt, error)?;
    answer(app, caller, &id, request).await
}

/// `POST /v1/executions/{id}/steps/{step}/heartbeat`.
pub async fn heartbeat(
    State(app): Shared,
    caller: Caller,
    Segments((id, step)): Segments<(String, String)>,
    body: RawBody,
) -> Answer {
    let HeartbeatBody { attempt } = body.read_or_empty()?;
    let request = ActRequest::Heartbeat { step: number(&step)?, attempt };
    answer(app, caller, &id, request).await
}

fn number(step: &str) -> Answer<i32> {
    step.parse().map_err(|_| Problem::not_found("step", step))
}

fn completed(app: &App, step: i32, attempt: Option<u32>, output: Option<Json>) -> Answer<ActRequest> {
    let output = output.map_or_else(|| "null".to_owned(), |output| output.get().to_owned());
    check_value("output", output.len(), app.limits.value_bytes)?;
    Ok(ActRequest::Report { step, attempt, outcome: Ok(output) })
}

fn failed(app: &App, step: i32, attempt: Option<u32>, error: TaskError) -> Answer<ActRequest> {
    check_value("error.message", error.message.len(), app.limits.value_bytes)?;
    if error.message.trim().is_empty() {
        return Err(Problem::new(Code::InvalidBody, "`error.message`: it may not be empty"));
    }
    if error.kind == ErrorType::Cancelled {
        let may_be: Vec<&str> = reportable().map(ErrorType::as_str).collect();
        let detail =
            format!("`error.type`: `cancelled` is for Holdpoint to say; it may be {}", may_be.join(", "));
        return Err(Problem::new(Code::InvalidBody, detail).with("field", "error.type"));
    }
    let error = Failure::new(error.kind, error.message);
    Ok(ActRequest::Report { step, attempt, outcome: Err(error) })
}

/// The types that a worker may report.
fn reportable() -> impl Iterator<Item = ErrorType> {
    ErrorType::ALL.iter().copied().filter(|kind| *kind != ErrorType::Cancelled)
}

async fn answer(app: Arc<App>, caller: Caller, id: &str, request: ActRequest) -> Answer {
    let step = step_of(&request);
    let (execution_id, already_done) = report(&app, &caller, id, request).await?;
    Ok(view::json(StatusCode::OK, &TaskAnswer { execution_id, step, already_done }))
}

fn step_of(request: &ActRequest) -> i32 {
    match request {
        ActRequest::Report { step, .. } | ActRequest::Heartbeat { step, .. } => *step,
        _ => 0,
    }
}

/// Commits what a worker says; its execution, and whether it was said before.
async fn report(app: &App, caller: &Caller, id: &str, request: ActRequest) -> Answer<(ExecutionId, bool)> {
    let key = ExecutionKey { scope: caller.scope.clone(), id: execution_id(id)? };
    let (scope, id, by, end_user) = (key.scope.clone(), key.id, caller.key.clone(), caller.end_user.clone());
    let written =
        app.write(move |store| store.execution_act(&scope, id, &request, &by, end_user.as_deref())).await?;
    match written {
        Ok(acted) => {
            app.tell(key, &acted);
            Ok((id, false))
        }
        Err(ActError::Refused(Refusal::TaskDone { .. })) => Ok((id, true)),
        Err(error) => Err(refused(id, error)),
    }
}

/// `data` of a task's completion.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskCompleteBody {
    execution_id: String,
    step: i32,
    attempt: Option<u32>,
    output: Option<Json>,
}

/// `data` of a task's failure.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskFailBody {
    execution_id: String,
    step: i32,
    attempt: Option<u32>,
    error: TaskError,
}

/// `data` of a task's heartbeat.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskHeartbeatBody {
    execution_id: String,
    step: i32,
    attempt: Option<u32>,
}

/// A completion that came as a message. The same report again is one: it needs no note.
pub async fn complete_commanded(app: &App, caller: &Caller, text: &str) -> Answer<ExecutionId> {
    let TaskCompleteBody { execution_id, step, attempt, output } = body::read(text)?;
    let request = completed(app, step, attempt, output)?;
    report(app, caller, &execution_id, request).await.map(|(id, _)| id)
}

/// A failure that came as a message.
pub async fn fail_commanded(app: &App, caller: &Caller, text: &str) -> Answer<ExecutionId> {
    let TaskFailBody { execution_id, step, attempt, error } = body::read(text)?;
    let request = failed(app, step, attempt, error)?;
    report(app, caller, &execution_id, request).await.map(|(id, _)| id)
}

/// A heartbeat that came as a message.
pub async fn heartbeat_commanded(app: &App, caller: &Caller, text: &str) -> Answer<ExecutionId> {
    let TaskHeartbeatBody { execution_id, step, attempt } = body::read(text)?;
    let request = ActRequest::Heartbeat { step, attempt };
    report(app, caller, &execution_id, request).await.map(|(id, _)| id)
}

fn report_doc(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(id, summary)
        .answer::<TaskAnswer>(200, "It is committed, or was before.")
        .problem(Code::AlreadyTerminal)
        .problem(Code::TaskConflict)
}

/// What complete takes and answers.
pub fn complete_doc() -> Operation {
    report_doc("task_complete", "A worker is done with a queue's task.").optional_body::<CompleteBody>()
}

/// What fail takes and answers.
pub fn fail_doc() -> Operation {
    report_doc(
        "task_fail",
        "A worker could not do a queue's task. The types network, rate_limit and timeout are tried again, \
         as often as the task says; others fail it.",
    )
    .body::<FailBody>()
}

/// What heartbeat takes and answers.
pub fn heartbeat_doc() -> Operation {
    report_doc(
        "task_heartbeat",
        "A worker is still at a queue's task. A conflict says that the task is no longer its own.",
    )
    .optional_body::<HeartbeatBody>()
}

//! `GET /v1/executions/{id}`.

use axum::extract::State;
use holdpoint_db::ExecutionRow;
use holdpoint_engine::ids::ExecutionId;

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{Segments, execution_id};
use crate::problem::{Answer, Problem};
use crate::view;

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let row = visible(&app, &caller, execution_id(&id)?).await?;
    Ok(view::ok(&view::Execution::from(row)))
}

/// The execution, where it is the caller's to see.
pub async fn visible(app: &App, caller: &Caller, id: ExecutionId) -> Answer<ExecutionRow> {
    let scope = caller.scope.clone();
    let row = app.read(move |store| store.execution_get(&scope, id)).await?;
    row.filter(|row| caller.sees(row.end_user.as_deref()))
        .ok_or_else(|| Problem::not_found("execution", &id.to_string()))
}

/// What it answers.
pub fn doc() -> Operation {
    Operation::new("execution_get", "One execution, whole.").answer::<view::Execution>(200, "The execution.")
}

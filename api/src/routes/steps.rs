//! `GET /v1/executions/{id}/steps`: the journal, folded into steps.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use super::get::visible;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{Segments, execution_id};
use crate::problem::{Answer, Problem};
use crate::steps::{StepView, fold};
use crate::view;

#[derive(Serialize, JsonSchema)]
struct Steps {
    steps: Vec<StepView>,
}

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let id = execution_id(&id)?;
    visible(&app, &caller, id).await?;
    let scope = caller.scope.clone();
    let lines = app.read(move |store| store.journal_read(&scope, id)).await?;
    let lines = lines.ok_or_else(|| Problem::not_found("execution", &id.to_string()))?;
    let steps = fold(&lines).map_err(|error| {
        tracing::error!(%id, %error, "a journal cannot be read");
        Problem::internal()
    })?;
    Ok(view::ok(&Steps { steps }))
}

/// What it answers.
pub fn doc() -> Operation {
    Operation::new("execution_steps", "The journal as a list of steps.").answer::<Steps>(200, "All steps.")
}

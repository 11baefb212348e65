//! `GET /v1/executions/{id}/diagnosis`: what it waits for, or who holds it.

use axum::extract::State;

use super::Shared;
use crate::auth::Caller;
use crate::diagnosis::{Diagnosis, diagnose};
use crate::openapi::Operation;
use crate::params::{Segments, execution_id};
use crate::problem::{Answer, Problem};
use crate::view;

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let id = execution_id(&id)?;
    let scope = caller.scope.clone();
    let standing = app.read(move |store| store.execution_standing(&scope, id)).await?;
    let standing = standing.filter(|standing| caller.sees(standing.row.end_user.as_deref()));
    let standing = standing.ok_or_else(|| Problem::not_found("execution", &id.to_string()))?;
    let diagnosis = diagnose(&standing).map_err(|error| {
        tracing::error!(%id, %error, "a journal cannot be read");
        Problem::internal()
    })?;
    Ok(view::ok(&diagnosis))
}

/// What it answers.
pub fn doc() -> Operation {
    Operation::new("execution_diagnosis", "One sentence: what it waits for, or who holds it.")
        .answer::<Diagnosis>(200, "The sentence, and what it was read from.")
}

//! `GET /v1/executions/{id}/diagnosis`: what it waits for, or who holds it.

use axum::extract::State;

use super::Shared;
use crate::auth::Caller;
use crate::diagnosis::{Diagnosis, look};
use crate::openapi::Operation;
use crate::params::{Segments, execution_id};
use crate::problem::{Answer, Problem};
use crate::view;

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let id = execution_id(&id)?;
    let looked = look(&app, &caller.scope, id).await?;
    let looked = looked.filter(|(row, _)| caller.sees(row.end_user.as_deref()));
    let (_, diagnosis) = looked.ok_or_else(|| Problem::not_found("execution", &id.to_string()))?;
    Ok(view::ok(&diagnosis))
}

/// What it answers.
pub fn doc() -> Operation {
    Operation::new("execution_diagnosis", "One sentence: what it waits for, or who holds it.")
        .answer::<Diagnosis>(200, "The sentence, what to do about it, and what it was read from.")
}

//! `GET /v1/parked-messages`: of the caller's own tenant and project, newest first. Those
//! of nobody are for operators, on the command line.

use axum::extract::State;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::Params;
use crate::problem::Answer;
use crate::view;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ParkedList")]
struct List {
    parked_messages: Vec<view::Parked>,
}

/// The route.
pub async fn list(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let limit = params.limit(50, 1_000)?;
    params.end()?;
    let scope = caller.scope;
    let rows = app.read(move |store| store.parked_list(Some(&scope), limit)).await?;
    Ok(view::ok(&List { parked_messages: rows.into_iter().map(Into::into).collect() }))
}

/// What it takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("parked_list", "Messages that could not be carried out, newest first.")
        .query::<u32>("limit", "50 by default, 1000 at most.")
        .answer::<List>(200, "Those of this tenant and project.")
}

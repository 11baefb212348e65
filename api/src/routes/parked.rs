//! `GET /v1/parked-messages`: of the caller's own tenant and project, newest first. Those
//! of nobody are for operators, on the command line.

use axum::extract::State;
use serde::Serialize;

use super::Shared;
use crate::auth::Caller;
use crate::params::Params;
use crate::problem::Answer;
use crate::view;

#[derive(Serialize)]
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

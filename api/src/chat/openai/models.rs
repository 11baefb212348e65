//! `GET /v1/models`: the agents in use, as OpenAI lists models.

use axum::extract::State;
use holdpoint_db::DefinitionRow;
use holdpoint_engine::status::DefinitionKind;
use serde_json::{Value, json};

use super::request::agent_of;
use crate::auth::Caller;
use crate::params::Segments;
use crate::problem::{Answer, Problem};
use crate::routes::Shared;
use crate::view;

/// Rows in one read.
const PAGE: usize = 1_000;
/// The most that one answer names: OpenAI's list has no pages.
const MOST: usize = 10_000;

/// `GET /v1/models`.
pub async fn list(State(app): Shared, caller: Caller) -> Answer {
    let mut models: Vec<Value> = Vec::new();
    let mut after: Option<String> = None;
    while models.len() < MOST {
        let (scope, from) = (caller.scope.clone(), after.take());
        let find = move |store: &dyn holdpoint_db::Store| {
            store.definition_list(&scope, DefinitionKind::Agent, from.as_deref(), PAGE)
        };
        let rows = app.read(find).await?;
        models.extend(rows.iter().map(|row| model(row, &row.name)));
        after = rows.last().filter(|_| rows.len() == PAGE).map(|row| row.name.clone());
        if after.is_none() {
            break;
        }
    }
    Ok(view::ok(&json!({"object": "list", "data": models})))
}

/// `GET /v1/models/{id}`: an agent, or one version of it.
pub async fn get(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let (name, version) = agent_of(&id)?;
    let scope = caller.scope.clone();
    let find = move |store: &dyn holdpoint_db::Store| {
        store.definition_get(&scope, DefinitionKind::Agent, &name, version)
    };
    let row = app.read(find).await?.ok_or_else(|| Problem::not_found("model", &id))?;
    Ok(view::ok(&model(&row, &id)))
}

fn model(row: &DefinitionRow, id: &str) -> Value {
    json!({
        "id": id,
        "object": "model",
        "created": row.created_at.micros() / 1_000_000,
        "owned_by": "holdpoint",
        "version": row.version,
    })
}

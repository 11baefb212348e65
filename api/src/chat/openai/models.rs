//! `GET /v1/models`: the agents in use, as OpenAI lists models.

use axum::extract::State;
use holdpoint_db::DefinitionRow;
use holdpoint_engine::status::DefinitionKind;
use schemars::JsonSchema;
use serde::Serialize;

use super::error::ErrorAnswer;
use super::request::agent_of;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::Segments;
use crate::problem::{Answer, Problem};
use crate::routes::Shared;
use crate::view;

/// Rows in one read.
const PAGE: usize = 1_000;
/// The most that one answer names: OpenAI's list has no pages.
const MOST: usize = 10_000;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ModelList")]
struct Models {
    object: &'static str,
    data: Vec<Model>,
}

#[derive(Serialize, JsonSchema)]
struct Model {
    /// What a chat names as its `model`.
    id: String,
    object: &'static str,
    /// When this version was put, in seconds since 1970.
    created: i64,
    owned_by: &'static str,
    /// The agent's version.
    version: i32,
}

/// `GET /v1/models`.
pub async fn list(State(app): Shared, caller: Caller) -> Answer {
    let mut models: Vec<Model> = Vec::new();
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
    Ok(view::ok(&Models { object: "list", data: models }))
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

fn model(row: &DefinitionRow, id: &str) -> Model {
    Model {
        id: id.to_owned(),
        object: "model",
        created: row.created_at.micros() / 1_000_000,
        owned_by: "holdpoint",
        version: row.version,
    }
}

/// What the list takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("model_list", "The agents, as OpenAI lists models.")
        .answer::<Models>(200, "All of them.")
        .foreign_errors::<ErrorAnswer>()
        .open_query()
}

/// What one model is answered as.
pub fn get_doc() -> Operation {
    Operation::new("model_get", "One agent: `name`, or `name@version`.")
        .answer::<Model>(200, "The agent.")
        .foreign_errors::<ErrorAnswer>()
        .open_query()
}

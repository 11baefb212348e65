//! `GET /v1/executions`: newest first.

use axum::extract::State;
use holdpoint_db::ExecutionFilter;
use holdpoint_engine::status::{DefinitionKind, RunType, Status};
use holdpoint_engine::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{self, Params};
use crate::problem::Answer;
use crate::view;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ExecutionPage")]
struct Page {
    executions: Vec<view::Summary>,
    next_cursor: Option<String>,
}

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, params: Params) -> Answer {
    let (filter, scope) = (filter(params, &caller)?, caller.scope);
    let page = app.read(move |store| store.execution_page(&scope, &filter)).await?;
    let next_cursor = page.next.map(|(created_at, id)| params::cursor(created_at, id));
    Ok(view::ok(&Page { executions: page.rows.into_iter().map(Into::into).collect(), next_cursor }))
}

fn filter(mut params: Params, caller: &Caller) -> Answer<ExecutionFilter> {
    let filter = ExecutionFilter {
        status: params.value("status")?,
        kind_and_name: kind_and_name(&mut params)?,
        conversation_id: params.text("conversation_id"),
        run_type: params.value("run_type")?,
        labels: params.with_prefix("label."),
        created_after: params.time("created_after")?,
        end_user: caller.end_user.clone(),
        after: params.cursor()?,
        limit: params.limit(50, 1_000)?,
    };
    params.end()?;
    Ok(filter)
}

fn kind_and_name(params: &mut Params) -> Answer<Option<(DefinitionKind, String)>> {
    match (params.text("agent"), params.text("workflow")) {
        (None, None) => Ok(None),
        (Some(name), None) => Ok(Some((DefinitionKind::Agent, name))),
        (None, Some(name)) => Ok(Some((DefinitionKind::Workflow, name))),
        (Some(_), Some(_)) => Err(params::bad("workflow", "give `agent` or `workflow`, not both")),
    }
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("execution_list", "Executions, newest first, without what may be long.")
        .query::<Status>("status", "With this status.")
        .query::<String>("agent", "Of this agent; not together with `workflow`.")
        .query::<String>("workflow", "Of this workflow.")
        .query::<String>("conversation_id", "In this conversation.")
        .query::<RunType>("run_type", "Of this type.")
        .query_prefix("label.", "`label.KEY=VALUE`: with this label.")
        .query::<Timestamp>("created_after", "RFC 3339.")
        .page("50 by default, 1000 at most.")
        .answer::<Page>(
            200,
            "A page. Where few fit, it may hold fewer than asked for, or none, and `next_cursor` goes on.",
        )
}

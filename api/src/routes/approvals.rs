//! What waits for a decision: the inbox, and the approvals of one execution.

use axum::extract::State;
use holdpoint_db::{ApprovalFilter, ApprovalPage, ApprovalRow};
use holdpoint_engine::policy::Decider;
use holdpoint_engine::status::ApprovalStatus;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Shared;
use super::get::visible;
use crate::app::App;
use crate::auth::{Caller, Right};
use crate::openapi::Operation;
use crate::params::{self, Params, Segments, execution_id};
use crate::problem::{Answer, Problem};
use crate::view;

/// The most approvals in one answer.
pub const MOST: usize = 1_000;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApprovalPage")]
struct Page {
    approvals: Vec<view::Approval>,
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
pub struct Approvals {
    has_pending: bool,
    approvals: Vec<view::Approval>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ApprovalWithSchema")]
struct Asked {
    #[serde(flatten)]
    approval: view::Approval,
    /// What edited arguments must fit, where the tool or the question says so.
    arguments_schema: Option<Value>,
}

/// `GET /v1/approvals`: pending ones unless told otherwise (`status=all` for all), oldest first.
pub async fn inbox(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let mine = params.value::<bool>("mine")?.unwrap_or(false);
    let filter = filter(params, &caller)?;
    if mine {
        return Ok(view::ok(&of_caller(&app, &caller, filter).await?));
    }
    let ApprovalPage { rows, next } = page(&app, &caller, filter).await?;
    let next_cursor = next.map(|(at, id)| params::cursor(at, id));
    Ok(view::ok(&Page { approvals: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Pages of so many rows are looked through for the caller's own.
const LOOKED_AT: usize = 500;
/// So many pages for one answer; the cursor leads on from there.
const PAGES: usize = 8;

/// Those that wait for this very caller: whose decision would count, and who has not voted.
async fn of_caller(app: &App, caller: &Caller, filter: ApprovalFilter) -> Answer<Page> {
    let (decider, limit) = (caller.decider(), filter.limit);
    let mut filter = ApprovalFilter { limit: LOOKED_AT, ..filter };
    let (mut found, mut next_cursor) = (Vec::new(), None);
    if caller.may(Right::Decide).is_err() {
        return Ok(Page { approvals: found, next_cursor });
    }
    for _ in 0..PAGES {
        let ApprovalPage { rows, next } = page(app, caller, filter.clone()).await?;
        let last = rows.last().map(|row| (row.requested_at, row.id));
        next_cursor = next.map(|(at, id)| params::cursor(at, id));
        for row in rows {
            let place = (row.requested_at, row.id);
            if waits_for(&row, &decider, caller) {
                found.push(row.into());
            }
            // Where the page is full, the next one begins after its last row.
            if found.len() == limit && last != Some(place) {
                let next_cursor = Some(params::cursor(place.0, place.1));
                return Ok(Page { approvals: found, next_cursor });
            }
        }
        filter.after = next;
        if next.is_none() || found.len() == limit {
            break;
        }
    }
    Ok(Page { approvals: found, next_cursor })
}

fn waits_for(row: &ApprovalRow, decider: &Decider, caller: &Caller) -> bool {
    let person = decider.person();
    row.status == ApprovalStatus::Pending
        && row.judge(decider, caller.end_user.as_deref()).is_ok()
        && !row.votes.iter().any(|vote| vote.person == person)
}

fn filter(mut params: Params, caller: &Caller) -> Answer<ApprovalFilter> {
    let status = match params.text("status").as_deref() {
        None => Some(ApprovalStatus::Pending),
        Some("all") => None,
        Some(word) => Some(word.parse().map_err(|error| params::bad("status", error))?),
    };
    let filter = ApprovalFilter {
        status,
        agent: params.text("agent"),
        tool: params.text("tool"),
        end_user: caller.end_user.clone(),
        after: params.cursor()?,
        limit: params.limit(50, MOST)?,
        ..ApprovalFilter::default()
    };
    params.end()?;
    Ok(filter)
}

async fn page(app: &App, caller: &Caller, filter: ApprovalFilter) -> Answer<ApprovalPage> {
    let scope = caller.scope.clone();
    app.read(move |store| store.approval_page(&scope, &filter)).await
}

/// Approvals of the caller's scope.
pub async fn list(app: &App, caller: &Caller, filter: ApprovalFilter) -> Answer<Vec<ApprovalRow>> {
    let scope = caller.scope.clone();
    app.read(move |store| store.approval_list(&scope, &filter)).await
}

/// `GET /v1/executions/{id}/approvals`: all of them, decided and closed ones too.
pub async fn of_execution(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let id = execution_id(&id)?;
    visible(&app, &caller, id).await?;
    let filter = ApprovalFilter { execution: Some(id), limit: MOST, ..ApprovalFilter::default() };
    Ok(answer(list(&app, &caller, filter).await?))
}

/// `GET /v1/executions/{id}/approvals/{tool_call_id}`: one, with what a form needs to edit it.
pub async fn of_call(
    State(app): Shared,
    caller: Caller,
    Segments((id, call)): Segments<(String, String)>,
) -> Answer {
    let id = execution_id(&id)?;
    visible(&app, &caller, id).await?;
    let filter = ApprovalFilter { execution: Some(id), limit: MOST, ..ApprovalFilter::default() };
    let mut rows = list(&app, &caller, filter).await?.into_iter();
    let row = rows.find(|row| row.tool_call_id == call);
    let row = row.ok_or_else(|| Problem::not_found("tool call that was asked about", &call))?;
    let arguments_schema = app.schemas.of(&app, &row).await?;
    Ok(view::ok(&Asked { approval: row.into(), arguments_schema }))
}

/// All of these, and whether one is open.
pub fn answer(rows: Vec<ApprovalRow>) -> axum::response::Response {
    let has_pending = rows.iter().any(|row| row.status == ApprovalStatus::Pending);
    view::ok(&Approvals { has_pending, approvals: rows.into_iter().map(Into::into).collect() })
}

/// What the inbox takes and answers.
pub fn inbox_doc() -> Operation {
    Operation::new("approval_list", "The inbox: what waits for a decision, oldest first.")
        .query::<InboxStatus>("status", "`pending` by default; `all` for every one.")
        .query::<bool>("mine", "`true`: only those that wait for this very key's decision.")
        .query::<String>("agent", "Of this agent.")
        .query::<String>("tool", "Of this tool.")
        .page("50 by default, 1000 at most.")
        .answer::<Page>(200, "A page.")
}

/// What an execution's approvals are answered as.
pub fn of_execution_doc() -> Operation {
    Operation::new("execution_approvals", "All approvals of an execution, decided and closed ones too.")
        .answer::<Approvals>(200, "Up to 1000.")
}

/// What one approval is answered as.
pub fn of_call_doc() -> Operation {
    Operation::new("approval_get", "One approval, with the schema that edited arguments must fit.")
        .answer::<Asked>(200, "The approval.")
}

/// A status, or all.
#[derive(JsonSchema)]
#[serde(rename_all = "lowercase", untagged)]
#[allow(dead_code)]
enum InboxStatus {
    One(ApprovalStatus),
    All(All),
}

#[derive(JsonSchema)]
#[serde(rename_all = "lowercase")]
#[allow(dead_code)]
enum All {
    All,
}

//! How workflows stand: pause, resume, archive; and those that need a person.

use std::sync::Arc;

use axum::extract::State;
use holdpoint_db::{AttentionRow, HeldWorkflow, RUNS_TOLD_AT_ONCE, Store, WorkflowRow};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{ErrorType, Failure, Reason, WorkflowState};
use holdpoint_engine::time::Timestamp;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{NoMembers, RawBody};
use crate::openapi::Operation;
use crate::params::{Params, Segments};
use crate::problem::{Answer, Problem};
use crate::view;

/// How a workflow stands.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Standing {
    name: String,
    state: WorkflowState,
    /// Since when.
    changed_at: Timestamp,
    /// The key that changed it; none where the end of a run did.
    changed_by: Option<String>,
    /// Runs that failed for what the workflow says itself, since the last that completed.
    logic_failures: i32,
    /// Whether those were so many that a person is told.
    escalated: bool,
    /// Whether a final failure stopped its schedule until `resume` or a new version.
    schedule_stopped: bool,
    /// Whether its latest production run failed so that a person has to look.
    needs_attention: bool,
}

impl From<WorkflowRow> for Standing {
    fn from(row: WorkflowRow) -> Self {
        Self {
            name: row.name,
            state: row.state,
            changed_at: row.changed_at,
            changed_by: row.changed_by,
            logic_failures: row.logic_failures,
            escalated: row.escalated,
            schedule_stopped: row.schedule_stopped,
            needs_attention: row.attention,
        }
    }
}

/// `POST /v1/workflows/{name}/pause`.
pub async fn pause(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    change(&app, caller, name, &body, WorkflowState::Paused).await
}

/// `POST /v1/workflows/{name}/resume`.
pub async fn resume(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    change(&app, caller, name, &body, WorkflowState::Active).await
}

/// `POST /v1/workflows/{name}/archive`.
pub async fn archive(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    change(&app, caller, name, &body, WorkflowState::Archived).await
}

/// The state first: from then on nothing begins. Then the runs that were there end, each by a
/// transaction of its own.
async fn change(
    app: &Arc<App>,
    caller: Caller,
    name: String,
    body: &RawBody,
    state: WorkflowState,
) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    let (scope, by, wanted) = (caller.scope.clone(), caller.key.clone(), name.clone());
    let row = app.write(move |store| store.workflow_state(&scope, &wanted, state, &by)).await??;
    let row = row.ok_or_else(|| Problem::not_found("workflow", &name))?;
    if state != WorkflowState::Active {
        let since = row.changed_at;
        end_runs(app, HeldWorkflow { scope: caller.scope, name, by: caller.key, since }).await?;
    }
    Ok(view::json(StatusCode::OK, &Standing::from(row)))
}

/// As many as are told at once; the sweep tells the others, and all whom nobody tells because
/// this process dies here.
async fn end_runs(app: &Arc<App>, held: HeldWorkflow) -> Answer<()> {
    let of = held.clone();
    let find = move |store: &dyn Store| store.workflow_active(&of.scope, &of.name, RUNS_TOLD_AT_ONCE);
    let active = app.write(find).await??;
    let all = active.len() < RUNS_TOLD_AT_ONCE;
    for run in active {
        let (key, by) = (run.clone(), held.by.clone());
        if let Some(acted) = app.write(move |store| store.run_end_paused(&key, &by)).await?? {
            app.tell(run, &acted);
        }
        holdpoint_db::failpoint::hit("api.pause.between");
    }
    if all {
        app.write(move |store| store.workflow_ended_runs(&held)).await??;
    }
    Ok(())
}

fn state_doc(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(id, summary)
        .optional_body::<NoMembers>()
        .answer::<Standing>(200, "How the workflow stands now.")
}

/// What pause takes and answers.
pub fn pause_doc() -> Operation {
    state_doc(
        "workflow_pause",
        "Nothing of it is started or scheduled any more; a run that goes on ends at its next step as `cancelled`, reason `paused`.",
    )
}

/// What resume takes and answers.
pub fn resume_doc() -> Operation {
    state_doc(
        "workflow_resume",
        "It is active again, its schedule goes on; the counter of its failures stays.",
    )
}

/// What archive takes and answers.
pub fn archive_doc() -> Operation {
    state_doc("workflow_archive", "As pausing, for good: until `resume`.")
}

/// A workflow whose latest production run needs a person.
#[derive(Debug, Serialize, JsonSchema)]
struct NeedsAttention {
    workflow: String,
    state: WorkflowState,
    execution_id: ExecutionId,
    reason: Reason,
    error: Failure,
    /// How often it was tried, with this run.
    attempts: i32,
    failed_at: Timestamp,
}

impl From<AttentionRow> for NeedsAttention {
    fn from(row: AttentionRow) -> Self {
        Self {
            workflow: row.workflow,
            state: row.state,
            execution_id: row.execution,
            reason: row.reason,
            error: row.error,
            attempts: row.attempt,
            failed_at: row.failed_at,
        }
    }
}

#[derive(Debug, Serialize, JsonSchema)]
struct AttentionGroup {
    error_type: ErrorType,
    /// How many of this page.
    count: usize,
    workflows: Vec<NeedsAttention>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Attention {
    /// How many workflows there are, on this page and on others; no more than 10,000 are counted.
    total: usize,
    attention: Vec<AttentionGroup>,
    next_cursor: Option<String>,
}

/// `GET /v1/attention`.
pub async fn attention(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let limit = params.limit(50, 1_000)?;
    let after = params.text("cursor");
    params.end()?;
    // It tells of everybody's runs: who sees an end user's alone sees none of it.
    if caller.end_user.is_some() {
        return Ok(view::ok(&Attention { total: 0, attention: Vec::new(), next_cursor: None }));
    }
    let (scope, is_first) = (caller.scope.clone(), after.is_none());
    let mut rows = app.read(move |store| store.attention_list(&scope, after.as_deref(), limit + 1)).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.workflow.clone());
    let total = if is_first && !more {
        rows.len()
    } else {
        app.read(move |store| store.attention_count(&caller.scope)).await?
    };
    let mut groups: Vec<AttentionGroup> = Vec::new();
    for row in rows {
        let error_type = row.error.kind;
        let row = NeedsAttention::from(row);
        match groups.iter_mut().find(|group| group.error_type == error_type) {
            Some(group) => group.workflows.push(row),
            None => groups.push(AttentionGroup { error_type, count: 0, workflows: vec![row] }),
        }
    }
    groups.iter_mut().for_each(|group| group.count = group.workflows.len());
    groups.sort_by_key(|group| group.error_type);
    Ok(view::ok(&Attention { total, attention: groups, next_cursor }))
}

/// What attention takes and answers.
pub fn attention_doc() -> Operation {
    Operation::new(
        "attention_list",
        "Workflows whose latest production run failed so that a person has to look, one entry each, grouped by the error's type.",
    )
    .page("50 by default, 1000 at most.")
    .answer::<Attention>(200, "Groups in the order of the list of types, workflows by name.")
}

/// `POST /v1/attention/{workflow}/acknowledge`.
pub async fn acknowledge(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    let (scope, by, wanted) = (caller.scope.clone(), caller.key, name.clone());
    if !app.write(move |store| store.attention_acknowledge(&scope, &wanted, &by)).await?? {
        return Err(Problem::not_found("workflow that needs attention", &name));
    }
    let scope = caller.scope;
    let wanted = name.clone();
    let row = app.read(move |store| store.workflow_get(&scope, &wanted)).await?;
    Ok(view::ok(&Standing::from(row.ok_or_else(|| Problem::not_found("workflow", &name))?)))
}

/// What acknowledge takes and answers.
pub fn acknowledge_doc() -> Operation {
    Operation::new("attention_acknowledge", "Takes a workflow off the list until its next failure.")
        .optional_body::<NoMembers>()
        .answer::<Standing>(200, "How the workflow stands.")
}

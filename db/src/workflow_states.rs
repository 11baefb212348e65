//! How workflows stand: what people say of them. What the ends of runs say is written in
//! `workflow_end.rs`.

use std::time::Duration;

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, Failure, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::audit;
use crate::conn::Conn;
use crate::row::Row;
use crate::session::micros;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::workflow_runs::expression;
use crate::workflow_types::*;

/// The first version of a name in use makes the row. What is left of a workflow that was deleted
/// under this name counts for nothing.
pub(crate) fn begin(conn: &mut Conn, scope: &Scope, name: &str, now: Timestamp) -> StoreResult<()> {
    conn.rows(
        "INSERT INTO workflows (tenant, project, name, changed_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (tenant, project, name) DO UPDATE SET
           state = 'active', changed_at = excluded.changed_at, changed_by = NULL, logic_failures = 0, escalated = false,
           schedule_stopped = false, attention = false, latest = NULL, acknowledged_at = NULL, acknowledged_by = NULL,
           ending = NULL",
        &binds![&*scope.tenant, &*scope.project, name, now],
    )
    .map(drop)
}

/// Waits for the ends of runs that look at the workflow now: those after see that it is deleted.
pub(crate) fn delete(conn: &mut Conn, scope: &Scope, name: &str) -> StoreResult<()> {
    conn.rows(
        "SELECT e.name FROM workflows e WHERE e.tenant = ? AND e.project = ? AND e.name = ? @lock",
        &binds![&*scope.tenant, &*scope.project, name],
    )
    .map(drop)
}

/// A new version ends maintenance, and lets the schedule go on; what a person said stays.
pub(crate) fn new_version(conn: &mut Conn, scope: &Scope, name: &str, now: Timestamp) -> StoreResult<()> {
    conn.rows(
        "INSERT INTO workflows (tenant, project, name, changed_at) VALUES (?, ?, ?, ?)
         ON CONFLICT (tenant, project, name) DO UPDATE SET
           changed_at = CASE WHEN workflows.state = 'maintenance' THEN excluded.changed_at ELSE workflows.changed_at END,
           state = CASE WHEN workflows.state = 'maintenance' THEN 'active' ELSE workflows.state END,
           schedule_stopped = false",
        &binds![&*scope.tenant, &*scope.project, name, now],
    )
    .map(drop)
}

const COLUMNS: &str = "e.name, e.state, e.changed_at, e.changed_by, e.logic_failures, e.escalated,
    e.schedule_stopped, e.attention FROM workflows e";
pub(crate) const IN_USE: &str =
    "EXISTS (SELECT 1 FROM definition_heads h WHERE h.tenant = e.tenant AND h.project = e.project
    AND h.kind = 'workflow' AND h.name = e.name AND h.deleted_at IS NULL)";

fn read_workflow(mut row: Row) -> StoreResult<WorkflowRow> {
    Ok(WorkflowRow {
        name: row.text()?,
        state: row.word()?,
        changed_at: row.time()?,
        changed_by: row.opt_text()?,
        logic_failures: row.int()?,
        escalated: row.bool()?,
        schedule_stopped: row.bool()?,
        attention: row.bool()?,
    })
}

/// How a workflow stands; `None` for a name that is not in use.
pub(crate) fn workflow_get(conn: &mut Conn, scope: &Scope, name: &str) -> StoreResult<Option<WorkflowRow>> {
    let text = format!("SELECT {COLUMNS} WHERE e.tenant = ? AND e.project = ? AND e.name = ? AND {IN_USE}");
    conn.row(&text, &binds![&*scope.tenant, &*scope.project, name])?.map(read_workflow).transpose()
}

/// How those of these that are in use stand; in no order.
pub(crate) fn workflows_get(
    conn: &mut Conn,
    scope: &Scope,
    names: &[String],
) -> StoreResult<Vec<WorkflowRow>> {
    let text = format!(
        "WITH u(t, p, n) AS (@u) SELECT {COLUMNS} JOIN u ON e.tenant = u.t AND e.project = u.p AND e.name = u.n
         WHERE {IN_USE}"
    );
    let rows: Vec<_> = names.iter().map(|name| binds![&*scope.tenant, &*scope.project, name]).collect();
    conn.each(&text, &rows, &[])?.into_iter().map(read_workflow).collect()
}

/// Changes the state. The lock keeps starts out that have looked at it before.
pub(crate) fn workflow_state_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    state: WorkflowState,
    by: &str,
) -> StoreResult<Option<WorkflowRow>> {
    let (tenant, project) = (&*scope.tenant, &*scope.project);
    conn.rows(
        "SELECT e.name FROM workflows e WHERE e.tenant = ? AND e.project = ? AND e.name = ? @lock",
        &binds![tenant, project, name],
    )?;
    let active = state == WorkflowState::Active;
    let text = format!(
        "UPDATE workflows AS e SET state = ?, changed_at = (SELECT hp_now()), changed_by = ?,
           schedule_stopped = CASE WHEN ? THEN false ELSE schedule_stopped END,
           ending = CASE WHEN ? THEN NULL ELSE ? END
         WHERE e.tenant = ? AND e.project = ? AND e.name = ? AND {IN_USE} AND (e.state <> ? OR (? AND schedule_stopped))
         RETURNING name"
    );
    let [wanted, by_whom] = binds![state.as_str(), by];
    let values = [wanted, by_whom, active.into(), active.into(), by.into()];
    let row = binds![tenant, project, name, state.as_str(), active];
    let changed = conn.rows(&text, &[values.as_slice(), row.as_slice()].concat())?;
    if !changed.is_empty() {
        audit::note(conn, scope, by, act_of(state), name, json!({}))?;
    }
    workflow_get(conn, scope, name)
}

fn act_of(state: WorkflowState) -> AuditAct {
    match state {
        WorkflowState::Active => AuditAct::WorkflowResumed,
        WorkflowState::Paused => AuditAct::WorkflowPaused,
        WorkflowState::Maintenance => AuditAct::WorkflowMaintenance,
        WorkflowState::Archived => AuditAct::WorkflowArchived,
    }
}

/// Its production runs that are not over.
pub(crate) fn workflow_active(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    limit: usize,
) -> StoreResult<Vec<ExecutionKey>> {
    let rows = conn.rows(
        "SELECT k.tenant, k.project, k.run FROM workflow_runs k
         WHERE k.tenant || '/' || k.project || '/' || k.workflow = ? LIMIT ?",
        &binds![&expression(scope, name), limit as i64],
    )?;
    rows.into_iter().map(|mut row| row.key()).collect()
}

/// Workflows that were held longer than `since` ago, and whose runs may not all have been told.
pub(crate) fn workflows_ending(
    conn: &mut Conn,
    since: Duration,
    limit: usize,
) -> StoreResult<Vec<HeldWorkflow>> {
    let rows = conn.rows(
        "SELECT e.tenant, e.project, e.name, e.ending, e.changed_at FROM workflows e
         WHERE e.ending IS NOT NULL AND e.changed_at <= (SELECT hp_now()) - ? ORDER BY e.changed_at LIMIT ?",
        &binds![micros(since), limit as i64],
    )?;
    let read = |mut row: Row| {
        let scope = row.scope()?;
        Ok(HeldWorkflow { scope, name: row.text()?, by: row.text()?, since: row.time()? })
    };
    rows.into_iter().map(read).collect()
}

/// All runs of a held workflow were told. One that was let go on and held again since has others.
pub(crate) fn workflow_ended_runs(conn: &mut Conn, held: &HeldWorkflow) -> StoreResult<()> {
    conn.rows(
        "UPDATE workflows SET ending = NULL WHERE tenant = ? AND project = ? AND name = ? AND changed_at = ?",
        &binds![&*held.scope.tenant, &*held.scope.project, &held.name, held.since],
    )
    .map(drop)
}

/// What makes a workflow one that a person has to look at.
pub(crate) const NEEDS_PERSON: &str =
    "e.attention AND e.acknowledged_at IS NULL AND e.state IN ('active','maintenance')";
const ATTENTION: &str = "
    SELECT w.name, w.state, w.latest, x.reason, i.error_type, i.error_message, i.attempt, i.finished_at
    FROM (SELECT * FROM workflows e WHERE e.tenant || '/' || e.project = ? AND e.name > ?";
const ATTENTION_END: &str = " ORDER BY e.name LIMIT ?) w
    JOIN executions x ON x.tenant = w.tenant AND x.project = w.project AND x.id = w.latest
    JOIN execution_info i ON i.tenant = w.tenant AND i.project = w.project AND i.id = w.latest
    ORDER BY w.name";

/// The workflows that need a person, by name.
pub(crate) fn attention_list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<&str>,
    limit: usize,
) -> StoreResult<Vec<AttentionRow>> {
    let owner = format!("{}/{}", scope.tenant, scope.project);
    let text = format!("{ATTENTION} AND {NEEDS_PERSON} AND {IN_USE}{ATTENTION_END}");
    let rows = conn.rows(&text, &binds![&owner, after.unwrap_or(""), limit as i64])?;
    rows.into_iter().map(read_attention).collect()
}

/// How many there are of them, up to [`ATTENTION_COUNTED`].
pub(crate) fn attention_count(conn: &mut Conn, scope: &Scope) -> StoreResult<usize> {
    let owner = format!("{}/{}", scope.tenant, scope.project);
    let text = format!("SELECT count(*) FROM ({ATTENTION} AND {NEEDS_PERSON} AND {IN_USE}{ATTENTION_END}) c");
    let row = conn.row(&text, &binds![&owner, "", ATTENTION_COUNTED as i64])?;
    let count = row.map(|mut row| row.big()).transpose()?.unwrap_or_default();
    Ok(usize::try_from(count).unwrap_or_default())
}

fn read_attention(mut row: Row) -> StoreResult<AttentionRow> {
    Ok(AttentionRow {
        workflow: row.text()?,
        state: row.word()?,
        execution: ExecutionId(row.id()?),
        reason: row.word()?,
        error: Failure::new(row.word()?, row.opt_text()?.unwrap_or_default()),
        attempt: row.int()?,
        failed_at: row.time()?,
    })
}

/// Takes a workflow off the list until its next failure.
pub(crate) fn attention_acknowledge(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    by: &str,
) -> StoreResult<bool> {
    // Compared in a form that the index over those that need a person does not offer.
    let text = format!(
        "UPDATE workflows AS e SET acknowledged_at = coalesce(acknowledged_at, (SELECT hp_now())),
           acknowledged_by = coalesce(acknowledged_by, ?)
         WHERE e.tenant = ? AND e.project = ? AND e.name = ?
           AND CASE WHEN attention THEN 1 ELSE 0 END = 1 AND {IN_USE} RETURNING name"
    );
    let found = !conn.rows(&text, &binds![by, &*scope.tenant, &*scope.project, name])?.is_empty();
    if found {
        audit::note(conn, scope, by, AuditAct::AttentionAcknowledged, name, json!({}))?;
    }
    Ok(found)
}

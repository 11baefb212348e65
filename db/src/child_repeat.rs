//! Children of runs that repeat others. A child that was begun before goes on from its own journal,
//! as its parent does: what it finished is taken over, what nobody knows stays unknown, and its
//! calls keep their keys.

use holdpoint_engine::digest::child_id;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::retry_run::carry_over;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::{journals, key_row};
use crate::executions::execution_get;
use crate::journal;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ExecutionRow, NewExecution, StoreError};

/// The child of a step in the latest of the runs that this one repeats; `None` where none of them
/// came so far.
pub(crate) fn child_before(
    conn: &mut Conn,
    parent: &ExecutionKey,
    first_run: ExecutionId,
    step: i32,
) -> StoreResult<Option<ExecutionRow>> {
    let scope = &parent.scope;
    let rows = conn.rows(
        "SELECT run FROM run_retries WHERE tenant = ? AND project = ? AND retry_of = ? ORDER BY attempt DESC",
        &binds![&*scope.tenant, &*scope.project, first_run.0],
    )?;
    let mut runs =
        rows.into_iter().map(|mut row| Ok(ExecutionId(row.id()?))).collect::<StoreResult<Vec<_>>>()?;
    runs.push(first_run);
    for run in runs.into_iter().skip_while(|run| *run != parent.id).skip(1) {
        if let Some(child) = execution_get(conn, scope, child_id(run, step))? {
            return Ok(Some(child));
        }
    }
    Ok(None)
}

/// New executions that go on from where others ended have their lines from the beginning.
pub(crate) fn take_over<'a>(conn: &mut Conn, new: impl Iterator<Item = &'a NewExecution>) -> StoreResult<()> {
    for new in new {
        if let Some(from) = new.extras.goes_on_from {
            take_over_one(conn, &new.key, from)?;
        }
    }
    Ok(())
}

fn take_over_one(conn: &mut Conn, key: &ExecutionKey, from: ExecutionId) -> StoreResult<()> {
    let from = ExecutionKey { scope: key.scope.clone(), id: from };
    let lines = journals(conn, std::slice::from_ref(&from))?.remove(&from).unwrap_or_default();
    let lines = carry_over(&lines).map_err(|error| StoreError::Corrupt(format!("{}: {error}", from.id)))?;
    journal::copy_lines(conn, lines.iter().map(|line| (key, line)))?;
    let last_event = lines.iter().filter_map(|line| line.event).max().unwrap_or_default();
    let [tenant, project, id] = key_row(key);
    let [seq, event] = binds![lines.len() as i64, last_event];
    conn.rows(
        "UPDATE executions SET last_seq = ?, last_event = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[seq, event, tenant, project, id],
    )?;
    let old = execution_get(conn, &from.scope, from.id)?;
    let old = old.ok_or_else(|| StoreError::Corrupt(format!("{} is gone", from.id)))?;
    let [first, attempt] = binds![old.retry_of.unwrap_or(old.key.id).0, old.attempt.saturating_add(1)];
    conn.rows(
        "UPDATE execution_info SET retry_of = ?, attempt = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[first, attempt, tenant, project, id],
    )?;
    // So its own children are found in the runs before. A child that was late on its way may have
    // been that attempt already: this one runs none the less.
    let name = Bind::from(&old.name);
    conn.rows(
        "INSERT INTO run_retries (tenant, project, workflow, retry_of, attempt, run, due_at, created_at)
         VALUES (?, ?, ?, ?, ?, ?, (SELECT hp_now()), (SELECT hp_now()))
         ON CONFLICT (tenant, project, retry_of, attempt) DO NOTHING",
        &[tenant, project, name, first, attempt, id],
    )
    .map(drop)
}

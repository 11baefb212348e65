//! What classic runs said goes in its time: conversations that no execution is left of.
//!
//! Such a conversation has the time of its last message in `said_at`, which an index leads to.
//! While executions of it are kept it has none: the removal of the last one decides, and writes it.

use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;

use crate::conn::Conn;
use crate::retention_types::DueScope;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;

pub(crate) const FOUND: &str = "
    SELECT e.id, e.active FROM conversations e WHERE e.tenant || '/' || e.project = ? AND e.said_at <= ?
    ORDER BY e.said_at LIMIT ?";

/// How many conversations a pass would look at, up to so many.
pub(crate) fn said_count(conn: &mut Conn, due: &DueScope, limit: usize) -> StoreResult<usize> {
    let Some(before) = due.said_before else { return Ok(0) };
    let owner = due.scope.to_string();
    Ok(conn.rows(FOUND, &binds![&owner, before, limit as i64])?.len())
}

/// One transaction's work; how many were looked at, and how many went.
pub(crate) fn said_remove_in_txn(
    conn: &mut Conn,
    due: &DueScope,
    limit: usize,
) -> StoreResult<(usize, usize)> {
    let Some(before) = due.said_before else { return Ok((0, 0)) };
    let owner = due.scope.to_string();
    let found = conn.rows(&format!("{FOUND} @skip"), &binds![&owner, before, limit as i64])?;
    let looked_at = found.len();
    let mut removed = 0;
    for mut row in found {
        let (id, active) = (row.text()?, row.opt_id()?);
        if active.is_some() || has_executions(conn, &due.scope, &id)? {
            said_at(conn, &due.scope, &id, None)?;
        } else {
            remove(conn, &due.scope, &id)?;
            removed += 1;
        }
    }
    Ok((looked_at, removed))
}

fn own<'a>(scope: &'a Scope, id: &'a str) -> [Bind<'a>; 3] {
    binds![&*scope.tenant, &*scope.project, id]
}

fn said_at(conn: &mut Conn, scope: &Scope, id: &str, at: Option<Timestamp>) -> StoreResult<()> {
    let [tenant, project, id] = own(scope, id);
    conn.rows(
        "UPDATE conversations SET said_at = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[at.into(), tenant, project, id],
    )
    .map(drop)
}

fn remove(conn: &mut Conn, scope: &Scope, id: &str) -> StoreResult<()> {
    let own = own(scope, id);
    conn.rows("DELETE FROM messages WHERE tenant = ? AND project = ? AND conversation = ?", &own)?;
    conn.rows("DELETE FROM conversations WHERE tenant = ? AND project = ? AND id = ?", &own).map(drop)
}

fn has_executions(conn: &mut Conn, scope: &Scope, id: &str) -> StoreResult<bool> {
    let left = conn.row(
        "SELECT 1 FROM execution_info i WHERE i.tenant = ? AND i.project = ? AND i.conversation_id = ? LIMIT 1",
        &own(scope, id),
    )?;
    Ok(left.is_some())
}

/// Executions of a conversation went: where none is left it goes too, or, if a classic run spoke
/// last, when that is old enough.
pub(crate) fn after_executions(conn: &mut Conn, scope: &Scope, id: &str) -> StoreResult<()> {
    let row = conn.row(
        "SELECT e.active FROM conversations e WHERE e.tenant = ? AND e.project = ? AND e.id = ? @lock",
        &own(scope, id),
    )?;
    let Some(mut row) = row else { return Ok(()) };
    if row.opt_id()?.is_some() || has_executions(conn, scope, id)? {
        return Ok(());
    }
    match classic_last(conn, scope, id)? {
        Some(at) => said_at(conn, scope, id, Some(at)),
        None => remove(conn, scope, id),
    }
}

/// When the last message came, where it is a classic run's.
fn classic_last(conn: &mut Conn, scope: &Scope, id: &str) -> StoreResult<Option<Timestamp>> {
    let last = conn.row(
        "SELECT m.execution, m.at FROM messages m WHERE m.tenant = ? AND m.project = ? AND m.conversation = ?
         ORDER BY m.n DESC LIMIT 1",
        &own(scope, id),
    )?;
    let Some(mut row) = last else { return Ok(None) };
    let (execution, at) = (row.opt_id()?, row.time()?);
    Ok(execution.is_none().then_some(at))
}

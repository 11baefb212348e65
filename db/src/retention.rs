//! How long a project keeps finished executions, and the walk that finds those whose time is
//! over.
//!
//! The walk follows the order of creation, by the index that lists use, and keeps its place in
//! a row. An execution is at least as old as its end, so what is younger than the bound need
//! not be looked at; and an index over the end would make each end cost more.

use std::time::Duration;

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::AuditAct;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;
use uuid::Uuid;

use crate::audit;
use crate::conn::Conn;
use crate::retention_types::*;
use crate::row::Row;
use crate::session::{micros, now};
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;

const SELECT: &str = "
    SELECT e.finished_after, e.forever, e.require_export, e.exported_before, e.updated_by, e.updated_at,
      e.cursor_at, e.cursor_id
    FROM retention e WHERE e.tenant = ? AND e.project = ?";

/// A row and the place that a pass kept.
fn read(mut row: Row) -> StoreResult<(RetentionRow, Option<Place>)> {
    let (finished_after, forever, require_export) = (row.opt_big()?, row.bool()?, row.bool()?);
    let kept = match finished_after {
        _ if forever => Kept::Forever,
        Some(after) => Kept::For(Duration::from_micros(after.unsigned_abs())),
        None => Kept::AsConfigured,
    };
    let settings = RetentionSettings { kept, require_export };
    let exported_before = row.opt_time()?;
    let updated = row.opt_text()?.zip(row.opt_time()?);
    let (at, id) = (row.time()?, row.opt_id()?);
    Ok((RetentionRow { settings, exported_before, updated }, id.map(|id| (at, ExecutionId(id)))))
}

fn select(conn: &mut Conn, scope: &Scope, lock: &str) -> StoreResult<(RetentionRow, Option<Place>)> {
    let row = conn.row(&format!("{SELECT} {lock}"), &owner(scope))?;
    Ok(row.map(read).transpose()?.unwrap_or_default())
}

fn owner(scope: &Scope) -> [Bind<'_>; 2] {
    binds![&*scope.tenant, &*scope.project]
}

/// How long a project keeps what is finished.
pub(crate) fn retention_get(conn: &mut Conn, scope: &Scope) -> StoreResult<RetentionRow> {
    Ok(select(conn, scope, "")?.0)
}

/// One transaction's work: changes it.
pub(crate) fn retention_put_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    settings: RetentionSettings,
    by: &str,
) -> StoreResult<RetentionRow> {
    let finished_after = match settings.kept {
        Kept::For(length) => Some(micros(length)),
        Kept::AsConfigured | Kept::Forever => None,
    };
    let [tenant, project] = owner(scope);
    let [after, forever, export] =
        binds![finished_after, settings.kept == Kept::Forever, settings.require_export];
    conn.rows(
        "INSERT INTO retention (tenant, project, finished_after, forever, require_export, updated_by, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, (SELECT hp_now()))
         ON CONFLICT (tenant, project) DO UPDATE SET finished_after = excluded.finished_after,
           forever = excluded.forever, require_export = excluded.require_export,
           updated_by = excluded.updated_by, updated_at = excluded.updated_at",
        &[tenant, project, after, forever, export, Bind::from(by)],
    )?;
    let row = retention_get(conn, scope)?;
    let kept = match settings.kept {
        Kept::For(length) => json!(length.as_secs()),
        Kept::Forever => json!("forever"),
        Kept::AsConfigured => json!(null),
    };
    let details = json!({"finished_after_seconds": kept, "require_export": settings.require_export});
    audit::note(conn, scope, by, AuditAct::RetentionPut, "retention", details)?;
    Ok(row)
}

/// One transaction's work: moves the bound of what was exported on, never back, and never over
/// something that was not.
pub(crate) fn export_note_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<Timestamp>,
    before: Timestamp,
    by: &str,
) -> StoreResult<Exported> {
    let [tenant, project] = owner(scope);
    conn.rows(
        "INSERT INTO retention (tenant, project) VALUES (?, ?) ON CONFLICT DO NOTHING",
        &[tenant, project],
    )?;
    let (row, _) = select(conn, scope, "@lock")?;
    let known = row.exported_before;
    if after.is_some_and(|after| known.is_none_or(|known| known < after)) {
        return Ok(Exported::Gap { exported_before: known });
    }
    let noted = known.map_or(before, |known| known.max(before));
    conn.rows(
        "UPDATE retention SET exported_before = ?, updated_by = ?, updated_at = (SELECT hp_now())
         WHERE tenant = ? AND project = ?",
        &[noted.into(), by.into(), tenant, project],
    )?;
    let details = json!({"exported_before": noted});
    audit::note(conn, scope, by, AuditAct::RetentionPut, "retention", details)?;
    Ok(Exported::Noted(noted))
}

/// A project whose finished executions may go; `None` where none may.
pub(crate) fn due(
    conn: &mut Conn,
    scope: &Scope,
    default: Option<Duration>,
) -> StoreResult<Option<DueScope>> {
    let (row, place) = select(conn, scope, "")?;
    let kept = match row.settings.kept {
        Kept::For(length) => Some(length),
        Kept::AsConfigured => default,
        Kept::Forever => None,
    };
    let Some(kept) = kept else { return Ok(None) };
    let mut before = Timestamp::from_micros(now(conn)?.micros().saturating_sub(micros(kept)));
    let said_before = Some(before).filter(|_| !row.settings.require_export);
    if row.settings.require_export {
        let Some(exported) = row.exported_before else { return Ok(None) };
        // What ended at the very bound is not among what was exported.
        before = before.min(Timestamp::from_micros(exported.micros() - 1));
    }
    Ok(Some(DueScope { scope: scope.clone(), before, said_before, place }))
}

/// Those that said how long, by name.
const SAID: &str = "
    SELECT r.tenant, r.project FROM retention r
    WHERE r.finished_after IS NOT NULL AND r.tenant || '/' || r.project > ?
    ORDER BY r.tenant || '/' || r.project LIMIT ?";
/// The next one that has executions at all, or conversations of classic runs: one step over the
/// index that lists use, and one over that of what was said.
pub(crate) const NEXT: &str = "
    SELECT n.tenant, n.project FROM (
      SELECT * FROM (SELECT i.tenant, i.project FROM execution_info i WHERE i.tenant || '/' || i.project > ?
        ORDER BY i.tenant || '/' || i.project, i.created_at DESC, i.id DESC LIMIT 1) AS a
      UNION ALL
      SELECT * FROM (SELECT c.tenant, c.project FROM conversations c
        WHERE c.said_at IS NOT NULL AND c.tenant || '/' || c.project > ?
        ORDER BY c.tenant || '/' || c.project, c.said_at LIMIT 1) AS b) AS n
    ORDER BY n.tenant || '/' || n.project LIMIT 1";

/// One transaction's work: the next projects, from where the last call stopped.
pub(crate) fn retention_turn_in_txn(
    conn: &mut Conn,
    default: Option<Duration>,
    limit: usize,
) -> StoreResult<Turn> {
    let row = conn.row("SELECT e.after FROM retention_walk e WHERE e.id = 1 @lock", &[])?;
    let mut row = row.ok_or_else(|| StoreError::Corrupt("retention has no place to go on".to_owned()))?;
    let scopes = scopes_after(conn, row.text()?, default.is_some(), limit)?;
    let is_last = scopes.len() < limit;
    let after = scopes.last().filter(|_| !is_last);
    let after = after.map(Scope::to_string).unwrap_or_default();
    conn.rows("UPDATE retention_walk SET after = ? WHERE id = 1", &binds![&after])?;
    let mut found = Vec::with_capacity(scopes.len());
    for scope in &scopes {
        found.extend(due(conn, scope, default)?);
    }
    Ok(Turn { due: found, is_last })
}

fn scopes_after(conn: &mut Conn, after: String, all: bool, limit: usize) -> StoreResult<Vec<Scope>> {
    if !all {
        let rows = conn.rows(SAID, &binds![&after, limit as i64])?;
        return rows.into_iter().map(|mut row| row.scope()).collect();
    }
    let (mut scopes, mut after): (Vec<Scope>, String) = (Vec::new(), after);
    while scopes.len() < limit {
        let Some(mut row) = conn.row(NEXT, &binds![&after, &after])? else { break };
        let scope = row.scope()?;
        after = scope.to_string();
        scopes.push(scope);
    }
    Ok(scopes)
}

pub(crate) const WALK: &str = "
    SELECT i.tenant, i.project, i.id, i.created_at, i.finished_at FROM execution_info i
    WHERE i.tenant || '/' || i.project = ? AND i.created_at <= ? AND (i.created_at, i.id) > (?, ?)
    ORDER BY i.created_at, i.id LIMIT ?";

/// An execution that was looked at.
struct Seen {
    key: ExecutionKey,
    place: Place,
    finished_at: Option<Timestamp>,
}

/// The next executions that began by then, and whether there may be more.
fn walk(
    conn: &mut Conn,
    scope: &Scope,
    until: Timestamp,
    place: Option<Place>,
    limit: usize,
) -> StoreResult<(Vec<Seen>, Option<Place>)> {
    let owner = scope.to_string();
    let (at, id) = place.map_or((Timestamp::default(), Uuid::nil()), |(at, id)| (at, id.0));
    let rows = conn.rows(WALK, &binds![&owner, until, at, id, limit as i64])?;
    let read = |mut row: Row| {
        let (key, created_at) = (row.key()?, row.time()?);
        Ok(Seen { place: (created_at, key.id), key, finished_at: row.opt_time()? })
    };
    let seen: Vec<Seen> = rows.into_iter().map(read).collect::<StoreResult<_>>()?;
    let next = seen.last().map(|seen| seen.place).filter(|_| seen.len() >= limit);
    Ok((seen, next))
}

/// Looks at the next executions.
pub(crate) fn retention_walk(conn: &mut Conn, due: &DueScope, limit: usize) -> StoreResult<Walked> {
    let (seen, next) = walk(conn, &due.scope, due.before, due.place, limit)?;
    let over = seen.into_iter().filter(|seen| seen.finished_at.is_some_and(|at| at <= due.before));
    Ok(Walked { finished: over.map(|seen| seen.key).collect(), next })
}

/// Finished executions to export.
pub(crate) fn export_walk(conn: &mut Conn, scope: &Scope, asked: &ExportWalk) -> StoreResult<ExportPage> {
    let (seen, next) = walk(conn, scope, asked.finished_before, asked.place, asked.limit)?;
    let fits =
        |at: Timestamp| at < asked.finished_before && asked.finished_after.is_none_or(|after| at >= after);
    let over = seen.into_iter().filter(|seen| seen.finished_at.is_some_and(fits));
    Ok(ExportPage { finished: over.map(|seen| (seen.place, seen.key)).collect(), next })
}

/// Keeps the place for the next pass.
pub(crate) fn retention_place(conn: &mut Conn, scope: &Scope, place: Option<Place>) -> StoreResult<()> {
    let [tenant, project] = owner(scope);
    let [at, id] = binds![place.map_or(0, |(at, _)| at.micros()), place.map(|(_, id)| id.0)];
    conn.rows(
        "INSERT INTO retention (tenant, project, cursor_at, cursor_id) VALUES (?, ?, ?, ?)
         ON CONFLICT (tenant, project) DO UPDATE SET cursor_at = excluded.cursor_at, cursor_id = excluded.cursor_id",
        &[tenant, project, at, id],
    )
    .map(drop)
}

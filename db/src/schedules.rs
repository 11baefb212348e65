//! Schedules: what is started by itself, and where its ticks stand. A row is changed under its
//! lock; what its ticks do stands in `schedule_tick.rs`.

use std::time::Duration;

use holdpoint_engine::ids::{ExecutionId, ScheduleId};
use holdpoint_engine::schedule::own_id;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, DefinitionKind};
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_engine::workflow::document::{Schedule, Workflow};
use serde_json::json;

use crate::audit;
use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::schedule_types::*;
use crate::session::{micros, now};
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;

/// After so long a pass looks again at a schedule that waits for a run's end: a note of the
/// end may have been lost.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_secs(60);

const SCHEDULE: &str = "
    SELECT e.tenant, e.project, e.name, e.id, e.owner, e.document, e.anchor, e.paused_at, e.due_at, e.next_tick,
      e.waiting_tick, e.active, e.last_tick, e.last_execution, e.runs, e.missed, e.skipped, e.skipped_at,
      e.skipped_for, e.created_by, e.created_at, e.updated_at
    FROM schedules e WHERE e.tenant = ? AND e.project = ?";

fn read_schedule(mut row: Row) -> StoreResult<ScheduleRow> {
    let key = ScheduleKey { scope: row.scope()?, name: row.text()? };
    let (id, owner, document) = (ScheduleId(row.id()?), row.opt_int()?, row.text()?);
    let document = serde_json::from_str(&document)
        .map_err(|error| StoreError::Corrupt(format!("the schedule {}: {error}", key.name)))?;
    Ok(ScheduleRow {
        key,
        id,
        owner,
        document,
        anchor: row.time()?,
        paused_at: row.opt_time()?,
        due_at: row.opt_time()?,
        next_tick: row.opt_time()?,
        waiting_tick: row.opt_time()?,
        active: row.opt_id()?.map(ExecutionId),
        last: row.opt_time()?.zip(row.opt_id()?.map(ExecutionId)),
        runs: row.big()?,
        missed: row.big()?,
        skipped: row.big()?,
        last_skipped: row.opt_time()?.zip(row.opt_word()?),
        created_by: row.text()?,
        created_at: row.time()?,
        updated_at: row.time()?,
    })
}

fn name_of<'a>(scope: &'a Scope, name: &'a str) -> [Bind<'a>; 3] {
    binds![&*scope.tenant, &*scope.project, name]
}

/// The name of the schedule that a workflow brings: one that nobody else can give.
pub(crate) fn own_name(workflow: &str) -> String {
    format!("workflow:{workflow}")
}

/// One schedule; `how` may add a condition and a lock.
pub(crate) fn schedule_get(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    how: &str,
) -> StoreResult<Option<ScheduleRow>> {
    let text = format!("{SCHEDULE} AND e.name = ? {how}");
    conn.row(&text, &name_of(scope, name))?.map(read_schedule).transpose()
}

/// Those of a project, by name.
pub(crate) fn schedule_list(
    conn: &mut Conn,
    scope: &Scope,
    after: Option<&str>,
    limit: usize,
) -> StoreResult<Vec<ScheduleRow>> {
    let [tenant, project, after] = name_of(scope, after.unwrap_or(""));
    let text = format!("{SCHEDULE} AND e.name > ? ORDER BY e.name LIMIT ?");
    let rows = conn.rows(&text, &[tenant, project, after, Bind::from(limit as i64)])?;
    rows.into_iter().map(read_schedule).collect()
}

/// Makes one, or changes the one of that name.
pub(crate) fn schedule_put_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    put: &PutSchedule,
) -> StoreResult<SchedulePut> {
    if schedule_get(conn, scope, &put.name, "")?.is_none() {
        let row = conn.row(
            "SELECT count(*) FROM schedules WHERE tenant = ? AND project = ? AND owner IS NULL",
            &binds![&*scope.tenant, &*scope.project],
        )?;
        if row.map(|mut row| row.big()).transpose()?.unwrap_or(0) >= MAX_SCHEDULES as i64 {
            return Ok(SchedulePut::Full);
        }
    }
    let is_new = put_in_txn(conn, scope, put, None)?;
    let row = schedule_get(conn, scope, &put.name, "")?
        .ok_or_else(|| StoreError::Corrupt("a schedule that was put is not there".to_owned()))?;
    let details = json!({
        "id": row.id, "target": row.document.target, "kind": row.document.kind, "paused": row.paused_at.is_some(),
    });
    audit::note(conn, scope, &put.by, AuditAct::SchedulePut, &put.name, details)?;
    let row = Box::new(row);
    Ok(if is_new { SchedulePut::New(row) } else { SchedulePut::Changed(row) })
}

/// In the transaction that registers a version of a workflow: its own schedule is made, or
/// changed; where the version has none, it goes. What cannot be read has none.
pub(crate) fn own(
    conn: &mut Conn,
    scope: &Scope,
    (workflow, version): (&str, i32),
    document: &str,
    by: &str,
) -> StoreResult<()> {
    let read = Workflow::load(document, version).ok();
    let Some((schedule, settings)) = read.and_then(|read| Some((read.schedule?, read.settings))) else {
        return disown(conn, scope, workflow);
    };
    let timing = match schedule {
        Schedule::Cron { expression, time_zone } => TimingDocument::Cron { expression, time_zone },
        Schedule::Every(every) => TimingDocument::Every(Span(every)),
        Schedule::After(after) => TimingDocument::After(Span(after)),
    };
    let document = ScheduleDocument {
        kind: DefinitionKind::Workflow,
        target: workflow.to_owned(),
        version: None,
        input: None,
        timing,
        overlap: settings.overlap,
        catch_up: settings.catch_up,
        metadata: "{}".to_owned(),
        labels: Default::default(),
    };
    let id = own_id(scope, workflow, version, now(conn)?);
    let put = PutSchedule { id, name: own_name(workflow), document, paused: None, by: by.to_owned() };
    put_in_txn(conn, scope, &put, Some(version)).map(drop)
}

/// In the transaction that takes a workflow out of use: its own schedule goes.
pub(crate) fn disown(conn: &mut Conn, scope: &Scope, workflow: &str) -> StoreResult<()> {
    let name = own_name(workflow);
    conn.rows("DELETE FROM schedules WHERE tenant = ? AND project = ? AND name = ?", &name_of(scope, &name))
        .map(drop)
}

/// Whether it is new. Of two that make the same name, the second changes it.
fn put_in_txn(conn: &mut Conn, scope: &Scope, put: &PutSchedule, owner: Option<i32>) -> StoreResult<bool> {
    let now = now(conn)?;
    let text =
        serde_json::to_string(&put.document).map_err(|error| StoreError::Refused(error.to_string()))?;
    let [tenant, project, name] = name_of(scope, &put.name);
    let [id, owner, document, after] =
        binds![put.id.0, owner, &text, put.document.timing.after().map(micros)];
    let (by, at) = (Bind::from(&put.by), Bind::from(now));
    let made = conn.rows(
        "INSERT INTO schedules (tenant, project, name, id, owner, document, after_micros, anchor, created_by,
           created_at, updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING name",
        &[tenant, project, name, id, owner, document, after, at, by, at, at],
    )?;
    let before = schedule_get(conn, scope, &put.name, "@lock")?
        .ok_or_else(|| StoreError::Unavailable("a schedule was removed while it was put".to_owned()))?;
    conn.rows(
        "UPDATE schedules SET owner = ?, document = ?, after_micros = ?, created_by = ?, updated_at = ?
         WHERE tenant = ? AND project = ? AND name = ?",
        &[owner, document, after, by, at, tenant, project, name],
    )?;
    let pauses = put.paused.unwrap_or(before.paused_at.is_some());
    let is_new = !made.is_empty();
    if is_new || pauses != before.paused_at.is_some() || before.document.timing != put.document.timing {
        let row = ScheduleRow { document: put.document.clone(), ..before };
        settle(conn, row, pauses, now)?;
    }
    Ok(is_new)
}

/// Begins anew from now, or pauses.
fn settle(conn: &mut Conn, row: ScheduleRow, pauses: bool, now: Timestamp) -> StoreResult<()> {
    let timing = row.document.timing.timing(now)?;
    // What ticks after a run's end waits for that of the active one.
    let waits = row.document.timing.after().is_some() && row.active.is_some();
    let next = if pauses || waits { None } else { timing.first(now) };
    let due = if waits && !pauses { Some(now.plus(LOOK_AGAIN)) } else { next };
    let paused_at = pauses.then(|| row.paused_at.unwrap_or(now));
    let [tenant, project, name] = name_of(&row.key.scope, &row.key.name);
    let [paused_at, due, next, now] = binds![paused_at, due, next, now];
    conn.rows(
        "UPDATE schedules SET anchor = ?, paused_at = ?, due_at = ?, next_tick = ?, waiting_tick = NULL,
           updated_at = ? WHERE tenant = ? AND project = ? AND name = ?",
        &[now, paused_at, due, next, now, tenant, project, name],
    )
    .map(drop)
}

/// Pauses or resumes; one that is as it should be stays as it is.
pub(crate) fn schedule_change_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    change: ScheduleChange,
    by: &str,
) -> StoreResult<Option<ScheduleRow>> {
    let Some(row) = schedule_get(conn, scope, name, "@lock")? else { return Ok(None) };
    let pauses = change == ScheduleChange::Pause;
    if pauses != row.paused_at.is_some() {
        let now = now(conn)?;
        settle(conn, row, pauses, now)?;
        let act = if pauses { AuditAct::SchedulePaused } else { AuditAct::ScheduleResumed };
        audit::note(conn, scope, by, act, name, json!({}))?;
    }
    schedule_get(conn, scope, name, "")
}

/// Removes one that no workflow brings.
pub(crate) fn schedule_delete_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    by: &str,
) -> StoreResult<ScheduleRemoved> {
    let Some(row) = schedule_get(conn, scope, name, "@lock")? else { return Ok(ScheduleRemoved::Missing) };
    if row.owner.is_some() {
        return Ok(ScheduleRemoved::Owned);
    }
    conn.rows("DELETE FROM schedules WHERE tenant = ? AND project = ? AND name = ?", &name_of(scope, name))?;
    audit::note(conn, scope, by, AuditAct::ScheduleDeleted, name, json!({"id": row.id}))?;
    Ok(ScheduleRemoved::Done)
}

pub(crate) const DUE: &str = "
    SELECT s.tenant, s.project, s.name FROM schedules s WHERE s.due_at <= (SELECT hp_now()) ORDER BY s.due_at LIMIT ?";

/// Those that are due, the longest due first.
pub(crate) fn schedules_due(conn: &mut Conn, limit: usize) -> StoreResult<Vec<ScheduleKey>> {
    let rows = conn.rows(DUE, &binds![limit as i64])?;
    let read = |mut row: Row| Ok(ScheduleKey { scope: row.scope()?, name: row.text()? });
    rows.into_iter().map(read).collect()
}

pub(crate) const ENDED: &str = "
    WITH u(t, p, x) AS (@u), n(at) AS MATERIALIZED (SELECT hp_now())
    UPDATE schedules AS s SET active = NULL,
      next_tick = CASE WHEN s.paused_at IS NULL AND s.next_tick IS NULL AND s.after_micros IS NOT NULL
        THEN n.at + s.after_micros ELSE s.next_tick END,
      due_at = CASE WHEN s.paused_at IS NOT NULL THEN NULL WHEN s.waiting_tick IS NOT NULL THEN n.at
        WHEN s.next_tick IS NULL AND s.after_micros IS NOT NULL THEN n.at + s.after_micros ELSE s.due_at END
    FROM u JOIN schedule_runs r ON r.tenant = u.t AND r.project = u.p AND r.execution = u.x CROSS JOIN n
    WHERE s.tenant = r.tenant AND s.project = r.project AND s.name = r.schedule AND s.active = u.x";

/// In the transaction that ends these executions: schedules that waited for one go on.
pub(crate) fn ended(conn: &mut Conn, ended: &[ExecutionKey]) -> StoreResult<()> {
    let rows: Vec<_> = ended.iter().map(key_row).collect();
    conn.each(ENDED, &rows, &[]).map(drop)
}

/// In the transaction that ends a run and makes the one that repeats it: a schedule whose run
/// it was has that one now, until its end.
pub(crate) fn repeated(
    conn: &mut Conn,
    failed: &ExecutionKey,
    first_run: ExecutionId,
    repeat: ExecutionId,
) -> StoreResult<()> {
    let [tenant, project, id] = key_row(failed);
    let noted = conn.rows(
        "INSERT INTO schedule_runs (tenant, project, execution, schedule, tick)
         SELECT r.tenant, r.project, ?, r.schedule, r.tick FROM schedule_runs r
         WHERE r.tenant = ? AND r.project = ? AND r.execution = ? ON CONFLICT DO NOTHING RETURNING schedule",
        &[repeat.0.into(), tenant, project, id],
    )?;
    let Some(mut noted) = noted.into_iter().next() else { return Ok(()) };
    let schedule = noted.text()?;
    conn.rows(
        "UPDATE schedules SET active = ?,
           next_tick = CASE WHEN after_micros IS NULL THEN next_tick END,
           due_at = CASE WHEN paused_at IS NULL AND after_micros IS NOT NULL
             THEN (SELECT hp_now()) + ? ELSE due_at END
         WHERE tenant = ? AND project = ? AND name = ? AND active IS NULL AND last_execution = ?",
        &[
            repeat.0.into(),
            micros(LOOK_AGAIN).into(),
            tenant,
            project,
            Bind::from(&schedule),
            first_run.0.into(),
        ],
    )
    .map(drop)
}

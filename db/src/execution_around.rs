//! What stands around an execution: the sweeps that it may wait for, the workers, its workflow,
//! the runs before and after it, and those that it waits for itself. Each is looked up by a key.

use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::sql::binds;
use crate::standing_types::*;
use crate::store::StoreResult;
use crate::types::{ExecutionRow, StoreError};
use crate::{workflow_runs, workflow_states};

/// So many workers are told of; what the rest holds is of no matter to one execution.
const MOST_WORKERS: i64 = 100;
/// So many executions that it waits for are told of.
const MOST_CHILDREN: i64 = 100;

/// All of it, in the caller's snapshot.
pub(crate) fn execution_around(
    conn: &mut Conn,
    row: &ExecutionRow,
    lost: i32,
    ready_at: Option<Timestamp>,
) -> StoreResult<Around> {
    let (key, over) = (&row.key, row.status.is_terminal());
    let first = row.retry_of.unwrap_or(key.id);
    let own = |repeat: &Repeat| repeat.run == key.id;
    let mut around = Around {
        workers: workers(conn)?,
        workflow: workflow(conn, row)?,
        repeated_by: repeat(conn, key, first, row.attempt + 1)?,
        schedule: schedule(conn, key)?,
        ..Around::default()
    };
    if over {
        return Ok(around);
    }
    around.ticks = ticks(conn)?;
    around.suspects = if lost >= 2 { Some(suspects(conn, ready_at)?) } else { None };
    around.behind = behind(conn, row)?;
    around.repeats = repeat(conn, key, first, row.attempt)?.filter(own);
    around.holds = holds(conn, key)?;
    around.children = children(conn, key)?;
    around.test_run_since = test_run_since(conn, key)?;
    around.unread_acts = unread_acts(conn, key)?;
    Ok(around)
}

/// When each sweep is due.
pub(crate) fn ticks(conn: &mut Conn) -> StoreResult<Vec<Tick>> {
    let mut ticks = Vec::new();
    for mut row in conn.rows("SELECT kind, due_at, emitted_at FROM ticks", &[])? {
        let (kind, due_at, emitted_at) = (row.text()?, row.time()?, row.opt_time()?);
        // A kind of a later version's is of no matter here.
        if let Some(kind) = SweepKind::parse(&kind) {
            ticks.push(Tick { kind, due_at, emitted_at });
        }
    }
    Ok(ticks)
}

const WORKERS: &str = "
    SELECT s.id, s.name, s.started_at, s.expires_at, s.about,
      (SELECT count(*) FROM executions e WHERE e.owner = s.id)
    FROM sessions s ORDER BY s.expires_at DESC LIMIT ?";

/// Sessions of workers, those that live longest first.
pub(crate) fn workers(conn: &mut Conn) -> StoreResult<Vec<WorkerSession>> {
    conn.rows(WORKERS, &binds![MOST_WORKERS])?.into_iter().map(read_worker).collect()
}

fn read_worker(mut row: Row) -> StoreResult<WorkerSession> {
    Ok(WorkerSession {
        id: SessionId(row.id()?),
        name: row.text()?,
        started_at: row.time()?,
        expires_at: row.time()?,
        // What another version's worker says may be unknown here.
        about: row.opt_text()?.and_then(|about| serde_json::from_str(&about).ok()),
        held: row.big()?,
    })
}

/// Whether one is out anywhere, and how many are ready before this one: whose they are is
/// nobody's business.
fn suspects(conn: &mut Conn, ready_at: Option<Timestamp>) -> StoreResult<Suspects> {
    let out = conn.row("SELECT 1 FROM executions WHERE lost >= 2 AND owner IS NOT NULL LIMIT 1", &[])?;
    let before = conn.row(
        "SELECT count(*) FROM executions WHERE lost >= 2 AND owner IS NULL AND ready_at < ?",
        &binds![ready_at],
    )?;
    let before = before.map(|mut row| row.big()).transpose()?.unwrap_or(0);
    Ok(Suspects { one_is_out: out.is_some(), before })
}

fn workflow(conn: &mut Conn, row: &ExecutionRow) -> StoreResult<Option<crate::WorkflowRow>> {
    match row.kind {
        DefinitionKind::Workflow => workflow_states::workflow_get(conn, &row.key.scope, &row.name),
        DefinitionKind::Agent => Ok(None),
    }
}

/// The run that goes on, where this one waits for its end.
fn behind(conn: &mut Conn, row: &ExecutionRow) -> StoreResult<Option<ExecutionId>> {
    if row.kind != DefinitionKind::Workflow || !workflow_runs::waits(conn, &row.key)? {
        return Ok(None);
    }
    let place = workflow_runs::expression(&row.key.scope, &row.name);
    for mut run in conn.rows(workflow_runs::OF_WORKFLOW, &binds![&place])? {
        let (key, waits) = (run.key()?, run.bool()?);
        if !waits {
            return Ok(Some(key.id));
        }
    }
    Ok(None)
}

const REPEAT: &str = "
    SELECT r.retry_of, r.attempt, r.run, r.due_at, r.asked_by FROM run_retries r
    WHERE r.tenant = ? AND r.project = ? AND r.retry_of = ? AND r.attempt = ?";

fn repeat(
    conn: &mut Conn,
    key: &ExecutionKey,
    first: ExecutionId,
    attempt: i32,
) -> StoreResult<Option<Repeat>> {
    let scope = &key.scope;
    let row = conn.row(REPEAT, &binds![&*scope.tenant, &*scope.project, first.0, attempt])?;
    let read = |mut row: Row| {
        Ok::<_, StoreError>(Repeat {
            retry_of: ExecutionId(row.id()?),
            attempt: row.int()?,
            run: ExecutionId(row.id()?),
            due_at: row.time()?,
            asked_by: row.opt_text()?,
        })
    };
    row.map(read).transpose()
}

fn holds(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Vec<(String, Timestamp)>> {
    let rows = conn.rows(
        "SELECT h.secret, h.held_until FROM secret_holds h WHERE h.tenant = ? AND h.held_until > (SELECT hp_now())",
        &binds![&*key.scope.tenant],
    )?;
    rows.into_iter().map(|mut row| Ok((row.text()?, row.time()?))).collect()
}

/// By the parent alone: its id is nobody else's.
const CHILDREN: &str = "
    SELECT c.step, c.child, e.status
    FROM (SELECT * FROM children k WHERE k.parent = ? AND NOT k.done) c
    JOIN executions e ON e.tenant = c.tenant AND e.project = c.project AND e.id = c.child
    WHERE c.tenant = ? AND c.project = ? ORDER BY c.step LIMIT ?";

fn children(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Vec<ChildStanding>> {
    let scope = &key.scope;
    let values = binds![key.id.0, &*scope.tenant, &*scope.project, MOST_CHILDREN];
    let read = |mut row: Row| {
        let (step, child) = (row.int()?, ExecutionId(row.id()?));
        Ok(ChildStanding { step, child, status: row.word::<Status>()? })
    };
    conn.rows(CHILDREN, &values)?.into_iter().map(read).collect()
}

fn test_run_since(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Option<Timestamp>> {
    let row = conn.row(
        "SELECT t.created_at FROM test_runs t WHERE t.tenant = ? AND t.project = ? AND t.execution = ?",
        &key_row(key),
    )?;
    row.map(|mut row| row.time()).transpose()
}

/// The schedule that started it, and since when that is paused.
fn schedule(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Option<(String, Option<Timestamp>)>> {
    let row = conn.row(
        "SELECT r.schedule, s.paused_at FROM schedule_runs r
         LEFT JOIN schedules s ON s.tenant = r.tenant AND s.project = r.project AND s.name = r.schedule
         WHERE r.tenant = ? AND r.project = ? AND r.execution = ?",
        &key_row(key),
    )?;
    row.map(|mut row| Ok((row.text()?, row.opt_time()?))).transpose()
}

fn unread_acts(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<i64> {
    let row = conn.row(
        "SELECT count(*) FROM inbox i WHERE i.tenant = ? AND i.project = ? AND i.execution = ?",
        &key_row(key),
    )?;
    row.map_or(Ok(0), |mut row| row.big())
}

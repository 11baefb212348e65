//! Runs that take the place of failed ones: an execution of its own, under an id made of the
//! first run and the attempt, that begins with what is finished in the failed one's journal.

use holdpoint_engine::digest::retry_id;
use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::retry_run::carry_over;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::{journals, key_row};
use crate::sql::binds;
use crate::store::StoreResult;
use crate::{journal, workflow_runs};

/// A run to repeat.
pub(crate) struct Repeat<'a> {
    /// The one that failed, or was cancelled.
    pub(crate) failed: &'a ExecutionKey,
    /// The first of its line.
    pub(crate) first_run: ExecutionId,
    /// The new one's.
    pub(crate) attempt: i32,
    /// The definition.
    pub(crate) name: &'a str,
    /// For a production run of a registered workflow: whether at most one of them goes on.
    pub(crate) alone: Option<bool>,
    /// When it begins.
    pub(crate) due_at: Timestamp,
    /// The key that asked for it.
    pub(crate) asked_by: Option<&'a str>,
    /// The database's time.
    pub(crate) now: Timestamp,
}

/// The new run, or the one that this attempt has already; `None` where the journal makes no
/// sense, and nothing can be taken over.
pub(crate) fn repeat(conn: &mut Conn, wanted: &Repeat<'_>) -> StoreResult<Option<ExecutionId>> {
    let lines =
        journals(conn, std::slice::from_ref(wanted.failed))?.remove(wanted.failed).unwrap_or_default();
    let lines = match carry_over(&lines) {
        Ok(lines) => lines,
        Err(error) => {
            tracing::error!(execution = %wanted.failed.id, %error, "it cannot be repeated");
            return Ok(None);
        }
    };
    let run = ExecutionKey {
        scope: wanted.failed.scope.clone(),
        id: retry_id(wanted.first_run, wanted.attempt, wanted.now),
    };
    if !note(conn, wanted, run.id)? {
        return attempt(conn, wanted.failed, wanted.first_run, wanted.attempt);
    }
    insert(conn, wanted, &run, &lines)?;
    journal::copy_lines(conn, lines.iter().map(|line| (&run, line)))?;
    if let Some(alone) = wanted.alone {
        workflow_runs::insert(
            conn,
            &[workflow_runs::Active { key: &run, name: wanted.name, alone, waits: false }],
        )?;
    }
    Ok(Some(run.id))
}

/// Whether this is the first to make that attempt.
fn note(conn: &mut Conn, wanted: &Repeat<'_>, run: ExecutionId) -> StoreResult<bool> {
    let scope = &wanted.failed.scope;
    let noted = conn.rows(
        "INSERT INTO run_retries (tenant, project, workflow, retry_of, attempt, run, due_at, asked_by, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, project, retry_of, attempt) DO NOTHING RETURNING attempt",
        &binds![
            &*scope.tenant,
            &*scope.project,
            wanted.name,
            wanted.first_run.0,
            wanted.attempt,
            run.0,
            wanted.due_at,
            wanted.asked_by,
            wanted.now,
        ],
    )?;
    Ok(!noted.is_empty())
}

/// The run of an attempt.
pub(crate) fn attempt(
    conn: &mut Conn,
    of: &ExecutionKey,
    first_run: ExecutionId,
    attempt: i32,
) -> StoreResult<Option<ExecutionId>> {
    let row = conn.row(
        "SELECT run FROM run_retries WHERE tenant = ? AND project = ? AND retry_of = ? AND attempt = ?",
        &binds![&*of.scope.tenant, &*of.scope.project, first_run.0, attempt],
    )?;
    row.map(|mut row| Ok(ExecutionId(row.id()?))).transpose()
}

/// The caller's headers are gone with the failed run's end; nobody is answered a second time,
/// and no parent is told.
const INSERTS: [&str; 3] = [
    "INSERT INTO execution_info (tenant, project, id, kind, name, version, run_type, conversation_id, end_user,
       retry_of, attempt, input, messages, metadata, created_by, extras, created_at)
     SELECT tenant, project, ?, kind, name, version, run_type, conversation_id, end_user, ?, ?, input, messages,
       metadata, coalesce(?, created_by), extras, ? FROM execution_info WHERE tenant = ? AND project = ? AND id = ?",
    "INSERT INTO execution_labels (tenant, project, key, value, id, created_at)
     SELECT tenant, project, key, value, ?, ? FROM execution_labels WHERE tenant = ? AND project = ? AND id = ?",
    "INSERT INTO execution_extras (tenant, project, id, client_timestamp, client_timezone, pins, files)
     SELECT tenant, project, ?, client_timestamp, client_timezone, pins, files FROM execution_extras
     WHERE tenant = ? AND project = ? AND id = ?",
];

fn insert(conn: &mut Conn, wanted: &Repeat<'_>, run: &ExecutionKey, lines: &[Line]) -> StoreResult<()> {
    let [tenant, project, failed] = key_row(wanted.failed);
    let [id, first, attempt, by, now] =
        binds![run.id.0, wanted.first_run.0, wanted.attempt, wanted.asked_by, wanted.now];
    let [info, labels, extras] = INSERTS;
    conn.rows(info, &[id, first, attempt, by, now, tenant, project, failed])?;
    conn.rows(labels, &[id, now, tenant, project, failed])?;
    conn.rows(extras, &[id, tenant, project, failed])?;
    let last_event = lines.iter().filter_map(|line| line.event).max().unwrap_or_default();
    let [due_at, seq, event] = binds![wanted.due_at, lines.len() as i64, last_event];
    conn.rows(
        "INSERT INTO executions (tenant, project, id, kind, status, ready_at, last_seq, last_event, updated_at)
         SELECT tenant, project, ?, kind, 'queued', ?, ?, ?, ? FROM executions
         WHERE tenant = ? AND project = ? AND id = ?",
        &[id, due_at, seq, event, now, tenant, project, failed],
    )
    .map(drop)
}

//! Runs that take the place of failed ones: an execution of its own, under an id made of the
//! first run and the attempt, that begins with what is finished in the failed one's journal.

use holdpoint_engine::digest::retry_id;
use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::retry_run::carry_over;
use holdpoint_engine::runs::Terms;
use holdpoint_engine::status::{AuditAct, DefinitionKind, RunType, Status, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::transcript;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::audit::{self, Entry};
use crate::conn::Conn;
use crate::conversations::TakenAgain;
use crate::execution_claim::{journals, key_row};
use crate::row::Row;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::StoreError;
use crate::workflow_end::read_terms;
use crate::workflow_types::Retried;
use crate::{conversations, definitions, files, journal, outside, workflow_runs};

/// A run as it ended.
struct Failed {
    kind: DefinitionKind,
    name: String,
    run_type: RunType,
    first_run: ExecutionId,
    attempt: i32,
    conversation: Option<String>,
    messages: Option<String>,
    input: Option<String>,
    /// Of the version that it is pinned to; none for what is built in.
    terms: Option<Option<String>>,
    /// Whether another execution waits for its end.
    is_child: bool,
}

pub(crate) const FAILED: &str = "
    SELECT i.kind, i.name, i.run_type, i.retry_of, i.attempt, i.conversation_id, i.messages, i.input,
      (SELECT x.parent FROM execution_extras x WHERE x.tenant = i.tenant AND x.project = i.project AND x.id = i.id)
        IS NOT NULL, d.version, d.terms
    FROM execution_info i LEFT JOIN definitions d ON d.tenant = i.tenant AND d.project = i.project AND d.kind = i.kind
      AND d.name = i.name AND d.version = i.version
    WHERE i.tenant = ? AND i.project = ? AND i.id = ?";

fn read_failed(mut row: Row, id: ExecutionId) -> StoreResult<Failed> {
    Ok(Failed {
        kind: row.word()?,
        name: row.text()?,
        run_type: row.word()?,
        first_run: row.opt_id()?.map_or(id, ExecutionId),
        attempt: row.int()?,
        conversation: row.opt_text()?,
        messages: row.opt_text()?,
        input: row.opt_text()?,
        is_child: row.bool()?,
        terms: match row.opt_int()? {
            Some(_) => Some(row.opt_text()?),
            None => None,
        },
    })
}

impl Failed {
    /// What its workflow says of its runs, where it has a place among those.
    fn terms(&self) -> StoreResult<Option<Terms>> {
        let counts = self.kind == DefinitionKind::Workflow && self.run_type == RunType::Production;
        let terms = self.terms.as_ref().filter(|_| counts);
        terms.map(|terms| read_terms(terms.as_deref())).transpose()
    }
}

/// One transaction's work: a run that failed or was cancelled is repeated because somebody asks.
/// The lock of its row lets each attempt be made once.
pub(crate) fn run_retry_in_txn(
    conn: &mut Conn,
    run: &ExecutionKey,
    by: &str,
    end_user: Option<&str>,
) -> StoreResult<Retried> {
    let Some(locked) = outside::lock(conn, run)? else { return Ok(Retried::NotFound) };
    if end_user.is_some() && end_user != locked.end_user.as_deref() {
        return Ok(Retried::NotFound);
    }
    if !matches!(locked.status, Status::Failed | Status::Cancelled) {
        return Ok(Retried::NotFailed(locked.status));
    }
    let row = conn.row(FAILED, &key_row(run))?;
    let row = row.ok_or_else(|| StoreError::Corrupt("an execution has no info".to_owned()))?;
    let failed = read_failed(row, run.id)?;
    if failed.run_type == RunType::Test {
        return Ok(Retried::Never("a test run is not repeated: start another one"));
    }
    if failed.is_child {
        return Ok(Retried::Never("it is a part of another execution: repeat that one"));
    }
    let (retry_of, next) = (failed.first_run, failed.attempt.saturating_add(1));
    if let Some(known) = attempt(conn, run, retry_of, next)? {
        let known = ExecutionKey { scope: run.scope.clone(), id: known };
        let status = begin_now(conn, &known, locked.now)?;
        return Ok(Retried::Made { run: known.id, attempt: next, retry_of, status });
    }
    let retried = retry(conn, run, &failed, by, locked.now)?;
    if let Retried::Made { run: made, attempt, retry_of, .. } = &retried {
        let details = json!({"execution": made, "attempt": attempt, "retry_of": retry_of});
        let (act, subject) = (AuditAct::ExecutionRetried, run.id.to_string());
        audit::append(conn, &Entry { scope: Some(&run.scope), actor: by, end_user, act, subject, details })?;
    }
    Ok(retried)
}

fn retry(
    conn: &mut Conn,
    run: &ExecutionKey,
    failed: &Failed,
    by: &str,
    now: Timestamp,
) -> StoreResult<Retried> {
    let (retry_of, attempt) = (failed.first_run, failed.attempt.saturating_add(1));
    if failed.terms.is_some() && !definitions::is_in_use(conn, &run.scope, failed.kind, &failed.name)? {
        return Ok(Retried::UnknownDefinition(failed.kind, failed.name.clone()));
    }
    let terms = failed.terms()?;
    let mut due_at = now;
    if let Some(terms) = &terms {
        let (state, active) = workflow_runs::standing(conn, &run.scope, &failed.name, terms.one_at_a_time)?;
        match (state, active) {
            (WorkflowState::Active, None) => {}
            (WorkflowState::Active, Some(active)) => return Ok(Retried::RunActive(active)),
            (state, _) => return Ok(Retried::WorkflowNotActive(state)),
        }
        due_at = workflow_runs::held_until(conn, &run.scope, terms, now)?;
    }
    let new = ExecutionKey { scope: run.scope.clone(), id: retry_id(retry_of, attempt, now) };
    if let Some(conversation) = &failed.conversation {
        let said = transcript::start_messages(failed.messages.as_deref(), failed.input.as_deref()).len();
        match conversations::take_again(conn, conversation, run, &new, said)? {
            TakenAgain::Taken => {}
            TakenAgain::Busy(active) => return Ok(Retried::ConversationBusy(active)),
            TakenAgain::GoneOn => return Ok(Retried::Never("its conversation has gone on since")),
        }
    }
    let wanted = Repeat {
        failed: run,
        first_run: retry_of,
        attempt,
        name: &failed.name,
        alone: terms.map(|terms| terms.one_at_a_time),
        due_at,
        asked_by: Some(by),
        now,
    };
    let made = repeat(conn, &wanted)?;
    let run = made.ok_or_else(|| StoreError::Corrupt(format!("the journal of {} cannot be read", run.id)))?;
    Ok(Retried::Made { run, attempt, retry_of, status: Status::Queued })
}

/// A repeat that waits for its time begins at once. Where it stands.
fn begin_now(conn: &mut Conn, run: &ExecutionKey, now: Timestamp) -> StoreResult<Status> {
    let [tenant, project, id] = key_row(run);
    conn.rows(
        "UPDATE executions SET ready_at = ? WHERE tenant = ? AND project = ? AND id = ? AND status = 'queued'
           AND owner IS NULL AND coalesce(ready_at, 0) > ?",
        &[now.into(), tenant, project, id, now.into()],
    )?;
    let row =
        conn.row("SELECT status FROM executions WHERE tenant = ? AND project = ? AND id = ?", &key_row(run))?;
    row.ok_or_else(|| StoreError::Corrupt(format!("the repeat {} has no row", run.id)))?.word()
}

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
            &[workflow_runs::Active { key: &run, name: wanted.name, alone, waits: false, not_before: None }],
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
    files::refer_again(conn, wanted.failed, run)?;
    let last_event = lines.iter().filter_map(|line| line.event).max().unwrap_or_default();
    let [due_at, seq, event] = binds![wanted.due_at, lines.len() as i64, last_event];
    let made = conn.rows(
        "INSERT INTO executions (tenant, project, id, kind, status, ready_at, last_seq, last_event, updated_at, lane)
         SELECT tenant, project, ?, kind, 'queued', ?, ?, ?, ?, lane FROM executions
         WHERE tenant = ? AND project = ? AND id = ? RETURNING kind",
        &[id, due_at, seq, event, now, tenant, project, failed],
    )?;
    for mut row in made {
        let kind = row.word()?;
        conn.noted.started(kind);
    }
    Ok(())
}

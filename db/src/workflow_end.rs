//! In the transaction that ends runs of registered workflows: what becomes of the workflow,
//! and the run that repeats a failed one.
//!
//! Test runs and children are left out: the first count for nothing, and of the others their
//! parents are told. A run that completes where nothing is to be cleared takes no lock, so
//! that runs of one workflow do not wait for each other.

use std::collections::BTreeMap;

use holdpoint_engine::entry::{Entry, ExecutionFailed, Line, WorkflowFailed};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::runs::{BALANCE_HOLD, Consequence, RunEnd, Terms, consequence};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Failure, Reason, Status, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::run_retry::{Repeat, repeat};
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::StoreError;
use crate::{definitions, failpoint, journal, schedules, test_runs, workflow_runs};

/// A production run that has ended.
struct EndedRun {
    key: ExecutionKey,
    workflow: String,
    first_run: ExecutionId,
    end: RunEnd,
    error: Option<Failure>,
    finished_at: Timestamp,
    last_seq: i64,
    terms: Terms,
    /// Whether the workflow has something that a good end clears.
    stained: bool,
}

pub(crate) const ENDED: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT i.tenant, i.project, i.id, i.name, i.retry_of, i.attempt, e.status, e.reason, i.error_type,
      i.error_message, i.finished_at, e.last_seq, d.terms,
      w.attention OR w.escalated OR w.logic_failures > 0
    FROM u JOIN execution_info i ON i.tenant = u.t AND i.project = u.p AND i.id = u.x
    JOIN executions e ON e.tenant = i.tenant AND e.project = i.project AND e.id = i.id
    JOIN definitions d ON d.tenant = i.tenant AND d.project = i.project AND d.kind = i.kind AND d.name = i.name
      AND d.version = i.version
    JOIN workflows w ON w.tenant = i.tenant AND w.project = i.project AND w.name = i.name
    WHERE i.kind = 'workflow' AND i.run_type = 'production'
      AND (SELECT x.parent FROM execution_extras x
        WHERE x.tenant = i.tenant AND x.project = i.project AND x.id = i.id) IS NULL";

fn read_ended(mut row: Row) -> StoreResult<EndedRun> {
    let key = row.key()?;
    let workflow = row.text()?;
    let first_run = row.opt_id()?.map_or(key.id, ExecutionId);
    let attempt = row.int()?;
    let end = RunEnd { status: row.word()?, reason: row.opt_word()?, attempt };
    let (kind, message) = (row.opt_word()?, row.opt_text()?);
    Ok(EndedRun {
        key,
        workflow,
        first_run,
        end,
        error: kind.map(|kind| Failure::new(kind, message.unwrap_or_default())),
        finished_at: row.time()?,
        last_seq: row.big()?,
        terms: read_terms(row.opt_text()?.as_deref())?,
        stained: row.bool()?,
    })
}

/// What a version says about its runs.
pub(crate) fn read_terms(terms: Option<&str>) -> StoreResult<Terms> {
    let corrupt = |error| StoreError::Corrupt(format!("a workflow's terms cannot be read: {error}"));
    terms.map_or_else(|| Ok(Terms::default()), |terms| serde_json::from_str(terms).map_err(corrupt))
}

/// Everything that follows from the end of these executions, of which some may be runs of
/// registered workflows. Their rows say how they ended.
pub(crate) fn ended(conn: &mut Conn, keys: &[ExecutionKey], now: Timestamp) -> StoreResult<()> {
    test_runs::end(conn, keys)?;
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    let mut runs: Vec<EndedRun> =
        conn.each(ENDED, &rows, &[])?.into_iter().map(read_ended).collect::<StoreResult<_>>()?;
    if runs.is_empty() {
        return Ok(());
    }
    runs.sort_by(|a, b| a.key.cmp(&b.key));
    workflow_runs::remove(conn, runs.iter().map(|run| &run.key))?;
    // Two transactions that lock the same workflows lock them in the same order.
    let mut workflows: BTreeMap<(Scope, String), Vec<EndedRun>> = BTreeMap::new();
    for run in runs {
        workflows.entry((run.key.scope.clone(), run.workflow.clone())).or_default().push(run);
    }
    for ((scope, name), runs) in &workflows {
        if runs
            .iter()
            .any(|run| run.end.status != Status::Completed || run.stained || run.terms.one_at_a_time)
        {
            workflow_ended(conn, scope, name, runs, now)?;
        }
    }
    Ok(())
}

/// What the ends of its runs leave of a workflow.
#[derive(Default)]
struct After {
    logic_failures: i32,
    escalated: bool,
    attention: bool,
    latest: Option<ExecutionId>,
    /// A person holds it: nothing is repeated.
    held: bool,
    to_maintenance: bool,
    stops_schedule: bool,
    /// A failure since it was acknowledged.
    failed_anew: bool,
}

fn workflow_ended(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    runs: &[EndedRun],
    now: Timestamp,
) -> StoreResult<()> {
    let row = conn.row(
        "SELECT e.logic_failures, e.escalated, e.attention, e.latest, e.state FROM workflows e
         WHERE e.tenant = ? AND e.project = ? AND e.name = ? @lock",
        &binds![&*scope.tenant, &*scope.project, name],
    )?;
    let mut row = row.ok_or_else(|| StoreError::Corrupt(format!("the workflow `{name}` has no row")))?;
    let mut after = After {
        logic_failures: row.int()?,
        escalated: row.bool()?,
        attention: row.bool()?,
        latest: row.opt_id()?.map(ExecutionId),
        held: matches!(row.word()?, WorkflowState::Paused | WorkflowState::Archived),
        ..After::default()
    };
    for run in runs {
        follow(conn, run, &mut after, now)?;
    }
    failpoint::hit("db.run_end");
    write(conn, scope, name, &after, now)?;
    if runs.iter().any(|run| run.terms.one_at_a_time) {
        workflow_runs::let_next_begin(conn, scope, name, now)?;
    }
    Ok(())
}

/// What follows from one end.
fn follow(conn: &mut Conn, run: &EndedRun, after: &mut After, now: Timestamp) -> StoreResult<()> {
    let mut consequence = consequence(&run.terms, after.logic_failures, run.end);
    if matches!(consequence, Consequence::Repeated { .. }) && (after.held || is_deleted(conn, run)?) {
        consequence = Consequence::Nothing;
    }
    if let Consequence::Repeated { after: wait } = consequence {
        let asked = last_error(conn, &run.key)?.and_then(|error| error.retry_after);
        let wait = wait.max(asked.map_or(wait, |asked| asked.0));
        let due_at = workflow_runs::held_until(conn, &run.key.scope, &run.terms, run.finished_at.plus(wait))?;
        let wanted = Repeat {
            failed: &run.key,
            first_run: run.first_run,
            attempt: run.end.attempt.saturating_add(1),
            name: &run.workflow,
            alone: Some(run.terms.one_at_a_time),
            due_at,
            asked_by: None,
            now,
        };
        match repeat(conn, &wanted)? {
            Some(repeat) => schedules::repeated(conn, &run.key, run.first_run, repeat)?,
            // Its journal cannot be read: a person has to look.
            None => consequence = Consequence::Attention { stops_schedule: false, holds_secrets: false },
        }
    }
    if let Consequence::Attention { holds_secrets: true, .. } = consequence {
        hold_secrets(conn, run, now)?;
    }
    if consequence.is_final_failure() {
        give_up(conn, run, consequence, now)?;
    }
    after.take(run, consequence);
    Ok(())
}

/// What somebody deleted is not begun again. Its deletion waits for our lock on its row.
fn is_deleted(conn: &mut Conn, run: &EndedRun) -> StoreResult<bool> {
    let scope = &run.key.scope;
    Ok(!definitions::is_in_use(conn, scope, DefinitionKind::Workflow, &run.workflow)?)
}

/// A failure that nobody repeats by itself is told: in the log, and outside. (In the log twice,
/// where the transaction is done again.)
fn give_up(conn: &mut Conn, run: &EndedRun, consequence: Consequence, now: Timestamp) -> StoreResult<()> {
    let reason = run.end.reason.unwrap_or(Reason::Internal);
    let error = run.error.clone().unwrap_or_else(|| Failure::new(reason.error_type(), "it failed"));
    tracing::warn!(
        tenant = %run.key.scope.tenant, project = %run.key.scope.project, workflow = %run.workflow,
        execution = %run.key.id, attempt = run.end.attempt, %error, "a run of a workflow failed for good"
    );
    let entry = Entry::WorkflowFailed(WorkflowFailed {
        retry_of: Some(run.first_run).filter(|first| *first != run.key.id),
        attempts: run.end.attempt,
        reason,
        error,
        needs_attention: consequence.needs_person(),
    });
    let (seq, kind) = (run.last_seq + 1, entry.kind().to_owned());
    let line = Line { seq, event: None, kind, step: 0, at: now, payload: entry.payload() };
    journal::insert_lines(conn, std::iter::once((&run.key, &line)))?;
    let [tenant, project, id] = key_row(&run.key);
    conn.rows(
        "UPDATE executions SET last_seq = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[seq.into(), tenant, project, id],
    )
    .map(drop)
}

impl After {
    fn take(&mut self, run: &EndedRun, consequence: Consequence) {
        if run.end.reason == Some(Reason::Paused) {
            return;
        }
        self.latest = Some(run.key.id);
        self.attention = consequence.needs_person();
        self.failed_anew |= consequence.is_final_failure();
        match consequence {
            Consequence::Cleared => (self.logic_failures, self.escalated) = (0, false),
            Consequence::Nothing | Consequence::Repeated { .. } => {}
            Consequence::Maintenance { escalated } => {
                self.logic_failures = self.logic_failures.saturating_add(1);
                self.escalated |= escalated;
                self.to_maintenance = true;
            }
            Consequence::Attention { stops_schedule, .. } => self.stops_schedule |= stops_schedule,
        }
    }
}

/// Only what is the run's to say: a state that a person gave stays, and so does an
/// acknowledgement where nothing failed since.
fn write(conn: &mut Conn, scope: &Scope, name: &str, after: &After, now: Timestamp) -> StoreResult<()> {
    conn.rows(
        "UPDATE workflows SET logic_failures = ?, escalated = ?, attention = ?, latest = ?,
           schedule_stopped = CASE WHEN ? THEN true ELSE schedule_stopped END,
           changed_at = CASE WHEN ? AND state = 'active' THEN ? ELSE changed_at END,
           changed_by = CASE WHEN ? AND state = 'active' THEN NULL ELSE changed_by END,
           state = CASE WHEN ? AND state = 'active' THEN 'maintenance' ELSE state END,
           acknowledged_at = CASE WHEN ? THEN NULL ELSE acknowledged_at END,
           acknowledged_by = CASE WHEN ? THEN NULL ELSE acknowledged_by END
         WHERE tenant = ? AND project = ? AND name = ?",
        &binds![
            after.logic_failures,
            after.escalated,
            after.attention,
            after.latest.map(|id| id.0),
            after.stops_schedule,
            after.to_maintenance,
            now,
            after.to_maintenance,
            after.to_maintenance,
            after.failed_anew,
            after.failed_anew,
            &*scope.tenant,
            &*scope.project,
            name,
        ],
    )
    .map(drop)
}

/// Those of the call that failed; all that the workflow names where that is not known.
fn hold_secrets(conn: &mut Conn, run: &EndedRun, now: Timestamp) -> StoreResult<()> {
    let mut secrets = last_error(conn, &run.key)?.map_or_else(Vec::new, |error| error.secrets);
    if secrets.is_empty() {
        secrets.clone_from(&run.terms.secrets);
    }
    secrets.sort();
    secrets.dedup();
    let until = now.plus(BALANCE_HOLD);
    let rows: Vec<_> = secrets.iter().map(|secret| binds![&*run.key.scope.tenant, secret, until]).collect();
    conn.each(
        "WITH u(t, s, h) AS (@u) INSERT INTO secret_holds (tenant, secret, held_until) SELECT t, s, h FROM u WHERE true
         ON CONFLICT (tenant, secret) DO UPDATE SET held_until = excluded.held_until",
        &rows,
        &[],
    )?;
    workflow_runs::hold(conn, &run.key.scope, &secrets, until)
}

/// What a run failed with, as its last line says.
fn last_error(conn: &mut Conn, run: &ExecutionKey) -> StoreResult<Option<Failure>> {
    let row = conn.row(
        "SELECT j.payload FROM journal j WHERE j.tenant = ? AND j.project = ? AND j.execution = ?
           AND j.kind = 'execution.failed' ORDER BY j.seq DESC LIMIT 1",
        &key_row(run),
    )?;
    let Some(mut row) = row else { return Ok(None) };
    let failed: ExecutionFailed = serde_json::from_str(&row.text()?)
        .map_err(|error| StoreError::Corrupt(format!("{}: {error}", run.id)))?;
    Ok(Some(failed.error))
}

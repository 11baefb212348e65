//! Test runs of workflows: one of a workflow at a time.
//!
//! A row holds the place, by a unique index over those that are not freed. It is made in the
//! transaction that makes the execution, and freed in the one that ends it, by the execution's
//! id: a run that ends late frees nobody else's place. From [`TEST_RUN_TIME`] on whoever comes
//! next takes the place, and the sweep ends the run.

use std::collections::HashMap;

use holdpoint_engine::effect::Act;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{AuditAct, DefinitionKind, Reason, RunType, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::audit;
use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::outside::{self, Opened};
use crate::session::micros;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::trial_types::TEST_RUN_TIME;
use crate::types::{Created, NewExecution, StoreError, Swept};
use crate::workflow_runs::expression;

/// So often the place is looked at while others come and go.
const TRIES: usize = 5;

/// Whether it is the test run of a workflow; children of test runs take no place.
pub(crate) fn takes_place(new: &NewExecution) -> bool {
    new.kind == DefinitionKind::Workflow && new.run_type == RunType::Test && new.extras.parent.is_none()
}

/// Gives new test runs their workflows' places. Those that find one taken are refused.
pub(crate) fn take(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &HashMap<usize, Timestamp>,
    refused: &mut HashMap<usize, Created>,
) -> StoreResult<()> {
    let tests = inserted.iter().filter(|(at, _)| takes_place(&batch[**at]) && !refused.contains_key(*at));
    let mut tests: Vec<(usize, Timestamp)> = tests.map(|(at, created_at)| (*at, *created_at)).collect();
    // Two batches that take the same places take them in the same order.
    tests.sort_by_key(|(at, _)| (&batch[*at].key.scope, &batch[*at].name, *at));
    for (at, created_at) in tests {
        if is_archived(conn, &batch[at])? {
            refused.insert(at, Created::WorkflowNotActive { state: WorkflowState::Archived });
            continue;
        }
        if let Some(active) = occupy(conn, &batch[at], created_at)? {
            refused.insert(at, Created::TestRunActive { active });
        }
    }
    Ok(())
}

/// What is held for a while may be tried meanwhile, what is put away may not.
fn is_archived(conn: &mut Conn, new: &NewExecution) -> StoreResult<bool> {
    let scope = &new.key.scope;
    let row = conn.row(
        "SELECT 1 FROM workflows WHERE tenant = ? AND project = ? AND name = ? AND state = 'archived'",
        &binds![&*scope.tenant, &*scope.project, &new.name],
    )?;
    Ok(row.is_some())
}

/// The run that has the place, where it is taken.
fn occupy(conn: &mut Conn, new: &NewExecution, created_at: Timestamp) -> StoreResult<Option<ExecutionId>> {
    let [tenant, project, id] = key_row(&new.key);
    let place = expression(&new.key.scope, &new.name);
    let [workflow, created_at, place, time] = binds![&new.name, created_at, &place, micros(TEST_RUN_TIME)];
    for _ in 0..TRIES {
        let taken = conn.rows(
            "INSERT INTO test_runs (tenant, project, execution, workflow, created_at) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT ((tenant || '/' || project || '/' || workflow)) WHERE freed_at IS NULL DO NOTHING
             RETURNING workflow",
            &[tenant, project, id, workflow, created_at],
        )?;
        if !taken.is_empty() {
            return Ok(None);
        }
        let active = conn.row(
            "SELECT execution, CASE WHEN created_at <= (SELECT hp_now()) - ? THEN 1 ELSE 0 END FROM test_runs
             WHERE tenant || '/' || project || '/' || workflow = ? AND freed_at IS NULL",
            &[time, place],
        )?;
        // Without one, it ended between the two statements.
        let Some(mut row) = active else { continue };
        let (active, is_late) = (ExecutionId(row.id()?), row.int()? == 1);
        if !is_late {
            return Ok(Some(active));
        }
        conn.rows(
            "UPDATE test_runs SET freed_at = coalesce(freed_at, (SELECT hp_now()))
             WHERE tenant = ? AND project = ? AND execution = ?",
            &binds![&*new.key.scope.tenant, &*new.key.scope.project, active.0],
        )?;
    }
    Err(StoreError::Unavailable("the place of a test run changed hands again and again".to_owned()))
}

/// In the transaction that ends these executions: those that are test runs free their places.
pub(crate) fn end(conn: &mut Conn, ended: &[ExecutionKey]) -> StoreResult<()> {
    let rows: Vec<_> = ended.iter().map(key_row).collect();
    conn.each(
        "WITH u(t, p, x) AS (@u)
         UPDATE test_runs AS r SET freed_at = coalesce(r.freed_at, (SELECT hp_now())), over = true
         FROM u WHERE r.tenant = u.t AND r.project = u.p AND r.execution = u.x",
        &rows,
        &[],
    )
    .map(drop)
}

pub(crate) const LATE: &str = "
    SELECT r.tenant, r.project, r.execution FROM test_runs r
    WHERE NOT r.over AND r.created_at <= (SELECT hp_now()) - ? ORDER BY r.created_at LIMIT ?";

/// Test runs whose time is over and that are not.
pub(crate) fn test_runs_late(conn: &mut Conn, limit: usize) -> StoreResult<Vec<ExecutionKey>> {
    let rows = conn.rows(LATE, &binds![micros(TEST_RUN_TIME), limit as i64])?;
    rows.into_iter().map(|mut row| row.key()).collect()
}

/// One transaction's work: everything is looked at again under the lock.
pub(crate) fn test_run_expire_in_txn(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Swept> {
    let locked = outside::lock(conn, key)?;
    let [tenant, project, id] = key_row(key);
    let is_late = conn.row(
        "SELECT 1 FROM test_runs r WHERE r.tenant = ? AND r.project = ? AND r.execution = ?
           AND CASE WHEN r.over THEN 1 ELSE 0 END = 0 AND r.created_at <= (SELECT hp_now()) - ?",
        &[tenant, project, id, micros(TEST_RUN_TIME).into()],
    )?;
    if is_late.is_none() {
        return Ok(Swept::Skipped);
    }
    end(conn, std::slice::from_ref(key))?;
    let Some(locked) = locked.filter(|locked| !locked.status.is_terminal()) else {
        return Ok(Swept::Skipped);
    };
    let details = json!({"reason": Reason::Deadline});
    audit::note(conn, &key.scope, "scheduler", AuditAct::ExecutionFailed, key.id, details)?;
    let new_event = match locked.owner {
        Some(holder) => outside::tell_holder(conn, &locked, holder, &Act::Deadline)?.new_event,
        None => {
            let mut opened = Opened::load(conn, locked)?;
            opened.act(&Act::Deadline);
            opened.write(conn)?.new_event
        }
    };
    Ok(Swept::Done { new_event, ready: false })
}

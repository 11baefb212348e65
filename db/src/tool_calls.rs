//! Calls of limited tools: each waits in line, and is counted from when it begins until it is
//! done, or until its execution is no longer held by the session that performs it.

use std::time::Duration;

use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::limit_rooms::{State, lock, write_uses};
use crate::limit_types::*;
use crate::limits::{self, InForce, Subject};
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;

/// How soon the first in line asks again.
const SOON: Duration = Duration::from_millis(50);
/// How soon the others do.
const LATER: Duration = Duration::from_millis(250);

/// What the index over calls is over. Names have no slash.
fn expression(scope: &Scope, tool: &str) -> String {
    format!("{}/{}/{tool}", scope.tenant, scope.project)
}

const OVER: &str = "
    DELETE FROM tool_calls WHERE tenant || '/' || project || '/' || tool = ?
      AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.tenant = tool_calls.tenant
        AND e.project = tool_calls.project AND e.id = tool_calls.execution
        AND e.owner IS NOT DISTINCT FROM tool_calls.session)";

/// A call that another session had asked for asks anew.
const ASK: &str = "
    INSERT INTO tool_calls (tenant, project, execution, step, tool, session, asked_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (tenant, project, execution, step) DO UPDATE SET tool = excluded.tool, begun_at = NULL,
      session = excluded.session, asked_at = excluded.asked_at
      WHERE tool_calls.session <> excluded.session OR tool_calls.tool <> excluded.tool";

const LINE: &str = "
    SELECT c.tenant, c.project, c.execution, c.step, c.begun_at FROM tool_calls c
    WHERE c.tenant || '/' || c.project || '/' || c.tool = ? ORDER BY c.asked_at, c.execution, c.step";

/// Where a call stands in the line of its tool.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) begun: i64,
    pub(crate) before: i64,
    has_begun: bool,
}

pub(crate) fn line(conn: &mut Conn, key: &ExecutionKey, step: i32, tool: &str) -> StoreResult<Line> {
    let mut line = Line::default();
    let mut met = false;
    for mut row in conn.rows(LINE, &binds![&expression(&key.scope, tool)])? {
        let (of, at, begun_at) = (row.key()?, row.int()?, row.opt_time()?);
        let is_it = of == *key && at == step;
        line.begun += i64::from(begun_at.is_some());
        line.has_begun |= is_it && begun_at.is_some();
        met |= is_it;
        line.before += i64::from(begun_at.is_none() && !met);
    }
    Ok(line)
}

/// Asks for a call's turn, in one transaction.
pub(crate) fn tool_call_ask_in_txn(conn: &mut Conn, call: &ToolCall) -> StoreResult<ToolTurn> {
    let in_force = InForce::new(limits::known(conn)?, None);
    if !in_force.limits_tool(&call.key.scope, &call.tool) {
        return Ok(ToolTurn::Free);
    }
    let subject = Subject::new(&call.key.scope, LimitKind::Tool, &call.tool);
    let states = lock(conn, std::slice::from_ref(&subject), true)?;
    let state = states.into_values().next();
    let state = state.ok_or_else(|| StoreError::Corrupt("a limit has no row".to_owned()))?;
    if state.limit == Limit::default() {
        return Ok(ToolTurn::Free);
    }
    conn.rows(OVER, &binds![&expression(&call.key.scope, &call.tool)])?;
    let [tenant, project, id] = key_row(&call.key);
    let [step, tool, session, now] = binds![call.step, &call.tool, call.session.0, state.now];
    conn.rows(ASK, &[tenant, project, id, step, tool, session, now])?;
    let line = line(conn, &call.key, call.step, &call.tool)?;
    if line.has_begun {
        return Ok(ToolTurn::Begun);
    }
    match wait(&state, &line) {
        Some(after) => Ok(ToolTurn::Waits { after }),
        None => begin(conn, call, &subject, state),
    }
}

/// How long it waits at least; nothing where it may begin.
fn wait(state: &State, line: &Line) -> Option<Duration> {
    if state.limit.concurrency.is_some_and(|most| line.begun + line.before >= most) {
        return Some(if line.before == 0 { SOON } else { LATER });
    }
    let rate = state.limit.rate?;
    if state.uses.counted(&rate, state.now) + line.before < rate.count {
        return None;
    }
    Some(state.uses.until_fewer(&rate, state.now).clamp(SOON, Duration::from_secs(1)))
}

fn begin(conn: &mut Conn, call: &ToolCall, subject: &Subject, state: State) -> StoreResult<ToolTurn> {
    let [tenant, project, id] = key_row(&call.key);
    conn.rows(
        "UPDATE tool_calls SET begun_at = ? WHERE tenant = ? AND project = ? AND execution = ? AND step = ?",
        &[Bind::from(state.now), tenant, project, id, Bind::from(call.step)],
    )?;
    if let Some(rate) = state.limit.rate {
        let mut uses = state.uses;
        uses.add(&rate, state.now, 1);
        write_uses(conn, subject, &uses)?;
    }
    Ok(ToolTurn::Begun)
}

/// A call is over.
pub(crate) fn tool_call_done(conn: &mut Conn, key: &ExecutionKey, step: i32) -> StoreResult<()> {
    let [tenant, project, id] = key_row(key);
    conn.rows(
        "DELETE FROM tool_calls WHERE tenant = ? AND project = ? AND execution = ? AND step = ?",
        &[tenant, project, id, Bind::from(step)],
    )
    .map(drop)
}

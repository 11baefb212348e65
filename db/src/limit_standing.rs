//! Where limits stand: for whoever asks what an execution waits for, and how long the line is.

use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::lanes::{Lane, Place};
use crate::limit_rooms::held;
use crate::limit_types::*;
use crate::limit_uses::Uses;
use crate::limits::{self, InForce, Subject};
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::StoreError;
use crate::{session, tool_calls};

pub(crate) const READY_ONE: &str = "
    SELECT e.lane, e.epoch, coalesce(e.ready_at, 9223372036854775807), i.kind, i.name
    FROM executions e JOIN execution_info i ON i.tenant = e.tenant AND i.project = e.project AND i.id = e.id
    WHERE e.tenant = ? AND e.project = ? AND e.id = ? AND e.owner IS NULL";

/// The limits that a ready execution falls under, or those that the calls of a held one wait for,
/// and where they stand.
pub(crate) fn limits_standing(
    conn: &mut Conn,
    key: &ExecutionKey,
    tenant: Option<i64>,
) -> StoreResult<Vec<LimitStanding>> {
    let in_force = InForce::new(limits::known(conn)?, tenant);
    if in_force.is_empty() {
        return Ok(Vec::new());
    }
    let Some(mut row) = conn.row(READY_ONE, &key_row(key))? else {
        return calls_standing(conn, &in_force, key);
    };
    let (place, epoch, ready_at) = (Place::read(&row.text()?)?, row.big()?, row.time()?);
    let (kind, name) = (row.word::<DefinitionKind>()?, row.text()?);
    let now = session::now(conn)?;
    let subjects = in_force.subjects(&key.scope, Some((kind, &name)));
    if ready_at > now || subjects.is_empty() {
        return Ok(Vec::new());
    }
    let belongs = in_force.place(&key.scope, (kind, &name), place.priority, epoch > 0);
    // What no claim has met yet still lies where it was put.
    let also = (!belongs.is_plain() && belongs != place).then_some(belongs);
    let mut before = 0;
    for place in [Some(place), also].into_iter().flatten() {
        before += count_before(conn, &Lane { scope: key.scope.clone(), place }, ready_at)?;
    }
    let held = held(conn)?;
    let mut standings = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let running = held.get(&subject).copied().unwrap_or(0);
        standings.push(standing(conn, &in_force, subject, (running, before), now)?);
    }
    Ok(standings)
}

pub(crate) const WAITING_CALLS: &str = "
    SELECT step, tool FROM tool_calls WHERE tenant = ? AND project = ? AND execution = ? AND begun_at IS NULL";

fn calls_standing(
    conn: &mut Conn,
    in_force: &InForce,
    key: &ExecutionKey,
) -> StoreResult<Vec<LimitStanding>> {
    let rows = conn.rows(WAITING_CALLS, &key_row(key))?;
    let now = session::now(conn)?;
    let mut standings = Vec::with_capacity(rows.len());
    for mut row in rows {
        let (step, tool) = (row.int()?, row.text()?);
        let line = tool_calls::line(conn, key, step, &tool)?;
        let subject = Subject::new(&key.scope, LimitKind::Tool, &tool);
        let standing = standing(conn, in_force, subject, (line.begun, line.before), now)?;
        standings.push(LimitStanding { step: Some(step), ..standing });
    }
    Ok(standings)
}

/// How many are before this time in a lane.
fn count_before(conn: &mut Conn, lane: &Lane, ready_at: Timestamp) -> StoreResult<i64> {
    let text = "SELECT count(*) FROM (SELECT 1 FROM executions e
         WHERE (e.tenant || '/' || e.project || '/' || e.lane) @c = ? AND e.ready_at < ? LIMIT ?) AS counted";
    count(conn.row(text, &binds![&lane.key(), ready_at, COUNTED])?)
}

fn count(row: Option<crate::row::Row>) -> StoreResult<i64> {
    row.ok_or_else(|| StoreError::Corrupt("a count has no row".to_owned()))?.big()
}

fn standing(
    conn: &mut Conn,
    in_force: &InForce,
    subject: Subject,
    (running, before): (i64, i64),
    now: Timestamp,
) -> StoreResult<LimitStanding> {
    let limit = in_force.get(&subject).copied().unwrap_or_default();
    let used = conn.row(
        "SELECT used FROM limit_states WHERE tenant = ? AND project = ? AND kind = ? AND name = ?",
        &subject.binds(),
    )?;
    let used = used.map(|mut row| row.text()).transpose()?;
    let uses: Uses = used.and_then(|used| serde_json::from_str(&used).ok()).unwrap_or_default();
    let is_tenants = subject.kind == LimitKind::Tenant;
    Ok(LimitStanding {
        kind: subject.kind,
        concurrency: limit.concurrency.or(in_force.tenant.filter(|_| is_tenants)),
        rate: limit.rate,
        begun: limit.rate.map_or(0, |rate| uses.counted(&rate, now)),
        running,
        before,
        step: None,
        name: if is_tenants { subject.tenant.to_string() } else { subject.name },
    })
}

pub(crate) const WAITING: &str = "
    SELECT count(*) FROM (SELECT 1 FROM executions e
      WHERE (e.tenant || '/' || e.project || '/' || e.lane) @c > ? AND (e.tenant || '/' || e.project || '/' || e.lane) @c < ?
        AND e.ready_at <= (SELECT hp_now()) LIMIT ?) AS counted";

/// How many executions of a tenant wait to be taken.
pub(crate) fn backlog(conn: &mut Conn, tenant: &str, most: i64) -> StoreResult<Waiting> {
    let own = conn.row(
        "SELECT backlog FROM limits WHERE tenant = ? AND project = '' AND kind = 'tenant' AND name = 'default'",
        &binds![tenant],
    )?;
    let bound = own.map(|mut row| row.opt_big()).transpose()?.flatten();
    let at_most = bound.unwrap_or(most).saturating_add(1);
    // Everything that begins with the tenant and a slash: `0` follows the slash.
    let (from, to) = (format!("{tenant}/"), format!("{tenant}0"));
    Ok(Waiting { count: count(conn.row(WAITING, &binds![&from, &to, at_most])?)?, bound })
}

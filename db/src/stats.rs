//! What gauges show. Every count follows a partial index or a small table: executions that have
//! ended cost nothing, and of what lies waiting no more than [`MOST`] rows of a kind are looked at,
//! so that a look costs the same however much is there. One that has not ended is ready, held or
//! suspended.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;

use crate::conn::Conn;
use crate::event_types::{Backlog, Channel};
use crate::session::{micros, now};
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{Stats, StoreError};
use crate::workflow_states::{IN_USE, NEEDS_PERSON};

/// Rows that are counted at most; a gauge that stands there says 'as many or more'.
const MOST: i64 = 100_000;

/// An approval that expires within this is about to.
pub const EXPIRING: Duration = Duration::from_secs(300);

/// Those that are ready first: what waits for a time far ahead must not be walked for the others.
const READY_FIRST: &str = "
    SELECT q.status, q.kind, count(*) FROM (
      SELECT status, kind FROM executions WHERE ready_at IS NOT NULL ORDER BY ready_at LIMIT ?) q
    WHERE q.status <> 'suspended' GROUP BY q.status, q.kind";
const HELD: &str = "
    SELECT q.status, q.kind, count(*) FROM (
      SELECT status, kind FROM executions WHERE owner IS NOT NULL LIMIT ?) q GROUP BY q.status, q.kind";
const SUSPENDED: &str = "
    SELECT count(*) FROM (SELECT 1 FROM executions WHERE status = 'suspended' AND kind = ? LIMIT ?) q";

/// All gauges, one after the other.
pub(crate) fn stats(conn: &mut Conn) -> StoreResult<Stats> {
    let executions = executions(conn)?;
    let (approvals_pending, oldest_approval) = count_from(conn, PENDING, &binds![MOST])?;
    let (ready, oldest_ready) = count_from(conn, READY, &binds![MOST])?;
    let (deliveries, next_delivery) = count_from(conn, DELIVERIES, &binds![MOST])?;
    Ok(Stats {
        executions,
        approvals_pending,
        oldest_approval,
        approvals_expiring: count(conn, ABOUT_TO_EXPIRE, &binds![micros(EXPIRING), MOST])?,
        ready,
        oldest_ready,
        leased: count(conn, LEASED, &binds![MOST])?,
        sessions: count(conn, "SELECT count(*) FROM sessions WHERE expires_at > (SELECT hp_now())", &[])?,
        ticks: ticks(conn)?,
        attention: attention(conn)?,
        deliveries,
        next_delivery,
        parked: count(conn, PARKED, &binds![MOST])?,
        outgoing: Channel::ALL.iter().map(|channel| backlog(conn, *channel)).collect::<StoreResult<_>>()?,
        now: now(conn)?,
    })
}

/// In the order of their ends: the oldest is among the first, as far as definitions are alike.
const PENDING: &str = "
    SELECT count(*), min(q.requested_at) FROM (
      SELECT requested_at FROM approvals WHERE status = 'pending' ORDER BY expires_at LIMIT ?) q";
/// Those of a paused execution may lie there long after their end.
const ABOUT_TO_EXPIRE: &str = "
    SELECT count(*) FROM (SELECT 1 FROM approvals WHERE status = 'pending'
      AND expires_at > (SELECT hp_now()) AND expires_at <= (SELECT hp_now()) + ? LIMIT ?) q";
const READY: &str = "
    SELECT count(*), min(q.ready_at) FROM (SELECT ready_at FROM executions
      WHERE ready_at <= (SELECT hp_now()) AND owner IS NULL ORDER BY ready_at LIMIT ?) q";
const LEASED: &str = "SELECT count(*) FROM (SELECT 1 FROM executions WHERE owner IS NOT NULL LIMIT ?) q";
const PARKED: &str = "SELECT count(*) FROM (SELECT 1 FROM parked_messages LIMIT ?) q";
const DELIVERIES: &str = "
    SELECT count(*), min(q.next_at) FROM (SELECT next_at FROM webhook_deliveries
      WHERE next_at IS NOT NULL ORDER BY next_at LIMIT ?) q";
const OUTGOING: &str = "
    SELECT count(*), min(q.at) FROM (SELECT at FROM outgoing WHERE channel = ? LIMIT ?) q";

fn executions(conn: &mut Conn) -> StoreResult<Vec<(Status, DefinitionKind, i64)>> {
    let mut counts: BTreeMap<(Status, DefinitionKind), i64> = BTreeMap::new();
    for text in [READY_FIRST, HELD] {
        for mut row in conn.rows(text, &binds![MOST])? {
            let of = (row.word()?, row.word()?);
            *counts.entry(of).or_default() += row.big()?;
        }
    }
    for kind in DefinitionKind::ALL {
        let suspended = count(conn, SUSPENDED, &binds![kind.as_str(), MOST])?;
        counts.insert((Status::Suspended, *kind), suspended);
    }
    Ok(counts.into_iter().map(|((status, kind), count)| (status, kind, count)).collect())
}

fn ticks(conn: &mut Conn) -> StoreResult<Vec<(SweepKind, Timestamp)>> {
    let mut ticks = Vec::new();
    for mut row in conn.rows("SELECT kind, due_at FROM ticks", &[])? {
        let (kind, due_at) = (row.text()?, row.time()?);
        // One that another version knows is not ours to tell of.
        ticks.extend(SweepKind::parse(&kind).map(|kind| (kind, due_at)));
    }
    Ok(ticks)
}

/// What is still to be sent by one channel.
fn backlog(conn: &mut Conn, channel: Channel) -> StoreResult<Backlog> {
    let (rows, oldest) = count_from(conn, OUTGOING, &binds![channel.as_str(), MOST])?;
    Ok(Backlog { channel, rows, oldest })
}

/// A count, and the earliest of the times that were counted.
fn count_from(conn: &mut Conn, text: &str, values: &[Bind<'_>]) -> StoreResult<(i64, Option<Timestamp>)> {
    let row = conn.row(text, values)?;
    let mut row = row.ok_or_else(|| StoreError::Corrupt("a count has no row".to_owned()))?;
    Ok((row.big()?, row.opt_time()?))
}

/// Those that `GET /v1/attention` lists, of all tenants.
fn attention(conn: &mut Conn) -> StoreResult<i64> {
    let listed = format!("SELECT 1 FROM workflows e WHERE {NEEDS_PERSON} AND {IN_USE}");
    count(conn, &format!("SELECT count(*) FROM ({listed} LIMIT ?) q"), &binds![MOST])
}

fn count(conn: &mut Conn, text: &str, values: &[Bind<'_>]) -> StoreResult<i64> {
    let row = conn.row(text, values)?;
    row.ok_or_else(|| StoreError::Corrupt("a count has no row".to_owned()))?.big()
}

//! What gauges show. Every count follows a partial index: executions that have ended cost
//! nothing. One that has not is ready, held or suspended.

use std::collections::BTreeMap;

use holdpoint_engine::status::{DefinitionKind, Status};

use crate::conn::Conn;
use crate::outgoing::outgoing_backlog;
use crate::session::now;
use crate::store::StoreResult;
use crate::types::{Stats, StoreError};

const EXECUTIONS: [&str; 3] = [
    "SELECT status, kind, count(*) FROM executions
     WHERE ready_at IS NOT NULL AND status <> 'suspended' GROUP BY status, kind",
    "SELECT status, kind, count(*) FROM executions WHERE owner IS NOT NULL GROUP BY status, kind",
    "SELECT 'suspended', kind, count(*) FROM executions WHERE status = 'suspended' GROUP BY kind",
];

/// All gauges, one after the other.
pub(crate) fn stats(conn: &mut Conn) -> StoreResult<Stats> {
    let mut counts: BTreeMap<(Status, DefinitionKind), i64> = BTreeMap::new();
    for text in EXECUTIONS {
        for mut row in conn.rows(text, &[])? {
            let of = (row.word()?, row.word()?);
            *counts.entry(of).or_default() += row.big()?;
        }
    }
    let approvals =
        conn.row("SELECT count(*), min(requested_at) FROM approvals WHERE status = 'pending'", &[])?;
    let mut approvals = approvals.ok_or_else(|| StoreError::Corrupt("a count has no row".to_owned()))?;
    let ready = "SELECT count(*) FROM executions WHERE ready_at <= (SELECT hp_now()) AND owner IS NULL";
    Ok(Stats {
        executions: counts.into_iter().map(|((status, kind), count)| (status, kind, count)).collect(),
        approvals_pending: approvals.big()?,
        oldest_approval: approvals.opt_time()?,
        ready: count(conn, ready)?,
        leased: count(conn, "SELECT count(*) FROM executions WHERE owner IS NOT NULL")?,
        parked: count(conn, "SELECT count(*) FROM parked_messages")?,
        outgoing: outgoing_backlog(conn)?,
        now: now(conn)?,
    })
}

fn count(conn: &mut Conn, text: &str) -> StoreResult<i64> {
    conn.row(text, &[])?.ok_or_else(|| StoreError::Corrupt("a count has no row".to_owned()))?.big()
}

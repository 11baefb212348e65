//! Worker sessions: one row carries the lease of all that a worker holds. A session that
//! has expired never lives again.

use std::time::Duration;

use holdpoint_engine::ids::SessionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::sql::binds;
use crate::standing_types::AboutWorker;
use crate::store::StoreResult;
use crate::types::{Beat, StoreError};

/// A length of time as the database counts it.
pub(crate) fn micros(length: Duration) -> i64 {
    i64::try_from(length.as_micros()).unwrap_or(i64::MAX / 4)
}

/// The database's time.
pub(crate) fn now(conn: &mut Conn) -> StoreResult<Timestamp> {
    let row = conn.row("SELECT hp_now()", &[])?;
    row.ok_or_else(|| StoreError::Corrupt("no time".to_owned()))?.time()
}

/// Begins a session; the database's time. Sessions long over that hold nothing are removed.
pub(crate) fn session_begin(
    conn: &mut Conn,
    id: SessionId,
    name: &str,
    lease: Duration,
) -> StoreResult<Timestamp> {
    conn.rows(
        "DELETE FROM sessions WHERE expires_at < (SELECT hp_now()) - 3600000000
           AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.owner = sessions.id)",
        &[],
    )?;
    conn.rows(
        "INSERT INTO sessions (id, name, started_at, expires_at)
         VALUES (?, ?, (SELECT hp_now()), (SELECT hp_now()) + ?) ON CONFLICT DO NOTHING",
        &binds![id.0, name, micros(lease)],
    )?;
    now(conn)
}

const EXTEND: &str = "
    UPDATE sessions SET expires_at = (SELECT hp_now()) + ? WHERE id = ? AND expires_at > (SELECT hp_now())
    RETURNING (SELECT hp_now())";

pub(crate) const CHANGED: &str = "
    WITH u(t, p, x, w, s) AS (@u)
    SELECT u.t, u.p, u.x, e.owner IS NOT DISTINCT FROM u.s
    FROM u LEFT JOIN executions e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x
    WHERE e.owner IS DISTINCT FROM u.s OR e.wake <> u.w";

/// Extends the lease, and says what changed among the held.
pub(crate) fn session_beat(
    conn: &mut Conn,
    id: SessionId,
    lease: Duration,
    held: &[(ExecutionKey, i64)],
) -> StoreResult<Beat> {
    let extended = conn.row(EXTEND, &binds![micros(lease), id.0])?;
    let Some(mut extended) = extended else {
        return Ok(Beat { alive: false, now: now(conn)?, woken: Vec::new(), lost: Vec::new() });
    };
    let rows: Vec<_> = held
        .iter()
        .map(|(key, wake)| binds![&*key.scope.tenant, &*key.scope.project, key.id.0, *wake, id.0])
        .collect();
    let mut beat = Beat { alive: true, now: extended.time()?, woken: Vec::new(), lost: Vec::new() };
    for mut row in conn.each(CHANGED, &rows, &[])? {
        let key = row.key()?;
        if row.bool()? { beat.woken.push(key) } else { beat.lost.push(key) }
    }
    Ok(beat)
}

/// Keeps what a worker says of itself, where its session is still there.
pub(crate) fn session_tell(conn: &mut Conn, id: SessionId, about: &AboutWorker) -> StoreResult<()> {
    let about = serde_json::to_string(about).map_err(|error| StoreError::Refused(error.to_string()))?;
    conn.rows("UPDATE sessions SET about = ? WHERE id = ?", &binds![&about, id.0]).map(drop)
}

/// Ends a session; what it held is ready.
pub(crate) fn session_end_in_txn(conn: &mut Conn, id: SessionId) -> StoreResult<()> {
    conn.rows(
        "UPDATE executions SET owner = NULL, ready_at = (SELECT hp_now()), updated_at = (SELECT hp_now())
         WHERE owner = ?",
        &binds![id.0],
    )?;
    conn.rows("DELETE FROM sessions WHERE id = ?", &binds![id.0]).map(drop)
}

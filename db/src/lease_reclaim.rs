//! Takes an execution from a session that has expired.

use holdpoint_engine::ids::SessionId;
use holdpoint_engine::status::{AuditAct, Reason};
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::audit;
use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::outside::{self, Locked, Opened};
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::Swept;

/// From so many lost leases on an execution is handed out alone.
const SUSPECT: i32 = 2;

/// One transaction's work. Only an execution that had been handed out alone can fail: of
/// one that had neighbours nobody knows whether it took the worker down.
pub(crate) fn lease_reclaim_in_txn(conn: &mut Conn, key: &ExecutionKey, max_lost: i32) -> StoreResult<Swept> {
    let Some(locked) = outside::try_lock(conn, key)? else { return Ok(Swept::Skipped) };
    let Some(owner) = locked.owner else { return Ok(Swept::Skipped) };
    if is_alive(conn, owner)? {
        return Ok(Swept::Skipped);
    }
    conn.noted.lease_lost();
    if locked.lost >= SUSPECT && locked.lost + 1 >= max_lost {
        return fail(conn, locked);
    }
    let [tenant, project, id] = key_row(key);
    let [now, lost] = binds![locked.now, locked.lost + 1];
    conn.rows(
        "UPDATE executions SET owner = NULL, ready_at = ?, lost = ?, updated_at = ?
         WHERE tenant = ? AND project = ? AND id = ? AND owner IS NOT DISTINCT FROM ?",
        &[now, lost, now, tenant, project, id, Bind::from(owner.0)],
    )?;
    Ok(Swept::Done { new_event: None, ready: true })
}

fn is_alive(conn: &mut Conn, session: SessionId) -> StoreResult<bool> {
    let alive = "SELECT 1 FROM sessions WHERE id = ? AND expires_at > (SELECT hp_now())";
    Ok(conn.row(alive, &binds![session.0])?.is_some())
}

fn fail(conn: &mut Conn, locked: Locked) -> StoreResult<Swept> {
    let (lost, key) = (locked.lost + 1, locked.key.clone());
    let details = json!({"reason": Reason::Stuck, "lost_leases": lost});
    audit::note(conn, &key.scope, "scheduler", AuditAct::ExecutionFailed, key.id, details)?;
    let mut opened = Opened::load(conn, locked)?;
    opened.fail(
        Reason::Stuck,
        &format!("it lost {lost} leases without a commit, the last one while it ran alone"),
    );
    let acted = opened.write(conn)?;
    Ok(Swept::Done { new_event: acted.new_event, ready: false })
}

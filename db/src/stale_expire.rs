//! Fails an execution whose approval nobody decided in time.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_engine::entry::Json;
use holdpoint_engine::status::{Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::outside::{self, Locked, Opened};
use crate::session::micros;
use crate::sql::Bind;
use crate::store::StoreResult;
use crate::sweeps::DUE;
use crate::types::{StoreError, Swept};

/// One transaction's work: everything is looked at again under the lock.
pub(crate) fn stale_expire_in_txn(
    conn: &mut Conn,
    key: &ExecutionKey,
    timeout: Option<Duration>,
) -> StoreResult<Swept> {
    let Some(locked) = outside::lock(conn, key)? else { return Ok(Swept::Skipped) };
    if !may_be_stale(&locked) || !has_expired(conn, &locked, timeout)? {
        return Ok(Swept::Skipped);
    }
    let now = locked.now;
    let mut opened = Opened::load(conn, locked)?;
    opened.fail(Reason::ApprovalTimeout, "an approval was not decided in time");
    let timed_out = opened.run.ended == Some(Status::Failed);
    let acted = opened.write(conn)?;
    if timed_out {
        merge_metadata(conn, key, now)?;
    }
    Ok(Swept::Done { new_event: acted.new_event, ready: false })
}

fn may_be_stale(locked: &Locked) -> bool {
    locked.status == Status::Suspended
        && locked.owner.is_none()
        && locked.reason != Some(Reason::Paused)
        && locked.ready_at.is_none_or(|ready_at| ready_at > locked.now)
}

fn has_expired(conn: &mut Conn, locked: &Locked, timeout: Option<Duration>) -> StoreResult<bool> {
    let [tenant, project, id] = key_row(&locked.key);
    let timeout = Bind::from(timeout.map(micros));
    let text = format!(
        "SELECT 1 FROM approvals a WHERE a.tenant = ? AND a.project = ? AND a.execution = ?
           AND a.status = 'pending' AND {DUE} <= ? LIMIT 1"
    );
    let values = [tenant, project, id, timeout, timeout, locked.now.into()];
    Ok(conn.row(&text, &values)?.is_some())
}

/// Adds to the caller's object, and leaves its other keys as they are, byte for byte.
fn merge_metadata(conn: &mut Conn, key: &ExecutionKey, now: Timestamp) -> StoreResult<()> {
    let [tenant, project, id] = key_row(key);
    let row = conn.row(
        "SELECT metadata FROM execution_info WHERE tenant = ? AND project = ? AND id = ?",
        &[tenant, project, id],
    )?;
    let metadata = row.ok_or_else(|| StoreError::Corrupt("an execution has no info".to_owned()))?.text()?;
    let mut merged: BTreeMap<String, Json> = serde_json::from_str(&metadata)
        .map_err(|error| StoreError::Corrupt(format!("metadata of {}: {error}", key.id)))?;
    merged.insert("failure_reason".to_owned(), holdpoint_engine::json(Reason::ApprovalTimeout.as_str()));
    merged.insert("timed_out_at".to_owned(), holdpoint_engine::json(&now));
    let merged = serde_json::to_string(&merged).map_err(|error| StoreError::Refused(error.to_string()))?;
    conn.rows(
        "UPDATE execution_info SET metadata = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[Bind::from(&merged), tenant, project, id],
    )
    .map(drop)
}

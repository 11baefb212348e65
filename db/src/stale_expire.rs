//! What becomes of an execution whose approval nobody decided in time: its policy says whether
//! it fails, goes on without the call, or waits for further approvers.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{ApprovalEscalated, Entry, Json};
use holdpoint_engine::ids::ApprovalId;
use holdpoint_engine::outside::{Asked, nobody_decided};
use holdpoint_engine::policy::{Policy, Standing, Then};
use holdpoint_engine::status::{AuditAct, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::outside::{self, Locked, Opened};
use crate::row::Row;
use crate::session::micros;
use crate::sql::Bind;
use crate::store::StoreResult;
use crate::sweeps::DUE;
use crate::types::{StoreError, Swept, Tell};
use crate::{commit_approvals, session, votes};

/// Who acts, in the audit.
const SCHEDULER: &str = "scheduler";

/// One transaction's work: everything is looked at again under the lock.
pub(crate) fn stale_expire_in_txn(
    conn: &mut Conn,
    key: &ExecutionKey,
    timeout: Option<Duration>,
) -> StoreResult<Swept> {
    let Some(locked) = outside::lock(conn, key)? else { return Ok(Swept::Skipped) };
    if !may_be_stale(&locked) {
        return Ok(Swept::Skipped);
    }
    let due = due(conn, &locked, timeout)?;
    if due.is_empty() {
        return Ok(Swept::Skipped);
    }
    let now = locked.now;
    let mut opened = Opened::load(conn, locked)?;
    let words =
        due.into_iter().map(|one| time_out(conn, &mut opened, one)).collect::<StoreResult<Vec<_>>>()?;
    if words.contains(&Some(Then::Fail)) {
        opened.fail(Reason::ApprovalTimeout, "an approval was not decided in time");
    } else if !words.contains(&Some(Then::Deny)) {
        opened.stay();
    }
    let timed_out = words.contains(&Some(Then::Fail)) && opened.run.ended == Some(Status::Failed);
    let acted = opened.write(conn)?;
    if timed_out {
        merge_metadata(conn, key, now)?;
    }
    Ok(Swept::Done { new_event: acted.new_event, ready: matches!(acted.tell, Tell::Workers) })
}

/// An undecided approval whose time is over.
struct Due {
    step: i32,
    call_id: String,
    tool: String,
    digest: String,
    policy: Policy,
    /// As it is written down.
    noted: Standing,
}

/// Further approvers are asked, or the policy has the last word.
fn time_out(conn: &mut Conn, opened: &mut Opened, due: Due) -> StoreResult<Option<Then>> {
    let now = opened.locked.now;
    let key = opened.locked.key.clone();
    // A sweep's own timeout comes before the expiry: from now on others have their time.
    let noted = Standing { expires_at: due.noted.expires_at.min(now), ..due.noted };
    let standing = due.policy.standing(noted, now);
    if let Some(escalated_at) = standing.escalated_at.filter(|at| due.noted.escalated_at != Some(*at)) {
        let expires_at = standing.expires_at;
        let row = commit_approvals::escalate_row(&key, &due.call_id, escalated_at, expires_at);
        commit_approvals::escalate(conn, &[row])?;
        commit_approvals::timed_out(conn, &key, &due.call_id, AuditAct::ApprovalEscalated, SCHEDULER)?;
        let (tool_call_id, tool) = (due.call_id.clone(), due.tool.clone());
        opened.note(Entry::ApprovalEscalated(ApprovalEscalated {
            step: due.step,
            tool_call_id,
            tool,
            escalated_at,
            expires_at,
        }));
    }
    if standing.expires_at > now {
        return Ok(None);
    }
    if due.policy.last_word() == Then::Deny {
        commit_approvals::deny(conn, &[commit_approvals::deny_row(&key, &due.call_id, now)])?;
        commit_approvals::timed_out(conn, &key, &due.call_id, AuditAct::ApprovalDecided, SCHEDULER)?;
        let asked = Asked { step: due.step, call_id: &due.call_id, tool: &due.tool, digest: due.digest };
        opened.act(&Act::Decided(nobody_decided(asked, now)));
    }
    Ok(Some(due.policy.last_word()))
}

fn may_be_stale(locked: &Locked) -> bool {
    locked.status == Status::Suspended
        && locked.owner.is_none()
        && locked.reason != Some(Reason::Paused)
        && locked.ready_at.is_none_or(|ready_at| ready_at > locked.now)
}

fn due(conn: &mut Conn, locked: &Locked, timeout: Option<Duration>) -> StoreResult<Vec<Due>> {
    let [tenant, project, id] = key_row(&locked.key);
    let timeout = Bind::from(timeout.map(micros));
    let text = format!(
        "SELECT a.id, a.step, a.call_id, a.tool, a.digest, a.policy, a.expires_at, a.escalated_at
         FROM approvals a WHERE a.tenant = ? AND a.project = ? AND a.execution = ?
           AND a.status = 'pending' AND {DUE} <= ? ORDER BY a.step"
    );
    let values = [tenant, project, id, timeout, timeout, locked.now.into()];
    let read = |mut row: Row| {
        let id = ApprovalId(row.id()?);
        Ok(Due {
            step: row.int()?,
            call_id: row.text()?,
            tool: row.text()?,
            digest: row.text()?,
            policy: votes::read_policy(row.opt_text()?.as_deref(), id)?,
            noted: Standing { expires_at: row.time()?, escalated_at: row.opt_time()? },
        })
    };
    conn.rows(&text, &values)?.into_iter().map(read).collect()
}

/// What a workflow's own clock found to be over is told in the same way.
pub(crate) fn note_timeout(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<()> {
    let now = session::now(conn)?;
    merge_metadata(conn, key, now)
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

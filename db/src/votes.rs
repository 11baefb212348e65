//! What people said about a question that asks for several of them. Each person counts once.

use holdpoint_engine::ids::ApprovalId;
use holdpoint_engine::policy::Requester;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ApprovalRow, DecideRequest, StoreError, Vote};

/// The votes on the questions that ask for several people.
pub(crate) fn load(conn: &mut Conn, rows: &mut [ApprovalRow]) -> StoreResult<()> {
    for row in rows.iter_mut().filter(|row| row.policy.quorum > 1) {
        row.votes = votes(conn, row)?;
    }
    Ok(())
}

fn votes(conn: &mut Conn, of: &ApprovalRow) -> StoreResult<Vec<Vote>> {
    let [tenant, project, id] = key_row(&of.key);
    let rows = conn.rows(
        "SELECT v.person, v.key, v.at, v.approved, v.reason, v.arguments, v.digest FROM approval_votes v
         WHERE v.tenant = ? AND v.project = ? AND v.execution = ? AND v.call_id = ? AND v.approval = ?
         ORDER BY v.at, v.person",
        &[tenant, project, id, Bind::from(&of.tool_call_id), Bind::from(of.id.0)],
    )?;
    rows.into_iter()
        .map(|mut row| {
            Ok(Vote {
                person: row.text()?,
                by: row.text()?,
                at: row.time()?,
                approved: row.bool()?,
                reason: row.opt_text()?,
                arguments: row.opt_text()?,
                digest: row.text()?,
            })
        })
        .collect()
}

/// Writes a vote under the lock of the execution's row. Somebody who approved before may still
/// deny: that takes the place of what they said.
pub(crate) fn insert(
    conn: &mut Conn,
    of: &ApprovalRow,
    request: &DecideRequest,
    digest: &str,
    now: Timestamp,
) -> StoreResult<()> {
    let person = request.by.person();
    let [tenant, project, id] = key_row(&of.key);
    let [call, approval, person, key, at, approved, reason, arguments, digest] = binds![
        &of.tool_call_id,
        of.id.0,
        &person,
        &request.by.key,
        now,
        request.approved,
        request.reason.as_deref(),
        request.arguments.as_deref().filter(|_| request.approved),
        digest,
    ];
    conn.rows(
        "INSERT INTO approval_votes (tenant, project, execution, call_id, approval, person, key, at, approved, reason,
           arguments, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
         ON CONFLICT (tenant, project, execution, call_id, approval, person) DO UPDATE SET key = excluded.key,
           at = excluded.at, approved = excluded.approved, reason = excluded.reason,
           arguments = excluded.arguments, digest = excluded.digest",
        &[tenant, project, id, call, approval, person, key, at, approved, reason, arguments, digest],
    )
    .map(drop)
}

/// Delegations and children have their parent where others have a key: who started the first
/// of them is who asked.
pub(crate) fn resolve_requester(conn: &mut Conn, scope: &Scope, row: &mut ApprovalRow) -> StoreResult<()> {
    if row.policy.no_self_approval {
        resolve(conn, scope, &mut row.requester)?;
    }
    Ok(())
}

/// Who asked for what an execution does.
pub(crate) fn requester(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Requester> {
    let mut requester = Requester { key: key.id.to_string(), end_user: None };
    resolve(conn, &key.scope, &mut requester)?;
    Ok(requester)
}

fn resolve(conn: &mut Conn, scope: &Scope, requester: &mut Requester) -> StoreResult<()> {
    // As deep as executions may start each other without anybody waiting.
    for _ in 0..256 {
        let Ok(parent) = requester.key.parse::<holdpoint_engine::ids::ExecutionId>() else {
            return Ok(());
        };
        let found = conn.row(
            "SELECT created_by, end_user FROM execution_info WHERE tenant = ? AND project = ? AND id = ?",
            &binds![&*scope.tenant, &*scope.project, parent.0],
        )?;
        let Some(mut found) = found else { return Ok(()) };
        requester.key = found.text()?;
        requester.end_user = requester.end_user.take().or(found.opt_text()?);
    }
    Ok(())
}

/// A question by its own id, for those that judge it: what was frozen with it.
pub(crate) fn read_policy(
    text: Option<&str>,
    id: ApprovalId,
) -> StoreResult<holdpoint_engine::policy::Policy> {
    let Some(text) = text else { return Ok(Default::default()) };
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(format!("the policy of {id}: {error}")))
}

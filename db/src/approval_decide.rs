//! A decision, judged in the contract's order under the lock of the execution's row: is it
//! there, is it decided, is it closed, does the digest match, may they decide. Then it is
//! counted, and taken once enough people said the same.

use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::ApprovalDecided;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ApprovalStatus, AuditAct};
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::approvals::of_call;
use crate::audit::{self, Entry};
use crate::children;
use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::outside::{self, Locked, Opened};
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{Acted, ApprovalRow, DecideRequest, Decided, StoreError};
use crate::{grants, votes};

/// One transaction's work. A decision through a parent is one on the child's own approval,
/// and is told as the parent shows it.
pub(crate) fn approval_decide_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    request: &DecideRequest,
) -> StoreResult<Decided> {
    let meant = children::meant(conn, scope, request)?;
    let decided = decide(conn, scope, &meant)?;
    if meant.execution == request.execution {
        return Ok(decided);
    }
    let shown = |row| children::shown_as(row, request.execution, request.tool_call_id.clone());
    Ok(match decided {
        Decided::Taken { approval, acted } => Decided::Taken { approval: shown(approval), acted },
        Decided::Counted(row) => Decided::Counted(shown(row)),
        Decided::Already(row) => Decided::Already(shown(row)),
        Decided::Conflict(row) => Decided::Conflict(shown(row)),
        Decided::Closed(row) => Decided::Closed(shown(row)),
        Decided::DigestMismatch(row) => Decided::DigestMismatch(shown(row)),
        Decided::VotesDiffer(row) => Decided::VotesDiffer(shown(row)),
        Decided::Barred { approval, why } => Decided::Barred { approval: shown(approval), why },
        Decided::NoEdit(row) => Decided::NoEdit(shown(row)),
        Decided::NotFound => Decided::NotFound,
    })
}

fn decide(conn: &mut Conn, scope: &Scope, request: &DecideRequest) -> StoreResult<Decided> {
    let key = ExecutionKey { scope: scope.clone(), id: request.execution };
    let Some(locked) = outside::lock(conn, &key)? else { return Ok(Decided::NotFound) };
    if request.end_user.is_some() && request.end_user != locked.end_user {
        return Ok(Decided::NotFound);
    }
    let Some(approval) = of_call(conn, &key, &request.tool_call_id)? else { return Ok(Decided::NotFound) };
    if approval.status.is_decided() {
        return Ok(if is_same(&approval, request) {
            Decided::Already(approval)
        } else {
            Decided::Conflict(approval)
        });
    }
    if approval.status != ApprovalStatus::Pending || locked.status.is_terminal() {
        return Ok(Decided::Closed(approval));
    }
    // Of the stored bytes, computed anew: what is decided on is what was seen.
    let digest = approval.digest_of(&approval.arguments);
    if request.digest.as_ref().is_some_and(|seen| *seen != approval.digest || *seen != digest) {
        return Ok(Decided::DigestMismatch(approval));
    }
    if let Err(why) = approval.judge(&request.by, request.end_user.as_deref()) {
        return Ok(Decided::Barred { approval, why });
    }
    if request.arguments.is_some() && !approval.policy.allow_edit {
        return Ok(Decided::NoEdit(approval));
    }
    if approval.policy.quorum > 1
        && let Some(decided) = vote(conn, &locked, &approval, request)?
    {
        return Ok(decided);
    }
    let mut acted = take(conn, locked, &approval, request)?;
    let approval = again(conn, &key, &request.tool_call_id)?;
    acted.status = approval.execution_status;
    Ok(Decided::Taken { approval, acted })
}

/// Counts one person. `None` where that decides: one denial does, and the last approval that
/// it takes.
fn vote(
    conn: &mut Conn,
    locked: &Locked,
    approval: &ApprovalRow,
    request: &DecideRequest,
) -> StoreResult<Option<Decided>> {
    let edited = request.arguments.as_ref().filter(|_| request.approved);
    let digest = edited.map_or_else(|| approval.digest.clone(), |bytes| approval.digest_of(bytes));
    if request.approved {
        if approval.votes.iter().any(|vote| vote.digest != digest) {
            return Ok(Some(Decided::VotesDiffer(approval.clone())));
        }
        let person = request.by.person();
        if approval.votes.iter().any(|vote| vote.person == person) {
            return Ok(Some(Decided::Already(approval.clone())));
        }
    }
    votes::insert(conn, approval, request, &digest, locked.now)?;
    let edited_digest = edited.map(|_| digest.as_str());
    tell_audit(conn, AuditAct::ApprovalVoted, approval, request, edited_digest)?;
    if !request.approved || approval.votes_needed() <= 1 {
        return Ok(None);
    }
    Ok(Some(Decided::Counted(again(conn, &locked.key, &request.tool_call_id)?)))
}

fn again(conn: &mut Conn, key: &ExecutionKey, call_id: &str) -> StoreResult<ApprovalRow> {
    let gone = || StoreError::Corrupt("an approval is gone under its lock".to_owned());
    of_call(conn, key, call_id)?.ok_or_else(gone)
}

/// A decision is for bytes: an approval of other arguments is another decision.
fn is_same(approval: &ApprovalRow, request: &DecideRequest) -> bool {
    let arguments = request.arguments.as_ref().filter(|_| request.approved);
    approval.status == ApprovalStatus::of_decision(request.approved)
        && approval.edited_arguments.as_ref() == arguments
}

/// Writes the decision, and tells the holder, or makes the execution ready.
fn take(
    conn: &mut Conn,
    locked: Locked,
    approval: &ApprovalRow,
    request: &DecideRequest,
) -> StoreResult<Acted> {
    let edited = request.arguments.as_ref().filter(|_| request.approved);
    let edited_digest = edited.map(|bytes| approval.digest_of(bytes));
    let [tenant, project, id] = key_row(&locked.key);
    let [status, reason, by, at, arguments, digest, call] = binds![
        ApprovalStatus::of_decision(request.approved).as_str(),
        request.reason.as_deref(),
        &request.by.key,
        locked.now,
        edited.map(String::as_str),
        edited_digest.as_deref(),
        &request.tool_call_id,
    ];
    let taken = conn.rows(
        "UPDATE approvals SET status = ?, reason = ?, decided_by = ?, decided_at = ?, edited_arguments = ?,
           edited_digest = ?
         WHERE tenant = ? AND project = ? AND execution = ? AND call_id = ? AND status = 'pending'
         RETURNING call_id",
        &[status, reason, by, at, arguments, digest, tenant, project, id, call],
    )?;
    if taken.len() != 1 {
        return Err(StoreError::Corrupt("an approval changed under its lock".to_owned()));
    }
    tell_audit(conn, AuditAct::ApprovalDecided, approval, request, edited_digest.as_deref())?;
    if let Some(grant) = request.grant.as_deref().filter(|_| request.approved && approval.policy.quorum <= 1)
    {
        grants::grant_create_in_txn(conn, &approval.key.scope, grant)?;
    }
    let act = Act::Decided(ApprovalDecided {
        step: approval.step,
        tool_call_id: approval.tool_call_id.clone(),
        tool: approval.tool.clone(),
        approved: request.approved,
        reason: request.reason.clone(),
        arguments_text: edited.cloned(),
        digest: edited_digest.unwrap_or_else(|| approval.digest.clone()),
        decided_by: request.by.key.clone(),
        decided_at: locked.now,
        delegated_by: None,
    });
    if let Some(holder) = locked.owner {
        return outside::tell_holder(conn, &locked, holder, &act);
    }
    let mut opened = Opened::load(conn, locked)?;
    opened.act(&act);
    opened.write(conn)
}

fn tell_audit(
    conn: &mut Conn,
    act: AuditAct,
    approval: &ApprovalRow,
    request: &DecideRequest,
    edited_digest: Option<&str>,
) -> StoreResult<()> {
    let details = json!({
        "approval": approval.id, "tool_call_id": audit::bounded(&approval.tool_call_id), "tool": approval.tool,
        "agent": approval.agent, "version": approval.version, "approved": request.approved,
        "reason": request.reason.as_deref().map(audit::bounded), "digest": approval.digest,
        "edited_digest": edited_digest,
    });
    let entry = Entry {
        scope: Some(&approval.key.scope),
        actor: &request.by.key,
        end_user: request.end_user.as_deref(),
        act,
        subject: approval.key.id.to_string(),
        details,
    };
    audit::append(conn, &entry)
}

//! A transition that asks about a call for which there is a standing grant: the question is
//! answered by the same transaction.
//!
//! A use is one guarded update. The answer is an act in the inbox of the execution's holder, as
//! a person's would be: it is journaled, and lets the call through, by the same way. Grants are
//! taken in the order of their ids over the whole batch, after the executions' locks, so that
//! two batches do not wait for each other in a circle.

use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{ApprovalDecided, ApprovalRequested};
use holdpoint_engine::ids::GrantId;
use holdpoint_engine::policy::{Decider, Policy, Requester};
use holdpoint_engine::status::AuditAct;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{ApprovalChange, StoreError, Transition};
use crate::{audit, grants, session, votes};

/// A question that a grant answers.
pub(crate) struct Granted<'a> {
    /// The transition's place in the batch.
    pub(crate) at: usize,
    key: &'a ExecutionKey,
    asked: &'a ApprovalRequested,
    grant: GrantId,
    /// The key that made the grant.
    maker: String,
    uses: i32,
}

/// A question, and a grant that may answer it.
struct Chance<'a> {
    grant: GrantId,
    at: usize,
    key: &'a ExecutionKey,
    asked: &'a ApprovalRequested,
}

/// Uses grants for the questions of these transitions, each at most once for a question. Without
/// an offer nothing is looked at.
pub(crate) fn take<'a>(
    conn: &mut Conn,
    transitions: impl Iterator<Item = (usize, &'a Transition)>,
) -> StoreResult<Vec<Granted<'a>>> {
    let mut chances: Vec<Chance<'a>> = transitions.flat_map(|(at, one)| chances(at, one)).collect();
    chances.sort_by_key(|chance| (chance.grant, chance.at));
    let mut granted: Vec<Granted<'a>> = Vec::new();
    for chance in chances {
        let is_answered =
            |one: &Granted<'_>| one.at == chance.at && one.asked.tool_call_id == chance.asked.tool_call_id;
        if !granted.iter().any(is_answered)
            && let Some(one) = try_one(conn, chance)?
        {
            granted.push(one);
        }
    }
    granted.sort_by_key(|one| (one.at, one.asked.step));
    Ok(granted)
}

fn chances<'a>(at: usize, one: &'a Transition) -> impl Iterator<Item = Chance<'a>> {
    one.grants.iter().flat_map(move |offer| {
        let asked = one.approvals.iter().rev().find_map(|change| match change {
            ApprovalChange::Open(asked) if asked.tool_call_id == offer.tool_call_id => Some(asked.as_ref()),
            _ => None,
        });
        let chance =
            move |grant: &GrantId| asked.map(|asked| Chance { grant: *grant, at, key: &one.key, asked });
        offer.grants.iter().filter_map(chance)
    })
}

/// Several people are not one grant, and it counts as its maker's decision: where that would not
/// count, somebody is asked.
fn try_one<'a>(conn: &mut Conn, chance: Chance<'a>) -> StoreResult<Option<Granted<'a>>> {
    let Chance { grant, at, key, asked } = chance;
    let policy = asked.policy.as_deref().cloned().unwrap_or_default();
    let Some(row) = grants::grant_get(conn, &key.scope, grant)? else { return Ok(None) };
    let named = row.new.end_user.as_deref();
    if policy.quorum > 1 || row.new.tool != asked.tool || !may(conn, &policy, key, &row.new.by, named)? {
        return Ok(None);
    }
    let used = conn.row(
        "UPDATE grants SET uses = uses + 1, last_used_at = hp_now()
         WHERE tenant = ? AND project = ? AND id = ? AND uses < max_uses AND revoked_at IS NULL
           AND expires_at > hp_now() RETURNING uses",
        &binds![&*key.scope.tenant, &*key.scope.project, grant.0],
    )?;
    let Some(mut used) = used else { return Ok(None) };
    Ok(Some(Granted { at, key, asked, grant, maker: row.new.by.key, uses: used.int()? }))
}

fn may(
    conn: &mut Conn,
    policy: &Policy,
    key: &ExecutionKey,
    maker: &Decider,
    named: Option<&str>,
) -> StoreResult<bool> {
    let requester = if policy.no_self_approval { votes::requester(conn, key)? } else { Requester::default() };
    Ok(policy.judge(maker, named, &requester, false).is_ok())
}

/// Writes the answers, after the questions were opened. `wake` is the counter of acts of each
/// transition's execution after all of its answers.
pub(crate) fn decide(
    conn: &mut Conn,
    granted: &[Granted<'_>],
    wake: impl Fn(usize) -> i64,
) -> StoreResult<()> {
    if granted.is_empty() {
        return Ok(());
    }
    let now = session::now(conn)?;
    for (place, one) in granted.iter().enumerate() {
        let later = granted[place + 1..].iter().filter(|other| other.at == one.at).count() as i64;
        let n = wake(one.at) - later;
        approve(conn, one, now)?;
        put_act(conn, one, n, now)?;
        tell_audit(conn, one)?;
    }
    Ok(())
}

fn approve(conn: &mut Conn, one: &Granted<'_>, now: Timestamp) -> StoreResult<()> {
    let [tenant, project, id] = key_row(one.key);
    let by = one.grant.to_string();
    let [by, at, maker, call] = binds![&by, now, &one.maker, &one.asked.tool_call_id];
    let approved = conn.rows(
        "UPDATE approvals SET status = 'approved', decided_by = ?, decided_at = ?, granted_by = ?
         WHERE tenant = ? AND project = ? AND execution = ? AND call_id = ? AND status = 'pending' RETURNING call_id",
        &[by, at, maker, tenant, project, id, call],
    )?;
    if approved.len() != 1 {
        return Err(StoreError::Corrupt("a question that was just opened is not open".to_owned()));
    }
    Ok(())
}

fn put_act(conn: &mut Conn, one: &Granted<'_>, n: i64, now: Timestamp) -> StoreResult<()> {
    let act = Act::Decided(ApprovalDecided {
        step: one.asked.step,
        tool_call_id: one.asked.tool_call_id.clone(),
        tool: one.asked.tool.clone(),
        approved: true,
        reason: None,
        arguments_text: None,
        digest: one.asked.digest.clone(),
        decided_by: one.grant.to_string(),
        decided_at: now,
        delegated_by: None,
    });
    let act = serde_json::to_string(&act).map_err(|error| StoreError::Refused(error.to_string()))?;
    let [tenant, project, id] = key_row(one.key);
    let [n, act] = binds![n, &act];
    conn.rows(
        "UPDATE executions SET wake = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[n, tenant, project, id],
    )?;
    conn.rows(
        "INSERT INTO inbox (tenant, project, execution, n, act) VALUES (?, ?, ?, ?, ?)",
        &[tenant, project, id, n, act],
    )
    .map(drop)
}

/// The use, under the grant; and the decision, under the execution, as of any other.
fn tell_audit(conn: &mut Conn, one: &Granted<'_>) -> StoreResult<()> {
    let (scope, asked) = (&one.key.scope, one.asked);
    let details = json!({
        "execution": one.key.id, "approval": asked.approval_id, "tool_call_id": audit::bounded(&asked.tool_call_id),
        "tool": asked.tool, "digest": asked.digest, "use": one.uses, "made_by": one.maker,
    });
    audit::note(conn, scope, "worker", AuditAct::GrantUsed, one.grant, details)?;
    let details = json!({
        "approval": asked.approval_id, "tool_call_id": audit::bounded(&asked.tool_call_id), "tool": asked.tool,
        "approved": true, "digest": asked.digest, "made_by": one.maker,
    });
    audit::note(conn, scope, &one.grant.to_string(), AuditAct::ApprovalDecided, one.key.id, details)
}

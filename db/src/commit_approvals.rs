//! What a transition does to approvals: decisions that it uses up, questions that it opens
//! and closes.

use std::collections::HashMap;

use holdpoint_engine::advance::Gate;
use holdpoint_engine::digest::call_digest;
use holdpoint_engine::entry::ApprovalRequested;
use holdpoint_engine::policy::{BY_TIMEOUT, NOBODY_DECIDED, Policy};
use holdpoint_engine::status::{ApprovalStatus, AuditAct};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::audit;
use crate::conn::Conn;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ApprovalChange, Transition};

const GATES: &str = "
    WITH u(t, p, x, c) AS (@u)
    SELECT a.tenant, a.project, a.execution, a.call_id, a.status, a.tool, a.version,
      coalesce(a.edited_arguments, a.arguments), coalesce(a.edited_digest, a.digest), a.list_digest, a.used_at
    FROM u JOIN approvals a ON a.tenant = u.t AND a.project = u.p AND a.execution = u.x AND a.call_id = u.c";

/// The decision as it is stored.
struct Decision {
    approved: bool,
    digest: String,
    /// Of the stored bytes, computed anew: what is sent is what was decided on.
    digest_of_bytes: String,
    used: bool,
}

fn read_decision(row: &mut Row) -> StoreResult<Decision> {
    let approved = row.word::<ApprovalStatus>()? == ApprovalStatus::Approved;
    let (tool, version, arguments) = (row.text()?, row.int()?, row.text()?);
    let (digest, list) = (row.text()?, row.opt_text()?);
    Ok(Decision {
        approved,
        digest,
        digest_of_bytes: call_digest(&tool, version, &arguments, list.as_deref()),
        used: row.opt_big()?.is_some(),
    })
}

fn opens(decision: &Decision, gate: &Gate) -> bool {
    decision.approved
        && decision.digest == gate.digest
        && decision.digest_of_bytes == gate.digest
        && decision.used != gate.first_use
}

/// The first gate of each transition that does not open, or question that it must not close,
/// by the transition's place.
pub(crate) fn check_gates<'a>(
    conn: &mut Conn,
    transitions: impl Iterator<Item = (usize, &'a Transition)>,
) -> StoreResult<HashMap<usize, String>> {
    let transitions: Vec<(usize, &Transition)> = transitions.collect();
    let mut refused = decided_in_time(conn, &transitions)?;
    let gates: Vec<(usize, &ExecutionKey, &Gate)> = transitions
        .into_iter()
        .flat_map(|(at, one)| one.gates.iter().map(move |gate| (at, &one.key, gate)))
        .collect();
    let rows: Vec<_> = gates.iter().map(|(_, key, gate)| gate_row(key, gate)).collect();
    let mut decisions: HashMap<(ExecutionKey, String), Decision> = HashMap::new();
    for mut row in conn.each(GATES, &rows, &[])? {
        let place = (row.key()?, row.text()?);
        decisions.insert(place, read_decision(&mut row)?);
    }
    for (at, key, gate) in gates {
        let decision = decisions.get(&(key.clone(), gate.tool_call_id.clone()));
        if !decision.is_some_and(|decision| opens(decision, gate)) {
            refused.entry(at).or_insert_with(|| gate.tool_call_id.clone());
        }
    }
    Ok(refused)
}

/// A question that a transition closes as expired, denies or hands on, because nobody decided
/// in time, must be undecided: a decision that was taken stays valid, although it is not read
/// yet.
fn decided_in_time(
    conn: &mut Conn,
    transitions: &[(usize, &Transition)],
) -> StoreResult<HashMap<usize, String>> {
    let expired = |change: &'_ ApprovalChange| match change {
        ApprovalChange::Close { call_id, status: ApprovalStatus::Expired }
        | ApprovalChange::Escalate { call_id, .. }
        | ApprovalChange::Deny { call_id, .. } => Some(call_id.clone()),
        ApprovalChange::Close { .. } | ApprovalChange::Open(_) => None,
    };
    let mut refused = HashMap::new();
    for (at, one) in transitions {
        for call in one.approvals.iter().filter_map(expired) {
            let decided = conn.row(
                "SELECT 1 FROM approvals WHERE tenant = ? AND project = ? AND execution = ? AND call_id = ?
                   AND status IN ('approved', 'denied')",
                &binds![&*one.key.scope.tenant, &*one.key.scope.project, one.key.id.0, &call],
            )?;
            if decided.is_some() {
                refused.entry(*at).or_insert(call);
            }
        }
    }
    Ok(refused)
}

fn gate_row<'a>(key: &'a ExecutionKey, gate: &'a Gate) -> [Bind<'a>; 4] {
    binds![&*key.scope.tenant, &*key.scope.project, key.id.0, &gate.tool_call_id]
}

/// Marks the decisions that are used for the first time.
pub(crate) fn use_gates(conn: &mut Conn, transitions: &[&Transition]) -> StoreResult<()> {
    let first = transitions
        .iter()
        .flat_map(|one| one.gates.iter().filter(|gate| gate.first_use).map(|gate| gate_row(&one.key, gate)));
    let rows: Vec<_> = first.collect();
    let mark = "WITH u(t, p, x, c) AS (@u) UPDATE approvals AS a SET used_at = (SELECT hp_now())
                FROM u WHERE a.tenant = u.t AND a.project = u.p AND a.execution = u.x AND a.call_id = u.c
                  AND a.status = 'approved' AND a.used_at IS NULL";
    conn.each(mark, &rows, &[]).map(drop)
}

/// Changes that may be made at once, in this order.
#[derive(Default)]
struct Stretch<'a> {
    closed: Vec<[Bind<'a>; 5]>,
    escalated: Vec<[Bind<'a>; 6]>,
    denied: Vec<[Bind<'a>; 7]>,
    opened: Vec<(&'a Transition, &'a ApprovalRequested)>,
}

/// Carries out the changes in their order: one statement for each stretch of the same kind,
/// over all transitions.
pub(crate) fn write_changes(conn: &mut Conn, transitions: &[&Transition]) -> StoreResult<()> {
    let mut stretches: Vec<Stretch<'_>> = Vec::new();
    for one in transitions {
        let mut at = 0;
        let mut opened = false;
        for change in &one.approvals {
            let opens = matches!(change, ApprovalChange::Open(_));
            if opened && !opens {
                at += 1;
            }
            opened = opens;
            if stretches.len() <= at {
                stretches.push(Stretch::default());
            }
            let stretch = &mut stretches[at];
            match change {
                ApprovalChange::Close { call_id, status } => {
                    expired(conn, &one.key, call_id, *status, WORKER)?;
                    stretch.closed.push(close_row(&one.key, call_id, *status));
                }
                ApprovalChange::Escalate { call_id, at, expires_at } => {
                    timed_out(conn, &one.key, call_id, AuditAct::ApprovalEscalated, WORKER)?;
                    stretch.escalated.push(escalate_row(&one.key, call_id, *at, *expires_at));
                }
                ApprovalChange::Deny { call_id, at } => {
                    timed_out(conn, &one.key, call_id, AuditAct::ApprovalDecided, WORKER)?;
                    stretch.denied.push(deny_row(&one.key, call_id, *at));
                }
                ApprovalChange::Open(asked) => stretch.opened.push((one, asked)),
            }
        }
    }
    for stretch in stretches {
        close(conn, &stretch.closed)?;
        escalate(conn, &stretch.escalated)?;
        deny(conn, &stretch.denied)?;
        open(conn, &stretch.opened)?;
    }
    Ok(())
}

/// Tells the audit of a question that nobody answered in time.
pub(crate) fn expired(
    conn: &mut Conn,
    key: &ExecutionKey,
    call_id: &str,
    status: ApprovalStatus,
    by: &str,
) -> StoreResult<()> {
    if status == ApprovalStatus::Expired {
        timed_out(conn, key, call_id, AuditAct::ApprovalExpired, by)?;
    }
    Ok(())
}

/// Who acts where the execution's own course does, in the audit.
const WORKER: &str = "worker";

/// Tells the audit what the policy of a question made of it after its time. A decision that
/// nobody made is a denial.
pub(crate) fn timed_out(
    conn: &mut Conn,
    key: &ExecutionKey,
    call_id: &str,
    act: AuditAct,
    by: &str,
) -> StoreResult<()> {
    let mut details = json!({"tool_call_id": audit::bounded(call_id)});
    if act == AuditAct::ApprovalDecided {
        details["approved"] = false.into();
        details["reason"] = NOBODY_DECIDED.into();
    }
    audit::note(conn, &key.scope, by, act, key.id, details)
}

/// One approval to close.
pub(crate) fn close_row<'a>(
    key: &'a ExecutionKey,
    call_id: &'a str,
    status: ApprovalStatus,
) -> [Bind<'a>; 5] {
    binds![&*key.scope.tenant, &*key.scope.project, key.id.0, call_id, status.as_str()]
}

/// Closes undecided ones; a digest that does not match takes a decision back as well.
pub(crate) fn close(conn: &mut Conn, rows: &[[Bind<'_>; 5]]) -> StoreResult<()> {
    let close = "WITH u(t, p, x, c, st) AS (@u)
        UPDATE approvals AS a SET status = u.st, reason = NULL, edited_arguments = NULL, edited_digest = NULL,
          decided_by = NULL, decided_at = NULL, used_at = NULL
        FROM u WHERE a.tenant = u.t AND a.project = u.p AND a.execution = u.x AND a.call_id = u.c
          AND (a.status = 'pending' OR u.st = 'digest_mismatch')";
    conn.each(close, rows, &[]).map(drop)
}

/// One approval that further approvers are asked about.
pub(crate) fn escalate_row<'a>(
    key: &'a ExecutionKey,
    call_id: &'a str,
    at: Timestamp,
    expires_at: Timestamp,
) -> [Bind<'a>; 6] {
    binds![&*key.scope.tenant, &*key.scope.project, key.id.0, call_id, at, expires_at]
}

/// Hands undecided ones on; their expiry is one that the policy names.
pub(crate) fn escalate(conn: &mut Conn, rows: &[[Bind<'_>; 6]]) -> StoreResult<()> {
    let escalate = "WITH u(t, p, x, c, at, exp) AS (@u)
        UPDATE approvals AS a SET escalated_at = u.at, expires_at = u.exp, closes_at = u.exp, expiry_named = true
        FROM u WHERE a.tenant = u.t AND a.project = u.p AND a.execution = u.x AND a.call_id = u.c
          AND a.status = 'pending' AND a.escalated_at IS NULL";
    conn.each(escalate, rows, &[]).map(drop)
}

/// One approval that is denied because nobody decided.
pub(crate) fn deny_row<'a>(key: &'a ExecutionKey, call_id: &'a str, at: Timestamp) -> [Bind<'a>; 7] {
    let [tenant, project, id] = binds![&*key.scope.tenant, &*key.scope.project, key.id.0];
    [tenant, project, id, call_id.into(), at.into(), BY_TIMEOUT.into(), NOBODY_DECIDED.into()]
}

/// Denies undecided ones.
pub(crate) fn deny(conn: &mut Conn, rows: &[[Bind<'_>; 7]]) -> StoreResult<()> {
    let deny = "WITH u(t, p, x, c, at, who, why) AS (@u)
        UPDATE approvals AS a SET status = 'denied', reason = u.why, decided_by = u.who, decided_at = u.at
        FROM u WHERE a.tenant = u.t AND a.project = u.p AND a.execution = u.x AND a.call_id = u.c
          AND a.status = 'pending'";
    conn.each(deny, rows, &[]).map(drop)
}

const OPEN: &str = "
    WITH u(t, p, x, c, apr, step, ag, ve, tool, args, dig, req, exp, named, st, li, po, cl) AS (@u)
    INSERT INTO approvals (tenant, project, execution, call_id, id, step, agent, version, tool, arguments, digest,
      requested_at, expires_at, expiry_named, status, list_digest, policy, closes_at,
      conversation_id, end_user)
    SELECT u.t, u.p, u.x, u.c, u.apr, u.step, u.ag, u.ve, u.tool, u.args, u.dig, u.req, u.exp, u.named, u.st, u.li,
      u.po, u.cl,      i.conversation_id, i.end_user
    FROM u JOIN execution_info i ON i.tenant = u.t AND i.project = u.p AND i.id = u.x WHERE true
    ON CONFLICT (tenant, project, execution, call_id) DO UPDATE SET id = excluded.id, step = excluded.step,
      agent = excluded.agent, version = excluded.version, tool = excluded.tool, arguments = excluded.arguments,
      digest = excluded.digest, requested_at = excluded.requested_at, expires_at = excluded.expires_at,
      expiry_named = excluded.expiry_named, status = excluded.status,
      list_digest = excluded.list_digest, policy = excluded.policy, closes_at = excluded.closes_at,
      escalated_at = NULL, reason = NULL, edited_arguments = NULL,
      edited_digest = NULL, decided_by = NULL, decided_at = NULL, used_at = NULL";

/// A policy is written once for its row.
fn open(conn: &mut Conn, asked: &[(&Transition, &ApprovalRequested)]) -> StoreResult<()> {
    let text = |policy: &Policy| holdpoint_engine::json(policy).get().to_owned();
    let policies: Vec<Option<String>> =
        asked.iter().map(|(_, asked)| asked.policy.as_deref().map(text)).collect();
    let rows =
        asked.iter().zip(&policies).map(|((one, asked), policy)| open_row(one, asked, policy.as_deref()));
    let rows: Vec<[Bind<'_>; 18]> = rows.collect();
    conn.each(OPEN, &rows, &[]).map(drop)
}

fn open_row<'a>(
    transition: &'a Transition,
    asked: &'a ApprovalRequested,
    policy: Option<&'a str>,
) -> [Bind<'a>; 18] {
    let (agent, version) = match &asked.asked_by {
        Some(member) => (&member.agent, &member.version),
        None => (&transition.definition.0, &transition.definition.1),
    };
    let grace = asked.policy.as_ref().map(|policy| policy.grace()).filter(|grace| !grace.is_zero());
    let closes_at = grace.map(|grace| asked.expires_at.plus(grace));
    binds![
        &*transition.key.scope.tenant,
        &*transition.key.scope.project,
        transition.key.id.0,
        &asked.tool_call_id,
        asked.approval_id.0,
        asked.step,
        agent,
        *version,
        &asked.tool,
        &asked.arguments_text,
        &asked.digest,
        asked.requested_at,
        asked.expires_at,
        asked.expiry_named,
        ApprovalStatus::Pending.as_str(),
        asked.list_digest.as_deref(),
        policy,
        closes_at,
    ]
}

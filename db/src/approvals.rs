//! Approvals as they stand: one, and the inbox.

use holdpoint_engine::ids::ApprovalId;
use holdpoint_engine::policy::{Policy, Requester, Standing};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ApprovalFilter, ApprovalRow};
use crate::{children, votes};

/// What [`read_approval`] reads; conditions on `a` follow. The execution's status and kind are asked row
/// by row (see `executions::PAGE`).
pub(crate) const APPROVAL: &str = "
    SELECT a.id, a.tenant, a.project, a.execution,
      (SELECT e.status FROM executions e WHERE e.tenant = a.tenant AND e.project = a.project AND e.id = a.execution),
      a.step, a.call_id, a.agent, a.version, a.tool,
      a.arguments, a.digest, a.requested_at, a.expires_at, a.status, a.reason, a.edited_arguments,
      a.edited_digest, a.decided_by, a.decided_at, a.used_at, a.conversation_id, a.list_digest,
      a.policy, a.escalated_at, a.granted_by, a.end_user,
      (SELECT i.created_by FROM execution_info i WHERE i.tenant = a.tenant AND i.project = a.project AND i.id = a.execution),
      (SELECT e.kind FROM executions e WHERE e.tenant = a.tenant AND e.project = a.project AND e.id = a.execution),
      (SELECT hp_now())
    FROM approvals a WHERE a.tenant = ? AND a.project = ?";

/// A pending one whose time is over reads `expired`. Votes are still to be read.
pub(crate) fn read_approval(mut row: Row) -> StoreResult<ApprovalRow> {
    let mut approval = ApprovalRow {
        id: ApprovalId(row.id()?),
        key: row.key()?,
        execution_status: row.word()?,
        step: row.int()?,
        tool_call_id: row.text()?,
        kind: DefinitionKind::Agent,
        agent: row.text()?,
        version: row.int()?,
        tool: row.text()?,
        arguments: row.text()?,
        digest: row.text()?,
        requested_at: row.time()?,
        expires_at: row.time()?,
        status: row.word()?,
        reason: row.opt_text()?,
        edited_arguments: row.opt_text()?,
        edited_digest: row.opt_text()?,
        decided_by: row.opt_text()?,
        decided_at: row.opt_time()?,
        granted_by: None,
        used_at: row.opt_time()?,
        conversation_id: row.opt_text()?,
        list_digest: row.opt_text()?,
        delegated_by: None,
        policy: Policy::default(),
        escalated_at: None,
        requester: Requester::default(),
        votes: Vec::new(),
    };
    approval.policy = votes::read_policy(row.opt_text()?.as_deref(), approval.id)?;
    approval.escalated_at = row.opt_time()?;
    approval.granted_by = row.opt_text()?;
    approval.requester = Requester { end_user: row.opt_text()?, key: row.opt_text()?.unwrap_or_default() };
    approval.kind = row.word()?;
    let now = row.time()?;
    if approval.status == ApprovalStatus::Pending {
        stand(&mut approval, now);
    }
    Ok(approval)
}

/// What the passing of its time has made of an undecided one, whether that is written or not.
fn stand(approval: &mut ApprovalRow, now: Timestamp) {
    let noted = Standing { expires_at: approval.expires_at, escalated_at: approval.escalated_at };
    let standing = approval.policy.standing(noted, now);
    (approval.expires_at, approval.escalated_at) = (standing.expires_at, standing.escalated_at);
    if standing.expires_at <= now {
        approval.status = ApprovalStatus::Expired;
    }
}

/// The rest of what belongs to approvals that were read.
pub(crate) fn complete(conn: &mut Conn, scope: &Scope, rows: &mut [ApprovalRow]) -> StoreResult<()> {
    for row in rows.iter_mut() {
        votes::resolve_requester(conn, scope, row)?;
    }
    votes::load(conn, rows)
}

fn one(conn: &mut Conn, scope: &Scope, row: Option<Row>) -> StoreResult<Option<ApprovalRow>> {
    let Some(row) = row else { return Ok(None) };
    let mut found = read_approval(row)?;
    complete(conn, scope, std::slice::from_mut(&mut found))?;
    Ok(Some(found))
}

/// One approval by its call.
pub(crate) fn of_call(
    conn: &mut Conn,
    key: &ExecutionKey,
    call_id: &str,
) -> StoreResult<Option<ApprovalRow>> {
    let [tenant, project, id] = key_row(key);
    let text = format!("{APPROVAL} AND a.execution = ? AND a.call_id = ?");
    let row = conn.row(&text, &[tenant, project, id, call_id.into()])?;
    one(conn, &key.scope, row)
}

/// One approval by its own id.
pub(crate) fn approval_get(
    conn: &mut Conn,
    scope: &Scope,
    id: ApprovalId,
) -> StoreResult<Option<ApprovalRow>> {
    let row =
        conn.row(&format!("{APPROVAL} AND a.id = ?"), &binds![&*scope.tenant, &*scope.project, id.0])?;
    one(conn, scope, row)
}

/// What each approval is looked at for.
pub(crate) fn push_filters<'a>(filter: &'a ApprovalFilter, text: &mut String, values: &mut Vec<Bind<'a>>) {
    match filter.status {
        Some(ApprovalStatus::Pending) => {
            text.push_str(
                " AND a.status = 'pending' AND coalesce(a.closes_at, a.expires_at) > (SELECT hp_now())",
            );
        }
        Some(ApprovalStatus::Expired) => text.push_str(
            " AND (a.status = 'expired' OR (a.status = 'pending'
               AND coalesce(a.closes_at, a.expires_at) <= (SELECT hp_now())))",
        ),
        Some(status) => {
            text.push_str(" AND a.status = ?");
            values.push(status.as_str().into());
        }
        None => {}
    }
    for (column, wanted) in [
        ("agent", &filter.agent),
        ("tool", &filter.tool),
        ("conversation_id", &filter.conversation_id),
        ("end_user", &filter.end_user),
    ] {
        if let Some(wanted) = wanted {
            text.push_str(&format!(" AND a.{column} = ?"));
            values.push(wanted.into());
        }
    }
}

/// The inbox, oldest first. What is asked for one execution or conversation has the
/// approvals of its children too.
pub(crate) fn approval_list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &ApprovalFilter,
) -> StoreResult<Vec<ApprovalRow>> {
    let mut text = APPROVAL.to_owned();
    let mut values: Vec<Bind<'_>> = binds![&*scope.tenant, &*scope.project].to_vec();
    push_filters(filter, &mut text, &mut values);
    if let Some(execution) = filter.execution {
        text.push_str(" AND a.execution = ?");
        values.push(execution.0.into());
    }
    if let Some((requested_at, id)) = filter.after {
        text.push_str(" AND (a.requested_at, a.id) > (?, ?)");
        values.extend(binds![requested_at, id.0]);
    }
    text.push_str(" ORDER BY a.requested_at, a.id LIMIT ?");
    values.push((filter.limit as i64).into());
    let mut found =
        conn.rows(&text, &values)?.into_iter().map(read_approval).collect::<StoreResult<Vec<_>>>()?;
    complete(conn, scope, &mut found)?;
    let below = children::approvals_below(conn, scope, filter)?;
    if !below.is_empty() {
        found.extend(below);
        found.sort_by_key(|row| (row.requested_at, row.id));
        found.truncate(filter.limit);
    }
    Ok(found)
}

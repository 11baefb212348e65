//! Pages of a project's approvals: the inbox, and those that are decided or closed.

use holdpoint_engine::ids::ApprovalId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::ApprovalStatus;

use crate::approvals::{APPROVAL, complete, push_filters, read_approval};
use crate::conn::Conn;
use crate::executions::LOOKED_AT;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ApprovalFilter, ApprovalPage, StoreError};

/// Pending ones by their own index, all of them by the one over the list's order.
const PENDING: &str =
    "SELECT k.* FROM approvals k WHERE k.tenant = ? AND k.project = ? AND k.status = 'pending'";
const ALL: &str = "SELECT k.* FROM approvals k WHERE k.tenant || '/' || k.project = ?";
const OLDEST: &str = " ORDER BY k.requested_at, k.id LIMIT ?";
/// In place of the whole table: the rows that a page looks at.
const TABLE: &str = "FROM approvals a WHERE";

/// The rows that a page looks at, and their values.
fn looked_at<'a>(
    scope: &'a Scope,
    owner: &'a str,
    filter: &ApprovalFilter,
    limit: i64,
) -> (String, Vec<Bind<'a>>) {
    let (mut text, mut values) = match filter.status {
        Some(ApprovalStatus::Pending) => {
            (PENDING.to_owned(), binds![&*scope.tenant, &*scope.project].to_vec())
        }
        _ => (ALL.to_owned(), binds![owner].to_vec()),
    };
    if let Some((requested_at, id)) = filter.after {
        text.push_str(" AND (k.requested_at, k.id) > (?, ?)");
        values.extend(binds![requested_at, id.0]);
    }
    text.push_str(OLDEST);
    values.push(limit.into());
    (text, values)
}

/// A page, oldest first. Of one execution or conversation there are no pages.
pub(crate) fn approval_page(
    conn: &mut Conn,
    scope: &Scope,
    filter: &ApprovalFilter,
) -> StoreResult<ApprovalPage> {
    if filter.execution.is_some() || filter.conversation_id.is_some() {
        return Err(StoreError::Refused("approvals of one execution have no pages".to_owned()));
    }
    let (owner, most) = (scope.to_string(), LOOKED_AT.max(filter.limit + 1) as i64);
    let (inner, mut values) = looked_at(scope, &owner, filter, most);
    let mut text = APPROVAL.replace(TABLE, &format!("FROM ({inner}) a WHERE"));
    values.extend(binds![&*scope.tenant, &*scope.project]);
    push_filters(filter, &mut text, &mut values);
    text.push_str(" ORDER BY a.requested_at, a.id LIMIT ?");
    values.push((filter.limit as i64 + 1).into());
    let rows = conn.rows(&text, &values)?.into_iter().map(read_approval);
    let mut rows = rows.collect::<StoreResult<Vec<_>>>()?;
    let next = if rows.len() > filter.limit {
        rows.truncate(filter.limit);
        rows.last().map(|row| (row.requested_at, row.id))
    } else {
        let (inner, mut values) = looked_at(scope, &owner, filter, most);
        values.push((most - 1).into());
        let text = format!("SELECT k.requested_at, k.id FROM ({inner}) k LIMIT 1 OFFSET ?");
        let last = conn.row(&text, &values)?;
        last.map(|mut row| Ok((row.time()?, ApprovalId(row.id()?)))).transpose()?
    };
    complete(conn, scope, &mut rows)?;
    Ok(ApprovalPage { rows, next })
}

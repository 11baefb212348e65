//! Calls that were, for trying a policy on them: a page of executions by the index over the
//! newest, then their journals by key.

use std::collections::HashMap;

use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::{key_row, read_line};
use crate::policy_store::{CallsPage, PastCalls, PastExecution, PolicyStore};
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::sql_store::SqlStore;
use crate::store::StoreResult;

impl PolicyStore for SqlStore {
    fn calls_read(&self, scope: &Scope, page: &CallsPage) -> StoreResult<PastCalls> {
        self.read.with(|conn| calls_read(conn, scope, page))
    }
}

/// The bounds stand in the columns of the index: a page costs its rows, however many there are.
pub(crate) const LOOKED_AT: &str = "
    SELECT i.id, i.kind, i.name, i.end_user, i.created_at FROM execution_info i
    WHERE i.tenant || '/' || i.project = ? AND (i.created_at, i.id) < (?, ?) AND i.created_at >= ?
    ORDER BY i.created_at DESC, i.id DESC LIMIT ?";

/// Journals are read by their key; what is not about calls is not carried.
pub(crate) const CALL_LINES: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT j.execution, j.seq, j.event, j.kind, j.step, j.at, j.payload
    FROM u JOIN journal j ON j.tenant = u.t AND j.project = u.p AND j.execution = u.x
    WHERE j.kind IN ('execution.started', 'message.completed', 'transfer', 'tool.called', 'approval.requested',
      'approval.not_needed')";

struct Looked {
    id: ExecutionId,
    kind: DefinitionKind,
    name: String,
    end_user: Option<String>,
    created_at: Timestamp,
}

fn read_looked(mut row: Row) -> StoreResult<Looked> {
    Ok(Looked {
        id: ExecutionId(row.id()?),
        kind: row.word()?,
        name: row.text()?,
        end_user: row.opt_text()?,
        created_at: row.time()?,
    })
}

fn calls_read(conn: &mut Conn, scope: &Scope, page: &CallsPage) -> StoreResult<PastCalls> {
    let owner = scope.to_string();
    let end = || (page.until.unwrap_or(Timestamp::from_micros(i64::MAX)), ExecutionId(uuid::Uuid::nil()));
    let (before, id) = page.after.unwrap_or_else(end);
    let since = page.since.unwrap_or_default();
    let values = binds![&owner, before, id.0, since, page.limit as i64];
    let looked: Vec<Looked> =
        conn.rows(LOOKED_AT, &values)?.into_iter().map(read_looked).collect::<StoreResult<_>>()?;
    let looked_at = looked.len();
    let next = looked.last().filter(|_| looked_at == page.limit).map(|last| (last.created_at, last.id));
    let meant: Vec<Looked> = looked.into_iter().filter(|one| is_meant(one, page)).collect();
    let executions = with_lines(conn, scope, meant)?;
    Ok(PastCalls { executions, looked_at, next })
}

fn is_meant(one: &Looked, page: &CallsPage) -> bool {
    page.of.as_ref().is_none_or(|(kind, name)| one.kind == *kind && one.name == *name)
        && (page.end_user.is_none() || one.end_user == page.end_user)
}

fn with_lines(conn: &mut Conn, scope: &Scope, meant: Vec<Looked>) -> StoreResult<Vec<PastExecution>> {
    let keys: Vec<ExecutionKey> =
        meant.iter().map(|one| ExecutionKey { scope: scope.clone(), id: one.id }).collect();
    let rows: Vec<[Bind<'_>; 3]> = keys.iter().map(key_row).collect();
    let mut lines: HashMap<ExecutionId, Vec<Line>> = HashMap::new();
    for mut row in conn.each(CALL_LINES, &rows, &[])? {
        let id = ExecutionId(row.id()?);
        lines.entry(id).or_default().push(read_line(&mut row)?);
    }
    let whole = |one: Looked| {
        let mut lines = lines.remove(&one.id).unwrap_or_default();
        lines.sort_by_key(|line| line.seq);
        PastExecution { id: one.id, name: one.name, end_user: one.end_user, lines }
    };
    Ok(meant.into_iter().map(whole).collect())
}

//! Everything that says what an execution waits for, or who holds it, as of one moment.

use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::scope::Scope;

use crate::conn::Conn;
use crate::execution_around::execution_around;
use crate::executions::execution_get;
use crate::journal::journal_read;
use crate::sql::binds;
use crate::standing_types::{Lease, Standing};
use crate::store::StoreResult;

const HEAD: &str = "
    SELECT (SELECT hp_now()), e.ready_at, e.lost, e.owner, s.name, s.expires_at
    FROM executions e LEFT JOIN sessions s ON s.id = e.owner
    WHERE e.tenant = ? AND e.project = ? AND e.id = ?";

/// All of it by one snapshot; `None` where there is no such execution.
pub(crate) fn execution_standing(
    conn: &mut Conn,
    scope: &Scope,
    id: ExecutionId,
) -> StoreResult<Option<Standing>> {
    conn.snapshot(|conn| {
        let Some(row) = execution_get(conn, scope, id)? else { return Ok(None) };
        let Some(mut head) = conn.row(HEAD, &binds![&*scope.tenant, &*scope.project, id.0])? else {
            return Ok(None);
        };
        let (now, ready_at, lost) = (head.time()?, head.opt_time()?, head.int()?);
        let owner = head.opt_id()?.map(SessionId);
        let (name, expires_at) = (head.opt_text()?, head.opt_time()?);
        let lease = owner.map(|session| Lease { session, holder: name.unwrap_or_default(), expires_at });
        let lines = journal_read(conn, scope, id)?.unwrap_or_default();
        let around = execution_around(conn, &row, lost, ready_at)?;
        Ok(Some(Standing { row, now, ready_at, lost, lease, lines, around }))
    })
}

//! What only some starts have: kept apart from what every claim reads.

use std::collections::HashMap;

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::outgoing;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ClientTime, CommandKey, Extras, NewExecution, Parent, ReplyTo};

impl Extras {
    /// Whether there is anything to keep with the execution.
    pub(crate) fn is_kept(&self) -> bool {
        self.client_time.is_some()
            || self.sealed_headers.is_some()
            || self.parent.is_some()
            || self.command.is_some()
            || self.reply.is_some()
    }
}

const INSERT: &str = "
    WITH u(t, p, x, ct, cz, sh, pa, ps, pc, cs, ci, rq, rc) AS (@u)
    INSERT INTO execution_extras (tenant, project, id, client_timestamp, client_timezone, sealed_headers, parent,
      parent_step, parent_call, command_source, command_id, reply_queue, reply_correlation)
    SELECT t, p, x, ct, cz, sh, pa, ps, pc, cs, ci, rq, rc FROM u";

/// Inserts those of new executions.
pub(crate) fn insert<'a>(conn: &mut Conn, new: impl Iterator<Item = &'a NewExecution>) -> StoreResult<()> {
    let rows: Vec<_> = new.filter(|new| new.extras.is_kept()).map(row_of).collect();
    conn.each(INSERT, &rows, &[]).map(drop)
}

fn row_of(new: &NewExecution) -> [Bind<'_>; 13] {
    let [tenant, project, id] = key_row(&new.key);
    let Extras { client_time, sealed_headers, parent, command, reply, .. } = &new.extras;
    let [ct, cz, sh, pa, ps, pc, cs, ci, rq, rc] = binds![
        client_time.as_ref().map(|time| time.timestamp.as_str()),
        client_time.as_ref().map(|time| time.timezone.as_str()),
        sealed_headers.as_deref(),
        parent.as_ref().map(|parent| parent.execution.0),
        parent.as_ref().map(|parent| parent.step),
        parent.as_ref().map(|parent| parent.tool_call_id.as_str()),
        command.as_ref().map(|command| command.source.as_str()),
        command.as_ref().map(|command| command.id.as_str()),
        reply.as_ref().map(|reply| reply.queue.as_str()),
        reply.as_ref().and_then(|reply| reply.correlation_id.as_deref()),
    ];
    [tenant, project, id, ct, cz, sh, pa, ps, pc, cs, ci, rq, rc]
}

const SELECT: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT e.tenant, e.project, e.id, e.client_timestamp, e.client_timezone, e.sealed_headers, e.parent,
      e.parent_step, e.parent_call, e.command_source, e.command_id, e.reply_queue, e.reply_correlation
    FROM u JOIN execution_extras e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x";

/// Reads those of these executions.
pub(crate) fn read(conn: &mut Conn, keys: &[ExecutionKey]) -> StoreResult<HashMap<ExecutionKey, Extras>> {
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    conn.each(SELECT, &rows, &[])?.into_iter().map(read_row).collect()
}

fn read_row(mut row: Row) -> StoreResult<(ExecutionKey, Extras)> {
    let key = row.key()?;
    let client_time = both(row.opt_text()?, row.opt_text()?)
        .map(|(timestamp, timezone)| ClientTime { timestamp, timezone });
    let sealed_headers = row.opt_bytes()?;
    let (parent, step, call) = (row.opt_id()?, row.opt_int()?, row.opt_text()?);
    let parent = both(parent, both(step, call)).map(|(parent, (step, tool_call_id))| Parent {
        execution: ExecutionId(parent),
        step,
        tool_call_id,
    });
    let command = both(row.opt_text()?, row.opt_text()?).map(|(source, id)| CommandKey { source, id });
    let (queue, correlation_id) = (row.opt_text()?, row.opt_text()?);
    let reply = queue.map(|queue| ReplyTo { queue, correlation_id });
    Ok((key, Extras { client_time, sealed_headers, parent, command, reply, ..Extras::default() }))
}

fn both<A, B>(a: Option<A>, b: Option<B>) -> Option<(A, B)> {
    Some((a?, b?))
}

const REMOVE_SEALED: &str = "
    WITH u(t, p, x) AS (@u)
    UPDATE execution_extras AS e SET sealed_headers = NULL
    FROM u WHERE e.tenant = u.t AND e.project = u.p AND e.id = u.x AND e.sealed_headers IS NOT NULL";

/// In the transaction that ends these executions: what was only theirs while they ran goes,
/// and whoever asked for their end is to be told.
pub(crate) fn end(conn: &mut Conn, ended: &[ExecutionKey]) -> StoreResult<()> {
    let rows: Vec<_> = ended.iter().map(key_row).collect();
    conn.each(REMOVE_SEALED, &rows, &[])?;
    outgoing::insert_replies(conn, ended)
}

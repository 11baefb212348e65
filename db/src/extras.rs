//! What only some starts have: kept apart from what every claim reads.

use std::collections::HashMap;

use holdpoint_engine::ids::{ExecutionId, FileId};
use holdpoint_engine::trace::Traceparent;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ClientTime, CommandKey, Extras, NewExecution, Parent, ReplyTo, StoreError};
use crate::{outgoing, schedules};

impl Extras {
    /// Whether there is anything to keep with the execution.
    pub(crate) fn is_kept(&self) -> bool {
        self.pins.is_some()
            || self.client_time.is_some()
            || self.sealed_headers.is_some()
            || self.parent.is_some()
            || self.command.is_some()
            || self.reply.is_some()
            || self.scheduled
            || !self.files.is_empty()
            || self.traceparent.is_some()
    }
}

const INSERT: &str = "
    WITH u(t, p, x, ct, cz, sh, pa, ps, pc, cs, ci, rq, rc, pd, pi, fi, tp) AS (@u)
    INSERT INTO execution_extras (tenant, project, id, client_timestamp, client_timezone, sealed_headers, parent,
      parent_step, parent_call, command_source, command_id, reply_queue, reply_correlation, parent_depth,
      pins, files, traceparent)
    SELECT t, p, x, ct, cz, sh, pa, ps, pc, cs, ci, rq, rc, pd, pi, fi, tp FROM u";

/// Inserts those of new executions, each with its pins.
pub(crate) fn insert<'a>(
    conn: &mut Conn,
    new: impl Iterator<Item = (&'a NewExecution, Option<&'a str>)>,
) -> StoreResult<()> {
    let kept = new.filter(|(new, pins)| pins.is_some() || new.extras.is_kept());
    let written = |new: &NewExecution| {
        (written(&new.extras.files), new.extras.traceparent.map(|traceparent| traceparent.to_string()))
    };
    let kept: Vec<_> = kept.map(|(new, pins)| (new, pins, written(new))).collect();
    let rows: Vec<_> = kept
        .iter()
        .map(|(new, pins, (files, traceparent))| row_of(new, *pins, files.as_deref(), traceparent.as_deref()))
        .collect();
    conn.each(INSERT, &rows, &[]).map(drop)
}

/// The files as they are kept; none is nothing.
fn written(files: &[FileId]) -> Option<String> {
    if files.is_empty() { None } else { serde_json::to_string(files).ok() }
}

/// The files of an execution as they were kept.
pub(crate) fn read_files(key: &ExecutionKey, files: Option<String>) -> StoreResult<Vec<FileId>> {
    let corrupt = |error| StoreError::Corrupt(format!("files of {}: {error}", key.id));
    files.map_or_else(|| Ok(Vec::new()), |files| serde_json::from_str(&files).map_err(corrupt))
}

fn row_of<'a>(
    new: &'a NewExecution,
    pins: Option<&'a str>,
    files: Option<&'a str>,
    traceparent: Option<&'a str>,
) -> [Bind<'a>; 17] {
    let [tenant, project, id] = key_row(&new.key);
    let Extras { client_time, sealed_headers, parent, command, reply, .. } = &new.extras;
    let [ct, cz, sh, pa, ps, pc, cs, ci, rq, rc, pd, pi, fi, tp] = binds![
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
        parent.as_ref().map(|parent| parent.depth),
        pins,
        files,
        traceparent,
    ];
    [tenant, project, id, ct, cz, sh, pa, ps, pc, cs, ci, rq, rc, pd, pi, fi, tp]
}

const SELECT: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT e.tenant, e.project, e.id, e.client_timestamp, e.client_timezone, e.sealed_headers, e.parent,
      e.parent_step, e.parent_call, e.command_source, e.command_id, e.reply_queue, e.reply_correlation,
      e.parent_depth, e.pins, e.files, e.traceparent,
      CASE WHEN e.pins IS NOT NULL THEN (SELECT c.active_agent FROM execution_info i
        JOIN conversations c ON c.tenant = i.tenant AND c.project = i.project AND c.id = i.conversation_id
        WHERE i.tenant = e.tenant AND i.project = e.project AND i.id = e.id AND c.agent = i.name) END
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
        depth: 1,
    });
    let command = both(row.opt_text()?, row.opt_text()?).map(|(source, id)| CommandKey { source, id });
    let (queue, correlation_id) = (row.opt_text()?, row.opt_text()?);
    let reply = queue.map(|queue| ReplyTo { queue, correlation_id });
    let (depth, pins) = (row.opt_int()?, row.opt_text()?);
    let files = read_files(&key, row.opt_text()?)?;
    let traceparent = row.opt_text()?.as_deref().and_then(Traceparent::parse);
    let active_agent = row.opt_text()?;
    let parent = parent.map(|parent| Parent { depth: depth.unwrap_or(1), ..parent });
    let pins = pins.map(|pins| serde_json::from_str(&pins)).transpose();
    let pins = pins.map_err(|error| StoreError::Corrupt(format!("pins of {}: {error}", key.id)))?;
    let (message_ids, scheduled, priority) = (Vec::new(), false, 0);
    Ok((
        key,
        Extras {
            message_ids,
            client_time,
            sealed_headers,
            parent,
            command,
            reply,
            pins,
            active_agent,
            scheduled,
            files,
            traceparent,
            input_check: None,
            priority,
            goes_on_from: None,
        },
    ))
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
    schedules::ended(conn, ended)?;
    outgoing::insert_replies(conn, ended)
}

const REMEMBER: &str = "
    WITH u(t, p, x, ag) AS (@u)
    UPDATE conversations AS c SET agent = i.name, active_agent = nullif(u.ag, i.name)
    FROM u JOIN execution_info i ON i.tenant = u.t AND i.project = u.p AND i.id = u.x
    WHERE c.tenant = i.tenant AND c.project = i.project AND c.id = i.conversation_id";

/// In the transaction that ends these executions: their conversations go on with the agent
/// that spoke last.
pub(crate) fn remember(conn: &mut Conn, ended: &[(ExecutionKey, &str)]) -> StoreResult<()> {
    let rows: Vec<_> = ended
        .iter()
        .map(|(key, agent)| {
            let [tenant, project, id] = key_row(key);
            [tenant, project, id, Bind::from(*agent)]
        })
        .collect();
    conn.each(REMEMBER, &rows, &[]).map(drop)
}

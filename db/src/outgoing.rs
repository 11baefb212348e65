//! What is still to be sent: a row for each line that somebody outside wants to be told of,
//! written in the line's transaction and removed once it was sent.
//!
//! Who wants events is remembered for [`SUBSCRIPTIONS_AGE`], so that a commit for a project
//! without a subscriber has no statement more: within that time after a project enabled
//! them, events may be missed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdpoint_engine::entry::{EventEmitted, Line};
use holdpoint_engine::ids::{EventId, SessionId};
use holdpoint_engine::lifecycle::{DefinitionRef, EMITTED, Finished, Kind, Lifecycle};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, Failure};
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::event_store::SUBSCRIPTIONS_AGE;
use crate::event_types::*;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::session::micros;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ReplyTo, StoreError};

type Subscriptions = HashMap<Scope, Vec<Channel>>;

/// Who wants events, as it was last read.
#[derive(Default)]
pub(crate) struct Subscribed(Mutex<Option<(Instant, Arc<Subscriptions>)>>);

impl Subscribed {
    fn fresh(&self) -> Option<Arc<Subscriptions>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(read, _)| read.elapsed() < SUBSCRIPTIONS_AGE).map(|(_, known)| known.clone())
    }

    fn keep(&self, read: Instant, subscriptions: Arc<Subscriptions>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((read, subscriptions));
    }

    /// The next look is at the rows.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

const SUBSCRIBED: &str = "
    SELECT tenant, project, 'exchange' FROM event_settings WHERE exchange
    UNION SELECT tenant, project, 'webhooks' FROM webhooks WHERE disabled_at IS NULL";

fn subscriptions(conn: &mut Conn) -> StoreResult<Arc<Subscriptions>> {
    if let Some(known) = conn.subscribed.fresh() {
        return Ok(known);
    }
    let begun = Instant::now();
    let mut read = Subscriptions::new();
    for mut row in conn.rows(SUBSCRIBED, &[])? {
        let scope = row.scope()?;
        let channel =
            if row.text()? == Channel::Exchange.as_str() { Channel::Exchange } else { Channel::Webhooks };
        read.entry(scope).or_default().push(channel);
    }
    let read = Arc::new(read);
    conn.subscribed.keep(begun, Arc::clone(&read));
    Ok(read)
}

const INSERT: &str = "
    WITH u(c, t, p, x, seq, at) AS (@u)
    INSERT INTO outgoing (channel, tenant, project, execution, seq, at) SELECT c, t, p, x, seq, at FROM u";

/// Notes the lines that somebody wants to be told of, in the transaction that writes them.
pub(crate) fn insert_events<'a>(
    conn: &mut Conn,
    lines: impl Iterator<Item = (&'a ExecutionKey, &'a Line)>,
) -> StoreResult<()> {
    let subscriptions = subscriptions(conn)?;
    if subscriptions.is_empty() {
        return Ok(());
    }
    let told = lines.filter(|(_, line)| Kind::of_line(&line.kind).is_some());
    let mut rows = Vec::new();
    for (key, line) in told {
        for channel in subscriptions.get(&key.scope).into_iter().flatten() {
            let [tenant, project, id] = key_row(key);
            rows.push([channel.as_str().into(), tenant, project, id, line.seq.into(), line.at.into()]);
        }
    }
    conn.each(INSERT, &rows, &[]).map(drop)
}

const INSERT_REPLIES: &str = "
    WITH u(t, p, x) AS (@u)
    INSERT INTO outgoing (channel, tenant, project, execution, seq, at)
    SELECT 'reply', e.tenant, e.project, e.id, e.last_seq, e.updated_at
    FROM u JOIN executions e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x
    JOIN execution_extras a ON a.tenant = u.t AND a.project = u.p AND a.id = u.x
    WHERE a.reply_queue IS NOT NULL";

/// Notes the ends that producers asked for, in the transaction that ends the executions and
/// after their rows were written.
pub(crate) fn insert_replies(conn: &mut Conn, ended: &[ExecutionKey]) -> StoreResult<()> {
    let rows: Vec<_> = ended.iter().map(key_row).collect();
    conn.each(INSERT_REPLIES, &rows, &[]).map(drop)
}

/// What a project wants to be told.
pub(crate) fn event_settings(conn: &mut Conn, scope: &Scope) -> StoreResult<EventSettings> {
    let row = conn.row(
        "SELECT exchange FROM event_settings WHERE tenant = ? AND project = ?",
        &binds![&*scope.tenant, &*scope.project],
    )?;
    let exchange = row.map(|mut row| row.bool()).transpose()?.unwrap_or(false);
    Ok(EventSettings { exchange })
}

/// Changes it.
pub(crate) fn event_settings_put(
    conn: &mut Conn,
    scope: &Scope,
    settings: EventSettings,
    by: &str,
) -> StoreResult<()> {
    conn.rows(
        "INSERT INTO event_settings (tenant, project, exchange, updated_by, updated_at)
         VALUES (?, ?, ?, ?, (SELECT hp_now()))
         ON CONFLICT (tenant, project) DO UPDATE SET exchange = excluded.exchange,
           updated_by = excluded.updated_by, updated_at = excluded.updated_at",
        &binds![&*scope.tenant, &*scope.project, settings.exchange, by],
    )?;
    let details = serde_json::json!({"exchange": settings.exchange});
    crate::audit::note(conn, scope, by, AuditAct::EventSettingsPut, "event-settings", details)
}

/// The epoch rises with each new holder.
const LEASE: &str = "
    UPDATE event_sender SET epoch = CASE WHEN owner IS NOT DISTINCT FROM ? THEN epoch ELSE epoch + 1 END,
      owner = ?, expires_at = (SELECT hp_now()) + ?
    WHERE id = 1 AND (expires_at <= (SELECT hp_now()) OR owner IS NOT DISTINCT FROM ?)
    RETURNING epoch";

/// Takes or extends the lease of the one that sends.
pub(crate) fn sender_lease(conn: &mut Conn, owner: SessionId, lease: Duration) -> StoreResult<Option<i64>> {
    let [id, length] = binds![owner.0, micros(lease)];
    let row = conn.row(LEASE, &[id, id, length, id])?;
    row.map(|mut row| row.big()).transpose()
}

const EVENTS: &str = "
    SELECT o.tenant, o.project, o.execution, o.seq, j.event, j.kind, j.at, j.payload, i.kind, i.name, i.version,
      i.conversation_id
    FROM outgoing o
    JOIN journal j ON j.tenant = o.tenant AND j.project = o.project AND j.execution = o.execution AND j.seq = o.seq
    JOIN execution_info i ON i.tenant = o.tenant AND i.project = o.project AND i.id = o.execution
    WHERE o.channel = ? ORDER BY o.tenant, o.project, o.execution, o.seq LIMIT ?";

/// Events due on a channel, in order for each execution.
pub(crate) fn outgoing_events(
    conn: &mut Conn,
    channel: Channel,
    limit: usize,
) -> StoreResult<Vec<OutgoingEvent>> {
    let rows = conn.rows(EVENTS, &binds![channel.as_str(), limit as i64])?;
    rows.into_iter().map(|row| read_told(row)?.try_into()).collect()
}

fn read_told(mut row: Row) -> StoreResult<Told> {
    Ok(Told {
        row: OutgoingKey { key: row.key()?, seq: row.big()? },
        event: row.opt_big()?,
        line: row.text()?,
        at: row.time()?,
        payload: row.text()?,
        kind: row.word()?,
        definition: DefinitionRef { name: row.text()?, version: row.int()? },
        conversation_id: row.opt_text()?,
    })
}

impl TryFrom<Told> for OutgoingEvent {
    type Error = StoreError;

    fn try_from(told: Told) -> StoreResult<Self> {
        let id = told.row.key.id;
        let corrupt = |why: &str| StoreError::Corrupt(format!("line {} of {id}: {why}", told.row.seq));
        let kind = Kind::of_line(&told.line).ok_or_else(|| corrupt("it is not told outside"))?;
        if kind == EMITTED {
            let emitted: EventEmitted =
                serde_json::from_str(&told.payload).map_err(|error| corrupt(&error.to_string()))?;
            // No reply and no other event has such a number: the id is its own.
            let id = EventId::of(id, i64::MIN + told.row.seq, told.at);
            return Ok(Self { id, row: told.row, kind, at: told.at, what: Sent::Emitted(emitted.event) });
        }
        let unnumbered = EventId::of(id, i64::MIN + told.row.seq, told.at);
        let event_id = told.event.map_or(unnumbered, |event| EventId::of(id, event, told.at));
        let data = serde_json::from_str(&told.payload).map_err(|error| corrupt(&error.to_string()))?;
        let data = Lifecycle {
            seq: told.event.unwrap_or_default(),
            kind: told.line,
            at: told.at,
            execution_id: id,
            definition_kind: told.kind,
            definition: told.definition,
            conversation_id: told.conversation_id,
            data,
        };
        let what = Sent::Lifecycle(Box::new(data));
        Ok(Self { id: event_id, row: told.row, kind, at: told.at, what })
    }
}

const REPLIES: &str = "
    SELECT o.tenant, o.project, o.execution, o.seq, o.at, a.reply_queue, a.reply_correlation, e.status, e.reason,
      i.output, i.error_type, i.error_message
    FROM outgoing o
    JOIN execution_extras a ON a.tenant = o.tenant AND a.project = o.project AND a.id = o.execution
    JOIN executions e ON e.tenant = o.tenant AND e.project = o.project AND e.id = o.execution
    JOIN execution_info i ON i.tenant = o.tenant AND i.project = o.project AND i.id = o.execution
    WHERE o.channel = 'reply' ORDER BY o.tenant, o.project, o.execution, o.seq LIMIT ?";

/// Replies due.
pub(crate) fn outgoing_replies(conn: &mut Conn, limit: usize) -> StoreResult<Vec<OutgoingReply>> {
    conn.rows(REPLIES, &binds![limit as i64])?.into_iter().map(read_reply).collect()
}

fn read_reply(mut row: Row) -> StoreResult<OutgoingReply> {
    let row_of = OutgoingKey { key: row.key()?, seq: row.big()? };
    let (at, id) = (row.time()?, row_of.key.id);
    let to = ReplyTo { queue: row.text()?, correlation_id: row.opt_text()? };
    let (status, reason) = (row.word()?, row.opt_word()?);
    let corrupt = |error: serde_json::Error| StoreError::Corrupt(format!("output of {id}: {error}"));
    let output =
        row.opt_text()?.map(serde_json::value::RawValue::from_string).transpose().map_err(corrupt)?;
    let (kind, message) = (row.opt_word()?, row.opt_text()?);
    let error = kind.zip(message).map(|(kind, message)| Failure::new(kind, message));
    let data = Finished { execution_id: id, status, reason, output, error };
    // No event's number is negative: the reply's id is its own.
    Ok(OutgoingReply { id: EventId::of(id, -row_of.seq, at), row: row_of, at, to, data })
}

const REMOVE: &str = "
    WITH u(c, t, p, x, seq) AS (@u)
    DELETE FROM outgoing WHERE (channel, tenant, project, execution, seq) IN (SELECT c, t, p, x, seq FROM u)";

/// Removes what was sent.
pub(crate) fn outgoing_remove(conn: &mut Conn, channel: Channel, rows: &[OutgoingKey]) -> StoreResult<()> {
    let rows: Vec<_> = rows.iter().map(|row| outgoing_row(channel, row)).collect();
    conn.each(REMOVE, &rows, &[]).map(drop)
}

fn outgoing_row(channel: Channel, row: &OutgoingKey) -> [Bind<'_>; 5] {
    let [tenant, project, id] = key_row(&row.key);
    [channel.as_str().into(), tenant, project, id, row.seq.into()]
}

//! Messages that could not be carried out.

use holdpoint_engine::ids::{KeyId, ParkedId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::AuditAct;
use serde_json::json;

use crate::audit::{self, Entry};
use crate::conn::Conn;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ParkedFilter, ParkedMessage, Unparked};

/// Parks a message; the same id again is the same message.
pub(crate) fn parked_add(conn: &mut Conn, message: &ParkedMessage) -> StoreResult<()> {
    let values = binds![
        message.id.0,
        message.scope.as_ref().map(|scope| &*scope.tenant),
        message.scope.as_ref().map(|scope| &*scope.project),
        &message.queue,
        message.message_id.as_deref(),
        message.kind.as_deref(),
        &message.code,
        &message.reason,
        message.key.map(|key| key.0),
        &message.properties,
        &message.headers,
        message.body.as_deref(),
        message.body_bytes,
        &message.body_digest,
    ];
    conn.rows(
        "INSERT INTO parked_messages (id, tenant, project, queue, message_id, kind, code, reason, key_id, properties,
           headers, body, body_bytes, body_digest, parked_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT hp_now())) ON CONFLICT DO NOTHING",
        &values,
    )
    .map(drop)
}

const HEAD: &str =
    "SELECT m.id, m.tenant, m.project, m.queue, m.message_id, m.kind, m.code, m.reason, m.key_id,
    m.properties, m.headers, m.body_bytes, m.body_digest, m.parked_at";
const OF_SCOPE: &str = "m.tenant || '/' || m.project = ?";

fn place(scope: Option<&Scope>) -> Option<String> {
    scope.map(|scope| format!("{}/{}", scope.tenant, scope.project))
}

/// Of a scope, or all of them, newest first, without their bodies.
pub(crate) fn parked_list(
    conn: &mut Conn,
    scope: Option<&Scope>,
    filter: &ParkedFilter,
) -> StoreResult<Vec<ParkedMessage>> {
    let place = place(scope);
    let mut text = format!("{HEAD} FROM parked_messages m WHERE true");
    let mut values: Vec<Bind<'_>> = Vec::new();
    if let Some(place) = &place {
        text.push_str(&format!(" AND {OF_SCOPE}"));
        values.push(place.into());
    }
    if let Some(code) = &filter.code {
        text.push_str(" AND m.code = ?");
        values.push(code.into());
    }
    if let Some((at, id)) = filter.after {
        text.push_str(" AND (m.parked_at < ? OR (m.parked_at = ? AND m.id < ?))");
        values.extend(binds![at, at, id.0]);
    }
    text.push_str(" ORDER BY m.parked_at DESC, m.id DESC LIMIT ?");
    values.push(Bind::from(filter.limit as i64));
    conn.rows(&text, &values)?.into_iter().map(|mut row| read_head(&mut row)).collect()
}

/// One of a scope, or any.
pub(crate) fn parked_get(
    conn: &mut Conn,
    scope: Option<&Scope>,
    id: ParkedId,
) -> StoreResult<Option<ParkedMessage>> {
    let text = format!("{HEAD}, m.body FROM parked_messages m WHERE m.id = ?");
    let Some(mut row) = conn.row(&text, &binds![id.0])? else { return Ok(None) };
    let message = read_head(&mut row)?;
    let body = row.opt_bytes()?;
    Ok(Some(ParkedMessage { body, ..message }).filter(|message| is_of(message.scope.as_ref(), scope)))
}

/// Whether a message of `whose` is there for a caller who looks at `scope`.
fn is_of(whose: Option<&Scope>, scope: Option<&Scope>) -> bool {
    scope.is_none() || whose == scope
}

/// One transaction's work: removes one of a scope, or any; whether there was one.
pub(crate) fn parked_remove_in_txn(
    conn: &mut Conn,
    scope: Option<&Scope>,
    id: ParkedId,
    how: Unparked,
    by: &str,
) -> StoreResult<bool> {
    let Some(message) = parked_get(conn, scope, id)? else { return Ok(false) };
    let removed = conn.rows("DELETE FROM parked_messages WHERE id = ? RETURNING id", &binds![id.0])?;
    if removed.is_empty() {
        return Ok(false);
    }
    let act = match how {
        Unparked::Redriven => AuditAct::ParkedRedriven,
        Unparked::Discarded => AuditAct::ParkedDiscarded,
    };
    let details = json!({
        "code": message.code, "kind": message.kind.as_deref().map(audit::bounded),
        "message_id": message.message_id.as_deref().map(audit::bounded), "body_digest": message.body_digest,
        "parked_at": message.parked_at,
    });
    let scope = message.scope.as_ref();
    audit::append(conn, &Entry { scope, actor: by, end_user: None, act, subject: id.to_string(), details })?;
    Ok(true)
}

fn read_head(row: &mut Row) -> StoreResult<ParkedMessage> {
    let id = ParkedId(row.id()?);
    let (tenant, project) = (row.opt_text()?, row.opt_text()?);
    Ok(ParkedMessage {
        id,
        scope: tenant.zip(project).map(|(tenant, project)| Scope::new(&tenant, &project)),
        queue: row.text()?,
        message_id: row.opt_text()?,
        kind: row.opt_text()?,
        code: row.text()?,
        reason: row.text()?,
        key: row.opt_id()?.map(KeyId),
        properties: row.text()?,
        headers: row.text()?,
        body: None,
        body_bytes: row.big()?,
        body_digest: row.text()?,
        parked_at: row.time()?,
    })
}

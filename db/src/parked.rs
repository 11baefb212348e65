//! Messages that could not be carried out.

use holdpoint_engine::ids::ParkedId;
use holdpoint_engine::scope::Scope;

use crate::conn::Conn;
use crate::row::Row;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::ParkedMessage;

/// Parks a message; the same id again is the same message.
pub(crate) fn parked_add(conn: &mut Conn, message: &ParkedMessage) -> StoreResult<()> {
    let values = binds![
        message.id.0,
        message.scope.as_ref().map(|scope| &*scope.tenant),
        message.scope.as_ref().map(|scope| &*scope.project),
        &message.queue,
        message.message_id.as_deref(),
        message.kind.as_deref(),
        &message.reason,
        &message.headers,
        message.body.as_deref(),
        message.body_bytes,
        &message.body_digest,
    ];
    conn.rows(
        "INSERT INTO parked_messages (id, tenant, project, queue, message_id, kind, reason, headers, body,
           body_bytes, body_digest, parked_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT hp_now())) ON CONFLICT DO NOTHING",
        &values,
    )
    .map(drop)
}

const PARKED: &str = "SELECT id, tenant, project, queue, message_id, kind, reason, headers, body, body_bytes,
    body_digest, parked_at FROM parked_messages";

/// Of a scope, or all of them, newest first.
pub(crate) fn parked_list(
    conn: &mut Conn,
    scope: Option<&Scope>,
    limit: usize,
) -> StoreResult<Vec<ParkedMessage>> {
    let limit = limit as i64;
    let rows = match scope {
        Some(scope) => conn.rows(
            &format!("{PARKED} WHERE tenant = ? AND project = ? ORDER BY parked_at DESC, id DESC LIMIT ?"),
            &binds![&*scope.tenant, &*scope.project, limit],
        )?,
        None => conn.rows(&format!("{PARKED} ORDER BY parked_at DESC, id DESC LIMIT ?"), &binds![limit])?,
    };
    rows.into_iter().map(read_parked).collect()
}

fn read_parked(mut row: Row) -> StoreResult<ParkedMessage> {
    let id = ParkedId(row.id()?);
    let (tenant, project) = (row.opt_text()?, row.opt_text()?);
    Ok(ParkedMessage {
        id,
        scope: tenant.zip(project).map(|(tenant, project)| Scope::new(&tenant, &project)),
        queue: row.text()?,
        message_id: row.opt_text()?,
        kind: row.opt_text()?,
        reason: row.text()?,
        headers: row.text()?,
        body: row.opt_bytes()?,
        body_bytes: row.big()?,
        body_digest: row.text()?,
        parked_at: row.time()?,
    })
}

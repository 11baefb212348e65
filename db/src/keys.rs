//! API keys: only a hash of the secret is there.

use holdpoint_engine::ids::KeyId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::AuditAct;
use serde_json::json;

use crate::audit;
use crate::conn::Conn;
use crate::row::Row;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{KeyRow, StoreError};

const KEY: &str =
    "SELECT id, tenant, project, role, name, end_user, secret_hash, created_at, expires_at, revoked_at, groups
    FROM api_keys WHERE";

fn read_key(mut row: Row) -> StoreResult<KeyRow> {
    let key = KeyRow {
        id: KeyId(row.id()?),
        scope: row.scope()?,
        role: row.text()?,
        name: row.text()?,
        end_user: row.opt_text()?,
        secret_hash: row.text()?,
        created_at: row.time()?,
        expires_at: row.opt_time()?,
        revoked_at: row.opt_time()?,
        groups: Vec::new(),
    };
    let groups = row.opt_text()?.map(|text| serde_json::from_str(&text)).transpose();
    let groups = groups.map_err(|error| StoreError::Corrupt(format!("the groups of {}: {error}", key.id)))?;
    Ok(KeyRow { groups: groups.unwrap_or_default(), ..key })
}

/// One transaction's work: stores a new key.
pub(crate) fn key_create_in_txn(conn: &mut Conn, key: &KeyRow, by: &str) -> StoreResult<()> {
    let groups = serde_json::to_string(&key.groups).unwrap_or_default();
    let values = binds![
        key.id.0,
        &*key.scope.tenant,
        &*key.scope.project,
        &key.role,
        &key.name,
        key.end_user.as_deref(),
        &key.secret_hash,
        key.created_at,
        key.expires_at,
        key.revoked_at,
        Some(&groups).filter(|_| !key.groups.is_empty()),
    ];
    conn.rows(
        "INSERT INTO api_keys (id, tenant, project, role, name, end_user, secret_hash, created_at, expires_at,
           revoked_at, groups) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &values,
    )?;
    let details = json!({
        "role": key.role, "name": audit::bounded(&key.name), "end_user": key.end_user, "expires_at": key.expires_at,
    });
    audit::note(conn, &key.scope, by, AuditAct::KeyCreated, key.id, details)
}

/// Finds a key, revoked and expired ones too.
pub(crate) fn key_get(conn: &mut Conn, id: KeyId) -> StoreResult<Option<KeyRow>> {
    conn.row(&format!("{KEY} id = ?"), &binds![id.0])?.map(read_key).transpose()
}

/// All keys of a scope, or of all, newest first.
pub(crate) fn key_list(conn: &mut Conn, scope: Option<&Scope>) -> StoreResult<Vec<KeyRow>> {
    let rows = match scope {
        Some(scope) => conn.rows(
            &format!("{KEY} tenant = ? AND project = ? ORDER BY created_at DESC, id DESC"),
            &binds![&*scope.tenant, &*scope.project],
        )?,
        None => conn.rows(&format!("{KEY} true ORDER BY created_at DESC, id DESC"), &[])?,
    };
    rows.into_iter().map(read_key).collect()
}

/// One transaction's work: revokes; a key that was revoked before stays as it is. Whether there
/// is such a key.
pub(crate) fn key_revoke_in_txn(
    conn: &mut Conn,
    scope: Option<&Scope>,
    id: KeyId,
    by: &str,
) -> StoreResult<bool> {
    let Some(key) = key_get(conn, id)?.filter(|key| scope.is_none_or(|scope| *scope == key.scope)) else {
        return Ok(false);
    };
    let revoked = conn.rows(
        "UPDATE api_keys SET revoked_at = (SELECT hp_now()) WHERE id = ? AND revoked_at IS NULL RETURNING id",
        &binds![id.0],
    )?;
    if !revoked.is_empty() {
        let details = json!({"role": key.role, "name": audit::bounded(&key.name)});
        audit::note(conn, &key.scope, by, AuditAct::KeyRevoked, id, details)?;
    }
    Ok(true)
}

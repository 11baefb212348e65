//! API keys: only a hash of the secret is there.

use holdpoint_engine::ids::KeyId;
use holdpoint_engine::scope::Scope;

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

/// Stores a new key.
pub(crate) fn key_create(conn: &mut Conn, key: &KeyRow) -> StoreResult<()> {
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
    )
    .map(drop)
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

/// Revokes; a key that was revoked before stays as it is. Whether there is such a key.
pub(crate) fn key_revoke(conn: &mut Conn, scope: Option<&Scope>, id: KeyId) -> StoreResult<bool> {
    let revoked = conn.rows(
        "UPDATE api_keys SET revoked_at = coalesce(revoked_at, (SELECT hp_now()))
         WHERE id = ? AND tenant = coalesce(?, tenant) AND project = coalesce(?, project) RETURNING id",
        &binds![id.0, scope.map(|scope| &*scope.tenant), scope.map(|scope| &*scope.project)],
    )?;
    Ok(!revoked.is_empty())
}

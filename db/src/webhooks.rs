//! Webhooks: whom to call for a project's events. Secrets come and go sealed.

use std::time::Duration;

use holdpoint_engine::ids::{EventId, WebhookId};
use holdpoint_engine::lifecycle::WEBHOOK_TEST;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, DisabledFor};
use serde_json::json;

use crate::audit;
use crate::conn::Conn;
use crate::event_types::*;
use crate::row::Row;
use crate::session::micros;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;

/// The most webhooks of a project.
pub const MAX_WEBHOOKS: usize = 50;

/// What [`read_webhook`] reads, of the table or alias `e`.
pub(crate) const WEBHOOK: &str = "
    SELECT e.tenant, e.project, e.id, e.url, e.description, e.types, e.secret, e.old_secret, e.old_until,
      e.failing_since, e.disabled_at, e.disabled_for, e.created_by, e.created_at, e.updated_at
    FROM webhooks e WHERE e.tenant = ? AND e.project = ?";

pub(crate) fn read_webhook(mut row: Row) -> StoreResult<WebhookRow> {
    let (scope, id) = (row.scope()?, WebhookId(row.id()?));
    let (url, description, types) = (row.text()?, row.text()?, row.text()?);
    let types = serde_json::from_str(&types)
        .map_err(|error| StoreError::Corrupt(format!("types of {id}: {error}")))?;
    let secret = row.opt_bytes()?.unwrap_or_default();
    let old_secret = row.opt_bytes()?.zip(row.opt_time()?);
    let failing_since = row.opt_time()?;
    let disabled = row.opt_time()?.zip(row.opt_word()?);
    let (created_by, created_at, updated_at) = (row.text()?, row.time()?, row.time()?);
    Ok(WebhookRow {
        scope,
        id,
        document: WebhookDocument { url, description, types },
        secret,
        old_secret,
        failing_since,
        disabled,
        created_by,
        created_at,
        updated_at,
    })
}

fn key(scope: &Scope, id: WebhookId) -> [Bind<'_>; 3] {
    binds![&*scope.tenant, &*scope.project, id.0]
}

fn types_text(document: &WebhookDocument) -> StoreResult<String> {
    serde_json::to_string(&document.types).map_err(|error| StoreError::Refused(error.to_string()))
}

/// Makes a webhook; `None` where the project has [`MAX_WEBHOOKS`] already.
pub(crate) fn webhook_create_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    new: &NewWebhook,
) -> StoreResult<Option<WebhookRow>> {
    if webhook_list(conn, scope)?.len() >= MAX_WEBHOOKS {
        return Ok(None);
    }
    let types = types_text(&new.document)?;
    let [tenant, project, id] = key(scope, new.id);
    let [url, description, types, secret, by] =
        binds![&new.document.url, &new.document.description, &types, new.secret.as_slice(), &new.created_by];
    conn.rows(
        "INSERT INTO webhooks (tenant, project, id, url, description, types, secret, created_by, created_at,
           updated_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT hp_now()), (SELECT hp_now()))",
        &[tenant, project, id, url, description, types, secret, by],
    )?;
    let details = json!({"change": "made", "host": host(&new.document.url)});
    audit::note(conn, scope, &new.created_by, AuditAct::WebhookPut, new.id, details)?;
    webhook_get(conn, scope, new.id)
}

/// What the audit may tell of an address: the rest of some is a secret.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority.rsplit('@').next().unwrap_or_default()
}

/// One webhook.
pub(crate) fn webhook_get(conn: &mut Conn, scope: &Scope, id: WebhookId) -> StoreResult<Option<WebhookRow>> {
    conn.row(&format!("{WEBHOOK} AND e.id = ?"), &key(scope, id))?.map(read_webhook).transpose()
}

/// Those of a project, oldest first.
pub(crate) fn webhook_list(conn: &mut Conn, scope: &Scope) -> StoreResult<Vec<WebhookRow>> {
    let rows = conn.rows(&format!("{WEBHOOK} ORDER BY e.id"), &binds![&*scope.tenant, &*scope.project])?;
    rows.into_iter().map(read_webhook).collect()
}

/// Changes one; the row as it stands after it, `None` where there is none.
pub(crate) fn webhook_change_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    id: WebhookId,
    change: &WebhookChange,
    by: &str,
) -> StoreResult<Option<WebhookRow>> {
    match change {
        WebhookChange::Document(document) => {
            let types = types_text(document)?;
            let [url, description, types] = binds![&document.url, &document.description, &types];
            let values = [&[url, description, types][..], &key(scope, id)].concat();
            let text =
                "UPDATE webhooks SET url = ?, description = ?, types = ?, updated_at = (SELECT hp_now())
                        WHERE tenant = ? AND project = ? AND id = ?";
            conn.rows(text, &values)?;
        }
        WebhookChange::Secret { secret, keep } => rotate(conn, scope, id, secret, *keep)?,
        WebhookChange::Enable => {
            let text = "UPDATE webhooks SET disabled_at = NULL, disabled_for = NULL, failing_since = NULL,
                        updated_at = (SELECT hp_now()) WHERE tenant = ? AND project = ? AND id = ?";
            conn.rows(text, &key(scope, id))?;
        }
        WebhookChange::Disable => drop(disable(conn, scope, id, DisabledFor::Asked)?),
    }
    let row = webhook_get(conn, scope, id)?;
    if let Some(row) = &row {
        let details = json!({"change": word_of(change), "host": host(&row.document.url)});
        audit::note(conn, scope, by, AuditAct::WebhookPut, id, details)?;
    }
    Ok(row)
}

fn word_of(change: &WebhookChange) -> &'static str {
    match change {
        WebhookChange::Document(_) => "changed",
        WebhookChange::Secret { .. } => "secret_rotated",
        WebhookChange::Enable => "enabled",
        WebhookChange::Disable => "disabled",
    }
}

/// The secret until now signs as well for a while.
fn rotate(conn: &mut Conn, scope: &Scope, id: WebhookId, secret: &[u8], keep: Duration) -> StoreResult<()> {
    let [keep, secret] = binds![micros(keep), secret];
    let values = [&[keep, secret][..], &key(scope, id)].concat();
    conn.rows(
        "UPDATE webhooks SET old_secret = secret, old_until = (SELECT hp_now()) + ?, secret = ?,
           updated_at = (SELECT hp_now()) WHERE tenant = ? AND project = ? AND id = ?",
        &values,
    )
    .map(drop)
}

/// Calls it no more, and gives up what was still to be delivered; `false` where it was so.
pub(crate) fn disable(conn: &mut Conn, scope: &Scope, id: WebhookId, why: DisabledFor) -> StoreResult<bool> {
    let [tenant, project, id] = key(scope, id);
    let disabled = conn.rows(
        "UPDATE webhooks SET disabled_at = (SELECT hp_now()), disabled_for = ?, updated_at = (SELECT hp_now())
         WHERE tenant = ? AND project = ? AND id = ? AND disabled_at IS NULL RETURNING id",
        &[why.as_str().into(), tenant, project, id],
    )?;
    if disabled.is_empty() {
        return Ok(false);
    }
    conn.rows(
        "UPDATE webhook_deliveries SET status = 'given_up', next_at = NULL, finished_at = (SELECT hp_now()),
           error = coalesce(error, 'the webhook was disabled')
         WHERE tenant = ? AND project = ? AND webhook = ? AND status = 'pending'",
        &[tenant, project, id],
    )?;
    Ok(true)
}

/// Removes one with its deliveries.
pub(crate) fn webhook_delete_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    id: WebhookId,
    by: &str,
) -> StoreResult<bool> {
    let key = key(scope, id);
    let gone =
        conn.rows("DELETE FROM webhooks WHERE tenant = ? AND project = ? AND id = ? RETURNING id", &key)?;
    conn.rows("DELETE FROM webhook_deliveries WHERE tenant = ? AND project = ? AND webhook = ?", &key)?;
    if !gone.is_empty() {
        audit::note(conn, scope, by, AuditAct::WebhookDeleted, id, json!({}))?;
    }
    Ok(!gone.is_empty())
}

/// Puts an event of no execution before a webhook; `false` where there is none that is called.
pub(crate) fn webhook_test_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    id: WebhookId,
    event: EventId,
) -> StoreResult<bool> {
    let [kind, event] = binds![WEBHOOK_TEST, event.0];
    let [tenant, project, id] = key(scope, id);
    let put = conn.rows(
        "INSERT INTO webhook_deliveries (tenant, project, webhook, event, kind, status, next_at, created_at)
         SELECT w.tenant, w.project, w.id, ?, ?, 'pending', (SELECT hp_now()), (SELECT hp_now()) FROM webhooks w
         WHERE w.tenant = ? AND w.project = ? AND w.id = ? AND w.disabled_at IS NULL RETURNING event",
        &[event, kind, tenant, project, id],
    )?;
    Ok(!put.is_empty())
}

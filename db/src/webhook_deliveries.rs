//! Deliveries: one event for one webhook, from the fan-out to its end. Whoever takes one moves
//! its time on, so that nobody else does while it is under way; the attempt's number is the
//! guard of its report.

use std::collections::HashMap;
use std::time::Duration;

use holdpoint_engine::ids::{EventId, WebhookId};
use holdpoint_engine::lifecycle::{CloudEvent, DefinitionRef, WEBHOOK_TEST, WebhookTest};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DisabledFor;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::event_types::*;
use crate::outgoing::{outgoing_events, outgoing_remove};
use crate::row::Row;
use crate::session::micros;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;
use crate::webhooks::{WEBHOOK, disable, read_webhook};

const INSERT: &str = "
    WITH u(t, p, w, v, k, x, seq) AS (@u)
    INSERT INTO webhook_deliveries (tenant, project, webhook, event, kind, execution, seq, status, next_at,
      created_at)
    SELECT t, p, w, v, k, x, seq, 'pending', (SELECT hp_now()), (SELECT hp_now()) FROM u WHERE true
    ON CONFLICT DO NOTHING";

/// Makes a delivery of each event that is due for each webhook that wants it, and removes the
/// events; how many there were.
pub(crate) fn fan_out_in_txn(conn: &mut Conn, limit: usize) -> StoreResult<usize> {
    let events = outgoing_events(conn, Channel::Webhooks, limit)?;
    let mut webhooks: HashMap<Scope, Vec<WebhookRow>> = HashMap::new();
    for event in &events {
        let scope = &event.row.key.scope;
        if !webhooks.contains_key(scope) {
            webhooks.insert(scope.clone(), called(conn, scope)?);
        }
    }
    let mut rows = Vec::new();
    for event in &events {
        let key = &event.row.key;
        for webhook in webhooks[&key.scope].iter().filter(|webhook| webhook.wants(event.kind.event)) {
            let (tenant, project) = (&*key.scope.tenant, &*key.scope.project);
            let (id, kind) = (event.id.0, event.kind.event);
            rows.push(binds![tenant, project, webhook.id.0, id, kind, key.id.0, event.row.seq]);
        }
    }
    conn.each(INSERT, &rows, &[])?;
    let done: Vec<OutgoingKey> = events.iter().map(|event| event.row.clone()).collect();
    outgoing_remove(conn, Channel::Webhooks, &done)?;
    Ok(events.len())
}

/// A project's webhooks that are called, locked: nobody deletes or disables them meanwhile.
fn called(conn: &mut Conn, scope: &Scope) -> StoreResult<Vec<WebhookRow>> {
    let text = format!("{WEBHOOK} AND e.disabled_at IS NULL ORDER BY e.id @lock");
    conn.rows(&text, &binds![&*scope.tenant, &*scope.project])?.into_iter().map(read_webhook).collect()
}

const DUE: &str = "
    SELECT e.tenant, e.project, e.webhook, e.event, e.kind, e.attempts, e.created_at, w.url, w.secret,
      CASE WHEN w.old_until > (SELECT hp_now()) THEN w.old_secret END,
      e.execution, e.seq, j.event, j.kind, j.at, j.payload, i.kind, i.name, i.version, i.conversation_id
    FROM webhook_deliveries e
    JOIN webhooks w ON w.tenant = e.tenant AND w.project = e.project AND w.id = e.webhook
    LEFT JOIN journal j ON j.tenant = e.tenant AND j.project = e.project AND j.execution = e.execution
      AND j.seq = e.seq
    LEFT JOIN execution_info i ON i.tenant = e.tenant AND i.project = e.project AND i.id = e.execution
    WHERE e.next_at <= (SELECT hp_now()) ORDER BY e.next_at LIMIT ? @skip";

const TAKE: &str = "
    WITH u(t, p, w, v, ms) AS (@u)
    UPDATE webhook_deliveries AS d SET attempts = d.attempts + 1, next_at = (SELECT hp_now()) + u.ms
    FROM u WHERE d.tenant = u.t AND d.project = u.p AND d.webhook = u.w AND d.event = u.v";

/// Takes deliveries that are due: until `lease` has passed nobody else does.
pub(crate) fn delivery_claim_in_txn(
    conn: &mut Conn,
    limit: usize,
    lease: Duration,
) -> StoreResult<Vec<DueDelivery>> {
    let found = conn.rows(DUE, &binds![limit as i64])?;
    let due: Vec<DueDelivery> = found.into_iter().map(read_due).collect::<StoreResult<_>>()?;
    let rows: Vec<[Bind<'_>; 5]> = due
        .iter()
        .map(|due| {
            let [tenant, project, webhook, event] = key(&due.key);
            [tenant, project, webhook, event, micros(lease).into()]
        })
        .collect();
    conn.each(TAKE, &rows, &[])?;
    Ok(due)
}

fn key(key: &DeliveryKey) -> [Bind<'_>; 4] {
    binds![&*key.scope.tenant, &*key.scope.project, key.webhook.0, key.event.0]
}

fn read_due(mut row: Row) -> StoreResult<DueDelivery> {
    let scope = row.scope()?;
    let key = DeliveryKey { scope, webhook: WebhookId(row.id()?), event: EventId(row.id()?) };
    let (kind, attempts, created_at, url) = (row.text()?, row.int()?, row.time()?, row.text()?);
    let secrets = [row.opt_bytes()?, row.opt_bytes()?].into_iter().flatten().collect();
    let body = read_body(&mut row, &key, &kind, created_at)?;
    Ok(DueDelivery { key, attempt: attempts + 1, created_at, url, secrets, body })
}

/// `None` where the execution is kept no longer.
fn read_body(
    row: &mut Row,
    key: &DeliveryKey,
    kind: &str,
    created_at: Timestamp,
) -> StoreResult<Option<String>> {
    if kind == WEBHOOK_TEST {
        let data = WebhookTest { message: "This webhook works.".to_owned() };
        return Ok(Some(CloudEvent::new(key.event, &key.scope, kind, None, created_at, data).to_json()));
    }
    let (execution, seq) = (row.opt_id()?, row.opt_big()?);
    let (event, line) = (row.opt_big()?, row.opt_text()?);
    let Some(line) = line else { return Ok(None) };
    let (Some(execution), Some(seq)) = (execution, seq) else {
        return Err(StoreError::Corrupt(format!("delivery {} names no execution", key.event)));
    };
    let id = holdpoint_engine::ids::ExecutionId(execution);
    let told = Told {
        row: OutgoingKey { key: ExecutionKey { scope: key.scope.clone(), id }, seq },
        event,
        line,
        at: row.time()?,
        payload: row.text()?,
        kind: row.word()?,
        definition: DefinitionRef { name: row.text()?, version: row.int()? },
        conversation_id: row.opt_text()?,
    };
    Ok(Some(OutgoingEvent::try_from(told)?.body()))
}

const REPORT: &str = "
    UPDATE webhook_deliveries SET status = ?, next_at = CASE WHEN ? THEN (SELECT hp_now()) + ? END,
      finished_at = CASE WHEN ? THEN NULL ELSE (SELECT hp_now()) END, response = ?, error = ?
    WHERE tenant = ? AND project = ? AND webhook = ? AND event = ? AND attempts = ? AND status = 'pending'
    RETURNING event";

/// Writes what became of an attempt, unless a later one has begun; why the webhook is called
/// no more, if this attempt was the reason.
pub(crate) fn delivery_report_in_txn(
    conn: &mut Conn,
    report: &DeliveryReport,
    patience: Duration,
) -> StoreResult<Option<DisabledFor>> {
    let outcome = &report.outcome;
    let again = outcome.again.map(micros);
    let status = match (outcome.delivered, again) {
        (true, _) => "delivered",
        (false, Some(_)) => "pending",
        (false, None) => "given_up",
    };
    let pending = status == "pending";
    let [status, is_pending, later, still, response, error] =
        binds![status, pending, again.unwrap_or(0), pending, outcome.response, outcome.error.as_deref()];
    let [tenant, project, webhook, event] = key(&report.key);
    let attempt = Bind::from(report.attempt);
    let values =
        [status, is_pending, later, still, response, error, tenant, project, webhook, event, attempt];
    if conn.rows(REPORT, &values)?.is_empty() {
        return Ok(None);
    }
    let (scope, id) = (&report.key.scope, report.key.webhook);
    if outcome.delivered {
        succeeded(conn, scope, id)?;
        return Ok(None);
    }
    let why = match (outcome.gone, failing_for(conn, scope, id)?) {
        (true, _) => DisabledFor::Gone,
        (false, failing) if failing >= patience => DisabledFor::Failing,
        _ => return Ok(None),
    };
    Ok(disable(conn, scope, id, why)?.then_some(why))
}

fn succeeded(conn: &mut Conn, scope: &Scope, id: WebhookId) -> StoreResult<()> {
    conn.rows(
        "UPDATE webhooks SET failing_since = NULL
         WHERE tenant = ? AND project = ? AND id = ? AND failing_since IS NOT NULL",
        &binds![&*scope.tenant, &*scope.project, id.0],
    )
    .map(drop)
}

/// Since the first failure after the last success.
fn failing_for(conn: &mut Conn, scope: &Scope, id: WebhookId) -> StoreResult<Duration> {
    let row = conn.row(
        "UPDATE webhooks SET failing_since = coalesce(failing_since, (SELECT hp_now()))
         WHERE tenant = ? AND project = ? AND id = ? RETURNING failing_since, (SELECT hp_now())",
        &binds![&*scope.tenant, &*scope.project, id.0],
    )?;
    let Some(mut row) = row else { return Ok(Duration::ZERO) };
    Ok(row.time()?.until(row.time()?))
}

/// A webhook's latest deliveries, newest first.
pub(crate) fn delivery_list(
    conn: &mut Conn,
    scope: &Scope,
    id: WebhookId,
    limit: usize,
) -> StoreResult<Vec<DeliveryRow>> {
    let rows = conn.rows(
        "SELECT event, kind, execution, status, attempts, next_at, response, error, created_at, finished_at
         FROM webhook_deliveries WHERE tenant = ? AND project = ? AND webhook = ? ORDER BY event DESC LIMIT ?",
        &binds![&*scope.tenant, &*scope.project, id.0, limit as i64],
    )?;
    rows.into_iter().map(read_delivery).collect()
}

fn read_delivery(mut row: Row) -> StoreResult<DeliveryRow> {
    Ok(DeliveryRow {
        event: EventId(row.id()?),
        kind: row.text()?,
        execution: row.opt_id()?.map(holdpoint_engine::ids::ExecutionId),
        status: row.word()?,
        attempts: row.int()?,
        next_at: row.opt_time()?,
        response: row.opt_int()?,
        error: row.opt_text()?,
        created_at: row.time()?,
        finished_at: row.opt_time()?,
    })
}

/// Removes deliveries that ended long ago, at most `limit`; how many.
pub(crate) fn delivery_clean(conn: &mut Conn, kept: Duration, limit: usize) -> StoreResult<usize> {
    let old = conn.rows(
        "SELECT tenant, project, webhook, event FROM webhook_deliveries
         WHERE finished_at < (SELECT hp_now()) - ? ORDER BY finished_at LIMIT ?",
        &binds![micros(kept), limit as i64],
    )?;
    let mut keys = Vec::with_capacity(old.len());
    for mut row in old {
        keys.push(DeliveryKey {
            scope: row.scope()?,
            webhook: WebhookId(row.id()?),
            event: EventId(row.id()?),
        });
    }
    let rows: Vec<_> = keys.iter().map(key).collect();
    let remove = "WITH u(t, p, w, v) AS (@u) DELETE FROM webhook_deliveries
                  WHERE (tenant, project, webhook, event) IN (SELECT t, p, w, v FROM u)";
    conn.each(remove, &rows, &[])?;
    Ok(keys.len())
}

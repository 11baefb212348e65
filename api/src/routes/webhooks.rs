//! `/v1/webhooks`: whom to call for the project's lifecycle events.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use holdpoint_db::{DeliveryRow, NewWebhook, SUBSCRIPTIONS_AGE, WebhookChange, WebhookDocument, WebhookRow};
use holdpoint_engine::ids::{EventId, ExecutionId, WebhookId};
use holdpoint_engine::lifecycle::Kind;
use holdpoint_engine::status::{DeliveryStatus, DisabledFor};
use holdpoint_engine::time::Timestamp;
use holdpoint_perform::{SECRET_BYTES, SealError, shown_secret};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::params::{Params, Segments};
use crate::problem::{Answer, Code, Problem};
use crate::view;

/// The longest URL and description, in bytes.
const TEXT_BYTES: usize = 2_048;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "WebhookBody")]
struct Body {
    /// Where deliveries are sent by POST.
    url: String,
    /// For people.
    #[serde(default)]
    description: String,
    /// The types to be told of, such as `holdpoint.approval.requested.v1`; all of them if empty.
    #[serde(default)]
    types: Vec<String>,
    /// Whether it is called; `true` if left out.
    enabled: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Webhook")]
struct Shown {
    id: WebhookId,
    url: String,
    description: String,
    types: Vec<String>,
    enabled: bool,
    /// Since when it is called no more.
    disabled_at: Option<Timestamp>,
    /// Why.
    disabled_reason: Option<DisabledFor>,
    /// The first failure since the last success; after a week of only failures it is disabled.
    failing_since: Option<Timestamp>,
    /// Until when the secret before the last rotation signs too.
    old_secret_until: Option<Timestamp>,
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    /// The signing secret: in the answer that makes it, and never again.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<WebhookRow> for Shown {
    fn from(row: WebhookRow) -> Self {
        let WebhookDocument { url, description, types } = row.document;
        Self {
            id: row.id,
            url,
            description,
            types,
            enabled: row.disabled.is_none(),
            disabled_at: row.disabled.map(|(at, _)| at),
            disabled_reason: row.disabled.map(|(_, why)| why),
            failing_since: row.failing_since,
            old_secret_until: row.old_secret.map(|(_, until)| until),
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
            secret: None,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookList")]
struct List {
    webhooks: Vec<Shown>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookDelivery")]
struct Delivery {
    event_id: EventId,
    #[serde(rename = "type")]
    kind: String,
    execution_id: Option<ExecutionId>,
    status: DeliveryStatus,
    attempts: i32,
    next_attempt_at: Option<Timestamp>,
    /// The last answer's HTTP status.
    response_status: Option<i32>,
    /// What went wrong last.
    error: Option<String>,
    created_at: Timestamp,
    finished_at: Option<Timestamp>,
}

impl From<DeliveryRow> for Delivery {
    fn from(row: DeliveryRow) -> Self {
        Self {
            event_id: row.event,
            kind: row.kind,
            execution_id: row.execution,
            status: row.status,
            attempts: row.attempts,
            next_attempt_at: row.next_at,
            response_status: row.response,
            error: row.error,
            created_at: row.created_at,
            finished_at: row.finished_at,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookDeliveryList")]
struct Deliveries {
    deliveries: Vec<Delivery>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WebhookTested")]
struct Tested {
    /// The event that will be delivered.
    event_id: EventId,
}

fn document(app: &App, body: Body) -> Answer<WebhookDocument> {
    let invalid = |detail: String| Problem::new(Code::InvalidBody, detail);
    if body.url.len() > TEXT_BYTES || body.description.len() > TEXT_BYTES {
        return Err(invalid(format!("`url` and `description` may have {TEXT_BYTES} bytes each")));
    }
    let checked = app.performer.check_webhook_url(&body.url);
    checked.map_err(|why| invalid(format!("`url` cannot be called: {why}")))?;
    if let Some(unknown) = body.types.iter().find(|kind| Kind::of_event(kind).is_none()) {
        let known: Vec<&str> = Kind::all().map(|kind| kind.event).collect();
        let shown: String = unknown.chars().take(128).collect();
        return Err(invalid(format!("`types` has `{shown}`: it may have {}", known.join(", "))));
    }
    let mut types = body.types;
    types.sort();
    types.dedup();
    Ok(WebhookDocument { url: body.url, description: body.description, types })
}

/// A new secret, as it is shown and as it is kept.
fn new_secret(app: &App, caller: &Caller, id: WebhookId) -> Answer<(String, Vec<u8>)> {
    let mut secret = [0; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(|error| {
        tracing::error!(%error, "no randomness for a secret");
        Problem::internal()
    })?;
    let sealed = app.performer.seal_secret(&caller.scope, id, &secret).map_err(|error| match error {
        SealError::NoKey => Problem::new(
            Code::InvalidBody,
            "no key is configured to keep signing secrets with; the setting is outbound.seal_keys",
        ),
        SealError::NoRandomness => Problem::internal(),
    })?;
    Ok((shown_secret(&secret), sealed))
}

fn parse(id: &str) -> Answer<WebhookId> {
    id.parse().map_err(|_| missing(id))
}

fn missing(id: &str) -> Problem {
    Problem::not_found("webhook", id)
}

/// Every process follows a change then.
async fn followed() {
    tokio::time::sleep(SUBSCRIPTIONS_AGE).await;
}

/// `POST /v1/webhooks`.
pub async fn create(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let body: Body = body.read()?;
    if body.enabled == Some(false) {
        return Err(Problem::new(Code::InvalidBody, "`enabled`: a new webhook is called"));
    }
    let document = document(&app, body)?;
    let id = app.ids.make(WebhookId::new);
    let (shown, secret) = new_secret(&app, &caller, id)?;
    let new = NewWebhook { id, document, secret, created_by: caller.key };
    let made = app.write(move |store| store.webhook_create(&caller.scope, &new)).await??;
    let row = made.ok_or_else(|| {
        let most = holdpoint_db::MAX_WEBHOOKS;
        let detail = format!("a project has {most} webhooks at most");
        Problem::limit(StatusCode::UNPROCESSABLE_ENTITY, "webhooks", most, detail)
    })?;
    followed().await;
    Ok(view::json(StatusCode::CREATED, &Shown { secret: Some(shown), ..row.into() }))
}

/// `GET /v1/webhooks`.
pub async fn list(State(app): Shared, caller: Caller) -> Answer {
    let rows = app.read(move |store| store.webhook_list(&caller.scope)).await?;
    Ok(view::ok(&List { webhooks: rows.into_iter().map(Into::into).collect() }))
}

/// `GET /v1/webhooks/{id}`.
pub async fn get(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let webhook = parse(&id)?;
    let row = app.read(move |store| store.webhook_get(&caller.scope, webhook)).await?;
    Ok(view::ok(&Shown::from(row.ok_or_else(|| missing(&id))?)))
}

async fn change(app: &App, caller: &Caller, id: &str, change: WebhookChange) -> Answer<Shown> {
    let (webhook, scope, by) = (parse(id)?, caller.scope.clone(), caller.key.clone());
    let row = app.write(move |store| store.webhook_change(&scope, webhook, &change, &by)).await??;
    Ok(row.ok_or_else(|| missing(id))?.into())
}

/// `PUT /v1/webhooks/{id}`.
pub async fn put(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    body: RawBody,
) -> Answer {
    let body: Body = body.read()?;
    let enabled = body.enabled;
    let document = WebhookChange::Document(document(&app, body)?);
    let mut shown = change(&app, &caller, &id, document).await?;
    match enabled {
        Some(true) if !shown.enabled => {
            shown = change(&app, &caller, &id, WebhookChange::Enable).await?;
            followed().await;
        }
        Some(false) if shown.enabled => shown = change(&app, &caller, &id, WebhookChange::Disable).await?,
        _ => {}
    }
    Ok(view::ok(&shown))
}

/// `DELETE /v1/webhooks/{id}`.
pub async fn delete(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let webhook = parse(&id)?;
    if !app.write(move |store| store.webhook_delete(&caller.scope, webhook, &caller.key)).await?? {
        return Err(missing(&id));
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

/// `POST /v1/webhooks/{id}/rotate`.
pub async fn rotate(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let webhook = parse(&id)?;
    let (shown, secret) = new_secret(&app, &caller, webhook)?;
    let keep = Duration::from_millis(app.settings.webhook_old_secret_ms);
    let row = change(&app, &caller, &id, WebhookChange::Secret { secret, keep }).await?;
    Ok(view::ok(&Shown { secret: Some(shown), ..row }))
}

/// `POST /v1/webhooks/{id}/enable`.
pub async fn enable(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let shown = change(&app, &caller, &id, WebhookChange::Enable).await?;
    followed().await;
    Ok(view::ok(&shown))
}

/// `POST /v1/webhooks/{id}/test`.
pub async fn test(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let (webhook, event) = (parse(&id)?, app.ids.make(EventId::new));
    if !app.write(move |store| store.webhook_test(&caller.scope, webhook, event)).await?? {
        return Err(missing(&id));
    }
    Ok(view::json(StatusCode::ACCEPTED, &Tested { event_id: event }))
}

/// `GET /v1/webhooks/{id}/deliveries`.
pub async fn deliveries(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    mut params: Params,
) -> Answer {
    let webhook = parse(&id)?;
    let limit = params.limit(50, 1_000)?;
    params.end()?;
    let rows = app
        .read(move |store| {
            let there = store.webhook_get(&caller.scope, webhook)?.is_some();
            let rows = store.delivery_list(&caller.scope, webhook, limit)?;
            Ok(there.then_some(rows))
        })
        .await?;
    let rows = rows.ok_or_else(|| missing(&id))?;
    Ok(view::ok(&Deliveries { deliveries: rows.into_iter().map(Into::into).collect() }))
}

/// What create takes and answers.
pub fn create_doc() -> Operation {
    Operation::new("webhook_create", "Calls a URL for the project's lifecycle events, signed.")
        .body::<Body>()
        .answer::<Shown>(201, "With `secret`, which is never shown again.")
        .problem(Code::Limit)
}

/// What list answers.
pub fn list_doc() -> Operation {
    Operation::new("webhook_list", "The project's webhooks, oldest first.")
        .answer::<List>(200, "All of them.")
}

/// What get answers.
pub fn get_doc() -> Operation {
    Operation::new("webhook_get", "One webhook.").answer::<Shown>(200, "Without its secret.")
}

/// What put takes and answers.
pub fn put_doc() -> Operation {
    Operation::new("webhook_put", "Changes a webhook; what is left out is as for a new one.")
        .body::<Body>()
        .answer::<Shown>(200, "As it stands now.")
}

/// What delete answers.
pub fn delete_doc() -> Operation {
    Operation::new("webhook_delete", "Removes a webhook and what was to be delivered to it.")
        .empty(204, "It is called no more.")
}

/// What rotate answers.
pub fn rotate_doc() -> Operation {
    Operation::new("webhook_rotate", "A new secret; the one until now signs as well for a day.")
        .answer::<Shown>(200, "With `secret`, which is never shown again.")
}

/// What enable answers.
pub fn enable_doc() -> Operation {
    Operation::new("webhook_enable", "Calls a webhook again.").answer::<Shown>(200, "As it stands now.")
}

/// What test answers.
pub fn test_doc() -> Operation {
    Operation::new(
        "webhook_test",
        "Delivers a `holdpoint.webhook.test.v1`; see the deliveries for what came of it.",
    )
    .answer::<Tested>(202, "It is on its way. A disabled webhook answers 404.")
}

/// What deliveries takes and answers.
pub fn deliveries_doc() -> Operation {
    Operation::new(
        "webhook_deliveries",
        "The latest deliveries, newest first; kept for a week after their end.",
    )
    .query::<u32>("limit", "50 by default, 1000 at most.")
    .answer::<Deliveries>(200, "With the status of each.")
}

//! `GET|PUT /v1/event-settings`: whether the project's lifecycle events go to the exchange.

use axum::extract::State;
use holdpoint_db::{EventSettings, SUBSCRIPTIONS_AGE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::problem::Answer;
use crate::view;

/// The body and the answer.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "EventSettings")]
pub struct Body {
    /// Whether lifecycle events are published on the exchange for events.
    pub exchange: bool,
}

/// `GET`.
pub async fn get(State(app): Shared, caller: Caller) -> Answer {
    let scope = caller.scope;
    let settings = app.read(move |store| store.event_settings(&scope)).await?;
    Ok(view::ok(&Body { exchange: settings.exchange }))
}

/// `PUT`: answered once every process follows it, so that nothing that happens after the
/// answer is missed.
pub async fn put(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let body: Body = body.read()?;
    let settings = EventSettings { exchange: body.exchange };
    app.write(move |store| store.event_settings_put(&caller.scope, settings, &caller.key)).await??;
    tokio::time::sleep(SUBSCRIPTIONS_AGE).await;
    Ok(view::ok(&body))
}

/// What get answers.
pub fn get_doc() -> Operation {
    Operation::new("event_settings_get", "Whether the project's lifecycle events go to the exchange.")
        .answer::<Body>(200, "As it is set.")
}

/// What put takes and answers.
pub fn put_doc() -> Operation {
    Operation::new(
        "event_settings_put",
        "Sends the project's lifecycle events to the exchange, or stops that.",
    )
    .body::<Body>()
    .answer::<Body>(200, "Every process follows it: nothing that happens from now on is missed.")
}

//! Whether the process lives, whether it can serve, and what it counts.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use holdpoint_queue::Link;
use http::{HeaderValue, StatusCode, header};
use prometheus::{Encoder, TextEncoder};
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use crate::app::App;
use crate::openapi::Operation;
use crate::problem::{Answer, Problem};
use crate::view;

#[derive(Serialize, JsonSchema)]
struct Alive {
    status: &'static str,
}

#[derive(Serialize, JsonSchema)]
struct Readiness {
    status: &'static str,
    database: &'static str,
    /// Names of migrations that are still to run; empty while the database is away.
    migrations: Vec<String>,
    broker: &'static str,
    missing: Vec<&'static str>,
}

/// `GET /healthz`: the process answers.
pub async fn alive() -> Response {
    view::ok(&Alive { status: "ok" })
}

/// `GET /readyz`: 503 without a database or its schema. Without a broker we are degraded,
/// not away: starts are still taken, and found by looking.
pub async fn ready(State(app): Shared) -> Response {
    let readiness = readiness(&app).await;
    let serves = readiness.status != "unavailable";
    view::json(if serves { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &readiness)
}

async fn readiness(app: &App) -> Readiness {
    let pending = app.read(|store| store.migrations_pending()).await;
    let database = pending.is_ok();
    let migrations = pending.unwrap_or_default();
    let broker = *app.queue.link().borrow() == Link::Up;
    let parts = [("database", database), ("migrations", migrations.is_empty()), ("broker", broker)];
    let missing: Vec<&'static str> = parts.iter().filter(|(_, is)| !is).map(|(name, _)| *name).collect();
    let status = match (database && migrations.is_empty(), broker) {
        (false, _) => "unavailable",
        (true, false) => "degraded",
        (true, true) => "ready",
    };
    let word = |is: bool| if is { "up" } else { "down" };
    Readiness { status, database: word(database), migrations, broker: word(broker), missing }
}

/// `GET /metrics`: everything that this process counts, for Prometheus.
pub async fn metrics(State(app): Shared) -> Answer {
    let mut text = Vec::new();
    let encoder = TextEncoder::new();
    encoder.encode(&app.registry.gather(), &mut text).map_err(|error| {
        tracing::error!(%error, "metrics cannot be written");
        Problem::internal()
    })?;
    let mut response = text.into_response();
    if let Ok(kind) = HeaderValue::from_str(encoder.format_type()) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    Ok(response)
}

/// What `/healthz` answers.
pub fn alive_doc() -> Operation {
    Operation::new("alive", "The process answers.").answer::<Alive>(200, "It does.")
}

/// What `/readyz` answers.
pub fn ready_doc() -> Operation {
    Operation::new("ready", "Whether the process can serve, and what is missing, by name.")
        .answer::<Readiness>(200, "It serves; without a broker it is `degraded`.")
        .answer::<Readiness>(503, "No database, or migrations to run.")
}

/// What `/metrics` answers.
pub fn metrics_doc() -> Operation {
    Operation::new("metrics", "Everything that this process counts, for Prometheus.").other(
        200,
        "text/plain",
        "Prometheus' text format.",
    )
}

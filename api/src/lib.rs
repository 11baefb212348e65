//! The HTTP API: from a request to a committed row, and from rows to a stream.
//!
//! Invariants: the tenant and project come from the API key and from nowhere else; a 2xx
//! is answered only after the row is committed; a row of another scope answers as one that
//! is not there; what a stream sends was read from rows.

use std::sync::Arc;

use holdpoint_db::Db;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::workflow::expression::Evaluator;
use holdpoint_perform::Performer;
use holdpoint_queue::Queue;
use holdpoint_scheduler::Sweeper;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

mod app;
mod asyncapi;
mod auth;
mod backlog;
mod body;
mod chat;
mod classic;
mod client_time;
mod clock;
mod console;
mod diagnosis;
mod forwarded;
pub mod keys;
mod metrics;
mod observe;
mod openapi;
mod params;
mod problem;
mod producers;
mod routes;
mod schedule_view;
mod schemas;
mod server;
mod spans;
mod steps;
mod streams;
mod view;

pub use app::SetupError;

/// How the API serves.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The address.
    pub listen: String,
    /// The secret of the cron door; without one it is closed.
    pub cron_secret: Option<String>,
    /// The largest body, in bytes.
    pub body_bytes: usize,
    /// The largest file, in bytes.
    pub file_bytes: usize,
    /// The largest header block, in bytes.
    pub header_bytes: usize,
    /// The longest time for the request line and headers.
    pub header_timeout_ms: u64,
    /// When an idle connection is closed.
    pub idle_timeout_ms: u64,
    /// The most streams at a time.
    pub streams: usize,
    /// Between comments on a quiet stream.
    pub keep_alive_ms: u64,
    /// Between looks at streams that no message has moved.
    pub stream_poll_ms: u64,
    /// How long a chat request that is no stream waits for its answer.
    pub chat_wait_ms: u64,
    /// How long a key that was found is believed.
    pub key_cache_ms: u64,
    /// How long a webhook's secret signs beside the one that replaced it.
    pub webhook_old_secret_ms: u64,
    /// Take commands from producers by AMQP.
    pub commands: bool,
    /// The most commands taken at a time.
    pub commands_prefetch: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:4653".to_owned(),
            cron_secret: None,
            body_bytes: 2 * 1024 * 1024,
            file_bytes: 10 * 1024 * 1024,
            header_bytes: 32 * 1024,
            header_timeout_ms: 10_000,
            idle_timeout_ms: 60_000,
            streams: 10_000,
            keep_alive_ms: 15_000,
            stream_poll_ms: 1_000,
            chat_wait_ms: 300_000,
            key_cache_ms: 500,
            webhook_old_secret_ms: 86_400_000,
            commands: true,
            commands_prefetch: 200,
        }
    }
}

/// What the API is made of.
pub struct Parts {
    /// The store.
    pub db: Db,
    /// Hints out, news of events in.
    pub queue: Arc<dyn Queue>,
    /// Before every name on the broker, for its description.
    pub queue_prefix: String,
    /// For the sweeps' HTTP doors.
    pub sweeper: Sweeper,
    /// Performs the effects of classic runs.
    pub performer: Arc<Performer>,
    /// Evaluates workflows' expressions; its calls block.
    pub evaluator: Arc<dyn Evaluator>,
    /// How it serves.
    pub settings: Settings,
    /// Limits on executions.
    pub limits: Limits,
    /// What `/metrics` shows: the whole process.
    pub registry: prometheus::Registry,
}

/// Serves until it is stopped: takes no more connections, ends streams, lets requests end.
/// Fails only before the first connection.
pub async fn serve(
    listener: tokio::net::TcpListener,
    parts: Parts,
    stop: CancellationToken,
) -> Result<(), SetupError> {
    let app = app::App::new(parts, stop.clone())?;
    let router = routes::router(&app);
    let helpers = [
        tokio::spawn(streams::listen(Arc::clone(&app.hub), Arc::clone(&app.queue), stop.clone())),
        tokio::spawn(Arc::clone(&app.hub).run(stop.clone())),
        tokio::spawn(metrics::refresh(Arc::clone(&app))),
        tokio::spawn(producers::run(Arc::clone(&app))),
    ];
    server::run(listener, router, &app.settings, stop).await;
    for helper in helpers {
        // They end by the same token.
        let _ = helper.await;
    }
    Ok(())
}

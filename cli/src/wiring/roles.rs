//! The roles, built from the shared foundation.

use std::sync::Arc;

use holdpoint_engine::limits::Limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Foundation;

/// Listens, or says which address cannot be had.
pub async fn bind(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| anyhow::anyhow!("cannot listen on {address}: {error}"))
}

fn limits(foundation: &Foundation) -> Limits {
    foundation.configuration.limits.clone()
}

/// Serves the API until it is stopped.
pub async fn api(
    foundation: &Foundation,
    listener: TcpListener,
    stop: &CancellationToken,
) -> anyhow::Result<()> {
    let parts = holdpoint_api::Parts {
        db: foundation.db.clone(),
        queue: Arc::clone(&foundation.queue),
        queue_prefix: foundation.configuration.queue.prefix.clone(),
        sweeper: foundation.sweeper.clone(),
        settings: foundation.configuration.api.clone(),
        performer: Arc::clone(&foundation.performer),
        evaluator: Arc::clone(&foundation.evaluator),
        limits: limits(foundation),
        registry: foundation.registry.clone(),
    };
    tracing::info!(address = %listener.local_addr()?, "serving HTTP");
    Ok(holdpoint_api::serve(listener, parts, stop.clone()).await?)
}

/// Works until it is stopped and drained.
pub async fn worker(foundation: &Foundation, stop: &CancellationToken) -> anyhow::Result<()> {
    let parts = holdpoint_worker::Parts {
        db: foundation.db.clone(),
        queue: Arc::clone(&foundation.queue),
        sweeper: foundation.sweeper.clone(),
        settings: foundation.configuration.worker.clone(),
        performer: Arc::clone(&foundation.performer),
        evaluator: Arc::clone(&foundation.evaluator),
        limits: limits(foundation),
    };
    tracing::info!(slots = parts.settings.slots, "working");
    holdpoint_worker::run(parts, &foundation.registry, stop.clone()).await.map_err(anyhow::Error::msg)
}

/// Emits sweeps until it is stopped.
pub async fn scheduler(foundation: &Foundation, stop: &CancellationToken) {
    tracing::info!("scheduling");
    holdpoint_scheduler::run(foundation.sweeper.clone(), stop.clone()).await;
}

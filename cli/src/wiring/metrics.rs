//! What every process shows of itself, and `/metrics` and `/healthz` of the roles that serve no API.

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};
use tokio_util::sync::CancellationToken;

use super::{Foundation, roles};

/// A registry with the process's own metrics (processor time, memory, open files) and its version.
pub fn registry() -> prometheus::Result<Registry> {
    let registry = Registry::new();
    let about = Opts::new("holdpoint_build_info", "1; the label says which version runs.");
    let about = IntGaugeVec::new(about, &["version"])?;
    about.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
    registry.register(Box::new(about))?;
    registry.register(Box::new(ProcessCollector::for_self()))?;
    Ok(registry)
}

/// Serves them in the background on `metrics.listen`, if that is set.
pub async fn serve(foundation: &Foundation, stop: &CancellationToken) -> anyhow::Result<()> {
    let Some(address) = foundation.configuration.metrics.listen else { return Ok(()) };
    let listener = roles::bind(&address.to_string()).await?;
    tracing::info!(address = %listener.local_addr()?, "serving metrics");
    let registry = foundation.registry.clone();
    let router = Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/metrics", get(async move || text(&registry)));
    let stop = stop.clone();
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "metrics are no longer served");
        }
    });
    Ok(())
}

fn text(registry: &Registry) -> Response {
    let mut body = Vec::new();
    let encoder = TextEncoder::new();
    match encoder.encode(&registry.gather(), &mut body) {
        Ok(()) => ([(header::CONTENT_TYPE, encoder.format_type().to_owned())], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

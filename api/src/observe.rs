//! The layer around every route: the request's id and span, the bound on its head, what is
//! counted, and a fault that becomes a 500 instead of a broken connection.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use holdpoint_engine::ids::KeyId;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tracing::Instrument;

use crate::app::App;
use crate::problem::Problem;
use crate::spans::RequestSpan;

/// Taken from the caller where it is plain, made here otherwise, and answered.
const REQUEST_ID: &str = "x-request-id";

/// The layer.
pub async fn observe(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let began = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = method_label(request.method());
    let id = request_id(&app, request.headers());
    let span = tracing::info_span!(
        "request",
        id,
        method,
        route,
        tenant = tracing::field::Empty,
        project = tracing::field::Empty,
        trace_id = tracing::field::Empty
    );
    let traced = RequestSpan::begin(&app, route, &mut request);
    if let Some(traced) = &traced {
        span.record("trace_id", traced.trace_id());
    }
    let mut response = answer(&app, request, next).instrument(span.clone()).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let status = response.status();
    app.metrics.requests.with_label_values(&[route, method, status.as_str()]).inc();
    app.metrics.durations.with_label_values(&[route]).observe(began.elapsed().as_secs_f64());
    if let Some(traced) = traced {
        traced.end(method, route, status, response.headers());
    }
    span.in_scope(|| tracing::debug!(status = status.as_u16(), "answered"));
    response
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    if let Err(problem) = check_head(request.headers(), app.settings.header_bytes) {
        return problem.into_response();
    }
    AssertUnwindSafe(next.run(request)).catch_unwind().await.unwrap_or_else(|_| {
        tracing::error!("a handler panicked; answered 500");
        Problem::internal().into_response()
    })
}

/// The same bound for all of the head's fields; a much longer head is cut off by the server.
fn check_head(headers: &HeaderMap, limit: usize) -> Result<(), Problem> {
    let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if bytes <= limit {
        return Ok(());
    }
    let detail = format!("the header block has {bytes} bytes; it may have {limit}");
    Err(Problem::limit(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "header_bytes", limit, detail))
}

fn request_id(app: &App, headers: &HeaderMap) -> String {
    let plain = |text: &&str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).filter(plain);
    given.map_or_else(|| app.ids.make(KeyId::new).0.to_string(), str::to_owned)
}

/// A closed list: a caller can make up methods.
fn method_label(method: &Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    known.into_iter().find(|name| *name == method.as_str()).unwrap_or("other")
}

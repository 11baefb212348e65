//! A collector of spans: takes OTLP over HTTP, and keeps what came.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use prost::Message;
use tokio_util::sync::DropGuard;

use crate::poll::{SOON, until};

/// A span as it came.
#[derive(Debug, Clone)]
pub struct Span {
    /// Its name.
    pub name: String,
    /// In hex.
    pub trace: String,
    /// In hex.
    pub id: String,
    /// In hex; empty for none.
    pub parent: String,
    /// OTLP's number of its kind.
    pub kind: i32,
    /// Nanoseconds since 1970.
    pub began: u64,
    /// Nanoseconds since 1970.
    pub ended: u64,
    /// Texts and numbers, as texts.
    pub attributes: BTreeMap<String, String>,
    /// Whether it ended with an error.
    pub failed: bool,
    /// The resource's `service.name`.
    pub service: String,
}

/// The collector; ended when it is dropped.
pub struct Collector {
    /// Its address, without a path.
    pub url: String,
    came: Arc<Mutex<Vec<Span>>>,
    _stop: DropGuard,
}

impl Collector {
    /// Starts one.
    pub async fn start() -> Self {
        let came = Arc::new(Mutex::new(Vec::new()));
        let app = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&came));
        let (url, stop) = crate::model::serve(app).await;
        Self { url, came, _stop: stop }
    }

    /// The spans of a trace that came so far, each once, in the order of their beginnings.
    pub fn of(&self, trace: &str) -> Vec<Span> {
        let mut spans = self.came.lock().expect("no panic holds it").clone();
        spans.retain(|span| span.trace == trace);
        spans.sort_by(|a, b| (a.began, &a.id).cmp(&(b.began, &b.id)));
        spans.dedup_by(|a, b| a.id == b.id);
        spans
    }

    /// All traces that came so far.
    pub fn traces(&self) -> Vec<String> {
        let spans = self.came.lock().expect("no panic holds it");
        spans.iter().map(|span| span.trace.clone()).collect()
    }

    /// Waits until the trace has spans of these names, in any order, and answers all of it.
    pub async fn wait(&self, trace: &str, names: &[&str]) -> Vec<Span> {
        let mut wanted: Vec<&str> = names.to_vec();
        wanted.sort_unstable();
        until("the trace is whole", SOON, || async {
            let spans = self.of(trace);
            let mut seen: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
            seen.sort_unstable();
            (seen == wanted).then(|| spans.clone())
        })
        .await
    }
}

async fn take(State(came): State<Arc<Mutex<Vec<Span>>>>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body) else { return StatusCode::BAD_REQUEST };
    let mut came = came.lock().expect("no panic holds it");
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| texts(resource.attributes)).unwrap_or_default();
        let service = attributes.get("service.name").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            came.push(Span {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                kind: span.kind,
                began: span.start_time_unix_nano,
                ended: span.end_time_unix_nano,
                attributes: texts(span.attributes),
                failed: span.status.is_some_and(|status| status.code == 2),
                service: service.clone(),
            });
        }
    }
    StatusCode::OK
}

fn texts(attributes: Vec<opentelemetry_proto::tonic::common::v1::KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        _ => None,
    };
    let one = |attribute: opentelemetry_proto::tonic::common::v1::KeyValue| {
        Some((attribute.key, text(attribute.value?.value?)?))
    };
    attributes.into_iter().filter_map(one).collect()
}

fn hex(bytes: &[u8]) -> String {
    holdpoint_engine::digest::hex(bytes)
}

//! Spans to a collector, by OTLP over HTTP: gathered, and sent in the background in batches. A
//! collector that is away costs spans, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use holdpoint_engine::time::Timestamp;
use holdpoint_perform::spans::{self, Exporter, Kind, Span, Value};
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};
use tokio::runtime::Handle;

use crate::configuration::Trace;

/// How long a span waits for others.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// How long one batch may take.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// How long a process that ends waits for its last spans to be taken.
const END_LIMIT: Duration = Duration::from_secs(2);

/// The export of this process's spans, if one is configured.
#[derive(Clone)]
pub struct Otlp(Option<Arc<Collector>>);

struct Collector {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Otlp {
    /// Begins to export, where a collector is named.
    pub fn start(trace: &Trace) -> anyhow::Result<Self> {
        let Some(endpoint) = trace.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(Self(None));
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new()?)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_headers(trace.otlp_headers.clone().into_iter().collect::<HashMap<_, _>>())
            .with_timeout(SEND_LIMIT)
            .build()
            .context("trace.otlp_endpoint")?;
        let batches = BatchConfigBuilder::default().with_scheduled_delay(SEND_EVERY).build();
        let mut processor = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
        let resource = Resource::builder_empty().with_attributes([
            KeyValue::new("service.name", trace.service_name.clone()),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ]);
        processor.set_resource(&resource.build());
        let scope =
            InstrumentationScope::builder("holdpoint").with_version(env!("CARGO_PKG_VERSION")).build();
        let collector = Arc::new(Collector { processor, scope });
        spans::export_to(Arc::clone(&collector) as Arc<dyn Exporter>, trace.ratio);
        Ok(Self(Some(collector)))
    }

    /// Sends what is left.
    pub async fn end(&self) {
        let Some(collector) = self.0.clone() else { return };
        let ending =
            tokio::task::spawn_blocking(move || collector.processor.shutdown_with_timeout(END_LIMIT));
        if let Ok(Err(error)) = ending.await {
            tracing::warn!(%error, "the last spans were not taken");
        }
    }
}

impl Exporter for Collector {
    fn export(&self, span: Span) {
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                TraceId::from_bytes(span.is.trace),
                SpanId::from_bytes(span.is.span),
                TraceFlags::SAMPLED,
                false,
                TraceState::default(),
            ),
            parent_span_id: span.parent.map_or(SpanId::INVALID, SpanId::from_bytes),
            parent_span_is_remote: span.parent.is_some() && span.parent_is_remote,
            span_kind: kind(span.kind),
            name: span.name.into(),
            start_time: time(span.began),
            end_time: time(span.ended),
            attributes: span.attributes.into_iter().map(attribute).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

fn kind(kind: Kind) -> SpanKind {
    match kind {
        Kind::Server => SpanKind::Server,
        Kind::Client => SpanKind::Client,
        Kind::Producer => SpanKind::Producer,
        Kind::Consumer => SpanKind::Consumer,
        Kind::Internal => SpanKind::Internal,
    }
}

fn time(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(at.micros()).unwrap_or_default())
}

fn attribute((name, value): (&'static str, Value)) -> KeyValue {
    match value {
        Value::Text(text) => KeyValue::new(name, text),
        Value::Int(number) => KeyValue::new(name, number),
    }
}

/// Our own HTTP client under the exporter, which sends from a thread without a runtime.
#[derive(Debug)]
struct Client {
    client: reqwest::Client,
    runtime: Handle,
}

impl Client {
    fn new() -> anyhow::Result<Self> {
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().no_proxy().timeout(SEND_LIMIT).build()?;
        Ok(Self { client, runtime: Handle::current() })
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let answer = self.runtime.spawn(async move {
            let response = client.execute(request).await?;
            let (status, headers) = (response.status(), response.headers().clone());
            Ok::<_, reqwest::Error>((status, headers, response.bytes().await?))
        });
        let (status, headers, body) = answer.await??;
        let mut response = Response::builder().status(status).body(body)?;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

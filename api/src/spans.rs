//! The span of a request, and what a start that it asks for hears of its trace.

use axum::extract::Request;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::trace::{ExecutionTrace, Traceparent};
use holdpoint_perform::spans::{self, Kind, Span};
use http::{HeaderMap, StatusCode};

use crate::app::App;
use crate::clock;

/// The header of the W3C's trace context.
pub const TRACEPARENT: &str = "traceparent";
/// Where a start says which execution it made.
const RUN_ID: &str = "x-workflow-run-id";
/// Asked for every few seconds by machines: nobody follows them.
const PROBES: &[&str] = &["/healthz", "/readyz", "/metrics"];

/// What a request's head says of its trace, for whatever it starts.
#[derive(Debug, Clone, Copy)]
pub struct Begun(pub Traceparent);

/// A request in its trace.
pub struct RequestSpan {
    own: ExecutionTrace,
    given: Option<Traceparent>,
    began: Timestamp,
}

/// The trace context of a head, where it has one that can be read.
pub fn given(headers: &HeaderMap) -> Option<Traceparent> {
    Traceparent::parse(headers.get(TRACEPARENT)?.to_str().ok()?)
}

impl RequestSpan {
    /// The request's trace, where its caller began one or somebody wants spans.
    pub fn begin(app: &App, route: &str, request: &mut Request) -> Option<Self> {
        let given = given(request.headers());
        if PROBES.contains(&route) || (given.is_none() && !spans::are_exported()) {
            return None;
        }
        let own = spans::of_execution(app.ids.make(ExecutionId::new), given)?;
        if let Some(given) = given {
            // Without our own span, what follows is a part of the caller's.
            request.extensions_mut().insert(Begun(if spans::are_exported() { own.root() } else { given }));
        }
        Some(Self { own, given, began: clock::now() })
    }

    /// For the logs.
    pub fn trace_id(&self) -> String {
        holdpoint_engine::digest::hex(&self.own.root().trace)
    }

    /// It is answered. Where its caller began no trace, it is a part of that of the execution
    /// that it started.
    pub fn end(self, method: &'static str, route: &str, status: StatusCode, answered: &HeaderMap) {
        let started = answered.get(RUN_ID).and_then(|id| id.to_str().ok()?.parse::<ExecutionId>().ok());
        let execution = started.filter(|_| self.given.is_none()).and_then(|id| spans::of_execution(id, None));
        let (is, parent) = match &execution {
            Some(execution) => {
                let root = execution.root();
                (root.with_span(self.own.root().span), Some(root.span))
            }
            None => (self.own.root(), self.own.parent),
        };
        let mut attributes = vec![
            ("http.request.method", method.into()),
            ("http.route", route.into()),
            ("http.response.status_code", i64::from(status.as_u16()).into()),
        ];
        attributes.extend(started.map(|id| ("holdpoint.execution.id", id.to_string().into())));
        spans::export(Span {
            is,
            parent,
            parent_is_remote: execution.is_none(),
            name: format!("{method} {route}"),
            kind: Kind::Server,
            began: self.began,
            ended: clock::now(),
            attributes,
            error: status.is_server_error().then(|| status.as_str().to_owned()),
        });
    }
}

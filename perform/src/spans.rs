//! Spans of distributed traces: made whole when what they tell of is over, and given to
//! whatever exports them. Their ids follow from the execution (`holdpoint_engine::trace`), so
//! that a span needs neither the process nor the memory in which its parent was made.

use std::sync::{Arc, OnceLock};

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::trace::{ExecutionTrace, Traceparent};

/// What a span is of, in OpenTelemetry's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that was answered.
    Server,
    /// A call to somebody else.
    Client,
    /// A message that was given to somebody else.
    Producer,
    /// Work that was taken up.
    Consumer,
    /// Neither.
    Internal,
}

/// A value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A number.
    Int(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Int(number)
    }
}

/// A span that is over.
#[derive(Debug, Clone)]
pub struct Span {
    /// Which it is.
    pub is: Traceparent,
    /// What it is a part of.
    pub parent: Option<[u8; 8]>,
    /// Whether that is another program's.
    pub parent_is_remote: bool,
    /// Its name, of which there are few.
    pub name: String,
    /// What it is of.
    pub kind: Kind,
    /// When it began.
    pub began: Timestamp,
    /// When it was over.
    pub ended: Timestamp,
    /// What else is known; never a value that a caller sent but names and ids.
    pub attributes: Vec<(&'static str, Value)>,
    /// The type of the error with which it ended.
    pub error: Option<String>,
}

/// Exports spans: never blocks, and may drop what it has no room for.
pub trait Exporter: Send + Sync {
    /// Takes one.
    fn export(&self, span: Span);
}

struct Spans {
    exporter: Arc<dyn Exporter>,
    ratio: f64,
}

static SPANS: OnceLock<Spans> = OnceLock::new();

/// From now on spans of this process go there; of the traces that begin here, so many of all
/// (`ratio`, 0 to 1). A second call changes nothing.
pub fn export_to(exporter: Arc<dyn Exporter>, ratio: f64) {
    // Only a test process can have one already.
    drop(SPANS.set(Spans { exporter, ratio }));
}

/// Whether anybody wants spans.
pub fn are_exported() -> bool {
    SPANS.get().is_some()
}

/// The trace of an execution. Without an exporter, only one that its caller began counts.
pub fn of_execution(id: ExecutionId, given: Option<Traceparent>) -> Option<ExecutionTrace> {
    let ratio = SPANS.get().map(|spans| spans.ratio);
    (ratio.is_some() || given.is_some()).then(|| ExecutionTrace::new(id, given, ratio.unwrap_or_default()))
}

/// Whether a trace that begins here is kept.
pub fn is_sampled(trace: &[u8; 16]) -> bool {
    SPANS.get().is_some_and(|spans| holdpoint_engine::trace::is_sampled(trace, spans.ratio))
}

/// Exports a span, if its trace is kept.
pub fn export(span: Span) {
    if let Some(spans) = SPANS.get().filter(|_| span.is.sampled) {
        spans.exporter.export(span);
    }
}

tokio::task_local! {
    static CALL: Traceparent;
}

/// Runs this call as a part of that span: the requests that it sends say so.
pub async fn within<F: Future>(span: Option<Traceparent>, call: F) -> F::Output {
    match span {
        Some(span) => CALL.scope(span, call).await,
        None => call.await,
    }
}

/// What a request of this task says about its trace.
pub(crate) fn current() -> Option<Traceparent> {
    CALL.try_with(|span| *span).ok()
}

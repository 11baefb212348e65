//! Performs effects: model calls and tool calls, outside any transaction. One file for each
//! kind of effect; adding one is a file and a line in `attempt`.
//!
//! Every request leaves through one guard, and every secret is looked up here at the last
//! moment. Whether an effect may begin is its caller's to know.

mod calls;
pub mod expressions;
mod forwarded;
mod guard;
mod hosts;
mod http;
#[cfg(feature = "mcp")]
mod mcp;
mod model;
mod secrets;
pub mod spans;
mod webhook;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use holdpoint_engine::effect::{Certainty, Effect, Input};
use holdpoint_engine::status::{ErrorType, Failure, Reason};
use holdpoint_engine::wire::ExecutionKey;
use serde::Deserialize;
use tokio::sync::mpsc;

use calls::openapi::Documents;
use calls::tokens::Tokens;
use forwarded::Seals;
pub use forwarded::{Forwarded, ForwardedHeaders, KEY_BYTES, SealError};
use guard::Guard;
use hosts::Hosts;
use secrets::Secrets;
pub use webhook::{SECRET_BYTES, WebhookAnswer, WebhookCall, shown_secret};

/// What calls to the outside may reach, and with which secrets.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Networks (`127.0.0.0/8`) that calls may reach although they are private, loopback,
    /// link-local or the like.
    pub allow_networks: Vec<String>,
    /// Secrets by tenant and name; looked up at the last moment.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
    /// Origins that stand in for hosts (`api.example.com=http://10.0.0.7:8080`): what is for
    /// the host goes there, and says in `Host` whom it is for.
    pub hosts: Vec<String>,
    /// Keys (base64 of 32 bytes) for callers' headers: the first seals, all of them open.
    /// Without one, a start with headers is refused.
    pub seal_keys: Vec<String>,
}

/// What performing needs, the same for all effects of a process.
pub struct Performer {
    client: reqwest::Client,
    guard: Arc<Guard>,
    hosts: Hosts,
    secrets: Secrets,
    seals: Seals,
    tokens: Tokens,
    documents: Documents,
    /// The largest answer that is read.
    value_bytes: usize,
}

impl Performer {
    /// An error names the setting that cannot be worked with.
    pub fn new(settings: &Settings, value_bytes: usize) -> Result<Self, String> {
        // One TLS provider for the process; a second installation changes nothing.
        drop(rustls::crypto::ring::default_provider().install_default());
        let guard = Arc::new(Guard::new(&settings.allow_networks)?);
        let hosts = Hosts::new(&settings.hosts)?;
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::clone(&guard))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("holdpoint/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        let (secrets, seals) = (Secrets::new(&settings.secrets), Seals::new(&settings.seal_keys)?);
        let (tokens, documents) = (Tokens::default(), Documents::default());
        Ok(Self { client, guard, hosts, secrets, seals, tokens, documents, value_bytes })
    }

    /// The names of the secrets that are configured, by tenant; never what they are.
    pub fn secret_names(&self) -> BTreeMap<String, BTreeSet<String>> {
        self.secrets.names()
    }

    /// A request to this URL, or to what stands in for its host: that address is the
    /// operator's choice, and not for the guard to judge.
    fn request(&self, method: reqwest::Method, url: reqwest::Url) -> reqwest::RequestBuilder {
        let target = self.hosts.target(url);
        let request = traced(self.client.request(method, target.url));
        match target.host {
            Some(host) => request.header(reqwest::header::HOST, host),
            None => request,
        }
    }
}

/// Says of which trace the request is a part, where the effect is a part of one.
fn traced(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    match spans::current() {
        Some(span) => request.header("traceparent", span.to_string()),
        None => request,
    }
}

/// Whose effect it is, and where what comes before its end goes.
pub struct Origin {
    /// The execution.
    pub key: ExecutionKey,
    /// Takes pieces of a model's text while it comes.
    pub events: mpsc::Sender<Input>,
    /// The caller's headers for tools.
    pub forwarded: Forwarded,
}

/// Why an attempt brought no result.
struct Fault {
    failure: Failure,
    certainty: Certainty,
    retry_after: Option<Duration>,
}

impl Fault {
    /// It did not happen, or the server said no.
    fn definite(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(kind, message), certainty: Certainty::Definite, retry_after: None }
    }

    /// What came back passed a limit, which the message names.
    fn limit(message: impl Into<String>) -> Self {
        let fault = Self::definite(ErrorType::Logic, message);
        Self { failure: Failure { reason: Some(Reason::Limit), ..fault.failure }, ..fault }
    }

    /// The same, of what may have happened.
    fn not_definite(self) -> Self {
        Self { certainty: Certainty::Unknown, ..self }
    }

    /// It may have happened.
    fn unknown(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(kind, message), certainty: Certainty::Unknown, retry_after: None }
    }
}

/// The word for an effect's kind in metrics.
pub fn kind(effect: &Effect) -> &'static str {
    match effect {
        Effect::Model(_) => "model",
        Effect::Http(_) => "http",
        Effect::List(_) => "mcp_list",
        Effect::Mcp(_) => "mcp",
        Effect::Delegate(_) => "delegate",
        Effect::Request(_) => "request",
        Effect::OpenApi(_) => "openapi",
        Effect::McpRequest(_) => "mcp_request",
        Effect::Child(_) => "child",
        Effect::Publish(_) => "publish",
        Effect::Reconcile(_) => "reconcile",
    }
}

/// Performs one attempt, and answers what came of it: a result or [`Input::Failed`]. A panic
/// in an effect is a failure whose outcome is unknown.
pub async fn perform(performer: &Performer, effect: Effect, origin: &Origin) -> Input {
    let step = effect.step();
    let guarded = AssertUnwindSafe(attempt(performer, effect, origin)).catch_unwind();
    let result =
        guarded.await.unwrap_or_else(|_| Err(Fault::unknown(ErrorType::Internal, "the effect panicked")));
    result.unwrap_or_else(|fault| Input::Failed {
        step,
        failure: fault.failure,
        retry_after: fault.retry_after,
        certainty: fault.certainty,
    })
}

async fn attempt(performer: &Performer, effect: Effect, origin: &Origin) -> Result<Input, Fault> {
    match effect {
        Effect::Model(effect) => {
            let timeout = effect.timeout;
            tokio::time::timeout(timeout, model::call(performer, effect, origin)).await.unwrap_or_else(|_| {
                let seconds = timeout.as_secs_f64();
                Err(Fault::unknown(
                    ErrorType::Timeout,
                    format!("the model did not answer within {seconds} s"),
                ))
            })
        }
        Effect::Http(effect) => http::call(performer, effect, origin).await,
        #[cfg(feature = "mcp")]
        Effect::List(effect) => {
            let timeout = effect.timeout;
            in_time(timeout, mcp::list(performer, effect, origin)).await
        }
        #[cfg(feature = "mcp")]
        Effect::Mcp(effect) => {
            let timeout = effect.timeout;
            in_time(timeout, mcp::call(performer, effect, origin)).await
        }
        #[cfg(feature = "mcp")]
        Effect::McpRequest(effect) => mcp::request(performer, *effect, origin).await,
        #[cfg(not(feature = "mcp"))]
        Effect::List(_) | Effect::Mcp(_) | Effect::McpRequest(_) => {
            Err(Fault::definite(ErrorType::Logic, "this build has no tools of MCP servers (feature `mcp`)"))
        }
        // Whoever has a journal starts it in a store; without one there is nothing to wait for.
        Effect::Delegate(_) | Effect::Child(_) | Effect::Publish(_) => {
            Err(Fault::definite(ErrorType::Logic, "what is awaited elsewhere needs a durable execution"))
        }
        Effect::Request(effect) => calls::call(performer, *effect, origin).await,
        Effect::Reconcile(effect) => Ok(calls::reconcile(performer, *effect, origin).await),
        Effect::OpenApi(effect) => calls::openapi::call(performer, *effect, origin).await,
    }
}

#[cfg(feature = "mcp")]
async fn in_time(
    timeout: Duration,
    work: impl Future<Output = Result<Input, Fault>>,
) -> Result<Input, Fault> {
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| {
        let message = format!("the MCP server did not answer within {} s", timeout.as_secs_f64());
        Err(Fault::unknown(ErrorType::Timeout, message))
    })
}

/// The server's `Retry-After`: seconds, or a date by the server's own clock where it tells it.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let header = |name| response.headers().get(name)?.to_str().ok().map(str::trim);
    let after = header(reqwest::header::RETRY_AFTER)?;
    if let Ok(seconds) = after.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = |text: &str| chrono::DateTime::parse_from_rfc2822(text).ok().map(|date| date.timestamp());
    let now = header(reqwest::header::DATE).and_then(date).or_else(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok()?;
        i64::try_from(since.as_secs()).ok()
    })?;
    Some(Duration::from_secs(u64::try_from(date(after)?.saturating_sub(now)).unwrap_or_default()))
}

/// A connection that was not made is definite; anything later may have happened.
fn transport_fault(error: &reqwest::Error, what: &str) -> Fault {
    let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let inner = innermost(error);
    let detail = if inner.is_empty() { source } else { inner };
    if let Some(refused) = guard::refusal(error) {
        Fault::definite(ErrorType::Permission, format!("{what}: {refused}"))
    } else if error.is_builder() {
        Fault::definite(ErrorType::Logic, format!("{what}: the request could not be made: {detail}"))
    } else if error.is_connect() {
        Fault::definite(ErrorType::Network, format!("{what}: not connected: {detail}"))
    } else if error.is_timeout() {
        Fault::unknown(ErrorType::Timeout, format!("{what}: no answer in time"))
    } else {
        Fault::unknown(ErrorType::Network, format!("{what}: the connection broke: {detail}"))
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut current: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    let mut last = String::new();
    while let Some(error) = current {
        last = error.to_string();
        current = error.source();
    }
    last
}

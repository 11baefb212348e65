//! Performing effects, outside any transaction. One file for each kind of effect; adding one
//! is a file and a line in [`attempt`].

mod guard;
mod http;
mod model;
mod secrets;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use holdpoint_db::failpoint;
use holdpoint_engine::effect::{Certainty, Effect, Input};
use holdpoint_engine::status::{ErrorType, Failure};
use holdpoint_engine::wire::ExecutionKey;
use tokio::sync::mpsc;

use crate::session::Session;
use crate::{Settings, Worker};

use guard::Guard;
use secrets::Secrets;

/// What performing needs, the same for all effects of a worker.
pub(crate) struct Performer {
    client: reqwest::Client,
    guard: Arc<Guard>,
    secrets: Secrets,
    /// The largest answer that is read.
    value_bytes: usize,
}

impl Performer {
    /// An error names the setting that cannot be worked with.
    pub fn new(settings: &Settings, value_bytes: usize) -> Result<Self, String> {
        settings.check()?;
        let guard = Arc::new(Guard::new(&settings.allow_networks)?);
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::clone(&guard))
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(Duration::from_secs(10))
            .pool_idle_timeout(Duration::from_secs(30))
            .user_agent(concat!("holdpoint/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { client, guard, secrets: Secrets::new(&settings.secrets), value_bytes })
    }
}

/// Whose effect it is, and where its results go.
pub(crate) struct Origin {
    pub key: ExecutionKey,
    pub session: Arc<Session>,
    pub events: mpsc::Sender<Input>,
}

/// Why an attempt brought no result.
pub(crate) struct Fault {
    failure: Failure,
    certainty: Certainty,
    retry_after: Option<Duration>,
}

impl Fault {
    /// It did not happen, or the server said no.
    fn definite(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(kind, message), certainty: Certainty::Definite, retry_after: None }
    }

    /// It may have happened.
    fn unknown(kind: ErrorType, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(kind, message), certainty: Certainty::Unknown, retry_after: None }
    }
}

/// Performs one attempt and sends what came of it. Without a sure lease nothing is sent out.
pub(crate) async fn perform(worker: &Arc<Worker>, effect: Effect, origin: Origin) {
    let (step, name) = (effect.step(), name(&effect));
    if !origin.session.is_sure().await {
        return;
    }
    failpoint::hit("worker.effect.before");
    let began = Instant::now();
    // A panic in an effect must not leave its execution waiting for ever.
    let guarded = AssertUnwindSafe(attempt(&worker.performer, effect, &origin)).catch_unwind();
    let result =
        guarded.await.unwrap_or_else(|_| Err(Fault::unknown(ErrorType::Internal, "the effect panicked")));
    failpoint::hit("worker.effect.after");
    let outcome = result.as_ref().map_or_else(|fault| fault.failure.kind.as_str(), |_| "ok");
    worker.metrics.step_seconds.with_label_values(&[name]).observe(began.elapsed().as_secs_f64());
    worker.metrics.effects.with_label_values(&[name, outcome]).inc();
    let input = result.unwrap_or_else(|fault| Input::Failed {
        step,
        failure: fault.failure,
        retry_after: fault.retry_after,
        certainty: fault.certainty,
    });
    // Nobody listens any more where the execution ended or the lease was lost.
    let _ = origin.events.send(input).await;
}

fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Model(_) => "model",
        Effect::Http(_) => "http",
    }
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
    }
}

/// The server's `Retry-After` in seconds; a date is left to our own backoff.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let header = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    header.trim().parse().ok().map(Duration::from_secs)
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

//! A server for tests: it keeps what reaches it, and answers as it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, Uri};
use axum::response::Response;
use holdpoint_engine::effect::{Credentials, Effect, Input, RequestEffect};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::EffectClass;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_engine::workflow::document::HttpOutput;
use tokio::sync::mpsc;

use crate::{Forwarded, Origin, Performer, Settings, perform};

/// A request that came.
#[derive(Clone, Debug)]
pub(crate) struct Came {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: String,
}

impl Came {
    /// A header's text; empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A server that ends with its runtime.
pub(crate) struct Stub {
    pub url: String,
    came: Arc<Mutex<Vec<Came>>>,
}

impl Stub {
    /// Answers each request by this function.
    pub async fn start(answer: impl Fn(&Came) -> Response + Send + Sync + 'static) -> Self {
        let came: Arc<Mutex<Vec<Came>>> = Arc::default();
        let (answer, kept) = (Arc::new(answer), Arc::clone(&came));
        let app = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (answer, kept) = (Arc::clone(&answer), Arc::clone(&kept));
            async move {
                let body = String::from_utf8_lossy(&body).into_owned();
                let request = Came { method, uri, headers, body };
                kept.lock().expect("no holder panics").push(request.clone());
                answer(&request)
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, came }
    }

    /// The requests of a path so far.
    pub fn came(&self, path: &str) -> Vec<Came> {
        let came = self.came.lock().expect("no holder panics");
        came.iter().filter(|came| came.uri.path() == path).cloned().collect()
    }
}

/// May call this machine, and has these secrets for the tenant `acme`.
pub(crate) fn performer(secrets: &[(&str, String)]) -> Performer {
    let of = secrets.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let settings = Settings {
        allow_networks: vec!["127.0.0.0/8".to_owned()],
        secrets: [("acme".to_owned(), of)].into(),
        ..Settings::default()
    };
    Performer::new(&settings, 10_000).expect("a performer")
}

/// A GET without anything.
pub(crate) fn get(uri: String, credentials: Option<Credentials>) -> RequestEffect {
    RequestEffect {
        step: 3,
        attempt: 2,
        tool_call_id: "call_1".to_owned(),
        class: EffectClass::Idempotent,
        method: "get".to_owned(),
        uri,
        query: Vec::new(),
        headers: Vec::new(),
        body: None,
        credentials,
        output: HttpOutput::Content,
        redirect: false,
        key: "key-1".to_owned(),
        timeout: Duration::from_secs(20),
    }
}

/// An origin of the tenant `acme`.
pub(crate) fn origin() -> Origin {
    let mut entropy = Entropy::from_seed(1);
    let id = ExecutionId::new(Timestamp::from_micros(1_800_000_000_000_000), &mut entropy);
    let key = ExecutionKey { scope: Scope::new("acme", "shop"), id };
    Origin { key, events: mpsc::channel(1).0, forwarded: Forwarded::None }
}

/// What came of it: the output as text, or the failure with its certainty.
pub(crate) async fn came_of(performer: &Performer, effect: Effect) -> Result<String, Input> {
    match perform(performer, effect, &origin()).await {
        Input::Returned { output, .. } => Ok(output.get().to_owned()),
        other => Err(other),
    }
}

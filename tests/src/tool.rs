//! Scripted tools: a server over real HTTP that counts and keeps what reaches it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio_util::sync::DropGuard;

use crate::gate::Gate;
use crate::poll::{SOON, until_true};

/// What a tool answers to one call.
#[derive(Debug, Clone)]
pub enum Reply {
    /// 200 with this JSON.
    Json(Value),
    /// This status, with a small body.
    Status(u16),
    /// This status with a `Retry-After` in seconds.
    RetryAfter(u16, u32),
    /// Waits until the gate is open, then answers.
    Held(Gate, Box<Reply>),
    /// The connection is closed without an answer, after the whole request was read.
    Reset,
}

/// A call that came.
#[derive(Debug, Clone)]
pub struct Call {
    /// Where.
    pub path: String,
    /// The body, byte for byte.
    pub body: String,
    /// The headers.
    pub headers: HeaderMap,
}

impl Call {
    /// Its `Idempotency-Key`.
    pub fn key(&self) -> String {
        let key = self.headers.get("idempotency-key").expect("every call has a key");
        key.to_str().expect("plain").to_owned()
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a call's body is JSON")
    }
}

#[derive(Default)]
struct Shared {
    scripts: Mutex<BTreeMap<String, VecDeque<Reply>>>,
    calls: Mutex<Vec<Call>>,
}

/// A tools' server; ended when it is dropped.
pub struct Tools {
    shared: Arc<Shared>,
    url: String,
    _stop: DropGuard,
}

impl Tools {
    /// Starts one that answers `{"ok": true}` to every path.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let app = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let (url, stop) = crate::model::serve(app).await;
        Self { shared, url, _stop: stop }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Replies for the next calls of a path; after them it answers `{"ok": true}` again.
    pub fn script(&self, path: &str, replies: impl IntoIterator<Item = Reply>) {
        let mut scripts = self.shared.scripts.lock().expect("no holder panics");
        scripts.entry(path.to_owned()).or_default().extend(replies);
    }

    /// The calls of a path so far.
    pub fn calls(&self, path: &str) -> Vec<Call> {
        let calls = self.shared.calls.lock().expect("no holder panics");
        calls.iter().filter(|call| call.path == path).cloned().collect()
    }

    /// How many calls of a path there were.
    pub fn count(&self, path: &str) -> usize {
        self.calls(path).len()
    }

    /// Waits until a path was called so many times.
    pub async fn wait_calls(&self, path: &str, count: usize) {
        until_true(&format!("{path} is called {count} times"), SOON, || self.count(path) >= count).await;
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    let body = String::from_utf8_lossy(&body).into_owned();
    shared.calls.lock().expect("no holder panics").push(Call { path: path.clone(), body, headers });
    let scripted =
        shared.scripts.lock().expect("no holder panics").get_mut(&path).and_then(VecDeque::pop_front);
    let mut reply = scripted.unwrap_or_else(|| Reply::Json(json!({"ok": true})));
    while let Reply::Held(gate, next) = reply {
        gate.pass().await;
        reply = *next;
    }
    match reply {
        Reply::Json(value) => ([("content-type", "application/json")], value.to_string()).into_response(),
        Reply::Status(status) => (code(status), "{\"error\":\"scripted\"}").into_response(),
        Reply::RetryAfter(status, seconds) => {
            (code(status), [("retry-after", seconds.to_string())], "later").into_response()
        }
        // Ends the connection's task, and with it the connection, without the panic's message.
        Reply::Reset | Reply::Held(..) => std::panic::resume_unwind(Box::new("scripted reset")),
    }
}

fn code(status: u16) -> StatusCode {
    StatusCode::from_u16(status).expect("a status")
}

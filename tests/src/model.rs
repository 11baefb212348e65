//! A scripted model: a server of OpenAI-compatible chat completions over real HTTP.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::post;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::gate::Gate;
use crate::poll::{SOON, until_true};

/// One thing of an answer, in order.
#[derive(Debug, Clone)]
enum Piece {
    Text(String),
    Thought(String),
    Call { index: usize, id: Option<String>, name: String, arguments: String },
    Pass(Gate),
    Raw(String),
    Finish(&'static str),
    Hang,
    Break,
}

/// What the model answers to one request.
#[derive(Debug, Clone)]
pub struct Turn {
    status: u16,
    headers: Vec<(String, String)>,
    pieces: Vec<Piece>,
}

impl Turn {
    fn new(pieces: Vec<Piece>) -> Self {
        Self { status: 200, headers: Vec::new(), pieces }
    }

    /// This text, in pieces of a few characters, and the end.
    pub fn say(text: &str) -> Self {
        let characters: Vec<char> = text.chars().collect();
        let mut pieces: Vec<Piece> =
            characters.chunks(5).map(|part| Piece::Text(part.iter().collect())).collect();
        pieces.push(Piece::Finish("stop"));
        Self::new(pieces)
    }

    /// These calls: id, tool, arguments.
    pub fn call(calls: &[(&str, &str, Value)]) -> Self {
        let with_ids: Vec<_> =
            calls.iter().map(|(id, tool, arguments)| (Some(*id), *tool, arguments.to_string())).collect();
        Self::call_raw(&with_ids)
    }

    /// The same, with ids left out and arguments as any text.
    pub fn call_raw(calls: &[(Option<&str>, &str, String)]) -> Self {
        let mut pieces: Vec<Piece> = calls
            .iter()
            .enumerate()
            .map(|(index, (id, tool, arguments))| Piece::Call {
                index,
                id: id.map(str::to_owned),
                name: (*tool).to_owned(),
                arguments: arguments.clone(),
            })
            .collect();
        pieces.push(Piece::Finish("tool_calls"));
        Self::new(pieces)
    }

    /// Text and then calls in one answer.
    pub fn say_and_call(text: &str, calls: &[(&str, &str, Value)]) -> Self {
        let mut turn = Self::call(calls);
        turn.pieces.insert(0, Piece::Text(text.to_owned()));
        turn
    }

    /// Reasoning before all else, as some servers send it.
    pub fn thinking(mut self, text: &str) -> Self {
        self.pieces.insert(0, Piece::Thought(text.to_owned()));
        self
    }

    /// Nothing comes until the gate is open; then this turn.
    pub fn after(mut self, gate: &Gate) -> Self {
        self.pieces.insert(0, Piece::Pass(gate.clone()));
        self
    }

    /// Waits at the gate after the first piece of text.
    pub fn held_midway(mut self, gate: &Gate) -> Self {
        self.pieces.insert(1, Piece::Pass(gate.clone()));
        self
    }

    /// An error of HTTP.
    pub fn status(status: u16) -> Self {
        let mut turn = Self::new(vec![Piece::Raw(json!({"error": {"message": "scripted"}}).to_string())]);
        turn.status = status;
        turn
    }

    /// A header of the answer.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Headers come, then nothing.
    pub fn hang() -> Self {
        Self::new(vec![Piece::Hang])
    }

    /// 200, and a body that is no answer of a model.
    pub fn nonsense() -> Self {
        Self::new(vec![Piece::Raw("data: {\"choices\": 42\n\ndata: <html>\n\n".to_owned())])
    }

    /// Some text, then the connection breaks.
    pub fn half(text: &str) -> Self {
        Self::new(vec![Piece::Text(text.to_owned()), Piece::Break])
    }

    /// Some text, then the body ends as if all were well, without `finish_reason` and `[DONE]`.
    pub fn cut_short(text: &str) -> Self {
        Self::new(vec![Piece::Text(text.to_owned())])
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// The body.
    pub body: Value,
    /// The headers.
    pub headers: HeaderMap,
}

impl Request {
    /// Its messages.
    pub fn messages(&self) -> &Vec<Value> {
        self.body["messages"].as_array().expect("a chat completion has messages")
    }

    /// Its last message's content, as text.
    pub fn last(&self) -> String {
        let content = &self.messages().last().expect("at least one message")["content"];
        content.as_str().map_or_else(|| content.to_string(), str::to_owned)
    }

    /// What it says of a tool call: the content of its `tool` message.
    pub fn told(&self, call: &str) -> Option<String> {
        let message = self.messages().iter().find(|message| message["tool_call_id"] == call)?;
        message["content"].as_str().map(str::to_owned)
    }

    /// How many answers of the model are in it.
    pub fn turns(&self) -> usize {
        self.messages().iter().filter(|message| message["role"] == "assistant").count()
    }
}

type Answer = Arc<dyn Fn(&Request) -> Turn + Send + Sync>;

struct Shared {
    script: Mutex<VecDeque<Turn>>,
    by_request: Mutex<Option<Answer>>,
    requests: Mutex<Vec<Request>>,
    left: AtomicUsize,
}

/// A model's server; ended when it is dropped.
pub struct Model {
    shared: Arc<Shared>,
    url: String,
    _stop: DropGuard,
}

impl Model {
    /// Starts one without a script: it answers `done` to everything.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            script: Mutex::new(VecDeque::new()),
            by_request: Mutex::new(None),
            requests: Mutex::new(Vec::new()),
            left: AtomicUsize::new(0),
        });
        let app = Router::new()
            .route("/v1/chat/completions", post(answer))
            .layer(axum::extract::DefaultBodyLimit::max(64 * 1024 * 1024))
            .with_state(Arc::clone(&shared));
        let (url, stop) = serve(app).await;
        Self { shared, url: format!("{url}/v1"), _stop: stop }
    }

    /// What an agent's `base_url` is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Turns for the next requests, one after the other, after those that are left.
    pub fn script(&self, turns: impl IntoIterator<Item = Turn>) {
        self.shared.script.lock().expect("no holder panics").extend(turns);
    }

    /// Answers by request, whenever the script is at its end.
    pub fn answer_by(&self, answer: impl Fn(&Request) -> Turn + Send + Sync + 'static) {
        *self.shared.by_request.lock().expect("no holder panics") = Some(Arc::new(answer));
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no holder panics").clone()
    }

    /// Waits until so many readers went away while their turn was held or hung.
    pub async fn wait_left(&self, count: usize) {
        let left = || self.shared.left.load(Ordering::SeqCst);
        until_true(&format!("{count} readers of the model go away"), SOON, || left() >= count).await;
    }

    /// Waits until so many requests have come.
    pub async fn wait_requests(&self, count: usize) {
        until_true(&format!("the model is asked {count} times"), SOON, || self.requests().len() >= count)
            .await;
    }
}

/// Serves an application on a free port until the guard is dropped.
pub(crate) async fn serve(app: Router) -> (String, DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = async { axum::serve(listener, app).await } => {}
            () = stopped.cancelled() => {}
        }
    });
    (url, stop.drop_guard())
}

async fn answer(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let body = serde_json::from_slice(&body).expect("a model request is JSON");
    let request = Request { body, headers };
    let scripted = shared.script.lock().expect("no holder panics").pop_front();
    let by_request = shared.by_request.lock().expect("no holder panics").clone();
    shared.requests.lock().expect("no holder panics").push(request.clone());
    let turn =
        scripted.unwrap_or_else(|| by_request.map_or_else(|| Turn::say("done"), |answer| answer(&request)));
    let mut response = Response::builder().status(StatusCode::from_u16(turn.status).expect("a status"));
    let content_type = if turn.status == 200 { "text/event-stream" } else { "application/json" };
    response = response.header("content-type", content_type);
    for (name, value) in &turn.headers {
        response = response.header(name, value);
    }
    let (sender, mut receiver) = mpsc::channel::<Result<Bytes, std::io::Error>>(16);
    tokio::spawn(async move {
        if send(turn.pieces, sender).await.is_none() {
            shared.left.fetch_add(1, Ordering::SeqCst);
        }
    });
    let stream = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    response.body(Body::from_stream(stream)).expect("a response")
}

/// Sends them all; `None` where the reader went away meanwhile.
async fn send(pieces: Vec<Piece>, to: mpsc::Sender<Result<Bytes, std::io::Error>>) -> Option<()> {
    for piece in pieces {
        let chunk = match piece {
            Piece::Pass(gate) => tokio::select! {
                () = gate.pass() => continue,
                () = to.closed() => return None,
            },
            Piece::Hang => {
                to.closed().await;
                return None;
            }
            Piece::Break => {
                // What was said before is on its way first.
                tokio::time::sleep(Duration::from_millis(20)).await;
                let _ = to.send(Err(std::io::Error::other("scripted"))).await;
                return Some(());
            }
            Piece::Raw(text) => text,
            Piece::Text(text) => line(&json!({"content": text}), None),
            Piece::Thought(text) => line(&json!({"reasoning_content": text}), None),
            Piece::Call { index, id, name, arguments } => {
                let mut call = json!({"index": index, "type": "function", "function": {"name": name, "arguments": arguments}});
                if let Some(id) = id {
                    call["id"] = json!(id);
                }
                line(&json!({"tool_calls": [call]}), None)
            }
            Piece::Finish(reason) => {
                let usage = json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}});
                format!("{}data: {usage}\n\ndata: [DONE]\n\n", line(&json!({}), Some(reason)))
            }
        };
        to.send(Ok(Bytes::from(chunk))).await.ok()?;
    }
    Some(())
}

fn line(delta: &Value, finish: Option<&str>) -> String {
    let chunk = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "scripted",
        "choices": [{"index": 0, "delta": delta, "finish_reason": finish}],
    });
    format!("data: {chunk}\n\n")
}

//! The UI message stream: `start`, what the agent does as it does it, how the message ends,
//! `[DONE]`.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use holdpoint_engine::ids::ExecutionId;
use http::{HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::parts::{Parts, Told};
use crate::chat::{Begun, Events, Seen};
use crate::streams::{COMMENT, event_stream};

/// Which stream and what it is from, beside its events.
#[derive(Debug)]
pub struct Head {
    /// The message's id: the same however often an execution's stream is read, so that a
    /// client puts what it reads again in the place of what it had.
    message: String,
    run: Option<ExecutionId>,
    conversation: String,
    /// What became of the decisions in the request.
    results: Option<Value>,
}

impl Head {
    /// Of what was begun, and what became of the decisions in the request.
    pub fn new(begun: &Begun, results: Option<Value>) -> Self {
        Self {
            message: begun.key().id.to_string().replacen("exe_", "msg_", 1),
            run: begun.run_id(),
            conversation: begun.conversation().to_owned(),
            results,
        }
    }

    fn chunks(&self) -> Vec<Value> {
        let mut chunks = vec![json!({"type": "start", "messageId": self.message})];
        // Not kept in the message: it is for who listens.
        let data = json!({"execution_id": self.run, "conversation_id": self.conversation});
        chunks.push(json!({"type": "data-holdpoint-execution", "data": data, "transient": true}));
        if let Some(results) = &self.results {
            let kind = "data-holdpoint-approval-results";
            chunks.push(json!({"type": kind, "data": results, "transient": true}));
        }
        chunks
    }

    fn add_to(&self, response: &mut Response) {
        let headers = [
            ("x-vercel-ai-ui-message-stream", Some("v1".to_owned())),
            ("x-workflow-run-id", self.run.map(|id| id.to_string())),
            ("x-holdpoint-conversation-id", Some(self.conversation.clone())),
        ];
        for (name, value) in headers {
            // A conversation's id may hold what no header holds; the stream has it too.
            if let Some(Ok(value)) = value.map(|value| HeaderValue::from_str(&value)) {
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
    }
}

struct Chunks {
    head: Option<Head>,
    is_durable: bool,
    events: Events,
    parts: Parts,
    over: bool,
}

/// The answer that carries it.
pub fn response(head: Head, events: Events) -> Response {
    let mut response = Response::new(Body::empty());
    head.add_to(&mut response);
    let headers = std::mem::take(response.headers_mut());
    let is_durable = head.run.is_some();
    let parts = Parts::new(head.run);
    let chunks = Chunks { head: Some(head), is_durable, events, parts, over: false };
    let pieces = stream::unfold(chunks, |mut chunks| async {
        let bytes = chunks.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), chunks))
    });
    let mut response = event_stream(Body::from_stream(pieces));
    response.headers_mut().extend(headers);
    response
}

impl Chunks {
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(head) = self.head.take() {
            return Some(bytes(&Told { chunks: head.chunks(), is_end: false }));
        }
        while !self.over {
            let told = match self.events.next().await {
                None => self.parts.broken(self.stopped()),
                Some(Seen::Quiet) => return Some(COMMENT),
                Some(Seen::Event(entry)) => self.parts.take(*entry),
            };
            self.over = told.is_end;
            if !told.chunks.is_empty() {
                return Some(bytes(&told));
            }
        }
        None
    }

    /// This process ends before the run does.
    fn stopped(&self) -> &'static str {
        if self.is_durable {
            "this server stops; the execution goes on: resume the stream"
        } else {
            "this server stops, and the run with it: send again"
        }
    }
}

fn bytes(told: &Told) -> Bytes {
    let mut text: String = told.chunks.iter().map(|chunk| format!("data: {chunk}\n\n")).collect();
    if told.is_end {
        text.push_str("data: [DONE]\n\n");
    }
    Bytes::from(text)
}

//! The answer as chunks: the role first, then what the agent does as it does it, then why the
//! message ends, and `[DONE]`.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::{Value, json};

use super::completion::{Head, told, told_stopped};
use super::translate::{Part, Translator, call_json, usage_json};
use crate::chat::{Events, Seen};
use crate::streams::{COMMENT, event_stream};

/// A stream of one answer.
struct Chunks {
    head: Head,
    events: Events,
    translator: Translator,
    include_usage: bool,
    begun: bool,
    over: bool,
}

/// The answer that carries it.
pub fn response(head: Head, events: Events, include_usage: bool) -> Response {
    let translator = Translator::new(head.key.id, true);
    let chunks = Chunks { head, events, translator, include_usage, begun: false, over: false };
    let pieces = stream::unfold(chunks, |mut chunks| async {
        let bytes = chunks.next().await?;
        Some((Ok::<_, std::convert::Infallible>(bytes), chunks))
    });
    event_stream(Body::from_stream(pieces))
}

impl Chunks {
    async fn next(&mut self) -> Option<Bytes> {
        if !self.begun {
            self.begun = true;
            return Some(Bytes::from(self.chunk(&json!({"role": "assistant", "content": ""}), None)));
        }
        while !self.over {
            let bytes = match self.events.next().await {
                None => self.error(&told_stopped(&self.head).document()),
                Some(Seen::Quiet) => return Some(COMMENT),
                Some(Seen::Event(entry)) => match self.translator.take(*entry) {
                    Ok(parts) => parts.into_iter().map(|part| self.part(part)).collect(),
                    Err(broken) => self.error(&told(&self.head, &broken).1.document()),
                },
            };
            if !bytes.is_empty() {
                return Some(Bytes::from(bytes));
            }
        }
        None
    }

    fn part(&mut self, part: Part) -> String {
        match part {
            Part::Text(text) => self.chunk(&json!({"content": text}), None),
            Part::Call { index, call } => {
                let mut call = call_json(&call);
                call["index"] = index.into();
                self.chunk(&json!({"tool_calls": [call]}), None)
            }
            Part::Own(name, value) => self.chunk(&json!({name: value}), None),
            Part::Finished(reason) => self.end(reason),
        }
    }

    fn chunk(&self, delta: &Value, finish_reason: Option<&str>) -> String {
        let choice = json!({"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason});
        let mut chunk = self.head.document("chat.completion.chunk", json!([choice]));
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        data(&chunk)
    }

    fn end(&mut self, reason: &str) -> String {
        self.over = true;
        let mut text = self.chunk(&json!({}), Some(reason));
        if self.include_usage {
            let mut chunk = self.head.document("chat.completion.chunk", json!([]));
            chunk["usage"] = usage_json(self.translator.usage);
            text.push_str(&data(&chunk));
        }
        text.push_str("data: [DONE]\n\n");
        text
    }

    fn error(&mut self, document: &Value) -> String {
        self.over = true;
        format!("{}data: [DONE]\n\n", data(document))
    }
}

fn data(document: &Value) -> String {
    format!("data: {document}\n\n")
}

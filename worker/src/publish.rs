//! Giving a task out: a message to the queue that its definition names, for workers elsewhere.

use holdpoint_engine::effect::{Certainty, Input, PublishEffect};
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::lifecycle::CLOUD_EVENT;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ErrorType, Failure};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::trace::Traceparent;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_queue::{Link, Outgoing, Route, SendError};
use serde::Serialize;

use crate::Worker;
use crate::session::process_now;

/// The message's type.
const TASK: &str = "holdpoint.task.v1";

/// Publishes it, and makes the queue where there is none. Its end comes as an act.
pub(crate) async fn publish(
    worker: &Worker,
    key: &ExecutionKey,
    effect: &PublishEffect,
    span: Option<Traceparent>,
) -> Input {
    let step = effect.step;
    let not_connected = || *worker.queue.link().borrow() == Link::Down;
    if not_connected() {
        return failed(step, ErrorType::Network, "the broker cannot be reached", Certainty::Definite);
    }
    let Some(body) = body(&key.scope, key.id, effect) else {
        return failed(step, ErrorType::Internal, "the task's input is not JSON", Certainty::Definite);
    };
    let mut sent = send(worker, effect, body.clone(), span).await;
    if sent == Err(SendError::Unroutable) {
        match worker.queue.provide(&effect.queue).await {
            Err(SendError::Unroutable) => {
                let message = "tasks of queues need RabbitMQ: the queue inside the process has no outside";
                return failed(step, ErrorType::Logic, message, Certainty::Definite);
            }
            Err(error @ SendError::Reserved) => return unsent(step, &effect.queue, &error),
            Ok(()) | Err(_) => {}
        }
        sent = send(worker, effect, body, span).await;
    }
    match sent {
        Ok(()) => Input::Published { step },
        Err(error) => unsent(step, &effect.queue, &error),
    }
}

async fn send(
    worker: &Worker,
    effect: &PublishEffect,
    body: String,
    span: Option<Traceparent>,
) -> Result<(), SendError> {
    let message = Outgoing {
        address: effect.queue.clone(),
        content_type: CLOUD_EVENT,
        traceparent: span.map(|span| span.to_string()),
        ..Outgoing::new(Route::Task, TASK, effect.key.clone(), body)
    };
    worker.queue.send(vec![message]).await.pop().unwrap_or(Err(SendError::Disconnected))
}

/// A lost confirm says nothing: the broker may have the message.
fn unsent(step: i32, queue: &str, error: &SendError) -> Input {
    let message = format!("the task was not published to the queue `{queue}`: {error}");
    match error {
        SendError::Disconnected => failed(step, ErrorType::Network, message, Certainty::Unknown),
        SendError::TimedOut(_) => failed(step, ErrorType::Timeout, message, Certainty::Unknown),
        SendError::Unroutable | SendError::Refused => {
            failed(step, ErrorType::Network, message, Certainty::Definite)
        }
        SendError::Reserved => failed(step, ErrorType::Logic, message, Certainty::Definite),
    }
}

fn failed(step: i32, kind: ErrorType, message: impl Into<String>, certainty: Certainty) -> Input {
    Input::Failed { step, failure: Failure::new(kind, message), retry_after: None, certainty }
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'static str,
    subject: ExecutionId,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Task<'a>,
}

/// What a worker is given.
#[derive(Serialize)]
struct Task<'a> {
    execution_id: ExecutionId,
    step: i32,
    attempt: u32,
    task: &'a str,
    input: Json,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    heartbeat_seconds: Option<f64>,
}

fn body(scope: &Scope, id: ExecutionId, effect: &PublishEffect) -> Option<String> {
    let event = Event {
        specversion: "1.0",
        id: format!("{}-{}", effect.key, effect.attempt),
        source: format!("/holdpoint/{scope}"),
        kind: TASK,
        subject: id,
        time: process_now(),
        datacontenttype: "application/json",
        data: Task {
            execution_id: id,
            step: effect.step,
            attempt: effect.attempt,
            task: &effect.task,
            input: serde_json::from_str(&effect.input).ok()?,
            key: &effect.key,
            heartbeat_seconds: effect.heartbeat.map(|every| every.as_secs_f64()),
        },
    };
    serde_json::to_string(&event).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use holdpoint_engine::entropy::Entropy;

    use super::*;

    fn effect() -> PublishEffect {
        PublishEffect {
            step: 3,
            attempt: 2,
            tool_call_id: "add-3".to_owned(),
            queue: "sums".to_owned(),
            task: "add".to_owned(),
            input: r#"{"a": 1.50}"#.to_owned(),
            heartbeat: Some(Duration::from_secs(30)),
            key: "k".to_owned(),
        }
    }

    #[test]
    fn a_worker_is_given_what_a_report_must_name() {
        let id = ExecutionId::new(process_now(), &mut Entropy::from_seed(1));
        let body = body(&Scope::new("acme", "shop"), id, &effect()).expect("JSON");
        assert!(body.contains(r#""input":{"a": 1.50}"#), "its bytes are as they were: {body}");
        let event: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        assert_eq!((&event["type"], &event["id"]), (&"holdpoint.task.v1".into(), &"k-2".into()));
        let data = &event["data"];
        assert_eq!((&data["step"], &data["attempt"], &data["task"]), (&3.into(), &2.into(), &"add".into()));
        assert_eq!(
            (&data["execution_id"], &data["heartbeat_seconds"]),
            (&id.to_string().into(), &30.0.into())
        );
    }

    #[test]
    fn a_lost_confirm_is_no_no() {
        let certainty = |error: SendError| match unsent(1, "q", &error) {
            Input::Failed { certainty, failure, .. } => (certainty, failure.kind),
            other => panic!("{other:?}"),
        };
        assert_eq!(certainty(SendError::Disconnected), (Certainty::Unknown, ErrorType::Network));
        let late = SendError::TimedOut(Duration::from_secs(1));
        assert_eq!(certainty(late), (Certainty::Unknown, ErrorType::Timeout));
        assert_eq!(certainty(SendError::Unroutable), (Certainty::Definite, ErrorType::Network));
        assert_eq!(certainty(SendError::Refused), (Certainty::Definite, ErrorType::Network));
        assert_eq!(certainty(SendError::Reserved), (Certainty::Definite, ErrorType::Logic));
    }
}

//! What a producer is told that asked for an answer: a CloudEvent, whatever the command was.

use holdpoint_db::ReplyTo;
use holdpoint_engine::ids::{ExecutionId, SweepId};
use holdpoint_queue::{Outgoing, Route};
use serde_json::{Value, json};

use super::envelope::CLOUD_EVENT;
use crate::app::App;
use crate::clock;
use crate::problem::Answer;

/// The type that says that a command was carried out.
pub const ACCEPTED: &str = "holdpoint.command.accepted.v1";
/// The type that says that it was not.
pub const REJECTED: &str = "holdpoint.command.rejected.v1";

/// The reply that tells this outcome.
pub fn reply(app: &App, to: ReplyTo, outcome: &Answer<ExecutionId>) -> Outgoing {
    let (kind, data) = match outcome {
        Ok(execution) => (ACCEPTED, json!({"execution_id": execution})),
        Err(problem) => (REJECTED, json!({"problem": problem.document()})),
    };
    let id = app.ids.make(SweepId::new).0.to_string();
    let body = cloud_event(&id, kind, &data).to_string();
    Outgoing {
        address: to.queue,
        correlation_id: to.correlation_id,
        content_type: CLOUD_EVENT,
        ..Outgoing::new(Route::Reply, kind, id, body)
    }
}

fn cloud_event(id: &str, kind: &str, data: &Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": id,
        "source": "/holdpoint",
        "type": kind,
        "time": clock::now(),
        "datacontenttype": "application/json",
        "data": data,
    })
}

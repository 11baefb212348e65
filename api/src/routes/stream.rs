//! `GET /v1/executions/{id}/stream`: Server-Sent Events from any place on.

use std::sync::Arc;

use axum::extract::State;
use holdpoint_engine::wire::ExecutionKey;
use http::HeaderMap;

use super::Shared;
use super::events::read;
use crate::app::App;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{Params, Segments, execution_id};
use crate::problem::{Answer, Code};
use crate::streams::{self, Place, Reader};

/// The route.
pub async fn handle(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    mut params: Params,
) -> Answer {
    let key = ExecutionKey { scope: caller.scope.clone(), id: execution_id(&id)? };
    let after = streams::after(&headers, &mut params)?;
    params.end()?;
    open(app, &caller, key, after).await
}

/// The stream of an execution after that event, where it is the caller's to see.
pub async fn open(app: Arc<App>, caller: &Caller, key: ExecutionKey, after: i64) -> Answer {
    // 404 goes before 400, and both before the place among the streams is taken.
    let (head, _) = read(&app, caller, &key, after, 1).await?;
    if streams::place(after, head.last_event, head.status.is_terminal())? == Place::Beyond {
        return Ok(streams::response(None));
    }
    let permit = streams::permit(&app)?;
    let subscription = app.hub.join(key.clone());
    Ok(streams::response(Some(Reader::new(app, key, after, subscription, permit))))
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("execution_stream", "The events from any place on, until the execution's end.")
        .header("last-event-id", "The number after which to go on.")
        .header("x-stream-start-index", "How many events to skip.")
        .query::<i64>("after", "The number after which to begin.")
        .stream("The events; an empty stream past the end of a finished execution.")
        .problem(Code::InvalidIndex)
}

//! `GET /v1/executions/{id}/events`: the long poll.

use std::fmt::Write;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use holdpoint_db::{EventsHead, EventsPage, EventsRequest};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::Status;
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::wire::ExecutionKey;
use http::{HeaderValue, header};
use schemars::JsonSchema;
use tokio::time::Instant;

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{self, Params, Segments, execution_id};
use crate::problem::{Answer, Code, Problem};
use crate::streams::{self, Place, after_param, push_envelope};

/// The longest wait.
const MAX_WAIT: Span = Span::secs(60);

/// The route.
pub async fn handle(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    mut params: Params,
) -> Answer {
    let key = ExecutionKey { scope: caller.scope.clone(), id: execution_id(&id)? };
    let (after, limit) = (after_param(&mut params)?, params.limit(100, 1_000)?);
    let until = Instant::now() + wait(&mut params)?;
    params.end()?;
    // Joined before the first look, so that nothing that is committed after it is missed.
    let mut subscription = app.hub.join(key.clone());
    let (mut head, mut page) = read(&app, &caller, &key, after, limit).await?;
    let place = streams::place(after, head.last_event, head.status.is_terminal())?;
    while page.lines.is_empty()
        && place == Place::Here
        && !head.status.is_terminal()
        && Instant::now() < until
    {
        subscription.go_live(after);
        tokio::select! {
            () = app.stop.cancelled() => break,
            news = tokio::time::timeout_at(until, subscription.next()) => if news.is_err() { break },
        }
        (head, page) = read(&app, &caller, &key, after, limit).await?;
    }
    Ok(answer(&key, &head, &page, after))
}

fn wait(params: &mut Params) -> Answer<Duration> {
    let Some(text) = params.text("wait") else {
        return Ok(Duration::ZERO);
    };
    let span = Span::parse(&text).map_err(|message| params::bad("wait", message))?;
    if span > MAX_WAIT {
        return Err(params::bad("wait", format!("is {span}: it may be {MAX_WAIT} at most")));
    }
    Ok(span.0)
}

/// A page of events, where the execution is the caller's to see.
pub async fn read(
    app: &App,
    caller: &Caller,
    key: &ExecutionKey,
    after: i64,
    limit: usize,
) -> Answer<(EventsHead, EventsPage)> {
    let request = EventsRequest { key: key.clone(), after, limit };
    let mut pages = app.read(move |store| store.events_read(&[request])).await?;
    let page = pages.pop().ok_or_else(Problem::internal)?;
    let head = page.head.clone().filter(|head| caller.sees(head.end_user.as_deref()));
    let head = head.ok_or_else(|| Problem::not_found("execution", &key.id.to_string()))?;
    Ok((head, page))
}

/// `last` is what to send as `after` next.
fn answer(key: &ExecutionKey, head: &EventsHead, page: &EventsPage, after: i64) -> Response {
    let mut text = String::from("{\"events\":[");
    let mut last = after.min(head.last_event);
    let numbered = page.lines.iter().filter_map(|line| Some((line.event?, line)));
    for (index, (number, line)) in numbered.enumerate() {
        if index > 0 {
            text.push(',');
        }
        push_envelope(&mut text, key.id, number, line);
        last = number;
    }
    // Writing to a string cannot fail.
    let _ = write!(text, "],\"last\":{last},\"status\":\"{}\"}}", head.status);
    let mut response = text.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("execution_events", "A page of events; with `wait`, a long poll.")
        .query::<i64>("after", "The number after which to begin; 0 by default.")
        .query::<u32>("limit", "100 by default, 1000 at most.")
        .query::<Span>("wait", "How long to wait for the first event; not at all by default, 60s at most.")
        .answer::<Events>(200, "The events, and where the next page begins.")
        .problem(Code::InvalidIndex)
}

/// The answer, as it is described; it is written as text, payloads byte for byte.
#[derive(JsonSchema)]
#[allow(dead_code)]
struct Events {
    events: Vec<Event>,
    /// What to send as `after` next.
    last: i64,
    /// The execution's.
    status: Status,
}

/// One event of an execution.
#[derive(JsonSchema)]
#[allow(dead_code)]
struct Event {
    /// 1…n without a gap.
    seq: i64,
    #[serde(rename = "type")]
    kind: String,
    at: Timestamp,
    execution_id: ExecutionId,
    /// By type.
    data: serde_json::Map<String, serde_json::Value>,
}

//! Signals: events for one execution. They are kept until a step listens for them, also those
//! that come before it does, as users of other engines expect of signals.

use axum::extract::State;
use holdpoint_db::{ActRequest, CommandKey};
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::{ExecutionId, SweepId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::strict_json;
use holdpoint_engine::time::Timestamp;
use http::{HeaderMap, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::acts::{self, Accepted, act_commanded};
use super::start::idempotency_key;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{self, RawBody, check_value};
use crate::clock;
use crate::openapi::Operation;
use crate::params::{Segments, bad};
use crate::problem::{Answer, Code, Problem};
use crate::producers::CLOUD_EVENT;

/// The longest name, and the longest id and source of an event, in bytes.
const NAME_BYTES: usize = 255;

/// `POST /v1/executions/{id}/signals/{name}`.
pub async fn handle(
    State(app): Shared,
    caller: Caller,
    Segments((id, name)): Segments<(String, String)>,
    headers: HeaderMap,
    body: RawBody,
) -> Answer {
    check_name(&name).map_err(|why| bad("name", why))?;
    let given = given(&headers, &body)?;
    let request = request(&app, &caller.scope, name, given)?;
    acts::act(app, caller, &id, request).await
}

/// What it takes and answers.
pub fn doc() -> Operation {
    let about = "For a body that is no CloudEvent: the same key again is the same signal; with another name or other \
                 data it is refused. Up to 255 bytes.";
    Operation::new(
        "execution_signal",
        "Sends an event: any JSON is the data of one whose type is the signal's name; a whole CloudEvent \
         (`application/cloudevents+json`) has that type itself, and its `source` and `id` tell it from \
         others. It is kept until a step listens for it, for agents too, which never do.",
    )
    .header("idempotency-key", about)
    .optional_body::<serde_json::Value>()
    .answer::<Accepted>(202, "It is committed; `status` is that of the moment.")
    .problem(Code::InvalidParameter)
    .problem(Code::AlreadyTerminal)
    .problem(Code::IdempotencyMismatch)
    .problem(Code::Limit)
}

/// What a signal brings.
enum Given {
    /// A whole event.
    Event(Json),
    /// An event's data, and what tells it from others.
    Data { data: Option<Json>, id: Option<String> },
}

fn given(headers: &HeaderMap, body: &RawBody) -> Answer<Given> {
    let key = idempotency_key(headers)?;
    let value = if body.0.is_empty() { None } else { Some(read(body.text()?)?) };
    match value {
        Some(event) if is_cloud_event(headers) => Ok(Given::Event(event)),
        data => Ok(Given::Data { data, id: key.map(|key| format!("key:{key}")) }),
    }
}

fn read(text: &str) -> Answer<Json> {
    strict_json::check(text).map_err(|error| body::refused(Code::InvalidBody, &error))?;
    serde_json::from_str(text).map_err(|error| Problem::new(Code::InvalidBody, error.to_string()))
}

fn is_cloud_event(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    kind.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case(CLOUD_EVENT)
}

fn check_name(name: &str) -> Result<(), String> {
    if (1..=NAME_BYTES).contains(&name.len()) && !name.contains(char::is_control) {
        return Ok(());
    }
    Err(format!("a signal's name has 1 to {NAME_BYTES} bytes, and no control characters"))
}

/// The act that a signal asks for.
fn request(app: &App, scope: &Scope, name: String, given: Given) -> Answer<ActRequest> {
    let (id, event) = match given {
        Given::Event(event) => (Some(id_of(&event, &name)?), event.get().to_owned()),
        Given::Data { data, id } => {
            let event = made(app, scope, &name, data)?;
            (id, event)
        }
    };
    check_value("event", event.len(), app.limits.value_bytes)?;
    Ok(ActRequest::Signal { name, id, event, limit: app.limits.signals })
}

#[derive(Deserialize)]
struct Attributes {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
}

/// What tells an event from others, by its own words; it must be one of the signal's type.
fn id_of(event: &Json, name: &str) -> Answer<String> {
    let wrong = |detail: String| Problem::new(Code::InvalidBody, detail);
    let attributes = attributes(event)?;
    if attributes.specversion != "1.0" {
        return Err(wrong("`specversion`: it may be `1.0`".to_owned()));
    }
    if attributes.kind != name {
        return Err(wrong(format!("`type`: it must be the signal's name, `{name}`")));
    }
    for (field, value) in [("id", &attributes.id), ("source", &attributes.source)] {
        if !(1..=NAME_BYTES).contains(&value.len()) {
            return Err(wrong(format!("`{field}`: it may have 1 to {NAME_BYTES} bytes")));
        }
    }
    Ok(format!("event:{}:{}", attributes.source, attributes.id))
}

fn attributes(event: &Json) -> Answer<Attributes> {
    body::read(event.get())
}

#[derive(Serialize)]
struct Made<'a> {
    specversion: &'static str,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Json>,
}

/// The event of which only the data was given.
fn made(app: &App, scope: &Scope, name: &str, data: Option<Json>) -> Answer<String> {
    let event = Made {
        specversion: "1.0",
        id: app.ids.make(SweepId::new).0.to_string(),
        source: format!("/holdpoint/{scope}"),
        kind: name,
        time: clock::now(),
        datacontenttype: "application/json",
        data,
    };
    serde_json::to_string(&event).map_err(|_| Problem::internal())
}

/// `data` of a signal.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalBody {
    execution_id: String,
    /// The signal's name; that of `event` if left out.
    name: Option<String>,
    /// The event's data.
    data: Option<Json>,
    /// A whole CloudEvent, in place of `data`.
    event: Option<Json>,
}

/// A signal that a command asks for; the execution that it, or its first, was for.
pub async fn signal_commanded(
    app: &App,
    caller: &Caller,
    signal: SignalBody,
    command: CommandKey,
) -> Answer<ExecutionId> {
    let wrong = |detail: &str| Problem::new(Code::InvalidBody, detail);
    let (name, given) = match (signal.event, signal.data) {
        (Some(_), Some(_)) => return Err(wrong("`event`: there is `data` too; it may be one of them")),
        (Some(event), None) => {
            let kind = attributes(&event)?.kind;
            (signal.name.unwrap_or(kind), Given::Event(event))
        }
        (None, data) => {
            let name = signal.name.ok_or_else(|| wrong("`name`: it is needed where there is no `event`"))?;
            let id = Some(format!("command:{}:{}", command.source, command.id));
            (name, Given::Data { data, id })
        }
    };
    check_name(&name).map_err(|why| wrong(&format!("`name`: {why}")))?;
    let request = request(app, &caller.scope, name, given)?;
    act_commanded(app, caller, &signal.execution_id, request, command).await
}

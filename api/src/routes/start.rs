//! `POST /v1/executions`: one start, answered once its row is committed.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use holdpoint_db::{Conversation, Created, Idempotency, NewExecution};
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::ids::{ExecutionId, FileId};
use holdpoint_engine::status::{DefinitionKind, RunType, Status, WorkflowState};
use holdpoint_engine::time::Timestamp;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::start_body::StartBody;
use super::{Shared, starting};
use crate::app::App;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::problem::{Answer, Code, Problem};
use crate::streams::{self, Reader};
use crate::{backlog, client_time, view};

/// The longest idempotency key, in bytes.
const KEY_BYTES: usize = 255;

/// What a start is answered with.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Started {
    /// The execution.
    pub id: ExecutionId,
    /// Where it stands.
    pub status: Status,
    kind: DefinitionKind,
    definition: view::Definition,
    /// Its conversation, for agents.
    pub conversation_id: Option<String>,
    run_type: RunType,
    /// One run of the workflow goes on at a time: this is the run that waits already.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    coalesced: bool,
    created_at: Timestamp,
}

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, headers: HeaderMap, body: RawBody) -> Answer {
    let key = idempotency_key(&headers)?;
    let mut new = body.read::<StartBody>()?.check(&app, &caller, key, &body.0)?;
    new.extras.client_time = client_time::of(&headers);
    if wants_stream(&headers) {
        return start_and_stream(app, new).await;
    }
    backlog::admit(&app, &new.key.scope.tenant, 1).await?;
    let created = starting::create(&app, &mut new).await?;
    let (started, status) = outcome(&app, &new, created).await?;
    Ok(with_ids(view::json(status, &started), started.id))
}

/// The place among the streams is taken before anything is committed, and the hub remembers news
/// of the stream before the first event can be there. It looks for none until then: what is not
/// committed yet would be taken for gone.
async fn start_and_stream(app: Arc<App>, mut new: NewExecution) -> Answer {
    let permit = streams::permit(&app)?;
    backlog::admit(&app, &new.key.scope.tenant, 1).await?;
    let mut key = new.key.clone();
    let mut subscription = app.hub.join(key.clone());
    let created = starting::create(&app, &mut new).await?;
    let (started, _) = outcome(&app, &new, created).await?;
    if started.id == key.id {
        subscription.go_live(0);
    } else {
        key.id = started.id;
        subscription = app.hub.join(key.clone());
    }
    let reader = Reader::new(app, key, 0, subscription, permit);
    Ok(with_ids(streams::response(Some(reader)), started.id))
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepts = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains("text/event-stream"));
    headers.get_all(header::ACCEPT).iter().any(accepts)
}

/// Where the execution is, for clients that look at heads only.
fn with_ids(mut response: Response, id: ExecutionId) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::LOCATION, format!("/v1/executions/{id}")),
        (HeaderName::from_static("x-workflow-run-id"), id.to_string()),
    ] {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    response
}

/// The same for a chat request: its key, and the body that goes with it.
pub fn idempotency(headers: &HeaderMap, raw: &[u8]) -> Answer<Option<Idempotency>> {
    let key = idempotency_key(headers)?;
    Ok(key.map(|key| Idempotency { key: Some(key), body_digest: sha256_hex(raw) }))
}

/// The header `Idempotency-Key`, checked.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Answer<Option<String>> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    if value.len() > KEY_BYTES {
        let detail = format!("the idempotency key has {} bytes; it may have {KEY_BYTES}", value.len());
        return Err(Problem::limit(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_bytes",
            KEY_BYTES,
            detail,
        ));
    }
    match value.to_str() {
        Ok(text) if !text.trim().is_empty() => Ok(Some(text.to_owned())),
        _ => Err(Problem::new(
            Code::InvalidParameter,
            "the header Idempotency-Key may be visible ASCII, not empty",
        )),
    }
}

/// What a start became, as the caller is told it.
pub async fn outcome(app: &App, new: &NewExecution, created: Created) -> Answer<(Started, StatusCode)> {
    match created {
        Created::New { key, version, created_at } => {
            Ok((Started::new(new, key.id, version, created_at), StatusCode::ACCEPTED))
        }
        Created::Existing { id, .. } => Ok((existing(app, new, id).await?, StatusCode::OK)),
        Created::Coalesced { id, before } => {
            let started = existing(app, new, id).await?;
            let status = if before { StatusCode::OK } else { StatusCode::ACCEPTED };
            Ok((Started { coalesced: true, ..started }, status))
        }
        Created::WorkflowNotActive { state } => Err(not_active(state)),
        Created::Mismatch => Err(Problem::new(
            Code::IdempotencyMismatch,
            "this idempotency key or execution id was used with another body",
        )),
        Created::InputMisfit(misfit) => Err(starting::misfit(&misfit)),
        // Who held an input against a schema has looked again.
        Created::OtherVersion { .. } => Err(Problem::internal()),
        Created::UnknownDefinition => {
            let version = new.version.map_or(String::new(), |version| format!(" with version {version}"));
            Err(Problem::new(
                Code::UnknownDefinition,
                format!("there is no {} `{}`{version}", new.kind, new.name),
            ))
        }
        Created::UnknownFile { id } => Err(unknown_file(new, id)),
        Created::TestRunActive { active } => {
            let detail =
                format!("the test run {active} of `{}` goes on: wait for its end, or cancel it", new.name);
            Err(Problem::new(Code::TestRunActive, detail).with("execution_id", active.to_string()))
        }
        Created::UnknownConversation => {
            let id = conversation_id(new).unwrap_or_default();
            Err(Problem::new(Code::UnknownConversation, format!("there is no conversation `{id}`")))
        }
        Created::MessageIdUsed { id } => {
            let detail = format!("the conversation has a message with the id `{id}`");
            Err(Problem::new(Code::MessageIdUsed, detail).with("message_id", id))
        }
        Created::ConversationBusy { active } => Err(conversation_busy(active)),
    }
}

fn unknown_file(new: &NewExecution, id: FileId) -> Problem {
    let problem = Problem::new(Code::UnknownFile, format!("there is no file `{id}`"));
    match new.extras.files.iter().position(|file| *file == id) {
        Some(at) => problem.with("pointer", format!("/files/{at}")),
        None => problem,
    }
}

/// One execution at a time in a conversation.
pub fn conversation_busy(active: ExecutionId) -> Problem {
    let detail = format!("its execution {active} is active: wait for its end, or cancel it");
    Problem::new(Code::ConversationBusy, detail).with("active_execution_id", active.to_string())
}

/// A workflow that is held is not started.
pub fn not_active(state: WorkflowState) -> Problem {
    let stands = match state {
        WorkflowState::Maintenance => "in maintenance",
        other => other.as_str(),
    };
    let detail = format!("the workflow is {stands}: let it go on with `resume` before");
    Problem::new(Code::WorkflowNotActive, detail).with("state", state.as_str())
}

async fn existing(app: &App, new: &NewExecution, id: ExecutionId) -> Answer<Started> {
    let scope = new.key.scope.clone();
    let row = app.read(move |store| store.execution_get(&scope, id)).await?;
    let row = row.ok_or_else(|| Problem::not_found("execution", &id.to_string()))?;
    Ok(Started {
        id,
        status: row.status,
        kind: row.kind,
        definition: view::Definition { name: row.name, version: row.version },
        conversation_id: row.conversation_id,
        run_type: row.run_type,
        coalesced: false,
        created_at: row.created_at,
    })
}

fn conversation_id(new: &NewExecution) -> Option<String> {
    match &new.conversation {
        Conversation::None => None,
        Conversation::Made(id) | Conversation::Named(id) => Some(id.clone()),
    }
}

impl Started {
    fn new(new: &NewExecution, id: ExecutionId, version: i32, created_at: Timestamp) -> Self {
        let conversation_id = conversation_id(new);
        Self {
            id,
            status: Status::Queued,
            kind: new.kind,
            definition: view::Definition { name: new.name.clone(), version },
            conversation_id,
            run_type: new.run_type,
            coalesced: false,
            created_at,
        }
    }
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("execution_start", "Starts one; answered after its row is committed.")
        .header("idempotency-key", "Up to 255 bytes. Same key and same body: the same execution.")
        .header("accept", "`text/event-stream` for the stream of events.")
        .body::<StartBody>()
        .answer::<Started>(202, "It is committed.")
        .with_header("location")
        .with_header("x-workflow-run-id")
        .answer::<Started>(200, "It was started before, by the same key or `execution_id`.")
        .with_header("location")
        .with_header("x-workflow-run-id")
        .stream("With `Accept: text/event-stream`: the events.")
        .problem(Code::ClassicNotHere)
        .problem(Code::InvalidInput)
        .problem(Code::ForwardedHeadersUnavailable)
        .problem(Code::UnknownDefinition)
        .problem(Code::UnknownConversation)
        .problem(Code::ConversationBusy)
        .problem(Code::WorkflowNotActive)
        .problem(Code::UnknownFile)
        .problem(Code::TestRunActive)
        .problem(Code::IdempotencyMismatch)
        .problem(Code::BacklogFull)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idempotency_keys_are_bounded_and_visible() {
        let read = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(value).expect("a header value"));
            idempotency_key(&headers)
        };
        assert_eq!(read(b"order-42").expect("fine").as_deref(), Some("order-42"));
        assert!(read(&[b'x'; 255]).is_ok());
        assert_eq!(read(&[b'x'; 256]).expect_err("long").code(), Code::Limit);
        assert_eq!(read(b"").expect_err("empty").code(), Code::InvalidParameter);
        assert_eq!(read(b"\xfc").expect_err("not ASCII").code(), Code::InvalidParameter);
        assert!(idempotency_key(&HeaderMap::new()).expect("fine").is_none());
    }
}

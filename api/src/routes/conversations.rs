//! Conversations: their messages, their stream, and what in them waits for a decision. Each
//! belongs to the end user of its first execution, and is not there for another one.

use axum::extract::State;
use axum::response::Response;
use holdpoint_db::{ApprovalFilter, ConversationRow, MessageFilter, MessageRow};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::ApprovalStatus;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::approvals::{Approvals, MOST, answer, list};
use super::{Shared, stream};
use crate::app::App;
use crate::auth::Caller;
use crate::chat::conversation_of;
use crate::openapi::Operation;
use crate::params::{Params, Segments};
use crate::problem::{Answer, Code, Problem};
use crate::streams;
use crate::view;

#[derive(Serialize, JsonSchema)]
struct Conversation {
    id: String,
    end_user: Option<String>,
    active_execution_id: Option<ExecutionId>,
    latest_execution_id: Option<ExecutionId>,
    messages: Vec<Message>,
    next_cursor: Option<String>,
    created_at: Timestamp,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ConversationMessage")]
struct Message {
    id: String,
    #[serde(flatten)]
    message: Map<String, Value>,
    execution_id: Option<ExecutionId>,
    created_at: Timestamp,
}

impl From<MessageRow> for Message {
    fn from(row: MessageRow) -> Self {
        let mut message: Map<String, Value> = serde_json::from_str(&row.message).unwrap_or_default();
        // A message has no id of its own, but for the one that stands beside it.
        message.remove("id");
        Self {
            id: row.message_id.unwrap_or_else(|| format!("msg_{}", row.n)),
            message,
            execution_id: row.execution,
            created_at: row.at,
        }
    }
}

/// `GET /v1/conversations/{id}`: its messages, oldest first.
pub async fn get(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    mut params: Params,
) -> Answer {
    let limit = params.limit(100, 1_000)?;
    let after = params.value::<u32>("cursor")?.map_or(0, i64::from);
    params.end()?;
    let row = visible(&app, &caller, &id).await?;
    let scope = caller.scope.clone();
    // One more than asked for says whether there is a next page.
    let filter = MessageFilter { conversation: id, after, newest_of: None, limit: limit + 1 };
    let mut messages = app.read(move |store| store.message_list(&scope, &filter)).await?;
    let more = messages.len() > limit;
    messages.truncate(limit);
    let next_cursor = messages.last().filter(|_| more).map(|last| last.n.to_string());
    Ok(view::ok(&Conversation {
        id: row.id,
        end_user: row.end_user,
        active_execution_id: row.active,
        latest_execution_id: row.latest,
        messages: messages.into_iter().map(Into::into).collect(),
        next_cursor,
        created_at: row.created_at,
    }))
}

/// `GET /v1/conversations/{id}/stream`: that of its active, else of its latest execution;
/// 204 where there is none.
pub async fn stream(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    headers: HeaderMap,
    mut params: Params,
) -> Answer {
    let after = streams::after(&headers, &mut params)?;
    params.end()?;
    let row = visible(&app, &caller, &id).await?;
    let Some(execution) = row.active.or(row.latest) else {
        let mut response = Response::default();
        *response.status_mut() = StatusCode::NO_CONTENT;
        return Ok(response);
    };
    let key = ExecutionKey { scope: caller.scope.clone(), id: execution };
    stream::open(app, &caller, key, after).await
}

/// `GET /v1/conversations/{id}/pending-approvals`.
pub async fn pending_approvals(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    visible(&app, &caller, &id).await?;
    let filter = ApprovalFilter {
        status: Some(ApprovalStatus::Pending),
        conversation_id: Some(id),
        end_user: caller.end_user.clone(),
        limit: MOST,
        ..ApprovalFilter::default()
    };
    Ok(answer(list(&app, &caller, filter).await?))
}

async fn visible(app: &App, caller: &Caller, id: &str) -> Answer<ConversationRow> {
    conversation_of(app, caller, id).await?.ok_or_else(|| Problem::not_found("conversation", id))
}

/// What a conversation is answered as.
pub fn get_doc() -> Operation {
    Operation::new("conversation_get", "A conversation and its messages, oldest first.")
        .page("Messages, 100 by default, 1000 at most.")
        .answer::<Conversation>(200, "A page.")
}

/// What a conversation's stream takes and answers.
pub fn stream_doc() -> Operation {
    Operation::new("conversation_stream", "The stream of the active, else of the latest execution.")
        .header("last-event-id", "The number after which to go on.")
        .header("x-stream-start-index", "How many events to skip.")
        .query::<i64>("after", "The number after which to begin.")
        .stream("The events, with that execution's numbers.")
        .empty(204, "There is no execution.")
        .problem(Code::InvalidIndex)
}

/// What a conversation's approvals are answered as.
pub fn pending_approvals_doc() -> Operation {
    Operation::new("conversation_pending_approvals", "What waits for a decision in a conversation.")
        .answer::<Approvals>(200, "Up to 1000.")
}

//! `GET /api/chat/{conversation_id}/stream`: the active execution's message from its
//! beginning. The transport asks for it when a page is opened again, or after its connection
//! broke; 204 tells it that there is nothing to wait for.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use holdpoint_engine::wire::ExecutionKey;
use http::StatusCode;

use super::stream::{self, Head};
use crate::auth::Caller;
use crate::chat::{Begun, conversation_of, segment};
use crate::openapi::Operation;
use crate::params::Segments;
use crate::problem::Answer;
use crate::routes::Shared;
use crate::streams;

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("chat_resume", "The message of the chat's active execution, from its beginning.")
        .stream("The UI message stream, version 1.")
        .with_header("x-vercel-ai-ui-message-stream")
        .empty(204, "Nothing is under way.")
}

/// The route. A conversation that is not there has nothing to wait for either: a client asks
/// before it sends its first message.
pub async fn handle(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer<Response> {
    let Some(row) = conversation_of(&app, &caller, &id).await? else {
        return Ok(StatusCode::NO_CONTENT.into_response());
    };
    let Some(active) = row.active else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let permit = streams::permit(&app)?;
    let key = ExecutionKey { scope: caller.scope.clone(), id: active };
    let segment = segment::segment_of(&app, &key, &[]).await?.whole();
    let begun = Begun::Continued { key, conversation: row.id, segment };
    let head = Head::new(&begun, None);
    Ok(stream::response(head, begun.events(&app, permit)))
}

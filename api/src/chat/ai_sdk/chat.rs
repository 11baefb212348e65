//! `POST /api/chat`: a new message of the user begins a turn; decisions in the last message
//! are taken and what comes of them is the answer; nothing new is answered with what there is.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use holdpoint_db::{Extras, MessageFilter};
use http::HeaderMap;

use super::decisions;
use super::message::{ChatBody, Role, UiMessage};
use super::stream::{self, Head};
use crate::app::App;
use crate::auth::{Caller, Right};
use crate::body::RawBody;
use crate::chat::openai::agent_of;
use crate::chat::{
    Begun, Mode, NewMessage, Turn, begin, check_conversation_id, check_message_id, header, resume,
};
use crate::openapi::Operation;
use crate::problem::{Answer, Code, Problem};
use crate::routes::{Shared, idempotency};
use crate::streams;
use crate::{client_time, forwarded};

/// The header that names the agent, for clients that cannot add to the body.
const AGENT: &str = "x-holdpoint-agent";

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("chat_create", "A turn of a chat, as the chat transports of the AI SDK speak it.")
        .header(AGENT, "The agent, for clients that cannot add `agent` to the body.")
        .header("idempotency-key", "The same key and body are the same execution.")
        .body::<ChatBody>()
        .stream("The UI message stream, version 1.")
        .with_header("x-vercel-ai-ui-message-stream")
        .with_header("x-workflow-run-id")
        .with_header("x-holdpoint-conversation-id")
        .problem(Code::UnknownDefinition)
        .problem(Code::UnknownConversation)
        .problem(Code::NotFound)
        .problem(Code::ConversationBusy)
        .problem(Code::BacklogFull)
        .problem(Code::MessageIdUsed)
        .problem(Code::ApprovalConflict)
        .problem(Code::ApprovalClosed)
        .problem(Code::NotAnApprover)
        .problem(Code::SelfApproval)
        .problem(Code::DigestMismatch)
        .problem(Code::ForwardedHeadersUnavailable)
        .problem(Code::ApprovalRequiresDurable)
        .problem(Code::RequiresDurable)
        .problem(Code::IdempotencyMismatch)
}

/// The route. Any role may read; what a request does beyond that, its own right allows.
pub async fn handle(
    State(app): Shared,
    caller: Caller,
    headers: HeaderMap,
    body: RawBody,
) -> Answer<Response> {
    let request = body.read::<ChatBody>()?;
    let messages = request.messages(app.limits.value_bytes)?;
    let place = format!("messages[{}]", messages.len() - 1);
    let Some(last) = messages.last() else { return Err(Problem::internal()) };
    let responses = last.responses(&place)?;
    let conversation = request.conversation();
    conversation.map(check_conversation_id).transpose()?;
    // The place among the streams is taken before anything is begun.
    let permit = streams::permit(&app)?;
    let (begun, results) = if responses.is_empty() {
        let sent = Sent { request: &request, messages: &messages, last, place: &place };
        (sent.begin(&app, &caller, &headers, &body).await?, None)
    } else {
        caller.may(Right::Decide)?;
        let taken = decisions::take(&app, &caller, conversation, &responses).await?;
        (resume(&app, &caller, conversation, &taken.calls).await?, Some(taken.results))
    };
    let begun = if last.role == Role::User { begun.whole() } else { begun };
    let head = Head::new(&begun, results);
    Ok(stream::response(head, begun.events(&app, permit)))
}

/// A request without decisions.
struct Sent<'a> {
    request: &'a ChatBody,
    messages: &'a [UiMessage],
    last: &'a UiMessage,
    place: &'a str,
}

impl Sent<'_> {
    async fn begin(
        &self,
        app: &Arc<App>,
        caller: &Caller,
        headers: &HeaderMap,
        body: &RawBody,
    ) -> Answer<Begun> {
        let mode = self.request.execution_mode.as_deref().map(Mode::parse).transpose()?;
        let conversation = self.request.conversation();
        let (id, is_named) = self.message_id()?;
        if self.last.role != Role::User || self.is_last_said(app, caller, id).await? && !is_named {
            return resume(app, caller, conversation, &[]).await;
        }
        caller.may(Right::Submit)?;
        let (agent, version) = self.agent(headers)?;
        let turn = Turn {
            agent,
            version,
            conversation: conversation.map(str::to_owned),
            messages: vec![NewMessage { id: id.map(str::to_owned), message: self.last.said(self.place)? }],
            idempotency: idempotency(headers, &body.0)?,
            mode,
            forwarded_headers: forwarded::check(self.request.forwarded_headers.as_ref(), &app.limits)?,
            extras: Extras { client_time: client_time::of(headers), ..Extras::default() },
        };
        match begin(app, caller, turn).await {
            // The same request at the same time was first: both get its output.
            Err(problem) if problem.status() == 409 && !is_named => {
                if self.is_last_said(app, caller, id).await? {
                    return resume(app, caller, conversation, &[]).await;
                }
                Err(problem)
            }
            begun => begun,
        }
    }

    /// The new message's id, and whether `messageId` names it: then it must be new. The
    /// transport also names the assistant's message there that is to be gone on with.
    fn message_id(&self) -> Answer<(Option<&str>, bool)> {
        let of_assistant = |id: &str| {
            self.messages.iter().any(|one| one.role == Role::Assistant && one.id.as_deref() == Some(id))
        };
        let named = self.request.message_id()?.filter(|id| !of_assistant(id));
        let id = named.or(self.last.id.as_deref());
        id.map(check_message_id).transpose()?;
        Ok((id, named.is_some()))
    }

    /// Whether the conversation's newest message of the user is this one.
    async fn is_last_said(&self, app: &App, caller: &Caller, id: Option<&str>) -> Answer<bool> {
        let (Some(id), Some(conversation)) = (id, self.request.conversation()) else { return Ok(false) };
        let scope = caller.scope.clone();
        let filter = MessageFilter {
            conversation: conversation.to_owned(),
            after: 0,
            newest_of: Some("user".to_owned()),
            limit: 1,
        };
        let said = app.read(move |store| store.message_list(&scope, &filter)).await?;
        Ok(said.iter().any(|row| row.message_id.as_deref() == Some(id)))
    }

    fn agent(&self, headers: &HeaderMap) -> Answer<(String, Option<i32>)> {
        let Some(named) =
            self.request.agent().map_or_else(|| header(headers, AGENT), |name| Ok(Some(name)))?
        else {
            let detail = format!("name the agent: `agent` in the body, or the header {AGENT}");
            return Err(Problem::new(Code::InvalidBody, detail).with("field", "agent"));
        };
        agent_of(named).map_err(|problem| problem.with("field", "agent"))
    }
}

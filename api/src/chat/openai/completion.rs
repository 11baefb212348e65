//! `POST /v1/chat/completions`: reads the request, begins the turn, and answers with the
//! segment of its execution, whole or as a stream.

use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use holdpoint_db::{Extras, MessageFilter};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::error::{ErrorAnswer, Told};
use super::request::{ChatBody, Sent, new_messages};
use super::stream;
use super::translate::{Broken, Part, Translator, message, usage_json};
use crate::app::App;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::chat::{Begun, Events, Seen, Turn, begin, conversation_of, header};
use crate::client_time;
use crate::clock;
use crate::openapi::Operation;
use crate::problem::Answer;
use crate::routes::{Shared, idempotency};
use crate::streams;
use crate::view;

/// The header that names the conversation, for clients that cannot add to the body.
const CONVERSATION: &str = "x-holdpoint-conversation-id";

/// What it takes and answers; the answers are OpenAI's own.
pub fn doc() -> Operation {
    Operation::new("chat_completion_create", "A turn of a chat, as the clients of OpenAI's API speak it.")
        .header(CONVERSATION, "The conversation, for clients that cannot add `conversation_id` to the body.")
        .header("idempotency-key", "The same key and body are the same execution.")
        .body::<ChatBody>()
        .answer::<serde_json::Map<String, serde_json::Value>>(200, "A `chat.completion`.")
        .with_header("x-workflow-run-id")
        .with_header(CONVERSATION)
        .stream("With `stream`: `chat.completion.chunk`s, then `[DONE]`.")
        .foreign_errors::<ErrorAnswer>()
        .open_query()
}

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, headers: HeaderMap, body: RawBody) -> Answer {
    let request = body.read::<ChatBody>()?;
    let turn = turn(&app, &caller, &headers, &request, &body).await?;
    // The place among the streams is taken before anything is begun.
    let permit = streams::permit(&app)?;
    let begun = begin(&app, &caller, turn).await?;
    let (head, ids) = (Head::new(&begun, &request), ids(&begun));
    let events = begun.events(&app, permit);
    let response = if request.streams() {
        stream::response(head, events, request.include_usage())
    } else {
        whole(&app, head, events).await
    };
    Ok(with_ids(response, ids))
}

async fn turn(
    app: &App,
    caller: &Caller,
    headers: &HeaderMap,
    request: &ChatBody,
    body: &RawBody,
) -> Answer<Turn> {
    request.check()?;
    let named = request.conversation(header(headers, CONVERSATION)?)?;
    let sent = request.messages(app.limits.value_bytes)?;
    let new = match &named {
        Some(id) => new_in(app, caller, id, sent).await?,
        None => sent,
    };
    let forwarded = request.forwarded_headers(&app.limits)?;
    let extras = Extras { client_time: client_time::of(headers), ..Extras::default() };
    request.turn(named, new, idempotency(headers, &body.0)?, forwarded, extras)
}

/// All messages of the first request are the conversation's; later, only what the user said
/// since.
async fn new_in(app: &App, caller: &Caller, id: &str, sent: Vec<Sent>) -> Answer<Vec<Sent>> {
    if conversation_of(app, caller, id).await?.is_none() {
        return Ok(sent);
    }
    let limit = sent.iter().filter(|one| one.is_users()).count();
    let (scope, conversation) = (caller.scope.clone(), id.to_owned());
    let filter = MessageFilter { conversation, after: 0, newest_of: Some("user".to_owned()), limit };
    let mut said = app.read(move |store| store.message_list(&scope, &filter)).await?;
    said.reverse();
    let said: Vec<String> = said.iter().filter_map(|row| Sent::text_of(&row.message)).collect();
    Ok(new_messages(sent, &said))
}

/// What stands in each answer and each chunk of one.
#[derive(Debug)]
pub struct Head {
    pub key: holdpoint_engine::wire::ExecutionKey,
    /// Whether there is a row behind it.
    durable: bool,
    model: String,
    conversation: String,
    created: i64,
}

impl Head {
    fn new(begun: &Begun, request: &ChatBody) -> Self {
        Self {
            key: begun.key().clone(),
            durable: begun.run_id().is_some(),
            model: request.model.clone(),
            conversation: begun.conversation().to_owned(),
            created: clock::now().micros() / 1_000_000,
        }
    }

    /// An answer of this kind with these choices.
    pub fn document(&self, object: &str, choices: serde_json::Value) -> serde_json::Value {
        let mut document = json!({
            "id": format!("chatcmpl-{}", self.key.id),
            "object": object,
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "conversation_id": self.conversation,
        });
        if self.durable {
            document["execution_id"] = json!(self.key.id);
        }
        document
    }
}

/// Waits for the end of the segment, for a bounded time: the execution goes on in any case.
async fn whole(app: &App, head: Head, mut events: Events) -> Response {
    let patience = Duration::from_millis(app.settings.chat_wait_ms);
    let until = Instant::now() + patience;
    let mut translator = Translator::new(head.key.id, false);
    let mut parts = Vec::new();
    loop {
        let seen = match tokio::time::timeout_at(until, events.next()).await {
            Err(_) => return late(&head, patience),
            Ok(None) => return stopped(&head),
            Ok(Some(Seen::Quiet)) => continue,
            Ok(Some(Seen::Event(entry))) => translator.take(*entry),
        };
        match seen {
            Err(broken) => {
                let (status, told) = told(&head, &broken);
                return told.into_response(status);
            }
            Ok(more) => parts.extend(more),
        }
        if let Some(Part::Finished(reason)) = parts.last() {
            let choice =
                json!({"index": 0, "finish_reason": reason, "logprobs": null, "message": message(parts)});
            let mut document = head.document("chat.completion", json!([choice]));
            document["usage"] = usage_json(translator.usage);
            return view::ok(&document);
        }
    }
}

fn late(head: &Head, patience: Duration) -> Response {
    if !head.durable {
        let message = format!("the run did not end within {} s and was ended", patience.as_secs());
        return Told::of_run(message, "timeout").into_response(StatusCode::GATEWAY_TIMEOUT);
    }
    let message = format!(
        "the execution {} did not end within {} s; it goes on: send again with `conversation_id`, or read \
         /v1/executions/{}/stream",
        head.key.id,
        patience.as_secs(),
        head.key.id
    );
    Told::of_execution(head.key.id, message, "timeout").into_response(StatusCode::GATEWAY_TIMEOUT)
}

fn stopped(head: &Head) -> Response {
    told_stopped(head).into_response(StatusCode::SERVICE_UNAVAILABLE)
}

/// This process ends before the execution does.
pub fn told_stopped(head: &Head) -> Told {
    if !head.durable {
        return Told::of_run("this server stops, and the run with it: send again", "unavailable");
    }
    let message = format!(
        "this server stops; the execution {} goes on: send again with `conversation_id`",
        head.key.id
    );
    Told::of_execution(head.key.id, message, "unavailable")
}

/// An answer that broke off, and the status of one that had not begun.
pub fn told(head: &Head, broken: &Broken) -> (StatusCode, Told) {
    let id = head.key.id;
    match broken {
        Broken::Failed(failed) => Told::of_failure(head.durable.then_some(id), failed),
        Broken::Cancelled => (
            StatusCode::CONFLICT,
            Told::of_execution(id, format!("the execution {id} was cancelled"), "cancelled"),
        ),
        Broken::Restarted if !head.durable => {
            let message = "the model's answer broke off, and the text sent is void: send again";
            (StatusCode::BAD_GATEWAY, Told::of_run(message, "model_restarted"))
        }
        Broken::Restarted => {
            let message = "the model's answer broke off and began anew, so that the text sent is void: send again \
                           with the same `conversation_id` to read it from its beginning";
            (StatusCode::BAD_GATEWAY, Told::of_execution(id, message, "model_restarted"))
        }
    }
}

/// Where the answer is from, for clients that look at heads only. A classic run has no id.
fn ids(begun: &Begun) -> Vec<(&'static str, String)> {
    let run = begun.run_id().map(|id| ("x-workflow-run-id", id.to_string()));
    run.into_iter().chain([(CONVERSATION, begun.conversation().to_owned())]).collect()
}

fn with_ids(mut response: Response, ids: Vec<(&'static str, String)>) -> Response {
    let headers = response.headers_mut();
    for (name, value) in ids {
        // A conversation's id may hold what no header holds; the body has it too.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

//! Messages that could not be carried out, of the caller's own tenant and project. Those of
//! nobody are for operators, on the command line.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use holdpoint_db::{ParkedFilter, ParkedMessage, Store, Unparked};
use holdpoint_engine::ids::{ExecutionId, ParkedId};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{NoMembers, RawBody};
use crate::openapi::Operation;
use crate::params::{Params, Segments, cursor};
use crate::problem::{Answer, Code, Problem};
use crate::producers::{Credential, carry_out, reply, unparked};
use crate::view;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ParkedList")]
struct List {
    parked_messages: Vec<view::Parked>,
    next_cursor: Option<String>,
}

/// What came of a message that was taken in again.
#[derive(Serialize, JsonSchema)]
struct Redriven {
    id: ParkedId,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    execution_id: Option<ExecutionId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Value>,
}

/// `GET /v1/parked-messages`: newest first, without bodies.
pub async fn list(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let limit = params.limit(50, 1_000)?;
    let filter = ParkedFilter { code: params.text("code"), after: params.cursor()?, limit: limit + 1 };
    params.end()?;
    let scope = caller.scope;
    let mut rows = app.read(move |store| store.parked_list(Some(&scope), &filter)).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|last| cursor(last.parked_at, last.id));
    Ok(view::ok(&List { parked_messages: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// `GET /v1/parked-messages/{id}`: with its body.
pub async fn get(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    Ok(view::ok(&view::Parked::from(find(&app, &caller, &id).await?)))
}

/// `DELETE /v1/parked-messages/{id}`.
pub async fn discard(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let parked: ParkedId = id.parse().map_err(|_| not_found(&id))?;
    let scope = caller.scope;
    if app
        .write(move |store| store.parked_remove(Some(&scope), parked, Unparked::Discarded, &caller.key))
        .await??
    {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    Err(not_found(&id))
}

/// `POST /v1/parked-messages/{id}/redrive`: as if it came now, under the same dedupe key. Its
/// key is looked at again. Accepted, it is gone; and if this ends between the two, the next
/// redrive is answered as this one was.
pub async fn redrive(
    State(app): Shared,
    caller: Caller,
    Segments(id): Segments<String>,
    body: RawBody,
) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    let row = find(&app, &caller, &id).await?;
    let refused = |why: &str| Problem::new(Code::NotRedrivable, why);
    let key = row.key.ok_or_else(|| refused("it was sent without a credential that was good"))?;
    let message = unparked(&row).ok_or_else(|| refused("its body was not kept"))?;
    let judged = carry_out(&app, &message, Credential::Of(key)).await;
    if judged.outcome.as_ref().err().is_some_and(|problem| problem.status().is_server_error()) {
        return judged.outcome.map(|_| Response::default());
    }
    if judged.outcome.is_ok() {
        tell_producer(&app, message.reply_to(judged.id.as_deref()), &judged.outcome).await;
        let (scope, parked, by) = (caller.scope, row.id, caller.key);
        let gone =
            move |store: &dyn Store| store.parked_remove(Some(&scope), parked, Unparked::Redriven, &by);
        app.write(gone).await??;
    }
    Ok(view::ok(&Redriven::new(row.id, judged.outcome)))
}

/// It may wait still; one that is gone is no error.
async fn tell_producer(app: &App, to: Option<holdpoint_db::ReplyTo>, outcome: &Answer<ExecutionId>) {
    if let Some(to) = to {
        app.queue.send(vec![reply(app, to, outcome)]).await;
    }
}

impl Redriven {
    fn new(id: ParkedId, outcome: Answer<ExecutionId>) -> Self {
        match outcome {
            Ok(execution) => Self { id, outcome: "accepted", execution_id: Some(execution), problem: None },
            Err(problem) => {
                Self { id, outcome: "rejected", execution_id: None, problem: Some(problem.document()) }
            }
        }
    }
}

async fn find(app: &App, caller: &Caller, id: &str) -> Answer<ParkedMessage> {
    let parked: ParkedId = id.parse().map_err(|_| not_found(id))?;
    let scope = caller.scope.clone();
    let found = app.read(move |store| store.parked_get(Some(&scope), parked)).await?;
    found.ok_or_else(|| not_found(id))
}

fn not_found(id: &str) -> Problem {
    Problem::not_found("parked message", id)
}

/// What list takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("parked_list", "Messages that could not be carried out, newest first, without bodies.")
        .query::<String>("code", "Only those parked with this code.")
        .page("50 by default, 1000 at most.")
        .answer::<List>(200, "Those of this tenant and project.")
}

/// What get answers.
pub fn get_doc() -> Operation {
    Operation::new("parked_get", "One message that could not be carried out.")
        .answer::<view::Parked>(200, "With its body, where that was kept and is UTF-8.")
}

/// What discard answers.
pub fn discard_doc() -> Operation {
    Operation::new("parked_discard", "Removes a message that could not be carried out.")
        .empty(204, "It is gone.")
}

/// What redrive takes and answers.
pub fn redrive_doc() -> Operation {
    Operation::new("parked_redrive", "Takes a message in again, as if it came now.")
        .optional_body::<NoMembers>()
        .answer::<Redriven>(200, "Accepted, and gone; or rejected, and kept.")
        .problem(Code::NotRedrivable)
}

//! The decisions in a message: each is judged by itself, as by the route for one.

use holdpoint_db::{ApprovalFilter, ApprovalRow};
use holdpoint_engine::status::ApprovalStatus;
use serde_json::{Value, json};

use super::message::Response;
use crate::app::App;
use crate::auth::Caller;
use crate::chat::{conversation_of, unknown_conversation};
use crate::problem::{Answer, Code, Problem};
use crate::routes::decide_plainly;

/// The most approvals of a conversation among which one is looked for by its id.
const LOOKED_AT: usize = 10_000;

/// Decisions of which at least one was taken.
pub struct Taken {
    /// What became of each, in order.
    pub results: Value,
    /// The calls that are decided now.
    pub calls: Vec<String>,
}

/// Takes the decisions, each judged by itself. A problem where none was taken.
pub async fn take(
    app: &App,
    caller: &Caller,
    conversation: Option<&str>,
    responses: &[Response],
) -> Answer<Taken> {
    let Some(id) = conversation else {
        let detail = "`conversation_id`: a decision needs the conversation that it is made in";
        return Err(Problem::new(Code::InvalidBody, detail).with("field", "conversation_id"));
    };
    let row = conversation_of(app, caller, id).await?.ok_or_else(|| unknown_conversation(id))?;
    let approvals = approvals(app, caller, &row.id).await?;
    let (mut results, mut calls, mut first, mut taken) = (Vec::new(), Vec::new(), None, false);
    for response in responses {
        let told = match find(&approvals, response) {
            Some((execution, call)) => {
                let reason = response.reason.clone();
                decide_plainly(app, caller, &execution, call, response.approved, reason).await
            }
            None => Err(Problem::not_found("approval in this conversation", &response.approval_id)),
        };
        let mut result = match told {
            Ok(decision) => {
                taken = true;
                // One vote of several decides nothing yet.
                let is_decided = decision["decision"] != ApprovalStatus::Pending.as_str();
                calls.extend(decision["tool_call_id"].as_str().filter(|_| is_decided).map(str::to_owned));
                decision
            }
            Err(problem) => {
                let document = problem.document();
                first.get_or_insert(problem);
                json!({ "problem": document })
            }
        };
        result["approval_id"] = json!(response.approval_id);
        results.push(result);
    }
    match first.filter(|_| !taken) {
        Some(problem) if results.len() > 1 => Err(problem.with("results", results)),
        Some(problem) => Err(problem),
        None => Ok(Taken { results: Value::from(results), calls }),
    }
}

async fn approvals(app: &App, caller: &Caller, conversation: &str) -> Answer<Vec<ApprovalRow>> {
    let filter = ApprovalFilter {
        conversation_id: Some(conversation.to_owned()),
        end_user: caller.end_user.clone(),
        limit: LOOKED_AT,
        ..ApprovalFilter::default()
    };
    let scope = caller.scope.clone();
    app.read(move |store| store.approval_list(&scope, &filter)).await
}

/// The execution and call of an approval, by the id that the stream told; a call that is named
/// beside it must be the same.
fn find(approvals: &[ApprovalRow], response: &Response) -> Option<(String, String)> {
    let row = approvals.iter().find(|row| row.id.to_string() == response.approval_id)?;
    let same = response.tool_call_id.as_ref().is_none_or(|call| *call == row.tool_call_id);
    same.then(|| (row.key.id.to_string(), row.tool_call_id.clone()))
}

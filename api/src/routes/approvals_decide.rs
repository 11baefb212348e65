//! Decisions, one and many. What they mean is judged by the store under the lock of the
//! execution's row; here a body becomes a request, and the outcome an answer.

use axum::extract::State;
use holdpoint_db::{
    Acted, ApprovalFilter, ApprovalRow, CommandKey, Commanded, DecideRequest, Decided, NewGrant,
};
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::{ExecutionId, GrantId};
use holdpoint_engine::policy::Barred;
use holdpoint_engine::status::{ApprovalStatus, Status};
use holdpoint_engine::strict_json;
use holdpoint_engine::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Shared;
use super::batch::check_count;
use super::grants::{self, WithDecision};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{self, RawBody, check_value};
use crate::openapi::Operation;
use crate::params::Segments;
use crate::problem::{Answer, Code, Problem};
use crate::view;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DecisionBody {
    approved: bool,
    reason: Option<String>,
    arguments: Option<Json>,
    digest: Option<String>,
    grant: Option<WithDecision>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DecisionsBody")]
struct ManyBody {
    #[schemars(with = "Vec<ItemBody>")]
    decisions: Vec<Json>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DecisionItemBody")]
pub(crate) struct ItemBody {
    execution_id: String,
    tool_call_id: String,
    approved: bool,
    reason: Option<String>,
    arguments: Option<Json>,
    digest: Option<String>,
    grant: Option<WithDecision>,
}

impl ItemBody {
    /// Whose decision it is, and the decision.
    fn apart(self) -> (String, String, DecisionBody) {
        let Self { execution_id, tool_call_id, approved, reason, arguments, digest, grant } = self;
        (execution_id, tool_call_id, DecisionBody { approved, reason, arguments, digest, grant })
    }
}

/// What a decision is answered with.
#[derive(Serialize, JsonSchema)]
struct Decision {
    execution_id: ExecutionId,
    tool_call_id: String,
    decision: ApprovalStatus,
    decided_by: Option<String>,
    decided_at: Option<Timestamp>,
    already_decided: bool,
    execution_status: Status,
    /// What was said so far, where it takes several people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    votes: Vec<view::Vote>,
    /// How many more people must approve; 0 once it is decided.
    votes_needed: u32,
    /// The standing grant that was made with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    grant: Option<GrantId>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DecisionResults")]
struct Results {
    results: Vec<Item>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DecisionResult")]
struct Item {
    index: usize,
    #[serde(flatten)]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Value>,
}

/// `POST /v1/executions/{id}/approvals/{tool_call_id}`.
pub async fn one(
    State(app): Shared,
    caller: Caller,
    Segments((id, call)): Segments<(String, String)>,
    body: RawBody,
) -> Answer {
    let text = body.text()?;
    check_arguments(text, "/arguments")?;
    let body: DecisionBody = body.read()?;
    Ok(view::ok(&decide(&app, &caller, &id, call, body).await?))
}

/// `POST /v1/approvals/decisions`: one bad item stops no other.
pub async fn many(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let items = body.read::<ManyBody>()?.decisions;
    check_count("decisions", items.len())?;
    let mut results = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        results.push(Item::new(index, decide_item(&app, &caller, item).await));
    }
    Ok(view::ok(&Results { results }))
}

async fn decide_item(app: &App, caller: &Caller, item: &Json) -> Answer<Decision> {
    let (id, call, body) = body::read::<ItemBody>(item.get())?.apart();
    decide(app, caller, &id, call, body).await
}

/// The same for a decision that says nothing but yes or no, and why.
pub async fn decide_plainly(
    app: &App,
    caller: &Caller,
    execution: &str,
    call: String,
    approved: bool,
    reason: Option<String>,
) -> Answer<Value> {
    let body = DecisionBody { approved, reason, arguments: None, digest: None, grant: None };
    let decision = decide(app, caller, execution, call, body).await?;
    Ok(serde_json::to_value(decision).unwrap_or_default())
}

/// What is wrong with the edited arguments is told as such, before the body is read as a whole.
fn check_arguments(text: &str, below: &str) -> Answer<()> {
    match strict_json::check(text) {
        Err(error) if error.pointer.starts_with(below) => Err(body::refused(Code::ArgumentsInvalid, &error)),
        _ => Ok(()),
    }
}

async fn decide(app: &App, caller: &Caller, id: &str, call: String, body: DecisionBody) -> Answer<Decision> {
    let execution: ExecutionId = id.parse().map_err(|_| no_call(&call))?;
    let request = request(app, caller, execution, call, body).await?;
    let decided = match unfit(app, caller, &request).await? {
        Some(decided) => decided,
        None => {
            let (scope, request) = (caller.scope.clone(), request.clone());
            app.write(move |store| store.approval_decide(&scope, &request)).await??
        }
    };
    let grant = request.grant.filter(|_| matches!(decided, Decided::Taken { .. })).map(|grant| grant.id);
    Ok(Decision { grant, ..told(app, &request.tool_call_id, decided)? })
}

/// A decision that a command asks for: `text` is an item of `POST /v1/approvals/decisions`.
/// The execution that it, or its first, was for.
pub async fn decide_commanded(
    app: &App,
    caller: &Caller,
    text: &str,
    command: CommandKey,
) -> Answer<ExecutionId> {
    check_arguments(text, "/arguments")?;
    let (id, call, body) = body::read::<ItemBody>(text)?.apart();
    let execution: ExecutionId = id.parse().map_err(|_| no_call(&call))?;
    let request = request(app, caller, execution, call, body).await?;
    let call = request.tool_call_id.clone();
    let decided = match unfit(app, caller, &request).await? {
        Some(decided) => Commanded::Now(decided),
        None => {
            let scope = caller.scope.clone();
            app.write(move |store| store.command_decide(&scope, &command, &request)).await??
        }
    };
    match decided {
        Commanded::Before(execution) => Ok(execution),
        Commanded::Now(decided) => Ok(told(app, &call, decided)?.execution_id),
    }
}

fn no_call(call: &str) -> Problem {
    Problem::not_found("tool call that was asked about", call)
}

fn told(app: &App, call: &str, decided: Decided) -> Answer<Decision> {
    match decided {
        Decided::Taken { approval, acted } => {
            taken(app, &approval, &acted);
            Ok(Decision::new(approval, false))
        }
        Decided::Counted(approval) => Ok(Decision::new(approval, false)),
        Decided::Already(approval) => Ok(Decision::new(approval, true)),
        Decided::Conflict(approval) => Err(conflict(approval)),
        Decided::Closed(approval) => Err(closed(&approval)),
        Decided::DigestMismatch(approval) => Err(digest_mismatch(&approval)),
        Decided::VotesDiffer(approval) => Err(votes_differ(&approval)),
        Decided::Barred { why, .. } => Err(barred(why)),
        Decided::NoEdit(_) => {
            Err(Problem::new(Code::ArgumentsInvalid, "`arguments`: the policy lets nobody edit them"))
        }
        Decided::NotFound => Err(no_call(call)),
    }
}

async fn request(
    app: &App,
    caller: &Caller,
    execution: ExecutionId,
    tool_call_id: String,
    body: DecisionBody,
) -> Answer<DecideRequest> {
    if body.arguments.is_some() && !body.approved {
        return Err(Problem::new(Code::InvalidBody, "`arguments`: a denial has none"));
    }
    let arguments = body.arguments.map(|arguments| arguments.get().to_owned());
    let limit = app.limits.value_bytes;
    check_value("arguments", arguments.as_ref().map_or(0, String::len), limit)?;
    check_value("reason", body.reason.as_ref().map_or(0, String::len), limit)?;
    let wanted = body.grant;
    let mut request = DecideRequest {
        execution,
        tool_call_id,
        approved: body.approved,
        reason: body.reason,
        arguments,
        digest: body.digest,
        by: caller.decider(),
        end_user: caller.end_user.clone(),
        grant: None,
    };
    if let Some(wanted) = wanted {
        request.grant = granted(app, caller, &request, wanted).await?.map(Box::new);
    }
    Ok(request)
}

/// What is not there, or not open, is told by the store, and makes no grant.
async fn granted(
    app: &App,
    caller: &Caller,
    request: &DecideRequest,
    wanted: WithDecision,
) -> Answer<Option<NewGrant>> {
    if !request.approved {
        return Err(Problem::new(Code::InvalidBody, "`grant`: a denial has none"));
    }
    let found = find(app, caller, request).await?.filter(|row| row.status == ApprovalStatus::Pending);
    let Some(approval) = found else { return Ok(None) };
    grants::with_decision(app, caller, &approval, wanted, request.reason.clone()).await.map(Some)
}

/// Edited arguments that do not fit the tool's schema never reach the store: an open
/// approval answers 422, any other what it would answer to a decision that does fit.
async fn unfit(app: &App, caller: &Caller, request: &DecideRequest) -> Answer<Option<Decided>> {
    let Some(arguments) = &request.arguments else {
        return Ok(None);
    };
    let Some(approval) = find(app, caller, request).await? else {
        return Ok(Some(Decided::NotFound));
    };
    let Err(message) = app.schemas.check(app, &approval, arguments).await? else {
        return Ok(None);
    };
    match approval.status {
        // What was approved did fit: these are other arguments, and so another decision.
        ApprovalStatus::Approved | ApprovalStatus::Denied => Ok(Some(Decided::Conflict(approval))),
        ApprovalStatus::Expired | ApprovalStatus::Cancelled | ApprovalStatus::DigestMismatch => {
            Ok(Some(Decided::Closed(approval)))
        }
        _ if request.digest.as_ref().is_some_and(|digest| *digest != approval.digest) => {
            Ok(Some(Decided::DigestMismatch(approval)))
        }
        _ => match approval.judge(&request.by, request.end_user.as_deref()) {
            Err(why) => Ok(Some(Decided::Barred { approval, why })),
            Ok(()) => Err(Problem::new(Code::ArgumentsInvalid, message)),
        },
    }
}

async fn find(app: &App, caller: &Caller, request: &DecideRequest) -> Answer<Option<ApprovalRow>> {
    let filter = ApprovalFilter {
        execution: Some(request.execution),
        end_user: caller.end_user.clone(),
        limit: usize::from(u16::MAX),
        ..ApprovalFilter::default()
    };
    let scope = caller.scope.clone();
    let rows = app.read(move |store| store.approval_list(&scope, &filter)).await?;
    Ok(rows.into_iter().find(|row| row.tool_call_id == request.tool_call_id))
}

fn taken(app: &App, approval: &ApprovalRow, acted: &Acted) {
    app.metrics.decisions.with_label_values(&[approval.status.as_str()]).inc();
    let waited = approval.decided_at.map(|at| approval.requested_at.until(at));
    app.metrics.approval_wait.observe(waited.unwrap_or_default().as_secs_f64());
    // The lines are the child's, where it was decided through the parent.
    let mut key = approval.key.clone();
    key.id = approval.delegated_by.as_ref().map_or(key.id, |by| by.execution_id);
    app.tell(key, acted);
}

fn conflict(approval: ApprovalRow) -> Problem {
    let detail = format!("it is {} already", approval.status);
    let won = serde_json::to_value(Decision::new(approval, true)).unwrap_or_default();
    let Value::Object(members) = won else {
        return Problem::internal();
    };
    members.into_iter().fold(Problem::new(Code::ApprovalConflict, detail), |problem, (name, value)| {
        problem.with(&name, value)
    })
}

/// `approval_status` says what closed it where its execution went on to end otherwise.
fn closed(approval: &ApprovalRow) -> Problem {
    let status = approval.status.as_str();
    Problem::new(Code::ApprovalClosed, format!("it can no longer be decided: it is {status}"))
        .with("approval_status", status)
        .with("execution_status", approval.execution_status.as_str())
}

fn digest_mismatch(approval: &ApprovalRow) -> Problem {
    Problem::new(Code::DigestMismatch, "look at the stored arguments again: they are not what was decided on")
        .with("digest", approval.digest.as_str())
}

fn votes_differ(approval: &ApprovalRow) -> Problem {
    let detail = "those who voted before approved other arguments: send the same ones, or deny";
    let voted = approval.votes.first().map(|vote| vote.digest.clone());
    Problem::new(Code::DigestMismatch, detail)
        .with("digest", approval.digest.as_str())
        .with("voted_digest", voted)
}

pub(super) fn barred(why: Barred) -> Problem {
    match why {
        Barred::NotAnApprover => Problem::new(
            Code::NotAnApprover,
            "this key is in none of the roles and groups that the policy names",
        ),
        Barred::SelfApproval => {
            Problem::new(Code::SelfApproval, "whoever started the execution does not decide about its calls")
        }
    }
}

impl Decision {
    fn new(approval: ApprovalRow, already_decided: bool) -> Self {
        Self {
            grant: None,
            votes_needed: approval.votes_needed(),
            votes: approval.votes.into_iter().map(Into::into).collect(),
            execution_id: approval.key.id,
            tool_call_id: approval.tool_call_id,
            decision: approval.status,
            decided_by: approval.decided_by,
            decided_at: approval.decided_at,
            already_decided,
            execution_status: approval.execution_status,
        }
    }
}

impl Item {
    fn new(index: usize, told: Answer<Decision>) -> Self {
        match told {
            Ok(decision) => Self { index, decision: Some(decision), problem: None },
            Err(problem) => Self { index, decision: None, problem: Some(problem.document()) },
        }
    }
}

/// What one decision takes and answers.
pub fn one_doc() -> Operation {
    Operation::new("approval_decide", "Decides; the same decision again changes nothing.")
        .body::<DecisionBody>()
        .answer::<Decision>(200, "The decision that counts, made now or before.")
        .problem(Code::NotAnApprover)
        .problem(Code::SelfApproval)
        .problem(Code::ApprovalConflict)
        .problem(Code::DigestMismatch)
        .problem(Code::ApprovalClosed)
        .problem(Code::ArgumentsInvalid)
        .problem(Code::GrantNotPossible)
}

/// What many decisions take and answer.
pub fn many_doc() -> Operation {
    Operation::new("approval_decide_many", "Decides up to 1000; one bad item stops no other.")
        .body::<ManyBody>()
        .answer::<Results>(200, "A result for each item, in order.")
}

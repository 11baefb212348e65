//! Standing grants: 'this tool, while this holds, for this conversation or agent, until then,
//! at most so often'.

use std::sync::Arc;

use axum::extract::State;
use holdpoint_db::{ApprovalFilter, ApprovalRow, ConversationRow, GrantFilter, GrantFor, GrantRow, NewGrant};
use holdpoint_engine::definition::{Agent, parse_agent};
use holdpoint_engine::ids::GrantId;
use holdpoint_engine::policy::{Policy, Requester};
use holdpoint_engine::status::{DefinitionKind, GrantStatus};
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::workflow::expression::{Expression, ExpressionError};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::approvals_decide::barred;
use crate::app::App;
use crate::auth::Caller;
use crate::body::{RawBody, check_value};
use crate::clock;
use crate::openapi::Operation;
use crate::params::{Params, Segments};
use crate::problem::{Answer, Code, Problem};
use crate::view;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "GrantBody")]
struct Body {
    agent: Option<String>,
    conversation_id: Option<String>,
    tool: String,
    /// A jq program over `{tool, arguments, end_user, agent}`.
    when: Option<String>,
    expires_at: Option<Timestamp>,
    expires_after: Option<Span>,
    max_uses: i64,
    reason: Option<String>,
}

/// A grant that is made with a decision.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "DecisionGrant")]
pub(crate) struct WithDecision {
    /// Whose further calls of this tool.
    #[serde(rename = "for")]
    on: On,
    /// A jq program over `{tool, arguments, end_user, agent}`.
    when: Option<String>,
    expires_at: Option<Timestamp>,
    expires_after: Option<Span>,
    max_uses: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum On {
    Conversation,
    Agent,
}

/// A grant as callers see it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Grant")]
pub(crate) struct Shown {
    id: GrantId,
    status: GrantStatus,
    agent: Option<String>,
    conversation_id: Option<String>,
    tool: String,
    when: Option<String>,
    reason: Option<String>,
    /// Only for executions of this end user.
    end_user: Option<String>,
    max_uses: i32,
    uses: i32,
    expires_at: Timestamp,
    created_by: String,
    created_at: Timestamp,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    revoked_by: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "GrantList")]
struct List {
    grants: Vec<Shown>,
    next_cursor: Option<GrantId>,
}

impl From<GrantRow> for Shown {
    fn from(row: GrantRow) -> Self {
        let NewGrant { id, on, tool, when, reason, end_user, max_uses, expires_at, by } = row.new;
        let (agent, conversation_id) = match on {
            GrantFor::Agent(name) => (Some(name), None),
            GrantFor::Conversation(id) => (None, Some(id)),
        };
        let (revoked_at, revoked_by) = row.revoked.unzip();
        Self {
            id,
            status: row.status,
            agent,
            conversation_id,
            tool,
            when,
            reason,
            end_user,
            max_uses,
            uses: row.uses,
            expires_at,
            created_by: by.key,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            revoked_at,
            revoked_by,
        }
    }
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, detail)
}

fn impossible(detail: impl Into<String>) -> Problem {
    Problem::new(Code::GrantNotPossible, detail)
}

/// `POST /v1/grants`.
pub async fn create(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let body: Body = body.read()?;
    let on = match (&body.agent, &body.conversation_id) {
        (Some(agent), None) => GrantFor::Agent(agent.clone()),
        (None, Some(id)) => GrantFor::Conversation(id.clone()),
        _ => return Err(invalid("give `agent` or `conversation_id`, one of the two")),
    };
    check_value("reason", body.reason.as_ref().map_or(0, String::len), app.limits.value_bytes)?;
    let terms = Terms::read(&app, body.when, (body.expires_at, body.expires_after), body.max_uses).await?;
    let agent = agent_of(&app, &caller, &on).await?;
    if let Some(agent) = &agent {
        check_policy(&app, &caller, &on, agent, &body.tool).await?;
    }
    let new = terms.of(&app, &caller, on, body.tool, body.reason);
    let scope = caller.scope;
    let row = app.write(move |store| store.grant_create(&scope, &new)).await??;
    Ok(view::json(StatusCode::CREATED, &Shown::from(row)))
}

/// What both ways of making a grant say of it.
struct Terms {
    when: Option<String>,
    expires_at: Timestamp,
    max_uses: i32,
}

impl Terms {
    async fn read(
        app: &App,
        when: Option<String>,
        (at, after): (Option<Timestamp>, Option<Span>),
        max_uses: i64,
    ) -> Answer<Self> {
        let now = clock::now();
        let expires_at = match (at, after) {
            (Some(at), None) => at,
            (None, Some(after)) => now.plus(after.0),
            _ => return Err(invalid("give `expires_at` or `expires_after`, one of the two")),
        };
        let days = app.limits.grant_days;
        let latest = now.plus(std::time::Duration::from_secs(u64::from(days) * 86_400 + 60));
        if expires_at <= now || expires_at > latest {
            return Err(invalid(format!(
                "the grant ends at {expires_at}: it may end within {days} days from now"
            )));
        }
        let most = app.limits.grant_uses;
        let max_uses = i32::try_from(max_uses).ok().filter(|uses| (1..=most).contains(uses));
        let max_uses = max_uses.ok_or_else(|| invalid(format!("`max_uses` may be 1 to {most}")))?;
        check_value("when", when.as_ref().map_or(0, String::len), app.limits.value_bytes)?;
        if let Some(when) = &when {
            check_when(app, when).await?;
        }
        Ok(Self { when, expires_at, max_uses })
    }

    fn of(self, app: &App, caller: &Caller, on: GrantFor, tool: String, reason: Option<String>) -> NewGrant {
        let Self { when, expires_at, max_uses } = self;
        let (id, end_user, by) = (app.ids.make(GrantId::new), caller.end_user.clone(), caller.decider());
        NewGrant { id, on, tool, when, reason, end_user, max_uses, expires_at, by }
    }
}

/// Compiled on a thread that may wait for the evaluator.
async fn check_when(app: &App, when: &str) -> Answer<()> {
    let (evaluator, when) = (Arc::clone(&app.evaluator), Expression(when.into()));
    let checked = tokio::task::spawn_blocking(move || evaluator.check(&when, &[])).await;
    match checked.map_err(|_| Problem::internal())? {
        Ok(()) => Ok(()),
        Err(ExpressionError::Unavailable(_)) => {
            Err(Problem::new(Code::Unavailable, "expressions cannot be checked now; try again"))
        }
        Err(error) => Err(invalid(format!("`when`: {error}"))),
    }
}

/// The agent whose policy can be looked at: the one named, or the one that the conversation is
/// with, where that is known.
async fn agent_of(app: &App, caller: &Caller, on: &GrantFor) -> Answer<Option<Agent>> {
    let name = match on {
        GrantFor::Agent(name) => Some(name.clone()),
        GrantFor::Conversation(id) => conversation(app, caller, id).await?.agent,
    };
    let Some(name) = name else { return Ok(None) };
    let (scope, wanted) = (caller.scope.clone(), name.clone());
    let kind = DefinitionKind::Agent;
    let row = app.read(move |store| store.definition_get(&scope, kind, &wanted, None)).await?;
    match (row, on) {
        (Some(row), _) => Ok(parse_agent(&row.document).ok()),
        (None, GrantFor::Agent(_)) => Err(Problem::not_found("agent", &name)),
        (None, GrantFor::Conversation(_)) => Ok(None),
    }
}

async fn conversation(app: &App, caller: &Caller, id: &str) -> Answer<ConversationRow> {
    let (scope, wanted) = (caller.scope.clone(), id.to_owned());
    let row = app.read(move |store| store.conversation_get(&scope, &wanted)).await?;
    let row = row.filter(|row| caller.sees(row.end_user.as_deref()));
    row.ok_or_else(|| Problem::not_found("conversation", id))
}

/// What can be told now. Each use is judged again, by the policy that its question is asked
/// under; another agent of the conversation may ask as well, with a policy of its own.
async fn check_policy(app: &App, caller: &Caller, on: &GrantFor, agent: &Agent, tool: &str) -> Answer<()> {
    let found = agent.tools.iter().find(|one| {
        let of_server = || tool.strip_prefix(&one.name).is_some_and(|rest| rest.starts_with("__"));
        one.name == tool || (one.mcp.is_some() && of_server())
    });
    let Some(found) = found else {
        return match on {
            GrantFor::Agent(name) => Err(invalid(format!("`tool`: the agent `{name}` has no tool `{tool}`"))),
            GrantFor::Conversation(_) => Ok(()),
        };
    };
    let policy = found.approval.policy();
    refuse_quorum(&policy)?;
    let requester = match on {
        GrantFor::Conversation(id) if policy.no_self_approval => requester_of(app, caller, id).await?,
        _ => Requester::default(),
    };
    policy.judge(&caller.decider(), caller.end_user.as_deref(), &requester, false).map_err(barred)
}

fn refuse_quorum(policy: &Policy) -> Answer<()> {
    if policy.quorum > 1 {
        let quorum = policy.quorum;
        return Err(impossible(format!(
            "the tool's policy asks for {quorum} people: one grant is not so many"
        )));
    }
    Ok(())
}

/// Who started the conversation's last execution.
async fn requester_of(app: &App, caller: &Caller, conversation_id: &str) -> Answer<Requester> {
    let end_user = conversation(app, caller, conversation_id).await?.end_user;
    let filter = ApprovalFilter {
        conversation_id: Some(conversation_id.to_owned()),
        limit: 1,
        ..ApprovalFilter::default()
    };
    let scope = caller.scope.clone();
    let rows = app.read(move |store| store.approval_list(&scope, &filter)).await?;
    Ok(rows.into_iter().next().map_or(Requester { key: String::new(), end_user }, |row| row.requester))
}

/// The grant that a decision asks for, to be made in its transaction.
pub(crate) async fn with_decision(
    app: &App,
    caller: &Caller,
    approval: &ApprovalRow,
    wanted: WithDecision,
    reason: Option<String>,
) -> Answer<NewGrant> {
    if approval.kind == DefinitionKind::Workflow {
        return Err(impossible("a workflow asks: its questions are always a person's"));
    }
    refuse_quorum(&approval.policy)?;
    if approval.delegated_by.is_some() && wanted.on == On::Conversation {
        return Err(impossible(
            "the call is a delegated execution's, which is in no conversation: grant it `for` the agent",
        ));
    }
    let terms =
        Terms::read(app, wanted.when, (wanted.expires_at, wanted.expires_after), wanted.max_uses).await?;
    let on = match (wanted.on, &approval.conversation_id) {
        (On::Agent, _) => GrantFor::Agent(approval.agent.clone()),
        (On::Conversation, Some(id)) => GrantFor::Conversation(id.clone()),
        (On::Conversation, None) => return Err(impossible("the execution is in no conversation")),
    };
    Ok(terms.of(app, caller, on, approval.tool.clone(), reason))
}

/// `GET /v1/grants`: newest first.
pub async fn list(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let limit = params.limit(50, 1_000)?;
    let filter = GrantFilter {
        status: params.value("status")?,
        agent: params.text("agent"),
        conversation_id: params.text("conversation_id"),
        end_user: caller.end_user,
        after: params.value("cursor")?,
        limit: limit + 1,
    };
    params.end()?;
    let scope = caller.scope;
    let mut rows = app.read(move |store| store.grant_list(&scope, &filter)).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.new.id);
    Ok(view::ok(&List { grants: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// `GET /v1/grants/{id}`.
pub async fn get(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let missing = || Problem::not_found("grant", &id);
    let grant: GrantId = id.parse().map_err(|_| missing())?;
    let scope = caller.scope.clone();
    let row = app.read(move |store| store.grant_get(&scope, grant)).await?;
    let row = row.filter(|row| caller.sees(row.new.end_user.as_deref()));
    Ok(view::ok(&Shown::from(row.ok_or_else(missing)?)))
}

/// `DELETE /v1/grants/{id}`: it answers nothing from now on.
pub async fn revoke(State(app): Shared, caller: Caller, Segments(id): Segments<String>) -> Answer {
    let missing = || Problem::not_found("grant", &id);
    let grant: GrantId = id.parse().map_err(|_| missing())?;
    let row = app
        .write(move |store| store.grant_revoke(&caller.scope, grant, &caller.key, caller.end_user.as_deref()))
        .await??;
    Ok(view::ok(&Shown::from(row.ok_or_else(missing)?)))
}

/// What create takes and answers.
pub fn create_doc() -> Operation {
    Operation::new("grant_create", "Approves calls of a tool before they are asked about: while a condition holds, until a time, at most so often.")
        .body::<Body>()
        .answer::<Shown>(201, "It is in force.")
        .problem(Code::NotFound)
        .problem(Code::GrantNotPossible)
        .problem(Code::NotAnApprover)
        .problem(Code::SelfApproval)
}

/// What list takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("grant_list", "Standing grants, newest first.")
        .query::<GrantStatus>("status", "Only those that stand so.")
        .query::<String>("agent", "Only those for this agent.")
        .query::<String>("conversation_id", "Only those for this conversation.")
        .page("50 by default, 1000 at most.")
        .answer::<List>(200, "A page.")
}

/// What get answers.
pub fn get_doc() -> Operation {
    Operation::new("grant_get", "One grant.").answer::<Shown>(200, "As it stands.")
}

/// What revoke answers.
pub fn revoke_doc() -> Operation {
    Operation::new(
        "grant_revoke",
        "Takes a grant back: it answers nothing from now on. What it answered stays.",
    )
    .answer::<Shown>(200, "As it stands now.")
}

//! `POST /v1/policies/test`: what a changed policy would have asked, told from the calls that
//! were.

use std::sync::Arc;

use axum::extract::State;
use holdpoint_db::{CallsPage, PastExecution};
use holdpoint_engine::definition::{ApprovalRule, AskedAbout, asks};
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::past_calls::{PastCall, past_calls};
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::expression::{Evaluator, ExpressionError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::problem::{Answer, Code, Problem};
use crate::view;

/// The most calls that one request tries.
const MOST: usize = 10_000;
/// How many it tries unless told.
const DEFAULT: usize = 1_000;
/// So many executions are looked at in one statement.
const PAGE: usize = 250;
/// So many for one request, with calls of the tool or without.
const LOOKED_AT: usize = 50_000;
/// The most calls that are told one by one.
const TOLD: usize = 100;
/// The most errors that are told.
const ERRORS: usize = 20;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "PolicyTestBody")]
struct Body {
    /// Only calls in executions of this agent.
    agent: Option<String>,
    /// Only calls in executions of this workflow.
    workflow: Option<String>,
    /// The tool as the model calls it; of a workflow, the task.
    tool: String,
    /// What the tool's `approval` would be: `always`, `never` or an object.
    #[schemars(with = "serde_json::Value")]
    approval: ApprovalRule,
    /// Of executions that were created at this time or later.
    since: Option<Timestamp>,
    /// Of executions that were created before this time.
    until: Option<Timestamp>,
    /// How many calls at most, the newest executions first: 1000 unless told, 10000 at most.
    limit: Option<usize>,
}

#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "PolicyTest")]
struct Told {
    /// How many calls were tried.
    calls: usize,
    would_ask: usize,
    would_not_ask: usize,
    /// Calls for which the expression could not say: they ask, and are among those that would.
    errors: usize,
    /// How many were asked about when they were made.
    asked_then: usize,
    /// How many would be treated otherwise than they were.
    changed_calls: usize,
    /// Up to 100 of them.
    changed: Vec<Changed>,
    /// Up to 20 of the errors.
    expression_errors: Vec<Failed>,
    /// How many executions were looked at.
    executions: usize,
    /// Whether there are older executions that were not looked at.
    more: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PolicyTestCall")]
struct Changed {
    execution_id: ExecutionId,
    tool_call_id: String,
    arguments: Json,
    asked_then: bool,
    would_ask: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PolicyTestError")]
struct Failed {
    execution_id: ExecutionId,
    tool_call_id: String,
    message: String,
}

/// A body that was read and checked.
struct Trial {
    tool: String,
    rule: ApprovalRule,
    page: CallsPage,
    limit: usize,
}

/// The route.
pub async fn test(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let mut trial = read(&caller, body.read()?)?;
    check_when(&app, &trial.rule).await?;
    let mut told = Told::default();
    while told.calls < trial.limit && told.executions < LOOKED_AT {
        let (scope, page) = (caller.scope.clone(), trial.page.clone());
        let found = app.read(move |store| store.calls_read(&scope, &page)).await?;
        told.executions += found.looked_at;
        told.more = found.next.is_some();
        (trial, told) = replay(&app, trial, told, found.executions).await?;
        if found.next.is_none() {
            break;
        }
        trial.page.after = found.next;
    }
    Ok(view::ok(&told))
}

fn read(caller: &Caller, body: Body) -> Answer<Trial> {
    let invalid = |detail: String| Problem::new(Code::InvalidBody, detail);
    let of = match (body.agent, body.workflow) {
        (Some(_), Some(_)) => return Err(invalid("give `agent` or `workflow`, not both".to_owned())),
        (agent, workflow) => agent
            .map(|agent| (DefinitionKind::Agent, agent))
            .or(workflow.map(|workflow| (DefinitionKind::Workflow, workflow))),
    };
    let limit = body.limit.unwrap_or(DEFAULT);
    if !(1..=MOST).contains(&limit) {
        return Err(invalid(format!("`limit` is {limit}: it may be 1 to {MOST}")));
    }
    let rule = body.approval;
    if let Some(error) = rule.errors("approval").into_iter().next() {
        return Err(invalid(format!("`{}` {}", error.place, error.message)));
    }
    let end_user = caller.end_user.clone();
    let page = CallsPage { of, end_user, since: body.since, until: body.until, after: None, limit: PAGE };
    Ok(Trial { tool: body.tool, rule, page, limit })
}

/// An expression that is none is told before anything is read.
async fn check_when(app: &App, rule: &ApprovalRule) -> Answer<()> {
    let (evaluator, rule) = (Arc::clone(&app.evaluator), rule.clone());
    let checked = tokio::task::spawn_blocking(move || rule.check_when("approval", &*evaluator)).await;
    match checked.map_err(|_| Problem::internal())? {
        Ok(None) => Ok(()),
        Ok(Some(error)) => {
            Err(Problem::new(Code::InvalidBody, format!("`{}`: {}", error.place, error.message)))
        }
        Err(_) => Err(unavailable()),
    }
}

fn unavailable() -> Problem {
    Problem::new(Code::Unavailable, "expressions cannot be evaluated now; try again")
}

/// On a thread that may wait for the evaluator.
async fn replay(
    app: &App,
    trial: Trial,
    told: Told,
    executions: Vec<PastExecution>,
) -> Answer<(Trial, Told)> {
    let evaluator = Arc::clone(&app.evaluator);
    let work = tokio::task::spawn_blocking(move || {
        let mut told = told;
        for execution in executions {
            told.execution(&trial, &execution, &*evaluator)?;
        }
        Ok((trial, told))
    });
    work.await.map_err(|_| Problem::internal())?
}

impl Told {
    /// A journal that cannot be read has no calls to try.
    fn execution(
        &mut self,
        trial: &Trial,
        execution: &PastExecution,
        evaluator: &dyn Evaluator,
    ) -> Answer<()> {
        let calls = past_calls(&execution.lines).unwrap_or_else(|error| {
            tracing::warn!(execution = %execution.id, %error, "a journal could not be read");
            Vec::new()
        });
        for call in calls.into_iter().filter(|call| call.tool == trial.tool) {
            if self.calls == trial.limit {
                self.more = true;
                return Ok(());
            }
            self.call(trial, execution, call, evaluator)?;
        }
        Ok(())
    }

    fn call(
        &mut self,
        trial: &Trial,
        execution: &PastExecution,
        call: PastCall,
        evaluator: &dyn Evaluator,
    ) -> Answer<()> {
        let would_ask = match trial.rule.when() {
            None => trial.rule.is_needed(),
            Some(when) => {
                let about = AskedAbout {
                    tool: &call.tool,
                    arguments: &call.arguments,
                    end_user: execution.end_user.as_deref(),
                    agent: call.agent.as_deref().unwrap_or(&execution.name),
                };
                match asks(when, about, evaluator) {
                    Ok(asks) => asks,
                    Err(ExpressionError::Unavailable(_)) => return Err(unavailable()),
                    Err(error) => {
                        self.error(execution.id, &call, error.to_string());
                        true
                    }
                }
            }
        };
        self.count(execution.id, call, would_ask);
        Ok(())
    }

    fn error(&mut self, execution_id: ExecutionId, call: &PastCall, message: String) {
        self.errors += 1;
        if self.expression_errors.len() < ERRORS {
            let tool_call_id = call.tool_call_id.clone();
            self.expression_errors.push(Failed { execution_id, tool_call_id, message });
        }
    }

    fn count(&mut self, execution_id: ExecutionId, call: PastCall, would_ask: bool) {
        self.calls += 1;
        self.would_ask += usize::from(would_ask);
        self.would_not_ask += usize::from(!would_ask);
        self.asked_then += usize::from(call.asked);
        if call.asked == would_ask {
            return;
        }
        self.changed_calls += 1;
        if self.changed.len() < TOLD {
            self.changed.push(Changed {
                execution_id,
                tool_call_id: call.tool_call_id,
                arguments: view::raw(call.arguments),
                asked_then: call.asked,
                would_ask,
            });
        }
    }
}

/// What it takes and answers.
pub fn test_doc() -> Operation {
    Operation::new("policy_test", "Tries a policy on past calls: how many of them it would have asked about.")
        .body::<Body>()
        .answer::<Told>(200, "Nothing was changed, and nobody was asked.")
}

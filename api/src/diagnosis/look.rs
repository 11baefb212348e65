//! Reads all that a diagnosis is made of: of the execution, and of those that it waits for.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;

use holdpoint_db::{ApprovalFilter, ApprovalRow, ExecutionRow, LimitStanding, Standing};
use holdpoint_engine::definition::{Definition, builtin};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_queue::Link;

use super::{Beside, Diagnosis, diagnose};
use crate::app::App;
use crate::problem::{Answer, Problem};

/// So deep the executions that others wait for are looked at.
const DEEPEST: usize = 5;
/// More than a turn can ask for.
const MOST_APPROVALS: usize = 1_000;
/// So many of those that one execution waits for are looked at.
const WIDEST: usize = 3;

/// The row with its diagnosis; `None` where there is no such execution.
pub async fn look(app: &App, scope: &Scope, id: ExecutionId) -> Answer<Option<(ExecutionRow, Diagnosis)>> {
    look_at(app, scope, id, 1).await
}

type Looking<'a> = Pin<Box<dyn Future<Output = Answer<Option<(ExecutionRow, Diagnosis)>>> + Send + 'a>>;

fn look_at<'a>(app: &'a App, scope: &'a Scope, id: ExecutionId, depth: usize) -> Looking<'a> {
    Box::pin(async move {
        let of = scope.clone();
        let Some(standing) = app.read(move |store| store.execution_standing(&of, id)).await? else {
            return Ok(None);
        };
        let mut children = Vec::new();
        let open = standing.around.children.iter().filter(|_| depth < DEEPEST).take(WIDEST);
        for child in open {
            let looked = look_at(app, scope, child.child, depth + 1).await?;
            children.extend(looked.map(|(_, told)| (child.child, told)));
        }
        let told = tell(app, &standing, children).await?;
        Ok(Some((standing.row, told)))
    })
}

async fn tell(app: &App, standing: &Standing, children: Vec<(ExecutionId, Diagnosis)>) -> Answer<Diagnosis> {
    let definition = definition(app, &standing.row).await?;
    let (secrets, workflow) = match definition.as_deref() {
        Some(Definition::Agent(agent)) => (agent.agent.secrets(), None),
        Some(Definition::Workflow(workflow)) => {
            (workflow.secrets.iter().cloned().collect(), Some(&**workflow))
        }
        Some(Definition::Noop { .. }) | None => (BTreeSet::new(), None),
    };
    let approvals = approvals(app, standing).await?;
    let broker_up = *app.queue.link().borrow() == Link::Up;
    let limits = limits(app, standing).await?;
    let beside = Beside { broker_up, secrets, workflow, limits, approvals, children };
    diagnose(standing, beside).map_err(|error| {
        tracing::error!(id = %standing.row.key.id, %error, "a journal cannot be read");
        Problem::internal()
    })
}

/// The limits that it falls under while it is ready, or those that its calls wait for while it is held.
async fn limits(app: &App, standing: &Standing) -> Answer<Vec<LimitStanding>> {
    if standing.lease.is_none() && standing.ready_at.is_none_or(|at| at > standing.now) {
        return Ok(Vec::new());
    }
    let (key, tenant) = (standing.row.key.clone(), app.limits.tenant_slots());
    app.read(move |store| store.limits_standing(&key, tenant)).await
}

/// Those that wait for a decision: what is said of them comes with their votes and their policy.
async fn approvals(app: &App, standing: &Standing) -> Answer<Vec<ApprovalRow>> {
    if standing.row.status.is_terminal() || standing.row.pending_approvals == 0 {
        return Ok(Vec::new());
    }
    let key = standing.row.key.clone();
    let filter =
        ApprovalFilter { execution: Some(key.id), limit: MOST_APPROVALS, ..ApprovalFilter::default() };
    let rows = app.read(move |store| store.approval_list(&key.scope, &filter)).await?;
    Ok(rows.into_iter().filter(|row| row.decided_at.is_none()).collect())
}

/// The version that it is pinned to; nothing for what is built in.
async fn definition(app: &App, row: &ExecutionRow) -> Answer<Option<Arc<Definition>>> {
    if builtin(row.kind, &row.name).is_some() {
        return Ok(None);
    }
    app.schemas.version(app, &row.key.scope, row.kind, &row.name, row.version).await
}

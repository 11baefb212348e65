//! Schemas that callers' values are held against, compiled once: of tools, for edited arguments,
//! in the agent's version that the approval names; of workflows, for their input.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdpoint_db::ApprovalRow;
use holdpoint_engine::advance::{check_edited, edited_schema};
use holdpoint_engine::definition::{Definition, check_against};
use holdpoint_engine::entry::{Entry, ToolsListed};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::mcp;
use holdpoint_engine::run::Run;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::team::Member;
use holdpoint_engine::workflow::Misfit;
use holdpoint_engine::workflow::document::Workflow;
use serde_json::Value;

use crate::app::App;
use crate::problem::{Answer, Problem};

/// The most definitions that are kept.
const KEPT: usize = 256;

type Name = (Scope, DefinitionKind, String, i32);

/// Compiled definitions by scope, kind, name and version; a version never changes. And the
/// versions of workflows that were the latest when somebody looked.
#[derive(Default)]
pub struct Schemas {
    compiled: Mutex<HashMap<Name, Arc<Definition>>>,
    latest: Mutex<HashMap<(Scope, String), i32>>,
}

impl Schemas {
    /// What is wrong with the arguments, in the words that the tool's schema has for it.
    pub async fn check(
        &self,
        app: &App,
        approval: &ApprovalRow,
        arguments: &str,
    ) -> Answer<Result<(), String>> {
        let (scope, id) = whose(approval);
        let row =
            app.read(move |store| store.execution_get(&scope, id)).await?.ok_or_else(Problem::internal)?;
        let definition = self.get(app, approval, row.kind).await?;
        let agent = match definition.as_ref() {
            Definition::Agent(agent) => agent,
            Definition::Workflow(workflow) => return check_task(app, approval, workflow, arguments).await,
            Definition::Noop { .. } => return Err(Problem::internal()),
        };
        let tool = agent.tool(&approval.tool).ok_or_else(Problem::internal)?;
        match (tool.check_arguments(arguments), &tool.tool.mcp) {
            (Ok(()), Some(_)) => check_listed(app, approval, &tool.tool.name, arguments).await,
            (checked, _) => Ok(checked),
        }
    }

    /// The latest version of a workflow, as far as this process has heard: a hint.
    pub fn latest(&self, scope: &Scope, name: &str) -> Option<i32> {
        locked(&self.latest).get(&(scope.clone(), name.to_owned())).copied()
    }

    /// Heard of a version that is the latest.
    pub fn learn_latest(&self, scope: &Scope, name: &str, version: i32) {
        let mut latest = locked(&self.latest);
        if latest.len() >= KEPT {
            latest.clear();
        }
        latest.insert((scope.clone(), name.to_owned()), version);
    }

    /// A version of a workflow; nothing where there is none.
    pub async fn workflow(
        &self,
        app: &App,
        scope: &Scope,
        name: &str,
        version: i32,
    ) -> Answer<Option<WorkflowVersion>> {
        let found = self.version(app, scope, DefinitionKind::Workflow, name, version).await?;
        Ok(found.map(WorkflowVersion))
    }

    /// A version that an execution is pinned to; nothing where it is gone.
    pub async fn version(
        &self,
        app: &App,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        version: i32,
    ) -> Answer<Option<Arc<Definition>>> {
        self.find(app, (scope.clone(), kind, name.to_owned(), version)).await
    }

    /// What edited arguments must fit, for a form; nothing where the tool says nothing.
    pub async fn of(&self, app: &App, approval: &ApprovalRow) -> Answer<Option<Value>> {
        let (scope, id) = whose(approval);
        let row =
            app.read(move |store| store.execution_get(&scope, id)).await?.ok_or_else(Problem::internal)?;
        let definition = self.get(app, approval, row.kind).await?;
        let agent = match definition.as_ref() {
            Definition::Agent(agent) => agent,
            Definition::Workflow(workflow) => {
                let run = run_of(app, approval).await?;
                return Ok(Some(edited_schema(workflow, &run, approval.step)));
            }
            Definition::Noop { .. } => return Ok(None),
        };
        let Some(tool) = agent.tool(&approval.tool) else { return Ok(None) };
        match &tool.tool.mcp {
            Some(_) => listed(app, approval, &tool.tool.name).await,
            None => Ok(tool.tool.parameters.clone()),
        }
    }

    async fn get(&self, app: &App, approval: &ApprovalRow, kind: DefinitionKind) -> Answer<Arc<Definition>> {
        let name = (approval.key.scope.clone(), kind, approval.agent.clone(), approval.version);
        // A version that an approval names is there.
        self.find(app, name).await?.ok_or_else(Problem::internal)
    }

    async fn find(&self, app: &App, name: Name) -> Answer<Option<Arc<Definition>>> {
        if let Some(known) = locked(&self.compiled).get(&name) {
            return Ok(Some(Arc::clone(known)));
        }
        let Some(definition) = load(app, &name).await?.map(Arc::new) else { return Ok(None) };
        let mut kept = locked(&self.compiled);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(name, Arc::clone(&definition));
        Ok(Some(definition))
    }
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A version of a workflow, made ready.
pub struct WorkflowVersion(Arc<Definition>);

impl WorkflowVersion {
    /// Whether a run would take this input.
    pub fn check_input(&self, input: Option<&str>) -> Result<(), Misfit> {
        match self.0.as_ref() {
            Definition::Workflow(workflow) => workflow.check_input(input),
            Definition::Agent(_) | Definition::Noop { .. } => Ok(()),
        }
    }
}

/// The execution whose question it is, also where it is shown through a parent.
fn whose(approval: &ApprovalRow) -> (Scope, ExecutionId) {
    let id = approval.delegated_by.as_ref().map_or(approval.key.id, |by| by.execution_id);
    (approval.key.scope.clone(), id)
}

/// A workflow's question says in the journal what it offers, and in the definition what may
/// be put in the place of what it is about.
async fn check_task(
    app: &App,
    approval: &ApprovalRow,
    workflow: &Workflow,
    arguments: &str,
) -> Answer<Result<(), String>> {
    Ok(check_edited(workflow, &run_of(app, approval).await?, approval.step, arguments))
}

/// The execution whose question it is, as its journal has it.
async fn run_of(app: &App, approval: &ApprovalRow) -> Answer<Run> {
    let (scope, id) = whose(approval);
    let lines = app.read(move |store| store.journal_read(&scope, id)).await?.ok_or_else(Problem::internal)?;
    Run::fold(&lines, 0, 0).map_err(|error| {
        tracing::error!(%id, %error, "a journal cannot be read");
        Problem::internal()
    })
}

async fn check_listed(
    app: &App,
    approval: &ApprovalRow,
    server: &str,
    arguments: &str,
) -> Answer<Result<(), String>> {
    Ok(match listed(app, approval, server).await? {
        Some(schema) => check_against(&schema, arguments),
        None => Err(format!("the server `{server}` does not list the tool")),
    })
}

/// The schema of a tool of an MCP server is in the journal: in the list that the call was asked
/// for under.
async fn listed(app: &App, approval: &ApprovalRow, server: &str) -> Answer<Option<Value>> {
    let (scope, id) = (approval.key.scope.clone(), approval.key.id);
    let lines = app.read(move |store| store.journal_read(&scope, id)).await?.ok_or_else(Problem::internal)?;
    let lists: Vec<ToolsListed> = lines
        .iter()
        .rev()
        .filter_map(|line| match Entry::read(&line.kind, &line.payload) {
            Ok(Entry::ToolsListed(body)) if body.tool == server => Some(body),
            _ => None,
        })
        .collect();
    let asker = Some(Member { agent: approval.agent.clone(), version: approval.version });
    // Nobody is named where it is the agent that the execution began with.
    let of = |agent: Option<Member>| lists.iter().find(|list| list.agent == agent);
    let list = of(asker).or_else(|| of(None));
    let tools = list.map_or(&[][..], |list| &list.tools);
    let name = mcp::name_of(server, &approval.tool).unwrap_or_default();
    Ok(tools.iter().find(|tool| tool.name == name).map(|tool| tool.input_schema.clone()))
}

/// What is there was checked when it was put.
async fn load(app: &App, (scope, kind, name, version): &Name) -> Answer<Option<Definition>> {
    let (asked, kind, wanted, version) = (scope.clone(), *kind, name.clone(), *version);
    let find =
        move |store: &dyn holdpoint_db::Store| store.definition_get(&asked, kind, &wanted, Some(version));
    let Some(row) = app.read(find).await? else { return Ok(None) };
    Definition::compile(kind, version, &row.document).map(Some).map_err(|errors| {
        tracing::error!(%scope, name, version, ?errors, "a stored definition cannot be read");
        Problem::internal()
    })
}

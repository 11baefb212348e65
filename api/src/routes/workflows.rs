//! Workflows' definitions: versions are immutable, the same document again is the same version.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use holdpoint_db::{DefinitionRow, Store, StoreResult, WorkflowRow};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::document::{Child, Work, Workflow};
use holdpoint_engine::workflow::expression::{Evaluator, Expression, ExpressionError};
use holdpoint_engine::workflow::{WorkflowError, error_at, to_value};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::{Shared, definitions};
use crate::app::App;
use crate::auth::Caller;
use crate::body::DocumentBody;
use crate::openapi::Operation;
use crate::params::{Params, Segments};
use crate::problem::{Answer, Code, Problem};
use crate::view;

const WORKFLOW: DefinitionKind = DefinitionKind::Workflow;

/// One version of a workflow.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WorkflowVersion")]
struct Version {
    name: String,
    /// Ours: 1, 2, … for each name.
    version: i32,
    /// `document.version`, as its author wrote it.
    label: Option<String>,
    /// SHA-256 of the document as JSON with sorted keys, in hex.
    digest: String,
    created_by: String,
    created_at: Timestamp,
    /// Whether the workflow is started and scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<WorkflowState>,
    /// Whether a final failure stopped its schedule until `resume` or a new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule_stopped: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    document: Option<Value>,
    /// The document as its author wrote it, YAML or JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
}

impl Version {
    fn brief(row: DefinitionRow) -> Self {
        let DefinitionRow { name, version, label, digest, created_by, created_at, .. } = row;
        Self {
            name,
            version,
            label,
            digest,
            created_by,
            created_at,
            state: None,
            schedule_stopped: None,
            document: None,
            source: None,
        }
    }

    fn standing(row: DefinitionRow, standing: Option<&WorkflowRow>) -> Self {
        let state = standing.map_or(WorkflowState::Active, |standing| standing.state);
        let stopped = standing.is_some_and(|standing| standing.schedule_stopped);
        Self { state: Some(state), schedule_stopped: Some(stopped), ..Self::brief(row) }
    }

    fn whole(row: DefinitionRow, standing: Option<&WorkflowRow>) -> Self {
        let (source, document) = (Some(row.document.clone()), to_value(&row.document).ok());
        Self { document, source, ..Self::standing(row, standing) }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WorkflowPage")]
struct Page {
    workflows: Vec<Version>,
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WorkflowVersions")]
struct Versions {
    versions: Vec<Version>,
}

/// `PUT /v1/workflows/{name}`: 201 for a new version, 200 for the same one.
pub async fn put(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: DocumentBody,
) -> Answer {
    let text = body.text()?.to_owned();
    let workflow = read(&app, &text).await?;
    check_path(&name, &workflow, &text)?;
    check_schedule(&workflow, &text)?;
    check_children(&app, &caller.scope, &workflow, &text).await?;
    let (scope, by, wanted) = (caller.scope.clone(), caller.key.clone(), name.clone());
    let written = app.write(move |store| store.definition_put(&scope, WORKFLOW, &wanted, &text, &by)).await?;
    let (row, is_new) = written?;
    let version = row.version;
    let standing = standing_of(&app, &caller.scope, &name).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = view::json(status, &Version::whole(row, standing.as_ref()));
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/workflows/{name}?version={version}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// Checks the document whole, on a thread that may wait for the evaluator.
async fn read(app: &App, text: &str) -> Answer<Workflow> {
    let (evaluator, text) = (Arc::clone(&app.evaluator), text.to_owned());
    let checked = tokio::task::spawn_blocking(move || {
        is_there(&*evaluator)?;
        Workflow::read(&text, 1, &*evaluator).map_err(wrong)
    });
    checked.await.map_err(|_| Problem::new(Code::Internal, "the document could not be checked"))?
}

/// No evaluator is no fault of the document's.
fn is_there(evaluator: &dyn Evaluator) -> Answer<()> {
    match evaluator.check(&Expression(".".into()), &[]) {
        Err(ExpressionError::Unavailable(_)) => {
            Err(Problem::new(Code::Unavailable, "expressions cannot be checked now; try again"))
        }
        _ => Ok(()),
    }
}

fn check_path(name: &str, workflow: &Workflow, text: &str) -> Answer<()> {
    let named = &workflow.about.name;
    if name == named {
        return Ok(());
    }
    let message = format!("the document's name is `{named}`, the path's `{name}`: they must be the same");
    Err(wrong(vec![error_at(text, "/document/name", &message)]))
}

/// Its own schedule starts it without an input. Only what is new is refused for that: versions
/// that are there may still be started with one.
fn check_schedule(workflow: &Workflow, text: &str) -> Answer<()> {
    let Some(misfit) = workflow.schedule.as_ref().and_then(|_| workflow.check_input(None).err()) else {
        return Ok(());
    };
    let message = format!(
        "its ticks start it without an input, which `input.schema` refuses ({}): let the schema take null, or put \
         a schedule of its own with an `input` (PUT /v1/schedules)",
        misfit.message
    );
    Err(wrong(vec![error_at(text, "/schedule", &message)]))
}

fn wrong(errors: Vec<WorkflowError>) -> Problem {
    let detail = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    Problem::new(Code::InvalidWorkflow, detail).with("errors", serde_json::json!(errors))
}

/// The agents and workflows that it runs must be there. It may run itself.
async fn check_children(app: &App, scope: &Scope, workflow: &Workflow, text: &str) -> Answer<()> {
    let mut errors = Vec::new();
    for (pointer, task) in &workflow.by_pointer {
        let Work::Child(child) = &task.work else { continue };
        let (asked, wanted) = (scope.clone(), child.clone());
        let is_itself = child.kind == WORKFLOW
            && child.name == workflow.about.name
            && child.label.as_ref().is_none_or(|label| *label == workflow.about.version);
        if is_itself || app.read(move |store| is_known(store, &asked, &wanted)).await? {
            continue;
        }
        let below = if child.kind == WORKFLOW { "run/workflow/name" } else { "with/agent" };
        errors.push(error_at(text, &format!("{pointer}/{below}"), &missing(child)));
    }
    errors.sort_by_key(|error| (error.line, error.column));
    if errors.is_empty() { Ok(()) } else { Err(wrong(errors)) }
}

fn missing(child: &Child) -> String {
    let version = match (child.version, &child.label) {
        (Some(version), _) => format!(" version {version}"),
        (None, Some(label)) => format!(" version `{label}`"),
        (None, None) => String::new(),
    };
    format!("there is no {} `{}`{version}", child.kind, child.name)
}

fn is_known(store: &dyn Store, scope: &Scope, child: &Child) -> StoreResult<bool> {
    match &child.label {
        None => Ok(store.definition_get(scope, child.kind, &child.name, child.version)?.is_some()),
        Some(label) => {
            let versions = store.definition_versions(scope, child.kind, &child.name)?;
            Ok(versions.iter().any(|row| row.label.as_ref() == Some(label)))
        }
    }
}

async fn standing_of(app: &App, scope: &Scope, name: &str) -> Answer<Option<WorkflowRow>> {
    let (scope, wanted) = (scope.clone(), name.to_owned());
    app.read(move |store| store.workflow_get(&scope, &wanted)).await
}

/// How these workflows stand, by name.
pub(super) async fn standings_of(
    app: &App,
    scope: &Scope,
    names: Vec<String>,
) -> Answer<BTreeMap<String, WorkflowRow>> {
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let scope = scope.clone();
    let rows = app.read(move |store| store.workflows_get(&scope, &names)).await?;
    Ok(rows.into_iter().map(|row| (row.name.clone(), row)).collect())
}

/// `GET /v1/workflows/{name}`: the latest version in use, or the one named.
pub async fn get(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    params: Params,
) -> Answer {
    let row = definitions::one(&app, &caller.scope, WORKFLOW, &name, params).await?;
    let standing = standing_of(&app, &caller.scope, &name).await?;
    Ok(view::ok(&Version::whole(row, standing.as_ref())))
}

/// `DELETE /v1/workflows/{name}`: running executions keep their version.
pub async fn delete(State(app): Shared, caller: Caller, Segments(name): Segments<String>) -> Answer {
    definitions::delete(&app, caller, WORKFLOW, name).await
}

/// `GET /v1/workflows`: the latest versions, by name.
pub async fn list(State(app): Shared, caller: Caller, params: Params) -> Answer {
    let (rows, next_cursor) = definitions::page(&app, &caller.scope, WORKFLOW, params).await?;
    let names = rows.iter().map(|row| row.name.clone()).collect();
    let standings = standings_of(&app, &caller.scope, names).await?;
    let standing = |row: DefinitionRow| {
        let found = standings.get(&row.name);
        Version::standing(row, found)
    };
    Ok(view::ok(&Page { workflows: rows.into_iter().map(standing).collect(), next_cursor }))
}

/// `GET /v1/workflows/{name}/versions`: newest first.
pub async fn versions(State(app): Shared, caller: Caller, Segments(name): Segments<String>) -> Answer {
    let rows = definitions::versions(&app, caller.scope, WORKFLOW, &name).await?;
    Ok(view::ok(&Versions { versions: rows.into_iter().map(Version::brief).collect() }))
}

/// What put takes and answers.
pub fn put_doc() -> Operation {
    Operation::new(
        "workflow_put",
        "Registers a version; the same document again, whatever its layout, is the same version.",
    )
    .body::<Document>()
    .or_yaml()
    .answer::<Version>(201, "A new version.")
    .with_header("location")
    .answer::<Version>(200, "The same document as the latest version.")
    .with_header("location")
    .problem(Code::InvalidWorkflow)
}

/// What get takes and answers.
pub fn get_doc() -> Operation {
    Operation::new("workflow_get", "The latest version in use, or the one named, with its document.")
        .query::<i32>("version", "A version's number.")
        .answer::<Version>(200, "With `state`, `schedule_stopped`, `document` and `source`.")
}

/// What delete answers.
pub fn delete_doc() -> Operation {
    Operation::new("workflow_delete", "Takes the name out of use; running executions keep their version.")
        .empty(204, "Nothing more can be started, and no run is repeated any more.")
}

/// What list takes and answers.
pub fn list_doc() -> Operation {
    Operation::new(
        "workflow_list",
        "The latest versions, by name, with their `state`, without their documents.",
    )
    .page("50 by default, 1000 at most.")
    .answer::<Page>(200, "A page.")
}

/// What versions answers.
pub fn versions_doc() -> Operation {
    Operation::new("workflow_versions", "All versions, newest first, without their documents.")
        .answer::<Versions>(200, "All of them.")
}

/// A workflow in the CNCF Serverless Workflow DSL 1.0.x: `docs/workflow-profile.md` says what of
/// it is carried.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code)]
#[schemars(rename = "WorkflowDocument")]
struct Document(serde_json::Map<String, Value>);

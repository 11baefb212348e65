//! Agents' definitions: versions are immutable, the same document again is the same version.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use holdpoint_engine::definition::{self, Agent, Definition, DefinitionError};
use holdpoint_engine::scope::{Scope, check_name};
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::team::MAX_TEAM;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Shared, definitions};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{RawBody, refused};
use crate::openapi::Operation;
use crate::params::{Params, Segments};
use crate::problem::{Answer, Code, Problem};
use crate::view;

const AGENT: DefinitionKind = DefinitionKind::Agent;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AgentPage")]
struct Page {
    agents: Vec<view::Version>,
    next_cursor: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AgentVersions")]
struct Versions {
    versions: Vec<view::Version>,
}

/// `PUT /v1/agents/{name}`: 201 for a new version, 200 for the same one.
pub async fn put(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    check(&name)?;
    let (agent, document) = canonical(body.text()?)?;
    let agent = check_expressions(&app, agent).await?;
    check_references(&app, &caller.scope, &name, agent).await?;
    let (scope, by, wanted) = (caller.scope, caller.key, name.clone());
    let written =
        app.write(move |store| store.definition_put(&scope, AGENT, &wanted, &document, &by)).await?;
    let (row, is_new) = written?;
    let version = row.version;
    let mut response =
        view::json(if is_new { StatusCode::CREATED } else { StatusCode::OK }, &view::Version::whole(row));
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/agents/{name}?version={version}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

fn check(name: &str) -> Answer<()> {
    let wrong = |message: String| Problem::new(Code::InvalidDefinition, message).with("field", "name");
    check_name(name).map_err(wrong)?;
    if definition::is_reserved(name) {
        return Err(wrong(format!("`{name}`: names that begin with `holdpoint.` are built in")));
    }
    Ok(())
}

/// The one form in which it is stored, with everything checked, its schemas too.
fn canonical(text: &str) -> Answer<(Agent, String)> {
    holdpoint_engine::strict_json::check_object(text)
        .map_err(|error| refused(Code::InvalidDefinition, &error))?;
    let agent = definition::parse_agent(text).map_err(wrong)?;
    let document = definition::canonical(&agent);
    Definition::compile(AGENT, 1, &document).map_err(wrong)?;
    Ok((agent, document))
}

/// Compiles what its policies evaluate, on a thread that may wait for the evaluator.
async fn check_expressions(app: &App, agent: Agent) -> Answer<Agent> {
    if agent.tools.iter().all(|tool| tool.approval.when().is_none()) {
        return Ok(agent);
    }
    let evaluator = Arc::clone(&app.evaluator);
    let checked = tokio::task::spawn_blocking(move || (agent.check_expressions(&*evaluator), agent)).await;
    match checked.map_err(|_| Problem::new(Code::Internal, "the document could not be checked"))? {
        (Ok(errors), agent) if errors.is_empty() => Ok(agent),
        (Ok(errors), _) => Err(wrong(errors)),
        (Err(_), _) => Err(Problem::new(Code::Unavailable, "expressions cannot be checked now; try again")),
    }
}

/// The agents that it names must be there, and those that they name, up to the most that an
/// execution pins. An agent may name itself.
async fn check_references(app: &App, scope: &Scope, name: &str, agent: Agent) -> Answer<()> {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    let mut waiting = agent.references();
    while let Some((place, reference)) = waiting.pop() {
        if (reference.agent == name && reference.version.is_none()) || !seen.insert(reference.clone()) {
            continue;
        }
        if seen.len() >= MAX_TEAM {
            let message = format!("more than {MAX_TEAM} agents would be pinned with one start");
            errors.push(DefinitionError { place, message });
            break;
        }
        let (asked, wanted) = (scope.clone(), reference.clone());
        let find = move |store: &dyn holdpoint_db::Store| {
            store.definition_get(&asked, AGENT, &wanted.agent, wanted.version)
        };
        match app.read(find).await? {
            Some(row) => {
                let below = definition::parse_agent(&row.document).map(|agent| agent.references());
                waiting
                    .extend(below.unwrap_or_default().into_iter().map(|(_, below)| (place.clone(), below)));
            }
            // What an agent of before names may have gone out of use since.
            None if !agent.references().contains(&(place.clone(), reference.clone())) => {}
            None => {
                let version =
                    reference.version.map_or(String::new(), |version| format!(" version {version}"));
                let message = format!("there is no agent `{}`{version}", reference.agent);
                errors.push(DefinitionError { place, message });
            }
        }
    }
    errors.sort_by(|a, b| a.place.cmp(&b.place));
    if errors.is_empty() { Ok(()) } else { Err(wrong(errors)) }
}

fn wrong(errors: Vec<DefinitionError>) -> Problem {
    let detail = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let listed: Vec<serde_json::Value> = errors
        .into_iter()
        .map(|error| serde_json::json!({"place": error.place, "message": error.message}))
        .collect();
    Problem::new(Code::InvalidDefinition, detail).with("errors", listed)
}

/// `GET /v1/agents/{name}`: the latest version in use, or the one named.
pub async fn get(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    params: Params,
) -> Answer {
    let row = definitions::one(&app, &caller.scope, AGENT, &name, params).await?;
    Ok(view::ok(&view::Version::whole(row)))
}

/// `DELETE /v1/agents/{name}`: running executions keep their version.
pub async fn delete(State(app): Shared, caller: Caller, Segments(name): Segments<String>) -> Answer {
    definitions::delete(&app, caller, AGENT, name).await
}

/// `GET /v1/agents`: the latest versions, by name.
pub async fn list(State(app): Shared, caller: Caller, params: Params) -> Answer {
    let (rows, next_cursor) = definitions::page(&app, &caller.scope, AGENT, params).await?;
    Ok(view::ok(&Page { agents: rows.into_iter().map(view::Version::brief).collect(), next_cursor }))
}

/// `GET /v1/agents/{name}/versions`: newest first.
pub async fn versions(State(app): Shared, caller: Caller, Segments(name): Segments<String>) -> Answer {
    let rows = definitions::versions(&app, caller.scope, AGENT, &name).await?;
    Ok(view::ok(&Versions { versions: rows.into_iter().map(view::Version::brief).collect() }))
}

/// What put takes and answers.
pub fn put_doc() -> Operation {
    Operation::new("agent_put", "Registers a version; the same document again is the same version.")
        .body::<Document>()
        .answer::<view::Version>(201, "A new version.")
        .with_header("location")
        .answer::<view::Version>(200, "The same document as the latest version.")
        .with_header("location")
        .problem(Code::InvalidDefinition)
}

/// What get takes and answers.
pub fn get_doc() -> Operation {
    Operation::new("agent_get", "The latest version in use, or the one named, with its document.")
        .query::<i32>("version", "A version's number.")
        .answer::<view::Version>(200, "With `document`.")
}

/// What delete answers.
pub fn delete_doc() -> Operation {
    Operation::new("agent_delete", "Takes the name out of use; running executions keep their version.")
        .empty(204, "Nothing more can be started.")
}

/// What list takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("agent_list", "The latest versions, by name, without their documents.")
        .page("50 by default, 1000 at most.")
        .answer::<Page>(200, "A page.")
}

/// What versions answers.
pub fn versions_doc() -> Operation {
    Operation::new("agent_versions", "All versions, newest first, without their documents.")
        .answer::<Versions>(200, "All of them.")
}

/// An agent's document: `docs/agents.md` has its members.
#[derive(JsonSchema)]
#[schemars(transparent)]
#[allow(dead_code)]
#[schemars(rename = "AgentDocument")]
struct Document(serde_json::Map<String, serde_json::Value>);

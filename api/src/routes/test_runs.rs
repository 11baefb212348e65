//! `POST /v1/workflows/{name}/test-runs`: a run that tries a workflow, one at a time.

use axum::extract::State;
use axum::response::Response;
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::{ExecutionId, FileId};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::start::outcome;
use super::start_body::StartBody;
use super::{Shared, starting};
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::params::Segments;
use crate::problem::{Answer, Code};
use crate::view;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TestRunBody")]
struct Body {
    /// What the workflow is tried with.
    input: Option<Json>,
    /// A version; the latest, if left out.
    version: Option<i32>,
    /// Files that it is tried with: at most 32 ids.
    files: Option<Vec<FileId>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "TestRunBegun")]
struct Begun {
    execution_id: ExecutionId,
}

/// The route.
pub async fn handle(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    let Body { input, version, files } = body.read_or_empty()?;
    let mut new = StartBody::test(name, version, input, files).check(&app, &caller, None, &body.0)?;
    let created = starting::create(&app, &mut new).await?;
    let (started, _) = outcome(&app, &new, created).await?;
    Ok(begun(started.id))
}

fn begun(execution_id: ExecutionId) -> Response {
    let mut response = view::json(StatusCode::ACCEPTED, &Begun { execution_id });
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/executions/{execution_id}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new(
        "workflow_test",
        "Tries a workflow, also while it is paused or in maintenance: one test run of it goes on at a time, for at most 10 minutes.",
    )
    .optional_body::<Body>()
    .answer::<Begun>(202, "It is committed.")
    .with_header("location")
    .problem(Code::InvalidInput)
    .problem(Code::UnknownDefinition)
    .problem(Code::UnknownFile)
    .problem(Code::TestRunActive)
    .problem(Code::WorkflowNotActive)
}

//! `POST /v1/executions/batch`: many starts in one transaction, each judged alone.

use axum::extract::State;
use holdpoint_db::NewExecution;
use holdpoint_engine::entry::Json;
use http::{HeaderMap, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::start::{Started, outcome};
use super::start_body::StartBody;
use super::{Shared, starting};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{self, RawBody};
use crate::openapi::Operation;
use crate::problem::{Answer, Code, Problem};
use crate::{backlog, client_time, view};

/// The most starts in one batch.
pub const BATCH: usize = 1_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BatchBody {
    #[schemars(with = "Vec<StartBody>")]
    executions: Vec<Json>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StartResults")]
struct Results {
    results: Vec<Item>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "StartResult")]
struct Item {
    index: usize,
    #[serde(flatten)]
    started: Option<Started>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Value>,
}

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, headers: HeaderMap, body: RawBody) -> Answer {
    if headers.contains_key("idempotency-key") {
        let detail = "Idempotency-Key is for one start; in a batch, give each an `execution_id`";
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let items = body.read::<BatchBody>()?.executions;
    check_count("executions", items.len())?;
    let client_time = client_time::of(&headers);
    let judge = |item| -> Answer<NewExecution> {
        let mut new = judge(&app, &caller, item)?;
        new.extras.client_time.clone_from(&client_time);
        Ok(new)
    };
    let mut judged: Vec<Answer<NewExecution>> = items.iter().map(judge).collect();
    admit(&app, &caller, &mut judged).await;
    let mut good: Vec<NewExecution> = judged.iter().filter_map(|item| item.as_ref().ok()).cloned().collect();
    let mut created = starting::create_each(&app, &mut good).await.into_iter();
    let mut results = Vec::with_capacity(judged.len());
    for (index, item) in judged.into_iter().enumerate() {
        let told = match item {
            Err(problem) => Err(problem),
            Ok(new) => match created.next() {
                Some(Ok(created)) => outcome(&app, &new, created).await,
                Some(Err(problem)) => Err(problem),
                None => Err(Problem::internal()),
            },
        };
        results.push(Item::new(index, told.map(|(started, _)| started)));
    }
    Ok(view::ok(&Results { results }))
}

/// Where not all of them may be taken in, the first are.
async fn admit(app: &App, caller: &Caller, judged: &mut [Answer<NewExecution>]) {
    let tenant = &caller.scope.tenant;
    let good = judged.iter().filter(|item| item.is_ok()).count();
    if good == 0 || backlog::admit(app, tenant, good).await.is_ok() {
        return;
    }
    for item in judged.iter_mut().filter(|item| item.is_ok()) {
        if let Err(problem) = backlog::admit(app, tenant, 1).await {
            *item = Err(problem);
        }
    }
}

fn judge(app: &App, caller: &Caller, item: &Json) -> Answer<NewExecution> {
    body::read::<StartBody>(item.get())?.check(app, caller, None, item.get().as_bytes())
}

/// A batch's length is bounded, whatever it is of.
pub fn check_count(field: &str, count: usize) -> Answer<()> {
    if count <= BATCH {
        return Ok(());
    }
    let detail = format!("`{field}` has {count} items; it may have {BATCH}");
    Err(Problem::limit(StatusCode::UNPROCESSABLE_ENTITY, "batch_items", BATCH, detail))
}

impl Item {
    fn new(index: usize, told: Answer<Started>) -> Self {
        match told {
            Ok(started) => Self { index, started: Some(started), problem: None },
            Err(problem) => Self { index, started: None, problem: Some(problem.document()) },
        }
    }
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new(
        "execution_start_many",
        "Starts up to 1000 in one transaction; one bad item stops no other.",
    )
    .body::<BatchBody>()
    .answer::<Results>(200, "A result for each item, in order.")
}

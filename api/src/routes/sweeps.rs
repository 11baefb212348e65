//! Sweeps of the caller's own tenant and project: the doors to `stale` and `retention`, and the
//! past passes.

use axum::extract::State;
use holdpoint_db::{SweepSource, SweepStart};
use holdpoint_engine::ids::SweepId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Span;
use holdpoint_engine::wire::SweepKind;
use holdpoint_scheduler::Bounds;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::params::Params;
use crate::problem::{Answer, Code, Problem};
use crate::view;

/// The rows of a pass, where the caller names none.
const DEFAULT_LIMIT: i64 = 100;
/// The most rows of a pass.
const MAX_LIMIT: i64 = 1_000;

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StaleBody {
    timeout: Option<Span>,
    limit: Option<i64>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RetentionBody {
    limit: Option<i64>,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SweepList")]
struct List {
    sweeps: Vec<view::Sweep>,
}

/// `POST /v1/sweeps/stale`.
pub async fn stale(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let body: StaleBody = body.read_or_empty()?;
    let bounds = bounds(&body)?;
    let by = (SweepSource::Api, caller.key);
    sweep(&app, SweepKind::Stale, by, Some(caller.scope), body.dry_run, bounds).await
}

/// `POST /v1/sweeps/retention`.
pub async fn retention(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let body: RetentionBody = body.read_or_empty()?;
    let bounds = Bounds { limit: limit(body.limit)?, timeout: None };
    let by = (SweepSource::Api, caller.key);
    sweep(&app, SweepKind::Retention, by, Some(caller.scope), body.dry_run, bounds).await
}

fn bounds(body: &StaleBody) -> Answer<Bounds> {
    let invalid = |detail: String| Problem::new(Code::InvalidBody, detail);
    if body.timeout.is_some_and(|timeout| timeout.0.is_zero()) {
        return Err(invalid("`timeout`: it may be longer than 0".to_owned()));
    }
    Ok(Bounds { limit: limit(body.limit)?, timeout: body.timeout.map(|timeout| timeout.0) })
}

fn limit(asked: Option<i64>) -> Answer<Option<usize>> {
    let limit = asked.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        let detail = format!("`limit` is {limit}: it may be 1 to {MAX_LIMIT}");
        return Err(Problem::new(Code::InvalidBody, detail));
    }
    Ok(usize::try_from(limit).ok())
}

/// One pass, carried out here and now.
pub async fn sweep(
    app: &App,
    kind: SweepKind,
    (source, by): (SweepSource, String),
    scope: Option<Scope>,
    dry_run: bool,
    bounds: Bounds,
) -> Answer {
    let id = app.ids.make(SweepId::new);
    let start = SweepStart { id, kind, source, by, scope, dry_run };
    let report = app.sweeper.carry_out(start, bounds).await?;
    Ok(view::ok(&view::Report::new(id, report)))
}

/// `GET /v1/sweeps`: newest first; passes over every tenant are shown to each.
pub async fn list(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let limit = params.limit(50, 1_000)?;
    params.end()?;
    let scope = caller.scope;
    let rows = app.read(move |store| store.sweep_list(&scope, limit)).await?;
    Ok(view::ok(&List { sweeps: rows.into_iter().map(Into::into).collect() }))
}

/// What stale takes and answers.
pub fn stale_doc() -> Operation {
    Operation::new("sweep_stale", "Fails executions with an expired, undecided approval.")
        .optional_body::<StaleBody>()
        .answer::<view::Report>(200, "What the pass did.")
}

/// What retention takes and answers.
pub fn retention_doc() -> Operation {
    Operation::new("sweep_retention", "Removes finished executions that were kept long enough.")
        .optional_body::<RetentionBody>()
        .answer::<view::Report>(200, "What the pass did; what is left is the next one's.")
}

/// What list takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("sweep_list", "Past passes, newest first.")
        .query::<u32>("limit", "50 by default, 1000 at most.")
        .answer::<List>(200, "Those of this tenant and project, and those over every tenant.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_is_bounded() {
        let read = |text: &str| crate::body::read::<StaleBody>(text).and_then(|body| bounds(&body));
        assert_eq!(read("{}").expect("fine").limit, Some(100));
        assert_eq!(read("{\"limit\":1000,\"timeout\":\"1m\"}").expect("fine").limit, Some(1_000));
        for bad in [
            "{\"limit\":0}",
            "{\"limit\":1001}",
            "{\"limit\":-1}",
            "{\"timeout\":0}",
            "{\"timeout\":-5}",
            "{\"timeout\":\"0s\"}",
            "{\"dry\":true}",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

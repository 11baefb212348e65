//! `/v1/limits`: how much of what may run at a time, and begin in a span of time.

use axum::extract::State;
use axum::response::IntoResponse;
use holdpoint_db::{LIMITS_AGE, Limit, LimitKind, LimitRow, Rate, TENANT_LIMIT};
use holdpoint_engine::scope::check_name;
use holdpoint_engine::time::{Span, Timestamp};
use http::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::params::Segments;
use crate::problem::{Answer, Code, Problem};
use crate::view;

/// The most at a time, and that may wait.
const MOST: i64 = 1_000_000_000;
/// The most in a span of time: a longer span or a shorter one says the same.
const MOST_IN_SPAN: i64 = 1_000_000;
/// The longest span of a rate.
const LONGEST: Span = Span::secs(7 * 24 * 60 * 60);
/// The shortest span of a rate, in milliseconds.
const SHORTEST_MS: u128 = 100;

/// At most `count` in any span of time of the length `per`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LimitRate")]
struct RateBody {
    /// 1 to 1000000.
    count: i64,
    /// 100ms to 7d.
    per: Span,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LimitBody")]
struct Body {
    /// At most so many at a time: executions that a worker holds, calls that are under way.
    concurrency: Option<i64>,
    /// Of executions, those that begin count; of a tool, its calls.
    rate: Option<RateBody>,
    /// Of a tenant: at most so many that wait to be taken; starts beyond it are answered 429.
    backlog: Option<i64>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Limit")]
struct Shown {
    /// `tenant`, `agent`, `workflow` or `tool`.
    kind: &'static str,
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrency: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<RateBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backlog: Option<i64>,
    updated_by: String,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Limits")]
struct List {
    limits: Vec<Shown>,
}

impl From<LimitRow> for Shown {
    fn from(row: LimitRow) -> Self {
        let rate = row.limit.rate.map(|rate| RateBody { count: rate.count, per: Span(rate.per) });
        Self {
            kind: row.kind.as_str(),
            name: row.name,
            concurrency: row.limit.concurrency,
            rate,
            backlog: row.limit.backlog,
            updated_by: row.updated_by,
            updated_at: row.updated_at,
        }
    }
}

fn invalid(detail: String) -> Problem {
    Problem::new(Code::InvalidBody, detail)
}

fn within(field: &str, value: Option<i64>, most: i64) -> Answer<()> {
    match value {
        Some(value) if !(1..=most).contains(&value) => {
            Err(invalid(format!("`{field}` is {value}: it may be 1 to {most}")))
        }
        _ => Ok(()),
    }
}

impl Body {
    fn check(&self, kind: LimitKind) -> Answer<Limit> {
        within("concurrency", self.concurrency, MOST)?;
        within("backlog", self.backlog, MOST)?;
        if self.backlog.is_some() && kind != LimitKind::Tenant {
            return Err(invalid("`backlog` is for the kind `tenant`".to_owned()));
        }
        if self.concurrency.is_none() && self.rate.is_none() && self.backlog.is_none() {
            let detail = "name `concurrency`, `rate` or `backlog`; to limit nothing, delete the limit";
            return Err(invalid(detail.to_owned()));
        }
        let rate = self.rate.map(check_rate).transpose()?;
        Ok(Limit { concurrency: self.concurrency, rate, backlog: self.backlog })
    }
}

fn check_rate(RateBody { count, per }: RateBody) -> Answer<Rate> {
    within("rate.count", Some(count), MOST_IN_SPAN)?;
    if per.0.as_millis() < SHORTEST_MS || per > LONGEST {
        return Err(invalid(format!("`rate.per` is {per}: it may be 100ms to 7d")));
    }
    Ok(Rate { count, per: per.0 })
}

/// The kind and name of a path.
fn subject(kind: &str, name: &str) -> Answer<LimitKind> {
    let wrong = |detail: String| Problem::new(Code::InvalidParameter, detail);
    let shown: String = kind.chars().take(32).collect();
    let found = LimitKind::parse(kind)
        .ok_or_else(|| wrong(format!("`{shown}` is no kind: it may be tenant, agent, workflow or tool")))?;
    check_name(name).map_err(wrong)?;
    if found == LimitKind::Tenant && name != TENANT_LIMIT {
        return Err(wrong(format!("a tenant's limit has the name `{TENANT_LIMIT}`, not `{name}`")));
    }
    Ok(found)
}

fn none(kind: LimitKind, name: &str) -> Problem {
    Problem::not_found("limit", &format!("{}/{name}", kind.as_str()))
}

/// `GET /v1/limits`.
pub async fn list(State(app): Shared, caller: Caller) -> Answer {
    let rows = app.read(move |store| store.limit_list(&caller.scope)).await?;
    Ok(view::ok(&List { limits: rows.into_iter().map(Shown::from).collect() }))
}

/// `GET /v1/limits/{kind}/{name}`.
pub async fn get(
    State(app): Shared,
    caller: Caller,
    Segments((kind, name)): Segments<(String, String)>,
) -> Answer {
    let kind = subject(&kind, &name)?;
    let asked = name.clone();
    let row = app.read(move |store| store.limit_get(&caller.scope, kind, &asked)).await?;
    row.map(|row| view::ok(&Shown::from(row))).ok_or_else(|| none(kind, &name))
}

/// `PUT /v1/limits/{kind}/{name}`: answered once every process follows it.
pub async fn put(
    State(app): Shared,
    caller: Caller,
    Segments((kind, name)): Segments<(String, String)>,
    body: RawBody,
) -> Answer {
    let kind = subject(&kind, &name)?;
    let limit = body.read::<Body>()?.check(kind)?;
    let put =
        app.write(move |store| store.limit_put(&caller.scope, kind, &name, &limit, &caller.key)).await??;
    tokio::time::sleep(LIMITS_AGE).await;
    Ok(view::ok(&Shown::from(put)))
}

/// `DELETE /v1/limits/{kind}/{name}`.
pub async fn delete(
    State(app): Shared,
    caller: Caller,
    Segments((kind, name)): Segments<(String, String)>,
) -> Answer {
    let kind = subject(&kind, &name)?;
    let asked = name.clone();
    let gone = app.write(move |store| store.limit_delete(&caller.scope, kind, &asked, &caller.key)).await??;
    if gone { Ok(StatusCode::NO_CONTENT.into_response()) } else { Err(none(kind, &name)) }
}

/// What list answers.
pub fn list_doc() -> Operation {
    Operation::new("limits", "The limits of the project, and its tenant's own.")
        .answer::<List>(200, "By kind and name.")
}

/// What get answers.
pub fn get_doc() -> Operation {
    Operation::new(
        "limit_get",
        "One limit: of kind `tenant` (named `default`), `agent`, `workflow` or `tool`.",
    )
    .answer::<Shown>(200, "As it is set.")
    .problem(Code::InvalidParameter)
    .problem(Code::NotFound)
}

/// What put takes and answers.
pub fn put_doc() -> Operation {
    Operation::new(
        "limit_put",
        "Sets a limit: what is over it waits. Answered once every process follows it.",
    )
    .body::<Body>()
    .answer::<Shown>(200, "As it is set.")
    .problem(Code::InvalidParameter)
}

/// What delete answers.
pub fn delete_doc() -> Operation {
    Operation::new("limit_delete", "Removes a limit: what waited for it goes on.")
        .empty(204, "It is removed.")
        .problem(Code::InvalidParameter)
        .problem(Code::NotFound)
}

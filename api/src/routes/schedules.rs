//! `/v1/schedules`: what starts by itself, by a cron expression, at intervals, or so long
//! after the run before ended.

use std::collections::{BTreeMap, BTreeSet};

use axum::extract::State;
use axum::response::Response;
use holdpoint_db::{
    MAX_SCHEDULES, PutSchedule, ScheduleChange, ScheduleDocument, SchedulePut, ScheduleRemoved, ScheduleRow,
    Store, TimingDocument,
};
use holdpoint_engine::definition::builtin;
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::ScheduleId;
use holdpoint_engine::schedule::{CatchUp, CronTiming, check_interval};
use holdpoint_engine::scope::{Scope, check_name};
use holdpoint_engine::status::{DefinitionKind, Overlap};
use holdpoint_engine::time::Span;
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::start_body::StartBody;
use super::workflows::standings_of;
use super::{Shared, starting};
use crate::app::App;
use crate::auth::Caller;
use crate::body::{NoMembers, RawBody};
use crate::openapi::Operation;
use crate::params::{self, Params, Segments};
use crate::problem::{Answer, Code, Problem};
use crate::schedule_view::Shown;
use crate::view;

/// The time zone of a cron expression that names none.
const UTC: &str = "UTC";

/// A schedule: one of `agent` and `workflow`, and one of `cron`, `every` and `after`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ScheduleBody")]
struct Body {
    agent: Option<String>,
    workflow: Option<String>,
    /// A version; the latest at each tick if left out.
    version: Option<i32>,
    input: Option<Json>,
    /// Five fields (minute, hour, day of month, month, day of week), six with a second before
    /// them, or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    cron: Option<String>,
    /// An interval, from 1s to 366d.
    every: Option<Span>,
    /// So long after the run before ended, from 1s to 366d.
    after: Option<Span>,
    /// For `cron`: a name of the IANA database; `UTC` if left out.
    time_zone: Option<String>,
    /// What is done about a tick while the run before is active; `skip` if left out.
    overlap: Option<Overlap>,
    catch_up: Option<CatchUp>,
    /// Left out, a schedule that is there pauses or goes on as before.
    paused: Option<bool>,
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    metadata: Option<Json>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SchedulePage")]
struct Page {
    schedules: Vec<Shown>,
    next_cursor: Option<String>,
}

fn wrong(field: &str, message: impl std::fmt::Display) -> Problem {
    Problem::new(Code::InvalidBody, format!("`{field}`: {message}")).with("field", field)
}

fn missing(name: &str) -> Problem {
    Problem::not_found("schedule", name)
}

impl Body {
    fn timing(&self) -> Answer<TimingDocument> {
        let interval = |field: &str, length: Span| {
            check_interval(length.0).map(|()| length).map_err(|message| wrong(field, message))
        };
        let timing = match (&self.cron, self.every, self.after) {
            (Some(expression), None, None) => {
                let time_zone = self.time_zone.as_deref().unwrap_or(UTC);
                holdpoint_engine::schedule::parse_zone(time_zone)
                    .map_err(|message| wrong("time_zone", message))?;
                CronTiming::parse_new(expression, time_zone).map_err(|message| wrong("cron", message))?;
                TimingDocument::Cron { expression: expression.clone(), time_zone: time_zone.to_owned() }
            }
            (None, Some(every), None) => TimingDocument::Every(interval("every", every)?),
            (None, None, Some(after)) => TimingDocument::After(interval("after", after)?),
            _ => {
                return Err(Problem::new(
                    Code::InvalidBody,
                    "name exactly one of `cron`, `every` and `after`",
                ));
            }
        };
        self.fits(&timing)?;
        Ok(timing)
    }

    /// What is there must mean something.
    fn fits(&self, timing: &TimingDocument) -> Answer<()> {
        if self.time_zone.is_some() && !matches!(timing, TimingDocument::Cron { .. }) {
            return Err(wrong("time_zone", "it goes with `cron`"));
        }
        if matches!(timing, TimingDocument::After(_)) {
            if self.overlap.is_some_and(|overlap| overlap != Overlap::Skip) {
                return Err(wrong("overlap", "runs that follow each other never overlap: leave it out"));
            }
            if self.catch_up.is_some() {
                return Err(wrong("catch_up", "what follows a run's end is never missed: leave it out"));
            }
        }
        self.catch_up.unwrap_or_default().check().map_err(|message| wrong("catch_up", message))
    }

    fn document(self, app: &App, caller: &Caller) -> Answer<ScheduleDocument> {
        let timing = self.timing()?;
        let named = (self.agent, self.workflow, self.version);
        let start = StartBody::plain(named, self.input, self.metadata, self.labels);
        let start = start.check(app, caller, None, b"")?;
        Ok(ScheduleDocument {
            kind: start.kind,
            target: start.name,
            version: start.version,
            input: start.input,
            timing,
            overlap: self.overlap.unwrap_or(Overlap::Skip),
            catch_up: self.catch_up.unwrap_or_default(),
            metadata: start.metadata,
            labels: start.labels,
        })
    }
}

/// What it starts must be there when it is put.
async fn check_target(app: &App, caller: &Caller, document: &ScheduleDocument) -> Answer<()> {
    let ScheduleDocument { kind, target, version, .. } = document.clone();
    let known = match builtin(kind, &target) {
        Some(_) => version.is_none_or(|version| version == 1),
        None => {
            let (scope, name) = (caller.scope.clone(), target.clone());
            app.read(move |store| store.definition_get(&scope, kind, &name, version)).await?.is_some()
        }
    };
    if known {
        return check_input(app, caller, document).await;
    }
    let version = version.map_or(String::new(), |version| format!(" with version {version}"));
    Err(Problem::new(Code::UnknownDefinition, format!("there is no {kind} `{target}`{version}")))
}

/// A workflow that would refuse the input at each tick is not scheduled with it.
async fn check_input(app: &App, caller: &Caller, document: &ScheduleDocument) -> Answer<()> {
    let ScheduleDocument { kind, target, version, input, .. } = document;
    if *kind != DefinitionKind::Workflow {
        return Ok(());
    }
    // The schedule is for versions to come as well: the one in use now is looked up.
    let (scope, name) = (caller.scope.clone(), target.clone());
    let find = move |store: &dyn Store| store.definition_get(&scope, DefinitionKind::Workflow, &name, None);
    let latest = app.read(find).await?.map(|row| row.version);
    let check = starting::judge(app, &caller.scope, target, version.or(latest), input.as_deref()).await?;
    match check.and_then(|check| check.misfit) {
        Some(misfit) => Err(starting::misfit(&misfit)),
        None => Ok(()),
    }
}

/// Schedules as they are shown, beside how their workflows stand.
async fn shown(app: &App, scope: &Scope, rows: Vec<ScheduleRow>) -> Answer<Vec<Shown>> {
    let of_workflows = rows.iter().filter(|row| row.document.kind == DefinitionKind::Workflow);
    let names: BTreeSet<String> = of_workflows.map(|row| row.document.target.clone()).collect();
    let standings = standings_of(app, scope, names.into_iter().collect()).await?;
    let show = |row: ScheduleRow| {
        let standing = standings.get(&row.document.target);
        Shown::of(row, standing)
    };
    rows.into_iter().map(show).collect()
}

async fn shown_one(app: &App, scope: &Scope, row: ScheduleRow) -> Answer<Shown> {
    shown(app, scope, vec![row]).await?.pop().ok_or_else(Problem::internal)
}

/// `PUT /v1/schedules/{name}`: 201 for a new one, 200 for one that was there.
pub async fn put(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    check_name(&name).map_err(|message| wrong("name", message))?;
    let body: Body = body.read()?;
    let paused = body.paused;
    let document = body.document(&app, &caller)?;
    check_target(&app, &caller, &document).await?;
    let id = app.ids.make(ScheduleId::new);
    let put = PutSchedule { id, name: name.clone(), document, paused, by: caller.key };
    let scope = caller.scope.clone();
    let (status, row) = match app.write(move |store| store.schedule_put(&scope, &put)).await?? {
        SchedulePut::New(row) => (StatusCode::CREATED, row),
        SchedulePut::Changed(row) => (StatusCode::OK, row),
        SchedulePut::Full => {
            let detail = format!("a project has {MAX_SCHEDULES} schedules at most");
            return Err(Problem::limit(StatusCode::UNPROCESSABLE_ENTITY, "schedules", MAX_SCHEDULES, detail));
        }
    };
    let mut response = view::json(status, &shown_one(&app, &caller.scope, *row).await?);
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/schedules/{name}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    Ok(response)
}

/// `GET /v1/schedules/{name}`.
pub async fn get(State(app): Shared, caller: Caller, Segments(name): Segments<String>) -> Answer {
    let (scope, wanted) = (caller.scope.clone(), name.clone());
    let row = app.read(move |store| store.schedule_get(&scope, &wanted)).await?;
    Ok(view::ok(&shown_one(&app, &caller.scope, row.ok_or_else(|| missing(&name))?).await?))
}

/// `GET /v1/schedules`: by name.
pub async fn list(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let limit = params.limit(50, 1_000)?;
    let after = params.text("cursor");
    params.end()?;
    if let Some(after) = &after {
        let name = after.strip_prefix("workflow:").unwrap_or(after);
        check_name(name).map_err(|message| params::bad("cursor", message))?;
    }
    let scope = caller.scope.clone();
    let find = move |store: &dyn Store| store.schedule_list(&scope, after.as_deref(), limit + 1);
    let mut rows = app.read(find).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.key.name.clone());
    let schedules = shown(&app, &caller.scope, rows).await?;
    Ok(view::ok(&Page { schedules, next_cursor }))
}

/// `DELETE /v1/schedules/{name}`: its runs go on.
pub async fn delete(State(app): Shared, caller: Caller, Segments(name): Segments<String>) -> Answer {
    let wanted = name.clone();
    match app.write(move |store| store.schedule_delete(&caller.scope, &wanted, &caller.key)).await?? {
        ScheduleRemoved::Done => {
            let mut response = Response::default();
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        ScheduleRemoved::Missing => Err(missing(&name)),
        ScheduleRemoved::Owned => Err(Problem::new(
            Code::ScheduleOwned,
            "it goes with the workflow's `schedule`: register a version without one, or pause it",
        )),
    }
}

async fn change(app: &App, caller: Caller, name: String, body: RawBody, change: ScheduleChange) -> Answer {
    body.read_or_empty::<NoMembers>()?;
    let (scope, wanted) = (caller.scope.clone(), name.clone());
    let change = move |store: &dyn Store| store.schedule_change(&scope, &wanted, change, &caller.key);
    let row = app.write(change).await??;
    Ok(view::ok(&shown_one(app, &caller.scope, row.ok_or_else(|| missing(&name))?).await?))
}

/// `POST /v1/schedules/{name}/pause`.
pub async fn pause(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    change(&app, caller, name, body, ScheduleChange::Pause).await
}

/// `POST /v1/schedules/{name}/resume`.
pub async fn resume(
    State(app): Shared,
    caller: Caller,
    Segments(name): Segments<String>,
    body: RawBody,
) -> Answer {
    change(&app, caller, name, body, ScheduleChange::Resume).await
}

/// What put takes and answers.
pub fn put_doc() -> Operation {
    Operation::new(
        "schedule_put",
        "Makes a schedule, or changes it. Its next tick stays where it is unless its timing is another one.",
    )
    .body::<Body>()
    .answer::<Shown>(201, "There was none of that name.")
    .with_header("location")
    .answer::<Shown>(200, "As it stands now.")
    .with_header("location")
    .problem(Code::InvalidInput)
    .problem(Code::UnknownDefinition)
    .problem(Code::Limit)
}

/// What get answers.
pub fn get_doc() -> Operation {
    Operation::new("schedule_get", "One schedule, with its next ticks and what came of those before.")
        .answer::<Shown>(200, "As it stands now.")
}

/// What list takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("schedule_list", "The project's schedules, by name; those of workflows too.")
        .page("50 by default, 1000 at most.")
        .answer::<Page>(200, "A page.")
}

/// What delete answers.
pub fn delete_doc() -> Operation {
    Operation::new("schedule_delete", "Removes a schedule; its runs go on.")
        .empty(204, "It starts nothing more.")
        .problem(Code::ScheduleOwned)
}

/// What pause takes and answers.
pub fn pause_doc() -> Operation {
    Operation::new("schedule_pause", "It starts nothing until it is resumed; a tick that waits is dropped.")
        .optional_body::<NoMembers>()
        .answer::<Shown>(200, "As it stands now.")
}

/// What resume takes and answers.
pub fn resume_doc() -> Operation {
    Operation::new(
        "schedule_resume",
        "It goes on with the next tick; those of the pause are not made up for.",
    )
    .optional_body::<NoMembers>()
    .answer::<Shown>(200, "As it stands now.")
}

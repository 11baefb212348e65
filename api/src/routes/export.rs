//! `GET /v1/export/executions`: finished executions whole, one on each line, as they are read.
//!
//! A line is written from rows of one execution at a time, so that an export of any length takes
//! the memory of its longest line. The last line says that it is the last: an export that broke
//! off has none, and goes on behind the `cursor` of its last line.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures_util::stream::try_unfold;
use holdpoint_db::{ApprovalFilter, EventsRequest, ExportWalk, Place};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use http::{HeaderValue, header};
use serde::Serialize;
use serde_json::json;
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::approvals::MOST;
use super::retention::{SETTLED, settled};
use crate::app::App;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{self, Params};
use crate::problem::{Answer, Code, Problem};
use crate::steps::fold;
use crate::streams::{self, push_envelope};
use crate::view;

const MEDIA: &str = "application/x-ndjson";
/// Executions that are looked at in one statement.
const LOOKED_AT: usize = 500;
/// Events that are read in one statement.
const EVENTS: usize = 1_000;

/// An export under way.
struct Export {
    app: Arc<App>,
    caller: Caller,
    walk: ExportWalk,
    waiting: VecDeque<(Place, ExecutionKey)>,
    /// Whether there is more behind those that wait.
    more: bool,
    written: u64,
    ended: bool,
    _permit: OwnedSemaphorePermit,
}

/// The route.
pub async fn handle(State(app): Shared, caller: Caller, mut params: Params) -> Answer {
    let now = app.read(|store| store.now()).await?;
    let finished_before = match params.time("finished_before")? {
        Some(before) => before,
        None => Timestamp::from_micros(now.micros() - SETTLED.0.as_micros() as i64),
    };
    settled(finished_before, now).map_err(|why| params::bad("finished_before", why))?;
    let finished_after = params.time("finished_after")?;
    let place = params.cursor()?;
    params.end()?;
    let walk = ExportWalk { finished_after, finished_before, place, limit: LOOKED_AT };
    let permit = streams::permit(&app)?;
    let (waiting, more, written, ended) = (VecDeque::new(), true, 0, false);
    let export = Export { app, caller, walk, waiting, more, written, ended, _permit: permit };
    let lines = try_unfold(export, |mut export| async move {
        let line = export.next().await.map_err(broken_off)?;
        Ok::<_, std::io::Error>(line.map(|line| (line, export)))
    });
    let mut response = Body::from_stream(lines).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// The answer has begun: all that can be told is that it is not whole.
fn broken_off(problem: Problem) -> std::io::Error {
    tracing::warn!(code = problem.code().as_str(), detail = problem.detail(), "an export broke off");
    std::io::Error::other("the export broke off")
}

impl Export {
    /// The next line; `None` after the last one.
    async fn next(&mut self) -> Answer<Option<Bytes>> {
        if self.ended {
            return Ok(None);
        }
        loop {
            while let Some((place, key)) = self.waiting.pop_front() {
                if let Some(line) = self.line(place, key).await? {
                    self.written += 1;
                    return Ok(Some(line));
                }
            }
            if !self.more {
                self.ended = true;
                return Ok(Some(self.end()));
            }
            let (scope, walk) = (self.caller.scope.clone(), self.walk.clone());
            let walked = self.app.read(move |store| store.export_walk(&scope, &walk)).await?;
            self.more = walked.next.is_some();
            self.walk.place = walked.next.or(self.walk.place);
            self.waiting.extend(walked.finished);
        }
    }

    fn end(&self) -> Bytes {
        let end = json!({"end": {
            "executions": self.written,
            "finished_after": self.walk.finished_after,
            "finished_before": self.walk.finished_before,
        }});
        Bytes::from(format!("{end}\n"))
    }

    /// One execution; `None` where it is gone meanwhile, or not the caller's to see.
    async fn line(&self, place: Place, key: ExecutionKey) -> Answer<Option<Bytes>> {
        let (scope, id) = (key.scope.clone(), key.id);
        let read = move |store: &dyn holdpoint_db::Store| {
            let filter = ApprovalFilter { execution: Some(id), limit: MOST, ..ApprovalFilter::default() };
            let row = store.execution_get(&scope, id)?;
            Ok((row, store.journal_read(&scope, id)?, store.approval_list(&scope, &filter)?))
        };
        let (Some(row), Some(lines), approvals) = self.app.read(read).await? else { return Ok(None) };
        if !self.caller.sees(row.end_user.as_deref()) {
            return Ok(None);
        }
        let steps = fold(&lines).map_err(|error| {
            tracing::error!(%id, %error, "a journal cannot be read");
            Problem::internal()
        })?;
        let approvals: Vec<view::Approval> = approvals.into_iter().map(Into::into).collect();
        let mut text = String::from("{\"execution\":");
        push(&mut text, &view::Execution::from(row))?;
        text.push_str(",\"steps\":");
        push(&mut text, &steps)?;
        text.push_str(",\"approvals\":");
        push(&mut text, &approvals)?;
        text.push_str(",\"events\":[");
        self.push_events(&mut text, &key).await?;
        text.push_str("],\"cursor\":");
        push(&mut text, &params::cursor(place.0, place.1))?;
        text.push('}');
        // A payload may hold line ends between its JSON tokens.
        let mut line = text.replace(['\r', '\n'], " ");
        line.push('\n');
        Ok(Some(Bytes::from(line)))
    }

    async fn push_events(&self, text: &mut String, key: &ExecutionKey) -> Answer<()> {
        let mut after = 0;
        loop {
            let request = EventsRequest { key: key.clone(), after, limit: EVENTS };
            let pages = self.app.read(move |store| store.events_read(&[request])).await?;
            let lines = pages.into_iter().next().map(|page| page.lines).unwrap_or_default();
            let is_last = lines.len() < EVENTS;
            for (number, line) in lines.iter().filter_map(|line| Some((line.event?, line))) {
                if after > 0 {
                    text.push(',');
                }
                push_envelope(text, key.id, number, line);
                after = number;
            }
            if is_last {
                return Ok(());
            }
        }
    }
}

fn push(text: &mut String, value: &impl Serialize) -> Answer<()> {
    let written = serde_json::to_string(value).map_err(|error| {
        tracing::error!(%error, "a row cannot be written as JSON");
        Problem::internal()
    })?;
    text.push_str(&written);
    Ok(())
}

/// What it takes and answers.
pub fn doc() -> Operation {
    Operation::new("execution_export", "Finished executions whole, in the order in which they began.")
        .query::<Timestamp>("finished_before", "RFC 3339, at least a minute ago; a minute ago by default.")
        .query::<Timestamp>("finished_after", "Those that finished then or later; from the beginning by default.")
        .query::<String>("cursor", "That of the last line of an export that broke off, to go on behind it.")
        .other(
            200,
            MEDIA,
            "A line of JSON for each: `execution`, `steps`, `approvals`, `events`, `cursor`; the last line is `end`.",
        )
        .problem_with(http::StatusCode::SERVICE_UNAVAILABLE, Code::Limit)
}

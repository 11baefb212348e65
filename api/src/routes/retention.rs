//! `GET|PUT /v1/retention`: how long the project keeps finished executions.

use axum::extract::State;
use holdpoint_db::{Exported, Kept, RetentionRow, RetentionSettings};
use holdpoint_engine::time::{Span, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use crate::app::App;
use crate::auth::Caller;
use crate::body::RawBody;
use crate::openapi::Operation;
use crate::problem::{Answer, Code, Problem};
use crate::view;

/// The shortest time: what was just finished is still being read.
const SHORTEST: Span = Span::secs(60 * 60);
/// What may still be on its way into the database is no part of an export.
pub const SETTLED: Span = Span::secs(60);

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RetentionSettings")]
struct Body {
    /// So long after their end, such as `30d`, at least `1h`; `never`; null as the installation
    /// is configured.
    finished_after: Option<String>,
    /// Only what was exported goes.
    #[serde(default)]
    require_export: bool,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "ExportNote")]
struct Note {
    /// From when on it was exported; left out: from the beginning.
    finished_after: Option<Timestamp>,
    /// What had finished before then.
    finished_before: Timestamp,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Retention")]
struct View {
    /// What the project said: a time, `never`, or null for the installation's.
    finished_after: Option<String>,
    /// What holds: a time, or `never`.
    effective: String,
    require_export: bool,
    /// What had finished before then was exported.
    exported_before: Option<Timestamp>,
    updated_by: Option<String>,
    updated_at: Option<Timestamp>,
}

const NEVER: &str = "never";

impl View {
    fn new(app: &App, row: RetentionRow) -> Self {
        let said = match row.settings.kept {
            Kept::AsConfigured => None,
            Kept::For(length) => Some(Span(length).to_string()),
            Kept::Forever => Some(NEVER.to_owned()),
        };
        let configured = || app.sweeper.finished_kept().map(|length| Span(length).to_string());
        let effective = said.clone().or_else(configured).unwrap_or_else(|| NEVER.to_owned());
        let (updated_by, updated_at) = row.updated.unzip();
        Self {
            finished_after: said,
            effective,
            require_export: row.settings.require_export,
            exported_before: row.exported_before,
            updated_by,
            updated_at,
        }
    }
}

/// `GET`.
pub async fn get(State(app): Shared, caller: Caller) -> Answer {
    let row = app.read(move |store| store.retention_get(&caller.scope)).await?;
    Ok(view::ok(&View::new(&app, row)))
}

/// `PUT`.
pub async fn put(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let body: Body = body.read()?;
    let settings = RetentionSettings {
        kept: kept(body.finished_after.as_deref())?,
        require_export: body.require_export,
    };
    let row = app.write(move |store| store.retention_put(&caller.scope, settings, &caller.key)).await??;
    Ok(view::ok(&View::new(&app, row)))
}

fn kept(text: Option<&str>) -> Answer<Kept> {
    let invalid = |why: String| Problem::new(Code::InvalidBody, format!("`finished_after`: {why}"));
    match text {
        None => Ok(Kept::AsConfigured),
        Some(NEVER) => Ok(Kept::Forever),
        Some(text) => {
            let span = Span::parse(text).map_err(|why| invalid(format!("{why}, or `never`")))?;
            if span < SHORTEST {
                return Err(invalid(format!("`{text}` is shorter than {SHORTEST}, the shortest time")));
            }
            Ok(Kept::For(span.0))
        }
    }
}

/// `POST /v1/retention/exported`.
pub async fn exported(State(app): Shared, caller: Caller, body: RawBody) -> Answer {
    let Note { finished_after, finished_before } = body.read()?;
    let now = app.read(|store| store.now()).await?;
    settled(finished_before, now)
        .map_err(|why| Problem::new(Code::InvalidBody, format!("`finished_before`: {why}")))?;
    let (scope, by) = (caller.scope, caller.key);
    let noting = {
        let scope = scope.clone();
        move |store: &dyn holdpoint_db::Store| store.export_note(&scope, finished_after, finished_before, &by)
    };
    match app.write(noting).await?? {
        Exported::Noted(_) => {}
        Exported::Gap { exported_before } => {
            let known = exported_before
                .map_or_else(|| "nothing".to_owned(), |at| format!("what finished before {at}"));
            let detail = format!("{known} was exported: begin an export there");
            return Err(Problem::new(Code::ExportGap, detail)
                .with("exported_before", exported_before.map(|at| at.to_string())));
        }
    }
    let row = app.read(move |store| store.retention_get(&scope)).await?;
    Ok(view::ok(&View::new(&app, row)))
}

/// Whether everything that ended before then can be read by now.
pub fn settled(before: Timestamp, now: Timestamp) -> Result<(), String> {
    if before.until(now) < SETTLED.0 {
        return Err(format!("`{before}` is less than {SETTLED} ago: executions may still end before it"));
    }
    Ok(())
}

/// What get answers.
pub fn get_doc() -> Operation {
    Operation::new("retention_get", "How long the project keeps finished executions.")
        .answer::<View>(200, "As it is set, and what holds.")
}

/// What put takes and answers.
pub fn put_doc() -> Operation {
    Operation::new("retention_put", "Says how long the project keeps finished executions.")
        .body::<Body>()
        .answer::<View>(200, "It holds from the next pass of the sweep on.")
}

/// What exported takes and answers.
pub fn exported_doc() -> Operation {
    Operation::new("retention_exported", "Notes what was exported, and may go where exporting is required.")
        .body::<Note>()
        .answer::<View>(200, "Noted; what was noted before stays.")
        .problem(Code::ExportGap)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_time_is_an_hour_or_more() {
        assert_eq!(kept(None).expect("fine"), Kept::AsConfigured);
        assert_eq!(kept(Some("never")).expect("fine"), Kept::Forever);
        assert_eq!(kept(Some("30d")).expect("fine"), Kept::For(Duration::from_secs(30 * 86_400)));
        assert_eq!(kept(Some("3600")).expect("fine"), Kept::For(Duration::from_secs(3_600)));
        for bad in ["", "0", "59m", "-1d", "1w", "Never", "36501d"] {
            assert!(kept(Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_may_still_end_is_not_settled() {
        let now = Timestamp::from_micros(1_000_000_000);
        let ago = |micros: i64| Timestamp::from_micros(now.micros() - micros);
        assert!(settled(ago(60_000_000), now).is_ok());
        assert!(settled(ago(59_999_999), now).is_err());
        assert!(settled(ago(-1), now).is_err());
    }
}

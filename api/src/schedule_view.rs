//! A schedule as callers see it.

use std::collections::BTreeMap;

use holdpoint_db::{ScheduleDocument, ScheduleRow, TimingDocument, WorkflowRow};
use holdpoint_engine::definition::builtin;
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::{ExecutionId, ScheduleId};
use holdpoint_engine::schedule::CatchUp;
use holdpoint_engine::status::{DefinitionKind, Overlap, SkippedFor, WorkflowState};
use holdpoint_engine::time::{Span, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use crate::problem::Answer;
use crate::view::raw;

/// So many of the next ticks are shown.
const SHOWN_TICKS: usize = 5;

/// A schedule.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Schedule")]
pub struct Shown {
    name: String,
    /// Another schedule made under the same name has another.
    id: ScheduleId,
    kind: DefinitionKind,
    /// What it starts.
    definition: Target,
    /// For the schedule that a workflow's document brings: the version that did.
    owner_version: Option<i32>,
    input: Option<Json>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cron: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    time_zone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    every: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Span>,
    overlap: Overlap,
    catch_up: MadeUpFor,
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    metadata: Json,
    labels: BTreeMap<String, String>,
    paused: bool,
    paused_at: Option<Timestamp>,
    /// Why its ticks start nothing, whatever it is itself; none where they start runs.
    stopped: Option<Stopped>,
    /// The next five; fewer where nothing more is known of them, none where it is stopped.
    next_ticks: Vec<Timestamp>,
    /// A tick that waits for the end of the active run.
    waiting_tick: Option<Timestamp>,
    /// The run that is not over.
    active_execution_id: Option<ExecutionId>,
    /// The last tick that started something, and what.
    last_tick: Option<Timestamp>,
    last_execution_id: Option<ExecutionId>,
    /// Executions that it started.
    runs: i64,
    /// Ticks that came too late to be made up for.
    missed: i64,
    /// Ticks that started nothing.
    skipped: i64,
    /// The last of them, and why.
    last_skipped_tick: Option<Timestamp>,
    last_skipped_for: Option<SkippedFor>,
    created_by: String,
    created_at: Timestamp,
    updated_at: Timestamp,
}

/// What keeps a schedule's ticks from starting anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "ScheduleStopped")]
enum Stopped {
    /// The last run of its workflow failed for good: until the workflow's `resume`, or a new version.
    WorkflowFailed,
    /// Its workflow is paused.
    WorkflowPaused,
    /// Its workflow is in maintenance.
    WorkflowMaintenance,
    /// Its workflow is archived.
    WorkflowArchived,
    /// Its workflow was deleted.
    UnknownDefinition,
}

impl Stopped {
    fn of(document: &ScheduleDocument, standing: Option<&WorkflowRow>) -> Option<Self> {
        let registered =
            document.kind == DefinitionKind::Workflow && builtin(document.kind, &document.target).is_none();
        let Some(row) = standing.filter(|_| registered) else {
            return registered.then_some(Stopped::UnknownDefinition);
        };
        match row.state {
            WorkflowState::Active => row.schedule_stopped.then_some(Stopped::WorkflowFailed),
            WorkflowState::Paused => Some(Stopped::WorkflowPaused),
            WorkflowState::Maintenance => Some(Stopped::WorkflowMaintenance),
            WorkflowState::Archived => Some(Stopped::WorkflowArchived),
        }
    }
}

/// Which missed ticks are made up for.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduleCatchUp")]
struct MadeUpFor {
    /// How late a tick may be.
    window: Span,
    /// At most so many of them, the latest.
    limit: u32,
}

impl From<CatchUp> for MadeUpFor {
    fn from(CatchUp { window, limit }: CatchUp) -> Self {
        Self { window, limit }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ScheduleTarget")]
struct Target {
    name: String,
    /// None: the latest at each tick.
    version: Option<i32>,
}

impl Shown {
    /// A row as it is shown, beside how its workflow stands, if it is for one; one that cannot
    /// be read is a fault of ours.
    pub fn of(row: ScheduleRow, standing: Option<&WorkflowRow>) -> Answer<Self> {
        let stopped = Stopped::of(&row.document, standing);
        let next_ticks = if stopped.is_some() { Vec::new() } else { next_ticks(&row)? };
        let ScheduleDocument { kind, target, version, input, timing, overlap, catch_up, metadata, labels } =
            row.document;
        let (mut cron, mut time_zone, mut every, mut after) = (None, None, None, None);
        match timing {
            TimingDocument::Cron { expression, time_zone: zone } => {
                (cron, time_zone) = (Some(expression), Some(zone));
            }
            TimingDocument::Every(length) => every = Some(length),
            TimingDocument::After(length) => after = Some(length),
        }
        Ok(Self {
            name: row.key.name,
            id: row.id,
            kind,
            definition: Target { name: target, version },
            owner_version: row.owner,
            input: input.map(raw),
            cron,
            time_zone,
            every,
            after,
            overlap,
            catch_up: catch_up.into(),
            metadata: raw(metadata),
            labels,
            paused: row.paused_at.is_some(),
            paused_at: row.paused_at,
            stopped,
            next_ticks,
            waiting_tick: row.waiting_tick,
            active_execution_id: row.active,
            last_tick: row.last.map(|(tick, _)| tick),
            last_execution_id: row.last.map(|(_, id)| id),
            runs: row.runs,
            missed: row.missed,
            skipped: row.skipped,
            last_skipped_tick: row.last_skipped.map(|(tick, _)| tick),
            last_skipped_for: row.last_skipped.map(|(_, why)| why),
            created_by: row.created_by,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn next_ticks(row: &ScheduleRow) -> Answer<Vec<Timestamp>> {
    let Some(next) = row.next_tick else { return Ok(Vec::new()) };
    let timing = row.document.timing.timing(row.anchor)?;
    let mut ticks = vec![next];
    ticks.extend(timing.upcoming(next, SHOWN_TICKS - 1));
    Ok(ticks)
}

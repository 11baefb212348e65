//! What goes into and comes out of the verbs for schedules.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_engine::ids::{ExecutionId, ScheduleId};
use holdpoint_engine::schedule::{CatchUp, CronTiming, Timing};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Overlap, SkippedFor};
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::wire::ExecutionKey;
use serde::{Deserialize, Serialize};

use crate::types::{Acted, StoreError};

/// The most schedules of a project, those of its workflows not counted.
pub const MAX_SCHEDULES: usize = 1_000;

/// What a schedule starts, when, and how; checked by whoever took it in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScheduleDocument {
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// The definition's name.
    pub target: String,
    /// A version, or the latest at each tick.
    pub version: Option<i32>,
    /// The `input` as JSON.
    pub input: Option<String>,
    /// When.
    pub timing: TimingDocument,
    /// What is done about a tick while the run before is active.
    pub overlap: Overlap,
    /// Which late ticks are made up for.
    pub catch_up: CatchUp,
    /// A JSON object.
    pub metadata: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// When a schedule ticks, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimingDocument {
    /// By a cron expression.
    Cron {
        /// Five or six fields, or such as `@daily`.
        expression: String,
        /// An IANA name.
        time_zone: String,
    },
    /// At whole intervals.
    Every(Span),
    /// So long after the run before ended.
    After(Span),
}

impl TimingDocument {
    /// Made ready; `anchor` is where intervals begin.
    pub fn timing(&self, anchor: Timestamp) -> Result<Timing, StoreError> {
        Ok(match self {
            TimingDocument::Cron { expression, time_zone } => {
                let cron = CronTiming::parse(expression, time_zone);
                Timing::Cron(Box::new(cron.map_err(StoreError::Corrupt)?))
            }
            TimingDocument::Every(every) => Timing::Every { every: every.0, anchor },
            TimingDocument::After(after) => Timing::After(after.0),
        })
    }

    /// For `after`: how long.
    pub(crate) fn after(&self) -> Option<Duration> {
        match self {
            TimingDocument::After(after) => Some(after.0),
            _ => None,
        }
    }
}

/// A schedule to make or to change.
#[derive(Debug, Clone)]
pub struct PutSchedule {
    /// Its id, if there is none of that name.
    pub id: ScheduleId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub document: ScheduleDocument,
    /// Whether it pauses; `None` leaves that as it is.
    pub paused: Option<bool>,
    /// The key that puts it.
    pub by: String,
}

/// What became of a put.
#[derive(Debug, Clone)]
pub enum SchedulePut {
    /// There was none of that name.
    New(Box<ScheduleRow>),
    /// There was one; as it stands now.
    Changed(Box<ScheduleRow>),
    /// The project has [`MAX_SCHEDULES`].
    Full,
}

/// Where a schedule is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScheduleKey {
    /// Whose it is.
    pub scope: Scope,
    /// Its name.
    pub name: String,
}

/// A schedule as it stands.
#[derive(Debug, Clone)]
pub struct ScheduleRow {
    /// Where it is.
    pub key: ScheduleKey,
    /// Its id: another one made under the same name has another.
    pub id: ScheduleId,
    /// The version of the workflow that brings it, where one does.
    pub owner: Option<i32>,
    /// What it is.
    pub document: ScheduleDocument,
    /// Where its intervals begin.
    pub anchor: Timestamp,
    /// Since when it pauses.
    pub paused_at: Option<Timestamp>,
    /// When a pass looks at it.
    pub due_at: Option<Timestamp>,
    /// The next tick; none while it pauses or waits for a run's end.
    pub next_tick: Option<Timestamp>,
    /// A tick that waits for the end of the active run.
    pub waiting_tick: Option<Timestamp>,
    /// Its run that is not over.
    pub active: Option<ExecutionId>,
    /// The last tick that started something, and what.
    pub last: Option<(Timestamp, ExecutionId)>,
    /// Executions that it started.
    pub runs: i64,
    /// Ticks that came too late to be made up for.
    pub missed: i64,
    /// Ticks that started nothing.
    pub skipped: i64,
    /// The last of them, and why.
    pub last_skipped: Option<(Timestamp, SkippedFor)>,
    /// The key that put it last.
    pub created_by: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When somebody changed it last.
    pub updated_at: Timestamp,
}

/// What is done to a schedule that stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleChange {
    /// It starts nothing more; a tick that waits is dropped.
    Pause,
    /// It goes on with the next tick after now.
    Resume,
}

/// Whether a schedule was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScheduleRemoved {
    /// It was.
    Done,
    /// There is none of that name.
    Missing,
    /// A workflow brings it: it goes with the workflow, or with its next version.
    Owned,
}

/// What a pass did about a schedule.
#[derive(Debug, Clone)]
pub enum Ticked {
    /// It is not due any more, or somebody else is at it.
    Nothing,
    /// A tick, or more, was settled.
    Done {
        /// What was started.
        started: Option<ExecutionKey>,
        /// What was cancelled for it.
        cancelled: Option<(ExecutionKey, Acted)>,
        /// The next tick is due as well.
        is_due_again: bool,
    },
}

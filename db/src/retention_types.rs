//! What the store says and takes about how long finished executions are kept.

use std::time::Duration;

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

/// How long a project keeps finished executions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kept {
    /// As the installation does.
    #[default]
    AsConfigured,
    /// So long after their end.
    For(Duration),
    /// Whatever the installation does.
    Forever,
}

/// What a project says of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RetentionSettings {
    /// How long.
    pub kept: Kept,
    /// Whether only what was exported goes.
    pub require_export: bool,
}

/// A project's settings as they stand; the default where it never said any.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RetentionRow {
    /// What it says.
    pub settings: RetentionSettings,
    /// What had finished before then was exported.
    pub exported_before: Option<Timestamp>,
    /// Who changed it last, and when.
    pub updated: Option<(String, Timestamp)>,
}

/// What became of a note that something was exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exported {
    /// Noted, or known: everything that had finished before then was exported.
    Noted(Timestamp),
    /// Between what was exported before and this something is missing.
    Gap {
        /// As far as it was exported without one.
        exported_before: Option<Timestamp>,
    },
}

/// A place in a project's executions, oldest first.
pub type Place = (Timestamp, ExecutionId);

/// A project with executions that may have to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueScope {
    /// Whose.
    pub scope: Scope,
    /// What had finished by then goes.
    pub before: Timestamp,
    /// What classic runs had said by then goes; `None` where only what was exported may go, since an
    /// export has executions.
    pub said_before: Option<Timestamp>,
    /// Where the last pass stopped; `None` begins with the oldest.
    pub place: Option<Place>,
}

/// Projects whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Those that let something go.
    pub due: Vec<DueScope>,
    /// Whether all projects had their turn: the next one begins with the first again.
    pub is_last: bool,
}

/// Some of a project's executions, looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walked {
    /// Those that had finished by then, oldest first.
    pub finished: Vec<ExecutionKey>,
    /// Where to go on; `None` where there are no more.
    pub next: Option<Place>,
}

/// Executions that go together: a parent with its children and theirs, a run with those that
/// repeat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Family {
    /// All of them, in the order of their keys.
    pub members: Vec<ExecutionKey>,
    /// Their journals' lines together.
    pub lines: i64,
}

/// What an export asks for.
#[derive(Debug, Clone)]
pub struct ExportWalk {
    /// Those that finished then or later.
    pub finished_after: Option<Timestamp>,
    /// Those that finished before then.
    pub finished_before: Timestamp,
    /// Behind this one.
    pub place: Option<Place>,
    /// At most so many are looked at.
    pub limit: usize,
}

/// What an export found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportPage {
    /// Each with its place.
    pub finished: Vec<(Place, ExecutionKey)>,
    /// Where to go on; `None` where there are no more.
    pub next: Option<Place>,
}

//! What people and systems do to an execution, and what becomes of it.

use holdpoint_engine::ids::SessionId;
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::status::{Failure, Outcome, Status};
use holdpoint_engine::wire::ExecutionKey;

use crate::types::StoreError;

/// What a caller does to an execution.
#[derive(Debug, Clone)]
pub enum ActRequest {
    /// End it.
    Cancel,
    /// Hold it.
    Pause,
    /// Let it go on.
    Resume,
    /// Answer an unknown outcome.
    Resolve {
        /// The step.
        step: i32,
        /// What was found out.
        outcome: Outcome,
        /// What the tool answered, as JSON.
        result: Option<String>,
    },
    /// An event for it.
    Signal {
        /// The signal's name.
        name: String,
        /// The sender's id of it: one that came before changes nothing.
        id: Option<String>,
        /// A CloudEvent, as JSON.
        event: String,
        /// How many signals may come in all.
        limit: usize,
    },
    /// A worker elsewhere is done with a task.
    Report {
        /// The task's step.
        step: i32,
        /// The attempt that it was given; the last one if it names none.
        attempt: Option<u32>,
        /// What came of it, as JSON, or why it was not done.
        outcome: Result<String, Failure>,
    },
    /// A worker elsewhere is still at a task.
    Heartbeat {
        /// The task's step.
        step: i32,
        /// The attempt that it was given; the last one if it names none.
        attempt: Option<u32>,
    },
}

/// Whom to tell after an act was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Nobody.
    Nobody,
    /// It is ready: any worker.
    Workers,
    /// The session that holds it.
    Holder(SessionId),
}

/// An act that was taken.
#[derive(Debug, Clone)]
pub struct Acted {
    /// Where the execution stands now.
    pub status: Status,
    /// Its last event, if lines were written.
    pub new_event: Option<i64>,
    /// Whom to tell.
    pub tell: Tell,
    /// Whether it may have a parent or children that must hear of it.
    pub related: bool,
}

/// News of a child, as its parent took them.
#[derive(Debug, Clone)]
pub struct Relayed {
    /// The parent.
    pub parent: ExecutionKey,
    /// What became of it.
    pub acted: Acted,
}

/// Why an act was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ActError {
    /// No such row in this scope.
    #[error("no such execution")]
    NotFound,
    /// It is over.
    #[error("the execution is {0}")]
    Terminal(Status),
    /// It does not fit where the execution stands.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

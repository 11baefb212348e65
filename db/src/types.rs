//! What goes into the store and what comes out: domain types only, no Diesel type.

use holdpoint_engine::ids::KeyId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;

use crate::event_types::Backlog;

pub use crate::act_types::*;
pub use crate::approval_types::*;
pub use crate::lease_types::*;
pub use crate::read_types::*;
pub use crate::start_types::*;
pub use crate::sweep_types::*;

/// Why the store did not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not to be reached, timed out, serialization failure: the same call may succeed later.
    #[error("the database cannot be reached: {0}")]
    Unavailable(String),
    /// A row that makes no sense.
    #[error("a row makes no sense: {0}")]
    Corrupt(String),
    /// Anything else: a fault of ours.
    #[error("the database refused: {0}")]
    Refused(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, StoreError::Unavailable(_))
    }
}

/// A stored version of a definition.
#[derive(Debug, Clone)]
pub struct DefinitionRow {
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: i32,
    /// A workflow's version as its author wrote it.
    pub label: Option<String>,
    /// An agent's canonical document; a workflow's text as it was registered first.
    pub document: String,
    /// SHA-256 of the document in hex; of a workflow, of its value as JSON with sorted keys.
    pub digest: String,
    /// The key that put it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// An API key as it is stored: no secret.
#[derive(Debug, Clone)]
pub struct KeyRow {
    /// Its public id.
    pub id: KeyId,
    /// What it is good for.
    pub scope: Scope,
    /// `admin`, `submit`, `approve`, `read` or `agent`.
    pub role: String,
    /// For people.
    pub name: String,
    /// Whom it speaks for.
    pub end_user: Option<String>,
    /// Names by which approval policies find it.
    pub groups: Vec<String>,
    /// SHA-256 of the secret, in hex.
    pub secret_hash: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// What gauges show.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// Executions that are not terminal, by status and kind.
    pub executions: Vec<(Status, DefinitionKind, i64)>,
    /// Undecided approvals.
    pub approvals_pending: i64,
    /// When the oldest was opened.
    pub oldest_approval: Option<Timestamp>,
    /// Undecided approvals that expire within [`crate::EXPIRING`].
    pub approvals_expiring: i64,
    /// Ready executions that nobody has taken.
    pub ready: i64,
    /// Since when the oldest of them is ready.
    pub oldest_ready: Option<Timestamp>,
    /// Sessions of workers whose lease lasts.
    pub sessions: i64,
    /// Sweeps, and when each is due.
    pub ticks: Vec<(SweepKind, Timestamp)>,
    /// Workflows whose latest run needs a person.
    pub attention: i64,
    /// Events that wait for their delivery to a webhook.
    pub deliveries: i64,
    /// When the first of them is due.
    pub next_delivery: Option<Timestamp>,
    /// Executions under a lease.
    pub leased: i64,
    /// Parked messages.
    pub parked: i64,
    /// Events and replies that are still to be sent.
    pub outgoing: Vec<Backlog>,
    /// The database's time.
    pub now: Timestamp,
}

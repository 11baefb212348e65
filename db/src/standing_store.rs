//! The verbs for why an execution stands where it stands.

use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::scope::Scope;

use crate::standing_types::*;
use crate::store::StoreResult;

/// A part of [`Store`](crate::Store): whole transactions.
pub trait StandingStore: Send + Sync + 'static {
    /// What it waits for, or who holds it: row, lease, journal and what stands around it, from
    /// one snapshot; `None` where there is no such execution.
    fn execution_standing(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<Standing>>;
    /// Keeps what a worker says of itself. Nothing depends on it but what people are told.
    fn session_tell(&self, id: SessionId, about: &AboutWorker) -> StoreResult<()>;
}

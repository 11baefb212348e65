//! The verbs for what is kept, and for how long.

use std::time::Duration;

use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::retention_types::*;
use crate::store::StoreResult;

/// A part of [`Store`](crate::Store): whole transactions.
pub trait RetentionStore: Send + Sync + 'static {
    /// How long a project keeps what is finished.
    fn retention_get(&self, scope: &Scope) -> StoreResult<RetentionRow>;
    /// Changes it; the row after it.
    fn retention_put(
        &self,
        scope: &Scope,
        settings: RetentionSettings,
        by: &str,
    ) -> StoreResult<RetentionRow>;
    /// Notes that what finished from `after` (`None`: ever) to before `before` was exported.
    fn export_note(
        &self,
        scope: &Scope,
        after: Option<Timestamp>,
        before: Timestamp,
        by: &str,
    ) -> StoreResult<Exported>;
    /// Finished executions to export, in the order in which they began.
    fn export_walk(&self, scope: &Scope, walk: &ExportWalk) -> StoreResult<ExportPage>;

    /// The next projects, at most `limit` of them: each has its turn once until all had.
    /// `default` holds where a project said nothing; `None` keeps for ever.
    fn retention_turn(&self, default: Option<Duration>, limit: usize) -> StoreResult<Turn>;
    /// One project, where it lets anything go.
    fn retention_due(&self, scope: &Scope, default: Option<Duration>) -> StoreResult<Option<DueScope>>;
    /// Looks at the next executions from a place on, at most `limit`.
    fn retention_walk(&self, due: &DueScope, limit: usize) -> StoreResult<Walked>;
    /// Keeps the place for the next pass.
    fn retention_place(&self, scope: &Scope, place: Option<Place>) -> StoreResult<()>;
    /// The families of these executions that may go: all of a family had finished by then, and
    /// nothing that stays needs one of them.
    fn retention_families(&self, keys: &[ExecutionKey], before: Timestamp) -> StoreResult<Vec<Family>>;
    /// Removes families with all that is theirs, in one transaction; how many executions. A
    /// family of which somebody has one, or that has changed, is left.
    fn retention_remove(&self, families: &[Family], before: Timestamp) -> StoreResult<usize>;
    /// How many conversations of classic runs may have to go, counted up to `limit`.
    fn said_count(&self, due: &DueScope, limit: usize) -> StoreResult<usize>;
    /// Removes what classic runs said, in conversations that no execution is left of; how many
    /// conversations were looked at, at most `limit`, and how many went.
    fn said_remove(&self, due: &DueScope, limit: usize) -> StoreResult<(usize, usize)>;
    /// Removes records of passes that began longer than `kept` ago, at most `limit`; how many.
    fn sweeps_expire(&self, kept: Duration, limit: usize) -> StoreResult<usize>;
}

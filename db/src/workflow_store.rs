//! The verbs for what is around the runs of workflows.

use std::time::Duration;

use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::WorkflowState;
use holdpoint_engine::wire::ExecutionKey;

use crate::store::StoreResult;
use crate::types::Acted;
use crate::workflow_types::*;

/// A part of [`Store`](crate::Store): whole transactions.
pub trait WorkflowStore: Send + Sync + 'static {
    /// How a registered workflow stands; `None` for a name that is not in use.
    fn workflow_get(&self, scope: &Scope, name: &str) -> StoreResult<Option<WorkflowRow>>;
    /// How those of these that are in use stand, in no order.
    fn workflows_get(&self, scope: &Scope, names: &[String]) -> StoreResult<Vec<WorkflowRow>>;
    /// Changes its state; the row after it, `None` for a name that is not in use. From then on
    /// nothing is started but by the state's rules. `active` lets its schedule go on.
    fn workflow_state(
        &self,
        scope: &Scope,
        name: &str,
        state: WorkflowState,
        by: &str,
    ) -> StoreResult<Option<WorkflowRow>>;
    /// Its production runs that are not over, at most so many.
    fn workflow_active(&self, scope: &Scope, name: &str, limit: usize) -> StoreResult<Vec<ExecutionKey>>;
    /// Workflows that were held longer than `since` ago, and whose runs may not all have been told.
    fn workflows_ending(&self, since: Duration, limit: usize) -> StoreResult<Vec<HeldWorkflow>>;
    /// All runs of a held workflow were told.
    fn workflow_ended_runs(&self, held: &HeldWorkflow) -> StoreResult<()>;
    /// Ends a run because its workflow is held: at once where nobody has it, else at its next
    /// step. `None` where it is over.
    fn run_end_paused(&self, run: &ExecutionKey, by: &str) -> StoreResult<Option<Acted>>;
    /// Repeats a run that failed or was cancelled, from its journal; each attempt once: the same
    /// again is the same run.
    fn run_retry(&self, run: &ExecutionKey, by: &str, end_user: Option<&str>) -> StoreResult<Retried>;
    /// The workflows that need a person, and that nobody acknowledged: by name.
    fn attention_list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<AttentionRow>>;
    /// How many these are, up to [`ATTENTION_COUNTED`].
    fn attention_count(&self, scope: &Scope) -> StoreResult<usize>;
    /// Takes a workflow off that list until its next failure; `false` where it does not stand
    /// there.
    fn attention_acknowledge(&self, scope: &Scope, name: &str, by: &str) -> StoreResult<bool>;
}

//! The verbs for what is around the runs of workflows, on either database; see `sql_store.rs`.

use std::time::Duration;

use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::WorkflowState;
use holdpoint_engine::wire::ExecutionKey;

use crate::sql_store::SqlStore;
use crate::store::StoreResult;
use crate::types::Acted;
use crate::workflow_store::WorkflowStore;
use crate::workflow_types::*;
use crate::{run_retry, workflow_runs, workflow_states};

impl WorkflowStore for SqlStore {
    fn workflow_get(&self, scope: &Scope, name: &str) -> StoreResult<Option<WorkflowRow>> {
        self.read.with(|conn| workflow_states::workflow_get(conn, scope, name))
    }

    fn workflows_get(&self, scope: &Scope, names: &[String]) -> StoreResult<Vec<WorkflowRow>> {
        self.read.with(|conn| workflow_states::workflows_get(conn, scope, names))
    }

    fn workflow_state(
        &self,
        scope: &Scope,
        name: &str,
        state: WorkflowState,
        by: &str,
    ) -> StoreResult<Option<WorkflowRow>> {
        self.hot.write(|conn| workflow_states::workflow_state_in_txn(conn, scope, name, state, by))
    }

    fn workflow_active(&self, scope: &Scope, name: &str, limit: usize) -> StoreResult<Vec<ExecutionKey>> {
        self.read.with(|conn| workflow_states::workflow_active(conn, scope, name, limit))
    }

    fn workflows_ending(&self, since: Duration, limit: usize) -> StoreResult<Vec<HeldWorkflow>> {
        self.hot.with(|conn| workflow_states::workflows_ending(conn, since, limit))
    }

    fn workflow_ended_runs(&self, held: &HeldWorkflow) -> StoreResult<()> {
        self.hot.write(|conn| workflow_states::workflow_ended_runs(conn, held))
    }

    fn run_end_paused(&self, run: &ExecutionKey, by: &str) -> StoreResult<Option<Acted>> {
        self.hot.write(|conn| workflow_runs::run_end_paused_in_txn(conn, run, by))
    }

    fn run_retry(&self, run: &ExecutionKey, by: &str, end_user: Option<&str>) -> StoreResult<Retried> {
        self.hot.write(|conn| run_retry::run_retry_in_txn(conn, run, by, end_user))
    }

    fn attention_list(
        &self,
        scope: &Scope,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<AttentionRow>> {
        self.read.with(|conn| workflow_states::attention_list(conn, scope, after, limit))
    }

    fn attention_count(&self, scope: &Scope) -> StoreResult<usize> {
        self.read.with(|conn| workflow_states::attention_count(conn, scope))
    }

    fn attention_acknowledge(&self, scope: &Scope, name: &str, by: &str) -> StoreResult<bool> {
        self.hot.write(|conn| workflow_states::attention_acknowledge(conn, scope, name, by))
    }
}

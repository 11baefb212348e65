//! Workflows, as far as routes ask the store for them.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::WorkflowState;
use holdpoint_engine::wire::ExecutionKey;

use crate::rows::{Rows, not_here};

impl WorkflowStore for Rows {
    fn workflow_get(&self, _: &Scope, _: &str) -> StoreResult<Option<WorkflowRow>> {
        Ok(None)
    }

    fn workflows_get(&self, _: &Scope, _: &[String]) -> StoreResult<Vec<WorkflowRow>> {
        Ok(Vec::new())
    }

    fn workflow_state(
        &self,
        _: &Scope,
        _: &str,
        _: WorkflowState,
        _: &str,
    ) -> StoreResult<Option<WorkflowRow>> {
        Ok(None)
    }

    fn workflow_active(&self, _: &Scope, _: &str, _: usize) -> StoreResult<Vec<ExecutionKey>> {
        Ok(Vec::new())
    }

    fn workflows_ending(&self, _: Duration, _: usize) -> StoreResult<Vec<HeldWorkflow>> {
        Ok(Vec::new())
    }

    fn workflow_ended_runs(&self, _: &HeldWorkflow) -> StoreResult<()> {
        Ok(())
    }

    fn run_end_paused(&self, _: &ExecutionKey, _: &str) -> StoreResult<Option<Acted>> {
        not_here()
    }

    fn run_retry(&self, _: &ExecutionKey, _: &str, _: Option<&str>) -> StoreResult<Retried> {
        Ok(Retried::NotFound)
    }

    fn attention_list(&self, _: &Scope, _: Option<&str>, _: usize) -> StoreResult<Vec<AttentionRow>> {
        Ok(Vec::new())
    }

    fn attention_count(&self, _: &Scope) -> StoreResult<usize> {
        Ok(0)
    }

    fn attention_acknowledge(&self, _: &Scope, _: &str, _: &str) -> StoreResult<bool> {
        Ok(false)
    }
}

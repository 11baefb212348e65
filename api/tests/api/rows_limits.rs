//! Limits, as far as routes ask the store for them.

use holdpoint_db::*;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;

use crate::rows::{Rows, not_here};

impl LimitStore for Rows {
    fn limit_put(
        &self,
        scope: &Scope,
        kind: LimitKind,
        name: &str,
        limit: &Limit,
        by: &str,
    ) -> StoreResult<LimitRow> {
        let (name, updated_by, updated_at) = (name.to_owned(), by.to_owned(), self.now()?);
        let row = LimitRow { kind, name, limit: *limit, updated_by, updated_at };
        let mut state = self.here()?;
        state.limits.retain(|(of, known)| !(of == scope && known.kind == kind && known.name == row.name));
        state.limits.push((scope.clone(), row.clone()));
        Ok(row)
    }

    fn limit_get(&self, scope: &Scope, kind: LimitKind, name: &str) -> StoreResult<Option<LimitRow>> {
        Ok(self.limit_list(scope)?.into_iter().find(|row| row.kind == kind && row.name == name))
    }

    fn limit_list(&self, scope: &Scope) -> StoreResult<Vec<LimitRow>> {
        let state = self.here()?;
        Ok(state.limits.iter().filter(|(of, _)| of == scope).map(|(_, row)| row.clone()).collect())
    }

    fn limit_delete(&self, scope: &Scope, kind: LimitKind, name: &str, _: &str) -> StoreResult<bool> {
        let mut state = self.here()?;
        let before = state.limits.len();
        state.limits.retain(|(of, row)| !(of == scope && row.kind == kind && row.name == name));
        Ok(state.limits.len() < before)
    }

    fn backlog(&self, tenant: &str, _: i64) -> StoreResult<Waiting> {
        let state = self.here()?;
        let own =
            state.limits.iter().rev().find(|(of, row)| &*of.tenant == tenant && row.limit.backlog.is_some());
        Ok(Waiting { count: state.backlog, bound: own.and_then(|(_, row)| row.limit.backlog) })
    }

    fn look_again(&self) -> LookAgain {
        LookAgain::default()
    }

    fn limits_standing(&self, _: &ExecutionKey, _: Option<i64>) -> StoreResult<Vec<LimitStanding>> {
        self.here().map(|_| Vec::new())
    }

    fn tool_call_ask(&self, _: &ToolCall) -> StoreResult<ToolTurn> {
        not_here()
    }

    fn tool_call_done(&self, _: &ExecutionKey, _: i32) -> StoreResult<()> {
        not_here()
    }
}

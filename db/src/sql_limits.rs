//! The verbs for limits, on either database; see `sql_store.rs`.

use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;

use crate::limit_store::LimitStore;
use crate::limit_types::*;
use crate::sql_store::SqlStore;
use crate::store::StoreResult;
use crate::{limit_standing, limits, tool_calls};

impl LimitStore for SqlStore {
    fn limit_put(
        &self,
        scope: &Scope,
        kind: LimitKind,
        name: &str,
        limit: &Limit,
        by: &str,
    ) -> StoreResult<LimitRow> {
        let row = self.hot.write(|conn| limits::limit_put(conn, scope, (kind, name), limit, by))?;
        self.forget_limits();
        Ok(row)
    }

    fn limit_get(&self, scope: &Scope, kind: LimitKind, name: &str) -> StoreResult<Option<LimitRow>> {
        self.read.with(|conn| limits::limit_get(conn, scope, kind, name))
    }

    fn limit_list(&self, scope: &Scope) -> StoreResult<Vec<LimitRow>> {
        self.read.with(|conn| limits::limit_list(conn, scope))
    }

    fn limit_delete(&self, scope: &Scope, kind: LimitKind, name: &str, by: &str) -> StoreResult<bool> {
        let gone = self.hot.write(|conn| limits::limit_delete(conn, scope, (kind, name), by))?;
        self.forget_limits();
        Ok(gone)
    }

    fn backlog(&self, tenant: &str, most: i64) -> StoreResult<Waiting> {
        self.read.with(|conn| limit_standing::backlog(conn, tenant, most))
    }

    fn look_again(&self) -> LookAgain {
        self.hot.turns.look_again()
    }

    fn limits_standing(&self, key: &ExecutionKey, tenant: Option<i64>) -> StoreResult<Vec<LimitStanding>> {
        self.read.with(|conn| conn.snapshot(|conn| limit_standing::limits_standing(conn, key, tenant)))
    }

    fn tool_call_ask(&self, call: &ToolCall) -> StoreResult<ToolTurn> {
        self.hot.write(|conn| tool_calls::tool_call_ask_in_txn(conn, call))
    }

    fn tool_call_done(&self, key: &ExecutionKey, step: i32) -> StoreResult<()> {
        self.hot.with(|conn| tool_calls::tool_call_done(conn, key, step))
    }
}

impl SqlStore {
    fn forget_limits(&self) {
        self.hot.turns.limits.forget();
        self.read.turns.limits.forget();
    }
}

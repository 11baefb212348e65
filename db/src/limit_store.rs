//! The verbs for limits.

use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;

use crate::limit_types::*;
use crate::store::StoreResult;

/// A part of [`Store`](crate::Store): whole transactions. What limits hold is held by
/// [`execution_claim`](crate::Store::execution_claim).
pub trait LimitStore: Send + Sync + 'static {
    /// Puts a limit. Every process follows it within [`LIMITS_AGE`](crate::LIMITS_AGE).
    fn limit_put(
        &self,
        scope: &Scope,
        kind: LimitKind,
        name: &str,
        limit: &Limit,
        by: &str,
    ) -> StoreResult<LimitRow>;
    /// One limit.
    fn limit_get(&self, scope: &Scope, kind: LimitKind, name: &str) -> StoreResult<Option<LimitRow>>;
    /// Those of a project, and its tenant's own, by kind and name.
    fn limit_list(&self, scope: &Scope) -> StoreResult<Vec<LimitRow>>;
    /// Removes one; `false` where there is none.
    fn limit_delete(&self, scope: &Scope, kind: LimitKind, name: &str, by: &str) -> StoreResult<bool>;

    /// How many executions of the tenant wait to be taken, counted up to one more than `most`
    /// or than its own bound.
    fn backlog(&self, tenant: &str, most: i64) -> StoreResult<Waiting>;
    /// When to look again, as the last claim of this process saw it; asks no database.
    fn look_again(&self) -> LookAgain;
    /// The limits that an execution falls under, which is ready and not taken, and where they
    /// stand; `tenant` is the operator's limit for each tenant.
    fn limits_standing(&self, key: &ExecutionKey, tenant: Option<i64>) -> StoreResult<Vec<LimitStanding>>;

    /// Asks for a call's turn. What waits is asked again, in the order of the first asking.
    fn tool_call_ask(&self, call: &ToolCall) -> StoreResult<ToolTurn>;
    /// A call is over, or is not waited for any more. What is not told is found out: the call
    /// of an execution that its session holds no more is over.
    fn tool_call_done(&self, key: &ExecutionKey, step: i32) -> StoreResult<()>;
}

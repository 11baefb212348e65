//! `stale`: executions whose approval nobody decided in time fail as `approval_timeout`.

use holdpoint_db::{StoreResult, SweepReport, SweepSelect};

use super::Pass;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let timeout = pass.timeout;
    let expired = pass.select(SweepSelect::Stale { scope: pass.scope.clone(), timeout }).await?;
    pass.each(expired, move |store, key| store.stale_expire(key, timeout)).await
}

//! `stuck`: executions whose worker is gone are ready again, and those that are ready and
//! that nobody took are told of again, without limit: a hint may be lost.

use std::time::Duration;

use holdpoint_db::{StoreResult, SweepReport, SweepSelect, Unclaimed};

use super::Pass;

/// A ready execution that is older than this was overlooked, or the workers are full.
const OVERLOOKED: Duration = Duration::from_secs(5);

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let max_lost = pass.sweeper.settings.max_lost_leases;
    let lost = pass.select(SweepSelect::LeaseLost).await?;
    let reclaimed = pass.each(lost, move |store, key| store.lease_reclaim(key, max_lost)).await?;
    let overlooked = pass.select(SweepSelect::Unclaimed { since: OVERLOOKED, of: Unclaimed::Any }).await?;
    let emitted = pass.emit_again(overlooked).await;
    Ok(SweepReport {
        scanned: reclaimed.scanned + emitted.scanned,
        cleaned_up: reclaimed.cleaned_up + emitted.cleaned_up,
        failed: reclaimed.failed,
        skipped: reclaimed.skipped,
    })
}

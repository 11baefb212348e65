//! `retention`: what was kept long enough goes.

use holdpoint_db::{StoreResult, SweepReport};

use super::Pass;

/// Transactions of one pass: rows that are left are the next pass's.
const ROUNDS: usize = 100;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let mut report = SweepReport::default();
    if pass.dry_run {
        return Ok(report);
    }
    let (kept, limit) = (pass.sweeper.settings.commands_kept(), pass.limit);
    for _ in 0..ROUNDS {
        let removed = pass.sweeper.db.hot(move |store| store.commands_expire(kept, limit)).await??;
        report.scanned += removed as i64;
        report.cleaned_up += removed as i64;
        if removed < limit {
            break;
        }
    }
    Ok(report)
}

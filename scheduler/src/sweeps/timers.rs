//! `timers`: delayed starts and waits whose time has come are told of, and so are the news
//! between parents and children that nobody passed on. Test runs end whose time is over.

use std::time::Duration;

use holdpoint_db::{StoreResult, SweepReport, SweepSelect, Unclaimed};

use super::Pass;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let due = pass.select(SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Timers }).await?;
    let mut report = pass.emit_again(due).await;
    let (unrelayed, orphans) =
        (pass.select(SweepSelect::Unrelayed).await?, pass.select(SweepSelect::Orphans).await?);
    let limit = pass.limit;
    let late = pass.sweeper.db.hot(move |store| store.test_runs_late(limit)).await??;
    let ended = pass.each(late, |store, key| store.test_run_expire(key)).await?;
    report.scanned += (unrelayed.len() + orphans.len()) as i64 + ended.scanned;
    report.cleaned_up += ended.cleaned_up;
    report.failed += ended.failed;
    report.skipped += ended.skipped;
    if pass.dry_run {
        return Ok(report);
    }
    let relay = &pass.sweeper.relay;
    for child in unrelayed {
        let told = relay.up(child).await?;
        *(if told { &mut report.cleaned_up } else { &mut report.skipped }) += 1;
    }
    for orphan in orphans {
        relay.cancel(orphan).await?;
        report.cleaned_up += 1;
    }
    Ok(report)
}

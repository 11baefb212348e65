//! `timers`: delayed starts and waits whose time has come are told of, and so are the news
//! between parents and children that nobody passed on. Test runs end whose time is over, and
//! runs of workflows that were paused by a process that died meanwhile.

use std::time::Duration;

use holdpoint_db::{StoreResult, SweepReport, SweepSelect, Unclaimed};

use super::Pass;

/// Whoever pauses a workflow ends its runs; this much later, he is taken not to.
const LEFT: Duration = Duration::from_secs(5);

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let due = pass.select(SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Timers }).await?;
    let mut report = pass.emit_again(due).await;
    let (unrelayed, orphans) =
        (pass.select(SweepSelect::Unrelayed).await?, pass.select(SweepSelect::Orphans).await?);
    let limit = pass.limit;
    let late = pass.sweeper.db.hot(move |store| store.test_runs_late(limit)).await??;
    let ended = pass.each(late, |store, key| store.test_run_expire(key)).await?;
    let held = pass.sweeper.db.hot(move |store| store.workflows_ending(LEFT, limit)).await??;
    report.scanned += (unrelayed.len() + orphans.len() + held.len()) as i64 + ended.scanned;
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
    for workflow in held {
        let (told, all) = relay.end_runs(workflow).await?;
        report.cleaned_up += 1;
        if !all {
            pass.stop_short();
        }
        tracing::info!(told, "the runs of a held workflow were told to end");
    }
    Ok(report)
}

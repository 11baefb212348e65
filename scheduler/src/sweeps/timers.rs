//! `timers`: delayed starts and waits whose time has come are told of, and so are the news
//! between parents and children that nobody passed on.

use std::time::Duration;

use holdpoint_db::{StoreResult, SweepReport, SweepSelect, Unclaimed};

use super::Pass;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let due = pass.select(SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Timers }).await?;
    let mut report = pass.emit_again(due).await;
    let (unrelayed, orphans) =
        (pass.select(SweepSelect::Unrelayed).await?, pass.select(SweepSelect::Orphans).await?);
    report.scanned += (unrelayed.len() + orphans.len()) as i64;
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

//! `timers`: delayed starts and waits whose time has come are told of.

use std::time::Duration;

use holdpoint_db::{StoreResult, SweepReport, SweepSelect, Unclaimed};

use super::Pass;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let due = pass.select(SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Timers }).await?;
    Ok(pass.emit_again(due).await)
}

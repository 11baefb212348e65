//! `schedules`: ticks that are due start what they are for. Each is a transaction of its own;
//! one schedule's failure stops no other.

use holdpoint_db::{ScheduleKey, StoreResult, SweepReport, Ticked};
use holdpoint_engine::wire::{ExecutionKey, Message};
use holdpoint_queue::Route;

use super::Pass;

/// Ticks of one schedule in one pass; what is left is the next pass's.
const IN_A_ROW: usize = 10;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let limit = pass.limit;
    let due = pass.sweeper.db.hot(move |store| store.schedules_due(limit)).await??;
    let mut report = SweepReport { scanned: due.len() as i64, ..SweepReport::default() };
    if pass.dry_run {
        return Ok(report);
    }
    for key in due {
        match carry_out(pass, &key).await {
            Ok(true) => report.cleaned_up += 1,
            Ok(false) => report.skipped += 1,
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                report.failed += 1;
                tracing::error!(tenant = %key.scope.tenant, project = %key.scope.project,
                    schedule = key.name, %error, "a schedule's tick could not be carried out");
            }
        }
    }
    Ok(report)
}

/// What is due of one schedule; whether anything was.
async fn carry_out(pass: &Pass<'_>, key: &ScheduleKey) -> StoreResult<bool> {
    let mut any = false;
    for _ in 0..IN_A_ROW {
        let of = key.clone();
        let ticked = pass.sweeper.db.hot(move |store| store.schedule_tick(&of)).await??;
        let Ticked::Done { started, cancelled, is_due_again } = ticked else { break };
        any = true;
        tell(pass, key, started, cancelled).await;
        if !is_due_again {
            break;
        }
    }
    Ok(any)
}

async fn tell(
    pass: &Pass<'_>,
    key: &ScheduleKey,
    started: Option<ExecutionKey>,
    cancelled: Option<(ExecutionKey, holdpoint_db::Acted)>,
) {
    if let Some((old, acted)) = cancelled {
        let relay = &pass.sweeper.relay;
        relay.tell(old.clone(), &acted);
        if acted.related {
            relay.after(old, acted.status).await;
        }
    }
    if let Some(started) = &started {
        tracing::info!(tenant = %key.scope.tenant, project = %key.scope.project, schedule = key.name,
            execution = %started.id, "a schedule's tick started an execution");
    }
    pass.nudge(Route::Workers, started.into_iter().collect(), Message::Advance);
}

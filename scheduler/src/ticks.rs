//! Due ticks become commands.

use std::time::Duration;

use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::ids::SweepId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{Message, SweepKind};
use holdpoint_queue::{Outgoing, Route};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::Sweeper;

/// After this long without a pass, a tick's command is sent again, also where it was
/// confirmed: its worker may be gone.
const AGAIN: Duration = Duration::from_secs(10);

/// Emits due ticks as commands until it is stopped. As many schedulers as you like.
pub async fn run(sweeper: Sweeper, stop: CancellationToken) {
    if !sweeper.settings.enabled {
        return stop.cancelled().await;
    }
    let mut clock = tokio::time::interval(sweeper.settings.poll());
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut unsent = Vec::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = clock.tick() => unsent = emit_due(&sweeper, unsent).await,
        }
    }
}

/// Sends what could not be sent before, and what is due now; answers what could not be sent.
/// It does not grow: a tick that stays open has the same command, and stands here once.
async fn emit_due(sweeper: &Sweeper, unsent: Vec<Outgoing>) -> Vec<Outgoing> {
    let mut commands = unsent;
    for kind in SweepKind::ALL.iter().copied() {
        let again = AGAIN.max(sweeper.settings.period(kind));
        match sweeper.db.hot(move |store| store.tick_take(kind, again)).await {
            Ok(Ok(Some(due_at))) => {
                let command = command(kind, due_at);
                commands.retain(|other| other.id != command.id);
                commands.push(command);
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) | Err(error) => {
                tracing::warn!(kind = kind.as_str(), %error, "cannot look for due sweeps");
                break;
            }
        }
    }
    if commands.is_empty() {
        return commands;
    }
    let results = sweeper.queue.send(commands.clone()).await;
    let mut failed = Vec::new();
    for (command, result) in commands.into_iter().zip(results) {
        if let Err(error) = result {
            tracing::debug!(id = %command.id, %error, "a sweep was not sent; it will be sent again");
            failed.push(command);
        }
    }
    failed
}

/// A tick's pass has an id that follows from the tick: sent twice, it is the same pass.
fn command(kind: SweepKind, due_at: Timestamp) -> Outgoing {
    let place = SweepKind::ALL.iter().position(|known| *known == kind).unwrap_or(0) as u64;
    let seed = due_at.micros().unsigned_abs().wrapping_mul(16).wrapping_add(place);
    let id = SweepId::new(due_at, &mut Entropy::from_seed(seed));
    let message = Message::Sweep { kind, id };
    Outgoing::new(Route::Sweeps, message.kind(), id.to_string(), message.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_sent_twice_is_the_same_pass() {
        let due = Timestamp::from_micros(1_700_000_000_000_000);
        assert_eq!(command(SweepKind::Stale, due).id, command(SweepKind::Stale, due).id);
        assert_ne!(command(SweepKind::Stale, due).id, command(SweepKind::Stuck, due).id);
        let next = due.plus(Duration::from_secs(60));
        assert_ne!(command(SweepKind::Stale, due).id, command(SweepKind::Stale, next).id);
    }
}

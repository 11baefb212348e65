//! How a long-running process ends: the first SIGTERM or SIGINT asks its roles to stop, the
//! second ends it at once, and so does half a minute without an end.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The longest time from the first signal to the end of the process.
pub const LONGEST: Duration = Duration::from_secs(30);

/// A token that the first signal cancels.
pub fn token() -> anyhow::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let signals = Signals { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? };
    tokio::spawn(listen(signals, stop.clone()));
    Ok(stop)
}

struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

async fn listen(mut signals: Signals, stop: CancellationToken) {
    signals.next().await;
    tracing::info!("stopping: finishing what is under way (a second signal ends at once)");
    stop.cancel();
    tokio::select! {
        () = signals.next() => tracing::warn!("second signal: ending at once; leases run out by themselves"),
        () = tokio::time::sleep(LONGEST) => tracing::error!("did not end within 30 s: ending now"),
    }
    // What was held is taken over when its lease runs out: nothing is lost by leaving.
    std::process::exit(1);
}

//! Waiting for a condition, never for a time.

use std::future::Future;
use std::time::{Duration, Instant};

/// Long enough for anything that should happen soon on a machine that is busy with other things; a
/// test that waits so long has failed.
pub const SOON: Duration = Duration::from_secs(60);

/// Looks again and again until `look` finds something, and panics with `what` after
/// `deadline`. Between looks it pauses 5 to 50 ms.
pub async fn until<T, F, Look>(what: &str, deadline: Duration, mut look: F) -> T
where
    F: FnMut() -> Look,
    Look: Future<Output = Option<T>>,
{
    let begun = Instant::now();
    let mut pause = Duration::from_millis(5);
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// [`until`] for a condition that only is true or false.
pub async fn until_true<F: FnMut() -> bool>(what: &str, deadline: Duration, mut is_so: F) {
    until(what, deadline, || {
        let found = is_so().then_some(());
        async move { found }
    })
    .await;
}

/// [`until`] for tests without a runtime.
pub fn until_blocking<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

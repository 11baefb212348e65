//! What a worker says of itself beside its lease: for people who ask why something stands.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use holdpoint_db::AboutWorker;
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_queue::Link;

use crate::Worker;

/// The most names of secrets that a worker tells.
const MOST_SECRETS: usize = 10_000;

/// What was told last: a heartbeat writes nothing that stands there already.
#[derive(Default)]
pub(crate) struct Told(Mutex<Option<AboutWorker>>);

impl Told {
    /// Tells what has changed since. Nothing depends on it: a failure is tried again by the next
    /// heartbeat.
    pub async fn tell(&self, worker: &Worker, session: SessionId, clock_ahead_s: i64) {
        let about = about(worker, clock_ahead_s);
        let is_known = {
            let told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            told.as_ref() == Some(&about)
        };
        if is_known {
            return;
        }
        let telling = about.clone();
        match worker.db.hot(move |store| store.session_tell(session, &telling)).await {
            Ok(Ok(())) => *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(about),
            Ok(Err(error)) | Err(error) => {
                tracing::debug!(%error, "what the worker says of itself is not kept")
            }
        }
    }
}

fn about(worker: &Worker, clock_ahead_s: i64) -> AboutWorker {
    let names = worker.performer.secret_names();
    let count: usize = names.values().map(|names| names.len()).sum();
    AboutWorker {
        slots: worker.settings.slots,
        poll_ms: worker.settings.poll_ms,
        broker_up: *worker.queue.link().borrow() == Link::Up,
        clock_ahead_s,
        secrets: Some(names).filter(|_| count <= MOST_SECRETS),
    }
}

/// Whole seconds by which our clock is ahead of the database's, which was read between the two;
/// within them there is no difference.
pub(crate) fn ahead(theirs: Timestamp, before: Timestamp, after: Timestamp) -> i64 {
    let seconds = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    match (seconds(theirs.until(before)), seconds(after.until(theirs))) {
        (0, behind) => -behind,
        (ahead, _) => ahead,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_within_the_time_that_asking_took() {
        let at = |seconds: i64| Timestamp::from_micros(seconds * 1_000_000);
        assert_eq!(ahead(at(105), at(100), at(110)), 0);
        assert_eq!(ahead(at(90), at(100), at(110)), 10);
        assert_eq!(ahead(at(115), at(100), at(110)), -5);
    }
}

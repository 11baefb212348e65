//! What a consumer's task has received and its user has not taken yet.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::Delivery;

/// Filled by the task, emptied by the one user. Its size is bounded by the prefetch.
#[derive(Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    closed: bool,
}

impl Inbox {
    /// Adds what came, and wakes the user once.
    pub fn fill(&self, came: impl IntoIterator<Item = Delivery>) {
        self.lock().waiting.extend(came);
        self.changed.notify_one();
    }

    /// Takes back everything that the user has not seen.
    pub fn empty(&self) -> VecDeque<Delivery> {
        std::mem::take(&mut self.lock().waiting)
    }

    /// Nothing will come any more.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.waiting.clear();
        drop(state);
        self.changed.notify_one();
    }

    /// At least one and at most `most`; empty once closed. Cancelling it loses nothing.
    pub async fn take(&self, most: usize) -> Vec<Delivery> {
        loop {
            {
                let mut state = self.lock();
                let count = most.max(1).min(state.waiting.len());
                if count > 0 || state.closed {
                    return state.waiting.drain(..count).collect();
                }
            }
            self.changed.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! A gate that a test opens: how scripted servers are held at a point for as long as a test
//! wants, and how the test knows that they got there.

use std::sync::Arc;

use tokio::sync::watch;

use crate::poll::SOON;

/// Closed at first; whoever passes waits until it is opened, then all pass for ever.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    open: watch::Sender<bool>,
    arrived: watch::Sender<usize>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::closed()
    }
}

impl Gate {
    /// A closed gate.
    pub fn closed() -> Self {
        Self(Arc::new(Inner { open: watch::Sender::new(false), arrived: watch::Sender::new(0) }))
    }

    /// Lets all pass, now and later.
    pub fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Arrives and waits until the gate is open.
    pub async fn pass(&self) {
        self.0.arrived.send_modify(|count| *count += 1);
        let mut open = self.0.open.subscribe();
        // The sender lives as long as this gate does.
        let _ = open.wait_for(|open| *open).await;
    }

    /// How many have arrived, waiting or passed.
    pub fn arrived(&self) -> usize {
        *self.0.arrived.borrow()
    }

    /// Waits until at least so many have arrived; panics where they do not come [`SOON`].
    pub async fn wait_arrived(&self, count: usize) {
        let mut arrived = self.0.arrived.subscribe();
        let waited = tokio::time::timeout(SOON, arrived.wait_for(|now| *now >= count)).await;
        assert!(waited.is_ok(), "only {} of {count} arrived at a gate", self.arrived());
    }
}

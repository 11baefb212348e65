//! A call of a limited tool waits for its turn before anything of it leaves.
//!
//! It waits under its execution's lease, in the order in which calls asked, over the whole
//! cluster. What limits nothing is not asked about.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdpoint_db::{ToolCall, ToolTurn};

use crate::Worker;

/// A call that is counted under its tool's limits until this is dropped.
pub(crate) struct Turn(Option<(Arc<Worker>, ToolCall)>);

/// Between askings while the database cannot be reached.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until the call may begin; `None` where the worker leaves before. Who waits no more,
/// because the execution ended or the lease was lost, is no longer in line.
pub(crate) async fn wait(worker: &Arc<Worker>, call: ToolCall) -> Option<Turn> {
    if !worker.limited.load(Ordering::Relaxed) {
        return Some(Turn(None));
    }
    let turn = Turn(Some((Arc::clone(worker), call.clone())));
    let mut waits = false;
    loop {
        let ended = worker.call_ended.notified();
        let asked = call.clone();
        let after = match worker.db.hot(move |store| store.tool_call_ask(&asked)).await.and_then(|turn| turn)
        {
            Ok(ToolTurn::Free) if !waits => return Some(turn.given_up()),
            Ok(ToolTurn::Free | ToolTurn::Begun) => return Some(turn),
            Ok(ToolTurn::Waits { after }) => after,
            Err(error) => {
                tracing::warn!(%error, "a call's turn could not be asked for");
                PAUSE
            }
        };
        if !waits {
            worker.metrics.tool_waits.inc();
            tracing::debug!(tool = call.tool, "the call waits for its tool's limit");
        }
        waits = true;
        tokio::select! {
            () = worker.stop.cancelled() => return None,
            () = ended => {}
            () = tokio::time::sleep(after) => {}
        }
    }
}

impl Turn {
    /// It was never counted: there is nothing to take back.
    fn given_up(mut self) -> Self {
        self.0 = None;
        self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some((worker, call)) = self.0.take() else { return };
        // Without a runtime the process ends, and its session with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            let done = worker.db.hot(move |store| store.tool_call_done(&call.key, call.step)).await;
            if let Ok(Err(error)) | Err(error) = done {
                tracing::warn!(%error, "a call's end was not told to its tool's limit; it is found out");
            }
            worker.call_ended.notify_waiters();
        });
    }
}

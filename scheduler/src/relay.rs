//! News between an execution and those that it delegated to. Whoever committed something
//! that the other side must hear of calls this; what was lost on the way is found by the
//! sweep `timers`, with the same functions.

use std::sync::Arc;

use holdpoint_db::{
    ActError, ActRequest, Acted, Db, HeldWorkflow, RUNS_TOLD_AT_ONCE, Store, StoreResult, Tell,
};
use holdpoint_engine::digest::child_id;
use holdpoint_engine::status::Status;
use holdpoint_engine::team::MAX_DEPTH;
use holdpoint_engine::wire::{ExecutionKey, Message, NewEvents};
use holdpoint_queue::{Outgoing, Queue, Route};

/// Who cancels the children of an execution that is over.
const BY: &str = "holdpoint";

/// Carries news between parents and children; cheap to clone.
#[derive(Clone)]
pub struct Relay {
    db: Db,
    queue: Arc<dyn Queue>,
}

impl Relay {
    /// Over this store; hints go to this queue.
    pub fn new(db: Db, queue: Arc<dyn Queue>) -> Self {
        Self { db, queue }
    }

    /// After something of `key` was committed: its parent is told, and that one's parent; where
    /// it is over, its children are cancelled. What cannot be done now is left to the sweep.
    pub async fn after(&self, key: ExecutionKey, status: Status) {
        let told = self.up(key.clone()).await;
        let ended = if status.is_terminal() { self.down(key.clone()).await } else { Ok(()) };
        if let Err(error) = told.and(ended) {
            tracing::warn!(tenant = %key.scope.tenant, project = %key.scope.project, execution = %key.id,
                %error, "parents or children were not told; the sweep will");
        }
    }

    /// Tells the parents, as far up as there is news.
    pub async fn up(&self, mut child: ExecutionKey) -> StoreResult<bool> {
        let mut any = false;
        for _ in 0..=MAX_DEPTH {
            let from = child.clone();
            let Some(relayed) = self.db.hot(move |store| store.child_relay(&from)).await?? else {
                break;
            };
            any = true;
            self.tell(relayed.parent.clone(), &relayed.acted);
            child = relayed.parent;
        }
        Ok(any)
    }

    /// Cancels the children of one that is over, and theirs.
    pub async fn down(&self, parent: ExecutionKey) -> StoreResult<()> {
        let mut waiting = vec![parent];
        while let Some(parent) = waiting.pop() {
            let children = self.db.hot(move |store| store.children_open(&parent)).await??;
            for child in children {
                if self.cancel(child.clone()).await? {
                    waiting.push(child);
                }
            }
        }
        Ok(())
    }

    /// Cancels the children of steps that their execution goes on without, and theirs.
    pub async fn cancel_steps(&self, parent: &ExecutionKey, steps: &[i32]) -> StoreResult<()> {
        let parent = parent.clone();
        let meant: Vec<_> = steps.iter().map(|step| child_id(parent.id, *step)).collect();
        let open = self.db.hot(move |store| store.children_open(&parent)).await??;
        for child in open.into_iter().filter(|child| meant.contains(&child.id)) {
            if self.cancel(child.clone()).await? {
                self.down(child).await?;
            }
        }
        Ok(())
    }

    /// Tells runs of a held workflow that they end; how many, and whether those were all.
    pub(crate) async fn end_runs(&self, held: HeldWorkflow) -> StoreResult<(usize, bool)> {
        let of = held.clone();
        let find = move |store: &dyn Store| store.workflow_active(&of.scope, &of.name, RUNS_TOLD_AT_ONCE);
        let active = self.db.hot(find).await??;
        let told = active.len();
        for run in active {
            let (key, by) = (run.clone(), held.by.clone());
            let Some(acted) = self.db.hot(move |store| store.run_end_paused(&key, &by)).await?? else {
                continue;
            };
            self.tell(run.clone(), &acted);
            if acted.related {
                self.after(run, acted.status).await;
            }
        }
        let all = told < RUNS_TOLD_AT_ONCE;
        if all {
            self.db.hot(move |store| store.workflow_ended_runs(&held)).await??;
        }
        Ok((told, all))
    }

    /// Cancels one; whether it is over now. One that a worker holds ends by its hand.
    pub async fn cancel(&self, child: ExecutionKey) -> StoreResult<bool> {
        let (scope, id) = (child.scope.clone(), child.id);
        let act = move |store: &dyn Store| store.execution_act(&scope, id, &ActRequest::Cancel, BY, None);
        let over = match self.db.hot(act).await? {
            Ok(acted) => {
                self.tell(child.clone(), &acted);
                acted.status.is_terminal()
            }
            Err(ActError::Store(error)) => return Err(error),
            Err(ActError::Terminal(_) | ActError::NotFound | ActError::Refused(_)) => true,
        };
        if over {
            self.up(child).await?;
        }
        Ok(over)
    }

    /// Hints for whoever has to look, and for the streams.
    pub(crate) fn tell(&self, key: ExecutionKey, acted: &Acted) {
        match acted.tell {
            Tell::Nobody => {}
            Tell::Workers => self.nudge(Route::Workers, &Message::Advance(vec![key.clone()])),
            Tell::Holder(session) => self.nudge(Route::Holder(session), &Message::Wake(vec![key.clone()])),
        }
        if let Some(event) = acted.new_event {
            self.nudge(Route::Streams, &Message::Events(vec![NewEvents { key, event }]));
        }
    }

    fn nudge(&self, route: Route, message: &Message) {
        self.queue.nudge(Outgoing::new(route, message.kind(), "", message.encode()));
    }
}

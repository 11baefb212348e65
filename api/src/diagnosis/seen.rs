//! What the journal says, as far as it is still so.

use std::collections::BTreeMap;

use holdpoint_db::Standing;
use holdpoint_engine::entry::{
    ApprovalRequested, AttemptFailed, CorruptLine, Entry, OutcomeUnknown, QueueTerms,
};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::state::State;

/// A task that a worker elsewhere has.
#[derive(Debug, Clone)]
pub struct Elsewhere {
    pub since: Timestamp,
    pub due: Option<Timestamp>,
}

/// What the journal says, as far as it is still so; by step.
#[derive(Debug, Default)]
pub struct Seen {
    /// By the call too: the questions of a child are all of one step here.
    pub approvals: BTreeMap<(i32, String), ApprovalRequested>,
    pub retries: BTreeMap<i32, AttemptFailed>,
    pub unknown: BTreeMap<i32, OutcomeUnknown>,
    /// When the tool is asked next what became of a call.
    pub asked_next: BTreeMap<i32, Timestamp>,
    pub tools: BTreeMap<i32, String>,
    pub queues: BTreeMap<i32, QueueTerms>,
    pub elsewhere: BTreeMap<i32, Elsewhere>,
    pub children: BTreeMap<i32, ExecutionId>,
    pub under_way: BTreeMap<i32, (String, Timestamp)>,
    pub paused: Option<(String, Timestamp)>,
    /// Its workflow is held, by whom.
    pub ending: Option<String>,
    pub begun: Option<Timestamp>,
    pub cancelled_by: Option<String>,
    /// Where a workflow stands.
    pub flow: Option<State>,
}

impl Seen {
    pub fn of(standing: &Standing) -> Result<Self, CorruptLine> {
        let mut seen = Self::default();
        for line in &standing.lines {
            seen.apply(Entry::read(&line.kind, &line.payload)?, line.at);
        }
        Ok(seen)
    }

    fn apply(&mut self, entry: Entry, at: Timestamp) {
        let step = entry.step();
        // Whatever comes for a step, an attempt that was under way or waited for is over.
        self.under_way.remove(&step);
        match entry {
            Entry::ExecutionStarted(_) | Entry::ExecutionResumed(_) => self.begun = Some(at),
            Entry::ExecutionCancelled(body) => self.cancelled_by = body.by,
            Entry::PauseChanged(body) if body.ends => self.ending = Some(body.by),
            Entry::PauseChanged(body) => self.paused = body.paused.then_some((body.by, at)),
            Entry::ModelCalled(_) | Entry::ModelRestarted(_) => {
                self.begin(step, "the model call".to_owned(), at)
            }
            Entry::ToolsListing(body) => {
                self.begin(step, format!("asking `{}` for its tools", body.tool), at)
            }
            Entry::ToolCalled(body) => {
                self.begin(step, format!("the call of `{}`", body.tool), at);
                self.tools.insert(step, body.tool);
                self.queues.extend(body.queue.map(|terms| (step, terms)));
            }
            Entry::AttemptFailed(body) => {
                self.elsewhere.remove(&step);
                self.retries.insert(step, body);
            }
            Entry::OutcomeUnknown(body) => {
                self.elsewhere.remove(&step);
                self.unknown.insert(step, body);
            }
            Entry::OutcomeAsked(body) => {
                self.asked_next.remove(&step);
                self.asked_next.extend(body.next_at.map(|at| (step, at)));
            }
            Entry::OutcomeResolved(_) => self.forget(step),
            Entry::ApprovalRequested(body) => {
                self.approvals.insert((step, body.tool_call_id.clone()), body);
            }
            Entry::ApprovalDecided(body) => drop(self.approvals.remove(&(step, body.tool_call_id))),
            Entry::ApprovalClosed(body) => drop(self.approvals.remove(&(step, body.tool_call_id))),
            Entry::TaskPublished(body) => {
                self.elsewhere.insert(step, Elsewhere { since: at, due: body.due });
            }
            Entry::TaskHeartbeat(body) => {
                if let Some(task) = self.elsewhere.get_mut(&step) {
                    task.due = body.due;
                }
            }
            Entry::Delegated(body) => drop(self.children.insert(step, body.child)),
            Entry::FlowState(body) => self.flow = Some(body.state),
            Entry::ToolCompleted(_)
            | Entry::ToolFailed(_)
            | Entry::ToolDenied(_)
            | Entry::StepCompleted(_)
            | Entry::TaskFailed(_)
            | Entry::TaskCancelled(_) => self.forget(step),
            _ => {}
        }
    }

    fn begin(&mut self, step: i32, what: String, at: Timestamp) {
        self.forget(step);
        self.under_way.insert(step, (what, at));
    }

    /// The step goes on or is over: nothing is waited for.
    fn forget(&mut self, step: i32) {
        self.retries.remove(&step);
        self.unknown.remove(&step);
        self.asked_next.remove(&step);
        self.elsewhere.remove(&step);
        self.children.remove(&step);
    }
}

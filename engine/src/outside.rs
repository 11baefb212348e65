//! What callers and sweeps do to an execution, as journal lines. The same functions serve
//! the worker that holds it and the transaction that finds it unheld.

use serde::Deserialize;
use serde_json::Value;

use crate::effect::{Act, ChildEnded};
use crate::entry::{
    ApprovalClosed, ApprovalDecided, ApprovalRequested, Entry, ExecutionCancelled, ExecutionFailed,
    ExecutionSuspended, OutcomeResolved, PauseChanged, SignalReceived, ToolCompleted, ToolFailed,
};
use crate::policy::{BY_TIMEOUT, NOBODY_DECIDED};
use crate::run::{Run, StepState};
use crate::status::{ApprovalStatus, Failure, Outcome, Reason};
use crate::tasks;
use crate::time::Timestamp;

/// Why an act is refused; the execution is as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The step's outcome is not unknown.
    #[error("step {step} has no unknown outcome")]
    NotUnknown {
        /// Which.
        step: i32,
    },
    /// The call could still be under way.
    #[error("the call of step {step} may still be under way until {settled_at}")]
    NotSettled {
        /// Which.
        step: i32,
        /// From when on it cannot be.
        settled_at: Timestamp,
    },
    /// As many signals came as may.
    #[error("the limit signals is {limit}; as many came")]
    TooManySignals {
        /// How many may come.
        limit: usize,
    },
    /// The step is none that a worker elsewhere carries out.
    #[error("step {step} is no task of a queue")]
    NoTask {
        /// Which.
        step: i32,
    },
    /// Another signal came under its id before.
    #[error("another signal, `{name}`, came with this id, or the same with other data")]
    SignalMismatch {
        /// The name of that one.
        name: String,
    },
    /// The report was taken before: nothing is wrong.
    #[error("attempt {attempt} of step {step} was reported so before")]
    TaskDone {
        /// Which.
        step: i32,
        /// Which attempt.
        attempt: u32,
    },
    /// Another report was taken before, or the attempt is over.
    #[error("step {step} is not open to this report: attempt {attempt} was the last, and it may be over")]
    TaskConflict {
        /// Which.
        step: i32,
        /// The attempt that was given out last.
        attempt: u32,
    },
}

/// Whether a signal may be taken: one that came before always may; another one under its id never.
pub fn check_signal(run: &Run, signal: &SignalReceived, limit: usize) -> Result<(), Refusal> {
    match known(run, signal) {
        Some(before) if is_same(before, signal) => Ok(()),
        Some(before) => Err(Refusal::SignalMismatch { name: before.name.clone() }),
        None if run.signals.len() < limit => Ok(()),
        None => Err(Refusal::TooManySignals { limit }),
    }
}

/// What a signal says; when, and by which number of ours, is no part of that.
#[derive(PartialEq, Deserialize)]
struct Said {
    data: Option<Value>,
    data_base64: Option<Value>,
}

fn is_same(one: &SignalReceived, other: &SignalReceived) -> bool {
    let said = |signal: &SignalReceived| serde_json::from_str::<Said>(signal.event.get()).ok();
    one.name == other.name && said(one) == said(other)
}

/// Whether a resolution may be taken now.
pub fn check_resolve(run: &Run, resolved: &OutcomeResolved, now: Timestamp) -> Result<(), Refusal> {
    let step = resolved.step;
    match run.steps.get(&step).map(|step| &step.state) {
        Some(StepState::Unknown { settled_at })
            if resolved.outcome == Outcome::DidNotHappen && now < *settled_at =>
        {
            Err(Refusal::NotSettled { step, settled_at: *settled_at })
        }
        Some(StepState::Unknown { .. }) => Ok(()),
        _ => Err(Refusal::NotUnknown { step }),
    }
}

/// The lines of an act. An act that no longer fits (the same decision twice, a resolution
/// of what was resolved) has none: what was accepted first stands.
pub fn act(run: &Run, act: &Act) -> Vec<Entry> {
    match act {
        Act::Decided(decided) => {
            let asking = run.steps.get(&decided.step).is_some_and(|step| step.state == StepState::Asking);
            if asking { vec![Entry::ApprovalDecided(decided.clone())] } else { Vec::new() }
        }
        Act::Cancel { by } => cancel(run, by),
        Act::Pause { by } => pause_changed(run, true, by),
        Act::Resume { by } => pause_changed(run, false, by),
        Act::EndPaused { by } if run.calling().next().is_none() => end_paused(run, by),
        Act::EndPaused { by } if run.ending.is_none() => {
            vec![Entry::PauseChanged(PauseChanged { paused: true, by: by.clone(), ends: true })]
        }
        Act::EndPaused { .. } => Vec::new(),
        Act::Deadline => fail(run, Reason::Deadline, "its time was over before it was"),
        Act::Resolve(resolved) => resolve(run, resolved),
        Act::ChildAsked(asked) if awaits_child(run, asked.step) => {
            vec![Entry::ApprovalRequested(ApprovalRequested::clone(asked))]
        }
        Act::ChildDecided(decided) if run.children_ask.contains_key(&decided.tool_call_id) => {
            vec![Entry::ApprovalDecided(decided.clone())]
        }
        Act::ChildClosed(closed) if run.children_ask.contains_key(&closed.tool_call_id) => {
            vec![Entry::ApprovalClosed(closed.clone())]
        }
        Act::ChildEnded(ended) => child_ended(run, ended),
        Act::ChildAsked(_) | Act::ChildDecided(_) | Act::ChildClosed(_) => Vec::new(),
        Act::Signal(signal) => signal_received(run, signal),
        Act::TaskReported(report) => tasks::reported(run, report),
        Act::TaskHeartbeat { step, attempt, at } => tasks::heartbeat(run, *step, *attempt, *at),
    }
}

/// A signal that was sent again under its id is the one that came.
fn signal_received(run: &Run, signal: &SignalReceived) -> Vec<Entry> {
    if known(run, signal).is_some() { Vec::new() } else { vec![Entry::SignalReceived(signal.clone())] }
}

/// The one that came before under its id.
fn known<'r>(run: &'r Run, signal: &SignalReceived) -> Option<&'r SignalReceived> {
    let id = signal.id.as_ref()?;
    run.signals.iter().find(|other| other.id.as_ref() == Some(id))
}

/// A child may be quicker than the line that names it, and its news may find the attempt
/// that started it cut short.
fn awaits_child(run: &Run, step: i32) -> bool {
    run.steps.get(&step).is_some_and(|step| step.attempt > 0 && !step.is_done())
}

/// The child's end is its parent's result.
fn child_ended(run: &Run, ended: &ChildEnded) -> Vec<Entry> {
    let step = ended.step;
    let tool = run.steps.get(&step).and_then(|found| found.tool());
    let Some(tool) = tool.filter(|_| awaits_child(run, step)) else {
        return Vec::new();
    };
    let (tool_call_id, tool) = (tool.call_id.clone(), tool.tool.clone());
    vec![match &ended.error {
        Some(error) => Entry::ToolFailed(ToolFailed { step, tool_call_id, tool, error: error.clone() }),
        None => {
            let output = ended.output.clone().unwrap_or_else(|| crate::json(&Value::Null));
            Entry::ToolCompleted(ToolCompleted { step, tool_call_id, tool, output })
        }
    }]
}

/// The lines of a pause that takes effect at once, because nothing is under way.
pub fn suspend_paused() -> Entry {
    Entry::ExecutionSuspended(ExecutionSuspended {
        reason: Reason::Paused,
        until: None,
        tool_call_ids: Vec::new(),
        steps: Vec::new(),
    })
}

/// What an execution waits for while only its children are at work, told anew when they ask
/// or were answered.
pub fn suspend_for_children(run: &Run) -> ExecutionSuspended {
    let asked = !run.children_ask.is_empty();
    ExecutionSuspended {
        reason: if asked { Reason::Approval } else { Reason::Signal },
        until: None,
        tool_call_ids: run.children_ask.keys().cloned().collect(),
        steps: run.children().map(|(step, _)| step).collect(),
    }
}

fn pause_changed(run: &Run, paused: bool, by: &str) -> Vec<Entry> {
    if run.paused == paused || run.ending.is_some() {
        return Vec::new();
    }
    vec![Entry::PauseChanged(PauseChanged { paused, by: by.to_owned(), ends: false })]
}

fn cancel(run: &Run, by: &str) -> Vec<Entry> {
    cancelled(run, Reason::Cancelled, by)
}

/// The end of a run whose workflow is held.
pub fn end_paused(run: &Run, by: &str) -> Vec<Entry> {
    cancelled(run, Reason::Paused, by)
}

fn cancelled(run: &Run, reason: Reason, by: &str) -> Vec<Entry> {
    let mut entries = close_approvals(run, ApprovalStatus::Cancelled);
    entries.push(Entry::ExecutionCancelled(ExecutionCancelled { reason, by: Some(by.to_owned()) }));
    entries
}

fn resolve(run: &Run, resolved: &OutcomeResolved) -> Vec<Entry> {
    let Some(step) = run.steps.get(&resolved.step) else {
        return Vec::new();
    };
    let (StepState::Unknown { .. }, Some(tool)) = (&step.state, step.tool()) else {
        return Vec::new();
    };
    let mut entries = vec![Entry::OutcomeResolved(resolved.clone())];
    if resolved.outcome == Outcome::Happened {
        let unknown_result = || crate::json(&serde_json::json!({"outcome": "happened"}));
        entries.push(Entry::ToolCompleted(ToolCompleted {
            step: resolved.step,
            tool_call_id: tool.call_id.clone(),
            tool: tool.tool.clone(),
            output: resolved.result.clone().unwrap_or_else(unknown_result),
        }));
    }
    entries
}

/// The undecided approvals of an execution that ends are closed with it.
pub fn close_approvals(run: &Run, status: ApprovalStatus) -> Vec<Entry> {
    let own = run.asking().map(|(step, tool)| ApprovalClosed {
        step,
        tool_call_id: tool.call_id.clone(),
        tool: tool.tool.clone(),
        status,
        delegated_by: None,
    });
    let of_children = run.children_ask.iter().map(|(call, asks)| ApprovalClosed {
        step: asks.step,
        tool_call_id: call.clone(),
        tool: asks.tool.clone(),
        status,
        delegated_by: Some(asks.by.clone()),
    });
    own.chain(of_children).map(Entry::ApprovalClosed).collect()
}

/// A question that is open.
#[derive(Debug, Clone)]
pub struct Asked<'a> {
    /// The step.
    pub step: i32,
    /// The call.
    pub call_id: &'a str,
    /// The tool.
    pub tool: &'a str,
    /// Of its arguments.
    pub digest: String,
}

/// The denial of a question that nobody answered, where its policy says so.
pub fn nobody_decided(asked: Asked<'_>, now: Timestamp) -> ApprovalDecided {
    ApprovalDecided {
        step: asked.step,
        tool_call_id: asked.call_id.to_owned(),
        tool: asked.tool.to_owned(),
        approved: false,
        reason: Some(NOBODY_DECIDED.to_owned()),
        arguments_text: None,
        digest: asked.digest,
        decided_by: BY_TIMEOUT.to_owned(),
        decided_at: now,
        delegated_by: None,
    }
}

/// The end of an execution with an error, its approvals closed before.
pub fn fail(run: &Run, reason: Reason, message: impl Into<String>) -> Vec<Entry> {
    let status =
        if reason == Reason::ApprovalTimeout { ApprovalStatus::Expired } else { ApprovalStatus::Cancelled };
    let mut entries = close_approvals(run, status);
    entries.push(Entry::ExecutionFailed(ExecutionFailed {
        reason,
        error: Failure::new(reason.error_type(), message),
    }));
    entries
}

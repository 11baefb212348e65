//! A run that repeats a failed one goes on from its journal: what is finished is taken over,
//! what nobody knows stays unknown, and what failed is performed again, as the same step and
//! under the same key.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{AttemptInterrupted, CorruptLine, Entry, FlowState, Line};
use crate::run::{Run, Step, StepState};
use crate::status::Reason;

/// What becomes of a step's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is finished, or nobody knows: it stays as it is.
    Kept,
    /// A call was under way at the end: who goes on judges it by its class.
    CutShort,
    /// It is performed again. Of a workflow's step the intent says what it is; an agent's
    /// stands in the model's answer.
    Again,
}

/// The lines that the repeating run begins with, numbered anew; times stay as they were.
///
/// Questions that were undecided, and decisions that no call was made under, fall away: the
/// repeating run asks again. Work that children or other workers had is given out again. What
/// has a timeout has it anew.
pub fn carry_over(lines: &[Line]) -> Result<Vec<Line>, CorruptLine> {
    let entries: Vec<Entry> =
        lines.iter().map(|line| Entry::read(&line.kind, &line.payload)).collect::<Result<_, _>>()?;
    let mut run = Run::default();
    entries.iter().for_each(|entry| run.apply(entry));
    let settled = settled_until(&entries);
    let mut fates = fates(&run, &entries[settled..]);
    fates.extend(void_answer(&entries).into_iter().map(|step| (step, Fate::Again)));
    let old = Old { settled, fates, last_calls: last_calls(&entries), is_flow: is_flow(&entries) };
    let mut kept: Vec<Line> = Vec::with_capacity(lines.len());
    for (at, (line, entry)) in lines.iter().zip(&entries).enumerate() {
        if old.is_kept(at, entry, kept.is_empty()) {
            kept.push(match entry {
                Entry::FlowState(state) if at + 1 == settled => repeats(line, state.clone()),
                _ => line.clone(),
            });
        }
        kept.extend(old.after_call(at, line, entry));
    }
    number(&mut kept);
    Ok(kept)
}

/// Where the failed run stood, for the one that repeats it.
fn repeats(line: &Line, mut body: FlowState) -> Line {
    body.state.repeats = true;
    Line { payload: Entry::FlowState(body).payload(), ..line.clone() }
}

fn number(lines: &mut [Line]) {
    let mut event = 0;
    for (seq, line) in (1..).zip(lines) {
        line.seq = seq;
        if let Some(number) = &mut line.event {
            event += 1;
            *number = event;
        }
    }
}

fn is_flow(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| matches!(entry, Entry::FlowState(_) | Entry::StepCompleted(_)))
}

/// A workflow goes on from where it stood last: what came after that, it does again.
fn settled_until(entries: &[Entry]) -> usize {
    let last = entries.iter().rposition(|entry| matches!(entry, Entry::FlowState(_)));
    last.map_or_else(|| if is_flow(entries) { 0 } else { entries.len() }, |at| at + 1)
}

fn fates(run: &Run, after: &[Entry]) -> BTreeMap<i32, Fate> {
    let failed: BTreeSet<i32> =
        after.iter().filter(|entry| matches!(entry, Entry::ToolFailed(_))).map(Entry::step).collect();
    let fate = |number: &i32, step: &Step| match &step.state {
        _ if failed.contains(number) || run.closed.contains(number) => Fate::Again,
        StepState::Done { .. } | StepState::Unknown { .. } | StepState::Refused { .. } => Fate::Kept,
        StepState::Calling | StepState::Awaiting { .. } if step.tool().is_some() => Fate::CutShort,
        _ => Fate::Again,
    };
    run.steps.iter().map(|(number, step)| (*number, fate(number, step))).collect()
}

/// An answer of the model that broke a limit is asked for again: its step, and those of its
/// calls, of which none was made.
fn void_answer(entries: &[Entry]) -> Vec<i32> {
    let limit = |entry: &Entry| match entry {
        Entry::ExecutionFailed(body) => matches!(body.reason, Reason::Limit | Reason::TransferLimit),
        _ => false,
    };
    let last = entries.iter().rev().find_map(|entry| match entry {
        Entry::MessageCompleted(answer) => Some(answer),
        _ => None,
    });
    let Some(answer) = last.filter(|_| entries.iter().any(limit)) else { return Vec::new() };
    let steps: Vec<i32> = answer.tool_calls.iter().map(|call| call.step).collect();
    let made = |entry: &Entry| matches!(entry, Entry::ToolCalled(call) if steps.contains(&call.step));
    if entries.iter().any(made) {
        return Vec::new();
    }
    steps.into_iter().chain([answer.step]).collect()
}

/// Where the intent of each step's last attempt stands.
fn last_calls(entries: &[Entry]) -> BTreeMap<i32, usize> {
    let calls = entries.iter().enumerate().filter(|(_, entry)| matches!(entry, Entry::ToolCalled(_)));
    calls.map(|(at, entry)| (entry.step(), at)).collect()
}

/// What is known of the failed run.
struct Old {
    /// Lines from here on are of the failure.
    settled: usize,
    fates: BTreeMap<i32, Fate>,
    last_calls: BTreeMap<i32, usize>,
    is_flow: bool,
}

impl Old {
    fn is_kept(&self, at: usize, entry: &Entry, first: bool) -> bool {
        match entry {
            Entry::ExecutionStarted(_) => first,
            Entry::ExecutionSuspended(_)
            | Entry::ExecutionResumed(_)
            | Entry::ExecutionCompleted(_)
            | Entry::ExecutionFailed(_)
            | Entry::ExecutionCancelled(_)
            | Entry::PauseChanged(_)
            | Entry::WorkflowFailed(_)
            | Entry::MessageDelta(_) => false,
            Entry::SignalReceived(_) => true,
            Entry::FlowState(_)
            | Entry::StepCompleted(_)
            | Entry::TaskFailed(_)
            | Entry::TaskCancelled(_)
            | Entry::EventEmitted(_)
                if at >= self.settled =>
            {
                false
            }
            Entry::FlowState(_) => true,
            _ => match self.fates.get(&entry.step()) {
                None | Some(Fate::Kept) => true,
                Some(Fate::CutShort) => self.is_last_call(at, entry.step()),
                Some(Fate::Again) => self.is_flow && self.is_last_call(at, entry.step()),
            },
        }
    }

    fn is_last_call(&self, at: usize, step: i32) -> bool {
        self.last_calls.get(&step) == Some(&at)
    }

    /// A workflow's call that is made again is one that was cut short, whatever its class: it is
    /// known to have failed.
    fn after_call(&self, at: usize, line: &Line, entry: &Entry) -> Option<Line> {
        let Entry::ToolCalled(call) = entry else { return None };
        let again = self.is_flow && self.fates.get(&call.step) == Some(&Fate::Again);
        if !again || !self.is_last_call(at, call.step) {
            return None;
        }
        let entry = Entry::AttemptInterrupted(AttemptInterrupted { step: call.step, attempt: call.attempt });
        Some(Line { event: None, kind: entry.kind().to_owned(), payload: entry.payload(), ..line.clone() })
    }
}

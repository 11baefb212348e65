//! A run that repeats a failed one goes on from its journal: what is finished is taken over,
//! what nobody knows stays unknown, and what failed is performed again, as the same step and
//! under the same key.

use std::collections::{BTreeMap, BTreeSet};

use crate::entry::{CorruptLine, Entry, Line};
use crate::run::{Run, StepState};
use crate::status::Reason;

/// What becomes of a step's lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is finished, or nobody knows: it stays as it is.
    Kept,
    /// A call was under way at the end: who goes on judges it by its class.
    CutShort,
    /// It is performed again.
    Again,
}

/// The lines that the repeating run begins with, numbered anew; times stay as they were.
///
/// Questions that were undecided, and decisions that no call was made under, fall away: the
/// repeating run asks again. Work that children or other workers had is given out again.
pub fn carry_over(lines: &[Line]) -> Result<Vec<Line>, CorruptLine> {
    let entries: Vec<Entry> =
        lines.iter().map(|line| Entry::read(&line.kind, &line.payload)).collect::<Result<_, _>>()?;
    let mut run = Run::default();
    entries.iter().for_each(|entry| run.apply(entry));
    let settled = settled_until(lines, &entries);
    let mut fates = fates(&run, &entries[settled..]);
    let void = void_answer(&entries);
    fates.extend(void.iter().map(|step| (*step, Fate::Again)));
    let last_calls = last_calls(&entries);
    let mut begun = false;
    let kept = lines.iter().zip(&entries).enumerate().filter(|(at, (_, entry))| match entry {
        Entry::ExecutionStarted(_) => !std::mem::replace(&mut begun, true),
        Entry::FlowState(_) => *at < settled,
        _ => is_kept(entry, *at, settled, &fates, &last_calls),
    });
    Ok(number(kept.map(|(_, (line, _))| line)))
}

fn number<'a>(lines: impl Iterator<Item = &'a Line>) -> Vec<Line> {
    let mut event = 0;
    let mut next = |(at, line): (usize, &Line)| {
        event += i64::from(line.event.is_some());
        Line { seq: at as i64 + 1, event: line.event.map(|_| event), ..line.clone() }
    };
    lines.enumerate().map(&mut next).collect()
}

/// A workflow goes on from where it stood last: the lines after that are of the failure. A
/// state that was written together with the end is that of the failure too.
fn settled_until(lines: &[Line], entries: &[Entry]) -> usize {
    if !entries.iter().any(|entry| matches!(entry, Entry::FlowState(_))) {
        let flows = entries.iter().any(|entry| matches!(entry, Entry::StepCompleted(_)));
        return if flows { 0 } else { entries.len() };
    }
    let failed =
        lines.iter().zip(entries).rev().find(|(_, entry)| matches!(entry, Entry::ExecutionFailed(_)));
    let of_failure = |line: &Line| failed.is_some_and(|(end, _)| end.at == line.at);
    let last = lines
        .iter()
        .zip(entries)
        .rposition(|(line, entry)| matches!(entry, Entry::FlowState(_)) && !of_failure(line));
    last.map_or(0, |at| at + 1)
}

fn fates(run: &Run, after: &[Entry]) -> BTreeMap<i32, Fate> {
    let failed: BTreeSet<i32> =
        after.iter().filter(|entry| matches!(entry, Entry::ToolFailed(_))).map(Entry::step).collect();
    let fate = |number: &i32| {
        let step = &run.steps[number];
        match &step.state {
            _ if failed.contains(number) || run.closed.contains(number) => Fate::Again,
            StepState::Done { .. } | StepState::Unknown { .. } | StepState::Refused { .. } => Fate::Kept,
            StepState::Calling | StepState::Awaiting { .. } if step.tool().is_some() => Fate::CutShort,
            _ => Fate::Again,
        }
    };
    run.steps.keys().map(|number| (*number, fate(number))).collect()
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

fn is_kept(
    entry: &Entry,
    at: usize,
    settled: usize,
    fates: &BTreeMap<i32, Fate>,
    last_calls: &BTreeMap<i32, usize>,
) -> bool {
    match entry {
        Entry::ExecutionSuspended(_)
        | Entry::ExecutionResumed(_)
        | Entry::ExecutionCompleted(_)
        | Entry::ExecutionFailed(_)
        | Entry::ExecutionCancelled(_)
        | Entry::PauseChanged(_)
        | Entry::MessageDelta(_) => return false,
        Entry::SignalReceived(_) => return true,
        // What a workflow did after it stood there last, it does again.
        Entry::StepCompleted(_) | Entry::TaskFailed(_) | Entry::TaskCancelled(_) | Entry::EventEmitted(_)
            if at >= settled =>
        {
            return false;
        }
        _ => {}
    }
    match fates.get(&entry.step()) {
        None | Some(Fate::Kept) => true,
        Some(Fate::CutShort) => last_calls.get(&entry.step()) == Some(&at),
        Some(Fate::Again) => false,
    }
}

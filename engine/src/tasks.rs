//! Tasks that workers elsewhere carry out: what such a worker reports, judged and put into
//! lines. The terms stand in the journal, so that this needs no definition.
//!
//! A report is for one attempt. The same report again changes nothing and is told so; another
//! one, or one for an attempt that is over, is refused.

use std::time::Duration;

use serde_json::Value;

use crate::effect::TaskReport;
use crate::entropy::Entropy;
use crate::entry::{
    AttemptFailed, Entry, OutcomeResolved, QueueTerms, TaskHeartbeat, ToolCompleted, ToolFailed,
};
use crate::outside::Refusal;
use crate::retry;
use crate::run::{Run, Step, StepState, ToolWork, told_failure, told_output};
use crate::scope::check_name;
use crate::status::{Failure, Outcome};
use crate::time::Timestamp;

/// Queues that are not there for workers elsewhere, by how their names begin.
const RESERVED: [(&str, &str); 2] = [("holdpoint.", "Holdpoint"), ("amq.", "the broker")];

/// Whether a definition may name this queue: it says which name is wrong, and why.
pub fn check_queue(name: &str) -> Result<(), String> {
    check_name(name)?;
    match RESERVED.iter().find(|(prefix, _)| name.starts_with(prefix)) {
        None => Ok(()),
        Some((prefix, owner)) => Err(format!(
            "`{name}`: names that begin with `{prefix}` are for queues of {owner}: write the name of a queue that your workers read"
        )),
    }
}

/// The attempt of a task's step that was given out last; an error where the step is no such task.
pub fn attempt_of(run: &Run, step: i32) -> Result<u32, Refusal> {
    task(run, step).map(|(step, _, _)| step.attempt)
}

/// Whether a report may be taken now.
pub fn check_report(run: &Run, report: &TaskReport) -> Result<(), Refusal> {
    let (step, _, _) = task(run, report.step)?;
    let conflict = Refusal::TaskConflict { step: report.step, attempt: step.attempt };
    if report.attempt != step.attempt {
        return Err(conflict);
    }
    match &step.state {
        StepState::Done { told } if is_same(told, &told_of(report)) => {
            Err(Refusal::TaskDone { step: report.step, attempt: step.attempt })
        }
        StepState::Retrying { .. }
            if report.error.as_ref().is_some_and(|error| error.kind.is_retryable()) =>
        {
            Err(Refusal::TaskDone { step: report.step, attempt: step.attempt })
        }
        state if is_out(state) => Ok(()),
        _ => Err(conflict),
    }
}

/// Whether a worker may still be at that attempt.
pub fn check_heartbeat(run: &Run, number: i32, attempt: u32) -> Result<(), Refusal> {
    let (step, _, _) = task(run, number)?;
    if attempt == step.attempt && is_out(&step.state) {
        return Ok(());
    }
    Err(Refusal::TaskConflict { step: number, attempt: step.attempt })
}

/// The lines of a report; none where it is not to be taken.
pub(crate) fn reported(run: &Run, report: &TaskReport) -> Vec<Entry> {
    let Ok((step, work, terms)) = task(run, report.step) else { return Vec::new() };
    if check_report(run, report).is_err() {
        return Vec::new();
    }
    match &report.error {
        Some(error) => vec![failed(step, work, terms, report, error)],
        None => completed(step, work, report),
    }
}

/// The line of a heartbeat; none where it moves the end of patience by less than a quarter.
pub(crate) fn heartbeat(run: &Run, number: i32, attempt: u32, at: Timestamp) -> Vec<Entry> {
    let Ok((step, _, terms)) = task(run, number) else { return Vec::new() };
    let (StepState::Awaiting { due: Some(due) }, Some(every)) = (&step.state, terms.heartbeat) else {
        return Vec::new();
    };
    let next = at.plus(every.0);
    if attempt != step.attempt || due.until(next) < every.0 / 4 {
        return Vec::new();
    }
    vec![Entry::TaskHeartbeat(TaskHeartbeat { step: number, attempt, due: Some(next) })]
}

/// Until when a worker that has just been given a task may be silent.
pub(crate) fn first_due(terms: &QueueTerms, now: Timestamp) -> Option<Timestamp> {
    terms.heartbeat.map(|every| now.plus(every.0))
}

fn task(run: &Run, number: i32) -> Result<(&Step, &ToolWork, &QueueTerms), Refusal> {
    let found = run.steps.get(&number).and_then(|step| {
        let work = step.tool()?;
        Some((step, work, work.queue.as_ref()?))
    });
    found.ok_or(Refusal::NoTask { step: number })
}

/// Whether a worker may have the attempt: given out, or perhaps given out.
fn is_out(state: &StepState) -> bool {
    matches!(
        state,
        StepState::Calling | StepState::Awaiting { .. } | StepState::Ready | StepState::Unknown { .. }
    )
}

/// Whether two reports say the same: their values count, not how they are written.
fn is_same(told: &str, again: &str) -> bool {
    let value = |text: &str| serde_json::from_str::<Value>(text).ok();
    told == again || value(told).is_some_and(|told| value(again) == Some(told))
}

fn told_of(report: &TaskReport) -> String {
    match &report.error {
        Some(error) => told_failure(error),
        None => report.output.as_ref().map_or_else(|| "null".to_owned(), |output| told_output(output.get())),
    }
}

fn completed(step: &Step, work: &ToolWork, report: &TaskReport) -> Vec<Entry> {
    let output = report.output.clone().unwrap_or_else(|| crate::json(&Value::Null));
    let mut entries = Vec::new();
    if matches!(step.state, StepState::Unknown { .. }) {
        entries.push(Entry::OutcomeResolved(OutcomeResolved {
            step: report.step,
            outcome: Outcome::Happened,
            result: None,
            by: report.by.clone(),
        }));
    }
    entries.push(Entry::ToolCompleted(ToolCompleted {
        step: report.step,
        tool_call_id: work.call_id.clone(),
        tool: work.tool.clone(),
        output,
    }));
    entries
}

fn failed(step: &Step, work: &ToolWork, terms: &QueueTerms, report: &TaskReport, error: &Failure) -> Entry {
    match again_after(step, terms, report, error) {
        Some(wait) => Entry::AttemptFailed(AttemptFailed {
            step: report.step,
            attempt: step.attempt,
            error: error.clone(),
            retry_at: report.at.plus(wait),
        }),
        None => Entry::ToolFailed(ToolFailed {
            step: report.step,
            tool_call_id: work.call_id.clone(),
            tool: work.tool.clone(),
            error: error.clone(),
        }),
    }
}

/// The pause before the next attempt. Chance is drawn from what is known, so that whoever takes
/// the report comes to the same line.
fn again_after(step: &Step, terms: &QueueTerms, report: &TaskReport, error: &Failure) -> Option<Duration> {
    let seed = report.at.micros() as u64 ^ ((report.step as u64) << 32);
    let retryable = error.kind.is_retryable();
    retryable
        .then(|| retry::delay(terms.retry, step.failures + 1, None, &mut Entropy::from_seed(seed)))
        .flatten()
}

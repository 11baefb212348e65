//! Tasks that workers elsewhere carry out: given out, waited for, lost.

use super::Turn;
use crate::entry::{AttemptFailed, Entry, QueueTerms, TaskPublished, may_repeat};
use crate::retry;
use crate::run::{Step, StepState, ToolWork};
use crate::status::{ErrorType, Failure};
use crate::tasks;
use crate::time::Timestamp;

impl Turn<'_> {
    /// A task is with the broker. A worker that was quicker than this line has reported already.
    pub(super) fn published(&mut self, number: i32) {
        let Some(step) = self.run.steps.get(&number).filter(|step| step.state == StepState::Calling) else {
            return;
        };
        let Some(terms) = step.tool().and_then(|work| work.queue.as_ref()) else { return };
        let (attempt, due) = (step.attempt, tasks::first_due(terms, self.now));
        self.push(Entry::TaskPublished(TaskPublished { step: number, attempt, due }));
    }

    /// When the first of them is lost, if nothing is heard of it until then.
    pub(super) fn earliest_loss(&self) -> Option<Timestamp> {
        self.awaiting().filter_map(|(_, _, due)| due).min()
    }

    /// Whether a worker elsewhere has a task.
    pub(super) fn is_awaiting(&self) -> bool {
        self.awaiting().next().is_some()
    }

    fn awaiting(&self) -> impl Iterator<Item = (i32, &Step, Option<Timestamp>)> {
        self.run.steps.iter().filter_map(|(number, step)| match step.state {
            StepState::Awaiting { due } => Some((*number, step, due)),
            _ => None,
        })
    }

    /// A worker that was silent for too long has lost its task; the class says what that means.
    pub(super) fn lose_silent(&mut self) {
        let lost = self.awaiting().filter(|(_, _, due)| due.is_some_and(|due| due <= self.now));
        let lost: Vec<(i32, Step)> = lost.map(|(number, step, _)| (number, step.clone())).collect();
        for (number, step) in lost {
            let Some(work) = step.tool().cloned() else { continue };
            let Some(terms) = work.queue.clone() else { continue };
            self.unheard.get_or_insert_with(|| work.call_id.clone());
            self.lost(number, &step, work, &terms);
        }
    }

    fn lost(&mut self, number: i32, step: &Step, work: ToolWork, terms: &QueueTerms) {
        let seconds = terms.heartbeat.map_or(0.0, |every| every.0.as_secs_f64());
        let message = format!("nothing was heard of the task's worker for {seconds} s");
        let error = Failure::new(ErrorType::Timeout, message);
        if !may_repeat(terms.class) {
            return self.outcome_unknown(number, error, self.now);
        }
        match retry::delay(terms.retry, step.failures + 1, None, self.entropy) {
            Some(wait) => self.push(Entry::AttemptFailed(AttemptFailed {
                step: number,
                attempt: step.attempt,
                error,
                retry_at: self.now.plus(wait),
            })),
            None => self.tool_failed(number, work, error),
        }
    }
}

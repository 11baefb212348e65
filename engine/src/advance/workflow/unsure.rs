//! Calls that nobody knows the outcome of. One that was cut off on its way, by a timeout or because a
//! task beside it failed, may have happened: where it must not happen twice, an author's `retry` that
//! comes to its place anew does not make it again; its outcome is unknown, as after a timeout of the
//! call itself. And while an outcome is unknown, the time of the tasks around it does not run.

use std::collections::BTreeSet;

use super::effects::terms;
use super::question::question_of;
use super::{Machine, Step};
use crate::definition::QUESTIONS;
use crate::entry::{Entry, OutcomeAsked, OutcomeUnknown, may_repeat};
use crate::run::StepState;
use crate::status::{ErrorType, Failure};
use crate::workflow::document::{Task, Work};
use crate::workflow::state::{Frame, FrameId, Phase, Section, ValueRef};

/// Where a task stands, so that the same one is found in another attempt.
pub(super) struct Place {
    /// Its way from the workflow's own list.
    pub text: String,
    /// The outermost `try` around it that begins its tasks anew.
    pub retried: Option<FrameId>,
}

impl Machine<'_, '_> {
    pub(super) fn place(&self, id: FrameId) -> Step<Place> {
        let (mut text, mut retried, mut section) = (String::new(), None, None);
        for (around, frame) in self.state.chain(Some(id)) {
            if section == Some(Section::Body)
                && let Work::Try { catch, .. } = &self.task_of(frame)?.work
                && catch.retry.is_some()
            {
                retried = Some(around);
            }
            section = Some(frame.section);
            text.push_str(&format!("{:?} {} {} {}\n", frame.section, frame.at, frame.nth, frame.round()));
        }
        Ok(Place { text, retried })
    }

    /// A task is given up: its call is remembered where it may have happened and is not to happen
    /// again, as long as a `retry` may come to it.
    pub(super) fn give_up(&mut self, id: FrameId) -> Step<()> {
        let frame = self.frame(id)?;
        let Some(step) = frame.step().filter(|step| self.may_have_happened(*step)) else { return Ok(()) };
        if may_repeat(terms(&*self.task_of(frame)?).class) {
            return Ok(());
        }
        let place = self.place(id)?;
        if let Some(retried) = place.retried {
            self.state.cut_off.entry(retried).or_default().insert(place.text, step);
        }
        Ok(())
    }

    fn may_have_happened(&self, step: i32) -> bool {
        let state = self.turn.run.steps.get(&step).map(|step| &step.state);
        matches!(state, Some(StepState::Calling | StepState::Awaiting { .. } | StepState::Unknown { .. }))
    }

    /// Where an attempt before had this call cut off, it stands as that very step, and its outcome is
    /// unknown; whether it does.
    pub(super) fn stands_cut_off(&mut self, id: FrameId, task: &Task, hidden: ValueRef) -> Step<bool> {
        let place = self.place(id)?;
        let cut_off = place.retried.and_then(|retried| self.state.cut_off.get_mut(&retried));
        let Some(step) = cut_off.and_then(|calls| calls.remove(&place.text)) else { return Ok(false) };
        self.frame_mut(id)?.phase = Phase::Step { step, hidden };
        let attempt = self.turn.run.steps.get(&step).map_or(1, |step| step.attempt);
        let message = "the call was cut off on its way, by a timeout or because a task beside it failed";
        let error = Failure::new(ErrorType::Timeout, message);
        let settled_at = self.turn.now;
        self.push(Entry::OutcomeUnknown(OutcomeUnknown { step, attempt, error, settled_at }));
        if question_of(task).is_some() {
            let next_at = Some(settled_at.plus(QUESTIONS.first_delay.0));
            self.push(Entry::OutcomeAsked(OutcomeAsked { step, question: 0, next_at }));
        }
        Ok(true)
    }

    /// The time of tasks around a call of an unknown outcome stands still; what has a timeout has it
    /// anew when the outcome is known.
    pub(super) fn hold_times(&mut self) {
        let steps = &self.turn.run.steps;
        let state = |frame: &Frame| steps.get(&frame.step()?).map(|step| &step.state);
        let is_unknown = |frame: &Frame| matches!(state(frame), Some(StepState::Unknown { .. }));
        let unknown = self.state.frames.iter().filter(|(_, frame)| is_unknown(frame));
        let around = unknown.flat_map(|(id, _)| self.state.chain(Some(*id)).map(|(id, _)| id));
        let held: BTreeSet<FrameId> = around.collect();
        if held != self.state.held {
            self.state.hold(held, self.turn.now);
            self.changed = true;
        }
    }
}

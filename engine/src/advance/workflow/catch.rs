//! Errors: raised, caught, tried again.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::data::Scope;
use super::{Halt, Machine, Step, located, lost};
use crate::entry::{Entry, TaskFailed};
use crate::status::ApprovalStatus;
use crate::workflow::document::{Backoff, Catch, RetryPolicy, TaskList, Work};
use crate::workflow::duration::LONGEST;
use crate::workflow::expression::Expression;
use crate::workflow::fault::{Fault, same_type};
use crate::workflow::state::{Attempt, FrameId, Phase, Section};

impl Machine<'_, '_> {
    /// A task failed: whatever is at work inside of it is cancelled, and the tasks around it
    /// are asked.
    pub(super) fn raise(&mut self, id: FrameId, fault: Fault) -> Step<()> {
        let task = self.task(id)?;
        let fault = located(fault, &task);
        let step = match self.frame(id)?.step() {
            Some(step) => {
                self.give_up(id)?;
                self.close_question(step, ApprovalStatus::Cancelled);
                step
            }
            None => self.step(),
        };
        let error = crate::json(&fault.value());
        self.push(Entry::TaskFailed(TaskFailed { step, task: task.pointer.clone(), error }));
        self.frame_mut(id)?.phase = Phase::Inside;
        self.unwind(id, fault)
    }

    fn unwind(&mut self, id: FrameId, fault: Fault) -> Step<()> {
        let (parent, section) = {
            let frame = self.frame(id)?;
            (frame.parent, frame.section)
        };
        let Some(parent) = parent else {
            self.fault_out(&fault);
            return Ok(());
        };
        self.drop_family(id)?;
        match self.frame(parent)?.phase {
            Phase::Try(_) if section == Section::Body => self.attempt_failed(parent, fault),
            _ => self.unwind(parent, fault),
        }
    }

    /// An attempt of a `try` failed: caught, tried again, or neither.
    pub(super) fn attempt_failed(&mut self, id: FrameId, fault: Fault) -> Step<()> {
        let task = self.task(id)?;
        let Work::Try { catch, .. } = &task.work else { return Err(lost("an attempt")) };
        let Phase::Try(attempt) = self.frame(id)?.phase.clone() else { return Err(lost("an attempt")) };
        self.cancel_inside(id)?;
        let error = Arc::new(fault.value());
        let scope = self.scope(id)?.with(&catch.variable, Arc::clone(&error));
        match self.what_now(catch, &error, &attempt, &scope) {
            Ok(None) => self.unwind(id, fault),
            Ok(Some(Handling::Again(delay))) => {
                let at = self.turn.now.plus(delay);
                self.frame_mut(id)?.phase = Phase::Retry { attempt, at };
                Ok(())
            }
            Ok(Some(Handling::Caught)) => self.caught(id, catch, &error),
            Err(Halt::Fault(in_catch)) => self.raise(id, *in_catch),
            Err(halt) => Err(halt),
        }
    }

    fn caught(&mut self, id: FrameId, catch: &Catch, error: &Value) -> Step<()> {
        let input = self.frame(id)?.input;
        if catch.body.as_ref().is_none_or(|body| body.is_empty()) {
            self.frame_mut(id)?.phase = Phase::Caught;
            return self.complete_with(id, self.value(input)?, catch.then);
        }
        let error = self.store(error)?;
        let frame = self.frame_mut(id)?;
        frame.variables.insert(catch.variable.clone(), error);
        frame.phase = Phase::Caught;
        self.start(Some(id), Section::Catch, 0, input).map(drop)
    }

    /// `None` where the error is not caught here.
    fn what_now(
        &mut self,
        catch: &Catch,
        error: &Value,
        attempt: &Attempt,
        scope: &Scope,
    ) -> Step<Option<Handling>> {
        let input = scope.input();
        if !self.is_meant(catch, error, &input, scope)?
            || !self.is_wanted(catch.when.as_ref(), catch.except_when.as_ref(), &input, scope)?
        {
            return Ok(None);
        }
        let Some(policy) = &catch.retry else { return Ok(Some(Handling::Caught)) };
        Ok(Some(match self.delay(policy, attempt, &input, scope)? {
            Some(delay) => Handling::Again(delay),
            None => Handling::Caught,
        }))
    }

    fn is_meant(&self, catch: &Catch, error: &Value, input: &Value, scope: &Scope) -> Step<bool> {
        for (name, template) in &catch.with {
            let wanted = self.fill(template, input, scope)?;
            let had = error.get(name).unwrap_or(&Value::Null);
            let same = match (name.as_str(), had.as_str(), wanted.as_str()) {
                ("type", Some(had), Some(wanted)) => same_type(had, wanted),
                _ => *had == wanted,
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn is_wanted(
        &self,
        when: Option<&Expression>,
        except_when: Option<&Expression>,
        input: &Value,
        scope: &Scope,
    ) -> Step<bool> {
        if let Some(when) = when
            && !self.holds(when, input, scope)?
        {
            return Ok(false);
        }
        match except_when {
            Some(except_when) => Ok(!self.holds(except_when, input, scope)?),
            None => Ok(true),
        }
    }

    /// How long until the next attempt; `None` where there is none.
    fn delay(
        &mut self,
        policy: &RetryPolicy,
        attempt: &Attempt,
        input: &Value,
        scope: &Scope,
    ) -> Step<Option<Duration>> {
        if policy.attempts.is_some_and(|most| attempt.number >= most)
            || !self.is_wanted(policy.when.as_ref(), policy.except_when.as_ref(), input, scope)?
        {
            return Ok(None);
        }
        let first = self.length(&policy.delay, input, scope)?;
        let factor = match policy.backoff {
            Backoff::Constant => 1,
            Backoff::Linear => attempt.number,
            Backoff::Exponential => 1 << attempt.number.saturating_sub(1).min(30),
        };
        let mut delay = first.saturating_mul(factor);
        if let Some((from, to)) = &policy.jitter {
            let (from, to) = (self.length(from, input, scope)?, self.length(to, input, scope)?);
            let more = to.saturating_sub(from).mul_f64(self.turn.entropy.unit());
            delay = delay.saturating_add(from).saturating_add(more);
        }
        let delay = delay.min(LONGEST);
        if let Some(longest) = &policy.duration {
            let longest = self.length(longest, input, scope)?;
            if attempt.began.plus(longest) < self.turn.now.plus(delay) {
                return Ok(None);
            }
        }
        Ok(Some(delay))
    }

    pub(super) fn try_again(&mut self, id: FrameId, attempt: Attempt) -> Step<()> {
        let task = self.task(id)?;
        let Work::Try { body, catch } = &task.work else { return Err(lost("an attempt")) };
        let body: &TaskList = body;
        self.begin_attempt(id, body, catch, attempt.number.saturating_add(1), attempt.began)
    }
}

enum Handling {
    Again(Duration),
    Caught,
}

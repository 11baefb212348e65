//! Ends: of a task, of a list of tasks, of branches, of the workflow.

use std::sync::Arc;

use serde_json::Value;

use super::data::Scope;
use super::{Machine, Step, lost};
use crate::entry::{Entry, ExecutionCompleted, ExecutionFailed, StepCompleted, TaskCancelled};
use crate::outside;
use crate::status::ApprovalStatus;
use crate::workflow::document::{Then, Work};
use crate::workflow::fault::Fault;
use crate::workflow::state::{Frame, FrameId, Phase, Section, ValueRef};

impl Machine<'_, '_> {
    /// A task is over with this as its output, before `output.as`.
    pub(super) fn complete(&mut self, id: FrameId, raw: Arc<Value>) -> Step<()> {
        self.complete_with(id, raw, None)
    }

    /// The same; the flow goes on there, where that is not as the task says.
    pub(super) fn complete_with(&mut self, id: FrameId, raw: Arc<Value>, then: Option<Then>) -> Step<()> {
        self.guard(id, |machine| machine.leave(id, raw, then))
    }

    fn leave(&mut self, id: FrameId, raw: Arc<Value>, then: Option<Then>) -> Step<()> {
        let task = self.task(id)?;
        let scope = self.scope(id)?;
        let (output, scope) = self.filter_out(&task.output, raw, scope)?;
        self.export(&task.export, &output, &scope)?;
        let frame = self.frame(id)?.clone();
        let step = frame.step().unwrap_or_else(|| self.step());
        let (json, output) = self.written(&output)?;
        self.made.outputs.insert(step, output);
        self.push(Entry::StepCompleted(StepCompleted {
            step,
            output: json,
            task: Some(task.pointer.clone()),
        }));
        self.state.frames.remove(&id);
        self.child_over(&frame, ValueRef::Step(step), then.unwrap_or(task.then))
    }

    /// A task is over: what comes after it in its list, or of the task that it is a part of.
    pub(super) fn child_over(&mut self, frame: &Frame, output: ValueRef, then: Then) -> Step<()> {
        if then == Then::End {
            return self.end(self.value(output)?);
        }
        match (frame.section, frame.parent) {
            (Section::Branch, Some(fork)) => return self.branch_over(fork, frame.at, output),
            (Section::Function, Some(call)) => return self.complete(call, self.value(output)?),
            _ => {}
        }
        let next = match then {
            Then::To(at) => Some(at),
            Then::Continue => Some(frame.at + 1),
            Then::Exit | Then::End => None,
        };
        let tasks = self.list(frame.parent, frame.section)?;
        match next.filter(|at| *at < tasks.len()) {
            Some(at) => self.start(frame.parent, frame.section, at, output).map(drop),
            None => self.list_over(frame.parent, frame.section, output),
        }
    }

    fn list_over(&mut self, parent: Option<FrameId>, section: Section, output: ValueRef) -> Step<()> {
        let Some(parent) = parent else { return self.end(self.value(output)?) };
        let task = self.task(parent)?;
        match (&self.frame(parent)?.phase, &task.work) {
            (Phase::For { items, index }, _) => {
                let (items, next) = (*items, index + 1);
                self.guard(parent, |machine| machine.iterate(parent, items, next, output))
            }
            (Phase::Listen(_), _) => self.guard(parent, |machine| machine.each_over(parent, output)),
            (_, Work::Try { catch, .. }) if section == Section::Catch => {
                self.complete_with(parent, self.value(output)?, catch.then)
            }
            _ => self.complete(parent, self.value(output)?),
        }
    }

    /// The first branch wins where they compete; else the last one joins them.
    fn branch_over(&mut self, fork: FrameId, at: usize, output: ValueRef) -> Step<()> {
        let task = self.task(fork)?;
        let Work::Fork { compete, .. } = task.work else { return Err(lost("branches")) };
        if compete {
            self.cancel_inside(fork)?;
            return self.complete(fork, self.value(output)?);
        }
        let Phase::Fork(outputs) = &mut self.frame_mut(fork)?.phase else { return Err(lost("branches")) };
        if let Some(place) = outputs.get_mut(at) {
            *place = Some(output);
        }
        let all: Option<Vec<ValueRef>> = outputs.iter().copied().collect();
        let Some(all) = all else { return Ok(()) };
        let values = all.into_iter().map(|output| Ok(self.value(output)?.as_ref().clone()));
        let joined = Value::Array(values.collect::<Step<_>>()?);
        self.complete(fork, Arc::new(joined))
    }

    /// The workflow is over; branches that are still at work are cancelled.
    pub(super) fn end(&mut self, raw: Arc<Value>) -> Step<()> {
        let main: Vec<FrameId> =
            self.state.frames.iter().filter(|(_, frame)| frame.parent.is_none()).map(|(id, _)| *id).collect();
        for id in main {
            self.drop_family(id)?;
        }
        let workflow = self.workflow;
        let scope = Scope::of_workflow(Arc::clone(&raw));
        // Nothing is left that could catch an error in it.
        let ended =
            self.filter_out(&workflow.output, raw, scope).and_then(|(output, _)| self.written(&output));
        match ended {
            Ok((output, _)) => self.push(Entry::ExecutionCompleted(ExecutionCompleted { output })),
            Err(super::Halt::Fault(fault)) => self.fault_out(&fault),
            Err(halt) => return Err(halt),
        }
        Ok(())
    }

    /// Cancels what is at work inside of a task.
    pub(super) fn cancel_inside(&mut self, id: FrameId) -> Step<()> {
        for inner in self.state.family(id).into_iter().rev() {
            if inner != id {
                self.drop_frame(inner)?;
            }
        }
        Ok(())
    }

    /// Cancels a task and what is at work inside of it.
    pub(super) fn drop_family(&mut self, id: FrameId) -> Step<()> {
        for inner in self.state.family(id).into_iter().rev() {
            self.drop_frame(inner)?;
        }
        Ok(())
    }

    fn drop_frame(&mut self, id: FrameId) -> Step<()> {
        let Some(frame) = self.state.frames.get(&id).cloned() else { return Ok(()) };
        // What only waits gets its step here, so that its end shows.
        let waits = matches!(frame.phase, Phase::Until(_) | Phase::Listen(_));
        if let Some(step) = frame.step().or_else(|| waits.then(|| self.step()))
            && !self.step_is_over(step)
        {
            let task = self.task_of(&frame)?.pointer.clone();
            self.give_up(id)?;
            self.close_question(step, ApprovalStatus::Cancelled);
            self.push(Entry::TaskCancelled(TaskCancelled { step, task }));
        }
        self.state.frames.remove(&id);
        Ok(())
    }

    /// The questions of a step that is given up: its own, or those of its child.
    pub(super) fn close_question(&mut self, step: i32, status: ApprovalStatus) {
        self.close(status, |entry| entry.step() == step);
    }

    /// Once in a transition: the fold knows of its lines only when it is over.
    fn close(&mut self, status: ApprovalStatus, which: impl Fn(&Entry) -> bool) {
        let is_closing = |entry: &Entry, call: &str| matches!(entry, Entry::ApprovalClosed(body) if body.tool_call_id == call);
        for entry in outside::close_approvals(self.turn.run, status).into_iter().filter(which) {
            let Entry::ApprovalClosed(body) = &entry else { continue };
            if !self.made.entries.iter().any(|made| is_closing(made, &body.tool_call_id)) {
                self.made.entries.push(entry);
            }
        }
    }

    /// The end of the execution, because nothing caught the error.
    pub(super) fn fault_out(&mut self, fault: &Fault) {
        let error = fault.failure();
        self.close(ApprovalStatus::Cancelled, |_| true);
        self.push(Entry::ExecutionFailed(ExecutionFailed { reason: fault.reason(), error }));
    }
}

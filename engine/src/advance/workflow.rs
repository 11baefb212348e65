//! Workflows: a step machine over a tree of frames. A turn moves what can move, one transition
//! at a time, until everything that is left waits for an effect, a time or somebody outside; a
//! turn that changed something writes where it stands, so that whoever takes the execution over
//! stands there too.
//!
//! A transition is whole or has not happened: what it writes is kept back until it is over, and
//! dropped where expressions cannot be evaluated now.

mod approval;
mod begin;
mod catch;
mod data;
mod effects;
mod events;
mod over;
mod question;
mod unsure;

pub use approval::{check_edited, edited_schema};

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::ask::EVALUATE_AGAIN;
use super::{Next, Turn};
use crate::effect::Effect;
use crate::entry::{Entry, FlowState, Json};
use crate::outside;
use crate::run::StepState;
use crate::status::Reason;
use crate::time::Timestamp;
use crate::workflow::document::{Task, TaskList, Work, Workflow};
use crate::workflow::fault::Fault;
use crate::workflow::state::{Frame, FrameId, Phase, Section, State, ValueRef};

/// Transitions between two commits.
const MOST_IN_A_TURN: u64 = 1_000;
/// Frames inside of each other.
const MOST_NESTED: usize = 64;
/// Branches of a `fork`.
const MOST_BRANCHES: usize = crate::workflow::document::MOST_BRANCHES;

/// Why a transition does not go on.
enum Halt {
    /// An error of the workflow.
    Fault(Box<Fault>),
    /// A limit on the execution was passed.
    Limit { name: &'static str, limit: usize, was: usize },
    /// Nothing evaluates expressions now.
    Unavailable,
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Halt::Fault(Box::new(fault))
    }
}

type Step<T> = Result<T, Halt>;

/// What a transition has made so far.
#[derive(Default)]
struct Made {
    entries: Vec<Entry>,
    effects: Vec<Effect>,
    values: BTreeMap<u64, Arc<Value>>,
    written: BTreeMap<u64, Json>,
    outputs: BTreeMap<i32, Arc<Value>>,
}

struct Machine<'m, 't> {
    turn: &'m mut Turn<'t>,
    workflow: &'t Workflow,
    state: State,
    /// Of the transition that is under way.
    made: Made,
    /// Values of the turn that no line has yet.
    values: BTreeMap<u64, Arc<Value>>,
    written: BTreeMap<u64, Json>,
    next_step: i32,
    changed: bool,
}

impl<'t> Turn<'t> {
    /// Moves what can move, and begins what it leads to.
    pub(super) fn flow(&mut self, workflow: &'t Workflow) {
        let known = self.run.flow.state.clone();
        let changed = known.as_ref().is_none_or(|state| state.repeats);
        let mut state = known.unwrap_or_else(|| State::new(self.now));
        if state.repeats {
            state.begin_again(self.now);
        }
        let next_step = self.run.next_step();
        let mut machine = Machine {
            turn: self,
            workflow,
            state,
            made: Made::default(),
            values: BTreeMap::new(),
            written: BTreeMap::new(),
            next_step,
            changed,
        };
        // What became unknown or known before this turn, and in it.
        machine.hold_times();
        machine.go_on();
        machine.hold_times();
        machine.write();
    }

    /// What to wait for, where nothing moves.
    pub(super) fn flow_due(&self) -> Option<Timestamp> {
        let own = self.run.flow.state.as_ref().and_then(State::earliest_due);
        self.evaluate_again.into_iter().chain(own).min()
    }

    /// What a suspended workflow waits for, after questions and unknown outcomes.
    pub(super) fn flow_reason(&self) -> Reason {
        let steps = self.run.steps.values().any(|step| matches!(step.state, StepState::Retrying { .. }));
        let frames = || self.run.flow.state.iter().flat_map(|state| state.frames.values());
        if steps || frames().any(|frame| matches!(frame.phase, Phase::Retry { .. })) {
            Reason::Retry
        } else if frames().any(|frame| matches!(frame.phase, Phase::Until(_))) {
            Reason::Timer
        } else {
            Reason::Signal
        }
    }
}

impl<'t> Machine<'_, 't> {
    fn go_on(&mut self) {
        if self.state.transitions == 0 && !self.transition(|machine| machine.begin_workflow()) {
            return;
        }
        for _ in 0..MOST_IN_A_TURN {
            if self.turn.ended() {
                return;
            }
            let Some(id) = self.movable() else {
                if !self.time_out() {
                    return;
                }
                continue;
            };
            if !self.transition(|machine| machine.guard(id, |machine| machine.advance(id))) {
                return;
            }
            if self.turn.evaluator.is_enough() {
                break;
            }
        }
        self.turn.again = true;
    }

    /// One transition; `false` where there is to be no further one in this turn.
    fn transition(&mut self, change: impl FnOnce(&mut Self) -> Step<()>) -> bool {
        let most = self.turn.limits.transitions;
        if self.state.transitions >= most {
            self.turn.fail_limit("transitions", most as usize, most as usize + 1);
            return false;
        }
        let before = self.state.clone();
        let next_step = self.next_step;
        self.state.transitions += 1;
        match change(self) {
            Ok(()) => {
                self.keep();
                !self.turn.ended()
            }
            Err(halt) => {
                self.made = Made::default();
                self.state = before;
                self.next_step = next_step;
                self.stop(halt);
                false
            }
        }
    }

    fn keep(&mut self) {
        let made = std::mem::take(&mut self.made);
        self.changed = true;
        self.values.extend(made.values);
        self.written.extend(made.written);
        self.turn.push_all(made.entries);
        self.turn.effects.extend(made.effects);
    }

    fn stop(&mut self, halt: Halt) {
        match halt {
            Halt::Fault(fault) => self.fail(&fault),
            Halt::Limit { name, limit, was } => self.turn.fail_limit(name, limit, was),
            Halt::Unavailable => self.turn.evaluate_again = Some(self.turn.now.plus(EVALUATE_AGAIN)),
        }
    }

    /// An error that nothing catches.
    fn fail(&mut self, fault: &Fault) {
        self.fault_out(fault);
        self.keep();
    }

    /// Writes where it stands, with the values that no line has yet.
    fn write(mut self) {
        if self.turn.ended() || !self.changed {
            return;
        }
        self.state.forget_cut_off();
        let values = std::mem::take(&mut self.written);
        self.turn.push(Entry::FlowState(FlowState { state: self.state, values }));
    }

    /// The first frame that can go on without waiting. Where something has taken too long, what
    /// came in time is looked at, and nothing is begun.
    fn movable(&self) -> Option<FrameId> {
        let late = self.is_late();
        let can = |frame: &Frame| match &frame.phase {
            Phase::Begin => !late,
            Phase::Step { step, .. } => self.step_moves(*step),
            Phase::Asked { step, until, .. } => self.step_moves(*step) || *until <= self.turn.now,
            Phase::Listen(listening) => self.can_listen(frame, listening),
            Phase::Until(at) | Phase::Retry { at, .. } => *at <= self.turn.now,
            _ => false,
        };
        self.state.frames.iter().find(|(_, frame)| can(frame)).map(|(id, _)| *id)
    }

    fn step_moves(&self, step: i32) -> bool {
        // A run that repeats another has not all of its steps.
        self.turn.run.steps.get(&step).is_none_or(|step| match step.state {
            StepState::Done { .. } | StepState::Ready | StepState::Refused { .. } => true,
            StepState::Retrying { at } => at <= self.turn.now,
            _ => false,
        })
    }

    fn step_is_over(&self, step: i32) -> bool {
        self.turn.run.steps.get(&step).is_some_and(|step| step.is_done())
    }

    fn is_late(&self) -> bool {
        let late = |due: Option<Timestamp>| due.is_some_and(|due| due <= self.turn.now);
        late(self.state.own_due())
            || self.state.timed().any(|(_, frame)| late(frame.due) || late(frame.attempt_due()))
    }

    /// Ends the first task that has taken too long; whether there was one.
    fn time_out(&mut self) -> bool {
        let now = self.turn.now;
        if self.state.own_due().is_some_and(|due| due <= now) {
            let fault = Fault::timeout("the workflow took longer than its timeout");
            self.fail(&fault);
            return false;
        }
        let late = |due: Option<Timestamp>| due.is_some_and(|due| due <= now);
        let of_attempt = |frame: &Frame| late(frame.attempt_due());
        let found = self.state.timed().find_map(|(id, frame)| {
            let whole = late(frame.due);
            (whole || of_attempt(frame)).then_some((id, whole))
        });
        let Some((id, whole)) = found else { return false };
        self.transition(|machine| machine.took_too_long(id, whole))
    }

    fn took_too_long(&mut self, id: FrameId, whole: bool) -> Step<()> {
        let task = self.task(id)?;
        if whole {
            let fault = Fault::timeout(format!("the task `{}` took longer than its timeout", task.name));
            return self.raise(id, fault);
        }
        let fault = Fault::timeout(format!("an attempt of `{}` took longer than it may", task.name));
        self.attempt_failed(id, located(fault, &task))
    }

    fn advance(&mut self, id: FrameId) -> Step<()> {
        match self.frame(id)?.phase.clone() {
            Phase::Begin => self.begin(id),
            Phase::Step { step, hidden } => self.step_moved(id, step, hidden),
            Phase::Asked { step, subject, .. } => self.answered(id, step, subject),
            Phase::Listen(listening) => self.listen(id, listening),
            Phase::Until(_) => {
                let input = self.input(id)?;
                self.complete(id, input)
            }
            Phase::Retry { attempt, .. } => self.try_again(id, attempt),
            _ => Ok(()),
        }
    }

    /// Carries out a change of a frame; an error in it is the task's.
    fn guard(&mut self, id: FrameId, change: impl FnOnce(&mut Self) -> Step<()>) -> Step<()> {
        match change(self) {
            Err(Halt::Fault(fault)) => self.raise(id, *fault),
            other => other,
        }
    }

    fn frame(&self, id: FrameId) -> Step<&Frame> {
        self.state.frames.get(&id).ok_or_else(|| lost("a frame"))
    }

    fn frame_mut(&mut self, id: FrameId) -> Step<&mut Frame> {
        self.state.frames.get_mut(&id).ok_or_else(|| lost("a frame"))
    }

    /// The task that a frame is of.
    fn task(&self, id: FrameId) -> Step<Arc<Task>> {
        self.task_of(self.frame(id)?)
    }

    fn task_of(&self, frame: &Frame) -> Step<Arc<Task>> {
        task_of(self.workflow, &self.state, frame).ok_or_else(|| lost("a task"))
    }

    fn list(&self, parent: Option<FrameId>, section: Section) -> Step<TaskList> {
        list(self.workflow, &self.state, parent, section).ok_or_else(|| lost("a list of tasks"))
    }

    fn step(&mut self) -> i32 {
        let step = self.next_step;
        self.next_step += 1;
        step
    }

    fn push(&mut self, entry: Entry) {
        self.made.entries.push(entry);
    }

    /// Begins a task of a list.
    fn start(
        &mut self,
        parent: Option<FrameId>,
        section: Section,
        at: usize,
        raw: ValueRef,
    ) -> Step<FrameId> {
        let depth = self.state.depth(parent) + 1;
        if depth > MOST_NESTED {
            return Err(Halt::Limit { name: "nesting", limit: MOST_NESTED, was: depth });
        }
        let id = self.state.next_frame;
        self.state.next_frame += 1;
        let begun = match parent {
            Some(parent) => &mut self.frame_mut(parent)?.begun,
            None => &mut self.state.begun,
        };
        let nth = *begun;
        *begun += 1;
        let frame = Frame {
            parent,
            section,
            at,
            nth,
            begun: 0,
            raw,
            input: ValueRef::Null,
            started_at: self.turn.now,
            due: None,
            variables: BTreeMap::new(),
            phase: Phase::Begin,
        };
        self.state.frames.insert(id, frame);
        Ok(id)
    }
}

/// The task that a frame is of, in the document that the state belongs to: found by its way from the
/// workflow's own list.
pub fn task_of(workflow: &Workflow, state: &State, frame: &Frame) -> Option<Arc<Task>> {
    if frame.section == Section::Function {
        let parent = state.frames.get(&frame.parent?)?;
        return match &task_of(workflow, state, parent)?.work {
            Work::Function { task, .. } => Some(Arc::clone(task)),
            _ => None,
        };
    }
    list(workflow, state, frame.parent, frame.section)?.get(frame.at).cloned()
}

fn list(workflow: &Workflow, state: &State, parent: Option<FrameId>, section: Section) -> Option<TaskList> {
    let Some(parent) = parent else { return Some(Arc::clone(&workflow.tasks)) };
    let task = task_of(workflow, state, state.frames.get(&parent)?)?;
    let found = match (&task.work, section) {
        (Work::Do(tasks), Section::Body) => tasks,
        (Work::For(of), Section::Body) => &of.body,
        (Work::Fork { branches, .. }, Section::Branch) => branches,
        (Work::Try { body, .. }, Section::Body) => body,
        (Work::Try { catch, .. }, Section::Catch) => catch.body.as_ref()?,
        (Work::Listen(listen), Section::Each) => &listen.each.as_ref()?.body,
        _ => return None,
    };
    Some(Arc::clone(found))
}

/// The fault as the task's, where it does not say whose it is.
fn located(mut fault: Fault, task: &Task) -> Fault {
    fault.instance.get_or_insert_with(|| task.pointer.clone());
    fault
}

/// The state names what the workflow does not have: no journal of ours does.
fn lost(what: &str) -> Halt {
    Fault::standard(
        "runtime",
        500,
        "Runtime Error",
        format!("the workflow's state names {what} that is not there"),
    )
    .into()
}

impl Turn<'_> {
    pub(super) fn flow_next(&mut self) -> Next {
        let due = self.flow_due().into_iter().chain(self.earliest_due()).min();
        if self.run.calling().next().is_some() || self.is_asking() {
            return Next::Wait { until: if self.run.paused { None } else { due } };
        }
        // Children of what was given up are ended under this lease: whoever takes it over when it
        // is lost ends them first.
        if self.entries.iter().any(Entry::gives_up) {
            return Next::Again;
        }
        if self.run.ending.is_some() {
            return self.end_held();
        }
        if self.draining {
            return Next::Release;
        }
        if self.run.paused {
            self.push(outside::suspend_paused());
            return Next::Suspend { reason: Reason::Paused, ready_at: None };
        }
        if let Some(at) = due.filter(|at| self.now.until(*at) <= super::HOLD_FOR_RETRY) {
            return Next::Wait { until: Some(at) };
        }
        self.suspend(due)
    }
}

//! Where a workflow stands: a tree of frames, one for each task that was begun and is not over.
//! It holds numbers of values and no values, so that it stays small; each turn that changed it
//! writes it whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::entry::{ApprovalDecided, FlowState};
use crate::status::Failure;
use crate::time::Timestamp;

/// A frame's number: 1 and up, never used twice in an execution.
pub type FrameId = u32;

/// Where a value is found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueRef {
    /// `null`.
    #[default]
    Null,
    /// A small number, such as an index.
    Number(u64),
    /// What stands in a `flow.state` under this number.
    Own(u64),
    /// A member of an array that stands in a `flow.state` under this number.
    Member(u64, usize),
    /// The output of a step.
    Step(i32),
}

/// Which list of its parent's task a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// The workflow's own.
    Main,
    /// Of `do`, `for` or `try`.
    Body,
    /// Of `catch`.
    Catch,
    /// The branches of a `fork`.
    Branch,
    /// Of `foreach`.
    Each,
    /// The task of a function.
    Function,
}

/// A task that was begun and is not over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// The frame of the task that it is a part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<FrameId>,
    /// Which list it is in.
    pub section: Section,
    /// Its place in that list.
    pub at: usize,
    /// How many tasks of that list were begun before it, in the same round or attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub nth: u32,
    /// How many tasks in it were begun in this round or attempt.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begun: u32,
    /// Its input before `input.from`.
    pub raw: ValueRef,
    /// Its input.
    #[serde(default)]
    pub input: ValueRef,
    /// When it was begun.
    pub started_at: Timestamp,
    /// Its `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// What the tasks in it can name besides the arguments that all have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, ValueRef>,
    /// How far it is.
    pub phase: Phase,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How far a task is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not begun.
    Begin,
    /// Its tasks, or its function's, are at work.
    Inside,
    /// Its effect is a step.
    Step {
        /// The step.
        step: i32,
        /// What is sent and not shown: headers.
        #[serde(default)]
        hidden: ValueRef,
    },
    /// A person is asked.
    Asked {
        /// The step.
        step: i32,
        /// Undecided then, the question has expired.
        until: Timestamp,
        /// What is given on where it is approved.
        #[serde(default)]
        subject: ValueRef,
        /// Its first approvers did not answer: further ones are asked.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        escalated: bool,
    },
    /// It waits for this moment.
    Until(Timestamp),
    /// It waits for events.
    Listen(Listening),
    /// The item of a `for`.
    For {
        /// All of them, as they were when it began.
        items: u64,
        /// Which is at work.
        index: usize,
    },
    /// The branches' outputs.
    Fork(Vec<Option<ValueRef>>),
    /// An attempt of a `try`.
    Try(Attempt),
    /// The time before the next attempt.
    Retry {
        /// The last attempt.
        attempt: Attempt,
        /// When the next is due.
        at: Timestamp,
    },
    /// A `catch` is at work.
    Caught,
}

/// An attempt of a `try`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1 and up.
    pub number: u32,
    /// When the first began.
    pub began: Timestamp,
    /// When this one began; unknown where an earlier version wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// When this one has taken too long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
}

impl Attempt {
    /// It has its time anew from this moment on.
    fn again(&mut self, now: Timestamp) {
        self.due = self.due.map(|due| now.plus(self.at.unwrap_or(self.began).until(due)));
        (self.began, self.at) = (now, Some(now));
    }
}

/// How far a `listen` is. Events are named by their place among those that came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listening {
    /// So many events were offered to it.
    pub offered: usize,
    /// Those that it consumed, in order.
    #[serde(default)]
    pub taken: Vec<usize>,
    /// Which filters of `all` have their event.
    #[serde(default)]
    pub met: Vec<bool>,
    /// Which filters of `until` have their event.
    #[serde(default)]
    pub until_met: Vec<bool>,
    /// What correlations are held to, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub correlated: BTreeMap<String, ValueRef>,
    /// It consumes no more.
    #[serde(default)]
    pub over: bool,
    /// Whether the tasks of `foreach` are at work.
    #[serde(default)]
    pub at_work: bool,
    /// What `foreach` made of the first events.
    #[serde(default)]
    pub outputs: Vec<ValueRef>,
}

/// Where a workflow stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The frames.
    pub frames: BTreeMap<FrameId, Frame>,
    /// The number that the next frame gets.
    pub next_frame: FrameId,
    /// How many tasks of the workflow's own list were begun.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub begun: u32,
    /// The number that the next value gets.
    pub next_value: u64,
    /// `$context`.
    #[serde(default)]
    pub context: ValueRef,
    /// When it began.
    pub started_at: Timestamp,
    /// The workflow's `timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// It is where another run stood that this one repeats, and its times are that one's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub repeats: bool,
    /// Frames around a call of an unknown outcome: their time does not run, nor the workflow's own.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub held: BTreeSet<FrameId>,
    /// Calls that were cut off and are not to be made again, by the `try` that may come to them again
    /// and their place in it: the step.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cut_off: BTreeMap<FrameId, BTreeMap<String, i32>>,
    /// Transitions so far.
    pub transitions: u64,
    /// The events that were consumed, by their place among those that came.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub consumed: BTreeSet<usize>,
}

impl State {
    /// Before the first task.
    pub fn new(now: Timestamp) -> Self {
        Self {
            frames: BTreeMap::new(),
            next_frame: 1,
            begun: 0,
            next_value: 1,
            context: ValueRef::Null,
            started_at: now,
            due: None,
            repeats: false,
            held: BTreeSet::new(),
            cut_off: BTreeMap::new(),
            transitions: 0,
            consumed: BTreeSet::new(),
        }
    }

    /// What may take so long has that time anew from this moment on: the run that is repeated has
    /// used up its own. What waits for a moment waits for the same one.
    pub fn begin_again(&mut self, now: Timestamp) {
        self.repeats = false;
        self.own_again(now);
        self.started_at = now;
        self.frames.values_mut().for_each(|frame| frame.again(now));
    }

    /// The workflow itself has its time anew.
    fn own_again(&mut self, now: Timestamp) {
        if let Some(due) = self.due {
            self.due = Some(now.plus(self.started_at.until(due)));
            self.started_at = now;
        }
    }

    /// From now on the time of these stands still; those that are held no more have theirs anew.
    pub(crate) fn hold(&mut self, held: BTreeSet<FrameId>, now: Timestamp) {
        for id in self.held.difference(&held) {
            if let Some(frame) = self.frames.get_mut(id) {
                frame.again(now);
            }
        }
        if held.is_empty() {
            self.own_again(now);
        }
        self.held = held;
    }

    /// The frames whose time runs.
    pub fn timed(&self) -> impl Iterator<Item = (FrameId, &Frame)> {
        self.frames.iter().map(|(id, frame)| (*id, frame)).filter(|(id, _)| !self.held.contains(id))
    }

    /// When the workflow itself has taken too long, where its time runs.
    pub fn own_due(&self) -> Option<Timestamp> {
        self.due.filter(|_| self.held.is_empty())
    }

    /// Calls that nothing can come to again.
    pub(crate) fn forget_cut_off(&mut self) {
        self.cut_off.retain(|id, calls| !calls.is_empty() && self.frames.contains_key(id));
    }

    /// The frame whose effect is this step.
    pub fn frame_of_step(&self, step: i32) -> Option<FrameId> {
        self.frames.iter().find(|(_, frame)| frame.step() == Some(step)).map(|(id, _)| *id)
    }

    /// How many frames it is inside of, itself included.
    pub fn depth(&self, id: Option<FrameId>) -> usize {
        self.chain(id).count()
    }

    /// The frame, its parent, that one's parent, ….
    pub fn chain(&self, id: Option<FrameId>) -> impl Iterator<Item = (FrameId, &Frame)> {
        let found = |id: FrameId| self.frames.get(&id).map(|frame| (id, frame));
        std::iter::successors(id.and_then(found), move |(_, frame)| frame.parent.and_then(found))
    }

    /// The frame and all frames inside of it, outer ones first.
    pub fn family(&self, id: FrameId) -> Vec<FrameId> {
        let mut family = BTreeSet::from([id]);
        // A frame's number is greater than its parent's.
        for (child, frame) in self.frames.range(id..) {
            if frame.parent.is_some_and(|parent| family.contains(&parent)) {
                family.insert(*child);
            }
        }
        family.into_iter().filter(|id| self.frames.contains_key(id)).collect()
    }

    /// The first moment at which something is due.
    pub fn earliest_due(&self) -> Option<Timestamp> {
        self.timed().flat_map(|(_, frame)| frame.dues()).chain(self.own_due()).min()
    }

    fn references(&self) -> impl Iterator<Item = ValueRef> {
        self.frames.values().flat_map(Frame::references).chain([self.context])
    }
}

impl Frame {
    /// What may take so long has that time anew from this moment on.
    fn again(&mut self, now: Timestamp) {
        if let Some(due) = self.due {
            self.due = Some(now.plus(self.started_at.until(due)));
            self.started_at = now;
        }
        if let Phase::Try(attempt) | Phase::Retry { attempt, .. } = &mut self.phase {
            attempt.again(now);
        }
    }

    /// The step that carries its task out.
    pub fn step(&self) -> Option<i32> {
        match self.phase {
            Phase::Step { step, .. } | Phase::Asked { step, .. } => Some(step),
            _ => None,
        }
    }

    /// When the attempt of its `try` has taken too long.
    pub fn attempt_due(&self) -> Option<Timestamp> {
        match &self.phase {
            Phase::Try(attempt) => attempt.due,
            _ => None,
        }
    }

    /// Which round of its list is at work, where it has several.
    pub fn round(&self) -> usize {
        match &self.phase {
            Phase::For { index, .. } => *index,
            Phase::Listen(listening) => listening.outputs.len(),
            _ => 0,
        }
    }

    /// The moments at which something is due for it.
    pub fn dues(&self) -> impl Iterator<Item = Timestamp> {
        let phase = match &self.phase {
            Phase::Until(at) | Phase::Retry { at, .. } | Phase::Asked { until: at, .. } => Some(*at),
            _ => self.attempt_due(),
        };
        phase.into_iter().chain(self.due)
    }

    fn references(&self) -> Vec<ValueRef> {
        let mut found = vec![self.raw, self.input];
        found.extend(self.variables.values());
        match &self.phase {
            Phase::Step { step, hidden } => found.extend([ValueRef::Step(*step), *hidden]),
            Phase::Asked { step, subject, .. } => found.extend([ValueRef::Step(*step), *subject]),
            Phase::Listen(listening) => {
                found.extend(listening.correlated.values());
                found.extend(&listening.outputs);
            }
            Phase::For { items, .. } => found.push(ValueRef::Own(*items)),
            Phase::Fork(outputs) => found.extend(outputs.iter().flatten()),
            _ => {}
        }
        found
    }
}

/// A workflow's part of the fold: its state, and the values that it refers to.
#[derive(Debug, Clone, Default)]
pub struct Flow {
    /// Where it stands; `None` before its first turn.
    pub state: Option<State>,
    /// Values by number.
    pub values: BTreeMap<u64, Arc<Value>>,
    /// Outputs of steps.
    pub outputs: BTreeMap<i32, Arc<Value>>,
    /// Why steps failed.
    pub failures: BTreeMap<i32, Failure>,
    /// What people decided about steps.
    pub decisions: BTreeMap<i32, ApprovalDecided>,
    /// Whether this is a workflow at all.
    pub on: bool,
}

impl Flow {
    /// Takes a new state in, and forgets what it does not refer to.
    pub fn take_in(&mut self, body: &FlowState) {
        for (number, value) in &body.values {
            self.values.insert(*number, Arc::new(read(value.get())));
        }
        let (mut own, mut steps) = (BTreeSet::new(), BTreeSet::new());
        for reference in body.state.references() {
            match reference {
                ValueRef::Own(number) | ValueRef::Member(number, _) => drop(own.insert(number)),
                ValueRef::Step(step) => drop(steps.insert(step)),
                ValueRef::Null | ValueRef::Number(_) => {}
            }
        }
        self.values.retain(|number, _| own.contains(number));
        self.outputs.retain(|step, _| steps.contains(step));
        self.failures.retain(|step, _| steps.contains(step));
        self.decisions.retain(|step, _| steps.contains(step));
        self.state = Some(body.state.clone());
    }

    /// Keeps a step's output.
    pub fn keep(&mut self, step: i32, output: &str) {
        if self.on {
            self.outputs.insert(step, Arc::new(read(output)));
        }
    }

    /// The value, if it is there.
    pub fn value(&self, reference: ValueRef) -> Option<Arc<Value>> {
        match reference {
            ValueRef::Null => Some(Arc::new(Value::Null)),
            ValueRef::Number(number) => Some(Arc::new(Value::from(number))),
            ValueRef::Own(number) => self.values.get(&number).cloned(),
            ValueRef::Member(number, index) => {
                self.values.get(&number)?.get(index).map(|member| Arc::new(member.clone()))
            }
            ValueRef::Step(step) => self.outputs.get(&step).cloned(),
        }
    }
}

/// JSON that is too deep for us is carried as its text.
pub fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_else(|_| Value::String(json.to_owned()))
}

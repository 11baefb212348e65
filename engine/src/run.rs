//! An execution as its journal tells it: a fold without I/O, clock or chance. The same
//! journal always gives the same run, on the first turn and after the tenth restart.

use std::collections::{BTreeMap, HashSet};

use crate::entry::{
    ApprovalClosed, ApprovalDecided, ApprovalRequested, CorruptLine, DelegatedBy, Entry, Line, QueueTerms,
    SignalReceived, TaskCancelled, TaskFailed, TaskHeartbeat, TaskPublished, ToolCall, ToolsListed, Usage,
};
use crate::ids::ExecutionId;
use crate::mcp::List;
use crate::status::{DefinitionKind, Failure, Outcome, Reason, Status};
use crate::team::Member;
use crate::time::Timestamp;
use crate::workflow::state::Flow;

/// Where a step stands.
#[derive(Debug, Clone, PartialEq)]
pub enum StepState {
    /// To be performed as soon as may be.
    Ready,
    /// A person is asked.
    Asking,
    /// A person denied it; the model is still to be told.
    Refused {
        /// What the person said.
        reason: Option<String>,
    },
    /// Its intent is journaled, its result is not.
    Calling,
    /// An attempt failed; the next is due then.
    Retrying {
        /// When.
        at: Timestamp,
    },
    /// Nobody knows whether the call happened.
    Unknown {
        /// From when on "it did not happen" can be true.
        settled_at: Timestamp,
    },
    /// An execution of its own carries it out.
    Delegated {
        /// Which.
        child: ExecutionId,
    },
    /// A worker elsewhere carries it out.
    Awaiting {
        /// Silent until then, it has lost it.
        due: Option<Timestamp>,
    },
    /// Over; for a tool, what the model is told.
    Done {
        /// The `content` of the tool message.
        told: String,
    },
}

/// What a step performs.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// A model call.
    Model,
    /// A tool call.
    Tool(ToolWork),
    /// A constant.
    Noop,
    /// Asking an MCP server for its tools.
    Listing {
        /// Whose server it is.
        agent: Option<Member>,
        /// The server's name in the definition.
        tool: String,
    },
}

/// A tool call and what was decided about it.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolWork {
    /// Unique in the execution.
    pub call_id: String,
    /// The tool's name.
    pub tool: String,
    /// The bytes that will be sent: the model's, or those that a person put in their place.
    pub arguments: String,
    /// The digest that the decision binds to, once it is approved.
    pub gate: Option<String>,
    /// Whether an attempt has stood on that decision.
    pub gate_used: bool,
    /// The agent that asked for it; `None` for the one that the execution began with.
    pub asker: Option<Member>,
    /// The terms of a task for a worker elsewhere.
    pub queue: Option<QueueTerms>,
}

/// An open question of a child.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildAsks {
    /// The delegating step.
    pub step: i32,
    /// The child's tool.
    pub tool: String,
    /// The child's call.
    pub by: DelegatedBy,
}

/// One step of the fold.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// What it performs.
    pub work: Work,
    /// Where it stands.
    pub state: StepState,
    /// The last attempt's number; 0 before the first.
    pub attempt: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Attempts that ended with their worker.
    pub interruptions: u32,
    /// Questions what became of it that had no answer.
    pub questions: u32,
    /// When the next is due.
    pub ask_at: Option<Timestamp>,
    /// A question is under way: only its worker knows.
    pub asking: bool,
    /// Its policy lets it go without a decision.
    pub waived: bool,
}

impl Step {
    fn new(work: Work, state: StepState) -> Self {
        Self {
            work,
            state,
            attempt: 0,
            failures: 0,
            interruptions: 0,
            questions: 0,
            ask_at: None,
            asking: false,
            waived: false,
        }
    }

    /// Its tool call, if it is one.
    pub fn tool(&self) -> Option<&ToolWork> {
        match &self.work {
            Work::Tool(tool) => Some(tool),
            _ => None,
        }
    }

    /// Whether nothing is to be done for it any more.
    pub fn is_done(&self) -> bool {
        matches!(self.state, StepState::Done { .. })
    }
}

/// A model's answer, for the next request's transcript.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Its text.
    pub text: String,
    /// Its calls, in order.
    pub tool_calls: Vec<ToolCall>,
}

/// An execution as its journal tells it.
#[derive(Debug, Clone, Default)]
pub struct Run {
    /// The number of the last line.
    pub seq: i64,
    /// The number of the last event.
    pub event: i64,
    /// Bytes of payload so far (deltas that were not loaded count by the message they became).
    pub bytes: usize,
    /// Whether `execution.started` is there.
    pub started: bool,
    /// What it waits for, from `execution.suspended` to `execution.resumed`.
    pub suspended: Option<Reason>,
    /// Whether a person paused it.
    pub paused: bool,
    /// Who held its workflow: it ends once nothing is under way any more.
    pub ending: Option<String>,
    /// How it ended.
    pub ended: Option<Status>,
    /// All steps by number.
    pub steps: BTreeMap<i32, Step>,
    /// The model's answers in order.
    pub answers: Vec<Answer>,
    /// Of all model calls.
    pub usage: Usage,
    /// What each MCP server listed last, by whose server it is and its name there.
    pub lists: BTreeMap<(Option<Member>, String), List>,
    /// Steps whose question fell away: done, and nobody was told anything.
    pub closed: HashSet<i32>,
    /// The agent that speaks; `None` for the one that the execution is pinned to.
    pub speaker: Option<Member>,
    /// How often it was transferred.
    pub transfers: u32,
    /// Open questions of children, by the call id under which they are shown here.
    pub children_ask: BTreeMap<String, ChildAsks>,
    /// Events and signals that came, in order.
    pub signals: Vec<SignalReceived>,
    /// What only a workflow has.
    pub flow: Flow,
    call_ids: HashSet<String>,
}

/// The kinds of lines that a fold can do without; loading leaves them out.
pub const NOT_FOLDED: &str = "message.delta";

impl Run {
    /// The fold of a journal whose row says `seq` and `event` (deltas may be left out).
    pub fn fold<'a>(
        lines: impl IntoIterator<Item = &'a Line>,
        seq: i64,
        event: i64,
    ) -> Result<Self, CorruptLine> {
        let mut run = Run::default();
        for line in lines {
            let entry = Entry::read(&line.kind, &line.payload)?;
            run.apply(&entry);
            let weight = if matches!(entry, Entry::MessageCompleted(_)) { 2 } else { 1 };
            run.bytes += weight * line.payload.len();
        }
        run.seq = seq;
        run.event = event;
        Ok(run)
    }

    /// A run of which nothing is known but its numbers: for ending what cannot be read.
    pub fn unread(seq: i64, event: i64) -> Self {
        Self { seq, event, ..Self::default() }
    }

    /// The number that the next step gets.
    pub fn next_step(&self) -> i32 {
        self.steps.last_key_value().map_or(1, |(number, _)| number + 1)
    }

    /// Whether a tool call id is taken.
    pub fn has_call(&self, id: &str) -> bool {
        self.call_ids.contains(id)
    }

    /// The step of a tool call.
    pub fn step_of_call(&self, call_id: &str) -> Option<(i32, &ToolWork)> {
        self.steps.iter().find_map(|(number, step)| {
            step.tool().filter(|tool| tool.call_id == call_id).map(|tool| (*number, tool))
        })
    }

    /// The tool calls that wait for a decision.
    pub fn asking(&self) -> impl Iterator<Item = (i32, &ToolWork)> {
        self.steps
            .iter()
            .filter(|(_, step)| step.state == StepState::Asking)
            .filter_map(|(number, step)| Some((*number, step.tool()?)))
    }

    /// The steps whose intent has no result.
    pub fn calling(&self) -> impl Iterator<Item = (i32, &Step)> {
        self.steps
            .iter()
            .filter(|(_, step)| step.state == StepState::Calling)
            .map(|(number, step)| (*number, step))
    }

    /// The executions that carry out steps of this one.
    pub fn children(&self) -> impl Iterator<Item = (i32, ExecutionId)> {
        self.steps.iter().filter_map(|(number, step)| match step.state {
            StepState::Delegated { child } => Some((*number, child)),
            _ => None,
        })
    }

    /// Takes one more line in. Lines that make no sense here (a result of a step that
    /// is not there) change nothing: the fold never fails on order.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::ExecutionStarted(body) => {
                self.started = true;
                self.speaker.clone_from(&body.active);
                self.flow.on = body.kind == DefinitionKind::Workflow;
            }
            Entry::ExecutionSuspended(body) => self.suspended = Some(body.reason),
            Entry::ExecutionResumed(_) => self.suspended = None,
            Entry::ExecutionCompleted(_) => self.ended = Some(Status::Completed),
            Entry::ExecutionFailed(_) => self.ended = Some(Status::Failed),
            Entry::ExecutionCancelled(_) => self.ended = Some(Status::Cancelled),
            Entry::PauseChanged(body) => {
                self.paused = body.paused;
                self.ending = body.ends.then(|| body.by.clone());
            }
            Entry::ModelCalled(body) => {
                let step = Step::new(Work::Model, StepState::Calling);
                self.steps.insert(body.step, Step { attempt: body.attempt, ..step });
            }
            Entry::ModelRestarted(body) => self.change(body.step, |step| {
                step.attempt = body.attempt;
                step.state = StepState::Calling;
            }),
            Entry::MessageDelta(_) => {}
            Entry::MessageCompleted(body) => {
                self.change(body.step, |step| step.state = StepState::Done { told: String::new() });
                self.usage = self.usage.plus(body.usage);
                self.answers.push(Answer { text: body.text.clone(), tool_calls: body.tool_calls.clone() });
                for call in &body.tool_calls {
                    self.call_ids.insert(call.id.clone());
                    let work = ToolWork {
                        call_id: call.id.clone(),
                        tool: call.name.clone(),
                        arguments: call.arguments.clone(),
                        gate: None,
                        gate_used: false,
                        asker: self.speaker.clone(),
                        queue: None,
                    };
                    self.steps.insert(call.step, Step::new(Work::Tool(work), StepState::Ready));
                }
            }
            Entry::ToolCalled(body) => {
                self.task_step(body.step, &body.tool_call_id, &body.tool, body.arguments.get());
                self.change(body.step, |step| {
                    step.attempt = body.attempt;
                    step.state = StepState::Calling;
                    if let Work::Tool(tool) = &mut step.work {
                        tool.gate_used = tool.gate.is_some();
                        tool.queue.clone_from(&body.queue);
                    }
                });
            }
            Entry::ToolCompleted(body) => {
                self.flow.keep(body.step, body.output.get());
                self.done(body.step, told_output(body.output.get()));
            }
            Entry::ToolFailed(body) => {
                if self.flow.on {
                    self.flow.failures.insert(body.step, body.error.clone());
                }
                self.done(body.step, told_failure(&body.error));
            }
            Entry::ToolDenied(body) => {
                self.done(body.step, serde_json::json!({"denied": true, "reason": body.reason}).to_string())
            }
            Entry::AttemptFailed(body) => self.change(body.step, |step| {
                step.failures += 1;
                step.state = StepState::Retrying { at: body.retry_at };
            }),
            Entry::AttemptInterrupted(body) => self.change(body.step, |step| {
                step.interruptions += 1;
                step.state = StepState::Ready;
            }),
            Entry::OutcomeUnknown(body) => self.change(body.step, |step| {
                step.state = StepState::Unknown { settled_at: body.settled_at };
                (step.questions, step.ask_at, step.asking) = (0, None, false);
            }),
            Entry::OutcomeAsked(body) => self.change(body.step, |step| {
                (step.questions, step.ask_at) = (body.question, body.next_at);
            }),
            Entry::OutcomeResolved(body) => self.change(body.step, |step| {
                if body.outcome == Outcome::DidNotHappen {
                    step.state = StepState::Ready;
                }
            }),
            Entry::ApprovalRequested(ApprovalRequested {
                delegated_by: Some(by),
                step,
                tool,
                tool_call_id,
                ..
            }) => {
                let asks = ChildAsks { step: *step, tool: tool.clone(), by: by.clone() };
                self.children_ask.insert(tool_call_id.clone(), asks);
            }
            Entry::ApprovalDecided(ApprovalDecided { delegated_by: Some(_), tool_call_id, .. })
            | Entry::ApprovalClosed(ApprovalClosed { delegated_by: Some(_), tool_call_id, .. }) => {
                self.children_ask.remove(tool_call_id);
            }
            Entry::ApprovalNotNeeded(body) => self.change(body.step, |step| step.waived = true),
            Entry::ApprovalEscalated(_) => {}
            Entry::ApprovalRequested(body) => {
                self.task_step(body.step, &body.tool_call_id, &body.tool, &body.arguments_text);
                self.closed.remove(&body.step);
                self.change(body.step, |step| {
                    step.state = StepState::Asking;
                    if let Work::Tool(tool) = &mut step.work {
                        tool.gate = None;
                        tool.arguments.clone_from(&body.arguments_text);
                    }
                });
            }
            Entry::ApprovalDecided(body) => {
                if self.flow.on {
                    self.flow.decisions.insert(body.step, body.clone());
                }
                self.change(body.step, |step| {
                    let Work::Tool(tool) = &mut step.work else {
                        return;
                    };
                    if body.approved {
                        tool.gate = Some(body.digest.clone());
                        tool.gate_used = false;
                        if let Some(edited) = &body.arguments_text {
                            tool.arguments.clone_from(edited);
                        }
                        step.state = StepState::Ready;
                    } else {
                        step.state = StepState::Refused { reason: body.reason.clone() };
                    }
                });
            }
            Entry::ApprovalClosed(body) => {
                self.closed.insert(body.step);
                self.done(body.step, String::new());
            }
            Entry::Transfer(body) => {
                self.transfers += 1;
                self.speaker = Some(Member { agent: body.to.clone(), version: body.version });
                self.done(body.step, serde_json::json!({"transferred_to": body.to}).to_string());
            }
            Entry::Delegated(body) => {
                self.change(body.step, |step| step.state = StepState::Delegated { child: body.child });
            }
            Entry::ToolsListing(body) => {
                let work = Work::Listing { agent: body.agent.clone(), tool: body.tool.clone() };
                let step = self.steps.entry(body.step).or_insert(Step::new(work, StepState::Calling));
                step.attempt = body.attempt;
                step.state = StepState::Calling;
            }
            Entry::ToolsListed(body) => self.listed(body),
            Entry::FlowState(body) => self.flow.take_in(body),
            Entry::EventEmitted(_) | Entry::WorkflowFailed(_) => {}
            Entry::SignalReceived(body) => self.signals.push(body.clone()),
            Entry::TaskFailed(TaskFailed { step, .. }) | Entry::TaskCancelled(TaskCancelled { step, .. }) => {
                self.pure_step(*step);
                // Where its call failed before, that is what a worker elsewhere is told again.
                if self.steps.get(step).is_some_and(|step| !step.is_done()) {
                    self.done(*step, String::new());
                }
            }
            Entry::TaskPublished(TaskPublished { step, due, .. })
            | Entry::TaskHeartbeat(TaskHeartbeat { step, due, .. }) => {
                self.change(*step, |step| step.state = StepState::Awaiting { due: *due });
            }
            Entry::StepCompleted(body) => {
                if body.task.is_some() {
                    self.flow.keep(body.step, body.output.get());
                }
                self.pure_step(body.step);
                if self.steps.get(&body.step).is_some_and(|step| !step.is_done()) {
                    self.done(body.step, String::new());
                }
            }
        }
    }

    /// A step that was never begun: it is over with its first line.
    fn pure_step(&mut self, step: i32) {
        let done = StepState::Done { told: String::new() };
        let pure = Step { attempt: 1, ..Step::new(Work::Noop, done) };
        self.steps.entry(step).or_insert(pure);
    }

    /// The step of a workflow's task comes with its first line; an agent's is there already.
    fn task_step(&mut self, step: i32, call_id: &str, tool: &str, arguments: &str) {
        if self.steps.contains_key(&step) {
            return;
        }
        let work = ToolWork {
            call_id: call_id.to_owned(),
            tool: tool.to_owned(),
            arguments: arguments.to_owned(),
            gate: None,
            gate_used: false,
            asker: None,
            queue: None,
        };
        self.call_ids.insert(call_id.to_owned());
        self.steps.insert(step, Step::new(Work::Tool(work), StepState::Ready));
    }

    fn listed(&mut self, body: &ToolsListed) {
        let server = (body.agent.clone(), body.tool.clone());
        let first = self.lists.get(&server).map_or(&body.digest, |known| &known.first).clone();
        let list = List { digest: body.digest.clone(), first, tools: body.tools.clone() };
        self.lists.insert(server, list);
        self.change(body.step, |step| {
            if matches!(step.work, Work::Listing { .. }) {
                step.state = StepState::Done { told: String::new() };
            }
        });
    }

    fn change(&mut self, step: i32, change: impl FnOnce(&mut Step)) {
        if let Some(step) = self.steps.get_mut(&step) {
            change(step);
        }
    }

    fn done(&mut self, step: i32, told: String) {
        self.children_ask.retain(|_, asks| asks.step != step);
        self.change(step, |step| step.state = StepState::Done { told });
    }
}

/// What a failure is told as.
pub(crate) fn told_failure(error: &Failure) -> String {
    serde_json::json!({"error": error.message, "type": error.kind}).to_string()
}

/// A text answer reaches the model as text, any other JSON as it is.
pub(crate) fn told_output(output: &str) -> String {
    serde_json::from_str::<String>(output).unwrap_or_else(|_| output.to_owned())
}

impl Run {
    /// Numbers entries that [`Run::apply`] took in, as lines to commit.
    pub fn number(&mut self, entries: &[Entry], at: Timestamp) -> Vec<Line> {
        entries
            .iter()
            .map(|entry| {
                self.seq += 1;
                let event = entry.is_event().then(|| {
                    self.event += 1;
                    self.event
                });
                let payload = entry.payload();
                self.bytes += payload.len();
                Line { seq: self.seq, event, kind: entry.kind().to_owned(), step: entry.step(), at, payload }
            })
            .collect()
    }
}

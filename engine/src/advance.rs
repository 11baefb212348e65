//! The decision: from the pinned definition, the journal and what has just come in, to the
//! lines to commit and the effects to perform. No I/O, no clock, no chance: time and
//! randomness are arguments, and the same arguments always give the same answer.
//!
//! The story of one call: take in what came, begin or resume, go on as far as possible,
//! say what to wait for.

mod ask;
mod awaiting;
mod mcp;
mod reconcile;
mod workflow;

use std::time::Duration;

use serde_json::Value;

use crate::client_time::ClientTime;
use crate::definition::{
    AgentTool, CompiledAgent, CompiledTool, Definition, HttpTool, Reference, Retry, Tool, ToolKind, Transfer,
};
use crate::digest;
use crate::effect::{
    Act, AskedCall, Certainty, DelegateEffect, Effect, HttpEffect, Input, ModelAnswer, ModelEffect,
};
use crate::entropy::Entropy;
use crate::entry::{
    AttemptFailed, AttemptInterrupted, Delegated, Entry, ExecutionCompleted, ExecutionFailed,
    ExecutionResumed, ExecutionStarted, ExecutionSuspended, Json, MessageCompleted, MessageDelta,
    ModelCalled, ModelRestarted, StepCompleted, ToolCall, ToolCalled, ToolCompleted, ToolDenied, ToolFailed,
    Usage, may_repeat,
};
use crate::ids::ExecutionId;
use crate::limits::{Limits, MAX_INTERRUPTIONS};
use crate::outside;
use crate::retry;
use crate::run::{Run, Step, StepState, ToolWork, Work};
use crate::runs::LONGEST_ASKED;
use crate::status::{ApprovalStatus, DefinitionKind, EffectClass, ErrorType, Failure, Reason};
use crate::team::{MAX_DEPTH, Member, Team};
use crate::time::{Span, Timestamp};
use crate::transcript;
use crate::workflow::expression::Evaluator;
use mcp::of_listing;
pub use workflow::{check_edited, edited_schema, task_of};

/// A retry that is due within this is waited for without giving the lease back.
const HOLD_FOR_RETRY: Duration = Duration::from_secs(2);

/// What an execution is pinned to and was started with; the same for its whole life.
#[derive(Debug)]
pub struct Pinned {
    /// The execution.
    pub id: ExecutionId,
    /// The first run that this one repeats; itself, if it repeats none.
    pub first_run: ExecutionId,
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// The definition's name.
    pub name: String,
    /// The definition's version.
    pub version: i32,
    /// The definition.
    pub definition: std::sync::Arc<Definition>,
    /// The agents that it may name.
    pub team: Team,
    /// The agent that its conversation was with last, if that was not the one that began it.
    pub active_agent: Option<String>,
    /// How deep it was delegated: 0 for one that was not.
    pub depth: i32,
    /// The messages that it was started with.
    pub messages: Vec<Value>,
    /// What a workflow was started with.
    pub input: Value,
    /// Whom it is for.
    pub end_user: Option<String>,
    /// The ids of the files that it was started with.
    pub files: Vec<String>,
    /// The user's own time, which the model is told.
    pub client_time: Option<ClientTime>,
}

impl Pinned {
    /// Whether deciding may evaluate expressions, which takes its time.
    pub fn evaluates(&self) -> bool {
        let definitions = || std::iter::once(&self.definition).chain(self.team.members.values());
        definitions().any(|definition| match definition.as_ref() {
            Definition::Agent(agent) => agent.agent.tools.iter().any(|tool| tool.approval.when().is_some()),
            Definition::Noop { .. } => false,
            Definition::Workflow(_) => true,
        })
    }

    /// Whom a list of a server's tools belongs to; the agent that the execution began with is
    /// always `None`.
    pub fn listed_for(&self, member: Option<&Member>) -> Option<Member> {
        member.filter(|member| member.agent != self.name || member.version != self.version).cloned()
    }

    /// The agent of that version; `None` stands for the one that the execution began with.
    pub fn agent(&self, member: Option<&Member>) -> Option<&CompiledAgent> {
        let own = |member: &&Member| member.agent != self.name || member.version != self.version;
        let definition = match member.filter(own) {
            Some(member) => self.team.members.get(member)?,
            None => &self.definition,
        };
        match definition.as_ref() {
            Definition::Agent(agent) => Some(agent),
            Definition::Noop { .. } | Definition::Workflow(_) => None,
        }
    }
}

/// What deciding needs from outside.
pub struct Context<'a> {
    /// The database's time.
    pub now: Timestamp,
    /// Chance, for ids and jitter.
    pub entropy: &'a mut Entropy,
    /// The limits in force.
    pub limits: &'a Limits,
    /// Results are taken in, nothing new is begun: the worker is about to leave.
    pub draining: bool,
    /// Evaluates the expressions of workflows.
    pub evaluator: &'a dyn Evaluator,
}

/// What is to be committed, then performed.
#[derive(Debug)]
pub struct Advance {
    /// Lines, in order.
    pub entries: Vec<Entry>,
    /// Effects whose intents are among the lines.
    pub effects: Vec<Effect>,
    /// Decisions that the effects use up: the store checks each when it commits the intent.
    pub gates: Vec<Gate>,
    /// The call of a task that is lost because nothing was heard of its worker: the store refuses that
    /// where something came meanwhile.
    pub unheard: Option<String>,
    /// What comes after.
    pub next: Next,
}

/// One gated call's claim to its decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// The call.
    pub tool_call_id: String,
    /// Of the bytes that will be sent.
    pub digest: String,
    /// Whether the decision must be unused: the first attempt uses it, repeats stand on it.
    pub first_use: bool,
}

/// What comes after a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Decide again at once.
    Again,
    /// Effects are under way, or a retry is due soon: keep the lease.
    Wait {
        /// When to decide again without a result.
        until: Option<Timestamp>,
    },
    /// There is more to do, elsewhere: give the lease back, ready at once.
    Release,
    /// Nothing to do here: give the lease back.
    Suspend {
        /// What it waits for.
        reason: Reason,
        /// When it goes on by itself.
        ready_at: Option<Timestamp>,
    },
    /// It is over.
    End,
}

/// Decides. `run` takes in every line that is returned.
pub fn advance(pinned: &Pinned, run: &mut Run, inputs: Vec<Input>, context: Context<'_>) -> Advance {
    let mut turn = Turn {
        pinned,
        run,
        now: context.now,
        entropy: context.entropy,
        limits: context.limits,
        draining: context.draining,
        evaluator: context.evaluator,
        evaluate_again: None,
        entries: Vec::new(),
        effects: Vec::new(),
        gates: Vec::new(),
        unheard: None,
        again: false,
    };
    turn.begin(&inputs);
    for input in inputs {
        turn.take_in(input);
    }
    turn.check_limits();
    turn.go_on();
    let next = turn.next();
    let Turn { entries, effects, gates, unheard, .. } = turn;
    Advance { entries, effects, gates, unheard, next }
}

struct Turn<'a> {
    pinned: &'a Pinned,
    run: &'a mut Run,
    now: Timestamp,
    entropy: &'a mut Entropy,
    limits: &'a Limits,
    draining: bool,
    evaluator: &'a dyn Evaluator,
    /// When expressions are evaluated again that could not be.
    evaluate_again: Option<Timestamp>,
    entries: Vec<Entry>,
    effects: Vec<Effect>,
    gates: Vec<Gate>,
    unheard: Option<String>,
    again: bool,
}

impl<'a> Turn<'a> {
    fn push(&mut self, entry: Entry) {
        self.run.apply(&entry);
        self.entries.push(entry);
    }

    fn push_all(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            self.push(entry);
        }
    }

    fn ended(&self) -> bool {
        self.run.ended.is_some()
    }

    /// An execution that is cancelled before its first step has no `execution.started`.
    fn begin(&mut self, inputs: &[Input]) {
        let cancelled = inputs.iter().any(|input| matches!(input, Input::Act(Act::Cancel { .. })));
        if self.ended() || (cancelled && !self.run.started) {
            return;
        }
        if !self.run.started {
            self.push(Entry::ExecutionStarted(ExecutionStarted {
                kind: self.pinned.kind,
                name: self.pinned.name.clone(),
                version: self.pinned.version,
                active: self.pinned.active_agent.as_ref().and_then(|agent| self.pinned.team.named(agent)),
            }));
        }
        if let Some(reason) = self.run.suspended {
            self.push(Entry::ExecutionResumed(ExecutionResumed { reason }));
        }
    }

    fn take_in(&mut self, input: Input) {
        if self.ended() {
            return;
        }
        match input {
            Input::Claimed => self.take_over(),
            Input::Act(act) => {
                let entries = outside::act(self.run, &act);
                self.push_all(entries);
            }
            Input::Delta { step, reasoning, text } => {
                if self.is_calling(step) {
                    self.push(Entry::MessageDelta(MessageDelta { step, reasoning, text }));
                }
            }
            Input::Answered { step, answer } => self.model_answered(step, answer),
            Input::Returned { step, output } => self.tool_returned(step, output),
            Input::Listed { step, tools } => self.listed(step, tools),
            Input::Delegated { step, child } => self.delegated(step, child),
            Input::Published { step } => self.published(step),
            Input::Reconciled { step, outcome, result } => drop(self.reconciled(step, outcome, result)),
            Input::Failed { step, failure, retry_after, certainty } => {
                // A question that broke down is one without an answer.
                if !self.reconciled(step, None, None) {
                    self.attempt_failed(step, failure, retry_after, certainty);
                }
            }
            // A workflow's question that was to expire was decided, or a task's worker that was silent was
            // heard: that comes as an act.
            Input::GateRefused { .. } if self.is_workflow() => {}
            Input::GateRefused { tool_call_id } => self.ask_again(&tool_call_id),
        }
    }

    fn is_workflow(&self) -> bool {
        matches!(self.pinned.definition.as_ref(), Definition::Workflow(_))
    }

    fn is_calling(&self, step: i32) -> bool {
        self.run.steps.get(&step).is_some_and(|step| step.state == StepState::Calling)
    }

    /// What the last worker had under way was cut short; each step's class says what that means.
    fn take_over(&mut self) {
        let open: Vec<(i32, Step)> =
            self.run.calling().map(|(number, step)| (number, step.clone())).collect();
        for (number, step) in open {
            if step.interruptions >= MAX_INTERRUPTIONS {
                let message = format!(
                    "step {number} lost its worker {} times; the limit is {MAX_INTERRUPTIONS}",
                    step.interruptions + 1
                );
                let entries = outside::fail(self.run, Reason::Stuck, message);
                return self.push_all(entries);
            }
            let tool = step.tool().and_then(|work| self.tool_of(work));
            let of_tool = tool.map(|tool| (tool.tool.class(), tool.tool.timeout()));
            let of_task = || self.flow_terms(number).map(|terms| (terms.class, terms.timeout));
            match of_tool.or_else(of_task) {
                Some((class, timeout)) if !may_repeat(class) => {
                    let message = if self.pinned.first_run == self.pinned.id {
                        "the worker was lost while the call was under way"
                    } else {
                        "the call was under way when the run before ended, or when the worker was lost"
                    };
                    let error = Failure::new(ErrorType::Internal, message);
                    self.outcome_unknown(number, error, self.now.plus(timeout));
                }
                _ => self.push(Entry::AttemptInterrupted(AttemptInterrupted {
                    step: number,
                    attempt: step.attempt,
                })),
            }
        }
    }

    /// The agent that speaks.
    fn agent(&self) -> Option<&'a CompiledAgent> {
        self.pinned.agent(self.run.speaker.as_ref())
    }

    /// The tool as the agent has it that asked for the call: others may speak by now.
    fn tool_of(&self, work: &ToolWork) -> Option<&'a CompiledTool> {
        self.pinned.agent(work.asker.as_ref())?.tool(&work.tool)
    }

    fn model_answered(&mut self, step: i32, answer: ModelAnswer) {
        if !self.is_calling(step) {
            return;
        }
        let (text_bytes, asked) = (answer.text.len(), answer.tool_calls.len());
        let stopped = answer.finish_reason.clone();
        let usage = self.usage(&answer);
        let tool_calls = self.number_calls(answer.tool_calls);
        let output = crate::json(&answer.text);
        self.push(Entry::MessageCompleted(MessageCompleted {
            step,
            role: "assistant".to_owned(),
            text: answer.text,
            tool_calls: tool_calls.clone(),
            finish_reason: answer.finish_reason,
            usage,
        }));
        if text_bytes > self.limits.value_bytes {
            self.fail_limit("value_bytes", self.limits.value_bytes, text_bytes);
        } else if asked > self.limits.calls_per_turn {
            self.fail_limit("calls_per_turn", self.limits.calls_per_turn, asked);
        } else if let Some(what @ ("length" | "content_filter")) = stopped.as_deref() {
            let message = format!("the model stopped before its end: finish_reason `{what}`");
            let entries = outside::fail(self.run, Reason::Limit, message);
            self.push_all(entries);
        } else if tool_calls.is_empty() {
            self.push(Entry::ExecutionCompleted(ExecutionCompleted { output }));
        } else {
            self.open_calls(&tool_calls);
        }
    }

    fn usage(&self, answer: &ModelAnswer) -> Usage {
        let prices = self.agent().and_then(|agent| agent.agent.model.prices);
        Usage {
            input_tokens: answer.input_tokens,
            output_tokens: answer.output_tokens,
            cost_micros: prices.map_or(0, |p| p.cost_micros(answer.input_tokens, answer.output_tokens)),
        }
    }

    /// Gives each call a step and an id that is unique in the execution.
    fn number_calls(&self, asked: Vec<AskedCall>) -> Vec<ToolCall> {
        let mut taken = std::collections::HashSet::new();
        let mut number = |step: i32, call: AskedCall| {
            let wanted = call.id.filter(|id| is_plain_id(id)).unwrap_or_else(|| format!("call_{step}"));
            let mut id = wanted.clone();
            let mut suffix = 2;
            while self.run.has_call(&id) || !taken.insert(id.clone()) {
                id = format!("{wanted}-{suffix}");
                suffix += 1;
            }
            let empty = call.arguments.trim().is_empty();
            let arguments = if empty { "{}".to_owned() } else { call.arguments };
            ToolCall { step, id, name: call.name, arguments }
        };
        (self.run.next_step()..).zip(asked).map(|(step, call)| number(step, call)).collect()
    }

    /// The calls are those of the agent that speaks now; after them another may.
    fn open_calls(&mut self, calls: &[ToolCall]) {
        let asker = self.agent();
        let before = self.run.transfers;
        for call in calls {
            match asker.and_then(|agent| agent.transfer(&call.name)) {
                Some(_) if self.run.transfers > before => {
                    let agent = self.run.speaker.as_ref().map_or("", |member| &member.agent);
                    let message = format!("the agent `{agent}` goes on already");
                    self.refuse_call(call, message);
                }
                Some(transfer) => self.transfer(call, transfer),
                None => self.open_call(asker, call),
            }
            if self.ended() {
                return;
            }
        }
    }

    fn transfer(&mut self, call: &ToolCall, transfer: &Transfer) {
        let reference = Reference { agent: transfer.agent.clone(), version: transfer.version };
        let to = self.pinned.team.resolve(&reference);
        let Some(to) = to.filter(|to| self.pinned.agent(Some(to)).is_some()) else {
            let message =
                format!("the agent `{}` was not in use when this execution started", transfer.agent);
            return self.refuse_call(call, message);
        };
        let most = self.pinned.agent(None).map_or(0, |agent| agent.agent.max_transfers);
        if self.run.transfers >= most {
            let message = format!("the limit max_transfers is {most}");
            let entries = outside::fail(self.run, Reason::TransferLimit, message);
            return self.push_all(entries);
        }
        let from = self.run.speaker.as_ref().map_or(&self.pinned.name, |member| &member.agent).clone();
        let (step, tool_call_id) = (call.step, call.id.clone());
        self.push(Entry::Transfer(crate::entry::Transfer {
            step,
            tool_call_id,
            from,
            to: to.agent,
            version: to.version,
        }));
    }

    fn refuse_call(&mut self, call: &ToolCall, message: String) {
        self.push(Entry::ToolFailed(ToolFailed {
            step: call.step,
            tool_call_id: call.id.clone(),
            tool: call.name.clone(),
            error: Failure::new(ErrorType::Logic, message),
        }));
    }

    /// A call that cannot be made is told to the model; one that needs a decision is asked.
    fn open_call(&mut self, asker: Option<&CompiledAgent>, call: &ToolCall) {
        let checked = match asker.and_then(|agent| agent.tool(&call.name)) {
            None => Err(format!("there is no tool `{}`", call.name.chars().take(64).collect::<String>())),
            Some(_) if call.arguments.len() > self.limits.value_bytes => Err(format!(
                "arguments have {} bytes; the limit value_bytes is {}",
                call.arguments.len(),
                self.limits.value_bytes
            )),
            Some(tool) => {
                tool.check_arguments(&call.arguments).and_then(|()| self.check_listed_call(&tool.tool, call))
            }
        };
        match checked {
            Err(message) => self.refuse_call(call, message),
            Ok(()) => drop(self.let_through(call.step)),
        }
    }

    fn tool_returned(&mut self, step: i32, output: Json) {
        let Some(work) = self.calling_tool(step) else {
            return;
        };
        let bytes = output.get().len();
        if bytes > self.limits.value_bytes {
            let message = format!(
                "the tool's output has {bytes} bytes; the limit value_bytes is {}",
                self.limits.value_bytes
            );
            let failure = Failure::new(ErrorType::Logic, message);
            return self.tool_failed(step, work, Failure { reason: Some(Reason::Limit), ..failure });
        }
        self.push(Entry::ToolCompleted(ToolCompleted {
            step,
            tool_call_id: work.call_id,
            tool: work.tool,
            output,
        }));
    }

    /// A child that ended before this line could be written has brought the result already.
    fn delegated(&mut self, step: i32, child: ExecutionId) {
        if let Some(work) = self.calling_tool(step) {
            self.push(Entry::Delegated(Delegated { step, tool_call_id: work.call_id, child }));
        }
    }

    fn calling_tool(&self, step: i32) -> Option<ToolWork> {
        let found = self.run.steps.get(&step).filter(|step| step.state == StepState::Calling)?;
        found.tool().cloned()
    }

    fn tool_failed(&mut self, step: i32, work: ToolWork, error: Failure) {
        self.push(Entry::ToolFailed(ToolFailed { step, tool_call_id: work.call_id, tool: work.tool, error }));
    }

    fn attempt_failed(
        &mut self,
        number: i32,
        failure: Failure,
        retry_after: Option<Duration>,
        certainty: Certainty,
    ) {
        let Some(step) = self.run.steps.get(&number).filter(|step| step.state == StepState::Calling).cloned()
        else {
            return;
        };
        let (class, retry) = self.class_and_retry(number, &step);
        if certainty == Certainty::Unknown && !may_repeat(class) {
            return self.outcome_unknown(number, failure, self.now);
        }
        let wait = failure
            .kind
            .is_retryable()
            .then(|| retry::delay(retry, step.failures + 1, retry_after, self.entropy));
        let asked = retry_after.map(|asked| Span(asked.min(LONGEST_ASKED)));
        let failure = Failure { retry_after: asked, ..failure };
        match (wait.flatten(), step.work) {
            (Some(wait), _) => self.push(Entry::AttemptFailed(AttemptFailed {
                step: number,
                attempt: step.attempt,
                error: failure,
                retry_at: self.now.plus(wait),
            })),
            (None, Work::Tool(work)) => self.tool_failed(number, work, failure),
            (None, work) => {
                let failure = of_listing(failure, &work).sent_with(|| self.secrets_of(&work));
                let mut entries = outside::close_approvals(self.run, ApprovalStatus::Cancelled);
                entries.push(Entry::ExecutionFailed(ExecutionFailed {
                    reason: failure.kind.reason(),
                    error: failure,
                }));
                self.push_all(entries);
            }
        }
    }

    /// Of a call whose failure ends an agent's execution.
    fn secrets_of(&self, work: &Work) -> Vec<String> {
        let secret = match work {
            Work::Model => self.agent().and_then(|agent| agent.agent.model.secret.clone()),
            Work::Listing { agent, tool } => self.listing_secret(agent.as_ref(), tool),
            Work::Tool(_) | Work::Noop => None,
        };
        secret.into_iter().collect()
    }

    fn class_and_retry(&self, number: i32, step: &Step) -> (EffectClass, Retry) {
        if let Some(terms) = self.flow_terms(number) {
            return (terms.class, terms.retry);
        }
        let tool = match &step.work {
            Work::Listing { agent, tool } => {
                return (EffectClass::Idempotent, self.listing_retry(agent.as_ref(), tool));
            }
            Work::Tool(work) => self.tool_of(work),
            Work::Model | Work::Noop => None,
        };
        match (tool, self.agent()) {
            (Some(tool), _) => (tool.tool.class(), tool.tool.retry),
            (None, Some(agent)) => (EffectClass::Idempotent, agent.agent.model.retry),
            (None, None) => (EffectClass::Idempotent, Retry::default()),
        }
    }

    fn check_limits(&mut self) {
        if self.ended() {
            return;
        }
        let events = self.run.event + self.entries.iter().filter(|entry| entry.is_event()).count() as i64;
        if events >= self.limits.events {
            self.fail_limit("events", self.limits.events as usize, events as usize);
        } else if self.run.bytes > self.limits.journal_bytes {
            self.fail_limit("journal_bytes", self.limits.journal_bytes, self.run.bytes);
        }
    }

    fn fail_limit(&mut self, name: &str, limit: usize, was: usize) {
        let message = format!("the limit {name} is {limit}; it would be {was}");
        let entries = outside::fail(self.run, Reason::Limit, message);
        self.push_all(entries);
    }

    /// Begins whatever can be begun now.
    fn go_on(&mut self) {
        if self.ended() || self.run.paused || self.draining {
            return;
        }
        self.lose_silent();
        self.ask_outcomes();
        match self.pinned.definition.as_ref() {
            Definition::Noop { steps } => self.noop(*steps),
            Definition::Agent(_) => {
                self.perform_due();
                self.next_turn();
            }
            Definition::Workflow(workflow) => self.flow(workflow),
        }
    }

    /// One step in one commit: the next decision follows at once.
    fn noop(&mut self, steps: i32) {
        let step = self.run.next_step();
        if step <= steps {
            self.push(Entry::StepCompleted(StepCompleted { step, output: raw("\"noop\""), task: None }));
        }
        if step >= steps {
            self.push(Entry::ExecutionCompleted(ExecutionCompleted { output: raw("null") }));
        } else {
            self.again = true;
        }
    }

    fn perform_due(&mut self) {
        let due: Vec<(i32, Step)> = self
            .run
            .steps
            .iter()
            .filter(|(_, step)| match step.state {
                StepState::Ready | StepState::Refused { .. } => true,
                StepState::Retrying { at } => at <= self.now,
                _ => false,
            })
            .map(|(number, step)| (*number, step.clone()))
            .collect();
        for (number, step) in due {
            match (step.state, step.work) {
                (StepState::Refused { reason }, Work::Tool(work)) => {
                    self.push(Entry::ToolDenied(ToolDenied {
                        step: number,
                        tool_call_id: work.call_id,
                        tool: work.tool,
                        reason,
                    }))
                }
                (_, Work::Tool(work)) => self.call_tool(number, step.attempt + 1, work),
                (_, Work::Model) => self.call_model(number, step.attempt + 1),
                (_, Work::Listing { agent, tool }) => {
                    self.begin_listing(number, step.attempt + 1, agent, &tool);
                }
                (_, Work::Noop) => {}
            }
            if self.ended() {
                return;
            }
        }
    }

    /// The next turn begins when everything that the last answer asked for is over.
    fn next_turn(&mut self) {
        if self.ended() || !self.run.steps.values().all(Step::is_done) {
            return;
        }
        let most = self.pinned.agent(None).map_or(0, |agent| agent.agent.max_turns);
        if self.run.answers.len() >= most as usize {
            let message = format!("the limit max_turns is {most}");
            let entries = outside::fail(self.run, Reason::TurnLimit, message);
            return self.push_all(entries);
        }
        if self.list_servers() {
            return;
        }
        let step = self.run.next_step();
        self.call_model(step, 1);
    }

    fn call_model(&mut self, step: i32, attempt: u32) {
        let Some(agent) = self.agent() else {
            let message = "the agent that spoke last is not among those that were pinned";
            let entries = outside::fail(self.run, Reason::Internal, message);
            return self.push_all(entries);
        };
        let body = transcript::request_body(agent, self.pinned, self.run);
        self.push(if attempt == 1 {
            Entry::ModelCalled(ModelCalled { step, attempt })
        } else {
            Entry::ModelRestarted(ModelRestarted { step, attempt })
        });
        self.effects.push(Effect::Model(ModelEffect {
            step,
            attempt,
            base_url: agent.agent.model.base_url.clone(),
            secret: agent.agent.model.secret.clone(),
            body,
            timeout: agent.agent.model.timeout.0,
        }));
    }

    /// A gated call goes out only with bytes that have the digest that was decided on.
    fn call_tool(&mut self, step: i32, attempt: u32, work: ToolWork) {
        let Some(agent) = self.pinned.agent(work.asker.as_ref()) else {
            return;
        };
        let Some(tool) = agent.tool(&work.tool) else {
            return;
        };
        if let Err(message) = self.check_listed(&tool.tool, &work) {
            return self.tool_failed(step, work, Failure::new(ErrorType::Logic, message));
        }
        let list = self.list_digest(&work);
        let digest = digest::call_digest(&work.tool, agent.version, &work.arguments, list.as_deref());
        match &work.gate {
            Some(decided) if *decided != digest => return self.ask_again(&work.call_id),
            Some(_) => {}
            None if self.let_through(step) => {}
            None => return,
        }
        let gated = work.gate.is_some();
        let effect = match tool.tool.kind() {
            Some(ToolKind::Http(http)) => self.http_effect(&tool.tool, http, step, attempt, &work),
            Some(ToolKind::Agent(to)) => match self.delegate_effect(to, step, attempt, &work) {
                Some(effect) => effect,
                None => return,
            },
            Some(ToolKind::Mcp(mcp)) => match self.mcp_effect(&tool.tool, mcp, (step, attempt), &work) {
                Some(effect) => effect,
                None => return,
            },
            None => return,
        };
        if gated {
            let tool_call_id = work.call_id.clone();
            self.gates.push(Gate { tool_call_id, digest, first_use: !work.gate_used });
        }
        self.push(Entry::ToolCalled(ToolCalled {
            step,
            tool_call_id: work.call_id,
            tool: work.tool,
            arguments: raw(&work.arguments),
            attempt,
            task: None,
            queue: None,
        }));
        self.effects.push(effect);
    }

    fn http_effect(&self, tool: &Tool, http: &HttpTool, step: i32, attempt: u32, work: &ToolWork) -> Effect {
        Effect::Http(HttpEffect {
            step,
            attempt,
            tool_call_id: work.call_id.clone(),
            class: tool.class(),
            method: http.method,
            url: http.url.clone(),
            headers: http.headers.clone(),
            secret: http.secret.clone(),
            forwarded_headers: http.forwarded_headers.clone(),
            arguments: work.arguments.clone(),
            key: digest::effect_key(self.pinned.first_run, step),
            timeout: tool.timeout(),
        })
    }

    /// `None` where it cannot be delegated; then the lines that say so are there.
    fn delegate_effect(
        &mut self,
        to: &AgentTool,
        step: i32,
        attempt: u32,
        work: &ToolWork,
    ) -> Option<Effect> {
        if self.pinned.depth >= MAX_DEPTH {
            self.fail_limit("depth", MAX_DEPTH as usize, self.pinned.depth as usize + 1);
            return None;
        }
        let reference = Reference { agent: to.name.clone(), version: to.version };
        let Some(to) = self.pinned.team.resolve(&reference) else {
            let message = format!("the agent `{}` was not in use when this execution started", to.name);
            self.tool_failed(step, work.clone(), Failure::new(ErrorType::Logic, message));
            return None;
        };
        Some(Effect::Delegate(DelegateEffect {
            step,
            attempt,
            tool_call_id: work.call_id.clone(),
            to,
            arguments: work.arguments.clone(),
        }))
    }

    /// What to wait for, and the line that says so.
    fn next(&mut self) -> Next {
        if self.ended() {
            self.effects.clear();
            self.gates.clear();
            return Next::End;
        }
        if self.again {
            return Next::Again;
        }
        if self.is_workflow() {
            return self.flow_next();
        }
        let retry_at = self.earliest_due();
        if self.run.calling().next().is_some() || self.is_asking() {
            return Next::Wait { until: if self.run.paused { None } else { retry_at } };
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
        if let Some(at) = retry_at.filter(|at| self.now.until(*at) <= HOLD_FOR_RETRY) {
            return Next::Wait { until: Some(at) };
        }
        self.suspend(retry_at)
    }

    /// The end of a run whose workflow is held: nothing is under way any more.
    fn end_held(&mut self) -> Next {
        let by = self.run.ending.clone().unwrap_or_default();
        let entries = outside::end_paused(self.run, &by);
        self.push_all(entries);
        Next::End
    }

    fn earliest_due(&self) -> Option<Timestamp> {
        let others = [self.earliest_loss(), self.earliest_question(), self.evaluate_again];
        self.earliest_retry().into_iter().chain(others.into_iter().flatten()).min()
    }

    fn earliest_retry(&self) -> Option<Timestamp> {
        let retries = self.run.steps.values().filter_map(|step| match step.state {
            StepState::Retrying { at } => Some(at),
            _ => None,
        });
        retries.min()
    }

    /// An undecided approval is told before an unknown outcome, that before a retry, and that
    /// before the end of a child or of a queue's task, which comes as a signal.
    fn suspend(&mut self, due: Option<Timestamp>) -> Next {
        let own = self.run.asking().map(|(_, tool)| tool.call_id.clone());
        let tool_call_ids: Vec<String> = own.chain(self.run.children_ask.keys().cloned()).collect();
        let unknown = |step: &Step| matches!(step.state, StepState::Unknown { .. });
        let steps: Vec<i32> =
            self.run.steps.iter().filter(|(_, step)| unknown(step)).map(|(number, _)| *number).collect();
        let reason = if !tool_call_ids.is_empty() {
            Reason::Approval
        } else if !steps.is_empty() {
            Reason::OutcomeUnknown
        } else if self.is_workflow() {
            self.flow_reason()
        } else if self.earliest_retry().is_none()
            && (self.run.children().next().is_some() || self.is_awaiting())
        {
            Reason::Signal
        } else {
            Reason::Retry
        };
        self.push(Entry::ExecutionSuspended(ExecutionSuspended { reason, until: due, tool_call_ids, steps }));
        Next::Suspend { reason, ready_at: due }
    }
}

/// Bytes that were checked to be JSON before; anything else is carried as a string.
fn raw(text: &str) -> Json {
    serde_json::value::RawValue::from_string(text.to_owned()).unwrap_or_else(|_| crate::json(text))
}

/// An id that can stand in a path and a log line: 1 to 128 visible ASCII characters.
fn is_plain_id(id: &str) -> bool {
    !id.is_empty() && id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic())
}

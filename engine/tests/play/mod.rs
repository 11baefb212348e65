//! Plays a workflow: the effects that it begins are answered by the test, time goes on only
//! when nothing else is left to wait for. A play that forgets reads its run from the journal
//! before every single decision.
#![allow(dead_code, reason = "each suite plays with what it needs")]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::definition::Definition;
use holdpoint_engine::effect::{Act, Certainty, Effect, Input};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{Entry, Line};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::run::Run;
use holdpoint_engine::status::{DefinitionKind, ErrorType, Failure, Reason, Status};
use holdpoint_engine::team::Team;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::workflow::expression::{Evaluator, Expression, ExpressionError};
use holdpoint_expressions::{Problem, Program};
use serde_json::{Value, json};

/// jq in this very process.
pub struct Jq;

impl Evaluator for Jq {
    fn evaluate(
        &self,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        let (names, values): (Vec<&str>, Vec<String>) =
            variables.iter().map(|(name, value)| (*name, value.to_string())).unzip();
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let failed = |problem: Problem| ExpressionError::Failed(format!("{problem:?}"));
        let program = Program::compile(&expression.0, &names).map_err(failed)?;
        let text = program.run(&input.to_string(), &values, 256 * 1024).map_err(failed)?;
        serde_json::from_str(&text).map_err(|error| ExpressionError::Failed(error.to_string()))
    }

    fn check(&self, expression: &Expression, variables: &[&str]) -> Result<(), ExpressionError> {
        Program::compile(&expression.0, variables)
            .map(drop)
            .map_err(|problem| ExpressionError::Invalid(format!("{problem:?}")))
    }
}

/// The same, for whom each transition has taken long enough.
pub struct Impatient;

impl Evaluator for Impatient {
    fn evaluate(
        &self,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        Jq.evaluate(expression, input, variables)
    }

    fn is_enough(&self) -> bool {
        true
    }

    fn check(&self, expression: &Expression, variables: &[&str]) -> Result<(), ExpressionError> {
        Jq.check(expression, variables)
    }
}

/// What a test answers to an effect.
pub enum Answer {
    /// Its output.
    Output(Value),
    /// It failed for good, or is tried again by its terms.
    Failed(ErrorType, Option<u16>),
    /// It was sent, and nobody knows what came of it.
    Unknown,
    /// It is still at work when everything else is over, and for so long.
    Later(Duration, Box<Answer>),
    /// Anything else that a worker may bring.
    Input(Box<Input>),
    /// Nothing comes.
    Never,
}

pub fn output(value: Value) -> Answer {
    Answer::Output(value)
}

/// The document of a workflow with these tasks, in YAML.
pub fn document(tasks: &str) -> String {
    let indented: String = tasks.lines().map(|line| format!("  {line}\n")).collect();
    format!("document: {{dsl: 1.0.3, namespace: test, name: played, version: 1.0.0}}\ndo:\n{indented}")
}

/// A workflow that is played.
pub struct Play {
    pub pinned: Pinned,
    pub run: Run,
    pub journal: Vec<Line>,
    pub entries: Vec<Entry>,
    pub effects: Vec<Effect>,
    pub now: Timestamp,
    pub began: Timestamp,
    pub limits: Limits,
    pub commits: usize,
    pub forgets: bool,
    pub impatient: bool,
    pub next: Next,
    entropy: Entropy,
    waiting: VecDeque<(Timestamp, Input)>,
}

impl Play {
    pub fn of_document(document: &str, input: Value) -> Self {
        let definition = match Definition::compile(DefinitionKind::Workflow, 1, document) {
            Ok(definition) => definition,
            Err(errors) => panic!("{document}\n{errors:#?}"),
        };
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let mut entropy = Entropy::from_seed(7);
        let id = ExecutionId::new(now, &mut entropy);
        let pinned = Pinned {
            end_user: None,
            id,
            first_run: id,
            kind: DefinitionKind::Workflow,
            name: "played".to_owned(),
            version: 1,
            definition: Arc::new(definition),
            team: Team::default(),
            active_agent: None,
            depth: 0,
            messages: Vec::new(),
            input,
            files: Vec::new(),
            client_time: None,
        };
        Self {
            pinned,
            run: Run::default(),
            journal: Vec::new(),
            entries: Vec::new(),
            effects: Vec::new(),
            now,
            began: now,
            limits: Limits::default(),
            commits: 0,
            forgets: false,
            impatient: false,
            next: Next::Again,
            entropy,
            waiting: VecDeque::new(),
        }
    }

    pub fn new(tasks: &str, input: Value) -> Self {
        Self::of_document(&document(tasks), input)
    }

    /// One decision; what it begins is answered later.
    pub fn feed(&mut self, inputs: Vec<Input>) -> Advance {
        if self.forgets {
            let (seq, event) = (self.run.seq, self.run.event);
            self.run = Run::fold(&self.journal, seq, event).unwrap();
        }
        let context = Context {
            now: self.now,
            entropy: &mut self.entropy,
            limits: &self.limits,
            draining: false,
            evaluator: if self.impatient { &Impatient } else { &Jq },
        };
        let decided = advance(&self.pinned, &mut self.run, inputs, context);
        self.commits += usize::from(!decided.entries.is_empty());
        self.journal.extend(self.run.number(&decided.entries, self.now));
        self.entries.extend(decided.entries.iter().cloned());
        self.effects.extend(decided.effects.iter().cloned());
        self.next = decided.next.clone();
        decided
    }

    /// Goes on until it ends, or nothing that was promised is left.
    pub fn run(mut self, mut answer: impl FnMut(&Effect) -> Answer) -> Self {
        self.go(vec![Input::Claimed], &mut answer);
        self
    }

    pub fn act(&mut self, act: Act, answer: &mut dyn FnMut(&Effect) -> Answer) {
        self.go(vec![Input::Act(act)], answer);
    }

    pub fn go(&mut self, mut inputs: Vec<Input>, answer: &mut dyn FnMut(&Effect) -> Answer) {
        for _ in 0..20_000 {
            let decided = self.feed(inputs);
            match self.after(decided, answer) {
                Some(next) => inputs = next,
                None => return,
            }
        }
        panic!("it goes on for ever: {:#?}", self.order());
    }

    /// What comes after a decision; `None` where nothing does.
    pub fn after(
        &mut self,
        decided: Advance,
        answer: &mut dyn FnMut(&Effect) -> Answer,
    ) -> Option<Vec<Input>> {
        for effect in &decided.effects {
            let answered = answer(effect);
            self.take(effect, answered, self.now);
        }
        match decided.next {
            Next::End => None,
            Next::Again => Some(Vec::new()),
            Next::Release => panic!("given back"),
            Next::Wait { until } | Next::Suspend { ready_at: until, .. } => self.what_comes(until),
        }
    }

    /// The worker is gone, with everything that it had begun.
    pub fn lose(&mut self) {
        self.waiting.clear();
    }

    fn take(&mut self, effect: &Effect, answer: Answer, at: Timestamp) {
        let step = effect.step();
        let failed = |failure, certainty| Input::Failed { step, failure, retry_after: None, certainty };
        let input = match answer {
            Answer::Output(value) => Input::Returned { step, output: holdpoint_engine::json(&value) },
            Answer::Failed(kind, status) => {
                let failure = Failure { status, ..Failure::new(kind, "it failed") };
                failed(failure, Certainty::Definite)
            }
            Answer::Unknown => failed(Failure::new(ErrorType::Network, "reset"), Certainty::Unknown),
            Answer::Later(length, answer) => return self.take(effect, *answer, at.plus(length)),
            Answer::Input(input) => *input,
            Answer::Never => return,
        };
        self.waiting.push_back((at, input));
    }

    /// The first of what was promised, or time itself.
    fn what_comes(&mut self, until: Option<Timestamp>) -> Option<Vec<Input>> {
        let first = self.waiting.iter().map(|(at, _)| *at).min();
        match (first, until) {
            (Some(first), until) if until.is_none_or(|until| first <= until) => {
                self.now = self.now.max(first);
                let found = self.waiting.iter().position(|(at, _)| *at == first)?;
                Some(vec![self.waiting.remove(found)?.1])
            }
            (_, Some(until)) => {
                self.now = self.now.max(until);
                Some(Vec::new())
            }
            _ => None,
        }
    }

    pub fn elapsed(&self) -> Duration {
        self.began.until(self.now)
    }

    pub fn output(&self) -> Value {
        match self.entries.last() {
            Some(Entry::ExecutionCompleted(body)) => serde_json::from_str(body.output.get()).unwrap(),
            other => panic!("not completed: {other:#?}\n{:#?}", self.kinds()),
        }
    }

    pub fn failure(&self) -> (Reason, Failure) {
        match self.entries.last() {
            Some(Entry::ExecutionFailed(body)) => (body.reason, body.error.clone()),
            other => panic!("not failed: {other:#?}\n{:#?}", self.kinds()),
        }
    }

    /// The error as a workflow sees it.
    pub fn fault(&self) -> Value {
        let last = self.entries.iter().rev().find_map(|entry| match entry {
            Entry::TaskFailed(body) => Some(serde_json::from_str(body.error.get()).unwrap()),
            _ => None,
        });
        last.unwrap_or_default()
    }

    /// The tasks that were over, in order.
    pub fn order(&self) -> Vec<String> {
        let over = self.entries.iter().filter_map(|entry| match entry {
            Entry::StepCompleted(body) => body.task.clone(),
            _ => None,
        });
        over.collect()
    }

    pub fn kinds(&self) -> Vec<&'static str> {
        self.entries.iter().map(Entry::kind).collect()
    }

    pub fn ended(&self) -> Option<Status> {
        self.run.ended
    }

    /// What a reader of the journal sees.
    pub fn lines(&self) -> Vec<(String, i32, Value)> {
        let line = |line: &Line| {
            (line.kind.clone(), line.step, serde_json::from_str(&line.payload).unwrap_or_default())
        };
        self.journal.iter().map(line).collect()
    }
}

/// Plays twice, straight and forgetful: the journals are the same to the letter.
pub fn twice(tasks: &str, input: Value, answer: impl Fn(&Effect) -> Answer) -> Play {
    document_twice(&document(tasks), input, answer)
}

pub fn document_twice(document: &str, input: Value, answer: impl Fn(&Effect) -> Answer) -> Play {
    let straight = Play::of_document(document, input.clone()).run(&answer);
    let mut forgetful = Play::of_document(document, input);
    forgetful.forgets = true;
    let forgetful = forgetful.run(&answer);
    assert_eq!(straight.lines(), forgetful.lines());
    straight
}

/// The body of an HTTP request.
pub fn sent(effect: &Effect) -> Value {
    match effect {
        Effect::Request(request) => json!({
            "method": request.method, "uri": request.uri, "query": request.query,
            "headers": request.headers, "body": request.body,
        }),
        other => panic!("no request: {other:?}"),
    }
}

/// No effect is expected.
pub fn nothing(effect: &Effect) -> Answer {
    panic!("an effect: {effect:?}")
}

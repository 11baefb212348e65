//! What a worker tells of an execution's trace: its start, each time that it is held, each
//! attempt of a step, each question to a person. A trace that nobody exports and no caller
//! began is none, and costs nothing.

use std::collections::HashMap;

use holdpoint_db::Claimed;
use holdpoint_engine::digest::hex;
use holdpoint_engine::effect::{Effect, Input};
use holdpoint_engine::entry::{Entry, Line};
use holdpoint_engine::run::{Step, Work};
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::trace::{ExecutionTrace, Traceparent};
use holdpoint_perform::spans::{self, Kind, Span, Value};

use crate::session::process_now;

/// An execution's trace while this worker holds it.
pub(crate) struct Spans {
    trace: ExecutionTrace,
    epoch: i64,
    began: Timestamp,
    about: Vec<(&'static str, Value)>,
    kind: DefinitionKind,
    /// When a person was asked, by step.
    asked: HashMap<i32, Timestamp>,
}

impl Spans {
    /// What was claimed just now; its first claim ends the span of its start.
    pub fn begin(claimed: &Claimed, worker: &str) -> Option<Self> {
        let given = claimed.extras.as_ref().and_then(|extras| extras.traceparent);
        let trace = spans::of_execution(claimed.key.id, given)?;
        let about = vec![
            ("holdpoint.execution.id", claimed.key.id.to_string().into()),
            ("holdpoint.tenant", (&*claimed.key.scope.tenant).into()),
            ("holdpoint.project", (&*claimed.key.scope.project).into()),
            ("holdpoint.definition.name", claimed.name.as_str().into()),
            ("holdpoint.definition.version", i64::from(claimed.version).into()),
            ("holdpoint.worker", worker.into()),
        ];
        let began = process_now();
        let asked = HashMap::new();
        let mut this = Self { trace, epoch: claimed.epoch, began, about, kind: claimed.kind, asked };
        if claimed.epoch == 1 {
            this.export_start(claimed);
        }
        this.read(&claimed.lines);
        Some(this)
    }

    /// For the logs.
    pub fn trace_id(&self) -> String {
        hex(&self.trace.root().trace)
    }

    fn export_start(&self, claimed: &Claimed) {
        let waited = i64::try_from(claimed.waited.as_micros()).unwrap_or_default();
        spans::export(Span {
            is: self.trace.root(),
            parent: self.trace.parent,
            parent_is_remote: true,
            name: format!("{} {}", self.kind, claimed.name),
            kind: Kind::Internal,
            began: Timestamp::from_micros(self.began.micros() - waited),
            ended: self.began,
            attributes: self.about.clone(),
            error: None,
        });
    }

    /// The span of an attempt that begins now.
    pub fn step(&self, effect: &Effect, step: Option<&Step>) -> StepSpan {
        let mut about = self.about.clone();
        about.push(("holdpoint.step", i64::from(effect.step()).into()));
        about.push(("holdpoint.attempt", i64::from(effect.attempt()).into()));
        let kind = match effect {
            Effect::Publish(_) => Kind::Producer,
            Effect::Delegate(_) | Effect::Child(_) => Kind::Internal,
            _ => Kind::Client,
        };
        StepSpan {
            is: self.trace.step(effect.step(), effect.attempt()),
            parent: self.trace.run(self.epoch).span,
            name: name(effect, step),
            kind,
            began: process_now(),
            about,
        }
    }

    /// What was asked before, and what was answered while nobody held it.
    fn read(&mut self, lines: &[Line]) {
        let rested = lines.iter().rposition(|line| line.kind == "execution.suspended");
        for (at, line) in lines.iter().enumerate() {
            if !line.kind.starts_with("approval.") {
                continue;
            }
            if line.kind == "approval.requested" {
                self.asked.insert(line.step, line.at);
            } else if rested.is_some_and(|rested| at > rested)
                && let Ok(entry) = Entry::read(&line.kind, &line.payload)
            {
                self.export_answer(&entry, line.at);
            }
        }
    }

    /// These lines were committed now.
    pub fn committed(&mut self, entries: &[Entry]) {
        let now = process_now();
        for entry in entries {
            match entry {
                Entry::ApprovalRequested(body) => drop(self.asked.insert(body.step, now)),
                answer => self.export_answer(answer, now),
            }
        }
    }

    /// From the question to its answer.
    fn export_answer(&self, entry: &Entry, ended: Timestamp) {
        let (step, outcome) = match entry {
            Entry::ApprovalDecided(body) if body.approved => (body.step, "approved"),
            Entry::ApprovalDecided(body) => (body.step, "denied"),
            Entry::ApprovalClosed(body) => (body.step, body.status.as_str()),
            _ => return,
        };
        let Some(began) = self.asked.get(&step) else { return };
        let mut attributes = self.about.clone();
        attributes.push(("holdpoint.step", i64::from(step).into()));
        attributes.push(("holdpoint.approval.outcome", outcome.into()));
        spans::export(Span {
            is: self.trace.approval(step),
            parent: Some(self.trace.root().span),
            parent_is_remote: false,
            name: "approval".to_owned(),
            kind: Kind::Internal,
            began: *began,
            ended,
            attributes,
            error: None,
        });
    }

    /// It is held no longer.
    pub fn end(self, ended: Option<Status>, left: Option<&str>) {
        let mut attributes = self.about;
        attributes.push(("holdpoint.epoch", self.epoch.into()));
        let outcome = ended.map_or(left.unwrap_or("suspended"), |status| status.as_str());
        attributes.push(("holdpoint.run.outcome", outcome.into()));
        spans::export(Span {
            is: self.trace.run(self.epoch),
            parent: Some(self.trace.root().span),
            parent_is_remote: false,
            name: "run".to_owned(),
            kind: Kind::Consumer,
            began: self.began,
            ended: process_now(),
            attributes,
            error: left
                .map(str::to_owned)
                .or_else(|| (ended == Some(Status::Failed)).then(|| "failed".to_owned())),
        });
    }
}

/// One attempt of a step.
pub(crate) struct StepSpan {
    is: Traceparent,
    parent: [u8; 8],
    name: String,
    kind: Kind,
    began: Timestamp,
    about: Vec<(&'static str, Value)>,
}

impl StepSpan {
    /// What the call says of its trace.
    pub fn traceparent(&self) -> Traceparent {
        self.is
    }

    /// The attempt ended so.
    pub fn end(self, input: &Input) {
        let error = match input {
            Input::Failed { failure, .. } => Some(failure.kind.as_str().to_owned()),
            _ => None,
        };
        spans::export(Span {
            is: self.is,
            parent: Some(self.parent),
            parent_is_remote: false,
            name: self.name,
            kind: self.kind,
            began: self.began,
            ended: process_now(),
            attributes: self.about,
            error,
        });
    }
}

/// Few names: what is called by definitions, never what callers send.
fn name(effect: &Effect, step: Option<&Step>) -> String {
    let kind = holdpoint_perform::kind(effect);
    match (effect, step.map(|step| &step.work)) {
        (Effect::Child(effect), _) => format!("{kind} {}", effect.name),
        (Effect::OpenApi(effect), _) => format!("{kind} {}", effect.operation),
        (Effect::Publish(effect), _) => format!("{kind} {}", effect.queue),
        (_, Some(Work::Tool(work))) => format!("{kind} {}", work.tool),
        _ => kind.to_owned(),
    }
}

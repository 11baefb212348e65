//! Everything that a diagnosis is read from, and the evidence that was found so far.

use std::collections::BTreeSet;

use holdpoint_db::{ApprovalRow, LimitStanding, Standing, Tick, WorkerSession};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;
use holdpoint_engine::workflow::document::Workflow;

use super::Diagnosis;
use super::evidence::Evidence;
use super::seen::Seen;
use super::sentences::Sentence;
use super::words::{listed, when};

/// A tick that is open for so long is late: schedulers look once a second at least.
const LATE: std::time::Duration = std::time::Duration::from_secs(3);

/// What the API knows beside the database's snapshot.
#[derive(Default)]
pub struct Beside<'a> {
    /// Whether this process has the broker.
    pub broker_up: bool,
    /// The secrets that its definition names.
    pub secrets: BTreeSet<String>,
    /// Its definition, where it is a workflow.
    pub workflow: Option<&'a Workflow>,
    /// The limits that it falls under while it is ready, or that its calls wait for while it is held.
    pub limits: Vec<LimitStanding>,
    /// Its approvals, as far as they are undecided.
    pub approvals: Vec<ApprovalRow>,
    /// Diagnoses of the executions that it waits for.
    pub children: Vec<(ExecutionId, Diagnosis)>,
}

/// A sentence and its words.
pub struct Said {
    pub code: Sentence,
    pub text: String,
}

impl Said {
    pub fn new(code: Sentence, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

/// What is looked at, and what was seen.
pub struct Scene<'a> {
    pub standing: &'a Standing,
    pub seen: Seen,
    pub beside: Beside<'a>,
    pub evidence: Vec<Evidence>,
}

impl Scene<'_> {
    pub fn now(&self) -> Timestamp {
        self.standing.now
    }

    pub fn when(&self, at: Timestamp) -> String {
        when(self.now(), at)
    }

    pub fn push(&mut self, evidence: Evidence) {
        self.evidence.push(evidence);
    }

    /// Workers whose lease has not run out.
    pub fn live(&self) -> impl Iterator<Item = &WorkerSession> {
        let now = self.now();
        self.standing.around.workers.iter().filter(move |worker| worker.expires_at > now)
    }

    /// Workers that say that they do not reach the broker.
    pub fn without_broker(&self) -> usize {
        self.live().filter(|worker| worker.about.as_ref().is_some_and(|about| !about.broker_up)).count()
    }

    /// When a sweep comes, as a part of a sentence, and whether it is overdue.
    pub fn sweep(&mut self, kind: SweepKind) -> (String, bool) {
        let tick = self.standing.around.ticks.iter().find(|tick| tick.kind == kind).copied();
        let (now, name) = (self.now(), kind.as_str());
        let overdue = tick.is_none_or(|tick| tick.due_at.plus(LATE) < now);
        self.push(Evidence::Sweep {
            sweep: name.to_owned(),
            due_at: tick.map(|tick| tick.due_at),
            emitted_at: tick.and_then(|tick| tick.emitted_at),
            overdue,
        });
        (self.of_tick(name, tick, overdue), overdue)
    }

    fn of_tick(&self, name: &str, tick: Option<Tick>, overdue: bool) -> String {
        match tick {
            None => format!("the sweep `{name}` has never been due: no scheduler was ever there"),
            Some(tick) if !overdue && tick.due_at > self.now() => {
                format!("the sweep `{name}` is due at {}", self.when(tick.due_at))
            }
            Some(_) if !overdue => format!("the sweep `{name}` is due now"),
            Some(Tick { due_at, emitted_at: Some(at), .. }) => format!(
                "the sweep `{name}` is due since {}; it was sent out at {}, and no worker has carried it out",
                self.when(due_at),
                self.when(at)
            ),
            Some(Tick { due_at, emitted_at: None, .. }) => {
                format!("the sweep `{name}` is due since {}, and no scheduler has run it", self.when(due_at))
            }
        }
    }

    /// What goes with any sentence about an execution that is not over: in words, if a reader
    /// should know.
    pub fn remarks(&mut self) -> Vec<String> {
        let mut remarks = Vec::new();
        remarks.extend(self.missing_secrets());
        remarks.extend(self.test_run());
        self.schedule();
        remarks
    }

    fn test_run(&mut self) -> Option<String> {
        let since = self.standing.around.test_run_since?;
        let until = since.plus(holdpoint_db::TEST_RUN_TIME);
        self.push(Evidence::TestRun { until });
        Some(format!("as a test run it is ended at {} at the latest", self.when(until)))
    }

    pub fn schedule(&mut self) {
        if let Some((name, paused_at)) = self.standing.around.schedule.clone() {
            self.push(Evidence::Schedule { name, paused_at });
        }
    }

    /// Secrets that the definition names, and that live workers say they lack.
    fn missing_secrets(&mut self) -> Option<String> {
        let tenant = self.standing.row.key.scope.tenant.to_string();
        let live = self.live().count();
        let mut nowhere = Vec::new();
        for secret in self.beside.secrets.clone() {
            let lacks = |worker: &&WorkerSession| {
                worker.about.as_ref().and_then(|about| about.has_secret(&tenant, &secret)) == Some(false)
            };
            let lacking = self.live().filter(lacks).count();
            if lacking == 0 {
                continue;
            }
            let configure = format!("outbound.secrets.{tenant}.{secret}");
            if lacking == live {
                nowhere.push(format!("`{secret}` (`{configure}`)"));
            }
            self.push(Evidence::SecretMissing { secret, lacking, live_workers: live, configure });
        }
        if nowhere.is_empty() {
            return None;
        }
        let what = if nowhere.len() == 1 { "the secret" } else { "the secrets" };
        let is = if nowhere.len() == 1 { "is" } else { "are" };
        Some(format!("{what} {} that it names {is} configured at no worker that is there", listed(&nowhere)))
    }
}

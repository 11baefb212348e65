//! Calls of an unknown outcome: a tool that can say what became of them is asked first, a person
//! where it does not know.

use std::time::Duration;

use super::Turn;
use crate::definition::{Method, QUESTIONS, Reconcile, Retry};
use crate::digest;
use crate::effect::{Act, Credential, Credentials, Effect, ReconcileEffect, RequestEffect};
use crate::entry::{Entry, Json, OutcomeAsked, OutcomeResolved, OutcomeUnknown};
use crate::outside;
use crate::retry::doubled;
use crate::run::{Step, StepState, ToolWork};
use crate::status::{EffectClass, Failure, Outcome};
use crate::time::Timestamp;
use crate::workflow::document::HttpOutput;

/// Who resolved it, in `outcome.resolved`.
const BY: &str = "reconcile";

/// How long a question may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Evaluating expressions is tried again after this, where it cannot be done now.
const LATER: Duration = Duration::from_secs(1);

/// What there is to ask.
pub(super) enum Question {
    /// This.
    Ask(Box<RequestEffect>),
    /// It cannot be computed now.
    Later,
    /// Nothing: a person has to find out.
    None,
}

impl Turn<'_> {
    /// Nobody knows whether a call happened. Before it is settled, what did not happen may happen
    /// yet: the first question comes after that.
    pub(super) fn outcome_unknown(&mut self, number: i32, error: Failure, settled_at: Timestamp) {
        let Some(step) = self.run.steps.get(&number).cloned() else { return };
        let attempt = step.attempt;
        self.push(Entry::OutcomeUnknown(OutcomeUnknown { step: number, attempt, error, settled_at }));
        if let Some(policy) = self.question_policy(number, &step) {
            let next_at = Some(settled_at.plus(policy.first_delay.0));
            self.push(Entry::OutcomeAsked(OutcomeAsked { step: number, question: 0, next_at }));
        }
    }

    /// When the next question is due, of those that are not under way.
    pub(super) fn earliest_question(&self) -> Option<Timestamp> {
        let open = self.run.steps.values().filter(|step| is_unknown(step) && !step.asking);
        open.filter_map(|step| step.ask_at).min()
    }

    /// Whether a question is under way.
    pub(super) fn is_asking(&self) -> bool {
        self.run.steps.values().any(|step| is_unknown(step) && step.asking)
    }

    /// Asks what is due. A question changes nothing outside: it needs no intent, and after a crash
    /// it is asked again.
    pub(super) fn ask_outcomes(&mut self) {
        let due =
            |step: &Step| is_unknown(step) && !step.asking && step.ask_at.is_some_and(|at| at <= self.now);
        let due: Vec<(i32, Step)> = self
            .run
            .steps
            .iter()
            .filter(|(_, step)| due(step))
            .map(|(number, step)| (*number, step.clone()))
            .collect();
        for (number, step) in due {
            match self.question(number, &step) {
                Question::Ask(request) => {
                    self.effects.push(Effect::Reconcile(Box::new(ReconcileEffect { request: *request })));
                    self.set_asking(number, true);
                }
                Question::Later => self.put_off(number),
                Question::None => self.asked(number, &step, None),
            }
        }
    }

    fn put_off(&mut self, number: i32) {
        let at = self.now.plus(LATER);
        if let Some(step) = self.run.steps.get_mut(&number) {
            step.ask_at = Some(at);
        }
    }

    fn set_asking(&mut self, number: i32, asking: bool) {
        if let Some(step) = self.run.steps.get_mut(&number) {
            step.asking = asking;
        }
    }

    /// An answer, or none, to a question that was under way; whether there was one.
    pub(super) fn reconciled(&mut self, number: i32, outcome: Option<Outcome>, result: Option<Json>) -> bool {
        let asked = self.run.steps.get(&number).filter(|step| is_unknown(step) && step.asking);
        let Some(step) = asked.cloned() else { return false };
        self.set_asking(number, false);
        let result = result.filter(|result| result.get().len() <= self.limits.value_bytes);
        let resolved =
            outcome.map(|outcome| OutcomeResolved { step: number, outcome, result, by: BY.to_owned() });
        match resolved {
            Some(resolved) if outside::check_resolve(self.run, &resolved, self.now).is_ok() => {
                let entries = outside::act(self.run, &Act::Resolve(resolved));
                self.push_all(entries);
            }
            _ => {
                let policy = self.question_policy(number, &step);
                self.asked(number, &step, policy);
            }
        }
        true
    }

    /// Nothing came of a question: there is another, or a person has to find out.
    fn asked(&mut self, number: i32, step: &Step, policy: Option<Retry>) {
        let question = step.questions + 1;
        let more = policy.filter(|policy| question < policy.tries);
        let next_at = more.map(|policy| self.now.plus(doubled(policy, question + 1)));
        self.push(Entry::OutcomeAsked(OutcomeAsked { step: number, question, next_at }));
    }

    fn question_policy(&self, number: i32, step: &Step) -> Option<Retry> {
        let of_tool = self.reconcile_of(step.tool()?).map(Reconcile::questions);
        of_tool.or_else(|| self.flow_asks(number).then_some(QUESTIONS))
    }

    fn reconcile_of(&self, work: &ToolWork) -> Option<&Reconcile> {
        self.tool_of(work)?.tool.reconcile.as_ref()
    }

    fn question(&mut self, number: i32, step: &Step) -> Question {
        match self.tool_question(number, step) {
            Some(request) => Question::Ask(Box::new(request)),
            None => self.flow_question(number, step.questions + 1, PATIENCE),
        }
    }

    fn tool_question(&self, number: i32, step: &Step) -> Option<RequestEffect> {
        let work = step.tool()?;
        let reconcile = self.reconcile_of(work)?;
        let key = digest::effect_key(self.pinned.first_run, number);
        let about = About { execution: self.pinned.id.to_string(), step: number, key: &key, work };
        let get = reconcile.method == Method::Get;
        Some(RequestEffect {
            step: number,
            attempt: step.questions + 1,
            tool_call_id: work.call_id.clone(),
            class: EffectClass::Idempotent,
            method: reconcile.method.as_str().to_owned(),
            uri: reconcile.url.clone(),
            query: if get { about.query() } else { Vec::new() },
            headers: reconcile.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            body: (!get).then(|| about.body()),
            credentials: reconcile.secret.clone().map(|name| Credentials::Bearer(Credential::Secret(name))),
            output: HttpOutput::Content,
            redirect: false,
            key: key.clone(),
            timeout: PATIENCE,
        })
    }
}

fn is_unknown(step: &Step) -> bool {
    matches!(step.state, StepState::Unknown { .. })
}

/// The call that is asked about.
struct About<'a> {
    execution: String,
    step: i32,
    key: &'a str,
    work: &'a ToolWork,
}

impl About<'_> {
    fn query(&self) -> Vec<(String, String)> {
        let pairs = [
            ("key", self.key.to_owned()),
            ("execution_id", self.execution.clone()),
            ("step", self.step.to_string()),
            ("tool_call_id", self.work.call_id.clone()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn body(&self) -> serde_json::Value {
        let arguments: serde_json::Value = serde_json::from_str(&self.work.arguments).unwrap_or_default();
        serde_json::json!({
            "key": self.key, "execution_id": self.execution, "step": self.step,
            "tool_call_id": self.work.call_id, "tool": self.work.tool, "arguments": arguments,
        })
    }
}

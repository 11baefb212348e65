//! From a tree to a [`Workflow`]: every key known, every name resolved, every expression and
//! schema compiled. All that is wrong is collected, up to a bound; a check that cannot go on
//! answers `None` after it said why.

mod about;
mod authentication;
mod calls;
mod catalog;
mod durations;
mod events;
mod expressions;
mod fields;
mod flow;
mod functions;
mod names;
mod performance;
mod policy;
mod retries;
mod schedule;
mod schemas;
mod spot;
mod task;
mod uses;

use std::collections::BTreeMap;
use std::sync::Arc;

use self::expressions::{Locals, Moment};
use self::spot::Spot;
use self::uses::Uses;
use super::document::{Filter, Task, Workflow};
use super::expression::Evaluator;
use super::read::{Node, WorkflowError, read};
use crate::definition::Reference;
use crate::status::DefinitionKind;

/// The most errors that are told at once.
pub const MAX_ERRORS: usize = 50;

impl Workflow {
    /// Reads a document and checks all of it, for its registration. `version` is ours.
    pub fn read(text: &str, version: i32, evaluator: &dyn Evaluator) -> Result<Self, Vec<WorkflowError>> {
        Self::check(text, version, Some(evaluator))
    }

    /// Reads a document that [`Workflow::read`] took before: its expressions were compiled then.
    pub fn load(text: &str, version: i32) -> Result<Self, Vec<WorkflowError>> {
        Self::check(text, version, None)
    }

    fn check(
        text: &str,
        version: i32,
        evaluator: Option<&dyn Evaluator>,
    ) -> Result<Self, Vec<WorkflowError>> {
        let root = read(text).map_err(|error| vec![error])?;
        let mut checker = Checker::new(evaluator, &root);
        let workflow = checker.workflow(&root, version);
        let mut errors = checker.errors;
        errors.sort_by(|a, b| (a.line, a.column, &a.message).cmp(&(b.line, b.column, &b.message)));
        errors.dedup();
        errors.truncate(MAX_ERRORS);
        match workflow {
            Some(workflow) if errors.is_empty() => Ok(workflow),
            _ => Err(errors),
        }
    }
}

/// What the checks of a document share.
struct Checker<'n, 'e> {
    evaluator: Option<&'e dyn Evaluator>,
    errors: Vec<WorkflowError>,
    uses: Uses<'n>,
    by_pointer: BTreeMap<String, Arc<Task>>,
    refers: Vec<(DefinitionKind, Reference)>,
}

const WORKFLOW_KEYS: [&str; 8] =
    ["document", "input", "use", "do", "timeout", "output", "schedule", "evaluate"];

impl<'n, 'e> Checker<'n, 'e> {
    fn new(evaluator: Option<&'e dyn Evaluator>, root: &'n Node) -> Self {
        Self {
            evaluator,
            errors: Vec::new(),
            uses: Uses::new(Spot::root(root).get("use")),
            by_pointer: BTreeMap::new(),
            refers: Vec::new(),
        }
    }

    /// Whether it is registered now. What was taken before a rule came stays good.
    fn is_new(&self) -> bool {
        self.evaluator.is_some()
    }

    fn workflow(&mut self, root: &'n Node, version: i32) -> Option<Workflow> {
        let spot = Spot::root(root);
        self.object(&spot, "a workflow", &WORKFLOW_KEYS)?;
        self.check_uses();
        self.check_evaluate(&spot);
        let about = self.required(&spot, "document").and_then(|document| self.about(&document));
        let (about, settings, zone) =
            about.map_or((None, None, None), |(a, s, z)| (Some(a), Some(s), Some(z)));
        let none = Locals::default();
        let input = self.filter(spot.get("input"), "from", none.at(Moment::WorkflowInput));
        let output = self.filter(spot.get("output"), "as", none.at(Moment::WorkflowOutput));
        let timeout = self.timeout(&spot, none.at(Moment::WorkflowInput));
        let schedule = spot.get("schedule").map(|schedule| self.schedule(&schedule, zone.as_deref()));
        let tasks = self.required(&spot, "do").and_then(|list| self.task_list(&list, &none));
        self.check_unused();
        Some(Workflow {
            version,
            about: about?,
            input: input?,
            output: output?,
            timeout: timeout?,
            schedule: schedule.map_or(Some(None), |found| found.map(Some))?,
            settings: settings?,
            tasks: tasks?,
            by_pointer: std::mem::take(&mut self.by_pointer),
            refers: std::mem::take(&mut self.refers),
            secrets: self.uses.secrets().into_iter().map(str::to_owned).collect(),
            definition: root.to_value(),
        })
    }

    /// The profile has one language, and one way to mark an expression.
    fn check_evaluate(&mut self, root: &Spot<'n>) {
        let Some(spot) = root.get("evaluate") else { return };
        if self.object(&spot, "`evaluate`", &["language", "mode"]).is_none() {
            return;
        }
        for (key, only) in [("language", "jq"), ("mode", "strict")] {
            let Some(given) = spot.get(key).filter(|given| given.text() != Some(only)) else { continue };
            let message = format!("{}: it may be `{only}`", given.node.describe());
            self.error(given.wrong(message));
        }
    }

    fn error(&mut self, error: WorkflowError) {
        // Beyond twice the bound nothing more is kept: what is told is sorted first.
        if self.errors.len() < 2 * MAX_ERRORS {
            self.errors.push(error);
        }
    }

    /// Says what is wrong; there is nothing to go on with.
    fn refuse<T>(&mut self, error: WorkflowError) -> Option<T> {
        self.error(error);
        None
    }
}

/// Nothing where there is nothing to read, what was read, or `None` where that is wrong.
type Maybe<T> = Option<Option<T>>;

impl<'n> Checker<'n, '_> {
    /// `input`, `output` or `export`.
    fn filter(
        &mut self,
        spot: Option<Spot<'n>>,
        key: &'static str,
        scope: expressions::Scope<'_>,
    ) -> Option<Filter> {
        let Some(spot) = spot else { return Some(Filter::default()) };
        self.object(&spot, "this", &["schema", key])?;
        let schema = spot.get("schema").map(|schema| self.schema(&schema));
        let transform = spot.get(key).map(|transform| self.transform(&transform, scope));
        Some(Filter { schema: flip(schema)?, transform: flip(transform)? })
    }
}

/// Nothing is nothing; a part that is there must be right.
fn flip<T>(part: Option<Option<T>>) -> Maybe<T> {
    match part {
        None => Some(None),
        Some(part) => part.map(Some),
    }
}

#[cfg(test)]
mod tests;

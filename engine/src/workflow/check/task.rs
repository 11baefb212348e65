//! Lists of tasks, what every task has, and which kind one is.

use std::collections::HashSet;
use std::sync::Arc;

use super::expressions::{Locals, Moment};
use super::fields::{alternatives, listed};
use super::spot::Spot;
use super::{Checker, names};
use crate::workflow::document::{Task, TaskList, Then, Work};
use crate::workflow::read::cut;

const COMMON: [&str; 7] = ["if", "input", "output", "export", "timeout", "then", "metadata"];

/// The member that says what a task does, and those that belong to it. `for` goes before `do`,
/// which is a part of it.
const KINDS: [(&str, &[&str]); 12] = [
    ("for", &["for", "while", "do"]),
    ("call", &["call", "with"]),
    ("do", &["do"]),
    ("emit", &["emit"]),
    ("fork", &["fork"]),
    ("listen", &["listen", "foreach"]),
    ("raise", &["raise"]),
    ("run", &["run"]),
    ("set", &["set"]),
    ("switch", &["switch"]),
    ("try", &["try", "catch"]),
    ("wait", &["wait"]),
];

/// Words of the flow, which no task may be named.
const DIRECTIVES: [&str; 3] = ["continue", "exit", "end"];
const LONGEST_NAME: usize = 256;

impl<'n> Checker<'n, '_> {
    /// Tasks in sequence: a task may go on with another one of its list.
    pub(super) fn task_list(&mut self, spot: &Spot<'n>, locals: &Locals) -> Option<TaskList> {
        self.tasks(spot, locals, true)
    }

    /// The branches of a fork, which do not follow each other.
    pub(super) fn branches(&mut self, spot: &Spot<'n>, locals: &Locals) -> Option<TaskList> {
        self.tasks(spot, locals, false)
    }

    fn tasks(&mut self, spot: &Spot<'n>, locals: &Locals, in_sequence: bool) -> Option<TaskList> {
        if self.list(spot).is_none() {
            let hint = "tasks are a list of `- name: {…}`";
            self.error(spot.wrong(hint));
            return None;
        }
        let named: Vec<_> = spot.items().map(|item| self.item(&item, "a task")).collect();
        let siblings: Vec<&str> = match in_sequence {
            true => named.iter().map(|item| item.as_ref().map_or("", |(name, _)| name)).collect(),
            false => Vec::new(),
        };
        self.check_names(&named);
        let tasks: Vec<_> = named
            .iter()
            .map(|item| item.as_ref().and_then(|(name, task)| self.task(name, task, &siblings, locals)))
            .collect();
        tasks.into_iter().collect()
    }

    /// `- name: value`.
    pub(super) fn item(&mut self, spot: &Spot<'n>, what: &str) -> Option<(&'n str, Spot<'n>)> {
        match spot.members() {
            [only] => Some((only.key.as_str(), spot.member(only))),
            [] => {
                self.refuse(spot.wrong(format!("{}: expected {what} under its name", spot.node.describe())))
            }
            [_, second, ..] => {
                let extra = spot.member(second);
                let message = format!(
                    "a second name, `{}`, in one item: expected {what} under its name alone; each begins with `-`, and its members are indented below its name",
                    cut(&second.key)
                );
                self.refuse(extra.wrong_key(message))
            }
        }
    }

    fn check_names(&mut self, named: &[Option<(&'n str, Spot<'n>)>]) {
        let mut seen = HashSet::new();
        for (name, spot) in named.iter().flatten() {
            if name.is_empty() || name.len() > LONGEST_NAME {
                self.error(spot.wrong_key(format!("a task's name is 1 to {LONGEST_NAME} bytes")));
            }
            if DIRECTIVES.contains(name) {
                self.error(spot.wrong_key(format!("`{name}` is a word of `then`: choose another name")));
            }
            if !seen.insert(*name) {
                self.error(spot.wrong_key(format!("a second task `{}` in this list", cut(name))));
            }
        }
    }

    /// One task; `siblings` are the names that its `then` may be.
    pub(super) fn task(
        &mut self,
        name: &str,
        spot: &Spot<'n>,
        siblings: &[&str],
        locals: &Locals,
    ) -> Option<Arc<Task>> {
        let kind = self.kind(spot)?;
        let (before, during, export) =
            (locals.at(Moment::Before), locals.at(Moment::During), locals.at(Moment::Export));
        let condition = self.optional_condition(spot, "if", before);
        let input = self.filter(spot.get("input"), "from", before);
        let work = self.work(kind, spot, siblings, locals);
        let output = self.filter(spot.get("output"), "as", during);
        let export = self.filter(spot.get("export"), "as", export);
        let timeout = self.timeout(spot, during);
        let then = self.then(spot, siblings);
        self.check_metadata(spot, work.as_ref());
        let task = Arc::new(Task {
            name: name.to_owned(),
            pointer: spot.pointer.clone(),
            condition: condition?,
            input: input?,
            output: output?,
            export: export?,
            timeout: timeout?,
            then: then?,
            work: work?,
        });
        self.by_pointer.insert(task.pointer.clone(), Arc::clone(&task));
        Some(task)
    }

    /// Which kind it is; its keys are checked for that.
    fn kind(&mut self, spot: &Spot<'n>) -> Option<&'static str> {
        let words: Vec<&'static str> = KINDS.iter().map(|(word, _)| *word).collect();
        let given: Vec<&'static str> =
            words.iter().copied().filter(|word| spot.get(word).is_some()).collect();
        let kind = match given[..] {
            [only] => only,
            ["for", "do"] => "for",
            [] => return self.no_kind(spot, &words),
            _ => {
                let message = format!("the task has {}: it does one thing", listed(&given));
                return self.refuse(spot.wrong(message));
            }
        };
        let (_, own) = KINDS.iter().find(|(word, _)| *word == kind)?;
        let keys: Vec<&str> = own.iter().chain(&COMMON).copied().collect();
        self.object(spot, &format!("a task that has `{kind}`"), &keys)?;
        Some(kind)
    }

    fn no_kind(&mut self, spot: &Spot<'n>, words: &[&'static str]) -> Option<&'static str> {
        let near = |key: &'n str| Some((key, names::nearest(key, words.iter().copied())?));
        let slips = spot.members().iter().filter(|member| !COMMON.contains(&member.key.as_str()));
        if let Some((member, (key, near))) =
            slips.filter_map(|member| Some((member, near(&member.key)?))).next()
        {
            let message = format!("unknown key `{}`; did you mean `{near}`?", cut(key));
            return self.refuse(spot.member(member).wrong_key(message));
        }
        let found = if spot.members().is_empty() { spot.node.describe() } else { "this task".to_owned() };
        self.refuse(spot.wrong(format!("{found} does nothing: a task has {}", alternatives(words))))
    }

    fn work(
        &mut self,
        kind: &'static str,
        spot: &Spot<'n>,
        siblings: &[&str],
        locals: &Locals,
    ) -> Option<Work> {
        match kind {
            "call" => self.call(spot, locals),
            "do" => {
                let body = spot.get("do")?;
                self.task_list(&body, locals).map(Work::Do)
            }
            "emit" => self.emit(spot, locals),
            "for" => self.for_each(spot, locals),
            "fork" => self.fork(spot, locals),
            "listen" => self.listen(spot, locals),
            "raise" => self.raise(spot, locals),
            "run" => self.run(spot, locals),
            "set" => self.set(spot, locals),
            "switch" => self.switch(spot, siblings, locals),
            "try" => self.attempt(spot, locals),
            "wait" => {
                let wait = spot.get("wait")?;
                self.duration(&wait, locals.at(Moment::During)).map(Work::Wait)
            }
            _ => None,
        }
    }

    /// `then`: a word of the flow, or a task of the same list.
    pub(super) fn then(&mut self, parent: &Spot<'n>, siblings: &[&str]) -> Option<Then> {
        let Some(spot) = parent.get("then") else { return Some(Then::Continue) };
        match self.text(&spot)? {
            "continue" => Some(Then::Continue),
            "exit" => Some(Then::Exit),
            "end" => Some(Then::End),
            name => match siblings.iter().position(|sibling| *sibling == name) {
                Some(index) => Some(Then::To(index)),
                None => {
                    let words = siblings.iter().copied().chain(DIRECTIVES);
                    let hint = match names::nearest(name, words) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => "`then` is `continue`, `exit`, `end`, or a task of the same list".to_owned(),
                    };
                    let message = format!("there is no task `{}` in this list; {hint}", cut(name));
                    self.refuse(spot.wrong(message))
                }
            },
        }
    }

    /// Holdpoint's own metadata says how effects are performed; a task without one has none.
    fn check_metadata(&mut self, spot: &Spot<'n>, work: Option<&Work>) {
        let performs = work.is_none_or(|work| {
            matches!(work, Work::Http(_) | Work::OpenApi(_) | Work::Mcp(_) | Work::Queue(_))
        });
        if let Some(Some(own)) = self.own_metadata(spot)
            && !performs
        {
            let message = "`holdpoint` of a task says how a call is performed: this task calls nothing";
            self.error(own.wrong_key(message));
        }
    }
}

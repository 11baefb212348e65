//! Tasks that only move data and the flow: `set`, `switch`, `for`, `fork`, `try`, `raise`.

use std::collections::BTreeMap;

use super::expressions::{Locals, Moment, Scope, enclosed};
use super::spot::Spot;
use super::{Checker, flip, names};
use crate::workflow::document::{Case, Catch, ErrorTemplate, For, MOST_BRANCHES, Work};
use crate::workflow::expression::Template;
use crate::workflow::read::Kind;

const ERROR_KEYS: [&str; 5] = ["type", "status", "instance", "title", "detail"];
impl<'n> Checker<'n, '_> {
    pub(super) fn set(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("set")?;
        let is_expression = spot.text().is_some_and(|text| enclosed(text).is_some());
        let is_object = matches!(spot.node.kind, Kind::Map(_)) && !spot.members().is_empty();
        if !is_expression && !is_object {
            return self.expected(&spot, "an object with members, or one expression `${ … }`");
        }
        self.template(&spot, locals.at(Moment::During)).map(Work::Set)
    }

    pub(super) fn switch(&mut self, task: &Spot<'n>, siblings: &[&str], locals: &Locals) -> Option<Work> {
        let spot = task.get("switch")?;
        self.list(&spot)?;
        let mut seen = std::collections::HashSet::new();
        let mut has_default = false;
        let mut cases = Vec::new();
        for item in spot.items() {
            let case = self.item(&item, "a case").and_then(|(name, case)| {
                if !seen.insert(name) {
                    self.error(case.wrong_key(format!("a second case `{name}` in this switch")));
                }
                let read = self.case(name, &case, siblings, locals)?;
                if read.when.is_none() && std::mem::replace(&mut has_default, true) {
                    self.error(case.wrong("a second case without `when`: only one may be the default"));
                }
                Some(read)
            });
            cases.push(case);
        }
        if cases.is_empty() {
            return self.refuse(spot.wrong("a switch without cases"));
        }
        cases.into_iter().collect::<Option<_>>().map(Work::Switch)
    }

    fn case(&mut self, name: &str, spot: &Spot<'n>, siblings: &[&str], locals: &Locals) -> Option<Case> {
        self.object(spot, "a case", &["when", "then"])?;
        let when = self.optional_condition(spot, "when", locals.at(Moment::During));
        self.required(spot, "then")?;
        let then = self.then(spot, siblings);
        Some(Case { name: name.to_owned(), when: when?, then: then? })
    }

    pub(super) fn for_each(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("for")?;
        self.object(&spot, "`for`", &["each", "in", "at"])?;
        let each = self.variable(&spot, "each", "item");
        let at = self.variable(&spot, "at", "index");
        if each.is_some() && each == at {
            self.error(spot.wrong("`each` and `at` are the same variable"));
        }
        let over = self.required(&spot, "in");
        let over = over.and_then(|over| self.condition(&over, locals.at(Moment::During)));
        let inner = locals.with(each.iter().chain(&at));
        let while_holds = self.optional_condition(task, "while", inner.at(Moment::During));
        let body = self.required(task, "do").and_then(|body| self.task_list(&body, &inner));
        Some(Work::For(For { each: each?, at: at?, over: over?, while_holds: while_holds?, body: body? }))
    }

    /// The name of a variable of the author's own.
    pub(super) fn variable(&mut self, parent: &Spot<'n>, key: &str, default: &str) -> Option<String> {
        let Some(spot) = parent.get(key) else { return Some(default.to_owned()) };
        let name = self.text(&spot)?;
        match names::check_variable(name) {
            Ok(()) => Some(name.to_owned()),
            Err(message) => self.refuse(spot.wrong(message)),
        }
    }

    pub(super) fn fork(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("fork")?;
        self.object(&spot, "`fork`", &["branches", "compete"])?;
        let compete = self.boolean(&spot, "compete", false);
        let list = self.required(&spot, "branches")?;
        let branches = self.branches(&list, locals)?;
        if branches.is_empty() {
            return self.refuse(list.wrong("a fork without branches"));
        }
        if branches.len() > MOST_BRANCHES {
            let message = format!("{} branches: a fork has {MOST_BRANCHES} at most", branches.len());
            return self.refuse(list.wrong(message));
        }
        Some(Work::Fork { compete: compete?, branches })
    }

    pub(super) fn attempt(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let catch = self.required(task, "catch");
        let is_retried = catch.as_ref().is_some_and(|catch| catch.get("retry").is_some());
        let mut inner = locals.clone();
        inner.is_retried |= is_retried;
        let body = task.get("try").and_then(|body| self.task_list(&body, &inner));
        let catch = catch.and_then(|catch| self.catch(&catch, locals));
        Some(Work::Try { body: body?, catch: catch? })
    }

    fn catch(&mut self, spot: &Spot<'n>, locals: &Locals) -> Option<Catch> {
        self.object(spot, "`catch`", &["errors", "as", "when", "exceptWhen", "retry", "do"])?;
        let with = self.error_filter(spot, locals.at(Moment::During));
        let variable = self.variable(spot, "as", "error");
        let inner = locals.with(&variable);
        let scope = inner.at(Moment::During);
        let when = self.optional_condition(spot, "when", scope);
        let except_when = self.optional_condition(spot, "exceptWhen", scope);
        let retry = self.retry(spot, scope);
        let body = flip(spot.get("do").map(|body| self.task_list(&body, &inner)));
        Some(Catch {
            with: with?,
            variable: variable?,
            when: when?,
            except_when: except_when?,
            retry: retry?,
            body: body?,
            then: None,
        })
    }

    /// `errors.with`: members that must be equal.
    fn error_filter(&mut self, catch: &Spot<'n>, scope: Scope<'_>) -> Option<BTreeMap<String, Template>> {
        let Some(errors) = catch.get("errors") else { return Some(BTreeMap::new()) };
        self.object(&errors, "`errors`", &["with"])?;
        let Some(spot) = errors.get("with") else { return Some(BTreeMap::new()) };
        self.object(
            &spot,
            "a filter of errors",
            &["type", "status", "instance", "title", "details", "detail"],
        )?;
        if spot.members().is_empty() {
            return self.refuse(spot.wrong("an empty filter: leave out `errors` to catch every error"));
        }
        let read: Vec<_> = spot
            .members()
            .iter()
            .map(|member| {
                let found = spot.member(member);
                let value = self.error_member(&member.key, &found, scope)?;
                // The schema writes `details`, an error's own member is `detail`.
                let key = if member.key == "details" { "detail" } else { &member.key };
                Some((key.to_owned(), value))
            })
            .collect();
        read.into_iter().collect()
    }

    pub(super) fn raise(&mut self, task: &Spot<'n>, locals: &Locals) -> Option<Work> {
        let spot = task.get("raise")?;
        self.object(&spot, "`raise`", &["error"])?;
        let error = self.required(&spot, "error")?;
        let error = if error.text().is_some() { self.used(&error, "errors")? } else { error };
        self.error_template(&error, locals.at(Moment::During)).map(Work::Raise)
    }

    pub(super) fn error_template(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<ErrorTemplate> {
        self.object(spot, "an error", &ERROR_KEYS)?;
        let [kind, status] = ["type", "status"].map(|key| self.required(spot, key));
        let kind = kind.and_then(|found| self.error_member("type", &found, scope));
        let status = status.and_then(|found| self.error_member("status", &found, scope));
        let [title, detail, instance] = ["title", "detail", "instance"]
            .map(|key| flip(spot.get(key).map(|found| self.error_member(key, &found, scope))));
        Some(ErrorTemplate {
            kind: kind?,
            status: status?,
            title: title?,
            detail: detail?,
            instance: instance?,
        })
    }

    /// A member of an error: a whole number for `status`, text for the others, or an expression.
    fn error_member(&mut self, key: &str, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        let is_text = spot.text().is_some();
        let is_expression = spot.text().is_some_and(|text| enclosed(text).is_some());
        if !is_expression && key == "status" {
            let status = self.whole(spot, 100, 599)?;
            return Some(Template::Constant(status.into()));
        }
        if !is_text {
            return self.expected(spot, "a text or an expression `${ … }`");
        }
        if key == "type" && !is_expression && !spot.text().is_some_and(|text| text.contains(':')) {
            return self.expected(spot, "a URI such as `https://example.com/errors/out-of-stock`");
        }
        self.template(spot, scope)
    }
}

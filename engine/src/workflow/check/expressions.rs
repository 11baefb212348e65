//! Expressions, each checked with the variables that it has where it stands.

use serde_json::Value;

use super::Checker;
use super::spot::Spot;
use crate::workflow::expression::{Expression, Template};
use crate::workflow::read::{Kind, cut};

/// Names that no variable of an author's own may have.
pub(super) const RESERVED: [&str; 11] = [
    "context",
    "input",
    "output",
    "secrets",
    "secret",
    "authorization",
    "task",
    "workflow",
    "runtime",
    "ENV",
    "__loc__",
];

/// When an expression is evaluated: what the specification's table of arguments tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The workflow's `input.from`.
    WorkflowInput,
    /// The workflow's `output.as`.
    WorkflowOutput,
    /// A task's `if` and `input.from`.
    Before,
    /// A task's own members, and its `output.as`.
    During,
    /// A task's `export.as`.
    Export,
}

impl Moment {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Moment::WorkflowInput => &["workflow", "runtime"],
            Moment::WorkflowOutput => &["context", "workflow", "runtime"],
            Moment::Before => &["context", "task", "workflow", "runtime"],
            Moment::During => &["context", "input", "task", "workflow", "runtime"],
            Moment::Export => &["context", "input", "output", "task", "workflow", "runtime"],
        }
    }
}

/// What stands around a task.
#[derive(Debug, Clone, Default)]
pub(super) struct Locals {
    /// The variables of `for`, `catch` and `foreach`.
    pub variables: Vec<String>,
    /// Within a `try` that is retried: effects are tried once.
    pub is_retried: bool,
}

impl Locals {
    /// With more variables.
    pub fn with<'v>(&self, variables: impl IntoIterator<Item = &'v String>) -> Self {
        let mut locals = self.clone();
        locals.variables.extend(variables.into_iter().cloned());
        locals
    }

    pub fn at(&self, moment: Moment) -> Scope<'_> {
        Scope { locals: self, moment }
    }
}

/// The variables that an expression has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'l> {
    pub locals: &'l Locals,
    pub moment: Moment,
}

impl Scope<'_> {
    fn variables(&self) -> Vec<&str> {
        let arguments = self.moment.arguments().iter().copied();
        arguments.chain(self.locals.variables.iter().map(String::as_str)).collect()
    }
}

/// What stands between `${` and `}`, where that is the whole text.
pub(super) fn enclosed(text: &str) -> Option<&str> {
    text.trim().strip_prefix("${")?.strip_suffix('}').map(str::trim)
}

impl<'n> Checker<'n, '_> {
    /// An expression, with or without `${ }`: where nothing else can stand.
    pub(super) fn condition(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Expression> {
        let text = match spot.text() {
            Some(text) => text,
            None => return self.expected(spot, "an expression, as text"),
        };
        self.expression(spot, enclosed(text).unwrap_or(text.trim()), scope)
    }

    pub(super) fn optional_condition(
        &mut self,
        spot: &Spot<'n>,
        key: &str,
        scope: Scope<'_>,
    ) -> Option<Option<Expression>> {
        super::flip(spot.get(key).map(|found| self.condition(&found, scope)))
    }

    /// `from` or `as`: an expression, or an object with expressions in it.
    pub(super) fn transform(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        match spot.node.kind {
            Kind::Text(_) => self.condition(spot, scope).map(Template::Expression),
            Kind::Map(_) => self.template(spot, scope),
            _ => self.expected(spot, "an expression, or an object with expressions in it"),
        }
    }

    /// A value in which each text that is wholly `${ }` is an expression.
    pub(super) fn template(&mut self, spot: &Spot<'n>, scope: Scope<'_>) -> Option<Template> {
        match &spot.node.kind {
            Kind::Text(text) => self.text_template(spot, text, scope),
            Kind::List(_) => {
                let items: Vec<_> = spot.items().map(|item| self.template(&item, scope)).collect();
                let items: Vec<Template> = items.into_iter().collect::<Option<_>>()?;
                let constant = items.iter().map(constant).collect::<Option<Vec<Value>>>();
                Some(constant.map_or(Template::Array(items), |items| Template::Constant(items.into())))
            }
            Kind::Map(_) => {
                let read: Vec<_> = spot
                    .members()
                    .iter()
                    .map(|member| Some((member.key.clone(), self.template(&spot.member(member), scope)?)))
                    .collect();
                let members: Vec<(String, Template)> = read.into_iter().collect::<Option<_>>()?;
                Some(object(members))
            }
            _ => Some(Template::Constant(spot.node.to_value())),
        }
    }

    fn text_template(&mut self, spot: &Spot<'n>, text: &str, scope: Scope<'_>) -> Option<Template> {
        match enclosed(text) {
            Some(source) => self.expression(spot, source, scope).map(Template::Expression),
            None if text.contains("${") => {
                let message = format!(
                    "the text `{}` has an expression within it: an expression is the whole text, such as `${{ \"Hello \\(.name)\" }}`",
                    cut(text)
                );
                self.refuse(spot.wrong(message))
            }
            None => Some(Template::Constant(Value::String(text.to_owned()))),
        }
    }

    /// Compiles a jq program, at registration.
    pub(super) fn expression(
        &mut self,
        spot: &Spot<'n>,
        source: &str,
        scope: Scope<'_>,
    ) -> Option<Expression> {
        if source.is_empty() {
            return self.refuse(spot.wrong("an empty expression"));
        }
        let expression = Expression(source.into());
        let Some(evaluator) = self.evaluator else { return Some(expression) };
        let variables = scope.variables();
        let Err(error) = evaluator.check(&expression, &variables) else { return Some(expression) };
        let named: Vec<String> = variables.iter().map(|name| format!("${name}")).collect();
        let hint = match source {
            source if source.contains("$secret") => {
                "; a secret is given to `authentication` alone, as a whole credential `${ $secrets.NAME }`"
                    .to_owned()
            }
            source if source.contains('$') => format!("; its variables here are {}", named.join(", ")),
            _ => String::new(),
        };
        self.refuse(spot.wrong(format!("the expression `{}`: {error}{hint}", cut(source))))
    }
}

/// An object, a constant one where it has no expression.
pub(super) fn object(members: Vec<(String, Template)>) -> Template {
    let constants: Option<serde_json::Map<String, Value>> =
        members.iter().map(|(key, value)| Some((key.clone(), constant(value)?))).collect();
    constants.map_or(Template::Object(members), |members| Template::Constant(Value::Object(members)))
}

fn constant(template: &Template) -> Option<Value> {
    match template {
        Template::Constant(value) => Some(value.clone()),
        _ => None,
    }
}

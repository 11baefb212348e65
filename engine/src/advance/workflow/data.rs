//! How data flows: expressions and what they can name, schemas, values by number.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Halt, Machine, Step};
use crate::time::Timestamp;
use crate::workflow::document::{DurationValue, Filter, Schema};
use crate::workflow::duration;
use crate::workflow::expression::{Expression, ExpressionError, Template};
use crate::workflow::fault::Fault;
use crate::workflow::state::{Frame, FrameId, ValueRef};

/// Where an expression stands: what it can name.
#[derive(Default)]
pub(super) struct Scope {
    /// The task; none for the workflow's own.
    frame: Option<FrameId>,
    input: Arc<Value>,
    /// Before `output.as`.
    raw_output: Option<Arc<Value>>,
    output: Option<Arc<Value>>,
    /// Besides those of the frames.
    variables: BTreeMap<String, Arc<Value>>,
}

impl Scope {
    pub fn of(frame: FrameId, input: Arc<Value>) -> Self {
        Self { frame: Some(frame), input, ..Self::default() }
    }

    pub fn of_workflow(input: Arc<Value>) -> Self {
        Self { input, ..Self::default() }
    }

    pub fn input(&self) -> Arc<Value> {
        Arc::clone(&self.input)
    }

    pub fn with(mut self, name: &str, value: Arc<Value>) -> Self {
        self.variables.insert(name.to_owned(), value);
        self
    }

    fn with_output(mut self, raw: Arc<Value>, output: Arc<Value>) -> Self {
        (self.raw_output, self.output) = (Some(raw), Some(output));
        self
    }
}

impl Machine<'_, '_> {
    pub(super) fn value(&self, reference: ValueRef) -> Step<Arc<Value>> {
        let own = |number: &u64| self.made.values.get(number).or_else(|| self.values.get(number)).cloned();
        let found = match reference {
            ValueRef::Own(number) => own(&number),
            ValueRef::Member(number, index) => {
                own(&number).and_then(|items| items.get(index).map(|item| Arc::new(item.clone())))
            }
            ValueRef::Step(step) => self.made.outputs.get(&step).cloned(),
            ValueRef::Null | ValueRef::Number(_) => None,
        };
        found.or_else(|| self.turn.run.flow.value(reference)).ok_or_else(|| super::lost("a value"))
    }

    /// Gives a value a number.
    pub(super) fn store(&mut self, value: &Value) -> Step<ValueRef> {
        match value {
            Value::Null => return Ok(ValueRef::Null),
            Value::Number(number) => {
                if let Some(number) = number.as_u64() {
                    return Ok(ValueRef::Number(number));
                }
            }
            _ => {}
        }
        let (json, value) = self.written(value)?;
        let number = self.state.next_value;
        self.state.next_value += 1;
        self.made.written.insert(number, json);
        self.made.values.insert(number, value);
        Ok(ValueRef::Own(number))
    }

    /// A value as it will be read again: what goes on after a restart is what goes on without.
    pub(super) fn written(&self, value: &Value) -> Step<(crate::entry::Json, Arc<Value>)> {
        let json = crate::json(value);
        let (limit, was) = (self.turn.limits.value_bytes, json.get().len());
        if was > limit {
            return Err(Halt::Limit { name: "value_bytes", limit, was });
        }
        let again = serde_json::from_str(json.get())
            .map_err(|error| Fault::standard("runtime", 500, "Runtime Error", format!("a value: {error}")))?;
        Ok((json, Arc::new(again)))
    }

    pub(super) fn input(&self, id: FrameId) -> Step<Arc<Value>> {
        self.value(self.frame(id)?.input)
    }

    pub(super) fn scope(&self, id: FrameId) -> Step<Scope> {
        Ok(Scope::of(id, self.input(id)?))
    }

    pub(super) fn evaluate(&self, expression: &Expression, dot: &Value, scope: &Scope) -> Step<Value> {
        let mut variables = self.variables(scope)?;
        let names = |name: &str| expression.0.contains(&format!("${name}"));
        variables.insert("context".to_owned(), self.value(self.state.context)?);
        variables.insert("input".to_owned(), Arc::clone(&scope.input));
        variables.insert("output".to_owned(), scope.output.clone().unwrap_or_default());
        variables
            .insert("task".to_owned(), if names("task") { self.about_task(scope)? } else { Arc::default() });
        let workflow = if names("workflow") { self.about_workflow() } else { Value::Null };
        variables.insert("workflow".to_owned(), Arc::new(workflow));
        variables.insert("runtime".to_owned(), Arc::new(about_runtime()));
        let listed: Vec<(&str, &Value)> =
            variables.iter().map(|(name, value)| (name.as_str(), value.as_ref())).collect();
        self.turn.evaluator.evaluate(expression, dot, &listed).map_err(|error| match error {
            ExpressionError::Unavailable(_) => Halt::Unavailable,
            error => {
                let text: String = expression.0.chars().take(100).collect();
                let detail = format!("`{text}`: {error}");
                let is_limit = matches!(error, ExpressionError::Limit { .. });
                if is_limit { Fault::limit(detail) } else { Fault::expression(detail) }.into()
            }
        })
    }

    /// The variables of the frames around, inner ones first.
    fn variables(&self, scope: &Scope) -> Step<BTreeMap<String, Arc<Value>>> {
        let mut variables = scope.variables.clone();
        for (_, frame) in self.state.chain(scope.frame) {
            for (name, reference) in &frame.variables {
                if !variables.contains_key(name) {
                    variables.insert(name.clone(), self.value(*reference)?);
                }
            }
        }
        Ok(variables)
    }

    fn about_task(&self, scope: &Scope) -> Step<Arc<Value>> {
        let Some(id) = scope.frame else { return Ok(Arc::default()) };
        let frame: &Frame = self.frame(id)?;
        let task = self.task(id)?;
        Ok(Arc::new(json!({
            "name": task.name,
            "reference": task.pointer,
            "input": self.value(frame.raw)?.as_ref(),
            "output": scope.raw_output.as_deref(),
            "startedAt": moment(frame.started_at),
        })))
    }

    fn about_workflow(&self) -> Value {
        let about = &self.workflow.about;
        json!({
            "id": self.turn.pinned.id.to_string(),
            "definition": {
                "document": {
                    "dsl": about.dsl,
                    "namespace": about.namespace,
                    "name": about.name,
                    "version": about.version,
                },
            },
            "input": self.turn.pinned.input,
            "files": self.turn.pinned.files,
            "startedAt": moment(self.state.started_at),
        })
    }

    pub(super) fn holds(&self, expression: &Expression, dot: &Value, scope: &Scope) -> Step<bool> {
        Ok(is_true(&self.evaluate(expression, dot, scope)?))
    }

    pub(super) fn fill(&self, template: &Template, dot: &Value, scope: &Scope) -> Step<Value> {
        Ok(match template {
            Template::Expression(expression) => self.evaluate(expression, dot, scope)?,
            Template::Constant(value) => value.clone(),
            Template::Object(members) => {
                let filled =
                    members.iter().map(|(name, member)| Ok((name.clone(), self.fill(member, dot, scope)?)));
                Value::Object(filled.collect::<Step<_>>()?)
            }
            Template::Array(items) => {
                Value::Array(items.iter().map(|item| self.fill(item, dot, scope)).collect::<Step<_>>()?)
            }
        })
    }

    /// A template whose value is a text.
    pub(super) fn fill_text(
        &self,
        template: &Template,
        dot: &Value,
        scope: &Scope,
        what: &str,
    ) -> Step<String> {
        match self.fill(template, dot, scope)? {
            Value::String(text) => Ok(text),
            other => {
                Err(Fault::expression(format!("{what} is {}: it may be a text", kind_of(&other))).into())
            }
        }
    }

    pub(super) fn length(&self, length: &DurationValue, dot: &Value, scope: &Scope) -> Step<Duration> {
        let value = match length {
            DurationValue::Fixed(length) => return Ok(*length),
            DurationValue::Computed(expression) => self.evaluate(expression, dot, scope)?,
            DurationValue::Parts(template) => self.fill(template, dot, scope)?,
        };
        duration::of_value(&value).map_err(|message| Fault::expression(message).into())
    }

    /// Before a task, or the workflow: its schema, then its `from`.
    pub(super) fn filter_in(&self, filter: &Filter, raw: &Value, scope: &Scope) -> Step<Option<Value>> {
        if let Some(schema) = &filter.schema {
            fits(schema, raw, "the input")?;
        }
        filter.transform.as_ref().map(|from| self.fill(from, raw, scope)).transpose()
    }

    /// After a task, or the workflow: its `as`, then its schema.
    pub(super) fn filter_out(
        &self,
        filter: &Filter,
        raw: Arc<Value>,
        scope: Scope,
    ) -> Step<(Arc<Value>, Scope)> {
        let scope = scope.with_output(Arc::clone(&raw), Arc::clone(&raw));
        let output = match &filter.transform {
            Some(transform) => Arc::new(self.fill(transform, &raw, &scope)?),
            None => Arc::clone(&raw),
        };
        if let Some(schema) = &filter.schema {
            fits(schema, &output, "the output")?;
        }
        let scope = scope.with_output(raw, Arc::clone(&output));
        Ok((output, scope))
    }

    /// After a task: the workflow's context anew.
    pub(super) fn export(&mut self, filter: &Filter, output: &Value, scope: &Scope) -> Step<()> {
        let exported = match &filter.transform {
            Some(transform) => Some(self.fill(transform, output, scope)?),
            None => None,
        };
        if let Some(schema) = &filter.schema {
            match &exported {
                Some(exported) => fits(schema, exported, "the exported context")?,
                None => fits(schema, self.value(self.state.context)?.as_ref(), "the context")?,
            }
        }
        if let Some(exported) = exported {
            self.state.context = self.store(&exported)?;
        }
        Ok(())
    }
}

/// As jq has it: everything but `false` and `null`.
pub(super) fn is_true(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false))
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn fits(schema: &Schema, value: &Value, what: &str) -> Step<()> {
    match schema.validator.iter_errors(value).next() {
        None => Ok(()),
        Some(error) => {
            let told: String = error.to_string().chars().take(300).collect();
            Err(Fault::validation(format!(
                "{what} does not satisfy its schema: {told} at `{}`",
                error.instance_path()
            ))
            .into())
        }
    }
}

fn moment(at: Timestamp) -> Value {
    json!({
        "iso8601": at.to_string(),
        "epoch": {"seconds": at.micros().div_euclid(1_000_000), "milliseconds": at.micros().div_euclid(1_000)},
    })
}

fn about_runtime() -> Value {
    json!({"name": "holdpoint", "version": env!("CARGO_PKG_VERSION")})
}

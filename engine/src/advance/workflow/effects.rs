//! Tasks that are effects: what is sent is computed once, and the same in every attempt.

use std::time::Duration;

use serde_json::{Value, json};

use super::data::{Scope, kind_of};
use super::{Machine, Step, lost, task_of};
use crate::advance::{Turn, is_plain_id};
use crate::definition::Retry;
use crate::digest;
use crate::effect::{
    ChildEffect, Credential, Credentials, Effect, McpRequestEffect, OpenApiEffect, PublishEffect,
    RequestEffect,
};
use crate::entry::{Entry, QueueTerms, ToolCalled};
use crate::run::StepState;
use crate::status::{EffectClass, ErrorType};
use crate::time::Span;
use crate::workflow::document::{
    self, Authentication, HttpCall, McpCall, OpenApiCall, Performance, QueueTask, Task, Work, Workflow,
};
use crate::workflow::expression::Template;
use crate::workflow::fault::Fault;
use crate::workflow::state::{FrameId, Phase, State, ValueRef};

/// How long a call may take that says nothing about it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What an effect's attempts go by.
pub(in crate::advance) struct Terms {
    /// What an unknown outcome means.
    pub class: EffectClass,
    /// How often it is tried.
    pub retry: Retry,
    /// How long it may take.
    pub timeout: Duration,
}

/// One attempt.
struct Attempt<'a> {
    step: i32,
    number: u32,
    call_id: &'a str,
    arguments: &'a Value,
    /// `[[name, value], …]`.
    headers: &'a Value,
}

impl Machine<'_, '_> {
    pub(super) fn begin_effect(&mut self, id: FrameId, task: &Task, dot: &Value, scope: &Scope) -> Step<()> {
        let (arguments, headers) = match &task.work {
            Work::Http(call) => {
                (self.http(call, dot, scope)?, self.headers(call.headers.as_ref(), dot, scope)?)
            }
            Work::OpenApi(call) => (self.open_api(call, dot, scope)?, Value::Null),
            Work::Mcp(call) => {
                (self.mcp(call, dot, scope)?, self.headers(call.headers.as_ref(), dot, scope)?)
            }
            Work::Child(child) => (self.child(child, dot, scope)?, Value::Null),
            Work::Queue(queue) => (self.queue_task(queue, dot, scope)?, Value::Null),
            _ => return Err(lost("an effect")),
        };
        let hidden = self.store(&headers)?;
        if self.stands_cut_off(id, task, hidden)? {
            return Ok(());
        }
        let step = self.step();
        let call_id = call_id(task, step);
        self.frame_mut(id)?.phase = Phase::Step { step, hidden };
        let (text, arguments) = self.written(&arguments)?;
        let attempt =
            Attempt { step, number: 1, call_id: &call_id, arguments: &arguments, headers: &headers };
        self.send(id, task, &attempt, text)
    }

    /// A step has its result, or may be tried again.
    pub(super) fn step_moved(&mut self, id: FrameId, step: i32, hidden: ValueRef) -> Step<()> {
        let Some(found) = self.turn.run.steps.get(&step).cloned() else {
            return self.begin(id);
        };
        match found.state {
            StepState::Done { .. } => self.step_over(id, step),
            _ => {
                let task = self.task(id)?;
                let Some(tool) = found.tool() else { return Err(lost("a call")) };
                let (text, headers) = (super::super::raw(&tool.arguments), self.value(hidden)?);
                let arguments = crate::workflow::state::read(&tool.arguments);
                let attempt = Attempt {
                    step,
                    number: found.attempt + 1,
                    call_id: &tool.call_id,
                    arguments: &arguments,
                    headers: &headers,
                };
                self.send(id, &task, &attempt, text)
            }
        }
    }

    fn step_over(&mut self, id: FrameId, step: i32) -> Step<()> {
        match self.turn.run.flow.failures.get(&step) {
            Some(failure) => {
                let work = &self.task(id)?.work;
                let mut fault = Fault::of_failure(&failure.clone().sent_with(|| work.secrets()));
                if matches!(work, Work::Mcp(_)) && failure.kind == ErrorType::Logic {
                    fault = fault.into_runtime();
                }
                self.raise(id, fault)
            }
            None => self.complete(id, self.value(ValueRef::Step(step))?),
        }
    }

    fn send(
        &mut self,
        id: FrameId,
        task: &Task,
        attempt: &Attempt<'_>,
        text: crate::entry::Json,
    ) -> Step<()> {
        let effect = self.effect(id, task, attempt)?;
        self.push(Entry::ToolCalled(ToolCalled {
            step: attempt.step,
            tool_call_id: attempt.call_id.to_owned(),
            tool: task.name.clone(),
            arguments: text,
            attempt: attempt.number,
            task: Some(task.pointer.clone()),
            queue: self.queue_terms(id, task)?,
        }));
        self.made.effects.push(effect);
        Ok(())
    }

    fn effect(&self, id: FrameId, task: &Task, attempt: &Attempt<'_>) -> Step<Effect> {
        let (dot, scope) = (self.input(id)?, self.scope(id)?);
        let credentials = |authentication: Option<&Authentication>| {
            authentication.map(|authentication| self.credentials(authentication, &dot, &scope)).transpose()
        };
        let (step, number, tool_call_id) = (attempt.step, attempt.number, attempt.call_id.to_owned());
        let key = self.key(id, task, step, attempt.arguments)?;
        let text = |name: &str| attempt.arguments[name].as_str().unwrap_or_default().to_owned();
        let terms = terms(task);
        Ok(match &task.work {
            Work::Http(call) => Effect::Request(Box::new(RequestEffect {
                step,
                attempt: number,
                tool_call_id,
                class: terms.class,
                method: text("method"),
                uri: text("uri"),
                query: pairs(&attempt.arguments["query"]),
                headers: pairs(attempt.headers),
                body: attempt.arguments.get("body").cloned(),
                credentials: credentials(call.authentication.as_ref())?,
                output: call.output,
                redirect: call.redirect,
                key,
                timeout: terms.timeout,
            })),
            Work::OpenApi(call) => Effect::OpenApi(Box::new(OpenApiEffect {
                step,
                attempt: number,
                tool_call_id,
                class: call.performance.class,
                document: text("document"),
                document_credentials: credentials(call.document_authentication.as_ref())?,
                operation: call.operation.clone(),
                parameters: attempt.arguments["parameters"].as_object().cloned().unwrap_or_default(),
                credentials: credentials(call.authentication.as_ref())?,
                output: call.output,
                redirect: call.redirect,
                key,
                timeout: terms.timeout,
            })),
            Work::Mcp(call) => Effect::McpRequest(Box::new(McpRequestEffect {
                step,
                attempt: number,
                tool_call_id,
                class: terms.class,
                url: text("endpoint"),
                headers: pairs(attempt.headers),
                credentials: credentials(call.authentication.as_ref())?,
                method: call.method.clone(),
                parameters: attempt.arguments["parameters"].clone(),
                key,
                timeout: match &call.timeout {
                    Some(length) => self.length(length, &dot, &scope)?,
                    None => terms.timeout,
                },
            })),
            Work::Child(child) => Effect::Child(Box::new(ChildEffect {
                step,
                attempt: number,
                tool_call_id,
                kind: child.kind,
                name: child.name.clone(),
                version: child.version,
                label: child.label.clone(),
                input: attempt.arguments["input"].to_string(),
                wait: child.wait,
            })),
            Work::Queue(queue) => Effect::Publish(Box::new(PublishEffect {
                step,
                attempt: number,
                tool_call_id,
                queue: queue.queue.clone(),
                task: task.name.clone(),
                input: attempt.arguments["input"].to_string(),
                heartbeat: queue.heartbeat,
                key,
            })),
            _ => return Err(lost("an effect")),
        })
    }

    /// The same in every attempt of the step. Where the author's `retry` begins the tasks of a `try`
    /// anew, as new steps, the same in those too, as long as it is the same call: it follows from
    /// the task's place and what is sent instead of the step. Workers of queues name their reports
    /// by it: to them each step is a task of its own.
    pub(super) fn key(&self, id: FrameId, task: &Task, step: i32, arguments: &Value) -> Step<String> {
        let first_run = self.turn.pinned.first_run;
        if matches!(task.work, Work::Queue(_)) {
            return Ok(digest::effect_key(first_run, step));
        }
        let place = self.place(id)?;
        Ok(match place.retried {
            Some(_) => digest::retried_key(first_run, &format!("{}{arguments}", place.text)),
            None => digest::effect_key(first_run, step),
        })
    }

    pub(super) fn http(&self, call: &HttpCall, dot: &Value, scope: &Scope) -> Step<Value> {
        let method = self.fill_text(&call.method, dot, scope, "`method`")?.to_ascii_uppercase();
        let mut arguments = json!({"method": method, "uri": self.uri(&call.uri, dot, scope)?});
        if let Some(query) = &call.query {
            arguments["query"] = pairs_of(self.fill(query, dot, scope)?, "`query`")?;
        }
        if let Some(body) = &call.body {
            arguments["body"] = self.fill(body, dot, scope)?;
        }
        Ok(arguments)
    }

    fn open_api(&self, call: &OpenApiCall, dot: &Value, scope: &Scope) -> Step<Value> {
        let document = self.uri(&call.document, dot, scope)?;
        Ok(json!({
            "document": document,
            "operation": call.operation,
            "parameters": self.parameters(call.parameters.as_ref(), dot, scope)?,
        }))
    }

    fn mcp(&self, call: &McpCall, dot: &Value, scope: &Scope) -> Step<Value> {
        Ok(json!({
            "endpoint": self.uri(&call.endpoint, dot, scope)?,
            "method": call.method,
            "parameters": self.parameters(call.parameters.as_ref(), dot, scope)?,
        }))
    }

    /// Without an input of its own a child has the task's.
    fn child(&self, child: &document::Child, dot: &Value, scope: &Scope) -> Step<Value> {
        let input = match &child.input {
            Some(input) => self.fill(input, dot, scope)?,
            None => dot.clone(),
        };
        Ok(json!({"kind": child.kind, "name": child.name, "input": input}))
    }

    fn queue_task(&self, queue: &QueueTask, dot: &Value, scope: &Scope) -> Step<Value> {
        let input = match &queue.input {
            Some(input) => self.fill(input, dot, scope)?,
            None => dot.clone(),
        };
        Ok(json!({"queue": queue.queue, "input": input}))
    }

    fn queue_terms(&self, id: FrameId, task: &Task) -> Step<Option<QueueTerms>> {
        let Work::Queue(queue) = &task.work else { return Ok(None) };
        let terms = frame_terms(self.workflow, &self.state, id).ok_or_else(|| lost("a task"))?;
        Ok(Some(QueueTerms {
            name: queue.queue.clone(),
            heartbeat: queue.heartbeat.map(Span),
            class: terms.class,
            retry: terms.retry,
        }))
    }

    fn parameters(&self, template: Option<&Template>, dot: &Value, scope: &Scope) -> Step<Value> {
        match template.map(|template| self.fill(template, dot, scope)).transpose()? {
            None | Some(Value::Null) => Ok(json!({})),
            Some(parameters @ Value::Object(_)) => Ok(parameters),
            Some(other) => {
                Err(Fault::expression(format!("`parameters` is {}: it may be an object", kind_of(&other)))
                    .into())
            }
        }
    }

    pub(super) fn headers(&self, template: Option<&Template>, dot: &Value, scope: &Scope) -> Step<Value> {
        match template {
            Some(template) => pairs_of(self.fill(template, dot, scope)?, "`headers`"),
            None => Ok(Value::Null),
        }
    }

    /// `{name}` stands for a member of the task's input, or of the workflow's. What an
    /// expression gave is a URI as it is. What a value names stays in its place: in the path it
    /// is not empty, and leads nowhere else.
    fn uri(&self, template: &Template, dot: &Value, scope: &Scope) -> Step<String> {
        let text = self.fill_text(template, dot, scope, "a URI")?;
        if matches!(template, Template::Expression(_)) || !text.contains('{') {
            return Ok(text);
        }
        let member = |name: &str| dot.get(name).or_else(|| self.turn.pinned.input.get(name));
        let mut uri = String::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else { break };
            uri.push_str(before);
            let in_path = !uri.contains(['?', '#']);
            let wrong = |is: &str, may: &str| {
                let name: String = name.chars().take(64).collect();
                let message =
                    format!("`{{{name}}}` of a URI is {is}: it may be a text, a number or a boolean{may}");
                Err(Fault::expression(message).into())
            };
            match member(name) {
                None if in_path => return wrong("not in the task's input", ""),
                Some(Value::Null) if in_path => return wrong("null", ""),
                Some(Value::String(text)) if in_path && text.is_empty() => return wrong("empty", ""),
                None | Some(Value::Null) => {}
                Some(Value::String(text)) => percent(text, &mut uri),
                Some(value @ (Value::Bool(_) | Value::Number(_))) => percent(&value.to_string(), &mut uri),
                Some(other) => return wrong(kind_of(other), if in_path { "" } else { ", or null" }),
            }
            rest = after;
        }
        uri.push_str(rest);
        if dots(&uri) != dots(&text) {
            let message = "a value in the URI's path is `.` or `..`, which would lead elsewhere";
            return Err(Fault::expression(message).into());
        }
        Ok(uri)
    }

    pub(super) fn credentials(&self, of: &Authentication, dot: &Value, scope: &Scope) -> Step<Credentials> {
        let part = |part: &document::Credential| self.credential(part, dot, scope);
        Ok(match of {
            Authentication::Basic { username, password } => {
                Credentials::Basic { username: part(username)?, password: part(password)? }
            }
            Authentication::BasicSecret(name) => Credentials::BasicSecret(name.clone()),
            Authentication::Bearer(token) => Credentials::Bearer(part(token)?),
            Authentication::BearerSecret(name) => Credentials::Bearer(Credential::Secret(name.clone())),
            Authentication::OAuth2 {
                token_endpoint,
                client_id,
                client_secret,
                scopes,
                audiences,
                in_body,
            } => Credentials::OAuth2 {
                token_endpoint: self.uri(token_endpoint, dot, scope)?,
                client_id: part(client_id)?,
                client_secret: part(client_secret)?,
                scopes: scopes.clone(),
                audiences: audiences.clone(),
                in_body: *in_body,
            },
            Authentication::OAuth2Secret(name) => Credentials::OAuth2Secret(name.clone()),
        })
    }

    fn credential(&self, of: &document::Credential, dot: &Value, scope: &Scope) -> Step<Credential> {
        Ok(match of {
            document::Credential::Secret(name) => Credential::Secret(name.clone()),
            document::Credential::Plain(text) => Credential::Text(text.clone()),
            document::Credential::Computed(expression) => match self.evaluate(expression, dot, scope)? {
                Value::String(text) => Credential::Text(text),
                other => {
                    let message =
                        format!("a part of `authentication` is {}: it may be a text", kind_of(&other));
                    return Err(Fault::expression(message).into());
                }
            },
        })
    }
}

impl Turn<'_> {
    /// What the attempts of a workflow's step go by; `None` where no task of it is at work.
    pub(in crate::advance) fn flow_terms(&self, step: i32) -> Option<Terms> {
        let crate::definition::Definition::Workflow(workflow) = self.pinned.definition.as_ref() else {
            return None;
        };
        let state = self.run.flow.state.as_ref()?;
        frame_terms(workflow, state, state.frame_of_step(step)?)
    }
}

fn frame_terms(workflow: &Workflow, state: &State, id: FrameId) -> Option<Terms> {
    Some(terms(&*task_of(workflow, state, state.frames.get(&id)?)?))
}

/// What a step's call is named by: the task and the step, where that is plain ASCII.
pub(super) fn call_id(task: &Task, step: i32) -> String {
    let id = format!("{}-{step}", task.name);
    if is_plain_id(&id) { id } else { format!("task-{step}") }
}

pub(super) fn terms(task: &Task) -> Terms {
    let of = |performance: &Performance, class: EffectClass| Terms {
        class: performance.class.unwrap_or(class),
        retry: performance.retry,
        timeout: TIMEOUT,
    };
    match &task.work {
        Work::Http(call) => of(&call.performance, class_of(&call.method)),
        Work::OpenApi(call) => of(&call.performance, EffectClass::AtMostOnce),
        Work::Mcp(call) => of(&call.performance, EffectClass::AtMostOnce),
        Work::Queue(queue) => of(&queue.performance, EffectClass::AtMostOnce),
        // A second start of a child is the first one.
        _ => Terms { class: EffectClass::Idempotent, retry: Retry::default(), timeout: TIMEOUT },
    }
}

/// What HTTP promises of a method; one that is computed promises nothing.
fn class_of(method: &Template) -> EffectClass {
    let Template::Constant(Value::String(method)) = method else { return EffectClass::AtMostOnce };
    match method.to_ascii_uppercase().as_str() {
        "GET" | "HEAD" | "OPTIONS" | "PUT" | "DELETE" => EffectClass::Idempotent,
        _ => EffectClass::AtMostOnce,
    }
}

/// An object as pairs of texts; a list is several of one name.
fn pairs_of(value: Value, what: &str) -> Step<Value> {
    let members = match value {
        Value::Null => return Ok(Value::Null),
        Value::Object(members) => members,
        other => {
            return Err(
                Fault::expression(format!("{what} is {}: it may be an object", kind_of(&other))).into()
            );
        }
    };
    let mut found = Vec::new();
    for (name, value) in members {
        let values = match value {
            Value::Array(values) => values,
            value => vec![value],
        };
        for value in values {
            match value {
                Value::Null => {}
                Value::String(text) => found.push(json!([name, text])),
                value @ (Value::Bool(_) | Value::Number(_)) => found.push(json!([name, value.to_string()])),
                other => {
                    let message = format!("`{name}` of {what} is {}: it may be a text", kind_of(&other));
                    return Err(Fault::expression(message).into());
                }
            }
        }
    }
    Ok(Value::Array(found))
}

pub(super) fn pairs(value: &Value) -> Vec<(String, String)> {
    let pair = |pair: &Value| Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned()));
    value.as_array().map_or_else(Vec::new, |all| all.iter().filter_map(pair).collect())
}

/// How many segments of a URI's path are `.` or `..`.
fn dots(uri: &str) -> usize {
    let path = uri.split(['?', '#']).next().unwrap_or_default();
    path.split('/').filter(|segment| matches!(*segment, "." | "..")).count()
}

/// Everything but what a URI may always have is percent-encoded (RFC 6570, simple expansion).
fn percent(text: &str, uri: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
}

//! `call: openapi`: the document is fetched and read, and its operation sent as any request.

mod document;
mod parameters;
mod yaml;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdpoint_engine::effect::{Certainty, Input, OpenApiEffect, RequestEffect};
use holdpoint_engine::status::{EffectClass, ErrorType};
use holdpoint_engine::workflow::document::HttpOutput;
use reqwest::Method;
use serde_json::{Map, Value};

use self::document::{Document, Operation, PARTS};
use self::parameters::{Parameter, Place};
use super::request::{exchange, perform, text};
use super::{Deadline, reachable};
use crate::{Fault, Origin, Performer};

/// A document is read again so long after it was fetched.
const AGE: Duration = Duration::from_secs(300);
/// Bytes of a document.
const DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of all documents that are kept; when there are more, all are fetched again as needed.
const KEPT_BYTES: usize = 16 * 1024 * 1024;

type Key = (String, String);

struct Kept {
    document: Arc<Document>,
    bytes: usize,
    at: Instant,
}

/// The documents that were fetched without credentials, by tenant and address.
#[derive(Default)]
pub(crate) struct Documents {
    kept: Mutex<HashMap<Key, Kept>>,
}

impl Documents {
    fn get(&self, key: &Key) -> Option<Arc<Document>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.get(key).filter(|kept| kept.at.elapsed() < AGE);
        found.map(|kept| Arc::clone(&kept.document))
    }

    fn keep(&self, key: Key, document: &Arc<Document>, bytes: usize) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, kept| kept.at.elapsed() < AGE);
        if kept.values().map(|kept| kept.bytes).sum::<usize>() + bytes > KEPT_BYTES {
            kept.clear();
        }
        kept.insert(key, Kept { document: Arc::clone(document), bytes, at: Instant::now() });
    }
}

pub(crate) async fn call(
    performer: &Performer,
    mut effect: OpenApiEffect,
    origin: &Origin,
) -> Result<Input, Fault> {
    let deadline = Deadline::after(effect.timeout);
    let document = fetched(performer, &effect, origin, deadline).await?;
    let operation = document.operation(&effect.operation)?;
    let given = std::mem::take(&mut effect.parameters);
    let told = effect.class;
    let request = request(effect, &operation, given)?;
    let repeats = told.is_none() && request.class == EffectClass::Idempotent;
    perform(performer, request, origin, deadline).await.map_err(|fault| match repeats {
        // It may be done again: nobody has to find out.
        true => Fault { certainty: Certainty::Definite, ..fault },
        false => fault,
    })
}

/// The document, perhaps as an earlier call fetched it. Whatever goes wrong, the operation was not
/// called.
async fn fetched(
    performer: &Performer,
    effect: &OpenApiEffect,
    origin: &Origin,
    deadline: Deadline,
) -> Result<Arc<Document>, Fault> {
    let key = (origin.key.scope.tenant.to_string(), effect.document.clone());
    let shared = effect.document_credentials.is_none();
    if let Some(document) = performer.documents.get(&key).filter(|_| shared) {
        return Ok(document);
    }
    let from = reachable(performer, &effect.document)?;
    let accept = ("accept".to_owned(), "application/json, application/yaml, */*;q=0.8".to_owned());
    let get = RequestEffect {
        step: effect.step,
        attempt: effect.attempt,
        tool_call_id: effect.tool_call_id.clone(),
        class: EffectClass::Idempotent,
        method: Method::GET.to_string(),
        uri: effect.document.clone(),
        query: Vec::new(),
        headers: vec![accept],
        body: None,
        credentials: effect.document_credentials.clone(),
        output: HttpOutput::Raw,
        redirect: true,
        key: String::new(),
        timeout: effect.timeout,
    };
    let not_called = |fault: Fault| {
        let mut failure = fault.failure;
        failure.message = format!("the OpenAPI document: {}", failure.message);
        Fault { failure, certainty: Certainty::Definite, ..fault }
    };
    let came = exchange(performer, &get, origin, deadline, DOCUMENT_BYTES).await;
    let (answer, _) = came.map_err(not_called)?;
    let document = Arc::new(Document::read(&String::from_utf8_lossy(&answer.body), from)?);
    if shared {
        performer.documents.keep(key, &document, answer.body.len());
    }
    Ok(document)
}

/// The operation's request with these parameters. One that is missing, or that the operation does
/// not have, is named.
fn request(
    effect: OpenApiEffect,
    operation: &Operation<'_>,
    mut given: Map<String, Value>,
) -> Result<RequestEffect, Fault> {
    given.retain(|_, value| !value.is_null());
    let placed = Placed::of(operation, &given).map_err(|message| {
        Fault::definite(ErrorType::Logic, format!("the operation `{}` {message}", effect.operation))
    })?;
    Ok(RequestEffect {
        step: effect.step,
        attempt: effect.attempt,
        tool_call_id: effect.tool_call_id,
        class: effect.class.unwrap_or(class_of(&operation.method)),
        method: operation.method.clone(),
        uri: placed.uri,
        query: placed.query,
        headers: placed.headers,
        body: placed.body,
        credentials: effect.credentials,
        output: effect.output,
        redirect: effect.redirect,
        key: effect.key,
        timeout: effect.timeout,
    })
}

/// Parameters where they belong.
#[derive(Default)]
struct Placed<'d> {
    uri: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    cookies: Vec<String>,
    form: Map<String, Value>,
    body: Option<Value>,
    known: Vec<&'d str>,
    missing: Vec<&'d str>,
}

impl<'d> Placed<'d> {
    fn of(operation: &Operation<'d>, given: &Map<String, Value>) -> Result<Self, String> {
        let mut placed = Self { uri: operation.uri.clone(), ..Self::default() };
        for parameter in &operation.parameters {
            placed.known.push(parameter.name);
            match given.get(parameter.name) {
                Some(value) => placed.put(parameter, value),
                None if parameter.required => placed.missing.push(parameter.name),
                None => {}
            }
        }
        placed.put_body(operation, given);
        if !placed.missing.is_empty() {
            return Err(format!("needs: {}", placed.missing.join(", ")));
        }
        if let Some(other) = given.keys().find(|name| !placed.known.contains(&name.as_str())) {
            return Err(format!("has no parameter `{other}`"));
        }
        if operation.body.as_ref().is_some_and(|of| placed.body.is_some() && of.kind.starts_with(PARTS)) {
            return Err("takes its body in parts (multipart), which is not carried".to_owned());
        }
        check_path(&placed.uri)?;
        Ok(placed)
    }

    fn put(&mut self, parameter: &Parameter<'_>, value: &Value) {
        match parameter.place {
            Place::Path => {
                let place = format!("{{{}}}", parameter.name);
                self.uri = self.uri.replace(&place, &parameter.in_path(value));
            }
            Place::Query => self.query.extend(parameter.pairs(value)),
            Place::Header => self.headers.push((parameter.name.to_owned(), parameter.in_header(value))),
            Place::Cookie => {
                let pairs = parameter.pairs(value);
                self.cookies.extend(pairs.iter().map(|(name, value)| format!("{name}={value}")));
            }
            Place::Form => add(&mut self.form, parameter.pairs(value)),
            Place::Body => {}
        }
    }

    fn put_body(&mut self, operation: &Operation<'d>, given: &Map<String, Value>) {
        if !self.cookies.is_empty() {
            self.headers.push(("cookie".to_owned(), self.cookies.join("; ")));
        }
        let Some(of) = &operation.body else { return };
        self.body = match of.name {
            "" if self.form.is_empty() => None,
            "" => Some(Value::Object(std::mem::take(&mut self.form))),
            name => {
                self.known.extend(["body", name]);
                let body = given.get("body").or_else(|| given.get(name)).cloned();
                if of.required && body.is_none() {
                    self.missing.push(name);
                }
                body
            }
        };
        if self.body.is_some() {
            self.headers.push(("content-type".to_owned(), of.kind.clone()));
        }
    }
}

/// As a workflow's `call: http` has it.
fn class_of(method: &str) -> EffectClass {
    match method {
        "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE" => EffectClass::Idempotent,
        _ => EffectClass::AtMostOnce,
    }
}

/// Several of one name are a list.
fn add(form: &mut Map<String, Value>, pairs: Vec<(String, String)>) {
    for (name, value) in pairs {
        match form.get_mut(&name) {
            Some(Value::Array(values)) => values.push(value.into()),
            Some(one) => *one = Value::Array(vec![Value::from(text(one)), value.into()]),
            None => _ = form.insert(name, value.into()),
        }
    }
}

/// A value may not lead out of its place in the path, nor leave it empty.
fn check_path(uri: &str) -> Result<(), String> {
    let path = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if let Some((_, rest)) = path.split_once('{') {
        let name = rest.split('}').next().unwrap_or_default();
        return Err(format!("has no parameter for `{{{name}}}` in its path"));
    }
    let led_out = path.split('/').any(|segment| matches!(segment, "." | ".."));
    if led_out { Err("would leave its path with these parameters".to_owned()) } else { Ok(()) }
}

#[cfg(test)]
mod tests;

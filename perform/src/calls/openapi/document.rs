//! OpenAPI documents, 2.0 and 3.x: which request an operation is.

use holdpoint_engine::status::ErrorType;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use serde_json::{Map, Value};

use super::super::answer::names_json;
use super::super::request::FORM;
use super::parameters::{Parameter, Place};
use super::yaml;
use crate::Fault;

/// `$ref`s that lead to each other.
const REFERENCES: usize = 16;
/// Bodies of several parts, which are not carried.
pub(super) const PARTS: &str = "multipart/";
const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// A document, and where it came from.
pub(super) struct Document {
    root: Value,
    from: Url,
    /// 2.0, else 3.x.
    old: bool,
}

/// An operation, made ready for its parameters.
pub(super) struct Operation<'d> {
    pub method: String,
    /// With the server's address before it.
    pub uri: String,
    pub parameters: Vec<Parameter<'d>>,
    pub body: Option<Body<'d>>,
}

/// What an operation's body is.
pub(super) struct Body<'d> {
    /// What it may be called besides `body`; empty where it is a form of parameters.
    pub name: &'d str,
    pub required: bool,
    pub kind: String,
}

fn wrong(message: String) -> Fault {
    Fault::definite(ErrorType::Logic, format!("the OpenAPI document {message}"))
}

impl Document {
    /// JSON or YAML.
    pub fn read(text: &str, from: Url) -> Result<Self, Fault> {
        let root: Value = if text.trim_start().starts_with('{') {
            serde_json::from_str(text).map_err(|error| wrong(format!("makes no sense: {error}")))?
        } else {
            yaml::read(text).map_err(|error| wrong(format!("makes no sense: {error}")))?
        };
        let version = |name: &str| match root.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let old = version("swagger").is_some_and(|version| version.starts_with("2"));
        if !old && !version("openapi").is_some_and(|version| version.starts_with("3.")) {
            return Err(wrong("has neither `swagger: \"2.0\"` nor `openapi: 3.…`".to_owned()));
        }
        Ok(Self { root, from, old })
    }

    /// The operation of that id.
    pub fn operation(&self, id: &str) -> Result<Operation<'_>, Fault> {
        for (path, item) in object(self.root.get("paths")) {
            let item = self.followed(item)?;
            for method in METHODS {
                if let Some(found) = item.get(method)
                    && found.get("operationId").and_then(Value::as_str) == Some(id)
                {
                    return self.ready(method, path, item, found);
                }
            }
        }
        Err(wrong(format!("has no operation `{id}`")))
    }

    fn ready<'d>(
        &'d self,
        method: &str,
        path: &str,
        item: &'d Value,
        found: &'d Value,
    ) -> Result<Operation<'d>, Fault> {
        let mut named: Vec<&'d Value> = Vec::new();
        for list in [item.get("parameters"), found.get("parameters")] {
            for parameter in list.and_then(Value::as_array).into_iter().flatten() {
                let parameter = self.followed(parameter)?;
                let same =
                    |other: &&Value| ["name", "in"].iter().all(|key| other.get(*key) == parameter.get(*key));
                // The operation's own goes before that of its path.
                named.retain(|other| !same(other));
                named.push(parameter);
            }
        }
        let body = if self.old { self.old_body(found, &named) } else { self.body(found)? };
        let parameters = named.into_iter().filter_map(|parameter| Parameter::read(parameter, self.old));
        let parameters: Vec<_> = parameters.collect();
        let base = if self.old { self.old_base(found)? } else { self.base(item, found)? };
        let uri = format!("{}{path}", base.trim_end_matches('/'));
        Ok(Operation { method: method.to_ascii_uppercase(), uri, parameters, body })
    }

    fn body<'d>(&'d self, found: &'d Value) -> Result<Option<Body<'d>>, Fault> {
        let Some(body) = found.get("requestBody") else { return Ok(None) };
        let body = self.followed(body)?;
        let kinds: Vec<&str> = object(body.get("content")).map(|(kind, _)| kind.as_str()).collect();
        let required = body.get("required") == Some(&Value::Bool(true));
        Ok(Some(Body { name: "body", required, kind: kind(&kinds) }))
    }

    fn old_body<'d>(&'d self, found: &'d Value, named: &[&'d Value]) -> Option<Body<'d>> {
        let place = |parameter: &Value| Place::read(parameter, true);
        let list = found.get("consumes").or_else(|| self.root.get("consumes"));
        let kinds: Vec<&str> =
            list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if named.iter().any(|parameter| place(parameter) == Some(Place::Form)) {
            let parts = !kinds.is_empty() && kinds.iter().all(|kind| kind.starts_with(PARTS));
            let kind = if parts { PARTS } else { FORM };
            return Some(Body { name: "", required: false, kind: kind.to_owned() });
        }
        let own = named.iter().find(|parameter| place(parameter) == Some(Place::Body))?;
        let name = own.get("name").and_then(Value::as_str).unwrap_or("body");
        Some(Body { name, required: own.get("required") == Some(&Value::Bool(true)), kind: kind(&kinds) })
    }

    fn base(&self, item: &Value, found: &Value) -> Result<String, Fault> {
        let servers = [found.get("servers"), item.get("servers"), self.root.get("servers")];
        let first = servers.into_iter().flatten().find_map(|servers| servers.get(0));
        let mut url = first.and_then(|server| server.get("url")?.as_str()).unwrap_or("/").to_owned();
        for (name, variable) in object(first.and_then(|server| server.get("variables"))) {
            let value = variable.get("default").and_then(Value::as_str).unwrap_or_default();
            url = url.replace(&format!("{{{name}}}"), value);
        }
        let url =
            self.from.join(&url).map_err(|error| wrong(format!("names a server that is none: {error}")))?;
        Ok(url.into())
    }

    fn old_base(&self, found: &Value) -> Result<String, Fault> {
        let list = found.get("schemes").or_else(|| self.root.get("schemes"));
        let schemes: Vec<&str> =
            list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let scheme =
            [self.from.scheme(), "https", "http"].into_iter().find(|scheme| schemes.contains(scheme));
        let scheme = scheme.unwrap_or(self.from.scheme());
        let own = || super::super::server(&self.from);
        let host = self.root.get("host").and_then(Value::as_str).map_or_else(own, str::to_owned);
        let path = self.root.get("basePath").and_then(Value::as_str).unwrap_or("");
        let text = format!("{scheme}://{host}/{}", path.trim_start_matches('/'));
        Url::parse(&text)
            .map(String::from)
            .map_err(|error| wrong(format!("names a host that is none: {error}")))
    }

    /// What a `$ref` of this document means; anything else is itself.
    fn followed<'d>(&'d self, value: &'d Value) -> Result<&'d Value, Fault> {
        let mut value = value;
        for _ in 0..REFERENCES {
            let Some(to) = value.get("$ref").and_then(Value::as_str) else { return Ok(value) };
            let pointer = to.strip_prefix('#').map(|pointer| percent_decode_str(pointer).decode_utf8_lossy());
            value = pointer
                .and_then(|pointer| self.root.pointer(&pointer))
                .ok_or_else(|| wrong(format!("refers to `{to}`, which is not in it")))?;
        }
        Err(wrong("has references that lead nowhere".to_owned()))
    }
}

fn object(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

/// JSON where that is among them, else a form, else the first one.
fn kind(kinds: &[&str]) -> String {
    let any = |kind: &&&str| names_json(kind) || kind.starts_with("*/*");
    let found = kinds.iter().find(any).or_else(|| kinds.iter().find(|kind| kind.starts_with(FORM)));
    match found.or(kinds.first()) {
        Some(kind) if !kind.contains('*') => (*kind).to_owned(),
        _ => "application/json".to_owned(),
    }
}

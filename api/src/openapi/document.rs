//! The document (OpenAPI 3.1), made from the table of routes.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use schemars::generate::{Contract, SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use super::operation::{Body, Operation, Parameter, Place, Told};
use crate::problem::Code;
use crate::routes::Route;

const ABOUT: &str = "Durable executions of agents and workflows that stop where a person must approve. \
Tenant and project come from the key. Unknown members of a body and unknown parameters of a query are \
refused, but on the chat endpoints. Every answer has an `x-request-id`.";

const EVENTS: &str = "Server-Sent Events. `id` is the event's number, 1…n without a gap; `data` is an `Event`. \
Two kinds have no number: `error` `{error: Failure}` before the end of a failed execution, and `end` \
`{status}`, the last. A comment keeps a quiet line open.";

/// The whole document.
pub fn document(routes: &[Route]) -> Value {
    let mut writer = Writer::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let described = writer.operation(route, &(route.doc)());
        let method = route.method.as_str().to_ascii_lowercase();
        paths.entry(route.path).or_default().insert(method, described);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Holdpoint",
            "version": env!("CARGO_PKG_VERSION"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": writer.schemas(),
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key: `hp_…`."},
                "cron": {"type": "http", "scheme": "bearer", "description": "The secret `api.cron_secret`."},
            },
        },
    })
}

struct Writer {
    taken: SchemaGenerator,
    told: SchemaGenerator,
}

fn generator(contract: Contract) -> SchemaGenerator {
    let with = |settings: &mut SchemaSettings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.contract = contract;
    };
    SchemaSettings::draft2020_12().with(with).into_generator()
}

impl Writer {
    /// What is read and what is written have schemas of their own: a member that may be left
    /// out of a body is always there, as null, in an answer.
    fn new() -> Self {
        Self { taken: generator(Contract::Deserialize), told: generator(Contract::Serialize) }
    }

    /// All schemas that were referred to. A name stands for one schema: where a type is both
    /// read and written in two shapes, a test of this module says so.
    fn schemas(mut self) -> Map<String, Value> {
        let mut all = self.told.take_definitions(true);
        all.extend(self.taken.take_definitions(true));
        all.insert("Problem".to_owned(), problem());
        all
    }

    fn operation(&mut self, route: &Route, doc: &Operation) -> Value {
        let mut parameters: Vec<Value> = path_names(route.path).map(path_parameter).collect();
        parameters.extend(doc.parameters.iter().map(|parameter| self.parameter(parameter)));
        let mut described = json!({
            "operationId": doc.id,
            "summary": doc.summary,
            "tags": [tag(route.path)],
            "responses": self.responses(route, doc),
            "security": security(route),
        });
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if let Some(body) = &doc.body {
            let mut content = content(&mut self.taken, body);
            if doc.takes_yaml {
                content.insert("application/yaml".to_owned(), json!({"schema": {"type": "string"}}));
            }
            if let Some(parts) = doc.form {
                let schema: Value = parts(&mut self.taken).into();
                content.insert("multipart/form-data".to_owned(), json!({"schema": schema}));
            }
            described["requestBody"] = json!({"required": doc.body_required, "content": content});
        }
        described
    }

    fn parameter(&mut self, parameter: &Parameter) -> Value {
        let schema = (parameter.schema)(&mut self.taken);
        let (name, about) = (parameter.name, parameter.about);
        match parameter.place {
            Place::Query => json!({"name": name, "in": "query", "description": about, "schema": schema}),
            Place::Header => json!({"name": name, "in": "header", "description": about, "schema": schema}),
            // As a form, each member of an object is a pair of its own.
            Place::QueryPrefix => json!({
                "name": name, "in": "query", "description": about, "style": "form", "explode": true,
                "schema": {
                    "type": "object",
                    "patternProperties": {format!("^{}", name.replace('.', "\\.")): schema},
                    "additionalProperties": false,
                },
            }),
        }
    }

    fn responses(&mut self, route: &Route, doc: &Operation) -> BTreeMap<String, Value> {
        let mut responses: BTreeMap<String, Value> = BTreeMap::new();
        for told in &doc.told {
            let response = responses.entry(told.status.to_string()).or_insert_with(|| json!({}));
            self.told(told, response);
        }
        if let Some(schema) = doc.foreign_errors {
            let schema = schema(&mut self.told);
            let content = json!({"application/json": {"schema": schema}});
            responses.insert("default".to_owned(), json!({"description": "An error.", "content": content}));
        } else {
            for (status, codes) in problems(route, doc) {
                let response = responses.entry(status.to_string()).or_insert_with(|| json!({}));
                add_problem(response, &codes);
            }
        }
        responses
    }

    fn told(&mut self, told: &Told, response: &mut Value) {
        describe(response, told.about);
        if let Some(body) = &told.body {
            for (media, kind) in content(&mut self.told, body) {
                response["content"][media] = kind;
            }
        }
        for name in &told.headers {
            response["headers"][*name] = json!({"schema": {"type": "string"}});
        }
    }
}

fn describe(response: &mut Value, about: &str) {
    let so_far = response["description"].as_str().map(|text| format!("{text} "));
    response["description"] = format!("{}{about}", so_far.unwrap_or_default()).into();
}

fn content(generator: &mut SchemaGenerator, body: &Body) -> Map<String, Value> {
    let schema = match (body.schema, body.media) {
        (Some(schema), _) => schema(generator).into(),
        (None, "text/event-stream") => json!({"type": "string", "description": EVENTS}),
        (None, _) => json!({"type": "string"}),
    };
    Map::from_iter([(body.media.to_owned(), json!({"schema": schema}))])
}

/// The problems of each status: the route's own, and those of every route like it.
fn problems(route: &Route, doc: &Operation) -> BTreeMap<u16, BTreeSet<&'static str>> {
    let own = |code: Code| (code.status(), code);
    let mut all = doc.problems.clone();
    all.extend([Code::Internal, Code::Unavailable, Code::InvalidParameter].map(own));
    all.push((StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, Code::Limit));
    if route.right.is_some() {
        all.extend([Code::Unauthorized, Code::Forbidden].map(own));
    }
    if doc.body.is_some() {
        all.extend([Code::InvalidBody, Code::UnsupportedMediaType, Code::RequestTimeout].map(own));
        all.extend(
            [StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY].map(|s| (s, Code::Limit)),
        );
    }
    if path_names(route.path).next().is_some() {
        all.push(own(Code::NotFound));
    }
    let mut by_status: BTreeMap<u16, BTreeSet<&'static str>> = BTreeMap::new();
    for (status, code) in all {
        by_status.entry(status.as_u16()).or_default().insert(code.as_str());
    }
    by_status
}

fn add_problem(response: &mut Value, codes: &BTreeSet<&'static str>) {
    let words: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    describe(response, &format!("Problem: {}.", words.join(", ")));
    response["content"]["application/problem+json"] = json!({"schema": {
        "allOf": [{"$ref": "#/components/schemas/Problem"}],
        "properties": {"code": {"enum": codes}},
    }});
}

fn problem() -> Value {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "description": "RFC 9457. `code` is a promise; the sentences are for people. Further members by code.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "pattern": "^urn:holdpoint:problem:"},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "code": {"enum": codes},
        },
    })
}

/// The names between braces.
pub fn path_names(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'))
}

fn path_parameter(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}})
}

/// The first segment that is no version.
fn tag(path: &str) -> &str {
    path.split('/').find(|segment| !["", "v1", "api", "internal"].contains(segment)).unwrap_or("rest")
}

fn security(route: &Route) -> Value {
    match (route.right, tag(route.path)) {
        (Some(_), _) => json!([{"key": []}]),
        (None, "cron") => json!([{"cron": []}]),
        (None, _) => json!([]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::table;

    fn operations(document: &Value) -> Vec<&Value> {
        let paths = document["paths"].as_object().expect("paths");
        paths.values().flat_map(|methods| methods.as_object().expect("methods").values()).collect()
    }

    fn refs<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|member| refs(member, found));
            }
            Value::Array(items) => items.iter().for_each(|item| refs(item, found)),
            _ => {}
        }
    }

    #[test]
    fn each_route_has_one_operation_with_a_name_of_its_own() {
        let document = document(&table());
        let all = operations(&document);
        assert_eq!(all.len(), table().len(), "two routes have one method and path");
        let names: BTreeSet<&str> = all.iter().filter_map(|one| one["operationId"].as_str()).collect();
        assert_eq!(names.len(), all.len(), "two operations have one name: {names:?}");
        for one in all {
            let name = &one["operationId"];
            let responses = one["responses"].as_object().expect("responses");
            assert!(responses.keys().any(|status| status.starts_with(['2', '3'])), "{name} answers nothing");
            assert!(responses.values().all(|response| response["description"].is_string()), "{name}");
        }
    }

    #[test]
    fn what_is_referred_to_is_there() {
        let document = document(&table());
        let mut found = Vec::new();
        refs(&document, &mut found);
        assert!(found.len() > 50);
        for place in found {
            let place = place.strip_prefix('#').expect("within the document");
            assert!(document.pointer(place).is_some(), "{place}");
        }
    }

    /// A number at a name's end is schemars' way to keep two types of one name apart.
    #[test]
    fn each_schema_has_a_name_of_its_own() {
        let mut writer = Writer::new();
        for route in table() {
            writer.operation(&route, &(route.doc)());
        }
        let (told, taken) = (writer.told.definitions().clone(), writer.taken.definitions().clone());
        for (name, schema) in &taken {
            assert!(told.get(name).is_none_or(|other| other == schema), "{name} is read and written");
        }
        let numbered = |name: &&String| name.ends_with(|last: char| last.is_ascii_digit());
        let all: Vec<&String> = told.keys().chain(taken.keys()).filter(numbered).collect();
        assert!(all.is_empty(), "give these a name by #[schemars(rename)]: {all:?}");
    }
}

//! What one route takes and answers, said beside its handler. The schemas come from the
//! types that the handler reads and writes.

use http::StatusCode;
use schemars::generate::SchemaGenerator;
use schemars::{JsonSchema, Schema};

use crate::problem::Code;

/// Makes a type's schema, or a reference to it.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// Where a parameter stands. Those of a path are read from the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `?name=`.
    Query,
    /// `?label.KEY=`, for any key.
    QueryPrefix,
    /// A header.
    Header,
}

/// One parameter; none is required.
#[derive(Debug, Clone)]
pub struct Parameter {
    pub name: &'static str,
    pub place: Place,
    pub schema: SchemaOf,
    pub about: &'static str,
}

/// A body, as a request's or an answer's.
#[derive(Debug, Clone)]
pub struct Body {
    pub media: &'static str,
    pub schema: Option<SchemaOf>,
}

/// One answer that is no problem.
#[derive(Debug, Clone)]
pub struct Told {
    pub status: u16,
    pub about: &'static str,
    pub body: Option<Body>,
    pub headers: Vec<&'static str>,
}

/// What a route takes and answers.
#[derive(Debug, Clone)]
pub struct Operation {
    pub id: &'static str,
    pub summary: &'static str,
    pub parameters: Vec<Parameter>,
    pub body: Option<Body>,
    pub body_required: bool,
    /// Whether the body may be YAML as well.
    pub takes_yaml: bool,
    /// The parts of the form that the body may be as well.
    pub form: Option<SchemaOf>,
    pub told: Vec<Told>,
    pub problems: Vec<(StatusCode, Code)>,
    pub foreign_errors: Option<SchemaOf>,
    /// Whether parameters that it does not name are ignored, not refused.
    pub open_query: bool,
}

const JSON: &str = "application/json";

impl Operation {
    /// An operation by a name of its own (`noun_verb`) and one sentence.
    pub fn new(id: &'static str, summary: &'static str) -> Self {
        Self {
            id,
            summary,
            parameters: Vec::new(),
            body: None,
            body_required: true,
            takes_yaml: false,
            form: None,
            told: Vec::new(),
            problems: Vec::new(),
            foreign_errors: None,
            open_query: false,
        }
    }

    /// A parameter of the query.
    pub fn query<T: JsonSchema>(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<T>(name, Place::Query, about)
    }

    /// Parameters of the query whose names begin with this, such as `label.`.
    pub fn query_prefix(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<String>(name, Place::QueryPrefix, about)
    }

    /// A header that means something here.
    pub fn header(self, name: &'static str, about: &'static str) -> Self {
        self.parameter::<String>(name, Place::Header, about)
    }

    fn parameter<T: JsonSchema>(mut self, name: &'static str, place: Place, about: &'static str) -> Self {
        let schema = SchemaGenerator::subschema_for::<T>;
        self.parameters.push(Parameter { name, place, schema, about });
        self
    }

    /// `limit` and `cursor` of a list; `limit` says what it is by default and at most.
    pub fn page(self, limit: &'static str) -> Self {
        self.query::<u32>("limit", limit).query::<String>("cursor", "The `next_cursor` of the page before.")
    }

    /// A JSON body that must be there.
    pub fn body<T: JsonSchema>(self) -> Self {
        let schema = Some(SchemaGenerator::subschema_for::<T> as SchemaOf);
        Self { body: Some(Body { media: JSON, schema }), ..self }
    }

    /// A JSON body that may be left out.
    pub fn optional_body<T: JsonSchema>(self) -> Self {
        Self { body_required: false, ..self.body::<T>() }
    }

    /// A body of any type, taken as it is; no body at all is an empty one.
    pub fn bytes_body(self) -> Self {
        Self { body: Some(Body { media: "*/*", schema: None }), body_required: false, ..self }
    }

    /// The body may be YAML as well.
    pub fn or_yaml(self) -> Self {
        Self { takes_yaml: true, ..self }
    }

    /// The body may be a form (`multipart/form-data`) with these parts as well.
    pub fn or_form<T: JsonSchema>(self) -> Self {
        Self { form: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// An answer of JSON.
    pub fn answer<T: JsonSchema>(self, status: u16, about: &'static str) -> Self {
        let schema = Some(SchemaGenerator::subschema_for::<T> as SchemaOf);
        self.told(status, about, Some(Body { media: JSON, schema }))
    }

    /// An answer that is no JSON; more than one may have the same status.
    pub fn other(self, status: u16, media: &'static str, about: &'static str) -> Self {
        self.told(status, about, Some(Body { media, schema: None }))
    }

    /// 200 and Server-Sent Events; places among the streams are limited.
    pub fn stream(self, about: &'static str) -> Self {
        self.other(200, "text/event-stream", about).problem_with(StatusCode::SERVICE_UNAVAILABLE, Code::Limit)
    }

    /// An answer without a body.
    pub fn empty(self, status: u16, about: &'static str) -> Self {
        self.told(status, about, None)
    }

    /// A header of the last answer that was named.
    pub fn with_header(mut self, name: &'static str) -> Self {
        if let Some(told) = self.told.last_mut() {
            told.headers.push(name);
        }
        self
    }

    fn told(mut self, status: u16, about: &'static str, body: Option<Body>) -> Self {
        self.told.push(Told { status, about, body, headers: Vec::new() });
        self
    }

    /// A problem that this route answers, beside those that every route like it has.
    pub fn problem(self, code: Code) -> Self {
        self.problem_with(code.status(), code)
    }

    /// The same with another status than the code's own.
    pub fn problem_with(mut self, status: StatusCode, code: Code) -> Self {
        self.problems.push((status, code));
        self
    }

    /// Ignores parameters of the query that it does not name.
    pub fn open_query(self) -> Self {
        Self { open_query: true, ..self }
    }

    /// All errors in a shape that clients of another protocol expect, instead of problems.
    pub fn foreign_errors<T: JsonSchema>(self) -> Self {
        Self { foreign_errors: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }
}

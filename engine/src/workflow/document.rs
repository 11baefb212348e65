//! A workflow as it was checked: every name resolved, every reusable part put in its place.
//! Reading and checking make it; the interpreter only reads it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::expression::{Expression, Template};
use crate::definition::{Reference, Retry};
use crate::policy::Policy;
use crate::schedule::CatchUp;
use crate::status::{DefinitionKind, EffectClass, Overlap};

/// A workflow, checked whole.
#[derive(Debug)]
pub struct Workflow {
    /// Our version of it: 1, 2, … for each name.
    pub version: i32,
    /// `document`.
    pub about: About,
    /// `input`.
    pub input: Filter,
    /// `output`.
    pub output: Filter,
    /// `timeout.after`.
    pub timeout: Option<DurationValue>,
    /// `schedule`.
    pub schedule: Option<Schedule>,
    /// Holdpoint's own settings: `document.metadata.holdpoint`.
    pub settings: Settings,
    /// `do`.
    pub tasks: TaskList,
    /// All tasks by their pointers, nested ones too.
    pub by_pointer: BTreeMap<String, Arc<Task>>,
    /// The definitions that it names (children), for pinning.
    pub refers: Vec<(DefinitionKind, Reference)>,
    /// The secrets that it names.
    pub secrets: Vec<String>,
    /// The document as it was read: what `$workflow.definition` shows, and below a task's
    /// pointer `$task.definition`.
    pub definition: Value,
}

/// `document`.
#[derive(Debug, Clone, PartialEq)]
pub struct About {
    /// The DSL's version: `1.0.x`.
    pub dsl: String,
    /// Kept and shown.
    pub namespace: String,
    /// The workflow's name.
    pub name: String,
    /// The author's version, as semantic version text.
    pub version: String,
    /// For people.
    pub title: Option<String>,
    /// For people.
    pub summary: Option<String>,
    /// For people.
    pub tags: BTreeMap<String, String>,
}

/// `document.metadata.holdpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// One active run; a further start is coalesced with the one that waits.
    pub one_at_a_time: bool,
    /// How often a run that failed for the network, a rate limit or a timeout is repeated.
    pub retries: u32,
    /// What `schedule` does about a tick while the run before is active.
    pub overlap: Overlap,
    /// Which ticks of `schedule` are made up for when they come late.
    pub catch_up: CatchUp,
}

/// The runs after the first that a workflow has, where it names nothing.
pub const RUN_RETRIES: u32 = 5;

impl Default for Settings {
    fn default() -> Self {
        Self {
            one_at_a_time: false,
            retries: RUN_RETRIES,
            overlap: Overlap::Skip,
            catch_up: CatchUp::default(),
        }
    }
}

/// The most branches of a `fork`.
pub const MOST_BRANCHES: usize = 64;

/// Tasks in order.
pub type TaskList = Arc<[Arc<Task>]>;

/// One task.
#[derive(Debug)]
pub struct Task {
    /// Unique in its list.
    pub name: String,
    /// Where it stands in the document: `/do/0/name`, as the specification writes it in an
    /// error's `instance`.
    pub pointer: String,
    /// `if`.
    pub condition: Option<Expression>,
    /// `input`.
    pub input: Filter,
    /// `output`.
    pub output: Filter,
    /// `export`.
    pub export: Filter,
    /// `timeout.after`.
    pub timeout: Option<DurationValue>,
    /// `then`.
    pub then: Then,
    /// What it does.
    pub work: Work,
}

/// `input`, `output` or `export`: a schema and a transformation, each perhaps not there.
#[derive(Debug, Default)]
pub struct Filter {
    /// `schema.document`, made ready.
    pub schema: Option<Schema>,
    /// `from` or `as`.
    pub transform: Option<Template>,
}

/// A JSON schema, made ready.
#[derive(Debug)]
pub struct Schema {
    /// As it was written.
    pub document: Value,
    /// Made ready.
    pub validator: jsonschema::Validator,
}

/// Where the flow goes after a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The next task of the list, or out of it.
    Continue,
    /// Out of the list.
    Exit,
    /// The end of the workflow.
    End,
    /// This task of the list.
    To(usize),
}

/// A duration that is known, or computed when it is needed.
#[derive(Debug, Clone, PartialEq)]
pub enum DurationValue {
    /// Known.
    Fixed(Duration),
    /// An expression whose value is an ISO 8601 text or an object of `days`, `hours`, ….
    Computed(Expression),
    /// An object with expressions in it.
    Parts(Template),
}

/// What a task does.
#[derive(Debug)]
pub enum Work {
    /// `set`.
    Set(Template),
    /// `do`.
    Do(TaskList),
    /// `switch`: the first case whose condition holds.
    Switch(Vec<Case>),
    /// `for`.
    For(For),
    /// `fork`.
    Fork {
        /// The first branch to complete wins, the others are cancelled.
        compete: bool,
        /// The branches.
        branches: TaskList,
    },
    /// `try`.
    Try {
        /// What is attempted.
        body: TaskList,
        /// What is done about errors.
        catch: Catch,
    },
    /// `raise`.
    Raise(ErrorTemplate),
    /// `wait`.
    Wait(DurationValue),
    /// `listen`.
    Listen(Listen),
    /// `emit`: the event's attributes and `data`.
    Emit(Template),
    /// `call: http`.
    Http(HttpCall),
    /// `call: openapi`.
    OpenApi(OpenApiCall),
    /// `call: mcp`.
    Mcp(McpCall),
    /// `run: workflow`, or the default catalog's `agent`.
    Child(Child),
    /// The default catalog's `approval`.
    Approval(Approval),
    /// The default catalog's `task`.
    Queue(QueueTask),
    /// A function of `use.functions`: the call's `with` is its input, as a task of its own.
    Function {
        /// `with`; none leaves the task's input as it is.
        with: Option<Template>,
        /// The function's task.
        task: Arc<Task>,
    },
}

impl Work {
    /// The names of the secrets that a call of it is sent with.
    pub fn secrets(&self) -> Vec<String> {
        let used = match self {
            Work::Http(call) => [call.authentication.as_ref(), None],
            Work::OpenApi(call) => [call.document_authentication.as_ref(), call.authentication.as_ref()],
            Work::Mcp(call) => [call.authentication.as_ref(), None],
            _ => [None, None],
        };
        used.into_iter().flatten().flat_map(Authentication::secrets).collect()
    }
}

/// A case of a `switch`.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name.
    pub name: String,
    /// `when`; none always holds.
    pub when: Option<Expression>,
    /// `then`.
    pub then: Then,
}

/// `for`.
#[derive(Debug)]
pub struct For {
    /// The variable of the item, without `$`; `item` where none is named.
    pub each: String,
    /// The variable of the index; `index` where none is named.
    pub at: String,
    /// The collection.
    pub over: Expression,
    /// Goes on while it holds.
    pub while_holds: Option<Expression>,
    /// What is done for each item.
    pub body: TaskList,
}

/// `catch`.
#[derive(Debug)]
pub struct Catch {
    /// `errors.with`: each given member must be equal; a member may be an expression.
    pub with: BTreeMap<String, Template>,
    /// The variable of the error, without `$`; `error` where none is named.
    pub variable: String,
    /// Caught only where it holds.
    pub when: Option<Expression>,
    /// Not caught where it holds.
    pub except_when: Option<Expression>,
    /// How often what was attempted is attempted again.
    pub retry: Option<RetryPolicy>,
    /// What is done in the end.
    pub body: Option<TaskList>,
    /// Where the flow goes once the error was handled; the task's own `then` if none is named.
    pub then: Option<Then>,
}

/// `retry`.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Retried only where it holds.
    pub when: Option<Expression>,
    /// Not retried where it holds.
    pub except_when: Option<Expression>,
    /// The first delay.
    pub delay: DurationValue,
    /// How the delay grows.
    pub backoff: Backoff,
    /// `limit.attempt.count`: attempts in all; none is without bound.
    pub attempts: Option<u32>,
    /// `limit.attempt.duration`: of one attempt.
    pub attempt_duration: Option<DurationValue>,
    /// `limit.duration`: of all attempts together.
    pub duration: Option<DurationValue>,
    /// `jitter`: added to each delay, at random between the two.
    pub jitter: Option<(DurationValue, DurationValue)>,
}

/// How a delay grows with the attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// Always the same.
    Constant,
    /// `delay · n`.
    Linear,
    /// `delay · 2^(n−1)`.
    Exponential,
}

/// An error to raise.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorTemplate {
    /// A URI.
    pub kind: Template,
    /// As of HTTP.
    pub status: Template,
    /// For people.
    pub title: Option<Template>,
    /// For people.
    pub detail: Option<Template>,
    /// Where it was raised; the task's pointer where none is named.
    pub instance: Option<Template>,
}

/// `listen`.
#[derive(Debug)]
pub struct Listen {
    /// Which events.
    pub to: Consume,
    /// What of each event is read.
    pub read: Read,
    /// What is done for each event.
    pub each: Option<ForEachEvent>,
}

/// Which events are consumed.
#[derive(Debug)]
pub enum Consume {
    /// One event of one kind.
    One(EventFilter),
    /// One of each kind.
    All(Vec<EventFilter>),
    /// Any of these kinds (any event at all where there are none).
    Any {
        /// The kinds.
        filters: Vec<EventFilter>,
        /// Goes on until then; without, the first event ends it.
        until: Option<Until>,
    },
}

/// The end of a `listen` to any.
#[derive(Debug)]
pub enum Until {
    /// An expression over the events consumed so far.
    Holds(Expression),
    /// Other events were consumed.
    Consumed(Box<Consume>),
}

/// Which events are meant.
#[derive(Debug, Clone, PartialEq)]
pub struct EventFilter {
    /// `with`: attributes that must be equal; expressions must hold over the attribute.
    pub with: BTreeMap<String, Template>,
    /// `correlate`, by name.
    pub correlate: BTreeMap<String, Correlation>,
}

/// `correlate`: a value of the event that must be the expected one.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlation {
    /// Of the event.
    pub from: Expression,
    /// A constant or an expression; where none is given, that of the first event.
    pub expect: Option<Template>,
}

/// What of an event is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// `data`.
    Data,
    /// The event with its attributes.
    Envelope,
    /// As it came.
    Raw,
}

/// `foreach` of a `listen`.
#[derive(Debug)]
pub struct ForEachEvent {
    /// The variable of the event; `item` where none is named.
    pub item: String,
    /// The variable of the index; `index` where none is named.
    pub at: String,
    /// What is done for each; empty for nothing.
    pub body: TaskList,
    /// `output`.
    pub output: Filter,
    /// `export`.
    pub export: Filter,
}

/// How an effect of a task is performed: the defaults, or `metadata.holdpoint` of the task.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Performance {
    /// What an unknown outcome means; none where it follows from what is called.
    pub class: Option<EffectClass>,
    /// How often it is tried.
    pub retry: Retry,
    /// Asked first where the outcome of an `at_most_once` call is unknown.
    pub reconcile: Option<Box<HttpCall>>,
}

/// `call: http`.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpCall {
    /// `GET`, ….
    pub method: Template,
    /// The URI, which may have `{name}` in it.
    pub uri: Template,
    /// How to authenticate.
    pub authentication: Option<Authentication>,
    /// `headers`: an object, or an expression for one.
    pub headers: Option<Template>,
    /// `query`: an object, or an expression for one.
    pub query: Option<Template>,
    /// `body`.
    pub body: Option<Template>,
    /// What of the answer is the output.
    pub output: HttpOutput,
    /// Whether a 3xx is followed, else it is an answer like a 2xx; followed or not, 4xx and
    /// 5xx are errors.
    pub redirect: bool,
    /// How it is performed.
    pub performance: Performance,
}

/// What of an answer is a call's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpOutput {
    /// The body in base64.
    Raw,
    /// The body, read where it is JSON.
    Content,
    /// `{request: {method, uri, headers}, statusCode, headers, content}`.
    Response,
}

/// `call: openapi`.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenApiCall {
    /// Where the document is.
    pub document: Template,
    /// How to authenticate for the document.
    pub document_authentication: Option<Authentication>,
    /// Which operation.
    pub operation: String,
    /// `parameters`: an object, or an expression for one.
    pub parameters: Option<Template>,
    /// How to authenticate for the operation.
    pub authentication: Option<Authentication>,
    /// What of the answer is the output.
    pub output: HttpOutput,
    /// As of HTTP.
    pub redirect: bool,
    /// How it is performed.
    pub performance: Performance,
}

/// `call: mcp`, by HTTP.
#[derive(Debug, Clone, PartialEq)]
pub struct McpCall {
    /// `method`, such as `tools/call`.
    pub method: String,
    /// `parameters`.
    pub parameters: Option<Template>,
    /// `transport.http.endpoint`.
    pub endpoint: Template,
    /// `transport.http.headers`.
    pub headers: Option<Template>,
    /// How to authenticate.
    pub authentication: Option<Authentication>,
    /// `timeout`.
    pub timeout: Option<DurationValue>,
    /// How it is performed.
    pub performance: Performance,
}

/// How a call authenticates. Secrets are named here and looked up where it is performed.
#[derive(Debug, Clone, PartialEq)]
pub enum Authentication {
    /// A user and a password.
    Basic {
        /// Who.
        username: Credential,
        /// The password.
        password: Credential,
    },
    /// A secret whose value is `{"username": …, "password": …}`.
    BasicSecret(String),
    /// A bearer token.
    Bearer(Credential),
    /// A secret whose value is the token.
    BearerSecret(String),
    /// A token that is fetched by the client credentials grant.
    OAuth2 {
        /// Where tokens are fetched.
        token_endpoint: Template,
        /// The client.
        client_id: Credential,
        /// Its secret.
        client_secret: Credential,
        /// `scopes`.
        scopes: Vec<String>,
        /// `audiences`.
        audiences: Vec<String>,
        /// The client authenticates in the body, else by HTTP basic.
        in_body: bool,
    },
    /// A secret whose value is the JSON of an `oauth2` policy.
    OAuth2Secret(String),
}

impl Authentication {
    fn secrets(&self) -> Vec<String> {
        let parts = match self {
            Authentication::BasicSecret(name)
            | Authentication::BearerSecret(name)
            | Authentication::OAuth2Secret(name) => return vec![name.clone()],
            Authentication::Basic { username, password } => vec![username, password],
            Authentication::Bearer(token) => vec![token],
            Authentication::OAuth2 { client_id, client_secret, .. } => vec![client_id, client_secret],
        };
        let name = |part: &Credential| match part {
            Credential::Secret(name) => Some(name.clone()),
            Credential::Computed(_) | Credential::Plain(_) => None,
        };
        parts.into_iter().filter_map(name).collect()
    }
}

/// A part of an authentication.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The value of the secret of this name.
    Secret(String),
    /// Computed from the task's input: as secret as that is.
    Computed(Expression),
    /// Written down, where that gives nothing away (a user's name, a client's id).
    Plain(String),
}

/// A child execution.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// `agent` or `workflow`.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// An agent's version.
    pub version: Option<i32>,
    /// A workflow's version as its author wrote it; none is the latest.
    pub label: Option<String>,
    /// Its input.
    pub input: Option<Template>,
    /// Whether its end is awaited.
    pub wait: bool,
}

/// The default catalog's `approval`.
#[derive(Debug, Clone, PartialEq)]
pub struct Approval {
    /// One line for the person.
    pub title: Template,
    /// What it is about: shown as it is, and the value that an approval gives on.
    pub subject: Option<Template>,
    /// Who is asked: names of keys or end users, shown and filtered by.
    pub assignees: Option<Template>,
    /// What may be chosen, besides approving and denying.
    pub options: Option<Template>,
    /// The schema that edited values must satisfy; none allows any.
    pub edit_schema: Option<Value>,
    /// How long it is open; the default is that of every approval.
    pub expires_after: Option<DurationValue>,
    /// Who may decide, and what becomes of it where nobody does.
    pub policy: Policy,
}

/// The default catalog's `task`.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueTask {
    /// The queue's name, a constant of the definition.
    pub queue: String,
    /// What the worker is given.
    pub input: Option<Template>,
    /// A worker that is silent for so long has lost the task.
    pub heartbeat: Option<Duration>,
    /// How it is performed; the class says whether a lost task is given out again.
    pub performance: Performance,
}

/// `schedule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// `cron`, with `document.metadata.holdpoint.time_zone` (IANA; UTC where none is named).
    Cron {
        /// Five or six fields.
        expression: String,
        /// An IANA name.
        time_zone: String,
    },
    /// `every`.
    Every(Duration),
    /// `after`: so long after a run ended.
    After(Duration),
}

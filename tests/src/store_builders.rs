//! Stores to test, and the things to put into them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;
use holdpoint_db::{
    ClaimRequest, Claimed, Conversation, Created, DefinitionRow, Ending, HistoryLimits, Idempotency,
    NewExecution, Settings, Store, Target, Transition,
};
use holdpoint_engine::digest::arguments_digest;
use holdpoint_engine::entry::{
    ApprovalRequested, Entry, ExecutionCompleted, ExecutionFailed, ExecutionStarted, ExecutionSuspended,
    Line, MessageCompleted, ModelCalled, ToolCall, Usage,
};
use holdpoint_engine::ids::{ApprovalId, ExecutionId, SessionId};
use holdpoint_engine::policy::{Decider, Policy};
use holdpoint_engine::run::Run;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Failure, Reason, RunType, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use uuid::Uuid;

use crate::services::Schema;

/// A store of one test.
pub struct Bed {
    /// The store.
    pub store: Arc<dyn Store>,
    /// How it was opened.
    pub settings: Settings,
    /// What it counts.
    pub registry: prometheus::Registry,
    /// The schema on Postgres.
    pub schema: Option<Schema>,
    _folder: Option<tempfile::TempDir>,
}

impl Bed {
    /// On Postgres, in a schema of its own.
    pub fn postgres() -> Self {
        let schema = Schema::create();
        let settings = patient(schema.url());
        let registry = prometheus::Registry::new();
        let store = holdpoint_db::open(&settings, &registry).expect("the store opens");
        store.migrate().expect("migrations run");
        Self { store, settings, registry, schema: Some(schema), _folder: None }
    }

    /// On SQLite, in a folder of its own.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = patient(format!("sqlite:{}", folder.path().display()));
        let registry = prometheus::Registry::new();
        let store = holdpoint_db::open(&settings, &registry).expect("the store opens");
        Self { store, settings, registry, schema: None, _folder: Some(folder) }
    }

    /// Closes the store and opens it again (SQLite: as a new process would).
    pub fn reopen(&mut self) {
        // Whatever stands in for the store must not hold its folder.
        let elsewhere = tempfile::tempdir().expect("a folder");
        let url = format!("sqlite:{}", elsewhere.path().display());
        self.store = open_store(&Settings { url, ..self.settings.clone() });
        self.store = open_store(&self.settings);
    }

    /// The schema of a test that is only for Postgres.
    pub fn schema(&self) -> &Schema {
        self.schema.as_ref().expect("a test on Postgres")
    }

    /// Changes rows behind the store's back; how many.
    pub fn execute(&self, sql: &str) -> usize {
        if let Some(schema) = &self.schema {
            return schema.execute(sql);
        }
        let folder = self.settings.url.strip_prefix("sqlite:").expect("a folder");
        let file = format!("{folder}/holdpoint.db");
        let mut conn = SqliteConnection::establish(&file).expect("the file opens");
        diesel::sql_query("PRAGMA busy_timeout = 10000").execute(&mut conn).expect("a setting");
        diesel::sql_query(sql).execute(&mut conn).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A store on the same database whose clock is shifted (Postgres only).
    pub fn shifted(&self, by: Duration) -> Arc<dyn Store> {
        let offset = by.as_micros().to_string();
        let url = self.schema().url_with(&[("holdpoint.clock_offset", &offset)]);
        open_store(&Settings { url, ..self.settings.clone() })
    }
}

/// Nobody gives up waiting for a connection because the machine is busy.
fn patient(url: String) -> Settings {
    Settings { url, connect_timeout_ms: 60_000, ..Settings::default() }
}

/// Opens a store with metrics of its own.
pub fn open_store(settings: &Settings) -> Arc<dyn Store> {
    holdpoint_db::open(settings, &prometheus::Registry::new()).expect("the store opens")
}

/// More history than a test has.
pub fn history() -> HistoryLimits {
    HistoryLimits { messages: 100, bytes: 100_000 }
}

/// The scope that tests use where it does not matter.
pub fn scope() -> Scope {
    Scope::new("acme", "shop")
}

/// A key in that scope.
pub fn key() -> ExecutionKey {
    ExecutionKey { scope: scope(), id: ExecutionId(Uuid::now_v7()) }
}

/// A start of the built-in workflow.
pub fn start() -> NewExecution {
    NewExecution {
        key: key(),
        kind: DefinitionKind::Workflow,
        name: "holdpoint.noop".to_owned(),
        version: None,
        input: Some("{}".to_owned()),
        messages: None,
        conversation: Conversation::None,
        idempotency: None,
        run_type: RunType::Production,
        delay: None,
        metadata: "{}".to_owned(),
        labels: BTreeMap::new(),
        end_user: None,
        created_by: "key_test".to_owned(),
        extras: Default::default(),
    }
}

/// A start under an idempotency key.
pub fn keyed(key: &str, digest: &str) -> NewExecution {
    let idempotency = Idempotency { key: Some(key.to_owned()), body_digest: digest.to_owned() };
    NewExecution { idempotency: Some(idempotency), ..start() }
}

/// Commits one start that must be new.
pub fn create(store: &dyn Store, new: NewExecution) -> ExecutionKey {
    let key = new.key.clone();
    let created = store.execution_create(&[new]).expect("a start is committed");
    assert!(matches!(&created[..], [Created::New { .. }]), "{created:?}");
    key
}

/// A session with a lease of an hour: it lasts to the end of its test.
pub fn session(store: &dyn Store) -> SessionId {
    let id = SessionId(Uuid::now_v7());
    store.session_begin(id, "test", Duration::from_secs(3_600)).expect("a session begins");
    id
}

/// Lets a session's lease run out now.
pub fn expire(store: &dyn Store, id: SessionId) {
    assert!(store.session_beat(id, Duration::ZERO, &[]).expect("a beat").alive);
}

/// Claims these, and nothing else.
pub fn claim(store: &dyn Store, session: SessionId, keys: &[&ExecutionKey]) -> Vec<Claimed> {
    let hinted = keys.iter().map(|key| (*key).clone()).collect();
    let request = ClaimRequest {
        session,
        hinted,
        limit: 100,
        any: false,
        history: history(),
        tenant_concurrency: None,
    };
    store.execution_claim(&request).expect("a claim")
}

/// Claims whatever is ready.
pub fn claim_any(store: &dyn Store, session: SessionId, limit: usize) -> Vec<Claimed> {
    let request = ClaimRequest {
        session,
        hinted: Vec::new(),
        limit,
        any: true,
        history: history(),
        tenant_concurrency: None,
    };
    store.execution_claim(&request).expect("a claim")
}

/// An execution as its worker sees it: what it has journaled, and its next transition.
pub struct Held {
    /// What was claimed.
    pub claimed: Claimed,
    /// The session that claimed it.
    pub session: SessionId,
    /// The fold so far.
    pub run: Run,
}

impl Held {
    /// Creates and claims one.
    pub fn begin(store: &dyn Store) -> Self {
        Self::begin_with(store, start())
    }

    /// Creates and claims this one.
    pub fn begin_with(store: &dyn Store, new: NewExecution) -> Self {
        let key = create(store, new);
        let session = session(store);
        Self::claim(store, session, &key)
    }

    /// Claims it.
    pub fn claim(store: &dyn Store, session: SessionId, key: &ExecutionKey) -> Self {
        let claimed = claim(store, session, &[key]).pop().expect("it is claimed");
        Self::of(claimed, session)
    }

    /// What was claimed.
    pub fn of(claimed: Claimed, session: SessionId) -> Self {
        let run = Run::fold(&claimed.lines, claimed.seq, claimed.event).expect("a journal");
        Self { claimed, session, run }
    }

    /// Its key.
    pub fn key(&self) -> &ExecutionKey {
        &self.claimed.key
    }

    /// The next transition with these lines.
    pub fn next(&mut self, entries: Vec<Entry>, target: Target) -> Transition {
        let expected_seq = self.run.seq;
        let lines = self.lines(&entries);
        let approvals = entries.iter().filter_map(opened).collect();
        Transition {
            key: self.claimed.key.clone(),
            session: self.session,
            epoch: self.claimed.epoch,
            expected_seq,
            seen_wake: self.claimed.wake,
            lines,
            last_event: self.run.event,
            gates: Vec::new(),
            approvals,
            grants: Vec::new(),
            unheard: None,
            acts_taken: Vec::new(),
            usage: Usage { input_tokens: 1, output_tokens: 2, cost_micros: 3 },
            definition: ("clerk".to_owned(), 1),
            target,
        }
    }

    fn lines(&mut self, entries: &[Entry]) -> Vec<Line> {
        for entry in entries {
            self.run.apply(entry);
        }
        self.run.number(entries, Timestamp::from_micros(1_000))
    }

    /// A step that keeps the lease.
    pub fn step(&mut self) -> Transition {
        let entry = if self.run.started { called(self.run.next_step()) } else { started() };
        self.next(vec![entry], Target::Running)
    }

    /// The end.
    pub fn complete(&mut self) -> Transition {
        let output = holdpoint_engine::json("done");
        let entries = vec![Entry::ExecutionCompleted(ExecutionCompleted { output })];
        self.next(entries, completed())
    }

    /// The end with an error.
    pub fn fail(&mut self, reason: Reason) -> Transition {
        self.next(vec![failure(reason)], failed(reason))
    }

    /// Asks for an approval of each call, and suspends.
    pub fn ask(&mut self, calls: &[Asked<'_>]) -> Transition {
        let mut entries = vec![started(), called(1), answered(calls)];
        for (at, call) in calls.iter().enumerate() {
            entries.push(requested(call, at as i32 + 2));
        }
        entries.push(Entry::ExecutionSuspended(ExecutionSuspended {
            reason: Reason::Approval,
            until: None,
            tool_call_ids: calls.iter().map(|call| call.id.to_owned()).collect(),
            steps: Vec::new(),
        }));
        self.next(entries, Target::Suspended { reason: Reason::Approval, ready_at: None })
    }
}

/// A call to ask about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its id.
    pub id: &'a str,
    /// When it was asked.
    pub requested_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// Whether the definition names the expiry.
    pub expiry_named: bool,
    /// What it is asked under.
    pub policy: Option<&'a Policy>,
}

impl<'a> Asked<'a> {
    /// One that stays open for the test.
    pub fn open(id: &'a str) -> Self {
        let expires_at = Timestamp::from_micros(4_102_444_800_000_000);
        Self {
            id,
            requested_at: Timestamp::from_micros(1_000),
            expires_at,
            expiry_named: false,
            policy: None,
        }
    }

    /// One that expired so many microseconds after the beginning of time.
    pub fn expired(id: &'a str, at: i64) -> Self {
        Self { expires_at: Timestamp::from_micros(at), ..Self::open(id) }
    }
}

/// The arguments of every asked call.
pub const ARGUMENTS: &str = r#"{"amount": 40}"#;

/// The digest of every asked call.
pub fn digest() -> String {
    arguments_digest("refund", 1, ARGUMENTS)
}

/// `execution.started`.
pub fn started() -> Entry {
    let name = "holdpoint.noop".to_owned();
    Entry::ExecutionStarted(ExecutionStarted {
        kind: DefinitionKind::Workflow,
        name,
        version: 1,
        active: None,
    })
}

/// `model.called`.
pub fn called(step: i32) -> Entry {
    Entry::ModelCalled(ModelCalled { step, attempt: 1 })
}

fn answered(calls: &[Asked<'_>]) -> Entry {
    let tool_calls = calls.iter().enumerate().map(|(at, call)| ToolCall {
        step: at as i32 + 2,
        id: call.id.to_owned(),
        name: "refund".to_owned(),
        arguments: ARGUMENTS.to_owned(),
    });
    Entry::MessageCompleted(MessageCompleted {
        step: 1,
        role: "assistant".to_owned(),
        text: String::new(),
        tool_calls: tool_calls.collect(),
        finish_reason: Some("tool_calls".to_owned()),
        usage: Usage::default(),
    })
}

/// `approval.requested`.
pub fn requested(call: &Asked<'_>, step: i32) -> Entry {
    let entry = ApprovalRequested {
        list_digest: None,
        approval_id: ApprovalId(Uuid::now_v7()),
        step,
        tool_call_id: call.id.to_owned(),
        tool: "refund".to_owned(),
        arguments: serde_json::value::RawValue::from_string(ARGUMENTS.to_owned()).expect("JSON"),
        arguments_text: ARGUMENTS.to_owned(),
        digest: digest(),
        requested_at: call.requested_at,
        expires_at: call.expires_at,
        expiry_named: call.expiry_named,
        approvers: None,
        quorum: None,
        policy: None,
        asked_by: None,
        delegated_by: None,
    };
    Entry::ApprovalRequested(entry.under(call.policy.cloned().unwrap_or_default()))
}

/// A key of the role `approve`.
pub fn decider(key: &str) -> Decider {
    Decider { key: key.to_owned(), role: "approve".to_owned(), ..Decider::default() }
}

fn opened(entry: &Entry) -> Option<holdpoint_db::ApprovalChange> {
    match entry {
        Entry::ApprovalRequested(asked) => Some(holdpoint_db::ApprovalChange::Open(Box::new(asked.clone()))),
        _ => None,
    }
}

/// A target that ends well.
pub fn completed() -> Target {
    Target::Ended(Ending {
        status: Status::Completed,
        reason: None,
        error: None,
        output: Some("\"done\"".to_owned()),
        messages: Vec::new(),
        active_agent: None,
    })
}

/// A target that ends with an error.
pub fn failed(reason: Reason) -> Target {
    Target::Ended(Ending {
        status: Status::Failed,
        reason: Some(reason),
        error: Some(Failure::new(reason.error_type(), "the call failed")),
        output: None,
        messages: Vec::new(),
        active_agent: None,
    })
}

/// `execution.failed`.
pub fn failure(reason: Reason) -> Entry {
    let error = Failure::new(reason.error_type(), "the call failed");
    Entry::ExecutionFailed(ExecutionFailed { reason, error })
}

/// Registers a workflow, with these settings of Holdpoint's own.
pub fn workflow(store: &dyn Store, name: &str, settings: serde_json::Value) -> DefinitionRow {
    workflow_with(store, name, settings, &[])
}

/// The same; it names these secrets.
pub fn workflow_with(
    store: &dyn Store,
    name: &str,
    settings: serde_json::Value,
    secrets: &[&str],
) -> DefinitionRow {
    let document = serde_json::json!({
        "document": {
            "dsl": "1.0.1",
            "namespace": "tests",
            "name": name,
            "version": "1.0.0",
            "metadata": {"holdpoint": settings},
        },
        "use": {"secrets": secrets},
        "do": [{"nothing": {"set": {"a": 1}}}],
    });
    let kind = DefinitionKind::Workflow;
    store.definition_put(&scope(), kind, name, &document.to_string(), "key_test").expect("a definition").0
}

/// A production run of a registered workflow.
pub fn run_of(workflow: &str) -> NewExecution {
    NewExecution { name: workflow.to_owned(), ..start() }
}

/// Creates one that waits for the decisions on these calls; nobody holds it.
pub fn waiting(store: &dyn Store, new: NewExecution, calls: &[Asked<'_>]) -> ExecutionKey {
    let mut held = Held::begin_with(store, new);
    let transition = held.ask(calls);
    let done = store.execution_commit(&[transition]).expect("a commit");
    assert_eq!(done, [holdpoint_db::Committed::Done { wake: 0, released: true }]);
    held.claimed.key
}

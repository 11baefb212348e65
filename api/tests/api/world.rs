//! A served API with a key for each role.

use std::net::SocketAddr;
use std::sync::Arc;

use holdpoint_api::keys::{self, NewKey, Role};
use holdpoint_api::{Parts, Settings};
use holdpoint_db::{ApprovalRow, Db, Hooks};
use holdpoint_engine::digest::arguments_digest;
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::{ApprovalId, ExecutionId};
use holdpoint_engine::policy::{Policy, Requester};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, Message, NewEvents};
use holdpoint_queue::{Outgoing, Queue, Route};
use holdpoint_scheduler::Sweeper;
use tokio_util::sync::CancellationToken;

use crate::http::{Answer, send};
use crate::rows::Rows;

/// An agent with one tool behind an approval.
pub const AGENT: &str = r#"{"model": {"base_url": "http://127.0.0.1:1/v1", "name": "m"},
    "tools": [{"name": "refund", "http": {"url": "http://127.0.0.1:1/refund"}, "approval": "always",
               "parameters": {"type": "object", "properties": {"amount": {"type": "integer"}}, "required": ["amount"]}}]}"#;

pub struct World {
    pub rows: Arc<Rows>,
    pub queue: Arc<dyn Queue>,
    pub address: SocketAddr,
    pub stop: CancellationToken,
    pub served: tokio::task::JoinHandle<()>,
}

/// The tenant of most tests.
pub fn acme() -> Scope {
    Scope::new("acme", "shop")
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings { cron_secret: Some("s3cret".to_owned()), ..Settings::default() };
        change(&mut settings);
        let rows = Arc::new(Rows::default());
        let registry = prometheus::Registry::new();
        let db = Db::start(Arc::clone(&rows) as _, &holdpoint_db::Settings::default(), Hooks::none());
        let queue = holdpoint_queue::open(&holdpoint_queue::Settings::default(), &registry).unwrap();
        let sweeper = Sweeper::new(db.clone(), Arc::clone(&queue), Default::default(), &registry);
        let limits = holdpoint_engine::limits::Limits::default();
        let performer =
            holdpoint_perform::Performer::new(&holdpoint_perform::Settings::default(), limits.value_bytes);
        let performer = Arc::new(performer.expect("defaults"));
        let queue_prefix = "holdpoint".to_owned();
        let parts = Parts {
            db,
            queue: Arc::clone(&queue),
            queue_prefix,
            sweeper,
            performer,
            evaluator: Arc::new(holdpoint_perform::expressions::Unguarded::default()),
            settings,
            limits,
            registry,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = holdpoint_api::serve(listener, parts, stop.clone());
        let served = tokio::spawn(async move { serving.await.unwrap() });
        Self { rows, queue, address, stop, served }
    }

    pub fn new_key(&self, scope: &Scope, role: Role, end_user: Option<&str>) -> NewKey {
        let new = keys::create(scope, role, "test", end_user, None, Timestamp::from_micros(1)).unwrap();
        self.rows.state().keys.push(new.row.clone());
        new
    }

    pub fn key(&self, role: Role) -> String {
        self.new_key(&acme(), role, None).text
    }

    /// One request; `headers` are whole lines.
    pub async fn call(&self, line: &str, headers: &[&str], body: &str) -> Answer {
        let mut head = format!("{line} HTTP/1.0");
        for header in headers {
            head.push_str("\r\n");
            head.push_str(header);
        }
        send(self.address, &head, body.as_bytes()).await
    }

    /// One request with a key.
    pub async fn with_key(&self, key: &str, line: &str, body: &str) -> Answer {
        self.call(line, &[&format!("authorization: Bearer {key}")], body).await
    }

    /// An execution of an agent, put into the rows by a start.
    pub async fn started(&self, key: &str) -> ExecutionId {
        self.with_key(key, "PUT /v1/agents/helper", AGENT).await;
        let answer = self.with_key(key, "POST /v1/executions", r#"{"agent": "helper", "input": "hi"}"#).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// Commits one more event, without telling anybody.
    pub fn event(&self, id: ExecutionId, kind: &str, payload: &str, status: Status) -> i64 {
        let mut state = self.rows.state();
        let execution = state.execution(&acme(), id).unwrap();
        let number = execution.row.last_event + 1;
        let at = Timestamp::from_micros(number);
        let (kind, payload) = (kind.to_owned(), payload.to_owned());
        execution.lines.push(Line { seq: number, event: Some(number), kind, step: 0, at, payload });
        execution.row.last_event = number;
        execution.row.status = status;
        number
    }

    /// Says that there are events up to this one.
    pub fn tell(&self, id: ExecutionId, event: i64) {
        let key = ExecutionKey { scope: acme(), id };
        let message = Message::Events(vec![NewEvents { key, event }]);
        let body = message.encode();
        self.queue.nudge(Outgoing::new(Route::Streams, message.kind(), "1", body));
    }

    /// An approval of the call `call_1` of that execution.
    pub fn approval(&self, id: ExecutionId, status: ApprovalStatus) -> String {
        let arguments = "{\"amount\": 5}";
        let digest = arguments_digest("refund", 1, arguments);
        let decided = status.is_decided();
        let number = self.rows.state().approvals.len() as i64 + 1;
        self.rows.state().approvals.push(ApprovalRow {
            policy: Policy::default(),
            escalated_at: None,
            requester: Requester::default(),
            votes: Vec::new(),
            list_digest: None,
            delegated_by: None,
            id: ApprovalId::new(Timestamp::from_micros(number * 1_000), &mut Entropy::from_seed(1)),
            key: ExecutionKey { scope: acme(), id },
            execution_status: Status::Suspended,
            step: 2,
            tool_call_id: "call_1".to_owned(),
            kind: DefinitionKind::Agent,
            agent: "helper".to_owned(),
            version: 1,
            tool: "refund".to_owned(),
            arguments: arguments.to_owned(),
            digest: digest.clone(),
            requested_at: Timestamp::from_micros(1),
            expires_at: Timestamp::from_micros(2),
            status,
            reason: None,
            edited_arguments: None,
            edited_digest: None,
            decided_by: decided.then(|| "key_before".to_owned()),
            decided_at: decided.then(|| Timestamp::from_micros(2)),
            granted_by: None,
            used_at: None,
            conversation_id: None,
        });
        digest
    }
}

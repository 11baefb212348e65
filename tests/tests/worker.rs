//! A worker on the embedded store and the queue inside the process, without HTTP: the loop
//! from a start to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use holdpoint_db::{Conversation, Created, Db, DecideRequest, EventsRequest, Hooks, NewExecution};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, RunType, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, Message};
use holdpoint_perform::Performer;
use holdpoint_queue::{Outgoing, Queue, Route};
use holdpoint_scheduler::Sweeper;
use holdpoint_tests::agents::clerk;
use holdpoint_tests::model::{Model, Turn};
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::tool::Tools;
use tokio_util::sync::CancellationToken;

struct Bench {
    db: Db,
    queue: Arc<dyn Queue>,
    stop: CancellationToken,
    worker: tokio::task::JoinHandle<Result<(), String>>,
    scope: Scope,
    _folder: tempfile::TempDir,
}

impl Bench {
    fn start(url: Option<String>) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        let registry = prometheus::Registry::new();
        let settings = holdpoint_db::Settings {
            url: url.unwrap_or_else(|| format!("sqlite:{}", folder.path().display())),
            // Thousands of starts and steps wait for one writer, which may have a slow disk.
            connect_timeout_ms: 60_000,
            ..Default::default()
        };
        let store = holdpoint_db::open(&settings, &registry).unwrap();
        store.migrate().unwrap();
        let queue = holdpoint_queue::open(&Default::default(), &registry).unwrap();
        let hints = Arc::clone(&queue);
        let hooks = Hooks {
            created: Box::new(move |_, created| {
                let keys = created.iter().filter_map(|created| match created {
                    Created::New { key, .. } => Some(key.clone()),
                    _ => None,
                });
                let message = Message::Advance(keys.collect());
                let (kind, body) = (message.kind(), message.encode());
                hints.nudge(Outgoing::new(Route::Workers, kind, "", body));
            }),
            committed: Box::new(|_, _| {}),
        };
        let db = Db::start(store, &settings, hooks);
        let stop = CancellationToken::new();
        let sweeper = Sweeper::new(db.clone(), Arc::clone(&queue), Default::default(), &registry);
        let outbound = holdpoint_perform::Settings {
            allow_networks: vec!["127.0.0.0/8".to_owned()],
            ..Default::default()
        };
        let parts = holdpoint_worker::Parts {
            db: db.clone(),
            queue: Arc::clone(&queue),
            sweeper,
            settings: Default::default(),
            performer: Arc::new(Performer::new(&outbound, Limits::default().value_bytes).unwrap()),
            evaluator: Arc::new(holdpoint_perform::expressions::Unguarded::default()),
            limits: Limits::default(),
        };
        let token = stop.clone();
        let worker = tokio::spawn(async move { holdpoint_worker::run(parts, &registry, token).await });
        Self { db, queue, stop, worker, scope: Scope::new("default", "default"), _folder: folder }
    }

    async fn start_one(&self, kind: DefinitionKind, name: &str) -> ExecutionId {
        let mut entropy = Entropy::from_seed(uuid::Uuid::now_v7().as_u64_pair().1);
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        let key = ExecutionKey { scope: self.scope.clone(), id: ExecutionId::new(now, &mut entropy) };
        let new = NewExecution {
            key: key.clone(),
            kind,
            name: name.to_owned(),
            version: None,
            input: Some("\"hello\"".to_owned()),
            messages: None,
            conversation: Conversation::None,
            idempotency: None,
            run_type: RunType::Production,
            delay: None,
            metadata: "{}".to_owned(),
            labels: BTreeMap::new(),
            end_user: None,
            created_by: "key_1".to_owned(),
            extras: Default::default(),
        };
        assert!(matches!(self.db.create(new).await.unwrap(), Created::New { .. }));
        key.id
    }

    async fn wait(&self, id: ExecutionId, status: Status) -> Vec<String> {
        until("the status", SOON * 4, async || {
            let key = ExecutionKey { scope: self.scope.clone(), id };
            let request = EventsRequest { key, after: 0, limit: 1000 };
            let mut pages = self.db.read(move |store| store.events_read(&[request])).await.unwrap().unwrap();
            let page = pages.remove(0);
            (page.head.unwrap().status == status)
                .then(|| page.lines.into_iter().map(|line| line.kind).collect())
        })
        .await
    }

    async fn end(self) {
        self.stop.cancel();
        self.worker.await.unwrap().unwrap();
        self.queue.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_takes_an_agent_through_an_approval() {
    let bench = Bench::start(std::env::var("WORKER_URL").ok());
    let (model, tools) = (Model::start().await, Tools::start().await);
    let agent = clerk(&model, &tools).document().to_string();
    model.script([Turn::call(&[("a", "pay", serde_json::json!({"n": 5}))]), Turn::say("done")]);
    let scope = bench.scope.clone();
    bench
        .db
        .read(move |store| store.definition_put(&scope, DefinitionKind::Agent, "clerk", &agent, "key_1"))
        .await
        .unwrap()
        .unwrap();
    let id = bench.start_one(DefinitionKind::Agent, "clerk").await;
    bench.wait(id, Status::Suspended).await;
    let request = DecideRequest {
        execution: id,
        tool_call_id: "a".to_owned(),
        approved: true,
        reason: None,
        arguments: None,
        digest: None,
        by: holdpoint_tests::store_builders::decider("key_1"),
        grant: None,
        end_user: None,
    };
    let scope = bench.scope.clone();
    bench.db.hot(move |store| store.approval_decide(&scope, &request)).await.unwrap().unwrap();
    let kinds = bench.wait(id, Status::Completed).await;
    assert_eq!(kinds.last().map(String::as_str), Some("execution.completed"));
    bench.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_noops() {
    let bench = Bench::start(std::env::var("WORKER_URL").ok());
    let began = Instant::now();
    let count = 2000;
    let ids = futures_util::future::join_all(
        (0..count).map(|_| bench.start_one(DefinitionKind::Workflow, "holdpoint.noop")),
    )
    .await;
    println!("created {:?}", began.elapsed());
    for id in ids {
        bench.wait(id, Status::Completed).await;
    }
    println!("{} in {:?}", count, began.elapsed());
    bench.end().await;
}

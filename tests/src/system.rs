//! A whole Holdpoint of one test's own: a process for each role on Postgres and RabbitMQ, or
//! `holdpoint dev` with everything in one process, with a scripted model and scripted tools.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::model::Model;
use crate::poll::{SOON, until, until_true};
use crate::ports::{answers, free_port};
use crate::processes::{Process, Spawn};
use crate::services::{Schema, amqp_url, database_url, unique};
use crate::tool::Tools;

/// How long one answer of the broker may take before it is asked anew.
const BROKER_LIMIT: Duration = Duration::from_secs(10);

/// What it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Postgres, RabbitMQ, a process for each role.
    Services,
    /// `holdpoint dev`.
    Embedded,
}

/// What to start.
#[derive(Debug, Clone)]
pub struct Setup {
    kind: Kind,
    apis: usize,
    workers: usize,
    schedulers: usize,
    settings: BTreeMap<String, String>,
    database: Option<String>,
    broker: Option<String>,
}

impl Setup {
    /// One process for each role on the shared services.
    pub fn services() -> Self {
        let settings = BTreeMap::new();
        Self {
            kind: Kind::Services,
            apis: 1,
            workers: 1,
            schedulers: 1,
            settings,
            database: None,
            broker: None,
        }
    }

    /// All roles in one process, nothing beside it.
    pub fn embedded() -> Self {
        Self { kind: Kind::Embedded, ..Self::services() }
    }

    /// How many of each role; without meaning for `dev`.
    pub fn roles(self, apis: usize, workers: usize, schedulers: usize) -> Self {
        Self { apis, workers, schedulers, ..self }
    }

    /// A setting of every process, such as `("worker.lease_ms", "2000")`.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(variable(name), value.to_owned());
        self
    }

    /// No sweep runs by itself.
    pub fn without_sweeps(self) -> Self {
        self.set("scheduler.enabled", "false")
    }

    /// Another Postgres than the shared one.
    pub fn database(self, url: &str) -> Self {
        Self { database: Some(url.to_owned()), ..self }
    }

    /// Another RabbitMQ than the shared one.
    pub fn broker(self, url: &str) -> Self {
        Self { broker: Some(url.to_owned()), ..self }
    }

    /// Starts it all and waits until it answers.
    pub async fn start(self) -> System {
        let folder = tempfile::Builder::new().prefix("hp-system").tempdir().expect("a folder");
        let schema = (self.kind == Kind::Services)
            .then(|| Schema::create_in(&self.database.clone().unwrap_or_else(database_url)));
        let prefix = unique("t");
        let env = self.environment(schema.as_ref(), &prefix);
        let mut system = System {
            kind: self.kind,
            model: Model::start().await,
            tools: Tools::start().await,
            apis: Vec::new(),
            workers: Vec::new(),
            schedulers: Vec::new(),
            ports: Vec::new(),
            admin: String::new(),
            prefix,
            env,
            schema,
            folder,
        };
        system.holdpoint("migrate").args(["migrate"]).run();
        system.admin = system.make_key("acme", "shop", "admin");
        match self.kind {
            Kind::Services => system.start_roles(&self).await,
            Kind::Embedded => system.start_dev().await,
        }
        system
    }

    /// Short periods, so that nothing takes long. A lease that ran out because the machine is busy would
    /// repeat calls: tests of what happens when a worker is gone choose a short one.
    fn environment(&self, schema: Option<&Schema>, prefix: &str) -> BTreeMap<String, String> {
        let mut env = BTreeMap::new();
        let mut set = |name: &str, value: &str| env.insert(variable(name), value.to_owned());
        if let Some(schema) = schema {
            set("database.url", &schema.url());
            set("queue.url", &self.broker.clone().unwrap_or_else(amqp_url));
            set("queue.prefix", prefix);
        }
        set("queue.max_backoff_ms", "500");
        set("database.hot_connections", "2");
        set("database.read_connections", "2");
        // The wait for a connection of the pool, too.
        set("database.connect_timeout_ms", "10000");
        set("worker.lease_ms", "15000");
        set("worker.heartbeat_ms", "250");
        set("worker.poll_ms", "250");
        set("outbound.allow_networks", "127.0.0.0/8");
        set("scheduler.stale_period_ms", "300");
        set("scheduler.stuck_period_ms", "300");
        set("scheduler.timers_period_ms", "200");
        set("scheduler.retries_period_ms", "200");
        set("scheduler.schedules_period_ms", "300");
        set("api.stream_poll_ms", "300");
        set("log.level", "info");
        env.extend(self.settings.clone());
        env
    }
}

/// `worker.lease_ms` is `HOLDPOINT__WORKER__LEASE_MS`.
fn variable(name: &str) -> String {
    format!("HOLDPOINT__{}", name.replace('.', "__").to_uppercase())
}

/// A running Holdpoint. Its processes end when it is dropped.
pub struct System {
    /// What it runs on.
    pub kind: Kind,
    /// The scripted model.
    pub model: Model,
    /// The scripted tools.
    pub tools: Tools,
    /// The processes that serve HTTP (`dev` is the only one there is).
    pub apis: Vec<Process>,
    /// The workers.
    pub workers: Vec<Process>,
    /// The schedulers.
    pub schedulers: Vec<Process>,
    /// The prefix of every name in the broker.
    pub prefix: String,
    ports: Vec<u16>,
    admin: String,
    env: BTreeMap<String, String>,
    schema: Option<Schema>,
    folder: TempDir,
}

impl System {
    /// The first API process, as an admin of the tenant `acme`.
    pub fn client(&self) -> Client {
        self.client_of(0)
    }

    /// The API process of this number, as the same admin.
    pub fn client_of(&self, api: usize) -> Client {
        Client::new(&self.url_of(api), Some(&self.admin)).described()
    }

    /// The key of that admin.
    pub fn admin(&self) -> &str {
        &self.admin
    }

    /// The address of an API process.
    pub fn url_of(&self, api: usize) -> String {
        format!("http://127.0.0.1:{}", self.ports[api])
    }

    /// The schema in Postgres.
    pub fn schema(&self) -> &Schema {
        self.schema.as_ref().expect("the embedded store has no Postgres")
    }

    /// The folder in which its processes run.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The binary with this system's settings.
    pub fn holdpoint(&self, name: &str) -> Spawn {
        Spawn::holdpoint(name).cwd(self.folder.path()).envs(&self.env)
    }

    /// A new key. On the embedded store only by its API, because `dev` holds the folder: use
    /// [`System::stop_dev`] before, or a role of the same tenant through `POST /v1/keys`.
    pub fn make_key(&self, tenant: &str, project: &str, role: &str) -> String {
        let args = [
            "keys",
            "create",
            "--json",
            "--tenant",
            tenant,
            "--project",
            project,
            "--role",
            role,
            "--name",
            "test",
        ];
        let printed = self.on_store("keys create").args(args).run();
        find_key(&printed)
    }

    fn on_store(&self, name: &str) -> Spawn {
        let spawn = self.holdpoint(name);
        match self.kind {
            Kind::Services => spawn,
            Kind::Embedded => spawn.env("HOLDPOINT__DATABASE__URL", "sqlite:.holdpoint"),
        }
    }

    async fn start_roles(&mut self, setup: &Setup) {
        for _ in 0..setup.apis {
            self.start_api(&[]);
        }
        for _ in 0..setup.workers {
            self.start_worker(&[]);
        }
        for _ in 0..setup.schedulers {
            self.start_scheduler(&[]);
        }
        for api in 0..setup.apis {
            self.wait_ready(api).await;
        }
    }

    /// Starts one more API process, with these settings too; its number.
    pub fn start_api(&mut self, env: &[(&str, &str)]) -> usize {
        self.ports.push(free_port());
        let spawn = self.api_on(*self.ports.last().expect("just pushed"), env);
        self.apis.push(spawn.spawn());
        self.apis.len() - 1
    }

    /// Starts an API process anew, at its old address.
    pub fn restart_api(&mut self, api: usize, env: &[(&str, &str)]) {
        self.apis[api].kill9();
        self.apis[api] = self.api_on(self.ports[api], env).spawn();
    }

    fn api_on(&self, port: u16, env: &[(&str, &str)]) -> Spawn {
        let listen = format!("127.0.0.1:{port}");
        with(self.holdpoint("api").args(["api"]).env(&variable("api.listen"), listen), env)
    }

    /// Starts one more worker, with these settings too; its number.
    pub fn start_worker(&mut self, env: &[(&str, &str)]) -> usize {
        let spawn = with(self.holdpoint("worker").args(["worker"]), env);
        self.workers.push(spawn.spawn());
        self.workers.len() - 1
    }

    /// Starts one more scheduler, with these settings too.
    pub fn start_scheduler(&mut self, env: &[(&str, &str)]) {
        let spawn = with(self.holdpoint("scheduler").args(["scheduler"]), env);
        self.schedulers.push(spawn.spawn());
    }

    async fn start_dev(&mut self) {
        self.ports = vec![free_port()];
        self.run_dev(&[]).await;
    }

    /// Starts `dev` (again) at its address, with these settings too.
    pub async fn run_dev(&mut self, env: &[(&str, &str)]) {
        let listen = format!("127.0.0.1:{}", self.ports[0]);
        let spawn = with(self.holdpoint("dev").args(["dev", "--listen", &listen]), env);
        self.apis = vec![spawn.spawn()];
        self.wait_ready(0).await;
    }

    /// Ends `dev`, so that its store can be opened by another process.
    pub fn stop_dev(&mut self) {
        self.apis.clear();
    }

    /// Makes a key for any tenant on either store; `dev` is started again for it.
    pub async fn key_for(&mut self, tenant: &str, project: &str, role: &str) -> String {
        if self.kind == Kind::Services {
            return self.make_key(tenant, project, role);
        }
        self.stop_dev();
        let key = self.make_key(tenant, project, role);
        self.run_dev(&[]).await;
        key
    }

    /// Waits until an API process answers and has its database.
    pub async fn wait_ready(&mut self, api: usize) {
        let client = self.client_of(api);
        let process = &mut self.apis[api];
        let port = self.ports[api];
        until("the API is ready", SOON, || {
            assert!(process.try_exit().is_none(), "the API ended");
            let client = client.clone();
            async move {
                let answer = client.try_send(client.builder(reqwest::Method::GET, "/readyz")).await.ok()?;
                (answers(port) && answer.status == 200).then_some(())
            }
        })
        .await;
    }

    /// Waits until a worker has told that it reaches its broker.
    pub async fn wait_broker(&self) {
        let told = "SELECT count(*) FROM sessions WHERE about LIKE '%\"broker_up\":true%'";
        until_true("a worker has its broker", SOON, || self.schema().count(told) > 0).await;
    }

    /// The leases of all workers run out now: of one that was killed nobody has to wait for it.
    pub fn leases_run_out(&self) {
        self.schema().execute("UPDATE sessions SET expires_at = hp_now()");
    }

    /// Throws away what lies in a queue of this system, by its name without the prefix.
    ///
    /// After a kill a quorum queue has no leader for some time, and answers with an error.
    pub async fn purge(&self, queue: &str) {
        let name = format!("{}.{queue}", self.prefix);
        until("a queue is purged", SOON * 2, || answered(self.try_purge(&name))).await;
    }

    async fn try_purge(&self, queue: &str) -> Option<()> {
        let connection = self.try_amqp().await?;
        let channel = connection.create_channel().await.ok()?;
        channel.queue_purge(queue.into(), lapin::options::QueuePurgeOptions::default()).await.ok()?;
        connection.close(200, "done".into()).await.ok()
    }

    /// A connection to the broker; none while it is away.
    pub async fn try_amqp(&self) -> Option<lapin::Connection> {
        let url = &self.env[&variable("queue.url")];
        let connecting = lapin::Connection::connect(url, lapin::ConnectionProperties::default());
        answered(async { connecting.await.ok() }).await
    }

    /// The broker's address.
    pub fn amqp_url(&self) -> &str {
        &self.env[&variable("queue.url")]
    }

    /// A connection to the broker.
    pub async fn amqp(&self) -> lapin::Connection {
        lapin::Connection::connect(self.amqp_url(), lapin::ConnectionProperties::default())
            .await
            .expect("the broker answers")
    }
}

/// What the broker answers; nothing where it says nothing for 10 s, as lapin may do
/// where the broker goes away in mid-call.
pub async fn answered<T>(call: impl Future<Output = Option<T>>) -> Option<T> {
    tokio::time::timeout(BROKER_LIMIT, call).await.ok().flatten()
}

impl Drop for System {
    fn drop(&mut self) {
        // Processes first: what they hold in database and broker is free then.
        self.schedulers.clear();
        self.workers.clear();
        self.apis.clear();
        if self.kind == Kind::Services {
            self.remove_queues();
        }
    }
}

impl System {
    /// Best effort: a private broker may be gone.
    fn remove_queues(&self) {
        let (url, prefix) = (self.env[&variable("queue.url")].clone(), self.prefix.clone());
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let connect = lapin::Connection::connect(&url, lapin::ConnectionProperties::default());
                let connection = tokio::time::timeout(Duration::from_secs(2), connect).await.ok()?.ok()?;
                for queue in ["advance", "sweeps", "commands", "dead"] {
                    let channel = connection.create_channel().await.ok()?;
                    let name = format!("{prefix}.{queue}");
                    let _ = channel
                        .queue_delete(name.as_str().into(), lapin::options::QueueDeleteOptions::default())
                        .await;
                }
                connection.close(200, "done".into()).await.ok()
            })
        });
        let _ = removed.join();
    }
}

fn with(spawn: Spawn, env: &[(&str, &str)]) -> Spawn {
    env.iter().fold(spawn, |spawn, (name, value)| {
        let name = if name.contains('.') { variable(name) } else { (*name).to_owned() };
        spawn.env(&name, *value)
    })
}

/// The key in what `keys create` printed.
fn find_key(printed: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let found = printed.split(|c: char| !plain(c)).find(|word| word.starts_with("hp_"));
    found.unwrap_or_else(|| panic!("no key in: {printed}")).to_owned()
}

//! What the tests of monitoring read, and the cluster that they watch.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::{Request, Turn};
use holdpoint_tests::poll::until;
use holdpoint_tests::ports::free_port;
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::producer::{Producer, start};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

const SEAL_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";

fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file of the repository.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The path of a file in `deploy/`.
pub fn deploy(file: &str) -> String {
    root().join("deploy").join(file).display().to_string()
}

/// One alert, as it stands in `deploy/alerts.yml`.
#[derive(Debug, Default)]
pub struct Alert {
    pub name: String,
    pub expression: String,
    pub severity: String,
    pub runbook: String,
}

/// All alerts. The file is read line by line, as it is written: what does not fit is a fault.
pub fn alerts() -> Vec<Alert> {
    let mut alerts: Vec<Alert> = Vec::new();
    let mut in_expression = false;
    for line in read("deploy/alerts.yml").lines() {
        let text = line.trim();
        if let Some(name) = text.strip_prefix("- alert: ") {
            alerts.push(Alert { name: name.to_owned(), ..Alert::default() });
        }
        let Some(alert) = alerts.last_mut() else { continue };
        if let Some(expression) = text.strip_prefix("expr: ") {
            alert.expression = expression.trim_start_matches('|').to_owned();
            in_expression = true;
        } else if text.starts_with("for: ") || text.starts_with("labels: ") {
            in_expression = false;
        } else if in_expression {
            alert.expression.push_str(text);
        }
        if let Some(labels) = text.strip_prefix("labels: {severity: ") {
            alert.severity = labels.trim_end_matches('}').to_owned();
        } else if let Some(runbook) = text.strip_prefix("runbook_url: ") {
            alert.runbook = runbook.to_owned();
        }
    }
    assert!(alerts.len() > 25 && alerts.iter().all(|alert| !alert.expression.is_empty()));
    alerts
}

/// The rules with short times: every `for` one second, every range fifteen, and the bounds that
/// docs/monitoring.md names.
pub fn hurried() -> String {
    let mut bounds = bounds();
    let (mut alert, mut text) = (String::new(), String::new());
    for line in read("deploy/alerts.yml").lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            alert = name.to_owned();
        }
        let mut line = with_short_ranges(line);
        if let Some(at) = line.find("for: ").filter(|at| line[..*at].trim().is_empty()) {
            line = format!("{}for: 1s", &line[..at]);
        }
        if let Some((bound, lower)) = bounds.get(&alert).cloned()
            && line.trim_end().ends_with(&bound)
        {
            line = line.replace(&bound, &lower);
            bounds.remove(&alert);
        }
        text.push_str(&line);
        text.push('\n');
    }
    assert!(bounds.is_empty(), "docs/monitoring.md names bounds that the rules do not have: {bounds:?}");
    text
}

/// By alert, from the table in docs/monitoring.md.
fn bounds() -> BTreeMap<String, (String, String)> {
    let page = read("docs/monitoring.md");
    let rows = page.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        matches!(cells[..], [_, alert, bound, lower, _] if alert.starts_with("Holdpoint") && bound.starts_with('>') && !lower.is_empty())
            .then(|| (cells[1].to_owned(), (cells[2].to_owned(), cells[3].to_owned())))
    });
    let bounds: BTreeMap<_, _> = rows.collect();
    assert!(bounds.len() > 5);
    bounds
}

/// `[5m]` and its like become `[15s]`.
fn with_short_ranges(line: &str) -> String {
    let mut parts = line.split('[');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (range, rest) = part.split_once(']').expect("a bracket is closed");
        let is_range = range.ends_with('m') && range[..range.len() - 1].parse::<u32>().is_ok();
        text.push_str(&format!("[{}]{rest}", if is_range { "15s" } else { range }));
    }
    text
}

/// A page's sections by the anchors of their headings.
pub fn headings(page: &str) -> BTreeMap<String, String> {
    let mut sections = BTreeMap::new();
    let mut anchor = String::new();
    for line in page.lines() {
        if line.starts_with('#') {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|c| c.is_alphanumeric() || *c == ' ' || *c == '-');
            anchor = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        }
        let section: &mut String = sections.entry(anchor.clone()).or_default();
        section.push_str(line);
        section.push('\n');
    }
    sections
}

/// A metric as docs/monitoring.md has it.
#[derive(Debug)]
pub struct Documented {
    pub kind: String,
    pub labels: Vec<String>,
    pub by: String,
}

/// Every metric in the tables of docs/monitoring.md.
pub fn documented() -> BTreeMap<String, Documented> {
    let page = read("docs/monitoring.md");
    let mut metrics = BTreeMap::new();
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, metric, kind, by, says, _] = cells[..] else { continue };
        let Some(metric) = metric.strip_prefix('`').and_then(|metric| metric.strip_suffix('`')) else {
            continue;
        };
        let (name, labels) = metric.split_once('{').unwrap_or((metric, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let kind = kind.split(',').next().unwrap_or_default().to_owned();
        assert!(!says.is_empty(), "{line}");
        let one = Documented { kind, labels: labels.map(str::to_owned).collect(), by: by.to_owned() };
        assert!(metrics.insert(name.to_owned(), one).is_none(), "{name} is there twice");
    }
    assert!(metrics.len() > 50);
    metrics
}

/// What a process serves: each metric's type, and its labels in order.
pub async fn scraped(address: &str) -> BTreeMap<String, (String, Vec<String>)> {
    let text = Client::new(&format!("http://{address}"), None).get("/metrics").await.expect(200).text;
    let (mut metrics, mut name) = (BTreeMap::new(), String::new());
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("# TYPE ") {
            let (of, kind) = head.split_once(' ').expect("a type");
            name = of.to_owned();
            metrics.insert(name.clone(), (kind.to_owned(), Vec::new()));
        } else if !line.starts_with('#') {
            let labels = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
            let mut names: Vec<String> = labels.map(|(labels, _)| label_names(labels)).unwrap_or_default();
            names.retain(|label| label != "le");
            names.sort();
            metrics.get_mut(&name).expect("a type before its samples").1 = names;
        }
    }
    metrics
}

/// What a process has counted under this name, without labels.
pub async fn counted(address: &str, name: &str) -> f64 {
    let text = Client::new(&format!("http://{address}"), None).get("/metrics").await.expect(200).text;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.expect("a counter").parse().expect("a number")
}

/// `a="1",b="{x,y}"` has `a` and `b`: what stands in quotes is a value.
fn label_names(labels: &str) -> Vec<String> {
    let outside = labels.split('"').step_by(2);
    outside.map(|part| part.trim_matches([',', '=']).to_owned()).filter(|name| !name.is_empty()).collect()
}

/// The dashboard.
pub fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/dashboards/holdpoint.json")).expect("JSON")
}

/// A panel and what it asks.
pub struct Panel {
    pub title: String,
    pub queries: Vec<String>,
}

/// All that show something.
pub fn panels() -> Vec<Panel> {
    let dashboard = dashboard();
    let shown = dashboard["panels"].as_array().expect("panels").iter().filter(|panel| panel["type"] != "row");
    shown
        .map(|panel| {
            let targets = panel["targets"].as_array().expect("targets").iter();
            let queries = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
            Panel { title: panel["title"].as_str().expect("a title").to_owned(), queries: queries.collect() }
        })
        .collect()
}

/// The words of an expression.
pub fn words(expression: &str) -> Vec<String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Two of each role, and where each is scraped.
pub struct Cluster {
    pub system: System,
    pub client: Client,
    /// The model's answers to `hold` wait for it.
    pub gate: Gate,
    pub targets: Vec<(&'static str, String)>,
}

impl Cluster {
    /// Events go to the exchange and to a webhook; the agent `clerk` and the workflow `steps` are
    /// there.
    pub async fn start(database: Option<&str>, broker: &PrivateBroker) -> Self {
        let setup = Setup::services().roles(2, 0, 0).broker(&broker.url());
        let setup = setup
            .set("worker.lease_ms", "5000")
            .set("scheduler.limit", "20")
            .set("outbound.seal_keys", SEAL_KEY);
        let setup = match database {
            Some(url) => setup.database(url),
            None => setup,
        };
        let mut system = setup.start().await;
        let mut targets = vec![("rabbitmq", broker.metrics_address())];
        let address = |url: String| url.trim_start_matches("http://").to_owned();
        targets.extend((0..2).map(|api| ("holdpoint-api", address(system.url_of(api)))));
        for job in ["holdpoint-worker", "holdpoint-worker", "holdpoint-scheduler", "holdpoint-scheduler"] {
            let listen = format!("127.0.0.1:{}", free_port());
            let env = [("metrics.listen", listen.as_str())];
            if job == "holdpoint-worker" {
                system.start_worker(&env);
            } else {
                system.start_scheduler(&env);
            }
            targets.push((job, listen));
        }
        let client = system.client();
        let cluster = Self { system, client, gate: Gate::closed(), targets };
        cluster.define().await;
        cluster
    }

    /// Another scheduler where the last one was scraped.
    pub fn start_scheduler(&mut self) {
        let listen = self.targets.last().expect("a scheduler").1.clone();
        self.system.start_scheduler(&[("metrics.listen", &listen)]);
    }

    async fn define(&self) {
        let Self { system, client, .. } = self;
        let gate = self.gate.clone();
        system.model.answer_by(move |request| answer(request, &gate));
        let agent: Agent = clerk(&system.model, &system.tools);
        client.put_agent("clerk", agent.document()).await;
        let url = system.tools.url("/price");
        let get = json!({"get": {"call": "http", "with": {"method": "get", "endpoint": url}}});
        self.put_workflow("steps", json!([get, {"keep": {"set": {"done": true}}}])).await;
        let settings = client.builder(Method::PUT, "/v1/event-settings").json(&json!({"exchange": true}));
        client.send(settings).await.expect(200);
        client.post("/v1/webhooks", &json!({"url": system.tools.url("/hook")})).await.expect(201);
    }

    /// Registers an agent whose tool `pay` waits for a decision this long.
    pub async fn put_gated(&self, name: &str, expires_after: &str) {
        let approval = json!({"approval": {"expires_after": expires_after}});
        let agent = Agent::new(&self.system.model).tool(&self.system.tools, "pay", approval);
        self.client.put_agent(name, agent.document()).await;
    }

    /// Registers a workflow of these tasks.
    pub async fn put_workflow(&self, name: &str, tasks: Value) {
        let document = json!({
            "document": {"dsl": "1.0.3", "namespace": "tests", "name": name, "version": "1.0.0"},
            "do": tasks,
        });
        let put = self.client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(&document);
        self.client.send(put).await.expect(201);
    }

    /// Starts one that stays with a person.
    pub async fn waits_for_a_person(&self) -> String {
        let id = self.clerk("pay").await;
        self.client.wait_pending(&id, 1).await;
        id
    }

    async fn clerk(&self, what: &str) -> String {
        self.client.start_with(json!({"agent": "clerk", "input": what})).await
    }

    /// Executions of all kinds, decisions, repeats, producers' commands and sweeps, for ever.
    pub async fn load(&self) {
        let producer = Producer::connect(&self.system).await;
        for round in 0.. {
            self.round(round, &producer).await;
            // Not to fill the machine: what is looked at is that there is something.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// One round of it, to its end.
    pub async fn once(&self) {
        let producer = Producer::connect(&self.system).await;
        self.round(0, &producer).await;
        producer.close().await;
    }

    async fn round(&self, round: u32, producer: &Producer) {
        let Self { client, system, .. } = self;
        let noops = vec![json!({"workflow": "holdpoint.noop", "input": {}}); 5];
        client.post("/v1/executions/batch", &json!({"executions": noops})).await.expect(200);
        system.tools.script("/look", [Reply::Status(503)]);
        let mut looking = Vec::new();
        for what in ["look", "look", "look", "look", "fail"] {
            looking.push(self.clerk(what).await);
        }
        let steps = client.start_with(json!({"workflow": "steps", "input": {}})).await;
        for approved in [true, false] {
            let id = self.clerk("pay").await;
            client.wait_pending(&id, 1).await;
            client.decide(&id, "c1", &json!({"approved": approved, "reason": "no"})).await.expect(200);
            client.wait_status(&id, "completed").await;
        }
        producer.send(&start(system.admin(), &format!("round-{round}-{}", looking[0]))).await;
        client.post("/v1/sweeps/stale", &json!({})).await.expect(200);
        client.wait_status(&steps, "completed").await;
        for id in &looking {
            until("it ends", holdpoint_tests::poll::SOON, || async {
                (!client.execution(id).await["finished_at"].is_null()).then_some(())
            })
            .await;
        }
    }
}

/// The model does what it is told: `look`, `pay`, `act`, `hold` or `fail`.
fn answer(request: &Request, gate: &Gate) -> Turn {
    let user = request.messages().iter().find(|message| message["role"] == "user");
    let told = user.and_then(|message| message["content"].as_str()).unwrap_or_default();
    match (told, request.turns()) {
        ("fail", _) => Turn::status(401),
        ("hold", _) => Turn::say("held").after(gate),
        ("look" | "pay" | "act", 0) => Turn::call(&[("c1", told, json!({"n": 1}))]),
        _ => Turn::say("done"),
    }
}

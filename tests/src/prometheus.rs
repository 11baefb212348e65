//! A Prometheus of one test's own (Debian's package), and `promtool`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use crate::client::Client;
use crate::clients::serve;
use crate::poll::until;
use crate::ports::free_port;
use crate::processes::{Process, Spawn};

/// An alert needs scrapes and evaluations, each once a second, on a machine under load.
const ALERT: Duration = Duration::from_secs(100);

/// One series' labels and its value.
pub type Sample = (BTreeMap<String, String>, f64);

/// A running Prometheus; ended when it is dropped.
pub struct Prometheus {
    _process: Process,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes these (job, address) and evaluates these rules, each once a second.
    pub async fn start(targets: &[(&str, String)], rules: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("hp-prometheus").tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        write("alerts.yml", rules);
        write("prometheus.yml", &configuration(targets));
        let port = free_port();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let process = Spawn::program("prometheus", "prometheus").cwd(folder.path()).args([
            format!("--config.file={}", path("prometheus.yml")),
            format!("--storage.tsdb.path={}", path("data")),
            format!("--web.listen-address=127.0.0.1:{port}"),
            "--log.level=warn".to_owned(),
        ]);
        let process = serve(process, port).await;
        let client = Client::new(&format!("http://127.0.0.1:{port}"), None);
        let prometheus = Self { _process: process, client, _folder: folder };
        prometheus.wait_ready().await;
        prometheus
    }

    async fn wait_ready(&self) {
        until("Prometheus is ready", ALERT, || async {
            (self.client.get("/-/ready").await.status == 200).then_some(())
        })
        .await;
    }

    /// What an expression is now.
    pub async fn query(&self, expression: &str) -> Vec<Sample> {
        let query: String = form_urlencoded::byte_serialize(expression.as_bytes()).collect();
        let asked = self.client.builder(Method::GET, &format!("/api/v1/query?query={query}"));
        let answer = self.client.send(asked).await.expect(200).body;
        let samples = answer["data"]["result"].as_array().expect("a vector").clone();
        samples.iter().map(sample).collect()
    }

    /// The names of the alerts that fire.
    pub async fn firing(&self) -> BTreeSet<String> {
        let alerts = self.client.get("/api/v1/alerts").await.expect(200).body;
        let alerts = alerts["data"]["alerts"].as_array().expect("a list").clone();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().expect("a name").to_owned()).collect()
    }

    /// Waits until all of these have fired from now on, one or several at a time.
    pub async fn wait_fired(&self, alerts: &[&str]) {
        self.wait_fired_since(alerts, Instant::now()).await;
    }

    /// Waits until all of these have fired since then: some do not fire for long.
    pub async fn wait_fired_since(&self, alerts: &[&str], since: Instant) {
        let begun = Instant::now();
        loop {
            // `ALERTS` is Prometheus' own series of what fires.
            let range = since.elapsed().as_secs() + 1;
            let fired = format!("max_over_time(ALERTS{{alertstate=\"firing\"}}[{range}s])");
            let fired: BTreeSet<String> =
                self.query(&fired).await.into_iter().map(|(labels, _)| labels["alertname"].clone()).collect();
            let missing: Vec<_> = alerts.iter().filter(|alert| !fired.contains(**alert)).collect();
            if missing.is_empty() {
                return;
            }
            assert!(begun.elapsed() < ALERT, "these have not fired: {missing:?}; these have: {fired:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Waits until nothing fires.
    pub async fn wait_quiet(&self) {
        let begun = Instant::now();
        loop {
            let firing = self.firing().await;
            if firing.is_empty() {
                return;
            }
            assert!(begun.elapsed() < ALERT, "these fire without a cause: {firing:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// `promtool` with these arguments: what it printed. Panics where it finds fault.
pub fn promtool(args: &[&str]) -> String {
    Spawn::program("promtool", "promtool").args(args).run()
}

fn configuration(targets: &[(&str, String)]) -> String {
    let mut jobs: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (job, address) in targets {
        jobs.entry(job).or_default().push(format!("{address:?}"));
    }
    let mut text = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n\
                    rule_files: [alerts.yml]\nscrape_configs:\n"
        .to_owned();
    for (job, addresses) in jobs {
        let addresses = addresses.join(", ");
        // RabbitMQ needs longer to tell of itself where the machine is busy.
        let pace = if job == "rabbitmq" { "scrape_interval: 5s, scrape_timeout: 5s, " } else { "" };
        let targets = format!("static_configs: [{{targets: [{addresses}]}}]");
        text.push_str(&format!("  - {{job_name: {job}, {pace}{targets}}}\n"));
    }
    text
}

fn sample(sample: &Value) -> Sample {
    let labels = sample["metric"].as_object().expect("labels").iter();
    let labels = labels.map(|(name, value)| (name.clone(), value.as_str().expect("text").to_owned()));
    let value = sample["value"][1].as_str().expect("a value");
    // Prometheus writes infinities as `+Inf` and `-Inf`.
    (labels.collect(), value.parse().unwrap_or(f64::NAN))
}

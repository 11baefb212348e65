//! Metrics, alerts and the dashboard, as Prometheus sees them.

mod kit;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::{From, go};
use holdpoint_tests::poll::{SOON, until, until_true};
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::private_postgres::PrivatePostgres;
use holdpoint_tests::prometheus::{Prometheus, promtool};
use holdpoint_tests::tool::Reply;
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::{Value, json};

use kit::{
    Cluster, alerts, counted, dashboard, deploy, documented, headings, hurried, panels, read, scraped, words,
};

#[test]
fn promtool_finds_no_fault() {
    promtool(&["check", "config", &deploy("prometheus.yml")]);
    promtool(&["check", "rules", &deploy("alerts.yml")]);
    let told = promtool(&["test", "rules", &deploy("alerts.test.yml")]);
    assert!(told.contains("SUCCESS"), "{told}");
}

#[test]
fn every_alert_is_tested_and_has_a_runbook() {
    let (tests, page) = (read("deploy/alerts.test.yml"), read("docs/monitoring.md"));
    let headings = headings(&page);
    for alert in alerts() {
        for case in ["fires", "is quiet"] {
            assert!(tests.contains(&format!("- name: {} {case}\n", alert.name)), "{} {case}", alert.name);
        }
        let (file, anchor) = alert.runbook.split_once('#').unwrap();
        assert_eq!(file, "docs/monitoring.md");
        let section = headings.get(anchor).unwrap_or_else(|| panic!("no heading for #{anchor}"));
        assert!(section.contains(&format!("`{}`", alert.name)), "#{anchor} does not name {}", alert.name);
        assert!(["warning", "critical"].contains(&alert.severity.as_str()), "{}", alert.severity);
    }
}

#[test]
fn alerts_and_panels_name_metrics_that_there_are() {
    let documented = documented();
    let is_known = |word: &str| {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        documented.contains_key(word) || base.is_some_and(|base| documented.contains_key(base))
    };
    let rules = alerts().into_iter().map(|alert| (alert.name, alert.expression));
    let queries = panels()
        .into_iter()
        .flat_map(|panel| panel.queries.into_iter().map(move |query| (panel.title.clone(), query)));
    for (name, expression) in rules.chain(queries) {
        for word in words(&expression) {
            if word.starts_with("holdpoint_") || word.starts_with("process_") {
                assert!(is_known(&word), "{name}: `{word}` is not in docs/monitoring.md");
            }
        }
    }
}

#[test]
fn the_dashboard_is_well_formed() {
    let dashboard = dashboard();
    assert_eq!((&dashboard["uid"], &dashboard["title"]), (&json!("holdpoint"), &json!("Holdpoint")));
    assert!(dashboard["schemaVersion"].as_u64().unwrap() >= 39);
    let all = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<u64> = all.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), all.len(), "ids are unique");
    let mut cells = BTreeSet::new();
    for panel in all {
        let side = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(side("x") + side("w") <= 24, "{}", panel["title"]);
        for x in side("x")..side("x") + side("w") {
            for y in side("y")..side("y") + side("h") {
                assert!(cells.insert((x, y)), "{} lies over another", panel["title"]);
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        let has = |text: &Value| text.as_str().is_some_and(|text| !text.is_empty());
        assert!(has(&panel["title"]) && has(&panel["description"]), "{panel}");
        assert!(has(&panel["fieldConfig"]["defaults"]["unit"]), "{panel}");
        let targets = panel["targets"].as_array().unwrap();
        assert!(!targets.is_empty(), "{panel}");
        let names: BTreeSet<&str> = targets.iter().map(|one| one["refId"].as_str().unwrap()).collect();
        assert_eq!(names.len(), targets.len());
        assert!(targets.iter().all(|one| one["datasource"]["uid"] == "${datasource}"), "{panel}");
    }
    let source = read("deploy/grafana/provisioning/datasources/prometheus.yml");
    assert!(
        source.contains("timeInterval: 15s")
            && read("deploy/prometheus.yml").contains("scrape_interval: 15s")
    );
}

/// What compose mounts into Prometheus and Grafana is there.
#[test]
fn compose_mounts_what_there_is() {
    let compose = read("docker-compose.yml");
    let mounted = compose.lines().filter_map(|line| line.trim().strip_prefix("- ./deploy/"));
    let mounted: Vec<&str> = mounted.filter_map(|mount| mount.split(':').next()).collect();
    for file in ["prometheus.yml", "alerts.yml", "grafana/provisioning", "grafana/dashboards"] {
        assert!(mounted.contains(&file), "{file}: {mounted:?}");
    }
    for file in mounted.iter().filter(|file| !file.starts_with("secrets/")) {
        assert!(std::path::Path::new(&deploy(file)).exists(), "{file}");
    }
    assert!(read("deploy/make-secrets").contains("secrets/grafana_password"));
}

/// Behaviour 6: a cluster under load fills every panel, nothing fires, and no metric is left out of
/// the documentation or stands only there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_under_load_fills_every_panel_and_fires_nothing() {
    let broker = PrivateBroker::start_measured();
    let cluster = Cluster::start(None, &broker).await;
    let prometheus = Prometheus::start(&cluster.targets, &hurried()).await;
    let watched = cluster.client.stream(&cluster.waits_for_a_person().await, From::Start).await;
    tokio::select! {
        () = cluster.load() => unreachable!("a load has no end"),
        () = every_panel_has_data(&prometheus) => {}
    }
    tokio::select! {
        () = cluster.load() => unreachable!("a load has no end"),
        () = prometheus.wait_quiet() => {}
    }
    cluster.once().await;
    drop(watched);
    documented_is_what_is_served(&cluster).await;
}

/// Behaviour 6: what goes wrong while everything runs fires its alerts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_fire_their_alerts() {
    let broker = PrivateBroker::start_measured();
    let cluster = Cluster::start(None, &broker).await;
    let prometheus = Prometheus::start(&cluster.targets, &hurried()).await;
    all_are_scraped(&prometheus).await;
    let begun = Instant::now();
    let fired = faults(&cluster).await;
    prometheus.wait_fired_since(&fired, begun).await;
}

/// What is not scraped before it counts cannot be seen to grow.
async fn all_are_scraped(prometheus: &Prometheus) {
    until("all are scraped", SOON * 2, || async {
        let up = prometheus.query("count(up == 1)").await;
        up.first().is_some_and(|(_, count)| *count == 7.0).then_some(())
    })
    .await;
}

async fn every_panel_has_data(prometheus: &Prometheus) {
    let mut queries: Vec<(String, String)> = Vec::new();
    for panel in panels() {
        for query in panel.queries {
            let query = query.replace("$__rate_interval", "15s");
            assert!(!query.contains('$'), "{query}: a variable that nobody sets");
            queries.push((panel.title.clone(), query));
        }
    }
    assert!(queries.len() > 60, "all of the dashboard");
    let begun = Instant::now();
    while !queries.is_empty() {
        let mut empty = Vec::new();
        for (title, query) in queries {
            let has_data = prometheus.query(&query).await.iter().any(|(_, value)| value.is_finite());
            if !has_data {
                empty.push((title, query));
            }
        }
        queries = empty;
        assert!(begun.elapsed() < Duration::from_secs(150), "these stay empty: {queries:#?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Names, labels and types, for each role, both ways.
async fn documented_is_what_is_served(cluster: &Cluster) {
    let documented = documented();
    for (letter, job) in [("a", "holdpoint-api"), ("w", "holdpoint-worker"), ("s", "holdpoint-scheduler")] {
        let mut served = BTreeMap::new();
        for (_, address) in cluster.targets.iter().filter(|(of, _)| *of == job) {
            served.extend(scraped(address).await);
        }
        let listed = documented.iter().filter(|(_, one)| one.by.contains(letter));
        let listed: BTreeMap<_, _> =
            listed.map(|(name, one)| (name.clone(), (one.kind.clone(), one.labels.clone()))).collect();
        let missing: Vec<_> = served.iter().filter(|(name, one)| listed.get(*name) != Some(one)).collect();
        assert!(
            missing.is_empty(),
            "{job} serves these, and docs/monitoring.md does not say so: {missing:?}"
        );
        let absent: Vec<_> = listed.iter().filter(|(name, _)| !served.contains_key(*name)).collect();
        assert!(absent.is_empty(), "docs/monitoring.md says that {job} serves these: {absent:?}");
    }
}

/// What goes wrong while everything runs.
async fn faults(cluster: &Cluster) -> [&'static str; 15] {
    approvals_run_out(cluster).await;
    more_expire_than_a_pass_ends(cluster).await;
    rows_are_broken(cluster);
    calls_go_wrong(cluster).await;
    receivers_refuse(cluster).await;
    unreadable_messages(cluster).await;
    another_takes_what_a_worker_holds(cluster).await;
    a_worker_stands_still(cluster).await;
    [
        "HoldpointApprovalsExpired",
        "HoldpointApprovalsExpiring",
        "HoldpointAttention",
        "HoldpointCommitsFenced",
        "HoldpointDeadLetters",
        "HoldpointExecutionsFailing",
        "HoldpointExecutionsStuck",
        "HoldpointLeasesLost",
        "HoldpointMessagesParked",
        "HoldpointOutcomesUnknown",
        "HoldpointSessionsLost",
        "HoldpointSweepRowsFailing",
        "HoldpointSweepsBehind",
        "HoldpointWebhookDisabled",
        "HoldpointWebhooksFailing",
    ]
}

/// One at once, one soon; two others that wait, for what is made of them later.
async fn approvals_run_out(cluster: &Cluster) {
    for (name, expires_after) in [("hasty", "300ms"), ("pressing", "4m"), ("broken", "1h"), ("doomed", "1h")]
    {
        cluster.put_gated(name, expires_after).await;
        let id = cluster.client.start_with(json!({"agent": name, "input": "pay"})).await;
        if name != "hasty" {
            cluster.client.wait_pending(&id, 1).await;
        }
        if name == "doomed" {
            cluster.client.wait_suspended(&id, "approval").await;
        }
    }
}

/// A journal that a sweep cannot read, and an execution whose workers die again and again.
fn rows_are_broken(cluster: &Cluster) {
    let schema = cluster.system.schema();
    let of = |name: &str| format!("(SELECT execution FROM approvals WHERE agent = '{name}')");
    schema.execute(&format!("UPDATE journal SET payload = '{{' WHERE execution = {}", of("broken")));
    schema.execute("UPDATE approvals SET expires_at = 1 WHERE agent = 'broken'");
    let held = schema.execute(&format!(
        "UPDATE executions SET status = 'running', reason = NULL, ready_at = NULL, lost = 9,
           owner = gen_random_uuid() WHERE id = {}",
        of("doomed")
    ));
    assert_eq!(held, 1);
}

/// A call that is cut off, models that do not let us in, and a workflow that nobody lets in.
async fn calls_go_wrong(cluster: &Cluster) {
    let (client, system) = (&cluster.client, &cluster.system);
    let act = Agent::new(&system.model).tool(&system.tools, "act", json!({"effect": "at_most_once"}));
    client.put_agent("actor", act.document()).await;
    system.tools.script("/act", [Reply::Reset]);
    client.start_with(json!({"agent": "actor", "input": "act"})).await;
    let failing = json!({"executions": vec![json!({"agent": "clerk", "input": "fail"}); 30]});
    client.post("/v1/executions/batch", &failing).await.expect(200);
    system.tools.script("/locked", [Reply::Status(401)]);
    let get = json!({"call": "http", "with": {"method": "get", "endpoint": system.tools.url("/locked")}});
    cluster.put_workflow("locked", json!([{"get": get}])).await;
    client.start_with(json!({"workflow": "locked", "input": {}})).await;
}

async fn receivers_refuse(cluster: &Cluster) {
    let (client, tools) = (&cluster.client, &cluster.system.tools);
    tools.script("/hook", vec![Reply::Status(500); 500]);
    tools.script("/gone", vec![Reply::Status(410); 20]);
    client.post("/v1/webhooks", &json!({"url": tools.url("/gone")})).await.expect(201);
    client.start_with(json!({"agent": "clerk", "input": "look"})).await;
}

async fn more_expire_than_a_pass_ends(cluster: &Cluster) {
    let (client, schema) = (&cluster.client, cluster.system.schema());
    cluster.put_gated("crowd", "1h").await;
    let many = json!({"executions": vec![json!({"agent": "crowd", "input": "pay"}); 25]});
    client.post("/v1/executions/batch", &many).await.expect(200);
    let undecided = "SELECT count(*) FROM approvals WHERE agent = 'crowd' AND status = 'pending'";
    let suspended = "SELECT count(*) FROM executions e JOIN approvals a ON a.execution = e.id
        WHERE a.agent = 'crowd' AND e.status = 'suspended'";
    until_true("all of them wait", SOON, || schema.count(undecided) == 25 && schema.count(suspended) == 25)
        .await;
    schema.execute("UPDATE approvals SET expires_at = 1 WHERE agent = 'crowd'");
}

async fn unreadable_messages(cluster: &Cluster) {
    let connection = cluster.system.amqp().await;
    let channel = connection.create_channel().await.unwrap();
    let dead = format!("{}.dead", cluster.system.prefix);
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), dead.as_str().into(), options, b"?", BasicProperties::default())
        .await
        .unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

/// The next commit of the worker that holds it is refused.
async fn another_takes_what_a_worker_holds(cluster: &Cluster) {
    let held = Agent::new(&cluster.system.model);
    cluster.client.put_agent("held", held.document()).await;
    cluster.client.start_with(json!({"agent": "held", "input": "hold"})).await;
    cluster.gate.wait_arrived(1).await;
    let take = "UPDATE executions SET epoch = epoch + 1
         WHERE owner IS NOT NULL AND id = (SELECT id FROM execution_info WHERE name = 'held')";
    // Between two leases nobody holds it.
    until_true("it is taken", SOON, || cluster.system.schema().execute(take) == 1).await;
    cluster.gate.open();
    // Before that it is not to be stopped.
    until("its commit is refused", SOON, || async {
        let mut refused = 0.0;
        for (_, address) in cluster.targets.iter().filter(|(job, _)| *job == "holdpoint-worker") {
            refused += counted(address, "holdpoint_db_fenced_commits_total").await;
        }
        (refused > 0.0).then_some(())
    })
    .await;
}

/// Longer than its lease; what it finds then is that others took it for dead.
async fn a_worker_stands_still(cluster: &Cluster) {
    let schema = cluster.system.schema();
    let over = || schema.count("SELECT count(*) FROM sessions WHERE expires_at < hp_now()") > 0;
    cluster.system.workers[0].stop();
    until_true("its lease runs out", SOON, over).await;
    cluster.system.workers[0].cont();
}

/// Behaviour 6: what goes away fires its alerts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_away_fires_its_alerts() {
    let mut postgres = PrivatePostgres::start();
    let mut broker = PrivateBroker::start_measured();
    let mut cluster = Cluster::start(Some(&postgres.url()), &broker).await;
    let prometheus = Prometheus::start(&cluster.targets, &hurried()).await;
    all_are_scraped(&prometheus).await;

    broker.ctl(&["set_vm_memory_high_watermark", "absolute", "1"]);
    prometheus.wait_fired(&["HoldpointBrokerAlarm"]).await;
    broker.ctl(&["set_vm_memory_high_watermark", "0.9"]);

    a_long_lock(&cluster, &prometheus).await;

    // A worker that dies, with an execution that it holds.
    cluster.system.workers[1].stop();
    cluster.client.start_with(json!({"agent": "clerk", "input": "hold"})).await;
    cluster.gate.wait_arrived(1).await;
    cluster.system.workers[1].cont();
    cluster.system.workers[0].kill9();
    prometheus.wait_fired(&["HoldpointTargetDown", "HoldpointLeasesLost"]).await;
    cluster.gate.open();

    cluster.system.schedulers.clear();
    prometheus.wait_fired(&["HoldpointSweepsOverdue"]).await;
    cluster.start_scheduler();

    broker.kill9();
    cluster.client.start_with(json!({"agent": "clerk", "input": "look"})).await;
    let without_broker = ["HoldpointBrokerDown", "HoldpointEventsBehind", "HoldpointCommandsUnconfirmed"];
    prometheus.wait_fired(&without_broker).await;

    // A delivery that is to be tried again, when nobody is left to try.
    cluster.system.tools.script("/hook", vec![Reply::Status(500); 500]);
    cluster.client.start_with(json!({"agent": "clerk", "input": "look"})).await;
    let refused = "SELECT count(*) FROM webhook_deliveries WHERE next_at IS NOT NULL AND response = 500";
    until_true("a delivery is refused", SOON, || cluster.system.schema().count(refused) > 0).await;
    cluster.system.workers.clear();
    cluster.client.post("/v1/executions", &go("clerk")).await.expect(202);
    let without_worker = ["HoldpointNoWorker", "HoldpointReadyUnclaimed", "HoldpointWebhooksBehind"];
    prometheus.wait_fired(&without_worker).await;

    postgres.kill9();
    tokio::select! {
        () = ask_for_ever(&cluster) => unreachable!("it has no end"),
        () = prometheus.wait_fired(&["HoldpointDatabaseDown", "HoldpointHttpErrors"]) => {}
    }
    cluster.system.apis.clear();
    prometheus.wait_fired(&["HoldpointNoApi"]).await;
    // Its schema is dropped with the system.
    postgres.start_again();
}

/// Somebody holds a lock that everything needs, for as long as a statement may take. What becomes
/// ready under the lock waits for its end.
async fn a_long_lock(cluster: &Cluster, prometheus: &Prometheus) {
    let delayed = json!({"workflow": "holdpoint.noop", "input": {}, "delay": "1h"});
    let delayed = json!({"executions": vec![delayed; 10]});
    cluster.client.post("/v1/executions/batch", &delayed).await.expect(200);
    let mut locker = cluster.system.schema().connect();
    let locked = tokio::task::spawn_blocking(move || {
        let lock = "BEGIN; LOCK TABLE executions;
            UPDATE executions SET ready_at = hp_now() WHERE status = 'queued' AND owner IS NULL;
            SELECT pg_sleep(8); COMMIT";
        locker.batch_execute(lock).unwrap();
    });
    let noop = json!({"workflow": "holdpoint.noop", "input": {}});
    let start = || cluster.client.post("/v1/executions", &noop);
    let started = async { futures_util::future::join_all((0..20).map(|_| start())).await };
    let slow = ["HoldpointDatabaseSlow", "HoldpointPoolExhausted", "HoldpointClaimsSlow"];
    let ((), _) = tokio::join!(prometheus.wait_fired(&slow), started);
    locked.await.unwrap();
}

/// All at once: each answer takes as long as the wait for a connection.
async fn ask_for_ever(cluster: &Cluster) {
    loop {
        let asked =
            (0..2).map(|api| async move { cluster.system.client_of(api).get("/v1/executions").await });
        for answer in futures_util::future::join_all(asked).await {
            assert_eq!(answer.status, 503, "{}", answer.text);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

//! The sweeps' two doors, and what sweeps do to those that nobody looks after.

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::{Client, go};
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until, until_true};
use holdpoint_tests::system::{Setup, System};
use serde_json::{Value, json};

const HOUR: &str = "3600000000";
const CRON: &str = "/internal/cron/cleanup-stale-workflows";

/// Executions of a client, all waiting for a decision.
async fn waiting(system: &System, client: &Client, count: usize, metadata: Value) -> Vec<String> {
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.answer_by(|request| {
        if request.turns() == 0 { Turn::call(&[("c1", "pay", json!({"n": 1}))]) } else { Turn::say("ok") }
    });
    let mut body = go("clerk");
    body["metadata"] = metadata;
    let answer =
        client.post("/v1/executions/batch", &json!({"executions": vec![body; count]})).await.expect(200);
    let results = answer.body["results"].as_array().unwrap();
    let ids: Vec<String> =
        results.iter().map(|result| result["id"].as_str().expect("started").to_owned()).collect();
    // On a slow machine hundreds take their time.
    until(&format!("{count} wait"), SOON * 4, || async {
        let page = client.get("/v1/executions?status=suspended&limit=1000").await.expect(200);
        let suspended = page.body["executions"].as_array().unwrap();
        let all = ids.iter().all(|id| suspended.iter().any(|execution| execution["id"] == id.as_str()));
        (all && suspended.iter().all(|execution| execution["reason"] == "approval")).then_some(())
    })
    .await;
    ids
}

/// An API process of the same system whose database's clock is an hour ahead.
async fn an_hour_later(system: &mut System) -> Client {
    let url = system.schema().url_with(&[("holdpoint.clock_offset", HOUR)]);
    let api = system.start_api(&[("database.url", &url)]);
    system.wait_ready(api).await;
    system.client_of(api)
}

fn counts(answer: &Value) -> [i64; 5] {
    assert!(answer["sweep_id"].as_str().unwrap().starts_with("swp_"));
    ["scanned", "cleaned_up", "failed", "skipped", "total"].map(|field| answer[field].as_i64().expect(field))
}

async fn sweep(client: &Client, body: Value) -> [i64; 5] {
    counts(&client.post("/v1/sweeps/stale", &body).await.expect(200).body)
}

fn quiet() -> Setup {
    Setup::services().without_sweeps()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_and_fifty_in_three_passes_oldest_first() {
    let mut system = quiet().start().await;
    let client = system.client();
    let ids = waiting(&system, &client, 250, json!({"keep": {"a": 1}})).await;
    assert_eq!(sweep(&client, json!({})).await, [0; 5], "nothing has expired");
    let later = an_hour_later(&mut system).await;
    assert_eq!(sweep(&later, json!({"dry_run": true, "limit": 1000})).await[0], 250);
    assert_eq!(later.execution(&ids[0]).await["status"], "suspended", "a dry run changes nothing");
    assert_eq!(sweep(&later, json!({"limit": 100})).await, [100, 100, 0, 0, 100]);
    let schema = system.schema();
    let order = "SELECT max(expires_at) FROM approvals WHERE status = 'expired'";
    let rest = "SELECT min(expires_at) FROM approvals WHERE status = 'pending'";
    assert!(schema.count(order) <= schema.count(rest), "oldest first");
    assert_eq!(sweep(&later, json!({"limit": 100})).await, [100, 100, 0, 0, 100]);
    assert_eq!(sweep(&later, json!({"limit": 100})).await, [50, 50, 0, 0, 50]);
    assert_eq!(sweep(&later, json!({"limit": 100})).await, [0; 5]);
    for id in [&ids[0], &ids[249]] {
        let execution = client.wait_status(id, "failed").await;
        assert_eq!(
            (execution["reason"].as_str(), execution["error"]["type"].as_str()),
            (Some("approval_timeout"), Some("timeout"))
        );
        assert_eq!(execution["metadata"]["keep"], json!({"a": 1}));
        assert_eq!(execution["metadata"]["failure_reason"], "approval_timeout");
        assert!(execution["metadata"]["timed_out_at"].is_string(), "{execution}");
        client.decide(id, "c1", &json!({"approved": true})).await.expect_problem(410, "approval_closed");
    }
    assert_eq!(system.tools.count("/pay"), 0);
    let past = client.get("/v1/sweeps").await.expect(200);
    assert!(
        past.body["sweeps"].as_array().unwrap().iter().any(|row| row["cleaned_up"] == 50),
        "{}",
        past.text
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_row_s_failure_stops_no_other() {
    let mut system = quiet().start().await;
    let client = system.client();
    let ids = waiting(&system, &client, 3, json!({})).await;
    let broken = system.schema().execute(
        "UPDATE journal SET kind = 'nonsense' WHERE seq = 1 AND execution = (SELECT execution FROM approvals ORDER BY expires_at LIMIT 1)",
    );
    assert_eq!(broken, 1);
    let later = an_hour_later(&mut system).await;
    assert_eq!(sweep(&later, json!({})).await, [3, 2, 1, 0, 3]);
    let mut failed = 0;
    for id in &ids {
        failed += usize::from(client.execution(id).await["status"] == "failed");
    }
    assert_eq!(failed, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_decided_the_paused_and_the_cancelled_are_left_alone() {
    let mut system = quiet().start().await;
    let client = system.client();
    let ids = waiting(&system, &client, 4, json!({})).await;
    system.workers[0].kill9();
    client.approve(&ids[0], "c1").await;
    client.post(&format!("/v1/executions/{}/cancel", ids[1]), &json!({})).await.expect(202);
    client.post(&format!("/v1/executions/{}/pause", ids[2]), &json!({})).await.expect(202);
    let later = an_hour_later(&mut system).await;
    assert_eq!(sweep(&later, json!({})).await, [1, 1, 0, 0, 1]);
    assert_eq!(client.execution(&ids[2]).await["reason"], "paused");
    assert_eq!(client.execution(&ids[3]).await["reason"], "approval_timeout");
    // A decision made in time stays valid however late it is performed.
    system.start_worker(&[("database.url", &system.schema().url_with(&[("holdpoint.clock_offset", HOUR)]))]);
    client.wait_status(&ids[0], "completed").await;
    assert_eq!(system.tools.count("/pay"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_sees_its_caller_s_rows_only_and_cron_sees_all() {
    let mut system = quiet().set("api.cron_secret", "a long cron secret").start().await;
    let client = system.client();
    let other_key = system.make_key("other", "shop", "admin");
    let other = client.with_key(Some(&other_key));
    let mine = waiting(&system, &client, 2, json!({})).await;
    let theirs = waiting(&system, &other, 2, json!({})).await;
    let later = an_hour_later(&mut system).await;
    assert_eq!(sweep(&later, json!({})).await, [2, 2, 0, 0, 2]);
    assert_eq!(client.execution(&mine[0]).await["status"], "failed");
    assert_eq!(other.execution(&theirs[0]).await["status"], "suspended");
    for (key, method) in
        [(None, "GET"), (Some("wrong"), "GET"), (Some("a long cron secre"), "POST"), (Some(""), "POST")]
    {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let caller = later.with_key(key);
        caller.send(caller.builder(method, CRON)).await.expect_problem(401, "unauthorized");
        assert_eq!(other.execution(&theirs[0]).await["status"], "suspended");
    }
    later.get(CRON).await.expect_problem(401, "unauthorized");
    let cron = later.with_key(Some("a long cron secret"));
    assert_eq!(counts(&cron.get(CRON).await.expect(200).body), [2, 2, 0, 0, 2]);
    assert_eq!(counts(&cron.post(CRON, &json!({})).await.expect(200).body), [0; 5]);
    assert_eq!(other.execution(&theirs[0]).await["status"], "failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_secret_the_cron_door_is_closed() {
    let system = quiet().roles(1, 0, 0).start().await;
    for key in [None, Some(""), Some("null"), Some("undefined")] {
        let caller = system.client().with_key(key);
        caller.get(CRON).await.expect_problem(401, "unauthorized");
    }
    system.client().get(CRON).await.expect_problem(401, "unauthorized");
    let client = system.client();
    for body in [
        json!({"limit": 0}),
        json!({"limit": 1001}),
        json!({"limit": "5"}),
        json!({"timeout": 0}),
        json!({"timeout": "-1s"}),
        json!({"timeout": "soon"}),
        json!({"dry_run": 1}),
        json!({"surprise": true}),
    ] {
        let answer = client.post("/v1/sweeps/stale", &body).await;
        assert_eq!(answer.status, 400, "{body}: {}", answer.text);
    }
    for role in ["submit", "approve", "read", "agent"] {
        let key = system.make_key("acme", "shop", role);
        let caller = client.with_key(Some(&key));
        caller.post("/v1/sweeps/stale", &json!({})).await.expect_problem(403, "forbidden");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_sweeps_at_once_count_each_row_once() {
    let mut system = quiet().start().await;
    let client = system.client();
    let ids = waiting(&system, &client, 30, json!({})).await;
    let later = an_hour_later(&mut system).await;
    let sweeps = (0..20).map(|_| sweep(&later, json!({})));
    let reports = futures_util::future::join_all(sweeps).await;
    assert_eq!(reports.iter().map(|report| report[1]).sum::<i64>(), 30);
    for report in &reports {
        assert_eq!((report[2], report[4]), (0, report[1] + report[2] + report[3]));
    }
    for id in &ids {
        let kinds = client.event_kinds(id).await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "execution.failed").count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_against_a_sweep_has_one_winner() {
    let mut system = quiet().start().await;
    let client = system.client();
    let ids = waiting(&system, &client, 40, json!({})).await;
    let later = an_hour_later(&mut system).await;
    let yes = json!({"approved": true});
    let decisions = futures_util::future::join_all(ids.iter().map(|id| client.decide(id, "c1", &yes)));
    let (answers, report) = tokio::join!(decisions, sweep(&later, json!({})));
    let taken = answers.iter().filter(|answer| answer.status == 200).count();
    assert!(answers.iter().all(|answer| matches!(answer.status, 200 | 410)), "{answers:?}");
    for (id, answer) in ids.iter().zip(&answers) {
        client.wait_status(id, if answer.status == 200 { "completed" } else { "failed" }).await;
    }
    assert_eq!(taken as i64 + report[1], 40);
    assert_eq!(system.tools.count("/pay"), taken);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_s_sweep_expires_by_itself() {
    let system = Setup::services().start().await;
    let client = system.client();
    let ids = waiting(&system, &client, 2, json!({})).await;
    system.schema().execute("UPDATE approvals SET expires_at = hp_now()");
    for id in &ids {
        assert_eq!(client.wait_status(id, "failed").await["reason"], "approval_timeout");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_start_begins_when_it_is_due() {
    let mut system = Setup::services().start().await;
    let client = system.client();
    let id = client.start_with(json!({"workflow": "holdpoint.noop", "delay": "59m"})).await;
    let other = client.start_with(json!({"workflow": "holdpoint.noop"})).await;
    client.wait_status(&other, "completed").await;
    assert_eq!(client.execution(&id).await["status"], "queued");
    let url = system.schema().url_with(&[("holdpoint.clock_offset", HOUR)]);
    system.start_worker(&[("database.url", &url)]);
    client.wait_status(&id, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_without_a_worker_fails_nobody() {
    let mut system = Setup::services().roles(1, 0, 1).start().await;
    let client = system.client();
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(client.start_with(json!({"workflow": "holdpoint.noop"})).await);
    }
    let later = system.schema().url_with(&[("holdpoint.clock_offset", HOUR)]);
    system.schedulers.clear();
    system.start_scheduler(&[("database.url", &later)]);
    // Ticks come due and are emitted, with nobody there to carry them out.
    let schema = system.schema();
    let emitted = "SELECT count(*) FROM ticks WHERE emitted_at IS NOT NULL";
    until_true("ticks are emitted", SOON, || schema.count(emitted) > 0).await;
    system.start_worker(&[("database.url", &later)]);
    for id in &ids {
        client.wait_status(id, "completed").await;
    }
    assert_eq!(system.schema().count("SELECT count(*) FROM executions WHERE status <> 'completed'"), 0);
}

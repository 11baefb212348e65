//! How long finished executions are kept, and what is written of them before they go.

use holdpoint_tests::client::Client;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

/// Two hours: what just finished was kept for long enough then.
const LATER: (&str, &str) = ("holdpoint.clock_offset", "7200000000");

/// The number of the process whose clock is ahead.
const LATER_API: usize = 1;

fn quiet() -> Setup {
    Setup::services().without_sweeps()
}

async fn finished(client: &Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        let body = json!({"workflow": "holdpoint.noop", "labels": {"n": n.to_string()}});
        ids.push(client.post("/v1/executions", &body).await.expect(202).id());
    }
    for id in &ids {
        client.wait_status(id, "completed").await;
    }
    ids
}

/// An API process of the same system whose database's clock is ahead.
async fn later(system: &mut System) -> Client {
    let url = system.schema().url_with(&[LATER]);
    let api = system.start_api(&[("database.url", &url)]);
    assert_eq!(api, LATER_API);
    system.wait_ready(api).await;
    system.client_of(api)
}

async fn keep(client: &Client, body: Value) -> Value {
    let request = client.builder(Method::PUT, "/v1/retention").json(&body);
    client.send(request).await.expect(200).body
}

async fn sweep(client: &Client, body: Value) -> [i64; 4] {
    let answer = client.post("/v1/sweeps/retention", &body).await.expect(200).body;
    ["scanned", "cleaned_up", "failed", "skipped"].map(|field| answer[field].as_i64().unwrap())
}

/// The same, until a pass does something: its two seconds may be over before it has begun.
async fn sweep_well(client: &Client, body: Value) -> [i64; 4] {
    until("a pass does something", SOON, || async {
        let done = sweep(client, body.clone()).await;
        (done != [0; 4]).then_some(done)
    })
    .await
}

async fn is_there(client: &Client, id: &str) -> bool {
    match client.get(&format!("/v1/executions/{id}")).await {
        answer if answer.status == 404 => false,
        answer => answer.expect(200).body["id"] == id,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_says_how_long_and_only_its_own_goes() {
    let mut system = quiet().start().await;
    let client = system.client();
    let first = client.get("/v1/retention").await.expect(200).body;
    assert_eq!((&first["finished_after"], &first["effective"]), (&Value::Null, &json!("never")));
    for bad in [json!({"finished_after": "59m"}), json!({"finished_after": 5}), json!({"days": 3}), json!([])]
    {
        let request = client.builder(Method::PUT, "/v1/retention").json(&bad);
        client.send(request).await.expect_problem(400, "invalid_body");
    }
    client.post("/v1/sweeps/retention", &json!({"limit": 0})).await.expect_problem(400, "invalid_body");
    let reader = client.with_key(Some(&system.make_key("acme", "shop", "read")));
    reader.get("/v1/retention").await.expect_problem(403, "forbidden");

    let ids = finished(&client, 5).await;
    let other = client.with_key(Some(&system.make_key("globex", "shop", "admin")));
    let foreign = finished(&other, 1).await;
    let later = later(&mut system).await;
    assert_eq!(sweep(&later, json!({})).await, [0; 4], "it is kept for ever");
    let set = keep(&client, json!({"finished_after": "1h"})).await;
    assert_eq!((&set["finished_after"], &set["effective"]), (&json!("1h"), &json!("1h")));
    assert_eq!(sweep(&client, json!({})).await, [0; 4], "it is young");
    assert_eq!(sweep_well(&later, json!({"dry_run": true})).await, [5, 0, 0, 0]);
    assert_eq!(sweep_well(&later, json!({"limit": 2})).await, [2, 2, 0, 0]);
    assert!(!is_there(&client, &ids[0]).await && !is_there(&client, &ids[1]).await, "the oldest first");
    assert_eq!(sweep_well(&later, json!({})).await, [3, 3, 0, 0]);
    assert_eq!(sweep(&later, json!({})).await, [0; 4]);
    let left = client.get("/v1/executions").await.expect(200).body;
    assert_eq!(left, json!({"executions": [], "next_cursor": null}));
    let events = client.get(&format!("/v1/executions/{}/events", ids[0])).await;
    events.expect_problem(404, "not_found");
    assert!(is_there(&other, &foreign[0]).await);
    let told = "SELECT count(*) FROM audit WHERE act = 'retention.put'";
    assert_eq!(system.schema().count(told), 1);
}

/// The lines of an export.
async fn export(client: &Client, query: &str) -> Vec<Value> {
    let request = client.builder(Method::GET, &format!("/v1/export/executions{query}"));
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_to_be_exported_goes_when_it_was() {
    let mut system = quiet().start().await;
    let client = system.client();
    keep(&client, json!({"finished_after": "1h", "require_export": true})).await;
    let ids = finished(&client, 3).await;
    let later = later(&mut system).await;
    assert_eq!(sweep(&later, json!({})).await, [0; 4], "nothing was exported");

    let soon = export(&client, "").await;
    assert_eq!(soon[0]["end"]["executions"], 0, "what may still end is no part of it");
    let lines = export(&later, "").await;
    assert_eq!((lines.len(), &lines[3]["end"]["executions"]), (4, &json!(3)));
    for (line, id) in lines.iter().zip(&ids) {
        assert_eq!(line["execution"]["id"], id.as_str());
        assert_eq!(line["steps"].as_array().unwrap().len(), 3);
        assert_eq!(line["approvals"], json!([]));
        let events = line["events"].as_array().unwrap();
        assert_eq!(events.last().unwrap()["type"], "execution.completed");
        assert_eq!(events.last().unwrap()["seq"], events.len());
    }
    let rest = export(&later, &format!("?cursor={}", lines[0]["cursor"].as_str().unwrap())).await;
    assert_eq!(rest[0]["execution"]["id"], ids[1].as_str(), "it goes on behind the line");
    let end = lines[3]["end"]["finished_before"].as_str().unwrap();
    let none = export(&later, &format!("?finished_after={end}")).await;
    assert_eq!(none.len(), 1);
    let ahead = "/v1/export/executions?finished_before=2999-01-01T00:00:00Z";
    later.get(ahead).await.expect_problem(400, "invalid_parameter");

    let gap = json!({"finished_after": end, "finished_before": end});
    later.post("/v1/retention/exported", &gap).await.expect_problem(409, "export_gap");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.ndjson");
    let told = command(&system, &["export", "--mark", "--to", file.to_str().unwrap()]);
    assert_eq!(told.lines().count(), 0, "{told}");
    let written = std::fs::read_to_string(&file).unwrap();
    assert_eq!(written.lines().count(), 4);
    assert!(client.get("/v1/retention").await.expect(200).body["exported_before"].is_string());
    assert_eq!(sweep_well(&later, json!({})).await, [3, 3, 0, 0]);
}

fn command(system: &System, arguments: &[&str]) -> String {
    system
        .holdpoint("client")
        .args(arguments)
        .env("HOLDPOINT_URL", system.url_of(LATER_API))
        .env("HOLDPOINT_KEY", system.admin())
        .run()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scheduler_s_passes_remove_what_was_kept_long_enough() {
    // The worker that closes a tick says when the next one is due.
    let mut system = quiet().set("scheduler.retention_period_ms", "200").start().await;
    let client = system.client();
    let ids = finished(&client, 3).await;
    keep(&client, json!({"finished_after": "1h"})).await;
    let url = system.schema().url_with(&[LATER]);
    system.start_worker(&[("database.url", &url)]);
    system.start_scheduler(&[("scheduler.enabled", "true")]);
    until("they are gone", SOON, || async { (!is_there(&client, &ids[2]).await).then_some(()) }).await;
    // What a pass did is written at its end, a moment after.
    let removed = until("the pass is written down", SOON, || async {
        let past = client.get("/v1/sweeps").await.expect(200).body;
        let rows = past["sweeps"].as_array().unwrap().iter().filter(|row| row["kind"] == "retention");
        let removed: i64 = rows.map(|row| row["cleaned_up"].as_i64().unwrap()).sum();
        (removed >= 3).then_some(removed)
    });
    assert_eq!(removed.await, 3);
}

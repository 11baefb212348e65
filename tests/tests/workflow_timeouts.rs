//! What a timeout of a workflow ends, and what it leaves to a person.

use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::{Call, Reply};
use serde_json::{Value, json};

on_both! {
    what_a_timeout_cut_off_is_not_sent_again;
    a_child_of_a_task_whose_time_is_over_is_cancelled;
}

async fn put(client: &Client, name: &str, tasks: Value) {
    let document = json!({"dsl": "1.0.1", "namespace": "tests", "name": name, "version": "1.0.0"});
    let workflow = json!({"document": document, "do": tasks});
    let request = client.builder(reqwest::Method::PUT, &format!("/v1/workflows/{name}"));
    client.send(request.json(&workflow)).await.expect(201);
}

/// Time enough to begin what it cuts off.
fn short() -> Value {
    json!({"after": {"seconds": 5}})
}

/// An answer that nobody waits for.
fn held() -> Reply {
    Reply::Held(Gate::closed(), Box::new(Reply::Json(json!({}))))
}

async fn what_a_timeout_cut_off_is_not_sent_again(system: System) {
    let client = system.client();
    system.tools.script("/pay", [held(), Reply::Json(json!("paid"))]);
    let with = json!({"method": "post", "endpoint": system.tools.url("/pay"), "body": {"n": "${ $task.startedAt.epoch.milliseconds }"}});
    let pay = json!({"call": "http", "with": with, "timeout": short()});
    let retry = json!({"limit": {"attempt": {"count": 5}}});
    put(&client, "pays", json!([{"t": {"try": [{"pay": pay}], "catch": {"retry": retry}}}])).await;
    let id = client.start_with(json!({"workflow": "pays", "input": {}})).await;
    client.wait_suspended(&id, "outcome_unknown").await;
    assert_eq!(system.tools.count("/pay"), 1);
    let step = client.steps(&id).await.remove(0);
    assert_eq!((&step["status"], &step["finished_at"]), (&json!("unknown"), &Value::Null), "{step}");
    let told = client.get(&format!("/v1/executions/{id}/diagnosis")).await.expect(200).body;
    assert_eq!(told["code"], "outcome_unknown", "{told}");
    let resolve = format!("/v1/executions/{id}/steps/{}/resolve", step["step"]);
    client.post(&resolve, &json!({"outcome": "did_not_happen"})).await.expect(202);
    assert_eq!(client.wait_status(&id, "completed").await["output"], "paid");
    let calls = system.tools.calls("/pay");
    let told = |call: &Call| (call.key(), call.json());
    assert_eq!(calls.len(), 2);
    assert_eq!(told(&calls[0]), told(&calls[1]), "the same call");
}

async fn a_child_of_a_task_whose_time_is_over_is_cancelled(system: System) {
    let client = system.client();
    put(&client, "sleeper", json!([{"sleep": {"wait": {"hours": 1}}}])).await;
    let run = json!({"workflow": {"namespace": "tests", "name": "sleeper", "version": "1.0.0"}});
    let child = json!({"run": run, "timeout": short()});
    let hold = json!({"hold": {"wait": {"hours": 1}}});
    put(&client, "parent", json!([{"t": {"try": [{"child": child}], "catch": {}}}, hold])).await;
    let id = client.start_with(json!({"workflow": "parent", "input": {}})).await;
    until("it goes on without its child", SOON, async || {
        let steps = client.steps(&id).await;
        let failed = steps.iter().any(|step| step["status"] == "failed" && step["name"] == "child");
        failed.then_some(())
    })
    .await;
    until("the child is over", SOON, async || {
        let listed = client.get("/v1/executions?workflow=sleeper").await.expect(200).body;
        (listed["executions"][0]["status"] == "cancelled").then_some(())
    })
    .await;
    client.wait_suspended(&id, "timer").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_decided_in_time_is_counted() {
    let system = Setup::embedded().start().await;
    let client = system.client();
    let with = |more: Value| {
        let mut with = json!({"title": "Well?", "expiresAfter": {"milliseconds": 100}});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!([{"ask": {"call": "approval:1.0.0@default", "with": with}}])
    };
    let counted = async || {
        let shown = client.get("/metrics").await.expect(200).text;
        let line = shown.lines().find_map(|line| line.strip_prefix("holdpoint_approvals_expired_total "));
        line.map(str::to_owned)
    };
    assert_eq!(counted().await.as_deref(), Some("0"));
    put(&client, "fails", with(json!({}))).await;
    put(&client, "denies", with(json!({"onTimeout": "deny"}))).await;
    for (workflow, status, count) in [("fails", "failed", "1"), ("denies", "completed", "2")] {
        let id = client.start_with(json!({"workflow": workflow, "input": {}})).await;
        client.wait_status(&id, status).await;
        let is_so = async || (counted().await.as_deref() == Some(count)).then_some(());
        until("it is counted once", SOON, is_so).await;
    }
}

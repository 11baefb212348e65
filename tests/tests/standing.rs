//! How workflows stand, as callers see it: what a final failure stopped, who needs a person, and
//! what is left of a workflow that was deleted.

use holdpoint_tests::client::{Answer, Client};
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    what_stopped_a_schedule_is_shown;
    all_that_need_a_person_are_counted;
    a_workflow_that_was_deleted_is_not_repeated;
}

/// A workflow that fails at once with this error.
async fn put(client: &Client, name: &str, kind: &str) {
    let error =
        json!({"type": format!("https://serverlessworkflow.io/spec/1.0.0/errors/{kind}"), "status": 401});
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "tests", "name": name, "version": "1.0.0"},
        "do": [{"stop": {"raise": {"error": error}}}],
    });
    let put = client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(&document);
    client.send(put).await.expect(201);
}

async fn fail(client: &Client, workflow: &str) -> String {
    let id = client.start_with(json!({"workflow": workflow})).await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!(failed["reason"], "auth", "{failed}");
    id
}

async fn put_schedule(client: &Client, name: &str, workflow: &str) -> Answer {
    let body = json!({"workflow": workflow, "cron": "0 3 * * *"});
    client.send(client.builder(Method::PUT, &format!("/v1/schedules/{name}")).json(&body)).await
}

async fn schedule(client: &Client, name: &str) -> (Value, usize) {
    let shown = client.get(&format!("/v1/schedules/{name}")).await.expect(200).body;
    (shown["stopped"].clone(), shown["next_ticks"].as_array().unwrap().len())
}

async fn listed(client: &Client, place: &str, name: &str) -> Value {
    let page = client.get(&format!("/v1/{place}")).await.expect(200).body;
    let all = page[place].as_array().unwrap().iter();
    all.clone().find(|row| row["name"] == name).unwrap_or_else(|| panic!("no {name}: {page}")).clone()
}

async fn act(client: &Client, path: &str) -> Value {
    client.post(path, &json!({})).await.expect(200).body
}

async fn what_stopped_a_schedule_is_shown(system: System) {
    let client = system.client();
    put(&client, "ship", "authentication").await;
    put(&client, "pack", "authentication").await;
    for (schedule, workflow) in [("nightly", "ship"), ("daily", "pack"), ("noop", "holdpoint.noop")] {
        let made = put_schedule(&client, schedule, workflow).await.expect(201).body;
        assert_eq!((&made["stopped"], made["next_ticks"].as_array().unwrap().len()), (&Value::Null, 5));
    }
    fail(&client, "ship").await;
    let shown = client.get("/v1/workflows/ship").await.expect(200).body;
    assert_eq!((&shown["state"], &shown["schedule_stopped"]), (&json!("active"), &json!(true)));
    let row = listed(&client, "workflows", "ship").await;
    assert_eq!((&row["state"], &row["schedule_stopped"]), (&json!("active"), &json!(true)));
    let row = listed(&client, "workflows", "pack").await;
    assert_eq!((&row["state"], &row["schedule_stopped"]), (&json!("active"), &json!(false)));
    assert_eq!(schedule(&client, "nightly").await, (json!("workflow_failed"), 0));
    assert_eq!(listed(&client, "schedules", "nightly").await["stopped"], "workflow_failed");
    assert_eq!(listed(&client, "schedules", "daily").await["stopped"], Value::Null);
    let again = put_schedule(&client, "nightly", "ship").await.expect(200).body;
    assert_eq!(again["stopped"], "workflow_failed");

    assert_eq!(act(&client, "/v1/workflows/ship/resume").await["schedule_stopped"], false);
    assert_eq!(schedule(&client, "nightly").await, (Value::Null, 5));
    for (verb, why) in [("pause", "workflow_paused"), ("archive", "workflow_archived")] {
        act(&client, &format!("/v1/workflows/ship/{verb}")).await;
        assert_eq!(schedule(&client, "nightly").await, (json!(why), 0));
    }
    assert_eq!(listed(&client, "workflows", "ship").await["state"], "archived");
    let test = client.post("/v1/workflows/ship/test-runs", &json!({})).await;
    assert_eq!(test.expect_problem(409, "workflow_not_active").body["state"], "archived");
    act(&client, "/v1/workflows/ship/pause").await;
    client.post("/v1/workflows/ship/test-runs", &json!({})).await.expect(202);
    let delete = client.builder(Method::DELETE, "/v1/workflows/ship");
    client.send(delete).await.expect(204);
    assert_eq!(schedule(&client, "nightly").await, (json!("unknown_definition"), 0));
    assert_eq!(schedule(&client, "noop").await, (Value::Null, 5));
}

async fn all_that_need_a_person_are_counted(system: System) {
    let client = system.client();
    for name in ["a", "b", "c"] {
        put(&client, name, "authentication").await;
        fail(&client, name).await;
    }
    let page = |query: String| {
        let client = client.clone();
        async move { client.get(&format!("/v1/attention?limit=2{query}")).await.expect(200).body }
    };
    let first = page(String::new()).await;
    assert_eq!((&first["total"], &first["attention"][0]["count"]), (&json!(3), &json!(2)));
    let second = page(format!("&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    assert_eq!((&second["total"], &second["attention"][0]["count"]), (&json!(3), &json!(1)));
    act(&client, "/v1/attention/b/acknowledge").await;
    assert_eq!(page(String::new()).await["total"], 2);
}

async fn a_workflow_that_was_deleted_is_not_repeated(system: System) {
    let client = system.client();
    put(&client, "ship", "authentication").await;
    let id = fail(&client, "ship").await;
    client.send(client.builder(Method::DELETE, "/v1/workflows/ship")).await.expect(204);
    let retry = format!("/v1/executions/{id}/retry");
    client.post(&retry, &json!({})).await.expect_problem(404, "unknown_definition");
    put(&client, "ship", "authentication").await;
    let anew = client.get("/v1/workflows/ship").await.expect(200).body;
    assert_eq!((&anew["version"], &anew["schedule_stopped"]), (&json!(2), &json!(false)));
    client.post(&retry, &json!({})).await.expect(202);
}

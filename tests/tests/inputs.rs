//! An input that a workflow's `input.schema` refuses: the caller is told, and nobody else is
//! troubled by it.

use std::sync::Arc;

use holdpoint_tests::client::{Answer, Client};
use holdpoint_tests::on_both;
use holdpoint_tests::producer::{Producer, command};
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

on_both! {
    a_start_with_a_wrong_input_is_refused_and_leaves_nothing;
    the_same_start_is_the_same_execution_under_every_schema with |setup: Setup| setup.roles(2, 1, 1);
    a_schedule_with_a_wrong_input_is_not_taken;
    starts_beside_new_versions_never_run_what_does_not_fit with |setup: Setup| setup.roles(2, 1, 1);
}

/// A workflow whose input is an object with `n` of this type.
fn taking(kind: &str, label: &str) -> Value {
    let document = json!({"type": "object", "required": ["n"], "properties": {"n": {"type": kind}}});
    json!({
        "document": {"dsl": "1.0.3", "namespace": "tests", "name": "count", "version": label},
        "input": {"schema": {"document": document}},
        "do": [{"keep": {"set": {"n": "${ .n }"}}}],
    })
}

async fn put(client: &Client, document: &Value) -> Answer {
    let name = document["document"]["name"].as_str().unwrap();
    client.send(client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(document)).await
}

async fn start(client: &Client, body: Value) -> Answer {
    client.post("/v1/executions", &body).await
}

async fn is_untroubled(client: &Client, executions: usize) {
    let state = client.get("/v1/workflows/count").await.expect(200).body["state"].clone();
    assert_eq!(state, "active");
    let listed = client.get("/v1/executions").await.expect(200).body["executions"].clone();
    assert_eq!(listed.as_array().unwrap().len(), executions, "{listed}");
}

async fn a_start_with_a_wrong_input_is_refused_and_leaves_nothing(system: System) {
    let client = system.client();
    put(&client, &taking("integer", "1.0.0")).await.expect(201);
    let wrong = json!({"workflow": "count", "input": {"n": "one"}});
    let told = start(&client, wrong.clone()).await.expect_problem(400, "invalid_input").body;
    assert_eq!((&told["pointer"], &told["field"]), (&json!("/input/n"), &json!("input")));
    assert!(told["detail"].as_str().unwrap().contains("is not of type \"integer\""), "{told}");
    let told = start(&client, json!({"workflow": "count"})).await.expect_problem(400, "invalid_input").body;
    assert_eq!(told["pointer"], "/input");
    let test = client.post("/v1/workflows/count/test-runs", &json!({"input": {"n": 1.5}})).await;
    assert_eq!(test.expect_problem(400, "invalid_input").body["pointer"], "/input/n");
    is_untroubled(&client, 0).await;

    let items =
        json!({"executions": [wrong, {"workflow": "count", "input": {"n": 1}}, {"workflow": "none"}]});
    let results = client.post("/v1/executions/batch", &items).await.expect(200).body["results"].clone();
    assert_eq!(results[0]["problem"]["code"], "invalid_input", "{results}");
    assert_eq!(results[2]["problem"]["code"], "unknown_definition", "{results}");
    let done = client.wait_status(results[1]["id"].as_str().unwrap(), "completed").await;
    assert_eq!(done["output"], json!({"n": 1}));
    is_untroubled(&client, 1).await;
}

async fn the_same_start_is_the_same_execution_under_every_schema(system: System) {
    let (client, other) = (system.client(), system.client_of(system.apis.len() - 1));
    put(&client, &taking("integer", "1.0.0")).await.expect(201);
    let body = json!({"workflow": "count", "input": {"n": 1}});
    let keyed = |client: &Client, key: &'static str| {
        let (client, body) = (client.clone(), body.clone());
        async move { client.post_with("/v1/executions", &[("idempotency-key", key)], &body).await }
    };
    let first = keyed(&other, "order-1").await.expect(202).id();
    put(&client, &taking("string", "2.0.0")).await.expect(201);
    // The other process has only heard of the first version.
    for client in [&other, &client] {
        assert_eq!(keyed(client, "order-1").await.expect(200).id(), first);
        keyed(client, "order-2").await.expect_problem(400, "invalid_input");
        let changed = json!({"workflow": "count", "input": {"n": 2}});
        let again = client.post_with("/v1/executions", &[("idempotency-key", "order-1")], &changed).await;
        again.expect_problem(422, "idempotency_mismatch");
    }
    let old = json!({"workflow": "count", "version": 1, "input": {"n": 3}});
    let id = start(&other, old).await.expect(202).id();
    client.wait_status(&id, "completed").await;
    is_untroubled(&client, 2).await;
}

async fn a_schedule_with_a_wrong_input_is_not_taken(system: System) {
    let client = system.client();
    put(&client, &taking("integer", "1.0.0")).await.expect(201);
    let put_schedule = |input: Value| {
        let body = json!({"workflow": "count", "every": "1h", "input": input});
        client.send(client.builder(Method::PUT, "/v1/schedules/hourly").json(&body))
    };
    let told = put_schedule(json!({"n": []})).await.expect_problem(400, "invalid_input").body;
    assert_eq!(told["pointer"], "/input/n");
    client.get("/v1/schedules/hourly").await.expect(404);
    put_schedule(json!({"n": 7})).await.expect(201);
    // A workflow's own schedule has no input to give.
    let mut own = taking("integer", "2.0.0");
    own["schedule"] = json!({"every": {"hours": 1}});
    let told = put(&client, &own).await.expect_problem(400, "invalid_workflow").body;
    assert_eq!(told["errors"][0]["pointer"], "/schedule", "{told}");
    own["input"]["schema"]["document"]["type"] = json!(["object", "null"]);
    put(&client, &own).await.expect(201);
}

/// Odd versions take a number, even ones a text; whatever is started is of a version that takes
/// what it was started with.
async fn starts_beside_new_versions_never_run_what_does_not_fit(system: System) {
    let apis = system.apis.len();
    put(&system.client(), &taking("integer", "1.0.0")).await.expect(201);
    let barrier = Arc::new(Barrier::new(5));
    let starters = (0..4).map(|n| {
        let (client, barrier) = (system.client_of(n % apis), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            let mut started = Vec::new();
            for round in 0..20 {
                let value = if (n + round) % 2 == 0 { json!(round) } else { json!("text") };
                let answer = start(&client, json!({"workflow": "count", "input": {"n": value}})).await;
                match answer.status {
                    202 => started.push((answer.body["definition"]["version"].as_i64().unwrap(), value)),
                    _ => drop(answer.expect_problem(400, "invalid_input")),
                }
            }
            started
        })
    });
    let starters: Vec<_> = starters.collect();
    barrier.wait().await;
    let client = system.client();
    for version in 2..=12 {
        let kind = if version % 2 == 0 { "string" } else { "integer" };
        put(&client, &taking(kind, &format!("{version}.0.0"))).await.expect(201);
    }
    let mut count = 0;
    for starter in starters {
        for (version, value) in starter.await.unwrap() {
            assert_eq!(version % 2 == 0, value.is_string(), "version {version} with {value}");
            count += 1;
        }
    }
    assert!(count > 0, "some of them fit");
    let failed = client.get("/v1/executions?status=failed").await.expect(200).body["executions"].clone();
    assert_eq!(failed, json!([]));
    is_untroubled(&client, count.min(50)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_with_a_wrong_input_is_rejected_and_its_id_is_free() {
    let system = Setup::services().start().await;
    let (client, mut producer) = (system.client(), Producer::connect(&system).await);
    put(&client, &taking("integer", "1.0.0")).await.expect(201);
    let key = system.make_key("acme", "shop", "submit");
    let order = |id: &str, n: Value| {
        let data = json!({"api_key": key, "workflow": "count", "input": {"n": n}});
        command("holdpoint.execution.start.v1", id, data)
    };
    producer.send(&order("m-1", json!("one"))).await;
    let told = producer.rejected().await;
    assert_eq!((&told["code"], &told["pointer"]), (&json!("invalid_input"), &json!("/input/n")));
    producer.send(&order("m-1", json!(1))).await;
    let id = producer.accepted().await;
    client.wait_status(&id, "completed").await;
    // What was accepted once is answered so again, whatever the latest version takes.
    put(&client, &taking("string", "2.0.0")).await.expect(201);
    producer.send(&order("m-1", json!(1))).await;
    assert_eq!(producer.accepted().await, id);
    is_untroubled(&client, 1).await;
    producer.close().await;
}

//! Lifecycle events leave by the exchange: all of them, in order for each execution.

use std::time::Duration;

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::Client;
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::subscriber::Subscriber;
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(120);

async fn enable(client: &Client) {
    let put = client.builder(Method::PUT, "/v1/event-settings").json(&json!({"exchange": true}));
    assert_eq!(client.send(put).await.expect(200).body, json!({"exchange": true}));
}

async fn start_noops(client: &Client, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count.div_ceil(100) {
        let batch = vec![json!({"workflow": "holdpoint.noop"}); 100.min(count - ids.len())];
        let answer = client.post("/v1/executions/batch", &json!({"executions": batch})).await.expect(200);
        let results = answer.body["results"].as_array().unwrap().clone();
        ids.extend(results.iter().map(|result| result["id"].as_str().unwrap().to_owned()));
    }
    ids
}

async fn wait_for(system: &System, subscriber: &mut Subscriber, events: usize) {
    let begun = std::time::Instant::now();
    while subscriber.distinct() < events {
        assert!(begun.elapsed() < LONG, "{} of {events} events came", subscriber.distinct());
        subscriber.take(system).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_sees_what_happened_and_nobody_elses() {
    let system = Setup::services().start().await;
    let client = system.client();
    let stranger = client.with_key(Some(&system.make_key("globex.eu", "shop", "admin")));
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.answer_by(|request| match request.turns() {
        0 => Turn::call(&[("c1", "pay", json!({"n": 1}))]),
        _ => Turn::say("done"),
    });
    assert_eq!(client.get("/v1/event-settings").await.expect(200).body, json!({"exchange": false}));
    let before = client.start("clerk").await;
    client.wait_pending(&before, 1).await;
    let mut ours = Subscriber::bind(&system, "acme.*.*").await;
    let mut theirs = Subscriber::bind(&system, "globex%2Eeu.execution.completed").await;
    enable(&client).await;
    enable(&stranger).await;
    let id = client.start("clerk").await;
    client.wait_pending(&id, 1).await;
    client.deny(&id, "c1", "no").await;
    client.wait_status(&id, "completed").await;
    let cancelled = client.start("clerk").await;
    client.wait_pending(&cancelled, 1).await;
    client.post(&format!("/v1/executions/{cancelled}/cancel"), &json!({})).await.expect(202);
    let other = start_noops(&stranger, 1).await.remove(0);
    wait_for(&system, &mut theirs, 1).await;
    wait_for(&system, &mut ours, 11).await;

    let by_execution = ours.first_of_each();
    assert!(!by_execution.contains_key(&before), "what happened before is not told");
    assert_eq!(
        types(&by_execution[&id]),
        [
            "holdpoint.execution.started.v1",
            "holdpoint.approval.requested.v1",
            "holdpoint.execution.suspended.v1",
            "holdpoint.approval.decided.v1",
            "holdpoint.execution.resumed.v1",
            "holdpoint.execution.completed.v1",
        ]
    );
    assert_eq!(types(&by_execution[&cancelled]).last(), Some(&"holdpoint.execution.cancelled.v1"));
    // What is told is what the stream shows.
    let stream = client.events(&id).await;
    for event in &by_execution[&id] {
        let seq = event["data"]["seq"].as_i64().unwrap();
        let shown = stream.iter().find(|shown| shown["seq"] == seq).unwrap();
        for member in ["type", "at", "execution_id", "data"] {
            assert_eq!(event["data"][member], shown[member], "{member}");
        }
        assert_eq!(event["data"]["kind"], "agent");
        assert_eq!(event["data"]["definition"], json!({"name": "clerk", "version": 1}));
    }
    let told = &ours.came[0];
    assert_eq!(told.key, "acme.execution.started");
    assert_eq!(told.body["source"], "/holdpoint/acme/shop");
    assert_eq!(told.properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
    assert_eq!(told.properties.message_id().as_ref().unwrap().as_str(), told.body["id"]);
    assert_eq!(told.properties.kind().as_ref().unwrap().as_str(), told.body["type"]);
    assert_eq!(theirs.came[0].body["subject"], json!(other));
    until("nothing is left to be sent", SOON, || async {
        (system.schema().count("SELECT count(*) FROM outgoing") == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_dies_while_events_are_due_loses_none() {
    let mut broker = PrivateBroker::start();
    let setup = Setup::services().broker(&broker.url()).set("worker.lease_ms", "5000");
    let mut system = setup.roles(1, 1, 1).start().await;
    let client = system.client();
    let mut subscriber = Subscriber::bind(&system, "acme.#").await;
    enable(&client).await;
    // What a subscriber has bound is there afterwards.
    broker.sync_registry();
    broker.kill9();
    let ids = start_noops(&client, 500).await;
    for id in &ids {
        client.wait_status_for(id, "completed", LONG).await;
    }
    assert_eq!(system.schema().count("SELECT count(*) FROM outgoing"), 1_000);
    // The one that sends dies too, between the broker's confirm and the removal.
    system.workers[0].kill9();
    broker.start_again();
    let point = [("HOLDPOINT_FAILPOINT", "worker.events.sent")];
    let dying = system.start_worker(&point);
    system.workers[dying].wait_for_failpoint().await;
    system.workers[dying].kill9();
    for queue in ["advance", "sweeps"] {
        system.purge(queue).await;
    }
    wait_for(&system, &mut subscriber, 1).await;
    let first = subscriber.came.len();
    broker.kill9();
    system.start_worker(&[]);
    broker.start_again();
    wait_for(&system, &mut subscriber, 1_000).await;

    assert!(subscriber.came.len() >= 1_000 + first, "what was sent before the death came again");
    let by_execution = subscriber.first_of_each();
    assert_eq!(by_execution.len(), 500);
    for id in &ids {
        let expected = ["holdpoint.execution.started.v1", "holdpoint.execution.completed.v1"];
        assert_eq!(types(&by_execution[id]), expected, "{id}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_of_events_are_checked() {
    let system = Setup::embedded().start().await;
    let client = system.client();
    let put = |body: Value| {
        let request = client.builder(Method::PUT, "/v1/event-settings").json(&body);
        async { client.send(request).await }
    };
    put(json!({"exchange": "yes"})).await.expect_problem(400, "invalid_body");
    put(json!({"exchange": true, "more": 1})).await.expect_problem(400, "invalid_body");
    put(json!({})).await.expect_problem(400, "invalid_body");
    // Without a broker there is nobody to tell, and nothing piles up.
    enable(&client).await;
    let id = start_noops(&client, 1).await.remove(0);
    client.wait_status(&id, "completed").await;
    until("the events are gone", SOON, || async {
        let shown = client.get("/metrics").await.expect(200).text;
        shown.contains("holdpoint_events_sent_total{channel=\"exchange\"} 2").then_some(())
    })
    .await;
}

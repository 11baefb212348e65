//! What workflows tell outside, on the exchange and to webhooks: the events that they emit, also while the
//! broker is away, and that a run failed for good.

use std::collections::HashMap;

use holdpoint_tests::client::Client;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::subscriber::{Came, Subscriber};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

const SEAL_KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
/// Where the webhook is.
const HOOK: &str = "/hook";

async fn put(client: &Client, name: &str, settings: Value, tasks: Value) {
    let document = json!({
        "document": {
            "dsl": "1.0.3", "namespace": "tests", "name": name, "version": "1.0.0", "metadata": {"holdpoint": settings},
        },
        "do": tasks,
    });
    let put = client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(&document);
    client.send(put).await.expect(201);
}

/// The exchange and a webhook of these types are told.
async fn told(system: &System, types: &[&str]) {
    let client = system.client();
    let put = client.builder(Method::PUT, "/v1/event-settings").json(&json!({"exchange": true}));
    client.send(put).await.expect(200);
    let hook = json!({"url": system.tools.url(HOOK), "types": types});
    client.post("/v1/webhooks", &hook).await.expect(201);
}

/// What came to the webhook, each event once, by the id of its delivery.
fn delivered(system: &System) -> HashMap<String, Value> {
    let calls = system.tools.calls(HOOK);
    calls.iter().map(|call| (call.headers["webhook-id"].to_str().unwrap().to_owned(), call.json())).collect()
}

/// That event was delivered, under the id that it has on the exchange.
fn assert_delivered(system: &System, came: &[Came], event: &Value) {
    let same = came.iter().find(|came| came.body == *event).unwrap();
    let id = same.properties.message_id().as_ref().unwrap().as_str();
    assert!(id.starts_with("evt_"), "{id}");
    assert_eq!(delivered(system)[id], *event);
}

async fn wait_for(system: &System, subscriber: &mut Subscriber, events: usize) {
    let begun = std::time::Instant::now();
    while subscriber.distinct() < events {
        assert!(begun.elapsed() < SOON * 2, "{} of {events} events came", subscriber.distinct());
        subscriber.take(system).await;
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

/// Three events, with a wait and a call between them.
fn emitting(system: &System) -> Value {
    let emit = |n: i32| {
        let with = json!({
            "source": "https://shop.example/orders", "type": format!("com.example.step{n}"),
            "subject": "${ $workflow.id }", "data": {"n": n, "order": "${ $workflow.input.order }"},
        });
        json!({"emit": {"event": {"with": with}}})
    };
    let call = json!({"call": "http", "with": {"method": "get", "endpoint": system.tools.url("/between")}});
    json!([
        {"first": emit(1)}, {"rest": {"wait": {"milliseconds": 20}}}, {"second": emit(2)}, {"between": call},
        {"third": emit(3)},
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_workflow_emits_arrives_in_order_also_after_the_broker_was_away() {
    let mut broker = PrivateBroker::start();
    let setup = Setup::services().broker(&broker.url()).set("outbound.seal_keys", SEAL_KEY);
    let mut system = setup.set("worker.lease_ms", "5000").start().await;
    let client = system.client();
    put(&client, "emits", json!({}), emitting(&system)).await;
    let mut subscriber = Subscriber::bind(&system, "acme.event.emitted").await;
    told(&system, &["holdpoint.event.emitted.v1"]).await;
    let start = |n: usize| client.start_with(json!({"workflow": "emits", "input": {"order": n}}));
    let mut ids = vec![start(0).await];
    wait_for(&system, &mut subscriber, 3).await;
    // What a subscriber has bound is there afterwards.
    broker.sync_registry();
    broker.kill9();
    for n in 1..20 {
        ids.push(start(n).await);
    }
    for id in &ids {
        client.wait_status_for(id, "completed", SOON * 2).await;
    }
    // Webhooks need no broker.
    until("the webhook has them all", SOON * 2, || async { (delivered(&system).len() == 60).then_some(()) })
        .await;
    assert_eq!(subscriber.distinct(), 3, "nobody heard of the others");
    // Whoever was to send them dies as well.
    system.workers[0].kill9();
    broker.start_again();
    system.start_worker(&[]);
    wait_for(&system, &mut subscriber, 60).await;

    let by_execution = subscriber.first_of_each();
    for (n, id) in ids.iter().enumerate() {
        let types: Vec<&str> = by_execution[id].iter().map(|event| event["type"].as_str().unwrap()).collect();
        assert_eq!(types, ["com.example.step1", "com.example.step2", "com.example.step3"], "{id}");
        for (at, event) in by_execution[id].iter().enumerate() {
            assert_eq!(event["data"], json!({"n": at + 1, "order": n}));
            assert_eq!(event["source"], "https://shop.example/orders");
            assert_delivered(&system, &subscriber.came, event);
        }
    }
    let Came { properties, .. } = &subscriber.came[0];
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/cloudevents+json");
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "holdpoint.event.emitted.v1");
    assert!(
        !client.event_kinds(&ids[0]).await.contains(&"event.emitted".to_owned()),
        "they are no events of the execution's stream"
    );
}

fn ship(system: &System, method: &str) -> Value {
    json!([{"ship": {
        "call": "http", "with": {"method": method, "endpoint": system.tools.url("/ship")},
        "metadata": {"holdpoint": {"retry": {"tries": 1}}},
    }}])
}

/// The one line of a worker's log that says that this run failed for good.
async fn warned(system: &System, id: &str) -> String {
    let of = |line: &String| line.contains("a run of a workflow failed for good") && line.contains(id);
    // The event may be here before the line is: they come by different ways.
    let mut lines: Vec<String> = until("the worker warns", SOON, || async {
        let lines: Vec<String> = system.workers[0].log().into_iter().filter(of).collect();
        (!lines.is_empty()).then_some(lines)
    })
    .await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_s_final_failure_is_told_and_one_that_is_repeated_is_not() {
    let system = Setup::services().set("outbound.seal_keys", SEAL_KEY).start().await;
    let client = system.client();
    put(&client, "refused", json!({}), ship(&system, "post")).await;
    put(&client, "tired", json!({"retries": 1}), ship(&system, "get")).await;
    let mut subscriber = Subscriber::bind(&system, "acme.workflow.failed").await;
    told(&system, &["holdpoint.workflow.failed.v1"]).await;
    system.tools.script("/ship", [Reply::Status(401)]);
    let refused = client.start_with(json!({"workflow": "refused"})).await;
    client.wait_status(&refused, "failed").await;
    // The first failure is repeated and not told, the second is the last.
    system.tools.script("/ship", [Reply::Status(503), Reply::Status(503)]);
    let first = client.start_with(json!({"workflow": "tired"})).await;
    client.wait_status(&first, "failed").await;
    let repeat = client.post(&format!("/v1/executions/{first}/retry"), &json!({})).await.expect(202).id();
    client.wait_status(&repeat, "failed").await;
    // Of a test run nobody is told.
    system.tools.script("/ship", [Reply::Status(401)]);
    let tried = client.post("/v1/workflows/refused/test-runs", &json!({})).await.expect(202);
    let tried = tried.body["execution_id"].as_str().unwrap().to_owned();
    client.wait_status(&tried, "failed").await;
    wait_for(&system, &mut subscriber, 2).await;
    until("the webhook has both", SOON, || async { (delivered(&system).len() == 2).then_some(()) }).await;

    let by_execution = subscriber.first_of_each();
    assert_eq!(by_execution.len(), 2, "{by_execution:?}");
    for (id, name, attempts, retry_of, reason, kind) in [
        (&refused, "refused", 1, Value::Null, "auth", "auth"),
        (&repeat, "tired", 2, json!(first), "network", "network"),
    ] {
        let event = &by_execution[id][0];
        let mut expected = json!({
            "attempts": attempts, "reason": reason, "error": event["data"]["data"]["error"], "needs_attention": true,
        });
        if !retry_of.is_null() {
            expected["retry_of"] = retry_of;
        }
        assert_eq!(event["type"], "holdpoint.workflow.failed.v1");
        assert_eq!(event["data"]["data"], expected);
        assert_eq!((&event["data"]["seq"], &event["data"]["execution_id"]), (&json!(0), &json!(id)));
        assert_eq!(event["data"]["definition"], json!({"name": name, "version": 1}));
        assert_eq!(expected["error"]["type"], kind);
        assert_delivered(&system, &subscriber.came, event);
        let line = warned(&system, id).await;
        let message = expected["error"]["message"].as_str().unwrap();
        let attempt = format!("attempt={attempts}");
        for part in ["WARN", "tenant=acme", "project=shop", &format!("workflow={name}"), &attempt, message] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
    for untold in [&first, &tried] {
        assert!(
            !system.workers[0]
                .log()
                .iter()
                .any(|line| line.contains("for good") && line.contains(untold.as_str()))
        );
    }
    assert_eq!(subscriber.came[0].key, "acme.workflow.failed");
    assert_eq!(
        subscriber.came[0].properties.message_id().as_ref().unwrap().as_str(),
        subscriber.came[0].body["id"]
    );
}

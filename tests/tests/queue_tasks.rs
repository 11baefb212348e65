//! Tasks that workers elsewhere carry out: by messages, from a program of another language, and
//! by HTTP.

use std::collections::BTreeMap;

use holdpoint_tests::client::Client;
use holdpoint_tests::clients::{python, run};
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use serde_json::{Value, json};

/// A workflow of one task for this queue, of this class, whose worker may be silent for so long.
fn document(name: &str, queue: &str, effect: &str, seconds: u32) -> Value {
    json!({
        "document": {"dsl": "1.0.0", "namespace": "tests", "name": name, "version": "0.1.0"},
        "do": [{"work": {
            "call": "task:1.0.0@default",
            "with": {"queue": queue, "input": "${ . }", "heartbeat": {"seconds": seconds}},
            "metadata": {"holdpoint": {"effect": effect, "retry": {"tries": 3, "first_delay": "50ms"}}},
        }}],
    })
}

/// Starts it and waits until its worker has the broker: without one the tries of a task are soon over.
/// The broker may be slow to confirm, which would leave the outcome of a task unknown.
async fn with_broker(setup: Setup) -> System {
    let system = setup.set("queue.confirm_timeout_ms", "20000").start().await;
    system.wait_broker().await;
    system
}

async fn put(client: &Client, name: &str, document: &Value) {
    let put = client.builder(reqwest::Method::PUT, &format!("/v1/workflows/{name}")).json(document);
    let answer = client.send(put).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
}

async fn start(client: &Client, workflow: &str, input: Value) -> String {
    client.post("/v1/executions", &json!({"workflow": workflow, "input": input})).await.expect(202).id()
}

/// Waits until a worker elsewhere has the task: its step.
async fn given_out(client: &Client, id: &str) -> i64 {
    client.wait_suspended(id, "signal").await;
    let steps = client.steps(id).await;
    steps.iter().find(|step| step["name"] == "work").expect("a step")["step"].as_i64().unwrap()
}

async fn remove(system: &System, queue: &str) {
    let connection = system.amqp().await;
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_in_python_takes_part_with_pika_alone() {
    let system = with_broker(Setup::services()).await;
    let (client, queue) = (system.client(), format!("{}-sums", system.prefix));
    put(&client, "sums", &document("sums", &queue, "idempotent", 60)).await;
    put(&client, "quiet", &document("quiet", &queue, "idempotent", 6)).await;
    // One that is there already, and not as we would declare it, is taken as it is.
    let connection = system.amqp().await;
    let channel = connection.create_channel().await.unwrap();
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    channel.queue_declare(queue.as_str().into(), durable, Default::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    let script = python("queue_worker.py")
        .env("AMQP_URL", system.amqp_url())
        .env("EXCHANGE", format!("{}.commands", system.prefix))
        .env("HOLDPOINT_KEY", system.make_key("acme", "shop", "submit"))
        .env("QUEUE", &queue)
        .env("TASKS", "8");
    let worker = tokio::spawn(run(script));
    let mut ids = BTreeMap::new();
    // Silence counts from when a task is published: the short ones wait for nobody else.
    for (flow, what) in [
        ("sums", &["add"][..]),
        ("sums", &["refuse", "stumble", "say it twice"]),
        ("quiet", &["take long"]),
        ("quiet", &["fall silent"]),
    ] {
        for what in what {
            ids.insert(*what, start(&client, flow, json!({"do": what, "a": 1.5, "b": 2})).await);
        }
        for what in what {
            let status = if *what == "refuse" { "failed" } else { "completed" };
            client.wait_status(&ids[what], status).await;
        }
    }
    let log: Vec<Value> = serde_json::from_str(&worker.await.unwrap()).unwrap();
    assert_eq!(client.execution(&ids["add"]).await["output"], json!({"sum": 3.5}));
    assert_eq!(client.execution(&ids["refuse"]).await["error"]["type"], "logic");
    assert_eq!(client.execution(&ids["say it twice"]).await["output"], 1);
    let of = |what: &str| log.iter().filter(|line| line["do"] == what).collect::<Vec<_>>();
    for twice in ["stumble", "fall silent"] {
        let tries = of(twice);
        assert_eq!(tries.len(), 2, "{log:?}");
        assert_eq!((&tries[0]["attempt"], &tries[1]["attempt"]), (&json!(1), &json!(2)));
        assert_eq!(tries[0]["key"], tries[1]["key"]);
    }
    let said = of("say it twice")[0]["answered"].as_array().unwrap();
    assert_eq!(said[..3], ["accepted", "accepted", "task_conflict"]);
    // By then its execution is over, or about to be: its worker hears that it can stop.
    assert!(said[3] == "task_conflict" || said[3] == "already_terminal", "{said:?}");
    remove(&system, &queue).await;
}

/// The first message to a queue that is not there comes back, and lapin would log it whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_tells_what_a_task_is_given() {
    let open = "info,lapin=trace,lapin::returned_messages=trace";
    let mut system = with_broker(Setup::services().set("log.level", open)).await;
    let (client, queue) = (system.client(), format!("{}-quiet", system.prefix));
    put(&client, "quiet", &document("quiet", &queue, "idempotent", 60)).await;
    let id = start(&client, "quiet", json!({"card": "4242-card"})).await;
    given_out(&client, &id).await;
    let bytes = format!("{:?}", "4242-card".as_bytes());
    // Lapin is heard.
    system.workers[0].wait_said("lapin::channels: create channel").await;
    let worker = &system.workers[0];
    for said in ["4242-card", bytes.trim_matches(['[', ']']), "returned_messages", "will handle frame"] {
        assert!(!worker.said(said), "the log has `{said}`");
    }
    remove(&system, &queue).await;
}

/// A queue of Holdpoint's is refused by its name; by the prefix of an operator's when it is named.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_task_goes_into_a_queue_of_holdpoints_own() {
    let system = with_broker(Setup::services()).await;
    let client = system.client();
    let wrong = document("wrong", "holdpoint.commands", "idempotent", 60);
    let put_wrong = client.builder(reqwest::Method::PUT, "/v1/workflows/wrong").json(&wrong);
    let told = client.send(put_wrong).await.expect_problem(400, "invalid_workflow").body;
    assert_eq!(told["errors"][0]["pointer"], "/do/0/work/with/queue");
    for queue in ["commands", "new"] {
        put(&client, queue, &document(queue, &format!("{}.{queue}", system.prefix), "idempotent", 60)).await;
        let id = start(&client, queue, json!({})).await;
        let error = client.wait_status(&id, "failed").await["error"].clone();
        assert_eq!(error["type"], "logic", "{error}");
        assert!(error["message"].as_str().unwrap().contains("Holdpoint's own"), "{error}");
    }
    let parked = client.get("/v1/parked-messages").await.expect(200).body;
    assert_eq!(parked["parked_messages"], json!([]), "{parked}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_by_http_are_taken_once() {
    let system = with_broker(Setup::services()).await;
    let (client, queue) = (system.client(), format!("{}-mail", system.prefix));
    put(&client, "mail", &document("mail", &queue, "at_most_once", 10)).await;
    let id = start(&client, "mail", json!({"to": "ada"})).await;
    let step = given_out(&client, &id).await;
    let path = |verb: &str| format!("/v1/executions/{id}/steps/{step}/{verb}");
    let nowhere = format!("/v1/executions/{id}/steps/99/complete");
    client.post(&nowhere, &json!({})).await.expect_problem(404, "not_found");
    for error in [json!({"type": "logic", "message": " "}), json!({"type": "cancelled", "message": "stop"})] {
        let refused = client.post(&path("fail"), &json!({"error": error})).await;
        let told = refused.expect_problem(400, "invalid_body").body["detail"].to_string();
        assert!(error["type"] == "logic" || told.contains("rate_limit, balance, logic"), "{told}");
    }
    client.post(&path("heartbeat"), &json!({"attempt": 1})).await.expect(200);
    let conflict = client.post(&path("heartbeat"), &json!({"attempt": 2})).await;
    assert_eq!(conflict.expect_problem(409, "task_conflict").body["attempt"], 1);
    // Silence of a worker whose task may not be repeated is an unknown outcome; its late report
    // is the answer.
    client.wait_suspended(&id, "outcome_unknown").await;
    let steps = client.steps(&id).await;
    let unknown = steps.iter().find(|found| found["step"] == step).unwrap();
    assert_eq!((&unknown["status"], &unknown["task"]), (&json!("unknown"), &json!("/do/0/work")));
    let done = json!({"attempt": 1, "output": {"sent": true, "to": ["ada"]}});
    let first = client.post(&path("complete"), &done).await.expect(200);
    assert_eq!(first.body["already_done"], false);
    client.wait_status(&id, "completed").await;
    assert_eq!(client.execution(&id).await["output"], json!({"sent": true, "to": ["ada"]}));
    // The same JSON, written another way.
    let other_way = r#"{"output": {"to" : ["ada"], "sent": true}, "attempt":1}"#;
    for body in [done.to_string(), other_way.to_owned()] {
        let again = client.builder(reqwest::Method::POST, &path("complete"));
        let again = client.send(again.header("content-type", "application/json").body(body)).await;
        assert_eq!(again.expect(200).body["already_done"], true);
    }
    client.post(&path("complete"), &json!({})).await.expect_problem(409, "task_conflict");
    remove(&system, &queue).await;
}

/// Whether a worker had done it by then, nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_of_a_cancelled_run_has_an_unknown_outcome_in_its_repeat() {
    let system = with_broker(Setup::services()).await;
    let (client, queue) = (system.client(), format!("{}-post", system.prefix));
    put(&client, "post", &document("post", &queue, "at_most_once", 60)).await;
    let id = start(&client, "post", json!({})).await;
    given_out(&client, &id).await;
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    let again = client.post(&format!("/v1/executions/{id}/retry"), &json!({})).await.expect(202).id();
    client.wait_suspended(&again, "outcome_unknown").await;
    let steps = client.steps(&again).await;
    let unknown = steps.iter().find(|step| step["status"] == "unknown").expect("an unknown one");
    let why = unknown["error"]["message"].as_str().unwrap();
    assert!(why.contains("the run before ended"), "{why}");
    client.post(&format!("/v1/executions/{again}/cancel"), &json!({})).await.expect(202);
    remove(&system, &queue).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_inside_the_process_has_no_workers_elsewhere() {
    let system = Setup::embedded().start().await;
    let client = system.client();
    put(&client, "sums", &document("sums", "sums", "idempotent", 60)).await;
    let id = start(&client, "sums", json!({})).await;
    until("the task fails", SOON, || async {
        let execution = client.execution(&id).await;
        (execution["status"] == "failed").then_some(execution)
    })
    .await;
    let error = client.execution(&id).await["error"].clone();
    assert!(error["message"].as_str().unwrap().contains("RabbitMQ"), "{error}");
}

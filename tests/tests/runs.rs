//! What is around the runs of workflows, through every role: repeats, pauses, who needs a person.

use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    a_failed_run_is_repeated_from_where_it_failed;
    a_run_that_failed_for_the_network_is_repeated_by_itself;
    a_pause_in_mid_run_ends_it_at_its_next_step;
    a_failure_of_the_workflow_itself_leads_to_maintenance;
    one_run_goes_on_and_further_starts_are_the_one_that_waits;
}

fn call(system: &System, path: &str, method: &str) -> Value {
    json!({
        "call": "http",
        "with": {"method": method, "endpoint": system.tools.url(path)},
        "metadata": {"holdpoint": {"retry": {"tries": 1}}},
    })
}

/// A workflow of two calls.
fn document(system: &System, name: &str, settings: Value, method: &str) -> Value {
    json!({
        "document": {
            "dsl": "1.0.1", "namespace": "tests", "name": name, "version": "1.0.0",
            "metadata": {"holdpoint": settings},
        },
        "do": [{"pack": call(system, "/pack", "post")}, {"ship": call(system, "/ship", method)}],
    })
}

async fn put(client: &Client, document: &Value) -> Value {
    let name = document["document"]["name"].as_str().unwrap();
    let put = client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(document);
    let answer = client.send(put).await;
    assert!(matches!(answer.status, 200 | 201), "{answer:?}");
    answer.body
}

async fn start(client: &Client) -> String {
    client.start_with(json!({"workflow": "ship", "input": {"order": 42}})).await
}

async fn post(client: &Client, path: &str, status: u16) -> Value {
    client.post(path, &json!({})).await.expect(status).body
}

async fn state(client: &Client) -> String {
    let shown = client.get("/v1/workflows/ship").await.expect(200).body;
    shown["state"].as_str().unwrap().to_owned()
}

async fn a_failed_run_is_repeated_from_where_it_failed(system: System) {
    let client = system.client();
    put(&client, &document(&system, "ship", json!({}), "post")).await;
    system.tools.script("/ship", [Reply::Status(401)]);
    let id = start(&client).await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!((&failed["reason"], &failed["error"]["type"]), (&json!("auth"), &json!("auth")), "{failed}");
    let shown = client.get("/v1/attention").await.expect(200).body;
    let group = &shown["attention"][0];
    assert_eq!(
        (&shown["total"], &group["error_type"], &group["count"]),
        (&json!(1), &json!("auth"), &json!(1))
    );
    assert_eq!(group["workflows"][0]["workflow"], "ship");
    assert_eq!(group["workflows"][0]["execution_id"], json!(id));
    let bob = json!({"role": "admin", "name": "bob", "end_user": "bob"});
    let bob = client.post("/v1/keys", &bob).await.expect(201).body["key"].clone();
    let shown = client.with_key(bob.as_str()).get("/v1/attention").await.expect(200).body;
    assert_eq!((&shown["total"], &shown["attention"]), (&json!(0), &json!([])), "it is not bob's run");
    post(&client, "/v1/attention/ship/acknowledge", 200).await;
    assert_eq!(client.get("/v1/attention").await.expect(200).body["total"], 0);

    let retry = format!("/v1/executions/{id}/retry");
    let accepted = post(&client, &retry, 202).await;
    assert_eq!((&accepted["retry_of"], &accepted["attempt"]), (&json!(id), &json!(2)));
    assert_eq!(post(&client, &retry, 202).await["id"], accepted["id"], "each attempt once");
    let again = accepted["id"].as_str().unwrap().to_owned();
    let done = client.wait_status(&again, "completed").await;
    assert_eq!((&done["retry_of"], &done["attempt"]), (&json!(id), &json!(2)));
    assert_eq!((&done["input"], &done["output"]), (&json!({"order": 42}), &json!({"ok": true})));
    assert_eq!(system.tools.count("/pack"), 1, "what is finished is taken over");
    let calls = system.tools.calls("/ship");
    assert_eq!((calls.len(), calls[0].key() == calls[1].key()), (2, true), "under the same key");
    client.post(&format!("/v1/executions/{again}/retry"), &json!({})).await.expect_problem(409, "not_failed");
}

async fn a_run_that_failed_for_the_network_is_repeated_by_itself(system: System) {
    let client = system.client();
    put(&client, &document(&system, "ship", json!({"retries": 1}), "get")).await;
    system.tools.script("/ship", [Reply::Status(503), Reply::Status(503)]);
    let id = start(&client).await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!(failed["reason"], "network");
    assert_eq!(client.get("/v1/attention").await.expect(200).body["total"], 0, "it is repeated first");
    let list = client.get("/v1/executions?workflow=ship&status=queued").await.expect(200).body;
    let repeat = list["executions"][0].clone();
    assert_eq!((&repeat["retry_of"], &repeat["attempt"]), (&json!(id), &json!(2)), "{list}");
    let repeat = repeat["id"].as_str().unwrap().to_owned();
    // It is due in ten seconds; who asks need not wait.
    assert_eq!(post(&client, &format!("/v1/executions/{id}/retry"), 202).await["id"], json!(repeat));
    client.wait_status(&repeat, "failed").await;
    let shown = client.get("/v1/attention").await.expect(200).body;
    assert_eq!(shown["attention"][0]["workflows"][0]["attempts"], 2, "{shown}");
    assert_eq!((system.tools.count("/pack"), system.tools.count("/ship")), (1, 2));
}

async fn a_pause_in_mid_run_ends_it_at_its_next_step(system: System) {
    let client = system.client();
    put(&client, &document(&system, "ship", json!({}), "post")).await;
    let gate = Gate::closed();
    system.tools.script("/pack", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!({"packed": 1}))))]);
    let id = start(&client).await;
    gate.wait_arrived(1).await;
    let before = client.execution(&id).await;
    assert_eq!(post(&client, "/v1/workflows/ship/pause", 200).await["state"], "paused");
    client
        .post("/v1/executions", &json!({"workflow": "ship"}))
        .await
        .expect_problem(409, "workflow_not_active");
    // The worker has heard of it once it is journaled.
    until("the worker hears of it", SOON, || async {
        (client.execution(&id).await["updated_at"] != before["updated_at"]).then_some(())
    })
    .await;
    gate.open();
    let ended = client.wait_status(&id, "cancelled").await;
    assert_eq!((&ended["reason"], &ended["error"]), (&json!("paused"), &Value::Null));
    let steps = client.steps(&id).await;
    assert!(steps.iter().any(|step| step["output"] == json!({"packed": 1})), "its result is kept: {steps:?}");
    assert_eq!(system.tools.count("/ship"), 0);
    let all = client.get("/v1/executions?workflow=ship").await.expect(200).body;
    assert_eq!(all["executions"].as_array().unwrap().len(), 1, "no repeat");
    assert_eq!(state(&client).await, "paused");
    post(&client, "/v1/workflows/ship/resume", 200).await;
    client.wait_status(&start(&client).await, "completed").await;
}

async fn a_failure_of_the_workflow_itself_leads_to_maintenance(system: System) {
    let client = system.client();
    let mut document = document(&system, "ship", json!({}), "post");
    put(&client, &document).await;
    for failures in 1..=3 {
        system.tools.script("/ship", [Reply::Status(400)]);
        client.wait_status(&start(&client).await, "failed").await;
        assert_eq!(state(&client).await, "maintenance");
        let total = &client.get("/v1/attention").await.expect(200).body["total"];
        assert_eq!(*total, i32::from(failures == 3), "the third time a person is told");
        let refused = client.post("/v1/executions", &json!({"workflow": "ship"})).await;
        assert_eq!(refused.expect_problem(409, "workflow_not_active").body["state"], "maintenance");
        if failures < 3 {
            let resumed = post(&client, "/v1/workflows/ship/resume", 200).await;
            assert_eq!((&resumed["state"], &resumed["logic_failures"]), (&json!("active"), &json!(failures)));
        }
    }
    document["document"]["version"] = json!("1.0.1");
    put(&client, &document).await;
    assert_eq!(state(&client).await, "active", "a new version ends it");
    client.wait_status(&start(&client).await, "completed").await;
    assert_eq!(client.get("/v1/attention").await.expect(200).body["total"], 0);
    post(&client, "/v1/workflows/ship/archive", 200).await;
    assert_eq!(state(&client).await, "archived");
    client.post("/v1/workflows/none/pause", &json!({})).await.expect_problem(404, "not_found");
}

async fn one_run_goes_on_and_further_starts_are_the_one_that_waits(system: System) {
    let client = system.client();
    put(&client, &document(&system, "ship", json!({"concurrency": 1}), "post")).await;
    let gate = Gate::closed();
    system.tools.script("/pack", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!(1))))]);
    let first = start(&client).await;
    gate.wait_arrived(1).await;
    let second = start(&client).await;
    let third = client.post("/v1/executions", &json!({"workflow": "ship"})).await.expect(202).body;
    assert_eq!((&third["id"], &third["coalesced"]), (&json!(second), &json!(true)));
    assert_eq!(client.execution(&second).await["status"], "queued");
    gate.open();
    for id in [first, second] {
        client.wait_status(&id, "completed").await;
    }
    assert_eq!(system.tools.count("/ship"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_while_it_ends_a_run_loses_no_repeat_and_makes_no_second() {
    let mut system = Setup::services().roles(1, 0, 1).set("worker.lease_ms", "5000").start().await;
    let client = system.client();
    put(&client, &document(&system, "ship", json!({}), "get")).await;
    system.tools.script("/ship", [Reply::Status(503), Reply::Status(503)]);
    let id = start(&client).await;
    // After the repeat was written, before what the workflow's row says, in one transaction.
    let dying = system.start_worker(&[("HOLDPOINT_FAILPOINT", "db.run_end")]);
    system.workers[dying].wait_for_failpoint().await;
    system.workers[dying].kill9();
    assert_eq!(system.schema().count("SELECT count(*) FROM run_retries"), 0, "nothing of it stands");
    system.start_worker(&[]);
    client.wait_status(&id, "failed").await;
    assert_eq!(system.schema().count("SELECT count(*) FROM run_retries"), 1);
    let list = client.get("/v1/executions?workflow=ship").await.expect(200).body;
    assert_eq!(list["executions"].as_array().unwrap().len(), 2, "the run and its repeat: {list}");
}

/// The process that was asked to pause dies when it has told the first run: the sweep tells the
/// others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_whose_process_dies_ends_all_runs() {
    let mut system = Setup::services().start().await;
    let client = system.client();
    let waits = json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": "ship", "version": "1.0.0"},
        "do": [{"rest": {"wait": {"hours": 1}}}],
    });
    put(&client, &waits).await;
    let mut runs = Vec::new();
    for _ in 0..3 {
        runs.push(start(&client).await);
    }
    for run in &runs {
        client.wait_suspended(run, "timer").await;
    }
    let dies = system.start_api(&[("HOLDPOINT_FAILPOINT", "api.pause.between")]);
    system.wait_ready(dies).await;
    let asked = system.client_of(dies);
    let pause = tokio::spawn(async move {
        let answer = asked.builder(Method::POST, "/v1/workflows/ship/pause").send().await;
        assert!(answer.is_err(), "nobody answers any more");
    });
    system.apis[dies].wait_for_failpoint().await;
    system.apis[dies].kill9();
    pause.await.unwrap();
    for run in &runs {
        let ended = client.wait_status(run, "cancelled").await;
        assert_eq!((&ended["reason"], &ended["error"]), (&json!("paused"), &Value::Null));
    }
    assert_eq!(state(&client).await, "paused");
}

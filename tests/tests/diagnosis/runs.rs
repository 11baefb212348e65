//! What is around the runs of workflows.

use holdpoint_tests::gate::Gate;
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use holdpoint_tests::tool::Reply;
use serde_json::{Value, json};

use super::{evidence, put, run, wait_why, why};

on_both! {
    a_failed_run_names_the_one_that_repeats_it;
    one_run_waits_for_the_end_of_another;
    a_balance_holds_the_next_run;
    a_run_of_a_paused_workflow_ends_at_its_next_step;
}

fn call(system: &System, path: &str, method: &str) -> Value {
    json!({"go": {
        "call": "http",
        "with": {"method": method, "endpoint": system.tools.url(path)},
        "metadata": {"holdpoint": {"retry": {"tries": 1}}},
    }})
}

async fn a_failed_run_names_the_one_that_repeats_it(system: System) {
    let client = system.client();
    put(&client, "ship", json!([call(&system, "/ship", "get")]), json!({})).await;
    system.tools.script("/ship", [Reply::Status(503)]);
    let id = run(&client, "ship").await;
    client.wait_status(&id, "failed").await;
    let told =
        wait_why(&client, &id, "failed_repeated", &["`network`", "repeats it as attempt 2, due at "]).await;
    let repeat = evidence(&told, "repeat");
    let next = repeat["execution_id"].as_str().unwrap();
    let words = [format!("It is attempt 2 of {id}, which failed: it begins at ")];
    let told = why(&client, next).await;
    // It is due within seconds: on a slow machine it may have begun.
    if told["code"] == "repeat_due" {
        assert!(told["summary"].as_str().unwrap().starts_with(&words[0]), "{told}");
        assert_eq!(evidence(&told, "repeat")["retry_of"], id);
    }
    client.wait_status(next, "completed").await;
}

async fn one_run_waits_for_the_end_of_another(system: System) {
    let client = system.client();
    let alone = json!({"document": {"metadata": {"holdpoint": {"concurrency": 1}}}});
    put(&client, "ship", json!([call(&system, "/ship", "post")]), alone).await;
    let gate = Gate::closed();
    system.tools.script("/ship", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!(1))))]);
    let first = run(&client, "ship").await;
    gate.wait_arrived(1).await;
    let second = run(&client, "ship").await;
    let words = format!("It waits for the end of {first}: its workflow has one run at a time");
    let told = wait_why(&client, &second, "coalesced", &[&words]).await;
    assert_eq!(evidence(&told, "behind")["execution_id"], first);
    gate.open();
    client.wait_status(&second, "completed").await;
}

async fn a_balance_holds_the_next_run(system: System) {
    let client = system.client();
    put(&client, "paid", json!([call(&system, "/paid", "post")]), json!({"use": {"secrets": ["till"]}}))
        .await;
    system.tools.script("/paid", [Reply::Status(402)]);
    let id = run(&client, "paid").await;
    client.wait_status(&id, "failed").await;
    let next = run(&client, "paid").await;
    let words = ["It is held until ", "(in 9m ", "the balance of the secret `till`"];
    let told = wait_why(&client, &next, "balance_held", &words).await;
    assert_eq!(evidence(&told, "secret_held")["secret"], "till");
}

async fn a_run_of_a_paused_workflow_ends_at_its_next_step(system: System) {
    let client = system.client();
    put(&client, "ship", json!([call(&system, "/ship", "post")]), json!({})).await;
    let gate = Gate::closed();
    system.tools.script("/ship", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!(1))))]);
    let id = run(&client, "ship").await;
    gate.wait_arrived(1).await;
    wait_why(&client, &id, "held", &["under way since "]).await;
    client.post("/v1/workflows/ship/pause", &json!({})).await.expect(200);
    // By now its worker knows: before, the end of the call could come first, and be the run's.
    let words = ["has it since ", " holds its workflow, and it ends once that is over"];
    wait_why(&client, &id, "held_ending", &words).await;
    gate.open();
    client.wait_status(&id, "cancelled").await;
    wait_why(&client, &id, "cancelled", &["because its workflow was held by key_"]).await;
}

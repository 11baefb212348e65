//! What an execution waits for while everything is there.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::Client;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use serde_json::json;

use super::{evidence, put, run, wait_why, why};

on_both! {
    people_are_waited_for;
    time_is_waited_for;
    events_are_waited_for;
    a_call_s_outcome_is_not_known;
    a_parent_waits_for_what_its_child_waits_for;
    an_expired_approval_waits_for_its_sweep with Setup::without_sweeps;
    ends_say_how;
}

async fn post(client: &Client, path: &str) {
    client.post(path, &json!({})).await.expect(202);
}

async fn people_are_waited_for(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1})), ("c2", "pay", json!({"n": 2}))])]);
    let id = client.start("clerk").await;
    client.wait_suspended(&id, "approval").await;
    let words = ["2 decisions from anyone who may decide", "`pay` (call c1) and `pay` (call c2)", "(in 29m "];
    let told = wait_why(&client, &id, "approval", &words).await;
    assert!(evidence(&told, "approval")["approval_id"].as_str().unwrap().starts_with("apr_"));
    client.decide(&id, "c1", &json!({"approved": true})).await.expect(200);
    wait_why(&client, &id, "approval", &["a decision on `pay` (call c2), asked for at ", "it expires at "])
        .await;
    post(&client, &format!("/v1/executions/{id}/pause")).await;
    let told = wait_why(&client, &id, "paused", &["It was paused by key_"]).await;
    assert!(evidence(&told, "paused")["by"].as_str().unwrap().starts_with("key_"));
}

async fn time_is_waited_for(system: System) {
    let client = system.client();
    let delayed = client.start_with(json!({"workflow": "holdpoint.noop", "delay": "1h"})).await;
    wait_why(&client, &delayed, "delayed", &["it begins at ", "(in 59m "]).await;
    put(&client, "patient", json!([{"rest": {"wait": {"hours": 2}}}]), json!({})).await;
    let id = run(&client, "patient").await;
    let told = wait_why(&client, &id, "timer", &["Its task `/do/0/rest` waits until ", "(in 1h 59m)"]).await;
    assert_eq!(evidence(&told, "wait")["task"], "/do/0/rest");
    // A failed attempt is made again much later.
    let retry = json!({"tries": 3, "first_delay": "10m", "max_delay": "10m"});
    let agent = Agent::new(&system.model).with(json!({"model": {"retry": retry}}));
    client.put_agent("slow", agent.document()).await;
    system.model.script([Turn::status(503)]);
    let id = client.start("slow").await;
    let told =
        wait_why(&client, &id, "retry", &["Attempt 1 of step 1 failed (network: ", "the next is due at "])
            .await;
    assert_eq!(evidence(&told, "retry")["attempt"], 1);
    // A test run ends by itself.
    let test = client.post("/v1/workflows/patient/test-runs", &json!({})).await.expect(202).body;
    let id = test["execution_id"].as_str().unwrap();
    wait_why(&client, id, "timer", &["as a test run it is ended at ", "(in 9m "]).await;
}

async fn events_are_waited_for(system: System) {
    let client = system.client();
    let to = json!({"any": [{"with": {"type": "painted"}}, {"with": {"type": "sold"}}]});
    put(&client, "hears", json!([{"l": {"listen": {"to": to}}}]), json!({})).await;
    let id = run(&client, "hears").await;
    let words = ["Its task `/do/0/l` waits for an event of the type `painted` or `sold`"];
    let told = wait_why(&client, &id, "listen", &words).await;
    assert_eq!(evidence(&told, "listen")["events"], json!(["`painted`", "`sold`"]));
    client.post(&format!("/v1/executions/{id}/signals/sold"), &json!({})).await.expect(202);
    client.wait_status(&id, "completed").await;
}

async fn a_call_s_outcome_is_not_known(system: System) {
    let client = system.client();
    let reconcile =
        json!({"url": system.tools.url("/sent"), "first_delay": "10m", "max_delay": "10m", "tries": 1});
    let agent = Agent::new(&system.model)
        .tool(&system.tools, "send", json!({"effect": "at_most_once"}))
        .tool(&system.tools, "ask", json!({"effect": "at_most_once", "reconcile": reconcile}));
    client.put_agent("sender", agent.document()).await;
    for (tool, code, words) in [
        ("send", "outcome_unknown", "find out, and resolve it"),
        ("ask", "outcome_asked", "the tool is asked at "),
    ] {
        system.tools.script(&format!("/{tool}"), [Reply::Reset]);
        system.model.script([Turn::call(&[("a", tool, json!({"n": 1}))])]);
        let id = client.start("sender").await;
        let call = format!("Nobody knows whether the call of `{tool}` (step 2) happened");
        let told = wait_why(&client, &id, code, &[&call, words]).await;
        assert_eq!(evidence(&told, "outcome_unknown")["tool"], tool);
    }
}

async fn a_parent_waits_for_what_its_child_waits_for(system: System) {
    let client = system.client();
    put(&client, "inner", json!([{"rest": {"wait": {"hours": 1}}}]), json!({})).await;
    let of = |name: &str| json!([{"call": {"run": {"workflow": {"namespace": "tests", "name": name, "version": "1.0.0"}}}}]);
    put(&client, "middle", of("inner"), json!({})).await;
    put(&client, "outer", of("middle"), json!({})).await;
    let id = run(&client, "outer").await;
    let words = [
        "It waits for the end of exe_",
        ": It waits for the end of exe_",
        ": Its task `/do/0/rest` waits until ",
    ];
    let told = wait_why(&client, &id, "child", &words).await;
    let child = evidence(&told, "child");
    assert_eq!(child["code"], "child");
    // The child's own diagnosis says the rest of it.
    let told = why(&client, child["execution_id"].as_str().unwrap()).await;
    assert_eq!(evidence(&told, "child")["code"], "timer");
}

async fn an_expired_approval_waits_for_its_sweep(system: System) {
    let client = system.client();
    let agent =
        Agent::new(&system.model).tool(&system.tools, "pay", json!({"approval": {"expires_after": "300ms"}}));
    client.put_agent("hasty", agent.document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let id = client.start("hasty").await;
    let words = ["The approval of `pay` (call c1) expired undecided at ", "the sweep `stale`"];
    let told = wait_why(&client, &id, "approval_expired", &words).await;
    assert_eq!(evidence(&told, "approval")["expired"], true);
    assert_eq!(evidence(&told, "sweep")["overdue"], true);
}

async fn ends_say_how(system: System) {
    let client = system.client();
    let id = run(&client, "holdpoint.noop").await;
    client.wait_status(&id, "completed").await;
    wait_why(&client, &id, "completed", &["It completed at "]).await;
    let id = client.start_with(json!({"workflow": "holdpoint.noop", "delay": "1h"})).await;
    post(&client, &format!("/v1/executions/{id}/cancel")).await;
    wait_why(&client, &id, "cancelled", &["It was cancelled at ", "by key_"]).await;
    put(&client, "broken", json!([{"s": {"set": {"n": "${ error(\"no\") }"}}}]), json!({})).await;
    let id = run(&client, "broken").await;
    client.wait_status(&id, "failed").await;
    let words =
        ["It failed at ", "`logic`", "its workflow is in maintenance until a new version or a resume"];
    let told = wait_why(&client, &id, "failed", &words).await;
    assert_eq!(evidence(&told, "workflow")["state"], "maintenance");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_elsewhere_is_waited_for() {
    let system = Setup::services().start().await;
    let (client, queue) = (system.client(), format!("{}-sums", system.prefix));
    system.wait_broker().await;
    let with = json!({"queue": queue, "input": {}, "heartbeat": {"minutes": 10}});
    put(&client, "sums", json!([{"work": {"call": "task:1.0.0@default", "with": with}}]), json!({})).await;
    let id = run(&client, "sums").await;
    let words =
        [format!("a worker of the queue `{queue}`"), "silent until ".to_owned(), "it is lost".to_owned()];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let told = wait_why(&client, &id, "queue_task", &words).await;
    assert_eq!(evidence(&told, "queue_task")["queue"], queue);
    let connection = system.amqp().await;
    let channel = connection.create_channel().await.unwrap();
    channel.queue_delete(queue.as_str().into(), lapin::options::QueueDeleteOptions::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

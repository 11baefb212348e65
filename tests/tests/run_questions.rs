//! Runs that end while a question is open, or after it was decided, and are repeated by hand: what was
//! answered stands, and what nobody answered, or nobody used, is asked again.

use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::Client;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    a_question_that_was_open_is_asked_again;
    a_question_that_was_decided_is_not_asked_again;
    a_call_that_was_approved_and_not_made_is_asked_about_again;
}

async fn put(client: &Client, tasks: Value) {
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "tests", "name": "ship", "version": "1.0.0"},
        "do": tasks,
    });
    client.send(client.builder(Method::PUT, "/v1/workflows/ship").json(&document)).await.expect(201);
}

fn ask() -> Value {
    json!({"call": "approval:1.0.0@default", "with": {"title": "Ship it?", "subject": {"order": "${ .order }"}}})
}

fn ship(system: &System) -> Value {
    json!({
        "call": "http", "with": {"method": "post", "endpoint": system.tools.url("/ship"), "body": "${ . }"},
        "metadata": {"holdpoint": {"retry": {"tries": 1}}},
    })
}

async fn start(client: &Client) -> String {
    client.start_with(json!({"workflow": "ship", "input": {"order": 42}})).await
}

async fn repeat(client: &Client, id: &str) -> String {
    let again = client.post(&format!("/v1/executions/{id}/retry"), &json!({})).await.expect(202);
    assert_eq!((&again.body["retry_of"], &again.body["attempt"]), (&json!(id), &json!(2)));
    again.id()
}

async fn approval(client: &Client, id: &str, call: &str) -> Value {
    client.get(&format!("/v1/executions/{id}/approvals/{call}")).await.expect(200).body
}

fn call_of(approval: &Value) -> String {
    approval["tool_call_id"].as_str().unwrap().to_owned()
}

async fn a_question_that_was_open_is_asked_again(system: System) {
    let client = system.client();
    let wait = json!({"listen": {"to": {"one": {"with": {"type": "go"}}}}, "then": "continue"});
    let ship = json!({"do": [{"hear": wait}, {"ship": ship(&system)}]});
    put(&client, json!([{"both": {"fork": {"branches": [{"ask": ask()}, {"ship": ship}]}}}])).await;
    system.tools.script("/ship", [Reply::Status(401)]);
    let id = start(&client).await;
    let asked = client.wait_pending(&id, 1).await.remove(0);
    let call = call_of(&asked);
    client.post(&format!("/v1/executions/{id}/signals/go"), &json!({})).await.expect(202);
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!(failed["reason"], "auth", "{failed}");
    assert_eq!(approval(&client, &id, &call).await["status"], "cancelled");
    client.decide(&id, &call, &json!({"approved": true})).await.expect_problem(410, "approval_closed");

    let again = repeat(&client, &id).await;
    let anew = client.wait_pending(&again, 1).await.remove(0);
    assert_eq!(anew["arguments"], asked["arguments"]);
    assert_ne!(anew["requested_at"], asked["requested_at"], "it has its whole time again");
    // It is another question: what is said of it is nothing to the failed run.
    client.decide(&id, &call, &json!({"approved": true})).await.expect_problem(410, "approval_closed");
    client.approve(&again, &call_of(&anew)).await;
    let output = client.wait_status(&again, "completed").await["output"].clone();
    assert_eq!((&output[0]["approved"], &output[1]), (&json!(true), &json!({"ok": true})));
    let calls = system.tools.calls("/ship");
    assert_eq!((calls.len(), calls[0].key() == calls[1].key()), (2, true));
}

async fn a_question_that_was_decided_is_not_asked_again(system: System) {
    let client = system.client();
    put(&client, json!([{"ask": ask()}, {"ship": ship(&system)}])).await;
    for approved in [true, false] {
        let before = system.tools.count("/ship");
        system.tools.script("/ship", [Reply::Status(401)]);
        let id = start(&client).await;
        let call = call_of(&client.wait_pending(&id, 1).await[0]);
        let arguments = json!({"subject": {"order": 43}});
        let decision = if approved {
            json!({"approved": true, "arguments": arguments})
        } else {
            json!({"approved": false})
        };
        client.decide(&id, &call, &decision).await.expect(200);
        client.wait_status(&id, "failed").await;
        let again = repeat(&client, &id).await;
        let done = client.wait_status(&again, "completed").await;
        assert_eq!(done["output"], json!({"ok": true}));
        let asked = client.get(&format!("/v1/executions/{again}/approvals")).await.expect(200).body;
        assert_eq!(asked["approvals"], json!([]), "not asked again");
        // What the person said, an edited value too, is what the repeat goes on with.
        let calls = system.tools.calls("/ship");
        let [failed, repeated] = &calls[before..] else { panic!("{calls:?}") };
        assert_eq!((failed.key(), failed.json()), (repeated.key(), repeated.json()));
        let said = repeated.json();
        let order = if approved { 43 } else { 42 };
        assert_eq!((&said["approved"], &said["value"]["order"]), (&json!(approved), &json!(order)));
        // The decision stays the failed run's.
        let answer = client.decide(&id, &call, &decision).await.expect(200).body;
        assert_eq!(
            (&answer["already_decided"], &answer["execution_status"]),
            (&json!(true), &json!("failed"))
        );
    }
}

/// Of three calls one was made, one approved while the run was held, and one is open when it is cancelled.
async fn a_call_that_was_approved_and_not_made_is_asked_about_again(system: System) {
    let client = system.client();
    client.put_agent("clerk", Agent::new(&system.model).gated(&system.tools, "pay").document()).await;
    let call = |n: i32| (["c1", "c2", "c3"][n as usize - 1], "pay", json!({"n": n}));
    system.model.answer_by(move |request| match request.turns() {
        0 => Turn::call(&[call(1), call(2), call(3)]),
        _ => Turn::say("paid"),
    });
    let id = client.start("clerk").await;
    client.wait_pending(&id, 3).await;
    client.approve(&id, "c1").await;
    system.tools.wait_calls("/pay", 1).await;
    client.wait_suspended(&id, "approval").await;
    client.post(&format!("/v1/executions/{id}/pause"), &json!({})).await.expect(202);
    client.wait_suspended(&id, "paused").await;
    client.approve(&id, "c2").await;
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    client.wait_status(&id, "cancelled").await;
    assert_eq!(system.tools.count("/pay"), 1);

    let again = repeat(&client, &id).await;
    let mut asked: Vec<String> = client.wait_pending(&again, 2).await.iter().map(call_of).collect();
    asked.sort();
    assert_eq!(asked, ["c2", "c3"]);
    client.approve(&again, "c2").await;
    client.deny(&again, "c3", "no").await;
    client.wait_status(&again, "completed").await;
    let calls = system.tools.calls("/pay");
    let numbers: Vec<Value> = calls.iter().map(|call| call.json()["n"].clone()).collect();
    assert_eq!(numbers, [json!(1), json!(2)], "what was paid is not paid again");
    let told = system.model.requests().last().unwrap().told("c3").unwrap();
    assert!(told.contains("no"), "{told}");
}

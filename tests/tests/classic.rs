//! Classic runs: the agent's loop without a journal, for as long as its reader stays.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    a_run_answers_and_leaves_no_execution;
    a_run_ends_with_its_reader;
    what_needs_a_journal_is_refused;
    a_conversation_keeps_what_ended_well;
    a_run_is_transferred_and_its_conversation_remembers;
}

fn ask(agent: &str, more: Value) -> Value {
    let mut body = json!({"model": agent, "messages": [{"role": "user", "content": "go"}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn put_looker(system: &System) {
    let look = json!({"effect": "idempotent", "http": {"forwarded_headers": ["x-customer"]}});
    let looker = Agent::new(&system.model).tool(&system.tools, "look", look);
    system.client().put_agent("looker", looker.document()).await;
    let risky = Agent::new(&system.model).tool(&system.tools, "pay", json!({}));
    let risky = risky.with(json!({"execution_mode": "classic"}));
    system.client().put_agent("risky", risky.document()).await;
}

async fn executions(system: &System) -> usize {
    let listed = system.client().get("/v1/executions").await.expect(200);
    listed.body["executions"].as_array().unwrap().len()
}

async fn a_run_answers_and_leaves_no_execution(system: System) {
    put_looker(&system).await;
    let client = system.client();
    system.model.script([
        Turn::status(503),
        Turn::say_and_call("I look.", &[("c1", "look", json!({"n": 1}))]),
        Turn::say("All is well."),
    ]);
    let classic = json!({"execution_mode": "classic", "forwarded_headers": {"X-Customer": "c-7"}});
    let time = [
        ("x-holdpoint-client-timestamp", "2026-11-21T05:49:06Z"),
        ("x-holdpoint-client-timezone", "Europe/Berlin"),
    ];
    let answer = client.post_with("/v1/chat/completions", &time, &ask("looker", classic)).await.expect(200);
    let choice = &answer.body["choices"][0];
    assert_eq!(choice["message"]["content"], "I look.\n\nAll is well.");
    assert_eq!(choice["finish_reason"], "stop");
    assert_eq!(choice["message"]["holdpoint.tool_result"][0]["output"], "{\"ok\":true}");
    assert_eq!(answer.body["usage"]["total_tokens"], 30);
    assert_eq!((answer.header("x-workflow-run-id"), &answer.body["execution_id"]), ("", &Value::Null));
    assert_eq!((system.model.requests().len(), system.tools.count("/look")), (3, 1));

    assert_eq!(system.tools.calls("/look")[0].headers["x-customer"], "c-7");
    assert!(system.model.requests()[2].body.to_string().contains("06:49 for them"));

    // The agent's own mode; a call whose outcome nobody knows ends the run, and is not made again.
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    system.tools.script("/pay", [Reply::Reset]);
    let failed = client.post("/v1/chat/completions", &ask("risky", json!({}))).await;
    assert_eq!((failed.status, &failed.body["error"]["code"]), (502, &json!("network")), "{}", failed.text);
    assert!(failed.text.contains("outcome is unknown"), "{}", failed.text);
    assert_eq!(system.tools.count("/pay"), 1);
    assert_eq!(executions(&system).await, 0);

    let durable = ask("risky", json!({"execution_mode": "durable"}));
    let answer = client.post("/v1/chat/completions", &durable).await.expect(200);
    assert_ne!(answer.header("x-workflow-run-id"), "");
    assert_eq!(executions(&system).await, 1);
}

/// The same request, read as far as its first text and then given up; a run stops there, an
/// execution goes on.
async fn a_run_ends_with_its_reader(system: System) {
    put_looker(&system).await;
    let client = system.client();
    for (mode, stream) in [("classic", true), ("classic", false), ("durable", true)] {
        let gate = Gate::closed();
        system.model.script([Turn::say("It takes its time.").held_midway(&gate)]);
        let body = ask("looker", json!({"execution_mode": mode, "stream": stream}));
        let request = client.builder(Method::POST, "/v1/chat/completions").json(&body).send();
        if stream {
            let mut response = request.await.expect("the API answers");
            let mut read = String::new();
            while !read.contains("It ta") {
                let chunk = response.chunk().await.expect("it streams").expect("more comes");
                read.push_str(&String::from_utf8_lossy(&chunk));
            }
            drop(response);
        } else {
            let sent = tokio::spawn(request);
            gate.wait_arrived(1).await;
            sent.abort();
        }
        if mode == "durable" {
            gate.open();
        } else {
            system.model.wait_left(if stream { 1 } else { 2 }).await;
        }
    }
    let listed = client.get("/v1/executions").await.expect(200);
    let id = listed.body["executions"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(client.wait_status(&id, "completed").await["output"], "It takes its time.");
    assert_eq!(executions(&system).await, 1);
}

async fn what_needs_a_journal_is_refused(system: System) {
    put_looker(&system).await;
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let through = Agent::new(&system.model).with(json!({"transfers": [{"agent": "clerk"}]}));
    client.put_agent("through", through.document()).await;
    let delegating = json!({"tools": [{"name": "t", "agent": {"name": "looker"}}]});
    client.put_agent("delegating", Agent::new(&system.model).with(delegating).document()).await;
    let classic = json!({"execution_mode": "classic"});
    let code = async |agent: &str, more: &Value, headers: &[(&str, &str)]| {
        let answer = client.post_with("/v1/chat/completions", headers, &ask(agent, more.clone())).await;
        (answer.status, answer.body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    for (agent, more, status, expected) in [
        ("clerk", &classic, 400, "approval_requires_durable"),
        ("through", &classic, 400, "approval_requires_durable"),
        ("delegating", &classic, 400, "requires_durable"),
        ("nobody", &classic, 404, "unknown_definition"),
        ("looker", &json!({"execution_mode": "quick"}), 400, "invalid_body"),
    ] {
        assert_eq!(code(agent, more, &[]).await, (status, expected.to_owned()), "{agent}");
    }
    let keyed = code("looker", &classic, &[("idempotency-key", "k")]).await;
    assert_eq!(keyed, (400, "invalid_parameter".to_owned()));
    assert_eq!(system.model.requests().len(), 0);
    let start = json!({"agent": "looker", "input": "x", "execution_mode": "classic"});
    client.post("/v1/executions", &start).await.expect_problem(400, "classic_not_here");
}

/// A turn is in the conversation whole, or not at all.
async fn a_conversation_keeps_what_ended_well(system: System) {
    put_looker(&system).await;
    let client = system.client();
    let talk = |text: &str| {
        json!({"model": "looker", "conversation_id": "talk", "execution_mode": "classic",
            "messages": [{"role": "user", "content": text}]})
    };
    let roles = async || {
        let read = client.get("/v1/conversations/talk").await;
        let messages = read.body["messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|one| one["role"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    system.model.script([Turn::status(400)]);
    assert_eq!(client.post("/v1/chat/completions", &talk("first")).await.status, 502);
    assert!(roles().await.is_empty());

    system.model.script([Turn::call(&[("c1", "look", json!({"n": 1}))]), Turn::say("one")]);
    client.post("/v1/chat/completions", &talk("first")).await.expect(200);
    assert_eq!(roles().await, ["user", "assistant", "tool", "assistant"]);
    system.model.script([Turn::say("two")]);
    client.post("/v1/chat/completions", &talk("second")).await.expect(200);
    let told = system.model.requests().last().unwrap().messages().clone();
    let contents: Vec<&Value> = told.iter().map(|message| &message["content"]).collect();
    let look = json!("{\"ok\":true}");
    let expected =
        [&json!("You are tested."), &json!("first"), &Value::Null, &look, &json!("one"), &json!("second")];
    assert_eq!(contents, expected);
    assert_eq!(roles().await.len(), 6);
    assert_eq!(executions(&system).await, 0);

    // A durable execution goes on from there; while it is active, no run begins.
    let gate = Gate::closed();
    system.model.script([Turn::say("three").after(&gate)]);
    let durable = json!({"agent": "looker", "conversation_id": "talk", "input": "third"});
    let id = client.start_with(durable).await;
    let busy = client.post("/v1/chat/completions", &talk("fourth")).await;
    assert_eq!(
        (busy.status, &busy.body["error"]["code"]),
        (409, &json!("conversation_busy")),
        "{}",
        busy.text
    );
    assert_eq!(busy.body["error"]["active_execution_id"], id);
    gate.open();
    client.wait_status(&id, "completed").await;
    assert_eq!(system.model.requests().last().unwrap().messages().len(), 8);
    assert_eq!(roles().await.len(), 8);
}

async fn a_run_is_transferred_and_its_conversation_remembers(system: System) {
    let client = system.client();
    let named = |name: &str| Agent::new(&system.model).with(json!({"instructions": name}));
    client.put_agent("books", named("books").document()).await;
    let desk = named("desk").with(json!({"transfers": [{"agent": "books"}]}));
    client.put_agent("desk", desk.document()).await;
    system.model.script([
        Turn::call(&[("t1", "transfer_to_books", json!({}))]),
        Turn::say("Books here."),
        Turn::say("Still books."),
        Turn::say("And still."),
    ]);
    let talk = |text: &str| {
        json!({"model": "desk", "conversation_id": "talk", "execution_mode": "classic",
            "messages": [{"role": "user", "content": text}]})
    };
    let speaker = |at: usize| system.model.requests()[at].messages()[0]["content"].clone();
    let first = client.post("/v1/chat/completions", &talk("one")).await.expect(200);
    assert_eq!(first.body["choices"][0]["message"]["content"], "Books here.");
    client.post("/v1/chat/completions", &talk("two")).await.expect(200);
    assert_eq!((speaker(0), speaker(1), speaker(2)), (json!("desk"), json!("books"), json!("books")));
    // A durable turn of the same conversation begins with it too.
    let durable = json!({"agent": "desk", "conversation_id": "talk", "input": "three"});
    let id = client.start_with(durable).await;
    assert_eq!(client.wait_status(&id, "completed").await["output"], "And still.");
    assert_eq!(speaker(3), "books");
}

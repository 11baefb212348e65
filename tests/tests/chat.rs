//! The OpenAI door as bytes, and conversations behind it.
#![allow(clippy::unwrap_used)]

use holdpoint_tests::agents::clerk;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use serde_json::{Value, json};

on_both! {
    a_chat_is_answered_whole;
    a_conversation_goes_on_and_can_be_read;
    twenty_starts_of_one_new_conversation_are_one;
}

/// A request of one message of the user.
fn ask(text: &str, more: Value) -> Value {
    let mut body = json!({"model": "clerk", "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn put_clerk(system: &System) {
    system.client().put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
}

async fn a_chat_is_answered_whole(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    system.model.script([
        Turn::say_and_call("I look.", &[("c1", "look", json!({"n": 1}))]),
        Turn::say("All is well."),
    ]);
    let answer = client.post("/v1/chat/completions", &ask("how is it?", json!({}))).await.expect(200);
    let body = &answer.body;
    assert_eq!(body["object"], "chat.completion");
    let choice = &body["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["index"]), (&json!("stop"), &json!(0)));
    assert_eq!(choice["message"]["content"], "I look.\n\nAll is well.");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["id"], &call["function"]["name"]), (&json!("c1"), &json!("look")));
    assert_eq!(choice["message"]["holdpoint.tool_result"][0]["output"], "{\"ok\":true}");
    assert_eq!(body["usage"], json!({"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}));
    let id = body["execution_id"].as_str().unwrap();
    assert_eq!(answer.header("x-workflow-run-id"), id);
    assert_eq!(answer.header("x-holdpoint-conversation-id"), body["conversation_id"].as_str().unwrap());
    assert_eq!(client.execution(id).await["status"], "completed");
}

async fn a_conversation_goes_on_and_can_be_read(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let talk = json!({"conversation_id": "talk 1"});
    system.model.script([
        Turn::call(&[("c1", "look", json!({"n": 1}))]),
        Turn::say("It is 1."),
        Turn::say("I said it is 1."),
    ]);
    let first = client.post("/v1/chat/completions", &ask("how is it?", talk.clone())).await.expect(200);
    let second =
        client.post("/v1/chat/completions", &ask("what did you say?", talk.clone())).await.expect(200);
    assert_ne!(first.body["execution_id"], second.body["execution_id"]);
    let told = system.model.requests()[2].messages().clone();
    let roles: Vec<&str> = told.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "user"], "{told:?}");
    assert_eq!((&told[4]["content"], &told[5]["content"]), (&json!("It is 1."), &json!("what did you say?")));

    let read = client.get("/v1/conversations/talk%201").await.expect(200).body;
    let messages = read["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user", "assistant"]);
    assert_eq!(messages[2]["tool_call_id"], "c1");
    assert_eq!(messages[5]["execution_id"], second.body["execution_id"]);
    assert_eq!((&read["id"], &read["active_execution_id"]), (&json!("talk 1"), &Value::Null));
    assert_eq!(read["latest_execution_id"], second.body["execution_id"]);
    let page = client.get("/v1/conversations/talk%201?limit=4").await.expect(200).body;
    assert_eq!(page["messages"].as_array().unwrap().len(), 4);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest =
        client.get(&format!("/v1/conversations/talk%201?limit=4&cursor={cursor}")).await.expect(200).body;
    assert_eq!((&rest["messages"][0], &rest["next_cursor"]), (&messages[4], &Value::Null));
    for bad in ["limit=0", "cursor=x", "cursor=-1", "page=2"] {
        client
            .get(&format!("/v1/conversations/talk%201?{bad}"))
            .await
            .expect_problem(400, "invalid_parameter");
    }

    // The stream is that of its latest execution, with its numbering.
    let of_it = client.builder(reqwest::Method::GET, "/v1/conversations/talk%201/stream?after=1");
    let events = holdpoint_tests::sse::Stream::new(of_it.send().await.unwrap()).rest().await;
    holdpoint_tests::sse::assert_numbered_from(&events, 2);
    holdpoint_tests::sse::assert_end(&events, "completed");
    assert_eq!(events[0].data["execution_id"], second.body["execution_id"]);

    // Nothing new is a re-send: the same output, and nothing starts.
    let again = client.post("/v1/chat/completions", &ask("what did you say?", talk)).await.expect(200);
    assert_eq!(again.body["choices"], second.body["choices"]);
    assert_eq!(again.body["execution_id"], second.body["execution_id"]);
    assert_eq!(system.model.requests().len(), 3);
}

async fn twenty_starts_of_one_new_conversation_are_one(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    for round in 0..5 {
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(20));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (client, barrier) = (client.clone(), barrier.clone());
            let body = json!({"agent": "clerk", "input": "hi", "delay": "1h", "conversation_id": format!("c{round}")});
            calls.spawn(async move {
                barrier.wait().await;
                client.post("/v1/executions", &body).await
            });
        }
        let answers = calls.join_all().await;
        let (taken, busy): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
        assert_eq!((taken.len(), busy.len()), (1, 19));
        for answer in busy {
            let answer = answer.expect_problem(409, "conversation_busy");
            assert_eq!(answer.body["active_execution_id"], taken[0].body["id"]);
        }
        let messages = client.get(&format!("/v1/conversations/c{round}")).await.expect(200).body;
        assert_eq!(messages["messages"].as_array().unwrap().len(), 1);
    }
}

//! The OpenAI door as bytes, and conversations behind it.
#![allow(clippy::unwrap_used)]

use holdpoint_tests::agents::clerk;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use serde_json::{Value, json};

on_both! {
    a_chat_is_answered_whole;
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

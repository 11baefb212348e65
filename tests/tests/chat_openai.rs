//! The official `openai` packages, installed from their registries, unchanged.

use holdpoint_tests::agents::clerk;
use holdpoint_tests::clients::{SCRIPT, node, python, run};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::{Request, Turn};
use holdpoint_tests::on_both;
use holdpoint_tests::poll::until_true;
use holdpoint_tests::processes::Spawn;
use holdpoint_tests::system::System;
use serde_json::{Value, json};

on_both! {
    the_python_package_chats;
    the_node_package_chats;
}

async fn the_python_package_chats(system: System) {
    let said = chat(&system, python("openai_chat.py")).await;
    for line in ["whole:", "streamed:", "tool:", "granted:", "denied:", "resumed:", "next:", "refused:"] {
        assert!(said.contains(line), "{said}");
    }
    println!("{said}");
}

async fn the_node_package_chats(system: System) {
    let said = chat(&system, node("openai_chat.mjs")).await;
    for line in ["streamed:", "tool:", "granted:", "denied:", "resumed:", "refused:"] {
        assert!(said.contains(line), "{said}");
    }
    println!("{said}");
}

async fn chat(system: &System, script: Spawn) -> String {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let key = client.post("/v1/keys", &json!({"role": "admin", "name": "script"})).await.expect(201);
    let gate = Gate::closed();
    let held = gate.clone();
    system.model.answer_by(move |request| answer(request, &held));
    let script = script
        .env("HOLDPOINT_URL", system.url_of(0))
        .env("HOLDPOINT_KEY", key.body["key"].as_str().expect("a key"))
        .env("SIGNAL_URL", system.tools.url("/dropped"));
    // The text goes on only after the script has dropped its connection.
    let opened = async {
        // It comes there long after its start: as much time as the whole script has.
        until_true("the script drops its connection", SCRIPT, || system.tools.count("/dropped") > 0).await;
        gate.open();
    };
    tokio::join!(run(script), opened).0
}

/// The scripted model: what the user says decides.
fn answer(request: &Request, gate: &Gate) -> Turn {
    let last = request.messages().last().expect("a message");
    if last["role"] == "tool" {
        return Turn::say(&format!("Told: {}", request.last()));
    }
    let pay = |id| (id, "pay", json!({"n": 40}));
    match request.last().as_str() {
        "hello" => Turn::say("Hello there, how are you?"),
        "look" => Turn::call(&[("c1", "look", json!({"n": 7}))]),
        "pay" => Turn::call(&[pay("c1")]),
        "pay both" => Turn::call(&[pay("c1"), pay("c2")]),
        "slowly" => Turn::say("a long text that takes its time").held_midway(gate),
        "fail" => Turn::status(401),
        _ => Turn::say(&format!("You said: {}", users(request.messages()).join(" | "))),
    }
}

fn users(messages: &[Value]) -> Vec<&str> {
    let users = messages.iter().filter(|message| message["role"] == "user");
    users.filter_map(|message| message["content"].as_str()).collect()
}

//! Agents that go on in place of others, and the versions that a start pins.

use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::{Request, Turn};
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    another_agent_goes_on_and_the_conversation_remembers_it;
    too_many_transfers_fail_the_execution;
    a_start_pins_all_that_it_may_name;
    unknown_agents_are_refused_with_their_place;
}

fn speaker(request: &Request) -> String {
    request.messages()[0]["content"].as_str().unwrap().to_owned()
}

fn named(system: &System, name: &str, more: Value) -> Agent {
    Agent::new(&system.model).with(json!({"instructions": name})).with(more)
}

/// `desk` transfers to `books`, which pays; both ways.
async fn put_team(system: &System, client: &Client) {
    let books = named(system, "books", json!({})).gated(&system.tools, "pay");
    client.put_agent("books", books.document()).await;
    let to_books = json!({"transfers": [{"agent": "books", "description": "Money"}]});
    client.put_agent("desk", named(system, "desk", to_books).document()).await;
    let to_desk = json!({"transfers": [{"agent": "desk"}]});
    let books = named(system, "books", to_desk).gated(&system.tools, "pay");
    client.put_agent("books", books.document()).await;
}

async fn say(client: &Client, agent: &str, text: &str) -> String {
    let message = json!([{"role": "user", "content": text}]);
    client.start_with(json!({"agent": agent, "messages": message, "conversation_id": "talk"})).await
}

async fn another_agent_goes_on_and_the_conversation_remembers_it(system: System) {
    let client = system.client();
    put_team(&system, &client).await;
    system.model.script([
        Turn::call(&[("c1", "transfer_to_books", json!({}))]),
        Turn::call(&[("c2", "pay", json!({"n": 1}))]),
        Turn::say("paid"),
        Turn::say("I am still here"),
        Turn::call(&[("c3", "transfer_to_desk", json!({}))]),
        Turn::say("back at the desk"),
        Turn::say("the desk again"),
        Turn::say("another one"),
    ]);
    let first = say(&client, "desk", "pay it").await;
    client.wait_suspended(&first, "approval").await;
    let approval = client.pending(&first).await.remove(0);
    assert_eq!((&approval["agent"], &approval["version"]), (&json!("books"), &json!(2)), "{approval}");
    client.approve(&first, "c2").await;
    let ended = client.wait_status(&first, "completed").await;
    assert_eq!((&ended["output"], &ended["definition"]["name"]), (&json!("paid"), &json!("desk")));
    let events = client.events(&first).await;
    let transfer = events.iter().find(|event| event["type"] == "transfer").unwrap();
    assert_eq!(
        transfer["data"],
        json!({"step": 2, "tool_call_id": "c1", "from": "desk", "to": "books", "version": 2})
    );

    // The second turn begins with the sub-agent, and knows what was said.
    let second = say(&client, "desk", "and now?").await;
    client.wait_status(&second, "completed").await;
    let requests = system.model.requests();
    let speakers: Vec<String> = requests.iter().map(speaker).collect();
    assert_eq!(speakers, ["desk", "books", "books", "books"]);
    assert!(requests[3].messages().iter().any(|message| message["content"] == "paid"));

    // Transferred back, the next one begins at the desk; and so does one of another agent.
    let third = say(&client, "desk", "back, please").await;
    client.wait_status(&third, "completed").await;
    let fourth = say(&client, "desk", "who is there?").await;
    client.wait_status(&fourth, "completed").await;
    let speakers: Vec<String> = system.model.requests().iter().skip(4).map(speaker).collect();
    assert_eq!(speakers, ["books", "desk", "desk"]);
    let fifth = say(&client, "books", "you, directly").await;
    client.wait_status(&fifth, "completed").await;
    assert_eq!(speaker(&system.model.requests()[7]), "books");
}

async fn too_many_transfers_fail_the_execution(system: System) {
    let client = system.client();
    let to_itself = json!({"transfers": [{"agent": "circle"}], "max_transfers": 3});
    client.put_agent("circle", named(&system, "circle", to_itself).document()).await;
    system.model.answer_by(|_| Turn::call_raw(&[(None, "transfer_to_circle", "{}".to_owned())]));
    let id = client.start("circle").await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!((&failed["reason"], &failed["error"]["type"]), (&json!("transfer_limit"), &json!("logic")));
    let kinds = client.event_kinds(&id).await;
    assert_eq!(kinds.iter().filter(|kind| *kind == "transfer").count(), 3);
}

async fn a_start_pins_all_that_it_may_name(system: System) {
    let client = system.client();
    put_team(&system, &client).await;
    let gate = Gate::closed();
    system.model.script([
        Turn::call(&[("c1", "transfer_to_books", json!({}))]).after(&gate),
        Turn::call(&[("c2", "pay", json!({"n": 1}))]),
        Turn::say("paid"),
    ]);
    let id = client.start("desk").await;
    system.model.wait_requests(1).await;
    // All that it names changes, and goes out of use, while it runs.
    client.put_agent("books", named(&system, "robbers", json!({})).document()).await;
    client.send(client.builder(Method::DELETE, "/v1/agents/books")).await.expect(204);
    gate.open();
    client.wait_suspended(&id, "approval").await;
    assert_eq!(client.pending(&id).await[0]["version"], 2);
    client.approve(&id, "c2").await;
    client.wait_status(&id, "completed").await;
    let speakers: Vec<String> = system.model.requests().iter().map(speaker).collect();
    assert_eq!(speakers, ["desk", "books", "books"]);

    // A new start finds nobody there, and its model is told.
    system.model.script([Turn::call(&[("c1", "transfer_to_books", json!({}))]), Turn::say("alone")]);
    let id = client.start("desk").await;
    client.wait_status(&id, "completed").await;
    let told = system.model.requests().last().unwrap().told("c1").unwrap();
    assert!(told.contains("not in use"), "{told}");
}

async fn unknown_agents_are_refused_with_their_place(system: System) {
    let client = system.client();
    let put = |name: &'static str, more: Value| {
        let document = named(&system, name, more);
        let builder = client.builder(Method::PUT, &format!("/v1/agents/{name}")).json(document.document());
        client.send(builder)
    };
    let tool = |name: &str| json!({"name": "ask", "agent": {"name": name}});
    for (more, place) in [
        (json!({"transfers": [{"agent": "nobody"}]}), "transfers[0].agent"),
        (json!({"tools": [tool("nobody")]}), "tools[0].agent.name"),
        (json!({"transfers": [{"agent": "desk", "version": 7}]}), "transfers[0].agent"),
    ] {
        let refused = put("desk", more).await.expect_problem(400, "invalid_definition");
        assert_eq!(refused.body["errors"][0]["place"], place, "{}", refused.text);
    }
    put("desk", json!({"transfers": [{"agent": "desk"}]})).await.expect(201);
    put("front", json!({"transfers": [{"agent": "desk", "version": 1}], "tools": [tool("desk")]}))
        .await
        .expect(201);
}

//! Limits, turns and backpressure, from outside.

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    a_limit_is_set_shown_and_removed;
    over_the_limit_waits_says_so_and_goes_on;
    one_that_waits_for_a_person_takes_no_place;
    calls_of_a_limited_tool_go_one_after_the_other;
    a_start_beyond_the_backlog_is_refused_for_a_while;
}

async fn put(client: &Client, path: &str, body: Value) -> Value {
    let request = client.builder(Method::PUT, &format!("/v1/limits/{path}")).json(&body);
    client.send(request).await.expect(200).body
}

async fn a_limit_is_set_shown_and_removed(system: System) {
    let client = system.client();
    let limit = json!({"concurrency": 5, "rate": {"count": 100, "per": "1m"}});
    let set = put(&client, "agent/clerk", limit.clone()).await;
    assert_eq!((&set["kind"], &set["name"]), (&json!("agent"), &json!("clerk")));
    assert_eq!((&set["concurrency"], &set["rate"]), (&limit["concurrency"], &limit["rate"]));
    assert_eq!(client.get("/v1/limits/agent/clerk").await.expect(200).body, set);
    put(&client, "tenant/default", json!({"backlog": 7})).await;
    let listed = client.get("/v1/limits").await.expect(200).body;
    assert_eq!(listed["limits"].as_array().unwrap().len(), 2);
    let refused = async |path: &str, body: Value, code: &str| {
        let request = client.builder(Method::PUT, &format!("/v1/limits/{path}")).json(&body);
        client.send(request).await.expect_problem(400, code);
    };
    refused("agent/clerk", json!({}), "invalid_body").await;
    refused("agent/clerk", json!({"concurrency": 0}), "invalid_body").await;
    refused("agent/clerk", json!({"backlog": 5}), "invalid_body").await;
    refused("agent/clerk", json!({"rate": {"count": 1, "per": "9d"}}), "invalid_body").await;
    refused("agent/clerk", json!({"rate": {"count": 0, "per": "1m"}}), "invalid_body").await;
    refused("queue/clerk", json!({"concurrency": 1}), "invalid_parameter").await;
    refused("tenant/another", json!({"concurrency": 1}), "invalid_parameter").await;
    let delete = || client.send(client.builder(Method::DELETE, "/v1/limits/agent/clerk"));
    delete().await.expect(204);
    delete().await.expect_problem(404, "not_found");
    client.get("/v1/limits/agent/clerk").await.expect_problem(404, "not_found");
    for (priority, status) in [(11, 400), (-11, 400), (10, 202)] {
        let start = json!({"workflow": "holdpoint.noop", "priority": priority});
        let answer = client.post("/v1/executions", &start).await.expect(status);
        if status == 202 {
            assert_eq!(client.execution(&answer.id()).await["priority"], priority);
        }
    }
}

/// An agent whose one call waits at the gate.
async fn agent_at(system: &System, client: &Client, calls: usize) -> Gate {
    let gate = Gate::closed();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let turn = |n| Turn::call(&[(&format!("c{n}"), "look", json!({"n": n}))]);
    system.model.script((0..calls).map(turn));
    system.tools.script(
        "/look",
        (0..calls).map(|_| Reply::Held(gate.clone(), Box::new(Reply::Json(json!({"ok": true}))))),
    );
    gate
}

async fn over_the_limit_waits_says_so_and_goes_on(system: System) {
    let client = system.client();
    put(&client, "agent/clerk", json!({"concurrency": 1})).await;
    let gate = agent_at(&system, &client, 1).await;
    let first = client.start("clerk").await;
    gate.wait_arrived(1).await;
    let second = client.start("clerk").await;
    let third = client.start("clerk").await;
    let why = until("the third says what it waits for", SOON, || async {
        let why = client.get(&format!("/v1/executions/{third}/diagnosis")).await.expect(200).body;
        // While a claim puts the second into its lane, it may be counted in both.
        let is_so = why["summary"].as_str().unwrap().contains("1 waits before it");
        (why["code"] == "limited" && is_so).then_some(why)
    })
    .await;
    let summary = why["summary"].as_str().unwrap();
    assert!(
        summary.contains("the limit of the agent `clerk`, 1 execution at a time: 1 is running"),
        "{summary}"
    );
    let evidence = why["evidence"].as_array().unwrap().iter().find(|one| one["kind"] == "limit").unwrap();
    assert_eq!((&evidence["concurrency"], &evidence["running"]), (&json!(1), &json!(1)));
    // Another workflow of the same project is not held up.
    let other = client.start_with(json!({"workflow": "holdpoint.noop"})).await;
    client.wait_status(&other, "completed").await;
    assert_eq!(client.execution(&second).await["status"], "queued");
    gate.open();
    for id in [first, second, third] {
        client.wait_status(&id, "completed").await;
    }
}

async fn one_that_waits_for_a_person_takes_no_place(system: System) {
    let client = system.client();
    put(&client, "tenant/default", json!({"concurrency": 1})).await;
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    system.model.answer_by(|_| Turn::say("Done."));
    let waits = client.start("clerk").await;
    client.wait_suspended(&waits, "approval").await;
    let other = client.start_with(json!({"workflow": "holdpoint.noop"})).await;
    client.wait_status(&other, "completed").await;
    client.approve(&waits, "c1").await;
    client.wait_status(&waits, "completed").await;
}

async fn calls_of_a_limited_tool_go_one_after_the_other(system: System) {
    let client = system.client();
    put(&client, "tool/look", json!({"concurrency": 1})).await;
    let gate = agent_at(&system, &client, 3).await;
    let ids = [client.start("clerk").await, client.start("clerk").await, client.start("clerk").await];
    gate.wait_arrived(1).await;
    // All of them have journaled their call, and one has been made.
    until("each has its call", SOON, || async {
        for id in &ids {
            client.event_kinds(id).await.iter().find(|kind| *kind == "tool.called")?;
        }
        Some(())
    })
    .await;
    assert_eq!(system.tools.count("/look"), 1);
    until("two say what they wait for, and their places", SOON, || async {
        let mut whys = Vec::new();
        for id in &ids {
            let why = client.get(&format!("/v1/executions/{id}/diagnosis")).await.expect(200).body;
            whys.extend((why["code"] == "call_limited").then_some(why));
        }
        // They are looked at one after the other, while the line may still grow.
        let places: Vec<Value> = whys.iter().map(limit_of_the_call).collect();
        (places.len() == 2 && places.contains(&json!(0)) && places.contains(&json!(1))).then_some(())
    })
    .await;
    gate.open();
    for id in &ids {
        client.wait_status(id, "completed").await;
    }
    assert_eq!(system.tools.count("/look"), 3);
}

/// How many are before it.
fn limit_of_the_call(why: &Value) -> Value {
    let summary = why["summary"].as_str().unwrap();
    let waits = "waits for the limit of the tool `look`, 1 call at a time: 1 is under way, ";
    assert!(summary.contains("has it since") && summary.contains(waits), "{summary}");
    let evidence = why["evidence"].as_array().unwrap();
    let of = |kind: &str| evidence.iter().find(|one| one["kind"] == kind).unwrap();
    assert_eq!((&of("limit")["of"], &of("limit")["step"]), (&json!("tool"), &of("step")["step"]));
    of("limit")["before"].clone()
}

async fn a_start_beyond_the_backlog_is_refused_for_a_while(system: System) {
    let client = system.client();
    put(&client, "tenant/default", json!({"concurrency": 1, "backlog": 3})).await;
    let gate = agent_at(&system, &client, 1).await;
    let first = client.start("clerk").await;
    gate.wait_arrived(1).await;
    let noop = json!({"workflow": "holdpoint.noop"});
    let mut ids = vec![first];
    // The bound is kept up to what is started while it is counted.
    let refused = loop {
        let answer = client.post("/v1/executions", &noop).await;
        if answer.status != 202 {
            break answer.expect_problem(429, "backlog_full");
        }
        ids.push(answer.id());
        assert!(ids.len() < 10, "nothing is refused");
    };
    assert!(ids.len() > 2, "so many may wait: {}", ids.len());
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!((&refused.body["limit"], &refused.body["value"]), (&json!("tenant_backlog"), &json!(3)));
    let batch = client.post("/v1/executions/batch", &json!({"executions": [noop, noop]})).await.expect(200);
    let results = batch.body["results"].as_array().unwrap().clone();
    assert!(results.iter().all(|one| one["problem"]["code"] == "backlog_full"), "{results:?}");
    gate.open();
    for id in &ids {
        client.wait_status(id, "completed").await;
    }
    let taken = until("it is taken in again", SOON, || async {
        let answer = client.post("/v1/executions", &noop).await;
        (answer.status == 202).then(|| answer.id())
    })
    .await;
    client.wait_status(&taken, "completed").await;
}

/// One place, and a tenant that fills it for long: the others' executions end while its own wait.
async fn a_flood_leaves_the_others_their_turn(mut system: System) {
    let quiet = system.key_for("quiet", "shop", "submit").await;
    let (flood, quiet) = (system.client(), system.client().with_key(Some(&quiet)));
    let noop = json!({"workflow": "holdpoint.noop"});
    let batch = json!({"executions": vec![noop.clone(); 1_000]});
    for _ in 0..2 {
        let results = flood.post("/v1/executions/batch", &batch).await.expect(200).body;
        assert!(results["results"].as_array().unwrap().iter().all(|one| one["id"].is_string()));
    }
    let ids = [quiet.start_with(noop.clone()).await, quiet.start_with(noop.clone()).await];
    for id in &ids {
        quiet.wait_status(id, "completed").await;
    }
    let waiting = flood.get("/v1/executions?status=queued&limit=1").await.expect(200).body;
    assert_eq!(waiting["executions"].as_array().unwrap().len(), 1, "the flood still waits");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_services() {
    let setup = Setup::services().set("worker.slots", "1");
    a_flood_leaves_the_others_their_turn(setup.start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_on_the_embedded_store() {
    let setup = Setup::embedded().set("worker.slots", "1");
    a_flood_leaves_the_others_their_turn(setup.start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_sets_lists_and_removes() {
    let system = Setup::services().roles(1, 0, 0).start().await;
    let run = |args: &[&str]| {
        let url = system.url_of(0);
        let spawn = system.holdpoint("limits").args(["limits"]).args(args.iter().copied());
        spawn.env("HOLDPOINT_URL", &url).env("HOLDPOINT_KEY", system.admin()).run()
    };
    run(&["set", "agent", "clerk", "--concurrency", "5", "--rate", "100/1m"]);
    run(&["set", "tenant", "--backlog", "7"]);
    let table = run(&["list"]);
    assert!(table.contains("agent   clerk    5          100/1m  -"), "{table}");
    assert!(table.contains("tenant  default  -          -       7"), "{table}");
    run(&["remove", "agent", "clerk"]);
    let listed: Value = serde_json::from_str(&run(&["list", "--json"])).unwrap();
    assert_eq!(listed["limits"].as_array().unwrap().len(), 1);
}

//! The console in Debian's Chromium: scripts in `tests/clients/console/` do what a person does, by
//! roles and labels, and check each page that they see.

mod hostile;

use std::path::Path;
use std::time::Duration;

use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::Client;
use holdpoint_tests::clients::{browser, run};
use holdpoint_tests::model::{Request, Turn};
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until, until_true};
use holdpoint_tests::processes::Spawn;
use holdpoint_tests::producer::{Producer, plain};
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    a_person_decides;
    a_person_allows_the_like_too;
}

/// A browser on a busy machine takes its time; a script that hangs is ended before its test is.
const STORY: Duration = Duration::from_secs(250);

/// A script against the first API process, with what was prepared for it.
fn script(system: &System, script: &str, mut given: Value) -> Spawn {
    given["key"] = json!(system.admin());
    browser(script).env("HOLDPOINT_URL", system.url_of(0)).env("HOLDPOINT_GIVEN", given.to_string())
}

/// Runs it to its end.
async fn tell(system: &System, name: &str, given: Value) {
    println!("{}", script(system, name, given).run_within(STORY).await);
}

/// An agent whose tool `refund` waits for a decision, of the arguments that a person may edit.
fn shop(system: &System) -> Agent {
    let parameters = json!({
        "type": "object",
        "properties": {
            "order": {"type": "string", "description": "The order's number"},
            "amount_cents": {"type": "integer", "minimum": 1, "maximum": 100_000},
            "notify": {"type": "boolean"},
        },
        "required": ["order", "amount_cents"],
        "additionalProperties": false,
    });
    let refund =
        json!({"approval": "always", "description": "Pays an amount back", "parameters": parameters});
    Agent::new(&system.model).tool(&system.tools, "refund", refund)
}

/// The scripted model: it asks for a refund of the order that the user names, and tells what came of it.
fn answer(request: &Request) -> Turn {
    let last = request.messages().last().expect("a message");
    if last["role"] == "tool" {
        return Turn::say(&format!("Told: {}", request.last()));
    }
    let order = request.last();
    Turn::call(&[("c1", "refund", json!({"order": order, "amount_cents": 6100, "notify": true}))])
}

async fn ask(client: &Client, order: &str) -> String {
    let messages = json!([{"role": "user", "content": order}]);
    let start = json!({"agent": "shop", "messages": messages, "labels": {"team": "support"}});
    let id = client.start_with(start).await;
    client.wait_pending(&id, 1).await;
    id
}

async fn a_person_decides(system: System) {
    let client = system.client();
    client.put_agent("shop", shop(&system).document()).await;
    system.model.answer_by(answer);
    let (first, second) = (ask(&client, "1001").await, ask(&client, "1002").await);
    tell(&system, "person.mjs", json!({"first": first, "second": second})).await;
    // What was edited is what was sent, and what was denied was not.
    let sent: Vec<Value> = system.tools.calls("/refund").iter().map(|call| call.json()).collect();
    assert_eq!(sent, [json!({"order": "1001", "amount_cents": 4200, "notify": true})]);
    assert!(client.wait_status(&first, "completed").await["output"].to_string().contains("Told"));
    let denied = client.wait_status(&second, "completed").await;
    assert!(denied["output"].to_string().contains("not this month"), "{denied}");
}

/// A call of a tool for which two people must agree, and a workflow's question, are no cases for it.
async fn a_person_allows_the_like_too(system: System) {
    let client = system.client();
    client.put_agent("shop", shop(&system).document()).await;
    let parameters = json!({"type": "object", "properties": {}, "required": []});
    let several = json!({"approval": {"quorum": 2}, "parameters": parameters});
    let bank = Agent::new(&system.model).tool(&system.tools, "refund", several);
    client.put_agent("bank", bank.document()).await;
    let asking = json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": "asking", "version": "1.0.0"},
        "do": [{"ask": {"call": "approval:1.0.0@default", "with": {"title": "Shall it go on?"}}}],
    });
    put(&client, "/v1/workflows/asking", &asking).await;
    system.model.answer_by(answer);
    let several = client.start("bank").await;
    client.wait_pending(&several, 1).await;
    let question = client.start_with(json!({"workflow": "asking"})).await;
    let asked = client.wait_pending(&question, 1).await[0]["tool_call_id"].clone();
    let talk = json!({
        "agent": "shop", "messages": [{"role": "user", "content": "3001"}], "conversation_id": "talk",
    });
    let talk = client.start_with(talk).await;
    client.wait_pending(&talk, 1).await;
    let (denied, agents) = (ask(&client, "3003").await, ask(&client, "3004").await);
    let given = json!({
        "several": several, "question": question, "asked": asked, "talk": talk,
        "denied": denied, "agents": agents,
    });
    tell(&system, "grants.mjs", given).await;
    // What was decided with a grant was sent, and so was what the grant allowed.
    client.wait_status(&agents, "completed").await;
    let sent: Vec<Value> =
        system.tools.calls("/refund").iter().map(|call| call.json()["order"].clone()).collect();
    assert_eq!(sent, [json!("3001"), json!("3002"), json!("3004")]);
}

/// A workflow that fails so that a person has to look.
fn failing(version: &str, summary: &str) -> Value {
    json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": "failing", "version": version, "summary": summary},
        "do": [{"refuse": {"raise": {"error": {
            "type": "https://serverlessworkflow.io/spec/1.0.0/errors/authentication",
            "status": 401, "title": "the door is shut", "detail": "the shop's key was refused"}}}}],
    })
}

async fn put(client: &Client, path: &str, document: &Value) {
    let answer = client.send(client.builder(Method::PUT, path).json(document)).await;
    assert!(matches!(answer.status, 200 | 201), "{path}: {}", answer.text);
}

/// Calls that wait, each for one thing that goes wrong; and the API is killed and started again
/// when the script says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_when_people_decide_is_told() {
    let mut system = Setup::embedded().without_sweeps().start().await;
    let client = system.client();
    system.model.answer_by(answer);
    client.put_agent("shop", shop(&system).document()).await;
    client.put_agent("brief", brief(&system).document()).await;
    put(&client, "/v1/workflows/failing", &failing("1.0.0", "as before")).await;
    let expired = client.start("brief").await;
    client.wait_suspended(&expired, "approval").await;
    let (conflict, mismatch) = (ask(&client, "2001").await, ask(&client, "2002").await);
    let mut bulk = Vec::new();
    for n in 0..3 {
        bulk.push(ask(&client, &format!("bulk {n}")).await);
    }
    let reader = client.post("/v1/keys", &json!({"role": "read", "name": "reader"})).await.expect(201);
    let given = json!({
        "expired": expired, "conflict": conflict, "mismatch": mismatch, "bulk": bulk,
        "reader": reader.body["key"], "restart": system.tools.url("/restart"),
    });
    let script = script(&system, "decisions.mjs", given);
    let restart = async {
        let told = |count| {
            let tools = &system.tools;
            until_true("the script tells", STORY, move || tools.count("/restart") >= count)
        };
        told(1).await;
        system.apis[0].kill9();
        told(2).await;
        system.run_dev(&[]).await;
        ask(&client, "after the restart").await;
    };
    println!("{}", tokio::join!(script.run_within(STORY), restart).0);
}

/// Its calls expire before anybody can decide them.
fn brief(system: &System) -> Agent {
    let parameters = json!({"type": "object", "properties": {}, "required": []});
    let refund = json!({"approval": {"expires_after": "1s"}, "parameters": parameters});
    Agent::new(&system.model).tool(&system.tools, "refund", refund)
}

/// No sweep runs by itself, so that one is left to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_works_with_every_page() {
    let system = Setup::embedded().without_sweeps().start().await;
    let client = system.client();
    system.model.answer_by(answer);
    client.put_agent("shop", shop(&system).document()).await;
    client.put_agent("brief", brief(&system).document()).await;
    let stale = client.start("brief").await;
    client.wait_suspended(&stale, "approval").await;
    for (version, summary) in [("1.0.0", "as before"), ("1.0.1", "as after")] {
        put(&client, "/v1/workflows/failing", &failing(version, summary)).await;
    }
    let failed = client.start_with(json!({"workflow": "failing"})).await;
    client.wait_status(&failed, "failed").await;
    let nightly = json!({"workflow": "holdpoint.noop", "cron": "30 2 * * *", "time_zone": "Europe/Berlin"});
    put(&client, "/v1/schedules/nightly", &nightly).await;
    tell(&system, "operators.mjs", json!({"stale": stale})).await;
}

/// One comes before the workflow that it names, one is too big to be kept, one makes no sense.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parked_messages_are_taken_in_again_and_removed() {
    let system = Setup::services().start().await;
    let client = system.client();
    let producer = Producer::connect(&system).await;
    let huge = json!({"workflow": "holdpoint.noop", "input": "x".repeat(2 * 1024 * 1024)});
    let bodies = [
        ("early", json!({"workflow": "later"}).to_string()),
        ("huge", huge.to_string()),
        ("wrong", "{".into()),
    ];
    for (name, body) in &bodies {
        producer.publish(plain("holdpoint.execution.start.v1", name, system.admin()), body.as_bytes()).await;
    }
    let parked = until("all are parked", SOON, || async {
        let list = client.get("/v1/parked-messages").await.expect(200);
        let rows = list.body["parked_messages"].as_array().unwrap().clone();
        (rows.len() == bodies.len()).then_some(rows)
    })
    .await;
    producer.close().await;
    let id_of = |code: &str| parked.iter().find(|row| row["code"] == code).unwrap()["id"].clone();
    let later = json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": "later", "version": "1.0.0"},
        "do": [{"note": {"set": {"done": true}}}],
    });
    let given = json!({
        "early": id_of("unknown_definition"), "huge": id_of("limit"), "wrong": id_of("undecodable"),
        "later": later,
    });
    tell(&system, "parked.mjs", given).await;
}

#[tokio::test]
async fn two_texts_differ_in_the_lines_that_are_told() {
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../api/src/console/assets");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/console/differences.mjs");
    let script = Spawn::program("differences", "node").args([script.to_str().unwrap()]);
    run(script.env("DIFF", assets.join("diff.js").to_str().unwrap())).await;
}

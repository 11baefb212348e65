//! Workflows' documents end to end: registered as their authors wrote them, checked by the real
//! evaluator, shown and taken out of use, by HTTP and by the command line.

use holdpoint_tests::client::{Answer, Client};
use holdpoint_tests::on_both;
use holdpoint_tests::poll::SOON;
use holdpoint_tests::processes::Spawn;
use holdpoint_tests::system::System;
use reqwest::Method;
use serde_json::json;

const FLOW: &str = "# What it is for stands here.
document:
  dsl: '1.0.3'
  namespace: tests
  name: flow
  version: '0.1.0'
schedule:
  every: { hours: 1 }
do:
  - greet:
      set:
        hello: ${ .name // \"you\" }
";

on_both! {
    a_document_becomes_a_version;
    a_bad_one_is_told_as_compilers_tell_it;
}

async fn put(client: &Client, text: &str) -> Answer {
    let builder = client.builder(Method::PUT, "/v1/workflows/flow");
    client.send(builder.header("content-type", "application/yaml").body(text.to_owned())).await
}

fn command_line(system: &System, args: &[&str]) -> Spawn {
    let spawn = system.holdpoint("client").args(args);
    spawn.env("HOLDPOINT_URL", system.url_of(0)).env("HOLDPOINT_KEY", system.admin())
}

async fn a_document_becomes_a_version(system: System) {
    let client = system.client();
    let made = put(&client, FLOW).await.expect(201);
    assert_eq!(made.header("location"), "/v1/workflows/flow?version=1");
    assert_eq!((&made.body["label"], &made.body["state"]), (&json!("0.1.0"), &json!("active")));
    assert_eq!(made.body["source"], FLOW);
    let other_layout = serde_json::to_string_pretty(&made.body["document"]).unwrap();
    let same = put(&client, &other_layout).await.expect(200);
    assert_eq!((&same.body["version"], &same.body["source"]), (&json!(1), &json!(FLOW)));
    let schedules = client.get("/v1/schedules").await.expect(200).body;
    assert_eq!(schedules["schedules"][0]["definition"]["name"], "flow", "{schedules}");

    let unscheduled = FLOW.replace("schedule:\n  every: { hours: 1 }\n", "").replace("0.1.0", "0.2.0");
    assert_eq!(put(&client, &unscheduled).await.expect(201).body["version"], 2);
    let schedules = client.get("/v1/schedules").await.expect(200).body;
    assert_eq!(schedules["schedules"], json!([]), "the version brings none");
    let first = client.get("/v1/workflows/flow?version=1").await.expect(200).body;
    assert_eq!(first["document"]["document"]["version"], "0.1.0");
    let versions = client.get("/v1/workflows/flow/versions").await.expect(200).body;
    assert_eq!(versions["versions"][0]["label"], "0.2.0");

    let execution = client.start_with(json!({"workflow": "flow", "input": {"name": "Ada"}})).await;
    client.wait_status(&execution, "completed").await;
    assert_eq!(client.execution(&execution).await["output"], json!({"hello": "Ada"}));
    client.send(client.builder(Method::DELETE, "/v1/workflows/flow")).await.expect(204);
    client.get("/v1/workflows/flow").await.expect_problem(404, "not_found");
}

async fn a_bad_one_is_told_as_compilers_tell_it(system: System) {
    let client = system.client();
    let bad = FLOW.replace("${ .name // \"you\" }", "${ env.HOME | .. + }").replace("every:", "evry:");
    let answer = put(&client, &bad).await;
    assert_eq!((answer.status, &answer.body["code"]), (400, &json!("invalid_workflow")));
    let errors = answer.body["errors"].as_array().unwrap();
    let places: Vec<_> =
        errors.iter().map(|error| (&error["line"], &error["column"], &error["pointer"])).collect();
    let [schedule, expression] = places[..] else { panic!("{errors:?}") };
    assert_eq!(schedule, (&json!(8), &json!(3), &json!("/schedule/evry")));
    assert_eq!(expression, (&json!(12), &json!(16), &json!("/do/0/greet/set/hello")));

    let file = system.folder().join("flow.yaml");
    std::fs::write(&file, &bad).unwrap();
    let path = file.to_str().unwrap();
    let mut process = command_line(&system, &["workflows", "apply", path]).spawn();
    let code = process.wait_exit(SOON).await.code();
    let told = process.log().join("\n");
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("{path}:8:3: /schedule/evry: unknown key `evry`")), "{told}");
    std::fs::write(&file, FLOW).unwrap();
    let told = command_line(&system, &["workflows", "apply", path]).run();
    assert!(told.contains("flow  version 1 (0.1.0)  new"), "{told}");
    let told = command_line(&system, &["workflows", "apply", path]).run();
    assert!(told.contains("unchanged"), "{told}");
    assert_eq!(command_line(&system, &["workflows", "show", "flow"]).run().trim(), FLOW.trim());
    assert!(command_line(&system, &["workflows", "list"]).run().contains("flow"));
    command_line(&system, &["workflows", "delete", "flow"]).run();
    assert_eq!(client.get("/v1/workflows/flow").await.status, 404);
}

//! One trace from the request that starts an execution to its end, whoever carries it on.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::collector::{Collector, Span};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::producer::{Producer, command};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::{Value, json};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traceparent(sampled: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{sampled}")
}

async fn system(setup: Setup, collector: &Collector) -> System {
    let system = setup.set("trace.otlp_endpoint", &collector.url).start().await;
    let document = clerk(&system.model, &system.tools);
    system.client().put_agent("clerk", document.document()).await;
    system
}

fn script(system: &System) {
    system.model.script([
        Turn::call(&[("c1", "look", json!({"n": 1}))]),
        Turn::call(&[("c2", "pay", json!({"n": 2}))]),
        Turn::say("done"),
    ]);
}

/// What the clerk leaves: its tool fails once.
const NAMES: &[&str] = &[
    "POST /v1/executions",
    "agent clerk",
    "run",
    "model",
    "http look",
    "http look",
    "model",
    "approval",
    "run",
    "http pay",
    "model",
];

async fn carry_on(system: &System, id: &str) {
    let client = system.client();
    client.wait_pending(id, 1).await;
    client.wait_suspended(id, "approval").await;
    client.approve(id, "c2").await;
    client.wait_status(id, "completed").await;
}

/// Every span but the first has its parent in the trace, and none begins before it was made.
fn assert_whole(spans: &[Span], outside: &str) {
    for span in spans {
        let inside = spans.iter().any(|parent| parent.id == span.parent);
        assert!(inside || span.parent == outside, "{span:?} hangs on nothing");
        assert!(span.ended >= span.began, "{span:?}");
        assert_eq!(span.service, "holdpoint");
    }
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:?}"))
}

async fn a_callers_trace_goes_on_to_the_end(setup: Setup) {
    let collector = Collector::start().await;
    let system = system(setup, &collector).await;
    script(&system);
    system.tools.script("/look", [Reply::Status(503)]);
    let body = json!({"agent": "clerk", "input": "go"});
    let headers = [("traceparent", &*traceparent("01"))];
    let id = system.client().post_with("/v1/executions", &headers, &body).await.expect(202).id();
    carry_on(&system, &id).await;

    let spans = collector.wait(TRACE, NAMES).await;
    assert_whole(&spans, PARENT);
    let request = one(&spans, "POST /v1/executions");
    assert_eq!((request.parent.as_str(), request.kind), (PARENT, 2));
    assert_eq!(request.attributes["http.response.status_code"], "202");
    let root = one(&spans, "agent clerk");
    assert_eq!(root.parent, request.id);
    assert_eq!(root.attributes["holdpoint.execution.id"], id);
    for span in spans.iter().filter(|span| matches!(&*span.name, "run" | "approval")) {
        assert_eq!(span.parent, root.id, "{span:?}");
    }
    let runs: Vec<&Span> = spans.iter().filter(|span| span.name == "run").collect();
    assert_eq!(runs[0].attributes["holdpoint.run.outcome"], "suspended");
    assert_eq!(runs[1].attributes["holdpoint.run.outcome"], "completed");
    let looks: Vec<&Span> = spans.iter().filter(|span| span.name == "http look").collect();
    assert_eq!(looks.iter().map(|span| span.failed).collect::<Vec<_>>(), [true, false]);
    assert!(looks.iter().all(|span| span.parent == runs[0].id && span.kind == 3));
    assert_eq!(one(&spans, "http pay").parent, runs[1].id);
    assert_eq!(one(&spans, "approval").attributes["holdpoint.approval.outcome"], "approved");
    // Each attempt tells the tool of its own span.
    let sent: Vec<String> = system.tools.calls("/look").iter().map(|call| header(&call.headers)).collect();
    let expected: Vec<String> = looks.iter().map(|span| format!("00-{TRACE}-{}-01", span.id)).collect();
    assert_eq!(sent, expected);
    let asked: Vec<String> = system.model.requests().iter().map(|request| header(&request.headers)).collect();
    assert!(asked.len() == 3 && asked.iter().all(|value| value.contains(TRACE)), "{asked:?}");
}

fn header(headers: &axum::http::HeaderMap) -> String {
    headers.get("traceparent").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_trace_goes_on_to_the_end_on_services() {
    a_callers_trace_goes_on_to_the_end(Setup::services()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_callers_trace_goes_on_to_the_end_embedded() {
    a_callers_trace_goes_on_to_the_end(Setup::embedded()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_a_trace_has_its_own_and_a_killed_worker_does_not_break_it() {
    let collector = Collector::start().await;
    let mut system = system(Setup::services(), &collector).await;
    script(&system);
    let client = system.client();
    let id = client.start("clerk").await;
    client.wait_pending(&id, 1).await;
    client.wait_suspended(&id, "approval").await;
    // What the first worker told has left it.
    let trace = header(&system.tools.calls("/look")[0].headers)[3..35].to_owned();
    collector
        .wait(&trace, &["POST /v1/executions", "agent clerk", "run", "model", "http look", "model"])
        .await;
    system.workers[0].kill9();
    system.start_worker(&[]);
    client.approve(&id, "c2").await;
    client.wait_status(&id, "completed").await;

    let names: Vec<&str> = NAMES.iter().copied().skip(1).collect();
    let names: Vec<&str> = [&["POST /v1/executions"][..], &names].concat();
    let mut names = names;
    names.remove(names.iter().position(|name| *name == "http look").unwrap());
    let spans = collector.wait(&trace, &names).await;
    assert_whole(&spans, "");
    assert_eq!(one(&spans, "POST /v1/executions").parent, one(&spans, "agent clerk").id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_that_is_not_sampled_is_carried_and_not_told() {
    let collector = Collector::start().await;
    let system = system(Setup::services(), &collector).await;
    let client = system.client();
    system.model.script([Turn::call(&[("c1", "look", json!({"n": 1}))]), Turn::say("done")]);
    let headers = [("traceparent", &*traceparent("00"))];
    let body = json!({"agent": "clerk", "input": "go"});
    let id = client.post_with("/v1/executions", &headers, &body).await.expect(202).id();
    client.wait_status(&id, "completed").await;
    let sent = header(&system.tools.calls("/look")[0].headers);
    assert!(sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-00"), "{sent}");
    // A later trace has come whole: the earlier one never will.
    system.model.script([Turn::say("done")]);
    let id = client.start("clerk").await;
    client.wait_status(&id, "completed").await;
    let trace = header(&system.model.requests().last().unwrap().headers)[3..35].to_owned();
    collector.wait(&trace, &["POST /v1/executions", "agent clerk", "run", "model"]).await;
    assert!(!collector.traces().contains(&TRACE.to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn producers_children_and_workers_elsewhere_are_of_one_trace() {
    let collector = Collector::start().await;
    let system = system(Setup::services(), &collector).await;
    let client = system.client();
    let delegate: Value = json!({"name": "ask", "agent": {"name": "child"}});
    client.put_agent("child", Agent::new(&system.model).document()).await;
    let mut parent = Agent::new(&system.model).document().clone();
    parent["tools"] = json!([delegate]);
    client.put_agent("parent", &parent).await;
    // The parent has given its lease back before the child ends: it is held twice, however slow its commit.
    let gate = Gate::closed();
    system.model.script([
        Turn::call(&[("c1", "ask", json!({"input": "well?"}))]),
        Turn::say("well.").after(&gate),
        Turn::say("done"),
    ]);
    let mut producer = Producer::connect(&system).await;
    let data = json!({"api_key": system.admin(), "agent": "parent", "input": "go"});
    let event = command("holdpoint.execution.start.v1", "t-1", data);
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent("01").into()));
    let properties = BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_reply_to(producer.reply_to.clone())
        .with_headers(headers);
    producer.publish(properties, event.to_string().as_bytes()).await;
    let id = producer.accepted().await;
    client.wait_suspended(&id, "signal").await;
    gate.open();
    client.wait_status(&id, "completed").await;

    let names =
        ["agent parent", "run", "run", "model", "delegate ask", "agent child", "run", "model", "model"];
    let spans = collector.wait(TRACE, &names).await;
    assert_whole(&spans, PARENT);
    assert_eq!(one(&spans, "agent parent").parent, PARENT);
    assert_eq!(one(&spans, "agent child").parent, one(&spans, "delegate ask").id);
    producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_stops_nothing() {
    let setup = Setup::services().set("trace.otlp_endpoint", "http://127.0.0.1:9");
    let system = setup.start().await;
    let client = system.client();
    let id = client.start_with(json!({"workflow": "holdpoint.noop"})).await;
    client.wait_status(&id, "completed").await;
}

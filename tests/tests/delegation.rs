//! Calls that are executions of other agents: their approvals and ends reach the parent, a
//! decision through either is one, and nothing of it is lost with a process.

use std::sync::Arc;

use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::Client;
use holdpoint_tests::model::{Request, Turn};
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use serde_json::{Value, json};
use tokio::sync::Barrier;

on_both! {
    a_childs_approval_is_decided_through_its_parent;
    a_childs_approval_is_decided_on_the_child;
    a_childs_failure_is_told_to_the_parents_model;
    a_cancelled_parent_cancels_its_children;
    a_childs_child_is_reached_through_both with Setup::without_sweeps;
    it_is_not_delegated_without_end;
    a_decision_through_both_is_one;
}

fn speaker(request: &Request) -> &str {
    request.messages()[0]["content"].as_str().unwrap()
}

fn named(system: &System, name: &str) -> Agent {
    Agent::new(&system.model).with(json!({"instructions": name}))
}

fn asks(agent: &str) -> Value {
    json!({"tools": [{"name": "ask", "agent": {"name": agent}}]})
}

/// `boss` asks `clerk`, which pays with an approval; what each model says follows from who it is.
async fn put_boss(system: &System, client: &Client) {
    client.put_agent("clerk", named(system, "clerk").gated(&system.tools, "pay").document()).await;
    client.put_agent("boss", named(system, "boss").with(asks("clerk")).document()).await;
    system.model.answer_by(|request| match (speaker(request), request.turns()) {
        ("clerk", 0) => Turn::call(&[("p1", "pay", json!({"n": 1}))]),
        ("clerk", _) => Turn::say("clerk is done"),
        (_, 0) => Turn::call(&[("a1", "ask", json!({"input": "pay it"}))]),
        _ => Turn::say("boss is done"),
    });
}

async fn waiting(system: &System, client: &Client) -> (String, String) {
    put_boss(system, client).await;
    let body = json!({"agent": "boss", "input": "go", "conversation_id": "talk", "priority": 3});
    let id = client.start_with(body).await;
    client.wait_suspended(&id, "approval").await;
    let shown = client.wait_pending(&id, 1).await.remove(0);
    let child = shown["delegated_by"]["execution_id"].as_str().unwrap().to_owned();
    (id, child)
}

async fn a_childs_approval_is_decided_through_its_parent(system: System) {
    let client = system.client();
    let (id, child) = waiting(&system, &client).await;
    let steps = client.steps(&id).await;
    assert!(steps.iter().any(|step| step["child"] == child.as_str()), "the step names its child: {steps:?}");
    assert_eq!(client.execution(&child).await["priority"], 3, "a child has its parent's priority");
    let of_conversation = client.get("/v1/conversations/talk/pending-approvals").await.expect(200).body;
    let of_parent = client.pending(&id).await;
    for shown in [&of_parent[0], &of_conversation["approvals"][0]] {
        assert_eq!(
            (&shown["execution_id"], &shown["tool_call_id"]),
            (&json!(id), &json!("a1:p1")),
            "{shown}"
        );
        assert_eq!(shown["delegated_by"], json!({"execution_id": child, "tool_call_id": "p1"}));
        assert_eq!((&shown["agent"], &shown["tool"]), (&json!("clerk"), &json!("pay")));
    }
    let of_child = client.execution(&child).await;
    assert_eq!((&of_child["parent"], &of_child["input"]), (&json!(id), &json!("pay it")), "{of_child}");
    assert_eq!(of_child["conversation_id"], Value::Null);

    let yes = json!({"approved": true});
    let taken = client.decide(&id, "a1:p1", &yes).await.expect(200).body;
    assert_eq!((&taken["execution_id"], &taken["tool_call_id"]), (&json!(id), &json!("a1:p1")));
    assert_eq!((&taken["decision"], &taken["already_decided"]), (&json!("approved"), &json!(false)));
    for (execution, call) in [(&id, "a1:p1"), (&child, "p1")] {
        let again = client.decide(execution, call, &yes).await.expect(200).body;
        assert_eq!(again["already_decided"], true, "{again}");
        client.deny_conflict(execution, call).await;
    }
    for unknown in ["a1:p2", "a2:p1", "a1:", ":p1", "p1"] {
        client.decide(&id, unknown, &yes).await.expect_problem(404, "not_found");
    }

    let ended = client.wait_status(&id, "completed").await;
    assert_eq!(ended["output"], "boss is done");
    assert_eq!(system.tools.count("/pay"), 1);
    let told = system.model.requests().iter().find_map(|request| request.told("a1")).unwrap();
    assert_eq!(told, "clerk is done");
    let events = client.events(&id).await;
    let of = |kind: &str| events.iter().filter(|event| event["type"] == kind).collect::<Vec<_>>();
    for kind in ["approval.requested", "approval.decided"] {
        assert_eq!(of(kind).len(), 1, "{kind}");
        assert_eq!(of(kind)[0]["data"]["delegated_by"]["execution_id"], child.as_str());
        assert_eq!(of(kind)[0]["data"]["tool_call_id"], "a1:p1");
    }
    let numbers: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=numbers.len() as i64).collect::<Vec<_>>());
}

trait DenyConflict {
    async fn deny_conflict(&self, id: &str, call: &str);
}

impl DenyConflict for Client {
    async fn deny_conflict(&self, id: &str, call: &str) {
        let refused = self.decide(id, call, &json!({"approved": false})).await;
        let refused = refused.expect_problem(409, "approval_conflict");
        assert_eq!(
            (&refused.body["decision"], &refused.body["execution_id"]),
            (&json!("approved"), &json!(id))
        );
    }
}

async fn a_childs_approval_is_decided_on_the_child(system: System) {
    let client = system.client();
    let (id, child) = waiting(&system, &client).await;
    client.deny(&child, "p1", "too much").await;
    client.wait_status(&id, "completed").await;
    assert_eq!(system.tools.count("/pay"), 0);
    let events = client.events(&id).await;
    let decided = events.iter().find(|event| event["type"] == "approval.decided").unwrap();
    assert_eq!(
        (&decided["data"]["approved"], &decided["data"]["reason"]),
        (&json!(false), &json!("too much"))
    );
}

async fn a_childs_failure_is_told_to_the_parents_model(system: System) {
    let client = system.client();
    let hasty =
        named(&system, "hasty").tool(&system.tools, "pay", json!({"approval": {"expires_after": "300ms"}}));
    client.put_agent("hasty", hasty.document()).await;
    client.put_agent("boss", named(&system, "boss").with(asks("hasty")).document()).await;
    system.model.answer_by(|request| match (speaker(request), request.turns()) {
        ("hasty", _) => Turn::call(&[("p1", "pay", json!({"n": 1}))]),
        (_, 0) => Turn::call(&[("a1", "ask", json!({"input": "pay it"}))]),
        _ => Turn::say("boss goes on"),
    });
    let id = client.start("boss").await;
    let ended = client.wait_status(&id, "completed").await;
    assert_eq!(ended["output"], "boss goes on");
    let kinds = client.event_kinds(&id).await;
    assert!(
        kinds.contains(&"approval.closed".to_owned()) && kinds.contains(&"tool.failed".to_owned()),
        "{kinds:?}"
    );
    let told = system.model.requests().iter().find_map(|request| request.told("a1")).unwrap();
    assert!(told.contains("timeout"), "{told}");
}

async fn a_cancelled_parent_cancels_its_children(system: System) {
    let client = system.client();
    let (id, child) = waiting(&system, &client).await;
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    client.wait_status(&child, "cancelled").await;
    let closed = client.decide(&id, "a1:p1", &json!({"approved": true})).await;
    closed.expect_problem(410, "approval_closed");
    let kinds = client.event_kinds(&id).await;
    assert_eq!(kinds.last().unwrap(), "execution.cancelled", "nothing comes after the end: {kinds:?}");
    assert!(kinds.contains(&"approval.closed".to_owned()), "{kinds:?}");
    assert_eq!(client.pending(&id).await.len(), 0);
}

/// Nothing but the nudges carries the news: there are no sweeps.
async fn a_childs_child_is_reached_through_both(system: System) {
    let client = system.client();
    client.put_agent("clerk", named(&system, "clerk").gated(&system.tools, "pay").document()).await;
    client.put_agent("chief", named(&system, "chief").with(asks("clerk")).document()).await;
    client.put_agent("boss", named(&system, "boss").with(asks("chief")).document()).await;
    system.model.answer_by(|request| match (speaker(request), request.turns()) {
        ("clerk", 0) => Turn::call(&[("p1", "pay", json!({"n": 1}))]),
        (_, 0) => Turn::call(&[("a1", "ask", json!({"input": "pay it"}))]),
        (who, _) => Turn::say(&format!("{who} is done")),
    });
    let id = client.start("boss").await;
    let shown = client.wait_pending(&id, 1).await.remove(0);
    assert_eq!(
        (&shown["tool_call_id"], &shown["delegated_by"]["tool_call_id"]),
        (&json!("a1:a1:p1"), &json!("p1"))
    );
    client.wait_suspended(&id, "approval").await;
    client.approve(&id, "a1:a1:p1").await;
    let ended = client.wait_status(&id, "completed").await;
    assert_eq!(ended["output"], "boss is done");
    let clerk = shown["delegated_by"]["execution_id"].as_str().unwrap();
    let chief = client.execution(clerk).await["parent"].as_str().unwrap().to_owned();
    assert_eq!(client.execution(&chief).await["parent"], id.as_str());
}

async fn it_is_not_delegated_without_end(system: System) {
    let client = system.client();
    client.put_agent("echo", named(&system, "echo").document()).await;
    client.put_agent("echo", named(&system, "echo").with(asks("echo")).document()).await;
    system.model.answer_by(|request| match request.turns() {
        0 => Turn::call(&[("a1", "ask", json!({"input": "again"}))]),
        _ => Turn::say(&request.told("a1").unwrap()),
    });
    let id = client.start("echo").await;
    let ended = client.wait_status(&id, "completed").await;
    assert!(ended["output"].as_str().unwrap().contains("limit depth is 8"), "{ended}");
    let all = client.get("/v1/executions?agent=echo&limit=100").await.expect(200).body;
    assert_eq!(all["executions"].as_array().unwrap().len(), 9);
}

async fn a_decision_through_both_is_one(system: System) {
    let client = system.client();
    put_boss(&system, &client).await;
    // Many calls of one child give many approvals to race for.
    let calls: Vec<String> = (0..200).map(|n| format!("p{n}")).collect();
    let asked = calls.clone();
    system.model.answer_by(move |request| match (speaker(request), request.turns()) {
        ("clerk", turn) if turn < 4 => {
            let part = asked[turn * 50..(turn + 1) * 50].iter();
            let raw: Vec<_> =
                part.map(|id| (Some(id.as_str()), "pay", json!({"n": 1}).to_string())).collect();
            Turn::call_raw(&raw)
        }
        ("clerk", _) => Turn::say("clerk is done"),
        (_, 0) => Turn::call(&[("a1", "ask", json!({"input": "pay it"}))]),
        _ => Turn::say("boss is done"),
    });
    let id = client.start("boss").await;
    for turn in 0..4 {
        let pending = client.wait_pending(&id, 50).await;
        let child = pending[0]["delegated_by"]["execution_id"].as_str().unwrap().to_owned();
        for call in &calls[turn * 50..(turn + 1) * 50] {
            race(&client, &id, &child, call).await;
        }
    }
    client.wait_status(&id, "completed").await;
    let events = client.events(&id).await;
    let mut decided: Vec<&str> = events
        .iter()
        .filter(|event| event["type"] == "approval.decided")
        .map(|event| event["data"]["tool_call_id"].as_str().unwrap())
        .collect();
    decided.sort_unstable();
    decided.dedup();
    assert_eq!(decided.len(), 200);
}

/// The one approves through the parent, the other denies on the child; one wins.
async fn race(client: &Client, parent: &str, child: &str, call: &str) {
    let barrier = Arc::new(Barrier::new(2));
    let shown = format!("a1:{call}");
    let one = |execution: &str, call: String, approved: bool| {
        let (client, execution, barrier) = (client.clone(), execution.to_owned(), Arc::clone(&barrier));
        tokio::spawn(async move {
            barrier.wait().await;
            client.decide(&execution, &call, &json!({"approved": approved})).await
        })
    };
    let (up, down) = (one(parent, shown, true), one(child, call.to_owned(), false));
    let (up, down) = (up.await.unwrap(), down.await.unwrap());
    let statuses = (up.status, down.status);
    assert!(matches!(statuses, (200, 409) | (409, 200)), "{call}: {} {}", up.text, down.text);
}

/// The worker that would tell the parent dies before it does; nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_before_it_tells_the_parent_loses_nothing() {
    // No lease runs out by itself, however slow the machine is: a call would not be repeated.
    let mut system = Setup::services().roles(1, 0, 1).set("worker.lease_ms", "60000").start().await;
    let client = system.client();
    put_boss(&system, &client).await;
    let id = client.start_with(json!({"agent": "boss", "input": "go"})).await;
    let dies = [("HOLDPOINT_FAILPOINT", "db.relay.before")];
    // First the question is lost, then the end.
    let worker = system.start_worker(&dies);
    system.workers[worker].wait_for_failpoint().await;
    system.workers[worker].kill9();
    system.leases_run_out();
    let shown = client.wait_pending(&id, 1).await.remove(0);
    let child = shown["delegated_by"]["execution_id"].as_str().unwrap().to_owned();
    let last = system.start_worker(&[]);
    until("the parent shows the question", SOON, || async {
        client.event_kinds(&id).await.contains(&"approval.requested".to_owned()).then_some(())
    })
    .await;
    client.wait_suspended(&id, "approval").await;
    system.workers[last].kill9();
    let worker = system.start_worker(&dies);
    client.approve(&child, "p1").await;
    system.workers[worker].wait_for_failpoint().await;
    // A sweep may have been there before, with the decision: then the call is still under way.
    client.wait_status(&child, "completed").await;
    system.workers[worker].kill9();
    system.leases_run_out();
    system.start_worker(&[]);
    let ended = client.wait_status(&id, "completed").await;
    assert_eq!(ended["output"], "boss is done");
    assert_eq!(system.tools.count("/pay"), 1);
    let children = client.get("/v1/executions?agent=clerk").await.expect(200).body;
    assert_eq!(children["executions"].as_array().unwrap().len(), 1);
}

/// A worker that dies with the child's start committed and unknown to the parent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_is_started_once_whoever_dies() {
    for point in ["worker.effect.before:2", "db.create.after", "worker.effect.after:2"] {
        let mut system = Setup::services().roles(1, 0, 1).set("worker.lease_ms", "2000").start().await;
        let client = system.client();
        let clerk = named(&system, "clerk").tool(&system.tools, "pay", json!({"effect": "idempotent"}));
        client.put_agent("clerk", clerk.document()).await;
        client.put_agent("boss", named(&system, "boss").with(asks("clerk")).document()).await;
        system.model.answer_by(|request| match (speaker(request), request.turns()) {
            ("clerk", _) => Turn::say("clerk is done"),
            (_, 0) => Turn::call(&[("a1", "ask", json!({"input": "pay it"}))]),
            _ => Turn::say("boss is done"),
        });
        let id = client.start("boss").await;
        let worker = system.start_worker(&[("HOLDPOINT_FAILPOINT", point)]);
        system.workers[worker].wait_for_failpoint().await;
        system.workers[worker].kill9();
        system.start_worker(&[]);
        client.wait_status(&id, "completed").await;
        let children = client.get("/v1/executions?agent=clerk").await.expect(200).body;
        assert_eq!(children["executions"].as_array().unwrap().len(), 1, "{point}");
    }
}

//! An execution from its start to its end, through an approval.

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::{From, go};
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::sse::{assert_end, assert_numbered_from, kinds};
use holdpoint_tests::system::{Setup, System};
use serde_json::json;

on_both! {
    three_turns_two_tools_one_approval;
    the_status_is_there_with_the_id;
    a_denial_and_its_reason_reach_the_model;
    one_tool_twice_is_two_approvals;
    calls_that_need_no_approval_go_on_while_others_wait;
    a_noop_workflow_completes;
    the_same_key_is_the_same_execution;
    a_conversation_has_one_active_execution;
}

async fn three_turns_two_tools_one_approval(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([
        Turn::call(&[("c1", "look", json!({"n": 1}))]),
        Turn::say_and_call("I will pay now.", &[("c2", "pay", json!({"n": 2}))]),
        Turn::say("All is paid and done."),
    ]);
    let (id, mut stream) = client.start_streaming(&go("clerk")).await;
    assert!(stream.header("content-type").starts_with("text/event-stream"));
    assert_eq!(stream.header("cache-control"), "no-cache");
    assert_eq!(stream.header("x-accel-buffering"), "no");
    let mut events = Vec::new();
    loop {
        let event = stream.next().await.expect("an approval is asked for");
        events.push(event);
        if events.last().unwrap().kind == "approval.requested" {
            break;
        }
    }
    assert_eq!(events.last().unwrap().data["data"]["tool_call_id"], "c2");
    client.wait_suspended(&id, "approval").await;
    assert_eq!(system.tools.count("/pay"), 0, "not before the decision");
    client.approve(&id, "c2").await;
    events.extend(stream.rest().await);

    assert_numbered_from(&events, 1);
    assert_end(&events, "completed");
    let without_text: Vec<&str> =
        kinds(&events).into_iter().filter(|kind| *kind != "message.delta").collect();
    assert_eq!(
        without_text,
        [
            "execution.started",
            "message.completed",
            "tool.called",
            "tool.completed",
            "message.completed",
            "approval.requested",
            "execution.suspended",
            "approval.decided",
            "execution.resumed",
            "tool.called",
            "tool.completed",
            "message.completed",
            "execution.completed",
            "end",
        ]
    );
    let execution = client.wait_status(&id, "completed").await;
    assert_eq!(execution["output"], "All is paid and done.");
    assert_eq!(execution["usage"]["input_tokens"], 30);
    assert_eq!(execution["usage"]["cost_micros"], 3 * (10 + 2 * 5));
    assert_eq!((system.tools.count("/look"), system.tools.count("/pay")), (1, 1));
    assert_eq!(system.tools.calls("/pay")[0].body, "{\"n\":2}");
    let text: String = events
        .iter()
        .filter(|event| event.kind == "message.delta")
        .map(|event| event.data["data"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "I will pay now.All is paid and done.");
    let again = client.stream(&id, From::Start).await.rest().await;
    assert_eq!(again, events, "a finished execution replays to the letter");
}

async fn the_status_is_there_with_the_id(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.answer_by(|request| {
        if request.turns() == 0 { Turn::call(&[("c1", "pay", json!({"n": 1}))]) } else { Turn::say("ok") }
    });
    for _ in 0..10 {
        let answer = client.post("/v1/executions", &go("clerk")).await.expect(202);
        let id = answer.id();
        assert_eq!(answer.header("location"), format!("/v1/executions/{id}"));
        assert_eq!(answer.header("x-workflow-run-id"), id);
        client.get(&format!("/v1/executions/{id}")).await.expect(200);
        client.stream(&id, From::Start).await.wait_for("approval.requested").await;
        let decided = client.approve(&id, "c1").await;
        assert_eq!(decided.body["already_decided"], false);
        client.wait_status(&id, "completed").await;
    }
    assert_eq!(system.tools.count("/pay"), 10);
}

async fn a_denial_and_its_reason_reach_the_model(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))]), Turn::say("Then not.")]);
    let id = client.start("clerk").await;
    client.wait_suspended(&id, "approval").await;
    client.deny(&id, "c1", "far \"too\" much").await;
    let execution = client.wait_status(&id, "completed").await;
    assert_eq!(execution["output"], "Then not.");
    assert_eq!(system.tools.count("/pay"), 0);
    let told = system.model.requests()[1].told("c1").expect("the model is told");
    assert!(told.contains("far \\\"too\\\" much"), "{told}");
    assert!(client.event_kinds(&id).await.contains(&"tool.denied".to_owned()));
}

async fn one_tool_twice_is_two_approvals(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    for first in ["a", "b"] {
        let before = system.tools.count("/pay");
        let calls = [("a", "pay", json!({"n": 1})), ("b", "pay", json!({"n": 2}))];
        system.model.script([Turn::call(&calls), Turn::say("done")]);
        let id = client.start("clerk").await;
        client.wait_pending(&id, 2).await;
        client.wait_suspended(&id, "approval").await;
        client.approve(&id, first).await;
        let pending = client.wait_pending(&id, 1).await;
        let other = if first == "a" { "b" } else { "a" };
        assert_eq!(pending[0]["tool_call_id"], other);
        system.tools.wait_calls("/pay", before + 1).await;
        client.deny(&id, other, "once is enough").await;
        client.wait_status(&id, "completed").await;
        let calls = system.tools.calls("/pay");
        assert_eq!(calls.len(), before + 1);
        assert_eq!(calls.last().unwrap().json()["n"], if first == "a" { 1 } else { 2 });
        let last = system.model.requests().last().unwrap().clone();
        assert!(last.told(other).unwrap().contains("once is enough"));
        assert!(last.told(first).unwrap().contains("ok"));
    }
}

async fn calls_that_need_no_approval_go_on_while_others_wait(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let calls = [
        ("a", "pay", json!({"n": 1})),
        ("b", "look", json!({"n": 2})),
        ("c", "look", json!({"n": "no number"})),
    ];
    system.model.script([Turn::call(&calls), Turn::say("done")]);
    let id = client.start("clerk").await;
    system.tools.wait_calls("/look", 1).await;
    client.wait_suspended(&id, "approval").await;
    assert_eq!(system.tools.count("/pay"), 0);
    client.approve(&id, "a").await;
    client.wait_status(&id, "completed").await;
    assert_eq!((system.tools.count("/pay"), system.tools.count("/look")), (1, 1));
    let told = system.model.requests()[1].told("c").expect("arguments that do not fit are told");
    assert!(told.contains("no number"), "{told}");
}

async fn a_noop_workflow_completes(system: System) {
    let client = system.client();
    let (id, mut stream) = client.start_streaming(&json!({"workflow": "holdpoint.noop"})).await;
    let events = stream.rest().await;
    assert_numbered_from(&events, 1);
    assert_end(&events, "completed");
    assert_eq!(kinds(&events).iter().filter(|kind| **kind == "step.completed").count(), 3);
    assert_eq!(client.steps(&id).await.len(), 3);
}

async fn the_same_key_is_the_same_execution(system: System) {
    let client = system.client();
    let body = json!({"workflow": "holdpoint.noop"});
    let first = client.post_with("/v1/executions", &[("idempotency-key", "k1")], &body).await.expect(202);
    let again = client.post_with("/v1/executions", &[("idempotency-key", "k1")], &body).await.expect(200);
    assert_eq!(first.id(), again.id());
    let other = json!({"workflow": "holdpoint.noop", "labels": {"a": "b"}});
    let refused = client.post_with("/v1/executions", &[("idempotency-key", "k1")], &other).await;
    refused.expect_problem(422, "idempotency_mismatch");
    let id = client
        .start_with(json!({"workflow": "holdpoint.noop", "execution_id": "exe_01h455vb4pex5vsknk084sn02q"}))
        .await;
    assert_eq!(id, "exe_01h455vb4pex5vsknk084sn02q");
    let twenty = (0..20).map(|_| client.post_with("/v1/executions", &[("idempotency-key", "k2")], &body));
    let answers = futures_util::future::join_all(twenty).await;
    let ids: std::collections::HashSet<String> = answers.iter().map(|answer| answer.id()).collect();
    assert_eq!(ids.len(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 202).count(), 1);
}

async fn a_conversation_has_one_active_execution(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let mut body = go("clerk");
    body["conversation_id"] = json!("talk");
    let id = client.start_with(body.clone()).await;
    let busy = client.post("/v1/executions", &body).await.expect_problem(409, "conversation_busy");
    assert_eq!(busy.body["active_execution_id"], id.as_str());
    client.wait_suspended(&id, "approval").await;
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    assert_eq!(client.execution(&id).await["status"], "cancelled", "done when the 202 arrives");
    let next = client.start_with(body).await;
    client.wait_status(&next, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approved_elsewhere_and_done_by_another_worker() {
    let mut system = Setup::services().roles(2, 1, 1).start().await;
    let (one, other) = (system.client_of(0), system.client_of(1));
    one.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))]), Turn::say("done")]);
    let id = one.start("clerk").await;
    one.wait_suspended(&id, "approval").await;
    let mut reader = other.stream(&id, From::Start).await;
    system.workers[0].kill9();
    other.approve(&id, "c1").await;
    let between = other.execution(&id).await;
    assert_eq!(
        (between["status"].as_str(), between["pending_approvals"].as_i64()),
        (Some("suspended"), Some(0))
    );
    system.start_worker(&[]);
    let events = reader.rest().await;
    assert_numbered_from(&events, 1);
    assert_end(&events, "completed");
    assert_eq!(system.tools.count("/pay"), 1);
}

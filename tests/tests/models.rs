//! Models and tools that fail: retried where the type allows it, else told with their type.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::{Client, From};
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::sse::{assert_end, assert_numbered_from, kinds};
use holdpoint_tests::system::System;
use holdpoint_tests::tool::Reply;
use serde_json::{Value, json};

on_both! {
    a_model_that_refuses_fails_with_its_type;
    a_model_that_stumbles_is_asked_again;
    a_model_that_never_answers_fails_after_its_tries;
    half_a_text_is_void_and_told_so;
    a_limit_is_a_failure_with_its_reason;
    a_tool_s_failure_is_told_to_the_model;
    a_tool_is_asked_what_became_of_its_call;
    an_unknown_outcome_waits_for_a_person;
    call_ids_are_made_unique;
    a_model_that_cannot_be_reached_fails_before_the_first_step;
}

async fn plain(system: &System, more: Value) -> Client {
    let client = system.client();
    client.put_agent("plain", Agent::new(&system.model).with(more).document()).await;
    client
}

/// Reads the stream of a failed execution: the type, and what the stream ended with.
async fn assert_failed(client: &Client, id: &str, kind: &str, reason: &str) -> Value {
    let events = client.stream(id, From::Start).await.rest().await;
    assert_numbered_from(&events, 1);
    assert_end(&events, "failed");
    let tail = &kinds(&events)[events.len() - 3..];
    assert_eq!(tail, ["execution.failed", "error", "end"]);
    let execution = client.wait_status(id, "failed").await;
    assert_eq!(
        (execution["error"]["type"].as_str(), execution["reason"].as_str()),
        (Some(kind), Some(reason)),
        "{execution}"
    );
    assert_ne!(execution["error"]["message"], "");
    execution
}

async fn a_model_that_refuses_fails_with_its_type(system: System) {
    let client = plain(&system, json!({})).await;
    for (status, kind) in
        [(401, "auth"), (402, "balance"), (403, "permission"), (400, "logic"), (404, "logic")]
    {
        let before = system.model.requests().len();
        system.model.script([Turn::status(status)]);
        let id = client.start("plain").await;
        assert_failed(&client, &id, kind, kind).await;
        assert_eq!(system.model.requests().len(), before + 1, "{status} is not retried");
    }
}

async fn a_model_that_stumbles_is_asked_again(system: System) {
    let client = plain(&system, json!({})).await;
    for (index, stumble) in [
        Turn::status(429),
        Turn::status(500),
        Turn::status(503),
        Turn::status(408),
        Turn::nonsense(),
        Turn::cut_short("ha"),
    ]
    .into_iter()
    .enumerate()
    {
        let before = system.model.requests().len();
        system.model.script([stumble, Turn::say("at last")]);
        let id = client.start("plain").await;
        let events = client.stream(&id, From::Start).await.rest().await;
        assert!(
            kinds(&events).contains(&"model.restarted") || kinds(&events).contains(&"execution.failed"),
            "{index}"
        );
        let execution = client.execution(&id).await;
        // What is no answer of a model may be tried again or not; it is never taken for one.
        if execution["status"] == "completed" {
            assert_eq!(execution["output"], "at last", "{index}");
            assert_eq!(system.model.requests().len(), before + 2, "{index}");
        } else {
            assert_eq!(index, 4, "{execution}");
            system.model.wait_requests(before + 1).await;
            let left = client.start("plain").await;
            client.wait_status(&left, "completed").await;
        }
    }
}

async fn a_model_that_never_answers_fails_after_its_tries(system: System) {
    // So long that each try has reached the model before it is given up.
    let client = plain(&system, json!({"model": {"timeout": "2s"}})).await;
    system.model.script([Turn::hang(), Turn::hang(), Turn::hang()]);
    let id = client.start("plain").await;
    assert_failed(&client, &id, "timeout", "timeout").await;
    system.model.wait_requests(3).await;
    assert_eq!(system.model.requests().len(), 3);
}

async fn half_a_text_is_void_and_told_so(system: System) {
    let client = plain(&system, json!({})).await;
    system.model.script([Turn::half("wrong"), Turn::say("right")]);
    let id = client.start("plain").await;
    let events = client.stream(&id, From::Start).await.rest().await;
    assert_numbered_from(&events, 1);
    assert_end(&events, "completed");
    let restarted = events.iter().position(|event| event.kind == "model.restarted").expect("told so");
    let text: String = events[restarted..]
        .iter()
        .filter(|event| event.kind == "message.delta")
        .map(|event| event.data["data"]["text"].as_str().unwrap())
        .collect();
    assert_eq!(text, "right");
    assert_eq!(events[restarted].data["data"]["attempt"], 2);
    assert_eq!(client.execution(&id).await["output"], "right");
}

async fn a_limit_is_a_failure_with_its_reason(system: System) {
    let client = system.client();
    client
        .put_agent("clerk", clerk(&system.model, &system.tools).with(json!({"max_turns": 2})).document())
        .await;
    system.model.script([
        Turn::call(&[("a", "look", json!({"n": 1}))]),
        Turn::call(&[("b", "look", json!({"n": 2}))]),
    ]);
    let id = client.start("clerk").await;
    let execution = assert_failed(&client, &id, "logic", "turn_limit").await;
    assert!(execution["error"]["message"].as_str().unwrap().contains("max_turns"));
    let many: Vec<(Option<&str>, &str, String)> =
        (0..65).map(|_| (None, "look", "{\"n\":1}".to_owned())).collect();
    system.model.script([Turn::call_raw(&many)]);
    let id = client.start("clerk").await;
    assert_failed(&client, &id, "logic", "limit").await;
}

async fn a_tool_s_failure_is_told_to_the_model(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    for (replies, calls, kind) in [
        (vec![Reply::Status(401)], 1, "auth"),
        (vec![Reply::Status(422)], 1, "logic"),
        (vec![Reply::Status(500), Reply::Status(502), Reply::Status(503)], 3, "network"),
        (vec![Reply::Status(429), Reply::Status(429), Reply::Status(429)], 3, "rate_limit"),
        (vec![Reply::Reset, Reply::Reset, Reply::Reset], 3, "network"),
    ] {
        let before = system.tools.count("/look");
        system.tools.script("/look", replies);
        system.model.script([Turn::call(&[("a", "look", json!({"n": 1}))]), Turn::say("so be it")]);
        let id = client.start("clerk").await;
        client.wait_status(&id, "completed").await;
        assert_eq!(system.tools.count("/look"), before + calls, "{kind}");
        let told = system.model.requests().last().unwrap().told("a").expect("told");
        assert!(told.contains(kind), "{told}");
    }
    let keys: std::collections::HashSet<String> =
        system.tools.calls("/look").iter().map(|call| call.key()).collect();
    assert_eq!(keys.len(), 5, "one key for all attempts of a step, another for each step");
}

async fn an_unknown_outcome_waits_for_a_person(system: System) {
    let client = system.client();
    let agent = Agent::new(&system.model).tool(&system.tools, "send", json!({"effect": "at_most_once"}));
    client.put_agent("sender", agent.document()).await;
    for (reply, outcome, calls) in [
        (Reply::Reset, json!({"outcome": "happened", "result": {"id": 7}}), 1),
        (Reply::Status(500), json!({"outcome": "did_not_happen"}), 2),
    ] {
        let before = system.tools.count("/send");
        system.tools.script("/send", [reply]);
        system.model.script([Turn::call(&[("a", "send", json!({"n": 1}))]), Turn::say("sent")]);
        let id = client.start("sender").await;
        client.wait_suspended(&id, "outcome_unknown").await;
        let steps = client.steps(&id).await;
        let step = steps.iter().find(|step| step["status"] == "unknown").expect("a step of unknown outcome");
        let path = format!("/v1/executions/{id}/steps/{}/resolve", step["step"]);
        client.post(&path, &json!({"outcome": "perhaps"})).await.expect_problem(400, "invalid_body");
        client.post(&path, &outcome).await.expect(202);
        client.wait_status(&id, "completed").await;
        assert_eq!(system.tools.count("/send"), before + calls);
    }
    let keys: Vec<String> = system.tools.calls("/send").iter().map(|call| call.key()).collect();
    assert_eq!(keys[1], keys[2], "performed again under the same key");
    assert!(system.model.requests()[1].told("a").unwrap().contains('7'));
}

async fn a_tool_is_asked_what_became_of_its_call(system: System) {
    let client = system.client();
    let reconcile = json!({"url": system.tools.url("/sent"), "first_delay": "50ms", "max_delay": "200ms"});
    let more = json!({"effect": "at_most_once", "reconcile": reconcile});
    let agent = Agent::new(&system.model).tool(&system.tools, "send", more);
    client.put_agent("sender", agent.document()).await;
    let said = |text: &str| Reply::Json(json!({"outcome": text, "result": {"id": 7}}));
    for (answers, calls) in
        [(vec![Reply::Status(500), said("unknown"), said("happened")], 1), (vec![said("did_not_happen")], 2)]
    {
        let before = (system.tools.count("/send"), system.tools.count("/sent"));
        let asked = answers.len();
        system.tools.script("/send", [Reply::Reset]);
        system.tools.script("/sent", answers);
        system.model.script([Turn::call(&[("a", "send", json!({"n": 1}))]), Turn::say("sent")]);
        let id = client.start("sender").await;
        client.wait_status(&id, "completed").await;
        assert_eq!(system.tools.count("/send"), before.0 + calls);
        assert_eq!(system.tools.count("/sent"), before.1 + asked);
        let keys: std::collections::HashSet<String> =
            system.tools.calls("/send")[before.0..].iter().map(|call| call.key()).collect();
        for question in &system.tools.calls("/sent")[before.1..] {
            assert!(keys.contains(question.json()["key"].as_str().unwrap()), "{question:?}");
            assert_eq!(question.json()["arguments"], json!({"n": 1}));
        }
        assert_eq!(keys.len(), 1);
    }
    assert!(system.model.requests()[1].told("a").unwrap().contains('7'));
    // Where it never knows, a person has to.
    system.tools.script("/send", [Reply::Reset]);
    system.tools.script("/sent", vec![said("unknown"); 5]);
    system.model.script([Turn::call(&[("a", "send", json!({"n": 1}))]), Turn::say("sent")]);
    let before = system.tools.count("/sent");
    let id = client.start("sender").await;
    system.tools.wait_calls("/sent", before + 5).await;
    let execution = client.wait_suspended(&id, "outcome_unknown").await;
    assert_eq!(execution["status"], "suspended");
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
}

async fn call_ids_are_made_unique(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([
        Turn::call_raw(&[
            (None, "look", "{\"n\":1}".to_owned()),
            (Some("x"), "look", "{\"n\":2}".to_owned()),
        ]),
        Turn::call_raw(&[
            (Some("x"), "look", "{\"n\":3}".to_owned()),
            (Some("x"), "look", "{\"n\":4}".to_owned()),
        ]),
        Turn::say("done"),
    ]);
    let id = client.start("clerk").await;
    client.wait_status(&id, "completed").await;
    let last = system.model.requests().last().unwrap().clone();
    let ids: Vec<&str> =
        last.messages().iter().filter_map(|message| message["tool_call_id"].as_str()).collect();
    let unique: std::collections::HashSet<&&str> = ids.iter().collect();
    assert_eq!((ids.len(), unique.len()), (4, 4), "{ids:?}");
    assert_eq!(system.tools.count("/look"), 4);
}

async fn a_model_that_cannot_be_reached_fails_before_the_first_step(system: System) {
    let client = system.client();
    let port = holdpoint_tests::ports::free_port();
    let agent =
        Agent::new(&system.model).with(json!({"model": {"base_url": format!("http://127.0.0.1:{port}/v1")}}));
    client.put_agent("lost", agent.document()).await;
    let id = client.start("lost").await;
    assert_failed(&client, &id, "network", "network").await;
    // An address that the operator has not allowed is refused, and not retried.
    let agent = Agent::new(&system.model).with(json!({"model": {"base_url": "http://169.254.169.254/v1"}}));
    client.put_agent("forbidden", agent.document()).await;
    let id = client.start("forbidden").await;
    let execution = client.wait_status(&id, "failed").await;
    assert_ne!(execution["error"]["type"], "network", "{execution}");
}

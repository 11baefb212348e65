//! Workflows from registration to their end: calls, people, events and time.

use holdpoint_tests::client::Client;
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    calls_and_waits_lead_to_an_output;
    an_error_that_nothing_catches_fails_with_its_reason;
    a_person_approves_with_an_edited_value;
    a_question_expires_by_the_workflow_s_own_clock;
    what_a_child_is_not_answered_ends_its_parent_too;
    an_event_wakes_a_listener;
    a_signal_under_a_used_key_is_the_same_one_or_refused;
}

async fn put(client: &Client, name: &str, tasks: Value) {
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "tests", "name": name, "version": "1.0.0"},
        "do": tasks,
    });
    let answer =
        client.send(client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(&document)).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
}

async fn start(client: &Client, workflow: &str, input: Value) -> String {
    client.post("/v1/executions", &json!({"workflow": workflow, "input": input})).await.expect(202).id()
}

async fn calls_and_waits_lead_to_an_output(system: System) {
    let client = system.client();
    let url = system.tools.url("");
    let base = url.trim_end_matches('/');
    system.tools.script("/price", [Reply::Status(503), Reply::Json(json!({"price": 6}))]);
    let tasks = json!([
        {"get": {"call": "http", "with": {"method": "get", "endpoint": format!("{base}/price")},
                 "output": {"as": "{price, of: $workflow.input.n}"}}},
        {"rest": {"wait": {"milliseconds": 50}}},
        {"both": {"fork": {"branches": [
            {"put": {"call": "http", "with": {"method": "put", "endpoint": format!("{base}/keep"), "body": {"p": "${ .price }"}}}},
            {"sum": {"for": {"in": "${ [range(.of)] }"}, "do": [{"add": {"set": {"price": "${ .price + $item }"}}}]}},
        ]}}},
        {"total": {"set": {"kept": "${ .[0].ok }", "sum": "${ .[1].price }"}}},
    ]);
    put(&client, "prices", tasks).await;
    let id = start(&client, "prices", json!({"n": 4})).await;
    let execution = client.wait_status(&id, "completed").await;
    assert_eq!(execution["output"], json!({"kept": true, "sum": 12}));
    assert_eq!(system.tools.calls("/keep")[0].json(), json!({"p": 6}));
    assert_eq!(system.tools.count("/price"), 2);
    let done = client.events(&id).await;
    let last: Vec<&str> = done
        .iter()
        .filter(|event| event["type"] == "step.completed")
        .filter_map(|event| event["data"]["task"].as_str())
        .collect();
    assert_eq!((last[0], last[last.len() - 1]), ("/do/0/get", "/do/3/total"));
}

async fn an_error_that_nothing_catches_fails_with_its_reason(system: System) {
    let client = system.client();
    let url = system.tools.url("/secret");
    system.tools.script("/secret", [Reply::Status(403)]);
    put(&client, "denied", json!([{"get": {"call": "http", "with": {"method": "get", "endpoint": url}}}]))
        .await;
    let id = start(&client, "denied", json!({})).await;
    let execution = client.wait_status(&id, "failed").await;
    assert_eq!(
        (&execution["reason"], &execution["error"]["type"]),
        (&json!("permission"), &json!("permission"))
    );
    put(&client, "broken", json!([{"s": {"set": {"n": "${ error(\"no\") }"}}}])).await;
    let id = start(&client, "broken", json!({})).await;
    let execution = client.wait_status(&id, "failed").await;
    assert_eq!(execution["reason"], "logic");
}

async fn a_person_approves_with_an_edited_value(system: System) {
    let client = system.client();
    let with = json!({
        "title": "${ \"Refund \\(.amount)?\" }", "subject": {"amount": "${ .amount }"}, "options": ["now", "later"],
        "editSchema": {"type": "object", "properties": {"amount": {"maximum": 9}}},
    });
    put(&client, "refund", json!([{"ask": {"call": "approval:1.0.0@default", "with": with}}])).await;
    let id = start(&client, "refund", json!({"amount": 7})).await;
    client.wait_suspended(&id, "approval").await;
    let pending = client.wait_pending(&id, 1).await;
    assert_eq!(pending[0]["arguments"]["title"], "Refund 7?");
    let call = pending[0]["tool_call_id"].as_str().unwrap();
    let asked = client.get(&format!("/v1/executions/{id}/approvals/{call}")).await.expect(200).body;
    let subject = json!({"type": "object", "properties": {"amount": {"maximum": 9}}});
    let properties = json!({"subject": subject, "option": {"enum": ["now", "later"]}});
    assert_eq!(asked["arguments_schema"]["properties"], properties, "what a form needs");
    for wrong in [json!({"subject": {"amount": 10}}), json!({"option": "never"})] {
        let body = json!({"approved": true, "arguments": wrong});
        client.decide(&id, call, &body).await.expect_problem(422, "arguments_invalid");
    }
    let body = json!({"approved": true, "arguments": {"subject": {"amount": 5}, "option": "now"}});
    client.decide(&id, call, &body).await.expect(200);
    let output = client.wait_status(&id, "completed").await["output"].clone();
    assert_eq!((&output["value"], &output["option"]), (&json!({"amount": 5}), &json!("now")));

    let id = start(&client, "refund", json!({"amount": 8})).await;
    let pending = client.wait_pending(&id, 1).await;
    client.deny(&id, pending[0]["tool_call_id"].as_str().unwrap(), "too much").await.expect(200);
    let output = client.wait_status(&id, "completed").await["output"].clone();
    assert_eq!((&output["approved"], &output["reason"]), (&json!(false), &json!("too much")));
}

async fn a_question_expires_by_the_workflow_s_own_clock(system: System) {
    let client = system.client();
    let ask = json!({"call": "approval:1.0.0@default", "with": {"title": "Well?", "expiresAfter": {"milliseconds": 100}}});
    let catch = json!({"errors": {"with": {"status": 408}}, "do": [{"late": {"set": {"late": true}}}]});
    put(&client, "hasty", json!([{"t": {"try": [{"ask": ask}], "catch": catch}}])).await;
    let id = start(&client, "hasty", json!({})).await;
    let execution = client.wait_status(&id, "completed").await;
    assert_eq!(execution["output"], json!({"late": true}));
    let call = "ask-1";
    client.decide(&id, call, &json!({"approved": true})).await.expect_problem(410, "approval_closed");
}

async fn what_a_child_is_not_answered_ends_its_parent_too(system: System) {
    let client = system.client();
    let ask = json!({"call": "approval:1.0.0@default", "with": {"title": "Well?", "expiresAfter": {"milliseconds": 100}}});
    put(&client, "hasty", json!([{"ask": ask}])).await;
    let hasty = json!({"run": {"workflow": {"namespace": "tests", "name": "hasty", "version": "1.0.0"}}});
    put(&client, "patient", json!([{"child": hasty}])).await;
    put(
        &client,
        "caught",
        json!([{"t": {"try": [{"child": hasty}], "catch": {"errors": {"with": {"status": 408}}}}}]),
    )
    .await;
    let id = start(&client, "patient", json!({})).await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!(
        (&failed["reason"], &failed["error"]["type"]),
        (&json!("approval_timeout"), &json!("timeout"))
    );
    assert_eq!(failed["metadata"]["failure_reason"], "approval_timeout", "{failed}");
    // It needs a person at once: a repeat would ask again what nobody answers.
    let shown = client.get("/v1/attention").await.expect(200).body;
    let mut groups = shown["attention"].as_array().unwrap().iter();
    let workflows = groups.find(|group| group["error_type"] == "timeout").unwrap()["workflows"].to_string();
    assert!(workflows.contains("patient"), "{shown}");
    let id = start(&client, "caught", json!({})).await;
    client.wait_status(&id, "completed").await;
}

async fn an_event_wakes_a_listener(system: System) {
    let client = system.client();
    let to = json!({"one": {"with": {"type": "painted", "data": "${ .n > 1 }"}}});
    put(&client, "hears", json!([{"l": {"listen": {"to": to}}}])).await;
    let id = start(&client, "hears", json!({})).await;
    client.wait_suspended(&id, "signal").await;
    for n in [1, 2] {
        let path = format!("/v1/executions/{id}/signals/painted");
        client.post(&path, &json!({"n": n})).await.expect(202);
    }
    assert_eq!(client.wait_status(&id, "completed").await["output"], json!([{"n": 2}]));
}

async fn a_signal_under_a_used_key_is_the_same_one_or_refused(system: System) {
    let client = system.client();
    let both = json!({"all": [{"with": {"type": "paid"}}, {"with": {"type": "shipped"}}]});
    put(&client, "orders", json!([{"l": {"listen": {"to": both}}}])).await;
    let id = start(&client, "orders", json!({})).await;
    client.wait_suspended(&id, "signal").await;
    let send = |name: &str, key: &'static str, body: Value| {
        let (client, path) = (client.clone(), format!("/v1/executions/{id}/signals/{name}"));
        async move { client.post_with(&path, &[("idempotency-key", key)], &body).await }
    };
    for _ in 0..2 {
        send("paid", "order-1", json!({"n": 1})).await.expect(202);
    }
    send("shipped", "order-1", json!({"n": 1})).await.expect_problem(422, "idempotency_mismatch");
    send("paid", "order-1", json!({"n": 2})).await.expect_problem(422, "idempotency_mismatch");
    send("shipped", "order-2", json!({"n": 3})).await.expect(202);
    let output = client.wait_status(&id, "completed").await["output"].clone();
    assert_eq!(output, json!([{"n": 1}, {"n": 3}]));
}

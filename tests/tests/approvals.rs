//! The contract's table of approvals, each answer with the state before and after.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::Client;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::system::{Setup, System};
use serde_json::{Value, json};

on_both! {
    only_a_literal_true_approves;
    a_decision_is_made_once;
    what_is_not_there_is_not_found;
    an_expired_approval_is_closed with Setup::without_sweeps;
    a_cancelled_execution_closes_its_approvals;
    a_decision_outlives_its_execution;
    a_digest_binds_the_decision;
    edited_arguments_must_fit_and_are_what_is_sent;
    many_decisions_at_once_are_judged_one_by_one;
    the_inbox_is_oldest_first;
    racing_decisions_have_one_winner;
}

/// An execution that waits for a decision on `call`.
async fn waiting(system: &System, client: &Client, call: &str) -> String {
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.script([Turn::call(&[(call, "pay", json!({"n": 1}))])]);
    let id = client.start("clerk").await;
    client.wait_suspended(&id, "approval").await;
    id
}

async fn assert_pending(client: &Client, id: &str) {
    let execution = client.execution(id).await;
    assert_eq!(execution["status"], "suspended", "{execution}");
    assert_eq!(execution["pending_approvals"], 1, "{execution}");
    let answer = client.get(&format!("/v1/executions/{id}/approvals")).await.expect(200);
    assert_eq!(answer.body["has_pending"], true);
}

async fn only_a_literal_true_approves(system: System) {
    let client = system.client();
    let id = waiting(&system, &client, "c1").await;
    for body in [
        json!({}),
        json!({"approved": null}),
        json!({"approved": "true"}),
        json!({"approved": 1}),
        json!({"approved": [true]}),
        json!({"approve": true}),
        json!({"approved": true, "surprise": 1}),
        json!([true]),
        json!(true),
    ] {
        client.decide(&id, "c1", &body).await.expect_problem(400, "invalid_body");
        assert_pending(&client, &id).await;
    }
    let path = format!("/v1/executions/{id}/approvals/c1");
    for text in ["", "{", "{\"approved\": true", "{\"approved\": true} x"] {
        let builder = client.builder(reqwest::Method::POST, &path).header("content-type", "application/json");
        client.send(builder.body(text)).await.expect_problem(400, "invalid_body");
        assert_pending(&client, &id).await;
    }
    assert_eq!(system.tools.count("/pay"), 0);
}

async fn a_decision_is_made_once(system: System) {
    let client = system.client();
    for (first, other, winner) in [(true, false, "approved"), (false, true, "denied")] {
        let before = system.tools.count("/pay");
        let id = waiting(&system, &client, "c1").await;
        assert_pending(&client, &id).await;
        let taken = client.decide(&id, "c1", &json!({"approved": first})).await.expect(200);
        assert_eq!(taken.body["execution_id"], id.as_str());
        assert_eq!(taken.body["tool_call_id"], "c1");
        assert_eq!(taken.body["decision"], winner);
        assert_eq!(taken.body["already_decided"], false);
        let again = client.decide(&id, "c1", &json!({"approved": first})).await.expect(200);
        assert_eq!(again.body["already_decided"], true);
        assert_eq!(again.body["decided_at"], taken.body["decided_at"]);
        assert_eq!(again.body["decided_by"], taken.body["decided_by"]);
        let refused = client.decide(&id, "c1", &json!({"approved": other})).await;
        let refused = refused.expect_problem(409, "approval_conflict");
        assert_eq!(refused.body["decision"], winner, "{}", refused.text);
        client.wait_status(&id, "completed").await;
        assert_eq!(system.tools.count("/pay") - before, usize::from(first));
        let decided =
            client.event_kinds(&id).await.into_iter().filter(|kind| kind == "approval.decided").count();
        assert_eq!(decided, 1);
    }
}

async fn what_is_not_there_is_not_found(system: System) {
    let client = system.client();
    let id = waiting(&system, &client, "c1").await;
    let other = waiting(&system, &client, "other").await;
    let yes = json!({"approved": true});
    client.decide(&id, "nothing", &yes).await.expect_problem(404, "not_found");
    client.decide(&id, "other", &yes).await.expect_problem(404, "not_found");
    client.decide("exe_01h455vb4pex5vsknk084sn02q", "c1", &yes).await.expect_problem(404, "not_found");
    client.decide("no-id", "c1", &yes).await.expect_problem(404, "not_found");
    assert_pending(&client, &id).await;
    assert_pending(&client, &other).await;
}

async fn an_expired_approval_is_closed(system: System) {
    let client = system.client();
    let agent =
        Agent::new(&system.model).tool(&system.tools, "pay", json!({"approval": {"expires_after": "500ms"}}));
    client.put_agent("hasty", agent.document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let id = client.start("hasty").await;
    client.wait_suspended(&id, "approval").await;
    client.wait_pending(&id, 0).await;
    for approved in [true, false] {
        let closed = client.decide(&id, "c1", &json!({"approved": approved})).await;
        let closed = closed.expect_problem(410, "approval_closed");
        assert_eq!(
            closed.body["status"].as_str().or(closed.body["approval_status"].as_str()),
            Some("expired"),
            "{}",
            closed.text
        );
    }
    let swept = client.post("/v1/sweeps/stale", &json!({})).await.expect(200);
    assert_eq!(
        (swept.body["cleaned_up"].as_i64(), swept.body["total"].as_i64()),
        (Some(1), Some(1)),
        "{}",
        swept.text
    );
    let execution = client.wait_status(&id, "failed").await;
    assert_eq!(execution["reason"], "approval_timeout");
    assert_eq!(execution["error"]["type"], "timeout");
    client.decide(&id, "c1", &json!({"approved": true})).await.expect_problem(410, "approval_closed");
    assert_eq!(system.tools.count("/pay"), 0);
}

async fn a_cancelled_execution_closes_its_approvals(system: System) {
    let client = system.client();
    let id = waiting(&system, &client, "c1").await;
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    client.wait_status(&id, "cancelled").await;
    let closed =
        client.decide(&id, "c1", &json!({"approved": true})).await.expect_problem(410, "approval_closed");
    assert!(closed.text.contains("cancelled"), "{}", closed.text);
    assert_eq!(client.pending(&id).await.len(), 0);
    let again = client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await;
    let again = again.expect_problem(409, "already_terminal");
    assert!(again.text.contains("cancelled"), "{}", again.text);
}

async fn a_decision_outlives_its_execution(system: System) {
    let client = system.client();
    let id = waiting(&system, &client, "c1").await;
    client.approve(&id, "c1").await;
    client.wait_status(&id, "completed").await;
    let again = client.decide(&id, "c1", &json!({"approved": true})).await.expect(200);
    assert_eq!(again.body["already_decided"], true);
    assert_eq!(again.body["execution_status"], "completed");
    client.decide(&id, "c1", &json!({"approved": false})).await.expect_problem(409, "approval_conflict");
    // Decided goes before a wrong digest.
    client.decide(&id, "c1", &json!({"approved": true, "digest": "0".repeat(64)})).await.expect(200);
    assert_eq!(system.tools.count("/pay"), 1);
}

async fn a_digest_binds_the_decision(system: System) {
    let client = system.client();
    let id = waiting(&system, &client, "c1").await;
    let digest = client.pending(&id).await[0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(digest, holdpoint_engine::digest::arguments_digest("pay", 1, "{\"n\":1}"));
    let wrong = json!({"approved": true, "digest": "0".repeat(64)});
    client.decide(&id, "c1", &wrong).await.expect_problem(409, "digest_mismatch");
    assert_pending(&client, &id).await;
    client.decide(&id, "c1", &json!({"approved": true, "digest": digest})).await.expect(200);
    client.wait_status(&id, "completed").await;
}

async fn edited_arguments_must_fit_and_are_what_is_sent(system: System) {
    let client = system.client();
    let id = waiting(&system, &client, "c1").await;
    let asked = client.get(&format!("/v1/executions/{id}/approvals/c1")).await.expect(200).body;
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    assert_eq!((&asked["arguments_schema"], &asked["status"]), (&schema, &json!("pending")));
    for bad in [json!({"n": "x"}), json!({}), json!([])] {
        let answer = client.decide(&id, "c1", &json!({"approved": true, "arguments": bad})).await;
        assert!(matches!(answer.status, 400 | 422), "{}: {}", answer.status, answer.text);
        assert_pending(&client, &id).await;
    }
    client.decide(&id, "c1", &json!({"approved": true, "arguments": {"n": 77}})).await.expect(200);
    client.wait_status(&id, "completed").await;
    assert_eq!(system.tools.calls("/pay")[0].body, "{\"n\":77}");
    let request = system.model.requests()[1].body.to_string();
    assert!(request.contains("{\\\"n\\\":77}"), "the model sees what was sent: {request}");
    let decided = client.get(&format!("/v1/executions/{id}/approvals")).await.text
        + &client.get("/v1/approvals?status=approved").await.text;
    let edited = holdpoint_engine::digest::arguments_digest("pay", 1, "{\"n\":77}");
    assert!(decided.contains(&edited), "the executed digest is kept: {decided}");
}

async fn many_decisions_at_once_are_judged_one_by_one(system: System) {
    let client = system.client();
    let (one, two) = (waiting(&system, &client, "c1").await, waiting(&system, &client, "c2").await);
    let decisions = json!({"decisions": [
        {"execution_id": one, "tool_call_id": "c1", "approved": true},
        {"execution_id": one, "tool_call_id": "nothing", "approved": true},
        {"execution_id": two, "tool_call_id": "c2", "approved": "yes"},
        {"execution_id": two, "tool_call_id": "c2", "approved": false, "reason": "no"},
    ]});
    let answer = client.post("/v1/approvals/decisions", &decisions).await.expect(200);
    let results = answer.body["results"].as_array().expect("results");
    let failed: Vec<bool> = results.iter().map(|result| !result["problem"].is_null()).collect();
    assert_eq!(failed, [false, true, true, false], "{}", answer.text);
    client.wait_status(&one, "completed").await;
    client.wait_status(&two, "completed").await;
    assert_eq!(system.tools.count("/pay"), 1);
}

async fn the_inbox_is_oldest_first(system: System) {
    let client = system.client();
    let mut asked: Vec<(String, String)> = Vec::new();
    for call in ["a", "b", "c"] {
        let id = waiting(&system, &client, call).await;
        let requested_at = client.pending(&id).await[0]["requested_at"].as_str().expect("a time").to_owned();
        asked.push((requested_at, id));
    }
    // A worker's clock may lag behind the database's for a moment: how old each is, its own time says.
    asked.sort();
    let ids: Vec<Value> = asked.into_iter().map(|(_, id)| id.into()).collect();
    let page = client.get("/v1/approvals?status=pending&limit=2").await.expect(200);
    let next = page.body["next_cursor"].as_str().expect("more").to_owned();
    let rest = client.get(&format!("/v1/approvals?status=pending&limit=2&cursor={next}")).await.expect(200);
    let both = [&page, &rest].map(|answer| answer.body["approvals"].as_array().unwrap().clone()).concat();
    assert_eq!(both.iter().map(|approval| approval["execution_id"].clone()).collect::<Vec<_>>(), ids);
    for field in ["tool", "arguments", "digest", "requested_at", "expires_at"] {
        assert!(!both[0][field].is_null(), "{field}: {}", both[0]);
    }
    assert_eq!(client.get("/v1/approvals?tool=look").await.expect(200).body["approvals"], json!([]));
}

async fn racing_decisions_have_one_winner(system: System) {
    let client = system.client();
    for round in 0..10 {
        let id = waiting(&system, &client, "c1").await;
        let bodies = [
            json!({"approved": true}),
            json!({"approved": false}),
            json!({"approved": true}),
            json!({"approved": false}),
        ];
        let answers =
            futures_util::future::join_all(bodies.iter().map(|body| client.decide(&id, "c1", body))).await;
        let fresh = answers
            .iter()
            .filter(|answer| answer.status == 200 && answer.body["already_decided"] == false)
            .count();
        let refused = answers.iter().filter(|answer| answer.status == 409).count();
        assert_eq!((fresh, refused), (1, 2), "round {round}: {answers:?}");
        client.wait_status(&id, "completed").await;
        let kinds = client.event_kinds(&id).await;
        assert_eq!(kinds.iter().filter(|kind| *kind == "approval.decided").count(), 1, "{kinds:?}");
    }
}

//! What belongs to others answers as what does not exist, byte for byte.

use std::time::{Duration, Instant};

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::{Answer, Client, go};
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::System;
use serde_json::{Value, json};

on_both! {
    another_tenant_s_ids_are_unknown_ids;
    lists_show_the_caller_s_rows_only;
    without_a_good_key_nothing_is_told;
}

const UNKNOWN: &str = "exe_01h455vb4pex5vsknk084sn02q";

struct Theirs {
    execution: String,
    agent: &'static str,
    key: String,
    conversation: &'static str,
}

/// A tenant's rows of every kind.
async fn furnish(system: &System, client: &Client) -> Theirs {
    let agent = "secret-agent";
    client.put_agent(agent, clerk(&system.model, &system.tools).document()).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let mut body = go(agent);
    body["conversation_id"] = json!("secret-talk");
    let execution = client.start_with(body).await;
    client.wait_suspended(&execution, "approval").await;
    let made = client.post("/v1/keys", &json!({"role": "read", "name": "theirs"})).await;
    assert!(matches!(made.status, 200 | 201), "{}", made.text);
    let key = made.body["id"].as_str().or(made.body["key"]["id"].as_str()).expect("an id").to_owned();
    Theirs { execution, agent, key, conversation: "secret-talk" }
}

async fn same_but_for_the_id(
    client: &Client,
    method: &str,
    path: &str,
    (theirs, unknown): (&str, &str),
    body: Option<Value>,
) {
    let ask = |id: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let builder = client.builder(method, &path.replace("{id}", id));
        let body = body.clone().map(|body| body.to_string().replace("{id}", id));
        client.send(match body {
            Some(body) => builder.header("content-type", "application/json").body(body),
            None => builder,
        })
    };
    let (of_theirs, of_unknown): (Answer, Answer) = (ask(theirs).await, ask(unknown).await);
    let place = format!("{method} {path}");
    assert_eq!(of_theirs.status, of_unknown.status, "{place}: {} / {}", of_theirs.text, of_unknown.text);
    assert_eq!(of_theirs.text.replace(theirs, "…"), of_unknown.text.replace(unknown, "…"), "{place}");
    assert_eq!(of_theirs.header("content-type"), of_unknown.header("content-type"), "{place}");
    assert!(matches!(of_theirs.status, 404 | 200), "{place}: {}", of_theirs.text);
}

async fn another_tenant_s_ids_are_unknown_ids(mut system: System) {
    let other_tenant = system.key_for("other", "shop", "admin").await;
    let other_project = system.key_for("acme", "office", "admin").await;
    let client = system.client();
    let theirs = furnish(&system, &client).await;
    for key in [other_tenant, other_project] {
        let stranger = client.with_key(Some(&key));
        let ids = (theirs.execution.as_str(), UNKNOWN);
        let execution = "/v1/executions/{id}";
        for (method, rest, body) in [
            ("GET", "", None),
            ("GET", "/steps", None),
            ("GET", "/events", None),
            ("GET", "/events?after=1&wait=1s", None),
            ("GET", "/stream", None),
            ("GET", "/stream?after=100000", None),
            ("GET", "/approvals", None),
            ("POST", "/cancel", Some(json!({}))),
            ("POST", "/pause", Some(json!({}))),
            ("POST", "/resume", Some(json!({}))),
            ("POST", "/steps/2/resolve", Some(json!({"outcome": "happened"}))),
            ("POST", "/approvals/c1", Some(json!({"approved": true}))),
            ("POST", "/approvals/c1", Some(json!({"approved": true, "digest": "00"}))),
        ] {
            same_but_for_the_id(&stranger, method, &format!("{execution}{rest}"), ids, body).await;
        }
        let decisions =
            json!({"decisions": [{"execution_id": "{id}", "tool_call_id": "c1", "approved": true}]});
        same_but_for_the_id(&stranger, "POST", "/v1/approvals/decisions", ids, Some(decisions)).await;
        let agents = (theirs.agent, "nobody-agent");
        for (method, path) in [
            ("GET", "/v1/agents/{id}"),
            ("GET", "/v1/agents/{id}?version=1"),
            ("GET", "/v1/agents/{id}/versions"),
            ("DELETE", "/v1/agents/{id}"),
        ] {
            same_but_for_the_id(&stranger, method, path, agents, None).await;
        }
        same_but_for_the_id(&stranger, "POST", "/v1/executions", agents, Some(go("{id}"))).await;
        let keys = (theirs.key.as_str(), "key_01h455vb4pex5vsknk084sn02q");
        same_but_for_the_id(&stranger, "DELETE", "/v1/keys/{id}", keys, None).await;
        let talks = (theirs.conversation, "no-such-talk");
        for rest in ["", "?limit=2", "/stream", "/stream?after=1", "/pending-approvals"] {
            let path = format!("/v1/conversations/{{id}}{rest}");
            same_but_for_the_id(&stranger, "GET", &path, talks, None).await;
        }
        // A conversation's name is the tenant's own: using the same one meets nobody.
        let mut body = json!({"workflow": "holdpoint.noop"});
        stranger.post("/v1/executions", &body).await.expect(202);
        body["execution_id"] = json!(theirs.execution);
        let taken = stranger.post("/v1/executions", &body).await;
        assert_eq!(taken.status, 202, "another tenant's id is free for this one: {}", taken.text);
    }
    assert_eq!(client.execution(&theirs.execution).await["reason"], "approval", "nothing of it did anything");
    client.approve(&theirs.execution, "c1").await;
    client.wait_status(&theirs.execution, "completed").await;
    client.get(&format!("/v1/agents/{}", theirs.agent)).await.expect(200);
}

/// An id is looked at as a whole: by chance it may have any short word in it.
fn shows(text: &str, secret: &str) -> bool {
    let is_id = |part: &str| part.len() == 30 && part.as_bytes()[3] == b'_';
    text.split('"').any(|part| if is_id(part) { part == secret } else { part.contains(secret) })
}

async fn lists_show_the_caller_s_rows_only(mut system: System) {
    let key = system.key_for("other", "shop", "admin").await;
    let client = system.client();
    let theirs = furnish(&system, &client).await;
    let stranger = client.with_key(Some(&key));
    for path in [
        "/v1/executions",
        "/v1/approvals",
        "/v1/approvals?status=pending",
        "/v1/agents",
        "/v1/keys",
        "/v1/sweeps",
        "/v1/parked-messages",
    ] {
        let text = stranger.get(path).await.expect(200).text;
        for secret in
            [theirs.execution.as_str(), theirs.agent, theirs.key.as_str(), theirs.conversation, "acme"]
        {
            assert!(!shows(&text, secret), "{path} shows {secret}: {text}");
        }
    }
    let found =
        stranger.get(&format!("/v1/executions?conversation_id={}", theirs.conversation)).await.expect(200);
    assert_eq!(found.body["executions"], json!([]));
}

async fn without_a_good_key_nothing_is_told(system: System) {
    let client = system.client();
    let theirs = furnish(&system, &client).await;
    let path = format!("/v1/executions/{}", theirs.execution);
    let unknown = "hp_01h455vb4pex5vsknk084sn02q_0123456789012345678901234567890123456789_00000000";
    for key in [None, Some(""), Some("nonsense"), Some(unknown)] {
        let answer = client.with_key(key).get(&path).await.expect_problem(401, "unauthorized");
        assert!(!answer.text.contains(&theirs.execution), "{}", answer.text);
    }
    let made = client.post("/v1/keys", &json!({"role": "read", "name": "short"})).await.body;
    let text = made.to_string();
    let text = text.split('"').find(|part| part.starts_with("hp_")).expect("shown once").to_owned();
    let id = made["id"].as_str().or(made["key"]["id"].as_str()).unwrap().to_owned();
    let reader = client.with_key(Some(&text));
    reader.get(&path).await.expect(200);
    reader.decide(&theirs.execution, "c1", &json!({"approved": true})).await.expect_problem(403, "forbidden");
    let revoked = client.send(client.builder(reqwest::Method::DELETE, &format!("/v1/keys/{id}"))).await;
    assert!(matches!(revoked.status, 200 | 204), "{}", revoked.text);
    let revoked = Instant::now();
    until("the key is refused", SOON, || async {
        let asked = revoked.elapsed();
        let refused = reader.get(&path).await.status == 401;
        assert!(refused || asked < Duration::from_secs(1), "it was good {asked:?} after it was revoked");
        refused.then_some(())
    })
    .await;
}

//! Standing grants from end to end: what a grant answers, who may make one, what the audit says.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::Client;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::system::System;
use serde_json::{Value, json};

on_both! {
    calls_within_a_grant_go_and_others_are_asked_about;
    a_decision_grants_the_rest_of_a_conversation;
    what_a_grant_may_not_be_is_refused;
    the_policy_is_judged_at_each_use;
}

async fn key(client: &Client, role: &str, groups: &[&str]) -> Client {
    let made = client.post("/v1/keys", &json!({"role": role, "groups": groups})).await.expect(201);
    client.with_key(made.body["key"].as_str())
}

fn pay(n: i64) -> Turn {
    Turn::call(&[("c1", "pay", json!({"n": n}))])
}

fn grant(more: Value) -> Value {
    let mut body = json!({"agent": "clerk", "tool": "pay", "expires_after": "1h", "max_uses": 2});
    for (name, value) in more.as_object().expect("an object") {
        body[name] = value.clone();
    }
    body
}

async fn shown(client: &Client, id: &Value) -> Value {
    client.get(&format!("/v1/grants/{}", id.as_str().expect("an id"))).await.expect(200).body
}

async fn approvals(client: &Client, id: &str) -> Vec<Value> {
    let answer = client.get(&format!("/v1/executions/{id}/approvals")).await.expect(200).body;
    answer["approvals"].as_array().expect("a list").clone()
}

async fn calls_within_a_grant_go_and_others_are_asked_about(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let body = grant(json!({"when": ".arguments.n < 50", "reason": "night shift"}));
    let made = client.post("/v1/grants", &body).await.expect(201).body;
    assert_eq!((&made["status"], &made["uses"]), (&json!("active"), &json!(0)));

    // Two within it: nobody is asked.
    for n in [1, 2] {
        system.model.script([pay(n), Turn::say("done")]);
        let id = client.start("clerk").await;
        client.wait_status(&id, "completed").await;
        let row = approvals(&client, &id).await.remove(0);
        assert_eq!((&row["status"], &row["decided_by"]), (&json!("approved"), &made["id"]));
        assert_eq!((&row["granted_by"], &row["arguments"]), (&made["created_by"], &json!({"n": n})));
        let kinds = client.event_kinds(&id).await;
        let place = |kind: &str| kinds.iter().position(|one| one == kind);
        assert!(place("approval.requested") < place("approval.decided"), "{kinds:?}");
        assert!(place("approval.decided") < place("tool.called"), "{kinds:?}");
    }
    assert_eq!(system.tools.count("/pay"), 2);
    let used = shown(&client, &made["id"]).await;
    assert_eq!((&used["status"], &used["uses"]), (&json!("used_up"), &json!(2)));

    // A third is one too many; one outside of the condition never was within it.
    let other = client.post("/v1/grants", &body).await.expect(201).body;
    system.model.script([pay(99), Turn::say("done")]);
    let asked = client.start("clerk").await;
    client.wait_suspended(&asked, "approval").await;
    assert_eq!(shown(&client, &other["id"]).await["uses"], 0);
    client.approve(&asked, "c1").await.expect(200);
    client.wait_status(&asked, "completed").await;
    let path = format!("/v1/grants/{}", other["id"].as_str().expect("an id"));
    let gone = client.send(client.builder(reqwest::Method::DELETE, &path)).await.expect(200).body;
    assert_eq!(gone["status"], "revoked");
    system.model.script([pay(3), Turn::say("done")]);
    let asked = client.start("clerk").await;
    client.wait_suspended(&asked, "approval").await;

    let rows = client.get("/v1/audit?act=grant.used").await.expect(200).body;
    assert_eq!(rows["audit"].as_array().map(Vec::len), Some(2), "{rows}");
    let list = client.get("/v1/grants?agent=clerk&limit=1").await.expect(200).body;
    assert_eq!((&list["grants"][0]["id"], &list["next_cursor"]), (&other["id"], &other["id"]));
    let last =
        client.get(&format!("/v1/grants?cursor={}", list["next_cursor"].as_str().expect("more"))).await;
    assert_eq!(last.expect(200).body["grants"][0]["id"], made["id"]);
}

async fn a_decision_grants_the_rest_of_a_conversation(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let talk = |conversation: &str| json!({"agent": "clerk", "input": "go", "conversation_id": conversation});
    system.model.script([pay(1), Turn::say("done")]);
    let first = client.start_with(talk("one")).await;
    client.wait_suspended(&first, "approval").await;
    let denial = json!({"approved": false, "grant": {"for": "agent", "expires_after": "1h", "max_uses": 1}});
    client.decide(&first, "c1", &denial).await.expect_problem(400, "invalid_body");
    let yes = json!({
        "approved": true, "reason": "and the like",
        "grant": {"for": "conversation", "expires_after": "1h", "max_uses": 5},
    });
    let decided = client.decide(&first, "c1", &yes).await.expect(200).body;
    client.wait_status(&first, "completed").await;
    let made = shown(&client, &decided["grant"]).await;
    assert_eq!((&made["conversation_id"], &made["reason"]), (&json!("one"), &json!("and the like")));
    assert_eq!(client.decide(&first, "c1", &yes).await.expect(200).body["already_decided"], true);

    system.model.script([pay(2), Turn::say("done")]);
    let second = client.start_with(talk("one")).await;
    client.wait_status(&second, "completed").await;
    assert_eq!(shown(&client, &decided["grant"]).await["uses"], 1);
    system.model.script([pay(3), Turn::say("done")]);
    let elsewhere = client.start_with(talk("two")).await;
    client.wait_suspended(&elsewhere, "approval").await;
}

async fn what_a_grant_may_not_be_is_refused(mut system: System) {
    let client = system.client();
    let agent =
        clerk(&system.model, &system.tools).tool(&system.tools, "wire", json!({"approval": {"quorum": 2}}));
    client.put_agent("clerk", agent.document()).await;
    for (more, said) in [
        (json!({"max_uses": 0}), "max_uses"),
        (json!({"max_uses": 10_001}), "10000"),
        (json!({"expires_after": "31d"}), "30 days"),
        (json!({"expires_after": "0s"}), "within"),
        (json!({"expires_at": "2099-01-01T00:00:00Z"}), "one of the two"),
        (json!({"conversation_id": "x"}), "one of the two"),
        (json!({"when": ".a b"}), "`when`"),
        (json!({"tool": "nothing"}), "`nothing`"),
    ] {
        let refused = client.post("/v1/grants", &grant(more)).await.expect_problem(400, "invalid_body");
        assert!(refused.body["detail"].as_str().expect("a sentence").contains(said), "{}", refused.body);
    }
    client.post("/v1/grants", &grant(json!({"agent": "nobody"}))).await.expect_problem(404, "not_found");
    client
        .post("/v1/grants", &grant(json!({"tool": "wire"})))
        .await
        .expect_problem(409, "grant_not_possible");
    let unknown = json!({"conversation_id": "x", "tool": "pay", "expires_after": "1h", "max_uses": 1});
    client.post("/v1/grants", &unknown).await.expect_problem(404, "not_found");
    for role in ["submit", "read", "agent"] {
        let caller = system.key_for("default", "default", role).await;
        let refused = client.with_key(Some(&caller)).post("/v1/grants", &grant(json!({}))).await;
        refused.expect_problem(403, "forbidden");
    }
    let none = client.get("/v1/grants").await.expect(200).body;
    assert_eq!(none, json!({"grants": [], "next_cursor": null}));
    client.get("/v1/grants?status=odd").await.expect_problem(400, "invalid_parameter");
    client.get("/v1/grants/grt_01h455vb4pex5vsknk084sn02q").await.expect_problem(404, "not_found");
}

async fn the_policy_is_judged_at_each_use(system: System) {
    let admin = system.client();
    let policy = json!({"approvers": {"groups": ["finance"]}, "no_self_approval": true});
    let agent = Agent::new(&system.model).tool(&system.tools, "pay", json!({"approval": policy}));
    admin.put_agent("clerk", agent.document()).await;
    let stranger = key(&admin, "approve", &["sales"]).await;
    stranger.post("/v1/grants", &grant(json!({}))).await.expect_problem(403, "not_an_approver");
    let both = key(&admin, "admin", &["finance"]).await;
    let made = both.post("/v1/grants", &grant(json!({}))).await.expect(201).body;
    // Who made it starts an execution: the grant does not count there, but in others' it does.
    system.model.script([pay(1)]);
    let own = both.start("clerk").await;
    both.wait_suspended(&own, "approval").await;
    assert_eq!(shown(&admin, &made["id"]).await["uses"], 0);
    system.model.script([pay(2), Turn::say("done")]);
    let others = admin.start("clerk").await;
    admin.wait_status(&others, "completed").await;
    assert_eq!(shown(&admin, &made["id"]).await["uses"], 1);
}

//! Approval policies from end to end: who may decide, how many it takes, what happens when
//! nobody does, and what a changed policy would have asked.

use std::collections::BTreeSet;

use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::Client;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use serde_json::{Value, json};

on_both! {
    two_of_three_approvers_are_needed_one_of_them_the_requester;
    an_expired_one_is_escalated_then_fails with Setup::without_sweeps;
    nobody_in_time_is_a_denial_where_the_policy_says_so with Setup::without_sweeps;
    a_call_that_needs_no_approval_goes_and_says_so;
    a_bad_policy_is_refused_with_its_place;
    a_workflows_question_has_the_same_policy;
    a_policy_is_tried_on_a_thousand_past_calls;
}

/// A key of its own, of that role and in those groups.
async fn key(client: &Client, role: &str, groups: &[&str]) -> Client {
    let made = client.post("/v1/keys", &json!({"role": role, "groups": groups})).await.expect(201);
    assert_eq!(made.body["groups"], json!(groups));
    client.with_key(Some(made.body["key"].as_str().unwrap()))
}

async fn put(system: &System, policy: Value) -> Client {
    let client = system.client();
    let agent = Agent::new(&system.model).tool(&system.tools, "pay", json!({"approval": policy}));
    client.put_agent("clerk", agent.document()).await;
    client
}

async fn approval(client: &Client, id: &str) -> Value {
    let answer = client.get(&format!("/v1/executions/{id}/approvals")).await.expect(200);
    answer.body["approvals"][0].clone()
}

/// The executions of which something waits for this caller.
async fn mine(client: &Client) -> Vec<Value> {
    let page = client.get("/v1/approvals?mine=true").await.expect(200).body;
    page["approvals"].as_array().unwrap().iter().map(|row| row["execution_id"].clone()).collect()
}

/// How many wait for this caller, page by page.
async fn all_of_mine(client: &Client) -> usize {
    let (mut seen, mut cursor) = (BTreeSet::new(), String::new());
    for _ in 0..10 {
        let page = client.get(&format!("/v1/approvals?mine=true&limit=300{cursor}")).await.expect(200).body;
        for row in page["approvals"].as_array().unwrap() {
            assert!(seen.insert(row["id"].as_str().unwrap().to_owned()), "told twice: {row}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen.len(),
        }
    }
    panic!("the pages do not end")
}

async fn two_of_three_approvers_are_needed_one_of_them_the_requester(system: System) {
    let policy = json!({"approvers": {"groups": ["finance"]}, "quorum": 2, "no_self_approval": true});
    let admin = put(&system, policy).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))]), Turn::say("done")]);
    let requester = key(&admin, "admin", &["finance"]).await;
    let (second, third) =
        (key(&admin, "approve", &["finance"]).await, key(&admin, "approve", &["finance", "x"]).await);
    let stranger = key(&admin, "approve", &["sales"]).await;
    let id = requester.start("clerk").await;
    requester.wait_suspended(&id, "approval").await;
    let asked =
        &requester.events(&id).await.into_iter().find(|event| event["type"] == "approval.requested").unwrap();
    assert_eq!(
        (&asked["data"]["approvers"], &asked["data"]["quorum"]),
        (&json!({"groups": ["finance"]}), &json!(2))
    );
    let (yes, path) = (json!({"approved": true}), json!(id));
    requester.decide(&id, "c1", &yes).await.expect_problem(403, "self_approval");
    stranger.decide(&id, "c1", &yes).await.expect_problem(403, "not_an_approver");
    stranger.decide(&id, "c1", &json!({"approved": false})).await.expect_problem(403, "not_an_approver");
    let open = approval(&admin, &id).await;
    assert_eq!(
        (&open["status"], &open["votes"], &open["votes_needed"]),
        (&json!("pending"), &json!([]), &json!(2))
    );
    assert_eq!((&open["policy"]["quorum"], &open["policy"]["no_self_approval"]), (&json!(2), &json!(true)));
    assert_eq!((mine(&requester).await, mine(&stranger).await), (vec![], vec![]));
    assert_eq!((mine(&second).await, mine(&third).await), (vec![path.clone()], vec![path.clone()]));

    // By the list of decisions it is judged the same.
    let items = json!({"decisions": [{"execution_id": id, "tool_call_id": "c1", "approved": true}]});
    let refused = requester.post("/v1/approvals/decisions", &items).await.expect(200);
    assert_eq!(refused.body["results"][0]["problem"]["code"], "self_approval");
    let counted = second.decide(&id, "c1", &yes).await.expect(200).body;
    assert_eq!((&counted["decision"], &counted["already_decided"]), (&json!("pending"), &json!(false)));
    assert_eq!((&counted["votes_needed"], counted["votes"].as_array().unwrap().len()), (&json!(1), 1));
    let again = second.post("/v1/approvals/decisions", &items).await.expect(200).body["results"][0].clone();
    assert_eq!((&again["decision"], &again["already_decided"]), (&json!("pending"), &json!(true)));
    assert_eq!((mine(&second).await, mine(&third).await), (vec![], vec![path]));
    let other = json!({"approved": true, "arguments": {"n": 2}});
    third.decide(&id, "c1", &other).await.expect_problem(409, "digest_mismatch");
    assert_eq!(
        (admin.execution(&id).await["status"].clone(), system.tools.count("/pay")),
        (json!("suspended"), 0)
    );

    let taken = third.decide(&id, "c1", &yes).await.expect(200).body;
    assert_eq!((&taken["decision"], &taken["votes_needed"]), (&json!("approved"), &json!(0)));
    admin.wait_status(&id, "completed").await;
    assert_eq!(system.tools.count("/pay"), 1);
    let votes = approval(&admin, &id).await["votes"].clone();
    assert_eq!(votes.as_array().unwrap().iter().filter(|vote| vote["approved"] == true).count(), 2);
}

async fn sweep(client: &Client) {
    client.post("/v1/sweeps/stale", &json!({})).await.expect(200);
}

fn escalating(expires_after: &str) -> Value {
    json!({"approvers": {"groups": ["finance"]}, "expires_after": "300ms", "on_timeout": {"escalate":
        {"approvers": {"groups": ["board"]}, "expires_after": expires_after, "then": "fail"}}})
}

async fn an_expired_one_is_escalated_then_fails(system: System) {
    let client = put(&system, escalating("1h")).await;
    let board = key(&client, "approve", &["board"]).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))]), Turn::say("done")]);
    let id = client.start("clerk").await;
    // Before any sweep: what counts is the time.
    until("the board is asked", SOON, || async { (mine(&board).await == [json!(id)]).then_some(()) }).await;
    let before = approval(&client, &id).await;
    sweep(&client).await;
    let after = approval(&client, &id).await;
    for member in ["status", "escalated_at", "expires_at"] {
        assert_eq!(before[member], after[member], "{member}");
    }
    assert_eq!((&after["status"], after["escalated_at"].is_string()), (&json!("pending"), true));
    assert_eq!(client.execution(&id).await["status"], "suspended");
    client.decide(&id, "c1", &json!({"approved": true})).await.expect_problem(403, "not_an_approver");
    board.decide(&id, "c1", &json!({"approved": true})).await.expect(200);
    client.wait_status(&id, "completed").await;

    let client = put(&system, escalating("300ms")).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let id = client.start("clerk").await;
    client.wait_suspended(&id, "approval").await;
    until("it failed", SOON, || async {
        sweep(&client).await;
        (client.execution(&id).await["status"] == "failed").then_some(())
    })
    .await;
    let execution = client.execution(&id).await;
    assert_eq!(
        (&execution["reason"], &execution["error"]["type"]),
        (&json!("approval_timeout"), &json!("timeout"))
    );
    assert_eq!(execution["metadata"]["failure_reason"], "approval_timeout");
    let closed = approval(&client, &id).await;
    assert_eq!((&closed["status"], closed["escalated_at"].is_string()), (&json!("expired"), true));
    board.decide(&id, "c1", &json!({"approved": true})).await.expect_problem(410, "approval_closed");
    assert_eq!(system.tools.count("/pay"), 1, "of the first execution");
}

async fn nobody_in_time_is_a_denial_where_the_policy_says_so(system: System) {
    let client = put(&system, json!({"expires_after": "200ms", "on_timeout": "deny"})).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))]), Turn::say("so be it")]);
    let id = client.start("clerk").await;
    client.wait_suspended(&id, "approval").await;
    until("it is denied", SOON, || async {
        sweep(&client).await;
        (approval(&client, &id).await["status"] == "denied").then_some(())
    })
    .await;
    assert_eq!(client.wait_status(&id, "completed").await["output"], "so be it");
    let denied = approval(&client, &id).await;
    assert_eq!(
        (&denied["decided_by"], &denied["reason"]),
        (&json!("on_timeout"), &json!("nobody decided in time"))
    );
    let told = system.model.requests().last().unwrap().told("c1").unwrap();
    assert!(told.contains("nobody decided in time"), "{told}");
    assert_eq!(system.tools.count("/pay"), 0);
}

async fn a_call_that_needs_no_approval_goes_and_says_so(system: System) {
    let client = put(&system, json!({"when": ".arguments.n > 5 and .agent == \"clerk\""})).await;
    system.model.script([
        Turn::call(&[("small", "pay", json!({"n": 1})), ("large", "pay", json!({"n": 10}))]),
        Turn::say("done"),
    ]);
    let id = client.start("clerk").await;
    system.tools.wait_calls("/pay", 1).await;
    let pending = client.wait_pending(&id, 1).await;
    assert_eq!(pending[0]["tool_call_id"], "large");
    client.approve(&id, "large").await.expect(200);
    client.wait_status(&id, "completed").await;
    let steps = client.steps(&id).await;
    let of = |call: &str| steps.iter().find(|step| step["tool_call_id"] == call).unwrap()["approval"].clone();
    assert_eq!((of("small"), of("large")["status"].clone()), (json!("not_needed"), json!("approved")));

    // What cannot say asks, and says why.
    let client = put(&system, json!({"when": ".arguments.n.nothing"})).await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let id = client.start("clerk").await;
    let pending = client.wait_pending(&id, 1).await;
    assert!(pending[0]["policy"]["when_failed"].is_string(), "{}", pending[0]);
    assert_eq!(system.tools.count("/pay"), 2);
}

async fn a_bad_policy_is_refused_with_its_place(system: System) {
    let client = system.client();
    for (policy, place) in [
        (json!({"when": ".a |"}), "tools[0].approval.when"),
        (json!({"when": "$nobody"}), "tools[0].approval.when"),
        (json!({"quorum": 0}), "tools[0].approval.quorum"),
        (json!({"approvers": {}}), "tools[0].approval.approvers"),
        (json!({"approvers": {"roles": ["submit"]}}), "tools[0].approval"),
        (json!({"on_timeout": "never"}), "tools[0].approval"),
        (json!({"wen": "true"}), "tools[0].approval"),
    ] {
        let agent = Agent::new(&system.model).tool(&system.tools, "pay", json!({"approval": policy}));
        let put = client.builder(reqwest::Method::PUT, "/v1/agents/clerk").json(agent.document());
        let refused = client.send(put).await.expect_problem(400, "invalid_definition");
        assert!(refused.body["detail"].as_str().unwrap().contains(place), "{policy}: {}", refused.text);
    }
    let groups = json!({"role": "approve", "groups": ["a b"]});
    client.post("/v1/keys", &groups).await.expect_problem(400, "invalid_body");
}

async fn a_workflows_question_has_the_same_policy(system: System) {
    let client = system.client();
    let ask = |version: &str, with: Value| {
        json!({"document": {"dsl": "1.0.3", "namespace": "test", "name": "asks", "version": version},
            "do": [{"ask": {"call": "approval:1.0.0@default", "with": with}}]})
    };
    let put = |document: Value| {
        let client = client.clone();
        async move {
            client.send(client.builder(reqwest::Method::PUT, "/v1/workflows/asks").json(&document)).await
        }
    };
    let with =
        json!({"title": "Well?", "quorum": 2, "approvers": {"groups": ["finance"]}, "allowEdit": false});
    put(ask("1.0.0", with)).await.expect(201);
    let id = client.start_with(json!({"workflow": "asks", "input": {}})).await;
    let call = client.wait_pending(&id, 1).await[0]["tool_call_id"].as_str().unwrap().to_owned();
    let yes = json!({"approved": true});
    client.decide(&id, &call, &yes).await.expect_problem(403, "not_an_approver");
    let (one, two) =
        (key(&client, "approve", &["finance"]).await, key(&client, "approve", &["finance"]).await);
    let edited = json!({"approved": true, "arguments": {"subject": 1}});
    one.decide(&id, &call, &edited).await.expect_problem(422, "arguments_invalid");
    assert_eq!(one.decide(&id, &call, &yes).await.expect(200).body["decision"], "pending");
    two.decide(&id, &call, &yes).await.expect(200);
    assert_eq!(client.wait_status(&id, "completed").await["output"]["approved"], true);

    // By its own clock: escalated, then denied.
    let next =
        json!({"approvers": {"groups": ["board"]}, "expiresAfter": {"milliseconds": 100}, "then": "deny"});
    let with =
        json!({"title": "Well?", "expiresAfter": {"milliseconds": 100}, "onTimeout": {"escalate": next}});
    put(ask("2.0.0", with)).await.expect(201);
    let id = client.start_with(json!({"workflow": "asks", "input": {}})).await;
    let output = client.wait_status(&id, "completed").await["output"].clone();
    assert_eq!((&output["approved"], &output["reason"]), (&json!(false), &json!("nobody decided in time")));
    let denied = approval(&client, &id).await;
    assert_eq!((&denied["status"], denied["escalated_at"].is_string()), (&json!("denied"), true));
    let wrong =
        put(ask("3.0.0", json!({"title": "Well?", "onTimeout": {"escalate": {"then": "deny"}}}))).await;
    wrong.expect_problem(400, "invalid_workflow");
}

/// A thousand calls were asked about; a policy would have asked about fewer of them.
async fn a_policy_is_tried_on_a_thousand_past_calls(system: System) {
    const TURNS: usize = 20;
    const CALLS: usize = 50;
    let client = put(&system, json!("always")).await;
    system.model.answer_by(|request| {
        let first: usize = request.last().parse().unwrap();
        let ids: Vec<String> = (0..CALLS).map(|at| format!("c{at}")).collect();
        let calls: Vec<(&str, &str, Value)> =
            ids.iter().enumerate().map(|(at, id)| (id.as_str(), "pay", json!({"n": first + at}))).collect();
        Turn::call(&calls)
    });
    let mut ids = Vec::new();
    for turn in 0..TURNS {
        ids.push(client.start_with(json!({"agent": "clerk", "input": (turn * CALLS).to_string()})).await);
    }
    for id in &ids {
        client.wait_suspended(id, "approval").await;
    }
    let test = |body: Value| {
        let client = client.clone();
        async move { client.post("/v1/policies/test", &body).await }
    };
    let when = |when: &str| json!({"agent": "clerk", "tool": "pay", "approval": {"when": when}});
    let told = test(when(".arguments.n >= 100")).await.expect(200).body;
    let counts = |told: &Value, names: [&str; 6]| names.map(|name| told[name].as_u64().unwrap());
    let names = ["calls", "would_ask", "would_not_ask", "errors", "asked_then", "changed_calls"];
    assert_eq!(counts(&told, names), [1_000, 900, 100, 0, 1_000, 100]);
    let changed = told["changed"].as_array().unwrap();
    assert!(
        changed.len() == 100 && changed.iter().all(|call| call["arguments"]["n"].as_u64().unwrap() < 100)
    );
    assert!(changed.iter().all(|call| call["asked_then"] == true && call["would_ask"] == false));
    assert_eq!((&told["executions"], &told["more"]), (&json!(TURNS), &json!(false)));

    let told = test(when(".arguments.m.x > 1 | error")).await.expect(200).body;
    assert_eq!(counts(&told, names), [1_000, 1_000, 0, 1_000, 1_000, 0]);
    assert_eq!(told["expression_errors"].as_array().unwrap().len(), 20);
    let mut few = when("false");
    few["limit"] = json!(70);
    let told = test(few).await.expect(200).body;
    assert_eq!((counts(&told, names)[0], &told["more"]), (70, &json!(true)));
    let never =
        json!({"tool": "pay", "approval": "never", "until": client.execution(&ids[0]).await["created_at"]});
    assert_eq!(counts(&test(never).await.expect(200).body, names), [0; 6]);
    let since = json!({"agent": "clerk", "tool": "pay", "approval": "never",
        "since": client.execution(&ids[TURNS - 1]).await["created_at"]});
    assert_eq!(counts(&test(since).await.expect(200).body, names), [50, 0, 50, 0, 50, 50]);
    for (body, told) in [
        (json!({"agent": "clerk", "tool": "pay", "approval": {"when": ".a |"}}), "approval.when"),
        (json!({"agent": "clerk", "tool": "pay", "approval": {"quorum": 99}}), "approval.quorum"),
        (json!({"agent": "clerk", "tool": "pay", "approval": "always", "limit": 10_001}), "limit"),
        (json!({"agent": "a", "workflow": "b", "tool": "pay", "approval": "always"}), "not both"),
        (json!({"agent": "clerk", "approval": "always"}), "tool"),
    ] {
        let refused = test(body.clone()).await.expect_problem(400, "invalid_body");
        assert!(refused.body["detail"].as_str().unwrap().contains(told), "{body}: {}", refused.text);
    }
    let person = key(&client, "approve", &[]).await;
    person.post("/v1/policies/test", &when("true")).await.expect_problem(403, "forbidden");
    // All of them wait for whoever may decide, each told once.
    assert_eq!(all_of_mine(&person).await, TURNS * CALLS);
    assert_eq!(all_of_mine(&key(&client, "read", &[]).await).await, 0);
    assert_eq!(system.tools.count("/pay"), 0);
}

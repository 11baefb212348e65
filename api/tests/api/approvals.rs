//! The contract's table of approvals, as HTTP answers.

use holdpoint_api::keys::Role;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::ApprovalStatus;
use serde_json::json;

use crate::http::Answer;
use crate::world::World;

async fn decide(world: &World, key: &str, id: ExecutionId, body: &str) -> Answer {
    world.with_key(key, &format!("POST /v1/executions/{id}/approvals/call_1"), body).await
}

#[tokio::test]
async fn each_state_has_its_answer() {
    use ApprovalStatus::{Approved, Cancelled, Denied, Expired, Pending};
    let table = [
        (Pending, true, 200, "", Approved),
        (Pending, false, 200, "", Denied),
        (Approved, true, 200, "", Approved),
        (Approved, false, 409, "approval_conflict", Approved),
        (Denied, false, 200, "", Denied),
        (Denied, true, 409, "approval_conflict", Denied),
        (Expired, true, 410, "approval_closed", Expired),
        (Cancelled, false, 410, "approval_closed", Cancelled),
    ];
    for (before, approved, status, code, after) in table {
        let world = World::new().await;
        let key = world.key(Role::Admin);
        let id = world.started(&key).await;
        world.approval(id, before);
        let answer = decide(&world, &key, id, &json!({"approved": approved}).to_string()).await;
        assert_eq!(answer.status, status, "{before} {approved}: {answer:?}");
        assert_eq!(world.rows.state().approvals[0].status, after);
        let document = answer.json();
        match status {
            200 => {
                assert_eq!(document["decision"], after.as_str());
                assert_eq!(document["already_decided"], before.is_decided());
            }
            409 => {
                assert_eq!(answer.code(), code);
                assert_eq!(
                    (&document["decision"], &document["decided_by"]),
                    (&after.as_str().into(), &"key_before".into())
                );
            }
            _ => {
                assert_eq!(answer.code(), code);
                assert_eq!(document["approval_status"], after.as_str());
            }
        }
    }
}

#[tokio::test]
async fn only_a_literal_boolean_decides() {
    let world = World::new().await;
    let key = world.key(Role::Approve);
    let id = world.started(&world.key(Role::Submit)).await;
    world.approval(id, ApprovalStatus::Pending);
    for body in [
        "",
        "{}",
        "{\"approved\":\"true\"}",
        "{\"approved\":1}",
        "{\"approved\":null}",
        "[true]",
        "true",
        "{\"approved\":true,\"approved\":false}",
        "{\"approved\":true,\"x\":1}",
        "{\"approved\":false,\"arguments\":{}}",
    ] {
        let answer = decide(&world, &key, id, body).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_body"), "{body}");
    }
    assert_eq!(world.rows.state().approvals[0].status, ApprovalStatus::Pending);
}

#[tokio::test]
async fn a_decision_binds_to_the_digest_that_was_seen() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = world.started(&key).await;
    let digest = world.approval(id, ApprovalStatus::Pending);
    let wrong = decide(&world, &key, id, "{\"approved\":true,\"digest\":\"other\"}").await;
    assert_eq!((wrong.status, wrong.code().as_str()), (409, "digest_mismatch"));
    assert_eq!(wrong.json()["digest"], digest);
    let right = decide(&world, &key, id, &json!({"approved": true, "digest": digest}).to_string()).await;
    assert_eq!(right.status, 200);
}

#[tokio::test]
async fn edited_arguments_are_kept_to_the_byte_and_held_against_the_schema() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = world.started(&key).await;
    world.approval(id, ApprovalStatus::Pending);
    for (arguments, pointer) in [
        ("{}", ""),
        ("[]", ""),
        ("{\"amount\":\"x\"}", ""),
        ("{\"amount\":1,\"amount\":2}", "/arguments/amount"),
        ("{\"amount\":1,\"x\":\"\\u0000\"}", "/arguments/x"),
    ] {
        let answer =
            decide(&world, &key, id, &format!("{{\"approved\":true,\"arguments\":{arguments}}}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (422, "arguments_invalid"), "{arguments}");
        assert_eq!(answer.json()["pointer"].as_str().unwrap_or(""), pointer);
    }
    let long =
        format!("{{\"approved\":true,\"arguments\":{{\"amount\":1,\"x\":\"{}\"}}}}", "y".repeat(256 * 1024));
    let answer = decide(&world, &key, id, &long).await;
    assert_eq!((answer.status, answer.json()["limit"].as_str()), (413, Some("value_bytes")));
    let answer = decide(&world, &key, id, "{\"approved\":true,\"arguments\": {\"amount\" :  7} }").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(world.rows.state().approvals[0].edited_arguments.as_deref(), Some("{\"amount\" :  7}"));
    // Once decided, arguments that would not fit are another decision, not a fault.
    let again = decide(&world, &key, id, "{\"approved\":true,\"arguments\":{}}").await;
    assert_eq!((again.status, again.code().as_str()), (409, "approval_conflict"));
}

#[tokio::test]
async fn what_is_not_there_is_404_before_anything_else() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = world.started(&key).await;
    let other = world.started(&key).await;
    world.approval(id, ApprovalStatus::Pending);
    for path in [
        format!("/v1/executions/{id}/approvals/call_2"),
        format!("/v1/executions/{other}/approvals/call_1"),
        "/v1/executions/exe_nonsense/approvals/call_1".to_owned(),
        format!("/v1/executions/{id}/approvals/call_1%00"),
    ] {
        let answer =
            world.with_key(&key, &format!("POST {path}"), "{\"approved\":true,\"digest\":\"x\"}").await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn many_decisions_are_judged_one_by_one() {
    let world = World::new().await;
    let key = world.key(Role::Approve);
    let id = world.started(&world.key(Role::Submit)).await;
    world.approval(id, ApprovalStatus::Pending);
    let body = json!({"decisions": [
        {"execution_id": "exe_x", "tool_call_id": "c", "approved": true},
        {"execution_id": id, "tool_call_id": "call_1"},
        {"execution_id": id, "tool_call_id": "call_1", "approved": false, "reason": "no"},
    ]});
    let answer = world.with_key(&key, "POST /v1/approvals/decisions", &body.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json()["results"].clone();
    assert_eq!(results[0]["problem"]["code"], "not_found");
    assert_eq!(results[1]["problem"]["code"], "invalid_body");
    assert_eq!((&results[2]["index"], &results[2]["decision"]), (&2.into(), &"denied".into()));
    let many = json!({"decisions": vec![0; 1001]}).to_string();
    assert_eq!(world.with_key(&key, "POST /v1/approvals/decisions", &many).await.status, 422);
}

#[tokio::test]
async fn the_inbox_and_the_lists_show_what_waits() {
    let world = World::new().await;
    let key = world.key(Role::Read);
    let id = world.started(&world.key(Role::Submit)).await;
    for _ in 0..3 {
        world.approval(id, ApprovalStatus::Pending);
    }
    world.approval(id, ApprovalStatus::Denied);
    let page = world.with_key(&key, "GET /v1/approvals?limit=2", "").await.json();
    assert_eq!(page["approvals"].as_array().unwrap().len(), 2);
    let first = &page["approvals"][0];
    assert_eq!(
        (&first["arguments"], &first["arguments_text"]),
        (&json!({"amount": 5}), &"{\"amount\": 5}".into())
    );
    let next = format!("GET /v1/approvals?limit=2&cursor={}", page["next_cursor"].as_str().unwrap());
    let page = world.with_key(&key, &next, "").await.json();
    assert_eq!((page["approvals"].as_array().unwrap().len(), page["next_cursor"].is_null()), (1, true));
    let all = world.with_key(&key, &format!("GET /v1/executions/{id}/approvals"), "").await.json();
    assert_eq!((all["approvals"].as_array().unwrap().len(), &all["has_pending"]), (4, &true.into()));
    let unknown = world.with_key(&key, "GET /v1/conversations/nobody/pending-approvals", "").await;
    assert_eq!(unknown.code(), "not_found");
}

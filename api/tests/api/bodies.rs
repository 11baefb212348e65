//! Bodies and what is refused about them; every refusal is a problem document.

use holdpoint_api::keys::Role;
use serde_json::json;

use crate::world::{AGENT, World};

#[tokio::test]
async fn a_start_that_is_not_one_leaves_no_row() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    world.with_key(&key, "PUT /v1/agents/helper", AGENT).await;
    let too_many: serde_json::Map<_, _> = (0..33).map(|n| (n.to_string(), json!("x"))).collect();
    let table = [
        (json!({}), 400, "invalid_body"),
        (json!({"agent": "helper", "workflow": "w"}), 400, "invalid_body"),
        (
            json!({"agent": "helper", "input": 1, "messages": [{"role": "user", "content": "x"}]}),
            400,
            "invalid_body",
        ),
        (json!({"agent": "helper", "messages": []}), 400, "invalid_body"),
        (json!({"agent": "helper", "messages": [{"role": "robot", "content": "x"}]}), 400, "invalid_body"),
        (json!({"agent": "helper", "nonsense": 1}), 400, "invalid_body"),
        (json!({"agent": "helper", "execution_mode": "classic"}), 400, "classic_not_here"),
        (json!({"agent": "helper", "execution_mode": "quick"}), 400, "invalid_body"),
        (json!({"agent": "helper", "run_type": "trial"}), 400, "invalid_body"),
        (json!({"agent": "helper", "delay": "soon"}), 400, "invalid_body"),
        (json!({"agent": "helper", "metadata": []}), 400, "invalid_body"),
        (json!({"agent": "helper", "version": 0}), 400, "invalid_body"),
        (json!({"agent": "helper", "execution_id": "mine"}), 400, "invalid_body"),
        (json!({"agent": "helper", "conversation_id": ""}), 400, "invalid_body"),
        (json!({"agent": "helper", "conversation_id": "x".repeat(256)}), 400, "invalid_body"),
        (json!({"agent": "helper", "labels": {"a": 1}}), 400, "invalid_body"),
        (json!({"agent": "nobody"}), 404, "unknown_definition"),
        (json!({"agent": "no body"}), 404, "unknown_definition"),
        (json!({"agent": "helper", "version": 9}), 404, "unknown_definition"),
        (json!({"agent": "helper", "labels": too_many}), 422, "limit"),
        (json!({"agent": "helper", "labels": {"k".repeat(65): "x"}}), 422, "limit"),
        (json!({"agent": "helper", "labels": {"k": "x".repeat(257)}}), 422, "limit"),
        (json!({"agent": "helper", "metadata": {"k": "x".repeat(16 * 1024)}}), 413, "limit"),
        (json!({"agent": "helper", "input": "x".repeat(256 * 1024)}), 413, "limit"),
    ];
    for (body, status, code) in table {
        let answer = world.with_key(&key, "POST /v1/executions", &body.to_string()).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{answer:?}");
        if code == "limit" {
            assert!(answer.json()["limit"].is_string() && answer.json()["value"].is_number(), "{answer:?}");
        }
    }
    for raw in
        ["{", "", "{\"agent\":\"helper\",\"input\":\"\\u0000\"}", "{\"agent\":\"helper\",\"agent\":\"x\"}"]
    {
        let answer = world.with_key(&key, "POST /v1/executions", raw).await;
        assert_eq!(answer.code(), "invalid_body", "{raw}");
    }
    assert!(world.rows.state().executions.is_empty());
}

#[tokio::test]
async fn what_is_not_json_or_too_long_is_told_so() {
    let world = World::new().await;
    let bearer = format!("authorization: Bearer {}", world.key(Role::Admin));
    let form = [bearer.as_str(), "content-type: application/x-www-form-urlencoded"];
    let answer = world.call("POST /v1/executions", &form, "a=b").await;
    assert_eq!((answer.status, answer.code().as_str()), (415, "unsupported_media_type"));
    let json = [bearer.as_str(), "content-type: application/json; charset=utf-8"];
    assert_eq!(world.call("POST /v1/executions", &json, "{}").await.status, 400);
    let small = World::with(|settings| settings.body_bytes = 100).await;
    let key = small.key(Role::Admin);
    let answer = small.with_key(&key, "POST /v1/executions", &"x".repeat(101)).await;
    assert_eq!(
        (answer.status, answer.json()["limit"].as_str(), answer.json()["value"].as_i64()),
        (413, Some("body_bytes"), Some(100))
    );
    assert_eq!(small.with_key(&key, "POST /v1/executions", &"x".repeat(100)).await.status, 400);
}

#[tokio::test]
async fn paths_methods_and_queries_that_are_not_there_are_problems_too() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    for (line, status, code) in [
        ("GET /nowhere", 404, "no_such_route"),
        ("GET /v1/executions/x/retry/y", 404, "no_such_route"),
        ("PATCH /v1/executions", 405, "method_not_allowed"),
        ("GET /v1/executions/exe_1/cancel", 405, "method_not_allowed"),
        ("GET /v1/executions/%ff", 404, "not_found"),
        ("GET /v1/executions/%00", 404, "not_found"),
        ("GET /v1/executions?nonsense=1", 400, "invalid_parameter"),
        ("GET /v1/executions?status=done", 400, "invalid_parameter"),
        ("GET /v1/executions?limit=0", 400, "invalid_parameter"),
        ("GET /v1/executions?cursor=x", 400, "invalid_parameter"),
        ("GET /v1/executions?created_after=now", 400, "invalid_parameter"),
        ("GET /v1/executions?agent=a%00", 400, "invalid_parameter"),
        ("GET /v1/approvals?status=open", 400, "invalid_parameter"),
        ("GET /v1/agents/a?version=x", 400, "invalid_parameter"),
    ] {
        let answer = world.with_key(&key, line, "").await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{line}");
    }
    let allowed = world.with_key(&key, "PATCH /v1/executions", "").await;
    assert!(allowed.header("allow").contains("POST"), "{allowed:?}");
}

#[tokio::test]
async fn an_agents_document_is_checked_whole() {
    let world = World::new().await;
    let key = world.key(Role::Submit);
    let bad = r#"{"model": {"base_url": "ftp://x", "name": ""}, "max_turns": 0}"#;
    let answer = world.with_key(&key, "PUT /v1/agents/helper", bad).await;
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_definition"));
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 3, "{answer:?}");
    for name in ["holdpoint.mine", "a b", "-x"] {
        let line = format!("PUT /v1/agents/{}", name.replace(' ', "%20"));
        assert_eq!(world.with_key(&key, &line, AGENT).await.code(), "invalid_definition", "{name}");
    }
    let new = world.with_key(&key, "PUT /v1/agents/helper", AGENT).await;
    assert_eq!((new.status, &new.json()["version"]), (201, &1.into()));
    assert_eq!(world.with_key(&key, "PUT /v1/agents/helper", &format!(" {AGENT}")).await.status, 200);
    let changed = world.with_key(&key, "PUT /v1/agents/helper", &AGENT.replace("\"m\"", "\"n\"")).await;
    assert_eq!((changed.status, &changed.json()["version"]), (201, &2.into()));
    let read = world.with_key(&key, "GET /v1/agents/helper?version=1", "").await.json();
    assert_eq!(read["document"]["model"]["name"], "m");
    assert_eq!(world.with_key(&key, "GET /v1/agents/helper", "").await.json()["version"], 2);
    assert_eq!(world.with_key(&key, "DELETE /v1/agents/helper", "").await.status, 204);
    assert_eq!(world.with_key(&key, "DELETE /v1/agents/helper", "").await.status, 404);
}

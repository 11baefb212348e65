//! Starts, reads and acts.

use holdpoint_api::keys::Role;
use holdpoint_engine::status::Status;
use holdpoint_queue::Source;
use serde_json::json;

use crate::http::PATIENCE;
use crate::world::{AGENT, World};

#[tokio::test]
async fn a_start_is_answered_with_its_row_and_where_it_is() {
    let world = World::new().await;
    let key = world.key(Role::Submit);
    world.with_key(&key, "PUT /v1/agents/helper", AGENT).await;
    let body =
        json!({"agent": "helper", "input": {"order": 42}, "labels": {"a": "b"}, "metadata": {"k": 1.50}});
    let answer = world.with_key(&key, "POST /v1/executions", &body.to_string()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let started = answer.json();
    let id = started["id"].as_str().unwrap();
    assert_eq!(answer.header("location"), format!("/v1/executions/{id}"));
    assert_eq!(answer.header("x-workflow-run-id"), id);
    assert_eq!((&started["status"], &started["definition"]["version"]), (&"queued".into(), &1.into()));
    let read = world.with_key(&key, &format!("GET /v1/executions/{id}"), "").await.json();
    assert_eq!(read["conversation_id"], started["conversation_id"]);
    assert_eq!((&read["input"], &read["labels"]["a"]), (&json!({"order": 42}), &"b".into()));
    for member in ["reason", "retry_of", "output", "error", "started_at", "finished_at"] {
        assert!(read.get(member).is_some_and(serde_json::Value::is_null), "{member}: {read}");
    }
    let list = world.with_key(&key, "GET /v1/executions?label.a=b&status=queued", "").await.json();
    assert_eq!(list["executions"][0]["id"], id);
    assert!(
        world.with_key(&key, "GET /v1/executions?label.a=c", "").await.json()["executions"]
            .as_array()
            .unwrap()
            .is_empty()
    );
}

#[tokio::test]
async fn a_repeated_start_is_the_same_one() {
    let world = World::new().await;
    let bearer = format!("authorization: Bearer {}", world.key(Role::Submit));
    let body = r#"{"workflow": "holdpoint.noop"}"#;
    let with = [bearer.as_str(), "idempotency-key: order-42"];
    let first = world.call("POST /v1/executions", &with, body).await;
    let second = world.call("POST /v1/executions", &with, body).await;
    assert_eq!((first.status, second.status), (202, 200));
    assert_eq!(first.json(), second.json());
    let other = world.call("POST /v1/executions", &with, r#"{"workflow":"holdpoint.noop"}"#).await;
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_mismatch"));
    let long = format!("idempotency-key: {}", "x".repeat(256));
    let long = world.call("POST /v1/executions", &[&bearer, &long], body).await;
    assert_eq!((long.status, long.json()["value"].as_i64()), (422, Some(255)));
    let id = first.json()["id"].as_str().unwrap().replace("exe_0", "exe_1");
    let mine = json!({"workflow": "holdpoint.noop", "execution_id": id}).to_string();
    let first = world.call("POST /v1/executions", &[&bearer], &mine).await;
    assert_eq!((first.status, first.json()["id"].as_str()), (202, Some(id.as_str())));
    assert_eq!(world.call("POST /v1/executions", &[&bearer], &mine).await.status, 200);
}

#[tokio::test]
async fn a_conversation_has_one_active_execution() {
    let world = World::new().await;
    let key = world.key(Role::Submit);
    world.with_key(&key, "PUT /v1/agents/helper", AGENT).await;
    let body = r#"{"agent": "helper", "conversation_id": "c-1"}"#;
    let first = world.with_key(&key, "POST /v1/executions", body).await;
    let second = world.with_key(&key, "POST /v1/executions", body).await;
    assert_eq!((second.status, second.code().as_str()), (409, "conversation_busy"));
    assert_eq!(second.json()["active_execution_id"], first.json()["id"]);
    let pending = world.with_key(&key, "GET /v1/conversations/c-1/pending-approvals", "").await;
    assert_eq!((pending.status, pending.json()), (200, json!({"has_pending": false, "approvals": []})));
}

#[tokio::test]
async fn a_batch_is_judged_item_by_item() {
    let world = World::new().await;
    let key = world.key(Role::Agent);
    let body = json!({"executions": [{"workflow": "holdpoint.noop"}, {"workflow": "nobody"}, 7, {"workflow": "holdpoint.noop"}]});
    let answer = world.with_key(&key, "POST /v1/executions/batch", &body.to_string()).await;
    let results = answer.json()["results"].clone();
    assert_eq!(answer.status, 200);
    assert!(results[0]["id"].is_string() && results[3]["id"].is_string());
    assert_eq!(results[1]["problem"]["code"], "unknown_definition");
    assert_eq!((&results[2]["problem"]["code"], &results[2]["index"]), (&"invalid_body".into(), &2.into()));
    assert_eq!(world.rows.state().executions.len(), 2);
    let many = json!({"executions": vec![json!({"workflow": "holdpoint.noop"}); 1001]}).to_string();
    assert_eq!(world.with_key(&key, "POST /v1/executions/batch", &many).await.code(), "limit");
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    for _ in 0..5 {
        world.with_key(&key, "POST /v1/executions", r#"{"workflow": "holdpoint.noop"}"#).await;
    }
    let (mut seen, mut line) = (Vec::new(), "GET /v1/executions?limit=2".to_owned());
    loop {
        let page = world.with_key(&key, &line, "").await.json();
        seen.extend(
            page["executions"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        line = format!("GET /v1/executions?limit=2&cursor={cursor}");
    }
    assert_eq!(seen.len(), 5);
    assert!(seen.windows(2).all(|pair| pair[0] > pair[1]), "{seen:?}");
}

#[tokio::test]
async fn acts_are_answered_and_told() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = world.started(&key).await;
    let mut workers = world.queue.consume(Source::Workers, 10).await;
    let resumed = world.with_key(&key, &format!("POST /v1/executions/{id}/resume"), "").await;
    assert_eq!((resumed.status, resumed.json()["status"].as_str()), (202, Some("suspended")));
    let hints = tokio::time::timeout(PATIENCE, workers.next(1)).await.unwrap();
    assert!(String::from_utf8_lossy(&hints[0].body).contains(&id.to_string()));
    let cancel = format!("POST /v1/executions/{id}/cancel");
    assert_eq!(world.with_key(&key, &cancel, "{\"x\":1}").await.code(), "invalid_body");
    assert_eq!(world.with_key(&key, &cancel, "{}").await.json()["status"], "cancelled");
    let again = world.with_key(&key, &cancel, "").await;
    assert_eq!((again.status, again.code().as_str()), (409, "already_terminal"));
    assert_eq!(again.json()["execution_status"], "cancelled");
}

#[tokio::test]
async fn an_unknown_outcome_is_answered_by_those_who_may() {
    let world = World::new().await;
    let id = world.started(&world.key(Role::Submit)).await;
    let key = world.key(Role::Approve);
    for (step, body, status, code) in [
        ("1", r#"{"outcome":"happened"}"#, 409, "outcome_not_unknown"),
        ("2", r#"{"outcome":"did_not_happen"}"#, 409, "not_settled"),
        ("3", r#"{"outcome":"did_not_happen","result":1}"#, 400, "invalid_body"),
        ("3", r#"{"outcome":"perhaps"}"#, 400, "invalid_body"),
        ("x", r#"{"outcome":"happened"}"#, 404, "not_found"),
    ] {
        let answer =
            world.with_key(&key, &format!("POST /v1/executions/{id}/steps/{step}/resolve"), body).await;
        assert_eq!((answer.status, answer.code().as_str()), (status, code), "{step} {body}");
    }
    let body = r#"{"outcome":"happened","result":{"a" : 1}}"#;
    let answer = world.with_key(&key, &format!("POST /v1/executions/{id}/steps/3/resolve"), body).await;
    assert_eq!(answer.status, 202);
    assert!(format!("{:?}", world.rows.state().acts.last()).contains("a\\\" : 1"));
}

#[tokio::test]
async fn without_a_database_nothing_is_promised() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let start = r#"{"workflow": "holdpoint.noop"}"#;
    world.rows.state().away = true;
    for line in ["GET /v1/executions", "POST /v1/executions", "POST /v1/sweeps/stale"] {
        let answer = world.with_key(&key, line, if line.contains("exec") { start } else { "" }).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "unavailable"), "{line}");
        assert_eq!(answer.header("retry-after"), "1");
        assert!(!answer.body.contains("insides"), "{answer:?}");
    }
    let ready = world.call("GET /readyz", &[], "").await;
    assert_eq!((ready.status, &ready.json()["missing"]), (503, &json!(["database"])));
    world.rows.state().away = false;
    assert_eq!(world.with_key(&key, "POST /v1/executions", start).await.status, 202);
    world.rows.state().broken = true;
    let answer = world.with_key(&key, "POST /v1/executions", start).await;
    assert_eq!((answer.status, answer.body.contains("insides")), (500, false), "{answer:?}");
}

#[tokio::test]
async fn steps_are_shown_and_health_is_told() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = world.started(&key).await;
    world.event(id, "step.completed", r#"{"step":1,"output":null}"#, Status::Running);
    let steps = world.with_key(&key, &format!("GET /v1/executions/{id}/steps"), "").await.json();
    assert_eq!(
        (&steps["steps"][0]["kind"], &steps["steps"][0]["status"]),
        (&"noop".into(), &"completed".into())
    );
    assert_eq!(world.call("GET /healthz", &[], "").await.status, 200);
    let ready = world.call("GET /readyz", &[], "").await;
    assert_eq!((ready.status, &ready.json()["status"]), (200, &"ready".into()));
    let metrics = world.call("GET /metrics", &[], "").await.body;
    assert!(metrics.contains("holdpoint_http_requests_total{method=\"GET\",route=\"/v1/executions/{id}/steps\",status=\"200\"} 1"), "{metrics}");
    assert!(!metrics.contains(&id.to_string()));
}

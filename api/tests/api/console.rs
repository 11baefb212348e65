//! What the console stands on: its page without a key, who signs in, and a call with what a
//! form needs to edit it.

use holdpoint_api::keys::Role;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::ApprovalStatus;
use serde_json::{Value, json};

use crate::world::World;

#[tokio::test]
async fn the_page_needs_no_key_and_lets_nothing_else_in() {
    let world = World::new().await;
    for (path, media) in
        [("/", "text/html"), ("/assets/app.js", "text/javascript"), ("/assets/app.css", "text/css")]
    {
        let answer = world.call(&format!("GET {path}"), &[], "").await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.header("content-type").starts_with(media), "{path}: {answer:?}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
        assert!(policy.ends_with("frame-ancestors 'none'"), "{policy}");
        let tag = format!("if-none-match: {}", answer.header("etag"));
        let again = world.call(&format!("GET {path}"), &[&tag], "").await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
    }
    for path in ["/assets/", "/assets/no.js", "/assets/../mod.rs", "/assets/%2e%2e/mod.rs", "/index.html"] {
        assert_eq!(world.call(&format!("GET {path}"), &[], "").await.status, 404, "{path}");
    }
    assert_eq!(world.call("POST /", &[], "").await.status, 405);
}

#[tokio::test]
async fn a_key_is_told_who_it_is_and_what_it_may() {
    let world = World::new().await;
    let table = [
        (Role::Admin, json!(["read", "submit", "decide", "define", "admin"])),
        (Role::Submit, json!(["read", "submit", "define"])),
        (Role::Approve, json!(["read", "decide"])),
        (Role::Read, json!(["read"])),
        (Role::Agent, json!(["read", "submit"])),
    ];
    for (role, rights) in table {
        let new = world.new_key(&Scope::new("acme", "shop"), role, None);
        let me = world.with_key(&new.text, "GET /v1/me", "").await.json();
        assert_eq!((&me["key_id"], &me["role"]), (&json!(new.row.id), &json!(role.as_str())));
        assert_eq!((&me["tenant"], &me["project"]), (&json!("acme"), &json!("shop")));
        assert_eq!((&me["rights"], &me["end_user"]), (&rights, &Value::Null), "{role:?}");
        assert!(!me.to_string().contains(&new.row.secret_hash));
    }
    let bound = world.new_key(&Scope::new("acme", "shop"), Role::Read, Some("ada"));
    let headers = [&*format!("authorization: Bearer {}", bound.text), "x-holdpoint-end-user: bob"];
    assert_eq!(world.call("GET /v1/me", &headers, "").await.json()["end_user"], "ada");
}

#[tokio::test]
async fn a_call_that_nobody_asked_about_and_that_of_others_are_not_there() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = world.started(&key).await;
    world.approval(id, ApprovalStatus::Pending);
    let other = world.new_key(&Scope::new("other", "shop"), Role::Admin, None).text;
    for (key, call) in [(&key, "call_2"), (&other, "call_1")] {
        let line = format!("GET /v1/executions/{id}/approvals/{call}");
        assert_eq!(world.with_key(key, &line, "").await.code(), "not_found", "{line}");
    }
}

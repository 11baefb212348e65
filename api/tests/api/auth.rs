//! Who may what, and what others never see.

use holdpoint_api::keys::Role;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::ApprovalStatus;

use crate::world::World;

/// Every route that asks for a key, with the roles that may.
const ROUTES: &[(&str, &[Role])] = {
    use Role::{Admin, Agent, Approve, Read, Submit};
    const ALL: &[Role] = &[Admin, Submit, Approve, Read, Agent];
    const SUBMIT: &[Role] = &[Admin, Submit, Agent];
    const DECIDE: &[Role] = &[Admin, Approve];
    const DEFINE: &[Role] = &[Admin, Submit];
    const ADMIN: &[Role] = &[Admin];
    &[
        ("POST /v1/executions", SUBMIT),
        ("POST /v1/executions/batch", SUBMIT),
        ("GET /v1/executions", ALL),
        ("GET /v1/executions/ID", ALL),
        ("GET /v1/executions/ID/steps", ALL),
        ("GET /v1/executions/ID/events", ALL),
        ("GET /v1/executions/ID/stream", ALL),
        ("POST /v1/executions/ID/cancel", SUBMIT),
        ("POST /v1/executions/ID/pause", SUBMIT),
        ("POST /v1/executions/ID/resume", SUBMIT),
        ("POST /v1/executions/ID/steps/1/resolve", DECIDE),
        ("GET /v1/executions/ID/approvals", ALL),
        ("GET /v1/executions/ID/approvals/call_1", ALL),
        ("POST /v1/executions/ID/approvals/call_1", DECIDE),
        ("GET /v1/conversations/c/pending-approvals", ALL),
        ("GET /v1/approvals", ALL),
        ("POST /v1/approvals/decisions", DECIDE),
        ("GET /v1/agents", ALL),
        ("PUT /v1/agents/a", DEFINE),
        ("GET /v1/agents/a", ALL),
        ("DELETE /v1/agents/a", DEFINE),
        ("GET /v1/agents/a/versions", ALL),
        ("GET /v1/workflows", ALL),
        ("PUT /v1/workflows/a", DEFINE),
        ("GET /v1/workflows/a", ALL),
        ("DELETE /v1/workflows/a", DEFINE),
        ("GET /v1/workflows/a/versions", ALL),
        ("GET /v1/me", ALL),
        ("GET /v1/keys", ADMIN),
        ("POST /v1/keys", ADMIN),
        ("DELETE /v1/keys/key_00000000000000000000000000", ADMIN),
        ("GET /v1/parked-messages", ADMIN),
        ("GET /v1/sweeps", ADMIN),
        ("POST /v1/sweeps/stale", ADMIN),
    ]
};

const NOBODY: &str = "exe_00000000000000000000000000";

#[tokio::test]
async fn roles_may_what_the_contract_says_and_401_goes_before_403_before_404() {
    let world = World::new().await;
    for (route, allowed) in ROUTES {
        let line = route.replace("ID", NOBODY);
        assert_eq!(world.call(&line, &[], "").await.code(), "unauthorized", "{line}");
        for role in Role::ALL {
            let status = world.with_key(&world.key(*role), &line, "").await.status;
            let expected = allowed.contains(role);
            assert_eq!(status != 403, expected, "{line} as {role:?}: {status}");
            assert_ne!(status, 401);
        }
    }
}

#[tokio::test]
async fn a_bad_key_is_401_whatever_is_wrong_with_it() {
    let world = World::new().await;
    let good = world.key(Role::Admin);
    assert_eq!(world.with_key(&good, "GET /v1/executions", "").await.status, 200);
    let unknown = World::new().await.key(Role::Admin);
    for key in ["", "x", "hp_1_2_3", &good[..good.len() - 1], &unknown] {
        let answer = world.with_key(key, "GET /v1/executions", "").await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{key}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let basic = world.call("GET /v1/executions", &[&format!("authorization: Basic {good}")], "").await;
    assert_eq!(basic.status, 401);
    let expired = world.new_key(&crate::world::acme(), Role::Admin, None);
    world.rows.state().keys.last_mut().unwrap().expires_at = Some(expired.row.created_at);
    assert_eq!(world.with_key(&expired.text, "GET /v1/executions", "").await.status, 401);
}

#[tokio::test]
async fn a_mistyped_key_costs_the_database_nothing() {
    let world = World::new().await;
    let good = world.key(Role::Admin);
    world.with_key(&good.replace('0', "1"), "GET /v1/executions", "").await;
    world.with_key(&format!("{good}x"), "GET /v1/executions", "").await;
    assert_eq!(world.rows.state().key_reads, 0);
}

#[tokio::test]
async fn keys_are_made_shown_once_and_revoked() {
    let world = World::new().await;
    let admin = world.key(Role::Admin);
    let made = world.with_key(&admin, "POST /v1/keys", "{\"role\":\"read\",\"name\":\"ci\"}").await;
    assert_eq!(made.status, 201, "{made:?}");
    let (text, id) =
        (made.json()["key"].as_str().unwrap().to_owned(), made.json()["id"].as_str().unwrap().to_owned());
    assert_eq!(world.with_key(&text, "GET /v1/executions", "").await.status, 200);
    let list = world.with_key(&admin, "GET /v1/keys", "").await;
    assert!(list.body.contains(&id) && !list.body.contains(text.rsplit('_').nth(1).unwrap()));
    assert_eq!(world.with_key(&admin, &format!("DELETE /v1/keys/{id}"), "").await.status, 204);
    assert_eq!(world.with_key(&text, "GET /v1/executions", "").await.status, 401);
    let foreign = world.new_key(&Scope::new("evil", "shop"), Role::Admin, None).text;
    assert_eq!(world.with_key(&foreign, &format!("DELETE /v1/keys/{id}"), "").await.status, 404);
    for bad in ["{}", "{\"role\":\"root\"}", "{\"role\":\"read\",\"end_user\":\"\"}"] {
        assert_eq!(world.with_key(&admin, "POST /v1/keys", bad).await.code(), "invalid_body", "{bad}");
    }
}

#[tokio::test]
async fn a_key_that_another_process_revoked_is_refused_soon() {
    let world = World::new().await;
    let new = world.new_key(&crate::world::acme(), Role::Admin, None);
    assert_eq!(world.with_key(&new.text, "GET /v1/executions", "").await.status, 200);
    world.rows.state().keys[0].revoked_at = Some(new.row.created_at);
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(1);
    loop {
        // What counts is when it was asked, not when it was answered.
        let asked = tokio::time::Instant::now();
        if world.with_key(&new.text, "GET /v1/executions", "").await.status == 401 {
            return;
        }
        assert!(asked < until, "still taken after a second");
    }
}

#[tokio::test]
async fn another_tenants_rows_answer_as_rows_that_are_not_there() {
    let world = World::new().await;
    let id = world.started(&world.key(Role::Admin)).await;
    world.approval(id, ApprovalStatus::Pending);
    for scope in [Scope::new("evil", "shop"), Scope::new("acme", "other")] {
        let foreign = world.new_key(&scope, Role::Admin, None).text;
        for (route, _) in ROUTES.iter().filter(|(route, _)| route.contains("ID")) {
            let body = match *route {
                route if route.contains("call_1") => "{\"approved\":true}",
                route if route.contains("resolve") => "{\"outcome\":\"happened\"}",
                _ => "",
            };
            let theirs = world.with_key(&foreign, &route.replace("ID", &id.to_string()), body).await;
            let nobodys = world.with_key(&foreign, &route.replace("ID", NOBODY), body).await;
            assert_eq!(theirs.status, 404, "{route}");
            assert_eq!(theirs.body.replace(&id.to_string(), NOBODY), nobodys.body, "{route}");
        }
        let list = world.with_key(&foreign, "GET /v1/executions", "").await;
        assert!(list.json()["executions"].as_array().unwrap().is_empty());
        assert_eq!(world.with_key(&foreign, "GET /v1/agents/helper", "").await.status, 404);
    }
    assert_eq!(world.rows.state().approvals[0].status, ApprovalStatus::Pending);
}

#[tokio::test]
async fn an_end_user_sees_their_own_and_the_keys_goes_before_the_headers() {
    let world = World::new().await;
    world.started(&world.key(Role::Admin)).await;
    let anna = world.new_key(&crate::world::acme(), Role::Admin, Some("anna")).text;
    let hers = world.started(&anna).await;
    let bearer = format!("authorization: Bearer {}", world.key(Role::Read));
    let path = format!("GET /v1/executions/{hers}");
    assert_eq!(world.call(&path, &[&bearer], "").await.status, 200);
    assert_eq!(world.call(&path, &[&bearer, "x-holdpoint-end-user: anna"], "").await.status, 200);
    assert_eq!(world.call(&path, &[&bearer, "x-holdpoint-end-user: ben"], "").await.status, 404);
    let stream = format!("GET /v1/executions/{hers}/stream");
    assert_eq!(world.call(&stream, &[&bearer, "x-holdpoint-end-user: ben"], "").await.status, 404);
    let pretended = [format!("authorization: Bearer {anna}"), "x-holdpoint-end-user: ben".to_owned()];
    let list = world.call("GET /v1/executions", &[&pretended[0], &pretended[1]], "").await.json();
    assert_eq!(list["executions"].as_array().unwrap().len(), 1);
    let bad = world.call(&path, &[&bearer, "x-holdpoint-end-user: "], "").await;
    assert_eq!(bad.code(), "invalid_parameter");
}

#[tokio::test]
async fn the_cron_door_opens_for_its_secret_only() {
    let world = World::new().await;
    let admin = format!("authorization: Bearer {}", world.key(Role::Admin));
    let path = "/internal/cron/cleanup-stale-workflows";
    for header in [
        "x: y",
        "authorization: Bearer wrong",
        "authorization: Bearer ",
        "authorization: Basic s3cret",
        &admin,
    ] {
        for method in ["GET", "POST"] {
            let answer = world.call(&format!("{method} {path}"), &[header], "").await;
            assert_eq!(answer.code(), "unauthorized", "{header}");
        }
    }
    assert!(world.rows.state().sweeps.is_empty());
    let open = world.call(&format!("POST {path}"), &["authorization: Bearer s3cret"], "").await;
    let report = open.json();
    assert!(report["sweep_id"].as_str().unwrap().starts_with("swp_"));
    assert_eq!(report["total"], 0);
    assert!(world.rows.state().sweeps[0].scope.is_none());
    let shut = World::with(|settings| settings.cron_secret = None).await;
    for header in ["authorization: Bearer ", "authorization: Bearer s3cret", "x: y"] {
        assert_eq!(shut.call(&format!("GET {path}"), &[header], "").await.status, 401);
    }
}

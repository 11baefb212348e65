//! What the API says of itself, against what it does.

use holdpoint_api::keys::Role;
use serde_json::Value;

use crate::world::World;

struct Described {
    line: String,
    needs_key: bool,
    /// Another protocol's clients send what they like.
    is_foreign: bool,
    tag: String,
}

async fn described(world: &World) -> Vec<Described> {
    let answer = world.call("GET /openapi.json", &[], "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let line = format!("{} {}", method.to_uppercase(), filled(path));
            let needs_key = operation["security"][0]["key"].is_array();
            let tag = operation["tags"][0].as_str().unwrap().to_owned();
            let is_foreign = !operation["responses"]["default"].is_null();
            all.push(Described { line, needs_key, is_foreign, tag });
        }
    }
    assert!(all.len() > 30);
    all
}

/// A path with something in the place of each name.
fn filled(path: &str) -> String {
    let fill = |part: &str| if part.starts_with('{') { "x".to_owned() } else { part.to_owned() };
    path.split('/').map(fill).collect::<Vec<_>>().join("/")
}

#[tokio::test]
async fn a_parameter_that_a_route_does_not_name_is_refused_by_each() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    for one in described(&world).await {
        let answer = world.with_key(&key, &format!("{}?nonsense=1", one.line), "{}").await;
        assert!(answer.status != 405, "{}: {answer:?}", one.line);
        let code = if answer.status < 400 { Value::Null } else { answer.json()["code"].clone() };
        let refused = code == "invalid_parameter" && answer.body.contains("nonsense");
        assert_eq!(refused, one.needs_key && !one.is_foreign, "{}: {answer:?}", one.line);
        assert!(code != "no_such_route", "{}: {answer:?}", one.line);
    }
}

#[tokio::test]
async fn what_needs_a_key_is_refused_without_one() {
    let world = World::new().await;
    for one in described(&world).await {
        let answer = world.call(&one.line, &[], "{}").await;
        // The cron door has a secret of its own.
        let refused = one.needs_key || one.tag == "cron";
        assert_eq!(answer.status == 401, refused, "{}: {answer:?}", one.line);
    }
}

//! Workflows' documents, from YAML to a version.

use holdpoint_api::keys::Role;
use serde_json::json;

use crate::http::Answer;
use crate::world::{AGENT, World};

const FLOW: &str = "
document: {dsl: 1.0.3, namespace: test, name: flow, version: 0.1.0}
do:
- greet: {set: {hello: '${ .name }'}}
";

async fn put(world: &World, key: &str, name: &str, text: &str) -> Answer {
    let bearer = format!("authorization: Bearer {key}");
    world.call(&format!("PUT /v1/workflows/{name}"), &[&bearer, "content-type: application/yaml"], text).await
}

#[tokio::test]
async fn a_workflow_is_registered_as_yaml_or_json_and_read_back() {
    let world = World::new().await;
    let key = world.key(Role::Submit);
    let new = put(&world, &key, "flow", FLOW).await;
    assert_eq!((new.status, &new.json()["version"]), (201, &1.into()), "{new:?}");
    assert_eq!(new.header("location"), "/v1/workflows/flow?version=1");
    assert_eq!(new.json()["state"], "active");
    assert_eq!(put(&world, &key, "flow", FLOW).await.status, 200);
    let read = world.with_key(&key, "GET /v1/workflows/flow", "").await.json();
    assert_eq!(read["document"]["do"][0]["greet"]["set"]["hello"], "${ .name }");
    assert_eq!(read["source"], FLOW);
    let json = json!({
        "document": {"dsl": "1.0.3", "namespace": "test", "name": "flow", "version": "0.2.0"},
        "do": [{"wait": {"wait": "PT1S"}}],
    });
    let changed = world.with_key(&key, "PUT /v1/workflows/flow", &json.to_string()).await;
    assert_eq!((changed.status, &changed.json()["version"]), (201, &2.into()), "{changed:?}");
    let listed = world.with_key(&key, "GET /v1/workflows", "").await.json();
    assert!(listed["workflows"][0]["document"].is_null(), "{listed}");
    assert_eq!(world.with_key(&key, "GET /v1/workflows/flow/versions", "").await.status, 200);
    assert_eq!(world.with_key(&key, "DELETE /v1/workflows/flow", "").await.status, 204);
    assert_eq!(world.with_key(&key, "GET /v1/workflows/flow", "").await.status, 404);
    assert_eq!(world.with_key(&key, "GET /v1/workflows/flow/versions", "").await.status, 404);
    assert_eq!(world.with_key(&key, "DELETE /v1/workflows/flow", "").await.status, 404);
}

#[tokio::test]
async fn what_is_wrong_is_told_with_line_column_and_pointer() {
    let world = World::new().await;
    let key = world.key(Role::Submit);
    for (name, from, to, place) in [
        ("flow", "set:", "sett:", json!([4, 11, "/do/0/greet/sett"])),
        ("flow", "${ .name }", "${ .name + }", json!([4, 24, "/do/0/greet/set/hello"])),
        ("other", "", "", json!([2, 47, "/document/name"])),
        ("flow", "- greet", "- [", json!([4, 4, "/do/0/0"])),
    ] {
        let answer = put(&world, &key, name, &FLOW.replacen(from, to, 1)).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_workflow"), "{to}");
        let error = answer.json()["errors"][0].clone();
        assert_eq!(json!([error["line"], error["column"], error["pointer"]]), place, "{answer:?}");
        assert!(answer.json()["errors"].as_array().unwrap().len() == 1, "{answer:?}");
    }
    let bearer = format!("authorization: Bearer {key}");
    let form = [bearer.as_str(), "content-type: application/x-www-form-urlencoded"];
    assert_eq!(world.call("PUT /v1/workflows/flow", &form, FLOW).await.code(), "unsupported_media_type");
    assert!(world.rows.state().definitions.is_empty());
}

#[tokio::test]
async fn what_a_workflow_runs_must_be_there() {
    let world = World::new().await;
    let key = world.key(Role::Submit);
    let child = |task: &str| FLOW.replace("{set: {hello: '${ .name }'}}", task);
    let agent = child("{call: 'agent:1.0.0@default', with: {agent: helper}}");
    let answer = put(&world, &key, "flow", &agent).await;
    assert_eq!(answer.code(), "invalid_workflow");
    assert_eq!(answer.json()["errors"][0]["message"], "there is no agent `helper`");
    assert_eq!(answer.json()["errors"][0]["pointer"], "/do/0/greet/with/agent");
    world.with_key(&key, "PUT /v1/agents/helper", AGENT).await;
    assert_eq!(put(&world, &key, "flow", &agent).await.status, 201);
    let itself = child("{run: {workflow: {namespace: test, name: flow, version: latest}}}");
    assert_eq!(put(&world, &key, "flow", &itself).await.status, 201);
    let labelled = child("{run: {workflow: {namespace: test, name: helper, version: 9.0.0}}}");
    let answer = put(&world, &key, "flow", &labelled).await;
    assert_eq!(answer.json()["errors"][0]["message"], "there is no workflow `helper` version `9.0.0`");
}

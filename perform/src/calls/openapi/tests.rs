//! Operations of documents that a server on this machine gives out.

use axum::http::StatusCode;
use axum::response::IntoResponse;
use holdpoint_engine::effect::{Certainty, Credential, Credentials, Effect, Input, OpenApiEffect};
use holdpoint_engine::status::{ErrorType, Failure};
use holdpoint_engine::workflow::document::HttpOutput;
use serde_json::{Value, json};
use std::time::Duration;

use super::super::stub::{Came, Stub, came_of, performer};
use crate::Performer;

const OLD: &str = r##"{
  "swagger": "2.0", "basePath": "/v2", "schemes": ["http"],
  "parameters": {"limit": {"name": "limit", "in": "query", "type": "integer"}},
  "paths": {
    "/pets": {
      "get": {"operationId": "findPets", "parameters": [
        {"name": "status", "in": "query", "type": "array", "required": true, "collectionFormat": "multi"},
        {"$ref": "#/parameters/limit"}]},
      "post": {"operationId": "addPet", "parameters": [
        {"name": "pet", "in": "body", "required": true}]}
    },
    "/pets/{petId}": {
      "parameters": [{"name": "petId", "in": "path", "required": true, "type": "integer"}],
      "post": {"operationId": "changePet", "consumes": ["application/x-www-form-urlencoded"],
        "parameters": [{"name": "name", "in": "formData", "type": "string"}]},
      "put": {"operationId": "showPet", "consumes": ["multipart/form-data"],
        "parameters": [{"name": "photo", "in": "formData", "type": "file"}]}
    }
  }
}"##;

const NEW: &str = "
openapi: 3.1.0
servers:
  - url: /{base}
    variables: {base: {default: v3}}
paths:
  /pets/{petId}:
    $ref: '#/components/pathItems/pet'
components:
  pathItems:
    pet:
      parameters:
        - {name: petId, in: path, required: true, schema: {type: string}}
      put:
        operationId: changePet
        parameters:
          - {name: X-Trace, in: header, schema: {type: string}}
          - {name: session, in: cookie, schema: {type: string}}
          - {name: tags, in: query, explode: false, schema: {type: array}}
        requestBody:
          required: true
          content:
            application/xml: {}
            application/json: {}
        responses:
          200: {description: fine}
";

async fn pets() -> Stub {
    Stub::start(|came: &Came| match came.uri.path() {
        "/old.json" => OLD.into_response(),
        "/new.yaml" => NEW.into_response(),
        "/locked.yaml" if came.header("authorization") == "Bearer sesame-street" => NEW.into_response(),
        "/locked.yaml" => StatusCode::UNAUTHORIZED.into_response(),
        "/v3/pets/down" => StatusCode::BAD_GATEWAY.into_response(),
        path if path.contains("pets") => {
            axum::Json(json!({"path": path, "query": came.uri.query()})).into_response()
        }
        _ => StatusCode::NOT_FOUND.into_response(),
    })
    .await
}

fn effect(stub: &Stub, document: &str, operation: &str, parameters: Value) -> OpenApiEffect {
    OpenApiEffect {
        step: 1,
        attempt: 1,
        tool_call_id: "call_1".to_owned(),
        class: None,
        document: format!("{}{document}", stub.url),
        document_credentials: None,
        operation: operation.to_owned(),
        parameters: parameters.as_object().expect("members").clone(),
        credentials: None,
        output: HttpOutput::Content,
        redirect: false,
        key: "key-1".to_owned(),
        timeout: Duration::from_secs(20),
    }
}

async fn call(performer: &Performer, effect: OpenApiEffect) -> Result<Value, (Failure, Certainty)> {
    match came_of(performer, Effect::OpenApi(Box::new(effect))).await {
        Ok(output) => Ok(serde_json::from_str(&output).expect("JSON")),
        Err(Input::Failed { failure, certainty, .. }) => Err((failure, certainty)),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_operation_of_2_0_is_called() {
    let (stub, performer) = (pets().await, performer(&[]));
    let of =
        |operation: &str, parameters| call(&performer, effect(&stub, "/old.json", operation, parameters));
    let found = of("findPets", json!({"status": ["sold", "new"], "limit": 2, "none": null})).await;
    assert_eq!(found, Ok(json!({"path": "/v2/pets", "query": "status=sold&status=new&limit=2"})));
    of("addPet", json!({"body": {"name": "Rex"}})).await.expect("added");
    of("addPet", json!({"pet": {"name": "Tom"}})).await.expect("added");
    let added = stub.came("/v2/pets");
    assert_eq!(added[1].body, r#"{"name":"Rex"}"#);
    assert_eq!(added[2].body, r#"{"name":"Tom"}"#);
    assert_eq!(added[1].header("content-type"), "application/json");
    of("changePet", json!({"petId": 7, "name": "R & X"})).await.expect("changed");
    assert_eq!(stub.came("/v2/pets/7")[0].body, "name=R+%26+X");
    assert_eq!(stub.came("/old.json").len(), 1, "the document is kept");
}

#[tokio::test]
async fn an_operation_of_3_x_is_called() {
    let (stub, performer) = (pets().await, performer(&[("token", "sesame-street".to_owned())]));
    let parameters = json!({
        "petId": "a/b", "X-Trace": "t", "session": "s", "tags": ["x", "y"], "body": {"name": "Rex"}
    });
    let bearer = || Some(Credentials::Bearer(Credential::Secret("token".into())));
    let given = effect(&stub, "/locked.yaml", "changePet", parameters);
    let all = OpenApiEffect { document_credentials: bearer(), credentials: bearer(), ..given.clone() };
    let changed = call(&performer, all).await;
    assert_eq!(changed, Ok(json!({"path": "/v3/pets/a%2Fb", "query": "tags=x%2Cy"})));
    let came = &stub.came("/v3/pets/a%2Fb")[0];
    assert_eq!((came.method.as_str(), &*came.body), ("PUT", r#"{"name":"Rex"}"#));
    assert_eq!((came.header("x-trace"), came.header("cookie")), ("t", "session=s"));
    assert_eq!(came.header("authorization"), "Bearer sesame-street");
    let (failure, certainty) = call(&performer, given).await.expect_err("locked, and not kept for others");
    assert_eq!((failure.kind, failure.status, certainty), (ErrorType::Auth, Some(401), Certainty::Definite));
    assert_eq!(stub.came("/locked.yaml").len(), 2);
}

#[tokio::test]
async fn what_does_not_fit_the_document_is_named_and_not_sent() {
    let (stub, performer) = (pets().await, performer(&[]));
    for (document, operation, parameters, what) in [
        ("/old.json", "findPets", json!({"limit": 2}), "status"),
        ("/old.json", "addPet", json!({}), "pet"),
        ("/old.json", "findPets", json!({"status": ["a"], "stauts": 1}), "stauts"),
        ("/old.json", "showPet", json!({"petId": 1, "photo": "x"}), "multipart"),
        ("/old.json", "findDogs", json!({}), "findDogs"),
        ("/new.yaml", "changePet", json!({}), "petId, body"),
        ("/new.yaml", "changePet", json!({"petId": "..", "body": 1}), "leave its path"),
        ("/nowhere", "findPets", json!({}), "404"),
        ("/v2/pets", "findPets", json!({}), "openapi"),
    ] {
        let came = call(&performer, effect(&stub, document, operation, parameters)).await;
        let (failure, certainty) = came.expect_err(what);
        assert_eq!((failure.kind, certainty), (ErrorType::Logic, Certainty::Definite), "{failure}");
        assert!(failure.message.contains(what), "{failure}");
    }
    assert_eq!(stub.came("/v2/pets").len(), 1, "as a document only");
}

#[tokio::test]
async fn what_may_be_repeated_leaves_nothing_in_doubt() {
    let (stub, performer) = (pets().await, performer(&[]));
    let given = effect(&stub, "/new.yaml", "changePet", json!({"petId": "down", "body": 1}));
    let (failure, certainty) = call(&performer, given.clone()).await.expect_err("down");
    assert_eq!((failure.kind, certainty), (ErrorType::Network, Certainty::Definite));
    let class = Some(holdpoint_engine::status::EffectClass::AtMostOnce);
    let (_, certainty) = call(&performer, OpenApiEffect { class, ..given }).await.expect_err("down");
    assert_eq!(certainty, Certainty::Unknown, "its author says otherwise");
}

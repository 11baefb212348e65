//! Stubs of the public hosts that features and examples call.

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{any, get};
use base64::Engine as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use tokio_util::sync::DropGuard;

/// One server in place of all of them; ended when it is dropped.
pub struct StubHosts {
    url: String,
    _stop: DropGuard,
}

/// The hosts that are stood in for.
const HOSTS: &[&str] = &[
    "petstore.swagger.io",
    "httpbin.org",
    "swapi.dev",
    "fake.com",
    "mocked.service.com",
    "superbet-casinos.com",
    "fake-hospital.com",
    "hospital.example.com",
    "fake-chat-api.com",
    "virtual-wf-powered-race.com",
];

impl StubHosts {
    /// Starts it on loopback.
    pub async fn start() -> Self {
        let app = Router::new()
            .route("/v2/swagger.json", get(petstore_document))
            .route("/v2/pet/findByStatus", get(find_by_status))
            .route("/v2/pet/getPetByName/{name}", get(|| async { missing() }))
            .route("/v2/pet/{id}", any(pet))
            .route("/v2/flaky/{name}", get(flaky))
            .route("/basic-auth/{user}/{password}", get(basic_auth))
            .fallback(any(anything))
            .with_state(Calls::default());
        let (url, stop) = crate::model::serve(app).await;
        Self { url, _stop: stop }
    }

    /// The value of `outbound.hosts` that sends what is for the public hosts here.
    pub fn setting(&self) -> String {
        HOSTS.iter().map(|host| format!("{host}={}", self.url)).collect::<Vec<_>>().join(",")
    }

    /// Its own address.
    pub fn url(&self) -> &str {
        &self.url
    }
}

fn missing() -> Response {
    (StatusCode::NOT_FOUND, Json(json!({"message": "Pet not found"}))).into_response()
}

fn pet_of(id: u64) -> Value {
    json!({
        "id": id, "name": format!("pet {id}"), "status": "available",
        "category": {"id": 1, "name": "dogs"}, "photoUrls": [], "tags": [],
    })
}

async fn pet(Path(id): Path<String>) -> Response {
    match id.parse::<u64>() {
        Ok(id) if (1..=100).contains(&id) => Json(pet_of(id)).into_response(),
        _ => missing(),
    }
}

async fn find_by_status(Query(query): Query<BTreeMap<String, String>>) -> Response {
    match query.get("status").map(String::as_str) {
        Some("available") => Json(json!([pet_of(1), pet_of(2)])).into_response(),
        Some("pending" | "sold") => Json(json!([])).into_response(),
        _ => (StatusCode::BAD_REQUEST, Json(json!({"message": "Invalid status value"}))).into_response(),
    }
}

/// The part of the pet store's description that features use, in OpenAPI's version 2.
async fn petstore_document() -> Json<Value> {
    let pet = |code: &str, schema: Value| json!({code: {"description": "found", "schema": schema}});
    Json(json!({
        "swagger": "2.0",
        "info": {"title": "Pets", "version": "1.0.0"},
        "host": "petstore.swagger.io",
        "basePath": "/v2",
        "schemes": ["https"],
        "paths": {
            "/pet/findByStatus": {"get": {
                "operationId": "findPetsByStatus",
                "parameters": [{
                    "name": "status", "in": "query", "required": true, "type": "array",
                    "items": {"type": "string"}, "collectionFormat": "multi",
                }],
                "responses": pet("200", json!({"type": "array"})),
            }},
            "/pet/{petId}": {"get": {
                "operationId": "getPetById",
                "parameters": [{"name": "petId", "in": "path", "required": true, "type": "integer"}],
                "responses": pet("200", json!({"type": "object"})),
            }},
        },
    }))
}

async fn basic_auth(Path((user, password)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
    let given = headers.get("authorization").and_then(|value| value.to_str().ok());
    if given == Some(&format!("Basic {expected}")) {
        Json(json!({"authenticated": true, "user": user})).into_response()
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

/// How often each name was asked for.
type Calls = Arc<Mutex<BTreeMap<String, u32>>>;

/// Not there twice, then there.
async fn flaky(State(calls): State<Calls>, Path(name): Path<String>) -> Response {
    let calls = {
        let mut calls = calls.lock().expect("no holder panics");
        let count = calls.entry(name).or_default();
        *count += 1;
        *count
    };
    if calls < 3 {
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    } else {
        Json(json!({"calls": calls})).into_response()
    }
}

async fn anything(uri: Uri) -> Json<Value> {
    Json(json!({"ok": true, "path": uri.path(), "name": "stub", "id": 1,
        "homeworld": "https://swapi.dev/api/planets/1"}))
}

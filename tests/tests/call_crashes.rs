//! Workers killed in the middle of a workflow's `call: openapi` and `call: mcp`, inside of a `try`: a call
//! that may be repeated is, and of any other the outcome is unknown until a person says what happened. The
//! `catch` has no part in it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

const DOCUMENT: &str = r##"{"openapi": "3.0.3", "servers": [{"url": "/v1"}], "paths": {"/pets/{id}": {
  "put": {"operationId": "keepPet", "parameters": [
    {"name": "id", "in": "path", "required": true, "schema": {"type": "integer"}}]}}}}"##;

/// An OpenAPI and an MCP server whose first call is held for ever.
#[derive(Clone)]
struct Shop {
    url: String,
    /// The keys of the calls that came.
    calls: Arc<Mutex<Vec<String>>>,
    gate: Gate,
}

impl Shop {
    async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shop = Self { url, calls: Arc::default(), gate: Gate::closed() };
        let served = shop.clone();
        let app = Router::new().fallback(move |uri: Uri, headers: HeaderMap, body: Bytes| {
            let shop = served.clone();
            async move { shop.answer(&uri, &headers, &body).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        shop
    }

    async fn answer(&self, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
        match uri.path() {
            "/api.json" => DOCUMENT.into_response(),
            "/v1/pets/7" => {
                self.called(headers).await;
                axum::Json(json!({"kept": 7})).into_response()
            }
            "/mcp" => self.mcp(headers, body).await,
            _ => StatusCode::NOT_FOUND.into_response(),
        }
    }

    async fn mcp(&self, headers: &HeaderMap, body: &Bytes) -> Response {
        let message: Value = serde_json::from_slice(body).unwrap_or_default();
        let result = match message["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": "2025-06-18", "capabilities": {"tools": {}},
                "serverInfo": {"name": "s", "version": "1"},
            }),
            Some("tools/call") => {
                self.called(headers).await;
                json!({"content": [{"type": "text", "text": "7"}]})
            }
            _ => return StatusCode::ACCEPTED.into_response(),
        };
        axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
    }

    async fn called(&self, headers: &HeaderMap) {
        let key = headers.get("idempotency-key").map(|key| key.to_str().unwrap().to_owned());
        let first = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(key.unwrap_or_default());
            calls.len() == 1
        };
        if first {
            self.gate.pass().await;
        }
    }

    fn keys(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    fn openapi(&self) -> Value {
        let document = json!({"endpoint": format!("{}/api.json", self.url)});
        json!({"call": "openapi", "with": {
            "document": document, "operationId": "keepPet", "parameters": {"id": 7}}})
    }

    fn tool(&self) -> Value {
        json!({"call": "mcp", "with": {
            "protocolVersion": "2025-06-18", "method": "tools/call", "parameters": {"name": "keep", "arguments": {}},
            "transport": {"http": {"endpoint": format!("{}/mcp", self.url)}}}})
    }
}

/// The workflow's execution, whose worker was killed in the call, and another worker.
struct Killed {
    _system: System,
    client: Client,
    shop: Shop,
    id: String,
}

impl Killed {
    async fn in_call(of: impl Fn(&Shop) -> Value, effect: Option<&str>, retry: bool) -> Self {
        let mut system = Setup::services().roles(1, 1, 1).set("worker.lease_ms", "2000").start().await;
        let (client, shop) = (system.client(), Shop::start().await);
        let mut call = of(&shop);
        if let Some(effect) = effect {
            call["metadata"] = json!({"holdpoint": {"effect": effect}});
        }
        let mut catch = json!({"as": "error", "do": [{"late": {"set": {"caught": "${ $error }"}}}]});
        if retry {
            catch["retry"] = json!({"delay": {"milliseconds": 10}, "limit": {"attempt": {"count": 3}}});
        }
        let document = json!({
            "document": {"dsl": "1.0.3", "namespace": "tests", "name": "keep", "version": "1.0.0"},
            "do": [
                {"careful": {"try": [{"keep": call}], "catch": catch}},
                {"last": {"set": {"got": "${ .kept // (.content[0].text | tonumber) }"}}},
            ],
        });
        client.send(client.builder(Method::PUT, "/v1/workflows/keep").json(&document)).await.expect(201);
        let id = client.start_with(json!({"workflow": "keep"})).await;
        shop.gate.wait_arrived(1).await;
        system.workers[0].kill9();
        // This one's lease does not run out by itself: a call that may be repeated would be once more.
        system.start_worker(&[("worker.lease_ms", "30000")]);
        Self { _system: system, client, shop, id }
    }

    /// Goes on by itself.
    async fn repeated(&self) {
        let done = self.client.wait_status(&self.id, "completed").await;
        assert_eq!(done["output"], json!({"got": 7}), "nothing was caught");
        let keys = self.shop.keys();
        assert_eq!((keys.len(), keys[0] == keys[1]), (2, true), "under one key: {keys:?}");
    }

    /// A person says that it happened.
    async fn resolved(&self) {
        self.client.wait_suspended(&self.id, "outcome_unknown").await;
        let steps = self.client.steps(&self.id).await;
        let step = steps.iter().find(|step| step["status"] == "unknown").unwrap();
        let path = format!("/v1/executions/{}/steps/{}/resolve", self.id, step["step"]);
        // The call could still be under way.
        let not = json!({"outcome": "did_not_happen"});
        self.client.post(&path, &not).await.expect_problem(409, "not_settled");
        let happened = json!({"outcome": "happened", "result": {"kept": "by hand"}});
        self.client.post(&path, &happened).await.expect(202);
        let done = self.client.wait_status(&self.id, "completed").await;
        assert_eq!(done["output"], json!({"got": "by hand"}), "nothing was caught");
        assert_eq!(self.shop.keys().len(), 1, "it was called once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_was_being_called_is_not_called_again() {
    Killed::in_call(Shop::tool, None, false).await.resolved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_was_being_called_is_not_called_again_by_the_author_s_retry() {
    Killed::in_call(Shop::tool, None, true).await.resolved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tool_that_may_be_repeated_is() {
    Killed::in_call(Shop::tool, Some("idempotent"), false).await.repeated().await;
}

/// Its class follows from a document that the next worker has not read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_was_being_called_is_not_called_again() {
    Killed::in_call(Shop::openapi, None, true).await.resolved().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operation_that_may_be_repeated_is() {
    Killed::in_call(Shop::openapi, Some("keyed"), true).await.repeated().await;
}

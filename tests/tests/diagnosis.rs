//! Each sentence of a diagnosis, brought about for real.

mod gone;
mod runs;
mod waits;

use holdpoint_tests::client::Client;
use holdpoint_tests::poll::{SOON, until};
use reqwest::Method;
use serde_json::{Value, json};

/// The whole diagnosis.
async fn why(client: &Client, id: &str) -> Value {
    client.get(&format!("/v1/executions/{id}/diagnosis")).await.expect(200).body
}

/// Waits until a diagnosis has this code, and these words in its sentence.
async fn wait_why(client: &Client, id: &str, code: &str, words: &[&str]) -> Value {
    until(&format!("{id} is {code}: {words:?}"), SOON, || async {
        let told = why(client, id).await;
        let summary = told["summary"].as_str().unwrap();
        let is_so = told["code"] == code && words.iter().all(|word| summary.contains(word));
        is_so.then_some(told)
    })
    .await
}

/// The evidence of this kind, which must be there.
#[track_caller]
fn evidence(told: &Value, kind: &str) -> Value {
    let found = told["evidence"].as_array().unwrap().iter().find(|one| one["kind"] == kind).cloned();
    found.unwrap_or_else(|| panic!("no {kind}: {told}"))
}

/// Registers a workflow of these tasks; `more` stands beside them.
async fn put(client: &Client, name: &str, tasks: Value, more: Value) {
    let mut document = json!({
        "document": {"dsl": "1.0.3", "namespace": "tests", "name": name, "version": "1.0.0"},
        "do": tasks,
    });
    for (key, value) in more.as_object().unwrap() {
        match (key.as_str(), value) {
            ("document", Value::Object(members)) => {
                document["document"].as_object_mut().unwrap().extend(members.clone());
            }
            _ => document[key] = value.clone(),
        }
    }
    let put = client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(&document);
    client.send(put).await.expect(201);
}

async fn run(client: &Client, workflow: &str) -> String {
    client.start_with(json!({"workflow": workflow, "input": {}})).await
}

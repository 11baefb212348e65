//! Tries documents out: registers each, and runs those that are taken, with one input that
//! has what the specification's examples ask for, and with the events that they listen to.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::steps::register;
use super::{client, set_client, to_json};
use crate::client::Client;
use crate::poll::{SOON, until};

/// How long an example may run before it is told as waiting.
const LONG: Duration = Duration::from_secs(10);
/// How many events of each kind are sent.
const EVENTS: usize = 4;

/// What became of a document.
#[derive(Debug)]
pub enum Tried {
    /// Refused, with the API's words.
    Refused(String),
    /// Run: its status, and its output or what it failed with or waits for.
    Ran {
        /// `completed`, `failed`, `suspended`, ….
        status: String,
        /// In short.
        what: String,
    },
}

/// Tries every `.yaml` of a folder, in order of their names.
pub async fn try_all(caller: Client, folder: &Path) -> Vec<(String, Tried)> {
    set_client(caller);
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    let mut told = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a readable file");
        let name = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        told.push((name, try_one(&text).await));
    }
    told
}

async fn try_one(text: &str) -> Tried {
    let (name, version) = match register(text).await {
        Ok(registered) => registered,
        Err(answer) => return Tried::Refused(in_short(&answer)),
    };
    let start = json!({"workflow": name, "version": version, "input": input()});
    let id = client().post("/v1/executions", &start).await.expect(202).id();
    let path = format!("/v1/executions/{id}");
    for event in events(&to_json(text)) {
        let (event, data) = (&event, json!({"temperature": 39, "bpm": 50, "reading": 1}));
        // One that is over takes no more.
        client().post(&format!("{path}/signals/{event}"), &data).await;
    }
    let ends = until("the example ends", SOON, async || {
        let execution = client().get(&path).await.expect(200).body;
        let over = matches!(execution["status"].as_str(), Some("completed" | "failed" | "cancelled"));
        over.then_some(execution)
    });
    let execution = match tokio::time::timeout(LONG, ends).await {
        Ok(execution) => execution,
        Err(_) => client().get(&path).await.expect(200).body,
    };
    tell(&execution)
}

fn tell(execution: &Value) -> Tried {
    let status = execution["status"].as_str().unwrap_or_default().to_owned();
    let what = match status.as_str() {
        "completed" => execution["output"].to_string(),
        "failed" => execution["error"]["message"].as_str().unwrap_or_default().to_owned(),
        _ => execution["reason"].as_str().unwrap_or_default().to_owned(),
    };
    Tried::Ran { status, what: what.chars().take(120).collect() }
}

/// The messages of a refusal.
fn in_short(answer: &str) -> String {
    let body: Value = serde_json::from_str(answer).unwrap_or_default();
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let told: Vec<String> = errors
        .iter()
        .map(|error| format!("{}: {}", error["line"], error["message"].as_str().unwrap_or_default()))
        .collect();
    if told.is_empty() { answer.to_owned() } else { told.join("; ") }
}

/// The types of the events that a document listens to.
fn events(document: &Value) -> Vec<String> {
    let mut types = Vec::new();
    collect(document, false, &mut types);
    if types.is_empty() && document.to_string().contains("\"listen\"") {
        types.push("com.example.anything".to_owned());
    }
    types.iter().flat_map(|name| std::iter::repeat_n(name.clone(), EVENTS)).collect()
}

fn collect(value: &Value, listening: bool, types: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_str() {
                    Some(text) if listening && name == "type" => types.push(text.to_owned()),
                    _ => collect(member, listening || name == "listen", types),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, listening, types)),
        _ => {}
    }
}

/// What the examples read of their input.
fn input() -> Value {
    json!({
        "petId": 1, "id": 1, "token": "a-token", "searchQuery": "luke", "roomId": "7", "carId": 1,
        "orderType": "electronic", "customer": {"age": 30}, "bet": {}, "message": "hello",
        "user": {"firstName": "Ada", "lastName": "L", "email": "ada@example.com"},
        "configuration": {"size": 1, "fill": "red"}, "pets": [], "vet": null, "colors": [],
    })
}

//! Agents' documents for tests: fast retries, tools on the scripted server.

use serde_json::{Value, json};

use crate::model::Model;
use crate::tool::Tools;

/// A document of an agent in the making.
#[derive(Debug, Clone)]
pub struct Agent(Value);

impl Agent {
    /// An agent of this model, without tools, with quick retries.
    pub fn new(model: &Model) -> Self {
        Self(json!({
            "model": {
                "base_url": model.url(), "name": "scripted", "timeout": "60s",
                "retry": {"tries": 3, "first_delay": "50ms", "max_delay": "200ms"},
                "prices": {"input_per_million": 1.0, "output_per_million": 2.0},
            },
            "instructions": "You are tested.",
            "tools": [],
        }))
    }

    /// A tool of the name of its path; `more` is merged into its document.
    pub fn tool(mut self, tools: &Tools, name: &str, more: Value) -> Self {
        let mut tool = json!({
            "name": name,
            "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
            "http": {"url": tools.url(&format!("/{name}"))},
            "timeout": "30s",
            "retry": {"tries": 3, "first_delay": "50ms", "max_delay": "200ms"},
        });
        merge(&mut tool, more);
        self.0["tools"].as_array_mut().expect("made above").push(tool);
        self
    }

    /// A tool whose calls need a decision.
    pub fn gated(self, tools: &Tools, name: &str) -> Self {
        self.tool(tools, name, json!({"approval": "always"}))
    }

    /// A member to merge into the document.
    pub fn with(mut self, more: Value) -> Self {
        merge(&mut self.0, more);
        self
    }

    /// The document.
    pub fn document(&self) -> &Value {
        &self.0
    }
}

/// The usual one: `look` goes at once, `pay` waits for a decision.
pub fn clerk(model: &Model, tools: &Tools) -> Agent {
    Agent::new(model).tool(tools, "look", json!({"effect": "idempotent"})).gated(tools, "pay")
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, value) in from {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

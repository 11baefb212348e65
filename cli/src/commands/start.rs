//! `holdpoint start`: starts an execution, and watches it if asked.

use std::process::ExitCode;

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{Output, executions};
use crate::client::{self, Client, Remote};
use crate::output::{self, cell};
use crate::usage::Usage;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// The agent's name
    #[arg(required_unless_present = "workflow", conflicts_with = "workflow")]
    agent: Option<String>,
    /// A workflow instead of an agent, such as `holdpoint.noop`
    #[arg(long)]
    workflow: Option<String>,
    /// A version of the definition [default: the latest]
    #[arg(long)]
    version: Option<i32>,
    /// The input: JSON, or a text as it is
    #[arg(long)]
    input: Option<String>,
    /// The conversation it belongs to
    #[arg(long)]
    conversation: Option<String>,
    /// The same key and the same request start one execution
    #[arg(long)]
    idempotency_key: Option<String>,
    /// Begin so much later, such as 10m
    #[arg(long)]
    delay: Option<String>,
    /// KEY=VALUE, as often as needed
    #[arg(long = "label", value_parser = label)]
    labels: Vec<(String, String)>,
    /// A JSON object
    #[arg(long)]
    metadata: Option<String>,
    /// `production` or `test`
    #[arg(long)]
    run_type: Option<String>,
    /// Print its events until it ends
    #[arg(long, short)]
    watch: bool,
}

/// Reads `KEY=VALUE`.
pub fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// JSON where it is JSON, else the text itself.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn body(arguments: &Arguments) -> Result<Value, Usage> {
    let mut body = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    put("agent", arguments.agent.clone().map(Value::from));
    put("workflow", arguments.workflow.clone().map(Value::from));
    put("version", arguments.version.map(Value::from));
    put("input", arguments.input.as_deref().map(json_or_text));
    put("conversation_id", arguments.conversation.clone().map(Value::from));
    put("delay", arguments.delay.clone().map(Value::from));
    put("run_type", arguments.run_type.clone().map(Value::from));
    if !arguments.labels.is_empty() {
        let labels: Map<String, Value> =
            arguments.labels.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
        put("labels", Some(Value::Object(labels)));
    }
    if let Some(metadata) = &arguments.metadata {
        let object: Map<String, Value> = serde_json::from_str(metadata).map_err(|error| {
            Usage(format!("--metadata is `{metadata}` ({error}): it may be a JSON object"))
        })?;
        put("metadata", Some(Value::Object(object)));
    }
    Ok(Value::Object(body))
}

/// Starts it.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let body = body(&arguments)?;
    let client = Client::new(&arguments.remote)?;
    let mut request = client.request(Method::POST, "/v1/executions").json(&body);
    if let Some(key) = &arguments.idempotency_key {
        request = request.header("idempotency-key", key);
    }
    let answer = client::json(client.send(request).await?).await?;
    let id = cell(&answer, "/id");
    if !arguments.watch {
        print(&answer, output);
        return Ok(ExitCode::SUCCESS);
    }
    if !output.json {
        println!("{id}");
    }
    executions::watch(&client, &id, 0, output).await
}

fn print(answer: &Value, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let id = cell(answer, "/id");
    println!("{id}  {}", cell(answer, "/status"));
    println!("follow it: holdpoint executions watch {id}");
}

/// Bodies of other commands are built the same way: only what was given is sent.
pub fn given(fields: &[(&str, Option<Value>)]) -> Value {
    let given = fields.iter().filter_map(|(name, value)| Some(((*name).to_owned(), value.clone()?)));
    json!(given.collect::<Map<String, Value>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_json_or_a_text() {
        assert_eq!(json_or_text("Refund order 42"), json!("Refund order 42"));
        assert_eq!(json_or_text(r#"{"order": 42}"#), json!({"order": 42}));
        assert_eq!(json_or_text("\"42\""), json!("42"));
    }

    #[test]
    fn labels_have_a_key_and_a_value() {
        assert_eq!(label("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert!(label("a").is_err());
    }

    #[test]
    fn only_what_was_given_is_sent() {
        assert_eq!(given(&[("a", Some(json!(1))), ("b", None)]), json!({"a": 1}));
    }
}

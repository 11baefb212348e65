//! `holdpoint workflows test`: tries a workflow.

use clap::Args;
use serde_json::{Map, Value};

use super::Output;
use crate::client::{Client, escape};
use crate::output::{self, cell};
use crate::usage::Usage;

#[derive(Debug, Args)]
pub struct Arguments {
    name: String,
    /// What it is tried with, as JSON
    #[arg(long)]
    input: Option<String>,
    /// [default: the latest]
    #[arg(long)]
    version: Option<i32>,
    /// An uploaded file that it is tried with; may be repeated
    #[arg(long = "file", value_name = "ID")]
    files: Vec<String>,
}

/// Begins the test run and says which execution it is.
pub async fn run(client: &Client, arguments: Arguments, output: Output) -> anyhow::Result<()> {
    let path = format!("/v1/workflows/{}/test-runs", escape(&arguments.name));
    let answer = client.post(&path, &body(arguments)?).await?;
    if output.json {
        output::json(&answer);
    } else {
        println!("{}", cell(&answer, "/execution_id"));
    }
    Ok(())
}

fn body(arguments: Arguments) -> Result<Value, Usage> {
    let mut body = Map::new();
    if let Some(input) = arguments.input {
        let wrong = |error| Usage(format!("--input is `{input}` ({error}): it may be JSON"));
        body.insert("input".to_owned(), serde_json::from_str(&input).map_err(wrong)?);
    }
    body.extend(arguments.version.map(|version| ("version".to_owned(), version.into())));
    if !arguments.files.is_empty() {
        body.insert("files".to_owned(), arguments.files.into());
    }
    Ok(body.into())
}

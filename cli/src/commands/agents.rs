//! `holdpoint agents`: registers agents' documents and shows them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::Value;

use super::Output;
use super::executions::seconds;
use crate::client::{self, Client, Remote, escape};
use crate::output::{self, Table, cell};
use crate::usage::Usage;

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Register a document: a new version, or the same one if nothing changed
    Apply {
        /// A JSON file, or `-` for standard input
        file: PathBuf,
        /// The agent's name [default: the file's name without its ending]
        #[arg(long)]
        name: Option<String>,
    },
    /// List the agents in use
    List,
    /// Show a version's document
    Show {
        name: String,
        /// [default: the latest]
        #[arg(long)]
        version: Option<i32>,
    },
    /// List all versions, newest first
    Versions { name: String },
    /// Take a name out of use; running executions keep their version
    Delete { name: String },
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::Apply { file, name } => apply(&client, &file, name, output).await?,
        Verb::List => list(&client.get("/v1/agents", &[]).await?, "agents", output),
        Verb::Show { name, version } => show(&client, &name, version).await?,
        Verb::Versions { name } => {
            list(&client.get(&format!("{}/versions", path(&name)), &[]).await?, "versions", output);
        }
        Verb::Delete { name } => {
            client.send(client.request(Method::DELETE, &path(&name))).await?;
            tell(output, &serde_json::json!({"name": name, "deleted": true}), &format!("{name}  deleted"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(name: &str) -> String {
    format!("/v1/agents/{}", escape(name))
}

async fn apply(client: &Client, file: &Path, name: Option<String>, output: Output) -> anyhow::Result<()> {
    let (name, document) = read(file, name)?;
    let request =
        client.request(Method::PUT, &path(&name)).header("content-type", "application/json").body(document);
    let response = client.send(request).await?;
    let is_new = response.status() == reqwest::StatusCode::CREATED;
    let answer = client::json(response).await?;
    let word = if is_new { "new" } else { "unchanged" };
    tell(output, &answer, &format!("{name}  version {}  {word}", cell(&answer, "/version")));
    Ok(())
}

/// A document, and its name: that of its file where none is given.
pub fn read(file: &Path, name: Option<String>) -> anyhow::Result<(String, String)> {
    let is_stdin = file == Path::new("-");
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|_| !is_stdin);
    let Some(name) = name.or_else(|| stem.map(str::to_owned)) else {
        return Err(Usage("give the name with --name".to_owned()).into());
    };
    let read =
        if is_stdin { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
    let document = read.map_err(|error| Usage(format!("{}: {error}", file.display())))?;
    Ok((name, document))
}

async fn show(client: &Client, name: &str, version: Option<i32>) -> anyhow::Result<()> {
    let query: Vec<(&str, String)> =
        version.map(|version| ("version", version.to_string())).into_iter().collect();
    output::json(&client.get(&path(name), &query).await?);
    Ok(())
}

fn list(answer: &Value, member: &str, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["NAME", "VERSION", "CREATED", "BY"]);
    for row in answer[member].as_array().into_iter().flatten() {
        let [name, version, by] = ["/name", "/version", "/created_by"].map(|field| cell(row, field));
        table.row([name, version, seconds(&cell(row, "/created_at")), by]);
    }
    table.print();
}

/// Prints the value, or the line.
pub fn tell(output: Output, value: &Value, line: &str) {
    if output.json { output::json(value) } else { println!("{line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_names_its_agent() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("refunds.json");
        std::fs::write(&file, "{}").expect("written");
        assert_eq!(read(&file, None).expect("read").0, "refunds");
        assert_eq!(read(&file, Some("other".to_owned())).expect("read").0, "other");
        assert!(read(Path::new("-"), None).is_err());
        assert!(read(&folder.path().join("none.json"), None).expect_err("missing").is::<Usage>());
    }
}

//! `holdpoint workflows`: registers workflows' documents and shows them.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use holdpoint_engine::workflow::{WorkflowError, to_value};
use reqwest::Method;
use serde_json::Value;

use super::executions::seconds;
use super::{Output, workflow_test};
use crate::client::{self, Client, Refused, Remote, escape};
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
    /// Register a document under the name that it has: a new version, or the same one if
    /// nothing changed
    Apply {
        /// A YAML or JSON file, or `-` for standard input
        file: PathBuf,
    },
    /// List the workflows in use
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
    /// Try a workflow, also while it is paused: one test run of it goes on at a time
    Test(workflow_test::Arguments),
    /// Start and schedule it no more; runs that go on end at their next step
    Pause { name: String },
    /// Let a paused, archived or failing one go on
    Resume { name: String },
    /// Pause it for good
    Archive { name: String },
    /// Take a name out of use; running executions keep their version
    Delete { name: String },
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::Apply { file } => return apply(&client, &file, output).await,
        Verb::List => list(&client.get("/v1/workflows", &[]).await?, "workflows", output),
        Verb::Show { name, version } => show(&client, &name, version, output).await?,
        Verb::Versions { name } => {
            list(&client.get(&format!("{}/versions", path(&name)), &[]).await?, "versions", output);
        }
        Verb::Test(arguments) => workflow_test::run(&client, arguments, output).await?,
        Verb::Pause { name } => change(&client, &name, "pause", output).await?,
        Verb::Resume { name } => change(&client, &name, "resume", output).await?,
        Verb::Archive { name } => change(&client, &name, "archive", output).await?,
        Verb::Delete { name } => {
            client.send(client.request(Method::DELETE, &path(&name))).await?;
            tell(output, &serde_json::json!({"name": name, "deleted": true}), &format!("{name}  deleted"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn change(client: &Client, name: &str, verb: &str, output: Output) -> anyhow::Result<()> {
    let answer = client.post(&format!("{}/{verb}", path(name)), &serde_json::json!({})).await?;
    tell(output, &answer, &format!("{name}  {}", cell(&answer, "/state")));
    Ok(())
}

fn path(name: &str) -> String {
    format!("/v1/workflows/{}", escape(name))
}

/// What is wrong with the document is told as compilers tell it.
async fn apply(client: &Client, file: &Path, output: Output) -> anyhow::Result<ExitCode> {
    let document = read(file)?;
    let name = match name_of(&document) {
        Ok(name) => name,
        Err(error) => return Ok(refused(file, &[error], output)),
    };
    let request =
        client.request(Method::PUT, &path(&name)).header("content-type", "application/yaml").body(document);
    let response = match client.send(request).await {
        Ok(response) => response,
        Err(error) => {
            let errors = error.downcast_ref::<Refused>().map(errors_of).unwrap_or_default();
            return if errors.is_empty() { Err(error) } else { Ok(refused(file, &errors, output)) };
        }
    };
    let is_new = response.status() == reqwest::StatusCode::CREATED;
    let answer = client::json(response).await?;
    let word = if is_new { "new" } else { "unchanged" };
    let [version, label] = ["/version", "/label"].map(|field| cell(&answer, field));
    tell(output, &answer, &format!("{name}  version {version} ({label})  {word}"));
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> anyhow::Result<String> {
    let read = match file == Path::new("-") {
        true => std::io::read_to_string(std::io::stdin()),
        false => std::fs::read_to_string(file),
    };
    read.map_err(|error| Usage(format!("{}: {error}", file.display())).into())
}

/// `document.name`; the API says what is wrong with a document that has none.
fn name_of(document: &str) -> Result<String, WorkflowError> {
    let value = to_value(document)?;
    Ok(value["document"]["name"].as_str().unwrap_or("unnamed").to_owned())
}

fn errors_of(refused: &Refused) -> Vec<WorkflowError> {
    let problem: Value = serde_json::from_str(&refused.body).unwrap_or_default();
    if problem["code"] != "invalid_workflow" {
        return Vec::new();
    }
    serde_json::from_value(problem["errors"].clone()).unwrap_or_default()
}

fn refused(file: &Path, errors: &[WorkflowError], output: Output) -> ExitCode {
    if output.json {
        output::json(&serde_json::json!({"code": "invalid_workflow", "errors": errors}));
    } else {
        errors.iter().for_each(|error| eprintln!("{}", line(file, error)));
    }
    ExitCode::FAILURE
}

fn line(file: &Path, error: &WorkflowError) -> String {
    let WorkflowError { line, column, pointer, message } = error;
    let separator = if pointer.is_empty() { "" } else { ": " };
    format!("{}:{line}:{column}: {pointer}{separator}{message}", file.display())
}

/// As its author wrote it; with `--json` all that is known of it.
async fn show(client: &Client, name: &str, version: Option<i32>, output: Output) -> anyhow::Result<()> {
    let query: Vec<(&str, String)> =
        version.map(|version| ("version", version.to_string())).into_iter().collect();
    let answer = client.get(&path(name), &query).await?;
    match answer["source"].as_str().filter(|_| !output.json) {
        Some(source) => println!("{}", source.trim_end()),
        None => output::json(&answer),
    }
    Ok(())
}

fn list(answer: &Value, member: &str, output: Output) {
    if output.json {
        output::json(answer);
        return;
    }
    let mut table = Table::new(&["NAME", "VERSION", "LABEL", "STATE", "CREATED", "BY"]);
    for row in answer[member].as_array().into_iter().flatten() {
        let [name, version, label, state, by] =
            ["/name", "/version", "/label", "/state", "/created_by"].map(|field| cell(row, field));
        table.row([name, version, label, state, seconds(&cell(row, "/created_at")), by]);
    }
    table.print();
}

fn tell(output: Output, value: &Value, line: &str) {
    if output.json { output::json(value) } else { println!("{line}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_names_its_workflow() {
        assert_eq!(name_of("document: {name: flow}"), Ok("flow".to_owned()));
        assert_eq!(name_of("{\"document\": {}}"), Ok("unnamed".to_owned()));
        let error = name_of("document: [").expect_err("no YAML");
        assert!(line(Path::new("flow.yaml"), &error).starts_with("flow.yaml:2:1: "), "{error}");
    }

    #[test]
    fn errors_are_those_of_the_problem() {
        let body = |code: &str| {
            format!(
                r#"{{"code": "{code}", "errors": [{{"line": 3, "column": 5, "pointer": "/do", "message": "no"}}]}}"#
            )
        };
        let errors = errors_of(&Refused { status: 400, body: body("invalid_workflow") });
        assert_eq!(line(Path::new("a.yaml"), &errors[0]), "a.yaml:3:5: /do: no");
        assert!(errors_of(&Refused { status: 400, body: body("invalid_body") }).is_empty());
    }
}

//! `holdpoint files`: files that executions are started with.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::json;

use super::Output;
use crate::client::{self, Client, Remote, escape, with_query};
use crate::output::{self, cell};
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
    /// Upload a file and print its id
    Put {
        /// The file, or `-` for standard input
        file: PathBuf,
        /// What it is called [default: the file's own name]
        #[arg(long)]
        name: Option<String>,
        /// Its media type
        #[arg(long, value_name = "TYPE", default_value = "application/octet-stream")]
        content_type: String,
    },
    /// Print a file's content
    Get {
        id: String,
        /// Write it into this file instead
        #[arg(long, value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Show what is known of a file
    Show { id: String },
    /// Remove a file that no execution was started with
    Delete { id: String },
}

/// Runs the verb.
pub async fn run(arguments: Arguments, output: Output) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    match arguments.verb {
        Verb::Put { file, name, content_type } => {
            put(&client, &file, name, &content_type, output).await?;
        }
        Verb::Get { id, to } => get(&client, &id, to.as_deref()).await?,
        Verb::Show { id } => output::json(&client.get(&format!("{}/info", path(&id)), &[]).await?),
        Verb::Delete { id } => {
            client.send(client.request(Method::DELETE, &path(&id))).await?;
            let answer = json!({"id": id, "deleted": true});
            if output.json { output::json(&answer) } else { println!("{id}  deleted") }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn path(id: &str) -> String {
    format!("/v1/files/{}", escape(id))
}

async fn put(
    client: &Client,
    file: &Path,
    name: Option<String>,
    content_type: &str,
    output: Output,
) -> anyhow::Result<()> {
    let content = read(file)?;
    let own = || file.file_name().filter(|_| file != Path::new("-"))?.to_str().map(str::to_owned);
    let query: Vec<(&str, String)> = name.or_else(own).map(|name| ("name", name)).into_iter().collect();
    let request = client.request(Method::POST, &with_query("/v1/files", &query));
    let request = request.header(CONTENT_TYPE, content_type).body(content);
    let answer = client::json(client.send(request).await?).await?;
    if output.json {
        output::json(&answer)
    } else {
        println!("{}", cell(&answer, "/id"))
    }
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    if file != Path::new("-") {
        return std::fs::read(file).map_err(|error| Usage(format!("{}: {error}", file.display())).into());
    }
    let mut content = Vec::new();
    std::io::stdin().read_to_end(&mut content).context("standard input")?;
    Ok(content)
}

async fn get(client: &Client, id: &str, to: Option<&Path>) -> anyhow::Result<()> {
    let content = client.send(client.request(Method::GET, &path(id))).await?.bytes().await?;
    match to {
        Some(file) => std::fs::write(file, &content).with_context(|| file.display().to_string()),
        None => std::io::stdout().lock().write_all(&content).context("standard output"),
    }
}

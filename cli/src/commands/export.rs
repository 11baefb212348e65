//! `holdpoint export`: finished executions as lines of JSON, before retention removes them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::{Method, Response};
use serde_json::{Value, json};

use super::retention::PATH as RETENTION;
use crate::client::{Client, Remote, with_query};

#[derive(Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    remote: Remote,
    /// Those that finished before then (RFC 3339, at least a minute ago, which is the default)
    #[arg(long)]
    finished_before: Option<String>,
    /// Those that finished then or later; with --mark, from where the last export ended
    #[arg(long)]
    finished_after: Option<String>,
    /// Go on behind the last line of an export that broke off; its file is added to
    #[arg(long)]
    cursor: Option<String>,
    /// Into this file, which must not be there yet; else to the output
    #[arg(long)]
    to: Option<PathBuf>,
    /// When all is written and on the disk, note that it was exported and may go
    #[arg(long, requires = "to")]
    mark: bool,
}

/// Runs the verb.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let client = Client::new(&arguments.remote)?;
    let mut finished_after = arguments.finished_after;
    if arguments.mark && finished_after.is_none() {
        let retention = client.get(RETENTION, &[]).await?;
        finished_after = retention["exported_before"].as_str().map(str::to_owned);
    }
    let query: Vec<(&str, String)> = [
        ("finished_before", arguments.finished_before),
        ("finished_after", finished_after.clone()),
        ("cursor", arguments.cursor.clone()),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect();
    let path = with_query("/v1/export/executions", &query);
    let response = client.send(client.request(Method::GET, &path)).await?;
    let end = match &arguments.to {
        None => write_all(response, &mut std::io::stdout().lock()).await?,
        Some(to) => {
            let mut file = open(to, arguments.cursor.is_some())?;
            let end = write_all(response, &mut file).await?;
            file.sync_all().with_context(|| format!("{} did not reach the disk", to.display()))?;
            end
        }
    };
    eprintln!("{} executions that finished before {}", end["executions"], end["finished_before"]);
    if arguments.mark {
        let note = json!({"finished_after": finished_after, "finished_before": end["finished_before"]});
        let answer = client.post(&format!("{RETENTION}/exported"), &note).await?;
        eprintln!("noted: what finished before {} was exported", answer["exported_before"]);
    }
    Ok(ExitCode::SUCCESS)
}

fn open(to: &Path, goes_on: bool) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    let options = if goes_on { options.append(true) } else { options.write(true).create_new(true) };
    options.open(to).with_context(|| format!("cannot write to {}", to.display()))
}

/// Writes whole lines as they come; what the last one says. The end of the answer alone does not
/// say that it is whole.
async fn write_all(mut response: Response, to: &mut impl Write) -> anyhow::Result<Value> {
    let (mut line, mut cursor, mut end) = (Vec::new(), None, None);
    let broken = loop {
        match response.chunk().await {
            Ok(Some(piece)) => line.extend_from_slice(&piece),
            Ok(None) => break None,
            Err(error) => break Some(error.without_url()),
        }
        while let Some(at) = line.iter().position(|byte| *byte == b'\n') {
            let rest = line.split_off(at + 1);
            to.write_all(&line)?;
            let told: Value =
                serde_json::from_slice(&line).context("the API sent a line that is not JSON")?;
            end = told.get("end").cloned();
            cursor = told["cursor"].as_str().map(str::to_owned).or(cursor);
            line = rest;
        }
    };
    to.flush()?;
    if let Some(end) = end {
        return Ok(end);
    }
    let go_on =
        cursor.map_or_else(|| "begin again".to_owned(), |cursor| format!("go on with --cursor {cursor}"));
    let why = broken.map_or_else(String::new, |error| format!(" ({error})"));
    bail!("the export broke off{why}: {go_on}")
}

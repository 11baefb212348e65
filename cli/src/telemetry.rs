//! Logs: one subscriber for the process, text for people or JSON lines for machines, always
//! on standard error, so that standard output carries nothing but answers.

use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::configuration::{Log, LogFormat};
use crate::usage::Usage;

/// Starts logging; a second start in one process changes nothing.
pub fn start(log: &Log) -> Result<(), Usage> {
    let filter = filter(&log.level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let bodyless = filter_fn(is_without_bodies);
    let started = match log.format {
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(ansi).finish().with(bodyless).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).finish().with(bodyless).try_init(),
    };
    // Only a test process can have one already.
    drop(started);
    Ok(())
}

/// Reads `info`, or `info,holdpoint_worker=debug`. A level on its own is for Holdpoint; what
/// its libraries say stays at `warn`, so that `debug` remains readable.
pub fn filter(level: &str) -> Result<EnvFilter, Usage> {
    let refuse = || {
        Usage(format!(
            "configuration: log.level is `{level}`: it may be off, error, warn, info, debug, trace, \
             or directives such as `info,holdpoint_worker=debug`"
        ))
    };
    if !level.split(',').all(is_directive) {
        return Err(refuse());
    }
    let directives = if is_level(level) {
        let crates = ["api", "cli", "db", "queue", "scheduler", "worker"];
        let ours: Vec<String> = crates.iter().map(|name| format!("holdpoint_{name}={level}")).collect();
        format!("warn,holdpoint={level},{}", ours.join(","))
    } else {
        level.to_owned()
    };
    EnvFilter::try_new(directives).map_err(|_| refuse())
}

/// What a library says with messages' bodies in it is never logged, whatever the filter wants:
/// lapin tells at `warn` of each message that came back, with its content, and at `trace` of
/// every frame, those of the login too; rmcp tells of what a server of tools answered, which may
/// be our own secret, and whose errors we tell ourselves.
fn is_without_bodies(said: &Metadata<'_>) -> bool {
    let is_of = |library: &str| said.target().split("::").next() == Some(library);
    let is_frame = is_of("lapin") && *said.level() == Level::TRACE;
    said.target() != "lapin::returned_messages" && !is_frame && !is_of("rmcp")
}

fn is_level(word: &str) -> bool {
    !word.is_empty() && word.parse::<LevelFilter>().is_ok()
}

/// The library would take any word for a module's name, and a misspelt level with it.
fn is_directive(directive: &str) -> bool {
    is_level(directive.rsplit_once('=').map_or(directive, |(_, level)| level).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_read() {
        for good in ["off", "error", "warn", "info", "debug", "trace", "INFO", "info,holdpoint_worker=debug"]
        {
            assert!(filter(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "holdpoint_api=loud", "info,", "holdpoint_api="] {
            let error = filter(bad).expect_err(bad).to_string();
            assert!(error.contains("log.level") && error.contains(bad) && error.contains("debug"), "{error}");
        }
    }
}

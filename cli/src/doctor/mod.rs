//! What an installation stands on, looked at from outside: database, broker, secrets, API.
//! One file for each; each thing that is looked at is one finding, with what to do about it.

mod api;
mod broker;
mod broker_tool;
mod certificates;
mod database;
mod secrets;
mod workers;

use serde::Serialize;

use crate::configuration::Configuration;

/// How a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, but somebody should know.
    Warn,
    /// It does not work.
    Fail,
}

impl State {
    /// The word that is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warn => "warn",
            State::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What it is.
    pub name: &'static str,
    /// How it is.
    pub state: State,
    /// What was seen.
    pub what: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, state: State::Ok, what: what.into(), advice: None }
    }

    fn warn(name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Warn, what: what.into(), advice: Some(advice.into()) }
    }

    fn fail(name: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, state: State::Fail, what: what.into(), advice: Some(advice.into()) }
    }
}

/// Looks at all of it; an API only where one is named.
pub async fn examine(configuration: &Configuration, url: Option<&str>) -> anyhow::Result<Vec<Finding>> {
    let (mut findings, seen) = database::examine(configuration).await?;
    if let Some(seen) = &seen {
        findings.push(secrets::examine(configuration, seen));
        findings.extend(workers::examine(seen, configuration));
    }
    findings.extend(broker::examine(configuration).await);
    findings.push(prefetch(configuration));
    findings.push(certificates::examine(configuration).await);
    if let Some(url) = url {
        findings.push(api::examine(url).await?);
    }
    Ok(findings)
}

/// A worker claims by one connection while another extends its lease.
const CONNECTIONS: u32 = 2;

/// What is on its way to a worker, against what it can hold, and the connections that it has for
/// that.
fn prefetch(configuration: &Configuration) -> Finding {
    let (slots, connections) = (configuration.worker.slots, configuration.database.hot_connections);
    let prefetch = holdpoint_worker::PREFETCH;
    let what =
        format!("up to {prefetch} hints, {slots} places, {connections} connections for claims and commits");
    if connections < CONNECTIONS && !configuration.database.url.starts_with("sqlite:") {
        let advice =
            "raise `database.hot_connections` to 2 or more: a heartbeat must not wait for a long commit";
        return Finding::warn("prefetch", what, advice);
    }
    if slots < usize::from(prefetch) {
        let advice =
            "hints beyond the places go back to the broker: raise `worker.slots` where workers are few";
        return Finding { advice: Some(advice.to_owned()), ..Finding::ok("prefetch", what) };
    }
    Finding::ok("prefetch", what)
}

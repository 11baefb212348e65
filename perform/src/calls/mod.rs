//! What tasks of workflows call: HTTP endpoints, operations of OpenAPI documents, and the
//! question whether an earlier call happened. One file for each; what they share is how a
//! request is sent, how it authenticates, and how its answer is read.

mod access;
mod answer;
pub(crate) mod openapi;
mod reconcile;
mod redirect;
pub(crate) mod request;
#[cfg(test)]
pub(crate) mod stub;
#[cfg(test)]
mod tests;
pub(crate) mod tokens;

use std::time::{Duration, Instant};

use holdpoint_engine::status::ErrorType;
use reqwest::Url;

#[cfg(feature = "mcp")]
pub(crate) use access::Access;
pub(crate) use reconcile::reconcile;
pub(crate) use request::call;
#[cfg(feature = "mcp")]
pub(crate) use request::headers as header_map;

use crate::{Fault, Performer};

/// Until when an attempt may go on, by the monotonic clock.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    all: Duration,
}

impl Deadline {
    pub fn after(all: Duration) -> Self {
        let now = Instant::now();
        // No clock reaches so far: then there is as good as none.
        let at = now.checked_add(all).unwrap_or(now + Duration::from_secs(365 * 24 * 3600));
        Self { at, all }
    }

    /// What is left; nothing left before anything was sent is definite.
    pub fn left(self) -> Result<Duration, Fault> {
        let left = self.at.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(self.passed()) } else { Ok(left) }
    }

    fn passed(self) -> Fault {
        let message = format!("the call did not get through within {} s", self.all.as_secs_f64());
        Fault::definite(ErrorType::Timeout, message)
    }
}

/// An address that calls may use: by HTTP, without a password in it, and not refused by the guard.
pub(crate) fn reachable(performer: &Performer, uri: &str) -> Result<Url, Fault> {
    let url = Url::parse(uri)
        .map_err(|error| Fault::definite(ErrorType::Logic, format!("the URI cannot be called: {error}")))?;
    check(performer, &url)?;
    Ok(url)
}

/// The same for an address that was read before.
pub(super) fn check(performer: &Performer, url: &Url) -> Result<(), Fault> {
    let wrong = |message: &str| Err(Fault::definite(ErrorType::Logic, message));
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return wrong("the URI cannot be called: it begins with https:// or http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("the URI holds a user name or a password: they belong into `authentication`");
    }
    performer
        .guard
        .check_literal(url)
        .map_err(|refused| Fault::definite(ErrorType::Permission, format!("the call: {refused}")))
}

/// What a server is called in messages: its name and port. Paths and queries may hold what
/// nobody should read.
pub(super) fn server(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

//! `GET|POST /internal/cron/cleanup-stale-workflows`: the door for an external cron, over
//! every tenant. Without a secret in the configuration it is shut.

use axum::extract::State;
use holdpoint_db::SweepSource;
use holdpoint_engine::wire::SweepKind;
use holdpoint_scheduler::Bounds;
use http::HeaderMap;
use subtle::ConstantTimeEq;

use super::Shared;
use super::sweeps::sweep;
use crate::auth::{bearer, unauthorized};
use crate::openapi::Operation;
use crate::problem::{Answer, Code};
use crate::view;

/// The route.
pub async fn handle(State(app): Shared, headers: HeaderMap) -> Answer {
    let secret = app.settings.cron_secret.as_deref().filter(|secret| !secret.is_empty());
    if !is_the_secret(secret, bearer(&headers)) {
        return Err(unauthorized());
    }
    sweep(&app, SweepKind::Stale, (SweepSource::Cron, "cron".to_owned()), None, false, Bounds::default())
        .await
}

fn is_the_secret(secret: Option<&str>, given: Option<&str>) -> bool {
    match (secret, given) {
        (Some(secret), Some(given)) => secret.as_bytes().ct_eq(given.as_bytes()).into(),
        _ => false,
    }
}

fn doc(id: &'static str) -> Operation {
    Operation::new(id, "Fails executions with expired approvals, of every tenant.")
        .answer::<view::Report>(200, "What the pass did.")
        .problem(Code::Unauthorized)
}

/// What it answers to GET.
pub fn get_doc() -> Operation {
    doc("cron_stale_get")
}

/// What it answers to POST.
pub fn post_doc() -> Operation {
    doc("cron_stale_post")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_opens_the_door() {
        assert!(is_the_secret(Some("s3cret"), Some("s3cret")));
        for (secret, given) in [
            (Some("s3cret"), Some("s3cre")),
            (Some("s3cret"), Some("")),
            (Some("s3cret"), None),
            (None, Some("")),
            (None, None),
        ] {
            assert!(!is_the_secret(secret, given), "{secret:?} {given:?}");
        }
    }
}

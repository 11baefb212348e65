//! The API, where one is named.

use std::time::Duration;

use serde_json::Value;

use super::Finding;
use crate::client;

/// Whether it serves, by its own account.
pub async fn examine(url: &str) -> anyhow::Result<Finding> {
    let url = url.trim_end_matches('/');
    let request = client::http()?.get(format!("{url}/readyz")).timeout(Duration::from_secs(10));
    let answered = match request.send().await {
        Ok(answered) => answered,
        Err(error) => {
            let what = format!("{url} does not answer: {}", error.without_url());
            return Ok(Finding::fail(
                "api",
                what,
                "start `holdpoint api`, or look at --url and `api.listen`",
            ));
        }
    };
    let status = answered.status();
    let body: Value = answered.json().await.unwrap_or_default();
    Ok(match body["status"].as_str() {
        Some("ready") => Finding::ok("api", format!("{url} is ready")),
        Some(word) => {
            let what = format!("{url} is {word}: {}", body["missing"]);
            let advice = "see what is missing above; the API tries again by itself";
            if status.is_success() {
                Finding::warn("api", what, advice)
            } else {
                Finding::fail("api", what, advice)
            }
        }
        None => {
            Finding::fail("api", format!("{url} answered {status}, not as Holdpoint does"), "look at --url")
        }
    })
}

//! Webhooks by the Standard Webhooks specification: secrets, signatures, one attempt.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holdpoint_engine::ids::WebhookId;
use holdpoint_engine::lifecycle::CLOUD_EVENT;
use holdpoint_engine::scope::Scope;
use reqwest::Url;
use ring::hmac;

use crate::forwarded::SealError;
use crate::{Performer, retry_after, transport_fault};

/// The bytes of a signing secret.
pub const SECRET_BYTES: usize = 32;
const PURPOSE: &[u8] = b"holdpoint webhook secret 1";

/// One attempt to deliver one event.
#[derive(Debug, Clone)]
pub struct WebhookCall {
    /// Where to.
    pub url: String,
    /// The event's id, which is the message's.
    pub id: String,
    /// The exact bytes that are signed and sent.
    pub body: String,
    /// The secrets, open; each signs.
    pub secrets: Vec<Vec<u8>>,
    /// How long it may take.
    pub timeout: Duration,
}

/// What the receiver answered.
#[derive(Debug, Clone, Default)]
pub struct WebhookAnswer {
    /// The status, if there was an answer.
    pub status: Option<u16>,
    /// What went wrong, if it is no success.
    pub error: Option<String>,
    /// When the receiver wants to be asked again.
    pub retry_after: Option<Duration>,
}

/// A secret as its owner keeps it.
pub fn shown_secret(secret: &[u8]) -> String {
    format!("whsec_{}", STANDARD.encode(secret))
}

/// The header `webhook-signature`: one signature for each secret.
fn signatures(call: &WebhookCall, seconds: u64) -> String {
    let content = format!("{}.{seconds}.{}", call.id, call.body);
    let sign = |secret: &Vec<u8>| {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), content.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    };
    call.secrets.iter().map(sign).collect::<Vec<_>>().join(" ")
}

fn bound(scope: &Scope, id: WebhookId) -> Vec<u8> {
    let id = id.to_string();
    [&*scope.tenant, &*scope.project, &*id]
        .into_iter()
        .flat_map(|part| (part.len() as u64).to_be_bytes().into_iter().chain(part.bytes()))
        .collect()
}

impl Performer {
    /// Seals a webhook's secret; it opens for this webhook only.
    pub fn seal_secret(&self, scope: &Scope, id: WebhookId, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        self.seals.seal_bytes(PURPOSE, &bound(scope, id), secret.to_vec())
    }

    /// Opens it; `None` where no configured key does.
    pub fn open_secret(&self, scope: &Scope, id: WebhookId, sealed: &[u8]) -> Option<Vec<u8>> {
        self.seals.open_bytes(PURPOSE, &bound(scope, id), sealed)
    }

    /// Why a webhook cannot be called there, as far as the address itself says it.
    pub fn check_webhook_url(&self, url: &str) -> Result<(), String> {
        let parsed = Url::parse(url).map_err(|error| error.to_string())?;
        if !matches!(parsed.scheme(), "http" | "https") || !parsed.has_host() {
            return Err("it begins with https:// or http://".to_owned());
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err("it holds no user name and no password".to_owned());
        }
        self.guard.check_literal(&parsed).map_err(|refused| refused.to_string())
    }

    /// One attempt: signed now, through the guard, without following redirects.
    pub async fn deliver(&self, call: &WebhookCall) -> WebhookAnswer {
        let failed = |error: String| WebhookAnswer { error: Some(error), ..WebhookAnswer::default() };
        if let Err(error) = self.check_webhook_url(&call.url) {
            return failed(format!("the webhook's url: {error}"));
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let request = self
            .client
            .post(&call.url)
            .timeout(call.timeout)
            .header("content-type", CLOUD_EVENT)
            .header("webhook-id", &call.id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures(call, seconds))
            .body(call.body.clone());
        match request.send().await {
            Ok(response) => {
                let status = response.status();
                let error = (!status.is_success()).then(|| format!("the webhook answered {status}"));
                WebhookAnswer { status: Some(status.as_u16()), error, retry_after: retry_after(&response) }
            }
            Err(error) => failed(transport_fault(&error, "the webhook").failure.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specifications_signature_is_met() {
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("base64");
        let call = WebhookCall {
            url: String::new(),
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            body: r#"{"test": 2432232314}"#.to_owned(),
            secrets: vec![secret.clone(), secret],
            timeout: Duration::ZERO,
        };
        let one = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(signatures(&call, 1_614_265_330), format!("{one} {one}"));
    }
}

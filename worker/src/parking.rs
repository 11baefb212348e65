//! Messages that cannot be carried out are kept where a person can see them, with the
//! reason, and are never requeued for ever.

use std::sync::Arc;
use std::time::Duration;

use holdpoint_db::ParkedMessage;
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::ids::ParkedId;
use holdpoint_engine::redact::{REMOVED, forwarded_in, keys_out, keys_out_of};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::MAX_BODY;
use holdpoint_queue::Delivery;

use crate::Worker;

/// A header that may hold a credential is kept by name only.
const CREDENTIALS: &[&str] = &["authorization", "api_key", "api-key", "x-api-key"];

/// Between tries while the database is away.
const PAUSE: Duration = Duration::from_secs(1);

/// Parks a message, when the database is there; `false` if that was not possible, or the worker is
/// stopped before: then the message is not to be acked.
pub(crate) async fn park(worker: &Worker, delivery: &Delivery, reason: String) -> bool {
    tracing::warn!(queue = %delivery.queue, message_id = ?delivery.message_id, %reason, "message parked");
    worker.metrics.parked(&delivery.queue);
    let message = Arc::new(parked(delivery, reason));
    loop {
        let of = Arc::clone(&message);
        let error = match worker.db.hot(move |store| store.parked_add(&of)).await.and_then(|added| added) {
            Ok(()) => return true,
            Err(error) => error,
        };
        tracing::error!(%error, "a message could not be parked");
        if !error.is_retryable() {
            return false;
        }
        tokio::select! {
            () = worker.stop.cancelled() => return false,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

fn parked(delivery: &Delivery, reason: String) -> ParkedMessage {
    let headers: serde_json::Map<String, serde_json::Value> = delivery
        .headers
        .iter()
        .map(|(name, value)| {
            let secret = CREDENTIALS.contains(&name.to_ascii_lowercase().as_str());
            (clean(name), if secret { REMOVED.into() } else { clean(&keys_out_of(value)).into() })
        })
        .collect();
    let mut entropy = Entropy::from_seed(getrandom::u64().unwrap_or_default());
    ParkedMessage {
        id: ParkedId::new(crate::session::process_now(), &mut entropy),
        scope: None,
        queue: delivery.queue.clone(),
        message_id: delivery.message_id.as_deref().map(clean),
        kind: delivery.kind.as_deref().map(clean),
        code: "dead".to_owned(),
        reason: clean(&reason),
        key: None,
        properties: "{}".to_owned(),
        headers: serde_json::Value::Object(headers).to_string(),
        body: (delivery.body.len() <= MAX_BODY && forwarded_in(&delivery.body) == 0)
            .then(|| keys_out(&delivery.body)),
        body_bytes: delivery.body.len() as i64,
        body_digest: sha256_hex(&delivery.body),
        parked_at: Timestamp::default(),
    }
}

/// What a text column can hold.
fn clean(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(1_000).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_queue::Tag;

    #[test]
    fn credentials_and_large_bodies_are_not_kept() {
        let delivery = Delivery {
            body: vec![b'x'; MAX_BODY + 1].into(),
            kind: Some("a\0b".to_owned()),
            message_id: None,
            content_type: None,
            correlation_id: None,
            reply_to: None,
            app_id: None,
            headers: [("Authorization".to_owned(), "Bearer hp_secret".to_owned())].into(),
            queue: "q".to_owned(),
            redelivered: false,
            tag: Tag { generation: 0, tag: 1 },
        };
        let parked = parked(&delivery, "why".to_owned());
        assert_eq!(parked.body, None);
        assert_eq!(parked.body_bytes, MAX_BODY as i64 + 1);
        assert_eq!(parked.kind.as_deref(), Some("ab"));
        assert!(!parked.headers.contains("hp_secret"));
    }
}

//! What goes into and comes out of the verbs for webhooks.

use std::time::Duration;

use holdpoint_engine::ids::{EventId, ExecutionId, WebhookId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DeliveryStatus, DisabledFor};
use holdpoint_engine::time::Timestamp;

/// What a caller says of a webhook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookDocument {
    /// Where to.
    pub url: String,
    /// For people.
    pub description: String,
    /// The types that it is told; empty for all.
    pub types: Vec<String>,
}

/// A webhook to make.
#[derive(Debug, Clone)]
pub struct NewWebhook {
    /// Its id.
    pub id: WebhookId,
    /// What the caller said.
    pub document: WebhookDocument,
    /// The signing secret, sealed.
    pub secret: Vec<u8>,
    /// The key that makes it.
    pub created_by: String,
}

/// What is done to a webhook.
#[derive(Debug, Clone)]
pub enum WebhookChange {
    /// Another document.
    Document(WebhookDocument),
    /// Another secret; the one until now signs as well for `keep`.
    Secret {
        /// Sealed.
        secret: Vec<u8>,
        /// For how long.
        keep: Duration,
    },
    /// It is called again.
    Enable,
    /// It is called no more, and what was to be delivered is given up.
    Disable,
}

/// A webhook as it stands.
#[derive(Debug, Clone)]
pub struct WebhookRow {
    /// Whose it is.
    pub scope: Scope,
    /// Its id.
    pub id: WebhookId,
    /// What its maker said.
    pub document: WebhookDocument,
    /// The signing secret, sealed.
    pub secret: Vec<u8>,
    /// The one before it, and until when it signs too.
    pub old_secret: Option<(Vec<u8>, Timestamp)>,
    /// The first failure since the last success.
    pub failing_since: Option<Timestamp>,
    /// Since when it is called no more, and why.
    pub disabled: Option<(Timestamp, DisabledFor)>,
    /// The key that made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl WebhookRow {
    /// Whether it is told of this type.
    pub fn wants(&self, kind: &str) -> bool {
        let types = &self.document.types;
        types.is_empty() || types.iter().any(|wanted| wanted == kind)
    }
}

/// Names a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeliveryKey {
    /// Whose it is.
    pub scope: Scope,
    /// The webhook.
    pub webhook: WebhookId,
    /// The event.
    pub event: EventId,
}

/// A delivery to attempt.
#[derive(Debug, Clone)]
pub struct DueDelivery {
    /// Which.
    pub key: DeliveryKey,
    /// 1 and up.
    pub attempt: i32,
    /// When it became due first.
    pub created_at: Timestamp,
    /// Where to.
    pub url: String,
    /// Sealed; each signs.
    pub secrets: Vec<Vec<u8>>,
    /// What is sent; `None` where the execution is kept no longer.
    pub body: Option<String>,
}

/// What became of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryOutcome {
    /// The receiver took it.
    pub delivered: bool,
    /// The receiver wants nothing any more.
    pub gone: bool,
    /// The answer's status, if there was one.
    pub response: Option<i32>,
    /// What went wrong.
    pub error: Option<String>,
    /// After how long it is tried again, if it is.
    pub again: Option<Duration>,
}

/// An attempt and what became of it.
#[derive(Debug, Clone)]
pub struct DeliveryReport {
    /// Which delivery.
    pub key: DeliveryKey,
    /// Guard: the attempt.
    pub attempt: i32,
    /// What became of it.
    pub outcome: DeliveryOutcome,
}

/// A delivery as it stands.
#[derive(Debug, Clone)]
pub struct DeliveryRow {
    /// The event.
    pub event: EventId,
    /// Its type.
    pub kind: String,
    /// The execution that it is about; none for a test.
    pub execution: Option<ExecutionId>,
    /// Where it stands.
    pub status: DeliveryStatus,
    /// Attempts so far.
    pub attempts: i32,
    /// When it is tried next.
    pub next_at: Option<Timestamp>,
    /// The last answer's status.
    pub response: Option<i32>,
    /// What went wrong last.
    pub error: Option<String>,
    /// When it became due.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

//! The verbs for what leaves Holdpoint: lifecycle events, replies, webhooks.

use std::time::Duration;

use holdpoint_engine::ids::{EventId, SessionId, WebhookId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DisabledFor;

use crate::event_types::*;
use crate::store::StoreResult;

/// A part of [`Store`](crate::Store): whole transactions. Rows of what is to be sent are
/// written by the transactions that write the journal's lines.
pub trait EventStore: Send + Sync + 'static {
    /// What a project wants to be told.
    fn event_settings(&self, scope: &Scope) -> StoreResult<EventSettings>;
    /// Changes it. Every process follows within [`SUBSCRIPTIONS_AGE`].
    fn event_settings_put(&self, scope: &Scope, settings: EventSettings, by: &str) -> StoreResult<()>;

    /// Takes or extends the lease of the one that sends; its epoch, or `None` while somebody
    /// else has it. With a lease of zero it is given back.
    fn sender_lease(&self, owner: SessionId, lease: Duration) -> StoreResult<Option<i64>>;
    /// Events due on a channel: in order for each execution, at most `limit`.
    fn outgoing_events(&self, channel: Channel, limit: usize) -> StoreResult<Vec<OutgoingEvent>>;
    /// Replies due, at most `limit`.
    fn outgoing_replies(&self, limit: usize) -> StoreResult<Vec<OutgoingReply>>;
    /// Removes what was sent; what is gone already is passed over.
    fn outgoing_remove(&self, channel: Channel, rows: &[OutgoingKey]) -> StoreResult<()>;

    /// Makes a webhook; `None` where the project has [`MAX_WEBHOOKS`](crate::MAX_WEBHOOKS).
    fn webhook_create(&self, scope: &Scope, new: &NewWebhook) -> StoreResult<Option<WebhookRow>>;
    /// One webhook.
    fn webhook_get(&self, scope: &Scope, id: WebhookId) -> StoreResult<Option<WebhookRow>>;
    /// Those of a project, oldest first.
    fn webhook_list(&self, scope: &Scope) -> StoreResult<Vec<WebhookRow>>;
    /// Changes one; the row after it, `None` where there is none.
    fn webhook_change(
        &self,
        scope: &Scope,
        id: WebhookId,
        change: &WebhookChange,
        by: &str,
    ) -> StoreResult<Option<WebhookRow>>;
    /// Removes one with its deliveries; `false` where there is none.
    fn webhook_delete(&self, scope: &Scope, id: WebhookId, by: &str) -> StoreResult<bool>;
    /// Makes a delivery of a test; `false` where no such webhook is called.
    fn webhook_test(&self, scope: &Scope, id: WebhookId, event: EventId) -> StoreResult<bool>;
    /// Makes deliveries of at most `limit` events that are due; how many events there were.
    fn webhook_fan_out(&self, limit: usize) -> StoreResult<usize>;
    /// Takes deliveries that are due: for `lease` nobody else does.
    fn delivery_claim(&self, limit: usize, lease: Duration) -> StoreResult<Vec<DueDelivery>>;
    /// Writes what became of an attempt, unless a later one has begun. A webhook that only
    /// failed for `patience` is disabled, as is one that is gone: then why.
    fn delivery_report(
        &self,
        report: &DeliveryReport,
        patience: Duration,
    ) -> StoreResult<Option<DisabledFor>>;
    /// A webhook's latest deliveries, newest first.
    fn delivery_list(&self, scope: &Scope, id: WebhookId, limit: usize) -> StoreResult<Vec<DeliveryRow>>;
    /// Removes at most `limit` deliveries that ended more than `kept` ago; how many.
    fn delivery_clean(&self, kept: Duration, limit: usize) -> StoreResult<usize>;
}

/// For so long a process may go on with what it last read of who wants events.
pub const SUBSCRIPTIONS_AGE: Duration = Duration::from_millis(500);

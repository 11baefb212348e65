//! The verbs for what leaves Holdpoint: lifecycle events, replies, webhooks.

use std::time::Duration;

use holdpoint_engine::ids::SessionId;
use holdpoint_engine::scope::Scope;

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
}

/// For so long a process may go on with what it last read of who wants events.
pub const SUBSCRIPTIONS_AGE: Duration = Duration::from_millis(500);

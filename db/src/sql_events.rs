//! The verbs for what leaves, on either database; see `sql_store.rs`.

use std::time::Duration;

use holdpoint_engine::ids::SessionId;
use holdpoint_engine::scope::Scope;

use crate::event_store::EventStore;
use crate::event_types::*;
use crate::outgoing;
use crate::sql_store::SqlStore;
use crate::store::StoreResult;

impl EventStore for SqlStore {
    fn event_settings(&self, scope: &Scope) -> StoreResult<EventSettings> {
        self.read.with(|conn| outgoing::event_settings(conn, scope))
    }

    fn event_settings_put(&self, scope: &Scope, settings: EventSettings, by: &str) -> StoreResult<()> {
        self.hot.write(|conn| outgoing::event_settings_put(conn, scope, settings, by))?;
        self.hot.subscribed.forget();
        Ok(())
    }

    fn sender_lease(&self, owner: SessionId, lease: Duration) -> StoreResult<Option<i64>> {
        self.hot.with(|conn| outgoing::sender_lease(conn, owner, lease))
    }

    fn outgoing_events(&self, channel: Channel, limit: usize) -> StoreResult<Vec<OutgoingEvent>> {
        self.read.with(|conn| outgoing::outgoing_events(conn, channel, limit))
    }

    fn outgoing_replies(&self, limit: usize) -> StoreResult<Vec<OutgoingReply>> {
        self.read.with(|conn| outgoing::outgoing_replies(conn, limit))
    }

    fn outgoing_remove(&self, channel: Channel, rows: &[OutgoingKey]) -> StoreResult<()> {
        self.hot.write(|conn| outgoing::outgoing_remove(conn, channel, rows))
    }
}

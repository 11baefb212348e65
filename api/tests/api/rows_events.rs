//! What leaves, as far as routes ask the store for it.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::scope::Scope;

use crate::rows::{Rows, not_here};

impl EventStore for Rows {
    fn event_settings(&self, scope: &Scope) -> StoreResult<EventSettings> {
        let state = self.here()?;
        let found = state.event_settings.iter().rev().find(|(of, _)| of == scope);
        Ok(found.map(|(_, settings)| *settings).unwrap_or_default())
    }

    fn event_settings_put(&self, scope: &Scope, settings: EventSettings, _: &str) -> StoreResult<()> {
        self.here()?.event_settings.push((scope.clone(), settings));
        Ok(())
    }

    fn sender_lease(&self, _: SessionId, _: Duration) -> StoreResult<Option<i64>> {
        not_here()
    }

    fn outgoing_events(&self, _: Channel, _: usize) -> StoreResult<Vec<OutgoingEvent>> {
        not_here()
    }

    fn outgoing_replies(&self, _: usize) -> StoreResult<Vec<OutgoingReply>> {
        not_here()
    }

    fn outgoing_remove(&self, _: Channel, _: &[OutgoingKey]) -> StoreResult<()> {
        not_here()
    }
}

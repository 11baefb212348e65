//! What leaves, as far as routes ask the store for it.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::{EventId, SessionId, WebhookId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DisabledFor;

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

    fn webhook_create(&self, _: &Scope, _: &NewWebhook) -> StoreResult<Option<WebhookRow>> {
        not_here()
    }

    fn webhook_get(&self, _: &Scope, _: WebhookId) -> StoreResult<Option<WebhookRow>> {
        not_here()
    }

    fn webhook_list(&self, _: &Scope) -> StoreResult<Vec<WebhookRow>> {
        not_here()
    }

    fn webhook_change(
        &self,
        _: &Scope,
        _: WebhookId,
        _: &WebhookChange,
        _: &str,
    ) -> StoreResult<Option<WebhookRow>> {
        not_here()
    }

    fn webhook_delete(&self, _: &Scope, _: WebhookId, _: &str) -> StoreResult<bool> {
        not_here()
    }

    fn webhook_test(&self, _: &Scope, _: WebhookId, _: EventId) -> StoreResult<bool> {
        not_here()
    }

    fn webhook_fan_out(&self, _: usize) -> StoreResult<usize> {
        not_here()
    }

    fn delivery_claim(&self, _: usize, _: Duration) -> StoreResult<Vec<DueDelivery>> {
        not_here()
    }

    fn delivery_report(&self, _: &DeliveryReport, _: Duration) -> StoreResult<Option<DisabledFor>> {
        not_here()
    }

    fn delivery_list(&self, _: &Scope, _: WebhookId, _: usize) -> StoreResult<Vec<DeliveryRow>> {
        not_here()
    }

    fn delivery_clean(&self, _: Duration, _: usize) -> StoreResult<usize> {
        not_here()
    }
}

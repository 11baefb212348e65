//! The verbs for what leaves, on either database; see `sql_store.rs`.

use std::time::Duration;

use holdpoint_engine::ids::{EventId, SessionId, WebhookId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DisabledFor;

use crate::event_store::EventStore;
use crate::event_types::*;
use crate::sql_store::SqlStore;
use crate::store::StoreResult;
use crate::{outgoing, webhook_deliveries, webhooks};

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

    fn webhook_create(&self, scope: &Scope, new: &NewWebhook) -> StoreResult<Option<WebhookRow>> {
        let made = self.hot.write(|conn| webhooks::webhook_create_in_txn(conn, scope, new))?;
        self.hot.subscribed.forget();
        Ok(made)
    }

    fn webhook_get(&self, scope: &Scope, id: WebhookId) -> StoreResult<Option<WebhookRow>> {
        self.read.with(|conn| webhooks::webhook_get(conn, scope, id))
    }

    fn webhook_list(&self, scope: &Scope) -> StoreResult<Vec<WebhookRow>> {
        self.read.with(|conn| webhooks::webhook_list(conn, scope))
    }

    fn webhook_change(
        &self,
        scope: &Scope,
        id: WebhookId,
        change: &WebhookChange,
        by: &str,
    ) -> StoreResult<Option<WebhookRow>> {
        let changed = self.hot.write(|conn| webhooks::webhook_change_in_txn(conn, scope, id, change, by))?;
        self.hot.subscribed.forget();
        Ok(changed)
    }

    fn webhook_delete(&self, scope: &Scope, id: WebhookId, by: &str) -> StoreResult<bool> {
        self.hot.write(|conn| webhooks::webhook_delete_in_txn(conn, scope, id, by))
    }

    fn webhook_test(&self, scope: &Scope, id: WebhookId, event: EventId) -> StoreResult<bool> {
        self.hot.write(|conn| webhooks::webhook_test_in_txn(conn, scope, id, event))
    }

    fn webhook_fan_out(&self, limit: usize) -> StoreResult<usize> {
        self.hot.write(|conn| webhook_deliveries::fan_out_in_txn(conn, limit))
    }

    fn delivery_claim(&self, limit: usize, lease: Duration) -> StoreResult<Vec<DueDelivery>> {
        self.hot.write(|conn| webhook_deliveries::delivery_claim_in_txn(conn, limit, lease))
    }

    fn delivery_report(
        &self,
        report: &DeliveryReport,
        patience: Duration,
    ) -> StoreResult<Option<DisabledFor>> {
        self.hot.write(|conn| webhook_deliveries::delivery_report_in_txn(conn, report, patience))
    }

    fn delivery_list(&self, scope: &Scope, id: WebhookId, limit: usize) -> StoreResult<Vec<DeliveryRow>> {
        self.read.with(|conn| webhook_deliveries::delivery_list(conn, scope, id, limit))
    }

    fn delivery_clean(&self, kept: Duration, limit: usize) -> StoreResult<usize> {
        self.hot.write(|conn| webhook_deliveries::delivery_clean(conn, kept, limit))
    }
}

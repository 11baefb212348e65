//! Takes in 'X has events up to N' from other roles and other replicas.

use std::sync::Arc;

use holdpoint_engine::wire::Message;
use holdpoint_queue::{Delivery, Queue, Source, Tag};
use tokio_util::sync::CancellationToken;

use super::Hub;

/// Messages not acknowledged at a time.
const PREFETCH: u16 = 256;

/// Listens until it is stopped. What cannot be read is passed over: it was a hint.
pub async fn listen(hub: Arc<Hub>, queue: Arc<dyn Queue>, stop: CancellationToken) {
    let mut consumer = tokio::select! {
        () = stop.cancelled() => return,
        consumer = queue.consume(Source::Streams, PREFETCH) => consumer,
    };
    loop {
        let deliveries = tokio::select! {
            () = stop.cancelled() => return,
            deliveries = consumer.next(usize::from(PREFETCH)) => deliveries,
        };
        if deliveries.is_empty() {
            return;
        }
        deliveries.iter().for_each(|delivery| take(&hub, delivery));
        let tags: Vec<Tag> = deliveries.iter().map(|delivery| delivery.tag).collect();
        consumer.ack(&tags).await;
    }
}

fn take(hub: &Hub, delivery: &Delivery) {
    match Message::decode(&delivery.body) {
        Ok(Message::Events(events)) => events.iter().for_each(|news| hub.news(&news.key, news.event)),
        Ok(other) => tracing::debug!(kind = other.kind(), "not news of events"),
        Err(error) => tracing::debug!(%error, "a hint that cannot be read"),
    }
}

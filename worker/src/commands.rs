//! Commands for any worker: sweeps to carry out, and what the broker gave up on.

use std::sync::Arc;
use std::time::Duration;

use holdpoint_db::{SweepSource, SweepStart};
use holdpoint_engine::ids::SweepId;
use holdpoint_engine::wire::{Message, SweepKind};
use holdpoint_queue::{Consumer, Delivery, Source};
use holdpoint_scheduler::Bounds;

use crate::{Worker, parking};

/// Consumes until the worker is stopped.
pub(crate) async fn run(worker: Arc<Worker>) {
    tokio::join!(sweeps(&worker), dead(&worker));
}

async fn sweeps(worker: &Worker) {
    let mut consumer = worker.queue.consume(Source::Sweeps, 4).await;
    while let Some(delivery) = next(worker, consumer.as_mut()).await {
        if carry_out(worker, &delivery).await {
            consumer.ack(&[delivery.tag]).await;
        }
    }
}

async fn dead(worker: &Worker) {
    let mut consumer = worker.queue.consume(Source::Dead, 16).await;
    while let Some(delivery) = next(worker, consumer.as_mut()).await {
        if parking::park(worker, &delivery, "the broker gave up on it".to_owned()).await {
            consumer.ack(&[delivery.tag]).await;
        } else {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn next(worker: &Worker, consumer: &mut dyn Consumer) -> Option<Delivery> {
    tokio::select! {
        () = worker.stop.cancelled() => None,
        mut deliveries = consumer.next(1) => deliveries.pop(),
    }
}

/// Whether the message is done with.
async fn carry_out(worker: &Worker, delivery: &Delivery) -> bool {
    match Message::decode(&delivery.body) {
        Ok(Message::Sweep { kind, id }) => {
            sweep(worker, kind, id).await;
            true
        }
        Ok(other) => {
            parking::park(worker, delivery, format!("`{}` does not belong here", other.kind())).await
        }
        Err(error) => parking::park(worker, delivery, error.to_string()).await,
    }
}

/// A pass that cannot be made now leaves its tick due: the scheduler sends it again.
async fn sweep(worker: &Worker, kind: SweepKind, id: SweepId) {
    let source = SweepSource::Scheduler;
    let start = SweepStart { id, kind, source, by: source.as_str().to_owned(), scope: None, dry_run: false };
    if let Err(error) = worker.sweeper.carry_out(start, Bounds::default()).await {
        tracing::warn!(sweep_id = %id, kind = kind.as_str(), %error, "sweep not carried out");
    }
}

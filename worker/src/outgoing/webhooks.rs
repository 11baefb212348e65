//! Webhooks: events become deliveries, one for each webhook that wants them, and deliveries
//! are attempted until they are taken or given up. Any worker attempts them.

use std::sync::Arc;
use std::time::Duration;

use holdpoint_db::{DeliveryOutcome, DeliveryReport, DueDelivery, failpoint};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::status::DisabledFor;
use holdpoint_perform::{WebhookAnswer, WebhookCall};
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{BATCH, Pass, Sender};
use crate::Worker;

/// How long an attempt may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// For how long nobody else takes a delivery: an attempt and its report.
const LEASE: Duration = Duration::from_secs(45);
/// Attempts at a time.
const SLOTS: usize = 64;
/// Only failures for so long, and a webhook is called no more.
const PATIENCE: Duration = Duration::from_secs(7 * 86_400);
/// How long deliveries are kept after their end.
const KEPT: Duration = Duration::from_secs(7 * 86_400);
/// Between looks for deliveries that were kept long enough.
const CLEANING: Duration = Duration::from_secs(60);

const MINUTE: u64 = 60;
const HOUR: u64 = 3_600;

/// Seconds from an attempt to the next, as the Standard Webhooks specification proposes them.
const SCHEDULE: &[u64] =
    &[5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 14 * HOUR, 20 * HOUR, 24 * HOUR];

/// Makes deliveries of events that are due.
pub(super) async fn fan_out(sender: &Sender) -> Pass {
    let made = sender.worker.db.hot(|store| store.webhook_fan_out(BATCH)).await;
    match made.and_then(|made| made) {
        Ok(0) => Pass::Done,
        Ok(_) => Pass::More,
        Err(error) => {
            tracing::warn!(%error, "events for webhooks are kept until later");
            Pass::Failed
        }
    }
}

/// Removes deliveries that ended long ago.
pub(super) async fn clean(sender: &Sender) -> Pass {
    let removed = sender.worker.db.hot(|store| store.delivery_clean(KEPT, BATCH)).await;
    match removed.and_then(|removed| removed) {
        Ok(BATCH) => Pass::More,
        _ => {
            sender.pause(CLEANING).await;
            Pass::Done
        }
    }
}

/// Attempts deliveries until the worker is stopped; what is under way then is ended.
pub(super) async fn deliver(sender: &Sender) {
    let worker = &sender.worker;
    let (slots, tasks) = (Arc::new(Semaphore::new(SLOTS)), TaskTracker::new());
    while !worker.stop.is_cancelled() {
        let limit = slots.available_permits();
        let due = worker.db.hot(move |store| store.delivery_claim(limit, LEASE)).await;
        let due = due.and_then(|due| due).unwrap_or_else(|error| {
            tracing::debug!(%error, "deliveries cannot be taken");
            Vec::new()
        });
        let idle = due.is_empty();
        for delivery in due {
            let Ok(permit) = Arc::clone(&slots).try_acquire_owned() else { break };
            let worker = Arc::clone(worker);
            tasks.spawn(async move {
                attempt(&worker, delivery).await;
                drop(permit);
            });
        }
        if idle {
            sender.pause(Duration::from_millis(worker.settings.events_poll_ms)).await;
        } else {
            // Until there is room again.
            drop(slots.acquire().await);
        }
    }
    tasks.close();
    tokio::select! {
        () = tasks.wait() => {}
        () = worker.hurry.cancelled() => {}
    }
}

async fn attempt(worker: &Worker, due: DueDelivery) {
    let outcome = outcome(worker, &due).await;
    failpoint::hit("worker.webhook.sent");
    let word = if outcome.delivered { "delivered" } else { "failed" };
    worker.metrics.webhook_attempts.with_label_values(&[word]).inc();
    let report = DeliveryReport { key: due.key.clone(), attempt: due.attempt, outcome };
    let reported = worker.db.hot(move |store| store.delivery_report(&report, PATIENCE)).await;
    match reported.and_then(|reported| reported) {
        Ok(Some(why)) => disabled(worker, &due, why),
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "an attempt is not noted, and will be made again"),
    }
}

fn disabled(worker: &Worker, due: &DueDelivery, why: DisabledFor) {
    let scope = &due.key.scope;
    worker.metrics.webhooks_disabled.with_label_values(&[why.as_str()]).inc();
    tracing::warn!(tenant = %scope.tenant, project = %scope.project, webhook = %due.key.webhook, reason = %why,
        "a webhook is called no more");
}

async fn outcome(worker: &Worker, due: &DueDelivery) -> DeliveryOutcome {
    let DueDelivery { key, url, .. } = due;
    let never = |error: &str| DeliveryOutcome {
        delivered: false,
        gone: false,
        response: None,
        error: Some(error.to_owned()),
        again: None,
    };
    let Some(body) = due.body.clone() else { return never("the execution is kept no longer") };
    let open = |sealed: &Vec<u8>| worker.performer.open_secret(&key.scope, key.webhook, sealed);
    let secrets: Vec<Vec<u8>> = due.secrets.iter().filter_map(open).collect();
    if secrets.len() != due.secrets.len() {
        let error = "the signing secret cannot be opened: outbound.seal_keys has not the key that sealed it";
        return DeliveryOutcome { again: again(due.attempt, None), ..never(error) };
    }
    let id = key.event.to_string();
    let call = WebhookCall { url: url.clone(), id, body, secrets, timeout: TIMEOUT };
    judge(worker.performer.deliver(&call).await, due.attempt)
}

fn judge(answer: WebhookAnswer, attempt: i32) -> DeliveryOutcome {
    let delivered = answer.error.is_none();
    DeliveryOutcome {
        delivered,
        gone: answer.status == Some(410),
        response: answer.status.map(i32::from),
        again: if delivered { None } else { again(attempt, answer.retry_after) },
        error: answer.error,
    }
}

/// The pause after a failed attempt, a tenth more at random; `None` after the last.
fn again(attempt: i32, wanted: Option<Duration>) -> Option<Duration> {
    let at = usize::try_from(attempt - 1).unwrap_or(0);
    let pause = Duration::from_secs(*SCHEDULE.get(at)?);
    let mut entropy = Entropy::from_seed(getrandom::u64().unwrap_or_default());
    let random = u32::from(entropy.bytes10()[0]);
    let longest = Duration::from_secs(24 * HOUR);
    Some((pause + pause / 10 * random / 255).max(wanted.unwrap_or_default()).min(longest.max(pause)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let first = again(1, None).expect("another");
        assert!((5.0..=5.5).contains(&first.as_secs_f64()), "{first:?}");
        let pauses: Vec<Duration> = (1..=9).filter_map(|attempt| again(attempt, None)).collect();
        assert_eq!(pauses.len(), 9);
        assert!(pauses.windows(2).all(|two| two[0] < two[1]), "{pauses:?}");
        assert_eq!(again(10, None), None);
        assert_eq!(again(1, Some(Duration::from_secs(60))), Some(Duration::from_secs(60)));
    }

    #[test]
    fn only_2xx_is_taken_and_410_is_for_ever() {
        let answered = |status: u16, error: Option<&str>| WebhookAnswer {
            status: Some(status),
            error: error.map(str::to_owned),
            retry_after: None,
        };
        let taken = judge(answered(204, None), 1);
        assert!(taken.delivered && taken.again.is_none() && !taken.gone);
        let moved = judge(answered(302, Some("moved")), 1);
        assert!(!moved.delivered && moved.again.is_some() && !moved.gone);
        assert!(judge(answered(410, Some("gone")), 1).gone);
    }
}

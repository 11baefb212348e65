//! Webhooks and their deliveries: what is made, taken, reported, disabled.

use std::sync::Barrier;
use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::{EventId, WebhookId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DeliveryStatus, DisabledFor};
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    a_webhook_is_kept_changed_and_removed;
    events_become_deliveries_for_whoever_wants_them;
    a_delivery_is_taken_by_one;
    a_failure_is_tried_again_and_a_late_report_is_nothing;
    one_that_is_gone_is_disabled_with_its_deliveries;
    one_that_only_fails_is_disabled_in_the_end;
    a_secret_is_rotated;
    a_test_is_delivered_without_an_execution;
    deliveries_are_cleaned_when_they_are_old;
}

const MINUTE: Duration = Duration::from_secs(60);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

fn document(types: &[&str]) -> WebhookDocument {
    WebhookDocument {
        url: "https://example.com/hook".to_owned(),
        description: "desk".to_owned(),
        types: types.iter().map(|kind| (*kind).to_owned()).collect(),
    }
}

fn make(bed: &Bed, scope: &Scope, types: &[&str]) -> WebhookId {
    let id = WebhookId(Uuid::now_v7());
    let new =
        NewWebhook { id, document: document(types), secret: vec![0, 7], created_by: "key_test".to_owned() };
    assert!(bed.store.webhook_create(scope, &new).unwrap().is_some());
    id
}

fn fan_out(bed: &Bed) {
    while bed.store.webhook_fan_out(2).unwrap() > 0 {}
}

fn take(bed: &Bed) -> Vec<DueDelivery> {
    bed.store.delivery_claim(100, MINUTE).unwrap()
}

fn kinds_of(bed: &Bed, id: WebhookId) -> Vec<String> {
    let mut rows = bed.store.delivery_list(&scope(), id, 100).unwrap();
    rows.sort_by_key(|row| row.kind.clone());
    rows.into_iter().map(|row| row.kind).collect()
}

fn failed(again: Option<Duration>) -> DeliveryOutcome {
    DeliveryOutcome {
        delivered: false,
        gone: false,
        response: Some(500),
        error: Some("500".to_owned()),
        again,
    }
}

fn delivered() -> DeliveryOutcome {
    DeliveryOutcome { delivered: true, response: Some(204), error: None, ..failed(None) }
}

fn report(store: &dyn Store, due: &DueDelivery, outcome: DeliveryOutcome) -> Option<DisabledFor> {
    let report = DeliveryReport { key: due.key.clone(), attempt: due.attempt, outcome };
    store.delivery_report(&report, WEEK).unwrap()
}

fn a_webhook_is_kept_changed_and_removed(bed: &Bed) {
    let store = bed.store.as_ref();
    let id = make(bed, &scope(), &[]);
    let row = store.webhook_get(&scope(), id).unwrap().unwrap();
    assert_eq!((&row.document, &row.secret), (&document(&[]), &vec![0, 7]));
    assert!(row.disabled.is_none() && row.failing_since.is_none() && row.old_secret.is_none());
    assert!(store.webhook_get(&stranger(), id).unwrap().is_none());
    let other = WebhookDocument { description: "other".to_owned(), ..document(&["holdpoint.x"]) };
    let change = WebhookChange::Document(other.clone());
    assert!(store.webhook_change(&stranger(), id, &change, "key_admin").unwrap().is_none());
    assert_eq!(store.webhook_change(&scope(), id, &change, "key_admin").unwrap().unwrap().document, other);
    let second = make(bed, &scope(), &[]);
    let listed: Vec<WebhookId> =
        store.webhook_list(&scope()).unwrap().into_iter().map(|row| row.id).collect();
    assert_eq!(listed, [id, second]);
    for _ in 2..MAX_WEBHOOKS {
        make(bed, &scope(), &[]);
    }
    let one_more = NewWebhook {
        id: WebhookId(Uuid::now_v7()),
        document: document(&[]),
        secret: vec![1],
        created_by: String::new(),
    };
    assert!(store.webhook_create(&scope(), &one_more).unwrap().is_none());
    assert!(!store.webhook_delete(&stranger(), id, "key_admin").unwrap());
    assert!(store.webhook_delete(&scope(), id, "key_admin").unwrap());
    assert!(!store.webhook_delete(&scope(), id, "key_admin").unwrap());
}

fn events_become_deliveries_for_whoever_wants_them(bed: &Bed) {
    let all = make(bed, &scope(), &[]);
    let some = make(bed, &scope(), &["holdpoint.approval.requested.v1"]);
    let off = make(bed, &scope(), &[]);
    bed.store.webhook_change(&scope(), off, &WebhookChange::Disable, "key_admin").unwrap();
    let theirs = make(bed, &stranger(), &[]);
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("c1")]);
    fan_out(bed);
    fan_out(bed);
    assert_eq!(
        kinds_of(bed, all),
        [
            "holdpoint.approval.requested.v1",
            "holdpoint.execution.started.v1",
            "holdpoint.execution.suspended.v1",
        ]
    );
    assert_eq!(kinds_of(bed, some), ["holdpoint.approval.requested.v1"]);
    assert!(kinds_of(bed, off).is_empty());
    assert!(bed.store.delivery_list(&stranger(), theirs, 100).unwrap().is_empty());
    let due = take(bed);
    assert_eq!(due.len(), 4);
    for one in due {
        let body: serde_json::Value = serde_json::from_str(&one.body.unwrap()).unwrap();
        assert_eq!(body["id"], one.key.event.to_string());
        assert_eq!(body["subject"], key.id.to_string());
        assert_eq!((one.attempt, one.secrets), (1, vec![vec![0, 7]]));
    }
}

fn a_delivery_is_taken_by_one(bed: &Bed) {
    make(bed, &scope(), &[]);
    for _ in 0..20 {
        waiting(bed.store.as_ref(), start(), &[Asked::open("c1")]);
    }
    fan_out(bed);
    let barrier = Barrier::new(4);
    let taken: Vec<DueDelivery> = std::thread::scope(|threads| {
        let take = || {
            barrier.wait();
            let mut all = Vec::new();
            for _ in 0..20 {
                all.extend(bed.store.delivery_claim(3, MINUTE).unwrap());
            }
            all
        };
        let parties: Vec<_> = (0..4).map(|_| threads.spawn(take)).collect();
        parties.into_iter().flat_map(|party| party.join().unwrap()).collect()
    });
    let mut keys: Vec<_> = taken.iter().map(|due| due.key.event).collect();
    keys.sort();
    keys.dedup();
    assert_eq!((taken.len(), keys.len()), (60, 60), "each is taken once");
    assert!(taken.iter().all(|due| due.attempt == 1));
}

fn a_failure_is_tried_again_and_a_late_report_is_nothing(bed: &Bed) {
    let store = bed.store.as_ref();
    let id = make(bed, &scope(), &["holdpoint.execution.started.v1"]);
    waiting(store, start(), &[Asked::open("c1")]);
    fan_out(bed);
    let first = bed.store.delivery_claim(10, Duration::ZERO).unwrap().remove(0);
    assert_eq!(report(store, &first, failed(Some(Duration::ZERO))), None);
    assert!(store.webhook_get(&scope(), id).unwrap().unwrap().failing_since.is_some());
    let second = take(bed).remove(0);
    assert_eq!(second.attempt, 2);
    report(store, &first, delivered());
    let row = || store.delivery_list(&scope(), id, 1).unwrap().remove(0);
    assert_eq!((row().status, row().response), (DeliveryStatus::Pending, Some(500)), "an old attempt");
    report(store, &second, delivered());
    assert_eq!((row().status, row().attempts), (DeliveryStatus::Delivered, 2));
    assert!(row().finished_at.is_some() && row().next_at.is_none());
    assert!(store.webhook_get(&scope(), id).unwrap().unwrap().failing_since.is_none(), "it works again");
    report(store, &second, failed(None));
    assert_eq!(row().status, DeliveryStatus::Delivered, "the end is the end");
}

fn one_that_is_gone_is_disabled_with_its_deliveries(bed: &Bed) {
    let store = bed.store.as_ref();
    let id = make(bed, &scope(), &[]);
    waiting(store, start(), &[Asked::open("c1")]);
    fan_out(bed);
    let due = take(bed).remove(0);
    let gone = DeliveryOutcome { gone: true, response: Some(410), ..failed(Some(MINUTE)) };
    assert_eq!(report(store, &due, gone), Some(DisabledFor::Gone));
    let row = store.webhook_get(&scope(), id).unwrap().unwrap();
    assert_eq!(row.disabled.unwrap().1, DisabledFor::Gone);
    let rows = store.delivery_list(&scope(), id, 10).unwrap();
    assert!(rows.len() == 3 && rows.iter().all(|row| row.status == DeliveryStatus::GivenUp), "{rows:?}");
    waiting(store, start(), &[Asked::open("c1")]);
    fan_out(bed);
    assert_eq!(store.delivery_list(&scope(), id, 10).unwrap().len(), 3, "nothing more is made");
    let enabled = store.webhook_change(&scope(), id, &WebhookChange::Enable, "key_admin").unwrap().unwrap();
    assert!(enabled.disabled.is_none() && enabled.failing_since.is_none());
}

fn one_that_only_fails_is_disabled_in_the_end(bed: &Bed) {
    let store = bed.store.as_ref();
    let id = make(bed, &scope(), &["holdpoint.execution.started.v1"]);
    waiting(store, start(), &[Asked::open("c1")]);
    fan_out(bed);
    let due = bed.store.delivery_claim(10, Duration::ZERO).unwrap().remove(0);
    assert_eq!(report(store, &due, failed(Some(Duration::ZERO))), None, "it has only begun to fail");
    let due = take(bed).remove(0);
    let late =
        DeliveryReport { key: due.key.clone(), attempt: due.attempt, outcome: failed(Some(Duration::ZERO)) };
    // On Postgres the clock is a week later; SQLite has no other clock, so patience is shorter.
    let why = match &bed.schema {
        Some(_) => bed.shifted(WEEK).delivery_report(&late, WEEK).unwrap(),
        None => store.delivery_report(&late, Duration::ZERO).unwrap(),
    };
    assert_eq!(why, Some(DisabledFor::Failing));
    assert_eq!(store.webhook_get(&scope(), id).unwrap().unwrap().disabled.unwrap().1, DisabledFor::Failing);
    assert!(take(bed).is_empty());
}

fn a_secret_is_rotated(bed: &Bed) {
    let store = bed.store.as_ref();
    let id = make(bed, &scope(), &[]);
    let rotate = |secret: u8, keep| {
        let change = WebhookChange::Secret { secret: vec![secret], keep };
        store.webhook_change(&scope(), id, &change, "key_admin").unwrap().unwrap()
    };
    assert_eq!(rotate(1, MINUTE).old_secret.unwrap().0, [0, 7]);
    let secrets = || {
        assert!(store.webhook_test(&scope(), id, EventId(Uuid::now_v7())).unwrap());
        take(bed).remove(0).secrets
    };
    assert_eq!(secrets(), [vec![1], vec![0, 7]], "both sign");
    rotate(2, Duration::ZERO);
    assert_eq!(secrets(), [vec![2]], "the old one's time is over");
}

fn a_test_is_delivered_without_an_execution(bed: &Bed) {
    let store = bed.store.as_ref();
    let id = make(bed, &scope(), &["holdpoint.execution.failed.v1"]);
    let event = EventId(Uuid::now_v7());
    assert!(!store.webhook_test(&stranger(), id, event).unwrap());
    assert!(store.webhook_test(&scope(), id, event).unwrap());
    let due = take(bed).remove(0);
    let body: serde_json::Value = serde_json::from_str(due.body.as_ref().unwrap()).unwrap();
    assert_eq!(body["type"], "holdpoint.webhook.test.v1");
    assert_eq!((due.key.event, &body["source"]), (event, &serde_json::json!("/holdpoint/acme/shop")));
    store.webhook_change(&scope(), id, &WebhookChange::Disable, "key_admin").unwrap();
    assert!(!store.webhook_test(&scope(), id, EventId(Uuid::now_v7())).unwrap(), "it is not called");
}

fn deliveries_are_cleaned_when_they_are_old(bed: &Bed) {
    let store = bed.store.as_ref();
    let id = make(bed, &scope(), &[]);
    for _ in 0..3 {
        store.webhook_test(&scope(), id, EventId(Uuid::now_v7())).unwrap();
    }
    let due = take(bed);
    report(store, &due[0], delivered());
    report(store, &due[1], failed(None));
    assert_eq!(store.delivery_clean(MINUTE, 10).unwrap(), 0, "too young");
    assert_eq!(store.delivery_clean(Duration::ZERO, 1).unwrap(), 1);
    assert_eq!(store.delivery_clean(Duration::ZERO, 10).unwrap(), 1);
    assert_eq!(store.delivery_list(&scope(), id, 10).unwrap().len(), 1, "what is pending stays");
}

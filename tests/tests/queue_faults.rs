//! What goes wrong with a broker, and what becomes of the queue then. Each test has a broker
//! of its own.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdpoint_queue::{Consumer, Delivery, Link, Outgoing, Queue, Route, SendError, Settings, Source, open};
use holdpoint_tests::private_broker::PrivateBroker;
use prometheus::Registry;
use tokio::time::timeout;

/// A test that waits so long has failed.
const SOON: Duration = Duration::from_secs(60);

fn settings(broker: &PrivateBroker) -> Settings {
    // The broker's disk may be slow.
    let (max_backoff_ms, confirm_timeout_ms) = (500, 15_000);
    Settings {
        url: broker.url(),
        prefix: "t".into(),
        max_backoff_ms,
        confirm_timeout_ms,
        ..Settings::default()
    }
}

async fn opened(settings: &Settings, registry: &Registry) -> Arc<dyn Queue> {
    let queue = open(settings, registry).unwrap();
    link_is(&queue, Link::Up).await;
    queue
}

async fn link_is(queue: &Arc<dyn Queue>, wanted: Link) {
    let mut link = queue.link();
    timeout(SOON, link.wait_for(|link| *link == wanted)).await.expect("in time").unwrap();
}

/// Runs something that blocks (a process) beside the runtime.
async fn beside<T: Send + 'static>(
    mut broker: PrivateBroker,
    act: impl FnOnce(&mut PrivateBroker) -> T + Send + 'static,
) -> (PrivateBroker, T) {
    let acting = tokio::task::spawn_blocking(move || {
        let done = act(&mut broker);
        (broker, done)
    });
    acting.await.unwrap()
}

async fn started() -> PrivateBroker {
    tokio::task::spawn_blocking(PrivateBroker::start).await.unwrap()
}

fn message(route: Route, id: impl ToString) -> Outgoing {
    Outgoing::new(route, "test", id.to_string(), "{}")
}

fn sweep(id: impl ToString) -> Outgoing {
    message(Route::Sweeps, id)
}

async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = timeout(SOON, consumer.next(count - taken.len())).await.expect("messages in time");
        assert!(!next.is_empty(), "the queue is closed");
        taken.extend(next);
    }
    taken
}

/// Sends until it is confirmed, as a caller would.
async fn send_until_confirmed(queue: &Arc<dyn Queue>, id: &str) {
    until("it is confirmed", || async { queue.send(vec![sweep(id)]).await == [Ok(())] }).await;
}

/// Takes and acknowledges until this one comes.
async fn take_until(consumer: &mut Box<dyn Consumer>, id: &str) {
    loop {
        let came = take(consumer, 1).await;
        consumer.ack(&[came[0].tag]).await;
        if came[0].message_id.as_deref() == Some(id) {
            return;
        }
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let begun = Instant::now();
    while !look().await {
        assert!(begun.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn count(registry: &Registry, name: &str) -> f64 {
    let families = registry.gather();
    let family = families.iter().find(|family| family.name() == name).expect("a metric of that name");
    let value = |metric: &prometheus::proto::Metric| {
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    };
    family.get_metric().iter().map(value).sum()
}

/// What stands on the broker, seen by somebody else.
async fn on_the_side(broker: &PrivateBroker) -> (lapin::Connection, lapin::Channel) {
    let connection = lapin::Connection::connect(&broker.url(), Default::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_broker_loses_nothing_confirmed_and_all_recover() {
    let (broker, registry) = (started().await, Registry::new());
    let queue = opened(&settings(&broker), &registry).await;
    let mut sweeps = queue.consume(Source::Sweeps, 100).await;
    let mut streams = queue.consume(Source::Streams, 10).await;
    sweeps.set_active(false).await;
    let sent = queue.send((0..50).map(sweep).collect()).await;
    assert!(sent.iter().all(Result::is_ok));

    let (broker, ()) = beside(broker, |broker| broker.sync_registry()).await;
    let (broker, ()) = beside(broker, PrivateBroker::kill9).await;
    link_is(&queue, Link::Down).await;
    assert_eq!(count(&registry, "holdpoint_broker_up"), 0.0);
    assert_eq!(queue.send(vec![sweep("lost")]).await, [Err(SendError::Disconnected)]);
    queue.nudge(message(Route::Streams, "dropped"));
    until("the hint is dropped", || async { count(&registry, "holdpoint_queue_dropped_hints_total") == 1.0 })
        .await;
    // One opened now finds the broker as soon as it is there.
    let late_registry = Registry::new();
    let late = open(&settings(&broker), &late_registry).unwrap();

    let (_broker, _) = beside(broker, PrivateBroker::start_again).await;
    link_is(&queue, Link::Up).await;
    link_is(&late, Link::Up).await;
    assert_eq!(count(&registry, "holdpoint_queue_reconnects_total"), 2.0);
    sweeps.set_active(true).await;
    let came = take(&mut sweeps, 50).await;
    let ids: Vec<_> = came.iter().map(|one| one.message_id.clone().unwrap()).collect();
    assert_eq!(ids, (0..50).map(|n| n.to_string()).collect::<Vec<_>>());
    send_until_confirmed(&late, "after").await;
    take_until(&mut sweeps, "after").await;
    // The exclusive queue went with its connection, and was declared anew.
    until("the stream server hears again", || async {
        queue.send(vec![message(Route::Streams, "heard")]).await == [Ok(())]
    })
    .await;
    assert_eq!(take(&mut streams, 1).await[0].message_id.as_deref(), Some("heard"));
    late.close().await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closed_connections_are_made_again_and_old_tags_are_void() {
    let (broker, registry) = (started().await, Registry::new());
    let queue = opened(&settings(&broker), &registry).await;
    let mut consumer = queue.consume(Source::Sweeps, 10).await;
    send_until_confirmed(&queue, "held").await;
    let held = take(&mut consumer, 1).await;

    let (_broker, _) = beside(broker, |broker| broker.ctl(&["close_all_connections", "test"])).await;
    until("both connections are made again", || async {
        count(&registry, "holdpoint_queue_reconnects_total") == 2.0 && *queue.link().borrow() == Link::Up
    })
    .await;
    // It comes again, and its old tag, sent meanwhile, acknowledges nothing and kills nothing.
    consumer.ack(&[held[0].tag]).await;
    let again = take(&mut consumer, 1).await;
    assert_eq!((again[0].message_id.as_deref(), again[0].redelivered), (Some("held"), true));
    consumer.ack(&[held[0].tag]).await;
    consumer.ack(&[again[0].tag]).await;
    send_until_confirmed(&queue, "next").await;
    assert_eq!(take(&mut consumer, 1).await[0].message_id.as_deref(), Some("next"));
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purged_or_deleted_queue_goes_on() {
    let (broker, registry) = (started().await, Registry::new());
    let queue = opened(&settings(&broker), &registry).await;
    let (_side, channel) = on_the_side(&broker).await;
    let mut sweeps = queue.consume(Source::Sweeps, 10).await;
    let mut workers = queue.consume(Source::Workers, 10).await;

    for name in ["t.sweeps", "t.advance"] {
        channel.queue_purge(name.into(), Default::default()).await.unwrap();
    }
    send_until_confirmed(&queue, "after the purge").await;
    take_until(&mut sweeps, "after the purge").await;

    for name in ["t.sweeps", "t.advance"] {
        channel.queue_delete(name.into(), Default::default()).await.unwrap();
    }
    send_until_confirmed(&queue, "after the deletion").await;
    take_until(&mut sweeps, "after the deletion").await;
    let hinting = async {
        loop {
            queue.nudge(message(Route::Workers, "hint"));
            if timeout(Duration::from_millis(100), workers.next(1)).await.is_ok() {
                break;
            }
        }
    };
    timeout(SOON, hinting).await.expect("hints come again");
    assert_eq!(
        count(&registry, "holdpoint_queue_reconnects_total"),
        0.0,
        "the connections were not at fault"
    );
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_without_consumers_is_declared_again() {
    let (broker, registry) = (started().await, Registry::new());
    let queue = opened(&settings(&broker), &registry).await;
    let (_side, channel) = on_the_side(&broker).await;
    channel.queue_delete("t.sweeps".into(), Default::default()).await.unwrap();
    assert_eq!(queue.send(vec![sweep(1)]).await, [Err(SendError::Unroutable)]);
    send_until_confirmed(&queue, "again").await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_stalls_sending_but_not_consuming() {
    let (broker, registry) = (started().await, Registry::new());
    let settings = Settings { confirm_timeout_ms: 2_000, ..settings(&broker) };
    let queue = opened(&settings, &registry).await;
    let mut consumer = queue.consume(Source::Sweeps, 2).await;
    for n in 0..20 {
        send_until_confirmed(&queue, &n.to_string()).await;
    }

    let alarm = |level: &'static str| {
        move |broker: &mut PrivateBroker| broker.ctl(&["set_vm_memory_high_watermark", level])
    };
    let (broker, _) = beside(broker, alarm("0.0000001")).await;
    // It takes the broker a moment to notice; what gets through until then is confirmed.
    let limit = Duration::from_millis(settings.confirm_timeout_ms);
    until("the alarm is felt", || async {
        queue.send(vec![sweep("early")]).await == [Err(SendError::TimedOut(limit))]
    })
    .await;
    for _ in 0..2 {
        let begun = Instant::now();
        assert_eq!(queue.send(vec![sweep("stalled")]).await, [Err(SendError::TimedOut(limit))]);
        assert!(begun.elapsed() < limit * 2, "{:?}", begun.elapsed());
    }
    // Each of these needs the acknowledgement of one before it to reach the broker.
    for _ in 0..20 {
        let came = take(&mut consumer, 1).await;
        consumer.ack(&[came[0].tag]).await;
    }
    until("hints are dropped meanwhile", || async {
        queue.nudge(message(Route::Workers, "dropped"));
        count(&registry, "holdpoint_queue_dropped_hints_total") > 0.0
    })
    .await;

    let (_broker, _) = beside(broker, alarm("0.4")).await;
    send_until_confirmed(&queue, "after").await;
    take_until(&mut consumer, "after").await;
    assert_eq!(
        count(&registry, "holdpoint_queue_reconnects_total"),
        0.0,
        "the connections were not at fault"
    );
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_stands_otherwise_keeps_the_link_down_without_a_hot_loop() {
    let (broker, registry) = (started().await, Registry::new());
    let (_side, channel) = on_the_side(&broker).await;
    channel.queue_declare("t.sweeps".into(), Default::default(), Default::default()).await.unwrap();
    let begun = Instant::now();
    let queue = open(&settings(&broker), &registry).unwrap();
    let mut consumer = queue.consume(Source::Sweeps, 1).await;
    assert!(timeout(Duration::from_secs(3), async { link_is(&queue, Link::Up).await }).await.is_err());
    // Two connections, pauses of 50 to 500 ms with jitter: some ten tries each in three seconds.
    let tried = || log_lines(&broker, "inequivalent arg");
    until("both are tried", || async { tried() >= 2 }).await;
    let (tried, most) = (tried() as f64, 20.0 * begun.elapsed().as_secs_f64());
    assert!(tried < most, "{tried} tries of {most}");
    assert_eq!(queue.send(vec![sweep(1)]).await, [Err(SendError::Disconnected)]);

    channel.queue_delete("t.sweeps".into(), Default::default()).await.unwrap();
    link_is(&queue, Link::Up).await;
    send_until_confirmed(&queue, "at last").await;
    take_until(&mut consumer, "at last").await;
    queue.close().await;
}

fn log_lines(broker: &PrivateBroker, containing: &str) -> usize {
    broker.log().lines().filter(|line| line.contains(containing)).count()
}

//! What every queue promises, tried on the one in the process and on RabbitMQ.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdpoint_engine::ids::SessionId;
use holdpoint_queue::{
    Consumer, Delivery, Link, Outgoing, Queue, Route, SendError, Settings, Source, Tag, open,
};
use prometheus::Registry;
use tokio::time::timeout;
use uuid::Uuid;

/// A test that waits so long has failed.
const SOON: Duration = Duration::from_secs(30);

/// A queue of one test's own.
struct Bench {
    queue: Arc<dyn Queue>,
    registry: Registry,
    settings: Settings,
}

impl Bench {
    async fn open(settings: Settings) -> Self {
        let registry = Registry::new();
        let queue = open(&settings, &registry).unwrap();
        let bench = Self { queue, registry, settings };
        bench.link_is(Link::Up).await;
        bench
    }

    async fn memory() -> Self {
        Self::open(Settings::default()).await
    }

    async fn rabbit() -> Self {
        Self::open(on_rabbit()).await
    }

    async fn link_is(&self, wanted: Link) {
        let mut link = self.queue.link();
        timeout(SOON, link.wait_for(|link| *link == wanted)).await.expect("in time").unwrap();
    }

    /// What a counter, summed over its labels, has come to.
    fn count(&self, name: &str) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        metrics.iter().map(|metric| metric.get_counter().get_value()).sum()
    }
}

fn on_rabbit() -> Settings {
    let url =
        std::env::var("AMQP_URL").expect("AMQP_URL is not set: run the tests by ./test, or name a broker");
    // The broker's disk may be slow: what is not confirmed in time is no fault of the queue's.
    let confirm_timeout_ms = 20_000;
    let prefix = format!("t{}", Uuid::now_v7().simple());
    Settings { url, prefix, confirm_timeout_ms, ..Settings::default() }
}

fn sweep(id: impl ToString) -> Outgoing {
    outgoing(Route::Sweeps, id)
}

fn outgoing(route: Route, id: impl ToString) -> Outgoing {
    let id = id.to_string();
    let body = format!("body of {id}");
    Outgoing::new(route, "test", id, body)
}

fn session() -> SessionId {
    SessionId(Uuid::now_v7())
}

async fn send_all(queue: &Arc<dyn Queue>, messages: Vec<Outgoing>) {
    for result in queue.send(messages).await {
        assert_eq!(result, Ok(()));
    }
}

/// Takes exactly so many, in whatever portions they come.
async fn take(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Delivery> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = timeout(SOON, consumer.next(count - taken.len())).await.expect("messages in time");
        assert!(!next.is_empty(), "the queue is closed");
        taken.extend(next);
    }
    taken
}

fn ids(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(|delivery| delivery.message_id.clone().unwrap()).collect()
}

fn tags(deliveries: &[Delivery]) -> Vec<Tag> {
    deliveries.iter().map(|delivery| delivery.tag).collect()
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    let begun = Instant::now();
    while !look().await {
        assert!(begun.elapsed() < SOON, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn what_is_sent_arrives_once_and_as_it_was(bench: &Bench) {
    let results = bench.queue.send((0..3).map(sweep).collect()).await;
    assert_eq!(results, [Ok(()), Ok(()), Ok(())]);
    let mut consumer = bench.queue.consume(Source::Sweeps, 10).await;
    let came = take(&mut consumer, 3).await;
    assert_eq!(ids(&came), numbers(0..3));
    for one in &came {
        assert_eq!(one.kind.as_deref(), Some("test"));
        assert_eq!(one.body, format!("body of {}", one.message_id.as_deref().unwrap()));
        assert!(!one.redelivered && one.queue.starts_with(&bench.settings.prefix));
    }
    assert_eq!(bench.count("holdpoint_queue_published_total"), 3.0);
    assert_eq!(bench.count("holdpoint_queue_consumed_total"), 3.0);
}

async fn a_queue_keeps_its_order(bench: &Bench) {
    for begin in (0..500).step_by(100) {
        send_all(&bench.queue, (begin..begin + 100).map(sweep).collect()).await;
    }
    let mut consumer = bench.queue.consume(Source::Sweeps, 1_000).await;
    assert_eq!(ids(&take(&mut consumer, 500).await), numbers(0..500));
}

async fn next_gives_at_most_what_was_asked(bench: &Bench) {
    send_all(&bench.queue, (0..5).map(sweep).collect()).await;
    let mut consumer = bench.queue.consume(Source::Sweeps, 10).await;
    for _ in 0..5 {
        assert_eq!(timeout(SOON, consumer.next(1)).await.unwrap().len(), 1);
    }
}

async fn a_hint_goes_to_one_worker(bench: &Bench) {
    let mut one = bench.queue.consume(Source::Workers, 1).await;
    let mut other = bench.queue.consume(Source::Workers, 1).await;
    (0..20).for_each(|n| bench.queue.nudge(outgoing(Route::Workers, n)));
    let mut seen = Vec::new();
    while seen.len() < 20 {
        let came = timeout(SOON, async {
            tokio::select! { came = one.next(9) => (true, came), came = other.next(9) => (false, came) }
        });
        let (first, came) = came.await.expect("hints in time");
        seen.extend(ids(&came));
        if first { one.ack(&tags(&came)).await } else { other.ack(&tags(&came)).await }
    }
    assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), numbers(0..20).into_iter().collect());
}

async fn every_stream_server_gets_a_copy(bench: &Bench) {
    let mut one = bench.queue.consume(Source::Streams, 10).await;
    let mut other = bench.queue.consume(Source::Streams, 10).await;
    (0..3).for_each(|n| bench.queue.nudge(outgoing(Route::Streams, n)));
    for consumer in [&mut one, &mut other] {
        assert_eq!(ids(&take(consumer, 3).await), numbers(0..3));
    }
}

async fn a_holder_gets_only_its_own(bench: &Bench) {
    let (mine, yours) = (session(), session());
    let mut my = bench.queue.consume(Source::Holder(mine), 10).await;
    let mut your = bench.queue.consume(Source::Holder(yours), 10).await;
    for (route, id) in [(mine, "a"), (yours, "b"), (mine, "c"), (yours, "d")] {
        bench.queue.nudge(outgoing(Route::Holder(route), id));
    }
    assert_eq!(ids(&take(&mut my, 2).await), ["a", "c"]);
    assert_eq!(ids(&take(&mut your, 2).await), ["b", "d"]);
}

async fn an_own_queue_goes_with_its_consumer(bench: &Bench) {
    let consumer = bench.queue.consume(Source::Streams, 10).await;
    send_all(&bench.queue, vec![outgoing(Route::Streams, "heard")]).await;
    drop(consumer);
    until("the queue is gone", || async {
        bench.queue.send(vec![outgoing(Route::Streams, "unheard")]).await == [Err(SendError::Unroutable)]
    })
    .await;
}

async fn only_what_was_not_acknowledged_comes_back(bench: &Bench) {
    send_all(&bench.queue, (0..6).map(sweep).collect()).await;
    let mut consumer = bench.queue.consume(Source::Sweeps, 10).await;
    let came = take(&mut consumer, 6).await;
    // Out of order, with a gap, and one of them twice.
    consumer.ack(&[came[4].tag, came[0].tag, came[1].tag, came[4].tag]).await;
    drop(consumer);
    let mut next = bench.queue.consume(Source::Sweeps, 10).await;
    let again = take(&mut next, 3).await;
    assert_eq!(ids(&again).into_iter().collect::<BTreeSet<_>>(), ["2", "3", "5"].map(str::to_owned).into());
    assert!(again.iter().all(|one| one.redelivered));
    next.ack(&tags(&again)).await;
    send_all(&bench.queue, vec![sweep("last")]).await;
    assert_eq!(ids(&take(&mut next, 1).await), ["last"]);
}

async fn no_more_than_the_prefetch_is_out(bench: &Bench) {
    send_all(&bench.queue, (0..5).map(sweep).collect()).await;
    let mut full = bench.queue.consume(Source::Sweeps, 3).await;
    let held = take(&mut full, 3).await;
    let mut other = bench.queue.consume(Source::Sweeps, 10).await;
    assert_eq!(ids(&take(&mut other, 2).await), numbers(3..5));
    // With room again it takes on; the other one has been told to take nothing.
    other.set_active(false).await;
    full.ack(&tags(&held)).await;
    send_all(&bench.queue, vec![sweep(5)]).await;
    assert_eq!(ids(&take(&mut full, 1).await), ["5"]);
}

async fn one_that_stops_leaves_the_unseen_to_others(bench: &Bench) {
    send_all(&bench.queue, (0..5).map(sweep).collect()).await;
    let mut first = bench.queue.consume(Source::Sweeps, 10).await;
    let mine = take(&mut first, 1).await;
    first.set_active(false).await;
    let mut second = bench.queue.consume(Source::Sweeps, 10).await;
    let rest = take(&mut second, 4).await;
    assert_eq!(ids(&rest), numbers(1..5));
    // What it had seen is still its own to acknowledge.
    first.ack(&tags(&mine)).await;
    second.ack(&tags(&rest)).await;
    drop(second);
    first.set_active(true).await;
    send_all(&bench.queue, vec![sweep("new")]).await;
    assert_eq!(ids(&take(&mut first, 1).await), ["new"]);
}

async fn next_can_be_cancelled_without_loss(bench: &Bench) {
    let mut consumer = bench.queue.consume(Source::Sweeps, 1_000).await;
    let queue = bench.queue.clone();
    let sending = tokio::spawn(async move {
        for n in 0..100 {
            send_all(&queue, vec![sweep(n)]).await;
        }
    });
    let (mut seen, begun) = (Vec::new(), Instant::now());
    while seen.len() < 100 {
        // Each of them is confirmed before the next is sent.
        assert!(begun.elapsed() < SOON * 4, "only {seen:?}");
        // Cancelled again and again, also in the very moment in which something comes.
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            came = consumer.next(3) => seen.extend(ids(&came)),
        }
        if let Ok(came) = timeout(Duration::from_micros(200), consumer.next(3)).await {
            seen.extend(ids(&came));
        }
    }
    sending.await.unwrap();
    assert_eq!(seen, numbers(0..100));
}

async fn each_unroutable_message_is_told_and_no_other(bench: &Bench) {
    let nobody = session();
    let messages: Vec<_> =
        (0..200).map(|n| if n % 3 == 0 { outgoing(Route::Holder(nobody), n) } else { sweep(n) }).collect();
    let results = bench.queue.send(messages).await;
    for (n, result) in results.iter().enumerate() {
        let wanted = if n % 3 == 0 { Err(SendError::Unroutable) } else { Ok(()) };
        assert_eq!(result, &wanted, "message {n}");
    }
    assert_eq!(results.len(), 200);
    assert_eq!(bench.count("holdpoint_queue_confirm_failures_total"), 67.0);
}

async fn a_hint_for_nobody_is_no_error(bench: &Bench) {
    bench.queue.nudge(outgoing(Route::Holder(session()), "nobody"));
    bench.queue.nudge(outgoing(Route::Streams, "nobody"));
    let mut workers = bench.queue.consume(Source::Workers, 1).await;
    bench.queue.nudge(outgoing(Route::Workers, "somebody"));
    assert_eq!(ids(&take(&mut workers, 1).await), ["somebody"]);
    assert_eq!(bench.count("holdpoint_queue_dropped_hints_total"), 0.0);
}

async fn an_event_for_nobody_is_no_error_and_a_reply_for_nobody_is(bench: &Bench) {
    let to = |route, id: &str, address: &str| Outgoing { address: address.to_owned(), ..outgoing(route, id) };
    let nowhere = format!("nobody-{}", Uuid::now_v7());
    let ours = format!("{}.sweeps", bench.settings.prefix);
    let messages = vec![
        to(Route::Event, "1", "tenant.execution.completed"),
        to(Route::Reply, "2", &nowhere),
        to(Route::Reply, "3", &ours),
        sweep("4"),
    ];
    let gone = Err(SendError::Unroutable);
    assert_eq!(bench.queue.send(messages).await, [Ok(()), gone.clone(), gone, Ok(())]);
    let mut consumer = bench.queue.consume(Source::Sweeps, 10).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["4"]);
}

async fn a_task_for_a_queue_that_is_not_there_comes_back(bench: &Bench) {
    let to = |id: &str, address: String| Outgoing { address, ..outgoing(Route::Task, id) };
    let nobody = format!("nobody-{}", Uuid::now_v7());
    let ours = format!("{}.sweeps", bench.settings.prefix);
    let sent = bench.queue.send(vec![to("1", nobody), to("2", ours), sweep("3")]).await;
    assert_eq!(sent, [Err(SendError::Unroutable), Err(SendError::Unroutable), Ok(())]);
    let mut consumer = bench.queue.consume(Source::Sweeps, 10).await;
    assert_eq!(ids(&take(&mut consumer, 1).await), ["3"]);
}

async fn what_comes_back_too_often_is_dead(bench: &Bench) {
    send_all(&bench.queue, vec![sweep("killer")]).await;
    let mut dead = bench.queue.consume(Source::Dead, 1).await;
    let mut attempts = 0;
    let buried = loop {
        let mut consumer = bench.queue.consume(Source::Sweeps, 1).await;
        let came = timeout(SOON, async {
            tokio::select! { _ = consumer.next(1) => None, buried = dead.next(1) => Some(buried) }
        });
        match came.await.expect("somebody gets it") {
            None => attempts += 1,
            Some(buried) => break buried,
        }
    };
    assert_eq!((attempts, ids(&buried)), (21, vec!["killer".to_owned()]));
    assert_eq!(buried[0].headers["x-first-death-reason"], "delivery_limit");
    assert_eq!(buried[0].headers["x-first-death-queue"], format!("{}.sweeps", bench.settings.prefix));
}

async fn a_closed_queue_says_so(bench: &Bench) {
    let mut consumer = bench.queue.consume(Source::Sweeps, 1).await;
    let (ended, ()) = tokio::join!(consumer.next(1), bench.queue.close());
    assert!(ended.is_empty());
    assert!(consumer.next(1).await.is_empty());
    assert_eq!(bench.queue.send(vec![sweep(1)]).await, [Err(SendError::Disconnected)]);
    bench.queue.nudge(outgoing(Route::Workers, "late"));
    assert_eq!(bench.count("holdpoint_queue_dropped_hints_total"), 1.0);
    bench.link_is(Link::Down).await;
}

async fn closing_flushes_what_was_given_before(bench: &Bench) {
    send_all(&bench.queue, (0..2).map(sweep).collect()).await;
    let mut consumer = bench.queue.consume(Source::Sweeps, 10).await;
    let came = take(&mut consumer, 2).await;
    (0..50).for_each(|n| bench.queue.nudge(outgoing(Route::Workers, n)));
    consumer.ack(&tags(&came)).await;
    bench.queue.close().await;
    assert_eq!(bench.count("holdpoint_queue_published_total"), 52.0);
}

macro_rules! conform {
    ($($name:ident,)*) => {
        mod memory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let bench = super::Bench::memory().await;
                super::$name(&bench).await;
                bench.queue.close().await;
            })*
        }
        mod rabbit {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let bench = super::Bench::rabbit().await;
                super::$name(&bench).await;
                bench.queue.close().await;
                super::remove_queues(&bench.settings).await;
            })*
        }
    };
}

conform! {
    what_is_sent_arrives_once_and_as_it_was,
    a_queue_keeps_its_order,
    next_gives_at_most_what_was_asked,
    a_hint_goes_to_one_worker,
    every_stream_server_gets_a_copy,
    a_holder_gets_only_its_own,
    an_own_queue_goes_with_its_consumer,
    only_what_was_not_acknowledged_comes_back,
    no_more_than_the_prefetch_is_out,
    one_that_stops_leaves_the_unseen_to_others,
    next_can_be_cancelled_without_loss,
    each_unroutable_message_is_told_and_no_other,
    a_hint_for_nobody_is_no_error,
    an_event_for_nobody_is_no_error_and_a_reply_for_nobody_is,
    a_task_for_a_queue_that_is_not_there_comes_back,
    what_comes_back_too_often_is_dead,
    a_closed_queue_says_so,
    closing_flushes_what_was_given_before,
}

/// Leaves nothing of a test on a shared broker, as far as the broker lets it.
async fn remove_queues(settings: &Settings) {
    let connection = connect(settings).await;
    let channel = connection.create_channel().await.unwrap();
    for queue in ["advance", "sweeps", "commands", "dead"] {
        let name = format!("{}.{queue}", settings.prefix);
        let _ = channel.queue_delete(name.into(), Default::default()).await;
    }
    for exchange in ["notify", "commands", "events", "dead"] {
        let name = format!("{}.{exchange}", settings.prefix);
        let _ = channel.exchange_delete(name.into(), Default::default()).await;
    }
    let _ = connection.close(200, "done".into()).await;
}

async fn connect(settings: &Settings) -> lapin::Connection {
    lapin::Connection::connect(&settings.url, lapin::ConnectionProperties::default()).await.unwrap()
}

#[tokio::test]
async fn hints_beyond_the_bound_are_dropped_and_counted() {
    let bench = Bench::open(Settings { hint_buffer: 10, ..Settings::default() }).await;
    (0..13).for_each(|n| bench.queue.nudge(outgoing(Route::Workers, n)));
    assert_eq!(bench.count("holdpoint_queue_dropped_hints_total"), 3.0);
    let mut consumer = bench.queue.consume(Source::Workers, 20).await;
    assert_eq!(ids(&take(&mut consumer, 10).await), numbers(0..10));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_nothing_waits() {
    // Nobody listens on this port, and nobody takes it meanwhile.
    let settings = Settings { url: "amqp://127.0.0.1:9".to_owned(), ..on_rabbit() };
    let registry = Registry::new();
    let begun = Instant::now();
    let queue = open(&settings, &registry).unwrap();
    let bench = Bench { queue, registry, settings };
    let mut consumer = bench.queue.consume(Source::Workers, 1).await;
    assert_eq!(*bench.queue.link().borrow(), Link::Down);
    assert_eq!(bench.queue.send(vec![sweep(1)]).await, [Err(SendError::Disconnected)]);
    bench.queue.nudge(outgoing(Route::Workers, 1));
    until("the hint is dropped", || async { bench.count("holdpoint_queue_dropped_hints_total") == 1.0 })
        .await;
    let (ended, ()) = tokio::join!(consumer.next(1), bench.queue.close());
    assert!(ended.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(5), "something waited for the broker");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_message_is_taken_as_it_is() {
    use lapin::types::{AMQPValue, FieldTable};
    let bench = Bench::rabbit().await;
    let connection = connect(&bench.settings).await;
    let channel = connection.create_channel().await.unwrap();
    let mut headers = FieldTable::default();
    headers.insert("count".into(), AMQPValue::LongLongInt(7));
    headers.insert("name".into(), AMQPValue::LongString("x".into()));
    let with_headers = lapin::BasicProperties::default().with_headers(headers);
    for properties in [lapin::BasicProperties::default(), with_headers] {
        let queue = format!("{}.sweeps", bench.settings.prefix);
        let options = lapin::options::BasicPublishOptions::default();
        channel.basic_publish("".into(), queue.into(), options, b"\xff\x00", properties).await.unwrap();
    }
    let mut consumer = bench.queue.consume(Source::Sweeps, 10).await;
    let came = take(&mut consumer, 2).await;
    for one in &came {
        assert_eq!((&one.kind, &one.message_id, &one.body[..]), (&None, &None, &b"\xff\x00"[..]));
    }
    assert_eq!((came[1].headers["count"].as_str(), came[1].headers["name"].as_str()), ("7", "x"));
    connection.close(200, "done".into()).await.unwrap();
    bench.queue.close().await;
    remove_queues(&bench.settings).await;
}

/// A queue of a stranger, bound to an exchange of ours if there is a key.
async fn foreign_queue(channel: &lapin::Channel, settings: &Settings, key: Option<&str>) -> lapin::Consumer {
    let options = lapin::options::QueueDeclareOptions { exclusive: true, ..Default::default() };
    let name = format!("foreign-{}", Uuid::now_v7());
    let queue = channel.queue_declare(name.as_str().into(), options, Default::default()).await.unwrap();
    let name = queue.name().clone();
    if let Some(key) = key {
        let exchange = format!("{}.events", settings.prefix);
        let bound = Default::default();
        channel
            .queue_bind(name.clone(), exchange.into(), key.into(), bound, Default::default())
            .await
            .unwrap();
    }
    let options = lapin::options::BasicConsumeOptions { no_ack: true, ..Default::default() };
    channel.basic_consume(name, "".into(), options, Default::default()).await.unwrap()
}

/// The next message that a stranger gets.
async fn heard(consumer: &mut lapin::Consumer) -> lapin::message::Delivery {
    use futures_util::StreamExt;
    timeout(SOON, consumer.next()).await.expect("in time").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producers_command_is_taken_and_answered() {
    let bench = Bench::rabbit().await;
    let connection = connect(&bench.settings).await;
    let channel = connection.create_channel().await.unwrap();
    let mut answers = foreign_queue(&channel, &bench.settings, None).await;
    let properties = lapin::BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_reply_to(answers.queue())
        .with_correlation_id("c7".into())
        .with_app_id("shop".into());
    let exchange = format!("{}.commands", bench.settings.prefix);
    let options = lapin::options::BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), "any.key".into(), options, b"{}", properties).await.unwrap();
    let mut commands = bench.queue.consume(Source::Commands, 10).await;
    let came = take(&mut commands, 1).await.remove(0);
    let asked = (came.content_type.as_deref(), came.correlation_id.as_deref(), came.app_id.as_deref());
    assert_eq!(asked, (Some("application/cloudevents+json"), Some("c7"), Some("shop")));
    let reply = Outgoing {
        address: came.reply_to.unwrap(),
        correlation_id: came.correlation_id,
        ..outgoing(Route::Reply, "r1")
    };
    assert_eq!(bench.queue.send(vec![reply]).await, [Ok(())]);
    let answer = heard(&mut answers).await;
    assert_eq!(answer.properties.correlation_id().as_ref().unwrap().as_str(), "c7");
    assert_eq!(answer.data, b"body of r1");
    connection.close(200, "done".into()).await.unwrap();
    bench.queue.close().await;
    remove_queues(&bench.settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_direct_reply_arrives_and_is_no_error() {
    let bench = Bench::rabbit().await;
    let connection = connect(&bench.settings).await;
    let channel = connection.create_channel().await.unwrap();
    let options = lapin::options::BasicConsumeOptions { no_ack: true, ..Default::default() };
    let direct = "amq.rabbitmq.reply-to";
    let mut answers =
        channel.basic_consume(direct.into(), "".into(), options, Default::default()).await.unwrap();
    let properties = lapin::BasicProperties::default().with_reply_to(direct.into());
    let exchange = format!("{}.commands", bench.settings.prefix);
    let options = lapin::options::BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), "k".into(), options, b"{}", properties).await.unwrap();
    let mut commands = bench.queue.consume(Source::Commands, 10).await;
    let address = take(&mut commands, 1).await.remove(0).reply_to.unwrap();
    let reply = Outgoing { address, ..outgoing(Route::Reply, "r1") };
    assert_eq!(bench.queue.send(vec![reply]).await, [Ok(())]);
    assert_eq!(heard(&mut answers).await.data, b"body of r1");
    connection.close(200, "done".into()).await.unwrap();
    bench.queue.close().await;
    remove_queues(&bench.settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_for_tasks_is_provided_and_one_that_stands_stays() {
    let bench = Bench::rabbit().await;
    let connection = connect(&bench.settings).await;
    let channel = connection.create_channel().await.unwrap();
    // Of another kind than ours: it is not touched, and takes what is sent all the same.
    let mut standing = foreign_queue(&channel, &bench.settings, None).await;
    let made = format!("tasks-{}", Uuid::now_v7());
    assert_eq!(bench.queue.provide(&made).await, Ok(()));
    assert_eq!(bench.queue.provide(&made).await, Ok(()), "again is no error");
    assert!(bench.queue.provide(standing.queue().as_str()).await.is_err());
    let to = |id: &str, address: String| Outgoing { address, ..outgoing(Route::Task, id) };
    let sent = vec![to("1", made.clone()), to("2", standing.queue().to_string())];
    assert_eq!(bench.queue.send(sent).await, [Ok(()), Ok(())]);
    assert_eq!(heard(&mut standing).await.data, b"body of 2");
    let options = lapin::options::BasicGetOptions { no_ack: true };
    let got = channel.basic_get(made.as_str().into(), options).await.unwrap().unwrap();
    assert_eq!((got.data.as_slice(), *got.properties.delivery_mode()), (&b"body of 1"[..], Some(2)));
    channel.queue_delete(made.as_str().into(), Default::default()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    bench.queue.close().await;
    remove_queues(&bench.settings).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_inside_the_process_has_no_workers_outside() {
    let bench = Bench::memory().await;
    assert_eq!(bench.queue.provide("tasks").await, Err(SendError::Unroutable));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_reaches_its_subscribers_by_its_key() {
    let bench = Bench::rabbit().await;
    let connection = connect(&bench.settings).await;
    let channel = connection.create_channel().await.unwrap();
    let mut mine = foreign_queue(&channel, &bench.settings, Some("mine.#")).await;
    let event = |id: &str, key: &str| Outgoing { address: key.to_owned(), ..outgoing(Route::Event, id) };
    let sent = vec![event("1", "yours.execution.started"), event("2", "mine.execution.started")];
    assert_eq!(bench.queue.send(sent).await, [Ok(()), Ok(())]);
    let came = heard(&mut mine).await;
    let id = came.properties.message_id().as_ref().unwrap().as_str();
    assert_eq!((came.routing_key.as_str(), id), ("mine.execution.started", "2"));
    assert_eq!(*came.properties.delivery_mode(), Some(2), "it survives a restart of the broker");
    connection.close(200, "done".into()).await.unwrap();
    bench.queue.close().await;
    remove_queues(&bench.settings).await;
}

#[test]
fn the_runtime_can_end_right_after_closing() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let bench = Bench::rabbit().await;
        let consumer = bench.queue.consume(Source::Streams, 10).await;
        bench.queue.close().await;
        drop(consumer);
        remove_queues(&bench.settings).await;
    });
    drop(runtime);
}

#[test]
fn settings_that_can_never_work_are_refused() {
    let of =
        |url: &str, prefix: &str| Settings { url: url.into(), prefix: prefix.into(), ..Settings::default() };
    for wrong in [of("nonsense", "p"), of("http://localhost", "p"), of("memory:", ""), of("memory:", "amq.p")]
    {
        assert!(open(&wrong, &Registry::new()).is_err(), "{wrong:?}");
    }
}

//! Streams from every place on, for many readers, in time and after the fact.

use std::time::Duration;

use holdpoint_api::keys::Role;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::Status;
use tokio::net::TcpStream;

use crate::http::{PATIENCE, open, parse, read_rest, read_until};
use crate::world::{AGENT, World};

const FAILED: &str = r#"{"reason":"stuck","error":{"type":"internal","message":"m"}}"#;

/// An execution with so many events, still running.
async fn running(world: &World, key: &str, events: usize) -> ExecutionId {
    let id = world.started(key).await;
    for _ in 0..events {
        world.event(id, "message.delta", r#"{"step":1,"text":"x"}"#, Status::Running);
    }
    id
}

async fn open_stream(world: &World, key: &str, id: ExecutionId, query: &str, header: &str) -> TcpStream {
    let head =
        format!("GET /v1/executions/{id}/stream{query} HTTP/1.0\r\nauthorization: Bearer {key}\r\n{header}");
    open(world.address, &head, b"").await
}

fn numbers(text: &str) -> Vec<i64> {
    text.lines().filter_map(|line| line.strip_prefix("id: ")).map(|number| number.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_finished_execution_replays_and_closes() {
    let world = World::new().await;
    let key = world.key(Role::Read);
    let id = running(&world, &world.key(Role::Submit), 300).await;
    world.event(id, "execution.completed", "{\"output\":1}", Status::Completed);
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut stream = open_stream(&world, &key, id, "", "x: y").await;
        readers.push(parse(&read_rest(&mut stream).await));
    }
    let first = &readers[0];
    assert_eq!(first.body, readers[1].body);
    assert_eq!(numbers(&first.body), (1..=301).collect::<Vec<i64>>());
    assert!(first.body.ends_with("event: end\ndata: {\"status\":\"completed\"}\n\n"), "{}", first.body);
    for (name, value) in
        [("content-type", "text/event-stream"), ("cache-control", "no-cache"), ("x-accel-buffering", "no")]
    {
        assert_eq!(first.header(name), value);
    }
}

#[tokio::test]
async fn a_failure_ends_with_an_error_even_for_who_has_seen_it() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 1).await;
    world.event(id, "execution.failed", FAILED, Status::Failed);
    for query in ["", "?after=2"] {
        let mut stream = open_stream(&world, &key, id, query, "x: y").await;
        let body = parse(&read_rest(&mut stream).await).body;
        assert_eq!(numbers(&body).len(), if query.is_empty() { 2 } else { 0 });
        assert!(body.ends_with("event: end\ndata: {\"status\":\"failed\"}\n\n"), "{body}");
        assert!(
            body.contains("event: error\ndata: {\"error\":{\"message\":\"m\",\"type\":\"internal\"}}\n\n"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn each_way_to_reconnect_skips_exactly_what_was_seen() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 5).await;
    let ways = [
        ("?after=3", "x: y"),
        ("", "last-event-id: 3"),
        ("", "x-stream-start-index: 3"),
        ("?after=1", "last-event-id: 3"),
    ];
    for (query, header) in ways {
        let mut stream = open_stream(&world, &key, id, query, header).await;
        let text = read_until(&mut stream, |text| text.contains("id: 5")).await;
        assert_eq!(numbers(&text), [4, 5], "{query} {header}");
    }
}

#[tokio::test]
async fn a_place_that_is_not_there_is_400_and_past_a_finished_end_empty() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 2).await;
    for (query, header) in [
        ("?after=3", "x: y"),
        ("?after=-1", "x: y"),
        ("?after=x", "x: y"),
        ("?after=1.5", "x: y"),
        ("?after=", "x: y"),
        ("", "last-event-id: x"),
        ("", "x-stream-start-index: -1"),
        ("?after=99999999999999999999", "x: y"),
    ] {
        let mut stream = open_stream(&world, &key, id, query, header).await;
        let answer = parse(&read_rest(&mut stream).await);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_index"), "{query} {header}");
    }
    let mut good = open_stream(&world, &key, id, "?after=1", "x: y").await;
    assert_eq!(numbers(&read_until(&mut good, |text| text.contains("id: 2")).await), [2]);
    world.event(id, "execution.completed", "{\"output\":1}", Status::Completed);
    let mut beyond = open_stream(&world, &key, id, "?after=9", "x: y").await;
    let answer = parse(&read_rest(&mut beyond).await);
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
}

#[tokio::test]
async fn news_are_delivered_as_they_are_committed() {
    // Without a poll within the test's patience: what arrives, arrives by message.
    let world = World::with(|settings| settings.stream_poll_ms = 60_000).await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 1).await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut stream = open_stream(&world, &key, id, "", "x: y").await;
        read_until(&mut stream, |text| text.contains("id: 1\n")).await;
        readers.push(stream);
    }
    world.event(id, "message.delta", "{}", Status::Running);
    let last = world.event(id, "execution.completed", "{\"output\":1}", Status::Completed);
    world.tell(id, last);
    for mut stream in readers {
        let text = read_rest(&mut stream).await;
        assert_eq!(numbers(&text), [2, 3]);
        assert!(text.ends_with("event: end\ndata: {\"status\":\"completed\"}\n\n"), "{text}");
    }
}

#[tokio::test]
async fn without_any_message_the_truth_is_polled() {
    let world = World::with(|settings| settings.stream_poll_ms = 50).await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 1).await;
    let mut stream = open_stream(&world, &key, id, "", "x: y").await;
    read_until(&mut stream, |text| text.contains("id: 1\n")).await;
    world.event(id, "execution.completed", "{\"output\":1}", Status::Completed);
    assert_eq!(numbers(&read_rest(&mut stream).await), [2]);
}

#[tokio::test]
async fn a_forged_message_costs_one_look_and_shows_nothing() {
    let world = World::with(|settings| settings.stream_poll_ms = 60_000).await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 1).await;
    let mut stream = open_stream(&world, &key, id, "", "x: y").await;
    read_until(&mut stream, |text| text.contains("id: 1\n")).await;
    let before = world.rows.state().event_reads;
    world.tell(id, 1_000_000);
    world.event(id, "message.delta", "{}", Status::Running);
    world.tell(id, 2);
    assert_eq!(numbers(&read_until(&mut stream, |text| text.contains("id: 2\n")).await), [2]);
    assert!(world.rows.state().event_reads <= before + 4);
}

#[tokio::test]
async fn a_start_that_asks_for_its_stream_gets_it_from_the_first_event() {
    let world = World::with(|settings| settings.stream_poll_ms = 60_000).await;
    let key = world.key(Role::Submit);
    world.with_key(&key, "PUT /v1/agents/helper", AGENT).await;
    let head = format!(
        "POST /v1/executions HTTP/1.0\r\nauthorization: Bearer {key}\r\naccept: text/event-stream\r\nidempotency-key: k"
    );
    let body = br#"{"agent": "helper", "input": "hi"}"#;
    let mut stream = open(world.address, &head, body).await;
    let head_text = read_until(&mut stream, |text| text.contains("\r\n\r\n")).await;
    let answer = parse(&head_text);
    let id: ExecutionId = answer.header("x-workflow-run-id").parse().unwrap();
    assert_eq!((answer.status, answer.header("location")), (200, format!("/v1/executions/{id}").as_str()));
    world.event(id, "execution.started", "{}", Status::Running);
    let last = world.event(id, "execution.completed", "{\"output\":1}", Status::Completed);
    world.tell(id, last);
    assert_eq!(numbers(&read_rest(&mut stream).await), [1, 2]);
    let mut again = open(world.address, &head, body).await;
    assert_eq!(numbers(&read_rest(&mut again).await), [1, 2]);
}

#[tokio::test]
async fn a_start_that_takes_longer_than_a_look_gets_its_stream() {
    let world = World::with(|settings| settings.stream_poll_ms = 2).await;
    let key = world.key(Role::Submit);
    world.with_key(&key, "PUT /v1/agents/helper", AGENT).await;
    world.rows.state().slow = Duration::from_millis(100);
    let head = format!(
        "POST /v1/executions HTTP/1.0\r\nauthorization: Bearer {key}\r\naccept: text/event-stream\r\nx: y"
    );
    let mut stream = open(world.address, &head, br#"{"agent": "helper", "input": "hi"}"#).await;
    let answer = parse(&read_until(&mut stream, |text| text.contains("\r\n\r\n")).await);
    let id: ExecutionId = answer.header("x-workflow-run-id").parse().unwrap();
    world.event(id, "execution.started", "{}", Status::Running);
    world.event(id, "execution.completed", "{\"output\":1}", Status::Completed);
    assert_eq!(numbers(&read_rest(&mut stream).await), [1, 2]);
}

#[tokio::test]
async fn a_slow_reader_misses_nothing_and_a_quiet_line_is_kept_open() {
    let world = World::with(|settings| {
        settings.stream_poll_ms = 20;
        settings.keep_alive_ms = 30;
    })
    .await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 1).await;
    let mut stream = open_stream(&world, &key, id, "", "x: y").await;
    assert!(read_until(&mut stream, |text| text.contains("\n: \n")).await.contains("id: 1\n"));
    // Far more than sockets and channels hold, while nobody reads.
    let long = format!(r#"{{"step":1,"text":"{}"}}"#, "y".repeat(20_000));
    for number in 2..=1_000 {
        assert_eq!(world.event(id, "message.delta", &long, Status::Running), number);
        if number % 50 == 0 {
            world.tell(id, number);
            tokio::task::yield_now().await;
        }
    }
    world.event(id, "execution.completed", "{\"output\":1}", Status::Completed);
    let text = read_rest(&mut stream).await;
    assert_eq!(numbers(&text), (2..=1_001).collect::<Vec<i64>>());
}

#[tokio::test]
async fn the_number_of_streams_is_bounded_and_given_back() {
    let world = World::with(|settings| settings.streams = 1).await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 1).await;
    let mut first = open_stream(&world, &key, id, "", "x: y").await;
    read_until(&mut first, |text| text.contains("id: 1\n")).await;
    let starts = world.rows.state().executions.len();
    let head =
        format!("POST /v1/executions HTTP/1.0\r\nauthorization: Bearer {key}\r\naccept: text/event-stream");
    let mut refused = open(world.address, &head, br#"{"workflow":"holdpoint.noop"}"#).await;
    let answer = parse(&read_rest(&mut refused).await);
    assert_eq!(
        (answer.status, answer.json()["limit"].as_str(), answer.json()["value"].as_i64()),
        (503, Some("streams"), Some(1))
    );
    assert_eq!(world.rows.state().executions.len(), starts, "refused, and started all the same");
    drop(first);
    world.event(id, "message.delta", "{}", Status::Running);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut next = open_stream(&world, &key, id, "", "x: y").await;
        if read_until(&mut next, |text| text.contains("\r\n\r\n")).await.starts_with("HTTP/1.0 200") {
            return;
        }
        assert!(tokio::time::Instant::now() < until, "the place was not given back");
    }
}

#[tokio::test]
async fn a_long_poll_waits_for_news_and_no_longer() {
    let world = World::with(|settings| settings.stream_poll_ms = 60_000).await;
    let key = world.key(Role::Admin);
    let id = running(&world, &key, 3).await;
    let events = format!("GET /v1/executions/{id}/events");
    let page = world.with_key(&key, &format!("{events}?limit=2"), "").await.json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["last"]), (2, &2.into()));
    assert_eq!(page["events"][1]["data"]["text"], "x");
    let page = world.with_key(&key, &format!("{events}?after=3&wait=50ms"), "").await.json();
    assert_eq!((page["events"].as_array().unwrap().len(), &page["last"]), (0, &3.into()));
    for bad in ["?after=4", "?after=x", "?wait=61s", "?wait=x", "?limit=0", "?x=1"] {
        assert_eq!(world.with_key(&key, &format!("{events}{bad}"), "").await.status, 400, "{bad}");
    }
    let line = format!("{events}?after=3&wait=60s");
    let looks = world.rows.state().event_reads;
    let waiting = world.with_key(&key, &line, "");
    let news = async {
        // It has joined before it looks: news from then on are remembered.
        let until = tokio::time::Instant::now() + PATIENCE;
        while world.rows.state().event_reads == looks {
            assert!(tokio::time::Instant::now() < until, "nobody looks");
            tokio::task::yield_now().await;
        }
        let last = world.event(id, "message.delta", "{}", Status::Running);
        world.tell(id, last);
    };
    let (answer, ()) = tokio::join!(waiting, news);
    assert_eq!(answer.json()["events"][0]["seq"], 4);
}

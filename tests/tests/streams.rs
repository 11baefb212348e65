//! What readers see who come, go, and come back.

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::{From, go};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::sse::{assert_end, assert_numbered_from};
use holdpoint_tests::system::{Setup, System};
use serde_json::json;

/// An execution that stands in the middle of the model's text until the gate is opened.
async fn held_midway(system: &System) -> (String, Gate) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let gate = Gate::closed();
    system.model.script([
        Turn::call(&[("c1", "look", json!({"n": 1}))]),
        Turn::say("a rather long text in many small pieces").held_midway(&gate),
    ]);
    let id = client.start("clerk").await;
    gate.wait_arrived(1).await;
    (id, gate)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_goes_away_changes_nothing() {
    let system = Setup::services().start().await;
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let gate = Gate::closed();
    system.model.script([Turn::say("some text, and more of it").held_midway(&gate)]);
    let (id, mut stream) = client.start_streaming(&go("clerk")).await;
    stream.wait_for("message.delta").await;
    drop(stream);
    gate.open();
    client.wait_status(&id, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_way_of_coming_back_goes_on_exactly() {
    let system = Setup::services().roles(2, 1, 1).start().await;
    let (id, gate) = held_midway(&system).await;
    let mut readers = Vec::new();
    for (api, from) in
        [(0, From::LastEventId(2)), (1, From::StartIndex(2)), (0, From::After(2)), (1, From::Start)]
    {
        readers.push((from, system.client_of(api).stream(&id, from).await));
    }
    // One of them leaves in the middle, at the number that it saw last.
    let mut leaver = system.client_of(1).stream(&id, From::Start).await;
    let mut seen =
        vec![leaver.next().await.unwrap(), leaver.next().await.unwrap(), leaver.next().await.unwrap()];
    drop(leaver);
    gate.open();
    let mut all = Vec::new();
    for (from, mut reader) in readers {
        let events = reader.rest().await;
        let first = if matches!(from, From::Start) { 1 } else { 3 };
        assert_numbered_from(&events, first);
        assert_end(&events, "completed");
        all.push(events);
    }
    assert_eq!(all[0], all[1], "bytes do not differ by the way");
    assert_eq!(all[1], all[2], "bytes do not differ by the process");
    assert_eq!(all[3][2..], all[0][..], "bytes do not differ by the place");
    let mut back = system.client_of(0).stream(&id, From::LastEventId(3)).await;
    seen.extend(back.rest().await);
    assert_eq!(seen, all[3], "no gap, no duplicate");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_place_is_refused_and_the_next_good_one_works() {
    let system = Setup::services().start().await;
    let client = system.client();
    let (id, gate) = held_midway(&system).await;
    let path = format!("/v1/executions/{id}/stream");
    let bad = |value: &'static str| {
        let by_query = client.builder(reqwest::Method::GET, &format!("{path}?after={value}"));
        let by_id = client.builder(reqwest::Method::GET, &path).header("last-event-id", value);
        let by_index = client.builder(reqwest::Method::GET, &path).header("x-stream-start-index", value);
        [by_query, by_id, by_index]
    };
    for value in ["-1", "1.5", "x", "1e3", "99999999999999999999", "100000"] {
        for request in bad(value) {
            client.send(request).await.expect_problem(400, "invalid_index");
        }
    }
    let mut good = client.stream(&id, From::LastEventId(1)).await;
    assert_eq!(good.next().await.unwrap().id, Some(2));
    gate.open();
    assert_end(&good.rest().await, "completed");
    let past = client.stream(&id, From::After(100_000)).await.rest().await;
    assert!(
        past.iter().all(|event| event.id.is_none()),
        "past the end of a finished one nothing is numbered: {past:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_readers_at_once_get_the_same_bytes() {
    let system = Setup::services().start().await;
    let client = system.client();
    let (id, gate) = held_midway(&system).await;
    let readers = (0..8).map(|_| async {
        let mut stream = client.stream(&id, From::Start).await;
        stream.rest().await
    });
    let (read, ()) = tokio::join!(futures_util::future::join_all(readers), async { gate.open() });
    assert_numbered_from(&read[0], 1);
    for other in &read[1..] {
        assert_eq!(*other, read[0]);
    }
    let replayed = client.stream(&id, From::Start).await.rest().await;
    assert_eq!(replayed, read[0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_is_woken_by_the_next_event() {
    let system = Setup::services().start().await;
    let client = system.client();
    let (id, gate) = held_midway(&system).await;
    let last = client.events(&id).await.len();
    let path = format!("/v1/executions/{id}/events?after={last}&wait=20s");
    let (answer, ()) = tokio::join!(client.get(&path), async { gate.open() });
    let events = answer.expect(200).body["events"].as_array().unwrap().clone();
    assert_eq!(events[0]["seq"], last as i64 + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_stream_is_kept_alive_and_a_sweep_ends_it() {
    let system = Setup::services().without_sweeps().set("api.keep_alive_ms", "100").start().await;
    let client = system.client();
    client
        .put_agent("clerk", clerk(&system.model, &system.tools).with(json!({"max_turns": 3})).document())
        .await;
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let id = client.start("clerk").await;
    client.wait_suspended(&id, "approval").await;
    let response = client.stream_request(&id, From::Start).send().await.unwrap();
    let mut response = response;
    let mut text = String::new();
    while !text.contains("\n:") {
        let chunk = response.chunk().await.unwrap().expect("a comment comes");
        text.push_str(&String::from_utf8_lossy(&chunk));
    }
    let mut stream = client.stream(&id, From::Start).await;
    system.schema().execute("UPDATE approvals SET expires_at = hp_now()");
    client.post("/v1/sweeps/stale", &json!({})).await.expect(200);
    let events = stream.rest().await;
    assert_numbered_from(&events, 1);
    assert_end(&events, "failed");
    let error = &events[events.len() - 2];
    assert_eq!((error.kind.as_str(), error.id), ("error", None));
}

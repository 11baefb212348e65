//! Postgres goes away and comes back: no answer was a lie.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::{Client, go};
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until_true};
use holdpoint_tests::private_postgres::PrivatePostgres;
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Call;
use serde_json::json;

/// Starts executions until it is stopped; the ids of those that were answered by 2xx.
async fn start_on_and_on(client: &Client, stop: &AtomicBool) -> Vec<String> {
    let mut taken = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let answer =
            client.try_send(client.builder(reqwest::Method::POST, "/v1/executions").json(&go("clerk"))).await;
        let answer = answer.expect("the API answers, also without its database");
        match answer.status {
            202 => taken.push(answer.id()),
            503 => assert_eq!(answer.body["code"], "unavailable", "{}", answer.text),
            other => panic!("{other}: {}", answer.text),
        }
        // A pace, not a wait: a machine of two cores has other things to do as well.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    taken
}

/// Waits until so many more calls were made; one that is repeated after a lost lease counts once.
async fn more_calls(system: &System, more: usize) {
    let made = || system.tools.calls("/look").iter().map(Call::key).collect::<BTreeSet<_>>().len();
    let before = made();
    until_true("calls are made", SOON * 2, || made() >= before + more).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_restarts_in_mid_run() {
    let mut postgres = PrivatePostgres::start();
    let system = Setup::services().database(&postgres.url()).start().await;
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.answer_by(|request| match request.turns() {
        turn @ 0..=1 => Turn::call(&[(["a", "b"][turn], "look", json!({"n": 1}))]),
        _ => Turn::say("done"),
    });
    let stop = AtomicBool::new(false);
    let disturb = async {
        for hard in [false, true] {
            more_calls(&system, 10).await;
            tokio::task::block_in_place(|| if hard { postgres.kill9() } else { postgres.stop_fast() });
            tokio::task::block_in_place(|| postgres.start_again());
        }
        more_calls(&system, 20).await;
        stop.store(true, Ordering::SeqCst);
    };
    let (first, second, ()) =
        tokio::join!(start_on_and_on(&client, &stop), start_on_and_on(&client, &stop), disturb);
    let ids = [first, second].concat();
    assert!(ids.len() >= 15, "{} were taken", ids.len());
    for id in &ids {
        let execution = client.wait_status_for(id, "completed", SOON * 2).await;
        assert_eq!(execution["output"], "done");
        let events = client.events(id).await;
        let numbers: Vec<i64> = events.iter().map(|event| event["seq"].as_i64().unwrap()).collect();
        assert_eq!(numbers, (1..=events.len() as i64).collect::<Vec<_>>());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_the_api_says_so_and_comes_back() {
    let mut postgres = PrivatePostgres::start();
    let system = Setup::services().roles(1, 1, 0).database(&postgres.url()).start().await;
    let client = system.client();
    let id = client.start_with(json!({"workflow": "holdpoint.noop"})).await;
    client.wait_status(&id, "completed").await;
    tokio::task::block_in_place(|| postgres.stop_fast());
    let refused = client.post("/v1/executions", &json!({"workflow": "holdpoint.noop"})).await;
    let refused = refused.expect_problem(503, "unavailable");
    assert!(!refused.header("retry-after").is_empty());
    client.get("/healthz").await.expect(200);
    let ready = client.get("/readyz").await.expect(503);
    assert!(ready.text.contains("database"), "{}", ready.text);
    tokio::task::block_in_place(|| postgres.start_again());
    holdpoint_tests::poll::until("the API is back", SOON, || async {
        (client.get("/readyz").await.status == 200).then_some(())
    })
    .await;
    let id = client.start_with(json!({"workflow": "holdpoint.noop"})).await;
    client.wait_status(&id, "completed").await;
}

//! The broker is a way to be fast: without it, or with nonsense in it, nothing is lost.

use std::time::Duration;

use holdpoint_tests::agents::clerk;
use holdpoint_tests::client::{Client, From};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until, until_true};
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::private_postgres::PrivatePostgres;
use holdpoint_tests::system::{Setup, System};
use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;
use serde_json::json;

const LONG: Duration = Duration::from_secs(60);

async fn start_many(client: &Client, count: usize) -> Vec<String> {
    let body = json!({"workflow": "holdpoint.noop"});
    let starts = (0..count).map(|_| client.post("/v1/executions", &body));
    futures_util::future::join_all(starts).await.into_iter().map(|answer| answer.expect(202).id()).collect()
}

async fn all_complete(client: &Client, ids: &[String]) {
    for id in ids {
        client.wait_status_for(id, "completed", LONG).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_are_taken_while_the_broker_is_down() {
    let mut broker = PrivateBroker::start();
    let system = Setup::services().broker(&broker.url()).start().await;
    let client = system.client();
    let before = start_many(&client, 5).await;
    all_complete(&client, &before).await;
    broker.kill9();
    let during = start_many(&client, 100).await;
    broker.start_again();
    all_complete(&client, &during).await;
    let after = start_many(&client, 5).await;
    all_complete(&client, &after).await;
    for id in [&before[0], &during[0], &during[99], &after[0]] {
        assert_eq!(client.steps(id).await.len(), 3);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_that_are_purged_lose_nothing() {
    // Each call is counted: no lease may run out by itself.
    let system = Setup::services().roles(1, 2, 1).set("worker.lease_ms", "30000").start().await;
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let gate = Gate::closed();
    let held = gate.clone();
    system.model.answer_by(move |request| match request.turns() {
        0 => Turn::call(&[("c1", "look", json!({"n": 1})), ("c2", "pay", json!({"n": 1}))]).after(&held),
        _ => Turn::say("done"),
    });
    let mut ids = Vec::new();
    for round in 0..5 {
        for _ in 0..10 {
            ids.push(client.start("clerk").await);
        }
        if round % 2 == 0 {
            system.purge("advance").await;
        } else {
            system.purge("sweeps").await;
        }
    }
    gate.wait_arrived(1).await;
    gate.open();
    for id in &ids {
        client.wait_pending(id, 1).await;
    }
    for (index, id) in ids.iter().enumerate() {
        client.approve(id, "c2").await;
        if index % 10 == 0 {
            system.purge("advance").await;
        }
    }
    all_complete(&client, &ids).await;
    assert_eq!((system.tools.count("/look"), system.tools.count("/pay")), (50, 50));
}

async fn publish(system: &System, queue: &str, id: &str, body: &[u8]) {
    let connection = system.amqp().await;
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(lapin::options::ConfirmSelectOptions::default()).await.unwrap();
    let name = format!("{}.{queue}", system.prefix);
    let properties = BasicProperties::default().with_message_id(id.into());
    // Whoever has the broker first makes the queue; until then the message comes back.
    until(&format!("{name} is there"), SOON, || async {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let publishing =
            channel.basic_publish("".into(), name.as_str().into(), options, body, properties.clone());
        let confirmed = publishing.await.unwrap().await.unwrap();
        confirmed.take_message().is_none().then_some(())
    })
    .await;
    connection.close(200, "done".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_parked_and_harms_no_neighbour() {
    let system = Setup::services().start().await;
    let client = system.client();
    start_many(&client, 1).await;
    let huge = vec![b' '; 1024 * 1024 + 1];
    let other_version = br#"{"v":2,"type":"execution.advance","data":[]}"#;
    for queue in ["advance", "sweeps"] {
        publish(&system, queue, &format!("bad-{queue}"), b"\xff\xfe nonsense").await;
        let ids = start_many(&client, 5).await;
        publish(&system, queue, &format!("new-{queue}"), other_version).await;
        publish(&system, queue, &format!("huge-{queue}"), &huge).await;
        all_complete(&client, &ids).await;
        all_complete(&client, &start_many(&client, 5).await).await;
    }
    let parked = until("six messages are parked", SOON, || async {
        let answer = client.get("/v1/parked-messages").await.expect(200);
        let list = answer
            .body
            .as_object()
            .unwrap()
            .values()
            .find_map(|value| value.as_array())
            .expect("a list")
            .clone();
        // Messages without a known tenant are for operators, and stand in the table in any case.
        let count = system.schema().count("SELECT count(*) FROM parked_messages");
        (count >= 6).then_some(list)
    })
    .await;
    let reasons = system.schema().texts("SELECT message_id || ': ' || reason FROM parked_messages");
    assert_eq!(reasons.len(), 6, "{reasons:?}");
    let has =
        |id: &str, why: &str| reasons.iter().any(|reason| reason.starts_with(id) && reason.contains(why));
    for queue in ["advance", "sweeps"] {
        assert!(has(&format!("bad-{queue}"), "malformed"), "{reasons:?}");
        assert!(has(&format!("new-{queue}"), "version 2"), "{reasons:?}");
        assert!(has(&format!("huge-{queue}"), "1048577"), "{reasons:?}");
    }
    drop(parked);
    let shown = client.get("/metrics").await.expect(200).text;
    assert!(shown.contains("holdpoint_"), "{shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_parked_when_postgres_is_back() {
    let mut postgres = PrivatePostgres::start();
    let setup = Setup::services().roles(1, 1, 0).database(&postgres.url());
    let system = setup.set("database.connect_timeout_ms", "1000").start().await;
    let client = system.client();
    all_complete(&client, &start_many(&client, 1).await).await;
    tokio::task::block_in_place(|| postgres.stop_fast());
    for queue in ["advance", "sweeps"] {
        publish(&system, queue, &format!("bad-{queue}"), b"nonsense").await;
    }
    let tries = || system.workers[0].log().iter().filter(|line| line.contains("could not be parked")).count();
    until_true("it tries again and again", LONG, || tries() >= 4).await;
    tokio::task::block_in_place(|| postgres.start_again());
    let parked = || system.schema().count("SELECT count(DISTINCT message_id) FROM parked_messages");
    until_true("both are parked", LONG, || parked() == 2).await;
    all_complete(&client, &start_many(&client, 1).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_sweeps_and_polls_the_broker_is_enough() {
    let setup = Setup::services().roles(2, 2, 0).without_sweeps();
    // Nobody would take over what a lease left that ran out by itself.
    let setup = setup.set("worker.poll_ms", "600000").set("worker.lease_ms", "30000");
    let system = setup.set("api.stream_poll_ms", "600000").start().await;
    let (one, other) = (system.client_of(0), system.client_of(1));
    one.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.answer_by(|request| {
        if request.turns() == 0 { Turn::call(&[("c1", "pay", json!({"n": 1}))]) } else { Turn::say("ok") }
    });
    // Hints that were sent before a role was connected are lost, as they may be: begin when each
    // process has both of its connections, and one hint came all the way from either API process to a
    // reader at the other.
    for process in system.apis.iter().chain(&system.workers) {
        let connected = |line: &&String| line.contains("connected to the broker");
        let both = || process.log().iter().filter(connected).count() >= 2;
        until_true("a process has the broker", SOON, both).await;
    }
    for (starter, reader) in [(&one, &other), (&other, &one)] {
        until("the roles are connected", LONG, || async {
            let id = start_many(starter, 1).await.remove(0);
            let mut stream = reader.stream(&id, From::Start).await;
            tokio::time::timeout(Duration::from_secs(5), stream.rest()).await.ok()
        })
        .await;
    }
    for _ in 0..10 {
        let id = one.start("clerk").await;
        let mut stream = other.stream(&id, From::Start).await;
        let asked = stream.wait_for("approval.requested");
        soon(&one, &id, asked).await;
        other.approve(&id, "c1").await;
        let events = soon(&one, &id, stream.rest()).await;
        holdpoint_tests::sse::assert_end(&events, "completed");
    }
}

/// What should come without any poll; where it does not, this tells what the rows say.
async fn soon<T>(client: &Client, id: &str, what: impl Future<Output = T>) -> T {
    match tokio::time::timeout(SOON, what).await {
        Ok(came) => came,
        Err(_) => {
            panic!("nobody was told: {} {:?}", client.execution(id).await, client.event_kinds(id).await)
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_act_reaches_the_worker_that_holds_the_execution_at_once() {
    let setup = Setup::services()
        .roles(1, 2, 0)
        .without_sweeps()
        .set("worker.heartbeat_ms", "4000")
        .set("worker.lease_ms", "20000");
    let system = setup.start().await;
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let gate = Gate::closed();
    system.model.script([Turn::say("never").after(&gate)]);
    let id = client.start("clerk").await;
    gate.wait_arrived(1).await;
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    // The model still holds its answer: the cancel did not wait for it.
    client.wait_status(&id, "cancelled").await;
    let calls = [("a", "pay", json!({"n": 1})), ("b", "look", json!({"n": 2}))];
    let slow = Gate::closed();
    let reply = holdpoint_tests::tool::Reply::Held(
        slow.clone(),
        Box::new(holdpoint_tests::tool::Reply::Json(json!(1))),
    );
    system.tools.script("/look", [reply]);
    system.model.script([Turn::call(&calls), Turn::say("done")]);
    let id = client.start("clerk").await;
    slow.wait_arrived(1).await;
    assert_eq!(client.execution(&id).await["status"], "running");
    client.wait_pending(&id, 1).await;
    client.approve(&id, "a").await;
    system.tools.wait_calls("/pay", 1).await;
    slow.open();
    client.wait_status(&id, "completed").await;
}

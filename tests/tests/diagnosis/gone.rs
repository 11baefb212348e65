//! What is not there: workers, schedulers, the broker, secrets.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::system::{Setup, System};
use serde_json::json;

use super::{evidence, put, run, wait_why, why};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_worker_is_there() {
    let mut system = Setup::services().roles(1, 0, 0).set("worker.lease_ms", "60000").start().await;
    let client = system.client();
    let id = run(&client, "holdpoint.noop").await;
    let told =
        wait_why(&client, &id, "no_worker", &["queued and ready since", "nor was one within the last hour"])
            .await;
    assert_eq!(evidence(&told, "workers")["live"], 0);
    assert_eq!(told["advice"], "start a worker, or look why it ended");
    // One that works, and is killed.
    let worker = system.start_worker(&[("worker.name", "ada")]);
    client.wait_status(&id, "completed").await;
    assert_eq!(why(&client, &id).await["code"], "completed");
    system.workers[worker].kill9();
    system.leases_run_out();
    let id = run(&client, "holdpoint.noop").await;
    let told =
        wait_why(&client, &id, "no_worker", &["the lease of the last one, `ada`, ran out at ", " ago)"])
            .await;
    assert_eq!(evidence(&told, "workers")["last"], "ada");
}

/// A model call that is held, and the worker that has it.
async fn hold(system: &System, gate: &Gate) -> String {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let turn = || Turn::say("working").held_midway(gate);
    system.model.script([turn(), turn(), turn(), turn(), turn(), turn()]);
    let id = client.start("clerk").await;
    system.model.wait_requests(1).await;
    id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ran_out_and_no_scheduler_is_there() {
    let mut system = Setup::services().roles(1, 0, 0).set("worker.lease_ms", "60000").start().await;
    let client = system.client();
    let worker = system.start_worker(&[("worker.name", "ada")]);
    let gate = Gate::closed();
    let id = hold(&system, &gate).await;
    let told = wait_why(
        &client,
        &id,
        "held",
        &["The worker `ada` has it since ", "the model call (step 1) is under way since"],
    )
    .await;
    assert!(evidence(&told, "lease")["session"].as_str().unwrap().starts_with("ses_"), "{told}");
    system.workers[worker].kill9();
    system.leases_run_out();
    let words = ["The lease of the worker `ada` ran out at ", "no scheduler was ever there"];
    let told = wait_why(&client, &id, "lease_ran_out_unswept", &words).await;
    assert_eq!(evidence(&told, "sweep")["overdue"], true);
    // A scheduler sends the sweep out, and no worker is there to carry it out.
    system.start_scheduler(&[]);
    let words = ["the sweep `stuck` is due since ", "it was sent out at ", "no worker has carried it out"];
    wait_why(&client, &id, "lease_ran_out_unswept", &words).await;
    // It is stopped, and the next tick finds nobody.
    system.schedulers.clear();
    gate.open();
    system.start_worker(&[]);
    system.start_scheduler(&[]);
    client.wait_status(&id, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ran_out_and_the_sweep_is_due() {
    let setup = Setup::services().roles(1, 1, 1).set("worker.lease_ms", "60000");
    let mut system = setup.set("scheduler.stuck_period_ms", "300000").start().await;
    let client = system.client();
    let passed = "SELECT count(*) FROM ticks WHERE kind = 'stuck' AND due_at > hp_now()";
    until("the first pass is over", SOON, || async { (system.schema().count(passed) == 1).then_some(()) })
        .await;
    let gate = Gate::closed();
    let id = hold(&system, &gate).await;
    system.workers[0].kill9();
    system.leases_run_out();
    let told =
        wait_why(&client, &id, "lease_ran_out", &["ran out at ", "the sweep `stuck` is due at ", "(in "])
            .await;
    assert_eq!(evidence(&told, "sweep")["overdue"], false);
    // The scheduler is gone when it is due.
    system.schedulers.clear();
    system.schema().execute("UPDATE ticks SET due_at = hp_now() - 10000000 WHERE kind = 'stuck'");
    let words = ["the sweep `stuck` is due since ", "and no scheduler has run it"];
    wait_why(&client, &id, "lease_ran_out_unswept", &words).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_place_is_taken() {
    let system = Setup::services().set("worker.slots", "1").start().await;
    let client = system.client();
    let gate = Gate::closed();
    let first = hold(&system, &gate).await;
    let second = run(&client, "holdpoint.noop").await;
    let told = wait_why(&client, &second, "workers_busy", &["every place of the 1 worker is taken"]).await;
    let workers = evidence(&told, "workers");
    assert_eq!((&workers["slots"], &workers["held"]), (&json!(1), &json!(1)));
    gate.open();
    for id in [first, second] {
        client.wait_status(&id, "completed").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_away() {
    let mut broker = PrivateBroker::start();
    // Without a hint nobody looks for ten minutes.
    let setup = Setup::services().roles(1, 1, 0).broker(&broker.url()).set("worker.poll_ms", "600000");
    let system = setup.start().await;
    let client = system.client();
    system.wait_broker().await;
    broker.kill9();
    let without = "SELECT count(*) FROM sessions WHERE about LIKE '%\"broker_up\":false%'";
    until("the worker says so", SOON, || async { (system.schema().count(without) == 1).then_some(()) }).await;
    let id = run(&client, "holdpoint.noop").await;
    let words =
        ["neither this API nor the workers reach the broker", "workers look by themselves every 600000 ms"];
    let told = wait_why(&client, &id, "broker_away", &words).await;
    let seen = evidence(&told, "broker");
    assert_eq!((&seen["reached_by_api"], &seen["workers_without"]), (&json!(false), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_not_configured() {
    let mut system = Setup::services().start().await;
    let client = system.client();
    let secrets = json!({"use": {"secrets": ["crm"]}});
    let tasks = json!([{"rest": {"wait": {"hours": 1}}}]);
    put(&client, "careful", tasks, secrets).await;
    let id = run(&client, "careful").await;
    let words = ["Its task `/do/0/rest` waits until ", "the secret `crm` (`outbound.secrets.acme.crm`)"];
    let told = wait_why(&client, &id, "timer", &words).await;
    let missing = evidence(&told, "secret_missing");
    assert_eq!((&missing["lacking"], &missing["live_workers"]), (&json!(1), &json!(1)));
    system.start_worker(&[("outbound.secrets.acme.crm", "sk-123456")]);
    until("one worker has it", SOON, || async {
        let told = why(&client, &id).await;
        let missing = evidence(&told, "secret_missing");
        let is_so = missing["live_workers"] == 2 && missing["lacking"] == 1;
        (is_so && !told["summary"].as_str().unwrap().contains("crm")).then_some(())
    })
    .await;
    // A worker is there a moment before it says what it has.
    let told = until("it says which secrets it has", SOON, || async {
        let told = system.schema().texts("SELECT about FROM sessions WHERE about IS NOT NULL").join(" ");
        told.contains("crm").then_some(told)
    })
    .await;
    assert!(!told.contains("sk-123456"), "names only: {told}");

    let agent = Agent::new(&system.model).with(json!({"model": {"secret": "nowhere"}}));
    client.put_agent("mute", agent.document()).await;
    let id = client.start("mute").await;
    client.wait_status(&id, "failed").await;
    let told = why(&client, &id).await;
    assert_eq!(told["code"], "failed_secret", "{told}");
    assert!(told["summary"].as_str().unwrap().contains("`outbound.secrets.acme.nowhere`"), "{told}");
    assert_eq!(evidence(&told, "secret_missing")["secret"], "nowhere");
}

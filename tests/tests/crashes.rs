//! Processes that are killed at the worst moments, stopped past their lease, or told to leave.

use std::time::Duration;

use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::{Client, From, go};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::sse::{assert_end, assert_numbered_from};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use serde_json::{Value, json};

/// An execution of one tool call and an answer, begun by a worker that dies at a point. No lease runs out
/// by itself, however slow the machine is: each commit and each call is counted.
struct Killed {
    system: System,
    client: Client,
    id: String,
}

async fn killed_at(point: &str, class: &str, timeout: &str) -> Killed {
    let mut system = Setup::services().roles(1, 0, 1).set("worker.lease_ms", "60000").start().await;
    let client = system.client();
    let agent =
        Agent::new(&system.model).tool(&system.tools, "act", json!({"effect": class, "timeout": timeout}));
    client.put_agent("actor", agent.document()).await;
    system.model.answer_by(|request| match request.turns() {
        0 => Turn::call(&[("c1", "act", json!({"n": 1}))]),
        _ => Turn::say("done"),
    });
    let id = client.start("actor").await;
    let worker = system.start_worker(&[("HOLDPOINT_FAILPOINT", point)]);
    system.workers[worker].wait_for_failpoint().await;
    system.workers[worker].kill9();
    system.leases_run_out();
    system.start_worker(&[]);
    Killed { system, client, id }
}

impl Killed {
    async fn completes(&self) -> Value {
        let execution = self.client.wait_status(&self.id, "completed").await;
        let events = self.client.stream(&self.id, From::Start).await.rest().await;
        assert_numbered_from(&events, 1);
        assert_end(&events, "completed");
        let results = events.iter().filter(|event| event.kind == "tool.completed").count();
        assert_eq!(results, 1, "one result, whatever died");
        execution
    }

    fn calls(&self) -> usize {
        self.system.tools.count("/act")
    }

    async fn resolve(&self, outcome: Value) {
        let steps = self.client.steps(&self.id).await;
        let step = steps.iter().find(|step| step["status"] == "unknown").expect("a step of unknown outcome");
        let path = format!("/v1/executions/{}/steps/{}/resolve", self.id, step["step"]);
        // `did_not_happen` is refused until the call's timeout since the takeover has passed.
        until("the resolution is taken", SOON, || async {
            let answer = self.client.post(&path, &outcome).await;
            assert!(matches!(answer.status, 202 | 409), "{}", answer.text);
            (answer.status == 202).then_some(())
        })
        .await;
    }
}

macro_rules! one_call_after_a_kill_at {
    ($($name:ident = $point:literal;)+) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let killed = killed_at($point, "at_most_once", "30s").await;
                killed.completes().await;
                assert_eq!(killed.calls(), 1);
            }
        )+
    };
}

// The nth commit of the first worker: 1 the model's intent, 2 its result with the tool's
// intent, 3 the tool's result with the next model call's intent.
one_call_after_a_kill_at! {
    after_the_claim = "db.claim.after";
    before_the_ack = "worker.ack.before";
    after_the_ack = "worker.ack.after";
    before_the_model_s_intent = "db.commit.before:1";
    after_the_model_s_intent = "db.commit.after:1";
    before_the_model_is_called = "worker.effect.before:1";
    after_the_model_answered = "worker.effect.after:1";
    before_the_tool_s_intent = "db.commit.before:2";
    after_the_tool_s_result = "db.commit.after:3";
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_intent_without_an_effect_is_unknown_and_did_not_happen() {
    for point in ["db.commit.after:2", "worker.effect.before:2"] {
        // So long the resolution has to wait.
        let killed = killed_at(point, "at_most_once", "5s").await;
        killed.client.wait_suspended(&killed.id, "outcome_unknown").await;
        assert_eq!(killed.calls(), 0, "{point}");
        killed.resolve(json!({"outcome": "did_not_happen"})).await;
        killed.completes().await;
        assert_eq!(killed.calls(), 1, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_effect_without_a_result_is_unknown_and_happened() {
    for point in ["worker.effect.after:2", "db.commit.before:3"] {
        let killed = killed_at(point, "at_most_once", "30s").await;
        killed.client.wait_suspended(&killed.id, "outcome_unknown").await;
        assert_eq!(killed.calls(), 1, "{point}");
        killed.resolve(json!({"outcome": "happened", "result": {"receipt": 12}})).await;
        killed.completes().await;
        assert_eq!(killed.calls(), 1, "{point}");
        let told = killed.system.model.requests().last().unwrap().told("c1").unwrap();
        assert!(told.contains("12"), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_repeated_is_repeated() {
    for (point, class, calls) in [
        ("worker.effect.after:2", "keyed", 2),
        ("worker.effect.before:2", "idempotent", 1),
        ("db.commit.before:3", "idempotent", 2),
    ] {
        let killed = killed_at(point, class, "30s").await;
        killed.completes().await;
        assert_eq!(killed.calls(), calls, "{point} {class}");
        let all = killed.system.tools.calls("/act");
        assert!(
            all.iter().all(|call| call.key() == all[0].key() && call.body == all[0].body),
            "one key, the same bytes"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_killed_at_the_end_of_a_sweep_does_not_end_all_sweeps() {
    let mut system = Setup::services().roles(1, 0, 1).start().await;
    let worker = system.start_worker(&[("HOLDPOINT_FAILPOINT", "sweep.close.between")]);
    system.workers[worker].wait_for_failpoint().await;
    system.workers[worker].kill9();
    // The next ticks of these are too far away to wait for.
    let often = "SELECT due_at FROM ticks WHERE kind NOT IN ('retention', 'files') ORDER BY kind";
    let due = |system: &System| system.schema().texts(often);
    let before = due(&system);
    assert_eq!(before.len(), 5, "a tick for each frequent sweep");
    system.start_worker(&[]);
    until("each sweep goes on", SOON, || async {
        due(&system).iter().zip(&before).all(|(now, before)| now != before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_killed_between_commit_and_hint_loses_nothing() {
    for point in ["db.create.after", "api.hint.before"] {
        let mut system = Setup::services().roles(1, 1, 1).start().await;
        let client = system.client();
        let body = json!({"workflow": "holdpoint.noop"});
        let dying = system.start_api(&[("HOLDPOINT_FAILPOINT", point)]);
        system.wait_ready(dying).await;
        let doomed = system.client_of(dying);
        let request = doomed
            .builder(reqwest::Method::POST, "/v1/executions")
            .header("idempotency-key", "k")
            .json(&body);
        let asked = tokio::spawn(async move { doomed.try_send(request).await });
        system.apis[dying].wait_for_failpoint().await;
        system.apis[dying].kill9();
        let answered = asked.await.unwrap();
        let again = client.post_with("/v1/executions", &[("idempotency-key", "k")], &body).await.expect(200);
        if let Ok(answer) = answered {
            assert_eq!(answer.id(), again.id());
        }
        client.wait_status(&again.id(), "completed").await;
        assert_eq!(system.schema().count("SELECT count(*) FROM executions"), 1, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_woken_after_its_lease_changes_nothing() {
    let mut system = Setup::services().roles(1, 1, 1).set("worker.lease_ms", "2000").start().await;
    let client = system.client();
    let agent = Agent::new(&system.model).tool(&system.tools, "act", json!({"effect": "idempotent"}));
    client.put_agent("actor", agent.document()).await;
    let gate = Gate::closed();
    system.tools.script("/act", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!("late"))))]);
    system.model.answer_by(|request| match request.turns() {
        0 => Turn::call(&[("c1", "act", json!({"n": 1}))]),
        _ => Turn::say("done"),
    });
    let id = client.start("actor").await;
    gate.wait_arrived(1).await;
    system.workers[0].stop();
    // Its own lease is not to run out while it makes the call.
    system.start_worker(&[("worker.lease_ms", "60000")]);
    client.wait_status(&id, "completed").await;
    let before = client.stream(&id, From::Start).await.rest().await;
    let rows = "SELECT epoch || ' ' || last_seq || ' ' || status || ' ' || updated_at FROM executions";
    let row = system.schema().texts(rows);
    // The late result lies in the stopped worker's socket when it wakes.
    gate.open();
    system.workers[0].cont();
    let fenced =
        |log: &[String]| log.iter().any(|line| line.contains("another holds it") || line.contains("session"));
    until("the woken worker notices", SOON, || async { fenced(&system.workers[0].log()).then_some(()) })
        .await;
    assert_eq!(client.stream(&id, From::Start).await.rest().await, before);
    assert_eq!(system.schema().texts(rows), row);
    assert_eq!(system.tools.count("/act"), 2, "idempotent: repeated by the second worker");
    assert!(!before.iter().any(|event| event.data.to_string().contains("late")));
    // It goes on with a new session.
    system.workers[1].kill9();
    let next = client.start_with(json!({"workflow": "holdpoint.noop"})).await;
    client.wait_status(&next, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_told_to_leave_ends_its_calls_and_gives_back_the_rest() {
    let setup =
        Setup::services().roles(1, 1, 1).set("worker.lease_ms", "60000").set("worker.drain_ms", "10000");
    let mut system = setup.start().await;
    let client = system.client();
    client.put_agent("plain", Agent::new(&system.model).document()).await;
    let (short, long) = (Gate::closed(), Gate::closed());
    system.model.script([Turn::say("in time").after(&short)]);
    let ends = client.start("plain").await;
    short.wait_arrived(1).await;
    system.model.script([Turn::say("too late").after(&long), Turn::say("elsewhere")]);
    let leaves = client.start("plain").await;
    long.wait_arrived(1).await;
    system.workers[0].terminate();
    short.open();
    let status = system.workers[0].wait_exit(Duration::from_secs(60)).await;
    assert_eq!(status.code(), Some(0));
    let asked = system.model.requests().len();
    let log = system.workers[0].log().join("\n");
    assert_eq!(client.wait_status(&ends, "completed").await["output"], "in time", "{log}");
    assert_eq!(asked, 2);
    system.start_worker(&[]);
    // The lease is a minute long: only because it was given back does the next worker have it now.
    assert_eq!(client.wait_status(&leaves, "completed").await["output"], "elsewhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_told_to_leave_ends_its_streams() {
    let mut system = Setup::services().roles(1, 1, 0).start().await;
    let client = system.client();
    client.put_agent("plain", Agent::new(&system.model).document()).await;
    let gate = Gate::closed();
    system.model.script([Turn::say("held here").held_midway(&gate)]);
    let (id, mut stream) = client.start_streaming(&go("plain")).await;
    stream.wait_for("message.delta").await;
    system.apis[0].terminate();
    let status = system.apis[0].wait_exit(Duration::from_secs(60)).await;
    assert_eq!(status.code(), Some(0));
    stream.rest().await;
    gate.open();
    system.restart_api(0, &[]);
    system.wait_ready(0).await;
    client.wait_status(&id, "completed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_goes_on_after_a_kill() {
    let mut system = Setup::embedded().start().await;
    let client = system.client();
    let agent = Agent::new(&system.model)
        .tool(&system.tools, "act", json!({"effect": "keyed"}))
        .gated(&system.tools, "pay");
    client.put_agent("actor", agent.document()).await;
    let gate = Gate::closed();
    system.tools.script("/act", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!("lost"))))]);
    system.model.answer_by(|request| match request.turns() {
        0 => Turn::call(&[("c1", "act", json!({"n": 1})), ("c2", "pay", json!({"n": 2}))]),
        _ => Turn::say("done"),
    });
    let id = client.start("actor").await;
    gate.wait_arrived(1).await;
    client.wait_pending(&id, 1).await;
    let before = client.events(&id).await;
    system.apis[0].kill9();
    system.run_dev(&[]).await;
    client.approve(&id, "c2").await;
    client.wait_status(&id, "completed").await;
    let after = client.events(&id).await;
    assert_eq!(after[..before.len()], before[..], "what was told stays");
    assert_eq!((system.tools.count("/act"), system.tools.count("/pay")), (2, 1));
    let calls = system.tools.calls("/act");
    assert_eq!(calls[0].key(), calls[1].key());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_dev_in_the_same_folder_is_refused() {
    let system = Setup::embedded().start().await;
    let port = holdpoint_tests::ports::free_port().to_string();
    let mut second =
        system.holdpoint("second dev").args(["dev", "--listen", &format!("127.0.0.1:{port}")]).spawn();
    let status = second.wait_exit(SOON).await;
    assert!(!status.success());
    assert!(second.log().join("\n").contains(".holdpoint"), "it names the folder: {:?}", second.log());
}

//! What operators ask: why an execution stands where it stands, and what an installation lacks.

use std::time::{Duration, Instant};

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::system::{Setup, System};
use serde_json::{Value, json};

/// For the doctor, and for what it is to see: it asks the broker's tool too, which starts a virtual
/// machine, and waits 40 s for that.
const LONG: Duration = Duration::from_secs(125);

on_both! {
    why_says_what_it_waits_for_and_who_holds_it;
}

async fn why(system: &System, id: &str) -> (String, Vec<String>) {
    let told = system.client().get(&format!("/v1/executions/{id}/diagnosis")).await.expect(200).body;
    let kinds = told["evidence"].as_array().expect("a list").iter();
    let kinds = kinds.map(|one| one["kind"].as_str().expect("a kind").to_owned()).collect();
    (told["summary"].as_str().expect("a sentence").to_owned(), kinds)
}

async fn why_says_what_it_waits_for_and_who_holds_it(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;

    let go = json!({"agent": "clerk", "input": "go", "delay": "1h"});
    let delayed = client.start_with(go).await;
    let (sentence, kinds) = why(&system, &delayed).await;
    assert!(sentence.starts_with("It is delayed: it begins at "), "{sentence}");
    assert_eq!(kinds, ["execution"]);
    client.post(&format!("/v1/executions/{delayed}/cancel"), &json!({})).await.expect(202);
    let (sentence, _) = why(&system, &delayed).await;
    assert!(sentence.contains("cancelled") && sentence.contains("by key_"), "{sentence}");

    let gate = Gate::closed();
    system.model.script([Turn::say("working").held_midway(&gate)]);
    let held = client.start("clerk").await;
    system.model.wait_requests(1).await;
    let (sentence, kinds) = why(&system, &held).await;
    assert!(
        sentence.starts_with("The worker `") && sentence.contains("the model call (step 1) is under way"),
        "{sentence}"
    );
    assert_eq!(kinds, ["execution", "lease", "step"]);
    gate.open();
    client.wait_status(&held, "completed").await;
    assert!(why(&system, &held).await.0.starts_with("It completed at "));

    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let asked = client.start("clerk").await;
    client.wait_suspended(&asked, "approval").await;
    let printed = command_line(&system, &["executions", "why", &asked]).run();
    assert!(printed.starts_with("It waits for a decision on `pay` (call c1), asked for at "), "{printed}");
    assert!(printed.contains("→ decide: `holdpoint approvals approve` or `deny`"), "{printed}");
    let printed = command_line(&system, &["executions", "why", &asked, "--json"]).run();
    let told: Value = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(told["evidence"][1]["tool_call_id"], "c1");

    let stranger = client.get("/v1/executions/exe_01h455vb4pex5vsknk084sn02q/diagnosis").await;
    stranger.expect_problem(404, "not_found");
}

fn command_line(system: &System, args: &[&str]) -> holdpoint_tests::processes::Spawn {
    system
        .holdpoint("client")
        .args(args)
        .env("HOLDPOINT_URL", system.url_of(0))
        .env("HOLDPOINT_KEY", system.admin())
}

/// The exit code and the findings by name; several of one name are joined.
async fn doctor(system: &System, settings: &[(&str, &str)], args: &[&str]) -> (i32, Value) {
    let mut spawn = system.holdpoint("doctor").args(["doctor", "--json"]).args(args);
    spawn = spawn.env("HOLDPOINT__LOG__LEVEL", "off");
    for (name, value) in settings {
        spawn = spawn.env(name, *value);
    }
    let mut process = spawn.spawn();
    let code = process.wait_exit(LONG).await.code().expect("a code");
    // Both outputs are in the log: the document is what stands between the outer braces.
    let log = process.log();
    let first = log.iter().position(|line| line == "{").expect("a document");
    let last = log.iter().rposition(|line| line == "}").expect("its end");
    let printed: Value = serde_json::from_str(&log[first..=last].join("\n")).expect("JSON");
    assert_eq!(printed["ok"], code == 0, "{printed}");
    (code, printed)
}

/// The states of the findings of this name.
fn states<'a>(printed: &'a Value, name: &str) -> Vec<&'a str> {
    let findings = printed["findings"].as_array().expect("a list").iter();
    let named = findings.filter(|finding| finding["name"] == name);
    named.map(|finding| finding["state"].as_str().expect("a state")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_names_what_is_wrong() {
    let system = Setup::services().roles(1, 1, 0).start().await;
    let names = [
        "database",
        "migrations",
        "indexes",
        "clock",
        "broker",
        "broker topology",
        "broker alarms",
        "broker bindings",
        "broker consumer_timeout",
        "prefetch",
        "certificates",
        "secrets",
        "workers",
        "workers' broker",
        "workers' clocks",
        "api",
    ];
    // A worker tells of its broker when it has heard of it, and a broker may be slow to confirm.
    let begun = Instant::now();
    let well = loop {
        let (code, seen) = doctor(&system, &[], &["--url", &system.url_of(0)]).await;
        let ill: Vec<&str> = names.into_iter().filter(|name| states(&seen, name) != ["ok"]).collect();
        if code == 0 && ill.is_empty() {
            break seen;
        }
        assert!(begun.elapsed() < LONG, "{ill:?}: {seen}");
    };
    // No scheduler was started.
    assert_eq!(states(&well, "sweeps"), ["warn"], "{well}");

    let agent = Agent::new(&system.model).with(json!({"model": {"secret": "nowhere"}}));
    system.client().put_agent("clerk", agent.document()).await;
    system.schema().execute("DROP INDEX executions_ready");
    let (code, ill) = doctor(&system, &[], &[]).await;
    assert_eq!(
        (code, states(&ill, "indexes"), states(&ill, "secrets")),
        (1, vec!["fail"], vec!["warn"]),
        "{ill}"
    );
    assert!(ill.to_string().contains("executions_ready") && ill.to_string().contains("`nowhere`"), "{ill}");

    // Nobody listens on these ports.
    let nowhere = [
        ("HOLDPOINT__DATABASE__URL", "postgres://nobody@127.0.0.1:9/none"),
        ("HOLDPOINT__QUEUE__URL", "amqp://guest:guest@127.0.0.1:9/%2f"),
    ];
    let (code, away) = doctor(&system, &nowhere, &["--url", "http://127.0.0.1:9"]).await;
    let all = ["database", "broker", "api"].map(|name| states(&away, name));
    assert_eq!((code, all), (1, [vec!["fail"], vec!["fail"], vec!["fail"]]), "{away}");
}

/// Looks until it sees what it should.
async fn wait_seen(
    system: &System,
    settings: &[(&str, &str)],
    what: &str,
    is_seen: impl Fn(&Value) -> bool,
) -> Value {
    let begun = Instant::now();
    loop {
        let (_, seen) = doctor(system, settings, &[]).await;
        if is_seen(&seen) {
            return seen;
        }
        assert!(begun.elapsed() < LONG, "{what}: {seen}");
    }
}

/// Looks until the finding of this name has this state.
async fn wait_state(system: &System, settings: &[(&str, &str)], name: &str, state: &str) -> Value {
    let what = format!("{name} should be {state}");
    wait_seen(system, settings, &what, |seen| states(seen, name) == [state]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_sees_a_binding_that_is_gone_and_disturbs_nobody() {
    let system = Setup::services().start().await;
    // Before somebody consumes, it does not look at the bindings.
    wait_seen(&system, &[], "the bindings are looked at", |seen| {
        seen.to_string().contains("what is sent to each exchange reaches its queue")
    })
    .await;
    wait_state(&system, &[], "sweeps", "ok").await;
    let parked = system.client().get("/v1/parked-messages").await.expect(200).body;
    assert_eq!(parked["parked_messages"], json!([]), "probes are thrown away");
    assert_eq!(system.schema().count("SELECT count(*) FROM parked_messages"), 0);
    let connection = system.amqp().await;
    let channel = connection.create_channel().await.expect("a channel");
    let commands = format!("{}.commands", system.prefix);
    channel
        .queue_unbind(commands.as_str().into(), commands.as_str().into(), "#".into(), Default::default())
        .await
        .expect("unbound");
    connection.close(200, "done".into()).await.expect("closed");
    let seen = wait_state(&system, &[], "broker bindings", "fail").await;
    assert_eq!(seen["ok"], false, "{seen}");
    assert!(seen.to_string().contains(&format!("not bound to its exchange: {commands}")), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_sees_an_alarm_and_a_short_timeout() {
    let broker = PrivateBroker::start();
    let system = Setup::services().broker(&broker.url()).start().await;
    let tool = broker.tool_environment();
    let settings: Vec<(&str, &str)> =
        tool.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    // What the broker's tool says is left out where it takes too long.
    let seen = wait_seen(&system, &settings, "there is no alarm, and the tool answers", |seen| {
        states(seen, "broker alarms") == ["ok"] && seen.to_string().contains("1800000 ms")
    })
    .await;
    assert_eq!(states(&seen, "broker consumer_timeout"), ["ok"], "{seen}");
    broker.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 5000)."]);
    broker.ctl(&["set_vm_memory_high_watermark", "0.000001"]);
    let seen = wait_seen(&system, &settings, "there is an alarm, and the tool answers", |seen| {
        states(seen, "broker alarms") == ["fail"] && states(seen, "broker consumer_timeout") == ["warn"]
    })
    .await;
    assert_eq!(states(&seen, "broker bindings"), ["warn"], "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_tells_of_workers_that_are_gone() {
    let mut system = Setup::services().roles(1, 0, 0).set("worker.lease_ms", "1500").start().await;
    let (_, none) = doctor(&system, &[], &[]).await;
    assert_eq!(states(&none, "workers"), ["warn"], "{none}");
    let agent = Agent::new(&system.model).with(json!({"model": {"secret": "openai"}}));
    system.client().put_agent("clerk", agent.document()).await;
    let worker =
        system.start_worker(&[("worker.name", "ada"), ("outbound.secrets.acme.openai", "sk-123456")]);
    // The worker has the secret, though it is not configured where the doctor is called.
    let seen = wait_state(&system, &[], "workers", "ok").await;
    assert!(seen.to_string().contains("`ada` holds 0"), "{seen}");
    wait_state(&system, &[], "secrets", "ok").await;
    system.workers[worker].kill9();
    let seen = wait_state(&system, &[], "workers", "warn").await;
    assert!(seen.to_string().contains("the lease of the last one, `ada`, ran out at "), "{seen}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_looks_at_an_embedded_store_beside_its_process() {
    let mut system = Setup::embedded().start().await;
    let (code, beside) = doctor(&system, &[], &[]).await;
    assert_eq!(code, 0, "{beside}");
    for name in ["database", "migrations", "indexes", "folder", "secrets", "broker"] {
        assert_eq!(states(&beside, name), ["ok"], "{name}: {beside}");
    }
    system.stop_dev();
    let folder = system.folder().join(".holdpoint");
    std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("rights");
    let (code, open) = doctor(&system, &[], &[]).await;
    assert_eq!((code, states(&open, "folder")), (0, vec!["warn"]), "{open}");
    let (code, none) = doctor(&system, &[("HOLDPOINT__DATABASE__URL", "sqlite:./none")], &[]).await;
    assert_eq!((code, states(&none, "database")), (1, vec!["fail"]), "{none}");
    assert!(!system.folder().join("none").exists(), "a look makes no folder");
}

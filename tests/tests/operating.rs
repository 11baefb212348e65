//! What operators ask: why an execution stands where it stands, and what an installation lacks.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::SOON;
use holdpoint_tests::system::{Setup, System};
use serde_json::{Value, json};

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
        sentence.starts_with("The worker `") && sentence.contains("the model call (step 1)"),
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
    let code = process.wait_exit(SOON).await.code().expect("a code");
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
    let (code, well) = doctor(&system, &[], &["--url", &system.url_of(0)]).await;
    assert_eq!(code, 0, "{well}");
    for name in ["database", "migrations", "indexes", "clock", "broker", "broker topology", "secrets", "api"]
    {
        assert_eq!(states(&well, name), ["ok"], "{name}: {well}");
    }

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

//! The harness itself: what the other tests trust.

use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::{Model, Turn};
use holdpoint_tests::poll::SOON;
use holdpoint_tests::private_broker::PrivateBroker;
use holdpoint_tests::private_postgres::PrivatePostgres;
use holdpoint_tests::processes::Spawn;
use holdpoint_tests::services::Schema;
use holdpoint_tests::sse::Stream;
use holdpoint_tests::tool::{Reply, Tools};
use serde_json::{Value, json};

#[test]
fn a_schema_is_apart_from_others() {
    let (one, other) = (Schema::create(), Schema::create());
    one.execute("CREATE TABLE t (n int)");
    one.execute("INSERT INTO t VALUES (1), (2)");
    assert_eq!(one.count("SELECT count(*) FROM t"), 2);
    assert_eq!(other.count("SELECT count(*) FROM pg_tables WHERE schemaname = current_schema()"), 0);
}

#[test]
fn a_private_postgres_keeps_what_was_committed_through_a_kill() {
    let mut postgres = PrivatePostgres::start();
    let schema = Schema::create_in(&postgres.url());
    schema.execute("CREATE TABLE t (n int)");
    postgres.kill9();
    postgres.start_again();
    assert_eq!(schema.count("SELECT count(*) FROM t"), 0);
    postgres.stop_fast();
    postgres.start_again();
    assert_eq!(schema.count("SELECT count(*) FROM t"), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_broker_comes_back_after_a_kill() {
    let mut broker = PrivateBroker::start();
    let connect = |url: String| async move {
        lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await
    };
    assert!(connect(broker.url()).await.is_ok());
    broker.kill9();
    assert!(connect(broker.url()).await.is_err());
    broker.start_again();
    let connection = connect(broker.url()).await.unwrap();
    connection.close(200, "done".into()).await.unwrap();
    broker.ctl(&["list_queues", "name"]);
}

#[tokio::test]
async fn a_model_says_what_its_script_says() {
    let model = Model::start().await;
    let gate = Gate::closed();
    model.script([
        Turn::say("abcdefgh").held_midway(&gate),
        Turn::status(429).header("retry-after", "1"),
        Turn::half("abc"),
    ]);
    let client = Client::new(model.url(), None);
    let body = json!({"messages": [{"role": "user", "content": "hi"}]});
    let ask = || client.builder(reqwest::Method::POST, "/chat/completions").json(&body).send();
    let mut stream = Stream::new(ask().await.unwrap());
    assert_eq!(stream.next().await.unwrap().data["choices"][0]["delta"]["content"], "abcde");
    gate.wait_arrived(1).await;
    gate.open();
    assert_eq!(stream.rest().await.last().unwrap().data, "[DONE]");
    let refused = ask().await.unwrap();
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert!(ask().await.unwrap().text().await.is_err(), "the body breaks");
    assert_eq!(model.requests().len(), 3);
}

#[tokio::test]
async fn a_tool_answers_is_held_and_resets() {
    let tools = Tools::start().await;
    let gate = Gate::closed();
    tools.script(
        "/a",
        [Reply::Status(503), Reply::Held(gate.clone(), Box::new(Reply::Json(json!(1)))), Reply::Reset],
    );
    let client = Client::new(&tools.url(""), None);
    assert_eq!(client.post("/a", &json!({"n": 1})).await.status, 503);
    let held = tokio::spawn({
        let client = client.clone();
        async move { client.post("/a", &json!({"n": 2})).await.text }
    });
    gate.wait_arrived(1).await;
    gate.open();
    assert_eq!(held.await.unwrap(), "1");
    assert!(client.try_send(client.builder(reqwest::Method::POST, "/a").json(&json!({}))).await.is_err());
    assert_eq!(client.post("/a", &json!({})).await.body, json!({"ok": true}));
    assert_eq!(tools.count("/a"), 4);
}

#[tokio::test]
async fn a_process_is_stopped_woken_and_killed() {
    let script = "trap 'echo ended; exit 3' TERM; echo ready; while :; do sleep 0.05; done";
    let mut process = Spawn::program("sh", "sh").args(["-c", script]).spawn();
    process.wait_said("ready").await;
    process.stop();
    process.cont();
    process.terminate();
    assert_eq!(process.wait_exit(SOON).await.code(), Some(3));
    let mut other = process.again().spawn();
    other.wait_said("ready").await;
    other.kill9();
    assert!(!other.said("ended"));
}

/// A suite that `main.rs` does not name would not run.
#[test]
fn every_suite_is_run() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let named = std::fs::read_to_string(folder.join("main.rs")).expect("main.rs");
    let mut named: Vec<_> =
        named.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';')).collect();
    let files = std::fs::read_dir(folder).expect("the folder").map(|file| file.expect("a file").file_name());
    let files = files.filter_map(|file| file.to_str()?.strip_suffix(".rs").map(str::to_owned));
    let mut files: Vec<_> = files.filter(|file| file != "main").collect();
    files.sort();
    named.sort_unstable();
    assert_eq!(named, files);
}

/// `cargo run`, as the README has it, would not know which of several to run.
#[test]
fn the_workspace_runs_one_program() {
    let workspace = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let args = ["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", workspace];
    let told = Spawn::program("cargo", env!("CARGO")).args(args).run();
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let members = told["workspace_default_members"].as_array().expect("members");
    let packages = told["packages"].as_array().expect("packages");
    let run = packages.iter().filter(|package| members.contains(&package["id"]));
    let targets = run.flat_map(|package| package["targets"].as_array().expect("targets"));
    let programs: Vec<&Value> =
        targets.filter(|target| target["kind"] == json!(["bin"])).map(|target| &target["name"]).collect();
    assert_eq!(programs, ["holdpoint"]);
}

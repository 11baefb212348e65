//! What a caller sends along for one execution: headers for tools that list them, which are
//! found nowhere else, and the user's own time, which the model is told.

use std::path::Path;

use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::go;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until_true};
use holdpoint_tests::services::Schema;
use holdpoint_tests::system::{Kind, Setup, System};
use holdpoint_tests::tool::Reply;
use serde_json::{Value, json};

on_both! {
    the_user_s_time_is_told_to_the_model;
}

const SEAL_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const TOKEN: &str = "tok-5eb63bbbe01eeed093cb22bb8f5acdc3";
const COOKIE: &str = "session=\"9ca3c49d7f6a\"; theme=dark-as-the-night";

/// Every row of every table of a schema, bytes as hex.
fn rows(schema: &Schema) -> String {
    let tables = schema.texts("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()");
    assert!(tables.len() > 10, "{tables:?}");
    tables
        .iter()
        .flat_map(|table| schema.texts(&format!("SELECT to_jsonb(t) FROM \"{table}\" AS t")))
        .collect()
}

/// Every byte of the embedded store's folder.
fn bytes(folder: &Path) -> Vec<u8> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| std::fs::read(entry.unwrap().path()).unwrap());
    files.flatten().collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Looks for a value in everything that is stored and logged; sees to it that `mark`, which is
/// stored, would be found.
fn assert_nowhere(system: &System, value: &str, mark: &str) {
    let logs: String = system
        .apis
        .iter()
        .chain(&system.workers)
        .chain(&system.schedulers)
        .flat_map(|process| process.log())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(logs.contains("DEBUG"), "the log is as full as can be");
    assert!(!logs.contains(value), "{value} is in the log");
    match system.kind {
        Kind::Services => {
            let rows = rows(system.schema());
            assert!(rows.contains(mark), "{mark} would be found");
            assert!(!rows.contains(value) && !rows.contains(&hex(value)), "{value} is in a row");
        }
        Kind::Embedded => {
            let bytes = bytes(&system.folder().join(".holdpoint"));
            let has = |text: &str| bytes.windows(text.len()).any(|part| part == text.as_bytes());
            assert!(has(mark), "{mark} would be found");
            assert!(!has(value), "{value} is in a file");
        }
    }
}

async fn put_agent(system: &System) {
    let lists =
        |name: &str| json!({"http": {"forwarded_headers": ["x-token", name]}, "effect": "idempotent"});
    let agent = Agent::new(&system.model)
        .tool(&system.tools, "look", lists("authorization"))
        .tool(&system.tools, "peek", json!({}))
        .gated(&system.tools, "pay")
        .tool(&system.tools, "tell", lists("cookie"));
    system.client().put_agent("clerk", agent.document()).await;
}

fn with_headers(mut body: Value) -> Value {
    body["forwarded_headers"] =
        json!({"x-token": TOKEN, "Authorization": format!("Bearer {TOKEN}-b"), "cookie": COOKIE});
    body
}

fn header<'a>(call: &'a holdpoint_tests::tool::Call, name: &str) -> Option<&'a str> {
    call.headers.get(name).map(|value| value.to_str().unwrap())
}

/// Behaviour 10 of the issue.
async fn headers_reach_the_tools_that_list_them_and_nothing_else(system: System) {
    put_agent(&system).await;
    let client = system.client();
    system.model.script([
        Turn::call(&[
            ("c1", "look", json!({"n": 1})),
            ("c2", "peek", json!({"n": 2})),
            ("c3", "tell", json!({"n": 3})),
        ]),
        Turn::call(&[("c4", "pay", json!({"n": 4}))]),
        Turn::call(&[("c5", "look", json!({"n": 5}))]),
        Turn::say("done"),
    ]);
    // A tool that sends back what it got must not make it known.
    system.tools.script("/look", [Reply::Json(json!({"got": [TOKEN, format!("{TOKEN}-b")]}))]);
    system.tools.script("/tell", [Reply::Json(json!({"got": COOKIE, "deep": [{COOKIE: 1}]}))]);
    let mut body = with_headers(go("clerk"));
    body["labels"] = json!({"mark": "mark-of-this-start"});
    let id = client.start_with(body).await;
    client.wait_suspended(&id, "approval").await;

    let looked = &system.tools.calls("/look")[0];
    assert_eq!(header(looked, "x-token"), Some(TOKEN));
    assert_eq!(header(looked, "authorization"), Some(format!("Bearer {TOKEN}-b").as_str()));
    assert_eq!(header(looked, "cookie"), None, "it is not listed");
    let told = &system.tools.calls("/tell")[0];
    assert_eq!((header(told, "cookie"), header(told, "authorization")), (Some(COOKIE), None));
    let peeked = &system.tools.calls("/peek")[0];
    for name in ["x-token", "authorization", "cookie"] {
        assert_eq!(header(peeked, name), None, "{name}");
    }
    for value in [TOKEN, COOKIE, "9ca3c49d7f6a"] {
        assert_nowhere(&system, value, "mark-of-this-start");
    }
    if system.kind == Kind::Services {
        let kept = "SELECT count(*) FROM execution_extras WHERE sealed_headers IS NOT NULL";
        assert_eq!(system.schema().count(kept), 1);
    }

    // Once more after the suspension, by a lease of its own.
    client.approve(&id, "c4").await;
    client.wait_status(&id, "completed").await;
    assert_eq!(header(&system.tools.calls("/look")[1], "x-token"), Some(TOKEN));
    assert_eq!(header(&system.tools.calls("/pay")[0], "x-token"), None);
    let mut seen = String::new();
    for path in ["", "/steps", "/events?limit=1000", "/approvals"] {
        seen += &client.get(&format!("/v1/executions/{id}{path}")).await.expect(200).text;
    }
    for request in system.model.requests() {
        seen += &format!("{} {:?}", request.body, request.headers);
    }
    for value in [TOKEN, "9ca3c49d7f6a"] {
        assert_nowhere(&system, value, "mark-of-this-start");
        assert!(!seen.contains(value), "{seen}");
    }
    assert!(seen.contains("[secret]"), "{seen}");
    if system.kind == Kind::Services {
        let kept = "SELECT count(*) FROM execution_extras WHERE sealed_headers IS NOT NULL";
        assert_eq!(system.schema().count(kept), 0, "removed at the end");
    }
    the_chat_door_takes_them(&system).await;
    bad_ones_start_nothing(&system).await;
}

async fn the_chat_door_takes_them(system: &System) {
    system.model.script([Turn::call(&[("c1", "look", json!({"n": 9}))]), Turn::say("done")]);
    let body = with_headers(json!({"model": "clerk", "messages": [{"role": "user", "content": "go"}]}));
    system.client().post("/v1/chat/completions", &body).await.expect(200);
    let call = system.tools.calls("/look").pop().unwrap();
    assert_eq!((call.json()["n"].as_i64(), header(&call, "x-token")), (Some(9), Some(TOKEN)));
}

async fn bad_ones_start_nothing(system: &System) {
    let client = system.client();
    let count = || async {
        client.get("/v1/executions?limit=1000").await.body["executions"].as_array().unwrap().len()
    };
    let before = count().await;
    for (path, body) in [
        ("/v1/executions", go("clerk")),
        ("/v1/chat/completions", json!({"model": "clerk", "messages": [{"role": "user", "content": "go"}]})),
    ] {
        for bad in [
            json!({"connection": TOKEN}),
            json!({"x-a": format!("{TOKEN}\n")}),
            json!({"x-a": [TOKEN]}),
            json!(TOKEN),
        ] {
            let mut body = body.clone();
            body["forwarded_headers"] = bad;
            let answer = client.post(path, &body).await.expect(400);
            assert!(answer.text.contains("forwarded_headers"), "{}", answer.text);
            assert!(!answer.text.contains(TOKEN), "{}", answer.text);
        }
    }
    assert_eq!(count().await, before);
    assert_nowhere(system, TOKEN, "clerk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_on_services() {
    let setup = Setup::services().set("outbound.seal_keys", SEAL_KEY).set("log.level", "trace");
    headers_reach_the_tools_that_list_them_and_nothing_else(setup.start().await).await;
}

/// `dev` makes a key of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_embedded() {
    let system = Setup::embedded().set("log.level", "trace").start().await;
    headers_reach_the_tools_that_list_them_and_nothing_else(system).await;
}

/// Without a key nothing is kept; with another key than the one that sealed, a tool that lists
/// a header is not called, and the model is told why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_need_their_key() {
    let mut system = Setup::services().roles(1, 0, 1).start().await;
    put_agent(&system).await;
    let client = system.client();
    let refused = client.post("/v1/executions", &with_headers(go("clerk"))).await;
    let refused = refused.expect_problem(400, "forwarded_headers_unavailable");
    assert!(refused.text.contains("outbound.seal_keys"), "{}", refused.text);
    client
        .post("/v1/executions", &json!({"agent": "clerk", "input": "go", "forwarded_headers": {}}))
        .await
        .expect(202);

    let other_key = SEAL_KEY.replace("AQID", "AQIE");
    system.restart_api(0, &[("outbound.seal_keys", SEAL_KEY)]);
    system.wait_ready(0).await;
    system.model.answer_by(|request| {
        if request.turns() == 0 {
            Turn::call(&[("c1", "look", json!({"n": 1})), ("c2", "peek", json!({"n": 2}))])
        } else {
            Turn::say("done")
        }
    });
    let id = client.start_with(with_headers(go("clerk"))).await;
    system.start_worker(&[("outbound.seal_keys", &other_key)]);
    client.wait_status(&id, "completed").await;
    let request =
        system.model.requests().into_iter().find(|r| r.told("c1").is_some_and(|t| t.contains("auth")));
    let told = request.expect("the model is told").told("c1").unwrap();
    assert!(told.contains("outbound.seal_keys") && !told.contains(TOKEN), "{told}");
}

async fn the_user_s_time_is_told_to_the_model(system: System) {
    let client = system.client();
    client.put_agent("clerk", Agent::new(&system.model).document()).await;
    let good = [
        ("x-holdpoint-client-timestamp", "2026-11-21T05:49:06Z"),
        ("x-holdpoint-client-timezone", "Asia/Kolkata"),
    ];
    let told = "When the user wrote, it was Saturday, 21 November 2026, 11:19 for them (UTC+05:30, time zone Asia/Kolkata).";
    let chat = json!({"model": "clerk", "messages": [{"role": "user", "content": "go"}]});
    let batch = json!({"executions": [go("clerk")]});
    let starts = [
        ("/v1/executions", go("clerk"), 202),
        ("/v1/chat/completions", chat, 200),
        ("/v1/executions/batch", batch, 200),
    ];
    for (path, body, status) in starts {
        let before = system.model.requests().len();
        client.post_with(path, &good, &body).await.expect(status);
        until_true("the model is asked", SOON, || system.model.requests().len() > before).await;
        let messages = system.model.requests()[before].messages().clone();
        assert_eq!(messages[0]["content"], "You are tested.", "{path}");
        assert_eq!(messages[1], json!({"role": "system", "content": told}), "{path}");
        assert_eq!(messages[2]["content"], "go", "{path}");
    }
    let bad: [&[(&str, &str)]; 4] = [
        &good[..1],
        &good[1..],
        &[good[0], ("x-holdpoint-client-timezone", "Mars/Olympus")],
        &[("x-holdpoint-client-timestamp", "noon"), good[1]],
    ];
    for headers in bad {
        let before = system.model.requests().len();
        client.post_with("/v1/executions", headers, &go("clerk")).await.expect(202);
        until_true("the model is asked", SOON, || system.model.requests().len() > before).await;
        assert_eq!(system.model.requests()[before].messages().len(), 2, "{headers:?}");
    }
}

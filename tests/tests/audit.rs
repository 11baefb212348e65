//! The audit as its readers have it: over HTTP, on the command line, in an export, and with a
//! verifier that is not Holdpoint's.

use holdpoint_tests::agents::clerk;
use holdpoint_tests::clients::python_program;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::SOON;
use holdpoint_tests::processes::Spawn;
use holdpoint_tests::system::System;
use serde_json::{Value, json};

on_both! {
    every_act_is_told_and_the_chain_is_verified;
    only_administrators_read_it;
}

/// A hostile reason: the row is verified by others over the same bytes.
const REASON: &str = "no: \"\u{202e}gnp\u{7f}\u{1}\u{1f600}\u{2028}\\";

fn command_line(system: &System, args: &[&str]) -> Spawn {
    system
        .holdpoint("client")
        .args(args)
        .env("HOLDPOINT_URL", system.url_of(0))
        .env("HOLDPOINT_KEY", system.admin())
}

/// The exit code of a verification, and what it printed.
async fn verdict(script: Spawn) -> (i32, String) {
    let mut process = script.spawn();
    let code = process.wait_exit(SOON).await.code().expect("a code");
    (code, process.log().join("\n"))
}

async fn every_act_is_told_and_the_chain_is_verified(system: System) {
    let client = system.client();
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    let ask = || Turn::call(&[("c1", "pay", json!({"n": 1})), ("c2", "pay", json!({"n": 2}))]);
    system.model.script([ask(), Turn::say("done")]);
    let id = client.start("clerk").await;
    client.wait_pending(&id, 2).await;
    client.deny(&id, "c1", REASON).await.expect(200);
    let many = json!({"decisions": [{"execution_id": id, "tool_call_id": "c2", "approved": true}]});
    client.post("/v1/approvals/decisions", &many).await.expect(200);
    client.wait_status(&id, "completed").await;

    let rows = list(&system, &format!("?subject={id}")).await;
    let approved: Vec<&Value> = rows.iter().map(|row| &row["act"]).collect();
    assert_eq!(approved, ["approval.decided", "approval.decided"], "{rows:?}");
    let details: Vec<Value> = rows.iter().map(details).collect();
    assert_eq!((&details[0]["approved"], &details[1]["approved"]), (&json!(true), &json!(false)));
    assert_eq!(details[1]["reason"], REASON);
    assert!(rows.iter().all(|row| row["actor"].as_str().is_some_and(|by| by.starts_with("key_"))));
    let put = list(&system, "?act=definition.put&limit=1").await;
    assert_eq!(put[0]["subject"], "agent/clerk");

    let page = client.get("/v1/audit?limit=2").await.expect(200).body;
    assert_eq!(page["head"]["hash"], page["audit"][0]["hash"], "newest first");
    let next = page["next_cursor"].as_str().expect("more");
    let older = list(&system, &format!("?limit=2&cursor={next}")).await;
    assert_eq!(older[0]["hash"], page["audit"][1]["prev_hash"]);

    let head = page["head"]["hash"].as_str().expect("a hash").to_owned();
    let whole = command_line(&system, &["audit", "verify", "--head", &head]).run();
    assert!(whole.contains(": whole, ") && whole.contains(&head), "{whole}");
    let table = command_line(&system, &["audit", "list", "--act", "approval.decided"]).run();
    assert!(table.contains("approval.decided") && !table.contains('\u{202e}'), "{table}");

    let export = command_line(&system, &["audit", "export"]).run();
    verify_files(&system, &export, &head).await;
}

async fn list(system: &System, query: &str) -> Vec<Value> {
    let answer = system.client().get(&format!("/v1/audit{query}")).await.expect(200).body;
    answer["audit"].as_array().expect("rows").clone()
}

fn details(row: &Value) -> Value {
    serde_json::from_str(row["details"].as_str().expect("a text")).expect("JSON")
}

/// Whole, with a row altered, with one removed, and cut off: by the command and by Python.
async fn verify_files(system: &System, export: &str, head: &str) {
    let lines: Vec<&str> = export.lines().collect();
    assert!(lines.len() >= 3, "{export}");
    let altered = export.replacen("agent/clerk", "agent/clerc", 1);
    let removed = [&lines[..1], &lines[2..]].concat().join("\n");
    let cut = lines[..lines.len() - 1].join("\n");
    for (name, text, code) in
        [("whole", export, 0), ("altered", &altered, 1), ("removed", &removed, 1), ("cut", &cut, 1)]
    {
        let file = system.folder().join(name);
        std::fs::write(&file, text).expect("a file");
        let file = file.to_str().expect("a plain path");
        let ours = verdict(command_line(system, &["audit", "verify", "--file", file, "--head", head])).await;
        assert_eq!(ours.0, code, "{name}: {}", ours.1);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/audit_verify.py");
        let python = Spawn::program("python", python_program()).args(["-B", script, file, head]);
        let theirs = verdict(python).await;
        assert_eq!(theirs.0, code, "{name}: {}", theirs.1);
        assert_eq!(theirs.1.contains(head), name != "altered" && name != "removed", "{}", theirs.1);
    }
}

async fn only_administrators_read_it(mut system: System) {
    for role in ["submit", "approve", "read", "agent"] {
        let key = system.key_for("default", "default", role).await;
        let refused = system.client().with_key(Some(&key)).get("/v1/audit").await;
        refused.expect_problem(403, "forbidden");
    }
    let stranger = system.key_for("globex", "shop", "admin").await;
    let client = system.client().with_key(Some(&stranger));
    let rows = client.get("/v1/audit").await.expect(200).body;
    assert!(rows["audit"].as_array().expect("rows").iter().all(|row| row["tenant"] == "globex"), "{rows}");
    for query in ["?act=nonsense", "?order=up", "?limit=0", "?cursor=x", "?after=x", "?x=1"] {
        client.get(&format!("/v1/audit{query}")).await.expect_problem(400, "invalid_parameter");
    }
}

/// What the documentation shows is what is tried here.
#[test]
fn the_documentation_shows_the_verifier_as_it_is() {
    let script = include_str!("../clients/audit_verify.py");
    let (_, shown) = script.split_once("\"\"\"\n\n").expect("a head line");
    assert!(include_str!("../../docs/audit.md").contains(shown));
}

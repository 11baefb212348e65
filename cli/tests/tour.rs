//! The tour of the README, as a new user takes it: `dev --demo`, start, watch, approve; with
//! a `kill -9` in the middle, which the one who watches does not notice.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

const SOON: Duration = Duration::from_secs(60);

fn holdpoint(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdpoint"));
    command.current_dir(folder).args(arguments).stdin(Stdio::null());
    // Nothing of whoever runs the test may reach it.
    for (name, _) in std::env::vars() {
        if name.starts_with("HOLDPOINT") || name == "DATABASE_URL" || name == "AMQP_URL" {
            command.env_remove(name);
        }
    }
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    holdpoint(folder, arguments).output().unwrap()
}

/// Runs a command that must succeed; its JSON.
fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = run(folder, &[arguments, &["--json"]].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {output:?}"))
}

/// A process whose lines on standard output are JSON; ended when it is dropped.
struct Running {
    child: Child,
    lines: Receiver<Value>,
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let out = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines }
    }

    fn line(&self) -> Value {
        self.lines.recv_timeout(SOON).expect("a line in time")
    }

    /// All lines up to the first of this type.
    fn until(&self, kind: &str) -> Vec<Value> {
        let mut seen = Vec::new();
        loop {
            seen.push(self.line());
            if seen.last().unwrap()["type"] == kind {
                return seen;
            }
        }
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn kill9(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn terminate(&mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.ended()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `dev --demo` on any port, or on the port it had.
fn dev(folder: &Path, address: &str) -> (Running, String) {
    let dev = Running::new(holdpoint(folder, &["dev", "--demo", "--listen", address, "--json"]));
    let greeting = dev.line();
    let url = greeting["url"].as_str().unwrap_or_else(|| panic!("{greeting}")).to_owned();
    (dev, url.trim_start_matches("http://").to_owned())
}

fn watch(folder: &Path, wish: &str) -> Running {
    Running::new(holdpoint(folder, &["start", "demo", "--input", wish, "--watch", "--json"]))
}

fn asked(events: &[Value]) -> (String, String) {
    let last = events.last().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&last["execution_id"]), text(&last["data"]["tool_call_id"]))
}

#[test]
fn an_approval_survives_a_kill_and_the_watcher_sees_every_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, address) = dev(folder.path(), "127.0.0.1:0");
    let mut watcher = watch(folder.path(), "Refund order 42");
    let mut events = watcher.until("approval.requested");
    let (execution, call) = asked(&events);

    let inbox = json(folder.path(), &["approvals", "list"]);
    assert_eq!(inbox["approvals"][0]["tool_call_id"], call.as_str());
    assert_eq!(inbox["approvals"][0]["tool"], "refund");

    first.kill9();
    let (mut second, _) = dev(folder.path(), &address);
    let digest = inbox["approvals"][0]["digest"].as_str().unwrap();
    let decided = json(folder.path(), &["approvals", "approve", &execution, &call, "--digest", digest]);
    assert_eq!(decided["already_decided"], false);
    events.extend(watcher.until("execution.completed"));
    assert!(watcher.ended().success());

    let numbers: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>());
    let paid =
        events.iter().filter(|event| event["type"] == "tool.completed" && event["data"]["tool"] == "refund");
    assert_eq!(paid.count(), 1);
    let late = ["executions", "watch", &execution, "--after", "9999", "--json"];
    assert!(Running::new(holdpoint(folder.path(), &late)).ended().success(), "it is over");
    let shown = json(folder.path(), &["executions", "show", &execution]);
    assert_eq!(shown["status"], "completed");
    assert!(shown["output"].as_str().unwrap().contains("61.90 were refunded"), "{shown}");
    assert!(second.terminate().success());
}

#[test]
fn a_denial_reaches_the_model_and_refusals_end_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let (_dev, _) = dev(folder.path(), "127.0.0.1:0");
    let mut watcher = watch(folder.path(), "Refund order 7");
    let (execution, call) = asked(&watcher.until("approval.requested"));
    json(folder.path(), &["approvals", "deny", &execution, &call, "--reason", "not this month"]);
    let events = watcher.until("execution.completed");
    assert!(watcher.ended().success());
    assert!(events.iter().all(|event| event["type"] != "tool.called"), "the tool was called");
    assert!(events.last().unwrap()["data"]["output"].as_str().unwrap().contains("not this month"));

    let refused = run(folder.path(), &["approvals", "approve", &execution, &call, "--json"]);
    assert_eq!(refused.status.code(), Some(1));
    let problem: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert_eq!(problem["code"], "approval_conflict");
    let unknown = run(folder.path(), &["executions", "show", "exe_00000000000000000000000000"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("404"), "{unknown:?}");
}

#[test]
fn a_folder_has_one_dev_and_a_wrong_address_is_wrong_use() {
    let folder = tempfile::tempdir().unwrap();
    let (_dev, _) = dev(folder.path(), "127.0.0.1:0");
    let second = run(folder.path(), &["dev", "--listen", "127.0.0.1:0"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains(".holdpoint"), "{second:?}");
    assert_eq!(run(folder.path(), &["dev", "--listen", "0.0.0.0:0"]).status.code(), Some(2));
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(run(elsewhere.path(), &["executions", "list"]).status.code(), Some(2));
}

//! Parents and children of workflows, through every role: what ends the one comes while the other ends or
//! begins. Afterwards nothing goes on that nobody waits for, and no parent was told twice.

use std::future::Future;

use futures_util::future::join_all;
use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Barrier;

/// Families of each test.
const ROUNDS: usize = 15;

on_both! {
    a_branch_wins_while_its_rival_s_child_ends with two_workers;
    a_parent_is_cancelled_while_its_child_ends with two_workers;
    a_parent_is_cancelled_while_its_child_begins with two_workers;
}

fn two_workers(setup: Setup) -> Setup {
    setup.roles(1, 2, 1)
}

async fn put(client: &Client, name: &str, tasks: Value) {
    let document = json!({
        "document": {"dsl": "1.0.3", "namespace": "tests", "name": name, "version": "1.0.0"},
        "do": tasks,
    });
    let put = client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(&document);
    client.send(put).await.expect(201);
}

/// Waits for an event, and then there is its output.
fn waits_then(output: &str) -> Value {
    let listen = json!({"listen": {"to": {"one": {"with": {"type": "go"}}}}});
    json!([{"hear": listen}, {"say": {"set": {"by": output}}}])
}

fn child() -> Value {
    json!({"run": {"workflow": {"namespace": "tests", "name": "leaf", "version": "latest"}}})
}

/// A parent for each round.
async fn start_all(client: &Client, parent: Value) -> Vec<String> {
    put(client, "leaf", waits_then("child")).await;
    put(client, "parent", parent).await;
    let starts: Vec<Value> = (0..ROUNDS).map(|n| json!({"workflow": "parent", "input": {"n": n}})).collect();
    let answer = client.post("/v1/executions/batch", &json!({"executions": starts})).await.expect(200);
    let results = answer.body["results"].as_array().unwrap().clone();
    results.iter().map(|result| result["id"].as_str().unwrap().to_owned()).collect()
}

/// The child of each parent, once it waits.
async fn children(client: &Client, parents: &[String]) -> Vec<String> {
    let child_of = |parent: &String| {
        let client = client.clone();
        let parent = parent.clone();
        async move {
            client.wait_suspended(&parent, "signal").await;
            let delegated = |step: &Value| step["child"].as_str().map(str::to_owned);
            let child = client.steps(&parent).await.iter().find_map(delegated).unwrap();
            client.wait_suspended(&child, "signal").await;
            child
        }
    };
    join_all(parents.iter().map(child_of)).await
}

/// Both at the same moment.
async fn at_once<A, B>(one: impl Future<Output = A>, other: impl Future<Output = B>) -> (A, B) {
    let barrier = Barrier::new(2);
    let one = async {
        barrier.wait().await;
        one.await
    };
    let other = async {
        barrier.wait().await;
        other.await
    };
    tokio::join!(one, other)
}

async fn go(client: &Client, id: &str) -> u16 {
    client.post(&format!("/v1/executions/{id}/signals/go"), &json!({})).await.status
}

/// The answer's status, and the execution's at that moment.
async fn cancel(client: &Client, id: &str) -> (u16, String) {
    let answer = client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await;
    (answer.status, answer.body["status"].as_str().unwrap_or_default().to_owned())
}

async fn ended(client: &Client, id: &str) -> Value {
    until(&format!("{id} is over"), SOON, || async {
        let execution = client.execution(id).await;
        (!execution["finished_at"].is_null()).then_some(execution)
    })
    .await
}

async fn count(client: &Client, id: &str, kinds: &[&str]) -> usize {
    client.event_kinds(id).await.iter().filter(|kind| kinds.contains(&kind.as_str())).count()
}

/// One end, and at most one result of the child before it.
async fn told_once(client: &Client, parent: &str) {
    let ends = ["execution.completed", "execution.failed", "execution.cancelled"];
    assert_eq!(count(client, parent, &ends).await, 1);
    assert!(count(client, parent, &["tool.completed", "tool.failed"]).await <= 1);
    assert!(ends.contains(&client.event_kinds(parent).await.last().unwrap().as_str()));
}

async fn none_goes_on(client: &Client) {
    for status in ["queued", "running", "suspended"] {
        until(&format!("no child is {status}"), SOON, || async {
            let listed =
                client.get(&format!("/v1/executions?workflow=leaf&status={status}")).await.expect(200);
            listed.body["executions"].as_array().unwrap().is_empty().then_some(())
        })
        .await;
    }
}

async fn a_branch_wins_while_its_rival_s_child_ends(system: System) {
    let client = system.client();
    let branches = json!([{"own": {"do": waits_then("own")}}, {"leaf": child()}]);
    let parents =
        start_all(&client, json!([{"race": {"fork": {"compete": true, "branches": branches}}}])).await;
    let children = children(&client, &parents).await;
    let mut won = 0;
    for (round, (parent, child)) in parents.iter().zip(&children).enumerate() {
        if round % 2 == 0 {
            at_once(go(&client, parent), go(&client, child)).await;
        } else {
            // The child's news are on their way.
            go(&client, child).await;
            ended(&client, child).await;
            go(&client, parent).await;
        }
        let output = client.wait_status(parent, "completed").await["output"]["by"].clone();
        let left = ended(&client, child).await;
        assert!(output == "own" || left["status"] == "completed", "{output} won, and {left}");
        assert_eq!(count(&client, parent, &["execution.resumed"]).await, 1, "resumed once");
        told_once(&client, parent).await;
        won += usize::from(output == "child");
    }
    none_goes_on(&client).await;
    println!("the child won {won} of {ROUNDS}");
}

async fn a_parent_is_cancelled_while_its_child_ends(system: System) {
    let client = system.client();
    let parents = start_all(&client, json!([{"leaf": child()}])).await;
    let children = children(&client, &parents).await;
    let mut cancelled = 0;
    for (parent, child) in parents.iter().zip(&children) {
        let (_, (answer, told)) = at_once(go(&client, child), cancel(&client, parent)).await;
        let (parent_is, child_is) = (ended(&client, parent).await, ended(&client, child).await);
        let status = parent_is["status"].as_str().unwrap();
        let is_so = match (answer, told.as_str()) {
            (202, "cancelled") => status == "cancelled",
            // Its worker was at its last step, and may hear of the cancel only after that.
            (202, "running") => matches!(status, "cancelled" | "completed"),
            (409, _) => status == "completed",
            _ => false,
        };
        assert!(is_so, "{answer} {told}: {parent_is}");
        assert!(status == "cancelled" || child_is["status"] == "completed", "{parent_is} {child_is}");
        told_once(&client, parent).await;
        cancelled += usize::from(child_is["status"] == "cancelled");
    }
    none_goes_on(&client).await;
    println!("{cancelled} children were cancelled, of {ROUNDS}");
}

async fn a_parent_is_cancelled_while_its_child_begins(system: System) {
    let client = system.client();
    let gates: Vec<Gate> = (0..ROUNDS).map(|_| Gate::closed()).collect();
    for (n, gate) in gates.iter().enumerate() {
        let reply = Reply::Held(gate.clone(), Box::new(Reply::Json(json!({}))));
        system.tools.script(&format!("/hold/{n}"), [reply]);
    }
    let endpoint = format!("{}/{{n}}", system.tools.url("/hold"));
    let hold = json!({"call": "http", "with": {"method": "get", "endpoint": endpoint}});
    let parents = start_all(&client, json!([{"hold": hold}, {"leaf": child()}])).await;
    let mut begun = 0;
    for (n, (parent, gate)) in parents.iter().zip(&gates).enumerate() {
        system.tools.wait_calls(&format!("/hold/{n}"), 1).await;
        let open = async {
            // A cancel takes a few milliseconds: what it meets is another each time.
            for _ in 0..n % 5 {
                client.execution(parent).await;
            }
            gate.open();
        };
        let (_, (answer, _)) = at_once(open, cancel(&client, parent)).await;
        assert_eq!(answer, 202);
        assert_eq!(ended(&client, parent).await["status"], "cancelled");
        told_once(&client, parent).await;
        begun += count(&client, parent, &["tool.called"]).await - 1;
    }
    none_goes_on(&client).await;
    println!("{begun} children were to begin, of {ROUNDS}");
}

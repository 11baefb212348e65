//! Many workflows while their workers are killed: each ends as it would have without.

use std::time::Duration;

use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

/// How many executions.
const MANY: usize = 1000;
/// How many workers there are at any time.
const WORKERS: usize = 2;
/// A worker dies so often.
const KILL_EVERY: Duration = Duration::from_secs(1);
/// So much a worker has in its hands, and so many calls are made between two deaths: workers that die
/// before they begin prove nothing, and no step is to lose its worker so often that it is given up.
const SLOTS: i64 = 64;
/// After so many deaths, or so long, the rest may end in peace, so that a slow machine ends too.
const MOST_KILLS: usize = 40;
const KILLING: Duration = Duration::from_secs(60);
/// All of it ends within this, however slow the machine.
const LONG: Duration = Duration::from_secs(220);

/// Twenty tasks: of each kind that journals in its own way.
fn document(url: &str) -> String {
    format!(
        r#"
document: {{ dsl: '1.0.3', namespace: tests, name: twenty, version: '1.0.0' }}
do:
  - a1: {{ set: {{ n: '${{ .n }}', sum: 0 }} }}
  - a2: {{ set: {{ n: '${{ .n }}', sum: '${{ .sum + 1 }}' }}, export: {{ as: '{{ first: .n }}' }} }}
  - a3:
      call: http
      with: {{ method: get, endpoint: '{url}/get' }}
      output: {{ as: '$input + {{ got: .ok }}' }}
  - a4: {{ if: .got, set: {{ n: '${{ .n }}', sum: '${{ .sum + 2 }}' }} }}
  - a5: {{ wait: {{ milliseconds: 5 }} }}
  - a6:
      for: {{ each: item, in: '[1, 2, 3]' }}
      do:
        - a7: {{ set: {{ n: '${{ .n }}', sum: '${{ .sum + $item }}' }} }}
  - a8:
      switch:
        - odd: {{ when: '.n % 2 == 1', then: a10 }}
        - even: {{ then: a9 }}
  - a9: {{ set: {{ n: '${{ .n }}', sum: '${{ .sum + 10 }}' }} }}
  - a10:
      fork:
        branches:
          - a11: {{ set: {{ left: '${{ .sum }}' }} }}
          - a12:
              call: http
              with: {{ method: put, endpoint: '{url}/put', body: {{ n: '${{ .n }}' }} }}
      output: {{ as: '{{ n: $context.first, sum: (.[0].left + 100), put: .[1].ok }}' }}
  - a13:
      try:
        - a14: {{ raise: {{ error: {{ type: 'https://example.com/errors/odd', status: 400 }} }} }}
      catch:
        as: odd
        do:
          - a15: {{ set: {{ n: '${{ .n }}', sum: '${{ .sum + $odd.status }}' }} }}
  - a16: {{ do: [ {{ a17: {{ set: {{ n: '${{ .n }}', sum: '${{ .sum + 1000 }}' }} }} }} ] }}
  - a18: {{ wait: {{ milliseconds: 1 }} }}
  - a19:
      call: http
      with: {{ method: get, endpoint: '{url}/last' }}
      output: {{ as: '$input + {{ last: .ok }}' }}
  - a20: {{ set: {{ n: '${{ .n }}', sum: '${{ .sum }}', last: '${{ .last }}' }} }}
"#
    )
}

/// What each ends with, killed or not.
fn expected(n: usize) -> Value {
    let even = if n.is_multiple_of(2) { 10 } else { 0 };
    json!({"n": n, "sum": 1 + 2 + 6 + even + 100 + 400 + 1000, "last": true})
}

async fn start_all(system: &System) -> Vec<String> {
    let client = system.client();
    let put = client
        .builder(Method::PUT, "/v1/workflows/twenty")
        .header("content-type", "application/yaml")
        .body(document(system.tools.url("").trim_end_matches('/')));
    client.send(put).await.expect(201);
    let starts: Vec<Value> = (0..MANY).map(|n| json!({"workflow": "twenty", "input": {"n": n}})).collect();
    let answer = client.post("/v1/executions/batch", &json!({"executions": starts})).await.expect(200);
    let results = answer.body["results"].as_array().expect("results").clone();
    results.iter().map(|result| result["id"].as_str().expect("an id").to_owned()).collect()
}

async fn open(system: &System) -> usize {
    let mut open = 0;
    for status in ["queued", "running", "suspended"] {
        let path = format!("/v1/executions?workflow=twenty&status={status}&limit=100");
        let answer = system.client().get(&path).await.expect(200);
        open += answer.body["executions"].as_array().map_or(0, Vec::len);
    }
    open
}

/// How many calls were answered.
fn calls(system: &System) -> i64 {
    system.schema().count("SELECT count(*) FROM journal WHERE kind = 'tool.completed'")
}

/// Kills a worker every second, the oldest first, and starts another; answers when all are over.
async fn kill_until_over(system: &mut System) -> usize {
    let began = std::time::Instant::now();
    let (mut killed, mut calls_before) = (0, 0);
    loop {
        let pause = tokio::time::sleep(KILL_EVERY);
        let left = open(system).await;
        if left == 0 {
            return killed;
        }
        assert!(began.elapsed() < LONG, "{left} and more are not over");
        pause.await;
        let may_kill = killed < MOST_KILLS && began.elapsed() < KILLING;
        if may_kill && calls(system) >= calls_before + SLOTS {
            system.workers[killed].kill9();
            killed += 1;
            system.start_worker(&[]);
            calls_before = calls(system);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_workflows_end_as_without_kills() {
    // How many leases an execution may lose before it is given up is another test's matter: on a slow
    // machine one may lose several between two commits.
    let setup = Setup::services()
        .roles(1, WORKERS, 1)
        .set("worker.lease_ms", "1500")
        .set("worker.slots", &SLOTS.to_string())
        .set("scheduler.max_lost_leases", "100");
    let mut system = setup.start().await;
    let ids = start_all(&system).await;
    let killed = kill_until_over(&mut system).await;
    assert!(killed >= 3, "only {killed} workers were killed");
    let client = system.client();
    for (n, id) in ids.iter().enumerate() {
        let execution = until("the execution is over", SOON, async || {
            let execution = client.get(&format!("/v1/executions/{id}")).await.expect(200).body;
            (execution["status"] == "completed").then_some(execution)
        })
        .await;
        assert_eq!(execution["output"], expected(n), "{id}");
    }
    println!("{killed} workers were killed");
}

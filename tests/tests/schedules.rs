//! Schedules end to end: made by HTTP, carried out by whichever worker comes, each tick once:
//! with two schedulers, with a clock that jumps, over a pause, and over a worker's death.

use std::time::Duration;

use holdpoint_db::{ScheduleChange, ScheduleDocument, Ticked, TimingDocument};
use holdpoint_engine::schedule::CatchUp;
use holdpoint_engine::status::Overlap;
use holdpoint_engine::time::Span;
use holdpoint_tests::client::{Answer, Client};
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until, until_true};
use holdpoint_tests::schedules as of_store;
use holdpoint_tests::store_builders::{Bed, Held, scope, session};
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

const HOUR: &str = "3600000000";

on_both! {
    a_schedule_lives;
    a_workflow_brings_its_schedule;
    what_is_wrong_is_named;
}

async fn put(client: &Client, name: &str, body: &Value) -> Answer {
    client.send(client.builder(Method::PUT, &format!("/v1/schedules/{name}")).json(body)).await
}

async fn get(client: &Client, name: &str) -> Value {
    client.get(&format!("/v1/schedules/{name}")).await.expect(200).body
}

fn each_second() -> Value {
    json!({"workflow": "holdpoint.noop", "every": "1s", "labels": {"team": "night"}})
}

/// Waits until it has started so many.
async fn wait_runs(client: &Client, name: &str, runs: i64) -> Value {
    until(&format!("{name} has started {runs}"), SOON, || async {
        let schedule = get(client, name).await;
        (schedule["runs"].as_i64().unwrap() >= runs).then_some(schedule)
    })
    .await
}

async fn a_schedule_lives(system: System) {
    let client = system.client();
    let made = put(&client, "nightly", &each_second()).await.expect(201);
    assert_eq!(made.header("location"), "/v1/schedules/nightly");
    assert_eq!(made.body["next_ticks"].as_array().unwrap().len(), 5);
    let schedule = wait_runs(&client, "nightly", 2).await;
    let last = schedule["last_execution_id"].as_str().unwrap();
    client.wait_status(last, "completed").await;
    let execution = client.execution(last).await;
    assert_eq!(
        (&execution["labels"]["team"], &execution["run_type"]),
        (&json!("night"), &json!("production"))
    );
    assert_eq!(put(&client, "nightly", &each_second()).await.expect(200).body["id"], schedule["id"]);
    let paused = client.post("/v1/schedules/nightly/pause", &json!({})).await.expect(200).body;
    assert_eq!((&paused["paused"], &paused["next_ticks"]), (&json!(true), &json!([])));
    let cron = json!({"workflow": "holdpoint.noop", "cron": "30 2 * * *", "time_zone": "Europe/Berlin"});
    let changed = put(&client, "nightly", &cron).await.expect(200).body;
    assert_eq!((&changed["paused"], &changed["cron"]), (&json!(true), &json!("30 2 * * *")));
    let resumed = client.post("/v1/schedules/nightly/resume", &json!({})).await.expect(200).body;
    assert_eq!(resumed["next_ticks"].as_array().unwrap().len(), 5);
    assert_eq!(resumed["overlap"], "skip");
    let page = client.get("/v1/schedules").await.expect(200).body;
    assert_eq!(page["schedules"][0]["name"], "nightly");
    client.send(client.builder(Method::DELETE, "/v1/schedules/nightly")).await.expect(204);
    client.get("/v1/schedules/nightly").await.expect_problem(404, "not_found");
    client.post("/v1/schedules/nightly/pause", &json!({})).await.expect_problem(404, "not_found");
}

/// A workflow that starts itself, in YAML.
fn each_second_by_itself(retries: u32) -> String {
    format!(
        "document:
  dsl: 1.0.1
  namespace: tests
  name: ship
  version: 1.0.0
  metadata:
    holdpoint: {{retries: {retries}, overlap: queue}}
schedule:
  every: {{seconds: 1}}
do:
  - said:
      set: {{text: shipped}}
"
    )
}

async fn a_workflow_brings_its_schedule(system: System) {
    let client = system.client();
    let register = |retries: u32| {
        let builder = client.builder(Method::PUT, "/v1/workflows/ship");
        client.send(builder.header("content-type", "application/yaml").body(each_second_by_itself(retries)))
    };
    register(1).await.expect(201);
    let schedule = wait_runs(&client, "workflow:ship", 2).await;
    assert_eq!((&schedule["owner_version"], &schedule["overlap"]), (&json!(1), &json!("queue")));
    let run = client.wait_status(schedule["last_execution_id"].as_str().unwrap(), "completed").await;
    assert_eq!(run["output"], json!({"text": "shipped"}));
    register(2).await.expect(201);
    assert_eq!(get(&client, "workflow:ship").await["owner_version"], 2);
    let path = "/v1/schedules/workflow:ship";
    client.send(client.builder(Method::DELETE, path)).await.expect_problem(409, "schedule_owned");
    client.post("/v1/workflows/ship/pause", &json!({})).await.expect(200);
    let skipped = until("a tick is skipped", SOON, || async {
        let schedule = get(&client, "workflow:ship").await;
        (schedule["last_skipped_for"] == "workflow").then_some(schedule)
    })
    .await;
    client.post("/v1/workflows/ship/resume", &json!({})).await.expect(200);
    wait_runs(&client, "workflow:ship", skipped["runs"].as_i64().unwrap() + 1).await;
    client.send(client.builder(Method::DELETE, "/v1/workflows/ship")).await.expect(204);
    client.get(path).await.expect_problem(404, "not_found");
}

async fn what_is_wrong_is_named(system: System) {
    let client = system.client();
    let with = |more: Value| {
        let mut body = json!({"workflow": "holdpoint.noop"});
        for (name, value) in more.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    for (more, told) in [
        (json!({}), "exactly one of `cron`, `every` and `after`"),
        (json!({"every": "1m", "after": "1m"}), "exactly one"),
        (json!({"every": "999ms"}), "`every`: is 999ms: it may be 1s to 366d"),
        (json!({"after": "367d"}), "`after`"),
        (json!({"cron": "61 * * * *"}), "`61` is no minute: it may be 0 to 59"),
        (json!({"cron": "0 0 30 2 *"}), "never comes"),
        (json!({"cron": "@daily", "time_zone": "Berlin"}), "`time_zone`"),
        (json!({"every": "1m", "time_zone": "UTC"}), "it goes with `cron`"),
        (json!({"every": "1m", "overlap": "twice"}), "overlap"),
        (json!({"after": "1m", "overlap": "queue"}), "never overlap"),
        (json!({"after": "1m", "catch_up": {}}), "never missed"),
        (json!({"every": "1m", "catch_up": {"limit": 101}}), "`limit` is 101: it may be 1 to 100"),
        (json!({"every": "1m", "catch_up": {"window": "2d"}}), "`window` is 2d"),
        (json!({"every": "1m", "catch_up": {"windows": 1}}), "windows"),
        (json!({"every": "1m", "agent": "a"}), "exactly one of `agent` and `workflow`"),
        (json!({"every": "1m", "metadata": []}), "`metadata`"),
        (json!({"every": "1m", "messages": []}), "unknown field `messages`"),
        (json!({"every": "1m", "paused": 1}), "`paused`"),
    ] {
        let answer = put(&client, "s", &with(more.clone())).await.expect_problem(400, "invalid_body");
        assert!(answer.body["detail"].as_str().unwrap().contains(told), "{more}: {}", answer.text);
    }
    put(&client, "-s", &each_second()).await.expect_problem(400, "invalid_body");
    put(&client, "workflow:s", &each_second()).await.expect_problem(400, "invalid_body");
    for body in [
        json!({"workflow": "nobody-knows-it", "every": "1m"}),
        json!({"workflow": "holdpoint.noop", "version": 2, "every": "1m"}),
        json!({"agent": "nobody", "every": "1m"}),
    ] {
        put(&client, "s", &body).await.expect_problem(404, "unknown_definition");
    }
    client.get("/v1/schedules/s").await.expect_problem(404, "not_found");
    client.get("/v1/schedules?cursor=-").await.expect_problem(400, "invalid_parameter");
}

/// Every tick up to the next one was started, skipped or missed, and no two were the same.
async fn each_tick_once(system: &System, client: &Client, name: &str) {
    let schema = system.schema();
    let counted = |what: &str| schema.count(&format!("SELECT {what} FROM schedules WHERE name = '{name}'"));
    client.post(&format!("/v1/schedules/{name}/pause"), &json!({})).await.expect(200);
    let runs = format!("FROM schedule_runs WHERE schedule = '{name}'");
    let (runs, ticks) = (
        schema.count(&format!("SELECT count(*) {runs}")),
        schema.count(&format!("SELECT count(DISTINCT tick) {runs}")),
    );
    assert_eq!((runs, ticks), (counted("runs"), counted("runs")));
    let made = "SELECT count(*) FROM execution_info i JOIN schedule_runs r ON r.execution = i.id";
    assert_eq!(schema.count(&format!("{made} WHERE r.schedule = '{name}'")), runs);
}

/// How many ticks there were is told by the next one.
async fn none_left_out(system: &System, name: &str) {
    let schema = system.schema();
    let open = format!("SELECT count(*) FROM schedules WHERE name = '{name}' AND next_tick IS NOT NULL");
    assert_eq!(schema.count(&open), 1);
    let told = "runs + missed + skipped + (waiting_tick IS NOT NULL)::int";
    let passed = "(next_tick - anchor) / 1000000 - 1";
    let differs = format!("SELECT count(*) FROM schedules WHERE name = '{name}' AND {told} <> {passed}");
    assert_eq!(schema.count(&differs), 0, "a tick was left out, or made up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_schedulers_and_two_workers_start_each_tick_once() {
    let system = Setup::services().roles(1, 2, 2).start().await;
    let client = system.client();
    for overlap in ["skip", "queue", "cancel"] {
        let mut body = each_second();
        body["overlap"] = json!(overlap);
        put(&client, overlap, &body).await.expect(201);
    }
    for overlap in ["skip", "queue", "cancel"] {
        wait_runs(&client, overlap, 3).await;
        none_left_out(&system, overlap).await;
        each_tick_once(&system, &client, overlap).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_in_a_tick_leaves_it_to_the_next() {
    let mut system = Setup::services().roles(1, 0, 1).start().await;
    let client = system.client();
    let mut body = each_second();
    body["catch_up"] = json!({"window": "1d", "limit": 100});
    put(&client, "nightly", &body).await.expect(201);
    let worker = system.start_worker(&[("HOLDPOINT_FAILPOINT", "db.schedule.between")]);
    system.workers[worker].wait_for_failpoint().await;
    assert_eq!(get(&client, "nightly").await["runs"], 0, "nothing of it is committed");
    system.workers[worker].kill9();
    system.start_worker(&[]);
    let schedule = wait_runs(&client, "nightly", 2).await;
    assert_eq!(schedule["missed"], 0);
    none_left_out(&system, "nightly").await;
    each_tick_once(&system, &client, "nightly").await;
}

/// All workers and schedulers are gone, and others come whose clock is shifted.
async fn with_clock(system: &mut System, offset: &str) {
    system.workers.clear();
    system.schedulers.clear();
    // A commit that was sent is carried out after its sender's death.
    let open = "SELECT count(*) FROM pg_locks WHERE relation = 'schedules'::regclass";
    until_true("what they began is over", SOON, || system.schema().count(open) == 0).await;
    let url = system.schema().url_with(&[("holdpoint.clock_offset", offset)]);
    for _ in 0..2 {
        system.start_worker(&[("database.url", &url)]);
        system.start_scheduler(&[("database.url", &url)]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_jumps_an_hour_either_way_starts_no_tick_twice() {
    let mut system = Setup::services().roles(1, 2, 2).start().await;
    let client = system.client();
    put(&client, "nightly", &each_second()).await.expect(201);
    wait_runs(&client, "nightly", 2).await;
    with_clock(&mut system, HOUR).await;
    let ahead = until("an hour is passed over", SOON, || async {
        let schedule = get(&client, "nightly").await;
        (schedule["missed"].as_i64().unwrap() > 3_500).then_some(schedule)
    })
    .await;
    wait_runs(&client, "nightly", ahead["runs"].as_i64().unwrap() + 1).await;
    with_clock(&mut system, "0").await;
    // Its next tick is an hour away; passes go on, as another schedule shows.
    let before = get(&client, "nightly").await["runs"].clone();
    put(&client, "beside", &each_second()).await.expect(201);
    wait_runs(&client, "beside", 2).await;
    assert_eq!(get(&client, "nightly").await["runs"], before, "nothing until its time has come again");
    none_left_out(&system, "nightly").await;
    each_tick_once(&system, &client, "nightly").await;
}

/// The same by the minute: passes at chosen times of a clock that goes to and fro.
#[test]
fn a_clock_that_goes_to_and_fro_starts_each_tick_at_most_once_and_none_early() {
    let bed = Bed::postgres();
    let minutes = |minutes: u64| Duration::from_secs(minutes * 60 + 1);
    let timing = TimingDocument::Every(Span(Duration::from_secs(600)));
    let document =
        ScheduleDocument { catch_up: CatchUp::default(), ..of_store::timed(timing, Overlap::Skip) };
    let made = of_store::put(bed.store.as_ref(), "nightly", document);
    let mut ticks = Vec::new();
    // The clock at each pass, in minutes since the schedule was made, and what starts then.
    let passes = [
        (9, None),
        (10, Some(10)),
        (10, None),
        (70, Some(70)), // an hour forward
        (11, None),     // an hour back
        (20, None),
        (71, None),
        (80, Some(80)),
        (79, None),
        (90, Some(90)),
        (90 + 24 * 60 + 5, None), // nobody looked for a day
        (100 + 24 * 60, Some(100 + 24 * 60)),
    ];
    for (at, expected) in passes {
        let store = bed.shifted(minutes(at));
        let started = match of_store::tick(store.as_ref(), "nightly") {
            Ticked::Done { started: Some(key), .. } => {
                let mine = session(store.as_ref());
                let mut held = Held::claim(store.as_ref(), mine, &key);
                let end = held.complete();
                store.execution_commit(&[end]).unwrap();
                of_store::schedule(store.as_ref(), "nightly").last.map(|(tick, _)| tick)
            }
            _ => None,
        };
        let wanted = expected.map(|after: u64| made.anchor.plus(Duration::from_secs(after * 60)));
        assert_eq!(started, wanted, "at minute {at}");
        ticks.extend(started);
    }
    assert!(ticks.windows(2).all(|two| two[0] < two[1]));
    let row = of_store::schedule(bed.store.as_ref(), "nightly");
    assert_eq!((row.runs, row.missed), (5, 5 + 24 * 6));
}

/// A day's pause: on resuming, the day's ticks are not made up for, whatever the bounds are.
#[test]
fn a_pause_of_a_day_makes_up_for_nothing() {
    let bed = Bed::postgres();
    let catch_up = CatchUp { window: Span::secs(86_400), limit: 100 };
    let document = ScheduleDocument { catch_up, ..of_store::hourly(Overlap::Skip) };
    let made = of_store::put(bed.store.as_ref(), "nightly", document);
    let day = Duration::from_secs(24 * 3_600);
    bed.store.schedule_change(&scope(), "nightly", ScheduleChange::Pause, "key_admin").unwrap().unwrap();
    let later = bed.shifted(day);
    assert!(matches!(of_store::tick(later.as_ref(), "nightly"), Ticked::Nothing));
    let row =
        later.schedule_change(&scope(), "nightly", ScheduleChange::Resume, "key_admin").unwrap().unwrap();
    assert!(row.next_tick.unwrap() > made.anchor.plus(day + Duration::from_secs(3_599)));
    assert!(matches!(of_store::tick(later.as_ref(), "nightly"), Ticked::Nothing));
    let next = bed.shifted(day + Duration::from_secs(3_605));
    of_store::tick_starts(next.as_ref(), "nightly");
    let row = of_store::schedule(bed.store.as_ref(), "nightly");
    assert_eq!((row.runs, row.missed), (1, 0));
}

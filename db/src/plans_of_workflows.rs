//! The statements around workflows (runs, schedules, test runs, files, tasks of queues, children,
//! signals), as their verbs send them: on tables that are all but empty, and beside a history that grows.
//! No table is walked, and what they touch does not grow with what is over.
#![allow(clippy::unwrap_used)]

use std::rc::Rc;
use std::time::Duration;

use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{Reason, WorkflowState};
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::explained::{Touched, touched};
use crate::plans::{ANALYZE_OURS, explain, hot_pool};
use crate::schedule_types::*;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::trial_types::*;
use crate::types::*;
use crate::workflow_types::Retried;
use crate::{
    children, execution_act, files, run_retry, schedule_tick, schedules, sweeps, test_runs, workflow_end,
    workflow_runs, workflow_states,
};
use living::*;

#[path = "plans_of_workflows/living.rs"]
mod living;

/// How much is over, before and after.
const SIZES: [i64; 3] = [0, 2_000, 8_000];
/// Tables that do not grow with what is over; who wants events is looked up now and then only.
const SMALL: &[&str] = &["SEQ sessions", "SEQ limits", "SEQ event_settings", "SEQ webhooks"];

type Work = Box<dyn Fn(&mut Conn) -> StoreResult<()>>;

fn scope() -> Scope {
    Scope::new("t0", "shop")
}

fn work(work: impl Fn(&mut Conn) -> StoreResult<()> + 'static) -> Work {
    Box::new(work)
}

fn runs(at: &Rc<Living>) -> Vec<(&'static str, Work)> {
    let living = || Rc::clone(at);
    let (a, b, c, d, e, f, g, h) =
        (living(), living(), living(), living(), living(), living(), living(), living());
    vec![
        ("start of a workflow", work(|conn| created(conn, new("ship")).map(drop))),
        (
            "start that falls in with one that waits",
            work(|conn| {
                let idempotency =
                    Some(Idempotency { key: Some("k".to_owned()), body_digest: "d".to_owned() });
                let answer = create(conn, &NewExecution { idempotency, ..new("alone") })?;
                assert!(matches!(answer, Created::Coalesced { .. }), "{answer:?}");
                Ok(())
            }),
        ),
        ("a run completes, and something is cleared", work(move |conn| end(conn, &a.running, None))),
        ("a run fails and is repeated", work(move |conn| end(conn, &b.running, Some(Reason::Network)))),
        ("a run fails for good", work(move |conn| end(conn, &c.running, Some(Reason::Balance)))),
        ("a run fails, to maintenance", work(move |conn| end(conn, &d.running, Some(Reason::Logic)))),
        ("a run ends, and the next one begins", work(move |conn| end(conn, &e.alone, None))),
        (
            "a run is repeated by hand",
            work(move |conn| {
                let made = run_retry::run_retry_in_txn(conn, &f.failed, "key_a", None)?;
                assert!(matches!(made, Retried::Made { attempt: 2, .. }), "{made:?}");
                Ok(())
            }),
        ),
        (
            "a repeat that waits begins now",
            work(move |conn| {
                let made = run_retry::run_retry_in_txn(conn, &g.repeated, "key_a", None)?;
                assert!(matches!(made, Retried::Made { attempt: 2, .. }), "{made:?}");
                Ok(())
            }),
        ),
        (
            "a workflow is paused",
            work(|conn| {
                let paused = WorkflowState::Paused;
                let row = workflow_states::workflow_state_in_txn(conn, &scope(), "ship", paused, "key_a")?;
                assert_eq!(row.unwrap().state, paused);
                Ok(())
            }),
        ),
        (
            "its runs are told",
            work(|conn| {
                let active = workflow_states::workflow_active(conn, &scope(), "ship", 1_000)?;
                assert!((3..20).contains(&active.len()), "{active:?}");
                workflow_runs::run_end_paused_in_txn(conn, &active[0], "key_a").map(drop)
            }),
        ),
        (
            "a workflow",
            work(|conn| {
                assert!(workflow_states::workflow_get(conn, &scope(), "ship")?.is_some());
                Ok(())
            }),
        ),
        (
            "it is acknowledged",
            work(|conn| {
                assert!(workflow_states::attention_acknowledge(conn, &scope(), "ship", "key_a")?);
                Ok(())
            }),
        ),
        ("a version is registered", work(|conn| put_definition(conn, "ship", r#"{"retries": 1}"#, "paper"))),
        (
            "a test run begins",
            work(|conn| {
                put_definition(conn, "fresh", "{}", "mail")?;
                created(conn, test_run("fresh")).map(drop)
            }),
        ),
        (
            "a test run is refused",
            work(|conn| {
                let answer = create(conn, &test_run("ship"))?;
                assert!(matches!(answer, Created::TestRunActive { .. }), "{answer:?}");
                Ok(())
            }),
        ),
        ("a test run ends", work(move |conn| end(conn, &h.tried, None))),
        ("late test runs", work(|conn| test_runs::test_runs_late(conn, 100).map(drop))),
    ]
}

fn schedules_and_files(at: &Rc<Living>) -> Vec<(&'static str, Work)> {
    let living = || Rc::clone(at);
    let (a, b, c, d, e, f, g) = (living(), living(), living(), living(), living(), living(), living());
    vec![
        (
            "a late test run is ended",
            work(move |conn| {
                let swept = test_runs::test_run_expire_in_txn(conn, &a.late)?;
                assert!(matches!(swept, Swept::Done { .. }), "{swept:?}");
                Ok(())
            }),
        ),
        (
            "a schedule is put",
            work(|conn| schedules::schedule_put_in_txn(conn, &scope(), &schedule("another")).map(drop)),
        ),
        (
            "schedules",
            work(|conn| {
                let rows = schedules::schedule_list(conn, &scope(), None, 50)?;
                assert!(rows.len() >= 2);
                Ok(())
            }),
        ),
        (
            "a schedule is paused",
            work(|conn| {
                let pause = ScheduleChange::Pause;
                let row = schedules::schedule_change_in_txn(conn, &scope(), "hourly", pause, "key_a")?;
                assert!(row.unwrap().paused_at.is_some());
                Ok(())
            }),
        ),
        (
            "a schedule is removed",
            work(|conn| {
                let removed = schedules::schedule_delete_in_txn(conn, &scope(), "hourly", "key_a")?;
                assert!(matches!(removed, ScheduleRemoved::Done), "{removed:?}");
                Ok(())
            }),
        ),
        (
            "schedules that are due",
            work(|conn| {
                assert_eq!(schedules::schedules_due(conn, 100)?, [schedule_key("hourly")]);
                Ok(())
            }),
        ),
        (
            "a tick",
            work(|conn| {
                let ticked = schedule_tick::schedule_tick_in_txn(conn, &schedule_key("hourly"))?;
                assert!(matches!(ticked, Ticked::Done { started: Some(_), .. }), "{ticked:?}");
                Ok(())
            }),
        ),
        ("a schedule's run ends", work(move |conn| end(conn, &b.scheduled, None))),
        ("a schedule's run is repeated", work(move |conn| end(conn, &c.scheduled, Some(Reason::Network)))),
        ("a file is kept", work(|conn| file(conn, "another").map(drop))),
        (
            "a file is read",
            work(move |conn| {
                assert!(files::file_get(conn, &scope(), d.used)?.unwrap().referred);
                assert!(files::file_content(conn, &scope(), d.used)?.is_some());
                Ok(())
            }),
        ),
        ("a start with files", work(move |conn| created(conn, with_files(vec![e.used, e.unused])).map(drop))),
        (
            "a file is removed",
            work(move |conn| {
                let removed = files::file_delete_in_txn(conn, &scope(), f.unused)?;
                assert!(matches!(removed, FileRemoved::Removed), "{removed:?}");
                Ok(())
            }),
        ),
        (
            "a file in use is not removed",
            work(move |conn| {
                let removed = files::file_delete_in_txn(conn, &scope(), g.used)?;
                assert!(matches!(removed, FileRemoved::Referred), "{removed:?}");
                Ok(())
            }),
        ),
        (
            "unused files",
            work(|conn| {
                assert_eq!(files::files_unused(conn, Duration::ZERO, 100)?.len(), 1);
                Ok(())
            }),
        ),
    ]
}

fn act(conn: &mut Conn, key: &ExecutionKey, request: &ActRequest) -> StoreResult<()> {
    let acted = execution_act::execution_act_in_txn(conn, key, request, "key_a", None);
    assert!(acted.is_ok(), "{acted:?}");
    Ok(())
}

fn news(at: &Rc<Living>) -> Vec<(&'static str, Work)> {
    let report = || ActRequest::Report { step: 1, attempt: Some(1), outcome: Ok("7".to_owned()) };
    let beat = || ActRequest::Heartbeat { step: 1, attempt: Some(1) };
    let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"paid"}"#.to_owned();
    let (name, id) = ("paid".to_owned(), Some("e1".to_owned()));
    let signal =
        move || ActRequest::Signal { name: name.clone(), id: id.clone(), event: event.clone(), limit: 9 };
    let unheld = |request: ActRequest| {
        let at = Rc::clone(at);
        work(move |conn| act(conn, &at.task, &request))
    };
    let held = |request: ActRequest| {
        let at = Rc::clone(at);
        work(move |conn| act(conn, &at.task_held.key, &request))
    };
    let (a, b, c, d) = (Rc::clone(at), Rc::clone(at), Rc::clone(at), Rc::clone(at));
    vec![
        ("a task is done", unheld(report())),
        ("a task is done, and a worker has its execution", held(report())),
        ("a task's worker is heard", unheld(beat())),
        ("a task's worker is heard by a worker", held(beat())),
        ("a signal", unheld(signal())),
        ("a signal to a worker", held(signal())),
        ("a cancel", unheld(ActRequest::Cancel)),
        ("a child begins", work(move |conn| created(conn, child_of(&a.parent, 2)).map(drop))),
        (
            "a child's end is told",
            work(move |conn| {
                let told = children::child_relay_in_txn(conn, &b.child)?;
                assert_eq!(told.unwrap().parent, b.parent);
                Ok(())
            }),
        ),
        (
            "children that go on",
            work(move |conn| {
                assert_eq!(children::children_open(conn, &c.parent)?, std::slice::from_ref(&c.child));
                Ok(())
            }),
        ),
        (
            "a parent ends, with its children",
            work(move |conn| {
                act(conn, &d.parent, &ActRequest::Cancel)?;
                sweeps::sweep_select(conn, &SweepSelect::Orphans, 100)?;
                sweeps::sweep_select(conn, &SweepSelect::Unrelayed, 100).map(drop)
            }),
        ),
    ]
}

fn grow(conn: &mut Conn, from: i64, to: i64) -> StoreResult<()> {
    conn.batch("SET synchronous_commit = off; SET statement_timeout = 0; SET enable_hashjoin = on;")?;
    let text = include_str!("workflow_history.sql").replace("FROM_N", &(from + 1).to_string());
    conn.batch(&text.replace("TO_N", &to.to_string()))?;
    conn.batch(&format!("{ANALYZE_OURS}; SET enable_hashjoin = off;"))
}

/// The best of three: whoever comes first tidies up after others, and finds room for new rows.
fn at_rest(conn: &mut Conn, work: &Work) -> StoreResult<Touched> {
    let three: Vec<Touched> = (0..3).map(|_| touched(conn, work)).collect::<StoreResult<_>>()?;
    Ok(three.into_iter().min_by_key(|touched| touched.pages).unwrap())
}

fn walked(touched: &Touched) -> Option<&String> {
    touched.ways.iter().find(|way| way.starts_with("SEQ") && !SMALL.contains(&way.as_str()))
}

#[test]
fn what_workflows_touch_does_not_grow_with_what_is_over() {
    let (pool, schema) = hot_pool();
    let by_size = pool.with(|conn| {
        let at = Rc::new(conn.transaction(living)?);
        let mut by_size: Vec<Vec<(&str, Touched)>> = Vec::new();
        for (before, size) in std::iter::zip([0].into_iter().chain(SIZES), SIZES) {
            if size > before {
                grow(conn, before, size)?;
            }
            let all = [runs(&at), schedules_and_files(&at), news(&at)].into_iter().flatten();
            let one = |(name, work): (&'static str, Work)| Ok((name, at_rest(conn, &work)?));
            by_size.push(all.map(one).collect::<StoreResult<_>>()?);
        }
        conn.batch(&format!("DROP SCHEMA {schema} CASCADE"))?;
        Ok(by_size)
    });
    let by_size = by_size.unwrap();
    let [empty, small, large] = &by_size[..] else { panic!("three sizes") };
    let mut wrong = Vec::new();
    for (at, (name, large)) in large.iter().enumerate() {
        let (empty, small) = (&empty[at].1, &small[at].1);
        for touched in [empty, large] {
            if let Some(table) = walked(touched) {
                wrong.push(format!("{name}: {table}: {}", touched.plans.join("\n--\n")));
            }
        }
        // A tree over four times as many rows may be a level deeper.
        let most = (small.pages * 3 / 2 + 20, small.rows * 1.1 + 5.0);
        if large.pages > most.0 || large.rows > most.1 {
            let (pages, rows) = ((small.pages, large.pages), (small.rows, large.rows));
            wrong.push(format!("{name}: pages {pages:?}, rows {rows:?}: {}", large.plans.join("\n--\n")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n====\n"));
}

/// Plans that are made before there is anything are kept by their connections: each goes by the index that
/// was made for it, and by keys from there on.
#[test]
fn plans_that_are_made_before_there_is_anything_go_by_their_indexes() {
    let (pool, schema) = hot_pool();
    let (id, text) = (uuid::Uuid::now_v7(), "x");
    let key = binds![text, text, id].to_vec();
    let keys = vec![key.clone(); 3];
    let ten = || binds![10_i64].to_vec();
    let all = [
        (
            workflow_end::ENDED,
            keys.clone(),
            Vec::new(),
            &["execution_info_pkey", "executions_pkey", "definitions_pkey", "workflows_pkey"][..],
        ),
        (
            workflow_runs::OF_WORKFLOW,
            Vec::new(),
            binds![text].to_vec(),
            &["workflow_runs_active", "executions_pkey"],
        ),
        (run_retry::FAILED, Vec::new(), key, &["execution_info_pkey", "definitions_pkey"]),
        (schedules::ENDED, keys.clone(), Vec::new(), &["schedule_runs_pkey", "schedules_pkey"]),
        (schedules::DUE, Vec::new(), ten(), &["schedules_due"]),
        (test_runs::LATE, Vec::new(), binds![1_i64, 10_i64].to_vec(), &["test_runs_open"]),
        (files::LOCK, keys, Vec::new(), &["files_pkey"]),
        (files::UNUSED, Vec::new(), binds![1_i64, 10_i64].to_vec(), &["files_unused"]),
        (children::UNRELAYED, Vec::new(), ten(), &["children_open", "executions_pkey"]),
        (children::ORPHANS, Vec::new(), ten(), &["children_open", "executions_pkey"]),
    ];
    pool.with(|conn| {
        for (statement, rows, values, indexes) in &all {
            let plan = explain(conn, statement, rows, values);
            for index in *indexes {
                assert!(plan.contains(&format!("using {index} ")), "{index} is not used:\n{plan}");
            }
            assert!(!plan.contains("Seq Scan") && !plan.contains("_parent "), "{plan}");
            // But for the order of a list, each index is gone into by what is asked for.
            let lists = ["schedules_due", "test_runs_open", "files_unused", "children_open"];
            let walks = plan.matches("using ").count() - plan.matches("Index Cond").count();
            assert!(walks <= lists.iter().filter(|list| plan.contains(**list)).count(), "{plan}");
        }
        conn.batch(&format!("DROP SCHEMA {schema} CASCADE"))
    })
    .unwrap();
}

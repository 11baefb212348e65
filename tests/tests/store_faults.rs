//! The store while its server misbehaves: lost connections, locked rows, time-outs, and plans
//! that were made on empty tables.
// A list of one is written as a list in an expectation.
#![allow(clippy::cloned_ref_to_slice_refs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use holdpoint_db::*;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::poll::{SOON, until_blocking};
use holdpoint_tests::services::{Schema, unique};
use holdpoint_tests::store_builders::*;

const KEPT: Committed = Committed::Done { wake: 0, released: false };
const FREED: Committed = Committed::Done { wake: 0, released: true };

/// A schema and a store whose sessions have a name of their own.
struct Named {
    name: String,
    settings: Settings,
    bed: Bed,
}

impl Named {
    fn new() -> Self {
        let bed = Bed::postgres();
        let name = unique("store_");
        let url = format!("{}&application_name={name}", bed.settings.url);
        let settings = Settings { url, ..bed.settings.clone() };
        Self { name, settings, bed }
    }

    fn schema(&self) -> &Schema {
        self.bed.schema()
    }

    fn open(&self) -> Arc<dyn Store> {
        open_store(&self.settings)
    }

    /// Cuts off all sessions of the store; how many.
    fn cut_off(&self) -> i64 {
        self.schema().count(&format!(
            "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE application_name = '{}') AS cut",
            self.name
        ))
    }

    /// What the statistics say once the store's sessions have handed theirs in, which they do
    /// at their end.
    fn statistics_after(&self, store: Arc<dyn Store>) {
        drop(store);
        until_blocking("the sessions end", SOON, || {
            let sessions =
                format!("SELECT count(*) FROM pg_stat_activity WHERE application_name = '{}'", self.name);
            (self.schema().count(&sessions) == 0).then_some(())
        });
    }

    fn statistic(&self, what: &str, table: &str) -> i64 {
        self.schema().count(&format!(
            "SELECT {what} FROM pg_stat_user_tables WHERE schemaname = current_schema() AND relname = '{table}'"
        ))
    }
}

fn commit(store: &dyn Store, transition: Transition) -> Committed {
    store.execution_commit(&[transition]).unwrap().pop().unwrap()
}

/// One life with everything that the hot path does.
fn live(store: &dyn Store) -> ExecutionKey {
    let mine = session(store);
    let key = create(store, start());
    let mut held = Held::of(claim_any(store, mine, 1).pop().unwrap(), mine);
    assert_eq!(commit(store, held.step()), KEPT);
    assert!(store.session_beat(mine, Duration::from_secs(60), &[(key.clone(), 0)]).unwrap().alive);
    assert!(store.execution_reload(&key, mine, 1).unwrap().is_some());
    store.inbox_read(std::slice::from_ref(&key)).unwrap();
    store.execution_release(mine, std::slice::from_ref(&key)).unwrap();
    let mut held = Held::claim(store, mine, &key);
    assert_eq!(commit(store, held.step()), KEPT);
    assert_eq!(commit(store, held.complete()), FREED);
    store.events_read(&[EventsRequest { key: key.clone(), after: 0, limit: 10 }]).unwrap();
    key
}

/// Plans are made while the tables are empty, and kept: they must be good on full ones.
#[test]
fn plans_made_on_empty_tables_lead_to_the_rows() {
    let named = Named::new();
    let store = named.open();
    for _ in 0..10 {
        live(store.as_ref());
    }
    assert_few_rows_are_read_on_full_tables(&named, store);
}

/// The same where Postgres has looked at tables that were small: no sooner than the migrations say,
/// for a plan that is made for a handful of rows walks them.
#[test]
fn plans_made_on_small_tables_lead_to_the_rows() {
    for looked_at in ["executions", "execution_info", "journal", "executions, execution_info, journal"] {
        let named = Named::new();
        let store = named.open();
        fill(named.schema(), 100);
        named.schema().connect().batch_execute(&format!("VACUUM ANALYZE {looked_at}")).unwrap();
        for _ in 0..10 {
            live(store.as_ref());
        }
        assert_few_rows_are_read_on_full_tables(&named, store);
    }
}

/// An execution changes seven rows of `executions` in its life, and more of others.
#[test]
fn tables_are_not_looked_at_while_they_are_small() {
    let bed = Bed::postgres();
    for table in ["executions", "execution_info", "journal", "approvals", "inbox", "children", "messages"] {
        for setting in ["autovacuum_analyze_threshold=1000", "autovacuum_vacuum_threshold=1000"] {
            let is_set = format!(
                "SELECT count(*) FROM pg_class WHERE oid = '{table}'::regclass AND '{setting}' = ANY (reloptions)"
            );
            assert_eq!(bed.schema().count(&is_set), 1, "{setting} of {table}");
        }
    }
}

/// Executions that have ended, so many more. The session has ended too: it has handed in its statistics.
fn fill(schema: &Schema, count: i64) {
    let mut conn = schema.connect();
    conn.batch_execute("SELECT set_config('application_name', current_schema(), false)").unwrap();
    conn.batch_execute(&format!(
        "INSERT INTO executions (tenant, project, id, kind, status, updated_at, last_seq)
         SELECT 'acme', 'shop', gen_random_uuid(), 'workflow', 'completed', 1, 1 FROM generate_series(1, {count})"
    ))
    .unwrap();
    conn.batch_execute(
        "INSERT INTO execution_info (tenant, project, id, kind, name, version, run_type, created_by, created_at)
         SELECT tenant, project, id, 'workflow', 'holdpoint.noop', 1, 'production', 'key', 1 FROM executions e
         WHERE NOT EXISTS (SELECT 1 FROM execution_info i WHERE i.id = e.id)",
    )
    .unwrap();
    conn.batch_execute(
        "INSERT INTO journal (tenant, project, execution, seq, kind, step, at, payload)
         SELECT tenant, project, id, 1, 'model.called', 1, 1, '{}' FROM executions e WHERE updated_at = 1
         AND NOT EXISTS (SELECT 1 FROM journal j WHERE j.execution = e.id)",
    )
    .unwrap();
    drop(conn);
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = current_schema()";
    until_blocking("the filler's session ends", SOON, || (schema.count(sessions) == 0).then_some(()));
}

fn assert_few_rows_are_read_on_full_tables(named: &Named, store: Arc<dyn Store>) {
    fill(named.schema(), 20_000);
    // The filler's own reads are counted by now: what the store reads is counted from here.
    let tables = ["executions", "execution_info", "journal", "approvals", "inbox", "conversations"];
    let read = |what: &str| tables.map(|table| named.statistic(what, table));
    let settle =
        || (read("coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"), read("coalesce(seq_scan, 0)"));
    let before = settle();
    let lives = 10;
    for _ in 0..lives {
        live(store.as_ref());
    }
    named.statistics_after(store);
    let after = settle();
    for (at, table) in tables.iter().enumerate() {
        let rows = (after.0[at] - before.0[at]) / lives;
        assert!(rows < 300, "{rows} rows of {table} were read for one life");
    }
}

#[test]
fn a_connection_lost_between_calls_is_not_noticed() {
    let named = Named::new();
    let store = named.open();
    let mut held = Held::begin(store.as_ref());
    let waiting = waiting(store.as_ref(), start(), &[Asked::open("a")]);
    assert!(named.cut_off() > 0);
    assert_eq!(commit(store.as_ref(), held.step()), KEPT);
    named.cut_off();
    create(store.as_ref(), start());
    named.cut_off();
    let mine = session(store.as_ref());
    named.cut_off();
    assert_eq!(claim_any(store.as_ref(), mine, 1).len(), 1);
    named.cut_off();
    assert!(store.session_beat(mine, Duration::from_secs(60), &[]).unwrap().alive);
    named.cut_off();
    assert!(store.execution_get(&waiting.scope, waiting.id).unwrap().is_some());
    named.cut_off();
    store.execution_act(&waiting.scope, waiting.id, &ActRequest::Cancel, "key", None).unwrap();
    named.cut_off();
    assert_eq!(commit(store.as_ref(), held.complete()), FREED);
    named.cut_off();
    assert!(store.now().is_ok());
}

/// Ends the fault with the test, also where the test panics: a scope waits for its threads.
struct Until<'a>(&'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Sessions are cut off again and again while executions live: each transition lands once,
/// and whoever holds the lease is never told that somebody else has it. Between two cuts lies
/// a changing pause, so that calls are met at each of their statements, and some get through: the more
/// calls fail, as on a slow machine, the longer the pauses may be.
#[test]
fn connections_lost_during_calls_lose_and_double_nothing() {
    let named = Named::new();
    let store = named.open();
    let mut held: Vec<_> = (0..8).map(|_| Held::begin(store.as_ref())).collect();
    let over = AtomicBool::new(false);
    let (cuts, failed) = (AtomicI64::new(0), AtomicU64::new(0));
    let mut steps_taken = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0_u64.. {
                if over.load(Ordering::SeqCst) {
                    break;
                }
                cuts.fetch_add(named.cut_off(), Ordering::SeqCst);
                let longest = 60 + 50 * failed.load(Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(round * 7 % longest));
            }
        });
        let _until = Until(&over);
        while steps_taken < 30 || cuts.load(Ordering::SeqCst) < 30 {
            steps_taken += 1;
            let steps: Vec<_> = held.iter_mut().map(Held::step).collect();
            insist(
                &failed,
                || store.execution_commit(&steps),
                |done| assert!(done.iter().all(|one| *one == KEPT), "{done:?}"),
            );
        }
        let starts: Vec<_> = (0..20).map(|at| keyed(&format!("k{at}"), "d")).collect();
        for new in &starts {
            insist(
                &failed,
                || store.execution_create(std::slice::from_ref(new)),
                |created| match &created[0] {
                    Created::New { key, .. } => assert_eq!(*key, new.key),
                    // Its first answer was lost.
                    Created::Existing { id, .. } => assert_eq!(*id, new.key.id),
                    other => panic!("{other:?}"),
                },
            );
        }
    });
    for one in &held {
        let lines = store.journal_read(&one.key().scope, one.key().id).unwrap().unwrap();
        assert_eq!(
            lines.iter().map(|line| line.seq).collect::<Vec<_>>(),
            (1..=steps_taken).collect::<Vec<_>>()
        );
    }
}

/// Again and again while the store cannot be reached, as a worker does; counts the failures.
fn insist<T>(failed: &AtomicU64, call: impl Fn() -> StoreResult<T>, check: impl Fn(T)) {
    until_blocking("the store answers", SOON * 2, || match call() {
        Ok(answer) => {
            check(answer);
            Some(())
        }
        Err(error) => {
            assert!(error.is_retryable(), "{error}");
            failed.fetch_add(1, Ordering::SeqCst);
            None
        }
    });
}

/// Holds the lock of a row, as a client that was stopped in a transaction does.
fn lock(schema: &Schema, key: &ExecutionKey) -> PgConnection {
    let mut conn = schema.connect();
    let id = key.id.0;
    conn.batch_execute(&format!("BEGIN; SELECT 1 FROM executions WHERE id = '{id}' FOR UPDATE")).unwrap();
    conn
}

#[test]
fn a_locked_row_delays_no_other_answer() {
    let bed = Bed::postgres();
    // Whoever waited for the lock would wait for longer than the test does.
    let settings = Settings { statement_timeout_ms: 90_000, ..bed.settings.clone() };
    let store = open_store(&settings);
    let (mut locked, mut free) = (Held::begin(store.as_ref()), Held::begin(store.as_ref()));
    let (slow, quick) = (locked.step(), free.step());
    let mut lock = lock(bed.schema(), locked.key());
    let db = Db::start(store, &settings, Hooks::none());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let waits = tokio::spawn({
            let db = db.clone();
            async move { db.commit(slow).await }
        });
        let answer = tokio::time::timeout(SOON, db.commit(quick)).await;
        lock.batch_execute("ROLLBACK").unwrap();
        assert_eq!(answer.expect("the free one is answered while the other waits").unwrap(), KEPT);
        assert_eq!(waits.await.unwrap().unwrap(), KEPT);
    });
}

#[test]
fn a_locked_row_is_passed_over_by_claims() {
    let bed = Bed::postgres();
    let store = bed.store.as_ref();
    let (locked, free) = (create(store, start()), create(store, start()));
    let mut lock = lock(bed.schema(), &locked);
    let mine = session(store);
    // A claim that waited for the lock would not end but with the statement's time, and an error.
    let claimed = claim(store, mine, &[&locked, &free]);
    assert_eq!(claimed.iter().map(|one| &one.key).collect::<Vec<_>>(), [&free]);
    assert!(claim_any(store, mine, 10).is_empty());
    lock.batch_execute("ROLLBACK").unwrap();
    assert_eq!(claim_any(store, mine, 10).len(), 1);
}

#[test]
fn a_statement_does_not_wait_for_ever() {
    let bed = Bed::postgres();
    let settings = Settings { statement_timeout_ms: 300, ..bed.settings.clone() };
    let store = open_store(&settings);
    // By another store: on a slow machine also what nobody stops takes longer than that.
    let mut held = Held::begin(bed.store.as_ref());
    let step = held.step();
    let mut lock = lock(bed.schema(), held.key());
    let begun = Instant::now();
    let error = store.execution_commit(std::slice::from_ref(&step)).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    let key = held.key();
    let error = store.execution_act(&key.scope, key.id, &ActRequest::Cancel, "key", None).unwrap_err();
    assert!(matches!(error, ActError::Store(StoreError::Unavailable(_))), "{error}");
    assert!(begun.elapsed() < SOON);
    lock.batch_execute("ROLLBACK").unwrap();
    let committed = until_blocking("it is committed", SOON, || {
        let done = store.execution_commit(std::slice::from_ref(&step));
        assert!(done.as_ref().err().is_none_or(StoreError::is_retryable), "{done:?}");
        done.ok()?.pop()
    });
    assert_eq!(committed, KEPT);
}

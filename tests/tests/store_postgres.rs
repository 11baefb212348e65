//! What only a server can show: lost connections, locked rows, HOT updates, constraints; and
//! what only a folder can: its lock.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use holdpoint_db::{Committed, Created, Db, Hooks, NewExecution, Settings, StoreError, SweepSelect, Swept};
use holdpoint_engine::status::Status;
use holdpoint_tests::poll::{SOON, until_blocking};
use holdpoint_tests::store_builders::*;

#[test]
fn commits_under_a_lease_are_hot() {
    let bed = Bed::postgres();
    let mut held = Held::begin(bed.store.as_ref());
    // Versions that one page has room for: others' transactions may keep it from being pruned.
    for _ in 0..30 {
        let step = held.step();
        bed.store.execution_commit(&[step]).unwrap();
    }
    let hot = "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'executions'
               AND schemaname = current_schema()";
    until_blocking("thirty HOT updates", SOON, || (bed.schema().count(hot) >= 30).then_some(()));
}

#[test]
fn a_store_opens_without_its_server_and_says_so_when_asked() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://nobody@127.0.0.1:{nobody}/none");
    let store = open_store(&Settings { url, connect_timeout_ms: 500, ..Settings::default() });
    let begun = Instant::now();
    assert!(matches!(store.execution_create(&[start()]), Err(StoreError::Unavailable(_))));
    assert!(store.now().unwrap_err().is_retryable());
    // By default each of the two would take five seconds.
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn calls_work_again_after_every_connection_was_lost() {
    let bed = Bed::postgres();
    let name = bed.schema().texts("SELECT current_schema()").remove(0);
    let url = format!("{}&application_name={name}", bed.settings.url);
    let store = open_store(&Settings { url, ..bed.settings.clone() });
    let store = store.as_ref();
    let mut held = Held::begin(store);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| create(store, start()));
        }
    });
    let pids = pids_of(&bed);
    assert!(!pids.is_empty());
    for pid in pids {
        bed.schema().count(&format!("SELECT pg_terminate_backend({pid})::int"));
    }
    let step = held.step();
    assert_eq!(store.execution_commit(&[step]).unwrap(), [Committed::Done { wake: 0, released: false }]);
    assert!(store.now().is_ok());
}

/// The backends of the connections that carry the schema's name.
fn pids_of(bed: &Bed) -> Vec<String> {
    bed.schema().texts(
        "SELECT pid FROM pg_stat_activity WHERE application_name = current_schema() AND pid <> pg_backend_pid()",
    )
}

/// Passes bytes on; once armed, the answer to the next COMMIT never arrives.
fn proxy(server: String, armed: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(&server).unwrap();
            let cut = Arc::new(AtomicBool::new(false));
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let (armed, seen) = (Arc::clone(&armed), Arc::clone(&cut));
            std::thread::spawn(move || {
                pump(from, to, |bytes| {
                    if bytes.windows(6).any(|six| six == b"COMMIT") && armed.swap(false, Ordering::SeqCst) {
                        seen.store(true, Ordering::SeqCst);
                    }
                    true
                })
            });
            std::thread::spawn(move || pump(server, client, |_| !cut.load(Ordering::SeqCst)));
        }
    });
    port
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 65536];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !pass(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A store whose COMMIT can be made to lose its answer.
fn behind_a_proxy(bed: &Bed) -> (Arc<dyn holdpoint_db::Store>, Arc<AtomicBool>) {
    let url = &bed.settings.url;
    let host = url.split('@').nth(1).unwrap().split('/').next().unwrap();
    let armed = Arc::new(AtomicBool::new(false));
    let port = proxy(host.to_owned(), Arc::clone(&armed));
    let url = url.replace(host, &format!("127.0.0.1:{port}"));
    (open_store(&Settings { url, ..bed.settings.clone() }), armed)
}

#[test]
fn a_commit_whose_answer_was_lost_is_found_out() {
    let bed = Bed::postgres();
    let (store, armed) = behind_a_proxy(&bed);
    let mut held = Held::begin(store.as_ref());
    let step = held.step();
    armed.store(true, Ordering::SeqCst);
    assert_eq!(store.execution_commit(&[step]).unwrap(), [Committed::Done { wake: 0, released: false }]);
    assert!(!armed.load(Ordering::SeqCst), "the answer was lost");
    assert_eq!(store.journal_read(&scope(), held.key().id).unwrap().unwrap().len(), 1);
    let end = held.complete();
    armed.store(true, Ordering::SeqCst);
    assert_eq!(store.execution_commit(&[end]).unwrap(), [Committed::Done { wake: 0, released: true }]);
}

#[test]
fn a_start_whose_answer_was_lost_is_found_out() {
    let bed = Bed::postgres();
    let (store, armed) = behind_a_proxy(&bed);
    for new in [start(), keyed("k", "d")] {
        store.now().unwrap();
        armed.store(true, Ordering::SeqCst);
        let created = store.execution_create(std::slice::from_ref(&new)).unwrap();
        assert!(matches!(&created[..], [Created::New { key, .. }] if *key == new.key), "{created:?}");
        assert!(!armed.load(Ordering::SeqCst), "the answer was lost");
    }
    assert_eq!(bed.schema().count("SELECT count(*) FROM executions"), 2);
}

#[test]
fn a_locked_row_makes_no_other_wait() {
    let bed = Bed::postgres();
    // The one that waits must outlast the test's own waiting.
    let store = open_store(&Settings { statement_timeout_ms: 90_000, ..bed.settings.clone() });
    let store = store.as_ref();
    let (mut locked, mut free) = (Held::begin(store), Held::begin(store));
    let (one, other) = (locked.step(), free.step());
    let mut blocker = bed.schema().connect();
    let lock = format!("BEGIN; SELECT 1 FROM executions WHERE id = '{}' FOR UPDATE", locked.key().id.0);
    blocker.batch_execute(&lock).unwrap();
    std::thread::scope(|scope| {
        let both = scope.spawn(|| store.execution_commit(&[one, other]).unwrap());
        until_blocking("the free one is committed", SOON, || {
            let lines = store.journal_read(&scope_of(&free), free.key().id).unwrap().unwrap();
            (lines.len() == 1).then_some(())
        });
        assert!(store.journal_read(&scope_of(&locked), locked.key().id).unwrap().unwrap().is_empty());
        blocker.batch_execute("ROLLBACK").unwrap();
        let done = Committed::Done { wake: 0, released: false };
        assert_eq!(both.join().unwrap(), [done.clone(), done], "late is not fenced");
    });
}

fn scope_of(held: &Held) -> holdpoint_engine::scope::Scope {
    held.key().scope.clone()
}

#[test]
fn constraints_repeat_the_invariants() {
    let bed = Bed::postgres();
    let store = bed.store.as_ref();
    waiting(store, start(), &[Asked::open("call_1")]);
    Held::begin(store);
    let mut conn = bed.schema().connect();
    for wrong in [
        "UPDATE executions SET ready_at = 1 WHERE owner IS NOT NULL",
        "UPDATE executions SET status = 'suspended' WHERE owner IS NOT NULL",
        "UPDATE executions SET status = 'completed' WHERE owner IS NOT NULL",
        "UPDATE executions SET status = 'completed', ready_at = 1 WHERE status = 'suspended'",
        "UPDATE executions SET status = 'failed', reason = NULL WHERE status = 'suspended'",
        "UPDATE executions SET status = 'done' WHERE status = 'suspended'",
        "UPDATE executions SET last_event = last_seq + 1",
        "UPDATE execution_info SET error_type = 'logic', error_message = ''",
        "UPDATE journal SET event = seq + 1",
        "UPDATE approvals SET status = 'approved'",
        "UPDATE approvals SET decided_by = 'somebody'",
        "UPDATE approvals SET used_at = 1",
        "UPDATE approvals SET edited_digest = 'x'",
        "UPDATE approvals SET edited_arguments = 'x', edited_digest = 'x'",
        "INSERT INTO journal SELECT * FROM journal",
    ] {
        let error = conn.batch_execute(wrong).expect_err(wrong).to_string();
        assert!(error.contains("constraint"), "{wrong}: {error}");
    }
}

#[test]
fn leases_run_out_by_the_databases_clock() {
    let bed = Bed::postgres();
    let held = Held::begin(bed.store.as_ref());
    let lost = |store: &dyn holdpoint_db::Store| store.sweep_select(&SweepSelect::LeaseLost, 10).unwrap();
    assert!(lost(bed.store.as_ref()).is_empty());
    let hour_later = bed.shifted(Duration::from_secs(3600));
    assert_eq!(lost(hour_later.as_ref()), [held.key().clone()]);
    assert!(matches!(hour_later.lease_reclaim(held.key(), 4).unwrap(), Swept::Done { ready: true, .. }));
}

#[test]
fn migrations_may_be_started_by_many_at_once() {
    let bed = Bed::postgres();
    let schema = holdpoint_tests::services::Schema::create();
    let settings = Settings { url: schema.url(), ..bed.settings.clone() };
    std::thread::scope(|scope| {
        let ran: Vec<_> =
            (0..4).map(|_| scope.spawn(|| open_store(&settings).migrate().unwrap().len())).collect();
        assert_eq!(ran.into_iter().map(|one| one.join().unwrap()).filter(|count| *count > 0).count(), 1);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_start_harms_no_other() {
    let bed = Bed::postgres();
    let db = Db::start(Arc::clone(&bed.store), &bed.settings, Hooks::none());
    let bad = NewExecution { input: Some("\0".to_owned()), ..start() };
    let answers = db.create_each(vec![start(), bad, start()]).await;
    assert!(matches!(answers[0], Ok(Created::New { .. })), "{answers:?}");
    assert!(matches!(answers[1], Err(StoreError::Refused(_))), "{answers:?}");
    assert!(matches!(answers[2], Ok(Created::New { .. })), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_ends_its_work_only() {
    let bed = Bed::sqlite();
    let settings = Settings { hot_connections: 1, ..bed.settings.clone() };
    let db = Db::start(Arc::clone(&bed.store), &settings, Hooks::none());
    let panicked = db.hot(|_| -> () { panic!("on purpose") }).await;
    assert!(matches!(panicked, Err(StoreError::Refused(_))));
    assert!(db.hot(|store| store.now()).await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_together_is_committed_together() {
    let bed = Bed::postgres();
    let batches = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&batches);
    let created = move |items: &[NewExecution], _: &[Created]| seen.lock().unwrap().push(items.len());
    let hooks = Hooks { created: Box::new(created), ..Hooks::none() };
    let db = Db::start(Arc::clone(&bed.store), &bed.settings, hooks);
    let answers = db.create_each((0..250).map(|_| start()).collect()).await;
    assert!(answers.iter().all(|answer| matches!(answer, Ok(Created::New { .. }))));
    let batches = batches.lock().unwrap();
    assert_eq!(batches.iter().sum::<usize>(), 250);
    assert!(batches.len() < 125 && batches.iter().all(|size| *size <= bed.settings.batch), "{batches:?}");
}

#[test]
fn a_folder_serves_one_process() {
    let bed = Bed::sqlite();
    let again = holdpoint_db::open(&bed.settings, &prometheus::Registry::new());
    let Err(StoreError::Refused(text)) = again else { panic!("it was locked") };
    assert!(text.contains(bed.settings.url.trim_start_matches("sqlite:")), "{text}");
}

#[test]
fn a_folder_that_is_opened_again_ends_older_sessions() {
    let mut bed = Bed::sqlite();
    let mut held = Held::begin(bed.store.as_ref());
    let step = held.step();
    bed.reopen();
    let store = bed.store.as_ref();
    assert_eq!(store.execution_commit(&[step]).unwrap(), [Committed::Fenced]);
    let claimed = claim_any(store, session(store), 5);
    assert_eq!((claimed.len(), claimed[0].epoch), (1, 2));
    assert_eq!(store.execution_get(&scope(), held.key().id).unwrap().unwrap().status, Status::Running);
}

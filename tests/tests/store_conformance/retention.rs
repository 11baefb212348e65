//! What is kept, for how long, and what goes with it.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::{FileId, SweepId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Reason, RunType};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};
use holdpoint_tests::store_builders::*;
use serde_json::json;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    a_project_says_for_itself_how_long;
    an_export_leaves_no_gap;
    what_was_not_exported_stays_where_it_has_to_be;
    what_is_old_goes_with_all_that_is_its_own;
    what_is_young_or_goes_on_stays;
    a_parent_and_its_children_go_together;
    a_run_stays_while_it_is_repeated;
    the_run_that_needs_a_person_stays;
    what_is_still_to_be_sent_stays;
    what_a_known_command_started_stays;
    a_coalesced_starts_key_goes_with_its_run;
    a_conversation_keeps_what_was_said_until_its_last_execution_goes;
    what_a_classic_run_said_last_stays_until_that_is_old;
    what_was_said_goes_where_no_execution_is_left;
    files_go_with_the_last_that_used_them;
    each_project_has_its_turn;
    a_pass_goes_on_where_the_last_one_stopped;
    what_changed_since_it_was_looked_at_stays;
    records_of_passes_go;
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const MONTH: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Everything there is becomes forty days older.
fn forty_days_pass(bed: &Bed) {
    let micros = (DAY * 40).as_micros();
    execute(
        bed,
        &format!(
            "UPDATE execution_info SET created_at = created_at - {micros}, finished_at = finished_at - {micros}"
        ),
    );
}

fn due(bed: &Bed, scope: &Scope) -> DueScope {
    bed.store.retention_due(scope, Some(MONTH)).unwrap().unwrap()
}

fn families(bed: &Bed) -> Vec<Family> {
    let due = due(bed, &scope());
    let walked = bed.store.retention_walk(&due, 100).unwrap();
    assert_eq!(walked.next, None);
    bed.store.retention_families(&walked.finished, due.before).unwrap()
}

/// Removes what may go; how many executions.
fn sweep(bed: &Bed) -> usize {
    bed.store.retention_remove(&families(bed), due(bed, &scope()).before).unwrap()
}

fn is_there(bed: &Bed, key: &ExecutionKey) -> bool {
    bed.store.execution_get(&key.scope, key.id).unwrap().is_some()
}

/// Ends one that was started so.
fn ended(bed: &Bed, new: NewExecution) -> ExecutionKey {
    let mut held = Held::begin_with(&*bed.store, new);
    commit(bed, held.complete());
    held.claimed.key
}

fn failed_of(bed: &Bed, key: &ExecutionKey, reason: Reason) {
    let mut held = take(bed, key);
    commit(bed, held.fail(reason));
}

fn a_project_says_for_itself_how_long(bed: &Bed) {
    let store = &*bed.store;
    assert_eq!(store.retention_get(&scope()).unwrap(), RetentionRow::default());
    assert_eq!(store.retention_due(&scope(), None).unwrap(), None, "for ever");
    let now = store.now().unwrap();
    assert!(due(bed, &scope()).before.until(now) <= MONTH);
    let week = RetentionSettings { kept: Kept::For(DAY * 7), require_export: false };
    let row = store.retention_put(&scope(), week, "key_a").unwrap();
    assert_eq!((row.settings, row.exported_before), (week, None));
    assert_eq!(row.updated.as_ref().unwrap().0, "key_a");
    assert_eq!(store.retention_get(&scope()).unwrap(), row);
    let before = store.retention_due(&scope(), None).unwrap().unwrap().before;
    assert!(before.until(store.now().unwrap()) < DAY * 8 && before.until(store.now().unwrap()) >= DAY * 7);
    let never = RetentionSettings { kept: Kept::Forever, require_export: true };
    store.retention_put(&scope(), never, "key_b").unwrap();
    assert_eq!(store.retention_get(&scope()).unwrap().settings, never);
    assert_eq!(store.retention_due(&scope(), Some(MONTH)).unwrap(), None, "whatever the installation says");
    assert_eq!(store.retention_get(&stranger()).unwrap(), RetentionRow::default());
}

fn an_export_leaves_no_gap(bed: &Bed) {
    let at = |micros: i64| Timestamp::from_micros(micros);
    let note = |after: Option<i64>, before: i64| {
        bed.store.export_note(&scope(), after.map(at), at(before), "key_a").unwrap()
    };
    assert_eq!(note(Some(5), 10), Exported::Gap { exported_before: None });
    assert_eq!(note(None, 10), Exported::Noted(at(10)));
    assert_eq!(note(Some(11), 20), Exported::Gap { exported_before: Some(at(10)) });
    assert_eq!(note(Some(10), 20), Exported::Noted(at(20)));
    assert_eq!(note(Some(5), 15), Exported::Noted(at(20)), "never back");
    assert_eq!(bed.store.retention_get(&scope()).unwrap().exported_before, Some(at(20)));
    assert_eq!(bed.store.retention_get(&stranger()).unwrap().exported_before, None);
}

fn what_was_not_exported_stays_where_it_has_to_be(bed: &Bed) {
    let key = ended(bed, start());
    forty_days_pass(bed);
    let settings = RetentionSettings { kept: Kept::For(DAY), require_export: true };
    bed.store.retention_put(&scope(), settings, "key_a").unwrap();
    assert_eq!(bed.store.retention_due(&scope(), None).unwrap(), None, "nothing was exported");
    let end = get(bed, &key).finished_at.unwrap();
    bed.store.export_note(&scope(), None, end, "key_a").unwrap();
    assert_eq!(sweep(bed), 0, "what ended at the bound was not exported");
    bed.store.export_note(&scope(), None, Timestamp::from_micros(end.micros() + 1), "key_a").unwrap();
    assert_eq!(sweep(bed), 1);
}

/// Tables that name an execution.
const TABLES: &[&str] = &[
    "executions",
    "execution_info",
    "execution_labels",
    "execution_extras",
    "journal",
    "inbox",
    "approvals",
    "conversations",
    "messages",
    "children",
    "run_retries",
    "workflow_runs",
    "test_runs",
    "schedule_runs",
    "file_uses",
];

fn rows_left(bed: &Bed) -> Vec<&'static str> {
    // A change of each row that changes nothing says how many there are.
    TABLES
        .iter()
        .copied()
        .filter(|table| execute(bed, &format!("UPDATE {table} SET tenant = tenant")) > 0)
        .collect()
}

fn what_is_old_goes_with_all_that_is_its_own(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"retries": 1}));
    let file = kept_file(bed);
    let labels = [("team".to_owned(), "a".to_owned())].into();
    let extras = Extras { files: vec![file], scheduled: true, ..Extras::default() };
    let first = create(&*bed.store, NewExecution { labels, extras, ..run_of("ship") });
    let sql = format!(
        "INSERT INTO schedule_runs (tenant, project, execution, schedule, tick) VALUES ('acme', 'shop', {}, 's', 1)",
        sql_id(bed, &first)
    );
    execute(bed, &sql);
    failed_of(bed, &first, Reason::Network);
    execute(bed, "UPDATE executions SET ready_at = 1 WHERE ready_at IS NOT NULL");
    let again = claim_any(&*bed.store, session(&*bed.store), 5).pop().unwrap();
    let mut again = Held::of(again, session_of(bed));
    again = take_over(bed, again);
    commit(bed, again.complete());
    ended(bed, NewExecution { run_type: RunType::Test, ..run_of("ship") });
    let parent = ended(bed, keyed("k", "d"));
    let of = Parent { execution: parent.id, step: 1, tool_call_id: "a1".to_owned(), depth: 1 };
    ended(bed, NewExecution { extras: Extras { parent: Some(of), ..Extras::default() }, ..start() });
    let talk = NewExecution { conversation: Conversation::Made("c".to_owned()), ..start() };
    let asked = waiting(&*bed.store, talk, &[Asked::open("call_1")]);
    approve(bed, &asked, "call_1");
    let mut held = take(bed, &asked);
    commit(bed, held.complete());
    let before = rows_left(bed);
    for table in TABLES.iter().filter(|table| !matches!(**table, "inbox" | "workflow_runs")) {
        assert!(before.contains(table), "{table} is tried");
    }
    let elsewhere = NewExecution { key: ExecutionKey { scope: stranger(), ..key() }, ..start() };
    let elsewhere = ended(bed, elsewhere);
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 6);
    assert!(is_there(bed, &elsewhere));
    assert_eq!(rows_left(bed), ["executions", "execution_info", "journal"], "the other project's");
    assert_eq!(sweep(bed), 0, "once");
    // The idempotency key went with its row.
    create(&*bed.store, keyed("k", "another"));
}

fn session_of(bed: &Bed) -> holdpoint_engine::ids::SessionId {
    session(&*bed.store)
}

/// The same execution under a lease of its own.
fn take_over(bed: &Bed, held: Held) -> Held {
    execute(bed, "UPDATE executions SET owner = NULL, ready_at = 1 WHERE owner IS NOT NULL");
    take(bed, held.key())
}

fn what_is_young_or_goes_on_stays(bed: &Bed) {
    let waits = waiting(&*bed.store, start(), &[Asked::open("call_1")]);
    let held = Held::begin(&*bed.store);
    let queued = create(&*bed.store, start());
    forty_days_pass(bed);
    let young = ended(bed, start());
    // Old, but only just over.
    let mut long = Held::begin(&*bed.store);
    execute(bed, &format!("UPDATE execution_info SET created_at = 1 WHERE id = {}", sql_id(bed, long.key())));
    commit(bed, long.complete());
    assert_eq!(sweep(bed), 0);
    for key in [&waits, held.key(), &queued, &young, long.key()] {
        assert!(is_there(bed, key));
    }
}

fn child_of(parent: &ExecutionKey) -> NewExecution {
    let parent = Parent { execution: parent.id, step: 1, tool_call_id: "a1".to_owned(), depth: 1 };
    NewExecution { extras: Extras { parent: Some(parent), ..Extras::default() }, ..start() }
}

fn a_parent_and_its_children_go_together(bed: &Bed) {
    let mut parent = Held::begin(&*bed.store);
    let child = ended(bed, child_of(parent.key()));
    let grandchild = ended(bed, child_of(&child));
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 0, "the parent goes on");
    commit(bed, parent.complete());
    assert_eq!(sweep(bed), 0, "its end is young");
    forty_days_pass(bed);
    let found = families(bed);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].members.len(), 3);
    assert_eq!(sweep(bed), 3);
    assert!(!is_there(bed, &child) && !is_there(bed, &grandchild));
}

fn a_run_stays_while_it_is_repeated(bed: &Bed) {
    let first = create(&*bed.store, start());
    failed_of(bed, &first, Reason::Logic);
    let Retried::Made { run, .. } = bed.store.run_retry(&first, "key_a", None).unwrap() else {
        panic!("it is repeated")
    };
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 0, "its repeat waits");
    let second = ExecutionKey { id: run, ..first.clone() };
    failed_of(bed, &second, Reason::Logic);
    assert_eq!(sweep(bed), 0, "its repeat is young");
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 2);
    assert!(!is_there(bed, &first) && !is_there(bed, &second));
}

fn the_run_that_needs_a_person_stays(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"retries": 0}));
    let run = create(&*bed.store, run_of("ship"));
    failed_of(bed, &run, Reason::Auth);
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 0);
    assert_eq!(bed.store.attention_list(&scope(), None, 10).unwrap().len(), 1);
    ended(bed, run_of("ship"));
    assert_eq!(sweep(bed), 1, "a later run is the latest");
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 1, "nobody has to look at that one");
    assert!(bed.store.workflow_get(&scope(), "ship").unwrap().is_some());
}

fn what_is_still_to_be_sent_stays(bed: &Bed) {
    bed.store.event_settings_put(&scope(), EventSettings { exchange: true }, "key_a").unwrap();
    let key = ended(bed, start());
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 0);
    let due = bed.store.outgoing_events(Channel::Exchange, 10).unwrap();
    let rows: Vec<_> = due.into_iter().map(|event| event.row).collect();
    assert!(!rows.is_empty() && rows.iter().all(|row| row.key == key));
    bed.store.outgoing_remove(Channel::Exchange, &rows).unwrap();
    assert_eq!(sweep(bed), 1);
}

fn what_a_known_command_started_stays(bed: &Bed) {
    let command = CommandKey { source: "shop".to_owned(), id: "1".to_owned() };
    let extras = Extras { command: Some(command), ..Extras::default() };
    let key = ended(bed, NewExecution { extras: extras.clone(), ..start() });
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 0);
    let repeat = bed.store.execution_create(&[NewExecution { extras, ..start() }]).unwrap();
    assert!(matches!(repeat[..], [Created::Existing { id, .. }] if id == key.id), "{repeat:?}");
    assert_eq!(bed.store.commands_expire(Duration::ZERO, 10).unwrap(), 1);
    assert_eq!(sweep(bed), 1);
}

fn a_coalesced_starts_key_goes_with_its_run(bed: &Bed) {
    workflow(&*bed.store, "ship", json!({"concurrency": 1}));
    let run = create(&*bed.store, run_of("ship"));
    let idempotency = Some(Idempotency { key: Some("k".to_owned()), body_digest: "a".to_owned() });
    let say =
        || bed.store.execution_create(&[NewExecution { idempotency: idempotency.clone(), ..run_of("ship") }]);
    assert!(matches!(say().unwrap()[..], [Created::Coalesced { id, before: false }] if id == run.id));
    let mut held = Held::claim(&*bed.store, session(&*bed.store), &run);
    bed.store.execution_commit(&[held.complete()]).unwrap();
    forty_days_pass(bed);
    assert_eq!(sweep(bed), 1);
    assert!(matches!(say().unwrap()[..], [Created::New { .. }]), "the key is free");
}

fn turn(bed: &Bed, text: &str) -> ExecutionKey {
    bed.store.definition_put(&scope(), DefinitionKind::Agent, "clerk", "{}", "key").unwrap();
    let messages = json!([{"role": "user", "content": text}]).to_string();
    let new = NewExecution {
        kind: DefinitionKind::Agent,
        name: "clerk".to_owned(),
        input: None,
        messages: Some(messages),
        conversation: Conversation::Named("c".to_owned()),
        ..start()
    };
    ended(bed, new)
}

fn messages(bed: &Bed) -> usize {
    let filter = MessageFilter { conversation: "c".to_owned(), limit: 100, ..Default::default() };
    bed.store.message_list(&scope(), &filter).unwrap().len()
}

fn conversation(bed: &Bed) -> Option<ConversationRow> {
    bed.store.conversation_get(&scope(), "c").unwrap()
}

fn a_conversation_keeps_what_was_said_until_its_last_execution_goes(bed: &Bed) {
    turn(bed, "one");
    forty_days_pass(bed);
    let second = turn(bed, "two");
    assert_eq!((sweep(bed), messages(bed)), (1, 2), "the next turn is given all of it");
    assert_eq!(conversation(bed).unwrap().latest, Some(second.id));
    forty_days_pass(bed);
    assert_eq!((sweep(bed), messages(bed)), (1, 0));
    assert!(conversation(bed).is_none());
    turn(bed, "anew");
    assert_eq!(messages(bed), 1);
}

fn say(bed: &Bed, scope: &Scope, conversation: &str) {
    let said = Spoken {
        conversation: conversation.to_owned(),
        end_user: None,
        agent: "clerk".to_owned(),
        active_agent: None,
        messages: vec![(None, json!({"role": "user", "content": "x"}).to_string())],
    };
    bed.store.conversation_say(scope, &said).unwrap();
}

/// What is said becomes forty days older.
fn silence(bed: &Bed) {
    let micros = (DAY * 40).as_micros();
    execute(bed, &format!("UPDATE messages SET at = at - {micros}"));
    execute(bed, &format!("UPDATE conversations SET said_at = said_at - {micros} WHERE said_at IS NOT NULL"));
}

fn what_a_classic_run_said_last_stays_until_that_is_old(bed: &Bed) {
    turn(bed, "one");
    forty_days_pass(bed);
    say(bed, &scope(), "c");
    let due_now = due(bed, &scope());
    assert_eq!((sweep(bed), messages(bed)), (1, 2));
    assert_eq!(conversation(bed).unwrap().latest, None);
    assert_eq!(bed.store.said_remove(&due_now, 10).unwrap(), (0, 0), "it was said just now");
    silence(bed);
    assert_eq!(bed.store.said_count(&due_now, 10).unwrap(), 1);
    assert_eq!(bed.store.said_remove(&due_now, 10).unwrap(), (1, 1));
    assert!(conversation(bed).is_none() && messages(bed) == 0);
}

fn what_was_said_goes_where_no_execution_is_left(bed: &Bed) {
    let store = &*bed.store;
    say(bed, &scope(), "c");
    turn(bed, "one");
    for at in 0..3 {
        say(bed, &scope(), &format!("other {at}"));
    }
    say(bed, &stranger(), "c");
    silence(bed);
    let due_now = due(bed, &scope());
    let kept = DueScope { said_before: None, ..due_now.clone() };
    assert_eq!(store.said_remove(&kept, 10).unwrap(), (0, 0));
    assert_eq!((0..4).map(|_| store.said_remove(&due_now, 2).unwrap().1).sum::<usize>(), 3);
    assert_eq!(
        (store.said_remove(&due_now, 2).unwrap(), messages(bed)),
        ((0, 0), 2),
        "its execution is kept"
    );
    forty_days_pass(bed);
    assert_eq!((sweep(bed), messages(bed)), (1, 0), "an execution spoke last: it goes with that");
    let left = MessageFilter { conversation: "c".to_owned(), limit: 100, ..Default::default() };
    assert_eq!(store.message_list(&stranger(), &left).unwrap().len(), 1, "the other project's");

    store
        .retention_put(&scope(), RetentionSettings { kept: Kept::For(DAY), require_export: true }, "k")
        .unwrap();
    store.export_note(&scope(), None, store.now().unwrap(), "k").unwrap();
    assert_eq!(due(bed, &scope()).said_before, None, "no export has what was said");
}

fn kept_file(bed: &Bed) -> FileId {
    let id = FileId(Uuid::now_v7());
    let file = NewFile {
        key: FileKey { scope: scope(), id },
        name: None,
        content_type: "text/plain".to_owned(),
        sha256: holdpoint_engine::digest::sha256_hex(b"x"),
        content: b"x".to_vec(),
        created_by: "key_test".to_owned(),
    };
    bed.store.file_put(&file).unwrap();
    id
}

fn files_go_with_the_last_that_used_them(bed: &Bed) {
    let (shared, own) = (kept_file(bed), kept_file(bed));
    let with = |files: &[FileId]| NewExecution {
        extras: Extras { files: files.to_vec(), ..Extras::default() },
        ..start()
    };
    // The same file twice is one use.
    let first = create(&*bed.store, with(&[shared, own, shared]));
    failed_of(bed, &first, Reason::Logic);
    ended(bed, with(&[own]));
    forty_days_pass(bed);
    ended(bed, with(&[shared]));
    let referred = |id: FileId| bed.store.file_get(&scope(), id).unwrap().unwrap().referred;
    assert_eq!(sweep(bed), 2);
    assert!(referred(shared) && !referred(own));
    let unused = bed.store.files_unused(Duration::ZERO, 10).unwrap();
    assert_eq!(unused.iter().map(|key| key.id).collect::<Vec<_>>(), [own]);
    // A run that is repeated leaves the file to its repeat.
    let run = create(&*bed.store, with(&[shared]));
    failed_of(bed, &run, Reason::Logic);
    bed.store.run_retry(&run, "key_a", None).unwrap();
    let uses = execute(bed, "UPDATE file_uses SET tenant = tenant");
    assert_eq!(uses, 3);
}

fn each_project_has_its_turn(bed: &Bed) {
    let scopes: Vec<Scope> = (0..5).map(|n| Scope::new("acme", &format!("p{n}"))).collect();
    for scope in &scopes {
        for _ in 0..2 {
            create(
                &*bed.store,
                NewExecution { key: ExecutionKey { scope: scope.clone(), ..key() }, ..start() },
            );
        }
    }
    say(bed, &Scope::new("acme", "p2b"), "c");
    let week = RetentionSettings { kept: Kept::For(DAY * 7), require_export: false };
    let never = RetentionSettings { kept: Kept::Forever, require_export: false };
    bed.store.retention_put(&scopes[1], week, "key_a").unwrap();
    bed.store.retention_put(&scopes[3], never, "key_a").unwrap();
    let turn = |default: Option<Duration>, limit: usize| -> Vec<String> {
        let found = bed.store.retention_turn(default, limit).unwrap();
        let mut names: Vec<String> = found.due.iter().map(|due| due.scope.project.to_string()).collect();
        names.extend(found.is_last.then(|| "and so on".to_owned()));
        names
    };
    assert_eq!(turn(Some(MONTH), 2), ["p0", "p1"]);
    assert_eq!(turn(Some(MONTH), 2), ["p2", "p2b"], "one has conversations alone");
    assert_eq!(turn(Some(MONTH), 2), ["p4"], "one of the two keeps for ever");
    assert_eq!(turn(Some(MONTH), 2), ["and so on"]);
    assert_eq!(turn(Some(MONTH), 10), ["p0", "p1", "p2", "p2b", "p4", "and so on"]);
    assert_eq!(turn(None, 10), ["p1", "and so on"], "only those that said so");
}

fn a_pass_goes_on_where_the_last_one_stopped(bed: &Bed) {
    let keys: Vec<_> = (0..5).map(|_| ended(bed, start())).collect();
    forty_days_pass(bed);
    let mut due = due(bed, &scope());
    let first = bed.store.retention_walk(&due, 2).unwrap();
    assert_eq!(first.finished, keys[..2]);
    bed.store.retention_place(&scope(), first.next).unwrap();
    due = self::due(bed, &scope());
    assert_eq!(due.place, first.next);
    let second = bed.store.retention_walk(&due, 2).unwrap();
    assert_eq!(second.finished, keys[2..4]);
    due.place = second.next;
    let third = bed.store.retention_walk(&due, 2).unwrap();
    assert_eq!((third.finished.as_slice(), third.next), (&keys[4..], None));
    bed.store.retention_place(&scope(), None).unwrap();
    assert_eq!(self::due(bed, &scope()).place, None);
}

fn what_changed_since_it_was_looked_at_stays(bed: &Bed) {
    let (run, other) = (create(&*bed.store, start()), ended(bed, start()));
    failed_of(bed, &run, Reason::Logic);
    forty_days_pass(bed);
    let looked_at = families(bed);
    assert_eq!(looked_at.len(), 2);
    bed.store.run_retry(&run, "key_a", None).unwrap();
    let before = due(bed, &scope()).before;
    assert_eq!(bed.store.retention_remove(&looked_at, before).unwrap(), 1);
    assert!(is_there(bed, &run) && !is_there(bed, &other));
    assert_eq!(bed.store.retention_remove(&looked_at, before).unwrap(), 0, "gone is gone");
}

fn records_of_passes_go(bed: &Bed) {
    let open = |_| {
        let id = SweepId(Uuid::now_v7());
        let (kind, source) = (SweepKind::Stuck, SweepSource::Scheduler);
        let by = "scheduler".to_owned();
        let start = SweepStart { id, kind, source, by, scope: None, dry_run: false };
        assert!(bed.store.sweep_open(&start).unwrap());
        bed.store.sweep_close(&start, &SweepReport::default(), true).unwrap();
    };
    (0..3).for_each(open);
    assert_eq!(bed.store.sweeps_expire(DAY, 10).unwrap(), 0);
    assert_eq!(bed.store.sweeps_expire(Duration::ZERO, 2).unwrap(), 2);
    assert_eq!(bed.store.sweeps_expire(Duration::ZERO, 2).unwrap(), 1);
}

//! Test runs of workflows, and the files that executions are started with.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::effect::Act;
use holdpoint_engine::ids::{ExecutionId, FileId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ErrorType, Reason, RunType, Status, WorkflowState};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::{act, commit, execute, get, sql_id, stranger, take};

on_both_stores! {
    one_test_run_of_a_workflow_goes_on;
    a_held_workflow_is_tried;
    every_end_frees_the_place;
    after_ten_minutes_the_run_is_failed;
    a_held_run_ends_by_its_worker_s_hand;
    a_late_end_frees_nobody_else_s_place;
    a_run_that_cannot_be_ended_frees_its_place;
    a_start_that_is_refused_takes_no_place;
    files_are_kept_and_read;
    a_start_refers_to_its_files;
    a_start_with_an_unknown_file_leaves_nothing;
    unused_files_go_after_a_day;
}

fn one(bed: &Bed, new: NewExecution) -> Created {
    bed.store.execution_create(&[new]).unwrap().pop().unwrap()
}

fn test() -> NewExecution {
    NewExecution { run_type: RunType::Test, ..start() }
}

fn begun(bed: &Bed) -> ExecutionKey {
    create(&*bed.store, test())
}

fn active(created: &Created) -> Option<ExecutionId> {
    match created {
        Created::TestRunActive { active } => Some(*active),
        _ => None,
    }
}

/// Ten minutes more, for every test run.
fn pass_ten_minutes(bed: &Bed) {
    execute(bed, &format!("UPDATE test_runs SET created_at = created_at - {}", TEST_RUN_TIME.as_micros()));
}

fn late(bed: &Bed) -> Vec<ExecutionKey> {
    bed.store.test_runs_late(10).unwrap()
}

fn one_test_run_of_a_workflow_goes_on(bed: &Bed) {
    workflow(&*bed.store, "ship", serde_json::json!({}));
    let first = begun(bed);
    assert_eq!(active(&one(bed, test())), Some(first.id));
    assert_eq!(get(bed, &first).run_type, RunType::Test);
    // Another workflow's place, another project's, production runs and children are apart.
    let ship = NewExecution { name: "ship".to_owned(), ..test() };
    let elsewhere = NewExecution { key: ExecutionKey { scope: stranger(), ..key() }, ..test() };
    let parent = Parent { execution: first.id, step: 1, tool_call_id: "1".to_owned(), depth: 1 };
    let child = NewExecution { extras: Extras { parent: Some(parent), ..Extras::default() }, ..test() };
    for apart in [ship.clone(), elsewhere, start(), child] {
        assert!(matches!(one(bed, apart), Created::New { .. }));
    }
    // In one batch the first has it, and the others leave no row.
    assert!(active(&one(bed, NewExecution { key: key(), ..ship.clone() })).is_some());
    let other = Scope::new("acme", "twice");
    let batch: Vec<NewExecution> = (0..3)
        .map(|_| NewExecution { key: ExecutionKey { scope: other.clone(), ..key() }, ..test() })
        .collect();
    let created = bed.store.execution_create(&batch).unwrap();
    assert!(matches!(created[0], Created::New { .. }), "{created:?}");
    for (new, created) in batch.iter().zip(&created).skip(1) {
        assert_eq!(active(created), Some(batch[0].key.id));
        assert!(bed.store.execution_get(&other, new.key.id).unwrap().is_none());
    }
}

fn a_held_workflow_is_tried(bed: &Bed) {
    workflow(&*bed.store, "ship", serde_json::json!({}));
    bed.store.workflow_state(&scope(), "ship", WorkflowState::Paused, "key_a").unwrap().unwrap();
    let tried = create(&*bed.store, NewExecution { name: "ship".to_owned(), ..test() });
    let mut held = take(bed, &tried);
    commit(bed, held.fail(Reason::Logic));
    let row = bed.store.workflow_get(&scope(), "ship").unwrap().unwrap();
    assert_eq!((row.state, row.logic_failures, row.attention), (WorkflowState::Paused, 0, false));
}

fn every_end_frees_the_place(bed: &Bed) {
    let completed = begun(bed);
    commit(bed, take(bed, &completed).complete());
    let failed = begun(bed);
    commit(bed, take(bed, &failed).fail(Reason::Network));
    let cancelled = begun(bed);
    act(bed, &cancelled, &ActRequest::Cancel).unwrap();
    let stale = waiting(&*bed.store, test(), &[Asked::expired("c", 2_000)]);
    assert!(active(&one(bed, test())).is_some(), "it waits");
    assert!(matches!(bed.store.stale_expire(&stale, None).unwrap(), Swept::Done { .. }));
    let stuck = begun(bed);
    let held = take(bed, &stuck);
    execute(bed, &format!("UPDATE executions SET lost = 3 WHERE id = {}", sql_id(bed, &stuck)));
    expire(&*bed.store, held.session);
    assert!(matches!(bed.store.lease_reclaim(&stuck, 4).unwrap(), Swept::Done { .. }));
    for (key, reason) in [(&stale, Reason::ApprovalTimeout), (&stuck, Reason::Stuck)] {
        assert_eq!(get(bed, key).reason, Some(reason));
    }
    begun(bed);
    pass_ten_minutes(bed);
    assert_eq!(late(bed).len(), 1, "only the one that goes on");
}

fn after_ten_minutes_the_run_is_failed(bed: &Bed) {
    let run = begun(bed);
    assert!(late(bed).is_empty());
    assert_eq!(bed.store.test_run_expire(&run).unwrap(), Swept::Skipped, "not yet");
    pass_ten_minutes(bed);
    assert_eq!(late(bed), [run.clone()]);
    assert!(matches!(bed.store.test_run_expire(&run).unwrap(), Swept::Done { new_event: Some(_), .. }));
    assert_eq!(bed.store.test_run_expire(&run).unwrap(), Swept::Skipped, "once");
    let row = get(bed, &run);
    assert_eq!((row.status, row.reason), (Status::Failed, Some(Reason::Deadline)));
    assert_eq!(row.error.unwrap().kind, ErrorType::Timeout);
    assert!(late(bed).is_empty());
    begun(bed);
}

fn a_held_run_ends_by_its_worker_s_hand(bed: &Bed) {
    let run = begun(bed);
    let held = take(bed, &run);
    pass_ten_minutes(bed);
    assert!(matches!(bed.store.test_run_expire(&run).unwrap(), Swept::Done { new_event: None, .. }));
    let inbox = bed.store.inbox_read(&[run.clone()]).unwrap();
    assert!(matches!(inbox[0].acts[..], [(1, Act::Deadline)]), "{inbox:?}");
    let next = begun(bed);
    assert!(late(bed).is_empty(), "it is told once");
    // Whoever has it next finds the act, however its worker ended.
    expire(&*bed.store, held.session);
    bed.store.lease_reclaim(&run, 4).unwrap();
    let taken = take(bed, &run);
    assert!(matches!(taken.claimed.acts[..], [(1, Act::Deadline)]));
    let entries = holdpoint_engine::outside::act(&taken.run, &Act::Deadline);
    assert_eq!(entries.last().map(|entry| entry.kind()), Some("execution.failed"));
    assert_eq!(active(&one(bed, test())), Some(next.id));
}

fn a_late_end_frees_nobody_else_s_place(bed: &Bed) {
    let old = begun(bed);
    let mut held = take(bed, &old);
    pass_ten_minutes(bed);
    // Nothing swept yet: the next start takes the place itself.
    let new = begun(bed);
    assert_eq!(late(bed), [old.clone()], "it is still to be ended");
    commit(bed, held.complete());
    assert!(late(bed).is_empty());
    assert_eq!(bed.store.test_run_expire(&old).unwrap(), Swept::Skipped);
    assert_eq!(get(bed, &old).status, Status::Completed);
    assert_eq!(active(&one(bed, test())), Some(new.id), "the new one has its place");
    act(bed, &new, &ActRequest::Cancel).unwrap();
    begun(bed);
}

fn a_run_that_cannot_be_ended_frees_its_place(bed: &Bed) {
    let broken = waiting(&*bed.store, test(), &[Asked::open("c")]);
    execute(bed, &format!("UPDATE journal SET payload = '[' WHERE execution = {}", sql_id(bed, &broken)));
    pass_ten_minutes(bed);
    assert!(matches!(bed.store.test_run_expire(&broken), Err(StoreError::Corrupt(_))));
    assert!(late(bed).is_empty(), "not for ever");
    begun(bed);
}

fn a_start_that_is_refused_takes_no_place(bed: &Bed) {
    let unknown = NewExecution { name: "nothing".to_owned(), ..test() };
    assert!(matches!(one(bed, unknown), Created::UnknownDefinition));
    let with_file = NewExecution { extras: with_files(&[FileId(Uuid::now_v7())]), ..test() };
    assert!(matches!(one(bed, with_file), Created::UnknownFile { .. }));
    begun(bed);
}

fn file(content: &[u8]) -> NewFile {
    NewFile {
        key: FileKey { scope: scope(), id: FileId(Uuid::now_v7()) },
        name: Some("a.txt".to_owned()),
        content_type: "text/plain".to_owned(),
        sha256: holdpoint_engine::digest::sha256_hex(content),
        content: content.to_vec(),
        created_by: "key_test".to_owned(),
    }
}

fn kept(bed: &Bed) -> FileId {
    let new = file(b"kept");
    bed.store.file_put(&new).unwrap();
    new.key.id
}

fn with_files(files: &[FileId]) -> Extras {
    Extras { files: files.to_vec(), ..Extras::default() }
}

fn files_are_kept_and_read(bed: &Bed) {
    let content: Vec<u8> = (0..100_000u32).map(|n| (n % 256) as u8).collect();
    let (new, empty) = (file(&content), file(b""));
    let at = bed.store.file_put(&new).unwrap();
    bed.store.file_put(&empty).unwrap();
    let row = bed.store.file_get(&scope(), new.key.id).unwrap().unwrap();
    assert_eq!((row.name, row.content_type), (new.name, new.content_type));
    assert_eq!((row.bytes, row.sha256, row.created_at), (100_000, new.sha256, at));
    assert_eq!(bed.store.file_content(&scope(), new.key.id).unwrap(), Some(content));
    assert_eq!(bed.store.file_content(&scope(), empty.key.id).unwrap(), Some(Vec::new()));
    assert_eq!(bed.store.file_get(&stranger(), new.key.id).unwrap(), None);
    assert_eq!(bed.store.file_content(&stranger(), new.key.id).unwrap(), None);
    assert_eq!(bed.store.file_delete(&stranger(), new.key.id).unwrap(), FileRemoved::NotFound);
    assert_eq!(bed.store.file_delete(&scope(), new.key.id).unwrap(), FileRemoved::Removed);
    assert_eq!(bed.store.file_delete(&scope(), new.key.id).unwrap(), FileRemoved::NotFound);
}

fn a_start_refers_to_its_files(bed: &Bed) {
    let (first, second) = (kept(bed), kept(bed));
    let files = vec![second, first];
    let started = create(&*bed.store, NewExecution { extras: with_files(&files), ..start() });
    create(&*bed.store, NewExecution { extras: with_files(&[first]), ..start() });
    assert_eq!(get(bed, &started).files, files);
    assert_eq!(take(bed, &started).claimed.extras.unwrap().files, files);
    assert!(bed.store.file_get(&scope(), first).unwrap().unwrap().referred);
    assert_eq!(bed.store.file_delete(&scope(), first).unwrap(), FileRemoved::Referred);
    assert!(get(bed, &create(&*bed.store, start())).files.is_empty());
}

fn a_start_with_an_unknown_file_leaves_nothing(bed: &Bed) {
    let (known, unknown) = (kept(bed), FileId(Uuid::now_v7()));
    let refused = NewExecution { extras: with_files(&[known, unknown]), ..start() };
    let elsewhere = ExecutionKey { scope: stranger(), ..key() };
    let foreign = NewExecution { key: elsewhere, extras: with_files(&[known]), ..start() };
    let batch = [refused.clone(), start(), foreign];
    let created = bed.store.execution_create(&batch).unwrap();
    assert!(matches!(created[0], Created::UnknownFile { id } if id == unknown), "{created:?}");
    assert!(matches!(created[1], Created::New { .. }), "{created:?}");
    assert!(matches!(created[2], Created::UnknownFile { id } if id == known), "{created:?}");
    assert!(bed.store.execution_get(&scope(), refused.key.id).unwrap().is_none());
    assert!(!bed.store.file_get(&scope(), known).unwrap().unwrap().referred);
    // The same start with a file that is there.
    let mended = NewExecution { extras: with_files(&[known]), ..refused };
    assert!(matches!(one(bed, mended), Created::New { .. }));
}

fn unused_files_go_after_a_day(bed: &Bed) {
    const DAY: Duration = Duration::from_secs(24 * 60 * 60);
    let (used, unused, young) = (kept(bed), kept(bed), kept(bed));
    create(&*bed.store, NewExecution { extras: with_files(&[used]), ..start() });
    assert!(bed.store.files_unused(DAY, 10).unwrap().is_empty());
    let id = |id: FileId| sql_id(bed, &ExecutionKey { scope: scope(), id: ExecutionId(id.0) });
    let old = format!("created_at = created_at - {}", DAY.as_micros());
    execute(bed, &format!("UPDATE files SET {old} WHERE id <> {}", id(young)));
    let found = bed.store.files_unused(DAY, 10).unwrap();
    assert_eq!(found.iter().map(|key| key.id).collect::<Vec<_>>(), [unused]);
    assert!(!bed.store.file_sweep(&FileKey { scope: scope(), id: used }).unwrap());
    assert!(bed.store.file_sweep(&found[0]).unwrap());
    assert!(!bed.store.file_sweep(&found[0]).unwrap(), "once");
    assert!(bed.store.file_get(&scope(), used).unwrap().is_some());
    assert!(bed.store.file_get(&scope(), young).unwrap().is_some());
}

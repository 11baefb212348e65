//! Removal beside everything that may come at the same moment, through a barrier, on both stores.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::FileId;
use holdpoint_engine::status::Reason;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::races::race;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

const ROUNDS: usize = 60;

on_both_stores! {
    passes_at_once_remove_each_once;
    a_run_is_removed_or_repeated;
    a_conversation_is_removed_or_goes_on;
    what_was_said_is_removed_or_goes_on;
    a_file_is_let_go_or_used;
}

/// Executions of the rounds, failed long ago.
fn failed_long_ago(bed: &Bed, new: impl Fn(usize) -> NewExecution) -> Vec<ExecutionKey> {
    let mut keys = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        let mut held = Held::begin_with(&*bed.store, new(round));
        let end = held.fail(Reason::Logic);
        bed.store.execution_commit(&[end]).unwrap();
        keys.push(held.key().clone());
    }
    bed.execute("UPDATE execution_info SET created_at = 1, finished_at = 2");
    keys
}

/// What a pass would remove of one.
fn family(bed: &Bed, key: &ExecutionKey) -> (Vec<Family>, holdpoint_engine::time::Timestamp) {
    let due = bed.store.retention_due(&key.scope, Some(Duration::from_secs(3600))).unwrap().unwrap();
    (bed.store.retention_families(std::slice::from_ref(key), due.before).unwrap(), due.before)
}

fn remove(bed: &Bed, key: &ExecutionKey) -> usize {
    let (families, before) = family(bed, key);
    bed.store.retention_remove(&families, before).unwrap()
}

fn is_there(bed: &Bed, key: &ExecutionKey) -> bool {
    bed.store.execution_get(&key.scope, key.id).unwrap().is_some()
}

fn passes_at_once_remove_each_once(bed: &Bed) {
    let keys = failed_long_ago(bed, |_| start());
    let looked_at: Vec<_> = keys.iter().map(|key| family(bed, key)).collect();
    let removed = race(4, ROUNDS, |_, round| {
        let (families, before) = &looked_at[round];
        bed.store.retention_remove(families, *before).unwrap()
    });
    for (round, removed) in removed.iter().enumerate() {
        assert_eq!(removed.iter().sum::<usize>(), 1, "round {round}: {removed:?}");
        assert!(!is_there(bed, &keys[round]));
    }
}

fn a_run_is_removed_or_repeated(bed: &Bed) {
    let keys = failed_long_ago(bed, |_| start());
    race(2, ROUNDS, |party, round| {
        let key = &keys[round];
        if party == 0 {
            remove(bed, key);
            return;
        }
        match bed.store.run_retry(key, "key_a", None).unwrap() {
            Retried::Made { run, .. } => {
                let repeat = ExecutionKey { id: run, ..key.clone() };
                assert!(is_there(bed, &repeat));
            }
            Retried::NotFound => {}
            other => panic!("{other:?}"),
        }
    });
    // Whoever is repeated is there.
    let orphans = "UPDATE run_retries SET workflow = workflow WHERE NOT EXISTS (SELECT 1 FROM execution_info i
        WHERE i.tenant = run_retries.tenant AND i.project = run_retries.project AND i.id = run_retries.retry_of)";
    assert_eq!(bed.execute(orphans), 0);
}

fn a_conversation_is_removed_or_goes_on(bed: &Bed) {
    let talk = |round: usize| NewExecution {
        conversation: Conversation::Named(format!("c{round}")),
        messages: Some(r#"[{"role": "user", "content": "x"}]"#.to_owned()),
        input: None,
        ..start()
    };
    let keys = failed_long_ago(bed, talk);
    let started = race(2, ROUNDS, |party, round| {
        if party == 0 {
            remove(bed, &keys[round]);
            return None;
        }
        let new = talk(round);
        let created = bed.store.execution_create(std::slice::from_ref(&new)).unwrap();
        assert!(matches!(created[..], [Created::New { .. }]), "{created:?}");
        Some(new.key)
    });
    for (round, started) in started.into_iter().enumerate() {
        let new = started.into_iter().flatten().next().unwrap();
        let id = format!("c{round}");
        let conversation = bed.store.conversation_get(&new.scope, &id).unwrap().unwrap();
        assert_eq!(conversation.active, Some(new.id));
        let filter = MessageFilter { conversation: id, limit: 10, ..MessageFilter::default() };
        let said = bed.store.message_list(&new.scope, &filter).unwrap();
        assert_eq!(said.last().unwrap().execution, Some(new.id), "round {round}");
        assert!(!is_there(bed, &keys[round]));
    }
}

/// What a classic run said long ago is removed, said more in, and gone on with by an execution.
fn what_was_said_is_removed_or_goes_on(bed: &Bed) {
    let store = &*bed.store;
    let conversation = |round: usize| format!("c{round}");
    let say = |round: usize| {
        let messages = vec![(None, r#"{"role":"user","content":"x"}"#.to_owned())];
        let (end_user, active_agent) = (None, None);
        let agent = "clerk".to_owned();
        let spoken = Spoken { conversation: conversation(round), end_user, agent, active_agent, messages };
        assert!(matches!(store.conversation_say(&scope(), &spoken).unwrap(), Said::Written));
    };
    (0..ROUNDS).for_each(say);
    bed.execute("UPDATE conversations SET said_at = 1");
    let due = store.retention_due(&scope(), Some(Duration::from_secs(3600))).unwrap().unwrap();
    let done = race(3, ROUNDS, |racer, round| match racer {
        0 => store.said_remove(&due, 1).unwrap().1,
        1 => {
            say(round);
            0
        }
        _ => {
            create(store, NewExecution { conversation: Conversation::Named(conversation(round)), ..start() });
            0
        }
    });
    assert!(done.iter().flatten().sum::<usize>() > 0, "some went");
    for round in 0..ROUNDS {
        let row = store.conversation_get(&scope(), &conversation(round)).unwrap().expect("it goes on");
        assert!(row.latest.is_some(), "round {round}");
        let filter = MessageFilter { conversation: conversation(round), limit: 10, ..Default::default() };
        let said: Vec<i64> = store.message_list(&scope(), &filter).unwrap().iter().map(|one| one.n).collect();
        let whole: Vec<i64> = (1..=said.len() as i64).collect();
        assert_eq!(said, whole, "round {round}: all of it went, or nothing");
        // The start's own, what was said beside it, and, if it did not go, what was said long ago.
        assert!((1..=3).contains(&said.len()), "round {round}: {said:?}");
    }
}

fn a_file_is_let_go_or_used(bed: &Bed) {
    let files: Vec<FileId> = (0..ROUNDS).map(|_| FileId(Uuid::now_v7())).collect();
    for id in &files {
        let file = NewFile {
            key: FileKey { scope: scope(), id: *id },
            name: None,
            content_type: "text/plain".to_owned(),
            sha256: holdpoint_engine::digest::sha256_hex(b"x"),
            content: b"x".to_vec(),
            created_by: "key_test".to_owned(),
        };
        bed.store.file_put(&file).unwrap();
    }
    let with_file = |round: usize| NewExecution {
        extras: Extras { files: vec![files[round]], ..Extras::default() },
        ..start()
    };
    let keys = failed_long_ago(bed, with_file);
    let answers = race(3, ROUNDS, |party, round| match party {
        0 => {
            assert_eq!(remove(bed, &keys[round]), 1);
            false
        }
        1 => {
            bed.store.file_sweep(&FileKey { scope: scope(), id: files[round] }).unwrap();
            false
        }
        _ => {
            let created = bed.store.execution_create(&[with_file(round)]).unwrap();
            assert!(
                matches!(created[..], [Created::New { .. } | Created::UnknownFile { .. }]),
                "{created:?}"
            );
            matches!(created[..], [Created::New { .. }])
        }
    });
    for (round, answers) in answers.iter().enumerate() {
        let file = bed.store.file_get(&scope(), files[round]).unwrap();
        if answers[2] {
            assert!(file.is_some_and(|file| file.referred), "round {round}: an execution's file is there");
        } else {
            assert!(file.is_none_or(|file| !file.referred), "round {round}: nobody uses it");
        }
    }
}

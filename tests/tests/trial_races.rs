//! Test runs and files, by several at once through a barrier, on both stores.

use std::sync::Barrier;

use holdpoint_db::*;
use holdpoint_engine::ids::{ExecutionId, FileId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::RunType;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use crate::stores::Ground;

const ROUNDS: usize = 200;

on_both_stores! {
    of crate::stores::Ground::new:
    eight_start_a_test_run_and_one_has_it;
    an_end_beside_a_start;
    two_starts_take_the_place_of_a_late_run;
    a_file_is_referred_to_while_it_is_swept;
    starts_with_the_same_files_do_not_stop_each_other;
}

impl Ground {
    fn create(&self, new: NewExecution) -> Created {
        self.store.execution_create(&[new]).unwrap().pop().unwrap()
    }

    fn has_place(&self, round: usize) -> Option<ExecutionId> {
        match self.create(test(round)) {
            Created::TestRunActive { active } => Some(active),
            _ => None,
        }
    }
}

/// A project for each round, so that the built-in workflow has a place in each.
fn project(round: usize) -> Scope {
    Scope::new("acme", &format!("round-{round}"))
}

fn test(round: usize) -> NewExecution {
    let key = ExecutionKey { scope: project(round), ..key() };
    NewExecution { key, run_type: RunType::Test, ..start() }
}

fn is_new(created: &Created) -> bool {
    matches!(created, Created::New { .. })
}

/// Two parties at once.
fn both<A: Send, B: Send>(one: impl FnOnce() -> A + Send, other: impl FnOnce() -> B + Send) -> (A, B) {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            barrier.wait();
            one()
        });
        let second = scope.spawn(|| {
            barrier.wait();
            other()
        });
        (first.join().unwrap(), second.join().unwrap())
    })
}

fn eight_start_a_test_run_and_one_has_it(ground: &Ground) {
    let barrier = Barrier::new(8);
    let answers: Vec<Vec<(ExecutionId, Created)>> = std::thread::scope(|scope| {
        let party = |_| {
            scope.spawn(|| {
                let begin = |round| {
                    let new = test(round);
                    barrier.wait();
                    (new.key.id, ground.create(new))
                };
                (0..ROUNDS).map(begin).collect::<Vec<_>>()
            })
        };
        let threads: Vec<_> = (0..8).map(party).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for round in 0..ROUNDS {
        let of_round: Vec<_> = answers.iter().map(|party| &party[round]).collect();
        let won: Vec<_> = of_round.iter().filter(|(_, created)| is_new(created)).collect();
        assert_eq!(won.len(), 1, "round {round}: {of_round:?}");
        let told = |created: &Created| match created {
            Created::TestRunActive { active } => *active == won[0].0,
            created => is_new(created),
        };
        assert!(of_round.iter().all(|(_, created)| told(created)), "round {round}: {of_round:?}");
    }
}

fn an_end_beside_a_start(ground: &Ground) {
    for round in 0..ROUNDS {
        // A lease of its own: all rounds together may take longer than one lasts.
        let mine = session(&*ground.store);
        let first = test(round).key;
        assert!(is_new(&ground.create(NewExecution { key: first.clone(), ..test(round) })));
        let end = Held::claim(&*ground.store, mine, &first).complete();
        let second = test(round);
        let id = second.key.id;
        let (ended, created) =
            both(|| ground.store.execution_commit(&[end]).unwrap(), || ground.create(second));
        assert!(matches!(ended[..], [Committed::Done { .. }]), "{ended:?}");
        match created {
            Created::New { .. } => assert_eq!(ground.has_place(round), Some(id)),
            Created::TestRunActive { active } => {
                assert_eq!(active, first.id);
                assert_eq!(ground.has_place(round), None, "the place is free after the end");
            }
            other => panic!("round {round}: {other:?}"),
        }
    }
}

/// One of them has it, beside the sweep that ends the old one.
fn two_starts_take_the_place_of_a_late_run(ground: &Ground) {
    let old: Vec<_> = (0..ROUNDS).map(test).collect();
    assert!(ground.store.execution_create(&old).unwrap().iter().all(is_new));
    let moved = format!("UPDATE test_runs SET created_at = created_at - {}", TEST_RUN_TIME.as_micros());
    ground.bed.execute(&moved);
    for (round, old) in old.iter().enumerate() {
        let (new, other) = (test(round), test(round));
        let ids = [new.key.id, other.key.id];
        let (first, (second, swept)) = both(
            || ground.create(new),
            || both(|| ground.create(other), || ground.store.test_run_expire(&old.key).unwrap()),
        );
        assert_eq!([&first, &second].iter().filter(|one| is_new(one)).count(), 1, "{first:?} {second:?}");
        assert!(matches!(swept, Swept::Done { new_event: Some(_), .. }), "{swept:?}");
        let place = ground.has_place(round).unwrap();
        assert!(ids.contains(&place), "round {round}");
    }
}

fn file() -> NewFile {
    NewFile {
        key: FileKey { scope: scope(), id: FileId(Uuid::now_v7()) },
        name: None,
        content_type: "text/plain".to_owned(),
        sha256: String::new(),
        content: b"x".to_vec(),
        created_by: "key_test".to_owned(),
    }
}

fn with_files(files: Vec<FileId>) -> NewExecution {
    NewExecution { extras: Extras { files, ..Extras::default() }, ..start() }
}

fn a_file_is_referred_to_while_it_is_swept(ground: &Ground) {
    let mut started = 0;
    for round in 0..ROUNDS {
        let file = file();
        ground.store.file_put(&file).unwrap();
        let new = with_files(vec![file.key.id]);
        let (created, swept) = both(|| ground.create(new), || ground.store.file_sweep(&file.key).unwrap());
        let is_there = ground.store.file_get(&scope(), file.key.id).unwrap().is_some();
        match created {
            Created::New { .. } => assert!(is_there && !swept, "round {round}"),
            Created::UnknownFile { .. } => assert!(!is_there && swept, "round {round}"),
            other => panic!("round {round}: {other:?}"),
        }
        started += usize::from(is_there);
    }
    println!("the start won {started} of {ROUNDS} rounds");
}

fn starts_with_the_same_files_do_not_stop_each_other(ground: &Ground) {
    for _ in 0..ROUNDS {
        let (one, other) = (file(), file());
        ground.store.file_put(&one).unwrap();
        ground.store.file_put(&other).unwrap();
        let (a, b) = both(
            || ground.create(with_files(vec![one.key.id, other.key.id])),
            || ground.create(with_files(vec![other.key.id, one.key.id])),
        );
        assert!(is_new(&a) && is_new(&b), "{a:?} {b:?}");
    }
}

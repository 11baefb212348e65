//! Commands that came by a message: a repeat is answered as its first was, whatever it asks for.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::policy::Policy;
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    a_repeat_is_answered_as_its_first;
    a_repeat_is_known_when_its_definition_is_gone;
    a_command_twice_in_one_batch_is_one_start;
    a_refused_start_leaves_no_note;
    a_command_for_a_used_execution_id_names_it;
    commands_of_two_tenants_and_sources_never_meet;
    a_decision_by_command_is_taken_once;
    a_refused_decision_leaves_no_note;
    a_vote_by_command_is_counted_once;
    a_cancel_by_command_is_taken_once;
    attempts_count_until_the_message_is_settled;
    notes_expire_and_no_more_than_asked;
}

fn named(source: &str, id: &str) -> CommandKey {
    CommandKey { source: source.to_owned(), id: id.to_owned() }
}

fn commanded(id: &str) -> NewExecution {
    let extras = Extras { command: Some(named("/shop", id)), ..Extras::default() };
    NewExecution { extras, ..start() }
}

fn one(bed: &Bed, new: NewExecution) -> Created {
    bed.store.execution_create(&[new]).unwrap().pop().unwrap()
}

fn count(bed: &Bed) -> usize {
    let filter = ExecutionFilter { limit: 1_000, ..ExecutionFilter::default() };
    bed.store.execution_list(&scope(), &filter).unwrap().len()
}

/// It is that execution, which was there.
fn assert_is(answer: Created, key: &ExecutionKey) {
    assert!(matches!(&answer, Created::Existing { id, .. } if *id == key.id), "{answer:?}");
}

fn a_repeat_is_answered_as_its_first(bed: &Bed) {
    let first = create(bed.store.as_ref(), commanded("m1"));
    assert_is(one(bed, commanded("m1")), &first);
    assert_is(one(bed, NewExecution { input: Some("7".to_owned()), ..commanded("m1") }), &first);
    assert_eq!(count(bed), 1);
    create(bed.store.as_ref(), commanded("m2"));
    assert_eq!(count(bed), 2);
}

fn a_repeat_is_known_when_its_definition_is_gone(bed: &Bed) {
    let agent = || NewExecution { kind: DefinitionKind::Agent, name: "clerk".to_owned(), ..commanded("m1") };
    bed.store.definition_put(&scope(), DefinitionKind::Agent, "clerk", "{}", "key_1").unwrap();
    let first = create(bed.store.as_ref(), agent());
    bed.store.definition_delete(&scope(), DefinitionKind::Agent, "clerk", "key_admin").unwrap();
    assert_is(one(bed, agent()), &first);
}

fn a_command_twice_in_one_batch_is_one_start(bed: &Bed) {
    let batch = [commanded("m1"), commanded("m2"), commanded("m1"), start(), commanded("m1")];
    let answers = bed.store.execution_create(&batch).unwrap();
    let new = answers.iter().filter(|answer| matches!(answer, Created::New { .. })).count();
    assert_eq!((new, count(bed)), (3, 3));
    for at in [2, 4] {
        assert_is(answers[at].clone(), &batch[0].key);
    }
}

fn a_refused_start_leaves_no_note(bed: &Bed) {
    let unknown = || NewExecution { name: "nonsense".to_owned(), ..commanded("m1") };
    assert!(matches!(one(bed, unknown()), Created::UnknownDefinition));
    let busy = |id: &str| NewExecution {
        kind: DefinitionKind::Agent,
        name: "clerk".to_owned(),
        conversation: Conversation::Named("c".to_owned()),
        ..commanded(id)
    };
    bed.store.definition_put(&scope(), DefinitionKind::Agent, "clerk", "{}", "key_1").unwrap();
    create(bed.store.as_ref(), busy("m0"));
    // A repeat in the same batch is told what its first is told.
    let answers = bed.store.execution_create(&[busy("m1"), busy("m1")]).unwrap();
    assert!(answers.iter().all(|answer| matches!(answer, Created::ConversationBusy { .. })), "{answers:?}");
    create(bed.store.as_ref(), commanded("m1"));
}

fn a_command_for_a_used_execution_id_names_it(bed: &Bed) {
    let with_id = |id: &str, digest: &str, key: &ExecutionKey| NewExecution {
        key: key.clone(),
        idempotency: Some(Idempotency { key: None, body_digest: digest.to_owned() }),
        ..commanded(id)
    };
    let used = key();
    create(bed.store.as_ref(), with_id("m1", "d", &used));
    assert_is(one(bed, with_id("m2", "d", &used)), &used);
    assert_is(one(bed, commanded("m2")), &used);
    assert!(matches!(one(bed, with_id("m3", "other", &used)), Created::Mismatch));
    create(bed.store.as_ref(), commanded("m3"));
}

fn commands_of_two_tenants_and_sources_never_meet(bed: &Bed) {
    create(bed.store.as_ref(), commanded("m1"));
    let theirs = ExecutionKey { scope: stranger(), ..key() };
    create(bed.store.as_ref(), NewExecution { key: theirs, ..commanded("m1") });
    let extras = Extras { command: Some(named("/other", "m1")), ..Extras::default() };
    create(bed.store.as_ref(), NewExecution { extras, ..commanded("m1") });
}

fn decide_by(bed: &Bed, id: &str, key: &ExecutionKey, approved: bool) -> Commanded<Decided> {
    let request = decision(key, "a", approved);
    bed.store.command_decide(&key.scope, &named("/shop", id), &request).unwrap()
}

fn a_decision_by_command_is_taken_once(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    assert!(matches!(decide_by(bed, "m1", &key, true), Commanded::Now(Decided::Taken { .. })));
    let again = decide_by(bed, "m1", &key, true);
    assert!(matches!(again, Commanded::Before(id) if id == key.id), "{again:?}");
    // Another message with the same decision is a decision that was taken.
    assert!(matches!(decide_by(bed, "m2", &key, true), Commanded::Now(Decided::Already(_))));
    assert!(matches!(decide_by(bed, "m2", &key, true), Commanded::Before(_)));
}

fn a_refused_decision_leaves_no_note(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    let nowhere = ExecutionKey { id: ExecutionId(uuid::Uuid::now_v7()), ..key.clone() };
    assert!(matches!(decide_by(bed, "m1", &nowhere, true), Commanded::Now(Decided::NotFound)));
    assert!(matches!(decide_by(bed, "m1", &key, true), Commanded::Now(Decided::Taken { .. })));
    assert!(matches!(decide_by(bed, "m2", &key, false), Commanded::Now(Decided::Conflict(_))));
    assert!(matches!(decide_by(bed, "m2", &key, false), Commanded::Now(Decided::Conflict(_))));
}

fn a_vote_by_command_is_counted_once(bed: &Bed) {
    let alone = Policy { quorum: 2, no_self_approval: true, ..Policy::default() };
    let key = waiting(bed.store.as_ref(), start(), &[Asked { policy: Some(&alone), ..Asked::open("a") }]);
    let vote = |id: &str, by: &str| {
        let request = DecideRequest { by: decider(by), ..decision(&key, "a", true) };
        bed.store.command_decide(&key.scope, &named("/shop", id), &request).unwrap()
    };
    // Refused, it leaves no note, and is refused again.
    for _ in 0..2 {
        assert!(matches!(vote("m1", "key_test"), Commanded::Now(Decided::Barred { .. })));
    }
    assert!(matches!(vote("m2", "key_1"), Commanded::Now(Decided::Counted(_))));
    assert!(matches!(vote("m2", "key_1"), Commanded::Before(id) if id == key.id));
    assert!(matches!(vote("m3", "key_1"), Commanded::Now(Decided::Already(_))));
    assert!(matches!(vote("m4", "key_2"), Commanded::Now(Decided::Taken { .. })));
}

fn a_cancel_by_command_is_taken_once(bed: &Bed) {
    let key = create(bed.store.as_ref(), start());
    let cancel =
        |id: &str| bed.store.command_act(&key, &named("/shop", id), &ActRequest::Cancel, "key_1", None);
    assert!(matches!(cancel("m1"), Ok(Commanded::Now(Acted { status: Status::Cancelled, .. }))));
    assert!(matches!(cancel("m1"), Ok(Commanded::Before(id)) if id == key.id));
    // Refused, it is rolled back with its note, and refused again.
    for _ in 0..2 {
        assert!(matches!(cancel("m2"), Err(ActError::Terminal(Status::Cancelled))));
    }
}

fn attempts_count_until_the_message_is_settled(bed: &Bed) {
    for count in 1..=4 {
        assert_eq!(bed.store.command_attempt("m1").unwrap(), count);
    }
    assert_eq!(bed.store.command_attempt("m2").unwrap(), 1);
    bed.store.command_settled("m1").unwrap();
    assert_eq!(bed.store.command_attempt("m1").unwrap(), 1);
}

fn notes_expire_and_no_more_than_asked(bed: &Bed) {
    let first = create(bed.store.as_ref(), commanded("m0"));
    (1..5).for_each(|n| drop(create(bed.store.as_ref(), commanded(&format!("m{n}")))));
    bed.store.command_attempt("m").unwrap();
    assert_eq!(bed.store.commands_expire(Duration::from_secs(3_600), 100).unwrap(), 0);
    assert_is(one(bed, commanded("m0")), &first);
    assert_eq!(bed.store.commands_expire(Duration::ZERO, 2).unwrap(), 3, "two notes and an attempt");
    assert_eq!(bed.store.commands_expire(Duration::ZERO, 100).unwrap(), 3);
    create(bed.store.as_ref(), commanded("m0"));
}

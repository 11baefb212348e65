//! `execution_create`: same starts, versions, conversations, delays.

use std::collections::BTreeMap;
use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::workflow::Misfit;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    a_start_is_queued_with_all_that_it_brought;
    extras_come_with_the_claim_and_sealed_ones_go_with_the_end;
    the_same_key_is_the_same_start;
    the_same_start_twice_in_one_batch_is_one;
    a_used_execution_id_is_a_used_key;
    a_key_belongs_to_one_tenant;
    an_unknown_definition_leaves_no_row;
    a_start_pins_the_latest_version;
    a_conversation_has_one_active_execution;
    one_batch_cannot_take_a_conversation_twice;
    a_conversation_is_free_after_every_end;
    a_made_conversation_has_a_row_of_its_own;
    a_delayed_start_waits;
    bad_items_harm_no_other;
    what_cannot_be_stored_is_refused_alone;
    an_input_that_does_not_fit_leaves_no_row_and_hides_none;
}

fn one(bed: &Bed, new: NewExecution) -> Created {
    bed.store.execution_create(&[new]).unwrap().pop().unwrap()
}

fn named(conversation: &str) -> NewExecution {
    NewExecution { conversation: Conversation::Named(conversation.to_owned()), ..start() }
}

fn a_start_is_queued_with_all_that_it_brought(bed: &Bed) {
    let new = NewExecution {
        metadata: r#"{"a":1}"#.to_owned(),
        labels: BTreeMap::from([("team".to_owned(), "eu".to_owned())]),
        end_user: Some("ada".to_owned()),
        ..start()
    };
    let key = create(bed.store.as_ref(), new);
    let row = get(bed, &key);
    assert_eq!((row.status, row.reason, row.last_event), (Status::Queued, None, 0));
    assert_eq!((row.kind, row.name.as_str(), row.version), (DefinitionKind::Workflow, "holdpoint.noop", 1));
    assert_eq!((row.metadata.as_str(), row.input.as_deref()), (r#"{"a":1}"#, Some("{}")));
    assert_eq!(row.labels.get("team").map(String::as_str), Some("eu"));
    assert_eq!((row.end_user.as_deref(), row.attempt, row.retry_of), (Some("ada"), 1, None));
    assert_eq!((row.started_at, row.finished_at, row.pending_approvals), (None, None, 0));
    assert!(row.created_at <= bed.store.now().unwrap());
    assert!(lines(bed, &key).is_empty());
}

fn extras_come_with_the_claim_and_sealed_ones_go_with_the_end(bed: &Bed) {
    let extras = Extras {
        client_time: Some(ClientTime {
            timestamp: "2026-01-02T03:04:05Z".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
        }),
        sealed_headers: Some(vec![1, 2, 3]),
        parent: Some(Parent {
            execution: ExecutionId(Uuid::now_v7()),
            step: 3,
            tool_call_id: "c".to_owned(),
            depth: 2,
        }),
        command: Some(CommandKey { source: "/shop".to_owned(), id: "7".to_owned() }),
        reply: Some(ReplyTo { queue: "answers".to_owned(), correlation_id: Some("x".to_owned()) }),
        ..Extras::default()
    };
    let mut held = Held::begin_with(bed.store.as_ref(), NewExecution { extras, ..start() });
    let claimed = held.claimed.extras.clone().unwrap();
    assert_eq!(claimed.client_time.unwrap().timezone, "Europe/Berlin");
    assert_eq!(claimed.sealed_headers.as_deref(), Some(&[1, 2, 3][..]));
    assert_eq!(claimed.parent.unwrap().step, 3);
    assert_eq!(claimed.command.unwrap().source, "/shop");
    assert_eq!(claimed.reply.unwrap().correlation_id.as_deref(), Some("x"));
    let end = held.complete();
    bed.store.execution_commit(&[end]).unwrap();
    let sealed =
        "UPDATE execution_extras SET client_timezone = client_timezone WHERE sealed_headers IS NOT NULL";
    assert_eq!(execute(bed, sealed), 0);
    assert!(Held::begin(bed.store.as_ref()).claimed.extras.is_none());
}

fn the_same_key_is_the_same_start(bed: &Bed) {
    let first = create(bed.store.as_ref(), keyed("k", "d"));
    match one(bed, keyed("k", "d")) {
        Created::Existing { id, status } => assert_eq!((id, status), (first.id, Status::Queued)),
        other => panic!("{other:?}"),
    }
    assert!(matches!(one(bed, keyed("k", "other")), Created::Mismatch));
    let mut held = take(bed, &first);
    assert_eq!(commit(bed, held.complete()), FREED);
    match one(bed, keyed("k", "d")) {
        Created::Existing { id, status } => assert_eq!((id, status), (first.id, Status::Completed)),
        other => panic!("{other:?}"),
    }
}

fn the_same_start_twice_in_one_batch_is_one(bed: &Bed) {
    let batch = [keyed("k", "d"), keyed("k", "d"), keyed("k", "other"), keyed("l", "d")];
    let created = bed.store.execution_create(&batch).unwrap();
    let new = created.iter().filter(|one| matches!(one, Created::New { .. })).count();
    assert_eq!(new, 2, "{created:?}");
    // Whichever of `k` came first, the others are judged by it.
    let first =
        batch[..3].iter().zip(&created).find(|(_, one)| matches!(one, Created::New { .. })).unwrap().0;
    for (asked, answer) in batch[..3].iter().zip(&created) {
        match answer {
            Created::New { key, .. } => assert_eq!(key, &first.key),
            Created::Existing { id, .. } => assert_eq!(*id, first.key.id),
            Created::Mismatch => {
                let digest = |new: &NewExecution| new.idempotency.as_ref().unwrap().body_digest.clone();
                assert_ne!(digest(asked), digest(first));
            }
            other => panic!("{other:?}"),
        }
    }
    let all =
        bed.store.execution_list(&scope(), &ExecutionFilter { limit: 10, ..Default::default() }).unwrap();
    assert_eq!(all.len(), 2);
}

fn a_used_execution_id_is_a_used_key(bed: &Bed) {
    let idempotency = |digest: &str| Some(Idempotency { key: None, body_digest: digest.to_owned() });
    let first = NewExecution { idempotency: idempotency("d"), ..start() };
    let key = create(bed.store.as_ref(), first.clone());
    assert!(matches!(one(bed, first.clone()), Created::Existing { id, .. } if id == key.id));
    let other = NewExecution { idempotency: idempotency("e"), ..first.clone() };
    assert!(matches!(one(bed, other), Created::Mismatch));
    let batch = bed.store.execution_create(&[first.clone(), first]).unwrap();
    assert!(
        batch.iter().all(|one| matches!(one, Created::Existing { id, .. } if *id == key.id)),
        "{batch:?}"
    );
}

fn a_key_belongs_to_one_tenant(bed: &Bed) {
    create(bed.store.as_ref(), keyed("k", "d"));
    let mut theirs = keyed("k", "d");
    theirs.key.scope = stranger();
    assert!(matches!(one(bed, theirs), Created::New { .. }));
}

fn an_unknown_definition_leaves_no_row(bed: &Bed) {
    let unknown = NewExecution { name: "nobody".to_owned(), kind: DefinitionKind::Agent, ..keyed("k", "d") };
    let key = unknown.key.clone();
    assert!(matches!(one(bed, unknown.clone()), Created::UnknownDefinition));
    assert!(bed.store.execution_get(&key.scope, key.id).unwrap().is_none());
    let version = NewExecution { version: Some(2), ..start() };
    assert!(matches!(one(bed, version), Created::UnknownDefinition));
    // A key that is used answers what stands under it, whatever the definition is.
    create(bed.store.as_ref(), keyed("k", "d"));
    assert!(matches!(one(bed, unknown), Created::Existing { .. }));
}

fn a_start_pins_the_latest_version(bed: &Bed) {
    let put = |document: &str| {
        let put =
            bed.store.definition_put(&scope(), DefinitionKind::Agent, "clerk", document, "key").unwrap();
        put.0.version
    };
    assert_eq!((put("{}"), put(r#"{"a":1}"#)), (1, 2));
    let clerk =
        |version| NewExecution { kind: DefinitionKind::Agent, name: "clerk".to_owned(), version, ..start() };
    for (asked, pinned) in [(None, 2), (Some(1), 1), (Some(2), 2)] {
        let created = one(bed, clerk(asked));
        assert!(matches!(&created, Created::New { version, .. } if *version == pinned), "{created:?}");
    }
    assert!(matches!(one(bed, clerk(Some(3))), Created::UnknownDefinition));
    let mut theirs = clerk(None);
    theirs.key.scope = stranger();
    assert!(matches!(one(bed, theirs), Created::UnknownDefinition));
    assert!(bed.store.definition_delete(&scope(), DefinitionKind::Agent, "clerk", "key_admin").unwrap());
    assert!(matches!(one(bed, clerk(None)), Created::UnknownDefinition));
    assert!(matches!(one(bed, clerk(Some(1))), Created::UnknownDefinition));
}

fn a_conversation_has_one_active_execution(bed: &Bed) {
    let first = create(bed.store.as_ref(), named("c"));
    let second = named("c");
    let refused = second.key.clone();
    match one(bed, second) {
        Created::ConversationBusy { active } => assert_eq!(active, first.id),
        other => panic!("{other:?}"),
    }
    assert!(bed.store.execution_get(&refused.scope, refused.id).unwrap().is_none());
    assert!(matches!(one(bed, named("d")), Created::New { .. }));
    let mut theirs = named("c");
    theirs.key.scope = stranger();
    assert!(matches!(one(bed, theirs), Created::New { .. }));
}

fn one_batch_cannot_take_a_conversation_twice(bed: &Bed) {
    let created = bed.store.execution_create(&[named("c"), start(), named("c")]).unwrap();
    let ids: Vec<_> = created
        .iter()
        .map(|one| match one {
            Created::New { key, .. } => Ok(key.id),
            Created::ConversationBusy { active } => Err(*active),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(ids[1].is_ok());
    let (new, busy) = if ids[0].is_ok() { (ids[0], ids[2]) } else { (ids[2], ids[0]) };
    assert_eq!(new.unwrap(), busy.unwrap_err());
}

fn a_conversation_is_free_after_every_end(bed: &Bed) {
    let store = bed.store.as_ref();
    // Completed by a worker.
    let mut held = Held::begin_with(store, named("c"));
    assert_eq!(commit(bed, held.complete()), FREED);
    // Cancelled while nobody holds it.
    let key = create(store, named("c"));
    act(bed, &key, &ActRequest::Cancel).unwrap();
    // Failed by the sweep of stale approvals.
    let key = waiting(store, named("c"), &[Asked::expired("a", 5)]);
    assert!(matches!(store.stale_expire(&key, None).unwrap(), Swept::Done { .. }));
    // Failed as stuck.
    let key = create(store, named("c"));
    super::sweeps::lose_until_it_fails(bed, &key);
    create(store, named("c"));
}

fn a_made_conversation_has_a_row_of_its_own(bed: &Bed) {
    let made = |id: &str| NewExecution { conversation: Conversation::Made(id.to_owned()), ..start() };
    let key = create(bed.store.as_ref(), made("m"));
    assert_eq!(get(bed, &key).conversation_id.as_deref(), Some("m"));
    let row = bed.store.conversation_get(&scope(), "m").unwrap().unwrap();
    assert_eq!((row.active, row.latest), (Some(key.id), Some(key.id)));
    create(bed.store.as_ref(), made("n"));
    assert!(bed.store.conversation_get(&stranger(), "m").unwrap().is_none());
}

fn a_delayed_start_waits(bed: &Bed) {
    let delayed = |delay| NewExecution { delay: Some(delay), ..start() };
    let later = create(bed.store.as_ref(), delayed(Duration::from_secs(3600)));
    let now = create(bed.store.as_ref(), delayed(Duration::ZERO));
    assert_eq!(get(bed, &later).status, Status::Queued);
    let session = session(bed.store.as_ref());
    assert!(claim(bed.store.as_ref(), session, &[&later]).is_empty());
    let claimed = claim_any(bed.store.as_ref(), session, 10);
    assert_eq!(claimed.iter().map(|one| &one.key).collect::<Vec<_>>(), [&now]);
    assert!(
        bed.store
            .sweep_select(&SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Timers }, 10)
            .unwrap()
            .is_empty()
    );
}

fn bad_items_harm_no_other(bed: &Bed) {
    create(bed.store.as_ref(), named("c"));
    create(bed.store.as_ref(), keyed("k", "d"));
    let unknown = NewExecution { name: "nobody".to_owned(), ..start() };
    let batch = [start(), unknown, named("c"), keyed("k", "e"), keyed("k", "d"), start()];
    let created = bed.store.execution_create(&batch).unwrap();
    assert!(
        matches!(
            &created[..],
            [
                Created::New { .. },
                Created::UnknownDefinition,
                Created::ConversationBusy { .. },
                Created::Mismatch,
                Created::Existing { .. },
                Created::New { .. }
            ]
        ),
        "{created:?}"
    );
}

/// Postgres refuses NUL in a text, SQLite takes it; nobody else may notice.
fn what_cannot_be_stored_is_refused_alone(bed: &Bed) {
    let db = Db::start(bed.store.clone(), &bed.settings, Hooks::none());
    let bad = NewExecution { created_by: "a\0b".to_owned(), ..start() };
    let batch = vec![start(), bad.clone(), start()];
    let keys: Vec<ExecutionId> = batch.iter().map(|new| new.key.id).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let answers = runtime.block_on(db.create_each(batch));
    assert!(matches!(answers[0], Ok(Created::New { .. })) && matches!(answers[2], Ok(Created::New { .. })));
    if bed.schema.is_some() {
        assert!(matches!(answers[1], Err(StoreError::Refused(_))), "{:?}", answers[1]);
        assert!(bed.store.execution_get(&scope(), keys[1]).unwrap().is_none());
    }
    assert!(bed.store.execution_get(&scope(), ExecutionId(Uuid::now_v7())).unwrap().is_none());
}

fn an_input_that_does_not_fit_leaves_no_row_and_hides_none(bed: &Bed) {
    workflow(bed.store.as_ref(), "ship", serde_json::json!({}));
    let misfit = Misfit { pointer: "/n".to_owned(), message: "no".to_owned() };
    let checked = |version: i32, misfit: Option<&Misfit>| {
        let check = InputCheck { version, misfit: misfit.cloned() };
        let extras = Extras { input_check: Some(check), ..Extras::default() };
        let idempotency = Some(Idempotency { key: Some("k".to_owned()), body_digest: "d".to_owned() });
        NewExecution { idempotency, extras, ..run_of("ship") }
    };
    assert_eq!(one(bed, checked(1, Some(&misfit))), Created::InputMisfit(misfit.clone()));
    assert_eq!(one(bed, checked(2, None)), Created::OtherVersion { version: 1 });
    assert_eq!(one(bed, checked(0, None)), Created::OtherVersion { version: 1 });
    let filter = ExecutionFilter { limit: 10, ..ExecutionFilter::default() };
    assert!(bed.store.execution_list(&scope(), &filter).unwrap().is_empty());
    let first = create(bed.store.as_ref(), checked(1, None));
    for again in [checked(1, Some(&misfit)), checked(2, None)] {
        assert_eq!(one(bed, again), Created::Existing { id: first.id, status: Status::Queued });
    }
    let other = NewExecution {
        idempotency: Some(Idempotency { key: Some("k".to_owned()), body_digest: "other".to_owned() }),
        ..checked(1, Some(&misfit))
    };
    assert_eq!(one(bed, other), Created::Mismatch);
    let unknown =
        NewExecution { name: "nonsense".to_owned(), idempotency: None, ..checked(1, Some(&misfit)) };
    assert_eq!(one(bed, unknown), Created::UnknownDefinition);
}

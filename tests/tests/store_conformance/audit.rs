//! The audit: what is told, in one chain; what nobody can do to it; what is found where
//! somebody did it all the same.

use std::panic::{AssertUnwindSafe, catch_unwind};

use holdpoint_db::*;
use holdpoint_engine::audit::{AuditHead, AuditRow, Broken, Fault, installation};
use holdpoint_engine::ids::{KeyId, ParkedId, SweepId, WebhookId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, DefinitionKind, Reason, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    each_act_is_told_once;
    what_changes_nothing_is_not_told;
    the_work_itself_is_not_told;
    questions_that_expire_are_told;
    sweeps_are_told_where_they_acted;
    the_installation_has_a_chain_of_its_own;
    an_act_that_cannot_be_told_does_not_happen;
    rows_are_neither_changed_nor_removed;
    what_was_tampered_with_is_found;
    what_was_cut_off_is_found;
    the_list_is_filtered_and_paged;
}

fn list(bed: &Bed, chain: &Scope, filter: AuditFilter) -> Vec<AuditRow> {
    bed.store.audit_list(chain, &AuditFilter { limit: 1_000, ..filter }).unwrap()
}

fn told(bed: &Bed) -> Vec<AuditRow> {
    list(bed, &scope(), AuditFilter { oldest_first: true, ..AuditFilter::default() })
}

fn acts(bed: &Bed) -> Vec<String> {
    told(bed).into_iter().map(|row| row.act).collect()
}

fn verify(bed: &Bed, known: Option<&str>) -> Result<AuditHead, Broken> {
    verify_chain(bed.store.as_ref(), &scope(), known.map(str::to_owned)).unwrap()
}

fn settings(bed: &Bed, count: usize) {
    for at in 0..count {
        let settings = EventSettings { exchange: at % 2 == 0 };
        bed.store.event_settings_put(&scope(), settings, "key_admin").unwrap();
    }
}

fn a_key() -> KeyRow {
    KeyRow {
        id: KeyId(Uuid::now_v7()),
        scope: scope(),
        role: "approve".to_owned(),
        name: "desk".to_owned(),
        end_user: Some("ada".to_owned()),
        secret_hash: "ab".repeat(32),
        created_at: Timestamp::from_micros(1),
        expires_at: None,
        revoked_at: None,
        groups: Vec::new(),
    }
}

fn each_act_is_told_once(bed: &Bed) {
    let store = bed.store.as_ref();
    let (key, project) = (a_key(), scope());
    store.key_create(&key, "operator").unwrap();
    store.key_revoke(Some(&project), key.id, "key_admin").unwrap();
    let put =
        |text| store.definition_put(&project, DefinitionKind::Agent, "refunds", text, "key_admin").unwrap();
    put("{\"a\":1}");
    put("{\"a\":2}");
    store.definition_delete(&project, DefinitionKind::Agent, "refunds", "key_admin").unwrap();
    let mut expected =
        vec!["key.created", "key.revoked", "definition.put", "definition.put", "definition.deleted"];
    assert_eq!(acts(bed), expected);

    workflow(store, "daily", serde_json::json!({}));
    for state in [WorkflowState::Paused, WorkflowState::Active, WorkflowState::Archived] {
        store.workflow_state(&project, "daily", state, "key_admin").unwrap();
    }
    expected.extend(["definition.put", "workflow.paused", "workflow.resumed", "workflow.archived"]);
    assert_eq!(acts(bed), expected);

    settings(bed, 1);
    let (url, description) = ("https://u:p@example.com/secret".to_owned(), String::new());
    let document = WebhookDocument { url, description, types: Vec::new() };
    let id = WebhookId(Uuid::now_v7());
    let new = NewWebhook { id, document, secret: vec![1], created_by: "key_admin".to_owned() };
    store.webhook_create(&project, &new).unwrap();
    store.webhook_change(&project, id, &WebhookChange::Disable, "key_admin").unwrap();
    store.webhook_delete(&project, id, "key_admin").unwrap();
    expected.extend(["event_settings.put", "webhook.put", "webhook.put", "webhook.deleted"]);
    assert_eq!(acts(bed), expected);

    let waits = waiting(store, start(), &[Asked::open("a"), Asked::open("b")]);
    let reason = "because\u{202e}".to_owned();
    let denial = DecideRequest { reason: Some(reason), ..decision(&waits, "a", false) };
    store.approval_decide(&project, &denial).unwrap();
    decide(bed, &waits, "b", true);
    for request in [ActRequest::Pause, ActRequest::Resume, ActRequest::Cancel] {
        store.execution_act(&project, waits.id, &request, "key_admin", None).unwrap();
    }
    store.run_retry(&waits, "key_admin", None).unwrap();
    expected.extend(["approval.decided", "approval.decided", "execution.paused", "execution.resumed"]);
    expected.extend(["execution.cancelled", "execution.retried"]);
    assert_eq!(acts(bed), expected);

    let rows = told(bed);
    assert!(rows.iter().enumerate().all(|(at, row)| row.seq == at as i64 + 1));
    assert_eq!((rows[0].actor.as_str(), rows[1].actor.as_str()), ("operator", "key_admin"));
    assert_eq!(rows[0].subject, key.id.to_string());
    let details: Vec<serde_json::Value> =
        rows.iter().map(|row| serde_json::from_str(&row.details).unwrap()).collect();
    let denied = &details[13];
    assert_eq!((&denied["approved"], &denied["reason"]), (&false.into(), &"because\u{202e}".into()));
    assert_eq!((&denied["digest"], &denied["tool_call_id"]), (&digest().into(), &"a".into()));
    let everything = rows.iter().map(|row| row.details.as_str()).collect::<String>();
    assert!(!everything.contains("secret") && everything.contains("example.com"), "{everything}");
    assert!(!everything.contains(ARGUMENTS), "{everything}");
    assert_eq!(verify(bed, None).unwrap().seq, rows.len() as i64);
}

fn what_changes_nothing_is_not_told(bed: &Bed) {
    let store = bed.store.as_ref();
    let key = a_key();
    store.key_create(&key, "operator").unwrap();
    store.key_revoke(None, key.id, "operator").unwrap();
    store.key_revoke(None, key.id, "operator").unwrap();
    store.key_revoke(None, KeyId(Uuid::now_v7()), "operator").unwrap();
    for _ in 0..2 {
        store.definition_put(&scope(), DefinitionKind::Agent, "refunds", "{}", "key_admin").unwrap();
    }
    store.webhook_delete(&scope(), WebhookId(Uuid::now_v7()), "key_admin").unwrap();
    store.parked_remove(None, ParkedId(Uuid::now_v7()), Unparked::Discarded, "operator").unwrap();
    let waits = waiting(store, start(), &[Asked::open("a")]);
    decide(bed, &waits, "a", true);
    decide(bed, &waits, "a", true);
    decide(bed, &waits, "a", false);
    decide(bed, &waits, "nobody", false);
    let ended = waiting(store, start(), &[Asked::open("a")]);
    act(bed, &ended, &ActRequest::Cancel).unwrap();
    act(bed, &ended, &ActRequest::Cancel).unwrap_err();
    let signal = ActRequest::Signal {
        name: "paid".to_owned(),
        id: Some("1".to_owned()),
        event: "{}".to_owned(),
        limit: 10,
    };
    for _ in 0..2 {
        act(bed, &waits, &signal).unwrap();
    }
    let expected =
        ["key.created", "key.revoked", "definition.put", "approval.decided", "execution.cancelled"];
    assert_eq!(acts(bed), [&expected[..], &["execution.signalled"]].concat());
}

fn the_work_itself_is_not_told(bed: &Bed) {
    let mut held = Held::begin(bed.store.as_ref());
    let step = held.step();
    assert_eq!(commit(bed, step), KEPT);
    let end = held.complete();
    assert_eq!(commit(bed, end), FREED);
    assert!(acts(bed).is_empty() && bed.store.audit_heads(Some(&scope())).unwrap().is_empty());
}

fn questions_that_expire_are_told(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::expired("a", 5)]);
    bed.store.stale_expire(&key, None).unwrap();
    bed.store.stale_expire(&key, None).unwrap();
    let rows = told(bed);
    assert_eq!(acts(bed), ["approval.expired"]);
    assert_eq!((rows[0].actor.as_str(), &rows[0].subject), ("scheduler", &key.id.to_string()));
}

fn sweeps_are_told_where_they_acted(bed: &Bed) {
    let store = bed.store.as_ref();
    let did = SweepReport { scanned: 1, cleaned_up: 1, ..SweepReport::default() };
    let nothing = SweepReport::default();
    let pass = |kind, source: SweepSource, scope, dry_run, report: &SweepReport| {
        let id = SweepId(Uuid::now_v7());
        let by = source.as_str().to_owned();
        let start = SweepStart { id, kind, source, by, scope, dry_run };
        assert!(store.sweep_open(&start).unwrap());
        store.sweep_close(&start, report, true).unwrap();
    };
    let (scheduler, api) = (SweepSource::Scheduler, SweepSource::Api);
    pass(SweepKind::Stale, api, Some(scope()), false, &nothing);
    pass(SweepKind::Stale, api, Some(scope()), true, &nothing);
    pass(SweepKind::Stale, scheduler, None, false, &nothing);
    pass(SweepKind::Stuck, scheduler, None, false, &did);
    pass(SweepKind::Stale, scheduler, None, false, &did);
    pass(SweepKind::Stale, SweepSource::Cron, None, false, &did);
    assert_eq!(acts(bed), ["sweep.run"], "each that a caller asked for");
    let all =
        list(bed, &installation(), AuditFilter { act: Some(AuditAct::SweepRun), ..AuditFilter::default() });
    let by: Vec<&str> = all.iter().map(|row| row.actor.as_str()).collect();
    assert_eq!(by, ["cron", "scheduler"], "those that acted, newest first");
}

fn the_installation_has_a_chain_of_its_own(bed: &Bed) {
    settings(bed, 1);
    bed.store.event_settings_put(&stranger(), EventSettings { exchange: true }, "key_theirs").unwrap();
    let heads = bed.store.audit_heads(None).unwrap();
    let chains: Vec<_> = heads.iter().map(|head| head.chain.clone()).collect();
    assert_eq!(chains, [installation(), scope(), stranger()]);
    assert!(told(bed).iter().all(|row| row.actor == "key_admin"), "a chain has its own rows only");
    let migrations = list(bed, &installation(), AuditFilter::default());
    assert_eq!((migrations.len(), migrations[0].act.as_str()), (1, "migration.run"));
    assert!(migrations[0].details.contains("20261121000014"), "{}", migrations[0].details);
    for chain in chains {
        verify_chain(bed.store.as_ref(), &chain, None).unwrap().unwrap();
    }
}

fn an_act_that_cannot_be_told_does_not_happen(bed: &Bed) {
    settings(bed, 1);
    // Somebody wrote the row that would come next: the chain's key refuses another one.
    execute(
        bed,
        "INSERT INTO audit (tenant, project, seq, at, actor, act, subject, details, prev_hash, hash)
         SELECT tenant, project, 2, at, actor, act, subject, details, hash, hash FROM audit WHERE tenant = 'acme'",
    );
    let key = a_key();
    assert!(bed.store.key_create(&key, "operator").is_err());
    assert!(bed.store.key_get(key.id).unwrap().is_none());
    let waits = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    assert!(bed.store.approval_decide(&scope(), &decision(&waits, "a", true)).is_err());
    assert!(approval(bed, &waits, "a").decided_at.is_none());
    assert!(act(bed, &waits, &ActRequest::Cancel).is_err());
    assert_eq!(get(bed, &waits).reason, Some(Reason::Approval));
}

fn refused(bed: &Bed, sql: &str) {
    let done = catch_unwind(AssertUnwindSafe(|| execute(bed, sql)));
    assert!(done.is_err(), "{sql}");
}

fn rows_are_neither_changed_nor_removed(bed: &Bed) {
    settings(bed, 3);
    refused(bed, "UPDATE audit SET actor = 'somebody' WHERE seq = 2");
    refused(bed, "DELETE FROM audit WHERE seq = 3");
    refused(bed, "DELETE FROM audit_heads");
    refused(bed, "UPDATE audit_heads SET seq = seq - 1");
    refused(bed, "UPDATE audit_heads SET hash = ''");
    if bed.schema.is_some() {
        refused(bed, "TRUNCATE audit");
        refused(bed, "TRUNCATE audit_heads");
    } else {
        refused(bed, "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE seq = 2");
    }
    assert_eq!(verify(bed, None).unwrap().seq, 3);
}

/// Without its triggers, as whoever owns the database could do it.
fn unguard(bed: &Bed) {
    if bed.schema.is_some() {
        for table in ["audit", "audit_heads"] {
            execute(bed, &format!("ALTER TABLE {table} DISABLE TRIGGER USER"));
        }
        return;
    }
    for trigger in [
        "audit_no_update",
        "audit_no_delete",
        "audit_no_replace",
        "audit_heads_no_delete",
        "audit_heads_rise",
    ] {
        execute(bed, &format!("DROP TRIGGER {trigger}"));
    }
}

/// Each is done and undone: the chain is whole before and after it.
fn what_was_tampered_with_is_found(bed: &Bed) {
    settings(bed, 5);
    unguard(bed);
    let ours = "tenant = 'acme'";
    let alterations =
        ["at = at + 1", "actor = 'x'", "end_user = 'x'", "act = 'x'", "subject = 'x'", "details = 'x'"];
    for (at, alteration) in alterations.into_iter().enumerate() {
        let seq = at as i64 % 5 + 1;
        execute(bed, &format!("CREATE TABLE kept_{at} AS SELECT * FROM audit WHERE {ours}"));
        execute(bed, &format!("UPDATE audit SET {alteration} WHERE {ours} AND seq = {seq}"));
        let broken = verify(bed, None).unwrap_err();
        assert_eq!((broken.seq, broken.fault), (seq, Fault::Altered), "{alteration}");
        restore(bed, at);
    }
    let broken = |sql: &[&str], at| {
        execute(bed, &format!("CREATE TABLE kept_{at} AS SELECT * FROM audit WHERE {ours}"));
        for sql in sql {
            execute(bed, sql);
        }
        let broken = verify(bed, None).unwrap_err();
        restore(bed, at);
        broken
    };
    let removed = broken(&["DELETE FROM audit WHERE tenant = 'acme' AND seq = 2"], 10);
    assert_eq!((removed.seq, removed.fault), (3, Fault::OutOfOrder { wanted: 2 }));
    let inserted = broken(
        &["INSERT INTO audit SELECT tenant, project, 6, at, actor, end_user, act, subject, details, prev_hash, hash
             FROM audit WHERE tenant = 'acme' AND seq = 5"],
        11,
    );
    assert_eq!((inserted.seq, inserted.fault), (6, Fault::Altered));
    let swapped = broken(
        &[
            "UPDATE audit SET seq = 100 WHERE tenant = 'acme' AND seq = 2",
            "UPDATE audit SET seq = 2 WHERE tenant = 'acme' AND seq = 3",
            "UPDATE audit SET seq = 3 WHERE tenant = 'acme' AND seq = 100",
        ],
        12,
    );
    assert_eq!((swapped.seq, swapped.fault), (2, Fault::Altered));
    // Whoever also computes the altered row's hash anew is told by the next row.
    let mut row = told(bed).remove(2);
    row.subject = "x".to_owned();
    let forged = broken(
        &[&format!(
            "UPDATE audit SET subject = 'x', hash = '{}' WHERE tenant = 'acme' AND seq = 3",
            row.computed_hash()
        )],
        13,
    );
    assert_eq!((forged.seq, forged.fault), (4, Fault::Unlinked));
}

fn restore(bed: &Bed, at: usize) {
    execute(bed, "DELETE FROM audit WHERE tenant = 'acme'");
    execute(bed, &format!("INSERT INTO audit SELECT * FROM kept_{at}"));
    assert_eq!(verify(bed, None).unwrap().seq, 5);
}

fn what_was_cut_off_is_found(bed: &Bed) {
    settings(bed, 5);
    let noted = verify(bed, None).unwrap().hash;
    settings(bed, 1);
    assert!(verify(bed, Some(&noted)).is_ok());
    unguard(bed);
    execute(bed, "DELETE FROM audit WHERE tenant = 'acme' AND seq >= 5");
    assert_eq!(verify(bed, None).unwrap_err().fault, Fault::NotTheHead { head: 6 });
    // Whoever moves the head as well is found by a hash that was noted elsewhere.
    let last = told(bed).pop().unwrap();
    execute(bed, &format!("UPDATE audit_heads SET seq = 4, hash = '{}' WHERE tenant = 'acme'", last.hash));
    assert_eq!(verify(bed, None).unwrap().seq, 4);
    assert!(matches!(verify(bed, Some(&noted)).unwrap_err().fault, Fault::HeadMissing { .. }));
    execute(bed, "DELETE FROM audit_heads WHERE tenant = 'acme'");
    assert_eq!(verify(bed, None).unwrap_err().fault, Fault::NotTheHead { head: 0 });
    assert_eq!(bed.store.audit_headless().unwrap(), [scope()]);
}

fn the_list_is_filtered_and_paged(bed: &Bed) {
    settings(bed, 5);
    let key = a_key();
    bed.store.key_create(&key, "operator").unwrap();
    let seqs = |filter: AuditFilter| -> Vec<i64> {
        bed.store.audit_list(&scope(), &filter).unwrap().into_iter().map(|row| row.seq).collect()
    };
    let filter = || AuditFilter { limit: 3, ..AuditFilter::default() };
    assert_eq!(seqs(filter()), [6, 5, 4]);
    assert_eq!(seqs(AuditFilter { before: Some(4), ..filter() }), [3, 2, 1]);
    assert_eq!(seqs(AuditFilter { after: Some(4), ..filter() }), [6, 5]);
    assert_eq!(seqs(AuditFilter { after: Some(1), oldest_first: true, ..filter() }), [2, 3, 4]);
    assert_eq!(seqs(AuditFilter { actor: Some("operator".to_owned()), ..filter() }), [6]);
    assert_eq!(seqs(AuditFilter { act: Some(AuditAct::KeyCreated), ..filter() }), [6]);
    assert_eq!(seqs(AuditFilter { subject: Some(key.id.to_string()), ..filter() }), [6]);
    let both =
        AuditFilter { subject: Some(key.id.to_string()), actor: Some("key_admin".to_owned()), ..filter() };
    assert!(seqs(both).is_empty());
    assert!(bed.store.audit_list(&stranger(), &filter()).unwrap().is_empty());
}

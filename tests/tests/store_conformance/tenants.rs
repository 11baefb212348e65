//! Another tenant, and another project of the same one, see nothing on any verb.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    another_tenant_sees_nothing;
    another_tenant_changes_nothing;
    the_same_id_in_another_tenant_is_another_execution;
}

fn strangers() -> [Scope; 3] {
    [stranger(), Scope::new("acme", "other"), Scope::new("globex", "other")]
}

fn another_tenant_sees_nothing(bed: &Bed) {
    let store = bed.store.as_ref();
    let new = NewExecution { conversation: Conversation::Named("c".to_owned()), ..keyed("k", "d") };
    let key = waiting(store, new, &[Asked::open("a")]);
    let id = approval(bed, &key, "a").id;
    store.definition_put(&scope(), DefinitionKind::Agent, "clerk", "{}", "key").unwrap();
    for other in strangers() {
        assert!(store.execution_get(&other, key.id).unwrap().is_none());
        let all = ExecutionFilter { limit: 10, ..ExecutionFilter::default() };
        assert!(store.execution_list(&other, &all).unwrap().is_empty());
        assert!(store.journal_read(&other, key.id).unwrap().is_none());
        let theirs = ExecutionKey { scope: other.clone(), id: key.id };
        let page = store.events_read(&[EventsRequest { key: theirs.clone(), after: 0, limit: 10 }]).unwrap();
        assert!(page[0].head.is_none() && page[0].lines.is_empty());
        let all = ApprovalFilter { limit: 10, ..ApprovalFilter::default() };
        assert!(store.approval_list(&other, &all).unwrap().is_empty());
        assert!(store.approval_get(&other, id).unwrap().is_none());
        assert!(store.definition_get(&other, DefinitionKind::Agent, "clerk", None).unwrap().is_none());
        assert!(store.definition_get(&other, DefinitionKind::Agent, "clerk", Some(1)).unwrap().is_none());
        assert!(store.definition_list(&other, DefinitionKind::Agent, None, 10).unwrap().is_empty());
        assert!(store.definition_versions(&other, DefinitionKind::Agent, "clerk").unwrap().is_empty());
    }
}

fn another_tenant_changes_nothing(bed: &Bed) {
    let store = bed.store.as_ref();
    let key = waiting(store, start(), &[Asked::expired("a", 5), Asked::open("b")]);
    let held = Held::begin(store);
    store.definition_put(&scope(), DefinitionKind::Agent, "clerk", "{}", "key").unwrap();
    for other in strangers() {
        let request = decision(&key, "b", true);
        assert!(matches!(store.approval_decide(&other, &request).unwrap(), Decided::NotFound));
        for id in [key.id, held.key().id] {
            let cancelled = store.execution_act(&other, id, &ActRequest::Cancel, "k", None);
            assert!(matches!(cancelled, Err(ActError::NotFound)));
        }
        let theirs = ExecutionKey { scope: other.clone(), id: key.id };
        assert_eq!(store.stale_expire(&theirs, None).unwrap(), Swept::Skipped);
        assert_eq!(store.lease_reclaim(&theirs, 4).unwrap(), Swept::Skipped);
        assert!(!store.definition_delete(&other, DefinitionKind::Agent, "clerk", "key_admin").unwrap());
        let (row, new) = store.definition_put(&other, DefinitionKind::Agent, "clerk", "{}", "key").unwrap();
        assert_eq!((row.version, new), (1, true));
        // A session is not a tenant's, the execution is: a hint in another scope names another one.
        let session = session(store);
        assert!(claim(store, session, &[&theirs]).is_empty());
        let moved = ExecutionKey { scope: other, id: held.key().id };
        store.execution_release(held.session, std::slice::from_ref(&moved)).unwrap();
        assert!(store.execution_reload(&moved, held.session, 1).unwrap().is_none());
        let beat = store.session_beat(held.session, Duration::from_secs(60), &[(moved.clone(), 0)]).unwrap();
        assert_eq!(beat.lost, [moved]);
    }
    assert_eq!((get(bed, &key).status, lines(bed, &key).len()), (Status::Suspended, 6));
    assert!(!is_claimable(bed, held.key()));
    assert_eq!(store.definition_versions(&scope(), DefinitionKind::Agent, "clerk").unwrap().len(), 1);
}

fn the_same_id_in_another_tenant_is_another_execution(bed: &Bed) {
    let store = bed.store.as_ref();
    let ours = start();
    let mut theirs = ours.clone();
    theirs.key.scope = stranger();
    let (ours, theirs) = (create(store, ours), create(store, theirs));
    act(bed, &theirs, &ActRequest::Cancel).unwrap();
    assert_eq!((get(bed, &ours).status, get(bed, &theirs).status), (Status::Queued, Status::Cancelled));
    assert!(lines(bed, &ours).is_empty());
    assert!(is_claimable(bed, &ours));
}

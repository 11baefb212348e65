//! Versions of definitions.

use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::status::DefinitionKind::{Agent, Workflow};
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    the_same_document_is_the_same_version;
    an_older_document_is_a_new_version;
    kinds_and_names_are_apart;
    a_deleted_name_is_out_of_use;
    a_deleted_name_goes_on_counting;
    names_are_listed_in_pages;
    versions_are_listed_newest_first;
    a_workflow_of_the_same_value_is_the_same_version;
}

fn a_workflow_of_the_same_value_is_the_same_version(bed: &Bed) {
    let put = |text: &str| {
        let (row, new) = bed.store.definition_put(&scope(), Workflow, "flow", text, "key_me").unwrap();
        (row, new)
    };
    let yaml = "# ours\ndocument: {dsl: 1.0.3, namespace: n, name: flow, version: 0.1.0}\ndo: []\n";
    let json =
        r#"{"do": [], "document": {"name": "flow", "version": "0.1.0", "dsl": "1.0.3", "namespace": "n"}}"#;
    let (first, new) = put(yaml);
    assert_eq!(
        (first.version, first.label.as_deref(), first.document.as_str(), new),
        (1, Some("0.1.0"), yaml, true)
    );
    let (same, new) = put(json);
    assert_eq!((same.version, same.document.as_str(), same.digest, new), (1, yaml, first.digest, false));
    let (next, new) = put(&yaml.replace("0.1.0", "0.2.0"));
    assert_eq!((next.version, next.label.as_deref(), new), (2, Some("0.2.0"), true));
    let listed = bed.store.definition_versions(&scope(), Workflow, "flow").unwrap();
    let labels: Vec<_> = listed.iter().map(|row| row.label.as_deref()).collect();
    assert_eq!(labels, [Some("0.2.0"), Some("0.1.0")]);
}

fn put(bed: &Bed, name: &str, document: &str) -> (i32, bool) {
    let (row, new) = bed.store.definition_put(&scope(), Agent, name, document, "key_me").unwrap();
    assert_eq!((row.document.as_str(), row.digest), (document, sha256_hex(document.as_bytes())));
    (row.version, new)
}

fn version(bed: &Bed, name: &str, version: Option<i32>) -> Option<i32> {
    bed.store.definition_get(&scope(), Agent, name, version).unwrap().map(|row| row.version)
}

fn the_same_document_is_the_same_version(bed: &Bed) {
    assert_eq!(put(bed, "a", "{}"), (1, true));
    let first = bed.store.definition_get(&scope(), Agent, "a", None).unwrap().unwrap();
    assert_eq!((first.kind, first.name.as_str(), first.created_by.as_str()), (Agent, "a", "key_me"));
    assert_eq!(put(bed, "a", "{}"), (1, false));
    let again = bed.store.definition_get(&scope(), Agent, "a", None).unwrap().unwrap();
    assert_eq!(again.created_at, first.created_at);
}

fn an_older_document_is_a_new_version(bed: &Bed) {
    assert_eq!(put(bed, "a", "1"), (1, true));
    assert_eq!(put(bed, "a", "2"), (2, true));
    assert_eq!(put(bed, "a", "1"), (3, true));
    assert_eq!(version(bed, "a", None), Some(3));
    for n in 1..=3 {
        assert_eq!(version(bed, "a", Some(n)), Some(n));
    }
    assert_eq!(version(bed, "a", Some(4)), None);
    assert_eq!(bed.store.definition_get(&scope(), Agent, "a", Some(2)).unwrap().unwrap().document, "2");
}

fn kinds_and_names_are_apart(bed: &Bed) {
    put(bed, "a", "1");
    assert!(bed.store.definition_get(&scope(), Workflow, "a", None).unwrap().is_none());
    let (row, new) = bed.store.definition_put(&scope(), Workflow, "a", "2", "key").unwrap();
    assert_eq!((row.version, new), (1, true));
    assert_eq!(put(bed, "b", "1"), (1, true));
    assert!(bed.store.definition_delete(&scope(), Workflow, "a", "key_admin").unwrap());
    assert_eq!(version(bed, "a", None), Some(1));
}

fn a_deleted_name_is_out_of_use(bed: &Bed) {
    put(bed, "a", "1");
    assert!(bed.store.definition_delete(&scope(), Agent, "a", "key_admin").unwrap());
    assert!(!bed.store.definition_delete(&scope(), Agent, "a", "key_admin").unwrap());
    assert!(!bed.store.definition_delete(&scope(), Agent, "nobody", "key_admin").unwrap());
    assert_eq!(version(bed, "a", None), None);
    // What runs keeps its version.
    assert_eq!(version(bed, "a", Some(1)), Some(1));
    assert!(bed.store.definition_list(&scope(), Agent, None, 10).unwrap().is_empty());
    assert!(bed.store.definition_versions(&scope(), Agent, "a").unwrap().is_empty());
}

fn a_deleted_name_goes_on_counting(bed: &Bed) {
    put(bed, "a", "1");
    assert!(bed.store.definition_delete(&scope(), Agent, "a", "key_admin").unwrap());
    assert_eq!(put(bed, "a", "1"), (2, true));
    assert_eq!(version(bed, "a", None), Some(2));
    assert!(bed.store.definition_delete(&scope(), Agent, "a", "key_admin").unwrap());
}

fn names_are_listed_in_pages(bed: &Bed) {
    for name in ["c", "a", "b", "gone"] {
        put(bed, name, "1");
    }
    put(bed, "b", "2");
    bed.store.definition_delete(&scope(), Agent, "gone", "key_admin").unwrap();
    let list = |after: Option<&str>, limit| {
        let rows = bed.store.definition_list(&scope(), Agent, after, limit).unwrap();
        rows.into_iter().map(|row| (row.name, row.version)).collect::<Vec<_>>()
    };
    let of = |name: &str, version| (name.to_owned(), version);
    assert_eq!(list(None, 10), [of("a", 1), of("b", 2), of("c", 1)]);
    assert_eq!(list(None, 2), [of("a", 1), of("b", 2)]);
    assert_eq!(list(Some("a"), 1), [of("b", 2)]);
    assert!(list(Some("c"), 10).is_empty());
}

fn versions_are_listed_newest_first(bed: &Bed) {
    put(bed, "a", "1");
    put(bed, "a", "2");
    let versions = bed.store.definition_versions(&scope(), Agent, "a").unwrap();
    assert_eq!(versions.iter().map(|row| row.version).collect::<Vec<_>>(), [2, 1]);
    assert!(bed.store.definition_versions(&stranger(), Agent, "a").unwrap().is_empty());
}

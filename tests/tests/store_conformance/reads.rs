//! Lists, pages and streams.

use std::collections::BTreeMap;

use holdpoint_db::*;
use holdpoint_engine::status::{DefinitionKind, RunType, Status};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    executions_are_listed_newest_first_in_pages;
    executions_are_filtered;
    events_are_read_from_where_the_reader_is;
    events_of_many_streams_are_answered_in_order;
    what_is_not_there_is_none;
}

fn ids(bed: &Bed, filter: ExecutionFilter) -> Vec<ExecutionKey> {
    let filter = ExecutionFilter { limit: 100, ..filter };
    bed.store.execution_list(&scope(), &filter).unwrap().into_iter().map(|row| row.key).collect()
}

fn executions_are_listed_newest_first_in_pages(bed: &Bed) {
    // One batch has one time: the ids decide.
    let batch: Vec<NewExecution> = (0..5).map(|_| start()).collect();
    bed.store.execution_create(&batch).unwrap();
    create(bed.store.as_ref(), start());
    let all = ids(bed, ExecutionFilter::default());
    assert_eq!(all.len(), 6);
    let rows =
        bed.store.execution_list(&scope(), &ExecutionFilter { limit: 6, ..Default::default() }).unwrap();
    let places: Vec<_> = rows.iter().map(|row| (row.created_at, row.key.id)).collect();
    assert!(places.is_sorted_by(|a, b| a > b), "{places:?}");
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let filter = ExecutionFilter { after, limit: 2, ..Default::default() };
        let page = bed.store.execution_list(&scope(), &filter).unwrap();
        let Some(last) = page.last() else { break };
        after = Some((last.created_at, last.key.id));
        seen.extend(page.into_iter().map(|row| row.key));
    }
    assert_eq!(seen, all);
}

fn executions_are_filtered(bed: &Bed) {
    let store = bed.store.as_ref();
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let first = create(store, NewExecution { labels: labels(&[("team", "eu"), ("env", "live")]), ..start() });
    let between = get(bed, &first).created_at;
    let test =
        create(store, NewExecution { labels: labels(&[("team", "eu")]), run_type: RunType::Test, ..start() });
    let ada = create(
        store,
        NewExecution {
            end_user: Some("ada".to_owned()),
            conversation: Conversation::Made("c".to_owned()),
            labels: labels(&[("team", "us")]),
            ..start()
        },
    );
    act(bed, &ada, &ActRequest::Cancel).unwrap();
    let all = ExecutionFilter::default;
    let list = |filter| ids(bed, filter);
    assert_eq!(list(ExecutionFilter { status: Some(Status::Cancelled), ..all() }), [ada.clone()]);
    assert_eq!(
        list(ExecutionFilter { status: Some(Status::Queued), ..all() }),
        [test.clone(), first.clone()]
    );
    assert_eq!(list(ExecutionFilter { run_type: Some(RunType::Test), ..all() }), [test.clone()]);
    assert_eq!(list(ExecutionFilter { end_user: Some("ada".to_owned()), ..all() }), [ada.clone()]);
    assert_eq!(list(ExecutionFilter { conversation_id: Some("c".to_owned()), ..all() }), [ada.clone()]);
    assert_eq!(
        list(ExecutionFilter { labels: labels(&[("team", "eu")]), ..all() }),
        [test.clone(), first.clone()]
    );
    let both = labels(&[("team", "eu"), ("env", "live")]);
    assert_eq!(list(ExecutionFilter { labels: both.clone(), ..all() }), [first.clone()]);
    assert!(list(ExecutionFilter { labels: labels(&[("team", "eu"), ("env", "dev")]), ..all() }).is_empty());
    let test_too = ExecutionFilter { labels: both, run_type: Some(RunType::Test), ..all() };
    assert!(list(test_too).is_empty());
    assert!(!list(ExecutionFilter { created_after: Some(between), ..all() }).contains(&first));
    assert_eq!(list(ExecutionFilter { created_after: Some(between), ..all() }).len(), 2);
    let noop = |name: &str| Some((DefinitionKind::Workflow, name.to_owned()));
    assert_eq!(list(ExecutionFilter { kind_and_name: noop("holdpoint.noop"), ..all() }).len(), 3);
    assert!(list(ExecutionFilter { kind_and_name: noop("other"), ..all() }).is_empty());
    let agent = Some((DefinitionKind::Agent, "holdpoint.noop".to_owned()));
    assert!(list(ExecutionFilter { kind_and_name: agent, ..all() }).is_empty());
}

fn events(bed: &Bed, key: &ExecutionKey, after: i64, limit: usize) -> Vec<i64> {
    let page = bed.store.events_read(&[EventsRequest { key: key.clone(), after, limit }]).unwrap();
    page[0].lines.iter().map(|line| line.event.unwrap()).collect()
}

fn events_are_read_from_where_the_reader_is(bed: &Bed) {
    // `model.called` is a line of ours: the events go on without it.
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a")]);
    assert_eq!(lines(bed, &key).len(), 5);
    assert_eq!(events(bed, &key, 0, 10), [1, 2, 3, 4]);
    assert_eq!(events(bed, &key, 2, 10), [3, 4]);
    assert_eq!(events(bed, &key, 0, 2), [1, 2]);
    assert_eq!(events(bed, &key, 1, 2), [2, 3]);
    assert!(events(bed, &key, 4, 10).is_empty());
    assert!(events(bed, &key, 400, 10).is_empty());
}

fn events_of_many_streams_are_answered_in_order(bed: &Bed) {
    let store = bed.store.as_ref();
    let waits =
        waiting(store, NewExecution { end_user: Some("ada".to_owned()), ..start() }, &[Asked::open("a")]);
    let queued = create(store, start());
    let request = |key: &ExecutionKey, after| EventsRequest { key: key.clone(), after, limit: 10 };
    let requests = [request(&waits, 3), request(&key(), 0), request(&queued, 0), request(&waits, 0)];
    let pages = store.events_read(&requests).unwrap();
    assert_eq!(pages.iter().map(|page| page.lines.len()).collect::<Vec<_>>(), [1, 0, 0, 4]);
    let head = pages[0].head.as_ref().unwrap();
    assert_eq!((head.status, head.last_event, head.end_user.as_deref()), (Status::Suspended, 4, Some("ada")));
    assert!(pages[1].head.is_none());
    assert_eq!(pages[2].head.as_ref().unwrap().status, Status::Queued);
    assert!(store.events_read(&[]).unwrap().is_empty());
}

fn what_is_not_there_is_none(bed: &Bed) {
    let store = bed.store.as_ref();
    let nobody = key();
    assert!(store.execution_get(&scope(), nobody.id).unwrap().is_none());
    assert!(store.journal_read(&scope(), nobody.id).unwrap().is_none());
    assert!(store.inbox_read(std::slice::from_ref(&nobody)).unwrap().iter().all(|one| one.acts.is_empty()));
    assert!(matches!(act(bed, &nobody, &ActRequest::Cancel), Err(ActError::NotFound)));
    assert!(store.approval_get(&scope(), holdpoint_engine::ids::ApprovalId(nobody.id.0)).unwrap().is_none());
}

use serde_json::json;

use super::*;
use crate::workflow::document::{DurationValue, Then, Work};
use crate::workflow::expression::Template;
use crate::workflow::jq::Jq;

/// A document with these tasks, which begin in line 3.
fn with_tasks(tasks: &str) -> String {
    let about = "document: {dsl: 1.0.3, namespace: test, name: flow, version: 0.1.0}";
    format!("{about}\ndo:\n{tasks}")
}

fn read_tasks(tasks: &str) -> Workflow {
    Workflow::read(&with_tasks(tasks), 1, &Jq).unwrap_or_else(|errors| panic!("{tasks}: {errors:?}"))
}

#[test]
fn a_task_has_its_place_its_flow_and_its_work() {
    let workflow = read_tasks(
        "- first:\n    if: .go\n    set: {a: 1, b: '${ .x }'}\n    then: third\n\
         - second:\n    wait: {seconds: 30}\n    then: end\n\
         - third:\n    for: {each: pet, in: .pets}\n    do:\n    - one:\n        set: {it: '${ $pet + $index }'}\n",
    );
    let first = &workflow.tasks[0];
    assert_eq!((first.pointer.as_str(), first.then), ("/do/0/first", Then::To(2)));
    let Work::Set(Template::Object(members)) = &first.work else { panic!("{:?}", first.work) };
    assert_eq!(members[0], ("a".to_owned(), Template::Constant(json!(1))));
    let Work::Wait(DurationValue::Fixed(length)) = &workflow.tasks[1].work else { panic!("no wait") };
    assert_eq!(length.as_secs(), 30);
    let nested: Vec<&str> = workflow.by_pointer.keys().map(String::as_str).collect();
    assert_eq!(nested, ["/do/0/first", "/do/1/second", "/do/2/third", "/do/2/third/do/0/one"]);
    assert_eq!(workflow.definition.pointer("/do/0/first/then"), Some(&json!("third")));
}

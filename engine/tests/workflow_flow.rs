//! The flow of workflows and of their data, by tables.
#![allow(clippy::unwrap_used, missing_docs)]

mod play;

use std::time::Duration;

use holdpoint_engine::effect::Effect;
use holdpoint_engine::status::{EffectClass, ErrorType, Reason};
use play::{Answer, document_twice, nothing, output, sent, twice};
use serde_json::json;

#[test]
fn pure_tasks_fold_into_one_commit() {
    let played = twice(
        "- first: {set: {n: '${ .n + 1 }'}}\n- second: {set: {n: '${ .n * 10 }', by: second}}",
        json!({"n": 4}),
        nothing,
    );
    assert_eq!(played.output(), json!({"n": 50, "by": "second"}));
    assert_eq!(played.order(), ["/do/0/first", "/do/1/second"]);
    assert_eq!(played.commits, 1);
}

#[test]
fn data_is_filtered_exported_and_checked_in_order() {
    let played = document_twice(
        r#"
document: {dsl: 1.0.3, namespace: test, name: played, version: 1.0.0}
input: {from: '{user: .who}'}
output: {as: '{last: ., context: $context}'}
do:
  - one:
      input: {from: .user}
      set: {seen: '${ . }', raw: '${ $task.input }', name: '${ $task.name }', ref: '${ $task.reference }'}
      output: {as: '{one: .seen, raw, name, ref}'}
      export: {as: '{was: $output.one}'}
  - two: {set: {had: '${ $input.one }', was: '${ $context.was }', start: '${ $workflow.input.who }', by: '${ $runtime.name }'}}
"#,
        json!({"who": "Ada"}),
        nothing,
    );
    assert_eq!(
        played.output(),
        json!({
            "last": {"had": "Ada", "was": "Ada", "start": "Ada", "by": "holdpoint"},
            "context": {"was": "Ada"},
        })
    );
    let first = &played.lines()[1];
    assert_eq!(
        first.2["output"],
        json!({"one": "Ada", "raw": {"user": "Ada"}, "name": "one", "ref": "/do/0/one"})
    );
}

#[test]
fn schemas_fault_where_data_does_not_fit() {
    let of = |place: &str| {
        format!(
            "- one: {{set: {{n: text}}, {place}: {{schema: {{document: {{type: object, properties: {{n: {{type: number}}}}}}}}}}}}"
        )
    };
    for (place, input) in [("input", json!({"n": "x"})), ("output", json!({"n": 1}))] {
        let played = twice(&of(place), input, nothing);
        let (reason, error) = played.failure();
        assert_eq!((reason, error.kind), (Reason::Logic, ErrorType::Logic), "{place}");
        let fault = played.fault();
        assert_eq!(fault["type"], "https://serverlessworkflow.io/spec/1.0.0/errors/validation");
        assert_eq!((&fault["status"], &fault["instance"]), (&json!(400), &json!("/do/0/one")));
    }
}

#[test]
fn switches_and_directives_lead_the_flow() {
    let tasks = r#"
- pick: {switch: [{red: {when: .color == "red", then: setRed}}, {green: {when: .color == "green", then: setGreen}}], then: end}
- setRed: {set: {colors: '${ .colors + ["red"] }'}, then: exit}
- setGreen: {set: {colors: '${ .colors + ["green"] }'}, then: setRed}
"#;
    for (color, then, order) in [
        ("red", json!({"colors": ["red"]}), vec!["/do/0/pick", "/do/1/setRed"]),
        ("green", json!({"colors": ["red"]}), vec!["/do/0/pick", "/do/2/setGreen", "/do/1/setRed"]),
        ("blue", json!({"color": "blue"}), vec!["/do/0/pick"]),
    ] {
        let played = twice(tasks, json!({"color": color}), nothing);
        let wanted = if color == "green" { json!({"colors": ["green", "red"]}) } else { then };
        assert_eq!(
            (played.output(), played.order()),
            (wanted, order.iter().map(ToString::to_string).collect())
        );
    }
}

#[test]
fn a_task_whose_condition_does_not_hold_is_passed_over() {
    let played =
        twice("- one: {if: .go, set: {n: 1}}\n- two: {set: {was: '${ . }'}}", json!({"go": false}), nothing);
    assert_eq!(played.output(), json!({"was": {"go": false}}));
    assert_eq!(played.order(), ["/do/1/two"]);
}

#[test]
fn loops_freeze_their_items_and_hand_their_output_on() {
    let tasks = r#"
- loop:
    for: {each: color, in: .colors, at: i}
    while: .stop != true
    do:
      - mark: {set: {colors: '${ .colors + ["more"] }', seen: '${ .seen + [{($color): $i}] }', stop: '${ $color == "green" }'}}
"#;
    let played = twice(tasks, json!({"colors": ["red", "green", "blue"]}), nothing);
    assert_eq!(played.output()["seen"], json!([{"red": 0}, {"green": 1}]));
    let none = twice(tasks, json!({"colors": []}), nothing);
    assert_eq!(none.output(), json!({"colors": []}));
    let wrong = twice(tasks, json!({"colors": 7}), nothing);
    assert_eq!(wrong.fault()["status"], 400);
}

#[test]
fn a_wait_has_an_absolute_end() {
    let played = twice("- rest: {wait: {minutes: 10}}\n- on: {set: {slept: true}}", json!(null), nothing);
    assert_eq!(played.output(), json!({"slept": true}));
    assert_eq!(played.elapsed(), Duration::from_secs(600));
    let suspended: Vec<_> =
        played.lines().into_iter().filter(|line| line.0 == "execution.suspended").collect();
    assert_eq!((suspended.len(), &suspended[0].2["reason"]), (1, &json!("timer")));
}

#[test]
fn a_call_is_an_intent_and_a_result() {
    let tasks = r#"
- get: {call: http, with: {method: get, endpoint: 'http://shop/{id}/a', headers: {X-A: '${ .id }'}, query: {q: 1}}, output: {as: .price}}
- put: {call: http, with: {method: post, endpoint: 'http://shop', body: {price: '${ . }'}}}
"#;
    let played = twice(tasks, json!({"id": "a/b"}), |effect| match effect.step() {
        1 => output(json!({"price": 12})),
        _ => output(json!("kept")),
    });
    assert_eq!(played.output(), json!("kept"));
    assert_eq!(sent(&played.effects[0])["uri"], "http://shop/a%2Fb/a");
    assert_eq!(sent(&played.effects[0])["query"], json!([["q", "1"]]));
    assert_eq!(sent(&played.effects[0])["headers"], json!([["X-A", "a/b"]]));
    assert_eq!(sent(&played.effects[1])["body"], json!({"price": 12}));
    let Effect::Request(put) = &played.effects[1] else { panic!("no request") };
    assert_eq!(put.class, EffectClass::AtMostOnce);
    assert_eq!(put.key, format!("{}-2", played.pinned.id));
    assert!(!played.journal.iter().any(|line| line.kind == "tool.called" && line.payload.contains("X-A")));
}

#[test]
fn a_call_that_fails_is_tried_four_times_and_ends_the_execution() {
    let tasks = "- get: {call: http, with: {method: get, endpoint: 'http://shop'}}";
    let played = twice(tasks, json!({}), |_| Answer::Failed(ErrorType::Network, Some(503)));
    assert_eq!(played.effects.len(), 4);
    assert_eq!((played.failure().0, played.failure().1.kind), (Reason::Network, ErrorType::Network));
    assert_eq!(played.fault()["status"], 503);
    assert_eq!(played.fault()["type"], "https://serverlessworkflow.io/spec/1.0.0/errors/communication");
}

#[test]
fn what_is_raised_names_its_type_and_place() {
    let tasks =
        "- stop: {raise: {error: {type: 'https://x.test/compliance', status: 400, title: Compliance Error}}}";
    let played = twice(tasks, json!({}), nothing);
    assert_eq!(
        played.fault(),
        json!({"type": "https://x.test/compliance", "status": 400, "title": "Compliance Error", "instance": "/do/0/stop"})
    );
    assert_eq!(played.failure().1.message, "Compliance Error");
}

#[test]
fn transitions_have_a_limit() {
    let tasks = "- one: {set: {n: 1}}\n- two: {set: {n: 2}, then: one}";
    let played = twice(tasks, json!({}), nothing);
    assert_eq!(played.failure().0, Reason::Limit);
    assert!(played.failure().1.message.contains("transitions"), "{:?}", played.failure());
}

#[test]
fn the_case_without_a_condition_is_for_when_no_other_holds() {
    let tasks = "- s: {switch: [{other: {then: d}}, {one: {when: .a == 1, then: m}}]}\n- d: {set: {went: d}, then: end}\n- m: {set: {went: m}}";
    for (a, went) in [(1, "m"), (2, "d")] {
        assert_eq!(twice(tasks, json!({"a": a}), nothing).output()["went"], went);
    }
}

#[test]
fn the_context_is_at_first_what_the_workflow_was_given() {
    let document = format!(
        "input: {{from: '${{ {{id: .who}} }}'}}\n{}",
        play::document(
            "- a: {set: {at: '${ $context.id }'}, export: {as: '{n: 2}'}}\n- b: {set: {at: '${ .at }', n: '${ $context }'}}"
        )
    );
    let play = document_twice(&document, json!({"who": 7}), nothing);
    assert_eq!(play.output(), json!({"at": 7, "n": {"n": 2}}));
}

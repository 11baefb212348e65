//! What workflows wait for: people, events, children, workers elsewhere. By tables.
#![allow(clippy::unwrap_used, missing_docs)]

mod play;

use std::time::Duration;

use holdpoint_engine::advance::{Next, check_edited};
use holdpoint_engine::definition::Definition;
use holdpoint_engine::digest::{arguments_digest, child_id};
use holdpoint_engine::effect::{Act, ChildEnded, Effect, Input, TaskReport};
use holdpoint_engine::entry::{ApprovalDecided, ApprovalRequested, Entry, SignalReceived};
use holdpoint_engine::retry_run::carry_over;
use holdpoint_engine::run::{Run, StepState};
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, ErrorType, Failure, Reason, Status};
use play::{Answer, Play, nothing, output};
use serde_json::{Value, json};

const ASK: &str = r#"
- ask:
    try:
      - may:
          call: approval:1.0.0@default
          with:
            title: '${ "Refund \(.amount)?" }'
            subject: {amount: '${ .amount }'}
            options: [now, later]
            editSchema: {type: object, properties: {amount: {type: integer, maximum: 9}}}
            expiresAfter: {hours: 2}
    catch: {errors: {with: {status: 408}}, do: [{c: {set: {late: true}}}]}
"#;

/// Both plays of a workflow: every act is done to either.
fn both(tasks: &str, input: Value, act: impl Fn(&mut Play)) -> Play {
    let mut plays = [false, true].map(|forgets| {
        let mut play = Play::new(tasks, input.clone());
        play.forgets = forgets;
        act(&mut play);
        play
    });
    assert_eq!(plays[0].lines(), plays[1].lines());
    plays.swap(0, 1);
    let [_, straight] = plays;
    straight
}

fn begin(play: &mut Play) -> Next {
    play.feed(vec![Input::Claimed]).next
}

fn asked(play: &Play) -> ApprovalRequested {
    let asked = play.entries.iter().rev().find_map(|entry| match entry {
        Entry::ApprovalRequested(body) => Some(body.clone()),
        _ => None,
    });
    asked.unwrap()
}

fn decide(play: &mut Play, approved: bool, edited: Option<&str>) {
    let asked = asked(play);
    let act = Act::Decided(ApprovalDecided {
        step: asked.step,
        tool_call_id: asked.tool_call_id,
        tool: asked.tool,
        approved,
        reason: Some("so it is".to_owned()),
        arguments_text: edited.map(ToOwned::to_owned),
        digest: asked.digest,
        decided_by: "key".to_owned(),
        decided_at: play.now,
        delegated_by: None,
    });
    play.act(act, &mut nothing);
}

#[test]
fn a_question_is_asked_with_exact_bytes() {
    let play = both(ASK, json!({"amount": 7}), |play| {
        let next = begin(play);
        let until = Some(play.now.plus(Duration::from_secs(7200)));
        assert_eq!(next, Next::Suspend { reason: Reason::Approval, ready_at: until });
    });
    let asked = asked(&play);
    assert_eq!(
        asked.arguments_text,
        r#"{"options":["now","later"],"subject":{"amount":7},"title":"Refund 7?"}"#
    );
    assert_eq!((asked.tool.as_str(), asked.tool_call_id.as_str()), ("may", "may-1"));
    assert_eq!(asked.digest, arguments_digest("may", 1, &asked.arguments_text));
    assert!(asked.expiry_named);
}

#[test]
fn an_approval_gives_on_what_it_was_about_or_what_was_put_in_its_place() {
    for (edited, value, option) in [
        (None, json!({"amount": 7}), None),
        (Some(r#"{"subject": {"amount": 5}, "option": "now"}"#), json!({"amount": 5}), Some("now")),
        (Some(r#"{"option": "later"}"#), json!({"amount": 7}), Some("later")),
    ] {
        let play = both(ASK, json!({"amount": 7}), |play| {
            begin(play);
            decide(play, true, edited);
        });
        let given = play.output();
        assert_eq!((&given["approved"], &given["value"]), (&json!(true), &value));
        assert_eq!(given.get("option").and_then(Value::as_str), option);
        assert_eq!((&given["decidedBy"], &given["reason"]), (&json!("key"), &json!("so it is")));
    }
}

#[test]
fn edited_values_are_held_against_schema_and_options() {
    let mut play = Play::new(ASK, json!({"amount": 7}));
    begin(&mut play);
    let Definition::Workflow(workflow) = play.pinned.definition.as_ref() else { panic!("no workflow") };
    for (edited, fits) in [
        (r#"{"subject": {"amount": 9}}"#, true),
        (r#"{"subject": {"amount": 10}}"#, false),
        (r#"{"option": "now"}"#, true),
        (r#"{"option": "never"}"#, false),
        (r#"{"amount": 9}"#, false),
        (r#"{"subject": {"amount": 9}, "title": "another"}"#, false),
        (r#"[]"#, false),
        (r#"{"a": 1, "a": 2}"#, false),
    ] {
        assert_eq!(check_edited(workflow, &play.run, 1, edited).is_ok(), fits, "{edited}");
    }
}

#[test]
fn a_denial_is_a_normal_output() {
    let play = both(ASK, json!({"amount": 7}), |play| {
        begin(play);
        decide(play, false, None);
    });
    assert_eq!((&play.output()["approved"], &play.output()["reason"]), (&json!(false), &json!("so it is")));
}

#[test]
fn a_question_that_expires_is_a_timeout_that_can_be_caught() {
    let play = both(ASK, json!({"amount": 7}), |play| {
        begin(play);
        play.now = play.now.plus(Duration::from_secs(7200));
        play.go(vec![Input::Claimed], &mut nothing);
    });
    assert_eq!(play.output(), json!({"late": true}));
    assert_eq!(closed(&play), [ApprovalStatus::Expired]);
    let nobody_catches =
        "- ask: {call: 'approval:1.0.0@default', with: {title: Well, expiresAfter: {hours: 1}}}";
    let play = both(nobody_catches, json!({}), |play| {
        begin(play);
        play.now = play.now.plus(Duration::from_secs(7200));
        play.go(vec![Input::Claimed], &mut nothing);
    });
    assert_eq!((play.ended(), closed(&play)), (Some(Status::Failed), vec![ApprovalStatus::Expired]));
}

/// How questions were closed, in order.
fn closed(play: &Play) -> Vec<ApprovalStatus> {
    let of = |entry: &Entry| match entry {
        Entry::ApprovalClosed(body) => Some(body.status),
        _ => None,
    };
    play.entries.iter().filter_map(of).collect()
}

#[test]
fn a_decision_in_time_counts_however_late_it_is_read() {
    let play = both(ASK, json!({"amount": 7}), |play| {
        begin(play);
        play.now = play.now.plus(Duration::from_secs(9000));
        decide(play, true, None);
    });
    assert_eq!(play.output()["approved"], true);
}

#[test]
fn a_question_falls_away_with_its_task() {
    let tasks = format!(
        "- race: {{fork: {{compete: true, branches: [{{w: {{wait: {{seconds: 5}}}}}}, {{a: {{do: [{}]}}}}]}}}}",
        "{q: {call: 'approval:1.0.0@default', with: {title: Well}}}"
    );
    let play = both(&tasks, json!({"n": 1}), |play| play.go(vec![Input::Claimed], &mut nothing));
    assert_eq!(play.output(), json!({"n": 1}));
    let kinds = play.kinds();
    let closed = kinds.iter().position(|kind| *kind == "approval.closed").unwrap();
    assert_eq!(kinds[closed + 1], "task.cancelled");
}

fn event(kind: &str, data: Value) -> Act {
    let event = json!({"specversion": "1.0", "id": "1", "source": "s", "type": kind, "data": data});
    Act::Signal(SignalReceived {
        name: kind.to_owned(),
        id: None,
        event: holdpoint_engine::json(&event),
        by: "key".to_owned(),
    })
}

fn hear(tasks: &str, input: Value, events: &[(&str, Value)]) -> Play {
    both(tasks, input, |play| {
        begin(play);
        for (kind, data) in events {
            if play.ended().is_none() {
                play.act(event(kind, data.clone()), &mut nothing);
            }
        }
    })
}

#[test]
fn listeners_hear_one_any_or_all() {
    let one = "- l: {listen: {to: {one: {with: {type: t, data: '${ .n > 3 }'}}}}}";
    let play = hear(one, json!({}), &[("u", json!(7)), ("t", json!({"n": 3})), ("t", json!({"n": 4}))]);
    assert_eq!(play.output(), json!([{"n": 4}]));
    let any = "- l: {listen: {to: {any: [{with: {type: a}}, {with: {type: b}}]}, read: envelope}}";
    let play = hear(any, json!({}), &[("c", json!(1)), ("b", json!(2))]);
    assert_eq!((play.output()[0]["type"].clone(), play.output()[0]["data"].clone()), (json!("b"), json!(2)));
    let all = "- l: {listen: {to: {all: [{with: {type: a}}, {with: {type: b}}]}}}";
    let play = hear(all, json!({}), &[("b", json!(1)), ("b", json!(2)), ("a", json!(3))]);
    assert_eq!(play.output(), json!([1, 3]));
}

#[test]
fn listening_to_any_goes_on_until_its_end() {
    let holds = "- l: {listen: {to: {any: [], until: '( . | length ) > 2'}}}";
    let play = hear(holds, json!({}), &[("a", json!(1)), ("b", json!(2)), ("c", json!(3)), ("d", json!(4))]);
    assert_eq!(play.output(), json!([1, 2, 3]));
    let consumed = "- l: {listen: {to: {any: [{with: {type: a}}], until: {one: {with: {type: stop}}}}}}";
    let play =
        hear(consumed, json!({}), &[("a", json!(1)), ("a", json!(2)), ("stop", json!(0)), ("a", json!(3))]);
    assert_eq!(play.output(), json!([1, 2]));
}

#[test]
fn a_filter_may_be_a_regular_expression_for_the_whole_value() {
    let listen = |kind: &str| format!("- a: {{listen: {{to: {{one: {{with: {{type: '{kind}'}}}}}}}}}}");
    for (filter, fits, fits_not) in [
        (r"com\.acme\..*", "com.acme.paid", "com.acme"),
        ("(paid|sent)", "sent", "resent"),
        ("com.acme", "com.acme", "com-acme"),
        ("what?(", "what?(", "what"),
    ] {
        let play = hear(&listen(filter), json!({}), &[(fits_not, json!(0)), (fits, json!(1))]);
        assert_eq!(play.output(), json!([1]), "{filter}");
    }
}

#[test]
fn events_are_correlated_and_consumed_once() {
    let tasks = r#"
- l:
    listen:
      to:
        all:
          - {with: {type: a}, correlate: {order: {from: .data.order, expect: '${ .order }'}, who: {from: .data.who}}}
          - {with: {type: b}, correlate: {who: {from: .data.who}}}
"#;
    let play = hear(
        tasks,
        json!({"order": 7}),
        &[
            ("a", json!({"order": 8, "who": "x"})),
            ("a", json!({"order": 7, "who": "x"})),
            ("b", json!({"who": "y"})),
            ("b", json!({"who": "x"})),
        ],
    );
    assert_eq!(play.output(), json!([{"order": 7, "who": "x"}, {"who": "x"}]));

    let twice = "- one: {listen: {to: {one: {with: {type: a}}}}}\n- two: {listen: {to: {one: {with: {type: a}}}}, output: {as: '[$task.input[0], .[0]]'}}";
    // The first comes before anybody listens.
    let play = both(twice, json!({}), |play| {
        play.feed(vec![Input::Claimed, Input::Act(event("a", json!(1)))]);
        assert_eq!(play.ended(), None);
        play.act(event("a", json!(2)), &mut nothing);
    });
    assert_eq!(play.output(), json!([1, 2]));
}

#[test]
fn each_event_is_gone_through_in_turn() {
    let tasks = r#"
- l:
    listen: {to: {any: [{with: {type: a}}], until: '( . | length ) > 1'}}
    foreach:
      item: event
      at: i
      do: [{rest: {wait: {seconds: 9}}}, {made: {set: {at: '${ $i }', n: '${ $event.n * 2 }'}}}]
      output: {as: '[.at, .n]'}
"#;
    let play = hear(tasks, json!({}), &[("a", json!({"n": 1})), ("a", json!({"n": 2}))]);
    assert_eq!(play.output(), json!([[0, 2], [1, 4]]));
    assert_eq!(play.elapsed(), Duration::from_secs(18));
}

#[test]
fn a_listener_waits_for_a_signal() {
    let play = both("- l: {listen: {to: {one: {with: {type: a}}}}}", json!({}), |play| {
        assert_eq!(begin(play), Next::Suspend { reason: Reason::Signal, ready_at: None });
    });
    assert_eq!(play.run.suspended, Some(Reason::Signal));
}

#[test]
fn an_event_is_sent_with_what_it_must_have() {
    let tasks =
        "- e: {emit: {event: {with: {source: 'https://x.test', type: greeted, data: {to: '${ .who }'}}}}}";
    let play = both(tasks, json!({"who": "Ada"}), |play| play.go(vec![Input::Claimed], &mut nothing));
    let sent = play.output();
    assert_eq!(
        (&sent["type"], &sent["source"], &sent["data"]),
        (&json!("greeted"), &json!("https://x.test"), &json!({"to": "Ada"}))
    );
    assert_eq!((&sent["specversion"], &sent["id"]), (&json!("1.0"), &json!(format!("{}-1", play.pinned.id))));
    let emitted = play.entries.iter().find_map(|entry| match entry {
        Entry::EventEmitted(body) => {
            Some((body.step, serde_json::from_str::<Value>(body.event.get()).unwrap()))
        }
        _ => None,
    });
    assert_eq!(emitted, Some((1, sent)));
}

#[test]
fn an_event_is_none_of_holdpoint_s_own() {
    for own in [
        "source: 'https://x.test', type: holdpoint.approval.decided.v1",
        "type: x, source: /holdpoint/acme/shop",
    ] {
        let mut play = Play::new(&format!("- e: {{emit: {{event: {{with: {{{own}}}}}}}}}"), json!({}));
        play.go(vec![Input::Claimed], &mut nothing);
        assert!(play.failure().1.message.contains("Holdpoint's own"), "{own}");
        assert!(!play.kinds().contains(&"event.emitted"), "{own}");
    }
}

const CHILD: &str = "- t:\n    try: [{c: {call: 'agent:1.0.0@default', with: {agent: clerk, input: {q: '${ .q }'}}}}]\n    catch: {do: [{e: {set: {error: '${ $error.status }'}}}]}";

#[test]
fn a_child_resumes_its_parent_once() {
    for (ended, wanted) in [
        (
            ChildEnded { step: 1, output: Some(holdpoint_engine::json(&json!("yes"))), error: None },
            json!("yes"),
        ),
        (
            ChildEnded { step: 1, output: None, error: Some(Failure::new(ErrorType::Internal, "it failed")) },
            json!({"error": 500}),
        ),
    ] {
        let play = both(CHILD, json!({"q": 7}), |play| {
            begin(play);
            let child = child_id(play.pinned.id, 1);
            play.go(vec![Input::Delegated { step: 1, child }], &mut nothing);
            assert_eq!(play.next, Next::Suspend { reason: Reason::Signal, ready_at: None });
            assert_eq!(play.run.steps[&1].state, StepState::Delegated { child });
            play.act(Act::ChildEnded(ended.clone()), &mut nothing);
        });
        assert_eq!(play.output(), wanted);
        let Effect::Child(effect) = &play.effects[0] else { panic!("no child") };
        assert_eq!(
            (effect.kind, effect.name.as_str(), effect.input.as_str()),
            (DefinitionKind::Agent, "clerk", r#"{"q":7}"#)
        );
    }
}

const QUEUE: &str = "- t:\n    try: [{work: {call: 'task:1.0.0@default', with: {queue: paint, input: {n: '${ .n }'}, heartbeat: PT10S}}}]\n    catch: {do: [{e: {set: {error: '${ $error.status }'}}}]}";

#[test]
fn a_task_of_a_queue_ends_with_its_worker_s_report() {
    let report = |output, error| {
        move |play: &mut Play| {
            begin(play);
            play.go(vec![Input::Published { step: 1 }], &mut nothing_but_wait);
            let at = play.now;
            let report = TaskReport { step: 1, attempt: 1, output, error, by: "key".to_owned(), at };
            play.act(Act::TaskReported(report), &mut nothing);
        }
    };
    let done = both(QUEUE, json!({"n": 1}), |play| {
        report(Some(holdpoint_engine::json(&json!("blue"))), None)(play);
    });
    assert_eq!(done.output(), json!("blue"));
    let Effect::Publish(effect) = &done.effects[0] else { panic!("no task") };
    assert_eq!((effect.queue.as_str(), effect.input.as_str(), effect.attempt), ("paint", r#"{"n":1}"#, 1));
    let failed = both(QUEUE, json!({"n": 1}), |play| {
        report(None, Some(Failure::new(ErrorType::Logic, "no paint")))(play)
    });
    assert_eq!(failed.output(), json!({"error": 400}));
}

fn nothing_but_wait(_: &Effect) -> Answer {
    Answer::Never
}

#[test]
fn a_pause_holds_a_workflow_and_a_cancel_ends_it() {
    let tasks = "- g: {call: http, with: {method: get, endpoint: 'http://shop'}}\n- s: {set: {n: 1}}";
    let play = both(tasks, json!({}), |play| {
        begin(play);
        play.feed(vec![Input::Act(Act::Pause { by: "key".to_owned() })]);
        let held = play.feed(vec![Input::Returned { step: 1, output: holdpoint_engine::json(&json!(1)) }]);
        assert_eq!(held.next, Next::Suspend { reason: Reason::Paused, ready_at: None });
        play.act(Act::Resume { by: "key".to_owned() }, &mut nothing);
    });
    assert_eq!(play.output(), json!({"n": 1}));
    let play = both(ASK, json!({"amount": 7}), |play| {
        begin(play);
        play.act(Act::Cancel { by: "key".to_owned() }, &mut nothing);
    });
    assert_eq!(play.ended(), Some(Status::Cancelled));
    assert!(play.kinds().contains(&"approval.closed"));
}

#[test]
fn a_run_read_from_its_journal_refers_to_all_that_it_needs() {
    let mut play = Play::new(
        "- l: {for: {in: '[1,2,3]'}, do: [{g: {call: http, with: {method: get, endpoint: 'http://s'}}}]}",
        json!({}),
    );
    play = play.run(|_| output(json!("x".repeat(100))));
    let run = Run::fold(&play.journal, play.run.seq, play.run.event).unwrap();
    assert_eq!(play.output(), json!("x".repeat(100)));
    // What is over is forgotten.
    assert!(run.flow.outputs.len() < 8 && run.flow.values.len() <= 2, "{:?}", run.flow);
}

#[test]
fn a_run_that_repeats_one_whose_question_was_open_asks_it_anew() {
    let tasks = "- both: {fork: {branches: [
    {ask: {call: 'approval:1.0.0@default', with: {title: Well, expiresAfter: {hours: 1}}}},
    {get: {call: http, with: {method: get, endpoint: 'http://s'}}}]}}";
    let refused = |_: &Effect| Answer::Failed(ErrorType::Auth, Some(401));
    let failed = Play::new(tasks, json!({})).run(refused);
    assert_eq!((failed.ended(), closed(&failed)), (Some(Status::Failed), vec![ApprovalStatus::Cancelled]));
    let mut again = Play::new(tasks, json!({}));
    again.journal = carry_over(&failed.journal).unwrap();
    let events = again.journal.iter().filter(|line| line.event.is_some()).count();
    again.run = Run::fold(&again.journal, again.journal.len() as i64, events as i64).unwrap();
    again.now = failed.now.plus(Duration::from_secs(7200));
    again.feed(vec![Input::Claimed]);
    let asked = again.entries.iter().find_map(|entry| match entry {
        Entry::ApprovalRequested(asked) => Some(asked.expires_at),
        _ => None,
    });
    assert_eq!(asked, Some(again.now.plus(Duration::from_secs(3600))), "it has its whole time");
    assert_eq!((again.ended(), again.effects.len()), (None, 1), "and what failed is made again");
}

//! Calls of workflows whose outcome nobody knows: they are not made again by themselves, and the time
//! of what is around them stands still.
#![allow(clippy::unwrap_used, missing_docs)]

mod play;

use std::time::Duration;

use holdpoint_engine::advance::Next;
use holdpoint_engine::effect::{Act, Effect, TaskReport};
use holdpoint_engine::entry::OutcomeResolved;
use holdpoint_engine::status::{ErrorType, Outcome, Reason, Status};
use play::{Answer, Play, document, output, twice};
use serde_json::{Value, json};

const TIMEOUT: &str = "https://serverlessworkflow.io/spec/1.0.0/errors/timeout";

fn post(path: &str) -> String {
    format!("call: http, with: {{method: post, endpoint: 'http://s/{path}', body: {{n: 1}}}}")
}

/// Tasks that are tried three times.
fn retried(body: &str) -> String {
    format!("- t:\n    try: [{body}]\n    catch: {{retry: {{limit: {{attempt: {{count: 3}}}}}}}}")
}

/// What was sent: path, attempt, key, body.
fn sent(play: &Play) -> Vec<(String, u32, String, Value)> {
    let told = |effect: &Effect| match effect {
        Effect::Request(request) => {
            let path = request.uri.rsplit('/').next().unwrap().to_owned();
            (path, request.attempt, request.key.clone(), request.body.clone().unwrap_or_default())
        }
        other => panic!("{other:?}"),
    };
    play.effects.iter().map(told).collect()
}

fn paths(play: &Play) -> Vec<String> {
    sent(play).into_iter().map(|call| call.0).collect()
}

fn resolve(play: &mut Play, step: i32, outcome: Outcome, answer: impl Fn(&Effect) -> Answer) {
    let result = (outcome == Outcome::Happened).then(|| holdpoint_engine::json(&json!("found")));
    let resolved = OutcomeResolved { step, outcome, result, by: "key".to_owned() };
    play.act(Act::Resolve(resolved), &mut |effect: &Effect| answer(effect));
}

#[test]
fn a_call_that_a_timeout_cut_off_is_not_made_again() {
    let (of_task, of_list) = ("timeout: {after: {seconds: 5}}", "timeout: {after: {seconds: 8}}");
    let attempt = "catch: {retry: {limit: {attempt: {count: 3, duration: {seconds: 5}}}}}";
    let inner =
        format!("{{i: {{try: [{{a: {{{}}}}}], catch: {{errors: {{with: {{status: 404}}}}}}}}}}", post("a"));
    for tasks in [
        retried(&format!("{{a: {{{}, {of_task}}}}}", post("a"))),
        retried(&format!("{{l: {{do: [{{a: {{{}}}}}], {of_list}}}}}", post("a"))),
        retried(&format!("{{l: {{do: [{inner}], {of_list}}}}}")),
        format!("- t:\n    try: [{{a: {{{}}}}}]\n    {attempt}", post("a")),
    ] {
        for outcome in [Outcome::Happened, Outcome::DidNotHappen] {
            let mut play = twice(&tasks, json!({}), |_| Answer::Never);
            assert_eq!(
                (paths(&play), play.run.suspended),
                (vec!["a".to_owned()], Some(Reason::OutcomeUnknown)),
                "{tasks}"
            );
            assert_eq!(
                play.next,
                Next::Suspend { reason: Reason::OutcomeUnknown, ready_at: None },
                "no time runs"
            );
            play.now = play.now.plus(Duration::from_secs(86_400));
            let step = play.effects[0].step();
            resolve(&mut play, step, outcome, |_| {
                Answer::Later(Duration::from_secs(4), Box::new(output(json!("made"))))
            });
            if outcome == Outcome::Happened {
                assert_eq!((play.output(), sent(&play).len()), (json!("found"), 1), "{tasks}");
                continue;
            }
            let [first, second] = &sent(&play)[..] else { panic!("{tasks}") };
            assert_eq!((first.1, second.1), (1, 2));
            assert_eq!((&first.2, &first.3), (&second.2, &second.3), "under its key, with its bytes");
            assert_eq!(play.output(), json!("made"), "it had its time anew");
        }
    }
}

#[test]
fn it_is_unknown_once_more_where_it_is_cut_off_again() {
    let tasks = retried(&format!("{{a: {{{}, timeout: {{after: {{seconds: 5}}}}}}}}", post("a")));
    let mut play = Play::new(&tasks, json!({})).run(|_| Answer::Never);
    for made in 2..=3 {
        resolve(&mut play, 1, Outcome::DidNotHappen, |_| Answer::Never);
        assert_eq!(sent(&play).len(), made);
    }
    assert_eq!(play.output(), json!({}), "its attempts are used up, and the error is caught");
}

#[test]
fn a_call_that_a_failure_beside_it_cut_off_is_not_made_again() {
    let fork = format!("{{f: {{fork: {{branches: [{{a: {{{}}}}}, {{b: {{{}}}}}]}}}}}}", post("a"), post("b"));
    let mut failures = 1;
    let mut play = Play::new(&retried(&fork), json!({})).run(|effect| match effect {
        Effect::Request(request) if request.uri.ends_with("/a") => Answer::Never,
        _ if failures > 0 => {
            failures -= 1;
            Answer::Failed(ErrorType::Network, Some(400))
        }
        _ => output(json!("b")),
    });
    assert_eq!(paths(&play), ["a", "b", "b"], "what has failed for certain is made again");
    let step = play.effects[0].step();
    resolve(&mut play, step, Outcome::Happened, |_| panic!("nothing is sent"));
    assert_eq!(play.output(), json!(["found", "b"]));
}

#[test]
fn what_may_be_repeated_is_repeated() {
    let keyed = format!(
        "{{a: {{{}, metadata: {{holdpoint: {{effect: keyed}}}}, timeout: {{after: {{seconds: 5}}}}}}}}",
        post("a")
    );
    let play = twice(&retried(&keyed), json!({}), |_| Answer::Never);
    let all = sent(&play);
    assert_eq!((all.len(), play.output()), (3, json!({})));
    assert!(all.iter().all(|call| call.2 == all[0].2), "under one key");
}

/// Its author says what is to be done instead: that is not to make it again.
#[test]
fn a_timeout_without_a_retry_is_caught() {
    let tasks = format!(
        "- t:\n    try: [{{a: {{{}, timeout: {{after: {{seconds: 5}}}}}}}}]\n    catch: {{errors: {{with: {{type: {TIMEOUT}}}}}, do: [{{b: {{{}}}}}]}}",
        post("a"),
        post("b")
    );
    let play = twice(&tasks, json!({}), |effect| match effect {
        Effect::Request(request) if request.uri.ends_with("/a") => Answer::Never,
        _ => output(json!("b")),
    });
    assert_eq!((paths(&play), play.output()), (vec!["a".to_owned(), "b".to_owned()], json!("b")));
}

#[test]
fn no_timeout_ends_what_waits_for_an_outcome() {
    let limit = "timeout: {after: {seconds: 5}}";
    let list = document(&format!(
        "- l:\n    {limit}\n    do:\n      - a: {{{}}}\n      - b: {{wait: {{seconds: 3}}}}",
        post("a")
    ));
    for document in [
        document(&format!("- a: {{{}, {limit}}}", post("a"))),
        list,
        format!("{limit}\n{}", document(&format!("- a: {{{}}}", post("a")))),
    ] {
        let mut play = Play::of_document(&document, json!({})).run(|_| Answer::Unknown);
        assert_eq!(play.next, Next::Suspend { reason: Reason::OutcomeUnknown, ready_at: None }, "{document}");
        play.now = play.now.plus(Duration::from_secs(3600));
        resolve(&mut play, 1, Outcome::DidNotHappen, |_| {
            Answer::Later(Duration::from_secs(1), Box::new(output(json!("made"))))
        });
        assert_eq!(play.ended(), Some(Status::Completed), "{document}: {:#?}", play.kinds());
        // Its time is short again as soon as the outcome is known.
        let mut play = Play::of_document(&document, json!({})).run(|_| Answer::Unknown);
        play.now = play.now.plus(Duration::from_secs(3600));
        let resolved = play.now;
        resolve(&mut play, 1, Outcome::DidNotHappen, |_| Answer::Never);
        assert_eq!((play.failure().0, resolved.until(play.now)), (Reason::Timeout, Duration::from_secs(5)));
    }
}

/// A worker elsewhere may still be at it: its report counts.
#[test]
fn a_task_elsewhere_that_was_cut_off_is_not_given_out_again() {
    let task = "{a: {call: 'task:1.0.0@default', with: {queue: jobs, input: {n: 1}}, timeout: {after: {seconds: 5}}}}";
    let mut play = Play::new(&retried(task), json!({})).run(|effect| {
        Answer::Input(Box::new(holdpoint_engine::effect::Input::Published { step: effect.step() }))
    });
    assert_eq!((play.effects.len(), play.run.suspended), (1, Some(Reason::OutcomeUnknown)));
    let report = TaskReport {
        step: 1,
        attempt: 1,
        output: Some(holdpoint_engine::json(&json!("done"))),
        error: None,
        by: "worker".to_owned(),
        at: play.now,
    };
    play.act(Act::TaskReported(report), &mut |effect: &Effect| panic!("{effect:?}"));
    assert_eq!(play.output(), json!("done"));
}

/// What nothing can come to again is not remembered.
#[test]
fn calls_that_were_cut_off_are_forgotten_with_their_try() {
    let tasks = format!(
        "- t:\n    try: [{{a: {{{}, timeout: {{after: {{seconds: 5}}}}}}}}]\n    catch: {{retry: {{limit: {{attempt: {{count: 1}}}}}}}}\n- w: {{wait: {{seconds: 1}}}}",
        post("a")
    );
    let mut play = Play::new(&tasks, json!({}));
    play.go(vec![holdpoint_engine::effect::Input::Claimed], &mut |_| Answer::Never);
    assert_eq!(play.ended(), Some(Status::Completed), "{:#?}", play.kinds());
    let state = play.run.flow.state.unwrap();
    assert!(state.cut_off.is_empty() && state.held.is_empty(), "{state:?}");
}

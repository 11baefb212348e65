//! Errors, attempts, branches and time in workflows, by tables.
#![allow(clippy::unwrap_used, missing_docs)]

mod play;

use std::cell::Cell;
use std::time::Duration;

use holdpoint_engine::advance::Next;
use holdpoint_engine::digest::{child_id, effect_key};
use holdpoint_engine::effect::{Act, ChildEnded, Effect, Input};
use holdpoint_engine::entry::OutcomeResolved;
use holdpoint_engine::status::{ErrorType, Failure, Problem, Reason};
use play::{Answer, Play, document, document_twice, nothing, output, twice};
use serde_json::{Value, json};

const GET: &str = "call: http, with: {method: get, endpoint: 'http://shop'}";

fn attempts(play: &Play) -> Vec<Duration> {
    let called = play.journal.iter().filter(|line| line.kind == "tool.called");
    called.map(|line| play.began.until(line.at)).collect()
}

fn seconds(all: &[u64]) -> Vec<Duration> {
    all.iter().map(|seconds| Duration::from_secs(*seconds)).collect()
}

fn failed(status: u16) -> Answer {
    Answer::Failed(ErrorType::of_http(status).unwrap(), Some(status))
}

#[test]
fn an_error_that_is_meant_is_caught_with_its_place() {
    let tasks = format!(
        r#"
- tryGet:
    try: [{{get: {{{GET}}}}}]
    catch:
      errors: {{with: {{type: https://serverlessworkflow.io/dsl/errors/types/communication, status: 404}}}}
      as: err
      do: [{{told: {{set: {{error: '${{ $err }}', input: '${{ .id }}'}}}}}}]
"#
    );
    let played = twice(&tasks, json!({"id": 1}), |_| failed(404));
    let caught = played.output();
    assert_eq!(caught["error"]["instance"], "/do/0/tryGet/try/0/get");
    assert_eq!((&caught["error"]["status"], &caught["input"]), (&json!(404), &json!(1)));
    assert_eq!(played.order(), ["/do/0/tryGet/catch/do/0/told", "/do/0/tryGet"]);
    let played = twice(&tasks, json!({"id": 1}), |_| failed(403));
    assert_eq!(played.failure().0, Reason::Permission);
}

#[test]
fn conditions_say_what_is_caught() {
    let of = |how: &str| {
        format!(
            "- t:\n    try: [{{r: {{raise: {{error: {{type: 'https://x.test/e', status: 409, title: T}}}}}}}}]\n    catch: {{{how}, do: [{{c: {{set: {{caught: true}}}}}}]}}"
        )
    };
    for (how, caught) in [
        ("when: $error.status == 409", true),
        ("when: $error.status == 410", false),
        ("exceptWhen: $error.status == 409", false),
        ("errors: {with: {status: 409, title: T}}", true),
        ("errors: {with: {title: U}}", false),
        ("errors: {with: {type: 'https://x.test/e'}}", true),
    ] {
        let played = twice(&of(how), json!({}), nothing);
        if caught {
            assert_eq!(played.output(), json!({"caught": true}), "{how}");
        } else {
            assert_eq!(
                (played.failure().0, played.fault()["status"].clone()),
                (Reason::Logic, json!(409)),
                "{how}"
            );
        }
    }
}

#[test]
fn attempts_come_at_their_times_and_end_at_their_limits() {
    let of = |retry: &str| format!("- t:\n    try: [{{get: {{{GET}}}}}]\n    catch: {{retry: {{{retry}}}}}");
    for (retry, times) in [
        ("delay: {seconds: 3}, limit: {attempt: {count: 4}}", vec![0, 3, 6, 9]),
        ("delay: {seconds: 3}, backoff: {linear: {}}, limit: {attempt: {count: 4}}", vec![0, 3, 9, 18]),
        ("delay: {seconds: 3}, backoff: {exponential: {}}, limit: {attempt: {count: 4}}", vec![0, 3, 9, 21]),
        ("delay: {seconds: 3}, limit: {duration: {seconds: 7}}", vec![0, 3, 6]),
        ("delay: {seconds: 3}, when: $error.status == 404, limit: {attempt: {count: 4}}", vec![0]),
    ] {
        let played = twice(&of(retry), json!({"n": 1}), |_| failed(503));
        assert_eq!(attempts(&played), seconds(&times), "{retry}");
        // Caught when no attempt is left, as `catch` without `do` says: the input goes on.
        assert_eq!(played.output(), json!({"n": 1}), "{retry}");
    }
}

#[test]
fn jitter_lies_between_its_bounds() {
    let tasks = format!(
        "- t:\n    try: [{{get: {{{GET}}}}}]\n    catch: {{retry: {{delay: {{seconds: 10}}, jitter: {{from: {{seconds: 1}}, to: {{seconds: 5}}}}, limit: {{attempt: {{count: 9}}}}}}}}"
    );
    let played = twice(&tasks, json!({}), |_| failed(503));
    let times = attempts(&played);
    assert_eq!(times.len(), 9);
    for pair in times.windows(2) {
        let delay = pair[1] - pair[0];
        assert!((Duration::from_secs(11)..=Duration::from_secs(15)).contains(&delay), "{delay:?}");
    }
}

#[test]
fn a_later_attempt_may_succeed() {
    let tasks = format!(
        "- t:\n    try: [{{get: {{{GET}}}}}]\n    catch: {{retry: {{delay: {{seconds: 1}}, limit: {{attempt: {{count: 5}}}}}}}}"
    );
    let played =
        twice(
            &tasks,
            json!({}),
            |effect| if effect.step() < 4 { failed(503) } else { output(json!("at last")) },
        );
    assert_eq!(played.output(), json!("at last"));
}

#[test]
fn an_attempt_that_takes_too_long_is_another_attempt() {
    let tasks = format!(
        "- t:\n    try: [{{get: {{{GET}}}}}]\n    catch: {{retry: {{delay: {{seconds: 1}}, limit: {{attempt: {{count: 2, duration: {{seconds: 5}}}}}}}}, do: [{{c: {{set: {{e: '${{ $error.status }}'}}}}}}]}}"
    );
    let played = twice(&tasks, json!({}), |_| Answer::Never);
    assert_eq!(attempts(&played), seconds(&[0, 6]));
    assert_eq!(played.output(), json!({"e": 408}));
    assert_eq!(played.kinds().iter().filter(|kind| **kind == "task.cancelled").count(), 2);
}

#[test]
fn branches_go_on_independently_and_join_once() {
    let tasks = format!(
        r#"
- both:
    fork:
      branches:
        - slow: {{do: [{{one: {{{GET}}}}}, {{two: {{set: {{slow: '${{ . }}'}}}}}}]}}
        - pure: {{set: {{pure: '${{ .n }}'}}}}
        - quick: {{{GET}}}
- after: {{set: {{all: '${{ . }}'}}}}
"#
    );
    let played = twice(&tasks, json!({"n": 1}), |effect| match effect.step() {
        // Inner tasks begin after the branches have.
        3 => Answer::Later(Duration::from_secs(5), Box::new(output(json!("slow")))),
        _ => output(json!("quick")),
    });
    assert_eq!(played.output(), json!({"all": [{"slow": "slow"}, {"pure": 1}, "quick"]}));
    assert_eq!(
        played.order(),
        [
            "/do/0/both/fork/branches/1/pure",
            "/do/0/both/fork/branches/2/quick",
            "/do/0/both/fork/branches/0/slow/do/0/one",
            "/do/0/both/fork/branches/0/slow/do/1/two",
            "/do/0/both/fork/branches/0/slow",
            "/do/0/both",
            "/do/1/after",
        ]
    );
}

#[test]
fn the_first_branch_wins_and_late_results_change_nothing() {
    let tasks = format!(
        "- race:\n    fork: {{compete: true, branches: [{{a: {{{GET}}}}}, {{b: {{{GET}}}}}, {{c: {{wait: {{hours: 1}}}}}}]}}\n- rest: {{wait: {{seconds: 60}}}}"
    );
    let played = twice(&tasks, json!({}), |effect| {
        let (after, told) = if effect.step() == 1 { (9, "late") } else { (2, "first") };
        Answer::Later(Duration::from_secs(after), Box::new(output(json!(told))))
    });
    assert_eq!(played.output(), json!("first"));
    assert_eq!(played.elapsed(), Duration::from_secs(62));
    let cancelled: Vec<_> = played.lines().into_iter().filter(|line| line.0 == "task.cancelled").collect();
    // The call, and the branch that only waited.
    assert_eq!(cancelled.len(), 2);
    assert!(cancelled.iter().any(|line| line.1 == 1));
    assert!(!played.journal.iter().any(|line| line.kind == "tool.completed" && line.step == 1));
}

#[test]
fn a_branch_that_fails_ends_the_others() {
    let tasks = format!(
        "- t:\n    try:\n      - both: {{fork: {{branches: [{{a: {{{GET}}}}}, {{b: {{{GET}}}}}]}}}}\n    catch: {{do: [{{c: {{set: {{at: '${{ $error.instance }}'}}}}}}]}}"
    );
    let played =
        twice(&tasks, json!({}), |effect| if effect.step() == 2 { failed(404) } else { Answer::Never });
    assert_eq!(played.output(), json!({"at": "/do/0/t/try/0/both/fork/branches/1/b"}));
    assert_eq!(played.kinds().iter().filter(|kind| **kind == "task.cancelled").count(), 1);
}

#[test]
fn timeouts_are_caught_or_end_the_execution() {
    let tasks = format!(
        "- t:\n    try: [{{get: {{{GET}, timeout: {{after: {{seconds: 7}}}}}}}}]\n    catch: {{errors: {{with: {{type: https://serverlessworkflow.io/spec/1.0.0/errors/timeout}}}}, do: [{{c: {{set: {{late: '${{ $error.status }}'}}}}}}]}}"
    );
    let played = twice(&tasks, json!({}), |_| Answer::Never);
    assert_eq!((played.output(), played.elapsed()), (json!({"late": 408}), Duration::from_secs(7)));

    let tasks = "- outer: {do: [{inner: {wait: {hours: 1}}}], timeout: {after: {minutes: 1}}}";
    let played = twice(tasks, json!({}), nothing);
    assert_eq!((played.failure().0, played.elapsed()), (Reason::Timeout, Duration::from_secs(60)));
    assert_eq!(played.fault()["instance"], "/do/0/outer");

    let whole = "document: {dsl: 1.0.3, namespace: test, name: played, version: 1.0.0}\ntimeout: {after: PT30S}\ndo: [{t: {try: [{w: {wait: PT1H}}], catch: {do: [{c: {set: {n: 1}}}]}}}]";
    let played = document_twice(whole, json!({}), nothing);
    assert_eq!((played.failure().0, played.elapsed()), (Reason::Timeout, Duration::from_secs(30)));
}

#[test]
fn an_expression_that_fails_can_be_caught() {
    let tasks = "- t:\n    try: [{s: {set: {n: '${ error(\"no\") }'}}}]\n    catch: {do: [{c: {set: {t: '${ $error.type }'}}}]}";
    let played = twice(tasks, json!({}), nothing);
    assert_eq!(played.output(), json!({"t": "https://serverlessworkflow.io/spec/1.0.0/errors/expression"}));
}

#[test]
fn an_error_in_a_catch_is_the_task_s_own() {
    let tasks = "- outer:\n    try:\n      - t:\n          try: [{r: {raise: {error: {type: 'https://x.test/a', status: 400, title: A}}}}]\n          catch: {do: [{again: {raise: {error: {type: 'https://x.test/b', status: 400, title: B}}}}]}\n    catch: {do: [{c: {set: {was: '${ $error.title }'}}}]}";
    assert_eq!(twice(tasks, json!({}), nothing).output(), json!({"was": "B"}));
}

#[test]
fn an_unknown_outcome_waits_for_somebody() {
    let tasks = "- put: {call: http, with: {method: post, endpoint: 'http://shop', body: {}}}";
    let sent = Cell::new(0);
    let mut play = Play::new(tasks, json!({})).run(|_| {
        sent.set(sent.get() + 1);
        Answer::Unknown
    });
    assert_eq!(sent.get(), 1);
    assert_eq!(play.run.suspended, Some(Reason::OutcomeUnknown));
    let resolved =
        |outcome| Act::Resolve(OutcomeResolved { step: 1, outcome, result: None, by: "key".to_owned() });
    let mut again = |_: &Effect| output(json!("done"));
    play.act(resolved(holdpoint_engine::status::Outcome::DidNotHappen), &mut again);
    assert_eq!(play.output(), json!("done"));
    let called: Vec<Value> = play
        .lines()
        .into_iter()
        .filter(|line| line.0 == "tool.called")
        .map(|line| line.2["attempt"].clone())
        .collect();
    assert_eq!(called, [json!(1), json!(2)]);
}

#[test]
fn how_long_a_server_asked_to_wait_is_told() {
    let tasks = "- get: {call: http, with: {method: get, endpoint: 'http://shop'}}";
    for (asked, told) in [(3_600, 3_600), (u64::MAX, 86_400)] {
        let play = twice(tasks, json!({}), |effect| {
            let failure = Failure::new(ErrorType::RateLimit, "429").with_status(429);
            let retry_after = Some(Duration::from_secs(asked));
            let certainty = holdpoint_engine::effect::Certainty::Definite;
            Answer::Input(Box::new(Input::Failed { step: effect.step(), failure, retry_after, certainty }))
        });
        let (reason, error) = play.failure();
        assert_eq!((play.effects.len(), reason), (1, Reason::RateLimit), "no attempt waits so long");
        assert_eq!(error.retry_after.map(|asked| asked.0), Some(Duration::from_secs(told)));
    }
}

/// The keys of the calls, in order.
fn keys(play: &Play) -> Vec<String> {
    let key = |effect: &Effect| match effect {
        Effect::Request(request) => request.key.clone(),
        other => panic!("{other:?}"),
    };
    play.effects.iter().map(key).collect()
}

#[test]
fn a_call_that_the_author_has_tried_again_keeps_its_key() {
    let post = |path: &str, body: &str| {
        format!(
            "{{call: http, with: {{method: post, endpoint: 'http://s/{path}', body: {{{body}}}}}, metadata: {{holdpoint: {{effect: keyed}}}}}}"
        )
    };
    let retry =
        "catch: {errors: {with: {status: 503}}, retry: {delay: {seconds: 1}, limit: {attempt: {count: 3}}}}";
    let (a, b) = (post("a", "n: '${ $item }'"), post("b", "n: 1"));
    let tasks = format!(
        "- t:\n    try:\n      - l: {{for: {{in: '[1, 2]'}}, do: [{{a: {a}}}]}}\n      - b: {b}\n    {retry}\n- after: {b}\n"
    );
    let play = twice(&tasks, json!({}), |effect| {
        let Effect::Request(request) = effect else { panic!("{effect:?}") };
        let first = request.uri.ends_with("/b") && request.step <= 5;
        if first { failed(503) } else { output(json!({})) }
    });
    let keys = keys(&play);
    let [a1, a2, b, a1_again, a2_again, b_again, after] = &keys[..] else { panic!("{keys:?}") };
    assert_eq!((a1, a2, b), (a1_again, a2_again, b_again), "the same calls have the same keys");
    let different: std::collections::BTreeSet<_> = [a1, a2, b, after].into();
    assert_eq!(different.len(), 4, "other calls have others: {keys:?}");
    let step = play.effects.last().unwrap().step();
    assert_eq!(*after, effect_key(play.pinned.id, step), "outside it is the step's");
}

/// While a list of tasks goes on without waiting, its time passes: nothing is begun in it then,
/// and what came in time counts.
#[test]
fn a_task_whose_time_is_over_begins_nothing() {
    let tasks = "- l:\n    timeout: {after: {seconds: 5}}\n    for: {in: '[range(10)]'}\n    do:\n      - a: {call: http, with: {method: get, endpoint: 'http://s'}}\n      - b: {set: {n: 1}}";
    let mut play = Play::new(tasks, json!({}));
    let mut decided = play.feed(vec![Input::Claimed]);
    // Its worker was away when the answer came.
    for _ in 0..2 {
        play.now = play.now.plus(Duration::from_secs(3));
        let step = play.effects.last().unwrap().step();
        decided = play.feed(vec![Input::Returned { step, output: holdpoint_engine::json(&json!(1)) }]);
    }
    assert_eq!(decided.next, Next::End);
    assert_eq!(play.failure().0, Reason::Timeout);
    assert_eq!(play.effects.len(), 2, "no third call is begun");
    let done = play.kinds().into_iter().filter(|kind| *kind == "tool.completed").count();
    assert_eq!(done, 2, "what was answered is kept");
}

#[test]
fn what_a_value_names_in_a_path_stays_in_its_place() {
    let sent = |uri: &str, input: Value| {
        let task = format!("- a: {{call: http, with: {{method: delete, endpoint: '{uri}'}}}}");
        let play = document_twice(&document(&task), input, |_| output(json!({})));
        let uris = play.effects.iter().map(|effect| match effect {
            Effect::Request(request) => request.uri.clone(),
            other => panic!("{other:?}"),
        });
        (uris.collect::<Vec<_>>(), play)
    };
    let (uris, _) = sent("http://shop/u/{id}/..a/./b?q={q}&p={p}", json!({"id": "a/..", "p": null}));
    assert_eq!(uris, ["http://shop/u/a%2F../..a/./b?q=&p="]);
    for (uri, input, told) in [
        ("http://shop/u/{id}/a", json!({"id": ".."}), "lead elsewhere"),
        ("http://shop/u/{id}", json!({"id": "."}), "lead elsewhere"),
        ("http://shop/u/.{id}", json!({"id": "."}), "lead elsewhere"),
        ("http://shop/u/{id}", json!({"ID": "7"}), "`{id}` of a URI is not in the task's input"),
        ("http://shop/u/{id}", json!({"id": null}), "is null"),
        ("http://shop/u/{id}", json!({"id": ""}), "is empty"),
        ("http://shop/u/{id}", json!({"id": [1]}), "is an array"),
    ] {
        let (uris, play) = sent(uri, input.clone());
        assert!(uris.is_empty(), "{uri} {input}");
        assert!(play.failure().1.message.contains(told), "{uri} {input}: {}", play.failure().1.message);
    }
}

#[test]
fn what_came_back_too_long_fails_as_a_limit() {
    let long = "x".repeat(300_000);
    let play = document_twice(&document(&format!("- a: {{{GET}}}")), json!({}), |_| output(json!(long)));
    let (reason, failure) = play.failure();
    assert_eq!((reason, failure.kind), (Reason::Limit, ErrorType::Logic));
    assert!(failure.message.contains("value_bytes"), "{failure}");
}

#[test]
fn the_failure_says_which_secrets_balance_is_used_up() {
    let call = |secret: &str| {
        let token = format!("{{bearer: {{token: '${{ $secrets.{secret} }}'}}}}");
        format!(
            "call: http, with: {{method: get, endpoint: {{uri: 'http://shop', authentication: {token}}}}}"
        )
    };
    let secrets = |tasks: &str, status| {
        let document = document(tasks).replace("do:\n", "use: {secrets: [bank, post]}\ndo:\n");
        document_twice(&document, json!({}), |_| failed(status)).failure().1.secrets
    };
    assert_eq!(secrets(&format!("- a: {{{}}}", call("post")), 402), ["post"]);
    assert!(secrets(&format!("- a: {{{}}}", call("post")), 403).is_empty(), "it has balance");
    let raised = "raise: {error: {type: https://x.test/empty, status: 402}}";
    let anew =
        format!("- t:\n    try: [{{a: {{{}}}}}]\n    catch: {{do: [{{r: {{{raised}}}}}]}}", call("bank"));
    assert!(secrets(&anew, 402).is_empty(), "whose it is, is not known");
}

#[test]
fn what_a_child_raised_is_caught_by_its_type_and_status() {
    let problem = Problem {
        kind: "https://x.test/e".to_owned(),
        status: 477,
        title: Some("T".to_owned()),
        detail: Some("so".to_owned()),
    };
    let (problem, secrets) = (Some(Box::new(problem)), vec!["till".to_owned()]);
    let error = Failure { problem, secrets, ..Failure::new(ErrorType::Logic, "T: so") };
    let child = "run: {workflow: {namespace: test, name: kid, version: latest}}";
    let caught = format!(
        "- t:\n    try: [{{k: {{{child}}}}}]\n    catch: {{errors: {{with: {{type: https://x.test/e, status: 477}}}}, as: e, do: [{{c: {{set: {{e: '${{ $e }}'}}}}}}]}}"
    );
    let ends = |tasks: &str| {
        let mut play = Play::new(tasks, json!({}));
        play.feed(vec![Input::Claimed]);
        let id = child_id(play.pinned.id, 1);
        play.go(vec![Input::Delegated { step: 1, child: id }], &mut nothing);
        let ended = ChildEnded { step: 1, output: None, error: Some(error.clone()) };
        play.act(Act::ChildEnded(ended), &mut nothing);
        play
    };
    let e = ends(&caught).output()["e"].clone();
    assert_eq!((&e["title"], &e["detail"]), (&json!("T"), &json!("so")));
    assert_eq!(e["instance"], "/do/0/t/try/0/k");
    // Through any number of parents it stays what it was.
    let (reason, failure) = ends(&format!("- k: {{{child}}}")).failure();
    assert_eq!((reason, failure), (Reason::Logic, error.clone()));
}

//! Runs of workflows that repeat others: they go on from where those stood, ask again what nobody
//! had decided, have the time anew that those had used up, and end as if nothing had been.
#![allow(clippy::unwrap_used, missing_docs)]

mod play;
mod random;

use std::time::Duration;

use holdpoint_engine::advance::Next;
use holdpoint_engine::effect::{Act, Effect, Input};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{ApprovalDecided, ApprovalRequested, Entry};
use holdpoint_engine::retry_run::carry_over;
use holdpoint_engine::run::Run;
use holdpoint_engine::status::{ErrorType, Reason, Status};
use play::{Answer, Play, nothing, output};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3600);

/// The run that repeats one that is over, an hour later; it has not begun.
fn repeat(of: Play, input: serde_json::Value, document: &str) -> Play {
    let journal = carry_over(&of.journal).unwrap();
    let mut play = Play::of_document(document, input);
    play.now = of.now.plus(HOUR);
    play.began = play.now;
    let event = journal.iter().filter_map(|line| line.event).max().unwrap_or_default();
    play.run = Run::fold(&journal, journal.len() as i64, event).unwrap();
    play.journal = journal;
    play.forgets = true;
    play
}

fn repeated(of: Play, tasks: &str, answer: impl FnMut(&Effect) -> Answer) -> Play {
    repeat(of, json!({}), &play::document(tasks)).run(answer)
}

fn cancel(play: &mut Play) {
    play.act(Act::Cancel { by: "key".to_owned() }, &mut nothing);
    assert_eq!(play.ended(), Some(Status::Cancelled));
}

fn asked(play: &Play) -> Vec<&ApprovalRequested> {
    let asked = play.entries.iter().filter_map(|entry| match entry {
        Entry::ApprovalRequested(body) => Some(body),
        _ => None,
    });
    asked.collect()
}

fn approve(play: &mut Play) {
    let asked = asked(play).last().copied().unwrap().clone();
    let act = Act::Decided(ApprovalDecided {
        step: asked.step,
        tool_call_id: asked.tool_call_id,
        tool: asked.tool,
        approved: true,
        reason: None,
        arguments_text: None,
        digest: asked.digest,
        decided_by: "key".to_owned(),
        decided_at: play.now,
        delegated_by: None,
    });
    play.act(act, &mut nothing);
}

/// Until somebody is asked, or it is over.
fn until_asked(play: &mut Play, answer: &mut dyn FnMut(&Effect) -> Answer) {
    let mut inputs = vec![Input::Claimed];
    loop {
        let decided = play.feed(inputs);
        if matches!(decided.next, Next::Suspend { reason: Reason::Approval, .. }) {
            return;
        }
        match play.after(decided, answer) {
            Some(next) => inputs = next,
            None => return,
        }
    }
}

const ASK: &str = r#"
- before: {call: http, with: {method: post, endpoint: 'http://s/before'}}
- may: {call: approval:1.0.0@default, with: {title: may it, expiresAfter: {minutes: 5}}}
- after: {set: {approved: '${ .approved }'}}
"#;

#[test]
fn a_question_that_nobody_answered_is_asked_again() {
    let cancelled = |play: &mut Play| cancel(play);
    let expired = |play: &mut Play| {
        play.now = play.now.plus(Duration::from_secs(301));
        play.go(vec![Input::Claimed], &mut nothing);
        assert_eq!(play.failure().0, Reason::ApprovalTimeout);
        assert_eq!(play.failure().1.kind, ErrorType::Timeout);
    };
    let ends: [&dyn Fn(&mut Play); 2] = [&cancelled, &expired];
    for end in ends {
        let mut play = Play::new(ASK, json!({}));
        until_asked(&mut play, &mut |_| output(json!({})));
        end(&mut play);
        assert_eq!(play.kinds().into_iter().filter(|kind| *kind == "approval.closed").count(), 1);
        let old = asked(&play)[0].clone();
        let mut again = repeat(play, json!({}), &play::document(ASK));
        let until = again.now.plus(Duration::from_secs(300));
        let next = again.feed(vec![Input::Claimed]).next;
        assert_eq!(next, Next::Suspend { reason: Reason::Approval, ready_at: Some(until) });
        assert_eq!(again.effects.len(), 0, "what was done is done");
        let asked = asked(&again)[0].clone();
        assert_ne!(asked.approval_id, old.approval_id);
        assert_eq!(asked.expires_at, until);
        approve(&mut again);
        assert_eq!(again.output(), json!({"approved": true}));
    }
}

#[test]
fn a_branch_that_asks_asks_again_where_another_failed() {
    let tasks = r#"
- both:
    fork:
      branches:
        - may: {call: approval:1.0.0@default, with: {title: may it}}
        - call: {call: http, with: {method: post, endpoint: 'http://s'}}
"#;
    let mut play = Play::new(tasks, json!({}));
    until_asked(&mut play, &mut |_| Answer::Failed(ErrorType::Auth, Some(401)));
    assert_eq!(play.failure().0, Reason::Auth);
    let closed = play.kinds().into_iter().filter(|kind| *kind == "approval.closed").count();
    assert_eq!(closed, 1, "it is told once");
    let mut again = repeat(play, json!({}), &play::document(tasks));
    until_asked(&mut again, &mut |_| output(json!(1)));
    assert_eq!(asked(&again).len(), 1);
    approve(&mut again);
    assert_eq!(again.output()[1], json!(1));
}

/// Each takes longer than it may in the first run, and is in time in the second.
#[test]
fn what_took_too_long_has_its_time_again() {
    let call = "call: http\n    with: {method: get, endpoint: 'http://s'}";
    let task = format!("- a:\n    {call}\n    timeout: {{after: {{seconds: 5}}}}");
    let list = "- b:\n    timeout: {after: {seconds: 5}}\n    do:\n      - a: {call: http, with: {method: get, endpoint: 'http://s'}}".to_owned();
    let attempt = "- b:\n    try:\n      - a: {call: http, with: {method: get, endpoint: 'http://s'}}\n    catch:\n      errors: {with: {status: 418}}\n      retry: {limit: {attempt: {count: 1, duration: {seconds: 5}}}}".to_owned();
    let listen =
        "- a:\n    listen: {to: {one: {with: {type: never}}}}\n    timeout: {after: {seconds: 5}}".to_owned();
    for tasks in [task, list, attempt] {
        let late = |_: &Effect| Answer::Later(Duration::from_secs(7), Box::new(output(json!("late"))));
        let play = Play::new(&tasks, json!({})).run(late);
        assert_eq!(play.failure().0, Reason::Timeout, "{tasks}");
        let again = repeated(play, &tasks, |_| {
            Answer::Later(Duration::from_secs(4), Box::new(output(json!("in time"))))
        });
        assert_eq!(again.output(), "in time", "{tasks}");
    }
    let play = Play::new(&listen, json!({})).run(nothing);
    assert_eq!(play.failure().0, Reason::Timeout);
    let again = repeated(play, &listen, nothing);
    assert_eq!((again.failure().0, again.elapsed()), (Reason::Timeout, Duration::from_secs(5)));
}

#[test]
fn a_workflow_that_took_too_long_has_its_time_again() {
    let tasks = "- a: {call: http, with: {method: get, endpoint: 'http://s'}}\n- w: {wait: {seconds: 8}}";
    let document = format!("timeout: {{after: {{seconds: 10}}}}\n{}", play::document(tasks));
    let slow = |_: &Effect| Answer::Later(Duration::from_secs(9), Box::new(output(json!(1))));
    let play = Play::of_document(&document, json!({})).run(slow);
    assert_eq!((play.failure().0, play.elapsed()), (Reason::Timeout, Duration::from_secs(10)));
    let again = repeat(play, json!({}), &document).run(nothing);
    assert_eq!(again.output(), json!(1));
    // The wait is that of the first run: its moment has passed.
    assert_eq!(again.elapsed(), Duration::ZERO);
}

/// Cancelled at some decision, with all that it had begun.
fn cancelled(document: &str, seed: u64) -> Option<Play> {
    let mut play = Play::of_document(document, json!({"n": seed}));
    let mut left = Entropy::from_seed(seed).next_u64() % 6;
    let mut inputs = vec![Input::Claimed];
    loop {
        let decided = play.feed(inputs);
        if decided.next == Next::End {
            return None;
        }
        if left == 0 {
            play.lose();
            cancel(&mut play);
            return Some(play);
        }
        left -= 1;
        inputs = play.after(decided, &mut |effect| random::answer(seed, effect, false))?;
    }
}

#[test]
fn a_run_that_is_cancelled_anywhere_and_repeated_ends_as_one_that_is_not() {
    let mut repeats = 0;
    for seed in 0..200 {
        let document = random::document(seed, false);
        let answer = |effect: &Effect| random::answer(seed, effect, false);
        let straight = Play::of_document(&document, json!({"n": seed})).run(answer);
        let Some(cancelled) = cancelled(&document, seed) else { continue };
        let again = repeat(cancelled, json!({"n": seed}), &document).run(answer);
        assert_eq!(random::end(&straight), random::end(&again), "seed {seed}: {document}");
        repeats += 1;
    }
    assert!(repeats > 45, "only {repeats} were cancelled before their end");
}

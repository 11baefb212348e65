//! Where the part of an execution's output begins that a client waits for who sends again.
//!
//! A segment ends where the execution waits for somebody. Who sends again has read up to
//! there, acted, and wants what came of it: everything after the last such suspension that is
//! over. While the last suspension still holds, that is the segment which led to it.

use std::collections::BTreeMap;

use holdpoint_engine::entry::{Entry, ExecutionSuspended, Line};
use holdpoint_engine::status::Reason;
use holdpoint_engine::wire::ExecutionKey;

use super::read_entry;
use crate::app::App;
use crate::problem::{Answer, Problem};

/// Whether it goes on by itself, and its output with it: after a time, or when an execution
/// that it delegated to is over. After the other suspensions a client has to act before.
pub fn goes_on_by_itself(reason: Reason) -> bool {
    matches!(reason, Reason::Retry | Reason::Timer | Reason::Signal)
}

/// Whether a client has to act before it goes on.
pub fn ends_segment(suspended: &ExecutionSuspended) -> bool {
    !goes_on_by_itself(suspended.reason)
}

/// Where a client goes on reading an execution's events.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// The last event before the segment; 0 if it is the first.
    pub after: i64,
    /// The last suspension that is over, if it waited for somebody: up to there, no
    /// suspension ends what a client reads.
    pub passed: i64,
    /// Model steps whose attempts broke off, with the event that says so last: the step's
    /// deltas before it are void and are not told to who comes later.
    pub voided: BTreeMap<i32, i64>,
}

impl Segment {
    /// Everything from the execution's beginning on, for a client that knows nothing yet.
    pub fn whole(self) -> Self {
        Self { after: 0, ..self }
    }
}

/// The segment that a client waits for who sends again, or who has just decided these calls:
/// a suspension that asks for one of them is over, whether or not its journal says so yet (a
/// decision on a delegated call is the child's, and its parent is told of it).
pub async fn segment_of(app: &App, key: &ExecutionKey, decided: &[String]) -> Answer<Segment> {
    let (scope, id) = (key.scope.clone(), key.id);
    let lines = app.read(move |store| store.journal_read(&scope, id)).await?;
    let lines = lines.ok_or_else(|| Problem::not_found("execution", &key.id.to_string()))?;
    let restarts = lines.iter().filter(|line| line.kind == "model.restarted");
    let voided = restarts.filter_map(|line| Some((line.step, line.event?))).collect();
    let passed = begin_in(&lines, decided);
    Ok(Segment { after: passed, passed, voided })
}

fn begin_in(lines: &[Line], decided: &[String]) -> i64 {
    let events = lines.iter().filter_map(|line| Some((line.event?, line)));
    let last = events.clone().map(|(number, _)| number).max().unwrap_or(0);
    let over = events.filter(|(number, line)| {
        let asks_decided =
            |body: &ExecutionSuspended| body.tool_call_ids.iter().any(|call| decided.contains(call));
        ending(line).is_some_and(|body| *number < last || asks_decided(&body))
    });
    over.map(|(number, _)| number).max().unwrap_or(0)
}

/// The suspension that it is, if it ends a segment.
fn ending(line: &Line) -> Option<ExecutionSuspended> {
    if line.kind != "execution.suspended" {
        return None;
    }
    match read_entry(&line.kind, &line.payload)? {
        Entry::ExecutionSuspended(body) if ends_segment(&body) => Some(body),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::time::Timestamp;

    fn begin(kinds: &[&str]) -> i64 {
        let line = |(at, kind): (usize, &&str)| {
            let (kind, payload) = match kind.split_once(' ') {
                Some((kind, reason)) => {
                    let (reason, call) = reason.split_once(' ').unwrap_or((reason, "c0"));
                    (kind, format!("{{\"reason\":\"{reason}\",\"tool_call_ids\":[\"{call}\"]}}"))
                }
                None => (*kind, "{}".to_owned()),
            };
            let seq = at as i64 + 1;
            Line {
                seq,
                event: Some(seq),
                kind: kind.to_owned(),
                step: 0,
                at: Timestamp::from_micros(0),
                payload,
            }
        };
        begin_in(&kinds.iter().enumerate().map(line).collect::<Vec<_>>(), &["c1".to_owned()])
    }

    #[test]
    fn a_segment_begins_after_the_last_suspension_that_is_over() {
        let held = "execution.suspended approval";
        let retry = "execution.suspended retry";
        let delegated = "execution.suspended signal";
        assert_eq!(begin(&[]), 0);
        assert_eq!(begin(&["execution.started", "message.delta"]), 0);
        assert_eq!(begin(&["execution.started", held]), 0);
        assert_eq!(begin(&["execution.started", held, "approval.decided"]), 2);
        assert_eq!(begin(&["execution.started", held, "approval.decided", "execution.resumed", held]), 2);
        assert_eq!(begin(&["execution.started", held, "execution.resumed", "execution.completed"]), 2);
        assert_eq!(begin(&["execution.started", held, "approval.decided", delegated]), 2);
        assert_eq!(begin(&["execution.started", delegated, "execution.resumed", "execution.completed"]), 0);
        assert_eq!(begin(&["execution.started", "execution.suspended approval c1"]), 2);
        assert_eq!(begin(&["execution.started", retry, "execution.resumed", "execution.completed"]), 0);
    }
}

//! Where the part of an execution's output begins that a client waits for who sends again.
//!
//! A segment ends where the execution waits for somebody. Who sends again has read up to
//! there, acted, and wants what came of it: everything after the last such suspension that is
//! over. While the last suspension still holds, that is the segment which led to it.

use std::collections::{BTreeMap, BTreeSet};

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
    passed: i64,
    /// Calls that are decided and whose decision the journal does not have yet: no suspension
    /// that still asks for one of them ends what a client reads, for the worker that wrote it
    /// had not seen the decision.
    decided: BTreeSet<String>,
    /// Model steps whose attempts broke off, with the event that says so last: the step's
    /// deltas before it are void and are not told to who comes later.
    voided: BTreeMap<i32, i64>,
}

impl Segment {
    /// Everything from the execution's beginning on, for a client that knows nothing yet.
    pub fn whole(self) -> Self {
        Self { after: 0, ..self }
    }

    /// Whether the client is told of an event. The events are shown to it one by one, in order.
    pub fn tells(&mut self, number: i64, entry: &Entry) -> bool {
        if let Some(call) = answered(entry) {
            self.decided.remove(call);
        }
        match entry {
            // What a broken attempt said is not told to who comes after it broke.
            Entry::MessageDelta(_) | Entry::ModelRestarted(_) => {
                self.voided.get(&entry.step()).is_none_or(|last| number > *last)
            }
            // A suspension that the client has acted on ends nothing.
            Entry::ExecutionSuspended(body) if ends_segment(body) => {
                let asks_decided = body.tool_call_ids.iter().any(|call| self.decided.contains(call));
                number > self.passed && !asks_decided
            }
            _ => true,
        }
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
    let after = told_from(&lines, decided).map_or(passed, |first| first.min(passed));
    Ok(Segment { after, passed, decided: not_journaled(&lines, decided), voided })
}

/// Those of the decided calls of which the journal has no answer.
fn not_journaled(lines: &[Line], decided: &[String]) -> BTreeSet<String> {
    let answers = lines.iter().filter(|line| line.kind.starts_with("approval."));
    let answers: Vec<Entry> = answers.filter_map(|line| read_entry(&line.kind, &line.payload)).collect();
    let is_open = |call: &&String| !answers.iter().any(|entry| answered(entry) == Some(call));
    decided.iter().filter(is_open).cloned().collect()
}

/// The call whose question is over with this entry.
fn answered(entry: &Entry) -> Option<&str> {
    match entry {
        Entry::ApprovalDecided(body) => Some(&body.tool_call_id),
        Entry::ApprovalClosed(body) => Some(&body.tool_call_id),
        _ => None,
    }
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

/// Where what came of these decisions begins: several are taken one after the other, and the worker
/// may have carried the first one out, and stopped again, before the last is taken.
fn told_from(lines: &[Line], decided: &[String]) -> Option<i64> {
    let mut last = BTreeMap::new();
    for line in lines.iter().filter(|line| line.kind.starts_with("approval.")) {
        let entry = read_entry(&line.kind, &line.payload);
        let call = entry.as_ref().and_then(answered).filter(|call| decided.iter().any(|one| one == call));
        last.extend(call.map(str::to_owned).zip(line.event));
    }
    let first = last.into_values().min()?;
    let endings = lines.iter().filter_map(|line| ending(line).and(line.event));
    Some(endings.filter(|number| *number < first).max().unwrap_or(0))
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
    use holdpoint_engine::entry::ApprovalClosed;
    use holdpoint_engine::status::ApprovalStatus;
    use holdpoint_engine::time::Timestamp;

    fn lines(kinds: &[&str]) -> Vec<Line> {
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
        kinds.iter().enumerate().map(line).collect()
    }

    fn begin(kinds: &[&str]) -> i64 {
        begin_in(&lines(kinds), &["c1".to_owned()])
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

    #[test]
    fn what_came_of_several_decisions_is_told_from_the_first_on() {
        let mut lines = lines(&[
            "execution.started",
            "execution.suspended approval c1",
            "approval.closed c1",
            "execution.resumed",
            "tool.completed",
            "execution.suspended approval c2",
            "approval.closed c2",
        ]);
        for line in lines.iter_mut().filter(|line| line.kind == "approval.closed") {
            let call = if line.seq == 3 { "c1" } else { "c2" };
            line.payload = closed(call).payload();
        }
        let told = |calls: &[&str]| {
            let decided: Vec<String> = calls.iter().map(|call| (*call).to_owned()).collect();
            (told_from(&lines, &decided), begin_in(&lines, &decided))
        };
        assert_eq!(told(&["c1", "c2"]), (Some(2), 6));
        assert_eq!(told(&["c2"]), (Some(6), 6));
        assert_eq!(told(&[]), (None, 6));
    }

    fn closed(call: &str) -> Entry {
        Entry::ApprovalClosed(ApprovalClosed {
            step: 1,
            tool_call_id: call.to_owned(),
            tool: "pay".to_owned(),
            status: ApprovalStatus::Expired,
            delegated_by: None,
        })
    }

    #[test]
    fn a_suspension_that_asks_for_what_is_decided_ends_nothing() {
        let suspended = |call: &str| {
            Entry::ExecutionSuspended(ExecutionSuspended {
                reason: Reason::Approval,
                until: None,
                tool_call_ids: vec![call.to_owned()],
                steps: Vec::new(),
            })
        };
        let decided = ["c1".to_owned(), "c2".to_owned()];
        let before = lines(&["execution.started", "execution.suspended approval c1"]);
        let answer =
            Line { kind: "approval.closed".to_owned(), payload: closed("c2").payload(), ..before[0].clone() };
        assert_eq!(not_journaled(&before, &decided), BTreeSet::from(decided.clone()));
        assert_eq!(not_journaled(&[answer], &decided), BTreeSet::from(["c1".to_owned()]));

        // The worker stops once more for `c1` before it sees the decision; then it asks again.
        let decided = BTreeSet::from(["c1".to_owned()]);
        let mut segment = Segment { after: 2, passed: 2, decided, ..Segment::default() };
        assert!(!segment.tells(3, &suspended("c1")));
        assert!(segment.tells(4, &suspended("c3")));
        assert!(segment.tells(5, &closed("c1")));
        assert!(segment.tells(6, &suspended("c1")));
        // Read from the beginning, what is over is not told either.
        let mut whole = Segment { after: 2, passed: 2, ..Segment::default() }.whole();
        assert!(!whole.tells(2, &suspended("c1")));
        assert!(whole.tells(3, &suspended("c1")));
    }
}

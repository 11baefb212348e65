//! Why an execution stands where it stands: one sentence, and what it was read from. A pure
//! function over one snapshot of the row, its lease and its journal.

use std::collections::BTreeMap;

use holdpoint_db::{Lease, Standing};
use holdpoint_engine::entry::{ApprovalRequested, AttemptFailed, CorruptLine, Entry, OutcomeUnknown};
use holdpoint_engine::ids::ApprovalId;
use holdpoint_engine::status::{Failure, Reason, Status};
use holdpoint_engine::time::{Span, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

/// What is answered.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Diagnosis {
    /// One sentence: what it waits for, or who holds it.
    pub summary: String,
    /// What the sentence was read from.
    pub evidence: Vec<Evidence>,
}

/// One thing that was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    /// The row, at the database's time `now`.
    Execution {
        status: Status,
        reason: Option<Reason>,
        now: Timestamp,
        updated_at: Timestamp,
        /// Where it is to be claimed from a moment on.
        ready_at: Option<Timestamp>,
        /// Leases that were lost since its last commit.
        lost_leases: i32,
    },
    /// A worker has it.
    Lease {
        /// The worker's session.
        session: String,
        /// The worker's name.
        holder: String,
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        ran_out: bool,
    },
    /// A call that nobody has decided on.
    Approval {
        approval_id: ApprovalId,
        step: i32,
        tool: String,
        tool_call_id: String,
        requested_at: Timestamp,
        expires_at: Timestamp,
        expired: bool,
    },
    /// An attempt that failed, and will be made again.
    Retry { step: i32, attempt: u32, retry_at: Timestamp, error: Failure },
    /// A call that may or may not have happened.
    OutcomeUnknown { step: i32, tool: Option<String>, settled_at: Timestamp, error: Failure },
    /// A step that is under way.
    Step { step: i32, what: String, since: Timestamp },
    /// Somebody paused it.
    Paused { by: String, at: Timestamp },
    /// It ended with an error.
    Error { error: Failure },
    /// Somebody cancelled it.
    Cancelled { by: Option<String> },
}

/// Reads it off what stands in the database.
pub fn diagnose(standing: &Standing) -> Result<Diagnosis, CorruptLine> {
    let seen = Seen::of(standing)?;
    let (row, now) = (&standing.row, standing.now);
    let mut evidence = vec![Evidence::Execution {
        status: row.status,
        reason: row.reason,
        now,
        updated_at: row.updated_at,
        ready_at: standing.ready_at,
        lost_leases: standing.lost,
    }];
    let summary = match (row.status, &standing.lease, standing.ready_at) {
        (Status::Completed | Status::Failed | Status::Cancelled, ..) => seen.ended(standing, &mut evidence),
        (_, Some(lease), _) => seen.held(lease, now, &mut evidence),
        (Status::Suspended, None, _) => seen.suspended(standing, &mut evidence),
        (_, None, Some(at)) if at > now => {
            format!("It is delayed: it begins at {at}, in {}.", span(now, at))
        }
        (Status::Queued, None, None) => {
            "It waits for the end of the run that goes on: its workflow has one at a time.".to_owned()
        }
        (_, None, ready_at) => ready(standing, ready_at.unwrap_or(row.updated_at)),
    };
    Ok(Diagnosis { summary, evidence })
}

/// Nobody holds it, and nothing is in its way.
fn ready(standing: &Standing, since: Timestamp) -> String {
    let age = span(since, standing.now);
    match (standing.row.status, standing.lost) {
        (Status::Queued, _) => {
            format!("It is queued and ready since {since} ({age}): no worker has taken it yet.")
        }
        (_, 0) => format!("It is ready since {since} ({age}): it goes on when a worker takes it."),
        (_, lost) => format!(
            "It is ready since {since} ({age}), after {lost} lost leases since its last commit: it goes on when a \
             worker takes it."
        ),
    }
}

/// What the journal says, as far as it is still so.
#[derive(Default)]
struct Seen {
    approvals: BTreeMap<i32, ApprovalRequested>,
    retries: BTreeMap<i32, AttemptFailed>,
    unknown: BTreeMap<i32, OutcomeUnknown>,
    tools: BTreeMap<i32, String>,
    under_way: BTreeMap<i32, (String, Timestamp)>,
    paused: Option<(String, Timestamp)>,
    begun: Option<Timestamp>,
    cancelled_by: Option<String>,
}

impl Seen {
    fn of(standing: &Standing) -> Result<Self, CorruptLine> {
        let mut seen = Self::default();
        for line in &standing.lines {
            seen.apply(Entry::read(&line.kind, &line.payload)?, line.at);
        }
        Ok(seen)
    }

    fn apply(&mut self, entry: Entry, at: Timestamp) {
        let step = entry.step();
        // Whatever comes for a step, an attempt that was under way or waited for is over.
        self.under_way.remove(&step);
        match entry {
            Entry::ExecutionStarted(_) | Entry::ExecutionResumed(_) => self.begun = Some(at),
            Entry::ExecutionCancelled(body) => self.cancelled_by = body.by,
            Entry::PauseChanged(body) => self.paused = body.paused.then_some((body.by, at)),
            Entry::ModelCalled(_) | Entry::ModelRestarted(_) => {
                self.retries.remove(&step);
                self.under_way.insert(step, ("the model call".to_owned(), at));
            }
            Entry::ToolCalled(body) => {
                self.retries.remove(&step);
                self.under_way.insert(step, (format!("the call of `{}`", body.tool), at));
                self.tools.insert(step, body.tool);
            }
            Entry::AttemptFailed(body) => drop(self.retries.insert(step, body)),
            Entry::OutcomeUnknown(body) => drop(self.unknown.insert(step, body)),
            Entry::OutcomeResolved(_) => drop(self.unknown.remove(&step)),
            Entry::ApprovalRequested(body) => drop(self.approvals.insert(step, body)),
            Entry::ApprovalDecided(_) | Entry::ApprovalClosed(_) => drop(self.approvals.remove(&step)),
            _ => {}
        }
    }

    fn ended(&self, standing: &Standing, evidence: &mut Vec<Evidence>) -> String {
        let row = &standing.row;
        let at = row.finished_at.unwrap_or(row.updated_at);
        if row.status == Status::Cancelled {
            evidence.push(Evidence::Cancelled { by: self.cancelled_by.clone() });
            let by = self.cancelled_by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
            return format!("It was cancelled at {at}{by}.");
        }
        let Some(error) = &row.error else { return format!("It completed at {at}.") };
        evidence.push(Evidence::Error { error: error.clone() });
        let reason = row.reason.map_or(error.kind.as_str(), Reason::as_str);
        format!("It failed at {at} with the reason `{reason}`: {}", sentence(&error.message))
    }

    fn held(&self, lease: &Lease, now: Timestamp, evidence: &mut Vec<Evidence>) -> String {
        let ran_out = lease.expires_at.is_none_or(|until| until <= now);
        evidence.push(Evidence::Lease {
            session: lease.session.to_string(),
            holder: lease.holder.clone(),
            since: self.begun,
            until: lease.expires_at,
            ran_out,
        });
        evidence.extend(self.steps());
        evidence.extend(self.open_approvals(now));
        let holder = format!("the worker `{}`", lease.holder);
        match (ran_out, lease.expires_at) {
            (true, Some(at)) => format!(
                "The lease of {holder} ran out at {at}: the sweep `stuck` will make it ready for another worker."
            ),
            (true, None) => {
                format!("The session of {holder} is gone: the sweep `stuck` will make it ready again.")
            }
            (false, _) => format!("{} has it{}.", capital(&holder), self.doing()),
        }
    }

    fn doing(&self) -> String {
        let since = self.begun.map(|at| format!(" since {at}")).unwrap_or_default();
        let steps: Vec<String> = self
            .under_way
            .iter()
            .map(|(step, (what, at))| format!("{what} (step {step}) is under way since {at}"))
            .collect();
        if steps.is_empty() { since } else { format!("{since}; {}", steps.join("; ")) }
    }

    fn steps(&self) -> impl Iterator<Item = Evidence> {
        self.under_way.iter().map(|(step, (what, since))| Evidence::Step {
            step: *step,
            what: what.clone(),
            since: *since,
        })
    }

    fn open_approvals(&self, now: Timestamp) -> impl Iterator<Item = Evidence> {
        self.approvals.values().map(move |asked| Evidence::Approval {
            approval_id: asked.approval_id,
            step: asked.step,
            tool: asked.tool.clone(),
            tool_call_id: asked.tool_call_id.clone(),
            requested_at: asked.requested_at,
            expires_at: asked.expires_at,
            expired: asked.expires_at <= now,
        })
    }

    fn suspended(&self, standing: &Standing, evidence: &mut Vec<Evidence>) -> String {
        let now = standing.now;
        evidence.extend(self.open_approvals(now));
        evidence.extend(self.retries.values().map(|failed| Evidence::Retry {
            step: failed.step,
            attempt: failed.attempt,
            retry_at: failed.retry_at,
            error: failed.error.clone(),
        }));
        evidence.extend(self.unknown.values().map(|unknown| Evidence::OutcomeUnknown {
            step: unknown.step,
            tool: self.tools.get(&unknown.step).cloned(),
            settled_at: unknown.settled_at,
            error: unknown.error.clone(),
        }));
        evidence.extend(self.paused.iter().map(|(by, at)| Evidence::Paused { by: by.clone(), at: *at }));
        if let Some(at) = standing.ready_at.filter(|at| *at <= now) {
            return ready(standing, at);
        }
        match standing.row.reason {
            Some(Reason::Paused) => self.paused(),
            Some(Reason::Approval) => self.asked(now),
            Some(Reason::OutcomeUnknown) => self.unknown(),
            Some(Reason::Retry) => self.retry(standing),
            Some(Reason::Signal) => "It waits for a signal.".to_owned(),
            // A timer, and whatever else goes on by itself.
            _ => match standing.ready_at {
                Some(at) => format!("It waits until {at}, for another {}.", span(now, at)),
                None => "It is suspended, and nothing in its journal says for what.".to_owned(),
            },
        }
    }

    fn paused(&self) -> String {
        match &self.paused {
            Some((by, at)) => format!("It was paused by {by} at {at}: it goes on after a resume."),
            None => "It is paused: it goes on after a resume.".to_owned(),
        }
    }

    fn asked(&self, now: Timestamp) -> String {
        let open: Vec<&ApprovalRequested> = self.approvals.values().filter(|a| a.expires_at > now).collect();
        let expired = self.approvals.values().find(|asked| asked.expires_at <= now);
        match (expired, open.as_slice()) {
            (Some(asked), _) => format!(
                "The approval of `{}` (call {}) expired undecided at {}: the sweep `stale` will fail it.",
                asked.tool, asked.tool_call_id, asked.expires_at
            ),
            (None, [asked]) => format!(
                "It waits for a decision on `{}` (call {}), asked for at {}; it expires in {}, at {}.",
                asked.tool,
                asked.tool_call_id,
                asked.requested_at,
                span(now, asked.expires_at),
                asked.expires_at
            ),
            (None, several) => {
                let calls: Vec<String> = several
                    .iter()
                    .map(|asked| format!("`{}` (call {})", asked.tool, asked.tool_call_id))
                    .collect();
                let first = several.iter().map(|asked| asked.expires_at).min().unwrap_or(now);
                format!(
                    "It waits for {} decisions: {}; the first expires in {}, at {first}.",
                    several.len(),
                    calls.join(", "),
                    span(now, first)
                )
            }
        }
    }

    fn unknown(&self) -> String {
        let calls: Vec<String> = self
            .unknown
            .keys()
            .map(|step| match self.tools.get(step) {
                Some(tool) => format!("the call of `{tool}` (step {step})"),
                None => format!("step {step}"),
            })
            .collect();
        format!("Nobody knows whether {} happened: find out, and resolve it.", calls.join(" and "))
    }

    fn retry(&self, standing: &Standing) -> String {
        let due = |at: Timestamp| format!("due at {at}, in {}", span(standing.now, at));
        match self.retries.values().max_by_key(|failed| failed.retry_at) {
            Some(failed) => format!(
                "Attempt {} of step {} failed ({}: {}); the next is {}.",
                failed.attempt,
                failed.step,
                failed.error.kind,
                failed.error.message.trim_end_matches('.'),
                due(standing.ready_at.unwrap_or(failed.retry_at))
            ),
            None => format!(
                "A failed attempt will be made again, {}.",
                due(standing.ready_at.unwrap_or(standing.now))
            ),
        }
    }
}

/// To the second; nothing is shorter than one.
fn span(from: Timestamp, to: Timestamp) -> String {
    Span::secs(from.until(to).as_secs().max(1)).to_string()
}

fn sentence(text: &str) -> String {
    format!("{}.", text.trim_end_matches('.'))
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_db::ExecutionRow;
    use holdpoint_engine::entropy::Entropy;
    use holdpoint_engine::entry::{Line, Usage};
    use holdpoint_engine::ids::{ExecutionId, SessionId};
    use holdpoint_engine::scope::Scope;
    use holdpoint_engine::status::{DefinitionKind, ErrorType, RunType};
    use holdpoint_engine::wire::ExecutionKey;
    use serde_json::{Value, json};

    /// So many seconds after a whole minute.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros((1_800_000_000 + seconds) * 1_000_000)
    }

    fn standing(status: Status, reason: Option<Reason>, entries: &[(&str, Value)]) -> Standing {
        let id = ExecutionId::new(at(0), &mut Entropy::from_seed(1));
        let line = |(seq, (kind, payload)): (i64, &(&str, Value))| Line {
            seq,
            event: Some(seq),
            kind: (*kind).to_owned(),
            step: 0,
            at: at(seq),
            payload: payload.to_string(),
        };
        let row = ExecutionRow {
            files: Vec::new(),
            key: ExecutionKey { scope: Scope::new("acme", "shop"), id },
            status,
            reason,
            last_event: 1,
            kind: DefinitionKind::Agent,
            name: "clerk".to_owned(),
            version: 1,
            conversation_id: None,
            end_user: None,
            run_type: RunType::Production,
            retry_of: None,
            parent: None,
            attempt: 1,
            input: None,
            messages: None,
            output: None,
            error: None,
            usage: Usage::default(),
            metadata: "{}".to_owned(),
            labels: BTreeMap::default(),
            created_at: at(0),
            started_at: None,
            updated_at: at(0),
            finished_at: None,
            pending_approvals: 0,
        };
        let lines = (1..).zip(entries).map(line).collect();
        Standing { row, now: at(60), ready_at: None, lost: 0, lease: None, lines }
    }

    fn lease(until: Option<Timestamp>) -> Option<Lease> {
        let session = SessionId::new(at(0), &mut Entropy::from_seed(2));
        Some(Lease { session, holder: "w1".to_owned(), expires_at: until })
    }

    fn told(standing: &Standing) -> String {
        let told = diagnose(standing).expect("a journal");
        assert!(matches!(told.evidence[0], Evidence::Execution { .. }));
        told.summary
    }

    fn asked(step: i32, call: &str, expires: i64) -> (&'static str, Value) {
        let body = json!({"approval_id": "apr_01h455vb4pex5vsknk084sn02q", "step": step, "tool_call_id": call,
            "tool": "pay", "arguments": {}, "arguments_text": "{}", "digest": "d",
            "requested_at": at(10), "expires_at": at(expires)});
        ("approval.requested", body)
    }

    fn error() -> Value {
        json!({"type": "network", "message": "connection refused"})
    }

    fn called() -> [(&'static str, Value); 2] {
        let tool = json!({"step": 3, "tool_call_id": "c1", "tool": "pay", "arguments": {}, "attempt": 1});
        [
            ("execution.started", json!({"kind": "agent", "name": "clerk", "version": 1})),
            ("tool.called", tool),
        ]
    }

    #[test]
    fn each_state_has_its_sentence() {
        use Status::{Queued, Running, Suspended};
        let [started, call] = called();
        let failed = json!({"step": 3, "attempt": 1, "error": error(), "retry_at": at(90)});
        let unknown = json!({"step": 3, "attempt": 1, "error": error(), "settled_at": at(70)});
        let paused = ("pause.changed", json!({"paused": true, "by": "key_1"}));
        let decided = json!({"step": 2, "tool_call_id": "c1", "tool": "pay", "approved": true, "digest": "d",
            "decided_by": "key_1", "decided_at": at(50)});
        let approval = Some(Reason::Approval);
        let table: Vec<(Standing, &str)> = vec![
            (
                Standing { ready_at: Some(at(30)), ..standing(Queued, None, &[]) },
                "It is queued and ready since 2027-01-15T08:00:30.000000Z (30s): no worker has taken it yet.",
            ),
            (
                Standing { ready_at: Some(at(660)), ..standing(Queued, None, &[]) },
                "It is delayed: it begins at 2027-01-15T08:11:00.000000Z, in 10m.",
            ),
            (
                Standing {
                    lease: lease(Some(at(65))),
                    ..standing(Running, None, &[started.clone(), call.clone()])
                },
                "The worker `w1` has it since 2027-01-15T08:00:01.000000Z; the call of `pay` (step 3) is under way \
                 since 2027-01-15T08:00:02.000000Z.",
            ),
            (
                Standing {
                    lease: lease(Some(at(55))),
                    ..standing(Running, None, std::slice::from_ref(&started))
                },
                "The lease of the worker `w1` ran out at 2027-01-15T08:00:55.000000Z: the sweep `stuck` will make it \
                 ready for another worker.",
            ),
            (
                Standing { lease: lease(None), ..standing(Running, None, std::slice::from_ref(&started)) },
                "The session of the worker `w1` is gone: the sweep `stuck` will make it ready again.",
            ),
            (
                Standing {
                    ready_at: Some(at(50)),
                    lost: 2,
                    ..standing(Running, None, std::slice::from_ref(&started))
                },
                "It is ready since 2027-01-15T08:00:50.000000Z (10s), after 2 lost leases since its last commit: it \
                 goes on when a worker takes it.",
            ),
            (
                standing(Suspended, approval, &[asked(2, "c1", 120)]),
                "It waits for a decision on `pay` (call c1), asked for at 2027-01-15T08:00:10.000000Z; it expires in \
                 1m, at 2027-01-15T08:02:00.000000Z.",
            ),
            (
                standing(Suspended, approval, &[asked(2, "c1", 120), asked(3, "c2", 180)]),
                "It waits for 2 decisions: `pay` (call c1), `pay` (call c2); the first expires in 1m, at \
                 2027-01-15T08:02:00.000000Z.",
            ),
            (
                standing(Suspended, approval, &[asked(2, "c1", 50)]),
                "The approval of `pay` (call c1) expired undecided at 2027-01-15T08:00:50.000000Z: the sweep `stale` \
                 will fail it.",
            ),
            (
                Standing {
                    ready_at: Some(at(50)),
                    ..standing(Suspended, approval, &[asked(2, "c1", 120), ("approval.decided", decided)])
                },
                "It is ready since 2027-01-15T08:00:50.000000Z (10s): it goes on when a worker takes it.",
            ),
            (
                Standing {
                    ready_at: Some(at(90)),
                    ..standing(
                        Suspended,
                        Some(Reason::Retry),
                        &[started.clone(), call.clone(), ("attempt.failed", failed)],
                    )
                },
                "Attempt 1 of step 3 failed (network: connection refused); the next is due at \
                 2027-01-15T08:01:30.000000Z, in 30s.",
            ),
            (
                standing(
                    Suspended,
                    Some(Reason::OutcomeUnknown),
                    &[started.clone(), call, ("outcome.unknown", unknown)],
                ),
                "Nobody knows whether the call of `pay` (step 3) happened: find out, and resolve it.",
            ),
            (
                standing(Suspended, Some(Reason::Paused), &[started, paused]),
                "It was paused by key_1 at 2027-01-15T08:00:02.000000Z: it goes on after a resume.",
            ),
            (
                Standing { ready_at: Some(at(120)), ..standing(Suspended, Some(Reason::Timer), &[]) },
                "It waits until 2027-01-15T08:02:00.000000Z, for another 1m.",
            ),
            (standing(Suspended, Some(Reason::Signal), &[]), "It waits for a signal."),
        ];
        for (standing, expected) in table {
            assert_eq!(told(&standing), expected);
        }
    }

    #[test]
    fn an_end_says_how_and_when() {
        let mut done = standing(Status::Completed, None, &[]);
        done.row.finished_at = Some(at(30));
        assert_eq!(told(&done), "It completed at 2027-01-15T08:00:30.000000Z.");
        let mut failed = standing(Status::Failed, Some(Reason::Network), &[]);
        failed.row.error = Some(Failure::new(ErrorType::Network, "connection refused"));
        assert_eq!(
            told(&failed),
            "It failed at 2027-01-15T08:00:00.000000Z with the reason `network`: connection refused."
        );
        let by = json!({"reason": "cancelled", "by": "key_1"});
        let cancelled = standing(Status::Cancelled, Some(Reason::Cancelled), &[("execution.cancelled", by)]);
        assert_eq!(told(&cancelled), "It was cancelled at 2027-01-15T08:00:00.000000Z by key_1.");
    }

    #[test]
    fn the_evidence_names_what_is_open() {
        let [started, call] = called();
        let lines = [started, asked(2, "c0", 120), call];
        let standing = Standing { lease: lease(Some(at(65))), ..standing(Status::Running, None, &lines) };
        let told = serde_json::to_value(diagnose(&standing).expect("a journal")).expect("JSON");
        let kinds: Vec<&str> = told["evidence"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|one| one["kind"].as_str())
            .collect();
        assert_eq!(kinds, ["execution", "lease", "step", "approval"]);
        assert_eq!(told["evidence"][1]["ran_out"], false);
        assert_eq!(told["evidence"][3]["tool_call_id"], "c0");
    }
}

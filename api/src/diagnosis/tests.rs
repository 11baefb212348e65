use std::collections::BTreeMap;

use holdpoint_db::*;
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{Line, Usage};
use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, ErrorType, Failure, Reason, RunType, Status, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};
use serde_json::{Value, json};

use super::{Beside, Diagnosis, Evidence, Sentence, diagnose};

/// So many seconds after a whole minute.
fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros((1_800_000_000 + seconds) * 1_000_000)
}

fn id(seed: u64) -> ExecutionId {
    ExecutionId::new(at(0), &mut Entropy::from_seed(seed))
}

fn standing(status: Status, reason: Option<Reason>, entries: &[(&str, Value)]) -> Standing {
    let line = |(seq, (kind, payload)): (i64, &(&str, Value))| Line {
        seq,
        event: Some(seq),
        kind: (*kind).to_owned(),
        step: 0,
        at: at(seq),
        payload: payload.to_string(),
    };
    let row = ExecutionRow {
        priority: 0,
        files: Vec::new(),
        key: ExecutionKey { scope: Scope::new("acme", "shop"), id: id(1) },
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
    let around = Around { workers: vec![worker("w1", 75, 1)], ..Around::default() };
    Standing { row, now: at(60), ready_at: None, lost: 0, lease: None, lines, around }
}

/// A worker with two places, whose lease lasts until then.
fn worker(name: &str, until: i64, held: i64) -> WorkerSession {
    let about = AboutWorker {
        slots: 2,
        poll_ms: 1_000,
        broker_up: true,
        clock_ahead_s: 0,
        secrets: Some(BTreeMap::new()),
    };
    WorkerSession {
        id: SessionId::new(at(0), &mut Entropy::from_seed(3)),
        name: name.to_owned(),
        started_at: at(0),
        expires_at: at(until),
        held,
        about: Some(about),
    }
}

fn ready(at: Timestamp) -> Standing {
    Standing { ready_at: Some(at), ..standing(Status::Queued, None, &[]) }
}

fn lease(until: Option<Timestamp>) -> Option<Lease> {
    let session = SessionId::new(at(0), &mut Entropy::from_seed(2));
    Some(Lease { session, holder: "w1".to_owned(), expires_at: until })
}

fn up() -> Beside<'static> {
    Beside { broker_up: true, ..Beside::default() }
}

fn diagnosis(standing: &Standing, beside: Beside<'_>) -> Diagnosis {
    let told = diagnose(standing, beside).expect("a journal");
    assert!(matches!(told.evidence[0], Evidence::Execution { .. }));
    told
}

fn told(standing: &Standing) -> (Sentence, String) {
    let told = diagnosis(standing, up());
    (told.code, told.summary)
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
    [("execution.started", json!({"kind": "agent", "name": "clerk", "version": 1})), ("tool.called", tool)]
}

fn check(table: Vec<(Standing, Sentence, &str)>) {
    for (standing, code, expected) in table {
        assert_eq!(told(&standing), (code, expected.to_owned()));
    }
}

#[test]
fn what_is_ready_says_why_nobody_has_it() {
    let with = |workers: Vec<WorkerSession>| {
        let around = Around { workers, ..Around::default() };
        Standing { around, ..ready(at(30)) }
    };
    let mut away = worker("w1", 75, 0);
    away.about = away.about.map(|about| AboutWorker { broker_up: false, ..about });
    let suspect = |out, before| {
        let suspects = Some(Suspects { one_is_out: out, before });
        let around = Around { suspects, ..with(vec![worker("w1", 75, 0)]).around };
        Standing { lost: 2, around, ..ready(at(30)) }
    };
    let since = "It is queued and ready since 2027-01-15T08:00:30Z (30s)";
    let lost = format!("{since}, after 2 lost leases since its last commit");
    for (standing, code, rest) in [
        (with(vec![worker("w1", 75, 1)]), Sentence::Ready, format!("{since}: no worker has taken it yet.")),
        (
            with(vec![]),
            Sentence::NoWorker,
            format!("{since}, and no worker is there, nor was one within the last hour."),
        ),
        (
            with(vec![worker("w1", 50, 0)]),
            Sentence::NoWorker,
            format!(
                "{since}, and no worker is there: the lease of the last one, `w1`, ran out at 2027-01-15T08:00:50Z (10s ago)."
            ),
        ),
        (
            with(vec![worker("w1", 75, 2)]),
            Sentence::WorkersBusy,
            format!("{since}: every place of the 1 worker is taken."),
        ),
        (
            with(vec![away]),
            Sentence::BrokerAway,
            format!(
                "{since}; 1 of 1 worker do not reach the broker, so that no hint comes: workers look by themselves every 1000 ms."
            ),
        ),
        (
            suspect(true, 1),
            Sentence::Suspect,
            format!(
                "{lost}: such go out one at a time, and a worker has another one now, and 1 are before it."
            ),
        ),
        (suspect(false, 0), Sentence::Suspect, format!("{lost}: such go out one at a time, and it is next.")),
    ] {
        assert_eq!(told(&standing), (code, rest));
    }
    let down = diagnosis(&with(vec![worker("w1", 75, 0)]), Beside::default());
    assert!(down.summary.contains("this API does not reach the broker"), "{}", down.summary);
}

#[test]
fn what_begins_later_says_when_and_why() {
    let with = |around: Around| Standing { around, ..ready(at(660)) };
    let repeat = Repeat { retry_of: id(9), attempt: 2, run: id(1), due_at: at(660), asked_by: None };
    let behind = Around { behind: Some(id(9)), ..Around::default() };
    check(vec![
        (
            with(Around::default()),
            Sentence::Delayed,
            "It is delayed: it begins at 2027-01-15T08:11:00Z (in 10m).",
        ),
        (
            with(Around { holds: vec![("k".to_owned(), at(660))], ..Around::default() }),
            Sentence::BalanceHeld,
            "It is held until 2027-01-15T08:11:00Z (in 10m): the balance of the secret `k`, which its workflow uses, was used up.",
        ),
    ]);
    let (code, text) = told(&with(Around { repeats: Some(repeat), ..Around::default() }));
    assert_eq!(code, Sentence::RepeatDue);
    assert!(
        text.starts_with(&format!("It is attempt 2 of {}, which failed: it begins at 2027", id(9))),
        "{text}"
    );
    let (code, text) = told(&Standing { around: behind, ..standing(Status::Queued, None, &[]) });
    assert_eq!(code, Sentence::Coalesced);
    assert_eq!(text, format!("It waits for the end of {}: its workflow has one run at a time.", id(9)));
}

#[test]
fn who_holds_it_is_told_and_what_follows_when_that_one_is_gone() {
    let [started, call] = called();
    let held = |until: i64, ticks: Vec<Tick>| {
        let around = Around { ticks, ..Around::default() };
        let entries = [started.clone(), call.clone()];
        Standing { lease: lease(Some(at(until))), around, ..standing(Status::Running, None, &entries) }
    };
    let tick = |due: i64, emitted: Option<i64>| Tick {
        kind: SweepKind::Stuck,
        due_at: at(due),
        emitted_at: emitted.map(at),
    };
    let ran_out = "The lease of the worker `w1` ran out at 2027-01-15T08:00:55Z (5s ago)";
    let then = "and makes it ready for another worker.";
    for (standing, code, text) in [
        (
            held(65, vec![]),
            Sentence::Held,
            "The worker `w1` has it since 2027-01-15T08:00:01Z (59s); the call of `pay` (step 3) is under way since \
             2027-01-15T08:00:02Z (58s)."
                .to_owned(),
        ),
        (
            held(55, vec![tick(64, None)]),
            Sentence::LeaseRanOut,
            format!("{ran_out}: the sweep `stuck` is due at 2027-01-15T08:01:04Z (in 4s), {then}"),
        ),
        (
            held(55, vec![tick(59, None)]),
            Sentence::LeaseRanOut,
            format!("{ran_out}: the sweep `stuck` is due now, {then}"),
        ),
        (
            held(55, vec![tick(30, None)]),
            Sentence::LeaseRanOutUnswept,
            format!("{ran_out}: the sweep `stuck` is due since 2027-01-15T08:00:30Z (30s ago), and no scheduler has run it, {then}"),
        ),
        (
            held(55, vec![tick(30, Some(58))]),
            Sentence::LeaseRanOutUnswept,
            format!("{ran_out}: the sweep `stuck` is due since 2027-01-15T08:00:30Z (30s ago); it was sent out at 2027-01-15T08:00:58Z (2s ago), and no worker has carried it out, {then}"),
        ),
        (
            held(55, vec![]),
            Sentence::LeaseRanOutUnswept,
            format!("{ran_out}: the sweep `stuck` has never been due: no scheduler was ever there, {then}"),
        ),
    ] {
        assert_eq!(told(&standing), (code, text));
    }
}

#[test]
fn each_wait_has_its_sentence() {
    use Status::Suspended;
    let [started, call] = called();
    let failed = json!({"step": 3, "attempt": 1, "error": error(), "retry_at": at(90)});
    let unknown = json!({"step": 3, "attempt": 1, "error": error(), "settled_at": at(70)});
    let asked_next = json!({"step": 3, "question": 1, "next_at": at(80)});
    let paused = ("pause.changed", json!({"paused": true, "by": "key_1"}));
    let approval = Some(Reason::Approval);
    check(vec![
        (
            standing(Suspended, approval, &[asked(2, "c1", 120)]),
            Sentence::Approval,
            "It waits for a decision on `pay` (call c1), asked for at 2027-01-15T08:00:10Z (50s ago), from anyone who may \
             decide; it expires at 2027-01-15T08:02:00Z (in 1m).",
        ),
        (
            standing(Suspended, approval, &[asked(2, "c1", 120), asked(3, "c2", 180)]),
            Sentence::Approval,
            "It waits for 2 decisions from anyone who may decide: `pay` (call c1) and `pay` (call c2); the first expires \
             at 2027-01-15T08:02:00Z (in 1m).",
        ),
        (
            standing(Suspended, approval, &[asked(2, "c1", 50)]),
            Sentence::ApprovalExpired,
            "The approval of `pay` (call c1) expired undecided at 2027-01-15T08:00:50Z (10s ago): the sweep `stale` has \
             never been due: no scheduler was ever there, and fails the execution.",
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
            Sentence::Retry,
            "Attempt 1 of step 3 (`pay`) failed (network: connection refused); the next is due at 2027-01-15T08:01:30Z (in \
             30s).",
        ),
        (
            standing(
                Suspended,
                Some(Reason::OutcomeUnknown),
                &[call.clone(), ("outcome.unknown", unknown.clone())],
            ),
            Sentence::OutcomeUnknown,
            "Nobody knows whether the call of `pay` (step 3) happened: find out, and resolve it.",
        ),
        (
            standing(
                Suspended,
                Some(Reason::OutcomeUnknown),
                &[call, ("outcome.unknown", unknown), ("outcome.asked", asked_next)],
            ),
            Sentence::OutcomeAsked,
            "Nobody knows whether the call of `pay` (step 3) happened: the tool is asked at 2027-01-15T08:01:20Z (in 20s).",
        ),
        (
            standing(Suspended, Some(Reason::Paused), &[started, paused]),
            Sentence::Paused,
            "It was paused by key_1 at 2027-01-15T08:00:02Z (58s ago): it goes on after a resume.",
        ),
        (
            Standing { ready_at: Some(at(120)), ..standing(Suspended, Some(Reason::Timer), &[]) },
            Sentence::Timer,
            "It waits until 2027-01-15T08:02:00Z (in 1m).",
        ),
        (
            standing(Suspended, Some(Reason::Signal), &[]),
            Sentence::Unexplained,
            "It is suspended, and nothing in its journal says for what.",
        ),
    ]);
}

#[test]
fn a_parent_tells_what_its_child_waits_for() {
    let child = ChildStanding { step: 2, child: id(7), status: Status::Suspended };
    let around = Around { children: vec![child], ..Around::default() };
    let parent = Standing { around, ..standing(Status::Suspended, Some(Reason::Signal), &[]) };
    let its = diagnosis(&standing(Status::Suspended, Some(Reason::Approval), &[asked(2, "c1", 120)]), up());
    let its_words = its.summary.clone();
    let beside = Beside { children: vec![(id(7), its)], ..up() };
    let told = diagnosis(&parent, beside);
    assert_eq!(told.code, Sentence::Child);
    assert_eq!(told.summary, format!("It waits for the end of {}: {its_words}", id(7)));
}

#[test]
fn a_secret_that_no_worker_has_is_named() {
    let beside = || Beside { secrets: ["crm".to_owned()].into(), ..up() };
    let lacking = standing(Status::Suspended, Some(Reason::Approval), &[asked(2, "c1", 120)]);
    let told = diagnosis(&lacking, beside());
    let named = "; the secret `crm` (`outbound.secrets.acme.crm`) that it names is configured at no worker that is there.";
    assert!(told.summary.ends_with(named), "{}", told.summary);
    let mut having = lacking.clone();
    let mut other = worker("w2", 75, 0);
    other.about = other.about.map(|about| AboutWorker {
        secrets: Some([("acme".to_owned(), ["crm".to_owned()].into())].into()),
        ..about
    });
    having.around.workers.push(other);
    let told = diagnosis(&having, beside());
    assert!(!told.summary.contains("crm"), "{}", told.summary);
    let missing = told.evidence.iter().find(|one| matches!(one, Evidence::SecretMissing { .. }));
    assert!(
        matches!(missing, Some(Evidence::SecretMissing { lacking: 1, live_workers: 2, .. })),
        "{missing:?}"
    );
}

#[test]
fn an_end_says_how_and_when() {
    let mut done = standing(Status::Completed, None, &[]);
    done.row.finished_at = Some(at(30));
    assert_eq!(told(&done).1, "It completed at 2027-01-15T08:00:30Z (30s ago).");
    let by = json!({"reason": "cancelled", "by": "key_1"});
    let cancelled = standing(Status::Cancelled, Some(Reason::Cancelled), &[("execution.cancelled", by)]);
    assert_eq!(told(&cancelled).1, "It was cancelled at 2027-01-15T08:00:00Z (1m ago) by key_1.");
    let mut failed = standing(Status::Failed, Some(Reason::Network), &[]);
    failed.row.error = Some(Failure::new(ErrorType::Network, "connection refused"));
    let words = "It failed at 2027-01-15T08:00:00Z (1m ago) with the reason `network`: connection refused";
    assert_eq!(told(&failed), (Sentence::Failed, format!("{words}.")));
    let workflow = WorkflowRow {
        name: "ship".to_owned(),
        state: WorkflowState::Maintenance,
        changed_at: at(1),
        changed_by: None,
        logic_failures: 1,
        escalated: false,
        schedule_stopped: false,
        attention: false,
    };
    failed.around.workflow = Some(workflow);
    let held = "its workflow is in maintenance until a new version or a resume";
    assert_eq!(told(&failed).1, format!("{words}; {held}."));
    failed.around.repeated_by =
        Some(Repeat { retry_of: id(1), attempt: 2, run: id(8), due_at: at(70), asked_by: None });
    let repeats = format!("{} repeats it as attempt 2, due at 2027-01-15T08:01:10Z (in 10s)", id(8));
    assert_eq!(told(&failed), (Sentence::FailedRepeated, format!("{words}; {repeats}; {held}.")));
}

#[test]
fn a_test_run_says_when_it_is_ended() {
    let mut test = standing(Status::Suspended, Some(Reason::Approval), &[asked(2, "c1", 120)]);
    test.around.test_run_since = Some(at(0));
    let (_, text) = told(&test);
    assert!(
        text.ends_with("; as a test run it is ended at 2027-01-15T08:10:00Z (in 9m) at the latest."),
        "{text}"
    );
}

#[test]
fn the_evidence_names_what_is_open() {
    let [started, call] = called();
    let lines = [started, asked(2, "c0", 120), call];
    let standing = Standing { lease: lease(Some(at(65))), ..standing(Status::Running, None, &lines) };
    let told = serde_json::to_value(diagnosis(&standing, up())).expect("JSON");
    let kinds: Vec<&str> =
        told["evidence"].as_array().expect("a list").iter().filter_map(|one| one["kind"].as_str()).collect();
    assert_eq!(kinds, ["execution", "lease", "step", "approval"]);
    assert_eq!(told["evidence"][1]["ran_out"], false);
    assert_eq!(told["evidence"][3]["tool_call_id"], "c0");
}

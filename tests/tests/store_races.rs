//! Races: two hundred rounds each, all parties through a barrier, on both stores.
//!
//! The rows of all rounds are made before in a few batches, so that the rounds cost what the
//! race itself costs.
// A list of one is written as a list in an expectation.
#![allow(clippy::cloned_ref_to_slice_refs)]

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::SeqCst};
use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::{GrantId, SessionId, SweepId};
use holdpoint_engine::policy::{ApproverRole, Approvers, Escalation, OnTimeout, Policy, Then};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ApprovalStatus, AuditAct, Reason, Status};
use holdpoint_engine::time::Span;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};
use holdpoint_scheduler::{Bounds, Sweeper};
use holdpoint_tests::poll::{SOON, until_blocking};
use holdpoint_tests::races::race;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use crate::stores::Ground;

const ROUNDS: usize = 200;

on_both_stores! {
    of crate::stores::Ground::new:
    starts_with_the_same_key_are_one;
    starts_by_the_same_command_are_one;
    decisions_by_the_same_command_are_one;
    cancels_by_the_same_command_are_one;
    signals_of_one_id_are_one;
    starts_in_one_conversation_are_one_at_a_time;
    two_approvals_are_one;
    approve_or_deny;
    approve_or_expire;
    votes_of_many_people_complete_once;
    votes_of_one_person_count_once;
    decide_or_escalate_or_expire;
    approve_or_deny_by_nobody;
    approve_or_cancel;
    approve_while_the_worker_suspends;
    two_workers_claim_one_hint;
    claims_of_whatever_is_ready_share_nothing;
    a_limit_is_never_passed;
    a_rate_is_never_passed;
    a_tools_limit_is_never_passed;
    two_commits_of_one_epoch_and_seq;
    a_late_commit_and_its_successor;
    one_suspect_at_a_time;
    many_schedulers_emit_a_tick_once;
    twenty_sweeps_count_each_row_once;
    twenty_writers_make_one_chain;
    decisions_and_cancels_of_many_projects_make_whole_chains;
    a_grant_is_never_used_more_often_than_it_says;
    a_grant_that_is_taken_back_answers_nothing_more;
}

impl Ground {
    fn status(&self, key: &ExecutionKey) -> Status {
        self.store.execution_get(&key.scope, key.id).unwrap().unwrap().status
    }

    /// The kinds of the journal's lines; their numbers have no gap.
    fn kinds(&self, key: &ExecutionKey) -> Vec<String> {
        let lines = self.store.journal_read(&key.scope, key.id).unwrap().unwrap();
        assert!(lines.iter().enumerate().all(|(at, line)| line.seq == at as i64 + 1), "{lines:?}");
        let events: Vec<i64> = lines.iter().filter_map(|line| line.event).collect();
        assert_eq!(events, (1..=events.len() as i64).collect::<Vec<_>>());
        lines.into_iter().map(|line| line.kind).collect()
    }

    /// So many queued ones.
    fn queued(&self, count: usize) -> Vec<ExecutionKey> {
        let batch: Vec<_> = (0..count).map(|_| start()).collect();
        let created = self.store.execution_create(&batch).unwrap();
        assert!(created.iter().all(|one| matches!(one, Created::New { .. })));
        batch.into_iter().map(|new| new.key).collect()
    }

    /// A session whose lease outlasts all rounds, however slow they are.
    fn session(&self) -> SessionId {
        let id = SessionId(Uuid::now_v7());
        self.store.session_begin(id, "test", Duration::from_secs(3_600)).unwrap();
        id
    }

    /// So many claimed ones.
    fn held(&self, count: usize) -> Vec<Held> {
        let keys = self.queued(count);
        let mine = session(self.store.as_ref());
        let hinted = keys.clone();
        let request = ClaimRequest {
            session: mine,
            hinted,
            limit: count,
            any: false,
            history: history(),
            tenant_concurrency: None,
        };
        let mut claimed = self.store.execution_claim(&request).unwrap();
        assert_eq!(claimed.len(), count);
        claimed.sort_by_key(|one| keys.iter().position(|key| *key == one.key));
        claimed.into_iter().map(|one| Held::of(one, mine)).collect()
    }

    /// So many that wait for a decision on the call `a`.
    fn waiting(&self, asked: Asked<'_>, count: usize) -> Vec<ExecutionKey> {
        let mut held = self.held(count);
        let batch: Vec<_> = held.iter_mut().map(|one| one.ask(&[asked])).collect();
        let done = self.store.execution_commit(&batch).unwrap();
        assert!(done.iter().all(|one| *one == Committed::Done { wake: 0, released: true }), "{done:?}");
        batch.into_iter().map(|one| one.key).collect()
    }

    fn decision(&self, key: &ExecutionKey, approved: bool) -> DecideRequest {
        DecideRequest {
            execution: key.id,
            tool_call_id: "a".to_owned(),
            approved,
            reason: None,
            arguments: None,
            digest: None,
            by: decider("key_person"),
            grant: None,
            end_user: None,
        }
    }

    fn decide(&self, key: &ExecutionKey, approved: bool) -> Decided {
        self.store.approval_decide(&key.scope, &self.decision(key, approved)).unwrap()
    }

    fn approval(&self, key: &ExecutionKey) -> ApprovalStatus {
        let filter = ApprovalFilter { execution: Some(key.id), limit: 2, ..ApprovalFilter::default() };
        self.store.approval_list(&key.scope, &filter).unwrap()[0].status
    }
}

fn starts_with_the_same_key_are_one(ground: &Ground) {
    let answers = race(8, ROUNDS, |_, round| {
        let new = keyed(&format!("key-{round}"), "digest");
        ground.store.execution_create(&[new]).unwrap().pop().unwrap()
    });
    for round in answers {
        let new: Vec<_> = round
            .iter()
            .filter_map(|one| match one {
                Created::New { key, .. } => Some(key.id),
                _ => None,
            })
            .collect();
        assert_eq!(new.len(), 1, "{round:?}");
        let same = |one: &Created| matches!(one, Created::Existing { id, .. } if *id == new[0]);
        assert_eq!(round.iter().filter(|one| same(one)).count(), 7, "{round:?}");
    }
}

fn of_round(round: usize) -> CommandKey {
    CommandKey { source: "/shop".to_owned(), id: format!("m{round}") }
}

fn starts_by_the_same_command_are_one(ground: &Ground) {
    let answers = race(8, ROUNDS, |_, round| {
        // Beside another, so that batches meet in more than one row.
        let commanded = |round| {
            let extras = Extras { command: Some(of_round(round)), ..Extras::default() };
            NewExecution { extras, ..start() }
        };
        ground.store.execution_create(&[commanded(round), commanded(round + ROUNDS)]).unwrap()
    });
    for round in answers {
        for place in 0..2 {
            let of_new = |both: &Vec<Created>| match &both[place] {
                Created::New { key, .. } => Some(key.id),
                _ => None,
            };
            let new: Vec<_> = round.iter().filter_map(of_new).collect();
            assert_eq!(new.len(), 1, "{round:?}");
            let same =
                |both: &Vec<Created>| matches!(both[place], Created::Existing { id, .. } if id == new[0]);
            assert_eq!(round.iter().filter(|both| same(both)).count(), 7, "{round:?}");
        }
    }
}

fn decisions_by_the_same_command_are_one(ground: &Ground) {
    let keys = ground.waiting(Asked::open("a"), ROUNDS);
    let answers = race(4, ROUNDS, |_, round| {
        let request = ground.decision(&keys[round], true);
        ground.store.command_decide(&keys[round].scope, &of_round(round), &request).unwrap()
    });
    for round in answers {
        let taken = round.iter().filter(|one| matches!(one, Commanded::Now(Decided::Taken { .. }))).count();
        let before = round.iter().filter(|one| matches!(one, Commanded::Before(_))).count();
        assert_eq!((taken, before), (1, 3), "{round:?}");
    }
}

fn cancels_by_the_same_command_are_one(ground: &Ground) {
    let keys = ground.queued(ROUNDS);
    let answers = race(4, ROUNDS, |_, round| {
        let command = of_round(round);
        ground.store.command_act(&keys[round], &command, &ActRequest::Cancel, "key_person", None).unwrap()
    });
    for round in answers {
        let now = round.iter().filter(|one| matches!(one, Commanded::Now(_))).count();
        assert_eq!(now, 1, "{round:?}");
    }
}

/// Twenty at once for a conversation that is not there yet.
fn signals_of_one_id_are_one(ground: &Ground) {
    let keys = ground.queued(ROUNDS);
    let event = r#"{"specversion":"1.0","id":"1","source":"s","type":"paid"}"#.to_owned();
    let id = Some("e1".to_owned());
    let signal = ActRequest::Signal { name: "paid".to_owned(), id, event, limit: 10 };
    race(4, ROUNDS, |_, round| {
        let key = &keys[round];
        ground.store.execution_act(&key.scope, key.id, &signal, "key_person", None).unwrap()
    });
    for key in &keys {
        assert_eq!(ground.kinds(key), ["signal.received"]);
    }
}

fn starts_in_one_conversation_are_one_at_a_time(ground: &Ground) {
    let answers = race(20, ROUNDS / 4, |_, round| {
        let conversation = Conversation::Named(format!("conversation-{round}"));
        let new = NewExecution { conversation, ..start() };
        ground.store.execution_create(&[new]).unwrap().pop().unwrap()
    });
    for round in answers {
        let new: Vec<_> = round
            .iter()
            .filter_map(|one| match one {
                Created::New { key, .. } => Some(key.id),
                _ => None,
            })
            .collect();
        assert_eq!(new.len(), 1, "{round:?}");
        let told = |one: &&Created| matches!(one, Created::ConversationBusy { active } if *active == new[0]);
        assert_eq!(round.iter().filter(told).count(), 19, "{round:?}");
    }
}

fn two_approvals_are_one(ground: &Ground) {
    let keys = ground.waiting(Asked::open("a"), ROUNDS);
    let answers = race(2, ROUNDS, |_, round| ground.decide(&keys[round], true));
    for (key, round) in keys.iter().zip(answers) {
        let taken = round.iter().filter(|one| matches!(one, Decided::Taken { .. })).count();
        let already = round.iter().filter(|one| matches!(one, Decided::Already(_))).count();
        assert_eq!((taken, already), (1, 1), "{round:?}");
        assert_eq!(ground.kinds(key).iter().filter(|kind| *kind == "approval.decided").count(), 1);
    }
}

fn approve_or_deny(ground: &Ground) {
    let keys = ground.waiting(Asked::open("a"), ROUNDS);
    let answers = race(2, ROUNDS, |party, round| ground.decide(&keys[round], party == 0));
    for (key, round) in keys.iter().zip(answers) {
        let winner = match &round[..] {
            [Decided::Taken { .. }, Decided::Conflict(_)] => ApprovalStatus::Approved,
            [Decided::Conflict(_), Decided::Taken { .. }] => ApprovalStatus::Denied,
            _ => panic!("{round:?}"),
        };
        assert_eq!(ground.approval(key), winner);
        assert_eq!(ground.kinds(key).iter().filter(|kind| *kind == "approval.decided").count(), 1);
    }
}

/// A timeout of a sweep makes it stale for the sweep, while it is open for a decision.
fn approve_or_expire(ground: &Ground) {
    let keys = ground.waiting(Asked::open("a"), ROUNDS);
    let timeout = Some(Duration::from_secs(60));
    let answers = race(2, ROUNDS, |party, round| {
        let key = &keys[round];
        if party == 0 {
            matches!(ground.decide(key, true), Decided::Taken { .. })
        } else {
            matches!(ground.store.stale_expire(key, timeout).unwrap(), Swept::Done { .. })
        }
    });
    for (key, round) in keys.iter().zip(answers) {
        let (approval, status, last) = match &round[..] {
            [true, false] => (ApprovalStatus::Approved, Status::Suspended, "approval.decided"),
            [false, true] => (ApprovalStatus::Expired, Status::Failed, "execution.failed"),
            _ => panic!("both, or none: {round:?}"),
        };
        assert_eq!((ground.approval(key), ground.status(key)), (approval, status));
        assert_eq!(ground.kinds(key).last().unwrap(), last);
    }
}

fn several(quorum: u32) -> Policy {
    Policy { quorum, ..Policy::default() }
}

/// Four people vote, it takes three: two are counted, one completes it, one comes after.
fn votes_of_many_people_complete_once(ground: &Ground) {
    let policy = several(3);
    let keys = ground.waiting(Asked { policy: Some(&policy), ..Asked::open("a") }, ROUNDS / 2);
    let answers = race(4, ROUNDS / 2, |party, round| {
        let by = decider(&format!("key_{party}"));
        let request = DecideRequest { by, ..ground.decision(&keys[round], true) };
        ground.store.approval_decide(&keys[round].scope, &request).unwrap()
    });
    for (key, round) in keys.iter().zip(answers) {
        let count = |is: fn(&Decided) -> bool| round.iter().filter(|one| is(one)).count();
        let counted = count(|one| matches!(one, Decided::Counted(_)));
        let taken = count(|one| matches!(one, Decided::Taken { .. }));
        let already = count(|one| matches!(one, Decided::Already(_)));
        assert_eq!((counted, taken, already), (2, 1, 1), "{round:?}");
        assert_eq!(ground.kinds(key).iter().filter(|kind| *kind == "approval.decided").count(), 1);
    }
}

fn votes_of_one_person_count_once(ground: &Ground) {
    let policy = several(2);
    let keys = ground.waiting(Asked { policy: Some(&policy), ..Asked::open("a") }, ROUNDS / 2);
    let answers = race(3, ROUNDS / 2, |_, round| ground.decide(&keys[round], true));
    for (key, round) in keys.iter().zip(answers) {
        let counted = round.iter().filter(|one| matches!(one, Decided::Counted(_))).count();
        let already = round.iter().filter(|one| matches!(one, Decided::Already(_))).count();
        assert_eq!((counted, already), (1, 2), "{round:?}");
        assert_eq!((ground.approval(key), ground.status(key)), (ApprovalStatus::Pending, Status::Suspended));
    }
}

/// A decision of the further approvers, the pass that escalates, and the pass that finds the
/// last expiry over as well: the timeout of that sweep is for what is not escalated yet.
fn decide_or_escalate_or_expire(ground: &Ground) {
    let approvers = Approvers { roles: vec![ApproverRole::Approve], groups: Vec::new() };
    let next = Escalation { approvers, expires_after: Span(Duration::ZERO), then: Then::Fail };
    let policy = Policy { on_timeout: OnTimeout::Escalate(next), ..Policy::default() };
    let keys = ground.waiting(Asked { policy: Some(&policy), ..Asked::open("a") }, ROUNDS);
    let timeout = Some(Duration::from_secs(60));
    let answers = race(3, ROUNDS, |party, round| {
        let key = &keys[round];
        if party == 0 {
            matches!(ground.decide(key, true), Decided::Taken { .. })
        } else {
            matches!(ground.store.stale_expire(key, timeout).unwrap(), Swept::Done { .. })
        }
    });
    for (key, round) in keys.iter().zip(answers) {
        assert_eq!(round.iter().filter(|won| **won).count(), 1, "{round:?}");
        let (approval, status, lines) = if round[0] {
            (ApprovalStatus::Approved, Status::Suspended, &["approval.decided"][..])
        } else {
            let failed = &["approval.escalated", "approval.closed", "execution.failed"][..];
            (ApprovalStatus::Expired, Status::Failed, failed)
        };
        assert_eq!((ground.approval(key), ground.status(key)), (approval, status));
        assert_eq!(ground.kinds(key)[5..], *lines);
    }
}

fn approve_or_deny_by_nobody(ground: &Ground) {
    let policy = Policy { on_timeout: OnTimeout::Deny, ..Policy::default() };
    let keys = ground.waiting(Asked { policy: Some(&policy), ..Asked::open("a") }, ROUNDS);
    let timeout = Some(Duration::from_secs(60));
    let answers = race(2, ROUNDS, |party, round| {
        let key = &keys[round];
        if party == 0 {
            return matches!(ground.decide(key, true), Decided::Taken { .. });
        }
        matches!(ground.store.stale_expire(key, timeout).unwrap(), Swept::Done { ready: true, .. })
    });
    for (key, round) in keys.iter().zip(answers) {
        assert_ne!(round[0], round[1], "one of the two");
        let winner = if round[0] { ApprovalStatus::Approved } else { ApprovalStatus::Denied };
        assert_eq!((ground.approval(key), ground.status(key)), (winner, Status::Suspended));
        assert_eq!(ground.kinds(key).iter().filter(|kind| *kind == "approval.decided").count(), 1);
    }
}

fn approve_or_cancel(ground: &Ground) {
    let keys = ground.waiting(Asked::open("a"), ROUNDS);
    let answers = race(2, ROUNDS, |party, round| {
        let key = &keys[round];
        if party == 0 {
            return matches!(ground.decide(key, true), Decided::Taken { .. });
        }
        ground.store.execution_act(&key.scope, key.id, &ActRequest::Cancel, "key", None).unwrap();
        true
    });
    for (key, round) in keys.iter().zip(answers) {
        let approval = if round[0] { ApprovalStatus::Approved } else { ApprovalStatus::Cancelled };
        assert_eq!((ground.approval(key), ground.status(key)), (approval, Status::Cancelled));
        let line = if round[0] { "approval.decided" } else { "approval.closed" };
        assert_eq!(ground.kinds(key)[5..], [line, "execution.cancelled"]);
    }
}

/// The decision is never lost between the commit that suspends and the one that wakes: it is
/// in the journal and the execution ready, or it is in the inbox and the lease kept.
fn approve_while_the_worker_suspends(ground: &Ground) {
    let mut held = ground.held(ROUNDS);
    let asks: Vec<_> = held
        .iter_mut()
        .map(|one| Transition { target: Target::Running, ..one.ask(&[Asked::open("a")]) })
        .collect();
    assert_eq!(ground.store.execution_commit(&asks).unwrap().len(), ROUNDS);
    let target = || Target::Suspended { reason: Reason::Approval, ready_at: None };
    let suspends: Vec<_> = held.iter_mut().map(|one| one.next(vec![called(9)], target())).collect();
    let answers = race(2, ROUNDS, |party, round| {
        if party == 0 {
            let Decided::Taken { acted, .. } = ground.decide(&suspends[round].key, true) else {
                panic!("not taken");
            };
            return acted.tell == Tell::Workers;
        }
        let done = ground.store.execution_commit(&suspends[round..=round]).unwrap().remove(0);
        matches!(done, Committed::Done { released: true, .. })
    });
    for (suspend, round) in suspends.iter().zip(answers) {
        assert_eq!(round[0], round[1], "who was told, and who has the lease");
        let inbox = ground.store.inbox_read(std::slice::from_ref(&suspend.key)).unwrap().remove(0);
        let decided = ground.kinds(&suspend.key).last().unwrap() == "approval.decided";
        assert_eq!((inbox.acts.len(), decided), if round[0] { (0, true) } else { (1, false) });
        let status = if round[0] { Status::Suspended } else { Status::Running };
        assert_eq!(ground.status(&suspend.key), status);
    }
}

fn two_workers_claim_one_hint(ground: &Ground) {
    let keys = ground.queued(ROUNDS);
    let sessions = [ground.session(), ground.session()];
    let answers =
        race(2, ROUNDS, |party, round| claim(ground.store.as_ref(), sessions[party], &[&keys[round]]).len());
    for round in answers {
        assert_eq!(round.iter().sum::<usize>(), 1, "{round:?}");
    }
}

fn claims_of_whatever_is_ready_share_nothing(ground: &Ground) {
    let keys = ground.queued(4 * ROUNDS);
    let sessions: Vec<_> = (0..4).map(|_| ground.session()).collect();
    let answers = race(4, ROUNDS, |party, _| {
        let claimed = claim_any(ground.store.as_ref(), sessions[party], 2);
        claimed.into_iter().map(|one| one.key).collect::<Vec<_>>()
    });
    let mut claimed: Vec<_> = answers.into_iter().flatten().flatten().collect();
    let count = claimed.len();
    claimed.sort();
    claimed.dedup();
    assert_eq!((count, claimed.len()), (keys.len(), keys.len()));
}

fn limit(ground: &Ground, kind: LimitKind, name: &str, limit: Limit) {
    ground.store.limit_put(&scope(), kind, name, &limit, "key_1").unwrap();
}

/// Everybody claims as much as there is, and lets it go in another way each time.
fn a_limit_is_never_passed(ground: &Ground) {
    const MOST: i64 = 3;
    let keys = ground.queued(200);
    limit(
        ground,
        LimitKind::Workflow,
        "holdpoint.noop",
        Limit { concurrency: Some(MOST), ..Limit::default() },
    );
    let sessions: Vec<_> = (0..4).map(|_| ground.session()).collect();
    let (held, most_held) = (AtomicI64::new(0), AtomicI64::new(0));
    let ended = race(4, ROUNDS, |party, round| {
        let claimed = claim_any(ground.store.as_ref(), sessions[party], 5);
        let count = claimed.len() as i64;
        most_held.fetch_max(held.fetch_add(count, SeqCst) + count, SeqCst);
        let mut ended = Vec::new();
        for one in claimed {
            // Before it is let go: nobody can have its place yet.
            held.fetch_sub(1, SeqCst);
            let (key, mut one) = (one.key.clone(), Held::of(one, sessions[party]));
            if round % 3 == 0 {
                ground.store.execution_release(sessions[party], &[key]).unwrap();
            } else {
                let done = ground.store.execution_commit(&[one.complete()]).unwrap();
                assert_eq!(done, [Committed::Done { wake: 0, released: true }]);
                ended.push(key);
            }
        }
        ended
    });
    let most_held = most_held.load(SeqCst);
    assert!(most_held > 1 && most_held <= MOST, "{most_held} were held");
    let mut ended: Vec<_> = ended.into_iter().flatten().flatten().collect();
    let count = ended.len();
    ended.sort();
    ended.dedup();
    assert_eq!(ended.len(), count, "each once");
    assert!(count > 100, "only {count} of {} came to their end", keys.len());
}

fn a_rate_is_never_passed(ground: &Ground) {
    ground.queued(100);
    let hourly = Rate { count: 7, per: Duration::from_secs(3_600) };
    limit(ground, LimitKind::Tenant, TENANT_LIMIT, Limit { rate: Some(hourly), ..Limit::default() });
    let sessions: Vec<_> = (0..4).map(|_| ground.session()).collect();
    let begun = race(4, 30, |party, _| claim_any(ground.store.as_ref(), sessions[party], 5).len());
    assert_eq!(begun.into_iter().flatten().sum::<usize>(), 7);
}

fn a_tools_limit_is_never_passed(ground: &Ground) {
    const MOST: i64 = 2;
    let held = ground.held(4);
    limit(ground, LimitKind::Tool, "pay", Limit { concurrency: Some(MOST), ..Limit::default() });
    let (under_way, most) = (AtomicI64::new(0), AtomicI64::new(0));
    race(4, 40, |party, round| {
        let (key, session) = (held[party].key().clone(), held[party].session);
        let call = ToolCall { key, step: round as i32, tool: "pay".to_owned(), session };
        until_blocking("the call has its turn", SOON, || {
            (ground.store.tool_call_ask(&call).unwrap() == ToolTurn::Begun).then_some(())
        });
        most.fetch_max(under_way.fetch_add(1, SeqCst) + 1, SeqCst);
        under_way.fetch_sub(1, SeqCst);
        ground.store.tool_call_done(&call.key, call.step).unwrap();
    });
    assert!(most.load(SeqCst) <= MOST, "{most:?} were under way");
}

fn two_commits_of_one_epoch_and_seq(ground: &Ground) {
    let mut held = ground.held(ROUNDS);
    // Not the same transition twice (that would be done twice), but two different ones.
    let steps: Vec<_> = held
        .iter_mut()
        .map(|one| [Held::of(one.claimed.clone(), one.session).complete(), one.step()])
        .collect();
    let answers = race(2, ROUNDS, |party, round| {
        ground.store.execution_commit(&steps[round][party..=party]).unwrap().remove(0)
    });
    for (step, round) in steps.iter().zip(answers) {
        let fenced = round.iter().filter(|one| **one == Committed::Fenced).count();
        assert_eq!(fenced, 1, "{round:?}");
        assert_eq!(ground.kinds(&step[0].key).len(), 1);
    }
}

/// The old holder commits while the sweep takes the lease away and another one claims.
fn a_late_commit_and_its_successor(ground: &Ground) {
    let mut held = ground.held(ROUNDS);
    let steps: Vec<_> = held.iter_mut().map(Held::step).collect();
    expire(ground.store.as_ref(), held[0].session);
    let successor = ground.session();
    let answers = race(2, ROUNDS, |party, round| {
        if party == 0 {
            return ground.store.execution_commit(&steps[round..=round]).unwrap()[0] != Committed::Fenced;
        }
        let key = &steps[round].key;
        // A row that is being committed is passed over, by the sweep and by the claim.
        let next = until_blocking("it is claimed", SOON, || {
            ground.store.lease_reclaim(key, 4).unwrap();
            claim(ground.store.as_ref(), successor, &[key]).pop()
        });
        // What the successor loaded is all that there is, whichever came first.
        let mut next = Held::of(next, successor);
        let step = next.step();
        ground.store.execution_commit(&[step]).unwrap()[0] == Committed::Done { wake: 0, released: false }
    });
    for (step, round) in steps.iter().zip(answers) {
        assert!(round[1], "the successor is never fenced");
        assert_eq!(ground.kinds(&step.key).len(), if round[0] { 2 } else { 1 });
    }
}

fn one_suspect_at_a_time(ground: &Ground) {
    let store = ground.store.as_ref();
    let keys = ground.queued(20);
    for _ in 0..2 {
        let doomed = session(store);
        assert_eq!(claim(store, doomed, &keys.iter().collect::<Vec<_>>()).len(), 20);
        expire(store, doomed);
        for key in &keys {
            store.lease_reclaim(key, 9).unwrap();
        }
    }
    let sessions: Vec<_> = (0..4).map(|_| ground.session()).collect();
    for _ in 0..20 {
        let answers = race(4, 1, |party, _| claim_any(store, sessions[party], 5));
        let claimed: Vec<_> = answers.into_iter().flatten().enumerate().collect();
        let mut all: Vec<_> = claimed
            .into_iter()
            .flat_map(|(party, some)| some.into_iter().map(move |one| (party, one)))
            .collect();
        assert_eq!(all.len(), 1, "one in the cluster");
        let (party, one) = all.remove(0);
        let mut held = Held::of(one, sessions[party]);
        let end = held.complete();
        assert_eq!(store.execution_commit(&[end]).unwrap(), [Committed::Done { wake: 0, released: true }]);
    }
    assert!(keys.iter().all(|key| ground.status(key) == Status::Completed));
}

fn many_schedulers_emit_a_tick_once(ground: &Ground) {
    let store = ground.store.as_ref();
    let again = Duration::from_secs(3600);
    for _ in 0..50 {
        let answers = race(8, 1, |_, _| store.tick_take(SweepKind::Stale, again).unwrap());
        assert_eq!(answers[0].iter().flatten().count(), 1, "{answers:?}");
        store.tick_close(SweepKind::Stale, Duration::ZERO).unwrap();
    }
}

fn twenty_sweeps_count_each_row_once(ground: &Ground) {
    let keys = ground.waiting(Asked::expired("a", 5), ROUNDS);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let reports: Vec<SweepReport> = runtime.block_on(async {
        let registry = prometheus::Registry::new();
        let queue = holdpoint_queue::open(&holdpoint_queue::Settings::default(), &registry).unwrap();
        let db = Db::start(Arc::clone(&ground.store), &ground.settings, Hooks::none());
        let settings = holdpoint_scheduler::Settings::default();
        let sweeper = Sweeper::new(db, Arc::clone(&queue), settings, &registry);
        let sweep = || {
            let id = SweepId(Uuid::now_v7());
            let (kind, source) = (SweepKind::Stale, SweepSource::Api);
            let start = SweepStart {
                id,
                kind,
                source,
                by: "key_admin".to_owned(),
                scope: Some(scope()),
                dry_run: false,
            };
            sweeper.carry_out(start, Bounds::default())
        };
        let reports = futures_util::future::join_all((0..20).map(|_| sweep())).await;
        queue.close().await;
        reports.into_iter().map(Result::unwrap).collect()
    });
    let cleaned_up: i64 = reports.iter().map(|report| report.cleaned_up).sum();
    assert_eq!(cleaned_up, ROUNDS as i64, "{reports:?}");
    assert!(
        reports.iter().all(|report| report.failed == 0 && report.total() == report.scanned),
        "{reports:?}"
    );
    for key in &keys {
        assert_eq!(ground.kinds(key)[5..], ["approval.closed", "execution.failed"]);
    }
}

fn settings_put(store: &dyn Store, scope: &Scope, exchange: bool, by: &str) {
    store.event_settings_put(scope, EventSettings { exchange }, by).unwrap();
}

fn whole(store: &dyn Store, scope: &Scope) -> i64 {
    verify_chain(store, scope, None).unwrap().unwrap_or_else(|broken| panic!("{broken}")).seq
}

fn twenty_writers_make_one_chain(ground: &Ground) {
    let store = ground.store.as_ref();
    let rounds = 25;
    race(20, rounds, |party, round| {
        settings_put(store, &scope(), (party + round) % 2 == 0, &format!("key_{party}"));
    });
    assert_eq!(whole(store, &scope()), 20 * rounds as i64);
}

/// Executions' locks come before the heads', and heads in one order: nobody waits in a circle.
fn decisions_and_cancels_of_many_projects_make_whole_chains(ground: &Ground) {
    let rounds = 50;
    let keys = ground.waiting(Asked::open("a"), rounds);
    let store = ground.store.as_ref();
    race(6, rounds, |party, round| {
        let key = &keys[round];
        match party {
            0 | 1 => drop(store.approval_decide(&key.scope, &ground.decision(key, party == 0)).unwrap()),
            2 | 3 => drop(store.execution_act(&key.scope, key.id, &ActRequest::Cancel, "key_a", None)),
            4 => settings_put(store, &key.scope, round % 2 == 0, "key_b"),
            _ => settings_put(store, &Scope::new("globex", "shop"), true, "key_c"),
        }
    });
    let seq = whole(store, &scope());
    assert_eq!(whole(store, &Scope::new("globex", "shop")), rounds as i64);
    // Of the decisions one is taken in each round at most, of the cancels one at least.
    assert!((2 * rounds as i64..=4 * rounds as i64).contains(&seq), "{seq}");
    let of = |act| AuditFilter { act: Some(act), limit: 1_000, ..AuditFilter::default() };
    let decided = store.audit_list(&scope(), &of(AuditAct::ApprovalDecided)).unwrap();
    let subjects: std::collections::HashSet<_> = decided.iter().map(|row| &row.subject).collect();
    assert_eq!(subjects.len(), decided.len(), "one row for each decision");
}

fn grant_of(store: &dyn Store, max_uses: i32) -> GrantId {
    let new = NewGrant {
        id: GrantId(Uuid::now_v7()),
        on: GrantFor::Agent("clerk".to_owned()),
        tool: "refund".to_owned(),
        when: None,
        reason: None,
        end_user: None,
        max_uses,
        expires_at: Asked::open("a").expires_at,
        by: decider("key_maker"),
    };
    store.grant_create(&scope(), &new).unwrap().new.id
}

/// For each round and party a commit that asks about two calls, with these grants offered.
fn asking(ground: &Ground, parties: usize, grants: &[[GrantId; 2]]) -> Vec<Vec<Transition>> {
    let mut held = ground.held(parties * grants.len()).into_iter();
    let of_round = |grants: &[GrantId; 2]| {
        let ask = |(party, mut held): (usize, Held)| {
            let mut transition = held.ask(&[Asked::open("a"), Asked::open("b")]);
            // In another order for every other party: nobody waits in a circle.
            let [first, second] = if party % 2 == 0 { *grants } else { [grants[1], grants[0]] };
            transition.grants = vec![
                GrantOffer { tool_call_id: "a".to_owned(), grants: vec![first, second] },
                GrantOffer { tool_call_id: "b".to_owned(), grants: vec![second, first] },
            ];
            transition
        };
        held.by_ref().take(parties).enumerate().map(ask).collect()
    };
    grants.iter().map(of_round).collect()
}

fn approved_by(ground: &Ground, asked: &[Transition], grant: GrantId) -> usize {
    let of = |one: &Transition| {
        let filter = ApprovalFilter { execution: Some(one.key.id), limit: 10, ..ApprovalFilter::default() };
        let rows = ground.store.approval_list(&one.key.scope, &filter).unwrap();
        rows.iter().filter(|row| row.decided_by == Some(grant.to_string())).count()
    };
    asked.iter().map(of).sum()
}

fn a_grant_is_never_used_more_often_than_it_says(ground: &Ground) {
    let (parties, rounds, store) = (6, 40, ground.store.as_ref());
    let grants: Vec<_> = (0..rounds).map(|_| [grant_of(store, 3), grant_of(store, 4)]).collect();
    let asked = asking(ground, parties, &grants);
    race(parties, rounds, |party, round| {
        let answer = store.execution_commit(std::slice::from_ref(&asked[round][party])).unwrap();
        assert!(matches!(answer[..], [Committed::Done { .. }]), "{answer:?}");
    });
    for (round, both) in grants.iter().enumerate() {
        // Twelve questions, seven uses: none is lost, none is made twice.
        for (grant, most) in both.iter().zip([3, 4]) {
            assert_eq!(approved_by(ground, &asked[round], *grant), most);
            assert_eq!(store.grant_get(&scope(), *grant).unwrap().unwrap().uses, most as i32);
        }
    }
    whole(store, &scope());
}

fn a_grant_that_is_taken_back_answers_nothing_more(ground: &Ground) {
    let (parties, rounds, store) = (4, 40, ground.store.as_ref());
    let grants: Vec<_> = (0..rounds).map(|_| grant_of(store, 100)).map(|one| [one, one]).collect();
    let asked = asking(ground, parties, &grants);
    race(parties, rounds, |party, round| match party {
        0 => drop(store.grant_revoke(&scope(), grants[round][0], "key_other", None).unwrap()),
        _ => drop(store.execution_commit(std::slice::from_ref(&asked[round][party])).unwrap()),
    });
    for (round, [grant, _]) in grants.iter().enumerate() {
        let uses = approved_by(ground, &asked[round], *grant);
        assert_eq!(store.grant_get(&scope(), *grant).unwrap().unwrap().uses, uses as i32);
        // Whoever comes now finds it gone.
        store.execution_commit(std::slice::from_ref(&asked[round][0])).unwrap();
        assert_eq!(approved_by(ground, &asked[round], *grant), uses);
    }
}

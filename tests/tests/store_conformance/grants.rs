//! Standing grants: made, looked up, used within the commit that asks, taken back.

use holdpoint_db::*;
use holdpoint_engine::effect::Act;
use holdpoint_engine::ids::GrantId;
use holdpoint_engine::policy::{ApproverRole, Approvers, Policy};
use holdpoint_engine::status::{ApprovalStatus, AuditAct, GrantStatus, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;
use uuid::Uuid;

use super::kit::*;

on_both_stores! {
    a_grant_answers_in_the_commit_that_asks;
    what_is_not_in_force_answers_nothing;
    one_grant_is_not_several_people;
    a_grant_counts_as_its_makers_decision;
    those_in_force_for_a_call_are_found;
    a_decision_makes_a_grant_with_it;
    grants_are_listed_and_taken_back;
}

fn far() -> Timestamp {
    Timestamp::from_micros(4_102_444_800_000_000)
}

fn new(max_uses: i32) -> NewGrant {
    NewGrant {
        id: GrantId(Uuid::now_v7()),
        on: GrantFor::Agent("clerk".to_owned()),
        tool: "refund".to_owned(),
        when: None,
        reason: Some("night shift".to_owned()),
        end_user: None,
        max_uses,
        expires_at: far(),
        by: decider("key_maker"),
    }
}

fn make(bed: &Bed, new: &NewGrant) -> GrantId {
    assert_eq!(bed.store.grant_create(&scope(), new).unwrap().status, GrantStatus::Active);
    new.id
}

fn grant(bed: &Bed, id: GrantId) -> GrantRow {
    bed.store.grant_get(&scope(), id).unwrap().unwrap()
}

/// Asks about these calls, each with these grants offered: the execution, and what was committed.
fn ask(bed: &Bed, start: NewExecution, calls: &[Asked<'_>], grants: &[GrantId]) -> (Held, Committed) {
    let mut held = Held::begin_with(bed.store.as_ref(), start);
    let mut transition = held.ask(calls);
    let offer = |call: &Asked<'_>| GrantOffer { tool_call_id: call.id.to_owned(), grants: grants.to_vec() };
    transition.grants = calls.iter().map(offer).collect();
    let committed = commit(bed, transition);
    (held, committed)
}

fn statuses(bed: &Bed, key: &ExecutionKey, calls: &[&str]) -> Vec<ApprovalStatus> {
    calls.iter().map(|call| approval(bed, key, call).status).collect()
}

const APPROVED: ApprovalStatus = ApprovalStatus::Approved;
const PENDING: ApprovalStatus = ApprovalStatus::Pending;

fn a_grant_answers_in_the_commit_that_asks(bed: &Bed) {
    let id = make(bed, &new(2));
    let calls = [Asked::open("a"), Asked::open("b"), Asked::open("c")];
    let (held, committed) = ask(bed, start(), &calls, &[id]);
    // Two acts came with it: the lease is kept.
    assert_eq!(committed, Committed::Done { wake: 2, released: false });
    let key = held.key();
    assert_eq!(statuses(bed, key, &["a", "b", "c"]), [APPROVED, APPROVED, PENDING]);
    let row = approval(bed, key, "a");
    assert_eq!((row.decided_by, row.granted_by), (Some(id.to_string()), Some("key_maker".to_owned())));
    assert_eq!((row.digest, row.edited_digest, row.used_at), (digest(), None, None));
    assert_eq!(get(bed, key).status, Status::Running);

    let inbox = bed.store.inbox_read(&[key.clone()]).unwrap().remove(0);
    assert_eq!(inbox.wake, 2);
    let decided = |(n, act): (i64, Act)| match act {
        Act::Decided(decided) => (n, decided.tool_call_id, decided.approved, decided.decided_by),
        other => panic!("{other:?}"),
    };
    let by = id.to_string();
    let acts: Vec<_> = inbox.acts.into_iter().map(decided).collect();
    assert_eq!(acts, [(1, "a".to_owned(), true, by.clone()), (2, "b".to_owned(), true, by)]);

    let used = grant(bed, id);
    assert_eq!((used.uses, used.status), (2, GrantStatus::UsedUp));
    assert!(used.last_used_at.is_some());
    let of = |act| AuditFilter { act: Some(act), limit: 10, ..AuditFilter::default() };
    let uses = bed.store.audit_list(&scope(), &of(AuditAct::GrantUsed)).unwrap();
    assert!(uses.iter().all(|row| row.subject == id.to_string()) && uses.len() == 2);
    let decided = bed.store.audit_list(&scope(), &of(AuditAct::ApprovalDecided)).unwrap();
    assert!(decided.iter().all(|row| row.actor == id.to_string()) && decided.len() == 2);
    verify_chain(bed.store.as_ref(), &scope(), None).unwrap().unwrap();
}

fn what_is_not_in_force_answers_nothing(bed: &Bed) {
    let expired = new(5);
    make(bed, &expired);
    execute(bed, "UPDATE grants SET expires_at = 1");
    let revoked = make(bed, &new(5));
    bed.store.grant_revoke(&scope(), revoked, "key_other", None).unwrap();
    let of_another_tool = make(bed, &NewGrant { tool: "look".to_owned(), ..new(5) });
    let unknown = GrantId(Uuid::now_v7());
    let theirs = new(5);
    bed.store.grant_create(&stranger(), &theirs).unwrap();
    let offered = [expired.id, revoked, of_another_tool, unknown, theirs.id];
    let (held, committed) = ask(bed, start(), &[Asked::open("a")], &offered);
    assert_eq!((committed, approval(bed, held.key(), "a").status), (FREED, PENDING));
    for id in [expired.id, revoked, of_another_tool] {
        assert_eq!(grant(bed, id).uses, 0);
    }
    // Of several, the first that is in force.
    let good = make(bed, &new(1));
    let (held, _) = ask(bed, start(), &[Asked::open("a"), Asked::open("b")], &[revoked, good]);
    assert_eq!(statuses(bed, held.key(), &["a", "b"]), [APPROVED, PENDING]);
    assert_eq!(grant(bed, expired.id).status, GrantStatus::Expired);
}

fn one_grant_is_not_several_people(bed: &Bed) {
    let policy = Policy { quorum: 2, ..Policy::default() };
    let id = make(bed, &new(5));
    let asked = Asked { policy: Some(&policy), ..Asked::open("a") };
    let (held, committed) = ask(bed, start(), &[asked], &[id]);
    assert_eq!((committed, approval(bed, held.key(), "a").status), (FREED, PENDING));
    assert_eq!(grant(bed, id).uses, 0);
}

fn a_grant_counts_as_its_makers_decision(bed: &Bed) {
    let admins = Approvers { roles: vec![ApproverRole::Admin], groups: vec!["finance".to_owned()] };
    let policy = Policy { approvers: Some(admins), no_self_approval: true, ..Policy::default() };
    let asked = Asked { policy: Some(&policy), ..Asked::open("a") };
    let by = |key: &str, groups: &[&str]| {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        NewGrant { by: holdpoint_engine::policy::Decider { groups, ..decider(key) }, ..new(5) }
    };
    let outsider = make(bed, &by("key_other", &["sales"]));
    // Who starts the executions of these tests.
    let requester = make(bed, &by("key_test", &["finance"]));
    let (held, committed) = ask(bed, start(), &[asked], &[outsider, requester]);
    assert_eq!((committed, approval(bed, held.key(), "a").status), (FREED, PENDING));
    let good = make(bed, &by("key_other", &["finance"]));
    let (held, _) = ask(bed, start(), &[asked], &[outsider, requester, good]);
    assert_eq!(approval(bed, held.key(), "a").decided_by, Some(good.to_string()));
}

fn those_in_force_for_a_call_are_found(bed: &Bed) {
    let talk = NewExecution {
        conversation: Conversation::Named("talk".to_owned()),
        end_user: Some("ada".to_owned()),
        ..start()
    };
    let (plain, talk) = (create(bed.store.as_ref(), start()), create(bed.store.as_ref(), talk));
    let agent = make(bed, &NewGrant { expires_at: Timestamp::from_micros(far().micros() - 1), ..new(1) });
    let of = |name: &str| NewGrant { on: GrantFor::Conversation(name.to_owned()), ..new(1) };
    let conversation = make(bed, &of("talk"));
    make(bed, &of("other"));
    make(bed, &NewGrant { on: GrantFor::Agent("other".to_owned()), ..new(1) });
    make(bed, &NewGrant { end_user: Some("bob".to_owned()), ..new(1) });
    make(bed, &NewGrant { tool: "look".to_owned(), ..new(1) });
    let user = make(bed, &NewGrant { end_user: Some("ada".to_owned()), ..new(1) });
    let wanted = GrantWanted { agent: "clerk".to_owned(), tool: "refund".to_owned() };
    let found = |key: &ExecutionKey| -> Vec<GrantId> {
        bed.store.grants_for(key, &wanted).unwrap().into_iter().map(|row| row.new.id).collect()
    };
    assert_eq!(found(&plain), [agent]);
    assert_eq!(found(&talk), [agent, conversation, user], "those that end first before others");
    bed.store.grant_revoke(&scope(), agent, "key_other", None).unwrap();
    execute(bed, "UPDATE grants SET uses = 1, last_used_at = 1 WHERE conversation_id = 'talk'");
    assert_eq!(found(&talk), [user]);
    execute(bed, "UPDATE grants SET expires_at = 1");
    assert!(found(&talk).is_empty());
}

fn a_decision_makes_a_grant_with_it(bed: &Bed) {
    let key = waiting(bed.store.as_ref(), start(), &[Asked::open("a"), Asked::open("b")]);
    let with = |call, approved, grant: &NewGrant| {
        let request =
            DecideRequest { grant: Some(Box::new(grant.clone())), ..decision(&key, call, approved) };
        bed.store.approval_decide(&scope(), &request).unwrap()
    };
    let (first, second, third) = (new(3), new(3), new(3));
    assert!(matches!(with("a", true, &first), Decided::Taken { .. }));
    assert_eq!(grant(bed, first.id).status, GrantStatus::Active);
    assert!(matches!(with("a", true, &second), Decided::Already(_)));
    assert!(matches!(with("a", false, &second), Decided::Conflict(_)));
    assert!(matches!(with("b", false, &third), Decided::Taken { .. }));
    let list = bed.store.grant_list(&scope(), &GrantFilter { limit: 10, ..GrantFilter::default() }).unwrap();
    assert_eq!(list.len(), 1, "what was not approved now grants nothing");
}

fn grants_are_listed_and_taken_back(bed: &Bed) {
    let first = make(bed, &new(5));
    let of_ada = NewGrant {
        on: GrantFor::Conversation("talk".to_owned()),
        end_user: Some("ada".to_owned()),
        when: Some(".arguments.amount < 50".to_owned()),
        ..new(7)
    };
    let second = make(bed, &of_ada);
    let ids = |filter: GrantFilter| -> Vec<GrantId> {
        let filter = GrantFilter { limit: 10, ..filter };
        bed.store.grant_list(&scope(), &filter).unwrap().into_iter().map(|row| row.new.id).collect()
    };
    assert_eq!(ids(GrantFilter::default()), [second, first]);
    assert_eq!(ids(GrantFilter { after: Some(second), ..GrantFilter::default() }), [first]);
    assert_eq!(ids(GrantFilter { agent: Some("clerk".to_owned()), ..GrantFilter::default() }), [first]);
    let talk = GrantFilter { conversation_id: Some("talk".to_owned()), ..GrantFilter::default() };
    assert_eq!(ids(talk), [second]);
    let row = grant(bed, second);
    assert_eq!((row.new.when, row.new.max_uses, row.uses), (of_ada.when, 7, 0));
    assert_eq!((row.new.by, row.new.end_user), (decider("key_maker"), Some("ada".to_owned())));

    assert!(bed.store.grant_revoke(&stranger(), first, "key_x", None).unwrap().is_none());
    assert!(bed.store.grant_revoke(&scope(), second, "key_x", Some("bob")).unwrap().is_none());
    for by in ["key_x", "key_y"] {
        let row = bed.store.grant_revoke(&scope(), second, by, Some("ada")).unwrap().unwrap();
        assert_eq!(row.status, GrantStatus::Revoked);
        assert_eq!(row.revoked.map(|(_, by)| by), Some("key_x".to_owned()), "the first one did");
    }
    let active = GrantFilter { status: Some(GrantStatus::Active), ..GrantFilter::default() };
    assert_eq!(ids(active), [first]);
    let told = AuditFilter { subject: Some(second.to_string()), limit: 10, ..AuditFilter::default() };
    let acts: Vec<String> =
        bed.store.audit_list(&scope(), &told).unwrap().into_iter().map(|row| row.act).collect();
    assert_eq!(acts, ["grant.revoked", "grant.created"]);
}

//! Pins, and what is relayed between children and their parents.

use std::sync::{Arc, Barrier};

use holdpoint_db::*;
use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{Delegated, Entry, ExecutionSuspended, MessageCompleted, ToolCall, Usage};
use holdpoint_engine::policy::{Approvers, Barred, Decider, Policy};
use holdpoint_engine::status::{DefinitionKind, Reason, Status};
use holdpoint_engine::team::Pins;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_tests::store_builders::*;

use super::kit::*;

on_both_stores! {
    a_start_pins_what_its_definition_names;
    a_child_has_its_parents_pins;
    a_start_of_a_workflow_pins_workflows_and_agents;
    a_question_is_told_to_a_parent_that_waits;
    an_end_makes_a_parent_ready_that_waits;
    a_parent_that_is_held_gets_news_in_its_inbox;
    a_parent_that_is_over_takes_nothing;
    two_that_go_on_from_the_same_run_both_begin;
    a_decision_through_the_parent_is_the_childs;
    votes_through_the_parent_and_on_the_child_are_counted_together;
    the_sweep_finds_what_was_not_told;
    news_are_told_once_however_many_tell_them;
}

fn put(bed: &Bed, name: &str, transfers: &[&str]) -> i32 {
    let transfers: Vec<_> = transfers.iter().map(|agent| serde_json::json!({"agent": agent})).collect();
    let document = serde_json::json!({
        "model": {"base_url": "http://127.0.0.1:1/v1", "name": "m"}, "instructions": name, "transfers": transfers,
    });
    let (kind, text) = (DefinitionKind::Agent, document.to_string());
    bed.store.definition_put(&scope(), kind, name, &text, "key_test").unwrap().0.version
}

fn of_agent(name: &str) -> NewExecution {
    NewExecution { kind: DefinitionKind::Agent, name: name.to_owned(), ..start() }
}

fn pins_of(held: &Held) -> Option<Pins> {
    held.claimed.extras.clone().and_then(|extras| extras.pins)
}

fn pins(all: &[(&str, i32)]) -> Option<Pins> {
    Some(all.iter().map(|(name, version)| ((*name).to_owned(), *version)).collect())
}

fn a_start_pins_what_its_definition_names(bed: &Bed) {
    put(bed, "plain", &[]);
    put(bed, "deep", &["gone"]);
    put(bed, "books", &["deep", "desk"]);
    put(bed, "desk", &["books"]);
    let held = Held::begin_with(bed.store.as_ref(), of_agent("desk"));
    assert_eq!(pins_of(&held), pins(&[("desk", 1), ("books", 1), ("deep", 1)]));
    put(bed, "deep", &["plain"]);
    let later = Held::begin_with(bed.store.as_ref(), of_agent("desk"));
    assert_eq!(pins_of(&later), pins(&[("desk", 1), ("books", 1), ("deep", 2), ("plain", 1)]));
    let again = take_again(bed, held);
    assert_eq!(pins_of(&again), pins(&[("desk", 1), ("books", 1), ("deep", 1)]), "what is pinned stays");
    let plain = Held::begin_with(bed.store.as_ref(), of_agent("plain"));
    assert!(plain.claimed.extras.is_none(), "who names nobody has nothing of it");
}

fn take_again(bed: &Bed, held: Held) -> Held {
    bed.store.execution_release(held.session, &[held.key().clone()]).unwrap();
    take(bed, held.key())
}

fn child_of(parent: &ExecutionKey, pins: Option<Pins>) -> NewExecution {
    let parent = Parent { execution: parent.id, step: 2, tool_call_id: "a1".to_owned(), depth: 1 };
    NewExecution { extras: Extras { parent: Some(parent), pins, ..Extras::default() }, ..start() }
}

fn a_child_has_its_parents_pins(bed: &Bed) {
    put(bed, "books", &["desk"]);
    put(bed, "desk", &["books"]);
    let parent = Held::begin_with(bed.store.as_ref(), of_agent("desk"));
    put(bed, "books", &[]);
    let child = NewExecution {
        kind: DefinitionKind::Agent,
        name: "books".to_owned(),
        version: Some(1),
        ..child_of(parent.key(), pins_of(&parent))
    };
    let child = Held::begin_with(bed.store.as_ref(), child);
    assert_eq!(pins_of(&child), pins(&[("desk", 1), ("books", 1)]));
    let told = child.claimed.extras.clone().unwrap().parent.unwrap();
    assert_eq!((told.execution, told.depth), (parent.key().id, 1));
    assert_eq!(get(bed, child.key()).parent, Some(parent.key().id));
    assert_eq!(get(bed, parent.key()).parent, None);
}

/// A workflow of this version, with a task for each child.
fn put_children(bed: &Bed, name: &str, label: &str, children: serde_json::Value) {
    let document = serde_json::json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": name, "version": label},
        "do": children,
    });
    let (kind, text) = (DefinitionKind::Workflow, document.to_string());
    bed.store.definition_put(&scope(), kind, name, &text, "key_test").unwrap();
}

fn a_start_of_a_workflow_pins_workflows_and_agents(bed: &Bed) {
    let run = |name: &str, version: &str| serde_json::json!({"run": {"workflow": {"namespace": "tests", "name": name, "version": version}}});
    let leaf = || serde_json::json!([{"one": {"set": {"a": 1}}}]);
    put(bed, "ship", &[]);
    put_children(bed, "ship", "1.0.0", leaf());
    put_children(bed, "ship", "2.0.0", serde_json::json!([{"one": {"set": {"a": 2}}}]));
    let ask = serde_json::json!({"call": "agent:1.0.0@default", "with": {"agent": "ship", "input": "go"}});
    put_children(bed, "pack", "1.0.0", serde_json::json!([{"ask": ask}]));
    let children = serde_json::json!([
        {"first": run("ship", "1.0.0")}, {"last": run("ship", "latest")},
        {"inner": {"do": [{"pack": run("pack", "latest")}]}}, {"gone": run("gone", "latest")},
        {"again": run("order", "latest")},
    ]);
    put_children(bed, "order", "1.0.0", children);
    let held = Held::begin_with(bed.store.as_ref(), run_of("order"));
    let expected = [
        ("workflow:order", 1),
        ("workflow:ship@1.0.0", 1),
        ("workflow:ship", 2),
        ("workflow:pack", 1),
        ("ship", 1),
    ];
    assert_eq!(pins_of(&held), pins(&expected));
    put_children(bed, "ship", "3.0.0", leaf());
    assert_eq!(pins_of(&take_again(bed, held)), pins(&expected), "what is pinned stays");
    let alone = Held::begin_with(bed.store.as_ref(), run_of("ship"));
    assert_eq!(pins_of(&alone), None, "who names nobody pins nothing");
}

/// A parent whose step 2 has a child that is not begun.
struct Family {
    parent: Held,
    child: ExecutionKey,
}

impl Family {
    fn new(bed: &Bed) -> Self {
        let store = bed.store.as_ref();
        let mut parent = Held::begin(store);
        let child = create(store, child_of(parent.key(), None));
        let asked =
            ToolCall { step: 2, id: "a1".to_owned(), name: "ask".to_owned(), arguments: "{}".to_owned() };
        let answer = Entry::MessageCompleted(MessageCompleted {
            step: 1,
            role: "assistant".to_owned(),
            text: String::new(),
            tool_calls: vec![asked],
            finish_reason: None,
            usage: Usage::default(),
        });
        let delegated =
            Entry::Delegated(Delegated { step: 2, tool_call_id: "a1".to_owned(), child: child.id });
        let entries = vec![started(), called(1), answer, calls(2, "a1", 1), delegated];
        let transition = parent.next(entries, Target::Running);
        assert_eq!(commit(bed, transition), KEPT);
        Self { parent, child }
    }

    /// The same, with a parent that nobody holds.
    fn waiting(bed: &Bed) -> Self {
        let mut family = Self::new(bed);
        let reason = Reason::Signal;
        let suspended = ExecutionSuspended { reason, until: None, tool_call_ids: Vec::new(), steps: vec![2] };
        let target = Target::Suspended { reason, ready_at: None };
        let transition = family.parent.next(vec![Entry::ExecutionSuspended(suspended)], target);
        assert_eq!(commit(bed, transition), FREED);
        family
    }

    fn key(&self) -> &ExecutionKey {
        self.parent.key()
    }

    fn child_asks(&self, bed: &Bed) {
        self.child_asks_this(bed, Asked::open("p1"));
    }

    fn child_asks_this(&self, bed: &Bed, asked: Asked<'_>) {
        let transition = take(bed, &self.child).ask(&[asked]);
        assert_eq!(commit(bed, transition), FREED);
    }

    fn child_ends(&self, bed: &Bed) {
        let transition = take(bed, &self.child).complete();
        assert_eq!(commit(bed, transition), FREED);
    }

    fn relay(&self, bed: &Bed) -> Option<Relayed> {
        bed.store.child_relay(&self.child).unwrap()
    }
}

fn a_question_is_told_to_a_parent_that_waits(bed: &Bed) {
    let family = Family::waiting(bed);
    assert!(family.relay(bed).is_none(), "there is nothing to tell");
    family.child_asks(bed);
    let told = family.relay(bed).unwrap();
    assert_eq!((&told.parent, told.acted.status), (family.key(), Status::Suspended));
    assert!(told.acted.new_event.is_some());
    assert!(family.relay(bed).is_none(), "it is told once");
    let row = get(bed, family.key());
    assert_eq!((row.status, row.reason), (Status::Suspended, Some(Reason::Approval)));
    assert!(!is_claimable(bed, family.key()), "a question makes nobody go on");
    let told = lines(bed, family.key());
    let kinds: Vec<&str> = told.iter().skip(6).map(|line| line.kind.as_str()).collect();
    assert_eq!(kinds, ["approval.requested", "execution.suspended"]);
    let Ok(Entry::ApprovalRequested(asked)) = Entry::read(&told[6].kind, &told[6].payload) else { panic!() };
    assert_eq!((asked.step, asked.tool_call_id.as_str()), (2, "a1:p1"));
    let by = asked.delegated_by.unwrap();
    assert_eq!((by.execution_id, by.tool_call_id.as_str()), (family.child.id, "p1"));
}

fn an_end_makes_a_parent_ready_that_waits(bed: &Bed) {
    let family = Family::waiting(bed);
    assert_eq!(bed.store.children_open(family.key()).unwrap(), [family.child.clone()]);
    family.child_ends(bed);
    assert_eq!(family.relay(bed).unwrap().acted.tell, Tell::Workers);
    assert_eq!(last_kind(bed, family.key()), "tool.completed");
    assert!(is_claimable(bed, family.key()));
    assert!(family.relay(bed).is_none());
    assert!(bed.store.children_open(family.key()).unwrap().is_empty());
}

fn a_parent_that_is_held_gets_news_in_its_inbox(bed: &Bed) {
    let family = Family::new(bed);
    family.child_asks(bed);
    let told = family.relay(bed).unwrap();
    assert_eq!(told.acted.tell, Tell::Holder(family.parent.session));
    approve(bed, &family.child, "p1");
    family.child_ends(bed);
    family.relay(bed).unwrap();
    assert!(family.relay(bed).is_none());
    let inbox = bed.store.inbox_read(&[family.key().clone()]).unwrap().remove(0);
    let acts: Vec<&str> = inbox
        .acts
        .iter()
        .map(|(_, act)| match act {
            Act::ChildAsked(_) => "asked",
            Act::ChildDecided(_) => "decided",
            Act::ChildClosed(_) => "closed",
            Act::ChildEnded(_) => "ended",
            _ => "other",
        })
        .collect();
    assert_eq!((acts, inbox.wake), (vec!["asked", "decided", "ended"], 3));
    assert_eq!(last_kind(bed, family.key()), "delegated", "the holder writes it");
}

fn a_parent_that_is_over_takes_nothing(bed: &Bed) {
    let family = Family::waiting(bed);
    act(bed, family.key(), &ActRequest::Cancel).unwrap();
    let before = lines(bed, family.key()).len();
    family.child_ends(bed);
    assert_eq!(family.relay(bed).unwrap().acted.status, Status::Cancelled);
    assert_eq!(lines(bed, family.key()).len(), before);
    assert!(family.relay(bed).is_none());
    assert!(bed.store.children_open(family.key()).unwrap().is_empty());
}

/// A repeated parent's worker that had lost its lease, and the next repeat, may each begin one.
fn two_that_go_on_from_the_same_run_both_begin(bed: &Bed) {
    let old = Held::begin_with(bed.store.as_ref(), start());
    act(bed, old.key(), &ActRequest::Cancel).unwrap();
    for _ in 0..2 {
        let extras = Extras { goes_on_from: Some(old.key().id), ..Extras::default() };
        let next = create(bed.store.as_ref(), NewExecution { extras, ..start() });
        let row = get(bed, &next);
        assert_eq!((row.status, row.attempt, row.retry_of), (Status::Queued, 2, Some(old.key().id)));
    }
}

fn a_decision_through_the_parent_is_the_childs(bed: &Bed) {
    let family = Family::waiting(bed);
    family.child_asks(bed);
    // Also before the parent has the question: what is asked is the child's.
    let shown = approval(bed, family.key(), "a1:p1");
    assert_eq!((shown.key.id, shown.step), (family.key().id, 2));
    assert_eq!(shown.delegated_by.unwrap().execution_id, family.child.id);
    assert!(matches!(decide(bed, family.key(), "a1:p2", true), Decided::NotFound));
    assert!(matches!(decide(bed, family.key(), "p1", true), Decided::NotFound));
    let Decided::Taken { approval: row, acted } = decide(bed, family.key(), "a1:p1", true) else { panic!() };
    assert_eq!((row.key.id, row.tool_call_id.as_str()), (family.key().id, "a1:p1"));
    assert!(acted.related);
    assert!(matches!(decide(bed, &family.child, "p1", true), Decided::Already(_)));
    assert!(matches!(decide(bed, &family.child, "p1", false), Decided::Conflict(_)));
    assert!(matches!(decide(bed, family.key(), "a1:p1", false), Decided::Conflict(_)));
    assert_eq!(last_kind(bed, &family.child), "approval.decided");
    let mut foreign = decision(family.key(), "a1:p1", true);
    foreign.end_user = Some("ada".to_owned());
    assert!(matches!(bed.store.approval_decide(&scope(), &foreign).unwrap(), Decided::NotFound));
    assert!(matches!(
        bed.store.approval_decide(&stranger(), &decision(family.key(), "a1:p1", true)).unwrap(),
        Decided::NotFound
    ));
}

fn votes_through_the_parent_and_on_the_child_are_counted_together(bed: &Bed) {
    let family = Family::waiting(bed);
    let finance = Approvers { roles: Vec::new(), groups: vec!["finance".to_owned()] };
    let policy = Policy { quorum: 2, approvers: Some(finance), ..Policy::default() };
    family.child_asks_this(bed, Asked { policy: Some(&policy), ..Asked::open("p1") });
    let vote = |key: &ExecutionKey, call: &str, by: Decider| {
        bed.store.approval_decide(&scope(), &DecideRequest { by, ..decision(key, call, true) }).unwrap()
    };
    let of = |key: &str| Decider { groups: vec!["finance".to_owned()], ..decider(key) };
    let refused = vote(family.key(), "a1:p1", decider("key_1"));
    assert!(matches!(refused, Decided::Barred { why: Barred::NotAnApprover, .. }), "{refused:?}");
    let Decided::Counted(row) = vote(family.key(), "a1:p1", of("key_1")) else { panic!("not counted") };
    assert_eq!((row.key.id, row.tool_call_id.as_str(), row.votes.len()), (family.key().id, "a1:p1", 1));
    assert!(matches!(vote(&family.child, "p1", of("key_1")), Decided::Already(_)));
    assert_eq!(approval(bed, family.key(), "a1:p1").votes_needed(), 1);
    assert!(matches!(vote(&family.child, "p1", of("key_2")), Decided::Taken { .. }));
    assert_eq!(approval(bed, family.key(), "a1:p1").votes.len(), 2);
}

fn the_sweep_finds_what_was_not_told(bed: &Bed) {
    let select = |which: SweepSelect| bed.store.sweep_select(&which, 10).unwrap();
    let family = Family::waiting(bed);
    assert!(select(SweepSelect::Unrelayed).is_empty() && select(SweepSelect::Orphans).is_empty());
    family.child_asks(bed);
    assert_eq!(select(SweepSelect::Unrelayed), [family.child.clone()]);
    family.relay(bed);
    assert!(select(SweepSelect::Unrelayed).is_empty(), "a child that waits was told of");
    act(bed, family.key(), &ActRequest::Cancel).unwrap();
    assert_eq!(select(SweepSelect::Orphans), [family.child.clone()]);
    act(bed, &family.child, &ActRequest::Cancel).unwrap();
    assert!(select(SweepSelect::Orphans).is_empty());
    assert_eq!(select(SweepSelect::Unrelayed), [family.child.clone()]);
    family.relay(bed);
    assert!(select(SweepSelect::Unrelayed).is_empty());
}

fn news_are_told_once_however_many_tell_them(bed: &Bed) {
    for _ in 0..20 {
        let family = Family::waiting(bed);
        family.child_asks(bed);
        let barrier = Arc::new(Barrier::new(3));
        let told: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        usize::from(bed.store.child_relay(&family.child).unwrap().is_some())
                    })
                })
                .collect();
            racers.into_iter().map(|racer| racer.join().unwrap()).sum()
        });
        assert_eq!(told, 1);
        let asked = kinds(bed, family.key()).into_iter().filter(|kind| kind == "approval.requested").count();
        assert_eq!(asked, 1);
    }
}

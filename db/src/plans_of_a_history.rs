//! What statements touch must not grow with the number of executions that are over. A history
//! is made (`history.sql`), and each verb's statements are explained as they are sent, before
//! and after it has grown: pages and rows are counted, nothing is timed.
//!
//! The sizes are those of the test; `HOLDPOINT_HISTORY=10000,100000,1000000` makes others, and
//! `HOLDPOINT_PLANS=FILE` keeps the plans: see `docs/retention.md`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write;
use std::time::Duration;

use holdpoint_engine::ids::{ApprovalId, ExecutionId, SessionId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ApprovalStatus, AuditAct, DefinitionKind, RunType, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use uuid::Uuid;

use crate::audit_store::AuditFilter;
use crate::conn::Conn;
use crate::event_types::Channel;
use crate::explained::{Touched, touched};
use crate::plans::{ANALYZE_OURS, hot_pool};
use crate::store::StoreResult;
use crate::types::*;
use crate::{
    approval_page, children, commands, conversations, execution_claim, execution_create, executions,
    families, files, journal, messages, outgoing, parked, retention, retention_remove, retention_said,
    schedules, stats, sweeps, test_runs, webhook_deliveries, workflow_runs, workflow_states,
};

/// How many executions there are, before and after.
const SIZES: &[i64] = &[10_000, 40_000];
/// A tree over four times as many rows may be a level deeper: a page more for each way down.
const DEEPER: f64 = 1.5;
const A_FEW: i64 = 60;

/// Tables that do not grow with what is over: workers, messages that came back, sweeps, limits.
const SMALL: &[&str] = &["SEQ sessions", "SEQ command_attempts", "SEQ ticks", "SEQ limits"];

type Work = Box<dyn Fn(&mut Conn) -> StoreResult<()>>;

fn scope() -> Scope {
    Scope::new("t0", "shop")
}

fn list(filter: ExecutionFilter) -> Work {
    Box::new(move |conn| executions::execution_page(conn, &scope(), &filter).map(drop))
}

fn filter() -> ExecutionFilter {
    ExecutionFilter { limit: 50, ..ExecutionFilter::default() }
}

fn label(key: &str, value: &str) -> ExecutionFilter {
    ExecutionFilter { labels: [(key.to_owned(), value.to_owned())].into(), ..filter() }
}

fn named(kind: DefinitionKind, name: &str) -> ExecutionFilter {
    ExecutionFilter { kind_and_name: Some((kind, name.to_owned())), ..filter() }
}

fn inbox(filter: ApprovalFilter) -> Work {
    let filter = ApprovalFilter { limit: 50, ..filter };
    Box::new(move |conn| approval_page::approval_page(conn, &scope(), &filter).map(drop))
}

fn audit(filter: AuditFilter) -> Work {
    let filter = AuditFilter { limit: 50, ..filter };
    Box::new(move |conn| crate::audit::audit_list(conn, &scope(), &filter).map(drop))
}

fn select(select: SweepSelect) -> Work {
    Box::new(move |conn| sweeps::sweep_select(conn, &select, 1_000).map(drop))
}

fn work(work: impl Fn(&mut Conn) -> StoreResult<()> + 'static) -> Work {
    Box::new(work)
}

/// The execution of `t0` in the middle of the history, which stays where it is as that grows.
fn some_key(conn: &mut Conn) -> StoreResult<ExecutionKey> {
    let text = "SELECT k.id FROM execution_info k WHERE k.tenant || '/' || k.project = 't0/shop'
        AND k.created_at > 1700000000000000 + 5000000000 ORDER BY k.created_at, k.id LIMIT 1";
    let id = conn.row(text, &[])?.unwrap().id()?;
    Ok(ExecutionKey { scope: scope(), id: ExecutionId(id) })
}

fn lists() -> Vec<(&'static str, Work)> {
    let middle = Timestamp::from_micros(1_700_000_000_000_000 + 5_000_000_000);
    vec![
        ("list", list(filter())),
        (
            "list, a later page",
            list(ExecutionFilter { after: Some((middle, ExecutionId(Uuid::max()))), ..filter() }),
        ),
        ("list created_after", list(ExecutionFilter { created_after: Some(middle), ..filter() })),
        ("list status=completed", list(ExecutionFilter { status: Some(Status::Completed), ..filter() })),
        ("list status=failed (few)", list(ExecutionFilter { status: Some(Status::Failed), ..filter() })),
        (
            "list status=suspended (oldest)",
            list(ExecutionFilter { status: Some(Status::Suspended), ..filter() }),
        ),
        ("list status=running (oldest)", list(ExecutionFilter { status: Some(Status::Running), ..filter() })),
        ("list agent=desk", list(named(DefinitionKind::Agent, "desk"))),
        ("list agent=rare (few)", list(named(DefinitionKind::Agent, "rare"))),
        ("list workflow (none)", list(named(DefinitionKind::Workflow, "nothing"))),
        ("list run_type=test (few)", list(ExecutionFilter { run_type: Some(RunType::Test), ..filter() })),
        (
            "list conversation_id",
            list(ExecutionFilter { conversation_id: Some("conv_500".to_owned()), ..filter() }),
        ),
        ("list of one end user", list(ExecutionFilter { end_user: Some("user_1".to_owned()), ..filter() })),
        ("search label (a tenth)", list(label("team", "team_1"))),
        ("search label (one)", list(label("order", "o5000"))),
        ("search label (none)", list(label("order", "nothing"))),
        (
            "search label, status=failed",
            list(ExecutionFilter { status: Some(Status::Failed), ..label("team", "team_1") }),
        ),
        ("inbox", inbox(ApprovalFilter { status: Some(ApprovalStatus::Pending), ..Default::default() })),
        (
            "inbox of one tool",
            inbox(ApprovalFilter {
                status: Some(ApprovalStatus::Pending),
                tool: Some("rare".to_owned()),
                ..Default::default()
            }),
        ),
        ("approvals, all", inbox(ApprovalFilter::default())),
        (
            "approvals denied (few)",
            inbox(ApprovalFilter { status: Some(ApprovalStatus::Denied), ..Default::default() }),
        ),
        (
            "approvals expired (none)",
            inbox(ApprovalFilter { status: Some(ApprovalStatus::Expired), ..Default::default() }),
        ),
        (
            "approvals of one tool (few)",
            inbox(ApprovalFilter { tool: Some("rare".to_owned()), ..Default::default() }),
        ),
        (
            "approvals, a later page",
            inbox(ApprovalFilter { after: Some((middle, ApprovalId(Uuid::nil()))), ..Default::default() }),
        ),
    ]
}

fn reads() -> Vec<(&'static str, Work)> {
    vec![
        (
            "one execution",
            work(|conn| {
                let key = some_key(conn)?;
                executions::execution_get(conn, &key.scope, key.id).map(drop)
            }),
        ),
        (
            "its diagnosis",
            work(|conn| {
                let key = some_key(conn)?;
                // It begins a snapshot of its own.
                conn.batch("COMMIT")?;
                crate::execution_standing::execution_standing(conn, &key.scope, key.id).map(drop)
            }),
        ),
        (
            "its journal",
            work(|conn| {
                let key = some_key(conn)?;
                journal::journal_read(conn, &key.scope, key.id).map(drop)
            }),
        ),
        (
            "its events",
            work(|conn| {
                let key = some_key(conn)?;
                journal::events_read(conn, &[EventsRequest { key, after: 0, limit: 100 }]).map(drop)
            }),
        ),
        (
            "its approvals",
            work(|conn| {
                let key = some_key(conn)?;
                let filter = ApprovalFilter { execution: Some(key.id), limit: 1_000, ..Default::default() };
                crate::approvals::approval_list(conn, &key.scope, &filter).map(drop)
            }),
        ),
        (
            "its children",
            work(|conn| {
                let key = some_key(conn)?;
                children::children_open(conn, &key).map(drop)
            }),
        ),
        (
            "a conversation",
            work(|conn| conversations::conversation_get(conn, &scope(), "conv_500").map(drop)),
        ),
        (
            "its messages",
            work(|conn| {
                let filter =
                    MessageFilter { conversation: "conv_500".to_owned(), limit: 100, ..Default::default() };
                messages::message_list(conn, &scope(), &filter).map(drop)
            }),
        ),
        (
            "its approvals that wait",
            work(|conn| {
                let filter = ApprovalFilter {
                    status: Some(ApprovalStatus::Pending),
                    conversation_id: Some("conv_500".to_owned()),
                    limit: 1_000,
                    ..Default::default()
                };
                crate::approvals::approval_list(conn, &scope(), &filter).map(drop)
            }),
        ),
        ("attention", work(|conn| workflow_states::attention_list(conn, &scope(), None, 50).map(drop))),
        (
            "a workflow's active runs",
            work(|conn| workflow_states::workflow_active(conn, &scope(), "holdpoint.noop", 1_000).map(drop)),
        ),
        (
            "what one at a time waits for",
            work(|conn| {
                let of = workflow_runs::expression(&scope(), "holdpoint.noop");
                conn.rows(workflow_runs::OF_WORKFLOW, &crate::sql::binds![&of]).map(drop)
            }),
        ),
        ("audit", audit(AuditFilter::default())),
        (
            "audit of one subject",
            audit(AuditFilter { subject: Some("exe_5000".to_owned()), ..Default::default() }),
        ),
        ("audit of one actor", audit(AuditFilter { actor: Some("key_p".to_owned()), ..Default::default() })),
        ("audit of one act", audit(AuditFilter { act: Some(AuditAct::RetentionPut), ..Default::default() })),
        ("past sweeps", work(|conn| sweeps::sweep_list(conn, &scope(), 50).map(drop))),
        (
            "parked messages",
            work(|conn| {
                parked::parked_list(conn, Some(&scope()), &ParkedFilter { limit: 50, ..Default::default() })
                    .map(drop)
            }),
        ),
        ("metrics' gauges", work(|conn| stats::stats(conn).map(drop))),
    ]
}

fn acts() -> Vec<(&'static str, Work)> {
    const HOUR: Duration = Duration::from_secs(3600);
    vec![
        (
            "start under a used id",
            work(|conn| {
                let key = some_key(conn)?;
                let again = NewExecution { key, ..new_execution() };
                execution_create::execution_create_in_txn(conn, &[again], false).map(drop)
            }),
        ),
        (
            "start under a new idempotency key",
            work(|conn| {
                let idempotency =
                    Some(Idempotency { key: Some("new".to_owned()), body_digest: "d".to_owned() });
                let new = NewExecution { idempotency, ..new_execution() };
                execution_create::execution_create_in_txn(conn, &[new], false).map(drop)
            }),
        ),
        (
            "claim of the oldest",
            work(|conn| {
                let request = ClaimRequest {
                    session: SessionId("00000000-0000-7000-8000-000000000001".parse().unwrap()),
                    hinted: vec![some_key(conn)?],
                    limit: 20,
                    any: true,
                    history: HistoryLimits { messages: 100, bytes: 100_000 },
                    tenant_concurrency: None,
                };
                execution_claim::execution_claim_in_txn(conn, &request).map(drop)
            }),
        ),
        ("sweep stale", select(SweepSelect::Stale { scope: None, timeout: None })),
        (
            "sweep stale of a project",
            select(SweepSelect::Stale { scope: Some(scope()), timeout: Some(HOUR) }),
        ),
        ("sweep stuck: leases", select(SweepSelect::LeaseLost)),
        ("sweep stuck: unclaimed", select(SweepSelect::Unclaimed { since: HOUR, of: Unclaimed::Any })),
        ("sweep timers", select(SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Timers })),
        ("sweep timers: news", select(SweepSelect::Unrelayed)),
        ("sweep timers: orphans", select(SweepSelect::Orphans)),
        ("sweep timers: test runs", work(|conn| test_runs::test_runs_late(conn, 1_000).map(drop))),
        ("sweep retries", select(SweepSelect::Unclaimed { since: Duration::ZERO, of: Unclaimed::Retries })),
        ("sweep schedules", work(|conn| schedules::schedules_due(conn, 1_000).map(drop))),
        ("sweep files", work(|conn| files::files_unused(conn, HOUR, 1_000).map(drop))),
        ("sweep retention: commands", work(|conn| commands::commands_expire(conn, HOUR, 1_000).map(drop))),
        ("sweep retention: records", work(|conn| sweeps::sweeps_expire(conn, HOUR, 1_000).map(drop))),
        (
            "sweep retention: projects",
            work(|conn| retention::retention_turn_in_txn(conn, Some(HOUR), 5).map(drop)),
        ),
        (
            "sweep retention: what was said",
            work(|conn| {
                let due = retention::due(conn, &scope(), Some(HOUR))?.unwrap();
                retention_said::said_remove_in_txn(conn, &due, 50).map(drop)
            }),
        ),
        (
            "sweep retention: 100 executions",
            work(|conn| {
                let due = retention::due(conn, &scope(), Some(HOUR))?.unwrap();
                let walked = retention::retention_walk(conn, &due, 170)?;
                let finished = &walked.finished[..100];
                let going = families::removable(conn, finished, due.before)?;
                let gone = retention_remove::retention_remove_in_txn(conn, &going, due.before)?;
                // With their children and parents.
                assert!((100..=120).contains(&gone), "{gone}");
                Ok(())
            }),
        ),
        ("events due", work(|conn| outgoing::outgoing_events(conn, Channel::Exchange, 100).map(drop))),
        ("webhooks due", work(|conn| webhook_deliveries::delivery_claim_in_txn(conn, 100, HOUR).map(drop))),
        (
            "webhooks' old deliveries",
            work(|conn| webhook_deliveries::delivery_clean(conn, HOUR, 1_000).map(drop)),
        ),
    ]
}

fn new_execution() -> NewExecution {
    NewExecution {
        key: ExecutionKey { scope: scope(), id: ExecutionId(Uuid::now_v7()) },
        kind: DefinitionKind::Workflow,
        name: "holdpoint.noop".to_owned(),
        version: None,
        input: None,
        messages: None,
        conversation: Conversation::None,
        idempotency: None,
        run_type: RunType::Production,
        delay: None,
        metadata: "{}".to_owned(),
        labels: Default::default(),
        end_user: None,
        created_by: "key_test".to_owned(),
        extras: Default::default(),
    }
}

fn sizes() -> Vec<i64> {
    let read = |text: String| text.split(',').map(|size| size.trim().parse().unwrap()).collect();
    std::env::var("HOLDPOINT_HISTORY").map_or_else(|_| SIZES.to_vec(), read)
}

/// In steps, so that no statement is longer than statements may be.
fn grow(conn: &mut Conn, from: i64, to: i64) -> StoreResult<()> {
    conn.batch("SET synchronous_commit = off; SET statement_timeout = 0; SET enable_hashjoin = on;")?;
    let mut begin = from;
    while begin < to {
        let end = to.min(begin + 50_000);
        let text = include_str!("history.sql").replace("FROM_N", &(begin + 1).to_string());
        conn.batch(&text.replace("TO_N", &end.to_string()))?;
        begin = end;
    }
    conn.batch(&format!("{ANALYZE_OURS}; SET enable_hashjoin = off;"))
}

#[test]
fn what_statements_touch_does_not_grow_with_what_is_over() {
    let (pool, schema) = hot_pool();
    let sizes = sizes();
    let by_size = pool.with(|conn| {
        conn.batch(include_str!("living.sql"))?;
        let mut by_size: Vec<Vec<(&str, Touched)>> = Vec::new();
        let mut size = 0;
        for wanted in &sizes {
            grow(conn, size, *wanted)?;
            size = *wanted;
            let all = [lists(), reads(), acts()].into_iter().flatten();
            let one = |(name, work): (&'static str, Work)| Ok((name, touched(conn, work)?));
            by_size.push(all.map(one).collect::<StoreResult<_>>()?);
        }
        pages_lead_to_all_that_fit(conn)?;
        conn.batch(&format!("DROP SCHEMA {schema} CASCADE"))?;
        Ok(by_size)
    });
    let by_size = by_size.unwrap();
    if let Ok(file) = std::env::var("HOLDPOINT_PLANS") {
        std::fs::write(file, told(&sizes, &by_size)).unwrap();
    }
    let (first, last) = (by_size.first().unwrap(), by_size.last().unwrap());
    for (at, ((name, small), (_, large))) in first.iter().zip(last).enumerate() {
        let walked = large.ways.iter().find(|way| way.starts_with("SEQ") && !SMALL.contains(&way.as_str()));
        assert_eq!(walked, None, "{name}: {:#?}", large.plans);
        // A list looks at so many rows at most, and asks for the status, or the info, of each; led by a
        // label, for both.
        let asked = if name.starts_with("search label") { 4 } else { 3 };
        let most = if at < lists().len() { asked * executions::LOOKED_AT as i64 } else { 0 };
        let pages = ((small.pages as f64 * DEEPER) as i64 + A_FEW).max(most * 5);
        assert!(
            large.pages <= pages,
            "{name}: {} pages, then {}: {:#?}",
            small.pages,
            large.pages,
            large.plans
        );
        let rows = ((small.rows * DEEPER) as i64 + A_FEW).max(most);
        assert!(
            large.rows as i64 <= rows,
            "{name}: {} rows, then {}: {:#?}",
            small.rows,
            large.rows,
            large.plans
        );
    }
}

/// A page that looked at many and found few says where to go on, until all were looked at.
fn pages_lead_to_all_that_fit(conn: &mut Conn) -> StoreResult<()> {
    let total = "SELECT count(*) FROM execution_info i JOIN executions e
        ON e.tenant = i.tenant AND e.project = i.project AND e.id = i.id
        WHERE i.tenant || '/' || i.project = 't0/shop'";
    for (what, wanted) in [
        ("e.status = 'failed'", ExecutionFilter { status: Some(Status::Failed), limit: 2, ..filter() }),
        ("e.status = 'suspended'", ExecutionFilter { status: Some(Status::Suspended), limit: 7, ..filter() }),
        ("i.name = 'rare'", named(DefinitionKind::Agent, "rare")),
    ] {
        let count = conn.row(&format!("{total} AND {what}"), &[])?.unwrap().big()? as usize;
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page =
                executions::execution_page(conn, &scope(), &ExecutionFilter { after, ..wanted.clone() })?;
            assert!(page.rows.len() <= wanted.limit);
            found.extend(page.rows.iter().map(|row| (row.created_at, row.key.id)));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert!(count > 0 && pages > 1, "{what}: {count} in {pages} pages");
        assert_eq!(found.len(), count, "{what}: in {pages} pages");
        assert!(found.is_sorted_by(|one, next| one > next), "{what}: newest first, each once");
    }
    Ok(())
}

/// A table of all of them, and the plans over the longest history.
fn told(sizes: &[i64], by_size: &[Vec<(&str, Touched)>]) -> String {
    let mut text = String::from("what | indexes");
    for size in sizes {
        let _ = write!(text, " | {size}: ms, pages, rows");
    }
    text.push('\n');
    let last = by_size.last().unwrap();
    for (at, (name, touched)) in last.iter().enumerate() {
        let ways: Vec<&str> = touched.ways.iter().map(String::as_str).collect();
        let _ = write!(text, "{name} | {}", ways.join(", "));
        for (_, touched) in by_size.iter().map(|rows| &rows[at]) {
            let _ = write!(text, " | {:.2}, {}, {:.0}", touched.millis, touched.pages, touched.rows);
        }
        text.push('\n');
    }
    for (name, touched) in last {
        let _ = write!(text, "\n==== {name}\n{}\n", touched.plans.join("\n--\n"));
    }
    text
}

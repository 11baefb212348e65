//! Sweeps: when each is due, the passes that were, and the rows that a pass looks at.

use std::time::Duration;

use holdpoint_engine::ids::SweepId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::AuditAct;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};
use serde_json::json;

use crate::audit::{self, Entry};
use crate::children;
use crate::conn::Conn;
use crate::row::Row;
use crate::session::micros;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{StoreError, SweepReport, SweepRow, SweepSelect, SweepSource, SweepStart, Unclaimed};

/// No tick is further ahead than this, or than its period where that is longer.
const FURTHEST: Duration = Duration::from_secs(600);

/// Takes a due tick to emit, once for each `again`.
pub(crate) fn tick_take_in_txn(
    conn: &mut Conn,
    kind: SweepKind,
    again: Duration,
) -> StoreResult<Option<Timestamp>> {
    // A time further ahead than any period was written before the clock went back.
    let take = "UPDATE ticks SET emitted_at = (SELECT hp_now())
         WHERE kind = ? AND (due_at <= (SELECT hp_now()) OR due_at > (SELECT hp_now()) + ?)
           AND (emitted_at IS NULL OR emitted_at <= (SELECT hp_now()) - ? OR emitted_at > (SELECT hp_now()))
         RETURNING due_at";
    conn.rows(
        "INSERT INTO ticks (kind, due_at) VALUES (?, (SELECT hp_now())) ON CONFLICT DO NOTHING",
        &binds![kind.as_str()],
    )?;
    let ahead = micros(again.max(FURTHEST));
    let taken = conn.row(take, &binds![kind.as_str(), ahead, micros(again)])?;
    taken.map(|mut row| row.time()).transpose()
}

/// The next tick is due a period after this one was, so that looking late does not add up; from
/// now, where the pass took longer than that.
pub(crate) fn tick_close(conn: &mut Conn, kind: SweepKind, period: Duration) -> StoreResult<()> {
    conn.rows(
        "INSERT INTO ticks (kind, due_at) VALUES (?, (SELECT hp_now()) + ?)
         ON CONFLICT (kind) DO UPDATE SET emitted_at = NULL, due_at = CASE
             WHEN ticks.due_at <= (SELECT hp_now()) AND ticks.due_at + ? > (SELECT hp_now())
             THEN ticks.due_at + ? ELSE excluded.due_at END
           WHERE ticks.due_at <= (SELECT hp_now()) OR ticks.due_at > (SELECT hp_now()) + ?",
        &binds![kind.as_str(), micros(period), micros(period), micros(period), micros(period.max(FURTHEST))],
    )
    .map(drop)
}

/// Records a pass; `false` if one of this id has finished.
pub(crate) fn sweep_open(conn: &mut Conn, start: &SweepStart) -> StoreResult<bool> {
    let scope = start.scope.as_ref();
    let opened = conn.rows(
        "INSERT INTO sweeps (id, kind, source, tenant, project, dry_run, started_at)
         VALUES (?, ?, ?, ?, ?, ?, (SELECT hp_now()))
         ON CONFLICT (id) DO UPDATE SET started_at = excluded.started_at WHERE sweeps.finished_at IS NULL
         RETURNING id",
        &binds![
            start.id.0,
            start.kind.as_str(),
            start.source.as_str(),
            scope.map(|scope| &*scope.tenant),
            scope.map(|scope| &*scope.project),
            start.dry_run,
        ],
    )?;
    Ok(!opened.is_empty())
}

/// One transaction's work: ends a pass, or removes its record.
pub(crate) fn sweep_close_in_txn(
    conn: &mut Conn,
    start: &SweepStart,
    report: &SweepReport,
    keep: bool,
) -> StoreResult<()> {
    let id = start.id;
    if !keep {
        return conn.rows("DELETE FROM sweeps WHERE id = ?", &binds![id.0]).map(drop);
    }
    if is_audited(start, report) {
        let details = json!({
            "kind": start.kind, "source": start.source.as_str(), "scanned": report.scanned,
            "cleaned_up": report.cleaned_up, "failed": report.failed, "skipped": report.skipped,
        });
        let (scope, act, subject) = (start.scope.as_ref(), AuditAct::SweepRun, id.to_string());
        audit::append(conn, &Entry { scope, actor: &start.by, end_user: None, act, subject, details })?;
    }
    conn.rows(
        "UPDATE sweeps SET finished_at = (SELECT hp_now()), scanned = ?, cleaned_up = ?, failed = ?, skipped = ?
         WHERE id = ?",
        &binds![report.scanned, report.cleaned_up, report.failed, report.skipped, id.0],
    )
    .map(drop)
}

/// A pass that acted on rows for good, and each that a caller asked for. Passes that say again
/// what is ready, or pass news on, come every few seconds and change nothing; what they end by
/// themselves is told with the execution.
fn is_audited(start: &SweepStart, report: &SweepReport) -> bool {
    let acted = report.cleaned_up + report.failed > 0;
    let for_good = matches!(start.kind, SweepKind::Stale | SweepKind::Retention | SweepKind::Files);
    !start.dry_run && (start.source == SweepSource::Api || (acted && for_good))
}

/// Removes records of passes that began longer than `kept` ago; how many.
pub(crate) fn sweeps_expire(conn: &mut Conn, kept: Duration, limit: usize) -> StoreResult<usize> {
    let removed = conn.rows(
        "DELETE FROM sweeps WHERE id IN (
           SELECT id FROM sweeps WHERE started_at <= (SELECT hp_now()) - ? ORDER BY started_at LIMIT ?) RETURNING id",
        &binds![micros(kept), limit as i64],
    )?;
    Ok(removed.len())
}

/// Past passes of the scope, and those over all, newest first.
pub(crate) fn sweep_list(conn: &mut Conn, scope: &Scope, limit: usize) -> StoreResult<Vec<SweepRow>> {
    let rows = conn.rows(
        "SELECT id, kind, source, tenant, project, dry_run, started_at, finished_at, scanned, cleaned_up, failed,
           skipped FROM sweeps WHERE tenant IS NULL OR (tenant = ? AND project = ?)
         ORDER BY started_at DESC, id DESC LIMIT ?",
        &binds![&*scope.tenant, &*scope.project, limit as i64],
    )?;
    rows.into_iter().map(read_sweep).collect()
}

fn read_sweep(mut row: Row) -> StoreResult<SweepRow> {
    let wrong = |what: &str| StoreError::Corrupt(format!("`{what}` is no kind or source of a sweep"));
    let (id, kind, source) = (SweepId(row.id()?), row.text()?, row.text()?);
    let kind = SweepKind::parse(&kind).ok_or_else(|| wrong(&kind))?;
    let source = SweepSource::parse(&source).ok_or_else(|| wrong(&source))?;
    let (tenant, project) = (row.opt_text()?, row.opt_text()?);
    let scope = tenant.zip(project).map(|(tenant, project)| Scope::new(&tenant, &project));
    Ok(SweepRow {
        start: SweepStart { id, kind, source, by: source.as_str().to_owned(), scope, dry_run: row.bool()? },
        started_at: row.time()?,
        finished_at: row.opt_time()?,
        report: SweepReport {
            scanned: row.big()?,
            cleaned_up: row.big()?,
            failed: row.big()?,
            skipped: row.big()?,
        },
    })
}

impl SweepSource {
    fn parse(word: &str) -> Option<Self> {
        [SweepSource::Scheduler, SweepSource::Api, SweepSource::Cron]
            .into_iter()
            .find(|one| one.as_str() == word)
    }
}

/// The rows that a sweep looks at, oldest first.
pub(crate) fn sweep_select(
    conn: &mut Conn,
    select: &SweepSelect,
    limit: usize,
) -> StoreResult<Vec<ExecutionKey>> {
    let limit = limit as i64;
    let rows = match select {
        SweepSelect::Stale { scope, timeout } => select_stale(conn, scope.as_ref(), *timeout, limit)?,
        SweepSelect::LeaseLost => conn.rows(
            "SELECT e.tenant, e.project, e.id FROM executions e LEFT JOIN sessions s ON s.id = e.owner
             WHERE e.owner IS NOT NULL AND (s.id IS NULL OR s.expires_at <= (SELECT hp_now()))
             ORDER BY s.expires_at, e.updated_at LIMIT ?",
            &binds![limit],
        )?,
        SweepSelect::Unrelayed => conn.rows(children::UNRELAYED, &binds![limit])?,
        SweepSelect::Orphans => conn.rows(children::ORPHANS, &binds![limit])?,
        SweepSelect::Unclaimed { since, of } => {
            let which = match of {
                Unclaimed::Any => "",
                Unclaimed::Timers => {
                    "AND (e.status = 'queued' OR (e.status = 'suspended' AND e.reason = 'timer'))"
                }
                // Only suspended ones have that reason; said of the status, it would lead through all of
                // those that wait for something else.
                Unclaimed::Retries => "AND e.reason = 'retry'",
            };
            let text = format!(
                "SELECT e.tenant, e.project, e.id FROM executions e
                 WHERE e.owner IS NULL AND e.ready_at <= (SELECT hp_now()) - ? {which} ORDER BY e.ready_at LIMIT ?"
            );
            conn.rows(&text, &binds![micros(*since), limit])?
        }
    };
    rows.into_iter().map(|mut row| row.key()).collect()
}

/// When an approval is too old, as SQL; its value is the timeout or NULL, twice.
pub(crate) const DUE: &str = "CASE WHEN NOT a.expiry_named AND a.requested_at + ? < a.expires_at
    THEN a.requested_at + ? ELSE a.expires_at END";

fn select_stale(
    conn: &mut Conn,
    scope: Option<&Scope>,
    timeout: Option<Duration>,
    limit: i64,
) -> StoreResult<Vec<Row>> {
    let timeout = timeout.map(micros);
    let narrowed = if scope.is_some() { "a.tenant = ? AND a.project = ? AND" } else { "" };
    let expired = if timeout.is_some() { "" } else { "AND a.expires_at <= (SELECT hp_now())" };
    let text = format!(
        "SELECT q.tenant, q.project, q.id, min(q.due) FROM (
           SELECT e.tenant, e.project, e.id, {DUE} AS due
           FROM approvals a JOIN executions e ON e.tenant = a.tenant AND e.project = a.project AND e.id = a.execution
           WHERE {narrowed} a.status = 'pending' {expired} AND e.status = 'suspended' AND e.owner IS NULL
             AND coalesce(e.reason, '') <> 'paused' AND (e.ready_at IS NULL OR e.ready_at > (SELECT hp_now()))
         ) q WHERE q.due <= (SELECT hp_now())
         GROUP BY q.tenant, q.project, q.id ORDER BY min(q.due), q.id LIMIT ?"
    );
    let mut values = binds![timeout, timeout].to_vec();
    if let Some(scope) = scope {
        values.extend(binds![&*scope.tenant, &*scope.project]);
    }
    values.push(limit.into());
    conn.rows(&text, &values)
}

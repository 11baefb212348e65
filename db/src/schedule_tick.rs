//! One tick of a schedule, in one transaction: the schedule's row is locked, what is due is
//! looked at again, the execution is made under an id that follows from the tick, and the
//! schedule moves on. A process that dies in between leaves the tick due; whoever comes second
//! finds it settled. Nobody waits for a schedule that another transaction has locked.
//!
//! Locks are taken in the order execution, schedule, as by the end of an execution.

use holdpoint_engine::effect::Act;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::schedule::{Plan, plan, tick_id};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Overlap, RunType, SkippedFor, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::execution_create::execution_create_in_txn;
use crate::failpoint;
use crate::outside::{self, Locked, Opened};
use crate::schedule_types::*;
use crate::schedules::{LOOK_AGAIN, schedule_get};
use crate::session::now;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{Acted, Conversation, Created, Extras, NewExecution, StoreError};

/// Who cancels a run for the next one.
const BY: &str = "holdpoint";
const DUE: &str = "AND e.due_at <= (SELECT hp_now())";

/// One transaction's work.
pub(crate) fn schedule_tick_in_txn(conn: &mut Conn, key: &ScheduleKey) -> StoreResult<Ticked> {
    let Some(peeked) = schedule_get(conn, &key.scope, &key.name, DUE)? else { return Ok(Ticked::Nothing) };
    let cancels = peeked.document.overlap == Overlap::Cancel;
    let old = match peeked.active.filter(|_| cancels) {
        Some(id) => outside::lock(conn, &ExecutionKey { scope: key.scope.clone(), id })?,
        None => None,
    };
    let how = format!("{DUE} @skip");
    let Some(row) = schedule_get(conn, &key.scope, &key.name, &how)? else { return Ok(Ticked::Nothing) };
    if cancels && row.active != peeked.active {
        return Ok(Ticked::Nothing);
    }
    let now = now(conn)?;
    let mut tick = Tick { row, now, started: None, cancelled: None };
    tick.see_active(conn)?;
    tick.take(conn, old)?;
    failpoint::hit("db.schedule.between");
    tick.write(conn)
}

/// A schedule under our lock, and what its pass did.
struct Tick {
    row: ScheduleRow,
    now: Timestamp,
    started: Option<ExecutionKey>,
    cancelled: Option<(ExecutionKey, Acted)>,
}

impl Tick {
    /// A run that is over is not active, whoever forgot to say so.
    fn see_active(&mut self, conn: &mut Conn) -> StoreResult<()> {
        let Some(id) = self.row.active else { return Ok(()) };
        let key = ExecutionKey { scope: self.row.key.scope.clone(), id };
        let found = conn.row(
            "SELECT e.status, i.finished_at FROM executions e
               JOIN execution_info i ON i.tenant = e.tenant AND i.project = e.project AND i.id = e.id
             WHERE e.tenant = ? AND e.project = ? AND e.id = ?",
            &key_row(&key),
        )?;
        let (status, finished): (Option<Status>, _) = match found {
            Some(mut row) => (Some(row.word()?), row.opt_time()?),
            None => (None, None),
        };
        if status.is_none_or(Status::is_terminal) {
            self.over(finished.unwrap_or(self.now));
        }
        Ok(())
    }

    /// No run is active any more.
    fn over(&mut self, at: Timestamp) {
        self.row.active = None;
        if let (Some(after), None) = (self.row.document.timing.after(), self.row.next_tick) {
            self.row.next_tick = Some(at.plus(after));
        }
    }

    /// Carries out the tick that waits, or what is due by the timing.
    fn take(&mut self, conn: &mut Conn, old: Option<Locked>) -> StoreResult<()> {
        if let Some(waiting) = self.row.waiting_tick.filter(|_| self.row.active.is_none()) {
            self.row.waiting_tick = None;
            return match self.is_held(conn)? {
                true => self.skip(waiting, SkippedFor::Workflow),
                false => self.start(conn, waiting),
            };
        }
        let Some(due) = self.row.next_tick.filter(|due| *due <= self.now) else { return Ok(()) };
        let timing = self.row.document.timing.timing(self.row.anchor)?;
        let Plan { run, missed, next } = plan(&timing, self.row.document.catch_up, due, self.now);
        self.row.missed += missed;
        self.row.next_tick = next;
        let Some(due) = run else { return Ok(()) };
        if self.is_held(conn)? {
            return self.skip(due, SkippedFor::Workflow);
        }
        match (self.row.active, self.row.document.overlap) {
            (None, _) => self.start(conn, due),
            (Some(_), Overlap::Skip) => self.skip(due, SkippedFor::Active),
            (Some(_), Overlap::Queue) if self.row.waiting_tick.is_some() => {
                self.skip(due, SkippedFor::Waiting)
            }
            (Some(_), Overlap::Queue) => {
                self.row.waiting_tick = Some(due);
                Ok(())
            }
            (Some(_), Overlap::Cancel) => self.replace(conn, due, old),
        }
    }

    /// Whether its workflow is not active, or was stopped by a final failure.
    fn is_held(&self, conn: &mut Conn) -> StoreResult<bool> {
        let ScheduleDocument { kind, target, .. } = &self.row.document;
        if *kind != DefinitionKind::Workflow {
            return Ok(false);
        }
        let Scope { tenant, project } = &self.row.key.scope;
        let held = conn.row(
            "SELECT state <> 'active' OR schedule_stopped FROM workflows
             WHERE tenant = ? AND project = ? AND name = ?",
            &binds![&**tenant, &**project, target],
        )?;
        held.map_or(Ok(false), |mut row| row.bool())
    }

    /// Cancels the run before. One that a worker holds ends by its hand: the tick waits for it.
    fn replace(&mut self, conn: &mut Conn, tick: Timestamp, old: Option<Locked>) -> StoreResult<()> {
        if let Some(older) = self.row.waiting_tick.replace(tick) {
            self.skip(older, SkippedFor::Waiting)?;
        }
        let Some(old) = old.filter(|old| !old.status.is_terminal()) else { return Ok(()) };
        let (key, cancel) = (old.key.clone(), Act::Cancel { by: BY.to_owned() });
        let acted = match old.owner {
            Some(holder) => outside::tell_holder(conn, &old, holder, &cancel)?,
            None => {
                let mut opened = Opened::load(conn, old)?;
                opened.act(&cancel);
                opened.write(conn)?
            }
        };
        let is_over = acted.status.is_terminal();
        self.cancelled = Some((key, acted));
        if is_over {
            self.over(self.now);
            self.row.waiting_tick = None;
            self.start(conn, tick)?;
        }
        Ok(())
    }

    fn skip(&mut self, tick: Timestamp, why: SkippedFor) -> StoreResult<()> {
        self.row.skipped += 1;
        self.row.last_skipped = Some((tick, why));
        if let Some(after) = self.row.document.timing.after() {
            self.row.next_tick = Some(self.now.plus(after));
        }
        Ok(())
    }

    fn start(&mut self, conn: &mut Conn, tick: Timestamp) -> StoreResult<()> {
        let new = self.execution(tick);
        let started = match execution_create_in_txn(conn, std::slice::from_ref(&new), false)?.pop() {
            Some(Created::New { key, .. }) => key,
            Some(Created::Existing { id, .. }) => ExecutionKey { scope: new.key.scope, id },
            Some(Created::UnknownDefinition) => return self.skip(tick, SkippedFor::UnknownDefinition),
            Some(Created::WorkflowNotActive { .. }) => return self.skip(tick, SkippedFor::Workflow),
            // `concurrency: 1`: somebody else's start waits for the end of a run.
            Some(Created::Coalesced { .. }) => return self.skip(tick, SkippedFor::Waiting),
            other => return Err(StoreError::Corrupt(format!("a tick's start was answered by {other:?}"))),
        };
        let [tenant, project, id] = key_row(&started);
        let [schedule, at] = binds![&self.row.key.name, tick];
        conn.rows(
            "INSERT INTO schedule_runs (tenant, project, execution, schedule, tick) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
            &[tenant, project, id, schedule, at],
        )?;
        self.row.active = Some(started.id);
        self.row.last = Some((tick, started.id));
        self.row.runs += 1;
        self.started = Some(started);
        Ok(())
    }

    fn execution(&self, tick: Timestamp) -> NewExecution {
        let ScheduleRow { key, id, document, created_by, .. } = &self.row;
        let id = tick_id(*id, tick);
        let conversation = match document.kind {
            DefinitionKind::Agent => {
                Conversation::Made(id.to_string().replacen(ExecutionId::PREFIX, "cnv", 1))
            }
            DefinitionKind::Workflow => Conversation::None,
        };
        NewExecution {
            key: ExecutionKey { scope: key.scope.clone(), id },
            kind: document.kind,
            name: document.target.clone(),
            version: document.version,
            input: document.input.clone(),
            messages: None,
            conversation,
            idempotency: None,
            run_type: RunType::Production,
            delay: None,
            metadata: document.metadata.clone(),
            labels: document.labels.clone(),
            end_user: None,
            created_by: created_by.clone(),
            extras: Extras { scheduled: true, ..Extras::default() },
        }
    }

    /// When a pass looks at it again: at the next tick, and soon where an end is waited for.
    fn due_at(&self) -> Option<Timestamp> {
        let waits = self.row.waiting_tick.is_some() || self.row.next_tick.is_none();
        let again = waits.then(|| self.now.plus(LOOK_AGAIN));
        [self.row.next_tick, again].into_iter().flatten().min()
    }

    fn write(self, conn: &mut Conn) -> StoreResult<Ticked> {
        let due_at = self.due_at();
        let Tick { row, now, started, cancelled } = self;
        let values = binds![
            due_at,
            row.next_tick,
            row.waiting_tick,
            row.active.map(|id| id.0),
            row.last.map(|(tick, _)| tick),
            row.last.map(|(_, id)| id.0),
            row.runs,
            row.missed,
            row.skipped,
            row.last_skipped.map(|(tick, _)| tick),
            row.last_skipped.map(|(_, why)| why.as_str()),
            &*row.key.scope.tenant,
            &*row.key.scope.project,
            &row.key.name,
        ];
        conn.rows(
            "UPDATE schedules SET due_at = ?, next_tick = ?, waiting_tick = ?, active = ?, last_tick = ?,
               last_execution = ?, runs = ?, missed = ?, skipped = ?, skipped_at = ?, skipped_for = ?
             WHERE tenant = ? AND project = ? AND name = ?",
            &values,
        )?;
        let is_due_again = due_at.is_some_and(|due| due <= now);
        Ok(Ticked::Done { started, cancelled, is_due_again })
    }
}

//! What changes an execution from outside, under the lock of its row.
//!
//! While a session holds it, an act becomes a row of its inbox. While nobody does, the same
//! functions of the engine that a worker uses give the lines, and they are written here;
//! acts that a lost worker left in the inbox come first.

use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::{Entry, Line};
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::outside;
use holdpoint_engine::run::Run;
use holdpoint_engine::status::{Failure, Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::transcript;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::conversations::{self, Leaving};
use crate::execution_claim::{inboxes, journals, key_row};
use crate::execution_commit::{WRITE_INFOS, number, remove_inboxes};
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{Acted, StoreError, Tell};
use crate::{commit_approvals, extras, journal, session, workflow_end, workflow_runs};

/// A row under our lock.
pub(crate) struct Locked {
    pub(crate) key: ExecutionKey,
    pub(crate) status: Status,
    pub(crate) reason: Option<Reason>,
    pub(crate) owner: Option<SessionId>,
    pub(crate) wake: i64,
    pub(crate) last_seq: i64,
    pub(crate) last_event: i64,
    pub(crate) lost: i32,
    pub(crate) ready_at: Option<Timestamp>,
    pub(crate) end_user: Option<String>,
    /// Whether there is more to it than most executions have: a parent or children, perhaps.
    pub(crate) extras: bool,
    /// The database's time, once the lock was there.
    pub(crate) now: Timestamp,
}

const LOCK: &str = "
    SELECT e.status, e.reason, e.owner, e.wake, e.last_seq, e.last_event, e.lost, e.ready_at, i.end_user, i.extras
    FROM executions e JOIN execution_info i ON i.tenant = e.tenant AND i.project = e.project AND i.id = e.id
    WHERE e.tenant = ? AND e.project = ? AND e.id = ?";

/// Locks an execution's row; `None` where there is none.
pub(crate) fn lock(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Option<Locked>> {
    lock_by(conn, key, "@lock")
}

/// The same, without waiting: `None` also where somebody else has it.
pub(crate) fn try_lock(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<Option<Locked>> {
    lock_by(conn, key, "@skip")
}

fn lock_by(conn: &mut Conn, key: &ExecutionKey, how: &str) -> StoreResult<Option<Locked>> {
    let Some(mut row) = conn.row(&format!("{LOCK} {how}"), &key_row(key))? else { return Ok(None) };
    Ok(Some(Locked {
        key: key.clone(),
        status: row.word()?,
        reason: row.opt_word()?,
        owner: row.opt_id()?.map(SessionId),
        wake: row.big()?,
        last_seq: row.big()?,
        last_event: row.big()?,
        lost: row.int()?,
        ready_at: row.opt_time()?,
        end_user: row.opt_text()?,
        extras: row.bool()?,
        now: session::now(conn)?,
    }))
}

/// Puts an act into the inbox of whoever holds the execution.
pub(crate) fn tell_holder(
    conn: &mut Conn,
    locked: &Locked,
    holder: SessionId,
    act: &Act,
) -> StoreResult<Acted> {
    let [tenant, project, id] = key_row(&locked.key);
    let n = Bind::from(locked.wake + 1);
    let act = serde_json::to_string(act).map_err(|error| StoreError::Refused(error.to_string()))?;
    conn.rows(
        "UPDATE executions SET wake = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[n, tenant, project, id],
    )?;
    conn.rows(
        "INSERT INTO inbox (tenant, project, execution, n, act) VALUES (?, ?, ?, ?, ?)",
        &[tenant, project, id, n, Bind::from(&act)],
    )?;
    Ok(Acted { status: locked.status, new_event: None, tell: Tell::Holder(holder), related: locked.extras })
}

/// An execution that nobody holds, with its journal folded.
pub(crate) struct Opened {
    pub(crate) locked: Locked,
    pub(crate) run: Run,
    entries: Vec<Entry>,
    had_acts: bool,
    /// Nothing of what came makes it go on.
    stays: bool,
}

impl Opened {
    /// Folds the journal and takes in what lies in the inbox.
    pub(crate) fn load(conn: &mut Conn, locked: Locked) -> StoreResult<Self> {
        let key = std::slice::from_ref(&locked.key);
        let lines = journals(conn, key)?.remove(&locked.key).unwrap_or_default();
        let run = Run::fold(&lines, locked.last_seq, locked.last_event)
            .map_err(|error| StoreError::Corrupt(format!("{}: {error}", locked.key.id)))?;
        let acts = if locked.wake > 0 { inboxes(conn, key)?.remove(&locked.key) } else { None };
        let mut opened = Self { locked, run, entries: Vec::new(), had_acts: acts.is_some(), stays: false };
        for (_, act) in acts.unwrap_or_default() {
            opened.act(&act);
        }
        Ok(opened)
    }

    /// Takes an act in; nothing more happens to one that has ended.
    pub(crate) fn act(&mut self, act: &Act) {
        if self.run.ended.is_some() {
            return;
        }
        // What was under way went with its worker: nobody is waited for.
        self.push(match act {
            Act::EndPaused { by } => outside::end_paused(&self.run, by),
            _ => outside::act(&self.run, act),
        });
    }

    /// Writes a line down that changes nothing of what is to be done.
    pub(crate) fn note(&mut self, entry: Entry) {
        self.push(vec![entry]);
    }

    /// Ends it with an error, unless it has ended.
    pub(crate) fn fail(&mut self, reason: Reason, message: &str) {
        if self.run.ended.is_none() {
            self.push(outside::fail(&self.run, reason, message));
        }
    }

    /// What came makes nobody look at it: it is ready when it was to be.
    pub(crate) fn stay(&mut self) {
        self.stays = !self.had_acts;
    }

    /// What came is for readers: it stays where it is, and says so where that looks otherwise.
    pub(crate) fn leave_suspended(&mut self) {
        self.stays = !self.had_acts;
        let waits = matches!(self.locked.reason, Some(Reason::Signal | Reason::Approval));
        if !waits || self.run.asking().next().is_some() {
            return;
        }
        let suspended = outside::suspend_for_children(&self.run);
        if self.locked.reason != Some(suspended.reason) {
            self.locked.reason = Some(suspended.reason);
            self.push(vec![Entry::ExecutionSuspended(suspended)]);
        }
    }

    fn push(&mut self, entries: Vec<Entry>) {
        for entry in &entries {
            self.run.apply(entry);
        }
        self.entries.extend(entries);
    }

    /// Writes what came of it: ended, held by a pause, or ready.
    pub(crate) fn write(mut self, conn: &mut Conn) -> StoreResult<Acted> {
        if self.entries.is_empty() && !self.had_acts {
            let related = self.locked.extras;
            return Ok(Acted { status: self.locked.status, new_event: None, tell: Tell::Nobody, related });
        }
        if self.run.ended.is_none() && self.run.paused && self.run.suspended != Some(Reason::Paused) {
            self.push(vec![outside::suspend_paused()]);
        }
        let lines = self.run.number(&self.entries, self.locked.now);
        let key = &self.locked.key;
        journal::insert_lines(conn, lines.iter().map(|line| (key, line)))?;
        self.close_approvals(conn)?;
        let (status, reason, mut ready_at) = self.after();
        if ready_at.is_some() && self.locked.extras && workflow_runs::waits(conn, key)? {
            ready_at = None;
        }
        self.write_head(conn, status, reason, ready_at)?;
        if self.had_acts {
            remove_inboxes(conn, &[key_row(key)])?;
        }
        if status.is_terminal() {
            self.write_end(conn, status)?;
        }
        let tell = if ready_at.is_some() { Tell::Workers } else { Tell::Nobody };
        Ok(Acted { status, new_event: last_event(&lines), tell, related: self.locked.extras })
    }

    fn after(&self) -> (Status, Option<Reason>, Option<Timestamp>) {
        if let Some(status) = self.run.ended {
            return (status, self.ending().0, None);
        }
        if self.run.paused {
            return (Status::Suspended, Some(Reason::Paused), None);
        }
        if self.stays {
            return (self.locked.status, self.locked.reason, self.locked.ready_at);
        }
        let reason = self.locked.reason.filter(|reason| *reason != Reason::Paused);
        (self.locked.status, reason, Some(self.locked.now))
    }

    fn ending(&self) -> (Option<Reason>, Option<&Failure>) {
        for entry in &self.entries {
            match entry {
                Entry::ExecutionFailed(failed) => return (Some(failed.reason), Some(&failed.error)),
                Entry::ExecutionCancelled(cancelled) => return (Some(cancelled.reason), None),
                _ => {}
            }
        }
        (None, None)
    }

    fn close_approvals(&self, conn: &mut Conn) -> StoreResult<()> {
        let key = &self.locked.key;
        let closed = self.entries.iter().filter_map(|entry| match entry {
            Entry::ApprovalClosed(closed) if closed.delegated_by.is_none() => {
                Some(commit_approvals::close_row(key, &closed.tool_call_id, closed.status))
            }
            _ => None,
        });
        let rows: Vec<_> = closed.collect();
        commit_approvals::close(conn, &rows)?;
        for entry in &self.entries {
            if let Entry::ApprovalClosed(closed) = entry
                && closed.delegated_by.is_none()
            {
                commit_approvals::expired(conn, key, &closed.tool_call_id, closed.status, "scheduler")?;
            }
        }
        Ok(())
    }

    fn write_head(
        &self,
        conn: &mut Conn,
        status: Status,
        reason: Option<Reason>,
        ready_at: Option<Timestamp>,
    ) -> StoreResult<()> {
        let scope = &self.locked.key.scope;
        let values = binds![
            status.as_str(),
            reason.map(Reason::as_str),
            ready_at,
            self.run.seq,
            self.run.event,
            self.locked.now,
            &*scope.tenant,
            &*scope.project,
            self.locked.key.id.0,
            self.locked.last_seq,
        ];
        let written = conn.rows(
            "UPDATE executions SET status = ?, reason = ?, owner = NULL, ready_at = ?, last_seq = ?, last_event = ?,
               updated_at = ? WHERE tenant = ? AND project = ? AND id = ? AND last_seq = ? RETURNING last_seq",
            &values,
        )?;
        if written.len() != 1 {
            return Err(StoreError::Corrupt("a locked row changed under its lock".to_owned()));
        }
        Ok(())
    }

    fn write_end(&self, conn: &mut Conn, status: Status) -> StoreResult<()> {
        let [tenant, project, id] = key_row(&self.locked.key);
        let (reason, error) = self.ending();
        let [finished, output, kind, message, input, out, cost] = binds![
            true,
            None::<&str>,
            error.map(|error| error.kind.as_str()),
            error.map(|error| error.message.as_str()),
            number(self.run.usage.input_tokens),
            number(self.run.usage.output_tokens),
            number(self.run.usage.cost_micros),
        ];
        let messages = transcript::complete_messages(&self.run);
        let row = [tenant, project, id, finished, output, kind, message, input, out, cost];
        for mut row in conn.each(WRITE_INFOS, &[row], &[])? {
            let (key, conversation, extras) = (row.key()?, row.opt_text()?, row.bool()?);
            conn.noted.ended(row.word()?, status, reason);
            if extras {
                extras::end(conn, std::slice::from_ref(&key))?;
                workflow_end::ended(conn, std::slice::from_ref(&key), self.locked.now)?;
                if let Some(speaker) = &self.run.speaker {
                    extras::remember(conn, &[(key.clone(), &speaker.agent)])?;
                }
            }
            if let Some(conversation) = conversation {
                conversations::leave(conn, vec![Leaving { key, conversation, messages: &messages }])?;
            }
        }
        Ok(())
    }
}

fn last_event(lines: &[Line]) -> Option<i64> {
    lines.iter().filter_map(|line| line.event).max()
}

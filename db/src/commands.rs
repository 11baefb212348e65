//! Commands that came by a message: what makes two of them the same, and how often one was
//! tried.
//!
//! A command is noted in the transaction of the act that it asks for, before that act: whoever
//! comes second waits for the first to commit, and finds its note. What was refused leaves none.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::Status;
use holdpoint_engine::wire::ExecutionKey;

use crate::approval_decide::approval_decide_in_txn;
use crate::conn::Conn;
use crate::execution_act::execution_act_in_txn;
use crate::row::Row;
use crate::session::micros;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{
    ActError, ActRequest, Acted, CommandKey, Commanded, Created, DecideRequest, Decided, NewExecution,
    StoreError,
};

type Named<'a> = (&'a Scope, &'a CommandKey);

fn named(new: &NewExecution) -> Option<Named<'_>> {
    Some((&new.key.scope, new.extras.command.as_ref()?))
}

const TAKE: &str = "
    WITH u(t, p, s, c, x) AS (@u)
    INSERT INTO commands_seen (tenant, project, source, id, execution, seen_at)
    SELECT t, p, s, c, x, (SELECT hp_now()) FROM u WHERE true
    ON CONFLICT DO NOTHING
    RETURNING tenant, project, source, id";

/// The starts of a batch that came as commands: which of them are the first of their command.
/// Of the others the version is taken away, so that nothing is inserted for them.
pub(crate) fn take(
    conn: &mut Conn,
    batch: &[NewExecution],
    versions: &mut [Option<i32>],
) -> StoreResult<HashSet<usize>> {
    let commanded = batch.iter().enumerate().filter_map(|(at, new)| Some((named(new)?, at)));
    let mut commanded: Vec<_> = commanded.filter(|(_, at)| versions[*at].is_some()).collect();
    // Two batches with the same commands take them in the same order.
    commanded.sort();
    let mut seen = HashSet::new();
    let first: Vec<_> = commanded.iter().filter(|(name, _)| seen.insert(*name)).collect();
    let rows: Vec<_> =
        first.iter().map(|((scope, command), at)| note_row(scope, command, batch[*at].key.id)).collect();
    let mut new = HashSet::new();
    for mut row in conn.each(TAKE, &rows, &[])? {
        new.insert((row.scope()?, CommandKey { source: row.text()?, id: row.text()? }));
    }
    let taken =
        first.iter().filter(|((scope, command), _)| new.contains(&((*scope).clone(), (*command).clone())));
    let taken: HashSet<usize> = taken.map(|(_, at)| *at).collect();
    for (_, at) in commanded {
        versions[at] = versions[at].filter(|_| taken.contains(&at));
    }
    Ok(taken)
}

fn note_row<'a>(scope: &'a Scope, command: &'a CommandKey, execution: ExecutionId) -> [Bind<'a>; 5] {
    binds![&*scope.tenant, &*scope.project, &command.source, &command.id, execution.0]
}

/// After the starts: a note whose start was refused goes, one whose execution was there already
/// names it, and a repeat is answered as its first was.
pub(crate) fn settle(
    conn: &mut Conn,
    batch: &[NewExecution],
    taken: &HashSet<usize>,
    answers: &mut [Created],
    repeat: bool,
) -> StoreResult<()> {
    let mut firsts: HashMap<Named<'_>, usize> = HashMap::new();
    for at in taken {
        let Some((scope, command)) = named(&batch[*at]) else { continue };
        firsts.insert((scope, command), *at);
        match &answers[*at] {
            Created::New { .. } => {}
            Created::Existing { id, .. } | Created::Coalesced { id, .. } => {
                point_to(conn, scope, command, *id)?
            }
            _ => forget(conn, scope, command)?,
        }
    }
    let repeats: Vec<usize> =
        (0..batch.len()).filter(|at| named(&batch[*at]).is_some() && !taken.contains(at)).collect();
    let mut found = seen(conn, batch, &repeats, repeat)?;
    for at in repeats {
        let first = named(&batch[at]).and_then(|name| firsts.get(&name)).copied();
        match (found.remove(&at), first) {
            (Some(answer), _) => answers[at] = answer,
            (None, Some(first)) => answers[at] = answers[first].clone(),
            (None, None) => {}
        }
    }
    Ok(())
}

fn point_to(conn: &mut Conn, scope: &Scope, command: &CommandKey, id: ExecutionId) -> StoreResult<()> {
    conn.rows(
        "UPDATE commands_seen SET execution = ? WHERE tenant = ? AND project = ? AND source = ? AND id = ?",
        &binds![id.0, &*scope.tenant, &*scope.project, &command.source, &command.id],
    )
    .map(drop)
}

fn forget(conn: &mut Conn, scope: &Scope, command: &CommandKey) -> StoreResult<()> {
    conn.rows(
        "DELETE FROM commands_seen WHERE tenant = ? AND project = ? AND source = ? AND id = ?",
        &binds![&*scope.tenant, &*scope.project, &command.source, &command.id],
    )
    .map(drop)
}

/// The notes first, then their executions: in one join, tables without statistics are joined by
/// tenant and project alone, which walks all executions of the project for each command.
pub(crate) const SEEN: &str = "
    WITH u(n, t, p, s, c) AS (@u),
    f AS MATERIALIZED (
      SELECT u.n, k.tenant, k.project, k.execution
      FROM u JOIN commands_seen k ON k.tenant = u.t AND k.project = u.p AND k.source = u.s AND k.id = u.c)
    SELECT f.n, e.tenant, e.project, e.id, i.version, i.created_at, e.status, e.epoch
    FROM f JOIN executions e ON e.tenant = f.tenant AND e.project = f.project AND e.id = f.execution
    JOIN execution_info i ON i.tenant = f.tenant AND i.project = f.project AND i.id = f.execution";

/// What the commands of these starts became before, by the start's place in the batch.
fn seen(
    conn: &mut Conn,
    batch: &[NewExecution],
    places: &[usize],
    repeat: bool,
) -> StoreResult<HashMap<usize, Created>> {
    let name = |at: &usize| named(&batch[*at]).map(|name| (*at, name));
    let rows: Vec<_> = places
        .iter()
        .filter_map(name)
        .map(|(at, (scope, command))| {
            binds![at as i64, &*scope.tenant, &*scope.project, &command.source, &command.id]
        })
        .collect();
    let mut found = HashMap::new();
    for mut row in conn.each(SEEN, &rows, &[])? {
        let at = usize::try_from(row.big()?).unwrap_or(usize::MAX);
        if let Some(new) = batch.get(at) {
            found.insert(at, read_seen(row, new, repeat)?);
        }
    }
    Ok(found)
}

/// After an outcome that was unknown, the start's own row is its own.
fn read_seen(mut row: Row, new: &NewExecution, repeat: bool) -> StoreResult<Created> {
    let (key, version, created_at) = (row.key()?, row.int()?, row.time()?);
    let (status, epoch): (Status, i64) = (row.word()?, row.big()?);
    if repeat && key == new.key && status == Status::Queued && epoch == 0 {
        return Ok(Created::New { key, version, created_at });
    }
    Ok(Created::Existing { id: key.id, status })
}

/// Notes a command; the execution that it was for, if it was noted before.
fn note(conn: &mut Conn, key: &ExecutionKey, command: &CommandKey) -> StoreResult<Option<ExecutionId>> {
    let row = note_row(&key.scope, command, key.id);
    if !conn.each(TAKE, &[row], &[])?.is_empty() {
        return Ok(None);
    }
    let [tenant, project, source, id, _] = row;
    let found = conn.row(
        "SELECT execution FROM commands_seen WHERE tenant = ? AND project = ? AND source = ? AND id = ?",
        &[tenant, project, source, id],
    )?;
    let mut found =
        found.ok_or_else(|| StoreError::Unavailable("a command met a note that is gone".to_owned()))?;
    Ok(Some(ExecutionId(found.id()?)))
}

/// One transaction's work: the decision and its note, or what it was before.
pub(crate) fn command_decide_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    command: &CommandKey,
    request: &DecideRequest,
) -> StoreResult<Commanded<Decided>> {
    let key = ExecutionKey { scope: scope.clone(), id: request.execution };
    if let Some(execution) = note(conn, &key, command)? {
        return Ok(Commanded::Before(execution));
    }
    let decided = approval_decide_in_txn(conn, scope, request)?;
    if !matches!(decided, Decided::Taken { .. } | Decided::Counted(_) | Decided::Already(_)) {
        forget(conn, scope, command)?;
    }
    Ok(Commanded::Now(decided))
}

/// One transaction's work: the act and its note, or what it was before.
pub(crate) fn command_act_in_txn(
    conn: &mut Conn,
    key: &ExecutionKey,
    command: &CommandKey,
    request: &ActRequest,
    by: &str,
    end_user: Option<&str>,
) -> Result<Commanded<Acted>, ActError> {
    if let Some(execution) = note(conn, key, command)? {
        return Ok(Commanded::Before(execution));
    }
    // Refused, the transaction is rolled back, and the note with it.
    Ok(Commanded::Now(execution_act_in_txn(conn, key, request, by, end_user)?))
}

/// One more attempt of a message; how many there were, with this one.
pub(crate) fn command_attempt(conn: &mut Conn, message: &str) -> StoreResult<i32> {
    let counted = conn.row(
        "INSERT INTO command_attempts (id, attempts, tried_at) VALUES (?, 1, (SELECT hp_now()))
         ON CONFLICT (id) DO UPDATE SET attempts = command_attempts.attempts + 1, tried_at = excluded.tried_at
         RETURNING attempts",
        &binds![message],
    )?;
    counted.map_or(Ok(1), |mut row| row.int())
}

/// The message is settled: its attempts no longer count.
pub(crate) fn command_settled(conn: &mut Conn, message: &str) -> StoreResult<()> {
    conn.rows("DELETE FROM command_attempts WHERE id = ?", &binds![message]).map(drop)
}

/// Removes notes and attempts that are older than `kept`, at most `limit` of each; how many.
pub(crate) fn commands_expire(conn: &mut Conn, kept: Duration, limit: usize) -> StoreResult<usize> {
    let values = binds![micros(kept), limit as i64];
    let notes = conn.rows(
        "DELETE FROM commands_seen WHERE (tenant, project, source, id) IN (
           SELECT tenant, project, source, id FROM commands_seen WHERE seen_at <= (SELECT hp_now()) - ?
           ORDER BY seen_at LIMIT ?) RETURNING execution",
        &values,
    )?;
    let attempts = conn.rows(
        "DELETE FROM command_attempts WHERE id IN (
           SELECT id FROM command_attempts WHERE tried_at <= (SELECT hp_now()) - ? LIMIT ?) RETURNING attempts",
        &values,
    )?;
    Ok(notes.len() + attempts.len())
}

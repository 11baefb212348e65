//! Starts, many in one transaction, each with an answer of its own.
//!
//! The unique keys of `execution_info` decide which start is the first of its id and of its
//! idempotency key; whoever comes second waits for the first to commit and reads its row.

use std::collections::{HashMap, HashSet};

use holdpoint_engine::definition::builtin;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{DefinitionKind, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::lanes::Place;
use crate::limits::{self, InForce};
use crate::sql::binds;
use crate::store::StoreResult;
use crate::turns::move_to_lanes;
use crate::types::{Conversation, Created, NewExecution, StoreError};
use crate::{
    child_repeat, children, coalesced_starts, commands, conversations, extras, files, pin, test_runs,
    workflow_runs,
};

/// One transaction's work. A `repeat` follows an outcome that was unknown: a row with the
/// start's own id is then its own.
pub(crate) fn execution_create_in_txn(
    conn: &mut Conn,
    batch: &[NewExecution],
    repeat: bool,
) -> StoreResult<Vec<Created>> {
    let versions = resolve_versions(conn, batch)?;
    let pins = pin::pins(conn, batch, &versions)?;
    let resolved = versions;
    let mut versions: Vec<Option<i32>> = resolved.iter().map(|found| Some(found.as_ref()?.version)).collect();
    let mut unfit = unfit(batch, &mut versions);
    let commands = commands::take(conn, batch, &mut versions)?;
    let mut inserted = insert_infos(conn, batch, &versions, &pins)?;
    let mut refused = refuse(conn, batch, &mut inserted)?;
    let mut taken = workflow_runs::take(conn, batch, &resolved, &mut inserted)?;
    refused.extend(conversations::take(conn, batch, &mut inserted)?);
    refused.extend(taken.refused.drain());
    files::refer(conn, batch, &inserted)?;
    insert_executions(conn, batch, &inserted, &taken.ready_at)?;
    place(conn, batch, &inserted)?;
    insert_labels(conn, batch, &inserted)?;
    extras::insert(conn, inserted.keys().map(|at| (&batch[*at], pins.get(at).map(String::as_str))))?;
    children::insert(conn, inserted.keys().map(|at| &batch[*at]))?;
    child_repeat::take_over(conn, inserted.keys().map(|at| &batch[*at]))?;
    let mut answers = Vec::with_capacity(batch.len());
    for (at, new) in batch.iter().enumerate() {
        answers.push(match (inserted.get(&at), refused.remove(&at), versions[at]) {
            (Some(created_at), _, Some(version)) => {
                Created::New { key: new.key.clone(), version, created_at: *created_at }
            }
            (_, Some(refused), _) => refused,
            (_, _, version) => match (existing(conn, batch, at, version, repeat)?, unfit.remove(&at)) {
                (Created::UnknownDefinition, Some(unfit)) => unfit,
                (answer, _) => answer,
            },
        });
    }
    commands::settle(conn, batch, &commands, &mut answers, repeat)?;
    Ok(answers)
}

/// Starts of workflows whose input does not fit, or was checked against another version. Their
/// version is taken away, so that nothing is inserted for them: the same start may be there.
fn unfit(batch: &[NewExecution], versions: &mut [Option<i32>]) -> HashMap<usize, Created> {
    let mut unfit = HashMap::new();
    for (at, new) in batch.iter().enumerate() {
        let Some((check, version)) = new.extras.input_check.as_ref().zip(versions[at]) else { continue };
        if let Some(refused) = check.refuse(version) {
            unfit.insert(at, refused);
            versions[at] = None;
        }
    }
    unfit
}

/// Starts that were coalesced before, that name files that are not there, or test runs beside
/// another one: what was inserted for them is removed.
fn refuse(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &mut HashMap<usize, Timestamp>,
) -> StoreResult<HashMap<usize, Created>> {
    let mut refused = HashMap::new();
    coalesced_starts::refuse(conn, batch, inserted, &mut refused)?;
    files::check(conn, batch, inserted, &mut refused)?;
    test_runs::take(conn, batch, inserted, &mut refused)?;
    for at in refused.keys() {
        conn.rows(
            "DELETE FROM execution_info WHERE tenant = ? AND project = ? AND id = ?",
            &key_row(&batch[*at].key),
        )?;
        inserted.remove(at);
    }
    Ok(refused)
}

pub(crate) type Name<'a> = (&'a Scope, DefinitionKind, &'a str, Option<i32>);

/// A version in use, the agents that it names, as they were put, and what it says of its runs.
#[derive(Clone)]
pub(crate) struct Resolved {
    pub(crate) version: i32,
    pub(crate) refers: Option<String>,
    pub(crate) terms: Option<String>,
}

fn name_of(new: &NewExecution) -> Name<'_> {
    (&new.key.scope, new.kind, &new.name, new.version)
}

/// The pinned version of each start; `None` where there is no such definition in use.
fn resolve_versions(conn: &mut Conn, batch: &[NewExecution]) -> StoreResult<Vec<Option<Resolved>>> {
    let mut known: HashMap<Name<'_>, Option<Resolved>> = HashMap::new();
    for new in batch {
        let name = name_of(new);
        if let std::collections::hash_map::Entry::Vacant(slot) = known.entry(name) {
            slot.insert(resolve(conn, name)?);
        }
    }
    Ok(batch.iter().map(|new| known.get(&name_of(new)).cloned().flatten()).collect())
}

pub(crate) fn resolve(
    conn: &mut Conn,
    (scope, kind, name, version): Name<'_>,
) -> StoreResult<Option<Resolved>> {
    if builtin(kind, name).is_some() {
        let only = Resolved { version: 1, refers: None, terms: None };
        return Ok(Some(only).filter(|only| version.is_none_or(|wanted| wanted == only.version)));
    }
    let found = conn.row(
        "SELECT d.version, d.refers, d.terms FROM definition_heads h JOIN definitions d
           ON d.tenant = h.tenant AND d.project = h.project AND d.kind = h.kind AND d.name = h.name
         WHERE h.tenant = ? AND h.project = ? AND h.kind = ? AND h.name = ? AND h.deleted_at IS NULL
           AND d.version = coalesce(?, h.version)",
        &binds![&*scope.tenant, &*scope.project, kind.as_str(), name, version],
    )?;
    let read = |mut row: crate::row::Row| {
        Ok(Resolved { version: row.int()?, refers: row.opt_text()?, terms: row.opt_text()? })
    };
    found.map(read).transpose()
}

const INSERT_INFO: &str = "
    WITH u(t, p, x, ki, na, ve, rt, cv, eu, ik, bd, inp, msg, meta, cb, ex) AS (@u)
    INSERT INTO execution_info (tenant, project, id, kind, name, version, run_type, conversation_id, end_user,
      idempotency_key, body_digest, input, messages, metadata, created_by, extras, created_at)
    SELECT t, p, x, ki, na, ve, rt, cv, eu, ik, bd, inp, msg, meta, cb, ex, (SELECT hp_now()) FROM u WHERE true
    ON CONFLICT DO NOTHING
    RETURNING tenant, project, id, created_at";

/// Inserts what is new, and says when, by the start's place in the batch.
fn insert_infos(
    conn: &mut Conn,
    batch: &[NewExecution],
    versions: &[Option<i32>],
    pins: &HashMap<usize, String>,
) -> StoreResult<HashMap<usize, Timestamp>> {
    // Two batches that take the same keys take them in the same order.
    let mut order: Vec<usize> = (0..batch.len()).filter(|at| versions[*at].is_some()).collect();
    order.sort_by_key(|at| (&batch[*at].key.scope, idempotency_key(&batch[*at]), batch[*at].key.id));
    let mut ids = HashSet::new();
    order.retain(|at| ids.insert(&batch[*at].key));
    let rows: Vec<_> = order
        .iter()
        .map(|at| info_row(&batch[*at], versions[*at].unwrap_or(1), pins.contains_key(at)))
        .collect();
    let mut times = HashMap::with_capacity(rows.len());
    for mut row in conn.each(INSERT_INFO, &rows, &[])? {
        times.insert(row.key()?, row.time()?);
    }
    Ok(order.iter().filter_map(|at| Some((*at, *times.get(&batch[*at].key)?))).collect())
}

fn info_row(new: &NewExecution, version: i32, pinned: bool) -> [crate::sql::Bind<'_>; 16] {
    let conversation = match &new.conversation {
        Conversation::None => None,
        Conversation::Made(id) | Conversation::Named(id) => Some(id.as_str()),
    };
    binds![
        &*new.key.scope.tenant,
        &*new.key.scope.project,
        new.key.id.0,
        new.kind.as_str(),
        &new.name,
        version,
        new.run_type.as_str(),
        conversation,
        new.end_user.as_deref(),
        idempotency_key(new),
        body_digest(new),
        new.input.as_deref(),
        new.messages.as_deref(),
        &new.metadata,
        &new.created_by,
        pinned || new.extras.is_kept() || workflow_runs::is_registered(new) || test_runs::takes_place(new),
    ]
}

fn idempotency_key(new: &NewExecution) -> Option<&str> {
    new.idempotency.as_ref()?.key.as_deref()
}

fn body_digest(new: &NewExecution) -> Option<&str> {
    Some(new.idempotency.as_ref()?.body_digest.as_str())
}

const INSERT_EXECUTION: &str = "
    WITH u(t, p, x, ki, rd, up) AS (@u)
    INSERT INTO executions (tenant, project, id, kind, status, ready_at, updated_at)
    SELECT t, p, x, ki, 'queued', rd, up FROM u";

fn insert_executions(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &HashMap<usize, Timestamp>,
    later: &HashMap<usize, Option<Timestamp>>,
) -> StoreResult<()> {
    let rows: Vec<_> = inserted
        .iter()
        .map(|(at, now)| {
            let NewExecution { key, kind, delay, .. } = &batch[*at];
            let at_once = || Some(now.plus(delay.unwrap_or_default()));
            let ready_at = later.get(at).copied().unwrap_or_else(at_once);
            binds![&*key.scope.tenant, &*key.scope.project, key.id.0, kind.as_str(), ready_at, *now]
        })
        .collect();
    conn.each(INSERT_EXECUTION, &rows, &[])?;
    inserted.keys().for_each(|at| conn.noted.started(batch[*at].kind));
    Ok(())
}

/// Those that do not wait in their project's plain lane are put where they do.
fn place(conn: &mut Conn, batch: &[NewExecution], inserted: &HashMap<usize, Timestamp>) -> StoreResult<()> {
    let in_force = InForce::new(limits::known(conn)?, None);
    let mut placed = Vec::new();
    for at in inserted.keys() {
        let NewExecution { key, kind, name, extras, .. } = &batch[*at];
        let place = in_force.place(&key.scope, (*kind, name), extras.priority, false);
        if place != Place::plain(0) {
            placed.push((key, place));
        }
    }
    move_to_lanes(conn, placed.iter().map(|(key, place)| (*key, place)))
}

const INSERT_LABEL: &str = "
    WITH u(t, p, x, k, v, at) AS (@u)
    INSERT INTO execution_labels (tenant, project, id, key, value, created_at) SELECT t, p, x, k, v, at FROM u";

fn insert_labels(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &HashMap<usize, Timestamp>,
) -> StoreResult<()> {
    let mut rows = Vec::new();
    for (at, created_at) in inserted {
        let NewExecution { key, labels, .. } = &batch[*at];
        for (name, value) in labels {
            rows.push(binds![&*key.scope.tenant, &*key.scope.project, key.id.0, name, value, *created_at]);
        }
    }
    conn.each(INSERT_LABEL, &rows, &[]).map(drop)
}

struct Found {
    key: ExecutionKey,
    digest: Option<String>,
    version: i32,
    created_at: Timestamp,
    status: Status,
    epoch: i64,
}

const FOUND: &str = "
    SELECT f.tenant, f.project, f.id, f.body_digest, f.version, f.created_at, e.status, e.epoch
    FROM (SELECT * FROM execution_info i WHERE i.tenant = ? AND i.project = ? AND";
const FOUND_END: &str =
    " LIMIT 1) f JOIN executions e ON e.tenant = f.tenant AND e.project = f.project AND e.id = f.id";

/// What stands where the start wanted to be.
fn existing(
    conn: &mut Conn,
    batch: &[NewExecution],
    at: usize,
    version: Option<i32>,
    repeat: bool,
) -> StoreResult<Created> {
    let new = &batch[at];
    let ExecutionKey { scope: Scope { tenant, project }, id } = &new.key;
    let mut row = None;
    if let Some(key) = idempotency_key(new) {
        row = conn
            .row(&format!("{FOUND} i.idempotency_key = ?{FOUND_END}"), &binds![&**tenant, &**project, key])?;
    }
    if row.is_none() {
        row = conn.row(&format!("{FOUND} i.id = ?{FOUND_END}"), &binds![&**tenant, &**project, id.0])?;
    }
    let Some(mut row) = row else {
        if let Some(coalesced) = coalesced_starts::find(conn, batch, std::iter::once(at))?.remove(&at) {
            return Ok(coalesced);
        }
        return match version {
            None => Ok(Created::UnknownDefinition),
            Some(_) => Err(StoreError::Unavailable("a start met another one that is gone again".to_owned())),
        };
    };
    let found = Found {
        key: row.key()?,
        digest: row.opt_text()?,
        version: row.int()?,
        created_at: row.time()?,
        status: row.word()?,
        epoch: row.big()?,
    };
    Ok(judge(new, found, repeat))
}

fn judge(new: &NewExecution, found: Found, repeat: bool) -> Created {
    let Found { key, digest, version, created_at, status, epoch } = found;
    if digest.as_deref() != body_digest(new) {
        Created::Mismatch
    } else if repeat && key == new.key && status == Status::Queued && epoch == 0 {
        Created::New { key, version, created_at }
    } else {
        Created::Existing { id: key.id, status }
    }
}

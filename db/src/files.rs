//! Uploaded files, and the starts that refer to them.
//!
//! A start locks the files that it names against removal, and marks them in its transaction;
//! a removal takes only what is not marked. So one of the two waits for the other, and no
//! execution has a file that is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use holdpoint_engine::ids::FileId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::session::micros;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::trial_types::*;
use crate::types::{Created, NewExecution, StoreError};

/// Keeps a file.
pub(crate) fn file_put(conn: &mut Conn, file: &NewFile) -> StoreResult<Timestamp> {
    let row = conn.row(
        "INSERT INTO files (tenant, project, id, name, content_type, bytes, sha256, content, created_by, created_at,
           counted)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT hp_now()), true) RETURNING created_at",
        &binds![
            &*file.key.scope.tenant,
            &*file.key.scope.project,
            file.key.id.0,
            file.name.as_deref(),
            &file.content_type,
            i64::try_from(file.content.len()).unwrap_or(i64::MAX),
            &file.sha256,
            file.content.as_slice(),
            &file.created_by,
        ],
    )?;
    row.ok_or_else(|| StoreError::Corrupt("a file was not inserted".to_owned()))?.time()
}

fn read_file(mut row: Row) -> StoreResult<FileRow> {
    Ok(FileRow {
        key: FileKey { scope: row.scope()?, id: FileId(row.id()?) },
        name: row.opt_text()?,
        content_type: row.text()?,
        bytes: row.big()?,
        sha256: row.text()?,
        referred: row.bool()?,
        created_by: row.text()?,
        created_at: row.time()?,
    })
}

/// A file without its content.
pub(crate) fn file_get(conn: &mut Conn, scope: &Scope, id: FileId) -> StoreResult<Option<FileRow>> {
    let row = conn.row(
        "SELECT tenant, project, id, name, content_type, bytes, sha256, referred, created_by, created_at
         FROM files WHERE tenant = ? AND project = ? AND id = ?",
        &key_of(scope, id),
    )?;
    row.map(read_file).transpose()
}

/// Its bytes.
pub(crate) fn file_content(conn: &mut Conn, scope: &Scope, id: FileId) -> StoreResult<Option<Vec<u8>>> {
    let row = conn
        .row("SELECT content FROM files WHERE tenant = ? AND project = ? AND id = ?", &key_of(scope, id))?;
    Ok(row.map(|mut row| row.opt_bytes()).transpose()?.flatten())
}

fn key_of(scope: &Scope, id: FileId) -> [Bind<'_>; 3] {
    binds![&*scope.tenant, &*scope.project, id.0]
}

/// One transaction's work.
pub(crate) fn file_delete_in_txn(conn: &mut Conn, scope: &Scope, id: FileId) -> StoreResult<FileRemoved> {
    if remove_unused(conn, scope, id)? {
        return Ok(FileRemoved::Removed);
    }
    let is_there = file_get(conn, scope, id)?.is_some();
    Ok(if is_there { FileRemoved::Referred } else { FileRemoved::NotFound })
}

/// Removes a file that no execution was started with; whether it was there.
pub(crate) fn remove_unused(conn: &mut Conn, scope: &Scope, id: FileId) -> StoreResult<bool> {
    // Whether it is marked is compared in a form that the index over unused ones does not offer.
    let removed = conn.rows(
        "DELETE FROM files WHERE tenant = ? AND project = ? AND id = ?
           AND CASE WHEN referred THEN 1 ELSE 0 END = 0 RETURNING bytes",
        &key_of(scope, id),
    )?;
    Ok(!removed.is_empty())
}

pub(crate) const UNUSED: &str = "
    SELECT f.tenant, f.project, f.id FROM files f
    WHERE NOT f.referred AND f.created_at <= (SELECT hp_now()) - ? ORDER BY f.created_at LIMIT ?";

/// Files older than this that no execution was started with.
pub(crate) fn files_unused(conn: &mut Conn, older_than: Duration, limit: usize) -> StoreResult<Vec<FileKey>> {
    let rows = conn.rows(UNUSED, &binds![micros(older_than), limit as i64])?;
    rows.into_iter().map(|mut row| Ok(FileKey { scope: row.scope()?, id: FileId(row.id()?) })).collect()
}

pub(crate) const LOCK: &str = "
    WITH u(t, p, f) AS (@u)
    SELECT e.tenant, e.project, e.id FROM u JOIN files e ON e.tenant = u.t AND e.project = u.p AND e.id = u.f
    ORDER BY e.tenant, e.project, e.id @share";

/// Locks the files that new executions name against removal. Those that name one that is not
/// there are refused.
pub(crate) fn check(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &HashMap<usize, Timestamp>,
    refused: &mut HashMap<usize, Created>,
) -> StoreResult<()> {
    let named = named(batch, inserted);
    if named.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = named.keys().map(|(scope, id)| key_of(scope, *id)).collect();
    let mut there = HashSet::with_capacity(rows.len());
    for mut row in conn.each(LOCK, &rows, &[])? {
        there.insert((row.scope()?, FileId(row.id()?)));
    }
    for ((scope, id), starts) in named {
        if !there.contains(&(scope.clone(), id)) {
            for at in starts {
                refused.entry(at).or_insert(Created::UnknownFile { id });
            }
        }
    }
    Ok(())
}

/// Which starts name which files, in one order for all transactions.
fn named<'a>(
    batch: &'a [NewExecution],
    inserted: &HashMap<usize, Timestamp>,
) -> BTreeMap<(&'a Scope, FileId), Vec<usize>> {
    let mut named: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for at in inserted.keys() {
        let NewExecution { key, extras, .. } = &batch[*at];
        for id in &extras.files {
            named.entry((&key.scope, *id)).or_default().push(*at);
        }
    }
    named
}

/// Marks the files of executions that stand, and notes who uses them.
pub(crate) fn refer(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &HashMap<usize, Timestamp>,
) -> StoreResult<()> {
    let named = named(batch, inserted);
    let rows: Vec<_> = named.keys().map(|(scope, id)| key_of(scope, *id)).collect();
    conn.each(
        "WITH u(t, p, x) AS (@u) UPDATE files AS f SET referred = true
         FROM u WHERE f.tenant = u.t AND f.project = u.p AND f.id = u.x
           AND CASE WHEN f.referred THEN 1 ELSE 0 END = 0",
        &rows,
        &[],
    )?;
    let mut uses = BTreeSet::new();
    for ((scope, id), starts) in &named {
        uses.extend(starts.iter().map(|at| (*scope, batch[*at].key.id, *id)));
    }
    let uses: Vec<_> = uses
        .into_iter()
        .map(|(scope, execution, id)| binds![&*scope.tenant, &*scope.project, execution.0, id.0])
        .collect();
    conn.each(
        "WITH u(t, p, x, f) AS (@u) INSERT INTO file_uses (tenant, project, execution, file) SELECT t, p, x, f FROM u",
        &uses,
        &[],
    )
    .map(drop)
}

/// A run that takes the place of another has that one's files.
pub(crate) fn refer_again(conn: &mut Conn, old: &ExecutionKey, new: &ExecutionKey) -> StoreResult<()> {
    let [tenant, project, old] = key_row(old);
    conn.rows(
        "INSERT INTO file_uses (tenant, project, execution, file)
         SELECT tenant, project, ?, file FROM file_uses WHERE tenant = ? AND project = ? AND execution = ?",
        &[new.id.0.into(), tenant, project, old],
    )
    .map(drop)
}

/// These executions are gone: the files that were theirs alone are unused again, and go with the
/// next pass of `files`. The lock makes a start that names one of them wait, or this wait for it.
pub(crate) fn release(
    conn: &mut Conn,
    gone: &[ExecutionKey],
    files: &BTreeSet<(Scope, FileId)>,
) -> StoreResult<()> {
    if files.is_empty() {
        return Ok(());
    }
    let uses: Vec<_> = gone.iter().map(key_row).collect();
    conn.each(
        "WITH u(t, p, x) AS (@u)
         DELETE FROM file_uses WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
        &uses,
        &[],
    )?;
    let rows: Vec<_> = files.iter().map(|(scope, id)| key_of(scope, *id)).collect();
    conn.each(&LOCK.replace("@share", "@lock"), &rows, &[])?;
    conn.each(
        "WITH u(t, p, x) AS (@u) UPDATE files AS f SET referred = false
         FROM u WHERE f.tenant = u.t AND f.project = u.p AND f.id = u.x AND f.counted
           AND NOT EXISTS (SELECT 1 FROM file_uses s WHERE s.file = f.id)",
        &rows,
        &[],
    )
    .map(drop)
}

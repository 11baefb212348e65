//! Removes finished executions with all that is theirs.
//!
//! Each family is looked at again under the locks of its rows: a run that is repeated at this
//! moment, or removed by another pass, is left. Locks are taken in the order execution,
//! workflow, conversation, file. Of what others may still see, the audit stays, and a
//! conversation keeps what was said in it until its last execution goes.

use std::collections::{BTreeSet, HashSet};

use holdpoint_engine::ids::FileId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::extras::read_files;
use crate::retention_types::Family;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::{failpoint, families, files, retention_said};

pub(crate) const LOCK: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT e.tenant, e.project, e.id
    FROM u JOIN executions e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x
    ORDER BY e.tenant, e.project, e.id @skip";

/// One transaction's work; how many executions went.
pub(crate) fn retention_remove_in_txn(
    conn: &mut Conn,
    families: &[Family],
    before: Timestamp,
) -> StoreResult<usize> {
    let wanted: Vec<ExecutionKey> = families.iter().flat_map(|family| family.members.clone()).collect();
    let locked = lock(conn, &wanted)?;
    let free: Vec<ExecutionKey> = wanted.into_iter().filter(|key| locked.contains(key)).collect();
    let mut going = Vec::with_capacity(free.len());
    for family in families::removable(conn, &free, before)? {
        if family.members.iter().all(|key| locked.contains(key)) {
            going.extend(family.members);
        }
    }
    going.sort();
    remove(conn, &going)?;
    Ok(going.len())
}

fn lock(conn: &mut Conn, keys: &[ExecutionKey]) -> StoreResult<HashSet<ExecutionKey>> {
    let mut keys: Vec<&ExecutionKey> = keys.iter().collect();
    keys.sort();
    let rows: Vec<_> = keys.into_iter().map(key_row).collect();
    conn.each(LOCK, &rows, &[])?.into_iter().map(|mut row| row.key()).collect()
}

/// What is an execution's alone, by its key. `run_retries` are those of the first run, whose
/// family goes as a whole.
pub(crate) const THEIRS: [&str; 13] = [
    "WITH u(t, p, x) AS (@u) DELETE FROM journal WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM approvals WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM approval_votes WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM inbox WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM tool_calls WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM execution_labels WHERE (tenant, project, id) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM children WHERE (tenant, project, child) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM run_retries WHERE (tenant, project, retry_of) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM workflow_runs WHERE (tenant, project, run) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM coalesced_starts WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM test_runs WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM schedule_runs WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)",
    "WITH u(t, p, x) AS (@u) DELETE FROM executions WHERE (tenant, project, id) IN (SELECT t, p, x FROM u)",
];
const EXTRAS: &str = "
    WITH u(t, p, x) AS (@u) DELETE FROM execution_extras WHERE (tenant, project, id) IN (SELECT t, p, x FROM u)
    RETURNING tenant, project, id, files";
const INFOS: &str = "
    WITH u(t, p, x) AS (@u) DELETE FROM execution_info WHERE (tenant, project, id) IN (SELECT t, p, x FROM u)
    RETURNING tenant, project, id, kind, name, conversation_id";
/// A workflow that needs nobody forgets its latest run.
const FORGET_LATEST: &str = "
    WITH u(t, p, n, x) AS (@u)
    UPDATE workflows AS w SET latest = NULL FROM u WHERE w.tenant = u.t AND w.project = u.p AND w.name = u.n
      AND w.latest = u.x AND CASE WHEN w.attention THEN 1 ELSE 0 END = 0";

fn remove(conn: &mut Conn, going: &[ExecutionKey]) -> StoreResult<()> {
    let rows: Vec<_> = going.iter().map(key_row).collect();
    for text in THEIRS {
        conn.each(text, &rows, &[])?;
    }
    failpoint::hit("db.retention.between");
    let mut used: BTreeSet<(Scope, FileId)> = BTreeSet::new();
    for mut row in conn.each(EXTRAS, &rows, &[])? {
        let key = row.key()?;
        let files = read_files(&key, row.opt_text()?)?;
        used.extend(files.into_iter().map(|file| (key.scope.clone(), file)));
    }
    let (mut runs, mut conversations) = (Vec::new(), BTreeSet::new());
    for mut row in conn.each(INFOS, &rows, &[])? {
        let (key, kind, name, conversation) = (row.key()?, row.text()?, row.text()?, row.opt_text()?);
        conversations.extend(conversation.map(|id| (key.scope.clone(), id)));
        if kind == "workflow" {
            runs.push((key, name));
        }
    }
    let latest: Vec<[Bind<'_>; 4]> = runs
        .iter()
        .map(|(key, name)| binds![&*key.scope.tenant, &*key.scope.project, name, key.id.0])
        .collect();
    conn.each(FORGET_LATEST, &latest, &[])?;
    for (scope, id) in &conversations {
        retention_said::after_executions(conn, scope, id)?;
    }
    files::release(conn, going, &used)
}

//! Starts that were coalesced with a run that waited: their idempotency keys and ids lead to that
//! run, so that the same start again is neither a second run nor a second coalescing.
//!
//! A name is noted while the start's own row holds its place in the unique keys of
//! `execution_info`, and looked up after that place was taken: whoever comes with the same name
//! waits there for the first to commit, and finds its note.

use std::collections::HashMap;

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::time::Timestamp;

use crate::conn::Conn;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{Created, Idempotency, NewExecution};

/// What a start is known by; none where each call is a start of its own.
fn names(new: &NewExecution) -> Option<(&Idempotency, Vec<String>)> {
    let idempotency = new.idempotency.as_ref()?;
    let key = idempotency.key.as_ref().map(|key| format!("key/{key}"));
    Some((idempotency, key.into_iter().chain([format!("id/{}", new.key.id)]).collect()))
}

const INSERT: &str = "
    WITH u(t, p, n, bd, x) AS (@u)
    INSERT INTO coalesced_starts (tenant, project, name, body_digest, execution) SELECT t, p, n, bd, x FROM u";

/// Notes that a start was answered with a run that waits.
pub(crate) fn note(conn: &mut Conn, new: &NewExecution, with: ExecutionId) -> StoreResult<()> {
    let Some((idempotency, names)) = names(new) else { return Ok(()) };
    let scope = &new.key.scope;
    let row = |name| binds![&*scope.tenant, &*scope.project, name, &idempotency.body_digest, with.0];
    let rows: Vec<_> = names.iter().map(row).collect();
    conn.each(INSERT, &rows, &[]).map(drop)
}

pub(crate) const SELECT: &str = "
    WITH u(at, t, p, n) AS (@u)
    SELECT u.at, c.execution, c.body_digest
    FROM u JOIN coalesced_starts c ON c.tenant = u.t AND c.project = u.p AND c.name = u.n";

/// What those of these starts became that were coalesced before, by their place in the batch.
pub(crate) fn find(
    conn: &mut Conn,
    batch: &[NewExecution],
    places: impl Iterator<Item = usize>,
) -> StoreResult<HashMap<usize, Created>> {
    let named: Vec<_> = places.filter_map(|at| Some((at, names(&batch[at])?))).collect();
    let mut rows = Vec::with_capacity(named.len());
    for (at, (_, names)) in &named {
        let scope = &batch[*at].key.scope;
        rows.extend(names.iter().map(|name| binds![*at as i64, &*scope.tenant, &*scope.project, name]));
    }
    let digests: HashMap<usize, &str> =
        named.iter().map(|(at, (idempotency, _))| (*at, idempotency.body_digest.as_str())).collect();
    let mut found = HashMap::new();
    for mut row in conn.each(SELECT, &rows, &[])? {
        let at = usize::try_from(row.big()?).unwrap_or(usize::MAX);
        let (id, digest) = (ExecutionId(row.id()?), row.text()?);
        let same = digests.get(&at).is_some_and(|own| **own == digest);
        found.insert(at, if same { Created::Coalesced { id, before: true } } else { Created::Mismatch });
    }
    Ok(found)
}

/// Starts that were coalesced before are answered so again; what was inserted for them goes.
pub(crate) fn refuse(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &HashMap<usize, Timestamp>,
    refused: &mut HashMap<usize, Created>,
) -> StoreResult<()> {
    refused.extend(find(conn, batch, inserted.keys().copied())?);
    Ok(())
}

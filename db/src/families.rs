//! Executions that are kept or removed together: a parent with its children and theirs, a run
//! with those that repeat it. While one of a family goes on, or is young, all of it stays.

use std::collections::{BTreeMap, HashMap, HashSet};

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::event_types::Channel;
use crate::execution_claim::key_row;
use crate::retention_types::Family;
use crate::row::Row;
use crate::sql::Bind;
use crate::store::StoreResult;

/// One of a family.
struct Member {
    key: ExecutionKey,
    finished_at: Option<Timestamp>,
    lines: i64,
    /// The first of the runs that repeat each other; itself for most.
    first_run: ExecutionKey,
}

pub(crate) const MEMBERS: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT i.tenant, i.project, i.id, i.finished_at, e.last_seq, e.status IN ('completed', 'failed', 'cancelled'),
      i.retry_of
    FROM u JOIN execution_info i ON i.tenant = u.t AND i.project = u.p AND i.id = u.x
    JOIN executions e ON e.tenant = i.tenant AND e.project = i.project AND e.id = i.id";

fn members(conn: &mut Conn, keys: &[ExecutionKey]) -> StoreResult<Vec<Member>> {
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    conn.each(MEMBERS, &rows, &[])?.into_iter().map(read_member).collect()
}

fn read_member(mut row: Row) -> StoreResult<Member> {
    let (key, finished_at, lines) = (row.key()?, row.opt_time()?, row.big()?);
    let (is_over, retry_of) = (row.bool()?, row.opt_id()?);
    let first_run = retry_of.map_or_else(|| key.clone(), |id| beside(&key, ExecutionId(id)));
    Ok(Member { key, finished_at: finished_at.filter(|_| is_over), lines, first_run })
}

fn beside(key: &ExecutionKey, id: ExecutionId) -> ExecutionKey {
    ExecutionKey { scope: key.scope.clone(), id }
}

/// Whom an execution delegated to, by whom it was, and who repeats it.
pub(crate) const TIES: [&str; 3] = [
    "WITH u(t, p, x) AS (@u) SELECT c.tenant, c.project, c.parent, c.child
     FROM u JOIN children c ON c.tenant || '/' || c.project = u.t || '/' || u.p AND c.parent = u.x",
    "WITH u(t, p, x) AS (@u) SELECT c.tenant, c.project, c.parent, c.child
     FROM u JOIN children c ON c.tenant = u.t AND c.project = u.p AND c.child = u.x",
    "WITH u(t, p, x) AS (@u) SELECT r.tenant, r.project, r.retry_of, r.run
     FROM u JOIN run_retries r ON r.tenant = u.t AND r.project = u.p AND r.retry_of = u.x",
];

fn ties(conn: &mut Conn, found: &[Member]) -> StoreResult<Vec<(ExecutionKey, ExecutionKey)>> {
    let own: Vec<_> = found.iter().map(|member| key_row(&member.key)).collect();
    let firsts: Vec<_> = found.iter().map(|member| key_row(&member.first_run)).collect();
    let mut ties: Vec<_> =
        found.iter().map(|member| (member.first_run.clone(), member.key.clone())).collect();
    let [children, parents, repeats] = TIES;
    for (text, rows) in [(children, &own), (parents, &own), (repeats, &firsts)] {
        for mut row in conn.each(text, rows, &[])? {
            let key = row.key()?;
            let other = beside(&key, ExecutionId(row.id()?));
            ties.push((key, other));
        }
    }
    Ok(ties)
}

/// Who is tied to whom, as far as it goes: each key leads to another of its family, and the
/// last to itself.
#[derive(Default)]
struct Ties(HashMap<ExecutionKey, ExecutionKey>);

impl Ties {
    fn root(&self, key: &ExecutionKey) -> ExecutionKey {
        let mut at = key;
        while let Some(next) = self.0.get(at).filter(|next| *next != at) {
            at = next;
        }
        at.clone()
    }

    fn tie(&mut self, a: &ExecutionKey, b: &ExecutionKey) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            self.0.insert(a, b);
        }
    }
}

/// The whole families of these executions, of which some may be gone.
fn families(conn: &mut Conn, keys: &[ExecutionKey]) -> StoreResult<Vec<Vec<Member>>> {
    let mut seen: HashSet<ExecutionKey> = keys.iter().cloned().collect();
    let mut next: Vec<ExecutionKey> = seen.iter().cloned().collect();
    let (mut all, mut tied) = (Vec::new(), Ties::default());
    while !next.is_empty() {
        let found = members(conn, &next)?;
        let ties = ties(conn, &found)?;
        next = Vec::new();
        for (a, b) in ties {
            tied.tie(&a, &b);
            next.extend([a, b].into_iter().filter(|key| seen.insert(key.clone())));
        }
        all.extend(found);
    }
    let mut families: BTreeMap<ExecutionKey, Vec<Member>> = BTreeMap::new();
    for member in all {
        families.entry(tied.root(&member.key)).or_default().push(member);
    }
    Ok(families.into_values().collect())
}

/// What something else needs: an event or a reply that is still to be sent; a command that is
/// still known, so that a repeat is answered; the run for which a workflow needs a person.
pub(crate) const NEEDED: [&str; 2] = [
    "WITH u(t, p, x) AS (@u) SELECT e.tenant, e.project, e.id
     FROM u JOIN execution_extras e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x
     JOIN commands_seen k ON k.tenant = e.tenant AND k.project = e.project AND k.source = e.command_source
       AND k.id = e.command_id",
    "WITH u(t, p, x) AS (@u) SELECT i.tenant, i.project, i.id
     FROM u JOIN execution_info i ON i.tenant = u.t AND i.project = u.p AND i.id = u.x
     JOIN workflows w ON w.tenant = i.tenant AND w.project = i.project AND w.name = i.name
     WHERE i.kind = 'workflow' AND CASE WHEN w.attention THEN w.latest END = i.id",
];
pub(crate) const UNSENT: &str = "
    WITH u(c, t, p, x) AS (@u) SELECT u.t, u.p, u.x FROM u
    WHERE EXISTS (SELECT 1 FROM outgoing o
      WHERE o.channel = u.c AND o.tenant = u.t AND o.project = u.p AND o.execution = u.x)";

fn needed(conn: &mut Conn, keys: &[ExecutionKey]) -> StoreResult<HashSet<ExecutionKey>> {
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    let unsent: Vec<[Bind<'_>; 4]> = Channel::ALL
        .iter()
        .flat_map(|channel| rows.iter().map(|[t, p, x]| [channel.as_str().into(), *t, *p, *x]))
        .collect();
    let mut found = conn.each(UNSENT, &unsent, &[])?;
    for text in NEEDED {
        found.extend(conn.each(text, &rows, &[])?);
    }
    found.into_iter().map(|mut row| row.key()).collect()
}

/// The families of these executions of which all had finished by then, and that nothing needs;
/// those that were asked for first come first.
pub(crate) fn removable(
    conn: &mut Conn,
    keys: &[ExecutionKey],
    before: Timestamp,
) -> StoreResult<Vec<Family>> {
    let mut over = families(conn, keys)?;
    over.retain(|family| family.iter().all(|one| one.finished_at.is_some_and(|at| at <= before)));
    let all: Vec<ExecutionKey> = over.iter().flatten().map(|member| member.key.clone()).collect();
    let needed = needed(conn, &all)?;
    over.retain(|family| !family.iter().any(|member| needed.contains(&member.key)));
    over.sort_by_key(|family| family.iter().map(|member| member.finished_at).min());
    Ok(over.into_iter().map(family_of).collect())
}

fn family_of(members: Vec<Member>) -> Family {
    let lines = members.iter().map(|member| member.lines).sum();
    let mut members: Vec<ExecutionKey> = members.into_iter().map(|member| member.key).collect();
    members.sort();
    Family { members, lines }
}

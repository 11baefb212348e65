//! The journal: lines in, lines out, and the events of streams.

use std::collections::HashMap;

use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::{journals, key_row, read_line};
use crate::outgoing;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{EventsHead, EventsPage, EventsRequest};

const INSERT: &str = "
    WITH u(t, p, x, seq, ev, ki, st, at, pl) AS (@u)
    INSERT INTO journal (tenant, project, execution, seq, event, kind, step, at, payload)
    SELECT t, p, x, seq, ev, ki, st, at, pl FROM u";

/// Appends lines; a number that is taken is an error. Where somebody outside wants to be told
/// of them, that is noted in the same transaction.
pub(crate) fn insert_lines<'a>(
    conn: &mut Conn,
    lines: impl Iterator<Item = (&'a ExecutionKey, &'a Line)> + Clone,
) -> StoreResult<()> {
    let rows: Vec<_> = lines.clone().map(line_row).collect();
    conn.each(INSERT, &rows, &[])?;
    outgoing::insert_events(conn, lines)
}

/// Appends lines that another execution had before: nobody is told of them again.
pub(crate) fn copy_lines<'a>(
    conn: &mut Conn,
    lines: impl Iterator<Item = (&'a ExecutionKey, &'a Line)>,
) -> StoreResult<()> {
    let rows: Vec<_> = lines.map(line_row).collect();
    conn.each(INSERT, &rows, &[]).map(drop)
}

fn line_row<'a>((key, line): (&'a ExecutionKey, &'a Line)) -> [Bind<'a>; 9] {
    let [tenant, project, id] = key_row(key);
    let [seq, event, kind, step, at, payload] =
        binds![line.seq, line.event, &line.kind, line.step, line.at, &line.payload];
    [tenant, project, id, seq, event, kind, step, at, payload]
}

/// All lines after `seq`, deltas too, in order.
pub(crate) fn lines_after(conn: &mut Conn, key: &ExecutionKey, seq: i64) -> StoreResult<Vec<Line>> {
    let [tenant, project, id] = key_row(key);
    let rows = conn.rows(
        "SELECT seq, event, kind, step, at, payload FROM journal
         WHERE tenant = ? AND project = ? AND execution = ? AND seq > ? ORDER BY seq",
        &[tenant, project, id, seq.into()],
    )?;
    rows.into_iter().map(|mut row| read_line(&mut row)).collect()
}

/// The whole journal without deltas; `None` where there is no such execution.
pub(crate) fn journal_read(
    conn: &mut Conn,
    scope: &Scope,
    id: ExecutionId,
) -> StoreResult<Option<Vec<Line>>> {
    let key = ExecutionKey { scope: scope.clone(), id };
    let there =
        conn.row("SELECT 1 FROM executions WHERE tenant = ? AND project = ? AND id = ?", &key_row(&key))?;
    if there.is_none() {
        return Ok(None);
    }
    let mut journals = journals(conn, std::slice::from_ref(&key))?;
    Ok(Some(journals.remove(&key).unwrap_or_default()))
}

const HEADS: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT e.tenant, e.project, e.id, e.status, e.last_event, i.end_user
    FROM u JOIN executions e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x
    JOIN execution_info i ON i.tenant = e.tenant AND i.project = e.project AND i.id = e.id";

/// An event's number is never beyond its line's, so that the primary key leads to it.
pub(crate) const EVENTS_POSTGRES: &str = "
    WITH u(o, t, p, x, a, n) AS (@u)
    SELECT u.o, j.seq, j.event, j.kind, j.step, j.at, j.payload
    FROM u CROSS JOIN LATERAL (
      SELECT * FROM journal k WHERE k.tenant = u.t AND k.project = u.p AND k.execution = u.x
        AND k.seq > u.a AND k.event > u.a ORDER BY k.seq LIMIT u.n) j";
const EVENTS_SQLITE: &str = "
    WITH u(o, t, p, x, a, n) AS (@u)
    SELECT u.o, j.seq, j.event, j.kind, j.step, j.at, j.payload
    FROM u JOIN journal j ON j.tenant = u.t AND j.project = u.p AND j.execution = u.x
      AND j.seq > u.a AND j.event > u.a ORDER BY j.seq LIMIT (SELECT n FROM u)";

/// Events for many streams. The heads are read first: the lines reach at least as far.
pub(crate) fn events_read(conn: &mut Conn, requests: &[EventsRequest]) -> StoreResult<Vec<EventsPage>> {
    let keys: Vec<_> = requests.iter().map(|request| key_row(&request.key)).collect();
    let mut heads = HashMap::new();
    for mut row in conn.each(HEADS, &keys, &[])? {
        let key = row.key()?;
        heads.insert(
            key,
            EventsHead { status: row.word()?, last_event: row.big()?, end_user: row.opt_text()? },
        );
    }
    let mut pages: Vec<EventsPage> = requests
        .iter()
        .map(|request| EventsPage { head: heads.get(&request.key).cloned(), lines: Vec::new() })
        .collect();
    let wanted: Vec<_> = requests
        .iter()
        .enumerate()
        .filter(|(_, request)| heads.contains_key(&request.key))
        .map(|(at, request)| {
            let [tenant, project, id] = key_row(&request.key);
            let [place, after, limit] = binds![at as i64, request.after.max(0), request.limit as i64];
            [place, tenant, project, id, after, limit]
        })
        .collect();
    let text = if conn.is_postgres() { EVENTS_POSTGRES } else { EVENTS_SQLITE };
    for mut row in conn.each(text, &wanted, &[])? {
        let at = usize::try_from(row.big()?).unwrap_or(usize::MAX);
        if let Some(page) = pages.get_mut(at) {
            page.lines.push(read_line(&mut row)?);
        }
    }
    for page in &mut pages {
        page.lines.sort_by_key(|line| line.seq);
    }
    Ok(pages)
}

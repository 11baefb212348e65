//! Leases: taken in one transaction, with all that deciding needs.

use std::collections::HashMap;

use holdpoint_engine::effect::Act;
use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::{ExecutionId, SessionId};
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::limit_types::LookAgain;
use crate::limits::{self, InForce};
use crate::postgres::SUSPECT_LOCK;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::turns::InTurn;
use crate::types::{ClaimRequest, Claimed, Extras, HistoryLimits, Inbox, StoreError};
use crate::{extras, messages};

/// One transaction's work: hinted ones, then the others that are ready, then at most one suspect.
/// Where there are at least as many hints as slots, or limits, a hint says no more than 'look':
/// it brings nobody forward.
pub(crate) fn execution_claim_in_txn(conn: &mut Conn, request: &ClaimRequest) -> StoreResult<Vec<Claimed>> {
    let in_force = InForce::new(limits::known(conn)?, request.tenant_concurrency);
    let mut claimed = Vec::new();
    if !request.any || request.hinted.len() < request.limit {
        claimed = select_hinted(conn, request)?;
        let limited = |one: &Claimed| in_force.subjects(&one.key.scope, Some((one.kind, &one.name)));
        claimed.retain(|one| in_force.is_empty() || limited(one).is_empty());
        take(conn, request.session, &claimed)?;
    }
    if request.any && claimed.len() < request.limit {
        let room = request.limit - claimed.len();
        claimed.extend(claim_ready(conn, request, &in_force, room)?);
    }
    load(conn, &mut claimed)?;
    load_histories(conn, &mut claimed, request.history)?;
    Ok(claimed)
}

/// The columns of [`read_claimed`].
macro_rules! columns {
    () => {
        "SELECT e.tenant, e.project, e.id, e.epoch, e.wake, e.last_seq, e.last_event, e.ready_at, (SELECT hp_now()),
           i.kind, i.name, i.version, i.input, i.messages, i.extras, i.retry_of,
           i.end_user"
    };
}

pub(crate) use columns;

macro_rules! info {
    () => {
        " JOIN execution_info i ON i.tenant = e.tenant AND i.project = e.project AND i.id = e.id "
    };
}

pub(crate) use info;

macro_rules! alive {
    () => {
        " AND EXISTS (SELECT 1 FROM sessions s WHERE s.id = ? AND s.expires_at > (SELECT hp_now())) "
    };
}

/// `coalesce` keeps the planner from the index of ready ones: a hint names its row.
pub(crate) const SELECT_HINTED: &str = concat!(
    "WITH u(t, p, x) AS (@u) ",
    columns!(),
    " FROM u JOIN executions e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x",
    info!(),
    "WHERE e.owner IS NULL AND coalesce(e.ready_at, 9223372036854775807) <= (SELECT hp_now()) AND e.lost < 2",
    alive!(),
    "LIMIT ? @skip"
);

pub(crate) const SELECT_OLDEST: &str = concat!(
    columns!(),
    " FROM executions e",
    info!(),
    "WHERE e.owner IS NULL AND e.ready_at <= (SELECT hp_now()) AND e.lost < 2",
    alive!(),
    "ORDER BY e.ready_at LIMIT ? @skip"
);

const SELECT_SUSPECT: &str = concat!(
    columns!(),
    " FROM executions e",
    info!(),
    "WHERE e.owner IS NULL AND e.ready_at <= (SELECT hp_now()) AND e.lost >= 2",
    alive!(),
    "ORDER BY e.ready_at LIMIT ? @skip"
);

/// Under limits, so many suspects are looked at for one that may be taken.
const SUSPECTS: i64 = 16;

fn select_hinted(conn: &mut Conn, request: &ClaimRequest) -> StoreResult<Vec<Claimed>> {
    let mut hinted: Vec<&ExecutionKey> = request.hinted.iter().collect();
    hinted.sort();
    hinted.dedup();
    let session = request.session.0;
    let at_once = if conn.is_postgres() { hinted.len().max(1) } else { 1 };
    let mut claimed: Vec<Claimed> = Vec::new();
    for part in hinted.chunks(at_once) {
        let room = request.limit.saturating_sub(claimed.len());
        if room == 0 {
            break;
        }
        let rows: Vec<_> = part.iter().map(|key| key_row(key)).collect();
        let found = conn.each(SELECT_HINTED, &rows, &binds![session, room as i64])?;
        claimed.extend(read_all(found)?);
    }
    Ok(claimed)
}

/// While there is room for all that is ready, it is taken as it comes; else in turn.
fn claim_ready(
    conn: &mut Conn,
    request: &ClaimRequest,
    in_force: &InForce,
    room: usize,
) -> StoreResult<Vec<Claimed>> {
    if in_force.is_empty() && !conn.turns.is_crowded() {
        let mut oldest = select_oldest(conn, request, room + 1)?;
        if oldest.len() <= room {
            take(conn, request.session, &oldest)?;
            if oldest.len() < room {
                oldest.extend(claim_suspect(conn, request.session, None)?);
            }
            conn.turns.set_look_again(LookAgain::default());
            return Ok(oldest);
        }
    }
    let mut in_turn = InTurn::new(request, in_force);
    let mut claimed = in_turn.take(conn, room)?;
    if claimed.len() < room {
        let judge = Some(&mut in_turn).filter(|_| !in_force.is_empty());
        claimed.extend(claim_suspect(conn, request.session, judge)?);
    }
    in_turn.close(conn, claimed.len() >= room)?;
    Ok(claimed)
}

fn select_oldest(conn: &mut Conn, request: &ClaimRequest, room: usize) -> StoreResult<Vec<Claimed>> {
    read_all(conn.rows(SELECT_OLDEST, &binds![request.session.0, room as i64])?)
}

/// A suspect goes out alone in the cluster: the lock makes the look and the claim one step.
fn claim_suspect(
    conn: &mut Conn,
    session: SessionId,
    limits: Option<&mut InTurn<'_>>,
) -> StoreResult<Option<Claimed>> {
    let ready = "SELECT 1 FROM executions WHERE lost >= 2 AND owner IS NULL AND ready_at <= (SELECT hp_now()) LIMIT 1";
    if conn.row(ready, &[])?.is_none() {
        return Ok(None);
    }
    if conn.is_postgres() {
        conn.rows("SELECT 1 FROM (SELECT pg_advisory_xact_lock(?)) AS locked", &binds![SUSPECT_LOCK])?;
    }
    if conn.row("SELECT 1 FROM executions WHERE lost >= 2 AND owner IS NOT NULL LIMIT 1", &[])?.is_some() {
        return Ok(None);
    }
    let at_most = if limits.is_some() { SUSPECTS } else { 1 };
    let found = read_all(conn.rows(SELECT_SUSPECT, &binds![session.0, at_most])?)?;
    let suspect = match limits {
        Some(limits) => limits.first_admitted(conn, found)?,
        None => found.into_iter().next(),
    };
    take(conn, session, suspect.as_slice())?;
    Ok(suspect)
}

/// Tenant, project and id as a row of a batch.
pub(crate) fn key_row(key: &ExecutionKey) -> [Bind<'_>; 3] {
    binds![&*key.scope.tenant, &*key.scope.project, key.id.0]
}

fn read_all(rows: Vec<Row>) -> StoreResult<Vec<Claimed>> {
    rows.into_iter().map(|mut row| read_claimed(&mut row)).collect()
}

/// The row as it will be once it is taken: the epoch is the new one.
pub(crate) fn read_claimed(row: &mut Row) -> StoreResult<Claimed> {
    let key = row.key()?;
    let (epoch, wake, seq, event) = (row.big()? + 1, row.big()?, row.big()?, row.big()?);
    let ready_at = row.opt_time()?;
    let now = row.time()?;
    Ok(Claimed {
        first_run: key.id,
        key,
        epoch,
        wake,
        seq,
        event,
        waited: ready_at.unwrap_or(now).until(now),
        kind: row.word()?,
        name: row.text()?,
        version: row.int()?,
        input: row.opt_text()?,
        messages: row.opt_text()?,
        history: Vec::new(),
        extras: row.bool()?.then(Extras::default),
        end_user: None,
        lines: Vec::new(),
        acts: Vec::new(),
    }
    .of_first_run(row.opt_id()?.map(ExecutionId))
    .for_user(row.opt_text()?))
}

impl Claimed {
    fn of_first_run(mut self, retry_of: Option<ExecutionId>) -> Self {
        self.first_run = retry_of.unwrap_or(self.first_run);
        self
    }

    fn for_user(self, end_user: Option<String>) -> Self {
        Self { end_user, ..self }
    }
}

pub(crate) const TAKE: &str = "
    WITH u(t, p, x, ow, ep) AS (@u)
    UPDATE executions AS e SET status = 'running', reason = NULL, owner = u.ow, epoch = u.ep, ready_at = NULL,
      started_at = coalesce(e.started_at, (SELECT hp_now())), updated_at = (SELECT hp_now())
    FROM u WHERE e.tenant = u.t AND e.project = u.p AND e.id = u.x";

/// The rows are locked: nobody else can have taken them meanwhile.
pub(crate) fn take(conn: &mut Conn, session: SessionId, claimed: &[Claimed]) -> StoreResult<()> {
    let rows: Vec<_> = claimed
        .iter()
        .map(|claimed| {
            let scope = &claimed.key.scope;
            binds![&*scope.tenant, &*scope.project, claimed.key.id.0, session.0, claimed.epoch]
        })
        .collect();
    conn.each(TAKE, &rows, &[]).map(drop)
}

/// The journals and the acts of those that have any.
fn load(conn: &mut Conn, claimed: &mut [Claimed]) -> StoreResult<()> {
    let begun: Vec<ExecutionKey> =
        claimed.iter().filter(|one| one.seq > 0).map(|one| one.key.clone()).collect();
    let woken: Vec<ExecutionKey> =
        claimed.iter().filter(|one| one.wake > 0).map(|one| one.key.clone()).collect();
    let mut lines = journals(conn, &begun)?;
    let mut acts = inboxes(conn, &woken)?;
    let special: Vec<ExecutionKey> =
        claimed.iter().filter(|one| one.extras.is_some()).map(|one| one.key.clone()).collect();
    let mut extras = extras::read(conn, &special)?;
    for one in claimed {
        one.extras = extras.remove(&one.key);
        one.lines = lines.remove(&one.key).unwrap_or_default();
        one.acts = acts.remove(&one.key).unwrap_or_default();
    }
    Ok(())
}

/// What was said before in the conversations of agents.
fn load_histories(conn: &mut Conn, claimed: &mut [Claimed], limits: HistoryLimits) -> StoreResult<()> {
    let agents = claimed.iter().filter(|one| one.kind == DefinitionKind::Agent);
    let keys: Vec<ExecutionKey> = agents.map(|one| one.key.clone()).collect();
    let mut histories = messages::histories(conn, &keys, limits)?;
    for one in claimed {
        one.history = histories.remove(&one.key).unwrap_or_default();
    }
    Ok(())
}

pub(crate) const JOURNALS: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT j.tenant, j.project, j.execution, j.seq, j.event, j.kind, j.step, j.at, j.payload
    FROM u JOIN journal j ON j.tenant = u.t AND j.project = u.p AND j.execution = u.x
    WHERE j.kind <> 'message.delta'";

/// The journals without deltas, each in order.
pub(crate) fn journals(
    conn: &mut Conn,
    keys: &[ExecutionKey],
) -> StoreResult<HashMap<ExecutionKey, Vec<Line>>> {
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    let mut journals: HashMap<ExecutionKey, Vec<Line>> = HashMap::with_capacity(keys.len());
    for mut row in conn.each(JOURNALS, &rows, &[])? {
        let key = row.key()?;
        journals.entry(key).or_default().push(read_line(&mut row)?);
    }
    for lines in journals.values_mut() {
        lines.sort_by_key(|line| line.seq);
    }
    Ok(journals)
}

/// Reads seq, event, kind, step, at, payload.
pub(crate) fn read_line(row: &mut Row) -> StoreResult<Line> {
    Ok(Line {
        seq: row.big()?,
        event: row.opt_big()?,
        kind: row.text()?,
        step: row.int()?,
        at: row.time()?,
        payload: row.text()?,
    })
}

type Acts = Vec<(i64, Act)>;

/// The acts that are not journaled yet, each in order.
pub(crate) fn inboxes(conn: &mut Conn, keys: &[ExecutionKey]) -> StoreResult<HashMap<ExecutionKey, Acts>> {
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    let found = conn.each(
        "WITH u(t, p, x) AS (@u) SELECT i.tenant, i.project, i.execution, i.n, i.act
         FROM u JOIN inbox i ON i.tenant = u.t AND i.project = u.p AND i.execution = u.x",
        &rows,
        &[],
    )?;
    let mut inboxes: HashMap<ExecutionKey, Acts> = HashMap::new();
    for mut row in found {
        let (key, n, act) = (row.key()?, row.big()?, row.text()?);
        let act = serde_json::from_str(&act)
            .map_err(|error| StoreError::Corrupt(format!("act {n} of {} cannot be read: {error}", key.id)))?;
        inboxes.entry(key).or_default().push((n, act));
    }
    for acts in inboxes.values_mut() {
        acts.sort_by_key(|(n, _)| *n);
    }
    Ok(inboxes)
}

/// The acts on held executions, with their counters.
pub(crate) fn inbox_read(conn: &mut Conn, keys: &[ExecutionKey]) -> StoreResult<Vec<Inbox>> {
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    // The counter first: acts that come between the two reads are there, not missing.
    let counters = conn.each(
        "WITH u(t, p, x) AS (@u) SELECT e.tenant, e.project, e.id, e.wake
         FROM u JOIN executions e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x",
        &rows,
        &[],
    )?;
    let mut acts = inboxes(conn, keys)?;
    let read = |mut row: Row| {
        let (key, wake) = (row.key()?, row.big()?);
        let mut acts = acts.remove(&key).unwrap_or_default();
        acts.retain(|(n, _)| *n <= wake);
        Ok(Inbox { key, wake, acts })
    };
    counters.into_iter().map(read).collect()
}

const RELOAD: &str = concat!(
    columns!(),
    " FROM executions e",
    info!(),
    "WHERE e.tenant = ? AND e.project = ? AND e.id = ? AND e.owner IS NOT DISTINCT FROM ? AND e.epoch = ?"
);

/// An execution that the session holds, from one moment.
pub(crate) fn execution_reload_in_txn(
    conn: &mut Conn,
    key: &ExecutionKey,
    session: SessionId,
    epoch: i64,
) -> StoreResult<Option<Claimed>> {
    let [tenant, project, id] = key_row(key);
    let owner = Bind::from(session.0);
    // The row is locked, so that no act comes between it and its inbox.
    let Some(mut row) =
        conn.row(&format!("{RELOAD} @lock"), &[tenant, project, id, owner, Bind::from(epoch)])?
    else {
        return Ok(None);
    };
    let mut claimed = read_claimed(&mut row)?;
    claimed.epoch = epoch;
    load(conn, std::slice::from_mut(&mut claimed))?;
    Ok(Some(claimed))
}

/// The owner is compared row by row: as one value it would look like a way to the few rows it is in.
pub(crate) const RELEASE: &str = "
    WITH u(t, p, x, ow) AS (@u)
    UPDATE executions AS e SET owner = NULL, ready_at = (SELECT hp_now()), updated_at = (SELECT hp_now())
    FROM u WHERE e.tenant = u.t AND e.project = u.p AND e.id = u.x AND e.owner IS NOT DISTINCT FROM u.ow";

/// Gives leases back.
pub(crate) fn execution_release(
    conn: &mut Conn,
    session: SessionId,
    keys: &[ExecutionKey],
) -> StoreResult<()> {
    let row = |key| {
        let [tenant, project, id] = key_row(key);
        [tenant, project, id, Bind::from(session.0)]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    conn.each(RELEASE, &rows, &[]).map(drop)
}

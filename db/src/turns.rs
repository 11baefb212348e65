//! Claims where not all that is ready can be taken at once: lane by lane, so that nobody waits
//! for another's flood, and under the limits that there are.
//!
//! While there is room for all, the oldest ready ones are simply taken, and none of this happens.
//! Lanes are found by jumping along an index from one to the next: what lies in them costs nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::conn::Conn;
use crate::execution_claim::{columns, info, key_row, read_claimed, take};
use crate::lanes::{Cursor, Lane, Place, shares};
use crate::limit_rooms::Rooms;
use crate::limit_types::LookAgain;
use crate::limits::{InForce, KnownLimits};
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ClaimRequest, Claimed};

/// The most lanes of a claim; where there are more, the next claim goes on behind them.
const LANES: i32 = 1_000;
/// The most rounds of a claim.
const ROUNDS: usize = 8;

/// Where claims of this process stand; shared by the connections of a pool. Forgetting it costs
/// nobody more than a turn.
#[derive(Default)]
pub(crate) struct Turns {
    pub(crate) limits: KnownLimits,
    cursor: Mutex<Cursor>,
    /// Where the next claim looks for lanes; empty: from the beginning.
    lanes_after: Mutex<String>,
    /// The last claim had not room for all.
    crowded: AtomicBool,
    again: Mutex<LookAgain>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    pub(crate) fn is_crowded(&self) -> bool {
        self.crowded.load(Ordering::Relaxed)
    }

    pub(crate) fn look_again(&self) -> LookAgain {
        *lock(&self.again)
    }

    pub(crate) fn set_look_again(&self, again: LookAgain) {
        *lock(&self.again) = again;
    }

    fn next_cursor(&self) -> Cursor {
        let mut cursor = lock(&self.cursor);
        cursor.turn = cursor.turn.wrapping_add(1);
        cursor.clone()
    }
}

/// From one lane to the next, up to so many; byte by byte (`@c`), whatever the database's language.
pub(crate) const LANES_AFTER: &str = "
    WITH RECURSIVE l(lane, n) AS (
      SELECT (SELECT e.tenant || '/' || e.project || '/' || e.lane FROM executions e
          WHERE e.ready_at IS NOT NULL
            AND (e.tenant || '/' || e.project || '/' || e.lane) @c > ?
          ORDER BY (e.tenant || '/' || e.project || '/' || e.lane) @c LIMIT 1), 1
      UNION ALL
      SELECT (SELECT e.tenant || '/' || e.project || '/' || e.lane FROM executions e
          WHERE e.ready_at IS NOT NULL
            AND (e.tenant || '/' || e.project || '/' || e.lane) @c > l.lane
          ORDER BY (e.tenant || '/' || e.project || '/' || e.lane) @c LIMIT 1), l.n + 1
      FROM l WHERE l.lane IS NOT NULL AND l.n < ?)
    SELECT l.lane, (SELECT e.ready_at FROM executions e WHERE e.ready_at IS NOT NULL
        AND (e.tenant || '/' || e.project || '/' || e.lane) @c = l.lane ORDER BY e.ready_at LIMIT 1)
      <= (SELECT hp_now())
    FROM l WHERE l.lane IS NOT NULL";

/// The lanes that have anything now.
fn lanes(conn: &mut Conn) -> StoreResult<Vec<Lane>> {
    let turns = std::sync::Arc::clone(&conn.turns);
    let mut after = std::mem::take(&mut *lock(&turns.lanes_after));
    let mut rows = conn.rows(LANES_AFTER, &binds![&after, LANES])?;
    if rows.is_empty() && !after.is_empty() {
        after.clear();
        rows = conn.rows(LANES_AFTER, &binds![&after, LANES])?;
    }
    let read = |mut row: Row| Ok((row.text()?, row.opt_big()? == Some(1)));
    let known = rows.into_iter().map(read).collect::<StoreResult<Vec<_>>>()?;
    if known.len() >= usize::try_from(LANES).unwrap_or(usize::MAX) {
        *lock(&turns.lanes_after) = known.last().map(|(key, _)| key.clone()).unwrap_or_default();
    }
    known.iter().filter(|(_, ready)| *ready).map(|(key, _)| Lane::read(key)).collect()
}

macro_rules! ready_in_lane {
    () => {
        "SELECT * FROM executions e WHERE e.owner IS NULL AND e.ready_at <= (SELECT hp_now()) AND e.lost < 2"
    };
}

macro_rules! alive {
    () => {
        " WHERE EXISTS (SELECT 1 FROM sessions s WHERE s.id = ? AND s.expires_at > (SELECT hp_now()))"
    };
}

pub(crate) const OLDEST_OF_LANES_POSTGRES: &str = concat!(
    "WITH u(l, k) AS (@u) ",
    columns!(),
    ", e.lane FROM u CROSS JOIN LATERAL (",
    ready_in_lane!(),
    " AND (e.tenant || '/' || e.project || '/' || e.lane) @c = u.l ORDER BY e.ready_at LIMIT u.k @skip) e",
    info!(),
    alive!(),
);

const OLDEST_OF_LANES_SQLITE: &str = concat!(
    "WITH u(l, k) AS (@u) ",
    columns!(),
    ", e.lane FROM (",
    ready_in_lane!(),
    " AND (e.tenant || '/' || e.project || '/' || e.lane) @c = (SELECT l FROM u)
      ORDER BY e.ready_at LIMIT (SELECT k FROM u)) e",
    info!(),
    alive!(),
);

/// The oldest ones of each lane, so many of each.
fn oldest_of_lanes(
    conn: &mut Conn,
    request: &ClaimRequest,
    wanted: &[(String, i64)],
) -> StoreResult<Vec<(Claimed, Place)>> {
    let rows: Vec<_> = wanted.iter().map(|(lane, count)| binds![lane, *count]).collect();
    let text = if conn.is_postgres() { OLDEST_OF_LANES_POSTGRES } else { OLDEST_OF_LANES_SQLITE };
    let found = conn.each(text, &rows, &binds![request.session.0])?;
    let read = |mut row| {
        let claimed = read_claimed(&mut row)?;
        Ok((claimed, Place::read(&row.text()?)?))
    };
    found.into_iter().map(read).collect()
}

const MOVE: &str = "
    WITH u(t, p, x, l) AS (@u)
    UPDATE executions AS e SET lane = u.l FROM u WHERE e.tenant = u.t AND e.project = u.p AND e.id = u.x";

/// Puts executions into lanes.
pub(crate) fn move_to_lanes<'a>(
    conn: &mut Conn,
    moved: impl Iterator<Item = (&'a holdpoint_engine::wire::ExecutionKey, &'a Place)>,
) -> StoreResult<()> {
    let moved: Vec<_> = moved.map(|(key, place)| (key, place.text())).collect();
    let rows: Vec<_> = moved
        .iter()
        .map(|(key, place)| {
            let [tenant, project, id] = key_row(key);
            [tenant, project, id, Bind::from(place)]
        })
        .collect();
    conn.each(MOVE, &rows, &[]).map(drop)
}

/// One claim, lane by lane.
pub(crate) struct InTurn<'a> {
    request: &'a ClaimRequest,
    in_force: &'a InForce,
    rooms: Rooms<'a>,
    /// Each lane, and whether it may have more.
    lanes: Vec<(Lane, bool)>,
    claimed: Vec<Claimed>,
    moved: bool,
}

impl<'a> InTurn<'a> {
    pub(crate) fn new(request: &'a ClaimRequest, in_force: &'a InForce) -> Self {
        let (lanes, claimed) = (Vec::new(), Vec::new());
        Self { request, in_force, rooms: Rooms::new(in_force), lanes, claimed, moved: false }
    }

    /// Takes up to so many.
    pub(crate) fn take(&mut self, conn: &mut Conn, room: usize) -> StoreResult<Vec<Claimed>> {
        let turns = std::sync::Arc::clone(&conn.turns);
        self.lanes = lanes(conn)?.into_iter().map(|lane| (lane, true)).collect();
        self.rooms.open(conn, self.lanes.iter().map(|(lane, _)| lane))?;
        let cursor = turns.next_cursor();
        for _ in 0..ROUNDS {
            let left = room.saturating_sub(self.claimed.len());
            let wanted = self.wanted(left, &cursor);
            if left == 0 || wanted.is_empty() {
                break;
            }
            self.round(conn, &wanted)?;
        }
        if let Some(last) = self.claimed.last() {
            lock(&turns.cursor).tenant = last.key.scope.tenant.to_string();
        }
        let crowded = self.claimed.len() >= room && self.lanes.iter().any(|(_, more)| *more);
        turns.crowded.store(crowded, Ordering::Relaxed);
        Ok(std::mem::take(&mut self.claimed))
    }

    fn wanted(&mut self, left: usize, cursor: &Cursor) -> Vec<(usize, usize)> {
        let rooms = &mut self.rooms;
        let most = |(lane, more): &(Lane, bool)| {
            let room = if *more { rooms.of_lane(lane).min(left) } else { 0 };
            (lane.clone(), room)
        };
        let lanes: Vec<_> = self.lanes.iter().map(most).collect();
        shares(&lanes, left, cursor, |tenant| rooms.of_tenant(tenant))
    }

    fn round(&mut self, conn: &mut Conn, wanted: &[(usize, usize)]) -> StoreResult<()> {
        let asked: Vec<_> =
            wanted.iter().map(|(at, share)| (self.lanes[*at].0.key(), *share as i64)).collect();
        let found = oldest_of_lanes(conn, self.request, &asked)?;
        self.note_empty(wanted, &found);
        let (mut taken, mut moved) = (Vec::new(), Vec::new());
        for (claimed, is_in) in found {
            let of = (claimed.kind, claimed.name.as_str());
            let scope = &claimed.key.scope;
            let belongs = self.in_force.place(scope, of, is_in.priority, claimed.epoch > 1);
            if belongs != is_in && !belongs.is_plain() {
                self.moved = true;
                moved.push((claimed.key, belongs));
            } else if self.in_force.is_empty() || self.rooms.admit(&claimed) {
                if is_in.unbegun {
                    moved.push((claimed.key.clone(), Place { unbegun: false, ..is_in }));
                }
                taken.push(claimed);
            }
        }
        take(conn, self.request.session, &taken)?;
        self.claimed.extend(taken);
        move_to_lanes(conn, moved.iter().map(|(key, place)| (key, place)))?;
        self.meet(conn, moved)
    }

    /// A lane that gave less than it was asked for has no more.
    fn note_empty(&mut self, wanted: &[(usize, usize)], found: &[(Claimed, Place)]) {
        for (at, share) in wanted {
            let (lane, more) = &mut self.lanes[*at];
            let of_it = |(claimed, place): &&(Claimed, Place)| {
                claimed.key.scope == lane.scope && *place == lane.place
            };
            *more = found.iter().filter(of_it).count() >= *share;
        }
    }

    /// Lanes that executions were moved to are looked at in the next round.
    fn meet(
        &mut self,
        conn: &mut Conn,
        moved: Vec<(holdpoint_engine::wire::ExecutionKey, Place)>,
    ) -> StoreResult<()> {
        let into: HashSet<Lane> =
            moved.into_iter().map(|(key, place)| Lane { scope: key.scope, place }).collect();
        for lane in into {
            match self.lanes.iter_mut().find(|(known, _)| *known == lane) {
                Some((_, more)) => *more = true,
                None => self.lanes.push((lane, true)),
            }
        }
        self.rooms.open(conn, self.lanes.iter().map(|(lane, _)| lane))
    }

    /// The first that the limits let through.
    pub(crate) fn first_admitted(
        &mut self,
        conn: &mut Conn,
        found: Vec<Claimed>,
    ) -> StoreResult<Option<Claimed>> {
        let lane = |claimed: &Claimed| {
            let (scope, of) = (claimed.key.scope.clone(), (claimed.kind, claimed.name.clone()));
            Lane { scope, place: Place { priority: 0, unbegun: false, of: Some(of) } }
        };
        let lanes: Vec<Lane> = found.iter().map(lane).collect();
        self.rooms.open(conn, lanes.iter())?;
        Ok(found.into_iter().find(|claimed| self.rooms.admit(claimed)))
    }

    /// Writes what was counted, and remembers when to look again.
    pub(crate) fn close(self, conn: &mut Conn, is_full: bool) -> StoreResult<()> {
        let when_freed = !self.in_force.is_empty();
        let after = self.rooms.close(conn)?;
        // What was only put into its lane is looked at there at once.
        let after = if self.moved && !is_full { Some(Duration::ZERO) } else { after };
        conn.turns.set_look_again(LookAgain { when_freed, after });
        Ok(())
    }
}

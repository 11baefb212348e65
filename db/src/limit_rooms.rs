//! How much the limits let through, for one claim.
//!
//! Whoever takes something under a limit first locks that limit's row, and then counts what
//! sessions hold. Nothing is counted up and down, so nothing can drift: a slot is free as soon as
//! its execution is held no more, however that came. A row that somebody else has locked is left
//! to them.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;

use crate::conn::Conn;
use crate::lanes::Lane;
use crate::limit_types::*;
use crate::limit_uses::Uses;
use crate::limits::{InForce, Subject, kind_of, read_limit};
use crate::sql::Bind;
use crate::store::StoreResult;
use crate::types::{Claimed, StoreError};

/// When to look again where somebody else was at it.
const CONTENDED: Duration = Duration::from_millis(20);

/// What one limit lets through yet.
#[derive(Debug)]
struct Room {
    /// So many at a time.
    slots: i64,
    /// So many that begin.
    begins: i64,
    rate: Option<Rate>,
    uses: Uses,
    begun: i64,
    locked: bool,
}

/// The limits that a claim has met.
pub(crate) struct Rooms<'a> {
    in_force: &'a InForce,
    open: BTreeMap<Subject, Room>,
    now: Timestamp,
    again: Option<Duration>,
}

const CLOSED: Room = Room { slots: 0, begins: 0, rate: None, uses: Uses::none(), begun: 0, locked: false };

pub(crate) const LOCK: &str = "
    WITH u(t, p, k, n) AS (@u)
    SELECT e.tenant, e.project, e.kind, e.name, e.used, l.concurrency, l.rate_count, l.rate_micros, l.backlog,
      (SELECT hp_now())
    FROM u JOIN limit_states e ON e.tenant = u.t AND e.project = u.p AND e.kind = u.k AND e.name = u.n
    LEFT JOIN limits l ON l.tenant = e.tenant AND l.project = e.project AND l.kind = e.kind AND l.name = e.name
    ORDER BY e.tenant, e.project, e.kind, e.name";

const MAKE: &str = "
    WITH u(t, p, k, n) AS (@u)
    INSERT INTO limit_states (tenant, project, kind, name) SELECT t, p, k, n FROM u WHERE true
    ON CONFLICT DO NOTHING";

/// All that sessions hold, by definition. Found first, then asked row by row: on tables without
/// statistics the other way round would walk every execution that there ever was.
pub(crate) const HELD: &str = "
    WITH e AS MATERIALIZED (SELECT tenant, project, id FROM executions WHERE owner IS NOT NULL)
    SELECT e.tenant, e.project, i.kind, i.name, count(*)
    FROM e JOIN execution_info i ON i.tenant = e.tenant AND i.project = e.project AND i.id = e.id
    GROUP BY e.tenant, e.project, i.kind, i.name";

/// How many are held under each limit.
pub(crate) fn held(conn: &mut Conn) -> StoreResult<HashMap<Subject, i64>> {
    let mut held = HashMap::new();
    for mut row in conn.rows(HELD, &[])? {
        let scope = row.scope()?;
        let (kind, name) = (kind_of(row.word::<DefinitionKind>()?), row.text()?);
        let count = row.big()?;
        *held.entry(Subject::new(&scope, kind, &name)).or_default() += count;
        *held.entry(Subject::new(&scope, LimitKind::Tenant, TENANT_LIMIT)).or_default() += count;
    }
    Ok(held)
}

/// A limit's row, locked: what it says now, and what began lately.
pub(crate) struct State {
    pub(crate) limit: Limit,
    pub(crate) uses: Uses,
    pub(crate) now: Timestamp,
}

/// Locks the rows of limits; those that somebody else has are missing, unless they are waited for.
pub(crate) fn lock(
    conn: &mut Conn,
    subjects: &[Subject],
    wait: bool,
) -> StoreResult<BTreeMap<Subject, State>> {
    let rows: Vec<_> = subjects.iter().map(Subject::binds).collect();
    let text = format!("{LOCK} {}", if wait { "@lock" } else { "@skip" });
    let mut found = conn.each(&text, &rows, &[])?;
    if found.len() < rows.len() {
        conn.each(MAKE, &rows, &[])?;
        found = conn.each(&text, &rows, &[])?;
    }
    let mut states = BTreeMap::new();
    for mut row in found {
        let subject = Subject::read(&mut row)?;
        let used = row.text()?;
        let uses = serde_json::from_str(&used)
            .map_err(|error| StoreError::Corrupt(format!("uses of a limit: {error}")))?;
        let limit = read_limit(&mut row)?;
        states.insert(subject, State { limit, uses, now: row.time()? });
    }
    Ok(states)
}

/// Writes what began, under the lock.
pub(crate) fn write_uses(conn: &mut Conn, subject: &Subject, uses: &Uses) -> StoreResult<()> {
    let [tenant, project, kind, name] = subject.binds();
    let uses = serde_json::to_string(uses).map_err(|error| StoreError::Refused(error.to_string()))?;
    conn.rows(
        "UPDATE limit_states SET used = ? WHERE tenant = ? AND project = ? AND kind = ? AND name = ?",
        &[Bind::from(&uses), tenant, project, kind, name],
    )
    .map(drop)
}

impl<'a> Rooms<'a> {
    pub(crate) fn new(in_force: &'a InForce) -> Self {
        Self { in_force, open: BTreeMap::new(), now: Timestamp::default(), again: None }
    }

    /// Meets the limits of these lanes.
    pub(crate) fn open<'l>(
        &mut self,
        conn: &mut Conn,
        lanes: impl Iterator<Item = &'l Lane>,
    ) -> StoreResult<()> {
        let mut met: Vec<Subject> = Vec::new();
        for lane in lanes {
            met.extend(self.subjects(lane));
        }
        met.retain(|subject| !self.open.contains_key(subject));
        met.sort();
        met.dedup();
        if met.is_empty() {
            return Ok(());
        }
        let mut states = lock(conn, &met, false)?;
        let held = held(conn)?;
        for subject in met {
            let room = match states.remove(&subject) {
                Some(state) => self.room(&subject, state, held.get(&subject).copied().unwrap_or(0)),
                None => {
                    self.sooner(CONTENDED);
                    CLOSED
                }
            };
            self.open.insert(subject, room);
        }
        Ok(())
    }

    fn subjects(&self, lane: &Lane) -> Vec<Subject> {
        let of = lane.place.of.as_ref().map(|(kind, name)| (*kind, name.as_str()));
        self.in_force.subjects(&lane.scope, of)
    }

    fn room(&mut self, subject: &Subject, state: State, held: i64) -> Room {
        self.now = state.now;
        let default = self.in_force.tenant.filter(|_| subject.kind == LimitKind::Tenant);
        let Limit { concurrency, rate, .. } = state.limit;
        let slots = concurrency.or(default).map_or(i64::MAX, |most| (most - held).max(0));
        let begins = rate.map_or(i64::MAX, |rate| (rate.count - state.uses.counted(&rate, state.now)).max(0));
        Room { slots, begins, rate, uses: state.uses, begun: 0, locked: true }
    }

    fn sooner(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |before| before.min(after)));
    }

    /// How many of a lane may be taken.
    pub(crate) fn of_lane(&mut self, lane: &Lane) -> usize {
        let mut room = i64::MAX;
        for subject in self.subjects(lane) {
            let Some(one) = self.open.get(&subject) else { return 0 };
            room = room.min(one.slots);
            if !lane.place.unbegun {
                continue;
            }
            room = room.min(one.begins);
            if let Some(rate) = one.rate.filter(|_| one.begins == 0) {
                let wait = one.uses.until_fewer(&rate, self.now);
                self.sooner(wait);
            }
        }
        usize::try_from(room).unwrap_or(0)
    }

    /// How many of a tenant may be taken.
    pub(crate) fn of_tenant(&self, tenant: &str) -> usize {
        let own = |(subject, _): &(&Subject, &Room)| {
            subject.kind == LimitKind::Tenant && &*subject.tenant == tenant
        };
        let slots = self.open.iter().find(own).map_or(i64::MAX, |(_, room)| room.slots);
        usize::try_from(slots).unwrap_or(0)
    }

    /// Whether one may be taken; then it is counted.
    pub(crate) fn admit(&mut self, claimed: &Claimed) -> bool {
        let begins = claimed.epoch == 1;
        let subjects =
            self.in_force.subjects(&claimed.key.scope, Some((claimed.kind, claimed.name.as_str())));
        let fits = subjects.iter().all(|subject| {
            self.open.get(subject).is_some_and(|room| room.slots > 0 && (!begins || room.begins > 0))
        });
        if !fits {
            return false;
        }
        for subject in &subjects {
            let Some(room) = self.open.get_mut(subject) else { continue };
            room.slots = room.slots.saturating_sub(1);
            if begins {
                room.begins = room.begins.saturating_sub(1);
                room.begun += 1;
            }
        }
        true
    }

    /// Writes what began under rates; when to look again.
    pub(crate) fn close(self, conn: &mut Conn) -> StoreResult<Option<Duration>> {
        for (subject, mut room) in self.open {
            if let Some(rate) = room.rate.filter(|_| room.locked && room.begun > 0) {
                room.uses.add(&rate, self.now, room.begun);
                write_uses(conn, &subject, &room.uses)?;
            }
        }
        Ok(self.again)
    }
}

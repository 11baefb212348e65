//! Lanes: where ready executions wait for their turn, and whose turn it is.
//!
//! A lane is one text in the order of an index: tenant, project, a letter for the priority, and,
//! for what a limit holds, a mark and the definition. Turns go round: first the tenants, then a
//! tenant's projects, then the lanes of the highest priority that a project has. So a tenant's
//! flood makes another wait for one turn, not for the flood.

use std::collections::BTreeMap;

use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;

use crate::store::StoreResult;
use crate::types::StoreError;

/// Priorities are `-HIGHEST..=HIGHEST`; a start without one has 0.
pub const HIGHEST_PRIORITY: i32 = 10;

/// What a limit marks those with that have not begun: a rate is for them alone.
const UNBEGUN: char = '~';

/// A definition that a limit may be for.
pub(crate) type Of = (DefinitionKind, String);

/// One lane.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lane {
    pub(crate) scope: Scope,
    pub(crate) place: Place,
}

/// A lane within its project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) priority: i32,
    /// Held by a rate, and it has not begun.
    pub(crate) unbegun: bool,
    /// The definition, where that is limited.
    pub(crate) of: Option<Of>,
}

impl Place {
    /// Where nothing is limited.
    pub(crate) fn plain(priority: i32) -> Self {
        Self { priority, unbegun: false, of: None }
    }

    pub(crate) fn is_plain(&self) -> bool {
        !self.unbegun && self.of.is_none()
    }

    /// As the column has it.
    pub(crate) fn text(&self) -> String {
        let rank = HIGHEST_PRIORITY - self.priority.clamp(-HIGHEST_PRIORITY, HIGHEST_PRIORITY);
        let mut text = String::from(char::from(b'a' + u8::try_from(rank).unwrap_or(0)));
        if self.unbegun {
            text.push(UNBEGUN);
        }
        if let Some((kind, name)) = &self.of {
            text.push_str(&format!(":{kind}:{name}"));
        }
        text
    }

    /// Reads the column.
    pub(crate) fn read(text: &str) -> StoreResult<Self> {
        Self::parse(text).ok_or_else(|| StoreError::Corrupt(format!("`{text}` is no lane")))
    }

    fn parse(text: &str) -> Option<Self> {
        let rank = text.bytes().next().filter(u8::is_ascii_lowercase)? - b'a';
        let rest = &text[1..];
        let unbegun = rest.starts_with(UNBEGUN);
        let rest = rest.strip_prefix(UNBEGUN).unwrap_or(rest);
        let of = match rest.strip_prefix(':') {
            Some(of) => {
                let (kind, name) = of.split_once(':')?;
                Some((kind.parse().ok()?, name.to_owned()))
            }
            None => None,
        };
        let priority = HIGHEST_PRIORITY - i32::from(rank);
        (priority >= -HIGHEST_PRIORITY).then_some(Self { priority, unbegun, of })
    }
}

impl Lane {
    /// What the index is over.
    pub(crate) fn key(&self) -> String {
        format!("{}/{}/{}", self.scope.tenant, self.scope.project, self.place.text())
    }

    pub(crate) fn read(key: &str) -> StoreResult<Self> {
        let corrupt = || StoreError::Corrupt(format!("`{key}` is no lane"));
        let mut parts = key.splitn(3, '/');
        let mut part = || parts.next().ok_or_else(corrupt);
        let (tenant, project, place) = (part()?, part()?, part()?);
        Ok(Self { scope: Scope::new(tenant, project), place: Place::read(place)? })
    }
}

/// Where turns go on: after this tenant, and, within one, at a place that each claim moves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    pub(crate) tenant: String,
    pub(crate) turn: u64,
}

/// How many each lane may give, of so many in all; lanes that get none are left out. `lanes`
/// says for each how many it can give at most, and `most` how many a tenant can.
pub(crate) fn shares(
    lanes: &[(Lane, usize)],
    room: usize,
    cursor: &Cursor,
    most: impl Fn(&str) -> usize,
) -> Vec<(usize, usize)> {
    let mut tenants: BTreeMap<&str, BTreeMap<&str, Vec<usize>>> = BTreeMap::new();
    for (at, (lane, _)) in lanes.iter().enumerate().filter(|(_, (_, gives))| *gives > 0) {
        let projects = tenants.entry(&*lane.scope.tenant).or_default();
        projects.entry(&*lane.scope.project).or_default().push(at);
    }
    let first = tenants.keys().take_while(|tenant| **tenant <= cursor.tenant.as_str()).count();
    let mut shares = Vec::new();
    // The upper bits of a product: neighbouring turns begin at unlike places, so that no lane's
    // turn always falls together with another tenant's.
    let mixed = usize::try_from(cursor.turn.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).unwrap_or(0);
    for ((tenant, projects), share) in split(tenants.into_iter().collect(), room, first) {
        let share = share.min(most(tenant));
        for (mut all, share) in split(projects.into_values().collect(), share, mixed) {
            let highest = all.iter().map(|at| lanes[*at].0.place.priority).max();
            all.retain(|at| Some(lanes[*at].0.place.priority) == highest);
            shares.extend(split(all, share, mixed).map(|(at, share)| (at, share.min(lanes[at].1))));
        }
    }
    shares
}

/// As even as it goes: the first ones, from `first` on, have one more.
fn split<T>(mut among: Vec<T>, total: usize, first: usize) -> impl Iterator<Item = (T, usize)> {
    let count = among.len().max(1);
    among.rotate_left(first % count);
    let (each, more) = (total / count, total % count);
    let shares = among.into_iter().enumerate();
    shares.map(move |(at, one)| (one, each + usize::from(at < more))).filter(|(_, share)| *share > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(scope: &str, priority: i32) -> Lane {
        let (tenant, project) = scope.split_once('/').expect("a scope");
        Lane { scope: Scope::new(tenant, project), place: Place::plain(priority) }
    }

    fn given(lanes: &[(Lane, usize)], room: usize, after: &str) -> Vec<(String, usize)> {
        let cursor = Cursor { tenant: after.to_owned(), turn: 0 };
        let mut given: Vec<_> = shares(lanes, room, &cursor, |_| usize::MAX)
            .into_iter()
            .map(|(at, share)| (lanes[at].0.key(), share))
            .collect();
        given.sort();
        given
    }

    #[test]
    fn a_lane_is_read_as_it_was_written() {
        for (priority, unbegun, of) in [
            (0, false, None),
            (10, true, None),
            (-10, false, Some((DefinitionKind::Agent, "a.b-c".to_owned()))),
            (3, true, Some((DefinitionKind::Workflow, "w".to_owned()))),
        ] {
            let lane = Lane { scope: Scope::new("t", "p"), place: Place { priority, unbegun, of } };
            assert_eq!(Lane::read(&lane.key()).expect("a lane"), lane);
        }
        assert_eq!(Place::plain(0).text(), "k");
        assert!(Place::plain(10).text() < Place::plain(-10).text(), "the highest first");
        for bad in ["", "z", "K", "k:agent", "k:tool:x", "v"] {
            assert!(Place::read(bad).is_err(), "{bad}");
        }
        assert!(Lane::read("t/p").is_err());
    }

    #[test]
    fn tenants_share_alike_whatever_they_have() {
        let lanes =
            [(lane("a/p", 0), 1_000), (lane("a/q", 0), 1_000), (lane("b/p", 0), 1_000), (lane("c/p", 0), 2)];
        let shared = given(&lanes, 30, "");
        assert_eq!(shared.iter().map(|(_, share)| share).sum::<usize>(), 5 + 5 + 10 + 2);
        assert_eq!(shared[2], ("b/p/k".to_owned(), 10));
        assert_eq!(shared[3], ("c/p/k".to_owned(), 2), "no more than it has");
    }

    #[test]
    fn with_room_for_one_each_tenant_has_its_turn() {
        let lanes = [(lane("a/p", 0), 9), (lane("b/p", 0), 9), (lane("c/p", 0), 9)];
        let mut after = String::new();
        let mut turns = Vec::new();
        for _ in 0..6 {
            let one = given(&lanes, 1, &after);
            assert_eq!(one.len(), 1);
            after = one[0].0.split('/').next().expect("a tenant").to_owned();
            turns.push(after.clone());
        }
        assert_eq!(turns, ["a", "b", "c", "a", "b", "c"]);
    }

    #[test]
    fn within_a_tenant_each_project_has_turns_too() {
        let lanes = [(lane("a/p", 0), 9), (lane("a/q", 0), 9), (lane("b/p", 0), 9)];
        let mut seen = BTreeMap::<String, usize>::new();
        let mut cursor = Cursor::default();
        for turn in 0..64 {
            cursor.turn = turn;
            let (at, _) = shares(&lanes, 1, &cursor, |_| usize::MAX)[0];
            cursor.tenant = lanes[at].0.scope.tenant.to_string();
            *seen.entry(lanes[at].0.key()).or_default() += 1;
        }
        assert_eq!(seen["b/p/k"], 32);
        assert!(seen["a/p/k"] > 4 && seen["a/q/k"] > 4, "{seen:?}");
    }

    #[test]
    fn what_a_tenant_may_have_is_shared_by_its_projects() {
        let lanes = [(lane("a/p", 0), 4), (lane("a/q", 0), 4), (lane("b/p", 0), 9)];
        let cursor = Cursor::default();
        let mut shared = shares(&lanes, 20, &cursor, |tenant| if tenant == "a" { 4 } else { 9 });
        shared.sort_unstable();
        assert_eq!(shared, [(0, 2), (1, 2), (2, 9)]);
    }

    #[test]
    fn the_highest_priority_of_a_project_goes_first_and_harms_no_other() {
        let lanes = [(lane("a/p", 0), 9), (lane("a/p", 5), 9), (lane("b/p", -3), 9)];
        assert_eq!(given(&lanes, 4, ""), [("a/p/f".to_owned(), 2), ("b/p/n".to_owned(), 2)]);
        let full = [(lane("a/p", 0), 9), (lane("a/p", 5), 0)];
        assert_eq!(
            given(&full, 4, ""),
            [("a/p/k".to_owned(), 4)],
            "one that can give nothing is passed over"
        );
    }
}

//! The agents that may speak in one execution, all pinned when it starts.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::definition::{Definition, Reference};

/// An execution may delegate so deep: a child of a child counts 2. Passing it fails the
/// execution that would delegate.
pub const MAX_DEPTH: i32 = 8;
/// So many agents are pinned with a start: its own and all that are named, step by step.
pub const MAX_TEAM: usize = 64;

/// One version of one agent.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, schemars::JsonSchema,
)]
pub struct Member {
    /// The agent's name.
    pub agent: String,
    /// Its version.
    pub version: i32,
}

/// Names without a version, as they stood when the execution started.
pub type Pins = BTreeMap<String, i32>;

/// The agents that an execution may be transferred to, and the pins for all that it may name.
#[derive(Debug, Default)]
pub struct Team {
    /// What names without a version mean.
    pub pins: Pins,
    /// Those that may speak.
    pub members: BTreeMap<Member, Arc<Definition>>,
}

impl Team {
    /// What a reference means in this execution; `None` where the agent was not in use when
    /// it started.
    pub fn resolve(&self, reference: &Reference) -> Option<Member> {
        pinned(&self.pins, reference)
    }

    /// The member of that name: the pinned version, else the newest.
    pub fn named(&self, agent: &str) -> Option<Member> {
        let pinned =
            self.pins.get(agent).map(|version| Member { agent: agent.to_owned(), version: *version });
        let known = |member: &Member| self.members.contains_key(member);
        let newest = || self.members.keys().rev().find(|member| member.agent == agent).cloned();
        pinned.filter(known).or_else(newest)
    }
}

/// What a reference means under these pins.
pub fn pinned(pins: &Pins, reference: &Reference) -> Option<Member> {
    let version = reference.version.or_else(|| pins.get(&reference.agent).copied())?;
    Some(Member { agent: reference.agent.clone(), version })
}

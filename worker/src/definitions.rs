//! Definitions made ready, kept by version: a version never changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use holdpoint_db::{Claimed, Db};
use holdpoint_engine::definition::{Definition, Reference, builtin};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::team::{MAX_TEAM, Member, Team};

/// So many are kept; when there are more, all are dropped and read again as needed.
const KEPT: usize = 1_000;

type Key = (Scope, DefinitionKind, String, i32);

pub(crate) struct Definitions {
    db: Db,
    known: Mutex<HashMap<Key, Arc<Definition>>>,
}

/// Why there is no definition to go by.
pub(crate) enum Missing {
    /// The store cannot be reached now.
    Unavailable(String),
    /// It is not there, or cannot be read.
    Unreadable(String),
}

impl Definitions {
    pub fn new(db: Db) -> Self {
        Self { db, known: Mutex::default() }
    }

    /// The definition that an execution is pinned to, and the agents that it may be
    /// transferred to, however often.
    pub async fn of(&self, claimed: &Claimed) -> Result<(Arc<Definition>, Team), Missing> {
        let key = (claimed.key.scope.clone(), claimed.kind, claimed.name.clone(), claimed.version);
        let own = self.get(key).await?;
        let pins = claimed.extras.as_ref().and_then(|extras| extras.pins.clone());
        let mut team = Team { pins: pins.unwrap_or_default(), ..Team::default() };
        let mut waiting = named_by(&own, &team);
        while let Some(member) = waiting.pop() {
            if team.members.contains_key(&member) || team.members.len() >= MAX_TEAM {
                continue;
            }
            let key =
                (claimed.key.scope.clone(), DefinitionKind::Agent, member.agent.clone(), member.version);
            let definition = match self.get(key).await {
                Ok(definition) => definition,
                // Who would transfer to it is told.
                Err(Missing::Unreadable(error)) => {
                    tracing::warn!(error, "an agent to transfer to cannot be read");
                    continue;
                }
                Err(unavailable) => return Err(unavailable),
            };
            waiting.extend(named_by(&definition, &team));
            team.members.insert(member, definition);
        }
        Ok((own, team))
    }

    async fn get(&self, key: Key) -> Result<Arc<Definition>, Missing> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(known));
        }
        let definition = match builtin(key.1, &key.2) {
            Some(definition) => Arc::new(definition),
            None => Arc::new(self.load(&key).await?),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(key, Arc::clone(&definition));
        Ok(definition)
    }

    async fn load(&self, key: &Key) -> Result<Definition, Missing> {
        let (scope, kind, name, version) = key.clone();
        let row = self
            .db
            .hot(move |store| store.definition_get(&scope, kind, &name, Some(version)))
            .await
            .and_then(|row| row)
            .map_err(|error| Missing::Unavailable(error.to_string()))?;
        let (_, kind, name, version) = key;
        let row =
            row.ok_or_else(|| Missing::Unreadable(format!("there is no {kind} {name} version {version}")))?;
        Definition::compile(*kind, *version, &row.document).map_err(|errors| {
            let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
            Missing::Unreadable(format!("{kind} {name} version {version}: {}", errors.join("; ")))
        })
    }
}

/// The agents that this one may be transferred to.
fn named_by(definition: &Definition, team: &Team) -> Vec<Member> {
    let Definition::Agent(agent) = definition else {
        return Vec::new();
    };
    let named = agent.agent.transfers.iter().filter_map(|transfer| {
        team.resolve(&Reference { agent: transfer.agent.clone(), version: transfer.version })
    });
    named.collect()
}

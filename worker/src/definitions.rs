//! Definitions made ready, kept by version: a version never changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use holdpoint_db::{Claimed, Db};
use holdpoint_engine::definition::{Definition, builtin};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;

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

    /// The definition that an execution is pinned to.
    pub async fn of(&self, claimed: &Claimed) -> Result<Arc<Definition>, Missing> {
        let key = (claimed.key.scope.clone(), claimed.kind, claimed.name.clone(), claimed.version);
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(Arc::clone(known));
        }
        let definition = match builtin(claimed.kind, &claimed.name) {
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

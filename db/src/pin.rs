//! What agents' names mean in an execution, found out when it starts: its own version, and
//! the latest of each agent that is named without one, step by step. A definition that
//! names no other costs nothing here.

use std::collections::{BTreeSet, HashMap};

use holdpoint_engine::definition::Reference;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::team::{MAX_TEAM, Pins};

use crate::conn::Conn;
use crate::execution_create::{Resolved, resolve};
use crate::store::StoreResult;
use crate::types::{NewExecution, StoreError};

/// The pins of the starts that need them, as JSON, by the start's place in the batch.
pub(crate) fn pins(
    conn: &mut Conn,
    batch: &[NewExecution],
    resolved: &[Option<Resolved>],
) -> StoreResult<HashMap<usize, String>> {
    let mut pins = HashMap::new();
    for (at, new) in batch.iter().enumerate() {
        let Some(Resolved { version, refers, .. }) = &resolved[at] else { continue };
        let found = match (&new.extras.pins, refers) {
            (Some(inherited), _) => inherited.clone(),
            (None, Some(refers)) => {
                let own = Pins::from([(new.name.clone(), *version)]);
                walk(conn, &new.key.scope, own, refers)?
            }
            (None, None) => continue,
        };
        let text = serde_json::to_string(&found).map_err(|error| StoreError::Refused(error.to_string()))?;
        pins.insert(at, text);
    }
    Ok(pins)
}

/// An agent that is not in use any more stays without a pin: who names it is told.
fn walk(conn: &mut Conn, scope: &Scope, mut pins: Pins, refers: &str) -> StoreResult<Pins> {
    let mut seen = BTreeSet::new();
    let mut waiting = references(refers)?;
    while let Some(reference) = waiting.pop() {
        if seen.len() >= MAX_TEAM || !seen.insert(reference.clone()) {
            continue;
        }
        let version = reference.version.or_else(|| pins.get(&reference.agent).copied());
        let name = (scope, DefinitionKind::Agent, reference.agent.as_str(), version);
        let Some(found) = resolve(conn, name)? else { continue };
        if reference.version.is_none() {
            pins.insert(reference.agent.clone(), found.version);
        }
        if let Some(refers) = &found.refers {
            waiting.extend(references(refers)?);
        }
    }
    Ok(pins)
}

fn references(refers: &str) -> StoreResult<Vec<Reference>> {
    serde_json::from_str(refers)
        .map_err(|error| StoreError::Corrupt(format!("what a definition names cannot be read: {error}")))
}

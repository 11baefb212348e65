//! What names mean in an execution, found out when it starts: its own version, and the latest
//! of each agent and workflow that is named without one, step by step. A definition that names
//! no other costs nothing here.

use std::collections::{BTreeSet, HashMap};

use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::team::{MAX_TEAM, Named, Pins};

use crate::conn::Conn;
use crate::execution_create::{Resolved, resolve};
use crate::sql::binds;
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
                let own = Named { kind: new.kind, name: new.name.clone(), version: None, label: None };
                let own = Pins::from_iter(own.pin().map(|pin| (pin, *version)));
                walk(conn, &new.key.scope, own, refers)?
            }
            (None, None) => continue,
        };
        let text = serde_json::to_string(&found).map_err(|error| StoreError::Refused(error.to_string()))?;
        pins.insert(at, text);
    }
    Ok(pins)
}

/// What is not in use any more stays without a pin: who names it is told.
fn walk(conn: &mut Conn, scope: &Scope, mut pins: Pins, refers: &str) -> StoreResult<Pins> {
    let mut seen = BTreeSet::new();
    let mut waiting = references(refers)?;
    while let Some(named) = waiting.pop() {
        if seen.len() >= MAX_TEAM || !seen.insert(named.clone()) {
            continue;
        }
        let pin = named.pin();
        let known = pin.as_ref().and_then(|pin| pins.get(pin).copied());
        let name = (scope, named.kind, named.name.as_str(), named.version.or(known));
        let found = match (&named.label, known) {
            (Some(label), None) => resolve_label(conn, scope, &named.name, label)?,
            _ => resolve(conn, name)?,
        };
        let Some(found) = found else { continue };
        if let Some(pin) = pin {
            pins.insert(pin, found.version);
        }
        if let Some(refers) = &found.refers {
            waiting.extend(references(refers)?);
        }
    }
    Ok(pins)
}

fn references(refers: &str) -> StoreResult<Vec<Named>> {
    serde_json::from_str(refers)
        .map_err(|error| StoreError::Corrupt(format!("what a definition names cannot be read: {error}")))
}

/// The newest version of a workflow in use that its author named so.
fn resolve_label(conn: &mut Conn, scope: &Scope, name: &str, label: &str) -> StoreResult<Option<Resolved>> {
    let found = conn.row(
        "SELECT d.version, d.refers FROM definition_heads h JOIN definitions d
           ON d.tenant = h.tenant AND d.project = h.project AND d.kind = h.kind AND d.name = h.name
         WHERE h.tenant = ? AND h.project = ? AND h.kind = ? AND h.name = ? AND h.deleted_at IS NULL
           AND d.label = ? ORDER BY d.version DESC LIMIT 1",
        &binds![&*scope.tenant, &*scope.project, DefinitionKind::Workflow.as_str(), name, label],
    )?;
    found
        .map(|mut row| Ok(Resolved { version: row.int()?, refers: row.opt_text()?, terms: None }))
        .transpose()
}

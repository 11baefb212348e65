//! The tools' schemas that edited arguments are held against: of the agent's version that
//! the approval names, compiled once.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use holdpoint_db::ApprovalRow;
use holdpoint_engine::definition::Definition;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;

use crate::app::App;
use crate::problem::{Answer, Problem};

/// The most definitions that are kept.
const KEPT: usize = 256;

type Name = (Scope, String, i32);

/// Compiled definitions by scope, name and version; a version never changes.
#[derive(Default)]
pub struct Schemas(Mutex<HashMap<Name, Arc<Definition>>>);

impl Schemas {
    /// What is wrong with the arguments, in the words that the tool's schema has for it.
    pub async fn check(
        &self,
        app: &App,
        approval: &ApprovalRow,
        arguments: &str,
    ) -> Answer<Result<(), String>> {
        let definition = self.get(app, approval).await?;
        let Definition::Agent(agent) = definition.as_ref() else {
            return Err(Problem::internal());
        };
        let tool = agent.tool(&approval.tool).ok_or_else(Problem::internal)?;
        Ok(tool.check_arguments(arguments))
    }

    async fn get(&self, app: &App, approval: &ApprovalRow) -> Answer<Arc<Definition>> {
        let name = (approval.key.scope.clone(), approval.agent.clone(), approval.version);
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&name) {
            return Ok(Arc::clone(known));
        }
        let definition = Arc::new(load(app, &name).await?);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(name, Arc::clone(&definition));
        Ok(definition)
    }
}

/// A version that an approval names is there and was checked when it was put.
async fn load(app: &App, (scope, name, version): &Name) -> Answer<Definition> {
    let (asked, wanted, version) = (scope.clone(), name.clone(), *version);
    let find = move |store: &dyn holdpoint_db::Store| {
        store.definition_get(&asked, DefinitionKind::Agent, &wanted, Some(version))
    };
    let row = app.read(find).await?.ok_or_else(Problem::internal)?;
    Definition::compile(DefinitionKind::Agent, version, &row.document).map_err(|errors| {
        tracing::error!(%scope, name, version, ?errors, "a stored definition cannot be read");
        Problem::internal()
    })
}

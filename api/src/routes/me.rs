//! Who calls: what the key is good for, so that a client offers nothing else.

use axum::extract::State;
use holdpoint_engine::ids::KeyId;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use crate::auth::{Caller, Right, in_force, unauthorized};
use crate::openapi::Operation;
use crate::problem::Answer;
use crate::view;

#[derive(Serialize, JsonSchema)]
struct Me {
    key_id: KeyId,
    name: String,
    role: &'static str,
    /// By which approval policies find it.
    groups: Vec<String>,
    tenant: String,
    project: String,
    /// Whom the call is narrowed to: the key's own end user, else the header's.
    end_user: Option<String>,
    /// What the role may do: `read`, `submit`, `decide`, `define`, `admin`.
    rights: Vec<&'static str>,
}

/// `GET /v1/me`.
pub async fn handle(State(app): Shared, caller: Caller) -> Answer {
    let id: KeyId = caller.key.parse().map_err(|_| unauthorized())?;
    let row = in_force(&app, id).await?;
    Ok(view::ok(&Me {
        key_id: row.id,
        name: row.name.clone(),
        role: caller.role.as_str(),
        groups: caller.groups,
        tenant: caller.scope.tenant.to_string(),
        project: caller.scope.project.to_string(),
        rights: Right::ALL.iter().filter(|right| right.of(caller.role)).map(|right| right.as_str()).collect(),
        end_user: caller.end_user,
    }))
}

/// What it answers.
pub fn doc() -> Operation {
    Operation::new("me", "Who calls: the key's name, role and rights, its tenant and project.")
        .answer::<Me>(200, "The caller.")
}

//! What agents' and workflows' definitions have in common.

use axum::response::Response;
use holdpoint_db::{DefinitionRow, Store};
use holdpoint_engine::scope::{Scope, check_name};
use holdpoint_engine::status::DefinitionKind;
use http::StatusCode;

use crate::app::App;
use crate::auth::Caller;
use crate::params::{self, Params};
use crate::problem::{Answer, Problem};

fn unknown(kind: DefinitionKind, name: &str) -> Problem {
    Problem::not_found(kind.as_str(), name)
}

/// The latest version in use, or the one that `?version=` names.
pub async fn one(
    app: &App,
    scope: &Scope,
    kind: DefinitionKind,
    name: &str,
    mut params: Params,
) -> Answer<DefinitionRow> {
    let version = params.value::<i32>("version")?;
    params.end()?;
    let (scope, wanted) = (scope.clone(), name.to_owned());
    let row = app.read(move |store| store.definition_get(&scope, kind, &wanted, version)).await?;
    row.ok_or_else(|| unknown(kind, name))
}

/// All versions, newest first.
pub async fn versions(
    app: &App,
    scope: Scope,
    kind: DefinitionKind,
    name: &str,
) -> Answer<Vec<DefinitionRow>> {
    let wanted = name.to_owned();
    let rows = app.read(move |store| store.definition_versions(&scope, kind, &wanted)).await?;
    if rows.is_empty() { Err(unknown(kind, name)) } else { Ok(rows) }
}

/// The latest versions by name, from `?cursor=` on, and the next cursor.
pub async fn page(
    app: &App,
    scope: &Scope,
    kind: DefinitionKind,
    mut params: Params,
) -> Answer<(Vec<DefinitionRow>, Option<String>)> {
    let limit = params.limit(50, 1_000)?;
    let after = params.text("cursor");
    params.end()?;
    if let Some(name) = &after {
        check_name(name).map_err(|message| params::bad("cursor", message))?;
    }
    let scope = scope.clone();
    let find = move |store: &dyn Store| store.definition_list(&scope, kind, after.as_deref(), limit + 1);
    let mut rows = app.read(find).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.name.clone());
    Ok((rows, next_cursor))
}

/// Takes a name out of use.
pub async fn delete(app: &App, caller: Caller, kind: DefinitionKind, name: String) -> Answer {
    let wanted = name.clone();
    let delete = move |store: &dyn Store| store.definition_delete(&caller.scope, kind, &wanted, &caller.key);
    if !app.write(delete).await?? {
        return Err(unknown(kind, &name));
    }
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    Ok(response)
}

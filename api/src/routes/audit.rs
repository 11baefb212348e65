//! `GET /v1/audit`: who decided, granted and changed what, in the caller's tenant and project.

use axum::extract::State;
use axum::response::Response;
use holdpoint_db::AuditFilter;
use holdpoint_engine::audit::AuditRow;
use holdpoint_engine::status::AuditAct;
use schemars::JsonSchema;
use serde::Serialize;

use super::Shared;
use crate::auth::Caller;
use crate::openapi::Operation;
use crate::params::{Params, bad};
use crate::problem::Answer;
use crate::view;

/// The chain's last row.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditHead")]
struct Head {
    /// Its number: how many rows there are.
    seq: i64,
    /// Its hash: note it elsewhere, and `audit verify --head` shows that nothing before it changed.
    hash: String,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "AuditList")]
struct List {
    audit: Vec<AuditRow>,
    /// The chain's last row, read after the page; nothing while there is no row.
    head: Option<Head>,
    next_cursor: Option<String>,
}

/// The route.
pub async fn list(State(app): Shared, caller: Caller, params: Params) -> Answer<Response> {
    let (filter, scope) = (filter(params)?, caller.scope);
    let limit = filter.limit - 1;
    let (mut rows, head) = app
        .read(move |store| Ok((store.audit_list(&scope, &filter)?, store.audit_heads(Some(&scope))?.pop())))
        .await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor = rows.last().filter(|_| more).map(|row| row.seq.to_string());
    let head = head.map(|head| Head { seq: head.seq, hash: head.hash });
    Ok(view::ok(&List { audit: rows, head, next_cursor }))
}

/// One row more than the page is asked for: whether there is a next one.
fn filter(mut params: Params) -> Answer<AuditFilter> {
    let oldest_first = match params.text("order").as_deref() {
        None | Some("desc") => false,
        Some("asc") => true,
        Some(other) => return Err(bad("order", format!("is `{other}`: it may be `asc` or `desc`"))),
    };
    let act: Option<AuditAct> = params.value("act")?;
    let after: Option<i64> = params.value("after")?;
    let cursor: Option<i64> = params.value("cursor")?;
    let filter = AuditFilter {
        act,
        actor: params.text("actor"),
        subject: params.text("subject"),
        after: if oldest_first { cursor.or(after) } else { after },
        before: cursor.filter(|_| !oldest_first),
        oldest_first,
        limit: params.limit(50, 1_000)? + 1,
    };
    params.end()?;
    Ok(filter)
}

/// What it takes and answers.
pub fn list_doc() -> Operation {
    Operation::new("audit_list", "Who decided, granted and changed what, newest first. Each row carries the hash of the one before it.")
        .query::<AuditAct>("act", "Only this act.")
        .query::<String>("actor", "Only by this key (`key_…`), or by `scheduler`, `worker`, `cron` or `operator`.")
        .query::<String>("subject", "Only about this: an execution's, key's or webhook's id, a name, `agent/NAME` or `workflow/NAME`.")
        .query::<i64>("after", "Only rows with a number above this one.")
        .query::<String>("order", "`desc`, newest first (the default), or `asc`.")
        .page("50 by default, 1000 at most.")
        .answer::<List>(200, "A page, and the chain's last row.")
}

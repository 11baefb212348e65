//! Standing grants: made, listed, taken back. How they are used stands in `grants_use.rs`.

use holdpoint_engine::ids::GrantId;
use holdpoint_engine::policy::Decider;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::AuditAct;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::audit::{self, Entry};
use crate::conn::Conn;
use crate::grant_types::*;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;

/// How a grant stands: what somebody did goes before what time and use did.
const STATUS: &str =
    "CASE WHEN g.revoked_at IS NOT NULL THEN 'revoked' WHEN g.uses >= g.max_uses THEN 'used_up'
    WHEN g.expires_at <= hp_now() THEN 'expired' ELSE 'active' END";

const COLUMNS: &str = "g.tenant, g.project, g.id, g.agent, g.conversation_id, g.tool, g.condition, g.reason,
    g.end_user, g.max_uses, g.uses, g.expires_at, g.created_by, g.maker_role, g.maker_groups, g.maker_end_user,
    g.created_at, g.last_used_at, g.revoked_at, g.revoked_by";

fn select(conditions: &str) -> String {
    format!("SELECT {COLUMNS}, {STATUS} FROM grants g WHERE {conditions}")
}

fn read_grant(mut row: Row) -> StoreResult<GrantRow> {
    let (scope, id) = (row.scope()?, GrantId(row.id()?));
    let on = match (row.opt_text()?, row.opt_text()?) {
        (Some(agent), None) => GrantFor::Agent(agent),
        (None, Some(conversation)) => GrantFor::Conversation(conversation),
        _ => return Err(StoreError::Corrupt(format!("{id} is for nothing, or for two things"))),
    };
    let (tool, when, reason, end_user) = (row.text()?, row.opt_text()?, row.opt_text()?, row.opt_text()?);
    let (max_uses, uses, expires_at) = (row.int()?, row.int()?, row.time()?);
    let by = read_maker(&mut row, id)?;
    Ok(GrantRow {
        scope,
        new: NewGrant { id, on, tool, when, reason, end_user, max_uses, expires_at, by },
        uses,
        created_at: row.time()?,
        last_used_at: row.opt_time()?,
        revoked: row.opt_time()?.zip(row.opt_text()?),
        status: row.word()?,
    })
}

fn read_maker(row: &mut Row, id: GrantId) -> StoreResult<Decider> {
    let (key, role, groups) = (row.text()?, row.text()?, row.text()?);
    let groups = serde_json::from_str(&groups)
        .map_err(|error| StoreError::Corrupt(format!("groups of the maker of {id}: {error}")))?;
    Ok(Decider { key, role, groups, end_user: row.opt_text()? })
}

/// One transaction's work.
pub(crate) fn grant_create_in_txn(conn: &mut Conn, scope: &Scope, new: &NewGrant) -> StoreResult<GrantRow> {
    let (agent, conversation) = match &new.on {
        GrantFor::Agent(agent) => (Some(agent.as_str()), None),
        GrantFor::Conversation(id) => (None, Some(id.as_str())),
    };
    let groups = groups_text(&new.by);
    let values = binds![
        &*scope.tenant,
        &*scope.project,
        new.id.0,
        agent,
        conversation,
        &new.tool,
        new.when.as_deref(),
        new.reason.as_deref(),
        new.end_user.as_deref(),
        new.max_uses,
        new.expires_at,
        &new.by.key,
        &new.by.role,
        &groups,
        new.by.end_user.as_deref(),
    ];
    conn.rows(
        "INSERT INTO grants (tenant, project, id, agent, conversation_id, tool, condition, reason, end_user, max_uses,
           expires_at, created_by, maker_role, maker_groups, maker_end_user, created_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT hp_now()))",
        &values,
    )?;
    let details = json!({
        "agent": agent, "conversation_id": conversation.map(audit::bounded), "tool": new.tool,
        "when": new.when.as_deref().map(audit::bounded), "max_uses": new.max_uses, "expires_at": new.expires_at,
        "reason": new.reason.as_deref().map(audit::bounded),
    });
    tell_audit(conn, scope, AuditAct::GrantCreated, new.id, (&new.by.key, new.end_user.as_deref()), details)?;
    grant_get(conn, scope, new.id)?
        .ok_or_else(|| StoreError::Corrupt("a grant that was made is gone".to_owned()))
}

fn tell_audit(
    conn: &mut Conn,
    scope: &Scope,
    act: AuditAct,
    id: GrantId,
    (actor, end_user): (&str, Option<&str>),
    details: serde_json::Value,
) -> StoreResult<()> {
    let subject = id.to_string();
    audit::append(conn, &Entry { scope: Some(scope), actor, end_user, act, subject, details })
}

/// One grant.
pub(crate) fn grant_get(conn: &mut Conn, scope: &Scope, id: GrantId) -> StoreResult<Option<GrantRow>> {
    let text = select("g.tenant = ? AND g.project = ? AND g.id = ?");
    conn.row(&text, &binds![&*scope.tenant, &*scope.project, id.0])?.map(read_grant).transpose()
}

/// Newest first.
pub(crate) fn grant_list(conn: &mut Conn, scope: &Scope, filter: &GrantFilter) -> StoreResult<Vec<GrantRow>> {
    let mut text = select("g.tenant = ? AND g.project = ?");
    let mut values: Vec<Bind<'_>> = binds![&*scope.tenant, &*scope.project].to_vec();
    for (column, wanted) in [
        ("agent", &filter.agent),
        ("conversation_id", &filter.conversation_id),
        ("end_user", &filter.end_user),
    ] {
        if let Some(wanted) = wanted {
            text.push_str(&format!(" AND g.{column} = ?"));
            values.push(wanted.into());
        }
    }
    if let Some(status) = filter.status {
        text.push_str(&format!(" AND {STATUS} = ?"));
        values.push(status.as_str().into());
    }
    if let Some(after) = filter.after {
        text.push_str(" AND g.id < ?");
        values.push(after.0.into());
    }
    text.push_str(" ORDER BY g.id DESC LIMIT ?");
    values.push((filter.limit as i64).into());
    conn.rows(&text, &values)?.into_iter().map(read_grant).collect()
}

/// One transaction's work.
pub(crate) fn grant_revoke_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    id: GrantId,
    by: &str,
    end_user: Option<&str>,
) -> StoreResult<Option<GrantRow>> {
    let found = grant_get(conn, scope, id)?;
    if found.is_none_or(|row| end_user.is_some() && row.new.end_user.as_deref() != end_user) {
        return Ok(None);
    }
    let revoked = conn.rows(
        "UPDATE grants SET revoked_at = (SELECT hp_now()), revoked_by = ?
         WHERE tenant = ? AND project = ? AND id = ? AND revoked_at IS NULL RETURNING uses",
        &binds![by, &*scope.tenant, &*scope.project, id.0],
    )?;
    if let Some(mut row) = revoked.into_iter().next() {
        let details = json!({"uses": row.int()?});
        tell_audit(conn, scope, AuditAct::GrantRevoked, id, (by, end_user), details)?;
    }
    grant_get(conn, scope, id)
}

/// The tool first: by it the index is entered.
pub(crate) const FOR: &str = "
    g.tenant || '/' || g.project || '/' || g.tool = ? AND g.revoked_at IS NULL AND g.expires_at > (SELECT hp_now())
      AND g.uses < g.max_uses
      AND EXISTS (SELECT 1 FROM execution_info i WHERE i.tenant = ? AND i.project = ? AND i.id = ?
        AND (g.agent = ? OR g.conversation_id = i.conversation_id) AND (g.end_user IS NULL OR g.end_user = i.end_user))
    ORDER BY g.expires_at, g.id LIMIT ?";

/// Those in force for a call.
pub(crate) fn grants_for(
    conn: &mut Conn,
    key: &ExecutionKey,
    wanted: &GrantWanted,
) -> StoreResult<Vec<GrantRow>> {
    let scope = &key.scope;
    let place = format!("{}/{}/{}", scope.tenant, scope.project, wanted.tool);
    let [place, tenant, project, id, agent, limit] =
        binds![&place, &*scope.tenant, &*scope.project, key.id.0, &wanted.agent, MAX_OFFERED as i64,];
    let rows = conn.rows(&select(FOR), &[place, tenant, project, id, agent, limit])?;
    rows.into_iter().map(read_grant).collect()
}

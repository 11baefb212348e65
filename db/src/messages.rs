//! The messages of conversations: written once with the start and once with the end of an
//! execution, read as history by the next one and by callers.

use std::collections::{HashMap, HashSet};

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;
use serde::Deserialize;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::row::Row;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{HistoryLimits, MessageFilter, MessageRow};

/// A message to write.
pub(crate) struct Said<'a> {
    pub(crate) scope: &'a Scope,
    pub(crate) conversation: &'a str,
    pub(crate) n: i64,
    pub(crate) message_id: Option<&'a str>,
    /// None for a classic run.
    pub(crate) execution: Option<ExecutionId>,
    pub(crate) message: &'a str,
}

const INSERT: &str = "
    WITH u(t, p, c, n, mi, x, ro, me) AS (@u)
    INSERT INTO messages (tenant, project, conversation, n, message_id, execution, role, message, at)
    SELECT t, p, c, n, mi, x, ro, me, (SELECT hp_now()) FROM u";

/// Writes messages; their conversations' rows are locked.
pub(crate) fn insert(conn: &mut Conn, said: &[Said<'_>]) -> StoreResult<()> {
    let roles: Vec<String> = said.iter().map(|one| role(one.message)).collect();
    let rows: Vec<_> = said
        .iter()
        .zip(&roles)
        .map(|(one, role)| {
            let Scope { tenant, project } = one.scope;
            let Said { conversation, n, message_id, execution, message, .. } = *one;
            binds![
                &**tenant,
                &**project,
                conversation,
                n,
                message_id,
                execution.map(|id| id.0),
                role,
                message
            ]
        })
        .collect();
    conn.each(INSERT, &rows, &[]).map(drop)
}

/// Who said it; what was stored was checked before.
fn role(message: &str) -> String {
    #[derive(Deserialize)]
    struct Message {
        role: String,
    }
    serde_json::from_str::<Message>(message).map_or_else(|_| "user".to_owned(), |message| message.role)
}

/// Scope, conversation, message id.
pub(crate) type UsedId = (Scope, String, String);

/// Which of these ids stand in their conversations already.
pub(crate) fn used_ids<'a>(
    conn: &mut Conn,
    wanted: impl Iterator<Item = ((&'a Scope, &'a str), &'a str)>,
) -> StoreResult<HashSet<UsedId>> {
    let rows: Vec<_> = wanted
        .map(|((scope, conversation), id)| binds![&*scope.tenant, &*scope.project, conversation, id])
        .collect();
    let found = conn.each(
        "WITH u(t, p, c, m) AS (@u) SELECT m.tenant, m.project, m.conversation, m.message_id
         FROM u JOIN messages m ON m.tenant = u.t AND m.project = u.p AND m.conversation = u.c
           AND m.message_id = u.m",
        &rows,
        &[],
    )?;
    found.into_iter().map(|mut row| Ok((row.scope()?, row.text()?, row.text()?))).collect()
}

/// Newest first, as far as count and bytes go; never those of the execution itself.
pub(crate) const HISTORY_POSTGRES: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT u.t, u.p, u.x, h.n, h.role, h.message
    FROM u JOIN execution_info i ON i.tenant = u.t AND i.project = u.p AND i.id = u.x
    CROSS JOIN LATERAL (
      SELECT w.n, w.role, w.message FROM (
        SELECT m.n, m.role, m.message, sum(octet_length(m.message)) OVER (ORDER BY m.n DESC) AS bytes FROM (
          SELECT k.n, k.role, k.message FROM messages k
          WHERE k.tenant = i.tenant AND k.project = i.project AND k.conversation = i.conversation_id
            AND k.execution IS DISTINCT FROM i.id ORDER BY k.n DESC LIMIT ?) m) w
      WHERE w.bytes <= ?) h";
const HISTORY_SQLITE: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT u.t, u.p, u.x, w.n, w.role, w.message FROM u JOIN (
      SELECT m.n, m.role, m.message, sum(octet_length(m.message)) OVER (ORDER BY m.n DESC) AS bytes FROM (
        SELECT k.n, k.role, k.message FROM u JOIN execution_info i ON i.tenant = u.t AND i.project = u.p AND i.id = u.x
          JOIN messages k ON k.tenant = i.tenant AND k.project = i.project AND k.conversation = i.conversation_id
        WHERE k.execution IS DISTINCT FROM i.id ORDER BY k.n DESC LIMIT ?) m) w
    WHERE w.bytes <= ?";

/// What was said in their conversations before these executions, oldest first: the newest
/// messages, whole ones, within the limits. An answer of a tool never comes without its call.
pub(crate) fn histories(
    conn: &mut Conn,
    keys: &[ExecutionKey],
    limits: HistoryLimits,
) -> StoreResult<HashMap<ExecutionKey, Vec<String>>> {
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    let text = if conn.is_postgres() { HISTORY_POSTGRES } else { HISTORY_SQLITE };
    let mut found: HashMap<ExecutionKey, Vec<(i64, String, String)>> = HashMap::new();
    for mut row in conn.each(text, &rows, &binds![limits.messages, limits.bytes])? {
        let key = row.key()?;
        found.entry(key).or_default().push((row.big()?, row.text()?, row.text()?));
    }
    let whole = |(key, mut said): (ExecutionKey, Vec<(i64, String, String)>)| {
        said.sort_by_key(|(n, ..)| *n);
        let told = said.into_iter().skip_while(|(_, role, _)| role == "tool");
        (key, told.map(|(.., message)| message).collect())
    };
    Ok(found.into_iter().map(whole).collect())
}

const LIST: &str = "
    SELECT m.n, m.message_id, m.execution, m.message, m.at FROM messages m
    WHERE m.tenant = ? AND m.project = ? AND m.conversation = ? AND m.n > ?";

/// Messages of a conversation; which and in what order the filter says.
pub(crate) fn message_list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &MessageFilter,
) -> StoreResult<Vec<MessageRow>> {
    let owner = binds![&*scope.tenant, &*scope.project, &filter.conversation, filter.after];
    let limit = filter.limit as i64;
    let rows = match &filter.newest_of {
        None => {
            let values = [&owner[..], &binds![limit]].concat();
            conn.rows(&format!("{LIST} ORDER BY m.n LIMIT ?"), &values)?
        }
        Some(role) => {
            let values = [&owner[..], &binds![role, limit]].concat();
            conn.rows(&format!("{LIST} AND m.role = ? ORDER BY m.n DESC LIMIT ?"), &values)?
        }
    };
    rows.into_iter().map(read_message).collect()
}

fn read_message(mut row: Row) -> StoreResult<MessageRow> {
    Ok(MessageRow {
        n: row.big()?,
        message_id: row.opt_text()?,
        execution: row.opt_id()?.map(ExecutionId),
        message: row.text()?,
        at: row.time()?,
    })
}

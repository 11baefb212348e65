//! Executions as callers see them: one, and many.

use std::collections::{BTreeMap, HashMap};

use holdpoint_engine::entry::Usage;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ErrorType, Failure};
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::extras::read_files;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ExecutionFilter, ExecutionRow};

const SELECT: &str = "
    SELECT e.tenant, e.project, e.id, e.status, e.reason, e.last_event, i.kind, i.name, i.version,
      i.conversation_id, i.end_user, i.run_type, i.retry_of, i.attempt, i.input, i.messages, i.output,
      i.error_type, i.error_message, i.input_tokens, i.output_tokens, i.cost_micros, i.metadata, i.created_at,
      e.started_at, e.updated_at, i.finished_at,
      (SELECT count(*) FROM approvals a WHERE a.tenant = e.tenant AND a.project = e.project
         AND a.execution = e.id AND CASE WHEN a.status = 'pending' THEN coalesce(a.closes_at, a.expires_at) END > (SELECT hp_now())),
      CASE WHEN i.extras THEN (SELECT x.parent FROM execution_extras x
         WHERE x.tenant = e.tenant AND x.project = e.project AND x.id = e.id) END,
      CASE WHEN i.extras THEN (SELECT x.files FROM execution_extras x
         WHERE x.tenant = e.tenant AND x.project = e.project AND x.id = e.id) END
    FROM";
const JOINED: &str = " i JOIN executions e ON e.tenant = i.tenant AND e.project = i.project AND e.id = i.id";

/// The `CASE` in the list above keeps the planner from the indexes over all pending approvals.
/// The rows of a page are found before anything is joined to them, and what is asked of other
/// tables is asked row by row: a join under a constant tenant is planned, on tables without
/// statistics, as a walk over the whole tenant for each row.
const OF_TENANT: &str = "(SELECT i.* FROM execution_info i WHERE i.tenant || '/' || i.project = ?";
/// One label leads, newest first, by the index over its whole expression. A key or value with a
/// slash could be read in two ways, so that the key is compared as well, and the owner in a form
/// that no index offers; the bound on the inner rows only keeps the two selections apart.
const OF_LABEL: &str = "(SELECT i.* FROM (
      SELECT l.tenant, l.project, l.id, l.created_at FROM execution_labels l
      WHERE l.tenant || '/' || l.project || '/' || l.key || '/' || l.value = ? AND l.key = ?
      ORDER BY l.created_at DESC, l.id DESC LIMIT 9223372036854775807) u
    JOIN execution_info i ON i.tenant = u.tenant AND i.project = u.project AND i.id = u.id
    WHERE i.project || '/' || i.tenant = ?";
pub(crate) const HAS_STATUS: &str = "(SELECT e.status FROM executions e
    WHERE e.tenant = i.tenant AND e.project = i.project AND e.id = i.id) = ?";
pub(crate) const HAS_LABEL: &str = "(SELECT l.value FROM execution_labels l
    WHERE l.tenant = i.tenant AND l.project = i.project AND l.id = i.id AND l.key = ?) = ?";
const NEWEST: &str = " ORDER BY i.created_at DESC, i.id DESC";

/// A list with these conditions, over a whole project or over one label.
pub(crate) fn list_text(by_label: bool, conditions: &str) -> String {
    // A label's time is its execution's: the order of the index is the order of the list.
    let (page, newest) =
        if by_label { (OF_LABEL, " ORDER BY u.created_at DESC, u.id DESC") } else { (OF_TENANT, NEWEST) };
    format!("{SELECT} {page}{conditions}{newest} LIMIT ?){JOINED}{NEWEST}")
}

fn read_execution(mut row: Row) -> StoreResult<ExecutionRow> {
    let key = row.key()?;
    Ok(ExecutionRow {
        status: row.word()?,
        reason: row.opt_word()?,
        last_event: row.big()?,
        kind: row.word()?,
        name: row.text()?,
        version: row.int()?,
        conversation_id: row.opt_text()?,
        end_user: row.opt_text()?,
        run_type: row.word()?,
        retry_of: row.opt_id()?.map(ExecutionId),
        attempt: row.int()?,
        input: row.opt_text()?,
        messages: row.opt_text()?,
        output: row.opt_text()?,
        error: read_error(&mut row)?,
        usage: Usage {
            input_tokens: count(&mut row)?,
            output_tokens: count(&mut row)?,
            cost_micros: count(&mut row)?,
        },
        metadata: row.text()?,
        labels: BTreeMap::new(),
        created_at: row.time()?,
        started_at: row.opt_time()?,
        updated_at: row.time()?,
        finished_at: row.opt_time()?,
        pending_approvals: row.big()?,
        parent: row.opt_id()?.map(ExecutionId),
        files: read_files(&key, row.opt_text()?)?,
        key,
    })
}

fn read_error(row: &mut Row) -> StoreResult<Option<Failure>> {
    let (kind, message) = (row.opt_word::<ErrorType>()?, row.opt_text()?);
    Ok(kind.map(|kind| Failure::new(kind, message.unwrap_or_default())))
}

fn count(row: &mut Row) -> StoreResult<u64> {
    Ok(u64::try_from(row.big()?).unwrap_or(0))
}

/// One execution.
pub(crate) fn execution_get(
    conn: &mut Conn,
    scope: &Scope,
    id: ExecutionId,
) -> StoreResult<Option<ExecutionRow>> {
    let text = format!("{SELECT} execution_info{JOINED} WHERE i.tenant = ? AND i.project = ? AND i.id = ?");
    let found = conn.row(&text, &binds![&*scope.tenant, &*scope.project, id.0])?;
    let mut found: Vec<ExecutionRow> = found.map(read_execution).transpose()?.into_iter().collect();
    add_labels(conn, &mut found)?;
    Ok(found.pop())
}

/// Conditions that are added one by one.
struct Query<'a> {
    conditions: String,
    values: Vec<Bind<'a>>,
}

impl<'a> Query<'a> {
    fn and(&mut self, condition: &str, values: &[Bind<'a>]) {
        self.conditions.push_str(" AND ");
        self.conditions.push_str(condition);
        self.values.extend_from_slice(values);
    }
}

/// Newest first.
pub(crate) fn execution_list(
    conn: &mut Conn,
    scope: &Scope,
    filter: &ExecutionFilter,
) -> StoreResult<Vec<ExecutionRow>> {
    let mut labels = filter.labels.iter();
    let owner = format!("{}/{}", scope.tenant, scope.project);
    let owner_turned = format!("{}/{}", scope.project, scope.tenant);
    let leading = labels.next().map(|(key, value)| (format!("{owner}/{key}/{value}"), key));
    let values = match &leading {
        Some((expression, key)) => binds![expression, *key, &owner_turned].to_vec(),
        None => binds![&owner].to_vec(),
    };
    let mut query = Query { conditions: String::new(), values };
    if let Some(status) = filter.status {
        query.and(HAS_STATUS, &binds![status.as_str()]);
    }
    if let Some((kind, name)) = &filter.kind_and_name {
        query.and("i.kind = ? AND i.name = ?", &binds![kind.as_str(), name]);
    }
    if let Some(conversation) = &filter.conversation_id {
        // Said again in the columns of the index over conversations.
        let (tenant, project) = (&*scope.tenant, &*scope.project);
        query.and(
            "i.conversation_id = ? AND i.tenant = ? AND i.project = ?",
            &binds![conversation, tenant, project],
        );
    }
    if let Some(run_type) = filter.run_type {
        query.and("i.run_type = ?", &binds![run_type.as_str()]);
    }
    for (key, value) in labels {
        query.and(HAS_LABEL, &binds![key, value]);
    }
    if let Some(created_after) = filter.created_after {
        query.and("i.created_at > ?", &binds![created_after]);
    }
    if let Some(end_user) = &filter.end_user {
        query.and("i.end_user = ?", &binds![end_user]);
    }
    if let Some((created_at, id)) = filter.after {
        query.and("(i.created_at, i.id) < (?, ?)", &binds![created_at, id.0]);
    }
    query.values.push((filter.limit as i64).into());
    let rows = conn.rows(&list_text(leading.is_some(), &query.conditions), &query.values)?;
    let mut found = rows.into_iter().map(read_execution).collect::<StoreResult<Vec<_>>>()?;
    add_labels(conn, &mut found)?;
    Ok(found)
}

fn add_labels(conn: &mut Conn, executions: &mut [ExecutionRow]) -> StoreResult<()> {
    let keys: Vec<ExecutionKey> = executions.iter().map(|execution| execution.key.clone()).collect();
    let rows: Vec<_> = keys.iter().map(key_row).collect();
    let labels = conn.each(
        "WITH u(t, p, x) AS (@u) SELECT l.tenant, l.project, l.id, l.key, l.value
         FROM u JOIN execution_labels l ON l.tenant = u.t AND l.project = u.p AND l.id = u.x",
        &rows,
        &[],
    )?;
    let mut by_key: HashMap<ExecutionKey, BTreeMap<String, String>> = HashMap::new();
    for mut row in labels {
        by_key.entry(row.key()?).or_default().insert(row.text()?, row.text()?);
    }
    for execution in executions {
        execution.labels = by_key.remove(&execution.key).unwrap_or_default();
    }
    Ok(())
}

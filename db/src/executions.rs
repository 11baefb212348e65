//! Executions as callers see them: one, and many.

use std::collections::{BTreeMap, HashMap};

use holdpoint_engine::entry::Usage;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ErrorType, Failure, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::extras::read_files;
use crate::lanes::Place;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{ExecutionFilter, ExecutionPage, ExecutionRow};

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
         WHERE x.tenant = e.tenant AND x.project = e.project AND x.id = e.id) END,
      e.lane
    FROM";
const JOINED: &str = " i JOIN executions e ON e.tenant = i.tenant AND e.project = i.project AND e.id = i.id";

/// Rows that a page looks at when it has to look at each: a filter that few of them pass would
/// walk the whole project otherwise. What was not looked at is the next page's.
pub const LOOKED_AT: usize = 5_000;

/// Where a list begins: the rows in its order, before any filter. The `CASE` in the list above
/// keeps the planner from the indexes over all pending approvals. The rows of a page are found
/// before anything is joined to them, and what is asked of other tables is asked row by row: a
/// join under a constant tenant is planned, on tables without statistics, as a walk over the
/// whole tenant for each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lead {
    /// Newest first in a project, by the index over one expression.
    Project,
    /// Newest first in a conversation, by its index.
    Conversation,
    /// All that are suspended in a project, by their index: for those that are few.
    Suspended,
    /// All that failed, or all that were cancelled, in a project: likewise.
    Unwell,
    /// One label, newest first, by the index over its whole expression. A key or value with a
    /// slash could be read in two ways, so that the key is compared as well, and the owner in a
    /// form that no index offers. A label's time is its execution's.
    Label,
}

impl Lead {
    /// Its rows under further conditions on `k`, of which so many are looked at.
    pub(crate) fn text(self, conditions: &str) -> String {
        let end = format!("{conditions} ORDER BY k.created_at DESC, k.id DESC LIMIT ?");
        match self {
            Lead::Project => {
                format!("SELECT k.* FROM execution_info k WHERE k.tenant || '/' || k.project = ?{end}")
            }
            Lead::Conversation => format!(
                "SELECT k.* FROM execution_info k WHERE k.conversation_id = ? AND k.tenant = ? AND k.project = ?{end}"
            ),
            Lead::Suspended => format!(
                "SELECT k.* FROM (SELECT e.tenant, e.project, e.id FROM executions e
                   WHERE e.tenant || '/' || e.project = ? AND e.status = 'suspended') s
                 JOIN execution_info k ON k.tenant = s.tenant AND k.project = s.project AND k.id = s.id
                 WHERE true{end}"
            ),
            Lead::Unwell => format!(
                "SELECT k.* FROM (SELECT e.tenant, e.project, e.id FROM executions e
                   WHERE e.tenant || '/' || e.project || '/' || e.status = ?
                     AND e.status IN ('failed', 'cancelled')) s
                 JOIN execution_info k ON k.tenant = s.tenant AND k.project = s.project AND k.id = s.id
                 WHERE true{end}"
            ),
            Lead::Label => format!(
                "SELECT k.tenant, k.project, k.id, k.created_at FROM execution_labels k
                 WHERE k.tenant || '/' || k.project || '/' || k.key || '/' || k.value = ? AND k.key = ?{end}"
            ),
        }
    }

    /// A page of these rows, those that pass the filters on `i`.
    pub(crate) fn page(self, conditions: &str, filters: &str) -> String {
        let inner = self.text(conditions);
        let page = match self {
            Lead::Label => format!(
                "SELECT i.* FROM ({inner}) u
                 JOIN execution_info i ON i.tenant = u.tenant AND i.project = u.project AND i.id = u.id
                 WHERE i.project || '/' || i.tenant = ?{filters} ORDER BY u.created_at DESC, u.id DESC LIMIT ?"
            ),
            _ => format!(
                "SELECT i.* FROM ({inner}) i WHERE true{filters}
                 ORDER BY i.created_at DESC, i.id DESC LIMIT ?"
            ),
        };
        format!("{SELECT} ({page}){JOINED} ORDER BY i.created_at DESC, i.id DESC")
    }
}

pub(crate) const HAS_STATUS: &str = "(SELECT e.status FROM executions e
    WHERE e.tenant = i.tenant AND e.project = i.project AND e.id = i.id) = ?";
pub(crate) const HAS_LABEL: &str = "(SELECT l.value FROM execution_labels l
    WHERE l.tenant = i.tenant AND l.project = i.project AND l.id = i.id AND l.key = ?) = ?";

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
        priority: Place::read(&row.text()?)?.priority,
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
#[derive(Default)]
struct Conditions<'a> {
    text: String,
    values: Vec<Bind<'a>>,
}

impl<'a> Conditions<'a> {
    fn and(&mut self, condition: &str, values: &[Bind<'a>]) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self.values.extend_from_slice(values);
    }
}

/// What a list is asked for, in the words of its statement.
struct Query<'a> {
    lead: Lead,
    lead_values: Vec<Bind<'a>>,
    /// Where it begins and ends: columns of the leading index.
    range: Conditions<'a>,
    /// What each row is looked at for.
    filters: Conditions<'a>,
}

impl<'a> Query<'a> {
    /// `owner` and `label` are the expressions of the indexes.
    fn new(scope: &'a Scope, filter: &'a ExecutionFilter, owner: &'a str, label: &'a str) -> Self {
        let mut labels = filter.labels.iter();
        let (lead, lead_values) = if let Some(conversation) = &filter.conversation_id {
            let (tenant, project) = (&*scope.tenant, &*scope.project);
            (Lead::Conversation, binds![conversation, tenant, project].to_vec())
        } else if let Some((key, _)) = labels.next() {
            (Lead::Label, binds![label, key].to_vec())
        } else {
            (Lead::Project, binds![owner].to_vec())
        };
        let (mut range, mut filters) = (Conditions::default(), Conditions::default());
        if let Some(created_after) = filter.created_after {
            range.and("k.created_at > ?", &binds![created_after]);
        }
        if let Some((created_at, id)) = filter.after {
            range.and("(k.created_at, k.id) < (?, ?)", &binds![created_at, id.0]);
        }
        if let Some(status) = filter.status {
            filters.and(HAS_STATUS, &binds![status.as_str()]);
        }
        if let Some((kind, name)) = &filter.kind_and_name {
            filters.and("i.kind = ? AND i.name = ?", &binds![kind.as_str(), name]);
        }
        if let Some(run_type) = filter.run_type {
            filters.and("i.run_type = ?", &binds![run_type.as_str()]);
        }
        for (key, value) in labels {
            filters.and(HAS_LABEL, &binds![key, value]);
        }
        if let Some(end_user) = &filter.end_user {
            filters.and("i.end_user = ?", &binds![end_user]);
        }
        Self { lead, lead_values, range, filters }
    }
}

const SUSPENDED: &str = "
    SELECT count(*) FROM (SELECT 1 FROM executions e
      WHERE e.tenant || '/' || e.project = ? AND e.status = 'suspended' LIMIT ?) s";
const UNWELL: &str = "
    SELECT count(*) FROM (SELECT 1 FROM executions e
      WHERE e.tenant || '/' || e.project || '/' || e.status = ? AND e.status IN ('failed', 'cancelled')
      LIMIT ?) s";

/// A status that an index leads to, by which a list is led where few have it: where they are many,
/// the newest lead sooner.
fn led_by_status<'a>(
    conn: &mut Conn,
    owner: &'a str,
    of_status: &'a str,
    filter: &ExecutionFilter,
) -> StoreResult<Option<(Lead, &'a str)>> {
    if filter.conversation_id.is_some() || !filter.labels.is_empty() {
        return Ok(None);
    }
    let (lead, text, whose) = match filter.status {
        Some(Status::Suspended) => (Lead::Suspended, SUSPENDED, owner),
        Some(Status::Failed | Status::Cancelled) => (Lead::Unwell, UNWELL, of_status),
        _ => return Ok(None),
    };
    let counted = conn.row(text, &binds![whose, LOOKED_AT as i64 + 1])?;
    let few = counted.map_or(Ok(true), |mut row| Ok(row.big()? <= LOOKED_AT as i64))?;
    Ok(few.then_some((lead, whose)))
}

/// A page, newest first.
pub(crate) fn execution_page(
    conn: &mut Conn,
    scope: &Scope,
    filter: &ExecutionFilter,
) -> StoreResult<ExecutionPage> {
    let owner = scope.to_string();
    let label = filter.labels.first_key_value();
    let label = label.map_or_else(String::new, |(key, value)| format!("{owner}/{key}/{value}"));
    let mut query = Query::new(scope, filter, &owner, &label);
    let of_status = filter.status.map_or_else(String::new, |status| format!("{owner}/{}", status.as_str()));
    if let Some((lead, whose)) = led_by_status(conn, &owner, &of_status, filter)? {
        (query.lead, query.lead_values) = (lead, binds![whose].to_vec());
    }
    let text = query.lead.page(&query.range.text, &query.filters.text);
    let looked_at = LOOKED_AT.max(filter.limit + 1) as i64;
    let owner_turned = format!("{}/{}", scope.project, scope.tenant);
    let mut values = [query.lead_values.as_slice(), &query.range.values, &binds![looked_at]].concat();
    if query.lead == Lead::Label {
        values.push((&owner_turned).into());
    }
    values.extend_from_slice(&query.filters.values);
    // One more than asked for says whether there is a next page.
    values.push((filter.limit as i64 + 1).into());
    let rows = conn.rows(&text, &values)?;
    let mut rows = rows.into_iter().map(read_execution).collect::<StoreResult<Vec<_>>>()?;
    let next = if rows.len() > filter.limit {
        rows.truncate(filter.limit);
        rows.last().map(|row| (row.created_at, row.key.id))
    } else if query.filters.text.is_empty() && query.lead != Lead::Label {
        None
    } else {
        last_looked_at(conn, &query, looked_at)?
    };
    add_labels(conn, &mut rows)?;
    Ok(ExecutionPage { rows, next })
}

/// The last of the rows that were looked at, where there may be more behind it.
fn last_looked_at(
    conn: &mut Conn,
    query: &Query<'_>,
    looked_at: i64,
) -> StoreResult<Option<(Timestamp, ExecutionId)>> {
    let text =
        format!("SELECT k.created_at, k.id FROM ({}) k LIMIT 1 OFFSET ?", query.lead.text(&query.range.text));
    let bounds = binds![looked_at, looked_at - 1];
    let values = [query.lead_values.as_slice(), &query.range.values, &bounds].concat();
    let row = conn.row(&text, &values)?;
    row.map(|mut row| Ok((row.time()?, ExecutionId(row.id()?)))).transpose()
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

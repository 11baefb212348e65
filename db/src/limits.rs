//! Limits as they are kept, and as each process knows them.
//!
//! Which limits there are is remembered for [`LIMITS_AGE`], so that where there are none a claim
//! has no statement more. What a limit lets through is judged by its row, under a lock.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, DefinitionKind};
use serde_json::json;

use crate::audit::{self, Entry};
use crate::conn::Conn;
use crate::lanes::{Of, Place};
use crate::limit_types::*;
use crate::row::Row;
use crate::session::micros;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;

/// For so long a process may go on with the limits that it last read.
pub const LIMITS_AGE: Duration = Duration::from_millis(500);

/// Whose limit: the primary key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) tenant: Arc<str>,
    /// Empty for the tenant's own.
    pub(crate) project: Arc<str>,
    pub(crate) kind: LimitKind,
    pub(crate) name: String,
}

impl Subject {
    pub(crate) fn new(scope: &Scope, kind: LimitKind, name: &str) -> Self {
        let project = if kind == LimitKind::Tenant { "".into() } else { Arc::clone(&scope.project) };
        Self { tenant: Arc::clone(&scope.tenant), project, kind, name: name.to_owned() }
    }

    pub(crate) fn binds(&self) -> [Bind<'_>; 4] {
        binds![&*self.tenant, &*self.project, self.kind.as_str(), &self.name]
    }

    /// Reads tenant, project, kind and name.
    pub(crate) fn read(row: &mut Row) -> StoreResult<Self> {
        let (tenant, project, kind, name) = (row.text()?, row.text()?, row.text()?, row.text()?);
        let wrong = || StoreError::Corrupt(format!("`{kind}` is no kind of a limit"));
        let kind = LimitKind::parse(&kind).ok_or_else(wrong)?;
        Ok(Self { tenant: tenant.into(), project: project.into(), kind, name })
    }
}

/// Reads concurrency, the rate's two columns, and the backlog.
pub(crate) fn read_limit(row: &mut Row) -> StoreResult<Limit> {
    let (concurrency, count, per, backlog) = (row.opt_big()?, row.opt_big()?, row.opt_big()?, row.opt_big()?);
    let rate = count.zip(per);
    let rate = rate.map(|(count, per)| Rate { count, per: Duration::from_micros(per.unsigned_abs()) });
    Ok(Limit { concurrency, rate, backlog })
}

const COLUMNS: &str =
    "SELECT tenant, project, kind, name, concurrency, rate_count, rate_micros, backlog, updated_by, updated_at
     FROM limits WHERE";

fn read_row(mut row: Row) -> StoreResult<LimitRow> {
    let Subject { kind, name, .. } = Subject::read(&mut row)?;
    let limit = read_limit(&mut row)?;
    Ok(LimitRow { kind, name, limit, updated_by: row.text()?, updated_at: row.time()? })
}

const OF_SUBJECT: &str = "tenant = ? AND project = ? AND kind = ? AND name = ?";

pub(crate) fn limit_get(
    conn: &mut Conn,
    scope: &Scope,
    kind: LimitKind,
    name: &str,
) -> StoreResult<Option<LimitRow>> {
    let subject = Subject::new(scope, kind, name);
    conn.row(&format!("{COLUMNS} {OF_SUBJECT}"), &subject.binds())?.map(read_row).transpose()
}

/// Those of a project, and its tenant's own.
pub(crate) fn limit_list(conn: &mut Conn, scope: &Scope) -> StoreResult<Vec<LimitRow>> {
    let text = format!("{COLUMNS} tenant = ? AND project IN (?, '') ORDER BY kind, name");
    conn.rows(&text, &binds![&*scope.tenant, &*scope.project])?.into_iter().map(read_row).collect()
}

pub(crate) fn limit_put(
    conn: &mut Conn,
    scope: &Scope,
    (kind, name): (LimitKind, &str),
    limit: &Limit,
    actor: &str,
) -> StoreResult<LimitRow> {
    let subject = Subject::new(scope, kind, name);
    let [tenant, project, word, called] = subject.binds();
    let rate = limit.rate.as_ref();
    let [concurrency, count, per, backlog, by] = binds![
        limit.concurrency,
        rate.map(|rate| rate.count),
        rate.map(|rate| micros(rate.per)),
        limit.backlog,
        actor,
    ];
    let values = [tenant, project, word, called, concurrency, count, per, backlog, by];
    let row = conn.row(
        "INSERT INTO limits (tenant, project, kind, name, concurrency, rate_count, rate_micros, backlog, updated_by,
           updated_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT hp_now()))
         ON CONFLICT (tenant, project, kind, name) DO UPDATE SET concurrency = excluded.concurrency,
           rate_count = excluded.rate_count, rate_micros = excluded.rate_micros, backlog = excluded.backlog,
           updated_by = excluded.updated_by, updated_at = excluded.updated_at
         RETURNING tenant, project, kind, name, concurrency, rate_count, rate_micros, backlog, updated_by, updated_at",
        &values,
    )?;
    note(conn, scope, AuditAct::LimitPut, &subject, actor, Some(limit))?;
    read_row(row.ok_or_else(|| StoreError::Corrupt("a limit was not written".to_owned()))?)
}

pub(crate) fn limit_delete(
    conn: &mut Conn,
    scope: &Scope,
    (kind, name): (LimitKind, &str),
    by: &str,
) -> StoreResult<bool> {
    let subject = Subject::new(scope, kind, name);
    let gone =
        conn.rows(&format!("DELETE FROM limits WHERE {OF_SUBJECT} RETURNING kind"), &subject.binds())?;
    if !gone.is_empty() {
        note(conn, scope, AuditAct::LimitDeleted, &subject, by, None)?;
    }
    Ok(!gone.is_empty())
}

/// The project whose key did it has it in its audit, the tenant's own limit too.
fn note(
    conn: &mut Conn,
    scope: &Scope,
    act: AuditAct,
    subject: &Subject,
    actor: &str,
    limit: Option<&Limit>,
) -> StoreResult<()> {
    let details = limit.map_or_else(
        || json!({}),
        |limit| {
            let rate = limit.rate.map(|rate| json!({"count": rate.count, "per_micros": micros(rate.per)}));
            json!({"concurrency": limit.concurrency, "rate": rate, "backlog": limit.backlog})
        },
    );
    let subject = format!("{}/{}", subject.kind.as_str(), subject.name);
    audit::append(conn, &Entry { scope: Some(scope), actor, end_user: None, act, subject, details })
}

/// The limits that there are, as they were last read.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<Subject, Limit>);

/// What the connections of a pool share.
#[derive(Default)]
pub(crate) struct KnownLimits(Mutex<Option<(Instant, Arc<Known>)>>);

impl KnownLimits {
    fn fresh(&self) -> Option<Arc<Known>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(read, _)| read.elapsed() < LIMITS_AGE).map(|(_, known)| Arc::clone(known))
    }

    /// The next look is at the rows.
    pub(crate) fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

const KNOWN: &str =
    "SELECT tenant, project, kind, name, concurrency, rate_count, rate_micros, backlog FROM limits
     WHERE concurrency IS NOT NULL OR rate_count IS NOT NULL";

/// The limits on what runs, at most [`LIMITS_AGE`] old.
pub(crate) fn known(conn: &mut Conn) -> StoreResult<Arc<Known>> {
    if let Some(known) = conn.turns.limits.fresh() {
        return Ok(known);
    }
    let begun = Instant::now();
    let mut read = HashMap::new();
    for mut row in conn.rows(KNOWN, &[])? {
        read.insert(Subject::read(&mut row)?, read_limit(&mut row)?);
    }
    let read = Arc::new(Known(read));
    let state = Arc::clone(&conn.turns);
    *state.limits.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((begun, Arc::clone(&read)));
    Ok(read)
}

/// The limits that there are, with what the operator gives each tenant.
#[derive(Clone)]
pub(crate) struct InForce {
    known: Arc<Known>,
    /// For tenants that have none of their own.
    pub(crate) tenant: Option<i64>,
}

pub(crate) const fn kind_of(kind: DefinitionKind) -> LimitKind {
    match kind {
        DefinitionKind::Agent => LimitKind::Agent,
        DefinitionKind::Workflow => LimitKind::Workflow,
    }
}

impl InForce {
    pub(crate) fn new(known: Arc<Known>, tenant: Option<i64>) -> Self {
        Self { known, tenant }
    }

    /// Whether nothing at all is limited.
    pub(crate) fn is_empty(&self) -> bool {
        self.known.0.is_empty() && self.tenant.is_none()
    }

    pub(crate) fn get(&self, subject: &Subject) -> Option<&Limit> {
        self.known.0.get(subject)
    }

    /// Whether calls of the tool are limited.
    pub(crate) fn limits_tool(&self, scope: &Scope, tool: &str) -> bool {
        !self.known.0.is_empty() && self.get(&Subject::new(scope, LimitKind::Tool, tool)).is_some()
    }

    /// The limits that executions of this definition fall under, or those of no limited one.
    pub(crate) fn subjects(&self, scope: &Scope, of: Option<(DefinitionKind, &str)>) -> Vec<Subject> {
        let tenant = Subject::new(scope, LimitKind::Tenant, TENANT_LIMIT);
        let tenant = Some(tenant).filter(|one| self.tenant.is_some() || self.get(one).is_some());
        let of = of.map(|(kind, name)| Subject::new(scope, kind_of(kind), name));
        tenant.into_iter().chain(of.filter(|one| self.get(one).is_some())).collect()
    }

    /// Where an execution waits.
    pub(crate) fn place(
        &self,
        scope: &Scope,
        (kind, name): (DefinitionKind, &str),
        priority: i32,
        has_begun: bool,
    ) -> Place {
        if self.known.0.is_empty() {
            return Place::plain(priority);
        }
        let subjects = self.subjects(scope, Some((kind, name)));
        let rated =
            subjects.iter().any(|subject| self.get(subject).is_some_and(|limit| limit.rate.is_some()));
        let limited = subjects.iter().any(|subject| subject.kind != LimitKind::Tenant);
        let of: Option<Of> = limited.then(|| (kind, name.to_owned()));
        Place { priority, unbegun: rated && !has_begun, of }
    }
}

//! Definitions: a version never changes; the head says which is the latest, and whether the
//! name is in use.

use std::collections::BTreeSet;

use holdpoint_engine::definition::parse_agent;
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::runs::Terms;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, DefinitionKind};
use holdpoint_engine::team::Named;
use holdpoint_engine::workflow::document::Workflow;
use serde_json::json;

use crate::conn::Conn;
use crate::row::Row;
use crate::session::now;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{DefinitionRow, StoreError};
use crate::workflow_end::read_terms;
use crate::{audit, schedules, workflow_runs, workflow_states};

const DEFINITION: &str = "
    SELECT d.kind, d.name, d.version, d.label, d.document, d.digest, d.created_by, d.created_at
    FROM definition_heads h JOIN definitions d
      ON d.tenant = h.tenant AND d.project = h.project AND d.kind = h.kind AND d.name = h.name
    WHERE h.tenant = ? AND h.project = ? AND h.kind = ?";

fn read_definition(mut row: Row) -> StoreResult<DefinitionRow> {
    Ok(DefinitionRow {
        kind: row.word()?,
        name: row.text()?,
        version: row.int()?,
        label: row.opt_text()?,
        document: row.text()?,
        digest: row.text()?,
        created_by: row.text()?,
        created_at: row.time()?,
    })
}

/// One transaction's work: the head's row is the lock of the name.
pub(crate) fn definition_put_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    kind: DefinitionKind,
    name: &str,
    document: &str,
    by: &str,
) -> StoreResult<(DefinitionRow, bool)> {
    let (tenant, project, kind_word) = (&*scope.tenant, &*scope.project, kind.as_str());
    conn.rows(
        "INSERT INTO definition_heads (tenant, project, kind, name, version, deleted_at, updated_at)
         VALUES (?, ?, ?, ?, 0, 0, 0) ON CONFLICT DO NOTHING",
        &binds![tenant, project, kind_word, name],
    )?;
    let head = conn.row(
        "SELECT e.version, e.deleted_at FROM definition_heads e
         WHERE e.tenant = ? AND e.project = ? AND e.kind = ? AND e.name = ? @lock",
        &binds![tenant, project, kind_word, name],
    )?;
    let mut head = head.ok_or_else(|| StoreError::Corrupt("a definition has no head".to_owned()))?;
    let (latest, deleted) = (head.int()?, head.opt_big()?.is_some());
    let facts = Facts::of(kind, document);
    if !deleted {
        let row = definition_get(conn, scope, kind, name, Some(latest))?;
        if let Some(row) = row.filter(|row| row.digest == facts.digest) {
            return Ok((row, false));
        }
    }
    let (version, created_at) = (latest + 1, now(conn)?);
    conn.rows(
        "INSERT INTO definitions (tenant, project, kind, name, version, document, digest, created_by, created_at,
           refers, terms, label)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &binds![
            tenant,
            project,
            kind_word,
            name,
            version,
            document,
            &facts.digest,
            by,
            created_at,
            facts.refers.as_deref(),
            facts.terms.as_deref(),
            facts.label.as_deref(),
        ],
    )?;
    if kind == DefinitionKind::Workflow {
        // Before the workflow's row, as where a tick takes both.
        schedules::own(conn, scope, (name, version), document, by)?;
        let state = if deleted { workflow_states::begin } else { workflow_states::new_version };
        state(conn, scope, name, created_at)?;
        let terms = read_terms(facts.terms.as_deref())?;
        workflow_runs::note_secrets(conn, scope, name, &terms.secrets)?;
    }
    conn.rows(
        "UPDATE definition_heads SET version = ?, deleted_at = NULL, updated_at = ?
         WHERE tenant = ? AND project = ? AND kind = ? AND name = ?",
        &binds![version, created_at, tenant, project, kind_word, name],
    )?;
    let details = json!({"version": version, "digest": facts.digest});
    audit::note(conn, scope, by, AuditAct::DefinitionPut, subject(kind, name), details)?;
    let (name, document, created_by) = (name.to_owned(), document.to_owned(), by.to_owned());
    let Facts { digest, label, .. } = facts;
    Ok((DefinitionRow { kind, name, version, label, document, digest, created_by, created_at }, true))
}

/// As the audit names a definition.
fn subject(kind: DefinitionKind, name: &str) -> String {
    format!("{}/{name}", kind.as_str())
}

/// What is kept beside a document, so that nobody has to read it again.
struct Facts {
    digest: String,
    /// The definitions that it names, as the start that pins them reads them.
    refers: Option<String>,
    /// What a workflow says of its runs, as the transactions that start and end them read it.
    terms: Option<String>,
    label: Option<String>,
}

impl Facts {
    fn of(kind: DefinitionKind, document: &str) -> Self {
        let workflow = match kind {
            DefinitionKind::Workflow => Workflow::load(document, 1).ok(),
            DefinitionKind::Agent => None,
        };
        match workflow {
            Some(workflow) => Self::of_workflow(&workflow),
            None => Self {
                digest: sha256_hex(document.as_bytes()),
                refers: agents_in(kind, document).and_then(json_of_some),
                terms: None,
                label: None,
            },
        }
    }

    /// Of a workflow the text is kept as its author wrote it: documents with the same value
    /// are the same, whatever their comments and their layout.
    fn of_workflow(workflow: &Workflow) -> Self {
        let terms = Terms::from(workflow);
        Self {
            digest: sha256_hex(workflow.definition.to_string().as_bytes()),
            refers: json_of_some(Named::in_workflow(workflow)),
            terms: if terms == Terms::default() { None } else { serde_json::to_string(&terms).ok() },
            label: Some(workflow.about.version.clone()),
        }
    }
}

fn agents_in(kind: DefinitionKind, document: &str) -> Option<BTreeSet<Named>> {
    let agent = Some(document).filter(|_| kind == DefinitionKind::Agent).map(parse_agent)?.ok()?;
    Some(agent.references().into_iter().map(|(_, reference)| reference.into()).collect())
}

fn json_of_some(references: BTreeSet<Named>) -> Option<String> {
    if references.is_empty() { None } else { serde_json::to_string(&references).ok() }
}

/// A version, or the latest of a name in use.
pub(crate) fn definition_get(
    conn: &mut Conn,
    scope: &Scope,
    kind: DefinitionKind,
    name: &str,
    version: Option<i32>,
) -> StoreResult<Option<DefinitionRow>> {
    let text = match version {
        Some(_) => format!("{DEFINITION} AND h.name = ? AND d.version = ?"),
        None => format!(
            "{DEFINITION} AND h.name = ? AND d.version = coalesce(?, h.version) AND h.deleted_at IS NULL"
        ),
    };
    let values = binds![&*scope.tenant, &*scope.project, kind.as_str(), name, version];
    conn.row(&text, &values)?.map(read_definition).transpose()
}

/// Whether a name is in use.
pub(crate) fn is_in_use(
    conn: &mut Conn,
    scope: &Scope,
    kind: DefinitionKind,
    name: &str,
) -> StoreResult<bool> {
    let row = conn.row(
        "SELECT h.version FROM definition_heads h
         WHERE h.tenant = ? AND h.project = ? AND h.kind = ? AND h.name = ? AND h.deleted_at IS NULL",
        &binds![&*scope.tenant, &*scope.project, kind.as_str(), name],
    )?;
    Ok(row.is_some())
}

/// The latest versions of all names in use, by name.
pub(crate) fn definition_list(
    conn: &mut Conn,
    scope: &Scope,
    kind: DefinitionKind,
    after: Option<&str>,
    limit: usize,
) -> StoreResult<Vec<DefinitionRow>> {
    let text = format!(
        "{DEFINITION} AND d.version = h.version AND h.deleted_at IS NULL AND h.name > ? ORDER BY h.name LIMIT ?"
    );
    let values = binds![&*scope.tenant, &*scope.project, kind.as_str(), after.unwrap_or(""), limit as i64];
    conn.rows(&text, &values)?.into_iter().map(read_definition).collect()
}

/// All versions of a name in use, newest first.
pub(crate) fn definition_versions(
    conn: &mut Conn,
    scope: &Scope,
    kind: DefinitionKind,
    name: &str,
) -> StoreResult<Vec<DefinitionRow>> {
    let text = format!("{DEFINITION} AND h.name = ? AND h.deleted_at IS NULL ORDER BY d.version DESC");
    let values = binds![&*scope.tenant, &*scope.project, kind.as_str(), name];
    conn.rows(&text, &values)?.into_iter().map(read_definition).collect()
}

/// One transaction's work: takes a name out of use; whether it was in use.
pub(crate) fn definition_delete_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    kind: DefinitionKind,
    name: &str,
    by: &str,
) -> StoreResult<bool> {
    let deleted = conn.rows(
        "UPDATE definition_heads SET deleted_at = (SELECT hp_now()), updated_at = (SELECT hp_now())
         WHERE tenant = ? AND project = ? AND kind = ? AND name = ? AND deleted_at IS NULL RETURNING version",
        &binds![&*scope.tenant, &*scope.project, kind.as_str(), name],
    )?;
    if kind == DefinitionKind::Workflow {
        schedules::disown(conn, scope, name)?;
        workflow_states::delete(conn, scope, name)?;
    }
    if let Some(mut row) = deleted.into_iter().next() {
        let details = json!({"version": row.int()?});
        audit::note(conn, scope, by, AuditAct::DefinitionDeleted, subject(kind, name), details)?;
        return Ok(true);
    }
    Ok(false)
}

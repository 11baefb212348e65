//! The audit: rows that are written with the acts that they tell of, in one chain for each
//! tenant and project.
//!
//! [`append`] only notes an entry. The transaction writes what was noted as its last work
//! before the COMMIT: then it takes the lock of each chain's head, so that whoever holds a head
//! waits for nobody, and holds it for one insert and the commit. An act whose row cannot be
//! written is rolled back with it.

use std::collections::BTreeMap;

use holdpoint_engine::audit::{AuditHead, AuditRow};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::AuditAct;
use holdpoint_engine::time::Timestamp;
use serde_json::Value;

use crate::audit_store::AuditFilter;
use crate::conn::Conn;
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::StoreError;

/// The most characters of a text that somebody else wrote (a reason): the rest is cut off.
const TEXT: usize = 1_000;

/// One act, as its transaction tells of it.
pub(crate) struct Entry<'a> {
    /// Whose chain; `None` for the installation's.
    pub(crate) scope: Option<&'a Scope>,
    /// A key's id, `scheduler`, `worker`, `cron` or `operator`.
    pub(crate) actor: &'a str,
    /// The end user that the actor spoke for.
    pub(crate) end_user: Option<&'a str>,
    pub(crate) act: AuditAct,
    /// An id or a name.
    pub(crate) subject: String,
    /// A JSON object; never a secret, and never the arguments of a call (their digest).
    pub(crate) details: Value,
}

/// An entry that waits for the end of its transaction.
#[derive(Debug)]
pub(crate) struct Noted {
    actor: String,
    end_user: Option<String>,
    act: AuditAct,
    subject: String,
    details: String,
}

/// What a transaction has noted so far, by chain, in the order of the heads' locks.
pub(crate) type Notes = BTreeMap<Scope, Vec<Noted>>;

/// Notes an act; it is written with the rest of the transaction, or nothing is.
pub(crate) fn append(conn: &mut Conn, entry: &Entry<'_>) -> StoreResult<()> {
    let Some(notes) = conn.notes.as_mut() else {
        return Err(StoreError::Refused(format!("{} is audited outside of a transaction", entry.act)));
    };
    let chain = entry.scope.cloned().unwrap_or_else(holdpoint_engine::audit::installation);
    notes.entry(chain).or_default().push(Noted {
        actor: entry.actor.to_owned(),
        end_user: entry.end_user.filter(|user| !user.is_empty()).map(str::to_owned),
        act: entry.act,
        subject: entry.subject.clone(),
        // Without `preserve_order`, serde_json keeps the keys of an object sorted.
        details: entry.details.to_string(),
    });
    Ok(())
}

/// Notes an act in which nobody spoke for an end user.
pub(crate) fn note(
    conn: &mut Conn,
    scope: &Scope,
    actor: &str,
    act: AuditAct,
    subject: impl ToString,
    details: Value,
) -> StoreResult<()> {
    let subject = subject.to_string();
    append(conn, &Entry { scope: Some(scope), actor, end_user: None, act, subject, details })
}

/// Notes that the schema was brought up to date.
pub(crate) fn migrated(conn: &mut Conn, ran: &[String], last: &str) -> StoreResult<()> {
    let entry = Entry {
        scope: None,
        actor: "operator",
        end_user: None,
        act: AuditAct::MigrationRun,
        subject: last.to_owned(),
        details: serde_json::json!({"ran": ran}),
    };
    append(conn, &entry)
}

/// A text that somebody else wrote, bounded.
pub(crate) fn bounded(text: &str) -> String {
    match text.char_indices().nth(TEXT) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Writes what the transaction noted: its last work.
pub(crate) fn write(conn: &mut Conn, notes: Notes) -> StoreResult<()> {
    notes.into_iter().try_for_each(|(chain, noted)| write_chain(conn, &chain, noted))
}

fn write_chain(conn: &mut Conn, chain: &Scope, noted: Vec<Noted>) -> StoreResult<()> {
    let (mut head, at) = lock_head(conn, chain)?;
    let mut rows = Vec::with_capacity(noted.len());
    for noted in noted {
        let row = next(&head, noted, at);
        (head.seq, head.hash) = (row.seq, row.hash.clone());
        rows.push(row);
    }
    let values: Vec<_> = rows.iter().map(values).collect();
    conn.each(INSERT, &values, &[])?;
    conn.rows(
        "UPDATE audit_heads SET seq = ?, hash = ? WHERE tenant = ? AND project = ?",
        &binds![head.seq, &head.hash, &*chain.tenant, &*chain.project],
    )
    .map(drop)
}

/// The time is asked for once the lock is there.
const HEAD: &str =
    "SELECT e.seq, e.hash, hp_now() FROM audit_heads e WHERE e.tenant = ? AND e.project = ? @lock";

fn lock_head(conn: &mut Conn, chain: &Scope) -> StoreResult<(AuditHead, Timestamp)> {
    let names = binds![&*chain.tenant, &*chain.project];
    let mut row = conn.row(HEAD, &names)?;
    if row.is_none() {
        conn.rows(
            "INSERT INTO audit_heads (tenant, project, seq, hash) VALUES (?, ?, 0, '') ON CONFLICT DO NOTHING",
            &names,
        )?;
        row = conn.row(HEAD, &names)?;
    }
    let mut row = row.ok_or_else(|| StoreError::Corrupt("a chain of the audit has no head".to_owned()))?;
    Ok((AuditHead { chain: chain.clone(), seq: row.big()?, hash: row.text()? }, row.time()?))
}

fn next(head: &AuditHead, noted: Noted, at: Timestamp) -> AuditRow {
    let mut row = AuditRow {
        tenant: head.chain.tenant.to_string(),
        project: head.chain.project.to_string(),
        seq: head.seq + 1,
        at,
        actor: noted.actor,
        end_user: noted.end_user,
        act: noted.act.as_str().to_owned(),
        subject: noted.subject,
        details: noted.details,
        prev_hash: head.hash.clone(),
        hash: String::new(),
    };
    row.hash = row.computed_hash();
    row
}

const INSERT: &str = "
    WITH u(t, p, seq, at, actor, eu, act, su, de, prev, hash) AS (@u)
    INSERT INTO audit (tenant, project, seq, at, actor, end_user, act, subject, details, prev_hash, hash)
    SELECT t, p, seq, at, actor, eu, act, su, de, prev, hash FROM u";

fn values(row: &AuditRow) -> [Bind<'_>; 11] {
    binds![
        &row.tenant,
        &row.project,
        row.seq,
        row.at,
        &row.actor,
        row.end_user.as_deref(),
        &row.act,
        &row.subject,
        &row.details,
        &row.prev_hash,
        &row.hash,
    ]
}

fn read_row(mut row: Row) -> StoreResult<AuditRow> {
    Ok(AuditRow {
        tenant: row.text()?,
        project: row.text()?,
        seq: row.big()?,
        at: row.time()?,
        actor: row.text()?,
        end_user: row.opt_text()?,
        act: row.text()?,
        subject: row.text()?,
        details: row.text()?,
        prev_hash: row.text()?,
        hash: row.text()?,
    })
}

/// Rows of one chain. Of several conditions the narrowest is looked up, the others filter.
pub(crate) fn audit_list(conn: &mut Conn, chain: &Scope, filter: &AuditFilter) -> StoreResult<Vec<AuditRow>> {
    let mut text =
        "SELECT a.tenant, a.project, a.seq, a.at, a.actor, a.end_user, a.act, a.subject, a.details,
        a.prev_hash, a.hash FROM audit a WHERE "
            .to_owned();
    let wanted = [
        ("subject", filter.subject.as_deref()),
        ("actor", filter.actor.as_deref()),
        ("act", filter.act.map(AuditAct::as_str)),
    ];
    let mut wanted = wanted.into_iter().filter_map(|(column, value)| Some((column, value?)));
    let narrowest = wanted.next().map(|(column, value)| {
        let place = format!("{}/{}/{value}", chain.tenant, chain.project);
        (format!("a.tenant || '/' || a.project || '/' || a.{column} = ?"), place)
    });
    let mut values: Vec<Bind<'_>> = match &narrowest {
        Some((condition, place)) => {
            text.push_str(condition);
            vec![place.into()]
        }
        None => {
            text.push_str("a.tenant = ? AND a.project = ?");
            binds![&*chain.tenant, &*chain.project].to_vec()
        }
    };
    for (column, value) in wanted {
        text.push_str(&format!(" AND a.{column} = ?"));
        values.push(value.into());
    }
    for (than, seq) in [(">", filter.after), ("<", filter.before)] {
        if let Some(seq) = seq {
            text.push_str(&format!(" AND a.seq {than} ?"));
            values.push(seq.into());
        }
    }
    text.push_str(if filter.oldest_first {
        " ORDER BY a.seq LIMIT ?"
    } else {
        " ORDER BY a.seq DESC LIMIT ?"
    });
    values.push((filter.limit as i64).into());
    conn.rows(&text, &values)?.into_iter().map(read_row).collect()
}

/// Where chains end: one, or all by name, the installation's first.
pub(crate) fn audit_heads(conn: &mut Conn, chain: Option<&Scope>) -> StoreResult<Vec<AuditHead>> {
    let text = "SELECT tenant, project, seq, hash FROM audit_heads";
    let rows = match chain {
        Some(chain) => conn.rows(
            &format!("{text} WHERE tenant = ? AND project = ?"),
            &binds![&*chain.tenant, &*chain.project],
        )?,
        None => conn.rows(&format!("{text} ORDER BY tenant, project"), &[])?,
    };
    let read = |mut row: Row| Ok(AuditHead { chain: row.scope()?, seq: row.big()?, hash: row.text()? });
    rows.into_iter().map(read).collect()
}

/// Chains that have rows, but no head: somebody wrote them by hand.
pub(crate) fn audit_headless(conn: &mut Conn) -> StoreResult<Vec<Scope>> {
    let rows = conn.rows(
        "SELECT DISTINCT a.tenant, a.project FROM audit a WHERE NOT EXISTS
           (SELECT 1 FROM audit_heads h WHERE h.tenant = a.tenant AND h.project = a.project)",
        &[],
    )?;
    rows.into_iter().map(|mut row| row.scope()).collect()
}

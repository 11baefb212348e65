//! The verbs for the audit. Its rows are written by the transactions of the acts that they
//! tell of; here they are read.

use holdpoint_engine::audit::{AuditHead, AuditRow, Broken, Verifier};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::AuditAct;

use crate::audit;
use crate::sql_store::SqlStore;
use crate::store::StoreResult;

/// What a list of the audit is asked for. All conditions hold together.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// Only this act.
    pub act: Option<AuditAct>,
    /// Only by this actor.
    pub actor: Option<String>,
    /// Only about this subject.
    pub subject: Option<String>,
    /// Rows after this number.
    pub after: Option<i64>,
    /// Rows before this number.
    pub before: Option<i64>,
    /// From the first row on; else newest first.
    pub oldest_first: bool,
    /// At most so many.
    pub limit: usize,
}

/// A part of [`Store`](crate::Store): whole transactions.
pub trait AuditStore: Send + Sync + 'static {
    /// Rows of one chain; [`installation`](holdpoint_engine::audit::installation) names that of
    /// no tenant.
    fn audit_list(&self, chain: &Scope, filter: &AuditFilter) -> StoreResult<Vec<AuditRow>>;
    /// Where chains end: one (none, if it has no row), or all.
    fn audit_heads(&self, chain: Option<&Scope>) -> StoreResult<Vec<AuditHead>>;
    /// Chains that have rows but no head.
    fn audit_headless(&self) -> StoreResult<Vec<Scope>>;
}

impl AuditStore for SqlStore {
    fn audit_list(&self, chain: &Scope, filter: &AuditFilter) -> StoreResult<Vec<AuditRow>> {
        self.read.with(|conn| audit::audit_list(conn, chain, filter))
    }

    fn audit_heads(&self, chain: Option<&Scope>) -> StoreResult<Vec<AuditHead>> {
        self.read.with(|conn| audit::audit_heads(conn, chain))
    }

    fn audit_headless(&self) -> StoreResult<Vec<Scope>> {
        self.read.with(audit::audit_headless)
    }
}

/// Rows of a page, while a chain is followed.
const PAGE: usize = 1_000;

/// Follows a chain from its first row to its head. `known` is a hash that somebody noted
/// before: it must be in the chain. What is appended meanwhile is followed too.
pub fn verify_chain(
    store: &dyn crate::Store,
    chain: &Scope,
    known: Option<String>,
) -> StoreResult<Result<AuditHead, Broken>> {
    let mut verifier = Verifier::new(chain.clone(), known);
    loop {
        let after = Some(verifier.seq());
        let filter = AuditFilter { after, oldest_first: true, limit: PAGE, ..AuditFilter::default() };
        let rows = store.audit_list(chain, &filter)?;
        let none = || AuditHead { chain: chain.clone(), seq: 0, hash: String::new() };
        let head = store.audit_heads(Some(chain))?.pop().unwrap_or_else(none);
        match verifier.page(&rows, Some(&head)) {
            Ok(false) => {}
            Ok(true) => return Ok(verifier.end(Some(&head))),
            Err(broken) => return Ok(Err(broken)),
        }
    }
}

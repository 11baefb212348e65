//! The audit, as far as routes ask the store for it: nothing was done yet.

use holdpoint_db::{AuditFilter, AuditStore, StoreResult};
use holdpoint_engine::audit::{AuditHead, AuditRow};
use holdpoint_engine::scope::Scope;

use crate::rows::Rows;

impl AuditStore for Rows {
    fn audit_list(&self, _: &Scope, _: &AuditFilter) -> StoreResult<Vec<AuditRow>> {
        self.here().map(|_| Vec::new())
    }

    fn audit_heads(&self, _: Option<&Scope>) -> StoreResult<Vec<AuditHead>> {
        self.here().map(|_| Vec::new())
    }

    fn audit_headless(&self) -> StoreResult<Vec<Scope>> {
        self.here().map(|_| Vec::new())
    }
}

//! Standing grants, as far as routes ask the store for them: there are none.

use holdpoint_db::{GrantFilter, GrantRow, GrantStore, GrantWanted, NewGrant, StoreResult};
use holdpoint_engine::ids::GrantId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;

use crate::rows::{Rows, not_here};

impl GrantStore for Rows {
    fn grant_create(&self, _: &Scope, _: &NewGrant) -> StoreResult<GrantRow> {
        not_here()
    }

    fn grant_get(&self, _: &Scope, _: GrantId) -> StoreResult<Option<GrantRow>> {
        self.here().map(|_| None)
    }

    fn grant_list(&self, _: &Scope, _: &GrantFilter) -> StoreResult<Vec<GrantRow>> {
        self.here().map(|_| Vec::new())
    }

    fn grant_revoke(&self, _: &Scope, _: GrantId, _: &str, _: Option<&str>) -> StoreResult<Option<GrantRow>> {
        self.here().map(|_| None)
    }

    fn grants_for(&self, _: &ExecutionKey, _: &GrantWanted) -> StoreResult<Vec<GrantRow>> {
        self.here().map(|_| Vec::new())
    }
}

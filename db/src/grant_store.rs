//! The verbs for standing grants.

use holdpoint_engine::ids::GrantId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::wire::ExecutionKey;

use crate::grant_types::*;
use crate::grants;
use crate::sql_store::SqlStore;
use crate::store::StoreResult;

/// A part of [`Store`](crate::Store): whole transactions. A grant is used by the transaction
/// that asks ([`Transition::grants`](crate::Transition)).
pub trait GrantStore: Send + Sync + 'static {
    /// Makes a grant.
    fn grant_create(&self, scope: &Scope, new: &NewGrant) -> StoreResult<GrantRow>;
    /// One grant.
    fn grant_get(&self, scope: &Scope, id: GrantId) -> StoreResult<Option<GrantRow>>;
    /// Newest first.
    fn grant_list(&self, scope: &Scope, filter: &GrantFilter) -> StoreResult<Vec<GrantRow>>;
    /// Takes a grant back: it answers nothing from the commit on. One that was taken back before
    /// stays as it is. `None` where there is none, or it is another end user's.
    fn grant_revoke(
        &self,
        scope: &Scope,
        id: GrantId,
        by: &str,
        end_user: Option<&str>,
    ) -> StoreResult<Option<GrantRow>>;
    /// The grants in force for a call of this execution: at most [`MAX_OFFERED`], those that end
    /// first.
    fn grants_for(&self, key: &ExecutionKey, wanted: &GrantWanted) -> StoreResult<Vec<GrantRow>>;
}

impl GrantStore for SqlStore {
    fn grant_create(&self, scope: &Scope, new: &NewGrant) -> StoreResult<GrantRow> {
        self.hot.write(|conn| grants::grant_create_in_txn(conn, scope, new))
    }

    fn grant_get(&self, scope: &Scope, id: GrantId) -> StoreResult<Option<GrantRow>> {
        self.read.with(|conn| grants::grant_get(conn, scope, id))
    }

    fn grant_list(&self, scope: &Scope, filter: &GrantFilter) -> StoreResult<Vec<GrantRow>> {
        self.read.with(|conn| grants::grant_list(conn, scope, filter))
    }

    fn grant_revoke(
        &self,
        scope: &Scope,
        id: GrantId,
        by: &str,
        end_user: Option<&str>,
    ) -> StoreResult<Option<GrantRow>> {
        self.hot.write(|conn| grants::grant_revoke_in_txn(conn, scope, id, by, end_user))
    }

    fn grants_for(&self, key: &ExecutionKey, wanted: &GrantWanted) -> StoreResult<Vec<GrantRow>> {
        self.hot.with(|conn| grants::grants_for(conn, key, wanted))
    }
}

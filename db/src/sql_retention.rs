//! The verbs for retention, on either database; see `sql_store.rs`.

use std::time::Duration;

use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::retention_store::RetentionStore;
use crate::retention_types::*;
use crate::sql_store::SqlStore;
use crate::store::StoreResult;
use crate::{families, retention, retention_remove, retention_said, sweeps};

impl RetentionStore for SqlStore {
    fn retention_get(&self, scope: &Scope) -> StoreResult<RetentionRow> {
        self.read.with(|conn| retention::retention_get(conn, scope))
    }

    fn retention_put(
        &self,
        scope: &Scope,
        settings: RetentionSettings,
        by: &str,
    ) -> StoreResult<RetentionRow> {
        self.hot.write(|conn| retention::retention_put_in_txn(conn, scope, settings, by))
    }

    fn export_note(
        &self,
        scope: &Scope,
        after: Option<Timestamp>,
        before: Timestamp,
        by: &str,
    ) -> StoreResult<Exported> {
        self.hot.write(|conn| retention::export_note_in_txn(conn, scope, after, before, by))
    }

    fn export_walk(&self, scope: &Scope, walk: &ExportWalk) -> StoreResult<ExportPage> {
        self.read.with(|conn| retention::export_walk(conn, scope, walk))
    }

    fn retention_turn(&self, default: Option<Duration>, limit: usize) -> StoreResult<Turn> {
        self.hot.write(|conn| retention::retention_turn_in_txn(conn, default, limit))
    }

    fn retention_due(&self, scope: &Scope, default: Option<Duration>) -> StoreResult<Option<DueScope>> {
        self.read.with(|conn| retention::due(conn, scope, default))
    }

    fn retention_walk(&self, due: &DueScope, limit: usize) -> StoreResult<Walked> {
        self.read.with(|conn| retention::retention_walk(conn, due, limit))
    }

    fn retention_place(&self, scope: &Scope, place: Option<Place>) -> StoreResult<()> {
        self.hot.write(|conn| retention::retention_place(conn, scope, place))
    }

    fn retention_families(&self, keys: &[ExecutionKey], before: Timestamp) -> StoreResult<Vec<Family>> {
        self.read.with(|conn| families::removable(conn, keys, before))
    }

    fn retention_remove(&self, families: &[Family], before: Timestamp) -> StoreResult<usize> {
        self.hot.write(|conn| retention_remove::retention_remove_in_txn(conn, families, before))
    }

    fn said_count(&self, due: &DueScope, limit: usize) -> StoreResult<usize> {
        self.read.with(|conn| retention_said::said_count(conn, due, limit))
    }

    fn said_remove(&self, due: &DueScope, limit: usize) -> StoreResult<(usize, usize)> {
        self.hot.write(|conn| retention_said::said_remove_in_txn(conn, due, limit))
    }

    fn sweeps_expire(&self, kept: Duration, limit: usize) -> StoreResult<usize> {
        self.hot.write(|conn| sweeps::sweeps_expire(conn, kept, limit))
    }
}

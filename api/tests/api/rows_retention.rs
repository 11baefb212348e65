//! Retention, as far as routes ask the store for it here: nothing was said, and nothing goes.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::rows::{Rows, not_here};

impl RetentionStore for Rows {
    fn retention_get(&self, _: &Scope) -> StoreResult<RetentionRow> {
        self.here().map(|_| RetentionRow::default())
    }

    fn retention_put(&self, _: &Scope, _: RetentionSettings, _: &str) -> StoreResult<RetentionRow> {
        not_here()
    }

    fn export_note(&self, _: &Scope, _: Option<Timestamp>, _: Timestamp, _: &str) -> StoreResult<Exported> {
        not_here()
    }

    fn export_walk(&self, _: &Scope, _: &ExportWalk) -> StoreResult<ExportPage> {
        self.here().map(|_| ExportPage { finished: Vec::new(), next: None })
    }

    fn retention_turn(&self, _: Option<Duration>, _: usize) -> StoreResult<Turn> {
        self.here().map(|_| Turn { due: Vec::new(), is_last: true })
    }

    fn retention_due(&self, _: &Scope, _: Option<Duration>) -> StoreResult<Option<DueScope>> {
        self.here().map(|_| None)
    }

    fn retention_walk(&self, _: &DueScope, _: usize) -> StoreResult<Walked> {
        self.here().map(|_| Walked { finished: Vec::new(), next: None })
    }

    fn retention_place(&self, _: &Scope, _: Option<Place>) -> StoreResult<()> {
        self.here().map(drop)
    }

    fn retention_families(&self, _: &[ExecutionKey], _: Timestamp) -> StoreResult<Vec<Family>> {
        self.here().map(|_| Vec::new())
    }

    fn retention_remove(&self, _: &[Family], _: Timestamp) -> StoreResult<usize> {
        self.here().map(|_| 0)
    }

    fn said_count(&self, _: &DueScope, _: usize) -> StoreResult<usize> {
        self.here().map(|_| 0)
    }

    fn said_remove(&self, _: &DueScope, _: usize) -> StoreResult<(usize, usize)> {
        self.here().map(|_| (0, 0))
    }

    fn sweeps_expire(&self, _: Duration, _: usize) -> StoreResult<usize> {
        self.here().map(|_| 0)
    }
}

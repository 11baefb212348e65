//! Files and test runs, as far as routes ask the store for them here: there are none.

use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::ids::FileId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::rows::{Rows, not_here};

impl TrialStore for Rows {
    fn file_put(&self, _: &NewFile) -> StoreResult<Timestamp> {
        not_here()
    }

    fn file_get(&self, _: &Scope, _: FileId) -> StoreResult<Option<FileRow>> {
        self.here().map(|_| None)
    }

    fn file_content(&self, _: &Scope, _: FileId) -> StoreResult<Option<Vec<u8>>> {
        self.here().map(|_| None)
    }

    fn file_delete(&self, _: &Scope, _: FileId) -> StoreResult<FileRemoved> {
        self.here().map(|_| FileRemoved::NotFound)
    }

    fn files_unused(&self, _: Duration, _: usize) -> StoreResult<Vec<FileKey>> {
        self.here().map(|_| Vec::new())
    }

    fn file_sweep(&self, _: &FileKey) -> StoreResult<bool> {
        self.here().map(|_| false)
    }

    fn test_runs_late(&self, _: usize) -> StoreResult<Vec<ExecutionKey>> {
        self.here().map(|_| Vec::new())
    }

    fn test_run_expire(&self, _: &ExecutionKey) -> StoreResult<Swept> {
        self.here().map(|_| Swept::Skipped)
    }
}

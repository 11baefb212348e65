//! The verbs for files and test runs, on either database; see `sql_store.rs`.

use std::time::Duration;

use holdpoint_engine::ids::FileId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::sql_store::SqlStore;
use crate::store::StoreResult;
use crate::trial_store::TrialStore;
use crate::trial_types::*;
use crate::types::Swept;
use crate::{files, test_runs};

impl TrialStore for SqlStore {
    fn file_put(&self, file: &NewFile) -> StoreResult<Timestamp> {
        self.hot.write(|conn| files::file_put(conn, file))
    }

    fn file_get(&self, scope: &Scope, id: FileId) -> StoreResult<Option<FileRow>> {
        self.read.with(|conn| files::file_get(conn, scope, id))
    }

    fn file_content(&self, scope: &Scope, id: FileId) -> StoreResult<Option<Vec<u8>>> {
        self.read.with(|conn| files::file_content(conn, scope, id))
    }

    fn file_delete(&self, scope: &Scope, id: FileId) -> StoreResult<FileRemoved> {
        self.hot.write(|conn| files::file_delete_in_txn(conn, scope, id))
    }

    fn files_unused(&self, older_than: Duration, limit: usize) -> StoreResult<Vec<FileKey>> {
        self.read.with(|conn| files::files_unused(conn, older_than, limit))
    }

    fn file_sweep(&self, key: &FileKey) -> StoreResult<bool> {
        self.hot.write(|conn| files::remove_unused(conn, &key.scope, key.id))
    }

    fn test_runs_late(&self, limit: usize) -> StoreResult<Vec<ExecutionKey>> {
        self.read.with(|conn| test_runs::test_runs_late(conn, limit))
    }

    fn test_run_expire(&self, key: &ExecutionKey) -> StoreResult<Swept> {
        let expired = self.hot.write(|conn| test_runs::test_run_expire_in_txn(conn, key));
        if expired.as_ref().is_err_and(|error| !error.is_retryable()) {
            // A run that cannot be ended keeps nobody else from trying the workflow.
            self.hot.write(|conn| test_runs::end(conn, std::slice::from_ref(key)))?;
        }
        expired
    }
}

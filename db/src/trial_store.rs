//! The verbs for files and test runs.

use std::time::Duration;

use holdpoint_engine::ids::FileId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::store::StoreResult;
use crate::trial_types::*;
use crate::types::Swept;

/// A part of [`Store`](crate::Store): whole transactions. A test run is begun, and files are
/// referred to, by [`execution_create`](crate::Store::execution_create).
pub trait TrialStore: Send + Sync + 'static {
    /// Keeps a file; when, by the database.
    fn file_put(&self, file: &NewFile) -> StoreResult<Timestamp>;
    /// A file without its content.
    fn file_get(&self, scope: &Scope, id: FileId) -> StoreResult<Option<FileRow>>;
    /// Its bytes.
    fn file_content(&self, scope: &Scope, id: FileId) -> StoreResult<Option<Vec<u8>>>;
    /// Removes a file that no execution was started with.
    fn file_delete(&self, scope: &Scope, id: FileId) -> StoreResult<FileRemoved>;
    /// Files older than this that no execution was started with; the oldest first, at most `limit`.
    fn files_unused(&self, older_than: Duration, limit: usize) -> StoreResult<Vec<FileKey>>;
    /// Removes a file unless somebody referred to it meanwhile; whether it went.
    fn file_sweep(&self, key: &FileKey) -> StoreResult<bool>;
    /// Test runs whose [`TEST_RUN_TIME`] is over and that are not; the oldest first, at most `limit`.
    fn test_runs_late(&self, limit: usize) -> StoreResult<Vec<ExecutionKey>>;
    /// Fails a late test run as `deadline` and frees its workflow's place. One that a worker
    /// holds ends by its hand. The place is free even where this answers an error that is not
    /// [retryable](crate::StoreError::is_retryable).
    fn test_run_expire(&self, key: &ExecutionKey) -> StoreResult<Swept>;
}

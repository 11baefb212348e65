//! Types of files and test runs.

use std::time::Duration;

use holdpoint_engine::ids::FileId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;

/// How long a test run may have its workflow's place.
pub const TEST_RUN_TIME: Duration = Duration::from_secs(10 * 60);

/// A file in its tenant's project.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileKey {
    /// Whose it is.
    pub scope: Scope,
    /// Its id.
    pub id: FileId,
}

/// What an upload brings.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Its row's key.
    pub key: FileKey,
    /// What the caller calls it.
    pub name: Option<String>,
    /// A media type, as the caller said it.
    pub content_type: String,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
    /// The bytes.
    pub content: Vec<u8>,
    /// The key that uploaded it.
    pub created_by: String,
}

/// A file without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRow {
    /// Its row's key.
    pub key: FileKey,
    /// What the caller calls it.
    pub name: Option<String>,
    /// A media type, as the caller said it.
    pub content_type: String,
    /// How long it is.
    pub bytes: i64,
    /// SHA-256 of the content, in hex.
    pub sha256: String,
    /// Whether an execution was started with it: then it stays.
    pub referred: bool,
    /// The key that uploaded it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// What became of a removal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRemoved {
    /// It is gone.
    Removed,
    /// An execution was started with it.
    Referred,
    /// There is none.
    NotFound,
}

//! SQLite: one folder, one process. The lock file is held exclusively for the life of the
//! process; whoever holds it knows that all older sessions are dead, and ends them.
//!
//! There is one connection that writes, so that no two writers ever wait for each other
//! inside SQLite, and some that read.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use diesel::{Connection, ConnectionError};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::Settings;
use crate::conn::{Conn, Link};
use crate::pool::Pool;
use crate::store::StoreResult;
use crate::types::StoreError;

pub(crate) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

#[diesel::declare_sql_function]
extern "SQL" {
    /// The process's clock, in microseconds since 1970.
    fn hp_now() -> diesel::sql_types::BigInt;
}

/// A folder that is ours.
pub(crate) struct Folder {
    file: PathBuf,
    _lock: File,
}

impl Folder {
    /// Locks the folder of a URL `sqlite:DIR` (made if it is not there).
    pub(crate) fn lock(url: &str) -> StoreResult<Self> {
        let folder = Path::new(url.strip_prefix("sqlite:").unwrap_or(url));
        let lock = lock_file(folder)?;
        Ok(Self { file: folder.join("holdpoint.db"), _lock: lock })
    }

    fn connect(file: &Path, set_up: &str) -> Result<SqliteConnection, ConnectionError> {
        let path = file
            .to_str()
            .ok_or_else(|| ConnectionError::BadConnection("the path is not UTF-8".to_owned()))?;
        let mut conn = SqliteConnection::establish(path)?;
        conn.batch_execute(&format!("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = OFF; {set_up}"))
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        hp_now_utils::register_nondeterministic_impl(&conn, now)
            .map_err(ConnectionError::CouldntSetupConfiguration)?;
        Ok(conn)
    }

    fn writer(&self) -> StoreResult<SqliteConnection> {
        Self::connect(&self.file, WRITER).map_err(unavailable)
    }

    /// The one writer, and the readers.
    pub(crate) fn pools(&self, settings: &Settings) -> (Pool, Pool) {
        let wait = Duration::from_millis(settings.connect_timeout_ms);
        let pool = |size: u32, set_up: &'static str| {
            let file = self.file.clone();
            Pool::new(size, wait, Box::new(move || Self::connect(&file, set_up).map(Link::Sqlite)))
        };
        (pool(1, WRITER), pool(settings.read_connections, "PRAGMA query_only = ON;"))
    }

    /// Runs what is missing; the names of what ran.
    pub(crate) fn migrate(&self) -> StoreResult<Vec<String>> {
        let mut conn = self.writer()?;
        let ran = conn
            .run_pending_migrations(MIGRATIONS)
            .map_err(|error| StoreError::Refused(error.to_string()))?;
        Ok(ran.iter().map(ToString::to_string).collect())
    }

    /// The names of what is missing.
    pub(crate) fn migrations_pending(&self) -> StoreResult<Vec<String>> {
        pending_of(&mut self.writer()?)
    }

    /// Ends all sessions: their process is gone, or we would not hold the lock. Their
    /// executions are ready, and each has lost a lease.
    pub(crate) fn end_older_sessions(&self) -> StoreResult<()> {
        let mut conn = Conn::new(Link::Sqlite(self.writer()?), 0);
        conn.transaction(|conn| {
            conn.batch(
                "UPDATE executions SET owner = NULL, ready_at = hp_now(), lost = lost + 1 WHERE owner IS NOT NULL;
                 DELETE FROM sessions;",
            )
        })
    }
}

/// The names of what is missing in this file.
pub(crate) fn pending_of(conn: &mut SqliteConnection) -> StoreResult<Vec<String>> {
    let pending =
        conn.pending_migrations(MIGRATIONS).map_err(|error| StoreError::Refused(error.to_string()))?;
    Ok(pending.iter().map(|migration| migration.name().to_string()).collect())
}

/// A connection to the file beside whoever has the folder.
pub(crate) fn connect_reader(file: &Path) -> StoreResult<SqliteConnection> {
    Folder::connect(file, "").map_err(unavailable)
}

/// A commit is on the disk when it returns.
const WRITER: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn lock_file(folder: &Path) -> StoreResult<File> {
    let shown = folder.display();
    std::fs::create_dir_all(folder)
        .map_err(|error| StoreError::Refused(format!("the folder {shown}: {error}")))?;
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))
        .map_err(|error| StoreError::Refused(format!("the lock file in {shown}: {error}")))?;
    fs4::FileExt::try_lock(&file).map_err(|error| match error {
        fs4::TryLockError::WouldBlock => {
            StoreError::Refused(format!("the folder {shown} is in use by another process"))
        }
        fs4::TryLockError::Error(error) => StoreError::Refused(format!("the lock file in {shown}: {error}")),
    })?;
    Ok(file)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

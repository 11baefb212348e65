//! What a look at a database from outside shows: nothing of it is changed, no folder is
//! locked, and no pool is opened.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use diesel::Connection;
use diesel::sqlite::SqliteConnection;
use diesel_migrations::MigrationHarness;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;

use crate::conn::{Conn, Link};
use crate::standing_types::{Tick, WorkerSession};
use crate::store::StoreResult;
use crate::types::StoreError;
use crate::{Settings, execution_around, postgres, sqlite};

/// What was seen.
#[derive(Debug)]
pub struct Examination {
    /// Postgres' or SQLite's version.
    pub version: String,
    /// The database's time. SQLite has none but ours.
    pub now: Timestamp,
    /// The names of migrations that are still to run.
    pub pending: Vec<String>,
    /// The names of indexes that this version's migrations make and that are not there.
    pub missing_indexes: Vec<String>,
    /// The names of indexes that are there and are not used, because making them broke off.
    pub invalid_indexes: Vec<String>,
    /// Of a server's connections.
    pub connections: Option<Connections>,
    /// The definitions in use of every tenant; none while migrations are to run.
    pub definitions: Vec<DefinitionDocument>,
    /// The workers' sessions, those that live longest first; none while migrations are to run.
    pub workers: Vec<WorkerSession>,
    /// When each sweep is due; none while migrations are to run.
    pub ticks: Vec<Tick>,
}

/// The latest version of a definition.
#[derive(Debug, Clone)]
pub struct DefinitionDocument {
    /// Whose it is.
    pub tenant: String,
    /// What it is.
    pub kind: DefinitionKind,
    /// Its name.
    pub name: String,
    /// JSON, or as a workflow's author wrote it.
    pub document: String,
}

/// A server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connections {
    /// That it gives to such as us.
    pub most: i64,
    /// In use, by whomever.
    pub used: i64,
}

/// Looks at the database of these settings. An embedded one must be there.
pub fn examine(settings: &Settings) -> StoreResult<Examination> {
    match settings.url.strip_prefix("sqlite:") {
        Some(folder) => examine_sqlite(Path::new(folder)),
        None => examine_postgres(settings),
    }
}

const POSTGRES: &str = "
    SELECT current_setting('server_version')::text,
      (extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
      current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint,
      (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::bigint";

const POSTGRES_INDEXES: &str = "
    SELECT c.relname::text, i.indisvalid FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = current_schema()";

fn examine_postgres(settings: &Settings) -> StoreResult<Examination> {
    let mut conn = Conn::new(Link::Pg(postgres::connect_once(settings)?), 0);
    let mut head = one(&mut conn, POSTGRES)?;
    let (version, now) = (format!("PostgreSQL {}", head.text()?), head.time()?);
    let connections = Connections { most: head.big()?, used: head.big()? };
    let mut indexes = BTreeMap::new();
    for mut row in conn.rows(POSTGRES_INDEXES, &[])? {
        indexes.insert(row.text()?, row.bool()?);
    }
    let pending = postgres::migrations_pending(settings)?;
    let seen = Examination::new(version, now, pending, indexes)?.with_rows(&mut conn)?;
    Ok(Examination { connections: Some(connections), ..seen })
}

const SQLITE_INDEXES: &str = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL";

fn examine_sqlite(folder: &Path) -> StoreResult<Examination> {
    let file = folder.join("holdpoint.db");
    if !file.is_file() {
        return Err(StoreError::Refused(format!("there is no database in {}", folder.display())));
    }
    let mut link = sqlite::connect_reader(&file)?;
    let pending = sqlite::pending_of(&mut link)?;
    let mut conn = Conn::new(Link::Sqlite(link), 0);
    let mut head = one(&mut conn, "SELECT sqlite_version(), hp_now()")?;
    let (version, now) = (format!("SQLite {}", head.text()?), head.time()?);
    let indexes = sqlite_indexes(&mut conn)?.into_iter().map(|name| (name, true)).collect();
    Examination::new(version, now, pending, indexes)?.with_rows(&mut conn)
}

const DEFINITIONS: &str = "
    SELECT h.tenant, h.kind, h.name, d.document FROM definition_heads h
    JOIN definitions d ON d.tenant = h.tenant AND d.project = h.project AND d.kind = h.kind AND d.name = h.name
      AND d.version = h.version
    WHERE h.deleted_at IS NULL ORDER BY h.tenant, h.kind, h.name";

fn one(conn: &mut Conn, text: &str) -> StoreResult<crate::row::Row> {
    conn.row(text, &[])?.ok_or_else(|| StoreError::Corrupt("no answer".to_owned()))
}

fn sqlite_indexes(conn: &mut Conn) -> StoreResult<BTreeSet<String>> {
    conn.rows(SQLITE_INDEXES, &[])?.into_iter().map(|mut row| row.text()).collect()
}

/// The indexes that this version's migrations make: both databases have the same by name, so
/// an empty one in memory knows them.
fn expected() -> StoreResult<BTreeSet<String>> {
    let refused = |error: String| StoreError::Refused(error);
    let mut link = SqliteConnection::establish(":memory:").map_err(|error| refused(error.to_string()))?;
    link.run_pending_migrations(sqlite::MIGRATIONS).map_err(|error| refused(error.to_string()))?;
    sqlite_indexes(&mut Conn::new(Link::Sqlite(link), 0))
}

impl Examination {
    fn new(
        version: String,
        now: Timestamp,
        pending: Vec<String>,
        indexes: BTreeMap<String, bool>,
    ) -> StoreResult<Self> {
        // What has not run yet has not made its indexes either.
        let expected = if pending.is_empty() { expected()? } else { BTreeSet::new() };
        let missing_indexes = expected.iter().filter(|name| !indexes.contains_key(*name)).cloned().collect();
        let is_invalid = |name: &&String| indexes.get(*name) == Some(&false);
        let invalid_indexes = expected.iter().filter(is_invalid).cloned().collect();
        Ok(Self {
            version,
            now,
            pending,
            missing_indexes,
            invalid_indexes,
            connections: None,
            definitions: Vec::new(),
            workers: Vec::new(),
            ticks: Vec::new(),
        })
    }

    fn with_rows(mut self, conn: &mut Conn) -> StoreResult<Self> {
        if !self.pending.is_empty() {
            return Ok(self);
        }
        for mut row in conn.rows(DEFINITIONS, &[])? {
            let (tenant, kind, name, document) = (row.text()?, row.word()?, row.text()?, row.text()?);
            self.definitions.push(DefinitionDocument { tenant, kind, name, document });
        }
        self.workers = execution_around::workers(conn)?;
        self.ticks = execution_around::ticks(conn)?;
        Ok(self)
    }
}

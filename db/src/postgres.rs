//! Postgres: opening connections, and migrations that several processes may start at once.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::{Connection, ConnectionError};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::Settings;
use crate::conn::Link;
use crate::pool::Pool;
use crate::store::StoreResult;
use crate::types::StoreError;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Held while migrations run; the number is ours in the whole database.
const MIGRATION_LOCK: i64 = 0x686f_6c64_0001;
/// Held while a suspect is handed out.
pub(crate) const SUSPECT_LOCK: i64 = 0x686f_6c64_0002;

/// Plans made on empty tables must still be good on full ones: statements name their rows by
/// full keys or go along an index of the project's, and nothing but an index leads there.
/// Streams read by the same keys as workers, so that both pools plan alike. Compiling a plan would
/// take longer than carrying it out, and what has to walk a small table seems dear enough for it.
const PLANS: &str = "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
    SET enable_bitmapscan = off; SET jit = off;";

/// The pools for the hot path and for reading.
pub(crate) fn pools(settings: &Settings) -> (Pool, Pool) {
    let wait = Duration::from_millis(settings.connect_timeout_ms);
    let pool = |size: u32| {
        let url = url_with_timeouts(settings);
        let set_up = format!(
            "SET statement_timeout = {}; SET idle_in_transaction_session_timeout = {}; {PLANS}",
            settings.statement_timeout_ms, settings.idle_in_transaction_timeout_ms
        );
        Pool::new(size, wait, Box::new(move || connect(&url, &set_up).map(Link::Pg)))
    };
    (pool(settings.hot_connections), pool(settings.read_connections))
}

fn connect(url: &str, set_up: &str) -> Result<PgConnection, ConnectionError> {
    let mut conn = PgConnection::establish(url)?;
    conn.batch_execute(set_up).map_err(ConnectionError::CouldntSetupConfiguration)?;
    Ok(conn)
}

/// A peer that does not answer must not hold a thread for ever: libpq's own deadlines,
/// unless the URL names others.
fn url_with_timeouts(settings: &Settings) -> String {
    let seconds = settings.connect_timeout_ms.div_ceil(1000).max(2);
    let idle_after_send = settings.statement_timeout_ms + 5_000;
    let mut url = settings.url.clone();
    for (name, value) in [
        ("connect_timeout", seconds),
        ("keepalives_idle", 5),
        ("keepalives_interval", 2),
        ("keepalives_count", 3),
        ("tcp_user_timeout", idle_after_send),
    ] {
        if !url.contains(&format!("{name}=")) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(&format!("{name}={value}"));
        }
    }
    url
}

fn unavailable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

fn refused(error: impl std::fmt::Display) -> StoreError {
    StoreError::Refused(error.to_string())
}

/// One connection outside of any pool.
pub(crate) fn connect_once(settings: &Settings) -> StoreResult<PgConnection> {
    let set_up = format!("SET statement_timeout = {}", settings.statement_timeout_ms);
    connect(&url_with_timeouts(settings), &set_up).map_err(unavailable)
}

/// Runs what is missing, one process at a time; the names of what ran.
pub(crate) fn migrate(settings: &Settings) -> StoreResult<Vec<String>> {
    let mut conn = connect(&url_with_timeouts(settings), "SET statement_timeout = 0").map_err(unavailable)?;
    // The lock ends with the connection at the latest.
    conn.batch_execute(&format!("SELECT pg_advisory_lock({MIGRATION_LOCK})")).map_err(unavailable)?;
    let ran = conn.run_pending_migrations(MIGRATIONS).map_err(refused)?;
    Ok(ran.iter().map(ToString::to_string).collect())
}

/// The names of what is missing.
pub(crate) fn migrations_pending(settings: &Settings) -> StoreResult<Vec<String>> {
    let mut conn = connect(&url_with_timeouts(settings), "SET statement_timeout = 0").map_err(unavailable)?;
    let pending = conn.pending_migrations(MIGRATIONS).map_err(refused)?;
    Ok(pending.iter().map(|migration| migration.name().to_string()).collect())
}

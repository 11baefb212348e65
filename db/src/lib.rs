//! All SQL of Holdpoint: the store, on Postgres and on SQLite, and its async wrapper.
//!
//! Each verb of [`Store`] has its statements in the file of its name. A statement is one
//! text for both databases (`sql.rs`), runs on a connection of either (`conn.rs`), and its
//! rows are read column by column into domain types (`row.rs`); no Diesel type leaves the
//! crate. Every change of an execution locks its row first, or is one guarded statement.

pub mod act_types;
mod approval_decide;
mod approval_page;
pub mod approval_types;
mod approvals;
mod audit;
pub mod audit_store;
mod child_repeat;
mod children;
mod coalesced_starts;
mod commands;
mod commit_approvals;
mod conn;
mod conversations;
pub mod db;
mod definitions;
pub mod event_store;
pub mod event_types;
mod examine;
mod execution_act;
mod execution_around;
mod execution_claim;
mod execution_commit;
mod execution_create;
mod execution_standing;
mod executions;
#[cfg(test)]
mod explained;
mod extras;
pub mod failpoint;
mod fair_queue;
mod families;
mod files;
pub mod grant_store;
pub mod grant_types;
mod grants;
mod grants_use;
mod journal;
mod keys;
mod lanes;
mod lease_reclaim;
pub mod lease_types;
mod limit_rooms;
mod limit_standing;
pub mod limit_store;
pub mod limit_types;
mod limit_uses;
mod limits;
mod messages;
mod metrics;
mod outcomes;
mod outgoing;
mod outside;
mod parked;
mod past_calls;
mod pin;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod plans_of_a_history;
#[cfg(test)]
mod plans_of_workflows;
pub mod policy_store;
mod pool;
mod postgres;
pub mod read_types;
mod retention;
mod retention_remove;
mod retention_said;
pub mod retention_store;
pub mod retention_types;
mod row;
mod run_retry;
pub mod schedule_store;
mod schedule_tick;
pub mod schedule_types;
mod schedules;
mod session;
mod sql;
mod sql_events;
mod sql_limits;
mod sql_retention;
mod sql_schedules;
mod sql_standing;
mod sql_store;
mod sql_trials;
mod sql_workflows;
mod sqlite;
mod stale_expire;
pub mod standing_store;
pub mod standing_types;
pub mod start_types;
mod stats;
pub mod store;
pub mod sweep_types;
mod sweeps;
mod test_runs;
mod tool_calls;
pub mod trial_store;
pub mod trial_types;
mod turns;
pub mod types;
mod votes;
mod webhook_deliveries;
pub mod webhook_types;
mod webhooks;
mod workflow_end;
mod workflow_runs;
mod workflow_states;
pub mod workflow_store;
pub mod workflow_types;

pub use audit_store::{AuditFilter, AuditStore, verify_chain};
pub use db::{Db, Hooks};
pub use event_store::{EventStore, SUBSCRIPTIONS_AGE};
pub use event_types::*;
pub use examine::{Connections, DefinitionDocument, Examination, examine};
pub use grant_store::GrantStore;
pub use grant_types::*;
pub use lanes::HIGHEST_PRIORITY;
pub use limit_store::LimitStore;
pub use limit_types::*;
pub use limits::LIMITS_AGE;
pub use policy_store::*;
pub use retention_store::RetentionStore;
pub use retention_types::*;
pub use schedule_store::ScheduleStore;
pub use schedule_types::*;
pub use standing_store::StandingStore;
pub use standing_types::*;
pub use stats::EXPIRING;
pub use store::{Store, StoreResult};
pub use trial_store::TrialStore;
pub use trial_types::*;
pub use types::*;
pub use webhook_types::*;
pub use webhooks::MAX_WEBHOOKS;
pub use workflow_store::WorkflowStore;
pub use workflow_types::*;

use serde::Deserialize;

/// How to reach the database.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `postgres://…` or `sqlite:PATH` (a folder).
    pub url: String,
    /// Connections for the hot path.
    pub hot_connections: u32,
    /// Connections for reading.
    pub read_connections: u32,
    /// The longest statement.
    pub statement_timeout_ms: u64,
    /// The longest pause inside a transaction.
    pub idle_in_transaction_timeout_ms: u64,
    /// How long to wait for a connection.
    pub connect_timeout_ms: u64,
    /// The most starts or transitions in one transaction.
    pub batch: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: "sqlite:.holdpoint".to_owned(),
            hot_connections: 4,
            read_connections: 4,
            statement_timeout_ms: 10_000,
            idle_in_transaction_timeout_ms: 5_000,
            connect_timeout_ms: 5_000,
            batch: 100,
        }
    }
}

/// Opens the store that the URL names. Postgres is not touched until the first call;
/// SQLite locks its folder for this process and ends all older sessions.
pub fn open(settings: &Settings, registry: &prometheus::Registry) -> StoreResult<std::sync::Arc<dyn Store>> {
    let url = settings.url.as_str();
    if url.starts_with("sqlite:") {
        return Ok(std::sync::Arc::new(sql_store::SqlStore::sqlite(settings, registry)?));
    }
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return Ok(std::sync::Arc::new(sql_store::SqlStore::postgres(settings, registry)?));
    }
    Err(StoreError::Refused("the database URL begins with `postgres://` or `sqlite:`".to_owned()))
}

//! The contract's limits on an execution. What passes one is told its name and value.

use serde::{Deserialize, Serialize};

/// Limits that can be configured; the defaults are the contract's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// One value (arguments, a tool's output, an input, a model's text), in bytes.
    pub value_bytes: usize,
    /// Events of one execution.
    pub events: i64,
    /// Payload bytes of one execution's journal.
    pub journal_bytes: usize,
    /// Transitions of one workflow's execution.
    pub transitions: u64,
    /// Tool calls in one turn.
    pub calls_per_turn: usize,
    /// Signals of one execution.
    pub signals: usize,
    /// Labels of one execution.
    pub labels: usize,
    /// A label's key, in bytes.
    pub label_key_bytes: usize,
    /// A label's value, in bytes.
    pub label_value_bytes: usize,
    /// The metadata of one execution, in bytes of JSON.
    pub metadata_bytes: usize,
    /// Headers of a caller for the tools of one execution.
    pub forwarded_headers: usize,
    /// Their names and values together, in bytes.
    pub forwarded_header_bytes: usize,
    /// Messages of its conversation that an execution is given: the newest.
    pub history_messages: usize,
    /// The same in bytes of JSON, all together.
    pub history_bytes: usize,
    /// For how many days a standing grant may be made.
    pub grant_days: u32,
    /// How often a standing grant may be used.
    pub grant_uses: i32,
    /// Executions at a time of each tenant that has no limit of its own; 0: as many as there are.
    pub tenant_concurrency: u32,
    /// Executions of a tenant that may wait to be taken, 1 and up: more are refused for a while.
    pub tenant_backlog: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            value_bytes: 256 * 1024,
            events: 50_000,
            journal_bytes: 64 * 1024 * 1024,
            transitions: 10_000,
            calls_per_turn: 64,
            signals: 1_000,
            labels: 32,
            label_key_bytes: 64,
            label_value_bytes: 256,
            metadata_bytes: 16 * 1024,
            forwarded_headers: 32,
            forwarded_header_bytes: 8 * 1024,
            history_messages: 200,
            history_bytes: 256 * 1024,
            grant_days: 30,
            grant_uses: 10_000,
            tenant_concurrency: 0,
            tenant_backlog: 100_000,
        }
    }
}

impl Limits {
    /// Executions at a time of each tenant, where that is limited.
    pub fn tenant_slots(&self) -> Option<i64> {
        (self.tenant_concurrency > 0).then_some(i64::from(self.tenant_concurrency))
    }
}

/// How many attempts of one step may end with their worker before the execution is failed
/// as `stuck`: deploys interrupt long model calls, but not this often.
pub const MAX_INTERRUPTIONS: u32 = 8;

//! The part of Holdpoint that decides: executions, steps, approvals, retry rules, error
//! types, digests and the agent loop.
//!
//! Nothing here awaits, logs, reads a clock, a random number or the environment. Time and
//! chance are arguments; effects are data that a worker performs elsewhere.

pub mod advance;
pub mod audit;
pub mod client_time;
pub mod definition;
pub mod digest;
pub mod effect;
pub mod entropy;
pub mod entry;
pub mod ids;
pub mod lifecycle;
pub mod limits;
pub mod mcp;
pub mod outside;
pub mod past_calls;
pub mod policy;
pub mod redact;
pub mod retry;
pub mod retry_run;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod scope;
pub mod status;
pub mod strict_json;
pub mod tasks;
pub mod team;
pub mod time;
pub mod trace;
pub mod transcript;
pub mod wire;
pub mod workflow;

/// The value as raw JSON; for types that can always be written.
pub fn json<T: serde::Serialize + ?Sized>(value: &T) -> entry::Json {
    serde_json::value::to_raw_value(value).unwrap_or_else(|_| serde_json::value::RawValue::NULL.to_owned())
}

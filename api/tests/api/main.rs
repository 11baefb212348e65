//! The HTTP surface over a real socket. The store here is rows in memory that a test puts
//! there: what routes make of each answer of a store is shown here, and what the stores
//! themselves answer by their own conformance suite.

#![allow(clippy::unwrap_used)]

mod approvals;
mod auth;
mod bodies;
mod console;
mod description;
mod executions;
mod http;
mod rows;
mod rows_audit;
mod rows_events;
mod rows_grants;
mod rows_limits;
mod rows_policies;
mod rows_retention;
mod rows_schedules;
mod rows_standing;
mod rows_trials;
mod rows_workflows;
mod server;
mod streams;
mod workflows;
mod world;

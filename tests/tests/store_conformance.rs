//! One suite over both stores: each verb's rules and each guard.
//!
//! A test takes a [`Bed`](holdpoint_tests::store_builders::Bed), which is a schema of its own
//! on Postgres or a folder of its own on SQLite. Races have a suite of their own
//! (`store_races`), and so has what only one of the two does (`store_postgres`,
//! `store_faults`).
// A list of one is written as a list in an expectation.
#![allow(clippy::cloned_ref_to_slice_refs)]

mod acts;
mod approvals;
mod audit;
mod children;
mod commands;
mod commits;
mod conversations;
mod definitions;
mod desk;
mod gates;
mod grants;
mod kit;
mod leases;
mod limits;
mod outgoing;
mod policies;
mod reads;
mod retention;
mod schedules;
mod signals;
mod stale;
mod starts;
mod sweeps;
mod tenants;
mod trials;
mod turns;
mod webhooks;
mod workflow_runs;

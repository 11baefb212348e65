//! The suite, by what it is about.

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
mod kit;
mod leases;
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
mod webhooks;
mod workflow_runs;

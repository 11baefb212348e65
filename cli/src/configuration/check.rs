//! What a type cannot say about a value: ranges, addresses, and values that must fit together.

use std::net::{IpAddr, SocketAddr};

use super::Configuration;
use crate::telemetry;
use crate::usage::Usage;

/// Checks all values; the first that makes no sense is the error.
pub fn check(configuration: &Configuration) -> Result<(), Usage> {
    check_urls(configuration)?;
    check_addresses(configuration)?;
    check_numbers(configuration)?;
    check_leases(configuration)?;
    check_trace(configuration)?;
    telemetry::filter(&configuration.log.level)?;
    Ok(())
}

fn check_trace(configuration: &Configuration) -> Result<(), Usage> {
    let trace = &configuration.trace;
    let endpoint = trace.otlp_endpoint.as_deref().filter(|endpoint| !endpoint.is_empty());
    if endpoint.is_some_and(|url| !url.starts_with("http://") && !url.starts_with("https://")) {
        let was = scheme(endpoint.unwrap_or_default());
        return Err(wrong("trace.otlp_endpoint", was, "a URL such as http://127.0.0.1:4318"));
    }
    if !(0.0..=1.0).contains(&trace.ratio) {
        return Err(wrong("trace.ratio", trace.ratio, "a number from 0 to 1"));
    }
    Ok(())
}

fn wrong(key: &str, was: impl std::fmt::Display, may_be: &str) -> Usage {
    Usage(format!("configuration: {key} is `{was}`: it may be {may_be}"))
}

fn check_urls(configuration: &Configuration) -> Result<(), Usage> {
    let schemes = |url: &str, known: &[&str]| known.iter().any(|scheme| url.starts_with(scheme));
    let database = &configuration.database.url;
    if !schemes(database, &["postgres://", "postgresql://", "sqlite:"]) {
        return Err(wrong(
            "database.url",
            scheme(database),
            "postgres://USER:PASSWORD@HOST/DATABASE or sqlite:FOLDER",
        ));
    }
    let queue = &configuration.queue.url;
    if !schemes(queue, &["amqp://", "amqps://", "memory:"]) {
        return Err(wrong("queue.url", scheme(queue), "amqp://USER:PASSWORD@HOST/VHOST or memory:"));
    }
    if configuration.queue.prefix.is_empty() {
        return Err(wrong("queue.prefix", "", "a name such as `holdpoint`"));
    }
    Ok(())
}

/// A URL may hold a password: of a bad one only the scheme is told.
fn scheme(url: &str) -> String {
    match url.split_once(':') {
        Some((scheme, _)) => format!("{scheme}:…"),
        None => "…".to_owned(),
    }
}

fn check_addresses(configuration: &Configuration) -> Result<(), Usage> {
    let listen = &configuration.api.listen;
    if listen.parse::<SocketAddr>().is_err() {
        return Err(wrong(
            "api.listen",
            listen,
            "an address and a port, such as 127.0.0.1:4653 or [::1]:4653",
        ));
    }
    for network in &configuration.outbound.allow_networks {
        if !is_network(network) {
            return Err(wrong("outbound.allow_networks", network, "networks such as 10.0.0.0/8 or ::1/128"));
        }
    }
    Ok(())
}

/// `ADDRESS/BITS`, with as many bits as the address has at most.
fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn check_numbers(configuration: &Configuration) -> Result<(), Usage> {
    let Configuration { database, queue, api, expressions, scheduler, limits, .. } = configuration;
    let at_least_one = [
        ("database.hot_connections", u64::from(database.hot_connections)),
        ("database.read_connections", u64::from(database.read_connections)),
        ("database.statement_timeout_ms", database.statement_timeout_ms),
        ("database.idle_in_transaction_timeout_ms", database.idle_in_transaction_timeout_ms),
        ("database.connect_timeout_ms", database.connect_timeout_ms),
        ("database.batch", database.batch as u64),
        ("queue.confirm_timeout_ms", queue.confirm_timeout_ms),
        ("queue.hint_buffer", queue.hint_buffer as u64),
        ("queue.max_backoff_ms", queue.max_backoff_ms),
        ("api.body_bytes", api.body_bytes as u64),
        ("api.file_bytes", api.file_bytes as u64),
        ("api.header_timeout_ms", api.header_timeout_ms),
        ("api.idle_timeout_ms", api.idle_timeout_ms),
        ("api.streams", api.streams as u64),
        ("api.commands_prefetch", u64::from(api.commands_prefetch)),
        ("api.keep_alive_ms", api.keep_alive_ms),
        ("api.stream_poll_ms", api.stream_poll_ms),
        ("expressions.processes", expressions.processes as u64),
        ("scheduler.stale_period_ms", scheduler.stale_period_ms),
        ("scheduler.stuck_period_ms", scheduler.stuck_period_ms),
        ("scheduler.timers_period_ms", scheduler.timers_period_ms),
        ("scheduler.retries_period_ms", scheduler.retries_period_ms),
        ("scheduler.retention_period_ms", scheduler.retention_period_ms),
        ("scheduler.schedules_period_ms", scheduler.schedules_period_ms),
        ("scheduler.files_period_ms", scheduler.files_period_ms),
        ("scheduler.files_kept_hours", u64::from(scheduler.files_kept_hours)),
        ("scheduler.sweeps_kept_days", u64::from(scheduler.sweeps_kept_days)),
        ("scheduler.limit", scheduler.limit as u64),
        ("limits.value_bytes", limits.value_bytes as u64),
        ("limits.journal_bytes", limits.journal_bytes as u64),
        ("limits.calls_per_turn", limits.calls_per_turn as u64),
        ("limits.tenant_backlog", u64::from(limits.tenant_backlog)),
    ];
    match at_least_one.iter().find(|(_, value)| *value == 0) {
        Some((key, value)) => Err(wrong(key, value, "1 or more")),
        None => Ok(()),
    }
}

/// What the worker itself says, and what must fit together with the other sections.
fn check_leases(configuration: &Configuration) -> Result<(), Usage> {
    let worker = &configuration.worker;
    worker.check().map_err(|error| Usage(format!("configuration: {error}")))?;
    if worker.drain_ms > 29_000 {
        return Err(wrong(
            "worker.drain_ms",
            worker.drain_ms,
            "29000 or less: a process ends within 30 s of SIGTERM",
        ));
    }
    let kept = configuration.scheduler.commands_kept_days;
    if kept < 7 {
        return Err(wrong("scheduler.commands_kept_days", kept, "7 or more: producers count on a week"));
    }
    if configuration.scheduler.max_lost_leases < 2 {
        return Err(wrong("scheduler.max_lost_leases", configuration.scheduler.max_lost_leases, "2 or more"));
    }
    Ok(())
}

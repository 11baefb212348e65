//! How a worker works.

use std::time::Duration;

use serde::Deserialize;

/// How a worker works.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// For people; the host's name and the process id if empty.
    pub name: String,
    /// Executions at a time.
    pub slots: usize,
    /// Milliseconds that a lease lasts without a heartbeat.
    pub lease_ms: u64,
    /// Milliseconds between heartbeats; at most a third of the lease.
    pub heartbeat_ms: u64,
    /// Milliseconds between looks without a hint.
    pub poll_ms: u64,
    /// Milliseconds between looks for events that are due outside.
    pub events_poll_ms: u64,
    /// Milliseconds that calls may go on after SIGTERM.
    pub drain_ms: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: String::new(),
            slots: 256,
            lease_ms: 15_000,
            heartbeat_ms: 1_000,
            poll_ms: 1_000,
            events_poll_ms: 500,
            drain_ms: 25_000,
        }
    }
}

impl Settings {
    /// What a setting is and may be, where it cannot be worked with.
    pub fn check(&self) -> Result<(), String> {
        if self.slots == 0 || self.slots > 100_000 {
            return Err(format!("worker.slots is {}: it may be 1 to 100000", self.slots));
        }
        if self.heartbeat_ms == 0 || self.heartbeat_ms.saturating_mul(3) > self.lease_ms {
            return Err(format!(
                "worker.heartbeat_ms is {}: it may be 1 to a third of worker.lease_ms, which is {}",
                self.heartbeat_ms, self.lease_ms
            ));
        }
        if self.poll_ms == 0 {
            return Err("worker.poll_ms is 0: it may be 1 and up".to_owned());
        }
        if self.events_poll_ms == 0 {
            return Err("worker.events_poll_ms is 0: it may be 1 and up".to_owned());
        }
        Ok(())
    }

    /// The name that people are shown.
    pub(crate) fn shown_name(&self) -> String {
        if !self.name.is_empty() {
            return self.name.clone();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let process = std::process::id();
        match host.trim() {
            "" => process.to_string(),
            host => format!("{host}:{process}"),
        }
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }

    pub(crate) fn heartbeat(&self) -> Duration {
        Duration::from_millis(self.heartbeat_ms)
    }

    pub(crate) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_name_of_its_own() {
        let named = Settings { name: "ada".to_owned(), ..Settings::default() };
        assert_eq!(named.shown_name(), "ada");
        assert!(Settings::default().shown_name().ends_with(&std::process::id().to_string()));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        assert_eq!(Settings::default().check(), Ok(()));
        for (settings, name) in [
            (Settings { slots: 0, ..Settings::default() }, "worker.slots"),
            (Settings { heartbeat_ms: 6_000, ..Settings::default() }, "worker.heartbeat_ms"),
            (Settings { poll_ms: 0, ..Settings::default() }, "worker.poll_ms"),
            (Settings { events_poll_ms: 0, ..Settings::default() }, "worker.events_poll_ms"),
        ] {
            assert!(settings.check().expect_err(name).contains(name));
        }
    }
}

//! When sweeps run, and how far they go.

use std::time::Duration;

use holdpoint_engine::wire::SweepKind;
use serde::Deserialize;

/// When sweeps run, and how far they go.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Off: no tick is emitted (the HTTP doors still work).
    pub enabled: bool,
    /// Milliseconds between passes of `stale`.
    pub stale_period_ms: u64,
    /// Milliseconds between passes of `stuck`.
    pub stuck_period_ms: u64,
    /// Milliseconds between passes of `timers`.
    pub timers_period_ms: u64,
    /// Milliseconds between passes of `retries`.
    pub retries_period_ms: u64,
    /// Milliseconds between passes of `retention`.
    pub retention_period_ms: u64,
    /// Milliseconds between passes of `schedules`: how late a tick of a schedule may be.
    pub schedules_period_ms: u64,
    /// Milliseconds between passes of `files`.
    pub files_period_ms: u64,
    /// Hours for which a file is kept that no execution was started with, 1 and up.
    pub files_kept_hours: u32,
    /// Days for which a command is known that was accepted: a repeat within them is answered as
    /// the first was. 7 and up.
    pub commands_kept_days: u32,
    /// Days for which a finished execution is kept where its project does not say how long; 0
    /// keeps it for ever.
    pub finished_kept_days: u32,
    /// Days for which the record of a pass is kept, 1 and up.
    pub sweeps_kept_days: u32,
    /// The most rows of a pass, 1 and up.
    pub limit: usize,
    /// Leases that an execution may lose since its last commit before it fails as `stuck`.
    pub max_lost_leases: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            stale_period_ms: 60_000,
            stuck_period_ms: 5_000,
            timers_period_ms: 1_000,
            retries_period_ms: 1_000,
            retention_period_ms: 60_000,
            schedules_period_ms: 1_000,
            files_period_ms: 60_000,
            files_kept_hours: 24,
            commands_kept_days: 8,
            finished_kept_days: 0,
            sweeps_kept_days: 30,
            limit: 1_000,
            max_lost_leases: 4,
        }
    }
}

impl Settings {
    /// Between passes of a sweep.
    pub fn period(&self, kind: SweepKind) -> Duration {
        Duration::from_millis(match kind {
            SweepKind::Stale => self.stale_period_ms,
            SweepKind::Stuck => self.stuck_period_ms,
            SweepKind::Timers => self.timers_period_ms,
            SweepKind::Retries => self.retries_period_ms,
            SweepKind::Retention => self.retention_period_ms,
            SweepKind::Schedules => self.schedules_period_ms,
            SweepKind::Files => self.files_period_ms,
        })
    }

    /// How long an accepted command is known.
    pub fn commands_kept(&self) -> Duration {
        days(self.commands_kept_days)
    }

    /// How long a finished execution is kept where its project says nothing; `None`: for ever.
    pub fn finished_kept(&self) -> Option<Duration> {
        Some(self.finished_kept_days).filter(|days| *days > 0).map(days)
    }

    /// How long the record of a pass is kept.
    pub fn sweeps_kept(&self) -> Duration {
        days(self.sweeps_kept_days)
    }

    /// How long a file is kept that no execution was started with.
    pub fn files_kept(&self) -> Duration {
        Duration::from_secs(u64::from(self.files_kept_hours) * 60 * 60)
    }

    /// How often to look for due ticks: twice in the shortest period, at most ten times and
    /// at least once a second.
    pub fn poll(&self) -> Duration {
        let shortest = SweepKind::ALL.iter().map(|kind| self.period(*kind)).min().unwrap_or_default();
        (shortest / 2).clamp(Duration::from_millis(100), Duration::from_secs(1))
    }
}

fn days(count: u32) -> Duration {
    Duration::from_secs(u64::from(count) * 24 * 60 * 60)
}

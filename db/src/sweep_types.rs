//! Sweeps, and messages that are parked.

use std::time::Duration;

use holdpoint_engine::ids::{KeyId, ParkedId, SweepId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::SweepKind;

/// Who asked for a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SweepSource {
    Scheduler,
    Api,
    Cron,
}

impl SweepSource {
    /// The word in rows and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            SweepSource::Scheduler => "scheduler",
            SweepSource::Api => "api",
            SweepSource::Cron => "cron",
        }
    }
}

/// One pass of a sweep.
#[derive(Debug, Clone)]
pub struct SweepStart {
    /// Its id.
    pub id: SweepId,
    /// Which sweep.
    pub kind: SweepKind,
    /// Who asked for it.
    pub source: SweepSource,
    /// The key that did, or the source's own name; for the audit, and not read back.
    pub by: String,
    /// One tenant's project, or all.
    pub scope: Option<Scope>,
    /// Only count.
    pub dry_run: bool,
}

/// What a pass did. `total` is the sum of the last three.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Rows selected.
    pub scanned: i64,
    /// Rows acted on.
    pub cleaned_up: i64,
    /// Rows that could not be.
    pub failed: i64,
    /// Rows that were decided, deleted or taken meanwhile.
    pub skipped: i64,
}

impl SweepReport {
    /// What was done with the rows.
    pub fn total(&self) -> i64 {
        self.cleaned_up + self.failed + self.skipped
    }
}

/// A recorded pass.
#[derive(Debug, Clone)]
pub struct SweepRow {
    /// How it was started.
    pub start: SweepStart,
    /// When.
    pub started_at: Timestamp,
    /// When it ended; `None` while it runs, or if its worker died.
    pub finished_at: Option<Timestamp>,
    /// What it did.
    pub report: SweepReport,
}

/// Which rows a sweep looks at.
#[derive(Debug, Clone)]
pub enum SweepSelect {
    /// Suspended, not paused, not ready, with an expired undecided approval; oldest first
    /// by the time at which it expired. A `timeout` applies, from `requested_at`, to
    /// approvals whose definition names no expiry (the earlier of the two counts).
    Stale {
        /// One tenant's project, or all.
        scope: Option<Scope>,
        /// See above.
        timeout: Option<Duration>,
    },
    /// Held by a session that has expired.
    LeaseLost,
    /// Children whose news their parent was not told.
    Unrelayed,
    /// Children that go on although their parent is over.
    Orphans,
    /// Ready since at least this long, unclaimed; `of` narrows to delayed starts and waits, or to repeats.
    Unclaimed {
        /// Ready for at least so long.
        since: Duration,
        /// Which of them.
        of: Unclaimed,
    },
}

/// Which ready executions are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unclaimed {
    /// All.
    Any,
    /// Status `queued`, or suspended for a timer.
    Timers,
    /// Suspended for a retry.
    Retries,
}

/// What became of one row of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// Done; the last event to tell of, if lines were written.
    Done {
        /// The execution's last event.
        new_event: Option<i64>,
        /// Whether it is ready to be claimed now.
        ready: bool,
    },
    /// Decided, deleted or taken meanwhile.
    Skipped,
}

/// A message that could not be carried out.
#[derive(Debug, Clone)]
pub struct ParkedMessage {
    /// Its id.
    pub id: ParkedId,
    /// Whose it is, where that is known.
    pub scope: Option<Scope>,
    /// Where it came from.
    pub queue: String,
    /// The producer's id.
    pub message_id: Option<String>,
    /// Its type.
    pub kind: Option<String>,
    /// Why it was parked, in one word: `dead`, or the code of a problem.
    pub code: String,
    /// Why it was parked.
    pub reason: String,
    /// The key whose credential it had, if that was good.
    pub key: Option<KeyId>,
    /// Its other AMQP properties as a JSON object.
    pub properties: String,
    /// Its headers as a JSON object.
    pub headers: String,
    /// Its body, up to 1 MiB.
    pub body: Option<Vec<u8>>,
    /// The body's size.
    pub body_bytes: i64,
    /// SHA-256 of the body, in hex.
    pub body_digest: String,
    /// When; set by the store.
    pub parked_at: Timestamp,
}

/// Why a parked message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unparked {
    /// It was taken in again, and accepted.
    Redriven,
    /// Somebody threw it away.
    Discarded,
}

/// What a list of parked messages is asked for. All conditions hold together.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct ParkedFilter {
    pub code: Option<String>,
    pub after: Option<(Timestamp, ParkedId)>,
    pub limit: usize,
}

//! What the end of a workflow's run means for what is around the run: whether it is repeated
//! and when, what becomes of the workflow, and whether a person has to look.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::status::{ErrorType, Reason, Status};
use crate::workflow::document::{RUN_RETRIES, Workflow};

/// The wait before the first repeat of a run; it doubles with each.
pub const FIRST_RETRY: Duration = Duration::from_secs(10);
/// The longest wait before a repeat of a run.
pub const LONGEST_RETRY: Duration = Duration::from_secs(600);
/// The longest wish of a server that is kept, and that a repeat of a run waits for.
pub const LONGEST_ASKED: Duration = Duration::from_secs(24 * 60 * 60);
/// So long runs wait that use a secret whose balance was used up.
pub const BALANCE_HOLD: Duration = Duration::from_secs(600);
/// The failure for what the workflow says itself that is shown to a person.
pub const ESCALATED: i32 = 3;

/// What a version of a workflow says about its runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Terms {
    /// One active run; a further start is coalesced with the one that waits.
    pub one_at_a_time: bool,
    /// How often a run is repeated.
    pub retries: u32,
    /// The secrets that it names.
    pub secrets: Vec<String>,
}

impl Default for Terms {
    fn default() -> Self {
        Self { one_at_a_time: false, retries: RUN_RETRIES, secrets: Vec::new() }
    }
}

impl From<&Workflow> for Terms {
    fn from(workflow: &Workflow) -> Self {
        let settings = &workflow.settings;
        Self {
            one_at_a_time: settings.one_at_a_time,
            retries: settings.retries,
            secrets: workflow.secrets.clone(),
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunEnd {
    /// A terminal status.
    pub status: Status,
    /// Why.
    pub reason: Option<Reason>,
    /// 1 for the first run, 2 for its first repeat.
    pub attempt: i32,
}

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// It completed: earlier failures count no more.
    Cleared,
    /// Somebody ended it: it says nothing about the workflow.
    Nothing,
    /// It is repeated so much later.
    Repeated {
        /// The wait.
        after: Duration,
    },
    /// The workflow itself is at fault: it is not scheduled until somebody sees to it.
    Maintenance {
        /// So often now: a person is told.
        escalated: bool,
    },
    /// A person is told.
    Attention {
        /// The workflow's schedule stops as well.
        stops_schedule: bool,
        /// The runs that use its secrets wait.
        holds_secrets: bool,
    },
}

impl Consequence {
    /// Whether the run failed and will not be repeated by itself.
    pub const fn is_final_failure(self) -> bool {
        matches!(self, Consequence::Maintenance { .. } | Consequence::Attention { .. })
    }

    /// Whether a person has to look.
    pub const fn needs_person(self) -> bool {
        matches!(self, Consequence::Attention { .. } | Consequence::Maintenance { escalated: true })
    }
}

/// Decides; `logic_failures` counts those of this workflow before this one, since the last
/// run that completed.
pub fn consequence(terms: &Terms, logic_failures: i32, end: RunEnd) -> Consequence {
    match (end.status, end.reason) {
        (Status::Completed, _) => Consequence::Cleared,
        (Status::Failed, Some(reason)) => of_failure(terms, logic_failures, end.attempt, reason),
        _ => Consequence::Nothing,
    }
}

fn of_failure(terms: &Terms, logic_failures: i32, attempt: i32, reason: Reason) -> Consequence {
    match (reason, reason.error_type()) {
        (Reason::Network | Reason::RateLimit | Reason::Timeout, _) => match retry_delay(terms, attempt) {
            Some(after) => Consequence::Repeated { after },
            None => Consequence::Attention { stops_schedule: true, holds_secrets: false },
        },
        (_, ErrorType::Logic) => {
            Consequence::Maintenance { escalated: logic_failures.saturating_add(1) >= ESCALATED }
        }
        (_, kind) => Consequence::Attention {
            stops_schedule: matches!(kind, ErrorType::Auth | ErrorType::Permission),
            holds_secrets: kind == ErrorType::Balance,
        },
    }
}

/// The wait after this attempt; `None` where it was the last.
fn retry_delay(terms: &Terms, attempt: i32) -> Option<Duration> {
    let nth = u32::try_from(attempt).unwrap_or(1).max(1);
    let doubled = FIRST_RETRY.saturating_mul(2u32.saturating_pow(nth - 1));
    (nth <= terms.retries).then(|| doubled.min(LONGEST_RETRY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(reason: Reason, attempt: i32) -> RunEnd {
        RunEnd { status: Status::Failed, reason: Some(reason), attempt }
    }

    fn after(seconds: u64) -> Consequence {
        Consequence::Repeated { after: Duration::from_secs(seconds) }
    }

    const PERSON: Consequence = Consequence::Attention { stops_schedule: false, holds_secrets: false };
    const STOPPED: Consequence = Consequence::Attention { stops_schedule: true, holds_secrets: false };

    #[test]
    fn repeats_wait_twice_as_long_each_time() {
        for reason in [Reason::Network, Reason::RateLimit, Reason::Timeout] {
            let waits = [after(10), after(20), after(40), after(80), after(160), STOPPED, STOPPED];
            for (attempt, expected) in (1..).zip(waits) {
                assert_eq!(consequence(&Terms::default(), 0, failed(reason, attempt)), expected, "{attempt}");
            }
        }
        let many = Terms { retries: 20, ..Terms::default() };
        for (attempt, seconds) in [(6, 320), (7, 600), (8, 600), (20, 600)] {
            assert_eq!(consequence(&many, 0, failed(Reason::Network, attempt)), after(seconds), "{attempt}");
        }
        assert_eq!(consequence(&many, 0, failed(Reason::Network, 21)), STOPPED);
        let none = Terms { retries: 0, ..Terms::default() };
        assert_eq!(consequence(&none, 0, failed(Reason::Timeout, 1)), STOPPED);
    }

    #[test]
    fn only_the_reason_itself_is_repeated() {
        let table = [
            (Reason::Auth, STOPPED),
            (Reason::Permission, STOPPED),
            (Reason::ApprovalTimeout, PERSON),
            (Reason::Deadline, PERSON),
            (Reason::Stuck, PERSON),
            (Reason::Internal, PERSON),
            (Reason::Balance, Consequence::Attention { stops_schedule: false, holds_secrets: true }),
            (Reason::Logic, Consequence::Maintenance { escalated: false }),
            (Reason::Limit, Consequence::Maintenance { escalated: false }),
        ];
        for (reason, expected) in table {
            let told = consequence(&Terms::default(), 0, failed(reason, 1));
            assert_eq!(told, expected, "{reason}");
            assert!(told.is_final_failure());
        }
    }

    #[test]
    fn the_third_failure_of_the_workflow_itself_is_escalated() {
        for (before, escalated) in [(0, false), (1, false), (2, true), (3, true), (i32::MAX, true)] {
            let told = consequence(&Terms::default(), before, failed(Reason::Logic, 1));
            assert_eq!(told, Consequence::Maintenance { escalated });
            assert_eq!(told.needs_person(), escalated);
        }
    }

    #[test]
    fn who_completes_clears_and_who_is_cancelled_says_nothing() {
        let end = |status, reason| RunEnd { status, reason, attempt: 9 };
        let told = |end| consequence(&Terms::default(), 2, end);
        assert_eq!(told(end(Status::Completed, None)), Consequence::Cleared);
        assert_eq!(told(end(Status::Cancelled, Some(Reason::Cancelled))), Consequence::Nothing);
        assert_eq!(told(end(Status::Cancelled, Some(Reason::Paused))), Consequence::Nothing);
        assert!(!told(end(Status::Completed, None)).is_final_failure());
    }
}

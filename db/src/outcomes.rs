//! What transactions started, ended and took back: noted while one runs, and counted once it is
//! committed, whoever asked for it and on whichever way.

use holdpoint_engine::status::{DefinitionKind, Reason, Status};
use prometheus::core::Collector;
use prometheus::{IntCounter, IntCounterVec, Opts};

/// What one transaction did, as long as it may still be rolled back.
#[derive(Default)]
pub(crate) struct Noted {
    started: Vec<DefinitionKind>,
    ended: Vec<(DefinitionKind, Status, Option<Reason>)>,
    leases_lost: u64,
}

impl Noted {
    /// An execution was made.
    pub(crate) fn started(&mut self, kind: DefinitionKind) {
        self.started.push(kind);
    }

    /// An execution came to its end.
    pub(crate) fn ended(&mut self, kind: DefinitionKind, status: Status, reason: Option<Reason>) {
        self.ended.push((kind, status, reason));
    }

    /// An execution was taken from a worker whose lease had run out.
    pub(crate) fn lease_lost(&mut self) {
        self.leases_lost += 1;
    }
}

/// The counters; shared by the connections of a pool.
pub(crate) struct Outcomes {
    started: IntCounterVec,
    finished: IntCounterVec,
    leases_lost: IntCounter,
}

impl Default for Outcomes {
    fn default() -> Self {
        let vector = |name: &str, help: &str, labels: &[&str]| {
            IntCounterVec::new(Opts::new(name, help), labels).expect("constant names are valid")
        };
        let outcomes = Self {
            started: vector(
                "holdpoint_executions_started_total",
                "Executions made by this process, from whichever door",
                &["kind"],
            ),
            finished: vector(
                "holdpoint_executions_finished_total",
                "Executions whose end this process committed; completed ones have no reason",
                &["kind", "status", "reason"],
            ),
            leases_lost: IntCounter::new(
                "holdpoint_leases_lost_total",
                "Executions taken from a worker whose lease had run out",
            )
            .expect("a constant name is valid"),
        };
        outcomes.show_all();
        outcomes
    }
}

/// Why executions fail; the other reasons are those of suspensions and cancellations.
const FAILURES: [Reason; 14] = [
    Reason::ApprovalTimeout,
    Reason::TransferLimit,
    Reason::TurnLimit,
    Reason::Limit,
    Reason::Stuck,
    Reason::Deadline,
    Reason::Auth,
    Reason::Permission,
    Reason::Network,
    Reason::RateLimit,
    Reason::Balance,
    Reason::Logic,
    Reason::Timeout,
    Reason::Internal,
];

impl Outcomes {
    /// A series that begins at its first event hides that event from `increase`.
    fn show_all(&self) {
        for kind in DefinitionKind::ALL {
            self.started.with_label_values(&[kind.as_str()]);
            self.finished(*kind, Status::Completed, None);
            for reason in FAILURES {
                self.finished(*kind, Status::Failed, Some(reason));
            }
            for reason in [Reason::Cancelled, Reason::Paused] {
                self.finished(*kind, Status::Cancelled, Some(reason));
            }
        }
    }

    fn finished(&self, kind: DefinitionKind, status: Status, reason: Option<Reason>) -> IntCounter {
        let reason = reason.map_or("", Reason::as_str);
        self.finished.with_label_values(&[kind.as_str(), status.as_str(), reason])
    }

    /// A transaction was committed.
    pub(crate) fn count(&self, noted: &Noted) {
        for kind in &noted.started {
            self.started.with_label_values(&[kind.as_str()]).inc();
        }
        for (kind, status, reason) in &noted.ended {
            self.finished(*kind, *status, *reason).inc();
        }
        self.leases_lost.inc_by(noted.leases_lost);
    }

    /// What is registered.
    pub(crate) fn collectors(&self) -> [Box<dyn Collector>; 3] {
        [Box::new(self.started.clone()), Box::new(self.finished.clone()), Box::new(self.leases_lost.clone())]
    }
}

#[cfg(test)]
mod tests {
    use diesel::prelude::*;
    use diesel::sqlite::SqliteConnection;

    use super::*;
    use crate::conn::{Conn, Link};
    use crate::store::StoreResult;
    use crate::types::StoreError;

    #[test]
    fn what_is_rolled_back_is_never_counted() {
        let link = SqliteConnection::establish(":memory:").expect("a database");
        let mut conn = Conn::new(Link::Sqlite(link), 0);
        let refused: StoreResult<()> = conn.transaction(|conn| {
            conn.noted.started(DefinitionKind::Agent);
            Err(StoreError::Refused("no".to_owned()))
        });
        assert!(refused.is_err());
        let done: StoreResult<()> = conn.transaction(|conn| {
            conn.noted.started(DefinitionKind::Workflow);
            Ok(())
        });
        done.expect("an empty transaction");
        let counted = |kind: &str| conn.outcomes.started.with_label_values(&[kind]).get();
        assert_eq!((counted("agent"), counted("workflow")), (0, 1));
    }

    #[test]
    fn every_reason_that_is_no_suspension_s_is_shown_from_the_start() {
        let others = [
            Reason::Approval,
            Reason::Signal,
            Reason::Timer,
            Reason::Retry,
            Reason::OutcomeUnknown,
            Reason::Cancelled,
            Reason::Paused,
        ];
        assert_eq!(FAILURES.len() + others.len(), Reason::ALL.len());
        assert!(FAILURES.iter().all(|reason| !others.contains(reason)));
    }
}

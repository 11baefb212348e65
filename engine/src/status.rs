//! The closed lists of the contract: statuses, reasons, error types, decisions.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::time::Span;

/// A text that is not one of a closed list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{given}` is no {what}: it may be {}", allowed.trim_end())]
pub struct NotOneOf {
    what: &'static str,
    given: String,
    allowed: &'static str,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant),+
        }

        impl $name {
            /// Every word of the list, in the contract's order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The word that stands on the wire and in the database.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = NotOneOf;

            fn from_str(text: &str) -> Result<Self, NotOneOf> {
                match text {
                    $($word => Ok($name::$variant),)+
                    _ => Err(NotOneOf {
                        what: $what,
                        given: text.chars().take(64).collect(),
                        allowed: concat!($("`", $word, "` "),+),
                    }),
                }
            }
        }
    };
}

words!(
    /// Where an execution stands. Terminal is terminal: nothing changes after it.
    Status, "status", {
        /// Committed, not begun.
        Queued = "queued",
        /// A worker has it, or had it until its lease ran out.
        Running = "running",
        /// It waits for what [`Reason`] says.
        Suspended = "suspended",
        /// It ended with an output.
        Completed = "completed",
        /// It ended with an error.
        Failed = "failed",
        /// Somebody ended it.
        Cancelled = "cancelled",
    }
);

impl Status {
    /// Whether nothing changes any more.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Status::Completed | Status::Failed | Status::Cancelled)
    }
}

words!(
    /// Why an execution stands where it stands.
    Reason, "reason", {
        /// Suspended: an approval is undecided.
        Approval = "approval",
        /// Suspended: a signal is awaited.
        Signal = "signal",
        /// Suspended: a wait has not ended.
        Timer = "timer",
        /// Suspended: a failed attempt will be repeated.
        Retry = "retry",
        /// Suspended, or cancelled, by a pause.
        Paused = "paused",
        /// Suspended: nobody knows whether a call happened.
        OutcomeUnknown = "outcome_unknown",
        /// Failed: an approval was not decided in time.
        ApprovalTimeout = "approval_timeout",
        /// Failed: too many transfers.
        TransferLimit = "transfer_limit",
        /// Failed: too many turns.
        TurnLimit = "turn_limit",
        /// Failed: a limit was passed.
        Limit = "limit",
        /// Failed: it took its workers down.
        Stuck = "stuck",
        /// Failed: it took too long.
        Deadline = "deadline",
        /// Cancelled by a caller.
        Cancelled = "cancelled",
        /// Failed with the error type of the same name.
        Auth = "auth",
        /// Failed with the error type of the same name.
        Permission = "permission",
        /// Failed with the error type of the same name.
        Network = "network",
        /// Failed with the error type of the same name.
        RateLimit = "rate_limit",
        /// Failed with the error type of the same name.
        Balance = "balance",
        /// Failed with the error type of the same name.
        Logic = "logic",
        /// Failed with the error type of the same name.
        Timeout = "timeout",
        /// Failed with the error type of the same name.
        Internal = "internal",
    }
);

words!(
    /// What kind of failure it was: one closed list.
    ErrorType, "error type", {
        /// 401: who we are was not accepted.
        Auth = "auth",
        /// 403: we may not.
        Permission = "permission",
        /// 408, 5xx, connection faults.
        Network = "network",
        /// 429.
        RateLimit = "rate_limit",
        /// 402.
        Balance = "balance",
        /// The call itself was wrong: other 4xx, arguments that do not fit.
        Logic = "logic",
        /// It took longer than it may.
        Timeout = "timeout",
        /// Somebody ended it.
        Cancelled = "cancelled",
        /// A fault of ours.
        Internal = "internal",
    }
);

impl ErrorType {
    /// Whether the same call may succeed later.
    pub const fn is_retryable(self) -> bool {
        matches!(self, ErrorType::Network | ErrorType::RateLimit | ErrorType::Timeout)
    }

    /// The error type of an HTTP answer, `None` for one that is no error.
    pub const fn of_http(status: u16) -> Option<ErrorType> {
        match status {
            401 => Some(ErrorType::Auth),
            402 => Some(ErrorType::Balance),
            403 => Some(ErrorType::Permission),
            408 => Some(ErrorType::Network),
            429 => Some(ErrorType::RateLimit),
            500.. => Some(ErrorType::Network),
            400..=499 => Some(ErrorType::Logic),
            // A redirect that was not followed is not an answer of the tool.
            300..=399 => Some(ErrorType::Logic),
            _ => None,
        }
    }

    /// The reason of a failure that has no more particular one.
    pub const fn reason(self) -> Reason {
        match self {
            ErrorType::Auth => Reason::Auth,
            ErrorType::Permission => Reason::Permission,
            ErrorType::Network => Reason::Network,
            ErrorType::RateLimit => Reason::RateLimit,
            ErrorType::Balance => Reason::Balance,
            ErrorType::Logic => Reason::Logic,
            ErrorType::Timeout => Reason::Timeout,
            ErrorType::Cancelled => Reason::Cancelled,
            ErrorType::Internal => Reason::Internal,
        }
    }
}

impl Reason {
    /// The error type of a failure with this reason.
    pub const fn error_type(self) -> ErrorType {
        match self {
            Reason::ApprovalTimeout | Reason::Deadline | Reason::Timeout | Reason::Timer => {
                ErrorType::Timeout
            }
            Reason::TransferLimit | Reason::TurnLimit | Reason::Limit | Reason::Logic => ErrorType::Logic,
            Reason::Auth => ErrorType::Auth,
            Reason::Permission => ErrorType::Permission,
            Reason::Network => ErrorType::Network,
            Reason::RateLimit => ErrorType::RateLimit,
            Reason::Balance => ErrorType::Balance,
            Reason::Cancelled | Reason::Paused => ErrorType::Cancelled,
            Reason::Stuck
            | Reason::Internal
            | Reason::Approval
            | Reason::Signal
            | Reason::Retry
            | Reason::OutcomeUnknown => ErrorType::Internal,
        }
    }
}

words!(
    /// How an approval stands.
    ApprovalStatus, "approval status", {
        /// Open to decision until it expires.
        Pending = "pending",
        /// Decided: the call may be made, once.
        Approved = "approved",
        /// Decided: the call is never made.
        Denied = "denied",
        /// Undecided when its time was over; the call is never made.
        Expired = "expired",
        /// Undecided when its execution was cancelled or failed; the call is never made.
        Cancelled = "cancelled",
        /// The stored bytes no longer had the digest that was decided on: asked again.
        DigestMismatch = "digest_mismatch",
    }
);

impl ApprovalStatus {
    /// The status after a decision.
    pub const fn of_decision(approved: bool) -> Self {
        if approved { ApprovalStatus::Approved } else { ApprovalStatus::Denied }
    }

    /// Whether a person decided it.
    pub const fn is_decided(self) -> bool {
        matches!(self, ApprovalStatus::Approved | ApprovalStatus::Denied)
    }
}

words!(
    /// What may be done with a call whose outcome nobody knows.
    EffectClass, "effect class", {
        /// May be repeated freely.
        Idempotent = "idempotent",
        /// May be repeated with the same `Idempotency-Key`.
        Keyed = "keyed",
        /// Never repeated: an unknown outcome waits for a person.
        AtMostOnce = "at_most_once",
    }
);

words!(
    /// What an execution runs.
    DefinitionKind, "kind of definition", {
        /// A model with tools.
        Agent = "agent",
        /// A graph of steps.
        Workflow = "workflow",
    }
);

words!(
    /// How a chat with an agent runs.
    ExecutionMode, "execution mode", {
        /// Journaled: it survives processes, and people can be asked.
        Durable = "durable",
        /// In the process that took the request, without a journal.
        Classic = "classic",
    }
);

words!(
    /// Whether an execution counts as the real thing.
    RunType, "run type", {
        /// The real thing.
        Production = "production",
        /// A trial: apart from attention, schedules and retries.
        Test = "test",
    }
);

words!(
    /// How a workflow stands.
    WorkflowState, "state of a workflow", {
        /// It is started and scheduled.
        Active = "active",
        /// A person holds it.
        Paused = "paused",
        /// A run of it failed for what it says itself.
        Maintenance = "maintenance",
        /// It is out of use, and kept.
        Archived = "archived",
    }
);

words!(
    /// What somebody found out about a call whose outcome was unknown.
    Outcome, "outcome", {
        /// The call took place; it is not made again.
        Happened = "happened",
        /// It did not; it is made again under the same approval and key.
        DidNotHappen = "did_not_happen",
    }
);

words!(
    /// Why a webhook is called no more.
    DisabledFor,
    "reason for which a webhook is disabled",
    {
        /// Nothing but failures for a week.
        Failing = "failing",
        /// It answered 410.
        Gone = "gone",
        /// Somebody asked for it.
        Asked = "asked",
    }
);

words!(
    /// Where a delivery stands.
    DeliveryStatus,
    "status of a delivery",
    {
        /// It will be tried (again).
        Pending = "pending",
        /// The receiver answered 2xx.
        Delivered = "delivered",
        /// It will not be tried any more.
        GivenUp = "given_up",
    }
);

words!(
    /// What a schedule does about a tick while its run before is active.
    Overlap,
    "overlap policy",
    {
        /// Nothing is started.
        Skip = "skip",
        /// One tick waits for the end, further ones fall in with it.
        Queue = "queue",
        /// The run before is cancelled, then the next is started.
        Cancel = "cancel",
    }
);

words!(
    /// Why a tick started nothing.
    SkippedFor,
    "reason for which a tick is skipped",
    {
        /// The run before is active.
        Active = "active",
        /// Another tick waits for the end of the run before.
        Waiting = "waiting",
        /// The workflow is paused, archived or in maintenance, or stopped after a final failure.
        Workflow = "workflow",
        /// There is no such definition or version.
        UnknownDefinition = "unknown_definition",
    }
);

/// A failure as callers see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// Of the closed list.
    #[serde(rename = "type")]
    pub kind: ErrorType,
    /// One sentence for a person; never a secret, never empty.
    pub message: String,
    /// The status of an HTTP answer to a workflow's call, where that is what failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The error of a workflow as it was raised (RFC 7807), for the workflow that runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<Box<Problem>>,
    /// Why an execution failed, where the error's type does not say that; for the workflow that
    /// runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// The names of the secrets that the failed call was sent with, where the balance of whom they
    /// belong to is used up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// How long the server asked to wait (`Retry-After`), 24 hours at most; no repeat comes sooner.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Span>,
}

/// An error as a workflow raises it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// A URI.
    #[serde(rename = "type")]
    pub kind: String,
    /// As of HTTP.
    pub status: u16,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Failure {
    /// A failure of this type.
    pub fn new(kind: ErrorType, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            problem: None,
            reason: None,
            secrets: Vec::new(),
            retry_after: None,
        }
    }

    /// The same, of an HTTP answer with this status.
    pub fn with_status(self, status: u16) -> Self {
        Self { status: Some(status), ..self }
    }
}

impl Failure {
    /// The same, with the secrets of the call that it is of, where its type makes them matter and
    /// whoever told of it has not named them.
    pub fn sent_with(self, secrets: impl FnOnce() -> Vec<String>) -> Self {
        if self.kind != ErrorType::Balance || !self.secrets.is_empty() {
            return self;
        }
        Self { secrets: secrets(), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

words!(
    /// How a standing grant stands.
    GrantStatus, "status of a grant", {
        /// It answers questions.
        Active = "active",
        /// It was used as often as it may be.
        UsedUp = "used_up",
        /// Its time is over.
        Expired = "expired",
        /// Somebody took it back.
        Revoked = "revoked",
    }
);

words!(
    /// What the audit tells of.
    AuditAct, "act of the audit", {
        /// A question was answered for good.
        ApprovalDecided = "approval.decided",
        /// One of several people answered a question.
        ApprovalVoted = "approval.voted",
        /// Nobody decided in time.
        ApprovalExpired = "approval.expired",
        /// Nobody decided in time, and further people are asked.
        ApprovalEscalated = "approval.escalated",
        /// A standing grant was made.
        GrantCreated = "grant.created",
        /// A standing grant answered a question.
        GrantUsed = "grant.used",
        /// A standing grant was taken back.
        GrantRevoked = "grant.revoked",
        /// A key was made.
        KeyCreated = "key.created",
        /// A key was revoked.
        KeyRevoked = "key.revoked",
        /// A version of a definition was registered.
        DefinitionPut = "definition.put",
        /// A definition was taken out of use.
        DefinitionDeleted = "definition.deleted",
        /// A workflow was paused.
        WorkflowPaused = "workflow.paused",
        /// A workflow was made active.
        WorkflowResumed = "workflow.resumed",
        /// A workflow was archived.
        WorkflowArchived = "workflow.archived",
        /// A workflow was put into maintenance.
        WorkflowMaintenance = "workflow.maintenance",
        /// A failed run was taken off the list of what needs a person.
        AttentionAcknowledged = "attention.acknowledged",
        /// A schedule was made or changed.
        SchedulePut = "schedule.put",
        /// A schedule was removed.
        ScheduleDeleted = "schedule.deleted",
        /// A schedule was paused.
        SchedulePaused = "schedule.paused",
        /// A schedule goes on.
        ScheduleResumed = "schedule.resumed",
        /// A limit was set.
        LimitPut = "limit.put",
        /// A limit was removed.
        LimitDeleted = "limit.deleted",
        /// For how long things are kept was set.
        RetentionPut = "retention.put",
        /// An execution was ended by a caller.
        ExecutionCancelled = "execution.cancelled",
        /// An execution was held by a caller.
        ExecutionPaused = "execution.paused",
        /// An execution was let go on by a caller.
        ExecutionResumed = "execution.resumed",
        /// A failed run was repeated by a caller.
        ExecutionRetried = "execution.retried",
        /// An unknown outcome was answered.
        ExecutionResolved = "execution.resolved",
        /// A signal was delivered.
        ExecutionSignalled = "execution.signalled",
        /// Holdpoint ended an execution by itself: stuck, or over its time.
        ExecutionFailed = "execution.failed",
        /// A parked message was taken in again.
        ParkedRedriven = "parked.redriven",
        /// A parked message was thrown away.
        ParkedDiscarded = "parked.discarded",
        /// A webhook was made or changed.
        WebhookPut = "webhook.put",
        /// A webhook was removed.
        WebhookDeleted = "webhook.deleted",
        /// Where events go was changed.
        EventSettingsPut = "event_settings.put",
        /// A sweep acted.
        SweepRun = "sweep.run",
        /// The schema was brought up to date.
        MigrationRun = "migration.run",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_answers_have_the_contracts_types() {
        let table = [
            (200, None),
            (204, None),
            (302, Some(ErrorType::Logic)),
            (400, Some(ErrorType::Logic)),
            (401, Some(ErrorType::Auth)),
            (402, Some(ErrorType::Balance)),
            (403, Some(ErrorType::Permission)),
            (404, Some(ErrorType::Logic)),
            (408, Some(ErrorType::Network)),
            (429, Some(ErrorType::RateLimit)),
            (500, Some(ErrorType::Network)),
            (503, Some(ErrorType::Network)),
        ];
        for (status, kind) in table {
            assert_eq!(ErrorType::of_http(status), kind, "{status}");
        }
    }

    #[test]
    fn reasons_have_the_contracts_types() {
        assert_eq!(Reason::ApprovalTimeout.error_type(), ErrorType::Timeout);
        assert_eq!(Reason::Deadline.error_type(), ErrorType::Timeout);
        assert_eq!(Reason::TurnLimit.error_type(), ErrorType::Logic);
        assert_eq!(Reason::Stuck.error_type(), ErrorType::Internal);
        for kind in ErrorType::ALL {
            assert_eq!(kind.reason().error_type(), *kind);
        }
    }

    #[test]
    fn words_are_read_back() {
        for status in Status::ALL {
            assert_eq!(status.as_str().parse(), Ok(*status));
        }
        let error = "done".parse::<Status>().expect_err("not a status");
        assert!(error.to_string().contains("`completed`"), "{error}");
    }
}

//! What is told outside about executions and approvals: lifecycle events and the ends that
//! producers asked for, as CloudEvents.
//!
//! An event's id is made of its execution and its number, so that the same event has the
//! same id however often and by whatever way it is sent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::entry::Json;
use crate::ids::{EventId, ExecutionId};
use crate::scope::Scope;
use crate::status::{DefinitionKind, Failure, Reason, Status};
use crate::time::Timestamp;

/// The content type of a CloudEvent in structured JSON.
pub const CLOUD_EVENT: &str = "application/cloudevents+json";

/// The type of the message that tells a producer the end of what it started.
pub const FINISHED: &str = "holdpoint.command.finished.v1";

/// The type of the event that only tries a webhook out.
pub const WEBHOOK_TEST: &str = "holdpoint.webhook.test.v1";

/// A journal line that is told outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// The line's kind, which is the event's type in a stream.
    pub line: &'static str,
    /// The type outside.
    pub event: &'static str,
}

macro_rules! kinds {
    ($($line:literal),+ $(,)?) => {
        /// Every kind of line that is told outside.
        pub const KINDS: &[Kind] =
            &[$(Kind { line: $line, event: concat!("holdpoint.", $line, ".v1") }),+];
    };
}

kinds! {
    "execution.started",
    "execution.suspended",
    "execution.resumed",
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "approval.requested",
    "approval.decided",
    "approval.closed",
    "workflow.failed",
}

/// An event that a workflow emitted. It leaves as it is, with a type of its own; this one is for
/// subscribing to all of them.
pub const EMITTED: Kind = Kind { line: "event.emitted", event: "holdpoint.event.emitted.v1" };

impl Kind {
    /// The kind of a line, if that is told outside.
    pub fn of_line(line: &str) -> Option<Kind> {
        Kind::all().find(|kind| kind.line == line)
    }

    /// The kind of a type outside.
    pub fn of_event(event: &str) -> Option<Kind> {
        Kind::all().find(|kind| kind.event == event)
    }

    /// Everything that can be subscribed to.
    pub fn all() -> impl Iterator<Item = Kind> {
        KINDS.iter().copied().chain([EMITTED])
    }

    /// The key under which it is published: `<tenant>.<line>`. A full stop in a tenant's name
    /// is written `%2E`, because it would part words.
    pub fn routing_key(self, scope: &Scope) -> String {
        format!("{}.{}", scope.tenant.replace('.', "%2E"), self.line)
    }
}

impl EventId {
    /// The id of an execution's event of this number, which was written at that time.
    pub fn of(execution: ExecutionId, event: i64, at: Timestamp) -> Self {
        let digest = Sha256::new().chain_update(execution.0.as_bytes()).chain_update(event.to_be_bytes());
        let digest = digest.finalize();
        let mut bits = [0; 10];
        bits.copy_from_slice(&digest[..10]);
        let millis = u64::try_from(at.micros() / 1000).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &bits).into_uuid())
    }
}

/// A CloudEvent (1.0) in structured JSON.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CloudEvent<T> {
    /// `1.0`.
    pub specversion: String,
    /// The event's id: the same event sent again has the same one.
    pub id: EventId,
    /// `/holdpoint/<tenant>/<project>`.
    pub source: String,
    /// The type, with its version.
    #[serde(rename = "type")]
    pub kind: String,
    /// The execution that it is about; none in a test of a webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<ExecutionId>,
    /// When it happened.
    pub time: Timestamp,
    /// `application/json`.
    pub datacontenttype: String,
    /// What happened.
    pub data: T,
}

impl<T: Serialize> CloudEvent<T> {
    /// An event of ours.
    pub fn new(
        id: EventId,
        scope: &Scope,
        kind: &str,
        subject: Option<ExecutionId>,
        time: Timestamp,
        data: T,
    ) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            id,
            source: format!("/holdpoint/{scope}"),
            kind: kind.to_owned(),
            subject,
            time,
            datacontenttype: "application/json".to_owned(),
            data,
        }
    }

    /// As it is sent.
    pub fn to_json(&self) -> String {
        // Writing these types cannot fail: see `Entry::payload`.
        serde_json::to_string(self).unwrap_or_else(|_| "{}".to_owned())
    }
}

/// Which definition an execution runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DefinitionRef {
    /// Its name.
    pub name: String,
    /// The pinned version.
    pub version: i32,
}

/// `data` of a lifecycle event: the event as a stream shows it, and whose it is.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Lifecycle {
    /// The event's number in its execution's stream. A stream also has events that are not
    /// sent out, so that these numbers rise with gaps; what no stream shows has the number 0.
    pub seq: i64,
    /// The event's type in a stream, such as `execution.completed`.
    #[serde(rename = "type")]
    pub kind: String,
    /// When it was written.
    pub at: Timestamp,
    /// The execution.
    pub execution_id: ExecutionId,
    /// Whether an agent or a workflow is run.
    #[serde(rename = "kind")]
    pub definition_kind: DefinitionKind,
    /// Which one.
    pub definition: DefinitionRef,
    /// The conversation, if it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<String>,
    /// The event's own data, as in a stream.
    pub data: Json,
}

/// `data` of `holdpoint.command.finished.v1`: how the execution that a command started ended.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Finished {
    /// The execution.
    pub execution_id: ExecutionId,
    /// `completed`, `failed` or `cancelled`.
    pub status: Status,
    /// Why, where there is something to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// What it brought, if it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Json>,
    /// What went wrong, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// `data` of `holdpoint.webhook.test.v1`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct WebhookTest {
    /// For people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::entry::{Entry, ExecutionResumed};

    #[test]
    fn a_kind_is_named_by_its_line_and_by_its_type() {
        for kind in Kind::all() {
            assert_eq!(Kind::of_line(kind.line), Some(kind));
            assert_eq!(Kind::of_event(kind.event), Some(kind));
        }
        assert_eq!(Kind::of_line("message.delta"), None);
        let resumed = Entry::ExecutionResumed(ExecutionResumed { reason: Reason::Approval });
        assert!(Kind::of_line(resumed.kind()).is_some() && resumed.is_event());
    }

    #[test]
    fn a_tenants_full_stop_parts_no_words() {
        let kind = Kind::of_line("execution.completed").expect("a kind");
        assert_eq!(kind.routing_key(&Scope::new("acme.eu", "shop")), "acme%2Eeu.execution.completed");
        let longest = Scope::new(&".".repeat(64), "p");
        assert!(Kind::all().all(|kind| kind.routing_key(&longest).len() <= 255));
    }

    #[test]
    fn an_events_id_is_its_own_and_always_the_same() {
        let at = Timestamp::from_micros(1_800_000_000_000_000);
        let execution = ExecutionId::new(at, &mut Entropy::from_seed(1));
        let other = ExecutionId::new(at, &mut Entropy::from_seed(2));
        let id = EventId::of(execution, 3, at);
        assert_eq!(id, EventId::of(execution, 3, at));
        assert_ne!(id, EventId::of(execution, 4, at));
        assert_ne!(id, EventId::of(other, 3, at));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!(id < EventId::of(execution, 1, at.plus(std::time::Duration::from_millis(1))));
    }
}

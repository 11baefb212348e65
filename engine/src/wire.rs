//! The messages between roles: typed, versioned, carrying ids and never state. A message
//! says 'look here'; what is true stands in the database.

use serde::{Deserialize, Serialize};

use crate::ids::{ExecutionId, SweepId};
use crate::scope::Scope;

/// The version of these messages; one of another version is parked.
pub const VERSION: u32 = 1;

/// The largest body that is read; a larger one is parked.
pub const MAX_BODY: usize = 1024 * 1024;

/// Where an execution is: the full key of its row.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ExecutionKey {
    /// Who owns it.
    #[serde(flatten)]
    pub scope: Scope,
    /// Which one.
    pub id: ExecutionId,
}

/// 'X has events up to N.'
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewEvents {
    /// X.
    #[serde(flatten)]
    pub key: ExecutionKey,
    /// N.
    pub event: i64,
}

/// The sweeps there are.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SweepKind {
    /// Approvals that nobody decided in time.
    Stale,
    /// Leases that ran out; ready executions that nobody took.
    Stuck,
    /// Delayed starts and waits that are due.
    Timers,
    /// Repeats that are due.
    Retries,
    /// What was kept long enough.
    Retention,
    /// Ticks of schedules that are due.
    Schedules,
    /// Files that nothing refers to.
    Files,
}

impl SweepKind {
    /// All of them.
    pub const ALL: &'static [SweepKind] = &[
        SweepKind::Stale,
        SweepKind::Stuck,
        SweepKind::Timers,
        SweepKind::Retries,
        SweepKind::Retention,
        SweepKind::Schedules,
        SweepKind::Files,
    ];

    /// The word in rows, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            SweepKind::Stale => "stale",
            SweepKind::Stuck => "stuck",
            SweepKind::Timers => "timers",
            SweepKind::Retries => "retries",
            SweepKind::Retention => "retention",
            SweepKind::Schedules => "schedules",
            SweepKind::Files => "files",
        }
    }

    /// The sweep of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }
}

/// Everything that travels.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Message {
    /// These executions are ready: claim them.
    #[serde(rename = "execution.advance")]
    Advance(Vec<ExecutionKey>),
    /// Somebody did something to these, which you hold: look.
    #[serde(rename = "execution.wake")]
    Wake(Vec<ExecutionKey>),
    /// These have new events.
    #[serde(rename = "execution.events")]
    Events(Vec<NewEvents>),
    /// Carry out a sweep.
    #[serde(rename = "sweep")]
    Sweep {
        /// Which one.
        kind: SweepKind,
        /// The id of this pass.
        id: SweepId,
    },
}

impl Message {
    /// The type, for properties, metrics and logs.
    pub const fn kind(&self) -> &'static str {
        match self {
            Message::Advance(_) => "execution.advance",
            Message::Wake(_) => "execution.wake",
            Message::Events(_) => "execution.events",
            Message::Sweep { .. } => "sweep",
        }
    }

    /// The body as it travels.
    pub fn encode(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Envelope<'a> {
            v: u32,
            #[serde(flatten)]
            message: &'a Message,
        }
        serde_json::to_vec(&Envelope { v: VERSION, message: self }).unwrap_or_default()
    }

    /// Reads a body; what cannot be read is parked with this reason.
    pub fn decode(body: &[u8]) -> Result<Self, Undecodable> {
        #[derive(Deserialize)]
        struct Versioned {
            v: u32,
        }
        if body.len() > MAX_BODY {
            return Err(Undecodable::TooLarge { bytes: body.len() });
        }
        let wrong = |error: serde_json::Error| Undecodable::Malformed { detail: error.to_string() };
        let Versioned { v } = serde_json::from_slice(body).map_err(wrong)?;
        if v != VERSION {
            return Err(Undecodable::OtherVersion { version: v });
        }
        serde_json::from_slice(body).map_err(wrong)
    }
}

/// Why a message cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// Not a message of ours.
    #[error("malformed: {detail}")]
    Malformed {
        /// What the reader said.
        detail: String,
    },
    /// Of another version.
    #[error("version {version}; this is version {VERSION}")]
    OtherVersion {
        /// Its version.
        version: u32,
    },
    /// Too large to be read.
    #[error("{bytes} bytes; the limit is {MAX_BODY}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::Entropy;
    use crate::time::Timestamp;

    fn key() -> ExecutionKey {
        let id = ExecutionId::new(Timestamp::from_micros(1_700_000_000_000_000), &mut Entropy::from_seed(3));
        ExecutionKey { scope: Scope::new("acme", "shop"), id }
    }

    #[test]
    fn messages_are_read_back() {
        let sweep = SweepId::new(Timestamp::from_micros(1), &mut Entropy::from_seed(4));
        for message in [
            Message::Advance(vec![key()]),
            Message::Wake(vec![key()]),
            Message::Events(vec![NewEvents { key: key(), event: 7 }]),
            Message::Sweep { kind: SweepKind::Stale, id: sweep },
        ] {
            assert_eq!(Message::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let other = br#"{"v":2,"type":"execution.advance","data":[]}"#;
        assert_eq!(Message::decode(other), Err(Undecodable::OtherVersion { version: 2 }));
        let huge = vec![b' '; MAX_BODY + 1];
        assert_eq!(Message::decode(&huge), Err(Undecodable::TooLarge { bytes: MAX_BODY + 1 }));
        for bad in [&b"\xff\xfe"[..], b"", b"{}", br#"{"v":1,"type":"nonsense"}"#] {
            assert!(matches!(Message::decode(bad), Err(Undecodable::Malformed { .. })));
        }
    }
}

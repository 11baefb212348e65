//! What goes into and comes out of the verbs for outgoing events.

use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::EventId;
use holdpoint_engine::lifecycle::{CloudEvent, DefinitionRef, Finished, Kind, Lifecycle};
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;

use crate::types::ReplyTo;
pub(crate) use crate::webhook_types::*;

/// By which way something leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The broker's exchange for events.
    Exchange,
    /// The project's webhooks.
    Webhooks,
    /// The queue that a producer named for the end of what it started.
    Reply,
}

impl Channel {
    /// All of them.
    pub const ALL: &'static [Channel] = &[Channel::Exchange, Channel::Webhooks, Channel::Reply];

    /// The word in rows and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Channel::Exchange => "exchange",
            Channel::Webhooks => "webhooks",
            Channel::Reply => "reply",
        }
    }
}

/// What a project wants to be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventSettings {
    /// Whether its lifecycle events go to the exchange.
    pub exchange: bool,
}

/// A row of what is still to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutgoingKey {
    /// The execution.
    pub key: ExecutionKey,
    /// The journal's line.
    pub seq: i64,
}

/// What an event says.
#[derive(Debug, Clone)]
pub enum Sent {
    /// What happened to an execution: `data` of our CloudEvent.
    Lifecycle(Box<Lifecycle>),
    /// A workflow's own CloudEvent, as it emitted it.
    Emitted(Json),
}

/// An event that is still to be sent.
#[derive(Debug, Clone)]
pub struct OutgoingEvent {
    /// Its row.
    pub row: OutgoingKey,
    /// What it tells.
    pub kind: Kind,
    /// Its id, the same whenever it is sent.
    pub id: EventId,
    /// When it happened.
    pub at: Timestamp,
    /// What it says.
    pub what: Sent,
}

impl OutgoingEvent {
    /// The body, as JSON.
    pub fn body(&self) -> String {
        let (scope, id) = (&self.row.key.scope, self.row.key.id);
        match &self.what {
            Sent::Lifecycle(data) => {
                CloudEvent::new(self.id, scope, self.kind.event, Some(id), self.at, data).to_json()
            }
            Sent::Emitted(event) => event.get().to_owned(),
        }
    }
}

/// A line as it was read, before it is an [`OutgoingEvent`].
pub(crate) struct Told {
    pub row: OutgoingKey,
    pub event: Option<i64>,
    pub line: String,
    pub at: Timestamp,
    pub payload: String,
    pub kind: DefinitionKind,
    pub definition: DefinitionRef,
    pub conversation_id: Option<String>,
}

/// An end that is still to be told to the producer that asked for it.
#[derive(Debug, Clone)]
pub struct OutgoingReply {
    /// Its row.
    pub row: OutgoingKey,
    /// Its id, the same whenever it is sent.
    pub id: EventId,
    /// When it ended.
    pub at: Timestamp,
    /// Where to.
    pub to: ReplyTo,
    /// `data` of its CloudEvent.
    pub data: Finished,
}

/// What waits to be sent by one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backlog {
    /// The channel.
    pub channel: Channel,
    /// Rows.
    pub rows: i64,
    /// When the oldest was written.
    pub oldest: Option<Timestamp>,
}

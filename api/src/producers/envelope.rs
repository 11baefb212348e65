//! A message as it came, and the command in it.
//!
//! Two forms: a CloudEvent in structured JSON, and plain JSON whose attributes are AMQP
//! properties. Reading is lenient as far as the credential, so that a message that is wrong
//! further in still belongs to somebody; what the command's own reader sees is checked strictly.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdpoint_db::{CommandKey, ReplyTo};
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::entry::Json;
use holdpoint_engine::strict_json;
use holdpoint_queue::Delivery;
use http::StatusCode;
use serde::Deserialize;

use crate::auth::{END_USER, bearer_of};
use crate::body;
use crate::problem::{Answer, Code, Problem};

/// The content type of a CloudEvent in structured JSON.
pub const CLOUD_EVENT: &str = "application/cloudevents+json";

/// The source of plain messages whose producer does not name itself.
const NAMELESS: &str = "amqp";

/// The header by which a plain message asks to be told of the end.
const REPLY: &str = "x-holdpoint-reply";

/// The longest id and source, in bytes.
const NAME_BYTES: usize = 255;

/// A message, from the broker or from among the parked ones.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    pub body: Bytes,
    pub kind: Option<String>,
    pub message_id: Option<String>,
    pub content_type: Option<String>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
    pub app_id: Option<String>,
    pub headers: BTreeMap<String, String>,
    pub queue: String,
}

impl From<Delivery> for Incoming {
    fn from(came: Delivery) -> Self {
        Self {
            body: came.body,
            kind: came.kind,
            message_id: came.message_id,
            content_type: came.content_type,
            correlation_id: came.correlation_id,
            reply_to: came.reply_to,
            app_id: came.app_id,
            headers: came.headers,
            queue: came.queue,
        }
    }
}

/// What a command asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Start,
    Decide,
    Cancel,
    Signal,
}

impl Kind {
    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Decide => "decide",
            Kind::Cancel => "cancel",
            Kind::Signal => "signal",
        }
    }

    /// The type of its first version, without the version.
    const fn name(self) -> &'static str {
        match self {
            Kind::Start => "holdpoint.execution.start",
            Kind::Decide => "holdpoint.approval.decide",
            Kind::Cancel => "holdpoint.execution.cancel",
            Kind::Signal => "holdpoint.signal.deliver",
        }
    }

    /// The kind of that type.
    fn parse(kind: &str) -> Answer<Self> {
        let shown: String = kind.chars().take(128).collect();
        let unknown = || {
            let known = "holdpoint.execution.start.v1, holdpoint.approval.decide.v1, \
                         holdpoint.execution.cancel.v1, holdpoint.signal.deliver.v1";
            Problem::new(
                Code::UnknownType,
                format!("`{shown}` is no type of command: it may be one of {known}"),
            )
        };
        let (name, version) = kind.rsplit_once(".v").ok_or_else(unknown)?;
        let all = [Kind::Start, Kind::Decide, Kind::Cancel, Kind::Signal];
        let found = all.into_iter().find(|one| one.name() == name).ok_or_else(unknown)?;
        match version.parse::<u32>() {
            Ok(1) => Ok(found),
            Ok(_) => {
                let detail = format!("`{shown}`: version 1 is known here");
                Err(Problem::new(Code::UnsupportedVersion, detail))
            }
            Err(_) => Err(unknown()),
        }
    }
}

/// A command with everything that its message says about it.
#[derive(Debug)]
pub struct Envelope {
    /// What makes it the same command as another.
    pub key: CommandKey,
    /// Its type, as it came.
    pub kind: String,
    /// Its body as it came, credential and all.
    data: Json,
    /// The members of its body but the credential, if it has members.
    members: Option<BTreeMap<String, Json>>,
    /// The credential in its body, as it was written there.
    pub written_key: Option<Json>,
    /// Whether the end of what it starts is to be told.
    finished: Option<String>,
}

#[derive(Deserialize)]
struct CloudEvent {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    datacontenttype: Option<String>,
    reply: Option<String>,
    data: Json,
}

fn undecodable(detail: impl Into<String>) -> Problem {
    Problem::new(Code::Undecodable, detail)
}

impl Incoming {
    /// What tells this message from others, in hex: the same again has the same.
    pub fn fingerprint(&self) -> String {
        let part = |text: &Option<String>| sha256_hex(text.as_deref().unwrap_or_default().as_bytes());
        let parts = [part(&self.message_id), part(&self.kind), part(&self.app_id), sha256_hex(&self.body)];
        sha256_hex(parts.concat().as_bytes())
    }

    /// The queue for an answer and what the answer must name. A producer that names nothing gets
    /// its message's id back.
    pub fn reply_to(&self, id: Option<&str>) -> Option<ReplyTo> {
        let queue = self.reply_to.clone().filter(|queue| !queue.is_empty())?;
        let correlation_id = self.correlation_id.clone().or_else(|| id.map(str::to_owned));
        Some(ReplyTo { queue, correlation_id })
    }

    /// A header, whatever its case.
    fn header(&self, wanted: &str) -> Option<&str> {
        let named = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        named.map(|(_, value)| value.as_str())
    }

    /// The credential in the headers.
    pub fn bearer(&self) -> Option<&str> {
        bearer_of(self.header("authorization")?)
    }

    /// The end user in the headers.
    pub fn end_user(&self) -> Option<&[u8]> {
        self.header(END_USER).map(str::as_bytes)
    }

    /// Reads the command, as far as that needs nobody's permission; bodies may have `limit` bytes.
    pub fn read(&self, limit: usize) -> Answer<Envelope> {
        if self.body.len() > limit {
            let detail = format!("the body has {} bytes; it may have {limit}", self.body.len());
            return Err(Problem::limit(StatusCode::PAYLOAD_TOO_LARGE, "body_bytes", limit, detail));
        }
        let text = std::str::from_utf8(&self.body)
            .map_err(|error| undecodable(format!("the body is not UTF-8 at byte {}", error.valid_up_to())))?;
        let essence = self.content_type.as_deref().unwrap_or("application/json");
        let essence = essence.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        let envelope = match essence.as_str() {
            CLOUD_EVENT => cloud_event(text)?,
            "application/json" => self.plain(text)?,
            other => {
                let shown: String = other.chars().take(64).collect();
                let may = format!("it may be {CLOUD_EVENT} or application/json");
                return Err(undecodable(format!("the content type is `{shown}`: {may}")));
            }
        };
        envelope.key.check()?;
        Ok(envelope)
    }

    fn plain(&self, text: &str) -> Answer<Envelope> {
        let needed = |value: &Option<String>, name: &str| {
            value.clone().filter(|value| !value.is_empty()).ok_or_else(|| {
                undecodable(format!(
                    "the property `{name}` is needed where the content type is application/json"
                ))
            })
        };
        let data: Json = serde_json::from_str(text).map_err(|error| undecodable(error.to_string()))?;
        let source = self.app_id.clone().filter(|app| !app.is_empty()).unwrap_or_else(|| NAMELESS.to_owned());
        let key = CommandKey { source, id: needed(&self.message_id, "message_id")? };
        let finished = self.header(REPLY).map(str::to_owned);
        Ok(Envelope::new(key, needed(&self.kind, "type")?, data, finished))
    }
}

fn cloud_event(text: &str) -> Answer<Envelope> {
    let event: CloudEvent = serde_json::from_str(text).map_err(|error| undecodable(error.to_string()))?;
    if event.specversion != "1.0" {
        let shown: String = event.specversion.chars().take(16).collect();
        return Err(undecodable(format!("`specversion` is `{shown}`: it may be `1.0`")));
    }
    if event.datacontenttype.as_deref().is_some_and(|kind| !kind.starts_with("application/json")) {
        return Err(undecodable("`datacontenttype`: it may be `application/json`"));
    }
    let key = CommandKey { source: event.source, id: event.id };
    Ok(Envelope::new(key, event.kind, event.data, event.reply))
}

trait Check {
    fn check(&self) -> Answer<()>;
}

impl Check for CommandKey {
    /// They are a key in the database.
    fn check(&self) -> Answer<()> {
        for (name, value) in [("id", &self.id), ("source", &self.source)] {
            if !(1..=NAME_BYTES).contains(&value.len()) || value.contains('\0') {
                return Err(undecodable(format!(
                    "`{name}`: it may have 1 to {NAME_BYTES} bytes, none of them NUL"
                )));
            }
        }
        Ok(())
    }
}

impl Envelope {
    fn new(key: CommandKey, kind: String, data: Json, finished: Option<String>) -> Self {
        let mut members: Option<BTreeMap<String, Json>> = serde_json::from_str(data.get()).ok();
        let written_key = members.as_mut().and_then(|members| members.remove("api_key"));
        Self { key, kind, data, members, written_key, finished }
    }

    /// The credential in the body.
    pub fn api_key(&self) -> Option<String> {
        serde_json::from_str(self.written_key.as_ref()?.get()).ok()
    }

    /// What it asks for.
    pub fn kind(&self) -> Answer<Kind> {
        Kind::parse(&self.kind)
    }

    /// The body of the act, without the credential, after the strict reading of what came.
    pub fn act_body(&self) -> Answer<String> {
        strict_json::check_object(self.data.get())
            .map_err(|error| body::refused(Code::InvalidBody, &error))?;
        serde_json::to_string(&self.members).map_err(|_| Problem::internal())
    }

    /// Whether the end is to be told too.
    pub fn wants_finished(&self, kind: Kind) -> Answer<bool> {
        match (self.finished.as_deref(), kind) {
            (None, _) => Ok(false),
            (Some("finished"), Kind::Start) => Ok(true),
            (Some("finished"), _) => Err(Problem::new(Code::InvalidBody, "`reply`: only a start has an end")),
            (Some(_), _) => Err(Problem::new(Code::InvalidBody, "`reply`: it may be `finished`")),
        }
    }
}

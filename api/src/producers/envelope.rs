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
use holdpoint_engine::redact::FORWARDED;
use holdpoint_engine::strict_json;
use holdpoint_engine::trace::Traceparent;
use holdpoint_queue::Delivery;
use http::StatusCode;
use serde::Deserialize;

use crate::auth::{END_USER, bearer_of};
use crate::body;
use crate::problem::{Answer, Code, Problem};
use crate::spans::TRACEPARENT;

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
    Complete,
    Fail,
    Heartbeat,
}

impl Kind {
    const ALL: [Kind; 7] =
        [Kind::Start, Kind::Decide, Kind::Cancel, Kind::Signal, Kind::Complete, Kind::Fail, Kind::Heartbeat];

    /// The word in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Decide => "decide",
            Kind::Cancel => "cancel",
            Kind::Signal => "signal",
            Kind::Complete => "task_complete",
            Kind::Fail => "task_fail",
            Kind::Heartbeat => "task_heartbeat",
        }
    }

    /// The type of its first version, without the version.
    const fn name(self) -> &'static str {
        match self {
            Kind::Start => "holdpoint.execution.start",
            Kind::Decide => "holdpoint.approval.decide",
            Kind::Cancel => "holdpoint.execution.cancel",
            Kind::Signal => "holdpoint.signal.deliver",
            Kind::Complete => "holdpoint.task.complete",
            Kind::Fail => "holdpoint.task.fail",
            Kind::Heartbeat => "holdpoint.task.heartbeat",
        }
    }

    /// The kind of that type.
    fn parse(kind: &str) -> Answer<Self> {
        let shown: String = kind.chars().take(128).collect();
        let unknown = || {
            let known = Kind::ALL.map(|kind| format!("{}.v1", kind.name())).join(", ");
            Problem::new(
                Code::UnknownType,
                format!("`{shown}` is no type of command: it may be one of {known}"),
            )
        };
        let (name, version) = kind.rsplit_once(".v").ok_or_else(unknown)?;
        let found = Kind::ALL.into_iter().find(|one| one.name() == name).ok_or_else(unknown)?;
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
    /// What tells this message from others, in hex: the same again has the same. Of the headers
    /// only whose it is counts: the broker changes others each time that it delivers a message.
    pub fn fingerprint(&self) -> String {
        let properties = [self.message_id.as_deref(), self.kind.as_deref(), self.app_id.as_deref()];
        let whose = [self.header("authorization"), self.header(END_USER)];
        let texts = properties.into_iter().chain(whose).map(|text| text.unwrap_or_default().as_bytes());
        let parts: String = texts.chain([&self.body[..]]).map(sha256_hex).collect();
        sha256_hex(parts.as_bytes())
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

    /// The trace that the producer began.
    pub fn trace(&self) -> Option<Traceparent> {
        Traceparent::parse(self.header(TRACEPARENT)?)
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
    // An array would be read as the attributes in our order.
    if !text.trim_start().starts_with('{') {
        return Err(undecodable("a CloudEvent is a JSON object"));
    }
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

    /// The headers for tools in the body, as they were written there.
    pub fn forwarded(&self) -> Option<&str> {
        Some(self.members.as_ref()?.get(FORWARDED)?.get())
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

#[cfg(test)]
mod tests {
    use super::*;

    const START: &str = "holdpoint.execution.start.v1";

    fn plain(body: &str) -> Incoming {
        Incoming {
            body: Bytes::from(body.to_owned()),
            kind: Some(START.to_owned()),
            message_id: Some("m-1".to_owned()),
            ..Incoming::default()
        }
    }

    fn cloud(body: &str) -> Incoming {
        let content_type = Some(format!("{CLOUD_EVENT}; charset=utf-8"));
        Incoming { body: Bytes::from(body.to_owned()), content_type, ..Incoming::default() }
    }

    fn code(message: &Incoming) -> Code {
        message.read(1_000).and_then(|envelope| envelope.kind()).expect_err("refused").code()
    }

    #[test]
    fn both_forms_say_the_same() {
        let data = r#"{"api_key":"k","workflow":"w","input":{"b":1,"a":2.50}}"#;
        let event = format!(
            r#"{{"specversion":"1.0","id":"m-1","source":"amqp","type":"{START}","data":{data},"other":1}}"#
        );
        for message in [plain(data), cloud(&event)] {
            let envelope = message.read(1_000).expect("read");
            assert_eq!(envelope.key, CommandKey { source: "amqp".to_owned(), id: "m-1".to_owned() });
            assert_eq!(envelope.kind().expect("known"), Kind::Start);
            assert_eq!(envelope.api_key().as_deref(), Some("k"));
            // The credential is out, and what is left keeps its bytes.
            let body = envelope.act_body().expect("strict");
            assert!(!body.contains("api_key") && body.contains(r#"{"b":1,"a":2.50}"#), "{body}");
            assert!(!envelope.wants_finished(Kind::Start).expect("fine"));
        }
        let named = Incoming { app_id: Some("shop".to_owned()), ..plain(data) };
        assert_eq!(named.read(1_000).expect("read").key.source, "shop");
    }

    #[test]
    fn what_is_wrong_with_a_message_has_a_code() {
        let event = |id: &str, kind: &str| {
            cloud(&format!(r#"{{"specversion":"1.0","id":"{id}","source":"s","type":"{kind}","data":{{}}}}"#))
        };
        assert_eq!(code(&event(&"x".repeat(256), START)), Code::Undecodable);
        assert_eq!(code(&event("", START)), Code::Undecodable);
        assert_eq!(code(&event("a", "holdpoint.execution.start.v2")), Code::UnsupportedVersion);
        for unknown in ["", "holdpoint.execution.start", "holdpoint.execution.start.vx", "other.v1"] {
            assert_eq!(code(&event("a", unknown)), Code::UnknownType, "{unknown}");
        }
        let binary = Incoming { body: Bytes::from_static(b"\xff"), ..plain("") };
        let nameless = Incoming { message_id: None, ..plain("{}") };
        let other = Incoming { content_type: Some("text/plain".to_owned()), ..plain("{}") };
        let old = cloud(r#"{"specversion":"0.3","id":"a","source":"s","type":"t","data":{}}"#);
        for message in [binary, nameless, other, old, plain("{"), plain(""), cloud("{}"), cloud("[]")] {
            assert_eq!(code(&message), Code::Undecodable, "{message:?}");
        }
        assert_eq!(code(&plain(&" ".repeat(1_001))), Code::Limit);
    }

    #[test]
    fn an_act_is_read_strictly() {
        for bad in [r#"{"a":1,"a":2}"#, r#"{"a":"\u0000"}"#, "7", "[]"] {
            let envelope = plain(bad).read(1_000).expect("read");
            assert_eq!(envelope.act_body().expect_err(bad).code(), Code::InvalidBody);
        }
    }

    #[test]
    fn only_a_start_is_told_of_an_end() {
        let headers = BTreeMap::from([("X-Holdpoint-Reply".to_owned(), "finished".to_owned())]);
        let envelope = Incoming { headers, ..plain("{}") }.read(1_000).expect("read");
        assert!(envelope.wants_finished(Kind::Start).expect("fine"));
        assert!(envelope.wants_finished(Kind::Cancel).is_err());
        let event = format!(
            r#"{{"specversion":"1.0","id":"a","source":"s","type":"{START}","data":{{}},"reply":"later"}}"#
        );
        assert!(cloud(&event).read(1_000).expect("read").wants_finished(Kind::Start).is_err());
    }

    #[test]
    fn a_fingerprint_is_of_the_message_and_not_of_its_delivery() {
        let with = |name: &str, value: &str| {
            let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            Incoming { headers, ..plain("{}") }.fingerprint()
        };
        assert_eq!(with("x-delivery-count", "1"), with("x-delivery-count", "2"));
        assert_ne!(with("authorization", "Bearer a"), with("authorization", "Bearer b"));
        let other = Incoming { message_id: Some("m-2".to_owned()), ..plain("{}") };
        assert_ne!(other.fingerprint(), plain("{}").fingerprint());
        assert_ne!(plain("{} ").fingerprint(), plain("{}").fingerprint());
    }
}

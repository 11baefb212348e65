//! Messages that cannot be carried out, as they are kept: with the reason, without credentials.

use std::collections::BTreeMap;

use bytes::Bytes;
use holdpoint_db::ParkedMessage;
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::ids::ParkedId;
use holdpoint_engine::redact::{FORWARDED, REMOVED, forwarded_in, keys_out, keys_out_of};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::MAX_BODY;
use serde::{Deserialize, Serialize};

use super::carry_out::Judged;
use super::envelope::Incoming;
use crate::problem::Problem;

/// Headers that may hold a credential; of one that is no key of ours only the name is kept.
const CREDENTIALS: &[&str] = &["authorization", "api_key", "api-key", "x-api-key"];

/// The longest text of a header or property that is kept, in characters.
const LONGEST: usize = 1_000;

/// What a message carries beside its headers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Properties {
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
}

/// The message as it is kept. The same message again has the same id.
pub fn parked(message: &Incoming, judged: &Judged, problem: &Problem) -> ParkedMessage {
    let (scope, key) = judged.owner.clone().unzip();
    let kept = |text: &Option<String>| text.as_deref().map(clean);
    let properties = Properties {
        content_type: kept(&message.content_type),
        correlation_id: kept(&message.correlation_id),
        reply_to: kept(&message.reply_to),
        app_id: kept(&message.app_id),
    };
    let small = Some(&message.body).filter(|body| body.len() <= MAX_BODY);
    let body = small.and_then(|body| redacted(body, judged));
    ParkedMessage {
        id: ParkedId::of_digest(&message.fingerprint()),
        scope,
        queue: message.queue.clone(),
        message_id: judged.id.as_deref().map(clean),
        kind: kept(&judged.type_name),
        code: problem.code().as_str().to_owned(),
        reason: clean(problem.detail()),
        key,
        properties: serde_json::to_string(&properties).unwrap_or_default(),
        headers: headers(&message.headers),
        body,
        body_bytes: message.body.len() as i64,
        body_digest: sha256_hex(&message.body),
        parked_at: Timestamp::default(),
    }
}

/// The message as it came, but for its credential; `None` where its body was too large to keep.
pub fn unparked(row: &ParkedMessage) -> Option<Incoming> {
    let properties: Properties = serde_json::from_str(&row.properties).unwrap_or_default();
    Some(Incoming {
        body: Bytes::from(row.body.clone()?),
        kind: row.kind.clone(),
        message_id: row.message_id.clone(),
        content_type: properties.content_type,
        correlation_id: properties.correlation_id,
        reply_to: properties.reply_to,
        app_id: properties.app_id,
        headers: serde_json::from_str(&row.headers).unwrap_or_default(),
        queue: row.queue.clone(),
    })
}

fn headers(came: &BTreeMap<String, String>) -> String {
    let kept: BTreeMap<String, String> = came
        .iter()
        .map(|(name, value)| {
            let out = keys_out_of(value);
            let secret = CREDENTIALS.contains(&name.to_ascii_lowercase().as_str());
            // With a key of ours in it, its id stands there now, and says whose it was.
            (clean(name), if secret && out == *value { REMOVED.to_owned() } else { clean(&out) })
        })
        .collect();
    serde_json::to_string(&kept).unwrap_or_default()
}

/// The body without keys, without what stood in the place of one, and without the values of
/// headers for tools. Where those are named and not found, it is not kept at all.
fn redacted(body: &[u8], judged: &Judged) -> Option<Vec<u8>> {
    let mut kept = keys_out(body);
    match (forwarded_in(body), &judged.forwarded) {
        (0, None) => {}
        (1, Some(written)) => kept = without_forwarded(kept, &keys_out_of(written))?,
        _ => return None,
    }
    match judged.written_key.as_deref() {
        Some(written) if written.len() > 2 && written.starts_with('"') && keys_out_of(written) == written => {
            let text = String::from_utf8(kept).ok()?;
            Some(text.replace(written, &quoted_removed()).into_bytes())
        }
        _ => Some(kept),
    }
}

/// In place of the headers stands a word that no start takes: such a message cannot be taken in
/// again by mistake without them.
fn without_forwarded(body: Vec<u8>, written: &str) -> Option<Vec<u8>> {
    let mut text = String::from_utf8(body).ok()?;
    let named = text.find(FORWARDED)?;
    let from = named + text[named..].find(written)?;
    text.replace_range(from..from + written.len(), &quoted_removed());
    Some(text.into_bytes())
}

fn quoted_removed() -> String {
    format!("\"{REMOVED}\"")
}

/// What a text column can hold.
fn clean(text: &str) -> String {
    keys_out_of(text).chars().filter(|c| *c != '\0').take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::Code;

    fn message(body: &str) -> Incoming {
        Incoming {
            body: Bytes::from(body.to_owned()),
            kind: Some("holdpoint.execution.start.v1".to_owned()),
            message_id: Some("m\0-1".to_owned()),
            app_id: Some("shop".to_owned()),
            reply_to: Some("answers".to_owned()),
            headers: BTreeMap::from([("Authorization".to_owned(), "Basic hunter2".to_owned())]),
            queue: "q".to_owned(),
            ..Incoming::default()
        }
    }

    fn kept(message: &Incoming, written_key: Option<&str>) -> ParkedMessage {
        let judged = Judged { written_key: written_key.map(str::to_owned), ..Judged::unread(message) };
        parked(message, &judged, &Problem::new(Code::Undecodable, "why"))
    }

    #[test]
    fn what_stood_in_the_place_of_a_key_is_removed() {
        let row = kept(&message(r#"{"api_key":"hunter2","a":1}"#), Some(r#""hunter2""#));
        assert_eq!(row.body.as_deref(), Some(&br#"{"api_key":"removed","a":1}"#[..]));
        assert!(row.headers.contains("removed") && !row.headers.contains("hunter2"));
        assert_eq!((row.code.as_str(), row.message_id.as_deref()), ("undecodable", Some("m-1")));
    }

    #[test]
    fn headers_for_tools_are_never_kept() {
        let forwarded = Some(r#"{"x-token":"sesame"}"#.to_owned());
        let keep = |body: &str, forwarded: Option<String>| {
            let message = message(body);
            let judged = Judged { forwarded, ..Judged::unread(&message) };
            let kept = parked(&message, &judged, &Problem::new(Code::Undecodable, "why")).body?;
            String::from_utf8(kept).ok()
        };
        let body = r#"{"input":{"x-token":"sesame?"},"forwarded_headers":{"x-token":"sesame"}}"#;
        let kept = keep(body, forwarded.clone());
        assert_eq!(kept.as_deref(), Some(r#"{"input":{"x-token":"sesame?"},"forwarded_headers":"removed"}"#));
        // Not read, or there twice: nothing says where they end.
        assert_eq!(keep(body, None), None);
        assert_eq!(keep(&format!("[{body},{body}]"), forwarded), None);
    }

    #[test]
    fn a_large_body_is_kept_by_its_digest() {
        let row = kept(&message(&"x".repeat(MAX_BODY + 1)), None);
        assert_eq!((row.body.as_ref(), row.body_bytes), (None, MAX_BODY as i64 + 1));
        assert!(unparked(&row).is_none());
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let message = Incoming { message_id: Some("m".to_owned()), ..message("{}") };
        let back = unparked(&kept(&message, None)).expect("its body was kept");
        assert_eq!(
            (&back.kind, &back.message_id, &back.app_id),
            (&message.kind, &message.message_id, &message.app_id)
        );
        assert_eq!(
            (&back.body, &back.reply_to, &back.content_type),
            (&message.body, &message.reply_to, &None)
        );
    }
}

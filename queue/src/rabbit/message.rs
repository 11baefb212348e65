//! Between our messages and AMQP's.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::topology::Address;
use crate::{Delivery, Outgoing, Tag};

/// AMQP's delivery modes.
const TRANSIENT: u8 = 1;
const PERSISTENT: u8 = 2;

/// The properties of a message; `None` if one of them is longer than AMQP can carry.
pub(super) fn properties(message: &Outgoing, address: &Address) -> Option<BasicProperties> {
    let mode = if address.persistent { PERSISTENT } else { TRANSIENT };
    let properties = BasicProperties::default()
        .with_type(ShortString::try_new(message.kind).ok()?)
        .with_message_id(ShortString::try_new(message.id.as_str()).ok()?)
        .with_content_type(message.content_type.into())
        .with_delivery_mode(mode);
    let properties = match &message.traceparent {
        Some(traceparent) => properties.with_headers(traced(traceparent)),
        None => properties,
    };
    match &message.correlation_id {
        Some(id) => Some(properties.with_correlation_id(ShortString::try_new(id.as_str()).ok()?)),
        None => Some(properties),
    }
}

/// W3C's name for it, which is also that of OpenTelemetry's for AMQP.
fn traced(traceparent: &str) -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(traceparent.into()));
    headers
}

/// What came, as the queue's users see it. Nothing is taken for granted: the producer may be
/// a stranger.
pub(super) fn delivery(queue: &str, generation: u64, came: lapin::message::Delivery) -> Delivery {
    let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string);
    Delivery {
        kind: text(came.properties.kind()),
        message_id: text(came.properties.message_id()),
        content_type: text(came.properties.content_type()),
        correlation_id: text(came.properties.correlation_id()),
        reply_to: text(came.properties.reply_to()),
        app_id: text(came.properties.app_id()),
        headers: came.properties.headers().as_ref().map(headers).unwrap_or_default(),
        queue: queue.to_owned(),
        redelivered: came.redelivered,
        tag: Tag { generation, tag: came.delivery_tag },
        body: came.data.into(),
    }
}

fn headers(table: &FieldTable) -> BTreeMap<String, String> {
    table.into_iter().map(|(name, value)| (name.to_string(), as_text(value))).collect()
}

/// Texts as they are, numbers in digits, and what has parts as lapin's JSON for it.
fn as_text(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        AMQPValue::ByteArray(bytes) => String::from_utf8_lossy(bytes.as_slice()).into_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(number) => number.to_string(),
        AMQPValue::ShortShortUInt(number) => number.to_string(),
        AMQPValue::ShortInt(number) => number.to_string(),
        AMQPValue::ShortUInt(number) => number.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::LongUInt(number) => number.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::Float(number) => number.to_string(),
        AMQPValue::Double(number) => number.to_string(),
        AMQPValue::Timestamp(seconds) => seconds.to_string(),
        AMQPValue::Void => String::new(),
        AMQPValue::DecimalValue(_) | AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) => {
            serde_json::to_string(value).unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_text() {
        let mut table = FieldTable::default();
        table.insert("text".into(), AMQPValue::LongString("a".into()));
        table.insert("number".into(), AMQPValue::LongLongInt(-7));
        table.insert("flag".into(), AMQPValue::Boolean(true));
        table.insert("nothing".into(), AMQPValue::Void);
        let shown = headers(&table);
        let got: Vec<_> = ["text", "number", "flag", "nothing"].map(|name| shown[name].as_str()).into();
        assert_eq!(got, ["a", "-7", "true", ""]);
    }

    #[test]
    fn an_id_that_amqp_cannot_carry_is_refused_not_cut() {
        let address = Address { exchange: "".into(), key: "".into(), persistent: true, mandatory: true };
        let message = |id: String| Outgoing::new(crate::Route::Sweeps, "sweep", id, "");
        assert!(properties(&message("x".repeat(255)), &address).is_some());
        assert!(properties(&message("x".repeat(256)), &address).is_none());
        let reply = |id: String| Outgoing { correlation_id: Some(id), ..message(String::new()) };
        assert!(properties(&reply("x".repeat(255)), &address).is_some());
        assert!(properties(&reply("x".repeat(256)), &address).is_none());
    }
}

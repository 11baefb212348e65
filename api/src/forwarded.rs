//! `forwarded_headers` of a body: checked, and sealed for the execution that they are for. A
//! value stands in no problem: what is wrong with one is told by its name.

use std::collections::BTreeMap;
use std::fmt;

use holdpoint_engine::definition::{is_header_name, may_forward};
use holdpoint_engine::entry::Json;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_perform::{ForwardedHeaders, Performer, SealError};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::problem::{Answer, Code, Problem};

/// The member as it came. Its values do not show in a debug output.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Unchecked(#[schemars(with = "BTreeMap<String, String>")] Json);

impl fmt::Debug for Unchecked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("forwarded_headers")
    }
}

/// The headers of a body, as far as that needs nothing else.
pub fn check(given: Option<&Unchecked>, limits: &Limits) -> Answer<ForwardedHeaders> {
    let Some(Unchecked(given)) = given else { return Ok(ForwardedHeaders::default()) };
    let given: Option<Map<String, Value>> = serde_json::from_str(given.get())
        .map_err(|_| invalid("forwarded_headers", "it may be an object of texts by header name"))?;
    let given = given.unwrap_or_default();
    within(&given, limits)?;
    let mut headers = ForwardedHeaders::default();
    for (name, value) in &given {
        let shown: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
        let place = format!("forwarded_headers.{shown}");
        let value = check_one(&place, name, value)?;
        if !headers.insert(name, value) {
            return Err(invalid(&place, "stands twice: names of headers have no case"));
        }
    }
    Ok(headers)
}

fn within(given: &Map<String, Value>, limits: &Limits) -> Answer<()> {
    let passed = |name, may, is: usize, what| {
        let detail = format!("`forwarded_headers` has {is} {what}; it may have {may}");
        let problem = Problem::limit(StatusCode::UNPROCESSABLE_ENTITY, name, may, detail);
        Err(problem.with("field", "forwarded_headers"))
    };
    if given.len() > limits.forwarded_headers {
        return passed("forwarded_headers", limits.forwarded_headers, given.len(), "headers");
    }
    let value_bytes = |value: &Value| value.as_str().map_or(0, str::len);
    let bytes = given.iter().map(|(name, value)| name.len() + value_bytes(value)).sum();
    if bytes > limits.forwarded_header_bytes {
        return passed("forwarded_header_bytes", limits.forwarded_header_bytes, bytes, "bytes in all");
    }
    Ok(())
}

fn check_one<'a>(place: &str, name: &str, value: &'a Value) -> Answer<&'a str> {
    if !is_header_name(name) {
        return Err(invalid(place, "it is not a header name"));
    }
    if !may_forward(&name.to_ascii_lowercase()) {
        return Err(invalid(place, "it is set by Holdpoint or by the connection; leave it out"));
    }
    let Some(value) = value.as_str() else { return Err(invalid(place, "it may be a text")) };
    if let Some(at) = value.bytes().position(|byte| !(0x20..0x7f).contains(&byte)) {
        return Err(invalid(place, format!("byte {at} is no visible ASCII and no space")));
    }
    Ok(value)
}

fn invalid(place: &str, detail: impl fmt::Display) -> Problem {
    Problem::new(Code::InvalidBody, format!("`{place}`: {detail}")).with("field", place)
}

/// Sealed for this execution; `None` where there is nothing to seal.
pub fn seal(
    performer: &Performer,
    key: &ExecutionKey,
    headers: &ForwardedHeaders,
) -> Answer<Option<Vec<u8>>> {
    if headers.is_empty() {
        return Ok(None);
    }
    performer.seal(key, headers).map(Some).map_err(|error| match error {
        SealError::NoKey => Problem::new(
            Code::ForwardedHeadersUnavailable,
            "`forwarded_headers`: no key is configured to keep them with; the setting is outbound.seal_keys",
        )
        .with("field", "forwarded_headers"),
        SealError::NoRandomness => Problem::new(Code::Internal, "the headers could not be sealed"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(given: &Value) -> Answer<ForwardedHeaders> {
        let given: Unchecked = serde_json::from_value(given.clone()).expect("any JSON");
        check(Some(&given), &Limits::default())
    }

    fn problem(given: Value) -> Value {
        checked(&given).expect_err("refused").document()
    }

    #[test]
    fn good_ones_are_taken() {
        for good in [json!({}), json!(null), json!({"X-A": "b", "authorization": "Bearer x", "cookie": ""})] {
            assert!(checked(&good).is_ok(), "{good}");
        }
        assert!(check(None, &Limits::default()).expect("none").is_empty());
    }

    #[test]
    fn bad_ones_are_told_by_their_name_and_never_by_their_value() {
        for (given, place) in [
            (json!({"connection": "sesame"}), "forwarded_headers.connection"),
            (json!({"Transfer-Encoding": "sesame"}), "forwarded_headers.Transfer-Encoding"),
            (json!({"Host": "sesame"}), "forwarded_headers.Host"),
            (json!({"content-length": "sesame"}), "forwarded_headers.content-length"),
            (json!({"X-Holdpoint-End-User": "sesame"}), "forwarded_headers.X-Holdpoint-End-User"),
            (json!({"idempotency-key": "sesame"}), "forwarded_headers.idempotency-key"),
            (json!({"x a": "sesame"}), "forwarded_headers.x a"),
            (json!({"": "sesame"}), "forwarded_headers."),
            (json!({"x-a": "sesame\r\nx-b: c"}), "forwarded_headers.x-a"),
            (json!({"x-a": "sesame\t"}), "forwarded_headers.x-a"),
            (json!({"x-a": "sesame\u{7f}"}), "forwarded_headers.x-a"),
            (json!({"x-a": "sesamé"}), "forwarded_headers.x-a"),
            (json!({"x-a": ["sesame"]}), "forwarded_headers.x-a"),
            (json!({"x-a": 5_318_008}), "forwarded_headers.x-a"),
            (json!({"x-a": "sesame", "X-A": "sesame"}), "forwarded_headers.x-a"),
            (json!("sesame"), "forwarded_headers"),
            (json!(["sesame"]), "forwarded_headers"),
        ] {
            let document = problem(given.clone());
            assert_eq!(document["code"], "invalid_body", "{given}");
            assert_eq!(document["field"], place, "{given}");
            let text = document.to_string();
            assert!(!text.contains("sesam") && !text.contains("5318008"), "{text}");
        }
    }

    #[test]
    fn they_are_bounded() {
        let many = |count: usize| (0..count).map(|n| (format!("x-{n}"), json!(""))).collect::<Map<_, _>>();
        assert!(checked(&Value::Object(many(32))).is_ok());
        assert_eq!(problem(Value::Object(many(33)))["limit"], "forwarded_headers");
        assert!(checked(&json!({"x-a": "y".repeat(8 * 1024 - 3)})).is_ok());
        assert_eq!(problem(json!({"x-a": "y".repeat(8 * 1024 - 2)}))["limit"], "forwarded_header_bytes");
    }
}

//! A strict reading of JSON whose bytes matter: what is shown to a person must be what a
//! tool reads, so whatever two readers could read differently is refused, with the JSON
//! pointer (RFC 6901) to it.

use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep arrays and objects may nest.
pub const MAX_NESTING: usize = 64;

/// What is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at `{pointer}`")]
pub struct StrictError {
    /// RFC 6901; empty for the whole document.
    pub pointer: String,
    /// One clause for a person.
    pub message: String,
    /// The limit that was passed and its value, where it is one.
    pub limit: Option<(&'static str, usize)>,
}

/// Checks a document: well-formed, no duplicate key, no `\u0000`, no lone surrogate, no
/// nesting deeper than [`MAX_NESTING`], no number beyond a 64-bit integer or a double.
pub fn check(text: &str) -> Result<(), StrictError> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| at("", error))?;
    check_value(raw.get(), "", 0)
}

/// As [`check`], and the document must be an object.
pub fn check_object(text: &str) -> Result<(), StrictError> {
    check(text)?;
    if text.trim_start().starts_with('{') {
        return Ok(());
    }
    Err(at("", "a JSON object is needed"))
}

fn at(pointer: &str, message: impl fmt::Display) -> StrictError {
    StrictError { pointer: pointer.to_owned(), message: message.to_string(), limit: None }
}

fn beyond(limit: (&'static str, usize), pointer: &str, message: impl fmt::Display) -> StrictError {
    StrictError { limit: Some(limit), ..at(pointer, message) }
}

fn check_value(text: &str, pointer: &str, depth: usize) -> Result<(), StrictError> {
    match text.as_bytes().first() {
        Some(b'{' | b'[') if depth >= MAX_NESTING => {
            Err(beyond(("nesting", MAX_NESTING), pointer, format!("nesting deeper than {MAX_NESTING}")))
        }
        Some(b'{') => check_object_members(text, pointer, depth),
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| at(pointer, e))?;
            items
                .iter()
                .enumerate()
                .try_for_each(|(i, item)| check_value(item.get(), &format!("{pointer}/{i}"), depth + 1))
        }
        Some(b'"') => {
            let string: String = serde_json::from_str(text).map_err(|e| at(pointer, e))?;
            check_string(&string, pointer)
        }
        Some(b'-' | b'0'..=b'9') => check_number(text, pointer),
        _ => Ok(()),
    }
}

fn check_object_members(text: &str, pointer: &str, depth: usize) -> Result<(), StrictError> {
    let members = members(text).map_err(|e| at(pointer, e))?;
    let mut seen = std::collections::HashSet::new();
    for (key, value) in &members {
        let below = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
        check_string(key, &below)?;
        if !seen.insert(key.as_str()) {
            return Err(at(&below, "a key that stands twice"));
        }
        check_value(value.get(), &below, depth + 1)?;
    }
    Ok(())
}

fn check_string(string: &str, pointer: &str) -> Result<(), StrictError> {
    if string.contains('\0') {
        return Err(at(pointer, "the character \\u0000"));
    }
    Ok(())
}

fn check_number(text: &str, pointer: &str) -> Result<(), StrictError> {
    let whole = text.bytes().all(|b| b == b'-' || b.is_ascii_digit());
    let held = if whole {
        text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok()
    } else {
        text.parse::<f64>().is_ok_and(f64::is_finite)
    };
    if held {
        return Ok(());
    }
    Err(beyond(("number_bits", 64), pointer, "a number beyond what a 64-bit integer or a double holds"))
}

/// All members of an object's text in order, duplicates too.
pub(crate) fn members(text: &str) -> serde_json::Result<Vec<(String, &RawValue)>> {
    serde_json::Deserializer::from_str(text).deserialize_map(Members)
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_documents_pass() {
        for text in [
            "{}",
            " { \"a\" : [1, -2, 3.5e10, \"\\u00e4\\ud83d\\ude00\", null, true] } ",
            "18446744073709551615",
            "-9223372036854775808",
            "\"x\"",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn what_two_readers_could_read_differently_is_refused_with_its_place() {
        let table = [
            ("{\"a\":1,\"a\":2}", "/a", "twice"),
            ("{\"a\":{\"b\":[{\"c\":1,\"\\u0063\":2}]}}", "/a/b/0/c", "twice"),
            ("{\"x/y\":{\"~\":\"\\u0000\"}}", "/x~1y/~0", "u0000"),
            ("{\"a\\u0000\":1}", "/a\0", "u0000"),
            ("[1, \"\\ud800\"]", "/1", "hex escape"),
            ("[12345678901234567890123]", "/0", "number"),
            ("[1e131071]", "/0", "number"),
        ];
        for (text, pointer, message) in table {
            let error = check(text).expect_err(text);
            assert_eq!(error.pointer, pointer, "{text}");
            assert!(error.message.contains(message), "{text}: {error}");
        }
        for text in ["", "{", "{} {}", "nul", "{\"a\":01}"] {
            assert!(check(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_without_a_stack_overflow() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(64)), Ok(()));
        assert!(check(&nested(65)).is_err());
        assert!(check(&nested(100_000)).is_err());
    }

    #[test]
    fn arguments_are_objects() {
        assert!(check_object(" {}").is_ok());
        assert!(check_object("[]").is_err());
        assert!(check_object("").is_err());
    }
}

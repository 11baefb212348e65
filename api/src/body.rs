//! Bodies: bounded in length and time, JSON, strict. What two readers could read
//! differently (duplicate keys, lone surrogates, numbers that no double holds) and what a
//! database text cannot hold (`\u0000`) is refused with its place; unknown fields are too.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use holdpoint_engine::strict_json::{self, StrictError};
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::app::App;
use crate::problem::{Answer, Code, Problem};
use std::sync::Arc;

/// The raw bytes of a JSON body; empty where there was none.
pub struct RawBody(pub Bytes);

impl FromRequest<Arc<App>> for RawBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Answer<Self> {
        let (headers, bytes) = collect(request, app).await?;
        check_type(&headers, &bytes)?;
        Ok(Self(bytes))
    }
}

/// A body that is a document, JSON or YAML.
pub struct DocumentBody(Bytes);

impl FromRequest<Arc<App>> for DocumentBody {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Answer<Self> {
        let (headers, bytes) = collect(request, app).await?;
        if !essence(&headers).is_some_and(|essence| is_yaml(&essence)) {
            check_type(&headers, &bytes).map_err(|_| {
                let detail = "send `Content-Type: application/yaml` or `application/json`";
                Problem::new(Code::UnsupportedMediaType, detail)
            })?;
        }
        Ok(Self(bytes))
    }
}

impl DocumentBody {
    /// The document as text.
    pub fn text(&self) -> Answer<&str> {
        text(&self.0)
    }
}

async fn collect(request: Request, app: &App) -> Answer<(HeaderMap, Bytes)> {
    let (limit, patience) = (app.settings.body_bytes, app.settings.idle_timeout_ms);
    let (parts, body) = request.into_parts();
    if declared_length(&parts.headers).is_some_and(|length| length > limit as u64) {
        return Err(too_long(limit));
    }
    let reading = Limited::new(body, limit).collect();
    match tokio::time::timeout(Duration::from_millis(patience), reading).await {
        Err(_) => Err(Problem::new(Code::RequestTimeout, "the body did not come in time")),
        Ok(Err(error)) if error.downcast_ref::<LengthLimitError>().is_some() => Err(too_long(limit)),
        Ok(Err(_)) => Err(Problem::new(Code::InvalidBody, "the body broke off")),
        Ok(Ok(body)) => Ok((parts.headers, body.to_bytes())),
    }
}

/// The content type without its parameters.
fn essence(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().unwrap_or("");
    Some(value.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
}

fn is_yaml(essence: &str) -> bool {
    let known = ["application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"];
    known.contains(&essence) || (essence.starts_with("application/") && essence.ends_with("+yaml"))
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_long(limit: usize) -> Problem {
    let detail = format!("the body has more than {limit} bytes");
    Problem::limit(StatusCode::PAYLOAD_TOO_LARGE, "body_bytes", limit, detail)
}

/// No content type at all is taken for JSON; another one is refused.
fn check_type(headers: &HeaderMap, bytes: &Bytes) -> Answer<()> {
    let Some(essence) = essence(headers).filter(|_| !bytes.is_empty()) else {
        return Ok(());
    };
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, "send `Content-Type: application/json`"))
}

impl RawBody {
    /// Reads it as a `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Answer<T> {
        read(text(&self.0)?)
    }

    /// As [`RawBody::read`]; no body at all is `{}`.
    pub fn read_or_empty<T: DeserializeOwned>(&self) -> Answer<T> {
        if self.0.is_empty() { read("{}") } else { self.read() }
    }

    /// The body as text.
    pub fn text(&self) -> Answer<&str> {
        text(&self.0)
    }
}

/// A body without members.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoMembers {}

fn text(bytes: &[u8]) -> Answer<&str> {
    std::str::from_utf8(bytes).map_err(|error| {
        Problem::new(Code::InvalidBody, format!("the body is not UTF-8 at byte {}", error.valid_up_to()))
    })
}

/// Reads a document as a `T`: strictly, and saying which field is wrong.
pub fn read<T: DeserializeOwned>(text: &str) -> Answer<T> {
    // Objects only: serde would read an array as a struct, field by field in our order.
    strict_json::check_object(text).map_err(|error| refused(Code::InvalidBody, &error))?;
    // The reader that knows the path is slower: only a body that cannot be read needs it.
    serde_json::from_str(text).or_else(|_| {
        let mut reader = serde_json::Deserializer::from_str(text);
        serde_path_to_error::deserialize(&mut reader).map_err(|error| field_error(&error))
    })
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let field = error.path().to_string();
    if field == "." {
        return Problem::new(Code::InvalidBody, format!("the body: {}", error.inner()));
    }
    let detail = format!("`{field}`: {}", error.inner());
    Problem::new(Code::InvalidBody, detail).with("field", field)
}

/// A document that a strict reader refuses: a limit by its name and value, the rest by `code`.
pub fn refused(code: Code, error: &StrictError) -> Problem {
    let detail = format!("{} at `{}`", error.message, error.pointer);
    let problem = match error.limit {
        Some((name, value)) => Problem::limit(StatusCode::UNPROCESSABLE_ENTITY, name, value, detail),
        None => Problem::new(code, detail),
    };
    problem.with("pointer", error.pointer.as_str())
}

/// One value that is longer than the limit on values.
pub fn check_value(name: &str, bytes: usize, limit: usize) -> Answer<()> {
    if bytes <= limit {
        return Ok(());
    }
    let detail = format!("`{name}` has {bytes} bytes; one value may have {limit}");
    Err(Problem::limit(StatusCode::PAYLOAD_TOO_LARGE, "value_bytes", limit, detail).with("field", name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: Option<String>,
        labels: Option<std::collections::BTreeMap<String, String>>,
        raw: Option<Box<RawValue>>,
    }

    fn error(text: &str) -> serde_json::Value {
        read::<Sample>(text).expect_err(text).document()
    }

    #[test]
    fn raw_values_keep_their_bytes() {
        let sample: Sample =
            read("{\"raw\": {\"b\":1, \"a\":  2.50},\"name\":\"x\",\"labels\":{}}").expect("valid");
        assert_eq!(sample.raw.expect("there").get(), "{\"b\":1, \"a\":  2.50}");
        assert!(sample.name.is_some() && sample.labels.is_some());
    }

    #[test]
    fn what_is_wrong_is_named() {
        let table = [
            ("{\"naem\":1}", "unknown field `naem`"),
            ("{\"labels\":{\"a\":1}}", "`labels.a`"),
            ("{\"name\":1}", "expected a string"),
            ("[]", "object"),
            ("[\"a\"]", "object"),
            ("", "EOF while"),
            ("{\"name\":\"a\"} x", "trailing"),
            ("{\"name\":\"a\",\"name\":\"b\"}", "/name"),
            ("{\"raw\":{\"a\":[{\"x\":1,\"x\":2}]}}", "/raw/a/0/x"),
            ("{\"raw\":\"a\\u0000b\"}", "/raw"),
            ("{\"name\":\"\\ud800\"}", "/name"),
        ];
        for (text, expected) in table {
            let document = error(text);
            assert_eq!(document["code"], "invalid_body", "{text}");
            assert!(document["detail"].as_str().is_some_and(|d| d.contains(expected)), "{text}: {document}");
        }
    }

    #[test]
    fn limits_are_told_by_name_and_value() {
        let deep = format!("{{\"raw\":{}{}}}", "[".repeat(64), "]".repeat(64));
        let document = error(&deep);
        assert_eq!(
            (&document["code"], &document["limit"], &document["value"]),
            (&"limit".into(), &"nesting".into(), &64.into())
        );
        assert_eq!(error("{\"raw\":12345678901234567890123}")["limit"], "number_bits");
        assert!(check_value("input", 5, 5).is_ok());
        assert_eq!(check_value("input", 6, 5).expect_err("too long").document()["limit"], "value_bytes");
    }
}

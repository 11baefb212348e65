//! What a server answered, and what of it is a call's output.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use holdpoint_engine::entry::Json;
use holdpoint_engine::status::ErrorType;
use holdpoint_engine::workflow::document::HttpOutput;
use reqwest::header::{self, HeaderMap};
use reqwest::{Response, StatusCode};
use serde_json::{Map, Value};

use crate::Fault;
use crate::secrets::Hidden;

/// So much of an error's body is told.
const SAID: usize = 500;

/// An answer, read whole.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// The server, for messages.
    pub server: String,
    pub retry_after: Option<std::time::Duration>,
    /// It is the answer to where a request led that was carried out already.
    pub happened: bool,
    /// What the output `response` tells of the request.
    pub request: Asked,
}

/// The request as its author would know it again: without the header `authorization`, and without
/// what we add.
#[derive(Clone)]
pub(crate) struct Asked {
    pub method: String,
    pub uri: String,
    pub headers: HeaderMap,
}

/// Reads a body up to the limit. A connection that breaks here broke after the request; what is too
/// long says by its status alone whether it was carried out.
pub(super) async fn read(response: Response, limit: usize, what: &str) -> Result<Vec<u8>, Fault> {
    let refused = response.status().is_client_error() || response.status().is_redirection();
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| match error.is_timeout() {
            true => Fault::unknown(ErrorType::Timeout, format!("{what}: its answer did not end in time")),
            false => {
                Fault::unknown(ErrorType::Network, format!("{what}: the connection broke in its answer"))
            }
        })?;
        body.extend_from_slice(&piece);
        if body.len() > limit {
            let message =
                format!("the answer of {what} is longer than the limit value_bytes, which is {limit}");
            let fault = Fault::limit(message);
            return Err(if refused { fault } else { fault.not_definite() });
        }
    }
    Ok(body)
}

impl Answer {
    /// The answer, if it is none of an error. With `redirect`, a 3xx that led nowhere is none.
    /// A 4xx is definite: the server says that it did not do it. A 5xx says nothing of the kind.
    pub fn judged(self, redirect: bool, hidden: &Hidden) -> Result<Self, Fault> {
        let status = self.status.as_u16();
        let accepted = self.status.is_success() || (redirect && self.status.is_redirection());
        if accepted {
            return Ok(self);
        }
        // What is neither success nor error (a 1xx at the end of a call) makes no sense.
        let kind = ErrorType::of_http(status).unwrap_or(ErrorType::Logic);
        let said = hidden.out_of(String::from_utf8_lossy(&self.body).into_owned());
        let said: String = said.trim().chars().take(SAID).collect();
        let said = if said.is_empty() { said } else { format!(": {said}") };
        let message = format!("{} answered {status}{said}", self.server);
        let fault = if status >= 500 || self.happened {
            Fault::unknown(kind, message)
        } else {
            Fault::definite(kind, message)
        };
        let failure = fault.failure.with_status(status);
        Err(Fault { failure, retry_after: self.retry_after, ..fault })
    }

    /// What the task's output is, without anything hidden. The server has done what it was asked
    /// to: an answer that makes no sense does not change that.
    pub fn output(&self, wanted: HttpOutput, hidden: &Hidden) -> Result<Json, Fault> {
        let body = hidden.out_of_bytes(&self.body);
        let value = match wanted {
            HttpOutput::Raw if body.is_empty() => Value::Null,
            HttpOutput::Raw => Value::String(STANDARD.encode(&body)),
            HttpOutput::Content => self.content(&body)?,
            HttpOutput::Response => self.response(&body)?,
        };
        // Once more where it is read: a secret may have come in another spelling of JSON.
        from_text(&hidden.out_of(value.to_string()))
    }

    /// JSON where the answer says that it is; else text; else, where it is no text, base64.
    fn content(&self, body: &[u8]) -> Result<Value, Fault> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        if is_json(&self.headers) {
            return serde_json::from_slice(body).map_err(|error| {
                let server = &self.server;
                let message = format!("{server} answered what its content type calls JSON, but: {error}");
                Fault::unknown(ErrorType::Logic, message)
            });
        }
        Ok(Value::String(std::str::from_utf8(body).map_or_else(|_| STANDARD.encode(body), str::to_owned)))
    }

    fn response(&self, body: &[u8]) -> Result<Value, Fault> {
        Ok(serde_json::json!({
            "request": {
                "method": self.request.method,
                "uri": self.request.uri,
                "headers": shown(&self.request.headers),
            },
            "statusCode": self.status.as_u16(),
            "headers": shown(&self.headers),
            "content": self.content(body)?,
        }))
    }
}

fn from_text(text: &str) -> Result<Json, Fault> {
    serde_json::from_str(text)
        .map_err(|error| Fault::unknown(ErrorType::Logic, format!("the answer makes no sense: {error}")))
}

/// `application/json`, `…+json`.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(names_json)
}

/// Whether a content type is one of JSON.
pub(super) fn names_json(kind: &str) -> bool {
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    kind.split_once('/').is_some_and(|(_, sub)| sub == "json" || sub.ends_with("+json"))
}

/// By lower-case name; several of one name in one text.
fn shown(headers: &HeaderMap) -> Map<String, Value> {
    let mut all = Map::new();
    for name in headers.keys().filter(|name| **name != header::AUTHORIZATION) {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect();
        all.insert(name.as_str().to_owned(), values.join(", ").into());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::effect::Certainty;

    fn answer(status: u16, kind: &str, body: &[u8]) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().expect("a value"));
        let mut sent = HeaderMap::new();
        sent.insert("authorization", "Bearer sesame-street".parse().expect("a value"));
        sent.insert("x-echo", "sesame-street".parse().expect("a value"));
        let request = Asked { method: "GET".into(), uri: "http://a.example/".into(), headers: sent };
        let status = StatusCode::from_u16(status).expect("a status");
        let server = "a.example".to_owned();
        Answer { status, headers, body: body.to_vec(), server, retry_after: None, happened: false, request }
    }

    fn output(answer: &Answer, wanted: HttpOutput) -> Result<String, String> {
        let hidden = Hidden::of(Some("sesame-street"));
        let output = answer.output(wanted, &hidden);
        output.map(|json| json.get().to_owned()).map_err(|fault| fault.failure.message)
    }

    #[test]
    fn content_is_read_by_its_type() {
        let of = |kind: &str, body: &str| output(&answer(200, kind, body.as_bytes()), HttpOutput::Content);
        assert_eq!(of("application/json", r#"{"a": 1}"#), Ok(r#"{"a":1}"#.to_owned()));
        assert_eq!(of("application/problem+json; charset=utf-8", "[1]"), Ok("[1]".to_owned()));
        assert_eq!(of("text/plain", r#"{"a": 1}"#), Ok(r#""{\"a\": 1}""#.to_owned()));
        assert_eq!(of("application/json", " "), Ok("null".to_owned()));
        assert!(of("application/json", "oops").expect_err("no JSON").contains("JSON"));
        assert!(of("application/json", r#""\ud800""#).is_err(), "half a character");
        let image = answer(200, "image/png", &[0xff, 0xfe]);
        assert_eq!(output(&image, HttpOutput::Content), Ok("\"//4=\"".to_owned()));
    }

    #[test]
    fn raw_is_base64_and_a_response_is_all_of_it() {
        let plain = answer(201, "text/plain", b"hi");
        assert_eq!(output(&plain, HttpOutput::Raw), Ok("\"aGk=\"".to_owned()));
        let whole = output(&plain, HttpOutput::Response).expect("a response");
        let whole: Value = serde_json::from_str(&whole).expect("JSON");
        assert_eq!(whole["statusCode"], 201);
        assert_eq!(whole["content"], "hi");
        assert_eq!(whole["headers"]["content-type"], "text/plain");
        assert_eq!(whole["request"]["uri"], "http://a.example/");
        assert!(whole["request"]["headers"].get("authorization").is_none());
        assert_eq!(whole["request"]["headers"]["x-echo"], "[secret]");
    }

    #[test]
    fn secrets_that_come_back_are_hidden_in_every_form() {
        let echo = answer(200, "text/plain", b"\xffsesame-street\xff");
        assert_eq!(
            output(&echo, HttpOutput::Raw),
            Ok(format!("\"{}\"", STANDARD.encode(b"\xff[secret]\xff")))
        );
        let echo = answer(200, "application/json", br#"["\u0073esame-street"]"#);
        for wanted in [HttpOutput::Content, HttpOutput::Response] {
            assert!(!output(&echo, wanted).expect("an output").contains("sesame"));
        }
    }

    #[test]
    fn errors_have_their_status_and_certainty() {
        let hidden = Hidden::of(Some("sesame-street"));
        for (status, redirect, kind, certainty) in [
            (302, false, ErrorType::Logic, Certainty::Definite),
            (401, true, ErrorType::Auth, Certainty::Definite),
            (404, false, ErrorType::Logic, Certainty::Definite),
            (429, false, ErrorType::RateLimit, Certainty::Definite),
            (500, false, ErrorType::Network, Certainty::Unknown),
            (503, true, ErrorType::Network, Certainty::Unknown),
        ] {
            let judged = answer(status, "text/plain", b"no sesame-street").judged(redirect, &hidden);
            let fault = judged.err().expect("an error");
            assert_eq!((fault.failure.kind, fault.certainty), (kind, certainty), "{status}");
            assert_eq!(fault.failure.status, Some(status));
            assert_eq!(fault.failure.message, format!("a.example answered {status}: no [secret]"));
        }
        assert!(answer(304, "text/plain", b"").judged(true, &hidden).is_ok());
        assert!(answer(204, "text/plain", b"").judged(false, &hidden).is_ok());
    }
}

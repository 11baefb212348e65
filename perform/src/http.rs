//! A tool of kind `http`: one request, its body the arguments byte for byte.

use futures_util::StreamExt;
use holdpoint_engine::definition::Method;
use holdpoint_engine::effect::{HttpEffect, Input};
use holdpoint_engine::entry::Json;
use holdpoint_engine::json;
use holdpoint_engine::status::ErrorType;
use reqwest::{RequestBuilder, Response, Url};
use serde_json::value::RawValue;

use crate::secrets::Hidden;
use crate::{Fault, Origin, Performer, retry_after, transport_fault};

pub(crate) async fn call(performer: &Performer, effect: HttpEffect, origin: &Origin) -> Result<Input, Fault> {
    let secret = performer.secrets.find(&origin.key.scope.tenant, effect.secret.as_deref())?;
    let url = url(&effect)?;
    performer
        .guard
        .check_literal(&url)
        .map_err(|refused| Fault::definite(ErrorType::Permission, format!("the tool: {refused}")))?;
    let forwarded = performer.forwarded(&effect.forwarded_headers, origin)?;
    let hidden = Hidden::of(secret).and_headers(&forwarded);
    let request = request(performer, &effect, url, origin, secret).headers(forwarded);
    let response =
        request.send().await.map_err(|error| hidden.out_of_fault(transport_fault(&error, "the tool")))?;
    let status = response.status().as_u16();
    let after = retry_after(&response);
    let body = read(response, performer.value_bytes).await.map_err(|fault| hidden.out_of_fault(fault))?;
    let body = hidden.out_of(body);
    match ErrorType::of_http(status) {
        None => Ok(Input::Returned { step: effect.step, output: output(body) }),
        Some(kind) => Err(refused(kind, status, &body, after)),
    }
}

/// With `GET` the members of the arguments are the query; otherwise the body is all.
fn url(effect: &HttpEffect) -> Result<Url, Fault> {
    let wrong = |error: String| Fault::definite(ErrorType::Logic, format!("the tool's url: {error}"));
    let mut url = Url::parse(&effect.url).map_err(|error| wrong(error.to_string()))?;
    if effect.method == Method::Get {
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(&effect.arguments).map_err(|error| wrong(error.to_string()))?;
        if !members.is_empty() {
            let mut query = url.query_pairs_mut();
            for (name, value) in &members {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                query.append_pair(name, &text);
            }
        }
    }
    Ok(url)
}

fn request(
    performer: &Performer,
    effect: &HttpEffect,
    url: Url,
    origin: &Origin,
    secret: Option<&str>,
) -> RequestBuilder {
    let method =
        reqwest::Method::from_bytes(effect.method.as_str().as_bytes()).unwrap_or(reqwest::Method::POST);
    let mut request = performer.request(method, url).timeout(effect.timeout);
    for (name, value) in &effect.headers {
        request = request.header(name, value);
    }
    request = request
        .header("idempotency-key", &effect.key)
        .header("x-holdpoint-execution-id", origin.key.id.to_string())
        .header("x-holdpoint-tool-call-id", &effect.tool_call_id)
        .header("x-holdpoint-attempt", effect.attempt);
    if effect.method != Method::Get {
        request = request.header("content-type", "application/json").body(effect.arguments.clone());
    }
    match secret {
        Some(secret) => request.bearer_auth(secret),
        None => request,
    }
}

/// Reads the answer up to the limit. A connection that breaks here broke after the call.
async fn read(response: Response, limit: usize) -> Result<String, Fault> {
    let mut body = Vec::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| match error.is_timeout() {
            true => Fault::unknown(ErrorType::Timeout, "the tool: its answer did not end in time"),
            false => Fault::unknown(ErrorType::Network, "the tool: the connection broke in its answer"),
        })?;
        body.extend_from_slice(&piece);
        if body.len() > limit {
            let message = format!("the tool's output is longer than the limit value_bytes, which is {limit}");
            return Err(Fault::limit(message));
        }
    }
    Ok(String::from_utf8_lossy(&body).into_owned())
}

/// JSON as it came; other text as a string; nothing as null.
fn output(body: String) -> Json {
    if body.trim().is_empty() {
        return RawValue::NULL.to_owned();
    }
    serde_json::from_str::<&RawValue>(&body).map_or_else(|_| json(&body), |raw| raw.to_owned())
}

/// A 4xx is definite: the server says that it did not do it. A 5xx says nothing of the kind.
fn refused(kind: ErrorType, status: u16, body: &str, after: Option<std::time::Duration>) -> Fault {
    let said: String = body.chars().take(500).collect();
    let message = if said.trim().is_empty() {
        format!("the tool answered {status}")
    } else {
        format!("the tool answered {status}: {said}")
    };
    let fault = if status >= 500 { Fault::unknown(kind, message) } else { Fault::definite(kind, message) };
    Fault { retry_after: after, ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::effect::Certainty;

    #[test]
    fn answers_are_taken_as_they_come() {
        assert_eq!(output(" {\"a\": 1.0} ".to_owned()).get(), "{\"a\": 1.0}");
        assert_eq!(output("done".to_owned()).get(), "\"done\"");
        assert_eq!(output(String::new()).get(), "null");
    }

    #[test]
    fn a_refusal_is_definite_and_a_fault_is_not() {
        assert_eq!(refused(ErrorType::Logic, 400, "no", None).certainty, Certainty::Definite);
        assert_eq!(refused(ErrorType::Network, 408, "", None).certainty, Certainty::Definite);
        assert_eq!(refused(ErrorType::RateLimit, 429, "", None).certainty, Certainty::Definite);
        assert_eq!(refused(ErrorType::Network, 500, "", None).certainty, Certainty::Unknown);
        assert_eq!(refused(ErrorType::Network, 503, "", None).certainty, Certainty::Unknown);
    }
}

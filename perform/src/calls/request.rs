//! `call: http`: one request, and where its author asked for it, the redirects that it leads to.

use holdpoint_engine::effect::{Input, RequestEffect};
use holdpoint_engine::status::ErrorType;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, StatusCode, Url};
use serde_json::Value;

use super::access::Access;
use super::answer::{self, Answer, Asked, names_json};
use super::redirect::{HOPS, Hop, target};
use super::{Deadline, reachable, server};
use crate::secrets::Hidden;
use crate::{Fault, Origin, Performer, retry_after, transport_fault};

const JSON: &str = "application/json";
pub(super) const FORM: &str = "application/x-www-form-urlencoded";
/// They belong to the connection: with another value the server would read another request.
const OF_THE_CONNECTION: [&str; 8] =
    ["connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

pub(crate) async fn call(
    performer: &Performer,
    effect: RequestEffect,
    origin: &Origin,
) -> Result<Input, Fault> {
    let deadline = Deadline::after(effect.timeout);
    perform(performer, effect, origin, deadline).await
}

/// The same within the time that is left of something larger.
pub(super) async fn perform(
    performer: &Performer,
    effect: RequestEffect,
    origin: &Origin,
    deadline: Deadline,
) -> Result<Input, Fault> {
    let (answer, hidden) = exchange(performer, &effect, origin, deadline, performer.value_bytes).await?;
    Ok(Input::Returned { step: effect.step, output: answer.output(effect.output, &hidden)? })
}

/// Sends it and takes the answer, if it is none of an error. A token that an earlier call left
/// is fetched again, once, where the server does not know it any more.
pub(super) async fn exchange(
    performer: &Performer,
    effect: &RequestEffect,
    origin: &Origin,
    deadline: Deadline,
    limit: usize,
) -> Result<(Answer, Hidden), Fault> {
    let first = prepared(performer, effect, origin)?;
    let way = Way { redirect: effect.redirect, deadline, limit };
    let mut access =
        performer.access(&origin.key.scope.tenant, effect.credentials.as_ref(), deadline).await?;
    let mut came = send(performer, &first, &access, way).await?;
    if came.status == StatusCode::UNAUTHORIZED {
        access = match performer.renewed(access, deadline).await? {
            Ok(renewed) => {
                came = send(performer, &first, &renewed, way).await?;
                renewed
            }
            Err(same) => same,
        };
    }
    Ok((came.judged(effect.redirect, &access.hidden)?, access.hidden))
}

/// The request without its credentials.
fn prepared(performer: &Performer, effect: &RequestEffect, origin: &Origin) -> Result<Hop, Fault> {
    let mut url = reachable(performer, &effect.uri)?;
    if !effect.query.is_empty() {
        url.query_pairs_mut().extend_pairs(&effect.query);
    }
    let method = Method::from_bytes(effect.method.to_ascii_uppercase().as_bytes())
        .map_err(|_| logic(format!("`{}` is no HTTP method", effect.method)))?;
    let mut headers = headers(&effect.headers)?;
    let body = body(effect.body.as_ref(), &mut headers)?;
    let ours = [
        ("x-holdpoint-execution-id", origin.key.id.to_string()),
        ("x-holdpoint-tool-call-id", effect.tool_call_id.clone()),
        ("x-holdpoint-attempt", effect.attempt.to_string()),
        ("idempotency-key", effect.key.clone()),
    ];
    // Whoever only reads has nothing to tell apart.
    let count = if method.is_safe() { ours.len() - 1 } else { ours.len() };
    for (name, value) in ours.into_iter().take(count) {
        let value = HeaderValue::from_str(&value).map_err(|_| logic(format!("the header `{name}`")))?;
        // The key may be the author's; which call it is, is ours to say.
        if name == "idempotency-key" {
            headers.entry(name).or_insert(value);
        } else {
            headers.insert(name, value);
        }
    }
    Ok(Hop { method, url, headers, body, happened: false })
}

fn logic(message: String) -> Fault {
    Fault::definite(ErrorType::Logic, message)
}

/// What an author may send.
pub(crate) fn headers(given: &[(String, String)]) -> Result<HeaderMap, Fault> {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let wrong = || logic(format!("the header `{name}` cannot be sent"));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        if OF_THE_CONNECTION.contains(&name.as_str()) {
            return Err(logic(format!("the header `{name}` belongs to the connection")));
        }
        headers.append(name, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(headers)
}

/// JSON, but for a text under another type, and for members that go as a form.
fn body(body: Option<&Value>, headers: &mut HeaderMap) -> Result<Option<Vec<u8>>, Fault> {
    let Some(body) = body else { return Ok(None) };
    let kind = headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static(JSON));
    let kind = kind.to_str().unwrap_or_default().to_ascii_lowercase();
    Ok(Some(match body {
        Value::String(text) if !names_json(&kind) => text.clone().into_bytes(),
        Value::Object(members) if kind.starts_with(FORM) => {
            let texts: Vec<_> = members
                .iter()
                .flat_map(|(name, value)| texts(value).map(move |text| (name.as_str(), text)))
                .collect();
            form(texts.iter().map(|(name, text)| (*name, text.as_str()))).into_bytes()
        }
        other => other.to_string().into_bytes(),
    }))
}

/// A list is several of one name; nothing is none.
fn texts(value: &Value) -> impl Iterator<Item = String> {
    let values = match value {
        Value::Array(values) => values.iter().collect(),
        Value::Null => Vec::new(),
        other => vec![other],
    };
    values.into_iter().map(text)
}

/// A text as it is, anything else as JSON.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Members as a form has them.
pub(super) fn form<'a>(members: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(members).finish()
}

/// What bounds an exchange.
#[derive(Clone, Copy)]
struct Way {
    redirect: bool,
    deadline: Deadline,
    /// Bytes of the answer.
    limit: usize,
}

/// Sends the request and follows where it leads, each hop past the guard.
async fn send(performer: &Performer, first: &Hop, access: &Access, way: Way) -> Result<Answer, Fault> {
    let asked = asked(first);
    let mut hop = first.clone();
    if let Some(header) = &access.header {
        hop.headers.insert(header::AUTHORIZATION, header.clone());
    }
    for _ in 0..=HOPS {
        let went = once(performer, &hop, way.deadline).await.map_err(|fault| hop.fault(fault));
        let (response, url) = went.map_err(|fault| access.hidden.out_of_fault(fault))?;
        let (status, headers) = (response.status(), response.headers().clone());
        let to = if way.redirect {
            target(&url, status, &headers).map_err(|fault| hop.fault(fault))?
        } else {
            None
        };
        let Some(to) = to else {
            let (server, retry_after) = (server(&url), retry_after(&response));
            let read = answer::read(response, way.limit, &server).await;
            let body = read.map_err(|fault| hop.fault(fault))?;
            let happened = hop.happened;
            return Ok(Answer { status, headers, body, server, retry_after, happened, request: asked });
        };
        let before = hop.clone();
        hop = hop.follow(performer, status, to).map_err(|fault| before.fault(fault))?;
    }
    Err(hop.fault(logic(format!("{} leads to more than {HOPS} redirects", server(&first.url)))))
}

async fn once(
    performer: &Performer,
    hop: &Hop,
    deadline: Deadline,
) -> Result<(reqwest::Response, Url), Fault> {
    let request = performer.request(hop.method.clone(), hop.url.clone());
    let mut request = request.timeout(deadline.left()?).headers(hop.headers.clone());
    if let Some(body) = &hop.body {
        request = request.body(body.clone());
    }
    let response = request.send().await.map_err(|error| transport_fault(&error, &server(&hop.url)))?;
    Ok((response, hop.url.clone()))
}

/// What the author wrote: not what we add, not what authenticates.
fn asked(first: &Hop) -> Asked {
    let mut headers = first.headers.clone();
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-holdpoint-")).cloned().collect();
    for name in ours.iter().chain([&header::AUTHORIZATION]) {
        headers.remove(name);
    }
    Asked { method: first.method.to_string(), uri: first.url.to_string(), headers }
}

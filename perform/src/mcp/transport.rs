//! The protocol's messages over our own HTTP client, so that the guard, the limits and the
//! rules for certainty are those of every other call.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use holdpoint_engine::status::ErrorType;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{RequestBuilder, Response, StatusCode};
use rmcp::model::{ClientJsonRpcMessage, ClientRequest, ServerJsonRpcMessage};
use rmcp::transport::streamable_http_client::{
    SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use serde_json::value::RawValue;

use crate::{Fault, Origin, Performer, retry_after, spans, transport_fault};

const SESSION: &str = "mcp-session-id";
const WHAT: &str = "the MCP server";
/// Beside a value of the greatest length, an answer has the protocol's own words.
const AROUND: usize = 64 * 1024;

/// What goes with the one call of a session.
pub(super) struct Call {
    /// In place of what the SDK would write: byte for byte.
    pub arguments: String,
    /// Of the call's own request.
    pub headers: Vec<(&'static str, String)>,
}

impl Call {
    /// The call of an attempt.
    pub fn of(arguments: String, key: &str, tool_call_id: &str, attempt: u32, origin: &Origin) -> Self {
        let mut headers = vec![
            ("idempotency-key", key.to_owned()),
            ("x-holdpoint-execution-id", origin.key.id.to_string()),
            ("x-holdpoint-tool-call-id", tool_call_id.to_owned()),
            ("x-holdpoint-attempt", attempt.to_string()),
        ];
        // Now: the SDK sends from a task of its own.
        headers.extend(spans::current().map(|span| ("traceparent", span.to_string())));
        Self { arguments, headers }
    }
}

/// The headers of every message: a forwarded one goes before the definition's own and the secret.
pub(super) fn headers(
    own: &BTreeMap<String, String>,
    secret: Option<&str>,
    forwarded: HeaderMap,
) -> Result<HeaderMap, Fault> {
    let wrong = |name: &str| Fault::definite(ErrorType::Logic, format!("the header `{name}` cannot be sent"));
    let mut headers = HeaderMap::new();
    for (name, value) in own {
        let value = HeaderValue::from_str(value).map_err(|_| wrong(name))?;
        headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong(name))?, value);
    }
    if let Some(secret) = secret {
        let mut value =
            HeaderValue::from_str(&format!("Bearer {secret}")).map_err(|_| wrong("authorization"))?;
        value.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, value);
    }
    headers.extend(forwarded);
    Ok(headers)
}

/// Our client, as the SDK sees it. All clones are of one session.
#[derive(Clone)]
pub(super) struct Connection {
    client: reqwest::Client,
    headers: HeaderMap,
    call: Option<Arc<Call>>,
    limit: usize,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// The call has begun to leave.
    called: AtomicBool,
    /// The last thing that went wrong, in our own words.
    fault: Mutex<Option<Fault>>,
}

/// What the SDK is told, which logs it; what went wrong is kept in the connection, because a
/// server may have said our secrets back.
#[derive(Debug)]
pub(super) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection was given up")
    }
}

impl Error for Broken {}

type Told<T> = Result<T, StreamableHttpError<Broken>>;

impl Connection {
    /// Each message carries the headers; the call, its own besides.
    pub fn new(performer: &Performer, headers: HeaderMap, call: Option<Call>) -> Self {
        Self {
            client: performer.client.clone(),
            headers,
            call: call.map(Arc::new),
            limit: performer.value_bytes + AROUND,
            state: Arc::default(),
        }
    }

    /// What went wrong, in our own words where we saw it. Before the call was sent it is
    /// certain that the call did not happen.
    pub fn fault(&self, error: &dyn Error) -> Fault {
        let seen = self.state.fault.lock().unwrap_or_else(PoisonError::into_inner).take();
        let fault = seen.unwrap_or_else(|| Fault::unknown(ErrorType::Network, format!("{WHAT}: {error}")));
        if self.state.called.load(Ordering::SeqCst) {
            return fault;
        }
        let after = fault.retry_after;
        Fault { retry_after: after, ..Fault::definite(fault.failure.kind, fault.failure.message) }
    }

    fn broken(&self, fault: Fault) -> StreamableHttpError<Broken> {
        *self.state.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault);
        StreamableHttpError::Client(Broken)
    }

    fn request(&self, request: RequestBuilder, more: HashMap<HeaderName, HeaderValue>) -> RequestBuilder {
        request.headers(self.headers.clone()).headers(more.into_iter().collect())
    }

    async fn send(&self, request: RequestBuilder) -> Told<Response> {
        let response = request.send().await.map_err(|error| self.broken(transport_fault(&error, WHAT)))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let after = retry_after(&response);
        let said = self.read(response).await.unwrap_or_default();
        Err(self.broken(Fault { retry_after: after, ..refused(status, &said) }))
    }

    /// A whole body, up to the limit.
    async fn read(&self, response: Response) -> Told<Vec<u8>> {
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            body.extend_from_slice(&piece.map_err(|_| self.broken(cut_short()))?);
            if body.len() > self.limit {
                return Err(self.broken(too_long(self.limit)));
            }
        }
        Ok(body)
    }

    /// The answer among the events of a stream; what the server tells meanwhile is passed over.
    async fn answer_in(&self, response: Response) -> Told<ServerJsonRpcMessage> {
        let mut seen = 0;
        let limit = self.limit;
        let bounded = response.bytes_stream().take_while(move |piece| {
            seen += piece.as_ref().map_or(0, |piece| piece.len());
            std::future::ready(seen <= limit)
        });
        let mut events = std::pin::pin!(bounded.eventsource());
        while let Some(event) = events.next().await {
            let event = event.map_err(|_| self.broken(cut_short()))?;
            if event.data.trim().is_empty() {
                continue;
            }
            let message = self.parse(event.data.as_bytes())?;
            if matches!(message, ServerJsonRpcMessage::Response(_) | ServerJsonRpcMessage::Error(_)) {
                return Ok(message);
            }
        }
        Err(self.broken(cut_short()))
    }

    fn parse(&self, text: &[u8]) -> Told<ServerJsonRpcMessage> {
        serde_json::from_slice(text).map_err(|error| {
            let message = format!("{WHAT}'s answer makes no sense: {error}");
            self.broken(Fault::unknown(ErrorType::Network, message))
        })
    }

    /// The message's bytes; the arguments of a call as they were decided on.
    fn body(&self, message: &ClientJsonRpcMessage, is_call: bool) -> Told<Vec<u8>> {
        let written = serde_json::to_vec(message).map_err(StreamableHttpError::Deserialize)?;
        match self.call.as_ref().filter(|_| is_call) {
            None => Ok(written),
            Some(call) => with_arguments(&written, &call.arguments).map_err(StreamableHttpError::Deserialize),
        }
    }
}

fn with_arguments(written: &[u8], arguments: &str) -> serde_json::Result<Vec<u8>> {
    let mut message: BTreeMap<String, Box<RawValue>> = serde_json::from_slice(written)?;
    let params = message.get("params").map_or("{}", |params| params.get());
    let mut params: BTreeMap<String, Box<RawValue>> = serde_json::from_str(params)?;
    params.insert("arguments".to_owned(), RawValue::from_string(arguments.to_owned())?);
    message.insert("params".to_owned(), serde_json::value::to_raw_value(&params)?);
    serde_json::to_vec(&message)
}

/// As with a tool of kind `http`: a 4xx is definite, a 5xx says nothing of the kind.
fn refused(status: StatusCode, said: &[u8]) -> Fault {
    let said: String = String::from_utf8_lossy(said).chars().take(500).collect();
    let said = if said.trim().is_empty() { String::new() } else { format!(": {said}") };
    let message = format!("{WHAT} answered {}{said}", status.as_u16());
    let kind = ErrorType::of_http(status.as_u16()).unwrap_or(ErrorType::Logic);
    if status.is_server_error() { Fault::unknown(kind, message) } else { Fault::definite(kind, message) }
}

fn cut_short() -> Fault {
    Fault::unknown(ErrorType::Network, format!("{WHAT}: the connection broke before its answer ended"))
}

fn too_long(limit: usize) -> Fault {
    let message =
        format!("{WHAT}'s answer is longer than {limit} bytes (the limit value_bytes and its frame)");
    Fault::limit(message)
}

impl StreamableHttpClient for Connection {
    type Error = Broken;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _auth: Option<String>,
        more: HashMap<HeaderName, HeaderValue>,
    ) -> Told<StreamableHttpPostResponse> {
        let request = match &message {
            ClientJsonRpcMessage::Request(request) => Some(&request.request),
            _ => None,
        };
        let is_call = matches!(request, Some(ClientRequest::CallToolRequest(_)));
        let body = self.body(&message, is_call)?;
        let mut post = self
            .request(self.client.post(&*uri), more)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .body(body);
        if let Some(session) = session {
            post = post.header(SESSION, &*session);
        }
        if let Some(call) = self.call.as_ref().filter(|_| is_call) {
            post = call.headers.iter().fold(post, |post, (name, value)| post.header(*name, value));
            self.state.called.store(true, Ordering::SeqCst);
        }
        let response = self.send(post).await?;
        if request.is_none() {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let text =
            |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (session, kind) = (text(SESSION), text("content-type").unwrap_or_default());
        let answer = if kind.to_ascii_lowercase().starts_with("text/event-stream") {
            self.answer_in(response).await?
        } else {
            self.parse(&self.read(response).await?)?
        };
        Ok(StreamableHttpPostResponse::Json(answer, session))
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session: Arc<str>,
        _auth: Option<String>,
        more: HashMap<HeaderName, HeaderValue>,
    ) -> Told<()> {
        let request = self.request(self.client.delete(&*uri), more).header(SESSION, &*session);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(_) => Err(StreamableHttpError::Client(Broken)),
        }
    }

    /// What a server tells beside its answers is not carried.
    async fn get_stream(
        &self,
        _uri: Arc<str>,
        _session: Option<Arc<str>>,
        _last: Option<String>,
        _auth: Option<String>,
        _more: HashMap<HeaderName, HeaderValue>,
    ) -> Told<BoxStream<'static, Result<sse_stream::Sse, SseError>>> {
        Err(StreamableHttpError::ServerDoesNotSupportSse)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::effect::Certainty;

    #[test]
    fn a_call_carries_the_arguments_byte_for_byte() {
        let written = br#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"pay","arguments":{"a":1.0}}}"#;
        let sent = with_arguments(written, "{ \"b\": 2.50,\"a\":1.0 }").expect("a message");
        let sent = String::from_utf8(sent).expect("text");
        assert!(sent.contains("\"arguments\":{ \"b\": 2.50,\"a\":1.0 }"), "{sent}");
        let value: serde_json::Value = serde_json::from_str(&sent).expect("JSON");
        assert_eq!((&value["id"], &value["params"]["name"]), (&3.into(), &"pay".into()));
    }

    #[test]
    fn a_refusal_is_definite_and_a_fault_is_not() {
        let of = |status: u16| refused(StatusCode::from_u16(status).expect("a status"), b"no");
        for (status, kind, certainty) in [
            (302, ErrorType::Logic, Certainty::Definite),
            (401, ErrorType::Auth, Certainty::Definite),
            (404, ErrorType::Logic, Certainty::Definite),
            (429, ErrorType::RateLimit, Certainty::Definite),
            (500, ErrorType::Network, Certainty::Unknown),
            (503, ErrorType::Network, Certainty::Unknown),
        ] {
            let fault = of(status);
            assert_eq!((fault.failure.kind, fault.certainty), (kind, certainty), "{status}");
        }
    }
}

//! A client of the HTTP contract.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::description::{self, Asked};
use crate::poll::{SOON, until};
use crate::sse::Stream;

/// What the API answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: reqwest::header::HeaderMap,
    /// The body, byte for byte.
    pub text: String,
    /// The body as JSON; null where it is none.
    pub body: Value,
}

impl Answer {
    /// Checks the status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text);
        self
    }

    /// Checks that it is a problem with this status and code.
    #[track_caller]
    pub fn expect_problem(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.body["code"].as_str()), (status, Some(code)), "{}", self.text);
        assert_eq!(self.header("content-type"), "application/problem+json");
        self
    }

    /// A header, empty where it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("plain"))
    }

    /// The `id` of the body.
    #[track_caller]
    pub fn id(&self) -> String {
        self.body["id"].as_str().unwrap_or_else(|| panic!("no id: {}", self.text)).to_owned()
    }
}

/// How a reader says where it was.
#[derive(Debug, Clone, Copy)]
pub enum From {
    /// From the beginning.
    Start,
    /// `Last-Event-ID`.
    LastEventId(i64),
    /// `x-stream-start-index`.
    StartIndex(i64),
    /// `?after=`.
    After(i64),
}

/// A caller with a key.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    key: Option<String>,
    http: reqwest::Client,
    described: bool,
}

impl Client {
    /// A caller of this address.
    pub fn new(base: &str, key: Option<&str>) -> Self {
        // A second call finds it installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { base: base.to_owned(), key: key.map(str::to_owned), http, described: false }
    }

    /// Of an API: what it takes and answers is held against its `/openapi.json`.
    pub fn described(self) -> Self {
        Self { described: true, ..self }
    }

    /// The same address with another key, or none.
    pub fn with_key(&self, key: Option<&str>) -> Self {
        Self { key: key.map(str::to_owned), ..self.clone() }
    }

    /// A request that the caller goes on with.
    pub fn builder(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let builder = self.http.request(method, format!("{}{path}", self.base));
        match &self.key {
            Some(key) => builder.bearer_auth(key),
            None => builder,
        }
    }

    /// Sends; an error of the connection is handed back.
    pub async fn try_send(&self, builder: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let (http, request) = builder.timeout(Duration::from_secs(60)).build_split();
        let request = request?;
        let asked = self.described.then(|| Asked::of(&request));
        let response = http.execute(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        let answer = Answer { status, headers, text, body };
        if let Some(asked) = asked {
            description::check(&self.base, &asked, &answer).await;
        }
        Ok(answer)
    }

    /// Sends.
    pub async fn send(&self, builder: reqwest::RequestBuilder) -> Answer {
        self.try_send(builder).await.expect("the API answers")
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.builder(Method::GET, path)).await
    }

    /// POST with JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.builder(Method::POST, path).json(body)).await
    }

    /// POST with JSON and headers.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut builder = self.builder(Method::POST, path).json(body);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        self.send(builder).await
    }

    /// Registers an agent.
    pub async fn put_agent(&self, name: &str, document: &Value) {
        let answer = self.send(self.builder(Method::PUT, &format!("/v1/agents/{name}")).json(document)).await;
        assert!(matches!(answer.status, 200 | 201), "{}: {}", answer.status, answer.text);
    }

    /// Starts an execution of an agent: its id.
    pub async fn start(&self, agent: &str) -> String {
        self.start_with(json!({"agent": agent, "messages": [{"role": "user", "content": "go"}]})).await
    }

    /// Starts an execution: its id.
    pub async fn start_with(&self, body: Value) -> String {
        self.post("/v1/executions", &body).await.expect(202).id()
    }

    /// One execution.
    pub async fn execution(&self, id: &str) -> Value {
        self.get(&format!("/v1/executions/{id}")).await.expect(200).body
    }

    /// Waits until an execution has this status; panics at once where it ended in another.
    pub async fn wait_status(&self, id: &str, status: &str) -> Value {
        self.wait_status_for(id, status, SOON).await
    }

    /// The same with a deadline of the caller's.
    pub async fn wait_status_for(&self, id: &str, status: &str, deadline: Duration) -> Value {
        until(&format!("{id} is {status}"), deadline, || async {
            let execution = self.execution(id).await;
            let now = execution["status"].as_str().expect("a status");
            let ended = matches!(now, "completed" | "failed" | "cancelled");
            assert!(now == status || !ended, "{id} should be {status}: {execution}");
            (now == status).then_some(execution)
        })
        .await
    }

    /// Waits until an execution is suspended for this reason.
    pub async fn wait_suspended(&self, id: &str, reason: &str) -> Value {
        until(&format!("{id} is suspended for {reason}"), SOON, || async {
            let execution = self.execution(id).await;
            let ended = !execution["finished_at"].is_null();
            assert!(!ended, "{id} should be suspended: {execution}");
            (execution["status"] == "suspended" && execution["reason"] == reason).then_some(execution)
        })
        .await
    }

    /// The approvals of an execution that are undecided.
    pub async fn pending(&self, id: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/executions/{id}/approvals")).await.expect(200);
        let all = answer.body["approvals"].as_array().expect("a list").clone();
        all.into_iter()
            .filter(|approval| approval["status"].as_str().is_none_or(|status| status == "pending"))
            .collect()
    }

    /// Waits until so many approvals of an execution are open.
    pub async fn wait_pending(&self, id: &str, count: usize) -> Vec<Value> {
        until(&format!("{id} has {count} open approvals"), SOON, || async {
            let pending = self.pending(id).await;
            (pending.len() == count).then_some(pending)
        })
        .await
    }

    /// Decides.
    pub async fn decide(&self, id: &str, call: &str, body: &Value) -> Answer {
        self.post(&format!("/v1/executions/{id}/approvals/{call}"), body).await
    }

    /// Approves, which must be taken.
    pub async fn approve(&self, id: &str, call: &str) -> Answer {
        self.decide(id, call, &json!({"approved": true})).await.expect(200)
    }

    /// Denies, which must be taken.
    pub async fn deny(&self, id: &str, call: &str, reason: &str) -> Answer {
        self.decide(id, call, &json!({"approved": false, "reason": reason})).await.expect(200)
    }

    /// All events so far.
    pub async fn events(&self, id: &str) -> Vec<Value> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let after = events.len();
            let page =
                self.get(&format!("/v1/executions/{id}/events?after={after}&limit=500")).await.expect(200);
            let more = page.body["events"].as_array().expect("a list").clone();
            if more.is_empty() {
                return events;
            }
            events.extend(more);
        }
    }

    /// The types of all events so far, without the pieces of text.
    pub async fn event_kinds(&self, id: &str) -> Vec<String> {
        let events = self.events(id).await;
        let kinds = events.iter().map(|event| event["type"].as_str().expect("a type").to_owned());
        kinds.filter(|kind| kind != "message.delta").collect()
    }

    /// The steps of an execution.
    pub async fn steps(&self, id: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/executions/{id}/steps")).await.expect(200);
        answer.body["steps"].as_array().expect("a list").clone()
    }

    /// Opens the stream of an execution.
    pub async fn stream(&self, id: &str, from: From) -> Stream {
        let response = self.stream_request(id, from).send().await.expect("the API answers");
        assert_eq!(response.status().as_u16(), 200);
        Stream::new(response)
    }

    /// The request that opens a stream.
    pub fn stream_request(&self, id: &str, from: From) -> reqwest::RequestBuilder {
        let path = format!("/v1/executions/{id}/stream");
        match from {
            From::Start => self.builder(Method::GET, &path),
            From::LastEventId(n) => self.builder(Method::GET, &path).header("last-event-id", n.to_string()),
            From::StartIndex(n) => {
                self.builder(Method::GET, &path).header("x-stream-start-index", n.to_string())
            }
            From::After(n) => self.builder(Method::GET, &format!("{path}?after={n}")),
        }
    }

    /// Starts an execution and reads its stream from the same answer.
    pub async fn start_streaming(&self, body: &Value) -> (String, Stream) {
        let builder =
            self.builder(Method::POST, "/v1/executions").header("accept", "text/event-stream").json(body);
        let response = builder.send().await.expect("the API answers");
        assert_eq!(response.status().as_u16(), 200);
        let stream = Stream::new(response);
        (stream.header("x-workflow-run-id"), stream)
    }
}

/// A body that starts an agent.
pub fn go(agent: &str) -> Value {
    json!({"agent": agent, "messages": [{"role": "user", "content": "go"}]})
}

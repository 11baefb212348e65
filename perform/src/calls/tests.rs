//! Requests against a server on this machine.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use holdpoint_engine::effect::{
    Certainty, Credential, Credentials, Effect, Input, ReconcileEffect, RequestEffect,
};
use holdpoint_engine::status::{ErrorType, Outcome, Reason};
use holdpoint_engine::workflow::document::HttpOutput;
use serde_json::{Value, json};

use super::stub::{Came, Stub, came_of, get, origin, performer};
use crate::Performer;

const JSON: (&str, &str) = ("content-type", "application/json");

fn answered(value: &Value) -> Response {
    ([JSON], value.to_string()).into_response()
}

async fn call(performer: &Performer, effect: RequestEffect) -> Result<Value, Input> {
    let came = came_of(performer, Effect::Request(Box::new(effect))).await?;
    Ok(serde_json::from_str(&came).expect("JSON"))
}

/// The failure's type, certainty and message.
fn failed(input: Result<Value, Input>) -> (ErrorType, Certainty, String) {
    match input {
        Err(Input::Failed { failure, certainty, .. }) => (failure.kind, certainty, failure.message),
        other => panic!("no failure: {other:?}"),
    }
}

#[tokio::test]
async fn a_request_carries_what_its_author_wrote() {
    let stub = Stub::start(|came| answered(&json!({"query": came.uri.query()}))).await;
    let mut effect = get(format!("{}/pets?a=1", stub.url), None);
    effect.query = vec![("status".into(), "so d".into()), ("status".into(), "ü".into())];
    effect.headers = vec![("X-Mine".into(), "7".into())];
    let performer = performer(&[]);
    let output = call(&performer, effect.clone()).await.expect("an answer");
    assert_eq!(output, json!({"query": "a=1&status=so+d&status=%C3%BC"}));
    let came = &stub.came("/pets")[0];
    assert_eq!((came.header("x-mine"), came.header("x-holdpoint-attempt")), ("7", "2"));
    assert_eq!(came.header("idempotency-key"), "", "a read has no key");
    effect.method = "POST".into();
    effect.body = Some(json!({"b": [1, 2], "c": "x y"}));
    call(&performer, effect.clone()).await.expect("an answer");
    effect.headers = vec![("Content-Type".into(), "application/x-www-form-urlencoded".into())];
    call(&performer, effect.clone()).await.expect("an answer");
    effect.headers = vec![
        ("content-type".into(), "text/csv".into()),
        ("idempotency-key".into(), "own".into()),
        ("x-holdpoint-attempt".into(), "9".into()),
    ];
    effect.body = Some(json!("a,b"));
    call(&performer, effect).await.expect("an answer");
    let bodies: Vec<_> = stub.came("/pets")[1..].iter().map(|came| came.body.clone()).collect();
    assert_eq!(bodies, [r#"{"b":[1,2],"c":"x y"}"#, "b=1&b=2&c=x+y", "a,b"]);
    let keys: Vec<_> =
        stub.came("/pets")[1..].iter().map(|came| came.header("idempotency-key").to_owned()).collect();
    assert_eq!(keys, ["key-1", "key-1", "own"]);
    assert_eq!(
        stub.came("/pets")[3].header("x-holdpoint-attempt"),
        "2",
        "which attempt it is, is ours to say"
    );
}

#[tokio::test]
async fn what_cannot_be_sent_is_a_definite_fault() {
    let performer = performer(&[]);
    let of = |change: &dyn Fn(&mut RequestEffect)| {
        let mut effect = get("http://127.0.0.1:1/".to_owned(), None);
        change(&mut effect);
        let performer = &performer;
        async move { failed(call(performer, effect).await) }
    };
    let outcomes = [
        (of(&|effect| effect.uri = "/pets".into()).await, ErrorType::Logic),
        (of(&|effect| effect.uri = "ftp://a.example/".into()).await, ErrorType::Logic),
        (of(&|effect| effect.uri = "http://ada:pw@127.0.0.1:1/".into()).await, ErrorType::Logic),
        (of(&|effect| effect.uri = "http://169.254.169.254/".into()).await, ErrorType::Permission),
        (of(&|effect| effect.method = "GE T".into()).await, ErrorType::Logic),
        (of(&|effect| effect.headers = vec![("content-length".into(), "1".into())]).await, ErrorType::Logic),
        (of(&|effect| effect.headers = vec![("a".into(), "b\r\nc: d".into())]).await, ErrorType::Logic),
        (of(&|_| ()).await, ErrorType::Network),
    ];
    for ((kind, certainty, message), expected) in outcomes {
        assert_eq!((kind, certainty), (expected, Certainty::Definite), "{message}");
    }
}

#[tokio::test]
async fn redirects_are_followed_only_where_that_was_asked_for() {
    let other = Stub::start(|_| answered(&json!("elsewhere"))).await;
    let away = other.url.clone();
    let stub = Stub::start(move |came| match came.uri.path() {
        "/moved" => (StatusCode::FOUND, [("location", "/here")]).into_response(),
        "/away" => (StatusCode::TEMPORARY_REDIRECT, [("location", format!("{away}/x"))]).into_response(),
        "/inside" => (StatusCode::FOUND, [("location", "http://10.0.0.1/")]).into_response(),
        "/round" => (StatusCode::FOUND, [("location", "/round")]).into_response(),
        "/lost" => (StatusCode::SEE_OTHER, [("location", "/nowhere")]).into_response(),
        "/nowhere" => StatusCode::NOT_FOUND.into_response(),
        _ => answered(&json!("here")),
    })
    .await;
    let performer = performer(&[("token", "sesame-street".to_owned())]);
    let bearer = Credentials::Bearer(Credential::Secret("token".into()));
    let to = |path: &str, redirect: bool| {
        let effect = get(format!("{}{path}", stub.url), Some(bearer.clone()));
        RequestEffect { redirect, method: "post".into(), body: Some(json!({})), ..effect }
    };
    let (kind, certainty, message) = failed(call(&performer, to("/moved", false)).await);
    assert_eq!((kind, certainty), (ErrorType::Logic, Certainty::Definite));
    assert!(message.contains("302"), "{message}");
    assert_eq!(stub.came("/here").len(), 0);
    assert_eq!(call(&performer, to("/moved", true)).await.expect("followed"), "here");
    let here = &stub.came("/here")[0];
    assert_eq!((here.method.as_str(), here.header("authorization")), ("GET", "Bearer sesame-street"));
    assert_eq!(call(&performer, to("/away", true)).await.expect("followed"), "elsewhere");
    let there = &other.came("/x")[0];
    assert_eq!((there.method.as_str(), there.header("authorization"), &*there.body), ("POST", "", "{}"));
    assert_eq!(failed(call(&performer, to("/inside", true)).await).0, ErrorType::Permission);
    assert!(failed(call(&performer, to("/round", true)).await).2.contains("redirects"));
    assert!(stub.came("/round").len() <= 11);
    let (_, certainty, message) = failed(call(&performer, to("/lost", true)).await);
    assert_eq!(certainty, Certainty::Unknown, "what was posted may have happened: {message}");
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_none_is_a_fault() {
    let stub = Stub::start(|came| match came.uri.path() {
        "/long" => "x".repeat(20_000).into_response(),
        "/refused" => (StatusCode::FORBIDDEN, "x".repeat(20_000)).into_response(),
        "/broken" => ([("content-type", "application/json")], "{oops").into_response(),
        "/date" => {
            let [now, later] = ["Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:50:02 GMT"];
            (StatusCode::SERVICE_UNAVAILABLE, [("date", now), ("retry-after", later)]).into_response()
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "7")], "busy").into_response(),
    })
    .await;
    let performer = performer(&[]);
    let came = call(&performer, get(format!("{}/long", stub.url), None)).await;
    let Err(Input::Failed { failure, certainty, .. }) = came else { panic!("{came:?}") };
    assert_eq!((failure.kind, failure.reason), (ErrorType::Logic, Some(Reason::Limit)));
    assert!(failure.message.contains("value_bytes, which is 10000"), "{failure}");
    assert_eq!(certainty, Certainty::Unknown, "the server had done it");
    for (path, certainty) in [("refused", Certainty::Definite), ("broken", Certainty::Unknown)] {
        let came = failed(call(&performer, get(format!("{}/{path}", stub.url), None)).await);
        assert_eq!((came.0, came.1), (ErrorType::Logic, certainty), "{}", came.2);
    }
    let came = call(&performer, get(format!("{}/busy", stub.url), None)).await;
    let Err(Input::Failed { failure, retry_after, certainty, .. }) = came else { panic!("{came:?}") };
    assert_eq!(
        (failure.kind, failure.status, certainty),
        (ErrorType::Network, Some(503), Certainty::Unknown)
    );
    assert_eq!(retry_after.map(|after| after.as_secs()), Some(7));
    let came = call(&performer, get(format!("{}/date", stub.url), None)).await;
    let Err(Input::Failed { retry_after, .. }) = came else { panic!("{came:?}") };
    assert_eq!(retry_after.map(|after| after.as_secs()), Some(25), "by the server's own clock");
}

/// Gives out `token-1`, `token-2`, …; `/api` takes only the newest, or any until `/revoke` is called.
async fn token_server() -> Stub {
    let state = std::sync::Mutex::new((0, false));
    Stub::start(move |came| {
        let mut state = state.lock().expect("no holder panics");
        match came.uri.path() {
            "/oauth2/token" => {
                *state = (state.0 + 1, false);
                let token = format!("token-{}", state.0);
                answered(&json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600}))
            }
            "/revoke" => {
                state.1 = true;
                StatusCode::NO_CONTENT.into_response()
            }
            _ if state.1 || !came.header("authorization").starts_with("Bearer token-") => {
                StatusCode::UNAUTHORIZED.into_response()
            }
            _ => answered(&json!(came.header("authorization"))),
        }
    })
    .await
}

fn client(stub: &Stub, in_body: bool, scope: &str) -> Credentials {
    Credentials::OAuth2 {
        token_endpoint: format!("{}/oauth2/token", stub.url),
        client_id: Credential::Text("us".into()),
        client_secret: Credential::Secret("client".into()),
        scopes: vec!["read".into(), scope.into()],
        audiences: vec!["api".into()],
        in_body,
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_for_all_who_need_it() {
    let stub = token_server().await;
    let performer = performer(&[("client", "sesame-street".to_owned())]);
    let one = || call(&performer, get(format!("{}/api", stub.url), Some(client(&stub, true, "a"))));
    let all = futures_util::future::join_all((0..20).map(|_| one())).await;
    for came in all {
        assert_eq!(came.expect("an answer"), "Bearer [secret]", "a token is a secret too");
    }
    let fetched = stub.came("/oauth2/token");
    assert_eq!(fetched.len(), 1);
    assert_eq!(
        fetched[0].body,
        "grant_type=client_credentials&scope=read+a&audience=api&client_id=us&client_secret=sesame-street"
    );
    let other = client(&stub, false, "b");
    call(&performer, get(format!("{}/api", stub.url), Some(other))).await.expect("an answer");
    let fetched = &stub.came("/oauth2/token")[1];
    assert_eq!(fetched.header("authorization"), "Basic dXM6c2VzYW1lLXN0cmVldA==");
    assert!(!fetched.body.contains("client_id"), "{}", fetched.body);
}

#[tokio::test]
async fn a_token_that_the_server_forgot_is_fetched_again_once() {
    let stub = token_server().await;
    let performer = performer(&[("client", "sesame-street".to_owned())]);
    let credentials = || Some(client(&stub, true, "a"));
    let api = format!("{}/api", stub.url);
    call(&performer, get(api.clone(), credentials())).await.expect("an answer");
    call(&performer, get(format!("{}/revoke", stub.url), None)).await.expect("done");
    call(&performer, get(api.clone(), credentials())).await.expect("an answer by a new token");
    assert_eq!((stub.came("/oauth2/token").len(), stub.came("/api").len()), (2, 3));
    // A token that was just fetched and is refused all the same: there is nothing left to try.
    let refusing = Stub::start(|_| StatusCode::UNAUTHORIZED.into_response()).await;
    let refused =
        call(&performer, get(format!("{}/api", refusing.url), Some(client(&stub, true, "c")))).await;
    assert_eq!(failed(refused).0, ErrorType::Auth);
    assert_eq!((stub.came("/oauth2/token").len(), refusing.came("/api").len()), (3, 1));
}

#[tokio::test]
async fn a_fault_of_the_token_endpoint_leaves_the_call_unsent() {
    let stub = Stub::start(|came| match came.uri.path() {
        "/oauth2/token" => {
            let said = json!({"error": "invalid_client", "error_description": "sesame-street is wrong"});
            (StatusCode::BAD_REQUEST, [JSON], said.to_string()).into_response()
        }
        _ => StatusCode::BAD_GATEWAY.into_response(),
    })
    .await;
    let performer = performer(&[("client", "sesame-street".to_owned())]);
    let Credentials::OAuth2 { client_id, client_secret, .. } = client(&stub, true, "a") else { return };
    let of = |path: &str| {
        let (client_id, client_secret) = (client_id.clone(), client_secret.clone());
        let token_endpoint = format!("{}{path}", stub.url);
        let (scopes, audiences) = (Vec::new(), Vec::new());
        let all = Credentials::OAuth2 {
            token_endpoint,
            client_id,
            client_secret,
            scopes,
            audiences,
            in_body: true,
        };
        call(&performer, get(format!("{}/api", stub.url), Some(all)))
    };
    let (kind, certainty, message) = failed(of("/oauth2/token").await);
    assert_eq!((kind, certainty), (ErrorType::Auth, Certainty::Definite));
    assert!(message.contains("invalid_client") && !message.contains("sesame"), "{message}");
    let (kind, certainty, _) = failed(of("/other").await);
    assert_eq!((kind, certainty), (ErrorType::Network, Certainty::Definite));
    assert_eq!(stub.came("/api").len(), 0);
}

#[tokio::test]
async fn a_response_tells_neither_credentials_nor_what_we_add() {
    let stub = Stub::start(|came: &Came| {
        ([JSON, ("x-echo", "sesame-street")], format!("\"{}\"", came.header("authorization"))).into_response()
    })
    .await;
    let performer = performer(&[("token", "sesame-street".to_owned())]);
    let bearer = Credentials::Bearer(Credential::Secret("token".into()));
    let effect = get(format!("{}/x?y=sesame-street", stub.url), Some(bearer));
    let output = call(&performer, RequestEffect { output: HttpOutput::Response, ..effect }).await;
    let output = output.expect("an answer");
    assert_eq!(output["content"], "Bearer [secret]");
    assert_eq!(
        output["request"],
        json!({"method": "GET", "uri": format!("{}/x?y=[secret]", stub.url), "headers": {}})
    );
    assert_eq!(output["headers"]["x-echo"], "[secret]");
}

#[tokio::test]
async fn a_question_what_happened_is_answered_or_not() {
    let stub = Stub::start(|came| match came.uri.path() {
        "/yes" => answered(&json!({"outcome": "happened", "result": 7})),
        "/no" => answered(&json!({"outcome": "did_not_happen"})),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
    .await;
    let performer = performer(&[]);
    for (path, expected) in
        [("/yes", Some(Outcome::Happened)), ("/no", Some(Outcome::DidNotHappen)), ("/down", None)]
    {
        let request = get(format!("{}{path}", stub.url), None);
        let effect = Effect::Reconcile(Box::new(ReconcileEffect { request }));
        match crate::perform(&performer, effect, &origin()).await {
            Input::Reconciled { step: 3, outcome, result } => {
                assert_eq!(outcome, expected, "{path}");
                assert_eq!(
                    result.map(|result| result.get().to_owned()),
                    (path == "/yes").then(|| "7".to_owned())
                );
            }
            other => panic!("{other:?}"),
        }
        // A question that only reads has the key of what it is about, and has it once.
        let keys: Vec<_> = stub.came(path)[0].headers.get_all("idempotency-key").iter().cloned().collect();
        assert_eq!(keys, ["key-1"], "{path}");
    }
    let headers = vec![("Idempotency-Key".to_owned(), "own".to_owned())];
    let request = RequestEffect { headers, ..get(format!("{}/own", stub.url), None) };
    crate::perform(&performer, Effect::Reconcile(Box::new(ReconcileEffect { request })), &origin()).await;
    assert_eq!(stub.came("/own")[0].header("idempotency-key"), "own");
}

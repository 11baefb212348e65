//! What workflows call: requests in every form of answer and authentication, operations of
//! OpenAPI documents, MCP servers, and other executions.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use diesel::connection::SimpleConnection;
use holdpoint_tests::agents::Agent;
use holdpoint_tests::client::Client;
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::{Call, Reply};
use serde_json::{Map, Value, json};

const SECRET: &str = "open-sesame";

fn with_secrets(setup: Setup) -> Setup {
    setup.set("outbound.secrets.acme.pw", SECRET).set("outbound.secrets.acme.client", SECRET)
}

on_both! {
    calls_are_sent_and_their_answers_read with with_secrets;
    what_a_server_says_back_is_logged_by_nobody with with_secrets;
    errors_are_caught_by_their_status;
    a_child_s_output_questions_and_failure_reach_its_parent;
    a_child_is_the_version_that_its_parent_began_with;
    a_repeated_parent_s_child_makes_no_call_again;
    a_workflow_that_only_computes_can_be_ended;
    an_error_with_a_nul_is_the_error_that_it_is;
    a_loser_s_child_is_cancelled;
    a_loser_s_child_does_not_begin_after_the_race;
    a_loser_s_request_is_broken_off;
}

/// A server for the calls of a test; it ends with the test's runtime.
struct Shop {
    url: String,
    tokens: Arc<Mutex<(usize, bool)>>,
}

impl Shop {
    async fn start() -> Self {
        let tokens: Arc<Mutex<(usize, bool)>> = Arc::default();
        let known = Arc::clone(&tokens);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let known = Arc::clone(&known);
            async move { answer(&known, &method, &uri, &headers, &body) }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, tokens }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// Tokens that were fetched.
    fn fetched(&self) -> usize {
        self.tokens.lock().unwrap().0
    }

    /// The newest token is known no more.
    fn revoke(&self) {
        self.tokens.lock().unwrap().1 = true;
    }
}

const OLD: &str = r##"{"swagger": "2.0", "basePath": "/v2", "paths": {"/pets/{id}": {"get": {
  "operationId": "getPet", "parameters": [{"name": "id", "in": "path", "required": true, "type": "integer"}]}}}}"##;
const NEW: &str = "
openapi: 3.0.3
servers: [{url: /v3}]
paths:
  /pets:
    get:
      operationId: findPets
      parameters: [{name: status, in: query, schema: {type: array}}]
";

fn answer(
    tokens: &Mutex<(usize, bool)>,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Response {
    let given = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut tokens = tokens.lock().unwrap();
    match uri.path() {
        "/text" => "hello".into_response(),
        "/moved" => (StatusCode::FOUND, [("location", "/echo")]).into_response(),
        "/basic" if given != "Basic YWRhOm9wZW4tc2VzYW1l" => StatusCode::UNAUTHORIZED.into_response(),
        "/oauth2/token" => {
            *tokens = (tokens.0 + 1, false);
            let token = format!("token-{}", tokens.0);
            axum::Json(json!({"access_token": token, "token_type": "bearer", "expires_in": 600}))
                .into_response()
        }
        "/api" if tokens.1 || !given.starts_with("Bearer token-") => StatusCode::UNAUTHORIZED.into_response(),
        "/old.json" => OLD.into_response(),
        "/new.yaml" => NEW.into_response(),
        "/mcp" => mcp(body),
        "/refuses" => (StatusCode::BAD_REQUEST, format!("you said {given}, {body:?}")).into_response(),
        path => {
            let query = uri.query().unwrap_or_default();
            axum::Json(json!({"method": method.as_str(), "path": path, "query": query, "said": given}))
                .into_response()
        }
    }
}

/// Says when whoever asked has gone.
struct Gone(tokio::sync::watch::Sender<bool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// A server that never answers, the gate at which its callers wait, and what becomes true when one
/// goes away.
async fn silent() -> (String, Gate, tokio::sync::watch::Receiver<bool>) {
    let (gone, went) = tokio::sync::watch::channel(false);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let gate = Gate::closed();
    let held = gate.clone();
    let app = Router::new().fallback(move || {
        let (held, gone) = (held.clone(), Gone(gone.clone()));
        async move {
            held.pass().await;
            drop(gone);
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, gate, went)
}

/// One tool, in the protocol's words.
fn mcp(body: &Bytes) -> Response {
    let message: Value = serde_json::from_slice(body).unwrap_or_default();
    let result = match message["method"].as_str() {
        Some("initialize") => json!({
            "protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": {"name": "s", "version": "1"}
        }),
        Some("tools/call") => {
            json!({"content": [{"type": "text", "text": message["params"]["arguments"]["a"].to_string()}]})
        }
        _ => return StatusCode::ACCEPTED.into_response(),
    };
    axum::Json(json!({"jsonrpc": "2.0", "id": message["id"], "result": result})).into_response()
}

/// A workflow of these tasks, in order.
fn document(name: &str, version: &str, tasks: Vec<(&str, Value)>) -> Value {
    let tasks: Vec<Value> = tasks.into_iter().map(named).collect();
    json!({
        "document": {"dsl": "1.0.1", "namespace": "tests", "name": name, "version": version},
        "use": {"secrets": ["pw", "client"]},
        "do": tasks,
    })
}

fn named((name, task): (&str, Value)) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), task)]))
}

async fn put(client: &Client, document: &Value) {
    let name = document["document"]["name"].as_str().unwrap();
    let put = client.builder(Method::PUT, &format!("/v1/workflows/{name}")).json(document);
    let answer = client.send(put).await;
    assert!(matches!(answer.status, 200 | 201), "{}", answer.text);
}

async fn start(client: &Client, workflow: &str) -> String {
    client.post("/v1/executions", &json!({"workflow": workflow, "input": {"id": 7}})).await.expect(202).id()
}

/// The output of a run to its end.
async fn run(client: &Client, workflow: &str) -> Value {
    let id = start(client, workflow).await;
    client.wait_status(&id, "completed").await["output"].clone()
}

fn http(uri: String, more: Value) -> Value {
    let mut with = json!({"method": "get", "endpoint": uri});
    for (name, value) in more.as_object().unwrap() {
        with[name] = value.clone();
    }
    json!({"call": "http", "with": with})
}

/// The task leaves its output in the context, under its name.
fn kept(tasks: Vec<(&'static str, Value)>) -> Vec<(&'static str, Value)> {
    let kept = |(name, mut task): (&'static str, Value)| {
        task["export"] = json!({"as": format!("${{ $context + {{{name}: .}} }}")});
        task["output"] = json!({"as": "${ . }"});
        task["input"] = json!({"from": "${ $workflow.input }"});
        (name, task)
    };
    tasks.into_iter().map(kept).collect()
}

async fn calls_are_sent_and_their_answers_read(system: System) {
    let (client, shop) = (system.client(), Shop::start().await);
    let by = |path: &str, policy: Value| {
        http(String::new(), json!({"endpoint": {"uri": shop.url(path), "authentication": policy}}))
    };
    let password = json!({"basic": {"username": "ada", "password": "${ $secrets.pw }"}});
    let client_of = json!({"id": "us", "secret": "${ $secrets.client }"});
    let oauth =
        json!({"oauth2": {"authority": shop.url, "grant": "client_credentials", "client": client_of}});
    let openapi = |path: &str, operation: &str, parameters: Value| {
        let document = json!({"endpoint": shop.url(path)});
        json!({"call": "openapi", "with": {
            "document": document, "operationId": operation, "parameters": parameters}})
    };
    let tool = json!({"call": "mcp", "with": {
        "protocolVersion": "2025-06-18", "method": "tools/call",
        "parameters": {"name": "echo", "arguments": {"a": "${ .id }"}},
        "transport": {"http": {"endpoint": shop.url("/mcp")}}}});
    let mut all = document(
        "all",
        "1.0.0",
        kept(vec![
            ("content", http(shop.url("/pets/{id}"), json!({"query": {"tag": "a b"}}))),
            ("raw", http(shop.url("/text"), json!({"output": "raw"}))),
            ("response", http(shop.url("/text"), json!({"output": "response", "headers": {"x-mine": "1"}}))),
            ("moved", http(shop.url("/moved"), json!({"redirect": true}))),
            ("basic", by("/basic", password)),
            ("token", by("/api", oauth.clone())),
            ("again", by("/api", oauth.clone())),
            ("old", openapi("/old.json", "getPet", json!({"id": "${ .id }"}))),
            ("new", openapi("/new.yaml", "findPets", json!({"status": ["sold", "new"]}))),
            ("tool", tool),
        ]),
    );
    all["output"] = json!({"as": "${ $context }"});
    put(&client, &all).await;
    let id = start(&client, "all").await;
    let output = client.wait_status(&id, "completed").await["output"].clone();
    assert_eq!(
        (&output["content"]["path"], &output["content"]["query"]),
        (&json!("/pets/7"), &json!("tag=a+b"))
    );
    assert_eq!(output["raw"], "aGVsbG8=");
    assert_eq!(
        (&output["response"]["statusCode"], &output["response"]["content"]),
        (&json!(200), &json!("hello"))
    );
    assert_eq!(output["response"]["request"]["headers"], json!({"x-mine": "1"}));
    assert_eq!(output["moved"]["path"], "/echo");
    for name in ["basic", "token", "again"] {
        assert!(output[name]["said"].as_str().unwrap().ends_with("[secret]"), "{output}");
    }
    assert_eq!(output["old"]["path"], "/v2/pets/7");
    assert_eq!(
        (&output["new"]["path"], &output["new"]["query"]),
        (&json!("/v3/pets"), &json!("status=sold&status=new"))
    );
    assert_eq!(output["tool"]["content"][0]["text"], "7");
    assert_eq!(shop.fetched(), 1, "the token was kept");
    let told = format!("{:?}{:?}", client.steps(&id).await, client.events(&id).await);
    for secret in [SECRET, "token-1", "YWRhOm9wZW4tc2VzYW1l"] {
        assert!(!told.contains(secret), "{secret} was told");
    }
    shop.revoke();
    put(&client, &document("later", "1.0.0", vec![("token", by("/api", oauth))])).await;
    run(&client, "later").await;
    assert_eq!(shop.fetched(), 2, "one that is refused is fetched again");
}

async fn what_a_server_says_back_is_logged_by_nobody(system: System) {
    let (client, shop) = (system.client(), Shop::start().await);
    let bearer = json!({"bearer": {"token": "${ $secrets.pw }"}});
    let endpoint = json!({"uri": shop.url("/refuses"), "authentication": bearer});
    let tool = json!({"call": "mcp", "with": {
        "protocolVersion": "2025-06-18", "method": "tools/call", "parameters": {"name": "echo"},
        "transport": {"http": {"endpoint": endpoint}}}});
    put(&client, &document("tool", "1.0.0", vec![("tool", tool)])).await;
    put(
        &client,
        &document("post", "1.0.0", vec![("post", http(String::new(), json!({"endpoint": endpoint})))]),
    )
    .await;
    for name in ["tool", "post"] {
        let id = start(&client, name).await;
        let failed = client.wait_status(&id, "failed").await;
        assert!(failed["error"]["message"].as_str().unwrap().contains("Bearer [secret]"), "{failed}");
        let told = format!("{failed}{:?}{:?}", client.steps(&id).await, client.events(&id).await);
        assert!(!told.contains(SECRET), "{told}");
    }
    for process in system.apis.iter().chain(&system.workers) {
        let logged = process.log().join("\n");
        assert!(!logged.contains(SECRET), "{logged}");
    }
}

async fn errors_are_caught_by_their_status(system: System) {
    let client = system.client();
    let caught = |path: &str, status: u16| {
        let get = named(("get", http(system.tools.url(path), json!({}))));
        json!({
            "try": [get],
            "catch": {"errors": {"with": {"status": status}}, "as": "error",
                "do": [{"told": {"set": {"type": "${ $error.type }", "status": "${ $error.status }"}}}]},
        })
    };
    for (name, path, status) in [("gone", "/gone", 404), ("busy", "/busy", 429), ("away", "/away", 302)] {
        system.tools.script(path, [Reply::Status(status)]);
        let mut workflow = document(name, "1.0.0", vec![("look", caught(path, status))]);
        workflow["do"][0]["look"]["try"][0]["get"]["metadata"] =
            json!({"holdpoint": {"retry": {"tries": 1}}});
        put(&client, &workflow).await;
        let output = run(&client, name).await;
        assert_eq!(output["status"], status, "{output}");
        assert!(output["type"].as_str().unwrap().ends_with("/communication"), "{output}");
    }
    system.tools.script("/other", [Reply::Status(403)]);
    put(&client, &document("other", "1.0.0", vec![("look", caught("/other", 404))])).await;
    let id = start(&client, "other").await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!(failed["error"]["type"], "permission", "{failed}");
}

fn child(name: &str, version: &str) -> Value {
    json!({"run": {"workflow": {"namespace": "tests", "name": name, "version": version, "input": {"id": 1}}}})
}

async fn a_child_s_output_questions_and_failure_reach_its_parent(system: System) {
    let client = system.client();
    client.put_agent("clerk", Agent::new(&system.model).gated(&system.tools, "pay").document()).await;
    system.model.answer_by(|request| match request.turns() {
        0 => Turn::call(&[("p1", "pay", json!({"n": 1}))]),
        _ => Turn::say("paid"),
    });
    put(&client, &document("leaf", "1.0.0", vec![("one", json!({"set": {"n": "${ .id + 1 }"}}))])).await;
    let error = json!({"type": "https://shop.example/sold-out", "status": 410, "title": "Sold out"});
    put(&client, &document("broken", "1.0.0", vec![("no", json!({"raise": {"error": error}}))])).await;
    let ask = json!({"call": "agent:1.0.0@default", "with": {"agent": "clerk", "input": "pay it"}});
    let mut apart = child("leaf", "1.0.0");
    apart["run"]["await"] = json!(false);
    let failing = json!({
        "try": [{"broken": child("broken", "latest")}],
        "catch": {"as": "error", "do": [{"told": {"set": {"error": "${ $error }"}}}]},
    });
    let tasks = vec![("leaf", child("leaf", "latest")), ("apart", apart), ("failing", failing), ("ask", ask)];
    let mut whole = document("whole", "1.0.0", kept(tasks));
    whole["output"] = json!({"as": "${ $context }"});
    put(&client, &whole).await;
    let id = start(&client, "whole").await;
    client.wait_suspended(&id, "approval").await;
    let question = client.wait_pending(&id, 1).await.remove(0);
    assert!(question["delegated_by"]["execution_id"].is_string(), "{question}");
    client.approve(&id, question["tool_call_id"].as_str().unwrap()).await.expect(200);
    let output = client.wait_status(&id, "completed").await["output"].clone();
    assert_eq!(output["leaf"], json!({"n": 2}));
    assert_eq!(output["ask"], "paid");
    let told = &output["failing"]["error"];
    assert_eq!(told["type"], "https://shop.example/sold-out", "as the child raised it");
    assert_eq!((&told["status"], &told["title"]), (&json!(410), &json!("Sold out")));
    let apart = client.wait_status(output["apart"]["id"].as_str().unwrap(), "completed").await;
    assert_eq!(apart["output"], json!({"n": 2}));
}

async fn a_child_is_the_version_that_its_parent_began_with(system: System) {
    let (client, gate) = (system.client(), Gate::closed());
    let leaf = |version: &str, n: i32| document("leaf", version, vec![("one", json!({"set": {"n": n}}))]);
    put(&client, &leaf("1.0.0", 1)).await;
    put(&client, &leaf("2.0.0", 2)).await;
    system.tools.script("/hold", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!({}))))]);
    let tasks = vec![
        ("hold", http(system.tools.url("/hold"), json!({}))),
        ("named", child("leaf", "1.0.0")),
        ("latest", child("leaf", "latest")),
    ];
    let mut whole = document("whole", "1.0.0", kept(tasks));
    whole["output"] = json!({"as": "${ [$context.named.n, $context.latest.n] }"});
    put(&client, &whole).await;
    let id = start(&client, "whole").await;
    system.tools.wait_calls("/hold", 1).await;
    put(&client, &leaf("3.0.0", 3)).await;
    gate.open();
    assert_eq!(client.wait_status(&id, "completed").await["output"], json!([1, 2]));
    assert_eq!(run(&client, "whole").await, json!([1, 3]));
}

async fn a_loser_s_child_is_cancelled(system: System) {
    let (client, gate) = (system.client(), Gate::closed());
    put(&client, &document("sleeper", "1.0.0", vec![("sleep", json!({"wait": {"hours": 1}}))])).await;
    system.tools.script("/fast", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!("won"))))]);
    let branches =
        [("fast", http(system.tools.url("/fast"), json!({}))), ("slow", child("sleeper", "latest"))];
    let branches: Vec<_> = branches.into_iter().map(named).collect();
    let race = ("race", json!({"fork": {"compete": true, "branches": branches}}));
    let hold = ("hold", json!({"wait": {"hours": 1}}));
    put(&client, &document("race", "1.0.0", vec![race, hold])).await;
    let id = start(&client, "race").await;
    let begun = async || {
        let listed = client.get("/v1/executions?workflow=sleeper&status=suspended").await.expect(200).body;
        listed["executions"][0]["id"].as_str().map(str::to_owned)
    };
    let sleeper = until("the child sleeps", SOON, begun).await;
    gate.open();
    client.wait_status(&sleeper, "cancelled").await;
    client.wait_suspended(&id, "timer").await;
}

/// A parent that is repeated has its child go on from where that stood.
async fn a_repeated_parent_s_child_makes_no_call_again(system: System) {
    let client = system.client();
    let call = |path: &str, tries: u32| {
        let metadata = json!({"holdpoint": {"retry": {"tries": tries}}});
        json!({"call": "http", "with": {"method": "post", "endpoint": system.tools.url(path)}, "metadata": metadata})
    };
    system.tools.script("/ship", [Reply::Status(404), Reply::Status(404), Reply::Json(json!("shipped"))]);
    system.tools.script("/doubt", [Reply::Status(500)]);
    let kid = document("kid", "1.0.0", vec![("pay", call("/pay", 1)), ("ship", call("/ship", 1))]);
    put(&client, &kid).await;
    let doubtful = document("doubtful", "1.0.0", vec![("doubt", call("/doubt", 1))]);
    put(&client, &doubtful).await;
    put(&client, &document("mid", "1.0.0", vec![("kid", child("kid", "latest"))])).await;
    put(&client, &document("whole", "1.0.0", vec![("mid", child("mid", "latest"))])).await;
    put(&client, &document("unsure", "1.0.0", vec![("kid", child("doubtful", "latest"))])).await;

    let failed = start(&client, "whole").await;
    client.wait_status(&failed, "failed").await;
    let kid = client.get("/v1/executions?workflow=kid").await.expect(200).body["executions"][0].clone();
    let refused =
        client.post(&format!("/v1/executions/{}/retry", kid["id"].as_str().unwrap()), &json!({})).await;
    refused.expect_problem(409, "not_repeatable");
    let repeat = async |run: &str| {
        client.post("/v1/workflows/whole/resume", &json!({})).await.expect(200);
        client.post(&format!("/v1/executions/{run}/retry"), &json!({})).await.expect(202).id()
    };
    let again = repeat(&failed).await;
    client.wait_status(&again, "failed").await;
    let third = repeat(&again).await;
    assert_eq!(client.wait_status(&third, "completed").await["output"], "shipped");
    assert_eq!((system.tools.count("/pay"), system.tools.count("/ship")), (1, 3));
    let keys: BTreeSet<_> = system.tools.calls("/ship").iter().map(Call::key).collect();
    assert_eq!(keys.len(), 1, "the same call has the same key");
    let kids = client.get("/v1/executions?workflow=kid").await.expect(200).body["executions"].clone();
    assert_eq!((&kids[0]["retry_of"], &kids[0]["attempt"]), (&kid["id"], &json!(3)));

    let unsure = start(&client, "unsure").await;
    let doubt = until("nobody knows what came of the call", SOON, async || {
        let listed = client.get("/v1/executions?workflow=doubtful&status=suspended").await.expect(200).body;
        (listed["executions"][0]["reason"] == "outcome_unknown").then_some(())
    });
    doubt.await;
    client.post(&format!("/v1/executions/{unsure}/cancel"), &json!({})).await.expect(202);
    until("the child is over", SOON, async || {
        let listed = client.get("/v1/executions?workflow=doubtful").await.expect(200).body;
        (listed["executions"][0]["status"] == "cancelled").then_some(())
    })
    .await;
    client.post(&format!("/v1/executions/{unsure}/retry"), &json!({})).await.expect(202);
    until("it is unknown in the repeat as well", SOON, async || {
        let listed = client.get("/v1/executions?workflow=doubtful").await.expect(200).body;
        let latest = &listed["executions"][0];
        (latest["attempt"] == 2 && latest["reason"] == "outcome_unknown").then_some(())
    })
    .await;
    assert_eq!(system.tools.count("/doubt"), 1);
}

/// A list of tasks that only evaluates looks up when somebody cancels it, and when its time is over.
async fn a_workflow_that_only_computes_can_be_ended(system: System) {
    let client = system.client();
    // Each is far within an expression's processor time, also on a slow machine; all take long.
    let slow = json!({"set": {"n": "${ [range(15000)] | add }"}});
    let body = json!({"for": {"in": "${ [range(2000)] }"}, "do": [{"sum": slow}]});
    put(&client, &document("sums", "1.0.0", vec![("all", body.clone())])).await;
    let mut timed = document("timed", "1.0.0", vec![("all", body)]);
    timed["timeout"] = json!({"after": {"seconds": 1}});
    put(&client, &timed).await;
    let (sums, timed) = (start(&client, "sums").await, start(&client, "timed").await);
    client.wait_status(&sums, "running").await;
    client.post(&format!("/v1/executions/{sums}/cancel"), &json!({})).await.expect(202);
    client.wait_status(&sums, "cancelled").await;
    assert_eq!(client.wait_status(&timed, "failed").await["reason"], "timeout");
}

/// What a server answers may hold a NUL, which a column of text does not.
async fn an_error_with_a_nul_is_the_error_that_it_is(system: System) {
    let client = system.client();
    let kind = "https://serverlessworkflow.io/spec/1.0.0/errors/communication";
    let error = json!({"type": kind, "status": 403, "detail": "${ [97, 0, 98] | implode }"});
    put(&client, &document("nul", "1.0.0", vec![("get", json!({"raise": {"error": error}}))])).await;
    let id = start(&client, "nul").await;
    let failed = client.wait_status(&id, "failed").await;
    assert_eq!(failed["error"]["type"], "permission");
    assert!(failed["error"]["message"].as_str().unwrap().starts_with('a'), "{failed}");
}

/// A race between a call and a child that sleeps; its winner waits for an hour.
fn race_with_a_sleeper(url: String) -> Value {
    let branches = [("fast", http(url, json!({}))), ("slow", child("sleeper", "latest"))];
    let branches: Vec<_> = branches.into_iter().map(named).collect();
    let race = ("race", json!({"fork": {"compete": true, "branches": branches}}));
    document("race", "1.0.0", vec![race, ("hold", json!({"wait": {"hours": 1}}))])
}

async fn asleep(client: &Client) -> Vec<Value> {
    let listed = client.get("/v1/executions?workflow=sleeper&limit=100").await.expect(200).body;
    let goes_on = |one: &&Value| one["status"] != "cancelled";
    listed["executions"].as_array().unwrap().iter().filter(goes_on).cloned().collect()
}

/// The start of the loser's child is under way when the race is over.
async fn a_loser_s_child_does_not_begin_after_the_race(system: System) {
    let client = system.client();
    put(&client, &document("sleeper", "1.0.0", vec![("sleep", json!({"wait": {"hours": 1}}))])).await;
    put(&client, &race_with_a_sleeper(system.tools.url("/fast"))).await;
    let starts = vec![json!({"workflow": "race", "input": {}}); 20];
    let batch = client.post("/v1/executions/batch", &json!({"executions": starts})).await.expect(200).body;
    for started in batch["results"].as_array().unwrap() {
        client.wait_suspended(started["id"].as_str().unwrap(), "timer").await;
    }
    until("no loser's child goes on", SOON, async || asleep(&client).await.is_empty().then_some(())).await;
}

/// The database takes longer over the child's start than the whole race lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loser_s_child_that_begins_late_is_cancelled() {
    let system = Setup::services().start().await;
    let (client, gate) = (system.client(), Gate::closed());
    put(&client, &document("sleeper", "1.0.0", vec![("sleep", json!({"wait": {"hours": 1}}))])).await;
    system.tools.script("/fast", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!("won"))))]);
    put(&client, &race_with_a_sleeper(system.tools.url("/fast"))).await;
    let mut locker = system.schema().connect();
    locker.batch_execute("BEGIN; LOCK TABLE children IN EXCLUSIVE MODE").unwrap();
    let id = start(&client, "race").await;
    system.tools.wait_calls("/fast", 1).await;
    let blocked = "DO $$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_locks WHERE relation = 'children'::regclass
        AND NOT granted) THEN RAISE 'nobody waits'; END IF; END $$";
    let waits = || {
        let mut looker = system.schema().connect();
        async move { looker.batch_execute(blocked).ok() }
    };
    until("the child's start waits", SOON, waits).await;
    gate.open();
    let over = async || {
        let steps = client.get(&format!("/v1/executions/{id}/steps")).await.expect(200).text;
        steps.contains("\"cancelled\"").then_some(())
    };
    until("the race is over", SOON, over).await;
    locker.batch_execute("COMMIT").unwrap();
    client.wait_suspended(&id, "timer").await;
    until("it began, and is ended", SOON, async || {
        let begun = client.get("/v1/executions?workflow=sleeper").await.expect(200).body;
        (begun["executions"][0]["status"] == "cancelled").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_loser_s_child_is_cancelled_though_the_worker_dies() {
    let mut system = Setup::services().roles(1, 0, 1).set("worker.lease_ms", "2000").start().await;
    let (client, gate) = (system.client(), Gate::closed());
    put(&client, &document("sleeper", "1.0.0", vec![("sleep", json!({"wait": {"hours": 1}}))])).await;
    system.tools.script("/fast", [Reply::Held(gate.clone(), Box::new(Reply::Json(json!("won"))))]);
    put(&client, &race_with_a_sleeper(system.tools.url("/fast"))).await;
    let id = start(&client, "race").await;
    let dies = system.start_worker(&[("HOLDPOINT_FAILPOINT", "worker.children.before")]);
    // A worker's hand would end it later; one that rests is ended by the parent's worker at once.
    let sleeps = async || asleep(&client).await.iter().any(|one| one["status"] == "suspended").then_some(());
    until("the child sleeps", SOON, sleeps).await;
    gate.open();
    system.workers[dies].wait_for_failpoint().await;
    system.workers[dies].kill9();
    system.start_worker(&[]);
    client.wait_suspended(&id, "timer").await;
    assert_eq!(asleep(&client).await, Vec::<Value>::new(), "it is cancelled before the parent rests");
}

async fn a_loser_s_request_is_broken_off(system: System) {
    let (client, won, goes_on) = (system.client(), Gate::closed(), Gate::closed());
    let (url, slow, mut went) = silent().await;
    let held = |gate: &Gate| Reply::Held(gate.clone(), Box::new(Reply::Json(json!("won"))));
    system.tools.script("/fast", [held(&won)]);
    system.tools.script("/after", [held(&goes_on)]);
    let branches = [("slow", http(url, json!({}))), ("fast", http(system.tools.url("/fast"), json!({})))];
    let branches: Vec<_> = branches.into_iter().map(named).collect();
    let race = ("race", json!({"fork": {"compete": true, "branches": branches}}));
    let after = ("after", http(system.tools.url("/after"), json!({})));
    put(&client, &document("race", "1.0.0", vec![race, after])).await;
    let id = start(&client, "race").await;
    system.tools.wait_calls("/fast", 1).await;
    // A request that has not been sent yet cannot be seen to be broken off.
    slow.wait_arrived(1).await;
    assert!(!*went.borrow());
    won.open();
    // The execution is still held by its worker: nothing but the race's end breaks it off.
    system.tools.wait_calls("/after", 1).await;
    tokio::time::timeout(SOON, went.wait_for(|gone| *gone)).await.expect("broken off").unwrap();
    goes_on.open();
    client.wait_status(&id, "completed").await;
}

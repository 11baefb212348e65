//! The OpenAI door as bytes, and conversations behind it.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::{Answer, Client};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::sse::Stream;
use holdpoint_tests::system::{Setup, System};
use holdpoint_tests::tool::Reply;
use reqwest::Method;
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

on_both! {
    a_chat_is_answered_whole;
    a_conversation_goes_on_and_can_be_read;
    twenty_starts_of_one_new_conversation_are_one;
    a_stream_is_chunks_and_its_execution_outlives_the_client;
    what_is_wrong_is_told_in_openai_s_shape;
    a_conversation_is_its_end_user_s;
}

/// A request of one message of the user.
fn ask(text: &str, more: Value) -> Value {
    let mut body = json!({"model": "clerk", "messages": [{"role": "user", "content": text}]});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn put_clerk(system: &System) {
    system.client().put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
}

async fn a_chat_is_answered_whole(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    system.model.script([
        Turn::say_and_call("I look.", &[("c1", "look", json!({"n": 1}))]),
        Turn::say("All is well."),
    ]);
    let answer = client.post(CHAT, &ask("how is it?", json!({}))).await.expect(200);
    let body = &answer.body;
    assert_eq!(body["object"], "chat.completion");
    let choice = &body["choices"][0];
    assert_eq!((&choice["finish_reason"], &choice["index"]), (&json!("stop"), &json!(0)));
    assert_eq!(choice["message"]["content"], "I look.\n\nAll is well.");
    let call = &choice["message"]["tool_calls"][0];
    assert_eq!((&call["id"], &call["function"]["name"]), (&json!("c1"), &json!("look")));
    assert_eq!(choice["message"]["holdpoint.tool_result"][0]["output"], "{\"ok\":true}");
    assert_eq!(body["usage"], json!({"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}));
    let id = body["execution_id"].as_str().unwrap();
    assert_eq!(answer.header("x-workflow-run-id"), id);
    assert_eq!(answer.header("x-holdpoint-conversation-id"), body["conversation_id"].as_str().unwrap());
    assert_eq!(client.execution(id).await["status"], "completed");
}

async fn a_conversation_goes_on_and_can_be_read(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let talk = json!({"conversation_id": "talk 1"});
    system.model.script([
        Turn::call(&[("c1", "look", json!({"n": 1}))]),
        Turn::say("It is 1."),
        Turn::say("I said it is 1."),
    ]);
    let first = client.post(CHAT, &ask("how is it?", talk.clone())).await.expect(200);
    let second = client.post(CHAT, &ask("what did you say?", talk.clone())).await.expect(200);
    assert_ne!(first.body["execution_id"], second.body["execution_id"]);
    let told = system.model.requests()[2].messages().clone();
    let roles: Vec<&str> = told.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "tool", "assistant", "user"], "{told:?}");
    assert_eq!((&told[4]["content"], &told[5]["content"]), (&json!("It is 1."), &json!("what did you say?")));

    let read = client.get("/v1/conversations/talk%201").await.expect(200).body;
    let messages = read["messages"].as_array().unwrap();
    let roles: Vec<&str> = messages.iter().map(|message| message["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant", "user", "assistant"]);
    assert_eq!(messages[2]["tool_call_id"], "c1");
    assert_eq!(messages[5]["execution_id"], second.body["execution_id"]);
    assert_eq!((&read["id"], &read["active_execution_id"]), (&json!("talk 1"), &Value::Null));
    assert_eq!(read["latest_execution_id"], second.body["execution_id"]);
    let page = client.get("/v1/conversations/talk%201?limit=4").await.expect(200).body;
    assert_eq!(page["messages"].as_array().unwrap().len(), 4);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest =
        client.get(&format!("/v1/conversations/talk%201?limit=4&cursor={cursor}")).await.expect(200).body;
    assert_eq!((&rest["messages"][0], &rest["next_cursor"]), (&messages[4], &Value::Null));
    for bad in ["limit=0", "cursor=x", "cursor=-1", "page=2"] {
        client
            .get(&format!("/v1/conversations/talk%201?{bad}"))
            .await
            .expect_problem(400, "invalid_parameter");
    }

    // The stream is that of its latest execution, with its numbering.
    let of_it = client.builder(Method::GET, "/v1/conversations/talk%201/stream?after=1");
    let events = Stream::new(of_it.send().await.unwrap()).rest().await;
    holdpoint_tests::sse::assert_numbered_from(&events, 2);
    holdpoint_tests::sse::assert_end(&events, "completed");
    assert_eq!(events[0].data["execution_id"], second.body["execution_id"]);

    // Nothing new is a re-send: the same output, and nothing starts.
    let again = client.post(CHAT, &ask("what did you say?", talk)).await.expect(200);
    assert_eq!(again.body["choices"], second.body["choices"]);
    assert_eq!(again.body["execution_id"], second.body["execution_id"]);
    assert_eq!(system.model.requests().len(), 3);
}

async fn twenty_starts_of_one_new_conversation_are_one(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    for round in 0..5 {
        let barrier = std::sync::Arc::new(tokio::sync::Barrier::new(20));
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (client, barrier) = (client.clone(), barrier.clone());
            let body = json!({"agent": "clerk", "input": "hi", "delay": "1h", "conversation_id": format!("c{round}")});
            calls.spawn(async move {
                barrier.wait().await;
                client.post("/v1/executions", &body).await
            });
        }
        let answers = calls.join_all().await;
        let (taken, busy): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status == 202);
        assert_eq!((taken.len(), busy.len()), (1, 19));
        for answer in busy {
            let answer = answer.expect_problem(409, "conversation_busy");
            assert_eq!(answer.body["active_execution_id"], taken[0].body["id"]);
        }
        let messages = client.get(&format!("/v1/conversations/c{round}")).await.expect(200).body;
        assert_eq!(messages["messages"].as_array().unwrap().len(), 1);
    }
}

/// Opens a stream of chunks.
async fn open(client: &Client, body: &Value) -> Stream {
    let response = client.builder(Method::POST, CHAT).json(body).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 200);
    let stream = Stream::new(response);
    assert_eq!(stream.header("content-type"), "text/event-stream");
    stream
}

/// The chunks of a stream up to `[DONE]`, which is its last.
async fn chunks(mut stream: Stream) -> Vec<Value> {
    let mut chunks: Vec<Value> = stream.rest().await.into_iter().map(|event| event.data).collect();
    assert_eq!(chunks.pop(), Some(json!("[DONE]")));
    chunks
}

fn text(chunks: &[Value]) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect()
}

async fn a_stream_is_chunks_and_its_execution_outlives_the_client(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let talk = json!({"conversation_id": "s", "stream": true, "stream_options": {"include_usage": true}});
    let gate = Gate::closed();
    system.model.script([Turn::say("a text of some length").held_midway(&gate)]);
    let mut stream = open(&client, &ask("go", talk.clone())).await;
    let id = stream.header("x-workflow-run-id");
    assert_eq!(stream.header("x-holdpoint-conversation-id"), "s");
    let first = stream.next().await.unwrap().data;
    assert_eq!(first["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!((&first["object"], &first["usage"]), (&json!("chat.completion.chunk"), &Value::Null));
    let seen = stream.next().await.unwrap().data["choices"][0]["delta"]["content"].clone();
    assert!("a text of some length".starts_with(seen.as_str().unwrap()));
    drop(stream);
    gate.open();
    client.wait_status(&id, "completed").await;
    let read = client.get("/v1/conversations/s").await.expect(200).body;
    assert_eq!(read["messages"][1]["content"], "a text of some length");
    let all = chunks(open(&client, &ask("go", talk)).await).await;
    assert_eq!(text(&all), "a text of some length");
    let [.., end, usage] = &all[..] else { panic!("{all:?}") };
    assert_eq!(
        (&end["choices"][0]["finish_reason"], &end["choices"][0]["delta"]),
        (&json!("stop"), &json!({}))
    );
    assert_eq!((&usage["choices"], &usage["usage"]["total_tokens"]), (&json!([]), &json!(15)));
    assert!(all.iter().all(|chunk| chunk["execution_id"] == id.as_str() && chunk["id"] == all[0]["id"]));
    assert_eq!(system.model.requests().len(), 1);
}

/// An error as OpenAI's clients read it.
#[track_caller]
fn told(answer: Answer, status: u16, code: &str) -> Value {
    assert_eq!(
        (answer.status, answer.body["error"]["code"].as_str()),
        (status, Some(code)),
        "{}",
        answer.text
    );
    assert_eq!(answer.header("content-type"), "application/json");
    let error = answer.body["error"].clone();
    assert!(
        error["message"].is_string() && error["type"].is_string() && error.get("param").is_some(),
        "{error}"
    );
    error
}

async fn what_is_wrong_is_told_in_openai_s_shape(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let chat = async |body: Value| client.post(CHAT, &body).await;
    told(client.with_key(None).post(CHAT, &ask("x", json!({}))).await, 401, "unauthorized");
    told(client.with_key(Some("hp_no")).get("/v1/models").await, 401, "unauthorized");
    let key = client.post("/v1/keys", &json!({"role": "read", "name": "r"})).await.expect(201);
    let reader = client.with_key(key.body["key"].as_str());
    told(reader.post(CHAT, &ask("x", json!({}))).await, 403, "forbidden");
    reader.get("/v1/models/clerk").await.expect(200);
    told(client.get("/v1/models/nobody").await, 404, "not_found");
    for model in ["nobody", "clerk@7", "clerk@x", "clerk@", "", "a b"] {
        told(chat(ask("x", json!({"model": model}))).await, 404, "unknown_definition");
    }
    for (more, param) in [
        (json!({"messages": []}), "messages"),
        (json!({"messages": [{"role": "robot", "content": "x"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user", "content": 7}]}), "messages[0].content"),
        (json!({"conversation_id": ""}), "conversation_id"),
        (json!({"conversation_id": "x".repeat(256)}), "conversation_id"),
        (json!({"execution_mode": "fast"}), "execution_mode"),
        (json!({"n": 2}), "n"),
        (json!({"stream": "yes"}), "stream"),
    ] {
        assert_eq!(told(chat(ask("x", more)).await, 400, "invalid_body")["param"], param);
    }
    told(client.send(client.builder(Method::POST, CHAT).body("{")).await, 400, "invalid_body");
    let long = json!({"messages": [{"role": "user", "content": "x".repeat(300_000)}]});
    assert_eq!(told(chat(ask("x", long)).await, 413, "limit")["limit"], "value_bytes");
    let nothing = client.get("/v1/executions").await.expect(200).body;
    assert_eq!(nothing["executions"], json!([]), "nothing of this leaves a row");

    // The same key and body are the same execution; another body is refused.
    let keyed =
        async |text: &str| client.post_with(CHAT, &[("idempotency-key", "k")], &ask(text, json!({}))).await;
    let (first, again) = (keyed("a").await.expect(200), keyed("a").await.expect(200));
    assert_eq!(first.body["execution_id"], again.body["execution_id"]);
    told(keyed("b").await, 422, "idempotency_mismatch");

    // Busy; and what fails after it began is not to be tried again by itself.
    let talk = json!({"conversation_id": "busy"});
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let waits = chat(ask("pay", talk.clone())).await.expect(200);
    assert_eq!(waits.body["choices"][0]["finish_reason"], "approval_required");
    let busy = chat(ask("more", talk.clone())).await;
    assert_eq!(busy.header("x-should-retry"), "false");
    assert_eq!(told(busy, 409, "conversation_busy")["active_execution_id"], waits.body["execution_id"]);
    system.model.script([Turn::status(429), Turn::status(429), Turn::status(429)]);
    let failed = chat(ask("x", json!({}))).await;
    assert_eq!(failed.header("x-should-retry"), "false");
    assert!(told(failed, 429, "rate_limit")["execution_id"].is_string());
    let id = waits.body["execution_id"].as_str().unwrap();
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    told(chat(ask("pay", talk)).await, 409, "cancelled");
    unknown_outcome(&system, &client).await;
}

/// A call of which nobody knows whether it happened ends the segment too, and a person's
/// answer lets it go on.
async fn unknown_outcome(system: &System, client: &Client) {
    let agent = Agent::new(&system.model).tool(&system.tools, "send", json!({}));
    client.put_agent("sender", agent.document()).await;
    system.tools.script("/send", [Reply::Reset]);
    system.model.script([Turn::call(&[("c1", "send", json!({"n": 1}))]), Turn::say("Sent.")]);
    let body = ask("send", json!({"model": "sender", "conversation_id": "u", "stream": true}));
    let all = chunks(open(client, &body).await).await;
    assert_eq!(all.last().unwrap()["choices"][0]["finish_reason"], "outcome_unknown");
    let id = all[0]["execution_id"].as_str().unwrap();
    let resolved = json!({"outcome": "happened"});
    client.post(&format!("/v1/executions/{id}/steps/2/resolve"), &resolved).await.expect(202);
    client.wait_status(id, "completed").await;
    let all = chunks(open(client, &body).await).await;
    assert_eq!(text(&all), "Sent.");
}

async fn a_conversation_is_its_end_user_s(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let as_user = async |user: &str, method: Method, path: &str, body: Option<Value>| {
        let builder = client.builder(method, path).header("x-holdpoint-end-user", user);
        client.send(body.iter().fold(builder, |builder, body| builder.json(body))).await
    };
    let talk = json!({"conversation_id": "hers"});
    system.model.script([Turn::call(&[("c1", "pay", json!({"n": 1}))])]);
    let hers = as_user("ada", Method::POST, CHAT, Some(ask("pay", talk.clone()))).await.expect(200);
    let paths = ["", "/stream", "/pending-approvals"].map(|rest| format!("/v1/conversations/hers{rest}"));
    for path in &paths {
        as_user("bob", Method::GET, path, None).await.expect_problem(404, "not_found");
    }
    // Whatever he sends, and although it is busy: to him it is not there.
    for text in ["pay", "something else"] {
        let his = as_user("bob", Method::POST, CHAT, Some(ask(text, talk.clone()))).await;
        told(his, 404, "unknown_conversation");
    }
    let start = json!({"agent": "clerk", "input": "x", "conversation_id": "hers"});
    as_user("bob", Method::POST, "/v1/executions", Some(start))
        .await
        .expect_problem(404, "unknown_conversation");
    let pending = as_user("ada", Method::GET, &paths[2], None).await.expect(200).body;
    assert_eq!(pending["approvals"][0]["tool_call_id"], "c1");
    let read = as_user("ada", Method::GET, &paths[0], None).await.expect(200).body;
    assert_eq!(
        (&read["end_user"], &read["active_execution_id"]),
        (&json!("ada"), &hers.body["execution_id"])
    );
    // Who speaks for nobody sees it, and what they start there is hers.
    let id = hers.body["execution_id"].as_str().unwrap();
    client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.expect(202);
    let next = client.post(CHAT, &ask("and now?", talk)).await.expect(200);
    let id = next.body["execution_id"].as_str().unwrap();
    as_user("ada", Method::GET, &format!("/v1/executions/{id}"), None).await.expect(200);
    as_user("bob", Method::GET, &format!("/v1/executions/{id}"), None).await.expect_problem(404, "not_found");
}

/// Text that was sent cannot be taken back by a stream of this protocol, and a caller who
/// waits for the whole answer does not wait for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_began_anew_and_one_that_takes_too_long() {
    let system = Setup::embedded().set("api.chat_wait_ms", "500").start().await;
    put_clerk(&system).await;
    let client = system.client();
    let gate = Gate::closed();
    system.model.script([Turn::half("void text").held_midway(&gate), Turn::say("the text that counts")]);
    let talk = json!({"conversation_id": "r", "stream": true});
    let mut stream = open(&client, &ask("go", talk.clone())).await;
    let role = stream.next().await.unwrap().data;
    assert_eq!(stream.next().await.unwrap().data["choices"][0]["delta"]["content"], "void text");
    gate.open();
    let rest = chunks(stream).await;
    let [error] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!(error["error"]["code"], "model_restarted");
    client.wait_status(role["execution_id"].as_str().unwrap(), "completed").await;
    let again = chunks(open(&client, &ask("go", talk)).await).await;
    assert_eq!(text(&again), "the text that counts");

    let gate = Gate::closed();
    system.model.script([Turn::say("late").after(&gate)]);
    let talk = json!({"conversation_id": "l"});
    let answer = client.post(CHAT, &ask("go", talk.clone())).await;
    assert_eq!(answer.header("x-should-retry"), "false");
    let error = told(answer, 504, "timeout");
    gate.open();
    client.wait_status(error["execution_id"].as_str().unwrap(), "completed").await;
    // To be read again may take longer than this installation waits, too.
    let again = until("the answer is read", SOON, async || {
        let again = client.post(CHAT, &ask("go", talk.clone())).await;
        (again.status != 504).then_some(again)
    });
    let again = again.await.expect(200);
    assert_eq!(again.body["choices"][0]["message"]["content"], "late");
}

//! The AI SDK's door: by the official `ai` package, unchanged, and as bytes.

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::{Answer, Client};
use holdpoint_tests::clients::{node, run};
use holdpoint_tests::gate::Gate;
use holdpoint_tests::model::Turn;
use holdpoint_tests::on_both;
use holdpoint_tests::poll::{SOON, until_true};
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

on_both! {
    what_is_no_decision_decides_nothing;
    a_page_opened_again_shows_what_came_after_a_decision;
    five_decisions_are_five_answers;
    a_message_is_taken_once;
}

async fn put_clerk(system: &System) {
    system.client().put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
}

/// Runs the official client: what it holds in the end.
async fn official(system: &System, key: &str, chat: &str, steps: Value) -> Value {
    let plan = json!({"base": system.url_of(0), "key": key, "chat": chat, "agent": "clerk", "steps": steps});
    let printed = run(node("ai_chat.mjs").env("PLAN", plan.to_string())).await;
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

/// The parts of a message of a kind, in order.
fn parts<'a>(message: &'a Value, kind: &str) -> Vec<&'a Value> {
    message["parts"].as_array().unwrap().iter().filter(|part| part["type"] == kind).collect()
}

fn texts(message: &Value) -> Vec<&str> {
    parts(message, "text").iter().map(|part| part["text"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_talks_decides_and_resumes() {
    let system = Setup::services().start().await;
    put_clerk(&system).await;
    let key = system.make_key("acme", "shop", "admin");

    // Reasoning, text, a tool; then a second message, of which the model knows the first.
    system.model.script([
        Turn::say_and_call("I look.", &[("c1", "look", json!({"n": 1}))]).thinking("Where is it?"),
        Turn::say("All is well."),
        Turn::say("Gladly."),
    ]);
    let chat = official(&system, &key, "chat-1", json!([{"send": "how is it?"}, {"send": "thanks"}])).await;
    assert_eq!((&chat["status"], &chat["errors"]), (&json!("ready"), &json!([])), "{chat}");
    let messages = chat["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 4, "{chat}");
    let first = &messages[1];
    assert_eq!(parts(first, "reasoning")[0]["text"], "Where is it?");
    assert_eq!(texts(first), ["I look.", "All is well."]);
    assert!(parts(first, "text").iter().all(|part| part["state"] == "done"), "{first}");
    let look = parts(first, "tool-look")[0];
    assert_eq!((&look["state"], &look["input"]), (&json!("output-available"), &json!({"n": 1})));
    assert_eq!(look["output"], json!({"ok": true}));
    assert_eq!(parts(first, "step-start").len(), 2);
    assert_eq!(texts(&messages[3]), ["Gladly."]);
    assert_eq!(chat["finishes"][0]["finishReason"], "stop");
    assert_eq!(system.model.requests()[2].messages().len(), 6);

    // Two questions in one answer: one granted, one denied with a reason that the model hears.
    system.model.script([
        Turn::call(&[("p1", "pay", json!({"n": 1})), ("p2", "pay", json!({"n": 2}))]),
        Turn::say("One is paid."),
    ]);
    let decide = json!([{"approved": true}, {"approved": false, "reason": "too much"}]);
    let chat = official(&system, &key, "chat-2", json!([{"send": "pay"}, {"decide": decide}])).await;
    assert_eq!((&chat["status"], &chat["errors"]), (&json!("ready"), &json!([])), "{chat}");
    let message = &chat["messages"][1];
    let states: Vec<&Value> = parts(message, "tool-pay").iter().map(|part| &part["state"]).collect();
    assert_eq!(states, ["output-available", "output-denied"], "{message}");
    assert_eq!(texts(message), ["One is paid."]);
    assert_eq!(
        (chat["messages"].as_array().unwrap().len(), chat["requests"].as_array().unwrap().len()),
        (2, 2)
    );
    let finishes: Vec<&Value> =
        chat["finishes"].as_array().unwrap().iter().map(|one| &one["finishReason"]).collect();
    assert_eq!(finishes, ["tool-calls", "stop"]);
    assert!(system.model.requests().last().unwrap().told("p2").unwrap().contains("too much"));
    assert_eq!(system.tools.count("/pay"), 1);
    let results = chat["data"].as_array().unwrap().iter();
    let results: Vec<_> = results.filter(|one| one["type"] == "data-holdpoint-approval-results").collect();
    assert_eq!((results.len(), results[0]["data"].as_array().unwrap().len()), (1, 2));

    // The connection breaks in mid-text; the stream is read again, and nothing is there twice.
    system.model.script([
        Turn::say_and_call("Let me pay it.", &[("p1", "pay", json!({"n": 3}))]),
        Turn::say("Paid."),
    ]);
    let steps = json!([{"cut": "Let m", "send": "pay"}, {"resume": true}, {"decide": [{"approved": true}]}]);
    let chat = official(&system, &key, "chat-3", steps).await;
    assert_eq!(chat["finishes"][0]["isDisconnect"], true, "{chat}");
    assert_eq!((&chat["status"], chat["messages"].as_array().unwrap().len()), (&json!("ready"), 2), "{chat}");
    let message = &chat["messages"][1];
    assert_eq!(texts(message), ["Let me pay it.", "Paid."]);
    assert_eq!(parts(message, "tool-pay")[0]["state"], "output-available");
    assert_eq!(parts(message, "tool-pay").len(), 1);

    // A question of an agent that the call was delegated to is answered in the same chat.
    let payer = Agent::new(&system.model).with(json!({"instructions": "payer"}));
    let client = system.client();
    client.put_agent("payer", payer.gated(&system.tools, "pay").document()).await;
    let asks = json!({"instructions": "boss", "tools": [{"name": "ask", "agent": {"name": "payer"}}]});
    client.put_agent("clerk", Agent::new(&system.model).with(asks).document()).await;
    system.model.answer_by(|request| {
        let is_payer = request.messages()[0]["content"] == "payer";
        match (is_payer, request.turns()) {
            (true, 0) => Turn::call(&[("p1", "pay", json!({"n": 4}))]),
            (true, _) => Turn::say("paid"),
            (_, 0) => Turn::call(&[("a1", "ask", json!({"input": "pay it"}))]),
            _ => Turn::say("It is paid."),
        }
    });
    let steps = json!([{"send": "pay"}, {"decide": [{"approved": true}]}]);
    let chat = official(&system, &key, "chat-5", steps).await;
    assert_eq!((&chat["status"], &chat["errors"]), (&json!("ready"), &json!([])), "{chat}");
    let message = &chat["messages"][1];
    let asked = parts(message, "tool-pay")[0];
    assert_eq!((&asked["toolCallId"], &asked["input"]), (&json!("a1:p1"), &json!({"n": 4})));
    assert_eq!(asked["state"], "output-available", "{message}");
    assert_eq!(
        (&parts(message, "tool-ask")[0]["output"], texts(message)),
        (&json!("paid"), vec!["It is paid."])
    );

    // Nothing is under way: resuming finds nothing; regenerating is told what there is.
    let asked = system.model.requests().len();
    let chat = official(&system, &key, "chat-4", json!([{"resume": true}])).await;
    assert_eq!((&chat["requests"][0]["status"], &chat["errors"]), (&json!(204), &json!([])));
    assert_eq!(system.model.requests().len(), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_official_client_runs_classic() {
    let system = Setup::embedded().start().await;
    let looker = Agent::new(&system.model).tool(&system.tools, "look", json!({"effect": "idempotent"}));
    system.client().put_agent("clerk", looker.with(json!({"execution_mode": "classic"})).document()).await;
    let made = system.client().post("/v1/keys", &json!({"role": "agent", "name": "chat"})).await.expect(201);
    let key = made.body["key"].as_str().unwrap().to_owned();
    system.model.script([
        Turn::say_and_call("I look.", &[("c1", "look", json!({"n": 1}))]),
        Turn::say("All is well."),
        Turn::say("Gladly."),
    ]);
    let chat = official(&system, &key, "chat-1", json!([{"send": "how is it?"}, {"send": "thanks"}])).await;
    assert_eq!((&chat["status"], &chat["errors"]), (&json!("ready"), &json!([])), "{chat}");
    assert_eq!(texts(&chat["messages"][1]), ["I look.", "All is well."]);
    assert_eq!(parts(&chat["messages"][1], "tool-look")[0]["state"], "output-available");
    assert_eq!(system.model.requests()[2].messages().len(), 6);
    let listed = system.client().get("/v1/executions").await.expect(200);
    assert_eq!(listed.body["executions"], json!([]));
}

fn user(id: &str, text: &str) -> Value {
    json!({"id": id, "role": "user", "parts": [{"type": "text", "text": text}]})
}

fn responded(id: &Value, call: &str, approval: Value) -> Value {
    let mut approval = approval;
    approval["id"] = id.clone();
    json!({"type": "tool-pay", "toolCallId": call, "state": "approval-responded", "input": {}, "approval": approval})
}

fn assistant(parts: Value) -> Value {
    json!({"id": "msg_a", "role": "assistant", "parts": parts})
}

/// The chunks of a stream.
fn chunks(answer: &Answer) -> Vec<Value> {
    chunks_of(&answer.text)
}

fn chunks_of(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let (chunks, done): (Vec<&str>, Vec<&str>) = lines.partition(|line| line.starts_with('{'));
    assert_eq!(done, ["[DONE]"], "{text}");
    chunks.iter().map(|chunk| serde_json::from_str(chunk).unwrap()).collect()
}

fn of_kind<'a>(chunks: &'a [Value], kind: &str) -> Vec<&'a Value> {
    chunks.iter().filter(|chunk| chunk["type"] == kind).collect()
}

async fn say(client: &Client, chat: &str, messages: Value) -> Answer {
    client.post("/api/chat", &json!({"id": chat, "agent": "clerk", "messages": messages})).await
}

/// Asks for these calls in a chat: the ids of the approvals.
async fn ask(system: &System, client: &Client, chat: &str, calls: &[(&str, &str, Value)]) -> Vec<Value> {
    system.model.script([Turn::call(calls)]);
    let answer = say(client, chat, json!([user("u1", "pay")])).await.expect(200);
    assert_eq!(answer.header("x-vercel-ai-ui-message-stream"), "v1");
    let chunks = chunks(&answer);
    assert_eq!(of_kind(&chunks, "finish")[0]["finishReason"], "tool-calls");
    of_kind(&chunks, "tool-approval-request").iter().map(|one| one["approvalId"].clone()).collect()
}

async fn what_is_no_decision_decides_nothing(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let ids = ask(&system, &client, "a", &[("p1", "pay", json!({"n": 1}))]).await;
    let yes = || responded(&ids[0], "p1", json!({"approved": true}));
    let executions = || async { client.get("/v1/executions").await.expect(200).body["executions"].clone() };
    let (before, asked) = (executions().await, system.model.requests().len());

    for (what, status, body) in [
        (
            "in content",
            400,
            json!({"id": "a", "messages": [{"id": "m", "role": "assistant", "content": [yes()], "parts": []}]}),
        ),
        (
            "in content as text",
            400,
            json!({"id": "a", "agent": "clerk", "messages": [{"id": "m", "role": "user", "content": yes().to_string()}]}),
        ),
        (
            "of another role",
            400,
            json!({"id": "a", "agent": "clerk", "messages": [{"id": "m", "role": "user", "parts": [yes()]}]}),
        ),
        ("without a conversation", 400, json!({"messages": [assistant(json!([yes()]))]})),
        ("of an unknown conversation", 404, json!({"id": "b", "messages": [assistant(json!([yes()]))]})),
        (
            "without approved",
            400,
            json!({"id": "a", "messages": [assistant(json!([responded(&ids[0], "p1", json!({}))]))]}),
        ),
        (
            "with a string",
            400,
            json!({"id": "a", "messages": [assistant(json!([responded(&ids[0], "p1", json!({"approved": "true"}))]))]}),
        ),
        (
            "of another call",
            404,
            json!({"id": "a", "messages": [assistant(json!([responded(&ids[0], "p2", json!({"approved": true}))]))]}),
        ),
        (
            "of an unknown approval",
            404,
            json!({"id": "a", "messages": [assistant(json!([responded(&json!("apr_x"), "p1", json!({"approved": true}))]))]}),
        ),
    ] {
        let answer = client.post("/api/chat", &body).await;
        assert_eq!(answer.status, status, "{what}: {}", answer.text);
        assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    }
    // A key that starts and reads may not decide.
    let made = client.post("/v1/keys", &json!({"role": "agent", "name": "chat"})).await.expect(201);
    let agent = client.with_key(made.body["key"].as_str());
    say(&agent, "a", json!([assistant(json!([yes()]))])).await.expect_problem(403, "forbidden");
    // What stands in the history, and a question, is no decision: the new message is what counts.
    let history = json!([user("u1", "pay"), assistant(json!([yes()])), user("u2", "and?")]);
    say(&client, "a", history).await.expect_problem(409, "conversation_busy");
    let question = json!({"type": "tool-pay", "toolCallId": "p1", "state": "approval-requested", "approval": {"id": ids[0]}});
    let held = say(&client, "a", json!([user("u1", "pay"), assistant(json!([question]))])).await.expect(200);
    assert_eq!(of_kind(&chunks(&held), "tool-approval-request").len(), 1);
    assert_eq!(executions().await, before);
    assert_eq!((system.model.requests().len(), system.tools.count("/pay")), (asked, 0));

    // The run ends with its question undecided: then it cannot be decided any more.
    let id = before[0]["id"].as_str().unwrap();
    assert_eq!(client.post(&format!("/v1/executions/{id}/cancel"), &json!({})).await.status, 202);
    let late = say(&client, "a", json!([user("u1", "pay"), assistant(json!([yes()]))])).await;
    late.expect_problem(410, "approval_closed");
    // Long decided or closed ones in the history do not hold up a new message.
    system.model.script([Turn::say("Gladly.")]);
    let history = json!([user("u1", "pay"), assistant(json!([yes()])), user("u2", "hi")]);
    let told = say(&client, "a", history).await.expect(200);
    // In one piece or in several, as the model's came.
    let deltas = chunks(&told);
    let text: String =
        of_kind(&deltas, "text-delta").iter().map(|one| one["delta"].as_str().unwrap()).collect();
    assert_eq!(text, "Gladly.", "{}", told.text);
    assert_eq!(system.tools.count("/pay"), 0);
}

async fn a_page_opened_again_shows_what_came_after_a_decision(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let ids = ask(&system, &client, "a", &[("p1", "pay", json!({"n": 1}))]).await;
    let gate = Gate::closed();
    system.model.script([Turn::say("It is paid.").held_midway(&gate)]);
    let message =
        json!([user("u1", "pay"), assistant(json!([responded(&ids[0], "p1", json!({"approved": true}))]))]);
    let decided = tokio::spawn({
        let client = client.clone();
        async move { say(&client, "a", message).await }
    });
    system.tools.wait_calls("/pay", 1).await;
    let is_told = || system.model.requests().iter().any(|request| request.told("p1").is_some());
    until_true("the model is told", SOON, is_told).await;
    let reopened = client.builder(Method::GET, "/api/chat/a/stream").send().await.unwrap();
    assert_eq!(reopened.status().as_u16(), 200);
    gate.open();
    let decided = chunks_of(&decided.await.unwrap().expect(200).text);
    let reopened = chunks_of(&reopened.text().await.unwrap());
    for (told, questions) in [(decided, 0), (reopened, 1)] {
        assert_eq!(of_kind(&told, "tool-approval-request").len(), questions, "{told:?}");
        assert_eq!(of_kind(&told, "tool-output-available").len(), 1, "{told:?}");
        let finishes: Vec<_> = of_kind(&told, "finish").iter().map(|one| &one["finishReason"]).collect();
        assert_eq!(finishes, ["stop"], "{told:?}");
    }
}

async fn five_decisions_are_five_answers(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    let names = ["p1", "p2", "p3", "p4", "p5"];
    let calls: Vec<_> = names.iter().map(|name| (*name, "pay", json!({"n": 1}))).collect();
    for round in 0..3 {
        let chat = format!("batch-{round}");
        let ids = ask(&system, &client, &chat, &calls).await;
        let mut parts: Vec<Value> = names
            .iter()
            .zip(&ids)
            .map(|(name, id)| responded(id, name, json!({"approved": *name != "p2", "reason": "no"})))
            .collect();
        parts[4]["approval"]["id"] = json!("apr_01h455vb4pex5vsknk084sn02q");
        let paid = system.tools.count("/pay");
        // The same batch twice at once.
        let messages = json!([user("u1", "pay"), assistant(json!(parts))]);
        let (one, two) = tokio::join!(say(&client, &chat, messages.clone()), say(&client, &chat, messages));
        let mut applied = 0;
        for answer in [one.expect(200), two.expect(200)] {
            let chunks = chunks(&answer);
            let results =
                of_kind(&chunks, "data-holdpoint-approval-results")[0]["data"].as_array().unwrap().clone();
            assert_eq!(results.len(), 5);
            applied += results.iter().filter(|one| one["already_decided"] == false).count();
            assert_eq!(results[1]["decision"], "denied");
            assert_eq!(
                (&results[4]["problem"]["status"], &results[4]["approval_id"]),
                (&json!(404), &parts[4]["approval"]["id"])
            );
        }
        assert_eq!(applied, 4);
        // The fifth still waits; the three that were approved are made, each once.
        system.tools.wait_calls("/pay", paid + 3).await;
        let last = vec![responded(&ids[4], "p5", json!({"approved": true}))];
        let answer =
            say(&client, &chat, json!([user("u1", "pay"), assistant(json!(last))])).await.expect(200);
        let told = chunks(&answer);
        assert_eq!(of_kind(&told, "finish").last().unwrap()["finishReason"], "stop", "{}", answer.text);
        assert_eq!(system.tools.count("/pay"), paid + 4);
    }
}

async fn a_message_is_taken_once(system: System) {
    put_clerk(&system).await;
    let client = system.client();
    // The reader goes away in mid-text; the execution goes on.
    let gate = Gate::closed();
    system.model.script([Turn::say("It takes its time.").held_midway(&gate)]);
    let body = json!({"id": "a", "agent": "clerk", "messages": [user("u1", "go")]});
    let mut response = client.builder(Method::POST, "/api/chat").json(&body).send().await.unwrap();
    let mut read = String::new();
    while !read.contains("It ta") {
        read.push_str(&String::from_utf8_lossy(&response.chunk().await.unwrap().unwrap()));
    }
    drop(response);
    // Sent again while it is under way, and the page opened again: the same, from the beginning.
    let again = tokio::spawn({
        let client = client.clone();
        async move { client.post("/api/chat", &body).await }
    });
    let reopened = client.builder(Method::GET, "/api/chat/a/stream").send().await.unwrap();
    assert_eq!(reopened.status().as_u16(), 200);
    gate.open();
    let again = again.await.unwrap().expect(200);
    let text = |chunks: &[Value]| -> String {
        of_kind(chunks, "text-delta").iter().map(|one| one["delta"].as_str().unwrap()).collect()
    };
    let told = chunks(&again);
    assert_eq!(text(&told), "It takes its time.");
    assert_eq!(of_kind(&told, "start").len(), 1);
    let reopened = reopened.text().await.unwrap();
    assert!(reopened.contains("It ta") && reopened.ends_with("data: [DONE]\n\n"), "{reopened}");
    let id = again.header("x-workflow-run-id").to_owned();
    assert_eq!(client.wait_status(&id, "completed").await["output"], "It takes its time.");
    assert_eq!(client.get("/api/chat/a/stream").await.status, 204);
    assert_eq!(client.get("/api/chat/unknown/stream").await.status, 204);

    // Over: the same once more. A message id that is named must be new, and well formed.
    let over = say(&client, "a", json!([user("u1", "go")])).await.expect(200);
    assert_eq!(
        (text(&chunks(&over)).as_str(), over.header("x-workflow-run-id")),
        ("It takes its time.", &*id)
    );
    let named =
        |id: Value| json!({"id": "a", "agent": "clerk", "messageId": id, "messages": [user("u9", "go")]});
    client.post("/api/chat", &named(json!("u1"))).await.expect_problem(409, "message_id_used");
    for bad in [json!(""), json!("a b"), json!(7), json!("x".repeat(256))] {
        client.post("/api/chat", &named(bad)).await.expect_problem(400, "invalid_body");
    }
    for (body, code) in [
        (json!({"id": "a", "messages": [user("u9", "x")]}), "invalid_body"),
        (json!({"id": "a", "agent": "clerk", "messages": []}), "invalid_body"),
        (
            json!({"id": "a", "agent": "clerk", "execution_mode": "quick", "messages": [user("u9", "x")]}),
            "invalid_body",
        ),
        (json!({"id": "", "agent": "clerk", "messages": [user("u9", "x")]}), "invalid_body"),
        (
            json!({"id": "a", "agent": "clerk", "execution_mode": "classic", "messages": [user("u9", "x")]}),
            "approval_requires_durable",
        ),
    ] {
        client.post("/api/chat", &body).await.expect_problem(400, code);
    }
    say(&client.with_key(None), "a", json!([user("u9", "x")])).await.expect_problem(401, "unauthorized");
    let unknown = json!({"id": "a", "model": "nobody", "messages": [user("u9", "x")]});
    client.post("/api/chat", &unknown).await.expect_problem(404, "unknown_definition");

    // Ten at once are one message and one execution.
    let ten = (0..10).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { say(&client, "ten", json!([user("u1", "go")])).await })
    });
    let mut ids = std::collections::BTreeSet::new();
    for answer in ten.collect::<Vec<_>>() {
        let answer = answer.await.unwrap().expect(200);
        assert_eq!(text(&chunks(&answer)), "done");
        ids.insert(answer.header("x-workflow-run-id").to_owned());
    }
    assert_eq!(ids.len(), 1);
    until_true("the model was asked twice", SOON, || system.model.requests().len() == 2).await;
}

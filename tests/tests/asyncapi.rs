//! `/asyncapi.json` against what is really sent: by producers, as replies, and as events.

use holdpoint_tests::agents::clerk;
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::producer::Producer;
use holdpoint_tests::subscriber::Subscriber;
use holdpoint_tests::system::{Setup, System};
use lapin::options::ExchangeDeclareOptions;
use lapin::types::FieldTable;
use reqwest::Method;
use serde_json::{Value, json};

/// The page, as a producer has it.
struct Page(Value);

impl Page {
    async fn read(system: &System) -> Self {
        Self(system.client().get("/asyncapi.json").await.expect(200).body)
    }

    /// The types of a channel.
    fn types(&self, channel: &str) -> Vec<String> {
        let messages = self.0["channels"][channel]["messages"].as_object().unwrap();
        let follow = |message: &Value| {
            let pointer = message["$ref"].as_str().unwrap().trim_start_matches('#').to_owned();
            self.0.pointer(&pointer).unwrap()["name"].as_str().unwrap().to_owned()
        };
        let mut types: Vec<String> = messages.values().map(follow).collect();
        types.sort();
        types
    }

    /// What is wrong with a message, by its own type's payload.
    fn errors(&self, body: &Value) -> Vec<String> {
        let messages = self.0["components"]["messages"].as_object().unwrap();
        let message = messages.values().find(|message| message["name"] == body["type"]);
        let mut schema = message.unwrap_or_else(|| panic!("no such type: {body}"))["payload"].clone();
        schema["components"] = self.0["components"].clone();
        let validator = jsonschema::validator_for(&schema).unwrap();
        validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }

    fn check(&self, body: &Value) {
        assert_eq!(self.errors(body), Vec::<String>::new(), "{body}");
    }
}

fn command(kind: &str, id: &str, key: &str, mut data: Value) -> Value {
    data["api_key"] = key.into();
    json!({"specversion": "1.0", "id": id, "source": "/tests", "type": kind, "data": data})
}

async fn exchange_is_there(system: &System, name: &str) {
    let connection = system.amqp().await;
    let channel = connection.create_channel().await.unwrap();
    let options = ExchangeDeclareOptions { passive: true, ..Default::default() };
    let declared =
        channel.exchange_declare(name.into(), lapin::ExchangeKind::Topic, options, FieldTable::default());
    declared.await.unwrap_or_else(|error| panic!("{name}: {error}"));
    connection.close(200, "done".into()).await.unwrap();
}

/// Keeps the next reply that is no double: one that was not confirmed in time is sent once more.
async fn take_reply(producer: &mut Producer, replies: &mut Vec<Value>) -> Value {
    loop {
        let reply = producer.envelope().await;
        if replies.iter().all(|one| one["id"] != reply["id"]) {
            replies.push(reply.clone());
            return reply;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_what_the_page_says() {
    let system = Setup::services().start().await;
    let (client, page) = (system.client(), Page::read(&system).await);
    let mut producer = Producer::connect(&system).await;
    for channel in ["commands", "events"] {
        let exchange = page.0["channels"][channel]["bindings"]["amqp"]["exchange"]["name"].as_str().unwrap();
        assert_eq!(exchange, format!("{}.{channel}", system.prefix));
        exchange_is_there(&system, exchange).await;
    }
    let mut subscriber = Subscriber::bind(&system, "#").await;
    let put = client.builder(Method::PUT, "/v1/event-settings").json(&json!({"exchange": true}));
    client.send(put).await.expect(200);
    client.put_agent("clerk", clerk(&system.model, &system.tools).document()).await;
    system.model.answer_by(|request| match (request.turns(), request.body.to_string().contains("break")) {
        (_, true) => Turn::status(400),
        (0, _) => Turn::call(&[("c1", "pay", json!({"n": 1}))]),
        _ => Turn::say("done"),
    });
    let key = system.make_key("acme", "shop", "admin");

    // Commands as the page has them are taken, and answered as it says.
    let start = |id: &str, text: &str| {
        let data = json!({"agent": "clerk", "messages": [{"role": "user", "content": text}]});
        let mut event = command("holdpoint.execution.start.v1", id, &key, data);
        event["reply"] = json!("finished");
        event
    };
    let mut replies = Vec::new();
    let mut ids = Vec::new();
    for (name, text) in [("s1", "pay"), ("s2", "cancel"), ("s3", "break")] {
        let event = start(name, text);
        page.check(&event);
        producer.send(&event).await;
        let reply = take_reply(&mut producer, &mut replies).await;
        ids.push(reply["data"]["execution_id"].as_str().unwrap().to_owned());
        if text == "break" {
            take_reply(&mut producer, &mut replies).await;
            continue;
        }
        client.wait_pending(&ids[ids.len() - 1], 1).await;
    }
    let decide = json!({"execution_id": ids[0], "tool_call_id": "c1", "approved": true, "reason": "fine"});
    let cancel = json!({"execution_id": ids[1]});
    for (kind, id, data) in
        [("holdpoint.approval.decide.v1", "d1", decide), ("holdpoint.execution.cancel.v1", "c1", cancel)]
    {
        let event = command(kind, id, &key, data);
        page.check(&event);
        producer.send(&event).await;
        // `accepted`, and the end of what was started: in either order.
        take_reply(&mut producer, &mut replies).await;
        take_reply(&mut producer, &mut replies).await;
    }
    let unknown = command("holdpoint.execution.start.v1", "s4", &key, json!({"agent": "nobody", "input": 1}));
    producer.send(&unknown).await;
    take_reply(&mut producer, &mut replies).await;
    replies.iter().for_each(|reply| page.check(reply));
    let mut seen: Vec<String> =
        replies.iter().map(|reply| reply["type"].as_str().unwrap().to_owned()).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen, page.types("replies"), "every reply that is named was sent");
    let ends: Vec<&Value> =
        replies.iter().filter(|reply| reply["type"] == "holdpoint.command.finished.v1").collect();
    let status_of = |id: &str| &ends.iter().find(|end| end["subject"] == id).unwrap()["data"]["status"];
    assert_eq!(
        [status_of(&ids[0]), status_of(&ids[1]), status_of(&ids[2])],
        ["completed", "cancelled", "failed"]
    );

    // A workflow's final failure is an event of its own.
    let document = "document: { dsl: '1.0.3', namespace: tests, name: barred, version: '1.0.0' }\n\
                    do: [ { stop: { raise: { error: { type: \
                    'https://serverlessworkflow.io/spec/1.0.0/errors/authentication', status: 401 } } } } ]\n";
    let put = client.builder(Method::PUT, "/v1/workflows/barred").header("content-type", "application/yaml");
    client.send(put.body(document)).await.expect(201);
    let run = client.post("/v1/executions", &json!({"workflow": "barred"})).await.expect(202).id();
    client.wait_status(&run, "failed").await;

    // Every type of event that the page names comes, and is as it says.
    let named = page.types("events");
    until("every type of event came", SOON, || async {
        (system.schema().count("SELECT count(*) FROM outgoing") == 0).then_some(())
    })
    .await;
    subscriber.take(&system).await;
    let mut came: Vec<String> = Vec::new();
    for one in &subscriber.came {
        page.check(&one.body);
        let kind = one.body["type"].as_str().unwrap();
        assert_eq!(
            one.key,
            format!("acme.{}", kind.trim_start_matches("holdpoint.").trim_end_matches(".v1"))
        );
        came.push(kind.to_owned());
    }
    came.sort();
    came.dedup();
    assert_eq!(came, named);

    // The page is strict enough to refuse what is something else.
    let mut wrong = subscriber.came[0].body.clone();
    wrong["data"].as_object_mut().unwrap().remove("execution_id");
    assert!(!page.errors(&wrong).is_empty());
    let more = command("holdpoint.execution.cancel.v1", "x", &key, json!({"execution_id": "e", "more": 1}));
    assert!(!page.errors(&more).is_empty());
    producer.close().await;
}

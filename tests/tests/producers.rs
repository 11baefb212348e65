//! Commands by AMQP: the same checks, acts and problems as over HTTP; what cannot be carried
//! out is parked, and taken in again by a person.

mod crashes;
mod files;
mod many;
mod parked;

use holdpoint_tests::agents::{Agent, clerk};
use holdpoint_tests::client::{Client, go};
use holdpoint_tests::clients;
use holdpoint_tests::model::Turn;
use holdpoint_tests::poll::{SOON, until};
use holdpoint_tests::producer::{Producer, command, plain, start};
use holdpoint_tests::system::{Setup, System};
use reqwest::Method;
use serde_json::{Value, json};

/// A system, somebody who submits by message, and the key that they have.
struct Shop {
    system: System,
    client: Client,
    producer: Producer,
    key: String,
}

impl Shop {
    async fn open() -> Self {
        Self::with(Setup::services()).await
    }

    async fn with(setup: Setup) -> Self {
        let system = setup.start().await;
        let (client, producer) = (system.client(), Producer::connect(&system).await);
        let key = system.make_key("acme", "shop", "admin");
        Self { system, client, producer, key }
    }

    async fn executions(&self) -> Vec<Value> {
        let answer = self.client.get("/v1/executions?limit=1000").await.expect(200);
        answer.body["executions"].as_array().unwrap().clone()
    }

    /// What is parked of this tenant, newest first.
    async fn parked(&self) -> Vec<Value> {
        let answer = self.client.get("/v1/parked-messages?limit=1000").await.expect(200);
        answer.body["parked_messages"].as_array().unwrap().clone()
    }

    /// Waits until so many messages are parked.
    async fn wait_parked(&self, count: usize) -> Vec<Value> {
        until(&format!("{count} messages are parked"), SOON, || async {
            let parked = self.parked().await;
            (parked.len() >= count).then_some(parked)
        })
        .await
    }

    fn with_key(&self, mut data: Value) -> Value {
        data["api_key"] = self.key.as_str().into();
        data
    }

    async fn clerk(&self) {
        let agent = clerk(&self.system.model, &self.system.tools);
        self.client.put_agent("clerk", agent.document()).await;
        self.system.model.answer_by(|request| match request.turns() {
            0 => Turn::call(&[("c1", "pay", json!({"n": 1}))]),
            _ => Turn::say("done"),
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_by_message_runs_once_however_often_it_is_sent() {
    let mut shop = Shop::open().await;
    let event = start(&shop.key, "order-1");
    for _ in 0..3 {
        shop.producer.send(&event).await;
    }
    let id = shop.producer.accepted().await;
    assert_eq!([shop.producer.accepted().await, shop.producer.accepted().await], [id.clone(), id.clone()]);
    // The same in plain JSON is another command: it has another source.
    let properties = plain("holdpoint.execution.start.v1", "order-1", &shop.key);
    let body = br#"{"workflow":"holdpoint.noop","labels":{"team":"eu"}}"#;
    for _ in 0..2 {
        let to_me = properties.clone().with_reply_to(shop.producer.reply_to.clone());
        shop.producer.publish(to_me.with_correlation_id("c-7".into()), body).await;
    }
    let first = shop.producer.reply().await;
    let second = shop.producer.reply().await;
    assert_eq!((first.correlation_id.as_str(), &first.data), ("c-7", &second.data));
    let other = first.data["execution_id"].as_str().unwrap().to_owned();
    for id in [&id, &other] {
        shop.client.wait_status(id, "completed").await;
    }
    assert_eq!(shop.client.execution(&other).await["labels"]["team"], "eu");
    assert_eq!(shop.executions().await.len(), 2);
    assert!(shop.parked().await.is_empty());
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn approvals_are_decided_and_executions_cancelled_by_message() {
    let mut shop = Shop::open().await;
    shop.clerk().await;
    let id = shop.client.start("clerk").await;
    shop.client.wait_pending(&id, 1).await;
    let decide = |id: &str, more: Value| {
        let mut data = shop.with_key(json!({"execution_id": id, "tool_call_id": "c1"}));
        data.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        data
    };
    let decision = "holdpoint.approval.decide.v1";
    // A string is no decision; nothing is decided by it.
    let (wrong, right) = (decide(&id, json!({"approved": "true"})), decide(&id, json!({"approved": true})));
    let other = decide(&id, json!({"approved": false}));
    shop.producer.send(&command(decision, "d-0", wrong)).await;
    assert_eq!(shop.producer.rejected().await["status"], 400);
    shop.client.wait_pending(&id, 1).await;
    for _ in 0..2 {
        shop.producer.send(&command(decision, "d-1", right.clone())).await;
        assert_eq!(shop.producer.accepted().await, id);
    }
    shop.client.wait_status(&id, "completed").await;
    assert_eq!(shop.system.tools.count("/pay"), 1);
    shop.producer.send(&command(decision, "d-2", other)).await;
    assert_eq!(shop.producer.rejected().await["code"], "approval_conflict");

    let id = shop.client.start("clerk").await;
    shop.client.wait_pending(&id, 1).await;
    let cancel = shop.with_key(json!({"execution_id": id}));
    let cancel = |n: &str| command("holdpoint.execution.cancel.v1", n, cancel.clone());
    for _ in 0..2 {
        shop.producer.send(&cancel("x-1")).await;
        assert_eq!(shop.producer.accepted().await, id);
    }
    shop.client.wait_status(&id, "cancelled").await;
    shop.producer.send(&cancel("x-2")).await;
    assert_eq!(shop.producer.rejected().await["code"], "already_terminal");
    assert_eq!(shop.parked().await.len(), 1, "only the one with a string in place of a boolean");
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_has_the_rights_of_its_key_and_no_others() {
    let mut shop = Shop::open().await;
    let submits = shop.system.make_key("acme", "shop", "submit");
    let stranger = shop.system.make_key("globex", "shop", "submit");
    shop.producer.send(&start(&stranger, "s-1")).await;
    let theirs = shop.producer.accepted().await;
    assert!(shop.executions().await.is_empty(), "it is of the tenant of its key");
    let data = json!({"api_key": submits, "execution_id": theirs});
    shop.producer.send(&command("holdpoint.execution.cancel.v1", "s-2", data)).await;
    assert_eq!(shop.producer.rejected().await["code"], "not_found");
    let data = json!({"api_key": submits, "execution_id": theirs, "tool_call_id": "c1", "approved": true});
    shop.producer.send(&command("holdpoint.approval.decide.v1", "s-3", data)).await;
    assert_eq!(shop.producer.rejected().await["code"], "forbidden");
    assert_eq!(shop.wait_parked(1).await[0]["code"], "forbidden");

    // Revoked, it is refused within a second.
    let id = shop.client.get("/v1/keys").await.expect(200).body["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| submits.contains(&key["id"].as_str().unwrap()[4..]))
        .map(|key| key["id"].as_str().unwrap().to_owned())
        .unwrap();
    shop.producer.send(&start(&submits, "s-4")).await;
    shop.producer.accepted().await;
    let builder = shop.client.builder(Method::DELETE, &format!("/v1/keys/{id}"));
    shop.client.send(builder).await.expect(204);
    shop.producer.send(&start(&submits, "s-5")).await;
    assert_eq!(shop.producer.rejected().await["status"], 401);
    shop.producer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_user_is_kept_to_their_own() {
    let mut shop = Shop::open().await;
    shop.client.put_agent("talker", Agent::new(&shop.system.model).document()).await;
    shop.system.model.answer_by(|_| Turn::say("hello"));
    let mut headers = lapin::types::FieldTable::default();
    headers.insert("x-holdpoint-end-user".into(), lapin::types::AMQPValue::LongString("ada".into()));
    let properties = lapin::BasicProperties::default()
        .with_content_type("application/cloudevents+json".into())
        .with_reply_to(shop.producer.reply_to.clone())
        .with_headers(headers);
    let event = command("holdpoint.execution.start.v1", "u-1", shop.with_key(go("talker")));
    shop.producer.publish(properties, event.to_string().as_bytes()).await;
    let id = shop.producer.accepted().await;
    let of = |user: &str| {
        shop.client.builder(Method::GET, &format!("/v1/executions/{id}")).header("x-holdpoint-end-user", user)
    };
    shop.client.send(of("ada")).await.expect(200);
    shop.client.send(of("bob")).await.expect(404);
    shop.producer.close().await;
}

/// `tests/clients/producer.py` knows exchanges and shapes from the docs, and `pika` as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_in_python_starts_approves_hears_of_the_end_and_cancels() {
    let shop = Shop::open().await;
    shop.clerk().await;
    let script = clients::python("producer.py")
        .env("AMQP_URL", shop.system.amqp_url())
        .env("EXCHANGE", format!("{}.commands", shop.system.prefix))
        .env("HOLDPOINT_URL", shop.system.url_of(0))
        .env("HOLDPOINT_KEY", &shop.key);
    let printed = clients::run(script).await;
    let told: Value = serde_json::from_str(printed.lines().last().unwrap()).unwrap();
    assert_eq!(told["finished"], "completed");
    assert_eq!(told["accepted"].as_array().unwrap().len(), 3);
    let id = told["started"].as_str().unwrap();
    assert!(told["accepted"].as_array().unwrap().iter().all(|one| one == id));
    shop.client.wait_status(id, "completed").await;
    shop.client.wait_status(told["cancelled"].as_str().unwrap(), "cancelled").await;
    assert_eq!(shop.executions().await.len(), 2);
    assert_eq!(shop.system.tools.count("/pay"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_are_taken_once_by_message_and_by_http() {
    let mut shop = Shop::open().await;
    shop.clerk().await;
    let id = shop.client.start("clerk").await;
    shop.client.wait_pending(&id, 1).await;
    let deliver = "holdpoint.signal.deliver.v1";
    let by_message = shop.with_key(json!({"execution_id": id, "name": "paid", "data": {"n": 1}}));
    let event = json!({"specversion": "1.0", "id": "e1", "source": "/bank", "type": "paid", "data": 2});
    let whole = shop.with_key(json!({"execution_id": id, "event": event}));
    let both = shop.with_key(json!({"execution_id": id, "event": event, "data": 1}));
    shop.producer.send(&command(deliver, "s-0", both)).await;
    assert_eq!(shop.producer.rejected().await["code"], "invalid_body");
    for (name, data) in [("s-1", &by_message), ("s-1", &by_message), ("s-2", &whole), ("s-3", &whole)] {
        shop.producer.send(&command(deliver, name, data.clone())).await;
        assert_eq!(shop.producer.accepted().await, id);
    }
    // The same event by HTTP is the same signal; one with a key is its own, once.
    let path = format!("/v1/executions/{id}/signals/paid");
    let post = |kind: &str, body: &Value| {
        let post = shop.client.builder(Method::POST, &path).header("content-type", kind);
        post.header("idempotency-key", "k1").body(body.to_string())
    };
    for _ in 0..2 {
        shop.client.send(post("application/cloudevents+json", &event)).await.expect(202);
        shop.client.send(post("application/json", &json!([3]))).await.expect(202);
    }
    let mut other = event.clone();
    other["type"] = json!("other");
    let refused = shop.client.send(post("application/cloudevents+json", &other)).await;
    refused.expect_problem(400, "invalid_body");
    let kept = "SELECT count(*) FROM journal WHERE kind = 'signal.received'";
    until("all that lies in the inbox is journaled", SOON, || async {
        (shop.system.schema().count("SELECT count(*) FROM inbox") == 0).then_some(())
    })
    .await;
    assert_eq!(shop.system.schema().count(kept), 3);
    let cancel = shop.client.builder(Method::POST, &format!("/v1/executions/{id}/cancel"));
    shop.client.send(cancel).await.expect(202);
    shop.client.wait_status(&id, "cancelled").await;
    let late = shop.client.send(post("application/json", &json!(4))).await;
    late.expect_problem(409, "already_terminal");
    // What was accepted before stays accepted; another comes too late.
    shop.producer.send(&command(deliver, "s-1", by_message.clone())).await;
    assert_eq!(shop.producer.accepted().await, id);
    shop.producer.send(&command(deliver, "s-9", by_message)).await;
    assert_eq!(shop.producer.rejected().await["code"], "already_terminal");
    shop.producer.close().await;
}

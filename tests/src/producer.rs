//! A producer outside: it has a broker, a key and the documented shapes of messages, no more.

use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, Channel, Connection};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::poll::{SOON, until};
use crate::system::System;

/// The content type of a CloudEvent in structured JSON.
pub const CLOUD_EVENT: &str = "application/cloudevents+json";

/// What an answer says.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The type.
    pub kind: String,
    /// What it belongs to.
    pub correlation_id: String,
    /// The event's data.
    pub data: Value,
}

/// A producer with a queue for answers.
pub struct Producer {
    connection: Connection,
    channel: Channel,
    exchange: String,
    answers: lapin::Consumer,
    /// The queue for answers.
    pub reply_to: ShortString,
}

impl Producer {
    /// Connects to a system's broker, once its API has: the API is ready without a broker, and what is
    /// sent before the exchange and its queue are there is nobody's.
    pub async fn connect(system: &System) -> Self {
        let client = system.client();
        until("the API has the broker", SOON, || async {
            let answer = client.try_send(client.builder(reqwest::Method::GET, "/readyz")).await.ok()?;
            (answer.body["broker"] == "up").then_some(())
        })
        .await;
        let connection = system.amqp().await;
        let channel = connection.create_channel().await.expect("a channel");
        let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
        let queue = channel.queue_declare("".into(), options, FieldTable::default()).await.expect("a queue");
        let reply_to = queue.name().clone();
        let options = BasicConsumeOptions { no_ack: true, ..Default::default() };
        let answers = channel
            .basic_consume(reply_to.clone(), "".into(), options, FieldTable::default())
            .await
            .expect("a consumer");
        let exchange = format!("{}.commands", system.prefix);
        Self { connection, channel, exchange, answers, reply_to }
    }

    /// Sends whatever it is given.
    pub async fn publish(&self, properties: BasicProperties, body: &[u8]) {
        let properties = properties.with_delivery_mode(2);
        self.channel
            .basic_publish(
                self.exchange.as_str().into(),
                "commands".into(),
                BasicPublishOptions::default(),
                body,
                properties,
            )
            .await
            .expect("written");
    }

    /// Sends a CloudEvent, whose answer comes here.
    pub async fn send(&self, event: &Value) {
        let properties = BasicProperties::default().with_reply_to(self.reply_to.clone());
        self.publish(properties.with_content_type(CLOUD_EVENT.into()), event.to_string().as_bytes()).await;
    }

    /// Sends a CloudEvent and wants no answer.
    pub async fn tell(&self, event: &Value) {
        let properties = BasicProperties::default().with_content_type(CLOUD_EVENT.into());
        self.publish(properties, event.to_string().as_bytes()).await;
    }

    /// The next answer as it came.
    pub async fn envelope(&mut self) -> Value {
        let came = timeout(SOON, self.answers.next()).await.expect("an answer in time");
        serde_json::from_slice(&came.expect("the consumer stands").expect("a delivery").data).expect("JSON")
    }

    /// The next answer.
    pub async fn reply(&mut self) -> Reply {
        let came = timeout(SOON, self.answers.next()).await.expect("an answer in time");
        let came = came.expect("the consumer stands").expect("a delivery");
        let event: Value = serde_json::from_slice(&came.data).expect("JSON");
        let text = |value: &Option<ShortString>| value.as_ref().map(ToString::to_string).unwrap_or_default();
        assert_eq!(text(came.properties.content_type()), CLOUD_EVENT);
        assert_eq!(event["type"], text(came.properties.kind()));
        Reply {
            kind: text(came.properties.kind()),
            correlation_id: text(came.properties.correlation_id()),
            data: event["data"].clone(),
        }
    }

    /// The next answer, which must be `accepted`: the execution's id.
    pub async fn accepted(&mut self) -> String {
        let reply = self.reply().await;
        assert_eq!(reply.kind, "holdpoint.command.accepted.v1", "{reply:?}");
        reply.data["execution_id"].as_str().expect("an id").to_owned()
    }

    /// The next answer, which must be `rejected`: the problem.
    pub async fn rejected(&mut self) -> Value {
        let reply = self.reply().await;
        assert_eq!(reply.kind, "holdpoint.command.rejected.v1", "{reply:?}");
        reply.data["problem"].clone()
    }

    /// Disconnects.
    pub async fn close(self) {
        self.connection.close(200, "done".into()).await.expect("closed");
    }
}

/// A command as a CloudEvent of the source `/shop`.
pub fn command(kind: &str, id: &str, data: Value) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": kind, "data": data})
}

/// A start of the built-in workflow.
pub fn start(key: &str, id: &str) -> Value {
    command("holdpoint.execution.start.v1", id, json!({"api_key": key, "workflow": "holdpoint.noop"}))
}

/// Properties of a plain message with a credential in its headers.
pub fn plain(kind: &str, id: &str, key: &str) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("authorization".into(), AMQPValue::LongString(format!("Bearer {key}").into()));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_type(kind.into())
        .with_message_id(id.into())
        .with_headers(headers)
}

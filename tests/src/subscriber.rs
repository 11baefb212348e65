//! A subscriber to the lifecycle events of a system, as anybody outside could be one.

use std::collections::{HashMap, HashSet};

use lapin::BasicProperties;
use lapin::options::{BasicAckOptions, BasicGetOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use serde_json::Value;

use crate::poll::{SOON, until};
use crate::system::{System, answered};

/// A message as it came.
#[derive(Debug, Clone)]
pub struct Came {
    /// The routing key.
    pub key: String,
    /// The properties.
    pub properties: BasicProperties,
    /// The body.
    pub body: Value,
}

/// A durable queue, bound to the exchange for events.
#[derive(Debug)]
pub struct Subscriber {
    queue: String,
    /// Everything that came, in order, doubles too.
    pub came: Vec<Came>,
}

impl Subscriber {
    /// Binds a queue by this key; waits until the exchange is there.
    pub async fn bind(system: &System, key: &str) -> Self {
        let queue = format!("{}-subscriber-{}", system.prefix, uuid::Uuid::now_v7().simple());
        until("a queue is bound to the exchange", SOON, || {
            answered(async {
                let connection = system.try_amqp().await?;
                let channel = connection.create_channel().await.ok()?;
                let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.ok()?;
                let exchange = format!("{}.events", system.prefix);
                let bound = channel.queue_bind(
                    queue.as_str().into(),
                    exchange.as_str().into(),
                    key.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                );
                bound.await.ok()?;
                connection.close(200, "done".into()).await.ok()
            })
        })
        .await;
        Self { queue, came: Vec::new() }
    }

    /// Takes what lies in the queue; nothing while the broker is away.
    pub async fn take(&mut self, system: &System) {
        answered(self.try_take(system)).await;
    }

    async fn try_take(&mut self, system: &System) -> Option<()> {
        let connection = system.try_amqp().await?;
        if let Ok(channel) = connection.create_channel().await {
            while let Ok(Some(got)) =
                channel.basic_get(self.queue.as_str().into(), BasicGetOptions::default()).await
            {
                let came = Came {
                    key: got.delivery.routing_key.to_string(),
                    properties: got.delivery.properties.clone(),
                    body: serde_json::from_slice(&got.delivery.data).expect("JSON"),
                };
                self.came.push(came);
                if got.delivery.acker.ack(BasicAckOptions::default()).await.is_err() {
                    break;
                }
            }
        }
        connection.close(200, "done".into()).await.ok()
    }

    /// The ids of the events that came, each once, by execution, in the order in which they
    /// first came. One id is always one body.
    pub fn first_of_each(&self) -> HashMap<String, Vec<Value>> {
        let (mut seen, mut by_execution) = (HashMap::new(), HashMap::<String, Vec<Value>>::new());
        for came in &self.came {
            let id = came.body["id"].as_str().expect("an id").to_owned();
            let before = seen.insert(id, came.body.clone());
            match before {
                Some(before) => assert_eq!(before, came.body, "a double is the same event"),
                None => by_execution
                    .entry(came.body["subject"].as_str().expect("a subject").to_owned())
                    .or_default()
                    .push(came.body.clone()),
            }
        }
        by_execution
    }

    /// How many different events came.
    pub fn distinct(&self) -> usize {
        self.came.iter().map(|came| came.body["id"].to_string()).collect::<HashSet<_>>().len()
    }
}

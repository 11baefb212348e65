//! Every exchange and queue on the broker, every flag, and why.
//!
//! | name | what | for |
//! |---|---|---|
//! | `<p>.advance` | classic queue, durable, at most [`HINTS_KEPT`] messages | hints for any worker |
//! | `<p>.sweeps` | quorum queue, delivery limit, dead-lettered | commands for any worker |
//! | `<p>.dead` | fan-out exchange and quorum queue | what came back too often |
//! | `<p>.notify` | direct exchange | hints for one holder, and for every stream server |
//! | `<p>.holder.…`, `<p>.streams.…` | exclusive classic queues, bounded | one for each consumer |
//!
//! A queue that stands with other arguments is refused by the broker (406), and that refusal
//! closes the channel: so everything is declared on a channel of its own, which is thrown away.
//! Whoever wants other arguments takes another name.

use std::time::Duration;

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::link::{LinkError, Live, bounded};
use crate::{DELIVERY_LIMIT, OWN_QUEUE_BOUND, Route, Source};

/// Hints kept for workers that are all away. Workers also poll, so that older ones may go.
const HINTS_KEPT: i64 = 100_000;

/// How long a deleted queue stays deleted at least, before it is declared anew. If it is there
/// again at once, the broker subscribes the old consumers of a quorum queue to the new one by
/// itself, and they get nothing for ever; if it is not, they are told.
pub(super) const MOURNING: Duration = Duration::from_millis(750);

/// The names, behind their prefix.
pub(super) struct Topology {
    prefix: String,
}

/// Where a message is published to.
pub(super) struct Address {
    /// The exchange; empty for the default one, which knows every queue by its name.
    pub exchange: ShortString,
    /// The routing key.
    pub key: ShortString,
    /// Whether the message itself must survive the broker.
    pub persistent: bool,
}

/// Which queue is consumed, and whether it is the consumer's own.
pub(super) struct Subscription {
    /// Its name.
    pub queue: String,
    /// Whether it is a quorum queue.
    pub quorum: bool,
    /// The key that an own queue is bound by; `None` for a shared queue.
    own: Option<String>,
}

impl Subscription {
    /// Whether the queue goes with its consumer.
    pub fn is_own(&self) -> bool {
        self.own.is_some()
    }
}

impl Topology {
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    fn name(&self, of: &str) -> String {
        format!("{}.{of}", self.prefix)
    }

    /// Where this goes. Hints are not persistent: after a restart of the broker the database
    /// is polled anyway. Commands are.
    pub fn address(&self, route: Route) -> Address {
        let (exchange, key, persistent) = match route {
            Route::Workers => (String::new(), self.name("advance"), false),
            Route::Sweeps => (String::new(), self.name("sweeps"), true),
            Route::Holder(session) => (self.name("notify"), format!("holder.{session}"), false),
            Route::Streams => (self.name("notify"), "streams".to_owned(), false),
        };
        Address { exchange: exchange.into(), key: key.into(), persistent }
    }

    /// What is consumed for this source. `unique` tells own queues apart; it must change with
    /// the connection, for a broker may hold the queue of a lost one for a while, locked.
    pub fn subscription(&self, source: Source, unique: &str) -> Subscription {
        let own = match source {
            Source::Holder(session) => Some(format!("holder.{session}")),
            Source::Streams => Some("streams".to_owned()),
            Source::Workers | Source::Sweeps | Source::Dead => None,
        };
        let queue = match own {
            Some(_) => self.name(&format!("{}.{unique}", source.word())),
            None => self.name(source.word()),
        };
        let quorum = matches!(source, Source::Sweeps | Source::Dead);
        Subscription { queue, quorum, own }
    }

    /// Declares everything that is shared.
    pub async fn declare(&self, live: &Live) -> Result<(), LinkError> {
        let channel = live.channel().await?;
        self.declare_exchange(&channel, "notify", ExchangeKind::Direct).await?;
        self.declare_exchange(&channel, "dead", ExchangeKind::Fanout).await?;
        declare_queue(&channel, &self.name("advance"), durable(), advance_arguments()).await?;
        declare_queue(&channel, &self.name("dead"), durable(), quorum()).await?;
        bind(&channel, &self.name("dead"), &self.name("dead"), "").await?;
        declare_queue(&channel, &self.name("sweeps"), durable(), self.sweeps_arguments()).await?;
        live.put_away(channel).await;
        Ok(())
    }

    /// Declares and binds a consumer's own queue; nothing to do for a shared one.
    pub async fn declare_own(&self, live: &Live, subscription: &Subscription) -> Result<(), LinkError> {
        let Some(key) = &subscription.own else {
            return Ok(());
        };
        let channel = live.channel().await?;
        // Exclusive: it goes with the connection, whatever becomes of this process. Not
        // auto-delete: a consumer that is stopped for a while keeps its queue.
        let options = QueueDeclareOptions { exclusive: true, ..QueueDeclareOptions::default() };
        declare_queue(&channel, &subscription.queue, options, bounded_queue(OWN_QUEUE_BOUND as i64)).await?;
        bind(&channel, &subscription.queue, &self.name("notify"), key).await?;
        live.put_away(channel).await;
        Ok(())
    }

    async fn declare_exchange(
        &self,
        channel: &lapin::Channel,
        of: &str,
        kind: ExchangeKind,
    ) -> Result<(), LinkError> {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let declaring = channel.exchange_declare(self.name(of).into(), kind, options, FieldTable::default());
        bounded("declaring an exchange", declaring).await
    }

    /// Replicated and on disk. The delivery limit is a backstop only: the broker counts a crash
    /// against the whole prefetch. Dead letters are confirmed by the queue that gets them
    /// before they leave (`at-least-once`), which needs `reject-publish`.
    fn sweeps_arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(DELIVERY_LIMIT as i32));
        arguments.insert("x-dead-letter-exchange".into(), text(&self.name("dead")));
        arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
        arguments.insert("x-overflow".into(), text("reject-publish"));
        arguments
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// The queue survives a restart of the broker; its messages only where they are persistent.
fn durable() -> QueueDeclareOptions {
    QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() }
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

/// The newest hint says the same as the oldest: the oldest goes.
fn bounded_queue(most: i64) -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(most));
    arguments.insert("x-overflow".into(), text("drop-head"));
    arguments
}

fn advance_arguments() -> FieldTable {
    bounded_queue(HINTS_KEPT)
}

async fn declare_queue(
    channel: &lapin::Channel,
    name: &str,
    options: QueueDeclareOptions,
    arguments: FieldTable,
) -> Result<(), LinkError> {
    bounded("declaring a queue", channel.queue_declare(name.into(), options, arguments)).await.map(drop)
}

async fn bind(channel: &lapin::Channel, queue: &str, exchange: &str, key: &str) -> Result<(), LinkError> {
    let options = QueueBindOptions::default();
    let binding =
        channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default());
    bounded("binding a queue", binding).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::ids::SessionId;

    #[test]
    fn only_commands_are_persistent() {
        let topology = Topology::new("p");
        let session = SessionId(uuid::Uuid::nil());
        assert!(topology.address(Route::Sweeps).persistent);
        for hint in [Route::Workers, Route::Streams, Route::Holder(session)] {
            assert!(!topology.address(hint).persistent);
        }
    }

    #[test]
    fn what_is_sent_to_a_holder_is_bound_by_its_key() {
        let topology = Topology::new("p");
        let session = SessionId(uuid::Uuid::nil());
        let subscription = topology.subscription(Source::Holder(session), "u");
        let key = topology.address(Route::Holder(session)).key;
        assert_eq!(subscription.own.as_deref(), Some(key.as_str()));
        assert_eq!(subscription.queue, "p.holder.u");
        assert_eq!(
            topology.subscription(Source::Workers, "u").queue,
            topology.address(Route::Workers).key.as_str()
        );
        assert_eq!(
            topology.subscription(Source::Sweeps, "u").queue,
            topology.address(Route::Sweeps).key.as_str()
        );
    }
}

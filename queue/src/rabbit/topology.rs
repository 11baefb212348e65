//! Every exchange and queue on the broker, every flag, and why.
//!
//! | name | what | for |
//! |---|---|---|
//! | `<p>.advance` | classic queue, durable, at most [`HINTS_KEPT`] messages | hints for any worker |
//! | `<p>.sweeps` | quorum queue, delivery limit, dead-lettered | commands for any worker |
//! | `<p>.commands` | topic exchange and quorum queue bound by `#`, delivery limit, dead-lettered | commands from producers outside |
//! | `<p>.events` | topic exchange, durable | lifecycle events; subscribers bind queues of their own |
//! | `<p>.dead` | fan-out exchange and quorum queue | what came back too often |
//! | `<p>.notify` | direct exchange | hints for one holder, and for every stream server |
//! | any other | quorum queue, unless it is there | tasks of workers outside, by the name in the definition |
//! | `<p>.holder.…`, `<p>.streams.…` | exclusive classic queues, bounded | one for each consumer |
//!
//! A queue that stands with other arguments is refused by the broker (406), and that refusal
//! closes the channel: so everything is declared on a channel of its own, which is thrown away.
//! Whoever wants other arguments takes another name.

use std::time::Duration;

use holdpoint_engine::tasks::check_queue;
use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::link::{LinkError, Live, bounded};
use crate::{COMMANDS_DELIVERY_LIMIT, DELIVERY_LIMIT, OWN_QUEUE_BOUND, Outgoing, Route, Source};

/// Hints kept for workers that are all away. Workers also poll, so that older ones may go.
const HINTS_KEPT: i64 = 100_000;

/// How long a deleted queue stays deleted at least, before it is declared anew. If it is there
/// again at once, the broker subscribes the old consumers of a quorum queue to the new one by
/// itself, and they get nothing for ever; if it is not, they are told.
pub(super) const MOURNING: Duration = Duration::from_millis(750);

/// What the broker calls queues that are none: a consumer that asked without a queue of its own.
/// It delivers to them, and returns what was sent there as mandatory all the same.
const DIRECT_REPLY: &str = "amq.rabbitmq.reply-to.";

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
    /// Whether it comes back where no queue takes it.
    pub mandatory: bool,
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

    /// Where this goes; `None` where it may not go. Hints are not persistent: after a restart of
    /// the broker the database is polled anyway. Commands, events and replies are.
    pub fn address(&self, message: &Outgoing) -> Option<Address> {
        let asked = message.address.as_str();
        let (exchange, key, persistent) = match message.route {
            Route::Workers => (String::new(), self.name("advance"), false),
            Route::Sweeps => (String::new(), self.name("sweeps"), true),
            Route::Holder(session) => (self.name("notify"), format!("holder.{session}"), false),
            Route::Streams => (self.name("notify"), "streams".to_owned(), false),
            Route::Event => (self.name("events"), asked.to_owned(), true),
            // A stranger named this queue, and may not write into ours by our hand.
            Route::Reply if asked.is_empty() || self.is_ours(asked) => return None,
            Route::Task if self.is_reserved(asked) => return None,
            Route::Reply | Route::Task => (String::new(), asked.to_owned(), true),
        };
        let mandatory = message.route != Route::Event && !asked.starts_with(DIRECT_REPLY);
        let key = ShortString::try_new(key).ok()?;
        Some(Address { exchange: exchange.into(), key, persistent, mandatory })
    }

    fn is_ours(&self, queue: &str) -> bool {
        queue.strip_prefix(&self.prefix).is_some_and(|rest| rest.starts_with('.'))
    }

    /// Whether tasks may not go to this queue: it is ours, some other Holdpoint's, or the broker's.
    pub fn is_reserved(&self, queue: &str) -> bool {
        self.is_ours(queue) || check_queue(queue).is_err()
    }

    /// What is consumed for this source. `unique` tells own queues apart; it must change with
    /// the connection, for a broker may hold the queue of a lost one for a while, locked.
    pub fn subscription(&self, source: Source, unique: &str) -> Subscription {
        let own = match source {
            Source::Holder(session) => Some(format!("holder.{session}")),
            Source::Streams => Some("streams".to_owned()),
            Source::Workers | Source::Sweeps | Source::Commands | Source::Dead => None,
        };
        let queue = match own {
            Some(_) => self.name(&format!("{}.{unique}", source.word())),
            None => self.name(source.word()),
        };
        let quorum = matches!(source, Source::Sweeps | Source::Commands | Source::Dead);
        Subscription { queue, quorum, own }
    }

    /// The names of everything that is shared, and whether each is a queue.
    pub fn shared(&self) -> Vec<(String, bool)> {
        let exchanges = ["notify", "dead", "events", "commands"].map(|of| (self.name(of), false));
        let queues = ["advance", "sweeps", "commands", "dead"].map(|of| (self.name(of), true));
        exchanges.into_iter().chain(queues).collect()
    }

    /// The exchanges whose queue is bound once for all, with that queue.
    pub fn bindings(&self) -> Vec<(String, String)> {
        ["commands", "dead"].map(|of| (self.name(of), self.name(of))).into()
    }

    /// A queue that nobody declares.
    pub fn nowhere(&self) -> String {
        self.name("doctor.nowhere")
    }

    /// Declares everything that is shared; [`Topology::shared`] names it.
    pub async fn declare(&self, live: &Live) -> Result<(), LinkError> {
        let channel = live.channel().await?;
        self.declare_exchange(&channel, "notify", ExchangeKind::Direct).await?;
        self.declare_exchange(&channel, "dead", ExchangeKind::Fanout).await?;
        declare_queue(&channel, &self.name("advance"), durable(), advance_arguments()).await?;
        declare_queue(&channel, &self.name("dead"), durable(), quorum()).await?;
        bind(&channel, &self.name("dead"), &self.name("dead"), "").await?;
        declare_queue(&channel, &self.name("sweeps"), durable(), self.limited(DELIVERY_LIMIT)).await?;
        self.declare_exchange(&channel, "events", ExchangeKind::Topic).await?;
        self.declare_exchange(&channel, "commands", ExchangeKind::Topic).await?;
        let commands = self.name("commands");
        declare_queue(&channel, &commands, durable(), self.limited(COMMANDS_DELIVERY_LIMIT)).await?;
        bind(&channel, &commands, &commands, "#").await?;
        live.put_away(channel).await;
        Ok(())
    }

    /// Declares a queue for tasks of workers outside. One that stands with other arguments is
    /// theirs: the broker refuses this declaration, and takes what is published all the same.
    pub async fn declare_task_queue(&self, live: &Live, queue: &str) -> Result<(), LinkError> {
        let channel = live.channel().await?;
        declare_queue(&channel, queue, durable(), quorum()).await?;
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
    fn limited(&self, deliveries: u32) -> FieldTable {
        let mut arguments = quorum();
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(deliveries as i32));
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

    /// Exchange, key, persistent and mandatory.
    fn addressed(route: Route, address: &str) -> Option<(String, String, bool, bool)> {
        let message = Outgoing { address: address.to_owned(), ..Outgoing::new(route, "test", "1", "") };
        let address = Topology::new("p").address(&message)?;
        Some((address.exchange.to_string(), address.key.to_string(), address.persistent, address.mandatory))
    }

    #[test]
    fn only_hints_are_not_persistent() {
        let session = SessionId(uuid::Uuid::nil());
        for hint in [Route::Workers, Route::Streams, Route::Holder(session)] {
            assert!(!addressed(hint, "").expect("an address").2);
        }
        for other in [Route::Sweeps, Route::Event, Route::Reply, Route::Task] {
            assert!(addressed(other, "x").expect("an address").2);
        }
    }

    #[test]
    fn a_reply_goes_to_its_askers_queue_and_never_into_ours() {
        assert_eq!(
            addressed(Route::Reply, "answers"),
            Some((String::new(), "answers".to_owned(), true, true))
        );
        assert_eq!(
            addressed(Route::Reply, "prefixed"),
            Some((String::new(), "prefixed".to_owned(), true, true))
        );
        for never in ["", "p.sweeps", "p.advance", &"x".repeat(256)] {
            assert_eq!(addressed(Route::Reply, never), None, "{never}");
            assert_eq!(addressed(Route::Task, never), None, "{never}");
        }
        for never in ["holdpoint.commands", "holdpoint.x", "amq.gen-1", "amq.rabbitmq.reply-to.g1h2"] {
            assert_eq!(addressed(Route::Task, never), None, "{never}");
        }
        assert!(addressed(Route::Task, "holdpoints").is_some());
        let direct = addressed(Route::Reply, "amq.rabbitmq.reply-to.g1h2").expect("an address");
        assert!(!direct.3, "it would come back although it arrived");
    }

    #[test]
    fn an_event_needs_no_subscriber() {
        assert_eq!(
            addressed(Route::Event, "t.e.x"),
            Some(("p.events".to_owned(), "t.e.x".to_owned(), true, false))
        );
    }

    #[test]
    fn what_is_sent_to_a_holder_is_bound_by_its_key() {
        let topology = Topology::new("p");
        let session = SessionId(uuid::Uuid::nil());
        let subscription = topology.subscription(Source::Holder(session), "u");
        let key = |route| addressed(route, "").map(|address| address.1);
        assert_eq!(subscription.own, key(Route::Holder(session)));
        assert_eq!(subscription.queue, "p.holder.u");
        assert_eq!(Some(topology.subscription(Source::Workers, "u").queue), key(Route::Workers));
        assert_eq!(Some(topology.subscription(Source::Sweeps, "u").queue), key(Route::Sweeps));
    }
}

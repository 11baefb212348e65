//! Consumers: for each a channel, and a task that keeps it.
//!
//! - The task owns everything of lapin; the user's half only takes from the [`Inbox`] and
//!   gives orders. So cancelling `next` loses nothing, and a rebuild goes on without the user.
//! - Each channel has a generation of its own. Tags of older ones are passed over: the broker
//!   delivers those messages again.
//! - Any end of the stream (the queue deleted, the channel or the connection closed) leads to
//!   a new channel, after a pause if it happens again and again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use lapin::Channel;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::FieldTable;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::acks;
use super::backoff::Backoff;
use super::batch::all_by;
use super::inbox::Inbox;
use super::link::{LinkError, Live, Lives, bounded};
use super::topology::{MOURNING, Subscription};
use super::{CLOSE_LIMIT, Core, message, probe};
use crate::{Consumer, Delivery, Link, Source, Tag};

/// How long a consumer may get nothing before it looks whether the broker still knows it.
const LOOK: Duration = Duration::from_secs(5);

/// What the user tells the task. The end of orders is the end of the consumer.
enum Order {
    Ack(Vec<Tag>),
    SetActive(bool, oneshot::Sender<()>),
}

/// The user's half.
pub(super) struct Handle {
    source: Source,
    core: Arc<Core>,
    inbox: Arc<Inbox>,
    orders: mpsc::UnboundedSender<Order>,
}

#[async_trait]
impl Consumer for Handle {
    async fn next(&mut self, most: usize) -> Vec<Delivery> {
        let taken = self.inbox.take(most).await;
        self.core.metrics.consumed(self.source, taken.len());
        taken
    }

    async fn ack(&mut self, tags: &[Tag]) {
        if !tags.is_empty() {
            let _ = self.orders.send(Order::Ack(tags.to_vec()));
        }
    }

    async fn set_active(&mut self, active: bool) {
        let (done, waiting) = oneshot::channel();
        if self.orders.send(Order::SetActive(active, done)).is_ok() {
            let _ = waiting.await;
        }
    }
}

/// Makes both halves.
pub(super) fn new(
    core: Arc<Core>,
    lives: Lives,
    source: Source,
    prefetch: u16,
    stop: CancellationToken,
) -> (Task, Handle) {
    let inbox = Arc::new(Inbox::default());
    let (orders, coming) = mpsc::unbounded_channel();
    let handle = Handle { source, core: core.clone(), inbox: inbox.clone(), orders };
    let unique = uuid::Uuid::now_v7().to_string();
    let standing = watch::Sender::new(false);
    (
        Task { core, lives, source, prefetch, unique, inbox, orders: coming, active: true, standing, stop },
        handle,
    )
}

/// Whether the subscription stands.
pub(super) struct Standing(watch::Receiver<bool>);

impl Standing {
    /// Waits until it does, as long as there is a broker, and not for ever.
    pub async fn wait(mut self, mut link: watch::Receiver<Link>) {
        let either = async {
            tokio::select! {
                _ = self.0.wait_for(|stands| *stands) => {}
                _ = link.wait_for(|link| *link == Link::Down) => {}
            }
        };
        let _ = timeout(CLOSE_LIMIT, either).await;
    }
}

/// The half that keeps the channel.
pub(super) struct Task {
    core: Arc<Core>,
    lives: Lives,
    source: Source,
    prefetch: u16,
    unique: String,
    inbox: Arc<Inbox>,
    orders: mpsc::UnboundedReceiver<Order>,
    active: bool,
    standing: watch::Sender<bool>,
    stop: CancellationToken,
}

/// The consumer is not wanted any more.
struct Ended;

/// Why a channel served no longer.
enum Over {
    Ended,
    Lost(&'static str),
    Failed(LinkError),
}

impl From<LinkError> for Over {
    fn from(error: LinkError) -> Self {
        Over::Failed(error)
    }
}

impl Task {
    pub fn standing(&self) -> Standing {
        Standing(self.standing.subscribe())
    }

    /// Consumes until the user's half is dropped or the queue is closed.
    pub async fn run(mut self) {
        while self.consume().await.is_ok() {}
        self.inbox.close();
    }

    /// One connection's worth of consuming.
    async fn consume(&mut self) -> Result<(), Ended> {
        let live = self.connection().await?;
        // At least as long: half of a pause is jitter.
        let mut backoff = Backoff::from(MOURNING * 2, self.core.max_backoff.max(MOURNING * 2));
        while !live.lost.is_cancelled() {
            let since = Instant::now();
            let over = self.serve_channel(&live).await;
            self.inbox.empty();
            match over {
                Ok(never) => match never {},
                Err(Over::Ended) => return Err(Ended),
                Err(_) if live.lost.is_cancelled() => return Ok(()),
                Err(Over::Lost(why)) => {
                    tracing::warn!(source = ?self.source, why, "a consumer is built again");
                }
                Err(Over::Failed(error)) => {
                    tracing::warn!(source = ?self.source, %error, "a consumer is built again");
                    live.probe_if_silent(&error).await;
                }
            }
            if since.elapsed() > backoff.most() {
                backoff.reset();
            }
            self.pause(tokio::time::sleep(backoff.pause())).await?;
        }
        Ok(())
    }

    /// Waits for a connection that is not lost.
    async fn connection(&mut self) -> Result<Arc<Live>, Ended> {
        let mut lives = self.lives.clone();
        let found = async move {
            let found =
                lives.wait_for(|live| live.as_ref().is_some_and(|live| !live.lost.is_cancelled())).await;
            found.ok().and_then(|live| live.clone())
        };
        self.pause(found).await?.ok_or(Ended)
    }

    /// Waits for something while there is no channel; orders are taken meanwhile.
    async fn pause<T>(&mut self, until: impl Future<Output = T>) -> Result<T, Ended> {
        let mut until = std::pin::pin!(until);
        loop {
            tokio::select! {
                done = &mut until => return Ok(done),
                () = self.stop.cancelled() => return Err(Ended),
                order = self.orders.recv() => match order {
                    None => return Err(Ended),
                    // Of a channel that is gone.
                    Some(Order::Ack(_)) => {}
                    Some(Order::SetActive(active, done)) => {
                        self.active = active;
                        let _ = done.send(());
                    }
                },
            }
        }
    }

    /// Opens a channel and serves it to its end.
    async fn serve_channel(&mut self, live: &Arc<Live>) -> Result<std::convert::Infallible, Over> {
        let mut session = Session::open(self, live).await?;
        if self.active {
            session.start().await?;
        }
        self.standing.send_replace(true);
        let mut look = tokio::time::interval(LOOK);
        look.reset();
        loop {
            let order = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                () = live.lost.cancelled() => return Err(Over::Lost("the connection was lost")),
                order = self.orders.recv() => order,
                came = session.receive() => {
                    let (probes, came): (Vec<_>, Vec<_>) = came?.into_iter().partition(is_probe);
                    self.inbox.fill(came);
                    session.ack(&probes.iter().map(|probe| probe.tag).collect::<Vec<_>>()).await?;
                    look.reset();
                    continue;
                }
                _ = look.tick(), if session.may_be_ghost() => {
                    session.look(live).await?;
                    continue;
                }
            };
            let Some(order) = order else {
                return Err(self.finish(session).await);
            };
            self.carry_out(&mut session, order).await?;
        }
    }

    async fn carry_out(&mut self, session: &mut Session, order: Order) -> Result<(), Over> {
        match order {
            Order::Ack(tags) => session.ack(&tags).await?,
            Order::SetActive(active, done) => {
                self.active = active;
                if active {
                    session.start().await?;
                } else {
                    session.halt(&self.inbox).await?;
                }
                let _ = done.send(());
            }
        }
        Ok(())
    }

    /// Carries out the orders that were given before the end, then closes the channel: what is
    /// not acknowledged goes back to the broker.
    async fn finish(&mut self, mut session: Session) -> Over {
        while let Ok(order) = self.orders.try_recv() {
            if let Order::Ack(tags) = order
                && session.ack(&tags).await.is_err()
            {
                break;
            }
        }
        let _ = timeout(CLOSE_LIMIT, session.close()).await;
        Over::Ended
    }
}

/// One channel and what is outstanding on it.
struct Session {
    core: Arc<Core>,
    channel: Channel,
    subscription: Subscription,
    consumer: Option<lapin::Consumer>,
    generation: u64,
    outstanding: BTreeSet<u64>,
}

impl Session {
    async fn open(task: &Task, live: &Live) -> Result<Self, LinkError> {
        // The name changes with the connection, not with the channel: what waits in an own
        // queue survives the loss of a channel.
        let unique = format!("{}.{}", task.unique, live.generation);
        let subscription = task.core.topology.subscription(task.source, &unique);
        // Shared ones too: perhaps the consumer ended because somebody deleted its queue.
        task.core.topology.declare(live).await?;
        task.core.topology.declare_own(live, &subscription).await?;
        let channel = live.channel().await?;
        bounded("setting the prefetch", channel.basic_qos(task.prefetch, BasicQosOptions::default())).await?;
        let generation = task.core.generations.fetch_add(1, Ordering::Relaxed);
        let core = task.core.clone();
        Ok(Self { core, channel, subscription, consumer: None, generation, outstanding: BTreeSet::new() })
    }

    async fn start(&mut self) -> Result<(), LinkError> {
        if self.consumer.is_none() {
            let queue = self.subscription.queue.as_str().into();
            let options = BasicConsumeOptions::default();
            // The broker makes the consumer's tag.
            let consuming = self.channel.basic_consume(queue, "".into(), options, FieldTable::default());
            self.consumer = Some(bounded("consuming", consuming).await?);
        }
        Ok(())
    }

    /// The consumers of a quorum queue are not always told that it was deleted: made anew at
    /// once, it knows none of them. Those of a classic queue are told.
    fn may_be_ghost(&self) -> bool {
        self.subscription.quorum && self.consumer.is_some()
    }

    /// Ends the session if its queue is gone, or was made anew and knows no consumer. One
    /// consumer that it knows is enough: the others are looked for when that one goes.
    async fn look(&self, live: &Live) -> Result<(), Over> {
        let channel = live.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = self.subscription.queue.as_str().into();
        let looking = channel.queue_declare(queue, options, FieldTable::default());
        let seen = bounded("looking at a queue", looking).await?;
        live.put_away(channel).await;
        let known = seen.consumer_count() > 0;
        known.then_some(()).ok_or(Over::Lost("its queue was deleted and made anew"))
    }

    /// Waits for messages and takes all that are there. Cancelling it loses nothing.
    async fn receive(&mut self) -> Result<Vec<Delivery>, Over> {
        let Some(consumer) = &mut self.consumer else {
            return std::future::pending().await;
        };
        let first = opened(consumer.next().await)?;
        let mut came = vec![first];
        while let Some(next) = consumer.next().now_or_never() {
            match opened(next) {
                Ok(delivery) => came.push(delivery),
                // What came before the end is void with it: the broker delivers it again.
                Err(over) => return Err(over),
            }
        }
        Ok(came.into_iter().map(|one| self.note(one)).collect())
    }

    fn note(&mut self, came: lapin::message::Delivery) -> Delivery {
        self.outstanding.insert(came.delivery_tag);
        message::delivery(&self.subscription.queue, self.generation, came)
    }

    async fn ack(&mut self, tags: &[Tag]) -> Result<(), LinkError> {
        let own = tags.iter().filter(|tag| tag.generation == self.generation).map(|tag| tag.tag);
        let frames = acks::frames(&mut self.outstanding, own);
        let up_to = frames.up_to.map(|tag| (tag, true));
        let each = up_to.into_iter().chain(frames.single.into_iter().map(|tag| (tag, false)));
        let acking = each.map(|(tag, multiple)| self.channel.basic_ack(tag, BasicAckOptions { multiple }));
        bounded("acknowledging", flush(acking)).await
    }

    /// Stops consuming, and gives back what the user has not seen. On a quorum queue each
    /// return counts towards the delivery limit.
    async fn halt(&mut self, inbox: &Inbox) -> Result<(), LinkError> {
        let Some(mut consumer) = self.consumer.take() else {
            return Ok(());
        };
        let cancelling = self.channel.basic_cancel(consumer.tag(), BasicCancelOptions::default());
        bounded("cancelling a consumer", cancelling).await?;
        let mut unseen: Vec<u64> = inbox.empty().into_iter().map(|one| one.tag.tag).collect();
        unseen.iter().for_each(|tag| {
            self.outstanding.remove(tag);
        });
        // After the broker's answer lapin ends the stream behind what had come.
        let rest = async {
            while let Some(Ok(delivery)) = consumer.next().await {
                unseen.push(delivery.delivery_tag);
            }
            Ok(())
        };
        bounded("draining a consumer", rest).await?;
        let options = BasicNackOptions { multiple: false, requeue: true };
        let returning = unseen.iter().map(|tag| self.channel.basic_nack(*tag, options));
        bounded("returning messages", flush(returning)).await
    }

    async fn close(self) {
        if self.subscription.is_own() {
            let queue = self.subscription.queue.as_str().into();
            let deleting = self.channel.queue_delete(queue, QueueDeleteOptions::default());
            if let Err(error) = bounded("deleting a queue", deleting).await {
                tracing::debug!(%error, "a consumer's own queue was not deleted; it goes with the connection");
            }
        }
        if let Err(error) = bounded("closing a channel", self.channel.close(200, "done".into())).await {
            tracing::debug!(%error, broker = %self.core.broker, "a consumer's channel did not close");
        }
    }
}

/// Somebody looked whether messages arrive here; there is nothing to do about it.
fn is_probe(came: &Delivery) -> bool {
    came.kind.as_deref() == Some(probe::KIND)
}

/// A delivery, or why there is none.
fn opened(came: Option<lapin::Result<lapin::message::Delivery>>) -> Result<lapin::message::Delivery, Over> {
    match came {
        Some(Ok(delivery)) => Ok(delivery),
        Some(Err(source)) => Err(Over::Failed(LinkError::Broker { what: "consuming", source })),
        None => Err(Over::Lost("the broker cancelled it")),
    }
}

/// Writes frames together, and waits until they are written.
async fn flush(frames: impl Iterator<Item = impl Future<Output = lapin::Result<()>>>) -> lapin::Result<()> {
    // `bounded` around it is the limit.
    let far = Instant::now() + CLOSE_LIMIT * 60;
    all_by(far, frames).await.into_iter().flatten().collect()
}

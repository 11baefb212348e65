//! Commands that producers send by AMQP.
//!
//! What was prefetched is judged together, so that starts share a transaction. A message is
//! acknowledged only after its act is committed, or it is parked, and its reply is sent: a crash
//! before that brings it again, and the note of its command makes it the same command.
//!
//! A message that came back may be what ended the process before. It is judged alone: an attempt
//! is counted in the database before, and forgotten after. One that used its attempts up is
//! parked. So a message that kills its process takes no neighbour with it.

mod carry_out;
mod envelope;
mod parking;
mod reply;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use holdpoint_db::ParkedMessage;
use holdpoint_queue::{Consumer, Delivery, Outgoing, SendError, Source, Tag};
use http::StatusCode;

pub use self::carry_out::{CancelBody, Credential, carry_out};
use self::carry_out::{Judged, identify};
pub use self::envelope::CLOUD_EVENT;
use self::envelope::Incoming;
pub use self::parking::unparked;
pub use self::reply::{ACCEPTED, REJECTED, reply};
use crate::app::App;
use crate::problem::{Answer, Code, Problem};

/// Attempts of a message that came back, before it is parked.
const ATTEMPTS: i32 = 3;

/// Between tries while the database is away.
const PAUSE: Duration = Duration::from_millis(250);

/// What is left to do after a message was judged.
struct Settled {
    tag: Tag,
    reply: Option<Outgoing>,
    /// To be parked where the reply reaches nobody.
    unheard: Option<ParkedMessage>,
}

/// The process is told to stop before a message could be settled: it stays with the broker.
struct Stopped;

/// Takes commands until the process is stopped.
pub async fn run(app: Arc<App>) {
    if !app.settings.commands {
        return;
    }
    let prefetch = app.settings.commands_prefetch.max(1);
    let mut consumer = tokio::select! {
        () = app.stop.cancelled() => return,
        consumer = app.queue.consume(Source::Commands, prefetch) => consumer,
    };
    loop {
        let came = tokio::select! {
            () = app.stop.cancelled() => return,
            came = consumer.next(usize::from(prefetch)) => came,
        };
        if came.is_empty() || serve(&app, consumer.as_mut(), came).await.is_err() {
            return;
        }
    }
}

/// Settles what came: what is new together, then what came back, one by one.
async fn serve(app: &App, consumer: &mut dyn Consumer, came: Vec<Delivery>) -> Result<(), Stopped> {
    let (back, new): (Vec<_>, Vec<_>) = came.into_iter().partition(|delivery| delivery.redelivered);
    let mut suspects: Vec<_> = back.into_iter().map(apart).collect();
    let mut settled = Vec::new();
    for judged in join_all(new.into_iter().map(|delivery| together(app, delivery))).await {
        match judged {
            Ok(one) => settled.push(one?),
            Err(panicked) => suspects.push(panicked),
        }
    }
    finish(app, consumer, settled).await?;
    for (tag, message) in suspects {
        let one = alone(app, tag, &message).await?;
        finish(app, consumer, vec![one]).await?;
        forget(app, &message).await;
    }
    Ok(())
}

/// Judges a message beside others; one that panics comes back, to be judged alone.
async fn together(app: &App, delivery: Delivery) -> Result<Result<Settled, Stopped>, (Tag, Incoming)> {
    let (tag, message) = apart(delivery);
    let settled = AssertUnwindSafe(settle(app, tag, &message)).catch_unwind().await;
    settled.map_err(|_| (tag, message))
}

fn apart(delivery: Delivery) -> (Tag, Incoming) {
    (delivery.tag, delivery.into())
}

/// Judges a message with nothing else under way, at most [`ATTEMPTS`] times.
async fn alone(app: &App, tag: Tag, message: &Incoming) -> Result<Settled, Stopped> {
    loop {
        let attempt = count_attempt(app, message).await?;
        if attempt > ATTEMPTS {
            return give_up(app, tag, message, attempt).await;
        }
        if let Ok(settled) = AssertUnwindSafe(settle(app, tag, message)).catch_unwind().await {
            return settled;
        }
    }
}

/// How many attempts there were, with this one; where they cannot be counted, too many.
async fn count_attempt(app: &App, message: &Incoming) -> Result<i32, Stopped> {
    let fingerprint = message.fingerprint();
    let counted = patiently(app, || {
        let fingerprint = fingerprint.clone();
        async move { app.write(move |store| store.command_attempt(&fingerprint)).await?.map_err(Problem::from) }
    });
    Ok(counted.await?.unwrap_or(i32::MAX))
}

/// The attempts of a message that is settled do not count any more; left there, they expire.
async fn forget(app: &App, message: &Incoming) {
    let fingerprint = message.fingerprint();
    let forgotten = app.write(move |store| store.command_settled(&fingerprint)).await;
    if !matches!(forgotten, Ok(Ok(()))) {
        tracing::debug!("the attempts of a command that is settled are still counted");
    }
}

/// Parks a message that nothing can be done with: with its owner, unless it was reading it that
/// nobody survived.
async fn give_up(app: &App, tag: Tag, message: &Incoming, attempt: i32) -> Result<Settled, Stopped> {
    let mut judged = Judged::unread(message);
    if attempt == ATTEMPTS + 1 {
        let mut found;
        (judged, found) = identify(app, message, Credential::Its).await;
        while is_away(&found) {
            pause(app).await?;
            (judged, found) = identify(app, message, Credential::Its).await;
        }
    }
    let detail = format!("{ATTEMPTS} attempts ended before the message was settled");
    judged.outcome = Err(Problem::new(Code::Poison, detail));
    conclude(app, tag, message, judged).await
}

/// Judges a message and commits what it asks for, or parks it; patient while the database is away.
async fn settle(app: &App, tag: Tag, message: &Incoming) -> Result<Settled, Stopped> {
    let mut judged = carry_out(app, message, Credential::Its).await;
    while is_away(&judged.outcome) {
        pause(app).await?;
        judged = carry_out(app, message, Credential::Its).await;
    }
    conclude(app, tag, message, judged).await
}

/// Parks what has to be, and makes the reply.
async fn conclude(app: &App, tag: Tag, message: &Incoming, judged: Judged) -> Result<Settled, Stopped> {
    let reply_to = message.reply_to(judged.id.as_deref());
    let kept = judged.outcome.as_ref().err().map(|problem| parking::parked(message, &judged, problem));
    let answered = judged.outcome.as_ref().err().is_some_and(|problem| is_an_answer(problem.status()));
    let unheard = match kept {
        Some(parked) if answered && reply_to.is_some() => Some(parked),
        Some(parked) => {
            park(app, parked).await?;
            None
        }
        None => None,
    };
    count(app, &judged, unheard.is_some());
    let reply = reply_to.map(|to| reply(app, to, &judged.outcome));
    Ok(Settled { tag, reply, unheard })
}

/// There is no such thing, it stands otherwise, or it has to wait: the producer's to know, and
/// nobody's to mend.
fn is_an_answer(status: StatusCode) -> bool {
    use StatusCode as S;
    matches!(status, S::NOT_FOUND | S::CONFLICT | S::GONE | S::TOO_MANY_REQUESTS)
}

fn is_away<T>(outcome: &Answer<T>) -> bool {
    outcome.as_ref().err().is_some_and(|problem| problem.code() == Code::Unavailable)
}

async fn park(app: &App, parked: ParkedMessage) -> Result<(), Stopped> {
    tracing::warn!(queue = %parked.queue, message_id = ?parked.message_id, code = %parked.code,
        reason = %parked.reason, "message parked");
    let parking = patiently(app, || {
        let parked = parked.clone();
        async move { app.write(move |store| store.parked_add(&parked)).await?.map_err(Problem::from) }
    });
    // A row that the database refuses can be kept nowhere: the log has it.
    if let Err(problem) = parking.await? {
        tracing::error!(id = %parked.id, detail = problem.detail(), "a message could not be parked");
    }
    Ok(())
}

/// Tries until the database is there.
async fn patiently<T, F>(app: &App, work: impl Fn() -> F) -> Result<Answer<T>, Stopped>
where
    F: Future<Output = Answer<T>>,
{
    loop {
        let done = work().await;
        if !is_away(&done) {
            return Ok(done);
        }
        pause(app).await?;
    }
}

async fn pause(app: &App) -> Result<(), Stopped> {
    tokio::select! {
        () = app.stop.cancelled() => Err(Stopped),
        () = tokio::time::sleep(PAUSE) => Ok(()),
    }
}

fn count(app: &App, judged: &Judged, answered: bool) {
    let kind = judged.kind.map_or("other", |kind| kind.word());
    let outcome = match &judged.outcome {
        Ok(_) => "accepted",
        Err(_) if answered => "rejected",
        Err(_) => "parked",
    };
    app.metrics.commands.with_label_values(&[kind, outcome]).inc();
}

/// Sends the replies, then acknowledges. A reply that did not arrive makes its producer repeat.
async fn finish(app: &App, consumer: &mut dyn Consumer, settled: Vec<Settled>) -> Result<(), Stopped> {
    let tags: Vec<Tag> = settled.iter().map(|one| one.tag).collect();
    let (replies, unheard): (Vec<Outgoing>, Vec<_>) =
        settled.into_iter().filter_map(|one| Some((one.reply?, one.unheard))).unzip();
    if !replies.is_empty() {
        for (result, unheard) in app.queue.send(replies).await.into_iter().zip(unheard) {
            if let (Err(SendError::Unroutable), Some(parked)) = (result, unheard) {
                park(app, parked).await?;
            }
        }
    }
    consumer.ack(&tags).await;
    Ok(())
}

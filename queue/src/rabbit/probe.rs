//! Probes: messages that say of nothing but the way that they take. Whoever consumes from one of
//! our queues throws them away unseen.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation, Connection};
use tokio::time::timeout;

use super::link::bounded;
use super::topology::Topology;

/// The AMQP type of a probe.
pub(super) const KIND: &str = "holdpoint.probe";
/// So long a probe may lie in a queue, in milliseconds.
const LIFE: &str = "10000";
/// The longest wait for a confirm: an alarm holds it back for as long as it lasts.
const LIMIT: Duration = Duration::from_secs(3);

/// What became of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// A queue has it.
    Taken,
    /// No queue is bound for it.
    Returned,
    /// The broker takes nothing now.
    Stuck,
}

/// What probes show.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// The broker takes no messages: an alarm about memory or disk.
    pub blocked: bool,
    /// Queues that their exchange sends nothing to.
    pub unbound: Vec<String>,
    /// Queues that nobody consumes from: a probe would lie there.
    pub unprobed: Vec<String>,
}

/// Sends one to a queue that is not there, which an alarm would hold back, and one to each of
/// these exchanges whose queue (with so many consumers) somebody consumes from.
pub(super) async fn probe(
    connection: &Connection,
    topology: &Topology,
    consumers: impl Fn(&str) -> u32,
) -> Result<Probed, String> {
    let blocked = send(connection, "", &topology.nowhere()).await? == Way::Stuck;
    let mut probed = Probed { blocked, ..Probed::default() };
    if probed.blocked {
        return Ok(probed);
    }
    for (exchange, queue) in topology.bindings() {
        if consumers(&queue) == 0 {
            probed.unprobed.push(queue);
            continue;
        }
        match send(connection, &exchange, KIND).await? {
            Way::Taken => {}
            Way::Returned => probed.unbound.push(queue),
            Way::Stuck => probed.blocked = true,
        }
    }
    Ok(probed)
}

/// One probe at a time, on a channel of its own: a return is then its own.
async fn send(connection: &Connection, exchange: &str, key: &str) -> Result<Way, String> {
    let channel = bounded("opening a channel", connection.create_channel()).await;
    let channel = channel.map_err(|error| error.to_string())?;
    let selecting = channel.confirm_select(ConfirmSelectOptions::default());
    bounded("asking for confirms", selecting).await.map_err(|error| error.to_string())?;
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default().with_type(KIND.into()).with_expiration(LIFE.into());
    let publishing =
        async { channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await?.await };
    let way = match timeout(LIMIT, publishing).await {
        Err(_) => Way::Stuck,
        Ok(Err(error)) => return Err(error.to_string()),
        Ok(Ok(Confirmation::Ack(None))) => Way::Taken,
        Ok(Ok(_)) => Way::Returned,
    };
    let _ = timeout(LIMIT, channel.close(200, "done".into())).await;
    Ok(way)
}

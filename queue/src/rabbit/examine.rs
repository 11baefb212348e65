//! What a look at a broker from outside shows, as far as AMQP shows it: nothing is declared,
//! nothing is consumed, and what is published (`probe.rs`) is thrown away by whoever gets it.
//! `consumer_timeout` is for the broker's own tools to tell.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::link::bounded;
use super::probe::{Probed, probe};
use super::topology::Topology;

/// The longest wait for the broker's first words.
const GREETING_LIMIT: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug)]
pub struct Examination {
    /// Such as `RabbitMQ 3.10.8`, where the broker says so before anybody has logged in.
    pub version: Option<String>,
    /// Shared exchanges and queues that are not there, by their whole names.
    pub missing: Vec<String>,
    /// Shared queues with the messages that wait in them, and their consumers.
    pub queues: Vec<(String, u32, u32)>,
    /// It takes no messages now: an alarm about memory or disk.
    pub blocked: bool,
    /// Queues that get nothing from their exchange, because they are not bound to it.
    pub unbound: Vec<String>,
    /// Queues of which that cannot be seen, because nobody consumes from them.
    pub unprobed: Vec<String>,
}

/// Looks at the broker that `uri` names; the error is for a person.
pub(crate) async fn examine(uri: &str, prefix: &str) -> Result<Examination, String> {
    let properties = ConnectionProperties::default().with_connection_name(format!("{prefix}.doctor").into());
    let connecting = Connection::connect(uri, properties);
    let connection = bounded("connecting", connecting).await.map_err(|error| error.to_string())?;
    let examined = examine_by(&connection, prefix).await;
    // The connection would outlive the runtime otherwise.
    let _ = bounded("closing", connection.close(200, "done".into())).await;
    let ((missing, queues), Probed { blocked, unbound, unprobed }) = examined?;
    Ok(Examination { version: greeting(uri).await, missing, queues, blocked, unbound, unprobed })
}

async fn examine_by(connection: &Connection, prefix: &str) -> Result<(Standing, Probed), String> {
    let topology = Topology::new(prefix);
    let standing = look(connection, &topology).await?;
    let consumers =
        |name: &str| standing.1.iter().find(|(queue, ..)| queue == name).map_or(0, |(_, _, count)| *count);
    let probed = probe(connection, &topology, consumers).await?;
    Ok((standing, probed))
}

type Standing = (Vec<String>, Vec<(String, u32, u32)>);

/// A passive declaration of what is not there closes its channel, so each has its own.
async fn look(connection: &Connection, topology: &Topology) -> Result<Standing, String> {
    let (mut missing, mut queues) = (Vec::new(), Vec::new());
    for (name, is_queue) in topology.shared() {
        let opening = bounded("opening a channel", connection.create_channel()).await;
        let channel = opening.map_err(|error| error.to_string())?;
        let found = if is_queue { queue(&channel, &name).await? } else { exchange(&channel, &name).await? };
        if found.is_some() {
            // A dropped channel is still closing when the connection is, which lapin calls an error.
            let _ = bounded("closing a channel", channel.close(200, "done".into())).await;
        }
        match found {
            Some((messages, consumers)) if is_queue => queues.push((name, messages, consumers)),
            Some(_) => {}
            None => missing.push(name),
        }
    }
    Ok((missing, queues))
}

async fn queue(channel: &Channel, name: &str) -> Result<Option<(u32, u32)>, String> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declaring = channel.queue_declare(name.into(), options, FieldTable::default());
    there(declaring.await.map(|queue| (queue.message_count(), queue.consumer_count())))
}

async fn exchange(channel: &Channel, name: &str) -> Result<Option<(u32, u32)>, String> {
    let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
    // With `passive` the broker looks at the name only.
    let declaring =
        channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
    there(declaring.await.map(|()| (0, 0)))
}

const NOT_FOUND: u16 = 404;

fn there(answer: lapin::Result<(u32, u32)>) -> Result<Option<(u32, u32)>, String> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(error) => match error.kind() {
            lapin::ErrorKind::ProtocolError(said) if said.get_id() == NOT_FOUND => Ok(None),
            _ => Err(error.to_string()),
        },
    }
}

/// The broker names its product and version in its first frame, which lapin keeps to itself.
async fn greeting(uri: &str) -> Option<String> {
    let uri: lapin::uri::AMQPUri = uri.parse().ok()?;
    let address = (uri.authority.host.as_str(), uri.authority.port);
    let talking = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        stream.write_all(b"AMQP\x00\x00\x09\x01").await.ok()?;
        let mut head = [0; 7];
        stream.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]).min(64 * 1024);
        let mut frame = vec![0; length as usize];
        stream.read_exact(&mut frame).await.ok()?;
        Some(frame)
    };
    let frame = tokio::time::timeout(GREETING_LIMIT, talking).await.ok()??;
    let product = property(&frame, "product")?;
    Some(format!("{product} {}", property(&frame, "version")?))
}

/// A long string of a field table: its name with a length of one byte, `S`, and four bytes of length.
fn property(frame: &[u8], name: &str) -> Option<String> {
    let mut key = vec![u8::try_from(name.len()).ok()?];
    key.extend_from_slice(name.as_bytes());
    key.push(b'S');
    let begin = frame.windows(key.len()).position(|window| window == key)? + key.len();
    let length: [u8; 4] = frame.get(begin..begin + 4)?.try_into().ok()?;
    let text = frame.get(begin + 4..begin + 4 + u32::from_be_bytes(length) as usize)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_property_is_read_within_its_bounds() {
        let frame = b"\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8";
        assert_eq!(property(frame, "product").as_deref(), Some("RabbitMQ"));
        assert_eq!(property(frame, "version").as_deref(), Some("3.10.8"));
        assert_eq!(property(&frame[..frame.len() - 1], "version"), None);
        assert_eq!(property(frame, "platform"), None);
    }
}

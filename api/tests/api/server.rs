//! Clients that are slow, large or gone, and the end of the process.

use std::time::Duration;

use holdpoint_api::keys::Role;
use holdpoint_engine::status::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{PATIENCE, open, read_rest, read_until};
use crate::world::World;

/// No longer than the deadlines are that a server has by itself.
const CLOSING: Duration = Duration::from_secs(10);

async fn closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(CLOSING, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_off() {
    let world = World::with(|settings| settings.header_timeout_ms = 200).await;
    let mut silent = TcpStream::connect(world.address).await.unwrap();
    assert!(closed(&mut silent).await);
    let stream = TcpStream::connect(world.address).await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let trickle = tokio::spawn(async move {
        // Each byte resets nothing: the whole head has one deadline.
        for byte in b"GET /healthz HTTP/1.1\r\n".iter().chain(std::iter::repeat(&b'x')) {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(CLOSING, read.read_to_end(&mut rest)).await;
    trickle.abort();
    assert!(ended.is_ok());
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let world = World::with(|settings| {
        settings.header_timeout_ms = 300;
        settings.idle_timeout_ms = 600;
    })
    .await;
    for _ in 0..20 {
        if let Some(mut stream) = kept_busy(&world).await {
            assert!(closed(&mut stream).await);
            return;
        }
    }
    panic!("the machine stood still again and again");
}

/// Requests on one connection for longer in all than any deadline, though no single wait is; `None` where
/// the machine stood still for nearly as long as the shortest.
async fn kept_busy(world: &World) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let began = std::time::Instant::now();
    let mut answered = began;
    while began.elapsed() < Duration::from_millis(900) {
        // Where it is closed already, nothing comes.
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let text = read_until(&mut stream, |text| text.ends_with('}')).await;
        if !text.starts_with("HTTP/1.1 200") {
            assert!(answered.elapsed() >= Duration::from_millis(200), "{text}");
            return None;
        }
        answered = std::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(stream)
}

#[tokio::test]
async fn a_long_header_block_is_told_its_limit() {
    let world = World::with(|settings| settings.header_bytes = 1_000).await;
    let long = format!("x-long: {}", "y".repeat(1_000));
    let answer = world.call("GET /healthz", &[&long], "").await;
    assert_eq!((answer.status, answer.json()["limit"].as_str()), (431, Some("header_bytes")));
    assert_eq!(world.call("GET /healthz", &["x-short: y"], "").await.status, 200);
    let huge = format!("x-huge: {}", "y".repeat(200_000));
    let mut stream = open(world.address, &format!("GET /healthz HTTP/1.0\r\n{huge}"), b"").await;
    let text = read_rest(&mut stream).await;
    assert!(
        text.is_empty() || text.starts_with("HTTP/1.1 431") || text.starts_with("HTTP/1.0 431"),
        "{text}"
    );
}

#[tokio::test]
async fn a_body_that_never_comes_is_given_up() {
    let world = World::with(|settings| settings.idle_timeout_ms = 200).await;
    let head = format!(
        "POST /v1/executions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 10\r\n\r\n{{",
        world.key(Role::Admin)
    );
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let text = read_until(&mut stream, |text| text.contains("request_timeout")).await;
    assert!(text.contains("408"), "{text}");
}

#[tokio::test]
async fn stopping_ends_streams_and_lets_nothing_in() {
    let world = World::new().await;
    let key = world.key(Role::Admin);
    let id = world.started(&key).await;
    world.event(id, "execution.started", "{}", Status::Running);
    let head = format!("GET /v1/executions/{id}/stream HTTP/1.0\r\nauthorization: Bearer {key}");
    let mut stream = open(world.address, &head, b"").await;
    read_until(&mut stream, |text| text.contains("id: 1")).await;
    world.stop.cancel();
    let rest = read_rest(&mut stream).await;
    assert!(!rest.contains("event: end"), "{rest}");
    tokio::time::timeout(PATIENCE, world.served).await.unwrap().unwrap();
    assert!(TcpStream::connect(world.address).await.is_err());
}

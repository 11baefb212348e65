//! The workflow that measurements of calls run: three `call: http` to a stub that this command
//! serves on loopback.

use anyhow::Context;
use axum::Router;
use axum::routing::get;
use reqwest::Method;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::client::Client;

/// Its name.
pub const WORKFLOW: &str = "bench-calls";

/// Serves the stub and registers the workflow; the stub ends when the answer is dropped.
pub async fn prepare(client: &Client) -> anyhow::Result<DropGuard> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await?;
    let port = listener.local_addr()?.port();
    let stop = CancellationToken::new();
    let stub =
        Router::new().fallback(get(|| async { ([("content-type", "application/json")], "{\"ok\":true}") }));
    let stopped = stop.clone().cancelled_owned();
    tokio::spawn(async move { axum::serve(listener, stub).with_graceful_shutdown(stopped).await });
    let put = client
        .request(Method::PUT, &format!("/v1/workflows/{WORKFLOW}"))
        .header("content-type", "application/yaml")
        .body(document(port));
    client
        .send(put)
        .await
        .context("registering the workflow (this takes a key with the role admin or submit)")?;
    Ok(stop.drop_guard())
}

fn document(port: u16) -> String {
    let mut text =
        format!("document: {{ dsl: '1.0.3', namespace: bench, name: {WORKFLOW}, version: '1.0.0' }}\ndo:\n");
    for step in ["first", "second", "third"] {
        text += &format!(
            "  - {step}:\n      call: http\n      with: {{ method: get, endpoint: 'http://127.0.0.1:{port}/{step}' }}\n"
        );
    }
    text
}

//! A shop to try Holdpoint with, without any account: a scripted model that speaks OpenAI's
//! chat completions, and two tools, served on a loopback port.

mod model;
mod script;
mod tools;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use holdpoint_engine::definition;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Between the words of the demonstration's model, so that one sees it typing.
pub const TYPING: Duration = Duration::from_millis(25);

/// Serves the shop in the background, on `port` where that is free, else on any; the port.
pub async fn serve(port: Option<u16>, typing: Duration, stop: CancellationToken) -> anyhow::Result<u16> {
    let listener = bind(port.unwrap_or(0)).await?;
    let port = listener.local_addr()?.port();
    let router = Router::new()
        .route("/v1/chat/completions", post(model::complete))
        .with_state(typing)
        .merge(tools::routes());
    tokio::spawn(async move {
        let served = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!(%error, "the demonstration's server ended");
        }
    });
    Ok(port)
}

async fn bind(port: u16) -> std::io::Result<TcpListener> {
    let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match TcpListener::bind(address(port)).await {
        Err(error) if port != 0 => {
            tracing::warn!(%error, port, "the demonstration moves to another port: executions of earlier starts keep the old one");
            TcpListener::bind(address(0)).await
        }
        bound => bound,
    }
}

/// The agent `demo`, in the form in which documents are stored.
pub fn agent(port: u16) -> anyhow::Result<String> {
    let document = json!({
        "description": "Answers questions about orders and refunds them, with your approval",
        "model": {"base_url": format!("http://127.0.0.1:{port}/v1"), "name": "scripted",
                  "prices": {"input_per_million": 1.0, "output_per_million": 3.0}},
        "instructions": "You help the customers of a small shop.",
        "tools": [lookup_tool(port), refund_tool(port)],
    });
    canonical(&document)
}

/// The agent of `bench --what approvals`: one tool, behind an approval.
pub fn bench_agent(port: u16) -> Value {
    json!({
        "model": {"base_url": format!("http://127.0.0.1:{port}/v1"), "name": "scripted"},
        "tools": [refund_tool(port)],
    })
}

fn lookup_tool(port: u16) -> Value {
    json!({
        "name": "lookup_order",
        "description": "Looks up an order",
        "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
        "http": {"url": format!("http://127.0.0.1:{port}/tools/lookup_order")},
        "effect": "idempotent",
    })
}

fn refund_tool(port: u16) -> Value {
    json!({
        "name": "refund",
        "description": "Pays an amount back to the customer",
        "parameters": {"type": "object", "properties": {
            "order_id": {"type": "string"}, "amount_cents": {"type": "integer", "minimum": 1, "maximum": 100_000}},
            "required": ["order_id", "amount_cents"]},
        "http": {"url": format!("http://127.0.0.1:{port}/tools/refund")},
        "effect": "keyed",
        "approval": "always",
    })
}

fn canonical(document: &Value) -> anyhow::Result<String> {
    let agent = definition::parse_agent(&document.to_string()).map_err(|errors| {
        anyhow::anyhow!(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    Ok(definition::canonical(&agent))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdpoint_engine::definition::Definition;
    use holdpoint_engine::status::DefinitionKind;

    #[test]
    fn both_agents_are_valid() {
        for document in [agent(1).expect("valid"), bench_agent(1).to_string()] {
            let Definition::Agent(agent) =
                Definition::compile(DefinitionKind::Agent, 1, &document).expect("compiles")
            else {
                panic!("an agent")
            };
            assert!(agent.tool("refund").expect("there").tool.approval.is_needed());
        }
    }

    #[tokio::test]
    async fn it_keeps_its_port_where_that_is_free() {
        let stop = CancellationToken::new();
        let port = serve(None, Duration::ZERO, stop.clone()).await.expect("served");
        let other = serve(Some(port), Duration::ZERO, stop.clone()).await.expect("served elsewhere");
        assert_ne!(port, other);
        stop.cancel();
    }
}

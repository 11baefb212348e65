//! The requests of the measurements. Streams are not parsed event by event: the load
//! generator shares the machine with what it measures.

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use reqwest::{Method, Response};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::{Client, escape};

const LABEL: &str = "holdpoint-bench";

/// Starts executions of one measurement, all with a label of their own.
#[derive(Clone)]
pub struct Starter {
    /// Whom it asks.
    pub client: Client,
    /// The value of the label.
    pub run: String,
    body: Bytes,
}

#[derive(Deserialize)]
struct Started {
    id: String,
}

impl Starter {
    /// For executions of this workflow.
    pub fn new(client: Client, name: &str, workflow: &str) -> anyhow::Result<Self> {
        let run = format!("{name}-{}", Uuid::now_v7());
        let body = json!({"workflow": workflow, "labels": {LABEL: run}});
        Ok(Self { client, body: serde_json::to_vec(&body)?.into(), run })
    }

    fn request(&self, accept: &str) -> reqwest::RequestBuilder {
        let request = self.client.request(Method::POST, "/v1/executions");
        request.header("accept", accept).header("content-type", "application/json").body(self.body.clone())
    }

    /// Starts one; its id, once it was accepted.
    pub async fn start(&self) -> anyhow::Result<String> {
        let response = self.client.send(self.request("application/json")).await?;
        let started: Started =
            serde_json::from_slice(&response.bytes().await?).context("the answer to a start")?;
        Ok(started.id)
    }

    /// Starts one and answers its stream.
    pub async fn start_stream(&self) -> anyhow::Result<Follower> {
        Ok(Follower::new(self.client.send(self.request("text/event-stream")).await?))
    }

    /// Starts one and reads its stream to the end; whether it completed.
    pub async fn start_and_read(&self) -> anyhow::Result<bool> {
        self.start_stream().await?.completed().await
    }

    /// Follows one that was started; whether it completed.
    pub async fn follow(&self, id: &str) -> anyhow::Result<bool> {
        let request = self.client.request(Method::GET, &format!("/v1/executions/{}/stream", escape(id)));
        Follower::new(self.client.send(request).await?).completed().await
    }

    /// One execution of this measurement that has this status, if there is any.
    pub async fn any_with(&self, status: &str) -> anyhow::Result<Option<String>> {
        let label = format!("label.{LABEL}");
        let query =
            [("status", status.to_owned()), (label.as_str(), self.run.clone()), ("limit", "1".to_owned())];
        let page = self.client.get("/v1/executions", &query).await?;
        Ok(page["executions"][0]["id"].as_str().map(str::to_owned))
    }
}

/// Reads a stream piece by piece, looking for what marks an event.
pub struct Follower {
    response: Response,
    seen: BytesMut,
}

impl Follower {
    /// From the answer's beginning.
    pub fn new(response: Response) -> Self {
        Self { response, seen: BytesMut::new() }
    }

    /// Reads until this event has come, whole; `false` if the stream ended without it.
    pub async fn until(&mut self, event: &str) -> anyhow::Result<bool> {
        let mark = format!("event: {event}\n");
        loop {
            if let Some(at) = find(&self.seen, mark.as_bytes())
                && find(&self.seen[at..], b"\n\n").is_some()
            {
                return Ok(true);
            }
            match self.response.chunk().await? {
                Some(piece) => self.seen.extend_from_slice(&piece),
                None => return Ok(false),
            }
        }
    }

    /// The data of an event that has come.
    pub fn data(&self, event: &str) -> Option<Value> {
        let text = std::str::from_utf8(&self.seen).ok()?;
        let block =
            text.split("\n\n").find(|block| block.lines().any(|line| line == format!("event: {event}")))?;
        let data: Vec<&str> = block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        serde_json::from_str(&data.join("\n")).ok()
    }

    /// Reads to the end, so that the connection can be used again; whether it completed.
    pub async fn completed(mut self) -> anyhow::Result<bool> {
        while let Some(piece) = self.response.chunk().await? {
            self.seen.extend_from_slice(&piece);
        }
        Ok(find(&self.seen, b"event: execution.completed\n").is_some())
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found() {
        assert_eq!(find(b"event: end\n\n", b"\n\n"), Some(10));
        assert_eq!(find(b"", b"x"), None);
    }
}

//! A reader of Server-Sent Events that keeps the bytes.

use std::time::Duration;

use serde_json::Value;

/// Longer than any pause between events in a test.
const QUIET: Duration = Duration::from_secs(90);

/// One event as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The `id:` line, for numbered ones.
    pub id: Option<i64>,
    /// The `event:` line.
    pub kind: String,
    /// The `data:` lines, read as JSON.
    pub data: Value,
    /// All its lines, byte for byte.
    pub raw: String,
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    response: reqwest::Response,
    buffer: Vec<u8>,
    /// What broke it off, where something did.
    broken: Option<String>,
}

impl Stream {
    /// Reads an answer that is a stream.
    pub fn new(response: reqwest::Response) -> Self {
        Self { response, buffer: Vec::new(), broken: None }
    }

    /// A header of the answer.
    pub fn header(&self, name: &str) -> String {
        self.response.headers().get(name).map_or("", |value| value.to_str().expect("plain")).to_owned()
    }

    /// The next event, comments passed over; `None` at the end. Panics after 40 s without one.
    pub async fn next(&mut self) -> Option<Event> {
        let next = tokio::time::timeout(QUIET, self.next_however_late()).await;
        next.unwrap_or_else(|_| panic!("no event for {QUIET:?}"))
    }

    async fn next_however_late(&mut self) -> Option<Event> {
        loop {
            while let Some(block) = self.take_block() {
                if let Some(event) = parse(&block) {
                    return Some(event);
                }
            }
            match self.response.chunk().await {
                Ok(Some(bytes)) => self.buffer.extend_from_slice(&bytes),
                Ok(None) => return None,
                Err(error) => {
                    self.broken = Some(format!("{error:?}"));
                    return None;
                }
            }
        }
    }

    /// The next event of this kind; panics if the stream ends before.
    pub async fn wait_for(&mut self, kind: &str) -> Event {
        let mut before = Vec::new();
        loop {
            let Some(event) = self.next().await else {
                panic!("the stream ended before `{kind}`, after {before:#?}: {:?}", self.broken);
            };
            if event.kind == kind {
                return event;
            }
            before.push(event);
        }
    }

    /// Everything up to the end.
    pub async fn rest(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }

    fn take_block(&mut self) -> Option<String> {
        let end = self.buffer.windows(2).position(|pair| pair == b"\n\n")? + 2;
        let block: Vec<u8> = self.buffer.drain(..end).collect();
        Some(String::from_utf8(block).expect("a stream is UTF-8"))
    }
}

fn parse(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let values: Vec<&str> =
            block.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim_start).collect();
        (!values.is_empty()).then(|| values.join("\n"))
    };
    let data = field("data:")?;
    Some(Event {
        id: field("id:").map(|id| id.parse().expect("an id is a number")),
        kind: field("event:").unwrap_or_else(|| "message".to_owned()),
        data: serde_json::from_str(&data).unwrap_or(Value::String(data)),
        raw: block.to_owned(),
    })
}

/// The kinds, in order.
pub fn kinds(events: &[Event]) -> Vec<&str> {
    events.iter().map(|event| event.kind.as_str()).collect()
}

/// Checks that the numbered events are `from`, `from + 1`, … and agree with their data.
pub fn assert_numbered_from(events: &[Event], from: i64) {
    let numbers: Vec<i64> = events.iter().filter_map(|event| event.id).collect();
    let expected: Vec<i64> = (from..).take(numbers.len()).collect();
    assert_eq!(numbers, expected, "numbers of {:?}", kinds(events));
    for event in events.iter().filter(|event| event.id.is_some()) {
        assert_eq!(event.data["seq"].as_i64(), event.id, "{}", event.raw);
        assert_eq!(event.data["type"].as_str(), Some(event.kind.as_str()), "{}", event.raw);
    }
}

/// Checks that the last one is the unnumbered `end` with this status.
pub fn assert_end(events: &[Event], status: &str) {
    let last = events.last().expect("a stream has an end");
    assert_eq!((last.kind.as_str(), last.id), ("end", None), "{:?}", kinds(events));
    assert_eq!(last.data["status"], status, "{}", last.raw);
}

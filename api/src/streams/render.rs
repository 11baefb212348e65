//! Events as bytes: rendered once, for all readers.

use std::fmt::Write;

use bytes::Bytes;
use holdpoint_db::{EventsHead, EventsPage};
use holdpoint_engine::entry::{ExecutionFailed, Line};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{Failure, Status};

/// A comment: keeps a quiet line open and means nothing.
pub const COMMENT: Bytes = Bytes::from_static(b": \n\n");

/// One page of a stream, ready to be sent.
#[derive(Debug)]
pub struct Feed {
    head: Option<EventsHead>,
    /// Number of each event and where its frame begins.
    begins: Vec<(i64, usize)>,
    bytes: Bytes,
    lines: Vec<Line>,
    failure: Option<Failure>,
}

impl Feed {
    /// Renders a page.
    pub fn new(id: ExecutionId, page: EventsPage) -> Self {
        let (mut text, mut begins, mut failure) = (String::new(), Vec::new(), None);
        for line in &page.lines {
            let Some(number) = line.event else { continue };
            begins.push((number, text.len()));
            push_frame(&mut text, id, number, line);
            failure = failure.or_else(|| failure_of(line));
        }
        let head = head_of(page.head, &page.lines);
        Self { head, begins, bytes: Bytes::from(text), lines: page.lines, failure }
    }

    /// The number of the last event in it.
    pub fn last(&self) -> Option<i64> {
        self.begins.last().map(|(number, _)| *number)
    }

    /// The number of the first event after `position`.
    pub fn first_after(&self, position: i64) -> Option<i64> {
        self.begin_after(position).map(|(number, _)| number)
    }

    /// The bytes from the first event after `position` on.
    pub fn after(&self, position: i64) -> Option<Bytes> {
        self.begin_after(position).map(|(_, begin)| self.bytes.slice(begin..))
    }

    fn begin_after(&self, position: i64) -> Option<(i64, usize)> {
        let first = self.begins.partition_point(|(number, _)| *number <= position);
        self.begins.get(first).copied()
    }

    /// The events after `position` as lines, in order.
    pub fn lines_after(&self, position: i64) -> impl Iterator<Item = (i64, &Line)> {
        let numbered = self.lines.iter().filter_map(|line| Some((line.event?, line)));
        numbered.filter(move |(number, _)| *number > position)
    }

    /// Whether the row is gone.
    pub fn is_gone(&self) -> bool {
        self.head.is_none()
    }

    /// Why the execution failed, where that is among the lines.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether a reader at `position` has seen all there will be.
    pub fn is_the_end(&self, position: i64) -> bool {
        self.head.as_ref().is_some_and(|head| head.status.is_terminal() && position >= head.last_event)
    }

    /// The unnumbered events at the end, if a reader at `position` has seen all there will
    /// be. The `failure` is what that reader saw, in this page or an earlier one.
    pub fn ending(&self, position: i64, failure: Option<&Failure>) -> Option<Bytes> {
        let head = self.head.as_ref().filter(|_| self.is_the_end(position))?;
        let mut text = String::new();
        if let Some(failure) = failure {
            push_unnumbered(&mut text, "error", &serde_json::json!({ "error": failure }));
        }
        push_unnumbered(&mut text, "end", &serde_json::json!({ "status": head.status }));
        Some(Bytes::from(text))
    }
}

/// The head was read before the lines, and these may reach beyond it: a line that ends the
/// execution is its last, so that the end is told now and not at the next look.
fn head_of(head: Option<EventsHead>, lines: &[Line]) -> Option<EventsHead> {
    let ended = lines.last().and_then(|line| {
        let status = match line.kind.as_str() {
            "execution.completed" => Status::Completed,
            "execution.failed" => Status::Failed,
            "execution.cancelled" => Status::Cancelled,
            _ => return None,
        };
        Some((status, line.event?))
    });
    match (head, ended) {
        (Some(head), Some((status, last_event))) => Some(EventsHead { status, last_event, ..head }),
        (head, _) => head,
    }
}

fn failure_of(line: &Line) -> Option<Failure> {
    if line.kind != "execution.failed" {
        return None;
    }
    serde_json::from_str::<ExecutionFailed>(&line.payload).ok().map(|failed| failed.error)
}

/// The event as it is told, its payload byte for byte.
pub fn push_envelope(text: &mut String, id: ExecutionId, number: i64, line: &Line) {
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "{{\"seq\":{number},\"type\":\"{}\",\"at\":\"{}\",\"execution_id\":\"{id}\",\"data\":{}}}",
        line.kind, line.at, line.payload
    );
}

fn push_frame(text: &mut String, id: ExecutionId, number: i64, line: &Line) {
    let _ = write!(text, "id: {number}\nevent: {}\ndata: ", line.kind);
    let begin = text.len();
    push_envelope(text, id, number, line);
    split_lines(text, begin);
    text.push_str("\n\n");
}

/// A payload may hold line ends between its JSON tokens, where a tool sent them: each line
/// then is a `data:` field of its own, and a reader joins them again.
fn split_lines(text: &mut String, begin: usize) {
    if text[begin..].contains(['\r', '\n']) {
        let data = text[begin..].replace("\r\n", "\n").replace(['\r', '\n'], "\ndata: ");
        text.truncate(begin);
        text.push_str(&data);
    }
}

fn push_unnumbered(text: &mut String, event: &str, data: &serde_json::Value) {
    let _ = write!(text, "event: {event}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use holdpoint_engine::time::Timestamp;

    fn id() -> ExecutionId {
        "exe_01h455vb4pex5vsknk084sn02q".parse().unwrap()
    }

    fn line(number: i64, kind: &str, payload: &str) -> Line {
        let at = Timestamp::from_micros(0);
        Line { seq: number + 3, event: Some(number), kind: kind.into(), step: 0, at, payload: payload.into() }
    }

    fn feed(status: Status, last_event: i64, lines: Vec<Line>) -> Feed {
        Feed::new(id(), EventsPage { head: Some(EventsHead { status, last_event, end_user: None }), lines })
    }

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_frame_is_as_the_contract_says() {
        let feed = feed(Status::Running, 1, vec![line(1, "tool.called", "{\"step\":2, \"x\":1.50}")]);
        assert_eq!(feed.first_after(0), Some(1));
        assert_eq!(
            text(&feed.after(0).unwrap()),
            "id: 1\nevent: tool.called\ndata: {\"seq\":1,\"type\":\"tool.called\",\"at\":\"1970-01-01T00:00:00.000000Z\",\
             \"execution_id\":\"exe_01h455vb4pex5vsknk084sn02q\",\"data\":{\"step\":2, \"x\":1.50}}\n\n"
        );
    }

    #[test]
    fn line_ends_in_a_payload_stay_inside_their_event() {
        let feed = feed(Status::Running, 1, vec![line(1, "tool.completed", "{\"a\":\r\n1,\r\"b\":\n\n2}")]);
        let bytes = feed.after(0).unwrap();
        let frames: Vec<&str> = text(&bytes).split("\n\n").filter(|frame| !frame.is_empty()).collect();
        assert_eq!(frames.len(), 1, "{frames:?}");
        let data: Vec<&str> = frames[0].lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        let value: serde_json::Value = serde_json::from_str(&data.join("\n")).unwrap();
        assert_eq!(value["data"], serde_json::json!({"a": 1, "b": 2}));
        assert!(!text(&bytes).contains('\r'));
    }

    #[test]
    fn a_reader_gets_what_it_has_not_seen() {
        let lines = (3..=5).map(|n| line(n, "message.delta", "{}")).collect();
        let feed = feed(Status::Running, 5, lines);
        assert_eq!(feed.first_after(0), Some(3));
        let bytes = feed.after(4).unwrap();
        assert_eq!((feed.first_after(4), text(&bytes).matches("id: ").count()), (Some(5), 1));
        assert_eq!(feed.lines_after(3).map(|(number, _)| number).collect::<Vec<_>>(), [4, 5]);
        assert!(feed.after(5).is_none());
        assert_eq!(feed.last(), Some(5));
        assert!(feed.ending(5, None).is_none());
    }

    #[test]
    fn an_end_is_told_once_everything_was() {
        let failed = "{\"reason\":\"stuck\",\"error\":{\"type\":\"internal\",\"message\":\"m\"}}";
        let feed = feed(Status::Failed, 2, vec![line(2, "execution.failed", failed)]);
        assert!(feed.ending(1, feed.failure()).is_none());
        assert_eq!(
            text(&feed.ending(2, feed.failure()).unwrap()),
            "event: error\ndata: {\"error\":{\"message\":\"m\",\"type\":\"internal\"}}\n\n\
             event: end\ndata: {\"status\":\"failed\"}\n\n"
        );
    }

    #[test]
    fn an_end_is_told_although_the_head_was_read_before_it() {
        let failed = "{\"reason\":\"stuck\",\"error\":{\"type\":\"internal\",\"message\":\"m\"}}";
        for (kind, payload, told) in [
            ("execution.completed", "{\"output\":1}", "event: end\ndata: {\"status\":\"completed\"}"),
            (
                "execution.cancelled",
                "{\"reason\":\"cancelled\"}",
                "event: end\ndata: {\"status\":\"cancelled\"}",
            ),
            ("execution.failed", failed, "event: error\n"),
        ] {
            let feed = feed(Status::Running, 1, vec![line(2, kind, payload)]);
            assert!(feed.ending(1, feed.failure()).is_none());
            assert!(text(&feed.ending(2, feed.failure()).unwrap()).starts_with(told), "{kind}");
        }
    }

    #[test]
    fn a_failure_seen_earlier_is_told_with_the_end() {
        let failed = "{\"reason\":\"stuck\",\"error\":{\"type\":\"internal\",\"message\":\"m\"}}";
        let early = feed(Status::Running, 1, vec![line(2, "execution.failed", failed)]);
        let late = feed(Status::Failed, 2, Vec::new());
        assert!(text(&late.ending(2, early.failure()).unwrap()).starts_with("event: error\n"));
    }
}

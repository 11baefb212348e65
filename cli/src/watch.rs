//! Follows an execution's stream to its end, through any loss of the connection: it goes on
//! after the last number that was seen, so that no event is shown twice and none is missed.

use std::time::Duration;

use eventsource_stream::Eventsource;
use futures_util::{Stream, StreamExt};
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;

use crate::client::{Client, Refused, escape};
use crate::output::{cell, one_line, shortened};

/// Consecutive connections that may bring nothing before watching is given up.
const TRIES: u32 = 20;
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// One piece of a stream.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// A numbered event: `{seq, type, at, execution_id, data}`.
    Event(Value),
    /// The unnumbered `event: error`.
    Error(Value),
    /// The unnumbered `event: end`, with the execution's status.
    End(String),
}

/// The pieces of an SSE answer, in order; what is none of ours is passed over.
pub fn pieces(response: Response) -> impl Stream<Item = anyhow::Result<Piece>> {
    response.bytes_stream().eventsource().filter_map(|event| async move {
        match event {
            Ok(event) => piece(&event.event, &event.data).transpose(),
            Err(error) => Some(Err(anyhow::anyhow!("the stream broke off: {error}"))),
        }
    })
}

fn piece(event: &str, data: &str) -> anyhow::Result<Option<Piece>> {
    let data: Value =
        serde_json::from_str(data).map_err(|error| anyhow::anyhow!("not an event of Holdpoint: {error}"))?;
    Ok(match event {
        "end" => Some(Piece::End(cell(&data, "/status"))),
        "error" => Some(Piece::Error(data)),
        _ if data.get("seq").is_some() => Some(Piece::Event(data)),
        _ => None,
    })
}

/// Shows each event after `after`, and answers the status at the end.
pub async fn follow(
    client: &Client,
    execution: &str,
    after: u64,
    mut show: impl FnMut(&Value),
) -> anyhow::Result<String> {
    let mut last = after;
    let mut failures = 0;
    loop {
        let before = last;
        match follow_once(client, execution, &mut last, &mut show).await {
            Ok(Some(status)) => return Ok(status),
            // Past its last event an execution that is over has nothing to tell, not even that.
            Ok(None) if last == before => {
                let path = format!("/v1/executions/{}", escape(execution));
                let found = client.get(&path, &[]).await.ok().map(|found| cell(&found, "/status"));
                if let Some(status) = found.filter(|status| is_over(status)) {
                    return Ok(status);
                }
            }
            Ok(None) => {}
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "the stream broke off"),
        }
        failures = if last > before { 0 } else { failures + 1 };
        if failures >= TRIES {
            anyhow::bail!(
                "the stream of {execution} broke off {TRIES} times; go on with `holdpoint executions watch {execution} --after {last}`"
            );
        }
        tokio::time::sleep(pause(failures)).await;
    }
}

fn is_over(status: &str) -> bool {
    matches!(status, "completed" | "failed" | "cancelled")
}

/// A refusal will not change by asking again, but for those that say so.
fn is_final(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.status < 500 && refused.status != 429)
}

fn pause(failures: u32) -> Duration {
    (Duration::from_millis(100) * 2u32.saturating_pow(failures.min(10))).min(LONGEST_PAUSE)
}

/// One connection; `None` where it ended before the execution did.
async fn follow_once(
    client: &Client,
    execution: &str,
    last: &mut u64,
    show: &mut impl FnMut(&Value),
) -> anyhow::Result<Option<String>> {
    let request = client
        .request(Method::GET, &format!("/v1/executions/{}/stream", escape(execution)))
        .header("accept", "text/event-stream")
        .header("last-event-id", last.to_string());
    let response = client.send(request).await?;
    if response.status() == StatusCode::NO_CONTENT {
        return Ok(None);
    }
    let mut pieces = std::pin::pin!(pieces(response));
    while let Some(piece) = pieces.next().await {
        match piece? {
            Piece::Event(event) => {
                *last = event.get("seq").and_then(Value::as_u64).unwrap_or(*last);
                show(&event);
            }
            Piece::Error(_) => {}
            Piece::End(status) => return Ok(Some(status)),
        }
    }
    Ok(None)
}

/// An event as one line for a person.
pub fn line(event: &Value) -> String {
    let at = cell(event, "/at");
    // Of `2026-11-21T05:49:06.123456Z` the time to the millisecond.
    let time = at.get(11..23).unwrap_or(&at);
    let kind = cell(event, "/type");
    format!("{:>5}  {time}  {kind:<20}  {}", cell(event, "/seq"), what(&kind, event)).trim_end().to_owned()
}

fn what(kind: &str, event: &Value) -> String {
    let field = |pointer: &str| one_line(&cell(event, pointer));
    let call = || format!("{}  {}", field("/data/tool"), field("/data/tool_call_id"));
    match kind {
        "message.delta" => one_line(&serde_json::to_string(&event["data"]["text"]).unwrap_or_default()),
        "message.completed" => shortened(&field("/data/text"), 200),
        "tool.called" => format!("{}  {}", call(), shortened(&field("/data/arguments"), 200)),
        "tool.completed" => format!("{}  {}", call(), shortened(&field("/data/output"), 200)),
        "tool.failed" => {
            format!("{}  {}: {}", call(), field("/data/error/type"), field("/data/error/message"))
        }
        "tool.denied" => format!("{}  {}", call(), field("/data/reason")),
        "approval.requested" => requested(event),
        "approval.decided" => {
            let word = if event["data"]["approved"] == Value::Bool(true) { "approved" } else { "denied" };
            format!("{}  {word} by {}", call(), field("/data/decided_by"))
        }
        "approval.closed" => format!("{}  {}", call(), field("/data/status")),
        "execution.started" => {
            format!("{} {} version {}", field("/data/kind"), field("/data/name"), field("/data/version"))
        }
        "execution.suspended" | "execution.resumed" | "execution.cancelled" => field("/data/reason"),
        "execution.completed" => shortened(&field("/data/output"), 500),
        "execution.failed" => format!(
            "{}  {}: {}",
            field("/data/reason"),
            field("/data/error/type"),
            field("/data/error/message")
        ),
        _ => shortened(&field("/data"), 200),
    }
}

/// What a person is asked, and the command that answers.
fn requested(event: &Value) -> String {
    let field = |pointer: &str| one_line(&cell(event, pointer));
    format!(
        "{}  {}\n{:>21}approve: holdpoint approvals approve {} {}\n{:>21}deny:    holdpoint approvals deny {} {} --reason …",
        field("/data/tool"),
        field("/data/arguments_text"),
        "",
        field("/execution_id"),
        field("/data/tool_call_id"),
        "",
        field("/execution_id"),
        field("/data/tool_call_id"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_told_apart() {
        let event = r#"{"seq":3,"type":"tool.called","at":"x","execution_id":"e","data":{}}"#;
        assert!(matches!(piece("tool.called", event), Ok(Some(Piece::Event(_)))));
        assert_eq!(
            piece("end", r#"{"status":"completed"}"#).expect("an end"),
            Some(Piece::End("completed".to_owned()))
        );
        assert!(matches!(piece("error", r#"{"type":"logic"}"#), Ok(Some(Piece::Error(_)))));
        assert_eq!(piece("news", "{}").expect("passed over"), None);
        assert!(piece("message", "<html>").is_err());
    }

    #[test]
    fn an_event_is_one_line_that_cannot_move_the_terminal() {
        let event = serde_json::json!({"seq": 4, "type": "message.delta", "at": "2026-11-21T05:49:06.123456Z",
            "execution_id": "exe_x", "data": {"step": 1, "text": "a\n\u{1b}[2J"}});
        let line = line(&event);
        assert!(line.starts_with("    4  05:49:06.123  message.delta"), "{line}");
        assert!(!line.contains('\n') && !line.contains('\u{1b}'), "{line}");
    }

    #[test]
    fn an_approval_is_shown_with_the_command_that_answers() {
        let event = serde_json::json!({"seq": 5, "type": "approval.requested", "at": "", "execution_id": "exe_x",
            "data": {"tool": "refund", "tool_call_id": "call_1", "arguments_text": "{\"amount\":1}"}});
        let line = line(&event);
        assert!(line.contains("refund  {\"amount\":1}"), "{line}");
        assert!(line.contains("holdpoint approvals approve exe_x call_1"), "{line}");
    }

    #[test]
    fn pauses_grow_to_a_bound() {
        assert_eq!(pause(0), Duration::from_millis(100));
        assert_eq!(pause(3), Duration::from_millis(800));
        assert_eq!(pause(1_000), LONGEST_PAUSE);
    }
}

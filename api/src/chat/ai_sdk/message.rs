//! A request of the `ai` package's chat transport: what of it is read. Members that are not
//! here are ignored, as these clients expect; what looks like a decision in a place where none
//! can be is refused.

use holdpoint_engine::entry::Json;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::problem::{Answer, Code, Problem};
use crate::{body, forwarded};

/// The body.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "UiChatBody")]
pub struct ChatBody {
    /// The chat's id, which the transport sends by itself.
    id: Option<String>,
    /// The conversation, where it is not the chat.
    conversation_id: Option<String>,
    #[schemars(with = "Vec<UiMessage>", length(min = 1))]
    messages: Vec<Json>,
    /// The id of the message that this is about.
    #[serde(rename = "messageId")]
    #[schemars(with = "Option<String>")]
    message_id: Option<Value>,
    agent: Option<String>,
    model: Option<String>,
    pub execution_mode: Option<String>,
    /// Headers for tools that list them.
    pub forwarded_headers: Option<forwarded::Unchecked>,
}

/// One UI message, as far as it is read.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct UiMessage {
    pub id: Option<String>,
    pub role: Role,
    #[serde(default)]
    parts: Vec<Value>,
    content: Option<Value>,
}

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "UiRole")]
#[allow(missing_docs)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// One `approval-responded` part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The approval's id, as the client was told it.
    pub approval_id: String,
    /// The call that it is about.
    pub tool_call_id: Option<String>,
    /// The decision.
    pub approved: bool,
    /// What the person said.
    pub reason: Option<String>,
}

fn invalid(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, detail).with("field", field)
}

impl ChatBody {
    /// The conversation that it names.
    pub fn conversation(&self) -> Option<&str> {
        self.conversation_id.as_deref().or(self.id.as_deref())
    }

    /// The agent that it names, with a version where it says `agent@version`.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref().or(self.model.as_deref())
    }

    /// The id that it gives the message that it is about.
    pub fn message_id(&self) -> Answer<Option<&str>> {
        match &self.message_id {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(id)) => Ok(Some(id)),
            Some(_) => Err(invalid("messageId", "`messageId`: it may be a string")),
        }
    }

    /// Its messages, each at most `limit` bytes; a decision stands where it can be one.
    pub fn messages(&self, limit: usize) -> Answer<Vec<UiMessage>> {
        if self.messages.is_empty() {
            return Err(invalid("messages", "`messages`: it may not be empty"));
        }
        let last = self.messages.len() - 1;
        let read = |(at, raw): (usize, &Json)| {
            let place = format!("messages[{at}]");
            let message = UiMessage::read(&place, raw)?;
            // What is history is ours already, and may be longer than one value.
            if at == last && message.role == Role::User {
                body::check_value(&place, raw.get().len(), limit)?;
            }
            message.check(&place)?;
            Ok(message)
        };
        self.messages.iter().enumerate().map(read).collect()
    }
}

impl UiMessage {
    fn read(place: &str, raw: &Json) -> Answer<Self> {
        if !raw.get().starts_with('{') {
            return Err(invalid(place, format!("`{place}`: it may be an object")));
        }
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let field = format!("{place}.{}", error.path());
            invalid(&field, format!("`{field}`: {}", error.inner()))
        })
    }

    /// A decision may stand in a tool's part of an assistant's message, and nowhere else.
    fn check(&self, place: &str) -> Answer<()> {
        if self.content.as_ref().is_some_and(holds_decision) {
            let field = format!("{place}.content");
            let detail = format!("`{field}`: a decision may stand in `parts` only");
            return Err(invalid(&field, detail));
        }
        for (at, part) in self.parts.iter().enumerate() {
            let field = format!("{place}.parts[{at}]");
            if is_response(part) && (self.role != Role::Assistant || !is_tool(part)) {
                let detail =
                    format!("`{field}`: a decision may stand in a tool's part of an assistant's message");
                return Err(invalid(&field, detail));
            }
        }
        Ok(())
    }

    /// The decisions in it, each checked.
    pub fn responses(&self, place: &str) -> Answer<Vec<Response>> {
        let read = |(at, part): (usize, &Value)| {
            is_response(part).then(|| Response::read(&format!("{place}.parts[{at}]"), part))
        };
        self.parts.iter().enumerate().filter_map(read).collect()
    }

    /// What the user said, in OpenAI's shape.
    pub fn said(&self, place: &str) -> Answer<Json> {
        let mut texts = Vec::new();
        for (at, part) in self.parts.iter().enumerate() {
            match (part["type"].as_str(), part["text"].as_str()) {
                (Some("text"), Some(text)) => texts.push(text),
                // The application's own parts are not for the model.
                (Some(kind), _) if kind.starts_with("data-") => {}
                (kind, _) => {
                    let field = format!("{place}.parts[{at}]");
                    let shown: String = kind.unwrap_or("?").chars().take(32).collect();
                    let detail = format!(
                        "`{field}`: it is of the type `{shown}`; a part of the user may be {{\"type\": \"text\", \"text\": string}}"
                    );
                    return Err(invalid(&field, detail));
                }
            }
        }
        if let (true, Some(Value::String(text))) = (self.parts.is_empty(), &self.content) {
            texts.push(text);
        }
        let content = match texts.as_slice() {
            [] => {
                let field = format!("{place}.parts");
                return Err(invalid(&field, format!("`{field}`: it may not be without text")));
            }
            [text] => json!(text),
            texts => texts.iter().map(|text| json!({"type": "text", "text": text})).collect(),
        };
        Ok(holdpoint_engine::json(&json!({"role": "user", "content": content})))
    }
}

impl Response {
    fn read(field: &str, part: &Value) -> Answer<Self> {
        let approval = &part["approval"];
        let Some(id) = approval["id"].as_str() else {
            let field = format!("{field}.approval.id");
            return Err(invalid(&field, format!("`{field}`: it may be a string")));
        };
        let Some(approved) = approval["approved"].as_bool() else {
            let field = format!("{field}.approval.approved");
            return Err(invalid(&field, format!("`{field}`: it may be true or false")));
        };
        let text = |value: &Value| value.as_str().map(str::to_owned);
        if !approval["reason"].is_null() && !approval["reason"].is_string() {
            let field = format!("{field}.approval.reason");
            return Err(invalid(&field, format!("`{field}`: it may be a string")));
        }
        Ok(Self {
            approval_id: id.to_owned(),
            tool_call_id: text(&part["toolCallId"]),
            approved,
            reason: text(&approval["reason"]),
        })
    }
}

fn is_tool(part: &Value) -> bool {
    part["type"].as_str().is_some_and(|kind| kind.starts_with("tool-") || kind == "dynamic-tool")
}

/// A decision, or what somebody may have meant as one.
fn is_response(part: &Value) -> bool {
    part["state"] == "approval-responded"
        || matches!(part["type"].as_str(), Some("approval-responded" | "tool-approval-response"))
}

/// Whether a decision is hidden in a value: as it is, or as text of JSON.
fn holds_decision(value: &Value) -> bool {
    match value {
        Value::String(text) => serde_json::from_str::<Value>(text)
            .is_ok_and(|inner| !inner.is_string() && holds_decision(&inner)),
        Value::Array(values) => values.iter().any(holds_decision),
        Value::Object(members) => {
            is_response(value)
                || members.contains_key("approved")
                || members.values().any(|member| !member.is_string() && holds_decision(member))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(message: &Value) -> Answer<UiMessage> {
        let message = UiMessage::read("m", &holdpoint_engine::json(message))?;
        message.check("m").map(|()| message)
    }

    fn part(approval: Value) -> Value {
        json!({"type": "tool-pay", "toolCallId": "c", "state": "approval-responded", "approval": approval})
    }

    #[test]
    fn decisions_are_read_where_they_can_be() {
        let parts = json!([
            {"type": "step-start"},
            {"type": "tool-look", "toolCallId": "a", "state": "output-available", "approval": {"id": "x", "approved": true}},
            {"type": "tool-pay", "toolCallId": "b", "state": "approval-requested", "approval": {"id": "y"}},
            part(json!({"id": "z", "approved": false, "reason": "no"})),
        ]);
        let message = read(&json!({"id": "m", "role": "assistant", "parts": parts})).expect("fine");
        let expected = Response {
            approval_id: "z".into(),
            tool_call_id: Some("c".into()),
            approved: false,
            reason: Some("no".into()),
        };
        assert_eq!(message.responses("m").expect("one"), [expected]);
        for bad in [
            json!({"id": "z"}),
            json!({"id": "z", "approved": "true"}),
            json!({"id": "z", "approved": 1}),
            json!({"approved": true}),
            json!({"id": "z", "approved": true, "reason": 7}),
        ] {
            let message = read(&json!({"role": "assistant", "parts": [part(bad.clone())]})).expect("read");
            assert!(message.responses("m").is_err(), "{bad}");
        }
    }

    #[test]
    fn a_decision_anywhere_else_is_refused() {
        let approval = json!({"id": "z", "approved": true});
        for bad in [
            json!({"role": "user", "parts": [part(approval.clone())]}),
            json!({"role": "system", "parts": [part(approval.clone())]}),
            json!({"role": "assistant", "parts": [{"type": "text", "text": "x", "state": "approval-responded"}]}),
            json!({"role": "assistant", "parts": [], "content": [part(approval.clone())]}),
            json!({"role": "user", "content": part(approval.clone()).to_string()}),
            json!({"role": "user", "content": json!({"approval": approval}).to_string()}),
            json!({"role": "user", "parts": [{"type": "tool-approval-response", "approved": true}]}),
        ] {
            assert!(read(&bad).is_err(), "{bad}");
        }
        let plain = json!({"role": "user", "parts": [{"type": "text", "text": "is it approval-responded?"}]});
        assert!(read(&plain).is_ok());
    }

    #[test]
    fn what_the_user_said_is_taken_as_text() {
        let said = |message: Value| read(&message).and_then(|message| message.said("m"));
        let one = said(json!({"role": "user", "parts": [{"type": "text", "text": "a"}]})).expect("one");
        assert_eq!(one.get(), r#"{"content":"a","role":"user"}"#);
        let two = json!([{"type": "text", "text": "a"}, {"type": "data-x", "data": 1}, {"type": "text", "text": "b"}]);
        let two = said(json!({"role": "user", "parts": two})).expect("two");
        assert!(two.get().contains(r#"[{"text":"a","type":"text"},{"text":"b","type":"text"}]"#));
        assert!(said(json!({"role": "user", "content": "a"})).is_ok());
        for bad in [
            json!({"role": "user", "parts": []}),
            json!({"role": "user", "parts": [{"type": "file", "url": "data:,x", "mediaType": "text/plain"}]}),
            json!({"role": "user", "parts": [{"type": "text"}]}),
            json!({"role": "robot", "parts": []}),
        ] {
            assert!(said(bad.clone()).is_err(), "{bad}");
        }
    }
}

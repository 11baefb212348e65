//! A chat completion request: what of it is read, what is ignored, and what is refused because
//! to ignore it would change what the caller means.

use holdpoint_db::{Extras, Idempotency};
use holdpoint_engine::entry::Json;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::scope::check_name;
use holdpoint_perform::ForwardedHeaders;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body;
use crate::chat::{Mode, NewMessage, Turn, check_conversation_id};
use crate::forwarded;
use crate::problem::{Answer, Code, Problem};

/// The body. Fields that are not here are ignored, as these clients expect.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "ChatCompletionRequest")]
pub struct ChatBody {
    /// `agent` or `agent@version`.
    pub model: String,
    #[schemars(with = "Vec<Message>", length(min = 1))]
    messages: Vec<Json>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    conversation_id: Option<String>,
    #[serde(default)]
    execution_mode: Option<String>,
    #[serde(default)]
    forwarded_headers: Option<forwarded::Unchecked>,
    #[serde(default)]
    n: Option<Value>,
    #[serde(default)]
    tools: Option<Value>,
    #[serde(default)]
    tool_choice: Option<Value>,
    #[serde(default)]
    functions: Option<Value>,
    #[serde(default)]
    function_call: Option<Value>,
    #[serde(default)]
    response_format: Option<Value>,
    #[serde(default)]
    modalities: Option<Value>,
    #[serde(default)]
    logprobs: Option<Value>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// One message, as far as it is read.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChatMessage")]
struct Message {
    role: Role,
    #[serde(default)]
    content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Call>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tool_call_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ChatRole")]
enum Role {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a string or an array of parts")]
#[schemars(rename = "ChatContent")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChatPart")]
struct Part {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChatToolCall")]
struct Call {
    id: String,
    #[serde(rename = "type", default = "function")]
    kind: String,
    function: Function,
}

fn function() -> String {
    "function".to_owned()
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ChatFunction")]
struct Function {
    name: String,
    arguments: String,
}

fn invalid(field: &str, detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, detail).with("field", field)
}

impl ChatBody {
    /// Whether the answer is a stream.
    pub fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    /// Whether a stream ends with its usage.
    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }

    /// The conversation that it names: in the body, else in the header.
    pub fn conversation(&self, header: Option<&str>) -> Answer<Option<String>> {
        let named = self.conversation_id.as_deref().or(header);
        named.map(check_conversation_id).transpose()?;
        Ok(named.map(str::to_owned))
    }

    /// Its messages, checked and without what is not read, each at most `limit` bytes.
    pub fn messages(&self, limit: usize) -> Answer<Vec<Sent>> {
        if self.messages.is_empty() {
            return Err(invalid("messages", "`messages`: it may not be empty"));
        }
        self.messages.iter().enumerate().map(|(at, raw)| Sent::read(at, raw, limit)).collect()
    }

    /// Refuses what asks for another answer than the agent's definition gives.
    pub fn check(&self) -> Answer<()> {
        let asks = |value: &Option<Value>| {
            value
                .as_ref()
                .is_some_and(|value| !matches!(value, Value::Null) && *value != Value::Array(Vec::new()))
        };
        let agents_own = [("tools", &self.tools), ("functions", &self.functions)];
        for (field, value) in agents_own {
            if asks(value) {
                let detail = format!("`{field}`: the agent's definition names its tools; leave it out");
                return Err(invalid(field, detail));
            }
        }
        let only =
            [("tool_choice", &self.tool_choice, "auto"), ("function_call", &self.function_call, "auto")];
        for (field, value, word) in only {
            if asks(value) && value.as_ref() != Some(&Value::from(word)) {
                return Err(invalid(field, format!("`{field}`: it may be `{word}`")));
            }
        }
        if self.n.as_ref().is_some_and(|n| !n.is_null() && n.as_u64() != Some(1)) {
            return Err(invalid("n", "`n`: it may be 1"));
        }
        if asks(&self.response_format)
            && self.response_format.as_ref().map(|f| &f["type"]) != Some(&Value::from("text"))
        {
            return Err(invalid("response_format", "`response_format`: its type may be `text`"));
        }
        if asks(&self.modalities) && self.modalities != Some(Value::from(vec!["text"])) {
            return Err(invalid("modalities", "`modalities`: it may be [\"text\"]"));
        }
        if self.logprobs == Some(Value::Bool(true)) {
            return Err(invalid("logprobs", "`logprobs`: it may be false"));
        }
        Ok(())
    }

    /// Its headers for tools, checked.
    pub fn forwarded_headers(&self, limits: &Limits) -> Answer<ForwardedHeaders> {
        forwarded::check(self.forwarded_headers.as_ref(), limits)
    }

    /// The turn that it asks for, of these new messages.
    pub fn turn(
        &self,
        conversation: Option<String>,
        new: Vec<Sent>,
        idempotency: Option<Idempotency>,
        forwarded_headers: ForwardedHeaders,
        extras: Extras,
    ) -> Answer<Turn> {
        let (agent, version) = agent_of(&self.model)?;
        Ok(Turn {
            agent,
            version,
            conversation,
            messages: new.into_iter().map(|sent| NewMessage { id: None, message: sent.message }).collect(),
            idempotency,
            mode: self.execution_mode.as_deref().map(Mode::parse).transpose()?,
            forwarded_headers,
            extras,
        })
    }
}

/// The agent and the version that a model's name means: `agent` or `agent@version`.
pub fn agent_of(model: &str) -> Answer<(String, Option<i32>)> {
    let unknown = || {
        let shown: String = model.chars().take(128).collect();
        let detail = format!("there is no model `{shown}`: it may be `agent` or `agent@version`");
        Problem::new(Code::UnknownDefinition, detail).with("field", "model")
    };
    let (name, version) = match model.split_once('@') {
        None => (model, None),
        Some((name, version)) => {
            let number = version.parse().ok().filter(|number: &i32| *number >= 1);
            (name, Some(number.ok_or_else(unknown)?))
        }
    };
    check_name(name).map_err(|_| unknown())?;
    Ok((name.to_owned(), version))
}

/// One message of a request.
#[derive(Debug)]
pub struct Sent {
    role: Role,
    /// Its text, parts joined.
    text: String,
    message: Json,
}

impl Sent {
    fn read(at: usize, raw: &Json, limit: usize) -> Answer<Self> {
        let place = format!("messages[{at}]");
        body::check_value(&place, raw.get().len(), limit)?;
        if !raw.get().starts_with('{') {
            return Err(invalid(&place, format!("`{place}`: it may be an object")));
        }
        let mut reader = serde_json::Deserializer::from_str(raw.get());
        let message: Message = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let field = format!("{place}.{}", error.path());
            invalid(&field, format!("`{field}`: {}", error.inner()))
        })?;
        message.check(&place)?;
        Ok(Self { role: message.role, text: message.text(), message: holdpoint_engine::json(&message) })
    }

    /// Whether the user said it.
    pub fn is_users(&self) -> bool {
        self.role == Role::User
    }

    /// The text of a stored message of the user, as [`Sent`] has it.
    pub fn text_of(stored: &str) -> Option<String> {
        serde_json::from_str::<Message>(stored).ok().map(|message| message.text())
    }
}

impl Message {
    fn check(&self, place: &str) -> Answer<()> {
        let calls =
            self.role == Role::Assistant && self.tool_calls.as_ref().is_some_and(|calls| !calls.is_empty());
        if self.content.is_none() && !calls {
            let field = format!("{place}.content");
            return Err(invalid(&field, format!("`{field}`: it may be a string or an array of text parts")));
        }
        if self.role == Role::Tool && self.tool_call_id.is_none() {
            let field = format!("{place}.tool_call_id");
            return Err(invalid(&field, format!("`{field}`: a message of the role `tool` answers a call")));
        }
        let Some(Content::Parts(parts)) = &self.content else { return Ok(()) };
        for (at, part) in parts.iter().enumerate() {
            if part.kind != "text" || part.text.is_none() {
                let field = format!("{place}.content[{at}]");
                let shown: String = part.kind.chars().take(32).collect();
                let detail = format!(
                    "`{field}`: it is of the type `{shown}`; a part may be {{\"type\": \"text\", \"text\": string}}"
                );
                return Err(invalid(&field, detail));
            }
        }
        Ok(())
    }

    fn text(&self) -> String {
        match &self.content {
            None => String::new(),
            Some(Content::Text(text)) => text.clone(),
            Some(Content::Parts(parts)) => parts.iter().filter_map(|part| part.text.as_deref()).collect(),
        }
    }
}

/// What of a request's messages a conversation does not have yet. `said` are the texts of the
/// user's messages in it, oldest first, at least as many as the request has.
///
/// A client may send the whole conversation each time, its end, or only what is new. The
/// longest beginning of the request's user messages that is an end of the conversation's is
/// what both have; the user messages after it are new. All else in the request is passed
/// over: the conversation has its own.
pub fn new_messages(sent: Vec<Sent>, said: &[String]) -> Vec<Sent> {
    let users: Vec<Sent> = sent.into_iter().filter(Sent::is_users).collect();
    let both =
        |count: &usize| said[said.len() - count..].iter().zip(&users).all(|(said, sent)| *said == sent.text);
    let known = (0..=users.len().min(said.len())).rev().find(both).unwrap_or(0);
    users.into_iter().skip(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(messages: Value) -> Vec<Sent> {
        let body = serde_json::json!({"model": "a", "messages": messages});
        let body: ChatBody = serde_json::from_value(body).expect("a body");
        body.messages(1_000).expect("messages")
    }

    fn users(texts: &[&str]) -> Vec<Sent> {
        sent(texts.iter().map(|text| serde_json::json!({"role": "user", "content": text})).collect())
    }

    #[test]
    fn what_the_conversation_has_is_not_taken_again() {
        let table: [(&[&str], &[&str], &[&str]); 9] = [
            (&[], &["a"], &["a"]),
            (&["a"], &["a", "b"], &["b"]),
            (&["a"], &["b"], &["b"]),
            (&["a"], &["a"], &[]),
            (&["a", "b"], &["b", "c"], &["c"]),
            (&["a", "b"], &["a", "b"], &[]),
            (&["a", "b"], &["b"], &[]),
            (&["a", "a"], &["a", "a", "a"], &["a"]),
            (&["a", "b"], &["c", "b"], &["c", "b"]),
        ];
        for (said, request, expected) in table {
            let said: Vec<String> = said.iter().map(|text| (*text).to_owned()).collect();
            let new: Vec<String> =
                new_messages(users(request), &said).into_iter().map(|one| one.text).collect();
            assert_eq!(new, expected, "{said:?} and {request:?}");
        }
    }

    #[test]
    fn parts_are_the_text_that_they_make() {
        let parts = sent(serde_json::json!([
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "n", "arguments": "{}"}}], "refusal": null},
            {"role": "tool", "tool_call_id": "c", "content": "x"},
        ]));
        assert_eq!(parts[1].text, "ab");
        assert!(new_messages(parts, &["ab".to_owned()]).is_empty());
    }

    #[test]
    fn what_cannot_be_carried_is_refused_by_its_place() {
        let table = [
            (serde_json::json!([{"role": "robot", "content": "x"}]), "messages[0].role"),
            (serde_json::json!([{"role": "user"}]), "messages[0].content"),
            (serde_json::json!([{"role": "tool", "content": "x"}]), "messages[0].tool_call_id"),
            (
                serde_json::json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
                "messages[0].content[0]",
            ),
            (serde_json::json!(["x"]), "messages[0]"),
            (serde_json::json!([]), "messages"),
        ];
        for (messages, field) in table {
            let body = serde_json::json!({"model": "a", "messages": messages});
            let body: ChatBody = serde_json::from_value(body).expect("a body");
            let problem = body.messages(1_000).expect_err(field);
            assert_eq!(problem.document()["field"], field);
        }
    }

    #[test]
    fn what_would_change_the_answer_is_refused_and_the_rest_ignored() {
        let check = |more: Value| {
            let mut body = serde_json::json!({"model": "a", "messages": []});
            for (name, value) in more.as_object().expect("an object") {
                body[name] = value.clone();
            }
            serde_json::from_value::<ChatBody>(body).expect("a body").check()
        };
        for good in [
            serde_json::json!({"temperature": 0.5, "seed": 1, "user": "x", "store": true, "anything": {}}),
            serde_json::json!({"tools": [], "tool_choice": "auto", "n": 1, "response_format": {"type": "text"}}),
            serde_json::json!({"tools": null, "n": null, "logprobs": false, "modalities": ["text"]}),
        ] {
            assert!(check(good.clone()).is_ok(), "{good}");
        }
        for (field, value) in [
            ("tools", serde_json::json!([{"type": "function"}])),
            ("functions", serde_json::json!([{}])),
            ("tool_choice", serde_json::json!("required")),
            ("n", serde_json::json!(2)),
            ("response_format", serde_json::json!({"type": "json_object"})),
            ("modalities", serde_json::json!(["text", "audio"])),
            ("logprobs", serde_json::json!(true)),
        ] {
            let problem = check(serde_json::json!({field: value})).expect_err(field);
            assert_eq!(problem.document()["field"], field);
        }
    }
}

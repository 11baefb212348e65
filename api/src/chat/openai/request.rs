//! A chat completion request: what of it is read, what is ignored, and what is refused because
//! to ignore it would change what the caller means.

use holdpoint_db::{Extras, Idempotency};
use holdpoint_engine::entry::Json;
use holdpoint_engine::scope::check_name;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::body;
use crate::chat::{Mode, NewMessage, Turn, check_conversation_id};
use crate::problem::{Answer, Code, Problem};

/// The body. Fields that are not here are ignored, as these clients expect.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ChatBody {
    /// `agent` or `agent@version`.
    pub model: String,
    #[schemars(with = "Vec<Message>")]
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

    /// The turn that it asks for, of these new messages.
    pub fn turn(
        &self,
        conversation: Option<String>,
        new: Vec<Sent>,
        idempotency: Option<Idempotency>,
        extras: Extras,
    ) -> Answer<Turn> {
        let (agent, version) = self.agent()?;
        Ok(Turn {
            agent,
            version,
            conversation,
            messages: new.into_iter().map(|sent| NewMessage { id: None, message: sent.message }).collect(),
            idempotency,
            mode: self.execution_mode.as_deref().map(Mode::parse).transpose()?,
            extras,
        })
    }

    fn agent(&self) -> Answer<(String, Option<i32>)> {
        let unknown = || {
            let shown: String = self.model.chars().take(128).collect();
            Problem::new(Code::UnknownDefinition, format!("there is no model `{shown}`: it names an agent"))
                .with("field", "model")
        };
        let (name, version) = match self.model.split_once('@') {
            None => (self.model.as_str(), None),
            Some((name, version)) => {
                (name, Some(version.parse().ok().filter(|v| *v >= 1).ok_or_else(unknown)?))
            }
        };
        check_name(name).map_err(|_| unknown())?;
        Ok((name.to_owned(), version))
    }
}

/// One message of a request.
#[derive(Debug)]
pub struct Sent {
    role: Role,
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
        Ok(Self { role: message.role, message: holdpoint_engine::json(&message) })
    }

    /// Whether the user said it.
    pub fn is_users(&self) -> bool {
        self.role == Role::User
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
}

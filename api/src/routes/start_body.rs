//! The body of a start, checked as far as that needs no database.

use std::collections::BTreeMap;

use holdpoint_db::{Conversation, Extras, HIGHEST_PRIORITY, Idempotency, NewExecution};
use holdpoint_engine::digest::sha256_hex;
use holdpoint_engine::entry::Json;
use holdpoint_engine::ids::{ExecutionId, FileId};
use holdpoint_engine::scope::check_name;
use holdpoint_engine::status::{DefinitionKind, RunType};
use holdpoint_engine::time::Span;
use holdpoint_engine::wire::ExecutionKey;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::app::App;
use crate::auth::Caller;
use crate::problem::{Answer, Code, Problem};
use crate::{body, chat, forwarded};

/// A start as a caller writes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartBody {
    agent: Option<String>,
    workflow: Option<String>,
    version: Option<i32>,
    input: Option<Json>,
    #[schemars(with = "Option<Vec<Message>>")]
    messages: Option<Json>,
    conversation_id: Option<String>,
    execution_id: Option<ExecutionId>,
    execution_mode: Option<String>,
    run_type: Option<RunType>,
    delay: Option<Span>,
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    metadata: Option<Json>,
    labels: Option<BTreeMap<String, String>>,
    forwarded_headers: Option<forwarded::Unchecked>,
    /// Files that it is started with: at most 32 ids.
    files: Option<Vec<FileId>>,
    /// -10 to 10, 0 if left out: of those of its project that wait, higher ones are taken first.
    priority: Option<i32>,
}

/// The most files of a start.
const FILES: usize = 32;

/// One message of a start.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[allow(dead_code)]
struct Message {
    role: MessageRole,
    content: Option<Content>,
    name: Option<String>,
    #[schemars(with = "Option<Vec<serde_json::Value>>")]
    tool_calls: Option<Vec<serde::de::IgnoredAny>>,
    tool_call_id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum MessageRole {
    System,
    Developer,
    User,
    Assistant,
    Tool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged, expecting = "a string or an array of {\"type\": \"text\", \"text\": string}")]
#[allow(dead_code)]
#[schemars(rename = "MessageContent")]
enum Content {
    Text(String),
    Parts(Vec<Part>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
#[allow(dead_code)]
#[schemars(rename = "MessagePart")]
enum Part {
    Text { text: String },
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(Code::InvalidBody, detail)
}

impl StartBody {
    /// A start that says no more than this.
    pub fn plain(
        (agent, workflow, version): (Option<String>, Option<String>, Option<i32>),
        input: Option<Json>,
        metadata: Option<Json>,
        labels: Option<BTreeMap<String, String>>,
    ) -> Self {
        Self {
            agent,
            workflow,
            version,
            input,
            messages: None,
            conversation_id: None,
            execution_id: None,
            execution_mode: None,
            run_type: None,
            delay: None,
            metadata,
            labels,
            forwarded_headers: None,
            files: None,
            priority: None,
        }
    }

    /// A test run of a workflow.
    pub fn test(
        workflow: String,
        version: Option<i32>,
        input: Option<Json>,
        files: Option<Vec<FileId>>,
    ) -> Self {
        let plain = Self::plain((None, Some(workflow), version), input, None, None);
        Self { run_type: Some(RunType::Test), files, ..plain }
    }

    /// The start that it asks for, with everything checked that needs no database. `raw`
    /// are the bytes that make two starts the same one.
    pub fn check(self, app: &App, caller: &Caller, key: Option<String>, raw: &[u8]) -> Answer<NewExecution> {
        let (kind, name) = self.definition()?;
        self.check_mode()?;
        self.check_input(kind, app.limits.value_bytes)?;
        let metadata = self.check_metadata(app.limits.metadata_bytes)?;
        let labels = self.check_labels(app)?;
        self.check_files()?;
        let priority = self.check_priority()?;
        let id = self.execution_id.unwrap_or_else(|| app.ids.make(ExecutionId::new));
        let conversation = self.conversation(kind, id)?;
        let headers = forwarded::check(self.forwarded_headers.as_ref(), &app.limits)?;
        let execution = ExecutionKey { scope: caller.scope.clone(), id };
        let sealed_headers = forwarded::seal(&app.performer, &execution, &headers)?;
        let same = key.is_some() || self.execution_id.is_some();
        Ok(NewExecution {
            key: execution,
            kind,
            name,
            version: self.version,
            input: self.input.map(|input| input.get().to_owned()),
            messages: self.messages.map(|messages| messages.get().to_owned()),
            conversation,
            idempotency: same.then(|| Idempotency { key, body_digest: sha256_hex(raw) }),
            run_type: self.run_type.unwrap_or(RunType::Production),
            delay: self.delay.map(|delay| delay.0).filter(|delay| !delay.is_zero()),
            metadata,
            labels,
            end_user: caller.end_user.clone(),
            created_by: caller.key.clone(),
            extras: Extras {
                sealed_headers,
                files: self.files.unwrap_or_default(),
                priority,
                traceparent: caller.trace,
                ..Extras::default()
            },
        })
    }

    fn definition(&self) -> Answer<(DefinitionKind, String)> {
        let (kind, name) = match (&self.agent, &self.workflow) {
            (Some(name), None) => (DefinitionKind::Agent, name),
            (None, Some(name)) => (DefinitionKind::Workflow, name),
            _ => return Err(invalid("name exactly one of `agent` and `workflow`")),
        };
        if self.version.is_some_and(|version| version < 1) {
            return Err(invalid("`version`: it may be 1 and up"));
        }
        // A name that nothing can have is a definition that is not there.
        let unknown = |_| Problem::new(Code::UnknownDefinition, format!("there is no {kind} of that name"));
        check_name(name).map_err(unknown)?;
        Ok((kind, name.clone()))
    }

    fn check_mode(&self) -> Answer<()> {
        match self.execution_mode.as_deref() {
            None | Some("durable") => Ok(()),
            Some("classic") => Err(Problem::new(
                Code::ClassicNotHere,
                "leave `execution_mode` out, or use the chat endpoints",
            )),
            Some(_) => Err(invalid("`execution_mode`: it may be `durable`")),
        }
    }

    fn check_input(&self, kind: DefinitionKind, limit: usize) -> Answer<()> {
        if let Some(input) = &self.input {
            body::check_value("input", input.get().len(), limit)?;
        }
        let Some(messages) = &self.messages else {
            return Ok(());
        };
        if self.input.is_some() {
            return Err(invalid("give `input` or `messages`, not both"));
        }
        if kind == DefinitionKind::Workflow {
            return Err(invalid("`messages` are for agents; a workflow takes `input`"));
        }
        check_messages(messages.get(), limit)
    }

    fn check_metadata(&self, limit: usize) -> Answer<String> {
        let Some(metadata) = &self.metadata else {
            return Ok("{}".to_owned());
        };
        let text = metadata.get();
        if !text.starts_with('{') {
            return Err(invalid("`metadata`: it may be an object"));
        }
        if text.len() > limit {
            let detail = format!("`metadata` has {} bytes; it may have {limit}", text.len());
            return Err(Problem::limit(StatusCode::PAYLOAD_TOO_LARGE, "metadata_bytes", limit, detail));
        }
        Ok(text.to_owned())
    }

    fn check_labels(&self, app: &App) -> Answer<BTreeMap<String, String>> {
        let labels = self.labels.clone().unwrap_or_default();
        let limits = &app.limits;
        within("labels", labels.len(), limits.labels, "labels")?;
        for (key, value) in &labels {
            if key.is_empty() {
                return Err(invalid("`labels`: a key may not be empty"));
            }
            within("label_key_bytes", key.len(), limits.label_key_bytes, "bytes in a label's key")?;
            within("label_value_bytes", value.len(), limits.label_value_bytes, "bytes in a label's value")?;
        }
        Ok(labels)
    }

    fn check_files(&self) -> Answer<()> {
        let files = self.files.as_deref().unwrap_or_default();
        within("files", files.len(), FILES, "files")?;
        let twice = |(at, id): &(usize, &FileId)| files[..*at].contains(id);
        match files.iter().enumerate().find(twice) {
            Some((at, id)) => {
                let pointer = format!("/files/{at}");
                Err(invalid(format!("`files[{at}]`: `{id}` stands twice")).with("pointer", pointer))
            }
            None => Ok(()),
        }
    }

    fn check_priority(&self) -> Answer<i32> {
        let (priority, most) = (self.priority.unwrap_or(0), HIGHEST_PRIORITY);
        if (-most..=most).contains(&priority) {
            return Ok(priority);
        }
        Err(invalid(format!("`priority` is {priority}: it may be -{most} to {most}")))
    }

    fn conversation(&self, kind: DefinitionKind, id: ExecutionId) -> Answer<Conversation> {
        match (&self.conversation_id, kind) {
            (None, DefinitionKind::Workflow) => Ok(Conversation::None),
            (Some(_), DefinitionKind::Workflow) => {
                Err(invalid("`conversation_id`: a workflow has no conversation"))
            }
            (None, DefinitionKind::Agent) => Ok(chat::made_conversation(id)),
            (Some(given), DefinitionKind::Agent) => {
                chat::check_conversation_id(given)?;
                Ok(Conversation::Named(given.clone()))
            }
        }
    }
}

fn within(limit: &str, is: usize, may: usize, what: &str) -> Answer<()> {
    if is <= may {
        return Ok(());
    }
    Err(Problem::limit(
        StatusCode::UNPROCESSABLE_ENTITY,
        limit,
        may,
        format!("{is} {what}; there may be {may}"),
    ))
}

fn check_messages(text: &str, limit: usize) -> Answer<()> {
    let raw: Vec<Json> = serde_json::from_str(text).map_err(|_| invalid("`messages`: it may be an array"))?;
    if raw.is_empty() {
        return Err(invalid("`messages`: it may not be empty"));
    }
    for (index, message) in raw.iter().enumerate() {
        let place = format!("messages[{index}]");
        body::check_value(&place, message.get().len(), limit)?;
        if !message.get().starts_with('{') {
            return Err(invalid(format!("`{place}`: it may be an object")));
        }
        let mut reader = serde_json::Deserializer::from_str(message.get());
        let message: Message = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            invalid(format!("`{place}`: {}: {}", error.path(), error.inner())).with("field", place.clone())
        })?;
        check_message(&place, &message)?;
    }
    Ok(())
}

fn check_message(place: &str, message: &Message) -> Answer<()> {
    let calls = message.role == MessageRole::Assistant && message.tool_calls.is_some();
    if message.content.is_none() && !calls {
        return Err(invalid(format!("`{place}.content`: it may be a string or an array of text parts")));
    }
    if message.role == MessageRole::Tool && message.tool_call_id.is_none() {
        return Err(invalid(format!("`{place}.tool_call_id`: a message of the role `tool` answers a call")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_held_against_their_shape() {
        for good in [
            r#"[{"role":"user","content":"hi"}]"#,
            r#"[{"role":"developer","content":[{"type":"text","text":"hi"}]}]"#,
            r#"[{"role":"assistant","content":null,"tool_calls":[{}]},{"role":"tool","tool_call_id":"c","content":"x"}]"#,
        ] {
            assert!(check_messages(good, 1_000).is_ok(), "{good}");
        }
        for bad in [
            "[]",
            "{}",
            "\"x\"",
            r#"[{"role":"robot","content":"hi"}]"#,
            r#"[{"role":"user"}]"#,
            r#"[{"role":"user","content":7}]"#,
            r#"[{"role":"user","content":[{"type":"image","url":"x"}]}]"#,
            r#"[{"content":"hi"}]"#,
            r#"[{"role":"user","content":"hi","extra":1}]"#,
            r#"[{"role":"tool","content":"x"}]"#,
            r#"[["user","hi",null,null,null]]"#,
        ] {
            assert!(check_messages(bad, 1_000).is_err(), "{bad}");
        }
        let long = format!(r#"[{{"role":"user","content":"{}"}}]"#, "x".repeat(1_000));
        assert_eq!(check_messages(&long, 1_000).expect_err("long").code(), Code::Limit);
    }
}

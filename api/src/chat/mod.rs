//! The chat front doors: what a chat client asks for becomes the same start as any other, and
//! the events of its execution become what that client's protocol expects.
//!
//! A door reads its protocol into a [`Turn`], [`begin`]s it, and follows the execution's
//! [`Events`]. Nothing is told here that is not in the journal.

use std::sync::Arc;

use holdpoint_db::{Conversation, Created, Extras, Idempotency, NewExecution};
use holdpoint_engine::client_time::ClientTime;
use holdpoint_engine::entry::{Entry, Json};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::status::{DefinitionKind, RunType};
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_perform::{Forwarded, ForwardedHeaders};
use http::HeaderMap;
use tokio::sync::OwnedSemaphorePermit;

use crate::app::App;
use crate::auth::Caller;
use crate::backlog;
use crate::classic::{self, Classic};
use crate::forwarded;
use crate::problem::{Answer, Code, Problem};
use crate::routes::outcome;

pub mod ai_sdk;
mod events;
mod mode;
pub mod openai;
mod segment;

pub use events::{Events, Seen};
pub use mode::Mode;
pub use segment::Segment;

/// The longest conversation id, in bytes.
const CONVERSATION_BYTES: usize = 255;
/// The longest message id, in bytes.
const MESSAGE_ID_BYTES: usize = 255;

/// What a chat client asks for, checked as far as that needs no database.
#[derive(Debug)]
pub struct Turn {
    /// The agent's name.
    pub agent: String,
    /// A version, or the latest.
    pub version: Option<i32>,
    /// The conversation that the client named; one is made where it named none.
    pub conversation: Option<String>,
    /// The messages that are new, in order. None at all: the client wants the output of the
    /// conversation's active, else last execution.
    pub messages: Vec<NewMessage>,
    /// What makes two requests the same one, where the client says so.
    pub idempotency: Option<Idempotency>,
    /// Where the client names one.
    pub mode: Option<Mode>,
    /// The client's headers for tools.
    pub forwarded_headers: ForwardedHeaders,
    /// The client's time. Its `message_ids` come from `messages`, its sealed headers from
    /// `forwarded_headers`.
    pub extras: Extras,
}

/// One new message.
#[derive(Debug, Clone)]
pub struct NewMessage {
    /// The client's id for it: it names one message of the conversation for ever.
    pub id: Option<String>,
    /// The message in OpenAI's shape, with everything checked.
    pub message: Json,
}

/// The execution, or the classic run, whose events are the answer.
pub enum Begun {
    /// One that was made for this turn.
    Started {
        /// Which.
        key: ExecutionKey,
        /// Its conversation.
        conversation: String,
    },
    /// One that was there: the active, else the last one of the conversation, or the one that
    /// the same request made before.
    Continued {
        /// Which.
        key: ExecutionKey,
        /// Its conversation.
        conversation: String,
        /// The part of its events that the client waits for: everything after the last
        /// suspension that is over.
        segment: Segment,
    },
    /// A classic run: it is no execution, and ends with whoever reads it.
    Classic {
        /// The run.
        run: Box<Classic>,
        /// Its conversation.
        conversation: String,
    },
}

impl Begun {
    /// The execution; of a classic run, a key that names no row.
    pub fn key(&self) -> &ExecutionKey {
        match self {
            Begun::Started { key, .. } | Begun::Continued { key, .. } => key,
            Begun::Classic { run, .. } => run.key(),
        }
    }

    /// The execution, where there is a row of it.
    pub fn run_id(&self) -> Option<ExecutionId> {
        match self {
            Begun::Started { key, .. } | Begun::Continued { key, .. } => Some(key.id),
            Begun::Classic { .. } => None,
        }
    }

    /// Its conversation.
    pub fn conversation(&self) -> &str {
        match self {
            Begun::Started { conversation, .. }
            | Begun::Continued { conversation, .. }
            | Begun::Classic { conversation, .. } => conversation,
        }
    }

    /// The same from the execution's beginning on, for a client that knows nothing of it yet.
    pub fn whole(self) -> Self {
        match self {
            Begun::Continued { key, conversation, segment } => {
                Begun::Continued { key, conversation, segment: segment.whole() }
            }
            other => other,
        }
    }

    /// The events that the client waits for. The permit is a place among the streams of this
    /// process.
    pub fn events(self, app: &Arc<App>, permit: OwnedSemaphorePermit) -> Events {
        match self {
            Begun::Started { key, .. } => Events::follow(app, &key, Segment::default(), permit),
            Begun::Continued { key, segment, .. } => Events::follow(app, &key, segment, permit),
            Begun::Classic { run, .. } => Events::run(run, permit),
        }
    }
}

/// Starts an execution, or a classic run, for the turn's new messages, or finds the execution
/// whose output the client wants. Refuses as `POST /v1/executions` does: 404 for an unknown agent, or a conversation
/// that is another end user's, 409 where the conversation is busy or a message id is used.
pub async fn begin(app: &Arc<App>, caller: &Caller, turn: Turn) -> Answer<Begun> {
    if turn.messages.is_empty() {
        return resume(app, caller, turn.conversation.as_deref(), &[]).await;
    }
    if let Some(begun) = classic::begin(app, caller, &turn).await? {
        return Ok(begun);
    }
    let new = turn.start(app, caller)?;
    backlog::admit(app, &new.key.scope.tenant, 1).await?;
    let created = app.db.create(new.clone()).await?;
    let is_new = matches!(created, Created::New { .. });
    let (started, _) = outcome(app, &new, created).await?;
    let key = ExecutionKey { id: started.id, ..new.key };
    let conversation = started.conversation_id.unwrap_or_default();
    if is_new {
        return Ok(Begun::Started { key, conversation });
    }
    let segment = segment::segment_of(app, &key, &[]).await?;
    Ok(Begun::Continued { key, conversation, segment })
}

/// The output of the active, else the last execution of a conversation, for who sends again or
/// has just decided these calls.
pub async fn resume(
    app: &Arc<App>,
    caller: &Caller,
    conversation: Option<&str>,
    decided: &[String],
) -> Answer<Begun> {
    let Some(id) = conversation else {
        let detail = "there is no new message of the user, and no conversation to go on with";
        return Err(Problem::new(Code::InvalidBody, detail));
    };
    let row = conversation_of(app, caller, id).await?.ok_or_else(|| unknown_conversation(id))?;
    let Some(execution) = row.active.or(row.latest) else {
        let detail = "there is no new message of the user, and a classic run keeps nothing to go on with";
        return Err(Problem::new(Code::InvalidBody, detail));
    };
    let key = ExecutionKey { scope: caller.scope.clone(), id: execution };
    let segment = segment::segment_of(app, &key, decided).await?;
    Ok(Begun::Continued { key, conversation: row.id, segment })
}

/// The conversation, where it is the caller's to see.
pub async fn conversation_of(
    app: &App,
    caller: &Caller,
    id: &str,
) -> Answer<Option<holdpoint_db::ConversationRow>> {
    let (scope, wanted) = (caller.scope.clone(), id.to_owned());
    let row = app.read(move |store| store.conversation_get(&scope, &wanted)).await?;
    Ok(row.filter(|row| caller.sees(row.end_user.as_deref())))
}

/// Not there, or another end user's: the two must not differ.
pub fn unknown_conversation(id: &str) -> Problem {
    let shown: String = id.chars().take(128).collect();
    Problem::new(Code::UnknownConversation, format!("there is no conversation `{shown}`"))
}

/// An id that a conversation can have: 1 to 255 bytes without U+0000.
pub fn check_conversation_id(id: &str) -> Answer<()> {
    if (1..=CONVERSATION_BYTES).contains(&id.len()) && !id.contains('\0') {
        return Ok(());
    }
    let detail = format!("`conversation_id`: it may have 1 to {CONVERSATION_BYTES} bytes");
    Err(Problem::new(Code::InvalidBody, detail).with("field", "conversation_id"))
}

/// An id that a message can have: 1 to 255 visible ASCII characters.
pub fn check_message_id(id: &str) -> Answer<()> {
    if (1..=MESSAGE_ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let detail = format!("a message id may have 1 to {MESSAGE_ID_BYTES} visible ASCII characters");
    Err(Problem::new(Code::InvalidBody, detail))
}

/// A header that may be visible ASCII.
pub fn header<'a>(headers: &'a HeaderMap, name: &str) -> Answer<Option<&'a str>> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value
        .to_str()
        .map_err(|_| Problem::new(Code::InvalidParameter, format!("the header {name} may be visible ASCII")));
    text.map(Some)
}

/// The conversation that is made for an execution: nobody else has an execution's id, so
/// nobody else has a conversation made of it.
pub fn made_conversation(id: ExecutionId) -> Conversation {
    Conversation::Made(made_conversation_id(id))
}

/// The id of such a conversation.
pub fn made_conversation_id(id: ExecutionId) -> String {
    id.to_string().replacen("exe_", "cnv_", 1)
}

impl Turn {
    /// The user's own time, as a model is told it.
    pub fn client_time(&self) -> Option<ClientTime> {
        let time = self.extras.client_time.as_ref()?;
        ClientTime::read(&time.timestamp, &time.timezone)
    }

    /// The client's headers for tools, for a run that is kept nowhere.
    pub fn open_headers(&self) -> Forwarded {
        if self.forwarded_headers.is_empty() {
            return Forwarded::None;
        }
        Forwarded::Open(Arc::new(self.forwarded_headers.clone()))
    }

    fn start(self, app: &App, caller: &Caller) -> Answer<NewExecution> {
        let id = app.ids.make(ExecutionId::new);
        let key = ExecutionKey { scope: caller.scope.clone(), id };
        let sealed_headers = forwarded::seal(&app.performer, &key, &self.forwarded_headers)?;
        let (message_ids, messages): (Vec<_>, Vec<_>) =
            self.messages.into_iter().map(|new| (new.id, new.message)).unzip();
        message_ids.iter().flatten().try_for_each(|id| check_message_id(id))?;
        Ok(NewExecution {
            key,
            kind: DefinitionKind::Agent,
            name: self.agent,
            version: self.version,
            input: None,
            messages: Some(holdpoint_engine::json(&messages).get().to_owned()),
            conversation: self.conversation.map_or_else(|| made_conversation(id), Conversation::Named),
            idempotency: self.idempotency,
            run_type: RunType::Production,
            delay: None,
            metadata: "{}".to_owned(),
            labels: Default::default(),
            end_user: caller.end_user.clone(),
            created_by: caller.key.clone(),
            extras: Extras { message_ids, sealed_headers, traceparent: caller.trace, ..self.extras },
        })
    }
}

/// An event as the doors read it; one that cannot be read is told in the log and passed over.
fn read_entry(kind: &str, payload: &str) -> Option<Entry> {
    Entry::read(kind, payload).inspect_err(|error| tracing::error!(%error, "an event is unreadable")).ok()
}

//! One message, judged and carried out: by the same code as the same act over HTTP.

use std::sync::Arc;

use holdpoint_db::{ActRequest, CommandKey, KeyRow, ReplyTo, failpoint};
use holdpoint_engine::ids::{ExecutionId, KeyId};
use holdpoint_engine::scope::Scope;
use schemars::JsonSchema;
use serde::Deserialize;

use super::envelope::{Envelope, Incoming, Kind};
use crate::app::App;
use crate::auth::{self, Caller, Right};
use crate::backlog;
use crate::body;
use crate::problem::{Answer, Code, Problem};
use crate::routes::acts::act_commanded;
use crate::routes::approvals_decide::decide_commanded;
use crate::routes::signals::signal_commanded;
use crate::routes::start_body::StartBody;
use crate::routes::{start, starting, tasks};

/// Whose credential a message has.
#[derive(Debug, Clone, Copy)]
pub enum Credential {
    /// What it brings itself.
    Its,
    /// A key that was found good when the message was parked, to be looked at again.
    Of(KeyId),
}

/// A message with what became of it.
#[derive(Debug)]
pub struct Judged {
    /// The command's id, as far as it could be read.
    pub id: Option<String>,
    /// Its type, as far as it could be read.
    pub type_name: Option<String>,
    /// What it asks for, as far as that is known.
    pub kind: Option<Kind>,
    /// Whose it is, if its credential was good.
    pub owner: Option<(Scope, KeyId)>,
    /// The execution, or why not.
    pub outcome: Answer<ExecutionId>,
    /// The credential in its body as it was written there, to be taken out of what is kept.
    pub written_key: Option<String>,
    /// The same of headers for tools.
    pub forwarded: Option<String>,
}

impl Judged {
    /// A message that was not looked into.
    pub fn unread(message: &Incoming) -> Self {
        let outcome = Err(Problem::internal());
        let (id, type_name) = (message.message_id.clone(), message.kind.clone());
        Self { id, type_name, kind: None, owner: None, outcome, written_key: None, forwarded: None }
    }
}

/// A command, and the key that it is sent with.
type Identified = (Envelope, Arc<KeyRow>);

/// Judges a message, and carries it out if it may be.
pub async fn carry_out(app: &App, message: &Incoming, credential: Credential) -> Judged {
    let (mut judged, found) = identify(app, message, credential).await;
    failpoint::hit_for("api.command", judged.id.as_deref().unwrap_or_default());
    judged.outcome = match found {
        Ok((envelope, key)) => admitted(app, message, &envelope, &key).await,
        Err(problem) => Err(problem),
    };
    judged
}

/// Reads a message and looks its credential up: what it is and whose, before anything is done.
/// A message that cannot be read may still have an owner.
pub async fn identify(app: &App, message: &Incoming, credential: Credential) -> (Judged, Answer<Identified>) {
    let read = message.read(app.settings.body_bytes);
    let envelope = read.as_ref().ok();
    let key = match credential {
        Credential::Its => {
            let written = envelope.and_then(Envelope::api_key);
            auth::authenticate(app, message.bearer().or(written.as_deref())).await
        }
        Credential::Of(key) => auth::in_force(app, key).await,
    };
    let judged = Judged {
        id: envelope.map(|envelope| envelope.key.id.clone()).or_else(|| message.message_id.clone()),
        type_name: envelope.map(|envelope| envelope.kind.clone()).or_else(|| message.kind.clone()),
        kind: envelope.and_then(|envelope| envelope.kind().ok()),
        owner: key.as_ref().ok().map(|row| (row.scope.clone(), row.id)),
        outcome: Err(Problem::internal()),
        written_key: envelope.and_then(|envelope| Some(envelope.written_key.as_ref()?.get().to_owned())),
        forwarded: envelope.and_then(Envelope::forwarded).map(str::to_owned),
    };
    // The database first: without it nothing is known of the credential. Then what cannot be
    // read is told as such, whoever sent it.
    let found = match key {
        Err(away) if away.code() == Code::Unavailable => Err(away),
        key => read.and_then(|envelope| Ok((envelope, key?))),
    };
    (judged, found)
}

async fn admitted(app: &App, message: &Incoming, envelope: &Envelope, key: &KeyRow) -> Answer<ExecutionId> {
    let kind = envelope.kind()?;
    let caller = auth::allow(key, right(kind), message.end_user())?;
    let caller = Caller { trace: message.trace(), ..caller };
    act(app, &caller, kind, envelope, message).await
}

const fn right(kind: Kind) -> Right {
    match kind {
        Kind::Start | Kind::Cancel | Kind::Signal | Kind::Complete | Kind::Fail | Kind::Heartbeat => {
            Right::Submit
        }
        Kind::Decide => Right::Decide,
    }
}

async fn act(
    app: &App,
    caller: &Caller,
    kind: Kind,
    envelope: &Envelope,
    message: &Incoming,
) -> Answer<ExecutionId> {
    let finished = envelope.wants_finished(kind)?;
    let (text, command) = (envelope.act_body()?, envelope.key.clone());
    match kind {
        Kind::Start => {
            let reply = message.reply_to(Some(&command.id)).filter(|_| finished);
            begin(app, caller, &text, command, reply).await
        }
        Kind::Decide => decide_commanded(app, caller, &text, command).await,
        Kind::Cancel => {
            let CancelBody { execution_id } = body::read(&text)?;
            act_commanded(app, caller, &execution_id, ActRequest::Cancel, command).await
        }
        Kind::Signal => signal_commanded(app, caller, body::read(&text)?, command).await,
        Kind::Complete => tasks::complete_commanded(app, caller, &text).await,
        Kind::Fail => tasks::fail_commanded(app, caller, &text).await,
        Kind::Heartbeat => tasks::heartbeat_commanded(app, caller, &text).await,
    }
}

/// `data` of a cancel.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CancelBody {
    execution_id: String,
}

/// Starts, together with all starts that wait at this moment.
async fn begin(
    app: &App,
    caller: &Caller,
    text: &str,
    command: CommandKey,
    reply: Option<ReplyTo>,
) -> Answer<ExecutionId> {
    let mut new = body::read::<StartBody>(text)?.check(app, caller, None, text.as_bytes())?;
    new.extras.command = Some(command);
    new.extras.reply = reply;
    backlog::admit(app, &new.key.scope.tenant, 1).await?;
    let created = starting::create(app, &mut new).await?;
    Ok(start::outcome(app, &new, created).await?.0.id)
}

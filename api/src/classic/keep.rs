//! What a classic run has of its conversation: what was said before, and, once it ended well,
//! what it adds. A run that did not end well leaves nothing, not even the user's message, so
//! that the same message can be sent again.

use holdpoint_db::{MessageFilter, MessageRow, Said, Spoken};
use holdpoint_engine::limits::Limits;
use holdpoint_engine::run::Run;
use holdpoint_engine::status::{ErrorType, Failure};
use holdpoint_engine::transcript;
use serde_json::Value;

use crate::app::App;
use crate::auth::Caller;
use crate::chat::{Turn, conversation_of, unknown_conversation};
use crate::problem::{Answer, Code, Problem};

/// A whole turn may be in the conversation after the newest message of the user.
const TURN: usize = 10_000;

/// What there was of a conversation before a run.
#[derive(Default)]
pub struct Before {
    /// What was said, oldest first: the newest messages within the limits.
    pub said: Vec<Value>,
    /// The agent that it was with last, if that was not the one that it was begun with.
    pub active_agent: Option<String>,
}

/// What there was of the turn's conversation, for a run that this agent begins. Refuses as a start does: 404 where the conversation is another end user's, 409 where
/// an execution is active in it.
pub async fn before(app: &App, caller: &Caller, turn: &Turn, agent: &str) -> Answer<Before> {
    let Some(id) = &turn.conversation else { return Ok(Before::default()) };
    let Some(row) = conversation_of(app, caller, id).await? else {
        return nobody_elses(app, caller, id).await;
    };
    if let Some(active) = row.active {
        let detail = format!("its execution {active} is active: wait for its end, or cancel it");
        let problem = Problem::new(Code::ConversationBusy, detail);
        return Err(problem.with("active_execution_id", active.to_string()));
    }
    let newest = list(app, caller, id, 0, Some("user"), 1).await?;
    let after = newest.first().map_or(0, |row| row.n) - app.limits.history_messages as i64;
    let rows = list(app, caller, id, after.max(0), None, app.limits.history_messages + TURN).await?;
    let is_used = |id: &&str| rows.iter().any(|row| row.message_id.as_deref() == Some(id));
    if let Some(id) = turn.messages.iter().filter_map(|new| new.id.as_deref()).find(is_used) {
        let detail = format!("the conversation has a message with the id `{id}`");
        return Err(Problem::new(Code::MessageIdUsed, detail).with("message_id", id));
    }
    let active_agent = row.active_agent.filter(|_| row.agent.as_deref() == Some(agent));
    Ok(Before { said: newest_within(&rows, &app.limits), active_agent })
}

/// A conversation that is not there will be made; another's must not be told from none.
async fn nobody_elses(app: &App, caller: &Caller, id: &str) -> Answer<Before> {
    let (scope, wanted) = (caller.scope.clone(), id.to_owned());
    match app.read(move |store| store.conversation_get(&scope, &wanted)).await? {
        None => Ok(Before::default()),
        Some(_) => Err(unknown_conversation(id)),
    }
}

async fn list(
    app: &App,
    caller: &Caller,
    conversation: &str,
    after: i64,
    newest_of: Option<&str>,
    limit: usize,
) -> Answer<Vec<MessageRow>> {
    let filter = MessageFilter {
        conversation: conversation.to_owned(),
        after,
        newest_of: newest_of.map(str::to_owned),
        limit,
    };
    let scope = caller.scope.clone();
    app.read(move |store| store.message_list(&scope, &filter)).await
}

/// Whole messages; an answer of a tool never comes without its call.
fn newest_within(rows: &[MessageRow], limits: &Limits) -> Vec<Value> {
    let mut bytes = 0;
    let fits = |row: &&MessageRow| {
        bytes += row.message.len();
        bytes <= limits.history_bytes
    };
    let mut said: Vec<Value> = rows
        .iter()
        .rev()
        .take(limits.history_messages)
        .take_while(fits)
        .filter_map(|row| serde_json::from_str(&row.message).ok())
        .collect();
    said.reverse();
    said.into_iter().skip_while(|message| message["role"] == "tool").collect()
}

/// Writes the turn's messages and the agent's at the end of the conversation. The failure says
/// why they are not there.
pub async fn keep(app: &App, caller: &Caller, spoken: &Spoken, run: &Run) -> Result<(), Failure> {
    let mut spoken = spoken.clone();
    spoken.active_agent = run.speaker.as_ref().map(|member| member.agent.clone());
    spoken.messages.extend(transcript::complete_messages(run).into_iter().map(|message| (None, message)));
    let scope = caller.scope.clone();
    let said = match app.write(move |store| store.conversation_say(&scope, &spoken)).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => return Err(lost(&error.to_string())),
        Err(problem) => return Err(lost(&format!("{problem:?}"))),
    };
    match said {
        Said::Written => Ok(()),
        Said::UnknownConversation => {
            Err(Failure::new(ErrorType::Logic, "the conversation is another end user's"))
        }
        Said::MessageIdUsed { id } => {
            Err(Failure::new(ErrorType::Logic, format!("the conversation has a message with the id `{id}`")))
        }
    }
}

fn lost(detail: &str) -> Failure {
    tracing::error!(detail, "a classic run's messages could not be kept");
    Failure::new(ErrorType::Internal, "the answer could not be kept: the conversation does not have it")
}

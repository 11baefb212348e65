//! Conversations: threads of messages that executions of agents belong to, one active
//! execution at a time.
//!
//! The row is made with the first execution, or taken by a later one, in the transaction of
//! the start; it is free again in the transaction of the end. Whoever holds it numbers its
//! messages, so that they have one order. A start that does not get it leaves no row.

use std::collections::{HashMap, HashSet};

use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::transcript;
use holdpoint_engine::wire::ExecutionKey;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::messages::{self, Said};
use crate::row::Row;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::types::{self, Conversation, ConversationRow, Created, NewExecution, Spoken, StoreError};

const SELECT: &str = "
    SELECT c.id, c.end_user, c.active, c.created_at, c.agent, c.active_agent,
      (SELECT i.id FROM execution_info i WHERE i.tenant = c.tenant AND i.project = c.project
         AND i.conversation_id = c.id ORDER BY i.created_at DESC LIMIT 1)
    FROM conversations c WHERE c.tenant = ? AND c.project = ? AND c.id = ?";

/// One conversation.
pub(crate) fn conversation_get(
    conn: &mut Conn,
    scope: &Scope,
    id: &str,
) -> StoreResult<Option<ConversationRow>> {
    conn.row(SELECT, &binds![&*scope.tenant, &*scope.project, id])?.map(read_conversation).transpose()
}

fn read_conversation(mut row: Row) -> StoreResult<ConversationRow> {
    Ok(ConversationRow {
        id: row.text()?,
        end_user: row.opt_text()?,
        active: row.opt_id()?.map(ExecutionId),
        created_at: row.time()?,
        agent: row.opt_text()?,
        active_agent: row.opt_text()?,
        latest: row.opt_id()?.map(ExecutionId),
    })
}

/// A start that wants a conversation, and the messages that it brings.
struct Wanting<'a> {
    at: usize,
    new: &'a NewExecution,
    id: &'a str,
    created_at: Timestamp,
    messages: Vec<String>,
}

impl Wanting<'_> {
    fn message_ids(&self) -> impl Iterator<Item = &str> {
        self.new.extras.message_ids.iter().take(self.messages.len()).flatten().map(String::as_str)
    }

    fn place(&self) -> (&Scope, &str) {
        (&self.new.key.scope, self.id)
    }

    fn used(&self, id: &str) -> messages::UsedId {
        (self.new.key.scope.clone(), self.id.to_owned(), id.to_owned())
    }

    /// Its messages as they are written; the last of them has the number `last`.
    fn said(&self, last: i64) -> impl Iterator<Item = Said<'_>> {
        let begin = last - self.messages.len() as i64;
        let ids = &self.new.extras.message_ids;
        self.messages.iter().enumerate().map(move |(index, message)| Said {
            scope: &self.new.key.scope,
            conversation: self.id,
            n: begin + 1 + index as i64,
            message_id: ids.get(index).and_then(Option::as_deref),
            execution: Some(self.new.key.id),
            message,
        })
    }
}

/// Takes the conversations of these starts, and writes their messages. The starts that are
/// refused leave no row: what was inserted for them is removed, and each is told why.
pub(crate) fn take(
    conn: &mut Conn,
    batch: &[NewExecution],
    inserted: &mut HashMap<usize, Timestamp>,
) -> StoreResult<HashMap<usize, Created>> {
    let mut refused = HashMap::new();
    let mut waiting = wanting(batch, inserted);
    waiting.retain(|one| match repeated(one.message_ids()) {
        None => true,
        Some(id) => {
            refused.insert(one.at, Created::MessageIdUsed { id });
            false
        }
    });
    while !waiting.is_empty() {
        waiting = take_first_of_each(conn, waiting, &mut refused)?;
    }
    for at in refused.keys() {
        conn.rows(
            "DELETE FROM execution_info WHERE tenant = ? AND project = ? AND id = ?",
            &key_row(&batch[*at].key),
        )?;
        inserted.remove(at);
    }
    Ok(refused)
}

fn wanting<'a>(batch: &'a [NewExecution], inserted: &HashMap<usize, Timestamp>) -> Vec<Wanting<'a>> {
    let of = |(at, created_at): (&usize, &Timestamp)| {
        let new = &batch[*at];
        let id = match &new.conversation {
            Conversation::None => return None,
            Conversation::Made(id) | Conversation::Named(id) => id,
        };
        let said = transcript::start_messages(new.messages.as_deref(), new.input.as_deref());
        let messages = said.iter().map(ToString::to_string).collect();
        Some(Wanting { at: *at, new, id, created_at: *created_at, messages })
    };
    let mut wanting: Vec<Wanting<'a>> = inserted.iter().filter_map(of).collect();
    // Two batches that take the same conversations take them in the same order.
    wanting.sort_by(|a, b| (a.place(), a.at).cmp(&(b.place(), b.at)));
    wanting
}

fn repeated<'a>(ids: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = HashSet::new();
    let mut ids = ids;
    ids.find(|id| !seen.insert(*id)).map(str::to_owned)
}

/// One statement cannot touch a row twice: only the first of each conversation tries, and
/// what is left is judged by what that one found, or tries next.
fn take_first_of_each<'a>(
    conn: &mut Conn,
    waiting: Vec<Wanting<'a>>,
    refused: &mut HashMap<usize, Created>,
) -> StoreResult<Vec<Wanting<'a>>> {
    let mut seen = HashSet::new();
    let (first, mut rest): (Vec<_>, Vec<_>) =
        waiting.into_iter().partition(|one| seen.insert((one.new.key.scope.clone(), one.id)));
    let taken = try_take(conn, &first)?;
    let used = messages::used_ids(
        conn,
        first
            .iter()
            .filter(|one| taken.contains_key(&one.new.key))
            .flat_map(|one| one.message_ids().map(|id| (one.place(), id))),
    )?;
    let mut said = Vec::new();
    for one in &first {
        let used = one.message_ids().find(|id| used.contains(&one.used(id)));
        match (taken.get(&one.new.key), used) {
            (None, _) => refuse(conn, one, &mut rest, refused)?,
            (Some(_), Some(id)) => {
                give_back(conn, one)?;
                refused.insert(one.at, Created::MessageIdUsed { id: id.to_owned() });
            }
            (Some(last), None) => said.extend(one.said(*last)),
        }
    }
    messages::insert(conn, &said)?;
    Ok(rest)
}

/// Judges a start that did not get its conversation, and those behind it where it is held.
fn refuse(
    conn: &mut Conn,
    one: &Wanting<'_>,
    rest: &mut Vec<Wanting<'_>>,
    refused: &mut HashMap<usize, Created>,
) -> StoreResult<()> {
    let (active, end_user) = held_by(conn, one)?;
    refused.insert(one.at, judge(one, active, end_user.as_deref()));
    if active.is_some() {
        rest.retain(|other| {
            let behind = other.place() == one.place();
            if behind {
                refused.insert(other.at, judge(other, active, end_user.as_deref()));
            }
            !behind
        });
    }
    Ok(())
}

const TAKE: &str = "
    WITH u(t, p, c, x, eu, at, cnt) AS (@u)
    INSERT INTO conversations (tenant, project, id, active, end_user, created_at, last_message)
    SELECT t, p, c, x, eu, at, cnt FROM u WHERE true
    ON CONFLICT (tenant, project, id) DO UPDATE
      SET active = excluded.active, last_message = conversations.last_message + excluded.last_message
      WHERE conversations.active IS NULL
        AND (excluded.end_user IS NULL OR excluded.end_user = conversations.end_user)
    RETURNING tenant, project, active, last_message, end_user";

/// Those that got their conversation, with the number of its last message.
fn try_take(conn: &mut Conn, first: &[Wanting<'_>]) -> StoreResult<HashMap<ExecutionKey, i64>> {
    let rows: Vec<_> = first
        .iter()
        .map(|one| {
            let NewExecution { key, end_user, .. } = one.new;
            let (tenant, project) = (&*key.scope.tenant, &*key.scope.project);
            let count = one.messages.len() as i64;
            binds![tenant, project, one.id, key.id.0, end_user.as_deref(), one.created_at, count]
        })
        .collect();
    let mut taken = HashMap::with_capacity(rows.len());
    for mut row in conn.each(TAKE, &rows, &[])? {
        let (key, last, end_user) = (row.key()?, row.big()?, row.opt_text()?);
        let asked = first.iter().find(|one| one.new.key == key).and_then(|one| one.new.end_user.as_ref());
        if end_user.is_some() && asked.is_none() {
            belong(conn, &key, end_user.as_deref())?;
        }
        taken.insert(key, last);
    }
    Ok(taken)
}

/// What happens in a conversation is its end user's, also where the caller speaks for nobody.
fn belong(conn: &mut Conn, key: &ExecutionKey, end_user: Option<&str>) -> StoreResult<()> {
    let [tenant, project, id] = key_row(key);
    conn.rows(
        "UPDATE execution_info SET end_user = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[end_user.into(), tenant, project, id],
    )
    .map(drop)
}

/// Who has the conversation that could not be taken, and whose it is.
fn held_by(conn: &mut Conn, one: &Wanting<'_>) -> StoreResult<(Option<ExecutionId>, Option<String>)> {
    let (scope, id) = one.place();
    let row = conn.row(
        "SELECT active, end_user FROM conversations WHERE tenant = ? AND project = ? AND id = ?",
        &binds![&*scope.tenant, &*scope.project, id],
    )?;
    let mut row = row.ok_or_else(|| StoreError::Corrupt(format!("the conversation `{id}` is gone")))?;
    Ok((row.opt_id()?.map(ExecutionId), row.opt_text()?))
}

/// Another end user is told nothing of it.
fn judge(one: &Wanting<'_>, active: Option<ExecutionId>, end_user: Option<&str>) -> Created {
    let wanted = one.new.end_user.as_deref();
    match active {
        Some(active) if wanted.is_none() || wanted == end_user => Created::ConversationBusy { active },
        _ => Created::UnknownConversation,
    }
}

fn give_back(conn: &mut Conn, one: &Wanting<'_>) -> StoreResult<()> {
    let (scope, id) = one.place();
    conn.rows(
        "UPDATE conversations SET active = NULL, last_message = last_message - ?
         WHERE tenant = ? AND project = ? AND id = ? AND active = ?",
        &binds![one.messages.len() as i64, &*scope.tenant, &*scope.project, id, one.new.key.id.0],
    )
    .map(drop)
}

/// An execution that ended: its conversation, and what was said in it.
pub(crate) struct Leaving<'a> {
    pub(crate) key: ExecutionKey,
    pub(crate) conversation: String,
    pub(crate) messages: &'a [String],
}

const FREE: &str = "
    WITH u(t, p, c, x, cnt) AS (@u)
    UPDATE conversations AS c SET active = NULL, last_message = c.last_message + u.cnt
    FROM u WHERE c.tenant = u.t AND c.project = u.p AND c.id = u.c AND c.active = u.x
    RETURNING tenant, project, id, last_message";

/// A conversation is free when its active execution ends, and has that one's messages.
pub(crate) fn leave(conn: &mut Conn, mut ended: Vec<Leaving<'_>>) -> StoreResult<()> {
    ended.sort_by(|a, b| (&a.key.scope, &a.conversation).cmp(&(&b.key.scope, &b.conversation)));
    let rows: Vec<_> = ended
        .iter()
        .map(|one| {
            let Scope { tenant, project } = &one.key.scope;
            binds![&**tenant, &**project, one.conversation.as_str(), one.key.id.0, one.messages.len() as i64]
        })
        .collect();
    let mut last = HashMap::new();
    for mut row in conn.each(FREE, &rows, &[])? {
        last.insert((row.scope()?, row.text()?), row.big()?);
    }
    let mut said = Vec::new();
    for one in &ended {
        // One that was not the active one says nothing there.
        let place = (one.key.scope.clone(), one.conversation.clone());
        let Some(last) = last.remove(&place) else { continue };
        let begin = last - one.messages.len() as i64;
        said.extend(one.messages.iter().enumerate().map(|(index, message)| Said {
            scope: &one.key.scope,
            conversation: &one.conversation,
            n: begin + 1 + index as i64,
            message_id: None,
            execution: Some(one.key.id),
            message,
        }));
    }
    messages::insert(conn, &said)
}

/// What became of a conversation that a repeated run wants.
pub(crate) enum TakenAgain {
    /// It is its own.
    Taken,
    /// Another has it.
    Busy(ExecutionId),
    /// Others spoke since.
    GoneOn,
}

/// A run takes the place of one that is over: its conversation, and the messages that it was
/// started with, of which there are so many. What the other one said is said anew.
pub(crate) fn take_again(
    conn: &mut Conn,
    conversation: &str,
    old: &ExecutionKey,
    new: &ExecutionKey,
    said: usize,
) -> StoreResult<TakenAgain> {
    let (tenant, project) = (&*old.scope.tenant, &*old.scope.project);
    let row = conn.row(
        "SELECT e.active, e.last_message FROM conversations e
         WHERE e.tenant = ? AND e.project = ? AND e.id = ? @lock",
        &binds![tenant, project, conversation],
    )?;
    let mut row =
        row.ok_or_else(|| StoreError::Corrupt(format!("the conversation `{conversation}` is gone")))?;
    if let Some(active) = row.opt_id()? {
        return Ok(TakenAgain::Busy(ExecutionId(active)));
    }
    let last = row.big()?;
    let own = "m.tenant = ? AND m.project = ? AND m.conversation = ? AND m.execution IS NOT DISTINCT FROM ?";
    let values = binds![tenant, project, conversation, old.id.0];
    let found = conn.row(&format!("SELECT min(m.n), max(m.n) FROM messages m WHERE {own}"), &values)?;
    let (first, latest) = match found {
        Some(mut row) => (row.opt_big()?, row.opt_big()?),
        None => (None, None),
    };
    if latest.is_some_and(|latest| latest != last) {
        return Ok(TakenAgain::GoneOn);
    }
    let kept = first.map_or(last, |first| last.min(first - 1 + said as i64));
    let [kept_bind, new_id, old_id] = binds![kept, new.id.0, old.id.0];
    let [tenant, project, conversation, _] = values;
    conn.rows(
        "DELETE FROM messages WHERE tenant = ? AND project = ? AND conversation = ? AND n > ?",
        &[tenant, project, conversation, kept_bind],
    )?;
    conn.rows(
        "UPDATE messages SET execution = ? WHERE tenant = ? AND project = ? AND conversation = ?
           AND execution IS NOT DISTINCT FROM ?",
        &[new_id, tenant, project, conversation, old_id],
    )?;
    conn.rows(
        "UPDATE conversations SET active = ?, last_message = ? WHERE tenant = ? AND project = ? AND id = ?",
        &[new_id, kept_bind, tenant, project, conversation],
    )?;
    Ok(TakenAgain::Taken)
}

const SAY: &str = "
    INSERT INTO conversations (tenant, project, id, end_user, agent, active_agent, created_at, said_at, last_message)
    SELECT ?, ?, ?, ?, ?, nullif(?, ?), (SELECT hp_now()), (SELECT hp_now()), ? WHERE true
    ON CONFLICT (tenant, project, id) DO UPDATE
      SET last_message = conversations.last_message + excluded.last_message, said_at = excluded.said_at,
        agent = excluded.agent, active_agent = excluded.active_agent
      WHERE excluded.end_user IS NULL OR excluded.end_user = conversations.end_user
    RETURNING last_message";

/// Messages that no execution brought, at the end of their conversation.
pub(crate) fn conversation_say_in_txn(
    conn: &mut Conn,
    scope: &Scope,
    spoken: &Spoken,
) -> StoreResult<types::Said> {
    let Spoken { conversation, end_user, agent, active_agent, messages } = spoken;
    let (tenant, project, count) = (&*scope.tenant, &*scope.project, messages.len() as i64);
    let row = conn.row(
        SAY,
        &binds![
            tenant,
            project,
            conversation,
            end_user.as_deref(),
            agent,
            active_agent.as_deref(),
            agent,
            count
        ],
    )?;
    let Some(mut row) = row else { return Ok(types::Said::UnknownConversation) };
    let begin = row.big()? - count;
    let place = (scope, conversation.as_str());
    let ids = messages.iter().filter_map(|(id, _)| Some((place, id.as_deref()?)));
    if let Some((.., id)) = messages::used_ids(conn, ids)?.into_iter().next() {
        conn.rows(
            "UPDATE conversations SET last_message = last_message - ? WHERE tenant = ? AND project = ? AND id = ?",
            &binds![count, tenant, project, conversation],
        )?;
        return Ok(types::Said::MessageIdUsed { id });
    }
    let said: Vec<Said<'_>> = messages
        .iter()
        .enumerate()
        .map(|(at, (id, message))| Said {
            scope,
            conversation,
            n: begin + 1 + at as i64,
            message_id: id.as_deref(),
            execution: None,
            message,
        })
        .collect();
    messages::insert(conn, &said)?;
    Ok(types::Said::Written)
}

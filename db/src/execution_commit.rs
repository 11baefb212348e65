//! Transitions: each a guarded write of lines, approvals and status, many in one transaction.
//!
//! The rows are locked in the order of their keys, and what somebody else has locked is left
//! for later, so that one locked row makes nobody else wait. Owner, epoch and the last line's
//! number are compared under the lock. An update that keeps the lease changes no column that
//! an index names, so that it stays HOT.

use std::borrow::Cow;
use std::collections::HashMap;

use holdpoint_engine::status::{Reason, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use uuid::Uuid;

use crate::conn::Conn;
use crate::conversations::{self, Leaving};
use crate::execution_claim::key_row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{Committed, Ending, StoreError, Target, Transition};
use crate::{commit_approvals, extras, grants_use, journal, session, stale_expire, workflow_end};

/// What a transition is compared with, and what it leaves.
struct Head {
    owner: Option<Uuid>,
    epoch: i64,
    wake: i64,
    last_seq: i64,
}

pub(crate) const LOCK: &str = "
    WITH u(t, p, x) AS (@u)
    SELECT e.tenant, e.project, e.id, e.owner, e.epoch, e.wake, e.last_seq
    FROM u JOIN executions e ON e.tenant = u.t AND e.project = u.p AND e.id = u.x
    ORDER BY e.tenant, e.project, e.id ";

/// One transaction's work; `None` for a row that was not there or that somebody else has
/// locked (with `wait`, only for one that is not there).
pub(crate) fn execution_commit_in_txn(
    conn: &mut Conn,
    batch: &[&Transition],
    wait: bool,
) -> StoreResult<Vec<Option<Committed>>> {
    let mut heads = lock(conn, batch, wait)?;
    let mut answers: Vec<Option<Committed>> = vec![None; batch.len()];
    let mut going: Vec<(usize, Head)> = Vec::with_capacity(batch.len());
    for (at, transition) in batch.iter().enumerate() {
        let Some(head) = heads.remove(&transition.key) else { continue };
        if fits(&head, transition) {
            going.push((at, head));
        } else {
            answers[at] = Some(landed_before(conn, &head, transition)?);
        }
    }
    let mut refused = commit_approvals::check_gates(conn, going.iter().map(|(at, _)| (*at, batch[*at])))?;
    refused.extend(going.iter().filter_map(|(at, head)| Some((*at, heard_of(head, batch[*at])?))));
    going.retain(|(at, _)| !refused.contains_key(at));
    for (at, tool_call_id) in refused {
        answers[at] = Some(Committed::GateRefused { tool_call_id });
    }
    let granted = grants_use::take(conn, going.iter().map(|(at, _)| (*at, batch[*at])))?;
    for one in &granted {
        going.iter_mut().filter(|(at, _)| *at == one.at).for_each(|(_, head)| head.wake += 1);
    }
    write(conn, batch, &going)?;
    let wake = |at| going.iter().find(|(place, _)| *place == at).map_or(0, |(_, head)| head.wake);
    grants_use::decide(conn, &granted, wake)?;
    for (at, head) in going {
        let released = is_released(&head, batch[at]);
        answers[at] = Some(Committed::Done { wake: head.wake, released });
    }
    Ok(answers)
}

fn lock(conn: &mut Conn, batch: &[&Transition], wait: bool) -> StoreResult<HashMap<ExecutionKey, Head>> {
    let rows: Vec<_> = batch.iter().map(|transition| key_row(&transition.key)).collect();
    let how = if wait { "@lock" } else { "@skip" };
    let mut heads = HashMap::with_capacity(rows.len());
    for mut row in conn.each(&format!("{LOCK}{how}"), &rows, &[])? {
        let key = row.key()?;
        heads.insert(
            key,
            Head { owner: row.opt_id()?, epoch: row.big()?, wake: row.big()?, last_seq: row.big()? },
        );
    }
    Ok(heads)
}

fn fits(head: &Head, transition: &Transition) -> bool {
    head.owner == Some(transition.session.0)
        && head.epoch == transition.epoch
        && head.last_seq == transition.expected_seq
}

/// The task that a transition takes for lost, where its worker may have been heard: what was answered as
/// taken counts.
fn heard_of(head: &Head, transition: &Transition) -> Option<String> {
    transition.unheard.clone().filter(|_| head.wake != transition.seen_wake)
}

/// A transition that does not fit may be one that landed when the connection was lost: then
/// the lines under its numbers are its own.
fn landed_before(conn: &mut Conn, head: &Head, transition: &Transition) -> StoreResult<Committed> {
    let (first, lines) = (transition.expected_seq, &transition.lines);
    if head.epoch != transition.epoch || head.last_seq < first + lines.len() as i64 {
        return Ok(Committed::Fenced);
    }
    let written = journal::lines_after(conn, &transition.key, first)?;
    let same = |(ours, theirs): (&holdpoint_engine::entry::Line, _)| ours == theirs;
    if written.len() < lines.len() || !lines.iter().zip(&written).all(same) {
        return Ok(Committed::Fenced);
    }
    Ok(Committed::Done { wake: head.wake, released: head.owner != Some(transition.session.0) })
}

/// An act that came meanwhile keeps a suspension from giving the lease back.
fn is_released(head: &Head, transition: &Transition) -> bool {
    match transition.target {
        Target::Running => false,
        Target::Suspended { .. } => head.wake == transition.seen_wake,
        Target::Ended(_) => true,
    }
}

fn write(conn: &mut Conn, batch: &[&Transition], going: &[(usize, Head)]) -> StoreResult<()> {
    let transitions: Vec<&Transition> = going.iter().map(|(at, _)| batch[*at]).collect();
    write_heads(conn, batch, going)?;
    let lines = transitions.iter().flat_map(|one| one.lines.iter().map(|line| (&one.key, line)));
    journal::insert_lines(conn, lines)?;
    commit_approvals::use_gates(conn, &transitions)?;
    commit_approvals::write_changes(conn, &transitions)?;
    write_infos(conn, &transitions)?;
    remove_acts(conn, &transitions)
}

/// The owner is compared in a way that no index offers: the row is reached by its key.
pub(crate) const WRITE_HEADS: &str = "
    WITH u(t, p, x, ow, ep, was, st, re, nw, rd, seq, ev) AS (@u)
    UPDATE executions AS e SET status = u.st, reason = u.re, owner = u.nw, ready_at = u.rd,
      last_seq = u.seq, last_event = u.ev, lost = 0, updated_at = (SELECT hp_now())
    FROM u WHERE e.tenant = u.t AND e.project = u.p AND e.id = u.x
      AND e.owner IS NOT DISTINCT FROM u.ow AND e.epoch = u.ep AND e.last_seq = u.was
    RETURNING wake";

fn write_heads(conn: &mut Conn, batch: &[&Transition], going: &[(usize, Head)]) -> StoreResult<()> {
    let rows: Vec<_> = going.iter().map(|(at, head)| head_row(batch[*at], head)).collect();
    if conn.each(WRITE_HEADS, &rows, &[])?.len() != rows.len() {
        return Err(StoreError::Corrupt("a locked row changed under its lock".to_owned()));
    }
    Ok(())
}

fn head_row<'a>(transition: &'a Transition, head: &Head) -> [Bind<'a>; 12] {
    let session = transition.session.0;
    let (status, reason, owner, ready_at) = after(transition, is_released(head, transition));
    binds![
        &*transition.key.scope.tenant,
        &*transition.key.scope.project,
        transition.key.id.0,
        session,
        transition.epoch,
        transition.expected_seq,
        status.as_str(),
        reason.map(Reason::as_str),
        owner,
        ready_at,
        transition.expected_seq + transition.lines.len() as i64,
        transition.last_event,
    ]
}

fn after(
    transition: &Transition,
    released: bool,
) -> (Status, Option<Reason>, Option<Uuid>, Option<Timestamp>) {
    match &transition.target {
        Target::Suspended { reason, ready_at } if released => {
            (Status::Suspended, Some(*reason), None, *ready_at)
        }
        Target::Ended(ending) => (ending.status, ending.reason, None, None),
        _ => (Status::Running, None, Some(transition.session.0), None),
    }
}

/// Usage at each suspension and end; output and error at the end, when the conversation is
/// free again. The same values twice do no harm.
pub(crate) const WRITE_INFOS: &str = "
    WITH u(t, p, x, fin, outp, et, em, it, ot, cm) AS (@u)
    UPDATE execution_info AS i SET finished_at = CASE WHEN u.fin THEN (SELECT hp_now()) END, output = u.outp,
      error_type = u.et, error_message = u.em, input_tokens = u.it, output_tokens = u.ot, cost_micros = u.cm
    FROM u WHERE i.tenant = u.t AND i.project = u.p AND i.id = u.x
    RETURNING tenant, project, id, conversation_id, extras, kind";

fn write_infos(conn: &mut Conn, transitions: &[&Transition]) -> StoreResult<()> {
    let messages: Vec<_> = transitions.iter().map(|transition| message(transition)).collect();
    let rows = transitions.iter().zip(&messages);
    let rows: Vec<_> =
        rows.filter_map(|(transition, message)| info_row(transition, message.as_deref())).collect();
    let ending = |key: &ExecutionKey| {
        transitions.iter().filter(|one| one.key == *key).find_map(|one| match &one.target {
            Target::Ended(ending) => Some(ending),
            _ => None,
        })
    };
    let (mut leaving, mut special) = (Vec::new(), Vec::new());
    for mut row in conn.each(WRITE_INFOS, &rows, &[])? {
        let (key, conversation, extras) = (row.key()?, row.opt_text()?, row.bool()?);
        let Some(ending) = ending(&key) else { continue };
        conn.noted.ended(row.word()?, ending.status, ending.reason);
        if extras {
            special.push(key.clone());
        }
        if ending.reason == Some(Reason::ApprovalTimeout) {
            stale_expire::note_timeout(conn, &key)?;
        }
        if let Some(conversation) = conversation {
            leaving.push(Leaving { key, conversation, messages: &ending.messages });
        }
    }
    let spoke = special.iter().filter_map(|key| Some((key.clone(), last_speaker(transitions, key)?)));
    let spoke: Vec<_> = spoke.collect();
    extras::remember(conn, &spoke)?;
    extras::end(conn, &special)?;
    if !special.is_empty() {
        let now = session::now(conn)?;
        workflow_end::ended(conn, &special, now)?;
    }
    conversations::leave(conn, leaving)
}

fn last_speaker<'a>(transitions: &[&'a Transition], key: &ExecutionKey) -> Option<&'a str> {
    transitions.iter().filter(|one| one.key == *key).find_map(|one| match &one.target {
        Target::Ended(ending) => ending.active_agent.as_deref(),
        _ => None,
    })
}

/// What went wrong, as a text column of Postgres takes it: without the NUL that an answer from
/// outside may have.
fn message(transition: &Transition) -> Option<Cow<'_, str>> {
    let Target::Ended(Ending { error: Some(error), .. }) = &transition.target else { return None };
    Some(match error.message.contains('\0') {
        true => Cow::Owned(error.message.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(&error.message),
    })
}

fn info_row<'a>(transition: &'a Transition, message: Option<&'a str>) -> Option<[Bind<'a>; 10]> {
    let ending = match &transition.target {
        Target::Running => return None,
        Target::Suspended { .. } => None,
        Target::Ended(ending) => Some(ending),
    };
    let [tenant, project, id] = key_row(&transition.key);
    let error = ending.and_then(|ending| ending.error.as_ref());
    let [finished, output, kind, message, input_tokens, output_tokens, cost] = binds![
        ending.is_some(),
        ending.and_then(|ending| ending.output.as_deref()),
        error.map(|error| error.kind.as_str()),
        message,
        number(transition.usage.input_tokens),
        number(transition.usage.output_tokens),
        number(transition.usage.cost_micros),
    ];
    Some([tenant, project, id, finished, output, kind, message, input_tokens, output_tokens, cost])
}

pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Journaled acts leave the inbox; an execution that ends leaves nothing there.
fn remove_acts(conn: &mut Conn, transitions: &[&Transition]) -> StoreResult<()> {
    let mut rows = Vec::new();
    let mut ended = Vec::new();
    for one in transitions {
        let [tenant, project, id] = key_row(&one.key);
        if matches!(one.target, Target::Ended(_)) {
            ended.push([tenant, project, id]);
        } else {
            rows.extend(one.acts_taken.iter().map(|n| [tenant, project, id, Bind::from(*n)]));
        }
    }
    let taken = "WITH u(t, p, x, n) AS (@u) DELETE FROM inbox
                 WHERE (tenant, project, execution, n) IN (SELECT t, p, x, n FROM u)";
    conn.each(taken, &rows, &[])?;
    remove_inboxes(conn, &ended)
}

/// Removes all acts of these executions.
pub(crate) fn remove_inboxes(conn: &mut Conn, keys: &[[Bind<'_>; 3]]) -> StoreResult<()> {
    let all = "WITH u(t, p, x) AS (@u) DELETE FROM inbox
               WHERE (tenant, project, execution) IN (SELECT t, p, x FROM u)";
    conn.each(all, keys, &[]).map(drop)
}

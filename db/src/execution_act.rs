//! Cancel, pause, resume, resolve, signals, and the reports of workers elsewhere: at once where
//! nobody holds the execution, else into the inbox of whoever does.

use holdpoint_engine::effect::{Act, TaskReport};
use holdpoint_engine::entry::{Json, OutcomeResolved, SignalReceived};
use holdpoint_engine::outside::{Refusal, act as lines_of, check_resolve, check_signal};
use holdpoint_engine::status::{AuditAct, Status};
use holdpoint_engine::tasks;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;
use serde_json::value::RawValue;

use crate::audit::{self, Entry};
use crate::conn::Conn;
use crate::outside::{self, Locked, Opened};
use crate::store::StoreResult;
use crate::types::{ActError, ActRequest, Acted, Tell};

/// One transaction's work.
pub(crate) fn execution_act_in_txn(
    conn: &mut Conn,
    key: &ExecutionKey,
    request: &ActRequest,
    by: &str,
    end_user: Option<&str>,
) -> Result<Acted, ActError> {
    let locked = outside::lock(conn, key)?.ok_or(ActError::NotFound)?;
    if end_user.is_some() && end_user != locked.end_user.as_deref() {
        return Err(ActError::NotFound);
    }
    if locked.status.is_terminal() {
        return Err(after_the_end(conn, locked, request, by));
    }
    let Some(act) = steer(request, by) else { return judged(conn, locked, request, (by, end_user)) };
    tell_audit(conn, key, request, (by, end_user))?;
    if let Some(holder) = locked.owner {
        return Ok(outside::tell_holder(conn, &locked, holder, &act)?);
    }
    let mut opened = Opened::load(conn, locked)?;
    opened.act(&act);
    Ok(opened.write(conn)?)
}

/// Who acts, and for which end user.
type Caller<'a> = (&'a str, Option<&'a str>);

/// Reports and heartbeats are the work itself, not acts on it.
fn tell_audit(
    conn: &mut Conn,
    key: &ExecutionKey,
    request: &ActRequest,
    (actor, end_user): Caller<'_>,
) -> StoreResult<()> {
    let (act, details) = match request {
        ActRequest::Cancel => (AuditAct::ExecutionCancelled, json!({})),
        ActRequest::Pause => (AuditAct::ExecutionPaused, json!({})),
        ActRequest::Resume => (AuditAct::ExecutionResumed, json!({})),
        ActRequest::Resolve { step, outcome, .. } => {
            (AuditAct::ExecutionResolved, json!({"step": step, "outcome": outcome}))
        }
        ActRequest::Signal { name, id, .. } => {
            let id = id.as_deref().map(audit::bounded);
            (AuditAct::ExecutionSignalled, json!({"signal": audit::bounded(name), "id": id}))
        }
        ActRequest::Report { .. } | ActRequest::Heartbeat { .. } => return Ok(()),
    };
    let subject = key.id.to_string();
    audit::append(conn, &Entry { scope: Some(&key.scope), actor, end_user, act, subject, details })
}

/// What is done whatever the journal says.
fn steer(request: &ActRequest, by: &str) -> Option<Act> {
    let by = by.to_owned();
    match request {
        ActRequest::Cancel => Some(Act::Cancel { by }),
        ActRequest::Pause => Some(Act::Pause { by }),
        ActRequest::Resume => Some(Act::Resume { by }),
        _ => None,
    }
}

/// What is judged by the journal, and by what lies in the inbox: what others did before counts,
/// although it is not journaled yet. What changes nothing is not written.
fn judged(
    conn: &mut Conn,
    locked: Locked,
    request: &ActRequest,
    caller: Caller<'_>,
) -> Result<Acted, ActError> {
    let mut opened = Opened::load(conn, locked)?;
    let act = judge(&opened, request, caller.0)?;
    let changes = !lines_of(&opened.run, &act).is_empty();
    if changes {
        tell_audit(conn, &opened.locked.key, request, caller)?;
    }
    match opened.locked.owner {
        Some(_) if !changes => Ok(unchanged(&opened.locked)),
        Some(holder) => Ok(outside::tell_holder(conn, &opened.locked, holder, &act)?),
        None => {
            opened.act(&act);
            if is_no_news(&opened.locked, &act) {
                opened.stay();
            }
            Ok(opened.write(conn)?)
        }
    }
}

fn unchanged(locked: &Locked) -> Acted {
    Acted { status: locked.status, new_event: None, tell: Tell::Nobody, related: locked.extras }
}

/// Nobody has to look at it now: it begins when it is to begin, and looks for silent workers
/// when it is due.
fn is_no_news(locked: &Locked, act: &Act) -> bool {
    matches!(act, Act::TaskHeartbeat { .. }) || locked.status == Status::Queued
}

/// The report that was taken before is told so whatever became of the execution.
fn after_the_end(conn: &mut Conn, locked: Locked, request: &ActRequest, by: &str) -> ActError {
    let status = locked.status;
    if !matches!(request, ActRequest::Report { .. }) {
        return ActError::Terminal(status);
    }
    match Opened::load(conn, locked).map(|opened| judge(&opened, request, by)) {
        Err(error) => error.into(),
        Ok(Err(refusal @ (Refusal::TaskDone { .. } | Refusal::TaskConflict { .. }))) => refusal.into(),
        Ok(_) => ActError::Terminal(status),
    }
}

/// The act, if it may be.
fn judge(opened: &Opened, request: &ActRequest, by: &str) -> Result<Act, Refusal> {
    let (run, now, by) = (&opened.run, opened.locked.now, by.to_owned());
    match request {
        ActRequest::Resolve { step, outcome, result } => {
            let result = result.as_deref().map(raw);
            let resolved = OutcomeResolved { step: *step, outcome: *outcome, result, by };
            check_resolve(run, &resolved, now)?;
            Ok(Act::Resolve(resolved))
        }
        ActRequest::Signal { name, id, event, limit } => {
            let signal = SignalReceived { name: name.clone(), id: id.clone(), event: raw(event), by };
            check_signal(run, &signal, *limit)?;
            Ok(Act::Signal(signal))
        }
        ActRequest::Report { step, attempt, outcome } => {
            let attempt = attempt.map_or_else(|| tasks::attempt_of(run, *step), Ok)?;
            let (output, error) = match outcome {
                Ok(output) => (Some(raw(output)), None),
                Err(error) => (None, Some(error.clone())),
            };
            let report = TaskReport { step: *step, attempt, output, error, by, at: now };
            tasks::check_report(run, &report)?;
            Ok(Act::TaskReported(report))
        }
        ActRequest::Heartbeat { step, attempt } => {
            let attempt = attempt.map_or_else(|| tasks::attempt_of(run, *step), Ok)?;
            tasks::check_heartbeat(run, *step, attempt)?;
            Ok(Act::TaskHeartbeat { step: *step, attempt, at: now })
        }
        ActRequest::Cancel => Ok(Act::Cancel { by }),
        ActRequest::Pause => Ok(Act::Pause { by }),
        ActRequest::Resume => Ok(Act::Resume { by }),
    }
}

fn raw(text: &str) -> Json {
    RawValue::from_string(text.to_owned()).unwrap_or_else(|_| holdpoint_engine::json(text))
}

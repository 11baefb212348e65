//! Delegated executions and their parents. A child's questions, the answers to them and its
//! end are relayed to its parent: read from the child's journal, written to the parent's, each
//! once, because how far the child was read is raised in the same transaction.

use holdpoint_engine::effect::{Act, ChildEnded};
use holdpoint_engine::entry::{DelegatedBy, Entry, Line};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ErrorType, Failure, Reason};
use holdpoint_engine::wire::ExecutionKey;

use crate::approvals::approval_list;
use crate::conn::Conn;
use crate::execution_claim::{key_row, read_line};
use crate::outside::{self, Locked, Opened};
use crate::row::Row;
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{
    Acted, ApprovalFilter, ApprovalRow, DecideRequest, NewExecution, Relayed, StoreError, Tell,
};

const INSERT: &str = "
    WITH u(t, p, c, x, st, ca) AS (@u)
    INSERT INTO children (tenant, project, child, parent, step, call_id) SELECT t, p, c, x, st, ca FROM u";

/// Notes whose children new executions are.
pub(crate) fn insert<'a>(conn: &mut Conn, new: impl Iterator<Item = &'a NewExecution>) -> StoreResult<()> {
    let row = |new: &'a NewExecution| {
        let parent = new.extras.parent.as_ref()?;
        let [tenant, project, id] = key_row(&new.key);
        let [execution, step, call] = binds![parent.execution.0, parent.step, parent.tool_call_id.as_str()];
        Some([tenant, project, id, execution, step, call])
    };
    let rows: Vec<[Bind<'_>; 6]> = new.filter_map(row).collect();
    conn.each(INSERT, &rows, &[]).map(drop)
}

/// What ties a child to its parent.
struct Link {
    parent: ExecutionKey,
    step: i32,
    call_id: String,
    relayed: i64,
    done: bool,
    /// The child's last line.
    last_seq: i64,
}

pub(crate) const LINK: &str = "
    SELECT c.tenant, c.project, c.parent, c.step, c.call_id, c.relayed, c.done, e.last_seq
    FROM children c JOIN executions e ON e.tenant = c.tenant AND e.project = c.project AND e.id = c.child
    WHERE c.tenant = ? AND c.project = ? AND c.child = ?";

fn link(conn: &mut Conn, child: &ExecutionKey) -> StoreResult<Option<Link>> {
    let read = |mut row: Row| {
        Ok(Link {
            parent: row.key()?,
            step: row.int()?,
            call_id: row.text()?,
            relayed: row.big()?,
            done: row.bool()?,
            last_seq: row.big()?,
        })
    };
    let found: Option<Link> = conn.row(LINK, &key_row(child))?.map(read).transpose()?;
    Ok(found.filter(|link| !link.done && link.last_seq > link.relayed))
}

/// One transaction's work; `None` where there is nothing to tell.
pub(crate) fn child_relay_in_txn(conn: &mut Conn, child: &ExecutionKey) -> StoreResult<Option<Relayed>> {
    let Some(found) = link(conn, child)? else { return Ok(None) };
    let Some(locked) = outside::lock(conn, &found.parent)? else { return Ok(None) };
    // Under the parent's lock nobody else relays: what is read now stands.
    let Some(link) = link(conn, child)? else { return Ok(None) };
    let acts = news(conn, child, &link)?;
    let ended = acts.iter().any(|act| matches!(act, Act::ChildEnded(_)));
    let acted = if acts.is_empty() { None } else { Some(tell(conn, locked, &acts, ended)?) };
    let [tenant, project, id] = key_row(child);
    conn.rows(
        "UPDATE children SET relayed = ?, done = ? WHERE tenant = ? AND project = ? AND child = ?",
        &[link.last_seq.into(), ended.into(), tenant, project, id],
    )?;
    Ok(acted.map(|acted| Relayed { parent: link.parent, acted }))
}

/// A parent that is over takes nothing; that it was told is noted all the same.
fn tell(conn: &mut Conn, mut locked: Locked, acts: &[Act], ended: bool) -> StoreResult<Acted> {
    let mut acted =
        Acted { status: locked.status, new_event: None, tell: Tell::Nobody, related: locked.extras };
    if locked.status.is_terminal() {
        return Ok(acted);
    }
    let Some(holder) = locked.owner else {
        let mut opened = Opened::load(conn, locked)?;
        acts.iter().for_each(|act| opened.act(act));
        if !ended {
            opened.leave_suspended();
        }
        return opened.write(conn);
    };
    for act in acts {
        acted = outside::tell_holder(conn, &locked, holder, act)?;
        locked.wake += 1;
    }
    Ok(acted)
}

pub(crate) const NEWS: &str = "
    SELECT j.seq, j.event, j.kind, j.step, j.at, j.payload FROM journal j
    WHERE j.tenant = ? AND j.project = ? AND j.execution = ? AND j.seq > ? AND j.seq <= ?
      AND j.kind IN ('approval.requested', 'approval.decided', 'approval.closed', 'execution.completed',
        'execution.failed', 'execution.cancelled') ORDER BY j.seq";

fn news(conn: &mut Conn, child: &ExecutionKey, link: &Link) -> StoreResult<Vec<Act>> {
    let [tenant, project, id] = key_row(child);
    let rows = conn.rows(NEWS, &[tenant, project, id, link.relayed.into(), link.last_seq.into()])?;
    let mut acts = Vec::with_capacity(rows.len());
    for mut row in rows {
        let Line { kind, payload, .. } = read_line(&mut row)?;
        let entry = Entry::read(&kind, &payload)
            .map_err(|error| StoreError::Corrupt(format!("{}: {error}", child.id)))?;
        acts.extend(act_of(entry, child.id, link));
    }
    Ok(acts)
}

/// The child's line as its parent takes it: under the parent's step, and under an id that
/// leads back to the child.
fn act_of(entry: Entry, child: ExecutionId, link: &Link) -> Option<Act> {
    let step = link.step;
    let shown = |call: &str| format!("{}:{call}", link.call_id);
    let own = |call: &str| Some(DelegatedBy { execution_id: child, tool_call_id: call.to_owned() });
    Some(match entry {
        Entry::ApprovalRequested(mut body) => {
            body.delegated_by = body.delegated_by.or_else(|| own(&body.tool_call_id));
            (body.step, body.tool_call_id) = (step, shown(&body.tool_call_id));
            Act::ChildAsked(Box::new(body))
        }
        Entry::ApprovalDecided(mut body) => {
            body.delegated_by = body.delegated_by.or_else(|| own(&body.tool_call_id));
            (body.step, body.tool_call_id) = (step, shown(&body.tool_call_id));
            Act::ChildDecided(body)
        }
        Entry::ApprovalClosed(mut body) => {
            body.delegated_by = body.delegated_by.or_else(|| own(&body.tool_call_id));
            (body.step, body.tool_call_id) = (step, shown(&body.tool_call_id));
            Act::ChildClosed(body)
        }
        Entry::ExecutionCompleted(body) => {
            Act::ChildEnded(ChildEnded { step, output: Some(body.output), error: None })
        }
        Entry::ExecutionFailed(body) => {
            // What nobody answered in time is not asked again by a repeat of the parent, as it would
            // not be by one of the child.
            let more_than_its_type = matches!(body.reason, Reason::ApprovalTimeout | Reason::Deadline);
            let reason = more_than_its_type.then_some(body.reason);
            Act::ChildEnded(ChildEnded { step, output: None, error: Some(Failure { reason, ..body.error }) })
        }
        Entry::ExecutionCancelled(_) => {
            let error = Failure::new(ErrorType::Cancelled, format!("the execution {child} was cancelled"));
            Act::ChildEnded(ChildEnded { step, output: None, error: Some(error) })
        }
        _ => return None,
    })
}

/// A child as its parent knows it.
struct Child {
    id: ExecutionId,
    step: i32,
    call_id: String,
    done: bool,
}

pub(crate) const OF_PARENT: &str = "
    SELECT c.child, c.step, c.call_id, c.done FROM children c
    WHERE c.tenant || '/' || c.project = ? AND c.parent = ? ORDER BY c.step";

fn of_parent(conn: &mut Conn, scope: &Scope, parent: ExecutionId) -> StoreResult<Vec<Child>> {
    let read = |mut row: Row| {
        Ok(Child { id: ExecutionId(row.id()?), step: row.int()?, call_id: row.text()?, done: row.bool()? })
    };
    let owner = scope.to_string();
    let rows = conn.rows(OF_PARENT, &binds![&owner, parent.0])?;
    rows.into_iter().map(read).collect()
}

/// The children whose end their parent was not told.
pub(crate) fn children_open(conn: &mut Conn, parent: &ExecutionKey) -> StoreResult<Vec<ExecutionKey>> {
    let open = of_parent(conn, &parent.scope, parent.id)?.into_iter().filter(|child| !child.done);
    Ok(open.map(|child| ExecutionKey { scope: parent.scope.clone(), id: child.id }).collect())
}

/// The execution and call that a decision is about: an id of the form `call:call` may lead
/// to a child, and further down.
pub(crate) fn meant(conn: &mut Conn, scope: &Scope, request: &DecideRequest) -> StoreResult<DecideRequest> {
    let mut meant = request.clone();
    while meant.tool_call_id.contains(':') && !is_own(conn, scope, &meant)? {
        let children = of_parent(conn, scope, meant.execution)?;
        let below = |child: &Child| {
            let rest = meant.tool_call_id.strip_prefix(&child.call_id)?.strip_prefix(':')?;
            Some((child.id, rest.to_owned()))
        };
        // Ids may hold colons: the longest call that fits is the one.
        let fits = children.iter().filter_map(|child| Some((child.call_id.len(), below(child)?)));
        let Some((_, (child, rest))) = fits.max_by_key(|(length, _)| *length) else { break };
        (meant.execution, meant.tool_call_id) = (child, rest);
    }
    Ok(meant)
}

fn is_own(conn: &mut Conn, scope: &Scope, request: &DecideRequest) -> StoreResult<bool> {
    let found = conn.row(
        "SELECT 1 FROM approvals WHERE tenant = ? AND project = ? AND execution = ? AND call_id = ?",
        &binds![&*scope.tenant, &*scope.project, request.execution.0, &request.tool_call_id],
    )?;
    Ok(found.is_some())
}

/// A child's approval as its parent shows it.
pub(crate) fn shown_as(mut row: ApprovalRow, parent: ExecutionId, call_id: String) -> ApprovalRow {
    let own = DelegatedBy { execution_id: row.key.id, tool_call_id: row.tool_call_id };
    row.delegated_by = Some(row.delegated_by.unwrap_or(own));
    (row.key.id, row.tool_call_id) = (parent, call_id);
    row
}

pub(crate) const PARENTS_IN: &str = "
    SELECT DISTINCT i.id FROM execution_info i
      JOIN children c ON c.tenant || '/' || c.project = i.tenant || '/' || i.project AND c.parent = i.id
    WHERE i.tenant = ? AND i.project = ? AND i.conversation_id = ?";

/// The approvals of the children below one execution, or below those of a conversation.
pub(crate) fn approvals_below(
    conn: &mut Conn,
    scope: &Scope,
    filter: &ApprovalFilter,
) -> StoreResult<Vec<ApprovalRow>> {
    let parents = match (&filter.execution, &filter.conversation_id) {
        (Some(execution), _) => vec![*execution],
        (None, Some(conversation)) => {
            let rows = conn.rows(PARENTS_IN, &binds![&*scope.tenant, &*scope.project, conversation])?;
            rows.into_iter().map(|mut row| Ok(ExecutionId(row.id()?))).collect::<StoreResult<_>>()?
        }
        (None, None) => return Ok(Vec::new()),
    };
    let mut found = Vec::new();
    for parent in parents {
        for child in of_parent(conn, scope, parent)? {
            let of_child =
                ApprovalFilter { execution: Some(child.id), conversation_id: None, ..filter.clone() };
            for row in approval_list(conn, scope, &of_child)? {
                let call_id = format!("{}:{}", child.call_id, row.tool_call_id);
                let mut row = shown_as(row, parent, call_id);
                row.step = child.step;
                row.conversation_id = filter.conversation_id.clone().or(row.conversation_id);
                found.push(row);
            }
        }
    }
    Ok(found)
}

/// For the sweep: a child that is at work is told of by its worker. Ordered as the index over open
/// ones is: on an empty table the key of all children would cost the same.
pub(crate) const UNRELAYED: &str = "
    SELECT c.tenant, c.project, c.child FROM children c
      JOIN executions e ON e.tenant = c.tenant AND e.project = c.project AND e.id = c.child
    WHERE NOT c.done AND e.last_seq > c.relayed AND e.owner IS NULL
    ORDER BY c.tenant || '/' || c.project, c.child LIMIT ?";

/// For the sweep: children that go on although nobody waits for them any more.
pub(crate) const ORPHANS: &str = "
    SELECT c.tenant, c.project, c.child FROM children c
      JOIN executions e ON e.tenant = c.tenant AND e.project = c.project AND e.id = c.child
      JOIN executions p ON p.tenant = c.tenant AND p.project = c.project AND p.id = c.parent
    WHERE NOT c.done AND p.status IN ('completed', 'failed', 'cancelled')
      AND e.status NOT IN ('completed', 'failed', 'cancelled')
    ORDER BY c.tenant || '/' || c.project, c.child LIMIT ?";

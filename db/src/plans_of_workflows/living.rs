//! What goes on of workflows beside a history, made by the verbs themselves.

use holdpoint_engine::definition::Retry;
use holdpoint_engine::entry::*;
use holdpoint_engine::ids::{ExecutionId, FileId, ScheduleId, SessionId};
use holdpoint_engine::run::Run;
use holdpoint_engine::schedule::CatchUp;
use holdpoint_engine::status::*;
use holdpoint_engine::time::{Span, Timestamp};
use holdpoint_engine::wire::ExecutionKey;
use uuid::Uuid;

use super::scope;
use crate::conn::Conn;
use crate::schedule_types::*;
use crate::sql::binds;
use crate::store::StoreResult;
use crate::trial_types::*;
use crate::types::*;
use crate::{definitions, execution_claim, execution_commit, execution_create, files, schedules};

const WORKER: SessionId = SessionId(Uuid::from_u128(1));

pub(super) fn new(name: &str) -> NewExecution {
    NewExecution {
        key: ExecutionKey { scope: scope(), id: ExecutionId(Uuid::now_v7()) },
        kind: DefinitionKind::Workflow,
        name: name.to_owned(),
        version: None,
        input: Some("{}".to_owned()),
        messages: None,
        conversation: Conversation::None,
        idempotency: None,
        run_type: RunType::Production,
        delay: None,
        metadata: "{}".to_owned(),
        labels: Default::default(),
        end_user: None,
        created_by: "key_test".to_owned(),
        extras: Default::default(),
    }
}

pub(super) fn create(conn: &mut Conn, new: &NewExecution) -> StoreResult<Created> {
    Ok(execution_create::execution_create_in_txn(conn, std::slice::from_ref(new), false)?.remove(0))
}

/// A new one that is committed.
pub(super) fn created(conn: &mut Conn, new: NewExecution) -> StoreResult<ExecutionKey> {
    assert!(matches!(create(conn, &new)?, Created::New { .. }));
    Ok(new.key)
}

/// One that a worker has.
pub(super) fn held(conn: &mut Conn, new: NewExecution) -> StoreResult<Claimed> {
    let key = created(conn, new)?;
    let history = HistoryLimits { messages: 1, bytes: 1 };
    let (hinted, limit) = (vec![key], 1);
    let request =
        ClaimRequest { session: WORKER, hinted, limit, any: false, history, tenant_concurrency: None };
    Ok(execution_claim::execution_claim_in_txn(conn, &request)?.remove(0))
}

pub(super) fn commit(conn: &mut Conn, one: &Claimed, entries: &[Entry], target: Target) -> StoreResult<()> {
    let mut run = Run::fold(&one.lines, one.seq, one.event).unwrap();
    entries.iter().for_each(|entry| run.apply(entry));
    let transition = Transition {
        key: one.key.clone(),
        session: WORKER,
        epoch: one.epoch,
        expected_seq: one.seq,
        seen_wake: one.wake,
        lines: run.number(entries, Timestamp::from_micros(1)),
        last_event: run.event,
        gates: Vec::new(),
        approvals: Vec::new(),
        grants: Vec::new(),
        unheard: None,
        acts_taken: Vec::new(),
        usage: Usage::default(),
        definition: (one.name.clone(), one.version),
        target,
    };
    let done = execution_commit::execution_commit_in_txn(conn, &[&transition], true)?.remove(0);
    assert!(matches!(done, Some(Committed::Done { .. })), "{done:?}");
    Ok(())
}

pub(super) fn suspend(conn: &mut Conn, one: &Claimed, entries: &[Entry]) -> StoreResult<()> {
    commit(conn, one, entries, Target::Suspended { reason: Reason::Signal, ready_at: None })
}

/// Its end: as it should be, or for this reason.
pub(super) fn end(conn: &mut Conn, one: &Claimed, reason: Option<Reason>) -> StoreResult<()> {
    let error = reason.map(|reason| Failure::new(reason.error_type(), "it failed"));
    let entry = match (reason, error.clone()) {
        (Some(reason), Some(error)) => Entry::ExecutionFailed(ExecutionFailed { reason, error }),
        _ => Entry::ExecutionCompleted(ExecutionCompleted { output: holdpoint_engine::json("done") }),
    };
    let ending = Ending {
        status: if reason.is_some() { Status::Failed } else { Status::Completed },
        reason,
        output: error.is_none().then(|| "\"done\"".to_owned()),
        error,
        messages: Vec::new(),
        active_agent: None,
    };
    commit(conn, one, &[entry], Target::Ended(ending))
}

pub(super) fn called(step: i32, queue: bool) -> Entry {
    let terms = QueueTerms {
        name: "work".to_owned(),
        heartbeat: Some(Span::secs(3_600)),
        class: EffectClass::Idempotent,
        retry: Retry::default(),
    };
    Entry::ToolCalled(ToolCalled {
        step,
        tool_call_id: format!("leaf-{step}"),
        tool: "leaf".to_owned(),
        arguments: holdpoint_engine::json(&serde_json::json!({})),
        attempt: 1,
        task: None,
        queue: queue.then_some(terms),
    })
}

/// A task that a worker elsewhere has.
pub(super) fn given_out() -> [Entry; 2] {
    let due = Some(Timestamp::from_micros(1));
    [called(1, true), Entry::TaskPublished(TaskPublished { step: 1, attempt: 1, due })]
}

pub(super) fn child_of(parent: &ExecutionKey, step: i32) -> NewExecution {
    let tool_call_id = format!("leaf-{step}");
    let parent = Some(Parent { execution: parent.id, step, tool_call_id, depth: 1 });
    NewExecution { extras: Extras { parent, ..Extras::default() }, ..new("ship") }
}

pub(super) fn file(conn: &mut Conn, name: &str) -> StoreResult<FileId> {
    let file = NewFile {
        key: FileKey { scope: scope(), id: FileId(Uuid::now_v7()) },
        name: Some(name.to_owned()),
        content_type: "text/plain".to_owned(),
        sha256: "0".repeat(64),
        content: b"x".to_vec(),
        created_by: "key_test".to_owned(),
    };
    files::file_put(conn, &file)?;
    Ok(file.key.id)
}

pub(super) fn with_files(files: Vec<FileId>) -> NewExecution {
    NewExecution { extras: Extras { files, ..Extras::default() }, ..new("ship") }
}

pub(super) fn test_run(name: &str) -> NewExecution {
    NewExecution { run_type: RunType::Test, ..new(name) }
}

pub(super) fn schedule(name: &str) -> PutSchedule {
    let document = ScheduleDocument {
        kind: DefinitionKind::Workflow,
        target: "ship".to_owned(),
        version: None,
        input: None,
        timing: TimingDocument::Every(Span::secs(3_600)),
        overlap: Overlap::Skip,
        catch_up: CatchUp { window: Span::secs(60), limit: 1 },
        metadata: "{}".to_owned(),
        labels: Default::default(),
    };
    let id = ScheduleId(Uuid::now_v7());
    PutSchedule { id, name: name.to_owned(), document, paused: None, by: "key_test".to_owned() }
}

pub(super) fn schedule_key(name: &str) -> ScheduleKey {
    ScheduleKey { scope: scope(), name: name.to_owned() }
}

pub(super) fn definition(name: &str, settings: &str, secret: &str) -> String {
    format!(
        r#"{{"document": {{"dsl": "1.0.1", "namespace": "t", "name": "{name}", "version": "1.0.0",
        "metadata": {{"holdpoint": {settings}}}}}, "use": {{"secrets": ["{secret}"]}},
        "do": [{{"a": {{"set": {{"b": 1}}}}}}]}}"#
    )
}

pub(super) fn put_definition(conn: &mut Conn, name: &str, settings: &str, secret: &str) -> StoreResult<()> {
    let (kind, text) = (DefinitionKind::Workflow, definition(name, settings, secret));
    definitions::definition_put_in_txn(conn, &scope(), kind, name, &text, "key_test").map(drop)
}

/// What goes on beside the history.
pub(super) struct Living {
    /// A run of a workflow with something to clear.
    pub(super) running: Claimed,
    /// A run of one that has one run at a time, and another one waits.
    pub(super) alone: Claimed,
    pub(super) failed: ExecutionKey,
    pub(super) repeated: ExecutionKey,
    pub(super) tried: Claimed,
    pub(super) late: ExecutionKey,
    pub(super) scheduled: Claimed,
    /// A task given out, by nobody's and by a worker's execution.
    pub(super) task: ExecutionKey,
    pub(super) task_held: Claimed,
    /// A parent that waits, and its child that has ended.
    pub(super) parent: ExecutionKey,
    pub(super) child: ExecutionKey,
    pub(super) unused: FileId,
    pub(super) used: FileId,
}

pub(super) fn living(conn: &mut Conn) -> StoreResult<Living> {
    conn.batch(
        "INSERT INTO sessions (id, name, started_at, expires_at)
         VALUES ('00000000-0000-0000-0000-000000000001', 'worker', 0, 4102444800000000)",
    )?;
    put_definition(conn, "ship", "{}", "mail")?;
    put_definition(conn, "alone", r#"{"concurrency": 1}"#, "mail")?;
    let repeated = held(conn, new("ship"))?;
    end(conn, &repeated, Some(Reason::Network))?;
    let failed = held(conn, new("ship"))?;
    end(conn, &failed, Some(Reason::Internal))?;
    let running = held(conn, new("ship"))?;
    let alone = held(conn, new("alone"))?;
    created(conn, new("alone"))?;
    let tried = held(conn, test_run("ship"))?;
    let late = created(conn, test_run("alone"))?;
    conn.batch("UPDATE test_runs SET created_at = 1 WHERE workflow = 'alone'")?;
    schedules::schedule_put_in_txn(conn, &scope(), &schedule("hourly"))?;
    conn.batch("UPDATE schedules SET anchor = 1, due_at = 1, next_tick = (SELECT hp_now()) - 1")?;
    let (unused, used) = (file(conn, "unused")?, file(conn, "much used")?);
    let scheduled = held(conn, with_files(vec![used]))?;
    let task = held(conn, new("ship"))?;
    suspend(conn, &task, &given_out())?;
    let task_held = held(conn, new("ship"))?;
    commit(conn, &task_held, &given_out(), Target::Running)?;
    let parent = held(conn, new("ship"))?;
    suspend(conn, &parent, &[called(1, false)])?;
    let child = held(conn, child_of(&parent.key, 1))?;
    end(conn, &child, None)?;
    schedules::schedule_put_in_txn(conn, &scope(), &schedule("daily"))?;
    conn.rows(
        "INSERT INTO schedule_runs (tenant, project, execution, schedule, tick) VALUES ('t0', 'shop', ?, 'daily', 1)",
        &binds![scheduled.key.id.0],
    )?;
    conn.rows("UPDATE schedules SET active = ? WHERE name = 'daily'", &binds![scheduled.key.id.0])?;
    let (failed, repeated, task) = (failed.key, repeated.key, task.key);
    let (parent, child) = (parent.key, child.key);
    Ok(Living {
        running,
        alone,
        failed,
        repeated,
        tried,
        late,
        scheduled,
        task,
        task_held,
        parent,
        child,
        unused,
        used,
    })
}

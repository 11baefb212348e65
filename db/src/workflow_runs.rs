//! The production runs of registered workflows that are not over: who may begin, who waits,
//! and who is answered with the one that waits already.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use holdpoint_engine::definition::builtin;
use holdpoint_engine::effect::Act;
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::runs::Terms;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{AuditAct, DefinitionKind, Reason, RunType, Status, WorkflowState};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use serde_json::json;

use crate::conn::Conn;
use crate::execution_claim::key_row;
use crate::execution_create::Resolved;
use crate::outside::{self, Opened};
use crate::sql::{Bind, binds};
use crate::store::StoreResult;
use crate::types::{Acted, Created, NewExecution, StoreError};
use crate::workflow_end::read_terms;
use crate::{audit, coalesced_starts};

/// Whether the end of such an execution is looked at: a workflow that somebody registered.
pub(crate) fn is_registered(new: &NewExecution) -> bool {
    new.kind == DefinitionKind::Workflow && builtin(new.kind, &new.name).is_none()
}

/// A run that is not over.
pub(crate) struct Active<'a> {
    pub(crate) key: &'a ExecutionKey,
    pub(crate) name: &'a str,
    pub(crate) alone: bool,
    pub(crate) waits: bool,
    /// Where it waits: it begins no earlier.
    pub(crate) not_before: Option<Timestamp>,
}

const INSERT: &str = "
    WITH u(t, p, x, w, al, wa, nb) AS (@u)
    INSERT INTO workflow_runs (tenant, project, run, workflow, alone, waits, not_before)
    SELECT t, p, x, w, al, wa, nb FROM u";

/// Notes runs.
pub(crate) fn insert(conn: &mut Conn, runs: &[Active<'_>]) -> StoreResult<()> {
    let rows: Vec<_> = runs
        .iter()
        .map(|run| {
            let [tenant, project, id] = key_row(run.key);
            let [name, alone, waits, not_before] = binds![run.name, run.alone, run.waits, run.not_before];
            [tenant, project, id, name, alone, waits, not_before]
        })
        .collect();
    conn.each(INSERT, &rows, &[]).map(drop)
}

/// Forgets runs that are over.
pub(crate) fn remove<'a>(conn: &mut Conn, ended: impl Iterator<Item = &'a ExecutionKey>) -> StoreResult<()> {
    let rows: Vec<_> = ended.map(key_row).collect();
    conn.each(
        "WITH u(t, p, x) AS (@u) DELETE FROM workflow_runs
         WHERE (tenant, project, run) IN (SELECT t, p, x FROM u)",
        &rows,
        &[],
    )
    .map(drop)
}

/// What the starts of registered workflows come to.
#[derive(Default)]
pub(crate) struct Taken {
    /// They leave no row.
    pub(crate) refused: HashMap<usize, Created>,
    /// They begin later than they asked for; `None` waits for the end of another run.
    pub(crate) ready_at: HashMap<usize, Option<Timestamp>>,
}

/// A start that counts: not a test, and nobody's child.
struct Wanting<'a> {
    at: usize,
    new: &'a NewExecution,
    terms: Terms,
    created_at: Timestamp,
}

/// Judges starts by what their workflows' rows say, which nobody changes meanwhile, and notes
/// those that stand. What was inserted for the others is removed.
pub(crate) fn take(
    conn: &mut Conn,
    batch: &[NewExecution],
    versions: &[Option<Resolved>],
    inserted: &mut HashMap<usize, Timestamp>,
) -> StoreResult<Taken> {
    let mut taken = Taken::default();
    let mut workflows: BTreeMap<(&Scope, &str), Vec<Wanting<'_>>> = BTreeMap::new();
    for (at, created_at) in inserted.iter() {
        let new = &batch[*at];
        let counts = new.run_type == RunType::Production && new.extras.parent.is_none();
        let Some(resolved) = versions[*at].as_ref().filter(|_| counts && is_registered(new)) else {
            continue;
        };
        let terms = read_terms(resolved.terms.as_deref())?;
        let one = Wanting { at: *at, new, terms, created_at: *created_at };
        workflows.entry((&new.key.scope, &new.name)).or_default().push(one);
    }
    for ((scope, name), mut starts) in workflows {
        starts.sort_by_key(|one| one.at);
        take_of_workflow(conn, (scope, name), &starts, &mut taken)?;
    }
    for at in taken.refused.keys() {
        conn.rows(
            "DELETE FROM execution_info WHERE tenant = ? AND project = ? AND id = ?",
            &key_row(&batch[*at].key),
        )?;
        inserted.remove(at);
    }
    Ok(taken)
}

fn take_of_workflow(
    conn: &mut Conn,
    (scope, name): (&Scope, &str),
    starts: &[Wanting<'_>],
    taken: &mut Taken,
) -> StoreResult<()> {
    let alone = starts.iter().any(|one| one.terms.one_at_a_time);
    let state = state(conn, scope, name, if alone { "@lock" } else { "@share" })?;
    if state != WorkflowState::Active {
        taken.refused.extend(starts.iter().map(|one| (one.at, Created::WorkflowNotActive { state })));
        return Ok(());
    }
    let mut place = if alone { Some(place(conn, scope, name)?) } else { None };
    let mut noted = Vec::with_capacity(starts.len());
    for one in starts {
        let mut waits = false;
        if let Some(place) = place.as_mut().filter(|_| one.terms.one_at_a_time) {
            if let Some(id) = place.queued {
                taken.refused.insert(one.at, Created::Coalesced { id, before: false });
                coalesced_starts::note(conn, one.new, id)?;
                continue;
            }
            waits = place.taken;
            *place = Place { taken: true, queued: Some(one.new.key.id) };
        }
        let wanted = one.created_at.plus(one.new.delay.unwrap_or_default());
        let begins = held_until(conn, scope, &one.terms, wanted)?;
        let (ready_at, not_before) = if waits { (None, Some(begins)) } else { (Some(begins), None) };
        noted.push(Active { key: &one.new.key, name, alone: one.terms.one_at_a_time, waits, not_before });
        taken.ready_at.insert(one.at, ready_at);
    }
    insert(conn, &noted)
}

/// How a workflow stands, and the run that goes on or waits where there may be one only; its
/// row is locked as for a start.
pub(crate) fn standing(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    alone: bool,
) -> StoreResult<(WorkflowState, Option<ExecutionId>)> {
    let state = state(conn, scope, name, if alone { "@lock" } else { "@share" })?;
    let mut active = None;
    if alone {
        for mut row in conn.rows(OF_WORKFLOW, &binds![&expression(scope, name)])? {
            active = Some(row.key()?.id);
        }
    }
    Ok((state, active))
}

/// How a workflow stands, and a lock on its row.
fn state(conn: &mut Conn, scope: &Scope, name: &str, lock: &str) -> StoreResult<WorkflowState> {
    let text =
        format!("SELECT e.state FROM workflows e WHERE e.tenant = ? AND e.project = ? AND e.name = ? {lock}");
    let row = conn.row(&text, &binds![&*scope.tenant, &*scope.project, name])?;
    row.ok_or_else(|| StoreError::Corrupt(format!("the workflow `{name}` has no row")))?.word()
}

/// Whether a run goes on, and the one that has not begun.
#[derive(Default)]
struct Place {
    taken: bool,
    queued: Option<ExecutionId>,
}

pub(crate) const OF_WORKFLOW: &str = "
    SELECT r.tenant, r.project, r.run, r.waits, e.status, r.not_before
    FROM (SELECT * FROM workflow_runs k WHERE k.tenant || '/' || k.project || '/' || k.workflow = ? AND k.alone) r
    JOIN executions e ON e.tenant = r.tenant AND e.project = r.project AND e.id = r.run";

/// Under the lock of the workflow's row.
fn place(conn: &mut Conn, scope: &Scope, name: &str) -> StoreResult<Place> {
    let mut place = Place::default();
    for mut row in conn.rows(OF_WORKFLOW, &binds![&expression(scope, name)])? {
        let (key, waits, status) = (row.key()?, row.bool()?, row.word::<Status>()?);
        place.taken = true;
        if waits || status == Status::Queued {
            place.queued = Some(key.id);
        }
    }
    Ok(place)
}

/// What the index over active runs is over. Names have no slash.
pub(crate) fn expression(scope: &Scope, name: &str) -> String {
    format!("{}/{}/{name}", scope.tenant, scope.project)
}

/// The run that waited for the end of the one before it may begin. The workflow's row is locked.
pub(crate) fn let_next_begin(conn: &mut Conn, scope: &Scope, name: &str, now: Timestamp) -> StoreResult<()> {
    let mut waiting = None;
    for mut row in conn.rows(OF_WORKFLOW, &binds![&expression(scope, name)])? {
        let (key, waits, _) = (row.key()?, row.bool()?, row.word::<Status>()?);
        if !waits {
            return Ok(());
        }
        waiting = Some((key, row.opt_time()?));
    }
    let Some((next, not_before)) = waiting else { return Ok(()) };
    let begins = not_before.map_or(now, |not_before| not_before.max(now));
    let [tenant, project, id] = key_row(&next);
    conn.rows(
        "UPDATE workflow_runs SET waits = ? WHERE tenant = ? AND project = ? AND run = ?",
        &[Bind::from(false), tenant, project, id],
    )?;
    // One that a person paused begins when it is let go on.
    conn.rows(
        "UPDATE executions SET ready_at = ? WHERE tenant = ? AND project = ? AND id = ? AND owner IS NULL
           AND coalesce(reason, '') <> 'paused'",
        &[begins.into(), tenant, project, id],
    )
    .map(drop)
}

/// Whether a run that nobody holds waits for the end of another.
pub(crate) fn waits(conn: &mut Conn, key: &ExecutionKey) -> StoreResult<bool> {
    let row = conn
        .row("SELECT waits FROM workflow_runs WHERE tenant = ? AND project = ? AND run = ?", &key_row(key))?;
    row.map_or(Ok(false), |mut row| row.bool())
}

/// Ends a run because its workflow is held; `None` where it is over, or gone.
pub(crate) fn run_end_paused_in_txn(
    conn: &mut Conn,
    run: &ExecutionKey,
    by: &str,
) -> StoreResult<Option<Acted>> {
    let Some(locked) = outside::lock(conn, run)?.filter(|locked| !locked.status.is_terminal()) else {
        return Ok(None);
    };
    let act = Act::EndPaused { by: by.to_owned() };
    let details = json!({"reason": Reason::Paused});
    audit::note(conn, &run.scope, by, AuditAct::ExecutionCancelled, run.id, details)?;
    if let Some(holder) = locked.owner {
        return outside::tell_holder(conn, &locked, holder, &act).map(Some);
    }
    let mut opened = Opened::load(conn, locked)?;
    opened.act(&act);
    opened.write(conn).map(Some)
}

/// Notes which secrets a version names.
pub(crate) fn note_secrets(
    conn: &mut Conn,
    scope: &Scope,
    name: &str,
    secrets: &[String],
) -> StoreResult<()> {
    let rows: Vec<_> =
        secrets.iter().map(|secret| binds![&*scope.tenant, &*scope.project, name, secret]).collect();
    conn.each(
        "WITH u(t, p, w, s) AS (@u) INSERT INTO workflow_secrets (tenant, project, workflow, secret)
         SELECT t, p, w, s FROM u WHERE true ON CONFLICT DO NOTHING",
        &rows,
        &[],
    )
    .map(drop)
}

const WITH_SECRET: &str = "
    SELECT DISTINCT k.tenant, k.project, k.workflow FROM workflow_secrets k WHERE k.tenant || '/' || k.secret = ?";
/// The runs that are not over, and by their keys what their versions say.
const TERMS_OF_ACTIVE: &str = "
    SELECT r.tenant, r.project, r.run, (
      SELECT d.terms FROM execution_info i JOIN definitions d ON d.tenant = i.tenant AND d.project = i.project
        AND d.kind = i.kind AND d.name = i.name AND d.version = i.version
      WHERE i.tenant = r.tenant AND i.project = r.project AND i.id = r.run)
    FROM workflow_runs r WHERE r.tenant || '/' || r.project || '/' || r.workflow = ?";
/// Compared in a form that no index over what is ready offers.
const LOCK_NOT_BEGUN: &str = "
    SELECT e.id FROM executions e WHERE e.tenant = ? AND e.project = ? AND e.id = ?
      AND CASE WHEN e.status = 'queued' AND e.owner IS NULL THEN 1 ELSE 0 END = 1 @skip";

/// The tenant's runs that use one of these secrets and have not begun do not begin before then.
/// One that somebody takes or ends at this moment is left to him.
pub(crate) fn hold(conn: &mut Conn, scope: &Scope, secrets: &[String], until: Timestamp) -> StoreResult<()> {
    let mut workflows = BTreeSet::new();
    for secret in secrets {
        let named = format!("{}/{secret}", scope.tenant);
        for mut row in conn.rows(WITH_SECRET, &binds![&named])? {
            workflows.insert((row.scope()?, row.text()?));
        }
    }
    let mut held = BTreeSet::new();
    for (scope, name) in workflows {
        for mut row in conn.rows(TERMS_OF_ACTIVE, &binds![&expression(&scope, &name)])? {
            let (key, terms) = (row.key()?, read_terms(row.opt_text()?.as_deref())?);
            if terms.secrets.iter().any(|secret| secrets.contains(secret)) {
                held.insert(key);
            }
        }
    }
    for run in held {
        let [tenant, project, id] = key_row(&run);
        if conn.row(LOCK_NOT_BEGUN, &[tenant, project, id])?.is_none() {
            continue;
        }
        let later = |table: &str, column: &str, row: &str| {
            format!(
                "UPDATE {table} SET {column} = CASE WHEN {column} < ? THEN ? ELSE {column} END
                 WHERE tenant = ? AND project = ? AND {row} = ?"
            )
        };
        let values = [until.into(), until.into(), tenant, project, id];
        conn.rows(&later("executions", "ready_at", "id"), &values)?;
        conn.rows(&later("workflow_runs", "not_before", "run"), &values)?;
    }
    Ok(())
}

/// When a run may begin that would at this time, as far as its secrets' balance goes.
pub(crate) fn held_until(
    conn: &mut Conn,
    scope: &Scope,
    terms: &Terms,
    wanted: Timestamp,
) -> StoreResult<Timestamp> {
    let rows: Vec<_> = terms.secrets.iter().map(|secret| binds![&*scope.tenant, secret]).collect();
    let held = conn.each(
        "WITH u(t, s) AS (@u) SELECT h.held_until FROM u JOIN secret_holds h ON h.tenant = u.t AND h.secret = u.s",
        &rows,
        &[],
    )?;
    held.into_iter().try_fold(wanted, |latest, mut row| Ok(latest.max(row.time()?)))
}

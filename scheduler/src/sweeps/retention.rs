//! `retention`: what was kept long enough goes: finished executions with all that is theirs,
//! what classic runs said, notes of commands, and records of passes.

use std::time::Duration;

use holdpoint_db::{DueScope, Family, Place, StoreResult, SweepReport};
use holdpoint_engine::time::Timestamp;
use tokio::time::Instant;

use super::Pass;

/// Transactions of one pass: rows that are left are the next pass's.
const ROUNDS: usize = 100;
/// How long a pass goes on: the other sweeps wait for it.
const LONGEST: Duration = Duration::from_secs(2);
/// Executions that are looked at in one statement.
const LOOKED_AT: usize = 500;
/// Executions, and lines of their journals, that go in one transaction; a larger family goes
/// alone.
const TOGETHER: usize = 100;
const LINES_TOGETHER: i64 = 20_000;
/// Conversations that go in one transaction.
const CONVERSATIONS: usize = 50;
/// Projects whose turn is taken at once.
const SCOPES: usize = 20;

pub(super) async fn run(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let default = pass.sweeper.settings.finished_kept();
    let mut removal = Removal::new(pass);
    if let Some(scope) = pass.scope.clone() {
        let due = pass.sweeper.db.hot(move |store| store.retention_due(&scope, default)).await??;
        if let Some(due) = due {
            removal.of_scope(due).await?;
        }
        return Ok(removal.report);
    }
    if !pass.dry_run {
        removal.report = notes(pass).await?;
    }
    while removal.may_go_on() {
        let turn = pass.sweeper.db.hot(move |store| store.retention_turn(default, SCOPES)).await??;
        for due in turn.due {
            removal.of_scope(due).await?;
        }
        if turn.is_last {
            break;
        }
    }
    if !removal.may_go_on() {
        pass.stop_short();
    }
    Ok(removal.report)
}

/// Notes of commands that were accepted, and records of passes.
async fn notes(pass: &Pass<'_>) -> StoreResult<SweepReport> {
    let (settings, limit) = (&pass.sweeper.settings, pass.limit);
    let (commands, sweeps) = (settings.commands_kept(), settings.sweeps_kept());
    let mut removed = 0;
    for _ in 0..ROUNDS {
        let work = move |store: &dyn holdpoint_db::Store| {
            Ok((store.commands_expire(commands, limit)?, store.sweeps_expire(sweeps, limit)?))
        };
        let (notes, records): (usize, usize) = pass.sweeper.db.hot(work).await??;
        removed += (notes + records) as i64;
        if notes < limit && records < limit {
            break;
        }
    }
    Ok(SweepReport { scanned: removed, cleaned_up: removed, ..SweepReport::default() })
}

/// What a pass has done with finished executions, and how far it may go on.
struct Removal<'a> {
    pass: &'a Pass<'a>,
    report: SweepReport,
    room: usize,
    rounds: usize,
    until: Instant,
}

impl<'a> Removal<'a> {
    fn new(pass: &'a Pass<'a>) -> Self {
        // Who asks for one project says how many; a tick's pass is bounded by its rounds.
        let room = if pass.scope.is_some() { pass.limit } else { pass.limit.saturating_mul(ROUNDS) };
        Self { pass, report: SweepReport::default(), room, rounds: ROUNDS, until: Instant::now() + LONGEST }
    }

    fn may_go_on(&self) -> bool {
        self.room > 0 && self.rounds > 0 && Instant::now() < self.until
    }

    /// One project, from its place on; the next pass begins where this one stopped.
    async fn of_scope(&mut self, mut due: DueScope) -> StoreResult<()> {
        let begun_at = due.place;
        while self.may_go_on() {
            self.rounds -= 1;
            let (asked, limit) = (due.clone(), LOOKED_AT.min(self.room));
            let before = due.before;
            let work = move |store: &dyn holdpoint_db::Store| {
                let walked = store.retention_walk(&asked, limit)?;
                Ok((store.retention_families(&walked.finished, before)?, walked.next))
            };
            let (families, next): (Vec<Family>, Option<Place>) = self.pass.sweeper.db.hot(work).await??;
            self.remove(families, before).await?;
            due.place = next;
            if next.is_none() {
                break;
            }
        }
        self.conversations(&due).await?;
        if self.pass.dry_run || due.place == begun_at {
            return Ok(());
        }
        let DueScope { scope, place, .. } = due;
        self.pass.sweeper.db.hot(move |store| store.retention_place(&scope, place)).await?
    }

    /// Those of classic runs, which no execution is left of.
    async fn conversations(&mut self, due: &DueScope) -> StoreResult<()> {
        while self.may_go_on() {
            self.rounds -= 1;
            let (due, limit, dry_run) = (due.clone(), CONVERSATIONS.min(self.room), self.pass.dry_run);
            let work = move |store: &dyn holdpoint_db::Store| match dry_run {
                true => store.said_count(&due, limit).map(|count| (count, 0)),
                false => store.said_remove(&due, limit),
            };
            let (looked_at, removed) = self.pass.sweeper.db.hot(work).await??;
            self.report.scanned += looked_at as i64;
            self.report.cleaned_up += removed as i64;
            if !dry_run {
                self.report.skipped += (looked_at - removed) as i64;
            }
            self.room = self.room.saturating_sub(looked_at);
            if looked_at < limit || dry_run {
                break;
            }
        }
        Ok(())
    }

    async fn remove(&mut self, families: Vec<Family>, before: Timestamp) -> StoreResult<()> {
        let count = families.iter().map(|family| family.members.len()).sum::<usize>();
        self.report.scanned += count as i64;
        self.room = self.room.saturating_sub(count);
        if self.pass.dry_run {
            return Ok(());
        }
        for together in parts(families) {
            if self.remove_together(together.clone(), before).await.is_ok() {
                continue;
            }
            // One that cannot go keeps no other: each alone.
            for family in together {
                self.remove_alone(family, before).await?;
            }
        }
        Ok(())
    }

    async fn remove_together(&mut self, families: Vec<Family>, before: Timestamp) -> StoreResult<()> {
        let count = families.iter().map(|family| family.members.len()).sum::<usize>() as i64;
        let removed =
            self.pass.sweeper.db.hot(move |store| store.retention_remove(&families, before)).await??;
        self.report.cleaned_up += removed as i64;
        self.report.skipped += count - removed as i64;
        Ok(())
    }

    async fn remove_alone(&mut self, family: Family, before: Timestamp) -> StoreResult<()> {
        let count = family.members.len() as i64;
        let first = family.members.first().cloned();
        match self.remove_together(vec![family], before).await {
            Err(error) if error.is_retryable() => Err(error),
            Err(error) => {
                self.report.failed += count;
                if let Some(key) = first {
                    tracing::error!(tenant = %key.scope.tenant, project = %key.scope.project,
                        execution = %key.id, %error, "a finished execution could not be removed");
                }
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }
}

/// What goes in one transaction each.
fn parts(families: Vec<Family>) -> Vec<Vec<Family>> {
    let mut parts: Vec<Vec<Family>> = Vec::new();
    let (mut members, mut lines) = (0, 0);
    for family in families {
        members += family.members.len();
        lines += family.lines;
        match parts.last_mut() {
            Some(part) if members <= TOGETHER && lines <= LINES_TOGETHER => part.push(family),
            _ => {
                (members, lines) = (family.members.len(), family.lines);
                parts.push(vec![family]);
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use holdpoint_engine::ids::ExecutionId;
    use holdpoint_engine::scope::Scope;
    use holdpoint_engine::wire::ExecutionKey;

    use super::*;

    fn family(members: usize, lines: i64) -> Family {
        let scope = Scope::new("acme", "shop");
        let id = ExecutionId(Default::default());
        let key = ExecutionKey { scope, id };
        Family { members: vec![key; members], lines }
    }

    #[test]
    fn transactions_are_bounded_by_executions_and_by_lines() {
        let sizes = |families: Vec<Family>| parts(families).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![]), Vec::<usize>::new());
        assert_eq!(sizes((0..250).map(|_| family(1, 3)).collect()), [100, 100, 50]);
        assert_eq!(sizes((0..4).map(|_| family(1, 9_000)).collect()), [2, 2]);
        assert_eq!(
            sizes(vec![family(1, 1), family(500, 1_500), family(1, 50_000), family(1, 1)]),
            [1, 1, 1, 1]
        );
    }
}

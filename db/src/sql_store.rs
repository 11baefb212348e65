//! The store on either database: which pool and which transaction each verb takes. What a
//! verb does stands in the file of its name.

use std::sync::Arc;
use std::time::Duration;

use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::{ApprovalId, ExecutionId, KeyId, ParkedId, SessionId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};

use crate::approval_decide::approval_decide_in_txn;
use crate::execution_act::execution_act_in_txn;
use crate::execution_claim as claim;
use crate::failpoint;
use crate::lease_reclaim::lease_reclaim_in_txn;
use crate::metrics::Metrics;
use crate::pool::Pool;
use crate::sqlite::Folder;
use crate::stale_expire::stale_expire_in_txn;
use crate::store::{Store, StoreResult};
use crate::types::*;
use crate::{
    Settings, approval_page, approvals, audit, child_repeat, children, commands, conversations, definitions,
    execution_commit, execution_create, executions, journal, keys, messages, parked, postgres, session,
    stats, sweeps,
};

/// Where the schema is brought up to date.
enum Home {
    Postgres(Settings),
    Sqlite(Folder),
}

/// The store.
pub(crate) struct SqlStore {
    home: Home,
    pub(crate) hot: Arc<Pool>,
    pub(crate) read: Arc<Pool>,
    metrics: Metrics,
}

impl SqlStore {
    /// Postgres: nothing is touched until the first call.
    pub(crate) fn postgres(settings: &Settings, registry: &prometheus::Registry) -> StoreResult<Self> {
        Self::with_pools(Home::Postgres(settings.clone()), postgres::pools(settings), registry)
    }

    /// SQLite: the folder is locked, the schema is brought up to date, older sessions end.
    pub(crate) fn sqlite(settings: &Settings, registry: &prometheus::Registry) -> StoreResult<Self> {
        let folder = Folder::lock(&settings.url)?;
        let ran = folder.migrate()?;
        folder.end_older_sessions()?;
        let pools = folder.pools(settings);
        let store = Self::with_pools(Home::Sqlite(folder), pools, registry)?;
        store.tell_of_migrations(&ran)?;
        Ok(store)
    }

    /// After them: the audit's own table is one of what they make.
    fn tell_of_migrations(&self, ran: &[String]) -> StoreResult<()> {
        let Some(last) = ran.last() else { return Ok(()) };
        self.hot.write(|conn| audit::migrated(conn, ran, last))
    }

    fn with_pools(
        home: Home,
        (hot, read): (Pool, Pool),
        registry: &prometheus::Registry,
    ) -> StoreResult<Self> {
        let (hot, read) = (Arc::new(hot), Arc::new(read));
        let pools = [("hot", Arc::clone(&hot)), ("read", Arc::clone(&read))];
        // The other pool only reads.
        let metrics = Metrics::register(registry, &pools, &hot.outcomes)?;
        Ok(Self { home, hot, read, metrics })
    }

    /// One transaction; `None` for what somebody else has locked, or, with `wait`, for what is
    /// not there.
    fn commit_all(&self, these: &[&Transition], wait: bool) -> StoreResult<Vec<Option<Committed>>> {
        self.hot.write_repeatable(|conn, _| execution_commit::execution_commit_in_txn(conn, these, wait))
    }

    /// What could not be locked at once is committed alone, one after the other.
    fn commit(&self, batch: &[Transition]) -> StoreResult<Vec<Committed>> {
        let mut answers = Vec::with_capacity(batch.len());
        let all: Vec<&Transition> = batch.iter().collect();
        for (transition, answer) in batch.iter().zip(self.commit_all(&all, false)?) {
            let late = match answer {
                Some(answer) => Some(answer),
                None => self.commit_all(&[transition], true)?.pop().flatten(),
            };
            answers.push(late.unwrap_or(Committed::Fenced));
        }
        Ok(answers)
    }

    fn count_fenced<'a>(&self, answers: impl Iterator<Item = &'a Committed>) {
        let fenced = answers.filter(|answer| **answer == Committed::Fenced).count();
        self.metrics.fenced.inc_by(fenced as u64);
    }
}

impl Store for SqlStore {
    fn now(&self) -> StoreResult<Timestamp> {
        self.read.with(session::now)
    }

    fn migrate(&self) -> StoreResult<Vec<String>> {
        let ran = match &self.home {
            Home::Postgres(settings) => postgres::migrate(settings)?,
            Home::Sqlite(folder) => folder.migrate()?,
        };
        self.tell_of_migrations(&ran)?;
        Ok(ran)
    }

    fn migrations_pending(&self) -> StoreResult<Vec<String>> {
        match &self.home {
            Home::Postgres(settings) => postgres::migrations_pending(settings),
            Home::Sqlite(folder) => folder.migrations_pending(),
        }
    }

    fn execution_create(&self, batch: &[NewExecution]) -> StoreResult<Vec<Created>> {
        self.metrics.batch("create", batch.len());
        let created = self.metrics.timed("execution_create", || {
            self.hot.write_repeatable(|conn, repeat| {
                execution_create::execution_create_in_txn(conn, batch, repeat)
            })
        })?;
        failpoint::hit("db.create.after");
        Ok(created)
    }

    fn execution_claim(&self, request: &ClaimRequest) -> StoreResult<Vec<Claimed>> {
        if request.limit == 0 {
            return Ok(Vec::new());
        }
        let claimed = self.metrics.timed("execution_claim", || {
            self.hot.write(|conn| claim::execution_claim_in_txn(conn, request))
        })?;
        if !claimed.is_empty() {
            self.metrics.batch("claim", claimed.len());
        }
        failpoint::hit("db.claim.after");
        Ok(claimed)
    }

    fn execution_commit(&self, batch: &[Transition]) -> StoreResult<Vec<Committed>> {
        failpoint::hit("db.commit.before");
        self.metrics.batch("commit", batch.len());
        let answers = self.metrics.timed("execution_commit", || self.commit(batch))?;
        self.count_fenced(answers.iter());
        failpoint::hit("db.commit.after");
        Ok(answers)
    }

    fn execution_commit_unlocked(&self, batch: &[Transition]) -> StoreResult<Vec<Option<Committed>>> {
        failpoint::hit("db.commit.before");
        self.metrics.batch("commit", batch.len());
        let all: Vec<&Transition> = batch.iter().collect();
        let answers = self.metrics.timed("execution_commit", || self.commit_all(&all, false))?;
        self.count_fenced(answers.iter().flatten());
        failpoint::hit("db.commit.after");
        Ok(answers)
    }

    fn execution_reload(
        &self,
        key: &ExecutionKey,
        session: SessionId,
        epoch: i64,
    ) -> StoreResult<Option<Claimed>> {
        self.hot.write(|conn| claim::execution_reload_in_txn(conn, key, session, epoch))
    }

    fn execution_release(&self, session: SessionId, keys: &[ExecutionKey]) -> StoreResult<()> {
        self.hot.write(|conn| claim::execution_release(conn, session, keys))
    }

    fn execution_act(
        &self,
        scope: &Scope,
        id: ExecutionId,
        act: &ActRequest,
        by: &str,
        end_user: Option<&str>,
    ) -> Result<Acted, ActError> {
        let key = ExecutionKey { scope: scope.clone(), id };
        self.hot.write(|conn| execution_act_in_txn(conn, &key, act, by, end_user))
    }

    fn child_relay(&self, child: &ExecutionKey) -> StoreResult<Option<Relayed>> {
        failpoint::hit("db.relay.before");
        self.hot.write(|conn| children::child_relay_in_txn(conn, child))
    }

    fn child_before(
        &self,
        parent: &ExecutionKey,
        first_run: ExecutionId,
        step: i32,
    ) -> StoreResult<Option<ExecutionRow>> {
        self.hot.with(|conn| child_repeat::child_before(conn, parent, first_run, step))
    }

    fn children_open(&self, parent: &ExecutionKey) -> StoreResult<Vec<ExecutionKey>> {
        self.hot.with(|conn| children::children_open(conn, parent))
    }

    fn inbox_read(&self, keys: &[ExecutionKey]) -> StoreResult<Vec<Inbox>> {
        self.hot.with(|conn| claim::inbox_read(conn, keys))
    }

    fn session_begin(&self, id: SessionId, name: &str, lease: Duration) -> StoreResult<Timestamp> {
        self.hot.with(|conn| session::session_begin(conn, id, name, lease))
    }

    fn session_beat(
        &self,
        id: SessionId,
        lease: Duration,
        held: &[(ExecutionKey, i64)],
    ) -> StoreResult<Beat> {
        self.metrics
            .timed("session_beat", || self.hot.with(|conn| session::session_beat(conn, id, lease, held)))
    }

    fn session_end(&self, id: SessionId) -> StoreResult<()> {
        self.hot.write(|conn| session::session_end_in_txn(conn, id))
    }

    fn approval_decide(&self, scope: &Scope, request: &DecideRequest) -> StoreResult<Decided> {
        self.hot.write(|conn| approval_decide_in_txn(conn, scope, request))
    }

    fn approval_page(&self, scope: &Scope, filter: &ApprovalFilter) -> StoreResult<ApprovalPage> {
        self.read.with(|conn| approval_page::approval_page(conn, scope, filter))
    }

    fn approval_list(&self, scope: &Scope, filter: &ApprovalFilter) -> StoreResult<Vec<ApprovalRow>> {
        self.read.with(|conn| approvals::approval_list(conn, scope, filter))
    }

    fn conversation_get(&self, scope: &Scope, id: &str) -> StoreResult<Option<ConversationRow>> {
        self.read.with(|conn| conversations::conversation_get(conn, scope, id))
    }

    fn conversation_say(&self, scope: &Scope, spoken: &Spoken) -> StoreResult<Said> {
        self.hot.write(|conn| conversations::conversation_say_in_txn(conn, scope, spoken))
    }

    fn message_list(&self, scope: &Scope, filter: &MessageFilter) -> StoreResult<Vec<MessageRow>> {
        self.read.with(|conn| messages::message_list(conn, scope, filter))
    }

    fn execution_get(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<ExecutionRow>> {
        self.read.with(|conn| executions::execution_get(conn, scope, id))
    }

    fn execution_page(&self, scope: &Scope, filter: &ExecutionFilter) -> StoreResult<ExecutionPage> {
        self.read.with(|conn| executions::execution_page(conn, scope, filter))
    }

    fn journal_read(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<Vec<Line>>> {
        self.read.with(|conn| journal::journal_read(conn, scope, id))
    }

    fn events_read(&self, requests: &[EventsRequest]) -> StoreResult<Vec<EventsPage>> {
        self.metrics.timed("events_read", || self.read.with(|conn| journal::events_read(conn, requests)))
    }

    fn definition_put(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        document: &str,
        by: &str,
    ) -> StoreResult<(DefinitionRow, bool)> {
        self.hot.write(|conn| definitions::definition_put_in_txn(conn, scope, kind, name, document, by))
    }

    fn definition_get(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        version: Option<i32>,
    ) -> StoreResult<Option<DefinitionRow>> {
        self.read.with(|conn| definitions::definition_get(conn, scope, kind, name, version))
    }

    fn definition_list(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<DefinitionRow>> {
        self.read.with(|conn| definitions::definition_list(conn, scope, kind, after, limit))
    }

    fn definition_versions(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
    ) -> StoreResult<Vec<DefinitionRow>> {
        self.read.with(|conn| definitions::definition_versions(conn, scope, kind, name))
    }

    fn definition_delete(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        by: &str,
    ) -> StoreResult<bool> {
        self.hot.write(|conn| definitions::definition_delete_in_txn(conn, scope, kind, name, by))
    }

    fn key_create(&self, key: &KeyRow, by: &str) -> StoreResult<()> {
        self.hot.write(|conn| keys::key_create_in_txn(conn, key, by))
    }

    fn key_get(&self, id: KeyId) -> StoreResult<Option<KeyRow>> {
        self.read.with(|conn| keys::key_get(conn, id))
    }

    fn key_list(&self, scope: Option<&Scope>) -> StoreResult<Vec<KeyRow>> {
        self.read.with(|conn| keys::key_list(conn, scope))
    }

    fn key_revoke(&self, scope: Option<&Scope>, id: KeyId, by: &str) -> StoreResult<bool> {
        self.hot.write(|conn| keys::key_revoke_in_txn(conn, scope, id, by))
    }

    fn tick_take(&self, kind: SweepKind, again: Duration) -> StoreResult<Option<Timestamp>> {
        self.hot.write(|conn| sweeps::tick_take_in_txn(conn, kind, again))
    }

    fn tick_close(&self, kind: SweepKind, period: Duration) -> StoreResult<()> {
        self.hot.write(|conn| sweeps::tick_close(conn, kind, period))
    }

    fn sweep_open(&self, start: &SweepStart) -> StoreResult<bool> {
        self.hot.write(|conn| sweeps::sweep_open(conn, start))
    }

    fn sweep_close(&self, start: &SweepStart, report: &SweepReport, keep: bool) -> StoreResult<()> {
        self.hot.write(|conn| sweeps::sweep_close_in_txn(conn, start, report, keep))
    }

    fn sweep_list(&self, scope: &Scope, limit: usize) -> StoreResult<Vec<SweepRow>> {
        self.read.with(|conn| sweeps::sweep_list(conn, scope, limit))
    }

    fn sweep_select(&self, select: &SweepSelect, limit: usize) -> StoreResult<Vec<ExecutionKey>> {
        self.read.with(|conn| sweeps::sweep_select(conn, select, limit))
    }

    fn stale_expire(&self, key: &ExecutionKey, timeout: Option<Duration>) -> StoreResult<Swept> {
        self.hot.write(|conn| stale_expire_in_txn(conn, key, timeout))
    }

    fn lease_reclaim(&self, key: &ExecutionKey, max_lost: i32) -> StoreResult<Swept> {
        self.hot.write(|conn| lease_reclaim_in_txn(conn, key, max_lost))
    }

    fn command_decide(
        &self,
        scope: &Scope,
        command: &CommandKey,
        request: &DecideRequest,
    ) -> StoreResult<Commanded<Decided>> {
        self.hot.write(|conn| commands::command_decide_in_txn(conn, scope, command, request))
    }

    fn command_act(
        &self,
        key: &ExecutionKey,
        command: &CommandKey,
        act: &ActRequest,
        by: &str,
        end_user: Option<&str>,
    ) -> Result<Commanded<Acted>, ActError> {
        self.hot.write(|conn| commands::command_act_in_txn(conn, key, command, act, by, end_user))
    }

    fn command_attempt(&self, message: &str) -> StoreResult<i32> {
        self.hot.write(|conn| commands::command_attempt(conn, message))
    }

    fn command_settled(&self, message: &str) -> StoreResult<()> {
        self.hot.write(|conn| commands::command_settled(conn, message))
    }

    fn commands_expire(&self, kept: Duration, limit: usize) -> StoreResult<usize> {
        self.hot.write(|conn| commands::commands_expire(conn, kept, limit))
    }

    fn parked_add(&self, message: &ParkedMessage) -> StoreResult<()> {
        self.hot.write(|conn| parked::parked_add(conn, message))
    }

    fn parked_list(&self, scope: Option<&Scope>, filter: &ParkedFilter) -> StoreResult<Vec<ParkedMessage>> {
        self.read.with(|conn| parked::parked_list(conn, scope, filter))
    }

    fn parked_get(&self, scope: Option<&Scope>, id: ParkedId) -> StoreResult<Option<ParkedMessage>> {
        self.read.with(|conn| parked::parked_get(conn, scope, id))
    }

    fn parked_remove(
        &self,
        scope: Option<&Scope>,
        id: ParkedId,
        how: Unparked,
        by: &str,
    ) -> StoreResult<bool> {
        self.hot.write(|conn| parked::parked_remove_in_txn(conn, scope, id, how, by))
    }

    fn stats(&self) -> StoreResult<Stats> {
        self.read.with(stats::stats)
    }

    fn approval_get(&self, scope: &Scope, id: ApprovalId) -> StoreResult<Option<ApprovalRow>> {
        self.read.with(|conn| approvals::approval_get(conn, scope, id))
    }
}

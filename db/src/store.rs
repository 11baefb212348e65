//! The store: whole transactions, synchronous, called on threads made for it.

use std::time::Duration;

use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::{ApprovalId, ExecutionId, KeyId, ParkedId, SessionId};
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::DefinitionKind;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};

use crate::audit_store::AuditStore;
use crate::event_store::EventStore;
use crate::grant_store::GrantStore;
use crate::limit_store::LimitStore;
use crate::policy_store::PolicyStore;
use crate::retention_store::RetentionStore;
use crate::schedule_store::ScheduleStore;
use crate::standing_store::StandingStore;
use crate::trial_store::TrialStore;
use crate::types::*;
use crate::workflow_store::WorkflowStore;

/// What every method answers, unless it says more.
pub type StoreResult<T> = Result<T, StoreError>;

/// Whole transactions. Every change of an execution locks its row first, or is one guarded
/// statement on it. Batches answer item by item, in the order given.
pub trait Store:
    AuditStore
    + EventStore
    + LimitStore
    + PolicyStore
    + GrantStore
    + RetentionStore
    + ScheduleStore
    + StandingStore
    + TrialStore
    + WorkflowStore
{
    /// The database's time; also the check that it answers.
    fn now(&self) -> StoreResult<Timestamp>;
    /// Brings the schema up to date; the names of the migrations that ran.
    fn migrate(&self) -> StoreResult<Vec<String>>;
    /// The names of migrations that are still to run.
    fn migrations_pending(&self) -> StoreResult<Vec<String>>;

    /// Commits starts; see [`Created`].
    fn execution_create(&self, batch: &[NewExecution]) -> StoreResult<Vec<Created>>;
    /// Takes leases: hinted ones first, then the oldest ready. An expired session gets none.
    /// An execution that lost two leases since its last commit is a suspect: at most one
    /// suspect is handed out in the cluster at a time.
    fn execution_claim(&self, request: &ClaimRequest) -> StoreResult<Vec<Claimed>>;
    /// Commits transitions; at most one for an execution in a batch. Every commit that lands
    /// sets `lost` to 0. After a lost connection the row is read again: a transition of ours
    /// that landed is `Done`.
    fn execution_commit(&self, batch: &[Transition]) -> StoreResult<Vec<Committed>>;
    /// The same for what nobody else has locked, without waiting; `None` for the others.
    fn execution_commit_unlocked(&self, batch: &[Transition]) -> StoreResult<Vec<Option<Committed>>>;
    /// Loads the journal (without deltas), seq and event of an execution that the session
    /// holds; `None` if it does not hold it any more.
    fn execution_reload(
        &self,
        key: &ExecutionKey,
        session: SessionId,
        epoch: i64,
    ) -> StoreResult<Option<Claimed>>;
    /// Gives leases back without a commit: ready at once. Those that are not ours are left.
    fn execution_release(&self, session: SessionId, keys: &[ExecutionKey]) -> StoreResult<()>;
    /// Cancel, pause, resume, resolve, signals and reports of workers elsewhere: at once where
    /// nobody holds it, else into its inbox.
    fn execution_act(
        &self,
        scope: &Scope,
        id: ExecutionId,
        act: &ActRequest,
        by: &str,
        end_user: Option<&str>,
    ) -> Result<Acted, ActError>;
    /// Tells a child's parent what it was not told yet: questions, answers, the end. `None`
    /// where there is nothing to tell, or no parent.
    fn child_relay(&self, child: &ExecutionKey) -> StoreResult<Option<Relayed>>;
    /// The children whose end their parent was not told.
    fn children_open(&self, parent: &ExecutionKey) -> StoreResult<Vec<ExecutionKey>>;
    /// The child of a step in the latest run that this one repeats.
    fn child_before(
        &self,
        parent: &ExecutionKey,
        first_run: ExecutionId,
        step: i32,
    ) -> StoreResult<Option<ExecutionRow>>;
    /// The acts on held executions that are not journaled yet.
    fn inbox_read(&self, keys: &[ExecutionKey]) -> StoreResult<Vec<Inbox>>;

    /// Begins a session with a lease of this length.
    fn session_begin(&self, id: SessionId, name: &str, lease: Duration) -> StoreResult<Timestamp>;
    /// Extends the lease of all that the session holds, in one statement. `held` carries the
    /// counter of acts that was last seen.
    fn session_beat(&self, id: SessionId, lease: Duration, held: &[(ExecutionKey, i64)])
    -> StoreResult<Beat>;
    /// Ends a session: what it still holds is ready at once.
    fn session_end(&self, id: SessionId) -> StoreResult<()>;

    /// Decides; judged in the contract's order under the lock of the execution's row.
    fn approval_decide(&self, scope: &Scope, request: &DecideRequest) -> StoreResult<Decided>;
    /// A page of a project's approvals, oldest first.
    fn approval_page(&self, scope: &Scope, filter: &ApprovalFilter) -> StoreResult<ApprovalPage>;
    /// The inbox, oldest first.
    fn approval_list(&self, scope: &Scope, filter: &ApprovalFilter) -> StoreResult<Vec<ApprovalRow>>;

    /// One conversation.
    fn conversation_get(&self, scope: &Scope, id: &str) -> StoreResult<Option<ConversationRow>>;
    /// Writes messages at a conversation's end, whether or not an execution is active in it.
    fn conversation_say(&self, scope: &Scope, spoken: &Spoken) -> StoreResult<Said>;
    /// Messages of a conversation.
    fn message_list(&self, scope: &Scope, filter: &MessageFilter) -> StoreResult<Vec<MessageRow>>;
    /// One execution.
    fn execution_get(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<ExecutionRow>>;
    /// A page, newest first.
    fn execution_page(&self, scope: &Scope, filter: &ExecutionFilter) -> StoreResult<ExecutionPage>;
    /// Its rows.
    fn execution_list(&self, scope: &Scope, filter: &ExecutionFilter) -> StoreResult<Vec<ExecutionRow>> {
        Ok(self.execution_page(scope, filter)?.rows)
    }
    /// The whole journal without deltas; `None` where there is no such execution.
    fn journal_read(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<Vec<Line>>>;
    /// Events for many streams in one statement.
    fn events_read(&self, requests: &[EventsRequest]) -> StoreResult<Vec<EventsPage>>;

    /// Puts a document: the same as the latest is the same version. Answers the row and
    /// whether it is new. A deleted name is in use again, with the next version.
    fn definition_put(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        document: &str,
        by: &str,
    ) -> StoreResult<(DefinitionRow, bool)>;
    /// A version, or the latest of a name in use. A named version is found after deletion too.
    fn definition_get(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        version: Option<i32>,
    ) -> StoreResult<Option<DefinitionRow>>;
    /// The latest versions of all names in use after `after`, by name.
    fn definition_list(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        after: Option<&str>,
        limit: usize,
    ) -> StoreResult<Vec<DefinitionRow>>;
    /// All versions of a name in use, newest first; empty where there is no such name.
    fn definition_versions(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
    ) -> StoreResult<Vec<DefinitionRow>>;
    /// Takes a name out of use; running executions keep their version.
    fn definition_delete(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        by: &str,
    ) -> StoreResult<bool>;

    /// Stores a new key. `by`, here and below, is who does it, for the audit.
    fn key_create(&self, key: &KeyRow, by: &str) -> StoreResult<()>;
    /// Finds a key, revoked and expired ones too.
    fn key_get(&self, id: KeyId) -> StoreResult<Option<KeyRow>>;
    /// All keys of a scope (or of all), newest first.
    fn key_list(&self, scope: Option<&Scope>) -> StoreResult<Vec<KeyRow>>;
    /// Revokes; `false` where there is no such key in the scope (or at all).
    fn key_revoke(&self, scope: Option<&Scope>, id: KeyId, by: &str) -> StoreResult<bool>;

    /// Takes a due tick to emit: `due_at` of the tick, or `None`. A tick that was emitted is
    /// taken again only after `again`, as long as no pass has closed it.
    fn tick_take(&self, kind: SweepKind, again: Duration) -> StoreResult<Option<Timestamp>>;
    /// Closes the tick of a pass: the next is due a `period` from now.
    fn tick_close(&self, kind: SweepKind, period: Duration) -> StoreResult<()>;
    /// Records a pass; `false` if one of this id has finished.
    fn sweep_open(&self, start: &SweepStart) -> StoreResult<bool>;
    /// Ends a pass. With `keep` false the record is removed (empty passes of timers and retries).
    fn sweep_close(&self, start: &SweepStart, report: &SweepReport, keep: bool) -> StoreResult<()>;
    /// Past passes, newest first: those of the scope, and those over all.
    fn sweep_list(&self, scope: &Scope, limit: usize) -> StoreResult<Vec<SweepRow>>;
    /// The rows that a sweep looks at, oldest first, at most `limit`.
    fn sweep_select(&self, select: &SweepSelect, limit: usize) -> StoreResult<Vec<ExecutionKey>>;
    /// Fails one execution whose approval expired, if it still is so: `failed`,
    /// `approval_timeout`, metadata merged with `failure_reason` and `timed_out_at`.
    fn stale_expire(&self, key: &ExecutionKey, timeout: Option<Duration>) -> StoreResult<Swept>;
    /// Takes one execution from an expired session: ready again, `lost` raised; a lone
    /// suspect that lost `max_lost` leases fails as `stuck`.
    fn lease_reclaim(&self, key: &ExecutionKey, max_lost: i32) -> StoreResult<Swept>;

    /// Decides, and notes the command that asked for it in the same transaction.
    fn command_decide(
        &self,
        scope: &Scope,
        command: &CommandKey,
        request: &DecideRequest,
    ) -> StoreResult<Commanded<Decided>>;
    /// Acts, and notes the command that asked for it in the same transaction.
    fn command_act(
        &self,
        key: &ExecutionKey,
        command: &CommandKey,
        act: &ActRequest,
        by: &str,
        end_user: Option<&str>,
    ) -> Result<Commanded<Acted>, ActError>;
    /// Counts one more attempt of a message that came back; how many there were, with this one.
    fn command_attempt(&self, message: &str) -> StoreResult<i32>;
    /// Forgets the attempts of a message that is settled.
    fn command_settled(&self, message: &str) -> StoreResult<()>;
    /// Removes notes of commands, and attempts, that are older than `kept`, at most `limit` of
    /// each; how many.
    fn commands_expire(&self, kept: Duration, limit: usize) -> StoreResult<usize>;

    /// Parks a message; the same id again is the same message.
    fn parked_add(&self, message: &ParkedMessage) -> StoreResult<()>;
    /// Parked messages without their bodies, newest first: of a scope, or all of them.
    fn parked_list(&self, scope: Option<&Scope>, filter: &ParkedFilter) -> StoreResult<Vec<ParkedMessage>>;
    /// One parked message: of a scope, or any.
    fn parked_get(&self, scope: Option<&Scope>, id: ParkedId) -> StoreResult<Option<ParkedMessage>>;
    /// Removes a parked message; `false` where there is no such one in the scope (or at all).
    fn parked_remove(
        &self,
        scope: Option<&Scope>,
        id: ParkedId,
        how: Unparked,
        by: &str,
    ) -> StoreResult<bool>;

    /// What gauges show.
    fn stats(&self) -> StoreResult<Stats>;
    /// One approval by its own id.
    fn approval_get(&self, scope: &Scope, id: ApprovalId) -> StoreResult<Option<ApprovalRow>>;
}

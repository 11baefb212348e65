//! A store of rows in memory.

use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use holdpoint_db::*;
use holdpoint_engine::entry::Line;
use holdpoint_engine::ids::{ApprovalId, ExecutionId, KeyId, ParkedId, SessionId};
use holdpoint_engine::outside::Refusal;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, RunType, Status};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::transcript;
use holdpoint_engine::wire::{ExecutionKey, SweepKind};

pub struct Execution {
    pub row: ExecutionRow,
    pub lines: Vec<Line>,
    pub idempotency: Option<Idempotency>,
}

#[derive(Default)]
pub struct State {
    pub away: bool,
    pub broken: bool,
    pub keys: Vec<KeyRow>,
    pub executions: Vec<Execution>,
    pub approvals: Vec<ApprovalRow>,
    pub definitions: Vec<DefinitionRow>,
    pub acts: Vec<ActRequest>,
    pub sweeps: Vec<SweepStart>,
    pub parked: Vec<ParkedMessage>,
    pub key_reads: usize,
    pub event_reads: usize,
    pub event_settings: Vec<(Scope, EventSettings)>,
    pub limits: Vec<(Scope, LimitRow)>,
    pub backlog: i64,
    /// How long a start takes.
    pub slow: Duration,
}

#[derive(Default)]
pub struct Rows(Mutex<State>);

impl Rows {
    /// The rows, to look at and to change.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub fn here(&self) -> StoreResult<MutexGuard<'_, State>> {
        let state = self.state();
        match (state.away, state.broken) {
            (true, _) => Err(StoreError::Unavailable("10.0.0.7: insides".to_owned())),
            (_, true) => Err(StoreError::Refused("SELECT insides".to_owned())),
            _ => Ok(state),
        }
    }
}

pub fn now() -> Timestamp {
    Timestamp::from_micros(1_800_000_000_000_000)
}

pub fn not_here<T>() -> StoreResult<T> {
    Err(StoreError::Refused("not a part of these tests".to_owned()))
}

impl State {
    fn create(&mut self, new: &NewExecution) -> Created {
        let given = new.idempotency.as_ref();
        let same = self.executions.iter().find(|execution| {
            let keys = execution.idempotency.as_ref().and_then(|of| of.key.clone());
            execution.row.key == new.key
                || (execution.row.key.scope == new.key.scope
                    && keys.is_some()
                    && keys == given.and_then(|of| of.key.clone()))
        });
        if let Some(same) = same {
            let digest = same.idempotency.as_ref().map(|of| &of.body_digest);
            if digest != given.map(|of| &of.body_digest) {
                return Created::Mismatch;
            }
            return Created::Existing { id: same.row.key.id, status: same.row.status };
        }
        let known =
            new.name == "holdpoint.noop" || self.definition(&new.key.scope, &new.name, new.version).is_some();
        if !known {
            return Created::UnknownDefinition;
        }
        if let Conversation::Named(id) = &new.conversation {
            let busy = self.executions.iter().find(|execution| {
                execution.row.conversation_id.as_ref() == Some(id) && !execution.row.status.is_terminal()
            });
            if let Some(busy) = busy {
                return Created::ConversationBusy { active: busy.row.key.id };
            }
        }
        let row = row(new);
        self.executions.push(Execution { row, lines: Vec::new(), idempotency: new.idempotency.clone() });
        Created::New { key: new.key.clone(), version: 1, created_at: now() }
    }

    fn definition(&self, scope: &Scope, name: &str, version: Option<i32>) -> Option<DefinitionRow> {
        let prefix = format!("{scope}/");
        let found = self.definitions.iter().rev().find(|row| {
            row.name == format!("{prefix}{name}") && version.is_none_or(|version| version == row.version)
        });
        found.cloned().map(|row| DefinitionRow { name: name.to_owned(), ..row })
    }

    pub fn execution(&mut self, scope: &Scope, id: ExecutionId) -> Option<&mut Execution> {
        self.executions
            .iter_mut()
            .find(|execution| execution.row.key == ExecutionKey { scope: scope.clone(), id })
    }

    fn decide(&mut self, scope: &Scope, request: &DecideRequest) -> Decided {
        let approval = self.approvals.iter_mut().find(|row| {
            row.key.scope == *scope
                && row.key.id == request.execution
                && row.tool_call_id == request.tool_call_id
        });
        let Some(approval) = approval else { return Decided::NotFound };
        let decision = ApprovalStatus::of_decision(request.approved);
        match approval.status {
            status if status == decision => Decided::Already(approval.clone()),
            status if status.is_decided() => Decided::Conflict(approval.clone()),
            ApprovalStatus::Pending => {
                if request.digest.as_ref().is_some_and(|digest| *digest != approval.digest) {
                    return Decided::DigestMismatch(approval.clone());
                }
                approval.status = decision;
                approval.reason.clone_from(&request.reason);
                approval.edited_arguments.clone_from(&request.arguments);
                approval.decided_by = Some(request.by.key.clone());
                approval.decided_at = Some(now());
                let acted = Acted {
                    status: Status::Suspended,
                    new_event: Some(9),
                    tell: Tell::Workers,
                    related: false,
                };
                Decided::Taken { approval: approval.clone(), acted }
            }
            _ => Decided::Closed(approval.clone()),
        }
    }
}

fn row(new: &NewExecution) -> ExecutionRow {
    let conversation_id = match &new.conversation {
        Conversation::None => None,
        Conversation::Made(id) | Conversation::Named(id) => Some(id.clone()),
    };
    ExecutionRow {
        parent: None,
        files: new.extras.files.clone(),
        priority: new.extras.priority,
        key: new.key.clone(),
        status: Status::Queued,
        reason: None,
        last_event: 0,
        kind: new.kind,
        name: new.name.clone(),
        version: 1,
        conversation_id,
        end_user: new.end_user.clone(),
        run_type: RunType::Production,
        retry_of: None,
        attempt: 1,
        input: new.input.clone(),
        messages: new.messages.clone(),
        output: None,
        error: None,
        usage: Default::default(),
        metadata: new.metadata.clone(),
        labels: new.labels.clone(),
        created_at: now(),
        started_at: None,
        updated_at: now(),
        finished_at: None,
        pending_approvals: 0,
    }
}

impl Store for Rows {
    fn now(&self) -> StoreResult<Timestamp> {
        self.here().map(|_| now())
    }

    fn migrate(&self) -> StoreResult<Vec<String>> {
        not_here()
    }

    fn migrations_pending(&self) -> StoreResult<Vec<String>> {
        self.here().map(|_| Vec::new())
    }

    fn execution_create(&self, batch: &[NewExecution]) -> StoreResult<Vec<Created>> {
        let slow = self.state().slow;
        std::thread::sleep(slow);
        let mut state = self.here()?;
        Ok(batch.iter().map(|new| state.create(new)).collect())
    }

    fn execution_claim(&self, _: &ClaimRequest) -> StoreResult<Vec<Claimed>> {
        not_here()
    }

    fn execution_commit(&self, _: &[Transition]) -> StoreResult<Vec<Committed>> {
        not_here()
    }

    fn execution_commit_unlocked(&self, _: &[Transition]) -> StoreResult<Vec<Option<Committed>>> {
        not_here()
    }

    fn execution_reload(&self, _: &ExecutionKey, _: SessionId, _: i64) -> StoreResult<Option<Claimed>> {
        not_here()
    }

    fn execution_release(&self, _: SessionId, _: &[ExecutionKey]) -> StoreResult<()> {
        not_here()
    }

    fn execution_act(
        &self,
        scope: &Scope,
        id: ExecutionId,
        act: &ActRequest,
        _: &str,
        end_user: Option<&str>,
    ) -> Result<Acted, ActError> {
        let mut state = self.here()?;
        state.acts.push(act.clone());
        let execution = state.execution(scope, id).ok_or(ActError::NotFound)?;
        if end_user.is_some() && execution.row.end_user.as_deref() != end_user {
            return Err(ActError::NotFound);
        }
        if execution.row.status.is_terminal() {
            return Err(ActError::Terminal(execution.row.status));
        }
        match act {
            ActRequest::Resolve { step: 1, .. } => Err(Refusal::NotUnknown { step: 1 }.into()),
            ActRequest::Resolve { step: 2, .. } => {
                Err(Refusal::NotSettled { step: 2, settled_at: now() }.into())
            }
            ActRequest::Cancel => {
                execution.row.status = Status::Cancelled;
                Ok(Acted {
                    status: Status::Cancelled,
                    new_event: Some(1),
                    tell: Tell::Nobody,
                    related: false,
                })
            }
            _ => {
                Ok(Acted { status: Status::Suspended, new_event: None, tell: Tell::Workers, related: false })
            }
        }
    }

    fn child_relay(&self, _: &ExecutionKey) -> StoreResult<Option<Relayed>> {
        Ok(None)
    }

    fn child_before(&self, _: &ExecutionKey, _: ExecutionId, _: i32) -> StoreResult<Option<ExecutionRow>> {
        Ok(None)
    }

    fn children_open(&self, _: &ExecutionKey) -> StoreResult<Vec<ExecutionKey>> {
        Ok(Vec::new())
    }

    fn inbox_read(&self, _: &[ExecutionKey]) -> StoreResult<Vec<Inbox>> {
        not_here()
    }

    fn session_begin(&self, _: SessionId, _: &str, _: Duration) -> StoreResult<Timestamp> {
        not_here()
    }

    fn session_beat(&self, _: SessionId, _: Duration, _: &[(ExecutionKey, i64)]) -> StoreResult<Beat> {
        not_here()
    }

    fn session_end(&self, _: SessionId) -> StoreResult<()> {
        not_here()
    }

    fn approval_decide(&self, scope: &Scope, request: &DecideRequest) -> StoreResult<Decided> {
        Ok(self.here()?.decide(scope, request))
    }

    fn approval_page(&self, scope: &Scope, filter: &ApprovalFilter) -> StoreResult<ApprovalPage> {
        let mut rows =
            self.approval_list(scope, &ApprovalFilter { limit: filter.limit + 1, ..filter.clone() })?;
        let more = rows.len() > filter.limit;
        rows.truncate(filter.limit);
        let next = rows.last().filter(|_| more).map(|row| (row.requested_at, row.id));
        Ok(ApprovalPage { rows, next })
    }

    fn approval_list(&self, scope: &Scope, filter: &ApprovalFilter) -> StoreResult<Vec<ApprovalRow>> {
        let state = self.here()?;
        let fits = |row: &&ApprovalRow| {
            row.key.scope == *scope
                && filter.status.is_none_or(|status| status == row.status)
                && filter.execution.is_none_or(|id| id == row.key.id)
                && filter.conversation_id.as_ref().is_none_or(|id| row.conversation_id.as_ref() == Some(id))
                && filter.after.is_none_or(|(at, id)| (row.requested_at, row.id) > (at, id))
        };
        Ok(state.approvals.iter().filter(fits).take(filter.limit).cloned().collect())
    }

    fn conversation_get(&self, scope: &Scope, id: &str) -> StoreResult<Option<ConversationRow>> {
        let state = self.here()?;
        let of = |execution: &&Execution| {
            execution.row.key.scope == *scope && execution.row.conversation_id.as_deref() == Some(id)
        };
        let active = state.executions.iter().find(|one| of(one) && !one.row.status.is_terminal());
        let latest = state.executions.iter().rfind(of).map(|one| one.row.key.id);
        Ok(state.executions.iter().find(of).map(|first| ConversationRow {
            id: id.to_owned(),
            end_user: first.row.end_user.clone(),
            active: active.map(|one| one.row.key.id),
            agent: None,
            active_agent: None,
            latest,
            created_at: first.row.created_at,
        }))
    }

    fn conversation_say(&self, _: &Scope, _: &Spoken) -> StoreResult<Said> {
        not_here()
    }

    fn message_list(&self, scope: &Scope, filter: &MessageFilter) -> StoreResult<Vec<MessageRow>> {
        let state = self.here()?;
        let mut said = Vec::new();
        for row in state.executions.iter().map(|execution| &execution.row) {
            if row.key.scope != *scope || row.conversation_id.as_ref() != Some(&filter.conversation) {
                continue;
            }
            for message in transcript::start_messages(row.messages.as_deref(), row.input.as_deref()) {
                let n = said.len() as i64 + 1;
                let (execution, message) = (Some(row.key.id), message.to_string());
                said.push(MessageRow { n, message_id: None, execution, message, at: row.created_at });
            }
        }
        said.retain(|one| one.n > filter.after);
        if let Some(role) = &filter.newest_of {
            said.retain(|one| one.message.contains(&format!("\"role\":\"{role}\"")));
            said.reverse();
        }
        said.truncate(filter.limit);
        Ok(said)
    }

    fn execution_get(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<ExecutionRow>> {
        Ok(self.here()?.execution(scope, id).map(|execution| execution.row.clone()))
    }

    fn execution_page(&self, scope: &Scope, filter: &ExecutionFilter) -> StoreResult<ExecutionPage> {
        let state = self.here()?;
        let fits = |row: &&ExecutionRow| {
            row.key.scope == *scope
                && filter.status.is_none_or(|status| status == row.status)
                && filter.conversation_id.as_ref().is_none_or(|id| row.conversation_id.as_ref() == Some(id))
                && (filter.end_user.is_none() || filter.end_user == row.end_user)
                && filter.labels.iter().all(|(key, value)| row.labels.get(key) == Some(value))
                && filter.after.is_none_or(|(_, id)| row.key.id < id)
        };
        let mut rows: Vec<ExecutionRow> =
            state.executions.iter().map(|execution| &execution.row).filter(fits).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.key.id));
        let more = rows.len() > filter.limit;
        rows.truncate(filter.limit);
        let next = rows.last().filter(|_| more).map(|row| (row.created_at, row.key.id));
        Ok(ExecutionPage { rows, next })
    }

    fn journal_read(&self, scope: &Scope, id: ExecutionId) -> StoreResult<Option<Vec<Line>>> {
        Ok(self.here()?.execution(scope, id).map(|execution| execution.lines.clone()))
    }

    fn events_read(&self, requests: &[EventsRequest]) -> StoreResult<Vec<EventsPage>> {
        let mut state = self.here()?;
        state.event_reads += 1;
        let read = |request: &EventsRequest| {
            let Some(execution) = state.execution(&request.key.scope, request.key.id) else {
                return EventsPage { head: None, lines: Vec::new() };
            };
            let head = EventsHead {
                status: execution.row.status,
                last_event: execution.row.last_event,
                end_user: execution.row.end_user.clone(),
            };
            let lines =
                execution.lines.iter().filter(|line| line.event > Some(request.after)).take(request.limit);
            EventsPage { head: Some(head), lines: lines.cloned().collect() }
        };
        Ok(requests.iter().map(read).collect())
    }

    fn definition_put(
        &self,
        scope: &Scope,
        kind: DefinitionKind,
        name: &str,
        document: &str,
        by: &str,
    ) -> StoreResult<(DefinitionRow, bool)> {
        let mut state = self.here()?;
        let latest = state.definition(scope, name, None);
        if let Some(latest) = latest.clone().filter(|latest| latest.document == document) {
            return Ok((latest, false));
        }
        let row = DefinitionRow {
            kind,
            name: name.to_owned(),
            version: latest.map_or(1, |latest| latest.version + 1),
            label: None,
            document: document.to_owned(),
            digest: "d".to_owned(),
            created_by: by.to_owned(),
            created_at: now(),
        };
        state.definitions.push(DefinitionRow { name: format!("{scope}/{name}"), ..row.clone() });
        Ok((row, true))
    }

    fn definition_get(
        &self,
        scope: &Scope,
        _: DefinitionKind,
        name: &str,
        version: Option<i32>,
    ) -> StoreResult<Option<DefinitionRow>> {
        Ok(self.here()?.definition(scope, name, version))
    }

    fn definition_list(
        &self,
        scope: &Scope,
        _: DefinitionKind,
        _: Option<&str>,
        _: usize,
    ) -> StoreResult<Vec<DefinitionRow>> {
        let state = self.here()?;
        let prefix = format!("{scope}/");
        Ok(state.definitions.iter().filter(|row| row.name.starts_with(&prefix)).cloned().collect())
    }

    fn definition_versions(
        &self,
        scope: &Scope,
        _: DefinitionKind,
        name: &str,
    ) -> StoreResult<Vec<DefinitionRow>> {
        Ok(self.here()?.definition(scope, name, None).into_iter().collect())
    }

    fn definition_delete(&self, scope: &Scope, _: DefinitionKind, name: &str, _: &str) -> StoreResult<bool> {
        let mut state = self.here()?;
        let before = state.definitions.len();
        state.definitions.retain(|row| row.name != format!("{scope}/{name}"));
        Ok(state.definitions.len() < before)
    }

    fn key_create(&self, key: &KeyRow, _: &str) -> StoreResult<()> {
        self.here()?.keys.push(key.clone());
        Ok(())
    }

    fn key_get(&self, id: KeyId) -> StoreResult<Option<KeyRow>> {
        let mut state = self.here()?;
        state.key_reads += 1;
        Ok(state.keys.iter().find(|key| key.id == id).cloned())
    }

    fn key_list(&self, scope: Option<&Scope>) -> StoreResult<Vec<KeyRow>> {
        let state = self.here()?;
        Ok(state.keys.iter().filter(|key| scope.is_none_or(|scope| key.scope == *scope)).cloned().collect())
    }

    fn key_revoke(&self, scope: Option<&Scope>, id: KeyId, _: &str) -> StoreResult<bool> {
        let mut state = self.here()?;
        let mine = |key: &&mut KeyRow| key.id == id && scope.is_none_or(|scope| key.scope == *scope);
        let key = state.keys.iter_mut().find(mine);
        let found = key.is_some();
        if let Some(key) = key {
            key.revoked_at = Some(now());
        }
        Ok(found)
    }

    fn tick_take(&self, _: SweepKind, _: Duration) -> StoreResult<Option<Timestamp>> {
        not_here()
    }

    fn tick_close(&self, _: SweepKind, _: Duration) -> StoreResult<()> {
        not_here()
    }

    fn sweep_open(&self, start: &SweepStart) -> StoreResult<bool> {
        self.here()?.sweeps.push(start.clone());
        Ok(true)
    }

    fn sweep_close(&self, _: &SweepStart, _: &SweepReport, _: bool) -> StoreResult<()> {
        Ok(())
    }

    fn sweep_list(&self, scope: &Scope, limit: usize) -> StoreResult<Vec<SweepRow>> {
        let state = self.here()?;
        let fits = |start: &&SweepStart| start.scope.as_ref().is_none_or(|of| of == scope);
        let shown = |start: &SweepStart| SweepRow {
            start: start.clone(),
            started_at: now(),
            finished_at: None,
            report: SweepReport::default(),
        };
        Ok(state.sweeps.iter().filter(fits).take(limit).map(shown).collect())
    }

    fn sweep_select(&self, _: &SweepSelect, _: usize) -> StoreResult<Vec<ExecutionKey>> {
        Ok(Vec::new())
    }

    fn stale_expire(&self, _: &ExecutionKey, _: Option<Duration>) -> StoreResult<Swept> {
        not_here()
    }

    fn lease_reclaim(&self, _: &ExecutionKey, _: i32) -> StoreResult<Swept> {
        not_here()
    }

    fn parked_add(&self, message: &ParkedMessage) -> StoreResult<()> {
        self.here()?.parked.push(message.clone());
        Ok(())
    }

    fn parked_list(&self, scope: Option<&Scope>, filter: &ParkedFilter) -> StoreResult<Vec<ParkedMessage>> {
        let state = self.here()?;
        let fits = |row: &&ParkedMessage| {
            scope.is_none_or(|scope| row.scope.as_ref() == Some(scope))
                && filter.code.as_ref().is_none_or(|code| *code == row.code)
                && filter.after.is_none_or(|(at, id)| (row.parked_at, row.id) < (at, id))
        };
        let mut rows: Vec<ParkedMessage> = state.parked.iter().filter(fits).cloned().collect();
        rows.sort_by_key(|row| std::cmp::Reverse((row.parked_at, row.id)));
        rows.truncate(filter.limit);
        Ok(rows.into_iter().map(|row| ParkedMessage { body: None, ..row }).collect())
    }

    fn parked_get(&self, scope: Option<&Scope>, id: ParkedId) -> StoreResult<Option<ParkedMessage>> {
        let of = |row: &&ParkedMessage| row.id == id && (scope.is_none() || row.scope.as_ref() == scope);
        Ok(self.here()?.parked.iter().find(of).cloned())
    }

    fn parked_remove(&self, scope: Option<&Scope>, id: ParkedId, _: Unparked, _: &str) -> StoreResult<bool> {
        let mut state = self.here()?;
        let before = state.parked.len();
        state.parked.retain(|row| row.id != id || (scope.is_some() && row.scope.as_ref() != scope));
        Ok(state.parked.len() < before)
    }

    fn command_decide(
        &self,
        _: &Scope,
        _: &CommandKey,
        _: &DecideRequest,
    ) -> StoreResult<Commanded<Decided>> {
        not_here()
    }

    fn command_act(
        &self,
        _: &ExecutionKey,
        _: &CommandKey,
        _: &ActRequest,
        _: &str,
        _: Option<&str>,
    ) -> Result<Commanded<Acted>, ActError> {
        Ok(not_here()?)
    }

    fn command_attempt(&self, _: &str) -> StoreResult<i32> {
        not_here()
    }

    fn command_settled(&self, _: &str) -> StoreResult<()> {
        not_here()
    }

    fn commands_expire(&self, _: Duration, _: usize) -> StoreResult<usize> {
        not_here()
    }

    fn stats(&self) -> StoreResult<Stats> {
        self.here().map(|_| Stats::default())
    }

    fn approval_get(&self, _: &Scope, _: ApprovalId) -> StoreResult<Option<ApprovalRow>> {
        not_here()
    }
}

//! One execution while a worker holds it: decide, commit, perform, take in, until it is
//! suspended, over, or no longer ours. No trip through the broker between steps.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use holdpoint_db::{
    ApprovalChange, Claimed, Committed, Ending, Extras, Inbox, StoreError, Target, Transition, failpoint,
};
use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::client_time::ClientTime;
use holdpoint_engine::definition::Definition;
use holdpoint_engine::effect::{Act, Effect, Input};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{ApprovalClosed, ApprovalRequested, Entry};
use holdpoint_engine::outside;
use holdpoint_engine::policy::BY_TIMEOUT;
use holdpoint_engine::run::{Run, Step, StepState};
use holdpoint_engine::status::{DefinitionKind, Reason, Status};
use holdpoint_engine::team::Team;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::transcript;
use holdpoint_perform::{Forwarded, Origin};
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;
use tracing::field::Empty;

use crate::Worker;
use crate::definitions::Missing;
use crate::evaluator::OfDecision;
use crate::grants;
use crate::session::{Held, Session};
use crate::spans::Spans;

/// Takes an execution as far as it goes.
pub(crate) async fn drive(worker: Arc<Worker>, session: Arc<Session>, claimed: Claimed) {
    let key = claimed.key.clone();
    let span = tracing::info_span!(
        "execution", tenant = %key.scope.tenant, project = %key.scope.project, id = %key.id, trace_id = Empty
    );
    let held = session.hold(&key, claimed.wake);
    if let Err(left) = take_on(&worker, &session, held, claimed).instrument(span.clone()).await {
        let _entered = span.enter();
        left.tell(&worker);
    }
    session.let_go(&key);
}

/// Why an execution was left before it was suspended or over.
enum Left {
    /// The lease is gone: nothing of it may be done any more.
    Fenced,
    /// The worker leaves, or cannot go on here: the lease was given back.
    Released,
    /// The store could not be reached until the lease ran out.
    Unavailable(String),
}

impl Left {
    /// The word in traces.
    fn word(&self) -> &'static str {
        match self {
            Left::Fenced => "fenced",
            Left::Released => "released",
            Left::Unavailable(_) => "unavailable",
        }
    }

    fn tell(&self, worker: &Worker) {
        match self {
            Left::Fenced => {
                worker.metrics.fenced.inc();
                tracing::warn!("dropped: another holds it");
            }
            Left::Released => tracing::debug!("given back"),
            Left::Unavailable(error) => tracing::error!(%error, "dropped: the database cannot be reached"),
        }
    }
}

async fn take_on(
    worker: &Arc<Worker>,
    session: &Arc<Session>,
    held: Arc<Held>,
    claimed: Claimed,
) -> Result<(), Left> {
    let entropy = Entropy::from_seed(getrandom::u64().unwrap_or_default());
    let (events, results) = mpsc::channel(64);
    let definition = worker.definitions.of(&claimed).await;
    let run = Run::fold(&claimed.lines, claimed.seq, claimed.event);
    let mut drive = Drive {
        worker,
        session,
        held,
        entropy,
        began: claimed.lines.first().map_or_else(|| session.now(), |line| line.at),
        epoch: claimed.epoch,
        wake: claimed.wake,
        acts_taken: Vec::new(),
        pinned: Arc::new(pinned(&claimed)),
        run: Run::default(),
        calls: JoinSet::new(),
        requests: HashMap::new(),
        starts: HashMap::new(),
        events,
        results,
        early: Vec::new(),
        key: claimed.key.clone(),
        extras: claimed.extras.clone(),
        forwarded: forwarded(&claimed),
        spans: Spans::begin(&claimed, &worker.settings.name),
    };
    if let Some(spans) = &drive.spans {
        tracing::Span::current().record("trace_id", spans.trace_id());
    }
    let rest = match (definition, run) {
        (Ok((definition, team)), Ok(run)) => {
            if let Some(pinned) = Arc::get_mut(&mut drive.pinned) {
                pinned.definition = definition;
                pinned.team = team;
            }
            drive.run = run;
            let given_up = given_up(&claimed);
            let mut inputs = vec![Input::Claimed];
            inputs.extend(drive.take_acts(claimed.acts));
            match drive.end_children(given_up).await {
                Ok(()) => drive.until_rest(inputs).await,
                Err(left) => Err(left),
            }
        }
        (Err(Missing::Unavailable(error)), _) => {
            tracing::warn!(%error, "no definition now");
            drive.release().await
        }
        (Err(Missing::Unreadable(message)), run) => drive.give_up(run.ok(), &claimed, message).await,
        (_, Err(corrupt)) => drive.give_up(None, &claimed, corrupt.to_string()).await,
    };
    if let Some(spans) = drive.spans.take() {
        spans.end(drive.run.ended, rest.as_ref().err().map(Left::word));
    }
    rest
}

/// A start or a publication that was broken off would leave what nobody knows of.
fn may_break_off(effect: &Effect) -> bool {
    matches!(effect, Effect::Request(_) | Effect::OpenApi(_) | Effect::McpRequest(_))
}

fn pinned(claimed: &Claimed) -> Pinned {
    let extras = claimed.extras.as_ref();
    let parent = extras.and_then(|extras| extras.parent.as_ref());
    Pinned {
        team: Team::default(),
        active_agent: extras.and_then(|extras| extras.active_agent.clone()),
        depth: parent.map_or(0, |parent| parent.depth),
        id: claimed.key.id,
        first_run: claimed.first_run,
        kind: claimed.kind,
        name: claimed.name.clone(),
        version: claimed.version,
        definition: Arc::new(Definition::Noop { steps: 0 }),
        messages: messages(claimed),
        input: input(claimed),
        end_user: claimed.end_user.clone(),
        files: extras
            .map(|extras| extras.files.iter().map(ToString::to_string).collect())
            .unwrap_or_default(),
        client_time: client_time(claimed),
    }
}

/// Steps that were given up while somebody else had it: their children may still be at work.
fn given_up(claimed: &Claimed) -> Vec<i32> {
    let kinds = ["task.cancelled", "task.failed"];
    let lines = claimed.lines.iter().filter(|line| kinds.contains(&line.kind.as_str()));
    lines.map(|line| line.step).collect()
}

/// The user's own time; one that an earlier version took and this one cannot read is not told.
fn client_time(claimed: &Claimed) -> Option<ClientTime> {
    let time = claimed.extras.as_ref()?.client_time.as_ref()?;
    ClientTime::read(&time.timestamp, &time.timezone)
}

/// The caller's headers for tools, as they are kept: they are opened where they are sent.
fn forwarded(claimed: &Claimed) -> Forwarded {
    let sealed = claimed.extras.as_ref().and_then(|extras| extras.sealed_headers.as_deref());
    sealed.map_or(Forwarded::None, |sealed| Forwarded::Sealed(sealed.into()))
}

/// What was said before in its conversation, then what it was started with.
fn messages(claimed: &Claimed) -> Vec<serde_json::Value> {
    let history = claimed.history.iter().filter_map(|message| serde_json::from_str(message).ok());
    let own = transcript::start_messages(claimed.messages.as_deref(), claimed.input.as_deref());
    history.chain(own).collect()
}

/// What a workflow was started with; an agent's input is among its messages.
fn input(claimed: &Claimed) -> serde_json::Value {
    let workflow = claimed.input.as_deref().filter(|_| claimed.kind == DefinitionKind::Workflow);
    workflow.and_then(|input| serde_json::from_str(input).ok()).unwrap_or_default()
}

struct Drive<'a> {
    worker: &'a Arc<Worker>,
    session: &'a Arc<Session>,
    held: Arc<Held>,
    key: holdpoint_engine::wire::ExecutionKey,
    forwarded: Forwarded,
    pinned: Arc<Pinned>,
    run: Run,
    entropy: Entropy,
    began: Timestamp,
    epoch: i64,
    /// The counter of acts that was seen.
    wake: i64,
    /// Inbox rows that were taken in and are removed by the next commit.
    acts_taken: Vec<i64>,
    /// What only some executions have.
    extras: Option<Extras>,
    /// Where somebody follows its trace.
    spans: Option<Spans>,
    /// Calls under way; dropped with the drive, which ends them.
    calls: JoinSet<()>,
    /// By step, those that may be broken off: what they reach is not ours.
    requests: HashMap<i32, AbortHandle>,
    /// By step, when the start of a child is answered.
    starts: HashMap<i32, CancellationToken>,
    events: mpsc::Sender<Input>,
    results: mpsc::Receiver<Input>,
    /// Results that came while something else was waited for.
    early: Vec<Input>,
}

impl Drive<'_> {
    /// The loop of the whole crate: decide, commit, perform, take in.
    async fn until_rest(&mut self, mut inputs: Vec<Input>) -> Result<(), Left> {
        loop {
            let late = self.late_children(&inputs);
            let kept = kept(&self.run, &inputs);
            let decided = self.decide(inputs);
            self.end_children(late).await?;
            inputs = match self.commit(&decided).await? {
                Outcome::Refused(tool_call_id) => {
                    self.reload().await?;
                    // What was taken in with the refused lines, or is the reason why they were.
                    let acts = self.read_inbox().await?;
                    kept.into_iter().chain(acts).chain([Input::GateRefused { tool_call_id }]).collect()
                }
                Outcome::Done { released } => {
                    self.perform(decided.effects);
                    match decided.next {
                        Next::End => return Ok(()),
                        Next::Suspend { .. } if released => return Ok(()),
                        Next::Release => return self.release().await,
                        Next::Again | Next::Wait { .. } if !self.early.is_empty() => {
                            std::mem::take(&mut self.early)
                        }
                        Next::Again => self.look_around().await?,
                        Next::Suspend { .. } => self.read_inbox().await?,
                        Next::Wait { until } => self.wait(until).await?,
                    }
                }
            };
        }
    }

    fn decide(&mut self, inputs: Vec<Input>) -> Advance {
        let evaluator = OfDecision::new(self.worker.evaluator.as_ref(), &self.key.scope.tenant);
        let context = Context {
            now: self.session.now(),
            entropy: &mut self.entropy,
            limits: &self.worker.limits,
            draining: self.worker.stop.is_cancelled(),
            evaluator: &evaluator,
        };
        let (pinned, run) = (&self.pinned, &mut self.run);
        // Evaluating expressions blocks; other tasks of this thread go on elsewhere.
        let blocks = pinned.evaluates() && Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
        if blocks {
            return tokio::task::block_in_place(|| advance(pinned, run, inputs, context));
        }
        advance(pinned, run, inputs, context)
    }

    async fn commit(&mut self, decided: &Advance) -> Result<Outcome, Left> {
        if decided.entries.is_empty() {
            return Ok(Outcome::Done { released: false });
        }
        let mut transition = self.transition(decided);
        transition.grants = grants::offers(self.worker, &self.key, &self.pinned, &decided.entries).await;
        self.count(&decided.entries);
        match self.land(transition).await? {
            Committed::Done { wake, released } => {
                if let Some(spans) = &mut self.spans {
                    spans.committed(&decided.entries);
                }
                self.count_expired(&decided.entries);
                self.tell_family(&decided.entries).await?;
                if wake != self.wake && !released {
                    // An act came meanwhile: look into the inbox without waiting for its message.
                    self.held.woken.notify_one();
                }
                Ok(Outcome::Done { released })
            }
            Committed::Fenced => Err(Left::Fenced),
            Committed::GateRefused { tool_call_id } => Ok(Outcome::Refused(tool_call_id)),
        }
    }

    /// A parent hears of questions, answers and the end; children, of the end.
    async fn tell_family(&mut self, entries: &[Entry]) -> Result<(), Left> {
        let news = entries.iter().any(|entry| {
            matches!(
                entry,
                Entry::ApprovalRequested(_) | Entry::ApprovalDecided(_) | Entry::ApprovalClosed(_)
            )
        });
        let status = self.run.ended.unwrap_or(Status::Running);
        if self.extras.is_some() && (news || status.is_terminal()) {
            self.worker.relay.after(self.key.clone(), status).await;
        }
        let given_up: Vec<i32> = entries.iter().filter(|entry| entry.gives_up()).map(Entry::step).collect();
        for step in &given_up {
            self.requests.remove(step).iter().for_each(AbortHandle::abort);
        }
        self.starts_over(&given_up).await;
        self.end_children(given_up).await
    }

    /// A child of a step that the execution goes on without is not waited for by anybody: it is
    /// ended while we have the lease, or by whoever has that next. Children of an execution that is
    /// over are the sweep's.
    async fn end_children(&self, steps: Vec<i32>) -> Result<(), Left> {
        if steps.is_empty() {
            return Ok(());
        }
        failpoint::hit("worker.children.before");
        let mut pause = Duration::from_millis(50);
        while let Err(error) = self.worker.relay.cancel_steps(&self.key, &steps).await {
            tracing::warn!(%error, "children of cancelled steps were not cancelled");
            if self.run.ended.is_some() || !error.is_retryable() {
                break;
            }
            tokio::select! {
                () = self.session.lost.cancelled() => return Err(Left::Unavailable(error.to_string())),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
            }
        }
        Ok(())
    }

    /// Waits until the starts of these steps' children are answered: one that is under way would
    /// leave a child behind that is not there to be cancelled yet.
    async fn starts_over(&mut self, steps: &[i32]) {
        for step in steps {
            let Some(start) = self.starts.remove(step) else { continue };
            loop {
                tokio::select! {
                    () = start.cancelled() => break,
                    () = self.session.lost.cancelled() => return,
                    Some(input) = self.results.recv() => self.early.push(input),
                }
            }
        }
    }

    /// Steps whose child began after they were cancelled.
    fn late_children(&self, inputs: &[Input]) -> Vec<i32> {
        let late = inputs.iter().filter_map(|input| match input {
            Input::Delegated { step, .. } => Some(*step),
            _ => None,
        });
        late.filter(|step| self.run.steps.get(step).is_some_and(Step::is_done)).collect()
    }

    fn transition(&mut self, decided: &Advance) -> Transition {
        let expected_seq = self.run.seq;
        let now = self.session.now();
        Transition {
            key: self.key.clone(),
            session: self.session.id,
            epoch: self.epoch,
            expected_seq,
            seen_wake: self.wake,
            lines: self.run.number(&decided.entries, now),
            last_event: self.run.event,
            gates: decided.gates.clone(),
            approvals: decided.entries.iter().filter_map(approval_change).collect(),
            grants: Vec::new(),
            unheard: decided.unheard.clone(),
            acts_taken: std::mem::take(&mut self.acts_taken),
            usage: self.run.usage,
            definition: (self.pinned.name.clone(), self.pinned.version),
            target: target(&decided.next, &decided.entries, &self.run),
        }
    }

    /// Commits, again and again while the store cannot be reached and the lease may be ours.
    /// A transition may have landed although nobody told us: then the guard refuses the
    /// next try, and the row says so.
    async fn land(&self, transition: Transition) -> Result<Committed, Left> {
        let landed_seq = transition.expected_seq + transition.lines.len() as i64;
        let mut tried = false;
        let mut pause = Duration::from_millis(50);
        loop {
            let error = match self.worker.db.commit(transition.clone()).await {
                Ok(Committed::Fenced) if tried => {
                    return match self.load().await? {
                        Some(row) if row.seq == landed_seq => {
                            Ok(Committed::Done { wake: row.wake, released: false })
                        }
                        _ => Err(Left::Fenced),
                    };
                }
                Ok(committed) => return Ok(committed),
                Err(error) => error,
            };
            if !error.is_retryable() {
                return self.refused(error).await;
            }
            tried = true;
            tokio::select! {
                () = self.session.lost.cancelled() => return Err(Left::Unavailable(error.to_string())),
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
            }
        }
    }

    /// A transition that the database refuses for good would be refused for ever: the
    /// execution fails, so that somebody sees it.
    async fn refused(&self, error: StoreError) -> Result<Committed, Left> {
        tracing::error!(%error, "a transition was refused");
        let Some(row) = self.load().await? else { return Err(Left::Fenced) };
        let run = Run::fold(&row.lines, row.seq, row.event).ok();
        fail(self, run, &row, "what was to be written was refused by the database".to_owned()).await?;
        Err(Left::Released)
    }

    /// The row as it stands, if it is still ours.
    async fn load(&self) -> Result<Option<Claimed>, Left> {
        let mut pause = Duration::from_millis(50);
        loop {
            let (key, session, epoch) = (self.key.clone(), self.session.id, self.epoch);
            let answer = self.worker.db.hot(move |store| store.execution_reload(&key, session, epoch)).await;
            match answer.and_then(|row| row) {
                Ok(row) => return Ok(row),
                Err(error) if !error.is_retryable() => return Err(Left::Unavailable(error.to_string())),
                Err(error) => tokio::select! {
                    () = self.session.lost.cancelled() => return Err(Left::Unavailable(error.to_string())),
                    () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(1)),
                },
            }
        }
    }

    /// Forgets what was decided since the last commit.
    async fn reload(&mut self) -> Result<(), Left> {
        let row = self.load().await?.ok_or(Left::Fenced)?;
        self.run = Run::fold(&row.lines, row.seq, row.event)
            .map_err(|corrupt| Left::Unavailable(corrupt.to_string()))?;
        Ok(())
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let origin = Origin {
                key: self.key.clone(),
                events: self.events.clone(),
                forwarded: self.forwarded.clone(),
            };
            let (worker, session) = (Arc::clone(self.worker), Arc::clone(self.session));
            let extras = self.extras.clone().unwrap_or_default();
            let span = tracing::info_span!("effect", step = effect.step());
            let traced =
                self.spans.as_ref().map(|spans| spans.step(&effect, self.run.steps.get(&effect.step())));
            let (step, breaks) = (effect.step(), may_break_off(&effect));
            let tool = self.limited_tool(&effect);
            let started = self.starting(&effect);
            let call = self.calls.spawn(
                async move {
                    let _started = started;
                    crate::perform::perform(&worker, session, effect, tool, extras, origin, traced).await
                }
                .instrument(span),
            );
            if breaks {
                self.requests.insert(step, call);
            }
        }
    }

    /// What says when the start of a child is answered.
    fn starting(&mut self, effect: &Effect) -> Option<DropGuard> {
        if !matches!(effect, Effect::Child(_) | Effect::Delegate(_)) {
            return None;
        }
        self.starts.retain(|_, start| !start.is_cancelled());
        let start = CancellationToken::new();
        self.starts.insert(effect.step(), start.clone());
        Some(start.drop_guard())
    }

    /// The tool that it calls, where there are limits; a question about a call is none.
    fn limited_tool(&self, effect: &Effect) -> Option<String> {
        if !self.worker.limited.load(Ordering::Relaxed) || matches!(effect, Effect::Reconcile(_)) {
            return None;
        }
        Some(self.run.steps.get(&effect.step())?.tool()?.tool.clone())
    }

    /// Waits for whatever comes first: results, an act, the time, the end of the lease.
    async fn wait(&mut self, until: Option<Timestamp>) -> Result<Vec<Input>, Left> {
        let due = until.map(|at| self.session.now().until(at));
        tokio::select! {
            biased;
            () = self.session.lost.cancelled() => Err(Left::Fenced),
            () = self.held.gone.cancelled() => Err(Left::Fenced),
            () = self.worker.hurry.cancelled() => {
                self.calls.abort_all();
                self.release().await.map(|()| Vec::new())
            }
            Some(first) = self.results.recv() => Ok(self.all_results(first)),
            () = self.held.woken.notified() => self.read_inbox().await,
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => Ok(Vec::new()),
            () = self.worker.stop.cancelled(), if self.calls.is_empty() => Ok(Vec::new()),
        }
    }

    fn all_results(&mut self, first: Input) -> Vec<Input> {
        let mut inputs = vec![first];
        while let Ok(more) = self.results.try_recv() {
            inputs.push(more);
        }
        // Ended tasks are only bookkeeping: their results came by the channel.
        while self.calls.try_join_next().is_some() {}
        inputs
    }

    /// Between two pure steps: an act that came is taken in, nothing is waited for.
    async fn look_around(&mut self) -> Result<Vec<Input>, Left> {
        if self.session.lost.is_cancelled() || self.held.gone.is_cancelled() {
            return Err(Left::Fenced);
        }
        tokio::select! {
            biased;
            () = self.held.woken.notified() => self.read_inbox().await,
            () = std::future::ready(()) => Ok(Vec::new()),
        }
    }

    async fn read_inbox(&mut self) -> Result<Vec<Input>, Left> {
        let keys = vec![self.key.clone()];
        let answer = self.worker.db.hot(move |store| store.inbox_read(&keys)).await.and_then(|inbox| inbox);
        match answer {
            Ok(inboxes) => Ok(inboxes.into_iter().flat_map(|inbox| self.take_inbox(inbox)).collect()),
            Err(error) => {
                // The heartbeat brings it again: the counter is still another than was seen.
                tracing::warn!(%error, "the inbox could not be read");
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok(Vec::new())
            }
        }
    }

    fn take_inbox(&mut self, inbox: Inbox) -> Vec<Input> {
        self.wake = inbox.wake;
        self.session.saw(&self.key, inbox.wake);
        self.take_acts(inbox.acts)
    }

    fn take_acts(&mut self, acts: Vec<(i64, Act)>) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (n, act) in acts {
            if !self.acts_taken.contains(&n) {
                self.acts_taken.push(n);
                inputs.push(Input::Act(act));
            }
        }
        inputs
    }

    /// Gives the lease back: ready at once, for whoever comes.
    async fn release<T>(&self) -> Result<T, Left> {
        let (session, keys) = (self.session.id, vec![self.key.clone()]);
        let answer = self.worker.db.hot(move |store| store.execution_release(session, &keys)).await;
        if let Ok(Err(error)) | Err(error) = answer {
            tracing::warn!(%error, "not given back; the lease runs out");
        }
        Err(Left::Released)
    }

    /// What cannot be read fails, so that somebody sees it.
    async fn give_up(&mut self, run: Option<Run>, claimed: &Claimed, message: String) -> Result<(), Left> {
        tracing::error!(%message, "an execution cannot be gone on with");
        fail(self, run, claimed, message).await
    }

    fn count(&self, entries: &[Entry]) {
        let metrics = &self.worker.metrics;
        for entry in entries {
            match entry {
                Entry::AttemptFailed(_) => metrics.retries.inc(),
                Entry::ExecutionSuspended(body) => {
                    metrics.suspended.with_label_values(&[body.reason.as_str()]).inc();
                }
                Entry::ExecutionCompleted(_) | Entry::ExecutionFailed(_) | Entry::ExecutionCancelled(_) => {
                    self.count_end();
                }
                _ => {}
            }
        }
    }

    /// Questions of a workflow that nobody decided in time; an agent's are counted by their sweep.
    fn count_expired(&self, entries: &[Entry]) {
        if self.pinned.kind == DefinitionKind::Workflow {
            let expired = entries.iter().filter(|entry| entry.tells_expiry()).count();
            self.worker.sweeper.count_expired(expired);
        }
    }

    fn count_end(&self) {
        let lasted = self.began.until(self.session.now()).as_secs_f64();
        self.worker.metrics.execution_seconds.with_label_values(&[self.pinned.kind.as_str()]).observe(lasted);
    }
}

/// What is taken in anew where the store refuses what came of it: nobody brings a result twice. Acts
/// come again from the inbox; where nothing can be refused, nothing is kept.
pub fn kept(run: &Run, inputs: &[Input]) -> Vec<Input> {
    let may_be_refused = |step: &Step| match step.state {
        StepState::Asking | StepState::Awaiting { .. } => true,
        StepState::Done { .. } => false,
        _ => step.tool().is_some_and(|work| work.gate.is_some()),
    };
    if !run.steps.values().any(may_be_refused) {
        return Vec::new();
    }
    inputs.iter().filter(|input| !matches!(input, Input::Act(_))).cloned().collect()
}

enum Outcome {
    Done { released: bool },
    Refused(String),
}

/// Ends an execution with an internal error, by a guarded write like any other.
async fn fail(drive: &Drive<'_>, run: Option<Run>, row: &Claimed, message: String) -> Result<(), Left> {
    let mut run = run.unwrap_or_else(|| Run::unread(row.seq, row.event));
    let entries = outside::fail(&run, Reason::Internal, message);
    let transition = Transition {
        key: row.key.clone(),
        session: drive.session.id,
        epoch: row.epoch,
        expected_seq: row.seq,
        seen_wake: row.wake,
        lines: run.number(&entries, drive.session.now()),
        last_event: run.event,
        gates: Vec::new(),
        approvals: entries.iter().filter_map(approval_change).collect(),
        grants: Vec::new(),
        unheard: None,
        acts_taken: Vec::new(),
        usage: run.usage,
        definition: (row.name.clone(), row.version),
        target: target(&Next::End, &entries, &run),
    };
    match drive.worker.db.commit(transition).await {
        Ok(Committed::Done { .. }) => {
            drive.count(&entries);
            Ok(())
        }
        Ok(_) => Err(Left::Fenced),
        Err(error) => {
            tracing::error!(%error, "the failure could not be written");
            drive.release().await
        }
    }
}

/// What a line does to the rows of approvals.
pub fn approval_change(entry: &Entry) -> Option<ApprovalChange> {
    match entry {
        // A child's approvals are its own.
        Entry::ApprovalRequested(ApprovalRequested { delegated_by: Some(_), .. })
        | Entry::ApprovalClosed(ApprovalClosed { delegated_by: Some(_), .. }) => None,
        Entry::ApprovalRequested(body) => Some(ApprovalChange::Open(Box::new(body.clone()))),
        Entry::ApprovalClosed(body) => {
            Some(ApprovalChange::Close { call_id: body.tool_call_id.clone(), status: body.status })
        }
        Entry::ApprovalEscalated(body) => Some(ApprovalChange::Escalate {
            call_id: body.tool_call_id.clone(),
            at: body.escalated_at,
            expires_at: body.expires_at,
        }),
        // What a person decided is written by whoever took it.
        Entry::ApprovalDecided(body) if body.decided_by == BY_TIMEOUT && body.delegated_by.is_none() => {
            Some(ApprovalChange::Deny { call_id: body.tool_call_id.clone(), at: body.decided_at })
        }
        _ => None,
    }
}

/// Where the row goes, told by the last line where it is an end.
pub fn target(next: &Next, entries: &[Entry], run: &Run) -> Target {
    let active_agent = run.speaker.as_ref().map(|member| member.agent.clone());
    let messages = if *next == Next::End { transcript::complete_messages(run) } else { Vec::new() };
    match (next, entries.last()) {
        (Next::Suspend { reason, ready_at }, _) => Target::Suspended { reason: *reason, ready_at: *ready_at },
        (Next::End, Some(Entry::ExecutionCompleted(body))) => Target::Ended(Ending {
            status: Status::Completed,
            reason: None,
            error: None,
            output: Some(body.output.get().to_owned()),
            messages,
            active_agent,
        }),
        (Next::End, Some(Entry::ExecutionFailed(body))) => Target::Ended(Ending {
            status: Status::Failed,
            reason: Some(body.reason),
            error: Some(body.error.clone()),
            output: None,
            messages,
            active_agent,
        }),
        (Next::End, Some(Entry::ExecutionCancelled(body))) => Target::Ended(Ending {
            status: Status::Cancelled,
            reason: Some(body.reason),
            error: None,
            output: None,
            messages,
            active_agent,
        }),
        _ => Target::Running,
    }
}

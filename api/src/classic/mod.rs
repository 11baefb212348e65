//! Classic runs: the engine's loop without a journal, in this process, for as long as
//! somebody reads it. Nothing of a run is kept but the messages of one that ended well; a run
//! that is dropped is cancelled, and its calls with it.
//!
//! The lines that an execution would commit are handed to the reader instead. What only a
//! journal could carry on with (a decision, an outcome that nobody knows) ends the run.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use holdpoint_db::Spoken;
use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::effect::{Effect, Input};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{Entry, ExecutionFailed};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::outside;
use holdpoint_engine::run::Run;
use holdpoint_engine::status::{ApprovalStatus, DefinitionKind, ErrorType, Failure, Reason};
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_engine::workflow::expression::NoEvaluator;
use holdpoint_perform::{Forwarded, Origin};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::app::App;
use crate::auth::Caller;
use crate::chat::{Begun, Mode, Turn, check_message_id, made_conversation_id};
use crate::clock;
use crate::problem::{Answer, Code, Problem};

mod keep;
mod load;

use keep::Before;

pub use load::Loaded;

/// What a reader gets next.
pub enum Step {
    /// An event.
    Event(Box<Entry>),
    /// Nothing for a while.
    Quiet,
}

/// One run.
pub struct Classic {
    app: Arc<App>,
    caller: Caller,
    key: ExecutionKey,
    forwarded: Forwarded,
    /// What the turn adds to its conversation when it ends well.
    spoken: Spoken,
    pinned: Pinned,
    run: Run,
    entropy: Entropy,
    /// Calls under way; dropped with the run, which ends them.
    calls: JoinSet<()>,
    events: mpsc::Sender<Input>,
    results: mpsc::Receiver<Input>,
    told: VecDeque<Box<Entry>>,
    next: Next,
    /// The error of the last call whose outcome nobody knows.
    unknown: Option<Failure>,
}

impl Classic {
    /// A run of this agent for the turn's messages, after what was said before; it begins when
    /// it is first read.
    fn new(app: &Arc<App>, caller: &Caller, loaded: Loaded, turn: &Turn, before: Before) -> Answer<Self> {
        let id = app.ids.make(ExecutionId::new);
        let seed = clock::seed().map_err(|_| Problem::internal())?;
        let own = turn.messages.iter().map(|new| serde_json::from_str(new.message.get()));
        let messages = turn.messages.iter().map(|new| (new.id.clone(), new.message.get().to_owned()));
        let spoken = Spoken {
            conversation: turn.conversation.clone().unwrap_or_else(|| made_conversation_id(id)),
            end_user: caller.end_user.clone(),
            agent: loaded.name.clone(),
            active_agent: None,
            messages: messages.collect(),
        };
        let pinned = Pinned {
            end_user: None,
            id,
            first_run: id,
            kind: DefinitionKind::Agent,
            name: loaded.name,
            version: loaded.version,
            definition: loaded.definition,
            team: loaded.team,
            active_agent: before.active_agent,
            depth: 0,
            input: serde_json::Value::Null,
            files: Vec::new(),
            client_time: turn.client_time(),
            messages: before
                .said
                .into_iter()
                .map(Ok)
                .chain(own)
                .collect::<Result<_, _>>()
                .map_err(|_| Problem::internal())?,
        };
        let (events, results) = mpsc::channel(64);
        app.metrics.streams.inc();
        Ok(Self {
            app: Arc::clone(app),
            caller: caller.clone(),
            forwarded: turn.open_headers(),
            spoken,
            key: ExecutionKey { scope: caller.scope.clone(), id },
            pinned,
            run: Run::default(),
            entropy: Entropy::from_seed(seed),
            calls: JoinSet::new(),
            events,
            results,
            told: VecDeque::new(),
            next: Next::Again,
            unknown: None,
        })
    }

    /// What its calls are made in the name of. It names no row.
    pub fn key(&self) -> &ExecutionKey {
        &self.key
    }

    /// The next event; `None` after the end, and where this process stops before it.
    pub async fn next(&mut self) -> Option<Step> {
        loop {
            if let Some(entry) = self.told.pop_front() {
                return Some(Step::Event(self.kept(entry).await));
            }
            let inputs = match self.next.clone() {
                Next::End | Next::Release => return None,
                Next::Again => Vec::new(),
                Next::Wait { until } => match self.wait(until).await {
                    Waited::For(inputs) => inputs,
                    Waited::Quiet => return Some(Step::Quiet),
                    Waited::Stopped => return None,
                },
                Next::Suspend { reason: Reason::Retry, ready_at } => match self.wait(ready_at).await {
                    Waited::For(inputs) => inputs,
                    Waited::Quiet => return Some(Step::Quiet),
                    Waited::Stopped => return None,
                },
                Next::Suspend { reason, .. } => {
                    self.cannot_wait(reason);
                    continue;
                }
            };
            self.decide(inputs);
        }
    }

    /// The end is told once the conversation has the answer.
    async fn kept(&self, entry: Box<Entry>) -> Box<Entry> {
        if !matches!(*entry, Entry::ExecutionCompleted(_)) {
            return entry;
        }
        match keep::keep(&self.app, &self.caller, &self.spoken, &self.run).await {
            Ok(()) => entry,
            Err(error) => {
                Box::new(Entry::ExecutionFailed(ExecutionFailed { reason: error.kind.reason(), error }))
            }
        }
    }

    fn decide(&mut self, inputs: Vec<Input>) {
        let context = Context {
            now: clock::now(),
            entropy: &mut self.entropy,
            limits: &self.app.limits,
            draining: false,
            evaluator: &NoEvaluator,
        };
        let Advance { entries, effects, next, .. } = advance(&self.pinned, &mut self.run, inputs, context);
        self.next = next;
        self.tell(entries);
        self.perform(effects);
    }

    /// Numbers the lines as a commit would, so that the limits on them hold.
    fn tell(&mut self, entries: Vec<Entry>) {
        self.run.number(&entries, clock::now());
        for entry in entries {
            if let Entry::OutcomeUnknown(body) = &entry {
                self.unknown = Some(body.error.clone());
            }
            // It never waits for somebody: a reader would take the line for its end.
            let waits = matches!(entry, Entry::ExecutionSuspended(_) | Entry::ExecutionResumed(_));
            if entry.is_event() && !waits {
                self.told.push_back(Box::new(entry));
            }
        }
    }

    fn perform(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            let origin = Origin {
                key: self.key.clone(),
                events: self.events.clone(),
                forwarded: self.forwarded.clone(),
            };
            let performer = Arc::clone(&self.app.performer);
            self.calls.spawn(async move {
                let input = holdpoint_perform::perform(&performer, effect, &origin).await;
                // Nobody listens any more where the run ended.
                let _ = origin.events.send(input).await;
            });
        }
    }

    async fn wait(&mut self, until: Option<Timestamp>) -> Waited {
        let due = until.map(|at| clock::now().until(at)).unwrap_or(Duration::MAX);
        let quiet = Duration::from_millis(self.app.settings.keep_alive_ms);
        tokio::select! {
            biased;
            () = self.app.stop.cancelled() => Waited::Stopped,
            Some(first) = self.results.recv() => Waited::For(self.all_results(first)),
            () = tokio::time::sleep(due.min(quiet)) => {
                if due <= quiet { Waited::For(Vec::new()) } else { Waited::Quiet }
            }
        }
    }

    fn all_results(&mut self, first: Input) -> Vec<Input> {
        let mut inputs = vec![first];
        while let Ok(more) = self.results.try_recv() {
            inputs.push(more);
        }
        while self.calls.try_join_next().is_some() {}
        inputs
    }

    /// Nobody can be asked here, and nothing can be kept until somebody was.
    fn cannot_wait(&mut self, reason: Reason) {
        let error = match (reason, self.unknown.take()) {
            (Reason::OutcomeUnknown, Some(error)) => Failure::new(
                error.kind,
                format!("a call's outcome is unknown, and a classic run cannot ask: {}", error.message),
            ),
            _ => Failure::new(ErrorType::Logic, format!("a classic run cannot wait for `{reason}`")),
        };
        let mut entries = outside::close_approvals(&self.run, ApprovalStatus::Cancelled);
        entries.push(Entry::ExecutionFailed(ExecutionFailed { reason: error.kind.reason(), error }));
        entries.iter().for_each(|entry| self.run.apply(entry));
        self.tell(entries);
        self.next = Next::End;
    }
}

impl Drop for Classic {
    fn drop(&mut self) {
        self.app.metrics.streams.dec();
    }
}

enum Waited {
    For(Vec<Input>),
    Quiet,
    Stopped,
}

/// Begins a classic run, if the turn or else its agent says that it is one.
pub async fn begin(app: &Arc<App>, caller: &Caller, turn: &Turn) -> Answer<Option<Begun>> {
    if turn.mode == Some(Mode::Durable) {
        return Ok(None);
    }
    let stored = load::find(app, caller, &turn.agent, turn.version).await?;
    let mode = turn.mode.or_else(|| stored.mode().map(Mode::from));
    if mode != Some(Mode::Classic) {
        return Ok(None);
    }
    if turn.idempotency.is_some() {
        let detail =
            "a classic run keeps nothing that a second request could find: leave Idempotency-Key out";
        return Err(Problem::new(Code::InvalidParameter, detail));
    }
    let loaded = stored.load(app, caller).await?;
    turn.messages.iter().filter_map(|new| new.id.as_deref()).try_for_each(check_message_id)?;
    let before = keep::before(app, caller, turn, &loaded.name).await?;
    let run = Box::new(Classic::new(app, caller, loaded, turn, before)?);
    let conversation = run.spoken.conversation.clone();
    Ok(Some(Begun::Classic { run, conversation }))
}

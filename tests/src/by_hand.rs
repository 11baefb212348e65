//! A worker by hand: it decides with the engine and commits as a worker does, but only when a test says
//! so, and by whatever clock it has. So something else can come at any point between what it has read
//! and what it writes.

use std::sync::Arc;

use holdpoint_db::{ClaimRequest, Claimed, Committed, Store, Transition};
use holdpoint_engine::advance::{Advance, Context, Next, Pinned, advance};
use holdpoint_engine::definition::Definition;
use holdpoint_engine::effect::{Act, Effect, Input};
use holdpoint_engine::entropy::Entropy;
use holdpoint_engine::entry::{Entry, Line};
use holdpoint_engine::ids::SessionId;
use holdpoint_engine::limits::Limits;
use holdpoint_engine::run::Run;
use holdpoint_engine::team::Team;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use holdpoint_perform::expressions::Unguarded;

use crate::store_builders::history;

/// Answers effects; none for what is still under way.
pub type Perform<'a> = &'a mut dyn FnMut(&Effect) -> Option<Input>;

/// One workflow's execution in the hands of a worker.
pub struct ByHand<'a> {
    store: &'a dyn Store,
    claimed: Claimed,
    session: SessionId,
    pinned: Pinned,
    /// The fold so far.
    pub run: Run,
    /// What its clock says.
    pub now: Timestamp,
    entropy: Entropy,
    wake: i64,
    acts_taken: Vec<i64>,
}

impl<'a> ByHand<'a> {
    /// Claims it, if it is ready and nobody has it or locks it; `definition` is what it runs.
    pub fn claim(
        store: &'a dyn Store,
        session: SessionId,
        key: &ExecutionKey,
        definition: &Arc<Definition>,
    ) -> Option<Self> {
        let request = ClaimRequest {
            session,
            hinted: vec![key.clone()],
            limit: 1,
            any: false,
            history: history(),
            tenant_concurrency: None,
        };
        let claimed = store.execution_claim(&request).expect("a claim").pop()?;
        let run = Run::fold(&claimed.lines, claimed.seq, claimed.event).expect("a journal");
        let now = store.now().expect("the time");
        let pinned = pinned(&claimed, definition);
        let (wake, entropy) = (claimed.wake, Entropy::from_seed(now.micros() as u64));
        Some(Self { store, claimed, session, pinned, run, now, entropy, wake, acts_taken: Vec::new() })
    }

    /// What a worker begins with: what the one before left.
    pub fn inputs(&mut self) -> Vec<Input> {
        let acts = std::mem::take(&mut self.claimed.acts);
        std::iter::once(Input::Claimed).chain(self.take(acts)).collect()
    }

    /// Decides and commits until it is over, given back, or waits for what is not there yet.
    pub fn go(&mut self, mut inputs: Vec<Input>, perform: Perform<'_>) -> Next {
        for _ in 0..1_000 {
            let kept = holdpoint_worker::kept(&self.run, &inputs);
            let decided = self.decide(std::mem::take(&mut inputs));
            inputs = match self.commit(&decided) {
                Some(Committed::GateRefused { tool_call_id }) => {
                    self.reload();
                    let acts = self.inbox();
                    kept.into_iter().chain(acts).chain([Input::GateRefused { tool_call_id }]).collect()
                }
                Some(Committed::Fenced) => panic!("fenced: {:?}", self.claimed.key),
                Some(Committed::Done { released: true, .. }) => return decided.next,
                Some(Committed::Done { .. }) | None => {
                    let brought: Vec<Input> = decided.effects.iter().filter_map(&mut *perform).collect();
                    let mut next = self.inbox();
                    next.extend(brought);
                    if next.is_empty() && matches!(decided.next, Next::Wait { .. }) {
                        return decided.next;
                    }
                    next
                }
            };
        }
        panic!("it goes on for ever: {:?}", self.claimed.key);
    }

    /// One decision.
    pub fn decide(&mut self, inputs: Vec<Input>) -> Advance {
        let context = Context {
            now: self.now,
            entropy: &mut self.entropy,
            limits: &Limits::default(),
            draining: false,
            evaluator: &Unguarded::default(),
        };
        advance(&self.pinned, &mut self.run, inputs, context)
    }

    fn commit(&mut self, decided: &Advance) -> Option<Committed> {
        if decided.entries.is_empty() {
            return None;
        }
        let transition = self.transition(decided);
        self.store.execution_commit(&[transition]).expect("a commit").pop()
    }

    fn transition(&mut self, decided: &Advance) -> Transition {
        let expected_seq = self.run.seq;
        let lines: Vec<Line> = self.run.number(&decided.entries, self.now);
        Transition {
            key: self.claimed.key.clone(),
            session: self.session,
            epoch: self.claimed.epoch,
            expected_seq,
            seen_wake: self.wake,
            lines,
            last_event: self.run.event,
            gates: decided.gates.clone(),
            approvals: decided.entries.iter().filter_map(holdpoint_worker::approval_change).collect(),
            grants: Vec::new(),
            unheard: decided.unheard.clone(),
            acts_taken: std::mem::take(&mut self.acts_taken),
            usage: self.run.usage,
            definition: (self.pinned.name.clone(), self.pinned.version),
            target: holdpoint_worker::target(&decided.next, &decided.entries, &self.run),
        }
    }

    fn reload(&mut self) {
        let (key, epoch) = (&self.claimed.key, self.claimed.epoch);
        let row = self.store.execution_reload(key, self.session, epoch).expect("a row").expect("still held");
        self.run = Run::fold(&row.lines, row.seq, row.event).expect("a journal");
    }

    /// What came while it had the execution.
    pub fn inbox(&mut self) -> Vec<Input> {
        let found = self.store.inbox_read(std::slice::from_ref(&self.claimed.key)).expect("an inbox");
        let Some(inbox) = found.into_iter().next() else { return Vec::new() };
        self.wake = inbox.wake;
        self.take(inbox.acts)
    }

    fn take(&mut self, acts: Vec<(i64, Act)>) -> Vec<Input> {
        let new = acts.into_iter().filter(|(n, _)| !self.acts_taken.contains(n));
        let (numbers, inputs): (Vec<i64>, Vec<Input>) = new.map(|(n, act)| (n, Input::Act(act))).unzip();
        self.acts_taken.extend(numbers);
        inputs
    }
}

fn pinned(claimed: &Claimed, definition: &Arc<Definition>) -> Pinned {
    let input = claimed.input.as_deref().and_then(|input| serde_json::from_str(input).ok());
    Pinned {
        id: claimed.key.id,
        first_run: claimed.first_run,
        kind: claimed.kind,
        name: claimed.name.clone(),
        version: claimed.version,
        definition: Arc::clone(definition),
        team: Team::default(),
        active_agent: None,
        depth: 0,
        messages: Vec::new(),
        input: input.unwrap_or_default(),
        end_user: None,
        files: Vec::new(),
        client_time: None,
    }
}

/// The entries of a journal.
pub fn entries(store: &dyn Store, key: &ExecutionKey) -> Vec<Entry> {
    let lines = store.journal_read(&key.scope, key.id).expect("a journal").expect("an execution");
    assert!(lines.iter().enumerate().all(|(at, line)| line.seq == at as i64 + 1), "{lines:?}");
    lines.iter().map(|line| Entry::read(&line.kind, &line.payload).expect("an entry")).collect()
}

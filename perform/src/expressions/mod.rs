//! Runtime expressions, each evaluated in a child process of our own binary.
//!
//! jq is a language: a program may loop for ever, take all memory or end its process. So
//! programs run where that hurts nobody: in a child that has no environment, little memory and
//! no files, and is killed when it passes its time (`serve.rs` is the child's side). Children
//! are started when they are needed and kept; one that was killed is replaced.

mod child;
mod frame;
mod limits;
mod programs;
mod serve;
mod turns;
mod unguarded;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holdpoint_engine::workflow::expression::{Evaluator, Expression, ExpressionError};
use serde::Deserialize;
use serde_json::Value;

use child::{Broken, Child};
use frame::Answer;
pub use serve::serve;
use turns::Turns;
#[doc(hidden)]
pub use unguarded::Unguarded;

/// The hidden command of our binary that serves as a child.
pub const COMMAND: &str = "evaluate-expressions";
/// How long a program may run.
pub const TIME: Duration = Duration::from_millis(250);
/// What a program may take, its stack included, in bytes.
pub const MEMORY_BYTES: u64 = 64 * 1024 * 1024;
/// How long a caller waits for its turn.
const TURN: Duration = Duration::from_secs(30);

/// How expressions are evaluated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The most child processes at a time; each evaluates one expression at a time.
    pub processes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { processes: 2 }
    }
}

/// Evaluates expressions in child processes. Calls block: 20 µs when all goes well, until the
/// program's time is over when it does not, longer where all children are busy. On tokio they
/// belong on a blocking thread or into `block_in_place`.
pub struct Expressions {
    /// Our binary.
    program: PathBuf,
    processes: usize,
    value_bytes: usize,
    pool: Mutex<Pool>,
}

/// Which children there are.
#[derive(Default)]
struct Pool {
    /// The one that was used last is at the end, and used next: its caches are warm.
    idle: Vec<Child>,
    /// Idle and busy ones.
    count: usize,
    /// Who waits for one.
    turns: Turns<Option<Child>>,
}

impl Expressions {
    /// Evaluates by this process's own binary. `value_bytes` is the largest result. No child
    /// is started yet.
    pub fn new(settings: &Settings, value_bytes: usize) -> Self {
        Self::with_program(child::own_binary(), settings, value_bytes)
    }

    /// The same, by a binary at this path.
    pub fn with_program(program: PathBuf, settings: &Settings, value_bytes: usize) -> Self {
        let pool = Mutex::new(Pool::default());
        Self { program, processes: settings.processes.max(1), value_bytes, pool }
    }

    /// The process ids of the children that wait for work.
    pub fn idle_processes(&self) -> Vec<u32> {
        self.lock().idle.iter().map(Child::id).collect()
    }

    /// A child whose process ended for a reason that is not the program's is replaced once.
    fn ask(&self, tenant: &str, request: &[u8]) -> Result<Answer, ExpressionError> {
        let mut place = self.take_place(tenant)?;
        let mut tried_again = false;
        loop {
            let mut child = match place.child.take() {
                Some(child) => child,
                None => Child::start(&self.program).map_err(ExpressionError::Unavailable)?,
            };
            match child.ask(request) {
                Ok(answer) => {
                    place.child = Some(child).filter(|_| !answer.retires);
                    return Ok(answer);
                }
                Err(Broken::Limit { name, limit }) => return Err(ExpressionError::Limit { name, limit }),
                Err(Broken::Lost(_)) if !tried_again => tried_again = true,
                Err(Broken::Lost(why) | Broken::Starved(why)) => {
                    return Err(ExpressionError::Unavailable(why));
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a child is free or one more may be started. Tenants have what is free in turns.
    fn take_place(&self, tenant: &str) -> Result<Place<'_>, ExpressionError> {
        let place = |child| Place { of: self, child };
        let mut pool = self.lock();
        if let Some(child) = pool.idle.pop() {
            return Ok(place(Some(child)));
        }
        if pool.count < self.processes {
            pool.count += 1;
            return Ok(place(None));
        }
        let (ticket, handed) = pool.turns.wait(tenant);
        drop(pool);
        if let Ok(child) = handed.recv_timeout(TURN) {
            return Ok(place(child));
        }
        let gone = self.lock().turns.leave(ticket);
        match handed.try_recv() {
            // It was handed over in that very moment.
            Ok(child) if !gone => Ok(place(child)),
            _ => Err(ExpressionError::Unavailable("too many expressions are waiting".to_owned())),
        }
    }
}

/// The right to use one child; it goes back, with the child where it still lives.
struct Place<'a> {
    of: &'a Expressions,
    child: Option<Child>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut pool = self.of.lock();
        match pool.turns.hand(self.child.take()) {
            None => {}
            Some(Some(child)) => pool.idle.push(child),
            Some(None) => pool.count -= 1,
        }
    }
}

impl Evaluator for Expressions {
    fn evaluate(
        &self,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        self.evaluate_for("", expression, input, variables)
    }

    fn evaluate_for(
        &self,
        tenant: &str,
        expression: &Expression,
        input: &Value,
        variables: &[(&str, &Value)],
    ) -> Result<Value, ExpressionError> {
        let request = frame::evaluate(expression, input, variables, self.value_bytes)?;
        self.ask(tenant, &request)?.value()
    }

    fn check(&self, expression: &Expression, variables: &[&str]) -> Result<(), ExpressionError> {
        let request = frame::check(expression, variables)?;
        self.ask("", &request)?.value().map(drop)
    }
}

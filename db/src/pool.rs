//! Pools of connections, and work on them that outlives a lost connection.
//!
//! A connection is not tested before it is used. When one turns out to be lost, all that
//! were opened before it are thrown away, and the work is done again on a fresh one,
//! provided that its COMMIT was not sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use r2d2::{ManageConnection, NopErrorHandler, PooledConnection};

use crate::conn::{Conn, Fault, Link};
use crate::outcomes::Outcomes;
use crate::outgoing::Subscribed;
use crate::store::StoreResult;
use crate::turns::Turns;
use crate::types::StoreError;

/// Opens one connection, set up for its pool.
pub(crate) type Opener = Box<dyn Fn() -> Result<Link, diesel::ConnectionError> + Send + Sync>;

/// What r2d2 asks for.
pub(crate) struct Manager {
    open: Opener,
    generation: Arc<AtomicU64>,
    subscribed: Arc<Subscribed>,
    outcomes: Arc<Outcomes>,
    turns: Arc<Turns>,
}

impl ManageConnection for Manager {
    type Connection = Conn;
    type Error = diesel::ConnectionError;

    fn connect(&self) -> Result<Conn, Self::Error> {
        let born = self.generation.load(Ordering::SeqCst);
        let (subscribed, outcomes) = (Arc::clone(&self.subscribed), Arc::clone(&self.outcomes));
        let turns = Arc::clone(&self.turns);
        Ok(Conn { subscribed, outcomes, turns, ..Conn::new((self.open)()?, born) })
    }

    fn is_valid(&self, _conn: &mut Conn) -> Result<(), Self::Error> {
        Ok(())
    }

    fn has_broken(&self, conn: &mut Conn) -> bool {
        conn.broken || std::thread::panicking()
    }
}

/// A pool that opens its connections when they are first needed.
pub(crate) struct Pool {
    inner: r2d2::Pool<Manager>,
    generation: Arc<AtomicU64>,
    /// Who wants events, as its connections last read it.
    pub(crate) subscribed: Arc<Subscribed>,
    /// What its transactions came to.
    pub(crate) outcomes: Arc<Outcomes>,
    /// Where its claims stand.
    pub(crate) turns: Arc<Turns>,
}

/// How often work is done again after a conflict or a lost connection.
const TRIES: u32 = 3;

impl Pool {
    pub(crate) fn new(size: u32, wait: Duration, open: Opener) -> Self {
        let generation = Arc::new(AtomicU64::new(0));
        let subscribed = Arc::new(Subscribed::default());
        let outcomes = Arc::new(Outcomes::default());
        let turns = Arc::new(Turns::default());
        let manager = Manager {
            open,
            generation: Arc::clone(&generation),
            subscribed: Arc::clone(&subscribed),
            outcomes: Arc::clone(&outcomes),
            turns: Arc::clone(&turns),
        };
        let inner = r2d2::Pool::builder()
            .max_size(size.max(1))
            .min_idle(Some(0))
            .connection_timeout(wait)
            .test_on_check_out(false)
            .max_lifetime(None)
            .idle_timeout(Some(Duration::from_secs(600)))
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(manager);
        Self { inner, generation, subscribed, outcomes, turns }
    }

    /// The most connections that it opens.
    pub(crate) fn most(&self) -> u32 {
        self.inner.max_size()
    }

    /// Connections that are in use, and that are idle.
    pub(crate) fn state(&self) -> (u32, u32) {
        let state = self.inner.state();
        (state.connections - state.idle_connections, state.idle_connections)
    }

    fn get(&self) -> StoreResult<PooledConnection<Manager>> {
        loop {
            let mut conn = self.inner.get().map_err(|error| StoreError::Unavailable(error.to_string()))?;
            if conn.born >= self.generation.load(Ordering::SeqCst) {
                return Ok(conn);
            }
            conn.broken = true;
        }
    }

    /// Work without a transaction of ours, or that opens its own: done again after a loss.
    pub(crate) fn with<T>(&self, work: impl Fn(&mut Conn) -> StoreResult<T>) -> StoreResult<T> {
        self.tried(|_| true, |conn, _| work(conn))
    }

    /// A transaction, done again where it certainly was not committed.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        work: impl Fn(&mut Conn) -> Result<T, E>,
    ) -> Result<T, E> {
        self.tried(|conn| !conn.commit_sent, |conn, _| conn.transaction(&work))
    }

    /// A transaction that finds out for itself whether it was committed before, so that it
    /// is done again even where that is unknown. The work is told that it is a repeat.
    pub(crate) fn write_repeatable<T>(
        &self,
        work: impl Fn(&mut Conn, bool) -> StoreResult<T>,
    ) -> StoreResult<T> {
        self.tried(|_| true, |conn, repeat| conn.transaction(|conn| work(conn, repeat)))
    }

    fn tried<T, E: From<StoreError>>(
        &self,
        may_repeat: impl Fn(&Conn) -> bool,
        work: impl Fn(&mut Conn, bool) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut unknown = false;
        for left in (0..TRIES).rev() {
            let mut conn = self.get()?;
            conn.fault = None;
            let error = match work(&mut conn, unknown) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if conn.fault == Some(Fault::Lost) {
                // Its contemporaries are lost as well.
                let next = conn.born + 1;
                let _ = self.generation.compare_exchange(conn.born, next, Ordering::SeqCst, Ordering::SeqCst);
            }
            unknown |= conn.commit_sent;
            let again = matches!(conn.fault, Some(Fault::Lost | Fault::Conflict)) && may_repeat(&conn);
            if left == 0 || !again {
                return Err(error);
            }
        }
        Err(StoreError::Unavailable("the database was lost again and again".to_owned()).into())
    }
}

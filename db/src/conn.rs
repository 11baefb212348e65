//! One connection of either database: statements, transactions, and what went wrong.
//!
//! A connection that was lost is marked and never goes back into its pool.

use std::sync::Arc;

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::pg::PgConnection;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sqlite::SqliteConnection;

use crate::audit::{self, Notes};
use crate::outcomes::{Noted, Outcomes};
use crate::outgoing::Subscribed;
use crate::row::Row;
use crate::sql::{Bind, Dialect, Statement};
use crate::store::StoreResult;
use crate::turns::Turns;
use crate::types::StoreError;

/// The connection itself.
pub(crate) enum Link {
    Pg(PgConnection),
    Sqlite(SqliteConnection),
}

/// The same on either connection.
macro_rules! on_each {
    ($link:expr, $conn:ident => $work:expr) => {
        match $link {
            $crate::conn::Link::Pg($conn) => $work,
            $crate::conn::Link::Sqlite($conn) => $work,
        }
    };
}

/// What went wrong last, as far as it decides whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection is gone.
    Lost,
    /// Two transactions stood in each other's way, and this one gave way.
    Conflict,
    /// Anything else.
    Other,
}

/// A connection and how it is.
pub(crate) struct Conn {
    pub(crate) link: Link,
    /// The pool's generation when it was opened; older ones are thrown away after a loss.
    pub(crate) born: u64,
    pub(crate) broken: bool,
    pub(crate) fault: Option<Fault>,
    /// Whether COMMIT was sent: from then on a lost connection leaves the outcome unknown.
    pub(crate) commit_sent: bool,
    /// Who wants events; shared by the connections of a pool.
    pub(crate) subscribed: Arc<Subscribed>,
    /// What the open transaction did.
    pub(crate) noted: Noted,
    /// Where it is counted; shared by the connections of a pool.
    pub(crate) outcomes: Arc<Outcomes>,
    /// What the transaction that is open has to tell the audit; `None` outside of one.
    pub(crate) notes: Option<Notes>,
    /// Where claims stand; shared in the same way.
    pub(crate) turns: Arc<Turns>,
    /// What statements touch, while somebody wants to know.
    #[cfg(test)]
    pub(crate) explained: Option<crate::explained::Touched>,
}

/// No rows for a batch.
pub(crate) const NO_ROWS: &[[Bind<'static>; 0]] = &[];

impl Conn {
    pub(crate) fn new(link: Link, born: u64) -> Self {
        Self {
            link,
            born,
            broken: false,
            fault: None,
            commit_sent: false,
            subscribed: Arc::default(),
            noted: Noted::default(),
            outcomes: Arc::default(),
            notes: None,
            turns: Arc::default(),
            #[cfg(test)]
            explained: None,
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.link {
            Link::Pg(_) => Dialect::Postgres,
            Link::Sqlite(_) => Dialect::Sqlite,
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.dialect() == Dialect::Postgres
    }

    /// Runs one statement and answers its rows.
    pub(crate) fn rows(&mut self, text: &str, values: &[Bind<'_>]) -> StoreResult<Vec<Row>> {
        self.send(Statement::new(self.dialect(), text, NO_ROWS, values))
    }

    /// The first row of the answer, if there is one.
    pub(crate) fn row(&mut self, text: &str, values: &[Bind<'_>]) -> StoreResult<Option<Row>> {
        Ok(self.rows(text, values)?.into_iter().next())
    }

    /// Runs a statement for a batch of rows (`@u`): one statement on Postgres, one for each
    /// row on SQLite. Without rows nothing is run.
    pub(crate) fn each<'a, R: AsRef<[Bind<'a>]>>(
        &mut self,
        text: &str,
        rows: &[R],
        values: &[Bind<'a>],
    ) -> StoreResult<Vec<Row>> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let dialect = self.dialect();
        if dialect == Dialect::Postgres {
            return self.send(Statement::new(dialect, text, rows, values));
        }
        let mut answer = Vec::new();
        for row in rows {
            answer.append(&mut self.send(Statement::new(
                dialect,
                text,
                std::slice::from_ref(row),
                values,
            ))?);
        }
        Ok(answer)
    }

    pub(crate) fn send(&mut self, statement: Statement<'_>) -> StoreResult<Vec<Row>> {
        #[cfg(test)]
        crate::explained::before(self, &statement);
        let result = on_each!(&mut self.link, conn => statement.load::<Row>(conn));
        result.map_err(|error| self.failed(error))
    }

    /// Runs text as it is, without values.
    pub(crate) fn batch(&mut self, text: &str) -> StoreResult<()> {
        let result = on_each!(&mut self.link, conn => conn.batch_execute(text));
        result.map_err(|error| self.failed(error))
    }

    /// One transaction: all of the work, or nothing. SQLite's takes the write lock at once.
    /// What the work notes for the audit is written last.
    pub(crate) fn transaction<T, E: From<StoreError>>(
        &mut self,
        work: impl FnOnce(&mut Conn) -> Result<T, E>,
    ) -> Result<T, E> {
        let begin = if self.is_postgres() { "BEGIN" } else { "BEGIN IMMEDIATE" };
        self.notes = Some(Notes::new());
        let done = self.between(begin, |conn| {
            let done = work(conn)?;
            let notes = conn.notes.take().unwrap_or_default();
            audit::write(conn, notes)?;
            Ok(done)
        });
        self.notes = None;
        done
    }

    /// Several reads of one moment: what is committed meanwhile is not seen by any of them.
    pub(crate) fn snapshot<T>(&mut self, work: impl FnOnce(&mut Conn) -> StoreResult<T>) -> StoreResult<T> {
        let postgres = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        self.between(if self.is_postgres() { postgres } else { "BEGIN" }, work)
    }

    fn between<T, E: From<StoreError>>(
        &mut self,
        begin: &str,
        work: impl FnOnce(&mut Conn) -> Result<T, E>,
    ) -> Result<T, E> {
        self.commit_sent = false;
        self.fault = None;
        self.noted = Noted::default();
        self.batch(begin)?;
        match work(self) {
            Ok(done) => {
                self.commit_sent = true;
                if let Err(error) = self.batch("COMMIT") {
                    self.roll_back();
                    return Err(error.into());
                }
                self.outcomes.count(&self.noted);
                Ok(done)
            }
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Keeps the fault of the work, not that of the rollback.
    fn roll_back(&mut self) {
        let fault = self.fault;
        if !self.broken && self.batch("ROLLBACK").is_err() {
            self.broken = true;
        }
        self.fault = fault;
    }

    fn failed(&mut self, error: Error) -> StoreError {
        let (fault, error) = classify(error);
        self.broken |= fault == Fault::Lost;
        self.fault = Some(fault);
        error
    }
}

/// What an error of the database means. Diesel hides the SQLSTATE of most, so that some are
/// told by their text (which Postgres writes in English unless it is set up otherwise; one
/// that is not recognised counts as refused).
pub(crate) fn classify(error: Error) -> (Fault, StoreError) {
    let text = error.to_string();
    match error {
        Error::DatabaseError(kind, _) => match kind {
            DatabaseErrorKind::ClosedConnection | DatabaseErrorKind::UnableToSendCommand => {
                (Fault::Lost, StoreError::Unavailable(text))
            }
            DatabaseErrorKind::SerializationFailure => (Fault::Conflict, StoreError::Unavailable(text)),
            DatabaseErrorKind::ReadOnlyTransaction => (Fault::Lost, StoreError::Unavailable(text)),
            DatabaseErrorKind::Unknown => by_text(text),
            _ => (Fault::Other, StoreError::Refused(text)),
        },
        Error::DeserializationError(_) => (Fault::Other, StoreError::Corrupt(text)),
        Error::BrokenTransactionManager => (Fault::Lost, StoreError::Unavailable(text)),
        _ => (Fault::Other, StoreError::Refused(text)),
    }
}

const LOST: &[&str] = &[
    "terminating connection",
    "server closed the connection",
    "connection not open",
    "no connection to the server",
    "could not receive data",
    "could not send data",
    "Connection refused",
    "the database system is",
    "SSL connection has been closed",
    "idle-in-transaction timeout",
];
const LATER: &[&str] = &[
    "statement timeout",
    "lock timeout",
    "user request",
    "No space left",
    "too many clients",
    "remaining connection slots",
    "out of shared memory",
    "database is locked",
    "database table is locked",
    "disk I/O error",
    "database or disk is full",
];

fn by_text(text: String) -> (Fault, StoreError) {
    let has = |list: &[&str]| list.iter().any(|part| text.contains(part));
    if has(LOST) {
        (Fault::Lost, StoreError::Unavailable(text))
    } else if text.contains("deadlock detected") {
        (Fault::Conflict, StoreError::Unavailable(text))
    } else if has(LATER) {
        (Fault::Other, StoreError::Unavailable(text))
    } else {
        (Fault::Other, StoreError::Refused(text))
    }
}

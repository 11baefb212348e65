//! A row as it came, read column by column in the order of the statement's list. What
//! cannot be read as what it must be is [`StoreError::Corrupt`].

use std::str::FromStr;

use diesel::deserialize::{self, FromSql, QueryableByName};
use diesel::pg::Pg;
use diesel::row::{Field, NamedRow, Row as DieselRow};
use diesel::sql_types::{BigInt, Binary, Bool, Integer, Text};
use diesel::sqlite::{Sqlite, SqliteType};
use holdpoint_engine::ids::ExecutionId;
use holdpoint_engine::scope::Scope;
use holdpoint_engine::time::Timestamp;
use holdpoint_engine::wire::ExecutionKey;
use uuid::Uuid;

use crate::types::StoreError;

#[derive(Debug)]
enum Cell {
    Null,
    Text(String),
    Number(i64),
    Bytes(Vec<u8>),
}

/// The columns that are still to be read.
#[derive(Debug)]
pub(crate) struct Row(std::vec::IntoIter<Cell>);

/// Types that our statements return, by Postgres' numbers.
mod oid {
    pub const BOOL: u32 = 16;
    pub const BYTEA: u32 = 17;
    pub const INT8: u32 = 20;
    pub const INT4: u32 = 23;
    pub const UUID: u32 = 2950;
}

impl QueryableByName<Pg> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Pg>) -> deserialize::Result<Self> {
        let mut cells = Vec::with_capacity(DieselRow::field_count(row));
        for at in 0..DieselRow::field_count(row) {
            let field = DieselRow::get(row, at).ok_or("a column is missing")?;
            cells.push(match field.value() {
                None => Cell::Null,
                Some(value) => match value.get_oid().get() {
                    oid::INT8 => Cell::Number(<i64 as FromSql<BigInt, Pg>>::from_sql(value)?),
                    oid::INT4 => Cell::Number(<i32 as FromSql<Integer, Pg>>::from_sql(value)?.into()),
                    oid::BOOL => Cell::Number(<bool as FromSql<Bool, Pg>>::from_sql(value)?.into()),
                    oid::UUID | oid::BYTEA => Cell::Bytes(value.as_bytes().to_vec()),
                    _ => Cell::Text(<String as FromSql<Text, Pg>>::from_sql(value)?),
                },
            });
        }
        Ok(Row(cells.into_iter()))
    }
}

impl QueryableByName<Sqlite> for Row {
    fn build<'a>(row: &impl NamedRow<'a, Sqlite>) -> deserialize::Result<Self> {
        let mut cells = Vec::with_capacity(DieselRow::field_count(row));
        for at in 0..DieselRow::field_count(row) {
            let field = DieselRow::get(row, at).ok_or("a column is missing")?;
            cells.push(match field.value() {
                None => Cell::Null,
                Some(value) => match value.value_type() {
                    None => Cell::Null,
                    Some(SqliteType::Text) => Cell::Text(<String as FromSql<Text, Sqlite>>::from_sql(value)?),
                    Some(SqliteType::Binary) => {
                        Cell::Bytes(<Vec<u8> as FromSql<Binary, Sqlite>>::from_sql(value)?)
                    }
                    Some(_) => Cell::Number(<i64 as FromSql<BigInt, Sqlite>>::from_sql(value)?),
                },
            });
        }
        Ok(Row(cells.into_iter()))
    }
}

type Read<T> = Result<T, StoreError>;

fn wrong(wanted: &str, cell: &Cell) -> StoreError {
    let found = match cell {
        Cell::Null => "NULL",
        Cell::Text(_) => "a text",
        Cell::Number(_) => "a number",
        Cell::Bytes(_) => "bytes",
    };
    StoreError::Corrupt(format!("{wanted} was expected, {found} was there"))
}

fn missing(wanted: &str) -> StoreError {
    StoreError::Corrupt(format!("{wanted} was expected, NULL was there"))
}

impl Row {
    fn cell(&mut self) -> Cell {
        self.0.next().unwrap_or(Cell::Null)
    }

    pub(crate) fn opt_text(&mut self) -> Read<Option<String>> {
        match self.cell() {
            Cell::Null => Ok(None),
            Cell::Text(text) => Ok(Some(text)),
            other => Err(wrong("a text", &other)),
        }
    }

    pub(crate) fn text(&mut self) -> Read<String> {
        self.opt_text()?.ok_or_else(|| missing("a text"))
    }

    pub(crate) fn opt_big(&mut self) -> Read<Option<i64>> {
        match self.cell() {
            Cell::Null => Ok(None),
            Cell::Number(number) => Ok(Some(number)),
            other => Err(wrong("a number", &other)),
        }
    }

    pub(crate) fn big(&mut self) -> Read<i64> {
        self.opt_big()?.ok_or_else(|| missing("a number"))
    }

    pub(crate) fn opt_int(&mut self) -> Read<Option<i32>> {
        let too_large = |_| StoreError::Corrupt("a number is too large".to_owned());
        self.opt_big()?.map(|number| i32::try_from(number).map_err(too_large)).transpose()
    }

    pub(crate) fn int(&mut self) -> Read<i32> {
        self.opt_int()?.ok_or_else(|| missing("a number"))
    }

    pub(crate) fn bool(&mut self) -> Read<bool> {
        Ok(self.big()? != 0)
    }

    pub(crate) fn opt_bytes(&mut self) -> Read<Option<Vec<u8>>> {
        match self.cell() {
            Cell::Null => Ok(None),
            Cell::Bytes(bytes) => Ok(Some(bytes)),
            other => Err(wrong("bytes", &other)),
        }
    }

    pub(crate) fn opt_id(&mut self) -> Read<Option<Uuid>> {
        let bytes = self.opt_bytes()?;
        let read = |bytes: Vec<u8>| {
            Uuid::from_slice(&bytes).map_err(|_| StoreError::Corrupt("an id has 16 bytes".to_owned()))
        };
        bytes.map(read).transpose()
    }

    pub(crate) fn id(&mut self) -> Read<Uuid> {
        self.opt_id()?.ok_or_else(|| missing("an id"))
    }

    pub(crate) fn time(&mut self) -> Read<Timestamp> {
        Ok(Timestamp::from_micros(self.big()?))
    }

    pub(crate) fn opt_time(&mut self) -> Read<Option<Timestamp>> {
        Ok(self.opt_big()?.map(Timestamp::from_micros))
    }

    /// A word of one of the contract's closed lists.
    pub(crate) fn word<T: FromStr<Err: std::fmt::Display>>(&mut self) -> Read<T> {
        self.text()?.parse().map_err(|error: T::Err| StoreError::Corrupt(error.to_string()))
    }

    pub(crate) fn opt_word<T: FromStr<Err: std::fmt::Display>>(&mut self) -> Read<Option<T>> {
        let word = self.opt_text()?;
        let read =
            |word: String| word.parse().map_err(|error: T::Err| StoreError::Corrupt(error.to_string()));
        word.map(read).transpose()
    }

    /// Tenant and project.
    pub(crate) fn scope(&mut self) -> Read<Scope> {
        let (tenant, project) = (self.text()?, self.text()?);
        Ok(Scope::new(&tenant, &project))
    }

    /// Tenant, project and id.
    pub(crate) fn key(&mut self) -> Read<ExecutionKey> {
        Ok(ExecutionKey { scope: self.scope()?, id: ExecutionId(self.id()?) })
    }
}

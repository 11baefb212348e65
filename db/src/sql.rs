//! One text for a statement, two databases.
//!
//! A statement is text with marks: `?` takes the next value; `@u` is the source of a batch
//! of rows (`unnest` of one array for each column on Postgres, one row at a time on SQLite);
//! `@lock` and `@skip` lock the rows of the table `e`, and `@share` keeps others from locking
//! them so (SQLite has one writer and needs none of them); `@c` compares byte by byte. The text is constant for each call, so that each database prepares it once for
//! a connection; values never enter the text.

use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::serialize::{IsNull, Output, ToSql};
use diesel::sql_types::{Array, BigInt, Binary, Bool, Integer, Nullable, SqlType, Text, Untyped};
use diesel::sqlite::Sqlite;
use holdpoint_engine::time::Timestamp;
use uuid::Uuid;

/// An id: `uuid` in Postgres, a blob of 16 bytes in SQLite.
#[derive(Debug, Clone, Copy, SqlType, QueryId)]
#[diesel(postgres_type(oid = 2950, array_oid = 2951))]
#[diesel(sqlite_type(name = "Binary"))]
pub(crate) struct Id;

/// The value of an [`Id`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uid(pub Uuid);

impl ToSql<Id, Pg> for Uid {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> diesel::serialize::Result {
        std::io::Write::write_all(out, self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

impl ToSql<Id, Sqlite> for Uid {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Sqlite>) -> diesel::serialize::Result {
        out.set_value(self.0.as_bytes().as_slice());
        Ok(IsNull::No)
    }
}

/// One value; `None` is NULL of that type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bind<'a> {
    Text(Option<&'a str>),
    Big(Option<i64>),
    Int(Option<i32>),
    Id(Option<Uid>),
    Bool(Option<bool>),
    Bytes(Option<&'a [u8]>),
}

/// Values of a row or of a statement, each of its own type.
macro_rules! binds {
    ($($value:expr),* $(,)?) => { [$($crate::sql::Bind::from($value)),*] };
}
pub(crate) use binds;

macro_rules! bind_from {
    ($($kind:ident($type:ty) = |$value:ident| $into:expr;)+) => {
        $(
            impl<'a> From<$type> for Bind<'a> {
                fn from($value: $type) -> Self {
                    Bind::$kind(Some($into))
                }
            }
            impl<'a> From<Option<$type>> for Bind<'a> {
                fn from(value: Option<$type>) -> Self {
                    Bind::$kind(value.map(|$value| $into))
                }
            }
        )+
    };
}

bind_from! {
    Text(&'a str) = |v| v;
    Text(&'a String) = |v| v.as_str();
    Big(i64) = |v| v;
    Big(Timestamp) = |v| v.micros();
    Int(i32) = |v| v;
    Id(Uuid) = |v| Uid(v);
    Bool(bool) = |v| v;
    Bytes(&'a [u8]) = |v| v;
}

/// One value, or a column of them for `unnest`.
#[derive(Debug, Clone)]
enum Param<'a> {
    One(Bind<'a>),
    Texts(Vec<Option<&'a str>>),
    Bigs(Vec<Option<i64>>),
    Ints(Vec<Option<i32>>),
    Ids(Vec<Option<Uid>>),
    Bools(Vec<Option<bool>>),
    Blobs(Vec<Option<&'a [u8]>>),
}

macro_rules! column {
    ($rows:expr, $at:expr, $kind:ident) => {
        $rows
            .iter()
            .map(|row| if let Some(Bind::$kind(value)) = row.as_ref().get($at) { *value } else { None })
            .collect()
    };
}

impl<'a> Param<'a> {
    /// A column of the rows; its type is that of the first row's value.
    fn column<R: AsRef<[Bind<'a>]>>(rows: &[R], at: usize, like: Bind<'a>) -> (Self, &'static str) {
        match like {
            Bind::Text(_) => (Param::Texts(column!(rows, at, Text)), "::text[]"),
            Bind::Big(_) => (Param::Bigs(column!(rows, at, Big)), "::bigint[]"),
            Bind::Int(_) => (Param::Ints(column!(rows, at, Int)), "::integer[]"),
            Bind::Id(_) => (Param::Ids(column!(rows, at, Id)), "::uuid[]"),
            Bind::Bool(_) => (Param::Bools(column!(rows, at, Bool)), "::boolean[]"),
            Bind::Bytes(_) => (Param::Blobs(column!(rows, at, Bytes)), "::bytea[]"),
        }
    }
}

/// Which database the text is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Postgres,
    Sqlite,
}

/// A statement ready to be sent: pieces of text with a parameter between each two.
#[derive(Debug, Clone)]
pub(crate) struct Statement<'a> {
    pieces: Vec<String>,
    params: Vec<Param<'a>>,
}

impl<'a> Statement<'a> {
    /// The text with its marks carried out. `rows` fill `@u`; on SQLite there is one of them.
    pub(crate) fn new<R: AsRef<[Bind<'a>]>>(
        dialect: Dialect,
        text: &str,
        rows: &[R],
        values: &[Bind<'a>],
    ) -> Self {
        let mut made = Self { pieces: vec![String::with_capacity(text.len() + 64)], params: Vec::new() };
        let mut values = values.iter();
        let mut rest = text;
        while let Some(at) = rest.find(['?', '@']) {
            made.push(&rest[..at]);
            let mark = &rest[at..];
            let word = mark[1..].find(|c: char| !c.is_ascii_alphabetic()).map_or(mark.len(), |end| end + 1);
            match (&mark[..word], dialect) {
                ("@u", Dialect::Postgres) => made.push_arrays(rows),
                ("@u", Dialect::Sqlite) => made.push_row(rows),
                ("@lock", Dialect::Postgres) => made.push("FOR UPDATE OF e"),
                ("@skip", Dialect::Postgres) => made.push("FOR UPDATE OF e SKIP LOCKED"),
                ("@share", Dialect::Postgres) => made.push("FOR KEY SHARE OF e"),
                ("@c", Dialect::Postgres) => made.push("COLLATE \"C\""),
                ("@lock" | "@skip" | "@share" | "@c", Dialect::Sqlite) => {}
                _ => {
                    made.param(Param::One(values.next().copied().unwrap_or(Bind::Text(None))));
                    rest = &mark[1..];
                    continue;
                }
            }
            rest = &mark[word..];
        }
        made.push(rest);
        made
    }

    /// The same behind these words.
    #[cfg(test)]
    pub(crate) fn after(&self, words: &str) -> Self {
        let mut made = self.clone();
        made.pieces[0].insert_str(0, words);
        made
    }

    fn push(&mut self, text: &str) {
        if let Some(last) = self.pieces.last_mut() {
            last.push_str(text);
        }
    }

    fn param(&mut self, param: Param<'a>) {
        self.params.push(param);
        self.pieces.push(String::new());
    }

    fn push_arrays<R: AsRef<[Bind<'a>]>>(&mut self, rows: &[R]) {
        let Some(first) = rows.first() else { return };
        self.push("SELECT * FROM unnest(");
        for (at, like) in first.as_ref().iter().enumerate() {
            if at > 0 {
                self.push(", ");
            }
            let (param, cast) = Param::column(rows, at, *like);
            self.param(param);
            self.push(cast);
        }
        self.push(")");
    }

    fn push_row<R: AsRef<[Bind<'a>]>>(&mut self, rows: &[R]) {
        let Some(first) = rows.first() else { return };
        self.push("VALUES (");
        for (at, value) in first.as_ref().iter().enumerate() {
            if at > 0 {
                self.push(", ");
            }
            self.param(Param::One(*value));
        }
        self.push(")");
    }
}

impl Query for Statement<'_> {
    type SqlType = Untyped;
}

/// Without a type of its own a statement is cached by its text.
impl QueryId for Statement<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Conn> diesel::RunQueryDsl<Conn> for Statement<'_> {}

macro_rules! push_one {
    ($out:expr, $bind:expr) => {
        match $bind {
            Bind::Text(value) => $out.push_bind_param::<Nullable<Text>, _>(value)?,
            Bind::Big(value) => $out.push_bind_param::<Nullable<BigInt>, _>(value)?,
            Bind::Int(value) => $out.push_bind_param::<Nullable<Integer>, _>(value)?,
            Bind::Id(value) => $out.push_bind_param::<Nullable<Id>, _>(value)?,
            Bind::Bool(value) => $out.push_bind_param::<Nullable<Bool>, _>(value)?,
            Bind::Bytes(value) => $out.push_bind_param::<Nullable<Binary>, _>(value)?,
        }
    };
}

impl QueryFragment<Pg> for Statement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for (at, piece) in self.pieces.iter().enumerate() {
            out.push_sql(piece);
            match self.params.get(at) {
                Some(Param::One(bind)) => push_one!(out, bind),
                Some(Param::Texts(column)) => out.push_bind_param::<Array<Nullable<Text>>, _>(column)?,
                Some(Param::Bigs(column)) => out.push_bind_param::<Array<Nullable<BigInt>>, _>(column)?,
                Some(Param::Ints(column)) => out.push_bind_param::<Array<Nullable<Integer>>, _>(column)?,
                Some(Param::Ids(column)) => out.push_bind_param::<Array<Nullable<Id>>, _>(column)?,
                Some(Param::Bools(column)) => out.push_bind_param::<Array<Nullable<Bool>>, _>(column)?,
                Some(Param::Blobs(column)) => out.push_bind_param::<Array<Nullable<Binary>>, _>(column)?,
                None => {}
            }
        }
        Ok(())
    }
}

impl QueryFragment<Sqlite> for Statement<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        for (at, piece) in self.pieces.iter().enumerate() {
            out.push_sql(piece);
            if let Some(Param::One(bind)) = self.params.get(at) {
                push_one!(out, bind);
            }
        }
        Ok(())
    }
}

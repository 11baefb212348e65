//! The Postgres and RabbitMQ that all tests share, and what one test has in them.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::{PgConnection, sql_query};

/// The database that tests share.
pub fn database_url() -> String {
    from_environment("DATABASE_URL")
}

/// The broker that tests share.
pub fn amqp_url() -> String {
    from_environment("AMQP_URL")
}

fn from_environment(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run the tests by ./test, which starts the services, or name yours")
    })
}

/// A name that no other test has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}{}", uuid::Uuid::now_v7().simple())
}

/// A schema of one test; dropped with it.
#[derive(Debug)]
pub struct Schema {
    server: String,
    name: String,
}

impl Schema {
    /// Makes a schema in the shared database.
    pub fn create() -> Self {
        Self::create_in(&database_url())
    }

    /// Makes a schema in any database.
    pub fn create_in(server: &str) -> Self {
        let schema = Self { server: server.to_owned(), name: unique("t_") };
        let mut connection = PgConnection::establish(server).expect("the database answers");
        connection.batch_execute(&format!("CREATE SCHEMA {}", schema.name)).expect("a schema is made");
        schema
    }

    /// The URL of a database in which this schema is the only one.
    pub fn url(&self) -> String {
        self.url_with(&[])
    }

    /// The same, with more settings, such as `holdpoint.clock_offset`.
    pub fn url_with(&self, settings: &[(&str, &str)]) -> String {
        let mut options = format!("-c%20search_path%3D{}", self.name);
        for (name, value) in settings {
            options.push_str(&format!("%20-c%20{name}%3D{value}"));
        }
        let sign = if self.server.contains('?') { '&' } else { '?' };
        format!("{}{sign}options={options}", self.server)
    }

    /// A connection that sees this schema.
    pub fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.url()).expect("the database answers")
    }

    /// Changes rows; how many.
    pub fn execute(&self, sql: &str) -> usize {
        sql_query(sql).execute(&mut self.connect()).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// One number.
    pub fn count(&self, sql: &str) -> i64 {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            n: i64,
        }
        let row: Row = sql_query(format!("SELECT ({sql})::bigint AS n"))
            .get_result(&mut self.connect())
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        row.n
    }

    /// Texts, one for each row.
    pub fn texts(&self, sql: &str) -> Vec<String> {
        #[derive(QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Text)]
            t: String,
        }
        let rows: Vec<Row> = sql_query(format!("SELECT q.t::text AS t FROM ({sql}) AS q(t)"))
            .get_results(&mut self.connect())
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.into_iter().map(|row| row.t).collect()
    }
}

impl Drop for Schema {
    fn drop(&mut self) {
        // Best effort: the service may be gone, or a killed process may hold a lock a moment longer.
        if let Ok(mut connection) = PgConnection::establish(&self.server) {
            let _ = connection.batch_execute(&format!(
                "SET lock_timeout = '3s'; DROP SCHEMA IF EXISTS {} CASCADE",
                self.name
            ));
        }
    }
}

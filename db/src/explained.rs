//! Statements as the store sends them, explained before they are: what each one touches.

use serde_json::Value;

use crate::audit::{self, Notes};
use crate::conn::Conn;
use crate::sql::Statement;
use crate::store::StoreResult;

/// What some statements touched, by their plans.
#[derive(Debug, Default, Clone)]
pub(crate) struct Touched {
    /// Statements.
    pub(crate) statements: usize,
    /// Pages, in memory or not.
    pub(crate) pages: i64,
    /// Rows that a scan looked at, those too that it threw away.
    pub(crate) rows: f64,
    /// Milliseconds of carrying out.
    pub(crate) millis: f64,
    /// The indexes that were used, and `SEQ table` for tables that were walked.
    pub(crate) ways: std::collections::BTreeSet<String>,
    /// The plans, for a reader.
    pub(crate) plans: Vec<String>,
}

/// Work in a transaction that is rolled back, and what its statements touched, its audit's too.
pub(crate) fn touched<T>(
    conn: &mut Conn,
    work: impl FnOnce(&mut Conn) -> StoreResult<T>,
) -> StoreResult<Touched> {
    conn.batch("BEGIN")?;
    conn.explained = Some(Touched::default());
    conn.notes = Some(Notes::default());
    let done = work(conn).and_then(|_| {
        let notes = conn.notes.take().unwrap_or_default();
        audit::write(conn, notes)
    });
    let touched = conn.explained.take().unwrap_or_default();
    conn.batch("ROLLBACK")?;
    conn.notes = None;
    done.map(|()| touched)
}

/// Explains a statement that is about to be sent, and undoes what explaining did.
pub(crate) fn before(conn: &mut Conn, statement: &Statement<'_>) {
    let Some(mut touched) = conn.explained.take() else { return };
    let explain = |conn: &mut Conn, how: &str| -> StoreResult<Vec<String>> {
        conn.batch("SAVEPOINT explained")?;
        let rows = conn.send(statement.after(how));
        conn.batch("ROLLBACK TO explained; RELEASE explained")?;
        rows?.into_iter().map(|mut row| row.text()).collect()
    };
    let plan = explain(conn, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ").expect("it can be explained");
    let lines = explain(conn, "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) ").expect("it can be explained");
    let plan: Value = serde_json::from_str(&plan.concat()).expect("JSON");
    touched.statements += 1;
    touched.millis += plan[0]["Execution Time"].as_f64().unwrap_or_default();
    let pages = |name: &str| plan[0]["Plan"][name].as_i64().unwrap_or_default();
    touched.pages += pages("Shared Hit Blocks") + pages("Shared Read Blocks");
    add_scans(&plan[0]["Plan"], &mut touched);
    touched.plans.push(lines.join("\n"));
    conn.explained = Some(touched);
}

fn add_scans(node: &Value, touched: &mut Touched) {
    let kind = node["Node Type"].as_str().unwrap_or_default();
    if let Some(relation) = node["Relation Name"].as_str().filter(|_| kind.ends_with("Scan")) {
        let index = node["Index Name"].as_str().map(str::to_owned);
        touched.ways.insert(index.unwrap_or_else(|| format!("SEQ {relation}")));
        let number = |name: &str| node[name].as_f64().unwrap_or_default();
        let removed = number("Rows Removed by Filter") + number("Rows Removed by Index Recheck");
        touched.rows += (number("Actual Rows") + removed) * number("Actual Loops");
    }
    for below in node["Plans"].as_array().into_iter().flatten() {
        add_scans(below, touched);
    }
}

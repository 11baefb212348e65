//! Plans of the hot statements on empty tables: a plan that is made before there are
//! statistics must reach its rows by an index, or it is as slow as the table is long.
#![allow(clippy::unwrap_used)]

use uuid::Uuid;

use crate::conn::Conn;
use crate::pool::Pool;
use crate::sql::{Bind, binds};
use crate::{
    Settings, approvals, children, commands, execution_claim, execution_commit, executions, journal,
    limit_rooms, limit_standing, messages, past_calls, postgres, schedules, session, turns,
};

/// The hot pool on a schema of its own; the schema's name.
pub(crate) fn hot_pool() -> (Pool, String) {
    let server = std::env::var("DATABASE_URL").expect("DATABASE_URL names a Postgres");
    let schema = format!("p_{}", Uuid::now_v7().simple());
    let mut settings = Settings { url: server.clone(), ..Settings::default() };
    let (hot, _) = postgres::pools(&settings);
    hot.with(|conn| conn.batch(&format!("CREATE SCHEMA {schema}"))).unwrap();
    let sign = if server.contains('?') { '&' } else { '?' };
    settings.url = format!("{server}{sign}options=-c%20search_path%3D{schema}");
    postgres::migrate(&settings).unwrap();
    (postgres::pools(&settings).0, schema)
}

/// Looks at the tables of this schema alone. `ANALYZE` by itself looks at those of whoever else is in the
/// database: their plans change in the middle, and its locks on all tables meet whoever alters or drops one.
pub(crate) const ANALYZE_OURS: &str = "
    DO $$ DECLARE ours text; BEGIN
      FOR ours IN SELECT quote_ident(tablename) FROM pg_tables WHERE schemaname = current_schema() LOOP
        EXECUTE 'ANALYZE ' || ours;
      END LOOP;
    END $$";

/// A statement's plan, with so many rows of input.
pub(crate) fn explain(conn: &mut Conn, text: &str, rows: &[Vec<Bind<'_>>], values: &[Bind<'_>]) -> String {
    let text = format!("EXPLAIN (COSTS OFF) {text}");
    let lines = if rows.is_empty() { conn.rows(&text, values) } else { conn.each(&text, rows, values) };
    lines.unwrap().into_iter().map(|mut row| row.text().unwrap() + "\n").collect()
}

/// Each table is reached by this index, under conditions on tenant, project and id.
fn assert_by_key(plan: &str, index: &str) {
    let at = plan.find(&format!("using {index} ")).unwrap_or_else(|| panic!("{index} is not used:\n{plan}"));
    let condition = plan[at..].lines().find(|line| line.contains("Index Cond")).unwrap_or_default();
    for column in ["tenant", "project"] {
        assert!(condition.contains(column), "{index} is walked:\n{plan}");
    }
    assert!(condition.contains("id = ") || condition.contains("execution = "), "{index} is walked:\n{plan}");
    assert!(!plan.contains("Seq Scan"), "{plan}");
}

#[test]
fn hot_statements_reach_their_rows_by_their_keys() {
    let (pool, schema) = hot_pool();
    let (id, text) = (Uuid::now_v7(), "x");
    let key = binds![text, text, id].to_vec();
    let keys = vec![key.clone(); 3];
    pool.with(|conn| {
        let claim = explain(conn, execution_claim::SELECT_HINTED, &keys, &binds![id, 10_i64]);
        assert_by_key(&claim, "executions_pkey");
        assert_by_key(&claim, "execution_info_pkey");
        assert!(!claim.contains("executions_ready"), "{claim}");

        let conditions = format!(" AND {} AND {}", executions::HAS_STATUS, executions::HAS_LABEL);
        let lead = executions::Lead::Project;
        let list = lead.page("", &conditions);
        let many = binds![text, 10_i64, text, text, text, 10_i64];
        let listed = explain(conn, &list, &[], &many);
        for index in ["execution_labels_pkey", "executions_pkey", "approvals_pkey"] {
            assert_by_key(&listed, index);
        }
        assert!(listed.contains("using execution_info_newest "), "{listed}");
        let by_conversation = executions::Lead::Conversation.page("", &conditions);
        let many = binds![text, text, text, 10_i64, text, text, text, 10_i64];
        let listed = explain(conn, &by_conversation, &[], &many);
        assert!(listed.contains("using execution_info_conversation "), "{listed}");
        let waiting = executions::Lead::Suspended.page("", &conditions);
        let listed = explain(conn, &waiting, &[], &binds![text, 10_i64, text, text, text, 10_i64]);
        assert!(listed.contains("using executions_waiting "), "{listed}");
        assert_by_key(&listed, "execution_info_pkey");
        let unwell = executions::Lead::Unwell.page("", &conditions);
        let listed = explain(conn, &unwell, &[], &binds![text, 10_i64, text, text, text, 10_i64]);
        assert!(listed.contains("using executions_unwell "), "{listed}");
        assert_by_key(&listed, "execution_info_pkey");
        let by_label = executions::Lead::Label.page("", &conditions);
        let many = binds![text, text, 10_i64, text, text, text, text, 10_i64];
        let listed = explain(conn, &by_label, &[], &many);
        assert!(listed.contains("using execution_labels_newest "), "{listed}");
        for index in ["execution_labels_pkey", "executions_pkey", "execution_info_pkey", "approvals_pkey"] {
            assert_by_key(&listed, index);
        }
        let inbox = format!("{} ORDER BY a.requested_at, a.id LIMIT ?", approvals::APPROVAL);
        assert_by_key(&explain(conn, &inbox, &[], &binds![text, text, 10_i64]), "executions_pkey");

        let history = explain(conn, messages::HISTORY_POSTGRES, &keys, &binds![10_i64, 10_i64]);
        assert_by_key(&history, "execution_info_pkey");
        assert!(history.contains("using messages_pkey ") && !history.contains("Seq Scan"), "{history}");

        let oldest = explain(conn, execution_claim::SELECT_OLDEST, &[], &binds![id, 10_i64]);
        assert!(oldest.contains("using executions_ready "), "{oldest}");
        assert_by_key(&oldest, "execution_info_pkey");

        let lanes = explain(conn, turns::LANES_AFTER, &[], &binds![text, 10_i32]);
        // EXPLAIN does not show what the recursive term asks for: it is the same as the first.
        assert_eq!(lanes.matches("using executions_lanes ").count(), 2, "{lanes}");
        assert!(!lanes.contains("Seq Scan on exec") && !lanes.contains("Filter: (ready_at"), "{lanes}");
        let asked = vec![binds![text, 10_i64].to_vec(); 3];
        let in_turn = explain(conn, turns::OLDEST_OF_LANES_POSTGRES, &asked, &binds![id]);
        assert!(in_turn.contains("using executions_lanes "), "{in_turn}");
        assert_by_key(&in_turn, "execution_info_pkey");
        let held = explain(conn, limit_rooms::HELD, &[], &[]);
        assert!(held.contains("using executions_owned "), "{held}");
        assert_by_key(&held, "execution_info_pkey");
        let waiting = explain(conn, limit_standing::WAITING, &[], &binds![text, text, 10_i64]);
        assert!(waiting.contains("using executions_lanes "), "{waiting}");
        let calls = explain(conn, limit_standing::WAITING_CALLS, &[], &key);
        assert!(calls.contains("using tool_calls_pkey ") && !calls.contains("Seq Scan"), "{calls}");
        let ready = explain(conn, limit_standing::READY_ONE, &[], &key);
        assert_by_key(&ready, "executions_pkey");

        let take = [key.as_slice(), &binds![id, 1_i64]].concat();
        assert_by_key(&explain(conn, execution_claim::TAKE, &[take], &[]), "executions_pkey");
        let released = [key.as_slice(), &binds![id]].concat();
        assert_by_key(&explain(conn, execution_claim::RELEASE, &[released], &[]), "executions_pkey");
        assert_by_key(&explain(conn, execution_claim::JOURNALS, &keys, &[]), "journal_pkey");

        let lock = format!("{}@skip", execution_commit::LOCK);
        assert_by_key(&explain(conn, &lock, &keys, &[]), "executions_pkey");
        let written = binds![id, 1_i64, 1_i64, text, Some(text), Some(id), None::<i64>, 1_i64, 1_i64];
        let head = [key.as_slice(), &written].concat();
        assert_by_key(&explain(conn, execution_commit::WRITE_HEADS, &[head], &[]), "executions_pkey");
        let written = binds![true, text, text, text, 1_i64, 1_i64, 1_i64];
        let info = [key.as_slice(), &written].concat();
        assert_by_key(&explain(conn, execution_commit::WRITE_INFOS, &[info], &[]), "execution_info_pkey");

        let link = explain(conn, children::LINK, &[], &key);
        assert!(link.contains("using children_pkey ") && !link.contains("Seq Scan"), "{link}");
        assert_by_key(&link, "executions_pkey");
        let news = [key.as_slice(), &binds![0_i64, 10_i64]].concat();
        assert_by_key(&explain(conn, children::NEWS, &[], &news), "journal_pkey");
        let looked = explain(conn, past_calls::LOOKED_AT, &[], &binds![text, 1_i64, id, 0_i64, 10_i64]);
        assert!(looked.contains("using execution_info_newest ") && !looked.contains("Sort"), "{looked}");
        assert_by_key(&explain(conn, past_calls::CALL_LINES, &keys, &[]), "journal_pkey");
        let below = explain(conn, children::OF_PARENT, &[], &binds![text, id]);
        assert!(below.contains("using children_parent ") && !below.contains("Seq Scan"), "{below}");
        let parents = explain(conn, children::PARENTS_IN, &[], &binds![text, text, text]);
        assert!(parents.contains("using children_parent ") && !parents.contains("Seq Scan"), "{parents}");
        let named = binds![1_i64, text, text, text, text].to_vec();
        let seen = explain(conn, commands::SEEN, &[named], &[]);
        for index in ["commands_seen_pkey", "executions_pkey", "execution_info_pkey"] {
            assert_by_key(&seen, index);
        }

        let ended = explain(conn, schedules::ENDED, &keys, &[]);
        assert_by_key(&ended, "schedule_runs_pkey");
        assert!(ended.contains("using schedules_pkey ") && !ended.contains("Seq Scan on sch"), "{ended}");

        let held = [key.as_slice(), &binds![1_i64, id]].concat();
        assert_by_key(&explain(conn, session::CHANGED, &[held], &[]), "executions_pkey");
        let wanted = [binds![1_i64].as_slice(), &key, &binds![0_i64, 10_i64]].concat();
        assert_by_key(&explain(conn, journal::EVENTS_POSTGRES, &[wanted], &[]), "journal_pkey");
        Ok(())
    })
    .unwrap();
    pool.with(|conn| conn.batch(&format!("DROP SCHEMA {schema} CASCADE"))).unwrap();
}

#[test]
fn a_statement_is_prepared_once() {
    let (pool, schema) = hot_pool();
    pool.with(|conn| {
        let keys = vec![binds!["x", "x", Uuid::now_v7()].to_vec(); 3];
        for count in 1..4 {
            conn.each(execution_claim::JOURNALS, &keys[..count], &[])?;
        }
        let prepared = "SELECT count(*) FROM pg_prepared_statements
            WHERE statement LIKE '%JOIN journal j%' AND statement NOT LIKE '%pg_prepared%'";
        assert_eq!(conn.row(prepared, &[])?.unwrap().big()?, 1);
        conn.batch(&format!("DROP SCHEMA {schema} CASCADE"))
    })
    .unwrap();
}

//! The database: whether it answers, its schema, its clock, its connections, its folder.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdpoint_db::{Connections, Examination};
use holdpoint_engine::time::{Span, Timestamp};

use super::Finding;
use crate::configuration::Configuration;

/// Clocks that are further apart make times in answers and logs hard to compare. Nothing
/// depends on them: leases and expiries are judged by the database's clock alone.
const CLOCKS_APART: Duration = Duration::from_secs(2);
/// What a role opens beside its pools: for migrations and a look such as this one.
const SPARE: i64 = 2;

/// All of it, and what was seen, where it could be read.
pub async fn examine(configuration: &Configuration) -> anyhow::Result<(Vec<Finding>, Option<Examination>)> {
    let settings = configuration.database.clone();
    let before = now();
    let seen = tokio::task::spawn_blocking(move || holdpoint_db::examine(&settings)).await?;
    let after = now();
    let mut findings = folder(&configuration.database.url);
    match seen {
        Ok(seen) => {
            findings.extend(of(&seen, configuration, before, after));
            Ok((findings, Some(seen)))
        }
        Err(error) => {
            findings.push(Finding::fail("database", error.to_string(), away(configuration)));
            Ok((findings, None))
        }
    }
}

fn away(configuration: &Configuration) -> &'static str {
    if configuration.database.url.starts_with("sqlite:") {
        "`holdpoint dev` or `holdpoint migrate` makes it; look at `database.url`"
    } else {
        "look at `database.url`: host, port, user, password and name"
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn of(
    seen: &Examination,
    configuration: &Configuration,
    before: Timestamp,
    after: Timestamp,
) -> Vec<Finding> {
    let mut findings = vec![
        Finding::ok("database", seen.version.clone()),
        migrations(&seen.pending),
        indexes(seen),
        clock(seen.now, before, after),
    ];
    let settings = &configuration.database;
    let ours = i64::from(settings.hot_connections) + i64::from(settings.read_connections);
    findings.extend(seen.connections.map(|connections| limit(connections, ours)));
    findings
}

fn migrations(pending: &[String]) -> Finding {
    if pending.is_empty() {
        return Finding::ok("migrations", "the schema is up to date");
    }
    Finding::fail("migrations", format!("to run: {}", pending.join(", ")), "run `holdpoint migrate`")
}

fn indexes(seen: &Examination) -> Finding {
    if !seen.missing_indexes.is_empty() {
        let what = format!("not there: {}", seen.missing_indexes.join(", "));
        let advice = "statements become slow without them: create them as db/migrations says";
        return Finding::fail("indexes", what, advice);
    }
    if !seen.invalid_indexes.is_empty() {
        let what = format!("there, but not used: {}", seen.invalid_indexes.join(", "));
        return Finding::fail("indexes", what, "run REINDEX INDEX on each");
    }
    match seen.pending.is_empty() {
        true => Finding::ok("indexes", "all of them are there"),
        false => Finding::warn(
            "indexes",
            "not looked at before the migrations have run",
            "run `holdpoint migrate`",
        ),
    }
}

/// The database's time was read between these two: within them there is no difference.
fn clock(theirs: Timestamp, before: Timestamp, after: Timestamp) -> Finding {
    let apart = theirs.until(before).max(after.until(theirs));
    if apart <= CLOCKS_APART {
        return Finding::ok("clock", "this machine's clock and the database's agree");
    }
    let what = format!("this machine's clock and the database's are {} apart", Span::secs(apart.as_secs()));
    Finding::warn("clock", what, "let both follow a time server")
}

fn limit(connections: Connections, ours: i64) -> Finding {
    let Connections { most, used } = connections;
    let what = format!("{used} of {most} in use; a process takes up to {ours}");
    if ours + SPARE > most {
        let advice = "raise max_connections, or lower `database.hot_connections` and `read_connections`";
        return Finding::fail("connections", what, advice);
    }
    if used + ours + SPARE > most {
        let advice = "one more process finds no room: raise max_connections, or lower the pools";
        return Finding::warn("connections", what, advice);
    }
    Finding::ok("connections", what)
}

/// An embedded store's folder holds everything: it is for its owner only.
#[cfg(unix)]
fn folder(url: &str) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt;
    let Some(folder) = url.strip_prefix("sqlite:").map(Path::new) else { return Vec::new() };
    let shown = folder.display();
    let Ok(about) = std::fs::metadata(folder) else { return Vec::new() };
    let mode = about.permissions().mode() & 0o777;
    let finding = if !about.is_dir() {
        Finding::fail("folder", format!("{shown} is no folder"), "look at `database.url`")
    } else if mode & 0o700 != 0o700 {
        Finding::fail("folder", format!("{shown} has the rights {mode:o}"), format!("chmod 700 {shown}"))
    } else if mode & 0o077 != 0 {
        Finding::warn("folder", format!("{shown} is open to others ({mode:o})"), format!("chmod 700 {shown}"))
    } else {
        Finding::ok("folder", format!("{shown} is its owner's only"))
    };
    vec![finding]
}

#[cfg(not(unix))]
fn folder(_: &str) -> Vec<Finding> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    #[test]
    fn clocks_are_compared_within_the_time_that_asking_took() {
        assert_eq!(clock(at(105), at(100), at(110)).state, State::Ok);
        assert_eq!(clock(at(99), at(100), at(110)).state, State::Ok);
        assert_eq!(clock(at(90), at(100), at(110)).state, State::Warn);
        assert_eq!(clock(at(115), at(100), at(110)).state, State::Warn);
    }

    #[test]
    fn pools_are_held_against_what_the_server_gives() {
        let with = |used: i64| limit(Connections { most: 20, used }, 8).state;
        assert_eq!((with(1), with(15)), (State::Ok, State::Warn));
        assert_eq!(limit(Connections { most: 8, used: 0 }, 8).state, State::Fail);
    }

    #[test]
    fn what_is_missing_fails_by_name() {
        assert_eq!(migrations(&[]).state, State::Ok);
        let finding = migrations(&["2026_one".to_owned()]);
        assert_eq!((finding.state, finding.what.as_str()), (State::Fail, "to run: 2026_one"));
    }
}

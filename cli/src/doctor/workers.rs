//! Workers, by what their sessions say: whether any is there, whether each has its broker and
//! the time, and whether sweeps run.

use holdpoint_db::{Examination, Tick, WorkerSession};
use holdpoint_engine::time::{Span, Timestamp};

use super::Finding;
use crate::configuration::Configuration;

/// A tick that is open for so long is late: schedulers look once a second at least.
const LATE: std::time::Duration = std::time::Duration::from_secs(5);
/// Clocks that are further apart make times in logs hard to compare; nothing depends on them.
const CLOCKS_APART: i64 = 2;

/// All of it; nothing before the migrations have run.
pub fn examine(seen: &Examination, configuration: &Configuration) -> Vec<Finding> {
    if !seen.pending.is_empty() {
        return Vec::new();
    }
    let live: Vec<&WorkerSession> =
        seen.workers.iter().filter(|worker| worker.expires_at > seen.now).collect();
    let mut findings = vec![sessions(&live, seen)];
    if !live.is_empty() {
        findings.extend([brokers(&live), clocks(&live)]);
    }
    findings.push(sweeps(&seen.ticks, seen.now, configuration.scheduler.enabled));
    findings
}

fn sessions(live: &[&WorkerSession], seen: &Examination) -> Finding {
    if live.is_empty() {
        let what = match seen.workers.first() {
            Some(last) => {
                format!(
                    "none is there; the lease of the last one, `{}`, ran out at {}",
                    last.name, last.expires_at
                )
            }
            None => "none is there".to_owned(),
        };
        return Finding::warn("workers", what, "start `holdpoint worker`: nothing is worked on until then");
    }
    let shown: Vec<String> = live.iter().map(|worker| one(worker)).collect();
    let full = |worker: &&&WorkerSession| {
        worker
            .about
            .as_ref()
            .is_some_and(|about| usize::try_from(worker.held).is_ok_and(|held| held >= about.slots))
    };
    let what = shown.join(", ");
    if live.iter().filter(full).count() == live.len() {
        let advice = "what is ready waits: add workers, or raise `worker.slots`";
        return Finding::warn("workers", format!("all of them are full: {what}"), advice);
    }
    Finding::ok("workers", what)
}

fn one(worker: &WorkerSession) -> String {
    let places = worker.about.as_ref().map(|about| format!(" of {}", about.slots)).unwrap_or_default();
    format!("`{}` holds {}{places}", worker.name, worker.held)
}

fn brokers(live: &[&WorkerSession]) -> Finding {
    let without = |worker: &&&WorkerSession| worker.about.as_ref().is_some_and(|about| !about.broker_up);
    let names = names(live.iter().filter(without));
    if names.is_empty() {
        return Finding::ok("workers' broker", "each reaches its broker");
    }
    let advice = "look at their `queue.url` and at the network: without a broker they find work by looking";
    Finding::warn("workers' broker", format!("not reached by {names}"), advice)
}

fn clocks(live: &[&WorkerSession]) -> Finding {
    let apart = |worker: &&&WorkerSession| {
        worker.about.as_ref().is_some_and(|about| about.clock_ahead_s.abs() > CLOCKS_APART)
    };
    let apart: Vec<String> = live
        .iter()
        .filter(apart)
        .filter_map(|worker| Some((worker, worker.about.as_ref()?.clock_ahead_s)))
        .map(|(worker, ahead)| {
            let word = if ahead > 0 { "ahead" } else { "behind" };
            format!("`{}` is {} {word}", worker.name, Span::secs(ahead.unsigned_abs()))
        })
        .collect();
    if apart.is_empty() {
        return Finding::ok("workers' clocks", "they agree with the database's");
    }
    Finding::warn("workers' clocks", apart.join(", "), "let all of them follow a time server")
}

fn names<'a>(workers: impl Iterator<Item = &'a &'a WorkerSession>) -> String {
    workers.map(|worker| format!("`{}`", worker.name)).collect::<Vec<_>>().join(", ")
}

fn sweeps(ticks: &[Tick], now: Timestamp, enabled: bool) -> Finding {
    if ticks.is_empty() {
        let advice = "start `holdpoint scheduler`: lost leases, timers and expired approvals wait for it";
        return Finding::warn("sweeps", "none has ever been due: no scheduler was ever there", advice);
    }
    let late: Vec<&Tick> = ticks.iter().filter(|tick| tick.due_at.plus(LATE) < now).collect();
    if late.is_empty() {
        return Finding::ok("sweeps", "each is run in time");
    }
    let shown: Vec<String> =
        late.iter().map(|tick| format!("`{}` since {}", tick.kind.as_str(), tick.due_at)).collect();
    let what = format!("overdue: {}", shown.join(", "));
    let sent = late.iter().filter_map(|tick| tick.emitted_at).max();
    let advice = match (enabled, sent) {
        (false, _) => "`scheduler.enabled` is false here: sweeps run only when somebody asks for them",
        (true, Some(_)) => {
            "they were sent out, and no worker carries them out: start one, or look at the broker"
        }
        (true, None) => "start `holdpoint scheduler`, or look why it ended",
    };
    Finding::warn("sweeps", what, advice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;
    use holdpoint_db::AboutWorker;
    use holdpoint_engine::entropy::Entropy;
    use holdpoint_engine::ids::SessionId;
    use holdpoint_engine::wire::SweepKind;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_micros(seconds * 1_000_000)
    }

    fn worker(held: i64, about: AboutWorker) -> WorkerSession {
        let id = SessionId::new(at(1), &mut Entropy::from_seed(1));
        WorkerSession {
            id,
            name: "ada".to_owned(),
            started_at: at(1),
            expires_at: at(9),
            held,
            about: Some(about),
        }
    }

    #[test]
    fn workers_tell_of_their_broker_and_their_clock() {
        let about = AboutWorker { slots: 2, broker_up: true, ..AboutWorker::default() };
        let well = worker(1, about.clone());
        assert_eq!([brokers(&[&well]).state, clocks(&[&well]).state], [State::Ok; 2]);
        let ill = worker(2, AboutWorker { broker_up: false, clock_ahead_s: -75, ..about });
        assert_eq!(brokers(&[&well, &ill]).state, State::Warn);
        let finding = clocks(&[&well, &ill]);
        assert_eq!((finding.state, finding.what.as_str()), (State::Warn, "`ada` is 75s behind"));
    }

    #[test]
    fn a_sweep_that_is_late_says_whose_fault_it_is() {
        let tick = |due: i64, emitted: Option<i64>| Tick {
            kind: SweepKind::Stuck,
            due_at: at(due),
            emitted_at: emitted.map(at),
        };
        assert_eq!(sweeps(&[], at(100), true).state, State::Warn);
        assert_eq!(sweeps(&[tick(98, None)], at(100), true).state, State::Ok);
        let told = |tick: Tick, enabled| sweeps(&[tick], at(100), enabled).advice.expect("advice");
        assert!(told(tick(50, None), true).contains("scheduler"));
        assert!(told(tick(50, Some(99)), true).contains("no worker"));
        assert!(told(tick(50, None), false).contains("scheduler.enabled"));
    }
}

//! Nobody holds it, and it may be claimed: now, or from a moment on.

use holdpoint_db::Repeat;
use holdpoint_engine::status::Status;
use holdpoint_engine::time::Timestamp;

use super::evidence::Evidence;
use super::scene::{Said, Scene};
use super::sentences::Sentence;
use super::words::length;

/// Executions that lost so many leases go out one at a time.
const SUSPECT: i32 = 2;
/// So long a ready execution may lie there before anything is made of it: workers look once a
/// second.
const SOON: std::time::Duration = std::time::Duration::from_secs(1);

impl Scene<'_> {
    /// It is ready: why has nobody taken it?
    pub fn ready(&mut self, since: Timestamp) -> Said {
        let is = self.is_ready(since);
        let (live, full) = self.workers();
        let broker = self.broker();
        if live == 0 {
            return Said::new(Sentence::NoWorker, format!("{is}, and {}", self.nobody()));
        }
        if let Some(limited) = self.limited(&is) {
            return limited;
        }
        if self.standing.lost >= SUSPECT {
            return self.suspect(&is);
        }
        if full {
            let text = format!("{is}: every place of the {} is taken", workers(live));
            return Said::new(Sentence::WorkersBusy, text);
        }
        if let Some(away) = broker {
            return Said::new(Sentence::BrokerAway, format!("{is}; {away}"));
        }
        // Hints come within moments, and a look once a second.
        let waits =
            if since.plus(SOON) < self.now() { "no worker has taken it yet" } else { "a worker takes it" };
        Said::new(Sentence::Ready, format!("{is}: {waits}"))
    }

    fn is_ready(&self, since: Timestamp) -> String {
        let age = length(since, self.now());
        let word = if self.standing.row.status == Status::Queued { "queued and ready" } else { "ready" };
        let lost = match self.standing.lost {
            0 => String::new(),
            1 => ", after a lost lease".to_owned(),
            lost => format!(", after {lost} lost leases since its last commit"),
        };
        format!("It is {word} since {} ({age}){lost}", super::words::clock(since))
    }

    /// How many workers there are, and whether all of them are full, as far as they say.
    fn workers(&mut self) -> (usize, bool) {
        let live: Vec<_> = self.live().collect();
        let held = live.iter().map(|worker| worker.held).sum();
        let slots: Option<usize> = live.iter().map(|worker| Some(worker.about.as_ref()?.slots)).sum();
        let (count, full) =
            (live.len(), slots.is_some_and(|slots| i64::try_from(slots).is_ok_and(|all| held >= all)));
        let gone = self.standing.around.workers.iter().find(|_| count == 0);
        let (last, last_until) =
            (gone.map(|worker| worker.name.clone()), gone.map(|worker| worker.expires_at));
        self.push(Evidence::Workers {
            live: count,
            held,
            slots: slots.filter(|_| count > 0),
            last,
            last_until,
        });
        (count, full)
    }

    fn nobody(&self) -> String {
        match self.standing.around.workers.first() {
            Some(last) => format!(
                "no worker is there: the lease of the last one, `{}`, ran out at {}",
                last.name,
                self.when(last.expires_at)
            ),
            None => "no worker is there, nor was one within the last hour".to_owned(),
        }
    }

    fn broker(&mut self) -> Option<String> {
        let (reached_by_api, workers_without) = (self.beside.broker_up, self.without_broker());
        if reached_by_api && workers_without == 0 {
            return None;
        }
        self.push(Evidence::Broker { reached_by_api, workers_without });
        let whom = match (reached_by_api, workers_without) {
            (false, 0) => "this API does not reach the broker".to_owned(),
            (false, _) => "neither this API nor the workers reach the broker".to_owned(),
            (true, without) => {
                format!("{} of {} do not reach the broker", without, workers(self.live().count()))
            }
        };
        let looks =
            self.live().filter_map(|worker| Some(worker.about.as_ref()?.poll_ms)).max().unwrap_or(1_000);
        Some(format!("{whom}, so that no hint comes: workers look by themselves every {looks} ms"))
    }

    fn suspect(&mut self, is: &str) -> Said {
        let Some(suspects) = self.standing.around.suspects else {
            return Said::new(Sentence::Suspect, format!("{is}: such go out one at a time"));
        };
        self.push(Evidence::Suspects { one_is_out: suspects.one_is_out, before: suspects.before });
        let turn = match (suspects.one_is_out, suspects.before) {
            (true, 0) => "a worker has another one now, and this one is next".to_owned(),
            (true, before) => format!("a worker has another one now, and {before} are before it"),
            (false, 0) => "it is next".to_owned(),
            (false, before) => format!("{before} are before it"),
        };
        Said::new(Sentence::Suspect, format!("{is}: such go out one at a time, and {turn}"))
    }

    /// It may be claimed from a moment on.
    pub fn later(&mut self, at: Timestamp) -> Said {
        let around = &self.standing.around;
        let held = around.holds.iter().find(|(_, until)| *until == at).cloned();
        if let Some((secret, until)) = held {
            let text = format!(
                "It is held until {}: the balance of the secret `{secret}`, which its workflow uses, was used up",
                self.when(until)
            );
            self.push(Evidence::SecretHeld { secret, until });
            return Said::new(Sentence::BalanceHeld, text);
        }
        if let Some(repeat) = around.repeats.clone().filter(|_| self.standing.row.status == Status::Queued) {
            let text = format!(
                "It is attempt {} of {}, which failed: it begins at {}",
                repeat.attempt,
                repeat.retry_of,
                self.when(at)
            );
            self.repeat(repeat);
            return Said::new(Sentence::RepeatDue, text);
        }
        Said::new(Sentence::Delayed, format!("It is delayed: it begins at {}", self.when(at)))
    }

    pub fn repeat(&mut self, repeat: Repeat) {
        let Repeat { retry_of, attempt, run, due_at, asked_by } = repeat;
        self.push(Evidence::Repeat { retry_of, attempt, execution_id: run, due_at, asked_by });
    }

    /// Its workflow has one run at a time.
    pub fn coalesced(&mut self) -> Said {
        let Some(execution_id) = self.standing.around.behind else {
            let text = "It waits for the end of the run that goes on: its workflow has one at a time";
            return Said::new(Sentence::Coalesced, text);
        };
        self.push(Evidence::Behind { execution_id });
        let text = format!("It waits for the end of {execution_id}: its workflow has one run at a time");
        Said::new(Sentence::Coalesced, text)
    }
}

fn workers(count: usize) -> String {
    if count == 1 { "1 worker".to_owned() } else { format!("{count} workers") }
}
